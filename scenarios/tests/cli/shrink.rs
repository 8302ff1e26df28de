//! `cargo sim shrink` as its users and their scripts meet it.

use std::fs;
use std::path::Path;

use crate::command::{check, json, text};
use tempfile::TempDir;

const SETUP: [&str; 4] = ["--scenario", "single", "--subject", "as-merged"];
/// What seed 2 of that shows first.
const FINGERPRINT: &str = "created-is-set-once/changed/sidecar";

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

fn path(dir: &Path) -> &str {
    dir.to_str().expect("UTF-8")
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Seed 2, shrunk into a directory of its own.
fn shrunk() -> (TempDir, serde_json::Value) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let args = ["shrink", "2", "--fingerprint", FINGERPRINT, "--format", "json", "--out", path(dir.path())];
    let report = json(&with(&args, &SETUP), 1);
    (dir, report)
}

#[test]
fn a_shrunk_seed_is_kept_in_a_file_that_shows_the_same_finding() {
    let (dir, report) = shrunk();
    assert_eq!(report["command"], "shrink");
    assert_eq!(report["partial"], false);
    let row = &report["rows"][0];
    assert_eq!(
        (&row["fingerprint"], &row["state"], &row["seed"]),
        (&FINGERPRINT.into(), &"minimal".into(), &2.into())
    );
    assert!(
        row["after"]["entries"].as_u64() <= Some(4) && row["after"]["crashes"].as_u64() <= Some(1),
        "{row:#}"
    );
    assert!(row["after"]["draws"].as_u64() < row["before"]["draws"].as_u64(), "{row:#}");
    assert_eq!(files(dir.path()), ["single-as-merged-created-is-set-once-changed-sidecar.toml"]);
    let file = dir.path().join(&files(dir.path())[0]);
    let kept = fs::read_to_string(&file).expect("the file");
    assert!(kept.contains("version = 2") && kept.contains("minimal = true"), "{kept}");
    assert!(kept.contains("found = \"single seed 2\""), "{kept}");
    assert!(kept.contains(&format!("command = \"cargo sim replay {}\"", file.display())), "{kept}");
    let replayed = json(&["replay", path(&file), "--format", "json"], 1);
    let findings = replayed["findings"].as_array().expect("a list");
    assert!(findings.iter().any(|found| found["fingerprint"] == FINGERPRINT), "{replayed:#}");
    let state = dir.path().join("state");
    check(&["seeds", "--check", "--dir", path(dir.path()), "--out", path(&state)], 0, &["same finding"]);
}

#[test]
fn neither_jobs_nor_a_second_go_change_the_result() {
    let (one, _) = shrunk();
    let file = one.path().join(&files(one.path())[0]);
    let before = fs::read_to_string(&file).expect("the file");
    let other = tempfile::tempdir().expect("a temporary directory");
    let args = ["shrink", "2", "--fingerprint", FINGERPRINT, "--jobs", "1", "--out", path(other.path())];
    check(&with(&args, &SETUP), 1, &["nothing smaller shows it"]);
    let again = fs::read_to_string(other.path().join(&files(other.path())[0])).expect("the file");
    let tape = |text: &str| text.split("tape = ").nth(1).map(str::to_owned);
    assert_eq!(tape(&before), tape(&again));
    check(&["shrink", path(&file)], 1, &["left as it was"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), before);
}

#[test]
fn a_seed_file_is_gone_on_from_and_replaced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("case.toml");
    let args = ["replay", "2", "--save", path(&file), "--shows", "creation times change"];
    check(&with(&args, &SETUP), 1, &[]);
    let before = fs::read_to_string(&file).expect("the file");
    // The budget is over at once, or nearly so; what it has by then is kept, and gone on from.
    check(
        &["shrink", path(&file), "--fingerprint", FINGERPRINT, "--budget", "1ms"],
        1,
        &["not at its minimum"],
    );
    let cut = fs::read_to_string(&file).expect("the file");
    assert!(cut.contains("minimal = false") && cut.contains("creation times change"), "{cut}");
    check(&["shrink", path(&file), "--fingerprint", FINGERPRINT], 1, &["nothing smaller shows it"]);
    let done = fs::read_to_string(&file).expect("the file");
    assert!(done.contains("minimal = true") && done.len() < before.len(), "{done}");
    assert_eq!(files(dir.path()), ["case.toml"], "nothing else was written");
    check(&["replay", path(&file)], 1, &[FINGERPRINT]);
}

#[test]
fn every_finding_of_a_sweep_is_shrunk_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sweep =
        ["sweep", "--subject", "as-merged", "--scenario", "single", "--seeds", "2..3", "--format", "json"];
    let sweep = check(&sweep, 1, &[]);
    let listed: serde_json::Value = serde_json::from_slice(&sweep.stdout).expect("JSON");
    let listed = listed["scenarios"][0]["findings"].as_array().expect("a list").len();
    let file = dir.path().join("sweep.json");
    fs::write(&file, &sweep.stdout).expect("a temporary file");
    let found = dir.path().join("found");
    let args = ["shrink", path(&file), "--out", path(&found)];
    check(&args, 1, &["entries", "medians", &format!("{listed} findings")]);
    assert_eq!(files(&found).len(), listed);
    let report = json(&with(&args, &["--format", "json"]), 1);
    let rows = report["rows"].as_array().expect("a list");
    assert!(rows.iter().all(|row| row["state"] == "kept-already"), "{report:#}");
    assert_eq!(files(&found).len(), listed);
}

#[test]
fn a_seed_that_shows_nothing_is_nothing_to_shrink() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    check(&["shrink", "2", "--scenario", "single", "--out", path(dir.path())], 0, &["seed 2 shows nothing"]);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_cannot_be_shrunk_is_wrong_usage_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = ["--out", path(dir.path())];
    let seed = with(&["shrink", "2"], &with(&SETUP, &out));
    check(&with(&seed, &["--budget", "0s"]), 2, &["0s", "90s"]);
    check(&with(&seed, &["--jobs", "0"]), 2, &["0"]);
    check(&with(&seed, &["--fingerprint", "nope"]), 2, &["single seed 2", FINGERPRINT, "--fingerprint"]);
    check(&with(&seed, &["--name", "a/b"]), 2, &["--name", "--out"]);
    check(&["shrink", "no-such-file"], 2, &["no-such-file", "seed", "sweep"]);
    let clash = ["shrink", "1", "--subject", "leader-does-not-probe", "--scenario", "single"];
    check(&with(&clash, &out), 2, &["single cannot show"]);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_file_that_cannot_be_used_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("case");
    let bad = [
        ("version = 9\n", "version 9"),
        ("{\"command\":\"sweep\"", "not the results of a sweep"),
        ("{\"command\":\"prove\",\"version\":1,\"subject\":\"\",\"profile\":\"\",\"scenarios\":[]}", "prove"),
        ("", "not a whole seed file"),
    ];
    for (content, said) in bad {
        fs::write(&file, content).expect("a temporary file");
        check(&["shrink", path(&file)], 3, &[said]);
        assert_eq!(fs::read_to_string(&file).expect("still there"), content);
    }
    check(&["shrink", path(&file), "--subject", "as-merged"], 2, &["leave scenario"]);
    assert_eq!(files(dir.path()), ["case"]);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_noticed_before_the_work() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("a temporary file");
    let below = file.join("below");
    // Noticed at once: with this budget the search itself would take until tomorrow.
    let args = ["shrink", "2", "--budget", "1d", "--out", path(&below)];
    let output = check(&with(&args, &SETUP), 3, &["cannot be written to", "--out"]);
    assert!(text(&output.stdout).is_empty(), "nothing was shrunk");
    assert_eq!(files(dir.path()), ["file"]);
}

#[test]
fn a_file_of_the_same_name_is_not_replaced() {
    let (dir, _) = shrunk();
    let args = ["shrink", "2", "--fingerprint", FINGERPRINT, "--out", path(dir.path())];
    check(&with(&args, &SETUP), 2, &["keeps this finding already", "cargo sim shrink", "--name"]);
    check(&with(&with(&args, &SETUP), &["--name", "another"]), 1, &["another.toml"]);
    assert_eq!(files(dir.path()).len(), 2);
    check(&with(&with(&args, &SETUP), &["--name", "another"]), 2, &["another.toml"]);
}
