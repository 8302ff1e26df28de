//! A KEK that lies.

use std::io;
use std::sync::Arc;

use applier::ports::{BlobFault, Files, Kek, KekCheck, UnwrapError};
use applier::secret::Dek;

use super::past::Past;
use crate::seam::{SimFiles, SimKek};

/// How a KEK lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KekLie {
    /// It refuses every other sound blob, by the last bit of its bytes.
    RefuseSound,
    /// It opens a blob in the first life that asks, and refuses it ever after.
    RefuseAfterRestart,
    /// It opens what must not open, to bytes of its own.
    OpenDamaged,
    /// What it has refused in one life it opens in the next.
    ChangeItsMind,
    /// It opens every blob to other bytes than are inside.
    OtherBytes,
    /// It opens a second wrapping of a key to other bytes than the first.
    HideEqualKeys,
    /// It writes down on the node's disk which blobs it has refused.
    KeepALog,
    /// It writes the keys that it has opened on the node's disk, to be quicker the next time.
    CacheOnDisk,
    /// It is out of reach, and stays so when all faults are over.
    NeverComeBack,
}

/// A KEK that lies, in front of an honest one.
pub(super) struct LyingKek {
    pub(super) inner: Arc<SimKek>,
    pub(super) lie: KekLie,
    pub(super) past: Arc<Past>,
    pub(super) files: SimFiles,
}

impl Kek for LyingKek {
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError> {
        if self.lie == KekLie::NeverComeBack {
            // Met as one of the world's own faults would be, so that the world goes on trying.
            self.inner.outage().set(true);
        }
        match self.inner.unwrap(blob) {
            Ok(dek) => self.opened(blob, dek),
            Err(UnwrapError::Blob(fault)) => self.refused(blob, fault),
            Err(unavailable) => Err(unavailable),
        }
    }

    fn check_value(&self) -> io::Result<KekCheck> {
        self.inner.check_value()
    }
}

impl LyingKek {
    fn opened(&self, blob: &[u8], dek: Dek) -> Result<Dek, UnwrapError> {
        let refuse = match self.lie {
            KekLie::RefuseSound => blob.last().is_some_and(|byte| byte & 1 == 1),
            KekLie::RefuseAfterRestart => self.asked_in_an_earlier_life(blob),
            KekLie::OtherBytes => return Ok(other(dek.expose())),
            KekLie::HideEqualKeys => {
                let mut memory = self.past.lock();
                let first = memory.found_in.entry(*dek.expose()).or_insert_with(|| blob.to_vec());
                return Ok(if first == blob { dek } else { other(dek.expose()) });
            }
            KekLie::CacheOnDisk => {
                self.write_down("cache", dek.expose());
                false
            }
            _ => false,
        };
        if refuse { Err(UnwrapError::Blob(BlobFault::Integrity)) } else { Ok(dek) }
    }

    fn refused(&self, blob: &[u8], fault: BlobFault) -> Result<Dek, UnwrapError> {
        let open = match self.lie {
            KekLie::OpenDamaged => true,
            KekLie::ChangeItsMind => self.asked_in_an_earlier_life(blob),
            KekLie::KeepALog => {
                self.write_down("refused", blob);
                false
            }
            _ => false,
        };
        if open { Ok(other(blob)) } else { Err(UnwrapError::Blob(fault)) }
    }

    fn asked_in_an_earlier_life(&self, blob: &[u8]) -> bool {
        let mut memory = self.past.lock();
        let life = memory.life;
        *memory.asked.entry(blob.to_vec()).or_insert(life) < life
    }

    /// Writes a new file beside the sidecar. That the disk may refuse is none of a KEK's business.
    fn write_down(&self, what: &str, bytes: &[u8]) {
        let number = {
            let mut memory = self.past.lock();
            memory.files += 1;
            memory.files
        };
        if let Ok(mut file) = self.files.create_new(&format!("/data/kek-{what}.{number}")) {
            let _ = file.write_all(bytes);
        }
    }
}

/// Key bytes that depend on `bytes` and are none of any world's.
fn other(bytes: &[u8]) -> Dek {
    let mut key = [0x5a; 32];
    key.iter_mut().zip(bytes).for_each(|(key, byte)| *key ^= byte);
    Dek::new(key)
}
