//! What the host knows of its cluster when a node starts, and the guards that hold it against the sidecar and the rows.
//!
//! A start goes through these steps; the first refusal ends it, and nothing of a later step has happened:
//!
//! ```text
//! host    load the KEK file                                  KekError
//! host    what was configured (see `preflight`)              StartError
//! open    the database: is there, locked, whole              DatabaseMissing, OpenError
//! start   sync the directory of the database
//!         the KEKs that were promised                        KeyringRequired, KeyringPromised, OtherKek
//!         sync the directory of the sidecar, remove a leftover
//!         read the sidecar                                   Sidecar (damaged)
//!         the snapshot's raft cutover is the sidecar's       CutoverDivergence
//!         the database's proof                               SidecarMissing, SidecarStale, EpochBehind
//!         every key opens, no two are equal                  KekMissing, KekMismatch, EqualKeyBytes
//!         no two nodes share the 16 bits of a nonce          NodeIdCollision
//!         a log in envelopes is the only one                 ShardGroups
//!         write the sidecar once more, load the keys
//! ```
//!
//! What is *not* asked. Epochs: a start writes nothing under any key, so neither an epoch that the row has reached, nor
//! one that is used up, nor a missing row, nor one that another node has taken is a reason to refuse it; whoever is to write
//! claims a new epoch first, and is told then. A rotation cures all of these, and a node that is kept out could never apply it. The
//! Raft log: the database's own proof says whether the sidecar is behind, however much of the log is gone.

use crate::ids::{DekId, NodeId, Purpose, RaftIndex};
use crate::outcome::StartError;
use crate::sidecar::SidecarContent;

/// What the host knows. The default is a node that knows of no peer, runs one Raft group and has no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Every other node that may write to this cluster, of all groups, as far as this node has heard; its own id may be
    /// among them. One that is being removed is left out, also where this node's log does not say so yet.
    pub peers: Vec<NodeId>,
    /// How many Raft groups this process runs.
    pub shard_groups: u32,
    /// The raft cutover that the host's newest local snapshot carries; 0 where it carries none, or there is no snapshot.
    /// Of a snapshot that was taken here or [installed](crate::Applier::install): one that was received and not
    /// installed says nothing of this node.
    pub snapshot_cutover: RaftIndex,
}

impl Default for Known {
    fn default() -> Known {
        Known { peers: Vec::new(), shard_groups: 1, snapshot_cutover: RaftIndex::ZERO }
    }
}

/// What a sidecar says that the guards ask for.
pub(crate) struct Said {
    raft_cutover: RaftIndex,
    /// None before the bootstrap.
    active: Vec<DekId>,
}

impl Said {
    /// A missing sidecar says what one without any effect would.
    pub(crate) fn of(content: Option<&SidecarContent>) -> Said {
        match content {
            None => Said { raft_cutover: RaftIndex::ZERO, active: Vec::new() },
            Some(SidecarContent::Ours(sidecar)) => Said {
                raft_cutover: sidecar.cutovers.index_of(Purpose::Raft),
                active: vec![sidecar.active.storage, sidecar.active.raft],
            },
            Some(SidecarContent::Foreign(foreign)) => Said {
                raft_cutover: foreign.cutovers.raft_envelope_cutover_index,
                active: [foreign.active_storage, foreign.active_raft].into_iter().flatten().collect(),
            },
        }
    }
}

/// The guards of one start.
pub(crate) struct Guards<'a> {
    pub(crate) node: NodeId,
    pub(crate) known: &'a Known,
}

impl Guards<'_> {
    /// Before any key is opened: the sidecar and the host's snapshot are of one history. A log is switched over once, so
    /// two indices are two logs, and where the sidecar has none, this node would take envelopes for clear text.
    pub(crate) fn before_keys(&self, said: &Said) -> Result<(), StartError> {
        let (snapshot, sidecar) = (self.known.snapshot_cutover, said.raft_cutover);
        if snapshot != RaftIndex::ZERO && snapshot != sidecar {
            return Err(StartError::CutoverDivergence { snapshot, sidecar });
        }
        Ok(())
    }

    /// Once every key has opened: this node's nonces are nobody else's.
    pub(crate) fn after_keys(&self, said: &Said) -> Result<(), StartError> {
        if !said.active.is_empty() {
            self.distinct_ids()?;
        }
        let got = self.known.shard_groups;
        if said.raft_cutover != RaftIndex::ZERO && got != 1 {
            return Err(StartError::ShardGroups { got });
        }
        Ok(())
    }

    /// A nonce carries 16 bits of an id, so no two nodes may share them.
    fn distinct_ids(&self) -> Result<(), StartError> {
        let mut ids = self.known.peers.clone();
        ids.push(self.node);
        ids.sort_by_key(|id| (id.node16(), *id));
        ids.dedup();
        match ids.windows(2).find(|pair| pair[0].node16() == pair[1].node16()) {
            Some(pair) => Err(StartError::NodeIdCollision { one: pair[0], other: pair[1] }),
            None => Ok(()),
        }
    }
}
