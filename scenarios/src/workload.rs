//! Which entries a log is made of: valid ones of every kind, duplicates, and every way to be refused.

mod invalid;
mod sealing;

use applier::Purpose;
use sim::{Choices, Ratio, Site};

use crate::form::{Blob, BlobFault, Form, KeyNumber, Row};
use crate::model::State;

pub use self::invalid::{BAD_ENVELOPES, INVALID_KINDS, bad_envelope, invalid};
pub use self::sealing::{Book, News, request};

const CLASS: Site = Site::new("log.class");
const PICK: Site = Site::new("log.pick");
const NODE: Site = Site::new("log.node");
const ROWS: Site = Site::new("log.rows");
const STEP: Site = Site::new("log.epoch-step");
const PURPOSE: Site = Site::new("log.purpose");
const INVALID: Site = Site::new("log.invalid");
const WHICH: Site = Site::new("log.invalid-kind");

/// Writers of a world. The third shares its low 16 bits with the first.
const NODES: [u64; 4] = [0x11, 0x22, 0x33, 0x44];
const COLLIDING: u64 = 0x1_0011;

/// The last number of a key that a log gets by itself. Those above are for KEKs and for entries that nobody wants.
const KEYS_MAX: u8 = 190;

/// How a log is mixed, drawn once a seed, so that some logs are clean and some are mostly refusals.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Share of entries that are meant to be refused.
    pub invalid: Ratio,
    /// Whether a registration may come before the bootstrap.
    pub early_registration: bool,
}

/// Draws the next entry of a log whose accepted prefix led to `state`.
pub fn next(choices: &mut Choices, mix: Mix, state: &State) -> Form {
    if choices.chance(INVALID, mix.invalid) {
        let which = choices.draw(WHICH, INVALID_KINDS as u64);
        return invalid(state, which as usize);
    }
    let bootstrapped = state.active.is_some();
    // 0 is a no-op, so that a tape of zeros is an empty log.
    match (choices.draw(CLASS, 12), bootstrapped) {
        (0, _) => Form::Nothing,
        (1 | 2, _) => data(choices, state),
        (3, false) if mix.early_registration => Form::Registration(Row { dek: 1, node: NODES[1], epoch: 1 }),
        (3 | 4, false) => data(choices, state),
        (_, false) => bootstrap(choices, state),
        (3..=6, true) => rotation(choices, state),
        (7, true) => duplicate(choices, state),
        (_, true) => registration(choices, state),
    }
}

fn data(choices: &mut Choices, state: &State) -> Form {
    Form::Data { key: choices.draw(PICK, 4), value: state.index + 1, seal: None }
}

fn bootstrap(choices: &mut Choices, state: &State) -> Form {
    let mut rows = Vec::new();
    for node in &NODES[..choices.draw(ROWS, 4) as usize] {
        rows.push(Row { dek: 1, node: *node, epoch: 0 });
        rows.push(Row { dek: 2, node: *node, epoch: 0 });
    }
    Form::Bootstrap { storage: 1, storage_blob: sound(state, 1), raft: 2, raft_blob: sound(state, 2), rows }
}

/// Draws a rotation to a fresh key of a state that has been bootstrapped, or, in a long log that has used them up, a value.
pub fn rotation(choices: &mut Choices, state: &State) -> Form {
    if fresh_key(state) > KEYS_MAX {
        return data(choices, state);
    }
    let dek = fresh_id(state);
    let purpose = *choices.pick(PURPOSE, &[Purpose::Storage, Purpose::Raft]);
    let node = *choices.pick(NODE, &NODES);
    let row = Row { dek, node, epoch: choices.draw(STEP, 3) as u16 };
    Form::Rotation { dek, purpose, blob: sound(state, fresh_key(state)), row }
}

fn duplicate(choices: &mut Choices, state: &State) -> Form {
    let bootstrap = state.bootstrap.as_ref().map(|(_, form)| form.clone());
    let retired = state.retired.values().map(|retired| retired.form.clone());
    let later = retired.chain(state.rewraps.iter().cloned());
    let seen: Vec<Form> =
        bootstrap.into_iter().chain(state.rotations.values().cloned()).chain(later).collect();
    if seen.is_empty() { Form::Nothing } else { choices.pick(PICK, &seen).clone() }
}

fn registration(choices: &mut Choices, state: &State) -> Form {
    let ids: Vec<u32> = state.keys.keys().copied().collect();
    let dek = *choices.pick(PICK, &ids);
    let node = *choices.pick(NODE, &NODES);
    let last = state.rows.get(&(dek, node as u16)).map_or(0, |row| row.last);
    Form::Registration(Row { dek, node, epoch: last + choices.draw(STEP, 3) as u16 })
}

/// A key wrapped by the KEK in force.
fn sound(state: &State, key: u8) -> Blob {
    Blob { key: KeyNumber(key), seal: 0, kek: state.kek.1, fault: BlobFault::None }
}

/// Neither ids nor bytes are used twice, those of retired keys neither.
fn fresh_id(state: &State) -> u32 {
    state.keys.keys().chain(state.retired.keys()).max().map_or(1, |id| id + 1)
}

fn fresh_key(state: &State) -> u8 {
    let retired = state.retired.values().map(|retired| retired.key.0);
    state.keys.values().map(|key| key.blob.key.0).chain(retired).max().unwrap_or(2).max(2) + 1
}
