//! The sidecar's bytes: version-2 JSON, indented by two spaces, no trailing newline, map keys sorted as strings.
//!
//! ```text
//! version                         always 2 when written; 1 is read too
//! raft_applied_index              u64
//! storage_envelope_active         bool
//! storage_envelope_cutover_index  u64      absent in version 1
//! raft_envelope_cutover_index     u64
//! active.storage, active.raft     u32      0 = none
//! keys                            null, or decimal id -> record
//!   purpose                       "storage" | "raft"
//!   wrapped                       standard base64 with padding
//!   created                       RFC 3339, UTC, seconds
//!   local_epoch                   u16
//!   raft_index, sha256            ours: the entry that installed the key
//! bootstrap.raft_index, .sha256   ours: the bootstrap entry
//! cutovers.storage, .raft         ours: raft_index, sha256 of the entry behind each switch
//! retired                         ours: decimal id -> tombstone
//!   purpose                       "storage" | "raft"
//!   raft_index, sha256            the entry that installed the key
//!   retired_index, retired_sha256 the entry that retired it
//!   digest                        64 letters of hex, see `Tombstone::digest_of`
//! kek                             ours: generation u32, check (16 letters of hex), raft_index, sha256 of the newest rewrap
//! checksum                        ours: SHA-256 (hex) of the document with 64 zeros in this place
//! ```
//!
//! Our fields are additive: a lenient reader of version 2 ignores them. `cutovers` and what is in it, `retired` and `kek` are left
//! out where there is nothing to say. Reading is strict: an unknown, duplicate or
//! missing field, a non-canonical id or a wrong size is an error, and a document of ours must equal its own
//! re-encoding byte for byte, so that no damage can hide in what a parser forgives.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Active, Cutovers, EntryName, ForeignCutovers, ForeignKey, ForeignSidecar, KekInForce, KeyRecord, Sidecar,
    SidecarContent, Tombstone, WRAPPED_LEN_MAX,
};
use crate::ids::{DekId, LocalEpoch, Purpose, RaftIndex};
use crate::ports::KekCheck;

/// The version that is written.
pub const VERSION: u64 = 2;

const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why bytes are not a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidecarError {
    /// Not JSON, or not of the documented shape (unknown, duplicate or missing field, wrong type).
    #[error("the sidecar is not of the documented shape: {0}")]
    Shape(String),
    /// A version that this build does not read.
    #[error("the sidecar has version {got}; this build reads 1 and 2, so start the build that wrote it")]
    Version {
        /// The version found.
        got: u64,
    },
    /// A key id that is not a canonical decimal `u32`.
    #[error("the sidecar has the key id {got:?}, which is not a canonical decimal number")]
    KeyIdFormat {
        /// The id as found.
        got: String,
    },
    /// Key id 0, which is reserved.
    #[error("the sidecar has an entry for the reserved key id 0")]
    ReservedKeyId,
    /// A key that is both there and retired.
    #[error("the sidecar has key {id} and says that it is retired")]
    RetiredAndKept {
        /// The key.
        id: DekId,
    },
    /// A purpose other than the two.
    #[error("the sidecar gives key {id} the unknown purpose {got:?}")]
    Purpose {
        /// The key.
        id: DekId,
        /// The purpose as found.
        got: String,
    },
    /// An active id without an entry.
    #[error("the sidecar's active {purpose:?} key {id} has no entry")]
    ActiveKeyMissing {
        /// The slot.
        purpose: Purpose,
        /// The id in it.
        id: DekId,
    },
    /// An active id whose entry has the other purpose.
    #[error("the sidecar's active {purpose:?} key {id} has the other purpose")]
    ActivePurposeMismatch {
        /// The slot.
        purpose: Purpose,
        /// The id in it.
        id: DekId,
    },
    /// A value of the wrong size or encoding.
    #[error("the sidecar's field {field} is of the wrong size or encoding")]
    Value {
        /// Which field.
        field: &'static str,
    },
    /// Indices that contradict each other.
    #[error("the sidecar names an entry at index {named} above its own index {own}")]
    IndexOrder {
        /// The index named.
        named: RaftIndex,
        /// `raft_applied_index`.
        own: RaftIndex,
    },
    /// A switch that says something else than the entry that is named behind it.
    #[error("the sidecar's switch of the {0:?} envelope and the entry that it names behind it do not agree")]
    CutoverMismatch(Purpose),
    /// Some of our fields are there and some are not.
    #[error("the sidecar has only some of the fields that this build writes: {missing} is missing")]
    HalfOurs {
        /// The first missing field.
        missing: &'static str,
    },
    /// The checksum does not match the content.
    #[error("the sidecar's checksum does not match its content: the file is damaged")]
    Checksum,
    /// The content is right and the bytes are not those that this build writes.
    #[error("the sidecar is not in canonical form: it was edited by something else")]
    NotCanonical,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    raft_applied_index: u64,
    storage_envelope_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_envelope_cutover_index: Option<u64>,
    raft_envelope_cutover_index: u64,
    active: ActiveIds,
    #[serde(deserialize_with = "present")]
    keys: Option<IdMap<Record>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cutovers: Option<CutoverNames>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired: Option<IdMap<Stone>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek: Option<KekName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActiveIds {
    storage: u32,
    raft: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    raft_index: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CutoverNames {
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raft: Option<Name>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stone {
    purpose: String,
    raft_index: u64,
    sha256: String,
    retired_index: u64,
    retired_sha256: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KekName {
    generation: u32,
    check: String,
    raft_index: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    purpose: String,
    #[serde(deserialize_with = "present")]
    wrapped: Option<String>,
    created: String,
    local_epoch: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    raft_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// `null` or a value, but there: serde's own reading of an `Option` would take a field that is missing for `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// A map by key id that refuses one that stands twice, where serde's own would let the last one win.
#[derive(Serialize)]
#[serde(transparent)]
struct IdMap<V>(BTreeMap<String, V>);

impl<V> IdMap<V> {
    fn of<T>(map: &BTreeMap<DekId, T>, value: impl Fn(&T) -> V) -> IdMap<V> {
        IdMap(map.iter().map(|(id, known)| (id.to_string(), value(known))).collect())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for IdMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<IdMap<V>, D::Error> {
        struct Strict<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Strict<V> {
            type Value = IdMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map by key id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<IdMap<V>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((id, value)) = access.next_entry::<String, V>()? {
                    if map.contains_key(&id) {
                        return Err(serde::de::Error::custom(format!("duplicate key id {id:?}")));
                    }
                    map.insert(id, value);
                }
                Ok(IdMap(map))
            }
        }
        deserializer.deserialize_map(Strict(PhantomData))
    }
}

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
        kek: sidecar.kek.map(|kek| KekName {
            generation: kek.generation,
            check: kek.check.to_string(),
            raft_index: kek.name.raft_index.0,
            sha256: hex_text(kek.name.sha256),
        }),
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

/// Reads a sidecar, strictly.
///
/// # Errors
/// Whatever keeps the bytes from being a sidecar of ours or of the reference system.
pub fn decode(bytes: &[u8]) -> Result<SidecarContent, SidecarError> {
    let document: Document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(error) => return Err(version_fault(bytes).unwrap_or(SidecarError::Shape(error.to_string()))),
    };
    if document.version == 0 || document.version > VERSION {
        return Err(SidecarError::Version { got: document.version });
    }
    if (document.version == 1) == document.storage_envelope_cutover_index.is_some() {
        return Err(SidecarError::Value { field: "storage_envelope_cutover_index" });
    }
    if nothing_is_ours(&document) {
        return foreign(&document).map(SidecarContent::Foreign);
    }
    let sidecar = ours(&document)?;
    let canonical = encode(&sidecar);
    if canonical == bytes {
        return Ok(SidecarContent::Ours(sidecar));
    }
    let tail = canonical.len() - NO_CHECKSUM.len() - "\"\n}".len();
    let expected = &canonical[tail..tail + NO_CHECKSUM.len()];
    if document.checksum.is_some_and(|found| found.as_bytes() == expected) {
        return Err(SidecarError::NotCanonical);
    }
    Err(SidecarError::Checksum)
}

/// A file of a later version has fields that this build does not know: its version is the better complaint.
fn version_fault(bytes: &[u8]) -> Option<SidecarError> {
    #[derive(Deserialize)]
    struct OnlyVersion {
        version: u64,
    }
    let OnlyVersion { version } = serde_json::from_slice(bytes).ok()?;
    (version == 0 || version > VERSION).then_some(SidecarError::Version { got: version })
}

fn nothing_is_ours(document: &Document) -> bool {
    let Document { bootstrap, cutovers, retired, kek, checksum, keys, .. } = document;
    let no_field =
        bootstrap.is_none() && cutovers.is_none() && retired.is_none() && kek.is_none() && checksum.is_none();
    let unnamed = |record: &Record| record.raft_index.is_none() && record.sha256.is_none();
    no_field && keys.iter().flat_map(|keys| keys.0.values()).all(unnamed)
}

fn ours(document: &Document) -> Result<Sidecar, SidecarError> {
    let missing = |missing| SidecarError::HalfOurs { missing };
    let bootstrap = document.bootstrap.as_ref().ok_or(missing("bootstrap"))?;
    document.checksum.as_ref().ok_or(missing("checksum"))?;
    let mut keys = BTreeMap::new();
    for (text, record) in document.keys.iter().flat_map(|keys| &keys.0) {
        let id = key_id(text)?;
        let ForeignKey { purpose, wrapped, created, local_epoch } = foreign_key(id, record)?;
        if humantime::parse_rfc3339(&created).is_err() {
            return Err(SidecarError::Value { field: "created" });
        }
        let raft_index = record.raft_index.ok_or(missing("raft_index"))?;
        let sha256 = record.sha256.as_ref().ok_or(missing("sha256"))?;
        let name = entry_name(raft_index, sha256)?;
        keys.insert(id, KeyRecord { purpose, wrapped, created, local_epoch, name });
    }
    let slot = |id| DekId::new(id).ok_or(SidecarError::Value { field: "active" });
    let active = Active { storage: slot(document.active.storage)?, raft: slot(document.active.raft)? };
    check_active(Purpose::Storage, Some(active.storage), |id| keys.get(&id).map(|key| key.purpose))?;
    check_active(Purpose::Raft, Some(active.raft), |id| keys.get(&id).map(|key| key.purpose))?;
    let sidecar = Sidecar {
        raft_applied_index: RaftIndex(document.raft_applied_index),
        cutovers: cutovers(document)?,
        active,
        bootstrap: bootstrap.read()?,
        retired: tombstones(document, &keys)?,
        kek: document.kek.as_ref().map(kek_in_force).transpose()?,
        keys,
    };
    let own = sidecar.raft_applied_index;
    let beyond = sidecar.named().map(|name| name.raft_index).find(|named| *named > own);
    match beyond {
        Some(named) => Err(SidecarError::IndexOrder { named, own }),
        None => Ok(sidecar),
    }
}

impl Name {
    fn read(&self) -> Result<EntryName, SidecarError> {
        entry_name(self.raft_index, &self.sha256)
    }
}

fn cutovers(document: &Document) -> Result<Cutovers, SidecarError> {
    let read = |name: Option<&Name>| name.map(Name::read).transpose();
    let names = document.cutovers.as_ref();
    let cutovers = Cutovers {
        storage: read(names.and_then(|names| names.storage.as_ref()))?,
        raft: read(names.and_then(|names| names.raft.as_ref()))?,
    };
    let switches = foreign_cutovers(document);
    let storage = (switches.storage_envelope_active, switches.storage_envelope_cutover_index);
    if storage != (cutovers.storage.is_some(), cutovers.index_of(Purpose::Storage)) {
        return Err(SidecarError::CutoverMismatch(Purpose::Storage));
    }
    if switches.raft_envelope_cutover_index != cutovers.index_of(Purpose::Raft) {
        return Err(SidecarError::CutoverMismatch(Purpose::Raft));
    }
    Ok(cutovers)
}

fn tombstones(
    document: &Document,
    keys: &BTreeMap<DekId, KeyRecord>,
) -> Result<BTreeMap<DekId, Tombstone>, SidecarError> {
    let mut retired = BTreeMap::new();
    for (text, stone) in document.retired.iter().flat_map(|retired| &retired.0) {
        let id = key_id(text)?;
        if keys.contains_key(&id) {
            return Err(SidecarError::RetiredAndKept { id });
        }
        let tombstone = Tombstone {
            purpose: purpose_of(id, &stone.purpose)?,
            installed: entry_name(stone.raft_index, &stone.sha256)?,
            retired: entry_name(stone.retired_index, &stone.retired_sha256)?,
            digest: hex_bytes(&stone.digest, "digest")?,
        };
        retired.insert(id, tombstone);
    }
    Ok(retired)
}

fn kek_in_force(kek: &KekName) -> Result<KekInForce, SidecarError> {
    let name = entry_name(kek.raft_index, &kek.sha256)?;
    if kek.generation == 0 {
        // That of the bootstrap, which no rewrap has put in force.
        return Err(SidecarError::Value { field: "generation" });
    }
    Ok(KekInForce { generation: kek.generation, check: KekCheck(hex_bytes(&kek.check, "check")?), name })
}

fn foreign(document: &Document) -> Result<ForeignSidecar, SidecarError> {
    let mut keys = BTreeMap::new();
    for (text, record) in document.keys.iter().flat_map(|keys| &keys.0) {
        let id = key_id(text)?;
        keys.insert(id, foreign_key(id, record)?);
    }
    let active_storage = DekId::new(document.active.storage);
    let active_raft = DekId::new(document.active.raft);
    check_active(Purpose::Storage, active_storage, |id| keys.get(&id).map(|key: &ForeignKey| key.purpose))?;
    check_active(Purpose::Raft, active_raft, |id| keys.get(&id).map(|key: &ForeignKey| key.purpose))?;
    Ok(ForeignSidecar {
        version: document.version,
        raft_applied_index: RaftIndex(document.raft_applied_index),
        cutovers: foreign_cutovers(document),
        active_storage,
        active_raft,
        keys,
    })
}

fn foreign_key(id: DekId, record: &Record) -> Result<ForeignKey, SidecarError> {
    let purpose = purpose_of(id, &record.purpose)?;
    let wrapped = record.wrapped.as_ref().and_then(|text| STANDARD.decode(text).ok());
    let wrapped = wrapped.filter(|wrapped| (1..=WRAPPED_LEN_MAX).contains(&wrapped.len()));
    Ok(ForeignKey {
        purpose,
        wrapped: wrapped.ok_or(SidecarError::Value { field: "wrapped" })?,
        created: record.created.clone(),
        local_epoch: LocalEpoch(record.local_epoch),
    })
}

fn foreign_cutovers(document: &Document) -> ForeignCutovers {
    ForeignCutovers {
        storage_envelope_active: document.storage_envelope_active,
        storage_envelope_cutover_index: RaftIndex(document.storage_envelope_cutover_index.unwrap_or(0)),
        raft_envelope_cutover_index: RaftIndex(document.raft_envelope_cutover_index),
    }
}

fn key_id(text: &str) -> Result<DekId, SidecarError> {
    let id: u32 = match text.parse() {
        Ok(id) => id,
        Err(_) => return Err(SidecarError::KeyIdFormat { got: text.to_owned() }),
    };
    if id.to_string() != text {
        return Err(SidecarError::KeyIdFormat { got: text.to_owned() });
    }
    DekId::new(id).ok_or(SidecarError::ReservedKeyId)
}

fn check_active(
    purpose: Purpose,
    id: Option<DekId>,
    purpose_of: impl Fn(DekId) -> Option<Purpose>,
) -> Result<(), SidecarError> {
    let Some(id) = id else { return Ok(()) };
    match purpose_of(id) {
        None => Err(SidecarError::ActiveKeyMissing { purpose, id }),
        Some(found) if found != purpose => Err(SidecarError::ActivePurposeMismatch { purpose, id }),
        Some(_) => Ok(()),
    }
}

fn entry_name(raft_index: u64, sha256: &str) -> Result<EntryName, SidecarError> {
    Ok(EntryName { raft_index: RaftIndex(raft_index), sha256: hex_bytes(sha256, "sha256")? })
}

fn hex_bytes<const N: usize>(text: &str, field: &'static str) -> Result<[u8; N], SidecarError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| SidecarError::Value { field })?;
    Ok(bytes)
}

fn purpose_of(id: DekId, word: &str) -> Result<Purpose, SidecarError> {
    match word {
        "storage" => Ok(Purpose::Storage),
        "raft" => Ok(Purpose::Raft),
        other => Err(SidecarError::Purpose { id, got: other.to_owned() }),
    }
}

const fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Storage => "storage",
        Purpose::Raft => "raft",
    }
}

#[cfg(test)]
pub(crate) mod tests;
