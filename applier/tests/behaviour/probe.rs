//! The probe of the sidecar's filesystem: it makes the calls of a durable write, says which of them cannot be done, and
//! leaves nothing, or nothing that outlives the next one.

use std::io;

use applier::fault::IoFault;
use applier::os::OsFiles;
use applier::outcome::StartError;
use applier::ports::Files;
use applier::preflight::{Flags, preflight};
use applier::probe::probe;

use crate::harness::{EIO, ENOSPC, Effect, Fault, Op, World, bootstrap};
use crate::preflight::{flags, try_start};

const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOTSUP: i32 = 95;

const TMP: &str = "keys.json.probe.tmp";
const FINAL: &str = "keys.json.probe";

/// A node with keys that has stopped, and its flags.
fn stopped() -> (World, Flags) {
    let mut world = World::with(&[bootstrap()]);
    world.stop();
    let flags = flags(&world);
    (world, flags)
}

#[test]
fn the_probe_makes_the_calls_of_a_durable_write_and_leaves_nothing() {
    let (world, _) = stopped();
    let (from, before) = (world.files.calls(), world.disk());
    assert_eq!(probe(&world.files, &world.sidecar_path()), Ok(()));
    let log = world.files.log_since(from);
    let log: Vec<_> = log.iter().map(|(op, name)| (*op, name.as_str())).collect();
    let expected = [
        (Op::Unlink, FINAL),
        (Op::Unlink, TMP),
        (Op::Create, TMP),
        (Op::Write, TMP),
        (Op::Sync, TMP),
        (Op::Close, TMP),
        (Op::Rename, FINAL),
        (Op::SyncDir, "encryption"),
        (Op::Unlink, FINAL),
    ];
    assert_eq!(log, expected);
    assert_eq!(world.disk(), before);
}

/// What a start comes to whose probe meets this fault. Nothing is left of the probe, nothing else has changed, and the
/// start succeeds once the fault is gone.
#[track_caller]
fn probe_with(op: Op, path_end: &str, errno: i32, effect: Effect) -> StartError {
    let (mut world, flags) = stopped();
    let before = world.disk();
    world.files.arm(Fault::named(op, path_end, errno, effect));
    let error = try_start(&mut world, &flags).expect_err("a call of the probe failed");
    assert_eq!(world.files.disarm(), 1);
    let mut after = world.disk();
    if op == Op::Unlink {
        // What cannot be removed stays, and is removed by the next one.
        after.retain(|name, _| ![TMP, FINAL].contains(&name.as_str()));
    }
    assert_eq!(after, before);
    assert_eq!(try_start(&mut world, &flags), Ok(()));
    assert_eq!(world.disk(), before);
    error
}

#[test]
fn a_sync_that_fails_is_an_unsupported_filesystem_with_the_call_and_its_errno() {
    for (op, path_end, call) in [(Op::Sync, TMP, "sync"), (Op::SyncDir, "encryption", "sync the directory")] {
        for errno in [EINVAL, ENOTSUP, EIO] {
            for effect in [Effect::Absent, Effect::Present] {
                match probe_with(op, path_end, errno, effect) {
                    StartError::UnsupportedFilesystem(fault) => {
                        assert_eq!((fault.call, fault.errno), (call, Some(errno)));
                        assert!(fault.path.ends_with(path_end), "{fault:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn every_other_call_that_fails_is_named_with_its_errno() {
    let calls = [
        (Op::Unlink, FINAL, EACCES, "remove"),
        (Op::Unlink, TMP, EACCES, "remove"),
        (Op::Create, TMP, EACCES, "create"),
        (Op::Write, TMP, ENOSPC, "write"),
        (Op::Close, TMP, EIO, "close"),
        (Op::Rename, FINAL, EIO, "rename to"),
    ];
    for (op, path_end, errno, call) in calls {
        for effect in [Effect::Absent, Effect::Present] {
            match probe_with(op, path_end, errno, effect) {
                StartError::Io(fault) => {
                    assert_eq!((fault.call, fault.errno), (call, Some(errno)), "{op:?}");
                    assert!(fault.path.ends_with(path_end), "{fault:?}");
                }
                other => panic!("{op:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_full_filesystem_is_called_one_and_starts_once_there_is_room() {
    match probe_with(Op::Write, TMP, ENOSPC, Effect::Absent) {
        StartError::Io(fault) => assert_eq!(fault.kind, io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_probe_that_cannot_remove_what_it_wrote_says_so() {
    let (world, _) = stopped();
    // The third and last removal.
    world.files.arm(Fault::nth(8, EACCES, Effect::Absent));
    match probe(&world.files, &world.sidecar_path()) {
        Err(StartError::Io(fault)) => assert_eq!((fault.call, fault.errno), ("remove", Some(EACCES))),
        other => panic!("{other:?}"),
    }
    assert!(world.disk().contains_key(FINAL));
    assert_eq!(probe(&world.files, &world.sidecar_path()), Ok(()));
    assert!(!world.disk().contains_key(FINAL));
}

#[test]
fn a_missing_directory_is_refused_until_it_is_there() {
    let mut world = World::new();
    let flags = flags(&world);
    std::fs::remove_dir(world.path("encryption")).expect("it is empty");
    match try_start(&mut world, &flags) {
        Err(StartError::Io(fault)) => assert_eq!(fault.kind, io::ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
    std::fs::create_dir(world.path("encryption")).expect("a writable directory");
    assert_eq!(try_start(&mut world, &flags), Ok(()));
}

#[test]
fn what_a_probe_left_behind_is_removed_by_the_next_one_and_nothing_else_is() {
    let (mut world, flags) = stopped();
    let path = world.sidecar_path();
    let others = [path.clone() + ".tmp", path.clone() + ".bak", world.path("encryption/other.probe")];
    for other in &others {
        std::fs::write(other, "not a probe's").expect("a writable directory");
    }
    let before = world.disk();
    for left in [[TMP].as_slice(), &[FINAL], &[TMP, FINAL]] {
        for name in left {
            std::fs::write(world.path("encryption/") + name, "half a file").expect("a writable directory");
        }
        assert!(preflight(&world.files, &flags).is_ok());
        assert_eq!(world.disk(), before);
    }
    assert_eq!(try_start(&mut world, &flags), Ok(()));
}

#[test]
fn a_crash_at_any_call_of_a_probe_leaves_nothing_that_a_later_probe_or_start_refuses() {
    for effect in [Effect::Absent, Effect::Present] {
        for n in 0.. {
            let (mut world, flags) = stopped();
            let before = world.disk();
            // Nothing takes effect any more from this call on, as if the process had ended.
            world.files.arm(Fault::nth(n, EIO, effect).lasting());
            let probed = probe(&world.files, &world.sidecar_path());
            if world.files.disarm() == 0 {
                assert_eq!((probed, n), (Ok(()), 9), "every call of the probe was the last one once");
                break;
            }
            assert!(probed.is_err());
            let left = world.disk();
            // A start whose operator makes no probe minds no leftover,
            assert_eq!(world.try_restart(), Ok(()), "call {n}");
            // and the next probe removes it.
            for (name, bytes) in left {
                std::fs::write(world.path("encryption/") + &name, bytes).expect("a writable directory");
            }
            assert_eq!(try_start(&mut world, &flags), Ok(()), "call {n}");
            assert_eq!(world.disk(), before);
        }
    }
}

#[test]
fn of_two_starts_at_once_one_is_refused_until_the_other_is_done() {
    let (mut world, flags) = stopped();
    let dir = world.path("encryption");
    let other = OsFiles.lock_dir(&dir).expect("nobody else has it");
    let from = world.files.calls();
    match try_start(&mut world, &flags) {
        Err(StartError::Io(IoFault { call: "lock the directory", kind, path, .. })) => {
            assert_eq!((kind, path), (io::ErrorKind::WouldBlock, dir));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.files.calls(), from, "the other's file is not taken for a leftover");
    drop(other);
    assert_eq!(try_start(&mut world, &flags), Ok(()));
}
