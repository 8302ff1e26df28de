//! What is known to be wrong is noticed, each by the invariant that is there for it.

mod common;

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{CLUSTER_SEEDS, setup, sweep_range};
use scenarios::invariants::{CLUSTER, INVARIANTS};
use scenarios::subject::Subject;
use scenarios::teeth::{Kind, Trial, WRONG, Wrong, put_all_to_trial};
use scenarios::world::Scenario;

/// Wrong hosts that a handful of seeds convict. A seed of a cluster takes long without optimisation, so the others are
/// left to `cargo sim teeth`, which goes on for as long as it takes; what only they trip is looked for by the release build
/// of this file (see [`SLOW`]).
const QUICK_HOSTS: [&str; 4] = [
    "follower-forwards-proposals",
    "snapshots-without-keys",
    "leader-answers-early",
    "sessions-are-forgotten",
];

/// Everything in the table but slow wrong hosts, searched for once.
fn trials() -> &'static [Trial] {
    static TRIALS: OnceLock<Vec<Trial>> = OnceLock::new();
    TRIALS.get_or_init(|| {
        let asked = |wrong: &&Wrong| wrong.kind() != Kind::WrongHost || QUICK_HOSTS.contains(&wrong.name);
        let wrong: Vec<&'static Wrong> = WRONG.iter().filter(asked).collect();
        put_all_to_trial(&wrong, 2_000, 2, &|| false, &|_| {}).expect("the harness itself does not fail")
    })
}

fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Trial> {
    trials().iter().filter(move |trial| trial.wrong.kind() == kind)
}

#[test]
fn every_invariant_notices_a_lying_adapter() {
    let noticed: BTreeSet<&str> = of_kind(Kind::LyingAdapter)
        .filter_map(|trial| trial.expected.as_ref())
        .map(|catch| catch.violation.invariant)
        .collect();
    let toothless: Vec<&str> =
        INVARIANTS.iter().map(|invariant| invariant.name).filter(|name| !noticed.contains(name)).collect();
    assert!(toothless.is_empty(), "nothing trips {toothless:?}");
}

#[test]
fn every_lying_adapter_is_noticed_by_the_invariant_that_is_there_for_it() {
    for trial in of_kind(Kind::LyingAdapter) {
        assert!(trial.expected.is_some(), "{trial:#?}");
    }
}

#[test]
fn every_wrong_subject_is_convicted_of_what_its_base_does_not_do() {
    let mut count = 0;
    let base =
        Scenario::OF_ONE_NODE.map(|scenario| sweep_range(setup(scenario, Subject::AsMerged), 0, 500, 2));
    for trial in of_kind(Kind::WrongSubject) {
        let catch = trial.expected.as_ref().unwrap_or_else(|| panic!("{trial:#?}"));
        let fingerprint = &catch.violation.fingerprint;
        assert!(base.iter().all(|tally| !tally.findings.contains_key(fingerprint)), "{fingerprint}");
        count += 1;
    }
    assert_eq!(count, 6, "the reviews of the reference found six");
}

#[test]
fn a_wrong_host_is_noticed_by_the_invariant_that_is_there_for_it() {
    let mut count = 0;
    for trial in of_kind(Kind::WrongHost) {
        assert!(trial.expected.is_some(), "{trial:#?}");
        count += 1;
    }
    assert_eq!(count, QUICK_HOSTS.len());
}

/// Who trips what in a cluster: a subject, and lines of the table that have to notice it. Lines without a wrong host of
/// their own are tripped by one of somebody else, or by the apply path as merged.
const NOTICED: [(&str, &[&str]); 4] = [
    (
        "as-merged",
        &[
            "replicas-agree",
            "admitted-is-never-rejected",
            "refusal-halts-everyone-alike",
            "snapshot-brings-keys",
            "lost-sidecar-is-refused",
            "cluster-converges",
        ],
    ),
    ("leader-answers-early", &["acknowledged-request-survives"]),
    ("leader-seals-twice", &["nonces-are-nobody-elses"]),
    (
        "sessions-are-forgotten",
        &["answers-agree", "refusal-has-its-reason", "refused-request-changes-nothing"],
    ),
];

/// What takes hundreds of seeds: two nodes have to be elected in one term, and to commit one index each.
const SLOW: (&str, &[&str]) = ("votes-before-the-sync", &["one-leader-per-term", "one-log"]);

/// Runs seeds until all of `names` have noticed the subject, and says which have not.
fn unnoticed(subject: &str, names: &[&'static str], seeds_max: u64) -> BTreeSet<&'static str> {
    const CHUNK: u64 = 32;
    let setup = setup(Scenario::Cluster, subject.parse().expect("a subject"));
    let mut left: BTreeSet<&str> = names.iter().copied().collect();
    for first in (0..seeds_max).step_by(CHUNK as usize) {
        let tally = sweep_range(setup, first, first + CHUNK, 2);
        tally.findings.values().for_each(|found| {
            left.remove(found.invariant);
        });
        if left.is_empty() {
            break;
        }
    }
    left
}

#[test]
fn every_invariant_of_a_cluster_notices_something() {
    let listed = NOTICED.iter().chain([&SLOW]).flat_map(|(_, names)| names.iter().copied());
    assert_eq!(listed.collect::<BTreeSet<&str>>(), CLUSTER.iter().map(|line| line.name).collect());
    for (subject, names) in NOTICED {
        assert_eq!(unnoticed(subject, names, 320), BTreeSet::new(), "{subject}");
    }
    // In debug this would take minutes. `cargo sim teeth` has it too.
    if !cfg!(debug_assertions) {
        let (subject, names) = SLOW;
        assert_eq!(unnoticed(subject, names, 4_000), BTreeSet::new(), "{subject}");
    }
}

#[test]
fn an_honest_run_has_no_finding() {
    for scenario in Scenario::ALL {
        let seeds = if scenario == Scenario::Cluster { CLUSTER_SEEDS } else { 300 };
        let tally = sweep_range(setup(scenario, Subject::Hardened), 0, seeds, 2);
        assert!(tally.findings.is_empty(), "{:#?}", tally.findings);
    }
}

#[test]
fn names_are_distinct_and_expected_invariants_exist() {
    let names: BTreeSet<&str> = WRONG.iter().map(|wrong| wrong.name).collect();
    assert_eq!(names.len(), WRONG.len());
    let of_a_node = INVARIANTS.iter().map(|invariant| invariant.name);
    let of_a_cluster = CLUSTER.iter().map(|invariant| invariant.name);
    for wrong in WRONG {
        let expected = wrong.expected_invariant();
        // A panic is noticed by whoever runs the seed, before any invariant is asked. What is asked of a node is asked
        // of each member of a cluster.
        let known = of_a_node.clone().any(|name| name == expected)
            || (wrong.kind() == Kind::WrongHost && of_a_cluster.clone().any(|name| name == expected));
        assert!(known || wrong.expected == "no-panic", "{wrong:?}");
        assert!(Subject::ALL.iter().all(|subject| subject.name() != wrong.name), "{wrong:?}");
    }
    assert!(QUICK_HOSTS.iter().all(|name| names.contains(name)));
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scenarios")).args(args).output().expect("the binary runs")
}

fn check(args: &[&str], status: i32, said: &[&str]) -> String {
    let output = sim(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{args:?}: {all}");
    for word in said {
        assert!(all.contains(word), "{args:?} does not say {word:?}: {all}");
    }
    text(&output.stdout)
}

const QUICK: [&str; 9] = [
    "teeth",
    "--only",
    "kek-opens-damaged-blobs",
    "--only",
    "equal-ids",
    "--only",
    "disk-skips-directory-syncs",
    "--only",
    "snapshots-without-keys",
];

#[test]
fn the_report_is_one_object_of_the_documented_shape_and_its_reproduce_lines_hold() {
    let text = check(&[QUICK.as_slice(), &["--format", "json"]].concat(), 0, &[]);
    assert_eq!(text.lines().count(), 1, "exactly one object");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["command"], "teeth");
    assert_eq!(report["total"], 4);
    assert_eq!(report["caught"], 4);
    assert_eq!(report["redundant"], 0);
    assert_eq!(report["partial"], false);
    let rows = report["wrong"].as_array().expect("a list");
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(
        names,
        ["disk-skips-directory-syncs", "kek-opens-damaged-blobs", "equal-ids", "snapshots-without-keys"]
    );
    let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["lying-adapter", "lying-adapter", "wrong-subject", "wrong-host"]);
    for row in rows {
        let on_one_node = row["kind"] != "wrong-host";
        let scenarios: &[&str] = if on_one_node { &["single", "reject"] } else { &["cluster"] };
        assert_eq!(row["scenarios"], serde_json::json!(scenarios));
        assert_eq!((&row["caught"], &row["redundant"]), (&true.into(), &false.into()));
        assert_eq!(row["by"], row["expected"]["invariant"]);
        assert_eq!(row["expected"]["noticed"], true);
        assert!(row["after_seeds"].as_u64().expect("a count") > 0);
        let line = row["reproduce"].as_str().expect("a line");
        let args: Vec<&str> = line.strip_prefix("cargo sim ").expect("a command").split(' ').collect();
        check(&args, 1, &[row["fingerprint"].as_str().expect("a name")]);
    }
}

#[test]
fn the_number_of_jobs_does_not_change_when_something_is_caught() {
    let table = |jobs: &str| {
        let text = check(&[QUICK.as_slice(), &["--jobs", jobs]].concat(), 0, &["4 of 4 caught"]);
        // The last line has the time it took.
        text.lines().filter(|line| !line.contains(" of ")).map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(table("1"), table("3"));
}

#[test]
fn what_is_not_caught_is_said_with_what_was_tried() {
    let hard = ["teeth", "--only", "files-report-errors-late", "--count", "3"];
    check(&hard, 1, &["UNCAUGHT", "halt-keeps-memory-in-step", "seeds 0..3 of single and reject", "0 of 1"]);
    let text = check(&[hard.as_slice(), &["--format", "json"]].concat(), 1, &[]);
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["wrong"][0]["caught"], false);
    assert_eq!(report["wrong"][0]["by"], serde_json::Value::Null);
    let hard = ["teeth", "--only", "install-starts-with-the-database", "--count", "2"];
    check(&hard, 1, &["UNCAUGHT", "start-succeeds", "seeds 0..2 of cluster\n", "0 of 1"]);
}

#[test]
fn wrong_usage_lists_what_is_known() {
    check(
        &["teeth", "--only", "nope"],
        2,
        &["nope", "disk-skips-file-syncs", "second-bootstrap-other-bytes", "member-goes-past-refusals"],
    );
    check(&["teeth", "--count", "0"], 2, &["0"]);
    check(&["teeth", "--format", "junit"], 2, &["junit", "text", "json"]);
}
