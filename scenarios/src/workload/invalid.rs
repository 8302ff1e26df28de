//! Every way to be refused.

use std::collections::BTreeMap;

use applier::Purpose;

use super::{COLLIDING, NODES, fresh_id, fresh_key, sound};
use crate::form::{Blob, BlobFault, CutoverFault, Form, KEKS, KeyNumber, Malformed, Row, Seal};
use crate::model::State;

/// How many ways to be refused [`invalid`] knows.
pub const INVALID_KINDS: usize = 10 + 2 + 5 + 15 + 11 + CUTOVERS + RETIREMENTS + REWRAPS;
const CUTOVERS: usize = 8;
const RETIREMENTS: usize = 11;
const REWRAPS: usize = 12;

/// The `which`-th way to be refused, made to fit `state`. In some states some of them are valid: the model says.
pub fn invalid(state: &State, which: usize) -> Form {
    match which {
        0..=9 => Form::Malformed(Malformed::ALL[which]),
        10 => invalid_cutover(state, Purpose::Storage, 0),
        11 => invalid_cutover(state, Purpose::Raft, 0),
        12..=16 => Form::Registration(invalid_registration(state, which - 12)),
        17..=31 => invalid_bootstrap(state, which - 17),
        32..=42 => invalid_rotation(state, which - 32),
        43..=50 if which % 2 == 1 => invalid_cutover(state, Purpose::Storage, which - 42),
        43..=50 => invalid_cutover(state, Purpose::Raft, which - 42),
        51..=61 => invalid_retirement(state, which - 51),
        _ => invalid_rewrap(state, which - 62),
    }
}

/// How many ways there are to stand in the log as nothing may behind a raft cutover.
pub const BAD_ENVELOPES: usize = 5;

/// The `which`-th of them: what is inside is sound, and so is all of it before the cutover.
pub fn bad_envelope(state: &State, which: usize) -> (Form, Option<Seal>) {
    let active = state.active_key(Purpose::Raft).unwrap_or(2);
    let key = state.keys.get(&active).map_or(KeyNumber(2), |key| key.blob.key);
    let retired = state.retired.iter().find(|(_, retired)| retired.purpose == Purpose::Raft);
    let seal = Seal { dek: active, key, node: NODES[1], epoch: 0xFFFE, count: which as u64 };
    let data = Form::Data { key: 1, value: 1, seal: None };
    let form = if which.is_multiple_of(2) { data } else { Form::Registration(proposer(state, active)) };
    let wrap = match which {
        0 | 1 => None,
        2 => Some(Seal { dek: 77, ..seal }),
        // Under the right id with other bytes: the tag does not verify.
        3 => Some(Seal { key: KeyNumber(fresh_key(state)), ..seal }),
        _ => Some(retired.map_or(Seal { dek: 78, ..seal }, |(id, retired)| Seal {
            dek: *id,
            key: retired.key,
            ..seal
        })),
    };
    (form, wrap)
}

/// A row that fits a key, for entries whose proposer has one.
fn proposer(state: &State, dek: u32) -> Row {
    let epoch = state.rows.get(&(dek, NODES[1] as u16)).map_or(0, |row| row.last);
    Row { dek, node: NODES[1], epoch }
}

fn invalid_cutover(state: &State, purpose: Purpose, which: usize) -> Form {
    let first = if purpose == Purpose::Storage { 1 } else { 2 };
    let dek = state.active_key(purpose).unwrap_or(first);
    let row = proposer(state, dek);
    let form = |dek, row, fault| Form::Cutover { purpose, dek, row, fault };
    let taken = state.rows.iter().rfind(|(slot, _)| slot.0 == dek);
    match which {
        // Before a bootstrap; after one it is sound.
        0 => form(dek, row, CutoverFault::None),
        1 | 2 => form(dek, row, CutoverFault::OtherPurpose),
        3 | 4 => form(dek, row, CutoverFault::CarriesKey),
        5 => form(dek, Row { dek: dek + 1, ..row }, CutoverFault::None),
        6 => form(0, Row { dek: 0, ..row }, CutoverFault::None),
        7 => form(dek, Row { node: 0, ..row }, CutoverFault::None),
        _ => {
            // A row that another node has on the same 16 bits.
            let node = taken.map_or(0, |(_, row)| row.node + 0x5_0000);
            form(dek, Row { node, ..row }, CutoverFault::None)
        }
    }
}

fn invalid_retirement(state: &State, which: usize) -> Form {
    let active = state.active.map_or(1, |(storage, _)| storage);
    let idle = state.keys.iter().find(|(id, key)| state.active_key(key.purpose) != Some(**id));
    let (dek, purpose) = idle.map_or((active, Purpose::Storage), |(id, key)| (*id, key.purpose));
    let other = if purpose == Purpose::Storage { Purpose::Raft } else { Purpose::Storage };
    let row = |dek| Row { dek, node: NODES[1], epoch: 0 };
    let form = |dek, purpose, row, carries_key| Form::Retirement { dek, purpose, row, carries_key };
    let retired = state.retired.iter().next_back();
    let retired = retired.map(|(id, retired)| (*id, retired.key, retired.purpose));
    let Some((gone, key, gone_purpose)) = retired else {
        return match which {
            0 => form(active, Purpose::Storage, row(active), false),
            1 => form(77, purpose, row(77), false),
            2 => form(dek, other, row(dek), false),
            3 => form(dek, purpose, row(dek), true),
            4 => form(dek, purpose, row(dek + 1), false),
            5 => form(0, purpose, row(0), false),
            6 => form(dek, purpose, Row { node: 0, ..row(dek) }, false),
            _ => form(dek, purpose, Row { epoch: 1, ..row(dek) }, false),
        };
    };
    let blob = |key| Blob { key, seal: 3, kek: state.kek.1, fault: BlobFault::None };
    match which {
        0..=6 => invalid_retirement(&State { retired: BTreeMap::new(), ..state.clone() }, which),
        7 => form(gone, gone_purpose, Row { node: NODES[2], ..row(gone) }, true),
        8 => form(gone, gone_purpose, Row { node: COLLIDING + 9, ..row(gone) }, false),
        9 => Form::Registration(Row { dek: gone, node: NODES[1], epoch: 9 }),
        _ if state.index.is_multiple_of(2) => {
            let blob = blob(KeyNumber(fresh_key(state)));
            Form::Rotation { dek: gone, purpose: gone_purpose, blob, row: row(gone) }
        }
        _ => {
            let dek = fresh_id(state);
            Form::Rotation { dek, purpose: gone_purpose, blob: blob(key), row: row(dek) }
        }
    }
}

fn invalid_rewrap(state: &State, which: usize) -> Form {
    let (generation, kek) = (state.kek.0 + 1, state.kek.1);
    let again = |id: u32, blob: Blob| (id, Blob { seal: blob.seal + 1, kek, ..blob });
    let keys: Vec<(u32, Blob)> = state.keys.iter().map(|(id, key)| again(*id, key.blob)).collect();
    let form = |generation, kek, keys| Form::Rewrap { generation, kek, keys };
    let last = |change: &dyn Fn(&mut (u32, Blob))| {
        let mut keys = keys.clone();
        match keys.last_mut() {
            Some(key) => change(key),
            None => keys.push(again(0, sound(state, 1))),
        }
        keys
    };
    match which {
        // Before a bootstrap.
        0 if keys.is_empty() => form(generation, kek, vec![(1, sound(state, 1))]),
        0 | 1 => form(generation + 1, kek, keys),
        2 => form(generation - 1, kek, keys),
        3 => form(generation, KEKS - 1, last(&|key| key.1.kek = KEKS - 1)),
        4 => form(generation, kek, keys.split_last().map_or(Vec::new(), |(_, rest)| rest.to_vec())),
        5 => {
            let mut more = keys;
            more.push((fresh_id(state), sound(state, fresh_key(state))));
            form(generation, kek, more)
        }
        6 => form(generation, kek, last(&|key| key.1.fault = BlobFault::Tampered)),
        7 => form(generation, kek, last(&|key| key.1.key = KeyNumber(fresh_key(state)))),
        8 => form(generation, kek, last(&|key| key.1.fault = BlobFault::Empty)),
        9 => form(generation, kek, last(&|key| key.1.kek = KEKS - 1)),
        10 => Form::Malformed(Malformed::TruncatedRewrap),
        _ => {
            // A key that is wrapped by a KEK that is not in force.
            let dek = fresh_id(state).max(3);
            let blob = Blob { kek: KEKS - 1, ..sound(state, fresh_key(state)) };
            Form::Rotation {
                dek,
                purpose: Purpose::Storage,
                blob,
                row: Row { dek, node: NODES[0], epoch: 0 },
            }
        }
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
    let (mut a, mut b) = (sound(state, fresh_key(state) + 1), sound(state, fresh_key(state) + 2));
    if state.active.is_none() {
        (a, b) = (sound(state, 1), sound(state, 2));
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
        12 => form(31, sound(state, 91), 32, sound(state, 92), &[Row { dek: 31, ..row }]),
        13 => match &state.bootstrap {
            Some((_, Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows })) => {
                let resealed = Blob { seal: storage_blob.seal + 1, ..*storage_blob };
                form(*storage, resealed, *raft, *raft_blob, rows)
            }
            _ => form(storage, Blob { seal: 1, ..a }, raft, b, &[Row { dek: 0, ..row }]),
        },
        // Collides with the early registration, where there was one.
        _ => form(
            1,
            sound(state, 1),
            2,
            sound(state, 2),
            &[Row { dek: 1, node: NODES[1] + 0x5_0000, epoch: 0 }],
        ),
    }
}

fn invalid_rotation(state: &State, which: usize) -> Form {
    let dek = fresh_id(state).max(3);
    let row = Row { dek, node: NODES[0], epoch: 0 };
    let blob = sound(state, fresh_key(state));
    let purpose = Purpose::Storage;
    let form = |dek, blob, row| Form::Rotation { dek, purpose, blob, row };
    let known = state.keys.iter().next_back().map(|(id, key)| (*id, *key));
    let (known_id, known_blob) = known.map_or((1, sound(state, 1)), |(id, key)| (id, key.blob));
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
