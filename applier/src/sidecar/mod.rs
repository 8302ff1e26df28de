//! The sidecar: the crash-durable JSON file that says which keys this node has and which log entry gave it each.
//!
//! [`Sidecar`] is the content of a file that this crate wrote, [`ForeignSidecar`] that of one the reference system
//! wrote. [`json`] holds the byte layout, [`mod@file`] the protocol that makes a write crash-durable, [`merge`] what two
//! sidecars of one log come to.

pub mod file;
pub mod json;
pub mod merge;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::ids::{DekId, LocalEpoch, Purpose, RaftIndex};

/// Longest wrapped key that a sidecar holds, in bytes; the shortest is 1.
pub const WRAPPED_LEN_MAX: usize = 4096;

/// The log entry behind an effect: its index, and the SHA-256 of its payload (opcode and body).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryName {
    /// Where the entry stands in the log.
    pub raft_index: RaftIndex,
    /// SHA-256 of the whole payload, opcode included.
    pub sha256: [u8; 32],
}

impl EntryName {
    /// Names `payload` as the entry at `raft_index`.
    pub fn of(raft_index: RaftIndex, payload: &[u8]) -> EntryName {
        EntryName { raft_index, sha256: Sha256::digest(payload).into() }
    }
}

/// The keys that encrypt new data, one a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Key for values at rest.
    pub storage: DekId,
    /// Key for entries of the log.
    pub raft: DekId,
}

impl Active {
    /// The active key of one purpose.
    pub const fn of(self, purpose: Purpose) -> DekId {
        match purpose {
            Purpose::Storage => self.storage,
            Purpose::Raft => self.raft,
        }
    }

    /// Points one purpose at another key.
    pub const fn with(self, purpose: Purpose, id: DekId) -> Active {
        match purpose {
            Purpose::Storage => Active { storage: id, ..self },
            Purpose::Raft => Active { raft: id, ..self },
        }
    }
}

/// One key as the sidecar records it. `created` and `name` never change once set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// What the key encrypts.
    pub purpose: Purpose,
    /// The key, wrapped under the KEK; 1 to [`WRAPPED_LEN_MAX`] bytes.
    pub wrapped: Vec<u8>,
    /// When this node applied the entry, RFC 3339 in UTC with seconds; where the key came in a snapshot, when the node
    /// that took it did. Diagnostic: it differs between replicas.
    pub created: String,
    /// Highest epoch this node may have used with this key.
    pub local_epoch: LocalEpoch,
    /// The entry that installed the key.
    pub name: EntryName,
}

/// Switches that only ever go one way. An index of 0 means that the cutover has not happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cutovers {
    /// Whether new values are stored in the storage envelope.
    pub storage_envelope_active: bool,
    /// Index of the entry that switched the storage envelope on.
    pub storage_envelope_cutover_index: RaftIndex,
    /// Index of the entry that switched the raft envelope on; non-zero *is* the switch.
    pub raft_envelope_cutover_index: RaftIndex,
}

/// The content of a sidecar that this crate wrote. It exists from the first bootstrap on, so a bootstrap and both
/// active keys are always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Index of the newest entry whose effect is in this file.
    pub raft_applied_index: RaftIndex,
    /// The one-way switches.
    pub cutovers: Cutovers,
    /// The keys in use.
    pub active: Active,
    /// Every key ever installed, by id.
    pub keys: BTreeMap<DekId, KeyRecord>,
    /// The entry that bootstrapped the cluster.
    pub bootstrap: EntryName,
}

impl Sidecar {
    /// Whether some effect in this file is that of the entry at `index`.
    pub fn names(&self, index: RaftIndex) -> Option<EntryName> {
        let keys = self.keys.values().map(|key| key.name);
        keys.chain([self.bootstrap]).find(|name| name.raft_index == index)
    }

    /// Whether `id` is a key of the state before the entry at `index`.
    pub fn knows_at(&self, id: DekId, index: RaftIndex) -> bool {
        self.keys.get(&id).is_some_and(|key| key.name.raft_index < index)
    }
}

/// One key of a sidecar that the reference system wrote: no entry is named behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// What the key encrypts.
    pub purpose: Purpose,
    /// The key, wrapped under the KEK.
    pub wrapped: Vec<u8>,
    /// Creation time as found.
    pub created: String,
    /// Highest epoch this node may have used with this key.
    pub local_epoch: LocalEpoch,
}

/// The content of a sidecar that the reference system wrote, version 1 or 2. Readable; the only way to apply
/// anything on it is to adopt it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSidecar {
    /// 1 or 2.
    pub version: u64,
    /// The index it carries; 0 in files of the reference as merged.
    pub raft_applied_index: RaftIndex,
    /// The one-way switches.
    pub cutovers: Cutovers,
    /// Active storage key, if any.
    pub active_storage: Option<DekId>,
    /// Active raft key, if any.
    pub active_raft: Option<DekId>,
    /// Every key by id.
    pub keys: BTreeMap<DekId, ForeignKey>,
}

/// What a sidecar file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SidecarContent {
    /// Written by this crate: names, checksum, canonical bytes.
    Ours(Sidecar),
    /// Written by the reference system.
    Foreign(ForeignSidecar),
}
