//! Minimising a run: the same finding, from less.
//!
//! The search is greedy. What it has is a tape and what that tape's run came to; a pass proposes tapes that ask for less,
//! each is run by loose replay, and the first one in order whose run still shows the finding *and* is smaller by
//! [`Size`] takes the place of the tape. What it goes on with is the tape that this run has recorded, so that the result
//! is fit for strict replay. Sizes are well ordered and only ever fall, so the search ends; it is at a minimum when a
//! whole round of passes finds nothing.
//!
//! The judge says whether the finding is still there, by its fingerprint: the search cannot slide onto another defect.
//! Proposals are judged side by side, and the first success *in order* counts, whichever thread was quicker: the result
//! depends on the tape alone, except where it is cut short.
//!
//! proptest's machinery was weighed and left out. Its `ValueTree`s walk a value of their own, one proposal at a time, each
//! of which depends on the answer to the one before: there is nothing to run side by side, and no way to go on from the
//! tape that a run has really recorded, which is another one than was proposed as soon as a deleted draw moves a run onto
//! another path. What carries over is the order in which its binary search lowers a number, see `pass.rs`.

mod pass;
mod size;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use sim::Tape;

use self::pass::Pass;
pub use self::size::Size;
use crate::run::{Checked, Keep, RunError, Source, run};
use crate::world::{Limits, Setup};

/// What is asked of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What the world may do at most.
    pub limits: Limits,
    /// The draws, to be replayed loosely.
    pub tape: Tape,
}

/// What a run that shows the finding came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The draws that it has really made.
    pub tape: Tape,
    /// Nodes that took part: something of the log has come to them.
    pub nodes: u64,
    /// Entries of its log.
    pub entries: u64,
    /// Crashes.
    pub crashes: u64,
}

/// Runs an attempt, and says what it came to where it shows the finding.
pub type Judge<'a> = dyn Fn(&Attempt) -> Option<Shown> + Sync + 'a;

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The smallest so far.
    pub size: Size,
    /// Runs so far.
    pub runs: u64,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest attempt; its tape is what its run recorded.
    pub attempt: Attempt,
    /// Size of the run that it began with.
    pub before: Size,
    /// Size of the smallest.
    pub after: Size,
    /// Whether no pass finds anything smaller; false where it was stopped before.
    pub minimal: bool,
    /// Attempts that were judged on the way.
    pub runs: u64,
}

/// How a search is run.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Attempts that are judged side by side.
    pub jobs: usize,
    /// Set from outside to end it with the smallest so far.
    pub stop: &'a AtomicBool,
    /// Is told how far it has come, from time to time.
    pub progress: &'a dyn Fn(Progress),
}

/// Shrinks an attempt. `None` if it does not show the finding to begin with.
pub fn shrink(start: &Attempt, judge: &Judge<'_>, terms: &Terms<'_>) -> Option<Shrunk> {
    let shown = judge(start)?;
    let before = Size::of(&shown);
    let attempt = Attempt { limits: start.limits, tape: shown.tape };
    let mut search = Search { judge, terms, attempt, size: before, seen: BTreeSet::new(), runs: 1 };
    search.seen.insert(search.attempt.essence());
    let minimal = search.until_minimal();
    let Search { attempt, size, runs, .. } = search;
    Some(Shrunk { attempt, before, after: size, minimal, runs })
}

struct Search<'a> {
    judge: &'a Judge<'a>,
    terms: &'a Terms<'a>,
    attempt: Attempt,
    size: Size,
    /// Essences of everything that was judged. What failed once is no smaller later.
    seen: BTreeSet<u64>,
    runs: u64,
}

/// How the positions of a pass were gone through.
enum Found {
    /// At this position something smaller.
    Smaller(usize, Attempt, Size),
    /// Nothing.
    Nothing,
    /// It was stopped.
    Stopped,
}

impl Search<'_> {
    /// Rounds of all passes, until one finds nothing. False if it was stopped.
    fn until_minimal(&mut self) -> bool {
        loop {
            let before = self.size;
            if !self.coarsely() {
                return false;
            }
            for pass in pass::fine(&self.attempt) {
                let size = self.size;
                if !self.exhaust(pass) || (self.size.is_much_less_than(&size) && !self.coarsely()) {
                    return false;
                }
            }
            if self.size == before {
                return true;
            }
        }
    }

    /// The coarse passes, until they find nothing. False if it was stopped.
    fn coarsely(&mut self) -> bool {
        loop {
            let before = self.size;
            if !pass::COARSE.into_iter().all(|pass| self.exhaust(pass)) {
                return false;
            }
            if self.size == before {
                return true;
            }
        }
    }

    /// Goes through the positions of a pass once. After a success it goes on at the same position of the smaller tape:
    /// what was before it has failed a moment ago. False if it was stopped.
    fn exhaust(&mut self, pass: Pass) -> bool {
        let mut from = 0;
        loop {
            match self.first_smaller(pass, from) {
                Found::Smaller(at, attempt, size) => {
                    from = at;
                    self.attempt = attempt;
                    self.size = size;
                }
                Found::Nothing => return true,
                Found::Stopped => return false,
            }
            (self.terms.progress)(Progress { size: self.size, runs: self.runs });
        }
    }

    /// The first position from `from` on whose attempt shows the finding and is smaller.
    fn first_smaller(&mut self, pass: Pass, from: usize) -> Found {
        let plan = pass.plan(&self.attempt);
        let queue = Mutex::new(Queue { next: from, first: None, judged: Vec::new() });
        let worker = || {
            loop {
                let mut locked = queue.lock().unwrap_or_else(PoisonError::into_inner);
                let at = locked.next;
                // Behind a success nothing matters any more.
                let in_vain = locked.first.as_ref().is_some_and(|(first, ..)| *first < at);
                if in_vain || at >= plan.positions() || self.terms.stop.load(Ordering::Relaxed) {
                    return;
                }
                locked.next += 1;
                drop(locked);
                let Some(attempt) = plan.attempt(at) else { continue };
                let essence = attempt.essence();
                if self.seen.contains(&essence) {
                    continue;
                }
                let shown = (self.judge)(&attempt);
                let mut locked = queue.lock().unwrap_or_else(PoisonError::into_inner);
                locked.judged.push((at, essence));
                let Some(shown) = shown else { continue };
                let size = Size::of(&shown);
                if size < self.size && locked.first.as_ref().is_none_or(|(first, ..)| at < *first) {
                    let attempt = Attempt { limits: attempt.limits, tape: shown.tape };
                    locked.first = Some((at, attempt, size));
                }
            }
        };
        thread::scope(|scope| {
            (1..self.terms.jobs).for_each(|_| {
                scope.spawn(worker);
            });
            worker();
        });
        let Queue { first, judged, .. } = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stopped = self.terms.stop.load(Ordering::Relaxed);
        // What other threads have judged behind the success is forgotten: it depends on who was quicker.
        let last = first.as_ref().map_or(usize::MAX, |(at, ..)| *at);
        let mattered = judged.into_iter().filter(|(at, _)| *at <= last);
        for (_, essence) in mattered {
            self.runs += 1;
            self.seen.insert(essence);
        }
        match first {
            Some((at, attempt, size)) => {
                self.seen.insert(attempt.essence());
                Found::Smaller(at, attempt, size)
            }
            None if stopped => Found::Stopped,
            None => Found::Nothing,
        }
    }
}

/// Positions of a pass that several threads go through.
struct Queue {
    next: usize,
    first: Option<(usize, Attempt, Size)>,
    judged: Vec<(usize, u64)>,
}

/// Shrinks a finding of a setup: the smallest run that is found whose violations still have these fingerprints.
///
/// # Errors
/// If the harness itself fails; no attempt does, whatever its tape.
pub fn shrink_finding(
    setup: Setup,
    fingerprints: &[&str],
    tape: Tape,
    terms: &Terms<'_>,
) -> Result<Option<Shrunk>, RunError> {
    let failed = Mutex::new(None);
    let judge = |attempt: &Attempt| {
        let setup = Setup { limits: attempt.limits, ..setup };
        match run(setup, Source::Loose(attempt.tape.clone()), Keep::Nothing) {
            Ok(checked) => {
                let is_found =
                    |wanted: &&str| checked.violations.iter().any(|found| found.fingerprint == **wanted);
                let shows = fingerprints.iter().all(is_found);
                let Checked { tape, nodes, log_entries: entries, crashes, .. } = checked;
                shows.then_some(Shown { tape, nodes, entries, crashes })
            }
            Err(error) => {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                terms.stop.store(true, Ordering::Relaxed);
                None
            }
        }
    };
    let start = Attempt { limits: setup.limits, tape };
    let shrunk = shrink(&start, &judge, terms);
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(shrunk),
    }
}

#[cfg(test)]
mod tests;
