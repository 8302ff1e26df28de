//! What is due at which index.

use applier::outcome::{ApplyError, NoOp, Reject};
use applier::{Outcome, Purpose, RaftIndex};

use crate::harness::{
    CommitFault, N2, NOW, World, blob_with_nonce, bootstrap, bootstrap_with, id, registration, rotation,
    rotation_with,
};

const SKIPPED: Outcome = Outcome::NoOp(NoOp::AlreadyApplied);

#[test]
fn a_skipped_index_fails_purely_whatever_is_delivered() {
    let mut world = World::with(&[bootstrap()]);
    for got in [3, 4, u64::MAX] {
        let gap = ApplyError::IndexGap { expected: RaftIndex(2), got: RaftIndex(got) };
        world.check_failed(got, &rotation(5, Purpose::Storage), gap.clone());
        let before = world.state();
        assert_eq!(world.advance(got), Outcome::Failed(gap));
        assert_eq!(world.state(), before);
    }
}

#[test]
fn an_entry_at_or_below_the_applied_index_is_skipped_and_not_even_decoded() {
    let log = [bootstrap(), rotation(5, Purpose::Storage), registration(1, N2, 1)];
    let mut world = World::with(&log);
    let clash = registration(1, N2, 0);
    for index in 0..=3 {
        for entry in log.iter().chain([&clash]) {
            world.check_pure(index, &entry.encode(), &SKIPPED);
        }
        world.check_pure(index, b"no entry", &SKIPPED);
        let before = world.state();
        assert_eq!(world.advance(index), SKIPPED);
        assert_eq!(world.state(), before);
    }
}

#[test]
fn the_index_moves_with_every_entry_and_lasts() {
    let mut world = World::started();
    for index in 1..=3 {
        assert_eq!(world.advance(index), Outcome::Applied);
        world.restart();
        assert_eq!(world.node().applied_index(), RaftIndex(index));
    }
    assert_eq!(world.apply(4, &bootstrap()), Outcome::Applied);
    assert_eq!(world.apply(5, &bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap));
    world.restart();
    assert_eq!(world.node().applied_index(), RaftIndex(5));
    assert_eq!(world.lasting().local.sidecar_index, RaftIndex(4), "a duplicate does not change the sidecar");
}

#[test]
fn another_entry_at_an_index_whose_effect_is_here_fails_purely() {
    let mut world = World::with(&[bootstrap()]);
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    let delivered = rotation(5, Purpose::Storage);
    assert!(matches!(world.apply(2, &delivered), Outcome::Halted(_)));
    world.restart();
    let other_bytes = rotation_with(5, |entry| entry.wrapped = blob_with_nonce(5, 6));
    let other_row = rotation_with(5, |entry| entry.proposer.local_epoch = 1);
    let other_kind = bootstrap_with(|entry| entry.batch.clear());
    for entry in [other_bytes, other_row, rotation(6, Purpose::Raft), other_kind] {
        world.check_failed(2, &entry, ApplyError::DifferentEntry { index: RaftIndex(2) });
    }
    assert_eq!(world.apply(2, &delivered), Outcome::Applied);
}

#[test]
fn an_entry_of_a_kind_that_installs_no_key_is_another_one_too() {
    let mut world = World::with(&[bootstrap()]);
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    assert!(matches!(world.apply(2, &rotation(5, Purpose::Storage)), Outcome::Halted(_)));
    world.restart();
    let different = ApplyError::DifferentEntry { index: RaftIndex(2) };
    world.check_failed(2, &registration(1, N2, 1), different.clone());
    let before = world.state();
    assert_eq!(world.advance(2), Outcome::Failed(different));
    assert_eq!(world.state(), before);
}

#[test]
fn an_entry_that_is_redelivered_after_its_sidecar_write_is_judged_again_only_in_its_rows() {
    let mut world = World::started();
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    assert!(matches!(world.apply(1, &bootstrap()), Outcome::Halted(_)));
    world.restart();
    world.kek.asked();
    let disk = world.disk();
    let calls = world.files.calls();
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
    assert_eq!(world.kek.asked(), 0);
    assert_eq!(world.disk(), disk);
    let touched = world.files.log_since(calls);
    assert!(touched.iter().all(|(_, name)| name == "registry.redb"), "the sidecar is done: {touched:?}");
    assert_eq!(world.lasting().local.sidecar_index, RaftIndex(1));
}

#[test]
fn the_time_of_creation_never_changes() {
    let mut world = World::started();
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    assert!(matches!(world.apply(1, &bootstrap()), Outcome::Halted(_)));
    let written = world.disk();
    let mut later = NOW;
    let mut next_day = |world: &mut World| {
        later += 86_400;
        world.clock.put(later);
        world.restart();
    };
    next_day(&mut world);
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
    assert_eq!(world.disk(), written);
    next_day(&mut world);
    assert_eq!(world.apply(1, &bootstrap()), SKIPPED);
    assert_eq!(world.apply(2, &bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap));
    assert_eq!(world.disk(), written);
    assert_eq!(world.apply(3, &rotation(5, Purpose::Storage)), Outcome::Applied);
    let sidecar = world.node().sidecar().expect("bootstrapped").clone();
    let created = |key| sidecar.keys[&id(key)].created.clone();
    assert_eq!(
        [1, 2, 5].map(created),
        ["2020-01-01", "2020-01-01", "2020-01-03"].map(|day| format!("{day}T00:00:00Z"))
    );
}

#[test]
fn a_rejected_entry_stays_due() {
    let mut world = World::with(&[bootstrap()]);
    world.check_rejected(
        2,
        &rotation(1, Purpose::Storage),
        Reject::KeyIdInUse { id: id(1), by: RaftIndex(1) },
    );
    assert_eq!(world.node().applied_index(), RaftIndex(1));
    assert!(!world.node().is_poisoned());
    assert_eq!(world.apply(2, &rotation(5, Purpose::Storage)), Outcome::Applied);
}

#[test]
fn only_applied_and_no_op_let_the_host_go_on() {
    let goes_on = [Outcome::Applied, SKIPPED, Outcome::NoOp(NoOp::NotNamed)];
    assert!(goes_on.iter().all(Outcome::advances));
    let halted = applier::outcome::HaltCause::Commit(applier::registry::CommitError(String::new()));
    let stops = [
        Outcome::Rejected(Reject::NotBootstrapped),
        Outcome::Failed(ApplyError::Poisoned),
        Outcome::Halted(halted),
    ];
    assert!(!stops.iter().any(Outcome::advances));
}

#[test]
fn no_message_and_no_debug_form_shows_key_bytes() {
    let world = World::with(&[bootstrap()]);
    let shown = format!("{:?} {:?} {:?}", world.node(), world.config(), world.node().keystore());
    for byte in [1_u8, 2] {
        // A run of half a key: the nonces of these blobs are shorter.
        let decimal = [byte; 16].map(|byte| byte.to_string()).join(", ");
        assert!(!shown.contains(&decimal) && !shown.contains(&hex::encode([byte; 16])), "{shown}");
    }
}

#[test]
fn debug_forms_say_what_everybody_may_know() {
    let world = World::with(&[bootstrap()]);
    let shown = format!("{:?}", world.node());
    for part in ["Keyring { path: ", "Clock", "RedbRegistry"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(format!("{:?}", applier::secret::Dek::new([1; 32])), "Dek(..)");
    let flags = applier::preflight::Flags { enabled: true, kek: None, sidecar: Some("keys.json".to_owned()) };
    assert_eq!(format!("{flags:?}"), r#"Flags { enabled: true, kek: false, sidecar: Some("keys.json") }"#);
}

#[test]
fn a_clock_beyond_the_last_year_that_can_be_written_does_not_stop_a_key() {
    for far in [253_402_300_800, u64::MAX] {
        let mut world = World::started();
        world.clock.put(far);
        assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
        world.restart();
    }
}
