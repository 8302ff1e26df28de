//! Log entries in envelopes. What is sealed is the entry's whole payload, and the associated data has 6 bytes, which
//! keep a value at rest from passing for an entry:
//!
//! ```text
//! 'R' 0x52 | version 0x01 | key_id u32 BE
//! ```
//!
//! An entry is not bound to its index: the proposer does not know it yet. That entries stay in their places is what the
//! log promises.

use aes_gcm::Aes256Gcm;

use super::{Envelope, OpenError, VERSION};
use crate::cipher::{Cipher, CipherError, TooLong};
use crate::ids::DekId;
use crate::nonce::Nonce;

/// First byte of the associated data.
const DOMAIN: u8 = b'R';

/// The associated data of entries under a key.
pub const fn aad(key_id: DekId) -> [u8; 6] {
    let [a, b, c, d] = key_id.get().to_be_bytes();
    [DOMAIN, VERSION, a, b, c, d]
}

/// Seals an entry's payload. The nonce has to be one that nothing else was sealed with under this key: use a
/// [`Sealer`](crate::Sealer) where there is no reason to bring one's own.
///
/// # Errors
/// [`CipherError::UnknownKeyId`], [`CipherError::TooLong`].
pub fn seal(cipher: &Cipher, key_id: DekId, nonce: &Nonce, payload: &[u8]) -> Result<Vec<u8>, CipherError> {
    Ok(cipher.with(key_id, |aead| seal_with(aead, key_id, nonce, payload))??)
}

pub(crate) fn seal_with(
    aead: &Aes256Gcm,
    key_id: DekId,
    nonce: &Nonce,
    payload: &[u8],
) -> Result<Vec<u8>, TooLong> {
    super::seal(aead, key_id, nonce, &aad(key_id), payload)
}

/// Opens an entry's envelope and returns the payload.
///
/// # Errors
/// All of [`OpenError`] but [`CipherError::TooLong`].
pub fn open(cipher: &Cipher, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
    let envelope = Envelope::decode(bytes)?;
    Ok(cipher.with(envelope.key_id, |aead| envelope.open(aead, &aad(envelope.key_id)))??)
}
