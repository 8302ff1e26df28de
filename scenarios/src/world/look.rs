//! Looking at a node without touching it. What is found gets the names that the model uses, so this is also where the
//! bytes of entries are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use applier::kek::LocalKek;
use sim::{Disk, Trace};

use crate::form::{Blob, Form, KeyNumber};
use crate::history::SidecarSeen;
use crate::model::Writer;
use crate::seam::SimKek;
use crate::subject::{Life, SIDECAR, SidecarView};

/// The key that wraps the keys of every world. It begins with the marker too.
const KEK: KeyNumber = KeyNumber(0xEE);

/// What a node is found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The sidecar.
    pub sidecar: SidecarSeen,
    /// Keys in memory by id; `None` for bytes that are none of this world's.
    pub memory: BTreeMap<u32, Option<KeyNumber>>,
    /// Rows of the registry.
    pub rows: BTreeMap<(u32, u16), Writer>,
    /// The host's data.
    pub data: BTreeMap<u64, u64>,
    /// The index that the subject's database carries, if it carries one.
    pub applied: Option<u64>,
    /// The index up to which the database proves that there is a sidecar.
    pub proof: u64,
}

/// The KEK of a world, the bytes that it has wrapped, and what was last seen.
#[derive(Debug)]
pub struct Lookout {
    kek: Arc<SimKek>,
    /// Which blob each wrapped key of this world is.
    blobs: BTreeMap<Vec<u8>, Blob>,
    payloads: BTreeMap<u64, Payload>,
    last: Option<(Option<Vec<u8>>, SidecarSeen)>,
}

/// The bytes of an entry, `None` where the host handles it alone.
#[derive(Debug)]
struct Payload {
    form: Form,
    bytes: Option<Arc<[u8]>>,
}

impl Lookout {
    /// A world in which nothing was wrapped yet.
    pub fn new() -> Lookout {
        let kek = Arc::new(SimKek::new(LocalKek::new(KEK.bytes())));
        Lookout { kek, blobs: BTreeMap::new(), payloads: BTreeMap::new(), last: None }
    }

    /// The KEK.
    pub fn kek(&self) -> &Arc<SimKek> {
        &self.kek
    }

    /// The bytes of the entry at `index`, wrapped once and not at every delivery.
    pub fn payload(&mut self, index: u64, form: &Form) -> Option<Arc<[u8]>> {
        if let Some(known) = self.payloads.get(&index).filter(|known| known.form == *form) {
            return known.bytes.clone();
        }
        let bytes: Option<Arc<[u8]>> = self.encode(form).map(Arc::from);
        self.payloads.insert(index, Payload { form: form.clone(), bytes: bytes.clone() });
        bytes
    }

    /// The bytes of an entry, `None` where the host handles it alone. What they wrap is known from then on.
    pub fn encode(&mut self, form: &Form) -> Option<Vec<u8>> {
        self.learn_blobs(form);
        form.payload(self.kek.local())
    }

    /// Looks at a live node; `None` if its database cannot be read.
    pub fn look(&mut self, life: &dyn Life, disk: &Disk) -> Option<Look> {
        let database = life.database().ok()?;
        let rows = database.registry.rows.into_iter().map(|(key, row)| {
            let writer = Writer { node: row.full_node_id, first: row.first_seen, last: row.last_seen };
            ((key.dek_id, key.node16), writer)
        });
        Some(Look {
            sidecar: self.sidecar(life, disk),
            memory: life.keys().into_iter().map(|(id, bytes)| (id, key_number(bytes))).collect(),
            rows: rows.collect(),
            data: database.data,
            applied: life.resume_after(),
            proof: life.proof(),
        })
    }

    /// Most looks find the bytes of the one before.
    fn sidecar(&mut self, life: &dyn Life, disk: &Disk) -> SidecarSeen {
        let bytes = disk.peek(SIDECAR);
        if let Some((known, seen)) = &self.last
            && *known == bytes
        {
            return seen.clone();
        }
        let seen = match bytes.as_ref().map(|bytes| life.sidecar(bytes)) {
            None => SidecarSeen::Missing,
            Some(Err(error)) => SidecarSeen::Unreadable(error),
            Some(Ok(view)) => self.named(view),
        };
        self.last = Some((bytes, seen.clone()));
        seen
    }

    fn named(&self, view: SidecarView) -> SidecarSeen {
        let mut keys = BTreeMap::new();
        let mut created = BTreeMap::new();
        let mut epochs = BTreeMap::new();
        for (id, key) in view.keys {
            keys.insert(id, (key.purpose, self.blobs.get(&key.wrapped).copied()));
            created.insert(id, key.created);
            epochs.insert(id, key.local_epoch);
        }
        SidecarSeen::Content { active: view.active, keys, created, epochs }
    }

    fn learn_blobs(&mut self, form: &Form) {
        let blobs = match form {
            Form::Bootstrap { storage_blob, raft_blob, .. } => vec![*storage_blob, *raft_blob],
            Form::Rotation { blob, .. } => vec![*blob],
            _ => return,
        };
        for blob in blobs {
            self.blobs.insert(blob.bytes(self.kek.local()), blob);
        }
    }
}

impl Default for Lookout {
    fn default() -> Lookout {
        Lookout::new()
    }
}

/// Keys in memory by id, as they are kept beside a remark; `None` for bytes that are none of this world's.
pub type Memory = BTreeMap<u32, Option<KeyNumber>>;

/// Remarks what a node holds in memory, for people to see.
pub(super) fn show_memory(trace: &Trace, life: &dyn Life) {
    trace.remark("memory", [0; 3], || {
        let memory: Memory = life.keys().into_iter().map(|(id, bytes)| (id, key_number(bytes))).collect();
        (format!("{memory:?}"), Some(Arc::new(memory)))
    });
}

/// Remarks that the history's event of this number happens now, so that a violation can be shown where it came up.
pub(super) fn mark(trace: &Trace, number: usize) {
    trace.remark("history", [number as u64, 0, 0], || (String::new(), None));
}

fn key_number(bytes: [u8; 32]) -> Option<KeyNumber> {
    let number = KeyNumber(bytes[31]);
    (number.bytes() == bytes).then_some(number)
}
