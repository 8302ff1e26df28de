//! Calls: what they answer, how they are counted, which life they belong to.

use sim::{
    Disk,
    errno::{EEXIST, EFBIG, EINVAL, EIO, EISDIR, ENOENT, ENOTDIR, EXDEV},
};

use super::{calm, enumerate, fails_with, with_durable_a};

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
