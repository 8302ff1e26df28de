//! The verdicts: from an entry and the state alone, everything that applying it will do, or why it is refused.
//! Nothing in here mutates.
//!
//! An entry at or below the sidecar's index was judged before, against a state that the sidecar has left behind. It
//! is therefore not judged again: if the sidecar names an effect of it, only its registry part is due; if not, it
//! was a no-op and is one again. Above the sidecar's index, the sidecar is exactly the state before the entry.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use crate::ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
use crate::kek::{KekRing, RingError};
use crate::keystore::Keystore;
use crate::outcome::{ApplyError, NoOp, Reject};
use crate::ports::{Clock, Kek, KekCheck, UnwrapError};
use crate::registry::{Change, Clash, Registry, RegistryError, RowKey, rules};
use crate::secret::Dek;
use crate::sidecar::{
    Active, Cutovers, EntryName, KeyRecord, RewrapRecord, Sidecar, Tombstone, WRAPPED_LEN_MAX,
};
use crate::wire::{Bootstrap, Entry, Rewrap, Rotation, RotationKind, Row};

/// Everything that applying an entry will do.
#[derive(Debug)]
pub(super) struct Effect {
    /// Keys for the keystore; not empty only together with `sidecar`.
    pub(super) keys: Vec<(DekId, Dek)>,
    /// The sidecar after the entry, if it changes.
    pub(super) sidecar: Option<Box<Sidecar>>,
    /// A key that leaves memory once the sidecar has let go of it.
    pub(super) removed: Option<DekId>,
    /// The registry's part; the applied index is set by whoever executes it.
    pub(super) change: Change,
    /// Why nothing but the applied index moves, if so.
    pub(super) no_op: Option<NoOp>,
}

impl Effect {
    pub(super) const fn applied(change: Change) -> Effect {
        Effect { keys: Vec::new(), sidecar: None, removed: None, change, no_op: None }
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
    pub(super) ring: Option<&'a KekRing>,
    /// The KEK that this node has promised to keep.
    pub(super) promised: Option<KekCheck>,
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
            Entry::Rotation(rotation) => match rotation.subtag {
                RotationKind::RotateDek => self.rotation(rotation),
                RotationKind::RetireDek => self.retirement(rotation),
                RotationKind::EnableStorageEnvelope => self.cutover(rotation, Purpose::Storage),
                RotationKind::EnableRaftEnvelope => self.cutover(rotation, Purpose::Raft),
            },
            Entry::Rewrap(rewrap) => self.rewrap(rewrap),
        }
    }

    fn registration(&self, row: Row) -> Result<Effect, Stop> {
        let id = checked_row(row)?;
        // Without a keyring this node cannot know which keys exist, and the row rules alone decide.
        let known = || self.sidecar.is_some_and(|sidecar| sidecar.knows_at(id, self.index));
        if self.ring.is_some() && !known() {
            return Err(Reject::UnknownKey(id).into());
        }
        let rows = self.rows(&[row])?;
        Ok(match rows.is_empty() {
            true => Effect::no_op(NoOp::DuplicateRegistration),
            false => Effect::applied(Change { rows, ..Change::default() }),
        })
    }

    fn bootstrap(&self, entry: &Bootstrap) -> Result<Effect, Stop> {
        let ring = self.ring.ok_or(Reject::KekNotConfigured)?;
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
        let kek = self.in_force(ring)?;
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
            retired: BTreeMap::new(),
            bootstrap: name,
            rewraps: Vec::new(),
        };
        Ok(self.installs(vec![(storage, storage_key), (raft, raft_key)], sidecar, rows))
    }

    fn rotation(&self, entry: &Rotation) -> Result<Effect, Stop> {
        let ring = self.ring.ok_or(Reject::KekNotConfigured)?;
        let id = identified(entry)?;
        checked_wrapped(id, &entry.wrapped)?;
        checked_proposer(entry, id)?;
        if let Some(effect) = self.redelivered(&[entry.proposer])? {
            return Ok(effect);
        }
        let sidecar = self.bootstrapped()?;
        let name = EntryName::of(self.index, self.payload);
        let retired = sidecar.retired.get(&id).map(|stone| stone.installed);
        if let Some(known) = sidecar.keys.get(&id).map(|key| key.name).or(retired) {
            if known.sha256 == name.sha256 {
                return Ok(Effect::no_op(NoOp::DuplicateRotation));
            }
            return Err(Reject::KeyIdInUse { id, by: known.raft_index }.into());
        }
        let key = unwrap(self.in_force(ring)?, id, &entry.wrapped)?;
        if let Some(equal) = self.keystore.find_equal(&key).or(sidecar.find_retired(&key)) {
            return Err(Reject::EqualKeyBytes(equal, id).into());
        }
        let rows = self.rows(&[entry.proposer])?;
        let mut sidecar = sidecar.clone();
        sidecar.raft_applied_index = self.index;
        sidecar.active = sidecar.active.with(entry.purpose, id);
        sidecar.keys.insert(id, self.record(entry.purpose, &entry.wrapped, name));
        Ok(self.installs(vec![(id, key)], sidecar, rows))
    }

    /// An envelope is switched on once. Which of several requests did that is decided here and recorded, so that none of
    /// them can be taken for it later: what is stale or repeated now is named nowhere, and is a no-op for ever.
    fn cutover(&self, entry: &Rotation, purpose: Purpose) -> Result<Effect, Stop> {
        self.ring.ok_or(Reject::KekNotConfigured)?;
        let id = identified(entry)?;
        checked_proposer(entry, id)?;
        checked_bare(entry, id, purpose)?;
        if let Some(effect) = self.redelivered(&[entry.proposer])? {
            return Ok(effect);
        }
        let sidecar = self.bootstrapped()?;
        if sidecar.cutovers.of(purpose).is_some() {
            return Ok(Effect::no_op(NoOp::CutoverRepeated));
        }
        if sidecar.active.of(purpose) != id {
            return Ok(Effect::no_op(NoOp::CutoverStale));
        }
        let rows = self.rows(&[entry.proposer])?;
        let mut sidecar = sidecar.clone();
        sidecar.raft_applied_index = self.index;
        sidecar.cutovers = sidecar.cutovers.with(purpose, EntryName::of(self.index, self.payload));
        Ok(self.installs(Vec::new(), sidecar, rows))
    }

    /// That nothing refers to the key any more is for the host to know; see "Retiring a key" on the crate's page.
    fn retirement(&self, entry: &Rotation) -> Result<Effect, Stop> {
        self.ring.ok_or(Reject::KekNotConfigured)?;
        let id = identified(entry)?;
        checked_proposer(entry, id)?;
        checked_bare(entry, id, entry.purpose)?;
        if entry.proposer.local_epoch != 0 {
            return Err(Reject::NeedlessEpoch { got: entry.proposer.local_epoch }.into());
        }
        let change = Change { retired: Some(id), sidecar_index: Some(self.index), ..Change::default() };
        if let Some(effect) = self.redelivered_as(|| Ok(change.clone()))? {
            return Ok(effect);
        }
        let sidecar = self.bootstrapped()?;
        let name = EntryName::of(self.index, self.payload);
        if let Some(stone) = sidecar.retired.get(&id) {
            if stone.retired.sha256 == name.sha256 {
                return Ok(Effect::no_op(NoOp::DuplicateRetirement));
            }
            return Err(Reject::KeyRetired { id, by: stone.retired.raft_index }.into());
        }
        let Some(key) = sidecar.keys.get(&id) else {
            return Err(Reject::UnknownKey(id).into());
        };
        if key.purpose != entry.purpose {
            return Err(Reject::OtherPurpose { id, got: entry.purpose }.into());
        }
        if sidecar.active.of(key.purpose) == id {
            return Err(Reject::KeyActive(id).into());
        }
        let bytes = self.keystore.dek(id).expect("the keystore has every key of the sidecar");
        let digest = Tombstone::digest_of(sidecar.bootstrap, &bytes);
        let stone = Tombstone { purpose: key.purpose, installed: key.name, retired: name, digest };
        let mut sidecar = sidecar.clone();
        sidecar.raft_applied_index = self.index;
        sidecar.keys.remove(&id);
        sidecar.retired.insert(id, stone);
        Ok(Effect { sidecar: Some(Box::new(sidecar)), removed: Some(id), ..Effect::applied(change) })
    }

    /// The same keys in other wrappings: memory and rows stay as they are.
    fn rewrap(&self, entry: &Rewrap) -> Result<Effect, Stop> {
        let ring = self.ring.ok_or(Reject::KekNotConfigured)?;
        let check = KekCheck(entry.kek_check);
        for (id, wrapped) in &entry.keys {
            checked_wrapped(DekId::new(*id).ok_or(Reject::ReservedKeyId)?, wrapped)?;
        }
        // The KEK of an older one is in force no more: it may be withdrawn already, and nothing is promised of it.
        let is_older = self.sidecar.is_some_and(|sidecar| entry.generation < sidecar.generation());
        let change = Change {
            rewrapped: (!is_older).then_some((entry.generation, check)),
            sidecar_index: Some(self.index),
            ..Change::default()
        };
        if let Some(effect) = self.redelivered_as(|| Ok(change.clone()))? {
            return Ok(effect);
        }
        let sidecar = self.bootstrapped()?;
        let name = EntryName::of(self.index, self.payload);
        if sidecar.rewraps.iter().any(|rewrap| rewrap.name.sha256 == name.sha256) {
            return Ok(Effect::no_op(NoOp::DuplicateRewrap));
        }
        let current = sidecar.generation();
        if current.checked_add(1) != Some(entry.generation) {
            return Err(Reject::KekGeneration { current, got: entry.generation }.into());
        }
        let unretired = sidecar.keys.keys().map(|id| id.get());
        if let Some(id) = first_difference(unretired, entry.keys.iter().map(|(id, _)| *id)) {
            return Err(Reject::RewrapKeys { id }.into());
        }
        let kek = ring.find(check).map_err(ring_fault)?.ok_or(Reject::KekNotInRing { wanted: check })?;
        let mut sidecar = sidecar.clone();
        for ((id, record), (_, wrapped)) in sidecar.keys.iter_mut().zip(&entry.keys) {
            let bytes = unwrap(kek, *id, wrapped)?;
            if self.keystore.dek(*id).is_none_or(|known| known != bytes) {
                return Err(Reject::RewrapBytes(*id).into());
            }
            record.wrapped.clone_from(wrapped);
        }
        sidecar.raft_applied_index = self.index;
        sidecar.rewraps.push(RewrapRecord { kek: check, name });
        Ok(Effect { sidecar: Some(Box::new(sidecar)), ..Effect::applied(change) })
    }

    fn in_force<'r>(&self, ring: &'r KekRing) -> Result<&'r dyn Kek, Stop> {
        ring.in_force(self.sidecar.and_then(Sidecar::kek).or(self.promised)).map_err(ring_fault)
    }

    fn bootstrapped(&self) -> Result<&Sidecar, Reject> {
        self.sidecar.ok_or(Reject::NotBootstrapped)
    }

    /// What is due for an entry at or below the sidecar's index; `None` above it.
    fn redelivered(&self, batch: &[Row]) -> Result<Option<Effect>, Stop> {
        self.redelivered_as(|| {
            let rows = self.rows(batch)?;
            Ok(Change { rows, sidecar_index: Some(self.index), ..Change::default() })
        })
    }

    /// The same, where what is due of a named entry is not a batch of rows.
    fn redelivered_as(
        &self,
        registry_part: impl FnOnce() -> Result<Change, Stop>,
    ) -> Result<Option<Effect>, Stop> {
        let Some(sidecar) = self.sidecar.filter(|sidecar| self.index <= sidecar.raft_applied_index) else {
            return Ok(None);
        };
        if sidecar.names(self.index).is_none() {
            return Ok(Some(Effect::no_op(NoOp::NotNamed)));
        }
        Ok(Some(Effect::applied(registry_part()?)))
    }

    fn installs(&self, keys: Vec<(DekId, Dek)>, sidecar: Sidecar, rows: Rows) -> Effect {
        let change = Change { rows, sidecar_index: Some(self.index), ..Change::default() };
        Effect { keys, sidecar: Some(Box::new(sidecar)), ..Effect::applied(change) }
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

/// The key of a rotation of any kind.
fn identified(entry: &Rotation) -> Result<DekId, Reject> {
    let id = DekId::new(entry.dek_id).ok_or(Reject::ReservedKeyId)?;
    checked_row(entry.proposer)?;
    Ok(id)
}

fn checked_proposer(entry: &Rotation, id: DekId) -> Result<(), Reject> {
    match entry.proposer.dek_id == id.get() {
        true => Ok(()),
        false => Err(Reject::ForeignRow { row: entry.proposer.dek_id }),
    }
}

/// What an entry that installs no key must look like.
fn checked_bare(entry: &Rotation, id: DekId, purpose: Purpose) -> Result<(), Reject> {
    if entry.purpose != purpose {
        return Err(Reject::OtherPurpose { id, got: entry.purpose });
    }
    match entry.wrapped.len() {
        0 => Ok(()),
        len => Err(Reject::NeedlessKey { len }),
    }
}

/// The lowest number that is in one of two rising sequences only; or that rises in the second one no further.
fn first_difference(
    mut known: impl Iterator<Item = u32>,
    mut given: impl Iterator<Item = u32>,
) -> Option<u32> {
    loop {
        match (known.next(), given.next()) {
            (None, None) => return None,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => return Some(one.min(other)),
            (Some(one), None) | (None, Some(one)) => return Some(one),
        }
    }
}

fn ring_fault(fault: RingError) -> Stop {
    Stop::Fail(match fault {
        RingError::Missing { wanted } => ApplyError::KekMissing { wanted },
        RingError::Unavailable(error) => ApplyError::KekUnavailable(error),
    })
}

fn unwrap(kek: &dyn Kek, id: DekId, wrapped: &[u8]) -> Result<Dek, Stop> {
    kek.unwrap(wrapped).map_err(|error| match error {
        UnwrapError::Blob(fault) => Stop::Reject(Reject::BlobDoesNotOpen { id, fault }),
        UnwrapError::Unavailable(error) => Stop::Fail(ApplyError::KekUnavailable(error.to_string())),
    })
}
