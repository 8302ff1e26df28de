//! The search for a run that convicts a wrong thing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Wrong;
use crate::invariants::Violation;
use crate::run::{Keep, RunError, Source, run};
use crate::world::Setup;

/// One run that convicts.
#[derive(Clone, Debug)]
pub struct Catch {
    /// What the run shows, and the base does not.
    pub violation: Violation,
    /// The setup of the run.
    pub setup: Setup,
    /// Its seed.
    pub seed: u64,
}

impl Catch {
    /// How many seeds it took, this one included.
    pub const fn after_seeds(&self) -> u64 {
        self.seed + 1
    }
}

/// What the search came to.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What was searched for.
    pub wrong: &'static Wrong,
    /// The first run that is convicted of what is expected.
    pub expected: Option<Catch>,
    /// The first run that any invariant convicts.
    pub first: Option<Catch>,
    /// Seeds tried, each in every scenario that can show it.
    pub seeds: u64,
}

impl Trial {
    /// The run that counts: one that is convicted of what is expected, where there is one.
    pub fn caught(&self) -> Option<&Catch> {
        self.expected.as_ref().or(self.first.as_ref())
    }
}

/// Runs seeds from 0 on, each in every scenario that can show it, until one run is convicted of what is expected, or `count` seeds are
/// done, or `stop`, asked after each, says so. What the base shows on the same seeds convicts nobody. Seeds go in order,
/// so that the answer does not depend on who else runs.
///
/// # Errors
/// The first error of the harness itself.
pub fn put_to_trial(wrong: &'static Wrong, count: u64, stop: &dyn Fn() -> bool) -> Result<Trial, RunError> {
    let mut trial = Trial { wrong, expected: None, first: None, seeds: 0 };
    let mut of_the_base: BTreeSet<String> = BTreeSet::new();
    for seed in 0..count {
        for scenario in wrong.scenarios() {
            let setup = wrong.setup(*scenario);
            let honest = Setup { subject: wrong.base(), lies: sim::Lies::NONE, ..setup };
            let honest = run(honest, Source::Seed(seed), Keep::Nothing)?.violations;
            of_the_base.extend(honest.into_iter().map(|violation| violation.fingerprint));
            let found = run(setup, Source::Seed(seed), Keep::Nothing)?.violations;
            let mut new = found.into_iter().filter(|found| !of_the_base.contains(&found.fingerprint));
            let catch = |violation| Catch { violation, setup, seed };
            let Some(first) = new.next() else { continue };
            if trial.first.is_none() {
                trial.first = Some(catch(first.clone()));
            }
            if let Some(expected) = std::iter::once(first).chain(new).find(|found| wrong.expects(found)) {
                trial.expected = Some(catch(expected));
                break;
            }
        }
        trial.seeds = seed + 1;
        if trial.expected.is_some() || stop() {
            break;
        }
    }
    Ok(trial)
}

/// [`put_to_trial`] for each of them, `jobs` at a time, in their order. `done` is told of each that is.
///
/// # Errors
/// The first error of the harness itself.
pub fn put_all_to_trial(
    wrong: &[&'static Wrong],
    count: u64,
    jobs: usize,
    stop: &(dyn Fn() -> bool + Sync),
    done: &(dyn Fn(&Trial) + Sync),
) -> Result<Vec<Trial>, RunError> {
    let taken = AtomicUsize::new(0);
    let trials: Mutex<Vec<Option<Result<Trial, RunError>>>> = Mutex::new(vec![None; wrong.len()]);
    let worker = || {
        while let Some((at, wrong)) = next(&taken, wrong) {
            let trial = put_to_trial(wrong, count, stop);
            if let Ok(trial) = &trial {
                done(trial);
            }
            trials.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(trial);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(worker);
        }
    });
    let trials = trials.into_inner().unwrap_or_else(PoisonError::into_inner);
    trials.into_iter().map(|trial| trial.expect("the workers take every one")).collect()
}

fn next(taken: &AtomicUsize, wrong: &[&'static Wrong]) -> Option<(usize, &'static Wrong)> {
    let at = taken.fetch_add(1, Ordering::Relaxed);
    wrong.get(at).map(|wrong| (at, *wrong))
}
