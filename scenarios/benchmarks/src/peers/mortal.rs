//! Files of a process that dies before a call of its choice. From there on every call fails and changes nothing, as if
//! nobody were left to make it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use applier::ports::{Files, WriteFile};
use redb::StorageBackend;

use super::forward_locks;

/// When a process dies, and whether it has.
pub struct Mortality {
    calls: AtomicU64,
    before: u64,
    dead: AtomicBool,
    /// What is done at its death, if it is still there to do anything.
    then: Box<dyn Fn() + Send + Sync>,
}

impl Mortality {
    /// Death before the mutating call of this number, from 0.
    pub fn before(call: u64) -> Arc<Mortality> {
        Mortality::then(call, || {})
    }

    /// The same, and then something more.
    pub fn then(call: u64, then: impl Fn() + Send + Sync + 'static) -> Arc<Mortality> {
        let (calls, dead) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Mortality { calls, before: call, dead, then: Box::new(then) })
    }

    /// No death at all.
    pub fn never() -> Arc<Mortality> {
        Mortality::before(u64::MAX)
    }

    /// How many mutating calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Death now, wherever it is.
    pub fn die(&self) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            (self.then)();
        }
    }

    fn is_alive(&self) -> io::Result<()> {
        match self.is_dead() {
            true => Err(io::Error::other("the process is dead")),
            false => Ok(()),
        }
    }

    /// Before a call that changes something.
    fn mutates(&self) -> io::Result<()> {
        self.is_alive()?;
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.before {
            self.die();
        }
        self.is_alive()
    }
}

impl fmt::Debug for Mortality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mortality").field("calls", &self.calls()).field("before", &self.before).finish()
    }
}

/// The files of a process that may die.
#[derive(Clone, Debug)]
pub struct MortalFiles<F> {
    /// The files as such.
    pub inner: F,
    /// When it dies.
    pub mortality: Arc<Mortality>,
}

impl<F: Files> Files for MortalFiles<F> {
    type Backend = MortalBackend<F::Backend>;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        self.mortality.is_alive()?;
        self.inner.open_read(path)
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        self.mortality.mutates()?;
        let inner = self.inner.create_new(path)?;
        Ok(Box::new(MortalFile { inner, mortality: Arc::clone(&self.mortality) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.unlink(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.sync_dir(path)
    }

    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        self.mortality.is_alive()?;
        self.inner.lock_dir(path)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.mortality.is_alive()?;
        self.inner.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<MortalBackend<F::Backend>> {
        match create {
            true => self.mortality.mutates()?,
            false => self.mortality.is_alive()?,
        }
        let inner = self.inner.backend(path, create)?;
        Ok(MortalBackend { inner, mortality: Arc::clone(&self.mortality) })
    }
}

struct MortalFile {
    inner: Box<dyn WriteFile>,
    mortality: Arc<Mortality>,
}

impl io::Write for MortalFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.mortality.mutates()?;
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl WriteFile for MortalFile {
    fn sync(&mut self) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.sync()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.mortality.is_alive()?;
        self.inner.close()
    }
}

/// The database's file of a process that may die.
#[derive(Debug)]
pub struct MortalBackend<B> {
    inner: B,
    mortality: Arc<Mortality>,
}

impl<B: StorageBackend> StorageBackend for MortalBackend<B> {
    fn len(&self) -> io::Result<u64> {
        self.mortality.is_alive()?;
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.mortality.is_alive()?;
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.mortality.mutates()?;
        self.inner.write(offset, data)
    }

    forward_locks!();
}
