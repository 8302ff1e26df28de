//! Whether two sidecars come from one log, and the one that holds what both know.
//!
//! Each side *reaches* up to an index: what it holds is the effect of every entry up to there. A key of one side whose
//! entry the other side reaches must therefore be known to the other, as the same key.

use std::cmp::Ordering;

use super::{EntryName, Sidecar, Tombstone};
use crate::ids::{DekId, LocalEpoch, Purpose, RaftIndex};

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
    /// One side has an envelope switched on by another entry, or should have it switched on.
    #[error("the cutover of the {0:?} envelope is not the same entry on both")]
    Cutover(Purpose),
    /// One side had its keys wrapped by another rewrap, or should have had them wrapped by it.
    #[error("the rewraps are not the same entries on both")]
    Rewrap,
}

/// A node's own sidecar, if it has one, together with one that another node took of the same log.
///
/// The higher index decides what there is. What is the node's own stays: its epochs, and the time of creation of each
/// key that it knew. Nothing that one of them has reached is lost, since each must have what it reaches.
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
        Ordering::Equal if own.active != theirs.active => return Err(Divergence::Active),
        Ordering::Less => theirs,
        Ordering::Equal | Ordering::Greater => own,
    };
    Ok(Some(owned(newer.clone(), Some(own))))
}

/// Every effect of `one` whose entry `other` reaches is the same effect there.
fn covers(one: &Sidecar, other: &Sidecar, reach: RaftIndex) -> Result<(), Divergence> {
    for (id, key) in &one.keys {
        let is_same = match (other.keys.get(id), other.retired.get(id)) {
            (Some(found), _) => {
                let same_wrap = one.generation() != other.generation() || found.wrapped == key.wrapped;
                same_wrap && (found.name, found.purpose) == (key.name, key.purpose)
            }
            (None, Some(stone)) => (stone.installed, stone.purpose) == (key.name, key.purpose),
            (None, None) => key.name.raft_index > reach,
        };
        if !is_same {
            return Err(Divergence::Key(*id));
        }
    }
    for (id, stone) in &one.retired {
        if !has_stone(other, *id, stone, reach) {
            return Err(Divergence::Key(*id));
        }
    }
    let same_or_later = |one: Option<EntryName>, other: Option<EntryName>| match (one, other) {
        (Some(one), None) => one.raft_index > reach,
        (one, other) => one.is_none() || one == other,
    };
    for purpose in [Purpose::Storage, Purpose::Raft] {
        if !same_or_later(one.cutovers.of(purpose), other.cutovers.of(purpose)) {
            return Err(Divergence::Cutover(purpose));
        }
    }
    for (number, rewrap) in one.rewraps.iter().enumerate() {
        let is_same = match other.rewraps.get(number) {
            Some(found) => found == rewrap,
            None => rewrap.name.raft_index > reach,
        };
        if !is_same {
            return Err(Divergence::Rewrap);
        }
    }
    Ok(())
}

/// Whether `other`, which reaches up to `reach`, has what a key that was retired must have left there.
fn has_stone(other: &Sidecar, id: DekId, stone: &Tombstone, reach: RaftIndex) -> bool {
    match (other.retired.get(&id), other.keys.get(&id)) {
        (Some(found), _) => found == stone,
        (None, Some(key)) => {
            (key.name, key.purpose) == (stone.installed, stone.purpose) && stone.retired.raft_index > reach
        }
        (None, None) => stone.installed.raft_index > reach,
    }
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

#[cfg(test)]
mod tests;
