//! What goes to a fuzzer, and what comes back from one.

use std::fs;
use std::path::Path;

use crate::command::{check, json};
use crate::corpus;

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The corpus as bytes for a world, in a directory of their own.
fn bytes_for(scenario: &str, options: &[&str]) -> (tempfile::TempDir, serde_json::Value) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (seeds, out) = (corpus(), dir.path().join("bytes"));
    let args =
        ["seeds", "--dir", utf8(&seeds), "--bytes", utf8(&out), "--scenario", scenario, "--format", "json"];
    let report = json(&[&args[..], options].concat(), 0);
    (dir, report)
}

#[test]
fn a_fuzzers_artifact_becomes_a_seed_file_that_finds_the_same() {
    let (dir, _) = bytes_for("single", &["--subject", "as-merged"]);
    let artifact = dir.path().join("bytes/start-loads-no-keys");
    let kept = dir.path().join("kept.toml");
    let replay = ["replay", utf8(&artifact), "--bytes", "--scenario", "single", "--subject", "as-merged"];
    let save = [&replay[..], &["--save", utf8(&kept), "--shows", "what a fuzzer found"]].concat();
    let again =
        format!("cargo sim replay {} --bytes --scenario single --subject as-merged", artifact.display());
    check(&save, 1, &["VIOLATION", &again]);
    let text = fs::read_to_string(&kept).expect("it was written");
    assert!(text.contains("tape = ") && !text.contains("expect = []"), "{text}");
    check(&["replay", utf8(&kept), "--strict"], 1, &["same finding"]);
    check(&save, 3, &[utf8(&kept), "exists"]);
    let clean = ["replay", utf8(&artifact), "--bytes"];
    check(&clean, 0, &["subject hardened"]);
}

#[test]
fn bytes_that_cannot_be_read_are_wrong_usage_and_leave_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (missing, kept) = (dir.path().join("17"), dir.path().join("kept.toml"));
    for path in [&missing, dir.path()] {
        let args = ["replay", utf8(path), "--bytes", "--save", utf8(&kept), "--shows", "nothing"];
        check(&args, 2, &[utf8(path), "cannot be read", "--bytes"]);
    }
    assert!(!kept.exists());
    fs::write(&missing, [1, 2, 3]).expect("a file");
    check(&["replay", utf8(&missing), "--bytes"], 0, &["entries applied"]);
    check(&["replay", utf8(&missing), "--bytes", "--strict"], 2, &["--strict", "bytes"]);
    check(&["replay", utf8(&missing), "--bytes", "--scenario", "nope"], 2, &["nope", "cluster"]);
    let wrong = ["--subject", "leader-does-not-probe", "--scenario", "single"];
    check(&[&["replay", utf8(&missing), "--bytes"], &wrong[..]].concat(), 2, &["single cannot show"]);
}

#[test]
fn the_corpus_and_the_first_seeds_become_bytes_for_a_fuzzer() {
    let (dir, report) = bytes_for("single", &["--count", "2"]);
    let files = report["files"].as_array().expect("names");
    assert_eq!(files.len(), fs::read_dir(dir.path().join("bytes")).expect("it was made").count());
    assert!(files.contains(&"start-loads-no-keys".into()) && files.contains(&"seed-1".into()), "{report}");
    let seed = json(&["replay", "1", "--scenario", "single", "--format", "json"], 0);
    let bytes = dir.path().join("bytes/seed-1");
    let bytes = json(&["replay", utf8(&bytes), "--bytes", "--scenario", "single", "--format", "json"], 0);
    assert_eq!(bytes["trace_hash"], seed["trace_hash"]);
}

#[test]
fn what_has_no_tape_gives_no_bytes_and_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (seeds, out) = (dir.path().join("seeds"), dir.path().join("bytes"));
    fs::create_dir(&seeds).expect("a directory");
    let name = "start-loads-no-keys.toml";
    fs::copy(corpus().join(name), seeds.join(name)).expect("a seed file");
    let to = ["seeds", "--dir", utf8(&seeds), "--bytes", utf8(&out)];
    check(&[&to[..], &["--scenario", "reject"]].concat(), 2, &["no tape of reject", "--count"]);
    assert!(!out.exists());
    check(&[&to[..], &["--check"]].concat(), 2, &["--check"]);
    check(&["seeds", "--count", "3"], 2, &["--bytes"]);
    check(&["seeds", "--dir", utf8(&seeds), "--subject", "as-merged"], 2, &["--bytes"]);
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let below = file.join("bytes");
    check(&["seeds", "--dir", utf8(&seeds), "--bytes", utf8(&below)], 3, &["cannot be written"]);
}
