//! What fuzzers have found worth keeping is put to the same checks by every test run, and what they are given is what it claims
//! to be.

#[path = "common/root.rs"]
mod root;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use root::root;
use scenarios::fuzzing::{TARGETS, World, corpus};
use scenarios::run::{Keep, Source, run};
use scenarios::seeds::Case;
use scenarios::subject::Subject;
use scenarios::world::{Scenario, Setup};
use sim::Tape;

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

fn targets() -> BTreeSet<String> {
    TARGETS.iter().map(|target| target.name.to_owned()).collect()
}

#[test]
fn every_file_of_every_corpus_passes_its_check() {
    let corpora = root().join("fuzz/corpus");
    let mut failed = Vec::new();
    for target in TARGETS {
        let dir = corpora.join(target.name);
        let files = names_in(&dir);
        assert!(!files.is_empty(), "the corpus of {} is empty", target.name);
        for file in files {
            let data = fs::read(dir.join(&file)).expect("a file of the corpus");
            if catch_unwind(|| (target.check)(&data)).is_err() {
                failed.push(format!("fuzz/corpus/{}/{file}", target.name));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn corpora_are_small_and_belong_to_a_target() {
    let corpora = root().join("fuzz/corpus");
    assert_eq!(names_in(&corpora), targets());
    let size = |path: PathBuf| fs::metadata(path).expect("a file of the corpus").len();
    for target in targets() {
        let dir = corpora.join(&target);
        let files = names_in(&dir);
        let bytes: u64 = files.iter().map(|file| size(dir.join(file))).sum();
        assert!(files.len() <= 100 && bytes <= 250_000, "{target}: {} files, {bytes} bytes", files.len());
    }
}

#[test]
fn the_fuzzer_has_a_binary_for_each_target_of_the_table_and_no_other() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("the manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let binaries = manifest["bin"].as_array().expect("binaries");
    let named = binaries.iter().map(|binary| binary["name"].as_str().expect("a name").to_owned());
    assert_eq!(named.collect::<BTreeSet<_>>(), targets());
    for binary in binaries {
        let (name, path) =
            (binary["name"].as_str().expect("a name"), binary["path"].as_str().expect("a path"));
        let source = fs::read_to_string(root().join("fuzz").join(path)).expect("its source");
        assert!(source.contains(&format!("fuzzing::check(\"{name}\", data)")), "{path} is not of {name}");
    }
}

/// Bytes of a tape draw what the tape draws.
fn check_round_trip(setup: Setup, tape: &Tape, what: &str) {
    let replayed = run(setup, Source::Tape(tape.clone()), Keep::Nothing).expect("its own tape fits");
    let fuzzed = run(setup, Source::Bytes(tape.to_bytes()), Keep::Nothing).expect("bytes always fit");
    assert_eq!(fuzzed.trace_hash, replayed.trace_hash, "{what}");
    assert_eq!(fuzzed.tape, replayed.tape, "{what}");
}

#[test]
fn the_bytes_of_a_seeds_tape_run_to_the_same_trace() {
    for scenario in Scenario::ALL {
        for subject in [Subject::Hardened, Subject::AsMerged] {
            let setup = Setup { scenario, ..World::SINGLE.setup(subject) };
            for seed in 0..if scenario == Scenario::Cluster { 3 } else { 20 } {
                let tape = run(setup, Source::Seed(seed), Keep::Nothing).expect("a seed always fits").tape;
                check_round_trip(setup, &tape, &format!("{scenario} {subject} {seed}"));
            }
        }
    }
}

fn kept() -> Vec<Case> {
    Case::read_all(&root().join("seeds")).expect("every file of the corpus can be read")
}

#[test]
fn the_bytes_of_every_kept_finding_run_to_the_same_trace() {
    for case in kept() {
        let tape = case.replay(false, Keep::Nothing).expect("it is followed as far as it fits").checked.tape;
        check_round_trip(case.setup, &tape, &case.name);
    }
}

#[test]
fn a_corpus_of_tapes_has_the_kept_findings_of_its_scenario_and_the_first_seeds() {
    let cases = kept();
    for world in World::ALL {
        let setup = world.setup(Subject::Hardened);
        let made = corpus::of_tapes(setup, &cases, 2).expect("tapes always fit loosely");
        let of_the_scenario = cases.iter().filter(|case| case.setup.scenario == world.scenario);
        let mut expected: Vec<String> = of_the_scenario.map(|case| case.name.clone()).collect();
        assert!(expected.len() > 1, "{}", world.name);
        expected.extend(["seed-0".to_owned(), "seed-1".to_owned()]);
        assert_eq!(made.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
        let (_, of_seed_1) = made.last().expect("there are some");
        let seeded = run(setup, Source::Seed(1), Keep::Nothing).expect("a seed always fits");
        assert_eq!(world.judge(of_seed_1, Subject::Hardened).checked.trace_hash, seeded.trace_hash);
    }
}

/// A finding says what it is, and how it is kept.
#[test]
fn a_world_that_finds_something_says_how_to_keep_it() {
    let world = World::SINGLE;
    let setup = world.setup(Subject::AsMerged);
    let found = (0..200).find_map(|seed| {
        let checked = run(setup, Source::Seed(seed), Keep::Nothing).expect("a seed always fits");
        (!checked.violations.is_empty()).then_some(checked)
    });
    let found = found.expect("it is known to be wrong");
    let report = world.judge(&found.tape.to_bytes(), Subject::AsMerged).report();
    for violation in &found.violations {
        assert!(report.contains(&violation.fingerprint), "{report}");
    }
    let command =
        "cargo sim replay FILE --bytes --scenario single --subject as-merged --save seeds/NAME.toml";
    assert!(report.contains(command), "{report}");
}
