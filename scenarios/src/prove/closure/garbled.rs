//! Sectors that hold neither the old nor the new bytes: harsher than any profile, and than what a database promises to
//! survive. The expected answer is a clean refusal, or a state that is right all the same.

use sim::{Choices, Tearing};

use super::{Action, Closure, Point, Stage};
use crate::invariants::Violation;
use crate::prove::life::Actor;

/// Images drawn of each window.
const SAMPLES: u64 = 16;

impl Closure {
    /// Garbles what is pending at a point, and looks at what a node makes of it.
    pub(super) fn garble(&mut self, stage: &mut Stage<'_>, point: &Point, parent: usize, action: Action) {
        for _ in 0..SAMPLES {
            self.samples += 1;
            self.states.garbled += 1;
            let image = point.disk.fork();
            image.set_tearing(Tearing::Garbled);
            let report = image.power_loss(&mut Choices::seeded(self.samples));
            let mut starts = || {
                let mut actor = Actor::start(stage, image.fork(), &point.known, false);
                let refusal = actor.refusal();
                if actor.lives() {
                    actor.catch_up(|_| false);
                }
                let violations = actor.violations();
                actor.end();
                (refusal, violations)
            };
            let (refusal, violations) = starts();
            let violations = match refusal {
                // These name what is damaged. Any other refusal would name a loss that there was none.
                Some(refusal) if ["database", "sidecar-damaged"].contains(&refusal.as_str()) => {
                    self.states.refused += 1;
                    let (again, _) = starts();
                    if again.as_ref() == Some(&refusal) { continue } else { vec![unstable(&refusal, again)] }
                }
                _ => violations,
            };
            if !violations.is_empty() {
                let step = super::place(point, action);
                let step = format!("{step}, power loss with garbled sectors: {report}");
                let depth = self.origins[parent].depth + 1;
                let origin = self.origin(super::Origin { parent: Some(parent), step, depth });
                self.report(stage.script, &violations, origin, Action::Start);
            }
        }
    }
}

fn unstable(refusal: &str, again: Option<String>) -> Violation {
    Violation {
        invariant: "start-succeeds",
        fingerprint: "start-succeeds/refusal changed/start".to_owned(),
        evidence: format!("a start was refused ({refusal}), the next one not in the same way ({again:?})"),
        difference: None,
    }
}
