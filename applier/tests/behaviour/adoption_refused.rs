//! Adoptions that do not explain the sidecar: each refused with its reason, and nothing touched.

use applier::apply::{AdoptError, Adoption};
use applier::outcome::StartError;
use applier::registry::{RowKey, WriterRow};
use applier::wire::{Entry, RotationKind, WireError};
use applier::{Outcome, Purpose, RaftIndex};

use crate::adoption::{adoption, foreign_bytes, foreign_node};
use crate::harness::{
    N1, N1_TWIN, N2, World, blob_with_nonce, bootstrap, bootstrap_with, id, read_error, registration,
    rotation, rotation_with, seen,
};

/// The adoption is refused with this error, purely, and the right one still succeeds.
#[track_caller]
fn check_on(world: &mut World, adoption: &Adoption, error: &AdoptError) {
    for _ in 0..2 {
        let before = world.state();
        assert_eq!(world.node_mut().adopt(adoption), Err(error.clone()));
        assert_eq!(world.state(), before);
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut Adoption), error: AdoptError) {
    let mut wrong = adoption();
    change(&mut wrong);
    let mut world = foreign_node(1);
    check_on(&mut world, &wrong, &error);
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
}

fn at(index: u64, entry: &Entry) -> (RaftIndex, Vec<u8>) {
    (RaftIndex(index), entry.encode())
}

#[test]
fn there_is_nothing_to_adopt_without_a_foreign_sidecar() {
    for mut world in [World::started(), World::started_without_keyring(), World::with(&[bootstrap()])] {
        check_on(&mut world, &adoption(), &AdoptError::NotForeign);
    }
    let mut world = foreign_node(1);
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
    check_on(&mut world, &adoption(), &AdoptError::NotForeign);
}

#[test]
fn an_entry_that_does_not_decode_is_refused() {
    let index = RaftIndex(6);
    check(|adoption| adoption.entries[1].1.clear(), AdoptError::Wire { index, error: WireError::Empty });
    let error = WireError::Version { got: 9 };
    check(|adoption| adoption.entries[1].1[1] = 9, AdoptError::Wire { index, error });
}

#[test]
fn an_entry_that_installs_no_key_is_refused() {
    let error = |index| AdoptError::Entry { index: RaftIndex(index) };
    check(|adoption| adoption.entries.push(at(7, &registration(1, N2, 0))), error(7));
    let retire = rotation_with(5, |entry| entry.subtag = RotationKind::RetireDek);
    check(|adoption| adoption.entries.push(at(7, &retire)), error(7));
    let reserved = rotation_with(5, |entry| entry.dek_id = 0);
    check(|adoption| adoption.entries.push(at(7, &reserved)), error(7));
}

#[test]
fn an_entry_outside_of_what_was_applied_is_refused() {
    check(|adoption| adoption.entries[1].0 = RaftIndex(10), AdoptError::Entry { index: RaftIndex(10) });
    check(|adoption| adoption.entries[0].0 = RaftIndex::ZERO, AdoptError::Entry { index: RaftIndex::ZERO });
    check(|adoption| adoption.applied_index = RaftIndex(5), AdoptError::Entry { index: RaftIndex(6) });
}

#[test]
fn exactly_one_bootstrap_is_wanted() {
    check(|adoption| drop(adoption.entries.remove(0)), AdoptError::Bootstraps { found: 0 });
    check(|adoption| adoption.entries.clear(), AdoptError::Bootstraps { found: 0 });
}

#[test]
fn a_second_bootstrap_explains_keys_twice() {
    check(|adoption| adoption.entries.push(at(7, &bootstrap())), AdoptError::KeyNotExplained(id(1)));
}

#[test]
fn a_key_without_an_entry_is_refused() {
    check(|adoption| drop(adoption.entries.pop()), AdoptError::KeyNotExplained(id(5)));
}

#[test]
fn a_key_with_two_entries_is_refused() {
    let again = rotation(5, Purpose::Storage);
    check(|adoption| adoption.entries.push(at(7, &again)), AdoptError::KeyNotExplained(id(5)));
}

#[test]
fn an_entry_for_a_key_that_the_sidecar_lacks_is_refused() {
    let other = rotation(6, Purpose::Storage);
    check(|adoption| adoption.entries.push(at(7, &other)), AdoptError::KeyNotExplained(id(6)));
}

#[test]
fn an_entry_with_another_purpose_or_other_bytes_explains_nothing() {
    let purpose = rotation(5, Purpose::Raft);
    check(|adoption| adoption.entries[1] = at(6, &purpose), AdoptError::KeyNotExplained(id(5)));
    let wrapped = rotation_with(5, |entry| entry.wrapped = blob_with_nonce(5, 6));
    check(|adoption| adoption.entries[1] = at(6, &wrapped), AdoptError::KeyNotExplained(id(5)));
    let swapped = bootstrap_with(|entry| (entry.storage_id, entry.raft_id) = (2, 1));
    check(|adoption| adoption.entries[0] = at(3, &swapped), AdoptError::KeyNotExplained(id(1)));
    let equal = bootstrap_with(|entry| entry.raft_id = 1);
    check(|adoption| adoption.entries[0] = at(3, &equal), AdoptError::KeyNotExplained(id(1)));
}

#[test]
fn a_sidecar_without_an_active_key_is_refused() {
    let text = String::from_utf8(foreign_bytes(1, "2019-06-01T00:00:00Z")).expect("text");
    let no_storage = text.replace("\"storage\": 5", "\"storage\": 0");
    let no_raft = text.replace("\"raft\": 2", "\"raft\": 0");
    for (text, purpose) in [(no_storage, Purpose::Storage), (no_raft, Purpose::Raft)] {
        let mut world = World::new();
        world.put_sidecar(text.as_bytes());
        world.restart();
        assert_eq!(world.node().active(purpose), None);
        check_on(&mut world, &adoption(), &AdoptError::NotActive(purpose));
    }
}

#[test]
fn a_row_that_the_reference_cannot_have_written_is_refused() {
    let refused = |key: RowKey, row: WriterRow| {
        check(|adoption| adoption.rows.extend([(key, row)]), AdoptError::Row(key));
    };
    let (key, row) = seen(9, N1, 0, 0);
    refused(key, row);
    let (key, row) = seen(0, N1, 0, 0);
    refused(key, row);
    let (key, _) = seen(1, N1, 0, 0);
    refused(key, seen(1, N2, 0, 0).1);
    refused(key, seen(1, N1, 3, 2).1);
    refused(RowKey { dek_id: 1, node16: 0 }, seen(1, 0, 0, 0).1);
}

#[test]
fn another_node_may_hold_the_low_bits_of_this_one() {
    let mut world = foreign_node(1);
    let mut twin = adoption();
    twin.rows.extend([seen(1, N1_TWIN, 0, 0)]);
    assert_eq!(world.node_mut().adopt(&twin), Ok(()));
}

#[test]
fn a_registry_that_holds_something_else_is_refused() {
    let mut world = World::started_without_keyring();
    assert_eq!(world.apply(1, &registration(1, N2, 0)), Outcome::Applied);
    world.stop();
    world.keyring = true;
    world.put_sidecar(&foreign_bytes(1, "2019-06-01T00:00:00Z"));
    world.restart();
    check_on(&mut world, &adoption(), &AdoptError::RegistryInUse);
}

#[test]
fn keys_that_do_not_open_any_more_are_refused_and_may_be_adopted_later() {
    let mut world = foreign_node(1);
    world.kek.set_available(false);
    let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut).to_string();
    let error = AdoptError::Keys(StartError::KekUnavailable(timed_out));
    check_on(&mut world, &adoption(), &error);
    world.kek.set_available(true);
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
}

#[test]
fn a_registry_that_cannot_be_read_is_refused_and_may_be_adopted_later() {
    let mut world = foreign_node(1);
    world.registry.borrow_mut().reads_fail = true;
    check_on(&mut world, &adoption(), &AdoptError::Registry(read_error()));
    world.registry.borrow_mut().reads_fail = false;
    assert_eq!(world.node_mut().adopt(&adoption()), Ok(()));
}

#[test]
fn two_entries_at_one_index_are_refused() {
    check(|adoption| adoption.entries[1].0 = RaftIndex(3), AdoptError::Entry { index: RaftIndex(3) });
}
