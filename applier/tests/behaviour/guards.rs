//! What refuses a start, and the step after which the node starts: one test a guard.
//!
//! | step of the reference's start-up order | here | fires, and is healed |
//! |---|---|---|
//! | 1, 11: the snapshot's cutover | the same, before any key is opened | `a_snapshot_of_another_cutover_..`, `a_lost_sidecar_..`, `without_a_keyring_..` |
//! | 2: load the KEK | by the host; a promise binds the node to it | `preflight.rs`; `promise.rs`: `another_kek_than_the_promised_one_..`, `a_node_that_promised_is_not_started_..` |
//! | 3a, 3c, 3d, 3g | before the database is opened | `preflight.rs`, `probe.rs` |
//! | 3b: read the sidecar | damage is refused, by each byte of it | `damage.rs`: `a_start_on_a_changed_byte_..`, `.._on_a_cut_file_..` |
//! | 3e: every key opens | the same | `start.rs`: `another_kek_is_refused`, `a_kek_that_does_not_open_every_key_..`, `a_kek_that_cannot_be_asked_..` |
//! | 3f: an epoch that is used up | none: a rotation cures it | `no_guards.rs` |
//! | 4: two nodes share 16 bits | the same | `two_nodes_with_the_same_low_bits_..` |
//! | 5, 9: another's row | none: who writes claims first, and is told | `no_guards.rs` |
//! | 5, 9, 12, 13: a missing row, an epoch | none: who writes claims first | `no_guards.rs` |
//! | 6: one group for the raft envelope | the same | `the_raft_envelope_refuses_..` |
//! | 7: load keys, raise epochs | no two keys are equal; epochs stay | `start.rs`: `two_keys_with_the_same_bytes_..`; `no_guards.rs` |
//! | 10: the sidecar behind the log | the database's own proof, before any key is opened | `start.rs`: `a_missing_sidecar_..`, `an_old_copy_.._is_refused`, `a_node_that_had_keys_..`, `a_missing_database_..`; `no_guards.rs` |
//! | ours: a sidecar of the reference | starts, and is read-only until it is adopted | `a_sidecar_of_the_reference_..`; `adoption.rs` |

use std::sync::Arc;

use applier::outcome::StartError;
use applier::ports::BlobFault;
use applier::sidecar::{Sidecar, json};
use applier::wire::Entry;
use applier::{Known, NodeId, Outcome, Purpose, RaftIndex};

use crate::adoption::{adoption, empty_foreign_bytes, foreign_node};
use crate::harness::{
    N1, N1_TWIN, N2, TestKek, World, bootstrap, id, registration, rotation, rotation_with, row,
};

/// Shares its low 16 bits with [`N2`].
const N2_TWIN: u64 = 0x0d00_0000_0000_0022;
/// Shares its low 16 bits with nobody.
const N3: u64 = 0x0e00_0000_0000_0033;

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId::new(*id).expect("not 0")).collect()
}

/// A rotation that another node has proposed, so that this one has no row under the key.
pub(crate) fn rotation_by_another(dek_id: u32, purpose: Purpose) -> Entry {
    rotation_with(dek_id, |entry| {
        entry.purpose = purpose;
        entry.proposer = row(dek_id, N2, 0);
    })
}

/// Ends the node's life and gives it a sidecar that differs by this.
pub(crate) fn edit_sidecar(world: &mut World, change: impl FnOnce(&mut Sidecar)) {
    let mut sidecar = world.node().sidecar().expect("bootstrapped").clone();
    world.stop();
    change(&mut sidecar);
    world.put_sidecar(&json::encode(&sidecar));
}

/// Switches an envelope on, by the entry that has installed a key.
pub(crate) fn switch(sidecar: &mut Sidecar, purpose: Purpose, key: u32) {
    sidecar.cutovers = sidecar.cutovers.with(purpose, sidecar.keys[&id(key)].name);
}

/// A node whose log was switched over to the raft envelope at index 2.
fn switched_over() -> World {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage)]);
    edit_sidecar(&mut world, |sidecar| switch(sidecar, Purpose::Raft, 5));
    world.restart();
    world
}

/// Refused with this error, twice, and sidecar and its directory stay as they are; started once `mend` has removed the
/// cause.
#[track_caller]
fn check_refused(world: &mut World, error: &StartError, mend: impl FnOnce(&mut World)) {
    let before = world.disk();
    for _ in 0..2 {
        assert_eq!(world.try_restart().as_ref(), Err(error));
        assert_eq!(world.disk(), before);
    }
    mend(world);
    world.restart();
}

fn divergence(snapshot: u64, sidecar: u64) -> StartError {
    StartError::CutoverDivergence { snapshot: RaftIndex(snapshot), sidecar: RaftIndex(sidecar) }
}

#[test]
fn a_snapshot_of_another_cutover_is_refused_until_its_own_sidecar_is_back() {
    let mut world = World::with(&[bootstrap(), rotation(5, Purpose::Storage)]);
    let old = world.sidecar_bytes().expect("bootstrapped");
    let mut world = {
        world.stop();
        switched_over()
    };
    let new = world.sidecar_bytes().expect("bootstrapped");
    world.known.snapshot_cutover = RaftIndex(2);
    world.restart();
    world.put_sidecar(&old);
    check_refused(&mut world, &divergence(2, 0), |world| world.put_sidecar(&new));
    // One of another log has a cutover, too, but elsewhere.
    world.known.snapshot_cutover = RaftIndex(3);
    check_refused(&mut world, &divergence(3, 2), |world| world.known.snapshot_cutover = RaftIndex(2));
    // Of a snapshot from before the cutover nothing follows.
    world.known.snapshot_cutover = RaftIndex::ZERO;
    world.restart();
}

#[test]
fn a_lost_sidecar_diverges_from_a_snapshot_until_it_is_back() {
    let mut world = switched_over();
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    world.known.snapshot_cutover = RaftIndex(2);
    std::fs::remove_file(world.sidecar_path()).expect("it exists");
    check_refused(&mut world, &divergence(2, 0), |world| world.put_sidecar(&bytes));
}

#[test]
fn without_a_keyring_a_snapshot_of_envelopes_is_refused_until_there_is_one_with_the_sidecar() {
    let mut world = switched_over();
    world.known.snapshot_cutover = RaftIndex(2);
    world.keyring = false;
    let required = StartError::KeyringRequired { applied: RaftIndex(2) };
    check_refused(&mut world, &required, |world| world.keyring = true);
    // Nothing else than the snapshot is left to tell.
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    let mut world = World::new();
    world.known.snapshot_cutover = RaftIndex(2);
    for keyring in [true, false] {
        world.keyring = keyring;
        assert_eq!(world.try_restart(), Err(divergence(2, 0)));
    }
    world.put_sidecar(&bytes);
    world.keyring = true;
    world.restart();
}

#[test]
fn two_nodes_with_the_same_low_bits_are_refused_until_one_of_them_has_another_id() {
    let mut world = World::with(&[bootstrap()]);
    let collision = |pair: [u64; 2]| {
        let pair = nodes(&pair);
        StartError::NodeIdCollision { one: pair[0], other: pair[1] }
    };
    world.known.peers = nodes(&[N2, N1_TWIN]);
    check_refused(&mut world, &collision([N1, N1_TWIN]), |world| world.known.peers = nodes(&[N2, N3]));
    // Two others of them are no better.
    world.known.peers = nodes(&[N2_TWIN, N3, N2]);
    check_refused(&mut world, &collision([N2, N2_TWIN]), |world| world.known.peers = nodes(&[N3, N2]));
    // A node is not its own twin, and may be told of twice.
    world.known.peers = nodes(&[N1, N2, N1, N2]);
    world.restart();
}

#[test]
fn this_node_may_be_the_one_that_takes_another_id() {
    let mut world = World::with(&[bootstrap()]);
    world.known.peers = nodes(&[N1_TWIN]);
    let [one, other] = [N1, N1_TWIN].map(|id| NodeId::new(id).expect("not 0"));
    check_refused(&mut world, &StartError::NodeIdCollision { one, other }, |world| world.full_node_id = N3);
    assert_eq!(world.apply(2, &registration(1, N3, 0)), Outcome::Applied);
}

#[test]
fn before_the_bootstrap_low_bits_are_nobodys_concern() {
    let mut world = World::new();
    world.known.peers = nodes(&[N1_TWIN]);
    world.restart();
    world.keyring = false;
    world.restart();
    // A file without keys, as the reference writes it before its bootstrap.
    let mut world = World::new();
    world.known.peers = nodes(&[N1_TWIN]);
    world.put_sidecar(&empty_foreign_bytes(2));
    world.restart();
    assert!(world.node().foreign().is_some());
}

#[test]
fn the_raft_envelope_refuses_all_but_one_raft_group() {
    let mut world = switched_over();
    for got in [0, 2, 7] {
        world.known.shard_groups = got;
        let error = StartError::ShardGroups { got };
        check_refused(&mut world, &error, |world| world.known.shard_groups = 1);
    }
    // Without it there may be any number.
    let mut world = World::with(&[bootstrap()]);
    world.known.shard_groups = 7;
    world.restart();
}

#[test]
fn a_host_that_knows_nothing_is_one_group_without_peers_and_snapshot() {
    let nothing = Known { peers: Vec::new(), shard_groups: 1, snapshot_cutover: RaftIndex::ZERO };
    assert_eq!(Known::default(), nothing);
}

/// Everything is wrong at once; each error is mended in turn and makes room for the next.
#[test]
fn the_guards_come_in_their_order() {
    let log = [bootstrap(), rotation_by_another(5, Purpose::Storage), registration(5, N1_TWIN, 3)];
    let mut world = World::with(&log);
    edit_sidecar(&mut world, |sidecar| {
        switch(sidecar, Purpose::Raft, 5);
        sidecar.raft_applied_index = RaftIndex(2);
    });
    let (good, right) = (world.sidecar_bytes().expect("bootstrapped"), world.kek.clone());
    let mut old = World::with(&log[..1]);
    edit_sidecar(&mut old, |sidecar| switch(sidecar, Purpose::Raft, 1));
    let old = old.sidecar_bytes().expect("bootstrapped");

    world.known = Known { peers: nodes(&[N2, N2_TWIN]), shard_groups: 2, snapshot_cutover: RaftIndex(2) };
    world.kek = Arc::new(TestKek::of([9; 32]));
    world.put_sidecar(b"{}");
    assert!(matches!(world.try_restart(), Err(StartError::Sidecar { .. })));
    world.put_sidecar(&old);
    check_refused_then(&mut world, &divergence(2, 1));
    world.known.snapshot_cutover = RaftIndex(1);
    let path = world.sidecar_path();
    let stale = StartError::SidecarStale { path, found: RaftIndex(1), applied: RaftIndex(2) };
    check_refused_then(&mut world, &stale);
    world.known.snapshot_cutover = RaftIndex(2);
    world.put_sidecar(&good);
    check_refused_then(&mut world, &StartError::KekMismatch { id: id(1), fault: BlobFault::Integrity });
    world.kek = right;
    let [one, other] = [N2, N2_TWIN].map(|id| NodeId::new(id).expect("not 0"));
    check_refused_then(&mut world, &StartError::NodeIdCollision { one, other });
    world.known.peers = nodes(&[N2]);
    check_refused(&mut world, &StartError::ShardGroups { got: 2 }, |world| world.known.shard_groups = 1);
}

/// Refused with this error, and sidecar and its directory stay as they are.
#[track_caller]
fn check_refused_then(world: &mut World, error: &StartError) {
    let before = world.disk();
    assert_eq!(world.try_restart().as_ref(), Err(error));
    assert_eq!(world.disk(), before);
}

#[test]
fn a_sidecar_of_the_reference_starts_read_only_and_takes_part_once_it_is_adopted() {
    let mut world = foreign_node(2);
    assert_eq!(world.advance(1), Outcome::Failed(applier::ApplyError::Foreign));
    // Guards that ask about the cluster hold for it, too.
    world.known.peers = nodes(&[N1_TWIN]);
    let [one, other] = [N1, N1_TWIN].map(|id| NodeId::new(id).expect("not 0"));
    let error = StartError::NodeIdCollision { one, other };
    check_refused(&mut world, &error, |world| world.known.peers.clear());
    world.known.snapshot_cutover = RaftIndex(8);
    check_refused(&mut world, &divergence(8, 0), |world| world.known.snapshot_cutover = RaftIndex::ZERO);
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
    world.restart();
    assert_eq!(world.advance(10), Outcome::Applied);
}
