//! Errors past the first mutating call: the applier halts, says how far it came, and the next life finishes the work.

use applier::fault::IoFault;
use applier::outcome::HaltCause;
use applier::sidecar::file::WriteFault;
use applier::wire::Entry;
use applier::{Outcome, Purpose};

use crate::harness::{CommitFault, EIO, ENOSPC, Effect, Fault, Op, World, bootstrap, commit_error, rotation};

/// The steps of the sidecar's protocol: the call, the end of its path, its name in a fault, and whether the old
/// content is for sure still in place when it fails.
const STEPS: [(Op, &str, &str, bool); 7] = [
    (Op::Unlink, "keys.json.tmp", "remove", true),
    (Op::Create, "keys.json.tmp", "create", true),
    (Op::Write, "keys.json.tmp", "write", true),
    (Op::Sync, "keys.json.tmp", "sync", true),
    (Op::Close, "keys.json.tmp", "close", true),
    (Op::Rename, "keys.json", "rename to", false),
    (Op::SyncDir, "encryption", "sync the directory", false),
];

/// A node before the entry, and the entry.
fn cases() -> [(World, u64, Entry); 2] {
    [(World::started(), 1, bootstrap()), (World::with(&[bootstrap()]), 2, rotation(5, Purpose::Storage))]
}

#[track_caller]
fn check_step((op, path_end, call, unchanged): (Op, &str, &'static str, bool), errno: i32, effect: Effect) {
    for (mut world, index, entry) in cases() {
        let before = world.lasting();
        world.files.arm(Fault::named(op, path_end, errno, effect));
        let outcome = world.apply(index, &entry);
        let Outcome::Halted(HaltCause::Sidecar(WriteFault { fault, unchanged: found })) = outcome else {
            panic!("{op:?} must halt: {outcome:?}");
        };
        assert_eq!(world.files.disarm(), 1);
        let IoFault { call: found_call, path, errno: found_errno, .. } = &fault;
        assert!(path.ends_with(path_end), "{path}");
        assert_eq!((*found_call, *found_errno, found), (call, Some(errno), unchanged));
        let after = world.lasting();
        assert_eq!(after.keys == before.keys, unchanged, "memory keeps the keys once they may be durable");
        assert!(after.keys.len() > before.keys.len() || unchanged);
        assert_eq!(after.disk == before.disk, unchanged, "{op:?} {effect:?}");
        assert_eq!(
            (&after.registry, after.local.sidecar_index),
            (&before.registry, before.local.sidecar_index),
            "the registry goes last"
        );
        assert_eq!((&after.active, &after.held), (&before.active, &before.held));
        world.check_poisoned(index, &entry);
        world.restart();
        assert_eq!(world.apply(index, &entry), Outcome::Applied);
        let (mut calm, _, _) = cases().into_iter().nth(index as usize - 1).expect("one of two");
        assert_eq!(calm.apply(index, &entry), Outcome::Applied);
        assert_eq!(world.lasting(), calm.lasting());
    }
}

#[test]
fn a_failed_step_before_the_rename_is_undone_and_a_later_one_is_kept() {
    for step in STEPS {
        for (errno, effect) in [(EIO, Effect::Absent), (ENOSPC, Effect::Absent)] {
            // A rename that failed without effect leaves the old file and the new temporary one.
            check_step(step, errno, effect);
        }
    }
}

#[test]
fn a_step_that_took_effect_and_reported_an_error_is_treated_alike() {
    for step in STEPS {
        if step.0 == Op::Unlink {
            // There is nothing to unlink: the call that took effect would have reported that.
            continue;
        }
        check_step(step, EIO, Effect::Present);
    }
}

#[test]
fn a_failed_commit_leaves_memory_and_sidecar_with_the_keys_and_the_next_life_finishes() {
    for fault in [CommitFault::Absent, CommitFault::Present] {
        for (mut world, index, entry) in cases() {
            let before = world.lasting();
            world.registry.borrow_mut().commit = Some(fault);
            assert_eq!(world.apply(index, &entry), Outcome::Halted(HaltCause::Commit(commit_error())));
            world.check_poisoned(index, &entry);
            assert!(world.keys().len() > before.keys.len());
            assert_ne!(world.disk(), before.disk);
            assert_eq!(world.node().applied_index(), before.applied);
            let (disk, keys) = (world.disk(), world.keys());
            world.restart();
            assert_eq!((world.disk(), world.keys()), (disk, keys));
            assert!(world.apply(index, &entry).advances());
            let (mut calm, _, _) = cases().into_iter().nth(index as usize - 1).expect("one of two");
            assert_eq!(calm.apply(index, &entry), Outcome::Applied);
            assert_eq!(world.lasting(), calm.lasting());
        }
    }
}

#[test]
fn readers_keep_their_keys_while_the_applier_is_halted() {
    let mut world = World::with(&[bootstrap()]);
    world.files.arm(Fault::named(Op::Sync, "keys.json.tmp", EIO, Effect::Absent));
    assert!(matches!(world.apply(2, &rotation(5, Purpose::Storage)), Outcome::Halted(_)));
    let active = world.node().active(Purpose::Storage).expect("bootstrapped");
    assert!(world.node().keystore().aead(active).is_some());
}

#[test]
fn keystore_then_sidecar_then_registry_and_each_barrier_in_its_place() {
    let mut world = World::started();
    let from = world.files.calls();
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
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
    let rest = &log[expected.len()..];
    assert!(rest.iter().all(|(_, name)| name == "registry.redb"), "{rest:?}");
    assert!(rest.iter().filter(|(op, _)| *op == Op::DbSync).count() >= 2, "a two-phase commit: {rest:?}");
    assert_eq!(rest.last().map(|(op, _)| *op), Some(Op::DbSync), "durable before it says so");
}
