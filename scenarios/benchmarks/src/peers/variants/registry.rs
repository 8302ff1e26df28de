//! What variants do to the registry.

use applier::RaftIndex;
use applier::ports::Files;
use applier::registry::{
    Change, CommitError, HostPart, Local, LocalChange, RedbRegistry, Registry, RegistryError,
    RegistrySnapshot, RowKey, WriterRow,
};
use redb::WriteTransaction;

use super::{Variant, VariedFiles};

/// A registry that does what a variant says.
#[derive(Debug)]
pub struct VariedRegistry<F: Files> {
    inner: RedbRegistry,
    files: VariedFiles<F>,
    variant: Variant,
    /// A change that was answered, and is to be committed with the next one.
    owed: Option<Change>,
}

impl<F: Files> VariedRegistry<F> {
    /// The registry of one life.
    pub fn new(inner: RedbRegistry, files: VariedFiles<F>, variant: Variant) -> VariedRegistry<F> {
        VariedRegistry { inner, files, variant, owed: None }
    }

    fn pay(&mut self) -> Result<(), CommitError> {
        match self.owed.take() {
            Some(change) => self.inner.commit(&change, &mut |_| Ok(())),
            None => Ok(()),
        }
    }
}

/// A process that ends by itself leaves nothing undone.
impl<F: Files> Drop for VariedRegistry<F> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.pay();
        }
    }
}

impl<F: Files> Registry for VariedRegistry<F> {
    type Tx = WriteTransaction;

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        self.inner.applied_index()
    }

    fn local(&self) -> Result<Local, RegistryError> {
        self.inner.local()
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        let owed = |key: &RowKey| self.owed.as_ref().and_then(|change| change.rows.get(key)).copied();
        let rows = self.inner.rows(keys)?;
        Ok(keys.iter().zip(rows).map(|(key, row)| owed(key).or(row)).collect())
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        let mut snapshot = self.inner.snapshot()?;
        if let Some(owed) = &self.owed {
            snapshot.rows.extend(&owed.rows);
            snapshot.applied_index = owed.applied_index.unwrap_or(snapshot.applied_index);
        }
        Ok(snapshot)
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, WriteTransaction>) -> Result<(), CommitError> {
        match self.variant {
            Variant::AnsweredBeforeCommit => {
                self.pay()?;
                self.owed = Some(change.clone());
            }
            Variant::IndexBeforeRows => {
                let Change { rows, .. } = change.clone();
                self.inner.commit(&Change { rows: Default::default(), ..change.clone() }, host)?;
                self.inner.commit(&Change { rows, ..Change::default() }, &mut |_| Ok(()))?;
            }
            _ => self.inner.commit(change, host)?,
        }
        self.files.release().map_err(|error| CommitError(error.to_string()))
    }

    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError> {
        self.inner.keep(change)
    }

    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, WriteTransaction>,
    ) -> Result<(), CommitError> {
        self.inner.restore(snapshot, sidecar_index, host)
    }
}
