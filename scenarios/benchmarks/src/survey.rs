//! What a run did, counted from its events.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use scenarios::run::{Keep, Source, run};
use scenarios::world::Setup;
use scenarios::world::cluster::RAFT_LABELS;
use sim::{Event, Trace};

use crate::floor::{self, Below, Plan};

/// The tick of an average member.
const TICK_MS: u64 = 100;

/// What was done, in one run or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Runs.
    pub runs: u64,
    /// Simulated time in milliseconds.
    pub simulated_ms: u64,
    /// Ticks of 100 ms that the time of all members together has room for, while their processes ran.
    pub ticks: u64,
    /// How often a member was started.
    pub starts: u64,
    /// How often a member has become leader.
    pub elections: u64,
    /// Messages of Raft.
    pub raft_messages: u64,
    /// Other messages.
    pub other_messages: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Entries that members have applied, each for itself, and again after a crash where it was lost.
    pub applied: u64,
    /// Syncs of databases.
    pub database_syncs: u64,
    /// Other calls of disks that change something, syncs of other files included.
    pub other_calls: u64,
}

impl Work {
    /// Counts what has left an event. `database` is in the path of a database, and of no other file.
    fn of(events: &[Event], database: &str) -> Work {
        let mut work = Work { runs: 1, ..Work::default() };
        let mut up_ms = 0;
        let mut up = BTreeMap::new();
        for event in events {
            work.simulated_ms = work.simulated_ms.max(event.at_ms);
            match event.kind {
                "net.send" if event.numbers[1] >= RAFT_LABELS => work.raft_messages += 1,
                "net.send" => work.other_messages += 1,
                "leads" => work.elections += 1,
                "apply" => work.applied += 1,
                "start" => {
                    work.starts += 1;
                    up.insert(event.who, event.at_ms);
                }
                "crash" => up_ms += up.remove(&event.who).map_or(0, |since| event.at_ms - since),
                "sync_file" if event.text.contains(database) => work.database_syncs += 1,
                "create" | "write" | "set_len" | "rename" | "unlink" | "mkdir" | "sync_file" | "sync_dir"
                    if !event.text.contains(database) =>
                {
                    work.other_calls += 1;
                }
                _ => {}
            }
        }
        up_ms += up.values().map(|since| work.simulated_ms - since).sum::<u64>();
        work.ticks = up_ms / TICK_MS;
        work
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.runs += other.runs;
        self.simulated_ms += other.simulated_ms;
        self.ticks += other.ticks;
        self.starts += other.starts;
        self.elections += other.elections;
        self.raft_messages += other.raft_messages;
        self.other_messages += other.other_messages;
        self.entries += other.entries;
        self.applied += other.applied;
        self.database_syncs += other.database_syncs;
        self.other_calls += other.other_calls;
    }
}

/// Runs a seed of the world `cluster`, says what it did, and what its floor has to do.
///
/// # Panics
/// Where the seed shows a violation: what is measured is not what it should be then.
pub fn cluster(setup: Setup, seed: u64) -> (Work, Plan) {
    let checked = run(setup, Source::Seed(seed), Keep::Events).expect("a seed always fits");
    assert!(checked.violations.is_empty(), "seed {seed}: {:?}", checked.violations);
    let work = Work { entries: checked.entries, ..Work::of(&checked.events, "/db/") };
    let more = checked.tape.0.iter().find(|draw| draw.site == "cluster.members").expect("a cluster draws it");
    let drawn = if more.value == 3 { 5 } else { 3 };
    let members = setup.limits.members.unwrap_or(drawn);
    let plan = Plan {
        members,
        entries: checked.entries,
        elections: work.elections,
        restarts: work.starts - members,
        simulated_ms: checked.simulated_ms,
    };
    (work, plan)
}

/// Runs a floor and says what it did.
///
/// # Panics
/// Where it does not get done what is planned.
pub fn floor(plan: Plan, seed: u64, below: Below) -> Work {
    let trace = Trace::keeping();
    let applied = floor::run(plan, seed, below, &trace);
    let entries = applied.into_iter().max().unwrap_or(0);
    Work { entries, ..Work::of(&trace.take_events(), "/registry.redb") }
}

/// A line for each kind of work, a column for each of who did it, all for an average run.
pub struct Table<'a>(pub &'a [(&'a str, Work)]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        type Count = fn(&Work) -> u64;
        const ROWS: [(&str, Count); 10] = [
            ("simulated milliseconds", |work| work.simulated_ms),
            ("ticks of 100 ms", |work| work.ticks),
            ("starts of a member", |work| work.starts),
            ("elections", |work| work.elections),
            ("messages of Raft", |work| work.raft_messages),
            ("other messages", |work| work.other_messages),
            ("entries of the log", |work| work.entries),
            ("entries applied by members", |work| work.applied),
            ("syncs of databases", |work| work.database_syncs),
            ("other changes on disks", |work| work.other_calls),
        ];
        write!(f, "| on average |")?;
        self.0.iter().try_for_each(|(name, _)| write!(f, " {name} |"))?;
        write!(f, "\n|---|")?;
        self.0.iter().try_for_each(|_| write!(f, "---|"))?;
        for (name, count) in ROWS {
            write!(f, "\n| {name} |")?;
            for (_, work) in self.0 {
                write!(f, " {:.1} |", count(work) as f64 / work.runs.max(1) as f64)?;
            }
        }
        writeln!(f)
    }
}
