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
use subtle::ConstantTimeEq;

use crate::ids::{DekId, LocalEpoch, Purpose, RaftIndex};
use crate::ports::KekCheck;
use crate::secret::Dek;

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

/// One key as the sidecar records it. `created` and `name` never change once set; `wrapped` changes by a rewrap alone.
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

/// The entries that switched the envelopes on. Each happens once, and nothing switches one off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cutovers {
    /// From this entry on, values are stored in the storage envelope.
    pub storage: Option<EntryName>,
    /// Every entry behind this one is in the raft envelope.
    pub raft: Option<EntryName>,
}

impl Cutovers {
    /// The cutover of one purpose, where it has happened.
    pub const fn of(self, purpose: Purpose) -> Option<EntryName> {
        match purpose {
            Purpose::Storage => self.storage,
            Purpose::Raft => self.raft,
        }
    }

    /// Where the cutover of one purpose stands in the log; 0 where it has not happened.
    pub fn index_of(self, purpose: Purpose) -> RaftIndex {
        self.of(purpose).map_or(RaftIndex::ZERO, |name| name.raft_index)
    }

    /// With the cutover of one purpose.
    pub const fn with(self, purpose: Purpose, name: EntryName) -> Cutovers {
        match purpose {
            Purpose::Storage => Cutovers { storage: Some(name), ..self },
            Purpose::Raft => Cutovers { raft: Some(name), ..self },
        }
    }
}

/// What is left of a key that was retired: its id and its bytes never come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// What the key encrypted.
    pub purpose: Purpose,
    /// The entry that installed it.
    pub installed: EntryName,
    /// The entry that retired it.
    pub retired: EntryName,
    /// Stands for its bytes, see [`Tombstone::digest_of`].
    pub digest: [u8; 32],
}

/// What is hashed before a key, so that its digest is equal to no other digest of these bytes.
const DIGEST_DOMAIN: &[u8] = b"encryption applier: bytes of a retired key, version 1\0";

impl Tombstone {
    /// SHA-256 over a constant, the digest of the cluster's bootstrap and the 32 bytes of the key: equal on all nodes of
    /// a cluster, and comparable with no digest of another one.
    pub fn digest_of(bootstrap: EntryName, key: &Dek) -> [u8; 32] {
        Sha256::new()
            .chain_update(DIGEST_DOMAIN)
            .chain_update(bootstrap.sha256)
            .chain_update(key.expose())
            .finalize()
            .into()
    }
}

/// One time that the keys were wrapped anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewrapRecord {
    /// Check value of the KEK that they were wrapped under from then on.
    pub kek: KekCheck,
    /// The entry that brought the new wrappings.
    pub name: EntryName,
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
    /// Every key that is not retired, by id.
    pub keys: BTreeMap<DekId, KeyRecord>,
    /// Every key that is, by id.
    pub retired: BTreeMap<DekId, Tombstone>,
    /// The entry that bootstrapped the cluster.
    pub bootstrap: EntryName,
    /// Every rewrap, the oldest first.
    pub rewraps: Vec<RewrapRecord>,
}

impl Sidecar {
    /// Every entry that some effect in this file is of.
    pub fn named(&self) -> impl Iterator<Item = EntryName> {
        let keys = self.keys.values().map(|key| key.name);
        let retired = self.retired.values().flat_map(|tombstone| [tombstone.installed, tombstone.retired]);
        let switches = [self.cutovers.storage, self.cutovers.raft].into_iter().flatten();
        let rewraps = self.rewraps.iter().map(|rewrap| rewrap.name);
        keys.chain(retired).chain([self.bootstrap]).chain(switches).chain(rewraps)
    }

    /// The entry at `index`, if some effect in this file is of it.
    pub fn names(&self, index: RaftIndex) -> Option<EntryName> {
        self.named().find(|name| name.raft_index == index)
    }

    /// Whether `id` is a key of the state before the entry at `index`.
    pub fn knows_at(&self, id: DekId, index: RaftIndex) -> bool {
        let live = self.keys.get(&id).is_some_and(|key| key.name.raft_index < index);
        let then_live = |tombstone: &Tombstone| {
            tombstone.installed.raft_index < index && index <= tombstone.retired.raft_index
        };
        live || self.retired.get(&id).is_some_and(then_live)
    }

    /// How many times the keys were wrapped anew: the generation of the KEK in force.
    ///
    /// # Panics
    /// On more rewraps than a `u32` counts, which no memory holds.
    pub fn generation(&self) -> u32 {
        u32::try_from(self.rewraps.len()).expect("each takes more than a byte of memory")
    }

    /// Check value of the KEK in force, where it is not the one of the bootstrap any more.
    pub fn kek(&self) -> Option<KekCheck> {
        self.rewraps.last().map(|rewrap| rewrap.kek)
    }

    /// The retired key that has these bytes. Every digest is compared, each in constant time.
    pub fn find_retired(&self, key: &Dek) -> Option<DekId> {
        let digest = Tombstone::digest_of(self.bootstrap, key);
        self.retired.iter().fold(None, |found, (id, tombstone)| {
            let equal = bool::from(tombstone.digest.ct_eq(&digest));
            found.or(equal.then_some(*id))
        })
    }
}

/// The switches as the reference system has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignCutovers {
    /// Whether new values are stored in the storage envelope.
    pub storage_envelope_active: bool,
    /// Index of the entry that switched the storage envelope on, 0 where that is not known.
    pub storage_envelope_cutover_index: RaftIndex,
    /// Index of the entry that switched the raft envelope on; non-zero *is* the switch.
    pub raft_envelope_cutover_index: RaftIndex,
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
    pub cutovers: ForeignCutovers,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_behind_its_entry_and_up_to_the_one_that_retires_it() {
        let sidecar = json::tests::sidecar();
        let known = |id, indices: &[u64]| -> Vec<bool> {
            let id = DekId::new(id).expect("not 0");
            indices.iter().map(|index| sidecar.knows_at(id, RaftIndex(*index))).collect()
        };
        // Installed by the entry at 7, and not retired.
        assert_eq!(known(10, &[6, 7, 8, 100]), [false, false, true, true]);
        // Installed by the entry at 4, and retired by that at 5.
        assert_eq!(known(4, &[3, 4, 5, 6]), [false, false, true, false]);
        assert_eq!(known(11, &[8, 100]), [false, false]);
    }
}
