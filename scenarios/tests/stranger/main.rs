//! The path of somebody who has just cloned this, as the README tells it: every command of its transcript is run in a copy of the
//! workspace, and has to print what stands there.

#[path = "../common/root.rs"]
mod root;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use root::root;
use snapbox::assert_data_eq;

const HEADING: &str = "## A red run, from seed to fix";
const PATCH: &str = "scenarios/tests/stranger/no-sync.patch";

/// A command of the transcript and what it prints, where a line `...` stands for any number of lines.
struct Step {
    command: String,
    prints: String,
}

fn transcript() -> Vec<Step> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let (_, section) = readme.split_once(HEADING).expect("the README has this section");
    let section = section.split("\n## ").next().expect("a section");
    let blocks = section.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), prints: String::new() }),
            (None, Some(step)) => step.prints.extend([line, "\n"]),
            (None, None) => panic!("a transcript begins with a command, not with {line}"),
        }
    }
    steps
}

/// Runs it as a shell does, and gives everything that it prints.
fn run(command: &str, dir: &Path) -> (Option<i32>, String) {
    let output = Command::new("bash")
        .args(["-c", &format!("{{ {command}\n}} 2>&1")])
        .current_dir(dir)
        // What the outer cargo says of this package would be taken for the copy's.
        .env("CARGO_TARGET_DIR", dir.join("target"))
        // Minutes a link, of which this test has three.
        .envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")])
        .env_remove("RUSTFLAGS")
        .output()
        .expect("there is bash");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// The files that git knows, and what `cargo build` made of an earlier copy.
fn copy_of_the_workspace() -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git");
    assert!(listed.status.success(), "this is a checkout");
    for name in String::from_utf8(listed.stdout).expect("UTF-8").split_terminator('\0') {
        let (from, to) = (root().join(name), copy.join(name));
        let Ok(content) = fs::read(&from) else { continue };
        // A file that was not changed keeps its time, and is not compiled again.
        if fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory of the copy");
        fs::write(&to, content).expect("a file of the copy");
    }
    copy
}

#[test]
fn the_patch_of_the_transcript_deletes_one_line_that_is_there() {
    assert!(transcript().iter().any(|step| step.command.contains(PATCH)), "the transcript names the patch");
    let patch = fs::read_to_string(root().join(PATCH)).expect("the patch");
    let is_change =
        |line: &&str| line.starts_with(['-', '+']) && !(line.starts_with("---") || line.starts_with("+++"));
    let changes: Vec<&str> = patch.lines().filter(is_change).collect();
    assert!(matches!(changes[..], [line] if line.starts_with('-')), "{changes:?}");
    let checked = Command::new("git").args(["apply", "--check", PATCH]).current_dir(root()).output();
    let checked = checked.expect("git");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// Compiles the workspace three times, so it has a script of its own, `.ci/stranger`.
#[test]
#[ignore = "compiles the workspace three times; `.ci/stranger` runs it"]
fn the_transcript_of_the_readme_is_what_a_stranger_sees() {
    let copy = copy_of_the_workspace();
    let (status, said) = run("git init --quiet && rm -rf target/found", &copy);
    assert_eq!(status, Some(0), "{said}");
    let steps = transcript();
    assert!(steps.len() >= 6, "sweep, break, sweep, replay, shrink, fix");
    for Step { command, prints } in steps {
        let (status, said) = run(&command, &copy);
        // 1 is a finding; 2 and 3 would be a command that cannot be run.
        assert!(matches!(status, Some(0 | 1)), "{command}: {status:?}\n{said}");
        // Columns are filled up with spaces.
        let said: String = said.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
        assert_data_eq!(said, prints);
    }
}
