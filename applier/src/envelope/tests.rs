//! What envelopes refuse, and what log entries in them are bound to.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::cipher::Cipher;
use crate::ids::LocalEpoch;
use crate::keystore::Keystore;
use crate::secret::Dek;

pub(super) const NONCE: Nonce = Nonce::new(0x1234, LocalEpoch(7), 1);

pub(super) fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

/// Every one of these keys has its id as each of its bytes.
pub(super) fn cipher(ids: &[u8]) -> Cipher {
    let keystore = Keystore::new();
    for byte in ids {
        keystore.set(id((*byte).into()), Dek::new([*byte; 32])).expect("no conflict");
    }
    Cipher::new(Arc::new(keystore))
}

/// The same cases in every run.
pub(super) fn config() -> Config {
    Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    raft::seal(&cipher(&[2]), id(2), &NONCE, payload).expect("key 2 is loaded")
}

/// Seals a payload, lets `spoil` change the envelope and demands this error.
#[track_caller]
fn check(spoil: impl FnOnce(&mut Vec<u8>), error: impl Into<OpenError>) {
    let mut envelope = sealed(b"payload");
    spoil(&mut envelope);
    assert_eq!(raft::open(&cipher(&[2, 3]), &envelope), Err(error.into()));
}

#[test]
fn an_envelope_has_the_documented_layout() {
    let envelope = sealed(b"payload");
    let parts = Envelope::decode(&envelope).expect("it was just sealed");
    assert_eq!(hex::encode(&envelope[..HEADER_LEN]), "010000000002123400070000000000000001");
    assert_eq!((parts.key_id, parts.nonce), (id(2), NONCE));
    assert_eq!(parts.ciphertext, &envelope[18..25]);
    assert_eq!(parts.tag, &envelope[25..]);
    assert_eq!((HEADER_LEN, OVERHEAD), (18, 34));
}

#[test]
fn an_envelope_has_no_room_to_spare() {
    let envelope = sealed(&[7; 1024]);
    assert_eq!((envelope.len(), envelope.capacity()), (1024 + OVERHEAD, 1024 + OVERHEAD));
}

#[test]
fn any_other_version_is_refused() {
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        check(|envelope| envelope[0] = version, EnvelopeError::Version(version));
    }
}

#[test]
fn any_flag_is_refused() {
    for flag in 1..=u8::MAX {
        check(|envelope| envelope[1] = flag, EnvelopeError::Flag(flag));
    }
}

#[test]
fn the_reserved_key_id_is_refused() {
    check(|envelope| envelope[5] = 0, EnvelopeError::ReservedKeyId);
}

#[test]
fn a_key_that_is_not_loaded_is_named() {
    check(|envelope| envelope[5] = 9, CipherError::UnknownKeyId(id(9)));
}

#[test]
fn another_loaded_key_does_not_open_it() {
    check(|envelope| envelope[5] = 3, CipherError::Integrity(id(3)));
}

/// The associated data names the key, so that not even equal bytes make two keys one.
#[test]
fn equal_key_bytes_under_another_id_do_not_open_it() {
    let twins = cipher(&[2]);
    twins.keystore().set(id(3), Dek::new([2; 32])).expect("no conflict");
    let mut envelope = sealed(b"payload");
    envelope[5] = 3;
    assert_eq!(raft::open(&twins, &envelope), Err(CipherError::Integrity(id(3)).into()));
}

#[test]
fn an_envelope_cut_at_any_length_is_refused() {
    let envelope = sealed(b"payload");
    for len in 0..envelope.len() {
        let error: OpenError = match len {
            ..OVERHEAD => EnvelopeError::Short { len }.into(),
            _ => CipherError::Integrity(id(2)).into(),
        };
        assert_eq!(raft::open(&cipher(&[2]), &envelope[..len]), Err(error), "{len} bytes");
    }
}

#[test]
fn an_envelope_with_a_byte_more_is_refused() {
    check(|envelope| envelope.push(0), CipherError::Integrity(id(2)));
}

#[test]
fn an_envelope_of_nothing_opens_to_nothing() {
    let envelope = sealed(b"");
    assert_eq!(envelope.len(), OVERHEAD);
    assert_eq!(raft::open(&cipher(&[2]), &envelope), Ok(vec![]));
}

#[test]
fn a_value_does_not_pass_for_a_log_entry() {
    let cipher = cipher(&[2]);
    let value = storage::seal(&cipher, id(2), &NONCE, 0, b"", b"value").expect("loaded");
    assert_eq!(raft::open(&cipher, &value), Err(CipherError::Integrity(id(2)).into()));
}

#[test]
fn nothing_is_sealed_under_a_key_that_is_not_loaded() {
    assert_eq!(raft::seal(&cipher(&[2]), id(3), &NONCE, b""), Err(CipherError::UnknownKeyId(id(3))));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_payload_comes_back(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(raft::open(&cipher(&[2]), &sealed(&payload)), Ok(payload));
    }

    /// Key 3 is loaded as well: a flip may turn id 2 into it.
    #[test]
    fn a_flipped_bit_anywhere_is_detected(
        payload in prop::collection::vec(any::<u8>(), 0..100),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut envelope = sealed(&payload);
        let bit = bit.index(envelope.len() * 8);
        envelope[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(raft::open(&cipher(&[2, 3]), &envelope).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(raft::open(&cipher(&[2, 3]), &bytes).is_err());
    }
}
