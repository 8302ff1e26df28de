//! The sidecar as the reference reads and writes it: version 1 as merged and 2 later, without a checksum, through a parser
//! that forgives.
//!
//! Forgiven are unknown fields, missing fields (they are zero), `null` (it changes nothing), the case of field names,
//! duplicates (the last one wins) and bytes that are not UTF-8. Of two fields whose names differ in case alone the
//! last in sorting order wins, where the reference takes the later one; nothing writes such a file.

use std::collections::BTreeMap;

use applier::Purpose;
use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::subject::{SidecarKey, SidecarView};

/// The one version that is read and written as merged.
pub(in crate::subject) const AS_MERGED: u64 = 1;
/// The version that is written later, when both are read.
pub(in crate::subject) const AS_HEAD: u64 = 2;

/// Base64 with padding whose unused last bits may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why bytes are not a sidecar, or a sidecar may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::subject) enum SidecarFault {
    /// Not JSON, or a value of another type.
    #[error("json")]
    Json,
    /// Another version, or none.
    #[error("version")]
    Version,
    /// A key id that is not a decimal `u32`.
    #[error("key id format")]
    KeyIdFormat,
    /// Key id 0.
    #[error("reserved key id")]
    ReservedKeyId,
    /// An unknown purpose.
    #[error("purpose")]
    Purpose,
    /// An active id without an entry.
    #[error("active key missing")]
    ActiveKeyMissing,
    /// An active id whose entry has the other purpose.
    #[error("active purpose mismatch")]
    ActivePurposeMismatch,
}

/// The content of a sidecar. Keys stand under their text, since "7" and "007" may both be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::subject) struct Sidecar {
    version: u64,
    pub(in crate::subject) raft_applied_index: u64,
    pub(in crate::subject) storage_envelope_active: bool,
    /// Written from version 2 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::subject) storage_envelope_cutover_index: Option<u64>,
    pub(in crate::subject) raft_envelope_cutover_index: u64,
    active: Active,
    #[serde(serialize_with = "null_if_empty")]
    keys: BTreeMap<String, Record>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Active {
    storage: u32,
    raft: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Record {
    purpose: String,
    #[serde(serialize_with = "base64_text")]
    wrapped: Option<Vec<u8>>,
    created: String,
    local_epoch: u16,
}

fn null_if_empty<S: Serializer>(keys: &BTreeMap<String, Record>, serializer: S) -> Result<S::Ok, S::Error> {
    (!keys.is_empty()).then_some(keys).serialize(serializer)
}

fn base64_text<S: Serializer>(wrapped: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    wrapped.as_ref().map(|bytes| BASE64.encode(bytes)).serialize(serializer)
}

impl Sidecar {
    /// Reads a sidecar of a version up to `newest`.
    pub(in crate::subject) fn parse(bytes: &[u8], newest: u64) -> Result<Sidecar, SidecarFault> {
        let text = String::from_utf8_lossy(bytes);
        let document: Value = serde_json::from_str(&text).map_err(|_| SidecarFault::Json)?;
        let mut sidecar = Sidecar::default();
        for (name, value) in fields(&document)? {
            match fold(name).as_str() {
                "version" => number(&mut sidecar.version, value)?,
                "raft_applied_index" => number(&mut sidecar.raft_applied_index, value)?,
                "storage_envelope_active" => flag(&mut sidecar.storage_envelope_active, value)?,
                "storage_envelope_cutover_index" if newest >= AS_HEAD => {
                    number(sidecar.storage_envelope_cutover_index.get_or_insert_default(), value)?;
                }
                "raft_envelope_cutover_index" => number(&mut sidecar.raft_envelope_cutover_index, value)?,
                "active" => sidecar.active = active(value)?,
                "keys" => {
                    let record = |(id, value): (&String, &Value)| Ok((id.clone(), record(value)?));
                    sidecar.keys = fields(value)?.map(record).collect::<Result<_, SidecarFault>>()?;
                }
                _ => {}
            }
        }
        if !(AS_MERGED..=newest).contains(&sidecar.version) {
            return Err(SidecarFault::Version);
        }
        sidecar.validate()?;
        Ok(sidecar)
    }

    /// The bytes to write, as this version. Nothing was touched where this refuses.
    pub(in crate::subject) fn encode(&self, version: u64) -> Result<Vec<u8>, SidecarFault> {
        self.validate()?;
        let storage_index = self.storage_envelope_cutover_index;
        let storage_envelope_cutover_index = (version >= AS_HEAD).then(|| storage_index.unwrap_or_default());
        let current = Sidecar { version, storage_envelope_cutover_index, ..self.clone() };
        Ok(serde_json::to_vec_pretty(&current).expect("strings and numbers always serialise"))
    }

    /// Active storage and raft id; 0 = none.
    pub(in crate::subject) fn active(&self) -> (u32, u32) {
        (self.active.storage, self.active.raft)
    }

    /// The wrapped bytes under an id, where there is an entry.
    pub(in crate::subject) fn wrapped(&self, id: u32) -> Option<&[u8]> {
        let record = self.keys.get(&id.to_string())?;
        Some(record.wrapped.as_deref().unwrap_or_default())
    }

    /// Makes a key the active one of its purpose. Whatever stood under its id is overwritten, its epoch included.
    pub(in crate::subject) fn install(&mut self, id: u32, purpose: Purpose, wrapped: &[u8], created: &str) {
        let (slot, word) = match purpose {
            Purpose::Storage => (&mut self.active.storage, "storage"),
            Purpose::Raft => (&mut self.active.raft, "raft"),
        };
        *slot = id;
        let wrapped = Some(wrapped.to_vec());
        let (purpose, created) = (word.to_owned(), created.to_owned());
        self.keys.insert(id.to_string(), Record { purpose, wrapped, created, local_epoch: 0 });
    }

    /// The epoch under an id, 0 where there is no entry.
    pub(in crate::subject) fn epoch(&self, id: u32) -> u16 {
        self.keys.get(&id.to_string()).map_or(0, |record| record.local_epoch)
    }

    /// Sets the epoch under an id that has an entry.
    pub(in crate::subject) fn set_epoch(&mut self, id: u32, epoch: u16) {
        if let Some(record) = self.keys.get_mut(&id.to_string()) {
            record.local_epoch = epoch;
        }
    }

    /// Every key's id and wrapped bytes.
    pub(in crate::subject) fn wrapped_keys<'a>(&'a self) -> impl Iterator<Item = (u32, &'a [u8])> {
        let key = |(text, record): (&String, &'a Record)| {
            Some((key_id(text).ok()?, record.wrapped.as_deref().unwrap_or_default()))
        };
        self.keys.iter().filter_map(key)
    }

    /// Notes the entry at `index`: the index never goes down.
    pub(in crate::subject) fn advance(&mut self, index: u64) {
        self.raft_applied_index = self.raft_applied_index.max(index);
    }

    /// What an observer sees of it.
    pub(in crate::subject) fn view(&self) -> SidecarView {
        let mut keys = BTreeMap::new();
        for (text, record) in &self.keys {
            let (Ok(id), Ok(purpose)) = (key_id(text), purpose(record)) else { continue };
            // An active id is looked up by its canonical text, so that entry counts where another one aliases it.
            if text.starts_with('0') && self.keys.contains_key(&id.to_string()) {
                continue;
            }
            let (wrapped, created) = (record.wrapped.clone().unwrap_or_default(), record.created.clone());
            keys.insert(id, SidecarKey { purpose, wrapped, created, local_epoch: record.local_epoch });
        }
        let storage_cutover =
            self.storage_envelope_active.then(|| self.storage_envelope_cutover_index.unwrap_or_default());
        let raft_cutover = Some(self.raft_envelope_cutover_index).filter(|index| *index > 0);
        SidecarView { active: self.active(), keys, storage_cutover, raft_cutover, ..SidecarView::default() }
    }

    fn validate(&self) -> Result<(), SidecarFault> {
        for (text, record) in &self.keys {
            key_id(text)?;
            purpose(record)?;
        }
        for (id, slot) in [(self.active.storage, Purpose::Storage), (self.active.raft, Purpose::Raft)] {
            if id == 0 {
                continue;
            }
            let record = self.keys.get(&id.to_string()).ok_or(SidecarFault::ActiveKeyMissing)?;
            if purpose(record)? != slot {
                return Err(SidecarFault::ActivePurposeMismatch);
            }
        }
        Ok(())
    }
}

fn key_id(text: &str) -> Result<u32, SidecarFault> {
    // The parser of the standard library takes a sign, too.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SidecarFault::KeyIdFormat);
    }
    match text.parse() {
        Err(_) => Err(SidecarFault::KeyIdFormat),
        Ok(0) => Err(SidecarFault::ReservedKeyId),
        Ok(id) => Ok(id),
    }
}

fn purpose(record: &Record) -> Result<Purpose, SidecarFault> {
    match record.purpose.as_str() {
        "storage" => Ok(Purpose::Storage),
        "raft" => Ok(Purpose::Raft),
        _ => Err(SidecarFault::Purpose),
    }
}

fn active(value: &Value) -> Result<Active, SidecarFault> {
    let mut active = Active::default();
    for (name, value) in fields(value)? {
        match fold(name).as_str() {
            "storage" => number(&mut active.storage, value)?,
            "raft" => number(&mut active.raft, value)?,
            _ => {}
        }
    }
    Ok(active)
}

fn record(value: &Value) -> Result<Record, SidecarFault> {
    let mut record = Record::default();
    for (name, value) in fields(value)? {
        match fold(name).as_str() {
            "purpose" => text(&mut record.purpose, value)?,
            "wrapped" => {
                let mut encoded = String::new();
                text(&mut encoded, value)?;
                // Line breaks inside of base64 are skipped.
                encoded.retain(|letter| letter != '\n' && letter != '\r');
                let bytes = BASE64.decode(encoded).map_err(|_| SidecarFault::Json)?;
                record.wrapped = (!value.is_null()).then_some(bytes);
            }
            "created" => text(&mut record.created, value)?,
            "local_epoch" => number(&mut record.local_epoch, value)?,
            _ => {}
        }
    }
    Ok(record)
}

/// The name as it is compared: two letters outside of ASCII have an ASCII letter as their lower case.
fn fold(name: &str) -> String {
    name.chars()
        .map(|letter| match letter {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            _ => letter.to_ascii_lowercase(),
        })
        .collect()
}

fn fields(value: &Value) -> Result<impl Iterator<Item = (&String, &Value)>, SidecarFault> {
    let object: Option<&Map<String, Value>> = match value {
        Value::Null => None,
        Value::Object(object) => Some(object),
        _ => return Err(SidecarFault::Json),
    };
    Ok(object.into_iter().flatten())
}

fn number<T: TryFrom<u64>>(slot: &mut T, value: &Value) -> Result<(), SidecarFault> {
    if !value.is_null() {
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        *slot = number.ok_or(SidecarFault::Json)?;
    }
    Ok(())
}

fn flag(slot: &mut bool, value: &Value) -> Result<(), SidecarFault> {
    if !value.is_null() {
        *slot = value.as_bool().ok_or(SidecarFault::Json)?;
    }
    Ok(())
}

fn text(slot: &mut String, value: &Value) -> Result<(), SidecarFault> {
    if !value.is_null() {
        value.as_str().ok_or(SidecarFault::Json)?.clone_into(slot);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecar_is_a_version_1_document_with_keys_sorted_as_text() {
        let empty = "{\n  \"version\": 1,\n  \"raft_applied_index\": 0,\n  \"storage_envelope_active\": false,\n  \
                     \"raft_envelope_cutover_index\": 0,\n  \"active\": {\n    \"storage\": 0,\n    \"raft\": 0\n  },\n  \
                     \"keys\": null\n}";
        let mut sidecar = Sidecar::default();
        assert_eq!(sidecar.encode(AS_MERGED), Ok(empty.as_bytes().to_vec()));
        for id in [1, 10, 2] {
            sidecar.install(id, Purpose::Raft, &[0xa1, 0xb2], "1970-01-01T00:00:00Z");
        }
        let bytes = sidecar.encode(AS_MERGED).expect("valid");
        let text = String::from_utf8(bytes.clone()).expect("JSON");
        let key = |id: u32| {
            let indented =
                format!("    \"{id}\": {{\n      \"purpose\": \"raft\",\n      \"wrapped\": \"obI=\",\n");
            text.find(&indented).unwrap_or_else(|| panic!("{indented} in {text}"))
        };
        assert!(key(1) < key(10) && key(10) < key(2));
        assert_eq!(Sidecar::parse(&bytes, AS_MERGED).and_then(|read| read.encode(AS_MERGED)), Ok(bytes));
    }

    #[test]
    fn the_parser_forgives_what_its_json_library_forgives() {
        let forgiven =
            br#"{"Version": 9, "version": 1, "news": [], "ACTIVE": {"Storage": 7, "raft": null}, "keys": {
            "007": {"purpose": "raft"},
            "7": {"purpose": "raft"},
            "7": {"PURPOSE": "storage", "wrapped": "o\nQ==", "created": "?"}}}"#;
        let not_text = forgiven.map(|byte| if byte == b'?' { 0xff } else { byte });
        let view = Sidecar::parse(&not_text, AS_MERGED).expect("it parses").view();
        assert_eq!(view.active, (7, 0));
        let key = &view.keys[&7];
        assert_eq!((key.purpose, &*key.wrapped, key.local_epoch), (Purpose::Storage, &[0xa1][..], 0));
    }

    #[test]
    fn the_parser_refuses_what_the_reference_validates() {
        let check = |document: &str, fault: SidecarFault| {
            assert_eq!(Sidecar::parse(document.as_bytes(), AS_MERGED), Err(fault), "{document}");
        };
        let keys = |id: &str, purpose: &str, active: &str| {
            format!(r#"{{"version":1,"active":{{{active}}},"keys":{{"{id}":{{"purpose":"{purpose}"}}}}}}"#)
        };
        check("", SidecarFault::Json);
        check(r#"{"version":1} x"#, SidecarFault::Json);
        check(r#"{"version":1,"active":{"raft":4294967296}}"#, SidecarFault::Json);
        check("{}", SidecarFault::Version);
        check(r#"{"version":2}"#, SidecarFault::Version);
        check(&keys("+7", "raft", ""), SidecarFault::KeyIdFormat);
        check(&keys("4294967296", "raft", ""), SidecarFault::KeyIdFormat);
        check(&keys("00", "raft", ""), SidecarFault::ReservedKeyId);
        check(&keys("7", "", ""), SidecarFault::Purpose);
        check(&keys("007", "raft", r#""raft":7"#), SidecarFault::ActiveKeyMissing);
        check(&keys("7", "raft", r#""storage":7"#), SidecarFault::ActivePurposeMismatch);
    }
}
