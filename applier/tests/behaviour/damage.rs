//! A damaged sidecar is refused, never taken for something else, and never overwritten.

use applier::outcome::StartError;
use applier::sidecar::json::{self, SidecarError};
use applier::{Outcome, Purpose};

use crate::harness::{FaultyRegistry, N2, Op, World, bootstrap, registration, rotation};

/// A node with three keys that has stopped, its sidecar's bytes and its open database.
fn stopped() -> (World, Vec<u8>, FaultyRegistry) {
    let mut world = World::with(&[bootstrap(), rotation(10, Purpose::Storage), registration(1, N2, 4)]);
    world.stop();
    let bytes = world.sidecar_bytes().expect("bootstrapped");
    let registry = world.open_registry().expect("nobody else has it");
    (world, bytes, registry)
}

/// The start is refused for the sidecar's sake, and the file keeps its bytes.
#[track_caller]
fn check_refused(world: &mut World, registry: &FaultyRegistry, bytes: &[u8]) -> SidecarError {
    world.put_sidecar(bytes);
    let from = world.files.calls();
    let fault = match world.start_on(registry.clone()) {
        Err(StartError::Sidecar { path, fault }) => {
            assert_eq!(path, world.sidecar_path());
            fault
        }
        other => panic!("{other:?} on {}", String::from_utf8_lossy(bytes)),
    };
    assert!(world.sidecar_bytes().as_deref() == Some(bytes), "the refusal changed the file");
    let log = world.files.log_since(from);
    assert!(log.iter().all(|(op, _)| matches!(op, Op::SyncDir | Op::Unlink)), "{log:?}");
    fault
}

#[test]
fn any_byte_that_changed_is_noticed() {
    let (_, bytes, _) = stopped();
    for at in 0..bytes.len() {
        for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let content = json::decode(&damaged);
            assert!(content.is_err(), "byte {at} ^ {flip:#04x} was taken for {content:?}");
        }
    }
}

#[test]
fn a_start_on_a_changed_byte_is_refused_and_keeps_the_file() {
    let (mut world, bytes, registry) = stopped();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        check_refused(&mut world, &registry, &damaged);
    }
    world.put_sidecar(&bytes);
    assert_eq!(world.start_on(registry), Ok(()));
}

#[test]
fn a_start_on_a_cut_file_is_refused_and_keeps_the_file() {
    let (mut world, bytes, registry) = stopped();
    for len in 0..bytes.len() {
        check_refused(&mut world, &registry, &bytes[..len]);
    }
}

#[test]
fn bytes_that_were_added_lost_or_swapped_are_noticed() {
    let (mut world, bytes, registry) = stopped();
    for tail in ["\n", " ", "}", "\0"] {
        check_refused(&mut world, &registry, &[bytes.as_slice(), tail.as_bytes()].concat());
    }
    for at in 0..bytes.len() {
        let (mut lost, mut doubled, mut swapped) = (bytes.clone(), bytes.clone(), bytes.clone());
        lost.remove(at);
        doubled.insert(at, bytes[at]);
        swapped.swap(at, (at + 1) % bytes.len());
        for damaged in [lost, doubled, swapped].iter().filter(|damaged| **damaged != bytes) {
            assert!(json::decode(damaged).is_err(), "byte {at}: {}", String::from_utf8_lossy(damaged));
        }
    }
}

#[test]
fn a_sector_of_zeros_is_noticed() {
    let (mut world, bytes, registry) = stopped();
    for start in (0..bytes.len()).step_by(512) {
        let mut damaged = bytes.clone();
        let end = bytes.len().min(start + 512);
        damaged[start..end].fill(0);
        check_refused(&mut world, &registry, &damaged);
    }
    check_refused(&mut world, &registry, &[]);
}

#[test]
fn a_lookalike_without_our_fields_is_not_ours() {
    // Whoever strips names and checksum does not get past the proof: the file then counts as the reference's own.
    let (mut world, bytes, registry) = stopped();
    let mut document: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let fields = document.as_object_mut().expect("an object");
    fields.remove("checksum");
    check_refused(&mut world, &registry, &serde_json::to_vec_pretty(&document).expect("JSON"));
    let fields = document.as_object_mut().expect("an object");
    fields.remove("bootstrap");
    check_refused(&mut world, &registry, &serde_json::to_vec_pretty(&document).expect("JSON"));
    for record in document["keys"].as_object_mut().expect("keys").values_mut() {
        let fields = record.as_object_mut().expect("a record");
        fields.remove("raft_index");
        fields.remove("sha256");
    }
    world.put_sidecar(&serde_json::to_vec_pretty(&document).expect("JSON"));
    assert_eq!(world.start_on(registry), Ok(()));
    assert!(world.node().foreign().is_some());
    let outcome = world.apply(4, &registration(1, N2, 5));
    assert_eq!(outcome, Outcome::Failed(applier::ApplyError::Foreign));
}

#[test]
fn a_database_that_is_missing_does_not_hide_a_damaged_sidecar() {
    let (mut world, bytes, registry) = stopped();
    drop(registry);
    std::fs::remove_file(world.database_path()).expect("it exists");
    world.put_sidecar(&bytes[..bytes.len() - 1]);
    assert!(matches!(world.try_restart(), Err(StartError::Sidecar { .. })));
    assert!(!std::path::Path::new(&world.database_path()).exists());
}
