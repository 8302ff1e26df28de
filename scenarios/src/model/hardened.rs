//! Our rules, as a pure function.

use super::{Reason, State, Verdict};
use crate::form::{Blob, BlobFault, Form, Malformed, Row};

pub(super) fn judge(state: &State, form: &Form) -> Result<Verdict, Reason> {
    match form {
        Form::Nothing | Form::Data { .. } => Ok(Verdict::Applied),
        Form::Malformed(malformed) => Err(undecodable(*malformed)),
        Form::Cutover { .. } => Err(Reason::UnsupportedRotation),
        Form::Registration(row) => registration(state, *row),
        Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
            bootstrap(state, form, (*storage, *storage_blob), (*raft, *raft_blob), rows)
        }
        Form::Rotation { dek, blob, row, .. } => rotation(state, form, *dek, *blob, *row),
    }
}

pub(super) fn undecodable(malformed: Malformed) -> Reason {
    match malformed {
        Malformed::RegistrationVersion | Malformed::BootstrapVersion => Reason::Version,
        Malformed::RotationSubtag => Reason::Subtag,
        Malformed::ReservedOpcode => Reason::Opcode,
        Malformed::ShortRegistration
        | Malformed::TruncatedBootstrap
        | Malformed::TooManyRows
        | Malformed::TrailingByte
        | Malformed::RotationPurpose
        | Malformed::TruncatedRotation => Reason::Malformed,
    }
}

fn registration(state: &State, row: Row) -> Result<Verdict, Reason> {
    named(row)?;
    if !state.keys.contains_key(&row.dek) {
        return Err(Reason::UnknownKey);
    }
    row_alone(state, row)
}

/// A registration on a node that cannot know which keys exist.
pub(super) fn row_alone(state: &State, row: Row) -> Result<Verdict, Reason> {
    named(row)?;
    Ok(if state.admits(row)? { Verdict::Applied } else { Verdict::NoOp })
}

fn bootstrap(
    state: &State,
    form: &Form,
    (storage, storage_blob): (u32, Blob),
    (raft, raft_blob): (u32, Blob),
    rows: &[Row],
) -> Result<Verdict, Reason> {
    if storage == 0 || raft == 0 {
        return Err(Reason::ReservedKeyId);
    }
    rows.iter().try_for_each(|row| named(*row))?;
    if storage_blob.fault == BlobFault::Empty || raft_blob.fault == BlobFault::Empty {
        return Err(Reason::WrappedLength);
    }
    if storage == raft {
        return Err(Reason::EqualIds);
    }
    if rows.iter().any(|row| row.dek != storage && row.dek != raft) {
        return Err(Reason::ForeignRow);
    }
    if let Some((_, first)) = &state.bootstrap {
        return if first == form { Ok(Verdict::NoOp) } else { Err(Reason::AlreadyBootstrapped) };
    }
    if storage_blob.fault != BlobFault::None || raft_blob.fault != BlobFault::None {
        return Err(Reason::BlobDoesNotOpen);
    }
    if storage_blob.key == raft_blob.key {
        return Err(Reason::EqualKeyBytes);
    }
    state.admits_all(rows)?;
    Ok(Verdict::Applied)
}

fn rotation(state: &State, form: &Form, dek: u32, blob: Blob, row: Row) -> Result<Verdict, Reason> {
    if dek == 0 {
        return Err(Reason::ReservedKeyId);
    }
    named(row)?;
    if blob.fault == BlobFault::Empty {
        return Err(Reason::WrappedLength);
    }
    if row.dek != dek {
        return Err(Reason::ForeignRow);
    }
    if state.bootstrap.is_none() {
        return Err(Reason::NotBootstrapped);
    }
    if state.keys.contains_key(&dek) {
        return if state.rotations.get(&dek) == Some(form) {
            Ok(Verdict::NoOp)
        } else {
            Err(Reason::KeyIdInUse)
        };
    }
    if blob.fault != BlobFault::None {
        return Err(Reason::BlobDoesNotOpen);
    }
    if state.keys.values().any(|key| key.blob.key == blob.key) {
        return Err(Reason::EqualKeyBytes);
    }
    state.admits_all(&[row])?;
    Ok(Verdict::Applied)
}

fn named(row: Row) -> Result<(), Reason> {
    if row.dek == 0 {
        return Err(Reason::ReservedKeyId);
    }
    if row.node == 0 {
        return Err(Reason::ReservedNodeId);
    }
    Ok(())
}
