//! Bootstraps: what a good one does, and that a bad one does nothing at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use applier::outcome::{ApplyError, NoOp, Reject};
use applier::ports::BlobFault;
use applier::registry::Clash;
use applier::sidecar::{Active, Cutovers, EntryName, KeyRecord, Sidecar, WRAPPED_LEN_MAX, json};
use applier::{LocalEpoch, Outcome, Purpose, RaftIndex};

use crate::harness::{
    N1, N1_TWIN, N2, NOW, TestKek, World, blob, blob_with_nonce, bootstrap, bootstrap_with, dek, id,
    read_error, registration, rotation, row, seen,
};

#[test]
fn a_bootstrap_puts_its_keys_into_all_three_places() {
    let mut world = World::started();
    assert_eq!(world.advance(1), Outcome::Applied);
    assert_eq!(world.apply(2, &bootstrap()), Outcome::Applied);
    let name = EntryName::of(RaftIndex(2), &bootstrap().encode());
    let record = |purpose, byte| KeyRecord {
        purpose,
        wrapped: blob(byte),
        created: "2020-01-01T00:00:00Z".to_owned(),
        local_epoch: LocalEpoch(0),
        name,
    };
    let sidecar = Sidecar {
        raft_applied_index: RaftIndex(2),
        cutovers: Cutovers::default(),
        active: Active { storage: id(1), raft: id(2) },
        keys: [(id(1), record(Purpose::Storage, 1)), (id(2), record(Purpose::Raft, 2))].into(),
        retired: BTreeMap::new(),
        bootstrap: name,
        rewraps: Vec::new(),
    };
    for _ in 0..2 {
        let state = world.lasting();
        assert_eq!(state.keys, [(id(1), dek(1)), (id(2), dek(2))]);
        assert_eq!(state.active, (Some(id(1)), Some(id(2))));
        assert_eq!(state.held.0.as_ref(), Some(&sidecar));
        assert_eq!(state.disk, [("keys.json".to_owned(), json::encode(&sidecar))].into());
        assert_eq!(state.registry.rows, [seen(1, N1, 0, 0), seen(2, N1, 0, 0)].into());
        assert_eq!((state.applied, state.local.sidecar_index), (RaftIndex(2), RaftIndex(2)));
        world.restart();
    }
}

#[test]
fn without_a_keyring_neither_bootstrap_nor_rotation_is_applied() {
    let mut world = World::started_without_keyring();
    world.check_rejected(1, &bootstrap(), Reject::KekNotConfigured);
    world.check_rejected(1, &rotation(5, Purpose::Storage), Reject::KekNotConfigured);
    // What is missing is said before what is wrong with the entry.
    world.check_rejected(1, &bootstrap_with(|entry| entry.storage_id = 0), Reject::KekNotConfigured);
}

#[test]
fn a_blob_that_does_not_open_is_rejected_be_it_the_first_or_the_second() {
    for (byte, key) in [(1, id(1)), (2, id(2))] {
        let mut world = World::started();
        world.kek.damage(blob(byte));
        let reject = Reject::BlobDoesNotOpen { id: key, fault: BlobFault::Integrity };
        world.check_rejected(1, &bootstrap(), reject);
    }
}

#[test]
fn a_blob_of_another_length_is_rejected_be_it_the_first_or_the_second() {
    let fault = BlobFault::Length(59);
    let mut world = World::started();
    let first = bootstrap_with(|entry| entry.wrapped_storage.truncate(59));
    world.check_rejected(1, &first, Reject::BlobDoesNotOpen { id: id(1), fault });
    let second = bootstrap_with(|entry| entry.wrapped_raft.truncate(59));
    world.check_rejected(1, &second, Reject::BlobDoesNotOpen { id: id(2), fault });
}

#[test]
fn a_blob_of_another_kek_is_rejected() {
    let mut world = World::started();
    world.kek = Arc::new(TestKek::of([9; 32]));
    world.restart();
    let reject = Reject::BlobDoesNotOpen { id: id(1), fault: BlobFault::Integrity };
    world.check_rejected(1, &bootstrap(), reject);
}

#[test]
fn a_kek_that_cannot_be_asked_fails_purely_and_the_same_call_succeeds_later() {
    let mut world = World::started();
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    world.check_failed(1, &bootstrap(), ApplyError::KekUnavailable(timed_out));
    world.kek.set_available(true);
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
}

#[test]
fn a_registry_that_cannot_be_read_fails_purely_and_the_same_call_succeeds_later() {
    let mut world = World::started();
    world.registry.borrow_mut().reads_fail = true;
    world.check_failed(1, &bootstrap(), ApplyError::Registry(read_error()));
    world.registry.borrow_mut().reads_fail = false;
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
}

#[test]
fn the_same_key_bytes_in_two_blobs_are_rejected() {
    let mut world = World::started();
    let reject = Reject::EqualKeyBytes(id(1), id(2));
    world.check_rejected(1, &bootstrap_with(|entry| entry.wrapped_raft = blob(1)), reject.clone());
    let other_blob = bootstrap_with(|entry| entry.wrapped_raft = blob_with_nonce(1, 2));
    world.check_rejected(1, &other_blob, reject);
}

#[test]
fn one_id_for_both_purposes_is_rejected() {
    let entry = bootstrap_with(|entry| {
        entry.raft_id = 1;
        entry.batch.clear();
    });
    World::started().check_rejected(1, &entry, Reject::EqualIds(id(1)));
}

#[test]
fn a_batch_row_for_a_key_of_no_purpose_is_rejected() {
    let entry = bootstrap_with(|entry| entry.batch.push(row(3, N2, 0)));
    World::started().check_rejected(1, &entry, Reject::ForeignRow { row: 3 });
}

#[test]
fn the_reserved_ids_are_rejected_wherever_they_stand() {
    let mut world = World::started();
    let no_storage = bootstrap_with(|entry| entry.storage_id = 0);
    let no_raft = bootstrap_with(|entry| entry.raft_id = 0);
    let neither = bootstrap_with(|entry| (entry.storage_id, entry.raft_id) = (0, 0));
    let row_key = bootstrap_with(|entry| entry.batch[1].dek_id = 0);
    for entry in [no_storage, no_raft, neither, row_key] {
        world.check_rejected(1, &entry, Reject::ReservedKeyId);
    }
    let row_node = bootstrap_with(|entry| entry.batch[1].full_node_id = 0);
    world.check_rejected(1, &row_node, Reject::ReservedNodeId);
}

#[test]
fn a_wrapped_key_that_a_sidecar_cannot_hold_is_rejected() {
    let mut world = World::started();
    for len in [0, WRAPPED_LEN_MAX + 1] {
        let storage = bootstrap_with(|entry| entry.wrapped_storage = vec![7; len]);
        world.check_rejected(1, &storage, Reject::WrappedLength { id: id(1), len });
        let raft = bootstrap_with(|entry| entry.wrapped_raft = vec![7; len]);
        world.check_rejected(1, &raft, Reject::WrappedLength { id: id(2), len });
    }
}

#[test]
fn batch_rows_that_clash_with_each_other_are_rejected() {
    let mut world = World::started();
    let twins = bootstrap_with(|entry| entry.batch.push(row(2, N1_TWIN, 0)));
    world.check_rejected(1, &twins, Clash::NodeCollision { dek_id: 2, existing: N1, got: N1_TWIN });
    let back = bootstrap_with(|entry| entry.batch = vec![row(1, N2, 4), row(2, N1, 0), row(1, N2, 3)]);
    let clash = Clash::EpochRollback { dek_id: 1, full_node_id: N2, last_seen: 4, got: 3 };
    world.check_rejected(1, &back, clash);
}

#[test]
fn batch_rows_that_clash_with_registered_ones_are_rejected() {
    // Rows before the first bootstrap come from a life without a keyring.
    let mut world = World::started_without_keyring();
    assert_eq!(world.apply(1, &registration(1, N1_TWIN, 0)), Outcome::Applied);
    assert_eq!(world.apply(2, &registration(2, N2, 6)), Outcome::Applied);
    world.keyring = true;
    world.restart();
    world.check_rejected(3, &bootstrap(), Clash::NodeCollision { dek_id: 1, existing: N1_TWIN, got: N1 });
    let back = bootstrap_with(|entry| entry.batch = vec![row(2, N1, 0), row(2, N2, 5)]);
    let clash = Clash::EpochRollback { dek_id: 2, full_node_id: N2, last_seen: 6, got: 5 };
    world.check_rejected(3, &back, clash);
    let good = bootstrap_with(|entry| entry.batch = vec![row(2, N1, 0), row(2, N2, 7)]);
    assert_eq!(world.apply(3, &good), Outcome::Applied);
    assert_eq!(world.rows(), [seen(1, N1_TWIN, 0, 0), seen(2, N1, 0, 0), seen(2, N2, 6, 7)].into());
}

#[test]
fn rows_of_one_node_in_a_batch_count_one_after_the_other() {
    let entry = bootstrap_with(|entry| {
        entry.batch = vec![row(1, N1, 2), row(1, N1, 2), row(1, N1, 5), row(2, N2, 0)]
    });
    let world = World::with(&[entry]);
    assert_eq!(world.rows(), [seen(1, N1, 2, 5), seen(2, N2, 0, 0)].into());
}

#[test]
fn an_empty_batch_is_no_fault() {
    let world = World::with(&[bootstrap_with(|entry| entry.batch.clear())]);
    assert!(world.rows().is_empty());
}

#[test]
fn a_second_bootstrap_with_other_ids_is_rejected() {
    let entry = bootstrap_with(|entry| {
        (entry.storage_id, entry.wrapped_storage) = (7, blob(7));
        (entry.raft_id, entry.wrapped_raft) = (8, blob(8));
        entry.batch = vec![row(7, 0x99, 0), row(8, 0x99, 0)];
    });
    let mut world = World::with(&[bootstrap()]);
    world.check_rejected(2, &entry, Reject::AlreadyBootstrapped { by: RaftIndex(1) });
}

#[test]
fn a_second_bootstrap_with_the_same_ids_and_anything_else_changed_is_rejected() {
    let mut world = World::with(&[bootstrap()]);
    let reject = Reject::AlreadyBootstrapped { by: RaftIndex(1) };
    let other_bytes = bootstrap_with(|entry| {
        entry.wrapped_storage = blob(3);
        entry.batch = vec![row(1, 0x99, 0)];
    });
    let other_blob = bootstrap_with(|entry| entry.wrapped_storage = blob_with_nonce(1, 3));
    let other_batch = bootstrap_with(|entry| entry.batch.push(row(1, N2, 0)));
    let swapped = bootstrap_with(|entry| (entry.storage_id, entry.raft_id) = (2, 1));
    for entry in [other_bytes, other_blob, other_batch, swapped] {
        world.check_rejected(2, &entry, reject.clone());
    }
}

#[test]
fn the_same_bootstrap_proposed_again_changes_nothing_but_the_index() {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage), registration(1, N1, 3)]);
    let before = world.lasting();
    world.kek.asked();
    world.clock.put(NOW + 1000);
    assert_eq!(world.apply(4, &bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap));
    assert_eq!(world.kek.asked(), 0, "what was decided once is not unwrapped again");
    let after = world.lasting();
    assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(4), before.local.sidecar_index));
    assert_eq!(after.active, (Some(id(5)), Some(id(2))));
    assert_eq!((after.keys, after.held, after.disk), (before.keys, before.held, before.disk));
    assert_eq!(after.registry.rows, before.registry.rows);
}

#[test]
fn a_refused_bootstrap_does_not_stand_in_the_way_of_a_good_one() {
    let mut world = World::started();
    let bad = bootstrap_with(|entry| entry.batch.push(row(2, N1_TWIN, 0)));
    world.check_rejected(1, &bad, Clash::NodeCollision { dek_id: 2, existing: N1, got: N1_TWIN });
    assert_eq!(world.advance(1), Outcome::Applied);
    assert_eq!(world.apply(2, &bootstrap()), Outcome::Applied);
}
