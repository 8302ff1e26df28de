//! What a node must not forget for Raft, in the database that its state machine lives in. An entry is applied and its
//! progress noted in one transaction; an append is a transaction of its own. All are two-phase.
//!
//! ```text
//! raft.log    index -> Entry          without a gap, from the one after "truncated"
//! raft.state  "hard" -> HardState     term, vote, commit index
//!             "conf" -> ConfState     members at the applied index
//!             "snapshot" -> Snapshot  metadata and data: what those are sent who lag behind the log
//!             "truncated" -> index, term, each u64 little-endian: the entry before the log's first
//! ```
//!
//! Messages are protobuf. Everything is kept in memory too, so that Raft's reads make no calls.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use protobuf::{CodedOutputStream, Message};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage};
use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, TableError, WriteTransaction,
};

#[cfg(test)]
mod tests;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("raft.log");
const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("raft.state");
const HARD: &str = "hard";
const CONF: &str = "conf";
const SNAPSHOT: &str = "snapshot";
const TRUNCATED: &str = "truncated";

/// The database failed, or holds what no store wrote. A commit that failed has an unknown outcome: only opening the
/// database again tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Raft's durable state: {0}")]
pub(crate) struct StoreError(pub String);

/// Index and term of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    index: u64,
    term: u64,
}

/// A Raft node's durable state, as [`raft::Storage`].
pub(crate) struct Store {
    database: Arc<Database>,
    hard: HardState,
    conf: ConfState,
    kept: Snapshot,
    /// The entry before the first of `log`.
    truncated: Position,
    log: VecDeque<Entry>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("hard", &self.hard)
            .field("conf", &self.conf)
            .field("snapshot", &self.snapshot_index())
            .field("truncated", &self.truncated)
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}

/// What Raft wants to have on the disk before it goes on: new entries, a new hard state, or both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Append {
    /// The entries, without a gap.
    pub(crate) entries: Vec<Entry>,
    /// The hard state.
    pub(crate) hard: Option<HardState>,
}

impl Append {
    /// Whether it is neither.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.hard.is_none()
    }
}

/// Coming to be, and what a host asks.
impl Store {
    /// Loads what the database has. `Ok(None)` where it has nothing: no founding, no snapshot, and no term or vote of
    /// a blank node either, which such a node must not forget.
    ///
    /// # Errors
    /// [`StoreError`] where the database fails or its tables contradict each other.
    pub(crate) fn open(database: Arc<Database>) -> Result<Option<Store>, StoreError> {
        let view = database.begin_read().map_err(fault)?;
        let (state, log) = (table(&view, STATE)?, table(&view, LOG)?);
        if state.is_none() && log.is_none() {
            return Ok(None);
        }
        let mut store = Store::blank(database);
        if let Some(state) = state {
            store.hard = message(&state, HARD)?;
            store.conf = message(&state, CONF)?;
            store.kept = message(&state, SNAPSHOT)?;
            if let Some(bytes) = state.get(TRUNCATED).map_err(fault)? {
                store.truncated = Position::decode(bytes.value())?;
            }
        }
        if let Some(log) = log {
            for row in log.iter().map_err(fault)? {
                store.log.push_back(parse(row.map_err(fault)?.1.value())?);
            }
        }
        store.check()?;
        Ok(Some(store))
    }

    /// A blank store of a node that is to join: no members, an empty log at index 0, so that the node has to catch up
    /// by a snapshot first. Writes nothing.
    pub(crate) fn blank(database: Arc<Database>) -> Store {
        Store {
            database,
            hard: HardState::default(),
            conf: ConfState::default(),
            kept: Snapshot::default(),
            truncated: Position::default(),
            log: VecDeque::new(),
        }
    }

    /// Term, vote and commit index.
    pub(crate) fn hard(&self) -> &HardState {
        &self.hard
    }

    /// The members at the applied index.
    pub(crate) fn conf(&self) -> &ConfState {
        &self.conf
    }

    /// Index of the kept snapshot, 0 where there is none.
    pub(crate) fn snapshot_index(&self) -> u64 {
        self.kept.get_metadata().index
    }

    /// The kept snapshot, empty where there is none.
    pub(crate) fn kept(&self) -> &Snapshot {
        &self.kept
    }

    /// Sets the members in memory only: for a subject that goes back to its newest local snapshot when it starts.
    pub(crate) fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    /// Whether what was loaded fits together, as whatever a store wrote does.
    fn check(&self) -> Result<(), StoreError> {
        let contradiction = |what: &str| Err(StoreError(format!("its tables contradict each other: {what}")));
        let indices = self.truncated.index + 1..;
        if !self.log.iter().zip(indices).all(|(entry, index)| entry.index == index) {
            return contradiction("the log has a gap");
        }
        if self.hard.commit < self.truncated.index || self.hard.commit > self.last() {
            return contradiction("the commit index is outside of the log");
        }
        if self.snapshot_index() < self.truncated.index {
            return contradiction("the log begins after the snapshot");
        }
        Ok(())
    }

    fn last(&self) -> u64 {
        self.truncated.index + self.log.len() as u64
    }

    /// The place of an entry in the cache, for an index that was not truncated.
    fn place(&self, index: u64) -> usize {
        debug_assert!(index > self.truncated.index, "{index} is truncated");
        usize::try_from(index - self.truncated.index - 1).expect("a log fits into memory")
    }

    fn position(&self, index: u64) -> Option<Position> {
        match index.checked_sub(self.truncated.index)? {
            0 => Some(self.truncated),
            _ => self.log.get(self.place(index)).map(|entry| Position { index, term: entry.term }),
        }
    }
}

/// Writes of the store's own.
impl Store {
    /// Appends entries, in place of those from the first of them on, writes the hard state, or both, as one durable
    /// transaction. With `sync: false` it is not durable before a later one is: only a deliberately wrong subject
    /// wants that.
    ///
    /// # Errors
    /// [`StoreError`]; the cache is as before, but the database may not be.
    ///
    /// # Panics
    /// Where the entries would leave a gap or replace what is truncated.
    pub(crate) fn persist(&mut self, append: Append, sync: bool) -> Result<(), StoreError> {
        if append.is_empty() {
            return Ok(());
        }
        self.write(sync, |transaction| self.write_append(transaction, &append))?;
        self.appended(append);
        Ok(())
    }

    /// The same inside of a transaction of the host's. The cache learns of it in [`Store::appended`], after the commit.
    ///
    /// # Errors
    /// What the database says.
    ///
    /// # Panics
    /// As [`Store::persist`].
    pub(crate) fn write_append(
        &self,
        transaction: &WriteTransaction,
        append: &Append,
    ) -> Result<(), redb::Error> {
        let Append { entries, hard } = append;
        if let (Some(first), Some(new)) = (entries.first(), entries.last()) {
            let (from, to) = (self.truncated.index + 1, self.last() + 1);
            assert!((from..=to).contains(&first.index), "entry {} joins {from}..={to}", first.index);
            let mut log = transaction.open_table(LOG)?;
            for entry in entries {
                put(&mut log, entry.index, entry)?;
            }
            for index in new.index + 1..=self.last() {
                log.remove(index)?;
            }
        }
        if let Some(hard) = hard {
            put(&mut transaction.open_table(STATE)?, HARD, hard)?;
        }
        Ok(())
    }

    /// What [`Store::write_append`] wrote is committed.
    pub(crate) fn appended(&mut self, append: Append) {
        if let Some(first) = append.entries.first() {
            self.log.truncate(self.place(first.index));
            self.log.extend(append.entries);
        }
        if let Some(hard) = append.hard {
            self.hard = hard;
        }
    }

    /// Keeps `snapshot`, at an applied index, and drops the log before `keep_from`, in one durable transaction.
    /// `keep_from` may lie before the log's first entry: then nothing is dropped.
    ///
    /// # Errors
    /// [`StoreError`]; the cache is as before, but the database may not be.
    ///
    /// # Panics
    /// Where an entry would be dropped that the snapshot does not have, or the snapshot is older than the kept one
    /// or newer than the stored commit index.
    pub(crate) fn compact(&mut self, snapshot: &Snapshot, keep_from: u64) -> Result<(), StoreError> {
        let index = snapshot.get_metadata().index;
        assert!(keep_from <= index + 1, "the snapshot at {index} does not have all before {keep_from}");
        assert!(index >= self.snapshot_index(), "the kept snapshot is at {}", self.snapshot_index());
        assert!(index <= self.hard.commit, "committed up to {}", self.hard.commit);
        let old = self.truncated;
        let new = keep_from.checked_sub(1).and_then(|last| self.position(last)).unwrap_or(old);
        self.write(true, |transaction| {
            let mut state = transaction.open_table(STATE)?;
            put(&mut state, SNAPSHOT, snapshot)?;
            if new != old {
                state.insert(TRUNCATED, new.encode().as_slice())?;
                let mut log = transaction.open_table(LOG)?;
                for index in old.index + 1..=new.index {
                    log.remove(index)?;
                }
            }
            Ok(())
        })?;
        self.log.drain(..usize::try_from(new.index - old.index).expect("a log fits into memory"));
        self.truncated = new;
        self.kept = snapshot.clone();
        Ok(())
    }

    fn write(
        &self,
        sync: bool,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(fault)?;
        // One-phase, damage could silently roll an acknowledged vote or entry back.
        transaction.set_two_phase_commit(true);
        if !sync {
            transaction.set_durability(Durability::None).map_err(fault)?;
        }
        fill(&transaction).map_err(fault)?;
        transaction.commit().map_err(fault)
    }
}

/// What a host adds to transactions of its own, which are durable and two-phase too. None of these touch the cache:
/// [`Store::progressed`] and [`Store::installed`] follow the commit.
impl Store {
    /// Initialises the log of a founding member as truncated behind `snapshot`, which says who founds.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(crate) fn found(transaction: &WriteTransaction, snapshot: &Snapshot) -> Result<(), redb::Error> {
        Store::write_install(transaction, snapshot, &HardState::default())
    }

    /// Notes, with the entry that is applied, that everything up to `hard.commit` is committed, and after a change of
    /// members who they are. The commit index is never lowered, and term and vote are left as they are stored: those
    /// are [`Store::persist`]'s.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(crate) fn write_progress(
        transaction: &WriteTransaction,
        hard: &HardState,
        conf: Option<&ConfState>,
    ) -> Result<(), redb::Error> {
        let mut state = transaction.open_table(STATE)?;
        let mut stored = HardState::default();
        if let Some(bytes) = state.get(HARD)? {
            stored
                .merge_from_bytes(bytes.value())
                .map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        }
        if hard.commit > stored.commit {
            stored.commit = hard.commit;
            put(&mut state, HARD, &stored)?;
        }
        if let Some(conf) = conf {
            put(&mut state, CONF, conf)?;
        }
        Ok(())
    }

    /// What [`Store::write_progress`] wrote is committed.
    pub(crate) fn progressed(&mut self, hard: &HardState, conf: Option<&ConfState>) {
        self.hard.commit = self.hard.commit.max(hard.commit);
        if let Some(conf) = conf {
            self.conf = conf.clone();
        }
    }

    /// Installs a snapshot of another node: the log is emptied and goes on behind it. `hard` is that of the same
    /// `Ready`, or the stored one where it has none; it is written with the commit index at the snapshot's, and the
    /// term at least its term.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(crate) fn write_install(
        transaction: &WriteTransaction,
        snapshot: &Snapshot,
        hard: &HardState,
    ) -> Result<(), redb::Error> {
        transaction.open_table(LOG)?.retain(|_, _| false)?;
        let mut state = transaction.open_table(STATE)?;
        state.insert(TRUNCATED, Position::of(snapshot).encode().as_slice())?;
        put(&mut state, SNAPSHOT, snapshot)?;
        put(&mut state, CONF, snapshot.get_metadata().get_conf_state())?;
        put(&mut state, HARD, &behind(snapshot, hard))
    }

    /// What [`Store::write_install`] wrote is committed.
    pub(crate) fn installed(&mut self, snapshot: &Snapshot, hard: &HardState) {
        self.log.clear();
        self.truncated = Position::of(snapshot);
        self.hard = behind(snapshot, hard);
        self.conf = snapshot.get_metadata().get_conf_state().clone();
        self.kept = snapshot.clone();
    }
}

/// Raft's contracts. Unlike Raft's own store in memory, no question is a panic.
impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(raft::StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(raft::StorageError::Unavailable.into());
        }
        if low >= high {
            return Ok(Vec::new());
        }
        let mut entries: Vec<Entry> = self.log.range(self.place(low)..self.place(high)).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.position(index) {
            Some(position) => Ok(position.term),
            None if index < self.truncated.index => Err(raft::StorageError::Compacted.into()),
            None => Err(raft::StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Nobody can be sent an empty one.
        if self.snapshot_index() == 0 || self.snapshot_index() < request_index {
            return Err(raft::StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.kept.clone())
    }
}

impl Position {
    fn of(snapshot: &Snapshot) -> Position {
        let metadata = snapshot.get_metadata();
        Position { index: metadata.index, term: metadata.term }
    }

    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..].copy_from_slice(&self.term.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Position, StoreError> {
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        match bytes.as_chunks() {
            ([index, term], []) => Ok(Position { index: number(index), term: number(term) }),
            _ => Err(StoreError(format!("a position of {} bytes", bytes.len()))),
        }
    }
}

/// The hard state of a node whose log is `snapshot` and nothing else. A vote belongs to its term.
fn behind(snapshot: &Snapshot, hard: &HardState) -> HardState {
    let Position { index, term } = Position::of(snapshot);
    let mut hard = hard.clone();
    if hard.term < term {
        hard.term = term;
        hard.vote = 0;
    }
    hard.commit = index;
    hard
}

/// Encodes a message into the page it is stored in.
fn put<'k, K: redb::Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'k>,
    message: &impl Message,
) -> Result<(), redb::Error> {
    let len = message.compute_size() as usize;
    let mut place = table.insert_reserve(key, len)?;
    let mut out = CodedOutputStream::bytes(place.as_mut());
    message.write_to_with_cached_sizes(&mut out).expect("it has the size that was computed");
    out.check_eof();
    Ok(())
}

/// A table, if anybody ever wrote to it.
fn table<K: redb::Key + 'static>(
    view: &ReadTransaction,
    definition: TableDefinition<'_, K, &'static [u8]>,
) -> Result<Option<ReadOnlyTable<K, &'static [u8]>>, StoreError> {
    match view.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

fn message<M: Message>(
    table: &ReadOnlyTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<M, StoreError> {
    table.get(key).map_err(fault)?.map_or_else(|| Ok(M::new()), |bytes| parse(bytes.value()))
}

fn parse<M: Message>(bytes: &[u8]) -> Result<M, StoreError> {
    M::parse_from_bytes(bytes).map_err(|error| StoreError(error.to_string()))
}

fn fault(error: impl Into<redb::Error>) -> StoreError {
    StoreError(error.into().to_string())
}
