//! What a crash test found, for programs and for people.

use std::{fmt, iter};

use super::Step;
use crate::{
    disk::{OpInfo, Profile},
    tape::Tape,
};

/// How many calls of a long way are shown.
const SHOWN: usize = 8;

/// How a life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// The process died, the page cache lives on.
    Process,
    /// The power failed.
    Power {
        /// What was drawn, for [`crate::Choices::replayed`].
        tape: Tape,
        /// What became of everything that was pending, in program order, in words.
        fates: Vec<String>,
    },
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("the process crashes"),
            Self::Power { fates, .. } if fates.is_empty() => f.write_str("power loss; nothing was pending"),
            Self::Power { fates, .. } => {
                f.write_str("power loss:")?;
                fates.iter().try_for_each(|fate| write!(f, "\n       {fate}"))
            }
        }
    }
}

/// A crash: where in a life, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crash {
    /// The mutating calls of this life before it.
    pub after: Vec<OpInfo>,
    /// The mutating call that was to come next; `None` at the end of the program.
    pub before: Option<OpInfo>,
    /// How.
    pub how: How,
}

/// One kind of bad outcome, and the shortest way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding<E> {
    /// What the judge said.
    pub bad: E,
    /// In how many of the states it said so.
    pub states: u64,
    /// The crashes that lead there: one of the program, then those of recoveries. No other way has fewer crashes,
    /// or else fewer calls before the first, or else fewer pending operations that are lost.
    pub crashes: Vec<Crash>,
    length: (usize, usize, usize),
}

/// What a crash test came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report<E> {
    /// On which kind of disk.
    pub profile: Profile,
    /// The program's mutating calls.
    pub calls: Vec<OpInfo>,
    /// Where it was crashed: before each call and at the end, and, if asked for, before each call of recoveries.
    pub places: u64,
    /// Places with more ways to lose power than were walked.
    pub sampled: u64,
    /// How many crashes were tried.
    pub crashes: u64,
    /// How many different states they led to. Each was judged once.
    pub states: u64,
    /// Every kind of bad outcome, the one with the shortest way first.
    pub findings: Vec<Finding<E>>,
}

impl<E> Report<E> {
    pub(super) fn new(profile: Profile, calls: Vec<OpInfo>) -> Self {
        Self { profile, calls, places: 0, sampled: 0, crashes: 0, states: 0, findings: Vec::new() }
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether every way to lose power was walked, so that nothing is left to be found by this judge.
    pub fn is_complete(&self) -> bool {
        self.sampled == 0
    }

    pub(super) fn note(&mut self, bad: E, path: &[Step])
    where
        E: Ord,
    {
        let lost = path.iter().map(|step| step.lost).sum();
        let length = (path.len(), path[0].at, lost);
        let crashes = || path.iter().map(Step::crash).collect();
        match self.findings.iter_mut().find(|known| known.bad == bad) {
            None => self.findings.push(Finding { bad, states: 1, crashes: crashes(), length }),
            Some(known) => {
                known.states += 1;
                if length < known.length {
                    (known.crashes, known.length) = (crashes(), length);
                }
            }
        }
    }

    pub(super) fn sort(&mut self)
    where
        E: Ord,
    {
        self.findings.sort_by(|one, other| (one.length, &one.bad).cmp(&(other.length, &other.bad)));
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.after.len().saturating_sub(SHOWN);
        if left_out > 0 {
            writeln!(f, "     ({left_out} calls)")?;
        }
        for call in &self.after[left_out..] {
            writeln!(f, "     {call}")?;
        }
        write!(f, "     {}", self.how)
    }
}

impl<E: fmt::Display> fmt::Display for Finding<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of the states", self.bad, self.states)?;
        let recoveries = iter::once("").chain(iter::repeat("     recovery begins\n"));
        self.crashes.iter().zip(recoveries).try_for_each(|(crash, begins)| write!(f, "\n{begins}{crash}"))
    }
}

impl<E: fmt::Display> fmt::Display for Report<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, places, crashes, states, .. } = self;
        write!(f, "{profile}: {places} places, {crashes} crashes, {states} states, ")?;
        match self.findings.len() {
            0 => f.write_str("nothing bad")?,
            1 => f.write_str("1 kind of bad outcome")?,
            kinds => write!(f, "{kinds} kinds of bad outcome")?,
        }
        if self.sampled > 0 {
            let places = if self.sampled == 1 { "place" } else { "places" };
            write!(f, " (there were more ways than these at {} {places})", self.sampled)?;
        }
        self.findings.iter().zip(1..).try_for_each(|(finding, nth)| write!(f, "\n  {nth}. {finding}"))
    }
}
