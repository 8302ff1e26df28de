//! The key encryption key, from a file that only its owner can read.
//!
//! A wrapped key is a blob of 60 bytes, AES-256-GCM with empty associated data (so it is bound neither to a key id
//! nor to a purpose):
//!
//! ```text
//! nonce 12 | ciphertext 32 | tag 16
//! ```

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::Arc;

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::fault::IoFault;
use crate::ports::{BlobFault, Entropy, Kek, KekCheck, UnwrapError};
use crate::secret::{Dek, KEY_LEN};

/// Length of a GCM nonce in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of a GCM tag in bytes.
pub const TAG_LEN: usize = 16;

/// Length of a wrapped key in bytes.
pub const BLOB_LEN: usize = NONCE_LEN + KEY_LEN + TAG_LEN;

/// What is hashed before the KEK, so that its check value is equal to no other digest of these bytes.
const CHECK_DOMAIN: &[u8] = b"encryption applier: check value of a KEK, version 1\0";

/// A KEK in memory, for tests and tools, and behind [`FileKek`]. Of its bytes it keeps the cipher and the check value
/// alone; that is the first eight bytes of a SHA-256 over a constant and the KEK.
pub struct LocalKek {
    cipher: Aes256Gcm,
    check: KekCheck,
}

impl LocalKek {
    /// Takes the KEK over; the caller wipes its own copy.
    pub fn new(bytes: [u8; KEY_LEN]) -> LocalKek {
        let bytes = Zeroizing::new(bytes);
        let digest: [u8; 32] =
            Sha256::new().chain_update(CHECK_DOMAIN).chain_update(bytes.as_slice()).finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let check = KekCheck([a, b, c, d, e, f, g, h]);
        LocalKek { cipher: Aes256Gcm::new((&*bytes).into()), check }
    }

    /// Wraps a key under a random nonce.
    ///
    /// # Errors
    /// Those of `entropy`; nothing was encrypted then.
    pub fn wrap(&self, dek: &Dek, entropy: &dyn Entropy) -> io::Result<[u8; BLOB_LEN]> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce)?;
        // Encrypted in a buffer that is wiped, so that the blob is never plaintext, not even on its way.
        let mut key = Zeroizing::new(*dek.expose());
        let tag = self
            .cipher
            .encrypt_inout_detached((&nonce).into(), b"", key.as_mut_slice().into())
            .expect("a key is shorter than the longest plaintext of GCM");
        let mut blob = [0; BLOB_LEN];
        blob[..NONCE_LEN].copy_from_slice(&nonce);
        blob[NONCE_LEN..NONCE_LEN + KEY_LEN].copy_from_slice(key.as_slice());
        blob[NONCE_LEN + KEY_LEN..].copy_from_slice(&tag);
        Ok(blob)
    }
}

impl Kek for LocalKek {
    /// Never [`UnwrapError::Unavailable`].
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError> {
        let (nonce, key, tag) = split(blob).ok_or(UnwrapError::Blob(BlobFault::Length(blob.len())))?;
        let mut key = Zeroizing::new(*key);
        match self.cipher.decrypt_inout_detached(nonce.into(), b"", key.as_mut_slice().into(), tag.into()) {
            Ok(()) => Ok(Dek::new(*key)),
            Err(_) => Err(UnwrapError::Blob(BlobFault::Integrity)),
        }
    }

    /// Never fails.
    fn check_value(&self) -> io::Result<KekCheck> {
        Ok(self.check)
    }
}

impl fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalKek(..)")
    }
}

/// Nonce, ciphertext and tag of a blob, or `None` where its length is not [`BLOB_LEN`].
fn split(blob: &[u8]) -> Option<(&[u8; NONCE_LEN], &[u8; KEY_LEN], &[u8; TAG_LEN])> {
    let (nonce, rest) = blob.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    Some((nonce, key, rest.try_into().ok()?))
}

/// The KEKs that a node has: one, or while they are exchanged two.
///
/// ```text
/// 1  start every member with the new KEK as the current one and the old one as the previous one
/// 2  propose a rewrap to the new KEK; it is admitted once every member has promised to keep it
/// 3  where `Applier::kek_status` says that the previous one may be withdrawn, start that node without it
/// ```
///
/// Once a member has promised to keep the new one it does not start without both, until the rewrap is applied: that may be
/// committed already. So neither is destroyed in between, and a rewrap that was begun is finished before another one.
///
/// Which of them is *in force*, so that wrapped keys are judged under it and under no other, is decided by the log alone:
/// the one that the newest rewrap names; before the first rewrap the one that this node has promised to keep; before any
/// promise the previous one, where there is one.
#[derive(Clone)]
pub struct KekRing {
    current: Arc<dyn Kek>,
    previous: Option<Arc<dyn Kek>>,
}

/// Why a ring has no KEK in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The one that is in force is not there.
    #[error(
        "the KEK with the check value {wanted} is not configured; configure it, as the previous one where another one is \
         the current one"
    )]
    Missing {
        /// Its check value.
        wanted: KekCheck,
    },
    /// One of them could not be asked.
    #[error("the KEK could not be used: {0}")]
    Unavailable(String),
}

impl KekRing {
    /// A ring of one.
    pub fn new(current: Arc<dyn Kek>) -> KekRing {
        KekRing { current, previous: None }
    }

    /// With the KEK that is to be withdrawn after a rewrap.
    pub fn with_previous(self, previous: Arc<dyn Kek>) -> KekRing {
        KekRing { previous: Some(previous), ..self }
    }

    /// The KEK that is in force where the newest rewrap, or else this node's promise, names `named`.
    ///
    /// # Errors
    /// [`RingError`]. Without a name no KEK is asked for its check value, and nothing fails.
    pub fn in_force(&self, named: Option<KekCheck>) -> Result<&dyn Kek, RingError> {
        match named {
            None => Ok(self.previous.as_deref().unwrap_or(self.current.as_ref())),
            Some(wanted) => self.find(wanted)?.ok_or(RingError::Missing { wanted }),
        }
    }

    /// The KEK with this check value.
    ///
    /// # Errors
    /// [`RingError::Unavailable`] where one could not be asked before it was found.
    pub fn find(&self, wanted: KekCheck) -> Result<Option<&dyn Kek>, RingError> {
        for kek in std::iter::once(&self.current).chain(&self.previous) {
            if check_value(kek.as_ref())? == wanted {
                return Ok(Some(kek.as_ref()));
            }
        }
        Ok(None)
    }

    /// Check value of the current KEK.
    ///
    /// # Errors
    /// [`RingError::Unavailable`].
    pub fn current(&self) -> Result<KekCheck, RingError> {
        check_value(self.current.as_ref())
    }

    /// Check value of the previous KEK, where there is one.
    ///
    /// # Errors
    /// [`RingError::Unavailable`].
    pub fn previous(&self) -> Result<Option<KekCheck>, RingError> {
        self.previous.as_deref().map(check_value).transpose()
    }
}

fn check_value(kek: &dyn Kek) -> Result<KekCheck, RingError> {
    kek.check_value().map_err(|error| RingError::Unavailable(error.to_string()))
}

impl<K: Kek + 'static> From<Arc<K>> for KekRing {
    fn from(kek: Arc<K>) -> KekRing {
        KekRing::new(kek)
    }
}

impl From<Arc<dyn Kek>> for KekRing {
    fn from(kek: Arc<dyn Kek>) -> KekRing {
        KekRing::new(kek)
    }
}

impl fmt::Debug for KekRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KekRing").field("previous", &self.previous.is_some()).finish_non_exhaustive()
    }
}

/// A KEK that was read from a file of exactly 32 raw bytes.
pub struct FileKek {
    path: String,
    kek: LocalKek,
}

/// Why a KEK file was not taken. Each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// The file does not open.
    #[error("{0}; point the KEK path at a file that this user may read")]
    Open(IoFault),
    /// The opened file does not tell its kind and mode.
    #[error("{0}; move the KEK file to a filesystem that keeps permissions")]
    Stat(IoFault),
    /// Not a regular file.
    #[error("{path:?} is not a regular file; point the KEK path at a file of {KEY_LEN} bytes")]
    NotRegular {
        /// The KEK path.
        path: String,
    },
    /// Others than the owner have access.
    #[error("{path:?} has mode {mode:04o}: others than its owner have access; run `chmod 600` on it")]
    InsecureMode {
        /// The KEK path.
        path: String,
        /// The permission bits.
        mode: u32,
    },
    /// The file does not read.
    #[error("{0}; restore the KEK file from its backup if this persists")]
    Read(IoFault),
    /// Not exactly 32 bytes.
    #[error("{path:?} has {}{got} bytes; a KEK is {KEY_LEN} raw bytes, neither hex nor base64, without a line end",
            if *got > KEY_LEN { "at least " } else { "" })]
    Size {
        /// The KEK path.
        path: String,
        /// The bytes found. No more than 33 are read, so 33 stands for any larger number.
        got: usize,
    },
}

impl FileKek {
    /// Loads the KEK. Every check is made on the descriptor that is then read, so that the file cannot be exchanged
    /// between check and use.
    ///
    /// # Errors
    /// In the order of the checks: the file opens (without waiting for a pipe's writer), is a regular file, gives
    /// neither group nor others any access (on Unix), and holds exactly 32 bytes.
    pub fn load(path: &str) -> Result<FileKek, KekError> {
        let file =
            open_nonblocking(path).map_err(|error| KekError::Open(IoFault::new("open", path, &error)))?;
        let metadata = file.metadata().map_err(|error| KekError::Stat(IoFault::new("stat", path, &error)))?;
        if !metadata.is_file() {
            return Err(KekError::NotRegular { path: path.to_owned() });
        }
        if let Some(mode) = insecure_mode(&metadata) {
            return Err(KekError::InsecureMode { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new([0; KEY_LEN + 1]);
        let got = read_up_to(&file, bytes.as_mut_slice())
            .map_err(|error| KekError::Read(IoFault::new("read", path, &error)))?;
        match bytes.split_first_chunk::<KEY_LEN>() {
            Some((key, _)) if got == KEY_LEN => {
                Ok(FileKek { path: path.to_owned(), kek: LocalKek::new(*key) })
            }
            _ => Err(KekError::Size { path: path.to_owned(), got }),
        }
    }

    /// `file:` and the path that it was loaded from.
    pub fn name(&self) -> String {
        format!("file:{}", self.path)
    }

    /// Wraps a key under a random nonce.
    ///
    /// # Errors
    /// Those of `entropy`; nothing was encrypted then.
    pub fn wrap(&self, dek: &Dek, entropy: &dyn Entropy) -> io::Result<[u8; BLOB_LEN]> {
        self.kek.wrap(dek, entropy)
    }
}

impl Kek for FileKek {
    /// Never [`UnwrapError::Unavailable`]: the file is not asked again.
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError> {
        self.kek.unwrap(blob)
    }

    /// Never fails: the file is not asked again.
    fn check_value(&self) -> io::Result<KekCheck> {
        self.kek.check_value()
    }
}

impl fmt::Debug for FileKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKek").field("path", &self.path).finish_non_exhaustive()
    }
}

fn open_nonblocking(path: &str) -> io::Result<File> {
    // Opening a pipe that nobody writes to would wait for ever.
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// The permission bits, if they give anyone but the owner access.
fn insecure_mode(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Reads until `buf` is full or the file ends, and returns the number of bytes. The standard library's `read_to_end`
/// would leave copies of the key in the buffers that it outgrows.
fn read_up_to(mut file: impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match file.read(&mut buf[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests;
