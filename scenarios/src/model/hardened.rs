//! Our rules, as a pure function.

use applier::Purpose;

use super::{Reason, State, Verdict};
use crate::form::{Blob, BlobFault, CutoverFault, Form, Malformed, Row};

pub(super) fn judge(state: &State, form: &Form) -> Result<Verdict, Reason> {
    match form {
        Form::Nothing | Form::Data { .. } => Ok(Verdict::Applied),
        Form::Malformed(malformed) => Err(undecodable(*malformed)),
        Form::Cutover { purpose, dek, row, fault } => cutover(state, *purpose, *dek, *row, *fault),
        Form::Retirement { dek, purpose, row, carries_key } => {
            retirement(state, form, (*dek, *purpose), *row, *carries_key)
        }
        Form::Rewrap { generation, kek, keys } => rewrap(state, form, (*generation, *kek), keys),
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
        | Malformed::TruncatedRotation
        | Malformed::TruncatedRewrap => Reason::Malformed,
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
    opens(state, storage_blob)?;
    opens(state, raft_blob)?;
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
    if state.keys.contains_key(&dek) || state.retired.contains_key(&dek) {
        return if state.rotations.get(&dek) == Some(form) {
            Ok(Verdict::NoOp)
        } else {
            Err(Reason::KeyIdInUse)
        };
    }
    opens(state, blob)?;
    let retired = state.retired.values().map(|key| key.key);
    if state.keys.values().map(|key| key.blob.key).chain(retired).any(|key| key == blob.key) {
        return Err(Reason::EqualKeyBytes);
    }
    state.admits_all(&[row])?;
    Ok(Verdict::Applied)
}

fn cutover(
    state: &State,
    purpose: Purpose,
    dek: u32,
    row: Row,
    fault: CutoverFault,
) -> Result<Verdict, Reason> {
    of_its_key(dek, row)?;
    match fault {
        CutoverFault::None => {}
        CutoverFault::OtherPurpose => return Err(Reason::WrongPurpose),
        CutoverFault::CarriesKey => return Err(Reason::NeedlessKey),
    }
    if state.bootstrap.is_none() {
        return Err(Reason::NotBootstrapped);
    }
    if state.cutover(purpose).is_some() || state.active_key(purpose) != Some(dek) {
        return Ok(Verdict::NoOp);
    }
    state.admits_all(&[row])?;
    Ok(Verdict::Applied)
}

fn retirement(
    state: &State,
    form: &Form,
    (dek, purpose): (u32, Purpose),
    row: Row,
    carries_key: bool,
) -> Result<Verdict, Reason> {
    of_its_key(dek, row)?;
    if carries_key {
        return Err(Reason::NeedlessKey);
    }
    if row.epoch != 0 {
        return Err(Reason::NeedlessEpoch);
    }
    if state.bootstrap.is_none() {
        return Err(Reason::NotBootstrapped);
    }
    if let Some(retired) = state.retired.get(&dek) {
        return if retired.form == *form { Ok(Verdict::NoOp) } else { Err(Reason::KeyRetired) };
    }
    let key = state.keys.get(&dek).ok_or(Reason::UnknownKey)?;
    if key.purpose != purpose {
        return Err(Reason::WrongPurpose);
    }
    if state.active_key(purpose) == Some(dek) {
        return Err(Reason::KeyActive);
    }
    Ok(Verdict::Applied)
}

/// The one KEK beside that in force which a world puts into a ring.
const NEXT_KEK: u8 = 1;

fn rewrap(
    state: &State,
    form: &Form,
    (generation, kek): (u32, u8),
    keys: &[(u32, Blob)],
) -> Result<Verdict, Reason> {
    if keys.iter().any(|(id, _)| *id == 0) {
        return Err(Reason::ReservedKeyId);
    }
    if keys.iter().any(|(_, blob)| blob.fault == BlobFault::Empty) {
        return Err(Reason::WrappedLength);
    }
    if state.bootstrap.is_none() {
        return Err(Reason::NotBootstrapped);
    }
    if state.rewraps.contains(form) {
        return Ok(Verdict::NoOp);
    }
    if generation != state.kek.0 + 1 {
        return Err(Reason::KekGeneration);
    }
    if !keys.iter().map(|(id, _)| id).eq(state.keys.keys()) {
        return Err(Reason::RewrapKeys);
    }
    if kek != state.kek.1 && kek != NEXT_KEK {
        return Err(Reason::KekNotInRing);
    }
    for (id, blob) in keys {
        if blob.kek != kek || blob.fault != BlobFault::None {
            return Err(Reason::BlobDoesNotOpen);
        }
        if state.keys[id].blob.key != blob.key {
            return Err(Reason::OtherKeyBytes);
        }
    }
    Ok(Verdict::Applied)
}

/// A key opens under the KEK in force, and under no other.
fn opens(state: &State, blob: Blob) -> Result<(), Reason> {
    match blob.fault {
        BlobFault::None if blob.kek == state.kek.1 => Ok(()),
        _ => Err(Reason::BlobDoesNotOpen),
    }
}

/// The key and the row of an entry that brings no key.
fn of_its_key(dek: u32, row: Row) -> Result<(), Reason> {
    if dek == 0 {
        return Err(Reason::ReservedKeyId);
    }
    named(row)?;
    if row.dek != dek {
        return Err(Reason::ForeignRow);
    }
    Ok(())
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
