//! What happened in a run, for people: as text with a column for each node, as a page, as a trace for a viewer, and as a
//! story in plain words.
//!
//! Everything comes from the events that a run's trace has kept. [`Timeline::new`] gives each a kind, ties it to the
//! entry that it belongs to, tells what became of each disk operation, and, where the disks were kept, what the three
//! stores held after it.

mod events;
mod fates;
mod locate;
mod perfetto;
mod stores;
mod story;
pub mod tap;
mod text;

use serde::Serialize;

pub(crate) use self::locate::arises;
pub use self::perfetto::perfetto;
pub use self::text::{Detail, text};
use crate::invariants;
use crate::run::Checked;
use crate::world::{Scenario, Setup};

/// A run, ready to be shown. Serialised it is what the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// The version of this shape.
    pub version: u32,
    /// What it is, in a few words.
    pub title: String,
    /// Name of the world.
    pub scenario: &'static str,
    /// Name of the subject.
    pub subject: &'static str,
    /// Name of the disk's profile.
    pub profile: &'static str,
    /// Name of the disk's lie, if it lies.
    pub lie: Option<&'static str>,
    /// The line that shows the run again.
    pub reproduce: String,
    /// Hash of everything that happened, in hex.
    pub trace_hash: String,
    /// Entries applied for the first time.
    pub entries: u64,
    /// Crashes.
    pub crashes: u64,
    /// Draws on the tape.
    pub draws: usize,
    /// What `at` counts.
    pub clock: Clock,
    /// What happened, in plain words.
    pub story: Vec<String>,
    /// The columns.
    pub lanes: Vec<Lane>,
    /// What happened, in causal order. An id is an index.
    pub events: Vec<Moment>,
    /// What stores held; moments point here.
    pub stores: Vec<Stores>,
    /// What was violated.
    pub violations: Vec<Broken>,
}

/// What the times of a timeline are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Numbers of events, in a world without time.
    Step,
    /// Simulated milliseconds.
    Ms,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// Its place, from 0 on. In a cluster the first is that of everyone who is no node.
    pub id: u64,
    /// Its heading.
    pub name: String,
}

/// What a moment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A start, or its refusal.
    Start,
    /// An entry is delivered.
    Entry,
    /// And answered.
    Verdict,
    /// A step of the applier.
    Step,
    /// A call to the disk.
    Disk,
    /// An injected error.
    Fault,
    /// The end of a life, and what survived.
    Crash,
    /// A message between nodes.
    Message,
    /// Who leads.
    Role,
    /// What a client was told.
    Client,
    /// What the world does.
    World,
    /// A line that was logged.
    Log,
    /// An invariant is violated.
    Violation,
}

/// How good a moment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Neither.
    Plain,
    /// As it should be.
    Good,
    /// A fault, a refusal.
    Warn,
    /// A violation.
    Bad,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Its number.
    pub id: usize,
    /// Whose column it is in.
    pub lane: u64,
    /// When, by the timeline's clock.
    pub at: u64,
    /// The life of the node, from 1.
    pub life: u64,
    /// What it is about.
    pub kind: Kind,
    /// A short word.
    pub name: String,
    /// The rest of the sentence.
    pub text: String,
    /// Index of the entry that it belongs to.
    pub entry: Option<u64>,
    /// Where a message goes.
    pub to: Option<u64>,
    /// When it arrives; `None` where it never does.
    pub arrives: Option<u64>,
    /// How good it is.
    pub tone: Tone,
    /// What became of a call to the disk.
    pub fate: Option<String>,
    /// What a power loss did to each pending operation.
    pub fates: Vec<Fate>,
    /// What the node's stores hold from here on; `None` where they hold what they did before.
    pub stores: Option<usize>,
}

/// What became of one pending operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The operation.
    pub op: String,
    /// A word: kept, dropped, torn, unreachable.
    pub fate: &'static str,
    /// More, where a word does not say it all.
    pub detail: String,
}

/// What a node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stores {
    /// Keys in memory; `None` while no process runs.
    pub memory: Option<Vec<KeyInMemory>>,
    /// The sidecar.
    pub sidecar: Sides<String>,
    /// The registry, a line each row; `None` where there is no database that can be read.
    pub registry: Sides<Vec<String>>,
    /// Operations that are not yet durable.
    pub pending: Vec<String>,
}

/// One thing on the disk, twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides<T> {
    /// What surely survives.
    pub durable: Option<T>,
    /// What programs read.
    pub seen: Option<T>,
}

/// A key in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInMemory {
    /// Its id.
    pub id: u32,
    /// What the sidecar says it is for; empty where that does not know it.
    pub purpose: &'static str,
    /// Whether the sidecar says that it is active.
    pub active: bool,
    /// Which key of the world it is.
    pub bytes: String,
}

/// A violation, and where it came up.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// What went wrong.
    pub fingerprint: String,
    /// What the invariant says.
    pub says: &'static str,
    /// The evidence.
    pub evidence: String,
    /// What should have been.
    pub expected: Option<String>,
    /// What was.
    pub found: Option<String>,
    /// The moment at which it came up.
    pub event: Option<usize>,
}

impl Timeline {
    /// Puts together what a run has kept. `what` names it, `reproduce` is the line that shows it again.
    pub fn new(setup: &Setup, checked: &Checked, what: &str, reproduce: &str) -> Timeline {
        let mut timeline = Timeline {
            version: 1,
            title: format!("{}, {}, {what}", setup.scenario, setup.subject),
            scenario: setup.scenario.name(),
            subject: setup.subject.name(),
            profile: setup.profile.name(),
            lie: setup.lies.name(),
            reproduce: reproduce.to_owned(),
            trace_hash: format!("{:016x}", checked.trace_hash),
            entries: checked.entries,
            crashes: checked.crashes,
            draws: checked.tape.0.len(),
            clock: if setup.scenario == Scenario::Cluster { Clock::Ms } else { Clock::Step },
            story: Vec::new(),
            lanes: Vec::new(),
            events: Vec::new(),
            stores: Vec::new(),
            violations: Vec::new(),
        };
        events::fill(&mut timeline, checked);
        let first = timeline.violations.iter().min_by_key(|broken| broken.event);
        timeline.story = story::tell(&timeline, first);
        timeline
    }

    /// The story of one violation, up to the moment at which it came up.
    pub fn story_of(&self, fingerprint: &str) -> Vec<String> {
        story::tell(self, self.violations.iter().find(|broken| broken.fingerprint == fingerprint))
    }

    /// The name of a column.
    pub fn lane_name(&self, id: u64) -> &str {
        self.lanes.iter().find(|lane| lane.id == id).map_or("somebody", |lane| lane.name.as_str())
    }
}

/// What an invariant says.
fn says(invariant: &str) -> &'static str {
    let one = invariants::INVARIANTS.iter().map(|known| (known.name, known.says));
    let cluster = invariants::CLUSTER.iter().map(|known| (known.name, known.says));
    one.chain(cluster)
        .find(|(name, _)| *name == invariant)
        .map_or("the subject does not panic", |(_, says)| says)
}
