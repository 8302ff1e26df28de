//! What a leader seals with under one claim: one key, one epoch, one source of nonces.

use std::fmt;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;

use crate::cipher::TooLong;
use crate::envelope::{raft, storage};
use crate::ids::{DekId, LocalEpoch, Purpose};
use crate::keystore::Keystore;
use crate::nonce::{NonceExhausted, NonceFactory};

/// Seals under the key and epoch of one claim, each time with a nonce that it never used before. Meant to be shared
/// behind an [`Arc`] by every thread that seals under the claim, and dropped with it.
///
/// It holds on to its key, so that a rotation or a retirement between two calls does not fail the second; whether the
/// claim still counts is its caller's to know.
pub struct Sealer {
    purpose: Purpose,
    key_id: DekId,
    aead: Arc<Aes256Gcm>,
    nonces: NonceFactory,
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key of one purpose was asked to seal for the other.
    #[error("the key of this claim is for {purpose:?} alone; claim the other purpose's")]
    WrongPurpose {
        /// What the key is for.
        purpose: Purpose,
    },
    /// The claim has no nonce left. It never gets another one.
    #[error(transparent)]
    NonceExhausted(#[from] NonceExhausted),
    /// The plaintext does not fit under one nonce.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl Sealer {
    /// The sealer of a claim, to be made once for each: another one of the same key, node and epoch would use the same
    /// nonces again. `None` where the key is not loaded.
    pub fn new(
        purpose: Purpose,
        key_id: DekId,
        epoch: LocalEpoch,
        node16: u16,
        keystore: &Keystore,
    ) -> Option<Sealer> {
        Sealer::with_nonces(purpose, key_id, NonceFactory::new(node16, epoch), keystore)
    }

    /// A sealer that takes its nonces from here. `None` where the key is not loaded.
    pub fn with_nonces(
        purpose: Purpose,
        key_id: DekId,
        nonces: NonceFactory,
        keystore: &Keystore,
    ) -> Option<Sealer> {
        Some(Sealer { purpose, key_id, aead: keystore.aead(key_id)?, nonces })
    }

    /// Seals a value into the body that belongs behind the header
    /// [`ValueHeader::encrypted`](storage::ValueHeader::encrypted) with the same `expire_at`, under `table_key`.
    ///
    /// # Errors
    /// All of [`SealError`]; no nonce is used up by [`SealError::WrongPurpose`].
    pub fn seal_value(&self, expire_at: u64, table_key: &[u8], value: &[u8]) -> Result<Vec<u8>, SealError> {
        self.demand(Purpose::Storage)?;
        let nonce = self.nonces.next()?;
        Ok(storage::seal_with(&self.aead, self.key_id, &nonce, expire_at, table_key, value)?)
    }

    /// Seals a log entry's payload into its envelope.
    ///
    /// # Errors
    /// All of [`SealError`]; no nonce is used up by [`SealError::WrongPurpose`].
    pub fn seal_entry(&self, payload: &[u8]) -> Result<Vec<u8>, SealError> {
        self.demand(Purpose::Raft)?;
        let nonce = self.nonces.next()?;
        Ok(raft::seal_with(&self.aead, self.key_id, &nonce, payload)?)
    }

    fn demand(&self, purpose: Purpose) -> Result<(), SealError> {
        if self.purpose == purpose { Ok(()) } else { Err(SealError::WrongPurpose { purpose: self.purpose }) }
    }

    /// What its key is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Its key.
    pub const fn key_id(&self) -> DekId {
        self.key_id
    }

    /// Its nonces: node, epoch, and how many were issued.
    pub const fn nonces(&self) -> &NonceFactory {
        &self.nonces
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("purpose", &self.purpose)
            .field("key_id", &self.key_id)
            .field("nonces", &self.nonces)
            .finish_non_exhaustive()
    }
}
