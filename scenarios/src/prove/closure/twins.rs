//! Evidence that merging is sound: a second exact disk of a state leads to the same states as the first.

use std::collections::BTreeSet;

use super::{Action, Closure, StateId};
use crate::invariants::Violation;
use crate::prove::Terms;
use crate::prove::life::Stage;
use crate::prove::script::Script;

impl Closure {
    /// Closes the log, and goes on until what the twins have met, by tears of pages, was lived on as well.
    pub(in crate::prove) fn finish(&mut self, terms: Terms<'_>, script: &Script) {
        loop {
            self.close(terms, script);
            if self.stopped || !self.findings.is_empty() {
                return;
            }
            self.compare_twins(terms, script);
            if self.work.is_empty() {
                return;
            }
        }
    }

    /// Lives on a second exact image of each content: every stretch has to lead to what it led the first one to.
    fn compare_twins(&mut self, terms: Terms<'_>, script: &Script) {
        let mut stage = Stage::new(terms.subject, script);
        for ((id, _), station) in std::mem::take(&mut self.twins) {
            let origin = station.origin;
            if terms.is_stopped() {
                self.stopped = true;
                return;
            }
            self.states.twins += 1;
            let before = self.states.checked;
            let actions: Vec<Action> = self
                .done
                .range((id, Action::Start)..=(id, Action::Stop))
                .map(|((_, action), _)| *action)
                .collect();
            for action in actions {
                if let Some(segment) = self.one_life(&mut stage, id, action, &station) {
                    let found = self.successors(&mut stage, &segment, origin);
                    // A start may tidy up, and then what comes after it begins in another state.
                    let expected = self.done.get(&(segment.before, segment.action)).cloned();
                    if let Some(expected) = expected.filter(|expected| **expected != found) {
                        let named = |ids: &BTreeSet<StateId>| -> Vec<String> {
                            ids.iter().map(|id| self.named(*id)).collect()
                        };
                        let evidence = format!(
                            "{action} leads to {:?} from one image of {id:?}, to {:?} from another",
                            named(&expected),
                            named(&found)
                        );
                        let violation = Violation {
                            invariant: "equal-content-behaves-equally",
                            fingerprint: "equal-content-behaves-equally/expand/content".to_owned(),
                            evidence,
                            difference: None,
                        };
                        self.report(script, &[violation], origin, action);
                    }
                }
            }
            (terms.progress)(self.states.checked - before);
        }
    }

    /// A state for people: of one with pending operations what a start sees, and what a power loss may leave.
    fn named(&self, id: StateId) -> String {
        match self.pairs.iter().find(|(_, pair)| id == StateId::Pair(**pair)) {
            Some(((seen, images), _)) => format!("{id:?} = {seen:?} over {images:?}"),
            None => format!("{id:?}"),
        }
    }
}
