//! The sidecar's bytes: version-2 JSON, indented by two spaces, no trailing newline, map keys sorted as strings.
//!
//! ```text
//! version                         always 2 when written; 1 is read too
//! raft_applied_index              u64
//! storage_envelope_active         bool
//! storage_envelope_cutover_index  u64      absent in version 1
//! raft_envelope_cutover_index     u64
//! active.storage, active.raft     u32      0 = none
//! keys                            null, or decimal id -> record
//!   purpose                       "storage" | "raft"
//!   wrapped                       standard base64 with padding
//!   created                       RFC 3339, UTC, seconds
//!   local_epoch                   u16
//!   raft_index, sha256            ours: the entry that installed the key
//! bootstrap.raft_index, .sha256   ours: the bootstrap entry
//! cutovers.storage, .raft         ours: raft_index, sha256 of the entry behind each switch
//! retired                         ours: decimal id -> tombstone
//!   purpose                       "storage" | "raft"
//!   raft_index, sha256            the entry that installed the key
//!   retired_index, retired_sha256 the entry that retired it
//!   digest                        64 letters of hex, see `Tombstone::digest_of`
//! rewraps                         ours: list of the rewraps, the oldest first; the n-th has put generation n in force
//!   kek                           16 letters of hex: check value of the KEK behind it
//!   raft_index, sha256            the entry that it was
//! checksum                        ours: SHA-256 (hex) of the document with 64 zeros in this place
//! ```
//!
//! Our fields are additive: a lenient reader of version 2 ignores them. `cutovers` and what is in it, `retired` and `rewraps` are left
//! out where there is nothing to say. Reading is strict: an unknown, duplicate or
//! missing field, a non-canonical id or a wrong size is an error, and a document of ours must equal its own
//! re-encoding byte for byte, so that no damage can hide in what a parser forgives.

mod document;
mod read;
mod write;

pub use read::decode;
pub use write::encode;

use crate::ids::{DekId, Purpose, RaftIndex};

/// The version that is written.
pub const VERSION: u64 = 2;

const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why bytes are not a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidecarError {
    /// Not JSON, or not of the documented shape (unknown, duplicate or missing field, wrong type).
    #[error("the sidecar is not of the documented shape: {0}")]
    Shape(String),
    /// A version that this build does not read.
    #[error("the sidecar has version {got}; this build reads 1 and 2, so start the build that wrote it")]
    Version {
        /// The version found.
        got: u64,
    },
    /// A key id that is not a canonical decimal `u32`.
    #[error("the sidecar has the key id {got:?}, which is not a canonical decimal number")]
    KeyIdFormat {
        /// The id as found.
        got: String,
    },
    /// Key id 0, which is reserved.
    #[error("the sidecar has an entry for the reserved key id 0")]
    ReservedKeyId,
    /// A key that is both there and retired.
    #[error("the sidecar has key {id} and says that it is retired")]
    RetiredAndKept {
        /// The key.
        id: DekId,
    },
    /// A purpose other than the two.
    #[error("the sidecar gives key {id} the unknown purpose {got:?}")]
    Purpose {
        /// The key.
        id: DekId,
        /// The purpose as found.
        got: String,
    },
    /// An active id without an entry.
    #[error("the sidecar's active {purpose:?} key {id} has no entry")]
    ActiveKeyMissing {
        /// The slot.
        purpose: Purpose,
        /// The id in it.
        id: DekId,
    },
    /// An active id whose entry has the other purpose.
    #[error("the sidecar's active {purpose:?} key {id} has the other purpose")]
    ActivePurposeMismatch {
        /// The slot.
        purpose: Purpose,
        /// The id in it.
        id: DekId,
    },
    /// A value of the wrong size or encoding.
    #[error("the sidecar's field {field} is of the wrong size or encoding")]
    Value {
        /// Which field.
        field: &'static str,
    },
    /// Indices that contradict each other.
    #[error("the sidecar names an entry at index {named} above its own index {own}")]
    IndexOrder {
        /// The index named.
        named: RaftIndex,
        /// `raft_applied_index`.
        own: RaftIndex,
    },
    /// A switch that says something else than the entry that is named behind it.
    #[error("the sidecar's switch of the {0:?} envelope and the entry that it names behind it do not agree")]
    CutoverMismatch(Purpose),
    /// Some of our fields are there and some are not.
    #[error("the sidecar has only some of the fields that this build writes: {missing} is missing")]
    HalfOurs {
        /// The first missing field.
        missing: &'static str,
    },
    /// The checksum does not match the content.
    #[error("the sidecar's checksum does not match its content: the file is damaged")]
    Checksum,
    /// The content is right and the bytes are not those that this build writes.
    #[error("the sidecar is not in canonical form: it was edited by something else")]
    NotCanonical,
}

#[cfg(test)]
pub(crate) mod tests;
