//! Whatever mutating call fails, and however: restart and redelivery end where a calm run ends.

use applier::outcome::NoOp;
use applier::wire::Entry;
use applier::{Outcome, Purpose};

use crate::harness::{EIO, Effect, Fault, Lasting, N2, World, bootstrap, registration, rotation};

/// A log with every kind of entry and every duplicate. `None` is an entry of the host's own.
pub(crate) fn log() -> Vec<Option<Entry>> {
    let again = rotation(5, Purpose::Storage);
    vec![
        None,
        Some(bootstrap()),
        Some(registration(1, N2, 1)),
        Some(again.clone()),
        Some(again),
        Some(registration(1, N2, 1)),
        Some(rotation(6, Purpose::Raft)),
        Some(bootstrap()),
        Some(registration(6, N2, 2)),
    ]
}

/// Delivers what is due until the log is done or an outcome stops it.
pub(crate) fn deliver(world: &mut World, log: &[Option<Entry>]) -> bool {
    loop {
        let due = world.node().applied_index().next().0;
        let Some(entry) = log.get(due as usize - 1) else { return true };
        let outcome = match entry {
            Some(entry) => world.apply(due, entry),
            None => world.advance(due),
        };
        match outcome {
            Outcome::Applied | Outcome::NoOp(_) => {}
            Outcome::Halted(_) => return false,
            other => panic!("entry {due} of a legitimate log: {other:?}"),
        }
    }
}

fn calm() -> (Lasting, usize) {
    let mut world = World::started();
    assert!(deliver(&mut world, &log()));
    (world.lasting(), world.files.calls())
}

/// Runs the log with this fault from the first start on, restarts until it is through, and says whether the fault
/// was delivered.
fn run(fault: Fault, expected: &Lasting) -> bool {
    let mut world = World::new();
    world.files.arm(fault);
    let done = world.try_restart().is_ok() && deliver(&mut world, &log());
    world.stop();
    let delivered = world.files.disarm() > 0;
    assert!(done || delivered, "only a fault stops a legitimate log");
    world.restart();
    assert!(deliver(&mut world, &log()));
    assert_eq!(world.lasting(), *expected);
    delivered
}

fn sweep(fault: impl Fn(usize) -> Fault) {
    let (expected, calls) = calm();
    assert!(calls > 100, "{calls} calls are too few to be a whole run");
    for n in 0..calls {
        assert!(run(fault(n), &expected), "call {n} of {calls} did not fail");
    }
}

#[test]
fn a_call_that_fails_without_effect_does_no_lasting_harm() {
    sweep(|n| Fault::nth(n, EIO, Effect::Absent));
}

#[test]
fn a_call_that_takes_effect_and_reports_an_error_does_no_lasting_harm() {
    sweep(|n| Fault::nth(n, EIO, Effect::Present));
}

#[test]
fn a_disk_that_dies_at_any_call_does_no_lasting_harm() {
    sweep(|n| Fault::nth(n, EIO, Effect::Absent).lasting());
}

#[test]
fn a_restart_after_every_entry_changes_nothing() {
    let (expected, _) = calm();
    let mut world = World::new();
    for end in 1..=log().len() {
        world.restart();
        assert!(deliver(&mut world, &log()[..end]));
    }
    assert_eq!(world.lasting(), expected);
    world.restart();
    assert_eq!(world.lasting(), expected);
}

#[test]
fn a_log_that_is_delivered_twice_is_skipped_the_second_time() {
    let (expected, _) = calm();
    let mut world = World::started();
    assert!(deliver(&mut world, &log()));
    for (index, entry) in (1..).zip(log()) {
        let outcome = match entry {
            Some(entry) => world.apply(index, &entry),
            None => world.advance(index),
        };
        assert_eq!(outcome, Outcome::NoOp(NoOp::AlreadyApplied));
    }
    assert_eq!(world.lasting(), expected);
}
