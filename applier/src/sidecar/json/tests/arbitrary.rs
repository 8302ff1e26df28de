//! Every sidecar survives its bytes, and no other bytes are taken for one.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;

fn names() -> impl Strategy<Value = EntryName> {
    (any::<u64>(), any::<[u8; 32]>())
        .prop_map(|(index, sha256)| EntryName { raft_index: RaftIndex(index), sha256 })
}

fn records(purpose: Purpose) -> impl Strategy<Value = KeyRecord> {
    let created = 0_u64..253_402_300_800;
    (vec(any::<u8>(), 1..80), created, any::<u16>(), names()).prop_map(
        move |(wrapped, created, epoch, name)| {
            let created = std::time::UNIX_EPOCH + std::time::Duration::from_secs(created);
            let created = humantime::format_rfc3339_seconds(created).to_string();
            KeyRecord { purpose, wrapped, created, local_epoch: LocalEpoch(epoch), name }
        },
    )
}

fn cutovers() -> impl Strategy<Value = Cutovers> {
    (option::of(names()), option::of(names())).prop_map(|(storage, raft)| Cutovers { storage, raft })
}

fn tombstones() -> impl Strategy<Value = BTreeMap<DekId, Tombstone>> {
    let stone = (any::<bool>(), names(), names(), any::<[u8; 32]>());
    btree_map(any::<u32>(), stone, 0..3).prop_map(|stones| {
        let stones = stones.into_iter().map(|(n, (is_raft, installed, retired, digest))| {
            let purpose = if is_raft { Purpose::Raft } else { Purpose::Storage };
            (id(n.max(1)), tombstone(purpose, installed, retired, digest))
        });
        stones.collect()
    })
}

fn rewraps() -> impl Strategy<Value = Vec<RewrapRecord>> {
    let rewrap = (any::<[u8; 8]>(), names());
    vec(rewrap.prop_map(|(kek, name)| RewrapRecord { kek: KekCheck(kek), name }), 0..4)
}

/// Sidecars of ours with 1 to 4 keys a purpose. Odd ids are for storage and even ones for raft.
pub(crate) fn sidecars() -> impl Strategy<Value = Sidecar> {
    let keys = |purpose| btree_map(0_u32..1 << 31, records(purpose), 1..5);
    let keys = (keys(Purpose::Storage), keys(Purpose::Raft));
    (keys, cutovers(), tombstones(), rewraps(), names()).prop_map(
        |((storage, raft), cutovers, mut retired, rewraps, bootstrap)| {
            let storage: BTreeMap<_, _> = storage.into_iter().map(|(n, key)| (id(n * 2 + 1), key)).collect();
            let raft: BTreeMap<_, _> = raft.into_iter().map(|(n, key)| (id(n.max(1) * 2), key)).collect();
            let first = |keys: &BTreeMap<DekId, KeyRecord>| *keys.keys().next().expect("at least one");
            let active = Active { storage: first(&storage), raft: first(&raft) };
            let keys: BTreeMap<_, _> = storage.into_iter().chain(raft).collect();
            retired.retain(|id, _| !keys.contains_key(id));
            let raft_applied_index = RaftIndex::ZERO;
            let mut sidecar =
                Sidecar { raft_applied_index, cutovers, active, keys, retired, bootstrap, rewraps };
            let newest = sidecar.named().map(|name| name.raft_index).max();
            sidecar.raft_applied_index = newest.expect("at least the bootstrap");
            sidecar
        },
    )
}

pub(crate) fn config() -> Config {
    Config { failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_sidecar_survives_its_bytes(sidecar in sidecars()) {
        prop_assert_eq!(decode(&encode(&sidecar)), Ok(SidecarContent::Ours(sidecar)));
    }

    #[test]
    fn no_edit_of_a_sidecar_is_taken_for_ours(sidecar in sidecars(), at: prop::sample::Index, byte: u8) {
        let bytes = encode(&sidecar);
        let at = at.index(bytes.len());
        let mut edited = bytes.clone();
        edited[at] = byte;
        prop_assert!(edited == bytes || decode(&edited).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
