//! What several test files share.

use std::sync::atomic::AtomicBool;

use scenarios::run::{Range, Tally, sweep};
use scenarios::subject::Subject;
use scenarios::world::{Scenario, Setup};

/// Seeds of the world `cluster` where others get hundreds: each takes some twenty times as long.
pub(crate) const CLUSTER_SEEDS: u64 = 30;

/// An honest disk under the default profile.
pub(crate) fn setup(scenario: Scenario, subject: Subject) -> Setup {
    Setup::of(scenario, subject)
}

/// Runs seeds `first..end` on so many threads.
pub(crate) fn sweep_range(setup: Setup, first: u64, end: u64, jobs: usize) -> Tally {
    let range = Range { first, end, shard: (1, 1) };
    sweep(setup, range, jobs, &AtomicBool::new(false), &|_| {}).expect("the harness itself does not fail")
}
