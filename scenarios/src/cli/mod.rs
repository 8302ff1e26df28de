//! `cargo sim`: sweep, prove, teeth, replay, shrink, seeds.
//!
//! Exit status: 0 nothing found, 1 a violation, 2 wrong usage, 3 the harness itself failed.

mod patience;
mod prove;
mod replay;
mod report;
mod seeds;
mod shrink;
mod sweep;
mod teeth;

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use sim::{Lies, Profile};
use tracing_subscriber::EnvFilter;

use crate::prove::Errors;
use crate::run::Range;
use crate::subject::Subject;
use crate::world::{Scenario, Setup};

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Clean,
    Violation,
    Usage,
    HarnessFailed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Clean => 0,
            Exit::Violation => 1,
            Exit::Usage => 2,
            Exit::HarnessFailed => 3,
        })
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "cargo sim",
    bin_name = "cargo sim",
    about = "Searches an encryption applier for what a crash or a rejection can break",
    after_help = "Exit status: 0 nothing found, 1 a violation, 2 wrong usage, 3 the harness itself failed.\n\n\
                  Examples:\n  cargo sim sweep --count 20000\n  cargo sim sweep --subject as-merged --format json\n  \
                  cargo sim replay 17 --scenario single --subject as-merged\n  cargo sim seeds\n  cargo sim teeth\n  RUST_LOG=applier=debug cargo sim replay 17"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios over a range of seeds
    Sweep(SweepArgs),
    /// Close named logs, or all logs of a length, over every crash at every call
    Prove(ProveArgs),
    /// Run one seed or one seed file, and print its timeline
    Replay(ReplayArgs),
    /// Minimise a failing run and keep it as a seed file
    Shrink(shrink::ShrinkArgs),
    /// List the corpus and check that every file still shows what it was kept for
    Seeds(SeedsArgs),
    /// Run everything that is known to be wrong, and say which invariant has noticed it
    Teeth(TeethArgs),
}

/// Lists the profiles there are, so that the help cannot fall behind.
fn profile_help() -> String {
    let names = Profile::ALL.map(Profile::name).join(", ");
    format!("How adversarial the disk is: {names} [default: {}]", Profile::default())
}

/// The same for scenarios.
fn scenario_help(what: &str, default: &str) -> String {
    let names = Scenario::ALL.map(Scenario::name).join(", ");
    format!("{what}: {names} [default: {default}]")
}

#[derive(Debug, Args)]
struct SetupArgs {
    /// Who is put to the test: hardened, as-merged, or a name that `teeth` prints [default: hardened]
    #[arg(long, value_name = "NAME")]
    subject: Option<Subject>,
    /// How adversarial the disk is
    #[arg(long, value_name = "NAME", help = profile_help())]
    profile: Option<Profile>,
    /// Make the disk lie: skip-file-sync, skip-dir-sync, rename-not-atomic
    #[arg(long, value_name = "NAME")]
    lie: Option<Lies>,
}

impl SetupArgs {
    fn setup(&self, scenario: Scenario) -> Setup {
        let (subject, profile) = (self.subject(), self.profile());
        Setup { scenario, subject, profile, lies: self.lies(), entries_max: None }
    }

    /// Whether a scenario runs the subject as what it is; if not, why.
    fn check(&self, scenario: Scenario) -> Result<(), String> {
        let subject = self.subject();
        if subject.scenarios().contains(&scenario) {
            return Ok(());
        }
        let names: Vec<&str> = subject.scenarios().iter().map(|scenario| scenario.name()).collect();
        let names = names.join(" or ");
        Err(format!("{scenario} cannot show what is wrong with {subject}; run it with --scenario {names}"))
    }

    fn lies(&self) -> Lies {
        self.lie.unwrap_or(Lies::NONE)
    }

    fn subject(&self) -> Subject {
        self.subject.unwrap_or(Subject::Hardened)
    }

    fn profile(&self) -> Profile {
        self.profile.unwrap_or_default()
    }

    fn is_given(&self) -> bool {
        self.subject.is_some() || self.profile.is_some() || self.lie.is_some()
    }
}

#[derive(Debug, Args)]
struct SweepArgs {
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
    /// Threads [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    jobs: Option<u16>,
    /// Of N equal shares of the seeds, run the K-th
    #[arg(long, default_value = "1/1", value_name = "K/N")]
    shard: Shard,
    /// text or json
    #[arg(long, default_value = "text", value_name = "NAME")]
    format: Format,
    /// Stop after this long with what was found so far, as in 90s or 10m
    #[arg(long, value_name = "DURATION")]
    time_limit: Option<TimeLimit>,
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

/// The longest logs of which all can be closed.
const LOG_LENGTH_MAX: u8 = 4;

#[derive(Debug, Args)]
struct ProveArgs {
    /// Close this log only: first-bootstrap, rotations, registrations, duplicates, refusals, mixed (repeatable)
    /// [default: all]
    #[arg(long, value_name = "NAME")]
    log: Vec<String>,
    /// Close every log of up to N entries instead of the named ones
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(LOG_LENGTH_MAX)), value_name = "N", conflicts_with = "log")]
    all_logs: Option<u8>,
    #[command(flatten)]
    setup: SetupArgs,
    /// Errors of the disk, one a life: none, fenced (a failed sync of the database ends the life in a power loss),
    /// unfenced (without that rule, which breaks the database) [default: fenced, with --all-logs none]
    #[arg(long, value_name = "NAME")]
    errors: Option<Errors>,
    /// Also sample images in which sectors are garbage: a node may refuse them, and must not go on wrongly
    #[arg(long)]
    garbled: bool,
    /// Threads [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    jobs: Option<u16>,
    /// text or json
    #[arg(long, default_value = "text", value_name = "NAME")]
    format: Format,
    /// Stop after this long, incomplete, as in 90s or 10m
    #[arg(long, value_name = "DURATION")]
    time_limit: Option<TimeLimit>,
    /// Write the certificate to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<std::path::PathBuf>,
    /// Run again what this certificate says, and compare; it knows its logs and all options that matter
    #[arg(long, value_name = "FILE")]
    verify: Option<std::path::PathBuf>,
}

impl ProveArgs {
    fn errors(&self) -> Errors {
        self.errors.unwrap_or(if self.all_logs.is_some() { Errors::None } else { Errors::Fenced })
    }
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// A seed, or the path of a seed file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Scenario of the seed
    #[arg(long, value_name = "NAME", help = scenario_help("Scenario of the seed", "single"))]
    scenario: Option<Scenario>,
    #[command(flatten)]
    setup: SetupArgs,
    /// text or json
    #[arg(long, default_value = "text", value_name = "NAME")]
    format: Format,
    /// Keep the run as a seed file
    #[arg(long, value_name = "FILE", requires = "shows")]
    save: Option<std::path::PathBuf>,
    /// What the kept file shows, in a sentence
    #[arg(long, value_name = "TEXT")]
    shows: Option<String>,
}

#[derive(Debug, Args)]
struct SeedsArgs {
    /// Directory of the corpus
    #[arg(long, default_value = "seeds", value_name = "DIR")]
    dir: std::path::PathBuf,
    /// text or json
    #[arg(long, default_value = "text", value_name = "NAME")]
    format: Format,
}

#[derive(Debug, Args)]
struct TeethArgs {
    /// Run this one only (repeatable) [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seeds after which one counts as not caught, from 0 on
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    count: u64,
    /// Threads [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    jobs: Option<u16>,
    /// text or json
    #[arg(long, default_value = "text", value_name = "NAME")]
    format: Format,
    /// Stop after this long with what was found so far, as in 90s or 10m
    #[arg(long, value_name = "DURATION")]
    time_limit: Option<TimeLimit>,
}

impl TeethArgs {
    fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// A word or number on the command line that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct BadArgument(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl FromStr for Format {
    type Err = BadArgument;

    fn from_str(name: &str) -> Result<Format, BadArgument> {
        match name {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => Err(BadArgument(format!("there is no format {other:?}; there are: text, json"))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SeedRange {
    first: u64,
    end: u64,
}

impl FromStr for SeedRange {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<SeedRange, BadArgument> {
        let parsed = text.split_once("..").and_then(|(first, end)| {
            let (first, end) = (first.parse().ok()?, end.parse().ok()?);
            (first < end).then_some(SeedRange { first, end })
        });
        parsed.ok_or_else(|| BadArgument(format!("{text:?} is not a range of seeds; write A..B with A < B")))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    k: u64,
    n: u64,
}

impl FromStr for Shard {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Shard, BadArgument> {
        let parsed = text.split_once('/').and_then(|(k, n)| {
            let (k, n) = (k.parse().ok()?, n.parse().ok()?);
            (1 <= k && k <= n).then_some(Shard { k, n })
        });
        parsed.ok_or_else(|| BadArgument(format!("{text:?} is not a shard; write K/N with 1 <= K <= N")))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimeLimit(std::time::Duration);

impl FromStr for TimeLimit {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<TimeLimit, BadArgument> {
        match humantime::parse_duration(text) {
            Ok(limit) if !limit.is_zero() => Ok(TimeLimit(limit)),
            _ => Err(BadArgument(format!("{text:?} is not a duration; write 90s, 10m or 2h"))),
        }
    }
}

/// A panic of a run is a finding, and is reported as one. What the hook would print comes in between.
#[expect(clippy::disallowed_methods, reason = "it decides what is printed, and nothing of a run")]
fn silence_runs() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(crate::run::THREAD) {
            others(panic);
        }
    }));
}

/// Parses the command line, runs the command, and says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the applier logs is shown where it is asked for, as in `RUST_LOG=applier=debug cargo sim replay 17`. It comes
    // without the time of day: two replays print the same.
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    }
    silence_runs();
    if let Err(error) = patience::listen() {
        complain(&format!("an interrupt will not be answered with what was found so far: {error}"));
    }
    // Styles are written always, and taken out again where nobody could see them: `NO_COLOR`, a file, a pipe.
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    let done = match &cli.command {
        Command::Sweep(args) => sweep::main(args, &mut out),
        Command::Prove(args) => prove::main(args, &mut out),
        Command::Replay(args) => replay::main(args, &mut out),
        Command::Shrink(args) => shrink::main(args, &mut out),
        Command::Seeds(args) => seeds::main(args, &mut out),
        Command::Teeth(args) => teeth::main(args, &mut out),
    };
    match done.and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit.into(),
        // Whoever reads our output may stop early, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Clean.into(),
        Err(error) => {
            complain(&format!("cannot write to standard output: {error}"));
            Exit::HarnessFailed.into()
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[expect(clippy::disallowed_methods, reason = "the command line measures speed; no run sees it")]
fn now() -> Instant {
    Instant::now()
}

/// One line on standard error.
fn complain(message: &str) {
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "cargo sim: {message}");
}

/// The line that shows a run again.
fn reproduce(setup: &Setup, seed: u64) -> String {
    let options = options(setup.subject, setup.profile, setup.lies);
    format!("cargo sim replay {seed} --scenario {}{options}", setup.scenario)
}

/// Who is put to the test on what disk, as options.
fn options(subject: Subject, profile: Profile, lies: Lies) -> String {
    let mut options = format!(" --subject {subject} --profile {profile}");
    if let Some(lie) = lies.name() {
        options.push_str(" --lie ");
        options.push_str(lie);
    }
    options
}
