//! The registry in its real database against plain maps: random commits, some of which the host refuses, on a file that
//! is closed and opened again, or found as a process left it that died. The file is in memory, where a sync costs nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use applier::ports::{Files, WriteFile};
use applier::registry::{
    Change, HostRefused, Local, LocalChange, RedbRegistry, Registry, RegistrySnapshot, RowKey, WriterRow,
    create, open,
};
use applier::{DekId, KekCheck, LocalEpoch, RaftIndex};
use proptest::{collection::btree_map, option, prelude::*, test_runner::RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

const DEKS: std::ops::RangeInclusive<u32> = 1..=3;
/// Two of them share their low 16 bits, and so their rows.
const NODES: [u64; 3] = [0x0a00_0000_0000_1234, 0x0b00_0000_0000_1234, 0xffff];
const HOST: TableDefinition<'_, u8, u8> = TableDefinition::new("host");

/// What the host does in a transaction: writes a value of its own, or refuses.
type HostStep = Result<(u8, u8), ()>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Change, HostStep),
    Keep(LocalChange),
    Restore(RegistrySnapshot, Option<RaftIndex>, HostStep),
    Reopen,
    /// The process dies; the next one finds the file as it was written so far.
    ProcessCrash,
}

#[derive(Clone, Debug, Default)]
struct Model {
    registry: RegistrySnapshot,
    local: Local,
    host: BTreeMap<u8, u8>,
}

fn rows() -> impl Strategy<Value = BTreeMap<RowKey, WriterRow>> {
    let key = (DEKS, prop::sample::select(&NODES));
    btree_map(key, (0..4_u16, 0..4_u16), 0..4).prop_map(|rows| {
        let row = |((dek, node), (first_seen, last_seen))| {
            (RowKey::of(dek, node), WriterRow { full_node_id: node, first_seen, last_seen })
        };
        rows.into_iter().map(row).collect()
    })
}

fn index() -> impl Strategy<Value = RaftIndex> {
    (0..10_u64).prop_map(RaftIndex)
}

fn dek_id() -> impl Strategy<Value = DekId> {
    DEKS.prop_map(|id| DekId::new(id).expect("not 0"))
}

fn kek() -> impl Strategy<Value = KekCheck> {
    (0..3_u64).prop_map(KekCheck::from_u64)
}

fn change() -> impl Strategy<Value = Change> {
    let rewrapped = option::weighted(0.3, (0..4_u32, kek()));
    let parts =
        (rows(), option::of(index()), option::weighted(0.2, dek_id()), option::of(index()), rewrapped);
    parts.prop_map(|(rows, applied_index, retired, sidecar_index, rewrapped)| Change {
        rows,
        applied_index,
        retired,
        sidecar_index,
        rewrapped,
    })
}

impl Model {
    fn raise_sidecar(&mut self, index: Option<RaftIndex>) {
        self.local.sidecar_index = self.local.sidecar_index.max(index.unwrap_or_default());
    }

    fn commit(&mut self, change: &Change) {
        let retired = change.retired.map(DekId::get);
        self.registry.rows.retain(|key, _| Some(key.dek_id) != retired);
        self.registry.rows.extend(&change.rows);
        self.registry.applied_index = change.applied_index.unwrap_or(self.registry.applied_index);
        self.raise_sidecar(change.sidecar_index);
        if let Some((generation, kek)) = change.rewrapped {
            self.local.kek = Some(kek);
            if self.local.next_generation <= Some(generation) {
                (self.local.next_kek, self.local.next_generation) = (None, None);
            }
        }
    }

    fn keep(&mut self, change: LocalChange) {
        match change {
            LocalChange::Promise(kek) => self.local.kek = Some(kek),
            LocalChange::PromiseNext(kek, generation) => {
                (self.local.next_kek, self.local.next_generation) = (Some(kek), Some(generation));
            }
            LocalChange::Claim(id, epoch) => {
                let highest = self.local.epochs.entry(id).or_default();
                *highest = epoch.max(*highest);
            }
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        let host = || prop_oneof![3 => (0..3_u8, 0..9_u8).prop_map(Ok), 1 => Just(Err(()))];
        let snapshot =
            (rows(), index()).prop_map(|(rows, applied_index)| RegistrySnapshot { rows, applied_index });
        let local = prop_oneof![
            kek().prop_map(LocalChange::Promise),
            (kek(), 0..4_u32).prop_map(|(kek, generation)| LocalChange::PromiseNext(kek, generation)),
            (dek_id(), 0..5_u16).prop_map(|(id, epoch)| LocalChange::Claim(id, LocalEpoch(epoch))),
        ];
        prop_oneof![
            6 => (change(), host()).prop_map(|(change, host)| Step::Commit(change, host)),
            3 => local.prop_map(Step::Keep),
            1 => (snapshot, option::of(index()), host()).prop_map(|(one, two, host)| Step::Restore(one, two, host)),
            1 => Just(Step::Reopen),
            1 => Just(Step::ProcessCrash),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match step {
            Step::Commit(change, Ok((key, value))) => {
                model.commit(change);
                model.host.insert(*key, *value);
            }
            Step::Restore(snapshot, sidecar, Ok((key, value))) => {
                model.registry = snapshot.clone();
                model.raise_sidecar(*sidecar);
                model.host.insert(*key, *value);
            }
            Step::Keep(change) => model.keep(*change),
            Step::Commit(_, Err(())) | Step::Restore(_, _, Err(())) | Step::Reopen | Step::ProcessCrash => {}
        }
        model
    }
}

/// Bytes that several handles share.
#[derive(Clone, Debug, Default)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = offset as usize;
        let bytes = self.bytes();
        let found = bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (from, mut bytes) = (offset as usize, self.bytes());
        let end = bytes.len().max(from + data.len());
        bytes.resize(end, 0);
        bytes[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Files in memory, as far as a registry uses them.
#[derive(Clone, Debug, Default)]
struct MemoryFiles(Arc<Mutex<BTreeMap<String, MemoryFile>>>);

impl MemoryFiles {
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, MemoryFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for MemoryFiles {
    type Backend = MemoryFile;

    fn open_read(&self, _: &str) -> io::Result<Box<dyn io::Read>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_new(&self, _: &str) -> io::Result<Box<dyn WriteFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = self.names();
        let file = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_owned(), file);
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.names().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock_dir(&self, _: &str) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.names().get(path).map(StorageBackend::len).transpose()
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<MemoryFile> {
        let mut names = self.names();
        match create {
            true => Ok(names.entry(path.to_owned()).or_default().clone()),
            false => names.get(path).cloned().ok_or(io::ErrorKind::NotFound.into()),
        }
    }
}

const PATH: &str = "/db/registry.redb";

/// A registry, and the files that it is in.
struct Store {
    files: MemoryFiles,
    registry: Option<RedbRegistry>,
}

impl Store {
    fn open(&mut self) {
        self.registry = None;
        self.registry = Some(open(&self.files, PATH).expect("it was created"));
    }

    fn registry(&mut self) -> &mut RedbRegistry {
        self.registry.as_mut().expect("it is open")
    }
}

fn host_part(step: HostStep) -> impl FnMut(&redb::WriteTransaction) -> Result<(), HostRefused> {
    move |transaction| {
        let refused = |error: &dyn ToString| HostRefused(error.to_string());
        let (key, value) = step.map_err(|()| refused(&"as drawn"))?;
        let mut table = transaction.open_table(HOST).map_err(|error| refused(&error))?;
        table.insert(key, value).map(drop).map_err(|error| refused(&error))
    }
}

impl StateMachineTest for Store {
    type SystemUnderTest = Store;
    type Reference = Model;

    fn init_test(_: &Model) -> Store {
        let files = MemoryFiles::default();
        create(&files, PATH).expect("it is not there yet");
        let mut store = Store { files, registry: None };
        store.open();
        store
    }

    fn apply(mut store: Store, _: &Model, step: Step) -> Store {
        match step {
            Step::Commit(change, host) => {
                let committed = store.registry().commit(&change, &mut host_part(host));
                assert_eq!(committed.is_ok(), host.is_ok());
            }
            Step::Keep(change) => store.registry().keep(change).expect("a working disk"),
            Step::Restore(snapshot, sidecar, host) => {
                let restored = store.registry().restore(&snapshot, sidecar, &mut host_part(host));
                assert_eq!(restored.is_ok(), host.is_ok());
            }
            Step::Reopen => store.open(),
            Step::ProcessCrash => {
                let left = store.files.names().get(PATH).expect("it is there").bytes().clone();
                store.registry = None;
                *store.files.names().get(PATH).expect("it is there").bytes() = left;
                store.open();
            }
        }
        store
    }

    fn check_invariants(store: &Store, model: &Model) {
        let registry = store.registry.as_ref().expect("it is open");
        assert_eq!(registry.snapshot().as_ref(), Ok(&model.registry));
        assert_eq!(registry.applied_index(), Ok(model.registry.applied_index));
        assert_eq!(registry.local().as_ref(), Ok(&model.local));
        let keys: Vec<RowKey> = DEKS.rev().flat_map(|dek| NODES.map(|node| RowKey::of(dek, node))).collect();
        let rows = keys.iter().map(|key| model.registry.rows.get(key).copied()).collect();
        assert_eq!(registry.rows(&keys), Ok(rows));
        let view = registry.database().begin_read().expect("a working disk");
        let Ok(table) = view.open_table(HOST) else { return assert!(model.host.is_empty()) };
        let rows = table.iter().expect("a working disk").map(|row| row.expect("a working disk"));
        let host: BTreeMap<u8, u8> = rows.map(|(key, value)| (key.value(), value.value())).collect();
        assert_eq!(host, model.host);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_registry_is_its_maps_however_often_it_is_opened(sequential 1..20 => Store);
}
