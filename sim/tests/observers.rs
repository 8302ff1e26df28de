//! What a disk says of itself to the world around it, and what that world sets: nothing that a mount can reach.

use std::collections::BTreeSet;

use sim::{
    Choices, Disk, Fault, Lies, Mount, OpInfo, OpKind, Pending, Profile, SyncFailure, Trace, errno::EIO,
};

/// A disk with `/a`, whose name and content `old` are durable.
fn with_durable_a() -> Disk {
    let disk = Disk::default();
    let mount = disk.mount();
    let file = mount.create_new("/a").unwrap();
    file.write_at(0, b"old").unwrap();
    file.sync().unwrap();
    mount.sync_dir("/").unwrap();
    disk
}

/// The same, with a name `/b` that nothing can lead to once the power fails, though a sync was told to have failed.
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
    let report = disk.power_loss(&mut Choices::bytes(&[]));
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
    let lines: Vec<String> = trace.events().iter().take(4).map(ToString::to_string).collect();
    assert_eq!(lines, [told[0], told[1], "create /b", told[3]]);
    let empty = disk.power_loss(&mut Choices::bytes(&[]));
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
    lost.power_loss(&mut Choices::bytes(&[]));
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
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    disk.arm(Fault::FailSync { call: disk.calls(), how: SyncFailure::ReportedLate });
    file.sync().unwrap();
    disk.only_durable().mount().open("/a").unwrap().sync().unwrap();
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
}

#[test]
fn a_killed_life_is_over_and_decides_nothing() {
    let disk = with_durable_a();
    let mount = disk.mount();
    mount.create_new("/b").unwrap();
    disk.kill();
    assert!(disk.is_dead() && disk.died_at().is_none());
    assert_eq!(mount.create_new("/c").unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(mount.open("/a").unwrap_err().raw_os_error(), Some(EIO));
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
    disk.power_loss(&mut Choices::bytes(&[]));
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
    checkpoint.disk.power_loss(&mut Choices::bytes(&[]));
    assert_eq!(disk.trace().hash(), hash);
}

#[test]
fn a_filmed_disk_is_the_one_before_the_call_and_keeps_out_of_the_record() {
    let disk = with_durable_a();
    let trace = Trace::filming();
    disk.set_trace(trace.clone());
    disk.mount().open("/a").unwrap().write_at(0, b"new").unwrap();
    disk.power_loss(&mut Choices::bytes(&[]));
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
    assert_eq!(trace.events().iter().map(ToString::to_string).collect::<Vec<_>>(), ["create /b"]);
}
