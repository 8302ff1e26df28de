//! The registration rules: one place that bootstrap batches, rotations and registrations are all judged by.

use std::collections::BTreeMap;

use super::{RowKey, WriterRow};
use crate::wire;

/// What a registration does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// There was no row, or its epoch was lower: this is the row now.
    Row(WriterRow),
    /// The row says the same already.
    Unchanged,
}

/// Why a registration breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Clash {
    /// The epoch is below one that was already claimed: writing under it would repeat nonces.
    #[error("epoch {got} of node {full_node_id:016x} under key {dek_id} is below the registered {last_seen}")]
    EpochRollback {
        /// The key.
        dek_id: u32,
        /// The writer.
        full_node_id: u64,
        /// Epoch in the row.
        last_seen: u16,
        /// Epoch in the entry.
        got: u16,
    },
    /// Another node holds the same low 16 bits, which are all that a nonce carries.
    #[error(
        "nodes {existing:016x} and {got:016x} share their low 16 bits, so their nonces would collide under key \
         {dek_id}; give one of them another id"
    )]
    NodeCollision {
        /// The key.
        dek_id: u32,
        /// Node in the row.
        existing: u64,
        /// Node in the entry.
        got: u64,
    },
}

/// Judges one registration against the row it would change. The node is compared before the epoch.
///
/// # Errors
/// The rule that it breaks.
pub const fn register(existing: Option<WriterRow>, row: wire::Row) -> Result<Registered, Clash> {
    let wire::Row { dek_id, full_node_id, local_epoch } = row;
    let Some(existing) = existing else {
        let inserted = WriterRow { full_node_id, first_seen: local_epoch, last_seen: local_epoch };
        return Ok(Registered::Row(inserted));
    };
    if existing.full_node_id != full_node_id {
        return Err(Clash::NodeCollision { dek_id, existing: existing.full_node_id, got: full_node_id });
    }
    if local_epoch < existing.last_seen {
        return Err(Clash::EpochRollback {
            dek_id,
            full_node_id,
            last_seen: existing.last_seen,
            got: local_epoch,
        });
    }
    if local_epoch == existing.last_seen {
        return Ok(Registered::Unchanged);
    }
    Ok(Registered::Row(WriterRow { last_seen: local_epoch, ..existing }))
}

/// Whether this is a row that registrations can have left: for a key and a node that may exist, under the low bits of
/// that node's id, and of epochs that rose.
pub(crate) fn is_well_formed(key: RowKey, row: WriterRow) -> bool {
    key.dek_id != 0
        && row.full_node_id != 0
        && key == RowKey::of(key.dek_id, row.full_node_id)
        && row.first_seen <= row.last_seen
}

/// Judges a whole batch, each row against the registry and the rows before it in the batch.
///
/// `existing` gives the registry's row for each row of the batch, in its order. Returns the rows to write.
pub(crate) fn register_all(
    batch: &[wire::Row],
    existing: &[Option<WriterRow>],
) -> Result<BTreeMap<RowKey, WriterRow>, Clash> {
    assert_eq!(batch.len(), existing.len(), "one registry row was looked up for each row of the batch");
    let mut changed: BTreeMap<RowKey, WriterRow> = BTreeMap::new();
    for (row, existing) in batch.iter().zip(existing) {
        let key = RowKey::of(row.dek_id, row.full_node_id);
        let current = changed.get(&key).copied().or(*existing);
        if let Registered::Row(new) = register(current, *row)? {
            changed.insert(key, new);
        }
    }
    Ok(changed)
}
