//! Values made of bytes: every value can be made, and no bytes make none. Where the bytes end, zeros follow.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use applier::registry::{RegistrySnapshot, RowKey, WriterRow};
use applier::sidecar::{Active, Cutovers, EntryName, KeyRecord, RewrapRecord, Sidecar, Tombstone};
use applier::wire::{Bootstrap, Entry, Rewrap, Rotation, RotationKind, Row};
use applier::{DekId, KekCheck, LocalEpoch, Purpose, RaftIndex};
use sim::{Draw, Lies, Profile, Tape};

use crate::seeds::SeedFile;
use crate::subject::Subject;
use crate::world::Scenario;

/// The first second that RFC 3339 has no four digits of a year for.
const YEAR_10000: u64 = 253_402_300_800;

/// Bytes that are not used yet.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(self.0.len().min(N));
        self.0 = rest;
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(super) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(super) fn is_odd(&mut self) -> bool {
        self.u8() % 2 == 1
    }

    /// A number below the bound, which is not 0.
    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.u8() % bound
    }

    /// So many bytes as the next one says, and there still are.
    pub(super) fn some(&mut self) -> Vec<u8> {
        let len = usize::from(self.u8());
        let (taken, rest) = self.0.split_at(self.0.len().min(len));
        self.0 = rest;
        taken.to_vec()
    }

    pub(super) fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.some()).into_owned()
    }

    fn purpose(&mut self) -> Purpose {
        if self.is_odd() { Purpose::Raft } else { Purpose::Storage }
    }

    pub(super) fn row_key(&mut self) -> RowKey {
        RowKey { dek_id: self.u32(), node16: self.u16() }
    }

    pub(super) fn writer_row(&mut self) -> WriterRow {
        WriterRow { full_node_id: self.u64(), first_seen: self.u16(), last_seen: self.u16() }
    }

    fn row(&mut self) -> Row {
        Row { dek_id: self.u32(), full_node_id: self.u64(), local_epoch: self.u16() }
    }

    pub(super) fn entry(&mut self) -> Entry {
        match self.below(4) {
            0 => Entry::Registration(self.row()),
            1 => Entry::Bootstrap(Bootstrap {
                storage_id: self.u32(),
                wrapped_storage: self.some(),
                raft_id: self.u32(),
                wrapped_raft: self.some(),
                batch: (0..self.below(5)).map(|_| self.row()).collect(),
            }),
            2 => Entry::Rotation(Rotation {
                subtag: [
                    RotationKind::RotateDek,
                    RotationKind::RetireDek,
                    RotationKind::EnableStorageEnvelope,
                    RotationKind::EnableRaftEnvelope,
                ][usize::from(self.below(4))],
                dek_id: self.u32(),
                purpose: self.purpose(),
                wrapped: self.some(),
                proposer: self.row(),
            }),
            _ => Entry::Rewrap(Rewrap {
                generation: self.u32(),
                kek_check: self.array(),
                keys: (0..self.below(5)).map(|_| (self.u32(), self.some())).collect(),
            }),
        }
    }

    fn entry_name(&mut self) -> EntryName {
        EntryName { raft_index: RaftIndex(self.u64()), sha256: [self.u8(); 32] }
    }

    fn maybe_name(&mut self) -> Option<EntryName> {
        self.is_odd().then(|| self.entry_name())
    }

    /// Any id of a key: 0 stands for the highest one.
    fn dek_id(&mut self) -> DekId {
        let id = self.u32();
        DekId::new(id).unwrap_or_else(|| DekId::new(u32::MAX).expect("not 0"))
    }

    fn key_record(&mut self, purpose: Purpose) -> KeyRecord {
        let mut wrapped = self.some();
        if wrapped.is_empty() {
            wrapped.push(self.u8());
        }
        let created = UNIX_EPOCH + Duration::from_secs(self.u64() % YEAR_10000);
        KeyRecord {
            purpose,
            wrapped,
            created: humantime::format_rfc3339_seconds(created).to_string(),
            local_epoch: LocalEpoch(self.u16()),
            name: self.entry_name(),
        }
    }

    fn tombstone(&mut self) -> Tombstone {
        Tombstone {
            purpose: self.purpose(),
            installed: self.entry_name(),
            retired: self.entry_name(),
            digest: [self.u8(); 32],
        }
    }

    /// A sidecar that keeps its own rules: active keys are there, with their purposes; what is retired is not; no entry is
    /// named above its index.
    pub(super) fn sidecar(&mut self) -> Sidecar {
        let mut keys = BTreeMap::new();
        for _ in 0..self.below(4) {
            let (id, purpose) = (self.dek_id(), self.purpose());
            keys.insert(id, self.key_record(purpose));
        }
        let storage = self.dek_id();
        keys.insert(storage, self.key_record(Purpose::Storage));
        // Another one than the storage key.
        let raft = self.dek_id().get() ^ u32::from(storage.get() == 1);
        let raft = DekId::new(raft).filter(|raft| *raft != storage);
        let raft = raft.unwrap_or_else(|| DekId::new(if storage.get() == 1 { 2 } else { 1 }).expect("not 0"));
        keys.insert(raft, self.key_record(Purpose::Raft));
        let mut retired: BTreeMap<_, _> =
            (0..self.below(3)).map(|_| (self.dek_id(), self.tombstone())).collect();
        retired.retain(|id, _| !keys.contains_key(id));
        let mut sidecar = Sidecar {
            raft_applied_index: RaftIndex(self.u64()),
            cutovers: Cutovers { storage: self.maybe_name(), raft: self.maybe_name() },
            active: Active { storage, raft },
            keys,
            bootstrap: self.entry_name(),
            retired,
            rewraps: (0..self.below(3))
                .map(|_| RewrapRecord { kek: KekCheck(self.array()), name: self.entry_name() })
                .collect(),
        };
        let newest = sidecar.named().map(|name| name.raft_index).max();
        sidecar.raft_applied_index = sidecar.raft_applied_index.max(newest.unwrap_or(RaftIndex::ZERO));
        sidecar
    }

    pub(super) fn snapshot(&mut self) -> applier::Snapshot {
        let rows = (0..self.below(8)).map(|_| (self.row_key(), self.writer_row())).collect();
        let registry = RegistrySnapshot { rows, applied_index: RaftIndex(self.u64()) };
        let mut sidecar = self.is_odd().then(|| self.sidecar());
        // Epochs are a node's own, and do not travel.
        for key in sidecar.iter_mut().flat_map(|sidecar| sidecar.keys.values_mut()) {
            key.local_epoch = LocalEpoch(0);
        }
        applier::Snapshot { registry, sidecar }
    }

    /// A seed file: whatever its texts are, its names are known.
    pub(super) fn seed_file(&mut self) -> SeedFile {
        let seed = self.is_odd().then(|| self.number());
        let tape = seed.is_none().then(|| Tape((0..self.below(8)).map(|_| self.a_draw()).collect()));
        SeedFile {
            version: 1 + u32::from(self.is_odd()),
            shows: self.text(),
            scenario: Scenario::ALL[usize::from(self.below(3))].to_string(),
            subject: Subject::ALL[usize::from(self.below(3))].to_string(),
            profile: Profile::ALL[usize::from(self.below(4))].name().to_owned(),
            lie: self.is_odd().then(|| Lies::NAMED[0].0.to_owned()),
            expect: self.texts(),
            entries_max: self.is_odd().then(|| self.number()),
            joins_max: self.is_odd().then(|| self.number()),
            seed,
            command: self.is_odd().then(|| self.text()),
            found: self.is_odd().then(|| self.text()),
            minimal: self.is_odd().then(|| self.is_odd()),
            tape: tape.map(|tape| tape.to_string()),
            story: self.texts(),
        }
    }

    fn texts(&mut self) -> Vec<String> {
        (0..self.below(4)).map(|_| self.text()).collect()
    }

    /// TOML has no larger integers.
    fn number(&mut self) -> u64 {
        self.u64() >> 1
    }

    fn a_draw(&mut self) -> Draw {
        let bound = self.u64().max(2);
        Draw { site: "made.of-bytes".into(), value: self.u64() % bound, bound }
    }
}
