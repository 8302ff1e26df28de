//! Writing a sidecar anew that was lost, damaged or replaced by an old copy, from what a healthy peer has.
//!
//! The node itself has kept what no peer can give: the index of its newest key entry and the epochs that it has claimed, in
//! its database. Everything else is in the log, and so in every peer's snapshot. A peer that is ahead is as good as one at
//! the same index: entries in between are delivered again, and find their effects named.

use super::install::{Malformed, check_snapshot};
use super::start::{self, Config, KeyFault, unwrap_all, wrapped_keys};
use crate::ids::{DekId, LocalEpoch, RaftIndex};
use crate::kek::RingError;
use crate::outcome::StartError;
use crate::ports::Files;
use crate::registry::{Registry, RegistryError};
use crate::sidecar::file::{SidecarPath, WriteFault};
use crate::sidecar::merge::{Divergence, merge};
use crate::sidecar::{SidecarContent, json};
use crate::snapshot::Snapshot;

/// Why a sidecar was not written anew. Except for `Write`, nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResyncError {
    /// This node has no keyring.
    #[error("this node has no KEK; configure one together with a sidecar path")]
    NoKeyring,
    /// The sidecar was written by the reference system.
    #[error("the sidecar was written by the reference system; adopt it")]
    Foreign,
    /// The sidecar that is there could not be read.
    #[error(transparent)]
    Read(StartError),
    /// The snapshot contradicts itself.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The peer has no keys.
    #[error(
        "the peer's snapshot at index {snapshot} has no keys; take one of a peer that has applied the bootstrap"
    )]
    NoKeys {
        /// Index of the snapshot.
        snapshot: RaftIndex,
    },
    /// The peer lacks a key entry that this node has applied.
    #[error(
        "the peer's sidecar is at index {found}, and this node applied the key entry at index {applied}; take a snapshot of \
         a peer that has applied it too"
    )]
    PeerBehind {
        /// Index of the peer's sidecar.
        found: RaftIndex,
        /// The newest entry that changed this node's.
        applied: RaftIndex,
    },
    /// This node's sidecar is there, and of another log; or this node has claimed epochs under a key that the peer never
    /// had.
    #[error(
        "the snapshot and this node's sidecar do not come from one log: {0}; ask a peer of this node's own cluster, or if the \
         file is another cluster's, move it away"
    )]
    DifferentLog(#[from] Divergence),
    /// The keys do not open here; the message is that of a start on them.
    #[error(transparent)]
    Keys(StartError),
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The file could not be written. It may be there all the same: start, or write it anew once more.
    #[error("the sidecar was not written: {0}")]
    Write(#[from] WriteFault),
}

impl From<KeyFault> for ResyncError {
    fn from(fault: KeyFault) -> ResyncError {
        ResyncError::Keys(fault.into())
    }
}

impl From<RingError> for ResyncError {
    fn from(fault: RingError) -> ResyncError {
        ResyncError::Keys(fault.into())
    }
}

/// Writes the sidecar of a stopped node anew, from a healthy peer's snapshot, crash-durably. `registry` is the node's own,
/// whose lock keeps the node from running meanwhile. What is still legible of the old file keeps its epochs and times of
/// creation. Afterwards the node starts as ever, and its log goes on where its database is.
///
/// # Errors
/// [`ResyncError`].
pub fn resync<F: Files, R: Registry>(
    files: &F,
    registry: &R,
    config: &Config,
    snapshot: &Snapshot,
) -> Result<(), ResyncError> {
    let keyring = config.keyring.as_ref().ok_or(ResyncError::NoKeyring)?;
    check_snapshot(snapshot)?;
    let at = snapshot.registry.applied_index;
    let theirs = snapshot.sidecar.as_ref().ok_or(ResyncError::NoKeys { snapshot: at })?;
    let local = registry.local()?;
    let path = SidecarPath::new(&keyring.sidecar);
    let own = match start::read(files, &path) {
        Ok(Some((SidecarContent::Ours(own), _))) => Some(own),
        Ok(Some((SidecarContent::Foreign(_), _))) => return Err(ResyncError::Foreign),
        // What is damaged cannot be used, which is why it is written anew.
        Ok(None) | Err(StartError::Sidecar { .. }) => None,
        Err(error) => return Err(ResyncError::Read(error)),
    };
    let own_reach = own.as_ref().map_or(RaftIndex::ZERO, |own| own.raft_applied_index);
    let mut sidecar = merge((own.as_ref(), own_reach), (Some(theirs), at))?.expect("the peer has one");
    if sidecar.raft_applied_index < local.sidecar_index {
        let (found, applied) = (theirs.raft_applied_index, local.sidecar_index);
        return Err(ResyncError::PeerBehind { found, applied });
    }
    let is_known = |id: &DekId| sidecar.keys.contains_key(id) || sidecar.retired.contains_key(id);
    if let Some(id) = local.epochs.keys().find(|id| !is_known(id)) {
        return Err(Divergence::Key(*id).into());
    }
    for (id, key) in &mut sidecar.keys {
        let claimed = local.epochs.get(id).copied().unwrap_or(LocalEpoch(0));
        key.local_epoch = key.local_epoch.max(claimed);
    }
    let ring = &keyring.kek;
    unwrap_all(start::in_force(ring, &sidecar, &local)?, wrapped_keys(&sidecar))?;
    path.write(files, &json::encode(&sidecar))?;
    tracing::info!(path = path.path(), index = %sidecar.raft_applied_index, "the sidecar was written anew");
    Ok(())
}
