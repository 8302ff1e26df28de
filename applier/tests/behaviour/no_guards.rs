//! What the reference refuses to start on and this applier does not, since its rules make the refusal wrong: the node
//! starts, reads and goes on.
//!
//! | step of the reference's start-up order | why it is none here |
//! |---|---|
//! | 3f, 7: an active key's epoch is used up | a start writes nothing; the rotation that cures it has to be applied |
//! | 5, 9, 12, 13: the row is at or above the sidecar's epoch | who writes claims an epoch above both first |
//! | 5: no row after the cutover | the same: a row is what a claim makes |
//! | 5, 9: the row under its bits is another node's | its claim is refused, and a rotation that it applies cures it |
//! | 7: every start raises the epochs | an epoch is claimed through the log; else crash loops use them up |
//! | 10: the log is scanned behind the sidecar | the database keeps a proof that no compaction takes away |

use applier::registry::{Clash, RegistrySnapshot};
use applier::wire::Entry;
use applier::{Claim, ClaimError, LocalEpoch, Outcome, Purpose, RaftIndex};

use crate::guards::{edit_sidecar, rotation_by_another, switch};
use crate::harness::{N1, N1_TWIN, N2, World, bootstrap, dek, id, registration, rotation, seen};

/// The node starts, has the keys that it had, and applies what comes next.
#[track_caller]
fn check_goes_on(world: &mut World, keys: &[u8], next: &Entry) {
    world.restart();
    let expected: Vec<_> = keys.iter().map(|key| (id((*key).into()), dek(*key))).collect();
    assert_eq!(world.keys(), expected);
    let index = world.node().applied_index().next().0;
    assert_eq!(world.apply(index, next), Outcome::Applied);
}

/// The row says 0, and so does the sidecar: to the reference, a node that has used up what it may claim.
#[test]
fn a_node_starts_between_its_bootstrap_and_its_first_write() {
    let mut world = World::with(&[bootstrap()]);
    world.check_row(seen(1, N1, 0, 0));
    assert_eq!(world.node().sidecar().expect("bootstrapped").keys[&id(1)].local_epoch, LocalEpoch(0));
    check_goes_on(&mut world, &[1, 2], &registration(1, N1, 1));
}

/// As after the row was restored from the cluster and the sidecar from a backup. What is at stake is the next write, and
/// that asks the row.
#[test]
fn a_row_above_the_sidecars_epoch_does_not_keep_a_node_from_starting() {
    for (last_seen, in_sidecar) in [(4, 0), (4, 3), (4, 4), (u16::MAX, 0)] {
        let mut world = World::with(&[bootstrap(), registration(1, N1, last_seen)]);
        edit_sidecar(&mut world, |sidecar| {
            sidecar.keys.get_mut(&id(1)).expect("bootstrapped").local_epoch = LocalEpoch(in_sidecar);
        });
        check_goes_on(&mut world, &[1, 2], &registration(1, N2, 0));
        world.check_row(seen(1, N1, 0, last_seen));
    }
}

/// A node that nobody has registered yet has to start to be able to register.
#[test]
fn a_node_without_a_row_starts_after_the_cutover_and_registers() {
    for purpose in [Purpose::Storage, Purpose::Raft] {
        let mut world = World::with(&[bootstrap(), rotation_by_another(5, purpose)]);
        edit_sidecar(&mut world, |sidecar| {
            switch(sidecar, Purpose::Storage, 5);
            switch(sidecar, Purpose::Raft, 5);
        });
        check_goes_on(&mut world, &[1, 2, 5], &registration(5, N1, 1));
        world.check_row(seen(5, N1, 1, 1));
        world.restart();
    }
}

/// It reads, and applies what others write. It seals nothing under that key, which the claim says; under the next one it does.
#[test]
fn a_node_whose_row_another_one_has_taken_starts_claims_in_vain_and_is_cured_by_a_rotation() {
    for purpose in [Purpose::Storage, Purpose::Raft] {
        let log = [bootstrap(), rotation_by_another(5, purpose), registration(5, N1_TWIN, 3)];
        let mut world = World::with(&log);
        check_goes_on(&mut world, &[1, 2, 5], &registration(5, N2, 9));
        let collision = Clash::NodeCollision { dek_id: 5, existing: N1_TWIN, got: N1 };
        let claim = world.node_mut().claim(7, purpose);
        assert_eq!(claim.expect_err("the row is another's"), ClaimError::Collision(collision));
        assert_eq!(world.apply(5, &rotation_by_another(6, purpose)), Outcome::Applied);
        assert!(matches!(world.node_mut().claim(7, purpose), Ok(Claim::Propose(_))));
    }
}

/// Refused, it could never apply the rotation after which it may write again.
#[test]
fn a_node_whose_epochs_are_used_up_starts_catches_up_and_is_cured_by_a_rotation() {
    let log = [bootstrap(), registration(1, N1, u16::MAX), registration(2, N1, u16::MAX)];
    let mut world = World::with(&log);
    edit_sidecar(&mut world, |sidecar| {
        sidecar.keys.values_mut().for_each(|key| key.local_epoch = LocalEpoch(u16::MAX));
    });
    check_goes_on(&mut world, &[1, 2], &registration(1, N2, 0));
    check_goes_on(&mut world, &[1, 2], &rotation(5, Purpose::Storage));
    check_goes_on(&mut world, &[1, 2, 5], &rotation(6, Purpose::Raft));
    world.restart();
    let (node, sidecar) = (world.node(), world.node().sidecar().expect("bootstrapped"));
    for purpose in [Purpose::Storage, Purpose::Raft] {
        let active = node.active(purpose).expect("bootstrapped");
        assert_eq!(sidecar.keys[&active].local_epoch, LocalEpoch(0), "{purpose:?}");
    }
}

/// The log from the sidecar's index on is no longer there for a scan, and need not be.
#[test]
fn a_log_that_was_compacted_past_the_newest_key_entry_does_not_keep_a_node_from_starting() {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage)]);
    for index in 3..20 {
        assert_eq!(world.advance(index), Outcome::Applied);
    }
    world.restart();
    // The other entries come as a snapshot, after which the log begins anew.
    let mut snapshot = world.node().snapshot().expect("at one index");
    snapshot.registry = RegistrySnapshot { applied_index: RaftIndex(1_000_000), ..snapshot.registry };
    assert_eq!(world.node_mut().install(&snapshot, &mut |_| Ok(())), Ok(()));
    assert_eq!(world.node().sidecar().expect("bootstrapped").raft_applied_index, RaftIndex(2));
    check_goes_on(&mut world, &[1, 2, 5], &registration(5, N2, 0));
    assert_eq!(world.node().applied_index(), RaftIndex(1_000_001));
    world.restart();
}

/// A crash loop of a night would use all of them up.
#[test]
fn a_hundred_starts_move_no_epoch() {
    let mut world = World::with(&[bootstrap(), registration(1, N1, 4)]);
    edit_sidecar(&mut world, |sidecar| {
        sidecar.keys.get_mut(&id(1)).expect("bootstrapped").local_epoch = LocalEpoch(4);
    });
    world.restart();
    let before = world.lasting();
    for _ in 0..100 {
        world.restart();
        assert_eq!(world.lasting(), before);
    }
}
