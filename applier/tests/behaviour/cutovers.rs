//! Cutovers: each envelope is switched on once, and what every other request for it came to is for ever.

use applier::envelope::{EnvelopeError, OpenError, raft};
use applier::outcome::{ApplyError, NoOp, Reject};
use applier::registry::Clash;
use applier::sidecar::EntryName;
use applier::wire::Entry;
use applier::{Admission, LocalEpoch, Nonce, Outcome, Purpose, RaftIndex};

use crate::convergence::Run;
use crate::harness::{
    CommitFault, N1, N1_TWIN, N2, World, bootstrap, commit_error, cutover, cutover_with, id, registration,
    rotation, row, seen,
};

const BOTH: [(Purpose, u32); 2] = [(Purpose::Storage, 1), (Purpose::Raft, 2)];

fn no_op(reason: NoOp) -> Outcome {
    Outcome::NoOp(reason)
}

#[test]
fn a_fresh_cutover_switches_on_its_envelope_and_nothing_else() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap()]);
        let before = world.lasting();
        let entry = cutover_with(purpose, key, |entry| entry.proposer.local_epoch = 3);
        world.kek.asked();
        assert_eq!(world.apply(2, &entry), Outcome::Applied);
        assert_eq!(world.kek.asked(), 0);
        let after = world.lasting();
        let mut expected = before.held.0.expect("bootstrapped");
        expected.raft_applied_index = RaftIndex(2);
        let name = EntryName::of(RaftIndex(2), &entry.encode());
        expected.cutovers = expected.cutovers.with(purpose, name);
        assert_eq!(after.held.0.as_ref(), Some(&expected));
        assert_eq!((&after.keys, after.active), (&before.keys, before.active));
        let mut rows = before.registry.rows;
        rows.extend([seen(key, N1, 0, 3)]);
        assert_eq!(after.registry.rows, rows);
        assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(2), RaftIndex(2)));
        assert_eq!(world.node().cutover(purpose), RaftIndex(2));
        let other = BOTH.into_iter().find(|(other, _)| *other != purpose).expect("one of two").0;
        assert_eq!(world.node().cutover(other), RaftIndex::ZERO);
        world.restart();
        assert_eq!(world.lasting(), after);
    }
}

#[test]
fn a_repeated_cutover_keeps_the_index_of_the_first_whoever_asks_for_whichever_key() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap(), cutover(purpose, key), rotation(5, purpose)]);
        let before = world.lasting();
        let by_another = cutover_with(purpose, 5, |entry| entry.proposer = row(5, N2, 7));
        let backwards = cutover_with(purpose, 5, |entry| entry.proposer = row(5, N1_TWIN, 0));
        for (index, entry) in (4..).zip([
            cutover(purpose, key),
            cutover(purpose, 5),
            by_another,
            backwards,
            cutover(purpose, 77),
        ]) {
            assert_eq!(world.apply(index, &entry), no_op(NoOp::CutoverRepeated));
        }
        let after = world.lasting();
        assert_eq!(after.registry.rows, before.registry.rows, "what is repeated registers nobody");
        assert_eq!((&after.held, &after.disk), (&before.held, &before.disk));
        assert_eq!(world.node().cutover(purpose), RaftIndex(2));
    }
}

#[test]
fn a_cutover_for_a_key_that_is_not_the_active_one_is_stale_and_the_envelope_stays_off() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap(), rotation(5, purpose)]);
        let before = world.lasting();
        let other = if key == 1 { 2 } else { 1 };
        for (index, key) in (3..).zip([key, other, 77]) {
            assert_eq!(world.apply(index, &cutover(purpose, key)), no_op(NoOp::CutoverStale));
        }
        let after = world.lasting();
        assert_eq!(after.registry.rows, before.registry.rows);
        assert_eq!((&after.held, &after.disk), (&before.held, &before.disk));
        assert_eq!(world.node().cutover(purpose), RaftIndex::ZERO);
        assert_eq!(world.apply(6, &cutover(purpose, 5)), Outcome::Applied);
    }
}

#[test]
fn every_error_of_shape_is_rejected_in_every_state() {
    for (purpose, key) in BOTH {
        let other = BOTH.into_iter().find(|(other, _)| *other != purpose).expect("one of two").0;
        let with = |change: fn(&mut applier::wire::Rotation)| cutover_with(purpose, key, change);
        let wrong_purpose = cutover_with(purpose, key, |entry| entry.purpose = other);
        let cases = [
            (wrong_purpose, Reject::OtherPurpose { id: id(key), got: other }),
            (with(|entry| entry.wrapped = vec![7; 60]), Reject::NeedlessKey { len: 60 }),
            (with(|entry| entry.proposer.dek_id = 9), Reject::ForeignRow { row: 9 }),
            (with(|entry| entry.dek_id = 0), Reject::ReservedKeyId),
            (with(|entry| entry.proposer.dek_id = 0), Reject::ReservedKeyId),
            (with(|entry| entry.proposer.full_node_id = 0), Reject::ReservedNodeId),
        ];
        for (entry, reject) in cases {
            World::started().check_rejected(1, &entry, reject.clone());
            World::with(&[bootstrap()]).check_rejected(2, &entry, reject.clone());
            World::with(&[bootstrap(), cutover(purpose, key)]).check_rejected(3, &entry, reject);
        }
    }
}

#[test]
fn before_the_bootstrap_and_without_a_keyring_it_is_rejected() {
    for (purpose, key) in BOTH {
        World::started().check_rejected(1, &cutover(purpose, key), Reject::NotBootstrapped);
        let mut bare = World::started_without_keyring();
        bare.check_rejected(1, &cutover(purpose, key), Reject::KekNotConfigured);
    }
}

#[test]
fn a_fresh_cutover_whose_row_clashes_is_rejected() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap(), registration(key, N1, 4)]);
        let rollback = Clash::EpochRollback { dek_id: key, full_node_id: N1, last_seen: 4, got: 0 };
        world.check_rejected(3, &cutover(purpose, key), rollback);
        let collision = Clash::NodeCollision { dek_id: key, existing: N1, got: N1_TWIN };
        let twin = cutover_with(purpose, key, |entry| entry.proposer = row(key, N1_TWIN, 9));
        world.check_rejected(3, &twin, collision);
        let equal = cutover_with(purpose, key, |entry| entry.proposer.local_epoch = 4);
        assert_eq!(world.apply(3, &equal), Outcome::Applied);
    }
}

/// Stale, fresh and repeated cutovers of both envelopes around rotations. The stale one of storage is later for the
/// active key's predecessor, and would be fresh in the state before the rotation.
fn log() -> Vec<Option<Entry>> {
    let storage = |key| Some(cutover(Purpose::Storage, key));
    let raft = |key| Some(cutover(Purpose::Raft, key));
    vec![
        Some(bootstrap()),
        storage(5),
        raft(5),
        Some(rotation(5, Purpose::Storage)),
        storage(1),
        None,
        storage(5),
        raft(2),
        storage(5),
        Some(registration(5, N2, 2)),
        raft(2),
        Some(rotation(6, Purpose::Raft)),
        raft(6),
    ]
}

fn run() -> Run {
    Run { node: World::new, log: log() }
}

#[test]
fn a_stale_one_does_not_become_fresh_where_its_key_was_made_the_active_one_since() {
    for purpose in [Purpose::Storage, Purpose::Raft] {
        let mut world = World::with(&[bootstrap()]);
        let past = world.lasting().registry;
        assert_eq!(world.apply(2, &cutover(purpose, 5)), no_op(NoOp::CutoverStale));
        assert_eq!(world.apply(3, &rotation(5, purpose)), Outcome::Applied);
        let before = world.lasting();
        for restarts in [false, true] {
            world.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
            if restarts {
                world.restart();
            }
            assert_eq!(world.apply(2, &cutover(purpose, 5)), no_op(NoOp::NotNamed));
            assert_eq!(world.apply(3, &rotation(5, purpose)), Outcome::Applied);
            assert_eq!(world.lasting(), before);
        }
        assert_eq!(world.node().cutover(purpose), RaftIndex::ZERO);
        assert_eq!(world.apply(4, &cutover(purpose, 5)), Outcome::Applied);
    }
}

#[test]
fn redelivered_from_every_index_a_stale_one_stays_stale_and_a_fresh_one_keeps_its_index() {
    run().redeliver();
}

#[test]
fn whatever_call_fails_the_cutovers_end_where_a_calm_run_ends() {
    run().sweep_in_turn();
}

#[test]
fn the_log_of_these_tests_has_its_cutovers_at_7_and_8() {
    let mut world = World::started();
    assert!(crate::convergence::deliver(&mut world, &log()));
    let cutover = |purpose| world.node().cutover(purpose).0;
    assert_eq!((cutover(Purpose::Storage), cutover(Purpose::Raft)), (7, 8));
}

#[test]
fn a_cutover_whose_commit_failed_is_finished_by_the_next_life_and_judged_once() {
    for (purpose, key) in BOTH {
        for fault in [CommitFault::Absent, CommitFault::Present] {
            let mut world = World::with(&[bootstrap()]);
            world.registry.borrow_mut().commit = Some(fault);
            let halted = Outcome::Halted(commit_error().into());
            assert_eq!(world.apply(2, &cutover(purpose, key)), halted);
            world.restart();
            assert_eq!(world.node().cutover(purpose), RaftIndex(2));
            if fault == CommitFault::Absent {
                let by_another = cutover_with(purpose, key, |entry| entry.proposer = row(key, N2, 0));
                let error = ApplyError::DifferentEntry { index: RaftIndex(2) };
                world.check_failed(2, &by_another, error);
            }
            assert!(world.apply(2, &cutover(purpose, key)).advances());
            let mut calm = World::with(&[bootstrap()]);
            assert_eq!(calm.apply(2, &cutover(purpose, key)), Outcome::Applied);
            assert_eq!(world.lasting(), calm.lasting());
        }
    }
}

#[test]
fn a_leader_answers_a_repeated_request_with_the_index_of_the_cutover_and_a_stale_one_as_stale() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap(), rotation(5, purpose)]);
        let admit = |world: &World, entry: &Entry| world.node().admit(&entry.encode(), &[]);
        assert_eq!(admit(&world, &cutover(purpose, key)), Admission::Stale);
        assert_eq!(admit(&world, &cutover(purpose, 5)), Admission::Propose);
        assert_eq!(world.apply(3, &cutover(purpose, 5)), Outcome::Applied);
        for key in [key, 5] {
            let by = Some(RaftIndex(3));
            let expected = Admission::Duplicate { no_op: NoOp::CutoverRepeated, by };
            assert_eq!(admit(&world, &cutover(purpose, key)), expected);
        }
    }
}

fn sealed(world: &World, key: u32, payload: &[u8]) -> Vec<u8> {
    let nonce = Nonce::new(0x22, LocalEpoch(1), 1);
    raft::seal(&world.node().cipher(), id(key), &nonce, payload).expect("a loaded key")
}

#[test]
fn an_entry_is_opened_behind_the_raft_cutover_and_left_alone_up_to_it() {
    let mut world = World::with(&[bootstrap(), cutover(Purpose::Storage, 1)]);
    let entry = registration(1, N2, 4).encode();
    let envelope = sealed(&world, 2, &entry);
    let open = |world: &World, index, data: &[u8]| {
        world.node().open_entry(RaftIndex(index), data).map(std::borrow::Cow::into_owned)
    };
    // Storage's cutover is not raft's.
    for index in [2, 3, 4] {
        assert_eq!(open(&world, index, &entry), Ok(entry.clone()));
    }
    assert_eq!(world.apply(3, &cutover(Purpose::Raft, 2)), Outcome::Applied);
    for _ in 0..2 {
        for index in [1, 2, 3] {
            assert_eq!(open(&world, index, &entry), Ok(entry.clone()));
        }
        for index in [4, 5, u64::MAX] {
            assert_eq!(open(&world, index, &envelope), Ok(entry.clone()));
        }
        world.restart();
    }
    // An entry that a rotation found in flight still opens.
    assert_eq!(world.apply(4, &rotation(6, Purpose::Raft)), Outcome::Applied);
    assert_eq!(open(&world, 5, &envelope), Ok(entry.clone()));
    assert_eq!(open(&world, 6, &sealed(&world, 6, &entry)), Ok(entry));
}

#[test]
fn clear_text_behind_the_raft_cutover_and_what_does_not_open_is_refused() {
    let world = World::with(&[bootstrap(), cutover(Purpose::Raft, 2)]);
    let entry = registration(1, N2, 4).encode();
    let open = |data: &[u8]| world.node().open_entry(RaftIndex(3), data).expect_err("it must not open");
    assert!(matches!(open(&[]), Reject::Sealed(OpenError::Envelope(_))));
    let long = rotation(5, Purpose::Storage).encode();
    assert_eq!(open(&long), Reject::Sealed(OpenError::Envelope(EnvelopeError::Version(long[0]))));
    assert!(matches!(open(&entry), Reject::Sealed(OpenError::Envelope(_))));
    let good = sealed(&world, 2, &entry);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(matches!(open(&bad), Reject::Sealed(_)), "byte {at}");
    }
    // A key of the other purpose has nothing to do in the log.
    assert!(matches!(open(&sealed(&world, 1, &entry)), Reject::Sealed(OpenError::Cipher(_))));
}
