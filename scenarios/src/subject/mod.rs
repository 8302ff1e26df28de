//! Subjects: what is put to the test. One [`Life`] is one node between two crashes.

pub(crate) mod as_head;
pub(crate) mod as_merged;
pub(crate) mod hardened;
pub(crate) mod host;
pub(crate) mod member;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::Arc;

use applier::registry::{Local, RegistrySnapshot};
use applier::sidecar::Sidecar;
use applier::{Purpose, StartError};

use crate::model::{Rules, Verdict};
use crate::sealing;
use crate::seam::{Outage, SimFiles, SimKek};
use crate::teeth::barriers::{self, Change};
use crate::teeth::{ClusterMistake, Past, WRONG, Wrong};
use crate::world::Scenario;

pub use crate::sealing::Keys;
pub use as_merged::Mistake;
pub use member::{Admitted, Handed, Member, MemberSnapshot};

/// Where a subject's sidecar lies.
pub const SIDECAR: &str = "/data/keys.json";
/// Where a subject's database lies.
pub const DATABASE: &str = "/db/registry.redb";
/// Low 16 bits 0x0011, as in most rows of a world.
pub const OWN_NODE: u64 = 0x11;

/// An applier under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Our applier.
    Hardened,
    /// The reference's apply path as it was merged, leniency and defects included.
    AsMerged,
    /// The reference as it is later, with epochs, envelopes and cutovers, and the defects of these.
    AsHead,
    /// One of the two made wrong, by a mistake of its own or by ports that lie to it.
    Wrong(&'static Wrong),
    /// Our applier with one call left out, or two swapped.
    Changed(Change),
}

impl Subject {
    /// Every subject that is what it says.
    pub const ALL: [Subject; 3] = [Subject::Hardened, Subject::AsMerged, Subject::AsHead];

    /// Its name on the command line and in seed files.
    pub const fn name(self) -> &'static str {
        match self {
            Subject::Hardened => "hardened",
            Subject::AsMerged => "as-merged",
            Subject::AsHead => "as-head",
            Subject::Wrong(wrong) => wrong.name,
            Subject::Changed(_) => "hardened-changed",
        }
    }

    /// The rules whose verdicts it is held to.
    pub const fn rules(self) -> Rules {
        match self {
            Subject::Hardened | Subject::Changed(_) => Rules::Hardened,
            Subject::AsMerged => Rules::AsMerged,
            Subject::AsHead => Rules::AsHead,
            Subject::Wrong(wrong) => wrong.base().rules(),
        }
    }

    /// Whether its database carries the index of the newest entry in it. If not, the host has to remember.
    pub const fn keeps_index(self) -> bool {
        match self {
            Subject::Hardened | Subject::Changed(_) => true,
            Subject::AsMerged | Subject::AsHead => false,
            Subject::Wrong(wrong) => wrong.base().keeps_index(),
        }
    }

    /// The scenarios that run it as what it is.
    pub const fn scenarios(self) -> &'static [Scenario] {
        match self {
            Subject::Hardened | Subject::AsMerged | Subject::AsHead => &Scenario::ALL,
            Subject::Changed(_) => &Scenario::OF_ONE_NODE,
            Subject::Wrong(wrong) => wrong.scenarios(),
        }
    }

    /// Whether requests are judged before they are proposed.
    pub const fn admits(self) -> bool {
        match self {
            Subject::Hardened | Subject::Changed(_) => true,
            Subject::AsMerged | Subject::AsHead => false,
            Subject::Wrong(wrong) => wrong.base().admits(),
        }
    }

    /// What the driver of a cluster's member does wrong on purpose.
    pub const fn cluster_mistake(self) -> Option<ClusterMistake> {
        match self {
            Subject::Wrong(wrong) => wrong.cluster_mistake(),
            _ => None,
        }
    }

    /// Starts a life of a cluster's member. Whatever else a wrong subject is wrong in, here it is what it is based on:
    /// the mistakes that a cluster notices are made by whoever drives the member.
    ///
    /// # Errors
    /// As [`Subject::start`].
    pub fn start_member(self, world: &Surroundings) -> Result<Box<dyn Member>, StartError> {
        match self {
            Subject::Hardened | Subject::Changed(_) => hardened::start_member(world),
            Subject::AsMerged => as_merged::start_member(world),
            Subject::AsHead => as_head::start_member(world),
            Subject::Wrong(wrong) => wrong.start_member(world),
        }
    }

    /// Starts a life on a disk.
    ///
    /// # Errors
    /// The subject's refusal, or the I/O error that kept it from starting.
    pub fn start(self, world: &Surroundings) -> Result<Box<dyn Life>, StartError> {
        match self {
            Subject::Hardened => hardened::start(world),
            Subject::AsMerged => as_merged::start(world, None),
            Subject::AsHead => as_head::start(world),
            Subject::Wrong(wrong) => wrong.start(world),
            Subject::Changed(change) => barriers::start(world, Some(change), Arc::default()),
        }
    }
}

/// An unknown subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no subject {0:?}; there are: hardened, as-merged, as-head, and those that `cargo sim teeth` runs"
)]
pub struct UnknownSubject(pub String);

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(name: &str) -> Result<Subject, UnknownSubject> {
        // A disk that lies is an option of the world, not a subject.
        let wrong = WRONG.iter().filter(|wrong| !wrong.is_disk()).map(Subject::Wrong);
        let found = Subject::ALL.into_iter().chain(wrong).find(|subject| subject.name() == name);
        found.ok_or_else(|| UnknownSubject(name.to_owned()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a life is started in.
#[derive(Clone)]
pub struct Surroundings {
    /// The node's full id.
    pub node: u64,
    /// The node's files, of this life.
    pub files: SimFiles,
    /// The KEK.
    pub kek: Arc<SimKek>,
    /// The KEK that is to take its place, where there is one: then the node has a ring of both.
    pub next_kek: Option<Arc<SimKek>>,
    /// Whether reads of its registry fail.
    pub reads: Arc<Outage>,
    /// Simulated wall-clock time in seconds since 1970.
    pub unix_seconds: u64,
    /// Whether the node has a keyring.
    pub keyring: bool,
    /// What lying ports remember of the node's earlier lives.
    pub past: Arc<Past>,
}

/// What a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The subject decided.
    Decided(Verdict),
    /// The subject knows by the index alone that it has the entry.
    Skipped,
    /// An error that the subject says left nothing behind.
    Failed(String),
    /// An error whose outcome the subject says is unknown.
    Halted(String),
}

impl Delivered {
    /// Whether the host may go on after it.
    pub const fn advances(&self) -> bool {
        match self {
            Delivered::Decided(verdict) => verdict.advances(),
            Delivered::Skipped => true,
            Delivered::Failed(_) | Delivered::Halted(_) => false,
        }
    }
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Delivered::Decided(Verdict::Applied) => f.write_str("applied"),
            Delivered::Decided(Verdict::NoOp) => f.write_str("no-op"),
            Delivered::Decided(Verdict::Rejected(reason)) => write!(f, "rejected, {}", reason.name()),
            Delivered::Skipped => f.write_str("skipped"),
            Delivered::Failed(error) => write!(f, "failed, {error}"),
            Delivered::Halted(error) => write!(f, "halted, {error}"),
        }
    }
}

/// A key as the sidecar records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarKey {
    /// What it encrypts.
    pub purpose: Purpose,
    /// Wrapped bytes.
    pub wrapped: Vec<u8>,
    /// Creation time.
    pub created: String,
    /// Epoch.
    pub local_epoch: u16,
}

/// The sidecar's content as any subject has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarView {
    /// Active storage and raft id; 0 = none.
    pub active: (u32, u32),
    /// Keys by id.
    pub keys: BTreeMap<u32, SidecarKey>,
    /// Index of the entry behind which values are sealed.
    pub storage_cutover: Option<u64>,
    /// Index of the entry behind which log entries are sealed.
    pub raft_cutover: Option<u64>,
    /// Retired keys by id: the purpose, and the indices of the entries that installed and retired it.
    pub retired: BTreeMap<u32, (Purpose, u64, u64)>,
    /// Generation and check value of the KEK in force, from the first rewrap on.
    pub kek: Option<(u32, [u8; 8])>,
}

/// What a host's snapshot of a node's state machine holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSnapshot {
    /// Rows and index.
    pub registry: RegistrySnapshot,
    /// The host's data: what is stored under each table key (see [`sealing`]).
    pub data: BTreeMap<u64, Vec<u8>>,
}

/// What came of a node's wish to seal in a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// This goes into the log first.
    Propose(Vec<u8>),
    /// It may.
    Held,
    /// It may not, and has touched nothing.
    No(String),
    /// A write has failed, and it goes on with nothing.
    Halted(String),
}

/// What a subject holds in memory besides keys and its behaviour depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The sidecar's content.
    pub sidecar: Option<Sidecar>,
    /// The applied index.
    pub applied: u64,
    /// Whether it refuses to go on.
    pub poisoned: bool,
}

/// One node between its start and its end.
pub trait Life {
    /// Delivers an encryption entry.
    fn deliver(&mut self, index: u64, payload: &[u8]) -> Delivered;

    /// Delivers an entry of the host's own: a table key and what is to be stored under it, or nothing.
    fn advance(&mut self, index: u64, data: Option<(u64, &[u8])>) -> Delivered;

    /// Rolls the database back to a host snapshot.
    fn restore(&mut self, snapshot: &HostSnapshot) -> Result<(), String>;

    /// Index from which the subject wants delivery to go on, if it knows one.
    fn resume_after(&self) -> Option<u64>;

    /// Index of the newest entry that is in its database, where that says so.
    fn index(&self) -> Option<u64> {
        self.resume_after()
    }

    /// Everything that was known to be committed at the start was delivered again. `key_entry_in` says of two indices
    /// whether a key entry stands behind the first and up to the second; `None` where the log does not go back that far.
    ///
    /// # Errors
    /// Why it does not go on, in a word.
    fn after_replay(&mut self, key_entry_in: &dyn Fn(u64, u64) -> Option<bool>) -> Result<(), String> {
        let _ = key_entry_in;
        Ok(())
    }

    /// Rows and data, read from the database.
    fn database(&self) -> Result<HostSnapshot, String>;

    /// The sidecar file as the subject would read it, from its bytes on disk.
    fn sidecar(&self, bytes: &[u8]) -> Result<SidecarView, String>;

    /// Keys in memory, by id.
    fn keys(&self) -> Keys;

    /// Whatever else is in memory and its behaviour depends on.
    fn held(&self) -> Held {
        Held::default()
    }

    /// What its database holds of the node's own.
    fn local(&self) -> Local {
        Local::default()
    }

    /// Whether the previous KEK of its ring may be withdrawn.
    fn can_withdraw_kek(&self) -> bool {
        false
    }

    /// Reads what is stored under a table key.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, key: u64, stored: &[u8]) -> Result<u64, String> {
        sealing::open(&self.keys(), key, stored).map(|(value, _)| value)
    }

    /// As the leader of `term`, asks to seal with the active key of a purpose.
    fn claim(&mut self, _term: u64, _purpose: Purpose) -> Claimed {
        Claimed::No("it seals nothing".to_owned())
    }

    /// As the leader of `term`, makes what is to be stored under a table key; `None` where it may not.
    fn seal_value(&mut self, _term: u64, _key: u64, _value: u64) -> Option<Vec<u8>> {
        None
    }

    /// Whether values, or log entries, are sealed by now.
    fn is_sealing(&self, _purpose: Purpose) -> bool {
        false
    }

    /// As the leader of `term`, puts a log entry into its envelope; `None` where it may not.
    fn seal_entry(&mut self, _term: u64, _entry: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Takes the envelope off the log entry at `index`, where there has to be one.
    ///
    /// # Errors
    /// What it says of an entry that does not open.
    fn open_entry(&self, _index: u64, entry: &[u8]) -> Result<Vec<u8>, Delivered> {
        Ok(entry.to_vec())
    }
}

/// Delivers an entry as a host does, from its bytes in the log. A leader's no-op has none.
pub fn hand_over(life: &mut dyn Life, index: u64, entry: Option<&[u8]>) -> Delivered {
    let Some(entry) = entry else { return life.advance(index, None) };
    let opened = match life.open_entry(index, entry) {
        Ok(opened) => opened,
        Err(refused) => return refused,
    };
    match sealing::write_of(&opened) {
        Some(write) => life.advance(index, Some(write)),
        None => life.deliver(index, &opened),
    }
}

/// Lets go of what is left of a process that died, whose disk is already out of their reach. A dying process runs no
/// destructors. Dropped while unwinding, redb does not try to close its file, which would be the better part of
/// the work of a short life, done for a disk that takes nothing.
pub fn bury<T>(remains: T) {
    let unwound = panic::catch_unwind(AssertUnwindSafe(move || {
        let _remains = remains;
        panic::resume_unwind(Box::new(()));
    }));
    debug_assert!(unwound.is_err(), "it was resumed two lines above");
}
