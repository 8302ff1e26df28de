//! Start-up: what it makes durable, what it loads, and what it refuses without touching anything.

use std::sync::Arc;

use applier::fault::IoFault;
use applier::os::OsFiles;
use applier::outcome::StartError;
use applier::ports::{BlobFault, Files};
use applier::registry::OpenError;
use applier::sidecar::json;
use applier::{Applier, Outcome, Purpose, RaftIndex};

use crate::harness::{
    EIO, Effect, Fault, FaultyFiles, N2, Op, TestKek, World, blob_with_nonce, bootstrap, dek, id, read_error,
    registration, rotation,
};

/// A node with three keys, at index 3.
fn node() -> World {
    World::with(&[bootstrap(), rotation(5, Purpose::Storage), registration(1, N2, 4)])
}

/// The start is refused with this error, leaves sidecar and database files as they are, and succeeds once `mend` has
/// removed the cause.
#[track_caller]
fn check_refused(world: &mut World, error: impl Into<StartError>, mend: impl FnOnce(&mut World)) {
    let before = world.disk();
    assert_eq!(world.try_restart(), Err(error.into()));
    assert_eq!(world.disk(), before);
    mend(world);
    world.restart();
}

fn names(log: &[(Op, String)]) -> Vec<(Op, &str)> {
    log.iter().map(|(op, name)| (*op, name.as_str())).collect()
}

#[test]
fn a_start_syncs_both_directories_and_writes_the_sidecar_once_more() {
    let mut world = node();
    world.stop();
    let (from, before) = (world.files.calls(), world.disk());
    world.restart();
    let mut log = world.files.log_since(from);
    log.retain(|(op, _)| !matches!(op, Op::DbWrite | Op::DbSync | Op::DbSetLen));
    let tmp = "keys.json.tmp";
    let expected = [
        (Op::Unlink, "registry.redb.tmp"),
        (Op::SyncDir, "database"),
        (Op::SyncDir, "encryption"),
        (Op::Unlink, tmp),
        (Op::Create, tmp),
        (Op::Write, tmp),
        (Op::Sync, tmp),
        (Op::Close, tmp),
        (Op::Rename, "keys.json"),
        (Op::SyncDir, "encryption"),
    ];
    assert_eq!(names(&log), expected);
    assert_eq!(world.disk(), before);
}

#[test]
fn a_fresh_database_gets_its_name_only_when_it_is_whole() {
    let world = World::started();
    let log = world.files.log_since(0);
    let renamed = log.iter().position(|(op, name)| (*op, name.as_str()) == (Op::Rename, "registry.redb"));
    let renamed = renamed.expect("it has its name");
    assert!(log[..renamed].iter().all(|(_, name)| name == "registry.redb.tmp"), "{log:?}");
    assert_eq!(log[renamed - 1].0, Op::DbSync);
    assert_eq!(names(&log)[renamed + 1], (Op::SyncDir, "database"));
}

#[test]
fn a_start_loads_every_key() {
    let mut world = node();
    let before = world.lasting();
    world.restart();
    assert_eq!(world.keys(), [(id(1), dek(1)), (id(2), dek(2)), (id(5), dek(5))]);
    assert_eq!(world.lasting(), before);
    let active = [Purpose::Storage, Purpose::Raft].map(|purpose| world.node().active(purpose));
    assert!(active.iter().all(|id| world.node().keystore().contains(id.expect("bootstrapped"))));
}

#[test]
fn what_a_crash_left_behind_is_removed() {
    let mut world = node();
    world.stop();
    let leftovers = [world.sidecar_path() + ".tmp", world.database_path() + ".tmp"];
    for path in &leftovers {
        std::fs::write(path, "half a file").expect("a writable directory");
    }
    world.restart();
    assert!(leftovers.iter().all(|path| !std::path::Path::new(path).exists()));
    // On a fresh node, too, where the database is still to be created.
    let mut world = World::new();
    for path in [world.sidecar_path() + ".tmp", world.database_path() + ".tmp"] {
        std::fs::write(path, "half a file").expect("a writable directory");
    }
    world.restart();
    assert!(world.disk().is_empty());
}

#[test]
fn a_start_that_fails_anywhere_destroys_nothing() {
    let mut world = node();
    let before = world.lasting();
    world.stop();
    for effect in [Effect::Absent, Effect::Present] {
        for n in 0.. {
            world.files.arm(Fault::nth(n, EIO, effect));
            // Only closing the database forgives its errors, and it comes after the start.
            let _refused = world.try_restart();
            world.stop();
            let delivered = world.files.disarm();
            world.restart();
            assert_eq!(world.lasting(), before);
            world.stop();
            if delivered == 0 {
                assert!(n > 20, "{n} calls are too few to be a whole start");
                break;
            }
        }
    }
}

#[test]
fn each_failing_barrier_of_a_start_refuses_it() {
    let tmp = "keys.json.tmp";
    let write =
        [(Op::Create, tmp), (Op::Write, tmp), (Op::Sync, tmp), (Op::Close, tmp), (Op::Rename, "keys.json")];
    let mut world = node();
    for (op, path_end) in write {
        world.files.arm(Fault::named(op, path_end, EIO, Effect::Absent));
        assert!(matches!(world.try_restart(), Err(StartError::SidecarWrite(_))), "{op:?}");
    }
    for (op, path_end) in [(Op::SyncDir, "database"), (Op::SyncDir, "encryption"), (Op::Unlink, tmp)] {
        world.files.arm(Fault::named(op, path_end, EIO, Effect::Absent));
        assert!(matches!(world.try_restart(), Err(StartError::Io(_))), "{op:?}");
    }
    assert_eq!(world.files.disarm(), 8);
    world.restart();
}

#[test]
fn a_missing_sidecar_below_the_proof_is_refused() {
    let mut world = node();
    let (path, bytes) = (world.sidecar_path(), world.sidecar_bytes().expect("bootstrapped"));
    world.stop();
    std::fs::remove_file(&path).expect("it exists");
    let error = StartError::SidecarMissing { path, applied: RaftIndex(2) };
    check_refused(&mut world, error, |world| world.put_sidecar(&bytes));
}

#[test]
fn a_sidecar_that_cannot_be_opened_is_not_taken_for_one_that_is_missing() {
    let mut world = node();
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    world.stop();
    let path = world.sidecar_path();
    std::fs::remove_file(&path).expect("it exists");
    std::fs::create_dir(&path).expect("a free name");
    let error = IoFault::new("open", &path, &nix::errno::Errno::EISDIR.into());
    assert_eq!(world.try_restart(), Err(StartError::Io(error)));
    std::fs::remove_dir(&path).expect("it is empty");
    world.put_sidecar(&bytes);
    world.restart();
}

#[test]
fn an_old_copy_of_the_sidecar_is_refused() {
    let mut world = World::with(&[bootstrap()]);
    let old = world.sidecar_bytes().expect("bootstrapped");
    assert_eq!(world.apply(2, &rotation(5, Purpose::Storage)), Outcome::Applied);
    let new = world.sidecar_bytes().expect("bootstrapped");
    world.stop();
    world.put_sidecar(&old);
    let path = world.sidecar_path();
    let error = StartError::SidecarStale { path, found: RaftIndex(1), applied: RaftIndex(2) };
    check_refused(&mut world, error, |world| world.put_sidecar(&new));
}

#[test]
fn a_missing_database_beside_a_sidecar_of_ours_is_refused_and_none_is_made() {
    let mut world = node();
    world.stop();
    let (sidecar, database) = (world.sidecar_path(), world.database_path());
    std::fs::rename(&database, world.path("kept")).expect("it exists");
    let from = world.files.calls();
    let error = StartError::DatabaseMissing { sidecar, database: database.clone() };
    assert_eq!(world.try_restart(), Err(error.clone()));
    assert_eq!(world.files.calls(), from, "not even a mutating call");
    let entries = std::fs::read_dir(world.path("database")).expect("it exists").count();
    assert_eq!(entries, 0);
    check_refused(&mut world, error, |world| {
        std::fs::rename(world.path("kept"), &database).expect("it was kept");
    });
}

/// A database file with these bytes is refused, and keeps them.
#[track_caller]
fn check_database(world: &mut World, bytes: &[u8], refused: impl FnOnce(&OpenError) -> bool) {
    world.stop();
    let path = world.database_path();
    std::fs::write(&path, bytes).expect("a writable directory");
    match world.try_restart() {
        Err(StartError::Database(error)) => assert!(refused(&error), "{error:?}"),
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(&path).expect("it exists") == bytes, "the refusal changed the file");
}

#[test]
fn an_empty_database_file_is_refused_and_stays_empty() {
    let mut world = node();
    let path = world.database_path();
    check_database(&mut world, &[], |error| *error == OpenError::Empty { path });
}

#[test]
fn a_file_that_is_no_database_is_refused_and_keeps_its_bytes() {
    let mut world = node();
    for garbage in [vec![0; 8192], vec![0xaa; 8192], vec![0xaa; 3], b"keys".repeat(5000)] {
        check_database(&mut world, &garbage, |error| matches!(error, OpenError::NotADatabase { .. }));
    }
}

/// A database's bytes, and the lengths to which a test cuts them.
fn cut_database(world: &mut World) -> (Vec<u8>, Vec<usize>) {
    world.stop();
    let whole = std::fs::read(world.database_path()).expect("it exists");
    let lengths = vec![1, 100, 319, 320, 4095, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1];
    (whole, lengths)
}

#[test]
fn a_database_that_was_cut_is_refused_and_keeps_its_bytes() {
    let mut world = node();
    let (whole, lengths) = cut_database(&mut world);
    for len in lengths {
        check_database(&mut world, &whole[..len], |error| {
            matches!(error, OpenError::NotADatabase { .. } | OpenError::Storage { .. })
        });
    }
    std::fs::write(world.database_path(), &whole).expect("a writable directory");
    world.restart();
}

#[test]
fn a_database_that_was_cut_is_called_damaged() {
    let mut world = node();
    let (whole, lengths) = cut_database(&mut world);
    for len in lengths {
        check_database(&mut world, &whole[..len], |error| matches!(error, OpenError::NotADatabase { .. }));
    }
}

#[test]
fn a_database_without_the_registrys_tables_is_refused_and_gets_none() {
    use redb::{Database, ReadableDatabase, TableHandle};
    let mut world = World::new();
    let path = world.database_path();
    let create = || Database::create(&path).expect("a writable directory");
    drop(create());
    let refused = world.try_restart();
    assert!(matches!(refused, Err(StartError::Database(OpenError::NotARegistry { .. }))), "{refused:?}");
    let view = create().begin_read().expect("an open database");
    let tables: Vec<_> = view.list_tables().expect("readable").map(|table| table.name().to_owned()).collect();
    assert!(tables.is_empty(), "{tables:?}");
}

#[test]
fn a_database_without_either_of_its_indices_is_no_registry() {
    use redb::{Database, TableDefinition};
    const APPLIED: TableDefinition<(), u64> = TableDefinition::new("encryption.applied");
    const LOCAL: TableDefinition<&str, u64> = TableDefinition::new("encryption.local");
    for has_applied in [false, true] {
        let mut world = node();
        world.stop();
        let database = Database::open(world.database_path()).expect("it exists");
        let transaction = database.begin_write().expect("an open database");
        if has_applied {
            transaction.open_table(LOCAL).expect("it is there").remove("sidecar_index").expect("room");
        } else {
            transaction.open_table(APPLIED).expect("it is there").remove(()).expect("room");
        }
        transaction.commit().expect("room");
        drop(database);
        match world.try_restart() {
            Err(StartError::Database(OpenError::NotARegistry { message, .. })) => {
                assert_eq!(message, "its indices are missing");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_database_whose_disk_fails_is_not_taken_for_a_damaged_one() {
    let mut world = node();
    world.stop();
    world.files.arm(Fault::named(Op::DbWrite, &world.database_path(), EIO, Effect::Absent));
    let refused = world.try_restart();
    assert_eq!(world.files.disarm(), 1);
    assert!(matches!(refused, Err(StartError::Database(OpenError::Storage { .. }))), "{refused:?}");
    world.restart();
}

#[test]
fn a_database_that_another_process_is_about_to_create_is_not_created_twice() {
    let mut world = World::new();
    let path = world.database_path();
    let dir = path.rsplit_once('/').expect("a path in a directory").0;
    let other = OsFiles.lock_dir(dir).expect("nobody else has it");
    assert_eq!(
        world.try_restart().err(),
        Some(StartError::Database(OpenError::Locked { path: path.clone() }))
    );
    assert!(!std::path::Path::new(&path).exists());
    drop(other);
    world.restart();
}

#[test]
fn a_database_that_was_created_before_the_lock_was_given_is_opened() {
    let mut world = node();
    world.stop();
    let (path, kept) = (world.database_path(), world.path("kept"));
    std::fs::rename(&path, &kept).expect("it exists");
    world.files.rename_before_lock(&kept, &path);
    world.restart();
    assert_eq!(world.lasting().registry.applied_index, RaftIndex(3));
}

#[test]
fn a_database_that_is_open_elsewhere_is_refused() {
    let mut world = node();
    let path = world.database_path();
    let locked = StartError::Database(OpenError::Locked { path });
    let second = Applier::open(FaultyFiles::default(), &world.config(), world.clock.clone());
    assert_eq!(second.err(), Some(locked));
    assert_eq!(world.apply(4, &registration(1, N2, 5)), Outcome::Applied);
    world.stop();
    let second = Applier::open(FaultyFiles::default(), &world.config(), world.clock.clone());
    assert_eq!(second.expect("nobody else has it").applied_index(), RaftIndex(4));
}

#[test]
fn another_kek_is_refused() {
    let mut world = node();
    let right = world.kek.clone();
    world.kek = Arc::new(TestKek::of([9; 32]));
    let error = StartError::KekMismatch { id: id(1), fault: BlobFault::Integrity };
    check_refused(&mut world, error, |world| world.kek = right);
}

#[test]
fn a_kek_that_does_not_open_every_key_is_refused() {
    let mut world = node();
    let right = world.kek.clone();
    let wrong = TestKek::new();
    wrong.damage(crate::harness::blob(5));
    world.kek = Arc::new(wrong);
    let error = StartError::KekMismatch { id: id(5), fault: BlobFault::Integrity };
    check_refused(&mut world, error, |world| world.kek = right);
}

#[test]
fn a_kek_that_cannot_be_asked_is_refused() {
    let mut world = node();
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    check_refused(&mut world, StartError::KekUnavailable(timed_out), |world| world.kek.set_available(true));
}

#[test]
fn a_node_that_had_keys_is_not_started_without_its_keyring() {
    let mut world = node();
    world.keyring = false;
    let error = StartError::KeyringRequired { applied: RaftIndex(2) };
    check_refused(&mut world, error, |world| world.keyring = true);
}

#[test]
fn a_node_without_keys_may_gain_and_lose_its_keyring() {
    let mut world = World::started();
    world.keyring = false;
    world.restart();
    assert_eq!(world.apply(1, &registration(3, N2, 0)), Outcome::Applied);
    world.keyring = true;
    world.restart();
    assert_eq!(world.apply(2, &bootstrap()), Outcome::Applied);
}

#[test]
fn two_keys_with_the_same_bytes_are_refused() {
    let mut world = node();
    let good = world.sidecar_bytes().expect("bootstrapped");
    let mut sidecar = world.node().sidecar().expect("bootstrapped").clone();
    world.stop();
    sidecar.keys.get_mut(&id(5)).expect("rotated").wrapped = blob_with_nonce(2, 9);
    world.put_sidecar(&json::encode(&sidecar));
    let error = StartError::EqualKeyBytes(id(2), id(5));
    check_refused(&mut world, error, |world| world.put_sidecar(&good));
}

#[test]
fn a_registry_that_cannot_be_read_is_refused() {
    let mut world = node();
    world.registry.borrow_mut().reads_fail = true;
    check_refused(&mut world, read_error(), |world| world.registry.borrow_mut().reads_fail = false);
}

#[test]
fn a_missing_directory_is_refused() {
    let mut world = World::new();
    std::fs::remove_dir(world.path("encryption")).expect("it is empty");
    assert!(matches!(world.try_restart(), Err(StartError::Io(_))));
    std::fs::remove_dir_all(world.path("database")).expect("it exists");
    assert!(matches!(world.try_restart(), Err(StartError::Database(OpenError::Io(_)))));
}
