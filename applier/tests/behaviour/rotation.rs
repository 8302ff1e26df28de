//! Rotations: what a good one does, and that a bad one does nothing at all.

use applier::outcome::{ApplyError, NoOp, Reject};
use applier::ports::BlobFault;
use applier::registry::Clash;
use applier::sidecar::{EntryName, KeyRecord, WRAPPED_LEN_MAX};
use applier::{LocalEpoch, Outcome, Purpose, RaftIndex};

use crate::harness::{
    N1, N1_TWIN, N2, NOW, World, blob, blob_with_nonce, bootstrap, dek, id, read_error, registration,
    rotation, rotation_with, row, seen,
};

fn bootstrapped() -> World {
    World::with(&[bootstrap()])
}

/// Rotates one purpose to key 5 and demands exactly the difference to the state before.
fn check_rotation(purpose: Purpose, active: (u32, u32)) {
    let mut world = bootstrapped();
    let before = world.lasting();
    world.clock.put(NOW + 60);
    let entry = rotation_with(5, |entry| {
        entry.purpose = purpose;
        entry.proposer.local_epoch = 3;
    });
    assert_eq!(world.apply(2, &entry), Outcome::Applied);
    let after = world.lasting();
    assert_eq!(after.keys, [(id(1), dek(1)), (id(2), dek(2)), (id(5), dek(5))]);
    assert_eq!(after.active, (Some(id(active.0)), Some(id(active.1))));
    let mut expected = before.held.0.expect("bootstrapped");
    expected.raft_applied_index = RaftIndex(2);
    expected.active = expected.active.with(purpose, id(5));
    let record = KeyRecord {
        purpose,
        wrapped: blob(5),
        created: "2020-01-01T00:01:00Z".to_owned(),
        local_epoch: LocalEpoch(0),
        name: EntryName::of(RaftIndex(2), &entry.encode()),
    };
    expected.keys.insert(id(5), record);
    assert_eq!(after.held.0.as_ref(), Some(&expected));
    assert_eq!(after.registry.rows, [seen(1, N1, 0, 0), seen(2, N1, 0, 0), seen(5, N1, 3, 3)].into());
    assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(2), RaftIndex(2)));
    world.restart();
    assert_eq!(world.lasting(), after);
}

#[test]
fn a_rotation_of_storage_leaves_raft_and_the_old_keys_alone() {
    check_rotation(Purpose::Storage, (5, 2));
}

#[test]
fn a_rotation_of_raft_leaves_storage_and_the_old_keys_alone() {
    check_rotation(Purpose::Raft, (1, 5));
}

#[test]
fn a_rotation_before_the_bootstrap_is_rejected_without_a_look_at_its_key() {
    let mut world = World::started();
    world.check_rejected(1, &rotation(5, Purpose::Storage), Reject::NotBootstrapped);
    assert_eq!(world.kek.asked(), 0);
}

#[test]
fn a_proposer_row_for_another_key_is_rejected() {
    let entry = rotation_with(5, |entry| entry.proposer.dek_id = 1);
    bootstrapped().check_rejected(2, &entry, Reject::ForeignRow { row: 1 });
}

#[test]
fn the_reserved_ids_are_rejected_wherever_they_stand() {
    let mut world = bootstrapped();
    let key = rotation_with(5, |entry| entry.dek_id = 0);
    let both = rotation_with(5, |entry| (entry.dek_id, entry.proposer.dek_id) = (0, 0));
    let row_key = rotation_with(5, |entry| entry.proposer.dek_id = 0);
    for entry in [key, both, row_key] {
        world.check_rejected(2, &entry, Reject::ReservedKeyId);
    }
    let row_node = rotation_with(5, |entry| entry.proposer.full_node_id = 0);
    world.check_rejected(2, &row_node, Reject::ReservedNodeId);
}

#[test]
fn a_wrapped_key_that_a_sidecar_cannot_hold_is_rejected() {
    let mut world = bootstrapped();
    for len in [0, WRAPPED_LEN_MAX + 1] {
        let entry = rotation_with(5, |entry| entry.wrapped = vec![7; len]);
        world.check_rejected(2, &entry, Reject::WrappedLength { id: id(5), len });
    }
}

#[test]
fn an_id_that_a_rotation_installed_is_not_used_again() {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage)]);
    let reject = Reject::KeyIdInUse { id: id(5), by: RaftIndex(2) };
    let same_bytes = rotation_with(5, |entry| entry.wrapped = blob_with_nonce(5, 6));
    let other_bytes = rotation_with(5, |entry| entry.wrapped = blob(6));
    let other_row = rotation_with(5, |entry| entry.proposer = row(5, N2, 0));
    for entry in [same_bytes, other_bytes, other_row, rotation(5, Purpose::Raft)] {
        world.check_rejected(3, &entry, reject.clone());
    }
}

#[test]
fn an_id_that_the_bootstrap_installed_is_not_used_again() {
    let mut world = bootstrapped();
    for (key, byte, purpose) in [(1, 1, Purpose::Storage), (1, 9, Purpose::Storage), (2, 2, Purpose::Storage)]
    {
        let entry = rotation_with(key, |entry| (entry.wrapped, entry.purpose) = (blob(byte), purpose));
        world.check_rejected(2, &entry, Reject::KeyIdInUse { id: id(key), by: RaftIndex(1) });
    }
}

#[test]
fn the_same_rotation_proposed_again_moves_no_active_pointer() {
    let log =
        [bootstrap(), rotation(5, Purpose::Storage), rotation(6, Purpose::Storage), registration(5, N1, 4)];
    let mut world = World::with(&log);
    let before = world.lasting();
    world.kek.asked();
    world.clock.put(NOW + 1000);
    assert_eq!(world.apply(5, &log[1]), Outcome::NoOp(NoOp::DuplicateRotation));
    assert_eq!(world.kek.asked(), 0, "what was decided once is not unwrapped again");
    let after = world.lasting();
    assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(5), RaftIndex(3)));
    assert_eq!(after.active, (Some(id(6)), Some(id(2))));
    assert_eq!((after.keys, after.held, after.disk), (before.keys, before.held, before.disk));
    assert_eq!(after.registry.rows, before.registry.rows);
}

#[test]
fn key_bytes_that_are_known_under_another_id_are_rejected_whatever_their_purpose() {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage)]);
    for (byte, purpose) in
        [(1, Purpose::Storage), (1, Purpose::Raft), (2, Purpose::Storage), (5, Purpose::Raft)]
    {
        let entry = rotation_with(9, |entry| {
            entry.wrapped = blob_with_nonce(byte, 0xaa);
            entry.purpose = purpose;
        });
        world.check_rejected(3, &entry, Reject::EqualKeyBytes(id(byte.into()), id(9)));
    }
}

#[test]
fn a_blob_that_does_not_open_is_rejected() {
    let mut world = bootstrapped();
    world.kek.damage(blob(5));
    let integrity = Reject::BlobDoesNotOpen { id: id(5), fault: BlobFault::Integrity };
    world.check_rejected(2, &rotation(5, Purpose::Storage), integrity);
    let long = rotation_with(5, |entry| entry.wrapped.push(0));
    let length = Reject::BlobDoesNotOpen { id: id(5), fault: BlobFault::Length(61) };
    world.check_rejected(2, &long, length);
}

#[test]
fn a_proposer_row_that_clashes_with_a_registered_one_is_rejected() {
    // Rows under a key that does not exist yet come from a life without a keyring.
    let mut world = World::started_without_keyring();
    assert_eq!(world.apply(1, &registration(5, N1_TWIN, 0)), Outcome::Applied);
    assert_eq!(world.apply(2, &registration(6, N1, 4)), Outcome::Applied);
    world.keyring = true;
    world.restart();
    assert_eq!(world.apply(3, &bootstrap()), Outcome::Applied);
    let collision = Clash::NodeCollision { dek_id: 5, existing: N1_TWIN, got: N1 };
    world.check_rejected(4, &rotation(5, Purpose::Storage), collision);
    let rollback = Clash::EpochRollback { dek_id: 6, full_node_id: N1, last_seen: 4, got: 0 };
    world.check_rejected(4, &rotation(6, Purpose::Storage), rollback);
}

#[test]
fn a_kek_that_cannot_be_asked_fails_purely_and_the_same_call_succeeds_later() {
    let mut world = bootstrapped();
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    world.check_failed(2, &rotation(5, Purpose::Raft), ApplyError::KekUnavailable(timed_out));
    world.kek.set_available(true);
    assert_eq!(world.apply(2, &rotation(5, Purpose::Raft)), Outcome::Applied);
}

#[test]
fn a_registry_that_cannot_be_read_fails_purely_and_the_same_call_succeeds_later() {
    let mut world = bootstrapped();
    world.registry.borrow_mut().reads_fail = true;
    world.check_failed(2, &rotation(5, Purpose::Raft), ApplyError::Registry(read_error()));
    world.registry.borrow_mut().reads_fail = false;
    assert_eq!(world.apply(2, &rotation(5, Purpose::Raft)), Outcome::Applied);
}

#[test]
fn a_keystore_that_someone_else_filled_fails_purely_and_the_same_call_succeeds_later() {
    let mut world = bootstrapped();
    world.node().keystore().set(id(5), dek(0x55)).expect("a free id");
    let conflict = applier::keystore::KeystoreError::KeyConflict { id: id(5) };
    world.check_failed(2, &rotation(5, Purpose::Storage), conflict);
    assert!(world.node().keystore().remove(id(5)));
    assert_eq!(world.apply(2, &rotation(5, Purpose::Storage)), Outcome::Applied);
}
