//! What an invariant gives when it does not hold.

use std::fmt;

/// One breach: where (part of the fingerprint), and the evidence (not part of it).
pub(super) struct Broken {
    step: String,
    entry: &'static str,
    evidence: String,
    difference: Option<Difference>,
}

impl Broken {
    pub(super) fn new(step: impl Into<String>, entry: &'static str, evidence: String) -> Broken {
        Broken { step: step.into(), entry, evidence, difference: None }
    }

    /// The same, with what should have been and what was.
    pub(super) fn with(self, expected: impl fmt::Debug, found: impl fmt::Debug) -> Broken {
        let difference = Difference { expected: format!("{expected:#?}"), found: format!("{found:#?}") };
        Broken { difference: Some(difference), ..self }
    }

    pub(super) fn violates(self, invariant: &'static str) -> Violation {
        let fingerprint = format!("{invariant}/{}/{}", self.step, self.entry);
        Violation { invariant, fingerprint, evidence: self.evidence, difference: self.difference }
    }
}

/// What should have been and what was, over several lines each, to be compared line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What should have been.
    pub expected: String,
    /// What was.
    pub found: String,
}

/// A violation, as reports carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// What went wrong: invariant, step and entry kind. Equal for one defect found from a thousand seeds.
    pub fingerprint: String,
    /// What was expected and found, for people.
    pub evidence: String,
    /// The same side by side, where both are states or verdicts.
    pub difference: Option<Difference>,
}
