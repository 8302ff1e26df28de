//! What an operator configured: each thing that is missing refuses the start before anything is written, and the start
//! succeeds once it is there.
//!
//! | step of the reference's start-up guards | fires, and is healed |
//! |---|---|
//! | load the KEK file | `a_kek_file_that_is_refused_is_taken_once_it_is_mended` |
//! | a: look the sidecar up | `a_sidecar_that_cannot_be_looked_up_is_refused` |
//! | b: read it | `guards.rs`, where it is read: after the database is open |
//! | c: a sidecar needs the flag | `a_sidecar_without_the_flag_is_refused_until_encryption_is_enabled` |
//! | d: the flag needs a KEK | `the_flag_without_a_kek_is_refused_until_there_is_one` |
//! | ours: the flag needs a path | `the_flag_without_a_sidecar_path_is_refused_until_there_is_one` |
//! | e: every key opens | `guards.rs`, the same |
//! | f: no active key is used up | no guard any more: `no_guards.rs` |
//! | g: the filesystem can | `probe.rs` |

use std::sync::Arc;

use applier::fault::IoFault;
use applier::kek::{FileKek, KekError};
use applier::outcome::StartError;
use applier::ports::Kek;
use applier::preflight::{Flags, preflight};
use applier::{KeyringConfig, Outcome, RaftIndex};

use crate::harness::{EIO, Effect, Fault, World, bootstrap};

/// Everything is configured.
pub(crate) fn flags(world: &World) -> Flags {
    Flags { enabled: true, kek: Some(world.kek.clone().into()), sidecar: Some(world.sidecar_path()) }
}

/// A start as a host makes it, from the flags on.
pub(crate) fn try_start(world: &mut World, flags: &Flags) -> Result<(), StartError> {
    world.stop();
    world.keyring = preflight(&world.files, flags)?.is_some();
    world.try_restart()
}

/// Refused with this error and without a mutating call.
#[track_caller]
fn check_refused(world: &mut World, flags: &Flags, error: StartError) {
    world.stop();
    let (from, before) = (world.files.calls(), world.disk());
    assert_eq!(try_start(world, flags), Err(error));
    assert_eq!(world.files.calls(), from, "not even a mutating call");
    assert_eq!(world.disk(), before);
}

#[test]
fn a_fresh_node_starts_bootstraps_and_starts_again() {
    let mut world = World::new();
    let flags = flags(&world);
    assert_eq!(try_start(&mut world, &flags), Ok(()));
    assert_eq!(world.apply(1, &bootstrap()), Outcome::Applied);
    let before = world.lasting();
    assert_eq!(try_start(&mut world, &flags), Ok(()));
    assert_eq!(world.lasting(), before);
}

#[test]
fn the_keyring_is_made_of_the_flags() {
    let world = World::new();
    let KeyringConfig { kek, sidecar } =
        preflight(&world.files, &flags(&world)).expect("all is there").expect("it is enabled");
    assert_eq!(sidecar, world.sidecar_path());
    assert_eq!(kek.current().ok(), world.kek.check_value().ok());
}

#[test]
fn a_sidecar_that_cannot_be_looked_up_is_refused() {
    let mut world = World::new();
    let (flags, path) = (flags(&world), world.sidecar_path());
    std::fs::create_dir(&path).expect("a writable directory");
    for enabled in [true, false] {
        match try_start(&mut world, &Flags { enabled, ..flags.clone() }) {
            Err(StartError::Io(IoFault { call: "look up", path: refused, .. })) => assert_eq!(refused, path),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.files.calls(), 0, "not even a mutating call");
    std::fs::remove_dir(&path).expect("it is empty");
    assert_eq!(try_start(&mut world, &flags), Ok(()));
}

#[test]
fn a_sidecar_without_the_flag_is_refused_until_encryption_is_enabled() {
    let mut world = World::with(&[bootstrap()]);
    let (on, path) = (flags(&world), world.sidecar_path());
    let off = Flags { enabled: false, ..on.clone() };
    for flags in [off.clone(), Flags { kek: None, ..off.clone() }] {
        check_refused(&mut world, &flags, StartError::SidecarPresentWithoutFlag { path: path.clone() });
    }
    assert_eq!(try_start(&mut world, &on), Ok(()));
    // One of the reference system, or a damaged one, is none to be ignored either.
    world.put_sidecar(b"");
    check_refused(&mut world, &off, StartError::SidecarPresentWithoutFlag { path });
}

#[test]
fn a_node_that_had_keys_is_refused_also_where_its_flags_hide_the_sidecar() {
    let mut world = World::with(&[bootstrap()]);
    let (on, off) = (flags(&world), Flags::default());
    assert_eq!(try_start(&mut world, &off), Err(StartError::KeyringRequired { applied: RaftIndex(1) }));
    assert_eq!(try_start(&mut world, &on), Ok(()));
}

#[test]
fn the_flag_without_a_kek_is_refused_until_there_is_one() {
    for mut world in [World::new(), World::with(&[bootstrap()])] {
        let on = flags(&world);
        check_refused(&mut world, &Flags { kek: None, ..on.clone() }, StartError::KekRequiredWithFlag);
        assert_eq!(try_start(&mut world, &on), Ok(()));
    }
}

#[test]
fn the_flag_without_a_sidecar_path_is_refused_until_there_is_one() {
    for mut world in [World::new(), World::with(&[bootstrap()])] {
        let on = flags(&world);
        let pathless = Flags { sidecar: None, ..on.clone() };
        check_refused(&mut world, &pathless, StartError::SidecarPathRequiredWithFlag);
        assert_eq!(try_start(&mut world, &on), Ok(()));
    }
}

#[test]
fn what_needs_no_write_is_refused_first_and_in_its_order() {
    let mut world = World::with(&[bootstrap()]);
    let (on, path) = (flags(&world), world.sidecar_path());
    world.stop();
    // No probe could succeed, and none is tried.
    world.files.arm(Fault::nth(0, EIO, Effect::Absent).lasting());
    let nothing_but_a_path = Flags { enabled: false, kek: None, ..on.clone() };
    check_refused(&mut world, &nothing_but_a_path, StartError::SidecarPresentWithoutFlag { path });
    let nothing_but_the_flag = Flags { enabled: true, ..Flags::default() };
    check_refused(&mut world, &nothing_but_the_flag, StartError::KekRequiredWithFlag);
    check_refused(&mut world, &Flags { sidecar: None, ..on }, StartError::SidecarPathRequiredWithFlag);
    assert_eq!(world.files.disarm(), 0);
}

#[test]
fn a_node_that_is_not_to_encrypt_is_not_asked_for_anything_and_nothing_is_written() {
    let world = World::new();
    let on = flags(&world);
    for flags in [Flags::default(), Flags { enabled: false, ..on }] {
        assert!(preflight(&world.files, &flags).expect("nothing is missing").is_none());
    }
    assert_eq!(world.files.calls(), 0);
}

#[test]
fn administrative_requests_are_taken_exactly_where_there_is_a_keyring() {
    let world = World::new();
    let all = flags(&world);
    for bits in 0..8 {
        let flags = Flags {
            enabled: bits & 1 != 0,
            kek: all.kek.clone().filter(|_| bits & 2 != 0),
            sidecar: all.sidecar.clone().filter(|_| bits & 4 != 0),
        };
        let has_keyring = matches!(preflight(&world.files, &flags), Ok(Some(_)));
        assert_eq!(flags.gate().check().is_ok(), has_keyring, "{flags:?}");
    }
}

#[test]
fn a_kek_file_that_is_refused_is_taken_once_it_is_mended() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use nix::sys::stat::Mode;

    let world = World::new();
    let path = world.path("kek");
    let put = |bytes: &[u8], mode: u32| {
        fs::write(&path, bytes).expect("a writable directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    let refused = || FileKek::load(&path).expect_err("it must be refused");

    assert!(matches!(refused(), KekError::Open(_)), "there is none");
    put(&[7; 32], 0o640);
    assert_eq!(refused(), KekError::InsecureMode { path: path.clone(), mode: 0o640 });
    put(&[7; 32], 0o600);
    assert!(FileKek::load(&path).is_ok());
    for (bytes, got) in [(&[7; 31][..], 31), (&[7; 33], 33), (b"", 0)] {
        put(bytes, 0o600);
        assert_eq!(refused(), KekError::Size { path: path.clone(), got });
    }
    put(&[7; 32], 0o600);
    assert!(FileKek::load(&path).is_ok());

    fs::remove_file(&path).expect("it exists");
    nix::unistd::mkfifo(path.as_str(), Mode::S_IRUSR | Mode::S_IWUSR).expect("a writable directory");
    assert_eq!(refused(), KekError::NotRegular { path: path.clone() });
    fs::remove_file(&path).expect("it exists");
    put(&[7; 32], 0o400);

    let mut world = world;
    let kek = FileKek::load(&path).expect("it is mended");
    let flags = Flags { kek: Some(Arc::new(kek).into()), ..flags(&world) };
    assert_eq!(try_start(&mut world, &flags), Ok(()));
}
