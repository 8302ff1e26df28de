//! Row codec, row rules, and what one commit of the real store does.

use redb::TableDefinition;

use super::rules::register_all;
use super::*;
use crate::os::OsFiles;
use crate::wire;

const NODE: u64 = 0x0a00_0000_0000_1234;
const TWIN: u64 = 0x0b00_0000_0000_1234;

fn key(dek_id: u32, full_node_id: u64) -> RowKey {
    RowKey::of(dek_id, full_node_id)
}

fn row(full_node_id: u64, first_seen: u16, last_seen: u16) -> WriterRow {
    WriterRow { full_node_id, first_seen, last_seen }
}

fn claim(dek_id: u32, full_node_id: u64, local_epoch: u16) -> wire::Row {
    wire::Row { dek_id, full_node_id, local_epoch }
}

#[test]
fn a_row_key_holds_the_low_bits_of_the_node() {
    assert_eq!(key(7, NODE), RowKey { dek_id: 7, node16: 0x1234 });
    assert_eq!(key(7, NODE), key(7, TWIN));
}

#[test]
fn keys_sort_as_their_bytes_do() {
    let mut keys = [key(1, 0xff), key(1, 0x100), key(0x100, 1), key(0xff, 0xffff), key(u32::MAX, 0)];
    keys.sort();
    assert!(keys.iter().map(|key| key.encode()).is_sorted());
}

#[test]
fn keys_and_rows_survive_their_bytes_at_the_ends_of_their_ranges() {
    for (dek_id, node) in [(0, 0), (u32::MAX, u64::MAX), (1, 0x1_0000)] {
        assert_eq!(RowKey::decode(&key(dek_id, node).encode()), Ok(key(dek_id, node)));
        for row in [row(node, 0, 0), row(node, u16::MAX, 0), row(node, 1, u16::MAX)] {
            assert_eq!(WriterRow::decode(&row.encode()), Ok(row));
        }
    }
}

#[track_caller]
fn check_key(bytes: &[u8]) {
    let malformed = RegistryError::KeyMalformed { got: hex::encode(bytes) };
    assert_eq!(RowKey::decode(bytes), Err(malformed));
}

#[test]
fn another_length_prefix_or_separator_is_no_row_key() {
    let good = key(7, NODE).encode();
    for len in 0..KEY_LEN {
        check_key(&good[..len]);
    }
    check_key(&[good.as_slice(), &[0]].concat());
    for at in (0..20).chain([24]) {
        let mut bytes = good;
        bytes[at] ^= 1;
        check_key(&bytes);
    }
}

#[test]
fn another_length_is_no_row() {
    for len in (0..VALUE_LEN).chain([VALUE_LEN + 1]) {
        assert_eq!(WriterRow::decode(&vec![0; len]), Err(RegistryError::ValueMalformed { len }));
    }
}

#[test]
fn the_row_rules_are_these() {
    let rolled_back =
        |last_seen, got| Err(Clash::EpochRollback { dek_id: 1, full_node_id: NODE, last_seen, got });
    let collided = Err(Clash::NodeCollision { dek_id: 1, existing: NODE, got: TWIN });
    let cases = [
        (None, claim(1, NODE, 3), Ok(Registered::Row(row(NODE, 3, 3)))),
        (Some(row(NODE, 1, 3)), claim(1, NODE, 4), Ok(Registered::Row(row(NODE, 1, 4)))),
        (Some(row(NODE, 1, 3)), claim(1, NODE, u16::MAX), Ok(Registered::Row(row(NODE, 1, u16::MAX)))),
        (Some(row(NODE, 1, 3)), claim(1, NODE, 3), Ok(Registered::Unchanged)),
        (Some(row(NODE, 1, 3)), claim(1, NODE, 2), rolled_back(3, 2)),
        (Some(row(NODE, 1, u16::MAX)), claim(1, NODE, 0), rolled_back(u16::MAX, 0)),
        (Some(row(NODE, 1, 3)), claim(1, TWIN, 2), collided),
        (Some(row(NODE, 1, 3)), claim(1, TWIN, 3), collided),
        (Some(row(NODE, 1, 3)), claim(1, TWIN, 4), collided),
    ];
    for (existing, claim, expected) in cases {
        assert_eq!(register(existing, claim), expected, "{claim:?} on {existing:?}");
    }
}

#[test]
fn a_row_of_a_batch_is_judged_by_the_registry_and_by_the_rows_before_it() {
    let batch = [claim(1, NODE, 4), claim(2, NODE, 0), claim(1, NODE, 6), claim(3, NODE, 9)];
    let existing = [Some(row(NODE, 2, 3)), None, Some(row(NODE, 2, 3)), Some(row(NODE, 9, 9))];
    let expected = [(key(1, NODE), row(NODE, 2, 6)), (key(2, NODE), row(NODE, 0, 0))];
    assert_eq!(register_all(&batch, &existing), Ok(expected.into()));
    let back = [claim(1, NODE, 4), claim(1, NODE, 3)];
    let clash = Clash::EpochRollback { dek_id: 1, full_node_id: NODE, last_seen: 4, got: 3 };
    assert_eq!(register_all(&back, &[None, None]), Err(clash));
    let twins = [claim(1, NODE, 4), claim(1, TWIN, 4)];
    let clash = Clash::NodeCollision { dek_id: 1, existing: NODE, got: TWIN };
    assert_eq!(register_all(&twins, &[None, None]), Err(clash));
}

/// A fresh registry in a directory of its own.
struct Store {
    dir: tempfile::TempDir,
    registry: Option<RedbRegistry>,
}

impl Store {
    fn new() -> Store {
        let mut store = Store { dir: tempfile::tempdir().expect("a temporary directory"), registry: None };
        create(&OsFiles, &store.path()).expect("a writable directory");
        store.reopen();
        store
    }

    fn path(&self) -> String {
        self.dir.path().join("registry").to_str().expect("a UTF-8 path").to_owned()
    }

    fn reopen(&mut self) {
        self.registry = None;
        self.registry = Some(open(&OsFiles, &self.path()).expect("it was created"));
    }

    fn registry(&mut self) -> &mut RedbRegistry {
        self.registry.as_mut().expect("it is open")
    }

    fn commit(&mut self, change: &Change) {
        self.registry().commit(change, &mut |_| Ok(())).expect("a working disk");
    }

    /// In this life and in the next one.
    #[track_caller]
    fn check(&mut self, rows: &[(RowKey, WriterRow)], applied_index: u64, sidecar_index: u64) {
        for _ in 0..2 {
            let rows = rows.iter().copied().collect();
            let applied_index = RaftIndex(applied_index);
            let registry = self.registry();
            assert_eq!(registry.snapshot(), Ok(RegistrySnapshot { rows, applied_index }));
            assert_eq!(registry.applied_index(), Ok(applied_index));
            assert_eq!(registry.local().map(|local| local.sidecar_index), Ok(RaftIndex(sidecar_index)));
            self.reopen();
        }
    }
}

fn change(rows: &[(RowKey, WriterRow)], applied: Option<u64>, sidecar: Option<u64>) -> Change {
    Change {
        rows: rows.iter().copied().collect(),
        applied_index: applied.map(RaftIndex),
        sidecar_index: sidecar.map(RaftIndex),
        ..Change::default()
    }
}

#[test]
fn a_fresh_registry_is_empty_and_before_every_entry() {
    Store::new().check(&[], 0, 0);
}

#[test]
fn a_commit_changes_what_it_names_and_nothing_else() {
    let mut store = Store::new();
    let (one, two) = ((key(1, NODE), row(NODE, 0, 0)), (key(2, NODE), row(NODE, 5, 6)));
    store.commit(&change(&[one], Some(4), Some(4)));
    store.check(&[one], 4, 4);
    store.commit(&change(&[two], None, None));
    store.check(&[one, two], 4, 4);
    store.commit(&change(&[], Some(5), None));
    store.check(&[one, two], 5, 4);
    let later = (one.0, row(NODE, 0, 9));
    store.commit(&change(&[later], Some(6), Some(6)));
    store.check(&[later, two], 6, 6);
    store.commit(&Change::default());
    store.check(&[later, two], 6, 6);
}

#[test]
fn the_local_proof_never_goes_down() {
    let mut store = Store::new();
    store.commit(&change(&[], Some(9), Some(9)));
    store.commit(&change(&[], Some(3), Some(3)));
    store.check(&[], 3, 9);
    store.commit(&change(&[], None, Some(10)));
    store.check(&[], 3, 10);
}

#[test]
fn a_restore_replaces_rows_and_index_and_keeps_the_local_proof() {
    let mut store = Store::new();
    let (one, two) = ((key(1, NODE), row(NODE, 0, 7)), (key(2, NODE), row(NODE, 5, 6)));
    store.commit(&change(&[one, two], Some(9), Some(8)));
    let past = RegistrySnapshot {
        rows: [(one.0, row(NODE, 0, 1)), (key(3, TWIN), row(TWIN, 2, 2))].into(),
        applied_index: RaftIndex(4),
    };
    store.registry().restore(&past, None, &mut |_| Ok(())).expect("a working disk");
    store.check(&[(one.0, row(NODE, 0, 1)), (key(3, TWIN), row(TWIN, 2, 2))], 4, 8);
    store.registry().restore(&RegistrySnapshot::default(), None, &mut |_| Ok(())).expect("a working disk");
    store.check(&[], 0, 8);
}

#[test]
fn a_restore_raises_the_local_proof_and_never_takes_it_down() {
    let mut store = Store::new();
    store.commit(&change(&[], Some(9), Some(8)));
    let later = RegistrySnapshot { rows: BTreeMap::new(), applied_index: RaftIndex(12) };
    for (index, proof) in [(7, 8), (8, 8), (11, 11), (3, 11)] {
        store.registry().restore(&later, Some(RaftIndex(index)), &mut |_| Ok(())).expect("a working disk");
        store.check(&[], 12, proof);
    }
}

#[test]
fn a_promise_lasts_and_nothing_but_another_one_changes_it() {
    let mut store = Store::new();
    assert_eq!(store.registry().local(), Ok(Local::default()));
    let one = (key(1, NODE), row(NODE, 0, 0));
    for check in [0, u64::MAX].map(KekCheck::from_u64) {
        store.registry().keep(LocalChange::Promise(check)).expect("a working disk");
        store.commit(&change(&[one], Some(4), Some(4)));
        store.check(&[one], 4, 4);
        assert_eq!(store.registry().local().map(|local| local.kek), Ok(Some(check)));
        let default = RegistrySnapshot::default();
        store.registry().restore(&default, Some(RaftIndex(4)), &mut |_| Ok(())).expect("a working disk");
        store.check(&[], 0, 4);
        assert_eq!(store.registry().local().map(|local| local.kek), Ok(Some(check)));
    }
}

#[test]
fn a_host_that_refuses_takes_the_whole_change_back() {
    let mut store = Store::new();
    let (one, two) = ((key(1, NODE), row(NODE, 0, 0)), (key(2, NODE), row(NODE, 5, 6)));
    store.commit(&change(&[one], Some(4), Some(4)));
    let error = Err(CommitError(HostRefused("no".to_owned()).to_string()));
    let mut refuse = |_: &_| Err(HostRefused("no".to_owned()));
    let refused = store.registry().commit(&change(&[two], Some(5), Some(5)), &mut refuse);
    assert_eq!(refused, error);
    store.check(&[one], 4, 4);
    assert_eq!(store.registry().restore(&RegistrySnapshot::default(), None, &mut refuse), error);
    store.check(&[one], 4, 4);
}

#[test]
fn rows_are_found_in_the_order_asked_for() {
    let mut store = Store::new();
    let (one, two) = ((key(1, NODE), row(NODE, 0, 0)), (key(2, NODE), row(NODE, 5, 6)));
    store.commit(&change(&[one, two], Some(1), None));
    let found = store.registry().rows(&[two.0, key(3, NODE), one.0, two.0]);
    assert_eq!(found, Ok(vec![Some(two.1), None, Some(one.1), Some(two.1)]));
    assert_eq!(store.registry().rows(&[]), Ok(vec![]));
}

#[test]
fn a_key_that_is_none_is_an_error_of_a_snapshot_and_not_skipped() {
    const WRITERS: TableDefinition<&[u8; KEY_LEN], &[u8; VALUE_LEN]> =
        TableDefinition::new("encryption.writers");
    let mut store = Store::new();
    let mut bad = key(1, NODE).encode();
    bad[24] = b'/';
    let mut host = |transaction: &redb::WriteTransaction| {
        let mut table = transaction.open_table(WRITERS).expect("it exists");
        table.insert(&bad, &row(NODE, 0, 0).encode()).expect("an open table");
        Ok(())
    };
    store.registry().commit(&Change::default(), &mut host).expect("a working disk");
    let malformed = RegistryError::KeyMalformed { got: hex::encode(bad) };
    assert_eq!(store.registry().snapshot(), Err(malformed));
}

#[test]
fn a_leftover_of_a_creation_is_removed_once_and_the_database_stays() {
    let mut store = Store::new();
    store.commit(&change(&[], Some(4), None));
    store.registry = None;
    std::fs::write(store.path() + ".tmp", "left over").expect("a writable directory");
    remove_leftover(&OsFiles, &store.path()).expect("it exists");
    assert_eq!(std::fs::read_dir(store.dir.path()).expect("it exists").count(), 1);
    remove_leftover(&OsFiles, &store.path()).expect("none is no error");
    store.reopen();
    store.check(&[], 4, 0);
}

#[test]
fn a_retirement_takes_every_row_of_its_key_and_no_other() {
    let mut store = Store::new();
    let rows: Vec<_> = [0, 4, 5, 6, u32::MAX]
        .into_iter()
        .flat_map(|dek_id| [0x1_0000, NODE, 0x1_ffff].map(|node| (key(dek_id, node), row(node, 1, 2))))
        .collect();
    store.commit(&change(&rows, Some(7), None));
    let retired = Change { retired: DekId::new(5), ..change(&[], Some(8), Some(8)) };
    store.commit(&retired);
    let left: Vec<_> = rows.iter().copied().filter(|(key, _)| key.dek_id != 5).collect();
    assert_eq!(left.len(), rows.len() - 3);
    store.check(&left, 8, 8);
    store.commit(&retired);
    store.check(&left, 8, 8);
}

fn local(store: &mut Store) -> Local {
    store.reopen();
    store.registry().local().expect("a working disk")
}

#[test]
fn a_rewrap_moves_the_promise_and_ends_those_up_to_its_own_generation() {
    let [old, new, newer] = [1, 2, 3].map(KekCheck::from_u64);
    let mut store = Store::new();
    let rewrapped = |generation, check| Change { rewrapped: Some((generation, check)), ..Change::default() };
    let keep = |store: &mut Store, change| store.registry().keep(change).expect("a working disk");
    keep(&mut store, LocalChange::Promise(old));
    keep(&mut store, LocalChange::PromiseNext(new, 1));
    let promised = |store: &mut Store| (local(store).kek, local(store).next_kek);
    assert_eq!(promised(&mut store), (Some(old), Some(new)));
    store.commit(&rewrapped(1, new));
    assert_eq!(promised(&mut store), (Some(new), None));
    keep(&mut store, LocalChange::PromiseNext(newer, 2));
    store.commit(&rewrapped(1, new));
    assert_eq!(promised(&mut store), (Some(new), Some(newer)));
    let past = RegistrySnapshot::default();
    store.registry().restore(&past, None, &mut |_| Ok(())).expect("a working disk");
    assert_eq!(promised(&mut store), (Some(new), Some(newer)));
}

#[test]
fn claimed_epochs_last_never_go_down_and_outlive_restores_and_retirements() {
    let mut store = Store::new();
    let epochs = |pairs: &[(u32, u16)]| {
        let pair = |(id, epoch): &(u32, u16)| (DekId::new(*id).expect("not 0"), LocalEpoch(*epoch));
        pairs.iter().map(pair).collect::<BTreeMap<_, _>>()
    };
    let claim = |store: &mut Store, id, epoch| {
        let id = DekId::new(id).expect("not 0");
        store.registry().keep(LocalChange::Claim(id, LocalEpoch(epoch))).expect("a working disk");
    };
    for (id, epoch) in [(1, 1), (u32::MAX, u16::MAX), (1, 4), (1, 3), (10, 2)] {
        claim(&mut store, id, epoch);
    }
    let expected = epochs(&[(1, 4), (10, 2), (u32::MAX, u16::MAX)]);
    assert_eq!(local(&mut store).epochs, expected);
    store.commit(&Change { retired: DekId::new(1), ..Change::default() });
    store.registry().restore(&RegistrySnapshot::default(), None, &mut |_| Ok(())).expect("a working disk");
    assert_eq!(local(&mut store).epochs, expected);
}

#[test]
fn a_local_value_that_this_build_does_not_know_is_an_error() {
    const LOCAL: TableDefinition<&str, u64> = TableDefinition::new("encryption.local");
    for (name, value) in [("later", 1), ("epoch:", 1), ("epoch:0", 1), ("epoch:x", 1), ("epoch:1", 0x1_0000)]
    {
        let mut store = Store::new();
        let mut host = |transaction: &redb::WriteTransaction| {
            transaction.open_table(LOCAL).expect("it exists").insert(name, value).expect("an open table");
            Ok(())
        };
        store.registry().commit(&Change::default(), &mut host).expect("a working disk");
        assert_eq!(store.registry().local(), Err(RegistryError::Local { name: name.to_owned() }));
    }
}
