//! Worlds: what happens around a subject. A world draws everything from one `Choices` and records a history.

pub mod cluster;
pub mod look;
pub mod node;
mod reject;
mod single;

use std::fmt;
use std::str::FromStr;

use sim::{Choices, Event, Lies, Probes, Profile, Ratio, Site, Trace};

use crate::chronicle::Chronicle;
use crate::coverage::Crashes;
use crate::history::History;
use crate::model::Rules;
use crate::probes;
use crate::subject::Subject;
use crate::workload::News;

/// A world that can be run by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One node, a log, crashes anywhere, redelivery from anywhere.
    Single,
    /// Every way to be refused, against whatever state crashes and faults led to.
    Reject,
    /// Members with a disk each, real Raft between them, clients, and faults of disk and network.
    Cluster,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 3] = [Scenario::Single, Scenario::Reject, Scenario::Cluster];
    /// Those with one node and a log that is drawn.
    pub const OF_ONE_NODE: [Scenario; 2] = [Scenario::Single, Scenario::Reject];

    /// Its name on the command line and in seed files.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Single => "single",
            Scenario::Reject => "reject",
            Scenario::Cluster => "cluster",
        }
    }

    /// Whether a sweep of this scenario has to hit a probe.
    pub fn probes(self, name: &str) -> bool {
        match self {
            Scenario::Single => {
                let others =
                    ["verdict/kek-not-configured", "verdict/clear-entry", "verdict/entry-does-not-open"];
                !others.contains(&name) && !name.starts_with("cluster/")
            }
            Scenario::Cluster => name.starts_with("cluster/"),
            Scenario::Reject => {
                name.starts_with("verdict/")
                    || [
                        "outcome/rejected",
                        "outcome/failed",
                        "fault/kek-out-of-reach",
                        "rejected/again-after-restart",
                    ]
                    .contains(&name)
            }
        }
    }
}

/// An unknown scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scenario {0:?}; there are: single, reject, cluster")]
pub struct UnknownScenario(pub String);

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Scenario, UnknownScenario> {
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| UnknownScenario(name.to_owned()))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a run is set up with, besides its choices.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The world.
    pub scenario: Scenario,
    /// The subject.
    pub subject: Subject,
    /// How adversarial the disk is.
    pub profile: Profile,
    /// How the disk lies; honest by default.
    pub lies: Lies,
    /// What the world may do at most; without limits by default.
    pub limits: Limits,
}

impl Setup {
    /// A subject in a scenario, on an honest disk under the default profile, without limits.
    pub const fn of(scenario: Scenario, subject: Subject) -> Setup {
        Setup { scenario, subject, profile: Profile::Posix, lies: Lies::NONE, limits: Limits::NONE }
    }
}

/// What a world may do at most, beside what it draws. A workload has a length below which no draw brings it, and what is
/// minimised needs less. Nothing is drawn for a limit, so that a run without one stays what it is.
///
/// The sizes are for measuring how cost grows. They take the place of what is drawn, which is drawn all the same; no command
/// asks for one, so seed files have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Entries of a log that are delivered, and requests that clients of a cluster make.
    pub entries_max: Option<u64>,
    /// How often the spare machine of a cluster joins or leaves.
    pub joins_max: Option<u64>,
    /// Size: so many entries, or requests of clients. The faults of a cluster go on for longer where there are more.
    pub entries: Option<u64>,
    /// Size: so many founding members of a cluster, [`MEMBERS_MAX`] at the most.
    pub members: Option<u64>,
}

/// The most founding members of a cluster, beside which a spare machine has a place.
pub const MEMBERS_MAX: u64 = 14;

impl Limits {
    /// No limits but those of the worlds themselves.
    pub const NONE: Limits = Limits { entries_max: None, joins_max: None, entries: None, members: None };
}

const SEALING: Site = Site::new("mix.sealing");
const RING: Site = Site::new("mix.kek-ring");

/// Draws how much of a log is about envelopes, for a subject that knows them.
fn draw_news(choices: &mut Choices, rules: Rules) -> News {
    if !rules.cut_over() {
        return News::NONE;
    }
    let shares = [Ratio::NEVER, Ratio::new(1, 4), Ratio::new(2, 5), Ratio::new(3, 5)];
    let share = *choices.pick(SEALING, &shares);
    let ring = rules.retire_and_rewrap() && choices.draw(RING, 3) == 1;
    News { share, ring }
}

/// What a run came to.
#[derive(Debug)]
pub struct Record {
    /// Everything that an invariant of one node may look at.
    pub history: History,
    /// Everything that one of a cluster may look at, where there is a cluster.
    pub chronicle: Option<Box<Chronicle>>,
    /// How often each probe was hit.
    pub probes: Probes,
    /// Entries that were applied for the first time.
    pub entries: u64,
    /// Different entries that the log held or that were delivered, whatever came of them.
    pub log_entries: u64,
    /// Nodes that took part: something of the log has come to them.
    pub nodes: u64,
    /// Crashes.
    pub crashes: u64,
    /// Where each of them was, and what came of it.
    pub coverage: Crashes,
    /// Simulated time that passed, in milliseconds; 0 in a world without time.
    pub simulated_ms: u64,
    /// The rolling hash of everything that happened.
    pub trace_hash: u64,
    /// What happened, where the trace keeps it.
    pub events: Vec<Event>,
}

impl Setup {
    /// Runs the world once.
    pub fn run(&self, choices: &mut Choices, trace: &Trace) -> Record {
        let probes = Probes::new(&probes::TABLE);
        match self.scenario {
            Scenario::Single => single::run(node::Node::new(self, choices, trace, probes)),
            Scenario::Reject => reject::run(node::Node::new(self, choices, trace, probes)),
            Scenario::Cluster => cluster::run(self, choices, trace, probes),
        }
    }
}
