//! Log entries as a world thinks of them: which key is inside which blob, what is wrong with it, and the bytes that
//! carry it. The model judges forms, a subject gets bytes.

mod display;
mod malformed;

use std::sync::Arc;

use applier::Purpose;
use applier::kek::LocalKek;
use applier::ports::{Entropy, Kek as _};
use applier::secret::Dek;
use applier::wire::{self, RotationKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

pub use self::malformed::Malformed;

/// Every key of a world begins with these bytes, so that one search finds any of them where no key belongs.
pub const KEY_MARKER: [u8; 8] = *b"\xd3KEY\x9amat";

/// Number of a data key of this world; equal numbers are equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyNumber(pub u8);

impl KeyNumber {
    /// The 32 bytes behind the number: the marker, the number, and a fixed filling.
    pub fn bytes(self) -> [u8; 32] {
        let mut bytes = [self.0; 32];
        bytes[..8].copy_from_slice(&KEY_MARKER);
        bytes
    }
}

/// What gives a key of a world away, as raw bytes and as the texts that a file could hold: hex, and base64 in each of
/// its three alignments, without the letters that its neighbours have a part in.
pub fn traces_of_a_key() -> Vec<Vec<u8>> {
    let aligned = |before: usize| {
        let mut bytes = vec![0; before];
        bytes.extend(KEY_MARKER);
        let text = STANDARD_NO_PAD.encode(&bytes);
        let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        text.as_bytes()[first..last].to_vec()
    };
    let hex: String = KEY_MARKER.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut traces = vec![KEY_MARKER.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    traces.extend([0, 1, 2].map(aligned));
    traces
}

/// A wrapped key. `seal` numbers the wrapping: the same key wrapped twice gives different bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The key inside.
    pub key: KeyNumber,
    /// Which wrapping of it.
    pub seal: u8,
    /// Number of the KEK that has wrapped it (see [`Keks`]); 0 is a world's first.
    pub kek: u8,
    /// What is wrong with the blob.
    pub fault: BlobFault,
}

/// What can be wrong with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobFault {
    /// Nothing.
    None,
    /// A flipped bit: the tag does not verify.
    Tampered,
    /// One byte short.
    Short,
    /// No bytes at all.
    Empty,
}

/// A registration row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Key id.
    pub dek: u32,
    /// Full node id.
    pub node: u64,
    /// Epoch.
    pub epoch: u16,
}

/// Everything that the sealed bytes of a value or of a log entry depend on, beside what is inside. The nonce is the low 16
/// bits of the node, the epoch and the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seal {
    /// Key id.
    pub dek: u32,
    /// The key under that id.
    pub key: KeyNumber,
    /// Full id of the node that has sealed it.
    pub node: u64,
    /// Epoch of that node's claim.
    pub epoch: u16,
    /// Which one under that claim, from 1 on.
    pub count: u64,
}

/// What can be wrong with a cutover, beside its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutoverFault {
    /// Nothing.
    None,
    /// Its purpose is that of the other cutover.
    OtherPurpose,
    /// It carries a wrapped key, and installs none.
    CarriesKey,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A leader's no-op.
    Nothing,
    /// A data entry of the host.
    Data {
        /// Host key.
        key: u64,
        /// Host value.
        value: u64,
        /// How it was sealed by the leader who has proposed it; `None` in clear text.
        seal: Option<Seal>,
    },
    /// A writer registration.
    Registration(Row),
    /// The first keys.
    Bootstrap {
        /// Storage key id.
        storage: u32,
        /// Storage key.
        storage_blob: Blob,
        /// Raft key id.
        raft: u32,
        /// Raft key.
        raft_blob: Blob,
        /// Rows.
        rows: Vec<Row>,
    },
    /// A new key for one purpose.
    Rotation {
        /// Key id.
        dek: u32,
        /// Its purpose.
        purpose: Purpose,
        /// The key.
        blob: Blob,
        /// The proposer's row.
        row: Row,
    },
    /// From here on values are sealed, or log entries.
    Cutover {
        /// Storage or raft envelope.
        purpose: Purpose,
        /// The key that its proposer takes for the active one.
        dek: u32,
        /// The proposer's row.
        row: Row,
        /// What is wrong with it.
        fault: CutoverFault,
    },
    /// A key and its rows go for good.
    Retirement {
        /// Key id.
        dek: u32,
        /// The key's purpose.
        purpose: Purpose,
        /// The proposer's row, which registers nothing.
        row: Row,
        /// Whether it carries a wrapped key, which is wrong.
        carries_key: bool,
    },
    /// Every key gets a new wrapping.
    Rewrap {
        /// Number of the KEK in force from here on, one above the one before it.
        generation: u32,
        /// Which KEK that is.
        kek: u8,
        /// The keys.
        keys: Vec<(u32, Blob)>,
    },
    /// Bytes that do not decode.
    Malformed(Malformed),
}

/// What an entry is, for fingerprints and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No-op.
    Nothing,
    /// Data.
    Data,
    /// Registration.
    Registration,
    /// Bootstrap.
    Bootstrap,
    /// Rotation.
    Rotation,
    /// Cutover.
    Cutover,
    /// Undecodable.
    Malformed,
    /// Retirement of a key.
    Retirement,
    /// Rewrap of all keys.
    Rewrap,
}

impl Kind {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Nothing => "no-op",
            Kind::Data => "data",
            Kind::Registration => "registration",
            Kind::Bootstrap => "bootstrap",
            Kind::Rotation => "rotation",
            Kind::Cutover => "cutover",
            Kind::Malformed => "malformed",
            Kind::Retirement => "retirement",
            Kind::Rewrap => "rewrap",
        }
    }
}

impl Form {
    /// What the entry is.
    pub const fn kind(&self) -> Kind {
        match self {
            Form::Nothing => Kind::Nothing,
            Form::Data { .. } => Kind::Data,
            Form::Registration(_) => Kind::Registration,
            Form::Bootstrap { .. } => Kind::Bootstrap,
            Form::Rotation { .. } => Kind::Rotation,
            Form::Cutover { .. } => Kind::Cutover,
            Form::Retirement { .. } => Kind::Retirement,
            Form::Rewrap { .. } => Kind::Rewrap,
            Form::Malformed(_) => Kind::Malformed,
        }
    }

    /// Whether the entry changes the sidecar, if it is accepted.
    pub const fn is_of_keys(&self) -> bool {
        !matches!(self, Form::Nothing | Form::Data { .. } | Form::Registration(_) | Form::Malformed(_))
    }

    /// Ids of the keys that the entry installs.
    pub fn key_ids(&self) -> Vec<u32> {
        match self {
            Form::Bootstrap { storage, raft, .. } => vec![*storage, *raft],
            Form::Rotation { dek, .. } => vec![*dek],
            _ => Vec::new(),
        }
    }

    /// Id of the key that goes for good with the entry.
    pub const fn retires(&self) -> Option<u32> {
        match self {
            Form::Retirement { dek, .. } => Some(*dek),
            _ => None,
        }
    }

    /// Payload bytes for the applier, or `None` for what the host handles alone.
    pub fn payload(&self, keks: &Keks) -> Option<Vec<u8>> {
        let entry = match self {
            Form::Nothing | Form::Data { .. } => return None,
            Form::Malformed(malformed) => return Some(malformed.payload(keks)),
            Form::Registration(row) => wire::Entry::Registration(row.wire()),
            Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
                wire::Entry::Bootstrap(wire::Bootstrap {
                    storage_id: *storage,
                    wrapped_storage: storage_blob.bytes(keks),
                    raft_id: *raft,
                    wrapped_raft: raft_blob.bytes(keks),
                    batch: rows.iter().map(|row| row.wire()).collect(),
                })
            }
            Form::Rotation { dek, purpose, blob, row } => wire::Entry::Rotation(wire::Rotation {
                subtag: RotationKind::RotateDek,
                dek_id: *dek,
                purpose: *purpose,
                wrapped: blob.bytes(keks),
                proposer: row.wire(),
            }),
            Form::Cutover { purpose, dek, row, fault } => {
                wire::Entry::Rotation(cutover((*purpose, *dek), *row, *fault, keks))
            }
            Form::Retirement { dek, purpose, row, carries_key } => wire::Entry::Rotation(wire::Rotation {
                subtag: RotationKind::RetireDek,
                dek_id: *dek,
                purpose: *purpose,
                wrapped: if *carries_key { UNWANTED.bytes(keks) } else { Vec::new() },
                proposer: row.wire(),
            }),
            Form::Rewrap { generation, kek, keys } => wire::Entry::Rewrap(wire::Rewrap {
                generation: *generation,
                kek_check: keks.check(*kek),
                keys: keys.iter().map(|(id, blob)| (*id, blob.bytes(keks))).collect(),
            }),
        };
        Some(entry.encode())
    }
}

/// A sound key where none belongs.
const UNWANTED: Blob = Blob { key: KeyNumber(202), seal: 0, kek: 0, fault: BlobFault::None };

fn cutover((purpose, dek): (Purpose, u32), row: Row, fault: CutoverFault, keks: &Keks) -> wire::Rotation {
    let (subtag, other) = match purpose {
        Purpose::Storage => (RotationKind::EnableStorageEnvelope, Purpose::Raft),
        Purpose::Raft => (RotationKind::EnableRaftEnvelope, Purpose::Storage),
    };
    wire::Rotation {
        subtag,
        dek_id: dek,
        purpose: if fault == CutoverFault::OtherPurpose { other } else { purpose },
        wrapped: if fault == CutoverFault::CarriesKey { UNWANTED.bytes(keks) } else { Vec::new() },
        proposer: row.wire(),
    }
}

/// How many KEKs a world knows. The last of them is never in the ring of a node.
pub const KEKS: u8 = 3;

/// The KEKs of a world, by number. They begin with the marker too.
#[derive(Clone, Debug)]
pub struct Keks([Arc<LocalKek>; KEKS as usize]);

impl Keks {
    /// Makes them.
    pub fn new() -> Keks {
        Keks([0xEE, 0xED, 0xEC].map(|number| Arc::new(LocalKek::new(KeyNumber(number).bytes()))))
    }

    /// The KEK of this number.
    ///
    /// # Panics
    /// Where a world has no such KEK.
    pub fn kek(&self, number: u8) -> &Arc<LocalKek> {
        &self.0[usize::from(number)]
    }

    /// Its check value.
    pub fn check(&self, number: u8) -> [u8; 8] {
        self.kek(number).check_value().expect("a KEK in memory answers").0
    }

    /// The number behind a check value.
    pub fn number(&self, check: [u8; 8]) -> Option<u8> {
        (0..KEKS).find(|number| self.check(*number) == check)
    }
}

impl Default for Keks {
    fn default() -> Keks {
        Keks::new()
    }
}

impl Row {
    /// The row on the wire.
    pub const fn wire(self) -> wire::Row {
        wire::Row { dek_id: self.dek, full_node_id: self.node, local_epoch: self.epoch }
    }
}

/// Nonces of this world's wrappings: a function of key and seal, so that equal forms have equal bytes.
struct FixedNonce(u8, u8);

impl Entropy for FixedNonce {
    fn fill(&self, buf: &mut [u8]) -> std::io::Result<()> {
        buf.fill(0);
        buf[0] = self.0;
        buf[1] = self.1;
        Ok(())
    }
}

impl Blob {
    /// The wrapped bytes.
    pub fn bytes(self, keks: &Keks) -> Vec<u8> {
        let key = Dek::new(self.key.bytes());
        let sealed = keks
            .kek(self.kek)
            .wrap(&key, &FixedNonce(self.key.0, self.seal))
            .expect("a fixed nonce never fails");
        let mut bytes = sealed.to_vec();
        match self.fault {
            BlobFault::None => {}
            BlobFault::Tampered => bytes[20] ^= 1,
            BlobFault::Short => bytes.truncate(59),
            BlobFault::Empty => bytes.clear(),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_in_raw_bytes_hex_and_base64_wherever_it_stands() {
        let traces = traces_of_a_key();
        let found = |bytes: &[u8]| {
            traces.iter().any(|trace| bytes.windows(trace.len()).any(|window| window == trace.as_slice()))
        };
        let key = KeyNumber(9).bytes();
        assert!(found(&key));
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(found(hex.as_bytes()) && found(hex.to_uppercase().as_bytes()));
        for before in 0..6 {
            let bytes = [&vec![0x5a; before], key.as_slice()].concat();
            assert!(found(STANDARD_NO_PAD.encode(bytes).as_bytes()), "{before}");
        }
        let blob = Blob { key: KeyNumber(9), seal: 0, kek: 0, fault: BlobFault::None };
        let wrapped = blob.bytes(&Keks::new());
        assert!(!found(&wrapped) && !found(STANDARD_NO_PAD.encode(&wrapped).as_bytes()));
    }
}
