//! The host rolls its state machine back and delivers again: the sidecar is ahead then, and stays as it is.

use applier::apply::RestoreError;
use applier::outcome::{ApplyError, NoOp, StartError};
use applier::registry::RegistrySnapshot;
use applier::wire::Entry;
use applier::{Outcome, Purpose, RaftIndex};

use crate::harness::{
    CommitFault, N1, N2, NOW, World, bootstrap, bootstrap_with, commit_error, registration, rotation,
    rotation_with, seen,
};

const APPLIED: Outcome = Outcome::Applied;
const NOT_NAMED: Outcome = Outcome::NoOp(NoOp::NotNamed);

/// Entries, what each comes to the first time, and what when it is redelivered to a sidecar that is ahead.
fn log() -> Vec<(Option<Entry>, Outcome, Outcome)> {
    let duplicate = |reason| Outcome::NoOp(reason);
    vec![
        (None, APPLIED, APPLIED),
        (Some(bootstrap()), APPLIED, APPLIED),
        (Some(registration(1, N2, 1)), APPLIED, APPLIED),
        (Some(bootstrap()), duplicate(NoOp::DuplicateBootstrap), NOT_NAMED),
        (Some(rotation(5, Purpose::Storage)), APPLIED, APPLIED),
        (Some(registration(5, N2, 1)), APPLIED, APPLIED),
        (Some(rotation(5, Purpose::Storage)), duplicate(NoOp::DuplicateRotation), NOT_NAMED),
        (Some(rotation(6, Purpose::Storage)), APPLIED, APPLIED),
        (Some(registration(1, N2, 2)), APPLIED, APPLIED),
        (
            Some(rotation(5, Purpose::Storage)),
            duplicate(NoOp::DuplicateRotation),
            duplicate(NoOp::DuplicateRotation),
        ),
    ]
}

fn deliver(world: &mut World, index: u64, entry: Option<&Entry>) -> Outcome {
    match entry {
        Some(entry) => world.apply(index, entry),
        None => world.advance(index),
    }
}

/// A node that has applied the whole log, with the snapshot after each index.
fn node() -> (World, Vec<RegistrySnapshot>) {
    let mut world = World::started();
    let mut snapshots = vec![world.lasting().registry];
    for (index, (entry, first, _)) in (1..).zip(log()) {
        assert_eq!(deliver(&mut world, index, entry.as_ref()), first, "entry {index}");
        snapshots.push(world.lasting().registry);
    }
    (world, snapshots)
}

#[track_caller]
fn restore(world: &mut World, snapshot: &RegistrySnapshot) {
    world.node_mut().restore(snapshot, &mut |_| Ok(())).expect("a snapshot of its own past");
}

#[test]
fn redelivery_from_every_earlier_index_ends_in_the_same_state_and_asks_no_kek() {
    for restarts in [false, true] {
        let (mut world, snapshots) = node();
        let expected = world.lasting();
        world.clock.put(NOW + 1000);
        for (from, snapshot) in snapshots.iter().enumerate() {
            restore(&mut world, snapshot);
            if restarts {
                world.restart();
            }
            world.kek.asked();
            for (index, (entry, _, again)) in (1..).zip(log()).skip(from) {
                assert_eq!(deliver(&mut world, index, entry.as_ref()), again, "entry {index}, from {from}");
                assert_eq!((world.disk(), world.keys()), (expected.disk.clone(), expected.keys.clone()));
            }
            assert_eq!(world.kek.asked(), 0, "what is named in the sidecar is not unwrapped again");
            assert_eq!(world.lasting(), expected);
        }
    }
}

#[test]
fn a_rollback_replaces_rows_and_index_and_leaves_keys_sidecar_and_proof() {
    let (mut world, snapshots) = node();
    let before = world.lasting();
    restore(&mut world, &snapshots[3]);
    let after = world.lasting();
    assert_eq!(after.registry.rows, [seen(1, N1, 0, 0), seen(2, N1, 0, 0), seen(1, N2, 1, 1)].into());
    assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(3), RaftIndex(8)));
    assert_eq!((after.keys, after.active, after.held), (before.keys, before.active, before.held));
    assert_eq!(after.disk, before.disk);
}

#[test]
fn the_proof_survives_a_rollback_to_before_everything() {
    let (mut world, _) = node();
    restore(&mut world, &RegistrySnapshot::default());
    world.stop();
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    std::fs::remove_file(world.sidecar_path()).expect("it exists");
    let path = world.sidecar_path();
    assert_eq!(world.try_restart(), Err(StartError::SidecarMissing { path, applied: RaftIndex(8) }));
    world.put_sidecar(&bytes);
    world.restart();
    world.stop();
    world.keyring = false;
    assert_eq!(world.try_restart(), Err(StartError::KeyringRequired { applied: RaftIndex(8) }));
}

#[test]
fn another_entry_under_the_index_of_an_effect_is_refused_and_one_that_is_not_named_was_a_no_op() {
    let (mut world, snapshots) = node();
    restore(&mut world, &snapshots[4]);
    let other = rotation_with(5, |entry| entry.proposer.local_epoch = 9);
    world.check_failed(5, &other, ApplyError::DifferentEntry { index: RaftIndex(5) });
    world.check_failed(5, &bootstrap(), ApplyError::DifferentEntry { index: RaftIndex(5) });
    restore(&mut world, &snapshots[1]);
    let other = bootstrap_with(|entry| entry.batch.clear());
    world.check_failed(2, &other, ApplyError::DifferentEntry { index: RaftIndex(2) });
}

#[test]
fn a_crash_in_the_registry_part_of_a_redelivery_is_made_good_by_the_next() {
    let (mut world, snapshots) = node();
    let expected = world.lasting();
    restore(&mut world, &snapshots[1]);
    for (index, (entry, _, again)) in (1..).zip(log()).skip(1) {
        world.registry.borrow_mut().commit = Some(CommitFault::Absent);
        assert!(matches!(deliver(&mut world, index, entry.as_ref()), Outcome::Halted(_)));
        world.restart();
        assert_eq!(deliver(&mut world, index, entry.as_ref()), again);
    }
    assert_eq!(world.lasting(), expected);
}

#[test]
fn a_snapshot_that_is_ahead_is_refused_and_nothing_is_touched() {
    let (mut world, snapshots) = node();
    restore(&mut world, &snapshots[3]);
    let before = world.state();
    let mut asked = false;
    let refused = world.node_mut().restore(&snapshots[4], &mut |_| {
        asked = true;
        Ok(())
    });
    let ahead = RestoreError::Ahead { snapshot: RaftIndex(4), applied: RaftIndex(3) };
    assert_eq!((refused, asked), (Err(ahead), false));
    assert_eq!(world.state(), before);
    restore(&mut world, &snapshots[3]);
}

#[test]
fn a_rollback_whose_commit_failed_poisons_and_either_happened_or_did_not() {
    for (fault, index) in [(CommitFault::Absent, 10), (CommitFault::Present, 3)] {
        let (mut world, snapshots) = node();
        world.registry.borrow_mut().commit = Some(fault);
        let failed = world.node_mut().restore(&snapshots[3], &mut |_| Ok(()));
        assert_eq!(failed, Err(RestoreError::Commit(commit_error())));
        assert!(world.node().is_poisoned());
        world.restart();
        assert_eq!(world.lasting().registry, snapshots[index]);
    }
}
