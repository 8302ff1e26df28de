//! The registry in redb: three tables in the host's database, each commit two-phase and durable.
//!
//! ```text
//! encryption.writers   row key (27 bytes) -> row (12 bytes)      part of a snapshot
//! encryption.applied   () -> u64  index of the newest entry      part of a snapshot
//! encryption.local     "sidecar_index" -> u64                    this node's own, never part of a snapshot
//!                      "kek_check" -> u64
//!                      "next_kek_check" -> u64
//!                      "next_kek_generation" -> u64
//!                      "epoch:<key id>" -> u64
//! ```
//!
//! `sidecar_index` is the index of the newest entry that changed the sidecar: a sidecar below it is an old copy.
//! `kek_check` is there from the first promise or rewrap on: the check value of the KEK that the node has told a leader it
//! has, or that its keys are wrapped under, and without which it does not start again. `next_kek_check` is there from the
//! promise of a rewrap to the rewrap. `epoch:<key id>`, with the id in decimal, is the highest epoch that the node has
//! claimed under that key. No rollback and no installed snapshot takes any of them back.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Change, CommitError, HostPart, KEY_LEN, Local, LocalChange, Registry, RegistryError, RegistrySnapshot,
    RowKey, VALUE_LEN, WriterRow,
};
use crate::fault::{IoFault, parent, remove};
use crate::ids::{DekId, LocalEpoch, RaftIndex};
use crate::ports::{Files, KekCheck};

const WRITERS: TableDefinition<&[u8; KEY_LEN], &[u8; VALUE_LEN]> = TableDefinition::new("encryption.writers");
const APPLIED: TableDefinition<(), u64> = TableDefinition::new("encryption.applied");
const LOCAL: TableDefinition<&str, u64> = TableDefinition::new("encryption.local");
const SIDECAR_INDEX: &str = "sidecar_index";
const KEK_CHECK: &str = "kek_check";
const NEXT_KEK_CHECK: &str = "next_kek_check";
const NEXT_KEK_GENERATION: &str = "next_kek_generation";
const EPOCH: &str = "epoch:";

/// 4 MiB. redb's own default is 1 GiB, allocated as used; a registry is a few hundred pages.
const CACHE_BYTES: usize = 4_194_304;

/// Why a database file could not be opened or created. No content was overwritten. Where the file is a sound database
/// of another program, redb has opened it, and so may have repaired it and given back free space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The file exists and has no bytes. redb would silently make a new database of it.
    #[error("the database {path:?} is empty; restore it from a backup, or remove this node and add it again")]
    Empty {
        /// The file.
        path: String,
    },
    /// Another process holds it.
    #[error("the database {path:?} is open in another process; stop that one first")]
    Locked {
        /// The file.
        path: String,
    },
    /// Not a database, or one that is damaged.
    #[error(
        "the database {path:?} cannot be read ({message}); restore it from a backup, or remove this node and add \
         it again"
    )]
    NotADatabase {
        /// The file.
        path: String,
        /// What redb said.
        message: String,
    },
    /// A database without the registry's tables.
    #[error(
        "the database {path:?} was not created by this applier ({message}); point the database path at this node's own"
    )]
    NotARegistry {
        /// The file.
        path: String,
        /// What redb said.
        message: String,
    },
    /// A call to the operating system failed.
    #[error(transparent)]
    Io(#[from] IoFault),
    /// redb reported an I/O error.
    #[error(
        "the database {path:?} could not be opened ({message}); look at the disk and its log, then start again"
    )]
    Storage {
        /// The file.
        path: String,
        /// What redb said.
        message: String,
    },
}

/// The writer registry in a redb database, which the host may share.
#[derive(Debug)]
pub struct RedbRegistry {
    database: Arc<Database>,
}

/// Opens the database at `path`, which must exist, not be empty and hold the registry's tables.
///
/// # Errors
/// [`OpenError`]; a refusal changes no content.
pub fn open<F: Files>(files: &F, path: &str) -> Result<RedbRegistry, OpenError> {
    let len = files.len(path).map_err(|error| IoFault::new("look up", path, &error))?;
    if len == Some(0) {
        return Err(OpenError::Empty { path: path.to_owned() });
    }
    let backend = files.backend(path, false).map_err(|error| backend_fault(path, &error))?;
    let database = builder().create_with_backend(backend).map_err(|error| open_fault(path, error))?;
    let registry = RedbRegistry { database: Arc::new(database) };
    match registry.check_tables() {
        Ok(()) => Ok(registry),
        Err(message) => Err(OpenError::NotARegistry { path: path.to_owned(), message }),
    }
}

/// Creates the database under a temporary name, closes it, and only then gives it its name: a crash inside redb's
/// own creation would leave a file that every later open refuses.
///
/// # Errors
/// [`OpenError`]; `path` is then either absent or a whole database.
pub fn create<F: Files>(files: &F, path: &str) -> Result<(), OpenError> {
    let tmp = temporary(path);
    remove_leftover(files, path)?;
    let backend = files.backend(&tmp, true).map_err(|error| backend_fault(&tmp, &error))?;
    let storage = |message: String| OpenError::Storage { path: tmp.clone(), message };
    let database = builder().create_with_backend(backend).map_err(|error| open_fault(&tmp, error))?;
    create_tables(&database).map_err(|error| storage(error.to_string()))?;
    database.close().map_err(|error| storage(error.to_string()))?;
    files.rename(&tmp, path).map_err(|error| IoFault::new("rename to", path, &error))?;
    let dir = parent(path);
    files.sync_dir(dir).map_err(|error| IoFault::new("sync the directory", dir, &error))?;
    Ok(())
}

/// Keeps other processes from creating the database at `path` too, until the guard is dropped.
///
/// # Errors
/// [`OpenError::Locked`] where another process is at it.
pub fn lock_dir<F: Files>(files: &F, path: &str) -> Result<Box<dyn Send>, OpenError> {
    let dir = parent(path);
    files.lock_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_owned() },
        _ => OpenError::Io(IoFault::new("lock the directory", dir, &error)),
    })
}

/// Removes what a crash inside [`create`] left behind.
///
/// # Errors
/// Any failure other than that there is none.
pub fn remove_leftover<F: Files>(files: &F, path: &str) -> Result<(), IoFault> {
    remove(files, &temporary(path))
}

fn temporary(path: &str) -> String {
    format!("{path}.tmp")
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    // A file that was closed cleanly is otherwise trusted without a look at its checksums.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn backend_fault(path: &str, error: &std::io::Error) -> OpenError {
    OpenError::Io(IoFault::new("open", path, error))
}

fn open_fault(path: &str, error: redb::DatabaseError) -> OpenError {
    let path = path.to_owned();
    let message = error.to_string();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path },
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) if !is_damage(&error) => {
            OpenError::Storage { path, message }
        }
        _ => OpenError::NotADatabase { path, message },
    }
}

/// Whether a read failed because of what the file holds: bytes that redb cannot use, or an end too early.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    transaction.open_table(WRITERS)?;
    transaction.open_table(APPLIED)?.insert((), 0)?;
    transaction.open_table(LOCAL)?.insert(SIDECAR_INDEX, 0)?;
    transaction.commit()?;
    Ok(())
}

/// Two-phase, because a one-phase commit lets damage silently roll the newest acknowledged one back.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

impl RedbRegistry {
    /// The database itself, for the host's own tables. Whoever writes to it outside of [`Registry::commit`] gives up
    /// that the applied index and the data move together.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    fn check_tables(&self) -> Result<(), String> {
        let check = || -> Result<bool, redb::Error> {
            let view = self.database.begin_read()?;
            view.open_table(WRITERS)?;
            let applied = view.open_table(APPLIED)?.get(())?.is_some();
            Ok(applied && view.open_table(LOCAL)?.get(SIDECAR_INDEX)?.is_some())
        };
        match check() {
            Ok(true) => Ok(()),
            Ok(false) => Err("its indices are missing".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn write(
        &mut self,
        host: HostPart<'_, WriteTransaction>,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), CommitError> {
        let fault = |error: redb::Error| CommitError(error.to_string());
        let transaction = begin(&self.database).map_err(fault)?;
        fill(&transaction).map_err(fault)?;
        host(&transaction).map_err(|refused| CommitError(refused.to_string()))?;
        transaction.commit().map_err(|error| fault(error.into()))
    }
}

/// Moves the proof of the newest sidecar change; never down.
fn raise_sidecar_index(transaction: &WriteTransaction, index: RaftIndex) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(LOCAL)?;
    let before = table.get(SIDECAR_INDEX)?.map_or(0, |value| value.value());
    table.insert(SIDECAR_INDEX, before.max(index.0))?;
    Ok(())
}

/// Every value of the local table under its name.
fn read_local(rows: impl Iterator<Item = (String, u64)>) -> Result<Local, RegistryError> {
    let mut local = Local::default();
    for (name, value) in rows {
        let epoch = || {
            let id = name.strip_prefix(EPOCH)?.parse().ok().and_then(DekId::new)?;
            Some((id, LocalEpoch(u16::try_from(value).ok()?)))
        };
        match name.as_str() {
            SIDECAR_INDEX => local.sidecar_index = RaftIndex(value),
            KEK_CHECK => local.kek = Some(KekCheck::from_u64(value)),
            NEXT_KEK_CHECK => local.next_kek = Some(KekCheck::from_u64(value)),
            NEXT_KEK_GENERATION => {
                let generation = u32::try_from(value).map_err(|_| RegistryError::Local { name })?;
                local.next_generation = Some(generation);
            }
            _ => {
                let (id, epoch) = epoch().ok_or(RegistryError::Local { name })?;
                local.epochs.insert(id, epoch);
            }
        }
    }
    Ok(local)
}

fn storage(error: impl Into<redb::Error>) -> RegistryError {
    RegistryError::Storage(error.into().to_string())
}

impl Registry for RedbRegistry {
    type Tx = WriteTransaction;

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        let view = self.database.begin_read().map_err(storage)?;
        let table = view.open_table(APPLIED).map_err(storage)?;
        let value = table.get(()).map_err(storage)?;
        Ok(RaftIndex(value.map_or(0, |value| value.value())))
    }

    fn local(&self) -> Result<Local, RegistryError> {
        let view = self.database.begin_read().map_err(storage)?;
        let table = view.open_table(LOCAL).map_err(storage)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(storage)? {
            let (name, value) = row.map_err(storage)?;
            rows.push((name.value().to_owned(), value.value()));
        }
        read_local(rows.into_iter())
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        let view = self.database.begin_read().map_err(storage)?;
        let table = view.open_table(WRITERS).map_err(storage)?;
        let row = |key: &RowKey| match table.get(&key.encode()).map_err(storage)? {
            Some(value) => WriterRow::decode(value.value()).map(Some),
            None => Ok(None),
        };
        keys.iter().map(row).collect()
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        let view = self.database.begin_read().map_err(storage)?;
        let table = view.open_table(WRITERS).map_err(storage)?;
        let mut snapshot = RegistrySnapshot::default();
        for row in table.iter().map_err(storage)? {
            let (key, value) = row.map_err(storage)?;
            snapshot.rows.insert(RowKey::decode(key.value())?, WriterRow::decode(value.value())?);
        }
        let applied = view.open_table(APPLIED).map_err(storage)?;
        let value = applied.get(()).map_err(storage)?;
        snapshot.applied_index = RaftIndex(value.map_or(0, |value| value.value()));
        Ok(snapshot)
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, WriteTransaction>) -> Result<(), CommitError> {
        self.write(host, |transaction| {
            if !change.rows.is_empty() || change.retired.is_some() {
                let mut table = transaction.open_table(WRITERS)?;
                if let Some(id) = change.retired {
                    let row = |node16| RowKey { dek_id: id.get(), node16 }.encode();
                    table.retain_in::<&[u8; KEY_LEN], _>(&row(0)..=&row(u16::MAX), |_, _| false)?;
                }
                for (key, row) in &change.rows {
                    table.insert(&key.encode(), &row.encode())?;
                }
            }
            if let Some((generation, check)) = change.rewrapped {
                let mut table = transaction.open_table(LOCAL)?;
                table.insert(KEK_CHECK, check.to_u64())?;
                // A rewrap that is redelivered says nothing of the promise of a later one.
                let promised = table.get(NEXT_KEK_GENERATION)?.map(|generation| generation.value());
                if promised.is_some_and(|promised| promised <= u64::from(generation)) {
                    table.remove(NEXT_KEK_CHECK)?;
                    table.remove(NEXT_KEK_GENERATION)?;
                }
            }
            if let Some(index) = change.applied_index {
                transaction.open_table(APPLIED)?.insert((), index.0)?;
            }
            match change.sidecar_index {
                Some(index) => raise_sidecar_index(transaction, index),
                None => Ok(()),
            }
        })?;
        tracing::debug!(rows = change.rows.len(), applied = ?change.applied_index.map(|index| index.0), "registry committed");
        Ok(())
    }

    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError> {
        self.write(&mut |_| Ok(()), |transaction| {
            let mut table = transaction.open_table(LOCAL)?;
            match change {
                LocalChange::Promise(check) => table.insert(KEK_CHECK, check.to_u64())?,
                LocalChange::PromiseNext(check, generation) => {
                    table.insert(NEXT_KEK_GENERATION, u64::from(generation))?;
                    table.insert(NEXT_KEK_CHECK, check.to_u64())?
                }
                LocalChange::Claim(id, epoch) => {
                    let name = format!("{EPOCH}{id}");
                    let before = table.get(name.as_str())?.map_or(0, |value| value.value());
                    table.insert(name.as_str(), before.max(u64::from(epoch.0)))?
                }
            };
            Ok(())
        })?;
        tracing::debug!(?change, "local change committed");
        Ok(())
    }

    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, WriteTransaction>,
    ) -> Result<(), CommitError> {
        self.write(host, |transaction| {
            let mut table = transaction.open_table(WRITERS)?;
            table.retain(|_, _| false)?;
            for (key, row) in &snapshot.rows {
                table.insert(&key.encode(), &row.encode())?;
            }
            transaction.open_table(APPLIED)?.insert((), snapshot.applied_index.0)?;
            match sidecar_index {
                Some(index) => raise_sidecar_index(transaction, index),
                None => Ok(()),
            }
        })
    }
}
