//! The writer registry: which node may write under which key with which epoch. One row a (key, low 16 bits of the
//! node's id), kept in an embedded database together with the applied index.
//!
//! Byte layout, the reference system's:
//! ```text
//! key    27 bytes  "!encryption|writers|" (20) | dek_id u32 BE | '|' | node16 u16 BE
//! value  12 bytes  full_node_id u64 BE | first_seen u16 BE | last_seen u16 BE
//! ```

mod redb_store;
pub(crate) mod rules;

pub use redb_store::{OpenError, RedbRegistry, create, lock_dir, open, remove_leftover};
pub use rules::{Clash, Registered, register};

use std::collections::BTreeMap;

use crate::ids::{DekId, LocalEpoch, RaftIndex};
use crate::ports::KekCheck;

const PREFIX: &[u8; 20] = b"!encryption|writers|";

/// Length of an encoded key in bytes.
pub const KEY_LEN: usize = 27;
/// Length of an encoded value in bytes.
pub const VALUE_LEN: usize = 12;

/// Identifies a row. Raw integers, as in the bytes: what may be 0 is decided where entries are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The key that the writer uses.
    pub dek_id: u32,
    /// Low 16 bits of the writer's id.
    pub node16: u16,
}

impl RowKey {
    /// The row of node `full_node_id` under key `dek_id`.
    pub const fn of(dek_id: u32, full_node_id: u64) -> RowKey {
        RowKey { dek_id, node16: (full_node_id & 0xffff) as u16 }
    }

    /// The 27 bytes.
    pub fn encode(self) -> [u8; KEY_LEN] {
        let mut bytes = [0; KEY_LEN];
        bytes[..20].copy_from_slice(PREFIX);
        bytes[20..24].copy_from_slice(&self.dek_id.to_be_bytes());
        bytes[24] = b'|';
        bytes[25..].copy_from_slice(&self.node16.to_be_bytes());
        bytes
    }

    /// Reads 27 bytes back.
    ///
    /// # Errors
    /// [`RegistryError::KeyMalformed`] for any other length, prefix or separator.
    pub fn decode(bytes: &[u8]) -> Result<RowKey, RegistryError> {
        let malformed = || RegistryError::KeyMalformed { got: hex::encode(bytes) };
        let bytes: &[u8; KEY_LEN] = bytes.try_into().map_err(|_| malformed())?;
        if &bytes[..20] != PREFIX || bytes[24] != b'|' {
            return Err(malformed());
        }
        let dek_id = u32::from_be_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]);
        Ok(RowKey { dek_id, node16: u16::from_be_bytes([bytes[25], bytes[26]]) })
    }
}

/// The content of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriterRow {
    /// The writer's whole id.
    pub full_node_id: u64,
    /// Epoch of its first registration under this key.
    pub first_seen: u16,
    /// Epoch of its newest one.
    pub last_seen: u16,
}

impl WriterRow {
    /// The 12 bytes.
    pub fn encode(self) -> [u8; VALUE_LEN] {
        let mut bytes = [0; VALUE_LEN];
        bytes[..8].copy_from_slice(&self.full_node_id.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.first_seen.to_be_bytes());
        bytes[10..].copy_from_slice(&self.last_seen.to_be_bytes());
        bytes
    }

    /// Reads 12 bytes back.
    ///
    /// # Errors
    /// [`RegistryError::ValueMalformed`] for any other length.
    pub fn decode(bytes: &[u8]) -> Result<WriterRow, RegistryError> {
        let bytes: &[u8; VALUE_LEN] =
            bytes.try_into().map_err(|_| RegistryError::ValueMalformed { len: bytes.len() })?;
        let (id, epochs) = bytes.split_at(8);
        Ok(WriterRow {
            full_node_id: u64::from_be_bytes(id.try_into().expect("8 of 12 bytes")),
            first_seen: u16::from_be_bytes([epochs[0], epochs[1]]),
            last_seen: u16::from_be_bytes([epochs[2], epochs[3]]),
        })
    }
}

/// One atomic, durable change of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Rows to write.
    pub rows: BTreeMap<RowKey, WriterRow>,
    /// Where the applied index goes, if it moves.
    pub applied_index: Option<RaftIndex>,
    /// A key whose rows all go, because it is retired.
    pub retired: Option<DekId>,
    /// Where the local proof of the newest sidecar change goes, if it moves. It never goes down.
    pub sidecar_index: Option<RaftIndex>,
    /// Generation and check value of the KEK that this node's keys are wrapped under from here on: that is the one it has
    /// promised to keep. Promises for rewraps up to this generation end.
    pub rewrapped: Option<(u32, KekCheck)>,
}

/// What is local to a node, and so never part of a snapshot, and carried over by every restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// Proof: index of the newest entry that changed the sidecar.
    pub sidecar_index: RaftIndex,
    /// The KEK that this node has promised to keep, if it has promised any.
    pub kek: Option<KekCheck>,
    /// The KEK of a rewrap to come that it has promised to keep as well.
    pub next_kek: Option<KekCheck>,
    /// The generation of that rewrap.
    pub next_generation: Option<u32>,
    /// Highest epoch that it has ever claimed under each key.
    pub epochs: BTreeMap<DekId, LocalEpoch>,
}

/// A change of what is local that belongs to no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalChange {
    /// This node promises to keep a KEK.
    Promise(KekCheck),
    /// This node promises to keep the KEK of a rewrap to come, until it has that of this generation.
    PromiseNext(KekCheck, u32),
    /// This node claims an epoch under a key. What is recorded never goes down.
    Claim(DekId, LocalEpoch),
}

/// What a registry holds besides what is local to the node: the content of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySnapshot {
    /// Every row.
    pub rows: BTreeMap<RowKey, WriterRow>,
    /// Index of the newest entry reflected in the rows.
    pub applied_index: RaftIndex,
}

/// A failed read of the registry. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Bytes that are not a row key.
    #[error("the registry holds the malformed key {got}")]
    KeyMalformed {
        /// The bytes in hex.
        got: String,
    },
    /// A name in the local table that this build does not know.
    #[error("the registry has the unknown local value {name:?}; start the build that wrote it")]
    Local {
        /// The name.
        name: String,
    },
    /// Bytes that are not a row.
    #[error("the registry holds a row of {len} bytes instead of 12")]
    ValueMalformed {
        /// Their length.
        len: usize,
    },
    /// The database failed.
    #[error("the registry database failed: {0}")]
    Storage(String),
}

/// A commit that returned an error. Its outcome is unknown: it may be there after a restart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry commit failed, its outcome is unknown until the next start: {0}")]
pub struct CommitError(pub String);

/// What a host adds to the applier's transaction.
pub type HostPart<'a, Tx> = &'a mut dyn FnMut(&Tx) -> Result<(), HostRefused>;

/// The host's part of a shared transaction did not succeed; the transaction is not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's part of the transaction failed: {0}")]
pub struct HostRefused(pub String);

/// The writer registry as the applier sees it. One writer; every commit is durable before it returns.
pub trait Registry {
    /// The transaction that a host may share.
    type Tx;

    /// Index of the newest entry that is reflected here, of whatever kind.
    fn applied_index(&self) -> Result<RaftIndex, RegistryError>;

    /// What is local to this node, from one consistent view.
    fn local(&self) -> Result<Local, RegistryError>;

    /// The rows behind `keys`, in their order, from one consistent view.
    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError>;

    /// Everything that a snapshot carries, from one consistent view.
    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError>;

    /// Commits a change, and the host's part with it, as one durable transaction.
    fn commit(&mut self, change: &Change, host: HostPart<'_, Self::Tx>) -> Result<(), CommitError>;

    /// Commits a change of what is local, as one durable transaction.
    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError>;

    /// Replaces rows and applied index by those of a snapshot, as one durable transaction. What is local to the
    /// node stays; the proof of the newest sidecar change goes up to `sidecar_index`, where that is above it.
    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, Self::Tx>,
    ) -> Result<(), CommitError>;
}

#[cfg(test)]
mod tests;
