//! How much may be destroyed. A majority of the durable copies never is: a run that is red then has found a defect and not
//! an unfair test.

use std::collections::BTreeSet;

/// A licence to destroy what one member has made durable. It is given back when a new member is in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Licence {
    /// The member.
    pub(super) member: u64,
    /// The machine that it lives on.
    pub(super) slot: usize,
}

/// The members whose copies are destroyed, or may be.
#[derive(Debug, Default)]
pub(super) struct Budget {
    destroyed: BTreeSet<u64>,
}

impl Budget {
    /// A licence for `member`, unless too few of the `voters` would keep what they have. Whoever has no vote costs
    /// nothing, and is not worth it either.
    pub(super) fn grant(&mut self, voters: &[u64], member: u64, slot: usize) -> Option<Licence> {
        let minority = voters.len().saturating_sub(1) / 2;
        let fits = voters.contains(&member) && self.destroyed.len() < minority;
        (fits && self.destroyed.insert(member)).then_some(Licence { member, slot })
    }

    /// Whether the copy of a member is destroyed, or may be.
    pub(super) fn is_destroyed(&self, member: u64) -> bool {
        self.destroyed.contains(&member)
    }

    /// A new member is in the place of the old one, and has a vote.
    pub(super) fn restored(&mut self, licence: Licence) {
        self.destroyed.remove(&licence.member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_never_destroyed() {
        let mut budget = Budget::default();
        let voters = [1, 2, 3, 4, 5];
        let first = budget.grant(&voters, 1, 0).expect("one of five");
        assert!(budget.grant(&voters, 1, 0).is_none(), "it is destroyed already");
        assert!(budget.grant(&voters, 9, 0).is_none(), "it has no vote");
        assert!(budget.grant(&voters, 2, 1).is_some(), "two of five");
        assert!(budget.grant(&voters, 3, 2).is_none(), "three of five are a majority");
        assert!(budget.is_destroyed(1) && !budget.is_destroyed(3));
        budget.restored(first);
        assert!(budget.grant(&voters, 3, 2).is_some());
        assert!(Budget::default().grant(&[1, 2], 1, 0).is_none(), "of two both are needed");
    }
}
