//! Whatever mutating call fails, and however: restart and redelivery end where a calm run ends.

use applier::outcome::NoOp;
use applier::registry::RegistrySnapshot;
use applier::wire::Entry;
use applier::{Outcome, Purpose};

use crate::harness::{
    CommitFault, EIO, Effect, Fault, Lasting, N2, NOW, World, bootstrap, registration, rotation,
};

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

/// A legitimate log, and a node that has not started yet.
pub(crate) struct Run {
    pub(crate) node: fn() -> World,
    pub(crate) log: Vec<Option<Entry>>,
}

impl Run {
    /// What a calm run ends in, how many calls it makes, and the registry after each index.
    fn calm(&self) -> (Lasting, usize, Vec<RegistrySnapshot>) {
        let mut world = (self.node)();
        world.restart();
        let mut snapshots = vec![world.lasting().registry];
        for end in 1..=self.log.len() {
            assert!(deliver(&mut world, &self.log[..end]));
            snapshots.push(world.lasting().registry);
        }
        (world.lasting(), world.files.calls(), snapshots)
    }

    /// Runs the log with this fault from the first start on, restarts until it is through, and says whether the fault
    /// was delivered.
    fn with(&self, fault: Fault, expected: &Lasting) -> bool {
        let mut world = (self.node)();
        world.files.arm(fault);
        let done = world.try_restart().is_ok() && deliver(&mut world, &self.log);
        world.stop();
        let delivered = world.files.disarm() > 0;
        assert!(done || delivered, "only a fault stops a legitimate log");
        world.restart();
        assert!(deliver(&mut world, &self.log));
        assert_eq!(world.lasting(), *expected);
        delivered
    }

    /// Whichever call fails like this: the end is that of a calm run.
    pub(crate) fn sweep(&self, fault: impl Fn(usize) -> Fault) {
        let (expected, calls, _) = self.calm();
        assert!(calls > 100, "{calls} calls are too few to be a whole run");
        for n in 0..calls {
            assert!(self.with(fault(n), &expected), "call {n} of {calls} did not fail");
        }
    }

    /// Whichever call fails, in one way after the other. All ways at every call are for the closure over a simulated disk.
    pub(crate) fn sweep_in_turn(&self) {
        self.sweep(|n| match n % 3 {
            0 => Fault::nth(n, EIO, Effect::Absent),
            1 => Fault::nth(n, EIO, Effect::Present),
            _ => Fault::nth(n, EIO, Effect::Absent).lasting(),
        });
    }

    /// Rolled back to every earlier index and delivered again, with a crash at each commit or with none: the end is the
    /// same, and no entry is judged by its keys again.
    pub(crate) fn redeliver(&self) {
        let (expected, _, snapshots) = self.calm();
        for (from, snapshot) in snapshots.iter().enumerate() {
            for fault in [None, Some(CommitFault::Absent), Some(CommitFault::Present)] {
                let mut world = (self.node)();
                world.restart();
                assert!(deliver(&mut world, &self.log));
                world.node_mut().restore(snapshot, &mut |_| Ok(())).expect("a snapshot of its own past");
                world.clock.put(NOW + 1000);
                self.again(&mut world, from, fault);
                assert_eq!(world.lasting(), expected, "from {from}, {fault:?}");
                world.restart();
                assert_eq!(world.lasting(), expected);
            }
        }
    }

    fn again(&self, world: &mut World, from: usize, fault: Option<CommitFault>) {
        let named = world.node().sidecar().map_or(0, |sidecar| sidecar.raft_applied_index.0);
        for end in from + 1..=self.log.len() {
            world.registry.borrow_mut().commit = fault;
            world.kek.asked();
            let through = deliver(world, &self.log[..end]);
            assert_eq!(through, fault.is_none(), "entry {end}");
            assert!(end as u64 > named || world.kek.asked() == 0, "entry {end} was judged before");
            if !through {
                world.restart();
                assert!(deliver(world, &self.log[..end]));
            }
        }
    }
}

fn run() -> Run {
    Run { node: World::new, log: log() }
}

#[test]
fn a_call_that_fails_without_effect_does_no_lasting_harm() {
    run().sweep(|n| Fault::nth(n, EIO, Effect::Absent));
}

#[test]
fn a_call_that_takes_effect_and_reports_an_error_does_no_lasting_harm() {
    run().sweep(|n| Fault::nth(n, EIO, Effect::Present));
}

#[test]
fn a_disk_that_dies_at_any_call_does_no_lasting_harm() {
    run().sweep(|n| Fault::nth(n, EIO, Effect::Absent).lasting());
}

#[test]
fn a_restart_after_every_entry_changes_nothing() {
    let (expected, ..) = run().calm();
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
    let (expected, ..) = run().calm();
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
