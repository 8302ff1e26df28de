//! `cargo sim replay`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::args::{Format, OutputArgs, SetupArgs, scenario_parser};
use super::{Exit, complain, quoted, reproduce};
use crate::output;
use crate::page;
use crate::run::{Checked, Keep, RunError, Source, run};
use crate::seeds::{self, Answer, Case, Replayed, SeedFileError};
use crate::timeline::{self, Detail, Timeline};
use crate::world::{Scenario, Setup};

/// Characters of a timeline that is written to no terminal.
const WIDTH: usize = 160;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo sim replay 17 --scenario single --subject as-merged
  cargo sim replay seeds/start-loads-no-keys.toml --html timeline.html
  cargo sim replay 17 --save seeds/what-it-is.toml --shows 'what it shows'
  cargo sim replay fuzz/artifacts/world/crash-1f0c --bytes --save seeds/what-it-is.toml --shows 'what it shows'
  RUST_LOG=applier=trace cargo sim replay 17 --verbose

A seed file is answered with one of: same finding, other finding, gone, cannot be replayed; one in which nothing may be
found, with: clean, or: other finding.")]
pub(super) struct ReplayArgs {
    /// A seed, or the path of a seed file; with --bytes that of a fuzzer's file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Take FILE for a fuzzer's bytes, and draw from these
    #[arg(long)]
    bytes: bool,
    /// Scenario of the seed, or of the bytes [default: single]
    #[arg(long, value_name = "NAME", value_parser = scenario_parser())]
    scenario: Option<Scenario>,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Refuse to go on where the run leaves the tape of the seed file
    #[arg(long)]
    strict: bool,
    /// Print everything: each call to the disk, each message, and what was logged (RUST_LOG adds to it)
    #[arg(short, long)]
    verbose: bool,
    /// Write the timeline as a page to look at in a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the timeline as a trace for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE")]
    perfetto: Option<PathBuf>,
    /// Directory of the files that are written [default: the current one]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the run as a seed file
    #[arg(long, value_name = "FILE", requires = "shows")]
    save: Option<PathBuf>,
    /// What the kept file shows, in a sentence
    #[arg(long, value_name = "TEXT")]
    shows: Option<String>,
}

#[derive(Serialize)]
struct ReplayReport<'a> {
    command: &'static str,
    scenario: &'static str,
    subject: &'static str,
    profile: &'static str,
    entries: u64,
    crashes: u64,
    trace_hash: String,
    /// What became of the finding of a seed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// Where the run left the tape of the seed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    diverged: Option<String>,
    timeline: &'a Timeline,
    findings: Vec<FindingReport<'a>>,
}

#[derive(Serialize)]
struct FindingReport<'a> {
    fingerprint: &'a str,
    invariant: &'static str,
    evidence: &'a str,
}

/// What is run again.
enum What {
    Seed(Setup, u64),
    Bytes(Setup, Vec<u8>),
    Case(Box<Case>),
}

pub(super) fn main(args: &ReplayArgs, out: &mut impl Write) -> io::Result<Exit> {
    let (what, again) = match asked_for(args) {
        Ok(asked) => asked,
        Err((exit, message)) => {
            complain(&message);
            return Ok(exit);
        }
    };
    let keep =
        if args.html.is_some() || args.output.format == Format::Json { Keep::Disks } else { Keep::Events };
    let (setup, replayed) = match &what {
        What::Seed(setup, seed) => {
            (*setup, run(*setup, Source::Seed(*seed), keep).map(|checked| (checked, None)))
        }
        What::Bytes(setup, bytes) => {
            (*setup, run(*setup, Source::Bytes(bytes.clone()), keep).map(|checked| (checked, None)))
        }
        What::Case(case) => (
            case.setup,
            case.replay(args.strict, keep).map(|Replayed { checked, answer }| (checked, Some(answer))),
        ),
    };
    let (checked, answer) = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            complain(&cannot_be_replayed(&error));
            return Ok(Exit::HarnessFailed);
        }
    };
    let name = match &what {
        What::Seed(_, seed) => format!("seed {seed}"),
        What::Bytes(_, bytes) => format!("{} bytes of a fuzzer", bytes.len()),
        What::Case(case) => case.name.clone(),
    };
    let timeline = Timeline::new(&setup, &checked, &name, &again);
    // The files first: whoever reads what is printed may stop early.
    let written = write_files(args, &setup, &checked, &timeline);
    match args.output.format {
        Format::Text => text(args, &timeline, &checked, answer.as_ref(), out)?,
        Format::Json => json(&setup, &checked, &timeline, answer.as_ref(), out)?,
    }
    if let Err(error) = written {
        complain(&error.to_string());
        return Ok(Exit::HarnessFailed);
    }
    Ok(if checked.violations.is_empty() { Exit::Clean } else { Exit::Violation })
}

/// What is asked for, and the line that asks for it again.
fn asked_for(args: &ReplayArgs) -> Result<(What, String), (Exit, String)> {
    let seed = args.what.parse::<u64>().ok().filter(|_| !args.bytes);
    if seed.is_some() || args.bytes {
        let setup = args.setup.of(args.scenario).map_err(|why| (Exit::Usage, why))?;
        if args.strict {
            let what = if args.bytes { "bytes have" } else { "a seed has" };
            let why = format!("--strict is for seed files: {what} no tape that could be left");
            return Err((Exit::Usage, why));
        }
        return match seed {
            Some(seed) => Ok((What::Seed(setup, seed), reproduce(&setup, seed))),
            None => bytes_of(Path::new(&args.what), setup),
        };
    }
    if args.scenario.is_some() || args.setup.is_given() {
        let why =
            "a seed file says itself what it runs: leave scenario, subject, profile and lie out".to_owned();
        return Err((Exit::Usage, why));
    }
    match Case::read(Path::new(&args.what)) {
        Ok(case) => {
            Ok((What::Case(Box::new(case)), format!("cargo sim replay {}", quoted(Path::new(&args.what)))))
        }
        Err(error @ SeedFileError::Read { .. }) => {
            Err((Exit::Usage, format!("{error}; give a seed (a number) or the path of a seed file")))
        }
        Err(error) => Err((Exit::HarnessFailed, cannot_be_replayed(&error))),
    }
}

/// What a fuzzer has left in a file, and the line that runs it again.
fn bytes_of(path: &Path, setup: Setup) -> Result<(What, String), (Exit, String)> {
    let bytes = fs::read(path).map_err(|error| {
        let why =
            format!("{}: cannot be read: {error}; --bytes takes the path of a fuzzer's file", path.display());
        (Exit::Usage, why)
    })?;
    Ok((What::Bytes(setup, bytes), reproduce(&setup, format_args!("{} --bytes", quoted(path)))))
}

fn cannot_be_replayed(why: &(dyn std::error::Error + 'static)) -> String {
    match why.downcast_ref::<RunError>() {
        Some(RunError::Mismatch(_)) => {
            format!("cannot be replayed: {why}; without --strict the tape is followed as far as it fits")
        }
        _ => format!("cannot be replayed: {why}"),
    }
}

fn write_files(
    args: &ReplayArgs,
    setup: &Setup,
    checked: &Checked,
    timeline: &Timeline,
) -> Result<(), SeedFileError> {
    let place = |path: &Path| match &args.out {
        Some(dir) => output::place(dir, path),
        None => Ok(path.to_owned()),
    };
    if let Some(path) = &args.html {
        let value = serde_json::to_value(timeline).expect("strings and numbers always serialise");
        output::write(&place(path)?, page::timeline(&timeline.title, &value).as_bytes())?;
    }
    if let Some(path) = &args.perfetto {
        let trace: Value = timeline::perfetto(timeline);
        output::write(&place(path)?, trace.to_string().as_bytes())?;
    }
    if let (Some(path), Some(shows)) = (&args.save, &args.shows) {
        seeds::write(&place(path)?, setup, checked, shows)?;
    }
    Ok(())
}

fn text(
    args: &ReplayArgs,
    timeline: &Timeline,
    checked: &Checked,
    answer: Option<&Answer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let Timeline { scenario, subject, profile, .. } = timeline;
    writeln!(out, "scenario {scenario}, subject {subject}, profile {profile}")?;
    let width =
        terminal_size::terminal_size_of(io::stdout()).map_or(WIDTH, |(width, _)| usize::from(width.0));
    let detail = if args.verbose { Detail::Full } else { Detail::Short };
    timeline::text(timeline, detail, width, out)?;
    writeln!(out)?;
    let Timeline { entries, crashes, draws, trace_hash, .. } = timeline;
    writeln!(out, "{entries} entries applied, {crashes} crashes, {draws} draws, trace {trace_hash}")?;
    if let Some(mismatch) = &checked.diverged {
        writeln!(out, "The code has changed since the file was recorded: {mismatch}.")?;
        writeln!(
            out,
            "From there on each site got its own answers of the tape, and new ones where they were used up."
        )?;
    }
    if let Some(answer) = answer {
        let style = match answer {
            Answer::Same | Answer::Clean => Style::new().bold(),
            Answer::Other { .. } => AnsiColor::Red.on_default().bold(),
            Answer::Gone => AnsiColor::Yellow.on_default().bold(),
        };
        writeln!(out, "{style}{answer}{style:#}")?;
    }
    if !checked.violations.is_empty() {
        writeln!(out)?;
        writeln!(out, "{}", timeline.reproduce)?;
    }
    Ok(())
}

fn json(
    setup: &Setup,
    checked: &Checked,
    timeline: &Timeline,
    answer: Option<&Answer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let findings = checked.violations.iter().map(|found| FindingReport {
        fingerprint: &found.fingerprint,
        invariant: found.invariant,
        evidence: &found.evidence,
    });
    let report = ReplayReport {
        command: "replay",
        scenario: setup.scenario.name(),
        subject: setup.subject.name(),
        profile: setup.profile.name(),
        entries: checked.entries,
        crashes: checked.crashes,
        trace_hash: timeline.trace_hash.clone(),
        answer: answer.map(ToString::to_string),
        diverged: checked.diverged.as_ref().map(ToString::to_string),
        timeline,
        findings: findings.collect(),
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}
