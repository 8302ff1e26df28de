//! Syncs that fail, and what reads go on to see of what they have lost.

use sim::{
    Disk, Errno, Fault, OpInfo, OpKind, SyncFailure,
    errno::{EIO, ENOENT},
};

use super::{calm, enumerate, fails_with, with_durable_a, with_pending_a};

/// A durable `/a` that says `old`, and `new` in the page cache that a failed sync has lost.
fn with_lost_a(how: SyncFailure) -> Disk {
    let (disk, file) = with_pending_a();
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
    let (honest, file) = with_pending_a();
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

/// What a power loss leaves of `/a` where a failed sync has lost so many ones, over which so many twos were written and synced.
#[track_caller]
fn left_where_lost_ones_were_written_over(ones: usize, twos: usize) -> Vec<u8> {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, &vec![1; ones]).unwrap();
    disk.arm(Fault::FailSync { call: 0, how: SyncFailure::LostButClean });
    fails_with(file.sync(), EIO);
    file.write_at(0, &vec![2; twos]).unwrap();
    file.sync().unwrap();
    assert!(disk.has_lost_data());
    disk.power_loss(&mut calm());
    disk.peek("/a").unwrap()
}

#[test]
fn a_lost_length_comes_back_with_its_page_only() {
    // The whole first page is pending again, and the length that it needs; the second page stays lost.
    let mut expected = vec![1; 4096];
    expected[..10].fill(2);
    assert!(left_where_lost_ones_were_written_over(5000, 10) == expected);
}

#[test]
fn a_write_up_to_the_end_of_a_page_brings_back_nothing_of_the_next_one() {
    assert!(left_where_lost_ones_were_written_over(8192, 4096) == [2; 4096]);
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
