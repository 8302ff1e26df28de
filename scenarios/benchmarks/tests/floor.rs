//! The floor does the work that it is to be compared by.

use benchmarks::floor::{self, Below, Plan};
use benchmarks::setup;
use benchmarks::survey::{self, Work};
use scenarios::world::Scenario;
use sim::Trace;

const PLANS: [Plan; 3] = [
    Plan { members: 3, entries: 17, elections: 1, restarts: 0, simulated_ms: 9_000 },
    Plan { members: 5, entries: 30, elections: 3, restarts: 4, simulated_ms: 30_000 },
    Plan { members: 7, entries: 60, elections: 2, restarts: 1, simulated_ms: 13_000 },
];

#[test]
fn every_member_applies_every_entry() {
    for below in [Below::Memory, Below::Database] {
        for plan in PLANS {
            let applied = floor::run(plan, 7, below, &Trace::hashing());
            assert_eq!(applied.len() as u64, plan.members);
            assert!(applied.iter().all(|index| *index >= plan.entries), "{plan:?}: {applied:?}");
            // What Raft appends for itself is among them.
            assert!(
                applied.iter().all(|index| *index <= plan.entries + plan.elections),
                "{plan:?}: {applied:?}"
            );
        }
    }
}

#[test]
fn leaders_fall_and_are_followed_as_often_as_planned() {
    for below in [Below::Memory, Below::Database] {
        for plan in PLANS {
            let work = survey::floor(plan, 7, below);
            let planned = (plan.elections, plan.members + plan.restarts);
            assert_eq!((work.elections, work.starts), planned, "{plan:?}");
            assert_eq!(work.database_syncs > 0, below == Below::Database, "{plan:?}");
        }
    }
}

#[test]
fn a_floor_run_twice_has_one_trace() {
    let hash = |seed| {
        let trace = Trace::hashing();
        floor::run(PLANS[1], seed, Below::Database, &trace);
        trace.hash()
    };
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}

/// The comparison is about seeds as they are, and says of both sides what they did.
#[test]
fn a_floor_does_the_raft_work_of_its_seeds() {
    let (mut whole, mut floor) = (Work::default(), Work::default());
    for seed in 0..20 {
        let (work, plan) = survey::cluster(setup(Scenario::Cluster), seed);
        whole += work;
        floor += survey::floor(plan, seed, Below::Memory);
    }
    let close = |count: fn(&Work) -> u64| {
        let (whole, floor) = (count(&whole), count(&floor));
        assert!(floor * 2 > whole && floor < 2 * whole, "{whole} and {floor}");
    };
    close(|work| work.simulated_ms);
    close(|work| work.ticks);
    close(|work| work.starts);
    close(|work| work.elections);
    close(|work| work.raft_messages);
    close(|work| work.entries);
    close(|work| work.applied);
    assert_eq!(floor.database_syncs + floor.other_calls, 0);
}
