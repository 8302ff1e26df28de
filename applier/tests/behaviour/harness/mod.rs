//! One node on real files in a temporary directory, behind ports that a test steers, and the checks of a boundary.

mod disk;
mod entries;
mod ports;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use applier::kek::KekRing;
use applier::outcome::NoOp;
use applier::registry::{Local, Registry, RegistrySnapshot, RowKey, WriterRow};
use applier::secret::Dek;
use applier::sidecar::{ForeignSidecar, Sidecar};
use applier::wire::Entry;
use applier::{
    Admission, Applier, ApplyError, Config, DekId, InstallError, KekCheck, KeyringConfig, Known, NodeId,
    Outcome, PromiseError, Purpose, RaftIndex, Reject, Snapshot, StartError,
};

pub(crate) use disk::{Effect, Fault, FaultyFiles, Op};
pub(crate) use entries::{
    N1, N1_TWIN, N2, bootstrap, bootstrap_with, cutover, cutover_with, id, registration, retirement,
    retirement_with, rewrap, rewrap_with, rotation, rotation_with, row, seen,
};
pub(crate) use ports::{
    CommitFault, FaultyRegistry, FixedClock, RegistryControl, TestKek, blob, blob_with_nonce, commit_error,
    dek, read_error,
};

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// 2020-01-01T00:00:00Z.
pub(crate) const NOW: u64 = 1_577_836_800;

pub(crate) type Node = Applier<FaultyFiles, FaultyRegistry>;

/// A node's disk and surroundings, which outlive its lives, and its present life.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) files: FaultyFiles,
    pub(crate) kek: Arc<TestKek>,
    /// The KEK that is to be withdrawn, if there is one.
    pub(crate) previous: Option<Arc<TestKek>>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) registry: Rc<RefCell<RegistryControl>>,
    /// Whether the next start has a keyring.
    pub(crate) keyring: bool,
    /// Under which id the next start is.
    pub(crate) full_node_id: u64,
    /// What the host knows at the next start.
    pub(crate) known: Known,
    node: Option<Node>,
}

/// Everything that a refusal must leave as it was, and that a restart must find again.
#[derive(Debug, PartialEq)]
pub(crate) struct Lasting {
    pub(crate) keys: Vec<(DekId, Dek)>,
    pub(crate) active: (Option<DekId>, Option<DekId>),
    pub(crate) held: (Option<Sidecar>, Option<ForeignSidecar>),
    /// The directory of the sidecar: every name and its bytes.
    pub(crate) disk: BTreeMap<String, Vec<u8>>,
    pub(crate) registry: RegistrySnapshot,
    pub(crate) local: Local,
    pub(crate) applied: RaftIndex,
}

/// [`Lasting`], and what tells whether anything was even attempted.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    lasting: Lasting,
    poisoned: bool,
    mutating_calls: usize,
    commits: usize,
}

impl World {
    /// An empty disk and no life yet. Database and sidecar have a directory each.
    pub(crate) fn new() -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["database", "encryption"] {
            std::fs::create_dir(dir.path().join(name)).expect("a writable directory");
        }
        World {
            dir,
            files: FaultyFiles::default(),
            kek: Arc::new(TestKek::new()),
            previous: None,
            clock: Arc::new(FixedClock::at(NOW)),
            registry: Rc::default(),
            keyring: true,
            full_node_id: N1,
            known: Known::default(),
            node: None,
        }
    }

    /// A fresh node.
    pub(crate) fn started() -> World {
        let mut world = World::new();
        world.restart();
        world
    }

    /// A fresh node without KEK and sidecar path.
    pub(crate) fn started_without_keyring() -> World {
        let mut world = World::new();
        world.keyring = false;
        world.restart();
        world
    }

    /// A node that has applied these entries from index 1 on.
    pub(crate) fn with(entries: &[Entry]) -> World {
        let mut world = World::started();
        for (index, entry) in (1..).zip(entries) {
            assert_eq!(world.apply(index, entry), Outcome::Applied, "entry {index}");
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    pub(crate) fn database_path(&self) -> String {
        self.path("database/registry.redb")
    }

    pub(crate) fn sidecar_path(&self) -> String {
        self.path("encryption/keys.json")
    }

    pub(crate) fn config(&self) -> Config {
        let ring = KekRing::from(self.kek.clone());
        let kek = match &self.previous {
            Some(previous) => ring.with_previous(previous.clone()),
            None => ring,
        };
        let keyring = || KeyringConfig { kek, sidecar: self.sidecar_path() };
        Config {
            node: NodeId::new(self.full_node_id).expect("not 0"),
            database: self.database_path(),
            keyring: self.keyring.then(keyring),
            known: self.known.clone(),
        }
    }

    /// Opens the database alone.
    pub(crate) fn open_registry(&self) -> Result<FaultyRegistry, StartError> {
        let registry = applier::apply::open_database(&self.files, &self.config())?;
        Ok(FaultyRegistry::new(registry, self.registry.clone()))
    }

    /// Starts on a registry that is open.
    pub(crate) fn start_on(&mut self, registry: FaultyRegistry) -> Result<(), StartError> {
        let clock = self.clock.clone();
        self.node = Some(Applier::start(self.files.clone(), registry, &self.config(), clock)?);
        Ok(())
    }

    /// Ends the present life, if any, and tries to begin the next one.
    pub(crate) fn try_restart(&mut self) -> Result<(), StartError> {
        self.stop();
        let registry = self.open_registry()?;
        self.start_on(registry)
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        if let Err(error) = self.try_restart() {
            panic!("it must start: {error}");
        }
    }

    pub(crate) fn stop(&mut self) {
        self.node = None;
    }

    #[track_caller]
    pub(crate) fn node(&self) -> &Node {
        self.node.as_ref().expect("a started node")
    }

    #[track_caller]
    pub(crate) fn node_mut(&mut self) -> &mut Node {
        self.node.as_mut().expect("a started node")
    }

    /// Applies an entry. Where it is the next one, what a leader in this state would have said of it is checked, too.
    #[track_caller]
    pub(crate) fn apply(&mut self, index: u64, entry: &Entry) -> Outcome {
        let payload = entry.encode();
        let admission = self.admit_next(index, &payload);
        let outcome = self.node_mut().apply(RaftIndex(index), &payload);
        if let Some(admission) = admission {
            check_agrees(&admission, &outcome);
        }
        outcome
    }

    /// What a leader says of a payload that is due at `index`; `None` where another one is due, or where an entry is
    /// due that the sidecar has already, which nobody proposes.
    fn admit_next(&self, index: u64, payload: &[u8]) -> Option<Admission> {
        let node = self.node();
        let is_ahead = node.sidecar().is_some_and(|held| held.raft_applied_index > node.applied_index());
        (RaftIndex(index) == node.applied_index().next() && !is_ahead).then(|| node.admit(payload, &[]))
    }

    pub(crate) fn advance(&mut self, index: u64) -> Outcome {
        self.node_mut().advance(RaftIndex(index), &mut |_| Ok(()))
    }

    pub(crate) fn sidecar_bytes(&self) -> Option<Vec<u8>> {
        std::fs::read(self.sidecar_path()).ok()
    }

    pub(crate) fn put_sidecar(&self, bytes: &[u8]) {
        std::fs::write(self.sidecar_path(), bytes).expect("a writable directory");
    }

    /// Every file of the stopped node, as a backup of its whole disk has them.
    pub(crate) fn image(&self) -> Vec<(String, Vec<u8>)> {
        let paths = [self.sidecar_path(), self.database_path()];
        paths.map(|path| (path.clone(), std::fs::read(&path).expect("a readable file"))).into()
    }

    /// Puts files of an image back.
    pub(crate) fn put_image(&self, image: &[(String, Vec<u8>)]) {
        for (path, bytes) in image {
            std::fs::write(path, bytes).expect("a writable directory");
        }
    }

    /// The sidecar's directory: every name and its bytes.
    pub(crate) fn disk(&self) -> BTreeMap<String, Vec<u8>> {
        let dir = std::fs::read_dir(self.path("encryption")).expect("it exists");
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.expect("a readable directory");
            let bytes = std::fs::read(entry.path()).expect("a readable file");
            (entry.file_name().into_string().expect("a UTF-8 name"), bytes)
        };
        dir.map(file).collect()
    }

    pub(crate) fn rows(&self) -> BTreeMap<RowKey, WriterRow> {
        self.node().registry().snapshot().expect("a readable registry").rows
    }

    /// The registry has exactly this row for its key.
    #[track_caller]
    pub(crate) fn check_row(&self, (key, row): (RowKey, WriterRow)) {
        assert_eq!(self.rows().get(&key), Some(&row));
    }

    pub(crate) fn keys(&self) -> Vec<(DekId, Dek)> {
        let keystore = self.node().keystore();
        let ids = keystore.ids();
        ids.into_iter().map(|id| (id, keystore.dek(id).expect("it was just listed"))).collect()
    }

    /// What must last, also where the registry is told to fail its reads.
    pub(crate) fn lasting(&self) -> Lasting {
        let node = self.node();
        let fail = std::mem::replace(&mut self.registry.borrow_mut().reads_fail, false);
        let lasting = Lasting {
            keys: self.keys(),
            active: (node.active(Purpose::Storage), node.active(Purpose::Raft)),
            held: (node.sidecar().cloned(), node.foreign().cloned()),
            disk: self.disk(),
            registry: node.registry().snapshot().expect("a readable registry"),
            local: node.registry().local().expect("a readable registry"),
            applied: node.applied_index(),
        };
        self.registry.borrow_mut().reads_fail = fail;
        if !node.is_poisoned() {
            assert_eq!(lasting.registry.applied_index, lasting.applied, "memory and database agree");
        }
        lasting
    }

    pub(crate) fn state(&self) -> State {
        State {
            lasting: self.lasting(),
            poisoned: self.node().is_poisoned(),
            mutating_calls: self.files.calls(),
            commits: self.registry.borrow().commits,
        }
    }

    /// The entry comes to `expected` twice in a row, the host is not asked, and nothing changes; not even a mutating
    /// call is made.
    #[track_caller]
    pub(crate) fn check_pure(&mut self, index: u64, payload: &[u8], expected: &Outcome) {
        for _ in 0..2 {
            let before = self.state();
            let mut asked = false;
            let mut host = |_: &_| {
                asked = true;
                Ok(())
            };
            if let Some(admission) = self.admit_next(index, payload) {
                check_agrees(&admission, expected);
                assert_eq!(self.state(), before, "admission touches nothing");
            }
            let outcome = self.node_mut().apply_with(RaftIndex(index), payload, &mut host);
            assert_eq!(outcome, *expected);
            assert!(!asked, "the host has no part in what is not applied");
            assert_eq!(self.state(), before);
        }
    }

    /// Pure, and the same verdict after a restart.
    #[track_caller]
    pub(crate) fn check_rejected_payload(&mut self, index: u64, payload: &[u8], reject: impl Into<Reject>) {
        let expected = Outcome::Rejected(reject.into());
        let before = self.lasting();
        self.check_pure(index, payload, &expected);
        self.restart();
        self.check_pure(index, payload, &expected);
        assert_eq!(self.lasting(), before);
    }

    /// Pure, and the same verdict after a restart.
    #[track_caller]
    pub(crate) fn check_rejected(&mut self, index: u64, entry: &Entry, reject: impl Into<Reject>) {
        self.check_rejected_payload(index, &entry.encode(), reject);
    }

    /// Pure, and nothing that outlasts its cause.
    #[track_caller]
    pub(crate) fn check_failed(&mut self, index: u64, entry: &Entry, error: impl Into<ApplyError>) {
        self.check_pure(index, &entry.encode(), &Outcome::Failed(error.into()));
    }

    /// The snapshot is refused with this error, twice, without a part of the host's, and nothing changes.
    #[track_caller]
    pub(crate) fn check_not_installed(&mut self, snapshot: &Snapshot, error: impl Into<InstallError>) {
        let error = error.into();
        for _ in 0..2 {
            let before = self.state();
            let mut asked = false;
            let mut host = |_: &_| {
                asked = true;
                Ok(())
            };
            assert_eq!(self.node_mut().install(snapshot, &mut host), Err(error.clone()));
            assert!(!asked, "the host has no part in what is not installed");
            assert_eq!(self.state(), before);
        }
    }

    /// The applier halted: it applies, restores, installs and promises nothing more, and none of that touches anything.
    #[track_caller]
    pub(crate) fn check_poisoned(&mut self, index: u64, entry: &Entry) {
        assert!(self.node().is_poisoned());
        for index in [1, index, index + 1] {
            self.check_failed(index, entry, ApplyError::Poisoned);
            assert_eq!(self.advance(index), Outcome::Failed(ApplyError::Poisoned));
        }
        let refused = self.node_mut().restore(&RegistrySnapshot::default(), &mut |_| Ok(()));
        assert_eq!(refused, Err(applier::apply::RestoreError::Poisoned));
        let before = self.state();
        let snapshot = Snapshot { registry: RegistrySnapshot::default(), sidecar: None };
        self.check_not_installed(&snapshot, InstallError::Poisoned);
        assert_eq!(self.node().snapshot(), Err(ApplyError::Poisoned));
        assert_eq!(self.node().admit(&entry.encode(), &[]), Admission::Failed(ApplyError::Poisoned));
        assert_eq!(self.node_mut().promise(KekCheck([0; 8]), 0), Err(PromiseError::Poisoned));
        assert_eq!(self.state(), before);
    }
}

/// What a leader said of a payload is what came of it as the next entry. A halt comes after the verdict.
#[track_caller]
pub(crate) fn check_agrees(admission: &Admission, outcome: &Outcome) {
    match (admission, outcome) {
        (Admission::Propose, Outcome::Applied | Outcome::Halted(_)) => {}
        (Admission::Duplicate { .. }, Outcome::Halted(_)) => {}
        (Admission::Duplicate { no_op, .. }, Outcome::NoOp(found)) => assert_eq!(no_op, found),
        (Admission::Stale, Outcome::Halted(_) | Outcome::NoOp(NoOp::CutoverStale)) => {}
        (Admission::Refused(reject), Outcome::Rejected(found)) => assert_eq!(reject, found),
        (Admission::Failed(error), Outcome::Failed(found)) => assert_eq!(error, found),
        _ => panic!("{admission:?}, and then {outcome:?}"),
    }
}
