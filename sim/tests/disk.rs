//! The disk as programs and the world around them see it: calls, counts, faults, lies, lives.

use std::io;

use sim::{
    Choices, Disk, Errno, Exhaustive, Fate, Fault, Lies, Needles, OpInfo, OpKind, Profile, Trace,
    errno::{EEXIST, EFBIG, EINVAL, EIO, EISDIR, ENOENT, ENOSPC, ENOTDIR, EXDEV},
};

fn calm() -> Choices {
    Choices::bytes(&[])
}

#[track_caller]
fn fails_with<T>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.err().expect("the call fails").raw_os_error(), Some(errno));
}

/// A disk with a durable file `/a` that says `old`.
fn with_durable_a() -> Disk {
    let disk = Disk::default();
    let mount = disk.mount();
    let file = mount.create_new("/a").unwrap();
    file.write_at(0, b"old").unwrap();
    file.sync().unwrap();
    mount.sync_dir("/").unwrap();
    disk
}

fn enumerate(disk: &Disk, mut look: impl FnMut(&Disk)) -> u64 {
    let mut walk = Exhaustive::new();
    while let Some(mut choices) = walk.begin() {
        let survivor = disk.fork();
        survivor.power_loss(&mut choices);
        look(&survivor);
        walk.end(choices).unwrap();
    }
    walk.visited()
}

#[test]
fn errors_carry_their_numbers() {
    let mount = Disk::default().mount();
    let file = mount.create_new("/f").unwrap();
    mount.mkdir("/d").unwrap();
    mount.mkdir("/e").unwrap();
    fails_with(mount.create_new("/f"), EEXIST);
    fails_with(mount.mkdir("/d"), EEXIST);
    fails_with(mount.create_new("/no/f"), ENOENT);
    fails_with(mount.create_new("/f/g"), ENOTDIR);
    fails_with(mount.open("/no"), ENOENT);
    fails_with(mount.open("/d"), EISDIR);
    fails_with(mount.open("f"), EINVAL);
    fails_with(mount.open("/d/../f"), EINVAL);
    fails_with(mount.create_new("/"), EINVAL);
    fails_with(mount.unlink("/no"), ENOENT);
    fails_with(mount.unlink("/d"), EISDIR);
    fails_with(mount.rename("/no", "/f"), ENOENT);
    fails_with(mount.rename("/f", "/d/f"), EXDEV);
    fails_with(mount.rename("/f", "/d"), EISDIR);
    fails_with(mount.rename("/d", "/f"), ENOTDIR);
    fails_with(mount.rename("/d", "/e"), EEXIST);
    fails_with(mount.sync_dir("/f"), ENOTDIR);
    fails_with(mount.sync_dir("/no"), ENOENT);
    fails_with(mount.list("/f"), ENOTDIR);
    fails_with(mount.len("/d"), EISDIR);
    fails_with(file.set_len(u64::MAX), EFBIG);
    fails_with(file.write_at(u64::MAX, b"x"), EFBIG);
    assert_eq!(mount.len("/no").unwrap(), None);
    assert_eq!(mount.len("/f").unwrap(), Some(0));
    assert_eq!(mount.list("/").unwrap(), ["d", "e", "f"]);
}

#[test]
fn an_open_file_outlives_its_name() {
    let disk = with_durable_a();
    let mount = disk.mount();
    let file = mount.open("/a").unwrap();
    mount.unlink("/a").unwrap();
    mount.sync_dir("/").unwrap();
    file.write_at(3, b"er").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"older");
    assert!(!disk.exists("/a"));
}

#[test]
fn counts_are_exact() {
    let disk = Disk::default();
    let mount = disk.mount();
    let file = mount.create_new("/f").unwrap();
    file.write_at(0, b"1").unwrap();
    file.set_len(9).unwrap();
    file.sync().unwrap();
    mount.rename("/f", "/g").unwrap();
    mount.mkdir("/d").unwrap();
    mount.sync_dir("/").unwrap();
    mount.unlink("/g").unwrap();
    assert_eq!((disk.calls(), disk.mutations()), (8, 8));
    // A mutating call counts when it is issued, whatever comes of it.
    fails_with(mount.unlink("/g"), ENOENT);
    file.write_at(0, b"").unwrap();
    assert_eq!((disk.calls(), disk.mutations()), (10, 10));
    mount.open("/d").unwrap_err();
    mount.len("/f").unwrap();
    mount.list("/").unwrap();
    file.len().unwrap();
    file.read_at(0, &mut [0]).unwrap();
    assert_eq!((disk.calls(), disk.mutations()), (15, 10));
    disk.peek("/f");
    disk.exists("/f");
    disk.snapshot();
    assert_eq!((disk.calls(), disk.mutations()), (15, 10));
}

#[test]
fn an_old_mount_changes_nothing() {
    for power in [false, true] {
        let disk = with_durable_a();
        let old = disk.mount();
        let file = old.open("/a").unwrap();
        if power {
            disk.power_loss(&mut calm());
        } else {
            disk.process_crash();
        }
        let before = (disk.snapshot(), disk.calls(), disk.mutations(), disk.trace().hash());
        fails_with(file.write_at(0, b"ghost"), EIO);
        fails_with(file.set_len(0), EIO);
        fails_with(file.sync(), EIO);
        fails_with(file.read_at(0, &mut [0]), EIO);
        fails_with(old.create_new("/b"), EIO);
        fails_with(old.unlink("/a"), EIO);
        fails_with(old.sync_dir("/"), EIO);
        assert_eq!((disk.snapshot(), disk.calls(), disk.mutations(), disk.trace().hash()), before);
        assert_eq!(disk.mount().open("/a").unwrap().len().unwrap(), 3);
    }
}

#[test]
fn a_process_crash_keeps_what_a_later_power_loss_decides() {
    let disk = with_durable_a();
    disk.mount().open("/a").unwrap().write_at(0, b"new").unwrap();
    disk.process_crash();
    // The next life sees what was only cached, and builds on it.
    let mount = disk.mount();
    assert_eq!(disk.peek("/a").unwrap(), b"new");
    let file = mount.create_new("/b").unwrap();
    file.sync().unwrap();
    mount.sync_dir("/").unwrap();
    assert_eq!(disk.pending_len(), 1);
    let mut seen = Vec::new();
    let crashes = enumerate(&disk, |survivor| {
        assert!(survivor.exists("/b"));
        seen.push(survivor.peek("/a").unwrap());
    });
    assert_eq!((crashes, seen), (2, vec![b"new".to_vec(), b"old".to_vec()]));
}

#[test]
fn the_call_of_the_number_given_is_the_first_not_performed() {
    let disk = with_durable_a();
    let mount = disk.mount();
    let start = disk.mutations();
    disk.arm(Fault::DieAtMutation(start + 1));
    let file = mount.open("/a").unwrap();
    file.write_at(0, b"one").unwrap();
    let before = disk.snapshot();
    fails_with(file.write_at(0, b"two"), EIO);
    fails_with(file.read_at(0, &mut [0]), EIO);
    fails_with(mount.list("/"), EIO);
    assert!(disk.is_dead());
    assert_eq!(disk.died_at(), Some(OpInfo { kind: OpKind::Write, path: "/a".into() }));
    assert_eq!(disk.mutations(), start + 1);
    assert_eq!(disk.snapshot(), before);
    fails_with(disk.mount().open("/a"), EIO);

    let report = disk.power_loss(&mut calm());
    assert_eq!(report.died_at, Some(OpInfo { kind: OpKind::Write, path: "/a".into() }));
    assert!(!disk.is_dead() && disk.died_at().is_none());
    assert_eq!(disk.peek("/a").unwrap(), b"one");
    disk.mount().open("/a").unwrap().write_at(0, b"two").unwrap();
}

#[test]
fn dying_at_the_current_count_hits_the_very_next_mutation() {
    let disk = with_durable_a();
    disk.arm(Fault::DieAtMutation(disk.mutations()));
    assert_eq!(disk.mount().len("/a").unwrap(), Some(3));
    fails_with(disk.mount().unlink("/a"), EIO);
    disk.process_crash();
    assert!(disk.exists("/a"));
}

#[test]
fn an_io_error_hits_one_call_and_changes_nothing() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    disk.arm(Fault::ErrorAtCall { call: disk.calls() + 1, errno: Errno::Eio });
    file.read_at(0, &mut [0]).unwrap();
    let before = (disk.snapshot(), disk.mutations());
    fails_with(file.write_at(0, b"new"), EIO);
    assert_eq!((disk.snapshot(), disk.mutations()), (before.0, before.1 + 1));
    assert_eq!(disk.last_fault(), Some((OpInfo { kind: OpKind::Write, path: "/a".into() }, Errno::Eio)));
    assert!(!disk.sync_failed() && !disk.is_dead());
    file.write_at(0, b"new").unwrap();
}

#[test]
fn a_reading_call_can_fail_too() {
    let disk = with_durable_a();
    disk.arm(Fault::ErrorAtCall { call: 0, errno: Errno::Eio });
    fails_with(disk.mount().open("/a"), EIO);
    disk.mount().open("/a").unwrap();
}

#[test]
fn a_full_disk_hits_only_what_consumes_space() {
    let disk = with_durable_a();
    let mount = disk.mount();
    let file = mount.open("/a").unwrap();
    let full = || disk.arm(Fault::ErrorAtCall { call: 0, errno: Errno::Enospc });
    full();
    file.set_len(2).unwrap();
    file.sync().unwrap();
    mount.rename("/a", "/b").unwrap();
    mount.sync_dir("/").unwrap();
    let before = disk.snapshot();
    fails_with(file.set_len(3), ENOSPC);
    full();
    fails_with(file.write_at(0, b"x"), ENOSPC);
    full();
    fails_with(mount.create_new("/c"), ENOSPC);
    full();
    fails_with(mount.mkdir("/c"), ENOSPC);
    assert_eq!(disk.snapshot(), before);
    full();
    disk.disarm();
    file.write_at(0, b"x").unwrap();
}

#[test]
fn a_failed_sync_leaves_everything_pending_and_is_known() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    disk.arm(Fault::ErrorAtCall { call: disk.calls(), errno: Errno::Eio });
    fails_with(file.sync(), EIO);
    assert!(disk.sync_failed());
    assert_eq!(disk.pending_len(), 1);
    disk.power_loss(&mut calm());
    assert!(!disk.sync_failed() && disk.last_fault().is_none());
}

#[test]
fn a_fork_is_independent() {
    let disk = with_durable_a();
    disk.mount().open("/a").unwrap().write_at(0, b"new").unwrap();
    let (fork, hash) = (disk.fork(), disk.trace().hash());
    assert_eq!(fork.snapshot(), disk.snapshot());
    fork.mount().unlink("/a").unwrap();
    fork.power_loss(&mut calm());
    assert_eq!(disk.peek("/a").unwrap(), b"new");
    assert_eq!((disk.pending_len(), disk.trace().hash()), (1, hash));
    disk.mount().open("/a").unwrap().write_at(0, b"own").unwrap();
    assert!(!fork.exists("/a"));
}

#[test]
fn snapshots_are_equal_by_content_and_not_by_history() {
    let straight = with_durable_a();
    let winding = Disk::default();
    let mount = winding.mount();
    for name in ["/x", "/y"] {
        mount.create_new(name).unwrap().write_at(0, b"gone").unwrap();
        mount.unlink(name).unwrap();
    }
    let file = mount.create_new("/z").unwrap();
    file.write_at(0, b"old, and more").unwrap();
    file.set_len(3).unwrap();
    file.sync().unwrap();
    mount.rename("/z", "/a").unwrap();
    assert_ne!(winding.snapshot(), straight.snapshot());
    mount.sync_dir("/").unwrap();
    assert_eq!(winding.snapshot(), straight.snapshot());
    assert_eq!(winding.snapshot().digest(), straight.snapshot().digest());
    file.write_at(0, b"n").unwrap();
    straight.mount().open("/a").unwrap().write_at(0, b"n").unwrap();
    assert_eq!(winding.snapshot(), straight.snapshot());
    assert_eq!(winding.snapshot().digest(), straight.snapshot().digest());
    straight.mount().open("/a").unwrap().write_at(0, b"n").unwrap();
    assert_ne!(winding.snapshot(), straight.snapshot());
    assert_ne!(winding.snapshot().digest(), straight.snapshot().digest());
}

#[test]
fn what_comes_after_a_power_loss_depends_on_content_only() {
    let after = |disk: &Disk| {
        disk.power_loss(&mut calm());
        let trace = Trace::keeping();
        disk.set_trace(trace.clone());
        let mount = disk.mount();
        mount.open("/a").unwrap().write_at(0, &[1; 700]).unwrap();
        mount.create_new("/b").unwrap().write_at(0, &[2; 700]).unwrap();
        let mut choices = Choices::seeded(5);
        disk.power_loss(&mut choices);
        (trace.hash(), trace.lines(), choices.finish().unwrap().to_string())
    };
    let straight = with_durable_a();
    let winding = with_durable_a();
    let mount = winding.mount();
    for _ in 0..2 {
        let file = mount.create_new("/t").unwrap();
        file.write_at(0, b"old").unwrap();
        file.sync().unwrap();
        mount.rename("/t", "/a").unwrap();
    }
    assert_eq!(after(&winding), after(&straight));
}

#[test]
fn a_lying_file_sync_loses_synced_data() {
    let disk = Disk::with(Profile::Posix, Lies { skip_file_sync: true, ..Lies::NONE }, Trace::hashing());
    let mount = disk.mount();
    let file = mount.create_new("/a").unwrap();
    mount.sync_dir("/").unwrap();
    file.write_at(0, b"data").unwrap();
    file.sync().unwrap();
    let mut lost = false;
    enumerate(&disk, |survivor| lost |= survivor.peek("/a").unwrap() != b"data");
    assert!(lost);
}

#[test]
fn a_lying_directory_sync_loses_synced_names() {
    let disk = Disk::with(Profile::Posix, Lies { skip_dir_sync: true, ..Lies::NONE }, Trace::hashing());
    let mount = disk.mount();
    mount.create_new("/a").unwrap();
    mount.sync_dir("/").unwrap();
    let mut lost = false;
    enumerate(&disk, |survivor| lost |= !survivor.exists("/a"));
    assert!(lost);
}

#[test]
fn a_rename_that_is_not_atomic_can_leave_neither_name() {
    let neither = |lies| {
        let disk = Disk::with(Profile::Posix, lies, Trace::hashing());
        let mount = disk.mount();
        for name in ["/a", "/t"] {
            mount.create_new(name).unwrap();
        }
        mount.sync_dir("/").unwrap();
        mount.rename("/t", "/a").unwrap();
        let mut seen = false;
        enumerate(&disk, |survivor| seen |= !survivor.exists("/a") && !survivor.exists("/t"));
        seen
    };
    assert!(neither(Lies { rename_not_atomic: true, ..Lies::NONE }));
    assert!(!neither(Lies::NONE));
}

#[test]
fn a_report_tells_each_fate() {
    let disk = with_durable_a();
    let mount = disk.mount();
    mount.open("/a").unwrap().write_at(0, &[1; 1024]).unwrap();
    mount.create_new("/b").unwrap().write_at(0, b"b").unwrap();
    // The name of b is lost; a's write is torn, its second sector old, and its length does not survive.
    let report = disk.power_loss(&mut Choices::bytes(&[1, 2, 0, 1, 1]));
    let fates: Vec<Fate> = report.iter().map(|(_, fate)| fate).collect();
    assert_eq!(fates, [Fate::Torn { new: 0b01, reach: 0 }, Fate::Dropped, Fate::Unreachable]);
    assert_eq!(
        report.to_string(),
        "write /a at 0, 1024 bytes, torn: new 512-byte sectors 0b1, length up to 0; \
         link b to inode 2 dropped; write /b at 0, 1 bytes, unreachable"
    );
    assert_eq!(disk.peek("/a").unwrap(), [1; 3]);
}

#[test]
fn watched_bytes_are_found_in_writes_across_writes_and_in_names() {
    let leak = |act: fn(&sim::Mount)| {
        let disk = Disk::default();
        disk.watch(&Needles::new(&[b"password".to_vec(), Vec::new(), b"secret".to_vec()]));
        act(&disk.mount());
        disk.leak().map(|leak| (leak.path, leak.offset, leak.needle))
    };
    assert_eq!(leak(|m| drop(m.create_new("/a").unwrap().write_at(0, b"harmless"))), None);
    let inside = leak(|m| drop(m.create_new("/a").unwrap().write_at(10, b"my secret")));
    assert_eq!(inside, Some(("/a".into(), 13, 2)));
    let across = leak(|m| {
        let file = m.create_new("/a").unwrap();
        file.write_at(8, b"ret").unwrap();
        file.write_at(5, b"sec").unwrap();
    });
    assert_eq!(across, Some(("/a".into(), 5, 2)));
    let name = leak(|m| {
        m.create_new("/a").unwrap();
        m.rename("/a", "/b-password").unwrap();
    });
    assert_eq!(name, Some(("/b-password".into(), 2, 0)));
}

#[test]
fn checkpoints_hold_the_state_before_each_mutation() {
    let disk = with_durable_a();
    disk.keep_checkpoints(true);
    let mount = disk.mount();
    let file = mount.open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap();
    mount.unlink("/a").unwrap();
    let checkpoints = disk.take_checkpoints();
    let kinds: Vec<OpKind> = checkpoints.iter().map(|checkpoint| checkpoint.op.kind).collect();
    assert_eq!(kinds, [OpKind::Write, OpKind::SyncFile, OpKind::Unlink]);
    let states: Vec<_> = checkpoints
        .iter()
        .map(|c| (c.disk.peek("/a").unwrap(), c.disk.pending_len(), c.disk.mutations()))
        .collect();
    assert_eq!(states, [(b"old".to_vec(), 0, 4), (b"new".to_vec(), 1, 5), (b"new".to_vec(), 0, 6)]);
}

#[test]
fn the_trace_tells_what_happened() {
    let trace = Trace::keeping();
    let disk = Disk::with(Profile::Posix, Lies::NONE, trace.clone());
    let mount = disk.mount();
    let file = mount.create_new("/a").unwrap();
    file.write_at(0, b"hi").unwrap();
    disk.arm(Fault::ErrorAtCall { call: 0, errno: Errno::Eio });
    file.sync().unwrap_err();
    disk.arm(Fault::DieAtMutation(disk.mutations()));
    file.set_len(1).unwrap_err();
    disk.power_loss(&mut calm());
    assert_eq!(
        trace.lines(),
        [
            "create /a",
            "write /a at 0, 2 bytes",
            "sync_file /a",
            "fault Eio at sync_file /a",
            "death before set_len /a",
            "power_loss link a to inode 1 kept; write /a at 0, 2 bytes, kept",
        ]
    );
    assert_eq!(trace.hash(), 11_433_957_255_788_565_766);
}
