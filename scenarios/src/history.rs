//! What a run recorded: everything that an invariant may look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use applier::Purpose;

use crate::form::{Blob, KeyNumber, Kind};
use crate::model::{Retired, State, Verdict, Writer};
use crate::sealing::Use;
use crate::subject::Delivered;

/// How a delivery came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// For the first time.
    First,
    /// Once more, on top of the database as it was.
    Kept,
    /// Once more, after the database was rolled back.
    RolledBack,
}

impl Delivery {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Delivery::First => "first",
            Delivery::Kept => "redelivery-kept",
            Delivery::RolledBack => "redelivery-rolled-back",
        }
    }
}

/// What a delivery left behind beside its answer. Looked at where it should have left nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideEffects {
    /// Mutating disk calls that were issued.
    pub mutations: u64,
    /// Whether anything on the disk, durable or pending, differs.
    pub disk: bool,
    /// Whether keys or anything else in memory differs.
    pub memory: bool,
}

impl SideEffects {
    /// Whether there are none.
    pub const fn none(self) -> bool {
        self.mutations == 0 && !self.disk && !self.memory
    }

    /// A word for the places that changed, or were about to.
    pub const fn place(self) -> &'static str {
        match (self.memory, self.disk) {
            (true, true) => "memory-and-disk",
            (true, false) => "memory",
            (false, _) => "disk",
        }
    }
}

/// The sidecar file as an observer finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SidecarSeen {
    /// No file.
    Missing,
    /// A file that the subject itself cannot read.
    Unreadable(String),
    /// Its content.
    Content {
        /// Active storage and raft id; 0 = none.
        active: (u32, u32),
        /// Keys by id; the blob is `None` where the wrapped bytes are none of this world's.
        keys: BTreeMap<u32, (Purpose, Option<Blob>)>,
        /// Creation times by id.
        created: BTreeMap<u32, String>,
        /// Epochs by id.
        epochs: BTreeMap<u32, u16>,
        /// Indices of the entries behind which values and log entries are sealed.
        cutovers: (Option<u64>, Option<u64>),
        /// Retired keys by id: the purpose, and the indices of the entries that installed and retired it.
        retired: BTreeMap<u32, (Purpose, u64, u64)>,
        /// The KEK in force: its generation, and its number where it is one of this world's.
        kek: (u32, Option<u8>),
    },
}

/// A value that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Table key.
    pub key: u64,
    /// The key id on its envelope, if it has one.
    pub dek: Option<u32>,
    /// In the subject's words.
    pub why: String,
}

impl SidecarSeen {
    /// Whether it is the sidecar of a state.
    pub fn is_of(&self, state: &State) -> bool {
        self.differs_from(state).is_none()
    }

    /// Where it differs from the sidecar of a state, or `None`.
    pub fn differs_from(&self, state: &State) -> Option<&'static str> {
        match self {
            SidecarSeen::Missing => (!state.keys.is_empty()).then_some("missing"),
            SidecarSeen::Unreadable(_) => Some("unreadable"),
            SidecarSeen::Content { active, keys, cutovers, retired, kek, .. } => {
                let expected = state.keys.iter().map(|(id, key)| (*id, (key.purpose, Some(key.blob))));
                let buried = |(id, key): (&u32, &Retired)| (*id, (key.purpose, key.by, key.at));
                if *active != state.active.unwrap_or((0, 0)) {
                    Some("active")
                } else if !keys.iter().map(|(id, key)| (*id, *key)).eq(expected) {
                    Some("keys")
                } else if *cutovers != (state.storage_cutover, state.raft_cutover) {
                    Some("cutovers")
                } else if !retired.iter().map(|(id, key)| (*id, *key)).eq(state.retired.iter().map(buried)) {
                    Some("retired")
                } else {
                    (*kek != (state.kek.0, Some(state.kek.1))).then_some("kek")
                }
            }
        }
    }
}

/// When an observation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right after a start.
    Started,
    /// Every entry that was ever acknowledged has been delivered again; in a cluster, every one up to the index that
    /// the node has applied.
    CaughtUp,
    /// Right after a snapshot of another node was taken in.
    Installed,
}

/// One look at a node, and what the model expects to be seen.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When.
    pub moment: Moment,
    /// The sidecar.
    pub sidecar: SidecarSeen,
    /// Keys in memory by id; `None` for bytes that are none of this world's.
    pub memory: BTreeMap<u32, Option<KeyNumber>>,
    /// Rows of the registry.
    pub rows: BTreeMap<(u32, u16), Writer>,
    /// The host's data, as it is read.
    pub data: BTreeMap<u64, u64>,
    /// Table keys of values that are stored sealed.
    pub sealed: BTreeSet<u64>,
    /// Values that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// The index that the subject's database carries, if it carries one.
    pub applied: Option<u64>,
    /// The state after everything that was acknowledged.
    pub acknowledged: Arc<State>,
    /// States that the sidecar may be in; the first is the acknowledged one.
    pub sidecar_expected: Vec<Arc<State>>,
    /// States that the database may be in; the first is the lowest.
    pub database_expected: Vec<Arc<State>>,
    /// Whether the database was rolled back since the last observation.
    pub rolled_back: bool,
}

/// One recorded event.
#[derive(Clone, Debug)]
pub enum Event {
    /// A start was refused.
    StartRefused {
        /// In the subject's words, without what varies.
        why: String,
        /// Whether a fault was injected into it.
        faulted: bool,
    },
    /// An entry was delivered and answered.
    Delivered {
        /// Its index.
        index: u64,
        /// What it is.
        kind: Kind,
        /// First time or again.
        delivery: Delivery,
        /// The answer.
        answer: Delivered,
        /// The model's verdict.
        expected: Verdict,
        /// Whether a fault was injected into it.
        faulted: bool,
        /// What it left behind, where that was looked at.
        effects: Option<SideEffects>,
        /// The answer of its first delivery, if it was refused then.
        before: Option<Delivered>,
    },
    /// An entry halted the node: what became of the keys in memory.
    Halted {
        /// Its index.
        index: u64,
        /// What it is.
        kind: Kind,
        /// Whether the fault struck before the rename that shows the new sidecar.
        before_rename: bool,
        /// Whether readers see another sidecar than before.
        sidecar_changed: bool,
        /// Whether memory has other keys than before.
        keys_changed: bool,
        /// Whether memory has every key that the entry installs.
        holds_its_keys: bool,
    },
    /// A node was looked at.
    Observed(Box<Observation>),
    /// A nonce was used, or an envelope was found that shows it. Taken down once for each use.
    Sealed(Use),
    /// The node has sealed something itself, and it is not what the harness makes of the same nonce.
    SealedWrongly {
        /// What came of it instead.
        why: String,
    },
    /// A claim has not come to what it should.
    ClaimFailed {
        /// Where.
        step: &'static str,
        /// What came of it instead.
        why: String,
    },
    /// The sidecar was lost, and written anew from another node's: when that one has created its keys stands in it now.
    SidecarWrittenAnew,
    /// Key bytes were written to the disk.
    KeyOnDisk {
        /// The path.
        path: String,
    },
    /// The run ended.
    Ended {
        /// Newest acknowledged index.
        reached: u64,
        /// Length of the log.
        length: u64,
        /// Whether the node got stuck on an entry or a start.
        stuck: bool,
    },
}

/// Everything that was recorded, in order.
pub type History = Vec<Event>;
