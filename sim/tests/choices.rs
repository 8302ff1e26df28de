//! Every source of decisions, held to what it promises.

use sim::{Asked, Choices, Disk, Draw, Exhaustive, Mismatch, Ratio, Site, Tape, TapeProblem};

const LEFT: Site = Site::new("test.left");
const RIGHT: Site = Site::new("test.right");
const OTHER: Site = Site::new("test.other");

fn draws(choices: &mut Choices, count: usize) -> Vec<u64> {
    (0..count).map(|n| choices.draw(if n % 2 == 0 { LEFT } else { RIGHT }, 10 + n as u64)).collect()
}

fn draw(site: &'static str, value: u64, bound: u64) -> Draw {
    Draw { site: site.into(), value, bound }
}

#[test]
fn seeded_values_never_change() {
    let mut choices = Choices::seeded(7);
    let left: Vec<u64> = (0..8).map(|_| choices.draw(LEFT, 1000)).collect();
    let right: Vec<u64> = (0..4).map(|_| choices.draw(RIGHT, u64::MAX)).collect();
    assert_eq!(left, [320, 360, 156, 466, 567, 759, 162, 265]);
    let pinned: [u64; 4] =
        [13787643813874822071, 9562818060380327186, 9110322790450336844, 4026511921387708102];
    assert_eq!(right, pinned);
}

#[test]
fn a_replay_repeats_its_run() {
    let mut first = Choices::seeded(1);
    let values = draws(&mut first, 50);
    let tape = first.finish().expect("a seeded run has no tape to leave");
    let mut again = Choices::replayed(tape.clone());
    assert_eq!(draws(&mut again, 50), values);
    assert_eq!(again.finish(), Ok(tape));
}

#[test]
fn a_tape_survives_its_text_form() {
    let mut choices = Choices::seeded(2);
    draws(&mut choices, 20);
    let tape = choices.finish().expect("seeded");
    let text = format!("# a finding\n\n{tape}");
    assert_eq!(text.parse(), Ok(tape));
}

#[test]
fn a_bad_tape_is_refused_with_its_line() {
    let problem = |text: &str| text.parse::<Tape>().map_err(|error| (error.line, error.problem));
    assert_eq!(problem("a 0/2\nb"), Err((2, TapeProblem::Shape)));
    assert_eq!(problem("a 1"), Err((1, TapeProblem::Shape)));
    assert_eq!(problem("a x/2"), Err((1, TapeProblem::Number)));
    assert_eq!(problem("a 2/2"), Err((1, TapeProblem::Bound)));
    assert_eq!(problem("a 0/0"), Err((1, TapeProblem::Bound)));
}

#[test]
fn a_replay_names_the_first_mismatch_and_stays_calm() {
    let tape = Tape(vec![draw("test.left", 3, 10), draw("test.left", 4, 10), draw("test.left", 5, 10)]);
    let mut choices = Choices::replayed(tape);
    assert_eq!(choices.draw(LEFT, 10), 3);
    assert_eq!(choices.draw(RIGHT, 10), 0);
    assert_eq!(choices.draw(LEFT, 10), 0);
    let mismatch = Mismatch {
        at: 1,
        expected: Some(draw("test.left", 4, 10)),
        found: Some(Asked { site: "test.right".into(), bound: 10 }),
    };
    assert_eq!(choices.mismatch(), Some(&mismatch));
    assert_eq!(
        mismatch.to_string(),
        "the run leaves its tape at draw 1: the tape has `test.left 4/10`, the run asked for `test.right` with bound 10"
    );
    assert_eq!(choices.finish(), Err(mismatch));
}

#[test]
fn another_bound_an_ended_tape_and_a_rest_are_mismatches() {
    let tape = || Tape(vec![draw("test.left", 3, 10)]);
    let mut other_bound = Choices::replayed(tape());
    assert_eq!(other_bound.draw(LEFT, 11), 0);
    assert_eq!(other_bound.finish().map_err(|mismatch| mismatch.at), Err(0));

    let mut ended = Choices::replayed(tape());
    draws(&mut ended, 1);
    assert_eq!(ended.draw(LEFT, 10), 0);
    let found = Some(Asked { site: "test.left".into(), bound: 10 });
    assert_eq!(ended.finish(), Err(Mismatch { at: 1, expected: None, found }));

    let rest = Choices::replayed(tape());
    assert_eq!(rest.finish(), Err(Mismatch { at: 0, expected: Some(draw("test.left", 3, 10)), found: None }));
}

#[test]
fn a_loose_replay_fits_what_it_can_and_records_what_happened() {
    let tape = Tape(vec![draw("test.right", 4, 10), draw("test.left", 9, 10), draw("test.left", 1, 10)]);
    let mut choices = Choices::replayed_loosely(tape);
    let values =
        [choices.draw(LEFT, 5), choices.draw(LEFT, 5), choices.draw(RIGHT, 10), choices.draw(OTHER, 3)];
    assert_eq!(values, [0, 1, 4, 0]);
    let exact = choices.finish().expect("a loose replay has no mismatch");
    assert_eq!(exact.to_string(), "test.left 0/5\ntest.left 1/5\ntest.right 4/10\ntest.other 0/3\n");
}

#[test]
fn a_new_site_does_not_change_what_others_see() {
    let mut without = Choices::seeded(3);
    let mut with = Choices::seeded(3);
    for _ in 0..20 {
        with.draw(OTHER, 6);
        assert_eq!(with.draw(LEFT, 1000), without.draw(LEFT, 1000));
        assert_eq!(with.draw(RIGHT, 1000), without.draw(RIGHT, 1000));
    }
}

#[test]
fn seeds_and_sites_see_different_values() {
    let sequence = |seed, site| {
        let mut choices = Choices::seeded(seed);
        (0..4).map(|_| choices.draw(site, 1 << 32)).collect::<Vec<_>>()
    };
    assert_ne!(sequence(1, LEFT), sequence(2, LEFT));
    assert_ne!(sequence(1, LEFT), sequence(1, RIGHT));
}

#[test]
fn bytes_are_taken_by_the_width_of_the_bound_and_end_in_calm() {
    let mut choices = Choices::bytes(&[7, 0x34, 0x12, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(choices.draw(LEFT, 256), 7);
    assert_eq!(choices.draw(LEFT, 65_536), 0x1234);
    assert_eq!(choices.draw(LEFT, 65_537), 1);
    assert_eq!(choices.draw(LEFT, 4), 1);
    assert_eq!(choices.draw(LEFT, 4), 0);
    assert_eq!(choices.draw(LEFT, u64::MAX), 0);
    assert_eq!(choices.tape().0.len(), 6);
}

#[test]
fn the_bytes_of_a_tape_give_its_answers_again() {
    let bounds = [2, 3, 255, 256, 257, 65_535, 65_536, 65_537, 1 << 32, u64::MAX];
    let draw = |choices: &mut Choices| {
        for round in 0..20 {
            for bound in bounds {
                choices.draw(if round % 2 == 0 { LEFT } else { RIGHT }, bound);
            }
        }
        choices.tape().clone()
    };
    let tape = draw(&mut Choices::seeded(3));
    let highest = bounds.map(|bound| Draw { site: "left".into(), value: bound - 1, bound });
    let mut widest = Choices::bytes(&Tape(highest.to_vec()).to_bytes());
    assert_eq!(draw(&mut Choices::bytes(&tape.to_bytes())), tape);
    assert_eq!(bounds.map(|bound| widest.draw(LEFT, bound)), bounds.map(|bound| bound - 1));
}

#[test]
fn one_possible_answer_is_no_decision() {
    let mut choices = Choices::seeded(1);
    assert_eq!(choices.draw(LEFT, 1), 0);
    assert_eq!(choices.range(LEFT, 4..=4), 4);
    assert_eq!(choices.pick(LEFT, &["only"]), &"only");
    assert!(!choices.chance(LEFT, Ratio::new(0, 5)));
    assert!(choices.chance(LEFT, Ratio::new(5, 5)));
    assert!(choices.tape().0.is_empty());
}

#[test]
fn the_calm_answer_is_zero_everywhere() {
    let mut calm = Choices::bytes(&[]);
    assert!(!calm.chance(LEFT, Ratio::new(999, 1000)));
    assert_eq!(calm.range(LEFT, 3..=9), 3);
    assert_eq!(calm.pick(LEFT, &['a', 'b']), &'a');
}

#[test]
fn chances_and_ranges_hit_what_they_say() {
    let mut choices = Choices::seeded(11);
    let hits = (0..10_000).filter(|_| choices.chance(LEFT, Ratio::new(1, 4))).count();
    assert!((2_300..2_700).contains(&hits), "{hits} of 10,000 at a chance of a quarter");
    let values: Vec<u64> = (0..1000).map(|_| choices.range(RIGHT, 5..=7)).collect();
    assert!(
        (5..=7).all(|value| values.contains(&value)) && values.iter().all(|value| (5..=7).contains(value))
    );
}

#[test]
fn the_odometer_visits_every_combination_once() {
    let mut walk = Exhaustive::new();
    let mut seen = Vec::new();
    while let Some(mut choices) = walk.begin() {
        let first = choices.draw(LEFT, 3);
        // Later draws may depend on earlier ones: 2 ways after 0, 4 after 1, none after 2.
        let second = choices.draw(RIGHT, [2, 4, 1][first as usize]);
        seen.push((first, second));
        walk.end(choices).expect("deterministic");
    }
    assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]);
    assert!(walk.is_complete());
    assert_eq!(walk.visited(), 7);
}

#[test]
fn the_odometer_stops_at_its_limit_and_says_so() {
    let mut walk = Exhaustive::limited(5);
    while let Some(mut choices) = walk.begin() {
        choices.draw(LEFT, 3);
        choices.draw(LEFT, 3);
        walk.end(choices).expect("deterministic");
    }
    assert_eq!(walk.visited(), 5);
    assert!(!walk.is_complete());
}

#[test]
fn the_odometer_notices_a_program_that_does_not_repeat_itself() {
    let mut walk = Exhaustive::new();
    let mut first = walk.begin().expect("there is a first combination");
    first.draw(LEFT, 3);
    walk.end(first).expect("deterministic so far");
    let mut second = walk.begin().expect("there is a second combination");
    second.draw(RIGHT, 3);
    assert_eq!(walk.end(second).map_err(|mismatch| mismatch.at), Err(0));
    assert!(walk.begin().is_none() && !walk.is_complete());
}

/// A small program whose builds draw differently: a config is rewritten, and a crash comes at some point of it.
#[derive(Clone, Copy, Debug, Default)]
struct Build {
    /// It asks one more question, at a new site, before each write.
    new_site: bool,
    /// It asks two independent questions in the other order.
    swapped: bool,
    /// It calls its file something else.
    renamed: bool,
    /// It has one answer more to a question.
    wider: bool,
}

const POWER: Site = Site::new("test.power");
const SIZE: Site = Site::new("test.size");
const COLOUR: Site = Site::new("test.colour");
const SHORT: Site = Site::new("test.short-write");

/// Whether the run shows what it was kept for: an empty file where the config was.
fn loses_the_config(build: Build, choices: &mut Choices) -> bool {
    let disk = Disk::default();
    let mount = disk.mount();
    let (path, tmp) = if build.renamed { ("/settings", "/settings.new") } else { ("/config", "/config.tmp") };
    for round in 0..20 {
        let mut draw = |site, bound| choices.draw(site, bound);
        let (size, colour) = if build.swapped {
            let colour = draw(COLOUR, 7);
            (draw(SIZE, 100), colour)
        } else {
            (draw(SIZE, 100 + u64::from(build.wider)), draw(COLOUR, 7))
        };
        if build.new_site && choices.draw(SHORT, 3) > 0 {
            return false;
        }
        let file = mount.create_new(tmp).unwrap();
        file.write_at(0, &vec![colour as u8 + 1; 1 + size as usize]).unwrap();
        mount.rename(tmp, path).unwrap();
        mount.sync_dir("/").unwrap();
        if choices.draw(POWER, 4) == 3 {
            disk.power_loss(choices);
            return disk.peek(path).is_some_and(|content| content.is_empty()) && round > 2;
        }
    }
    false
}

#[test]
fn a_tape_outlives_harmless_changes_of_the_code() {
    let record = |seed| {
        let mut choices = Choices::seeded(seed);
        let shown = loses_the_config(Build::default(), &mut choices);
        shown.then(|| choices.finish().unwrap())
    };
    let builds = [
        Build { new_site: true, ..Build::default() },
        Build { swapped: true, ..Build::default() },
        Build { renamed: true, ..Build::default() },
        Build { wider: true, ..Build::default() },
        Build { new_site: true, swapped: true, renamed: true, wider: true },
    ];
    let tapes: Vec<Tape> = (0..200).filter_map(record).collect();
    assert!(tapes.len() > 5, "the program loses its config often: {}", tapes.len());
    for tape in &tapes {
        let mut same = Choices::realigned(tape.clone(), 0);
        assert!(loses_the_config(Build::default(), &mut same));
        assert_eq!(same.mismatch(), None);
        assert_eq!(same.finish().as_ref(), Ok(tape));
        for build in builds {
            let mut choices = Choices::realigned(tape.clone(), 0);
            assert!(loses_the_config(build, &mut choices), "{build:?} on\n{tape}");
            let drew_otherwise = build.new_site || build.swapped || build.wider;
            assert_eq!(choices.mismatch().is_some(), drew_otherwise, "{build:?}");
            // What really happened replays strictly, and does not leave its tape.
            let now = choices.finish().unwrap();
            let mut strict = Choices::replayed(now.clone());
            assert!(loses_the_config(build, &mut strict));
            assert_eq!(strict.finish(), Ok(now));
        }
    }
}

#[test]
fn realigned_replay_names_the_first_difference_and_goes_on_as_seeded() {
    let tape = Tape(vec![draw("test.size", 5, 10), draw("test.colour", 2, 7), draw("test.size", 6, 10)]);
    let mut choices = Choices::realigned(tape, 9);
    assert_eq!(choices.draw(SIZE, 10), 5);
    assert_eq!(choices.draw(SHORT, 10), 0, "a site that the tape does not know is calm");
    assert_eq!(choices.draw(SIZE, 10), 6);
    assert_eq!(choices.draw(COLOUR, 3), 2, "the bound has changed, and the answer is still possible");
    let mismatch = choices.mismatch().expect("it has left the tape").clone();
    assert_eq!(mismatch.at, 1);
    assert_eq!(mismatch.expected, Some(draw("test.colour", 2, 7)));
    assert_eq!(choices.divergence(), Some(mismatch));
    let mut seeded = Choices::seeded(9);
    let more: Vec<u64> = (0..8).map(|_| choices.draw(SIZE, 1 << 40)).collect();
    assert_eq!(more, (0..8).map(|_| seeded.draw(SIZE, 1 << 40)).collect::<Vec<_>>());
}

#[test]
fn realigned_replay_of_a_run_that_ends_early_names_what_it_did_not_ask_for() {
    let tape = Tape(vec![draw("test.size", 5, 10), draw("test.colour", 2, 7)]);
    let mut choices = Choices::realigned(tape, 0);
    assert_eq!(choices.draw(SIZE, 10), 5);
    assert_eq!(choices.mismatch(), None);
    let left = Mismatch { at: 1, expected: Some(draw("test.colour", 2, 7)), found: None };
    assert_eq!(choices.divergence(), Some(left));
    assert_eq!(choices.draw(COLOUR, 7), 2);
    assert_eq!(choices.divergence(), None);
}
