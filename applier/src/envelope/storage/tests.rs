//! What stored values are bound to, and what reading one refuses.

use proptest::prelude::*;

use super::super::OVERHEAD;
use super::super::tests::{NONCE, cipher, config, id};
use super::*;

const KEY: &[u8] = b"table key";
const EXPIRES: u64 = 0x0102_0304_0506_0708;

/// The value as it is stored, sealed under key 1.
fn stored(expire_at: u64, value: &[u8]) -> Vec<u8> {
    let body = seal(&cipher(&[1]), id(1), &NONCE, expire_at, KEY, value).expect("key 1 is loaded");
    [&ValueHeader::encrypted(expire_at).encode()[..], &body].concat()
}

/// Stores a value, lets `spoil` change the bytes and demands this error with keys 1 and 2 loaded.
#[track_caller]
fn check(spoil: impl FnOnce(&mut Vec<u8>), error: impl Into<ReadError>) {
    let mut stored = stored(EXPIRES, b"value");
    spoil(&mut stored);
    assert_eq!(read(&cipher(&[1, 2]), KEY, &stored), Err(error.into()));
}

fn integrity(key: u32) -> OpenError {
    CipherError::Integrity(id(key)).into()
}

#[test]
fn a_header_has_the_documented_layout() {
    for (header, bytes) in [
        (ValueHeader::clear(0), "000000000000000000"),
        (ValueHeader::encrypted(EXPIRES), "020807060504030201"),
        (ValueHeader::tombstone(1), "010100000000000000"),
    ] {
        assert_eq!(hex::encode(header.encode()), bytes);
        assert_eq!(ValueHeader::split(&header.encode()), Ok((header, &b""[..])));
    }
}

#[test]
fn flags_that_nothing_writes_are_refused() {
    for flags in (0..=u8::MAX).filter(|flags| ![0b000, 0b001, 0b010].contains(flags)) {
        check(|stored| stored[0] = flags, HeaderError::Flags(flags));
    }
}

#[test]
fn a_value_cut_at_any_length_is_refused() {
    let stored = stored(EXPIRES, b"value");
    for len in 0..stored.len() {
        let error = match len.checked_sub(ValueHeader::LEN) {
            None => HeaderError::Short { len }.into(),
            Some(len) if len < OVERHEAD => OpenError::from(super::super::EnvelopeError::Short { len }).into(),
            Some(_) => ReadError::from(integrity(1)),
        };
        assert_eq!(read(&cipher(&[1]), KEY, &stored[..len]), Err(error), "{len} bytes");
    }
}

#[test]
fn another_table_key_does_not_open_it() {
    let stored = stored(EXPIRES, b"value");
    for key in [&b"table kex"[..], b"table ke", b"table keyy", b""] {
        assert_eq!(read(&cipher(&[1]), key, &stored), Err(ReadError::from(integrity(1))));
    }
}

#[test]
fn another_expiry_does_not_open_it() {
    check(|stored| stored[1] ^= 1, integrity(1));
    check(|stored| stored[1..9].fill(0), integrity(1));
}

#[test]
fn a_log_entry_does_not_pass_for_a_value() {
    let cipher = cipher(&[1]);
    let entry = super::super::raft::seal(&cipher, id(1), &NONCE, b"entry").expect("loaded");
    assert_eq!(open(&cipher, 0, b"", &entry), Err(integrity(1)));
}

#[test]
fn a_key_that_is_not_loaded_is_named() {
    let unknown = OpenError::from(CipherError::UnknownKeyId(id(1)));
    assert_eq!(read(&cipher(&[2]), KEY, &stored(0, b"value")), Err(unknown.into()));
    assert_eq!(seal(&cipher(&[2]), id(1), &NONCE, 0, KEY, b""), Err(CipherError::UnknownKeyId(id(1))));
}

#[test]
fn an_encrypted_value_that_calls_itself_clear_or_deleted_is_found_out() {
    for badge in [0, TOMBSTONE] {
        check(|stored| stored[0] = badge, ReadError::Rebadged(id(1)));
    }
}

#[test]
fn rebadging_is_found_out_whichever_key_the_envelope_then_names() {
    for named in [0, 2, 9] {
        let rebadge = |stored: &mut Vec<u8>| (stored[0], stored[ValueHeader::LEN + 5]) = (0, named);
        check(rebadge, ReadError::Rebadged(id(1)));
    }
}

#[test]
fn a_value_without_expiry_that_is_rebadged_and_given_one_is_found_out() {
    let mut stored = stored(0, b"value");
    (stored[0], stored[1]) = (0, 99);
    assert_eq!(read(&cipher(&[1, 2]), KEY, &stored), Err(ReadError::Rebadged(id(1))));
}

#[test]
fn a_clear_value_of_the_shape_of_an_envelope_is_returned_as_it_is() {
    let elsewhere = seal(&cipher(&[1]), id(1), &NONCE, 0, b"another table key", b"value").expect("loaded");
    let header = ValueHeader::clear(0);
    let stored = [&header.encode()[..], &elsewhere].concat();
    assert_eq!(read(&cipher(&[1, 2]), KEY, &stored), Ok((header, Cow::Borrowed(&elsewhere[..]))));
}

/// A key that does not fit comes first, so that its trial must leave the text as it was.
#[test]
fn a_failed_trial_spoils_nothing_for_the_next_one() {
    let body = seal(&cipher(&[8]), id(8), &NONCE, EXPIRES, KEY, b"value").expect("loaded");
    let stored = [&ValueHeader::clear(EXPIRES).encode()[..], &body].concat();
    assert_eq!(read(&cipher(&[1, 2, 8]), KEY, &stored), Err(ReadError::Rebadged(id(8))));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_value_comes_back(
        value in prop::collection::vec(any::<u8>(), 0..300),
        key in prop::collection::vec(any::<u8>(), 0..300),
        expire_at in any::<u64>(),
    ) {
        let cipher = cipher(&[1]);
        let body = seal(&cipher, id(1), &NONCE, expire_at, &key, &value).expect("loaded");
        let header = ValueHeader::encrypted(expire_at);
        let stored = [&header.encode()[..], &body].concat();
        prop_assert_eq!(read(&cipher, &key, &stored), Ok((header, value.into())));
    }

    #[test]
    fn every_clear_value_and_tombstone_comes_back_without_a_copy(
        value in prop::collection::vec(any::<u8>(), 0..300),
        expire_at in any::<u64>(),
        deleted in any::<bool>(),
    ) {
        let kind = if deleted { ValueKind::Tombstone } else { ValueKind::Clear };
        let header = ValueHeader { kind, expire_at };
        let stored = [&header.encode()[..], &value].concat();
        let (found, body) = read(&cipher(&[1]), KEY, &stored).expect("it is clear");
        prop_assert_eq!((found, &body[..]), (header, &value[..]));
        prop_assert!(matches!(body, Cow::Borrowed(_)));
    }

    /// In header or body. Key 3 is loaded as well: a flip may turn id 1 into it.
    #[test]
    fn a_flipped_bit_anywhere_is_detected(
        value in prop::collection::vec(any::<u8>(), 0..100),
        expire_at in prop_oneof![Just(0), any::<u64>()],
        bit in any::<prop::sample::Index>(),
    ) {
        let mut stored = stored(expire_at, &value);
        let bit = bit.index(stored.len() * 8);
        stored[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read(&cipher(&[1, 3]), KEY, &stored).is_err());
    }
}
