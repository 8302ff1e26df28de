//! What is sealed, made and opened by the harness itself: it shares no code with the applier, so each checks the other.
//!
//! A host stores a value behind a header of nine bytes, and a sealed one in an envelope:
//!
//! ```text
//! flags 1 (bits 1-2: 0 clear, 1 sealed) | expire_at 8 LE | body: the value 8 BE, or an envelope over it
//! envelope: version 1 | flag 1 | key id 4 BE | nonce 12 (node 2 | epoch 2 | count 8, each BE) | ciphertext | tag 16
//! AAD of a value:     version | flag | key id | header 9 | table key 8 BE
//! AAD of a log entry: 'R' | version | key id
//! ```

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use xxhash_rust::xxh3::xxh3_64;

use crate::form::{Form, KeyNumber, Seal};

/// Length of a value's header in bytes.
const HEADER_LEN: usize = 9;
/// Length of a GCM tag in bytes.
const TAG_LEN: usize = 16;
/// The only version of an envelope, and the flag of one that is not compressed.
const ENVELOPE: [u8; 2] = [1, 0];

const CLEAR: [u8; HEADER_LEN] = [0; HEADER_LEN];
const SEALED: [u8; HEADER_LEN] = [0b010, 0, 0, 0, 0, 0, 0, 0, 0];

/// Key bytes by id.
pub type Keys = BTreeMap<u32, [u8; 32]>;

/// One use of a nonce: what a ledger holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// Hash of the key's bytes.
    pub key: u64,
    /// The nonce.
    pub nonce: [u8; 12],
    /// Hash of associated data and plaintext. Two uses of one nonce are one only where these are equal.
    pub input: u64,
}

/// An envelope, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Key id.
    pub dek: u32,
    /// The nonce.
    pub nonce: [u8; 12],
    sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart; `None` where it is none.
    pub fn of(bytes: &'a [u8]) -> Option<Envelope<'a>> {
        let rest = bytes.strip_prefix(&ENVELOPE)?;
        let (dek, rest) = rest.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let dek = u32::from_be_bytes(*dek);
        (sealed.len() >= TAG_LEN).then_some(Envelope { dek, nonce: *nonce, sealed })
    }

    /// Node, epoch and count of the nonce.
    pub fn issued(&self) -> (u16, u16, u64) {
        let [n0, n1, e0, e1, count @ ..] = self.nonce;
        (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([e0, e1]), u64::from_be_bytes(count))
    }

    /// The seal that it has, where this node has sealed it with this key.
    pub fn seal(&self, node: u64, key: KeyNumber) -> Option<Seal> {
        let (node16, epoch, count) = self.issued();
        (node16 == node as u16).then_some(Seal { dek: self.dek, key, node, epoch, count })
    }

    fn open(&self, keys: &Keys, aad: &[u8]) -> Result<(Vec<u8>, Use), String> {
        let key = keys.get(&self.dek).ok_or_else(|| format!("key {} is not there", self.dek))?;
        let cipher = Aes256Gcm::new(key.into());
        let opened = cipher.decrypt((&self.nonce).into(), Payload { msg: self.sealed, aad });
        let opened = opened.map_err(|_| format!("its tag does not verify under key {}", self.dek))?;
        let used = used(*key, self.nonce, aad, &opened);
        Ok((opened, used))
    }
}

impl Seal {
    /// The nonce.
    pub fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..2].copy_from_slice(&(self.node as u16).to_be_bytes());
        nonce[2..4].copy_from_slice(&self.epoch.to_be_bytes());
        nonce[4..].copy_from_slice(&self.count.to_be_bytes());
        nonce
    }

    fn envelope(&self, aad: &[u8], msg: &[u8]) -> (Vec<u8>, Use) {
        let (key, nonce) = (self.key.bytes(), self.nonce());
        let cipher = Aes256Gcm::new((&key).into());
        let sealed = cipher.encrypt((&nonce).into(), Payload { msg, aad }).expect("a short plaintext");
        let mut bytes = ENVELOPE.to_vec();
        bytes.extend(self.dek.to_be_bytes());
        bytes.extend(nonce);
        bytes.extend(sealed);
        (bytes, used(key, nonce, aad, msg))
    }

    /// The use of its nonce that sealing this value is.
    pub fn of_value(&self, key: u64, value: u64) -> Use {
        used(self.key.bytes(), self.nonce(), &value_aad(self.dek, key), &value.to_be_bytes())
    }

    /// The use of its nonce that sealing this log entry is.
    pub fn of_entry(&self, entry: &[u8]) -> Use {
        used(self.key.bytes(), self.nonce(), &entry_aad(self.dek), entry)
    }
}

fn used(key: [u8; 32], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Use {
    let input = [&(aad.len() as u64).to_be_bytes(), aad, plaintext].concat();
    Use { key: xxh3_64(&key), nonce, input: xxh3_64(&input) }
}

fn value_aad(dek: u32, key: u64) -> Vec<u8> {
    [&ENVELOPE[..], &dek.to_be_bytes(), &SEALED, &key.to_be_bytes()].concat()
}

fn entry_aad(dek: u32) -> Vec<u8> {
    [&[b'R', ENVELOPE[0]][..], &dek.to_be_bytes()].concat()
}

/// What a host stores of a value, sealed or not.
pub fn stored(key: u64, value: u64, seal: Option<&Seal>) -> Vec<u8> {
    match seal {
        None => [&CLEAR[..], &value.to_be_bytes()].concat(),
        Some(seal) => {
            let (envelope, _) = seal.envelope(&value_aad(seal.dek, key), &value.to_be_bytes());
            [&SEALED[..], &envelope].concat()
        }
    }
}

/// The envelope of what a host has stored, where it is a sealed value.
pub fn envelope_of(stored: &[u8]) -> Option<Envelope<'_>> {
    Envelope::of(stored.strip_prefix(&SEALED)?)
}

/// Reads what a host has stored, and says which use of a nonce it shows where it is sealed.
///
/// # Errors
/// Why it does not open.
pub fn open(keys: &Keys, key: u64, stored: &[u8]) -> Result<(u64, Option<Use>), String> {
    if let Some(body) = stored.strip_prefix(&CLEAR) {
        return Ok((number(body)?, None));
    }
    let envelope = envelope_of(stored).ok_or("it is neither clear nor sealed")?;
    let (body, used) = envelope.open(keys, &value_aad(envelope.dek, key))?;
    Ok((number(&body)?, Some(used)))
}

fn number(body: &[u8]) -> Result<u64, String> {
    body.try_into().map(u64::from_be_bytes).map_err(|_| format!("a value has 8 bytes, not {}", body.len()))
}

/// A log entry in its envelope.
pub fn seal_entry(seal: &Seal, entry: &[u8]) -> Vec<u8> {
    seal.envelope(&entry_aad(seal.dek), entry).0
}

/// Takes the envelope off a log entry, and says which use of a nonce it shows.
///
/// # Errors
/// Why it does not open.
pub fn open_entry(keys: &Keys, bytes: &[u8]) -> Result<(Vec<u8>, Use), String> {
    let envelope = Envelope::of(bytes).ok_or("it is no envelope")?;
    envelope.open(keys, &entry_aad(envelope.dek))
}

/// Bytes of a host's own entry in the log: a zero, the table key (8 BE), and what is stored under it. `None` for an entry
/// that is not a write.
pub fn host_entry(form: &Form) -> Option<Vec<u8>> {
    match form {
        Form::Data { key, value, seal } => Some(write_entry(*key, &stored(*key, *value, seal.as_ref()))),
        _ => None,
    }
}

/// Bytes of a write in the log.
pub fn write_entry(key: u64, stored: &[u8]) -> Vec<u8> {
    [&[0][..], &key.to_be_bytes(), stored].concat()
}

/// Table key and stored bytes of a host's own entry.
pub fn write_of(entry: &[u8]) -> Option<(u64, &[u8])> {
    let (key, stored) = entry.strip_prefix(&[0])?.split_first_chunk()?;
    Some((u64::from_be_bytes(*key), stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal { dek: 3, key: KeyNumber(7), node: 0xABC_1234, epoch: 7, count: 1 };

    fn keys() -> Keys {
        [(3, KeyNumber(7).bytes())].into()
    }

    #[test]
    fn the_envelopes_are_those_of_the_golden_vectors() {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        let nonce = SEAL.nonce();
        assert_eq!(nonce, [0x12, 0x34, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
        let sealed =
            [0x45, 0x9b, 0x9e, 0x7b, 0x1e, 0x07, 0x3f, 0x82, 0x64, 0x1d, 0x25, 0x01, 0x14, 0xe4, 0x44]
                .into_iter()
                .chain([0x27, 0x91, 0xef, 0xae, 0x14, 0x1f])
                .collect::<Vec<u8>>();
        let bytes = [&ENVELOPE[..], &[0, 0, 0, 2], &nonce, &sealed].concat();
        let (opened, _) = open_entry(&[(2, key)].into(), &bytes).expect("the vector opens");
        assert_eq!(opened, b"hello");
        let aad = [&ENVELOPE[..], &[0, 0, 0, 2], &SEALED, b"k"].concat();
        let tag =
            [0xaa, 0x06, 0x37, 0x8b, 0x41, 0xcb, 0xcc, 0x71, 0xf1, 0x64, 0xe6, 0x19, 0x14, 0x54, 0xdc, 0x45];
        let bytes = [&ENVELOPE[..], &[0, 0, 0, 2], &nonce, &sealed[..5], &tag].concat();
        let envelope = Envelope::of(&bytes).expect("an envelope");
        assert_eq!(envelope.open(&[(2, key)].into(), &aad).expect("the vector opens").0, b"hello");
    }

    #[test]
    fn a_value_opens_under_its_key_at_its_place_and_nowhere_else() {
        let bytes = stored(9, 5, Some(&SEAL));
        assert_eq!(open(&keys(), 9, &bytes), Ok((5, Some(SEAL.of_value(9, 5)))));
        assert!(open(&keys(), 8, &bytes).is_err());
        assert!(open(&Keys::new(), 9, &bytes).is_err());
        assert_eq!(open(&keys(), 9, &stored(9, 5, None)), Ok((5, None)));
        assert_eq!(envelope_of(&bytes).and_then(|envelope| envelope.seal(SEAL.node, SEAL.key)), Some(SEAL));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(open(&keys(), 9, &flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_entry_is_what_it_was_before_its_envelope() {
        let form = Form::Data { key: 1, value: 2, seal: Some(SEAL) };
        let entry = host_entry(&form).expect("a write");
        let (opened, used) = open_entry(&keys(), &seal_entry(&SEAL, &entry)).expect("it opens");
        assert_eq!(
            (write_of(&opened), used),
            (Some((1, &*stored(1, 2, Some(&SEAL)))), SEAL.of_entry(&entry))
        );
        assert_ne!(SEAL.of_value(1, 2), used, "one nonce in both envelopes is two uses");
    }
}
