//! The simulated files are the real ones: the same log, on a real directory with the real files and redb's own file
//! backend, ends in the same logical state as on the simulated disk.

use std::sync::Arc;

use applier::os::OsFiles;
use applier::ports::Files;
use applier::registry::{Registry, RegistrySnapshot};
use applier::sidecar::Sidecar;
use applier::{Applier, Config, DekId, KeyringConfig, NodeId, Outcome, Purpose, RaftIndex};
use scenarios::form::{Blob, BlobFault, Form, KEY_MARKER, Keks, KeyNumber, Row};
use scenarios::seam::{FixedClock, SimFiles};
use sim::{Disk, Lies, Profile, Trace};

fn blob(key: u8) -> Blob {
    Blob { key: KeyNumber(key), seal: 0, kek: 0, fault: BlobFault::None }
}

fn log() -> Vec<Form> {
    let row = |dek, node, epoch| Row { dek, node, epoch };
    let rotate = |dek, purpose, key| Form::Rotation { dek, purpose, blob: blob(key), row: row(dek, 0x22, 1) };
    let bootstrap = Form::Bootstrap {
        storage: 1,
        storage_blob: blob(1),
        raft: 2,
        raft_blob: blob(2),
        rows: vec![row(1, 0x11, 0), row(2, 0x11, 0)],
    };
    vec![
        Form::Nothing,
        bootstrap.clone(),
        Form::Registration(row(1, 0x22, 3)),
        rotate(5, Purpose::Storage, 3),
        bootstrap,
        Form::Registration(row(1, 0x22, 3)),
        rotate(6, Purpose::Raft, 4),
        rotate(5, Purpose::Storage, 3),
        Form::Registration(row(6, 0x33, 9)),
    ]
}

/// Everything that does not depend on where it is stored.
#[derive(Debug, PartialEq)]
struct Logical {
    outcomes: Vec<Outcome>,
    sidecar: Option<Sidecar>,
    sidecar_bytes: Vec<u8>,
    registry: RegistrySnapshot,
    keys: Vec<(DekId, [u8; 32])>,
}

/// Applies the log in two lives, the second of which gets the whole log again.
fn apply<F: Files + Clone>(files: &F, database: String, sidecar: String) -> Logical {
    let keyring = KeyringConfig { kek: Arc::clone(Keks::new().kek(0)).into(), sidecar: sidecar.clone() };
    let config = Config {
        node: NodeId::new(0x11).expect("not 0"),
        database,
        keyring: Some(keyring),
        known: Default::default(),
    };
    let start = || {
        let clock = Arc::new(FixedClock(1_700_000_000));
        Applier::open(files.clone(), &config, clock).expect("a start without faults")
    };
    let keks = Keks::new();
    let mut outcomes = Vec::new();
    let mut deliver = |applier: &mut Applier<F>, upto: usize| {
        for (at, form) in log().iter().take(upto).enumerate() {
            let index = RaftIndex(at as u64 + 1);
            outcomes.push(match form.payload(&keks) {
                Some(payload) => applier.apply(index, &payload),
                None => applier.advance(index, &mut |_| Ok(())),
            });
        }
    };
    let mut first = start();
    deliver(&mut first, 5);
    drop(first);
    let mut second = start();
    deliver(&mut second, log().len());
    let keys = second.keystore().ids().into_iter();
    let key = |id| (id, *second.keystore().dek(id).expect("listed a moment ago").expose());
    let keys = keys.map(key).collect();
    let registry = second.registry().snapshot().expect("a read without faults");
    let held = second.sidecar().cloned();
    drop(second);
    let mut sidecar_bytes = Vec::new();
    std::io::Read::read_to_end(&mut files.open_read(&sidecar).expect("it exists"), &mut sidecar_bytes)
        .expect("a read without faults");
    Logical { outcomes, sidecar: held, sidecar_bytes, registry, keys }
}

#[test]
fn the_same_log_ends_in_the_same_state_on_real_and_on_simulated_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let real = apply(&OsFiles, path("registry.redb"), path("keys.json"));

    let disk = Disk::with(Profile::Posix, Lies::NONE, Trace::hashing());
    let files = SimFiles::new(disk.mount());
    let simulated = apply(&files, "/registry.redb".to_owned(), "/keys.json".to_owned());

    assert_eq!(real, simulated);
    assert_eq!(real.registry.applied_index, RaftIndex(9));
    assert_eq!(real.keys.len(), 4);
}

#[test]
fn key_bytes_of_a_world_carry_the_marker_that_is_searched_for() {
    assert_eq!(&KeyNumber(7).bytes()[..8], &KEY_MARKER);
    let sealed = blob(7).bytes(&Keks::new());
    assert!(!sealed.windows(8).any(|window| window == KEY_MARKER), "a wrapped key shows no key bytes");
}
