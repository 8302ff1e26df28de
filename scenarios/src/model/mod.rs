//! The model: what a log means, as a small pure state machine. It shares no code with any subject.
//!
//! [`State`] is what every replica must hold after a prefix of the log. [`State::after`] is the effect of an entry that
//! was accepted. Whether it is accepted is a matter of [`Rules`]: our own, or the more lenient ones of the reference
//! as merged. A subject is held to its own rules, and to its promises under them.

mod as_head;
mod as_merged;
mod hardened;

use std::collections::BTreeMap;

use applier::Purpose;

use crate::form::{Blob, Form, KeyNumber, Row, Seal};

/// What a subject, or the model, says of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It had an effect.
    Applied,
    /// It had none, and the log goes on.
    NoOp,
    /// It was refused.
    Rejected(Reason),
}

impl Verdict {
    /// Whether the log goes on after it.
    pub const fn advances(self) -> bool {
        matches!(self, Verdict::Applied | Verdict::NoOp)
    }
}

/// Why an entry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It does not decode: wrong length or an illegal value.
    Malformed,
    /// It is of another wire version.
    Version,
    /// Its rotation kind is unknown.
    Subtag,
    /// Its opcode is reserved.
    Opcode,
    /// Key id 0.
    ReservedKeyId,
    /// Node id 0.
    ReservedNodeId,
    /// A wrapped key of an impossible length.
    WrappedLength,
    /// No keyring on this node.
    KekNotConfigured,
    /// Storage and raft with one id.
    EqualIds,
    /// A row for a key that the entry does not install.
    ForeignRow,
    /// An epoch below the registered one.
    EpochRollback,
    /// Another node on the same 16 bits.
    NodeCollision,
    /// A blob that does not open.
    BlobDoesNotOpen,
    /// The same bytes under two ids.
    EqualKeyBytes,
    /// Bootstrapped before.
    AlreadyBootstrapped,
    /// Not bootstrapped yet.
    NotBootstrapped,
    /// The id was used before.
    KeyIdInUse,
    /// A registration for a key that is not known.
    UnknownKey,
    /// The keystore holds other bytes under the id.
    KeyConflict,
    /// The key has another purpose, or the entry needs another one.
    WrongPurpose,
    /// A key where none belongs.
    NeedlessKey,
    /// An epoch where none belongs.
    NeedlessEpoch,
    /// A key that is in use is not retired.
    KeyActive,
    /// The key is retired.
    KeyRetired,
    /// A rewrap whose generation does not come next.
    KekGeneration,
    /// A rewrap under a KEK that the node does not have.
    KekNotInRing,
    /// A rewrap of other keys than there are.
    RewrapKeys,
    /// A rewrap in which a key has other bytes than before.
    OtherKeyBytes,
    /// Clear text behind the raft cutover.
    ClearEntry,
    /// A log entry whose envelope does not open.
    EntryDoesNotOpen,
}

impl Reason {
    /// A word for it, stable, since fingerprints and probes carry it.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Version => "version",
            Reason::Subtag => "subtag",
            Reason::Opcode => "opcode",
            Reason::ReservedKeyId => "reserved-key-id",
            Reason::ReservedNodeId => "reserved-node-id",
            Reason::WrappedLength => "wrapped-length",
            Reason::KekNotConfigured => "kek-not-configured",
            Reason::EqualIds => "equal-ids",
            Reason::ForeignRow => "foreign-row",
            Reason::EpochRollback => "epoch-rollback",
            Reason::NodeCollision => "node-collision",
            Reason::BlobDoesNotOpen => "blob-does-not-open",
            Reason::EqualKeyBytes => "equal-key-bytes",
            Reason::AlreadyBootstrapped => "already-bootstrapped",
            Reason::NotBootstrapped => "not-bootstrapped",
            Reason::KeyIdInUse => "key-id-in-use",
            Reason::UnknownKey => "unknown-key",
            Reason::KeyConflict => "key-conflict",
            Reason::WrongPurpose => "wrong-purpose",
            Reason::NeedlessKey => "needless-key",
            Reason::NeedlessEpoch => "needless-epoch",
            Reason::KeyActive => "key-active",
            Reason::KeyRetired => "key-retired",
            Reason::KekGeneration => "kek-generation",
            Reason::KekNotInRing => "kek-not-in-ring",
            Reason::RewrapKeys => "rewrap-keys",
            Reason::OtherKeyBytes => "other-key-bytes",
            Reason::ClearEntry => "clear-entry",
            Reason::EntryDoesNotOpen => "entry-does-not-open",
        }
    }
}

/// Which entries are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Ours.
    Hardened,
    /// The reference's, as merged.
    AsMerged,
    /// The reference's after it has got cutovers.
    AsHead,
}

impl Rules {
    /// Whether cutovers are accepted.
    pub const fn cut_over(self) -> bool {
        matches!(self, Rules::Hardened | Rules::AsHead)
    }

    /// Whether keys are retired and wrapped anew.
    pub const fn retire_and_rewrap(self) -> bool {
        matches!(self, Rules::Hardened)
    }

    /// Whether values are sealed by whoever proposes them, before they enter the log.
    pub const fn seal_before_the_log(self) -> bool {
        matches!(self, Rules::Hardened)
    }
}

/// A key of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it encrypts.
    pub purpose: Purpose,
    /// The blob that carried it.
    pub blob: Blob,
    /// Index of the entry that installed it.
    pub by: u64,
}

/// A row of the state: full node id, first epoch, last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// Full node id.
    pub node: u64,
    /// First epoch seen.
    pub first: u16,
    /// Last epoch seen.
    pub last: u16,
}

/// The last write of a table key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Index of its entry.
    pub by: u64,
    /// How it was sealed.
    pub seal: Option<Seal>,
}

/// A key that is gone for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// What it encrypted.
    pub purpose: Purpose,
    /// The key.
    pub key: KeyNumber,
    /// Index of the entry that installed it.
    pub by: u64,
    /// Index of the entry that retired it.
    pub at: u64,
    /// That entry.
    pub form: Form,
}

/// What every replica must hold after a prefix of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Index of the last entry of the prefix.
    pub index: u64,
    /// Active storage and raft key.
    pub active: Option<(u32, u32)>,
    /// Keys by id.
    pub keys: BTreeMap<u32, Key>,
    /// Rows by key id and low 16 bits of the node id.
    pub rows: BTreeMap<(u32, u16), Writer>,
    /// The host's data.
    pub data: BTreeMap<u64, u64>,
    /// How each value of it was written.
    pub writes: BTreeMap<u64, Write>,
    /// Index of the entry behind which values are sealed.
    pub storage_cutover: Option<u64>,
    /// Index of the entry behind which log entries are sealed.
    pub raft_cutover: Option<u64>,
    /// Retired keys by id.
    pub retired: BTreeMap<u32, Retired>,
    /// The KEK in force: its generation and its number.
    pub kek: (u32, u8),
    /// The accepted rewraps, the oldest first.
    pub rewraps: Vec<Form>,
    /// The accepted bootstrap with its index.
    pub bootstrap: Option<(u64, Form)>,
    /// The accepted rotations by key id.
    pub rotations: BTreeMap<u32, Form>,
}

impl State {
    /// The verdict on `form` as the next entry, on a node with or without a keyring.
    pub fn judge(&self, rules: Rules, keyring: bool, form: &Form) -> Verdict {
        let verdict = match (form, rules) {
            (Form::Nothing | Form::Data { .. }, _) => Ok(Verdict::Applied),
            (Form::Bootstrap { .. } | Form::Rotation { .. }, _) if !keyring => Err(Reason::KekNotConfigured),
            (Form::Cutover { .. } | Form::Retirement { .. } | Form::Rewrap { .. }, Rules::Hardened)
                if !keyring =>
            {
                Err(Reason::KekNotConfigured)
            }
            (Form::Registration(row), Rules::Hardened) if !keyring => hardened::row_alone(self, *row),
            (_, Rules::Hardened) => hardened::judge(self, form),
            (_, Rules::AsMerged) => as_merged::judge(self, form),
            (_, Rules::AsHead) => as_head::judge(self, keyring, form),
        };
        verdict.unwrap_or_else(Verdict::Rejected)
    }

    /// The verdict on the next entry as it stands in the log, where it may be in an envelope.
    pub fn judge_sealed(&self, rules: Rules, keyring: bool, form: &Form, wrap: Option<&Seal>) -> Verdict {
        // Nothing but a leader's own no-op is empty, and that has nothing to hide.
        if self.raft_cutover.is_some() && *form != Form::Nothing {
            match wrap {
                None => return Verdict::Rejected(Reason::ClearEntry),
                Some(seal) if !self.holds(seal, Purpose::Raft) => {
                    return Verdict::Rejected(Reason::EntryDoesNotOpen);
                }
                Some(_) => {}
            }
        }
        self.judge(rules, keyring, form)
    }

    /// Whether a seal is one of a key that this state has.
    pub fn holds(&self, seal: &Seal, purpose: Purpose) -> bool {
        self.keys.get(&seal.dek).is_some_and(|key| key.purpose == purpose && key.blob.key == seal.key)
    }

    /// Whether the sidecars of two states are the same, times and epochs aside.
    pub fn has_sidecar_of(&self, other: &State) -> bool {
        (self.active, &self.keys, self.storage_cutover, self.raft_cutover, &self.retired, self.kek)
            == (
                other.active,
                &other.keys,
                other.storage_cutover,
                other.raft_cutover,
                &other.retired,
                other.kek,
            )
    }

    /// The state after `form` as the next entry, which got `verdict`.
    ///
    /// # Panics
    /// On a verdict that does not advance: a refused entry is replaced before the log goes on.
    pub fn after(&self, form: &Form, verdict: Verdict) -> State {
        assert!(verdict.advances(), "a refused entry is replaced before the log goes on");
        let mut state = State { index: self.index + 1, ..self.clone() };
        if verdict == Verdict::NoOp {
            return state;
        }
        match form {
            Form::Nothing | Form::Malformed(_) => {}
            Form::Data { key, value, seal } => {
                state.data.insert(*key, *value);
                state.writes.insert(*key, Write { by: state.index, seal: *seal });
            }
            Form::Cutover { purpose, dek, row, .. } => state.cut_over(*purpose, *dek, *row),
            Form::Retirement { dek, .. } => state.retire(*dek, form),
            Form::Rewrap { generation, kek, keys } => {
                for (id, blob) in keys {
                    if let Some(key) = state.keys.get_mut(id) {
                        key.blob = *blob;
                    }
                }
                state.kek = (*generation, *kek);
                state.rewraps.push(form.clone());
            }
            Form::Registration(row) => state.register(*row),
            Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
                state.install(*storage, Purpose::Storage, *storage_blob);
                state.install(*raft, Purpose::Raft, *raft_blob);
                state.active = Some((*storage, *raft));
                state.bootstrap = Some((state.index, form.clone()));
                rows.iter().for_each(|row| state.register(*row));
            }
            Form::Rotation { dek, purpose, blob, row } => {
                state.install(*dek, *purpose, *blob);
                let (storage, raft) = state.active.unwrap_or((0, 0));
                state.active = Some(match purpose {
                    Purpose::Storage => (*dek, raft),
                    Purpose::Raft => (storage, *dek),
                });
                state.rotations.insert(*dek, form.clone());
                state.register(*row);
            }
        }
        state
    }

    fn install(&mut self, id: u32, purpose: Purpose, blob: Blob) {
        self.keys.insert(id, Key { purpose, blob, by: self.index });
    }

    /// A cutover that is stale or repeated is accepted, and changes nothing.
    fn cut_over(&mut self, purpose: Purpose, dek: u32, row: Row) {
        if self.cutover(purpose).is_some() || self.active_key(purpose) != Some(dek) {
            return;
        }
        match purpose {
            Purpose::Storage => self.storage_cutover = Some(self.index),
            Purpose::Raft => self.raft_cutover = Some(self.index),
        }
        self.register(row);
    }

    fn retire(&mut self, dek: u32, form: &Form) {
        let key = self.keys.remove(&dek).expect("a key that is not there is not retired");
        self.rows.retain(|slot, _| slot.0 != dek);
        let Key { purpose, blob, by } = key;
        let retired = Retired { purpose, key: blob.key, by, at: self.index, form: form.clone() };
        self.retired.insert(dek, retired);
    }

    /// Index of the entry that has switched an envelope on.
    pub const fn cutover(&self, purpose: Purpose) -> Option<u64> {
        match purpose {
            Purpose::Storage => self.storage_cutover,
            Purpose::Raft => self.raft_cutover,
        }
    }

    /// The active key of a purpose.
    pub fn active_key(&self, purpose: Purpose) -> Option<u32> {
        let (storage, raft) = self.active?;
        Some(match purpose {
            Purpose::Storage => storage,
            Purpose::Raft => raft,
        })
    }

    fn register(&mut self, row: Row) {
        let slot = (row.dek, (row.node & 0xffff) as u16);
        let first = self.rows.get(&slot).map_or(row.epoch, |old| old.first);
        self.rows.insert(slot, Writer { node: row.node, first, last: row.epoch });
    }

    /// Judges one row; `Ok(true)` if it changes something.
    fn admits(&self, row: Row) -> Result<bool, Reason> {
        match self.rows.get(&(row.dek, (row.node & 0xffff) as u16)) {
            None => Ok(true),
            Some(old) if old.node != row.node => Err(Reason::NodeCollision),
            Some(old) if old.last > row.epoch => Err(Reason::EpochRollback),
            Some(old) => Ok(old.last < row.epoch),
        }
    }

    /// Judges rows one after the other, each on top of those before it.
    fn admits_all(&self, rows: &[Row]) -> Result<(), Reason> {
        let mut state = State { rows: self.rows.clone(), ..State::default() };
        for row in rows {
            if state.admits(*row)? {
                state.register(*row);
            }
        }
        Ok(())
    }
}
