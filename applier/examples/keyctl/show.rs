//! What the commands do that only look: they recover as every other one, and lead in no term.

use std::fmt::Write;

use applier::envelope::storage::{self, ValueHeader, ValueKind};
use applier::registry::{Registry, RowKey};
use applier::wire::{self, Entry};
use applier::{DekId, Envelope, Purpose, RaftIndex};
use serde::Serialize;

use super::commands::name;
use super::error::Error;
use super::log::{Kind, Record};
use super::node::{Node, read_put};

/// Everything that can be said of a directory without saying what is in it.
#[derive(Serialize)]
struct Status {
    node: String,
    term: u64,
    applied_index: u64,
    sidecar_index: u64,
    log: LogStatus,
    kek: KekStatus,
    cutovers: Cutovers,
    keys: Vec<Key>,
    retired: Vec<Retired>,
    values: usize,
}

#[derive(Serialize)]
struct LogStatus {
    base_index: u64,
    last_index: u64,
}

#[derive(Serialize)]
struct KekStatus {
    file: String,
    previous_file: Option<String>,
    in_force: String,
    generation: u32,
}

#[derive(Serialize)]
struct Cutovers {
    storage: u64,
    raft: u64,
}

#[derive(Serialize)]
struct Key {
    id: u32,
    purpose: &'static str,
    active: bool,
    local_epoch: u16,
    registered_epoch: Option<u16>,
    raft_index: u64,
    values: usize,
}

#[derive(Serialize)]
struct Retired {
    id: u32,
    purpose: &'static str,
    raft_index: u64,
    retired_index: u64,
}

pub(super) fn get(dir: &str, key: &str) -> Result<Vec<u8>, Error> {
    let node = Node::open(dir)?;
    let values = node.values()?;
    let found = values.iter().find(|(found, _)| found == key);
    let (_, stored) = found.ok_or_else(|| Error::NoValue(key.to_owned()))?;
    read(&node, key, stored)
}

pub(super) fn status(dir: &str, as_json: bool) -> Result<String, Error> {
    let status = look(&Node::open(dir)?)?;
    match as_json {
        true => Ok(serde_json::to_string_pretty(&status).expect("a status has string keys alone")),
        false => Ok(text(&status)),
    }
}

fn look(node: &Node) -> Result<Status, Error> {
    let values = node.values()?;
    let kek = node.applier.kek_status()?;
    let (mut keys, mut retired, mut sidecar_index) = (Vec::new(), Vec::new(), 0);
    if let Some(sidecar) = node.applier.sidecar() {
        sidecar_index = sidecar.raft_applied_index.0;
        for (id, key) in &sidecar.keys {
            keys.push(Key {
                id: id.get(),
                purpose: name(key.purpose),
                active: sidecar.active.of(key.purpose) == *id,
                local_epoch: key.local_epoch.0,
                registered_epoch: registered(node, *id)?,
                raft_index: key.name.raft_index.0,
                values: values.iter().filter(|(_, stored)| sealed_under(stored) == Some(*id)).count(),
            });
        }
        retired.extend(sidecar.retired.iter().map(|(id, stone)| Retired {
            id: id.get(),
            purpose: name(stone.purpose),
            raft_index: stone.installed.raft_index.0,
            retired_index: stone.retired.raft_index.0,
        }));
    }
    Ok(Status {
        node: node.applier.node().to_string(),
        term: node.log.last_term(),
        applied_index: node.applier.applied_index().0,
        sidecar_index,
        log: LogStatus { base_index: node.log.base().0, last_index: node.log.last().0 },
        kek: KekStatus {
            file: node.keks.current.path.clone(),
            previous_file: node.keks.previous.as_ref().map(|previous| previous.path.clone()),
            in_force: kek.in_force.to_string(),
            generation: kek.generation,
        },
        cutovers: Cutovers {
            storage: node.applier.cutover(Purpose::Storage).0,
            raft: node.applier.cutover(Purpose::Raft).0,
        },
        keys,
        retired,
        values: values.len(),
    })
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes everything");
    let Status { node, term, applied_index, sidecar_index, log, kek, cutovers, .. } = status;
    line(format!("node      {node}, term {term}"));
    line(format!(
        "indices   applied {applied_index}, sidecar {sidecar_index}, log {} to {}",
        log.base_index + 1,
        log.last_index
    ));
    let previous = kek.previous_file.as_ref().map(|file| format!(", exchanged for that of {file}"));
    line(format!(
        "kek       {} in force, generation {}; {}{}",
        kek.in_force,
        kek.generation,
        kek.file,
        previous.unwrap_or_default()
    ));
    let sealed = |index: u64| match index {
        0 => "clear".to_owned(),
        index => format!("sealed since index {index}"),
    };
    line(format!("entries   {}", sealed(cutovers.raft)));
    line(format!("values    {}; there are {}", sealed(cutovers.storage), status.values));
    for key in &status.keys {
        line(format!(
            "key {:<5} {:<7} {:<7} epoch {} (registered: {}), values: {}, from index {}",
            key.id,
            key.purpose,
            if key.active { "active" } else { "reading" },
            key.local_epoch,
            key.registered_epoch.map_or("none".to_owned(), |epoch| epoch.to_string()),
            key.values,
            key.raft_index
        ));
    }
    for key in &status.retired {
        line(format!("key {:<5} {:<7} retired at index {}", key.id, key.purpose, key.retired_index));
    }
    out.truncate(out.trim_end().len());
    out
}

pub(super) fn log(dir: &str) -> Result<String, Error> {
    let node = Node::open(dir)?;
    let lines = node.log.records().iter().map(|record| {
        let sealed = match is_sealed(&node, record).then(|| Envelope::decode(&record.data)) {
            Some(Ok(envelope)) => format!(", sealed under key {}, {:?}", envelope.key_id, envelope.nonce),
            _ => String::new(),
        };
        format!("{:<5} term {:<4} {}{sealed}", record.index.0, record.term, describe(&node, record))
    });
    Ok(lines.collect::<Vec<String>>().join("\n"))
}

fn is_sealed(node: &Node, record: &Record) -> bool {
    let cutover = node.applier.cutover(Purpose::Raft);
    record.kind == Kind::Proposal && cutover > RaftIndex::ZERO && record.index > cutover
}

fn describe(node: &Node, record: &Record) -> String {
    if record.kind == Kind::Empty {
        return "begins the term".to_owned();
    }
    let payload = match node.applier.open_entry(record.index, &record.data) {
        Ok(payload) => payload,
        Err(reject) => return reject.to_string(),
    };
    if !payload.first().is_some_and(|opcode| wire::is_encryption_opcode(*opcode)) {
        return match read_put(&payload) {
            Some((key, _)) => format!("put {:?}", String::from_utf8_lossy(key)),
            None => "unknown".to_owned(),
        };
    }
    match Entry::decode(&payload) {
        Ok(Entry::Registration(row)) => {
            format!("registers epoch {} under key {}", row.local_epoch, row.dek_id)
        }
        Ok(Entry::Bootstrap(entry)) => format!("bootstrap: keys {} and {}", entry.storage_id, entry.raft_id),
        Ok(Entry::Rotation(entry)) => format!("{:?}: key {}", entry.subtag, entry.dek_id),
        Ok(Entry::Rewrap(entry)) => {
            format!("rewrap of {} keys, generation {}", entry.keys.len(), entry.generation)
        }
        Err(error) => error.to_string(),
    }
}

/// Reads everything back, and holds the three places against each other.
pub(super) fn verify(dir: &str) -> Result<String, Error> {
    let node = Node::open(dir)?;
    let mut wrong = Vec::new();
    let values = node.values()?;
    for (key, stored) in &values {
        if let Err(error) = read(&node, key, stored) {
            wrong.push(error.to_string());
        }
        wrong.extend(unclaimed(&node, stored)?.map(|what| format!("the value under {key:?} {what}")));
    }
    for record in node.log.records().iter().filter(|record| record.kind == Kind::Proposal) {
        if let Err(reject) = node.applier.open_entry(record.index, &record.data) {
            wrong.push(format!("entry {}: {reject}", record.index));
        }
    }
    wrong.extend(registry_against_sidecar(&node)?);
    match wrong.is_empty() {
        true => Ok(format!(
            "sound; keys: {}, values: {}, entries: {}",
            node.applier.keystore().len(),
            values.len(),
            node.log.records().len()
        )),
        false => Err(Error::Wrong(wrong)),
    }
}

/// What is wrong with the nonce of a sealed value: it has to be of an epoch that the log has registered.
fn unclaimed(node: &Node, stored: &[u8]) -> Result<Option<String>, Error> {
    let Some(envelope) = envelope(stored) else { return Ok(None) };
    let epoch = registered(node, envelope.key_id)?;
    Ok(match epoch.is_some_and(|epoch| envelope.nonce.epoch().0 <= epoch) {
        true => None,
        false => Some(format!("is sealed with {:?}, and the registered epoch is {epoch:?}", envelope.nonce)),
    })
}

fn registry_against_sidecar(node: &Node) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    let registry = node.applier.registry();
    let (rows, local) = (registry.snapshot()?.rows, registry.local()?);
    let Some(sidecar) = node.applier.sidecar() else {
        wrong.extend(rows.keys().map(|row| format!("there is a row for key {} and no sidecar", row.dek_id)));
        return Ok(wrong);
    };
    let (at, applied) = (sidecar.raft_applied_index, node.applier.applied_index());
    if at > applied || at != local.sidecar_index {
        wrong.push(format!(
            "the sidecar is at index {at}, and the database at {applied} has it at {}",
            local.sidecar_index
        ));
    }
    for key in rows.keys() {
        if DekId::new(key.dek_id).is_none_or(|id| !sidecar.keys.contains_key(&id)) {
            wrong.push(format!("there is a row for key {}, which is not in the sidecar", key.dek_id));
        }
    }
    for (id, key) in &sidecar.keys {
        let claimed = local.epochs.get(id).map_or(0, |epoch| epoch.0);
        let row = registered(node, *id)?;
        if row.is_none() || key.local_epoch.0 < claimed || Some(claimed) < row {
            wrong.push(format!(
                "key {id} is at epoch {} in the sidecar, {claimed} in the database, and {row:?} in its row",
                key.local_epoch
            ));
        }
    }
    Ok(wrong)
}

/// The newest epoch that is registered for this node.
fn registered(node: &Node, id: DekId) -> Result<Option<u16>, Error> {
    let key = RowKey::of(id.get(), node.applier.node().get());
    let row = node.applier.registry().rows(&[key])?.into_iter().next().flatten();
    Ok(row.map(|row| row.last_seen))
}

/// A stored value in the clear.
pub(super) fn read(node: &Node, key: &str, stored: &[u8]) -> Result<Vec<u8>, Error> {
    let unreadable = |fault| Error::Unreadable { key: key.to_owned(), fault };
    let (_, value) = storage::read(&node.applier.cipher(), key.as_bytes(), stored).map_err(unreadable)?;
    Ok(value.into_owned())
}

/// The key of a stored value that is sealed.
pub(super) fn sealed_under(stored: &[u8]) -> Option<DekId> {
    envelope(stored).map(|envelope| envelope.key_id)
}

fn envelope(stored: &[u8]) -> Option<Envelope<'_>> {
    let (header, body) = ValueHeader::split(stored).ok()?;
    if header.kind == ValueKind::Encrypted { Envelope::decode(body).ok() } else { None }
}
