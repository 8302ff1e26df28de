//! Retirements: a key and its rows go for good, and neither its id nor its bytes come back.

use applier::outcome::{HaltCause, NoOp, Reject};
use applier::registry::Clash;
use applier::sidecar::file::WriteFault;
use applier::sidecar::{EntryName, Tombstone};
use applier::wire::Entry;
use applier::{Outcome, Purpose, RaftIndex};

use crate::convergence::Run;
use crate::harness::{
    CommitFault, EIO, Effect, Fault, N1, N2, Op, World, blob_with_nonce, bootstrap, commit_error, dek, id,
    registration, retirement, retirement_with, rotation, rotation_with, row, seen,
};

/// Key 1 has a row of each node and was rotated away by key 5.
fn rotated() -> World {
    World::with(&[bootstrap(), registration(1, N2, 3), rotation(5, Purpose::Storage)])
}

fn retired() -> World {
    let mut world = rotated();
    assert_eq!(world.apply(4, &retirement(1)), Outcome::Applied);
    world
}

#[test]
fn a_retirement_leaves_a_tombstone_and_takes_the_key_and_its_rows_and_nothing_else() {
    let mut world = rotated();
    let before = world.lasting();
    world.kek.asked();
    // The proposer's row is of no key but its own, and is registered nowhere.
    let entry = retirement_with(1, |entry| entry.proposer = row(1, 0x77, 0));
    assert_eq!(world.apply(4, &entry), Outcome::Applied);
    assert_eq!(world.kek.asked(), 0);
    let after = world.lasting();
    assert_eq!(after.keys, [(id(2), dek(2)), (id(5), dek(5))]);
    assert_eq!(after.active, before.active);
    let mut expected = before.held.0.expect("bootstrapped");
    expected.raft_applied_index = RaftIndex(4);
    let record = expected.keys.remove(&id(1)).expect("bootstrapped");
    let stone = Tombstone {
        purpose: Purpose::Storage,
        installed: record.name,
        retired: EntryName::of(RaftIndex(4), &entry.encode()),
        digest: Tombstone::digest_of(expected.bootstrap, &dek(1)),
    };
    expected.retired.insert(id(1), stone);
    assert_eq!(after.held.0.as_ref(), Some(&expected));
    assert_eq!(after.registry.rows, [seen(2, N1, 0, 0), seen(5, N1, 0, 0)].into());
    assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(4), RaftIndex(4)));
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    assert!(!bytes.windows(80).any(|text| text == base64(&crate::harness::blob(1)).as_bytes()));
    world.restart();
    assert_eq!(world.lasting(), after);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn the_rows_of_neighbouring_ids_stay_up_to_the_last_node() {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage), rotation(6, Purpose::Storage)]);
    let nodes = [0x1_0000, 0x1_ffff];
    let rows = [1, 5, 6].into_iter().flat_map(|key| nodes.map(|node| (key, node)));
    for (index, (key, node)) in (4..).zip(rows) {
        assert_eq!(world.apply(index, &registration(key, node, 2)), Outcome::Applied);
    }
    let mut rows = world.rows();
    assert_eq!(rows.len(), 10);
    assert_eq!(world.apply(10, &retirement(5)), Outcome::Applied);
    rows.retain(|key, _| key.dek_id != 5);
    assert_eq!(world.rows(), rows);
    assert_eq!(rows.len(), 7);
}

#[test]
fn an_error_of_shape_is_rejected_in_every_state() {
    let with = |change: fn(&mut applier::wire::Rotation)| retirement_with(1, change);
    let cases = [
        (with(|entry| entry.wrapped = vec![7; 60]), Reject::NeedlessKey { len: 60 }),
        (with(|entry| entry.proposer.dek_id = 5), Reject::ForeignRow { row: 5 }),
        (with(|entry| entry.proposer.local_epoch = 1), Reject::NeedlessEpoch { got: 1 }),
        (with(|entry| entry.dek_id = 0), Reject::ReservedKeyId),
        (with(|entry| entry.proposer.dek_id = 0), Reject::ReservedKeyId),
        (with(|entry| entry.proposer.full_node_id = 0), Reject::ReservedNodeId),
    ];
    for (entry, reject) in cases {
        World::started().check_rejected(1, &entry, reject.clone());
        rotated().check_rejected(4, &entry, reject.clone());
        retired().check_rejected(5, &entry, reject);
    }
}

#[test]
fn what_cannot_be_retired_is_rejected() {
    World::started_without_keyring().check_rejected(1, &retirement(1), Reject::KekNotConfigured);
    World::started().check_rejected(1, &retirement(1), Reject::NotBootstrapped);
    rotated().check_rejected(4, &retirement(9), Reject::UnknownKey(id(9)));
    rotated().check_rejected(4, &retirement(5), Reject::KeyActive(id(5)));
    let raft = retirement_with(2, |entry| entry.purpose = Purpose::Raft);
    rotated().check_rejected(4, &raft, Reject::KeyActive(id(2)));
    let other = retirement_with(1, |entry| entry.purpose = Purpose::Raft);
    rotated().check_rejected(4, &other, Reject::OtherPurpose { id: id(1), got: Purpose::Raft });
}

#[test]
fn the_same_retirement_again_is_a_no_op_and_another_one_is_rejected() {
    let mut world = retired();
    let before = world.lasting();
    assert_eq!(world.apply(5, &retirement(1)), Outcome::NoOp(NoOp::DuplicateRetirement));
    let after = world.lasting();
    assert_eq!((&after.held, &after.disk), (&before.held, &before.disk));
    assert_eq!(after.registry.rows, before.registry.rows);
    let by_another = retirement_with(1, |entry| entry.proposer.full_node_id = N2);
    let reject = Reject::KeyRetired { id: id(1), by: RaftIndex(4) };
    world.check_rejected(6, &by_another, reject.clone());
    let other = retirement_with(1, |entry| entry.purpose = Purpose::Raft);
    world.check_rejected(6, &other, reject);
}

#[test]
fn a_registration_behind_it_is_rejected_and_before_it_was_not() {
    let mut world = rotated();
    let past = world.lasting().registry;
    assert_eq!(world.apply(4, &registration(1, N2, 7)), Outcome::Applied);
    assert_eq!(world.apply(5, &retirement(1)), Outcome::Applied);
    world.check_rejected(6, &registration(1, N2, 8), Reject::UnknownKey(id(1)));
    world.check_rejected(6, &registration(1, 0x99, 0), Reject::UnknownKey(id(1)));
    // Delivered again, what came before it is judged as it was.
    world.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
    let rollback = Clash::EpochRollback { dek_id: 1, full_node_id: N2, last_seen: 3, got: 2 };
    world.check_rejected(4, &registration(1, N2, 2), rollback);
    assert_eq!(world.apply(4, &registration(1, N2, 7)), Outcome::Applied);
    world.check_row(seen(1, N2, 3, 7));
    assert_eq!(world.apply(5, &retirement(1)), Outcome::Applied);
    assert!(world.rows().keys().all(|key| key.dek_id != 1));
    world.check_rejected(6, &registration(1, N2, 8), Reject::UnknownKey(id(1)));
}

#[test]
fn neither_its_id_nor_its_bytes_come_back() {
    let mut world = retired();
    for _ in 0..2 {
        let in_use = Reject::KeyIdInUse { id: id(1), by: RaftIndex(1) };
        world.check_rejected(5, &rotation(1, Purpose::Storage), in_use.clone());
        let other_bytes = rotation_with(1, |entry| entry.wrapped = blob_with_nonce(9, 9));
        world.check_rejected(5, &other_bytes, in_use);
        for purpose in [Purpose::Storage, Purpose::Raft] {
            let same_bytes = rotation_with(9, |entry| {
                entry.wrapped = blob_with_nonce(1, 0xaa);
                entry.purpose = purpose;
            });
            world.check_rejected(5, &same_bytes, Reject::EqualKeyBytes(id(1), id(9)));
        }
        world.restart();
    }
    assert_eq!(world.apply(5, &bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap));
    assert_eq!(world.apply(6, &rotation(9, Purpose::Storage)), Outcome::Applied);
}

#[test]
fn a_rotation_whose_key_was_retired_is_still_a_duplicate() {
    let first = rotation(5, Purpose::Storage);
    let mut world = World::with(&[bootstrap(), first.clone(), rotation(6, Purpose::Storage), retirement(5)]);
    assert_eq!(world.apply(5, &first), Outcome::NoOp(NoOp::DuplicateRotation));
    assert_eq!(world.node().active(Purpose::Storage), Some(id(6)));
    assert!(!world.node().keystore().contains(id(5)));
}

/// Installs, registers under, rotates away and retires keys of both purposes, the bootstrap's among them.
fn log() -> Vec<Option<Entry>> {
    let raft = |key| retirement_with(key, |entry| entry.purpose = Purpose::Raft);
    vec![
        Some(bootstrap()),
        Some(registration(1, N2, 1)),
        Some(rotation(5, Purpose::Storage)),
        Some(registration(1, N2, 2)),
        Some(retirement(1)),
        None,
        Some(retirement(1)),
        Some(rotation(6, Purpose::Raft)),
        Some(registration(2, N2, 4)),
        Some(rotation(7, Purpose::Storage)),
        Some(raft(2)),
        Some(retirement(5)),
        Some(rotation(5, Purpose::Storage)),
    ]
}

fn run() -> Run {
    Run { node: World::new, log: log() }
}

#[test]
fn redelivered_from_every_index_a_retirement_ends_in_the_same_state() {
    run().redeliver();
}

#[test]
fn whatever_call_fails_a_retirement_ends_where_a_calm_run_ends() {
    run().sweep_in_turn();
}

const STEPS: [(Op, &str, bool); 7] = [
    (Op::Unlink, "keys.json.tmp", true),
    (Op::Create, "keys.json.tmp", true),
    (Op::Write, "keys.json.tmp", true),
    (Op::Sync, "keys.json.tmp", true),
    (Op::Close, "keys.json.tmp", true),
    (Op::Rename, "keys.json", false),
    (Op::SyncDir, "encryption", false),
];

#[test]
fn memory_keeps_the_key_until_the_sidecar_is_known_to_have_let_go_of_it() {
    for (op, path_end, unchanged) in STEPS {
        let mut world = rotated();
        let before = world.lasting();
        world.files.arm(Fault::named(op, path_end, EIO, Effect::Absent));
        let outcome = world.apply(4, &retirement(1));
        assert_eq!(world.files.disarm(), 1);
        let halted = |outcome: &Outcome| match outcome {
            Outcome::Halted(HaltCause::Sidecar(WriteFault { unchanged, .. })) => Some(*unchanged),
            _ => None,
        };
        assert_eq!(halted(&outcome), Some(unchanged), "{outcome:?}");
        let after = world.lasting();
        assert_eq!((&after.keys, &after.held), (&before.keys, &before.held), "{op:?}");
        assert_eq!(after.registry, before.registry);
        world.check_poisoned(4, &retirement(1));
        world.restart();
        assert!(world.apply(4, &retirement(1)).advances());
        assert_eq!(world.lasting(), retired().lasting());
    }
}

#[test]
fn a_retirement_whose_commit_failed_has_left_memory_and_is_finished_by_the_next_life() {
    for fault in [CommitFault::Absent, CommitFault::Present] {
        let mut world = rotated();
        world.registry.borrow_mut().commit = Some(fault);
        assert_eq!(world.apply(4, &retirement(1)), Outcome::Halted(HaltCause::Commit(commit_error())));
        assert!(!world.node().keystore().contains(id(1)));
        world.check_poisoned(4, &retirement(1));
        world.restart();
        assert!(world.apply(4, &retirement(1)).advances());
        assert_eq!(world.lasting(), retired().lasting());
    }
}
