//! Results as Markdown, for the summary of a CI job. Findings come first, each with the line that shows it again.

use std::fmt::Write as _;

use crate::coverage::{Coverage, Fate, Outcome, Point};
use crate::results::{FindingResult, ScenarioResult, ScenarioTrend, Sweep, Trend, shortened};

/// A summary may have 1 MiB, and the other steps of its job want to say something too.
const BYTES_MAX: usize = 900 * 1024;
/// Findings with their evidence; the others have their line.
const FINDINGS_IN_FULL: usize = 40;
const EVIDENCE_CHARS_MAX: usize = 240;

/// Sweeps as Markdown.
pub fn markdown(sweeps: &[Sweep], trend: Option<&Trend>) -> String {
    let mut parts = vec![headline(sweeps)];
    parts.extend(findings(sweeps));
    parts.extend(trend.map(changes));
    for sweep in sweeps {
        parts.push(table(sweep));
        parts.extend(sweep.scenarios.iter().map(holes));
    }
    for sweep in sweeps {
        parts.extend(sweep.scenarios.iter().map(|row| picture(sweep, row)));
    }
    // What is less important comes later, and goes first.
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if text.len() + part.len() > BYTES_MAX {
            text.push_str("\nThe rest did not fit; it is in the page and in the JSON.\n");
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(part);
    }
    text
}

fn headline(sweeps: &[Sweep]) -> String {
    let violations: u64 = sweeps.iter().map(|sweep| sweep.violations).sum();
    let seeds: u64 = sweeps.iter().map(Sweep::seeds).sum();
    let sign = if violations > 0 { "❌" } else { "✅" };
    let partial = match sweeps.iter().any(|sweep| sweep.partial) {
        true => "; **stopped early**, some seeds were not run",
        false => "",
    };
    format!("## {sign} {violations} of {seeds} seeds with a violation{partial}\n")
}

fn findings(sweeps: &[Sweep]) -> Vec<String> {
    let all = sweeps.iter().flat_map(|sweep| sweep.scenarios.iter().map(move |row| (sweep, row)));
    let mut all: Vec<(&Sweep, &ScenarioResult, &FindingResult)> =
        all.flat_map(|(sweep, row)| row.findings.iter().map(move |found| (sweep, row, found))).collect();
    all.sort_by_key(|(_, _, found)| std::cmp::Reverse(found.seeds_hit));
    let one = |(nth, (sweep, row, found)): (usize, (&Sweep, &ScenarioResult, &FindingResult))| {
        let mut text = String::new();
        let FindingResult { fingerprint, seeds_hit, first_seed, reproduce, .. } = found;
        let _ = writeln!(text, "### `{fingerprint}`\n");
        let title = sweep.title();
        let _ = writeln!(
            text,
            "{}, {title}: {seeds_hit} of {} seeds, first {first_seed}\n\n```sh\n{reproduce}\n```",
            row.name, row.seeds
        );
        if nth < FINDINGS_IN_FULL {
            let evidence = shortened(&found.evidence, EVIDENCE_CHARS_MAX).replace('`', "'");
            let _ = writeln!(text, "\n```text\n{evidence}\n```");
        }
        text
    };
    all.into_iter().enumerate().map(one).collect()
}

fn table(sweep: &Sweep) -> String {
    let mut text = format!("### {}\n\n", sweep.title());
    text.push_str(
        "| scenario | seeds | entries | crashes | seeds/s/core | probes hit | findings | digest |\n",
    );
    text.push_str("|---|---|--:|--:|--:|--:|--:|---|\n");
    for row in &sweep.scenarios {
        let probes = row.probes.len();
        let _ = writeln!(
            text,
            "| {} | {} of {} | {} | {} | {:.0} | {}/{probes} | {} | `{}` |",
            row.name,
            row.seeds,
            row.seeds_in_words(),
            row.entries,
            row.crashes,
            row.seeds_per_second_per_core,
            probes - row.never_hit().len(),
            row.findings.len(),
            row.trace_digest
        );
    }
    text
}

fn holes(row: &ScenarioResult) -> String {
    let mut text = String::new();
    for (what, names) in [("never hit", row.never_hit()), ("faults never delivered", row.dead_knobs())] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "⚠️ **{}: {what}:** {}\n", row.name, names.join(", "));
        }
    }
    text
}

fn picture(sweep: &Sweep, row: &ScenarioResult) -> String {
    let coverage = &row.coverage;
    if coverage.total() == 0 {
        return String::new();
    }
    let mut text = format!(
        "<details><summary>Crashes of {} ({}): {}</summary>\n\n",
        row.name,
        sweep.title(),
        coverage.total()
    );
    text.push_str("| crash point |");
    Fate::ALL.iter().for_each(|fate| {
        let _ = write!(text, " {} |", fate.name());
    });
    text.push_str(" then |\n|---|");
    Fate::ALL.iter().for_each(|_| text.push_str("--:|"));
    text.push_str("---|\n");
    for point in Point::all() {
        let line = points(coverage, point);
        text.push_str(&line);
    }
    text.push_str("\n</details>\n");
    text
}

fn points(coverage: &Coverage, point: Point) -> String {
    let hits = Fate::ALL.iter().map(|fate| coverage.hits(point, *fate));
    if hits.clone().sum::<u64>() == 0 {
        return String::new();
    }
    let mut text = format!("| {point} |");
    hits.for_each(|hits| {
        let _ = write!(text, " {hits} |");
    });
    let outcomes = Outcome::ALL.iter().map(|outcome| {
        let count = |fate: &Fate| coverage.count(point, *fate, *outcome);
        (outcome.name(), Fate::ALL.iter().map(count).sum::<u64>())
    });
    let outcomes: Vec<String> =
        outcomes.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(text, " {} |", outcomes.join(", "));
    text
}

fn changes(trend: &Trend) -> String {
    let mut text = String::from("### Since the earlier report\n\n");
    text.push_str(
        "| scenario | seeds | entries a seed | crashes a seed | violations in 1000 | seeds/s/core |\n",
    );
    text.push_str("|---|--:|--:|--:|--:|--:|\n");
    for row in &trend.scenarios {
        let [then, now] = row.seeds;
        let _ = write!(text, "| {} | {then} → {now} |", row.name);
        let numbers = [
            row.entries_per_seed,
            row.crashes_per_seed,
            row.violations_per_thousand,
            row.seeds_per_second_per_core,
        ];
        for [then, now] in numbers {
            let _ = write!(text, " {then:.2} → {now:.2} |");
        }
        text.push('\n');
    }
    text.push('\n');
    trend.scenarios.iter().for_each(|row| changed(row, &mut text));
    trend.new.iter().for_each(|name| {
        let _ = writeln!(text, "- {name}: was not in it");
    });
    trend.gone.iter().for_each(|name| {
        let _ = writeln!(text, "- {name}: was in it, and is not here");
    });
    text
}

fn changed(row: &ScenarioTrend, text: &mut String) {
    let lists = [
        ("❌ new", &row.new_findings),
        ("✅ gone", &row.gone_findings),
        ("⚠️ never hit any more", &row.probes_fallen_to_zero),
    ];
    for (what, names) in lists {
        for name in names {
            let _ = writeln!(text, "- {what}: `{name}` ({})", row.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Coverage;
    use crate::results::Digest;
    use crate::run::Range;
    use crate::subject::Subject;
    use crate::world::{Scenario, Setup};

    #[test]
    fn a_summary_stays_within_its_bound_and_the_most_frequent_findings_are_in_it() {
        let finding = |nth: u64| FindingResult {
            fingerprint: format!("invariant/step/{nth}"),
            invariant: "invariant".to_owned(),
            seeds_hit: nth,
            first_seed: 0,
            reproduce: "cargo sim replay 0".to_owned(),
            evidence: "evidence ".repeat(200),
        };
        let row = ScenarioResult {
            name: "single".to_owned(),
            range: Range { first: 0, end: 9000, shard: (1, 1) },
            parts: Vec::new(),
            seeds: 9000,
            entries: 0,
            crashes: 0,
            violations: 9000,
            seconds: 1.0,
            core_seconds: 1.0,
            seeds_per_second_per_core: 1.0,
            time: None,
            trace_digest: Digest(0),
            probes: std::collections::BTreeMap::new(),
            coverage: Coverage::default(),
            findings: (0..9000).map(finding).collect(),
        };
        let setup = Setup::of(Scenario::Single, Subject::Hardened);
        let text = markdown(&[Sweep::new(&setup, 1, 1.0, vec![row])], None);
        assert!(text.len() < BYTES_MAX + 100, "{}", text.len());
        assert!(text.len() > BYTES_MAX - 1000, "it is used: {}", text.len());
        assert!(
            text.contains("### `invariant/step/8999`") && text.ends_with("in the JSON.\n"),
            "cut at the end"
        );
    }
}
