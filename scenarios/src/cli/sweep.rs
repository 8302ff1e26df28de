//! `cargo sim sweep`.

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{EffortArgs, Format, OutputArgs, SeedRange, SetupArgs, Shard, scenario_help};
use super::patience::Patience;
use super::report::{ScenarioReport, SweepReport, TimeReport, rate};
use super::{Exit, complain, now};
use crate::run::{self, Range, RunError, Tally};
use crate::world::{Scenario, Setup};

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// Run this scenario only (repeatable) [default: all]
    #[arg(long, value_name = "NAME", help = scenario_help("Run this scenario only (repeatable)", "all"))]
    scenario: Vec<Scenario>,
    #[command(flatten)]
    setup: SetupArgs,
    /// Seeds from A up to, and without, B
    #[arg(long, value_name = "A..B", conflicts_with = "count")]
    seeds: Option<SeedRange>,
    /// This many seeds, from 0 on
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    count: u64,
    #[command(flatten)]
    effort: EffortArgs,
    /// Of N equal shares of the seeds, run the K-th
    #[arg(long, default_value = "1/1", value_name = "K/N")]
    shard: Shard,
    #[command(flatten)]
    output: OutputArgs,
    /// Count a probe that no seed hits as a violation
    #[arg(long)]
    all_probes: bool,
}

impl SweepArgs {
    fn range(&self) -> Range {
        let SeedRange { first, end } = self.seeds.unwrap_or(SeedRange { first: 0, end: self.count });
        Range { first, end, shard: (self.shard.k, self.shard.n) }
    }

    fn scenarios(&self) -> &[Scenario] {
        if self.scenario.is_empty() { self.setup.subject().scenarios() } else { &self.scenario }
    }
}

pub(super) fn main(args: &SweepArgs, out: &mut impl Write) -> io::Result<Exit> {
    if let Some(why) = args.scenarios().iter().find_map(|scenario| args.setup.check(*scenario).err()) {
        complain(&why);
        return Ok(Exit::Usage);
    }
    let jobs = args.effort.jobs();
    let patience = args.effort.patience();
    let mut scenarios = Vec::new();
    let mut partial = false;
    for scenario in args.scenarios() {
        let setup = args.setup.setup(*scenario);
        let began_scenario = now();
        let tally = match sweep(args, &setup, jobs, patience) {
            Ok(tally) => tally,
            Err(error) => {
                complain(&error.to_string());
                return Ok(Exit::HarnessFailed);
            }
        };
        partial |= tally.seeds < args.range().len();
        scenarios.push(ScenarioReport::new(&setup, tally, began_scenario.elapsed().as_secs_f64(), jobs));
    }
    let seconds = patience.seconds();
    let report = SweepReport {
        command: "sweep",
        subject: args.setup.subject().name(),
        profile: args.setup.profile().name(),
        partial,
        jobs,
        seconds,
        seeds_per_second_per_core: rate(scenarios.iter().map(|report| report.seeds).sum(), seconds, jobs),
        violations: scenarios.iter().map(|report| report.violations).sum(),
        scenarios,
    };
    match args.output.format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
        Format::Text => table(&report, out)?,
    }
    let holes = args.all_probes && report.scenarios.iter().any(|row| !row.never_hit().is_empty());
    Ok(if report.violations > 0 || holes { Exit::Violation } else { Exit::Clean })
}

fn sweep(args: &SweepArgs, setup: &Setup, jobs: usize, patience: Patience) -> Result<Tally, RunError> {
    let range = args.range();
    // It draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(range.len()).with_prefix(setup.scenario.name());
    let style = "{prefix:8} [{wide_bar}] {human_pos}/{human_len} seeds, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    let stop = AtomicBool::new(false);
    let tally = patience.during(&stop, || run::sweep(*setup, range, jobs, &stop, &|seeds| bar.inc(seeds)));
    bar.finish_and_clear();
    tally
}

fn table(report: &SweepReport, out: &mut impl Write) -> io::Result<()> {
    let SweepReport { subject, profile, .. } = report;
    writeln!(out, "subject {subject}, profile {profile}, {} jobs", report.jobs)?;
    writeln!(out)?;
    let columns =
        ["scenario", "seeds", "entries", "crashes", "seeds/s/core", "probes hit", "findings", "digest"];
    write!(out, "{:10}", columns[0])?;
    columns[1..7].iter().try_for_each(|column| write!(out, "{column:>14}"))?;
    writeln!(out, "  {}", columns[7])?;
    for row in &report.scenarios {
        let probes = row.probes.len();
        let hit = format!("{}/{probes}", probes - row.never_hit().len());
        write!(out, "{:10}{:>14}{:>14}{:>14}", row.name, row.seeds, row.entries, row.crashes)?;
        write!(out, "{:>14.0}{hit:>14}{:>14}", row.seeds_per_second_per_core, row.findings.len())?;
        writeln!(out, "  {}", row.trace_digest)?;
    }
    for row in &report.scenarios {
        if let Some(time) = row.time {
            let TimeReport { simulated_to_wall, convergence_ms_max } = time;
            let settled = convergence_ms_max as f64 / 1000.0;
            writeln!(out)?;
            writeln!(out, "{}: {simulated_to_wall:.0} simulated seconds a second and core", row.name)?;
            writeln!(
                out,
                "{}: at the end of the log at most {settled:.1} simulated s after the last fault",
                row.name
            )?;
        }
        for finding in &row.findings {
            writeln!(out)?;
            writeln!(out, "VIOLATION  {}", finding.fingerprint)?;
            writeln!(out, "  {} of {} seeds, first {}", finding.seeds_hit, row.seeds, finding.first_seed)?;
            writeln!(out, "  {}", shortened(&finding.evidence))?;
            writeln!(out, "  {}", finding.reproduce)?;
        }
        let never = row.never_hit();
        if !never.is_empty() {
            writeln!(out)?;
            writeln!(out, "{}: never hit: {}", row.name, never.join(", "))?;
        }
    }
    writeln!(out)?;
    let state = if report.partial { " (stopped early)" } else { "" };
    writeln!(out, "{} seeds with a violation, {:.1} s{state}", report.violations, report.seconds)
}

/// Evidence holds whole states; `replay` prints them in full.
pub(super) fn shortened(evidence: &str) -> String {
    const CHARS_MAX: usize = 240;
    if evidence.chars().count() <= CHARS_MAX {
        return evidence.to_owned();
    }
    evidence.chars().take(CHARS_MAX).chain("...".chars()).collect()
}
