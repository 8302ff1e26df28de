//! `cargo sim prove` as its users and their scripts meet it.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::command::{check, json, text};
use serde_json::Value;

/// The quickest proof there is.
const QUICK: [&str; 5] = ["prove", "--log", "first-bootstrap", "--errors", "none"];

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [QUICK.as_slice(), more].concat()
}

/// A certificate of the quickest proof, made once.
fn certificate() -> &'static Value {
    static CERTIFICATE: OnceLock<Value> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        check(&quick(&["--out", dir.path().to_str().expect("UTF-8")]), 0, &["complete"]);
        let path = dir.path().join("certificate.json");
        serde_json::from_str(&fs::read_to_string(path).expect("it was written")).expect("JSON")
    })
}

/// Writes what may be a certificate, and has it verified.
fn check_certificate(text: &str, more: &[&str], status: i32, said: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path: PathBuf = dir.path().join("case.json");
    fs::write(&path, text).expect("a temporary file");
    let args = [&["prove", "--verify", path.to_str().expect("UTF-8")], more].concat();
    check(&args, status, &[said, &["case.json"]].concat());
    assert_eq!(fs::read_to_string(&path).expect("still there"), text);
}

/// Has a certificate verified in which one value is another.
fn check_changed(place: &str, change: impl FnOnce(&Value) -> Value, said: &str) {
    let mut changed = certificate().clone();
    let value = changed.pointer_mut(place).unwrap_or_else(|| panic!("no {place} in {:#}", certificate()));
    let other = change(value);
    assert_ne!(*value, other, "{place}");
    *value = other;
    check_certificate(&changed.to_string(), &[], 3, &["NOT verified", said]);
}

fn one_more(count: &Value) -> Value {
    (count.as_u64().expect("a count") + 1).into()
}

fn flipped(value: &Value) -> Value {
    (!value.as_bool().expect("true or false")).into()
}

#[test]
fn the_report_is_one_object_of_the_documented_shape() {
    let report = json(&quick(&["--format", "json"]), 0);
    assert_eq!(report["command"], "prove");
    assert_eq!((&report["subject"], &report["profile"]), (&"hardened".into(), &"posix".into()));
    assert_eq!((&report["complete"], &report["violations"]), (&true.into(), &0.into()));
    for number in ["seconds", "states_per_second_per_core", "floor_states_per_second_per_core"] {
        assert!(report[number].as_f64().is_some_and(|number| number > 0.0), "{number}: {report:#}");
    }
    let proofs = report["proofs"].as_array().expect("a list");
    assert_eq!(proofs.len(), 1);
    let proof = &proofs[0];
    assert_eq!((&proof["scenario"], &proof["complete"]), (&"first-bootstrap".into(), &true.into()));
    assert!(proof["assumes"].as_array().is_some_and(|lines| lines.iter().all(Value::is_string)));
    let count = |name: &str| proof["states"][name].as_u64().unwrap_or_else(|| panic!("{name}: {proof:#}"));
    assert!(count("raw") >= count("distinct") && count("checked") > 0, "{proof:#}");
    let skipped = proof["states"]["skipped"].as_object().expect("reasons");
    assert!(skipped.values().all(|count| count.as_u64().is_some_and(|count| count > 0)), "{skipped:?}");
    assert!(proof["recovery_depth_max"].as_u64().is_some_and(|depth| depth > 0), "{proof:#}");
    assert!(proof["seconds"].is_f64() && proof["findings"].as_array().is_some_and(Vec::is_empty));
    let digest = proof["digest"].as_str().expect("hex");
    assert!(digest.len() == 16 && u64::from_str_radix(digest, 16).is_ok(), "{digest}");
}

#[test]
fn a_certificate_says_itself_what_is_to_be_verified() {
    let text = certificate().to_string();
    check_certificate(&text, &[], 0, &["first-bootstrap", "errors none", ": verified"]);
    let all = ["--log", "first-bootstrap", "--errors", "none", "--subject", "hardened", "--profile", "posix"];
    check_certificate(&text, &all, 0, &[": verified"]);
}

#[test]
fn a_certificate_of_all_logs_is_verified_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("made/for/it");
    let path = out.join("certificate.json");
    let path = path.to_str().expect("UTF-8");
    check(&["prove", "--all-logs", "1", "--out", out.to_str().expect("UTF-8")], 0, &["every log of up to 1"]);
    check(&["prove", "--verify", path, "--jobs", "1"], 0, &["every log of up to 1", "verified"]);
    check(&["prove", "--verify", path, "--all-logs", "2"], 2, &["--all-logs 1", "--all-logs 2"]);
    check(&["prove", "--verify", path, "--log", "mixed"], 2, &["--all-logs 1", "--log mixed"]);
}

#[test]
fn what_contradicts_a_certificate_is_wrong_usage() {
    let text = certificate().to_string();
    let cases: [(&[&str], &str); 6] = [
        (&["--subject", "as-merged"], "--subject hardened"),
        (&["--profile", "ext4-ordered"], "--profile posix"),
        (&["--errors", "fenced"], "--errors none"),
        (&["--lie", "skip-dir-sync"], "--lie none"),
        (&["--log", "mixed"], "--log first-bootstrap"),
        (&["--all-logs", "1"], "--log first-bootstrap"),
    ];
    for (asked, own) in cases {
        check_certificate(&text, asked, 2, &[own, &asked.join(" ")]);
    }
    check_certificate(&text, &["--log", "nope"], 2, &["nope", "first-bootstrap", "mixed"]);
}

#[test]
fn a_certificate_of_which_anything_was_changed_is_not_verified() {
    check_changed("/proofs/0/states/checked", one_more, "proofs[first-bootstrap].states.checked");
    let other_digit = |digest: &Value| {
        let digest = digest.as_str().expect("hex");
        let first = if digest.starts_with('0') { "1" } else { "0" };
        format!("{first}{}", &digest[1..]).into()
    };
    check_changed("/proofs/0/digest", other_digit, "proofs[first-bootstrap].digest");
    check_changed("/proofs/0/complete", flipped, "proofs[first-bootstrap].complete");
    check_changed("/complete", flipped, "complete: the certificate says false, this run true");
    check_changed("/proofs/0/assumes", |_| Vec::<String>::new().into(), "proofs[first-bootstrap].assumes");
    check_changed("/violations", one_more, "violations");
    // A proof about another subject, under a certificate that says nothing of it.
    check_changed("/subject", |_| "as-merged".into(), "digest");
}

#[test]
fn what_is_no_certificate_is_said_to_be_none() {
    let text = certificate().to_string();
    check_certificate(&text[..text.len() / 2], &[], 3, &["not a certificate"]);
    check_certificate("{}", &[], 3, &["not a certificate"]);
    for (place, other, said) in [
        ("/subject", "as-dreamt".into(), "as-dreamt"),
        ("/profile", "as-dreamt".into(), "as-dreamt"),
        ("/errors", "as-dreamt".into(), "as-dreamt"),
        ("/proofs/0/scenario", "as-dreamt".into(), "as-dreamt"),
        ("/proofs/0/scenario", "every log of up to 5".into(), "up to 5"),
        ("/proofs", Vec::<Value>::new().into(), "no log"),
    ] {
        let mut changed = certificate().clone();
        *changed.pointer_mut(place).expect("a field") = other;
        check_certificate(&changed.to_string(), &[], 3, &["not a certificate", said]);
    }
    check(&["prove", "--verify", "no-such-file.json"], 3, &["no-such-file.json", "cannot be read"]);
}

#[test]
fn a_certificate_that_cannot_be_written_is_said_before_the_work_and_loses_no_report_after_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let occupied = dir.path().join("certificate.json");
    let path = occupied.to_str().expect("UTF-8");
    fs::create_dir(&occupied).expect("a temporary directory");
    let out = dir.path().to_str().expect("UTF-8");
    let output = check(&quick(&["--format", "json", "--out", out]), 3, &[path, "cannot be written"]);
    let report: Value = serde_json::from_str(&text(&output.stdout)).expect("the report is whole");
    assert_eq!(report["proofs"][0]["digest"], certificate()["proofs"][0]["digest"]);
    assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 1, "nothing was written");
    fs::remove_dir(&occupied).expect("it is empty");
    fs::write(&occupied, "a file").expect("a temporary file");
    let output = check(&quick(&["--format", "json", "--out", path]), 3, &[path, "cannot be written"]);
    assert!(output.stdout.is_empty(), "nothing was run");
}

#[test]
fn wrong_usage_lists_what_is_known() {
    check(&["prove", "--log", "nope"], 2, &["nope", "first-bootstrap", "rotations", "mixed"]);
    check(&["prove", "--errors", "nope"], 2, &["nope", "none", "fenced", "unfenced"]);
    check(&["prove", "--all-logs", "0"], 2, &["0"]);
    check(&["prove", "--all-logs", "5"], 2, &["5"]);
    check(&["prove", "--all-logs", "1", "--log", "mixed"], 2, &["--log"]);
}

#[test]
fn a_time_limit_ends_a_proof_incomplete() {
    let report = json(&["prove", "--log", "mixed", "--time-limit", "1ms", "--format", "json"], 0);
    assert_eq!((&report["complete"], &report["proofs"][0]["complete"]), (&false.into(), &false.into()));
    check(&["prove", "--log", "mixed", "--time-limit", "1ms"], 0, &["NOT complete"]);
}

#[test]
fn a_violation_is_printed_with_the_way_to_it_and_a_line_that_shows_it_again() {
    let red = quick(&["--subject", "as-merged"]);
    let printed = text(&check(&red, 1, &["VIOLATION", "an empty disk"]).stdout);
    let report = json(&[red.as_slice(), &["--format", "json"]].concat(), 1);
    let findings = report["proofs"][0]["findings"].as_array().expect("a list");
    assert_eq!(report["violations"], findings.len());
    for finding in findings {
        let field = |name: &str| finding[name].as_str().unwrap_or_else(|| panic!("{name}: {finding:#}"));
        assert!(field("fingerprint").starts_with(field("invariant")), "{finding:#}");
        assert!(printed.contains(&format!("VIOLATION  {}\n", field("fingerprint"))), "{printed}");
        let path = finding["path"].as_array().expect("a path");
        assert!(path.len() > 1 && finding["states_hit"].as_u64() > Some(0), "{finding:#}");
        for step in path {
            assert!(printed.contains(step.as_str().expect("a line")), "{step} is not in {printed}");
        }
    }
    let line = findings[0]["reproduce"].as_str().expect("a line");
    let again: Vec<&str> = line.strip_prefix("cargo sim ").expect("a command").split(' ').collect();
    check(&again, 1, &[findings[0]["fingerprint"].as_str().expect("a name")]);
}

#[test]
fn a_subject_whose_states_never_end_is_not_closed() {
    let args = ["prove", "--subject", "as-head", "--log", "first-bootstrap"];
    check(&args, 2, &["as-head", "never come to an end", "sweep"]);
}
