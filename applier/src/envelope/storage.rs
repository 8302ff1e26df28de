//! Values at rest in envelopes. A stored value is a header of 9 bytes and a body:
//!
//! ```text
//! flags u8 | expire_at u64 LE | body
//!
//! flags   bit 0      tombstone
//!         bits 1, 2  what the body is: 0 clear, 1 an envelope; 2 and 3 are set aside
//!         bits 3-7   0
//! ```
//!
//! The envelope is bound to the value's header and to the key of the table under which it is stored, so that neither
//! can be exchanged. Its associated data are
//!
//! ```text
//! version u8 | flag u8 | key_id u32 BE | header 9 | table key
//! ```
//!
//! A tombstone has nothing to hide and stays clear.

use std::borrow::Cow;

use aes_gcm::Aes256Gcm;

use super::{Envelope, OpenError, Parts};
use crate::cipher::{self, Cipher, CipherError, TooLong};
use crate::ids::DekId;
use crate::nonce::Nonce;

/// Set on a value that stands for its own deletion.
const TOMBSTONE: u8 = 1;
/// The two bits for the state of the body, where that is an envelope.
const STATE_ENCRYPTED: u8 = 0b010;

/// What stands before the body of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueHeader {
    /// What the body is.
    pub kind: ValueKind,
    /// When the value expires, in the unit of the host's clock; 0 is never.
    pub expire_at: u64,
}

/// What the body of a stored value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// The value itself.
    Clear,
    /// An envelope with the value in it.
    Encrypted,
    /// Nothing of meaning: the value was deleted.
    Tombstone,
}

/// Why bytes are no header of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than [`ValueHeader::LEN`].
    #[error(
        "{len} bytes are no stored value: its header has {}; restore it from a healthy replica",
        ValueHeader::LEN
    )]
    Short {
        /// The bytes that are there.
        len: usize,
    },
    /// A bit or a state that is set aside, or a tombstone that says it is encrypted.
    #[error("a stored value with flags {0:#04x}, which nothing writes; restore it from a healthy replica")]
    Flags(u8),
}

impl ValueHeader {
    /// Length in bytes.
    pub const LEN: usize = 9;

    /// The header of a value in the clear.
    pub const fn clear(expire_at: u64) -> ValueHeader {
        ValueHeader { kind: ValueKind::Clear, expire_at }
    }

    /// The header of a value in an envelope.
    pub const fn encrypted(expire_at: u64) -> ValueHeader {
        ValueHeader { kind: ValueKind::Encrypted, expire_at }
    }

    /// The header of a deletion.
    pub const fn tombstone(expire_at: u64) -> ValueHeader {
        ValueHeader { kind: ValueKind::Tombstone, expire_at }
    }

    /// The header as it is stored.
    pub const fn encode(&self) -> [u8; ValueHeader::LEN] {
        let flags = match self.kind {
            ValueKind::Clear => 0,
            ValueKind::Encrypted => STATE_ENCRYPTED,
            ValueKind::Tombstone => TOMBSTONE,
        };
        let [a, b, c, d, e, f, g, h] = self.expire_at.to_le_bytes();
        [flags, a, b, c, d, e, f, g, h]
    }

    /// The header at the beginning of a stored value, and the body behind it.
    ///
    /// # Errors
    /// All of [`HeaderError`].
    pub fn split(stored: &[u8]) -> Result<(ValueHeader, &[u8]), HeaderError> {
        let short = HeaderError::Short { len: stored.len() };
        let ([flags, expire_at @ ..], body) =
            stored.split_first_chunk::<{ ValueHeader::LEN }>().ok_or(short)?;
        let kind = match *flags {
            0 => ValueKind::Clear,
            STATE_ENCRYPTED => ValueKind::Encrypted,
            TOMBSTONE => ValueKind::Tombstone,
            flags => return Err(HeaderError::Flags(flags)),
        };
        Ok((ValueHeader { kind, expire_at: u64::from_le_bytes(*expire_at) }, body))
    }
}

/// Length of the associated data before the table key, in bytes.
const AAD_FIXED_LEN: usize = 6 + ValueHeader::LEN;

/// Associated data up to this length are built on the stack.
const AAD_STACK_LEN: usize = 128;

/// Calls with the associated data of a value: the prefix of its envelope, its header, its table key.
fn with_aad<T>(key_id: DekId, expire_at: u64, table_key: &[u8], call: impl FnOnce(&[u8]) -> T) -> T {
    let mut fixed = [0; AAD_FIXED_LEN];
    fixed[..6].copy_from_slice(&super::prefix(key_id));
    fixed[6..].copy_from_slice(&ValueHeader::encrypted(expire_at).encode());
    let mut stack = [0; AAD_STACK_LEN];
    match stack.get_mut(..AAD_FIXED_LEN + table_key.len()) {
        Some(aad) => {
            aad[..AAD_FIXED_LEN].copy_from_slice(&fixed);
            aad[AAD_FIXED_LEN..].copy_from_slice(table_key);
            call(aad)
        }
        None => call(&[&fixed[..], table_key].concat()),
    }
}

/// Seals a value into a body for the header [`ValueHeader::encrypted`] with the same `expire_at`, under `table_key`.
/// The nonce has to be one that nothing else was sealed with under this key: use a [`Sealer`](crate::Sealer) where
/// there is no reason to bring one's own.
///
/// # Errors
/// [`CipherError::UnknownKeyId`], [`CipherError::TooLong`].
pub fn seal(
    cipher: &Cipher,
    key_id: DekId,
    nonce: &Nonce,
    expire_at: u64,
    table_key: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, CipherError> {
    Ok(cipher.with(key_id, |aead| seal_with(aead, key_id, nonce, expire_at, table_key, value))??)
}

pub(crate) fn seal_with(
    aead: &Aes256Gcm,
    key_id: DekId,
    nonce: &Nonce,
    expire_at: u64,
    table_key: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, TooLong> {
    with_aad(key_id, expire_at, table_key, |aad| super::seal(aead, key_id, nonce, aad, value))
}

/// Opens the body of a value whose header is [`ValueHeader::encrypted`] with this `expire_at`.
///
/// # Errors
/// All of [`OpenError`] but [`CipherError::TooLong`].
pub fn open(cipher: &Cipher, expire_at: u64, table_key: &[u8], body: &[u8]) -> Result<Vec<u8>, OpenError> {
    let envelope = Envelope::decode(body)?;
    let open =
        |aead: &Aes256Gcm| with_aad(envelope.key_id, expire_at, table_key, |aad| envelope.open(aead, aad));
    Ok(cipher.with(envelope.key_id, open)??)
}

/// Why a stored value is not read. But for a key that is not loaded yet, its bytes are not those that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Its header says what no header says.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its envelope does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It says that it is clear, and is an envelope of this table key under a loaded key: its header was changed.
    #[error("a value that calls itself clear is sealed under key {0}; restore it from a healthy replica")]
    Rebadged(DekId),
}

/// Reads a value as it is stored, header and body: the header, and the value in the clear.
///
/// The header of a clear value is bound to nothing, so that whoever can write to the disk could turn an encrypted value
/// into one that reads as its own ciphertext, or as deleted. That is found out: a body that has the shape of an envelope
/// is opened for trial under every loaded key, whichever it names, with `expire_at` as found and with 0.
///
/// # Errors
/// All of [`ReadError`]. Nothing of a value that fails is returned.
pub fn read<'a>(
    cipher: &Cipher,
    table_key: &[u8],
    stored: &'a [u8],
) -> Result<(ValueHeader, Cow<'a, [u8]>), ReadError> {
    let (header, body) = ValueHeader::split(stored)?;
    match header.kind {
        ValueKind::Encrypted => Ok((header, open(cipher, header.expire_at, table_key, body)?.into())),
        ValueKind::Clear | ValueKind::Tombstone => {
            match rebadged(cipher, header.expire_at, table_key, body) {
                Some(key_id) => Err(ReadError::Rebadged(key_id)),
                None => Ok((header, body.into())),
            }
        }
    }
}

/// The loaded key under which a body that calls itself clear opens.
fn rebadged(cipher: &Cipher, expire_at: u64, table_key: &[u8], body: &[u8]) -> Option<DekId> {
    // The named key is no hint: whoever changed the header may have changed that, too. What else stands in the prefix
    // is the same in every envelope.
    let (_, envelope) = Parts::split(body).ok()?;
    let mut text = envelope.ciphertext.to_vec();
    let mut opens = |aead: &Aes256Gcm, key_id, expire_at| {
        with_aad(key_id, expire_at, table_key, |aad| {
            cipher::open_in_place(aead, &envelope.nonce, aad, &mut text, envelope.tag).is_some()
        })
    };
    cipher.keystore().find_aead(|key_id, aead| {
        opens(aead, key_id, expire_at) || (expire_at != 0 && opens(aead, key_id, 0))
    })
}

#[cfg(test)]
mod tests;
