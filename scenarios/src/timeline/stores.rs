//! What the three stores of each node hold, from copies of its disk.

use std::collections::BTreeMap;

use applier::registry::{self, Registry};
use sim::{Disk, Event};
use xxhash_rust::xxh3::xxh3_64;

use super::{KeyInMemory, Sides, Stores, tap};
use crate::seam::SimFiles;
use crate::subject::{DATABASE, SIDECAR};
use crate::world::look::Memory;

/// The stores of all nodes as they are at one moment.
pub(super) struct Shelf<'a> {
    events: &'a [Event],
    now: BTreeMap<u64, Stores>,
    memory: BTreeMap<u64, BTreeMap<u32, String>>,
    /// Rows by the hash of a database's bytes.
    rows: BTreeMap<u64, Option<Vec<String>>>,
    /// The next event of the same disk that has a copy of it, by event.
    next: Vec<Option<usize>>,
    has_disks: bool,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(events: &'a [Event]) -> Shelf<'a> {
        let mut next = vec![None; events.len()];
        let mut known: BTreeMap<u64, usize> = BTreeMap::new();
        for at in (0..events.len()).rev() {
            next[at] = known.get(&events[at].who).copied();
            if events[at].before.is_some() || events[at].after.is_some() {
                known.insert(events[at].who, at);
            }
        }
        let has_disks = !known.is_empty();
        let (now, memory, rows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Shelf { events, now, memory, rows, next, has_disks }
    }

    /// Notices what an event says of a node's memory.
    pub(super) fn look(&mut self, event: &Event, lane: u64) {
        let beside = event.beside.as_ref();
        if let Some(seen) = beside.and_then(|beside| beside.downcast_ref::<Memory>()) {
            let name = |key: &Option<_>| {
                key.map_or("unknown bytes".to_owned(), |key: crate::form::KeyNumber| format!("K{}", key.0))
            };
            self.memory.insert(lane, seen.iter().map(|(id, key)| (*id, name(key))).collect());
        }
        if let Some(logged) = beside.and_then(|beside| beside.downcast_ref::<tap::Logged>()) {
            let ids = logged.fields.iter().find(|(name, _)| *name == "ids");
            let ids = ids.and_then(|(_, ids)| serde_json::from_str::<Vec<u32>>(ids).ok()).unwrap_or_default();
            for id in ids {
                let memory = self.memory.entry(lane).or_default();
                match logged.message.as_str() {
                    "keys set" => {
                        memory.entry(id).or_insert("set by this entry".to_owned());
                    }
                    "keys undone" => {
                        memory.remove(&id);
                    }
                    _ => {}
                }
            }
        }
        if matches!(event.kind, "process_crash" | "power_loss") {
            self.memory.remove(&lane);
        }
    }

    /// What a node holds after an event, where that is something else than before it.
    pub(super) fn after(&mut self, at: usize, lane: u64, stores: &mut Vec<Stores>) -> Option<usize> {
        if !self.has_disks {
            return None;
        }
        let event = &self.events[at];
        let mut now = self.now.get(&lane).cloned().unwrap_or_default();
        if event.before.is_some() || event.after.is_some() {
            let next = self.next[at].map(|next| &self.events[next]);
            let following = next.and_then(|next| next.before.as_ref().or(next.after.as_ref()));
            if let Some(disk) = event.after.as_ref().or(following) {
                self.read_disk(disk, event, &mut now);
            }
        }
        let sidecar = now.sidecar.seen.as_deref();
        now.memory = self.memory.get(&lane).map(|memory| name_keys(memory, sidecar));
        // Who is no node holds nothing.
        if self.now.get(&lane).unwrap_or(&Stores::default()) == &now {
            return None;
        }
        self.now.insert(lane, now.clone());
        stores.push(now);
        Some(stores.len() - 1)
    }

    fn read_disk(&mut self, disk: &Disk, event: &Event, now: &mut Stores) {
        let durable = disk.only_durable();
        let text = |disk: &Disk| disk.peek(SIDECAR).map(|bytes| readable(&bytes));
        now.sidecar = Sides { durable: text(&durable), seen: text(disk) };
        now.pending = disk.pending_text();
        // A database is read where it may have changed as a whole: after its syncs, and after a crash.
        if event.after.is_some() || (event.kind == "sync_file" && event.text == DATABASE) {
            now.registry = Sides { durable: self.rows(&durable), seen: self.rows(disk) };
        }
    }

    fn rows(&mut self, disk: &Disk) -> Option<Vec<String>> {
        let hash = xxh3_64(&disk.peek(DATABASE)?);
        self.rows.entry(hash).or_insert_with(|| read_rows(&disk.fork())).clone()
    }
}

fn read_rows(disk: &Disk) -> Option<Vec<String>> {
    // A program's view of it: opening repairs what a crash has left, on this copy only.
    disk.process_crash();
    let database = registry::open(&SimFiles::new(disk.mount()), DATABASE).ok()?;
    let snapshot = database.snapshot().ok()?;
    let mut lines = vec![format!("applied index {}", snapshot.applied_index)];
    lines.extend(snapshot.rows.iter().map(|(key, row)| {
        let (first, last) = (row.first_seen, row.last_seen);
        format!("key {}, node {:x}: epochs {first} to {last}", key.dek_id, row.full_node_id)
    }));
    Some(lines)
}

/// JSON with a line for each field, and what is none as it is.
fn readable(bytes: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) => serde_json::to_string_pretty(&value).expect("it was JSON"),
        Err(_) => format!("{} bytes that are no JSON: {}", bytes.len(), String::from_utf8_lossy(bytes)),
    }
}

fn name_keys(memory: &BTreeMap<u32, String>, sidecar: Option<&str>) -> Vec<KeyInMemory> {
    let sidecar: serde_json::Value =
        sidecar.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let key = |(id, bytes): (&u32, &String)| {
        let name = id.to_string();
        let known = &sidecar["keys"][&name]["purpose"];
        let purpose =
            ["storage", "raft"].into_iter().find(|purpose| known.as_str() == Some(purpose)).unwrap_or("");
        let is_it = |active: &serde_json::Value| active.as_u64() == Some(u64::from(*id));
        let active = is_it(&sidecar["active"]["storage"]) || is_it(&sidecar["active"]["raft"]);
        KeyInMemory { id: *id, purpose, active, bytes: bytes.clone() }
    };
    memory.iter().map(key).collect()
}
