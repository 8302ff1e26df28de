//! The reference as it is later: everything of [`as_merged`](super::as_merged), and epochs, envelopes, cutovers and the
//! guards of a start, each as the reference has it.
//!
//! ```text
//! start   guards -> all keys into memory -> the epoch of each key in scope goes up by one, for good
//! replay  every key entry after the newest data entry, for only data moves the database's index
//! guards  the epoch must be above the row's by now, and the log must hold no key entry that the sidecar lacks
//! apply   a value is sealed inside of it, by every replica with nonces of its own
//! ```
//!
//! A sidecar that is missing is taken for a cluster that was never bootstrapped. All of that is on purpose: this is what
//! the harness must be able to convict.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use applier::admission::Capability;
use applier::cipher::Cipher;
use applier::envelope::{OpenError, raft, storage};
use applier::ports::UnwrapError;
use applier::registry::{
    self, Change, Clash, HostRefused, Registered, Registry, RegistrySnapshot, RowKey, WriterRow,
};
use applier::snapshot::Snapshot;
use applier::wire::{Bootstrap, Entry, Rotation, RotationKind, Row, WireError};
use applier::{DekId, KekCheck, LocalEpoch, Nonce, Purpose, RaftIndex, StartError};
use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::as_merged::lenient::{AS_HEAD, Sidecar};
use super::as_merged::{Keyring, Stop, answer, open_registry, passes_for_a_replay, unreadable};
use super::hardened::replace_host_part;
use super::host::{read_data, read_sessions, refusable, replace_data, write_data};
use super::member::{Admitted, Handed, Host, Member, MemberSnapshot};
use super::{Claimed, DATABASE, Delivered, HostSnapshot, Keys, Life, SIDECAR, SidecarView, Surroundings};
use crate::model::{Reason, Verdict};
use crate::sealing;
use crate::seam::{HostsData, SimFiles, SimRegistry};

/// Index of the newest data entry.
const META: TableDefinition<(), u64> = TableDefinition::new("reference.meta");

/// Nonces of one process and purpose, whatever the key: pinned at its start.
#[derive(Debug, Default)]
struct Pinned {
    epoch: u16,
    issued: Cell<u64>,
}

struct AsHead {
    files: SimFiles,
    registry: SimRegistry,
    keyring: Option<Keyring>,
    node: u64,
    unix_seconds: u64,
    storage: Pinned,
    raft: Pinned,
}

/// Starts on the ports of a world.
pub(crate) fn start(world: &Surroundings) -> Result<Box<dyn Life>, StartError> {
    Ok(Box::new(open(world)?))
}

/// The same as a member of a cluster.
pub(crate) fn start_member(world: &Surroundings) -> Result<Box<dyn Member>, StartError> {
    Ok(Box::new(open(world)?))
}

fn open(world: &Surroundings) -> Result<AsHead, StartError> {
    let kek = Arc::clone(&world.kek);
    let registry = SimRegistry::new(open_registry(&world.files, DATABASE)?, Arc::clone(&world.reads));
    let mut node = AsHead {
        files: world.files.clone(),
        registry,
        keyring: world.keyring.then(|| Keyring::new(kek, SIDECAR, AS_HEAD)),
        node: world.node,
        unix_seconds: world.unix_seconds,
        storage: Pinned::default(),
        raft: Pinned::default(),
    };
    node.guard_and_pin()?;
    Ok(node)
}

impl AsHead {
    /// The guards before the replay, the keys into memory, and the epochs up.
    fn guard_and_pin(&mut self) -> Result<(), StartError> {
        let Some(keyring) = &self.keyring else { return Ok(()) };
        let Some(mut sidecar) = self.at_start(keyring)? else { return Ok(()) };
        for (id, wrapped) in sidecar.wrapped_keys() {
            let id = DekId::new(id).expect("the sidecar was validated");
            let key = keyring.kek.unwrap(wrapped).map_err(|error| match error {
                UnwrapError::Blob(fault) => StartError::KekMismatch { id, fault },
                UnwrapError::Unavailable(error) => StartError::KekUnavailable(error.to_string()),
            })?;
            keyring.keystore.set(id, key).expect("the keystore was empty");
        }
        let (active, raft) = sidecar.active();
        if active != 0 {
            let row = self.row(active).map_err(|_| rollback(active, 0, 0))?;
            let epoch = sidecar.epoch(active);
            match row {
                Some(row) if row.full_node_id != self.node || epoch < row.last_seen => {
                    return Err(rollback(active, epoch, row.last_seen));
                }
                None if sidecar.storage_envelope_active => return Err(rollback(active, epoch, 0)),
                _ => {}
            }
            self.storage.epoch = bump(&mut sidecar, active)?;
            self.save(&sidecar)?;
        }
        if sidecar.raft_envelope_cutover_index != 0 && raft != 0 {
            self.raft.epoch = bump(&mut sidecar, raft)?;
            self.save(&sidecar)?;
        }
        Ok(())
    }

    fn at_start(&self, keyring: &Keyring) -> Result<Option<Sidecar>, StartError> {
        let Some(bytes) = keyring.path.read(&self.files)? else { return Ok(None) };
        match Sidecar::parse(&bytes, AS_HEAD) {
            Ok(sidecar) => Ok(Some(sidecar)),
            Err(fault) => Err(StartError::Sidecar {
                path: SIDECAR.to_owned(),
                fault: applier::sidecar::json::SidecarError::Shape(fault.to_string()),
            }),
        }
    }

    fn save(&self, sidecar: &Sidecar) -> Result<(), StartError> {
        let path = &self.keyring.as_ref().expect("only a keyring has a sidecar").path;
        path.write(&self.files, &sidecar.encode(AS_HEAD).expect("it was valid"))?;
        Ok(())
    }

    fn row(&self, id: u32) -> Result<Option<WriterRow>, registry::RegistryError> {
        Ok(self.registry.rows(&[RowKey::of(id, self.node)])?[0])
    }

    fn meta(&self) -> u64 {
        let read = || -> Result<u64, redb::Error> {
            let view = self.redb().begin_read()?;
            let table = match view.open_table(META) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(())?.map_or(0, |index| index.value()))
        };
        read().unwrap_or(0)
    }

    fn redb(&self) -> &Arc<Database> {
        self.registry.redb().database()
    }

    fn steps(&mut self, index: u64, payload: &[u8]) -> Result<(), Stop> {
        match decode(payload)? {
            Entry::Registration(row) => self.register(row),
            Entry::Bootstrap(entry) => self.bootstrap(index, &entry),
            Entry::Rotation(entry) => match entry.subtag {
                RotationKind::RotateDek => self.rotate(index, &entry),
                RotationKind::EnableStorageEnvelope => self.enable_storage(index, &entry),
                RotationKind::EnableRaftEnvelope => self.enable_raft(index, &entry),
                RotationKind::RetireDek => Err(Reason::Subtag.into()),
            },
            Entry::Rewrap(_) => Err(Reason::Subtag.into()),
        }
    }

    fn keyring(&self) -> Result<&Keyring, Stop> {
        self.keyring.as_ref().ok_or(Stop::Refused(Reason::KekNotConfigured))
    }

    fn bootstrap(&mut self, index: u64, entry: &Bootstrap) -> Result<(), Stop> {
        let keyring = self.keyring()?;
        let (storage, raft) = (entry.storage_id, entry.raft_id);
        if storage == raft {
            return Err(Reason::EqualIds.into());
        }
        if entry.batch.iter().any(|row| row.dek_id != storage && row.dek_id != raft) {
            return Err(Reason::ForeignRow.into());
        }
        if let Some(sidecar) = keyring.read(&self.files)? {
            passes_for_a_replay(&sidecar, entry, None)?;
        }
        let storage_key = keyring.unwrap(&entry.wrapped_storage)?;
        let raft_key = keyring.unwrap(&entry.wrapped_raft)?;
        keyring.hold(storage, storage_key)?;
        keyring.hold(raft, raft_key)?;
        let mut sidecar = keyring.read(&self.files)?.unwrap_or_default();
        let created = self.created();
        // This writes epoch 0 over whatever the start has raised it to.
        sidecar.install(storage, Purpose::Storage, &entry.wrapped_storage, &created);
        sidecar.install(raft, Purpose::Raft, &entry.wrapped_raft, &created);
        sidecar.advance(index);
        keyring.write(&self.files, &sidecar)?;
        entry.batch.iter().try_for_each(|row| self.register(*row))
    }

    fn rotate(&mut self, index: u64, entry: &Rotation) -> Result<(), Stop> {
        let keyring = self.keyring()?;
        if entry.proposer.dek_id != entry.dek_id {
            return Err(Reason::ForeignRow.into());
        }
        let key = keyring.unwrap(&entry.wrapped)?;
        keyring.hold(entry.dek_id, key)?;
        let mut sidecar = keyring.read(&self.files)?.ok_or(Reason::NotBootstrapped)?;
        sidecar.install(entry.dek_id, entry.purpose, &entry.wrapped, &self.created());
        let pinned = if entry.purpose == Purpose::Storage { &self.storage } else { &self.raft };
        sidecar.set_epoch(entry.dek_id, pinned.epoch);
        sidecar.advance(index);
        keyring.write(&self.files, &sidecar)?;
        self.register(entry.proposer)
    }

    /// The row first, the sidecar after it.
    fn enable_storage(&mut self, index: u64, entry: &Rotation) -> Result<(), Stop> {
        let mut sidecar = self.shaped(entry, Purpose::Storage)?;
        let stale = sidecar.active().0 != entry.dek_id;
        if !stale && !sidecar.storage_envelope_active {
            self.register(entry.proposer)?;
            sidecar.storage_envelope_active = true;
            sidecar.storage_envelope_cutover_index = Some(index);
        }
        sidecar.advance(index);
        self.keyring()?.write(&self.files, &sidecar)
    }

    fn enable_raft(&mut self, index: u64, entry: &Rotation) -> Result<(), Stop> {
        let mut sidecar = self.shaped(entry, Purpose::Raft)?;
        let stale = sidecar.active().1 != entry.dek_id;
        if sidecar.raft_envelope_cutover_index == 0 && !stale {
            self.register(entry.proposer)?;
            sidecar.raft_envelope_cutover_index = index;
        }
        sidecar.advance(index);
        self.keyring()?.write(&self.files, &sidecar)
    }

    /// The sidecar of a cutover whose shape is right.
    fn shaped(&self, entry: &Rotation, purpose: Purpose) -> Result<Sidecar, Stop> {
        let keyring = self.keyring()?;
        if entry.purpose != purpose {
            return Err(Reason::WrongPurpose.into());
        }
        if !entry.wrapped.is_empty() {
            return Err(Reason::WrappedLength.into());
        }
        if entry.proposer.dek_id != entry.dek_id {
            return Err(Reason::ForeignRow.into());
        }
        keyring.read(&self.files)?.ok_or(Reason::NotBootstrapped.into())
    }

    /// One row, one durable commit.
    fn register(&mut self, row: Row) -> Result<(), Stop> {
        let key = RowKey::of(row.dek_id, row.full_node_id);
        let existing = self.registry.rows(&[key]).map_err(|error| unreadable(&error))?;
        match registry::register(existing[0], row) {
            Ok(Registered::Unchanged) => Ok(()),
            Ok(Registered::Row(new)) => {
                let change = Change { rows: [(key, new)].into(), ..Change::default() };
                self.registry.commit(&change, &mut |_| Ok(())).map_err(|_| Stop::Unknown)
            }
            Err(Clash::NodeCollision { .. }) => Err(Reason::NodeCollision.into()),
            Err(Clash::EpochRollback { .. }) => Err(Reason::EpochRollback.into()),
        }
    }

    /// What is stored of a value: sealed by this process, where the envelope is on.
    fn sealed(&self, key: u64, stored: &[u8]) -> Result<Vec<u8>, Stop> {
        let Some(keyring) = &self.keyring else { return Ok(stored.to_vec()) };
        let sidecar = keyring.read(&self.files)?.unwrap_or_default();
        let Some(id) = DekId::new(sidecar.active().0).filter(|_| sidecar.storage_envelope_active) else {
            return Ok(stored.to_vec());
        };
        let header = storage::ValueHeader::encrypted(0);
        let value = &stored[storage::ValueHeader::LEN..];
        let cipher = Cipher::new(Arc::clone(&keyring.keystore));
        let nonce = self.storage.next(self.node);
        let body = storage::seal(&cipher, id, &nonce, 0, &key.to_be_bytes(), value)
            .map_err(|_| Stop::Broken("seal: the key is not loaded".to_owned()))?;
        Ok([&header.encode()[..], &body].concat())
    }

    fn created(&self) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.unix_seconds)).to_string()
    }

    fn sidecar_now(&self) -> Option<Sidecar> {
        self.keyring.as_ref()?.read(&self.files).ok().flatten()
    }

    /// Writes a value and moves the index, which nothing else does.
    fn put(&mut self, index: u64, data: Option<(u64, &[u8])>, host: Host<'_>) -> Result<(), Stop> {
        let sealed = match data {
            None => None,
            Some((key, stored)) => Some((key, self.sealed(key, stored)?)),
        };
        let mut part = |transaction: &WriteTransaction| -> Result<(), HostRefused> {
            host(transaction)?;
            if let Some((key, stored)) = &sealed {
                write_data(transaction, *key, stored)?;
                set_meta(transaction, index)?;
            }
            Ok(())
        };
        self.registry.commit(&Change::default(), &mut part).map_err(|_| Stop::Unknown)
    }
}

impl Pinned {
    fn next(&self, node: u64) -> Nonce {
        let count = self.issued.get() + 1;
        self.issued.set(count);
        Nonce::new(node as u16, LocalEpoch(self.epoch), count)
    }
}

fn set_meta(transaction: &WriteTransaction, index: u64) -> Result<(), HostRefused> {
    refusable(|| {
        transaction.open_table(META)?.insert((), index)?;
        Ok(())
    })
}

/// The one error that all guards of epochs have.
fn rollback(id: u32, found: u16, claimed: u16) -> StartError {
    StartError::EpochBehind {
        path: SIDECAR.to_owned(),
        id: DekId::new(id).expect("an active key"),
        found: LocalEpoch(found),
        claimed: LocalEpoch(claimed),
    }
}

fn bump(sidecar: &mut Sidecar, id: u32) -> Result<u16, StartError> {
    let epoch = sidecar.epoch(id);
    let next = epoch.checked_add(1).ok_or_else(|| rollback(id, epoch, epoch))?;
    sidecar.set_epoch(id, next);
    Ok(next)
}

fn decode(payload: &[u8]) -> Result<Entry, Stop> {
    // An unknown sub-tag is refused before what follows it.
    if let [0x05, 0x01, 0x02 | 0x03, ..] = payload {
        return Err(Reason::Subtag.into());
    }
    Entry::decode(payload).map_err(|error| {
        Stop::Refused(match error {
            WireError::Version { .. } => Reason::Version,
            WireError::Subtag { .. } => Reason::Subtag,
            WireError::Opcode { .. } => Reason::Opcode,
            _ => Reason::Malformed,
        })
    })
}

impl Life for AsHead {
    fn deliver(&mut self, index: u64, payload: &[u8]) -> Delivered {
        if index <= self.meta() {
            return Delivered::Skipped;
        }
        answer(self.steps(index, payload))
    }

    fn advance(&mut self, index: u64, data: Option<(u64, &[u8])>) -> Delivered {
        if index <= self.meta() {
            return Delivered::Skipped;
        }
        if data.is_none() {
            return Delivered::Decided(Verdict::Applied);
        }
        answer(self.put(index, data, &mut |_| Ok(())))
    }

    fn restore(&mut self, snapshot: &HostSnapshot) -> Result<(), String> {
        let (data, index) = (&snapshot.data, snapshot.registry.applied_index.0);
        let mut host = |transaction: &WriteTransaction| {
            replace_data(transaction, data)?;
            set_meta(transaction, index)
        };
        let rows = RegistrySnapshot { rows: snapshot.registry.rows.clone(), ..RegistrySnapshot::default() };
        self.registry.restore(&rows, None, &mut host).map_err(|error| error.to_string())
    }

    fn resume_after(&self) -> Option<u64> {
        Some(self.meta())
    }

    fn index(&self) -> Option<u64> {
        None
    }

    fn database(&self) -> Result<HostSnapshot, String> {
        let mut registry = self.registry.snapshot().map_err(|error| error.to_string())?;
        registry.applied_index = RaftIndex(self.meta());
        Ok(HostSnapshot { registry, data: read_data(self.redb())? })
    }

    fn sidecar(&self, bytes: &[u8]) -> Result<SidecarView, String> {
        Sidecar::parse(bytes, AS_HEAD).map(|sidecar| sidecar.view()).map_err(|fault| fault.to_string())
    }

    fn keys(&self) -> Keys {
        self.keyring.as_ref().map(Keyring::keys).unwrap_or_default()
    }

    /// The guards behind the replay: of the epochs, and of a sidecar that lacks a key entry of the log.
    fn after_replay(&mut self, key_entry_in: &dyn Fn(u64, u64) -> Option<bool>) -> Result<(), String> {
        let Some(sidecar) = self.sidecar_now() else { return Ok(()) };
        let (active, raft) = sidecar.active();
        if active != 0 {
            let row = self.row(active).map_err(|error| error.to_string())?;
            match row {
                Some(row) if row.full_node_id != self.node => return Err("row-of-another-node".to_owned()),
                Some(row) if sidecar.epoch(active) <= row.last_seen => {
                    return Err("epoch-rollback".to_owned());
                }
                None if sidecar.storage_envelope_active => return Err("row-missing".to_owned()),
                _ => {}
            }
        }
        let (reflected, applied) = (sidecar.raft_applied_index, self.meta());
        if reflected != 0 && reflected < applied && key_entry_in(reflected, applied) != Some(false) {
            return Err("sidecar-behind-log".to_owned());
        }
        if sidecar.raft_envelope_cutover_index != 0 && raft != 0 {
            let row = self.row(raft).map_err(|error| error.to_string())?;
            if self.raft.epoch <= row.map_or(0, |row| row.last_seen) {
                return Err("raft-epoch-rollback".to_owned());
            }
        }
        Ok(())
    }

    /// The registration of the process's own epoch, which never becomes another one.
    fn claim(&mut self, _term: u64, purpose: Purpose) -> Claimed {
        let Some(sidecar) = self.sidecar_now() else { return Claimed::No("no sidecar".to_owned()) };
        let (id, pinned, is_on) = match purpose {
            Purpose::Storage => (sidecar.active().0, &self.storage, sidecar.storage_envelope_active),
            Purpose::Raft => (sidecar.active().1, &self.raft, sidecar.raft_envelope_cutover_index != 0),
        };
        if !is_on || id == 0 {
            return Claimed::No("the envelope is off".to_owned());
        }
        let last = match self.row(id) {
            Ok(row) => row.map_or(0, |row| row.last_seen),
            Err(error) => return Claimed::No(error.to_string()),
        };
        match pinned.epoch.cmp(&last) {
            std::cmp::Ordering::Less => Claimed::No("its epoch is below its row's".to_owned()),
            std::cmp::Ordering::Equal => Claimed::Held,
            std::cmp::Ordering::Greater => {
                let row = Row { dek_id: id, full_node_id: self.node, local_epoch: pinned.epoch };
                Claimed::Propose(Entry::Registration(row).encode())
            }
        }
    }

    /// In clear: every replica seals it by itself.
    fn seal_value(&mut self, _term: u64, key: u64, value: u64) -> Option<Vec<u8>> {
        Some(sealing::stored(key, value, None))
    }

    fn is_sealing(&self, purpose: Purpose) -> bool {
        self.sidecar_now().is_some_and(|sidecar| match purpose {
            Purpose::Storage => sidecar.storage_envelope_active,
            Purpose::Raft => sidecar.raft_envelope_cutover_index != 0,
        })
    }

    fn seal_entry(&mut self, _term: u64, entry: &[u8]) -> Option<Vec<u8>> {
        let Some(sidecar) = self.sidecar_now().filter(|sidecar| sidecar.raft_envelope_cutover_index != 0)
        else {
            return Some(entry.to_vec());
        };
        let id = DekId::new(sidecar.active().1)?;
        let cipher = Cipher::new(Arc::clone(&self.keyring.as_ref()?.keystore));
        raft::seal(&cipher, id, &self.raft.next(self.node), entry).ok()
    }

    fn open_entry(&self, index: u64, entry: &[u8]) -> Result<Vec<u8>, Delivered> {
        let Some(keyring) = &self.keyring else { return Ok(entry.to_vec()) };
        let Some(sidecar) = keyring.read(&self.files).map_err(|stop| answer(Err(stop)))? else {
            return Ok(entry.to_vec());
        };
        let cutover = sidecar.raft_envelope_cutover_index;
        if cutover == 0 || index <= cutover {
            return Ok(entry.to_vec());
        }
        let cipher = Cipher::new(Arc::clone(&keyring.keystore));
        raft::open(&cipher, entry).map_err(|error| {
            Delivered::Decided(Verdict::Rejected(match error {
                OpenError::Envelope(_) => Reason::ClearEntry,
                OpenError::Cipher(_) => Reason::EntryDoesNotOpen,
            }))
        })
    }
}

impl Member for AsHead {
    fn shared(&self) -> Arc<Database> {
        Arc::clone(self.redb())
    }

    fn apply(&mut self, index: u64, handed: Handed<'_>, host: Host<'_>) -> Delivered {
        answer(match handed {
            Handed::Nothing => self.put(index, None, host),
            Handed::Write(key, stored) => self.put(index, Some((key, stored)), host),
            Handed::Entry(payload) => self.steps(index, payload).and_then(|()| self.put(index, None, host)),
        })
    }

    fn admit(&self, _payload: &[u8], _members: &[u64]) -> Admitted {
        Admitted::Propose
    }

    fn capability(&self) -> Result<Capability, String> {
        Ok(Capability { keyring: None, next: None })
    }

    fn promise(&mut self, _leader: KekCheck, _generation: u32) -> Result<Capability, String> {
        self.capability()
    }

    fn capture(&self) -> Result<Option<MemberSnapshot>, String> {
        let mut registry = self.registry.snapshot().map_err(|error| error.to_string())?;
        registry.applied_index = RaftIndex(self.meta());
        let (data, sessions) = (read_data(self.redb())?, read_sessions(self.redb())?);
        Ok(Some(MemberSnapshot { machine: Snapshot { registry, sidecar: None }, data, sessions }))
    }

    fn install(&mut self, snapshot: &MemberSnapshot, host: Host<'_>) -> Result<(), Delivered> {
        let index = snapshot.machine.registry.applied_index.0;
        let mut host = |transaction: &WriteTransaction| {
            replace_host_part(transaction, snapshot, host)?;
            set_meta(transaction, index)
        };
        let rows =
            RegistrySnapshot { rows: snapshot.machine.registry.rows.clone(), ..RegistrySnapshot::default() };
        self.registry
            .restore(&rows, None, &mut host)
            .map_err(|_| Delivered::Halted("registry commit".to_owned()))
    }
}
