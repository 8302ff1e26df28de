//! Entries, rows and ids that are short to write.

use applier::ports::Kek;
use applier::registry::{RowKey, WriterRow};
use applier::wire::{Bootstrap, Entry, Rewrap, Rotation, RotationKind, Row};
use applier::{DekId, Purpose};

use super::ports::{TestKek, blob};

/// The node under test.
pub(crate) const N1: u64 = 0x0a00_0000_0000_0011;
/// Another node.
pub(crate) const N2: u64 = 0x0b00_0000_0000_0022;
/// A node that shares its low 16 bits with [`N1`].
pub(crate) const N1_TWIN: u64 = 0x0c00_0000_0000_0011;

pub(crate) fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

pub(crate) const fn row(dek_id: u32, full_node_id: u64, local_epoch: u16) -> Row {
    Row { dek_id, full_node_id, local_epoch }
}

/// A bootstrap of key 1 for storage and key 2 for raft, changed by `change`.
pub(crate) fn bootstrap_with(change: impl FnOnce(&mut Bootstrap)) -> Entry {
    let mut entry = Bootstrap {
        storage_id: 1,
        wrapped_storage: blob(1),
        raft_id: 2,
        wrapped_raft: blob(2),
        batch: vec![row(1, N1, 0), row(2, N1, 0)],
    };
    change(&mut entry);
    Entry::Bootstrap(entry)
}

pub(crate) fn bootstrap() -> Entry {
    bootstrap_with(|_| ())
}

/// A rotation to key `dek_id`, whose bytes are its id, changed by `change`.
pub(crate) fn rotation_with(dek_id: u32, change: impl FnOnce(&mut Rotation)) -> Entry {
    let byte = u8::try_from(dek_id).expect("test ids are small");
    let mut entry = Rotation {
        subtag: RotationKind::RotateDek,
        dek_id,
        purpose: Purpose::Storage,
        wrapped: blob(byte),
        proposer: row(dek_id, N1, 0),
    };
    change(&mut entry);
    Entry::Rotation(entry)
}

pub(crate) fn rotation(dek_id: u32, purpose: Purpose) -> Entry {
    rotation_with(dek_id, |entry| entry.purpose = purpose)
}

/// A cutover of one purpose's envelope for key `dek_id`, changed by `change`.
pub(crate) fn cutover_with(purpose: Purpose, dek_id: u32, change: impl FnOnce(&mut Rotation)) -> Entry {
    rotation_with(dek_id, |entry| {
        entry.subtag = match purpose {
            Purpose::Storage => RotationKind::EnableStorageEnvelope,
            Purpose::Raft => RotationKind::EnableRaftEnvelope,
        };
        entry.purpose = purpose;
        entry.wrapped.clear();
        change(entry);
    })
}

pub(crate) fn cutover(purpose: Purpose, dek_id: u32) -> Entry {
    cutover_with(purpose, dek_id, |_| ())
}

/// The retirement of key `dek_id`, changed by `change`.
pub(crate) fn retirement_with(dek_id: u32, change: impl FnOnce(&mut Rotation)) -> Entry {
    rotation_with(dek_id, |entry| {
        entry.subtag = RotationKind::RetireDek;
        entry.wrapped.clear();
        change(entry);
    })
}

/// The retirement of a storage key.
pub(crate) fn retirement(dek_id: u32) -> Entry {
    retirement_with(dek_id, |_| ())
}

/// A rewrap of these keys, whose bytes are their ids, under `kek`, changed by `change`.
pub(crate) fn rewrap_with(
    generation: u32,
    kek: &TestKek,
    keys: &[u8],
    change: impl FnOnce(&mut Rewrap),
) -> Entry {
    let nonce = 0x80 + u8::try_from(generation).expect("test generations are small");
    let mut entry = Rewrap {
        generation,
        kek_check: kek.check_value().expect("within reach").0,
        keys: keys.iter().map(|key| (u32::from(*key), kek.blob(*key, nonce))).collect(),
    };
    change(&mut entry);
    Entry::Rewrap(entry)
}

pub(crate) fn rewrap(generation: u32, kek: &TestKek, keys: &[u8]) -> Entry {
    rewrap_with(generation, kek, keys, |_| ())
}

pub(crate) const fn registration(dek_id: u32, full_node_id: u64, local_epoch: u16) -> Entry {
    Entry::Registration(row(dek_id, full_node_id, local_epoch))
}

/// A registry's row.
pub(crate) const fn seen(
    dek_id: u32,
    full_node_id: u64,
    first_seen: u16,
    last_seen: u16,
) -> (RowKey, WriterRow) {
    (RowKey::of(dek_id, full_node_id), WriterRow { full_node_id, first_seen, last_seen })
}
