//! The same seed, the same trace: run twice, on one thread or two, in debug and in release.

mod common;

use std::sync::atomic::AtomicBool;

use common::{CLUSTER_SEEDS, setup, sweep_range};
use scenarios::prove::{Errors, Terms, every_log};
use scenarios::run::{Checked, Keep, Source, run};
use scenarios::subject::Subject;
use scenarios::world::Scenario;
use sim::{Lies, Profile};

/// How many seeds of a scenario: so many, or what is left of that in a cluster.
fn seeds(scenario: Scenario, of_one_node: u64) -> u64 {
    if scenario == Scenario::Cluster { CLUSTER_SEEDS / 3 } else { of_one_node }
}

#[test]
fn a_seed_run_twice_has_one_trace() {
    for scenario in Scenario::ALL {
        for subject in Subject::ALL {
            for seed in 0..seeds(scenario, 40) {
                let once = run(setup(scenario, subject), Source::Seed(seed), Keep::Events)
                    .expect("a seed always fits");
                let again = run(setup(scenario, subject), Source::Seed(seed), Keep::Events)
                    .expect("a seed always fits");
                assert_eq!(once.trace_hash, again.trace_hash, "{scenario} {subject} {seed}");
                let lines =
                    |checked: &Checked| checked.events.iter().map(ToString::to_string).collect::<Vec<_>>();
                assert_eq!(lines(&once), lines(&again), "{scenario} {subject} {seed}");
                assert_eq!(once.tape, again.tape, "{scenario} {subject} {seed}");
            }
        }
    }
}

#[test]
fn a_recorded_tape_replays_to_the_same_trace() {
    for scenario in Scenario::ALL {
        for seed in 0..seeds(scenario, 20) {
            let setup = setup(scenario, Subject::Hardened);
            let once = run(setup, Source::Seed(seed), Keep::Nothing).expect("a seed always fits");
            let again =
                run(setup, Source::Tape(once.tape.clone()), Keep::Nothing).expect("its own tape fits");
            assert_eq!(once.trace_hash, again.trace_hash, "{scenario} {seed}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for (scenario, seeds) in [(Scenario::Single, 100), (Scenario::Cluster, CLUSTER_SEEDS)] {
        let setup = setup(scenario, Subject::AsMerged);
        let one = sweep_range(setup, 0, seeds, 1);
        let two = sweep_range(setup, 0, seeds, 2);
        assert_eq!(one.trace_digest, two.trace_digest, "{scenario}");
        assert_eq!(one.findings, two.findings, "{scenario}");
    }
}

/// The release build is held to the same numbers by the gate, so they are equal to each other, and to yesterday's. A change
/// of a world, of the disk or of the applier's calls changes them; nothing else may.
#[test]
fn digests_are_those_of_every_build() {
    let lines = include_str!("digests.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let [scenario, subject, seeds, digest] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line:?} is not scenario, subject, seeds and digest");
        };
        let setup = setup(scenario.parse().expect("a scenario"), subject.parse().expect("a subject"));
        let tally = sweep_range(setup, 0, seeds.parse().expect("a number"), 2);
        assert_eq!(format!("{:016x}", tally.trace_digest), digest, "{scenario} {subject}");
    }
}

/// The same for proofs: whatever the database leaves in its pages, the states are the same ones.
#[test]
fn proofs_come_to_the_same_in_every_build() {
    let stop = AtomicBool::new(false);
    let terms = Terms {
        subject: Subject::Hardened,
        profile: Profile::Posix,
        lies: Lies::NONE,
        errors: Errors::Fenced,
        garbled: false,
        first_only: false,
        stop: &stop,
        progress: &|_| {},
    };
    let proof = every_log(terms, 1);
    let found = (proof.states.expanded, proof.recovery_depth_max, format!("{:016x}", proof.digest));
    assert_eq!(found, (74, 4, "d895f6814ff629e0".to_owned()));
}
