//! The store answers as a plain model does, now and from the database; a crash leaves the old content or the new; and
//! a real Raft node lives on it.

use applier::registry;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raft::StorageError;
use redb::backends::InMemoryBackend;
use sim::{Choices, Disk, Fault, Profile};

use super::*;
use crate::seam::SimFiles;

mod model;
mod node;

use model::Model;

const PATH: &str = "/db";

/// What Raft wants on the disk.
fn append(entries: &[Entry], hard: Option<&HardState>) -> Append {
    Append { entries: entries.to_vec(), hard: hard.cloned() }
}

fn entry(index: u64, term: u64, data: &[u8]) -> Entry {
    Entry { index, term, data: data.to_vec().into(), ..Entry::default() }
}

fn hard(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit, ..HardState::default() }
}

fn members(voters: &[u64]) -> ConfState {
    ConfState::from((voters.to_vec(), vec![]))
}

fn snapshot(index: u64, term: u64, conf: ConfState, data: &[u8]) -> Snapshot {
    let mut snapshot = Snapshot { data: data.to_vec().into(), ..Snapshot::default() };
    let metadata = snapshot.mut_metadata();
    metadata.index = index;
    metadata.term = term;
    metadata.set_conf_state(conf);
    snapshot
}

fn founding() -> Snapshot {
    snapshot(1, 1, members(&[1]), b"founded")
}

/// A transaction of the host.
fn host(
    database: &Database,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(fault)?;
    transaction.set_two_phase_commit(true);
    fill(&transaction).map_err(fault)?;
    transaction.commit().map_err(fault)
}

fn progress(store: &mut Store, hard: &HardState, conf: Option<&ConfState>) -> Result<(), StoreError> {
    host(&store.database, |transaction| Store::write_progress(transaction, hard, conf))?;
    store.progressed(hard, conf);
    Ok(())
}

fn install(store: &mut Store, snapshot: &Snapshot, hard: &HardState) -> Result<(), StoreError> {
    host(&store.database, |transaction| Store::write_install(transaction, snapshot, hard))?;
    store.installed(snapshot, hard);
    Ok(())
}

fn database_in_memory() -> Arc<Database> {
    Arc::new(Database::builder().create_with_backend(InMemoryBackend::new()).expect("memory does not fail"))
}

fn founded(database: Arc<Database>) -> Store {
    host(&database, |transaction| Store::found(transaction, &founding())).expect("nothing is armed");
    opened(database)
}

fn opened(database: Arc<Database>) -> Store {
    Store::open(database).expect("it is sound").expect("it was initialised")
}

/// One step of a history, whose numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
enum Step {
    Append { replaced: u64, count: u64, data: usize, newer: bool, hard: Option<u64> },
    Hard { newer: u64, vote: u64 },
    Progress { by: u64, stale: bool, conf: Option<u64> },
    Compact { at: u64, kept: u64 },
    Install { ahead: u64, term: u64, vote: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let small = || 0..8_u64;
    let append = (small(), 1..4_u64, 0..60_usize, any::<bool>(), proptest::option::of(small()));
    prop_oneof![
        4 => append.prop_map(|(replaced, count, data, newer, hard)| {
            Step::Append { replaced, count, data, newer, hard }
        }),
        1 => (0..2_u64, 0..4_u64).prop_map(|(newer, vote)| Step::Hard { newer, vote }),
        3 => (small(), any::<bool>(), proptest::option::of(small()))
            .prop_map(|(by, stale, conf)| Step::Progress { by, stale, conf }),
        2 => (small(), 0..3_u64).prop_map(|(at, kept)| Step::Compact { at, kept }),
        1 => (0..4_u64, small(), 0..4_u64).prop_map(|(ahead, term, vote)| Step::Install { ahead, term, vote }),
    ]
}

/// Takes a step on the store and on the model.
fn take(step: &Step, store: &mut Store, model: &mut Model) -> Result<(), StoreError> {
    match *step {
        Step::Append { replaced, count, data, newer, hard: vote } => {
            let term = model.hard.term + u64::from(newer);
            let first = model.last() + 1 - replaced % (model.last() - model.hard.commit + 1);
            let entries: Vec<Entry> =
                (first..first + count).map(|index| entry(index, term, &vec![7; data])).collect();
            let new = vote.map(|vote| hard(term, vote, model.hard.commit));
            store.persist(append(&entries, new.as_ref()), true)?;
            model.append(&entries);
            model.hard = new.unwrap_or_else(|| model.hard.clone());
        }
        Step::Hard { newer, vote } => {
            let new = hard(model.hard.term + newer, vote, model.hard.commit);
            store.persist(append(&[], Some(&new)), true)?;
            model.hard = new;
        }
        Step::Progress { by, stale, conf } => {
            let commit = model.hard.commit + by % (model.last() - model.hard.commit + 1);
            // Of a hard state that is older in every respect, nothing may be taken.
            let new = if stale { hard(0, 9, commit.min(model.hard.commit) / 2) } else { hard(0, 9, commit) };
            let conf = conf.map(|id| members(&[1, id + 2]));
            progress(store, &new, conf.as_ref())?;
            model.hard.commit = model.hard.commit.max(new.commit);
            model.conf = conf.unwrap_or_else(|| model.conf.clone());
        }
        Step::Compact { at, kept } => {
            let before = model.kept.get_metadata().index;
            let index = before + at % (model.hard.commit - before + 1);
            if index == 0 {
                return Ok(());
            }
            let term = model.term(index).expect("committed after the snapshot");
            let new = snapshot(index, term, model.conf.clone(), &[3; 40]);
            let keep_from = (index + 1).saturating_sub(kept);
            store.compact(&new, keep_from)?;
            model.compact(new, keep_from);
        }
        Step::Install { ahead, term, vote } => {
            let term = (model.hard.term + term).saturating_sub(2).max(1);
            let new = snapshot(model.hard.commit + 1 + ahead, term, members(&[1, 2, 3]), &[5; 70]);
            let state = hard(model.hard.term, vote, model.hard.commit);
            install(store, &new, &state)?;
            model.install(new, &state);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_the_model_does_also_from_the_database(
        founds: bool,
        steps in proptest::collection::vec(step(), 1..14),
    ) {
        let database = database_in_memory();
        prop_assert!(Store::open(Arc::clone(&database)).expect("it is sound").is_none());
        let (mut store, mut model) = match founds {
            true => (founded(Arc::clone(&database)), Model::founded(&founding())),
            false => (Store::blank(Arc::clone(&database)), Model::default()),
        };
        model.check(&store);
        let mut written = founds;
        for step in &steps {
            written |= !matches!(step, Step::Compact { .. });
            take(step, &mut store, &mut model).expect("memory does not fail");
            model.check(&store);
            match Store::open(Arc::clone(&database)).expect("it is sound") {
                Some(reopened) => model.check(&reopened),
                None => prop_assert!(!written, "nothing was written"),
            }
        }
    }
}

#[test]
fn a_blank_node_remembers_its_vote() {
    let database = database_in_memory();
    let vote = hard(5, 2, 0);
    Store::blank(Arc::clone(&database))
        .persist(append(&[], Some(&vote)), true)
        .expect("memory does not fail");
    let store = opened(database);
    assert_eq!((store.hard(), store.snapshot_index()), (&vote, 0));
    assert!(!store.initial_state().expect("it is in memory").initialized());
}

#[test]
fn a_vote_is_not_carried_into_the_term_of_a_snapshot() {
    let database = database_in_memory();
    let mut store = founded(Arc::clone(&database));
    let newer = snapshot(9, 6, members(&[1, 2]), b"");
    install(&mut store, &newer, &hard(4, 3, 1)).expect("memory does not fail");
    assert_eq!(store.hard(), &hard(6, 0, 9));
    install(&mut store, &snapshot(12, 6, members(&[1, 2]), b""), &hard(7, 3, 9))
        .expect("memory does not fail");
    assert_eq!(store.hard(), &hard(7, 3, 12));
    assert_eq!(opened(database).hard(), &hard(7, 3, 12));
}

#[test]
fn what_no_store_wrote_is_refused() {
    type Sabotage = fn(&WriteTransaction) -> Result<(), redb::Error>;
    let sabotages: [Sabotage; 5] = [
        |transaction| Ok(transaction.open_table(LOG)?.remove(3).map(drop)?),
        |transaction| put(&mut transaction.open_table(STATE)?, HARD, &hard(1, 0, 5)),
        |transaction| put(&mut transaction.open_table(STATE)?, HARD, &hard(1, 0, 0)),
        |transaction| Ok(transaction.open_table(STATE)?.remove(SNAPSHOT).map(drop)?),
        |transaction| {
            Ok(transaction.open_table(STATE)?.insert(TRUNCATED, [1_u8; 15].as_slice()).map(drop)?)
        },
    ];
    for (number, sabotage) in sabotages.into_iter().enumerate() {
        let database = database_in_memory();
        let entries: Vec<Entry> = (2..5).map(|index| entry(index, 1, b"")).collect();
        founded(Arc::clone(&database)).persist(append(&entries, None), true).expect("memory does not fail");
        assert_eq!(opened(Arc::clone(&database)).last(), 4);
        host(&database, sabotage).expect("memory does not fail");
        assert!(Store::open(database).is_err(), "sabotage {number}");
    }
}

/// What a store holds, for comparison.
#[derive(Debug, PartialEq)]
struct Content {
    hard: HardState,
    conf: ConfState,
    kept: Snapshot,
    truncated: Position,
    log: VecDeque<Entry>,
}

impl Content {
    fn of(store: &Store) -> Content {
        Content {
            hard: store.hard.clone(),
            conf: store.conf.clone(),
            kept: store.kept.clone(),
            truncated: store.truncated,
            log: store.log.clone(),
        }
    }
}

/// Opens the store on a disk, for a life of it.
fn mounted(disk: &Disk) -> Store {
    let registry = registry::open(&SimFiles::new(disk.mount()), PATH).expect("the database opens");
    opened(Arc::clone(registry.database()))
}

/// A disk with a store that was founded and has a log, cleanly closed.
fn prepared(profile: Profile) -> Disk {
    let disk = Disk::new(profile);
    let files = SimFiles::new(disk.mount());
    registry::create(&files, PATH).expect("nothing is armed");
    let registry = registry::open(&files, PATH).expect("nothing is armed");
    let mut store = founded(Arc::clone(registry.database()));
    let entries: Vec<Entry> = (2..9).map(|index| entry(index, 1, &[1; 200])).collect();
    store.persist(append(&entries, Some(&hard(1, 1, 5))), true).expect("nothing is armed");
    drop((store, registry));
    disk.process_crash();
    disk
}

type Act = fn(&mut Store) -> Result<(), StoreError>;

/// Acknowledges a vote, then dies at every call of `act`, and after it.
fn dies_everywhere(act: Act) {
    for profile in Profile::ALL {
        let base = prepared(profile);
        let vote = |store: &mut Store| {
            store.persist(append(&[], Some(&hard(3, 2, 5))), true).expect("nothing is armed")
        };
        let (mut old, mut new) = (None, None);
        let mut seen = [0, 0];
        for call in 0.. {
            let disk = base.fork();
            let mut store = mounted(&disk);
            vote(&mut store);
            let old = old.get_or_insert_with(|| Content::of(&store));
            assert_eq!(old.hard, hard(3, 2, 5));
            let new = new.get_or_insert_with(|| {
                let disk = base.fork();
                let mut store = mounted(&disk);
                vote(&mut store);
                act(&mut store).expect("nothing is armed");
                Content::of(&store)
            });
            disk.arm(Fault::DieAtMutation(disk.mutations() + call));
            let acknowledged = act(&mut store).is_ok();
            assert_eq!(acknowledged, !disk.is_dead(), "a call failed, and the store knows");
            disk.kill();
            drop(store);
            for seed in 0..8 {
                let after = disk.fork();
                match seed {
                    0 => after.process_crash(),
                    _ => drop(after.power_loss(&mut Choices::seeded(seed))),
                }
                let found = Content::of(&mounted(&after));
                let is_new = found == *new;
                assert!(is_new || !acknowledged && found == *old, "{profile:?}, call {call}: {found:?}");
                seen[usize::from(is_new)] += 1;
            }
            if acknowledged {
                assert!(call > 4, "a two-phase commit makes calls");
                break;
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }
}

#[test]
fn an_append_is_there_whole_or_not_at_all() {
    dies_everywhere(|store| {
        let entries: Vec<Entry> = (6..8).map(|index| entry(index, 3, &[2; 3000])).collect();
        store.persist(append(&entries, Some(&hard(4, 3, 6))), true)
    });
}

#[test]
fn a_compaction_is_there_whole_or_not_at_all() {
    dies_everywhere(|store| store.compact(&snapshot(5, 1, members(&[1, 2]), &[3; 5000]), 4));
}

#[test]
fn an_installation_is_there_whole_or_not_at_all() {
    dies_everywhere(|store| {
        let newer = snapshot(7, 4, members(&[1, 2, 3]), &[4; 5000]);
        install(store, &newer, &hard(3, 2, 5))
    });
}

#[test]
fn progress_is_there_whole_or_not_at_all() {
    dies_everywhere(|store| progress(store, &hard(3, 2, 7), Some(&members(&[1, 4]))));
}

#[test]
fn what_is_not_synced_can_be_lost() {
    let disk = prepared(Profile::Posix);
    let mut store = mounted(&disk);
    let before = Content::of(&store);
    store.persist(append(&[], Some(&hard(2, 2, 5))), false).expect("nothing is armed");
    disk.kill();
    drop(store);
    disk.power_loss(&mut Choices::seeded(1));
    assert_eq!(Content::of(&mounted(&disk)), before);
}
