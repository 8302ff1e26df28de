//! Looking at a node without touching it. What is found gets the names that the model uses, so this is also where the
//! bytes of entries are made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use applier::KekCheck;
use applier::registry::Local;
use sim::{Disk, Trace};

use crate::form::{Blob, Form, Keks, KeyNumber, Seal};
use crate::history::{SidecarSeen, Unreadable};
use crate::model::Writer;
use crate::sealing::{self, Use};
use crate::seam::SimKek;
use crate::subject::{Life, SIDECAR, SidecarView};

/// What a node is found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The sidecar.
    pub sidecar: SidecarSeen,
    /// Keys in memory by id; `None` for bytes that are none of this world's.
    pub memory: BTreeMap<u32, Option<KeyNumber>>,
    /// Rows of the registry.
    pub rows: BTreeMap<(u32, u16), Writer>,
    /// The host's data, as it is read.
    pub data: BTreeMap<u64, u64>,
    /// What is stored of it.
    pub stored: BTreeMap<u64, Vec<u8>>,
    /// What of it cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// The uses of nonces that its envelopes show.
    pub uses: Vec<Use>,
    /// The index that the subject's database carries, if it carries one.
    pub applied: Option<u64>,
    /// What is in its database of the node's own.
    pub local: Local,
}

/// The KEKs of a world, the bytes that they have wrapped, and what was last seen.
#[derive(Debug)]
pub struct Lookout {
    keks: Keks,
    kek: Arc<SimKek>,
    next_kek: Arc<SimKek>,
    /// Which blob each wrapped key of this world is.
    blobs: BTreeMap<Vec<u8>, Blob>,
    entries: BTreeMap<u64, Entry>,
    /// Sidecars that were seen lately, the newest last.
    seen: VecDeque<(Option<Vec<u8>>, SidecarSeen)>,
}

/// How many of them are kept: in a cluster each member has one of its own, which differs in its creation times at least.
const SEEN_MAX: usize = 8;

/// The bytes of an entry in the log, `None` of a leader's no-op.
#[derive(Debug)]
struct Entry {
    form: Form,
    wrap: Option<Seal>,
    bytes: Option<Arc<[u8]>>,
}

impl Lookout {
    /// A world in which nothing was wrapped yet.
    pub fn new() -> Lookout {
        let keks = Keks::new();
        let kek = Arc::new(SimKek::new(Arc::clone(keks.kek(0))));
        let next_kek = Arc::new(kek.beside(Arc::clone(keks.kek(1))));
        Lookout {
            keks,
            kek,
            next_kek,
            blobs: BTreeMap::new(),
            entries: BTreeMap::new(),
            seen: VecDeque::new(),
        }
    }

    /// The world's first KEK.
    pub fn kek(&self) -> &Arc<SimKek> {
        &self.kek
    }

    /// Check value of the KEK of this number.
    pub fn check(&self, kek: u8) -> KekCheck {
        KekCheck(self.keks.check(kek))
    }

    /// The KEK that takes its place in a rewrap.
    pub fn next_kek(&self) -> &Arc<SimKek> {
        &self.next_kek
    }

    /// The bytes of the entry at `index`, made once and not at every delivery; `None` of a leader's no-op.
    pub fn entry(&mut self, index: u64, form: &Form, wrap: Option<Seal>) -> Option<Arc<[u8]>> {
        if let Some(known) =
            self.entries.get(&index).filter(|known| known.form == *form && known.wrap == wrap)
        {
            return known.bytes.clone();
        }
        let bytes: Option<Arc<[u8]>> = self.clear_entry(form).map(|clear| match wrap {
            None => Arc::from(clear),
            Some(seal) => Arc::from(sealing::seal_entry(&seal, &clear)),
        });
        self.entries.insert(index, Entry { form: form.clone(), wrap, bytes: bytes.clone() });
        bytes
    }

    /// The bytes of an entry before they are put into an envelope, if they are; `None` of a leader's no-op.
    pub fn clear_entry(&mut self, form: &Form) -> Option<Vec<u8>> {
        sealing::host_entry(form).or_else(|| self.encode(form))
    }

    /// The bytes of an entry for the applier, `None` where the host handles it alone. What they wrap is known from then
    /// on.
    pub fn encode(&mut self, form: &Form) -> Option<Vec<u8>> {
        self.learn_blobs(form);
        form.payload(&self.keks)
    }

    /// Looks at a live node; `None` if its database cannot be read.
    pub fn look(&mut self, life: &dyn Life, disk: &Disk) -> Option<Look> {
        let database = life.database().ok()?;
        let rows = database.registry.rows.into_iter().map(|(key, row)| {
            let writer = Writer { node: row.full_node_id, first: row.first_seen, last: row.last_seen };
            ((key.dek_id, key.node16), writer)
        });
        let (keys, local) = (life.keys(), life.local());
        let (mut data, mut unreadable, mut uses) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (key, stored) in &database.data {
            match life.read(*key, stored) {
                Ok(value) => drop(data.insert(*key, value)),
                Err(why) => {
                    let dek = sealing::envelope_of(stored).map(|envelope| envelope.dek);
                    unreadable.push(Unreadable { key: *key, dek, why });
                }
            }
            uses.extend(sealing::open(&keys, *key, stored).ok().and_then(|(_, used)| used));
        }
        Some(Look {
            sidecar: self.sidecar(life, disk),
            memory: keys.into_iter().map(|(id, bytes)| (id, key_number(bytes))).collect(),
            rows: rows.collect(),
            data,
            stored: database.data,
            unreadable,
            uses,
            applied: life.index(),
            local,
        })
    }

    /// Most looks find the bytes of an earlier one.
    fn sidecar(&mut self, life: &dyn Life, disk: &Disk) -> SidecarSeen {
        let bytes = disk.peek(SIDECAR);
        if let Some((_, seen)) = self.seen.iter().rfind(|(known, _)| *known == bytes) {
            return seen.clone();
        }
        let seen = match bytes.as_ref().map(|bytes| life.sidecar(bytes)) {
            None => SidecarSeen::Missing,
            Some(Err(error)) => SidecarSeen::Unreadable(error),
            Some(Ok(view)) => self.named(view),
        };
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back((bytes, seen.clone()));
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
        SidecarSeen::Content {
            active: view.active,
            keys,
            created,
            epochs,
            cutovers: (view.storage_cutover, view.raft_cutover),
            retired: view.retired,
            kek: view.kek.map_or((0, Some(0)), |(generation, check)| (generation, self.keks.number(check))),
        }
    }

    fn learn_blobs(&mut self, form: &Form) {
        let blobs = match form {
            Form::Bootstrap { storage_blob, raft_blob, .. } => vec![*storage_blob, *raft_blob],
            Form::Rotation { blob, .. } => vec![*blob],
            Form::Rewrap { keys, .. } => keys.iter().map(|(_, blob)| *blob).collect(),
            _ => return,
        };
        for blob in blobs {
            self.blobs.insert(blob.bytes(&self.keks), blob);
        }
    }
}

impl Default for Lookout {
    fn default() -> Lookout {
        Lookout::new()
    }
}

/// Table keys of what is stored sealed.
pub fn sealed(stored: &BTreeMap<u64, Vec<u8>>) -> BTreeSet<u64> {
    stored.iter().filter(|(_, stored)| sealing::envelope_of(stored).is_some()).map(|(key, _)| *key).collect()
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
