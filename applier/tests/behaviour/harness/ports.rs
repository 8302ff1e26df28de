//! KEK, clock, randomness and registry that a test steers.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use applier::RaftIndex;
use applier::kek::LocalKek;
use applier::ports::{BlobFault, Clock, Entropy, Kek, KekCheck, UnwrapError};
use applier::registry::{
    Change, CommitError, HostPart, Local, LocalChange, RedbRegistry, Registry, RegistryError,
    RegistrySnapshot, RowKey, WriterRow,
};
use applier::secret::Dek;

const KEK_BYTES: [u8; 32] = [0x77; 32];

/// Fills every buffer with one byte.
struct Constant(u8);

impl Entropy for Constant {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(self.0);
        Ok(())
    }
}

/// The key of 32 times `byte`, wrapped under a nonce of 12 times `nonce`.
pub(crate) fn blob_with_nonce(byte: u8, nonce: u8) -> Vec<u8> {
    let wrapped = LocalKek::new(KEK_BYTES).wrap(&dek(byte), &Constant(nonce));
    wrapped.expect("this entropy does not fail").to_vec()
}

/// The key of 32 times `byte`, wrapped.
pub(crate) fn blob(byte: u8) -> Vec<u8> {
    blob_with_nonce(byte, byte)
}

/// The key of 32 times `byte`.
pub(crate) fn dek(byte: u8) -> Dek {
    Dek::new([byte; 32])
}

/// A KEK that counts how often it is asked, and that fails on demand.
pub(crate) struct TestKek {
    inner: LocalKek,
    asked: AtomicUsize,
    unavailable: AtomicBool,
    damaged: Mutex<Vec<Vec<u8>>>,
    pretended: Mutex<Option<KekCheck>>,
}

impl TestKek {
    /// The KEK that [`blob`] wraps under.
    pub(crate) fn new() -> TestKek {
        TestKek::of(KEK_BYTES)
    }

    /// Another one.
    pub(crate) fn of(bytes: [u8; 32]) -> TestKek {
        TestKek {
            inner: LocalKek::new(bytes),
            asked: AtomicUsize::new(0),
            unavailable: AtomicBool::new(false),
            damaged: Mutex::default(),
            pretended: Mutex::default(),
        }
    }

    /// The key of 32 times `byte`, wrapped under this KEK and a nonce of 12 times `nonce`.
    pub(crate) fn blob(&self, byte: u8, nonce: u8) -> Vec<u8> {
        self.inner.wrap(&dek(byte), &Constant(nonce)).expect("this entropy does not fail").to_vec()
    }

    /// How often it was asked since the last call of this.
    pub(crate) fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Whether it can be asked at all.
    pub(crate) fn set_available(&self, available: bool) {
        self.unavailable.store(!available, Ordering::Relaxed);
    }

    /// From now on this is its check value, as if it had become another KEK.
    pub(crate) fn pretend(&self, check: KekCheck) {
        *self.pretended.lock().expect("never poisoned") = Some(check);
    }

    /// From now on this blob does not open.
    pub(crate) fn damage(&self, blob: Vec<u8>) {
        self.damaged.lock().expect("never poisoned").push(blob);
    }
}

impl Kek for TestKek {
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.unavailable.load(Ordering::Relaxed) {
            return Err(UnwrapError::Unavailable(io::ErrorKind::TimedOut.into()));
        }
        if self.damaged.lock().expect("never poisoned").iter().any(|damaged| damaged == blob) {
            return Err(UnwrapError::Blob(BlobFault::Integrity));
        }
        self.inner.unwrap(blob)
    }

    fn check_value(&self) -> io::Result<KekCheck> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.unavailable.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match *self.pretended.lock().expect("never poisoned") {
            Some(check) => Ok(check),
            None => self.inner.check_value(),
        }
    }
}

/// A clock that stands where it was put.
pub(crate) struct FixedClock(AtomicU64);

impl FixedClock {
    pub(crate) const fn at(unix_seconds: u64) -> FixedClock {
        FixedClock(AtomicU64::new(unix_seconds))
    }

    pub(crate) fn put(&self, unix_seconds: u64) {
        self.0.store(unix_seconds, Ordering::Relaxed);
    }
}

impl Clock for FixedClock {
    fn unix_seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What becomes of a commit that reports an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitFault {
    Absent,
    Present,
}

/// What the registry is to do wrong, and what it has done.
#[derive(Debug, Default)]
pub(crate) struct RegistryControl {
    pub(crate) reads_fail: bool,
    pub(crate) commit: Option<CommitFault>,
    pub(crate) commits: usize,
}

/// The real registry with faults. Clones share it, so that many starts can be tried on one open database.
#[derive(Clone, Debug)]
pub(crate) struct FaultyRegistry {
    inner: Rc<RefCell<RedbRegistry>>,
    control: Rc<RefCell<RegistryControl>>,
}

impl FaultyRegistry {
    pub(crate) fn new(inner: RedbRegistry, control: Rc<RefCell<RegistryControl>>) -> FaultyRegistry {
        FaultyRegistry { inner: Rc::new(RefCell::new(inner)), control }
    }

    /// The database, for a host's own tables.
    pub(crate) fn database(&self) -> std::sync::Arc<redb::Database> {
        self.inner.borrow().database().clone()
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&RedbRegistry) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        match self.control.borrow().reads_fail {
            true => Err(read_error()),
            false => read(&self.inner.borrow()),
        }
    }

    fn write(
        &self,
        write: impl FnOnce(&mut RedbRegistry) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut control = self.control.borrow_mut();
        control.commits += 1;
        let fault = control.commit.take();
        if fault != Some(CommitFault::Absent) {
            write(&mut self.inner.borrow_mut())?;
        }
        match fault {
            Some(_) => Err(commit_error()),
            None => Ok(()),
        }
    }
}

/// The injected failure of a read.
pub(crate) fn read_error() -> RegistryError {
    RegistryError::Storage("injected".to_owned())
}

/// The injected failure of a commit.
pub(crate) fn commit_error() -> CommitError {
    CommitError("injected".to_owned())
}

impl Registry for FaultyRegistry {
    type Tx = redb::WriteTransaction;

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        self.read(RedbRegistry::applied_index)
    }

    fn local(&self) -> Result<Local, RegistryError> {
        self.read(RedbRegistry::local)
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        self.read(|inner| inner.rows(keys))
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        self.read(RedbRegistry::snapshot)
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, Self::Tx>) -> Result<(), CommitError> {
        self.write(|inner| inner.commit(change, host))
    }

    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError> {
        self.write(|inner| inner.keep(change))
    }

    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, Self::Tx>,
    ) -> Result<(), CommitError> {
        self.write(|inner| inner.restore(snapshot, sidecar_index, host))
    }
}
