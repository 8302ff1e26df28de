//! Whether two sidecars come from one log, and the one that holds what both know.
//!
//! Each side *reaches* up to an index: what it holds is the effect of every entry up to there. A key of one side whose
//! entry the other side reaches must therefore be known to the other, as the same key.

use super::{Cutovers, Sidecar};
use crate::ids::{DekId, LocalEpoch, RaftIndex};

/// What two sidecars of one log cannot differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// One side has been bootstrapped by another entry, or should have been.
    #[error("the bootstraps are not the same entry")]
    Bootstrap,
    /// A key that one side lacks and should have, or that has another entry, purpose or wrapped bytes there.
    #[error("key {0} is not the same on both")]
    Key(DekId),
    /// Other active keys after the same entry.
    #[error("the active keys are not the same on both")]
    Active,
}

/// A node's own sidecar, if it has one, together with one that another node took of the same log.
///
/// The higher index decides what there is. What is the node's own stays: its epochs, and the time of creation of each
/// key that it knew. Switches and indices only go up.
///
/// # Errors
/// [`Divergence`], where this is not the same log.
pub(crate) fn merge(
    (own, own_reach): (Option<&Sidecar>, RaftIndex),
    (theirs, their_reach): (Option<&Sidecar>, RaftIndex),
) -> Result<Option<Sidecar>, Divergence> {
    let lacks = |bootstrapped: &Sidecar, reach| match bootstrapped.bootstrap.raft_index <= reach {
        true => Err(Divergence::Bootstrap),
        false => Ok(()),
    };
    let (own, theirs) = match (own, theirs) {
        (None, None) => return Ok(None),
        (Some(own), None) => return lacks(own, their_reach).map(|()| Some(own.clone())),
        (None, Some(theirs)) => {
            lacks(theirs, own_reach)?;
            return Ok(Some(owned(theirs.clone(), None)));
        }
        (Some(own), Some(theirs)) => (own, theirs),
    };
    if own.bootstrap != theirs.bootstrap {
        return Err(Divergence::Bootstrap);
    }
    covers(own, theirs, their_reach)?;
    covers(theirs, own, own_reach)?;
    let newer = match own.raft_applied_index.cmp(&theirs.raft_applied_index) {
        std::cmp::Ordering::Equal if own.active != theirs.active => return Err(Divergence::Active),
        std::cmp::Ordering::Less => theirs,
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => own,
    };
    let cutovers = own.cutovers.or(theirs.cutovers);
    Ok(Some(owned(Sidecar { cutovers, ..newer.clone() }, Some(own))))
}

/// Every key of `one` whose entry `other` reaches is the same key there.
fn covers(one: &Sidecar, other: &Sidecar, reach: RaftIndex) -> Result<(), Divergence> {
    for (id, key) in &one.keys {
        let is_same = match other.keys.get(id) {
            Some(found) => {
                (found.name, found.purpose, &found.wrapped) == (key.name, key.purpose, &key.wrapped)
            }
            None => key.name.raft_index > reach,
        };
        if !is_same {
            return Err(Divergence::Key(*id));
        }
    }
    Ok(())
}

/// Makes a sidecar this node's, whose own one is `own`.
fn owned(mut sidecar: Sidecar, own: Option<&Sidecar>) -> Sidecar {
    for (id, key) in &mut sidecar.keys {
        key.local_epoch = LocalEpoch(0);
        if let Some(known) = own.and_then(|own| own.keys.get(id)) {
            key.local_epoch = known.local_epoch;
            key.created.clone_from(&known.created);
        }
    }
    sidecar
}

impl Cutovers {
    /// What has happened on either side has happened.
    fn or(self, other: Cutovers) -> Cutovers {
        Cutovers {
            storage_envelope_active: self.storage_envelope_active || other.storage_envelope_active,
            storage_envelope_cutover_index: self
                .storage_envelope_cutover_index
                .max(other.storage_envelope_cutover_index),
            raft_envelope_cutover_index: self
                .raft_envelope_cutover_index
                .max(other.raft_envelope_cutover_index),
        }
    }
}

#[cfg(test)]
mod tests;
