//! Results as JUnit's XML: a test suite for each scenario, a test case for each invariant, so that a CI system shows what
//! has failed by its name.

use std::fmt::Write as _;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::invariants::{CLUSTER, INVARIANTS};
use crate::results::{FindingResult, ScenarioResult, Sweep, shortened};
use crate::world::Scenario;

/// A panic has no line in the tables.
const NO_PANIC: &str = "no-panic";
/// Characters of evidence that a failure carries.
const EVIDENCE_CHARS_MAX: usize = 600;

/// Sweeps as XML. With `all_probes`, a probe that was never hit and a fault that was never delivered are failures too.
pub fn junit(sweeps: &[Sweep], all_probes: bool) -> String {
    let mut report = Report::new("cargo sim");
    for sweep in sweeps {
        report.add_test_suites(sweep.scenarios.iter().map(|row| suite(sweep, row, all_probes)));
    }
    report.to_string().expect("names and numbers always serialise")
}

/// The invariants that a scenario is held to.
fn invariants(scenario: &str) -> Vec<&'static str> {
    let members = scenario == Scenario::Cluster.name();
    let of_a_cluster = CLUSTER.iter().map(|invariant| invariant.name).filter(|_| members);
    let of_a_node = INVARIANTS.iter().map(|invariant| invariant.name);
    of_a_node.chain(of_a_cluster).chain([NO_PANIC]).collect()
}

fn suite(sweep: &Sweep, row: &ScenarioResult, all_probes: bool) -> TestSuite {
    let mut suite = TestSuite::new(format!("{} ({})", row.name, sweep.title()));
    suite.set_time(Duration::try_from_secs_f64(row.seconds).unwrap_or_default());
    suite.add_property(("seeds", row.seeds_in_words().as_str()));
    suite.add_property(("seeds-run", row.seeds.to_string().as_str()));
    suite.add_property(("trace-digest", row.trace_digest.to_string().as_str()));
    suite.add_property(("partial", if sweep.partial { "true" } else { "false" }));
    let mut names: Vec<&str> = invariants(&row.name);
    // Results of another build may know more of them.
    for found in &row.findings {
        if !names.contains(&found.invariant.as_str()) {
            names.push(&found.invariant);
        }
    }
    for name in names {
        let found: Vec<&FindingResult> =
            row.findings.iter().filter(|found| found.invariant == name).collect();
        suite.add_test_case(case(row, name, &found));
    }
    let holes = [("every-probe-is-hit", row.never_hit()), ("every-fault-is-delivered", row.dead_knobs())];
    for (name, missing) in holes.into_iter().filter(|_| all_probes) {
        suite.add_test_case(hole(row, name, &missing));
    }
    suite
}

fn case(row: &ScenarioResult, name: &str, found: &[&FindingResult]) -> TestCase {
    if found.is_empty() {
        return passed(row, name);
    }
    let fingerprints: Vec<&str> = found.iter().map(|found| found.fingerprint.as_str()).collect();
    let mut text = String::new();
    for found in found {
        let FindingResult { fingerprint, seeds_hit, first_seed, reproduce, evidence, .. } = found;
        let evidence = shortened(evidence, EVIDENCE_CHARS_MAX);
        let _ = writeln!(text, "{fingerprint}: {seeds_hit} of {} seeds, first {first_seed}", row.seeds);
        let _ = writeln!(text, "{evidence}\n{reproduce}\n");
    }
    failed(row, name, "violation", &fingerprints.join(", "), &text)
}

fn hole(row: &ScenarioResult, name: &str, missing: &[&str]) -> TestCase {
    match missing {
        [] => passed(row, name),
        missing => failed(row, name, "hole", &missing.join(", "), &missing.join("\n")),
    }
}

fn passed(row: &ScenarioResult, name: &str) -> TestCase {
    let mut case = TestCase::new(name, TestCaseStatus::success());
    case.set_classname(format!("sim.{}", row.name));
    case
}

fn failed(row: &ScenarioResult, name: &str, kind: &str, message: &str, text: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(kind).set_message(message).set_description(text);
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("sim.{}", row.name));
    case
}
