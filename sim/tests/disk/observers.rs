//! What a disk says of itself to the world around it, and what that world sets: nothing that a mount can reach.

use std::collections::BTreeSet;

use sim::{
    Choices, Disk, Errno, Fate, Fault, Lies, Mount, Needles, OpInfo, OpKind, Pending, Profile, SyncFailure,
    Trace, errno::EIO,
};

use super::{calm, fails_with, lines, with_durable_a, with_pending_a};

/// The same with a name `/b` that a failed sync has lost: it is looked up, and gone once the power fails.
fn with_lost_b() -> Disk {
    let disk = with_durable_a();
    let mount = disk.mount();
    mount.create_new("/b").unwrap();
    disk.arm(Fault::FailSync { call: disk.calls(), how: SyncFailure::LostButClean });
    mount.sync_dir("/").unwrap_err();
    disk
}

#[test]
fn a_disk_says_which_profile_it_has() {
    assert_eq!(Profile::ALL.map(|profile| Disk::new(profile).profile()), Profile::ALL);
    assert_eq!(Disk::default().profile(), Profile::Posix);
}

#[test]
fn what_is_shown_of_a_disk_its_mount_and_its_file_says_which_it_is() {
    let disk = with_durable_a();
    disk.process_crash();
    let mount = disk.mount();
    let file = mount.open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    assert_eq!(file.path(), "/a");
    assert_eq!(format!("{disk:?}"), "Disk { profile: Posix, life: 1, mutations: 5, pending: 1, .. }");
    assert_eq!(format!("{mount:?}"), "Mount { life: 1, .. }");
    assert_eq!(format!("{file:?}"), "File { path: \"/a\", life: 1 }");
}

#[test]
fn calls_about_names_are_counted_apart() {
    let disk = Disk::default();
    let mount = disk.mount();
    assert_eq!(disk.name_calls(), 0);
    let file = mount.create_new("/a").unwrap();
    mount.mkdir("/d").unwrap();
    mount.rename("/a", "/b").unwrap();
    assert_eq!(disk.name_calls(), 3);
    file.write_at(0, b"content").unwrap();
    file.set_len(3).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.name_calls(), 3);
    mount.sync_dir("/").unwrap();
    mount.unlink("/b").unwrap();
    assert_eq!(disk.name_calls(), 5);
    mount.unlink("/b").unwrap_err();
    assert_eq!((disk.name_calls(), disk.mutations()), (6, 9));
}

#[test]
fn calls_are_listed_with_their_numbers_as_long_as_they_are_kept() {
    let disk = with_durable_a();
    let mount = disk.mount();
    assert_eq!(disk.take_calls(), []);
    disk.keep_calls(true);
    let first = disk.calls();
    mount.len("/a").unwrap();
    mount.unlink("/a").unwrap();
    let call = |number, kind| (first + number, OpInfo { kind, path: "/a".to_owned() });
    assert_eq!(disk.take_calls(), [call(0, OpKind::Len), call(1, OpKind::Unlink)]);
    assert_eq!(disk.take_calls(), []);
    disk.keep_calls(false);
    mount.len("/a").unwrap();
    assert_eq!(disk.take_calls(), []);
}

#[test]
fn what_is_pending_is_told_in_the_order_of_the_program() {
    let disk = with_durable_a();
    assert_eq!((disk.pending_text(), disk.pending_len()), (Vec::new(), 0));
    let mount = disk.mount();
    mount.open("/a").unwrap().write_at(3, b"more").unwrap();
    mount.open("/a").unwrap().set_len(5).unwrap();
    mount.create_new("/b").unwrap();
    mount.rename("/b", "/c").unwrap();
    mount.unlink("/c").unwrap();
    let told =
        ["write /a at 3, 4 bytes", "set_len /a to 5", "link b to inode 2", "rename b to c", "unlink c"];
    assert_eq!(disk.pending_text(), told);
}

#[test]
fn a_report_has_an_operation_for_each_that_was_pending_and_snapshots_count_them() {
    let disk = with_durable_a();
    let trace = Trace::keeping();
    disk.set_trace(trace.clone());
    let file = disk.mount().open("/a").unwrap();
    file.write_at(3, b"more").unwrap();
    file.set_len(5).unwrap();
    disk.mount().create_new("/b").unwrap().write_at(0, b"b").unwrap();
    assert_eq!(disk.snapshot().pending_len(), 4);
    let report = disk.power_loss(&mut calm());
    assert_eq!((report.len(), report.is_empty()), (4, false));
    let told = ["write /a at 3, 4 bytes", "set_len /a to 5", "link b to inode 2", "write /b at 0, 1 bytes"];
    assert_eq!(report.describe(), told);
    // The number by which a report names a file is the one that the record has for it.
    let numbers = report.iter().filter_map(|(op, _)| match op {
        Pending::Write { inode, .. } | Pending::SetLen { inode, .. } => Some(inode.number()),
        _ => None,
    });
    let recorded = [0, 1, 3].map(|at| trace.events()[at].numbers[0]);
    assert_eq!(numbers.collect::<Vec<_>>(), recorded);
    assert_eq!(lines(&trace)[..4], [told[0], told[1], "create /b", told[3]]);
    let empty = disk.power_loss(&mut calm());
    assert_eq!(
        (empty.len(), empty.is_empty(), empty.to_string()),
        (0, true, "nothing was pending".to_owned())
    );
    assert_eq!((empty.describe(), disk.snapshot().pending_len()), (Vec::new(), 0));
}

#[test]
fn snapshots_of_pending_operations_that_differ_in_anything_have_other_digests() {
    let acts: [fn(&Mount); 9] = [
        |mount| drop(mount.open("/a").unwrap().write_at(0, b"new")),
        |mount| drop(mount.open("/a").unwrap().write_at(0, b"now")),
        |mount| drop(mount.open("/a").unwrap().write_at(1, b"new")),
        |mount| mount.open("/a").unwrap().set_len(1).unwrap(),
        |mount| mount.open("/a").unwrap().set_len(2).unwrap(),
        |mount| drop(mount.create_new("/b").unwrap()),
        |mount| drop(mount.create_new("/c").unwrap()),
        |mount| mount.rename("/a", "/b").unwrap(),
        |mount| mount.unlink("/a").unwrap(),
    ];
    let digests: BTreeSet<u128> = acts
        .iter()
        .map(|act| {
            let disk = with_durable_a();
            act(&disk.mount());
            disk.snapshot().digest()
        })
        .collect();
    assert_eq!(digests.len(), acts.len());
}

#[test]
fn the_two_halves_of_a_rename_that_is_not_atomic_are_told_apart() {
    let disk = with_durable_a();
    disk.set_lies(Lies { rename_not_atomic: true, ..Lies::NONE });
    disk.mount().rename("/a", "/b").unwrap();
    assert_eq!(disk.pending_text(), ["detach a and b", "link b to inode 1"]);
    disk.set_lies(Lies::NONE);
    disk.mount().rename("/b", "/c").unwrap();
    assert_eq!(disk.pending_text()[2..], ["rename b to c"]);
}

#[test]
fn a_disk_is_durable_when_a_power_loss_would_change_nothing() {
    let disk = with_durable_a();
    assert!(disk.is_durable());
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    assert!(!disk.is_durable());
    file.sync().unwrap();
    assert!(disk.is_durable());
    // Nothing is pending, and yet a power loss takes a name away.
    let lost = with_lost_b();
    assert_eq!(lost.pending_len(), 0);
    assert!(!lost.is_durable());
    lost.power_loss(&mut calm());
    assert!(lost.is_durable());
}

#[test]
fn pending_writes_are_counted_from_their_length_on() {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, &[1; 10]).unwrap();
    file.write_at(0, &[2; 11]).unwrap();
    file.set_len(12).unwrap();
    file.write_at(0, &[3; 12]).unwrap();
    assert_eq!([0, 10, 11, 12, 13].map(|bytes| disk.pending_writes_from(bytes)), [3, 3, 2, 1, 0]);
}

#[test]
fn what_surely_survives_is_another_disk_without_the_pending() {
    let disk = with_lost_b();
    let mount = disk.mount();
    mount.open("/a").unwrap().write_at(0, b"new").unwrap();
    mount.create_new("/c").unwrap();
    disk.arm(Fault::DieAtMutation(disk.mutations()));
    let trace = disk.trace().hash();
    let durable = disk.only_durable();
    assert_eq!(
        (durable.peek("/a").unwrap(), durable.exists("/b"), durable.exists("/c")),
        (b"old".to_vec(), false, false)
    );
    assert!(durable.is_durable() && !durable.has_lost_data());
    // Neither the planned death nor the record is taken over, and the other disk is what it was.
    durable.mount().create_new("/d").unwrap();
    assert!(!durable.is_dead() && !disk.exists("/d"));
    assert_eq!(disk.trace().hash(), trace);
    assert_eq!((disk.peek("/a").unwrap(), disk.exists("/b"), disk.pending_len()), (b"new".to_vec(), true, 2));
}

#[test]
fn what_surely_survives_owes_nobody_an_error() {
    let (disk, file) = with_pending_a();
    disk.arm(Fault::FailSync { call: disk.calls(), how: SyncFailure::ReportedLate });
    file.sync().unwrap();
    disk.only_durable().mount().open("/a").unwrap().sync().unwrap();
    fails_with(file.sync(), EIO);
}

#[test]
fn a_killed_life_is_over_and_decides_nothing() {
    let disk = with_durable_a();
    let mount = disk.mount();
    mount.create_new("/b").unwrap();
    disk.kill();
    assert!(disk.is_dead() && disk.died_at().is_none());
    fails_with(mount.create_new("/c"), EIO);
    fails_with(mount.open("/a"), EIO);
    assert_eq!(disk.pending_len(), 1);
    disk.process_crash();
    assert!(!disk.is_dead() && disk.exists("/b"));
    disk.mount().open("/b").unwrap();
}

#[test]
fn a_name_that_a_failed_sync_has_lost_is_still_looked_up_by_the_next_life() {
    let disk = with_lost_b();
    disk.mount().open("/b").unwrap().write_at(0, b"b").unwrap();
    disk.process_crash();
    assert_eq!(disk.peek("/b").unwrap(), b"b");
    disk.power_loss(&mut calm());
    assert!(!disk.exists("/b"));
}

#[test]
fn what_is_done_to_a_checkpoint_is_not_in_the_record_of_the_run() {
    let disk = with_durable_a();
    disk.keep_checkpoints(true);
    disk.mount().create_new("/b").unwrap();
    let (hash, [checkpoint]) = (disk.trace().hash(), &disk.take_checkpoints()[..]) else {
        panic!("there was one mutating call");
    };
    assert_ne!(checkpoint.disk.trace().hash(), hash, "the call itself is not in it");
    checkpoint.disk.power_loss(&mut calm());
    assert_eq!(disk.trace().hash(), hash);
}

#[test]
fn a_filmed_disk_is_the_one_before_the_call_and_keeps_out_of_the_record() {
    let disk = with_durable_a();
    let trace = Trace::filming();
    disk.set_trace(trace.clone());
    disk.mount().open("/a").unwrap().write_at(0, b"new").unwrap();
    disk.power_loss(&mut calm());
    let (hash, events) = (trace.hash(), trace.events());
    let [write, crash] = &events[..] else { panic!("{events:?}") };
    let before = write.before.as_ref().expect("it is filmed");
    assert_eq!(before.peek("/a").unwrap(), b"old");
    assert_eq!(crash.after.as_ref().expect("it is filmed").peek("/a").unwrap(), b"new");
    before.mount().unlink("/a").unwrap();
    assert_eq!(trace.hash(), hash);
}

#[test]
fn another_trace_records_from_then_on() {
    let disk = with_durable_a();
    let (before, trace) = (disk.trace(), Trace::keeping());
    let hash = before.hash();
    disk.set_trace(trace.clone());
    disk.mount().create_new("/b").unwrap();
    assert_eq!(before.hash(), hash);
    assert_eq!(lines(&trace), ["create /b"]);
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
    let leak = |act: fn(&Mount)| {
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
