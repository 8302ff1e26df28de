//! What shrinking came to, as text and as one JSON object.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::super::{Exit, quoted};
use super::task::{Task, Wanted};
use crate::shrink::{Shrunk, Size};

/// How it went with one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Nothing smaller shows it.
    Minimal,
    /// Something smaller might show it: time was up, or someone asked for an end.
    CutShort,
    /// The seed file that it began with is as small.
    NothingSmaller,
    /// There is a seed file for it, and it was left alone.
    KeptAlready,
    /// The sweep has listed it, and it is not found any more.
    Gone,
    /// The run shows nothing at all.
    NothingFound,
}

/// The size of a run, as far as it is reported.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measure {
    nodes: u64,
    entries: u64,
    crashes: u64,
    unusual_draws: u64,
    draws: u64,
}

impl Measure {
    fn of(size: Size) -> Measure {
        let Size { nodes, entries, crashes, unusual, draws, .. } = size;
        Measure { nodes, entries, crashes, unusual_draws: unusual, draws }
    }
}

/// One finding.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    fingerprint: Option<String>,
    scenario: &'static str,
    subject: &'static str,
    profile: &'static str,
    #[serde(skip)]
    what: String,
    seed: Option<u64>,
    state: State,
    file: Option<String>,
    before: Option<Measure>,
    after: Option<Measure>,
    seconds: f64,
    runs: u64,
    reproduce: Option<String>,
    go_on: Option<String>,
}

impl Row {
    pub(super) fn new(task: &Task, fingerprint: Option<&str>, state: State, file: Option<&Path>) -> Row {
        Row {
            fingerprint: fingerprint.map(str::to_owned),
            scenario: task.setup.scenario.name(),
            subject: task.setup.subject.name(),
            profile: task.setup.profile.name(),
            what: task.what.clone(),
            seed: task.seed(),
            state,
            file: file.map(|file| file.display().to_string()),
            before: None,
            after: None,
            seconds: 0.0,
            runs: 0,
            reproduce: file.map(|file| format!("cargo sim replay {}", quoted(file))),
            go_on: file
                .filter(|_| state == State::CutShort)
                .map(|file| format!("cargo sim shrink {}", quoted(file))),
        }
    }

    /// With what a search came to.
    pub(super) fn after(self, shrunk: &Shrunk, seconds: f64) -> Row {
        let (before, after) = (Measure::of(shrunk.before), Measure::of(shrunk.after));
        Row { before: Some(before), after: Some(after), seconds, runs: shrunk.runs, ..self }
    }

    /// A run that does not show what was looked for.
    pub(super) fn nothing(task: &Task) -> Row {
        match &task.wanted {
            Wanted::Listed(listed) => Row::new(task, Some(listed), State::Gone, None),
            _ => Row::new(task, None, State::NothingFound, None),
        }
    }

    pub(super) fn kept(task: &Task, fingerprint: &str, file: &Path) -> Row {
        Row::new(task, Some(fingerprint), State::KeptAlready, Some(file))
    }

    pub(super) fn was_cut_short(&self) -> bool {
        self.state == State::CutShort
    }

    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let file = self.file.as_deref().unwrap_or("no file");
        match &self.fingerprint {
            Some(fingerprint) => writeln!(out, "{fingerprint}")?,
            None => return writeln!(out, "{} shows nothing: there is nothing to shrink", self.what),
        }
        match self.state {
            State::Gone => return writeln!(out, "  {} does not show it any more", self.what),
            State::KeptAlready => return writeln!(out, "  skipped: {file} keeps it already"),
            _ => {}
        }
        if let (Some(before), Some(after)) = (self.before, self.after) {
            let columns = [
                ("nodes", before.nodes, after.nodes),
                ("entries", before.entries, after.entries),
                ("crashes", before.crashes, after.crashes),
                ("draws", before.draws, after.draws),
            ];
            let columns = columns.map(|(name, before, after)| format!("{name} {before} -> {after}"));
            writeln!(out, "  {}, {:.1} s, {} runs", columns.join(", "), self.seconds, self.runs)?;
        }
        match self.state {
            State::Minimal => writeln!(out, "  written to {file}: nothing smaller shows it")?,
            State::CutShort => writeln!(out, "  written to {file}: not at its minimum, time was up")?,
            _ => writeln!(out, "  {file} is left as it was: nothing smaller was found")?,
        }
        let lines = [self.go_on.as_ref(), self.reproduce.as_ref()];
        lines.into_iter().flatten().try_for_each(|line| writeln!(out, "  {line}"))
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: &'static str,
    pub(super) partial: bool,
    pub(super) jobs: usize,
    pub(super) seconds: f64,
    pub(super) rows: Vec<Row>,
}

impl Report {
    pub(super) fn exit(&self) -> Exit {
        let nothing = |row: &Row| matches!(row.state, State::Gone | State::NothingFound);
        if self.rows.iter().all(nothing) { Exit::Clean } else { Exit::Violation }
    }

    pub(super) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    pub(super) fn text(&self, out: &mut impl Write) -> io::Result<()> {
        for row in &self.rows {
            row.text(out)?;
        }
        if self.rows.len() < 2 {
            return Ok(());
        }
        writeln!(out)?;
        self.table(out)?;
        self.medians(out)?;
        let state = if self.partial { " (cut short)" } else { "" };
        writeln!(out, "{} findings, {:.1} s{state}", self.rows.len(), self.seconds)
    }

    fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = ["seed", "entries", "crashes", "nodes", "draws", "seconds", "runs"];
        columns.iter().try_for_each(|column| write!(out, "{column:>13}"))?;
        writeln!(out, "  scenario  fingerprint")?;
        for row in &self.rows {
            let (Some(before), Some(after)) = (row.before, row.after) else { continue };
            let pairs = [
                (before.entries, after.entries),
                (before.crashes, after.crashes),
                (before.nodes, after.nodes),
                (before.draws, after.draws),
            ];
            write!(out, "{:>13}", row.seed.map(|seed| seed.to_string()).unwrap_or_default())?;
            for (before, after) in pairs {
                write!(out, "{:>13}", format!("{before} -> {after}"))?;
            }
            write!(out, "{:>13.1}{:>13}", row.seconds, row.runs)?;
            let name = row.fingerprint.as_deref().unwrap_or_default();
            let cut = if row.was_cut_short() { " (cut short)" } else { "" };
            writeln!(out, "  {:8}  {name}{cut}", row.scenario)?;
        }
        writeln!(out)
    }

    fn medians(&self, out: &mut impl Write) -> io::Result<()> {
        let mut scenarios: BTreeMap<&str, Vec<Measure>> = BTreeMap::new();
        for row in &self.rows {
            if let Some(after) = row.after {
                scenarios.entry(row.scenario).or_default().push(after);
            }
        }
        for (scenario, after) in scenarios {
            let median = |of: fn(&Measure) -> u64| {
                let mut values: Vec<u64> = after.iter().map(of).collect();
                values.sort_unstable();
                values[values.len() / 2]
            };
            writeln!(
                out,
                "{scenario}: medians {} entries, {} crashes, {} nodes, {} draws over {} findings",
                median(|after| after.entries),
                median(|after| after.crashes),
                median(|after| after.nodes),
                median(|after| after.draws),
                after.len()
            )?;
        }
        Ok(())
    }
}
