//! Every way in which bytes fail to be an entry.

use std::fmt;

use super::{BATCH_ROWS_MAX, REGISTRATION_LEN, REWRAP_KEYS_MAX};

/// Why a payload does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// There is not even an opcode.
    #[error("the payload is empty")]
    Empty,
    /// The first byte names no entry that this build knows.
    #[error("opcode {got:#04x} is unknown")]
    Opcode {
        /// The first byte of the payload.
        got: u8,
    },
    /// The body has another version than [`VERSION`](super::VERSION).
    #[error("version {got} is unknown")]
    Version {
        /// The first byte of the body.
        got: u8,
    },
    /// The rotation has a sub-tag without a [`RotationKind`](super::RotationKind).
    #[error("rotation sub-tag {got:#04x} is unknown")]
    Subtag {
        /// The sub-tag.
        got: u8,
    },
    /// The bytes do not have the shape of their kind.
    #[error("malformed: {0}")]
    Malformed(#[from] MalformedKind),
}

/// What is wrong with the shape of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedKind {
    /// A registration's body has a fixed length.
    #[error("a registration has {REGISTRATION_LEN} bytes, not {got}")]
    RegistrationLength {
        /// Length of the body in bytes.
        got: usize,
    },
    /// The body ends inside a field.
    #[error("{field} needs {needed} bytes, and {left} are left")]
    Truncated {
        /// The field.
        field: Field,
        /// The field's length in bytes.
        needed: u64,
        /// The bytes from its start to the end of the body.
        left: usize,
    },
    /// A bootstrap claims more rows than [`BATCH_ROWS_MAX`].
    #[error("a batch holds at most {BATCH_ROWS_MAX} rows, not {got}")]
    BatchRows {
        /// The claimed number of rows.
        got: u32,
    },
    /// A rewrap claims more keys than [`REWRAP_KEYS_MAX`].
    #[error("a rewrap holds at most {REWRAP_KEYS_MAX} keys, not {got}")]
    RewrapKeys {
        /// The claimed number of keys.
        got: u32,
    },
    /// The purpose byte is neither storage nor raft.
    #[error("purpose {got} is unknown")]
    Purpose {
        /// The purpose byte.
        got: u8,
    },
    /// The body goes on after its last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// The number of bytes too many.
        bytes: usize,
    },
}

/// A field of a body, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The version byte.
    Version,
    /// A bootstrap's id of the storage key.
    StorageId,
    /// Length of the wrapped storage key.
    WrappedStorageLen,
    /// The wrapped storage key.
    WrappedStorage,
    /// A bootstrap's id of the raft key.
    RaftId,
    /// Length of the wrapped raft key.
    WrappedRaftLen,
    /// The wrapped raft key.
    WrappedRaft,
    /// The number of rows.
    BatchCount,
    /// The rows.
    Batch,
    /// A rotation's sub-tag.
    Subtag,
    /// A rotation's key id.
    DekId,
    /// A rotation's purpose byte.
    Purpose,
    /// Length of a rotation's wrapped key.
    WrappedLen,
    /// A rotation's wrapped key.
    Wrapped,
    /// A registration's row, or the proposer's in a rotation.
    Row,
    /// A rewrap's generation.
    Generation,
    /// A rewrap's check value.
    KekCheck,
    /// The number of a rewrap's keys.
    KeyCount,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Version => "the version",
            Field::StorageId => "the id of the storage key",
            Field::WrappedStorageLen => "the length of the wrapped storage key",
            Field::WrappedStorage => "the wrapped storage key",
            Field::RaftId => "the id of the raft key",
            Field::WrappedRaftLen => "the length of the wrapped raft key",
            Field::WrappedRaft => "the wrapped raft key",
            Field::BatchCount => "the number of rows",
            Field::Batch => "the batch",
            Field::Subtag => "the sub-tag",
            Field::DekId => "the key id",
            Field::Purpose => "the purpose",
            Field::WrappedLen => "the length of the wrapped key",
            Field::Wrapped => "the wrapped key",
            Field::Row => "the row",
            Field::Generation => "the generation of the KEK",
            Field::KekCheck => "the check value of the KEK",
            Field::KeyCount => "the number of keys",
        })
    }
}
