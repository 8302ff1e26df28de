//! What lying ports remember. An honest port has no use for it, so it stays empty in every other run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use applier::registry::{RowKey, WriterRow};

use crate::form::Seal;

/// The memory of the lying ports of one run, which outlives the lives of its node.
#[derive(Debug, Default)]
pub struct Past(Mutex<Memory>);

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Starts so far, the present one included.
    pub(super) life: u64,
    /// Sidecars that were written, each different from the one before it.
    pub(super) sidecars: Vec<Vec<u8>>,
    /// An error of the sidecar's temporary file that nobody was told of yet: its errno.
    pub(super) unreported: Option<i32>,
    /// The life in which the KEK was asked for a blob for the first time.
    pub(super) asked: BTreeMap<Vec<u8>, u64>,
    /// The blob that each key was first found in.
    pub(super) found_in: BTreeMap<[u8; 32], Vec<u8>>,
    /// Files that a port has made on its own account.
    pub(super) files: u64,
    /// A row as it was before its newest change.
    pub(super) older_row: Option<(RowKey, WriterRow)>,
    /// The entry that was delivered last.
    pub(super) delivered: Option<Vec<u8>>,
    /// What was proposed for the first claim.
    pub(super) claim: Option<Vec<u8>>,
    /// The first seal under each key.
    pub(super) seals: BTreeMap<u32, Seal>,
    /// The index of a refused entry, and the life that it was refused in.
    pub(super) refused: Option<(u64, u64)>,
}

impl Past {
    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        // A port that panics ends its run, and nobody reads what it remembered.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
