//! The bytes that the reference system's own code produced, read and written by ours.

use std::io;
use std::sync::Arc;

use applier::envelope::storage::ValueHeader;
use applier::envelope::{raft, storage};
use applier::kek::LocalKek;
use applier::keystore::Keystore;
use applier::ports::{Entropy, Kek};
use applier::registry::{RowKey, WriterRow};
use applier::secret::Dek;
use applier::wire::{
    Bootstrap, Entry, OP_BOOTSTRAP, OP_REGISTRATION, OP_ROTATION, Rotation, RotationKind, Row,
};
use applier::{Cipher, DekId, LocalEpoch, NodeId, Nonce, NonceFactory, Purpose, Sealer};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden.json")).expect("the vectors are JSON")
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} is a string in {object}"))
}

fn bytes(object: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(object, field)).unwrap_or_else(|_| panic!("{field} is hex in {object}"))
}

/// A number: a JSON number as such, a string in hex.
fn number<T: TryFrom<u64>>(object: &Value, field: &str) -> T {
    let number = match &object[field] {
        Value::String(digits) => u64::from_str_radix(digits, 16).ok(),
        value => value.as_u64(),
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .unwrap_or_else(|| panic!("{field} is no number of its width in {object}"))
}

fn row(object: &Value) -> Row {
    Row {
        dek_id: number(object, "dek_id"),
        full_node_id: number(object, "full_node_id"),
        local_epoch: number(object, "local_epoch"),
    }
}

fn rotation(vector: &Value, subtag: RotationKind) -> Entry {
    let purpose = match text(vector, "purpose") {
        "storage" => Purpose::Storage,
        "raft" => Purpose::Raft,
        other => panic!("no purpose {other}"),
    };
    Entry::Rotation(Rotation {
        subtag,
        dek_id: number(vector, "dek_id"),
        purpose,
        wrapped: bytes(vector, "wrapped"),
        proposer: row(&vector["row"]),
    })
}

/// The entry of a vector and the opcode that stands before its body.
fn entry(vector: &Value) -> (u8, Entry) {
    match text(vector, "kind") {
        "registration" => (OP_REGISTRATION, Entry::Registration(row(vector))),
        "bootstrap" => {
            let entry = Bootstrap {
                storage_id: number(vector, "storage_id"),
                wrapped_storage: bytes(vector, "wrapped_storage"),
                raft_id: number(vector, "raft_id"),
                wrapped_raft: bytes(vector, "wrapped_raft"),
                batch: vector["batch"].as_array().expect("rows").iter().map(row).collect(),
            };
            (OP_BOOTSTRAP, Entry::Bootstrap(entry))
        }
        "rotate-dek" => (OP_ROTATION, rotation(vector, RotationKind::RotateDek)),
        "enable-storage-envelope" => (OP_ROTATION, rotation(vector, RotationKind::EnableStorageEnvelope)),
        "enable-raft-envelope" => (OP_ROTATION, rotation(vector, RotationKind::EnableRaftEnvelope)),
        other => panic!("no entry {other}"),
    }
}

#[test]
fn entries_encode_to_the_bytes_of_the_reference_and_decode_from_them() {
    let golden = golden();
    let vectors = golden["wire"].as_array().expect("wire vectors");
    assert_eq!(vectors.len(), 5);
    for vector in vectors {
        let (opcode, entry) = entry(vector);
        let payload = [vec![opcode], bytes(vector, "bytes")].concat();
        assert_eq!(hex::encode(entry.encode()), hex::encode(&payload));
        assert_eq!(Entry::decode(&payload), Ok(entry));
    }
}

#[test]
fn rows_encode_to_the_bytes_of_the_reference_and_decode_from_them() {
    let vectors = &golden()["registry"];
    let vector = &vectors["key"];
    let key = RowKey { dek_id: number(vector, "dek_id"), node16: number(vector, "node16") };
    assert_eq!(hex::encode(key.encode()), text(vector, "bytes"));
    assert_eq!(RowKey::decode(&bytes(vector, "bytes")), Ok(key));
    let vector = &vectors["value"];
    let row = WriterRow {
        full_node_id: number(vector, "full_node_id"),
        first_seen: number(vector, "first_seen"),
        last_seen: number(vector, "last_seen"),
    };
    assert_eq!(hex::encode(row.encode()), text(vector, "bytes"));
    assert_eq!(WriterRow::decode(&bytes(vector, "bytes")), Ok(row));
}

/// Hands out these bytes and no others.
struct Fixed(Vec<u8>);

impl Entropy for Fixed {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&self.0);
        Ok(())
    }
}

fn key(object: &Value, field: &str) -> [u8; 32] {
    bytes(object, field).try_into().expect("a key has 32 bytes")
}

#[test]
fn a_key_wraps_to_the_blob_of_the_reference_and_opens_from_it() {
    let vector = &golden()["kek"];
    let kek = LocalKek::new(key(vector, "kek"));
    let dek = Dek::new(key(vector, "dek"));
    let blob = kek.wrap(&dek, &Fixed(bytes(vector, "nonce"))).expect("this entropy does not fail");
    assert_eq!(hex::encode(blob), text(vector, "blob"));
    assert_eq!(kek.unwrap(&bytes(vector, "blob")).expect("it opens"), dek);
}

fn nonce(object: &Value, field: &str) -> Nonce {
    Nonce::from_bytes(bytes(object, field).try_into().expect("a nonce has 12 bytes"))
}

#[test]
fn the_first_nonce_is_that_of_the_reference() {
    let vector = &golden()["nonce"];
    let (node16, epoch) = (number(vector, "node16"), LocalEpoch(number(vector, "epoch")));
    let first = NonceFactory::new(node16, epoch).next().expect("none was issued yet");
    assert_eq!(hex::encode(first.as_bytes()), text(vector, "first"));
    let found = nonce(vector, "first");
    assert_eq!((found.node16(), found.epoch(), found.count()), (node16, epoch, 1));
}

#[test]
fn raft_ids_are_the_nodes_that_they_are_to_the_reference() {
    let golden = golden();
    let vectors = golden["node_id_fnv1a64"].as_object().expect("ids");
    assert_eq!(vectors.len(), 3);
    for (raft_id, node) in vectors {
        assert_eq!(NodeId::of_raft_id(raft_id).map(|node| node.to_string()).as_deref(), node.as_str());
    }
}

/// The key of the envelopes, and a cipher that has it.
fn cipher(vectors: &Value) -> (DekId, Cipher) {
    let id = DekId::new(number(vectors, "key_id")).expect("not 0");
    let keystore = Keystore::new();
    keystore.set(id, Dek::new(key(vectors, "dek"))).expect("the keystore was empty");
    (id, Cipher::new(Arc::new(keystore)))
}

/// A sealer whose first nonce is that of the envelopes.
fn sealer(vectors: &Value, purpose: Purpose) -> Sealer {
    let (id, cipher) = cipher(vectors);
    let first = nonce(vectors, "nonce");
    let nonces = NonceFactory::starting_after(first.node16(), first.epoch(), first.count() - 1);
    Sealer::with_nonces(purpose, id, nonces, cipher.keystore()).expect("the key is loaded")
}

#[test]
fn a_log_entry_is_sealed_to_the_bytes_of_the_reference_and_opens_from_them() {
    let vectors = &golden()["envelopes"];
    let (vector, plaintext) = (&vectors["raft"], text(vectors, "plaintext_utf8").as_bytes());
    let (id, cipher) = cipher(vectors);
    assert_eq!(hex::encode(raft::aad(id)), text(vector, "aad"));
    let sealed = sealer(vectors, Purpose::Raft).seal_entry(plaintext).expect("a nonce is left");
    assert_eq!(hex::encode(sealed), text(vector, "bytes"));
    let sealed = raft::seal(&cipher, id, &nonce(vectors, "nonce"), plaintext).expect("the key is loaded");
    assert_eq!(hex::encode(sealed), text(vector, "bytes"));
    assert_eq!(raft::open(&cipher, &bytes(vector, "bytes")).as_deref(), Ok(plaintext));
}

#[test]
fn a_value_is_sealed_to_the_bytes_of_the_reference_and_read_from_them() {
    let vectors = &golden()["envelopes"];
    let (vector, plaintext) = (&vectors["storage"], text(vectors, "plaintext_utf8").as_bytes());
    let (id, cipher) = cipher(vectors);
    let table_key = text(vector, "pebble_key_utf8").as_bytes();
    let header = ValueHeader::encrypted(0);
    assert_eq!(hex::encode(header.encode()), text(vector, "value_header"));
    let sealed =
        sealer(vectors, Purpose::Storage).seal_value(0, table_key, plaintext).expect("a nonce is left");
    assert_eq!(hex::encode(sealed), text(vector, "bytes"));
    let sealed = storage::seal(&cipher, id, &nonce(vectors, "nonce"), 0, table_key, plaintext);
    assert_eq!(hex::encode(sealed.expect("the key is loaded")), text(vector, "bytes"));
    let stored = [bytes(vector, "value_header"), bytes(vector, "bytes")].concat();
    let (found, value) = storage::read(&cipher, table_key, &stored).expect("it is the reference's own");
    assert_eq!((found, &value[..]), (header, plaintext));
}
