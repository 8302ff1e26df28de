//! The keys in memory: a copy-on-write map that readers on any thread use without waiting.
//!
//! A read takes one snapshot of the map; a write builds a new map and swaps it in, so that a reader sees all keys of
//! an entry or none. The keystore knows nothing of purposes, and it does not forbid equal bytes under two ids: it
//! lets whoever must forbid that find them ([`Keystore::find_equal`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aes_gcm::{Aes256Gcm, KeyInit};
use arc_swap::ArcSwap;

use crate::ids::DekId;
use crate::secret::Dek;

type Map = BTreeMap<DekId, Arc<Slot>>;

/// A key and its cipher, whose key schedule is computed once.
struct Slot {
    dek: Dek,
    aead: Arc<Aes256Gcm>,
}

impl Slot {
    fn new(dek: &Dek) -> Slot {
        Slot { dek: dek.clone(), aead: Arc::new(Aes256Gcm::new(dek.expose().into())) }
    }
}

/// Every loaded data encryption key by its id.
#[derive(Default)]
pub struct Keystore {
    map: ArcSwap<Map>,
}

/// Why keys were not taken in. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// The id stands for other key bytes, in the keystore or earlier in the same call.
    #[error("key {id} is loaded with other bytes")]
    KeyConflict {
        /// The id.
        id: DekId,
    },
}

/// What one [`Keystore::insert_all`] added, for [`Keystore::undo`]. Dropping it keeps the keys.
#[derive(Default)]
pub struct Undo {
    added: Map,
}

impl Keystore {
    /// A keystore without keys.
    pub fn new() -> Keystore {
        Keystore::default()
    }

    /// Takes one key in; see [`Keystore::insert_all`].
    pub fn set(&self, id: DekId, dek: Dek) -> Result<(), KeystoreError> {
        self.insert_all(&[(id, dek)]).map(drop)
    }

    /// Takes keys in with one swap: all of them or, on a conflict, none. A key that is there with the same bytes is
    /// left alone and is not part of the [`Undo`].
    pub fn insert_all(&self, keys: &[(DekId, Dek)]) -> Result<Undo, KeystoreError> {
        loop {
            let current = self.map.load();
            let added = absent(&current, keys)?;
            if added.is_empty() {
                return Ok(Undo { added });
            }
            let mut next = Map::clone(&current);
            next.extend(added.iter().map(|(id, slot)| (*id, Arc::clone(slot))));
            // Another writer may have been quicker; what it wrote must be judged, too.
            let found = self.map.compare_and_swap(&*current, Arc::new(next));
            if Arc::ptr_eq(&current, &found) {
                tracing::debug!(ids = ?added.keys().map(|id| id.get()).collect::<Vec<_>>(), "keys set");
                return Ok(Undo { added });
            }
        }
    }

    /// Whether [`Keystore::insert_all`] would take these keys.
    ///
    /// # Errors
    /// Those that it would return.
    pub fn accepts(&self, keys: &[(DekId, Dek)]) -> Result<(), KeystoreError> {
        absent(&self.map.load(), keys).map(drop)
    }

    /// Takes back what one `insert_all` added, with one swap. Without other writes in between, the map is exactly
    /// the one before; what other writes did in between stays.
    pub fn undo(&self, undo: Undo) {
        if undo.added.is_empty() {
            return;
        }
        tracing::debug!(ids = ?undo.added.keys().map(|id| id.get()).collect::<Vec<_>>(), "keys undone");
        self.map.rcu(|current| {
            let mut next = Map::clone(current);
            next.retain(|id, slot| !undo.added.get(id).is_some_and(|added| Arc::ptr_eq(added, slot)));
            next
        });
    }

    /// Drops a key, and says whether it was there. Readers that hold its cipher keep that.
    pub fn remove(&self, id: DekId) -> bool {
        if !self.contains(id) {
            return false;
        }
        let before = self.map.rcu(|current| {
            let mut next = Map::clone(current);
            next.remove(&id);
            next
        });
        before.contains_key(&id)
    }

    /// A copy of a key.
    pub fn dek(&self, id: DekId) -> Option<Dek> {
        self.map.load().get(&id).map(|slot| slot.dek.clone())
    }

    /// The cipher of a key: AES-256-GCM, nonces of 12 bytes, tags of 16.
    pub fn aead(&self, id: DekId) -> Option<Arc<Aes256Gcm>> {
        self.map.load().get(&id).map(|slot| Arc::clone(&slot.aead))
    }

    /// Lends the cipher of a key to `call` for the duration of it, without taking a share in it as
    /// [`Keystore::aead`] does: readers of one key don't contend for its count of references. Writers are not held up.
    pub fn with_aead<T>(&self, id: DekId, call: impl FnOnce(&Aes256Gcm) -> T) -> Option<T> {
        self.map.load().get(&id).map(|slot| call(&slot.aead))
    }

    /// The lowest id whose cipher `fits`. All keys are of one snapshot.
    pub fn find_aead(&self, mut fits: impl FnMut(DekId, &Aes256Gcm) -> bool) -> Option<DekId> {
        self.map.load().iter().find(|(id, slot)| fits(**id, &slot.aead)).map(|(id, _)| *id)
    }

    /// The lowest id that has these key bytes. Every loaded key is compared, each in constant time, so that the
    /// search tells nothing about the bytes of a key.
    pub fn find_equal(&self, dek: &Dek) -> Option<DekId> {
        let equal = |found: Option<DekId>, (id, slot): (&DekId, &Arc<Slot>)| {
            let here = (slot.dek == *dek).then_some(*id);
            found.or(here)
        };
        self.map.load().iter().fold(None, equal)
    }

    /// Whether a key is loaded.
    pub fn contains(&self, id: DekId) -> bool {
        self.map.load().contains_key(&id)
    }

    /// The loaded ids, ascending.
    pub fn ids(&self) -> Vec<DekId> {
        self.map.load().keys().copied().collect()
    }

    /// The number of loaded keys.
    pub fn len(&self) -> usize {
        self.map.load().len()
    }

    /// Whether no key is loaded.
    pub fn is_empty(&self) -> bool {
        self.map.load().is_empty()
    }
}

/// Slots for the keys that `map` lacks.
fn absent(map: &Map, keys: &[(DekId, Dek)]) -> Result<Map, KeystoreError> {
    let mut added = Map::new();
    for (id, dek) in keys {
        match map.get(id).or_else(|| added.get(id)) {
            Some(slot) if slot.dek == *dek => {}
            Some(_) => return Err(KeystoreError::KeyConflict { id: *id }),
            None => {
                added.insert(*id, Arc::new(Slot::new(dek)));
            }
        }
    }
    Ok(added)
}

impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystore").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&DekId> = self.added.keys().collect();
        f.debug_struct("Undo").field("ids", &ids).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::AeadInOut;

    use super::*;

    fn id(id: u32) -> DekId {
        DekId::new(id).expect("not 0")
    }

    fn dek(byte: u8) -> Dek {
        Dek::new([byte; 32])
    }

    /// A keystore with one key for each pair of id and byte.
    fn keystore(keys: &[(u32, u8)]) -> Keystore {
        let keystore = Keystore::new();
        keys.iter().for_each(|(key, byte)| keystore.set(id(*key), dek(*byte)).expect("no conflict"));
        keystore
    }

    #[track_caller]
    fn check(keystore: &Keystore, keys: &[(u32, u8)]) {
        let ids: Vec<DekId> = keys.iter().map(|(key, _)| id(*key)).collect();
        assert_eq!(keystore.ids(), ids);
        assert_eq!(keystore.len(), keys.len());
        assert_eq!(keystore.is_empty(), keys.is_empty());
        for (key, byte) in keys {
            assert_eq!(keystore.dek(id(*key)), Some(dek(*byte)));
            assert!(keystore.contains(id(*key)));
        }
    }

    #[test]
    fn an_absent_key_is_nowhere_to_be_found() {
        let keystore = keystore(&[(1, 1)]);
        assert_eq!(keystore.dek(id(2)), None);
        assert!(keystore.aead(id(2)).is_none());
        assert!(!keystore.contains(id(2)));
        check(&Keystore::new(), &[]);
    }

    #[test]
    fn ids_ascend_whatever_order_the_keys_came_in() {
        check(&keystore(&[(9, 1), (2, 2), (300, 3)]), &[(2, 2), (9, 1), (300, 3)]);
    }

    #[test]
    fn the_same_bytes_again_change_nothing() {
        let keystore = keystore(&[(1, 1)]);
        let before = keystore.map.load_full();
        assert_eq!(keystore.set(id(1), dek(1)), Ok(()));
        assert!(Arc::ptr_eq(&before, &keystore.map.load_full()));
    }

    #[test]
    fn other_bytes_under_a_known_id_conflict_and_change_nothing() {
        let keystore = keystore(&[(1, 1)]);
        assert_eq!(keystore.set(id(1), dek(2)), Err(KeystoreError::KeyConflict { id: id(1) }));
        check(&keystore, &[(1, 1)]);
    }

    #[test]
    fn a_conflict_at_the_second_key_keeps_the_first_out() {
        let keystore = keystore(&[(2, 2)]);
        let error = keystore.insert_all(&[(id(1), dek(1)), (id(2), dek(9))]).expect_err("conflicting");
        assert_eq!(error, KeystoreError::KeyConflict { id: id(2) });
        check(&keystore, &[(2, 2)]);
    }

    #[test]
    fn what_would_be_taken_in_is_accepted_and_changes_nothing() {
        let keystore = keystore(&[(2, 2)]);
        assert_eq!(keystore.accepts(&[(id(1), dek(1)), (id(2), dek(2))]), Ok(()));
        let conflict = Err(KeystoreError::KeyConflict { id: id(2) });
        assert_eq!(keystore.accepts(&[(id(1), dek(1)), (id(2), dek(9))]), conflict);
        check(&keystore, &[(2, 2)]);
    }

    #[test]
    fn one_id_twice_in_a_call_conflicts_unless_the_bytes_are_equal() {
        let keystore = Keystore::new();
        let error = keystore.insert_all(&[(id(1), dek(1)), (id(1), dek(2))]).expect_err("conflicting");
        assert_eq!(error, KeystoreError::KeyConflict { id: id(1) });
        check(&keystore, &[]);
        assert!(keystore.insert_all(&[(id(1), dek(1)), (id(1), dek(1))]).is_ok());
        check(&keystore, &[(1, 1)]);
    }

    #[test]
    fn equal_bytes_under_two_ids_are_taken_in_and_can_be_found() {
        let keystore = keystore(&[(3, 7), (1, 1), (2, 7)]);
        assert_eq!(keystore.find_equal(&dek(7)), Some(id(2)));
        assert_eq!(keystore.find_equal(&dek(1)), Some(id(1)));
        assert_eq!(keystore.find_equal(&dek(8)), None);
    }

    #[test]
    fn undo_restores_the_map_before_the_call() {
        let keystore = keystore(&[(1, 1)]);
        let keys = [(id(1), dek(1)), (id(2), dek(2)), (id(3), dek(3))];
        let undo = keystore.insert_all(&keys).expect("no conflict");
        check(&keystore, &[(1, 1), (2, 2), (3, 3)]);
        keystore.undo(undo);
        check(&keystore, &[(1, 1)]);
    }

    #[test]
    fn undo_leaves_what_others_wrote_in_between() {
        let keystore = keystore(&[(1, 1)]);
        let undo = keystore.insert_all(&[(id(2), dek(2)), (id(3), dek(3))]).expect("no conflict");
        keystore.set(id(4), dek(4)).expect("no conflict");
        assert!(keystore.remove(id(3)));
        keystore.set(id(3), dek(9)).expect("no conflict");
        keystore.undo(undo);
        check(&keystore, &[(1, 1), (3, 9), (4, 4)]);
    }

    #[test]
    fn a_dropped_undo_keeps_the_keys() {
        let keystore = Keystore::new();
        drop(keystore.insert_all(&[(id(1), dek(1))]).expect("no conflict"));
        check(&keystore, &[(1, 1)]);
    }

    #[test]
    fn remove_drops_one_key_and_says_whether_it_was_there() {
        let keystore = keystore(&[(1, 1), (2, 2)]);
        assert!(keystore.remove(id(1)));
        assert!(!keystore.remove(id(1)));
        check(&keystore, &[(2, 2)]);
    }

    #[test]
    fn the_cipher_of_a_slot_uses_the_key_of_that_slot() {
        let keystore = keystore(&[(1, 1), (2, 2)]);
        let nonce = (&[9; 12]).into();
        let seal = |cipher: &Aes256Gcm| {
            let mut text = *b"text";
            let tag = cipher.encrypt_inout_detached(nonce, b"aad", text.as_mut_slice().into());
            (text, tag.expect("four bytes are not too long"))
        };
        let expected = Aes256Gcm::new((&[2; 32]).into());
        assert_eq!(seal(&keystore.aead(id(2)).expect("loaded")), seal(&expected));
    }

    #[test]
    fn a_lent_cipher_is_the_one_of_the_id_and_outlives_its_removal_within_the_call() {
        let keystore = keystore(&[(1, 1), (2, 2)]);
        let kept = keystore.aead(id(2)).expect("loaded");
        let same = keystore.with_aead(id(2), |aead| keystore.remove(id(2)) && std::ptr::eq(aead, &*kept));
        assert_eq!(same, Some(true));
        assert_eq!(keystore.with_aead(id(2), |_| ()), None);
    }

    #[test]
    fn the_lowest_fitting_cipher_is_found() {
        let keystore = keystore(&[(3, 3), (1, 1), (2, 2)]);
        assert_eq!(keystore.find_aead(|key, _| key > id(1)), Some(id(2)));
        assert_eq!(keystore.find_aead(|_, _| false), None);
    }

    #[test]
    fn debug_shows_ids_and_no_key_bytes() {
        let keystore = keystore(&[(1, 0xab)]);
        let undo = keystore.insert_all(&[(id(2), dek(0xab))]).expect("no conflict");
        assert_eq!(format!("{keystore:?}"), "Keystore { ids: [DekId(1), DekId(2)], .. }");
        assert_eq!(format!("{undo:?}"), "Undo { ids: [DekId(2)], .. }");
    }
}
