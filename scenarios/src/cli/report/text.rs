//! Sweeps and reports as text for a terminal.

use std::io::{self, Write};

use crate::cli::style::{BAD, COMMAND, GOOD, HEAD, WARN};
use crate::coverage::{Coverage, Fate, Outcome, Point};
use crate::results::{FindingResult, ScenarioResult, ScenarioTrend, Sweep, Time, Trend, shortened};

/// Characters of evidence that are printed.
const EVIDENCE_CHARS_MAX: usize = 240;

/// One sweep.
pub(in crate::cli) fn sweep(sweep: &Sweep, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}, {} jobs", sweep.title(), sweep.jobs)?;
    writeln!(out)?;
    table(sweep, out)?;
    for row in &sweep.scenarios {
        details(row, out)?;
    }
    writeln!(out)?;
    let state = if sweep.partial { " (stopped early)" } else { "" };
    let style = if sweep.violations > 0 { BAD } else { GOOD };
    let (violations, seconds) = (sweep.violations, sweep.seconds);
    writeln!(out, "{style}{violations} seeds with a violation{style:#}, {seconds:.1} s{state}")
}

/// Sweeps that were put together, and what has changed since an earlier report.
pub(super) fn report(sweeps: &[Sweep], trend: Option<&Trend>, out: &mut impl Write) -> io::Result<()> {
    for (nth, one) in sweeps.iter().enumerate() {
        if nth > 0 {
            writeln!(out)?;
        }
        sweep(one, out)?;
        for row in &one.scenarios {
            writeln!(out)?;
            writeln!(out, "{HEAD}{}: seeds {}{HEAD:#}", row.name, row.seeds_in_words())?;
            picture(&row.coverage, out)?;
        }
    }
    trend.map_or(Ok(()), |trend| changes(trend, out))
}

fn table(sweep: &Sweep, out: &mut impl Write) -> io::Result<()> {
    let columns =
        ["scenario", "seeds", "entries", "crashes", "seeds/s/core", "probes hit", "findings", "digest"];
    write!(out, "{HEAD}{:10}", columns[0])?;
    columns[1..7].iter().try_for_each(|column| write!(out, "{column:>14}"))?;
    writeln!(out, "  {}{HEAD:#}", columns[7])?;
    for row in &sweep.scenarios {
        let probes = row.probes.len();
        let hit = format!("{}/{probes}", probes - row.never_hit().len());
        write!(out, "{:10}{:>14}{:>14}{:>14}", row.name, row.seeds, row.entries, row.crashes)?;
        write!(out, "{:>14.0}{hit:>14}{:>14}", row.seeds_per_second_per_core, row.findings.len())?;
        writeln!(out, "  {}", row.trace_digest)?;
    }
    Ok(())
}

fn details(row: &ScenarioResult, out: &mut impl Write) -> io::Result<()> {
    let name = &row.name;
    if let Some(Time { simulated_to_wall, convergence_ms_max, .. }) = row.time {
        let settled = convergence_ms_max as f64 / 1000.0;
        writeln!(out)?;
        writeln!(out, "{name}: {simulated_to_wall:.0} simulated seconds a second and core")?;
        writeln!(out, "{name}: at the end of the log at most {settled:.1} simulated s after the last fault")?;
    }
    row.findings.iter().try_for_each(|found| finding(found, row.seeds, out))?;
    let never = row.never_hit();
    if !never.is_empty() {
        writeln!(out)?;
        writeln!(out, "{WARN}{name}: never hit:{WARN:#} {}", never.join(", "))?;
    }
    let dead = row.dead_knobs();
    if !dead.is_empty() {
        writeln!(out, "{WARN}{name}: faults never delivered:{WARN:#} {}", dead.join(", "))?;
    }
    Ok(())
}

fn finding(found: &FindingResult, seeds: u64, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "{BAD}VIOLATION  {}{BAD:#}", found.fingerprint)?;
    writeln!(out, "  {} of {seeds} seeds, first {}", found.seeds_hit, found.first_seed)?;
    writeln!(out, "  {}", shortened(&found.evidence, EVIDENCE_CHARS_MAX))?;
    writeln!(out, "  {COMMAND}{}{COMMAND:#}", found.reproduce)
}

/// Crash points by fates. What came of them is on the page, and in JSON.
fn picture(coverage: &Coverage, out: &mut impl Write) -> io::Result<()> {
    let points: Vec<Point> =
        Point::all().filter(|point| Fate::ALL.iter().any(|fate| coverage.hits(*point, *fate) > 0)).collect();
    if points.is_empty() {
        return writeln!(out, "no crash");
    }
    write!(out, "{HEAD}{:28}", "crash point")?;
    Fate::ALL.iter().try_for_each(|fate| write!(out, "{:>16}", fate.name()))?;
    writeln!(out, "{HEAD:#}")?;
    for point in points {
        write!(out, "{:28}", point.to_string())?;
        for fate in Fate::ALL {
            let hits = coverage.hits(point, *fate);
            let bad = coverage.count(point, *fate, Outcome::Violation) > 0;
            let text = if bad { format!("!{hits}") } else { hits.to_string() };
            let style = if bad { BAD } else { anstyle::Style::new() };
            write!(out, "{style}{text:>16}{style:#}")?;
        }
        writeln!(out)?;
    }
    write!(out, "then:")?;
    for (nth, outcome) in Outcome::ALL.iter().enumerate() {
        let hits: u64 = coverage.iter().filter(|cell| cell.2 == *outcome).map(|cell| cell.3).sum();
        write!(out, "{} {} {hits}", if nth > 0 { "," } else { "" }, outcome.name())?;
    }
    writeln!(out)
}

fn changes(trend: &Trend, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "{HEAD}since the earlier report{HEAD:#}")?;
    trend.scenarios.iter().try_for_each(|row| change(row, out))?;
    trend.new.iter().try_for_each(|name| writeln!(out, "{name}: was not in it"))?;
    trend.gone.iter().try_for_each(|name| writeln!(out, "{name}: was in it, and is not here"))
}

fn change(row: &ScenarioTrend, out: &mut impl Write) -> io::Result<()> {
    let name = &row.name;
    let [then, now] = row.seeds;
    write!(out, "{name}: seeds {then} -> {now}")?;
    let numbers = [
        ("entries a seed", row.entries_per_seed),
        ("crashes a seed", row.crashes_per_seed),
        ("violations in 1000 seeds", row.violations_per_thousand),
        ("seeds/s/core", row.seeds_per_second_per_core),
    ];
    numbers.iter().try_for_each(|(what, [then, now])| write!(out, ", {what} {then:.2} -> {now:.2}"))?;
    writeln!(out)?;
    row.new_findings.iter().try_for_each(|found| writeln!(out, "  {BAD}new{BAD:#}  {found}"))?;
    row.gone_findings.iter().try_for_each(|found| writeln!(out, "  {GOOD}gone{GOOD:#} {found}"))?;
    let fallen = |probe: &String| writeln!(out, "  {WARN}never hit any more{WARN:#} {probe}");
    row.probes_fallen_to_zero.iter().try_for_each(fallen)
}
