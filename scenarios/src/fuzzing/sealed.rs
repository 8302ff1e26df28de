//! Decoders of sealed bytes, each under a key that is fixed. No fuzzer guesses a tag, so beside what it brings, its bytes are
//! also sealed, and what came of that is changed in one place: then it must not open.

use std::io;
use std::sync::Arc;

use applier::envelope::storage::{self, ValueHeader, ValueKind};
use applier::envelope::{FLAG_NONE, VERSION, raft};
use applier::kek::{BLOB_LEN, LocalKek, NONCE_LEN};
use applier::keystore::Keystore;
use applier::ports::{BlobFault, Entropy, Kek, UnwrapError};
use applier::secret::Dek;
use applier::{Cipher, DekId, Envelope, Nonce};

use super::made::Bytes;

/// The KEK of `applier/tests/golden.json`, so that its blob opens.
const KEK: [u8; 32] = [0xff; 32];

/// Hands out one nonce.
struct Fixed([u8; NONCE_LEN]);

impl Entropy for Fixed {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&self.0);
        Ok(())
    }
}

fn wrap(kek: &LocalKek, dek: &Dek, nonce: [u8; NONCE_LEN]) -> [u8; BLOB_LEN] {
    kek.wrap(dek, &Fixed(nonce)).expect("a fixed nonce never fails")
}

/// Wrapped keys, canonical: nonce and key give the blob.
pub(super) fn kek(data: &[u8]) {
    let kek = LocalKek::new(KEK);
    match kek.unwrap(data) {
        Ok(dek) => {
            let nonce = data.first_chunk().copied().expect("a blob begins with its nonce");
            assert_eq!(wrap(&kek, &dek, nonce), data, "another blob opens to the same key under its nonce");
        }
        Err(UnwrapError::Blob(BlobFault::Length(len))) => {
            assert!(len == data.len() && len != BLOB_LEN, "{len} of {} bytes", data.len());
        }
        Err(UnwrapError::Blob(BlobFault::Integrity)) => assert_eq!(data.len(), BLOB_LEN),
        Err(other) => panic!("a KEK in memory is always there: {other:?}"),
    }
    let mut bytes = Bytes(data);
    let (nonce, key) = (bytes.array(), bytes.array());
    let blob = wrap(&kek, &Dek::new(key), nonce);
    let opened = kek.unwrap(&blob).unwrap_or_else(|error| panic!("{blob:02x?} does not open: {error:?}"));
    assert!(opened == Dek::new(key), "it opens to another key");
    let changed = changed(&mut bytes, &blob);
    assert!(kek.unwrap(&changed).is_err(), "{changed:02x?} opens, and is not what was sealed");
}

/// The bytes with one of them made another, or one less, or one more.
fn changed(bytes: &mut Bytes<'_>, sealed: &[u8]) -> Vec<u8> {
    let mut changed = sealed.to_vec();
    let (how, at, mask) = (bytes.below(4), usize::from(bytes.u16()) % sealed.len(), bytes.u8().max(1));
    match how {
        0 => drop(changed.remove(at)),
        1 => changed.push(mask),
        _ => changed[at] ^= mask,
    }
    changed
}

/// The keys of `applier/tests/golden.json`, and one more, so that a changed id may name a key that is there.
fn cipher() -> Cipher {
    let mut key = [0; 32];
    key.iter_mut().zip(0..).for_each(|(byte, number)| *byte = number);
    let keystore = Keystore::new();
    for (id, key) in [(2, key), (3, [0x33; 32])] {
        keystore.set(id_of(id), Dek::new(key)).expect("each key is new");
    }
    Cipher::new(Arc::new(keystore))
}

fn id_of(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

/// Envelopes, headers of stored values, and what opens. All three are canonical: every byte is checked or authenticated.
pub(super) fn envelope(data: &[u8]) {
    if let Ok(Envelope { key_id, nonce, ciphertext, tag }) = Envelope::decode(data) {
        let header = [&[VERSION, FLAG_NONE][..], &key_id.get().to_be_bytes(), nonce.as_bytes()].concat();
        assert_eq!([&header, ciphertext, tag].concat(), data, "its parts are not the whole of it");
    }
    if let Ok((header, body)) = ValueHeader::split(data) {
        assert_eq!([&header.encode()[..], body].concat(), data, "{header:?}");
    }
    let cipher = cipher();
    if let Ok(payload) = raft::open(&cipher, data) {
        let Envelope { key_id, nonce, .. } = Envelope::decode(data).expect("it has just opened");
        assert_eq!(raft::seal(&cipher, key_id, &nonce, &payload).as_deref(), Ok(data));
    }
    let golden = storage::read(&cipher, b"k", data);
    if let Ok((ValueHeader { kind: ValueKind::Encrypted, expire_at }, value)) = golden {
        let body = &data[ValueHeader::LEN..];
        let Envelope { key_id, nonce, .. } = Envelope::decode(body).expect("it has just opened");
        assert_eq!(storage::seal(&cipher, key_id, &nonce, expire_at, b"k", &value).as_deref(), Ok(body));
    }
    sealed(&cipher, data);
}

/// What is sealed opens in its place, as what it is, unchanged; and in no other way.
fn sealed(cipher: &Cipher, data: &[u8]) {
    let mut bytes = Bytes(data);
    let id = id_of(2 + u32::from(bytes.below(2)));
    let nonce = Nonce::from_bytes(bytes.array());
    let (expire_at, table_key, value) = (bytes.u64(), bytes.some(), bytes.some());
    let header = ValueHeader::encrypted(expire_at);
    let body = storage::seal(cipher, id, &nonce, expire_at, &table_key, &value).expect("the key is loaded");
    let stored = [&header.encode()[..], &body].concat();
    let read = storage::read(cipher, &table_key, &stored);
    assert_eq!(read, Ok((header, (&value).into())), "a value does not survive its envelope");
    let entry = raft::seal(cipher, id, &nonce, &value).expect("the key is loaded");
    assert_eq!(
        raft::open(cipher, &entry).as_deref(),
        Ok(&value[..]),
        "an entry does not survive its envelope"
    );
    assert!(raft::open(cipher, &body).is_err(), "a value passes for an entry");
    assert!(storage::open(cipher, expire_at, &table_key, &entry).is_err(), "an entry passes for a value");
    let elsewhere = [&table_key[..], &[0]].concat();
    assert!(storage::read(cipher, &elsewhere, &stored).is_err(), "a value opens where it does not belong");
    let changed_entry = changed(&mut bytes, &entry);
    assert!(raft::open(cipher, &changed_entry).is_err(), "{changed_entry:02x?} opens");
    // Without the change of a length: a clear value may be as short as it likes, and this one may have become one.
    let mut changed = stored.clone();
    changed[usize::from(bytes.u16()) % stored.len()] ^= bytes.u8().max(1);
    assert!(storage::read(cipher, &table_key, &changed).is_err(), "{changed:02x?} reads");
}
