//! Which entries a log is made of: valid ones of every kind, duplicates, and every way to be refused.

use applier::Purpose;
use sim::{Choices, Ratio, Site};

use crate::form::{Blob, BlobFault, Form, KeyNumber, Malformed, Row};
use crate::model::State;

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
        (_, false) => bootstrap(choices),
        (3..=6, true) => rotation(choices, state),
        (7, true) => duplicate(choices, state),
        (_, true) => registration(choices, state),
    }
}

fn data(choices: &mut Choices, state: &State) -> Form {
    Form::Data { key: choices.draw(PICK, 4), value: state.index + 1 }
}

fn bootstrap(choices: &mut Choices) -> Form {
    let mut rows = Vec::new();
    for node in &NODES[..choices.draw(ROWS, 4) as usize] {
        rows.push(Row { dek: 1, node: *node, epoch: 0 });
        rows.push(Row { dek: 2, node: *node, epoch: 0 });
    }
    Form::Bootstrap { storage: 1, storage_blob: sound(1), raft: 2, raft_blob: sound(2), rows }
}

/// Draws a rotation to a fresh key of a state that has been bootstrapped.
pub fn rotation(choices: &mut Choices, state: &State) -> Form {
    let dek = fresh_id(state);
    let purpose = *choices.pick(PURPOSE, &[Purpose::Storage, Purpose::Raft]);
    let node = *choices.pick(NODE, &NODES);
    let row = Row { dek, node, epoch: choices.draw(STEP, 3) as u16 };
    Form::Rotation { dek, purpose, blob: sound(fresh_key(state)), row }
}

fn duplicate(choices: &mut Choices, state: &State) -> Form {
    let bootstrap = state.bootstrap.as_ref().map(|(_, form)| form.clone());
    let seen: Vec<Form> = bootstrap.into_iter().chain(state.rotations.values().cloned()).collect();
    if seen.is_empty() { Form::Nothing } else { choices.pick(PICK, &seen).clone() }
}

fn registration(choices: &mut Choices, state: &State) -> Form {
    let ids: Vec<u32> = state.keys.keys().copied().collect();
    let dek = *choices.pick(PICK, &ids);
    let node = *choices.pick(NODE, &NODES);
    let last = state.rows.get(&(dek, node as u16)).map_or(0, |row| row.last);
    Form::Registration(Row { dek, node, epoch: last + choices.draw(STEP, 3) as u16 })
}

fn sound(key: u8) -> Blob {
    Blob { key: KeyNumber(key), seal: 0, fault: BlobFault::None }
}

fn fresh_id(state: &State) -> u32 {
    state.keys.keys().max().map_or(1, |id| id + 1)
}

fn fresh_key(state: &State) -> u8 {
    state.keys.values().map(|key| key.blob.key.0).max().unwrap_or(2).max(2) + 1
}

/// How many ways to be refused [`invalid`] knows.
pub const INVALID_KINDS: usize = 10 + 2 + 5 + 15 + 11;

/// The `which`-th way to be refused, made to fit `state`. In some states some of them are valid: the model says.
pub fn invalid(state: &State, which: usize) -> Form {
    match which {
        0..=9 => Form::Malformed(Malformed::ALL[which]),
        10 => Form::Cutover { purpose: Purpose::Storage, dek: 1 },
        11 => Form::Cutover { purpose: Purpose::Raft, dek: 2 },
        12..=16 => Form::Registration(invalid_registration(state, which - 12)),
        17..=31 => invalid_bootstrap(state, which - 17),
        _ => invalid_rotation(state, which - 32),
    }
}

fn invalid_registration(state: &State, which: usize) -> Row {
    let existing = state.rows.iter().next_back();
    let row = existing.map_or(Row { dek: 1, node: NODES[0], epoch: 1 }, |(slot, row)| Row {
        dek: slot.0,
        node: row.node,
        epoch: row.last,
    });
    match which {
        0 => Row { dek: 0, ..row },
        1 => Row { node: 0, ..row },
        2 => Row { dek: 77, ..row },
        3 => {
            let advanced = state.rows.iter().find(|(_, row)| row.last > 0);
            advanced.map_or(row, |(slot, row)| Row { dek: slot.0, node: row.node, epoch: row.last - 1 })
        }
        _ => Row { node: row.node + 0x5_0000, ..row },
    }
}

fn invalid_bootstrap(state: &State, which: usize) -> Form {
    let (storage, raft) = if state.active.is_some() { (31, 32) } else { (1, 2) };
    let (mut a, mut b) = (sound(fresh_key(state) + 1), sound(fresh_key(state) + 2));
    if state.active.is_none() {
        (a, b) = (sound(1), sound(2));
    }
    let row = Row { dek: storage, node: NODES[0], epoch: 1 };
    let form = |storage, storage_blob, raft, raft_blob, rows: &[Row]| Form::Bootstrap {
        storage,
        storage_blob,
        raft,
        raft_blob,
        rows: rows.to_vec(),
    };
    let broken = |blob: Blob, fault| Blob { fault, ..blob };
    match which {
        0 => form(storage, a, storage, b, &[row]),
        1 => form(storage, a, raft, b, &[row, Row { dek: 88, ..row }]),
        2 => form(0, a, raft, b, &[]),
        3 => form(storage, a, 0, b, &[]),
        4 => form(storage, a, raft, b, &[Row { node: 0, ..row }]),
        5 => form(storage, broken(a, BlobFault::Tampered), raft, b, &[row]),
        6 => form(storage, a, raft, broken(b, BlobFault::Tampered), &[row]),
        7 => form(storage, a, raft, broken(b, BlobFault::Short), &[row]),
        8 => form(storage, broken(a, BlobFault::Empty), raft, b, &[row]),
        9 => form(storage, a, raft, Blob { seal: 1, ..a }, &[row]),
        10 => form(storage, a, raft, b, &[row, Row { node: COLLIDING, ..row }]),
        11 => form(storage, a, raft, b, &[row, Row { epoch: 0, ..row }]),
        12 => form(31, sound(91), 32, sound(92), &[Row { dek: 31, ..row }]),
        13 => match &state.bootstrap {
            Some((_, Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows })) => {
                let resealed = Blob { seal: storage_blob.seal + 1, ..*storage_blob };
                form(*storage, resealed, *raft, *raft_blob, rows)
            }
            _ => form(storage, Blob { seal: 1, ..a }, raft, b, &[Row { dek: 0, ..row }]),
        },
        // Collides with the early registration, where there was one.
        _ => form(1, sound(1), 2, sound(2), &[Row { dek: 1, node: NODES[1] + 0x5_0000, epoch: 0 }]),
    }
}

fn invalid_rotation(state: &State, which: usize) -> Form {
    let dek = fresh_id(state).max(3);
    let row = Row { dek, node: NODES[0], epoch: 0 };
    let blob = sound(fresh_key(state));
    let purpose = Purpose::Storage;
    let form = |dek, blob, row| Form::Rotation { dek, purpose, blob, row };
    let known = state.keys.iter().next_back().map(|(id, key)| (*id, *key));
    let (known_id, known_blob) = known.map_or((1, sound(1)), |(id, key)| (id, key.blob));
    let known_row = Row { dek: known_id, ..row };
    match which {
        // Before a bootstrap; after one it is sound.
        0 => form(dek, blob, row),
        1 => form(dek, blob, Row { dek: 1, ..row }),
        2 => form(0, blob, Row { dek: 0, ..row }),
        3 => form(dek, blob, Row { node: 0, ..row }),
        4 => form(dek, Blob { fault: BlobFault::Tampered, ..blob }, row),
        5 => form(dek, Blob { fault: BlobFault::Empty, ..blob }, row),
        6 => form(known_id, blob, known_row),
        7 => form(known_id, Blob { seal: known_blob.seal + 1, ..known_blob }, known_row),
        8 => form(dek, known_blob, row),
        9 => form(dek, Blob { seal: 7, ..known_blob }, row),
        _ => {
            let other = match known {
                Some((_, key)) if key.purpose == Purpose::Storage => Purpose::Raft,
                _ => Purpose::Storage,
            };
            Form::Rotation { dek: known_id, purpose: other, blob: known_blob, row: known_row }
        }
    }
}
