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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;
    use crate::cipher::Cipher;
    use crate::envelope::Envelope;
    use crate::nonce::COUNT_MAX;
    use crate::nonce::Nonce;
    use crate::secret::Dek;

    const EPOCH: LocalEpoch = LocalEpoch(7);

    fn id() -> DekId {
        DekId::new(2).expect("not 0")
    }

    fn keystore() -> Arc<Keystore> {
        let keystore = Keystore::new();
        keystore.set(id(), Dek::new([0xab; 32])).expect("no conflict");
        Arc::new(keystore)
    }

    fn sealer(purpose: Purpose) -> Sealer {
        Sealer::new(purpose, id(), EPOCH, 0x1234, &keystore()).expect("the key is loaded")
    }

    fn nonce(envelope: &[u8]) -> Nonce {
        Envelope::decode(envelope).expect("it was just sealed").nonce
    }

    #[test]
    fn there_is_no_sealer_of_a_key_that_is_not_loaded() {
        assert!(Sealer::new(Purpose::Raft, id(), EPOCH, 0x1234, &Keystore::new()).is_none());
    }

    #[test]
    fn what_it_seals_opens_and_carries_the_claim() {
        let cipher = Cipher::new(keystore());
        let entry = sealer(Purpose::Raft).seal_entry(b"entry").expect("nonces are left");
        assert_eq!(raft::open(&cipher, &entry).as_deref(), Ok(&b"entry"[..]));
        let value = sealer(Purpose::Storage).seal_value(5, b"key", b"value").expect("nonces are left");
        assert_eq!(storage::open(&cipher, 5, b"key", &value).as_deref(), Ok(&b"value"[..]));
        for envelope in [entry, value] {
            assert_eq!(nonce(&envelope), Nonce::new(0x1234, EPOCH, 1));
            assert_eq!(Envelope::decode(&envelope).map(|envelope| envelope.key_id), Ok(id()));
        }
    }

    #[test]
    fn the_key_of_one_purpose_does_not_seal_for_the_other_and_no_nonce_is_used_up() {
        let raft = sealer(Purpose::Raft);
        let error = SealError::WrongPurpose { purpose: Purpose::Raft };
        assert_eq!(raft.seal_value(0, b"key", b"value"), Err(error));
        let storage = sealer(Purpose::Storage);
        let error = SealError::WrongPurpose { purpose: Purpose::Storage };
        assert_eq!(storage.seal_entry(b"entry"), Err(error));
        assert_eq!((raft.nonces().issued(), storage.nonces().issued()), (0, 0));
    }

    #[test]
    fn the_last_nonce_seals_and_nothing_is_sealed_after_it() {
        let exhausted = SealError::NonceExhausted(NonceExhausted { node16: 0x1234, epoch: EPOCH });
        for purpose in [Purpose::Storage, Purpose::Raft] {
            let nonces = NonceFactory::starting_after(0x1234, EPOCH, COUNT_MAX - 1);
            let sealer = Sealer::with_nonces(purpose, id(), nonces, &keystore()).expect("loaded");
            let seal = || match purpose {
                Purpose::Storage => sealer.seal_value(0, b"key", b"value"),
                Purpose::Raft => sealer.seal_entry(b"entry"),
            };
            assert_eq!(nonce(&seal().expect("one nonce is left")).count(), COUNT_MAX);
            assert_eq!(seal(), Err(exhausted));
            assert_eq!(seal(), Err(exhausted));
        }
    }

    #[test]
    fn threads_that_share_it_never_seal_with_the_same_nonce() {
        let sealer = Arc::new(sealer(Purpose::Storage));
        let seal = || -> Vec<u64> {
            let value = |_| sealer.seal_value(0, b"key", b"value").expect("nonces are left");
            (0..500).map(value).map(|value| nonce(&value).count()).collect()
        };
        let counts: BTreeSet<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(seal)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it only seals")).collect()
        });
        assert_eq!(counts, (1..=4_000).collect());
    }

    #[test]
    fn it_outlives_the_removal_of_its_key() {
        let keystore = keystore();
        let sealer = Sealer::new(Purpose::Raft, id(), EPOCH, 0x1234, &keystore).expect("loaded");
        assert!(keystore.remove(id()));
        assert!(sealer.seal_entry(b"entry").is_ok());
    }

    #[test]
    fn debug_shows_the_claim_and_no_key_bytes() {
        let shown = format!("{:?}", sealer(Purpose::Raft));
        assert_eq!(
            shown,
            "Sealer { purpose: Raft, key_id: DekId(2), \
             nonces: NonceFactory { node16: 4660, epoch: LocalEpoch(7), issued: 0 }, .. }"
        );
    }
}
