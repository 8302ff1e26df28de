//! `cargo sim teeth`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anstyle::Style;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;

use super::args::{EffortArgs, Format, OutputArgs};
use super::patience::Patience;
use super::style::{BAD, COMMAND, HEAD};
use super::{Exit, complain, reproduce};
use crate::model::Rules;
use crate::output;
use crate::prove::script;
use crate::run::RunError;
use crate::teeth::barriers::{self, Judgement, Mutant};
use crate::teeth::{Catch, Trial, WRONG, Wrong, put_all_to_trial};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim teeth\n  \
    cargo sim teeth --only registry-forgets-a-row\n  \
    cargo sim teeth --only 'without apply: sync_dir /data' --format json\n\n\
    Exit status 1: something was not caught. Ctrl-C ends it with what was caught so far.")]
pub(super) struct TeethArgs {
    /// Run this one only (repeatable) [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seeds after which one counts as not caught, from 0 on
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    count: u64,
    #[command(flatten)]
    effort: EffortArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Write the report to teeth.json there as well
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl TeethArgs {
    fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

#[derive(Serialize)]
struct TeethReport {
    command: &'static str,
    total: usize,
    caught: usize,
    redundant: usize,
    partial: bool,
    jobs: usize,
    seconds: f64,
    wrong: Vec<WrongReport>,
}

/// One wrong thing, of whatever kind: rows that another search brings have the same shape.
#[derive(Serialize)]
struct WrongReport {
    name: String,
    kind: &'static str,
    says: String,
    caught: bool,
    /// Whether it was shown to be harmless, so that nothing can catch it. Nothing in [`WRONG`] is.
    redundant: bool,
    /// The expected invariant, where that has noticed it.
    by: Option<&'static str>,
    /// Seeds, or states of the closure where the kind is `barrier`.
    after_seeds: Option<u64>,
    fingerprint: Option<String>,
    reproduce: Option<String>,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize)]
#[serde(untagged)]
enum More {
    Trial {
        expected: ExpectedReport,
        /// Where it was searched for.
        scenarios: Vec<&'static str>,
        /// What noticed it first, which may be another invariant than the expected one.
        first: Option<FirstReport>,
        seeds_tried: u64,
    },
    Barrier {
        /// Where the applier makes the call, and what stands there.
        line: Option<String>,
        source: Option<String>,
        /// The log that convicts it, and the shortest way there.
        log: Option<String>,
        path: Vec<String>,
        states: u64,
    },
}

#[derive(Serialize)]
struct ExpectedReport {
    invariant: &'static str,
    /// How its fingerprint has to begin.
    fingerprint: &'static str,
    noticed: bool,
}

#[derive(Serialize)]
struct FirstReport {
    by: &'static str,
    after_seeds: u64,
}

impl From<&Trial> for WrongReport {
    fn from(trial: &Trial) -> WrongReport {
        let Wrong { name, says, expected, .. } = *trial.wrong;
        let invariant = trial.wrong.expected_invariant();
        let caught = trial.caught();
        WrongReport {
            name: name.to_owned(),
            kind: trial.wrong.kind().name(),
            says: says.to_owned(),
            caught: caught.is_some(),
            redundant: false,
            by: caught.map(|catch| catch.violation.invariant),
            after_seeds: caught.map(Catch::after_seeds),
            fingerprint: caught.map(|catch| catch.violation.fingerprint.clone()),
            reproduce: caught.map(|catch| reproduce(&catch.setup, catch.seed)),
            more: More::Trial {
                expected: ExpectedReport {
                    invariant,
                    fingerprint: expected,
                    noticed: trial.expected.is_some(),
                },
                first: trial.first.as_ref().map(|first| FirstReport {
                    by: first.violation.invariant,
                    after_seeds: first.after_seeds(),
                }),
                scenarios: trial.wrong.scenarios().iter().map(|scenario| scenario.name()).collect(),
                seeds_tried: trial.seeds,
            },
        }
    }
}

impl From<Judgement> for WrongReport {
    fn from(judgement: Judgement) -> WrongReport {
        let Judgement { mutant, caught, redundant, states } = judgement;
        let (name, finding) = caught.unzip();
        WrongReport {
            name: mutant.change.to_string(),
            kind: "barrier",
            says: mutant.says(),
            caught: finding.is_some(),
            redundant,
            by: finding.as_ref().map(|found| found.invariant),
            after_seeds: finding.is_some().then_some(states),
            fingerprint: finding.as_ref().map(|found| found.fingerprint.clone()),
            reproduce: finding.is_some().then(|| format!("cargo sim teeth --only '{}'", mutant.change)),
            more: More::Barrier {
                line: mutant.line.as_ref().map(ToString::to_string),
                source: mutant.line.map(|line| line.text),
                log: name,
                path: finding.map(|found| found.path).unwrap_or_default(),
                states,
            },
        }
    }
}

impl WrongReport {
    /// Whether it was stopped before it had its chance.
    fn is_cut_off(&self, count: u64) -> bool {
        match &self.more {
            More::Trial { expected, seeds_tried, .. } => !expected.noticed && *seeds_tried < count,
            More::Barrier { .. } => !self.caught && !self.redundant,
        }
    }
}

pub(super) fn main(args: &TeethArgs, out: &mut impl Write) -> io::Result<Exit> {
    let jobs = args.effort.jobs();
    let patience = args.effort.patience();
    let mutants = barriers::mutants();
    if let Some(unknown) = unknown(args, &mutants) {
        complain(&unknown);
        return Ok(Exit::Usage);
    }
    if let Some(dir) = &args.out
        && let Err(error) = output::prepare(dir)
    {
        complain(&error.to_string());
        return Ok(Exit::HarnessFailed);
    }
    let mut wrong: Vec<WrongReport> = match search(args, jobs, patience) {
        Ok(trials) => trials.iter().map(WrongReport::from).collect(),
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    };
    wrong.extend(prove(args, &mutants, jobs, patience).into_iter().map(WrongReport::from));
    let report = TeethReport {
        command: "teeth",
        total: wrong.len(),
        caught: wrong.iter().filter(|row| row.caught).count(),
        redundant: wrong.iter().filter(|row| row.redundant).count(),
        partial: wrong.iter().any(|row| row.is_cut_off(args.count)),
        jobs,
        seconds: patience.seconds(),
        wrong,
    };
    if let Some(dir) = &args.out {
        let bytes = serde_json::to_vec(&report).expect("strings and numbers always serialise");
        if let Err(error) = output::write(&dir.join("teeth.json"), &bytes) {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    }
    match args.output.format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
        Format::Text => table(&report, out)?,
    }
    let uncaught = report.wrong.iter().any(|row| !row.caught && !row.redundant);
    Ok(if uncaught { Exit::Violation } else { Exit::Clean })
}

/// What is wrong with the names that were asked for.
fn unknown(args: &TeethArgs, mutants: &[Mutant]) -> Option<String> {
    let wrong = WRONG.iter().map(|wrong| wrong.name.to_owned());
    let names: Vec<String> = wrong.chain(mutants.iter().map(|mutant| mutant.change.to_string())).collect();
    let unknown = args.only.iter().find(|name| !names.contains(name))?;
    Some(format!("nothing wrong is called {unknown:?}; there are: {}", names.join(", ")))
}

fn search(args: &TeethArgs, jobs: usize, patience: Patience) -> Result<Vec<Trial>, RunError> {
    let wrong: Vec<&'static Wrong> = WRONG.iter().filter(|wrong| args.asks_for(wrong.name)).collect();
    let bar = bar(wrong.len());
    let stop = || {
        bar.tick();
        patience.is_over()
    };
    let done = |trial: &Trial| {
        bar.set_message(trial.wrong.name);
        bar.inc(1);
    };
    let trials = put_all_to_trial(&wrong, args.count, jobs, &stop, &done);
    bar.finish_and_clear();
    trials
}

/// Closes the named logs over each mutant of the protocol.
fn prove(args: &TeethArgs, mutants: &[Mutant], jobs: usize, patience: Patience) -> Vec<Judgement> {
    let asked: Vec<&Mutant> =
        mutants.iter().filter(|mutant| args.asks_for(&mutant.change.to_string())).collect();
    let bar = bar(asked.len());
    let logs = script::named(Rules::Hardened);
    let stop = AtomicBool::new(false);
    let judge = |mutant: &&Mutant| {
        let judgement = barriers::judge(mutant, &logs, &stop, &|_| ());
        bar.set_message(mutant.change.to_string());
        bar.inc(1);
        judgement
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build().expect("threads can be started");
    let judgements =
        patience.during(&stop, || pool.install(|| asked.par_iter().with_max_len(1).map(judge).collect()));
    bar.finish_and_clear();
    judgements
}

/// It draws on standard error, and only where that is a terminal.
fn bar(tasks: usize) -> ProgressBar {
    let bar = ProgressBar::new(tasks as u64).with_prefix("teeth");
    let style = "{prefix:8} [{wide_bar}] {human_pos}/{human_len} tried, {elapsed}, last {msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    bar
}

fn table(report: &TeethReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEAD}{:58}{:16}{:28}{:>11}{HEAD:#}", "name", "kind", "caught by", "after seeds")?;
    for row in &report.wrong {
        let by = row.by.unwrap_or(if row.redundant { "(redundant)" } else { "NOTHING" });
        let style = if row.caught || row.redundant { Style::new() } else { BAD };
        let after = row.after_seeds.map_or("-".to_owned(), |seeds| seeds.to_string());
        writeln!(out, "{:58}{:16}{style}{by:28}{style:#}{after:>11}", row.name, row.kind)?;
    }
    for row in &report.wrong {
        match &row.more {
            More::Trial { expected, scenarios, seeds_tried, .. } => {
                trial(row, expected, &scenarios.join(" and "), *seeds_tried, out)?;
            }
            More::Barrier { line, source, log, path, .. } => {
                writeln!(out)?;
                writeln!(out, "{}", row.name)?;
                if let (Some(line), Some(source)) = (line, source) {
                    writeln!(out, "  {line}  {source}")?;
                }
                match (&row.fingerprint, log) {
                    (Some(fingerprint), Some(log)) => writeln!(out, "  {fingerprint}, log {log}")?,
                    _ if row.redundant => writeln!(out, "  redundant: every named log is closed without it")?,
                    _ => writeln!(out, "  {BAD}UNCAUGHT{BAD:#}, and not every named log was closed")?,
                }
                path.iter().try_for_each(|step| writeln!(out, "    {step}"))?;
            }
        }
    }
    writeln!(out)?;
    let TeethReport { caught, total, redundant, seconds, .. } = report;
    let state = if report.partial { " (stopped early)" } else { "" };
    writeln!(out, "{caught} of {total} caught, {redundant} redundant, {seconds:.1} s{state}")
}

fn trial(
    row: &WrongReport,
    expected: &ExpectedReport,
    scenarios: &str,
    seeds_tried: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    if expected.noticed {
        return Ok(());
    }
    let (name, expected) = (&row.name, expected.fingerprint);
    writeln!(out)?;
    match row.caught {
        true => writeln!(out, "{name}: caught, and not by {expected}, which should have noticed it")?,
        false => writeln!(out, "{BAD}UNCAUGHT{BAD:#}  {name}: {expected} should have noticed it")?,
    }
    writeln!(out, "  {}", row.says)?;
    writeln!(out, "  tried: seeds 0..{seeds_tried} of {scenarios}")?;
    writeln!(out, "  {COMMAND}cargo sim teeth --only {name} --count {}{COMMAND:#}", seeds_tried * 4)
}
