//! Sidecars of the reference system whose envelopes are on: the host says which entries switched them on.

use applier::apply::{AdoptError, Adoption};
use applier::outcome::NoOp;
use applier::registry::{RowKey, WriterRow};
use applier::sidecar::EntryName;
use applier::wire::Entry;
use applier::{Claim, LocalEpoch, Outcome, Purpose, RaftIndex};

use crate::adoption::{adoption, foreign_bytes};
use crate::harness::{
    CommitFault, EIO, Effect, Fault, N1, Op, World, cutover, cutover_with, id, retirement, rewrap,
    rotation_with,
};

/// Which envelopes a file says are on, and where.
#[derive(Clone, Copy)]
struct On {
    version: u64,
    /// Where the storage cutover stands, 0 where the file does not know; `None` where that envelope is off.
    storage: Option<u64>,
    raft: u64,
}

impl On {
    fn node(self) -> World {
        let text = String::from_utf8(foreign_bytes(self.version, "2019-06-01T00:00:00Z")).expect("text");
        let active = format!("\"storage_envelope_active\": {}", self.storage.is_some());
        let index = format!("\"storage_envelope_cutover_index\": {}", self.storage.unwrap_or(0));
        let raft = format!("\"raft_envelope_cutover_index\": {}", self.raft);
        let text = text
            .replace("\"storage_envelope_active\": false", &active)
            .replace("\"storage_envelope_cutover_index\": 0", &index)
            .replace("\"raft_envelope_cutover_index\": 0", &raft);
        let mut world = World::new();
        world.put_sidecar(text.as_bytes());
        world.restart();
        world
    }
}

fn at(index: u64, entry: &Entry) -> (RaftIndex, Vec<u8>) {
    (RaftIndex(index), entry.encode())
}

fn storage() -> Entry {
    cutover_with(Purpose::Storage, 5, |entry| entry.proposer.local_epoch = 7)
}

fn raft() -> Entry {
    cutover(Purpose::Raft, 2)
}

fn with(entries: &[(RaftIndex, Vec<u8>)]) -> Adoption {
    let mut adoption = adoption();
    adoption.entries.extend_from_slice(entries);
    adoption
}

#[test]
fn cutovers_are_named_by_the_entries_supplied_in_both_versions() {
    for (version, known) in [(1, 0), (2, 0), (2, 7)] {
        let on = On { version, storage: Some(known), raft: 8 };
        let mut world = on.node();
        let entries = [at(7, &storage()), at(8, &raft())];
        assert_eq!(world.node_mut().adopt(&with(&entries)), Ok(()), "version {version}, index {known}");
        for _ in 0..2 {
            let cutovers = world.node().sidecar().expect("adopted").cutovers;
            assert_eq!(cutovers.storage, Some(EntryName::of(RaftIndex(7), &storage().encode())));
            assert_eq!(cutovers.raft, Some(EntryName::of(RaftIndex(8), &raft().encode())));
            world.restart();
        }
        assert_eq!(world.apply(10, &storage()), Outcome::NoOp(NoOp::CutoverRepeated));
        assert_eq!(world.apply(11, &raft()), Outcome::NoOp(NoOp::CutoverRepeated));
    }
}

#[test]
fn one_envelope_may_be_on_and_the_other_off() {
    let mut world = On { version: 2, storage: Some(7), raft: 0 }.node();
    assert_eq!(world.node_mut().adopt(&with(&[at(7, &storage())])), Ok(()));
    assert_eq!(world.apply(10, &raft()), Outcome::Applied);
    let mut world = On { version: 1, storage: None, raft: 8 }.node();
    assert_eq!(world.node_mut().adopt(&with(&[at(8, &raft())])), Ok(()));
    assert_eq!(world.apply(10, &storage()), Outcome::Applied);
}

/// Refused with this error, twice, and nothing is touched.
#[track_caller]
fn check(on: On, entries: &[(RaftIndex, Vec<u8>)], error: AdoptError) {
    let mut world = on.node();
    for _ in 0..2 {
        let before = world.state();
        assert_eq!(world.node_mut().adopt(&with(entries)), Err(error.clone()));
        assert_eq!(world.state(), before);
    }
}

const BOTH_ON: On = On { version: 2, storage: Some(7), raft: 8 };
const BOTH_OFF: On = On { version: 2, storage: None, raft: 0 };

#[test]
fn a_cutover_and_its_entry_explain_each_other_or_are_refused() {
    let (s, r) = (at(7, &storage()), at(8, &raft()));
    let not = AdoptError::CutoverNotExplained;
    check(BOTH_ON, &[], not(Purpose::Storage));
    check(BOTH_ON, std::slice::from_ref(&s), not(Purpose::Raft));
    check(BOTH_ON, std::slice::from_ref(&r), not(Purpose::Storage));
    check(BOTH_OFF, std::slice::from_ref(&s), not(Purpose::Storage));
    check(BOTH_OFF, std::slice::from_ref(&r), not(Purpose::Raft));
    // Elsewhere than the file says.
    check(BOTH_ON, &[at(9, &storage()), r.clone()], not(Purpose::Storage));
    check(BOTH_ON, &[s.clone(), at(9, &raft())], not(Purpose::Raft));
    // Two for one.
    check(BOTH_ON, &[s.clone(), at(9, &storage()), r.clone()], not(Purpose::Storage));
    check(BOTH_ON, &[s, r.clone(), at(9, &raft())], not(Purpose::Raft));
    // A file of the first version does not know where, and two are still too many.
    let unknown = On { version: 1, storage: Some(0), raft: 8 };
    check(unknown, &[at(5, &storage()), at(7, &storage()), r], not(Purpose::Storage));
}

#[test]
fn an_entry_that_is_no_cutover_of_a_key_of_the_file_is_refused() {
    let no_cutover = [
        retirement(1),
        rewrap(1, &crate::harness::TestKek::new(), &[1, 2, 5]),
        cutover_with(Purpose::Storage, 5, |entry| entry.purpose = Purpose::Raft),
        cutover_with(Purpose::Raft, 2, |entry| entry.purpose = Purpose::Storage),
        cutover_with(Purpose::Storage, 2, |_| ()),
        cutover_with(Purpose::Storage, 9, |_| ()),
        cutover_with(Purpose::Storage, 5, |entry| entry.dek_id = 0),
        cutover_with(Purpose::Storage, 5, |entry| entry.wrapped = vec![1]),
        rotation_with(5, |entry| entry.dek_id = 0),
    ];
    for entry in no_cutover {
        check(BOTH_ON, &[at(7, &entry), at(8, &raft())], AdoptError::Entry { index: RaftIndex(7) });
    }
    let index = RaftIndex(10);
    check(BOTH_ON, &[at(7, &storage()), at(10, &raft())], AdoptError::Entry { index });
}

/// The reference may have sealed under every epoch up to the one in its sidecar. What its rows do not say is lost with the disk.
#[test]
fn the_references_epochs_are_registered_before_it_is_adopted_and_outlive_the_loss_of_the_sidecar() {
    let mut world = BOTH_ON.node();
    let adoption = |last_seen: Option<u16>| {
        let mut adoption = with(&[at(7, &storage()), at(8, &raft())]);
        let is_own = |key: &RowKey, row: &WriterRow| (key.dek_id, row.full_node_id) == (5, N1);
        adoption.rows.retain(|key, row| last_seen.is_some() || !is_own(key, row));
        let own = adoption.rows.iter_mut().filter(|(key, row)| is_own(key, row));
        own.for_each(|(_, row)| row.last_seen = last_seen.expect("else it is gone"));
        adoption
    };
    for registered in [None, Some(3), Some(6)] {
        let error = AdoptError::NotRegistered { id: id(5), sealed: LocalEpoch(7), registered };
        assert_eq!(world.node_mut().adopt(&adoption(registered)), Err(error));
    }
    assert_eq!(world.node_mut().adopt(&adoption(Some(7))), Ok(()));
    let epochs = [(id(5), LocalEpoch(7))].into();
    assert_eq!(world.lasting().local.epochs, epochs);
    let peer = world.node().snapshot().expect("at one index");
    world.stop();
    std::fs::remove_file(world.sidecar_path()).expect("it exists");
    let registry = world.open_registry().expect("the database is there");
    assert_eq!(applier::resync(&world.files, &registry, &world.config(), &peer), Ok(()));
    drop(registry);
    world.restart();
    let Ok(Claim::Propose(payload)) = world.node_mut().claim(3, Purpose::Storage) else {
        panic!("a new claim")
    };
    let Ok(Entry::Registration(row)) = Entry::decode(&payload) else { panic!("a registration") };
    assert_eq!(row.local_epoch, 8);
}

#[test]
fn an_adoption_that_failed_at_any_step_is_repeated() {
    let wanted = with(&[at(7, &storage()), at(8, &raft())]);
    let mut calm = BOTH_ON.node();
    assert_eq!(calm.node_mut().adopt(&wanted), Ok(()));
    for fault in [CommitFault::Absent, CommitFault::Present] {
        let mut world = BOTH_ON.node();
        world.registry.borrow_mut().commit = Some(fault);
        assert!(matches!(world.node_mut().adopt(&wanted), Err(AdoptError::Halted(_))));
        world.restart();
        assert_eq!(world.node_mut().adopt(&wanted), Ok(()));
        assert_eq!(world.lasting(), calm.lasting());
    }
    let mut world = BOTH_ON.node();
    world.files.arm(Fault::named(Op::Create, "keys.json.tmp", EIO, Effect::Absent));
    assert!(matches!(world.node_mut().adopt(&wanted), Err(AdoptError::Halted(_))));
    assert_eq!(world.files.disarm(), 1);
    world.restart();
    assert!(world.node().foreign().is_some());
    assert_eq!(world.node_mut().adopt(&wanted), Ok(()));
    assert_eq!(world.lasting(), calm.lasting());
}
