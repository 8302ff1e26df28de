//! Admission and the promise: what a node says about itself before an entry exists.

use std::io;

use super::{Applier, Held, Stop};

use crate::admission::{Admission, Capability};
use crate::ids::{NodeId, RaftIndex};
use crate::kek::RingError;
use crate::outcome::{ApplyError, NoOp};
use crate::ports::{Files, KekCheck};
use crate::registry::{Change, Clash, CommitError, LocalChange, Registry};
use crate::sidecar::EntryName;
use crate::wire::Entry;

/// Why a node could not say what it is capable of. Except for `Halted`, nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    /// An earlier entry of this life halted.
    #[error("an earlier entry halted this applier; restart it")]
    Poisoned,
    /// The KEK could not be asked.
    #[error("the KEK could not be used: {0}")]
    KekUnavailable(String),
    /// The KEK in force is not configured.
    #[error("this node has no KEK with the check value {wanted}; configure it, and restart")]
    KekMissing {
        /// Its check value.
        wanted: KekCheck,
    },
    /// This node has no keyring, or the reference system's sidecar.
    #[error("this node has no KEK; configure one together with a sidecar path, and restart")]
    NoKek,
    /// This node is to keep the KEK of another rewrap.
    #[error(
        "this node has promised to keep the KEK with the check value {promised} for a rewrap, and is asked for {wanted}; \
         finish that rewrap first"
    )]
    OtherRewrap {
        /// The check value of the KEK that was promised.
        promised: KekCheck,
        /// That of the KEK that is asked for.
        wanted: KekCheck,
    },
    /// The promise was not recorded, or it was and nobody knows; the applier applies nothing more in this life.
    #[error(transparent)]
    Halted(#[from] CommitError),
}

impl From<RingError> for PromiseError {
    fn from(fault: RingError) -> PromiseError {
        match fault {
            RingError::Missing { wanted } => PromiseError::KekMissing { wanted },
            RingError::Unavailable(error) => PromiseError::KekUnavailable(error),
        }
    }
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// What `payload` (opcode and body) would come to as the next entry of a cluster of these `members`, who write under these
    /// ids. Judged as an entry is, and nothing is touched.
    pub fn admit(&self, payload: &[u8], members: &[NodeId]) -> Admission {
        if let Err(error) = self.at_one_index() {
            return Admission::Failed(error);
        }
        match self.judge(self.applied.next(), payload) {
            Ok(effect) => match effect.no_op {
                Some(NoOp::CutoverStale) => Admission::Stale,
                Some(no_op) => Admission::Duplicate { no_op, by: self.named(no_op, payload) },
                None => match (self.keystore.accepts(&effect.keys), collision(&effect.change, members)) {
                    (Err(error), _) => Admission::Failed(error.into()),
                    (Ok(()), Some(clash)) => Admission::Collides(clash),
                    (Ok(()), None) => Admission::Propose,
                },
            },
            Err(Stop::Reject(reject)) => Admission::Refused(reject),
            Err(Stop::Fail(error)) => Admission::Failed(error),
        }
    }

    /// What this node could apply now, if it were asked. A node on the reference system's sidecar applies nothing.
    ///
    /// # Errors
    /// [`PromiseError`].
    pub fn capability(&self) -> Result<Capability, PromiseError> {
        if self.poisoned {
            return Err(PromiseError::Poisoned);
        }
        let Some(keyring) = self.keyring.as_ref().filter(|_| !matches!(self.held, Held::Foreign(_))) else {
            return Ok(Capability { keyring: None, next: None });
        };
        let named = self.sidecar_kek().or(self.local.kek);
        let unavailable = |error: io::Error| PromiseError::KekUnavailable(error.to_string());
        let in_force = keyring.ring.in_force(named)?.check_value().map_err(unavailable)?;
        let next = Some(keyring.ring.current()?).filter(|current| *current != in_force);
        Ok(Capability { keyring: Some(in_force), next })
    }

    /// Answers a leader who asks for the KEK with the check value `wanted`: the one in force, or that of a rewrap to come.
    /// Where this node has it, it makes durable first that it does not come back without: the leader will let an entry be
    /// committed because of the answer, and without this KEK the node could never apply it. An answer that keeps the
    /// leader from it binds nobody, so that a node with the wrong KEK can be given the right one.
    ///
    /// `generation` is the leader's: how many times its keys were wrapped anew. A node that lacks some of these rewraps promises
    /// to keep the leader's KEK, and goes on opening what comes before them with its own.
    ///
    /// # Errors
    /// [`PromiseError`].
    pub fn promise(&mut self, wanted: KekCheck, generation: u32) -> Result<Capability, PromiseError> {
        let capability = self.capability()?;
        let Some(found) = capability.keyring else { return Ok(capability) };
        let own = self.sidecar().map_or(0, |sidecar| sidecar.generation());
        let is_behind = generation > own;
        let change = if wanted == found && self.local.kek.is_none() && !is_behind {
            LocalChange::Promise(found)
        } else if capability.next == Some(wanted) || (wanted == found && is_behind) {
            let until = generation.max(own.saturating_add(1));
            match self.local.next_kek {
                Some(promised) if promised != wanted => {
                    return Err(PromiseError::OtherRewrap { promised, wanted });
                }
                Some(_) if self.local.next_generation >= Some(until) => return Ok(capability),
                _ => LocalChange::PromiseNext(wanted, until),
            }
        } else {
            return Ok(capability);
        };
        if let Err(error) = self.registry.keep(change) {
            tracing::error!(%error, "the promise failed, and the applier halts; restart it");
            self.poisoned = true;
            return Err(PromiseError::Halted(error));
        }
        match change {
            LocalChange::Promise(check) => self.local.kek = Some(check),
            LocalChange::PromiseNext(check, generation) => {
                (self.local.next_kek, self.local.next_generation) = (Some(check), Some(generation));
            }
            LocalChange::Claim(..) => unreachable!("a promise was made above"),
        }
        Ok(capability)
    }

    /// Which KEKs this node needs, and whether the previous one of its ring may go.
    ///
    /// # Errors
    /// [`PromiseError::NoKek`] where it has none, else as [`Applier::capability`].
    pub fn kek_status(&self) -> Result<KekStatus, PromiseError> {
        let capability = self.capability()?;
        let (Some(in_force), Some(keyring)) = (capability.keyring, &self.keyring) else {
            return Err(PromiseError::NoKek);
        };
        let previous = keyring.ring.previous()?.filter(|previous| *previous != in_force);
        // The promise moves with the commit of the rewrap, behind which no start and no redelivery asks for the old one.
        let committed = self.sidecar_kek() == Some(in_force) && self.local.kek == Some(in_force);
        let generation = self.sidecar().map_or(0, |sidecar| sidecar.generation());
        Ok(KekStatus {
            in_force,
            generation,
            next: capability.next,
            withdrawable: previous.filter(|_| committed),
        })
    }

    fn sidecar_kek(&self) -> Option<KekCheck> {
        self.sidecar().and_then(|sidecar| sidecar.kek())
    }

    /// Whether memory, sidecar and database are the state after one entry, so that a next one can be judged by it.
    pub(super) fn at_one_index(&self) -> Result<(), ApplyError> {
        if self.poisoned {
            return Err(ApplyError::Poisoned);
        }
        let applied = self.applied;
        match &self.held {
            Held::Foreign(_) => Err(ApplyError::Foreign),
            Held::Ours(sidecar) if sidecar.raft_applied_index > applied => {
                Err(ApplyError::SidecarAhead { sidecar: sidecar.raft_applied_index, applied })
            }
            Held::Ours(_) | Held::Nothing => Ok(()),
        }
    }

    /// Where the log has the effect that makes `payload` a no-op, as far as the sidecar names it.
    fn named(&self, no_op: NoOp, payload: &[u8]) -> Option<RaftIndex> {
        let sidecar = self.sidecar()?;
        if no_op == NoOp::CutoverRepeated {
            let purpose = match Entry::decode(payload) {
                Ok(Entry::Rotation(rotation)) => rotation.purpose,
                _ => return None,
            };
            return Some(sidecar.cutovers.index_of(purpose));
        }
        let wanted = EntryName::of(RaftIndex::ZERO, payload).sha256;
        sidecar.named().find(|name| name.sha256 == wanted).map(|name| name.raft_index)
    }
}

/// The KEKs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KekStatus {
    /// Check value of the one that wraps its keys.
    pub in_force: KekCheck,
    /// How many times they were wrapped anew.
    pub generation: u32,
    /// Check value of the current one, where a rewrap to it is still to come.
    pub next: Option<KekCheck>,
    /// Check value of the previous one, where this node needs it no more: it can be started without. It is needed again if
    /// the node loses its disk and its cluster still has the log from before the rewrap; so before the KEK itself is
    /// destroyed, every member must say so, and every log begin behind the rewrap.
    pub withdrawable: Option<KekCheck>,
}

/// The member, if any, whose low 16 bits a change gives to another node.
fn collision(change: &Change, members: &[NodeId]) -> Option<Clash> {
    change.rows.iter().find_map(|(key, row)| {
        let takes = |member: &&NodeId| member.node16() == key.node16 && member.get() != row.full_node_id;
        let member = members.iter().find(takes)?;
        let (dek_id, existing, got) = (key.dek_id, member.get(), row.full_node_id);
        Some(Clash::NodeCollision { dek_id, existing, got })
    })
}
