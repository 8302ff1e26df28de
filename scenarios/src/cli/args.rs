//! Arguments that several commands share.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use sim::{Lies, Profile};

use super::patience::Patience;
use crate::subject::Subject;
use crate::world::{Limits, Scenario, Setup};

/// Parses a name that stands in a list, which help and completions show.
fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// Parses the name of a scenario.
pub(super) fn scenario_parser() -> impl TypedValueParser<Value = Scenario> {
    one_of(Scenario::ALL.map(Scenario::name))
}

/// Who is put to the test, on what disk.
#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    /// Who is put to the test: hardened, as-merged, or a name that `teeth` prints [default: hardened]
    #[arg(long, value_name = "NAME")]
    pub(super) subject: Option<Subject>,
    /// How adversarial the disk is [default: posix]
    #[arg(long, value_name = "NAME", value_parser = one_of::<Profile>(Profile::ALL.map(Profile::name)))]
    pub(super) profile: Option<Profile>,
    /// Make the disk lie
    #[arg(long, value_name = "NAME", value_parser = one_of::<Lies>(Lies::NAMED.map(|(name, _)| name)))]
    pub(super) lie: Option<Lies>,
}

impl SetupArgs {
    pub(super) fn setup(&self, scenario: Scenario) -> Setup {
        let (subject, profile) = (self.subject(), self.profile());
        Setup { scenario, subject, profile, lies: self.lies(), limits: Limits::NONE }
    }

    /// A run of this scenario, or of the first one that shows the subject; if it cannot show that one, why.
    pub(super) fn of(&self, scenario: Option<Scenario>) -> Result<Setup, String> {
        let scenario = scenario.unwrap_or(self.subject().scenarios()[0]);
        self.check(scenario).map(|()| self.setup(scenario))
    }

    /// Whether a scenario runs the subject as what it is; if not, why.
    pub(super) fn check(&self, scenario: Scenario) -> Result<(), String> {
        let subject = self.subject();
        if subject.scenarios().contains(&scenario) {
            return Ok(());
        }
        let names: Vec<&str> = subject.scenarios().iter().map(|scenario| scenario.name()).collect();
        let names = names.join(" or ");
        Err(format!("{scenario} cannot show what is wrong with {subject}; run it with --scenario {names}"))
    }

    pub(super) fn lies(&self) -> Lies {
        self.lie.unwrap_or(Lies::NONE)
    }

    pub(super) fn subject(&self) -> Subject {
        self.subject.unwrap_or(Subject::Hardened)
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile.unwrap_or_default()
    }

    pub(super) fn is_given(&self) -> bool {
        self.subject.is_some() || self.profile.is_some() || self.lie.is_some()
    }
}

/// What a long command may take.
#[derive(Debug, Args)]
pub(super) struct EffortArgs {
    /// Threads [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    jobs: Option<u16>,
    /// Stop after this long with what was found so far, as in 90s or 10m
    #[arg(long, value_name = "DURATION")]
    time_limit: Option<TimeLimit>,
}

impl EffortArgs {
    /// Threads.
    pub(super) fn jobs(&self) -> usize {
        jobs(self.jobs)
    }

    /// From now on.
    pub(super) fn patience(&self) -> Patience {
        Patience::begin(self.time_limit)
    }
}

/// So many threads, or one a core.
pub(super) fn jobs(asked: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.map_or_else(cores, usize::from)
}

/// How a command prints what it came to.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "NAME")]
    pub(super) format: Format,
}

/// A word or number on the command line that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadArgument(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One object on one line, for scripts
    Json,
}

/// Seeds from `first` up to, and without, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeedRange {
    pub(super) first: u64,
    pub(super) end: u64,
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

/// The `k`-th of `n` shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) k: u64,
    pub(super) n: u64,
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

/// How long a command may go on; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeLimit(pub(super) std::time::Duration);

impl FromStr for TimeLimit {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<TimeLimit, BadArgument> {
        match humantime::parse_duration(text) {
            Ok(limit) if !limit.is_zero() => Ok(TimeLimit(limit)),
            _ => Err(BadArgument(format!("{text:?} is not a duration; write 90s, 10m or 2h"))),
        }
    }
}
