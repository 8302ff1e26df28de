//! What is in a directory of `keyctl`, read with code of its own: the byte layouts are those of the documentation, and
//! nothing of the applier is called.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) type Bytes32 = [u8; 32];

/// Everything.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) keks: BTreeMap<u32, Bytes32>,
    pub(crate) sidecar: Option<Sidecar>,
    pub(crate) log: Option<Log>,
    pub(crate) tables: Option<Tables>,
    /// Every file, by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

#[derive(Deserialize)]
pub(crate) struct Sidecar {
    pub(crate) raft_applied_index: u64,
    pub(crate) storage_envelope_active: bool,
    pub(crate) storage_envelope_cutover_index: u64,
    pub(crate) raft_envelope_cutover_index: u64,
    pub(crate) active: Active,
    pub(crate) keys: BTreeMap<u32, Key>,
    #[serde(default)]
    pub(crate) retired: BTreeMap<u32, serde::de::IgnoredAny>,
    #[serde(default)]
    pub(crate) rewraps: Vec<Rewrap>,
}

#[derive(Deserialize)]
pub(crate) struct Active {
    pub(crate) storage: u32,
    pub(crate) raft: u32,
}

#[derive(Deserialize)]
pub(crate) struct Key {
    pub(crate) wrapped: String,
    pub(crate) local_epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Rewrap {
    pub(crate) kek: String,
    pub(crate) raft_index: u64,
    pub(crate) sha256: String,
}

pub(crate) struct Log {
    pub(crate) base: u64,
    pub(crate) base_term: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) is_torn: bool,
}

pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) is_proposal: bool,
    pub(crate) data: Vec<u8>,
}

impl Log {
    pub(crate) fn last(&self) -> u64 {
        self.entries.last().map_or(self.base, |entry| entry.index)
    }

    pub(crate) fn last_term(&self) -> u64 {
        self.entries.last().map_or(self.base_term, |entry| entry.term)
    }
}

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) applied: u64,
    /// The name of each local value, and the value.
    pub(crate) local: BTreeMap<String, u64>,
    /// Key id -> newest epoch, for the one node that there is.
    pub(crate) rows: BTreeMap<u32, u64>,
    pub(crate) values: BTreeMap<String, Vec<u8>>,
}

impl Tables {
    pub(crate) fn epoch(&self, id: u32) -> u64 {
        self.local.get(&format!("epoch:{id}")).copied().unwrap_or(0)
    }
}

/// Reads a directory that no process has open. `copy` is where the database is copied to, since opening it repairs it.
pub(crate) fn read(dir: &Path, copy: &Path) -> Result<Disk, String> {
    let mut disk = Disk::default();
    let Ok(listing) = fs::read_dir(dir) else { return Ok(disk) };
    for entry in listing {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        disk.files.insert(name, fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    for (name, bytes) in &disk.files {
        let number = name.strip_prefix("kek-").and_then(|name| name.strip_suffix(".key"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            let bytes =
                bytes.as_slice().try_into().map_err(|_| format!("{name} has {} bytes", bytes.len()))?;
            disk.keks.insert(number, bytes);
        }
    }
    if let Some(bytes) = disk.files.get("keys.json") {
        disk.sidecar = Some(serde_json::from_slice(bytes).map_err(|error| format!("keys.json: {error}"))?);
    }
    if let Some(bytes) = disk.files.get("log") {
        disk.log = Some(read_log(bytes).ok_or("the log has no header")?);
    }
    if let Some(bytes) = disk.files.get("node.redb") {
        fs::write(copy, bytes).map_err(|error| error.to_string())?;
        disk.tables = Some(read_tables(copy).map_err(|error| format!("node.redb: {error}"))?);
    }
    Ok(disk)
}

fn read_log(bytes: &[u8]) -> Option<Log> {
    let (header, mut rest) = bytes.split_at_checked(32)?;
    if !header.starts_with(b"keyctl 1") || Sha256::digest(&header[..24])[..8] != header[24..] {
        return None;
    }
    let mut log =
        Log { base: u64_at(header, 8), base_term: u64_at(header, 16), entries: Vec::new(), is_torn: false };
    while let Some((entry, behind)) = read_entry(rest).filter(|(entry, _)| entry.index == log.last() + 1) {
        log.entries.push(entry);
        rest = behind;
    }
    log.is_torn = !rest.is_empty();
    Some(log)
}

fn read_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (prefix, rest) = bytes.split_at_checked(12)?;
    let len = u32::from_be_bytes(*prefix.first_chunk()?);
    let (content, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    if content.len() < 17 || Sha256::digest(content)[..8] != prefix[4..] {
        return None;
    }
    let (index, term) = (u64_at(content, 0), u64_at(content, 8));
    let entry = Entry { index, term, is_proposal: content[16] == 1, data: content[17..].to_vec() };
    Some((entry, behind))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*bytes[at..].first_chunk().expect("the length was checked"))
}

fn read_tables(copy: &Path) -> Result<Tables, redb::Error> {
    const APPLIED: TableDefinition<(), u64> = TableDefinition::new("encryption.applied");
    const LOCAL: TableDefinition<&str, u64> = TableDefinition::new("encryption.local");
    const WRITERS: TableDefinition<&[u8; 27], &[u8; 12]> = TableDefinition::new("encryption.writers");
    const VALUES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keyctl.values");

    let database = Database::open(copy)?;
    let view = database.begin_read()?;
    let mut tables = Tables {
        applied: view.open_table(APPLIED)?.get(())?.map_or(0, |value| value.value()),
        ..Tables::default()
    };
    for row in view.open_table(LOCAL)?.iter()? {
        let (name, value) = row?;
        tables.local.insert(name.value().to_owned(), value.value());
    }
    for row in view.open_table(WRITERS)?.iter()? {
        let (key, value) = row?;
        let id = u32::from_be_bytes(*key.value()[20..].first_chunk().expect("27 bytes"));
        let epoch = u16::from_be_bytes(*value.value()[10..].first_chunk().expect("12 bytes"));
        tables.rows.insert(id, epoch.into());
    }
    match view.open_table(VALUES) {
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        table => {
            for row in table?.iter()? {
                let (key, value) = row?;
                tables
                    .values
                    .insert(String::from_utf8_lossy(key.value()).into_owned(), value.value().to_vec());
            }
        }
    }
    Ok(tables)
}

/// What stands in an envelope.
pub(crate) struct Envelope<'a> {
    pub(crate) key_id: u32,
    pub(crate) nonce: [u8; 12],
    sealed: &'a [u8],
    prefix: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(crate) fn split(bytes: &'a [u8]) -> Option<Envelope<'a>> {
        let (header, sealed) = bytes.split_first_chunk::<18>()?;
        if !header.starts_with(&[1, 0]) || sealed.len() < 16 {
            return None;
        }
        let key_id = u32::from_be_bytes(*header[2..].first_chunk()?);
        Some(Envelope { key_id, nonce: *header[6..].first_chunk()?, sealed, prefix: &bytes[..6] })
    }

    pub(crate) fn epoch(&self) -> u64 {
        u16::from_be_bytes([self.nonce[2], self.nonce[3]]).into()
    }

    /// Associated data of an entry.
    pub(crate) fn aad_of_entry(&self) -> Vec<u8> {
        [b"R\x01", &self.key_id.to_be_bytes()[..]].concat()
    }

    /// Associated data of a value with this header of nine bytes, stored under `key`.
    pub(crate) fn aad_of_value(&self, header: &[u8], key: &str) -> Vec<u8> {
        [self.prefix, header, key.as_bytes()].concat()
    }

    pub(crate) fn open(&self, key: &Bytes32, aad: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload { msg: self.sealed, aad };
        Aes256Gcm::new(key.into()).decrypt((&self.nonce).into(), payload).ok()
    }

    /// Stands for everything that a nonce may be used for once.
    pub(crate) fn digest(&self, aad: &[u8]) -> Bytes32 {
        let len = u64::try_from(aad.len()).expect("it is short");
        Sha256::new()
            .chain_update(len.to_be_bytes())
            .chain_update(aad)
            .chain_update(self.sealed)
            .finalize()
            .into()
    }
}

/// A wrapped key, under whichever of the KEKs opens it.
pub(crate) fn unwrap<'a>(wrapped: &str, mut keks: impl Iterator<Item = &'a Bytes32>) -> Option<Bytes32> {
    let blob = STANDARD.decode(wrapped).ok()?;
    let (nonce, sealed) = blob.split_first_chunk::<12>()?;
    let key = keks.find_map(|kek| Aes256Gcm::new(kek.into()).decrypt(nonce.into(), sealed).ok())?;
    key.try_into().ok()
}

/// Header and body of a stored value, where the body is an envelope; `None` where it is clear.
pub(crate) fn sealed_value(stored: &[u8]) -> Option<(&[u8], Envelope<'_>)> {
    let (header, body) = stored.split_at_checked(9)?;
    if header[0] != 0b010 {
        return None;
    }
    Some((header, Envelope::split(body)?))
}

/// Key and stored value of an entry that stores one.
pub(crate) fn read_put(payload: &[u8]) -> Option<(String, &[u8])> {
    let rest = payload.strip_prefix(&[0x01])?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (key, stored) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    Some((String::from_utf8_lossy(key).into_owned(), stored))
}
