//! The document as serde sees it: every field of either writer, none more, none twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::ids::DekId;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: u64,
    pub(super) raft_applied_index: u64,
    pub(super) storage_envelope_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_envelope_cutover_index: Option<u64>,
    pub(super) raft_envelope_cutover_index: u64,
    pub(super) active: ActiveIds,
    #[serde(deserialize_with = "present")]
    pub(super) keys: Option<IdMap<Record>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bootstrap: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cutovers: Option<CutoverNames>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retired: Option<IdMap<Stone>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rewraps: Option<Vec<RewrapName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActiveIds {
    pub(super) storage: u32,
    pub(super) raft: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    pub(super) raft_index: u64,
    pub(super) sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CutoverNames {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raft: Option<Name>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stone {
    pub(super) purpose: String,
    pub(super) raft_index: u64,
    pub(super) sha256: String,
    pub(super) retired_index: u64,
    pub(super) retired_sha256: String,
    pub(super) digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RewrapName {
    pub(super) kek: String,
    pub(super) raft_index: u64,
    pub(super) sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) purpose: String,
    #[serde(deserialize_with = "present")]
    pub(super) wrapped: Option<String>,
    pub(super) created: String,
    pub(super) local_epoch: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raft_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

/// `null` or a value, but there: serde's own reading of an `Option` would take a field that is missing for `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// A map by key id that refuses one that stands twice, where serde's own would let the last one win.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct IdMap<V>(pub(super) BTreeMap<String, V>);

impl<V> IdMap<V> {
    pub(super) fn of<T>(map: &BTreeMap<DekId, T>, value: impl Fn(&T) -> V) -> IdMap<V> {
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
