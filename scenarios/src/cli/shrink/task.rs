//! What is to be shrunk, and where it is written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sim::Lies;

use super::super::Exit;
use super::ShrinkArgs;
use crate::results::{FindingResult, Results};
use crate::run::Source;
use crate::seeds::{Case, SeedFileError};
use crate::world::{Limits, Setup};

/// Why nothing, or nothing more, is shrunk.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) exit: Exit,
    pub(super) why: String,
}

impl Refused {
    pub(super) fn usage(why: String) -> Refused {
        Refused { exit: Exit::Usage, why }
    }

    pub(super) fn harness(why: String) -> Refused {
        Refused { exit: Exit::HarnessFailed, why }
    }
}

/// Which finding is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The first.
    Any,
    /// The first of these that is found.
    OneOf(Vec<String>),
    /// The one that was asked for.
    This(String),
    /// One that a sweep has listed; the code may have changed since.
    Listed(String),
}

/// One finding to shrink.
#[derive(Debug)]
pub(super) struct Task {
    /// What it was called on the command line, or in the sweep.
    pub(super) what: String,
    pub(super) setup: Setup,
    pub(super) source: Source,
    pub(super) wanted: Wanted,
    pub(super) dir: PathBuf,
    pub(super) name: Option<String>,
    /// The seed file that it comes from, and whether that is replaced.
    pub(super) case: Option<Case>,
    replaces: Option<PathBuf>,
}

impl Task {
    pub(super) fn seed(&self) -> Option<u64> {
        match self.source {
            Source::Seed(seed) => Some(seed),
            _ => None,
        }
    }

    /// Where it was found.
    pub(super) fn found(&self) -> Option<String> {
        self.seed().map(|seed| format!("{} seed {seed}", self.setup.scenario))
    }

    pub(super) fn replaced(&self) -> Option<&Path> {
        self.replaces.as_deref()
    }

    pub(super) fn replaces(&self) -> bool {
        self.replaces.is_some()
    }
}

/// Everything that the command line asks for.
pub(super) fn all(args: &ShrinkArgs) -> Result<Vec<Task>, Refused> {
    if args.name.as_deref().is_some_and(|name| name.is_empty() || name.contains(['/', '\\'])) {
        return Err(Refused::usage("a --name is that of a file, without a directory; see --out".to_owned()));
    }
    if let Ok(seed) = args.what.parse::<u64>() {
        return of_seed(args, seed).map(|task| vec![task]);
    }
    if args.scenario.is_some() || args.setup.is_given() {
        let why = "a file says itself what it runs: leave scenario, subject, profile and lie out";
        return Err(Refused::usage(why.to_owned()));
    }
    let path = Path::new(&args.what);
    match fs::read(path) {
        Ok(bytes) if bytes.trim_ascii_start().starts_with(b"{") => of_results(args, path),
        Ok(_) => of_file(args, path).map(|task| vec![task]),
        Err(source) => Err(unreadable(path, source)),
    }
}

fn unreadable(path: &Path, source: io::Error) -> Refused {
    let error = SeedFileError::Read { path: path.to_owned(), source };
    let what = "a seed (a number), the path of a seed file, or that of the JSON of a sweep";
    Refused::usage(format!("{error}; give {what}"))
}

fn out(args: &ShrinkArgs) -> PathBuf {
    args.out.clone().unwrap_or_else(|| PathBuf::from("seeds"))
}

fn of_seed(args: &ShrinkArgs, seed: u64) -> Result<Task, Refused> {
    let setup = args.setup.of(args.scenario).map_err(Refused::usage)?;
    Ok(Task {
        what: format!("{} seed {seed}", setup.scenario),
        setup,
        source: Source::Seed(seed),
        wanted: args.fingerprint.clone().map_or(Wanted::Any, Wanted::This),
        dir: out(args),
        name: args.name.clone(),
        case: None,
        replaces: None,
    })
}

/// A seed file is gone on from. It is replaced unless another place is given.
fn of_file(args: &ShrinkArgs, path: &Path) -> Result<Task, Refused> {
    let case = Case::read(path).map_err(|error| Refused::harness(error.to_string()))?;
    let replaced = args.out.is_none() && args.name.is_none();
    let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = match &args.fingerprint {
        Some(fingerprint) => Wanted::This(fingerprint.clone()),
        None if case.file.expect.is_empty() => Wanted::Any,
        None => Wanted::OneOf(case.file.expect.clone()),
    };
    Ok(Task {
        what: args.what.clone(),
        setup: case.setup,
        source: case.source.clone(),
        wanted,
        dir: if replaced { beside.to_owned() } else { out(args) },
        name: args.name.clone(),
        replaces: replaced.then(|| path.to_owned()),
        case: Some(case),
    })
}

fn of_results(args: &ShrinkArgs, path: &Path) -> Result<Vec<Task>, Refused> {
    let results = Results::read(path).map_err(|error| Refused::harness(error.to_string()))?;
    let wrong = |why: &dyn std::fmt::Display| Refused::harness(format!("{}: {why}", args.what));
    let mut tasks = Vec::new();
    for sweep in &results.sweeps {
        for scenario in &sweep.scenarios {
            let setup = Setup {
                scenario: scenario.name.parse().map_err(|error| wrong(&error))?,
                subject: sweep.subject.parse().map_err(|error| wrong(&error))?,
                profile: sweep.profile.parse().map_err(|error| wrong(&error))?,
                lies: match &sweep.lie {
                    None => Lies::NONE,
                    Some(lie) => lie.parse().map_err(|error| wrong(&error))?,
                },
                limits: Limits::NONE,
            };
            let wanted = |found: &&FindingResult| {
                args.fingerprint.as_ref().is_none_or(|only| *only == found.fingerprint)
            };
            tasks.extend(scenario.findings.iter().filter(wanted).map(|found| Task {
                what: format!("{} seed {}", setup.scenario, found.first_seed),
                setup,
                source: Source::Seed(found.first_seed),
                wanted: Wanted::Listed(found.fingerprint.clone()),
                dir: out(args),
                name: args.name.clone(),
                case: None,
                replaces: None,
            }));
        }
    }
    match &args.fingerprint {
        Some(only) if tasks.is_empty() => Err(Refused::usage(format!("{} has no finding {only}", args.what))),
        _ if args.name.is_some() && tasks.len() > 1 => {
            Err(Refused::usage("one --name is not enough for several findings; leave it out".to_owned()))
        }
        _ => Ok(tasks),
    }
}
