//! A sidecar that the reference system wrote: read-only until it is adopted, and one of ours afterwards.

use applier::apply::{AdoptError, Adoption};
use applier::outcome::{ApplyError, HaltCause, NoOp};
use applier::sidecar::{Active, Cutovers, EntryName, SidecarContent, json};
use applier::{LocalEpoch, Outcome, Purpose, RaftIndex};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{
    CommitFault, EIO, Effect, Fault, N1, N2, Op, World, blob, bootstrap, commit_error, dek, id, registration,
    rotation, seen,
};

/// The bytes of a sidecar as the reference system writes it after the entries of [`adoption`], in version 1 (as
/// merged: index 0) or 2. `created` is that of key 5.
pub(crate) fn foreign_bytes(version: u64, created: &str) -> Vec<u8> {
    let [one, two, five] = [1, 2, 5].map(|byte| STANDARD.encode(blob(byte)));
    let (index, cutover) = match version {
        1 => (0, ""),
        _ => (9, "\n  \"storage_envelope_cutover_index\": 0,"),
    };
    format!(
        r#"{{
  "version": {version},
  "raft_applied_index": {index},
  "storage_envelope_active": false,{cutover}
  "raft_envelope_cutover_index": 0,
  "active": {{
    "storage": 5,
    "raft": 2
  }},
  "keys": {{
    "1": {{
      "purpose": "storage",
      "wrapped": "{one}",
      "created": "2019-01-01T00:00:00Z",
      "local_epoch": 0
    }},
    "2": {{
      "purpose": "raft",
      "wrapped": "{two}",
      "created": "2019-01-01T00:00:00Z",
      "local_epoch": 0
    }},
    "5": {{
      "purpose": "storage",
      "wrapped": "{five}",
      "created": "{created}",
      "local_epoch": 7
    }}
  }}
}}"#
    )
    .into_bytes()
}

/// What the reference's host knows: bootstrap at 3, rotation to key 5 at 6, applied up to 9.
pub(crate) fn adoption() -> Adoption {
    Adoption {
        applied_index: RaftIndex(9),
        entries: vec![
            (RaftIndex(3), bootstrap().encode()),
            (RaftIndex(6), rotation(5, Purpose::Storage).encode()),
        ],
        rows: [seen(1, N1, 0, 0), seen(2, N1, 0, 0), seen(5, N1, 0, 7), seen(5, N2, 2, 2)].into(),
    }
}

/// A node that starts on a sidecar of the reference system.
pub(crate) fn foreign_node(version: u64) -> World {
    let mut world = World::new();
    world.put_sidecar(&foreign_bytes(version, "2019-06-01T00:00:00Z"));
    world.restart();
    world
}

#[test]
fn a_foreign_sidecar_is_read_and_left_as_it_is() {
    for version in [1, 2] {
        let mut world = foreign_node(version);
        let before = world.lasting();
        assert_eq!(before.keys, [(id(1), dek(1)), (id(2), dek(2)), (id(5), dek(5))]);
        assert_eq!(before.active, (Some(id(5)), Some(id(2))));
        let foreign = world.node().foreign().expect("it is foreign");
        assert_eq!((foreign.version, foreign.keys[&id(5)].local_epoch), (version, LocalEpoch(7)));
        assert!(world.node().sidecar().is_none());
        assert_eq!(
            world.disk(),
            [("keys.json".to_owned(), foreign_bytes(version, "2019-06-01T00:00:00Z"))].into()
        );
        world.restart();
        assert_eq!(world.lasting(), before);
    }
}

#[test]
fn nothing_is_applied_on_a_foreign_sidecar() {
    let mut world = foreign_node(1);
    for entry in
        [bootstrap(), rotation(5, Purpose::Storage), rotation(9, Purpose::Raft), registration(1, N2, 3)]
    {
        for index in [0, 1, 2] {
            world.check_failed(index, &entry, ApplyError::Foreign);
        }
    }
    let before = world.state();
    assert_eq!(world.advance(1), Outcome::Failed(ApplyError::Foreign));
    assert_eq!(world.state(), before);
}

/// The bytes of a sidecar as the reference system writes it before its bootstrap.
pub(crate) fn empty_foreign_bytes(version: u64) -> Vec<u8> {
    let cutover = if version == 1 { "" } else { "\n  \"storage_envelope_cutover_index\": 0," };
    format!(
        "{{\n  \"version\": {version},\n  \"raft_applied_index\": 0,\n  \"storage_envelope_active\": false,{cutover}\n  \
         \"raft_envelope_cutover_index\": 0,\n  \"active\": {{\n    \"storage\": 0,\n    \"raft\": 0\n  }},\n  \
         \"keys\": null\n}}"
    )
    .into_bytes()
}

#[test]
fn an_empty_sidecar_of_the_reference_is_foreign_too() {
    for version in [1, 2] {
        let bytes = empty_foreign_bytes(version);
        let mut world = World::new();
        world.put_sidecar(&bytes);
        world.restart();
        assert_eq!(world.node().active(Purpose::Storage), None);
        assert!(world.keys().is_empty());
        world.check_failed(1, &bootstrap(), ApplyError::Foreign);
        let refused = world.node_mut().adopt(&Adoption::default());
        assert_eq!(refused, Err(AdoptError::Bootstraps { found: 0 }));
        assert_eq!(world.sidecar_bytes(), Some(bytes));
    }
}

#[test]
fn adoption_names_every_key_and_takes_rows_and_index_over() {
    for version in [1, 2] {
        let mut world = foreign_node(version);
        let before = world.lasting();
        assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
        let adopted = world.lasting();
        let sidecar = adopted.held.0.as_ref().expect("it is ours now");
        let bootstrap_name = EntryName::of(RaftIndex(3), &bootstrap().encode());
        let rotation_name = EntryName::of(RaftIndex(6), &rotation(5, Purpose::Storage).encode());
        assert_eq!(sidecar.bootstrap, bootstrap_name);
        let names = sidecar.keys.iter().map(|(id, key)| (id.get(), key.name)).collect::<Vec<_>>();
        assert_eq!(names, [(1, bootstrap_name), (2, bootstrap_name), (5, rotation_name)]);
        let five = &sidecar.keys[&id(5)];
        assert_eq!((five.local_epoch, five.created.as_str()), (LocalEpoch(7), "2019-06-01T00:00:00Z"));
        assert_eq!(sidecar.active, Active { storage: id(5), raft: id(2) });
        assert_eq!(sidecar.cutovers, Cutovers::default());
        let index = RaftIndex(if version == 1 { 6 } else { 9 });
        assert_eq!((sidecar.raft_applied_index, adopted.local.sidecar_index), (index, index));
        assert_eq!((adopted.applied, &adopted.registry.rows), (RaftIndex(9), &adoption().rows));
        assert_eq!((&adopted.keys, adopted.active), (&before.keys, before.active));
        assert_eq!(adopted.disk["keys.json"], json::encode(sidecar));
        world.restart();
        assert_eq!(world.lasting(), adopted);
    }
}

#[test]
fn after_an_adoption_redelivery_changes_nothing_and_rotations_go_on() {
    let mut world = foreign_node(1);
    let clean = world.lasting().registry;
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
    let adopted = world.lasting();
    let log = adoption().entries;
    for (index, payload) in &log {
        world.check_pure(index.0, payload, &Outcome::NoOp(NoOp::AlreadyApplied));
    }
    // The whole log again, onto an empty registry, and the original entries once more at later indices.
    world.node_mut().restore(&clean, &mut |_| Ok(())).expect("a snapshot of its own past");
    for index in 1..=9 {
        let named = log.iter().find(|(at, _)| at.0 == index).map(|(_, payload)| payload.clone());
        let outcome = match named {
            Some(payload) => world.node_mut().apply(RaftIndex(index), &payload),
            None if index == 8 => world.apply(8, &registration(5, N2, 2)),
            None if index == 9 => world.apply(9, &registration(5, N1, 7)),
            None => world.advance(index),
        };
        assert_eq!(outcome, Outcome::Applied, "entry {index}");
    }
    assert_eq!(world.lasting(), adopted);
    assert_eq!(world.apply(10, &bootstrap()), Outcome::NoOp(NoOp::DuplicateBootstrap));
    let again = rotation(5, Purpose::Storage);
    assert_eq!(world.apply(11, &again), Outcome::NoOp(NoOp::DuplicateRotation));
    assert_eq!(world.apply(12, &rotation(6, Purpose::Storage)), Outcome::Applied);
    assert_eq!(world.node().active(Purpose::Storage), Some(id(6)));
    assert_eq!(world.apply(13, &registration(6, N2, 0)), Outcome::Applied);
    world.restart();
    assert_eq!(world.node().active(Purpose::Storage), Some(id(6)));
}

#[test]
fn an_adoption_that_was_cut_off_is_repeated_after_a_restart() {
    let steps = [(Op::Create, "keys.json.tmp"), (Op::Sync, "keys.json.tmp"), (Op::Rename, "keys.json")];
    for (op, path_end) in steps {
        let mut world = foreign_node(1);
        let foreign = world.sidecar_bytes();
        world.files.arm(Fault::named(op, path_end, EIO, Effect::Absent));
        let cut = world.node_mut().adopt(&adoption());
        assert!(matches!(cut, Err(AdoptError::Halted(HaltCause::Sidecar(_)))), "{cut:?}");
        assert_eq!(world.files.disarm(), 1);
        assert_eq!(world.sidecar_bytes(), foreign);
        world.check_poisoned(10, &rotation(6, Purpose::Storage));
        assert_eq!(world.node_mut().adopt(&adoption()), Err(AdoptError::Poisoned));
        world.restart();
        assert!(world.node().foreign().is_some());
        world.check_failed(10, &rotation(6, Purpose::Storage), ApplyError::Foreign);
        let mut other = adoption();
        other.rows.clear();
        assert_eq!(world.node_mut().adopt(&other), Err(AdoptError::RegistryInUse));
        assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
        let mut calm = foreign_node(1);
        assert_eq!(calm.node_mut().adopt(&adoption()), Ok(()));
        assert_eq!(world.lasting(), calm.lasting());
    }
}

#[test]
fn an_adoption_whose_commit_failed_left_the_file_foreign_and_is_repeated() {
    for fault in [CommitFault::Absent, CommitFault::Present] {
        let mut world = foreign_node(2);
        let before = world.disk();
        world.registry.borrow_mut().commit = Some(fault);
        let failed = world.node_mut().adopt(&adoption());
        assert_eq!(failed, Err(AdoptError::Halted(HaltCause::Commit(commit_error()))));
        assert!(world.node().is_poisoned());
        assert_eq!(world.disk(), before, "the sidecar goes last, so that the file stays foreign");
        world.restart();
        assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
        assert_eq!(world.node().applied_index(), RaftIndex(9));
    }
}

#[test]
fn an_adoption_whose_directory_sync_failed_is_found_done() {
    let mut world = foreign_node(1);
    world.files.arm(Fault::named(Op::SyncDir, "encryption", EIO, Effect::Absent));
    assert!(matches!(world.node_mut().adopt(&adoption()), Err(AdoptError::Halted(HaltCause::Sidecar(_)))));
    world.restart();
    assert_eq!(world.node_mut().adopt(&adoption()), Err(AdoptError::NotForeign));
    assert_eq!(world.apply(10, &rotation(6, Purpose::Storage)), Outcome::Applied);
}

#[test]
fn a_database_may_be_missing_beside_a_foreign_sidecar() {
    let mut world = foreign_node(1);
    world.stop();
    std::fs::remove_file(world.database_path()).expect("it exists");
    world.restart();
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
}

#[test]
fn what_an_adoption_wrote_can_be_read_whatever_the_reference_wrote_as_its_time() {
    for created in ["", "yesterday", "2019-06-01T00:00:00+00:00", "2019-06-01T00:00:00.5Z"] {
        let mut world = World::new();
        world.put_sidecar(&foreign_bytes(1, created));
        world.restart();
        assert_eq!(world.node_mut().adopt(&adoption()), Ok(()), "{created:?}");
        let bytes = world.sidecar_bytes().expect("it was written");
        assert!(matches!(json::decode(&bytes), Ok(SidecarContent::Ours(_))), "{created:?}");
    }
}

#[test]
fn an_adoption_hides_no_entry_that_is_still_to_come() {
    // The file carries index 9; a host that has applied less of the log than the file says is not to be believed.
    let mut world = foreign_node(2);
    let before = world.lasting();
    let behind = Adoption { applied_index: RaftIndex(7), ..adoption() };
    let refused = AdoptError::Behind { sidecar: RaftIndex(9), applied: RaftIndex(7) };
    assert_eq!(world.node_mut().adopt(&behind), Err(refused));
    assert_eq!(world.lasting(), before);
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
}
