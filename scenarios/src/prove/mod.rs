//! Proof instead of search: the closure of all states that crashes can lead a log to.
//!
//! ```text
//! a disk  ->  a life on it, every call recorded  ->  at every call: each image that a power loss can leave,
//!    ^                                               and what a process crash leaves, pending operations and all
//!    |                                                                 |
//!    +----- if its content is new, for each thing a host may do  <-----+   each image is booted and replayed to the end
//! ```
//!
//! It ends when no new content appears, so it covers any number of crashes in any order, those of recoveries of
//! recoveries included. What is taken for granted is listed in
//! [`Errors::assumes`].
//!
//! A log is closed entry by entry, so that logs with a common beginning share its work: [`every_log`] closes all logs of
//! a bounded length that way.

mod closure;
mod epochs;
mod life;
pub mod script;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use applier::registry::{self, Registry};
use sim::{Disk, Lies, Profile};
use xxhash_rust::xxh3::xxh3_64;

use crate::form::Form;
use crate::seam::SimFiles;
use crate::subject::{DATABASE, Subject, bury};
use crate::world::node::blank_disk;
use closure::Closure;
use life::{Actor, Known, Stage};
use script::Script;

/// What a proof takes for granted.
const ASSUMES: [&str; 7] = [
    "a write of a database page (4096 bytes or more) is kept or dropped whole; its tears are sampled, and counted as skipped",
    "smaller writes (the sidecar, the database's header) tear at 512-byte sectors, each old or new",
    "states are equal if sidecar, rows, data, indices and the presence of each file are, the node's own epochs up to how they compare to each other, to its row and to the last one: the database's own counters never repeat, and what is in a temporary file is never read; a second exact image of each such class was expanded too, and led to the same states",
    "a state with pending operations is equal to another if what a start sees and every image of a power loss are",
    "a node that lives goes on like one that was just started on what it has left, so that each step is recorded once for each state",
    "a node that was started on an image and has got an entry goes on like any other that stood there with equal content and keys: it is replayed to the end of the log that there was, or to where another was seen to get there",
    "the clock stands still",
];

/// Counts of states.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct States {
    /// Images built.
    pub raw: u64,
    /// Of them, different ones.
    pub distinct: u64,
    /// Crash states that were booted, replayed to the end of the log and compared with the model.
    pub checked: u64,
    /// Different states, by what a subject's later behaviour depends on: their lives were recorded, call by call.
    pub expanded: u64,
    /// Of them, those of which a second exact image was expanded as well.
    pub twins: u64,
    /// Steps in which a call was made to fail, or to do less than it was asked for.
    pub errors: u64,
    /// Images with garbled sectors.
    pub garbled: u64,
    /// Of them, those on which a start was cleanly refused.
    pub refused: u64,
    /// Entries that had to be refused and were, each in each state in which the model refuses it.
    pub refusals: u64,
    /// What was left out, by reason.
    pub skipped: BTreeMap<String, u64>,
}

impl States {
    /// Adds the counts of another closure.
    pub fn add(&mut self, other: &States) {
        self.raw += other.raw;
        self.distinct += other.distinct;
        self.checked += other.checked;
        self.expanded += other.expanded;
        self.twins += other.twins;
        self.errors += other.errors;
        self.garbled += other.garbled;
        self.refused += other.refused;
        self.refusals += other.refusals;
        for (reason, count) in &other.skipped {
            *self.skipped.entry(reason.clone()).or_default() += count;
        }
    }
}

/// A violation and the shortest way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What went wrong: invariant, step and entry kind.
    pub fingerprint: String,
    /// Name of the invariant.
    pub invariant: &'static str,
    /// How many states show it.
    pub states_hit: u64,
    /// What was expected and found.
    pub evidence: String,
    /// The log that it was found with.
    pub log: String,
    /// One line for each crash on the way, and the life that shows it.
    pub path: Vec<String>,
}

/// What a closure came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The log's name.
    pub log: String,
    /// How many logs it is about.
    pub logs: u64,
    /// Of them, different ones: a refused entry is replaced by a leader's no-op, and then logs coincide.
    pub distinct_logs: u64,
    /// Whether no state was left out but for the reasons that [`Errors::assumes`] names.
    pub complete: bool,
    /// Counts.
    pub states: States,
    /// The most crashes in a row that led to something new.
    pub recovery_depth_max: u64,
    /// Hash of all contents, of what was found, and of those counts that are about states and not about images.
    pub digest: u64,
    /// Violations by fingerprint.
    pub findings: BTreeMap<String, Finding>,
}

/// Which errors of the disk a closure goes through, one a life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Errors {
    /// None.
    None,
    /// Every one at every call. After a failed sync of the database, or of its directory, the host ends the life in a
    /// power loss: no database survives a restart on a page cache that lies.
    #[default]
    Fenced,
    /// The same without that rule, which is expected to break something.
    Unfenced,
}

impl Errors {
    /// Every choice.
    pub const ALL: [Errors; 3] = [Errors::None, Errors::Fenced, Errors::Unfenced];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Errors::None => "none",
            Errors::Fenced => "fenced",
            Errors::Unfenced => "unfenced",
        }
    }

    /// What a proof takes for granted that goes through these errors.
    pub fn assumes(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            Errors::None => &["no call fails but by a crash"],
            Errors::Fenced => &[
                "at most one call a life fails, or does less than it was asked for",
                "after a failed sync of the database, or of its directory, the life ends in a power loss",
                "a sync of a directory or of the database that fails says so at once",
            ],
            Errors::Unfenced => &[
                "at most one call a life fails, or does less than it was asked for",
                "a directory's sync that fails says so at once",
            ],
        };
        ASSUMES.iter().chain(own).copied().collect()
    }
}

/// A choice of errors that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no errors {name:?}; there are: {}", Errors::ALL.map(Errors::name).join(", "))]
pub struct UnknownErrors {
    /// The name that was given.
    pub name: String,
}

impl FromStr for Errors {
    type Err = UnknownErrors;

    fn from_str(name: &str) -> Result<Errors, UnknownErrors> {
        let found = Errors::ALL.into_iter().find(|errors| errors.name() == name);
        found.ok_or_else(|| UnknownErrors { name: name.to_owned() })
    }
}

/// How proofs are run.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Who is put to the test.
    pub subject: Subject,
    /// How adversarial crashes are.
    pub profile: Profile,
    /// How the disk lies; honest by default.
    pub lies: Lies,
    /// Which errors of the disk are gone through.
    pub errors: Errors,
    /// Also sample images in which sectors are garbage, which a node may refuse.
    pub garbled: bool,
    /// End with the first violation, incomplete.
    pub first_only: bool,
    /// Set by anyone to end it early, incomplete.
    pub stop: &'a AtomicBool,
    /// Told about states as they are checked.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl Terms<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Closes one log.
pub fn one_log(terms: Terms<'_>, log: &str, forms: &[Form]) -> Proof {
    let mut script = Script::new(terms.subject.rules(), forms);
    script.claims = log == script::CLAIMS;
    let mut closure = Closure::new(terms);
    closure.close(terms, &script);
    for form in forms {
        if closure.is_stopped() {
            break;
        }
        script.push(form);
        closure.extend(&script);
        closure.close(terms, &script);
    }
    closure.finish(terms, &script);
    let part = closure.part(log, &script);
    Proof {
        log: log.to_owned(),
        logs: 1,
        distinct_logs: 1,
        complete: part.complete,
        recovery_depth_max: part.depth,
        digest: xxh3_64(part.text.as_bytes()),
        states: part.states,
        findings: part.findings,
    }
}

/// What one log added to those that are its beginnings.
pub(crate) struct Part {
    complete: bool,
    states: States,
    depth: u64,
    /// Everything that the digest covers.
    text: String,
    findings: BTreeMap<String, Finding>,
}

/// How the proof of all logs is called; behind it comes their length.
pub(crate) const EVERY_LOG: &str = "every log of up to ";

/// Closes every log of up to `length` entries over the alphabet.
pub fn every_log(terms: Terms<'_>, length: usize) -> Proof {
    let script = Script::new(terms.subject.rules(), &script::alphabet(terms.subject.rules()));
    let mut closure = Closure::new(terms);
    closure.finish(terms, &script);
    // What a node does before its first entry is no log of its own, and is proven all the same.
    let before = closure.part("", &script);
    let parts: Mutex<BTreeMap<String, Part>> = Mutex::default();
    let root = Arc::new((script, closure));
    rayon::scope(|scope| grow(scope, terms, length, String::new(), root, &parts));
    let parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let letters = script::alphabet(terms.subject.rules()).len() as u64;
    let mut proof = Proof {
        log: format!("{EVERY_LOG}{length}"),
        logs: (1..=length as u32).map(|length| letters.pow(length)).sum(),
        distinct_logs: parts.len() as u64,
        complete: before.complete && !terms.is_stopped(),
        states: States::default(),
        recovery_depth_max: 0,
        digest: 0,
        findings: before.findings,
    };
    let mut text = String::new();
    let mut parts: Vec<(String, Part)> = parts.into_iter().collect();
    parts.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
    for (name, part) in parts {
        proof.complete &= part.complete;
        proof.states.add(&part.states);
        proof.recovery_depth_max = proof.recovery_depth_max.max(part.depth);
        text.push_str(&format!("{name} {}\n", part.text));
        for (fingerprint, found) in part.findings {
            match proof.findings.get_mut(&fingerprint) {
                Some(known) => known.states_hit += found.states_hit,
                None => drop(proof.findings.insert(fingerprint, found)),
            }
        }
    }
    proof.digest = xxh3_64(text.as_bytes());
    proof
}

/// Closes every log that is one entry longer than this one, each as a task of its own, and goes on from there.
fn grow<'s>(
    scope: &rayon::Scope<'s>,
    terms: Terms<'s>,
    left: usize,
    name: String,
    shorter: Arc<(Script, Closure)>,
    parts: &'s Mutex<BTreeMap<String, Part>>,
) {
    if left == 0 {
        return;
    }
    let state =
        Arc::clone(shorter.0.states.last().expect("there is always the state before the first entry"));
    for (letter, form) in script::alphabet(terms.subject.rules()).into_iter().enumerate() {
        // What is refused stands for a no-op, and that has a letter of its own.
        if !state.judge(terms.subject.rules(), true, &form).advances() || terms.is_stopped() {
            continue;
        }
        let shorter = Arc::clone(&shorter);
        let name = if name.is_empty() { letter.to_string() } else { format!("{name}.{letter}") };
        scope.spawn(move |scope| {
            let (mut script, mut closure) = (shorter.0.clone(), shorter.1.heir());
            drop(shorter);
            script.push(&form);
            closure.extend(&script);
            closure.finish(terms, &script);
            let part = closure.part(&name, &script);
            parts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), part);
            grow(scope, terms, left - 1, name, Arc::new((script, closure)), parts);
        });
    }
}

/// The least that a harness over this database pays for a crash state: fork a disk, open the crashed database on it, read
/// all of it, drop it.
#[derive(Debug)]
pub struct Floor(Disk);

/// A database that was never closed, with a log in it.
pub fn floor() -> Floor {
    let subject = Subject::Hardened;
    let (_, forms) = script::named(subject.rules()).pop().expect("there are named logs");
    let mut script = Script::new(subject.rules(), &forms);
    forms.iter().for_each(|form| script.push(form));
    let disk = blank_disk(Profile::Posix, Lies::NONE);
    let mut stage = Stage::new(subject, &script);
    let mut actor = Actor::start(&mut stage, disk.clone(), &Known::exactly(0, 0, 0), false);
    actor.catch_up(|_| false);
    actor.end();
    Floor(disk)
}

impl Floor {
    /// One crash state's worth.
    pub fn round(&self) {
        let disk = self.0.fork();
        let registry = registry::open(&SimFiles::new(disk.mount()), DATABASE).expect("no fault is armed");
        assert!(registry.snapshot().is_ok_and(|snapshot| !snapshot.rows.is_empty()), "the log left rows");
        disk.process_crash();
        bury(registry);
    }
}
