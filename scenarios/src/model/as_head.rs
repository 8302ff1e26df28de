//! The rules of the reference after it has got cutovers: everything else is as merged.

use applier::Purpose;

use super::{Reason, State, Verdict, as_merged};
use crate::form::{CutoverFault, Form};

pub(super) fn judge(state: &State, keyring: bool, form: &Form) -> Result<Verdict, Reason> {
    let Form::Cutover { purpose, dek, row, fault } = form else { return as_merged::judge(state, form) };
    if !keyring {
        return Err(Reason::KekNotConfigured);
    }
    match fault {
        CutoverFault::None => {}
        CutoverFault::OtherPurpose => return Err(Reason::WrongPurpose),
        CutoverFault::CarriesKey => return Err(Reason::WrappedLength),
    }
    if row.dek != *dek {
        return Err(Reason::ForeignRow);
    }
    let (storage, raft) = state.active.ok_or(Reason::NotBootstrapped)?;
    let active = if *purpose == Purpose::Storage { storage } else { raft };
    // Stale or repeated, it is answered like a fresh one, and its row is not looked at.
    if *dek == active && state.cutover(*purpose).is_none() {
        state.admits_all(&[*row])?;
    }
    Ok(Verdict::Applied)
}
