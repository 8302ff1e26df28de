//! Adoption: a sidecar that the reference system wrote becomes one of ours.
//!
//! The reference records no entry behind a key. Without that a redelivery cannot be told from a reuse of an id, so
//! the host supplies the entries from its log, and every key must be explained by exactly one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::time_of_creation;
use super::{Applier, Held, start};
use crate::ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
use crate::outcome::{HaltCause, StartError};
use crate::ports::{Clock, Files};
use crate::registry::{
    Change, LocalChange, Registry, RegistryError, RegistrySnapshot, RowKey, WriterRow, rules,
};
use crate::sidecar::{
    Active, Cutovers, EntryName, ForeignCutovers, ForeignKey, ForeignSidecar, KeyRecord, Sidecar, json,
};
use crate::wire::{Entry, RotationKind, WireError};

/// What the reference system's host knows and its sidecar does not.
#[derive(Clone, Debug, Default)]
pub struct Adoption {
    /// Index of the newest entry that the reference has applied here.
    pub applied_index: RaftIndex,
    /// The bootstrap, every rotation that installed a key, and every cutover that switched an envelope on, with its index:
    /// opcode and body each.
    pub entries: Vec<(RaftIndex, Vec<u8>)>,
    /// The writer registry.
    pub rows: BTreeMap<RowKey, WriterRow>,
}

/// Why a sidecar was not adopted. Except for `Halted`, nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// There is nothing to adopt: no sidecar, or one of ours.
    #[error("there is no sidecar of the reference system here")]
    NotForeign,
    /// A supplied entry does not decode.
    #[error("the entry supplied for index {index} does not decode: {error}")]
    Wire {
        /// Its index.
        index: RaftIndex,
        /// What is wrong.
        error: WireError,
    },
    /// A supplied entry installs no key and switches no envelope on, stands at index 0 or above the applied index, or
    /// shares its index with another.
    #[error(
        "the entry supplied for index {index} is not an applied bootstrap, rotation or cutover of its own index"
    )]
    Entry {
        /// Its index.
        index: RaftIndex,
    },
    /// The file reflects entries that the host says are still to come; they would be taken for replays.
    #[error(
        "the sidecar is at index {sidecar} and the applied index supplied is {applied}: let the reference system \
         catch up with its sidecar first"
    )]
    Behind {
        /// Index that the file carries.
        sidecar: RaftIndex,
        /// Index that was supplied.
        applied: RaftIndex,
    },
    /// Not exactly one bootstrap among the entries.
    #[error("exactly one bootstrap must be supplied, found {found}")]
    Bootstraps {
        /// How many were.
        found: usize,
    },
    /// No entry, or more than one, installs this key with this purpose and these wrapped bytes; or an entry installs
    /// a key that the sidecar lacks.
    #[error("key {0} of the sidecar and the supplied entries do not explain each other")]
    KeyNotExplained(DekId),
    /// No entry, or more than one, switched this envelope on, or one that stands elsewhere than the sidecar says; or one
    /// was supplied for an envelope that is off.
    #[error("the cutover of the {0:?} envelope and the supplied entries do not explain each other")]
    CutoverNotExplained(Purpose),
    /// Only one active key, or none.
    #[error(
        "the sidecar has no active {0:?} key: bootstrap never finished here; remove this node and add it again"
    )]
    NotActive(Purpose),
    /// This node has sealed under an epoch that its row does not say, which nobody would know of if its disk were lost.
    #[error(
        "this node may have sealed under epoch {sealed} of key {id}, and its row says {registered:?}; let the reference \
         system register that epoch first"
    )]
    NotRegistered {
        /// The key.
        id: DekId,
        /// Epoch in the sidecar.
        sealed: LocalEpoch,
        /// Epoch in the row, where there is one.
        registered: Option<u16>,
    },
    /// A row that the reference system cannot have written, for an unknown key or under another node's bits.
    #[error("the row {0:?} does not belong to a known key and its own node")]
    Row(RowKey),
    /// The database already holds something else.
    #[error("the registry is not empty: adopt into a fresh database")]
    RegistryInUse,
    /// A key does not open, or two are equal.
    #[error(transparent)]
    Keys(StartError),
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An earlier entry of this life halted.
    #[error("an earlier entry halted this applier; restart it")]
    Poisoned,
    /// A write failed. Restart, and adopt again: what was written before is found to be the same.
    #[error("adoption did not finish, restart and repeat it: {0}")]
    Halted(#[from] HaltCause),
}

impl<F: Files, R: Registry> Applier<F, R> {
    /// Turns the reference system's sidecar into one of ours. The registry goes first and the sidecar last, so that a
    /// crash in between leaves it foreign and the adoption can be repeated.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt(&mut self, adoption: &Adoption) -> Result<(), AdoptError> {
        if self.poisoned {
            return Err(AdoptError::Poisoned);
        }
        let (Held::Foreign(foreign), Some(keyring)) = (&self.held, &self.keyring) else {
            return Err(AdoptError::NotForeign);
        };
        let sidecar = explain(foreign, adoption, self.clock.0.as_ref())?;
        let kek = start::in_force(&keyring.ring, &sidecar, &self.local)
            .map_err(|fault| AdoptError::Keys(fault.into()))?;
        start::unwrap_all(kek, start::wrapped_keys(&sidecar))
            .map_err(|fault| AdoptError::Keys(fault.into()))?;
        check_rows(&sidecar, adoption)?;
        check_registered(&sidecar, adoption, self.node)?;
        let target = RegistrySnapshot { rows: adoption.rows.clone(), applied_index: adoption.applied_index };
        let found = self.registry.snapshot()?;
        if found != RegistrySnapshot::default() && found != target {
            return Err(AdoptError::RegistryInUse);
        }
        let change = Change {
            rows: target.rows,
            applied_index: Some(target.applied_index),
            sidecar_index: Some(sidecar.raft_applied_index),
            ..Change::default()
        };
        if let Err(error) = self.registry.commit(&change, &mut |_| Ok(())) {
            self.poisoned = true;
            return Err(AdoptError::Halted(HaltCause::Commit(error)));
        }
        // The reference has written under these epochs, and of that its sidecar is the only witness.
        let epochs = sidecar.keys.iter().map(|(id, key)| (*id, key.local_epoch));
        let epochs: BTreeMap<_, _> = epochs.filter(|(_, epoch)| *epoch > LocalEpoch(0)).collect();
        for (id, epoch) in &epochs {
            if let Err(error) = self.registry.keep(LocalChange::Claim(*id, *epoch)) {
                self.poisoned = true;
                return Err(AdoptError::Halted(HaltCause::Commit(error)));
            }
        }
        if let Err(fault) = keyring.path.write(&self.files, &json::encode(&sidecar)) {
            self.poisoned = true;
            return Err(AdoptError::Halted(HaltCause::Sidecar(fault)));
        }
        self.local.epochs = epochs;
        self.committed(&change);
        self.applied = adoption.applied_index;
        self.held = Held::Ours(Box::new(sidecar));
        Ok(())
    }
}

struct Installed {
    name: EntryName,
    purpose: Purpose,
    wrapped: Vec<u8>,
}

/// Names the entry behind every key.
fn explain(foreign: &ForeignSidecar, adoption: &Adoption, clock: &dyn Clock) -> Result<Sidecar, AdoptError> {
    let (reflected, applied) = (foreign.raft_applied_index, adoption.applied_index);
    if reflected > applied {
        return Err(AdoptError::Behind { sidecar: reflected, applied });
    }
    let mut indices = BTreeSet::new();
    let mut bootstraps = Vec::new();
    let mut installed: BTreeMap<u32, Installed> = BTreeMap::new();
    let mut cutovers = Cutovers::default();
    for (index, payload) in &adoption.entries {
        let index = *index;
        let name = EntryName::of(index, payload);
        let entry = Entry::decode(payload).map_err(|error| AdoptError::Wire { index, error })?;
        if index == RaftIndex::ZERO || index > applied || !indices.insert(index) {
            return Err(AdoptError::Entry { index });
        }
        let keys = match entry {
            Entry::Bootstrap(entry) => {
                bootstraps.push(name);
                vec![
                    (entry.storage_id, Purpose::Storage, entry.wrapped_storage),
                    (entry.raft_id, Purpose::Raft, entry.wrapped_raft),
                ]
            }
            Entry::Rotation(entry) if entry.subtag == RotationKind::RotateDek => {
                vec![(entry.dek_id, entry.purpose, entry.wrapped)]
            }
            entry => {
                let purpose = switched_on(&entry, foreign).ok_or(AdoptError::Entry { index })?;
                if cutovers.of(purpose).is_some() {
                    return Err(AdoptError::CutoverNotExplained(purpose));
                }
                cutovers = cutovers.with(purpose, name);
                Vec::new()
            }
        };
        for (id, purpose, wrapped) in keys {
            let known = DekId::new(id).ok_or(AdoptError::Entry { index })?;
            if installed.insert(id, Installed { name, purpose, wrapped }).is_some()
                || !foreign.keys.contains_key(&known)
            {
                return Err(AdoptError::KeyNotExplained(known));
            }
        }
    }
    let [bootstrap] = bootstraps[..] else {
        return Err(AdoptError::Bootstraps { found: bootstraps.len() });
    };
    let mut keys = BTreeMap::new();
    for (id, key) in &foreign.keys {
        keys.insert(*id, named(*id, key, installed.get(&id.get()), clock)?);
    }
    check_cutovers(foreign.cutovers, cutovers)?;
    let mut sidecar = Sidecar {
        raft_applied_index: foreign.raft_applied_index,
        cutovers,
        active: Active {
            storage: foreign.active_storage.ok_or(AdoptError::NotActive(Purpose::Storage))?,
            raft: foreign.active_raft.ok_or(AdoptError::NotActive(Purpose::Raft))?,
        },
        keys,
        retired: BTreeMap::new(),
        bootstrap,
        rewraps: Vec::new(),
    };
    let newest = sidecar.named().map(|name| name.raft_index).max();
    sidecar.raft_applied_index = sidecar.raft_applied_index.max(newest.unwrap_or(RaftIndex::ZERO));
    Ok(sidecar)
}

/// Which envelope an entry switches on: one that is a cutover of a key of the file.
fn switched_on(entry: &Entry, foreign: &ForeignSidecar) -> Option<Purpose> {
    let Entry::Rotation(entry) = entry else { return None };
    let purpose = match entry.subtag {
        RotationKind::EnableStorageEnvelope => Purpose::Storage,
        RotationKind::EnableRaftEnvelope => Purpose::Raft,
        RotationKind::RotateDek | RotationKind::RetireDek => return None,
    };
    let key = foreign.keys.get(&DekId::new(entry.dek_id)?)?;
    let fits = entry.purpose == purpose && key.purpose == purpose && entry.wrapped.is_empty();
    fits.then_some(purpose)
}

/// The reference records where its cutovers stand, but for a storage cutover of its first versions.
fn check_cutovers(foreign: ForeignCutovers, supplied: Cutovers) -> Result<(), AdoptError> {
    let raft = foreign.raft_envelope_cutover_index;
    let states = [
        (Purpose::Storage, foreign.storage_envelope_active, foreign.storage_envelope_cutover_index),
        (Purpose::Raft, raft > RaftIndex::ZERO, raft),
    ];
    for (purpose, is_on, index) in states {
        let fits = match supplied.of(purpose) {
            None => !is_on,
            Some(name) => is_on && (index == RaftIndex::ZERO || index == name.raft_index),
        };
        if !fits {
            return Err(AdoptError::CutoverNotExplained(purpose));
        }
    }
    Ok(())
}

fn named(
    id: DekId,
    key: &ForeignKey,
    installed: Option<&Installed>,
    clock: &dyn Clock,
) -> Result<KeyRecord, AdoptError> {
    let same = |by: &&Installed| by.purpose == key.purpose && by.wrapped == key.wrapped;
    let by = installed.filter(same).ok_or(AdoptError::KeyNotExplained(id))?;
    // The reference takes any text for a time. Ours are times, so that one of ours can always be read again.
    let created = match humantime::parse_rfc3339(&key.created) {
        Ok(_) => key.created.clone(),
        Err(_) => time_of_creation(clock),
    };
    Ok(KeyRecord {
        purpose: key.purpose,
        wrapped: key.wrapped.clone(),
        created,
        local_epoch: key.local_epoch,
        name: by.name,
    })
}

/// The reference raises the epochs of its active keys at each start, and seals behind a cutover before it registers them.
fn check_registered(sidecar: &Sidecar, adoption: &Adoption, node: NodeId) -> Result<(), AdoptError> {
    for purpose in [Purpose::Storage, Purpose::Raft] {
        let id = sidecar.active.of(purpose);
        let sealed = sidecar.keys[&id].local_epoch;
        let row = adoption.rows.get(&RowKey::of(id.get(), node.get()));
        let registered = row.filter(|row| row.full_node_id == node.get()).map(|row| row.last_seen);
        let is_on = sidecar.cutovers.of(purpose).is_some();
        if is_on && sealed > LocalEpoch(registered.unwrap_or(0)) {
            return Err(AdoptError::NotRegistered { id, sealed, registered });
        }
    }
    Ok(())
}

fn check_rows(sidecar: &Sidecar, adoption: &Adoption) -> Result<(), AdoptError> {
    let fits = |key: &RowKey, row: &WriterRow| {
        DekId::new(key.dek_id).is_some_and(|id| sidecar.keys.contains_key(&id))
            && rules::is_well_formed(*key, *row)
    };
    match adoption.rows.iter().find(|(key, row)| !fits(key, row)) {
        Some((key, _)) => Err(AdoptError::Row(*key)),
        None => Ok(()),
    }
}
