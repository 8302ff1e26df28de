//! Payloads that are no entry: rejected in every state, on replay too, and without a trace.

use applier::Purpose;
use applier::wire::{Entry, Field, MalformedKind, WireError};

use crate::harness::{N2, World, bootstrap, registration, rotation};

/// Rejected on a fresh node, on one without a keyring, and on a bootstrapped one.
#[track_caller]
fn check(payload: &[u8], error: impl Into<WireError>) {
    let error = error.into();
    let worlds = [
        World::started(),
        World::started_without_keyring(),
        World::with(&[bootstrap(), registration(1, N2, 3)]),
    ];
    for mut world in worlds {
        let due = world.node().applied_index().next().0;
        world.check_rejected_payload(due, payload, error);
    }
}

fn spoilt(entry: &Entry, at: usize, byte: u8) -> Vec<u8> {
    let mut payload = entry.encode();
    payload[at] = byte;
    payload
}

#[test]
fn an_empty_payload_is_rejected() {
    check(&[], WireError::Empty);
}

#[test]
fn a_reserved_and_an_unknown_opcode_are_rejected() {
    for opcode in [0x02, 0x06, 0x07, 0x08, 0xff] {
        check(&spoilt(&bootstrap(), 0, opcode), WireError::Opcode { got: opcode });
    }
}

#[test]
fn another_version_is_rejected_in_every_kind_of_entry() {
    for entry in [bootstrap(), rotation(5, Purpose::Storage), registration(1, N2, 9)] {
        check(&spoilt(&entry, 1, 2), WireError::Version { got: 2 });
    }
}

#[test]
fn an_unknown_sub_tag_is_rejected() {
    for sub_tag in [0x00, 0x06, 0xfe] {
        check(&spoilt(&rotation(5, Purpose::Storage), 2, sub_tag), WireError::Subtag { got: sub_tag });
    }
}

#[test]
fn an_unknown_purpose_is_rejected() {
    for purpose in [0x00, 0x03, 0xfe] {
        let payload = spoilt(&rotation(5, Purpose::Storage), 7, purpose);
        check(&payload, MalformedKind::Purpose { got: purpose });
    }
}

#[test]
fn a_cut_and_a_longer_payload_are_rejected() {
    let payload = registration(1, N2, 9).encode();
    check(&payload[..15], MalformedKind::RegistrationLength { got: 14 });
    check(&[payload.as_slice(), &[0]].concat(), MalformedKind::RegistrationLength { got: 16 });
    let payload = bootstrap().encode();
    let cut = MalformedKind::Truncated { field: Field::Batch, needed: 28, left: 27 };
    check(&payload[..payload.len() - 1], cut);
    check(&[payload.as_slice(), &[0]].concat(), MalformedKind::Trailing { bytes: 1 });
}
