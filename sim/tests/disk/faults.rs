//! Planned deaths, errors and short calls.

use std::io;

use sim::{
    Errno, Fault, File, Mount, OpInfo, OpKind,
    errno::{EIO, ENOSPC},
};

use super::{calm, enumerate, fails_with, with_durable_a, with_pending_a};

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
    let (disk, file) = with_pending_a();
    disk.arm(Fault::ErrorAtCall { call: disk.calls(), errno: Errno::Eio });
    fails_with(file.sync(), EIO);
    assert!(disk.sync_failed());
    assert_eq!(disk.pending_len(), 1);
    disk.power_loss(&mut calm());
    assert!(!disk.sync_failed() && disk.last_fault().is_none());
}

#[test]
fn an_exact_error_hits_that_call_only_where_it_can_occur() {
    type Act = fn(&Mount, File) -> io::Result<()>;
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
    let (disk, file) = with_pending_a();
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
