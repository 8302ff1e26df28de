//! Rewraps: the same keys under another KEK, and when the old one may be withdrawn.

use std::sync::Arc;

use applier::apply::KekStatus;
use applier::outcome::{ApplyError, HaltCause, NoOp, Reject, StartError};
use applier::ports::{BlobFault, Kek};
use applier::sidecar::{EntryName, RewrapRecord, WRAPPED_LEN_MAX};
use applier::wire::Entry;
use applier::{
    Admission, Capability, InstallError, KekCheck, Leadership, Outcome, PromiseError, Purpose, RaftIndex,
    Snapshot,
};

use crate::convergence::Run;
use crate::harness::{
    CommitFault, EIO, Effect, Fault, N2, Op, TestKek, World, blob, bootstrap, commit_error, dek, id,
    registration, retirement, rewrap, rewrap_with, rotation, rotation_with,
};

fn old() -> TestKek {
    TestKek::new()
}

fn new() -> TestKek {
    TestKek::of([9; 32])
}

fn newest() -> TestKek {
    TestKek::of([10; 32])
}

fn check(kek: &TestKek) -> KekCheck {
    kek.check_value().expect("within reach")
}

/// A node that has not started yet, with the new KEK as the current and the old as the previous one.
fn with_both() -> World {
    let mut world = World::new();
    (world.kek, world.previous) = (Arc::new(new()), Some(Arc::new(old())));
    world
}

/// The same after this log.
fn after(log: &[Entry]) -> World {
    let mut world = with_both();
    world.restart();
    for (index, entry) in (1..).zip(log) {
        assert_eq!(world.apply(index, entry), Outcome::Applied, "entry {index}");
    }
    world
}

fn bootstrapped() -> World {
    after(&[bootstrap()])
}

fn rewrapped() -> World {
    after(&[bootstrap(), rewrap(1, &new(), &[1, 2])])
}

fn status(world: &World) -> KekStatus {
    world.node().kek_status().expect("it has a keyring")
}

#[test]
fn a_rewrap_changes_how_every_key_is_wrapped_and_no_key() {
    let mut world = after(&[bootstrap(), rotation(5, Purpose::Storage), registration(5, N2, 4)]);
    let before = world.lasting();
    let entry = rewrap(1, &new(), &[1, 2, 5]);
    assert_eq!(world.apply(4, &entry), Outcome::Applied);
    let after = world.lasting();
    let mut expected = before.held.0.expect("bootstrapped");
    expected.raft_applied_index = RaftIndex(4);
    for (key, record) in &mut expected.keys {
        record.wrapped = new().blob(u8::try_from(key.get()).expect("small"), 0x81);
    }
    let name = EntryName::of(RaftIndex(4), &entry.encode());
    expected.rewraps = vec![RewrapRecord { kek: check(&new()), name }];
    assert_eq!(after.held.0.as_ref(), Some(&expected));
    assert_eq!((&after.keys, after.active), (&before.keys, before.active));
    assert_eq!(after.registry.rows, before.registry.rows);
    assert_eq!((after.applied, after.local.sidecar_index), (RaftIndex(4), RaftIndex(4)));
    assert_eq!((after.local.kek, after.local.next_kek), (Some(check(&new())), None));
    world.restart();
    assert_eq!(world.lasting(), after);
}

#[test]
fn the_kek_of_the_newest_rewrap_alone_opens_what_comes_behind_it() {
    let under = |kek: &TestKek| rotation_with(5, |entry| entry.wrapped = kek.blob(5, 5));
    let does_not_open = Reject::BlobDoesNotOpen { id: id(5), fault: BlobFault::Integrity };
    bootstrapped().check_rejected(2, &under(&new()), does_not_open.clone());
    assert_eq!(bootstrapped().apply(2, &under(&old())), Outcome::Applied);
    rewrapped().check_rejected(3, &under(&old()), does_not_open);
    assert_eq!(rewrapped().apply(3, &under(&new())), Outcome::Applied);
}

#[test]
fn what_is_wrong_with_a_rewrap_is_rejected() {
    let good = |change: fn(&mut applier::wire::Rewrap)| rewrap_with(1, &new(), &[1, 2], change);
    let keys = |keys: &[u8]| rewrap(1, &new(), keys);
    let not_in_ring = KekCheck([7; 8]);
    let differ = |id| Reject::RewrapKeys { id };
    let damaged = Reject::BlobDoesNotOpen { id: id(2), fault: BlobFault::Integrity };
    let cases = [
        (rewrap(0, &new(), &[1, 2]), Reject::KekGeneration { current: 0, got: 0 }),
        (rewrap(2, &new(), &[1, 2]), Reject::KekGeneration { current: 0, got: 2 }),
        (good(|entry| entry.generation = u32::MAX), Reject::KekGeneration { current: 0, got: u32::MAX }),
        (good(|entry| entry.kek_check = [7; 8]), Reject::KekNotInRing { wanted: not_in_ring }),
        (keys(&[1]), differ(2)),
        (keys(&[2]), differ(1)),
        (keys(&[]), differ(1)),
        (keys(&[1, 2, 9]), differ(9)),
        (keys(&[1, 1, 2]), differ(1)),
        (keys(&[1, 2, 2]), differ(2)),
        (keys(&[2, 1]), differ(1)),
        (good(|entry| entry.keys[0].0 = 0), Reject::ReservedKeyId),
        (good(|entry| entry.keys[1].1.clear()), Reject::WrappedLength { id: id(2), len: 0 }),
        (
            good(|entry| entry.keys[1].1 = vec![0; WRAPPED_LEN_MAX + 1]),
            Reject::WrappedLength { id: id(2), len: WRAPPED_LEN_MAX + 1 },
        ),
        (good(|entry| entry.keys[1].1[20] ^= 1), damaged.clone()),
        (good(|entry| entry.keys[1].1 = blob(2)), damaged),
        (good(|entry| entry.keys[1].1 = new().blob(3, 9)), Reject::RewrapBytes(id(2))),
        (good(|entry| entry.keys[1].1 = new().blob(1, 9)), Reject::RewrapBytes(id(2))),
    ];
    for (entry, reject) in cases {
        bootstrapped().check_rejected(2, &entry, reject);
    }
    let rewrap = rewrap(1, &new(), &[1, 2]);
    World::started().check_rejected(1, &rewrap, Reject::NotBootstrapped);
    World::started_without_keyring().check_rejected(1, &rewrap, Reject::KekNotConfigured);
    World::with(&[bootstrap()]).check_rejected(2, &rewrap, Reject::KekNotInRing { wanted: check(&new()) });
}

#[test]
fn a_retired_key_is_not_wrapped_anew() {
    let log = [bootstrap(), rotation(5, Purpose::Storage), retirement(1)];
    after(&log).check_rejected(4, &rewrap(1, &new(), &[1, 2, 5]), Reject::RewrapKeys { id: 1 });
    let mut world = after(&log);
    assert_eq!(world.apply(4, &rewrap(1, &new(), &[2, 5])), Outcome::Applied);
    // What is known of a retired key does not depend on the KEK.
    let again = rotation_with(9, |entry| entry.wrapped = new().blob(1, 9));
    world.check_rejected(5, &again, Reject::EqualKeyBytes(id(1), id(9)));
}

#[test]
fn the_same_rewrap_again_is_a_no_op_however_many_others_came_since() {
    let mut world = rewrapped();
    let before = world.lasting();
    world.kek.asked();
    assert_eq!(world.apply(3, &rewrap(1, &new(), &[1, 2])), Outcome::NoOp(NoOp::DuplicateRewrap));
    assert_eq!(world.kek.asked(), 0);
    assert_eq!((&world.lasting().held, &world.disk()), (&before.held, &before.disk));
    let other_blobs = rewrap_with(1, &new(), &[1, 2], |entry| entry.keys[0].1 = new().blob(1, 7));
    world.check_rejected(4, &other_blobs, Reject::KekGeneration { current: 1, got: 1 });
    // Back to the old one is a rewrap like any other.
    assert_eq!(world.apply(4, &rewrap(2, &old(), &[1, 2])), Outcome::Applied);
    world.check_rejected(5, &other_blobs, Reject::KekGeneration { current: 2, got: 1 });
    let before = world.lasting();
    world.kek.asked();
    let older = rewrap(1, &new(), &[1, 2]);
    let duplicate = Admission::Duplicate { no_op: NoOp::DuplicateRewrap, by: Some(RaftIndex(2)) };
    assert_eq!(world.node().admit(&older.encode(), &[]), duplicate);
    assert_eq!(world.apply(5, &older), Outcome::NoOp(NoOp::DuplicateRewrap));
    assert_eq!(world.kek.asked(), 0);
    let after = world.lasting();
    assert_eq!((&after.held, after.local), (&before.held, before.local));
}

/// Its KEK may be gone: what it would promise to keep would keep the node from its next start.
#[test]
fn an_older_rewrap_that_is_delivered_again_promises_nothing() {
    let mut world = bootstrapped();
    let past = world.lasting().registry;
    let rewraps = [rewrap(1, &new(), &[1, 2]), rewrap(2, &newest(), &[1, 2])];
    assert_eq!(world.apply(2, &rewraps[0]), Outcome::Applied);
    (world.kek, world.previous) = (Arc::new(newest()), Some(Arc::new(new())));
    world.restart();
    assert_eq!(world.apply(3, &rewraps[1]), Outcome::Applied);
    assert_eq!(status(&world).withdrawable, Some(check(&new())));
    world.previous = None;
    world.restart();
    let calm = world.lasting();
    world.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
    assert_eq!(world.apply(2, &rewraps[0]), Outcome::Applied);
    assert_eq!(world.lasting().local, calm.local);
    world.restart();
    assert_eq!(world.apply(3, &rewraps[1]), Outcome::Applied);
    assert_eq!(world.lasting(), calm);
}

#[test]
fn a_kek_that_cannot_be_asked_fails_purely_and_the_same_call_succeeds_later() {
    let mut world = bootstrapped();
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    world.check_failed(2, &rewrap(1, &new(), &[1, 2]), ApplyError::KekUnavailable(timed_out));
    world.kek.set_available(true);
    assert_eq!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Applied);
}

#[test]
fn the_old_kek_may_be_withdrawn_once_the_rewrap_is_committed_and_not_before() {
    let mut world = bootstrapped();
    let (old_check, new_check) = (check(&old()), check(&new()));
    let before = KekStatus { in_force: old_check, generation: 0, next: Some(new_check), withdrawable: None };
    assert_eq!(status(&world), before);
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    let entry = rewrap(1, &new(), &[1, 2]);
    assert_eq!(world.apply(2, &entry), Outcome::Halted(HaltCause::Commit(commit_error())));
    assert_eq!(world.node().kek_status(), Err(PromiseError::Poisoned));
    world.restart();
    let between = KekStatus { in_force: new_check, generation: 1, next: None, withdrawable: None };
    assert_eq!(status(&world), between);
    assert_eq!(world.apply(2, &entry), Outcome::Applied);
    let done = KekStatus { withdrawable: Some(old_check), ..between };
    assert_eq!(status(&world), done);
    world.restart();
    assert_eq!(status(&world), done);
    let lasting = world.lasting();
    world.previous = None;
    world.restart();
    assert_eq!(world.lasting(), lasting);
    assert_eq!(status(&world), between, "there is nothing left to withdraw");
    let with_new = rotation_with(5, |entry| entry.wrapped = new().blob(5, 5));
    assert_eq!(world.apply(3, &with_new), Outcome::Applied);
}

/// Started with these KEKs the node is refused with this error, and nothing changes; with both it starts.
#[track_caller]
fn check_start(world: &mut World, (current, previous): (TestKek, Option<TestKek>), error: StartError) {
    let before = world.lasting();
    let ring = (world.kek.clone(), world.previous.clone());
    (world.kek, world.previous) = (Arc::new(current), previous.map(Arc::new));
    world.stop();
    let disk = world.disk();
    assert_eq!(world.try_restart(), Err(error));
    assert_eq!(world.disk(), disk);
    (world.kek, world.previous) = ring;
    world.restart();
    assert_eq!(world.lasting(), before);
}

#[test]
fn a_start_without_the_kek_in_force_is_refused() {
    let (old_check, new_check) = (check(&old()), check(&new()));
    let mut world = bootstrapped();
    let mismatch = StartError::KekMismatch { id: id(1), fault: BlobFault::Integrity };
    check_start(&mut world, (new(), None), mismatch.clone());
    // Which of two is in force is said by the previous one alone, as long as nobody has promised any.
    check_start(&mut world, (old(), Some(new())), mismatch);
    assert_eq!(world.node_mut().promise(old_check, 0).map(|found| found.keyring), Ok(Some(old_check)));
    let promised = |promised, found| StartError::OtherKek { promised, found };
    check_start(&mut world, (new(), None), promised(old_check, new_check));
    (world.kek, world.previous) = (Arc::new(old()), Some(Arc::new(new())));
    world.restart();
    assert_eq!(status(&world).in_force, old_check);

    check_start(&mut rewrapped(), (old(), None), promised(new_check, old_check));
    check_start(&mut rewrapped(), (old(), Some(newest())), promised(new_check, old_check));
    let mut world = rewrapped();
    (world.kek, world.previous) = (Arc::new(newest()), Some(Arc::new(new())));
    world.restart();
    let next =
        KekStatus { in_force: new_check, generation: 1, next: Some(check(&newest())), withdrawable: None };
    assert_eq!(status(&world), next);
}

#[test]
fn between_sidecar_and_commit_both_keks_are_needed() {
    let mut world = bootstrapped();
    let old_check = check(&old());
    assert!(world.node_mut().promise(old_check, 0).is_ok());
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    assert!(matches!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Halted(_)));
    world.restart();
    let error = StartError::OtherKek { promised: old_check, found: check(&new()) };
    check_start(&mut world, (new(), None), error);
    check_start(&mut world, (old(), None), StartError::KekMissing { wanted: check(&new()) });
    assert_eq!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Applied);
    world.previous = None;
    world.restart();
}

#[test]
fn a_member_promises_the_next_kek_besides_the_one_in_force() {
    let (old_check, new_check) = (check(&old()), check(&new()));
    let capable = Ok(Capability { keyring: Some(old_check), next: Some(new_check) });
    let mut world = bootstrapped();
    assert_eq!(world.node_mut().promise(old_check, 0), capable);
    assert_eq!(world.node_mut().promise(new_check, 0), capable);
    let before = world.state();
    assert_eq!(world.node_mut().promise(new_check, 0), capable);
    assert_eq!(world.state(), before, "what is recorded is not written again");
    let local = world.lasting().local;
    assert_eq!((local.kek, local.next_kek), (Some(old_check), Some(new_check)));
    check_start(&mut world, (old(), None), StartError::OtherKek { promised: new_check, found: old_check });
    // A third one it has not, and promises nothing of it.
    let before = world.state();
    assert_eq!(world.node_mut().promise(check(&newest()), 0), capable);
    assert_eq!(world.state(), before);
}

#[test]
fn a_member_that_promised_one_next_kek_does_not_promise_another() {
    let new_check = check(&new());
    let mut world = bootstrapped();
    assert!(world.node_mut().promise(new_check, 0).is_ok());
    world.stop();
    // With the one that was promised as the previous one it starts, and has a third as the next.
    (world.kek, world.previous) = (Arc::new(newest()), Some(Arc::new(new())));
    assert!(matches!(world.try_restart(), Err(StartError::KekMismatch { .. })), "neither opens its keys");
    (world.kek, world.previous) = (Arc::new(new()), Some(Arc::new(old())));
    world.restart();
    world.kek.pretend(check(&newest()));
    let error = PromiseError::OtherRewrap { promised: new_check, wanted: check(&newest()) };
    let before = world.state();
    assert_eq!(world.node_mut().promise(check(&newest()), 0), Err(error));
    assert_eq!(world.state(), before);
}

#[test]
fn a_promise_of_the_next_kek_whose_commit_failed_was_either_made_or_not() {
    for (fault, next) in [(CommitFault::Absent, None), (CommitFault::Present, Some(check(&new())))] {
        let mut world = bootstrapped();
        world.registry.borrow_mut().commit = Some(fault);
        assert_eq!(world.node_mut().promise(check(&new()), 0), Err(PromiseError::Halted(commit_error())));
        world.check_poisoned(2, &bootstrap());
        world.restart();
        assert_eq!(world.lasting().local.next_kek, next);
    }
}

#[test]
fn a_promise_of_the_next_kek_ends_with_its_rewrap_and_with_no_other() {
    let mut world = bootstrapped();
    let past = world.lasting().registry;
    assert!(world.node_mut().promise(check(&new()), 0).is_ok());
    assert_eq!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Applied);
    assert_eq!(world.lasting().local.next_kek, None);
    (world.kek, world.previous) = (Arc::new(newest()), Some(Arc::new(new())));
    world.restart();
    assert!(world.node_mut().promise(check(&newest()), 0).is_ok());
    // The first rewrap is delivered again: it says nothing of the second.
    world.node_mut().restore(&past, &mut |_| Ok(())).expect("a snapshot of its own past");
    assert_eq!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Applied);
    let promised = |world: &World| (world.lasting().local.kek, world.lasting().local.next_kek);
    assert_eq!(promised(&world), (Some(check(&new())), Some(check(&newest()))));
    let error = StartError::OtherKek { promised: check(&newest()), found: check(&new()) };
    check_start(&mut world, (new(), None), error);
    assert_eq!(world.apply(3, &rewrap(2, &newest(), &[1, 2])), Outcome::Applied);
    assert_eq!(promised(&world), (Some(check(&newest())), None));
    world.previous = None;
    world.restart();
    assert_eq!(promised(&world), (Some(check(&newest())), None));
}

/// The next KEK that is promised, and up to which generation.
fn next_promised(world: &World) -> (Option<KekCheck>, Option<u32>) {
    let local = world.lasting().local;
    (local.next_kek, local.next_generation)
}

#[test]
fn a_promise_reaches_up_to_the_highest_generation_that_was_asked_for() {
    let wanted = check(&new());
    let mut world = bootstrapped();
    for (asked, reached) in [(0, 1), (3, 3), (2, 3)] {
        assert!(world.node_mut().promise(wanted, asked).is_ok());
        assert_eq!(next_promised(&world), (Some(wanted), Some(reached)), "{asked}");
    }
    // The first rewrap does not end it, and this life knows that as well as the next one does.
    assert_eq!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Applied);
    assert_eq!(next_promised(&world), (Some(wanted), Some(3)));
    let before = world.state();
    assert!(world.node_mut().promise(wanted, 3).is_ok());
    assert_eq!(world.state(), before, "what is recorded is not written again");
}

#[test]
fn a_cluster_is_ready_to_rewrap_once_every_member_has_the_new_kek() {
    let mut leadership = Leadership::new();
    let (wanted, other) = (check(&new()), check(&old()));
    leadership.leads(Some(3));
    let mut world = bootstrapped();
    let answer = world.node_mut().promise(wanted, 0).expect("nothing fails");
    leadership.answered(3, 1, answer);
    leadership.answered(3, 2, Capability { keyring: Some(other), next: None });
    assert!(leadership.ready_to_rewrap([1], wanted).is_ok());
    assert!(leadership.ready_to_rewrap([1, 2], wanted).is_err());
    assert!(leadership.ready_to_rewrap([1, 3], wanted).is_err());
    // One that is through already does not hold the others up.
    leadership.answered(3, 2, Capability { keyring: Some(wanted), next: None });
    assert!(leadership.ready_to_rewrap([1, 2], wanted).is_ok());
}

/// Two rewraps with all that goes with them: rotations under each KEK, a retirement, duplicates. The ring holds two
/// KEKs, so that the second rewrap leads back to the old one.
fn log() -> Vec<Option<Entry>> {
    let under =
        |key: u8, kek: &TestKek| Some(rotation_with(key.into(), |entry| entry.wrapped = kek.blob(key, key)));
    vec![
        Some(bootstrap()),
        under(5, &old()),
        Some(rewrap(1, &new(), &[1, 2, 5])),
        Some(rewrap(1, &new(), &[1, 2, 5])),
        under(6, &new()),
        Some(retirement(5)),
        Some(registration(6, N2, 2)),
        under(5, &old()),
        Some(rewrap(2, &old(), &[1, 2, 6])),
        under(7, &old()),
    ]
}

fn run() -> Run {
    Run { node: with_both, log: log() }
}

#[test]
fn redelivered_from_every_index_two_rewraps_end_in_the_same_state() {
    run().redeliver();
}

#[test]
fn whatever_call_fails_two_rewraps_end_where_a_calm_run_ends() {
    run().sweep_in_turn();
}

#[test]
fn memory_keeps_every_key_through_a_rewrap_that_failed() {
    for (op, path_end) in
        [(Op::Sync, "keys.json.tmp"), (Op::Rename, "keys.json"), (Op::SyncDir, "encryption")]
    {
        let mut world = bootstrapped();
        let keys = world.keys();
        world.files.arm(Fault::named(op, path_end, EIO, Effect::Absent));
        assert!(matches!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Halted(_)));
        assert_eq!(world.keys(), keys);
        world.restart();
        assert!(world.apply(2, &rewrap(1, &new(), &[1, 2])).advances());
        assert_eq!(world.lasting(), rewrapped().lasting());
    }
}

fn snapshot(world: &World) -> Snapshot {
    world.node().snapshot().expect("at one index")
}

#[test]
fn an_install_moves_the_promise_to_the_kek_of_the_rewrap_that_it_stands_for() {
    let source = rewrapped();
    for promised in [None, Some(check(&old())), Some(check(&new()))] {
        let mut world = bootstrapped();
        if let Some(promised) = promised {
            assert!(world.node_mut().promise(promised, 0).is_ok());
        }
        assert_eq!(world.node_mut().install(&snapshot(&source), &mut |_| Ok(())), Ok(()));
        let local = world.lasting().local;
        assert_eq!((local.kek, local.next_kek), (Some(check(&new())), None));
        assert_eq!(status(&world).withdrawable, Some(check(&old())));
        let lasting = world.lasting();
        world.previous = None;
        world.restart();
        assert_eq!(world.lasting(), lasting);
    }
}

#[test]
fn an_install_ends_the_promise_of_the_rewrap_that_it_stands_for_and_of_no_later_one() {
    let source = rewrapped();
    for (asked, left) in [(1, (None, None)), (3, (Some(check(&new())), Some(3)))] {
        let mut world = World::new();
        world.kek = Arc::new(new());
        world.restart();
        assert!(world.node_mut().promise(check(&new()), 0).is_ok());
        assert_eq!(world.lasting().local.kek, Some(check(&new())), "that one is in force here already");
        assert!(world.node_mut().promise(check(&new()), asked).is_ok());
        assert_eq!(next_promised(&world), (Some(check(&new())), Some(asked)));
        assert_eq!(world.node_mut().install(&snapshot(&source), &mut |_| Ok(())), Ok(()));
        assert_eq!((world.lasting().local.kek, next_promised(&world)), (Some(check(&new())), left));
    }
}

#[test]
fn an_install_needs_the_kek_of_the_snapshot() {
    let mut world = World::with(&[bootstrap()]);
    let error = InstallError::KekMissing { wanted: check(&new()) };
    world.check_not_installed(&snapshot(&rewrapped()), error);
    // One that was bootstrapped needs none but that.
    let mut fresh = World::new();
    fresh.kek = Arc::new(new());
    fresh.restart();
    assert_eq!(fresh.node_mut().install(&snapshot(&rewrapped()), &mut |_| Ok(())), Ok(()));
    assert_eq!(fresh.keys(), [(id(1), dek(1)), (id(2), dek(2))]);
}

#[test]
fn an_install_that_a_crash_cut_off_at_any_commit_is_finished_by_the_next() {
    let source = snapshot(&rewrapped());
    let mut calm = bootstrapped();
    assert!(calm.node_mut().promise(check(&old()), 0).is_ok());
    let calls = calm.files.calls();
    assert_eq!(calm.node_mut().install(&source, &mut |_| Ok(())), Ok(()));
    let calls = calm.files.calls() - calls;
    for n in 0..calls {
        for effect in [Effect::Absent, Effect::Present] {
            let mut world = bootstrapped();
            assert!(world.node_mut().promise(check(&old()), 0).is_ok());
            world.files.arm(Fault::nth(n, EIO, effect));
            let cut = world.node_mut().install(&source, &mut |_| Ok(()));
            assert_eq!(world.files.disarm(), 1);
            assert!(matches!(cut, Err(InstallError::Halted(_))), "call {n}: {cut:?}");
            world.restart();
            match world.node_mut().install(&source, &mut |_| Ok(())) {
                Ok(()) | Err(InstallError::Behind { .. }) => {}
                Err(error) => panic!("call {n}: {error}"),
            }
            assert_eq!(world.lasting(), calm.lasting(), "call {n}");
        }
    }
}

/// It comes to a cluster behind a rewrap with the new KEK alone, and is given the log from its beginning.
#[test]
fn a_new_member_that_lacks_the_old_kek_is_cured_by_it() {
    let mut world = World::new();
    world.kek = Arc::new(new());
    world.restart();
    let promised = world.node_mut().promise(check(&new()), 1).expect("it has that one");
    assert_eq!(promised.keyring, Some(check(&new())));
    assert_eq!(next_promised(&world), (Some(check(&new())), Some(1)));
    let entry = bootstrap().encode();
    assert!(matches!(
        world.node_mut().apply(RaftIndex(1), &entry),
        Outcome::Rejected(Reject::BlobDoesNotOpen { .. })
    ));
    world.previous = Some(Arc::new(old()));
    world.restart();
    assert_eq!(world.node_mut().apply(RaftIndex(1), &entry), Outcome::Applied);
    assert_eq!(world.apply(2, &rewrap(1, &new(), &[1, 2])), Outcome::Applied);
    // What it has promised holds all the while.
    world.kek = Arc::new(old());
    world.previous = None;
    let error = StartError::OtherKek { promised: check(&new()), found: check(&old()) };
    assert_eq!(world.try_restart(), Err(error));
}
