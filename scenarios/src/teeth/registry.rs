//! A registry that lies.

use std::sync::Arc;

use applier::RaftIndex;
use applier::registry::{
    Change, CommitError, HostPart, Local, LocalChange, RedbRegistry, Registry, RegistryError,
    RegistrySnapshot, RowKey, WriterRow,
};
use redb::{TableDefinition, WriteTransaction};

use super::past::Past;
use crate::seam::HostsData;

/// How a registry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryLie {
    /// It does not write the last row of a change.
    ForgetARow,
    /// It writes rows, and not the index that they belong to.
    ForgetTheIndex,
    /// It commits rows first and their index later.
    CommitInTwo,
    /// Asked for a row, it says that there is none.
    AnswerNoRow,
    /// With a change that has no rows it puts a row back to what it was before.
    PutARowBack,
    /// It notes in the database that a read has failed.
    NoteFailedReads,
    /// It answers that the promise of a KEK is durable, and keeps none.
    ForgetPromises,
}

const FAILED_READS: TableDefinition<u64, u64> = TableDefinition::new("teeth.failed-reads");

/// A registry that lies, in front of an honest one.
pub(super) struct LyingRegistry<R> {
    pub(super) inner: R,
    pub(super) lie: RegistryLie,
    pub(super) past: Arc<Past>,
}

impl<R: HostsData> HostsData for LyingRegistry<R> {
    fn redb(&self) -> &RedbRegistry {
        self.inner.redb()
    }
}

impl<R: HostsData> Registry for LyingRegistry<R> {
    type Tx = WriteTransaction;

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        self.inner.applied_index()
    }

    fn local(&self) -> Result<Local, RegistryError> {
        self.inner.local()
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        match (self.inner.rows(keys), self.lie) {
            (Err(error), RegistryLie::NoteFailedReads) => {
                // The read has failed, whatever becomes of the note.
                let _ = self.note_failed_read();
                Err(error)
            }
            (Ok(rows), RegistryLie::AnswerNoRow) => Ok(vec![None; rows.len()]),
            (answer, _) => answer,
        }
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        self.inner.snapshot()
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, WriteTransaction>) -> Result<(), CommitError> {
        let mut change = change.clone();
        match self.lie {
            RegistryLie::ForgetARow => {
                change.rows.pop_last();
            }
            RegistryLie::ForgetTheIndex if !change.rows.is_empty() => change.applied_index = None,
            RegistryLie::CommitInTwo if !change.rows.is_empty() => {
                let rows = std::mem::take(&mut change.rows);
                self.inner.commit(&Change { rows, ..Change::default() }, &mut |_| Ok(()))?;
            }
            RegistryLie::PutARowBack => self.put_back(&mut change),
            _ => {}
        }
        self.inner.commit(&change, host)
    }

    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError> {
        match (change, self.lie) {
            (LocalChange::Promise(_) | LocalChange::PromiseNext(..), RegistryLie::ForgetPromises) => Ok(()),
            _ => self.inner.keep(change),
        }
    }

    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, WriteTransaction>,
    ) -> Result<(), CommitError> {
        self.past.lock().older_row = None;
        self.inner.restore(snapshot, sidecar_index, host)
    }
}

impl<R: HostsData> LyingRegistry<R> {
    fn put_back(&self, change: &mut Change) {
        let keys: Vec<RowKey> = change.rows.keys().copied().collect();
        let mut memory = self.past.lock();
        if keys.is_empty() {
            change.rows.extend(memory.older_row.take());
        } else if let Ok(before) = self.inner.rows(&keys) {
            let mut known = keys.into_iter().zip(before).filter_map(|(key, row)| Some((key, row?)));
            memory.older_row = known.next_back().or(memory.older_row);
        }
    }

    fn note_failed_read(&self) -> Result<(), redb::Error> {
        let transaction = self.redb().database().begin_write()?;
        transaction.open_table(FAILED_READS)?.insert(0, 1)?;
        transaction.commit()?;
        Ok(())
    }
}
