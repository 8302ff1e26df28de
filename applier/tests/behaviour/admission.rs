//! Admission: a leader says of a request what applying it would come to, and touches nothing.
//!
//! The harness asks for an admission before every entry that it applies, so each test of a verdict is one of admission,
//! too. What is said here is what has no verdict behind it.

use applier::keystore::KeystoreError;
use applier::outcome::{NoOp, Reject};
use applier::registry::Clash;
use applier::wire::{Entry, RotationKind, WireError};
use applier::{Admission, ApplyError, NodeId, Outcome, Purpose, RaftIndex};

use crate::adoption::foreign_node;
use crate::harness::{
    CommitFault, N1, N1_TWIN, N2, World, blob, blob_with_nonce, bootstrap, bootstrap_with, check_agrees, dek,
    id, read_error, registration, rotation, rotation_with, row,
};

/// The request is admitted like this, twice, and nothing is touched.
#[track_caller]
fn check(world: &World, entry: &Entry, expected: &Admission) {
    for _ in 0..2 {
        let before = world.state();
        assert_eq!(world.node().admit(&entry.encode(), &[]), *expected);
        assert_eq!(world.state(), before);
    }
}

/// A row that no node would refuse, with which a member could never claim.
#[test]
fn no_row_of_a_request_takes_the_low_bits_of_a_member() {
    let member = |id| NodeId::new(id).expect("not 0");
    let members = [member(N1), member(N2)];
    let stranger = N2 ^ 0x5_0000;
    let collides = |dek_id| {
        let (existing, got) = (N2, stranger);
        Admission::Collides(Clash::NodeCollision { dek_id, existing, got })
    };
    let (fresh, bootstrapped) = (World::started(), World::with(&[bootstrap()]));
    let with_row = |id| bootstrap_with(|entry| entry.batch[1].full_node_id = id);
    let rotated_by = |id| rotation_with(5, |entry| entry.proposer.full_node_id = id);
    let requests = |id| {
        [
            (&fresh, with_row(id), 2),
            (&bootstrapped, rotated_by(id), 5),
            (&bootstrapped, registration(1, id, 3), 1),
        ]
    };
    for (world, request, key) in requests(stranger) {
        assert_eq!(world.node().admit(&request.encode(), &members), collides(key));
        assert_eq!(
            world.node().admit(&request.encode(), &members[..1]),
            Admission::Propose,
            "N2 is no member"
        );
    }
    for own in [N2, 0x5_0033] {
        for (world, request, _) in requests(own) {
            assert_eq!(world.node().admit(&request.encode(), &members), Admission::Propose);
        }
    }
    let nothing = Admission::Refused(Reject::Wire(WireError::Empty));
    assert_eq!(bootstrapped.node().admit(&[], &members), nothing, "what is no entry is refused as that");
}

/// States that a leader may be in.
fn states() -> Vec<fn() -> World> {
    vec![
        World::started,
        World::started_without_keyring,
        || World::with(&[bootstrap()]),
        || World::with(&[bootstrap(), rotation(5, Purpose::Storage), registration(1, N2, 3)]),
        || {
            let mut world = World::started_without_keyring();
            assert_eq!(world.apply(1, &registration(5, N1_TWIN, 3)), Outcome::Applied);
            world.keyring = true;
            world.restart();
            assert_eq!(world.apply(2, &bootstrap()), Outcome::Applied);
            world
        },
    ]
}

/// Requests of every kind and with everything that can be wrong with one.
fn requests() -> Vec<Entry> {
    let rotations = [
        rotation(5, Purpose::Storage),
        rotation(5, Purpose::Raft),
        rotation(6, Purpose::Storage),
        rotation_with(0, |_| ()),
        rotation_with(6, |entry| entry.proposer.full_node_id = 0),
        rotation_with(6, |entry| entry.proposer.dek_id = 1),
        rotation_with(6, |entry| entry.wrapped.clear()),
        rotation_with(6, |entry| entry.wrapped[20] ^= 1),
        rotation_with(6, |entry| entry.wrapped.push(0)),
        rotation_with(6, |entry| entry.wrapped = blob_with_nonce(2, 7)),
        rotation_with(6, |entry| entry.subtag = RotationKind::EnableRaftEnvelope),
        rotation_with(1, |_| ()),
    ];
    let bootstraps = [
        bootstrap(),
        bootstrap_with(|entry| entry.batch.clear()),
        bootstrap_with(|entry| entry.raft_id = 1),
        bootstrap_with(|entry| entry.raft_id = 0),
        bootstrap_with(|entry| entry.wrapped_raft = blob_with_nonce(1, 9)),
        bootstrap_with(|entry| entry.wrapped_storage[13] ^= 1),
        bootstrap_with(|entry| entry.batch.push(row(7, N1, 0))),
        bootstrap_with(|entry| entry.batch.push(row(1, N1_TWIN, 0))),
    ];
    let registrations =
        [(1, N2, 0), (1, N2, 3), (1, N2, 9), (1, N1_TWIN, 0), (7, N2, 0), (0, N2, 0), (1, 0, 0)]
            .map(|(dek_id, node, epoch)| registration(dek_id, node, epoch));
    rotations.into_iter().chain(bootstraps).chain(registrations).collect()
}

#[test]
fn what_is_admitted_is_applied_and_what_is_refused_is_refused_for_the_same_reason() {
    let (mut proposed, mut duplicates, mut refused) = (0, 0, 0);
    for state in states() {
        for request in requests() {
            let mut world = state();
            let before = world.state();
            let admission = world.node().admit(&request.encode(), &[]);
            assert_eq!(world.state(), before);
            let next = world.node().applied_index().next();
            let outcome = world.node_mut().apply(next, &request.encode());
            check_agrees(&admission, &outcome);
            match admission {
                Admission::Propose => proposed += 1,
                Admission::Duplicate { .. } => duplicates += 1,
                Admission::Refused(_) => refused += 1,
                other @ (Admission::Collides(_) | Admission::Stale | Admission::Failed(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }
    assert_eq!((proposed, duplicates, refused), (19, 5, 111), "every kind of answer is among them");
}

#[test]
fn a_duplicate_names_the_entry_that_had_the_effect() {
    let mut world = World::started();
    assert_eq!(world.advance(1), Outcome::Applied);
    let log =
        [bootstrap(), rotation(5, Purpose::Storage), rotation(6, Purpose::Raft), registration(1, N2, 3)];
    for (index, entry) in (2..).zip(&log) {
        assert_eq!(world.apply(index, entry), Outcome::Applied);
    }
    let duplicate = |no_op, by: Option<u64>| Admission::Duplicate { no_op, by: by.map(RaftIndex) };
    for _ in 0..2 {
        check(&world, &log[0], &duplicate(NoOp::DuplicateBootstrap, Some(2)));
        check(&world, &log[1], &duplicate(NoOp::DuplicateRotation, Some(3)));
        check(&world, &log[2], &duplicate(NoOp::DuplicateRotation, Some(4)));
        check(&world, &log[3], &duplicate(NoOp::DuplicateRegistration, None));
        check(&world, &registration(5, N1, 0), &duplicate(NoOp::DuplicateRegistration, None));
        world.restart();
    }
}

#[test]
fn a_payload_that_does_not_decode_is_refused() {
    let world = World::with(&[bootstrap()]);
    let before = world.state();
    assert_eq!(world.node().admit(&[], &[]), Admission::Refused(Reject::Wire(WireError::Empty)));
    let mut version = rotation(5, Purpose::Storage).encode();
    version[1] = 9;
    let refused = Reject::Wire(WireError::Version { got: 9 });
    assert_eq!(world.node().admit(&version, &[]), Admission::Refused(refused));
    assert_eq!(world.state(), before);
}

#[test]
fn a_sidecar_that_is_ahead_admits_nothing_until_the_database_has_caught_up() {
    let mut world = World::with(&[bootstrap()]);
    let entry = rotation(5, Purpose::Storage);
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    assert!(matches!(world.apply(2, &entry), Outcome::Halted(_)));
    check(&world, &entry, &Admission::Failed(ApplyError::Poisoned));
    world.restart();
    let ahead = ApplyError::SidecarAhead { sidecar: RaftIndex(2), applied: RaftIndex(1) };
    for request in [&entry, &rotation(6, Purpose::Storage), &registration(1, N2, 4), &bootstrap()] {
        check(&world, request, &Admission::Failed(ahead.clone()));
    }
    assert_eq!(world.node().snapshot(), Err(ahead));
    assert_eq!(world.apply(2, &entry), Outcome::Applied);
    check(&world, &rotation(6, Purpose::Storage), &Admission::Propose);
}

#[test]
fn what_keeps_a_request_from_being_judged_is_said_and_passes() {
    let mut world = World::with(&[bootstrap()]);
    let entry = rotation(5, Purpose::Storage);
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    check(&world, &entry, &Admission::Failed(ApplyError::KekUnavailable(timed_out)));
    check(&world, &registration(1, N2, 4), &Admission::Propose);
    world.kek.set_available(true);
    world.registry.borrow_mut().reads_fail = true;
    check(&world, &entry, &Admission::Failed(ApplyError::Registry(read_error())));
    world.registry.borrow_mut().reads_fail = false;
    world.node().keystore().set(id(5), dek(0x55)).expect("a free id");
    let conflict = KeystoreError::KeyConflict { id: id(5) };
    check(&world, &entry, &Admission::Failed(ApplyError::Keystore(conflict)));
    assert!(world.node().keystore().remove(id(5)));
    check(&world, &entry, &Admission::Propose);
    assert_eq!(world.apply(2, &entry), Outcome::Applied);
}

#[test]
fn a_node_on_a_sidecar_of_the_reference_system_admits_nothing() {
    let world = foreign_node(1);
    for request in requests() {
        check(&world, &request, &Admission::Failed(ApplyError::Foreign));
    }
    assert_eq!(world.node().snapshot(), Err(ApplyError::Foreign));
}

#[test]
fn without_a_keyring_only_registrations_are_admitted() {
    let world = World::started_without_keyring();
    for request in [bootstrap(), rotation_with(5, |entry| entry.wrapped = blob(5))] {
        check(&world, &request, &Admission::Refused(Reject::KekNotConfigured));
    }
    check(&world, &registration(1, N2, 0), &Admission::Propose);
}
