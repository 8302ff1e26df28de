//! A member that takes a snapshot in the wrong way round: its database first, its sidecar after that. The applier is ours
//! and unchanged. Its files hold the rename of a sidecar back until the registry is written to, and the registry makes
//! up for it: before an entry's commit, where it does no harm, and behind that of a snapshot.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use applier::ports::{Files, WriteFile};
use applier::registry::{
    Change, CommitError, HostPart, Local, LocalChange, RedbRegistry, Registry, RegistryError,
    RegistrySnapshot, RowKey, WriterRow,
};
use applier::{RaftIndex, StartError};
use redb::WriteTransaction;

use crate::seam::{HostsData, SimFiles, SimRegistry};
use crate::subject::{Member, SIDECAR, Surroundings, hardened};

/// Starts a life of it.
pub(super) fn start(world: &Surroundings) -> Result<Box<dyn Member>, StartError> {
    let late = LateFiles { inner: world.files.clone(), held: Arc::default() };
    let in_front = |inner| LateRegistry { inner, files: late.clone() };
    hardened::start_on(world, late.clone(), Arc::clone(&world.kek) as _, in_front)
}

/// Files that hold the sidecar's rename back.
#[derive(Clone)]
struct LateFiles<F> {
    inner: F,
    /// The temporary name, where a rename was held back.
    held: Arc<Mutex<Option<String>>>,
}

impl<F: Files> LateFiles<F> {
    fn hold(&self, from: Option<&str>) -> Option<String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, from.map(str::to_owned))
    }

    fn make_up(&self) -> Result<(), CommitError> {
        let Some(from) = self.hold(None) else { return Ok(()) };
        let late = || {
            self.inner.rename(&from, SIDECAR)?;
            self.inner.sync_dir("/data")
        };
        late().map_err(|error: io::Error| CommitError(error.to_string()))
    }
}

impl<F: Files> Files for LateFiles<F> {
    type Backend = F::Backend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        self.inner.open_read(path)
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        // Whatever was held back is not there any more.
        self.hold(None);
        self.inner.create_new(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if to != SIDECAR {
            return self.inner.rename(from, to);
        }
        self.hold(Some(from));
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        self.inner.lock_dir(path)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.inner.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<F::Backend> {
        self.inner.backend(path, create)
    }
}

struct LateRegistry {
    inner: SimRegistry,
    files: LateFiles<SimFiles>,
}

impl HostsData for LateRegistry {
    fn redb(&self) -> &RedbRegistry {
        self.inner.redb()
    }
}

impl Registry for LateRegistry {
    type Tx = WriteTransaction;

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        self.inner.applied_index()
    }

    fn local(&self) -> Result<Local, RegistryError> {
        self.inner.local()
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        self.inner.rows(keys)
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        self.inner.snapshot()
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, WriteTransaction>) -> Result<(), CommitError> {
        self.files.make_up()?;
        self.inner.commit(change, host)
    }

    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError> {
        self.inner.keep(change)
    }

    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, WriteTransaction>,
    ) -> Result<(), CommitError> {
        self.inner.restore(snapshot, sidecar_index, host)?;
        self.files.make_up()
    }
}
