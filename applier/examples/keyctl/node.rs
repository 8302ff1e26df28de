//! A node on a directory, as the leader of a cluster of one.
//!
//! What is here is the duty of a host: the log is durable before an entry of it is applied; what the log has beyond the
//! applied index is delivered at the start; whoever proposes leads in a term of its own; what the host stores goes into the
//! transaction of the entry.

use std::sync::Arc;

use applier::apply::open_database;
use applier::os::{OsFiles, SystemClock};
use applier::preflight::{Flags, preflight};
use applier::registry::{HostRefused, Registry, RowKey};
use applier::wire::{self, Entry, RotationKind};
use applier::{
    Admission, Applier, Claim, Config, DekId, Known, Leadership, NodeId, Outcome, Purpose, RaftIndex, Reject,
};
use redb::{ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::error::{Error, database};
use super::keks::Keks;
use super::log::{Kind, Log, Record};

/// Key -> header and body, as [`applier::envelope::storage`] has them.
const VALUES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keyctl.values");

/// First byte of the host's own entries: `0x01 | key length u32 BE | key | value as it is stored`.
const OP_PUT: u8 = 0x01;

/// A directory, open: no other process has it.
pub(super) struct Node {
    pub(super) dir: String,
    pub(super) applier: Applier<OsFiles>,
    pub(super) log: Log,
    pub(super) keks: Keks,
    leadership: Leadership,
    term: u64,
}

impl Node {
    /// Opens the directory, and recovers what the process before this one has not finished.
    pub(super) fn open(dir: &str) -> Result<Node, Error> {
        let keks = Keks::load(dir)?;
        let flags =
            Flags { enabled: true, kek: Some(keks.ring()), sidecar: Some(format!("{dir}/keys.json")) };
        let config = Config {
            node: NodeId::of_raft_id("keyctl").expect("not the empty id"),
            database: format!("{dir}/node.redb"),
            keyring: preflight(&OsFiles, &flags)?,
            known: Known::default(),
        };
        let database = open_database(&OsFiles, &config)?;
        let applier = Applier::start(OsFiles, database, &config, Arc::new(SystemClock))?;
        let log = Log::open(&format!("{dir}/log"))?;
        let mut node =
            Node { dir: dir.to_owned(), applier, log, keks, leadership: Leadership::new(), term: 0 };
        node.recover()?;
        Ok(node)
    }

    fn recover(&mut self) -> Result<(), Error> {
        let (applied, first, last) = (self.applier.applied_index(), self.log.base().next(), self.log.last());
        let sidecar = self.applier.sidecar().map_or(RaftIndex::ZERO, |sidecar| sidecar.raft_applied_index);
        if applied.next() < first || last < applied.max(sidecar) {
            return Err(Error::OtherLog { first, last, applied: applied.max(sidecar) });
        }
        let due: Vec<Record> =
            self.log.records().iter().filter(|record| record.index > applied).cloned().collect();
        for record in &due {
            self.deliver(record)?;
        }
        if !due.is_empty() {
            let entries = if due.len() == 1 { "entry" } else { "entries" };
            eprintln!(
                "keyctl: recovered: {} {entries} of the log, up to {last}, had not been applied",
                due.len()
            );
        }
        self.withdraw()
    }

    /// Takes the previous KEK away, once nothing needs it: neither this node nor an entry of the log that could be
    /// delivered to a node without a database.
    pub(super) fn withdraw(&mut self) -> Result<(), Error> {
        let bootstrap = self.applier.sidecar().map(|sidecar| sidecar.bootstrap.raft_index);
        if bootstrap.is_none_or(|index| self.log.base() < index) {
            return Ok(());
        }
        if self.applier.kek_status()?.withdrawable.is_some()
            && let Some(path) = self.keks.withdraw(&self.dir)?
        {
            eprintln!("keyctl: {path} is needed no more, and was removed");
        }
        Ok(())
    }

    /// Begins to lead, in a term above every one before. The term is durable with its first entry.
    pub(super) fn lead(&mut self) -> Result<(), Error> {
        self.term = self.log.last_term() + 1;
        self.leadership.leads(Some(self.term));
        let capability = self.applier.capability()?;
        self.leadership.answered(self.term, self.applier.node().get(), capability);
        self.append(Kind::Empty, Vec::new())?;
        Ok(())
    }

    /// Has an entry applied for an administrator. `None` where the state says already what it would say.
    pub(super) fn propose(&mut self, entry: &Entry) -> Result<Option<RaftIndex>, Error> {
        self.hold(Purpose::Raft)?;
        self.admit(&entry.encode())
    }

    /// Has a value stored, sealed where values are.
    pub(super) fn put(&mut self, key: &str, value: &[u8]) -> Result<RaftIndex, Error> {
        self.hold(Purpose::Raft)?;
        self.hold(Purpose::Storage)?;
        let stored = self.applier.seal_value(self.term, 0, key.as_bytes(), value)?;
        let len = u32::try_from(key.len()).expect("what is put on a command line is shorter than 4 GiB");
        let payload = [&[OP_PUT], &len.to_be_bytes()[..], key.as_bytes(), &stored].concat();
        self.leadership.may_propose()?;
        self.sealed(&payload)
    }

    /// Sees to a claim where there is something to seal with it.
    fn hold(&mut self, purpose: Purpose) -> Result<(), Error> {
        if self.applier.cutover(purpose) > RaftIndex::ZERO
            && let Claim::Propose(registration) = self.applier.claim(self.term, purpose)?
        {
            self.admit(&registration)?;
        }
        Ok(())
    }

    fn admit(&mut self, payload: &[u8]) -> Result<Option<RaftIndex>, Error> {
        self.leadership.may_propose()?;
        match self.applier.admit(payload, &[self.applier.node()]) {
            Admission::Propose => self.sealed(payload).map(Some),
            Admission::Duplicate { .. } => Ok(None),
            Admission::Stale => Err(Error::Stale),
            Admission::Collides(clash) => Err(Reject::Registration(clash).into()),
            Admission::Refused(reject) => Err(reject.into()),
            Admission::Failed(error) => Err(error.into()),
        }
    }

    fn sealed(&mut self, payload: &[u8]) -> Result<RaftIndex, Error> {
        let data = self.applier.seal_entry(self.term, payload)?.into_owned();
        self.append(Kind::Proposal, data)
    }

    /// In a cluster of one an entry is committed when it is in the log.
    fn append(&mut self, kind: Kind, data: Vec<u8>) -> Result<RaftIndex, Error> {
        let index = self.log.append(self.term, kind, data)?;
        if kind == Kind::Proposal {
            self.leadership.took(index);
        }
        let record = self.log.records().last().expect("it was just appended").clone();
        self.deliver(&record)?;
        Ok(index)
    }

    fn deliver(&mut self, record: &Record) -> Result<(), Error> {
        let index = record.index;
        let why_not = |why: String| Error::NotApplied { index, why };
        let outcome = match record.kind {
            Kind::Empty => self.applier.advance(index, &mut |_| Ok(())),
            Kind::Proposal => {
                let payload = self
                    .applier
                    .open_entry(index, &record.data)
                    .map_err(|reject| why_not(reject.to_string()))?
                    .into_owned();
                match payload.first() {
                    Some(opcode) if wire::is_encryption_opcode(*opcode) => {
                        self.applier.apply(index, &payload)
                    }
                    _ => {
                        let (key, value) = read_put(&payload)
                            .ok_or_else(|| why_not("no build of this program wrote it".to_owned()))?;
                        self.applier.advance(index, &mut |transaction| store(transaction, key, value))
                    }
                }
            }
        };
        match outcome {
            Outcome::Applied | Outcome::NoOp(_) => {
                self.leadership.applied(index, record.term);
                Ok(())
            }
            Outcome::Rejected(reject) => Err(why_not(reject.to_string())),
            Outcome::Failed(error) => Err(why_not(error.to_string())),
            Outcome::Halted(cause) => Err(why_not(cause.to_string())),
        }
    }

    /// The row of an entry of this node's: its newest registration once more, so that it says nothing new.
    pub(super) fn own_row(&self, id: u32) -> Result<wire::Row, Error> {
        let node = self.applier.node().get();
        let row = self.applier.registry().rows(&[RowKey::of(id, node)])?.into_iter().next().flatten();
        Ok(wire::Row { dek_id: id, full_node_id: node, local_epoch: row.map_or(0, |row| row.last_seen) })
    }

    /// An entry that installs no key.
    pub(super) fn bare(&self, subtag: RotationKind, id: DekId, purpose: Purpose) -> Result<Entry, Error> {
        let mut proposer = self.own_row(id.get())?;
        if subtag == RotationKind::RetireDek {
            proposer.local_epoch = 0;
        }
        Ok(Entry::Rotation(wire::Rotation {
            subtag,
            dek_id: id.get(),
            purpose,
            wrapped: Vec::new(),
            proposer,
        }))
    }

    /// Makes durable that this node keeps its current KEK, and says so to the leader, which is the same node.
    pub(super) fn promise(&mut self) -> Result<(), Error> {
        let wanted = self.keks.ring().current().map_err(applier::StartError::from)?;
        let capability = self.applier.promise(wanted, 0)?;
        let node = self.applier.node().get();
        self.leadership.answered(self.term, node, capability);
        Ok(self.leadership.ready_to_rewrap([node], wanted)?)
    }

    /// Every value as it is stored, by key.
    pub(super) fn values(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let view = self.applier.registry().database().begin_read().map_err(database)?;
        let table = match view.open_table(VALUES) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table.map_err(database)?,
        };
        let mut values = Vec::new();
        for row in redb::ReadableTable::iter(&table).map_err(database)? {
            let (key, value) = row.map_err(database)?;
            values.push((String::from_utf8_lossy(key.value()).into_owned(), value.value().to_vec()));
        }
        Ok(values)
    }
}

fn store(transaction: &WriteTransaction, key: &[u8], value: &[u8]) -> Result<(), HostRefused> {
    let refused = |error: redb::Error| HostRefused(error.to_string());
    let mut table = transaction.open_table(VALUES).map_err(|error| refused(error.into()))?;
    table.insert(key, value).map_err(|error| refused(error.into()))?;
    Ok(())
}

/// Key and stored value.
pub(super) fn read_put(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&OP_PUT, rest) = payload.split_first()? else { return None };
    let (len, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}
