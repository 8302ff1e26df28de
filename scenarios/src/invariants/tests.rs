//! Every line of the table has a history that breaks it, and an untroubled history breaks none.

use std::collections::BTreeSet;
use std::sync::Arc;

use applier::Purpose;

use super::*;
use crate::form::{Blob, BlobFault, Form, Kind, Row};
use crate::history::History;
use crate::history::SideEffects;
use crate::history::Unreadable;
use crate::model::{Reason, Retired, Writer};
use crate::sealing::Use;

const REFUSED: Delivered = Delivered::Decided(Verdict::Rejected(Reason::EqualIds));

/// The states of a log: a bootstrap, a registration, a data entry.
fn states() -> Vec<Arc<State>> {
    let blob = |key| Blob { key: KeyNumber(key), seal: 0, kek: 0, fault: BlobFault::None };
    let row = |epoch| Row { dek: 1, node: 0x11, epoch };
    let log = [
        Form::Bootstrap {
            storage: 1,
            storage_blob: blob(1),
            raft: 2,
            raft_blob: blob(2),
            rows: vec![row(1)],
        },
        Form::Registration(row(3)),
        Form::Data { key: 7, value: 3, seal: None },
    ];
    let mut states = vec![Arc::new(State::default())];
    for form in &log {
        let next = states.last().expect("the first").after(form, Verdict::Applied);
        states.push(Arc::new(next));
    }
    states
}

/// What an observer sees where everything is as it should be after the entry at `index`.
fn sound(moment: Moment, index: usize) -> Observation {
    let state = Arc::clone(&states()[index]);
    let keys = state.keys.iter().map(|(id, key)| (*id, (key.purpose, Some(key.blob)))).collect();
    let times = state.keys.keys().map(|id| (*id, "2020-01-01T00:00:00Z".to_owned()));
    Observation {
        moment,
        sidecar: SidecarSeen::Content {
            active: state.active.unwrap_or((0, 0)),
            keys,
            created: times.collect(),
            epochs: state.keys.keys().map(|id| (*id, 4)).collect(),
            cutovers: (state.storage_cutover, state.raft_cutover),
            retired: BTreeMap::new(),
            kek: (0, Some(0)),
        },
        memory: state.keys.iter().map(|(id, key)| (*id, Some(key.blob.key))).collect(),
        rows: state.rows.clone(),
        data: state.data.clone(),
        sealed: BTreeSet::new(),
        unreadable: Vec::new(),
        applied: Some(state.index),
        acknowledged: Arc::clone(&state),
        sidecar_expected: vec![Arc::clone(&state)],
        database_expected: vec![state],
        rolled_back: false,
    }
}

fn seen_after(index: usize, change: impl FnOnce(&mut Observation)) -> Event {
    let mut observation = sound(Moment::Started, index);
    change(&mut observation);
    Event::Observed(Box::new(observation))
}

fn caught_up(change: impl FnOnce(&mut Observation)) -> Event {
    let mut observation = sound(Moment::CaughtUp, 3);
    change(&mut observation);
    Event::Observed(Box::new(observation))
}

/// Keys, times of creation and epochs of a sidecar.
type Fields<'a> = (
    &'a mut BTreeMap<u32, (Purpose, Option<Blob>)>,
    &'a mut BTreeMap<u32, String>,
    &'a mut BTreeMap<u32, u16>,
);

fn content(observation: &mut Observation) -> Fields<'_> {
    match &mut observation.sidecar {
        SidecarSeen::Content { keys, created, epochs, .. } => (keys, created, epochs),
        other => panic!("{other:?}"),
    }
}

fn delivered(answer: Delivered, expected: Verdict, effects: Option<SideEffects>) -> Event {
    Event::Delivered {
        index: 4,
        kind: Kind::Bootstrap,
        delivery: Delivery::First,
        answer,
        expected,
        faulted: false,
        effects,
        before: None,
    }
}

fn halted(before_rename: bool, sidecar_changed: bool, keys_changed: bool, holds_its_keys: bool) -> Event {
    Event::Halted {
        index: 4,
        kind: Kind::Rotation,
        before_rename,
        sidecar_changed,
        keys_changed,
        holds_its_keys,
    }
}

const REJECT: Verdict = Verdict::Rejected(Reason::EqualIds);
const TOUCHED: Option<SideEffects> = Some(SideEffects { mutations: 0, disk: false, memory: true });

/// A history that breaks this invariant and no other.
fn breaking(name: &str) -> History {
    match name {
        "legitimate-log-never-halts" => vec![delivered(REFUSED, Verdict::Applied, None)],
        "verdict-matches-model" => vec![delivered(Delivered::Decided(Verdict::Applied), REJECT, None)],
        "rejection-is-pure" => vec![delivered(REFUSED, REJECT, TOUCHED)],
        "failure-is-pure" => vec![delivered(Delivered::Failed("no".to_owned()), REJECT, TOUCHED)],
        "halt-keeps-memory-in-step" => vec![halted(true, false, true, true)],
        "rejection-is-stable" => {
            let mut event = delivered(REFUSED, REJECT, None);
            if let Event::Delivered { before, .. } = &mut event {
                *before = Some(Delivered::Decided(Verdict::Rejected(Reason::ForeignRow)));
            }
            vec![event]
        }
        "start-succeeds" => vec![Event::StartRefused { why: "io".to_owned(), faulted: false }],
        "sidecar-old-or-new" => vec![seen_after(3, |seen| seen.sidecar = SidecarSeen::Missing)],
        "acknowledged-survives" => vec![seen_after(3, |seen| seen.data.clear())],
        "replay-converges" => vec![caught_up(|seen| seen.rows.clear())],
        "active-keys-resolve" => vec![caught_up(|seen| seen.memory.clear())],
        "key-bytes-are-distinct" => vec![seen_after(3, |seen| {
            let state = Arc::make_mut(&mut seen.sidecar_expected[0]);
            let twin = Blob { seal: 1, ..state.keys[&1].blob };
            state.keys.get_mut(&2).expect("a key").blob = twin;
            content(seen).0.insert(2, (Purpose::Raft, Some(twin)));
        })],
        "epochs-never-go-back" => vec![
            seen_after(3, |_| {}),
            seen_after(3, |seen| {
                content(seen).2.insert(1, 3);
            }),
        ],
        "created-is-set-once" => vec![
            seen_after(3, |_| {}),
            seen_after(3, |seen| {
                content(seen).1.insert(1, "2020-01-01T00:00:01Z".to_owned());
            }),
        ],
        "no-key-bytes-on-disk" => vec![Event::KeyOnDisk { path: "/db/registry.redb".to_owned() }],
        "nonces-are-never-reused" => vec![Event::Sealed(used(1, 1)), Event::Sealed(used(1, 2))],
        "values-are-readable" => vec![caught_up(|seen| cannot_read(seen, None))],
        "no-clear-text-after-cutover" => vec![caught_up(|seen| {
            cut_over(seen, 1);
            seen.sealed.clear();
        })],
        "cutovers-are-monotone" => {
            vec![seen_after(3, |seen| cut_over(seen, 1)), seen_after(3, |seen| cut_over(seen, 2))]
        }
        "claims-are-granted" => {
            vec![Event::ClaimFailed { step: "refused", why: "epoch-rollback".to_owned() }]
        }
        "log-is-finished" => vec![Event::Ended { reached: 3, length: 4, stuck: false }],
        other => panic!("no history breaks {other:?}"),
    }
}

fn used(nonce: u8, input: u64) -> Use {
    Use { key: 1, nonce: [nonce; 12], input }
}

/// The storage envelope was switched on by the entry at `by`, and what was written behind that is sealed.
fn cut_over(seen: &mut Observation, by: u64) {
    let mut state = State::clone(&seen.acknowledged);
    state.storage_cutover = Some(by);
    let state = Arc::new(state);
    seen.acknowledged = Arc::clone(&state);
    (seen.sidecar_expected, seen.database_expected) = (vec![Arc::clone(&state)], vec![state]);
    seen.sealed.insert(7);
    if let SidecarSeen::Content { cutovers, .. } = &mut seen.sidecar {
        cutovers.0 = Some(by);
    }
}

/// The only value cannot be read.
fn cannot_read(seen: &mut Observation, dek: Option<u32>) {
    seen.data.clear();
    seen.unreadable.push(Unreadable { key: 7, dek, why: "no".to_owned() });
}

fn broken(history: &[Event]) -> Vec<&'static str> {
    check(history).iter().map(|violation| violation.invariant).collect()
}

#[test]
fn every_invariant_has_a_history_that_breaks_it_alone() {
    for invariant in INVARIANTS {
        assert_eq!(broken(&breaking(invariant.name)), [invariant.name]);
    }
}

#[test]
fn an_untroubled_history_breaks_none() {
    let history = [
        seen_after(0, |_| {}),
        delivered(Delivered::Decided(Verdict::Applied), Verdict::Applied, None),
        seen_after(1, |_| {}),
        delivered(REFUSED, REJECT, Some(SideEffects { mutations: 0, disk: false, memory: false })),
        seen_after(3, |_| {}),
        caught_up(|_| {}),
        Event::Ended { reached: 3, length: 3, stuck: false },
    ];
    assert_eq!(check(&history), []);
}

#[test]
fn a_row_that_goes_back_is_excused_by_a_rollback_alone() {
    let back = |rolled_back| {
        let earlier = seen_after(1, |seen| seen.rolled_back = rolled_back);
        broken(&[seen_after(2, |_| {}), earlier])
    };
    assert_eq!(back(false), ["epochs-never-go-back"]);
    assert!(back(true).is_empty());
}

#[test]
fn the_database_may_have_an_interrupted_entry_wholly_or_not_at_all() {
    let interrupted = |index: usize, change: fn(&mut Observation)| {
        let mut seen = sound(Moment::Started, index);
        seen.sidecar_expected = vec![Arc::clone(&states()[1]), Arc::clone(&states()[2])];
        seen.database_expected.clone_from(&seen.sidecar_expected);
        change(&mut seen);
        broken(&[Event::Observed(Box::new(seen))])
    };
    assert!(interrupted(1, |_| {}).is_empty());
    assert!(interrupted(2, |_| {}).is_empty());
    assert_eq!(interrupted(1, |seen| seen.rows.clone_from(&states()[2].rows)), ["acknowledged-survives"]);
    assert_eq!(interrupted(2, |seen| seen.rows.clone_from(&states()[1].rows)), ["acknowledged-survives"]);
    assert_eq!(interrupted(3, |_| {}), ["acknowledged-survives"]);
}

#[test]
fn a_subject_without_an_index_may_be_ahead_and_not_behind() {
    let seen = |change: fn(&mut Observation)| {
        let mut seen = sound(Moment::Started, 2);
        seen.applied = None;
        change(&mut seen);
        broken(&[Event::Observed(Box::new(seen))])
    };
    assert!(seen(|seen| seen.data.clone_from(&states()[3].data)).is_empty());
    assert_eq!(seen(|seen| seen.rows.clear()), ["acknowledged-survives"]);
    let other = |seen: &mut Observation| {
        seen.rows.insert((1, 0x11), Writer { node: 0x5_0011, first: 1, last: 3 });
    };
    assert_eq!(seen(other), ["acknowledged-survives"]);
}

#[test]
fn a_halt_takes_back_what_nobody_saw_and_keeps_what_readers_see() {
    assert!(broken(&[halted(true, false, false, false)]).is_empty());
    assert!(broken(&[halted(false, false, true, true)]).is_empty(), "a rename may have happened");
    assert!(broken(&[halted(false, true, true, true)]).is_empty());
    assert_eq!(broken(&[halted(false, true, false, false)]), ["halt-keeps-memory-in-step"]);
}

#[test]
fn a_halt_after_an_injected_fault_does_not_end_the_comparison() {
    let disk = SideEffects { mutations: 3, disk: true, memory: true };
    let mut halt = delivered(Delivered::Halted("commit".to_owned()), Verdict::Applied, Some(disk));
    if let Event::Delivered { faulted, .. } = &mut halt {
        *faulted = true;
    }
    assert_eq!(broken(&[halt, seen_after(3, |seen| seen.rows.clear())]), ["acknowledged-survives"]);
}

#[test]
fn a_fault_is_no_reason_to_refuse_a_sound_entry() {
    let mut refused = delivered(REFUSED, Verdict::Applied, None);
    if let Event::Delivered { faulted, .. } = &mut refused {
        *faulted = true;
    }
    assert_eq!(broken(&[refused]), ["verdict-matches-model"]);
}

#[test]
fn every_key_of_the_model_has_to_be_in_memory_with_its_bytes() {
    // Key 1 is not active any more, so only the convergence of memory can tell.
    let rotated = |change: fn(&mut Observation)| {
        caught_up(|seen| {
            let mut state = State::clone(&seen.acknowledged);
            state.active = Some((3, 2));
            state.keys.insert(3, state.keys[&1]);
            let state = Arc::new(state);
            if let SidecarSeen::Content { active, keys, .. } = &mut seen.sidecar {
                *active = (3, 2);
                keys.insert(3, keys[&1]);
            }
            seen.memory.insert(3, seen.memory[&1]);
            (seen.acknowledged, seen.sidecar_expected) = (Arc::clone(&state), vec![state]);
            change(seen);
        })
    };
    let converges = |event: Event| !broken(&[event]).contains(&"replay-converges");
    assert!(converges(rotated(|_| {})));
    assert!(!converges(rotated(|seen| seen.memory.retain(|id, _| *id != 1))));
    assert!(!converges(rotated(|seen| seen.memory.extend([(1, None)]))));
}

#[test]
fn what_follows_from_an_impure_refusal_is_not_found_again() {
    let disk = SideEffects { mutations: 3, disk: true, memory: false };
    let history = [delivered(REFUSED, REJECT, Some(disk)), seen_after(3, |seen| seen.rows.clear())];
    assert_eq!(broken(&history), ["rejection-is-pure"]);
    let memory = SideEffects { mutations: 0, disk: false, memory: true };
    let history = [delivered(REFUSED, REJECT, Some(memory)), seen_after(3, |seen| seen.rows.clear())];
    assert_eq!(broken(&history), ["rejection-is-pure", "acknowledged-survives"], "a restart forgets memory");
}

#[test]
fn a_nonce_that_is_found_again_with_the_same_input_is_not_reused() {
    let same = [Event::Sealed(used(1, 1)), Event::Sealed(used(2, 2)), Event::Sealed(used(1, 1))];
    assert!(broken(&same).is_empty());
}

#[test]
fn what_was_sealed_wrongly_is_found_without_a_value() {
    assert_eq!(broken(&[Event::SealedWrongly { why: String::new() }]), ["values-are-readable"]);
}

#[test]
fn a_value_under_a_retired_key_is_excused_until_the_database_is_past_its_retirement() {
    let unreadable = |at: u64| {
        broken(&[caught_up(|seen| {
            cannot_read(seen, Some(9));
            let state = Arc::make_mut(&mut seen.acknowledged);
            let form = Form::Nothing;
            let retired = Retired { purpose: Purpose::Storage, key: KeyNumber(9), by: 1, at, form };
            state.retired.insert(9, retired);
        })])
    };
    assert!(unreadable(4).is_empty());
    assert_eq!(unreadable(3), ["values-are-readable"]);
}

#[test]
fn what_was_written_up_to_the_cutover_may_be_clear() {
    let clear = |by| {
        broken(&[caught_up(|seen| {
            cut_over(seen, by);
            seen.sealed.clear();
        })])
    };
    assert!(clear(3).is_empty());
    assert_eq!(clear(2), ["no-clear-text-after-cutover"]);
}

#[test]
fn a_retired_key_and_a_kek_that_is_gone_do_not_come_back() {
    let went_back = |change: fn(&mut Observation)| {
        let seen = |change: fn(&mut Observation)| {
            seen_after(3, |seen| {
                change(seen);
                // What the state says is no concern of this invariant.
                seen.sidecar_expected.clear();
            })
        };
        broken(&[seen(change), seen(|_| {})])
    };
    assert_eq!(
        went_back(|seen| if let SidecarSeen::Content { retired, .. } = &mut seen.sidecar {
            retired.insert(9, (Purpose::Raft, 1, 2));
        }),
        ["cutovers-are-monotone"]
    );
    assert_eq!(
        went_back(|seen| if let SidecarSeen::Content { kek, .. } = &mut seen.sidecar {
            *kek = (1, Some(1));
        }),
        ["cutovers-are-monotone"]
    );
    assert!(went_back(|_| {}).is_empty());
}
