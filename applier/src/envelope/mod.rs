//! Sealed bytes that say under which key and nonce they were sealed:
//!
//! ```text
//! version 0x01 | flag u8 | key_id u32 BE | nonce 12 | ciphertext | tag 16
//! `---------------- header, 18 bytes --------------'
//! ```
//!
//! An envelope is 34 bytes longer than what is in it. The bits of the flag are set aside for what a later version does
//! to the plaintext before sealing; nothing writes one, so any is refused. Two kinds of bytes come in envelopes, bound
//! to where they belong by different associated data: values at rest ([`storage`]) and log entries ([`raft`]).
//!
//! Every byte of an envelope is either checked when it is decoded or authenticated when it is opened: there is no other
//! envelope that opens in the same place to the same plaintext.

use aes_gcm::Aes256Gcm;

use crate::cipher::{self, CipherError, TAG_LEN, TooLong};
use crate::ids::DekId;
use crate::nonce::Nonce;

pub mod raft;
pub mod storage;

/// First byte of every envelope.
pub const VERSION: u8 = 0x01;

/// Second byte of every envelope.
pub const FLAG_NONE: u8 = 0x00;

/// Length of what stands before the ciphertext, in bytes.
pub const HEADER_LEN: usize = 1 + 1 + 4 + Nonce::LEN;

/// By how much an envelope is longer than what is in it, in bytes. It is also the length of the shortest envelope.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// The parts of an envelope. That it decodes says nothing about whether it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The key that it says it is sealed under.
    pub key_id: DekId,
    /// The nonce that it says it is sealed with.
    pub nonce: Nonce,
    /// As long as the plaintext.
    pub ciphertext: &'a [u8],
    /// The last bytes of the envelope.
    pub tag: &'a [u8; TAG_LEN],
}

/// Why bytes are no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than an envelope of nothing.
    #[error("{len} bytes are no envelope: the shortest has {OVERHEAD}; restore it from a healthy replica")]
    Short {
        /// The bytes that are there.
        len: usize,
    },
    /// Not [`VERSION`].
    #[error("envelope version {0}: this build reads version {VERSION} alone; upgrade it")]
    Version(u8),
    /// Not [`FLAG_NONE`].
    #[error("envelope flag {0:#04x}: this build reads envelopes without flags alone; upgrade it")]
    Flag(u8),
    /// The key id is 0, which is that of no key.
    #[error("the envelope names key 0, which does not exist; restore it from a healthy replica")]
    ReservedKeyId,
}

/// Why an envelope does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is none.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its key is not loaded, or it does not authenticate.
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart. Whatever is between header and tag is ciphertext.
    ///
    /// # Errors
    /// In the order of the checks: length, version, flag, key id.
    pub fn decode(bytes: &'a [u8]) -> Result<Envelope<'a>, EnvelopeError> {
        let (key_id, parts) = Parts::split(bytes)?;
        let key_id = DekId::new(key_id).ok_or(EnvelopeError::ReservedKeyId)?;
        let Parts { nonce, ciphertext, tag } = parts;
        Ok(Envelope { key_id, nonce, ciphertext, tag })
    }

    /// The plaintext, or the typed refusal.
    fn open(&self, aead: &Aes256Gcm, aad: &[u8]) -> Result<Vec<u8>, CipherError> {
        cipher::opened(aead, &self.nonce, aad, self.ciphertext, self.tag)
            .ok_or(CipherError::Integrity(self.key_id))
    }
}

/// What has the shape of an envelope, whichever key it names.
struct Parts<'a> {
    nonce: Nonce,
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Parts<'a> {
    /// The named key id, which may be 0, and the other parts.
    fn split(bytes: &'a [u8]) -> Result<(u32, Parts<'a>), EnvelopeError> {
        let short = EnvelopeError::Short { len: bytes.len() };
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(short)?;
        let [version, flag, a, b, c, d, nonce @ ..] = *header;
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        if flag != FLAG_NONE {
            return Err(EnvelopeError::Flag(flag));
        }
        let key_id = u32::from_be_bytes([a, b, c, d]);
        Ok((key_id, Parts { nonce: Nonce::from_bytes(nonce), ciphertext, tag }))
    }
}

/// Builds an envelope with one allocation, of exactly its length.
fn seal(
    aead: &Aes256Gcm,
    key_id: DekId,
    nonce: &Nonce,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let mut envelope = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD));
    envelope.extend_from_slice(&header(key_id, nonce));
    cipher::append_sealed(aead, nonce, aad, plaintext, &mut envelope)?;
    Ok(envelope)
}

fn header(key_id: DekId, nonce: &Nonce) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..6].copy_from_slice(&prefix(key_id));
    header[6..].copy_from_slice(nonce.as_bytes());
    header
}

/// The first six bytes of an envelope: version, flag, key id.
const fn prefix(key_id: DekId) -> [u8; 6] {
    let [a, b, c, d] = key_id.get().to_be_bytes();
    [VERSION, FLAG_NONE, a, b, c, d]
}

#[cfg(test)]
mod tests;
