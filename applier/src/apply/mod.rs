//! The applier: judges one committed entry, then mutates keystore, sidecar and registry, in that order.

mod admit;
mod adopt;
mod claim;
mod install;
mod judge;
mod resync;
mod start;

pub use admit::{KekStatus, PromiseError};
pub use adopt::{AdoptError, Adoption};
pub use claim::{Claim, ClaimError, NotSealed};
pub use install::{InstallError, Malformed};
pub use resync::{ResyncError, resync};
pub use start::{Config, KeyringConfig, open_database};

use std::borrow::Cow;
use std::sync::Arc;

use crate::cipher::{Cipher, CipherError};
use crate::envelope::{Envelope, OpenError, raft};
use crate::ids::{DekId, NodeId, Purpose, RaftIndex};
use crate::kek::KekRing;
use crate::keystore::Keystore;
use crate::outcome::{ApplyError, HaltCause, Outcome, Reject};
use crate::ports::{Clock, Files};
use crate::registry::{Change, CommitError, HostPart, Local, RedbRegistry, Registry, RegistrySnapshot};
use crate::sidecar::file::SidecarPath;
use crate::sidecar::{EntryName, ForeignSidecar, Sidecar};
use claim::Claims;
use judge::{Effect, Judge, Stop};

/// Applies encryption entries of one Raft log on one node.
///
/// The host delivers every committed entry in order, starting at [`Applier::applied_index`] + 1: encryption entries
/// through [`Applier::apply`], everything else through [`Applier::advance`]. On any outcome that does not
/// [advance](Outcome::advances) it stops, and delivers the same entry again after a restart.
#[derive(Debug)]
pub struct Applier<F: Files, R: Registry = RedbRegistry> {
    node: NodeId,
    files: F,
    registry: R,
    clock: ArcClock,
    keystore: Arc<Keystore>,
    keyring: Option<Keyring>,
    held: Held,
    local: Local,
    claims: Claims,
    applied: RaftIndex,
    poisoned: bool,
}

/// KEK, keystore and sidecar come together or not at all. The keystore lives in the applier, since readers hold
/// it also where there is no KEK.
struct Keyring {
    ring: KekRing,
    path: SidecarPath,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct ArcClock(Arc<dyn Clock>);

impl std::fmt::Debug for ArcClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// The sidecar's content as this life knows it.
#[derive(Debug)]
enum Held {
    Nothing,
    Ours(Box<Sidecar>),
    Foreign(Box<ForeignSidecar>),
}

/// Why a registry was not rolled back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot is ahead of this node, which lacks the keys of the entries in between.
    #[error(
        "the snapshot is at index {snapshot}, ahead of this node at {applied}, and carries no keys; install one that does"
    )]
    Ahead {
        /// Index of the snapshot.
        snapshot: RaftIndex,
        /// Index of this node.
        applied: RaftIndex,
    },
    /// An earlier entry of this life halted.
    #[error("an earlier entry halted this applier; restart it")]
    Poisoned,
    /// The transaction failed; the applier applies nothing more in this life.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// Applies the encryption entry at `index`. `payload` is opcode and body.
    pub fn apply(&mut self, index: RaftIndex, payload: &[u8]) -> Outcome {
        self.apply_with(index, payload, &mut |_| Ok(()))
    }

    /// [`Applier::apply`], with `host` writing into the same database transaction. It is called at most once, and
    /// not at all for an entry that the database already has.
    pub fn apply_with(&mut self, index: RaftIndex, payload: &[u8], host: HostPart<'_, R::Tx>) -> Outcome {
        let outcome = match self.due(index, Some(payload)) {
            Err(error) => Outcome::Failed(error),
            Ok(false) => Outcome::NoOp(crate::outcome::NoOp::AlreadyApplied),
            Ok(true) => match self.judge(index, payload) {
                Ok(effect) => self.execute(index, effect, host),
                Err(Stop::Reject(reject)) => Outcome::Rejected(reject),
                Err(Stop::Fail(error)) => Outcome::Failed(error),
            },
        };
        tracing::debug!(%index, ?outcome, "entry");
        outcome
    }

    /// Moves past an entry that is not for this applier (data, membership, a leader's no-op), with the host's own
    /// effect of it in the same transaction.
    pub fn advance(&mut self, index: RaftIndex, host: HostPart<'_, R::Tx>) -> Outcome {
        match self.due(index, None) {
            Err(error) => Outcome::Failed(error),
            Ok(false) => Outcome::NoOp(crate::outcome::NoOp::AlreadyApplied),
            Ok(true) => self.execute(index, Effect::applied(Change::default()), host),
        }
    }

    /// Rolls the registry back to a snapshot of this node's own past, as a host does that restores its state machine.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        host: HostPart<'_, R::Tx>,
    ) -> Result<(), RestoreError> {
        if self.poisoned {
            return Err(RestoreError::Poisoned);
        }
        if snapshot.applied_index > self.applied {
            let applied = self.applied;
            return Err(RestoreError::Ahead { snapshot: snapshot.applied_index, applied });
        }
        if let Err(error) = self.registry.restore(snapshot, None, host) {
            self.poisoned = true;
            return Err(error.into());
        }
        self.applied = snapshot.applied_index;
        self.claims.forget();
        Ok(())
    }

    /// Takes the raft envelope off an entry, where it has one: behind the raft cutover every entry has, up to it none.
    /// A membership change and a leader's empty entry are never in one, and are not for this call.
    ///
    /// # Errors
    /// [`Reject::Sealed`] for an entry behind the cutover that does not open, clear text among them. The host stops, as at
    /// any entry that is rejected.
    pub fn open_entry<'a>(&self, index: RaftIndex, data: &'a [u8]) -> Result<Cow<'a, [u8]>, Reject> {
        let cutover = self.cutover(Purpose::Raft);
        if cutover == RaftIndex::ZERO || index <= cutover {
            return Ok(Cow::Borrowed(data));
        }
        // A key of the other purpose may be loaded, and has nothing to do here.
        let id = Envelope::decode(data).map_err(OpenError::from)?.key_id;
        let purpose = self.sidecar().and_then(|sidecar| sidecar.keys.get(&id)).map(|key| key.purpose);
        if purpose != Some(Purpose::Raft) {
            return Err(OpenError::from(CipherError::UnknownKeyId(id)).into());
        }
        Ok(Cow::Owned(raft::open(&self.cipher(), data)?))
    }

    /// The cipher over this node's keys, for readers on any thread.
    pub fn cipher(&self) -> Cipher {
        Cipher::new(Arc::clone(&self.keystore))
    }

    /// Index of the entry that switched an envelope on, 0 where that has not happened. Values are stored in the storage
    /// envelope from that of its cutover on; entries are in the raft envelope behind that of theirs.
    pub fn cutover(&self, purpose: Purpose) -> RaftIndex {
        self.sidecar().map_or(RaftIndex::ZERO, |sidecar| sidecar.cutovers.index_of(purpose))
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Index of the newest entry that the database reflects; delivery goes on at the next one.
    pub fn applied_index(&self) -> RaftIndex {
        self.applied
    }

    /// The keys, for readers on any thread.
    pub fn keystore(&self) -> &Arc<Keystore> {
        &self.keystore
    }

    /// The registry, for reads.
    pub fn registry(&self) -> &R {
        &self.registry
    }

    /// The sidecar's content, from the first bootstrap on.
    pub fn sidecar(&self) -> Option<&Sidecar> {
        match &self.held {
            Held::Ours(sidecar) => Some(sidecar),
            Held::Nothing | Held::Foreign(_) => None,
        }
    }

    /// The reference system's sidecar, where this node was started on one and has not adopted it.
    pub fn foreign(&self) -> Option<&ForeignSidecar> {
        match &self.held {
            Held::Foreign(foreign) => Some(foreign),
            Held::Nothing | Held::Ours(_) => None,
        }
    }

    /// The key that encrypts new data of one purpose.
    pub fn active(&self, purpose: Purpose) -> Option<DekId> {
        match &self.held {
            Held::Nothing => None,
            Held::Ours(sidecar) => Some(sidecar.active.of(purpose)),
            Held::Foreign(foreign) => match purpose {
                Purpose::Storage => foreign.active_storage,
                Purpose::Raft => foreign.active_raft,
            },
        }
    }

    /// Whether an outcome of this life is unknown, so that nothing more is applied in it.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Whether the entry at `index` is the next one (`true`) or an earlier one (`false`). `payload` is `None` for what
    /// is not for this applier.
    fn due(&self, index: RaftIndex, payload: Option<&[u8]>) -> Result<bool, ApplyError> {
        if self.poisoned {
            return Err(ApplyError::Poisoned);
        }
        if matches!(self.held, Held::Foreign(_)) {
            return Err(ApplyError::Foreign);
        }
        let expected = self.applied.next();
        if index > expected {
            return Err(ApplyError::IndexGap { expected, got: index });
        }
        if index < expected {
            return Ok(false);
        }
        // Where the sidecar has the effect of the entry at this index, it can be no other entry.
        let named = self.sidecar().and_then(|sidecar| sidecar.names(index));
        if named.is_some() && named != payload.map(|payload| EntryName::of(index, payload)) {
            return Err(ApplyError::DifferentEntry { index });
        }
        Ok(true)
    }

    fn judge(&self, index: RaftIndex, payload: &[u8]) -> Result<Effect, Stop> {
        let entry = crate::wire::Entry::decode(payload).map_err(Reject::from)?;
        Judge {
            index,
            payload,
            ring: self.keyring.as_ref().map(|keyring| &keyring.ring),
            promised: self.local.kek,
            sidecar: self.sidecar(),
            keystore: &self.keystore,
            registry: &self.registry,
            clock: self.clock.0.as_ref(),
        }
        .judge(&entry)
    }

    /// The only place that applies: everything was judged before. Memory goes first, since a reader that finds the
    /// new active id in the sidecar must find its key too; the registry goes last, since its index says "done". A key
    /// that goes leaves memory behind the sidecar, since until then it is not known to be gone.
    fn execute(&mut self, index: RaftIndex, effect: Effect, host: HostPart<'_, R::Tx>) -> Outcome {
        let Effect { keys, sidecar, removed, mut change, no_op } = effect;
        change.applied_index = Some(index);
        if let Some(sidecar) = sidecar {
            let undo = match self.keystore.insert_all(&keys) {
                Ok(undo) => undo,
                Err(error) => return Outcome::Failed(ApplyError::Keystore(error)),
            };
            let path = &self.keyring.as_ref().expect("only a keyring yields a new sidecar").path;
            if let Err(fault) = path.write(&self.files, &crate::sidecar::json::encode(&sidecar)) {
                if fault.unchanged {
                    self.keystore.undo(undo);
                }
                return self.halt(HaltCause::Sidecar(fault));
            }
            self.held = Held::Ours(sidecar);
        }
        if let Some(id) = removed {
            self.keystore.remove(id);
            self.claims.drop_key(id);
        }
        if let Err(error) = self.registry.commit(&change, host) {
            return self.halt(HaltCause::Commit(error));
        }
        self.applied = index;
        self.committed(&change);
        match no_op {
            None => Outcome::Applied,
            Some(reason) => Outcome::NoOp(reason),
        }
    }

    /// What this life knows of what is local, and of its claims, after a commit.
    fn committed(&mut self, change: &Change) {
        if let Some(index) = change.sidecar_index {
            self.local.sidecar_index = self.local.sidecar_index.max(index);
        }
        if let Some((generation, check)) = change.rewrapped {
            self.local.kek = Some(check);
            if self.local.next_generation.is_some_and(|promised| promised <= generation) {
                (self.local.next_kek, self.local.next_generation) = (None, None);
            }
        }
        self.claims.registered(self.node, &change.rows, &self.keystore);
    }

    fn halt(&mut self, cause: HaltCause) -> Outcome {
        Outcome::Halted(self.poison(cause))
    }

    /// Ends this life's applying: what is in place is unknown until the next start.
    fn poison(&mut self, cause: HaltCause) -> HaltCause {
        tracing::error!(%cause, "the applier halts; restart it");
        self.poisoned = true;
        cause
    }
}
