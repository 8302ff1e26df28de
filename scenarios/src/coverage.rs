//! The coverage picture: where nodes died, what a power loss made of what was pending, and what the next life came to.
//!
//! Each crash of a run, as its record counts them, is one [`Crash`]. A sweep adds them up in a [`Coverage`]: adding is
//! commutative, so that shards can be merged. Nothing of this is drawn or traced.
//!
//! In a cluster points are coarser: the database also holds Raft's log, so that one of its calls is always `inside`, and
//! a process may be killed between two calls.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sim::CrashReport;

use crate::probes::Step;

/// A closed list of names.
macro_rules! names {
    ($(#[$about:meta])* $kind:ident, $unknown:literal { $($(#[$doc:meta])* $case:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $kind {
            $($(#[$doc])* $case,)+
        }

        impl $kind {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[$kind] = &[$($kind::$case),+];

            /// Its name in results.
            pub const fn name(self) -> &'static str {
                match self {
                    $($kind::$case => $name,)+
                }
            }
        }

        impl FromStr for $kind {
            type Err = UnknownCell;

            fn from_str(name: &str) -> Result<$kind, UnknownCell> {
                let found = $kind::ALL.iter().find(|known| known.name() == name);
                found.copied().ok_or_else(|| UnknownCell { what: $unknown, name: name.to_owned() })
            }
        }
    };
}

names! {
    /// What the node was doing when it died.
    Phase, "phase" {
        /// Starting.
        Start = "start",
        /// Applying an entry.
        Apply = "apply",
        /// Rolling its database back, as the host has asked.
        Restore = "restore",
        /// Stopping in good order.
        Stop = "stop",
        /// Taking in another member's snapshot.
        Install = "install",
        /// Writing Raft's log, or anything else that is no entry.
        Raft = "raft",
        /// Nothing: its process was between two lives.
        Down = "down",
        /// Claiming an epoch.
        Claim = "claim",
    }
}

names! {
    /// What a crash made of what was pending.
    Fate, "fate" {
        /// The process alone is gone; the page cache has everything.
        ProcessCrash = "process-crash",
        /// A power loss with nothing pending that a name leads to.
        NothingPending = "nothing-pending",
        /// A power loss that kept everything.
        AllKept = "all-kept",
        /// One that dropped everything.
        AllDropped = "all-dropped",
        /// One that kept some operations whole and dropped the others.
        Mixed = "mixed",
        /// One that tore a write, whatever became of the rest.
        Torn = "torn",
    }
}

names! {
    /// What came after a crash.
    Outcome, "outcome" {
        /// The next life started, and the entry in which the node had died has taken effect.
        EntrySurvived = "entry-survived",
        /// The next life started without the effect of that entry.
        EntryLost = "entry-lost",
        /// The next life started. No entry was in flight, or the subject keeps no index that tells.
        Started = "started",
        /// Another crash or an injected error came before the next start had got to its end.
        CutOff = "cut-off",
        /// The next start was refused, and no injected error of the disk explains it. In a cluster that is right for a
        /// member whose sidecar was taken away, or that was given another KEK.
        Refused = "refused",
        /// The run was over, or the machine was replaced, before there was a next life.
        NoNextLife = "no-next-life",
        /// The first violation of the run shows after this crash and before the next one. In a cluster, where it may
        /// show on another member, the last crash of a run with a violation counts as this.
        Violation = "violation",
    }
}

/// A name that stands in no list of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?} in this version")]
pub struct UnknownCell {
    /// What it should name.
    pub what: &'static str,
    /// The name.
    pub name: String,
}

/// Where a node died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(u8);

/// Steps of a phase, and two more: nothing was written, and between two calls.
const SPOTS: usize = Step::COUNT + 2;
const NOTHING_WRITTEN: &str = "nothing-written";
const BETWEEN_CALLS: &str = "between-calls";

impl Point {
    const COUNT: usize = Phase::ALL.len() * SPOTS;

    /// In a phase, about to make a call of this step, or after the last one. `None`: the phase has written nothing.
    pub fn at(phase: Phase, step: Option<Step>) -> Point {
        Point::new(phase, step.map_or(Step::COUNT, |step| step as usize))
    }

    /// Killed from outside.
    pub fn between_calls(phase: Phase) -> Point {
        Point::new(phase, Step::COUNT + 1)
    }

    fn new(phase: Phase, spot: usize) -> Point {
        Point((phase as usize * SPOTS + spot) as u8)
    }

    /// All of them, in the order in which they are shown.
    pub fn all() -> impl Iterator<Item = Point> {
        (0..Point::COUNT).map(|point| Point(point as u8))
    }

    /// What the node was doing.
    pub fn phase(self) -> Phase {
        Phase::ALL[usize::from(self.0) / SPOTS]
    }

    /// The place in it.
    pub fn spot(self) -> &'static str {
        match usize::from(self.0) % SPOTS {
            Step::COUNT => NOTHING_WRITTEN,
            spot if spot < Step::COUNT => Step::ALL[spot].name(),
            _ => BETWEEN_CALLS,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.phase().name(), self.spot())
    }
}

impl FromStr for Point {
    type Err = UnknownCell;

    fn from_str(name: &str) -> Result<Point, UnknownCell> {
        let found = name.split_once('/').and_then(|(phase, spot)| {
            Point::all().find(|point| point.phase().name() == phase && point.spot() == spot)
        });
        found.ok_or_else(|| UnknownCell { what: "crash point", name: name.to_owned() })
    }
}

impl Fate {
    /// What a power loss came to.
    pub fn of(report: &CrashReport) -> Fate {
        let (mut kept, mut dropped) = (false, false);
        for (_, fate) in report.iter() {
            match fate {
                sim::Fate::Torn { .. } => return Fate::Torn,
                sim::Fate::Kept => kept = true,
                sim::Fate::Dropped => dropped = true,
                sim::Fate::Unreachable => {}
            }
        }
        match (kept, dropped) {
            (false, false) => Fate::NothingPending,
            (true, false) => Fate::AllKept,
            (false, true) => Fate::AllDropped,
            (true, true) => Fate::Mixed,
        }
    }
}

/// One crash of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Where.
    pub point: Point,
    /// What became of what was pending.
    pub fate: Fate,
    /// What came of it.
    pub outcome: Outcome,
    /// How many events were recorded before it.
    pub events: usize,
}

/// The crashes of one run, in order, and those of which nothing has come yet.
#[derive(Clone, Debug, Default)]
pub struct Crashes(Vec<Crash>);

/// A crash of which nothing has come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open(usize);

impl Crashes {
    /// A node has died.
    pub fn died(&mut self, point: Point, fate: Fate, events: usize) -> Open {
        self.0.push(Crash { point, fate, outcome: Outcome::NoNextLife, events });
        Open(self.0.len() - 1)
    }

    /// Something has come of it. Takes it, so that it counts once.
    pub fn came_to(&mut self, open: &mut Option<Open>, outcome: Outcome) {
        if let Some(Open(at)) = open.take() {
            self.0[at].outcome = outcome;
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Crash> {
        self.0.iter()
    }

    /// Marks the crash after which the run shows its first violation. `shows` says whether one shows in so many events.
    pub fn convict(&mut self, shows: impl Fn(usize) -> bool) {
        // Whatever shows in a part of a history shows in all of it, as long as it ends no later.
        let first = self.0.partition_point(|crash| !shows(crash.events));
        if let Some(before) = first.checked_sub(1) {
            self.0[before].outcome = Outcome::Violation;
        }
    }
}

const FATES: usize = Fate::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// How often each cell of points, fates and outcomes was hit.
#[derive(Clone, PartialEq, Eq)]
pub struct Coverage(Box<[u64]>);

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage(vec![0; Point::COUNT * FATES * OUTCOMES].into())
    }
}

impl Coverage {
    /// One crash more.
    pub fn add(&mut self, crash: &Crash) {
        self.0[index(crash.point, crash.fate, crash.outcome)] += 1;
    }

    /// All crashes of another one more.
    pub fn merge(&mut self, other: &Coverage) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How often a cell was hit.
    pub fn count(&self, point: Point, fate: Fate, outcome: Outcome) -> u64 {
        self.0[index(point, fate, outcome)]
    }

    /// How often a point and a fate were, whatever came of it.
    pub fn hits(&self, point: Point, fate: Fate) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.count(point, fate, *outcome)).sum()
    }

    /// How many crashes there are.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The cells that were hit, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Point, Fate, Outcome, u64)> + '_ {
        self.0.iter().enumerate().filter(|(_, count)| **count > 0).map(|(at, count)| {
            let (point, rest) = (Point((at / (FATES * OUTCOMES)) as u8), at % (FATES * OUTCOMES));
            (point, Fate::ALL[rest / OUTCOMES], Outcome::ALL[rest % OUTCOMES], *count)
        })
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

const fn index(point: Point, fate: Fate, outcome: Outcome) -> usize {
    (point.0 as usize * FATES + fate as usize) * OUTCOMES + outcome as usize
}

/// One cell in results.
#[derive(Serialize, Deserialize)]
struct Cell {
    point: String,
    fate: String,
    outcome: String,
    count: u64,
}

impl Serialize for Coverage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(point, fate, outcome, count)| Cell {
            point: point.to_string(),
            fate: fate.name().to_owned(),
            outcome: outcome.name().to_owned(),
            count,
        }))
    }
}

impl<'de> Deserialize<'de> for Coverage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Coverage, D::Error> {
        let mut coverage = Coverage::default();
        for cell in Vec::<Cell>::deserialize(deserializer)? {
            let point = cell.point.parse().map_err(D::Error::custom)?;
            let fate = cell.fate.parse().map_err(D::Error::custom)?;
            let outcome = cell.outcome.parse().map_err(D::Error::custom)?;
            let count = &mut coverage.0[index(point, fate, outcome)];
            *count = count.saturating_add(cell.count);
        }
        Ok(coverage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_found_by_its_name_and_no_two_share_one() {
        for point in Point::all() {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        let unknown = UnknownCell { what: "crash point", name: "apply/nowhere".to_owned() };
        assert_eq!("apply/nowhere".parse::<Point>(), Err(unknown));
    }

    #[test]
    fn a_picture_survives_being_written_and_read() {
        let mut coverage = Coverage::default();
        for (nth, point) in Point::all().enumerate() {
            let (fate, outcome) = (Fate::ALL[nth % FATES], Outcome::ALL[nth % OUTCOMES]);
            coverage.add(&Crash { point, fate, outcome, events: 0 });
        }
        let text = serde_json::to_string(&coverage).unwrap();
        assert_eq!(serde_json::from_str::<Coverage>(&text).unwrap(), coverage);
        assert_eq!(coverage.total(), Point::COUNT as u64);
    }

    #[test]
    fn the_crash_before_the_first_violation_is_convicted() {
        let convicted = |shows_from: usize| {
            let mut crashes = Crashes::default();
            for events in [3, 7, 9] {
                let point = Point::between_calls(Phase::Apply);
                crashes.died(point, Fate::ProcessCrash, events);
            }
            crashes.convict(|events| events >= shows_from);
            crashes.iter().position(|crash| crash.outcome == Outcome::Violation)
        };
        assert_eq!(convicted(3), None, "it shows before any crash");
        assert_eq!(convicted(4), Some(0));
        assert_eq!(convicted(9), Some(1));
        assert_eq!(convicted(10), Some(2));
    }
}
