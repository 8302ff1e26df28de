//! The outside world as a few small traits. Production implementations: [`crate::os`] (files, clock,
//! randomness), [`crate::kek`] (key encryption key), [`crate::registry`] (redb). A test or a simulation
//! brings its own.

use std::fmt;
use std::io;

use crate::secret::Dek;

/// Files, one method an operating-system call, so that a crash may fall between any two of them.
///
/// Paths are UTF-8 and `/`-separated. Every error keeps its operating-system errno.
pub trait Files: Send + Sync {
    /// A database file as redb wants it.
    type Backend: redb::StorageBackend;

    /// Opens an existing regular file for reading. Short reads are allowed, as with `read(2)`.
    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>>;

    /// Creates a file that must not exist (`O_CREAT|O_EXCL`, mode 0600) for writing. Short writes are allowed.
    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>>;

    /// Replaces `to` by `from`, atomically for whoever opens `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Locks a directory against whoever else locks it, in this process or another, until the guard is dropped.
    /// `WouldBlock` where it is locked already.
    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>>;

    /// Length of the file in bytes, or `None` where the name does not exist.
    fn len(&self, path: &str) -> io::Result<Option<u64>>;

    /// Opens an existing file, or (with `create`) one that must not exist, as the storage of a database. redb locks it
    /// against other processes when it opens the database on it.
    fn backend(&self, path: &str, create: bool) -> io::Result<Self::Backend>;
}

/// A file open for writing.
pub trait WriteFile: io::Write {
    /// Makes data and length durable (`fsync`).
    fn sync(&mut self) -> io::Result<()>;

    /// Closes the file and reports what `close(2)` reports.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// The key that wraps data encryption keys.
pub trait Kek: Send + Sync {
    /// Opens a wrapped key.
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError>;

    /// What tells this KEK from another one.
    ///
    /// # Errors
    /// The KEK could not be asked; the same call may succeed later.
    fn check_value(&self) -> io::Result<KekCheck>;
}

/// Equal for equal KEKs, and says nothing else about either: members of a cluster compare it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekCheck(pub [u8; 8]);

impl KekCheck {
    /// The eight bytes, read in big-endian order.
    pub const fn from_u64(value: u64) -> KekCheck {
        KekCheck(value.to_be_bytes())
    }

    /// The number that [`KekCheck::from_u64`] takes back.
    pub const fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Display for KekCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.to_u64())
    }
}

impl fmt::Debug for KekCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KekCheck({self})")
    }
}

/// Why a wrapped key did not open.
#[derive(Debug, thiserror::Error)]
pub enum UnwrapError {
    /// The blob itself is at fault: wrong length, or its tag does not verify under this KEK. Every replica
    /// with the same KEK sees the same.
    #[error("the wrapped key does not open under this KEK: {0}")]
    Blob(BlobFault),
    /// The KEK could not be asked (a remote service, say); the same call may succeed later.
    #[error("the KEK could not be used: {0}")]
    Unavailable(#[source] io::Error),
}

/// What is wrong with a wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobFault {
    /// Not 60 bytes.
    #[error("it has {0} bytes instead of 60")]
    Length(usize),
    /// The AES-GCM tag does not verify.
    #[error("its tag does not verify")]
    Integrity,
}

/// Wall-clock time, used for the diagnostic `created` field alone: no decision depends on it.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn unix_seconds(&self) -> u64;
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer or fails.
    fn fill(&self, buf: &mut [u8]) -> io::Result<()>;
}
