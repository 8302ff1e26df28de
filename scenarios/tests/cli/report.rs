//! `cargo sim report`, shards and their merging, as users and their scripts meet them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::command::{check, json, text};
use serde_json::Value;
use tempfile::TempDir;

/// Seeds of the sweeps in here.
const COUNT: &str = "90";

/// A directory with the results of three shards of a sweep that finds something, and of one run over all of it.
fn results() -> &'static Path {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let made = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().to_str().expect("UTF-8");
        let sweep = |more: &[&str]| {
            let all = ["sweep", "--scenario", "single", "--scenario", "reject", "--subject", "as-merged"];
            check(&[all.as_slice(), &["--count", COUNT, "--out", out], more].concat(), 1, &["VIOLATION"]);
        };
        sweep(&[]);
        for shard in ["1/3", "2/3", "3/3"] {
            sweep(&["--shard", shard]);
        }
        dir
    });
    made.path()
}

fn file(name: &str) -> String {
    results().join(name).to_str().expect("UTF-8").to_owned()
}

fn shards() -> [String; 3] {
    ["sweep-3-of-3.json", "sweep-1-of-3.json", "sweep-2-of-3.json"].map(file)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("it was written")).expect("JSON")
}

/// A report with everything taken out that depends on how fast it went, on how many threads.
fn without_speed(mut report: Value) -> Value {
    let speed = ["seconds", "core_seconds", "seeds_per_second_per_core", "jobs", "simulated_to_wall"];
    fn strip(value: &mut Value, names: &[&str]) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !names.contains(&name.as_str()));
                fields.values_mut().for_each(|value| strip(value, names));
            }
            Value::Array(items) => items.iter_mut().for_each(|value| strip(value, names)),
            _ => {}
        }
    }
    strip(&mut report, &speed);
    report
}

/// A results file with a change, in a directory of its own.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("changed.json");
    let mut results = read(&results().join(name));
    change(&mut results);
    fs::write(&path, results.to_string()).expect("a temporary file");
    (dir, path)
}

fn check_changed(change: impl FnOnce(&mut Value), status: i32, said: &[&str]) {
    let (dir, path) = changed("sweep.json", change);
    let out = dir.path().join("out");
    let [path, out] = [&path, &out].map(|path| path.to_str().expect("UTF-8").to_owned());
    check(&["report", &path, "--out", &out], status, &[said, &["changed.json"]].concat());
    assert!(!Path::new(&out).exists(), "nothing was written");
}

#[test]
fn merged_shards_are_the_unsharded_run() {
    let [one, two, three] = shards();
    let merged = json(&["report", &one, &two, &three, "--format", "json"], 1);
    let whole = read(&results().join("sweep.json"));
    assert!(whole["scenarios"][0]["findings"].as_array().is_some_and(|found| found.len() > 3), "{whole:#}");
    assert!(whole["scenarios"][0]["coverage"].as_array().is_some_and(|cells| cells.len() > 20), "{whole:#}");
    assert_eq!(without_speed(merged), without_speed(whole));
}

#[test]
fn a_merged_report_can_be_merged_again() {
    let [one, two, three] = shards();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().to_str().expect("UTF-8");
    check(&["report", &one, &two, "--out", out], 1, &["shard 1/3", "shard 3/3"]);
    let half = dir.path().join("report.json");
    let again = json(&["report", half.to_str().expect("UTF-8"), &three, "--format", "json"], 1);
    assert_eq!(without_speed(again), without_speed(read(&results().join("sweep.json"))));
}

#[test]
fn every_crash_of_a_sweep_is_in_its_picture() {
    let report = json(&["sweep", "--count", "40", "--format", "json"], 0);
    for row in report["scenarios"].as_array().expect("a list") {
        let cells = row["coverage"].as_array().expect("a list");
        let total: u64 = cells.iter().map(|cell| cell["count"].as_u64().expect("a count")).sum();
        assert_eq!(Some(total), row["crashes"].as_u64(), "{row:#}");
        assert!(cells.iter().all(|cell| cell["outcome"] != "violation"), "{row:#}");
    }
}

#[test]
fn a_violation_is_in_the_picture_of_a_wrong_subject() {
    let whole = read(&results().join("sweep.json"));
    let row = &whole["scenarios"][0];
    let convicted = row["coverage"].as_array().expect("a list").iter();
    let convicted = convicted.filter(|cell| cell["outcome"] == "violation");
    let seeds: u64 = convicted.map(|cell| cell["count"].as_u64().expect("a count")).sum();
    assert!(seeds > 0 && Some(seeds) <= row["violations"].as_u64(), "at most one a seed: {row:#}");
}

#[test]
fn results_that_overlap_are_refused_and_the_seed_is_named() {
    let (whole, one) = (file("sweep.json"), file("sweep-2-of-3.json"));
    check(
        &["report", &whole, &one],
        2,
        &["sweep.json", "sweep-2-of-3.json", "seed 1 of single", "leave one"],
    );
    check(&["report", &one, &one], 2, &["overlap", "seed 1 of single"]);
    // Every sixth seed from 3 on and every third from 2 on never meet; from 4 on they do, at 4.
    let range = |first: u64| {
        changed("sweep-2-of-3.json", move |results| {
            for row in results["scenarios"].as_array_mut().expect("a list") {
                row["first"] = first.into();
                row["end"] = (first + 180).into();
                row["shard"] = "1/6".into();
            }
        })
    };
    let (_kept, apart) = range(3);
    check(&["report", &one, apart.to_str().expect("UTF-8")], 1, &["3..183 shard 1/6"]);
    let (_kept, meeting) = range(4);
    check(&["report", &one, meeting.to_str().expect("UTF-8")], 2, &["seed 4 of single"]);
}

#[test]
fn a_report_without_data_is_wrong_usage() {
    check(&["report"], 2, &["needs results", "--out DIR"]);
    let empty = |results: &mut Value| {
        for row in results["scenarios"].as_array_mut().expect("a list") {
            for count in ["seeds", "entries", "crashes", "violations"] {
                row[count] = 0.into();
            }
            row["coverage"] = Vec::<Value>::new().into();
            row["findings"] = Vec::<Value>::new().into();
        }
    };
    check_changed(empty, 2, &["no seed was run"]);
    check_changed(|results| results["scenarios"] = Vec::<Value>::new().into(), 2, &["no seed was run"]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().to_str().expect("UTF-8");
    check(
        &["sweep", "--scenario", "single", "--count", "2", "--shard", "3/3", "--out", out],
        0,
        &["0 seeds"],
    );
    let path = dir.path().join("sweep-3-of-3.json");
    check(&["report", path.to_str().expect("UTF-8")], 2, &["no seed was run in any", "fewer shards"]);
}

#[test]
fn what_is_no_result_is_refused_by_name() {
    check(&["report", "no-such-file.json"], 3, &["no-such-file.json", "cannot be read"]);
    check_changed(|results| results["version"] = 99.into(), 3, &["version 99", "newer build"]);
    check_changed(|results| results["version"] = Value::Null, 3, &["not the results of a sweep"]);
    check_changed(|results| results["command"] = "teeth".into(), 3, &["teeth", "--format json"]);
    check_changed(|results| results["scenarios"][0]["seeds"] = "many".into(), 3, &["not the results"]);
    check_changed(|results| results["scenarios"][0]["crashes"] = 1.into(), 3, &["contradict"]);
    check_changed(|results| results["scenarios"][0]["seeds"] = 1000.into(), 3, &["contradict"]);
    check_changed(|results| results["scenarios"][0]["shard"] = "4/3".into(), 3, &["contradict"]);
    let nowhere = |results: &mut Value| results["scenarios"][0]["coverage"][0]["point"] = "nowhere".into();
    check_changed(nowhere, 3, &["nowhere"]);
    let (_kept, other) = changed("sweep-1-of-3.json", |results| {
        results["scenarios"][0]["probes"]["new/probe"] = 1.into();
    });
    let other = other.to_str().expect("UTF-8");
    check(&["report", &file("sweep-2-of-3.json"), other], 3, &["different builds", "sweep-2-of-3.json"]);
}

#[test]
fn a_report_is_written_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("a/b");
    let path = out.to_str().expect("UTF-8");
    check(&["report", &file("sweep.json"), "--out", path], 1, &["VIOLATION"]);
    let mut names: Vec<_> =
        fs::read_dir(&out).expect("it was made").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["report.html", "report.json", "report.junit.xml", "report.md"]);
    let occupied = dir.path().join("c");
    fs::create_dir_all(occupied.join("report.md")).expect("a temporary directory");
    let occupied_path = occupied.to_str().expect("UTF-8");
    check(&["report", &file("sweep.json"), "--out", occupied_path], 3, &["report.md", "cannot be written"]);
    assert_eq!(fs::read_dir(&occupied).expect("it is there").count(), 1, "nothing was written");
    // Where no directory can be, nothing is run first.
    let no_dir = out.join("report.md/sub");
    let no_dir = no_dir.to_str().expect("UTF-8");
    for command in ["sweep", "prove"] {
        let output = check(&[command, "--out", no_dir], 3, &["report.md", "cannot be written"]);
        assert!(output.stdout.is_empty(), "it said so at once");
    }
}

#[test]
fn other_subjects_and_disks_stay_apart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().to_str().expect("UTF-8");
    check(&["sweep", "--scenario", "single", "--profile", "xfs", "--count", "20", "--out", out], 0, &["xfs"]);
    let xfs = dir.path().join("sweep.json");
    let xfs = xfs.to_str().expect("UTF-8");
    let [whole, merged] = ["sweep.json", "report.json"].map(|name| (file(name), dir.path().join(name)));
    check(&["report", xfs, &whole.0, "--out", out], 1, &["profile xfs", "subject as-merged, profile posix"]);
    let report = read(&merged.1);
    assert_eq!(report["command"], "report");
    assert_eq!(report["sweeps"].as_array().map(Vec::len), Some(2));
    let again = json(&["report", merged.1.to_str().expect("UTF-8"), "--format", "json"], 1);
    assert_eq!(again, report);
}

#[test]
fn a_trend_names_what_is_new_and_what_is_gone() {
    let finding = |results: &Value| {
        results["scenarios"][0]["findings"][0]["fingerprint"].as_str().expect("a name").to_owned()
    };
    let whole = file("sweep.json");
    let gone = finding(&read(Path::new(&whole)));
    let (_kept, now) = changed("sweep.json", |results| {
        results["scenarios"][0]["findings"][0]["fingerprint"] = "a/new/one".into();
        results["scenarios"][0]["probes"]["outcome/applied"] = 0.into();
    });
    let now = now.to_str().expect("UTF-8");
    let said = ["new  a/new/one", &format!("gone {gone}"), "never hit any more outcome/applied"];
    check(&["report", now, "--against", &whole], 1, &said);
    let report = json(&["report", now, "--against", &whole, "--format", "json"], 1);
    let row = &report["trend"]["scenarios"][0];
    assert_eq!(row["new_findings"][0], "a/new/one");
    assert_eq!(row["probes_fallen_to_zero"][0], "outcome/applied");
    assert_eq!(row["seeds"], serde_json::json!([90, 90]));
    check(&["report", now, "--against", "no-such-file.json"], 3, &["no-such-file.json"]);
}

#[test]
fn a_probe_or_a_knob_at_zero_counts_where_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().to_str().expect("UTF-8");
    check(&["sweep", "--scenario", "single", "--count", "60", "--out", out], 0, &["single"]);
    let path = dir.path().join("sweep.json");
    let mut results = read(&path);
    let hit = |results: &mut Value, hits: u64| {
        let probes = results["scenarios"][0]["probes"].as_object_mut().expect("names");
        probes.values_mut().for_each(|value| *value = hits.into());
        fs::write(dir.path().join("changed.json"), results.to_string()).expect("a temporary file");
    };
    let changed = dir.path().join("changed.json");
    let changed = changed.to_str().expect("UTF-8");
    hit(&mut results, 1);
    check(&["report", changed, "--all-probes"], 0, &["118/118"]);
    results["scenarios"][0]["probes"]["fault/enospc"] = 0.into();
    fs::write(changed, results.to_string()).expect("a temporary file");
    check(&["report", changed], 0, &["never hit: fault/enospc", "faults never delivered: disk error ENOSPC"]);
    check(&["report", changed, "--all-probes"], 1, &["faults never delivered: disk error ENOSPC"]);
    check(
        &["report", changed, "--all-probes", "--format", "junit"],
        1,
        &["every-fault-is-delivered", "ENOSPC"],
    );
}

#[test]
fn junit_names_every_invariant_and_fails_those_that_do_not_hold() {
    let output = check(&["report", &file("sweep.json"), "--format", "junit"], 1, &[]);
    let xml = text(&output.stdout);
    let suites = xml.matches("<testsuite ").count();
    assert_eq!(suites, 2, "{xml}");
    let whole = read(&results().join("sweep.json"));
    for row in whole["scenarios"].as_array().expect("a list") {
        for finding in row["findings"].as_array().expect("a list") {
            let line = finding["reproduce"].as_str().expect("a line");
            assert!(xml.contains(line), "{line} is not in {xml}");
        }
    }
    let cases = scenarios::invariants::INVARIANTS.iter().map(|invariant| invariant.name);
    for name in cases {
        let case = format!("<testcase name=\"{name}\"");
        assert_eq!(xml.matches(&case).count(), suites, "{name}");
    }
    let direct = ["sweep", "--scenario", "single", "--count", "5", "--format", "junit"];
    check(&direct, 0, &["<testsuites", "no-panic"]);
}

/// Times differ from run to run.
fn with_fixed_times(mut results: Value) -> Value {
    for number in ["seconds", "seeds_per_second_per_core"] {
        results[number] = 8.5.into();
    }
    for row in results["scenarios"].as_array_mut().expect("a list") {
        for number in ["seconds", "core_seconds", "seeds_per_second_per_core"] {
            row[number] = 4.25.into();
        }
    }
    results["jobs"] = 2.into();
    results
}

#[test]
fn text_and_markdown_of_a_small_report_are_pinned() {
    let (_kept, path) = changed("sweep.json", |results| *results = with_fixed_times(results.clone()));
    let path = path.to_str().expect("UTF-8");
    insta::assert_snapshot!("report_text", text(&check(&["report", path], 1, &[]).stdout));
    let markdown = check(&["report", path, "--format", "md"], 1, &[]);
    insta::assert_snapshot!("report_markdown", text(&markdown.stdout));
}

#[test]
fn the_page_needs_no_network_and_has_every_finding() {
    let page = text(&check(&["report", &file("sweep.json"), "--format", "html"], 1, &[]).stdout);
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let whole = read(&results().join("sweep.json"));
    for finding in whole["scenarios"][0]["findings"].as_array().expect("a list") {
        for field in ["fingerprint", "reproduce"] {
            let text = finding[field].as_str().expect("a text");
            assert!(page.contains(text), "{text}");
        }
    }
}
