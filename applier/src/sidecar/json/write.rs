//! From a sidecar to its bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::document::{ActiveIds, CutoverNames, Document, IdMap, Name, Record, RewrapName, Stone};
use super::{NO_CHECKSUM, VERSION};
use crate::ids::Purpose;
use crate::sidecar::{Cutovers, EntryName, KeyRecord, RewrapRecord, Sidecar, Tombstone};

/// The canonical bytes of a sidecar.
pub fn encode(sidecar: &Sidecar) -> Vec<u8> {
    let record = |key: &KeyRecord| Record {
        purpose: purpose_word(key.purpose).to_owned(),
        wrapped: Some(STANDARD.encode(&key.wrapped)),
        created: key.created.clone(),
        local_epoch: key.local_epoch.0,
        raft_index: Some(key.name.raft_index.0),
        sha256: Some(hex_text(key.name.sha256)),
    };
    let stone = |tombstone: &Tombstone| Stone {
        purpose: purpose_word(tombstone.purpose).to_owned(),
        raft_index: tombstone.installed.raft_index.0,
        sha256: hex_text(tombstone.installed.sha256),
        retired_index: tombstone.retired.raft_index.0,
        retired_sha256: hex_text(tombstone.retired.sha256),
        digest: hex_text(tombstone.digest),
    };
    let rewrap = |rewrap: &RewrapRecord| RewrapName {
        kek: rewrap.kek.to_string(),
        raft_index: rewrap.name.raft_index.0,
        sha256: hex_text(rewrap.name.sha256),
    };
    let cutovers = sidecar.cutovers;
    let document = Document {
        version: VERSION,
        raft_applied_index: sidecar.raft_applied_index.0,
        storage_envelope_active: cutovers.storage.is_some(),
        storage_envelope_cutover_index: Some(cutovers.index_of(Purpose::Storage).0),
        raft_envelope_cutover_index: cutovers.index_of(Purpose::Raft).0,
        active: ActiveIds { storage: sidecar.active.storage.get(), raft: sidecar.active.raft.get() },
        keys: Some(IdMap::of(&sidecar.keys, record)),
        bootstrap: Some(Name::of(sidecar.bootstrap)),
        cutovers: (cutovers != Cutovers::default()).then(|| CutoverNames {
            storage: cutovers.storage.map(Name::of),
            raft: cutovers.raft.map(Name::of),
        }),
        retired: (!sidecar.retired.is_empty()).then(|| IdMap::of(&sidecar.retired, stone)),
        rewraps: (!sidecar.rewraps.is_empty()).then(|| sidecar.rewraps.iter().map(rewrap).collect()),
        checksum: Some(NO_CHECKSUM.to_owned()),
    };
    let mut bytes = serde_json::to_vec_pretty(&document).expect("strings and numbers always serialise");
    let checksum = hex_text(Sha256::digest(&bytes).into());
    let at = bytes.len() - "\"\n}".len() - NO_CHECKSUM.len();
    assert_eq!(&bytes[at..at + NO_CHECKSUM.len()], NO_CHECKSUM.as_bytes(), "the checksum is the last field");
    bytes[at..at + NO_CHECKSUM.len()].copy_from_slice(checksum.as_bytes());
    bytes
}

impl Name {
    fn of(name: EntryName) -> Name {
        Name { raft_index: name.raft_index.0, sha256: hex_text(name.sha256) }
    }
}

/// A SHA-256 in lower-case hex. `hex::encode` goes letter by letter, and a sidecar is full of these.
fn hex_text(digest: [u8; 32]) -> String {
    let mut text = [0; 64];
    hex::encode_to_slice(digest, &mut text).expect("two letters a byte");
    String::from_utf8(text.to_vec()).expect("hex is ASCII")
}

const fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Storage => "storage",
        Purpose::Raft => "raft",
    }
}
