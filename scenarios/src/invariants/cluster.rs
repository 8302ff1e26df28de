//! The invariants of a cluster: one table more, over a chronicle. What is asked of each node alone is asked here too, node
//! by node; that the log is finished is `cluster-converges` here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Broken, Violation, When, check, reused};
use crate::chronicle::{Asked, Chronicle, ClusterEvent, Refusal, Told};
use crate::form::Form;
use crate::history::Event;
use crate::model::Verdict;
use crate::subject::Delivered;

/// One line of the table.
pub struct ClusterInvariant {
    /// Its name.
    pub name: &'static str,
    /// When it has to hold.
    pub when: When,
    /// What it says, for people.
    pub says: &'static str,
    check: fn(&Chronicle) -> Vec<Broken>,
}

impl fmt::Debug for ClusterInvariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The table.
pub const CLUSTER: &[ClusterInvariant] = &[
    ClusterInvariant {
        name: "one-leader-per-term",
        when: When::Always,
        says: "no two nodes lead in one term",
        check: one_leader_per_term,
    },
    ClusterInvariant {
        name: "one-log",
        when: When::Always,
        says: "no two nodes are handed different entries at one index",
        check: one_log,
    },
    ClusterInvariant {
        name: "replicas-agree",
        when: When::Always,
        says: "nodes that have applied the same index have the same active keys, wrapped bytes, rows and table",
        check: replicas_agree,
    },
    ClusterInvariant {
        name: "admitted-is-never-rejected",
        when: When::Always,
        says: "what a leader has proposed on a client's behalf is refused by no node when it is applied",
        check: admitted_is_never_rejected,
    },
    ClusterInvariant {
        name: "refusal-halts-everyone-alike",
        when: When::Always,
        says: "an entry that one node refuses is refused by all for the same reason, and nobody goes past it",
        check: refusal_halts_everyone_alike,
    },
    ClusterInvariant {
        name: "acknowledged-request-survives",
        when: When::Always,
        says: "what a client was told is done stands in the log where it was told",
        check: acknowledged_request_survives,
    },
    ClusterInvariant {
        name: "answers-agree",
        when: When::Always,
        says: "a request that is sent again gets the answer of the first time",
        check: answers_agree,
    },
    ClusterInvariant {
        name: "refusal-has-its-reason",
        when: When::Always,
        says: "a request is refused for the reason that the model gives at the state that it was judged against",
        check: refusal_has_its_reason,
    },
    ClusterInvariant {
        name: "refused-request-changes-nothing",
        when: When::Always,
        says: "a request that was refused is not in the log that it was judged against",
        check: refused_request_changes_nothing,
    },
    ClusterInvariant {
        name: "snapshot-brings-keys",
        when: When::Always,
        says: "a node that has taken a snapshot in has every key of that state, with the right bytes",
        check: snapshot_brings_keys,
    },
    ClusterInvariant {
        name: "lost-sidecar-is-refused",
        when: When::Always,
        says: "a node whose sidecar was taken away or rolled back does not start as if nothing had happened",
        check: lost_sidecar_is_refused,
    },
    ClusterInvariant {
        name: "nonces-are-nobody-elses",
        when: When::Always,
        says: "no nonce is used twice under one key by any node in any of its lives, for a value or an entry, but for the same \
               input",
        check: nonces_are_nobody_elses,
    },
    ClusterInvariant {
        name: "cluster-converges",
        when: When::Eventually,
        says: "when the faults are over, every live member gets to the end of the log within the bound",
        check: cluster_converges,
    },
];

fn nonces_are_nobody_elses(chronicle: &Chronicle) -> Vec<Broken> {
    let uses = chronicle.events.iter().filter_map(|event| match event {
        ClusterEvent::Used { used, .. } => Some(used),
        _ => None,
    });
    let broken =
        |(first, second)| Broken::new("reused", "nonce", format!("{first:02x?}, and then {second:02x?}"));
    reused(uses).map(broken).into_iter().collect()
}

/// Checks both tables: the one of each node on what that node went through, and this one.
pub fn check_cluster(chronicle: &Chronicle) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    let mut add = |violation: Violation| {
        if violations.iter().all(|known| known.fingerprint != violation.fingerprint) {
            violations.push(violation);
        }
    };
    for (node, history) in &chronicle.nodes {
        for violation in check(history) {
            add(Violation { evidence: format!("node {node:x}: {}", violation.evidence), ..violation });
        }
    }
    for invariant in CLUSTER {
        for broken in (invariant.check)(chronicle) {
            add(broken.violates(invariant.name));
        }
    }
    violations
}

fn broken(step: &str, entry: &'static str, evidence: String) -> Broken {
    Broken::new(step, entry, evidence)
}

fn one_leader_per_term(chronicle: &Chronicle) -> Vec<Broken> {
    let mut leaders: BTreeMap<u64, u64> = BTreeMap::new();
    let second = |event: &ClusterEvent| {
        let ClusterEvent::Leads { node, term } = event else { return None };
        let first = *leaders.entry(*term).or_insert(*node);
        (first != *node).then(|| broken("two", "term", format!("{first:x} and {node:x} lead in term {term}")))
    };
    chronicle.events.iter().filter_map(second).collect()
}

fn one_log(chronicle: &Chronicle) -> Vec<Broken> {
    let differs = |event: &ClusterEvent| {
        let ClusterEvent::Differs { node, index } = event else { return None };
        let evidence = format!("node {node:x} was handed another entry at {index}");
        Some(broken("differs", chronicle.log[*index as usize].form.kind().name(), evidence))
    };
    chronicle.events.iter().filter_map(differs).collect()
}

fn replicas_agree(chronicle: &Chronicle) -> Vec<Broken> {
    let mut held: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let differs = |event: &ClusterEvent| {
        let ClusterEvent::Holds { node, index, digest } = event else { return None };
        let (first, known) = *held.entry(*index).or_insert((*node, *digest));
        let evidence = format!("{first:x} and {node:x} differ at index {index}");
        (known != *digest).then(|| broken("differ", "state", evidence))
    };
    chronicle.events.iter().filter_map(differs).collect()
}

/// Whether anything at or before an index got into the log without having been checked, so that what was checked after
/// it was checked against another state.
fn is_spoilt(chronicle: &Chronicle, index: u64) -> bool {
    chronicle.log.iter().take(index as usize + 1).any(|entry| entry.smuggled)
}

fn admitted_is_never_rejected(chronicle: &Chronicle) -> Vec<Broken> {
    let rejected = |event: &ClusterEvent| {
        let ClusterEvent::Refused { node, index, answer: Delivered::Decided(Verdict::Rejected(reason)) } =
            event
        else {
            return None;
        };
        if is_spoilt(chronicle, *index) {
            return None;
        }
        let entry = &chronicle.log[*index as usize];
        let evidence = format!("node {node:x} refuses {} at {index}: {}", entry.form, reason.name());
        Some(broken(reason.name(), entry.form.kind().name(), evidence))
    };
    chronicle.events.iter().filter_map(rejected).collect()
}

fn refusal_halts_everyone_alike(chronicle: &Chronicle) -> Vec<Broken> {
    let mut first: Option<(u64, u64, &Delivered)> = None;
    let mut found = Vec::new();
    for event in &chronicle.events {
        match event {
            ClusterEvent::Refused { node, index, answer } => match first {
                None => first = Some((*node, *index, answer)),
                Some((other, at, known)) if at != *index || known != answer => {
                    let evidence = format!("{other:x} at {at}: {known}; {node:x} at {index}: {answer}");
                    found.push(broken("reasons-differ", "entry", evidence).with(known, answer));
                }
                Some(_) => {}
            },
            ClusterEvent::PastRefusal { node, index } => {
                let evidence =
                    format!("{node:x} is at {index}, the model stops at {:?}", chronicle.refused_at());
                found.push(broken("gone-past", "entry", evidence));
            }
            _ => {}
        }
    }
    found
}

/// Everything that clients were told, with what they had asked for where the answer was the first one.
fn told(chronicle: &Chronicle) -> impl Iterator<Item = (Asked, Option<&Form>, &Told)> {
    chronicle.events.iter().filter_map(|event| match event {
        ClusterEvent::Told { asked, form, told } => Some((*asked, form.as_ref(), told)),
        _ => None,
    })
}

fn acknowledged_request_survives(chronicle: &Chronicle) -> Vec<Broken> {
    let lost = |(asked, form, told): (Asked, Option<&Form>, &Told)| {
        let (Told::Done(Some(index)), Some(form)) = (told, form) else { return None };
        match chronicle.log.get(*index as usize) {
            // A duplicate names the entry that had the effect, which somebody else may have asked for.
            Some(entry) if entry.form == *form => None,
            Some(entry) if has_the_effect_of(&entry.form, form) => None,
            found => {
                let evidence = format!("{asked:?}, {form}, was done at {index}, where the log has {found:?}");
                Some(
                    broken("lost", form.kind().name(), evidence)
                        .with(Some(form), found.map(|entry| &entry.form)),
                )
            }
        }
    };
    told(chronicle).filter_map(lost).collect()
}

/// Whether an entry did what another one asks for: a value is sealed by whoever proposes it, and an envelope that somebody
/// has switched on is on for all.
fn has_the_effect_of(entry: &Form, wish: &Form) -> bool {
    match (entry, wish) {
        (Form::Data { key, value, .. }, Form::Data { key: wanted, value: of, .. }) => {
            (key, value) == (wanted, of)
        }
        (Form::Cutover { purpose, .. }, Form::Cutover { purpose: wanted, .. }) => purpose == wanted,
        _ => false,
    }
}

fn answers_agree(chronicle: &Chronicle) -> Vec<Broken> {
    let mut first: BTreeMap<Asked, &Told> = BTreeMap::new();
    let mut twice: BTreeSet<Asked> = BTreeSet::new();
    let mut found = Vec::new();
    for (asked, form, told) in told(chronicle) {
        if matches!(form, Some(Form::Data { .. })) {
            twice.insert(asked);
        }
        let known = *first.entry(asked).or_insert(told);
        // A membership that is as wanted has no one index, and what is put into the table may be put there twice.
        let same = match (known, told) {
            (Told::Done(a), Told::Done(b)) => a == b || a.is_none() || b.is_none() || twice.contains(&asked),
            (Told::Refused { .. }, Told::Refused { .. }) => true,
            // A refusal speaks of the state at its index. What was done by then must not be refused.
            (Told::Done(Some(done)), Told::Refused { at, .. })
            | (Told::Refused { at, .. }, Told::Done(Some(done))) => at < done,
            (Told::Done(None), Told::Refused { .. }) | (Told::Refused { .. }, Told::Done(None)) => true,
        };
        if !same {
            let evidence = format!("{asked:?}: first {known:?}, then {told:?}");
            found.push(broken("differ", "request", evidence).with(known, told));
        }
    }
    found
}

fn refusal_has_its_reason(chronicle: &Chronicle) -> Vec<Broken> {
    let wrong = |(asked, form, told): (Asked, Option<&Form>, &Told)| {
        let (Told::Refused { why: Refusal::Verdict(reason), at }, Some(form)) = (told, form) else {
            return None;
        };
        let state = chronicle.states.get(*at as usize)?;
        let expected = state.judge(chronicle.rules, true, form);
        let evidence = format!("{asked:?}, {form}, at {at}: expected {expected:?}, told {reason:?}");
        let told = Verdict::Rejected(*reason);
        (expected != told).then(|| broken(reason.name(), form.kind().name(), evidence).with(expected, told))
    };
    told(chronicle).filter_map(wrong).collect()
}

fn refused_request_changes_nothing(chronicle: &Chronicle) -> Vec<Broken> {
    let done = |(asked, _, told): (Asked, Option<&Form>, &Told)| {
        let Told::Refused { why, at: judged } = told else { return None };
        let before = chronicle.log.iter().take(*judged as usize + 1);
        let at = before.into_iter().position(|entry| entry.asked == asked)?;
        let entry = &chronicle.log[at];
        let evidence = format!("{asked:?} was refused at {judged} ({why:?}) and stands at {at}");
        Some(broken("in-the-log", entry.form.kind().name(), evidence))
    };
    told(chronicle).filter_map(done).collect()
}

fn snapshot_brings_keys(chronicle: &Chronicle) -> Vec<Broken> {
    let missing = |event: &ClusterEvent| {
        let ClusterEvent::Installed { node, index, missing_keys } = event else { return None };
        let evidence = format!("node {node:x} at {index} lacks {missing_keys:?}");
        (!missing_keys.is_empty()).then(|| broken("missing", "keys", evidence))
    };
    chronicle.events.iter().filter_map(missing).collect()
}

fn lost_sidecar_is_refused(chronicle: &Chronicle) -> Vec<Broken> {
    let started = |event: &ClusterEvent| {
        let ClusterEvent::StartedWithoutItsSidecar { node, refusal: None } = event else { return None };
        Some(broken("started", "start", format!("node {node:x} started")))
    };
    chronicle.events.iter().filter_map(started).collect()
}

fn cluster_converges(chronicle: &Chronicle) -> Vec<Broken> {
    let end = &chronicle.end;
    if end.converged_ms.is_some() {
        return Vec::new();
    }
    // A node that is refused its start for a reason of its own is found by that name.
    let refused = |event: &Event| matches!(event, Event::StartRefused { faulted: false, .. });
    if chronicle.nodes.values().flatten().any(refused) {
        return Vec::new();
    }
    let evidence = format!("{:?}; applied {:?}, halted {:?}", end.waiting_for, end.applied, end.halted);
    vec![broken("not-in-time", "end", evidence)]
}

#[cfg(test)]
mod tests;
