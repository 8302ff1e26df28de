//! The verdicts: from an entry and the state alone, everything that applying it will do, or why it is refused.
//! Nothing in here mutates.
//!
//! An entry at or below the sidecar's index was judged before, against a state that the sidecar has left behind. It
//! is therefore not judged again: if the sidecar names an effect of it, only its registry part is due; if not, it
//! was a no-op and is one again. Above the sidecar's index, the sidecar is exactly the state before the entry.

use std::time::{Duration, UNIX_EPOCH};

use crate::ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
use crate::keystore::Keystore;
use crate::outcome::{ApplyError, NoOp, Reject};
use crate::ports::{Clock, Kek, UnwrapError};
use crate::registry::{Change, Clash, Registry, RegistryError, RowKey, rules};
use crate::secret::Dek;
use crate::sidecar::{Active, Cutovers, EntryName, KeyRecord, Sidecar, WRAPPED_LEN_MAX};
use crate::wire::{Bootstrap, Entry, Rotation, RotationKind, Row};

/// Everything that applying an entry will do.
#[derive(Debug)]
pub(super) struct Effect {
    /// Keys for the keystore; not empty only together with `sidecar`.
    pub(super) keys: Vec<(DekId, Dek)>,
    /// The sidecar after the entry, if it changes.
    pub(super) sidecar: Option<Box<Sidecar>>,
    /// The registry's part; the applied index is set by whoever executes it.
    pub(super) change: Change,
    /// Why nothing but the applied index moves, if so.
    pub(super) no_op: Option<NoOp>,
}

impl Effect {
    pub(super) const fn applied(change: Change) -> Effect {
        Effect { keys: Vec::new(), sidecar: None, change, no_op: None }
    }

    fn no_op(reason: NoOp) -> Effect {
        Effect { no_op: Some(reason), ..Effect::applied(Change::default()) }
    }
}

/// Why there is no effect.
#[derive(Debug)]
pub(super) enum Stop {
    Reject(Reject),
    Fail(ApplyError),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Stop {
        Stop::Reject(reject)
    }
}

impl From<Clash> for Stop {
    fn from(clash: Clash) -> Stop {
        Stop::Reject(Reject::Registration(clash))
    }
}

impl From<RegistryError> for Stop {
    fn from(error: RegistryError) -> Stop {
        Stop::Fail(ApplyError::Registry(error))
    }
}

/// One entry and the state that it is judged against.
pub(super) struct Judge<'a, R: Registry> {
    pub(super) index: RaftIndex,
    pub(super) payload: &'a [u8],
    pub(super) kek: Option<&'a dyn Kek>,
    pub(super) sidecar: Option<&'a Sidecar>,
    pub(super) keystore: &'a Keystore,
    pub(super) registry: &'a R,
    pub(super) clock: &'a dyn Clock,
}

impl<R: Registry> Judge<'_, R> {
    pub(super) fn judge(&self, entry: &Entry) -> Result<Effect, Stop> {
        match entry {
            Entry::Registration(row) => self.registration(*row),
            Entry::Bootstrap(bootstrap) => self.bootstrap(bootstrap),
            Entry::Rotation(rotation) => self.rotation(rotation),
            Entry::Rewrap(_) => Err(Reject::UnsupportedRotation { got: crate::wire::SUBTAG_REWRAP }.into()),
        }
    }

    fn registration(&self, row: Row) -> Result<Effect, Stop> {
        let id = checked_row(row)?;
        // Without a keyring this node cannot know which keys exist, and the row rules alone decide.
        let known = || self.sidecar.is_some_and(|sidecar| sidecar.knows_at(id, self.index));
        if self.kek.is_some() && !known() {
            return Err(Reject::UnknownKey(id).into());
        }
        let rows = self.rows(&[row])?;
        Ok(match rows.is_empty() {
            true => Effect::no_op(NoOp::DuplicateRegistration),
            false => Effect::applied(Change { rows, ..Change::default() }),
        })
    }

    fn bootstrap(&self, entry: &Bootstrap) -> Result<Effect, Stop> {
        let kek = self.kek.ok_or(Reject::KekNotConfigured)?;
        let storage = DekId::new(entry.storage_id).ok_or(Reject::ReservedKeyId)?;
        let raft = DekId::new(entry.raft_id).ok_or(Reject::ReservedKeyId)?;
        for row in &entry.batch {
            checked_row(*row)?;
        }
        checked_wrapped(storage, &entry.wrapped_storage)?;
        checked_wrapped(raft, &entry.wrapped_raft)?;
        if storage == raft {
            return Err(Reject::EqualIds(storage).into());
        }
        let installed = [storage.get(), raft.get()];
        if let Some(row) = entry.batch.iter().find(|row| !installed.contains(&row.dek_id)) {
            return Err(Reject::ForeignRow { row: row.dek_id }.into());
        }
        if let Some(effect) = self.redelivered(&entry.batch)? {
            return Ok(effect);
        }
        let name = EntryName::of(self.index, self.payload);
        if let Some(sidecar) = self.sidecar {
            if sidecar.bootstrap.sha256 == name.sha256 {
                return Ok(Effect::no_op(NoOp::DuplicateBootstrap));
            }
            return Err(Reject::AlreadyBootstrapped { by: sidecar.bootstrap.raft_index }.into());
        }
        let storage_key = unwrap(kek, storage, &entry.wrapped_storage)?;
        let raft_key = unwrap(kek, raft, &entry.wrapped_raft)?;
        if storage_key == raft_key {
            return Err(Reject::EqualKeyBytes(storage, raft).into());
        }
        let rows = self.rows(&entry.batch)?;
        let keys = [
            (storage, self.record(Purpose::Storage, &entry.wrapped_storage, name)),
            (raft, self.record(Purpose::Raft, &entry.wrapped_raft, name)),
        ];
        let sidecar = Sidecar {
            raft_applied_index: self.index,
            cutovers: Cutovers::default(),
            active: Active { storage, raft },
            keys: keys.into(),
            bootstrap: name,
        };
        Ok(self.installs(vec![(storage, storage_key), (raft, raft_key)], sidecar, rows))
    }

    fn rotation(&self, entry: &Rotation) -> Result<Effect, Stop> {
        let kek = self.kek.ok_or(Reject::KekNotConfigured)?;
        if entry.subtag != RotationKind::RotateDek {
            return Err(Reject::UnsupportedRotation { got: entry.subtag.to_wire() }.into());
        }
        let id = DekId::new(entry.dek_id).ok_or(Reject::ReservedKeyId)?;
        checked_row(entry.proposer)?;
        checked_wrapped(id, &entry.wrapped)?;
        if entry.proposer.dek_id != id.get() {
            return Err(Reject::ForeignRow { row: entry.proposer.dek_id }.into());
        }
        if let Some(effect) = self.redelivered(&[entry.proposer])? {
            return Ok(effect);
        }
        let Some(sidecar) = self.sidecar else {
            return Err(Reject::NotBootstrapped.into());
        };
        let name = EntryName::of(self.index, self.payload);
        if let Some(known) = sidecar.keys.get(&id) {
            if known.name.sha256 == name.sha256 {
                return Ok(Effect::no_op(NoOp::DuplicateRotation));
            }
            return Err(Reject::KeyIdInUse { id, by: known.name.raft_index }.into());
        }
        let key = unwrap(kek, id, &entry.wrapped)?;
        if let Some(equal) = self.keystore.find_equal(&key) {
            return Err(Reject::EqualKeyBytes(equal, id).into());
        }
        let rows = self.rows(&[entry.proposer])?;
        let mut sidecar = sidecar.clone();
        sidecar.raft_applied_index = self.index;
        sidecar.active = sidecar.active.with(entry.purpose, id);
        sidecar.keys.insert(id, self.record(entry.purpose, &entry.wrapped, name));
        Ok(self.installs(vec![(id, key)], sidecar, rows))
    }

    /// What is due for an entry at or below the sidecar's index; `None` above it.
    fn redelivered(&self, batch: &[Row]) -> Result<Option<Effect>, Stop> {
        let Some(sidecar) = self.sidecar.filter(|sidecar| self.index <= sidecar.raft_applied_index) else {
            return Ok(None);
        };
        if sidecar.names(self.index).is_none() {
            return Ok(Some(Effect::no_op(NoOp::NotNamed)));
        }
        let rows = self.rows(batch)?;
        let sidecar_index = Some(self.index);
        Ok(Some(Effect::applied(Change { rows, applied_index: None, sidecar_index })))
    }

    fn installs(&self, keys: Vec<(DekId, Dek)>, sidecar: Sidecar, rows: Rows) -> Effect {
        let change = Change { rows, applied_index: None, sidecar_index: Some(self.index) };
        Effect { keys, sidecar: Some(Box::new(sidecar)), change, no_op: None }
    }

    fn record(&self, purpose: Purpose, wrapped: &[u8], name: EntryName) -> KeyRecord {
        let created = time_of_creation(self.clock);
        KeyRecord { purpose, wrapped: wrapped.to_vec(), created, local_epoch: LocalEpoch(0), name }
    }

    fn rows(&self, batch: &[Row]) -> Result<Rows, Stop> {
        let keys: Vec<RowKey> = batch.iter().map(|row| RowKey::of(row.dek_id, row.full_node_id)).collect();
        let existing = self.registry.rows(&keys)?;
        Ok(rules::register_all(batch, &existing)?)
    }
}

/// The clock's time as the sidecar writes it. A clock past the last year that RFC 3339 can write stands still there:
/// the field is diagnostic, and no reason to refuse a key.
pub(super) fn time_of_creation(clock: &dyn Clock) -> String {
    const LAST_SECOND_OF_9999: u64 = 253_402_300_799;
    let seconds = clock.unix_seconds().min(LAST_SECOND_OF_9999);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

type Rows = std::collections::BTreeMap<RowKey, crate::registry::WriterRow>;

fn checked_row(row: Row) -> Result<DekId, Reject> {
    let id = DekId::new(row.dek_id).ok_or(Reject::ReservedKeyId)?;
    NodeId::new(row.full_node_id).ok_or(Reject::ReservedNodeId)?;
    Ok(id)
}

/// What a sidecar could not hold must not get that far.
fn checked_wrapped(id: DekId, wrapped: &[u8]) -> Result<(), Reject> {
    match (1..=WRAPPED_LEN_MAX).contains(&wrapped.len()) {
        true => Ok(()),
        false => Err(Reject::WrappedLength { id, len: wrapped.len() }),
    }
}

fn unwrap(kek: &dyn Kek, id: DekId, wrapped: &[u8]) -> Result<Dek, Stop> {
    kek.unwrap(wrapped).map_err(|error| match error {
        UnwrapError::Blob(fault) => Stop::Reject(Reject::BlobDoesNotOpen { id, fault }),
        UnwrapError::Unavailable(error) => Stop::Fail(ApplyError::KekUnavailable(error.to_string())),
    })
}
