//! `cargo sim shrink`.

mod report;
mod task;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::report::{Report, Row, State};
use self::task::{Refused, Task, Wanted};
use super::args::{Format, OutputArgs, SetupArgs, TimeLimit, scenario_parser};
use super::patience::{self, Patience};
use super::{Exit, args, complain, quoted};
use crate::results::shortened;
use crate::run::{Checked, Keep, RunError, Source, run};
use crate::seeds::{self, Case, SeedFile};
use crate::shrink::{Progress, Shrunk, Terms, shrink_finding};
use crate::timeline::Timeline;
use crate::world::{Scenario, Setup};

/// Characters of evidence in a file's heading.
const EVIDENCE_CHARS_MAX: usize = 240;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 nothing to shrink, 1 a finding was shrunk or is kept already, 2 wrong usage, \
                        3 the harness itself failed.\n\n\
                        Examples:\n  cargo sim shrink 17 --scenario single --subject as-merged\n  \
                        cargo sim shrink seeds/some-finding.toml --budget 10m\n  \
                        cargo sim sweep --subject as-merged --format json > sweep.json\n  \
                        cargo sim shrink sweep.json --out found"
)]
pub(super) struct ShrinkArgs {
    /// A seed; the path of a seed file, to go on from it and replace it; or what `sweep --format json` has printed, to
    /// shrink every finding in it
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Scenario of the seed
    #[arg(long, value_name = "NAME", value_parser = scenario_parser())]
    scenario: Option<Scenario>,
    #[command(flatten)]
    setup: SetupArgs,
    /// The finding to keep [default: the first one; of a seed file the first that it expects]
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    /// Stop after this long, for each finding, with the smallest run so far, as in 90s or 10m
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    budget: TimeLimit,
    /// Runs side by side; the result does not depend on it [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    jobs: Option<u16>,
    #[command(flatten)]
    output: OutputArgs,
    /// Where the seed file is written [default: seeds; where FILE is a seed file, that file is replaced]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name of the seed file, without its ending [default: from scenario, subject and fingerprint]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn main(args: &ShrinkArgs, out: &mut impl Write) -> io::Result<Exit> {
    let began = Patience::begin(None);
    let jobs = args::jobs(args.jobs);
    let prepared = task::all(args).and_then(|tasks| {
        tasks.iter().try_for_each(|task| writable(&task.dir))?;
        Ok(tasks)
    });
    let tasks = match prepared {
        Ok(tasks) => tasks,
        Err(Refused { exit, why }) => {
            complain(&why);
            return Ok(exit);
        }
    };
    let mut rows = Vec::new();
    let mut refused: Vec<Refused> = Vec::new();
    let mut partial = false;
    for task in &tasks {
        if patience::interrupted() {
            partial = true;
            break;
        }
        // One that fails keeps no other from being tried.
        match one(args, task, jobs) {
            Ok(row) => rows.push(row),
            Err(why) => refused.push(why),
        }
    }
    let partial = partial || !refused.is_empty() || rows.iter().any(Row::was_cut_short);
    let report = Report { command: "shrink", partial, jobs, seconds: began.seconds(), rows };
    if !report.rows.is_empty() || refused.is_empty() {
        match args.output.format {
            Format::Json => report.json(out)?,
            Format::Text if tasks.is_empty() => writeln!(out, "{} has no finding to shrink", args.what)?,
            Format::Text => report.text(out)?,
        }
    }
    refused.iter().for_each(|refused| complain(&refused.why));
    Ok(refused.first().map_or_else(|| report.exit(), |refused| refused.exit))
}

/// Sees early that a file can be written to a directory, or the directory be made: not after a minute's work.
fn writable(dir: &Path) -> Result<(), Refused> {
    let there = dir.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(there).map(drop).map_err(|error| cannot_write(dir, &error))
}

fn cannot_write(dir: &Path, error: &io::Error) -> Refused {
    Refused::harness(format!("{}: cannot be written to: {error}; give another --out", dir.display()))
}

/// Shrinks one finding.
fn one(args: &ShrinkArgs, task: &Task, jobs: usize) -> Result<Row, Refused> {
    let first = first_run(task)?;
    let Some(fingerprint) = task.choose(&first)? else { return Ok(Row::nothing(task)) };
    let path = match task.path(fingerprint)? {
        Ok(path) => path,
        Err(kept) => return Ok(Row::kept(task, fingerprint, &kept)),
    };
    let kept = task.must_keep(fingerprint, &first)?;
    let patience = Patience::begin(Some(args.budget));
    let shrunk = search(task, &kept, first.tape.clone(), jobs, args.budget.0, patience);
    let shrunk = shrunk.map_err(|error| Refused::harness(error.to_string()))?;
    let shrunk = shrunk.ok_or_else(|| not_repeatable(task))?;
    let setup = Setup { limits: shrunk.attempt.limits, ..task.setup };
    let checked = run(setup, Source::Tape(shrunk.attempt.tape.clone()), Keep::Events);
    let checked = checked.map_err(|error| Refused::harness(error.to_string()))?;
    if !checked.violations.iter().any(|found| found.fingerprint == fingerprint) {
        return Err(not_repeatable(task));
    }
    let news = match &task.case {
        Some(case) => shrunk.after < shrunk.before || case.file.minimal != Some(shrunk.minimal),
        None => true,
    };
    if news {
        let file = keep(task, &setup, &checked, fingerprint, (&path, shrunk.minimal));
        fs::create_dir_all(&task.dir).map_err(|error| cannot_write(&task.dir, &error))?;
        let written = if task.replaces() { file.write(&path) } else { file.write_new(&path) };
        written.map_err(|error| Refused::harness(error.to_string()))?;
    }
    let state = match (news, shrunk.minimal) {
        (false, _) => State::NothingSmaller,
        (true, true) => State::Minimal,
        (true, false) => State::CutShort,
    };
    let row = Row::new(task, Some(fingerprint), state, Some(&path));
    Ok(row.after(&shrunk, patience.seconds()))
}

/// The run to begin with. A tape that does not fit the code any more is taken as far as it fits.
fn first_run(task: &Task) -> Result<Checked, Refused> {
    let ran = match (run(task.setup, task.source.clone(), Keep::Nothing), &task.source) {
        (Err(RunError::Mismatch(_)), Source::Tape(tape)) => {
            run(task.setup, Source::Realigned(tape.clone(), 0), Keep::Nothing)
        }
        (ran, _) => ran,
    };
    ran.map_err(|error| Refused::harness(error.to_string()))
}

fn not_repeatable(task: &Task) -> Refused {
    Refused::harness(format!("{}: the same draws did not show the same finding twice", task.what))
}

fn search(
    task: &Task,
    kept: &[&str],
    tape: sim::Tape,
    jobs: usize,
    budget: Duration,
    patience: Patience,
) -> Result<Option<Shrunk>, RunError> {
    // It draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new_spinner().with_prefix(shortened(&kept.join(", "), EVIDENCE_CHARS_MAX));
    let style = "{spinner} {prefix}\n  {elapsed} {msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    bar.enable_steady_tick(Duration::from_millis(100));
    let progress = |progress: Progress| {
        let Progress { size, runs } = progress;
        bar.set_message(format!(
            "of at most {}: {} nodes, {} entries, {} crashes, {} draws, {runs} runs",
            humantime::format_duration(budget),
            size.nodes,
            size.entries,
            size.crashes,
            size.draws
        ));
    };
    let stop = AtomicBool::new(false);
    let terms = Terms { jobs, stop: &stop, progress: &progress };
    let shrunk = patience.during(&stop, || shrink_finding(task.setup, kept, tape, &terms));
    bar.finish_and_clear();
    shrunk
}

/// What is written. Written elsewhere, a file that expected more than this finding expects what of it is still found.
fn keep(
    task: &Task,
    setup: &Setup,
    checked: &Checked,
    fingerprint: &str,
    (path, minimal): (&Path, bool),
) -> SeedFile {
    let violation = checked.violations.iter().find(|found| found.fingerprint == fingerprint);
    let violation = violation.expect("it was looked for");
    let known = task.case.as_ref().map(|case| &case.file);
    let shows = match known {
        Some(file) => file.shows.clone(),
        None => format!(
            "{} is violated: {}",
            violation.invariant,
            shortened(&violation.evidence, EVIDENCE_CHARS_MAX)
        ),
    };
    let mut file = SeedFile::of(setup, checked, &shows);
    let others = known.map(|file| file.expect.clone()).unwrap_or_default();
    file.expect.retain(|found| found == fingerprint || others.contains(found));
    file.expect.sort_by_key(|found| found != fingerprint);
    let command = format!("cargo sim replay {}", quoted(path));
    file.story = Timeline::new(setup, checked, &task.what, &command).story_of(fingerprint);
    file.command = Some(command);
    file.found = known.and_then(|file| file.found.clone()).or_else(|| task.found());
    file.minimal = Some(minimal);
    file
}

impl Task {
    /// The finding to keep; `None` where nothing is found, or not any more.
    fn choose<'a>(&'a self, first: &'a Checked) -> Result<Option<&'a str>, Refused> {
        let found: Vec<&str> = first.violations.iter().map(|found| &*found.fingerprint).collect();
        let chosen = match &self.wanted {
            Wanted::Any => return Ok(found.first().copied()),
            Wanted::OneOf(expected) => expected.iter().find(|expected| found.contains(&expected.as_str())),
            Wanted::This(wanted) | Wanted::Listed(wanted) => {
                Some(wanted).filter(|wanted| found.contains(&wanted.as_str()))
            }
        };
        match (chosen, &self.wanted) {
            (Some(chosen), _) => Ok(Some(chosen)),
            (None, Wanted::Listed(_)) => Ok(None),
            (None, Wanted::OneOf(_)) if found.is_empty() => Ok(None),
            (None, _) => {
                let shows = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
                Err(Refused::usage(format!(
                    "{} does not show the finding that is to be kept; it shows: {shows}; choose with --fingerprint",
                    self.what
                )))
            }
        }
    }

    /// Everything that has to be found in the end. A file that is replaced was kept for all that it expects.
    fn must_keep<'a>(&'a self, fingerprint: &'a str, first: &Checked) -> Result<Vec<&'a str>, Refused> {
        let Some(case) = self.case.as_ref().filter(|_| self.replaces()) else { return Ok(vec![fingerprint]) };
        let expected: Vec<&str> = case.file.expect.iter().map(String::as_str).collect();
        let is_found = |expected: &&str| first.violations.iter().any(|found| found.fingerprint == **expected);
        if expected.contains(&fingerprint) && expected.iter().all(is_found) {
            return Ok(expected);
        }
        Err(Refused::usage(format!(
            "{} is kept for {expected:?} and is not replaced by a run that shows something else; give --out or --name",
            self.what
        )))
    }

    /// Where it is written; in the inner error the file that keeps the finding already.
    fn path(&self, fingerprint: &str) -> Result<Result<PathBuf, PathBuf>, Refused> {
        if let Some(file) = self.replaced() {
            return Ok(Ok(file.to_owned()));
        }
        let named = |name: &str| self.dir.join(format!("{name}.toml"));
        let (path, other) = match &self.name {
            Some(name) => (named(name), None),
            None => {
                let slug = seeds::slug(&self.setup, fingerprint);
                let hash = xxhash_rust::xxh3::xxh3_64(fingerprint.as_bytes()) as u32;
                (named(&slug), Some(named(&format!("{slug}-{hash:08x}"))))
            }
        };
        let keeps_it = |path: &Path| {
            let case = Case::read(path);
            case.is_ok_and(|case| case.file.expect.iter().any(|expected| expected == fingerprint))
        };
        for path in [Some(path.clone()), other].into_iter().flatten() {
            if !path.exists() {
                return Ok(Ok(path));
            }
            if keeps_it(&path) && matches!(self.wanted, Wanted::Listed(_)) {
                return Ok(Err(path));
            }
            if keeps_it(&path) {
                return Err(Refused::usage(format!(
                    "{0} keeps this finding already; go on from it with `cargo sim shrink {0}`, or give another --name",
                    quoted(&path)
                )));
            }
        }
        Err(Refused::usage(format!("{} exists already; give another --name", path.display())))
    }
}
