//! `cargo sim replay`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::args::{Format, OutputArgs, SetupArgs, scenario_parser};
use super::{Exit, complain, reproduce};
use crate::run::{Checked, Source, run};
use crate::seeds::{self, Case};
use crate::world::{Scenario, Setup};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim replay 17 --scenario single --subject as-merged\n  \
    cargo sim replay seeds/start-loads-no-keys.toml\n  \
    cargo sim replay 17 --save seeds/what-it-is.toml --shows 'what it shows'\n  \
    RUST_LOG=applier=debug cargo sim replay 17")]
pub(super) struct ReplayArgs {
    /// A seed, or the path of a seed file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Scenario of the seed [default: single]
    #[arg(long, value_name = "NAME", value_parser = scenario_parser())]
    scenario: Option<Scenario>,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    output: OutputArgs,
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
    timeline: &'a [String],
    findings: Vec<FindingReport<'a>>,
}

#[derive(Serialize)]
struct FindingReport<'a> {
    fingerprint: &'a str,
    invariant: &'static str,
    evidence: &'a str,
}

pub(super) fn main(args: &ReplayArgs, out: &mut impl Write) -> io::Result<Exit> {
    let (setup, source, again) = match args.what.parse::<u64>() {
        Ok(seed) => {
            let setup = args.setup.setup(args.scenario.unwrap_or(args.setup.subject().scenarios()[0]));
            if let Err(why) = args.setup.check(setup.scenario) {
                complain(&why);
                return Ok(Exit::Usage);
            }
            (setup, Source::Seed(seed), reproduce(&setup, seed))
        }
        Err(_) if args.scenario.is_some() || args.setup.is_given() => {
            complain("a seed file says itself what it runs: leave scenario, subject, profile and lie out");
            return Ok(Exit::Usage);
        }
        Err(_) => match Case::read(Path::new(&args.what)) {
            Ok(case) => (case.setup, case.source, format!("cargo sim replay {}", args.what)),
            Err(error @ seeds::SeedFileError::Read { .. }) => {
                complain(&format!("{error}; give a seed (a number) or the path of a seed file"));
                return Ok(Exit::Usage);
            }
            Err(error) => {
                complain(&error.to_string());
                return Ok(Exit::HarnessFailed);
            }
        },
    };
    let checked = match run(setup, source, true) {
        Ok(checked) => checked,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    };
    if let (Some(path), Some(shows)) = (&args.save, &args.shows)
        && let Err(error) = seeds::write(path, &setup, &checked, shows)
    {
        complain(&error.to_string());
        return Ok(Exit::HarnessFailed);
    }
    match args.output.format {
        Format::Text => text(&setup, &checked, &again, out)?,
        Format::Json => json(&setup, &checked, out)?,
    }
    Ok(if checked.violations.is_empty() { Exit::Clean } else { Exit::Violation })
}

fn text(setup: &Setup, checked: &Checked, again: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "scenario {}, subject {}, profile {}",
        setup.scenario,
        setup.subject,
        setup.profile.name()
    )?;
    for line in &checked.lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "{} entries applied, {} crashes, {} draws, trace {:016x}",
        checked.entries,
        checked.crashes,
        checked.tape.0.len(),
        checked.trace_hash
    )?;
    for found in &checked.violations {
        writeln!(out)?;
        writeln!(out, "VIOLATION  {}", found.fingerprint)?;
        writeln!(out, "  {}", found.evidence)?;
    }
    if !checked.violations.is_empty() {
        writeln!(out)?;
        writeln!(out, "{again}")?;
    }
    Ok(())
}

fn json(setup: &Setup, checked: &Checked, out: &mut impl Write) -> io::Result<()> {
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
        trace_hash: format!("{:016x}", checked.trace_hash),
        timeline: &checked.lines,
        findings: findings.collect(),
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}
