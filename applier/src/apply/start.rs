//! Start-up: trust nothing that this start has not itself made durable, then load the keys.
//!
//! A process that crashed leaves a page cache behind that may differ from the disk. Whoever builds on what it reads
//! there, and then loses power, has built on nothing. So the directory entries are synced and the sidecar is written
//! once more before anything in them is used; opening the database does the same for its file.

use std::sync::Arc;

use super::claim::Claims;
use super::{Applier, ArcClock, Held, Keyring};
use crate::fault::{IoFault, parent};
use crate::ids::{DekId, NodeId, RaftIndex};
use crate::kek::{KekRing, RingError};
use crate::keystore::Keystore;
use crate::known::{Guards, Known, Said};
use crate::outcome::StartError;
use crate::ports::{BlobFault, Clock, Files, Kek, UnwrapError};
use crate::registry::{self, Local, RedbRegistry, Registry};
use crate::secret::Dek;
use crate::sidecar::file::SidecarPath;
use crate::sidecar::{Sidecar, SidecarContent, json};

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's full id.
    pub node: NodeId,
    /// Path of the database file; created if missing. Its directory must exist.
    pub database: String,
    /// KEK and sidecar path, or `None` where encryption is not configured.
    pub keyring: Option<KeyringConfig>,
    /// What the host knows of the cluster.
    pub known: Known,
}

/// KEK and sidecar path, which come together.
#[derive(Clone, Debug)]
pub struct KeyringConfig {
    /// The key that wraps the keys, or while it is exchanged both.
    pub kek: KekRing,
    /// Path of the sidecar file. Its directory must exist.
    pub sidecar: String,
}

/// Opens this node's database, locked, and creates it on a fresh node. A host that shares its database opens it with
/// this and hands it to [`Applier::start`].
///
/// # Errors
/// [`StartError::DatabaseMissing`] where a sidecar of ours proves that there was one, and whatever keeps it from
/// being opened. Nothing is overwritten.
pub fn open_database<F: Files>(files: &F, config: &Config) -> Result<RedbRegistry, StartError> {
    let path = &config.database;
    let is_missing = || match files.len(path) {
        Ok(len) => Ok(len.is_none()),
        Err(error) => Err(IoFault::new("look up", path, &error)),
    };
    // Of two processes that find no database one would put its own in the place of the other's, so that one waits
    // outside until the other's is open, and locked.
    let lock = if is_missing()? { Some(registry::lock_dir(files, path)?) } else { None };
    if lock.is_some() && is_missing()? {
        if let Some(keyring) = &config.keyring {
            let sidecar = SidecarPath::new(&keyring.sidecar);
            // One of the reference system has its rows elsewhere and is read-only until they are adopted.
            if let Some((SidecarContent::Ours(_), _)) = read(files, &sidecar)? {
                let (sidecar, database) = (keyring.sidecar.clone(), path.clone());
                return Err(StartError::DatabaseMissing { sidecar, database });
            }
        }
        registry::create(files, path)?;
    }
    let registry = registry::open(files, path)?;
    registry::remove_leftover(files, path)?;
    drop(lock);
    Ok(registry)
}

/// The sidecar's content and bytes.
pub(super) fn read<F: Files>(
    files: &F,
    path: &SidecarPath,
) -> Result<Option<(SidecarContent, Vec<u8>)>, StartError> {
    let Some(bytes) = path.read(files)? else { return Ok(None) };
    match json::decode(&bytes) {
        Ok(content) => Ok(Some((content, bytes))),
        Err(fault) => Err(StartError::Sidecar { path: path.path().to_owned(), fault }),
    }
}

impl<F: Files> Applier<F> {
    /// Opens the database and starts on it.
    ///
    /// # Errors
    /// [`StartError`], each with the way out.
    pub fn open(files: F, config: &Config, clock: Arc<dyn Clock>) -> Result<Applier<F>, StartError> {
        let registry = open_database(&files, config)?;
        Applier::start(files, registry, config, clock)
    }
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// Starts on an open database, whose lock keeps a second process out. [`crate::known`] has the order of the guards.
    ///
    /// # Errors
    /// [`StartError`], each with the way out.
    pub fn start(
        files: F,
        registry: R,
        config: &Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Applier<F, R>, StartError> {
        sync_dir(&files, parent(&config.database))?;
        let keyring = config
            .keyring
            .as_ref()
            .map(|keyring| Keyring { ring: keyring.kek.clone(), path: SidecarPath::new(&keyring.sidecar) });
        let guards = Guards { node: config.node, known: &config.known };
        let local = registry.local()?;
        let proof = local.sidecar_index;
        let keystore = Keystore::new();
        let held = match &keyring {
            Some(keyring) => {
                keep_promises(&keyring.ring, &local)?;
                if keyring.path.dir() != parent(&config.database) {
                    sync_dir(&files, keyring.path.dir())?;
                }
                keyring.path.remove_leftover(&files)?;
                load(&files, keyring, &keystore, &local, &guards)?
            }
            None if proof > RaftIndex::ZERO => return Err(StartError::KeyringRequired { applied: proof }),
            None => match local.kek {
                Some(promised) => return Err(StartError::KeyringPromised { promised }),
                None => {
                    guards.before_keys(&Said::of(None))?;
                    Held::Nothing
                }
            },
        };
        let applied = registry.applied_index()?;
        tracing::info!(node = %config.node, %applied, keys = keystore.len(), "started");
        Ok(Applier {
            node: config.node,
            files,
            registry,
            clock: ArcClock(clock),
            keystore: Arc::new(keystore),
            keyring,
            held,
            local,
            claims: Claims::default(),
            applied,
            poisoned: false,
        })
    }
}

/// A leader that was told of one KEK may have let an entry be committed that no other one opens. Without a promise no KEK
/// is asked, so that a node may start while it is out of reach.
fn keep_promises(ring: &KekRing, local: &Local) -> Result<(), StartError> {
    for promised in [local.kek, local.next_kek].into_iter().flatten() {
        if ring.find(promised)?.is_none() {
            return Err(StartError::OtherKek { promised, found: ring.current()? });
        }
    }
    Ok(())
}

impl From<RingError> for StartError {
    fn from(fault: RingError) -> StartError {
        match fault {
            RingError::Missing { wanted } => StartError::KekMissing { wanted },
            RingError::Unavailable(error) => StartError::KekUnavailable(error),
        }
    }
}

/// Reads the sidecar, holds it against the database's proof, makes it durable and fills the keystore.
fn load<F: Files>(
    files: &F,
    keyring: &Keyring,
    keystore: &Keystore,
    local: &Local,
    guards: &Guards<'_>,
) -> Result<Held, StartError> {
    let proof = local.sidecar_index;
    let path = || keyring.path.path().to_owned();
    let found = read(files, &keyring.path)?;
    let said = Said::of(found.as_ref().map(|(content, _)| content));
    guards.before_keys(&said)?;
    match found {
        None if proof > RaftIndex::ZERO => Err(StartError::SidecarMissing { path: path(), applied: proof }),
        None => Ok(Held::Nothing),
        Some((SidecarContent::Foreign(foreign), _)) => {
            let wrapped = foreign.keys.iter().map(|(id, key)| (*id, key.wrapped.as_slice()));
            let keys = unwrap_all(keyring.ring.in_force(local.kek)?, wrapped)?;
            guards.after_keys(&said)?;
            hydrate(keystore, &keys);
            Ok(Held::Foreign(Box::new(foreign)))
        }
        Some((SidecarContent::Ours(sidecar), _)) if sidecar.raft_applied_index < proof => {
            let found = sidecar.raft_applied_index;
            Err(StartError::SidecarStale { path: path(), found, applied: proof })
        }
        Some((SidecarContent::Ours(sidecar), bytes)) => {
            check_epochs(&sidecar, local, path)?;
            let keys = unwrap_all(in_force(&keyring.ring, &sidecar, local)?, wrapped_keys(&sidecar))?;
            guards.after_keys(&said)?;
            // What decodes as ours is canonical, so these are the bytes that encoding it would give.
            keyring.path.write(files, &bytes)?;
            hydrate(keystore, &keys);
            Ok(Held::Ours(Box::new(sidecar)))
        }
    }
}

/// The epochs that were claimed are in both places, the sidecar's first.
fn check_epochs(sidecar: &Sidecar, local: &Local, path: impl Fn() -> String) -> Result<(), StartError> {
    for (id, claimed) in &local.epochs {
        // A key that was retired is claimed no more.
        if let Some(found) = sidecar.keys.get(id).map(|key| key.local_epoch).filter(|found| found < claimed) {
            return Err(StartError::EpochBehind { path: path(), id: *id, found, claimed: *claimed });
        }
    }
    Ok(())
}

/// The KEK that the keys of a sidecar are wrapped under.
pub(super) fn in_force<'r>(
    ring: &'r KekRing,
    sidecar: &Sidecar,
    local: &Local,
) -> Result<&'r dyn Kek, RingError> {
    ring.in_force(sidecar.kek().or(local.kek))
}

pub(super) fn wrapped_keys(sidecar: &Sidecar) -> impl ExactSizeIterator<Item = (DekId, &[u8])> {
    sidecar.keys.iter().map(|(id, key)| (*id, key.wrapped.as_slice()))
}

/// Why the keys of a sidecar cannot be used.
pub(super) enum KeyFault {
    DoesNotOpen { id: DekId, fault: BlobFault },
    Unavailable(String),
    Equal(DekId, DekId),
}

impl From<KeyFault> for StartError {
    fn from(fault: KeyFault) -> StartError {
        match fault {
            KeyFault::DoesNotOpen { id, fault } => StartError::KekMismatch { id, fault },
            KeyFault::Unavailable(error) => StartError::KekUnavailable(error),
            KeyFault::Equal(one, other) => StartError::EqualKeyBytes(one, other),
        }
    }
}

/// Opens every key and refuses two with the same bytes.
pub(super) fn unwrap_all<'a>(
    kek: &dyn Kek,
    wrapped: impl ExactSizeIterator<Item = (DekId, &'a [u8])>,
) -> Result<Vec<(DekId, Dek)>, KeyFault> {
    // One that grew would leave copies of keys behind in what it outgrew.
    let mut keys: Vec<(DekId, Dek)> = Vec::with_capacity(wrapped.len());
    for (id, blob) in wrapped {
        let key = kek.unwrap(blob).map_err(|error| match error {
            UnwrapError::Blob(fault) => KeyFault::DoesNotOpen { id, fault },
            UnwrapError::Unavailable(error) => KeyFault::Unavailable(error.to_string()),
        })?;
        if let Some((other, _)) = keys.iter().find(|(_, known)| *known == key) {
            return Err(KeyFault::Equal(*other, id));
        }
        keys.push((id, key));
    }
    Ok(keys)
}

pub(super) fn hydrate(keystore: &Keystore, keys: &[(DekId, Dek)]) {
    keystore.insert_all(keys).expect("the ids of a map are distinct, and the keystore was empty");
}

fn sync_dir<F: Files>(files: &F, dir: &str) -> Result<(), StartError> {
    files.sync_dir(dir).map_err(|error| IoFault::new("sync the directory", dir, &error).into())
}
