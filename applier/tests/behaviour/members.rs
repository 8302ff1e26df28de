//! What has to be applied before a node becomes a member, and nodes that share their low 16 bits.

use applier::outcome::NoOp;
use applier::registry::Clash;
use applier::wire::Entry;
use applier::{ApplyError, ClaimError, NodeId, Outcome, Purpose};

use crate::adoption::foreign_node;
use crate::claims::{TERM, next, propose};
use crate::harness::{
    N1, N1_TWIN, N2, World, bootstrap, bootstrap_with, cutover_with, registration, rotation, rotation_with,
    row,
};

#[test]
fn a_new_member_needs_a_row_under_each_active_key_that_has_none() {
    let member = NodeId::new(0x33).expect("not 0");
    let rows = |world: &World| world.node().member_rows(member, &[]);
    let wanted = |keys: &[u32]| Ok(keys.iter().map(|key| registration(*key, 0x33, 0).encode()).collect());
    assert_eq!(rows(&World::started()), Ok(Vec::new()));
    let mut world = World::with(&[bootstrap()]);
    let before = world.state();
    assert_eq!(rows(&world), wanted(&[1, 2]));
    assert_eq!(world.state(), before);
    assert_eq!(next(&mut world, &registration(2, 0x33, 6)), Outcome::Applied);
    assert_eq!(rows(&world), wanted(&[1]));
    assert_eq!(next(&mut world, &registration(1, 0x33, 0)), Outcome::Applied);
    assert_eq!(rows(&world), wanted(&[]));
    assert_eq!(next(&mut world, &rotation(5, Purpose::Raft)), Outcome::Applied);
    assert_eq!(rows(&world), wanted(&[5]));
    for payload in rows(&world).expect("no collision") {
        let due = world.node().applied_index().next();
        assert_eq!(world.node_mut().apply(due, &payload), Outcome::Applied);
    }
    assert_eq!(rows(&world), wanted(&[]));
}

#[test]
fn a_new_member_with_the_low_bits_of_another_node_is_told() {
    let twin = NodeId::new(N1_TWIN).expect("not 0");
    let under = |dek_id| ClaimError::Collision(Clash::NodeCollision { dek_id, existing: N1, got: N1_TWIN });
    let mut world = World::with(&[bootstrap()]);
    assert_eq!(world.node().member_rows(twin, &[]), Err(under(1)));
    assert_eq!(next(&mut world, &bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap));
    let no_rows = bootstrap_with(|entry| entry.batch = vec![row(2, N1, 0)]);
    assert_eq!(World::with(&[no_rows]).node().member_rows(twin, &[]), Err(under(2)));
    // Also where the other node has no row under an active key any more, or has none at all and is a member.
    let log = [bootstrap(), rotation_by(5, Purpose::Storage, N2), rotation_by(6, Purpose::Raft, N2)];
    assert_eq!(World::with(&log).node().member_rows(twin, &[]), Err(under(1)));
    let members = [N1, N2].map(|id| NodeId::new(id).expect("not 0"));
    let nobody = World::with(&[bootstrap_with(|entry| entry.batch.clear())]);
    assert_eq!(nobody.node().member_rows(twin, &members), Err(under(1)));
    assert!(nobody.node().member_rows(members[0], &members).is_ok(), "it is not its own twin");
    let foreign = foreign_node(1);
    assert_eq!(foreign.node().member_rows(twin, &[]), Err(ClaimError::NotNow(ApplyError::Foreign)));
}

/// A rotation that this node has proposed, and so has the only row under the key.
fn rotation_by(key: u32, purpose: Purpose, node: u64) -> Entry {
    rotation_with(key, |entry| {
        entry.purpose = purpose;
        entry.proposer = row(key, node, 0);
    })
}

/// The nonce of an envelope: behind version, flag and key id.
fn nonce_of(sealed: &[u8]) -> Vec<u8> {
    sealed[6..18].to_vec()
}

/// Two nodes with the same low bits, of which neither has a row under the key yet, as after a member was lost and another
/// one has come.
#[test]
fn the_registrations_of_two_nodes_with_the_same_low_bits_never_share_a_nonce() {
    let sealed = |node: u64| {
        let log = [
            bootstrap(),
            rotation_by(5, Purpose::Raft, N2),
            cutover_with(Purpose::Raft, 5, |entry| entry.proposer = row(5, N2, 0)),
        ];
        let mut world = World::with(&log);
        world.full_node_id = node;
        world.restart();
        let own = Entry::Registration(propose(&mut world, TERM, Purpose::Raft)).encode();
        world.node().seal_entry(TERM, &own).expect("its own registration").into_owned()
    };
    assert_eq!(sealed(N1), sealed(N1));
    assert_ne!(nonce_of(&sealed(N1)), nonce_of(&sealed(N1_TWIN)));
}
