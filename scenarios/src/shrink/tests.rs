//! The search on a toy whose smallest runs are known.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use proptest::num::u64::BinarySearch;
use proptest::strategy::ValueTree;
use sim::{Choices, Site};

use super::*;
use crate::world::Limits;

const LENGTH: Site = Site::new("toy.length");
const CLASS: Site = Site::new("log.class");
const ARGUMENT: Site = Site::new("log.argument");
const CRASH: Site = Site::new("toy.crash");
const WEATHER: Site = Site::new("toy.weather");
const MESSAGE: Site = Site::new("net.message");

/// Shown by two entries with arguments, of which the second is larger and the first is at least 10.
const LARGER: &str = "larger";
/// Shown by one entry of another class: less than `LARGER` needs.
const CLASS_SEVEN: &str = "class seven";
/// Shown by two equal arguments over 20, where one of them was drawn after a crash.
const EQUAL: &str = "equal";

/// A log of up to 20 entries with arguments and crashes between them, and messages that mean nothing.
fn toy(attempt: &Attempt) -> (BTreeSet<&'static str>, Shown) {
    let mut choices = Choices::replayed_loosely(attempt.tape.clone());
    toy_with(&mut choices, attempt.limits.entries_max)
}

fn toy_with(choices: &mut Choices, entries_max: Option<u64>) -> (BTreeSet<&'static str>, Shown) {
    let mut found = BTreeSet::new();
    let length = 3 + choices.draw(LENGTH, 18);
    let length = entries_max.map_or(length, |most| most.min(length));
    let storm = choices.draw(WEATHER, 2) == 1;
    let (mut arguments, mut crashes): (Vec<u64>, u64) = (Vec::new(), 0);
    for _ in 0..length {
        if storm && choices.draw(CRASH, 3) == 2 {
            crashes += 1;
        }
        (0..4).for_each(|_| {
            choices.draw(MESSAGE, 8);
        });
        match choices.draw(CLASS, 12) {
            5 => {
                let argument = choices.draw(ARGUMENT, 100);
                if arguments.iter().any(|first| *first >= 10 && *first < argument) {
                    found.insert(LARGER);
                }
                if arguments.iter().any(|first| *first > 20 && *first == argument && crashes > 0) {
                    found.insert(EQUAL);
                }
                arguments.push(argument);
            }
            7 => {
                found.insert(CLASS_SEVEN);
            }
            _ => {}
        }
    }
    let shown = Shown { tape: choices.tape().clone(), nodes: 1, entries: length, crashes };
    (found, shown)
}

/// Shows a finding of the toy, and no other one.
fn judge(fingerprint: &'static str) -> impl Fn(&Attempt) -> Option<Shown> + Sync {
    move |attempt| {
        let (found, shown) = toy(attempt);
        found.contains(fingerprint).then_some(shown)
    }
}

/// The first seed that shows all of these.
fn seed_that_shows(fingerprints: &[&str]) -> Attempt {
    let ran = (0..100_000).map(|seed| toy_with(&mut Choices::seeded(seed), None));
    let mut showing = ran.filter(|(found, _)| fingerprints.iter().all(|wanted| found.contains(wanted)));
    Attempt { limits: Limits::NONE, tape: showing.next().expect("a seed shows it").1.tape }
}

fn search(start: &Attempt, judge: &Judge<'_>, jobs: usize) -> Shrunk {
    let stop = AtomicBool::new(false);
    let terms = Terms { jobs, stop: &stop, progress: &|_| {} };
    shrink(start, judge, &terms).expect("it shows the finding")
}

/// The unusual draws of a tape, one `site value` each.
fn unusual(tape: &Tape) -> Vec<String> {
    let unusual = tape.0.iter().filter(|draw| draw.value > 0);
    unusual.map(|draw| format!("{} {}", draw.site, draw.value)).collect()
}

#[test]
fn the_smallest_run_of_the_toy_is_found() {
    let shrunk = search(&seed_that_shows(&[LARGER]), &judge(LARGER), 2);
    assert!(shrunk.minimal);
    assert_eq!(
        unusual(&shrunk.attempt.tape),
        ["log.class 5", "log.argument 10", "log.class 5", "log.argument 11"]
    );
    assert_eq!((shrunk.after.entries, shrunk.after.crashes), (2, 0));
    assert!(shrunk.after < shrunk.before);
}

#[test]
fn draws_that_must_be_equal_are_lowered_together() {
    let shrunk = search(&seed_that_shows(&[EQUAL]), &judge(EQUAL), 2);
    let expected =
        ["toy.weather 1", "toy.crash 2", "log.class 5", "log.argument 21", "log.class 5", "log.argument 21"];
    let mut found = unusual(&shrunk.attempt.tape);
    // The crash may come before either.
    found.sort();
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected, "{shrunk:?}");
    assert_eq!((shrunk.after.entries, shrunk.after.crashes), (2, 1));
}

#[test]
fn the_result_is_fit_for_strict_replay() {
    let shrunk = search(&seed_that_shows(&[LARGER]), &judge(LARGER), 2);
    let mut choices = Choices::replayed(shrunk.attempt.tape.clone());
    let (found, _) = toy_with(&mut choices, shrunk.attempt.limits.entries_max);
    assert!(found.contains(LARGER));
    assert_eq!(choices.finish().expect("it is what a run has drawn"), shrunk.attempt.tape);
}

#[test]
fn the_number_of_jobs_changes_neither_the_result_nor_the_count() {
    for start in [seed_that_shows(&[LARGER]), seed_that_shows(&[LARGER, CLASS_SEVEN])] {
        let one = search(&start, &judge(LARGER), 1);
        for jobs in [2, 3, 8] {
            assert_eq!(search(&start, &judge(LARGER), jobs), one, "{jobs} jobs");
        }
    }
}

#[test]
fn a_search_never_slides_onto_a_smaller_finding() {
    let start = seed_that_shows(&[LARGER, CLASS_SEVEN]);
    let easy = search(&start, &judge(CLASS_SEVEN), 2);
    assert_eq!(unusual(&easy.attempt.tape), ["log.class 7"], "{easy:?}");
    let hard = search(&start, &judge(LARGER), 2);
    assert!(toy(&hard.attempt).0.contains(LARGER), "the one that was asked for is still there");
    assert!(hard.after > easy.after);
    let stop = AtomicBool::new(false);
    let terms = Terms { jobs: 2, stop: &stop, progress: &|_| {} };
    assert_eq!(shrink(&easy.attempt, &judge(LARGER), &terms), None, "there is nothing to shrink");
}

#[test]
fn sizes_only_fall() {
    let sizes = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let progress = |progress: Progress| sizes.lock().unwrap().push(progress.size);
    let terms = Terms { jobs: 2, stop: &stop, progress: &progress };
    let shrunk = shrink(&seed_that_shows(&[LARGER]), &judge(LARGER), &terms).unwrap();
    let sizes = sizes.into_inner().unwrap();
    assert!(sizes.is_sorted_by(|earlier, later| earlier >= later));
    assert_eq!(sizes.last(), Some(&shrunk.after));
}

#[test]
fn cut_short_and_gone_on_it_reaches_the_same() {
    let start = seed_that_shows(&[LARGER, CLASS_SEVEN]);
    let whole = search(&start, &judge(LARGER), 1);
    let mut cuts = 0;
    for judged in [1, 2, 5, 10, 20, 40, 80, 120] {
        let stop = AtomicBool::new(false);
        let left = AtomicUsize::new(judged);
        let impatient = |attempt: &Attempt| {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                stop.store(true, Ordering::Relaxed);
            }
            judge(LARGER)(attempt)
        };
        let terms = Terms { jobs: 1, stop: &stop, progress: &|_| {} };
        let cut = shrink(&start, &impatient, &terms).expect("it shows the finding");
        assert!(toy(&cut.attempt).0.contains(LARGER), "what it has so far shows the finding");
        assert!(cut.after <= cut.before);
        cuts += usize::from(!cut.minimal);
        let gone_on = search(&cut.attempt, &judge(LARGER), 1);
        assert!(gone_on.minimal);
        assert_eq!(gone_on.after, whole.after, "cut after {judged}");
        assert_eq!(unusual(&gone_on.attempt.tape), unusual(&whole.attempt.tape));
    }
    assert!(cuts > 4, "most of them were cut short");
}

#[test]
fn a_minimum_is_nothing_to_shrink() {
    let shrunk = search(&seed_that_shows(&[LARGER]), &judge(LARGER), 2);
    let again = search(&shrunk.attempt, &judge(LARGER), 2);
    assert_eq!(again.attempt, shrunk.attempt);
    assert_eq!(again.after, again.before);
    assert!(again.minimal);
}

#[test]
fn values_are_lowered_in_the_order_of_a_binary_search() {
    for value in [1, 2, 3, 4, 7, 10, 41, 100, 1000, 4096] {
        let mut search = BinarySearch::new(value);
        let mut expected = Vec::from_iter((value > 1).then_some(1));
        let mut more = search.simplify();
        while more {
            expected.extend(Some(search.current()).filter(|lower| *lower > 1));
            more = search.complicate();
        }
        // Its last word is the value itself.
        expected.retain(|lower| *lower < value);
        assert_eq!(super::pass::ladder(value), expected, "{value}");
    }
    let large = super::pass::ladder(1 << 32);
    assert!(large.iter().all(|lower| *lower <= 1 << 31), "a large value is at least halved");
}
