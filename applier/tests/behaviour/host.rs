//! The host's part of the transaction: there with the entry, or not there at all.

use applier::outcome::{HaltCause, NoOp};
use applier::registry::{CommitError, HostRefused};
use applier::wire::Entry;
use applier::{Outcome, Purpose, RaftIndex};
use redb::{ReadableDatabase, TableDefinition, WriteTransaction};

use crate::harness::{CommitFault, N2, World, bootstrap, registration, rotation};

const TABLE: TableDefinition<u64, u64> = TableDefinition::new("host");

fn write(transaction: &WriteTransaction, index: u64) {
    let mut table = transaction.open_table(TABLE).expect("a fresh transaction");
    table.insert(index, index * 10).expect("an open table");
}

/// What the host wrote under `index`, as far as it is durable.
fn written(world: &World, index: u64) -> Option<u64> {
    let view = world.node().registry().database().begin_read().expect("an open database");
    let table = view.open_table(TABLE).ok()?;
    table.get(index).expect("an open table").map(|value| value.value())
}

/// Applies with a host that writes, and then agrees or refuses.
fn apply_with(world: &mut World, index: u64, entry: Option<&Entry>, refuses: bool) -> Outcome {
    let mut host = |transaction: &WriteTransaction| {
        write(transaction, index);
        if refuses { Err(HostRefused("no".to_owned())) } else { Ok(()) }
    };
    match entry {
        Some(entry) => world.node_mut().apply_with(RaftIndex(index), &entry.encode(), &mut host),
        None => world.node_mut().advance(RaftIndex(index), &mut host),
    }
}

/// One of each outcome that goes on, at its index.
fn log() -> [(Option<Entry>, Outcome); 5] {
    [
        (None, Outcome::Applied),
        (Some(bootstrap()), Outcome::Applied),
        (Some(rotation(5, Purpose::Storage)), Outcome::Applied),
        (Some(registration(5, N2, 1)), Outcome::Applied),
        (Some(bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap)),
    ]
}

#[test]
fn the_hosts_part_is_durable_together_with_every_kind_of_entry() {
    let mut world = World::started();
    for (index, (entry, outcome)) in (1..).zip(log()) {
        assert_eq!(apply_with(&mut world, index, entry.as_ref(), false), outcome);
        world.restart();
        assert_eq!(written(&world, index), Some(index * 10));
        assert_eq!(world.node().applied_index(), RaftIndex(index));
    }
}

#[test]
fn a_host_that_refuses_halts_the_applier_and_nothing_of_the_transaction_is_there() {
    for refused in 1..=5 {
        let mut world = World::started();
        for (index, (entry, outcome)) in (1..).zip(log()) {
            if index == refused {
                let before = world.lasting().registry;
                let halted = apply_with(&mut world, index, entry.as_ref(), true);
                let cause = CommitError(HostRefused("no".to_owned()).to_string());
                assert_eq!(halted, Outcome::Halted(HaltCause::Commit(cause)));
                world.check_poisoned(index, &bootstrap());
                world.restart();
                assert_eq!(written(&world, index), None);
                assert_eq!(world.lasting().registry, before);
            }
            assert_eq!(apply_with(&mut world, index, entry.as_ref(), false), outcome);
            assert_eq!(written(&world, index), Some(index * 10));
        }
    }
}

#[test]
fn a_failed_commit_keeps_entry_and_host_together() {
    for (fault, there) in [(CommitFault::Absent, false), (CommitFault::Present, true)] {
        let mut world = World::with(&[bootstrap()]);
        let entry = registration(1, N2, 3);
        world.registry.borrow_mut().commit = Some(fault);
        assert!(matches!(apply_with(&mut world, 2, Some(&entry), false), Outcome::Halted(_)));
        world.restart();
        assert_eq!(written(&world, 2), there.then_some(20));
        assert_eq!(world.node().applied_index(), RaftIndex(if there { 2 } else { 1 }));
    }
}

#[test]
fn a_skipped_entry_does_not_call_the_host() {
    let mut world = World::with(&[bootstrap()]);
    assert_eq!(apply_with(&mut world, 1, Some(&bootstrap()), false), Outcome::NoOp(NoOp::AlreadyApplied));
    assert_eq!(apply_with(&mut world, 1, None, true), Outcome::NoOp(NoOp::AlreadyApplied));
    assert_eq!(written(&world, 1), None);
}

#[test]
fn a_rollback_takes_the_hosts_part_with_it_or_does_not_happen() {
    let mut world = World::with(&[bootstrap(), registration(1, N2, 3)]);
    let (before, past) = (world.lasting(), applier::registry::RegistrySnapshot::default());
    let refused = world.node_mut().restore(&past, &mut |transaction| {
        write(transaction, 7);
        Err(HostRefused("no".to_owned()))
    });
    assert!(matches!(refused, Err(applier::apply::RestoreError::Commit(_))));
    world.check_poisoned(3, &bootstrap());
    world.restart();
    assert_eq!((world.lasting(), written(&world, 7)), (before, None));
    let mut host = |transaction: &WriteTransaction| {
        write(transaction, 7);
        Ok(())
    };
    assert_eq!(world.node_mut().restore(&past, &mut host), Ok(()));
    world.restart();
    assert_eq!((world.node().applied_index(), written(&world, 7)), (RaftIndex::ZERO, Some(70)));
}
