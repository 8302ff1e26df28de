//! Results as one page that needs no network: cards, findings, heat maps of crashes, probes, and what has changed.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::coverage::{Coverage, Fate, Outcome, Point};
use crate::results::{FindingResult, ScenarioResult, ScenarioTrend, Sweep, Trend};

const BASE: &str = include_str!("../page/base.css");
const STYLE: &str = include_str!("../page/report.css");
const SCRIPT: &str = include_str!("../page/report.js");

/// Grounds of a heat map, beside that of nothing.
const HEATS: u64 = 5;

/// Sweeps as a page.
pub fn page(sweeps: &[Sweep], trend: Option<&Trend>) -> String {
    let rows: Vec<(&Sweep, &ScenarioResult)> =
        sweeps.iter().flat_map(|sweep| sweep.scenarios.iter().map(move |row| (sweep, row))).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Coverage of the sweeps" }
                style { (PreEscaped(BASE)) (PreEscaped(STYLE)) }
            }
            body {
                (masthead(sweeps, &rows))
                main {
                    (findings(&rows))
                    @if let Some(trend) = trend { (changes(trend)) }
                    @for (nth, (sweep, row)) in rows.iter().enumerate() { (scenario(nth, sweep, row)) }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn masthead(sweeps: &[Sweep], rows: &[(&Sweep, &ScenarioResult)]) -> Markup {
    let sum = |count: fn(&ScenarioResult) -> u64| rows.iter().map(|(_, row)| count(row)).sum::<u64>();
    let violations = sum(|row| row.violations);
    let core_seconds: f64 = rows.iter().map(|(_, row)| row.core_seconds).sum();
    let probes: usize = rows.iter().map(|(_, row)| row.probes.len()).sum();
    let never: usize = rows.iter().map(|(_, row)| row.never_hit().len()).sum();
    let dead: usize = rows.iter().map(|(_, row)| row.dead_knobs().len()).sum();
    let findings = sum(|row| row.findings.len() as u64);
    let figures = [
        ("seeds", grouped(sum(|row| row.seeds)), ""),
        ("entries applied", grouped(sum(|row| row.entries)), ""),
        ("crashes", grouped(sum(|row| row.crashes)), ""),
        ("findings", grouped(findings), if findings > 0 { "bad" } else { "good" }),
        ("probes hit", format!("{} of {probes}", probes - never), if never > 0 { "warn" } else { "good" }),
        ("faults never delivered", dead.to_string(), if dead > 0 { "warn" } else { "good" }),
        ("time of one core", humantime::format_duration(whole_seconds(core_seconds)).to_string(), ""),
    ];
    html! {
        header.masthead {
            div.line {
                h1 { "Coverage of the sweeps" }
                @if violations > 0 { span.tag.big.bad { (grouped(violations)) " seeds with a violation" } }
                @else { span.tag.big.good { "no violation" } }
                @if sweeps.iter().any(|sweep| sweep.partial) {
                    span.tag.big.warn { "stopped early: some seeds were not run" }
                }
            }
            div.figures {
                @for (what, figure, state) in figures {
                    div class={ "figure " (state) } { span.value { (figure) } span.soft { (what) } }
                }
            }
            @if rows.len() > 1 {
                nav aria-label="Scenarios" {
                    @for (nth, (sweep, row)) in rows.iter().enumerate() {
                        a href={ "#scenario-" (nth) } { (row.name) @if sweeps.len() > 1 { " (" (sweep.title()) ")" } }
                    }
                }
            }
        }
    }
}

fn findings(rows: &[(&Sweep, &ScenarioResult)]) -> Markup {
    let mut all: Vec<(&Sweep, &ScenarioResult, &FindingResult)> = Vec::new();
    for (sweep, row) in rows {
        all.extend(row.findings.iter().map(|found| (*sweep, *row, found)));
    }
    all.sort_by_key(|(_, _, found)| std::cmp::Reverse(found.seeds_hit));
    html! {
        section.card aria-labelledby="findings" {
            div.top { h2 id="findings" { "Findings" } span.soft { (all.len()) " distinct, the most frequent first" } }
            @if all.is_empty() { div.body { "No seed has shown a violation." } }
            @else {
                div.body.findings {
                    @for (sweep, row, found) in &all { (finding(sweep, row, found)) }
                }
            }
        }
    }
}

fn finding(sweep: &Sweep, row: &ScenarioResult, found: &FindingResult) -> Markup {
    html! {
        article.finding {
            div {
                h3.mono { span.tag.bad { (row.name) } " " (found.fingerprint) }
                p.soft {
                    (grouped(found.seeds_hit)) " of " (grouped(row.seeds)) " seeds, first " (found.first_seed) "; "
                    (sweep.title())
                }
            }
            div.command {
                code { (found.reproduce) }
                button type="button" data-copy=(found.reproduce) { "Copy" }
            }
            @if !found.evidence.is_empty() {
                details { summary { "What was expected and found" } pre.evidence { (found.evidence) } }
            }
        }
    }
}

fn scenario(nth: usize, sweep: &Sweep, row: &ScenarioResult) -> Markup {
    html! {
        section.scenario id={ "scenario-" (nth) } aria-labelledby={ "name-" (nth) } {
            div.line.heading {
                h2 id={ "name-" (nth) } { (row.name) }
                span.soft { (sweep.title()) }
            }
            dl.facts {
                div { dt { "seeds" } dd { (grouped(row.seeds)) " of " (row.seeds_in_words()) } }
                div { dt { "entries" } dd { (grouped(row.entries)) } }
                div { dt { "crashes" } dd { (grouped(row.crashes)) } }
                div { dt { "speed" } dd { (format!("{:.0} seeds a second and core", row.seeds_per_second_per_core)) } }
                @if let Some(time) = row.time {
                    div { dt { "simulated" } dd { (format!("{:.0} s a second and core", time.simulated_to_wall)) } }
                    div { dt { "settled after" } dd { (format!("{:.1} simulated s at most", time.convergence_ms_max as f64 / 1000.0)) } }
                }
                div { dt { "digest" } dd.mono { (row.trace_digest.to_string()) } }
            }
            (heat_map(nth, row))
            (probes(nth, row))
        }
    }
}

fn heat_map(nth: usize, row: &ScenarioResult) -> Markup {
    let coverage = &row.coverage;
    let hits = |point: Point| Fate::ALL.iter().map(|fate| coverage.hits(point, *fate)).sum::<u64>();
    let points: Vec<Point> = Point::all().filter(|point| hits(*point) > 0).collect();
    let cells = points.iter().flat_map(|point| Fate::ALL.iter().map(|fate| coverage.hits(*point, *fate)));
    let most = cells.max().unwrap_or(0);
    html! {
        section.card aria-labelledby={ "crashes-" (nth) } {
            div.top {
                h2 id={ "crashes-" (nth) } { "Crashes: where, what became of what was pending, and what came of it" }
                span.soft { "colour by count, on a log scale" }
            }
            @if points.is_empty() { div.body { "No crash." } }
            @else {
                div.body {
                    (legend())
                    div.scroll {
                        table.heat.points role="grid" aria-describedby={ "detail-" (nth) } {
                            thead {
                                tr {
                                    th scope="col" { "doing" } th scope="col" { "crash point" }
                                    @for fate in Fate::ALL { th scope="col" { (fate.name()) } }
                                    th scope="col" { "all" }
                                    th.wide scope="col" { "what came of it" }
                                }
                            }
                            tbody {
                                @for (at, point) in points.iter().enumerate() {
                                    @let first = at == 0 || points[at - 1].phase() != point.phase();
                                    tr class=[first.then_some("first")] {
                                        th scope="row" { @if first { (point.phase().name()) } }
                                        th scope="row" { (point.spot()) }
                                        @for fate in Fate::ALL { (cell(coverage, *point, *fate, most)) }
                                        td.sum { (grouped(hits(*point))) }
                                        td.wide { (bar(&outcomes(coverage, *point, Fate::ALL))) }
                                    }
                                }
                            }
                        }
                    }
                    p.detail id={ "detail-" (nth) } aria-live="polite" {
                        "Arrow keys or the pointer choose a cell; what came of its crashes stands here."
                    }
                }
            }
        }
    }
}

/// How often each outcome was, of one point and some fates.
fn outcomes(coverage: &Coverage, point: Point, fates: &[Fate]) -> Vec<(Outcome, u64)> {
    let count = |outcome: Outcome| fates.iter().map(|fate| coverage.count(point, *fate, outcome)).sum();
    let all = Outcome::ALL.iter().map(|outcome| (*outcome, count(*outcome)));
    all.filter(|(_, count)| *count > 0).collect()
}

fn cell(coverage: &Coverage, point: Point, fate: Fate, most: u64) -> Markup {
    let hits = coverage.hits(point, fate);
    let outcomes = outcomes(coverage, point, &[fate]);
    let found = outcomes.iter().any(|(outcome, _)| *outcome == Outcome::Violation);
    let mut words = format!(
        "{point}, {}: {}",
        fate.name(),
        if hits == 0 { "no crash".to_owned() } else { grouped(hits) }
    );
    for (nth, (outcome, count)) in outcomes.iter().enumerate() {
        let separator = if nth == 0 { " — " } else { ", " };
        words.push_str(&format!("{separator}{} {}", outcome.name(), grouped(*count)));
    }
    html! {
        td role="gridcell" tabindex="-1" data-heat=(heat(hits, most)) data-found=[found.then_some("")]
            title=(words) aria-label=(words) {
            @if hits > 0 { (grouped(hits)) (bar(&outcomes)) } @else { "·" }
        }
    }
}

/// Parts of one line, as long as they are frequent.
fn bar(outcomes: &[(Outcome, u64)]) -> Markup {
    let words: Vec<String> =
        outcomes.iter().map(|(outcome, count)| format!("{} {}", outcome.name(), grouped(*count))).collect();
    html! {
        span.bar role="img" aria-label=(words.join(", ")) title=(words.join(", ")) {
            @for (outcome, count) in outcomes {
                i class={ "o-" (outcome.name()) } style={ "flex-grow:" (count) } {}
            }
        }
    }
}

fn legend() -> Markup {
    html! {
        ul.legend aria-label="What came of a crash" {
            @for outcome in Outcome::ALL { li { i class={ "o-" (outcome.name()) } {} (says(*outcome)) } }
        }
    }
}

/// Words for people who have not read the code.
const fn says(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::EntrySurvived => "entry survived",
        Outcome::EntryLost => "entry lost",
        Outcome::Started => "started, nothing to settle",
        Outcome::CutOff => "next start cut off too",
        Outcome::Refused => "next start refused",
        Outcome::NoNextLife => "no next life",
        Outcome::Violation => "a violation came next",
    }
}

/// The ground of a cell: nothing, or the logarithm of its count in so many steps up to the most.
fn heat(hits: u64, most: u64) -> u64 {
    if hits == 0 {
        return 0;
    }
    let share = if most > 1 { (hits as f64).ln() / (most as f64).ln() } else { 1.0 };
    1 + ((share * (HEATS - 1) as f64).round() as u64).min(HEATS - 1)
}

fn probes(nth: usize, row: &ScenarioResult) -> Markup {
    let (never, dead) = (row.never_hit(), row.dead_knobs());
    html! {
        section.card.probes aria-labelledby={ "probes-" (nth) } {
            div.top {
                h2 id={ "probes-" (nth) } { "Probes" }
                span.soft { (row.probes.len() - never.len()) " of " (row.probes.len()) " hit" }
                @if !never.is_empty() { span.tag.warn { (never.len()) " never hit" } }
                @for knob in &dead { span.tag.warn { "fault never delivered: " (knob) } }
                @if dead.is_empty() { span.tag.good { "every fault was delivered" } }
            }
            div.body {
                div.line.filter {
                    label { span.aloud { "Filter probes" } input type="search" placeholder="Filter by name" data-filter; }
                    label.chip { input type="checkbox" data-never; "never hit only" span.count { (never.len()) } }
                    span.soft data-shown aria-live="polite" {}
                }
                div.scroll.tall tabindex="0" role="region" aria-label={ "Probes of " (row.name) } {
                    table data-sortable {
                        thead {
                            tr {
                                th scope="col" aria-sort="ascending" { button.link type="button" data-sort="name" { "probe" } }
                                th.number scope="col" { button.link type="button" data-sort="hits" { "hits" } }
                            }
                        }
                        tbody {
                            @for (name, hits) in &row.probes {
                                tr data-name=(name) data-hits=(hits) {
                                    td.mono { (name) }
                                    td.number { @if *hits == 0 { span.tag.warn { "never hit" } } @else { (grouped(*hits)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn changes(trend: &Trend) -> Markup {
    html! {
        section.card aria-labelledby="trend" {
            div.top { h2 id="trend" { "Since the earlier report" } }
            div.body {
                @if trend.scenarios.is_empty() { p { "They have no scenario in common." } }
                @else { div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "scenario" }
                                @for what in ["seeds", "entries a seed", "crashes a seed", "violations in 1000 seeds", "seeds/s/core"] {
                                    th.number scope="col" { (what) }
                                }
                            }
                        }
                        tbody { @for row in &trend.scenarios { (change(row)) } }
                    }
                } }
                @for row in &trend.scenarios { (changed(row)) }
                @for name in &trend.new { p.change { span.tag.note { "new" } " " (name) " was not in it" } }
                @for name in &trend.gone { p.change { span.tag.note { "gone" } " " (name) " was in it, and is not here" } }
            }
        }
    }
}

fn change(row: &ScenarioTrend) -> Markup {
    let [then, now] = row.seeds.map(grouped);
    let numbers = [
        row.entries_per_seed,
        row.crashes_per_seed,
        row.violations_per_thousand,
        row.seeds_per_second_per_core,
    ];
    html! {
        tr {
            th scope="row" { (row.name) }
            td.number { (then) " → " (now) }
            @for [then, now] in numbers { td.number { (format!("{then:.2} → {now:.2}")) } }
        }
    }
}

fn changed(row: &ScenarioTrend) -> Markup {
    let lists = [
        ("bad", "new finding", &row.new_findings),
        ("good", "gone", &row.gone_findings),
        ("warn", "never hit any more", &row.probes_fallen_to_zero),
    ];
    html! {
        @for (state, what, names) in lists {
            @for name in names {
                p.change { span class={ "tag " (state) } { (what) } " " code { (name) } " " span.soft { (row.name) } }
            }
        }
    }
}

/// With a thin space between the thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn whole_seconds(seconds: f64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds.max(0.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_rises_with_the_logarithm_and_uses_all_grounds() {
        assert_eq!([0, 1, 10, 100, 1000, 10_000].map(|hits| heat(hits, 10_000)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(heat(1, 1), 5, "the most is the most, also where it is one");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [7, 999, 1000, 1_234_567].map(grouped),
            ["7", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }
}
