//! Remembers everything that was ever seen in one directory, and holds what is seen next against it.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;
use sha2::{Digest, Sha256};

use super::disk::{self, Bytes32, Disk, Envelope, Log, Rewrap, Sidecar, Tables};

/// What was wrong, in words.
pub(crate) type Verdict = Result<(), String>;

/// By this many characters a value is told from every other one.
const TELLING: usize = 24;

/// The memory of one directory.
#[derive(Default)]
pub(crate) struct Keeper {
    /// Every key that there ever was.
    keys: BTreeMap<u32, Bytes32>,
    /// Of every entry, its bytes.
    entries: BTreeMap<u64, Bytes32>,
    /// Of every key and nonce, what was sealed with it.
    ledger: BTreeMap<(Bytes32, [u8; 12]), Bytes32>,
    /// Of every value, what each entry made of it.
    puts: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
    /// Numbers that never go down, by name.
    floor: BTreeMap<String, u64>,
    retired: BTreeSet<u32>,
    /// Every rewrap, the oldest first.
    rewraps: Vec<Rewrap>,
    /// What each value may read as: one, or where a command was killed several; `None` is that there is none.
    allowed: BTreeMap<String, Vec<Option<String>>>,
    /// The beginnings of values that must not stand in any file.
    secrets: Vec<String>,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

impl Keeper {
    /// How many nonces were seen.
    pub(crate) fn nonces(&self) -> usize {
        self.ledger.len()
    }

    /// A `put` begins. Where values are sealed by now, this one is never to be found in the clear.
    pub(crate) fn begins_put(&mut self, value: &str) {
        if self.floor.get("storage cutover").is_some_and(|index| *index > 0) {
            self.secrets.push(value.chars().take(TELLING).collect());
        }
    }

    /// A `put` was acknowledged, or else it was killed.
    pub(crate) fn ended_put(&mut self, key: &str, value: &str, is_acknowledged: bool) {
        let allowed = self.allowed.entry(key.to_owned()).or_insert_with(|| vec![None]);
        if is_acknowledged {
            allowed.clear();
        }
        allowed.push(Some(value.to_owned()));
    }

    /// What `get` has said: from here on that is what the value is.
    pub(crate) fn got(&mut self, key: &str, value: Option<String>) -> Verdict {
        let allowed = self.allowed.entry(key.to_owned()).or_insert_with(|| vec![None]);
        ensure(allowed.contains(&value), || {
            format!("{key:?} reads as {value:?}, and may be one of {allowed:?}")
        })?;
        *allowed = vec![value];
        Ok(())
    }

    /// Everything that holds at any moment, also of what a kill has left.
    pub(crate) fn look(&mut self, disk: &Disk) -> Verdict {
        if let Some(sidecar) = &disk.sidecar {
            self.keys_open(disk, sidecar)?;
            self.one_way(sidecar)?;
        }
        if let (Some(tables), Some(log)) = (&disk.tables, &disk.log) {
            self.indices(disk.sidecar.as_ref(), tables, log)?;
            for entry in &log.entries {
                let bytes =
                    [&[u8::from(entry.is_proposal)], &entry.term.to_be_bytes()[..], &entry.data].concat();
                let digest = Sha256::digest(&bytes).into();
                let known = *self.entries.entry(entry.index).or_insert(digest);
                ensure(known == digest, || {
                    format!("the entry at index {} has become another one", entry.index)
                })?;
            }
            self.epochs(disk.sidecar.as_ref(), tables)?;
            self.sealed_entries(log, tables)?;
            self.sealed_values(tables)?;
        }
        self.nothing_in_the_clear(disk)
    }

    /// What holds besides where nobody was killed since the last recovery: each value is what it is from now on.
    pub(crate) fn settle(&mut self, disk: &Disk) -> Verdict {
        let stored = disk.tables.as_ref().map(|tables| &tables.values);
        for key in self.allowed.keys().cloned().collect::<Vec<String>>() {
            let value = stored.and_then(|values| values.get(&key)).map(|stored| self.read(&key, stored));
            self.got(&key, value.transpose()?)?;
        }
        Ok(())
    }

    fn keys_open(&mut self, disk: &Disk, sidecar: &Sidecar) -> Verdict {
        for (id, key) in &sidecar.keys {
            let bytes = disk::unwrap(&key.wrapped, disk.keks.values())
                .ok_or_else(|| format!("no KEK of {:?} opens key {id}", disk.keks.keys()))?;
            let known = *self.keys.entry(*id).or_insert(bytes);
            ensure(known == bytes, || format!("key {id} has other bytes than before"))?;
            ensure(!self.retired.contains(id), || format!("key {id} was retired, and is there again"))?;
        }
        ensure(sidecar.keys.contains_key(&sidecar.active.storage), || {
            "the storage key is missing".to_owned()
        })?;
        ensure(sidecar.keys.contains_key(&sidecar.active.raft), || "the raft key is missing".to_owned())
    }

    fn one_way(&mut self, sidecar: &Sidecar) -> Verdict {
        for id in &self.retired {
            ensure(sidecar.retired.contains_key(id), || format!("the tombstone of key {id} is gone"))?;
        }
        self.retired.extend(sidecar.retired.keys());
        let storage = sidecar.storage_envelope_cutover_index;
        ensure(sidecar.storage_envelope_active == (storage > 0), || "flag and cutover differ".to_owned())?;
        for (name, index) in
            [("storage cutover", storage), ("raft cutover", sidecar.raft_envelope_cutover_index)]
        {
            let before = self.floor.insert(name.to_owned(), index).unwrap_or(0);
            ensure(before == 0 || before == index, || format!("the {name} went from {before} to {index}"))?;
        }
        let (before, now) = (&self.rewraps, &sidecar.rewraps);
        ensure(now.starts_with(before), || format!("the rewraps went from {before:?} to {now:?}"))?;
        self.rewraps.clone_from(now);
        Ok(())
    }

    fn indices(&mut self, sidecar: Option<&Sidecar>, tables: &Tables, log: &Log) -> Verdict {
        let in_sidecar = sidecar.map_or(0, |sidecar| sidecar.raft_applied_index);
        let (applied, last) = (tables.applied, log.last());
        ensure(applied.max(in_sidecar) <= last, || {
            format!("the log ends at {last}, database at {applied}, sidecar at {in_sidecar}")
        })?;
        ensure(log.base <= applied, || format!("the log begins behind {}, applied is {applied}", log.base))?;
        self.rises("applied index", applied)?;
        self.rises("sidecar index", in_sidecar)?;
        self.rises("proof", tables.local.get("sidecar_index").copied().unwrap_or(0))?;
        self.rises("end of the log", last)?;
        self.rises("term", log.last_term())
    }

    fn epochs(&mut self, sidecar: Option<&Sidecar>, tables: &Tables) -> Verdict {
        for (id, key) in sidecar.iter().flat_map(|sidecar| &sidecar.keys) {
            let (claimed, row) = (tables.epoch(*id), tables.rows.get(id).copied().unwrap_or(0));
            ensure(row <= claimed && claimed <= key.local_epoch, || {
                format!(
                    "key {id}: epoch {row} in its row, {claimed} in the database, {} in the sidecar",
                    key.local_epoch
                )
            })?;
            self.rises(&format!("epoch of key {id} in the sidecar"), key.local_epoch)?;
            self.rises(&format!("epoch of key {id} in the database"), claimed)?;
            self.rises(&format!("epoch of key {id} in its row"), row)?;
        }
        Ok(())
    }

    fn rises(&mut self, name: &str, value: u64) -> Verdict {
        let before = self.floor.insert(name.to_owned(), value).unwrap_or(0);
        ensure(before <= value, || format!("the {name} went down from {before} to {value}"))
    }

    fn sealed_entries(&mut self, log: &Log, tables: &Tables) -> Verdict {
        let cutover =
            |name: &str| self.floor.get(name).copied().filter(|index| *index > 0).unwrap_or(u64::MAX);
        let (raft, storage) = (cutover("raft cutover"), cutover("storage cutover"));
        for entry in log.entries.iter().filter(|entry| entry.is_proposal) {
            let at = format!("the entry at index {}", entry.index);
            let payload = if entry.index > raft {
                let envelope = Envelope::split(&entry.data).ok_or_else(|| format!("{at} is clear"))?;
                let aad = envelope.aad_of_entry();
                self.record(&at, &envelope, &aad, tables)?
            } else {
                entry.data.clone()
            };
            if let Some((key, stored)) = disk::read_put(&payload) {
                self.record_value(&at, &key, stored, entry.index > storage, tables)?;
                self.puts.entry(key).or_default().insert(entry.index, stored.to_vec());
            }
        }
        Ok(())
    }

    /// The table is what the entries up to the applied index have made of it, byte for byte.
    fn sealed_values(&mut self, tables: &Tables) -> Verdict {
        for (key, puts) in &self.puts {
            let newest = puts.range(..=tables.applied).next_back().map(|(_, stored)| stored);
            ensure(newest == tables.values.get(key), || {
                format!("{key:?} is not what the last entry up to index {} has made of it", tables.applied)
            })?;
        }
        for (key, stored) in &tables.values {
            ensure(self.puts.contains_key(key), || format!("no entry has stored {key:?}"))?;
            self.record_value(&format!("the value of {key:?}"), key, stored, false, tables)?;
        }
        Ok(())
    }

    fn record_value(
        &mut self,
        what: &str,
        key: &str,
        stored: &[u8],
        must_be_sealed: bool,
        tables: &Tables,
    ) -> Verdict {
        match disk::sealed_value(stored) {
            Some((header, envelope)) => {
                let aad = envelope.aad_of_value(header, key);
                self.record(what, &envelope, &aad, tables).map(|_| ())
            }
            None => ensure(!must_be_sealed, || format!("{what} stores a clear value")),
        }
    }

    /// Writes an envelope down in the ledger, and returns what is in it.
    fn record(
        &mut self,
        what: &str,
        envelope: &Envelope<'_>,
        aad: &[u8],
        tables: &Tables,
    ) -> Result<Vec<u8>, String> {
        let id = envelope.key_id;
        let key =
            *self.keys.get(&id).ok_or_else(|| format!("{what} is sealed under the unknown key {id}"))?;
        let digest = envelope.digest(aad);
        let known = *self.ledger.entry((key, envelope.nonce)).or_insert(digest);
        ensure(known == digest, || {
            format!(
                "{what} is sealed under key {id} with the nonce {:02x?}, and so was something else",
                envelope.nonce
            )
        })?;
        let claimed = tables.epoch(id);
        ensure(self.retired.contains(&id) || envelope.epoch() <= claimed, || {
            format!("{what} is sealed under epoch {} of key {id}, and {claimed} is claimed", envelope.epoch())
        })?;
        envelope.open(&key, aad).ok_or_else(|| format!("{what} does not open under key {id}"))
    }

    fn read(&self, key: &str, stored: &[u8]) -> Result<String, String> {
        let value = match disk::sealed_value(stored) {
            None => stored[9..].to_vec(),
            Some((header, envelope)) => {
                let bytes =
                    self.keys.get(&envelope.key_id).filter(|_| !self.retired.contains(&envelope.key_id));
                bytes
                    .and_then(|bytes| envelope.open(bytes, &envelope.aad_of_value(header, key)))
                    .ok_or_else(|| format!("the value of {key:?} does not open"))?
            }
        };
        String::from_utf8(value).map_err(|error| error.to_string())
    }

    /// No key stands in any file, no KEK in any but its own, no value anywhere that was put when values were sealed.
    fn nothing_in_the_clear(&self, disk: &Disk) -> Verdict {
        let keys = self.keys.values().map(<[u8; 32]>::as_slice);
        let keks = disk.keks.values().map(<[u8; 32]>::as_slice);
        let secrets = self.secrets.iter().map(String::as_bytes);
        let needles: Vec<&[u8]> = keys.chain(keks).chain(secrets).collect();
        let search = AhoCorasick::new(&needles).map_err(|error| error.to_string())?;
        for (name, bytes) in disk.files.iter().filter(|(name, _)| !name.starts_with("kek-")) {
            let found = search.find(bytes).map(|found| found.pattern().as_usize());
            let what = found.map(|at| match at.checked_sub(self.keys.len()) {
                None => "a key".to_owned(),
                Some(at) => match at.checked_sub(disk.keks.len()) {
                    None => "a KEK".to_owned(),
                    Some(at) => format!("the value {:?}", self.secrets[at]),
                },
            });
            ensure(what.is_none(), || format!("{name} has {} in the clear", what.unwrap_or_default()))?;
        }
        Ok(())
    }
}
