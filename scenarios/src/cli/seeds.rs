//! `cargo sim seeds`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::args::{Format, OutputArgs};
use super::style::{BAD, GOOD};
use super::{Exit, complain};
use crate::seeds::{Case, Recheck, SeedFileError};

/// The state of a file that shows what it was kept for.
const AS_EXPECTED: &str = "as expected";

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim seeds\n  \
    cargo sim seeds --dir elsewhere --format json")]
pub(super) struct SeedsArgs {
    /// Directory of the corpus
    #[arg(long, default_value = "seeds", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct SeedsReport<'a> {
    command: &'static str,
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
    let mut exit = Exit::Clean;
    let mut rows = Vec::new();
    for case in &cases {
        let state = match case.recheck() {
            Ok(Recheck::AsExpected) => AS_EXPECTED.to_owned(),
            Ok(Recheck::Differs { found }) => {
                exit = if exit == Exit::HarnessFailed { exit } else { Exit::Violation };
                format!("differs: found {found:?}")
            }
            Err(error) => {
                exit = Exit::HarnessFailed;
                error.to_string()
            }
        };
        rows.push(SeedReport {
            name: &case.name,
            shows: &case.file.shows,
            scenario: case.setup.scenario.name(),
            subject: case.setup.subject.name(),
            expect: &case.file.expect,
            state,
        });
    }
    match args.output.format {
        Format::Text => text(&rows, out)?,
        Format::Json => {
            serde_json::to_writer(&mut *out, &SeedsReport { command: "seeds", seeds: rows })?;
            writeln!(out)?;
        }
    }
    Ok(exit)
}

fn text(rows: &[SeedReport<'_>], out: &mut impl Write) -> io::Result<()> {
    for row in rows {
        let style = if row.state == AS_EXPECTED { GOOD } else { BAD };
        writeln!(out, "{} ({}, {}): {style}{}{style:#}", row.name, row.scenario, row.subject, row.state)?;
        writeln!(out, "    {}", row.shows)?;
        for fingerprint in row.expect {
            writeln!(out, "    expects {fingerprint}")?;
        }
    }
    writeln!(out, "{} files", rows.len())
}
