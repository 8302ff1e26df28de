//! The log that is applied: a bootstrap and two rotations, and what a node has after each.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use applier::kek::LocalKek;
use applier::ports::Entropy;
use applier::registry::{RowKey, WriterRow};
use applier::secret::{Dek, KEY_LEN};
use applier::wire::{Bootstrap, Entry, Rotation, RotationKind, Row};
use applier::{DekId, Purpose};

/// The node that applies it.
pub const NODE: u64 = 0x11;

/// What a node has after an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The keys in sidecar and keystore.
    pub keys: BTreeSet<DekId>,
    /// The keys in use, for values and for the log.
    pub active: Option<(DekId, DekId)>,
    /// The registry.
    pub rows: BTreeMap<RowKey, WriterRow>,
}

impl State {
    fn with(&self, keys: &[u32], active: (u32, u32)) -> State {
        let mut next = self.clone();
        next.active = Some((id(active.0), id(active.1)));
        for key in keys {
            let row = WriterRow { full_node_id: NODE, first_seen: 0, last_seen: 0 };
            next.keys.insert(id(*key));
            next.rows.insert(RowKey::of(*key, NODE), row);
        }
        next
    }
}

/// Entries, and the states between them.
pub struct Log {
    kek: Arc<LocalKek>,
    entries: Vec<Vec<u8>>,
    states: Vec<State>,
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

impl Log {
    /// The same log each time, to the byte.
    pub fn new() -> Log {
        let kek = Arc::new(LocalKek::new([7; KEY_LEN]));
        let wrap = |id: u32| {
            let wrapped = kek.wrap(&key(id), &Repeated(id as u8)).expect("it never runs out");
            wrapped.to_vec()
        };
        let row = |id| Row { dek_id: id, full_node_id: NODE, local_epoch: 0 };
        let rotation = |id, purpose| {
            let subtag = RotationKind::RotateDek;
            Entry::Rotation(Rotation { subtag, dek_id: id, purpose, wrapped: wrap(id), proposer: row(id) })
        };
        let bootstrap = Entry::Bootstrap(Bootstrap {
            storage_id: 1,
            wrapped_storage: wrap(1),
            raft_id: 2,
            wrapped_raft: wrap(2),
            batch: vec![row(1), row(2)],
        });
        let entries = [bootstrap, rotation(3, Purpose::Storage), rotation(4, Purpose::Raft)];
        let empty = State::default();
        let first = empty.with(&[1, 2], (1, 2));
        let second = first.with(&[3], (3, 2));
        let third = second.with(&[4], (3, 4));
        Log {
            entries: entries.iter().map(Entry::encode).collect(),
            states: vec![empty, first, second, third],
            kek,
        }
    }

    /// The KEK that its keys are wrapped under.
    pub fn kek(&self) -> &Arc<LocalKek> {
        &self.kek
    }

    /// Index of its last entry.
    pub fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The entry at an index, which begin at 1.
    pub fn entry(&self, index: u64) -> &[u8] {
        &self.entries[index as usize - 1]
    }

    /// What there is after the entry at an index; before the first one nothing.
    pub fn after(&self, index: u64) -> &State {
        &self.states[index as usize]
    }
}

fn id(id: u32) -> DekId {
    DekId::new(id).expect("it is not 0")
}

/// The bytes of the key of this number.
pub fn key(id: u32) -> Dek {
    Dek::new([id as u8; KEY_LEN])
}

/// One byte for ever: nonces of one key each, so that every process makes the same log.
struct Repeated(u8);

impl Entropy for Repeated {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(self.0);
        Ok(())
    }
}
