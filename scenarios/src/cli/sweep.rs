//! `cargo sim sweep`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{EffortArgs, SeedRange, SetupArgs, Shard, scenario_parser};
use super::patience::Patience;
use super::report::text;
use super::{Exit, complain, now, reproduce};
use crate::output;
use crate::report::junit;
use crate::results::{self, Effort, ScenarioResult, Sweep};
use crate::run::{self, Range, RunError, Tally};
use crate::world::{Scenario, Setup};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim sweep --count 20000\n  \
    cargo sim sweep --scenario single --seeds 5000..6000 --profile xfs\n  \
    cargo sim sweep --subject as-merged --format json > results.json\n  \
    cargo sim sweep --shard 3/8 --out results      # writes results/sweep-3-of-8.json; `cargo sim report` merges them\n  \
    cargo sim sweep --time-limit 10m --all-probes\n\n\
    Ctrl-C ends it with what was found so far, a second Ctrl-C at once.")]
pub(super) struct SweepArgs {
    /// Run this scenario only (repeatable) [default: all]
    #[arg(long, value_name = "NAME", value_parser = scenario_parser())]
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
    /// How to print it
    #[arg(long, value_enum, default_value_t = SweepFormat::Text, value_name = "NAME")]
    format: SweepFormat,
    /// Write the results there as well: sweep.json, or sweep-K-of-N.json of a shard
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Count a probe that no seed hits, and a fault that was never delivered, as a violation
    #[arg(long)]
    all_probes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SweepFormat {
    /// For people
    Text,
    /// One object on one line, for scripts and for `report`
    Json,
    /// JUnit's XML, for CI systems
    Junit,
}

impl SweepArgs {
    fn range(&self) -> Range {
        let SeedRange { first, end } = self.seeds.unwrap_or(SeedRange { first: 0, end: self.count });
        Range { first, end, shard: (self.shard.k, self.shard.n) }
    }

    fn scenarios(&self) -> &[Scenario] {
        if self.scenario.is_empty() { self.setup.subject().scenarios() } else { &self.scenario }
    }

    /// Name of the file of results.
    fn file_name(&self) -> String {
        match self.shard {
            Shard { n: 1, .. } => "sweep.json".to_owned(),
            Shard { k, n } => format!("sweep-{k}-of-{n}.json"),
        }
    }
}

pub(super) fn main(args: &SweepArgs, out: &mut impl Write) -> io::Result<Exit> {
    if let Some(why) = args.scenarios().iter().find_map(|scenario| args.setup.check(*scenario).err()) {
        complain(&why);
        return Ok(Exit::Usage);
    }
    // Whether that can be written is better known now than in an hour.
    if let Some(dir) = &args.out
        && let Err(error) = output::prepare(dir)
    {
        complain(&error.to_string());
        return Ok(Exit::HarnessFailed);
    }
    let report = match run(args) {
        Ok(report) => report,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    };
    let sweeps = std::slice::from_ref(&report);
    // The file first: whoever reads what is printed may stop early.
    if let Some(dir) = &args.out {
        let json = results::to_json(sweeps, None);
        if let Err(error) = output::write(&dir.join(args.file_name()), json.as_bytes()) {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    }
    match args.format {
        SweepFormat::Json => out.write_all(results::to_json(sweeps, None).as_bytes())?,
        SweepFormat::Junit => out.write_all(junit::junit(sweeps, args.all_probes).as_bytes())?,
        SweepFormat::Text => text::sweep(&report, out)?,
    }
    Ok(exit_of(sweeps, args.all_probes))
}

/// What sweeps come to.
pub(super) fn exit_of(sweeps: &[Sweep], all_probes: bool) -> Exit {
    let rows = || sweeps.iter().flat_map(|sweep| &sweep.scenarios);
    let holes = || rows().any(|row| !row.never_hit().is_empty() || !row.dead_knobs().is_empty());
    let violations = sweeps.iter().any(|sweep| sweep.violations > 0);
    if violations || (all_probes && holes()) { Exit::Violation } else { Exit::Clean }
}

fn run(args: &SweepArgs) -> Result<Sweep, RunError> {
    let (range, jobs, patience) = (args.range(), args.effort.jobs(), args.effort.patience());
    let mut rows = Vec::new();
    for scenario in args.scenarios() {
        let setup = args.setup.setup(*scenario);
        let began = now();
        let tally = sweep(setup, range, jobs, patience)?;
        let effort = Effort { range, jobs, seconds: began.elapsed().as_secs_f64() };
        rows.push(ScenarioResult::new(&setup, tally, effort, |seed| reproduce(&setup, seed)));
    }
    let setup = args.setup.setup(args.scenarios()[0]);
    Ok(Sweep::new(&setup, jobs, patience.seconds(), rows))
}

fn sweep(setup: Setup, range: Range, jobs: usize, patience: Patience) -> Result<Tally, RunError> {
    // It draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(range.len()).with_prefix(setup.scenario.name());
    let style = "{prefix:8} [{wide_bar}] {human_pos}/{human_len} seeds, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    let stop = AtomicBool::new(false);
    let tally = patience.during(&stop, || run::sweep(setup, range, jobs, &stop, &|seeds| bar.inc(seeds)));
    bar.finish_and_clear();
    tally
}
