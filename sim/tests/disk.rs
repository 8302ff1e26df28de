//! The disk as programs and the world around them see it: calls, counts, faults, lies, lives.

use std::io;

use sim::{
    Choices, Disk, Errno, Exhaustive, Fate, Fault, Lies, Needles, OpInfo, OpKind, Profile, SyncFailure,
    Trace,
    errno::{EEXIST, EFBIG, EINVAL, EIO, EISDIR, ENOENT, ENOSPC, ENOTDIR, EXDEV},
};

/// What a trace has recorded, a line each.
fn lines(trace: &Trace) -> Vec<String> {
    trace.events().iter().map(ToString::to_string).collect()
}

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
fn a_file_has_a_gibibyte_at_most() {
    let gibibyte = 1 << 30;
    let disk = Disk::default();
    let file = disk.mount().create_new("/a").unwrap();
    assert_eq!(file.write_at(gibibyte - 1, b"x").unwrap(), 1);
    fails_with(file.write_at(gibibyte, b"x"), EFBIG);
    fails_with(file.write_at(gibibyte - 1, b"xy"), EFBIG);
    fails_with(file.set_len(gibibyte + 1), EFBIG);
    file.set_len(0).unwrap();
    file.set_len(gibibyte).unwrap();
    assert_eq!(disk.mount().len("/a").unwrap(), Some(gibibyte));
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
fn dying_at_a_call_about_names_lets_all_others_pass() {
    let disk = with_durable_a();
    disk.arm(Fault::DieAtNameCall(disk.name_calls() + 1));
    let mount = disk.mount();
    let file = mount.create_new("/b").unwrap();
    file.write_at(0, b"b").unwrap();
    file.sync().unwrap();
    fails_with(mount.rename("/b", "/c"), EIO);
    assert_eq!(disk.died_at(), Some(OpInfo { kind: OpKind::Rename, path: "/c".into() }));
    disk.process_crash();
    assert!(disk.exists("/b") && !disk.exists("/c"));
}

#[test]
fn a_full_disk_hits_what_may_need_a_block_and_a_broken_one_everything() {
    let spared = [OpKind::Open, OpKind::Read, OpKind::Len, OpKind::List, OpKind::Unlink];
    let others = [
        OpKind::Create,
        OpKind::Write,
        OpKind::SetLen,
        OpKind::Rename,
        OpKind::Mkdir,
        OpKind::SyncFile,
        OpKind::SyncDir,
        OpKind::Close,
    ];
    assert!(spared.iter().all(|kind| !Errno::Enospc.can_hit(*kind)));
    assert!(others.iter().all(|kind| Errno::Enospc.can_hit(*kind)));
    assert!(spared.iter().chain(&others).all(|kind| Errno::Eio.can_hit(*kind)));
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
    file.set_len(3).unwrap();
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
fn an_exact_error_hits_that_call_only_where_it_can_occur() {
    type Act = fn(&sim::Mount, sim::File) -> io::Result<()>;
    let acts: [(OpKind, Act); 13] = [
        (OpKind::Create, |m, _| m.create_new("/b").map(drop)),
        (OpKind::Open, |m, _| m.open("/a").map(drop)),
        (OpKind::Read, |_, f| f.read_at(0, &mut [0]).map(drop)),
        (OpKind::Write, |_, f| f.write_at(0, b"x").map(drop)),
        (OpKind::SetLen, |_, f| f.set_len(2)),
        (OpKind::Close, |_, f| f.close()),
        (OpKind::Len, |m, _| m.len("/a").map(drop)),
        (OpKind::List, |m, _| m.list("/").map(drop)),
        (OpKind::Rename, |m, _| m.rename("/a", "/b")),
        (OpKind::Unlink, |m, _| m.unlink("/a")),
        (OpKind::Mkdir, |m, _| m.mkdir("/b")),
        (OpKind::SyncFile, |_, f| f.sync()),
        (OpKind::SyncDir, |m, _| m.sync_dir("/")),
    ];
    for (kind, act) in acts {
        for errno in [Errno::Eio, Errno::Enospc] {
            let disk = with_durable_a();
            let mount = disk.mount();
            let file = mount.open("/a").unwrap();
            disk.arm(Fault::ErrorAtExactCall { call: disk.calls(), errno });
            let before = disk.snapshot();
            let answer = act(&mount, file.clone());
            if errno.can_hit(kind) {
                fails_with(answer, errno.number());
                assert_eq!(disk.snapshot(), before, "{kind}");
                assert_eq!(disk.take_fault().map(|(op, errno)| (op.kind, errno)), Some((kind, errno)));
                assert_eq!(disk.sync_failed(), kind.is_sync());
            } else {
                answer.unwrap();
            }
            // It was for that call, and not for the next one that could have met it.
            file.write_at(0, b"y").unwrap();
            assert_eq!(disk.take_fault(), None);
        }
    }
}

#[test]
fn a_full_disk_found_out_at_a_sync_keeps_everything_pending() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    disk.arm(Fault::ErrorAtExactCall { call: disk.calls(), errno: Errno::Enospc });
    fails_with(file.sync(), ENOSPC);
    assert!(disk.sync_failed() && !disk.has_lost_data());
    assert_eq!(disk.pending_len(), 1);
    file.sync().unwrap();
    enumerate(&disk, |survivor| assert_eq!(survivor.peek("/a").unwrap(), b"new"));
}

#[test]
fn a_short_call_handles_at_least_one_byte_and_says_how_many() {
    for (bytes, handled) in [(0, 1), (2, 2), (3, 3), (4, 3), (u64::MAX, 3)] {
        let disk = with_durable_a();
        let file = disk.mount().open("/a").unwrap();
        disk.arm(Fault::ShortAtCall { call: disk.calls(), bytes });
        assert_eq!(file.write_at(0, b"long").unwrap(), handled);
        assert_eq!(file.write_at(handled as u64, &b"long"[handled..]).unwrap(), 4 - handled);
        assert_eq!(disk.peek("/a").unwrap(), b"long");

        disk.arm(Fault::ShortAtCall { call: disk.calls(), bytes });
        let mut buffer = [0xEE; 9];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), handled);
        assert_eq!(&buffer[..handled], &b"long"[..handled]);
        assert!(buffer[handled..].iter().all(|byte| *byte == 0xEE));
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 4);
    }
}

#[test]
fn a_short_call_waits_for_one_that_can_be_short() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    disk.arm(Fault::ShortAtCall { call: 0, bytes: 1 });
    assert_eq!(file.write_at(0, b"x").unwrap(), 1);
    disk.disarm();
    // Nor does it hit one before its number.
    disk.arm(Fault::ShortAtCall { call: disk.calls() + 1, bytes: 1 });
    assert_eq!(file.write_at(0, b"old").unwrap(), 3);
    assert_eq!(file.write_at(0, b"old").unwrap(), 1);
    disk.arm(Fault::ShortAtCall { call: 0, bytes: 1 });
    // Only one byte is left there, and then none.
    assert_eq!(file.read_at(2, &mut [0; 9]).unwrap(), 1);
    assert_eq!(file.read_at(3, &mut [0; 9]).unwrap(), 0);
    assert_eq!(file.read_at(0, &mut [0; 9]).unwrap(), 1);
    assert_eq!(file.read_at(0, &mut [0; 9]).unwrap(), 3);
}

/// A durable `/a` that says `old`, and `new` in the page cache that a failed sync has lost.
fn with_lost_a(how: SyncFailure) -> Disk {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    disk.arm(Fault::FailSync { call: disk.calls(), how });
    assert_eq!(file.sync().is_ok(), how == SyncFailure::ReportedLate, "{how}");
    disk
}

#[test]
fn each_way_for_a_sync_to_fail_is_known_and_told() {
    use SyncFailure::*;
    // What is told, whether reads see lost data, how much is pending, what reads see.
    let expected = [
        (KeptPending, true, false, 1, b"new"),
        (LostButClean, true, true, 0, b"new"),
        (LostAndReverted, true, false, 0, b"old"),
        (Persisted, true, false, 0, b"new"),
        (ReportedLate, false, true, 0, b"new"),
    ];
    assert_eq!(expected.map(|(how, ..)| how), SyncFailure::ALL);
    for (how, told, lost, pending, seen) in expected {
        let disk = with_lost_a(how);
        assert_eq!((disk.sync_failed(), disk.has_lost_data()), (told, lost), "{how}");
        assert_eq!((disk.pending_len(), disk.peek("/a").unwrap()), (pending, seen.to_vec()), "{how}");
        let fault = (OpInfo { kind: OpKind::SyncFile, path: "/a".into() }, Errno::Eio);
        assert_eq!(disk.last_fault(), told.then_some(fault), "{how}");
    }
}

#[test]
fn lost_data_is_seen_by_the_next_life_and_gone_after_a_power_loss() {
    let disk = with_lost_a(SyncFailure::LostButClean);
    disk.process_crash();
    assert!(!disk.sync_failed() && disk.has_lost_data());
    // The next life trusts what it reads, says so, and syncs what it says.
    let mount = disk.mount();
    let file = mount.create_new("/b").unwrap();
    file.write_at(0, &disk.peek("/a").unwrap()).unwrap();
    file.sync().unwrap();
    mount.open("/a").unwrap().sync().unwrap();
    mount.sync_dir("/").unwrap();
    disk.power_loss(&mut calm());
    assert_eq!((disk.peek("/a").unwrap(), disk.peek("/b").unwrap()), (b"old".to_vec(), b"new".to_vec()));
    assert!(!disk.has_lost_data());
}

#[test]
fn lost_data_makes_another_disk() {
    let honest = with_durable_a();
    let file = honest.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    file.write_at(0, b"old").unwrap();
    file.sync().unwrap();
    let lost = with_lost_a(SyncFailure::LostButClean);
    // Nothing is pending on either, and the durable sides are equal.
    assert_eq!((honest.pending_len(), lost.pending_len()), (0, 0));
    assert_ne!(lost.snapshot(), honest.snapshot());
    assert_ne!(lost.snapshot().digest(), honest.snapshot().digest());
    let late = with_lost_a(SyncFailure::ReportedLate);
    assert_ne!(late.snapshot(), lost.snapshot());
    assert_ne!(late.snapshot().digest(), lost.snapshot().digest());
    for disk in [&lost, &late] {
        assert_eq!(disk.fork().snapshot(), disk.snapshot());
        assert!(disk.fork().has_lost_data());
        disk.power_loss(&mut calm());
        assert_eq!(disk.snapshot(), honest.snapshot());
    }
}

#[test]
fn what_is_written_again_in_full_is_no_longer_lost() {
    let disk = with_lost_a(SyncFailure::LostButClean);
    let file = disk.mount().open("/a").unwrap();
    file.write_at(1, b"e").unwrap();
    assert!(!disk.has_lost_data());
    assert_eq!(disk.pending_len(), 1);
    file.sync().unwrap();
    enumerate(&disk, |survivor| assert_eq!(survivor.peek("/a").unwrap(), b"new"));
}

#[test]
fn a_lost_length_comes_back_with_its_page_only() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, &[1; 5000]).unwrap();
    disk.arm(Fault::FailSync { call: 0, how: SyncFailure::LostButClean });
    fails_with(file.sync(), EIO);
    // The whole first page is pending again, and the length that it needs; the second page stays lost.
    file.write_at(0, &[2; 10]).unwrap();
    file.sync().unwrap();
    assert!(disk.has_lost_data());
    disk.power_loss(&mut calm());
    let mut expected = vec![1; 4096];
    expected[..10].fill(2);
    assert!(disk.peek("/a").unwrap() == expected);
}

#[test]
fn a_write_up_to_the_end_of_a_page_brings_back_nothing_of_the_next_one() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, &[1; 8192]).unwrap();
    disk.arm(Fault::FailSync { call: 0, how: SyncFailure::LostButClean });
    fails_with(file.sync(), EIO);
    file.write_at(0, &[2; 4096]).unwrap();
    file.sync().unwrap();
    assert!(disk.has_lost_data());
    disk.power_loss(&mut calm());
    assert!(disk.peek("/a").unwrap() == [2; 4096]);
}

#[test]
fn lost_data_of_a_removed_file_is_nobodys() {
    let disk = with_lost_a(SyncFailure::LostButClean);
    disk.mount().unlink("/a").unwrap();
    assert!(!disk.has_lost_data());
}

#[test]
fn a_late_error_is_told_once_by_a_close_too_and_to_the_next_life() {
    let disk = with_lost_a(SyncFailure::ReportedLate);
    disk.process_crash();
    let mount = disk.mount();
    let (first, second) = (mount.open("/a").unwrap(), mount.open("/a").unwrap());
    fails_with(first.close(), EIO);
    assert!(disk.sync_failed());
    assert_eq!(disk.last_fault(), Some((OpInfo { kind: OpKind::Close, path: "/a".into() }, Errno::Eio)));
    second.sync().unwrap();
    second.close().unwrap();
}

#[test]
fn a_sync_that_tells_a_late_error_does_nothing_else() {
    let disk = with_lost_a(SyncFailure::ReportedLate);
    let mount = disk.mount();
    let file = mount.open("/a").unwrap();
    file.write_at(0, b"now").unwrap();
    // The directory has no error to tell.
    mount.sync_dir("/").unwrap();
    fails_with(file.sync(), EIO);
    assert_eq!(disk.pending_len(), 1);
    file.sync().unwrap();
    assert_eq!(disk.pending_len(), 0);
}

#[test]
fn a_sync_failure_hits_the_first_sync_from_its_number_on_and_only_one_that_would_succeed() {
    let disk = with_durable_a();
    let mount = disk.mount();
    let file = mount.open("/a").unwrap();
    disk.arm(Fault::FailSync { call: disk.calls() + 1, how: SyncFailure::KeptPending });
    file.sync().unwrap();
    file.write_at(0, b"new").unwrap();
    fails_with(mount.sync_dir("/no"), ENOENT);
    fails_with(mount.sync_dir("/"), EIO);
    file.sync().unwrap();
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
        (trace.hash(), lines(&trace), choices.finish().unwrap().to_string())
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
        "write /a at 0, 1024 bytes: torn: new 512-byte sectors 0b1, length up to 0; \
         link b to inode 2: dropped; write /b at 0, 1 bytes: unreachable"
    );
    assert_eq!(disk.peek("/a").unwrap(), [1; 3]);
}

#[test]
fn a_report_shows_a_length_without_its_data() {
    let disk = Disk::new(Profile::Btrfs);
    let mount = disk.mount();
    let file = mount.create_new("/a").unwrap();
    mount.sync_dir("/").unwrap();
    file.write_at(0, &[1; 512]).unwrap();
    file.write_at(512, &[2; 1024]).unwrap();
    // Of the second write the first sector survives, and the length of all of it.
    let report = disk.power_loss(&mut Choices::bytes(&[0, 1, 1]));
    let fates: Vec<Fate> = report.iter().map(|(_, fate)| fate).collect();
    assert_eq!(fates, [Fate::Kept, Fate::Torn { new: 0b01, reach: 1536 }]);
    let bytes = disk.peek("/a").unwrap();
    assert_eq!((bytes.len(), bytes[511], bytes[512], bytes[1023], bytes[1024]), (1536, 1, 2, 2, 0));
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
    let across_the_end = leak(|m| {
        let file = m.create_new("/a").unwrap();
        file.write_at(100, b"ret").unwrap();
        file.write_at(50, &[[b'.'; 47].as_slice(), b"sec"].concat()).unwrap();
    });
    assert_eq!(across_the_end, Some(("/a".into(), 97, 2)));
    let name = leak(|m| {
        m.create_new("/a").unwrap();
        m.rename("/a", "/b-password").unwrap();
    });
    assert_eq!(name, Some(("/b-password".into(), 2, 0)));
}

#[test]
fn bytes_from_before_the_watch_are_nobodys_leak_until_they_are_written_again() {
    let disk = Disk::default();
    let file = disk.mount().create_new("/a").unwrap();
    file.write_at(5, b"secret").unwrap();
    disk.watch(&Needles::new(&[b"secret".to_vec()]));
    // Just before and just behind what stood there.
    file.write_at(11, b"x").unwrap();
    file.write_at(4, b"x").unwrap();
    assert!(disk.leak().is_none());
    file.write_at(10, b"t").unwrap();
    assert_eq!(disk.leak().map(|leak| leak.offset), Some(5));
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
        lines(&trace),
        [
            "create /a",
            "write /a at 0, 2 bytes",
            "sync_file /a",
            "fault Eio at sync_file /a",
            "death before set_len /a",
            "power_loss link a to inode 1: kept; write /a at 0, 2 bytes: kept",
        ]
    );
    assert_eq!(trace.hash(), 11_433_957_255_788_565_766);
}

#[test]
fn the_trace_tells_how_a_sync_failed_and_what_was_short() {
    let trace = Trace::keeping();
    let disk = Disk::with(Profile::Posix, Lies::NONE, trace.clone());
    let file = disk.mount().create_new("/a").unwrap();
    disk.arm(Fault::ShortAtCall { call: 0, bytes: 1 });
    file.write_at(0, b"hi").unwrap();
    for how in SyncFailure::ALL {
        disk.arm(Fault::FailSync { call: 0, how });
        let _ = file.sync();
    }
    file.close().unwrap_err();
    assert_eq!(
        lines(&trace),
        [
            "create /a",
            "write /a at 0, 2 bytes",
            "short write /a: 1 of 2 bytes",
            "sync_file /a",
            "sync_failure kept-pending at sync_file /a",
            "sync_file /a",
            "sync_failure lost-but-clean at sync_file /a",
            "sync_file /a",
            "sync_failure lost-and-reverted at sync_file /a",
            "sync_file /a",
            "sync_failure persisted at sync_file /a",
            "sync_file /a",
            "sync_failure reported-late at sync_file /a",
            "late_error close /a",
        ]
    );
}
