//! The disk as programs and the world around them see it.

mod calls;
mod faults;
mod lies;
mod lost;
mod observers;

use std::io;

use sim::{Choices, Disk, Exhaustive, File, Trace};

/// What a trace has recorded, a line each.
pub(crate) fn lines(trace: &Trace) -> Vec<String> {
    trace.events().iter().map(ToString::to_string).collect()
}

pub(crate) fn calm() -> Choices {
    Choices::bytes(&[])
}

#[track_caller]
pub(crate) fn fails_with<T>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.err().expect("the call fails").raw_os_error(), Some(errno));
}

/// A disk with a durable file `/a` that says `old`.
pub(crate) fn with_durable_a() -> Disk {
    let disk = Disk::default();
    let mount = disk.mount();
    let file = mount.create_new("/a").unwrap();
    file.write_at(0, b"old").unwrap();
    file.sync().unwrap();
    mount.sync_dir("/").unwrap();
    disk
}

/// The same disk with `new` written over it, pending, and the file.
pub(crate) fn with_pending_a() -> (Disk, File) {
    let disk = with_durable_a();
    let file = disk.mount().open("/a").unwrap();
    file.write_at(0, b"new").unwrap();
    (disk, file)
}

pub(crate) fn enumerate(disk: &Disk, mut look: impl FnMut(&Disk)) -> u64 {
    let mut walk = Exhaustive::new();
    while let Some(mut choices) = walk.begin() {
        let survivor = disk.fork();
        survivor.power_loss(&mut choices);
        look(&survivor);
        walk.end(choices).unwrap();
    }
    walk.visited()
}
