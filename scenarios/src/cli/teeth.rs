//! `cargo sim teeth`.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Exit, Format, TeethArgs, complain, cores, now, reproduce};
use crate::run::RunError;
use crate::teeth::{Catch, Trial, WRONG, Wrong, put_all_to_trial};
use crate::world::Scenario;

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
    name: &'static str,
    kind: &'static str,
    says: &'static str,
    caught: bool,
    /// Whether it was shown to be harmless, so that nothing can catch it. Nothing in [`WRONG`] is.
    redundant: bool,
    /// The expected invariant, where that has noticed it.
    by: Option<&'static str>,
    after_seeds: Option<u64>,
    fingerprint: Option<String>,
    reproduce: Option<String>,
    expected: ExpectedReport,
    /// What noticed it first, which may be another invariant than the expected one.
    first: Option<FirstReport>,
    seeds_tried: u64,
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
            name,
            kind: trial.wrong.kind().name(),
            says,
            caught: caught.is_some(),
            redundant: false,
            by: caught.map(|catch| catch.violation.invariant),
            after_seeds: caught.map(Catch::after_seeds),
            fingerprint: caught.map(|catch| catch.violation.fingerprint.clone()),
            reproduce: caught.map(|catch| reproduce(&catch.setup, catch.seed)),
            expected: ExpectedReport { invariant, fingerprint: expected, noticed: trial.expected.is_some() },
            first: trial
                .first
                .as_ref()
                .map(|first| FirstReport { by: first.violation.invariant, after_seeds: first.after_seeds() }),
            seeds_tried: trial.seeds,
        }
    }
}

pub(super) fn main(args: &TeethArgs, out: &mut impl Write) -> io::Result<Exit> {
    let jobs = args.jobs.map_or_else(cores, usize::from);
    let began = now();
    let trials = match search(args, jobs) {
        Ok(trials) => trials,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    };
    let wrong: Vec<WrongReport> = trials.iter().map(WrongReport::from).collect();
    let report = TeethReport {
        command: "teeth",
        total: wrong.len(),
        caught: wrong.iter().filter(|row| row.caught).count(),
        redundant: wrong.iter().filter(|row| row.redundant).count(),
        partial: wrong.iter().any(|row| !row.expected.noticed && row.seeds_tried < args.count),
        jobs,
        seconds: began.elapsed().as_secs_f64(),
        wrong,
    };
    match args.format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
        Format::Text => table(&report, out)?,
    }
    let uncaught = report.wrong.iter().any(|row| !row.caught && !row.redundant);
    Ok(if uncaught { Exit::Violation } else { Exit::Clean })
}

fn search(args: &TeethArgs, jobs: usize) -> Result<Vec<Trial>, RunError> {
    let asked = |wrong: &&Wrong| args.only.is_empty() || args.only.contains(wrong);
    let wrong: Vec<&'static Wrong> = WRONG.iter().filter(asked).collect();
    // It draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(wrong.len() as u64).with_prefix("teeth");
    let style = "{prefix:8} [{wide_bar}] {human_pos}/{human_len} tried, {elapsed}, last {msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    let began = now();
    let stop = || {
        bar.tick();
        args.time_limit.is_some_and(|limit| began.elapsed() >= limit.0)
    };
    let done = |trial: &Trial| {
        bar.set_message(trial.wrong.name);
        bar.inc(1);
    };
    let trials = put_all_to_trial(&wrong, args.count, jobs, &stop, &done);
    bar.finish_and_clear();
    trials
}

fn table(report: &TeethReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:36}{:16}{:28}{:>11}", "name", "kind", "caught by", "after seeds")?;
    for row in &report.wrong {
        let by = row.by.unwrap_or("NOTHING");
        let after = row.after_seeds.map_or("-".to_owned(), |seeds| seeds.to_string());
        writeln!(out, "{:36}{:16}{by:28}{after:>11}", row.name, row.kind)?;
    }
    let scenarios = Scenario::ALL.map(Scenario::name).join(" and ");
    for row in report.wrong.iter().filter(|row| !row.expected.noticed) {
        let (name, expected) = (row.name, row.expected.fingerprint);
        writeln!(out)?;
        match row.caught {
            true => writeln!(out, "{name}: caught, and not by {expected}, which should have noticed it")?,
            false => writeln!(out, "UNCAUGHT  {name}: {expected} should have noticed it")?,
        }
        writeln!(out, "  {}", row.says)?;
        writeln!(out, "  tried: seeds 0..{} of {scenarios}", row.seeds_tried)?;
        writeln!(out, "  cargo sim teeth --only {name} --count {}", row.seeds_tried * 4)?;
    }
    writeln!(out)?;
    let state = if report.partial { " (stopped early)" } else { "" };
    writeln!(out, "{} of {} caught, {:.1} s{state}", report.caught, report.total, report.seconds)
}
