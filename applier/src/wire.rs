//! The payload of an encryption entry in the Raft log, byte for byte that of the reference system.
//!
//! All integers are big-endian, all lengths count bytes. A payload is an opcode and a body, and every body begins
//! with the version byte 1:
//!
//! ```text
//! payload       opcode u8 | body
//! row           dek_id u32 | full_node_id u64 | local_epoch u16                                   (14 bytes)
//!
//! 0x03 registration  version u8 | row                                                             (15 bytes)
//! 0x04 bootstrap     version u8 | storage_id u32 | len u32 | wrapped_storage
//!                               | raft_id u32    | len u32 | wrapped_raft
//!                               | count u32 | count * row
//! 0x05 rotation      version u8 | sub_tag u8 | dek_id u32 | purpose u8 | len u32 | wrapped | row
//!      rewrap        version u8 | 0x02 | generation u32 | kek_check 8 bytes | count u32 | count * (dek_id u32 | len u32 | wrapped)
//! 0x06, 0x07         reserved
//! ```
//!
//! A rotation's sub-tag says what it does, and what its fields mean:
//!
//! ```text
//! sub_tag  what                      dek_id, purpose        wrapped   row
//! 0x01     installs a key            the new key            the key   the proposer's claim under the new key
//! 0x02     wraps every key anew      (a layout of its own)
//! 0x03     retires a key             the retired key        empty     the proposer, epoch 0; registers nothing
//! 0x04     enables the storage       the active storage     empty     the proposer's claim under that key
//!          envelope                  key
//! 0x05     enables the raft          the active raft key    empty     the proposer's claim under that key
//!          envelope
//! ```
//!
//! The reference system plans 0x02 and 0x03 and writes neither; their layouts are this crate's own.
//!
//! The codec knows shapes alone. Ids may be 0 and wrapped keys empty here; whether an entry makes sense is judged by
//! [`crate::apply`]. Nothing that it decodes borrows from the payload, and nothing is allocated for bytes that are
//! not there.

mod error;

pub use error::{Field, MalformedKind, WireError};

use crate::ids::Purpose;

/// First byte of a registration.
pub const OP_REGISTRATION: u8 = 0x03;
/// First byte of a bootstrap.
pub const OP_BOOTSTRAP: u8 = 0x04;
/// First byte of a rotation.
pub const OP_ROTATION: u8 = 0x05;
/// The last of the bytes that belong to encryption entries; the two after [`OP_ROTATION`] are reserved.
pub const OP_LAST: u8 = 0x07;

/// The only version of every body.
pub const VERSION: u8 = 0x01;

/// Length of an encoded [`Row`] in bytes.
pub const ROW_LEN: usize = 14;

/// Length of a registration's body in bytes: the version and one row.
pub const REGISTRATION_LEN: usize = 1 + ROW_LEN;

/// A bootstrap's body without wrapped keys and rows: version, two ids, two lengths, the count.
const BOOTSTRAP_FIXED_LEN: usize = 1 + 5 * 4;

/// A rotation's body without the wrapped key: version, sub-tag, id, purpose, length, row.
const ROTATION_FIXED_LEN: usize = 1 + 1 + 4 + 1 + 4 + ROW_LEN;

/// The most rows that a bootstrap may carry.
pub const BATCH_ROWS_MAX: u32 = 1 << 14;

/// The most keys that a rewrap may carry.
pub const REWRAP_KEYS_MAX: u32 = 1 << 12;

/// A rotation's sub-tag for a [`Rewrap`].
pub const SUBTAG_REWRAP: u8 = 0x02;

/// A rewrap's body without its keys: version, sub-tag, generation, check value, count.
const REWRAP_FIXED_LEN: usize = 1 + 1 + 4 + 8 + 4;

/// A key of a rewrap without its wrapped bytes: id, length.
const REWRAP_KEY_FIXED_LEN: usize = 4 + 4;

/// Whether a payload that begins with this byte belongs to the encryption applier. The reserved opcodes do: they
/// have to stop a node that does not know them, not reach another decoder.
pub const fn is_encryption_opcode(byte: u8) -> bool {
    matches!(byte, OP_REGISTRATION..=OP_LAST)
}

/// One decoded encryption entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A writer's claim of an epoch under a key.
    Registration(Row),
    /// The first pair of keys.
    Bootstrap(Bootstrap),
    /// A change of one purpose's key, or of what is encrypted.
    Rotation(Rotation),
    /// Every key, wrapped under a new KEK.
    Rewrap(Rewrap),
}

/// A writer's claim as it stands on the wire: unchecked, ids may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key that the writer uses.
    pub dek_id: u32,
    /// The writer's full identity.
    pub full_node_id: u64,
    /// The epoch that it writes under.
    pub local_epoch: u16,
}

/// The body of a bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Id of the key for values at rest.
    pub storage_id: u32,
    /// That key, wrapped by the KEK.
    pub wrapped_storage: Vec<u8>,
    /// Id of the key for log entries.
    pub raft_id: u32,
    /// That key, wrapped by the KEK.
    pub wrapped_raft: Vec<u8>,
    /// The first writers, at most [`BATCH_ROWS_MAX`].
    pub batch: Vec<Row>,
}

/// The body of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// What kind of change it is.
    pub subtag: RotationKind,
    /// The key that it installs or, where it switches an envelope on, the key then in use.
    pub dek_id: u32,
    /// What that key encrypts.
    pub purpose: Purpose,
    /// The key, wrapped by the KEK; empty where it only switches an envelope on.
    pub wrapped: Vec<u8>,
    /// The proposer's own claim.
    pub proposer: Row,
}

/// The body of a rewrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrap {
    /// Number of the KEK that wraps the keys from here on: one above that of the KEK in force, which begins at 0.
    pub generation: u32,
    /// Check value of that KEK (see [`crate::ports::KekCheck`]).
    pub kek_check: [u8; 8],
    /// Every key that is not retired and its new wrapping, at most [`REWRAP_KEYS_MAX`].
    pub keys: Vec<(u32, Vec<u8>)>,
}

/// The kinds of rotation with the layout of one. Sub-tag 0x02 is that of a [`Rewrap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationKind {
    /// 0x01: installs a new key and makes it the active one of its purpose.
    RotateDek,
    /// 0x03: a key and its rows go for good.
    RetireDek,
    /// 0x04: values are encrypted from here on.
    EnableStorageEnvelope,
    /// 0x05: log entries are encrypted from here on.
    EnableRaftEnvelope,
}

impl RotationKind {
    /// The kind behind a sub-tag, or `None`.
    pub const fn from_wire(byte: u8) -> Option<RotationKind> {
        match byte {
            0x01 => Some(RotationKind::RotateDek),
            0x03 => Some(RotationKind::RetireDek),
            0x04 => Some(RotationKind::EnableStorageEnvelope),
            0x05 => Some(RotationKind::EnableRaftEnvelope),
            _ => None,
        }
    }

    /// The sub-tag.
    pub const fn to_wire(self) -> u8 {
        match self {
            RotationKind::RotateDek => 0x01,
            RotationKind::RetireDek => 0x03,
            RotationKind::EnableStorageEnvelope => 0x04,
            RotationKind::EnableRaftEnvelope => 0x05,
        }
    }
}

impl Entry {
    /// Decodes a whole payload, opcode included.
    ///
    /// The order of the checks is part of the format, since it decides which error is reported: a registration's
    /// length comes before its version; elsewhere the fields are checked as they stand, a batch's row limit before
    /// the room for its rows, and trailing bytes last.
    pub fn decode(payload: &[u8]) -> Result<Entry, WireError> {
        let (&opcode, body) = payload.split_first().ok_or(WireError::Empty)?;
        match opcode {
            OP_REGISTRATION => decode_registration(body).map(Entry::Registration),
            OP_BOOTSTRAP => decode_bootstrap(body).map(Entry::Bootstrap),
            OP_ROTATION => decode_rotation(body),
            got => Err(WireError::Opcode { got }),
        }
    }

    /// Encodes a whole payload, opcode included. Nothing is checked: a batch longer than [`BATCH_ROWS_MAX`] encodes
    /// to a payload that does not decode.
    ///
    /// # Panics
    /// When a wrapped key or the batch is longer than a `u32` counts.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Entry::Registration(row) => {
                let mut out = start(OP_REGISTRATION, REGISTRATION_LEN);
                put_row(&mut out, row);
                out
            }
            Entry::Bootstrap(entry) => {
                let wrapped_len = entry.wrapped_storage.len() + entry.wrapped_raft.len();
                let mut out =
                    start(OP_BOOTSTRAP, BOOTSTRAP_FIXED_LEN + wrapped_len + entry.batch.len() * ROW_LEN);
                put_wrapped(&mut out, entry.storage_id, None, &entry.wrapped_storage);
                put_wrapped(&mut out, entry.raft_id, None, &entry.wrapped_raft);
                put_len(&mut out, entry.batch.len());
                entry.batch.iter().for_each(|row| put_row(&mut out, row));
                out
            }
            Entry::Rotation(entry) => {
                let mut out = start(OP_ROTATION, ROTATION_FIXED_LEN + entry.wrapped.len());
                out.push(entry.subtag.to_wire());
                put_wrapped(&mut out, entry.dek_id, Some(entry.purpose), &entry.wrapped);
                put_row(&mut out, &entry.proposer);
                out
            }
            Entry::Rewrap(entry) => {
                let keys_len: usize =
                    entry.keys.iter().map(|(_, wrapped)| REWRAP_KEY_FIXED_LEN + wrapped.len()).sum();
                let mut out = start(OP_ROTATION, REWRAP_FIXED_LEN + keys_len);
                out.push(SUBTAG_REWRAP);
                out.extend(entry.generation.to_be_bytes());
                out.extend(entry.kek_check);
                put_len(&mut out, entry.keys.len());
                entry.keys.iter().for_each(|(id, wrapped)| put_wrapped(&mut out, *id, None, wrapped));
                out
            }
        }
    }
}

fn decode_registration(body: &[u8]) -> Result<Row, WireError> {
    if body.len() != REGISTRATION_LEN {
        return Err(MalformedKind::RegistrationLength { got: body.len() }.into());
    }
    let mut fields = Fields::after_version(body)?;
    let row = fields.row()?;
    fields.end()?;
    Ok(row)
}

fn decode_bootstrap(body: &[u8]) -> Result<Bootstrap, WireError> {
    let mut fields = Fields::after_version(body)?;
    let storage_id = fields.u32(Field::StorageId)?;
    let wrapped_storage = fields.counted(Field::WrappedStorageLen, Field::WrappedStorage)?;
    let raft_id = fields.u32(Field::RaftId)?;
    let wrapped_raft = fields.counted(Field::WrappedRaftLen, Field::WrappedRaft)?;
    let count = fields.u32(Field::BatchCount)?;
    if count > BATCH_ROWS_MAX {
        return Err(MalformedKind::BatchRows { got: count }.into());
    }
    let (rows, _) = fields.slice(Field::Batch, u64::from(count) * ROW_LEN as u64)?.as_chunks::<ROW_LEN>();
    let batch = rows.iter().copied().map(Row::from_wire).collect();
    fields.end()?;
    Ok(Bootstrap { storage_id, wrapped_storage, raft_id, wrapped_raft, batch })
}

fn decode_rotation(body: &[u8]) -> Result<Entry, WireError> {
    let mut fields = Fields::after_version(body)?;
    let got = fields.u8(Field::Subtag)?;
    if got == SUBTAG_REWRAP {
        return decode_rewrap(fields).map(Entry::Rewrap);
    }
    let subtag = RotationKind::from_wire(got).ok_or(WireError::Subtag { got })?;
    let dek_id = fields.u32(Field::DekId)?;
    let got = fields.u8(Field::Purpose)?;
    let purpose = Purpose::from_wire(got).ok_or(MalformedKind::Purpose { got })?;
    let wrapped = fields.counted(Field::WrappedLen, Field::Wrapped)?;
    let proposer = fields.row()?;
    fields.end()?;
    Ok(Entry::Rotation(Rotation { subtag, dek_id, purpose, wrapped, proposer }))
}

fn decode_rewrap(mut fields: Fields<'_>) -> Result<Rewrap, WireError> {
    let generation = fields.u32(Field::Generation)?;
    let kek_check = fields.array(Field::KekCheck)?;
    let count = fields.u32(Field::KeyCount)?;
    if count > REWRAP_KEYS_MAX {
        return Err(MalformedKind::RewrapKeys { got: count }.into());
    }
    // Nothing is reserved for keys that the body has no room for.
    let mut keys = Vec::new();
    for _ in 0..count {
        let id = fields.u32(Field::DekId)?;
        keys.push((id, fields.counted(Field::WrappedLen, Field::Wrapped)?));
    }
    fields.end()?;
    Ok(Rewrap { generation, kek_check, keys })
}

impl Row {
    const fn from_wire(bytes: [u8; ROW_LEN]) -> Row {
        let [d0, d1, d2, d3, n0, n1, n2, n3, n4, n5, n6, n7, e0, e1] = bytes;
        Row {
            dek_id: u32::from_be_bytes([d0, d1, d2, d3]),
            full_node_id: u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            local_epoch: u16::from_be_bytes([e0, e1]),
        }
    }
}

/// The fields of a body that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn after_version(body: &'a [u8]) -> Result<Fields<'a>, WireError> {
        let mut fields = Fields(body);
        match fields.u8(Field::Version)? {
            VERSION => Ok(fields),
            got => Err(WireError::Version { got }),
        }
    }

    fn slice(&mut self, field: Field, needed: u64) -> Result<&'a [u8], MalformedKind> {
        let truncated = MalformedKind::Truncated { field, needed, left: self.0.len() };
        // A length beyond `usize` is beyond any slice, too.
        let needed = usize::try_from(needed).map_err(|_| truncated)?;
        let (bytes, rest) = self.0.split_at_checked(needed).ok_or(truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: Field) -> Result<[u8; N], MalformedKind> {
        let truncated = MalformedKind::Truncated { field, needed: N as u64, left: self.0.len() };
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self, field: Field) -> Result<u8, MalformedKind> {
        self.array(field).map(u8::from_be_bytes)
    }

    fn u32(&mut self, field: Field) -> Result<u32, MalformedKind> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn row(&mut self) -> Result<Row, MalformedKind> {
        self.array(Field::Row).map(Row::from_wire)
    }

    fn counted(&mut self, len: Field, bytes: Field) -> Result<Vec<u8>, MalformedKind> {
        let needed = self.u32(len)?;
        self.slice(bytes, u64::from(needed)).map(<[u8]>::to_vec)
    }

    fn end(self) -> Result<(), MalformedKind> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(MalformedKind::Trailing { bytes }),
        }
    }
}

fn start(opcode: u8, body_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + body_len);
    out.extend([opcode, VERSION]);
    out
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("the wire counts in u32");
    out.extend(len.to_be_bytes());
}

fn put_wrapped(out: &mut Vec<u8>, id: u32, purpose: Option<Purpose>, wrapped: &[u8]) {
    out.extend(id.to_be_bytes());
    out.extend(purpose.map(Purpose::to_wire));
    put_len(out, wrapped.len());
    out.extend_from_slice(wrapped);
}

fn put_row(out: &mut Vec<u8>, row: &Row) {
    out.extend(row.dek_id.to_be_bytes());
    out.extend(row.full_node_id.to_be_bytes());
    out.extend(row.local_epoch.to_be_bytes());
}

#[cfg(test)]
mod tests;
