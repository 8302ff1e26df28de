//! Log entries as a world thinks of them: which key is inside which blob, what is wrong with it, and the bytes that
//! carry it. The model judges forms, a subject gets bytes.

use std::fmt;

use applier::Purpose;
use applier::kek::LocalKek;
use applier::secret::Dek;
use applier::wire;
use applier::{ports::Entropy, wire::RotationKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

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
    /// A rotation kind that is not applied yet.
    Cutover {
        /// Storage or raft envelope.
        purpose: Purpose,
        /// Key id.
        dek: u32,
    },
    /// Bytes that do not decode.
    Malformed(Malformed),
}

/// The ways in which bytes do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A registration with one byte too few.
    ShortRegistration,
    /// A registration of another version.
    RegistrationVersion,
    /// A bootstrap of another version.
    BootstrapVersion,
    /// A bootstrap that ends inside a blob.
    TruncatedBootstrap,
    /// A bootstrap whose batch claims more rows than are allowed.
    TooManyRows,
    /// A bootstrap with bytes after its end.
    TrailingByte,
    /// A rotation with an unknown sub-tag.
    RotationSubtag,
    /// A rotation with an unknown purpose.
    RotationPurpose,
    /// A rotation that ends inside its row.
    TruncatedRotation,
    /// A reserved opcode.
    ReservedOpcode,
}

impl Malformed {
    /// Every way.
    pub const ALL: [Malformed; 10] = [
        Malformed::ShortRegistration,
        Malformed::RegistrationVersion,
        Malformed::BootstrapVersion,
        Malformed::TruncatedBootstrap,
        Malformed::TooManyRows,
        Malformed::TrailingByte,
        Malformed::RotationSubtag,
        Malformed::RotationPurpose,
        Malformed::TruncatedRotation,
        Malformed::ReservedOpcode,
    ];
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
            Form::Malformed(_) => Kind::Malformed,
        }
    }

    /// Ids of the keys that the entry installs.
    pub fn key_ids(&self) -> Vec<u32> {
        match self {
            Form::Bootstrap { storage, raft, .. } => vec![*storage, *raft],
            Form::Rotation { dek, .. } => vec![*dek],
            _ => Vec::new(),
        }
    }

    /// Payload bytes for the applier, or `None` for what the host handles alone.
    pub fn payload(&self, kek: &LocalKek) -> Option<Vec<u8>> {
        let entry = match self {
            Form::Nothing | Form::Data { .. } => return None,
            Form::Malformed(malformed) => return Some(malformed.payload(kek)),
            Form::Registration(row) => wire::Entry::Registration(row.wire()),
            Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
                wire::Entry::Bootstrap(wire::Bootstrap {
                    storage_id: *storage,
                    wrapped_storage: storage_blob.bytes(kek),
                    raft_id: *raft,
                    wrapped_raft: raft_blob.bytes(kek),
                    batch: rows.iter().map(|row| row.wire()).collect(),
                })
            }
            Form::Rotation { dek, purpose, blob, row } => wire::Entry::Rotation(wire::Rotation {
                subtag: RotationKind::RotateDek,
                dek_id: *dek,
                purpose: *purpose,
                wrapped: blob.bytes(kek),
                proposer: row.wire(),
            }),
            Form::Cutover { purpose, dek } => wire::Entry::Rotation(wire::Rotation {
                subtag: match purpose {
                    Purpose::Storage => RotationKind::EnableStorageEnvelope,
                    Purpose::Raft => RotationKind::EnableRaftEnvelope,
                },
                dek_id: *dek,
                purpose: *purpose,
                wrapped: Vec::new(),
                proposer: wire::Row { dek_id: *dek, full_node_id: 0x11, local_epoch: 0 },
            }),
        };
        Some(entry.encode())
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
    pub fn bytes(self, kek: &LocalKek) -> Vec<u8> {
        let key = Dek::new(self.key.bytes());
        let sealed = kek.wrap(&key, &FixedNonce(self.key.0, self.seal)).expect("a fixed nonce never fails");
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

impl Malformed {
    fn payload(self, kek: &LocalKek) -> Vec<u8> {
        let blob = Blob { key: KeyNumber(200), seal: 0, fault: BlobFault::None };
        let row = Row { dek: 1, node: 0x11, epoch: 0 };
        let registration = || Form::Registration(row).payload(kek).expect("an encryption entry");
        let bootstrap = || {
            let other = Blob { key: KeyNumber(201), ..blob };
            let rows = vec![row];
            Form::Bootstrap { storage: 1, storage_blob: blob, raft: 2, raft_blob: other, rows }
                .payload(kek)
                .expect("an encryption entry")
        };
        let rotation = || {
            let row = Row { dek: 9, ..row };
            Form::Rotation { dek: 9, purpose: Purpose::Storage, blob, row }
                .payload(kek)
                .expect("an encryption entry")
        };
        let patched = |mut bytes: Vec<u8>, at: usize, value: u8| {
            bytes[at] = value;
            bytes
        };
        let cut = |mut bytes: Vec<u8>, by: usize| {
            bytes.truncate(bytes.len() - by);
            bytes
        };
        match self {
            Malformed::ShortRegistration => cut(registration(), 1),
            Malformed::RegistrationVersion => patched(registration(), 1, 2),
            Malformed::BootstrapVersion => patched(bootstrap(), 1, 0),
            Malformed::TruncatedBootstrap => cut(bootstrap(), 60),
            Malformed::TooManyRows => {
                // The count stands in the last four bytes before the rows.
                let mut bytes = bootstrap();
                let count = bytes.len() - 14 - 4;
                bytes[count..count + 4].copy_from_slice(&16_385_u32.to_be_bytes());
                bytes
            }
            Malformed::TrailingByte => {
                let mut bytes = bootstrap();
                bytes.push(0);
                bytes
            }
            Malformed::RotationSubtag => patched(rotation(), 2, 0xfe),
            Malformed::RotationPurpose => patched(rotation(), 7, 9),
            Malformed::TruncatedRotation => cut(rotation(), 3),
            Malformed::ReservedOpcode => vec![0x06, 0x01],
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} node {:x} epoch {}", self.dek, self.node, self.epoch)
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "K{}", self.key.0)?;
        if self.seal != 0 {
            write!(f, "'{}", self.seal)?;
        }
        match self.fault {
            BlobFault::None => Ok(()),
            fault => write!(f, " ({fault:?})"),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Nothing => f.write_str("no-op"),
            Form::Data { key, value } => write!(f, "data {key} = {value}"),
            Form::Registration(row) => write!(f, "register {row}"),
            Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
                write!(f, "bootstrap storage {storage} = {storage_blob}, raft {raft} = {raft_blob}")?;
                rows.iter().try_for_each(|row| write!(f, "; {row}"))
            }
            Form::Rotation { dek, purpose, blob, row } => {
                write!(f, "rotate {purpose:?} to {dek} = {blob}; {row}")
            }
            Form::Cutover { purpose, dek } => write!(f, "enable {purpose:?} envelope under key {dek}"),
            Form::Malformed(malformed) => write!(f, "malformed: {malformed:?}"),
        }
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
        let blob = Blob { key: KeyNumber(9), seal: 0, fault: BlobFault::None };
        let wrapped = blob.bytes(&LocalKek::new([1; 32]));
        assert!(!found(&wrapped) && !found(STANDARD_NO_PAD.encode(&wrapped).as_bytes()));
    }
}
