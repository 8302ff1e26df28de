//! A sidecar that is written anew from a healthy peer's snapshot, and what keeps it from being that.

use std::sync::Arc;

use applier::outcome::StartError;
use applier::ports::BlobFault;
use applier::sidecar::merge::Divergence;
use applier::wire::Entry;
use applier::{Claim, LocalEpoch, Purpose, RaftIndex, ResyncError, Snapshot, resync};

use crate::adoption::foreign_bytes;
use crate::convergence::deliver;
use crate::harness::{
    EIO, Effect, Fault, Lasting, N2, TestKek, World, bootstrap, bootstrap_with, cutover, id, read_error,
    registration, retirement, rewrap, rotation, rotation_with,
};

/// The cluster's log. Every node has both KEKs.
fn log() -> Vec<Option<Entry>> {
    let new = TestKek::of([9; 32]);
    let under_new = rotation_with(7, |entry| entry.wrapped = new.blob(7, 7));
    vec![
        Some(bootstrap()),
        Some(registration(1, N2, 1)),
        Some(rotation(5, Purpose::Storage)),
        Some(cutover(Purpose::Storage, 5)),
        None,
        Some(retirement(1)),
        Some(rewrap(1, &new, &[2, 5])),
        Some(registration(5, N2, 3)),
        Some(under_new),
        None,
    ]
}

fn node() -> World {
    let mut world = World::new();
    world.kek = Arc::new(TestKek::of([9; 32]));
    world.previous = Some(Arc::new(TestKek::new()));
    world.restart();
    world
}

/// A node that has applied the log up to here.
fn after(len: usize) -> World {
    let mut world = node();
    assert!(deliver(&mut world, &log()[..len]));
    world
}

fn snapshot(len: usize) -> Snapshot {
    after(len).node().snapshot().expect("at one index")
}

/// A node after `len` entries that has claimed epochs under its active storage key, and what it was then.
fn claimed(len: usize) -> (World, Lasting) {
    let mut world = after(len);
    for term in 1..=3 {
        assert!(matches!(world.node_mut().claim(term, Purpose::Storage), Ok(Claim::Propose(_))));
    }
    let lasting = world.lasting();
    (world, lasting)
}

/// Writes the sidecar of a stopped node anew.
fn write_anew(world: &World, snapshot: &Snapshot) -> Result<(), ResyncError> {
    let registry = world.open_registry().expect("the database is there");
    resync(&world.files, &registry, &world.config(), snapshot)
}

/// What may have become of a sidecar.
fn harms(old: &[u8]) -> [Option<Vec<u8>>; 5] {
    let mut damaged = old.to_vec();
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    [None, Some(damaged), Some(Vec::new()), Some(b"\0\0\0\0".to_vec()), Some(old.to_vec())]
}

fn put(world: &World, sidecar: Option<&[u8]>) {
    match sidecar {
        Some(bytes) => world.put_sidecar(bytes),
        None => std::fs::remove_file(world.sidecar_path()).expect("it exists"),
    }
}

#[test]
fn a_lost_a_damaged_and_an_old_sidecar_are_healed_by_every_peer_that_is_not_behind() {
    for len in [3, 6, 10] {
        let stale = after(1).sidecar_bytes().expect("bootstrapped");
        for harm in harms(&stale) {
            for peer in [len, 10] {
                let (mut world, before) = claimed(len);
                world.stop();
                put(&world, harm.as_deref());
                let refused = world.try_restart().expect_err("it cannot start like this");
                assert!(matches!(
                    refused,
                    StartError::SidecarMissing { .. }
                        | StartError::Sidecar { .. }
                        | StartError::SidecarStale { .. }
                ));
                assert_eq!(write_anew(&world, &snapshot(peer)), Ok(()), "{len} from {peer}");
                world.restart();
                let key =
                    world.node().sidecar().expect("written").keys[&before.active.0.expect("active")].clone();
                assert_eq!(key.local_epoch, LocalEpoch(3), "its own epochs are in the database");
                assert_eq!(
                    (world.node().applied_index(), &world.lasting().local),
                    (before.applied, &before.local)
                );
                if peer == len {
                    assert_eq!(world.lasting(), before);
                }
                // What comes behind is delivered again, and ends where it ends without all this.
                assert!(deliver(&mut world, &log()));
                let (mut calm, _) = claimed(len);
                assert!(deliver(&mut calm, &log()));
                assert_eq!(world.lasting(), calm.lasting());
            }
        }
    }
}

#[test]
fn a_sidecar_that_is_well_keeps_its_times_and_epochs() {
    let (mut world, before) = claimed(10);
    world.stop();
    assert_eq!(write_anew(&world, &snapshot(10)), Ok(()));
    world.restart();
    assert_eq!(world.lasting(), before);
}

#[test]
fn a_peer_that_is_behind_the_nodes_own_keys_is_refused() {
    for (len, peer, newest) in [(3, 1, 3), (4, 3, 4), (7, 6, 7), (10, 8, 9)] {
        let (mut world, before) = claimed(len);
        world.stop();
        let good = world.sidecar_bytes().expect("bootstrapped");
        put(&world, None);
        let found = snapshot(peer).sidecar.expect("bootstrapped").raft_applied_index;
        let error = ResyncError::PeerBehind { found, applied: RaftIndex(newest) };
        check_refused(&mut world, &snapshot(peer), &error);
        // One that has applied the newest key entry is enough, however much else it lacks.
        assert_eq!(write_anew(&world, &snapshot(usize::try_from(newest).expect("small"))), Ok(()));
        world.put_sidecar(&good);
        world.restart();
        assert_eq!(world.lasting(), before);
    }
}

/// Refused with this error, without a mutating call.
#[track_caller]
fn check_refused(world: &mut World, snapshot: &Snapshot, error: &ResyncError) {
    let registry = world.open_registry().expect("the database is there");
    let (disk, calls) = (world.disk(), world.files.calls());
    for _ in 0..2 {
        assert_eq!(resync(&world.files, &registry, &world.config(), snapshot).as_ref(), Err(error));
    }
    assert_eq!((world.disk(), world.files.calls()), (disk, calls));
}

#[test]
fn a_peer_without_keys_is_refused() {
    let mut world = after(10);
    world.stop();
    put(&world, None);
    check_refused(&mut world, &snapshot(0), &ResyncError::NoKeys { snapshot: RaftIndex::ZERO });
}

#[test]
fn a_peer_of_another_log_is_refused_where_it_can_be_told() {
    let other = bootstrap_with(|entry| entry.batch.clear());
    let other = World::with(&[other]).node().snapshot().expect("at one index");
    let mut world = after(1);
    world.stop();
    check_refused(&mut world, &other, &ResyncError::DifferentLog(Divergence::Bootstrap));
    // Without a sidecar, by a key that this node has claimed and the peer never had.
    let (mut world, _) = claimed(3);
    world.stop();
    put(&world, None);
    let log = [bootstrap(), registration(1, N2, 1), rotation(6, Purpose::Storage)];
    let other = World::with(&log).node().snapshot().expect("at one index");
    check_refused(&mut world, &other, &ResyncError::DifferentLog(Divergence::Key(id(5))));
}

#[test]
fn without_a_keyring_or_with_the_reference_systems_sidecar_it_is_refused() {
    let mut world = after(10);
    world.stop();
    world.put_sidecar(&foreign_bytes(2, "2019-06-01T00:00:00Z"));
    check_refused(&mut world, &snapshot(10), &ResyncError::Foreign);
    world.keyring = false;
    check_refused(&mut world, &snapshot(10), &ResyncError::NoKeyring);
}

#[test]
fn keys_that_do_not_open_here_are_not_written() {
    let mut world = after(10);
    world.stop();
    put(&world, None);
    let (kek, previous) = (world.kek.clone(), world.previous.take());
    world.kek = previous.expect("it has both");
    let wanted = TestKek::of([9; 32]);
    let wanted = applier::ports::Kek::check_value(&wanted).expect("within reach");
    check_refused(&mut world, &snapshot(10), &ResyncError::Keys(StartError::KekMissing { wanted }));
    world.kek = kek;
    let theirs = snapshot(10);
    let blob = theirs.sidecar.as_ref().expect("bootstrapped").keys[&id(5)].wrapped.clone();
    world.kek.damage(blob);
    let fault = BlobFault::Integrity;
    check_refused(&mut world, &theirs, &ResyncError::Keys(StartError::KekMismatch { id: id(5), fault }));
}

#[test]
fn a_registry_that_cannot_be_read_is_refused() {
    let mut world = after(10);
    world.stop();
    let registry = world.open_registry().expect("the database is there");
    world.registry.borrow_mut().reads_fail = true;
    let calls = world.files.calls();
    let refused = resync(&world.files, &registry, &world.config(), &snapshot(10));
    assert_eq!(refused, Err(ResyncError::Registry(read_error())));
    assert_eq!(world.files.calls(), calls);
}

#[test]
fn a_crash_at_any_call_leaves_what_can_be_written_anew_once_more() {
    let theirs = snapshot(10);
    let (mut world, _) = claimed(7);
    world.stop();
    let stale = after(1).sidecar_bytes().expect("bootstrapped");
    let image = world.image();
    world.restart();
    assert!(deliver(&mut world, &log()));
    let expected = world.lasting();
    world.stop();
    for harm in harms(&stale) {
        let mut n = 0;
        loop {
            let mut done = true;
            for effect in [Effect::Absent, Effect::Present] {
                world.put_image(&image);
                put(&world, harm.as_deref());
                let registry = world.open_registry().expect("the database is there");
                world.files.arm(Fault::nth(n, EIO, effect).lasting());
                let cut = resync(&world.files, &registry, &world.config(), &theirs);
                let failed = world.files.disarm();
                drop(registry);
                if failed > 0 {
                    done = false;
                    // That there was nothing to unlink is what the call that took effect would have said.
                    assert!(matches!(cut, Err(ResyncError::Write(_))), "call {n}: {cut:?}");
                }
                assert_eq!(write_anew(&world, &theirs), Ok(()));
                world.restart();
                assert!(deliver(&mut world, &log()));
                let healed = world.lasting();
                assert_eq!(healed, expected, "call {n}");
                world.stop();
            }
            if done {
                break;
            }
            n += 1;
        }
        assert!(n >= 6, "{n} calls are too few to write a sidecar");
    }
}
