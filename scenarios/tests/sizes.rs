//! Sizes, by which cost is measured: they take the place of what is drawn, and nothing else is different.

use scenarios::run::{Checked, Keep, Source, run};
use scenarios::subject::Subject;
use scenarios::world::{Limits, Scenario, Setup};

fn sized(scenario: Scenario, seed: u64, limits: Limits) -> Checked {
    let setup = Setup { limits, ..Setup::of(scenario, Subject::Hardened) };
    let checked = run(setup, Source::Seed(seed), Keep::Nothing).expect("a seed always fits");
    assert!(checked.violations.is_empty(), "{scenario} {seed} {limits:?}: {:?}", checked.violations);
    checked
}

#[test]
fn a_log_is_as_long_as_it_is_asked_to_be() {
    for entries in [1, 40, 300] {
        let limits = Limits { entries: Some(entries), ..Limits::NONE };
        for seed in 0..3 {
            // The rest is refused, and gives way to a leader's no-op.
            let checked = sized(Scenario::Single, seed, limits);
            assert!(checked.log_entries >= entries, "{seed}: {} of {entries}", checked.log_entries);
            assert!(checked.entries * 2 > entries, "{seed}: {} of {entries}", checked.entries);
        }
    }
}

#[test]
fn a_cluster_has_as_many_members_and_requests_as_it_is_asked_to_have() {
    for (entries, members) in [(1, 1), (60, 7)] {
        let limits = Limits { entries: Some(entries), members: Some(members), ..Limits::NONE };
        let checked = sized(Scenario::Cluster, 4, limits);
        assert!(checked.nodes >= members, "{} of {members}", checked.nodes);
        assert!(checked.entries >= entries, "{} of {entries}", checked.entries);
    }
}

/// What was drawn is a size too.
#[test]
fn a_size_that_was_drawn_anyway_changes_nothing() {
    for scenario in [Scenario::Single, Scenario::Cluster] {
        let drawn = sized(scenario, 2, Limits::NONE);
        let draw =
            |site: &str| drawn.tape.0.iter().find(|draw| draw.site == site).map_or(0, |draw| draw.value);
        let limits = match scenario {
            Scenario::Single => {
                Limits { entries: Some(6 + draw("log.length") + draw("log.longer")), ..Limits::NONE }
            }
            _ => Limits { members: Some(if draw("cluster.members") == 3 { 5 } else { 3 }), ..Limits::NONE },
        };
        assert_eq!(sized(scenario, 2, limits).trace_hash, drawn.trace_hash, "{scenario}");
    }
}

/// There are fewer different keys than entries of a long log.
#[test]
fn a_log_that_has_used_up_its_keys_goes_on() {
    let limits = Limits { entries: Some(1_000), ..Limits::NONE };
    assert!(sized(Scenario::Single, 1, limits).entries > 600);
}

#[test]
#[should_panic(expected = "15 members have no room")]
fn more_members_than_there_is_room_for_are_refused() {
    sized(Scenario::Cluster, 1, Limits { members: Some(15), ..Limits::NONE });
}
