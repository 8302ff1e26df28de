//! From bytes to a sidecar, or to the one reason why they are none.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::document::{Document, Name, Record, RewrapName};
use super::{NO_CHECKSUM, SidecarError, VERSION, encode};
use crate::ids::{DekId, LocalEpoch, Purpose, RaftIndex};
use crate::ports::KekCheck;
use crate::sidecar::{
    Active, Cutovers, EntryName, ForeignCutovers, ForeignKey, ForeignSidecar, KeyRecord, RewrapRecord,
    Sidecar, SidecarContent, Tombstone, WRAPPED_LEN_MAX,
};

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
    let Document { bootstrap, cutovers, retired, rewraps, checksum, keys, .. } = document;
    let no_field = bootstrap.is_none()
        && cutovers.is_none()
        && retired.is_none()
        && rewraps.is_none()
        && checksum.is_none();
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
        rewraps: document.rewraps.iter().flatten().map(rewrap).collect::<Result<_, _>>()?,
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

fn rewrap(rewrap: &RewrapName) -> Result<RewrapRecord, SidecarError> {
    let name = entry_name(rewrap.raft_index, &rewrap.sha256)?;
    Ok(RewrapRecord { kek: KekCheck(hex_bytes(&rewrap.kek, "kek")?), name })
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
