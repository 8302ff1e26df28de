//! The keystore against a plain map: random calls, undone in any order, some of them with other calls in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use applier::DekId;
use applier::keystore::{Keystore, KeystoreError, Undo};
use applier::secret::Dek;
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

const IDS: std::ops::RangeInclusive<u32> = 1..=4;
/// Keys are one byte 32 times.
const BYTES: std::ops::RangeInclusive<u8> = 1..=3;

#[derive(Clone, Debug)]
enum Step {
    Set(u32, u8),
    InsertAll(Vec<(u32, u8)>),
    /// Takes one of the insertions back that have not been yet.
    Undo(Index),
    /// Decides to keep one.
    Forget(Index),
    Remove(u32),
    /// Holds a cipher, whatever becomes of its key.
    Hold(u32),
}

/// A key's byte, and which insertion it came with.
type Slot = (u8, u32);

#[derive(Clone, Debug, Default)]
struct Model {
    slots: BTreeMap<u32, Slot>,
    insertions: u32,
    undos: Vec<BTreeMap<u32, Slot>>,
    held: Vec<u8>,
    /// What the last insertion conflicted with.
    conflict: Option<u32>,
    /// Whether the last removal found something.
    removed: bool,
}

impl Model {
    fn insert(&mut self, keys: &[(u32, u8)]) -> BTreeMap<u32, Slot> {
        self.insertions += 1;
        let mut added = BTreeMap::new();
        for (id, byte) in keys {
            match self.slots.get(id).or(added.get(id)) {
                Some((known, _)) if known != byte => {
                    self.conflict = Some(*id);
                    return BTreeMap::new();
                }
                Some(_) => {}
                None => drop(added.insert(*id, (*byte, self.insertions))),
            }
        }
        self.slots.extend(added.clone());
        added
    }
}

fn take<T>(items: &mut Vec<T>, which: &Index) -> Option<T> {
    if items.is_empty() { None } else { Some(items.remove(which.index(items.len()))) }
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        prop_oneof![
            1 => (IDS, BYTES).prop_map(|(id, byte)| Step::Set(id, byte)),
            3 => vec((IDS, BYTES), 0..4).prop_map(Step::InsertAll),
            3 => any::<Index>().prop_map(Step::Undo),
            1 => any::<Index>().prop_map(Step::Forget),
            2 => IDS.prop_map(Step::Remove),
            1 => IDS.prop_map(Step::Hold),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        model.conflict = None;
        match step {
            Step::Set(id, byte) => drop(model.insert(&[(*id, *byte)])),
            Step::InsertAll(keys) => {
                let added = model.insert(keys);
                if model.conflict.is_none() {
                    model.undos.push(added);
                }
            }
            Step::Undo(which) => {
                let undo = take(&mut model.undos, which).unwrap_or_default();
                model.slots.retain(|id, slot| undo.get(id) != Some(slot));
            }
            Step::Forget(which) => drop(take(&mut model.undos, which)),
            Step::Remove(id) => model.removed = model.slots.remove(id).is_some(),
            Step::Hold(id) => model.held.extend(model.slots.get(id).map(|(byte, _)| byte)),
        }
        model
    }
}

#[derive(Default)]
struct Subject {
    keystore: Keystore,
    undos: Vec<Undo>,
    held: Vec<Arc<Aes256Gcm>>,
}

fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

fn dek(byte: u8) -> Dek {
    Dek::new([byte; 32])
}

fn sealed(cipher: &Aes256Gcm) -> Vec<u8> {
    let mut text = b"a text".to_vec();
    let tag = cipher.encrypt_inout_detached((&[9; 12]).into(), b"", text.as_mut_slice().into());
    text.extend(tag.expect("it is not too long"));
    text
}

fn sealed_by(byte: u8) -> Vec<u8> {
    sealed(&Aes256Gcm::new((&[byte; 32]).into()))
}

impl StateMachineTest for Subject {
    type SystemUnderTest = Subject;
    type Reference = Model;

    fn init_test(_: &Model) -> Subject {
        Subject::default()
    }

    fn apply(mut subject: Subject, model: &Model, step: Step) -> Subject {
        let expected = match model.conflict {
            Some(conflict) => Err(KeystoreError::KeyConflict { id: id(conflict) }),
            None => Ok(()),
        };
        match step {
            Step::Set(key, byte) => assert_eq!(subject.keystore.set(id(key), dek(byte)), expected),
            Step::InsertAll(keys) => {
                let keys: Vec<_> = keys.into_iter().map(|(key, byte)| (id(key), dek(byte))).collect();
                assert_eq!(subject.keystore.accepts(&keys), expected);
                let found = subject.keystore.insert_all(&keys);
                assert_eq!(found.map(|undo| subject.undos.push(undo)), expected);
            }
            Step::Undo(which) => {
                if let Some(undo) = take(&mut subject.undos, &which) {
                    subject.keystore.undo(undo);
                }
            }
            Step::Forget(which) => drop(take(&mut subject.undos, &which)),
            Step::Remove(key) => assert_eq!(subject.keystore.remove(id(key)), model.removed),
            Step::Hold(key) => subject.held.extend(subject.keystore.aead(id(key))),
        }
        subject
    }

    fn check_invariants(Subject { keystore, held, .. }: &Subject, model: &Model) {
        let ids: Vec<DekId> = model.slots.keys().map(|key| id(*key)).collect();
        assert_eq!(keystore.ids(), ids);
        assert_eq!((keystore.len(), keystore.is_empty()), (ids.len(), ids.is_empty()));
        for key in IDS {
            let byte = model.slots.get(&key).map(|(byte, _)| *byte);
            assert_eq!(keystore.dek(id(key)), byte.map(dek));
            assert_eq!(keystore.contains(id(key)), byte.is_some());
            assert_eq!(keystore.with_aead(id(key), sealed), byte.map(sealed_by));
        }
        for byte in BYTES {
            let lowest = model.slots.iter().find(|(_, (other, _))| *other == byte).map(|(key, _)| id(*key));
            assert_eq!(keystore.find_equal(&dek(byte)), lowest);
            assert_eq!(keystore.find_aead(|_, cipher| sealed(cipher) == sealed_by(byte)), lowest);
        }
        assert!(held.iter().map(|cipher| sealed(cipher)).eq(model.held.iter().map(|byte| sealed_by(*byte))));
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_keystore_is_a_map_whatever_is_undone_and_when(sequential 1..24 => Subject);
}
