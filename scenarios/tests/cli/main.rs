//! The command line as its users and their scripts meet it.

mod command;
mod fuzz;
mod manners;
mod prove;
mod report;
#[path = "../common/root.rs"]
mod root;
mod shrink;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use command::{check, json, text};
use root::root;

fn corpus() -> PathBuf {
    root().join("seeds")
}

/// A seed file of the corpus that carries a tape.
fn some_seed_file() -> String {
    let mut paths: Vec<_> =
        fs::read_dir(corpus()).expect("the corpus").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a seed file");
    paths.iter().map(text).find(|text| text.contains("tape = ")).expect("a file with a tape")
}

/// Writes a damaged seed file, replays it, and sees that nothing was written beside it.
fn check_seed_file(text: &str, status: i32, said: &[&str]) {
    replay_text(text, &[], status, said);
}

fn check_strictly(text: &str, status: i32, said: &[&str]) {
    replay_text(text, &["--strict"], status, said);
}

fn replay_text(text: &str, options: &[&str], status: i32, said: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("case.toml");
    fs::write(&path, text).expect("a temporary file");
    check(&[&["replay", path.to_str().expect("UTF-8")], options].concat(), status, said);
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1, "nothing was written");
    assert_eq!(fs::read_to_string(&path).expect("still there"), text);
}

#[test]
fn unknown_names_are_usage_errors_that_list_the_known_ones() {
    check(&["sweep", "--scenario", "nope"], 2, &["nope", "single", "reject", "cluster"]);
    check(&["sweep", "--subject", "nope"], 2, &["nope", "hardened", "as-merged"]);
    check(&["sweep", "--profile", "nope"], 2, &["nope", "posix", "ext4-ordered"]);
    check(&["sweep", "--format", "nope"], 2, &["nope", "text", "json"]);
    check(&["sweep", "--lie", "nope"], 2, &["nope", "skip-file-sync"]);
    check(&["sweep", "--nope"], 2, &["--nope"]);
    check(&["nope"], 2, &["nope"]);
    check(&["sweep", "--seeds", "5..5"], 2, &["A..B"]);
    check(&["sweep", "--shard", "3/2"], 2, &["K/N"]);
    check(&["sweep", "--time-limit", "0s"], 2, &["90s"]);
    check(&["sweep", "--jobs", "0"], 2, &["0"]);
    check(&["replay", "no-such-file.toml"], 2, &["no-such-file.toml", "seed"]);
    check(&["seeds", "--dir", "no-such-directory"], 2, &["no-such-directory"]);
}

#[test]
fn a_scenario_that_cannot_show_a_mistake_is_wrong_usage() {
    for (subject, scenario) in [("leader-does-not-probe", "single"), ("registry-forgets-a-row", "cluster")] {
        for command in [vec!["sweep", "--count", "1"], vec!["replay", "1"]] {
            let args = [command, vec!["--subject", subject, "--scenario", scenario]].concat();
            let said = format!("{scenario} cannot show what is wrong with {subject}");
            check(&args, 2, &[&said]);
        }
    }
}

#[test]
fn a_clean_sweep_of_all_scenarios_prints_one_object_and_exits_0() {
    let report = json(&["sweep", "--count", "16", "--format", "json"], 0);
    assert_eq!(report["command"], "sweep");
    assert_eq!(report["violations"], 0);
    assert_eq!(report["partial"], false);
    let scenarios = report["scenarios"].as_array().expect("a list");
    let names: Vec<_> = scenarios.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["single", "reject", "cluster"]);
    assert!(scenarios.iter().all(|row| row["seeds"] == 16), "{scenarios:#?}");
    assert!(scenarios[0]["probes"]["outcome/applied"].as_u64().expect("a count") > 0);
    assert!(scenarios[..2].iter().all(|row| row.get("time").is_none()), "no time passes on one node");
}

/// The keys of an object, in the order of the alphabet.
fn keys(value: &serde_json::Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_sweep_of_the_cluster_has_the_documented_shape_and_says_how_time_went() {
    let report = json(&["sweep", "--scenario", "cluster", "--count", "4", "--format", "json"], 0);
    let of_a_report = [
        "command",
        "version",
        "subject",
        "profile",
        "lie",
        "partial",
        "jobs",
        "seconds",
        "seeds_per_second_per_core",
        "scenarios",
        "violations",
    ];
    assert_eq!(keys(&report), BTreeSet::from(of_a_report));
    let row = &report["scenarios"][0];
    let of_a_scenario = [
        "name",
        "first",
        "end",
        "shard",
        "seeds",
        "entries",
        "crashes",
        "violations",
        "seconds",
        "core_seconds",
        "seeds_per_second_per_core",
        "time",
        "trace_digest",
        "probes",
        "coverage",
        "findings",
    ];
    assert_eq!(keys(row), BTreeSet::from(of_a_scenario));
    assert_eq!(
        keys(&row["time"]),
        BTreeSet::from(["simulated_to_wall", "convergence_ms_max", "simulated_ms"])
    );
    assert!(row["time"]["simulated_to_wall"].as_f64().is_some_and(|ratio| ratio > 1.0), "{row:#}");
    assert!(row["time"]["convergence_ms_max"].as_u64().is_some_and(|most| most > 0), "{row:#}");
    assert!(keys(&row["probes"]).iter().all(|name| name.starts_with("cluster/")), "{row:#}");
    assert!(row["entries"].as_u64() > Some(0) && row["crashes"].is_u64(), "{row:#}");
    check(
        &["sweep", "--scenario", "cluster", "--count", "4"],
        0,
        &["cluster: at the end of the log at most", "simulated seconds a second and core"],
    );
}

#[test]
fn a_seed_of_the_cluster_replays_to_one_timeline() {
    let said = ["scenario cluster, subject hardened", " in term ", "no more faults", "draws, trace "];
    let once = check(&["replay", "3", "--scenario", "cluster"], 0, &said);
    let again = check(&["replay", "3", "--scenario", "cluster"], 0, &said);
    assert_eq!(once.stdout, again.stdout);
    let report = json(&["replay", "3", "--scenario", "cluster", "--format", "json"], 0);
    assert_eq!(report["scenario"], "cluster");
    let trace = report["trace_hash"].as_str().expect("hex");
    assert!(text(&once.stdout).contains(&format!("trace {trace}")), "{trace}");
    assert_eq!(report["timeline"]["trace_hash"], report["trace_hash"]);
    assert!(report["timeline"]["events"].as_array().is_some_and(|events| events.len() > 100));
    assert!(report["timeline"]["stores"].as_array().is_some_and(|stores| stores.len() > 10));
}

#[test]
fn a_red_sweep_exits_1_and_its_reproduce_line_shows_the_same_violation_twice() {
    let args =
        ["sweep", "--scenario", "single", "--subject", "as-merged", "--count", "60", "--format", "json"];
    let report = json(&args, 1);
    let findings = report["scenarios"][0]["findings"].as_array().expect("a list");
    assert!(!findings.is_empty());
    for finding in findings {
        let line = finding["reproduce"].as_str().expect("a line");
        let args: Vec<&str> = line.strip_prefix("cargo sim ").expect("a command").split(' ').collect();
        let fingerprint = finding["fingerprint"].as_str().expect("a name");
        let once = check(&args, 1, &[fingerprint]);
        let again = check(&args, 1, &[fingerprint]);
        assert_eq!(once.stdout, again.stdout);
    }
}

#[test]
fn shards_share_the_seeds_without_gap_or_overlap() {
    let digest = |shard: &str| {
        let args = ["sweep", "--scenario", "single", "--count", "31", "--format", "json", "--shard", shard];
        let report = json(&args, 0);
        let row = &report["scenarios"][0];
        let digest = u64::from_str_radix(row["trace_digest"].as_str().expect("hex"), 16).expect("hex");
        (row["seeds"].as_u64().expect("a count"), digest)
    };
    let parts = ["1/3", "2/3", "3/3"].map(digest);
    let whole = digest("1/1");
    assert_eq!(parts.iter().map(|part| part.0).sum::<u64>(), whole.0);
    assert_eq!(parts.iter().fold(0_u64, |sum, part| sum.wrapping_add(part.1)), whole.1);
}

#[test]
fn a_probe_that_no_seed_hits_is_a_violation_where_that_is_asked_for() {
    check(&["sweep", "--count", "5"], 0, &["never hit"]);
    check(&["sweep", "--count", "5", "--all-probes"], 1, &["never hit"]);
}

#[test]
fn a_time_limit_ends_a_sweep_early_and_says_so() {
    let endless = ["sweep", "--scenario", "single", "--count", "100000000", "--time-limit", "1s"];
    let report = json(&[endless.as_slice(), &["--format", "json"]].concat(), 0);
    assert_eq!(report["partial"], true);
}

#[test]
fn a_truncated_seed_file_is_refused() {
    let text = some_seed_file();
    check_seed_file(&text[..text.len() / 2], 3, &["case.toml", "not a whole seed file"]);
}

#[test]
fn a_seed_file_of_another_version_is_refused() {
    let text = some_seed_file().replace("version = 2", "version = 9");
    check_seed_file(&text, 3, &["version 9"]);
    check_seed_file(&format!("{text}\nnew_field = 1\n"), 3, &["version 9"]);
}

#[test]
fn a_tape_that_no_longer_fits_names_its_first_mismatch_and_is_followed_as_far_as_it_fits() {
    let text = some_seed_file();
    // A site was renamed: what it drew is calm now.
    let other_site = text.replacen("weather.faults ", "weather.other ", 1);
    assert_ne!(other_site, text);
    check_seed_file(&other_site, 1, &["weather.other", "weather.faults", "same finding"]);
    check_strictly(&other_site, 3, &["cannot be replayed", "weather.other", "without --strict"]);
    let one_more = text.replacen("log.length ", "log.length 0/99\nlog.length ", 1);
    check_seed_file(&one_more, 1, &["log.length", "99", "same finding"]);
    check_strictly(&one_more, 3, &["cannot be replayed", "log.length", "99"]);
    check_strictly(&text, 1, &["same finding"]);
    let unknown_subject = text.replace("as-merged", "as-dreamt");
    check_seed_file(&unknown_subject, 3, &["as-dreamt", "hardened"]);
    let no_number = text.replacen("log.length ", "log.length x", 1);
    check_seed_file(&no_number, 3, &["line"]);
}

#[test]
fn a_saved_run_is_a_seed_file_that_replays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("kept.toml");
    let path = path.to_str().expect("UTF-8");
    check(
        &["replay", "3", "--save", path, "--shows", "what a clean run looks like"],
        0,
        &["entries applied"],
    );
    check(&["replay", path], 0, &["entries applied"]);
    check(&["replay", path, "--subject", "hardened"], 2, &["a seed file says itself"]);
    let kept = fs::read(path).expect("it is there");
    check(&["replay", "4", "--save", path, "--shows", "another run"], 3, &[path, "exists"]);
    assert_eq!(fs::read(path).expect("still there"), kept);
    let (dir, state) = (dir.path().to_str().expect("UTF-8"), dir.path().join("state"));
    let state = state.to_str().expect("UTF-8");
    check(&["seeds", "--dir", dir, "--out", state], 0, &["kept", "not checked yet"]);
    check(&["seeds", "--dir", dir, "--out", state, "--check"], 0, &["kept", "clean"]);
    check(&["seeds", "--dir", dir, "--out", state], 0, &["clean"]);
    let other = text(&kept).replace("what a clean run looks like", "what another one looks like");
    fs::write(path, other).expect("a directory of ours");
    check(&["seeds", "--dir", dir, "--out", state], 0, &["changed since it was checked"]);
    check(
        &["replay", "3", "--save", "/no/such/place.toml", "--shows", "nothing"],
        3,
        &["/no/such/place.toml"],
    );
}

#[test]
fn the_corpus_is_listed_with_the_state_of_its_files() {
    let dir = corpus();
    let dir = dir.to_str().expect("UTF-8");
    let state = tempfile::tempdir().expect("a temporary directory");
    let args = ["seeds", "--dir", dir, "--out", state.path().to_str().expect("UTF-8")];
    check(&args, 0, &["not checked yet", "expects"]);
    let report = json(&[&args[..], &["--check", "--format", "json"]].concat(), 0);
    let seeds = report["seeds"].as_array().expect("a list");
    assert!(!seeds.is_empty());
    for seed in seeds {
        let nothing_expected = seed["expect"].as_array().expect("a list").is_empty();
        let expected = if nothing_expected { "clean" } else { "same finding" };
        assert_eq!(seed["state"], expected, "{seed:#}");
    }
    let unwritable = ["seeds", "--dir", dir, "--check", "--out", "/proc/nowhere"];
    check(&unwritable, 3, &["/proc/nowhere", "cannot be written"]);
}

#[test]
fn a_corpus_without_a_file_is_no_corpus() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    check(&["seeds", "--check", "--dir", dir.path().to_str().expect("UTF-8")], 2, &["no seed file", "--dir"]);
}

#[test]
fn a_replay_prints_what_was_logged_in_its_place() {
    let run = |filter: Option<&str>, options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
        command.args([&["replay", "4"], options].concat()).env_remove("RUST_LOG");
        command.envs(filter.map(|filter| ("RUST_LOG", filter)));
        command.output().expect("the binary runs")
    };
    let lines = |output: &Output| text(&output.stdout).matches("|. ").count();
    assert_eq!(lines(&run(None, &["--verbose"])), 0);
    let logged = run(Some("applier=trace,madsim=trace,scenarios=trace"), &["--verbose"]);
    assert!(text(&logged.stdout).contains("registry committed"), "{}", text(&logged.stdout));
    assert!(text(&logged.stderr).is_empty(), "it is part of the timeline: {}", text(&logged.stderr));
    let wrong = run(Some("applier=loudly"), &[]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("RUST_LOG=applier=loudly"), "{}", text(&wrong.stderr));
}

#[test]
fn a_kept_finding_that_is_gone_or_another_one_is_answered_so() {
    let kept = some_seed_file();
    let hardened = kept.replace("as-merged", "hardened");
    check_seed_file(&hardened, 0, &["gone"]);
    let elsewhere = kept.replacen("expect = [", "expect = [\"no-panic/run/panic\", ", 1);
    assert_ne!(elsewhere, kept);
    check_seed_file(&elsewhere, 1, &["other finding"]);
}

#[test]
fn pictures_of_a_run_are_written_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("pictures");
    let out = out.to_str().expect("UTF-8");
    let args = [
        "replay",
        "4",
        "--subject",
        "as-merged",
        "--html",
        "run.html",
        "--perfetto",
        "run.json",
        "--out",
        out,
    ];
    check(&args, 1, &["VIOLATION"]);
    let page = fs::read_to_string(format!("{out}/run.html")).expect("it was written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("cargo sim replay 4"), "{}", &page[..200]);
    let trace: serde_json::Value =
        serde_json::from_slice(&fs::read(format!("{out}/run.json")).expect("it was written")).expect("JSON");
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.len() > 20));
    assert_eq!(fs::read_dir(out).expect("a directory").count(), 2, "and nothing else");
    check(
        &["replay", "4", "--html", "/proc/nowhere/run.html"],
        3,
        &["/proc/nowhere/run.html", "cannot be written"],
    );
}
