//! The rules of the reference as merged, as a pure function.
//!
//! It answers for a node that was never interrupted: its keystore holds every installed key, and its sidecar exists
//! from the bootstrap on. An accepted entry always counts as applied, since nothing there is told to be a duplicate.

use applier::Purpose;

use super::{Reason, State, Verdict, hardened};
use crate::form::{Blob, BlobFault, Form, Malformed, Row};

pub(super) fn judge(state: &State, form: &Form) -> Result<Verdict, Reason> {
    match form {
        Form::Nothing | Form::Data { .. } => {}
        // The decoder knows one rotation kind, and looks at nothing behind another one.
        Form::Malformed(Malformed::TruncatedRewrap) => return Err(Reason::Subtag),
        Form::Malformed(malformed) => return Err(hardened::undecodable(*malformed)),
        Form::Cutover { .. } | Form::Retirement { .. } | Form::Rewrap { .. } => return Err(Reason::Subtag),
        Form::Registration(row) => state.admits_all(&[*row])?,
        Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
            bootstrap(state, (*storage, *storage_blob), (*raft, *raft_blob), rows)?;
        }
        Form::Rotation { dek, purpose, blob, row } => rotation(state, *dek, *purpose, *blob, *row)?,
    }
    Ok(Verdict::Applied)
}

fn bootstrap(state: &State, storage: (u32, Blob), raft: (u32, Blob), rows: &[Row]) -> Result<(), Reason> {
    if storage.0 == raft.0 {
        return Err(Reason::EqualIds);
    }
    if rows.iter().any(|row| row.dek != storage.0 && row.dek != raft.0) {
        return Err(Reason::ForeignRow);
    }
    if let Some(active) = state.active {
        // Only the active keys are compared: whatever carries them once more passes for a replay.
        let recorded = |(id, blob): (u32, Blob)| state.keys.get(&id).is_some_and(|key| key.blob == blob);
        if active != (storage.0, raft.0) || !recorded(storage) || !recorded(raft) {
            return Err(Reason::AlreadyBootstrapped);
        }
    }
    opens(storage.1)?;
    opens(raft.1)?;
    storable(state, storage.0, storage.1)?;
    storable(state, raft.0, raft.1)?;
    state.admits_all(rows)
}

fn rotation(state: &State, dek: u32, purpose: Purpose, blob: Blob, row: Row) -> Result<(), Reason> {
    if row.dek != dek {
        return Err(Reason::ForeignRow);
    }
    opens(blob)?;
    storable(state, dek, blob)?;
    let (storage, raft) = state.active.ok_or(Reason::NotBootstrapped)?;
    let other = match purpose {
        Purpose::Storage => raft,
        Purpose::Raft => storage,
    };
    if other == dek {
        // One key would be active for both purposes, which no sidecar may say.
        return Err(Reason::KeyIdInUse);
    }
    state.admits_all(&[row])
}

fn opens(blob: Blob) -> Result<(), Reason> {
    match blob.fault {
        // There is one KEK.
        BlobFault::None if blob.kek == 0 => Ok(()),
        _ => Err(Reason::BlobDoesNotOpen),
    }
}

/// Whether the keystore takes the key: id 0 is noticed there and nowhere before, and an id keeps its bytes for good.
fn storable(state: &State, id: u32, blob: Blob) -> Result<(), Reason> {
    if id == 0 {
        return Err(Reason::ReservedKeyId);
    }
    match state.keys.get(&id) {
        Some(held) if held.blob.key != blob.key => Err(Reason::KeyConflict),
        _ => Ok(()),
    }
}
