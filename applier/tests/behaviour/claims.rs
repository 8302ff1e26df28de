//! Claims: an epoch that was handed out once is never handed out again, and nothing is sealed before its claim is held.

use std::sync::Arc;

use applier::apply::NotSealed;
use applier::outcome::{ApplyError, NoOp, Reject};
use applier::registry::Clash;
use applier::wire::{Entry, Row};
use applier::{Admission, Claim, ClaimError, DekId, Outcome, Purpose, RaftIndex, Sealer, StartError};

use crate::adoption::foreign_node;
use crate::harness::{
    CommitFault, EIO, Effect, Fault, N1, N1_TWIN, N2, Op, World, bootstrap, bootstrap_with, commit_error,
    cutover, id, read_error, registration, retirement, rotation, row, seen,
};

pub(crate) const TERM: u64 = 3;
const BOTH: [(Purpose, u32); 2] = [(Purpose::Storage, 1), (Purpose::Raft, 2)];

/// The row that a claim asks to be registered.
#[track_caller]
pub(crate) fn propose(world: &mut World, term: u64, purpose: Purpose) -> Row {
    match world.node_mut().claim(term, purpose) {
        Ok(Claim::Propose(payload)) => match Entry::decode(&payload) {
            Ok(Entry::Registration(row)) => row,
            other => panic!("a claim proposes a registration: {other:?}"),
        },
        other => panic!("a claim that is still to be registered: {other:?}"),
    }
}

#[track_caller]
fn held(world: &mut World, term: u64, purpose: Purpose) -> Arc<Sealer> {
    match world.node_mut().claim(term, purpose) {
        Ok(Claim::Held(sealer)) => sealer,
        other => panic!("a claim that is held: {other:?}"),
    }
}

/// Applies what is due next.
#[track_caller]
pub(crate) fn next(world: &mut World, entry: &Entry) -> Outcome {
    let due = world.node().applied_index().next().0;
    world.apply(due, entry)
}

/// Claims, registers and returns the sealer.
#[track_caller]
fn claim(world: &mut World, term: u64, purpose: Purpose) -> Arc<Sealer> {
    let row = propose(world, term, purpose);
    assert_eq!(next(world, &Entry::Registration(row)), Outcome::Applied);
    held(world, term, purpose)
}

/// The epoch in the sidecar's file and the one in the local table.
fn durable(world: &World, key: DekId) -> (u16, u16) {
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    let sidecar = match applier::sidecar::json::decode(&bytes) {
        Ok(applier::sidecar::SidecarContent::Ours(sidecar)) => sidecar,
        other => panic!("{other:?}"),
    };
    let local = world.lasting().local.epochs.get(&key).map_or(0, |epoch| epoch.0);
    (sidecar.keys[&key].local_epoch.0, local)
}

#[test]
fn an_epoch_is_durable_in_sidecar_and_table_before_it_is_handed_out() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap()]);
        let before = world.lasting();
        let from = world.files.calls();
        assert_eq!(propose(&mut world, TERM, purpose), row(key, N1, 1));
        assert_eq!(durable(&world, id(key)), (1, 1));
        let log = world.files.log_since(from);
        let renamed = log.iter().position(|(op, _)| *op == Op::Rename).expect("the sidecar is replaced");
        let synced = log.iter().position(|(op, _)| *op == Op::SyncDir).expect("and its name made durable");
        let table = log.iter().position(|(op, _)| *op == Op::DbWrite).expect("the table is written");
        assert!(renamed < synced && synced < table, "{log:?}");
        assert_eq!(log.last().map(|(op, _)| *op), Some(Op::DbSync));
        // And nothing else has changed.
        let mut after = world.lasting();
        after.local.epochs.clear();
        let sidecar = after.held.0.as_mut().expect("bootstrapped");
        sidecar.keys.get_mut(&id(key)).expect("bootstrapped").local_epoch.0 = 0;
        after.disk.clone_from(&before.disk);
        assert_eq!(after, before);
    }
}

#[test]
fn a_claim_that_is_asked_for_again_is_the_same_until_it_is_held() {
    let mut world = World::with(&[bootstrap()]);
    let row = propose(&mut world, TERM, Purpose::Storage);
    let before = world.state();
    assert_eq!(propose(&mut world, TERM, Purpose::Storage), row);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
    assert_eq!(world.state(), before, "what is durable is not written again");
    assert_eq!(next(&mut world, &Entry::Registration(row)), Outcome::Applied);
    let sealer = held(&mut world, TERM, Purpose::Storage);
    assert!(Arc::ptr_eq(&sealer, &world.node().sealer(TERM, Purpose::Storage).expect("held")));
    assert!(Arc::ptr_eq(&sealer, &held(&mut world, TERM, Purpose::Storage)), "one source of nonces a claim");
    assert_eq!((sealer.key_id(), sealer.purpose()), (id(1), Purpose::Storage));
    assert_eq!((sealer.nonces().epoch().0, sealer.nonces().issued()), (1, 0));
    assert!(world.node().sealer(TERM, Purpose::Raft).is_none(), "each key has claims of its own");
    world.check_row(seen(1, N1, 0, 1));
}

#[test]
fn a_claim_counts_in_its_term_alone() {
    let mut world = World::with(&[bootstrap()]);
    let first = propose(&mut world, TERM, Purpose::Storage);
    // The leadership is lost before the registration comes through, under the next leader.
    assert_eq!(next(&mut world, &Entry::Registration(first)), Outcome::Applied);
    assert!(world.node().sealer(TERM + 1, Purpose::Storage).is_none());
    let second = propose(&mut world, TERM + 1, Purpose::Storage);
    assert_eq!(second.local_epoch, first.local_epoch + 1);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
    assert_eq!(next(&mut world, &Entry::Registration(second)), Outcome::Applied);
    assert_eq!(held(&mut world, TERM + 1, Purpose::Storage).nonces().epoch().0, second.local_epoch);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
}

#[test]
fn a_claim_counts_in_its_life_alone() {
    let mut world = World::with(&[bootstrap()]);
    claim(&mut world, TERM, Purpose::Storage);
    world.restart();
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
    assert_eq!(propose(&mut world, TERM, Purpose::Storage).local_epoch, 2);
    world.restart();
    // Its registration comes through in the next life.
    assert_eq!(next(&mut world, &registration(1, N1, 2)), Outcome::Applied);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
    assert_eq!(propose(&mut world, TERM, Purpose::Storage).local_epoch, 3);
}

#[test]
fn only_an_entry_that_advances_the_row_to_it_makes_a_claim_held() {
    let mut world = World::with(&[bootstrap()]);
    let row = propose(&mut world, TERM, Purpose::Storage);
    let others = [
        (registration(1, N1, 0), Outcome::NoOp(NoOp::DuplicateRegistration)),
        (registration(1, N2, row.local_epoch), Outcome::Applied),
        (registration(2, N1, row.local_epoch), Outcome::Applied),
    ];
    for (entry, outcome) in others {
        assert_eq!(next(&mut world, &entry), outcome);
        assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
    }
    assert_eq!(next(&mut world, &Entry::Registration(row)), Outcome::Applied);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_some());
    let sealer = held(&mut world, TERM, Purpose::Storage);
    let again = next(&mut world, &Entry::Registration(row));
    assert_eq!(again, Outcome::NoOp(NoOp::DuplicateRegistration));
    assert!(Arc::ptr_eq(&sealer, &held(&mut world, TERM, Purpose::Storage)));
}

#[test]
fn a_row_that_was_raised_to_the_epoch_already_makes_no_claim_held() {
    // A life that lost its disk claims what an earlier one may have claimed; only what raises the row is its own.
    let mut world = World::with(&[bootstrap()]);
    let past = world.lasting().registry;
    let row = propose(&mut world, TERM, Purpose::Storage);
    assert_eq!(next(&mut world, &Entry::Registration(row)), Outcome::Applied);
    world.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none(), "the state that it counted in is gone");
    assert_eq!(next(&mut world, &Entry::Registration(row)), Outcome::Applied);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none());
    assert_eq!(propose(&mut world, TERM, Purpose::Storage).local_epoch, row.local_epoch + 1);
}

#[test]
fn a_claim_that_others_have_overtaken_is_made_anew() {
    let mut world = World::with(&[bootstrap()]);
    let row = propose(&mut world, TERM, Purpose::Storage);
    assert_eq!(next(&mut world, &registration(1, N1, 7)), Outcome::Applied);
    assert!(world.node().sealer(TERM, Purpose::Storage).is_none(), "another epoch is not the claimed one");
    let clash = Clash::EpochRollback { dek_id: 1, full_node_id: N1, last_seen: 7, got: 1 };
    let refused = Admission::Refused(clash.into());
    assert_eq!(world.node().admit(&Entry::Registration(row).encode(), &[]), refused);
    assert_eq!(propose(&mut world, TERM, Purpose::Storage).local_epoch, 8);
    assert_eq!(durable(&world, id(1)), (8, 8));
    let sealer = claim(&mut world, TERM, Purpose::Storage);
    assert_eq!(sealer.nonces().epoch().0, 8);
}

#[test]
fn a_rotation_asks_for_a_new_claim_under_the_new_key_and_a_retirement_drops_the_old() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap()]);
        let sealer = claim(&mut world, TERM, purpose);
        assert_eq!(next(&mut world, &rotation(5, purpose)), Outcome::Applied);
        assert!(world.node().sealer(TERM, purpose).is_none());
        assert_eq!(propose(&mut world, TERM, purpose), row(5, N1, 1));
        assert_eq!(claim(&mut world, TERM, purpose).key_id(), id(5));
        assert_eq!(durable(&world, id(key)), (1, 1));
        assert_eq!(Arc::strong_count(&sealer), 2);
        let retire = match retirement(key) {
            Entry::Rotation(entry) => Entry::Rotation(applier::wire::Rotation { purpose, ..entry }),
            _ => unreachable!("it has the layout of a rotation"),
        };
        assert_eq!(next(&mut world, &retire), Outcome::Applied);
        assert_eq!(Arc::strong_count(&sealer), 1, "the applier holds on to no retired key");
        assert!(world.node().sealer(TERM, purpose).is_some());
    }
}

#[test]
fn a_used_up_key_is_said_to_be_and_a_rotation_cures_it() {
    for (purpose, key) in BOTH {
        let mut world = World::with(&[bootstrap(), registration(key, N1, u16::MAX - 1)]);
        assert_eq!(claim(&mut world, TERM, purpose).nonces().epoch().0, u16::MAX);
        assert_eq!(durable(&world, id(key)), (u16::MAX, u16::MAX));
        for _ in 0..2 {
            let before = world.state();
            let exhausted = ClaimError::Exhausted { id: id(key) };
            assert_eq!(world.node_mut().claim(TERM + 1, purpose).map(drop), Err(exhausted));
            assert_eq!(world.state(), before);
            world.restart();
        }
        assert_eq!(next(&mut world, &registration(1, N2, 0)), Outcome::Applied);
        assert_eq!(next(&mut world, &rotation(5, purpose)), Outcome::Applied);
        assert_eq!(claim(&mut world, TERM + 1, purpose).nonces().epoch().0, 1);
    }
}

#[test]
fn a_start_leaves_epochs_alone() {
    let mut world = World::with(&[bootstrap()]);
    claim(&mut world, TERM, Purpose::Storage);
    let before = world.lasting();
    for _ in 0..20 {
        world.restart();
    }
    assert_eq!(world.lasting(), before);
    assert_eq!(propose(&mut world, TERM + 1, Purpose::Storage).local_epoch, 2);
}

/// What is refused touches nothing.
#[track_caller]
fn check_refused(world: &mut World, error: ClaimError) {
    for (purpose, _) in BOTH {
        let before = world.state();
        assert_eq!(world.node_mut().claim(TERM, purpose).map(drop), Err(error.clone()));
        assert_eq!(world.state(), before);
        assert!(world.node().sealer(TERM, purpose).is_none());
    }
}

#[test]
fn without_a_state_to_claim_in_there_is_no_claim() {
    check_refused(&mut World::started(), ClaimError::NotBootstrapped);
    check_refused(&mut World::started_without_keyring(), ClaimError::NotBootstrapped);
    check_refused(&mut foreign_node(2), ClaimError::NotNow(ApplyError::Foreign));
    let mut behind = World::with(&[bootstrap()]);
    let past = applier::registry::RegistrySnapshot::default();
    behind.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
    let ahead = ApplyError::SidecarAhead { sidecar: RaftIndex(1), applied: RaftIndex::ZERO };
    check_refused(&mut behind, ClaimError::NotNow(ahead));
    let mut unreadable = World::with(&[bootstrap()]);
    unreadable.registry.borrow_mut().reads_fail = true;
    check_refused(&mut unreadable, ClaimError::Registry(read_error()));
}

#[test]
fn another_node_with_the_same_low_bits_keeps_this_one_from_claiming() {
    let twins = bootstrap_with(|entry| entry.batch = vec![row(1, N1_TWIN, 0), row(2, N1_TWIN, 0)]);
    let mut world = World::with(&[twins]);
    for (purpose, dek_id) in BOTH {
        let clash = Clash::NodeCollision { dek_id, existing: N1_TWIN, got: N1 };
        let before = world.state();
        assert_eq!(world.node_mut().claim(TERM, purpose).map(drop), Err(ClaimError::Collision(clash)));
        assert_eq!(world.state(), before);
    }
}

#[test]
fn a_halted_applier_neither_claims_nor_seals() {
    let mut world = World::with(&[bootstrap()]);
    claim(&mut world, TERM, Purpose::Storage);
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    assert!(matches!(next(&mut world, &registration(1, N2, 1)), Outcome::Halted(_)));
    check_refused(&mut world, ClaimError::NotNow(ApplyError::Poisoned));
}

#[test]
fn a_claim_whose_table_was_not_written_halts_and_is_never_handed_out() {
    for fault in [CommitFault::Absent, CommitFault::Present] {
        let mut world = World::with(&[bootstrap()]);
        world.registry.borrow_mut().commit = Some(fault);
        let halted = world.node_mut().claim(TERM, Purpose::Storage).map(drop);
        assert_eq!(halted, Err(ClaimError::Halted(commit_error().into())));
        world.check_poisoned(2, &registration(1, N2, 1));
        world.restart();
        assert_eq!(propose(&mut world, TERM, Purpose::Storage).local_epoch, 2);
    }
}

#[test]
fn over_many_crashes_no_epoch_is_handed_out_twice() {
    let mut world = World::with(&[bootstrap()]);
    let from = world.files.calls();
    propose(&mut world, 1, Purpose::Storage);
    let calls = world.files.calls() - from;
    assert!(calls > 10, "{calls} calls are too few to be a claim");
    let (mut newest, mut term, mut cut, mut registered) = (1, 1, 0, 0);
    for n in 0..2 * calls + 9 {
        for effect in [Effect::Absent, Effect::Present] {
            for lasts in [false, true] {
                term += 1;
                let fault = Fault::nth(n, EIO, effect);
                world.files.arm(if lasts { fault.lasting() } else { fault });
                match world.node_mut().claim(term, Purpose::Storage) {
                    Ok(Claim::Propose(payload)) => {
                        let Ok(Entry::Registration(row)) = Entry::decode(&payload) else {
                            panic!("{payload:?}")
                        };
                        assert!(row.local_epoch > newest, "call {n}: {} after {newest}", row.local_epoch);
                        newest = row.local_epoch;
                        let (sidecar, local) = durable(&world, id(1));
                        assert_eq!((sidecar, local), (newest, newest));
                        // Whatever becomes of its registration.
                        if next(&mut world, &Entry::Registration(row)) == Outcome::Applied {
                            assert!(world.node().sealer(term, Purpose::Storage).is_some());
                            registered += 1;
                        }
                    }
                    Err(ClaimError::Halted(_)) => cut += 1,
                    other => panic!("call {n}: {other:?}"),
                }
                world.stop();
                world.files.disarm();
                world.restart();
            }
        }
    }
    assert!(cut > calls && registered > 0, "{cut} of {calls} were cut off, {registered} registered");
}

#[test]
fn a_node_that_lost_its_disk_claims_above_its_row() {
    let mut source = World::with(&[bootstrap()]);
    for term in 1..=4 {
        claim(&mut source, term, Purpose::Storage);
    }
    let snapshot = source.node().snapshot().expect("at one index");
    let mut wiped = World::started();
    assert_eq!(wiped.node_mut().install(&snapshot, &mut |_| Ok(())), Ok(()));
    assert_eq!(durable(&wiped, id(1)), (0, 0), "its epochs come from nobody else");
    assert_eq!(propose(&mut wiped, TERM, Purpose::Storage).local_epoch, 5);
    // The same from the log.
    let mut wiped = World::with(&[bootstrap(), registration(1, N1, 4)]);
    assert_eq!(propose(&mut wiped, TERM, Purpose::Storage).local_epoch, 5);
}

#[test]
fn an_old_image_of_the_whole_disk_claims_above_what_was_registered_since() {
    let mut world = World::with(&[bootstrap()]);
    claim(&mut world, 1, Purpose::Storage);
    world.stop();
    let image = world.image();
    world.restart();
    for term in 2..=4 {
        claim(&mut world, term, Purpose::Storage);
    }
    world.stop();
    world.put_image(&image);
    world.restart();
    assert_eq!((world.node().applied_index(), durable(&world, id(1))), (RaftIndex(2), (1, 1)));
    // It leads only once it has caught up, and then finds its own registrations.
    for epoch in 2..=4 {
        assert_eq!(next(&mut world, &registration(1, N1, epoch)), Outcome::Applied);
        assert!(world.node().sealer(9, Purpose::Storage).is_none());
    }
    assert_eq!(propose(&mut world, 9, Purpose::Storage).local_epoch, 5);
}

#[test]
fn an_old_sidecar_beside_a_newer_database_is_refused_and_an_old_database_is_caught_up() {
    let mut world = World::with(&[bootstrap()]);
    claim(&mut world, 1, Purpose::Storage);
    world.stop();
    let image = world.image();
    world.restart();
    claim(&mut world, 2, Purpose::Storage);
    world.stop();
    let newest = world.image();
    world.put_image(&image[..1]);
    let path = world.sidecar_path();
    let (found, claimed) = (applier::LocalEpoch(1), applier::LocalEpoch(2));
    assert_eq!(world.try_restart(), Err(StartError::EpochBehind { path, id: id(1), found, claimed }));
    world.put_image(&newest[..1]);
    world.restart();
    world.stop();
    world.put_image(&image[1..]);
    world.restart();
    assert_eq!(durable(&world, id(1)), (2, 1));
    assert_eq!(propose(&mut world, 3, Purpose::Storage).local_epoch, 3);
    assert_eq!(durable(&world, id(1)), (3, 3));
}

#[test]
fn behind_the_cutovers_nothing_is_sealed_without_a_claim() {
    let mut world = World::with(&[bootstrap()]);
    let entry = registration(1, N2, 1).encode();
    assert_eq!(world.node().seal_entry(TERM, &entry).as_deref(), Ok(entry.as_slice()));
    assert_eq!(
        world.node().seal_value(TERM, 0, b"key", b"value").map(|value| value[9..].to_vec()),
        Ok(b"value".to_vec())
    );
    assert_eq!(next(&mut world, &cutover(Purpose::Storage, 1)), Outcome::Applied);
    assert_eq!(next(&mut world, &cutover(Purpose::Raft, 2)), Outcome::Applied);
    for registered in [false, true] {
        let (value, of_entry) =
            (world.node().seal_value(TERM, 0, b"key", b"value"), world.node().seal_entry(TERM, &entry));
        assert_eq!(value, Err(NotSealed::NoClaim(Purpose::Storage)));
        assert_eq!(of_entry, Err(NotSealed::NoClaim(Purpose::Raft)));
        if !registered {
            propose(&mut world, TERM, Purpose::Storage);
            propose(&mut world, TERM, Purpose::Raft);
        }
    }
    let row = propose(&mut world, TERM, Purpose::Raft);
    // The registration of the claim itself is sealed with the nonce that is kept for it: always the same bytes.
    let own = Entry::Registration(row).encode();
    let sealed = world.node().seal_entry(TERM, &own).expect("its own").into_owned();
    assert_eq!(world.node().seal_entry(TERM, &own).as_deref(), Ok(sealed.as_slice()));
    assert_eq!(world.node().seal_entry(TERM + 1, &own), Err(NotSealed::NoClaim(Purpose::Raft)));
    let due = world.node().applied_index().next();
    let opened = world.node().open_entry(due, &sealed).expect("it opens").into_owned();
    assert_eq!(opened, own);
    assert_eq!(next(&mut world, &Entry::Registration(row)), Outcome::Applied);
    assert_eq!(
        held(&mut world, TERM, Purpose::Raft).nonces().issued(),
        0,
        "the one that is kept is none of them"
    );
    let other = world.node().seal_entry(TERM, &own).expect("held").into_owned();
    assert_ne!(other, sealed, "from here on every nonce is a new one");
    let clear = world.node().open_entry(due.next(), &entry).map(|entry| entry.into_owned());
    assert!(matches!(clear, Err(Reject::Sealed(_))));
    // Storage's claim is not raft's.
    assert_eq!(world.node().seal_value(TERM, 0, b"key", b"value"), Err(NotSealed::NoClaim(Purpose::Storage)));
    claim(&mut world, TERM, Purpose::Storage);
    assert!(world.node().seal_value(TERM, 0, b"key", b"value").is_ok());
}
