//! Disks that break their promises.

use sim::{Disk, Lies, Profile, Trace};

use super::enumerate;

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
