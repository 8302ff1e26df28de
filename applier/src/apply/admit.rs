//! Admission and the promise: what a node says about itself before an entry exists.

use super::{Applier, Held, Stop};
use crate::admission::{Admission, Capability};
use crate::ids::RaftIndex;
use crate::outcome::ApplyError;
use crate::ports::{Files, KekCheck};
use crate::registry::{CommitError, Registry, RegistryError};
use crate::sidecar::EntryName;

/// Why a node could not say what it is capable of. Except for `Halted`, nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    /// An earlier entry of this life halted.
    #[error("an earlier entry halted this applier; restart it")]
    Poisoned,
    /// The KEK could not be asked.
    #[error("the KEK could not be used: {0}")]
    KekUnavailable(String),
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The KEK has become another one in the middle of a life.
    #[error(
        "this node has told its cluster that it has the KEK with the check value {promised}, and its KEK is that of \
         {found} now; bring the promised one back, or remove this node and add it again"
    )]
    OtherKek {
        /// The check value of the KEK that was promised.
        promised: KekCheck,
        /// That of the KEK as it is now.
        found: KekCheck,
    },
    /// The promise was not recorded, or it was and nobody knows; the applier applies nothing more in this life.
    #[error(transparent)]
    Halted(#[from] CommitError),
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// What `payload` (opcode and body) would come to as the next entry. Judged as an entry is, and nothing is
    /// touched.
    pub fn admit(&self, payload: &[u8]) -> Admission {
        if let Err(error) = self.at_one_index() {
            return Admission::Failed(error);
        }
        match self.judge(self.applied.next(), payload) {
            Ok(effect) => match effect.no_op {
                Some(no_op) => Admission::Duplicate { no_op, by: self.named(payload) },
                None => match self.keystore.accepts(&effect.keys) {
                    Ok(()) => Admission::Propose,
                    Err(error) => Admission::Failed(error.into()),
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
            return Ok(Capability { keyring: None });
        };
        match keyring.kek.check_value() {
            Ok(check) => Ok(Capability { keyring: Some(check) }),
            Err(error) => Err(PromiseError::KekUnavailable(error.to_string())),
        }
    }

    /// Answers a leader whose KEK has the check value `leader`. Where this node has the same, it makes durable first
    /// that it does not come back with another one: the leader will let an entry be committed because of the answer,
    /// and without this KEK the node could never apply it. An answer that keeps the leader from it binds nobody, so
    /// that a node with the wrong KEK can be given the right one.
    ///
    /// # Errors
    /// [`PromiseError`].
    pub fn promise(&mut self, leader: KekCheck) -> Result<Capability, PromiseError> {
        let capability = self.capability()?;
        let Some(found) = capability.keyring else { return Ok(capability) };
        match self.registry.kek_check()?.map(KekCheck::from_u64) {
            Some(promised) if promised != found => return Err(PromiseError::OtherKek { promised, found }),
            Some(_) => {}
            None if found != leader => {}
            None => {
                if let Err(error) = self.registry.promise(found.to_u64()) {
                    tracing::error!(%error, "the promise failed, and the applier halts; restart it");
                    self.poisoned = true;
                    return Err(PromiseError::Halted(error));
                }
            }
        }
        Ok(capability)
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

    /// Where the log has this payload, as far as the sidecar names it.
    fn named(&self, payload: &[u8]) -> Option<RaftIndex> {
        let wanted = EntryName::of(RaftIndex::ZERO, payload).sha256;
        let sidecar = self.sidecar()?;
        let names = sidecar.keys.values().map(|key| key.name).chain([sidecar.bootstrap]);
        names.into_iter().find(|name| name.sha256 == wanted).map(|name| name.raft_index)
    }
}
