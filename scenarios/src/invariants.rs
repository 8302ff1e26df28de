//! The invariants: one table. Each is a name, a kind, and a pure function over the recorded history.

mod cluster;
mod sealing;
mod violation;

use std::collections::BTreeMap;
use std::fmt;

pub use self::cluster::{CLUSTER, ClusterInvariant, check_cluster};
pub use self::sealing::reused;
use self::sealing::{
    claims_are_granted, cutovers_are_monotone, no_clear_text_after_cutover, nonces_are_never_reused,
    values_are_readable,
};
use self::violation::Broken;
pub use self::violation::{Difference, Violation};
use crate::form::KeyNumber;
use crate::history::{Delivery, Event, Moment, Observation, SideEffects, SidecarSeen};
use crate::model::{State, Verdict};
use crate::subject::Delivered;

/// When an invariant has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At every event.
    Always,
    /// At the end of every run.
    Eventually,
}

/// One line of the table.
pub struct Invariant {
    /// Its name.
    pub name: &'static str,
    /// When it has to hold.
    pub when: When,
    /// What it says, for people.
    pub says: &'static str,
    check: fn(&[Event]) -> Vec<Broken>,
}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The table.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "legitimate-log-never-halts",
        when: When::Always,
        says: "an entry that the rules accept is accepted, also when it is delivered again",
        check: legitimate_log_never_halts,
    },
    Invariant {
        name: "verdict-matches-model",
        when: When::Always,
        says: "an entry gets the verdict that the rules give it, for the reason that they give",
        check: verdict_matches_model,
    },
    Invariant {
        name: "rejection-is-pure",
        when: When::Always,
        says: "a refused entry issues no mutating disk call and changes neither disk nor memory",
        check: rejection_is_pure,
    },
    Invariant {
        name: "failure-is-pure",
        when: When::Always,
        says: "an error that is not reported as an unknown outcome has changed neither disk nor memory",
        check: failure_is_pure,
    },
    Invariant {
        name: "halt-keeps-memory-in-step",
        when: When::Always,
        says: "a halt before the sidecar's rename leaves the keys in memory as they were, one after it keeps the new ones",
        check: halt_keeps_memory_in_step,
    },
    Invariant {
        name: "rejection-is-stable",
        when: When::Always,
        says: "a refused entry is refused for the same reason after a restart",
        check: rejection_is_stable,
    },
    Invariant {
        name: "start-succeeds",
        when: When::Always,
        says: "a node starts on whatever its own crashes left",
        check: start_succeeds,
    },
    Invariant {
        name: "sidecar-old-or-new",
        when: When::Always,
        says: "after a start the sidecar is that before the interrupted entry or that after it",
        check: sidecar_old_or_new,
    },
    Invariant {
        name: "acknowledged-survives",
        when: When::Always,
        says: "after a start the database has every acknowledged entry, and the interrupted one wholly or not at all",
        check: acknowledged_survives,
    },
    Invariant {
        name: "replay-converges",
        when: When::Always,
        says: "once everything was delivered again, sidecar, rows, data and keys are those of the model",
        check: replay_converges,
    },
    Invariant {
        name: "active-keys-resolve",
        when: When::Always,
        says: "a node that has caught up has every active key in memory, with the right bytes",
        check: active_keys_resolve,
    },
    Invariant {
        name: "key-bytes-are-distinct",
        when: When::Always,
        says: "no two key ids have the same bytes, since their nonces would repeat",
        check: key_bytes_are_distinct,
    },
    Invariant {
        name: "epochs-never-go-back",
        when: When::Always,
        says: "an epoch in a row or in the sidecar never goes down, unless the host rolled the database back",
        check: epochs_never_go_back,
    },
    Invariant {
        name: "created-is-set-once",
        when: When::Always,
        says: "the creation time of a key does not change once it was seen",
        check: created_is_set_once,
    },
    Invariant {
        name: "no-key-bytes-on-disk",
        when: When::Always,
        says: "no key bytes are ever written to the disk",
        check: no_key_bytes_on_disk,
    },
    Invariant {
        name: "nonces-are-never-reused",
        when: When::Always,
        says: "no nonce is used for two different inputs under the same key bytes",
        check: nonces_are_never_reused,
    },
    Invariant {
        name: "values-are-readable",
        when: When::Always,
        says: "every value that a node has can be read, and what it seals is what it should be",
        check: values_are_readable,
    },
    Invariant {
        name: "no-clear-text-after-cutover",
        when: When::Always,
        says: "a value that was written behind the storage cutover is stored sealed",
        check: no_clear_text_after_cutover,
    },
    Invariant {
        name: "cutovers-are-monotone",
        when: When::Always,
        says: "a cutover that was seen in the sidecar stays where it was, a retired key retired, and no KEK comes back",
        check: cutovers_are_monotone,
    },
    Invariant {
        name: "claims-are-granted",
        when: When::Always,
        says: "what a node proposes in order to claim is accepted, and then the claim is held",
        check: claims_are_granted,
    },
    Invariant {
        name: "log-is-finished",
        when: When::Eventually,
        says: "when the faults are over, the node gets to the end of the log",
        check: log_is_finished,
    },
];

/// Checks the whole table.
pub fn check(history: &[Event]) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for invariant in INVARIANTS {
        for broken in (invariant.check)(history) {
            let violation = broken.violates(invariant.name);
            if violations.iter().all(|known| known.fingerprint != violation.fingerprint) {
                violations.push(violation);
            }
        }
    }
    violations
}

/// The part of a run in which subject and model are in the same state: up to the first refusal or failure that changed
/// the disk, or that the model did not expect. What follows from it would be found once more, under a name for each
/// of its consequences.
fn in_step(history: &[Event]) -> &[Event] {
    let leaves = |event: &Event| {
        let Event::Delivered { answer, expected, faulted, effects, .. } = event else { return false };
        // A halt after an injected fault is an outcome that nobody knows, and no departure: both outcomes are expected.
        if *faulted && matches!(answer, Delivered::Halted(_)) {
            return false;
        }
        let unexpected = expected.advances() && !faulted;
        !answer.advances() && (unexpected || effects.is_some_and(|effects| effects.disk))
    };
    let end = history.iter().position(leaves).map_or(history.len(), |at| at + 1);
    &history[..end]
}

/// What a refusal and a failure may leave.
const NOTHING: SideEffects = SideEffects { mutations: 0, disk: false, memory: false };

/// The sidecar of a state, in the words in which one is seen: without times and epochs, which a state does not know.
fn sidecar_of(state: &State) -> SidecarSeen {
    if state.keys.is_empty() {
        return SidecarSeen::Missing;
    }
    SidecarSeen::Content {
        active: state.active.unwrap_or((0, 0)),
        keys: state.keys.iter().map(|(id, key)| (*id, (key.purpose, Some(key.blob)))).collect(),
        created: BTreeMap::new(),
        epochs: BTreeMap::new(),
        cutovers: (state.storage_cutover, state.raft_cutover),
        retired: state.retired.iter().map(|(id, key)| (*id, (key.purpose, key.by, key.at))).collect(),
        kek: (state.kek.0, Some(state.kek.1)),
    }
}

/// What was seen, without what a state does not know.
fn without_times(seen: &SidecarSeen) -> SidecarSeen {
    let mut seen = seen.clone();
    if let SidecarSeen::Content { created, epochs, .. } = &mut seen {
        created.clear();
        epochs.clear();
    }
    seen
}

fn observations(history: &[Event]) -> impl Iterator<Item = &Observation> {
    history.iter().filter_map(|event| match event {
        Event::Observed(observation) => Some(observation.as_ref()),
        _ => None,
    })
}

/// Every look at a node, and `None` where its sidecar was written anew in between.
fn looks(history: &[Event]) -> impl Iterator<Item = Option<&Observation>> {
    history.iter().filter_map(|event| match event {
        Event::Observed(observation) => Some(Some(observation.as_ref())),
        Event::SidecarWrittenAnew => Some(None),
        _ => None,
    })
}

fn seen(observation: &Observation, step: &str, evidence: String) -> Broken {
    let moment = match observation.moment {
        Moment::Started => "after-start",
        Moment::CaughtUp => "caught-up",
        Moment::Installed => "after-install",
    };
    Broken::new(step, moment, evidence)
}

fn legitimate_log_never_halts(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| {
        let Event::Delivered { index, kind, delivery, answer, expected, faulted, .. } = event else {
            return None;
        };
        let why = match answer {
            _ if *faulted || !expected.advances() => return None,
            Delivered::Decided(Verdict::Rejected(reason)) => reason.name().to_owned(),
            Delivered::Failed(error) | Delivered::Halted(error) => error.clone(),
            Delivered::Decided(_) | Delivered::Skipped => return None,
        };
        let when = if *delivery == Delivery::First { "first" } else { "redelivery" };
        let step = format!("{when}: {why}");
        let evidence = format!("entry {index}: expected {expected:?}, got {answer:?}");
        Some(Broken::new(step, kind.name(), evidence).with(Delivered::Decided(*expected), answer))
    };
    in_step(history).iter().filter_map(broken).collect()
}

fn verdict_matches_model(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| {
        let Event::Delivered { index, kind, delivery, answer, expected, faulted, .. } = event else {
            return None;
        };
        if *answer == Delivered::Skipped && *delivery == Delivery::First {
            let evidence = format!("entry {index} was skipped and never applied");
            return Some(
                Broken::new("skipped", kind.name(), evidence).with(Delivered::Decided(*expected), answer),
            );
        }
        let Delivered::Decided(got) = answer else { return None };
        let rejected = matches!(got, Verdict::Rejected(_));
        // Without a fault that is what `legitimate-log-never-halts` is about. A fault is no reason to refuse: what is
        // refused is decided from the entry and the state alone.
        if got == expected || (rejected && expected.advances() && !faulted) {
            return None;
        }
        // A redelivered entry may find its effect in place, and say so.
        if *delivery != Delivery::First && got.advances() && expected.advances() {
            return None;
        }
        let step = match expected {
            Verdict::Rejected(reason) => format!("{} answered {got:?}", reason.name()),
            _ => format!("{expected:?} answered {got:?}"),
        };
        let evidence = format!("entry {index}: expected {expected:?}, got {got:?}");
        Some(Broken::new(step, kind.name(), evidence).with(expected, got))
    };
    in_step(history).iter().filter_map(broken).collect()
}

fn rejection_is_pure(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| {
        let Event::Delivered { index, kind, answer, effects, .. } = event else { return None };
        let Delivered::Decided(Verdict::Rejected(reason)) = answer else { return None };
        let effects = effects.filter(|effects| !effects.none())?;
        let evidence = format!("entry {index} was refused ({}) and left {effects:?}", reason.name());
        Some(Broken::new(reason.name(), kind.name(), evidence).with(NOTHING, effects))
    };
    history.iter().filter_map(broken).collect()
}

fn failure_is_pure(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| {
        let Event::Delivered { index, kind, answer, effects, .. } = event else { return None };
        let Delivered::Failed(error) = answer else { return None };
        let effects = effects.filter(|effects| !effects.none())?;
        let evidence = format!("entry {index} failed ({error}) and left {effects:?}");
        Some(Broken::new(effects.place(), kind.name(), evidence).with(NOTHING, effects))
    };
    history.iter().filter_map(broken).collect()
}

fn halt_keeps_memory_in_step(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| {
        let Event::Halted { index, kind, before_rename, sidecar_changed, keys_changed, holds_its_keys } =
            event
        else {
            return None;
        };
        let step = match (before_rename, sidecar_changed) {
            (true, false) if *keys_changed => "not-undone",
            (_, true) if !holds_its_keys => "keys-lost",
            _ => return None,
        };
        let evidence = format!("entry {index}: {event:?}");
        Some(Broken::new(step, kind.name(), evidence))
    };
    history.iter().filter_map(broken).collect()
}

fn rejection_is_stable(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| {
        let Event::Delivered { index, kind, answer, before: Some(before), faulted: false, .. } = event else {
            return None;
        };
        if answer == before {
            return None;
        }
        let evidence = format!("entry {index}: first {before:?}, after a restart {answer:?}");
        Some(Broken::new("changed", kind.name(), evidence).with(before, answer))
    };
    in_step(history).iter().filter_map(broken).collect()
}

fn start_succeeds(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| match event {
        Event::StartRefused { why, faulted: false } => Some(Broken::new(why.clone(), "start", why.clone())),
        _ => None,
    };
    history.iter().filter_map(broken).collect()
}

fn sidecar_old_or_new(history: &[Event]) -> Vec<Broken> {
    let broken = |observation: &Observation| {
        if observation.moment != Moment::Started {
            return None;
        }
        let differs = |state: &std::sync::Arc<State>| observation.sidecar.differs_from(state);
        let mut states = observation.sidecar_expected.iter().map(differs);
        let first = states.next().flatten()?;
        if states.any(|differs| differs.is_none()) {
            return None;
        }
        let expected = observation.sidecar_expected.first().map(|state| (state.active, &state.keys));
        let evidence = format!("expected {expected:?} or the next, found {:?}", observation.sidecar);
        let expected = observation.sidecar_expected.first().map(|state| sidecar_of(state));
        Some(seen(observation, first, evidence).with(expected, Some(without_times(&observation.sidecar))))
    };
    observations(in_step(history)).filter_map(broken).collect()
}

fn acknowledged_survives(history: &[Event]) -> Vec<Broken> {
    let broken = |observation: &Observation| {
        if observation.moment != Moment::Started {
            return None;
        }
        let lowest = observation.database_expected.first()?;
        let Some(applied) = observation.applied else { return lost(observation, lowest) };
        let Some(state) = observation.database_expected.iter().find(|state| state.index == applied) else {
            let allowed: Vec<u64> = observation.database_expected.iter().map(|state| state.index).collect();
            let evidence = format!("the database is at {applied}, allowed are {allowed:?}");
            return Some(seen(observation, "applied-index", evidence));
        };
        let step = if observation.rows != state.rows {
            "rows"
        } else if observation.data != readable(state, observation) {
            "data"
        } else {
            return None;
        };
        let evidence = format!("at index {applied}: expected {state:?}, found {observation:?}");
        Some(
            seen(observation, step, evidence)
                .with((&state.rows, &state.data), (&observation.rows, &observation.data)),
        )
    };
    observations(in_step(history)).filter_map(broken).collect()
}

fn is_unreadable(observation: &Observation, key: u64) -> bool {
    observation.unreadable.iter().any(|unreadable| unreadable.key == key)
}

/// The data of a state but for what cannot be read: `values-are-readable` says so.
fn readable(state: &State, observation: &Observation) -> BTreeMap<u64, u64> {
    let data = state.data.iter().map(|(key, value)| (*key, *value));
    data.filter(|(key, _)| !is_unreadable(observation, *key)).collect()
}

/// For a subject without an applied index: what is missing from a state that must be there.
fn lost(observation: &Observation, state: &State) -> Option<Broken> {
    let row = state.rows.iter().find(|(slot, expected)| {
        observation.rows.get(slot).is_none_or(|row| row.node != expected.node || row.last < expected.last)
    });
    if let Some((slot, expected)) = row {
        let evidence = format!("row {slot:?}: expected {expected:?}, found {:?}", observation.rows.get(slot));
        return Some(seen(observation, "rows", evidence).with(&state.rows, &observation.rows));
    }
    let there = |key: &u64| observation.data.contains_key(key) || is_unreadable(observation, *key);
    let (key, value) = state.data.iter().find(|(key, _)| !there(key))?;
    Some(seen(observation, "data", format!("data {key} = {value} is missing")))
}

fn replay_converges(history: &[Event]) -> Vec<Broken> {
    let broken = |observation: &Observation| {
        if observation.moment == Moment::Started {
            return None;
        }
        let state = &observation.acknowledged;
        // The sidecar may be one entry ahead, with an entry in flight, and so may the keys in memory.
        let sidecars = &observation.sidecar_expected;
        let holds = |state: &std::sync::Arc<State>| {
            let keys = state.keys.iter().map(|(id, key)| (*id, Some(key.blob.key)));
            observation.memory.iter().map(|(id, key)| (*id, *key)).eq(keys)
        };
        // Where an active key is missing, `active-keys-resolve` says so.
        let memory = sidecars.iter().any(holds) || unresolved_key(observation).is_some();
        let sidecar = match sidecars.iter().any(|state| observation.sidecar.is_of(state)) {
            true => None,
            false => observation.sidecar.differs_from(state),
        };
        let step = match sidecar {
            Some(differs) => format!("sidecar-{differs}"),
            None if !memory => "memory".to_owned(),
            None if observation.rows != state.rows => "rows".to_owned(),
            None if observation.data != readable(state, observation) => "data".to_owned(),
            None => return None,
        };
        let evidence = format!("expected {state:?}, found {observation:?}");
        let found = seen(observation, &step, evidence);
        let keys = || -> BTreeMap<u32, Option<KeyNumber>> {
            state.keys.iter().map(|(id, key)| (*id, Some(key.blob.key))).collect()
        };
        Some(match step.as_str() {
            "memory" => found.with(keys(), &observation.memory),
            "rows" => found.with(&state.rows, &observation.rows),
            "data" => found.with(&state.data, &observation.data),
            _ => found.with(sidecar_of(state), without_times(&observation.sidecar)),
        })
    };
    observations(in_step(history)).filter_map(broken).collect()
}

/// The first active key that is not in memory with the bytes that its blob has.
fn unresolved_key(observation: &Observation) -> Option<u32> {
    let SidecarSeen::Content { active, keys, .. } = &observation.sidecar else { return None };
    [active.0, active.1].into_iter().find(|id| {
        let inside = keys.get(id).and_then(|(_, blob)| *blob).map(|blob| blob.key);
        *id != 0 && observation.memory.get(id).copied().flatten() != inside
    })
}

fn active_keys_resolve(history: &[Event]) -> Vec<Broken> {
    let broken = |observation: &Observation| {
        if observation.moment == Moment::Started {
            return None;
        }
        let unresolved = unresolved_key(observation)?;
        let evidence = format!("key {unresolved} is active; in memory are {:?}", observation.memory);
        Some(seen(observation, "unresolved", evidence))
    };
    observations(history).filter_map(broken).collect()
}

fn key_bytes_are_distinct(history: &[Event]) -> Vec<Broken> {
    let broken = |observation: &Observation| {
        let SidecarSeen::Content { keys, .. } = &observation.sidecar else { return None };
        let mut known: BTreeMap<KeyNumber, u32> = BTreeMap::new();
        for (id, (_, blob)) in keys {
            let number = blob.as_ref()?.key;
            if let Some(other) = known.insert(number, *id) {
                let evidence = format!("keys {other} and {id} have the bytes of K{}", number.0);
                return Some(Broken::new("sidecar", "keys", evidence));
            }
        }
        None
    };
    observations(history).filter_map(broken).collect()
}

fn epochs_never_go_back(history: &[Event]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut rows = BTreeMap::new();
    let mut sidecar: BTreeMap<u32, u16> = BTreeMap::new();
    for looked in looks(history) {
        let Some(observation) = looked else {
            // An epoch that was in the file alone was claimed by nobody yet.
            sidecar.clear();
            continue;
        };
        if !observation.rolled_back {
            for (slot, before) in &rows {
                let now: Option<&crate::model::Writer> = observation.rows.get(slot);
                let before: &crate::model::Writer = before;
                if now.is_some_and(|now| now.last < before.last || now.first != before.first) {
                    broken.push(seen(observation, "row", format!("row {slot:?}: {before:?}, then {now:?}")));
                }
            }
        }
        rows = observation.rows.clone();
        if let SidecarSeen::Content { epochs, .. } = &observation.sidecar {
            for (id, before) in &sidecar {
                if epochs.get(id).is_some_and(|now| now < before) {
                    broken.push(seen(observation, "sidecar", format!("key {id}: {before}, then {epochs:?}")));
                }
            }
            sidecar.clone_from(epochs);
        }
    }
    broken
}

fn created_is_set_once(history: &[Event]) -> Vec<Broken> {
    let mut first: BTreeMap<u32, String> = BTreeMap::new();
    let mut broken = Vec::new();
    // An entry whose sidecar was never shown by a start may be lost, and then its keys are created anew.
    for looked in looks(history) {
        let Some(observation) = looked else {
            first.clear();
            continue;
        };
        let SidecarSeen::Content { created, .. } = &observation.sidecar else { continue };
        for (id, time) in created {
            match first.get(id) {
                Some(known) if known != time => {
                    let evidence = format!("key {id}: first {known}, then {time}");
                    broken.push(Broken::new("changed", "sidecar", evidence).with(known, time));
                }
                Some(_) => {}
                None => {
                    first.insert(*id, time.clone());
                }
            }
        }
    }
    broken
}

fn no_key_bytes_on_disk(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| match event {
        Event::KeyOnDisk { path } => {
            Some(Broken::new(path.clone(), "write", format!("key bytes were written to {path}")))
        }
        _ => None,
    };
    history.iter().filter_map(broken).collect()
}

fn log_is_finished(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| match event {
        // A node that got stuck was reported by the invariant that it got stuck on.
        Event::Ended { reached, length, stuck: false } if reached < length => {
            Some(Broken::new("unfinished", "log", format!("reached {reached} of {length}")))
        }
        _ => None,
    };
    history.iter().filter_map(broken).collect()
}

#[cfg(test)]
mod tests;
