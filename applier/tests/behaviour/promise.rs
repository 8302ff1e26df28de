//! The promise: a member that has told a leader of its KEK does not come back with another one.

use std::sync::Arc;

use applier::outcome::StartError;
use applier::ports::Kek;
use applier::{Capability, KekCheck, Outcome, PromiseError};

use crate::harness::{CommitFault, N2, TestKek, World, bootstrap, commit_error, registration};

/// The check value of the KEK that every world begins with.
fn own() -> KekCheck {
    TestKek::new().check_value().expect("within reach")
}

fn timed_out() -> String {
    std::io::Error::from(std::io::ErrorKind::TimedOut).to_string()
}

const CAPABLE: fn() -> Result<Capability, PromiseError> =
    || Ok(Capability { keyring: Some(own()), next: None });

/// A node with or without keys that has promised.
fn promised(log: &[applier::wire::Entry]) -> World {
    let mut world = World::with(log);
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    world
}

#[test]
fn a_promise_is_recorded_once_and_lasts() {
    let mut world = promised(&[]);
    assert_eq!(world.lasting().local.kek, Some(own()));
    let before = world.state();
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    assert_eq!(world.state(), before, "what is recorded is not written again");
    world.restart();
    let before = world.state();
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    assert_eq!(world.state(), before);
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
    let past = applier::registry::RegistrySnapshot::default();
    world.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
    world.restart();
    assert_eq!(world.lasting().local.kek, Some(own()), "no rollback takes it back");
}

#[test]
fn a_promise_changes_nothing_else() {
    let mut world = World::with(&[bootstrap()]);
    let before = world.lasting();
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    let mut after = world.lasting();
    assert_eq!(after.local.kek.take(), Some(own()));
    assert_eq!(after, before);
    assert_eq!(world.apply(2, &registration(1, N2, 4)), Outcome::Applied);
}

#[test]
fn without_a_keyring_nothing_is_promised_and_nothing_written() {
    let mut world = World::started_without_keyring();
    let before = world.state();
    assert_eq!(world.node_mut().promise(own(), 0), Ok(Capability { keyring: None, next: None }));
    assert_eq!(world.state(), before);
    world.keyring = true;
    world.kek = Arc::new(TestKek::of([9; 32]));
    world.restart();
}

/// The start is refused with this error and changes neither sidecar nor database, and the right one succeeds.
#[track_caller]
fn check_refused(world: &mut World, change: impl FnOnce(&mut World), error: &StartError) {
    let before = world.lasting();
    let kek = world.kek.clone();
    change(world);
    world.stop();
    let files = world.disk();
    assert_eq!(world.try_restart().as_ref(), Err(error));
    assert_eq!(world.disk(), files);
    world.keyring = true;
    world.kek = kek;
    world.kek.set_available(true);
    world.restart();
    assert_eq!(world.lasting(), before);
}

#[test]
fn another_kek_than_the_promised_one_is_refused_with_and_without_keys() {
    let other = TestKek::of([9; 32]);
    let error = StartError::OtherKek { promised: own(), found: other.check_value().expect("within reach") };
    let other = Arc::new(other);
    for log in [[].as_slice(), &[bootstrap()]] {
        check_refused(&mut promised(log), |world| world.kek = other.clone(), &error);
    }
}

#[test]
fn a_promise_is_looked_at_before_anything_of_the_sidecar_is_touched() {
    let mut world = promised(&[bootstrap()]);
    world.stop();
    std::fs::write(world.sidecar_path() + ".tmp", "left over").expect("a writable directory");
    world.kek = Arc::new(TestKek::of([9; 32]));
    let (before, from) = (world.disk(), world.files.calls());
    assert!(matches!(world.try_restart(), Err(StartError::OtherKek { .. })));
    assert_eq!(world.disk(), before);
    let log = world.files.log_since(from);
    assert!(log.iter().all(|(_, name)| name != "encryption" && !name.starts_with("keys")), "{log:?}");
}

#[test]
fn a_node_that_promised_is_not_started_without_a_keyring() {
    let error = StartError::KeyringPromised { promised: own() };
    check_refused(&mut promised(&[]), |world| world.keyring = false, &error);
    // Where it has keys, those are the better reason.
    let error = StartError::KeyringRequired { applied: applier::RaftIndex(1) };
    check_refused(&mut promised(&[bootstrap()]), |world| world.keyring = false, &error);
}

#[test]
fn a_kek_that_cannot_be_asked_keeps_only_a_node_that_promised_from_starting() {
    let mut world = World::started();
    world.kek.asked();
    world.kek.set_available(false);
    world.restart();
    assert_eq!(world.kek.asked(), 0, "nothing was promised, so nothing is asked");
    assert_eq!(world.node_mut().promise(own(), 0), Err(PromiseError::KekUnavailable(timed_out())));
    world.kek.set_available(true);
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    let error = StartError::KekUnavailable(timed_out());
    check_refused(&mut world, |world| world.kek.set_available(false), &error);
}

/// Nothing is promised, for this reason, and nothing touched.
#[track_caller]
fn check_no_promise(world: &mut World, error: &PromiseError) {
    for _ in 0..2 {
        let before = world.state();
        assert_eq!(world.node_mut().promise(own(), 0).as_ref(), Err(error));
        assert_eq!(world.state(), before);
    }
}

#[test]
fn a_promise_that_cannot_be_made_is_none_and_may_be_made_later() {
    let mut world = World::started();
    world.kek.set_available(false);
    check_no_promise(&mut world, &PromiseError::KekUnavailable(timed_out()));
    world.kek.set_available(true);
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
}

#[test]
fn a_kek_that_becomes_another_one_in_a_life_does_not_change_the_promise() {
    let mut world = promised(&[]);
    let found = KekCheck([7; 8]);
    world.kek.pretend(found);
    check_no_promise(&mut world, &PromiseError::KekMissing { wanted: own() });
    world.kek = Arc::new(TestKek::new());
    world.restart();
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
}

#[test]
fn a_promise_whose_commit_failed_poisons_and_was_either_made_or_not() {
    for (fault, recorded) in [(CommitFault::Absent, None), (CommitFault::Present, Some(own()))] {
        let mut world = World::started();
        world.registry.borrow_mut().commit = Some(fault);
        assert_eq!(world.node_mut().promise(own(), 0), Err(PromiseError::Halted(commit_error())));
        world.check_poisoned(1, &bootstrap());
        world.restart();
        assert_eq!(world.lasting().local.kek, recorded);
        assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    }
}

#[test]
fn an_answer_that_keeps_the_leader_from_it_binds_nobody() {
    let mut world = World::started();
    let before = world.lasting();
    assert_eq!(world.node_mut().promise(KekCheck([7; 8]), 0), CAPABLE());
    assert_eq!(world.lasting(), before);
    assert_eq!(world.lasting().local.kek, None);
    assert_eq!(world.node_mut().promise(own(), 0), CAPABLE());
    assert!(world.lasting().local.kek.is_some());
}
