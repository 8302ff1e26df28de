//! Every way in which a payload fails to decode, on both sides of each boundary.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;

const ROW: Row = Row { dek_id: 5, full_node_id: 0x11, local_epoch: 3 };

fn bootstrap(batch: Vec<Row>) -> Entry {
    Entry::Bootstrap(Bootstrap {
        storage_id: 1,
        wrapped_storage: vec![0xa1, 0xa2, 0xa3],
        raft_id: 2,
        wrapped_raft: vec![0xb1, 0xb2],
        batch,
    })
}

fn rotation(subtag: RotationKind) -> Entry {
    let (dek_id, purpose, wrapped) = (5, Purpose::Storage, vec![0xc1]);
    Entry::Rotation(Rotation { subtag, dek_id, purpose, wrapped, proposer: ROW })
}

fn rewrap(keys: &[(u32, &[u8])]) -> Entry {
    let keys = keys.iter().map(|(id, wrapped)| (*id, wrapped.to_vec())).collect();
    Entry::Rewrap(Rewrap { generation: 7, kek_check: *b"checkval", keys })
}

#[test]
fn an_error_says_which_field_was_cut() {
    let cut = truncated(Field::KekCheck, 8, 3);
    let text = "malformed: the check value of the KEK needs 8 bytes, and 3 are left";
    assert_eq!(WireError::Malformed(cut).to_string(), text);
}

fn one_of_each() -> [Entry; 7] {
    [
        Entry::Registration(ROW),
        bootstrap(vec![ROW, ROW]),
        rotation(RotationKind::RotateDek),
        rotation(RotationKind::RetireDek),
        rotation(RotationKind::EnableStorageEnvelope),
        rotation(RotationKind::EnableRaftEnvelope),
        rewrap(&[(1, b"one"), (5, b"")]),
    ]
}

/// Encodes the entry, lets `spoil` change the bytes and demands this error.
#[track_caller]
fn check(entry: &Entry, spoil: impl FnOnce(&mut Vec<u8>), error: impl Into<WireError>) {
    let mut payload = entry.encode();
    spoil(&mut payload);
    assert_eq!(Entry::decode(&payload), Err(error.into()));
}

fn truncated(field: Field, needed: u64, left: usize) -> MalformedKind {
    MalformedKind::Truncated { field, needed, left }
}

/// A bootstrap without wrapped bytes that claims `count` rows and carries `carried`.
fn batch_payload(count: u32, carried: usize) -> Vec<u8> {
    let mut payload = vec![OP_BOOTSTRAP, VERSION];
    payload.extend([0; 16]);
    payload.extend(count.to_be_bytes());
    payload.extend(vec![0; carried * ROW_LEN]);
    payload
}

#[test]
fn the_encryption_opcodes_are_one_closed_range() {
    let opcodes: Vec<u8> = (0..=u8::MAX).filter(|byte| is_encryption_opcode(*byte)).collect();
    assert_eq!(opcodes, [0x03, 0x04, 0x05, 0x06, 0x07]);
}

#[test]
fn an_empty_payload_is_its_own_error() {
    assert_eq!(Entry::decode(&[]), Err(WireError::Empty));
}

#[test]
fn every_byte_but_three_is_an_unknown_opcode() {
    for got in (0..=u8::MAX).filter(|byte| !(0x03..=0x05).contains(byte)) {
        check(&Entry::Registration(ROW), |payload| payload[0] = got, WireError::Opcode { got });
    }
}

#[test]
fn every_version_but_one_is_refused() {
    for got in (0..=u8::MAX).filter(|byte| *byte != VERSION) {
        for entry in one_of_each() {
            check(&entry, |payload| payload[1] = got, WireError::Version { got });
        }
    }
}

#[test]
fn a_wrong_version_is_seen_before_anything_behind_it() {
    assert_eq!(Entry::decode(&[OP_BOOTSTRAP, 2]), Err(WireError::Version { got: 2 }));
    assert_eq!(Entry::decode(&[OP_ROTATION, 2, 0xfe]), Err(WireError::Version { got: 2 }));
}

#[test]
fn the_length_of_a_registration_is_seen_before_its_version() {
    for got in (0..=40).filter(|len| *len != REGISTRATION_LEN) {
        let mut payload = vec![OP_REGISTRATION];
        payload.resize(1 + got, 0xee);
        let error = MalformedKind::RegistrationLength { got };
        assert_eq!(Entry::decode(&payload), Err(error.into()));
    }
}

#[test]
fn a_payload_cut_at_any_byte_is_malformed() {
    for entry in one_of_each() {
        let payload = entry.encode();
        for len in 1..payload.len() {
            let decoded = Entry::decode(&payload[..len]);
            assert!(matches!(decoded, Err(WireError::Malformed(_))), "{len} bytes of {entry:?}: {decoded:?}");
        }
    }
}

#[test]
fn a_cut_payload_names_the_field_that_misses_bytes() {
    let cut = |len| move |payload: &mut Vec<u8>| payload.truncate(len);
    let entry = bootstrap(vec![ROW, ROW]);
    check(&entry, cut(1), truncated(Field::Version, 1, 0));
    check(&entry, cut(5), truncated(Field::StorageId, 4, 3));
    check(&entry, cut(6), truncated(Field::WrappedStorageLen, 4, 0));
    check(&entry, cut(12), truncated(Field::WrappedStorage, 3, 2));
    check(&entry, cut(14), truncated(Field::RaftId, 4, 1));
    check(&entry, cut(17), truncated(Field::WrappedRaftLen, 4, 0));
    check(&entry, cut(22), truncated(Field::WrappedRaft, 2, 1));
    check(&entry, cut(26), truncated(Field::BatchCount, 4, 3));
    check(&entry, cut(27), truncated(Field::Batch, 28, 0));
    check(&entry, cut(54), truncated(Field::Batch, 28, 27));
    let entry = rotation(RotationKind::RotateDek);
    check(&entry, cut(1), truncated(Field::Version, 1, 0));
    check(&entry, cut(2), truncated(Field::Subtag, 1, 0));
    check(&entry, cut(6), truncated(Field::DekId, 4, 3));
    check(&entry, cut(7), truncated(Field::Purpose, 1, 0));
    check(&entry, cut(11), truncated(Field::WrappedLen, 4, 3));
    check(&entry, cut(12), truncated(Field::Wrapped, 1, 0));
    check(&entry, cut(26), truncated(Field::Row, 14, 13));
    let entry = rewrap(&[(1, b"one"), (5, b"")]);
    check(&entry, cut(6), truncated(Field::Generation, 4, 3));
    check(&entry, cut(14), truncated(Field::KekCheck, 8, 7));
    check(&entry, cut(18), truncated(Field::KeyCount, 4, 3));
    check(&entry, cut(22), truncated(Field::DekId, 4, 3));
    check(&entry, cut(26), truncated(Field::WrappedLen, 4, 3));
    check(&entry, cut(29), truncated(Field::Wrapped, 3, 2));
    check(&entry, cut(30), truncated(Field::DekId, 4, 0));
}

#[test]
fn bytes_after_the_last_field_are_refused() {
    for entry in one_of_each() {
        let mut payload = entry.encode();
        payload.push(0);
        let error = match entry {
            Entry::Registration(_) => MalformedKind::RegistrationLength { got: REGISTRATION_LEN + 1 },
            _ => MalformedKind::Trailing { bytes: 1 },
        };
        assert_eq!(Entry::decode(&payload), Err(error.into()));
    }
}

#[test]
fn a_wrapped_length_beyond_the_body_is_refused_and_allocates_nothing() {
    let huge = |at| move |payload: &mut Vec<u8>| payload[at..at + 4].fill(0xff);
    let needed = u64::from(u32::MAX);
    check(&bootstrap(vec![]), huge(6), truncated(Field::WrappedStorage, needed, 3 + 10 + 4));
    check(&rotation(RotationKind::RotateDek), huge(8), truncated(Field::Wrapped, needed, 1 + 14));
}

#[test]
fn a_batch_of_the_largest_size_decodes() {
    let count = BATCH_ROWS_MAX;
    let Ok(Entry::Bootstrap(entry)) = Entry::decode(&batch_payload(count, count as usize)) else {
        panic!("a batch of {count} rows is legal");
    };
    assert_eq!(entry.batch.len(), count as usize);
}

#[test]
fn the_row_limit_is_seen_before_the_room_for_the_rows() {
    let error = |payload: Vec<u8>| Entry::decode(&payload).expect_err("no such batch is legal");
    let size = BATCH_ROWS_MAX as u64 * ROW_LEN as u64;
    assert_eq!(error(batch_payload(BATCH_ROWS_MAX, 0)), truncated(Field::Batch, size, 0).into());
    for got in [BATCH_ROWS_MAX + 1, u32::MAX] {
        assert_eq!(error(batch_payload(got, 0)), MalformedKind::BatchRows { got }.into());
    }
    let got = BATCH_ROWS_MAX + 1;
    assert_eq!(error(batch_payload(got, got as usize)), MalformedKind::BatchRows { got }.into());
}

#[test]
fn the_key_limit_of_a_rewrap_is_seen_before_its_keys() {
    for got in [REWRAP_KEYS_MAX + 1, u32::MAX] {
        let claim = |payload: &mut Vec<u8>| payload[15..19].copy_from_slice(&got.to_be_bytes());
        check(&rewrap(&[]), claim, MalformedKind::RewrapKeys { got });
    }
    let most = rewrap(&vec![(1, &b""[..]); REWRAP_KEYS_MAX as usize]);
    assert_eq!(Entry::decode(&most.encode()), Ok(most));
}

#[test]
fn exactly_four_sub_tags_have_the_layout_of_a_rotation() {
    for got in 0..=u8::MAX {
        match RotationKind::from_wire(got) {
            Some(kind) => assert_eq!(kind.to_wire(), got),
            None => {
                let entry = rotation(RotationKind::RotateDek);
                if got != SUBTAG_REWRAP {
                    check(&entry, |payload| payload[2] = got, WireError::Subtag { got });
                }
            }
        }
    }
    let known: Vec<u8> = (0..=u8::MAX).filter(|byte| RotationKind::from_wire(*byte).is_some()).collect();
    assert_eq!(known, [0x01, 0x03, 0x04, 0x05]);
}

#[test]
fn an_unknown_sub_tag_is_seen_before_anything_behind_it() {
    assert_eq!(Entry::decode(&[OP_ROTATION, VERSION, 0x06]), Err(WireError::Subtag { got: 0x06 }));
}

#[test]
fn an_unknown_purpose_is_seen_before_the_wrapped_key() {
    for got in (0..=u8::MAX).filter(|byte| !(1..=2).contains(byte)) {
        let entry = rotation(RotationKind::RotateDek);
        check(&entry, |payload| payload[7] = got, MalformedKind::Purpose { got });
        let cut = |payload: &mut Vec<u8>| {
            payload[7] = got;
            payload.truncate(8);
        };
        check(&entry, cut, MalformedKind::Purpose { got });
    }
}

#[test]
fn zero_ids_and_empty_wrapped_keys_are_shapes_like_any_other() {
    let row = Row { dek_id: 0, full_node_id: 0, local_epoch: 0 };
    let (purpose, wrapped) = (Purpose::Raft, Vec::new());
    let entries = [
        Entry::Registration(row),
        Entry::Bootstrap(Bootstrap {
            storage_id: 0,
            wrapped_storage: Vec::new(),
            raft_id: 0,
            wrapped_raft: Vec::new(),
            batch: vec![row],
        }),
        Entry::Rotation(Rotation {
            subtag: RotationKind::RotateDek,
            dek_id: 0,
            purpose,
            wrapped,
            proposer: row,
        }),
    ];
    for entry in entries {
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }
}

#[test]
fn the_encoder_reserves_exactly_what_it_writes() {
    for entry in one_of_each() {
        let payload = entry.encode();
        assert_eq!(payload.capacity(), payload.len(), "{entry:?}");
    }
}

fn any_row() -> impl Strategy<Value = Row> {
    any::<(u32, u64, u16)>().prop_map(|(dek_id, full_node_id, local_epoch)| Row {
        dek_id,
        full_node_id,
        local_epoch,
    })
}

fn any_wrapped() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..80)
}

fn any_bootstrap() -> impl Strategy<Value = Entry> {
    let batch = prop::collection::vec(any_row(), 0..6);
    (any::<u32>(), any_wrapped(), any::<u32>(), any_wrapped(), batch).prop_map(
        |(storage_id, wrapped_storage, raft_id, wrapped_raft, batch)| {
            Entry::Bootstrap(Bootstrap { storage_id, wrapped_storage, raft_id, wrapped_raft, batch })
        },
    )
}

fn any_rotation() -> impl Strategy<Value = Entry> {
    let kind = prop::sample::select(vec![
        RotationKind::RotateDek,
        RotationKind::RetireDek,
        RotationKind::EnableStorageEnvelope,
        RotationKind::EnableRaftEnvelope,
    ]);
    let purpose = prop::sample::select(vec![Purpose::Storage, Purpose::Raft]);
    (kind, any::<u32>(), purpose, any_wrapped(), any_row()).prop_map(
        |(subtag, dek_id, purpose, wrapped, proposer)| {
            Entry::Rotation(Rotation { subtag, dek_id, purpose, wrapped, proposer })
        },
    )
}

fn any_rewrap() -> impl Strategy<Value = Entry> {
    let keys = prop::collection::vec((any::<u32>(), any_wrapped()), 0..6);
    (any::<u32>(), any::<[u8; 8]>(), keys)
        .prop_map(|(generation, kek_check, keys)| Entry::Rewrap(Rewrap { generation, kek_check, keys }))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![any_row().prop_map(Entry::Registration), any_bootstrap(), any_rotation(), any_rewrap()]
}

/// The same cases on every run, and no file left behind.
fn config() -> Config {
    Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_entry_survives_the_wire(entry in any_entry()) {
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(
        entry in any_entry(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut payload = entry.encode();
        let at = at.index(payload.len());
        payload[at] = byte;
        if let Ok(entry) = Entry::decode(&payload) {
            prop_assert_eq!(entry.encode(), payload);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(opcode in 0x03_u8..=0x05, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let payload = [vec![opcode, VERSION], body].concat();
        if let Ok(entry) = Entry::decode(&payload) {
            prop_assert_eq!(entry.encode(), payload);
        }
    }
}
