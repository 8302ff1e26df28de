//! What is said of everything that is sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::violation::Broken;
use super::{in_step, observations, seen};
use crate::history::{Event, Moment, Observation, SidecarSeen, Unreadable};
use crate::model::State;
use crate::sealing::Use;

/// The first use of a nonce that another use of the same key and nonce contradicts, and that one.
pub fn reused<'a>(uses: impl IntoIterator<Item = &'a Use>) -> Option<(Use, Use)> {
    let mut ledger: BTreeMap<(u64, [u8; 12]), Use> = BTreeMap::new();
    uses.into_iter().find_map(|used| {
        let first = *ledger.entry((used.key, used.nonce)).or_insert(*used);
        (first.input != used.input).then_some((first, *used))
    })
}

pub(super) fn nonces_are_never_reused(history: &[Event]) -> Vec<Broken> {
    let uses = history.iter().filter_map(|event| match event {
        Event::Sealed(used) => Some(used),
        _ => None,
    });
    let broken =
        |(first, second)| Broken::new("reused", "nonce", format!("{first:02x?}, and then {second:02x?}"));
    reused(uses).map(broken).into_iter().collect()
}

pub(super) fn values_are_readable(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| match event {
        Event::SealedWrongly { why } => Some(Broken::new("sealed-wrongly", "value", why.clone())),
        Event::Observed(observation) => {
            let unreadable =
                observation.unreadable.iter().find(|unreadable| !is_excused(observation, unreadable))?;
            Some(seen(observation, "unreadable", format!("{unreadable:?}")))
        }
        _ => None,
    };
    in_step(history).iter().filter_map(broken).collect()
}

/// A key goes when no value is under it any more. A node whose database went back behind that has to come to it again
/// first.
fn is_excused(observation: &Observation, unreadable: &Unreadable) -> bool {
    let Some(dek) = unreadable.dek else { return false };
    let states = observation.sidecar_expected.iter().chain([&observation.acknowledged]);
    let retired = states.filter_map(|state| state.retired.get(&dek)).next();
    retired.is_some_and(|retired| observation.applied.is_some_and(|applied| applied < retired.at))
}

pub(super) fn no_clear_text_after_cutover(history: &[Event]) -> Vec<Broken> {
    let broken = |observation: &Observation| {
        let state = state_of(observation)?;
        let cutover = state.storage_cutover?;
        let is_clear = |key: &u64| observation.data.contains_key(key) && !observation.sealed.contains(key);
        let (key, write) = state.writes.iter().find(|(key, write)| write.by > cutover && is_clear(key))?;
        let evidence =
            format!("the cutover is at {cutover}, and entry {} has left {key} in clear text", write.by);
        Some(seen(observation, "clear", evidence))
    };
    observations(in_step(history)).filter_map(broken).collect()
}

/// The state that the database is in, where that is known.
fn state_of(observation: &Observation) -> Option<&Arc<State>> {
    match (observation.applied, observation.moment) {
        (Some(applied), _) => {
            let states = observation.database_expected.iter().chain([&observation.acknowledged]);
            states.into_iter().find(|state| state.index == applied)
        }
        (None, Moment::Started) => None,
        (None, _) => Some(&observation.acknowledged),
    }
}

pub(super) fn cutovers_are_monotone(history: &[Event]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut before: Option<&SidecarSeen> = None;
    for observation in observations(history) {
        let now = &observation.sidecar;
        if matches!(now, SidecarSeen::Unreadable(_)) {
            continue;
        }
        if let Some(step) = before.and_then(|before| went_back(before, now)) {
            broken.push(seen(observation, step, format!("{before:?}, and then {now:?}")));
        }
        before = Some(now);
    }
    broken
}

fn went_back(before: &SidecarSeen, now: &SidecarSeen) -> Option<&'static str> {
    let SidecarSeen::Content { cutovers: before_cutovers, retired: before_retired, kek: before_kek, .. } =
        before
    else {
        return None;
    };
    let (cutovers, retired, kek) = match now {
        SidecarSeen::Content { cutovers, retired, kek, .. } => (*cutovers, retired.clone(), *kek),
        _ => ((None, None), BTreeMap::new(), (0, None)),
    };
    let moved = |before: Option<u64>, now: Option<u64>| before.is_some() && before != now;
    if moved(before_cutovers.0, cutovers.0) {
        Some("storage-cutover")
    } else if moved(before_cutovers.1, cutovers.1) {
        Some("raft-cutover")
    } else if before_retired.iter().any(|(id, key)| retired.get(id) != Some(key)) {
        Some("retired")
    } else {
        (kek.0 < before_kek.0).then_some("kek-generation")
    }
}

pub(super) fn claims_are_granted(history: &[Event]) -> Vec<Broken> {
    let broken = |event: &Event| match event {
        Event::ClaimFailed { step, why } => Some(Broken::new(*step, "claim", why.clone())),
        _ => None,
    };
    in_step(history).iter().filter_map(broken).collect()
}
