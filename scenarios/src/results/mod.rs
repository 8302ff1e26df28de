//! What sweeps came to: one form for writing, reading and merging it.
//!
//! A file holds either one sweep (`"command":"sweep"`) or, where sweeps with other subjects or other disks were put
//! together, several of them (`"command":"report"`, under `sweeps`). Counts add up, and so does the digest, which is a
//! sum over the seeds: merged, the shards of a range are what one run over the whole range says.

mod merge;
mod trend;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

pub use self::merge::{MergeError, merge};
pub use self::trend::{ScenarioTrend, Trend, trend};
use crate::coverage::Coverage;
use crate::knobs;
use crate::run::{Finding, Range, Tally};
use crate::world::Setup;

/// The version that is written. It grows when a field changes its meaning or goes.
pub const VERSION: u64 = 1;

/// Characters of evidence that results carry. It holds whole states; a replay prints them in full.
const EVIDENCE_CHARS_MAX: usize = 2000;

/// One sweep, or several with one subject on one disk put together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// Always `sweep`.
    pub command: String,
    /// [`VERSION`].
    pub version: u64,
    /// Who was put to the test.
    pub subject: String,
    /// On what disk.
    pub profile: String,
    /// How the disk lies, if it does.
    pub lie: Option<String>,
    /// Whether some seeds of the ranges were not run.
    pub partial: bool,
    /// Threads; of several sweeps, the most.
    pub jobs: usize,
    /// Seconds of wall-clock time; of several sweeps, of all together.
    pub seconds: f64,
    /// Speed.
    pub seeds_per_second_per_core: f64,
    /// One for each scenario.
    pub scenarios: Vec<ScenarioResult>,
    /// Seeds with a violation.
    pub violations: u64,
}

/// What one scenario came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// The seeds that were asked for. Where they are no one range, everything between the first and the last.
    #[serde(flatten)]
    pub range: Range,
    /// The ranges, where they are no one range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Range>,
    /// Seeds that were run.
    pub seeds: u64,
    /// Entries applied for the first time.
    pub entries: u64,
    /// Crashes.
    pub crashes: u64,
    /// Seeds with a violation.
    pub violations: u64,
    /// Seconds of wall-clock time.
    pub seconds: f64,
    /// Those times the threads that worked.
    pub core_seconds: f64,
    /// Speed.
    pub seeds_per_second_per_core: f64,
    /// What a world with a clock of its own has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The sum over the seeds of a mix of each with the hash of its trace.
    pub trace_digest: Digest,
    /// Hits by name.
    pub probes: BTreeMap<String, u64>,
    /// Crashes by point, fate and outcome.
    pub coverage: Coverage,
    /// Findings by fingerprint, in the order of the alphabet.
    pub findings: Vec<FindingResult>,
}

/// How simulated time went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Time {
    /// Simulated seconds that pass in one of wall-clock time, on one core.
    pub simulated_to_wall: f64,
    /// The longest simulated time from the last fault to the end of the log on every member, in milliseconds.
    pub convergence_ms_max: u64,
    /// Simulated time of all runs together, in milliseconds.
    pub simulated_ms: u64,
}

/// One defect, as often as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingResult {
    /// What went wrong.
    pub fingerprint: String,
    /// The invariant.
    pub invariant: String,
    /// Seeds that show it.
    pub seeds_hit: u64,
    /// The lowest of them.
    pub first_seed: u64,
    /// The line that shows it again.
    pub reproduce: String,
    /// What was expected and found at the first seed, cut off where it is long.
    #[serde(default)]
    pub evidence: String,
}

/// A digest, written in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u64);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Digest).map_err(D::Error::custom)
    }
}

/// What was asked for and how long it took, beside what it came to.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The seeds.
    pub range: Range,
    /// Threads.
    pub jobs: usize,
    /// Seconds of wall-clock time.
    pub seconds: f64,
}

impl ScenarioResult {
    /// What a run over a range has come to. `reproduce` gives the line that shows a seed again.
    pub fn new(
        setup: &Setup,
        tally: Tally,
        effort: Effort,
        reproduce: impl Fn(u64) -> String,
    ) -> ScenarioResult {
        let Effort { range, jobs, seconds } = effort;
        let core_seconds = seconds * jobs as f64;
        let probes = tally.probes.iter().filter(|(name, _)| setup.scenario.probes(name));
        let finding = |(fingerprint, found): (String, Finding)| FindingResult {
            fingerprint,
            invariant: found.invariant.to_owned(),
            seeds_hit: found.seeds_hit,
            first_seed: found.first_seed,
            reproduce: reproduce(found.first_seed),
            evidence: shortened(&found.evidence, EVIDENCE_CHARS_MAX),
        };
        ScenarioResult {
            name: setup.scenario.name().to_owned(),
            range,
            parts: Vec::new(),
            seeds: tally.seeds,
            entries: tally.entries,
            crashes: tally.crashes,
            violations: tally.violations,
            seconds,
            core_seconds,
            seeds_per_second_per_core: per_second(tally.seeds, core_seconds),
            time: (tally.simulated_ms > 0).then(|| Time {
                simulated_to_wall: per_second(tally.simulated_ms, core_seconds) / 1000.0,
                convergence_ms_max: tally.convergence_ms_max,
                simulated_ms: tally.simulated_ms,
            }),
            trace_digest: Digest(tally.trace_digest),
            probes: probes.map(|(name, hits)| (name.to_owned(), hits)).collect(),
            coverage: tally.coverage,
            findings: tally.findings.into_iter().map(finding).collect(),
        }
    }

    /// The ranges of seeds in it.
    pub fn ranges(&self) -> Vec<Range> {
        if self.parts.is_empty() { vec![self.range] } else { self.parts.clone() }
    }

    /// Seeds that were asked for.
    pub fn seeds_asked_for(&self) -> u64 {
        self.ranges().into_iter().fold(0, |sum: u64, range| sum.saturating_add(range.len()))
    }

    /// Probes that no seed hit.
    pub fn never_hit(&self) -> Vec<&str> {
        self.probes.iter().filter(|(_, hits)| **hits == 0).map(|(name, _)| name.as_str()).collect()
    }

    /// Fault knobs that have delivered nothing.
    pub fn dead_knobs(&self) -> Vec<&'static str> {
        let hits = |name: &str| self.probes.get(name).copied();
        knobs::KNOBS.iter().filter(|knob| knob.is_dead(hits)).map(|knob| knob.name).collect()
    }

    /// Its seeds, in words.
    pub fn seeds_in_words(&self) -> String {
        let words: Vec<String> = self.ranges().into_iter().map(|range| range.to_string()).collect();
        words.join(", ")
    }
}

impl Sweep {
    /// Several scenarios, run one after the other.
    pub fn new(setup: &Setup, jobs: usize, seconds: f64, scenarios: Vec<ScenarioResult>) -> Sweep {
        let mut sweep = Sweep {
            command: "sweep".to_owned(),
            version: VERSION,
            subject: setup.subject.name().to_owned(),
            profile: setup.profile.name().to_owned(),
            lie: setup.lies.name().map(str::to_owned),
            partial: false,
            jobs,
            seconds,
            seeds_per_second_per_core: 0.0,
            scenarios,
            violations: 0,
        };
        sweep.add_up();
        sweep.seeds_per_second_per_core = per_second(sweep.seeds(), seconds * jobs as f64);
        sweep
    }

    /// What follows from its scenarios.
    fn add_up(&mut self) {
        let rows = &self.scenarios;
        self.partial = rows.iter().any(|row| row.seeds < row.seeds_asked_for());
        self.violations = rows.iter().map(|row| row.violations).sum();
        let core_seconds = rows.iter().map(|row| row.core_seconds).sum();
        self.seeds_per_second_per_core = per_second(self.seeds(), core_seconds);
    }

    /// Seeds of all scenarios together.
    pub fn seeds(&self) -> u64 {
        self.scenarios.iter().map(|row| row.seeds).sum()
    }

    /// Subject and disk, in words.
    pub fn title(&self) -> String {
        let lie = self.lie.as_ref().map(|lie| format!(", lie {lie}")).unwrap_or_default();
        format!("subject {}, profile {}{lie}", self.subject, self.profile)
    }

    /// What has to be equal where two are put together.
    pub(crate) fn key(&self) -> (&str, &str, Option<&str>) {
        (&self.subject, &self.profile, self.lie.as_deref())
    }
}

/// The results of one file.
#[derive(Clone, Debug)]
pub struct Results {
    /// Where they are from.
    pub path: PathBuf,
    /// The sweeps in it.
    pub sweeps: Vec<Sweep>,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{path}: not the results of a sweep: {why}; write them with `cargo sim sweep --format json` or `--out DIR`"
    )]
    NotResults {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It was written by a version to come.
    #[error(
        "{path}: results of version {version}, and this is a build that knows {VERSION}; merge them with a newer build"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// No seed was run.
    #[error("{path}: no seed was run, so that there is nothing to report; run the sweep again")]
    NoData {
        /// The file.
        path: PathBuf,
    },
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<Results, ReadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
        let wrong = |why: String| ReadError::NotResults { path: path.to_owned(), why };
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let command = value["command"].as_str().ok_or_else(|| wrong("it says no command".to_owned()))?;
        match value["version"].as_u64() {
            Some(VERSION) => {}
            Some(version) if version > VERSION => {
                return Err(ReadError::Newer { path: path.to_owned(), version });
            }
            _ => return Err(wrong(format!("it is no result of version {VERSION}"))),
        }
        let sweeps: Vec<Sweep> = match command {
            "sweep" => Sweep::deserialize(&value).map(|sweep| vec![sweep]),
            "report" => Vec::deserialize(&value["sweeps"]),
            other => return Err(wrong(format!("it is that of {other:?}"))),
        }
        .map_err(|error| wrong(error.to_string()))?;
        let broken = sweeps.iter().flat_map(|sweep| &sweep.scenarios).find(|row| !is_whole(row));
        if let Some(row) = broken {
            return Err(wrong(format!("{} has counts that contradict each other", row.name)));
        }
        // A shard of a range that is shorter than the number of shards may be empty, and is no mistake.
        let is_empty = |row: &ScenarioResult| row.seeds == 0 && row.seeds_asked_for() > 0;
        if sweeps.iter().flat_map(|sweep| &sweep.scenarios).all(is_empty) {
            return Err(ReadError::NoData { path: path.to_owned() });
        }
        Ok(Results { path: path.to_owned(), sweeps })
    }
}

/// Whether what is counted twice was counted alike.
fn is_whole(row: &ScenarioResult) -> bool {
    let ranges = row.ranges();
    ranges.iter().all(|range| range.is_valid())
        && row.seeds <= row.seeds_asked_for()
        && row.coverage.total() == row.crashes
}

/// A report over one sweep is that sweep; one over several holds them.
#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    One {
        #[serde(flatten)]
        sweep: &'a Sweep,
        #[serde(skip_serializing_if = "Option::is_none")]
        trend: Option<&'a Trend>,
    },
    Several {
        command: &'static str,
        version: u64,
        sweeps: &'a [Sweep],
        violations: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        trend: Option<&'a Trend>,
    },
}

/// Sweeps as one object on one line.
pub fn to_json(sweeps: &[Sweep], trend: Option<&Trend>) -> String {
    let written = match sweeps {
        [sweep] => Written::One { sweep, trend },
        sweeps => {
            let violations = sweeps.iter().map(|sweep| sweep.violations).sum();
            Written::Several { command: "report", version: VERSION, sweeps, violations, trend }
        }
    };
    let mut text = serde_json::to_string(&written).expect("strings and numbers always serialise");
    text.push('\n');
    text
}

/// Per second.
pub fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The beginning of a long text.
pub fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}
