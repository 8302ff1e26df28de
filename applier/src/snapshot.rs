//! A snapshot: everything that a node needs of another one instead of the log up to one index.
//!
//! ```text
//! magic          8   "encsnap\0"
//! version        4   u32 BE, 1
//! rows           4   u32 BE, how many
//! sidecar        4   u32 BE, length in bytes; 0 = none
//! applied index  8   u64 BE
//! rows          39   each: key 27 | value 12, keys ascending (see `registry`)
//! sidecar            its canonical JSON, every local epoch 0 (see `sidecar::json`)
//! checksum      32   SHA-256 of everything before it
//! ```
//!
//! Reading is strict: what is read is what was written, byte for byte. Whether the content belongs to the log of the
//! node that reads it is for [`Applier::install`](crate::Applier::install) to say.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::ids::{DekId, LocalEpoch, RaftIndex};
use crate::registry::{KEY_LEN, RegistryError, RegistrySnapshot, RowKey, VALUE_LEN, WriterRow};
use crate::sidecar::json::{self, SidecarError};
use crate::sidecar::{Sidecar, SidecarContent};

const MAGIC: [u8; 8] = *b"encsnap\0";
const HEADER_LEN: usize = 28;
const ROW_LEN: usize = KEY_LEN + VALUE_LEN;
const CHECKSUM_LEN: usize = 32;

/// The version that is written and read.
pub const VERSION: u32 = 1;

/// Everything that a snapshot carries, at one applied index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The rows, and the index.
    pub registry: RegistrySnapshot,
    /// The sidecar as of that index; `None` before the bootstrap. Its local epochs are 0: a node's own epochs never
    /// come from another node.
    pub sidecar: Option<Sidecar>,
}

/// Why bytes are not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes end too early.
    #[error("the snapshot has {got} bytes instead of {expected}")]
    Truncated {
        /// How many there must be.
        expected: u64,
        /// How many there are.
        got: u64,
    },
    /// There are bytes after the end.
    #[error("the snapshot has {got} bytes instead of {expected}")]
    Trailing {
        /// How many there must be.
        expected: u64,
        /// How many there are.
        got: u64,
    },
    /// Something else.
    #[error("these bytes are not a snapshot of encryption keys")]
    Magic,
    /// Of another version.
    #[error("the snapshot has version {got}; this build reads {VERSION}")]
    Version {
        /// The version found.
        got: u32,
    },
    /// Damaged on its way.
    #[error("the snapshot's checksum does not match its content")]
    Checksum,
    /// A row that does not decode.
    #[error("the snapshot has a bad row: {0}")]
    Row(RegistryError),
    /// A row that stands before one that it must stand after, or twice.
    #[error("the snapshot has the row {row:?} out of order, or twice")]
    RowOrder {
        /// The row.
        row: RowKey,
    },
    /// The sidecar does not decode.
    #[error(transparent)]
    Sidecar(SidecarError),
    /// The sidecar is one of the reference system's.
    #[error("the snapshot has a sidecar of the reference system; no node of ours writes that")]
    Foreign,
    /// The sidecar carries an epoch of the node that took the snapshot.
    #[error("the snapshot has an epoch of another node under key {id}")]
    OwnEpoch {
        /// The key.
        id: DekId,
    },
}

impl Snapshot {
    /// The bytes.
    ///
    /// # Panics
    /// With 2^32 rows or more, or as many bytes of sidecar.
    pub fn encode(&self) -> Vec<u8> {
        let sidecar = self.sidecar.as_ref().map(json::encode).unwrap_or_default();
        let count =
            |len: usize| u32::try_from(len).expect("a registry and a sidecar fit into memory many times");
        let rows = &self.registry.rows;
        let mut bytes = Vec::with_capacity(HEADER_LEN + rows.len() * ROW_LEN + sidecar.len() + CHECKSUM_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(count(rows.len()).to_be_bytes());
        bytes.extend(count(sidecar.len()).to_be_bytes());
        bytes.extend(self.registry.applied_index.0.to_be_bytes());
        for (key, row) in rows {
            bytes.extend(key.encode());
            bytes.extend(row.encode());
        }
        bytes.extend(sidecar);
        let checksum: [u8; CHECKSUM_LEN] = Sha256::digest(&bytes).into();
        bytes.extend(checksum);
        bytes
    }

    /// Reads the bytes back, strictly.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let (rows_len, sidecar_len, applied_index) = header(bytes)?;
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        if checksum != Sha256::digest(content).as_slice() {
            return Err(SnapshotError::Checksum);
        }
        let (rows, sidecar) = content[HEADER_LEN..].split_at(rows_len);
        assert_eq!(sidecar.len(), sidecar_len, "the header's lengths were compared to that of the whole");
        let registry = RegistrySnapshot { rows: decode_rows(rows)?, applied_index };
        let sidecar = match sidecar {
            [] => None,
            bytes => Some(decode_sidecar(bytes)?),
        };
        Ok(Snapshot { registry, sidecar })
    }
}

/// A sidecar as it goes into a snapshot.
pub(crate) fn without_own(mut sidecar: Sidecar) -> Sidecar {
    sidecar.keys.values_mut().for_each(|key| key.local_epoch = LocalEpoch(0));
    sidecar
}

/// The length of all rows in bytes, that of the sidecar, and the applied index; the whole has the length that follows
/// from these.
fn header(bytes: &[u8]) -> Result<(usize, usize, RaftIndex), SnapshotError> {
    let got = bytes.len() as u64;
    let check = |expected: u64| match got.cmp(&expected) {
        std::cmp::Ordering::Less => Err(SnapshotError::Truncated { expected, got }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(SnapshotError::Trailing { expected, got }),
    };
    let least = HEADER_LEN + CHECKSUM_LEN;
    if bytes.len() < least {
        return Err(SnapshotError::Truncated { expected: least as u64, got });
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(SnapshotError::Magic);
    }
    let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (version, rows, sidecar_len) = (field(8), field(12), field(16));
    if version != VERSION {
        return Err(SnapshotError::Version { got: version });
    }
    let rows_len = u64::from(rows) * ROW_LEN as u64;
    check(least as u64 + rows_len + u64::from(sidecar_len))?;
    let applied = u64::from_be_bytes(bytes[20..HEADER_LEN].try_into().expect("eight bytes"));
    // Both are parts of what is in memory by now.
    Ok((rows_len as usize, sidecar_len as usize, RaftIndex(applied)))
}

fn decode_rows(bytes: &[u8]) -> Result<BTreeMap<RowKey, WriterRow>, SnapshotError> {
    let mut rows = BTreeMap::new();
    for row in bytes.chunks_exact(ROW_LEN) {
        let (key, value) = row.split_at(KEY_LEN);
        let key = RowKey::decode(key).map_err(SnapshotError::Row)?;
        if rows.last_key_value().is_some_and(|(before, _)| *before >= key) {
            return Err(SnapshotError::RowOrder { row: key });
        }
        rows.insert(key, WriterRow::decode(value).map_err(SnapshotError::Row)?);
    }
    Ok(rows)
}

fn decode_sidecar(bytes: &[u8]) -> Result<Sidecar, SnapshotError> {
    match json::decode(bytes).map_err(SnapshotError::Sidecar)? {
        SidecarContent::Foreign(_) => Err(SnapshotError::Foreign),
        SidecarContent::Ours(sidecar) => {
            match sidecar.keys.iter().find(|(_, key)| key.local_epoch != LocalEpoch(0)) {
                Some((id, _)) => Err(SnapshotError::OwnEpoch { id: *id }),
                None => Ok(sidecar),
            }
        }
    }
}

#[cfg(test)]
mod tests;
