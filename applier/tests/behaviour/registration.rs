//! Registrations: the row rules, which keys they may name, and failing reads and commits.

use applier::outcome::{ApplyError, HaltCause, NoOp, Reject};
use applier::registry::Clash;
use applier::{Outcome, Purpose};

use crate::harness::{
    CommitFault, N1, N1_TWIN, N2, World, bootstrap, commit_error, id, read_error, registration, rotation,
    seen,
};

const DUPLICATE: Outcome = Outcome::NoOp(NoOp::DuplicateRegistration);

/// A bootstrapped node at index 1, whose rows are those of the bootstrap.
fn bootstrapped() -> World {
    World::with(&[bootstrap()])
}

#[test]
fn the_first_registration_inserts_a_row_whose_epochs_are_equal() {
    let mut world = bootstrapped();
    assert_eq!(world.apply(2, &registration(1, N2, 4)), Outcome::Applied);
    let rows = [seen(1, N1, 0, 0), seen(2, N1, 0, 0), seen(1, N2, 4, 4)];
    assert_eq!(world.rows(), rows.into());
    assert_eq!(world.node().applied_index().0, 2);
}

#[test]
fn a_higher_epoch_advances_the_row_and_keeps_its_first_one() {
    let mut world = bootstrapped();
    assert_eq!(world.apply(2, &registration(1, N2, 1)), Outcome::Applied);
    assert_eq!(world.apply(3, &registration(1, N2, 3)), Outcome::Applied);
    world.check_row(seen(1, N2, 1, 3));
}

#[test]
fn an_epoch_below_the_newest_is_rejected_even_above_the_first() {
    let mut world = World::with(&[bootstrap(), registration(1, N2, 2), registration(1, N2, 5)]);
    for got in [0, 2, 4] {
        let clash = Clash::EpochRollback { dek_id: 1, full_node_id: N2, last_seen: 5, got };
        world.check_rejected(4, &registration(1, N2, got), clash);
    }
}

#[test]
fn the_same_registration_again_changes_nothing_but_the_index() {
    let mut world = World::with(&[bootstrap(), registration(1, N2, 5)]);
    let before = world.rows();
    assert_eq!(world.apply(3, &registration(1, N2, 5)), DUPLICATE);
    assert_eq!(world.rows(), before);
    assert_eq!(world.node().applied_index().0, 3);
    world.restart();
    assert_eq!(world.node().applied_index().0, 3);
}

#[test]
fn another_node_with_the_same_low_bits_is_rejected_whatever_its_epoch() {
    let mut world = World::with(&[bootstrap(), registration(1, N1, 5)]);
    let clash = Clash::NodeCollision { dek_id: 1, existing: N1, got: N1_TWIN };
    for epoch in [0, 5, 6] {
        world.check_rejected(3, &registration(1, N1_TWIN, epoch), clash);
    }
    assert_eq!(world.apply(3, &registration(2, N2, 0)), Outcome::Applied);
}

#[test]
fn rows_of_one_node_under_two_keys_are_independent() {
    let mut world = World::with(&[bootstrap(), registration(1, N2, 9), registration(2, N2, 1)]);
    world.check_row(seen(1, N2, 9, 9));
    world.check_row(seen(2, N2, 1, 1));
    assert_eq!(world.apply(4, &registration(2, N2, u16::MAX)), Outcome::Applied);
    world.check_row(seen(2, N2, 1, u16::MAX));
}

#[test]
fn a_failed_read_is_pure_and_the_same_call_succeeds_later() {
    let mut world = bootstrapped();
    world.registry.borrow_mut().reads_fail = true;
    world.check_failed(2, &registration(1, N2, 4), ApplyError::Registry(read_error()));
    world.registry.borrow_mut().reads_fail = false;
    assert_eq!(world.apply(2, &registration(1, N2, 4)), Outcome::Applied);
}

/// The outcome of a failed commit is unknown in this life and found by the next start.
fn check_failed_commit(fault: CommitFault, redelivered: &Outcome) {
    let mut world = bootstrapped();
    let entry = registration(1, N2, 4);
    world.registry.borrow_mut().commit = Some(fault);
    assert_eq!(world.apply(2, &entry), Outcome::Halted(HaltCause::Commit(commit_error())));
    assert!(world.node().is_poisoned());
    assert_eq!(world.node().applied_index().0, 1);
    world.restart();
    assert_eq!(world.apply(2, &entry), *redelivered);
    world.check_row(seen(1, N2, 4, 4));
    assert_eq!(world.node().applied_index().0, 2);
}

#[test]
fn a_commit_that_failed_and_is_absent_is_done_by_the_redelivery() {
    check_failed_commit(CommitFault::Absent, &Outcome::Applied);
}

#[test]
fn a_commit_that_failed_and_is_present_is_skipped_by_the_redelivery() {
    check_failed_commit(CommitFault::Present, &Outcome::NoOp(NoOp::AlreadyApplied));
}

#[test]
fn a_key_that_does_not_exist_at_that_point_of_the_log_is_rejected() {
    let mut world = World::started();
    world.check_rejected(1, &registration(1, N2, 0), Reject::UnknownKey(id(1)));
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
    world.check_rejected(2, &registration(3, N2, 0), Reject::UnknownKey(id(3)));
    assert_eq!(world.apply(2, &rotation(3, Purpose::Raft)), Outcome::Applied);
    assert_eq!(world.apply(3, &registration(3, N2, 0)), Outcome::Applied);
}

#[test]
fn a_key_that_a_later_entry_installed_is_unknown_to_an_earlier_registration() {
    let mut world = bootstrapped();
    let snapshot = world.lasting().registry;
    assert_eq!(world.advance(2), Outcome::Applied);
    assert_eq!(world.apply(3, &rotation(5, Purpose::Storage)), Outcome::Applied);
    world.node_mut().restore(&snapshot, &mut |_| Ok(())).expect("a snapshot of its own past");
    world.check_rejected(2, &registration(5, N2, 0), Reject::UnknownKey(id(5)));
    assert_eq!(world.advance(2), Outcome::Applied);
    assert_eq!(world.apply(3, &rotation(5, Purpose::Storage)), Outcome::Applied);
    assert_eq!(world.apply(4, &registration(5, N2, 0)), Outcome::Applied);
}

#[test]
fn without_a_keyring_the_row_rules_alone_decide() {
    let mut world = World::started_without_keyring();
    assert_eq!(world.apply(1, &registration(77, N2, 3)), Outcome::Applied);
    assert_eq!(world.apply(2, &registration(77, N2, 3)), DUPLICATE);
    let clash = Clash::EpochRollback { dek_id: 77, full_node_id: N2, last_seen: 3, got: 2 };
    world.check_rejected(3, &registration(77, N2, 2), clash);
    assert_eq!(world.rows(), [seen(77, N2, 3, 3)].into());
}

#[test]
fn the_reserved_ids_are_rejected_with_and_without_a_keyring() {
    for mut world in [World::started(), World::started_without_keyring()] {
        world.check_rejected(1, &registration(0, N2, 0), Reject::ReservedKeyId);
        world.check_rejected(1, &registration(1, 0, 0), Reject::ReservedNodeId);
    }
}

#[test]
fn an_older_registration_that_comes_again_after_a_newer_one_is_no_rollback() {
    let mut world = bootstrapped();
    let snapshot = world.lasting().registry;
    let log = [registration(1, N2, 1), registration(1, N2, 2)];
    for (index, entry) in (2..).zip(&log) {
        assert_eq!(world.apply(index, entry), Outcome::Applied);
    }
    let after = world.lasting();
    world.restart();
    assert_eq!(world.apply(2, &log[0]), Outcome::NoOp(NoOp::AlreadyApplied));
    world.node_mut().restore(&snapshot, &mut |_| Ok(())).expect("a snapshot of its own past");
    for (index, entry) in (2..).zip(&log) {
        assert_eq!(world.apply(index, entry), Outcome::Applied);
    }
    assert_eq!(world.lasting(), after);
}
