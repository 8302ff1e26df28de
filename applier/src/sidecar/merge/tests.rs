//! What two sidecars of one log come to, and how two of different logs are told.

use super::*;
use crate::ids::Purpose;
use std::collections::BTreeMap;

use crate::ports::KekCheck;
use crate::sidecar::{Active, Cutovers, EntryName, KeyRecord, RewrapRecord};

fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

/// The key that the entry at `index` installs: the same on every node but for what is a node's own.
fn key(purpose: Purpose, index: u64, own: u16) -> KeyRecord {
    KeyRecord {
        purpose,
        wrapped: vec![index as u8; 60],
        created: format!("2020-01-01T00:00:{own:02}Z"),
        local_epoch: LocalEpoch(own),
        name: EntryName { raft_index: RaftIndex(index), sha256: [index as u8; 32] },
    }
}

/// After a bootstrap at 3 and rotations of storage at these indices, each to the key of that number. `own` tells nodes
/// apart.
fn after(rotations: &[u32], own: u16) -> Sidecar {
    let storage = key(Purpose::Storage, 3, own);
    let mut sidecar = Sidecar {
        raft_applied_index: RaftIndex(3),
        cutovers: Cutovers::default(),
        active: Active { storage: id(1), raft: id(2) },
        retired: BTreeMap::new(),
        bootstrap: storage.name,
        rewraps: Vec::new(),
        keys: [(id(1), storage), (id(2), key(Purpose::Raft, 3, own))].into(),
    };
    for rotation in rotations {
        sidecar.raft_applied_index = RaftIndex(u64::from(*rotation));
        sidecar.active.storage = id(*rotation);
        sidecar.keys.insert(id(*rotation), key(Purpose::Storage, u64::from(*rotation), own));
    }
    sidecar
}

/// Merges a node's own sidecar, of a node that applied up to its index, and one of a snapshot at 9.
fn merged(own: Option<&Sidecar>, theirs: Option<&Sidecar>) -> Result<Option<Sidecar>, Divergence> {
    let reach = own.map_or(RaftIndex::ZERO, |own| own.raft_applied_index);
    merge((own, reach), (theirs, RaftIndex(9)))
}

#[test]
fn without_an_own_sidecar_all_is_taken_but_the_epochs() {
    let mut expected = after(&[5], 7);
    expected.keys.values_mut().for_each(|key| key.local_epoch = LocalEpoch(0));
    assert_eq!(merged(None, Some(&after(&[5], 7))), Ok(Some(expected)));
    assert_eq!(merged(None, None), Ok(None));
}

#[test]
fn the_higher_index_decides_and_what_is_the_nodes_own_stays() {
    for (own, theirs) in [(&[5][..], &[5, 6][..]), (&[], &[5, 6]), (&[5, 6], &[5, 6])] {
        let (own, theirs) = (after(own, 8), after(theirs, 7));
        let result = merged(Some(&own), Some(&theirs)).expect("one log").expect("a sidecar");
        assert_eq!(result.raft_applied_index, RaftIndex(6));
        assert_eq!((result.active, result.bootstrap), (theirs.active, theirs.bootstrap));
        assert!(result.keys.keys().eq(theirs.keys.keys()));
        for (id, key) in &result.keys {
            let (created, epoch) = match own.keys.get(id) {
                Some(known) => (&known.created, known.local_epoch),
                None => (&theirs.keys[id].created, LocalEpoch(0)),
            };
            assert_eq!((&key.created, key.local_epoch), (created, epoch), "key {id}");
            assert_eq!(key.wrapped, theirs.keys[id].wrapped);
        }
    }
}

#[test]
fn a_sidecar_that_is_ahead_of_the_snapshot_stays_as_it_is() {
    let own = after(&[5, 12], 8);
    let theirs = after(&[5], 7);
    assert_eq!(merged(Some(&own), Some(&theirs)), Ok(Some(own.clone())));
    let before_the_bootstrap = (None, RaftIndex(2));
    assert_eq!(merge((Some(&own), RaftIndex(12)), before_the_bootstrap), Ok(Some(own.clone())));
}

#[track_caller]
fn check_apart(own: &Sidecar, theirs: &Sidecar, divergence: Divergence) {
    assert_eq!(merged(Some(own), Some(theirs)), Err(divergence));
}

#[test]
fn another_bootstrap_is_another_log() {
    let mut other = after(&[5], 7);
    other.bootstrap.sha256[0] ^= 1;
    check_apart(&after(&[5], 8), &other, Divergence::Bootstrap);
    let mut other = after(&[5], 7);
    other.bootstrap.raft_index = RaftIndex(2);
    check_apart(&after(&[5], 8), &other, Divergence::Bootstrap);
}

#[test]
fn a_side_without_a_sidecar_that_is_past_the_bootstrap_is_of_another_log() {
    let bootstrapped = after(&[], 7);
    for (reach, is_same) in [(2, true), (3, false), (4, false)] {
        let none = (None, RaftIndex(reach));
        let some = (Some(&bootstrapped), RaftIndex(9));
        for result in [merge(none, some), merge(some, none)] {
            assert_eq!(result.is_ok(), is_same, "{reach}");
            assert!(is_same || result == Err(Divergence::Bootstrap));
        }
    }
}

#[test]
fn a_key_that_both_know_is_the_same_in_all_that_is_not_a_nodes_own() {
    let changes: [fn(&mut KeyRecord); 4] = [
        |key| key.purpose = Purpose::Raft,
        |key| key.wrapped[0] ^= 1,
        |key| key.name.raft_index = RaftIndex(4),
        |key| key.name.sha256[0] ^= 1,
    ];
    for change in changes {
        for newest in [&[5][..], &[5, 6]] {
            let mut other = after(newest, 7);
            change(other.keys.get_mut(&id(5)).expect("rotated"));
            check_apart(&after(&[5], 8), &other, Divergence::Key(id(5)));
            check_apart(&other, &after(&[5], 8), Divergence::Key(id(5)));
        }
    }
}

#[test]
fn a_key_that_the_other_side_must_know_is_missed() {
    // The newer one lacks a key of the older one.
    check_apart(&after(&[5], 8), &after(&[6], 7), Divergence::Key(id(5)));
    check_apart(&after(&[6], 8), &after(&[5], 7), Divergence::Key(id(6)));
    // The older one lacks a key of the newer one, of an entry that it has applied.
    check_apart(&after(&[6], 8), &after(&[5, 6, 7], 7), Divergence::Key(id(5)));
    // The snapshot's rows are at 9, so its sidecar has what the entry at 9 did, and need not have what one at 10 did.
    check_apart(&after(&[5, 9], 8), &after(&[5], 7), Divergence::Key(id(9)));
    assert!(merged(Some(&after(&[5, 10], 8)), Some(&after(&[5], 7))).is_ok());
}

#[test]
fn other_active_keys_after_the_same_entry_are_another_log() {
    let mut other = after(&[5], 7);
    other.active.storage = id(1);
    check_apart(&after(&[5], 8), &other, Divergence::Active);
    // After a later one they may differ, whichever side has it.
    let later = Sidecar { raft_applied_index: RaftIndex(6), ..other };
    for (own, theirs) in [(&after(&[5], 8), &later), (&later, &after(&[5], 8))] {
        let result = merged(Some(own), Some(theirs)).expect("one log").expect("a sidecar");
        assert_eq!(result.active.storage, id(1));
    }
}

/// The entry at `index`, whatever it is.
fn name(index: u64) -> EntryName {
    EntryName { raft_index: RaftIndex(index), sha256: [index as u8; 32] }
}

/// Both ways round: `one` is the node's own and `other` the snapshot's, and the reverse. Reaches are indices of rows.
#[track_caller]
fn check_both(
    (one, one_reach): (&Sidecar, u64),
    (other, other_reach): (&Sidecar, u64),
    expected: Result<&Sidecar, Divergence>,
) {
    let (one, other) = ((Some(one), RaftIndex(one_reach)), (Some(other), RaftIndex(other_reach)));
    for result in [merge(one, other), merge(other, one)] {
        match (expected, result) {
            (Ok(expected), Ok(Some(found))) => {
                let mut found = found;
                for (id, key) in &mut found.keys {
                    key.created.clone_from(&expected.keys[id].created);
                    key.local_epoch = expected.keys[id].local_epoch;
                }
                assert_eq!(found, *expected);
            }
            (Err(expected), Err(found)) => assert_eq!(found, expected),
            (expected, found) => panic!("{expected:?}, and found {found:?}"),
        }
    }
}

fn at(index: u64, sidecar: Sidecar) -> Sidecar {
    Sidecar { raft_applied_index: RaftIndex(index), ..sidecar }
}

#[test]
fn a_cutover_is_the_same_entry_on_both_or_stands_behind_what_the_other_reaches() {
    for purpose in [Purpose::Storage, Purpose::Raft] {
        let before = after(&[5], 7);
        let with = |index, name| {
            at(index, Sidecar { cutovers: Cutovers::default().with(purpose, name), ..before.clone() })
        };
        let on = with(6, name(6));
        check_both((&on, 6), (&before, 5), Ok(&on));
        // Its rows are at 6, so it has applied the entry that is a cutover on the other side.
        check_both((&on, 6), (&before, 6), Err(Divergence::Cutover(purpose)));
        check_both((&on, 6), (&on, 9), Ok(&on));
        let mut other = name(6);
        other.sha256[0] ^= 1;
        check_both((&on, 6), (&with(6, other), 6), Err(Divergence::Cutover(purpose)));
        check_both((&on, 6), (&with(7, name(7)), 7), Err(Divergence::Cutover(purpose)));
    }
}

fn retire(mut sidecar: Sidecar, key: u32, index: u64) -> Sidecar {
    let record = sidecar.keys.remove(&id(key)).expect("it is there");
    let stone =
        Tombstone { purpose: record.purpose, installed: record.name, retired: name(index), digest: [9; 32] };
    sidecar.retired.insert(id(key), stone);
    at(index, sidecar)
}

#[test]
fn a_retired_key_is_retired_on_both_or_not_yet_on_one() {
    let before = after(&[5], 7);
    let retired = retire(before.clone(), 1, 6);
    check_both((&retired, 6), (&before, 5), Ok(&retired));
    check_both((&retired, 6), (&before, 6), Err(Divergence::Key(id(1))));
    check_both((&retired, 6), (&retired, 9), Ok(&retired));
    check_both((&retired, 6), (&retire(before.clone(), 1, 7), 7), Err(Divergence::Key(id(1))));
    let changes: [fn(&mut Tombstone); 4] = [
        |stone| stone.digest[0] ^= 1,
        |stone| stone.retired.sha256[0] ^= 1,
        |stone| stone.installed.sha256[0] ^= 1,
        |stone| stone.purpose = Purpose::Raft,
    ];
    for change in changes {
        let mut other = retired.clone();
        change(other.retired.get_mut(&id(1)).expect("retired"));
        check_both((&retired, 6), (&other, 6), Err(Divergence::Key(id(1))));
    }
    // A key that was not yet installed on the other side, and is retired here already.
    let both = retire(after(&[5, 6], 7), 5, 8);
    check_both((&both, 8), (&after(&[], 8), 4), Ok(&both));
    check_both((&both, 8), (&after(&[], 8), 5), Err(Divergence::Key(id(5))));
    check_both((&both, 8), (&at(6, after(&[6], 8)), 6), Err(Divergence::Key(id(5))));
    // The tombstone and the key are of other entries.
    let mut other = before;
    other.keys.get_mut(&id(1)).expect("bootstrapped").name.sha256[0] ^= 1;
    check_both((&retired, 6), (&other, 5), Err(Divergence::Key(id(1))));
}

fn rewrap(mut sidecar: Sidecar, index: u64) -> Sidecar {
    sidecar.keys.values_mut().for_each(|key| key.wrapped = vec![index as u8; 60]);
    sidecar.rewraps.push(RewrapRecord { kek: KekCheck([index as u8; 8]), name: name(index) });
    at(index, sidecar)
}

#[test]
fn a_rewrap_is_the_same_on_both_or_stands_behind_what_the_other_reaches() {
    let before = after(&[5], 7);
    let one = rewrap(before.clone(), 6);
    check_both((&one, 6), (&before, 5), Ok(&one));
    check_both((&one, 6), (&before, 6), Err(Divergence::Rewrap));
    check_both((&one, 6), (&one, 9), Ok(&one));
    let two = rewrap(one.clone(), 8);
    check_both((&two, 8), (&one, 7), Ok(&two));
    check_both((&two, 8), (&one, 8), Err(Divergence::Rewrap));
    check_both((&two, 8), (&before, 5), Ok(&two));
    // Of two rewraps the other side may lack the newer one alone, or both.
    check_both((&two, 8), (&before, 6), Err(Divergence::Rewrap));
    let changes: [fn(&mut RewrapRecord); 2] =
        [|rewrap| rewrap.name.sha256[0] ^= 1, |rewrap| rewrap.kek = KekCheck([7; 8])];
    for change in changes {
        let mut other = one.clone();
        change(&mut other.rewraps[0]);
        check_both((&one, 6), (&other, 6), Err(Divergence::Rewrap));
        // The same in an older rewrap than the newest.
        check_both((&rewrap(other, 8), 8), (&two, 8), Err(Divergence::Rewrap));
    }
    // In one generation every key has one wrapping.
    let mut other = one.clone();
    other.keys.get_mut(&id(5)).expect("rotated").wrapped[0] ^= 1;
    check_both((&one, 6), (&other, 6), Err(Divergence::Key(id(5))));
}

#[test]
fn a_side_that_is_ahead_in_one_thing_is_behind_in_nothing() {
    // The newer one lacks a cutover that the older one has.
    let older =
        at(6, Sidecar { cutovers: Cutovers { storage: Some(name(6)), raft: None }, ..after(&[5], 7) });
    let newer = rewrap(after(&[5], 8), 7);
    check_both((&older, 6), (&newer, 7), Err(Divergence::Cutover(Purpose::Storage)));
    let newer = Sidecar { cutovers: older.cutovers, ..newer };
    check_both((&older, 6), (&newer, 7), Ok(&newer));
}
