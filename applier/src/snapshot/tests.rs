//! The exact layout of a snapshot, and every way in which bytes fail to be one.

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;
use crate::registry::RegistryError;
use crate::sidecar::json::tests::{config, sidecar, sidecars};

fn row(dek_id: u32, full_node_id: u64, first_seen: u16, last_seen: u16) -> (RowKey, WriterRow) {
    (RowKey::of(dek_id, full_node_id), WriterRow { full_node_id, first_seen, last_seen })
}

fn snapshot() -> Snapshot {
    let rows = [row(1, 0x11, 0, 3), row(1, 0xb_0000_0022, 2, 2), row(10, 0x11, 1, 9)].into();
    let registry = RegistrySnapshot { rows, applied_index: RaftIndex(9) };
    Snapshot { registry, sidecar: Some(without_own(sidecar())) }
}

/// With the checksum of the content as it is now.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let content = &bytes[..bytes.len() - CHECKSUM_LEN];
    [content, Sha256::digest(content).as_slice()].concat()
}

#[test]
fn a_snapshot_has_exactly_these_bytes() {
    let snapshot = snapshot();
    let sidecar = json::encode(snapshot.sidecar.as_ref().expect("it has one"));
    let mut expected = b"encsnap\0\0\0\0\x01\0\0\0\x03".to_vec();
    expected.extend((sidecar.len() as u32).to_be_bytes());
    expected.extend(9_u64.to_be_bytes());
    for (key, row) in &snapshot.registry.rows {
        expected.extend(key.encode());
        expected.extend(row.encode());
    }
    expected.extend(sidecar);
    expected.extend([0; 32]);
    assert_eq!(snapshot.encode(), sealed(&expected));
    assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
}

#[test]
fn a_snapshot_before_the_bootstrap_is_one_without_a_sidecar() {
    let empty = Snapshot { registry: RegistrySnapshot::default(), sidecar: None };
    let bytes = empty.encode();
    assert_eq!(bytes.len(), HEADER_LEN + CHECKSUM_LEN);
    assert_eq!(Snapshot::decode(&bytes), Ok(empty));
}

#[test]
fn every_shorter_and_every_longer_one_is_refused_by_its_length() {
    let bytes = snapshot().encode();
    let whole = bytes.len() as u64;
    for len in 0..bytes.len() {
        let expected = if len < HEADER_LEN + CHECKSUM_LEN { 60 } else { whole };
        let got = len as u64;
        assert_eq!(Snapshot::decode(&bytes[..len]), Err(SnapshotError::Truncated { expected, got }));
    }
    for extra in [1, 39, 4000] {
        let long = [bytes.as_slice(), &vec![0; extra]].concat();
        let trailing = SnapshotError::Trailing { expected: whole, got: long.len() as u64 };
        assert_eq!(Snapshot::decode(&long), Err(trailing));
    }
}

#[test]
fn every_bit_that_changed_is_noticed_where_it_stands() {
    let bytes = snapshot().encode();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Snapshot::decode(&damaged).expect_err("a bit has changed");
        let is_right = match bit / 8 {
            0..8 => error == SnapshotError::Magic,
            8..12 => matches!(error, SnapshotError::Version { .. }),
            12..20 => matches!(error, SnapshotError::Truncated { .. } | SnapshotError::Trailing { .. }),
            _ => error == SnapshotError::Checksum,
        };
        assert!(is_right, "bit {bit}: {error:?}");
    }
}

#[test]
fn lengths_that_no_memory_holds_are_refused_without_an_allocation() {
    let mut bytes = snapshot().encode();
    bytes[12..20].fill(0xff);
    let expected = 60 + u64::from(u32::MAX) * 40;
    let got = bytes.len() as u64;
    assert_eq!(Snapshot::decode(&bytes), Err(SnapshotError::Truncated { expected, got }));
}

/// The bytes with a right checksum after this change.
#[track_caller]
fn check_sealed(change: impl FnOnce(&mut [u8]), error: SnapshotError) {
    let mut bytes = snapshot().encode();
    change(&mut bytes);
    assert_eq!(Snapshot::decode(&sealed(&bytes)), Err(error));
}

#[test]
fn rows_that_stand_twice_or_out_of_order_are_refused() {
    let at = |number: usize| HEADER_LEN + number * ROW_LEN;
    let key = |number: usize| *snapshot().registry.rows.keys().nth(number).expect("there are three");
    let (one, two) = (SnapshotError::RowOrder { row: key(0) }, SnapshotError::RowOrder { row: key(1) });
    check_sealed(|bytes| bytes.copy_within(at(0)..at(1), at(1)), one.clone());
    check_sealed(|bytes| bytes[at(0)..at(2)].rotate_left(ROW_LEN), one);
    check_sealed(|bytes| bytes[at(1)..at(3)].rotate_left(ROW_LEN), two);
}

#[test]
fn a_row_key_that_is_none_is_refused() {
    let mut key = snapshot().encode()[HEADER_LEN..HEADER_LEN + KEY_LEN].to_vec();
    key[24] = b'/';
    let malformed = RegistryError::KeyMalformed { got: hex::encode(key) };
    check_sealed(|bytes| bytes[HEADER_LEN + 24] = b'/', SnapshotError::Row(malformed));
}

/// The snapshot with these bytes in the place of its sidecar.
fn with_sidecar(sidecar: &[u8]) -> Vec<u8> {
    let mut bytes = Snapshot { sidecar: None, ..snapshot() }.encode();
    bytes.truncate(bytes.len() - CHECKSUM_LEN);
    bytes[16..20].copy_from_slice(&(sidecar.len() as u32).to_be_bytes());
    bytes.extend(sidecar);
    bytes.extend([0; CHECKSUM_LEN]);
    sealed(&bytes)
}

#[test]
fn a_sidecar_that_is_none_of_ours_is_refused() {
    let ours = json::encode(&without_own(sidecar()));
    assert_eq!(Snapshot::decode(&with_sidecar(&ours)), Ok(snapshot()));
    for damage in 0..ours.len() {
        let mut damaged = ours.clone();
        damaged[damage] ^= 1;
        let refused = Snapshot::decode(&with_sidecar(&damaged));
        assert!(matches!(refused, Err(SnapshotError::Sidecar(_))), "byte {damage}: {refused:?}");
    }
    let foreign = br#"{"version": 1, "raft_applied_index": 0, "storage_envelope_active": false,
        "raft_envelope_cutover_index": 0, "active": {"storage": 0, "raft": 0}, "keys": {}}"#;
    assert_eq!(Snapshot::decode(&with_sidecar(foreign)), Err(SnapshotError::Foreign));
}

#[test]
fn an_epoch_of_another_node_is_refused() {
    let mut own = without_own(sidecar());
    let id = *own.keys.keys().next_back().expect("it has keys");
    own.keys.get_mut(&id).expect("just listed").local_epoch = LocalEpoch(1);
    let bytes = Snapshot { sidecar: Some(own), ..snapshot() }.encode();
    assert_eq!(Snapshot::decode(&bytes), Err(SnapshotError::OwnEpoch { id }));
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let row = |(full_node_id, first_seen, last_seen)| WriterRow { full_node_id, first_seen, last_seen };
    let keys = any::<(u32, u16)>().prop_map(|(dek_id, node16)| RowKey { dek_id, node16 });
    let rows = btree_map(keys, any::<(u64, u16, u16)>().prop_map(row), 0..20);
    let sidecar = proptest::option::of(sidecars().prop_map(without_own));
    (rows, any::<u64>(), sidecar).prop_map(|(rows, index, sidecar)| Snapshot {
        registry: RegistrySnapshot { rows, applied_index: RaftIndex(index) },
        sidecar,
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_snapshot_survives_its_bytes(snapshot in snapshots()) {
        prop_assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Snapshot::decode(&bytes).is_err());
        let mut behind_a_good_header = snapshot().encode();
        let len = bytes.len().min(behind_a_good_header.len() - 12);
        behind_a_good_header[12..12 + len].copy_from_slice(&bytes[..len]);
        let sealed = sealed(&behind_a_good_header);
        prop_assert!(Snapshot::decode(&sealed).is_err() || len == 0);
    }
}
