//! Claims: how a leader comes to nonces that nobody has ever used.
//!
//! ```text
//! 1  choose an epoch above every one that this node may have used under the key
//! 2  sidecar, then local table      durable: no later life chooses it again
//! 3  propose the registration       the leader's host
//! 4  it is applied, and raises the row: the claim is held, and the sealer of it issues nonces from 1 on
//! ```
//!
//! Behind the raft cutover the registration of a raft claim has to be in an envelope like every other entry, and there is no
//! claim yet to seal it under. It is sealed with a nonce that is kept for it, and that no other node has (see
//! [`Nonce::reserved`]): whoever seals this registration again, a node that lost its disk and chose the same epoch included,
//! seals the same bytes. Nothing else is ever sealed before its claim is held.
//!
//! A claim that is lost before its registration is applied has issued nothing else. A node that has lost its disk, or was given
//! an old one, claims above its row, which is in the log of its cluster and above every epoch that it ever sealed under.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Applier, Held};
use crate::envelope::raft;
use crate::envelope::storage::ValueHeader;
use crate::ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
use crate::keystore::Keystore;
use crate::nonce::Nonce;
use crate::outcome::{ApplyError, HaltCause};
use crate::ports::Files;
use crate::registry::{Clash, LocalChange, Registry, RegistryError, RowKey, WriterRow};
use crate::sealer::{SealError, Sealer};
use crate::sidecar::json;
use crate::wire::{Entry, Row};

/// What a leader has to do to seal.
#[derive(Clone, Debug)]
pub enum Claim {
    /// Nothing: here is its sealer.
    Held(Arc<Sealer>),
    /// Propose this registration (opcode and body), and ask again when it is applied. The same one is returned until then,
    /// as long as the term is the same.
    Propose(Vec<u8>),
}

/// Why there is no claim. Except for `Halted`, nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There are no keys yet.
    #[error("the cluster is not bootstrapped, so there is no key to claim")]
    NotBootstrapped,
    /// Sidecar and database are not at one index, or the applier has halted.
    #[error(transparent)]
    NotNow(#[from] ApplyError),
    /// Every epoch was claimed.
    #[error(
        "this node has claimed every epoch under key {id}: have another member lead and rotate the key; behind the raft \
         cutover this node can propose nothing any more until that is applied"
    )]
    Exhausted {
        /// The key.
        id: DekId,
    },
    /// Another node has this node's low 16 bits.
    #[error(transparent)]
    Collision(Clash),
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A write failed; the applier applies and claims nothing more in this life.
    #[error("the claim is not, or only partly, durable; restart, and claim again: {0}")]
    Halted(#[from] HaltCause),
}

/// Why a leader did not seal. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// There is no claim of this term under the active key.
    #[error(
        "this node holds no claim under the active {0:?} key in this term; claim, and try again when that is applied"
    )]
    NoClaim(Purpose),
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The claims of one life.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of: BTreeMap<DekId, Made>,
}

/// A claim that is durable here.
#[derive(Debug)]
struct Made {
    term: u64,
    purpose: Purpose,
    epoch: LocalEpoch,
    /// There once its registration is applied.
    sealer: Option<Arc<Sealer>>,
}

impl Claims {
    /// Rows were raised: those of this node may be what a claim has waited for.
    pub(super) fn registered(
        &mut self,
        node: NodeId,
        rows: &BTreeMap<RowKey, WriterRow>,
        keystore: &Keystore,
    ) {
        for (id, made) in &mut self.of {
            let row = rows.get(&RowKey::of(id.get(), node.get()));
            let raised =
                row.is_some_and(|row| row.full_node_id == node.get() && row.last_seen == made.epoch.0);
            if raised && made.sealer.is_none() {
                let sealer = Sealer::new(made.purpose, *id, made.epoch, node.node16(), keystore);
                made.sealer = sealer.map(Arc::new);
            }
        }
    }

    /// The state was replaced: what was claimed in the one before counts no more.
    pub(super) fn forget(&mut self) {
        self.of.clear();
    }

    /// A key that is gone leaves no sealer behind.
    pub(super) fn drop_key(&mut self, id: DekId) {
        self.of.remove(&id);
    }

    fn made(&self, term: u64, id: DekId) -> Option<&Made> {
        self.of.get(&id).filter(|made| made.term == term)
    }
}

/// The entry that registers an epoch.
fn registration(id: DekId, node: NodeId, epoch: LocalEpoch) -> Vec<u8> {
    Entry::Registration(Row { dek_id: id.get(), full_node_id: node.get(), local_epoch: epoch.0 }).encode()
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// Claims the next epoch under the active key of `purpose`, for a leader of `term` whose applied state is complete
    /// (see [`Leadership`](crate::Leadership)). The epoch is durable before the registration is returned. A claim is one of
    /// its term: in another one there has to be a new one.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn claim(&mut self, term: u64, purpose: Purpose) -> Result<Claim, ClaimError> {
        self.at_one_index()?;
        let (Held::Ours(sidecar), Some(keyring)) = (&self.held, &self.keyring) else {
            return Err(ClaimError::NotBootstrapped);
        };
        let id = sidecar.active.of(purpose);
        let row = self.row(id, self.node)?.map_or(0, |row| row.last_seen);
        match self.claims.made(term, id) {
            Some(Made { sealer: Some(sealer), .. }) => return Ok(Claim::Held(Arc::clone(sealer))),
            // Where somebody else has registered a higher epoch for this node, this one would be refused for ever.
            Some(made) if made.epoch.0 > row => {
                return Ok(Claim::Propose(registration(id, self.node, made.epoch)));
            }
            _ => {}
        }
        let epoch = self.next_epoch(id, sidecar.keys[&id].local_epoch, row)?;
        let mut sidecar = sidecar.clone();
        sidecar.keys.get_mut(&id).expect("an active key is there").local_epoch = epoch;
        if let Err(fault) = keyring.path.write(&self.files, &json::encode(&sidecar)) {
            return Err(self.poison(HaltCause::Sidecar(fault)).into());
        }
        self.held = Held::Ours(sidecar);
        if let Err(error) = self.registry.keep(LocalChange::Claim(id, epoch)) {
            return Err(self.poison(HaltCause::Commit(error)).into());
        }
        self.local.epochs.insert(id, epoch);
        self.claims.of.insert(id, Made { term, purpose, epoch, sealer: None });
        tracing::info!(%id, %epoch, term, "claimed");
        Ok(Claim::Propose(registration(id, self.node, epoch)))
    }

    /// What a leader of `term` seals with under the active key of `purpose`; `None` until a claim of that term is applied, and
    /// once this applier has halted.
    /// To be asked at each use: after a rotation it is another key's.
    pub fn sealer(&self, term: u64, purpose: Purpose) -> Option<Arc<Sealer>> {
        if self.poisoned {
            return None;
        }
        let id = self.sidecar()?.active.of(purpose);
        self.claims.made(term, id)?.sealer.clone()
    }

    /// What a leader of `term` stores of a value under `table_key`: a header of nine bytes, and behind the storage cutover the
    /// envelope (see [`crate::envelope::storage`]). It goes into the log like this, so that every replica stores these bytes.
    ///
    /// # Errors
    /// [`NotSealed`], behind the cutover.
    pub fn seal_value(
        &self,
        term: u64,
        expire_at: u64,
        table_key: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, NotSealed> {
        if self.cutover(Purpose::Storage) == RaftIndex::ZERO {
            return Ok([&ValueHeader::clear(expire_at).encode()[..], value].concat());
        }
        let sealer = self.sealer(term, Purpose::Storage).ok_or(NotSealed::NoClaim(Purpose::Storage))?;
        let body = sealer.seal_value(expire_at, table_key, value)?;
        Ok([&ValueHeader::encrypted(expire_at).encode()[..], &body].concat())
    }

    /// What a leader of `term` puts into the log for `payload`, its own registrations among them: itself, and behind the
    /// raft cutover the envelope (see [`raft`]).
    ///
    /// # Errors
    /// [`NotSealed`], behind the cutover.
    pub fn seal_entry<'a>(&self, term: u64, payload: &'a [u8]) -> Result<Cow<'a, [u8]>, NotSealed> {
        if self.cutover(Purpose::Raft) == RaftIndex::ZERO {
            return Ok(Cow::Borrowed(payload));
        }
        if let Some(sealer) = self.sealer(term, Purpose::Raft) {
            return Ok(Cow::Owned(sealer.seal_entry(payload)?));
        }
        let no_claim = NotSealed::NoClaim(Purpose::Raft);
        let id = self.active(Purpose::Raft).ok_or(no_claim.clone())?;
        let made = self.claims.made(term, id).ok_or(no_claim.clone())?;
        if payload != registration(id, self.node, made.epoch) {
            return Err(no_claim);
        }
        let nonce = Nonce::reserved(self.node, made.epoch);
        let sealed = raft::seal(&self.cipher(), id, &nonce, payload);
        Ok(Cow::Owned(sealed.expect("an active key is loaded, and a registration is short")))
    }

    /// The registrations (opcode and body) that have to be applied before `node` becomes a member beside `members`: one for
    /// each active key under which it has no row, with epoch 0. They keep its low 16 bits for it under these keys.
    ///
    /// # Errors
    /// [`ClaimError::Collision`] where a member has those, or a row under any key that is not retired is another node's:
    /// propose nothing, and give the new one another id. Else [`ClaimError::NotNow`] and [`ClaimError::Registry`].
    pub fn member_rows(&self, node: NodeId, members: &[NodeId]) -> Result<Vec<Vec<u8>>, ClaimError> {
        self.at_one_index()?;
        let Some(sidecar) = self.sidecar() else { return Ok(Vec::new()) };
        let (active, got) = (sidecar.active, node.get());
        let twin = members.iter().find(|member| **member != node && member.node16() == node.node16());
        if let Some(existing) = twin.map(|twin| twin.get()) {
            let dek_id = active.storage.get();
            return Err(ClaimError::Collision(Clash::NodeCollision { dek_id, existing, got }));
        }
        let mut missing = Vec::new();
        for id in sidecar.keys.keys().copied() {
            let is_missing = self.row(id, node)?.is_none();
            if is_missing && [active.storage, active.raft].contains(&id) {
                missing.push(registration(id, node, LocalEpoch(0)));
            }
        }
        Ok(missing)
    }

    fn row(&self, id: DekId, node: NodeId) -> Result<Option<WriterRow>, ClaimError> {
        let key = RowKey::of(id.get(), node.get());
        let row = self.registry.rows(&[key])?.into_iter().next().flatten();
        match row {
            Some(row) if row.full_node_id != node.get() => {
                let (dek_id, existing, got) = (id.get(), row.full_node_id, node.get());
                Err(ClaimError::Collision(Clash::NodeCollision { dek_id, existing, got }))
            }
            row => Ok(row),
        }
    }

    /// One above whatever this node may have used, or claimed, or others have registered for it.
    fn next_epoch(&self, id: DekId, in_sidecar: LocalEpoch, row: u16) -> Result<LocalEpoch, ClaimError> {
        let local = self.local.epochs.get(&id).map_or(0, |epoch| epoch.0);
        let highest = in_sidecar.0.max(local).max(row);
        highest.checked_add(1).map(LocalEpoch).ok_or(ClaimError::Exhausted { id })
    }
}
