//! `cargo sim seeds`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::Style;
use clap::Args;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::args::{Format, OutputArgs, SetupArgs, scenario_parser};
use super::style::{BAD, GOOD, WARN};
use super::{Exit, complain};
use crate::fuzzing::corpus;
use crate::output;
use crate::run::Keep;
use crate::seeds::{Case, Replayed, SeedFileError};
use crate::world::Scenario;

/// Where a re-check leaves its answers.
const STATE_FILE: &str = "seeds-check.json";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo sim seeds
  cargo sim seeds --check --format json
  cargo sim seeds --bytes fuzz/corpus/cluster-script --scenario cluster --count 20")]
pub(super) struct SeedsArgs {
    /// Run every file again, and say what became of its finding
    #[arg(long)]
    check: bool,
    /// Directory of the corpus
    #[arg(long, default_value = "seeds", value_name = "DIR")]
    dir: PathBuf,
    /// Write the tapes of the corpus there, as bytes for a fuzzer: a file for each tape of the scenario
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    bytes: Option<PathBuf>,
    /// Scenario of these tapes [default: single]
    #[arg(long, value_name = "NAME", value_parser = scenario_parser(), requires = "bytes")]
    scenario: Option<Scenario>,
    /// The tapes of so many first seeds beside them [default: 0]
    #[arg(long, value_name = "N", requires = "bytes")]
    count: Option<u64>,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Directory in which the answers of the last re-check are kept
    #[arg(long, default_value = "target/sim", value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct SeedsReport<'a> {
    command: &'static str,
    checked: bool,
    seeds: Vec<SeedReport<'a>>,
}

#[derive(Serialize)]
struct SeedReport<'a> {
    name: &'a str,
    shows: &'a str,
    scenario: &'static str,
    subject: &'static str,
    expect: &'a [String],
    state: String,
    /// Nobody knows before it was checked.
    #[serde(skip)]
    is_good: Option<bool>,
}

#[derive(Serialize)]
struct BytesReport<'a> {
    command: &'static str,
    /// Of all files together.
    bytes: usize,
    files: Vec<&'a str>,
}

/// The answers of a re-check, by the names of the files.
#[derive(Default, Serialize, Deserialize)]
struct LastCheck {
    seeds: BTreeMap<String, LastAnswer>,
}

#[derive(Serialize, Deserialize)]
struct LastAnswer {
    /// XXH3 of the file as it was then.
    file_hash: u64,
    answer: String,
    is_good: bool,
}

pub(super) fn main(args: &SeedsArgs, out: &mut impl Write) -> io::Result<Exit> {
    let cases = match Case::read_all(&args.dir) {
        Ok(cases) => cases,
        Err(error) => {
            complain(&error.to_string());
            let no_directory = matches!(&error, SeedFileError::Read { path, .. } if *path == args.dir);
            return Ok(if no_directory { Exit::Usage } else { Exit::HarnessFailed });
        }
    };
    if cases.is_empty() {
        complain(&format!(
            "{}: no seed file is in there; give the directory of a corpus with --dir",
            args.dir.display()
        ));
        return Ok(Exit::Usage);
    }
    if let Some(dir) = &args.bytes {
        return write_bytes(args, dir, &cases, out);
    }
    if args.setup.is_given() {
        complain("a seed file says itself what it runs: subject, profile and lie are for --bytes");
        return Ok(Exit::Usage);
    }
    let mut exit = Exit::Clean;
    let last = if args.check {
        let (last, worst) = check(&args.dir, &cases);
        exit = worst;
        let bytes = serde_json::to_vec_pretty(&last).expect("strings and numbers always serialise");
        let written =
            output::place(&args.out, Path::new(STATE_FILE)).and_then(|path| output::write(&path, &bytes));
        if let Err(error) = written {
            complain(&error.to_string());
            exit = Exit::HarnessFailed;
        }
        last
    } else {
        // What cannot be read was never checked.
        let bytes = fs::read(args.out.join(STATE_FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    let rows: Vec<SeedReport<'_>> = cases.iter().map(|case| row(&args.dir, case, &last)).collect();
    match args.output.format {
        Format::Text => text(&rows, out)?,
        Format::Json => {
            let report = SeedsReport { command: "seeds", checked: args.check, seeds: rows };
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(exit)
}

/// Writes tapes as the bytes of a fuzzer that draws from them.
fn write_bytes(args: &SeedsArgs, dir: &Path, cases: &[Case], out: &mut impl Write) -> io::Result<Exit> {
    let setup = match args.setup.of(args.scenario) {
        Ok(setup) => setup,
        Err(why) => {
            complain(&why);
            return Ok(Exit::Usage);
        }
    };
    let corpus = match corpus::of_tapes(setup, cases, args.count.unwrap_or(0)) {
        Ok(corpus) => corpus,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    };
    if corpus.is_empty() {
        let why = format!(
            "{}: no tape of {} is in there; --count N takes those of N seeds",
            args.dir.display(),
            setup.scenario
        );
        complain(&why);
        return Ok(Exit::Usage);
    }
    if let Err(error) = output::write_all(dir, &corpus) {
        complain(&error.to_string());
        return Ok(Exit::HarnessFailed);
    }
    let bytes: usize = corpus.iter().map(|(_, bytes)| bytes.len()).sum();
    match args.output.format {
        Format::Text => writeln!(out, "{}: {} files, {bytes} bytes", dir.display(), corpus.len())?,
        Format::Json => {
            let files = corpus.iter().map(|(name, _)| name.as_str()).collect();
            serde_json::to_writer(&mut *out, &BytesReport { command: "seeds", bytes, files })?;
            writeln!(out)?;
        }
    }
    Ok(Exit::Clean)
}

/// Runs all of them, and says how bad the worst answer is.
fn check(dir: &Path, cases: &[Case]) -> (LastCheck, Exit) {
    let check_one = |case: &Case| {
        let file_hash = file_hash(dir, case);
        let (answer, exit) = match case.replay(false, Keep::Nothing) {
            Ok(Replayed { answer, checked }) if answer.is_as_expected() => match checked.diverged {
                None => (answer.to_string(), Exit::Clean),
                Some(mismatch) => (format!("{answer}, though {mismatch}"), Exit::Clean),
            },
            Ok(Replayed { answer, .. }) => (answer.to_string(), Exit::Violation),
            Err(error) => (format!("cannot be replayed: {error}"), Exit::HarnessFailed),
        };
        (case.name.clone(), LastAnswer { file_hash, answer, is_good: exit == Exit::Clean }, exit)
    };
    let checked: Vec<(String, LastAnswer, Exit)> = cases.par_iter().map(check_one).collect();
    let has = |exit| checked.iter().any(|(_, _, known)| *known == exit);
    let worst =
        [Exit::HarnessFailed, Exit::Violation].into_iter().find(|exit| has(*exit)).unwrap_or(Exit::Clean);
    (LastCheck { seeds: checked.into_iter().map(|(name, answer, _)| (name, answer)).collect() }, worst)
}

fn file_hash(dir: &Path, case: &Case) -> u64 {
    // It was read a moment ago; what is gone since has no hash that anything is equal to.
    fs::read(dir.join(format!("{}.toml", case.name))).map_or(0, |bytes| xxh3_64(&bytes))
}

fn row<'a>(dir: &Path, case: &'a Case, last: &LastCheck) -> SeedReport<'a> {
    let (state, is_good) = match last.seeds.get(&case.name) {
        None => ("not checked yet".to_owned(), None),
        Some(known) if known.file_hash != file_hash(dir, case) => {
            ("changed since it was checked".to_owned(), None)
        }
        Some(known) => (known.answer.clone(), Some(known.is_good)),
    };
    SeedReport {
        name: &case.name,
        shows: &case.file.shows,
        scenario: case.setup.scenario.name(),
        subject: case.setup.subject.name(),
        expect: &case.file.expect,
        state,
        is_good,
    }
}

fn text(rows: &[SeedReport<'_>], out: &mut impl Write) -> io::Result<()> {
    let bold = Style::new().bold();
    for row in rows {
        let colour = match row.is_good {
            Some(true) => GOOD,
            Some(false) => BAD,
            None => WARN,
        };
        let SeedReport { name, scenario, subject, state, .. } = row;
        writeln!(out, "{bold}{name}{bold:#} ({scenario}, {subject}): {colour}{state}{colour:#}")?;
        writeln!(out, "    {}", row.shows)?;
        for fingerprint in row.expect {
            writeln!(out, "    expects {fingerprint}")?;
        }
        if row.expect.is_empty() {
            writeln!(out, "    expects nothing to be found")?;
        }
    }
    writeln!(out, "{} files", rows.len())
}
