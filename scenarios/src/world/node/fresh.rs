//! The disk of a node that has never started.

use std::sync::OnceLock;

use applier::registry;
use sim::{Disk, Lies, Needles, Profile, Trace};

use crate::form;
use crate::seam::SimFiles;
use crate::subject::DATABASE;
use crate::world::Setup;

/// What must never reach a disk of a world.
pub fn needles() -> &'static Needles {
    static NEEDLES: OnceLock<Needles> = OnceLock::new();
    NEEDLES.get_or_init(|| Needles::new(&form::traces_of_a_key()))
}

/// An empty disk with a node's two directories.
pub fn blank_disk(profile: Profile, lies: Lies) -> Disk {
    // It lies to the subject alone: what stood before a node's first start is there.
    let disk = Disk::with(profile, Lies::NONE, Trace::hashing());
    let mount = disk.mount();
    for dir in ["/data", "/db"] {
        mount.mkdir(dir).expect("an empty disk takes a directory");
    }
    mount.sync_dir("/").expect("no fault is armed");
    disk.set_lies(lies);
    disk
}

/// A disk on which the database was made already, made once for each profile and forked. A disk that lies makes its
/// own, lies included.
pub(crate) fn prepared_disk(setup: &Setup) -> Disk {
    static PREPARED: [OnceLock<Disk>; Profile::ALL.len()] = [const { OnceLock::new() }; Profile::ALL.len()];
    let make = || {
        let disk = blank_disk(setup.profile, setup.lies);
        registry::create(&SimFiles::new(disk.mount()), DATABASE).expect("no fault is armed");
        disk
    };
    if setup.lies != Lies::NONE {
        return make();
    }
    let at = Profile::ALL.iter().position(|profile| *profile == setup.profile).expect("all are listed");
    PREPARED[at].get_or_init(make).fork()
}
