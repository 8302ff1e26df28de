//! Installs: a node that installs a snapshot is where a node is that applied every entry up to it, whatever fails on the
//! way.

use applier::apply::InstallError;
use applier::outcome::HaltCause;
use applier::registry::{CommitError, HostRefused, Registry};
use applier::sidecar::json;
use applier::{Admission, ApplyError, LocalEpoch, Outcome, Purpose, RaftIndex, Snapshot};
use redb::{ReadableDatabase, TableDefinition};

use crate::convergence::{deliver, log};
use crate::harness::{
    CommitFault, EIO, Effect, Fault, Lasting, N1, NOW, Op, World, bootstrap, commit_error, dek, id, rotation,
    seen,
};

/// A node that has applied the first `len` entries of the log.
fn after(len: usize) -> World {
    let mut world = World::started();
    assert!(deliver(&mut world, &log()[..len]));
    world
}

/// The snapshot and the state after each prefix of the log, from none on. A snapshot has gone through its bytes.
fn sources() -> Vec<(Snapshot, Lasting)> {
    let mut world = World::started();
    let source = |len: usize| {
        assert!(deliver(&mut world, &log()[..len]));
        let snapshot = world.node().snapshot().expect("at one index");
        assert_eq!(snapshot.registry.applied_index, RaftIndex(len as u64));
        (Snapshot::decode(&snapshot.encode()).expect("its own bytes"), world.lasting())
    };
    (0..=log().len()).map(source).collect()
}

fn install(world: &mut World, snapshot: &Snapshot) -> Result<(), InstallError> {
    world.node_mut().install(snapshot, &mut |_| Ok(()))
}

/// In this life and in the next one, and after the rest of the log.
#[track_caller]
fn check_converged(world: &mut World, (here, end): (&Lasting, &Lasting)) {
    assert_eq!(world.lasting(), *here);
    world.restart();
    assert_eq!(world.lasting(), *here);
    assert!(deliver(world, &log()));
    assert_eq!(world.lasting(), *end);
}

#[test]
fn an_install_ends_where_every_entry_up_to_it_ends() {
    let sources = sources();
    let end = &sources.last().expect("the whole log").1;
    for own in 0..log().len() {
        for (snapshot, expected) in &sources[own + 1..] {
            let mut world = after(own);
            assert_eq!(install(&mut world, snapshot), Ok(()));
            check_converged(&mut world, (expected, end));
        }
    }
}

#[test]
fn a_snapshot_takes_nothing_and_is_that_of_its_index() {
    let mut world = after(7);
    let before = world.state();
    let snapshot = world.node().snapshot().expect("at one index");
    assert_eq!(world.state(), before);
    world.restart();
    assert_eq!(world.node().snapshot(), Ok(snapshot.clone()));
    let mut other = World::started();
    assert_eq!(install(&mut other, &snapshot), Ok(()));
    assert_eq!(other.node().snapshot(), Ok(snapshot), "who installed it would send the same");
}

#[test]
fn no_snapshot_is_taken_of_a_database_that_someone_else_moved_back() {
    let world = after(4);
    let mut registry = world.node().registry().clone();
    registry.restore(&sources()[3].0.registry, None, &mut |_| Ok(())).expect("a working disk");
    let ahead = ApplyError::SidecarAhead { sidecar: RaftIndex(4), applied: RaftIndex(3) };
    assert_eq!(world.node().snapshot(), Err(ahead));
}

#[test]
fn rows_of_a_cluster_without_keyrings_are_carried_too() {
    let mut source = World::started_without_keyring();
    assert_eq!(source.apply(1, &crate::harness::registration(77, 0x22, 3)), Outcome::Applied);
    let snapshot = source.node().snapshot().expect("at one index");
    for mut world in [World::started_without_keyring(), World::started()] {
        assert_eq!(install(&mut world, &snapshot), Ok(()));
        assert_eq!(world.lasting().registry, snapshot.registry);
        assert!(world.disk().is_empty());
    }
}

/// A node after `len` entries whose keys have these epochs of its own, and a clock of its own.
fn with_epochs(len: usize, unix_seconds: u64, epochs: &[(u32, u16)]) -> World {
    let mut world = World::new();
    world.clock.put(unix_seconds);
    world.restart();
    assert!(deliver(&mut world, &log()[..len]));
    let mut sidecar = world.node().sidecar().expect("bootstrapped").clone();
    world.stop();
    for (key, epoch) in epochs {
        sidecar.keys.get_mut(&id(*key)).expect("installed").local_epoch = LocalEpoch(*epoch);
    }
    world.put_sidecar(&json::encode(&sidecar));
    world.restart();
    world
}

#[test]
fn a_nodes_own_epochs_and_times_stay_and_never_come_from_another_node() {
    let source = with_epochs(9, NOW, &[(1, 40), (2, 41), (5, 42), (6, 43)]);
    let snapshot = source.node().snapshot().expect("at one index");
    let taken = snapshot.sidecar.as_ref().expect("bootstrapped");
    assert!(taken.keys.values().all(|key| key.local_epoch == LocalEpoch(0)));
    let mut world = with_epochs(4, NOW + 60, &[(1, 3), (5, u16::MAX)]);
    assert_eq!(install(&mut world, &snapshot), Ok(()));
    for _ in 0..2 {
        let sidecar = world.node().sidecar().expect("bootstrapped");
        let own: Vec<_> = sidecar
            .keys
            .iter()
            .map(|(id, key)| (id.get(), key.local_epoch.0, key.created.as_str()))
            .collect();
        let (before, new) = ("2020-01-01T00:01:00Z", "2020-01-01T00:00:00Z");
        assert_eq!(own, [(1, 3, before), (2, 0, before), (5, u16::MAX, before), (6, 0, new)]);
        world.restart();
    }
    let mut fresh = World::started();
    // Also if it was never read from bytes, which would have refused it.
    let with_own = Snapshot { sidecar: source.node().sidecar().cloned(), ..snapshot };
    assert_eq!(install(&mut fresh, &with_own), Ok(()));
    let sidecar = fresh.node().sidecar().expect("installed");
    assert!(sidecar.keys.values().all(|key| key.local_epoch == LocalEpoch(0)));
}

#[test]
fn a_promise_outlives_an_install() {
    let mut world = World::started();
    let own = world.node().capability().expect("nothing fails").keyring.expect("it has a keyring");
    let capability = world.node_mut().promise(own, 0).expect("nothing fails");
    let promise = capability.keyring;
    assert_eq!(install(&mut world, &sources()[9].0), Ok(()));
    assert_eq!(world.lasting().local.kek, promise);
    assert!(promise.is_some());
}

/// Nodes behind their snapshot: how many entries they have applied, and where it was taken.
const BEHIND: [(usize, usize); 5] = [(0, 2), (0, 9), (2, 5), (4, 9), (6, 7)];

/// A node whose install did not get past its sidecar.
fn torn(own: usize, snapshot: &Snapshot) -> World {
    let mut world = after(own);
    let before = world.lasting();
    world.registry.borrow_mut().commit = Some(CommitFault::Absent);
    let halted = InstallError::Halted(HaltCause::Commit(commit_error()));
    assert_eq!(install(&mut world, snapshot), Err(halted));
    world.check_poisoned(own as u64 + 1, &bootstrap());
    let after = world.lasting();
    assert_eq!((after.keys, after.held, after.applied), (before.keys, before.held, before.applied));
    assert_eq!((after.registry, after.local.sidecar_index), (before.registry, before.local.sidecar_index));
    assert_ne!(after.disk, before.disk);
    world.restart();
    world
}

#[test]
fn memory_changes_last_and_an_install_that_did_not_get_there_takes_no_snapshot_and_admits_nothing() {
    let sources = sources();
    for (own, at) in BEHIND {
        let world = torn(own, &sources[at].0);
        let sidecar = world.node().sidecar().expect("written").raft_applied_index;
        let ahead = ApplyError::SidecarAhead { sidecar, applied: RaftIndex(own as u64) };
        assert_eq!(world.node().snapshot(), Err(ahead.clone()));
        assert_eq!(world.node().admit(&bootstrap().encode(), &[]), Admission::Failed(ahead));
    }
}

#[test]
fn after_a_crash_in_between_the_entries_one_by_one_end_where_they_always_end() {
    let sources = sources();
    let end = &sources.last().expect("the whole log").1;
    for (own, at) in BEHIND {
        for restarts in [false, true] {
            let mut world = torn(own, &sources[at].0);
            for (len, (_, expected)) in sources.iter().enumerate().skip(own + 1) {
                assert!(deliver(&mut world, &log()[..len]));
                if restarts {
                    world.restart();
                }
                assert_eq!(world.lasting().registry, expected.registry);
            }
            assert_eq!(world.lasting(), *end);
        }
    }
}

#[test]
fn after_a_crash_in_between_a_second_install_of_the_same_or_of_another_snapshot_converges() {
    let sources = sources();
    let end = &sources.last().expect("the whole log").1;
    for (own, at) in BEHIND {
        for again in own + 1..=log().len() {
            let mut world = torn(own, &sources[at].0);
            let (snapshot, expected) = &sources[again];
            assert_eq!(install(&mut world, snapshot), Ok(()), "{own} {at} {again}");
            if again >= at {
                check_converged(&mut world, (expected, end));
            } else {
                // An older one leaves the sidecar ahead.
                assert_eq!(world.lasting().registry, expected.registry);
                assert!(deliver(&mut world, &log()));
                assert_eq!(world.lasting(), *end);
            }
        }
    }
}

#[test]
fn an_install_behind_a_rollback_leaves_a_sidecar_that_is_ahead_of_it() {
    let sources = sources();
    let end = &sources.last().expect("the whole log").1;
    for back_to in 0..log().len() {
        for (at, (snapshot, expected)) in sources.iter().enumerate().skip(back_to + 1) {
            let mut world = after(log().len());
            let past = &sources[back_to].1.registry;
            world.node_mut().restore(past, &mut |_| Ok(())).expect("a snapshot of its own past");
            assert_eq!(install(&mut world, snapshot), Ok(()), "{back_to} {at}");
            for _ in 0..2 {
                let here = world.lasting();
                assert_eq!(
                    (&here.registry, here.local.sidecar_index),
                    (&expected.registry, end.local.sidecar_index)
                );
                assert_eq!((&here.disk, &here.keys, &here.held), (&end.disk, &end.keys, &end.held));
                world.restart();
            }
            assert!(deliver(&mut world, &log()));
            assert_eq!(world.lasting(), *end);
        }
    }
}

/// Lets every mutating call of an install fail in turn: on a fresh node, on one whose sidecar changes and on one whose
/// sidecar stays the same.
fn sweep(fault: impl Fn(usize) -> Fault) {
    let sources = sources();
    let end = &sources.last().expect("the whole log").1;
    for (own, at) in [(0, 9), (6, 7), (7, 9)] {
        let (snapshot, expected) = &sources[at];
        for n in 0.. {
            let mut world = after(own);
            let before = world.lasting();
            world.files.arm(fault(n));
            let result = install(&mut world, snapshot);
            let hit = world.files.disarm() > 0;
            match result {
                Ok(()) => assert!(!world.node().is_poisoned()),
                Err(InstallError::Halted(_)) => {
                    assert!(hit, "only a fault stops an install");
                    world.check_poisoned(own as u64 + 1, &bootstrap());
                    assert_eq!(world.keys(), before.keys);
                    world.restart();
                    if world.node().applied_index() < snapshot.registry.applied_index {
                        assert_eq!(install(&mut world, snapshot), Ok(()), "{own} {at}, call {n}");
                    }
                }
                Err(other) => panic!("{own} {at}, call {n}: {other}"),
            }
            check_converged(&mut world, (expected, end));
            if !hit {
                assert!(n > 10, "{n} calls are too few to be a whole install");
                break;
            }
        }
    }
}

#[test]
fn a_call_of_an_install_that_fails_without_effect_does_no_lasting_harm() {
    sweep(|n| Fault::nth(n, EIO, Effect::Absent));
}

#[test]
fn a_call_of_an_install_that_takes_effect_and_reports_an_error_does_no_lasting_harm() {
    sweep(|n| Fault::nth(n, EIO, Effect::Present));
}

#[test]
fn a_disk_that_dies_in_an_install_does_no_lasting_harm() {
    sweep(|n| Fault::nth(n, EIO, Effect::Absent).lasting());
}

#[test]
fn an_install_whose_commit_failed_has_happened_or_not() {
    let sources = sources();
    let end = &sources.last().expect("the whole log").1;
    for (own, at) in BEHIND {
        let (snapshot, expected) = &sources[at];
        for (fault, applied) in [(CommitFault::Absent, own), (CommitFault::Present, at)] {
            let mut world = after(own);
            world.registry.borrow_mut().commit = Some(fault);
            let halted = InstallError::Halted(HaltCause::Commit(commit_error()));
            assert_eq!(install(&mut world, snapshot), Err(halted));
            world.check_poisoned(own as u64 + 1, &bootstrap());
            world.restart();
            assert_eq!(world.node().applied_index(), RaftIndex(applied as u64));
            if fault == CommitFault::Absent {
                assert_eq!(install(&mut world, snapshot), Ok(()));
            }
            check_converged(&mut world, (expected, end));
        }
    }
}

#[test]
fn the_sidecar_goes_first_also_where_it_stays_the_same_and_each_barrier_is_in_its_place() {
    // Between 7 and 9 no entry changes the sidecar.
    for own in [0, 7] {
        let mut world = after(own);
        let snapshot = &sources()[9].0;
        let (from, commits) = (world.files.calls(), world.registry.borrow().commits);
        assert_eq!(install(&mut world, snapshot), Ok(()));
        assert_eq!(world.registry.borrow().commits, commits + 1, "one transaction");
        let log = world.files.log_since(from);
        let tmp = "keys.json.tmp";
        let protocol = [
            (Op::Unlink, tmp),
            (Op::Create, tmp),
            (Op::Write, tmp),
            (Op::Sync, tmp),
            (Op::Close, tmp),
            (Op::Rename, "keys.json"),
            (Op::SyncDir, "encryption"),
        ];
        let expected: Vec<_> = protocol.map(|(op, name)| (op, name.to_owned())).into();
        assert_eq!(log[..expected.len()], expected);
        assert!(log[expected.len()..].iter().all(|(_, name)| name == "registry.redb"), "{log:?}");
        assert_eq!(log.last().map(|(op, _)| *op), Some(Op::DbSync), "durable before it says so");
    }
}

#[test]
fn the_hosts_part_is_in_the_transaction_of_an_install() {
    const TABLE: TableDefinition<u64, u64> = TableDefinition::new("host");
    let written = |world: &World| {
        let view = world.node().registry().database().begin_read().expect("an open database");
        let table = view.open_table(TABLE).ok()?;
        table.get(1).expect("an open table").map(|value| value.value())
    };
    let (snapshot, expected) = &sources()[9];
    let mut world = after(2);
    for refuses in [true, false] {
        let result = world.node_mut().install(snapshot, &mut |transaction: &redb::WriteTransaction| {
            let mut table = transaction.open_table(TABLE).expect("a fresh transaction");
            table.insert(1, 10).expect("an open table");
            if refuses { Err(HostRefused("no".to_owned())) } else { Ok(()) }
        });
        let cause = CommitError(HostRefused("no".to_owned()).to_string());
        let refused = InstallError::Halted(HaltCause::Commit(cause));
        assert_eq!(result, if refuses { Err(refused) } else { Ok(()) });
        world.restart();
        assert_eq!(written(&world), (!refuses).then_some(10));
    }
    assert_eq!(world.lasting(), *expected);
}

#[test]
fn readers_have_every_key_of_an_install_and_keep_those_that_they_had() {
    let mut world = after(2);
    let reader = world.node().keystore().clone();
    assert_eq!(install(&mut world, &sources()[9].0), Ok(()));
    assert_eq!(reader.ids(), [id(1), id(2), id(5), id(6)]);
    assert_eq!(reader.dek(id(5)), Some(dek(5)));
    assert_eq!(world.node().active(Purpose::Raft), Some(id(6)));
    assert_eq!(world.apply(10, &rotation(7, Purpose::Storage)), Outcome::Applied);
}

/// Nodes without a keyring take registrations by the row rules alone, and a cluster may have been one of those.
#[test]
fn a_row_for_a_key_that_nobody_has_comes_along() {
    let mut snapshot = sources()[9].0.clone();
    let (key, row) = seen(9, N1, 0, 0);
    snapshot.registry.rows.insert(key, row);
    let mut world = World::started();
    assert_eq!(install(&mut world, &snapshot), Ok(()));
    assert_eq!(world.lasting().registry, snapshot.registry);
}
