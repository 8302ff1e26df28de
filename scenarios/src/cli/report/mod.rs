//! `cargo sim report`.

pub(super) mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::sweep::exit_of;
use super::{Exit, complain};
use crate::output;
use crate::report::{html, junit, markdown};
use crate::results::{self, MergeError, ReadError, Results, Sweep, Trend};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim report results/sweep-*.json --out report     # all shards of a sweep: page, Markdown, JUnit and JSON\n  \
    cargo sim report tonight.json --against yesterday.json\n  \
    cargo sim report results/*.json --format md >> \"$GITHUB_STEP_SUMMARY\"\n  \
    cargo sim report results/*.json --format json > merged.json    # reads as one sweep over the whole range\n\n\
    Exit status: 1 where the results hold a violation, as for the sweep itself.")]
pub(super) struct ReportArgs {
    /// Results of sweeps, as `sweep --format json` or `sweep --out` writes them
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ReportFormat::Text, value_name = "NAME")]
    format: ReportFormat,
    /// Write report.html, report.md, report.junit.xml and report.json there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Say what has changed since these results (JSON of a sweep or of a report)
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Count a probe that no seed hits, and a fault that was never delivered, as a violation
    #[arg(long)]
    all_probes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people
    Text,
    /// One self-contained page
    Html,
    /// Markdown, for the summary of a CI job
    Md,
    /// JUnit's XML, for CI systems
    Junit,
    /// One object on one line: the merged sweep, or several where subjects or disks differ
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("a report needs results: give the files that `cargo sim sweep --out DIR` has written")]
    NoFiles,
    #[error(
        "no seed was run in any of these files, so that there is nothing to report; run more seeds, or fewer shards"
    )]
    NoSeeds,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Merge(#[from] MergeError),
}

impl ReportError {
    fn exit(&self) -> Exit {
        match self {
            ReportError::NoFiles
            | ReportError::NoSeeds
            | ReportError::Read(ReadError::NoData { .. })
            | ReportError::Merge(MergeError::Overlap { .. }) => Exit::Usage,
            ReportError::Read(_) | ReportError::Merge(MergeError::OtherProbes { .. }) => Exit::HarnessFailed,
        }
    }
}

pub(super) fn main(args: &ReportArgs, out: &mut impl Write) -> io::Result<Exit> {
    let (sweeps, trend) = match read(args) {
        Ok(report) => report,
        Err(error) => {
            complain(&error.to_string());
            return Ok(error.exit());
        }
    };
    let trend = trend.as_ref();
    if let Some(dir) = &args.out {
        let files = [
            ("report.html", html::page(&sweeps, trend)),
            ("report.md", markdown::markdown(&sweeps, trend)),
            ("report.junit.xml", junit::junit(&sweeps, args.all_probes)),
            ("report.json", results::to_json(&sweeps, trend)),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.into_bytes()));
        if let Err(error) = output::write_all(dir, &files) {
            complain(&error.to_string());
            return Ok(Exit::HarnessFailed);
        }
    }
    match args.format {
        ReportFormat::Text => text::report(&sweeps, trend, out)?,
        ReportFormat::Html => out.write_all(html::page(&sweeps, trend).as_bytes())?,
        ReportFormat::Md => out.write_all(markdown::markdown(&sweeps, trend).as_bytes())?,
        ReportFormat::Junit => out.write_all(junit::junit(&sweeps, args.all_probes).as_bytes())?,
        ReportFormat::Json => out.write_all(results::to_json(&sweeps, trend).as_bytes())?,
    }
    Ok(exit_of(&sweeps, args.all_probes))
}

fn read(args: &ReportArgs) -> Result<(Vec<Sweep>, Option<Trend>), ReportError> {
    if args.files.is_empty() {
        return Err(ReportError::NoFiles);
    }
    let read = |path: &Path| -> Result<Results, ReadError> { Results::read(path) };
    let results = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let sweeps = results::merge(&results)?;
    if sweeps.iter().all(|sweep| sweep.seeds() == 0) {
        return Err(ReportError::NoSeeds);
    }
    let Some(against) = &args.against else { return Ok((sweeps, None)) };
    let earlier = results::merge(&[read(against)?])?;
    let trend = results::trend(&earlier, &sweeps);
    Ok((sweeps, Some(trend)))
}
