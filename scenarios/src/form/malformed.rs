//! Entries that do not decode.

use applier::Purpose;

use super::{Blob, BlobFault, Form, Keks, KeyNumber, Row};

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
    /// A rewrap that ends inside a blob.
    TruncatedRewrap,
}

impl Malformed {
    /// Every way.
    pub const ALL: [Malformed; 11] = [
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
        Malformed::TruncatedRewrap,
    ];
}

impl Malformed {
    pub(super) fn payload(self, keks: &Keks) -> Vec<u8> {
        let blob = Blob { key: KeyNumber(200), seal: 0, kek: 0, fault: BlobFault::None };
        let row = Row { dek: 1, node: 0x11, epoch: 0 };
        let registration = || Form::Registration(row).payload(keks).expect("an encryption entry");
        let bootstrap = || {
            let other = Blob { key: KeyNumber(201), ..blob };
            let rows = vec![row];
            Form::Bootstrap { storage: 1, storage_blob: blob, raft: 2, raft_blob: other, rows }
                .payload(keks)
                .expect("an encryption entry")
        };
        let rotation = || {
            let row = Row { dek: 9, ..row };
            Form::Rotation { dek: 9, purpose: Purpose::Storage, blob, row }
                .payload(keks)
                .expect("an encryption entry")
        };
        let rewrap = || {
            Form::Rewrap { generation: 1, kek: 0, keys: vec![(1, blob)] }
                .payload(keks)
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
            Malformed::TruncatedRewrap => cut(rewrap(), 10),
        }
    }
}
