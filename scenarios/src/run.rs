//! Running one seed, or one tape, on a thread of its own, and many of them side by side.

mod range;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use sim::{Choices, Event, Mismatch, Probes, Tape, Trace};

pub use self::range::Range;
use crate::coverage::{Coverage, Crashes};
use crate::invariants::{self, Violation};
use crate::probes;
use crate::timeline::{arises, tap};
use crate::world::Setup;

/// What a run draws from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A seed.
    Seed(u64),
    /// A recorded tape, strictly.
    Tape(Tape),
    /// A tape that another build has recorded: as far as it fits, then the answers of the seed.
    Realigned(Tape, u64),
    /// A tape that was changed: each site takes its own values in order as far as they fit, and zeros from there on.
    Loose(Tape),
    /// A fuzzer's bytes.
    Bytes(Vec<u8>),
}

/// What is kept of a run beside its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// What happened, event by event.
    Events,
    /// The same, each event with the disk that it happened on.
    Disks,
}

/// What a run came to, checked.
#[derive(Debug)]
pub struct Checked {
    /// Violations, one a fingerprint.
    pub violations: Vec<Violation>,
    /// How often each probe was hit.
    pub probes: Probes,
    /// Entries applied for the first time.
    pub entries: u64,
    /// Different entries that the log held or that were delivered, whatever came of them.
    pub log_entries: u64,
    /// Nodes that took part: something of the log has come to them.
    pub nodes: u64,
    /// Crashes.
    pub crashes: u64,
    /// Where each of them was, and what came of it.
    pub coverage: Crashes,
    /// Simulated time from the last fault to the end of the log on every member, in milliseconds, where that is looked at.
    pub convergence_ms: Option<u64>,
    /// Simulated time of the whole run in milliseconds.
    pub simulated_ms: u64,
    /// Hash of everything that happened.
    pub trace_hash: u64,
    /// The draws.
    pub tape: Tape,
    /// What happened, where it was kept.
    pub events: Vec<Event>,
    /// For each violation the number of the event at which it came up, where events were kept. One that speaks of the
    /// whole run comes up with the last.
    pub violated_at: Vec<usize>,
    /// Where the run left a tape that it was realigned with.
    pub diverged: Option<Mismatch>,
}

/// Why a run has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The tape does not fit the code.
    #[error("the tape does not fit: {0}")]
    Mismatch(#[from] Mismatch),
    /// No thread could be started.
    #[error("no thread could be started: {0}")]
    Thread(String),
}

/// Name of the thread of a run.
const THREAD: &str = "run";

/// A panic of a run is a finding, and is reported as one. What the panic hook does comes in between: it prints, and that of a
/// fuzzer ends the process. From here on it hears of all other panics alone.
#[expect(clippy::disallowed_methods, reason = "it decides what is printed, and nothing of a run")]
pub fn silence_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(THREAD) {
            others(panic);
        }
    }));
}

/// Runs once, on a fresh thread, so that nothing thread-local carries over from one run to the next.
///
/// # Errors
/// [`RunError`]; a panic of the subject is a violation, not an error.
pub fn run(setup: Setup, source: Source, keep: Keep) -> Result<Checked, RunError> {
    thread::scope(|scope| {
        let body = move || run_here(setup, source, keep);
        let handle = thread::Builder::new().name(THREAD.to_owned()).spawn_scoped(scope, body);
        let handle = handle.map_err(|error| RunError::Thread(error.to_string()))?;
        handle.join().expect("panics of the run are caught inside it")
    })
}

fn run_here(setup: Setup, source: Source, keep: Keep) -> Result<Checked, RunError> {
    let is_strict = matches!(source, Source::Tape(_));
    let mut choices = match source {
        Source::Seed(seed) => Choices::seeded(seed),
        Source::Tape(tape) => Choices::replayed(tape),
        Source::Realigned(tape, seed) => Choices::realigned(tape, seed),
        Source::Loose(tape) => Choices::replayed_loosely(tape),
        Source::Bytes(data) => Choices::bytes(&data),
    };
    let trace = match keep {
        Keep::Nothing => Trace::hashing(),
        Keep::Events => Trace::keeping(),
        Keep::Disks => Trace::filming(),
    };
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| match keep {
        Keep::Nothing => setup.run(&mut choices, &trace),
        Keep::Events | Keep::Disks => tap::during(&trace, || setup.run(&mut choices, &trace)),
    }));
    let record = match ran {
        Ok(record) => record,
        // A run that has left its tape was not meant to get here, wherever that is.
        Err(_) if is_strict && choices.mismatch().is_some() => {
            return Err(choices.finish().expect_err("it has one").into());
        }
        Err(panic) => {
            let events = trace.take_events();
            return Ok(Checked {
                violated_at: vec![events.len().saturating_sub(1)],
                diverged: choices.divergence(),
                violations: vec![panicked(panic.as_ref())],
                probes: Probes::new(&probes::TABLE),
                entries: 0,
                log_entries: 0,
                nodes: 0,
                crashes: 0,
                coverage: Crashes::default(),
                convergence_ms: None,
                simulated_ms: 0,
                trace_hash: trace.hash(),
                tape: choices.tape().clone(),
                events,
            });
        }
    };
    let diverged = choices.divergence();
    let tape = choices.finish()?;
    let violations = match &record.chronicle {
        Some(chronicle) => invariants::check_cluster(chronicle),
        None => invariants::check(&record.history),
    };
    let violated_at = match keep {
        Keep::Nothing => Vec::new(),
        Keep::Events | Keep::Disks => violations.iter().map(|violation| arises(&record, violation)).collect(),
    };
    let mut coverage = record.coverage;
    if !violations.is_empty() {
        let shows = |events: usize| !invariants::check(&record.history[..events]).is_empty();
        coverage.convict(|events| record.chronicle.is_none() && shows(events));
    }
    Ok(Checked {
        violations,
        violated_at,
        diverged,
        coverage,
        convergence_ms: record.chronicle.and_then(|chronicle| chronicle.end.converged_ms),
        simulated_ms: record.simulated_ms,
        probes: record.probes,
        entries: record.entries,
        log_entries: record.log_entries,
        nodes: record.nodes,
        crashes: record.crashes,
        trace_hash: record.trace_hash,
        tape,
        events: record.events,
    })
}

/// The violation that a panic of the subject is.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Violation {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("not a text");
    Violation {
        invariant: "no-panic",
        fingerprint: "no-panic/run/panic".to_owned(),
        evidence: format!("the run panicked: {message}"),
        difference: None,
    }
}

/// One defect, as often as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// Seeds that show it.
    pub seeds_hit: u64,
    /// The lowest of them.
    pub first_seed: u64,
    /// Evidence from that one.
    pub evidence: String,
}

/// The sum of many runs. Adding is commutative, so neither the number of jobs nor the shards change it.
#[derive(Debug)]
pub struct Tally {
    /// Seeds run.
    pub seeds: u64,
    /// Entries applied for the first time.
    pub entries: u64,
    /// Crashes.
    pub crashes: u64,
    /// Where they were, and what came of them.
    pub coverage: Coverage,
    /// The longest time from the last fault to the end of the log on every member, in simulated milliseconds.
    pub convergence_ms_max: u64,
    /// Simulated time of all runs together in milliseconds.
    pub simulated_ms: u64,
    /// Sum of a mix of every seed with its trace hash.
    pub trace_digest: u64,
    /// Hits.
    pub probes: Probes,
    /// Findings by fingerprint.
    pub findings: BTreeMap<String, Finding>,
    /// Seeds with at least one violation.
    pub violations: u64,
    /// The first error of the harness itself.
    pub error: Option<RunError>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            seeds: 0,
            entries: 0,
            crashes: 0,
            coverage: Coverage::default(),
            convergence_ms_max: 0,
            simulated_ms: 0,
            trace_digest: 0,
            probes: Probes::new(&probes::TABLE),
            findings: BTreeMap::new(),
            violations: 0,
            error: None,
        }
    }
}

impl Tally {
    fn add(&mut self, seed: u64, checked: Checked) {
        self.seeds += 1;
        self.entries += checked.entries;
        self.crashes += checked.crashes;
        checked.coverage.iter().for_each(|crash| self.coverage.add(crash));
        self.convergence_ms_max = self.convergence_ms_max.max(checked.convergence_ms.unwrap_or(0));
        self.simulated_ms += checked.simulated_ms;
        self.trace_digest = self.trace_digest.wrapping_add(mix(seed, checked.trace_hash));
        self.probes.merge(&checked.probes);
        self.violations += u64::from(!checked.violations.is_empty());
        for Violation { invariant, fingerprint, evidence, .. } in checked.violations {
            let found = Finding { invariant, seeds_hit: 1, first_seed: seed, evidence };
            self.find(fingerprint, found);
        }
    }

    fn find(&mut self, fingerprint: String, found: Finding) {
        match self.findings.get_mut(&fingerprint) {
            None => {
                self.findings.insert(fingerprint, found);
            }
            Some(known) => {
                known.seeds_hit += found.seeds_hit;
                if found.first_seed < known.first_seed {
                    known.first_seed = found.first_seed;
                    known.evidence = found.evidence;
                }
            }
        }
    }

    fn merge(&mut self, other: Tally) {
        self.seeds += other.seeds;
        self.entries += other.entries;
        self.crashes += other.crashes;
        self.coverage.merge(&other.coverage);
        self.convergence_ms_max = self.convergence_ms_max.max(other.convergence_ms_max);
        self.simulated_ms += other.simulated_ms;
        self.trace_digest = self.trace_digest.wrapping_add(other.trace_digest);
        self.probes.merge(&other.probes);
        self.violations += other.violations;
        self.error = self.error.take().or(other.error);
        for (fingerprint, found) in other.findings {
            self.find(fingerprint, found);
        }
    }
}

/// Binds a hash to its seed, so that two seeds that swap their traces do not cancel out (the finaliser of SplitMix64).
fn mix(seed: u64, hash: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seeds that a worker takes at once: few enough to share the end of a range evenly.
const CHUNK: u64 = 16;

/// Runs a range of seeds on `jobs` threads, each seed on a thread of its own. `progress` is told how many seeds more
/// are done; `stop` ends it early, with what was found so far.
///
/// # Errors
/// The first error of the harness itself.
pub fn sweep(
    setup: Setup,
    range: Range,
    jobs: usize,
    stop: &AtomicBool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Tally, RunError> {
    let taken = AtomicU64::new(0);
    let total = Mutex::new(Tally::default());
    let worker = || {
        let mut tally = Tally::default();
        while tally.error.is_none() && !stop.load(Ordering::Relaxed) {
            let from = taken.fetch_add(CHUNK, Ordering::Relaxed);
            let to = (from + CHUNK).min(range.len());
            if from >= to {
                break;
            }
            for seed in (from..to).map(|at| range.nth(at)) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match run(setup, Source::Seed(seed), Keep::Nothing) {
                    Ok(checked) => tally.add(seed, checked),
                    Err(error) => tally.error = Some(error),
                }
            }
            progress(to - from);
        }
        total.lock().unwrap_or_else(PoisonError::into_inner).merge(tally);
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(worker);
        }
    });
    let mut tally = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    match tally.error.take() {
        Some(error) => Err(error),
        None => Ok(tally),
    }
}
