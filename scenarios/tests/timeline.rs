//! The timelines of a handful of kept runs, so that a change of behaviour shows up in review as a readable difference.

#[path = "common/root.rs"]
mod root;

use root::root;
use scenarios::run::{Keep, Source, run};
use scenarios::seeds::{Case, Replayed};
use scenarios::timeline::{Detail, Kind, Timeline, perfetto, text};

fn case(name: &str) -> Case {
    let seeds = root().join("seeds");
    Case::read(&seeds.join(format!("{name}.toml"))).expect("it is in the corpus")
}

fn timeline(name: &str, keep: Keep) -> Timeline {
    let case = case(name);
    let Replayed { checked, .. } = case.replay(true, keep).expect("its tape fits");
    Timeline::new(&case.setup, &checked, name, &format!("cargo sim replay seeds/{name}.toml"))
}

fn plain(timeline: &Timeline, detail: Detail) -> String {
    let mut bytes = Vec::new();
    text(timeline, detail, 150, &mut bytes).expect("a vector takes everything");
    anstream::adapter::strip_bytes(&bytes).into_vec().try_into().expect("UTF-8")
}

#[track_caller]
fn check(name: &str) {
    let timeline = timeline(name, Keep::Events);
    let story = timeline.story.join("\n");
    insta::assert_snapshot!(name, format!("{}\n\n{story}", plain(&timeline, Detail::Short)));
}

#[test]
fn canonical_timelines_are_pinned() {
    check("bootstrap-redelivered-after-rotation");
    check("failed-directory-sync-hides-a-visible-change");
    check("start-loads-no-keys");
    check("id-reused-with-other-bytes-after-a-restart");
    check("second-bootstrap-request-halts-every-member");
}

#[test]
fn every_column_moment_and_violation_of_a_cluster_has_its_place() {
    let timeline = timeline("follower-restored-from-a-snapshot-has-no-keys", Keep::Events);
    let lanes: Vec<u64> = timeline.lanes.iter().map(|lane| lane.id).collect();
    assert_eq!(lanes, [0, 1, 2, 3, 4]);
    assert!(timeline.events.iter().enumerate().all(|(at, moment)| moment.id == at));
    assert!(timeline.events.is_sorted_by_key(|moment| moment.at), "time does not go back");
    let arrived =
        timeline.events.iter().filter_map(|moment| moment.arrives.map(|arrives| (moment.at, arrives)));
    assert!(arrived.clone().count() > 100 && arrived.clone().all(|(at, arrives)| at <= arrives));
    for broken in &timeline.violations {
        let moment = &timeline.events[broken.event.expect("it came up somewhere")];
        assert_eq!((moment.kind, &moment.text), (Kind::Violation, &broken.fingerprint));
    }
    assert!(
        plain(&timeline, Detail::Full).lines().count() > 2 * plain(&timeline, Detail::Short).lines().count()
    );
}

#[test]
fn a_violation_is_shown_where_it_comes_up() {
    let timeline = timeline("bootstrap-redelivered-after-rotation", Keep::Events);
    let at = timeline.violations[0].event.expect("it came up somewhere");
    let before = &timeline.events[at - 1];
    assert_eq!((before.kind, before.text.as_str()), (Kind::Verdict, "rejected, already-bootstrapped"));
    assert_eq!(before.entry, Some(1));
}

#[test]
fn stores_show_what_is_durable_beside_what_is_seen() {
    let timeline = timeline("bootstrap-redelivered-after-rotation", Keep::Disks);
    let at = |kind: Kind, name: &str| {
        let found = timeline.events.iter().find(|moment| moment.kind == kind && moment.name == name);
        found.expect("it is part of the run").id
    };
    let held = |id: usize| {
        let at = timeline.events[..=id].iter().rev().find_map(|moment| moment.stores);
        &timeline.stores[at.expect("something is held")]
    };
    let death = held(at(Kind::Fault, "death"));
    let lists = |text: &Option<String>, key: &str| text.as_ref().is_some_and(|text| text.contains(key));
    assert!(lists(&death.sidecar.durable, "\"1\":") && !lists(&death.sidecar.durable, "\"3\":"));
    assert!(lists(&death.sidecar.seen, "\"3\":"));
    assert_eq!(death.pending.last().map(String::as_str), Some("rename keys.json.tmp to keys.json"));
    let memory = death.memory.as_ref().expect("the process runs");
    assert_eq!(
        memory.iter().map(|key| (key.id, key.active)).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, true)]
    );
    let gone = held(at(Kind::Crash, "process gone"));
    assert_eq!(gone.memory, None);
    let rows = gone.registry.durable.as_ref().expect("the database is there");
    assert!(rows.iter().any(|row| row.starts_with("key 1, node 0")), "{rows:?}");
}

#[test]
fn keeping_a_timeline_changes_nothing() {
    for name in ["bootstrap-redelivered-after-rotation", "second-bootstrap-request-halts-every-member"] {
        let case = case(name);
        let hash = |keep| case.replay(true, keep).expect("its tape fits").checked.trace_hash;
        assert_eq!(hash(Keep::Nothing), hash(Keep::Events));
        assert_eq!(hash(Keep::Nothing), hash(Keep::Disks));
    }
}

#[test]
fn slices_of_a_perfetto_trace_are_closed_and_flows_end_where_they_began() {
    for name in ["bootstrap-redelivered-after-rotation", "second-bootstrap-request-halts-every-member"] {
        let trace = perfetto(&timeline(name, Keep::Events));
        let events = trace["traceEvents"].as_array().expect("a list");
        let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
        assert!(count("B") > 2);
        assert_eq!(count("B"), count("E"));
        assert_eq!(count("s"), count("f"));
        let mut last = std::collections::BTreeMap::new();
        for event in events.iter().filter(|event| matches!(event["ph"].as_str(), Some("B" | "E"))) {
            let time = event["ts"].as_u64().expect("a time");
            let before = last.insert(event["tid"].as_u64(), time);
            assert!(before.is_none_or(|before| before <= time), "{event} goes back");
        }
    }
}

/// What a tape was recorded of may change in what it does not decide.
fn edited(name: &str, edit: impl FnOnce(&mut Vec<sim::Draw>)) -> Case {
    let mut case = case(name);
    let Source::Tape(tape) = &mut case.source else { panic!("{name} has a tape") };
    edit(&mut tape.0);
    case
}

#[test]
fn a_kept_tape_outlives_new_sites_and_reordered_draws() {
    let name = "bootstrap-redelivered-after-rotation";
    let calm_sites: Vec<String> = {
        let Source::Tape(tape) = case(name).source else { panic!("{name} has a tape") };
        let sites: std::collections::BTreeSet<_> = tape.0.iter().map(|draw| draw.site.to_string()).collect();
        let is_calm = |site: &String| tape.0.iter().all(|draw| draw.site != *site || draw.value == 0);
        sites.into_iter().filter(is_calm).collect()
    };
    assert!(!calm_sites.is_empty());
    // As if it had been recorded before these sites were there.
    let older = calm_sites.iter().map(|site| edited(name, |draws| draws.retain(|draw| draw.site != *site)));
    // As if two neighbours of different sites had been drawn in the other order.
    let count = match case(name).source {
        Source::Tape(tape) => tape.0.len(),
        _ => unreachable!("it has a tape"),
    };
    let swapped = (1..count).map(|at| edited(name, |draws| draws.swap(at - 1, at)));
    // As if the older build had drawn once more at the end.
    let longer = edited(name, |draws| draws.push(draws[draws.len() - 1].clone()));
    let mut left = 0;
    for case in older.chain(swapped).chain([longer]) {
        let Replayed { checked, answer } = case.replay(false, Keep::Nothing).expect("it is never refused");
        assert_eq!(answer, scenarios::seeds::Answer::Same, "{:?}", checked.diverged);
        let strict = run(case.setup, case.source.clone(), Keep::Nothing);
        assert_eq!(
            strict.is_err(),
            checked.diverged.is_some(),
            "strict replay refuses just where the other one notes it"
        );
        left += usize::from(checked.diverged.is_some());
    }
    assert!(left > 10, "most of the tapes do not fit any more: {left}");
}
