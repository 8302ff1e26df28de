//! Every finding ever made is still found, and what was fixed stays fixed.

#[path = "common/root.rs"]
mod root;

use std::path::Path;

use root::root;
use scenarios::run::{Keep, RunError};
use scenarios::seeds::{Answer, Case};

fn corpus() -> Vec<Case> {
    let dir = root().join("seeds");
    Case::read_all(&dir).expect("every file of the corpus can be read")
}

#[test]
fn every_seed_file_shows_what_it_was_kept_for() {
    let mut differing = Vec::new();
    let cases = corpus();
    assert!(!cases.is_empty(), "the corpus is never empty");
    for case in cases {
        match case.replay(false, Keep::Nothing) {
            Ok(replayed) if replayed.answer.is_as_expected() => {}
            Ok(replayed) => differing.push(format!("{}: {}", case.name, replayed.answer)),
            Err(error) => differing.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn every_seed_file_says_what_it_shows() {
    for case in corpus() {
        assert!(case.file.shows.len() > 20, "{} says nothing", case.name);
    }
}

/// Recorded by an older build of this project, which drew other things in another order.
#[test]
fn tapes_of_an_older_build_still_show_what_they_were_recorded_for() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older");
    let cases = Case::read_all(&dir).expect("they can be read");
    assert!(cases.len() > 10, "{}", cases.len());
    for case in cases {
        // In this one what comes after a refusal counts, and there are more kinds of refusals by now.
        let same = case.name != "failed-create-is-told-from-no-other-failure";
        let strict = case.replay(true, Keep::Nothing).expect_err("it was recorded by another build");
        let replayed = case.replay(false, Keep::Nothing).expect("it is followed as far as it fits");
        assert_eq!(replayed.answer == Answer::Same, same, "{}: {}", case.name, replayed.answer);
        let diverged = replayed.checked.diverged.expect("that is where strict replay gives up");
        assert_eq!(RunError::Mismatch(diverged), strict, "{}", case.name);
    }
}
