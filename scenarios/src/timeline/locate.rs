//! Where in a run a violation came up.

use std::collections::BTreeMap;

use crate::chronicle::{Chronicle, End};
use crate::invariants::{Violation, check, check_cluster};
use crate::world::Record;

/// The number of the event at which a violation came up: the first prefix of what was taken down that shows it. One that
/// is there before anything was taken down, or only in how the run ended, speaks of the whole run, and comes up with its
/// last event.
pub(crate) fn arises(record: &Record, violation: &Violation) -> usize {
    let marks: Vec<usize> =
        (0..record.events.len()).filter(|at| record.events[*at].kind == "history").collect();
    let shows = |marks: &[usize]| {
        let violations = match &record.chronicle {
            None => check(&record.history[..marks.len().min(record.history.len())]),
            Some(chronicle) => check_cluster(&up_to(chronicle, record, marks)),
        };
        violations.iter().any(|found| found.fingerprint == violation.fingerprint)
    };
    let last = record.events.len().saturating_sub(1);
    if marks.is_empty() || shows(&[]) || !shows(&marks) {
        return last;
    }
    let (mut without, mut with) = (0, marks.len());
    while without + 1 < with {
        let middle = without.midpoint(with);
        if shows(&marks[..middle]) {
            with = middle;
        } else {
            without = middle;
        }
    }
    marks[with - 1]
}

/// A chronicle as it was after these marks. How it ended is not known yet.
fn up_to(chronicle: &Chronicle, record: &Record, marks: &[usize]) -> Chronicle {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for at in marks {
        *counts.entry(record.events[*at].who).or_default() += 1;
    }
    let count = |who: u64| counts.get(&who).copied().unwrap_or(0);
    let nodes = chronicle.nodes.iter().map(|(node, history)| {
        let length = count(*node).min(history.len());
        (*node, history[..length].to_vec())
    });
    Chronicle {
        rules: chronicle.rules,
        nodes: nodes.collect(),
        log: chronicle.log.clone(),
        states: chronicle.states.clone(),
        events: chronicle.events[..count(0).min(chronicle.events.len())].to_vec(),
        end: End { converged_ms: Some(0), ..End::default() },
    }
}
