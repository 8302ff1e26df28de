//! What variants do to the files.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use applier::ports::{Files, WriteFile};
use redb::StorageBackend;

use super::Variant;
use crate::peers::forward_locks;
use crate::peers::life::Place;

/// Files that do what a variant says.
#[derive(Clone)]
pub struct VariedFiles<F> {
    inner: F,
    variant: Variant,
    sidecar: String,
    temporary: String,
    directory: String,
    database: String,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// Whether the start is over.
    started: bool,
    /// What the temporary sidecar would hold, if there were one.
    written: Vec<u8>,
    /// Whether a rename still waits for the sync of its directory.
    renamed: bool,
    /// Whether a rename waits for the commit of its entry.
    held: bool,
}

impl<F> fmt::Debug for VariedFiles<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariedFiles").field("variant", &self.variant).finish_non_exhaustive()
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Files> VariedFiles<F> {
    /// The files of one life.
    pub fn new(inner: F, variant: Variant, place: &Place) -> VariedFiles<F> {
        VariedFiles {
            inner,
            variant,
            sidecar: place.sidecar.clone(),
            temporary: format!("{}.tmp", place.sidecar),
            directory: place.sidecar_directory.clone(),
            database: place.database.clone(),
            memory: Arc::default(),
        }
    }

    /// The start is over.
    pub fn started(&self) {
        lock(&self.memory).started = true;
    }

    /// The commit of an entry is done: a rename that waited for it is made.
    pub(super) fn release(&self) -> io::Result<()> {
        match std::mem::take(&mut lock(&self.memory).held) {
            true => {
                self.inner.rename(&self.temporary, &self.sidecar)?;
                self.inner.sync_dir(&self.directory)
            }
            false => Ok(()),
        }
    }

    /// Whether the sidecar is written by a start that does not write it.
    fn only_pretends(&self) -> bool {
        self.variant == Variant::StartTrustsTheCache && !lock(&self.memory).started
    }

    /// A file of the database's kind is the only one that can be written again without being made anew.
    fn write_in_place(&self) -> io::Result<()> {
        let bytes = std::mem::take(&mut lock(&self.memory).written);
        let is_new = self.inner.len(&self.sidecar)?.is_none();
        let file = self.inner.backend(&self.sidecar, is_new)?;
        file.set_len(0)?;
        file.write(0, &bytes)?;
        file.sync_data()
    }
}

impl<F: Files> Files for VariedFiles<F> {
    type Backend = VariedBackend<F::Backend>;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        self.inner.open_read(path)
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        if path != self.temporary {
            return self.inner.create_new(path);
        }
        if self.variant == Variant::WrittenInPlace || self.only_pretends() {
            lock(&self.memory).written.clear();
            return Ok(Box::new(Nowhere { memory: Arc::clone(&self.memory) }));
        }
        let inner = self.inner.create_new(path)?;
        Ok(Box::new(VariedFile { inner, variant: self.variant, bytes: Vec::new() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if to != self.sidecar {
            return self.inner.rename(from, to);
        }
        if self.only_pretends() {
            return Ok(());
        }
        match self.variant {
            Variant::WrittenInPlace => return self.write_in_place(),
            Variant::DatabaseBeforeSidecar if lock(&self.memory).started => {
                lock(&self.memory).held = true;
                return Ok(());
            }
            Variant::OldRemovedFirst => match self.inner.unlink(to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
            Variant::DirectorySyncedFirst => self.inner.sync_dir(&self.directory)?,
            _ => {}
        }
        self.inner.rename(from, to)?;
        lock(&self.memory).renamed = true;
        match self.variant {
            Variant::SyncedAfterRename => self.inner.backend(to, false)?.sync_data(),
            _ => Ok(()),
        }
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        if path == self.directory {
            let renamed = std::mem::take(&mut lock(&self.memory).renamed);
            let held = lock(&self.memory).held;
            let left_out = match self.variant {
                Variant::DirectoryNotSynced => true,
                Variant::DirectorySyncedFirst => renamed,
                Variant::DatabaseBeforeSidecar => held,
                Variant::StartTrustsTheCache => self.only_pretends(),
                _ => false,
            };
            if left_out {
                return Ok(());
            }
        }
        self.inner.sync_dir(path)
    }

    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        self.inner.lock_dir(path)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.inner.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<VariedBackend<F::Backend>> {
        let inner = self.inner.backend(path, create)?;
        // While it is made, under its temporary name, it is synced: what is wrong are its commits.
        let syncs = self.variant != Variant::DatabaseNotSynced || path != self.database;
        Ok(VariedBackend { inner, syncs })
    }
}

/// A temporary sidecar.
struct VariedFile {
    inner: Box<dyn WriteFile>,
    variant: Variant,
    /// What is written when it is synced.
    bytes: Vec<u8>,
}

impl io::Write for VariedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.variant {
            Variant::SyncedHalfWay => {
                self.bytes.extend(buf);
                Ok(buf.len())
            }
            _ => self.inner.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl WriteFile for VariedFile {
    fn sync(&mut self) -> io::Result<()> {
        match self.variant {
            Variant::TemporaryNotSynced | Variant::SyncedAfterRename => Ok(()),
            Variant::SyncedHalfWay => {
                let (first, second) = self.bytes.split_at(self.bytes.len() / 2);
                self.inner.write_all(first)?;
                self.inner.sync()?;
                self.inner.write_all(second)
            }
            _ => self.inner.sync(),
        }
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.inner.close()
    }
}

/// A temporary sidecar that there is not.
struct Nowhere {
    memory: Arc<Mutex<Memory>>,
}

impl io::Write for Nowhere {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        lock(&self.memory).written.extend(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Nowhere {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// The database's file.
#[derive(Debug)]
pub struct VariedBackend<B> {
    inner: B,
    syncs: bool,
}

impl<B: StorageBackend> StorageBackend for VariedBackend<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.syncs {
            true => self.inner.sync_data(),
            false => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    forward_locks!();
}
