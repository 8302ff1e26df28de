//! How the command line behaves where people and CI systems meet it: help, completions, manual pages, interrupts.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use crate::command::{check, json, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const COMMANDS: [&str; 6] = ["sweep", "report", "prove", "replay", "seeds", "teeth"];

#[test]
fn the_help_of_every_command_has_examples() {
    for command in COMMANDS.into_iter().chain(["completions", "man"]) {
        let example = format!("cargo sim {command}");
        check(&[command, "--help"], 0, &["Examples:", &example]);
    }
    check(&["--help"], 0, &COMMANDS);
}

#[test]
fn completions_know_commands_options_and_names() {
    for shell in ["bash", "zsh", "fish"] {
        check(&["completions", shell], 0, &["sweep", "all-probes", "ext4-ordered"]);
    }
    for shell in ["elvish", "powershell"] {
        check(&["completions", shell], 0, &["sweep", "all-probes"]);
    }
    check(&["completions", "nope"], 2, &["nope", "bash"]);
}

#[test]
fn every_command_has_its_manual_page() {
    check(&["man"], 0, &[".TH cargo-sim 1", "cargo sim report"]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("man");
    check(&["man", "--out", out.to_str().expect("UTF-8")], 0, &[]);
    for command in COMMANDS {
        let page = fs::read_to_string(out.join(format!("cargo-sim-{command}.1"))).expect("it was written");
        assert!(page.contains("Examples:") && page.contains(".SH OPTIONS"), "{page}");
    }
    let file = out.join("cargo-sim.1/sub");
    check(&["man", "--out", file.to_str().expect("UTF-8")], 3, &["cannot be written"]);
}

#[test]
fn every_format_of_a_sweep_is_for_someone() {
    let sweep = ["sweep", "--scenario", "reject", "--count", "3", "--format"];
    let object = json(&[sweep.as_slice(), &["json"]].concat(), 0);
    assert_eq!(object["scenarios"][0]["shard"], "1/1");
    check(
        &[sweep.as_slice(), &["junit"]].concat(),
        0,
        &["<?xml", "reject (subject hardened, profile posix)"],
    );
    check(&[sweep.as_slice(), &["text"]].concat(), 0, &["0 seeds with a violation"]);
}

#[test]
fn nothing_is_coloured_and_no_progress_is_drawn_where_there_is_no_terminal() {
    let output = check(&["sweep", "--scenario", "single", "--subject", "as-merged", "--count", "40"], 1, &[]);
    assert!(!output.stdout.contains(&0x1b), "{}", text(&output.stdout));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

/// A command that would go on for hours, and has begun its work: what the applier logs comes from the middle of it.
fn begun(args: &[&str]) -> (Child, thread::JoinHandle<()>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_scenarios"))
        .args(args)
        .env("RUST_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a line");
    assert!(!line.is_empty(), "it has ended");
    // Whoever stops reading would stop it.
    #[expect(clippy::disallowed_methods, reason = "it drains a pipe; no run sees it")]
    let drain = thread::spawn(move || {
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    });
    (child, drain)
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // It may be gone already.
    let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
}

/// Interrupts a command once, and reads what it prints.
fn interrupted(args: &[&str]) -> (ExitStatus, Value) {
    let (mut child, drain) = begun(args);
    interrupt(&child);
    let mut printed = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut printed).expect("UTF-8");
    let status = child.wait().expect("it ends");
    drain.join().expect("it reads");
    assert_eq!(printed.lines().count(), 1, "exactly one object: {printed}");
    (status, serde_json::from_str(&printed).expect("JSON"))
}

const ENDLESS: [&str; 6] = ["sweep", "--scenario", "single", "--count", "1000000000", "--format=json"];

#[test]
fn an_interrupted_sweep_prints_what_it_has_and_says_that_it_is_partial() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().to_str().expect("UTF-8");
    let (status, report) = interrupted(&[ENDLESS.as_slice(), &["--out", out]].concat());
    assert_eq!(status.code(), Some(130), "nothing was found, and it was not for want of seeds");
    assert_eq!(report["partial"], true);
    assert!(report["scenarios"][0]["seeds"].as_u64() < Some(1_000_000_000), "{report:#}");
    let kept = fs::read_to_string(dir.path().join("sweep.json")).expect("it was written");
    assert_eq!(serde_json::from_str::<Value>(&kept).expect("JSON"), report);
}

#[test]
fn an_interrupted_proof_is_not_complete() {
    let (status, report) = interrupted(&["prove", "--all-logs", "4", "--format", "json"]);
    assert_eq!((status.code(), &report["complete"]), (Some(130), &Value::Bool(false)));
}

#[test]
fn interrupted_teeth_are_partial_and_what_was_not_tried_is_not_caught() {
    let (status, report) = interrupted(&["teeth", "--format", "json"]);
    assert_eq!((status.code(), &report["partial"]), (Some(1), &Value::Bool(true)));
}

#[test]
fn a_second_interrupt_ends_a_command_at_once() {
    let (mut child, drain) = begun(&["sweep", "--scenario", "cluster", "--count", "1000000000"]);
    let status = loop {
        interrupt(&child);
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
        thread::yield_now();
    };
    drain.join().expect("it reads");
    assert_eq!(status.code(), Some(130));
}
