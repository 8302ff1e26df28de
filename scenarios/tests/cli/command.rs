//! The command line, run as its users and their scripts run it.

use std::process::{Command, Output};

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it, and holds exit status and everything that was printed against what is expected.
pub(crate) fn check(args: &[&str], status: i32, said: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_scenarios")).args(args).output().expect("the binary runs");
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{args:?}: {all}");
    for word in said {
        assert!(all.contains(word), "{args:?} does not say {word:?}: {all}");
    }
    output
}

/// Runs it, and reads the one object that it prints.
pub(crate) fn json(args: &[&str], status: i32) -> serde_json::Value {
    let text = text(&check(args, status, &[]).stdout);
    assert_eq!(text.lines().count(), 1, "exactly one object");
    serde_json::from_str(&text).expect("JSON")
}
