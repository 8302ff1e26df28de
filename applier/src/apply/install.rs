//! Snapshots: taking one, and becoming the state that another node took.
//!
//! An install touches sidecar, database and memory, in this order, after everything was read, unwrapped and compared.
//! A crash after the sidecar write leaves a sidecar that is ahead of the database, as a crash inside an entry does:
//! redelivered entries find their effects named there, and a second install finds nothing that contradicts it.

use super::start::{KeyFault, in_force, unwrap_all, wrapped_keys};
use super::{Applier, Held};
use crate::ids::{DekId, RaftIndex};
use crate::kek::RingError;
use crate::keystore::KeystoreError;
use crate::outcome::{ApplyError, HaltCause};
use crate::ports::{BlobFault, Files, KekCheck};
use crate::registry::{Change, HostPart, Registry, RowKey, rules};
use crate::secret::Dek;
use crate::sidecar::json::SidecarError;
use crate::sidecar::merge::{Divergence, merge};
use crate::sidecar::{Sidecar, SidecarContent, json};
use crate::snapshot::{self, Snapshot};

/// Why a snapshot was not installed. Except for `Halted`, nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// An earlier entry of this life halted.
    #[error("an earlier entry halted this applier; restart it")]
    Poisoned,
    /// The sidecar was written by the reference system.
    #[error("the sidecar was written by the reference system; adopt it first")]
    Foreign,
    /// This node is at or past the snapshot.
    #[error("the snapshot is at index {snapshot}, and this node is at {applied} already")]
    Behind {
        /// Index of the snapshot.
        snapshot: RaftIndex,
        /// Index of this node.
        applied: RaftIndex,
    },
    /// The snapshot contradicts itself.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The snapshot has keys and this node cannot open any.
    #[error(
        "the snapshot has keys and this node has no KEK; configure one together with a sidecar path, and restart"
    )]
    NoKeyring,
    /// The snapshot was taken of another log than the one that this node has applied.
    #[error("the snapshot and this node do not come from one log: {0}; remove this node and add it again")]
    DifferentLog(#[from] Divergence),
    /// A key does not open under this node's KEK.
    #[error("key {id} of the snapshot does not open ({fault}); start this node with the KEK of its cluster")]
    KekMismatch {
        /// The key.
        id: DekId,
        /// What is wrong.
        fault: BlobFault,
    },
    /// The KEK that the keys are wrapped under is not configured.
    #[error(
        "the keys of the snapshot are wrapped under the KEK with the check value {wanted}, and it is not configured; \
         start this node with it"
    )]
    KekMissing {
        /// Its check value.
        wanted: KekCheck,
    },
    /// The KEK could not be asked.
    #[error("the KEK could not be used: {0}")]
    KekUnavailable(String),
    /// Two keys have the same bytes.
    #[error("keys {0} and {1} have the same bytes, so nonces would repeat")]
    EqualKeyBytes(DekId, DekId),
    /// The keystore holds other bytes under an id.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// A write failed; the applier applies nothing more in this life. Restart, and deliver again: the entries where
    /// there are any, or a snapshot.
    #[error("the snapshot is not, or only partly, installed; restart, and install it again: {0}")]
    Halted(#[from] HaltCause),
}

/// How a snapshot contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No log reaches its index.
    #[error("the snapshot is at the highest index that there is, which no log reaches")]
    Index,
    /// Its sidecar has effects that its rows lack.
    #[error("the snapshot's sidecar is at index {sidecar} and its rows at {applied}")]
    SidecarAhead {
        /// Index of the sidecar.
        sidecar: RaftIndex,
        /// Index of the rows.
        applied: RaftIndex,
    },
    /// A sidecar that no node could read again.
    #[error("the snapshot's sidecar is none: {0}")]
    Sidecar(SidecarError),
    /// A row for key or node 0, under another node's bits, or of epochs that went down.
    #[error("the snapshot has the row {0:?}, which no registration leaves")]
    Row(RowKey),
}

impl From<KeyFault> for InstallError {
    fn from(fault: KeyFault) -> InstallError {
        match fault {
            KeyFault::DoesNotOpen { id, fault } => InstallError::KekMismatch { id, fault },
            KeyFault::Unavailable(error) => InstallError::KekUnavailable(error),
            KeyFault::Equal(one, other) => InstallError::EqualKeyBytes(one, other),
        }
    }
}

impl From<RingError> for InstallError {
    fn from(fault: RingError) -> InstallError {
        match fault {
            RingError::Missing { wanted } => InstallError::KekMissing { wanted },
            RingError::Unavailable(error) => InstallError::KekUnavailable(error),
        }
    }
}

/// What an install will do besides replacing the rows.
struct Plan {
    sidecar: Option<Sidecar>,
    keys: Vec<(DekId, Dek)>,
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// The state of this node at its applied index, for another node. Its own epochs are not in it.
    ///
    /// # Errors
    /// [`ApplyError::SidecarAhead`] where sidecar and database are at different indices, [`ApplyError::Poisoned`],
    /// [`ApplyError::Foreign`] and [`ApplyError::Registry`].
    pub fn snapshot(&self) -> Result<Snapshot, ApplyError> {
        self.at_one_index()?;
        let registry = self.registry.snapshot()?;
        let sidecar = self.sidecar().cloned().map(snapshot::without_own);
        match sidecar {
            // Should someone else have moved the database's index, this would contradict itself wherever it arrives.
            Some(Sidecar { raft_applied_index: sidecar, .. }) if sidecar > registry.applied_index => {
                Err(ApplyError::SidecarAhead { sidecar, applied: registry.applied_index })
            }
            sidecar => Ok(Snapshot { registry, sidecar }),
        }
    }

    /// Becomes the state of a snapshot that is ahead of this node, with `host` writing its own part of it into the
    /// same database transaction. What is this node's own stays: its epochs, the times of creation that it knows, and
    /// what is recorded as local in the database.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn install(&mut self, snapshot: &Snapshot, host: HostPart<'_, R::Tx>) -> Result<(), InstallError> {
        let Plan { sidecar, keys } = self.plan(snapshot)?;
        if let Some(sidecar) = &sidecar {
            // Also where it is the same: this makes durable what a crash may have left as something merely read.
            let path = &self.keyring.as_ref().expect("only a keyring has a sidecar").path;
            if let Err(fault) = path.write(&self.files, &json::encode(sidecar)) {
                return Err(self.poison(HaltCause::Sidecar(fault)).into());
            }
        }
        self.keep_kek_of(sidecar.as_ref())?;
        let proof = snapshot.sidecar.as_ref().map(|sidecar| sidecar.raft_applied_index);
        if let Err(error) = self.registry.restore(&snapshot.registry, proof, host) {
            return Err(self.poison(HaltCause::Commit(error)).into());
        }
        self.keystore
            .insert_all(&keys)
            .expect("the plan asked, and nobody else writes to an applier's keystore");
        if let Some(sidecar) = sidecar {
            for id in self.keystore.ids().into_iter().filter(|id| !sidecar.keys.contains_key(id)) {
                self.keystore.remove(id);
            }
            self.held = Held::Ours(Box::new(sidecar));
        }
        if let Some(index) = proof {
            self.local.sidecar_index = self.local.sidecar_index.max(index);
        }
        self.claims.forget();
        self.applied = snapshot.registry.applied_index;
        tracing::info!(applied = %self.applied, keys = self.keystore.len(), "installed a snapshot");
        Ok(())
    }

    /// The entry that would have moved the promise to the KEK of a rewrap is behind a snapshot that has its effect. Once
    /// the sidecar is durable no key of it is wrapped under the old one, whatever becomes of the rest of the install.
    fn keep_kek_of(&mut self, sidecar: Option<&Sidecar>) -> Result<(), HaltCause> {
        let in_force = sidecar.and_then(|sidecar| Some((sidecar.generation(), sidecar.kek()?)));
        let Some((generation, kek)) = in_force else { return Ok(()) };
        let is_due = |promised| promised <= generation;
        if self.local.kek == Some(kek) && !self.local.next_generation.is_some_and(is_due) {
            return Ok(());
        }
        let change = Change { rewrapped: Some((generation, kek)), ..Change::default() };
        match self.registry.commit(&change, &mut |_| Ok(())) {
            Ok(()) => self.committed(&change),
            Err(error) => return Err(self.poison(HaltCause::Commit(error))),
        }
        Ok(())
    }

    /// Everything that can be refused, without a mutating call.
    fn plan(&self, snapshot: &Snapshot) -> Result<Plan, InstallError> {
        if self.poisoned {
            return Err(InstallError::Poisoned);
        }
        let own = match &self.held {
            Held::Foreign(_) => return Err(InstallError::Foreign),
            Held::Nothing => None,
            Held::Ours(sidecar) => Some(sidecar.as_ref()),
        };
        let (applied, theirs) = (snapshot.registry.applied_index, snapshot.sidecar.as_ref());
        if applied <= self.applied {
            return Err(InstallError::Behind { snapshot: applied, applied: self.applied });
        }
        check_snapshot(snapshot)?;
        if theirs.is_some() && self.keyring.is_none() {
            return Err(InstallError::NoKeyring);
        }
        let own_reach = own.map_or(self.applied, |own| own.raft_applied_index.max(self.applied));
        let sidecar = merge((own, own_reach), (theirs, applied))?;
        let keys = match (&sidecar, &self.keyring) {
            (Some(sidecar), Some(keyring)) => {
                let kek = in_force(&keyring.ring, sidecar, &self.local)?;
                unwrap_all(kek, wrapped_keys(sidecar))?
            }
            _ => Vec::new(),
        };
        for (id, key) in &keys {
            if let Some(equal) = self.keystore.find_equal(key).filter(|equal| equal != id) {
                return Err(InstallError::EqualKeyBytes(equal, *id));
            }
        }
        self.keystore.accepts(&keys)?;
        Ok(Plan { sidecar, keys })
    }
}

/// What must hold of a snapshot whoever installs it.
pub(super) fn check_snapshot(snapshot: &Snapshot) -> Result<(), Malformed> {
    let Snapshot { registry, sidecar } = snapshot;
    let applied = registry.applied_index;
    if applied == RaftIndex(u64::MAX) {
        return Err(Malformed::Index);
    }
    if let Some(sidecar) = sidecar {
        if sidecar.raft_applied_index > applied {
            return Err(Malformed::SidecarAhead { sidecar: sidecar.raft_applied_index, applied });
        }
        // It was decoded once if it came over a network. If not, this is where a file that no start could read is
        // kept from being written.
        match json::decode(&json::encode(sidecar)) {
            Ok(SidecarContent::Ours(same)) => {
                assert_eq!(same, *sidecar, "what is encoded is what is decoded")
            }
            Ok(SidecarContent::Foreign(_)) => unreachable!("the encoding has all of our fields"),
            Err(error) => return Err(Malformed::Sidecar(error)),
        }
    }
    for (key, row) in &registry.rows {
        if !rules::is_well_formed(*key, *row) {
            return Err(Malformed::Row(*key));
        }
        // A row for a key that the sidecar does not have is no reason to refuse: nodes without a keyring take registrations
        // by the row rules alone, and a cluster may have been one of those before its bootstrap.
    }
    Ok(())
}
