//! Which commands are run, which of them are killed, and when their directory is looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

use super::child::{self, Ended};
use super::disk::{self, Disk};
use super::keeper::Keeper;

const SEED: u64 = 42;
/// Directories, each with its own part of the commands from its beginning on, all at once: a process waits for the disk most
/// of its time.
const DIRECTORIES: usize = 6;
/// Kills in each that have to hit a live process.
const KILLS: usize = 50;
/// A machine on which commands end before they can be killed, that often, is not one to test this on.
const ATTEMPTS_MAX: usize = 20 * KILLS;

/// What a run came to.
#[derive(Default)]
pub(crate) struct Summary {
    commands: usize,
    late: usize,
    killed: BTreeMap<&'static str, usize>,
    /// Killed while there was something left to recover from the kill before.
    in_recovery: usize,
    torn: usize,
    not_applied: usize,
    sidecar_ahead: usize,
    claimed_only: usize,
    leftovers: usize,
    nonces: usize,
    took: Duration,
}

impl Summary {
    fn kills(&self) -> usize {
        self.killed.values().sum()
    }

    fn plus(mut self, other: Summary) -> Summary {
        for (command, count) in other.killed {
            *self.killed.entry(command).or_default() += count;
        }
        self.commands += other.commands;
        self.late += other.late;
        self.in_recovery += other.in_recovery;
        self.torn += other.torn;
        self.not_applied += other.not_applied;
        self.sidecar_ahead += other.sidecar_ahead;
        self.claimed_only += other.claimed_only;
        self.leftovers += other.leftovers;
        self.nonces += other.nonces;
        self
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_command: Vec<String> =
            self.killed.iter().map(|(command, count)| format!("{command} {count}")).collect();
        write!(
            f,
            "{} of {} commands were killed, {} of those in a recovery, {} were faster than their kill; {:.1} s\n  killed: {}\n  \
             left behind: {} torn entries, {} entries not applied, {} sidecars ahead of the database, {} epochs not registered, \
             {} temporary files\n  {} nonces, each used once",
            self.kills(),
            self.commands,
            self.in_recovery,
            self.late,
            self.took.as_secs_f64(),
            by_command.join(", "),
            self.torn,
            self.not_applied,
            self.sidecar_ahead,
            self.claimed_only,
            self.leftovers,
            self.nonces,
        )
    }
}

/// One command line.
struct Line {
    args: Vec<String>,
    /// What decides how long it takes.
    name: &'static str,
}

impl Line {
    fn new(name: &'static str, args: &[&str]) -> Line {
        let args = std::iter::once(&name).chain(args).map(|arg| (*arg).to_owned()).collect();
        Line { args, name }
    }

    fn arg(&self, at: usize) -> &str {
        &self.args[at]
    }
}

/// Runs until enough was killed.
///
/// # Errors
/// What was wrong, where it can be looked at, and how it came to that.
#[expect(clippy::disallowed_methods, reason = "how long it took is part of the summary, and of no verdict")]
pub(crate) fn run() -> Result<String, String> {
    let begun = Instant::now();
    let mut rehearsal = Campaign::new(SEED, BTreeMap::new());
    Visit::begin()?.conclude(|visit| rehearsal.rehearse(visit))?;
    let haunt = |seed| -> Result<Summary, String> {
        let mut campaign = Campaign::new(seed, rehearsal.took.clone());
        Visit::begin()?.conclude(|visit| campaign.haunt(visit))?;
        Ok(campaign.summary)
    };
    let haunt = &haunt;
    let mut whole = thread::scope(|scope| {
        let seeds = (1..).map(|number| SEED + number).take(DIRECTORIES);
        let threads: Vec<_> = seeds.map(|seed| scope.spawn(move || haunt(seed))).collect();
        let parts = threads.into_iter().map(|thread| thread.join().expect("it returns what it finds"));
        parts.reduce(|one, other| Ok(Summary::plus(one?, other?))).expect("there are some")
    })?;
    whole.took = begun.elapsed();
    Ok(whole.to_string())
}

struct Campaign {
    rng: ChaCha8Rng,
    /// How long each command has taken, the newest first by weight.
    took: BTreeMap<&'static str, Duration>,
    summary: Summary,
    /// How many values were made up.
    values: usize,
}

/// A directory, from its beginning on.
struct Visit {
    root: TempDir,
    dir: PathBuf,
    keeper: Keeper,
    disk: Disk,
    history: Vec<String>,
}

impl Visit {
    fn begin() -> Result<Visit, String> {
        // Not where temporary files are: that is memory on many machines, and there a sync takes no time.
        let root = tempfile::Builder::new()
            .prefix("keyctl")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .map_err(|error| error.to_string())?;
        let dir = root.path().join("node");
        Ok(Visit { root, dir, keeper: Keeper::default(), disk: Disk::default(), history: Vec::new() })
    }

    /// Runs something, and where that finds something wrong, keeps the directory and says how it came to that.
    fn conclude(mut self, run: impl FnOnce(&mut Visit) -> Result<(), String>) -> Result<(), String> {
        let Err(violation) = run(&mut self) else { return Ok(()) };
        let kept = self.root.keep();
        let first = self.history.len().saturating_sub(12);
        Err(format!(
            "{violation}\n  kept in {}; the last commands:\n  {}",
            kept.display(),
            self.history[first..].join("\n  ")
        ))
    }

    fn look(&mut self) -> Result<(), String> {
        self.disk = disk::read(&self.dir, &self.root.path().join("copy.redb"))?;
        self.keeper.look(&self.disk)
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether an entry of the log has installed keys, applied or not.
    fn is_bootstrapped(&self) -> bool {
        self.disk.sidecar.is_some()
            || self.disk.log.as_ref().is_some_and(|log| log.entries.iter().any(|entry| entry.is_proposal))
    }

    fn not_applied(&self) -> usize {
        let (Some(log), Some(tables)) = (&self.disk.log, &self.disk.tables) else { return 0 };
        log.entries.iter().filter(|entry| entry.index > tables.applied).count()
    }

    fn leftovers(&self) -> usize {
        let is_leftover = |name: &&String| name.ends_with(".tmp") || name.ends_with(".probe");
        self.disk.files.keys().filter(is_leftover).count()
    }
}

impl Campaign {
    fn new(seed: u64, took: BTreeMap<&'static str, Duration>) -> Campaign {
        Campaign { rng: ChaCha8Rng::seed_from_u64(seed), took, summary: Summary::default(), values: 0 }
    }

    /// Every command once, undisturbed, to know how long each takes.
    fn rehearse(&mut self, visit: &mut Visit) -> Result<(), String> {
        let lines: &[(&'static str, &[&str])] = &[
            ("init", &[]),
            ("bootstrap", &[]),
            ("put", &["a", "clear"]),
            ("enable", &["storage"]),
            ("enable", &["raft"]),
            ("put", &["b", "sealed value"]),
            ("rotate", &["storage"]),
            ("rotate", &["raft"]),
            ("reseal", &[]),
            ("retire", &["1"]),
            ("compact", &[]),
            ("retire", &["2"]),
            ("rewrap", &[]),
            ("status", &[]),
            ("log", &[]),
            ("get", &["b"]),
            ("verify", &[]),
        ];
        for (name, args) in lines {
            self.command(visit, &Line::new(name, args), None)?;
        }
        visit.keeper.settle(&visit.disk)
    }

    /// Commands in one directory, most of them killed.
    fn haunt(&mut self, visit: &mut Visit) -> Result<(), String> {
        while self.summary.kills() < KILLS {
            if self.summary.commands > ATTEMPTS_MAX {
                let kills = self.summary.kills();
                return Err(format!(
                    "of {ATTEMPTS_MAX} commands, {kills} were killed: the others were faster"
                ));
            }
            let line = self.choose(visit);
            let whole = self.took.get(line.name).copied().unwrap_or_default();
            // Some go undisturbed, so that there is progress also where the kills come early.
            let delay = (self.below(4) > 0).then(|| whole.mul_f64(self.below(10_000) as f64 / 10_000.0));
            let is_killed = self.command(visit, &line, delay)?;
            // Else the next command meets what this one has left, and may be killed over it.
            if is_killed && visit.is_bootstrapped() && self.below(2) == 0 {
                self.command(visit, &Line::new("verify", &[]), None)?;
                visit.keeper.settle(&visit.disk)?;
            }
        }
        if visit.is_bootstrapped() {
            self.command(visit, &Line::new("verify", &[]), None)?;
            visit.keeper.settle(&visit.disk)?;
        }
        self.summary.nonces += visit.keeper.nonces();
        Ok(())
    }

    /// Runs one, looks at what is there after it, and says whether it was killed.
    fn command(&mut self, visit: &mut Visit, line: &Line, delay: Option<Duration>) -> Result<bool, String> {
        let had_work = visit.not_applied() > 0 || visit.leftovers() > 0;
        if line.name == "put" {
            visit.keeper.begins_put(line.arg(2));
        }
        let dir = visit.dir().to_str().ok_or("the build directory is not UTF-8")?;
        let ended = child::run(dir, &line.args, delay).map_err(|error| format!("keyctl: {error}"))?;
        self.summary.commands += 1;
        let command = format!("keyctl DIR {}", line.args.join(" "));
        let is_killed = match &ended {
            Ended::Killed => {
                visit.history.push(format!("{command:.60}  killed after {:?}", delay.unwrap_or_default()));
                *self.summary.killed.entry(line.name).or_default() += 1;
                self.summary.in_recovery += usize::from(had_work);
                if line.name == "put" {
                    visit.keeper.ended_put(line.arg(1), line.arg(2), false);
                }
                true
            }
            Ended::Exited { code, out, err, took } => {
                visit.history.push(format!("{command:.60}  exit status {code} {err}"));
                self.summary.late += usize::from(delay.is_some());
                // A mean in which the newest counts for a quarter: the machine may have other things to do.
                let mean = self.took.entry(line.name).or_insert(*took);
                *mean = (*mean * 3 + *took) / 4;
                answered(visit, line, *code, out, err)?;
                false
            }
        };
        visit.look().map_err(|violation| format!("after {command:.60}: {violation}"))?;
        if is_killed {
            self.count(visit);
        }
        Ok(is_killed)
    }

    /// What a kill has left behind.
    fn count(&mut self, visit: &Visit) {
        let (Some(tables), Some(log)) = (&visit.disk.tables, &visit.disk.log) else { return };
        let summary = &mut self.summary;
        summary.torn += usize::from(log.is_torn);
        summary.not_applied += visit.not_applied();
        summary.leftovers += visit.leftovers();
        if let Some(sidecar) = &visit.disk.sidecar {
            summary.sidecar_ahead += usize::from(sidecar.raft_applied_index > tables.applied);
            let unregistered =
                |id: &&u32| tables.rows.get(id).copied().unwrap_or(0) < sidecar.keys[id].local_epoch;
            summary.claimed_only += sidecar.keys.keys().filter(unregistered).count();
        }
    }

    fn choose(&mut self, visit: &Visit) -> Line {
        let Some(sidecar) = visit.disk.sidecar.as_ref().filter(|_| visit.is_bootstrapped()) else {
            return match visit.disk.keks.is_empty() {
                true => Line::new("init", &[]),
                false if visit.is_bootstrapped() => Line::new("status", &[]),
                false => Line::new("bootstrap", &[]),
            };
        };
        let purpose = if self.below(2) == 0 { "storage" } else { "raft" };
        let is_clear =
            sidecar.storage_envelope_cutover_index == 0 || sidecar.raft_envelope_cutover_index == 0;
        if is_clear && self.below(4) == 0 {
            return Line::new("enable", &[purpose]);
        }
        let key = format!("key-{}", self.below(12));
        match self.below(100) {
            0..36 => self.put(&key),
            36..43 => Line::new("get", &[&key]),
            43..47 => Line::new("status", &["--json"]),
            47..52 => Line::new("verify", &[]),
            52..63 => Line::new("rotate", &[purpose]),
            63..65 => Line::new("enable", &[purpose]),
            65..77 => Line::new("reseal", &[]),
            77..86 => {
                let active = [sidecar.active.storage, sidecar.active.raft];
                match sidecar.keys.keys().find(|id| !active.contains(id)) {
                    Some(oldest) => Line::new("retire", &[&oldest.to_string()]),
                    None => self.put(&key),
                }
            }
            86..92 => Line::new("rewrap", &[]),
            92..98 => Line::new("compact", &[]),
            _ => Line::new("log", &[]),
        }
    }

    /// A value that there never was before, of up to some pages.
    fn put(&mut self, key: &str) -> Line {
        self.values += 1;
        let (number, random) = (self.values, self.rng.next_u64());
        let value = format!("value {number} {random:016x}").repeat(1 + self.below(200));
        Line::new("put", &[key, &value])
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("it is small");
        usize::try_from(self.rng.next_u64() % limit).expect("it is small")
    }
}

/// Holds what a command has said against what it may say.
fn answered(visit: &mut Visit, line: &Line, code: i32, out: &str, err: &str) -> Result<(), String> {
    match (line.name, code) {
        ("put", 0) => visit.keeper.ended_put(line.arg(1), line.arg(2), true),
        ("get", 0) => visit.keeper.got(line.arg(1), Some(out.to_owned()))?,
        ("get", 1) if err.contains("there is no value") => visit.keeper.got(line.arg(1), None)?,
        // What still refers to a key, and whether it is there, may have been decided by a command that was killed.
        ("retire", 0 | 1) => {}
        (_, 0) => {}
        (name, code) => return Err(format!("keyctl DIR {name} has exit status {code}: {err}")),
    }
    Ok(())
}
