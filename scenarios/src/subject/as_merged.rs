//! The reference's apply path as it was merged, behind our ports: its order of steps, its gaps and its leniency.
//!
//! One bootstrap, step by step; a rotation goes the same way with one key and one row:
//!
//! ```text
//! compare ids and rows with each other, read the sidecar: is it the active pair?
//! open both keys  ->  keystore, one key at a time  ->  read, change, write the sidecar  ->  rows, a commit each
//! ```
//!
//! Nothing is undone where a later step refuses or fails, no index is compared or recorded, and a start reads neither
//! the sidecar nor the keys in it. All of that is on purpose: this is what the harness must be able to convict.

pub(super) mod lenient;
mod mistake;
#[cfg(test)]
mod tests;

pub use mistake::Mistake;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use applier::admission::Capability;
use applier::fault::IoFault;
use applier::keystore::Keystore;
use applier::ports::{Files, Kek, UnwrapError};
use applier::registry::{
    self, Change, Clash, HostPart, RedbRegistry, Registered, Registry, RegistryError, RowKey,
};
use applier::secret::Dek;
use applier::sidecar::file::SidecarPath;
use applier::snapshot::Snapshot;
use applier::wire::{Bootstrap, Entry, Rotation, Row, WireError};
use applier::{DekId, KekCheck, StartError};
use redb::{Database, WriteTransaction};

use super::hardened::replace_host_part;
use super::host::{read_data, read_sessions, replace_data, write_data};
use super::member::{Admitted, Handed, Host, Member, MemberSnapshot};
use super::{DATABASE, Delivered, HostSnapshot, Keys, Life, SIDECAR, SidecarView, Surroundings};
use crate::model::{Reason, Verdict};
use crate::seam::{HostsData, SimFiles, SimRegistry};
use lenient::{AS_MERGED, Sidecar, SidecarFault};

/// Starts on the ports of a world, with the mistake to make, if one.
pub(crate) fn start(world: &Surroundings, mistake: Option<Mistake>) -> Result<Box<dyn Life>, StartError> {
    Ok(Box::new(open(world, mistake)?))
}

/// The same without a mistake, as a member of a cluster: no look at a request before it is proposed, and snapshots
/// without keys.
pub(crate) fn start_member(world: &Surroundings) -> Result<Box<dyn Member>, StartError> {
    Ok(Box::new(open(world, None)?))
}

fn open(
    world: &Surroundings,
    mistake: Option<Mistake>,
) -> Result<AsMerged<SimFiles, SimRegistry>, StartError> {
    let kek = Arc::clone(&world.kek);
    let keyring = world.keyring.then(|| Keyring::new(kek, SIDECAR, AS_MERGED));
    let registry = SimRegistry::new(open_registry(&world.files, DATABASE)?, Arc::clone(&world.reads));
    let (files, unix_seconds) = (world.files.clone(), world.unix_seconds);
    Ok(AsMerged { files, registry, keyring, unix_seconds, mistake })
}

pub(super) fn open_registry<F: Files>(files: &F, path: &str) -> Result<RedbRegistry, StartError> {
    let known = files.len(path).map_err(|error| IoFault::new("look up", path, &error))?;
    if known.is_none() {
        registry::create(files, path)?;
    }
    let opened = registry::open(files, path)?;
    // A database in the reference's place makes its own name durable when it is opened.
    let dir = path.rsplit_once('/').map_or(".", |(dir, _)| dir);
    files.sync_dir(dir).map_err(|error| IoFault::new("sync the directory", dir, &error))?;
    Ok(opened)
}

struct AsMerged<F: Files, R: Registry> {
    files: F,
    registry: R,
    keyring: Option<Keyring>,
    unix_seconds: u64,
    mistake: Option<Mistake>,
}

/// KEK, keystore and sidecar come together or not at all.
pub(super) struct Keyring {
    pub(super) kek: Arc<dyn Kek>,
    pub(super) keystore: Arc<Keystore>,
    pub(super) path: SidecarPath,
    /// The version of its sidecar.
    version: u64,
}

/// Why an entry stops before its end.
pub(super) enum Stop {
    /// Decided from the entry and the state.
    Refused(Reason),
    /// A step that failed, by its name.
    Broken(String),
    /// A commit that failed, so that nobody knows whether it is there.
    Unknown,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Stop {
        Stop::Refused(reason)
    }
}

impl<F: Files, R: Registry> AsMerged<F, R> {
    fn apply(&mut self, payload: &[u8]) -> Delivered {
        answer(self.steps(payload))
    }

    fn steps(&mut self, payload: &[u8]) -> Result<(), Stop> {
        match decode(payload)? {
            Entry::Registration(row) => self.register(row),
            Entry::Bootstrap(entry) => self.bootstrap(&entry),
            Entry::Rotation(entry) => self.rotate(&entry),
            Entry::Rewrap(_) => Err(Reason::Subtag.into()),
        }
    }

    fn bootstrap(&mut self, entry: &Bootstrap) -> Result<(), Stop> {
        let keyring = self.keyring.as_ref().ok_or(Reason::KekNotConfigured)?;
        let (storage, raft) = (entry.storage_id, entry.raft_id);
        if storage == raft && !self.makes(Mistake::EqualIds) {
            return Err(Reason::EqualIds.into());
        }
        let foreign = entry.batch.iter().any(|row| row.dek_id != storage && row.dek_id != raft);
        if foreign && !self.makes(Mistake::ForeignBatchRows) {
            return Err(Reason::ForeignRow.into());
        }
        if let Some(sidecar) = keyring.read(&self.files)? {
            passes_for_a_replay(&sidecar, entry, self.mistake)?;
        }
        let storage_key = keyring.unwrap(&entry.wrapped_storage)?;
        let raft_key = keyring.unwrap(&entry.wrapped_raft)?;
        keyring.hold(storage, storage_key)?;
        keyring.hold(raft, raft_key)?;
        let mut sidecar = keyring.read(&self.files)?.unwrap_or_default();
        let created = self.created();
        sidecar.install(storage, applier::Purpose::Storage, &entry.wrapped_storage, &created);
        sidecar.install(raft, applier::Purpose::Raft, &entry.wrapped_raft, &created);
        keyring.write(&self.files, &sidecar)?;
        entry.batch.iter().try_for_each(|row| self.register(*row))
    }

    fn rotate(&mut self, entry: &Rotation) -> Result<(), Stop> {
        let keyring = self.keyring.as_ref().ok_or(Reason::KekNotConfigured)?;
        if entry.proposer.dek_id != entry.dek_id && !self.makes(Mistake::ForeignProposerRow) {
            return Err(Reason::ForeignRow.into());
        }
        let key = keyring.unwrap(&entry.wrapped)?;
        keyring.hold(entry.dek_id, key)?;
        let mut sidecar = keyring.read(&self.files)?.ok_or(Reason::NotBootstrapped)?;
        sidecar.install(entry.dek_id, entry.purpose, &entry.wrapped, &self.created());
        keyring.write(&self.files, &sidecar)?;
        self.register(entry.proposer)
    }

    /// One row, one durable commit.
    fn register(&mut self, row: Row) -> Result<(), Stop> {
        let key = RowKey::of(row.dek_id, row.full_node_id);
        let existing = self.registry.rows(&[key]).map_err(|error| unreadable(&error))?;
        match registry::register(existing[0], row) {
            Ok(Registered::Unchanged) => Ok(()),
            Ok(Registered::Row(new)) => {
                let change = Change { rows: [(key, new)].into(), ..Change::default() };
                self.commit(&change, &mut |_| Ok(()))
            }
            Err(Clash::NodeCollision { .. }) => Err(Reason::NodeCollision.into()),
            Err(Clash::EpochRollback { .. }) => Err(Reason::EpochRollback.into()),
        }
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, R::Tx>) -> Result<(), Stop> {
        // What the database said may hold numbers that differ between runs.
        self.registry.commit(change, host).map_err(|_| Stop::Unknown)
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn created(&self) -> String {
        if self.makes(Mistake::NoClock) {
            // A panic, past the hook that would print it in the middle of a report.
            std::panic::resume_unwind(Box::new("the clock was set to nothing".to_owned()));
        }
        let now = UNIX_EPOCH + Duration::from_secs(self.unix_seconds);
        humantime::format_rfc3339_seconds(now).to_string()
    }
}

impl Keyring {
    pub(super) fn new(kek: Arc<impl Kek + 'static>, path: &str, version: u64) -> Keyring {
        Keyring { kek, keystore: Arc::new(Keystore::new()), path: SidecarPath::new(path), version }
    }

    /// Every key in memory.
    pub(super) fn keys(&self) -> Keys {
        let key = |id: DekId| (id.get(), *self.keystore.dek(id).expect("listed a moment ago").expose());
        self.keystore.ids().into_iter().map(key).collect()
    }

    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Result<Dek, Stop> {
        self.kek.unwrap(wrapped).map_err(|error| match error {
            UnwrapError::Blob(_) => Reason::BlobDoesNotOpen.into(),
            UnwrapError::Unavailable(_) => Stop::Broken("unwrap: the KEK is unavailable".to_owned()),
        })
    }

    /// The only place where id 0 is noticed.
    pub(super) fn hold(&self, id: u32, key: Dek) -> Result<(), Stop> {
        let id = DekId::new(id).ok_or(Reason::ReservedKeyId)?;
        self.keystore.set(id, key).map_err(|_| Reason::KeyConflict.into())
    }

    pub(super) fn read<F: Files>(&self, files: &F) -> Result<Option<Sidecar>, Stop> {
        let broken = |what: &dyn std::fmt::Display| Stop::Broken(format!("sidecar read: {what}"));
        let bytes = self.path.read(files).map_err(|fault| broken(&fault.call))?;
        bytes.map(|bytes| Sidecar::parse(&bytes, self.version).map_err(|fault| broken(&fault))).transpose()
    }

    pub(super) fn write<F: Files>(&self, files: &F, sidecar: &Sidecar) -> Result<(), Stop> {
        let bytes = sidecar.encode(self.version).map_err(|fault| match fault {
            // A key cannot be active for both purposes, and the entry wants that.
            SidecarFault::ActivePurposeMismatch => Reason::KeyIdInUse.into(),
            fault => Stop::Broken(format!("sidecar write: {fault}")),
        })?;
        self.path.write(files, &bytes).map_err(|failed| {
            if !failed.unchanged {
                // The temporary file is removed after every failure; after a rename there is none.
                let _ = self.path.remove_leftover(files);
            }
            Stop::Broken(format!("sidecar write: {}", failed.fault.call))
        })
    }
}

pub(super) fn answer(done: Result<(), Stop>) -> Delivered {
    match done {
        Ok(()) => Delivered::Decided(Verdict::Applied),
        Err(Stop::Refused(reason)) => Delivered::Decided(Verdict::Rejected(reason)),
        Err(Stop::Broken(step)) => Delivered::Failed(step),
        Err(Stop::Unknown) => Delivered::Halted("registry commit".to_owned()),
    }
}

fn decode(payload: &[u8]) -> Result<Entry, Stop> {
    // Opcode, version, sub-tag: all kinds but one came later, and an unknown sub-tag is refused before what follows it.
    if let [0x05, 0x01, 0x02..=0x05, ..] = payload {
        return Err(Reason::Subtag.into());
    }
    match Entry::decode(payload) {
        Ok(entry) => Ok(entry),
        Err(WireError::Version { .. }) => Err(Reason::Version.into()),
        Err(WireError::Subtag { .. }) => Err(Reason::Subtag.into()),
        Err(WireError::Opcode { .. }) => Err(Reason::Opcode.into()),
        Err(_) => Err(Reason::Malformed.into()),
    }
}

/// The guard against a second bootstrap. It looks at the keys that are active now and never at the batch.
pub(super) fn passes_for_a_replay(
    sidecar: &Sidecar,
    entry: &Bootstrap,
    mistake: Option<Mistake>,
) -> Result<(), Reason> {
    let same = |id, wrapped: &[u8]| sidecar.wrapped(id) == Some(wrapped);
    let fresh = sidecar.active() == (0, 0);
    let same_ids = sidecar.active() == (entry.storage_id, entry.raft_id);
    let replay = same_ids
        && same(entry.storage_id, &entry.wrapped_storage)
        && same(entry.raft_id, &entry.wrapped_raft);
    let replay = match mistake {
        Some(Mistake::SecondBootstrapOtherIds) => replay || !same_ids,
        Some(Mistake::SecondBootstrapOtherBytes) => same_ids,
        _ => replay,
    };
    if fresh || replay { Ok(()) } else { Err(Reason::AlreadyBootstrapped) }
}

pub(super) fn unreadable(error: &RegistryError) -> Stop {
    let what = match error {
        RegistryError::KeyMalformed { .. } => "malformed key",
        RegistryError::ValueMalformed { .. } => "malformed row",
        RegistryError::Local { .. } => "unknown local value",
        RegistryError::Storage(_) => "storage",
    };
    Stop::Broken(format!("registry read: {what}"))
}

impl<F: Files> Life for AsMerged<F, SimRegistry> {
    fn deliver(&mut self, _index: u64, payload: &[u8]) -> Delivered {
        self.apply(payload)
    }

    fn advance(&mut self, _index: u64, data: Option<(u64, &[u8])>) -> Delivered {
        let Some((key, value)) = data else { return Delivered::Decided(Verdict::Applied) };
        answer(self.commit(&Change::default(), &mut |transaction| write_data(transaction, key, value)))
    }

    fn restore(&mut self, snapshot: &HostSnapshot) -> Result<(), String> {
        let data = &snapshot.data;
        self.registry
            .restore(&snapshot.registry, None, &mut |transaction| replace_data(transaction, data))
            .map_err(|error| error.to_string())
    }

    fn resume_after(&self) -> Option<u64> {
        None
    }

    fn database(&self) -> Result<HostSnapshot, String> {
        let registry = self.registry.snapshot().map_err(|error| error.to_string())?;
        Ok(HostSnapshot { registry, data: read_data(self.registry.redb().database())? })
    }

    fn sidecar(&self, bytes: &[u8]) -> Result<SidecarView, String> {
        Sidecar::parse(bytes, AS_MERGED).map(|sidecar| sidecar.view()).map_err(|fault| fault.to_string())
    }

    fn keys(&self) -> Keys {
        self.keyring.as_ref().map(Keyring::keys).unwrap_or_default()
    }
}

impl<F: Files> Member for AsMerged<F, SimRegistry> {
    fn shared(&self) -> Arc<Database> {
        Arc::clone(self.registry.redb().database())
    }

    fn apply(&mut self, _index: u64, handed: Handed<'_>, host: Host<'_>) -> Delivered {
        // The host's part is a transaction of its own, as each row is.
        answer(match handed {
            Handed::Nothing => self.commit(&Change::default(), host),
            Handed::Write(key, stored) => self.commit(&Change::default(), &mut |transaction| {
                write_data(transaction, key, stored)?;
                host(transaction)
            }),
            Handed::Entry(payload) => {
                self.steps(payload).and_then(|()| self.commit(&Change::default(), host))
            }
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
        let registry = self.registry.snapshot().map_err(|error| error.to_string())?;
        let database = self.registry.redb().database();
        let machine = Snapshot { registry, sidecar: None };
        let (data, sessions) = (read_data(database)?, read_sessions(database)?);
        Ok(Some(MemberSnapshot { machine, data, sessions }))
    }

    fn install(&mut self, snapshot: &MemberSnapshot, host: Host<'_>) -> Result<(), Delivered> {
        let mut host = |transaction: &WriteTransaction| replace_host_part(transaction, snapshot, host);
        self.registry
            .restore(&snapshot.machine.registry, None, &mut host)
            .map_err(|_| Delivered::Halted("registry commit".to_owned()))
    }
}
