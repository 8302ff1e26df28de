//! Snapshots that are not installed: each refused with its reason, and nothing touched.

use std::sync::Arc;

use applier::apply::{InstallError, Malformed};
use applier::keystore::KeystoreError;
use applier::ports::BlobFault;
use applier::registry::{RegistrySnapshot, RowKey};
use applier::sidecar::json::SidecarError;
use applier::sidecar::merge::Divergence;
use applier::wire::Entry;
use applier::{Outcome, Purpose, RaftIndex, Snapshot};

use crate::adoption::foreign_node;
use crate::harness::{
    N1, N2, TestKek, World, blob, blob_with_nonce, bootstrap, bootstrap_with, dek, id, registration,
    rotation, rotation_with, seen,
};

fn log() -> Vec<Entry> {
    vec![bootstrap(), rotation(5, Purpose::Storage), registration(1, N2, 3), rotation(6, Purpose::Raft)]
}

fn taken(log: &[Entry]) -> Snapshot {
    World::with(log).node().snapshot().expect("at one index")
}

fn install(world: &mut World, snapshot: &Snapshot) {
    assert_eq!(world.node_mut().install(snapshot, &mut |_| Ok(())), Ok(()));
}

#[test]
fn a_snapshot_that_is_not_ahead_is_refused() {
    let mut world = World::with(&log());
    for len in 0..=4 {
        let error = InstallError::Behind { snapshot: RaftIndex(len as u64), applied: RaftIndex(4) };
        world.check_not_installed(&taken(&log()[..len]), error);
    }
    let mut world = World::with(&log()[..3]);
    install(&mut world, &taken(&log()));
}

#[test]
fn a_node_without_a_keyring_takes_no_keys() {
    let mut world = World::started_without_keyring();
    world.check_not_installed(&taken(&log()), InstallError::NoKeyring);
    world.keyring = true;
    world.restart();
    install(&mut world, &taken(&log()));
}

#[test]
fn a_node_on_a_sidecar_of_the_reference_system_takes_none() {
    foreign_node(1).check_not_installed(&taken(&log()), InstallError::Foreign);
}

#[test]
fn another_kek_is_refused_at_the_first_key() {
    let mut world = World::new();
    world.kek = Arc::new(TestKek::of([9; 32]));
    world.restart();
    let error = InstallError::KekMismatch { id: id(1), fault: BlobFault::Integrity };
    world.check_not_installed(&taken(&log()), error);
    world.kek = Arc::new(TestKek::new());
    world.restart();
    install(&mut world, &taken(&log()));
}

#[test]
fn a_kek_that_does_not_open_every_key_is_refused_and_one_that_cannot_be_asked_waited_for() {
    let mut world = World::with(&log()[..1]);
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    world.check_not_installed(&taken(&log()), InstallError::KekUnavailable(timed_out));
    world.kek.set_available(true);
    world.kek.damage(blob(6));
    let error = InstallError::KekMismatch { id: id(6), fault: BlobFault::Integrity };
    world.check_not_installed(&taken(&log()), error);
}

#[test]
fn equal_key_bytes_are_refused_among_its_keys_and_against_those_in_memory() {
    let mut equal = taken(&log());
    let keys = &mut equal.sidecar.as_mut().expect("bootstrapped").keys;
    keys.get_mut(&id(6)).expect("rotated").wrapped = blob_with_nonce(2, 9);
    World::started().check_not_installed(&equal, InstallError::EqualKeyBytes(id(2), id(6)));
    let mut world = World::started();
    world.node().keystore().set(id(9), dek(5)).expect("a free id");
    world.check_not_installed(&taken(&log()), InstallError::EqualKeyBytes(id(9), id(5)));
    assert!(world.node().keystore().remove(id(9)));
    install(&mut world, &taken(&log()));
}

#[test]
fn a_keystore_that_someone_else_filled_is_refused_and_its_own_keys_are_not() {
    let mut world = World::started();
    world.node().keystore().set(id(5), dek(0x55)).expect("a free id");
    world.check_not_installed(&taken(&log()), KeystoreError::KeyConflict { id: id(5) });
    assert!(world.node().keystore().remove(id(5)));
    world.node().keystore().set(id(5), dek(5)).expect("a free id");
    install(&mut world, &taken(&log()));
}

#[test]
fn a_snapshot_of_another_log_is_refused() {
    let check = |own: &[Entry], theirs: &[Entry], divergence| {
        World::with(own).check_not_installed(&taken(theirs), InstallError::DifferentLog(divergence));
    };
    let own = [bootstrap(), rotation(5, Purpose::Storage)];
    let other_bootstrap = bootstrap_with(|entry| entry.batch.truncate(1));
    check(&own, &[other_bootstrap, own[1].clone(), registration(1, N2, 0)], Divergence::Bootstrap);
    let other_rotation = rotation_with(5, |entry| entry.wrapped = blob_with_nonce(5, 6));
    check(&own, &[bootstrap(), other_rotation, registration(1, N2, 0)], Divergence::Key(id(5)));
    let no_rotation = [bootstrap(), registration(1, N2, 0), registration(2, N2, 0)];
    check(&own, &no_rotation, Divergence::Key(id(5)));
    let late_rotation = [bootstrap(), registration(1, N2, 0), rotation(5, Purpose::Storage)];
    check(&own, &late_rotation, Divergence::Key(id(5)));
    let early_rotation = [bootstrap(), rotation(6, Purpose::Raft), rotation(5, Purpose::Storage)];
    check(&[bootstrap(), registration(1, N2, 0)], &early_rotation, Divergence::Key(id(6)));
}

#[test]
fn a_snapshot_without_a_bootstrap_that_this_node_has_or_the_other_way_round_is_of_another_log() {
    let mut world = World::with(&log()[..1]);
    let without = |index| Snapshot {
        registry: RegistrySnapshot { applied_index: RaftIndex(index), ..RegistrySnapshot::default() },
        sidecar: None,
    };
    world.check_not_installed(&without(2), InstallError::DifferentLog(Divergence::Bootstrap));
    let mut world = World::started();
    assert_eq!(world.advance(1), Outcome::Applied);
    world.check_not_installed(&taken(&log()), InstallError::DifferentLog(Divergence::Bootstrap));
    install(&mut world, &without(2));
}

/// The snapshot is refused for this on every node; without the change it is not.
#[track_caller]
fn check_malformed(change: impl FnOnce(&mut Snapshot), error: Malformed) {
    let mut wrong = taken(&log());
    change(&mut wrong);
    for own in [0, 2] {
        let mut world = World::with(&log()[..own]);
        world.check_not_installed(&wrong, error.clone());
        install(&mut world, &taken(&log()));
    }
}

#[test]
fn a_row_that_no_registration_leaves_is_refused() {
    let check = |key: RowKey, row| {
        check_malformed(|snapshot| snapshot.registry.rows.extend([(key, row)]), Malformed::Row(key));
    };
    let (key, _) = seen(1, N1, 0, 0);
    check(key, seen(1, N2, 0, 0).1);
    check(key, seen(1, N1, 3, 2).1);
    check(RowKey { dek_id: 1, node16: 0 }, seen(1, 0, 0, 0).1);
    let (key, row) = seen(0, N1, 0, 0);
    check(key, row);
}

#[test]
fn a_sidecar_above_its_own_index_is_refused() {
    let error = Malformed::SidecarAhead { sidecar: RaftIndex(5), applied: RaftIndex(4) };
    check_malformed(
        |snapshot| snapshot.sidecar.as_mut().expect("bootstrapped").raft_applied_index = RaftIndex(5),
        error,
    );
}

#[test]
fn a_sidecar_that_no_start_could_read_is_not_written() {
    let active = SidecarError::ActiveKeyMissing { purpose: Purpose::Storage, id: id(9) };
    check_malformed(
        |snapshot| snapshot.sidecar.as_mut().expect("bootstrapped").active.storage = id(9),
        Malformed::Sidecar(active),
    );
    let order = SidecarError::IndexOrder { named: RaftIndex(4), own: RaftIndex(3) };
    check_malformed(
        |snapshot| snapshot.sidecar.as_mut().expect("bootstrapped").raft_applied_index = RaftIndex(3),
        Malformed::Sidecar(order),
    );
}
