//! AES-256-GCM (NIST SP 800-38D) over the keys of a keystore, for callers that bring nonce and associated data.
//!
//! What stands for a sealed text is its ciphertext, as long as the plaintext, and a tag of 16 bytes after it. A nonce of
//! another length than 12 bytes and the reserved key id 0 can't be asked for: their types don't hold them.
//!
//! Key bytes and key schedules stay where the keystore has them. A call borrows the schedule for its own duration, so
//! that a key that is removed meanwhile is wiped as soon as the last call under it returns.

use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;

use crate::ids::DekId;
use crate::keystore::Keystore;
use crate::nonce::Nonce;

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 16;

/// The longest plaintext that GCM seals under one nonce, in bytes: 2^36 - 32 (SP 800-38D, section 5.2.1.1).
pub const PLAINTEXT_LEN_MAX: u64 = (1 << 36) - 32;

/// Why nothing was sealed or opened. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// The key is not loaded: it was never installed on this node, or it is retired.
    #[error("key {0} is not loaded; let the node catch up with the log, or restore its sidecar")]
    UnknownKeyId(DekId),
    /// The tag does not fit: something that went into it is not what was sealed (ciphertext, tag, nonce, associated
    /// data, or the key behind the id).
    #[error("what is sealed under key {0} does not authenticate; restore it from a healthy replica")]
    Integrity(DekId),
    /// The plaintext does not fit under one nonce.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// The plaintext is longer than [`PLAINTEXT_LEN_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of plaintext do not fit under one nonce, which takes {PLAINTEXT_LEN_MAX}; split them")]
pub struct TooLong {
    /// Length of the plaintext in bytes.
    pub len: usize,
}

/// The ciphers of every key in a keystore. Cheap to clone; all clones see the same keys.
#[derive(Clone, Debug)]
pub struct Cipher {
    keystore: Arc<Keystore>,
}

impl Cipher {
    /// A cipher that finds a key as soon as, and as long as, the keystore has it.
    pub const fn new(keystore: Arc<Keystore>) -> Cipher {
        Cipher { keystore }
    }

    /// The keystore under it.
    pub const fn keystore(&self) -> &Arc<Keystore> {
        &self.keystore
    }

    /// Seals `plaintext` into `ciphertext | tag 16`.
    ///
    /// # Errors
    /// [`CipherError::UnknownKeyId`], [`CipherError::TooLong`].
    pub fn seal(
        &self,
        id: DekId,
        nonce: &Nonce,
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        let mut sealed = Vec::with_capacity(plaintext.len().saturating_add(TAG_LEN));
        self.with(id, |aead| append_sealed(aead, nonce, aad, plaintext, &mut sealed))??;
        Ok(sealed)
    }

    /// Opens `ciphertext | tag 16`.
    ///
    /// # Errors
    /// [`CipherError::UnknownKeyId`], and [`CipherError::Integrity`] also where there are not even 16 bytes.
    pub fn open(&self, id: DekId, nonce: &Nonce, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let opened = self.with(id, |aead| {
            let (ciphertext, tag) = sealed.split_last_chunk()?;
            opened(aead, nonce, aad, ciphertext, tag)
        })?;
        opened.ok_or(CipherError::Integrity(id))
    }

    /// Turns the plaintext in `text` into ciphertext and returns its tag.
    ///
    /// # Errors
    /// [`CipherError::UnknownKeyId`], [`CipherError::TooLong`]; `text` is as it was then.
    pub fn seal_in_place(
        &self,
        id: DekId,
        nonce: &Nonce,
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], CipherError> {
        Ok(self.with(id, |aead| seal_in_place(aead, nonce, aad, text))??)
    }

    /// Turns the ciphertext in `text` into plaintext, if the tag fits.
    ///
    /// # Errors
    /// [`CipherError::UnknownKeyId`], [`CipherError::Integrity`]; `text` is as it was then.
    pub fn open_in_place(
        &self,
        id: DekId,
        nonce: &Nonce,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), CipherError> {
        self.with(id, |aead| open_in_place(aead, nonce, aad, text, tag))?.ok_or(CipherError::Integrity(id))
    }

    /// Lends the cipher of a key for one call.
    pub(crate) fn with<T>(&self, id: DekId, call: impl FnOnce(&Aes256Gcm) -> T) -> Result<T, CipherError> {
        self.keystore.with_aead(id, call).ok_or(CipherError::UnknownKeyId(id))
    }
}

/// Appends `ciphertext | tag 16` to `out`, which is of no use after an error. The only copy of the plaintext that it
/// makes becomes the ciphertext.
pub(crate) fn append_sealed(
    aead: &Aes256Gcm,
    nonce: &Nonce,
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(plaintext);
    let tag = seal_in_place(aead, nonce, aad, &mut out[start..])?;
    out.extend_from_slice(&tag);
    Ok(())
}

/// The plaintext behind a ciphertext, or `None` where the tag does not fit.
pub(crate) fn opened(
    aead: &Aes256Gcm,
    nonce: &Nonce,
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8; TAG_LEN],
) -> Option<Vec<u8>> {
    let mut text = ciphertext.to_vec();
    open_in_place(aead, nonce, aad, &mut text, tag)?;
    Some(text)
}

fn seal_in_place(
    aead: &Aes256Gcm,
    nonce: &Nonce,
    aad: &[u8],
    text: &mut [u8],
) -> Result<[u8; TAG_LEN], TooLong> {
    let len = text.len();
    aead.encrypt_inout_detached(nonce.as_bytes().into(), aad, text.into())
        .map(<[u8; TAG_LEN]>::from)
        .map_err(|_| TooLong { len })
}

/// The tag is compared, in constant time, before a byte of `text` changes.
pub(crate) fn open_in_place(
    aead: &Aes256Gcm,
    nonce: &Nonce,
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Option<()> {
    aead.decrypt_inout_detached(nonce.as_bytes().into(), aad, text.into(), tag.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LocalEpoch;
    use crate::secret::Dek;

    const NONCE: Nonce = Nonce::new(1, LocalEpoch(1), 1);
    const AAD: &[u8] = b"aad";

    fn id(id: u32) -> DekId {
        DekId::new(id).expect("not 0")
    }

    fn cipher() -> Cipher {
        let keystore = Keystore::new();
        keystore.set(id(1), Dek::new([1; 32])).expect("no conflict");
        keystore.set(id(2), Dek::new([2; 32])).expect("no conflict");
        Cipher::new(Arc::new(keystore))
    }

    /// What was sealed under key 1 does not authenticate under these.
    #[track_caller]
    fn check(key: u32, nonce: &Nonce, aad: &[u8]) {
        let cipher = cipher();
        let sealed = cipher.seal(id(1), &NONCE, AAD, b"text").expect("loaded");
        assert_eq!(cipher.open(id(key), nonce, aad, &sealed), Err(CipherError::Integrity(id(key))));
    }

    /// Test case 14 of "The Galois/Counter Mode of Operation (GCM)" by McGrew and Viega.
    #[test]
    fn it_is_aes_256_gcm() {
        let keystore = Keystore::new();
        keystore.set(id(1), Dek::new([0; 32])).expect("no conflict");
        let cipher = Cipher::new(Arc::new(keystore));
        let sealed = cipher.seal(id(1), &Nonce::from_bytes([0; 12]), b"", &[0; 16]).expect("loaded");
        assert_eq!(hex::encode(sealed), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn in_place_and_in_a_vector_are_the_same() {
        let cipher = cipher();
        let mut text = *b"text";
        let tag = cipher.seal_in_place(id(1), &NONCE, AAD, &mut text).expect("loaded");
        let sealed = cipher.seal(id(1), &NONCE, AAD, b"text").expect("loaded");
        assert_eq!([&text[..], &tag].concat(), sealed);
        assert_eq!(cipher.open(id(1), &NONCE, AAD, &sealed).as_deref(), Ok(&b"text"[..]));
        assert_eq!(cipher.open_in_place(id(1), &NONCE, AAD, &mut text, &tag), Ok(()));
        assert_eq!(&text, b"text");
    }

    #[test]
    fn another_key_nonce_or_aad_does_not_open_it() {
        check(2, &NONCE, AAD);
        check(1, &Nonce::new(1, LocalEpoch(1), 2), AAD);
        check(1, &NONCE, b"");
    }

    #[test]
    fn what_is_cut_does_not_open() {
        let cipher = cipher();
        let sealed = cipher.seal(id(1), &NONCE, AAD, b"text").expect("loaded");
        for len in 0..sealed.len() {
            let opened = cipher.open(id(1), &NONCE, AAD, &sealed[..len]);
            assert_eq!(opened, Err(CipherError::Integrity(id(1))), "{len} bytes");
        }
    }

    #[test]
    fn a_text_that_does_not_open_is_left_as_it_was() {
        let mut text = *b"text";
        let opened = cipher().open_in_place(id(1), &NONCE, AAD, &mut text, &[0; TAG_LEN]);
        assert_eq!((opened, &text), (Err(CipherError::Integrity(id(1))), b"text"));
    }

    #[test]
    fn a_key_that_is_not_loaded_is_named_and_one_that_comes_later_is_found() {
        let cipher = cipher();
        let unknown = CipherError::UnknownKeyId(id(3));
        let clone = cipher.clone();
        assert_eq!(cipher.seal(id(3), &NONCE, AAD, b""), Err(unknown));
        assert_eq!(cipher.open(id(3), &NONCE, AAD, &[0; TAG_LEN]), Err(unknown));
        assert_eq!(cipher.seal_in_place(id(3), &NONCE, AAD, &mut []), Err(unknown));
        assert_eq!(cipher.open_in_place(id(3), &NONCE, AAD, &mut [], &[0; TAG_LEN]), Err(unknown));
        cipher.keystore().set(id(3), Dek::new([3; 32])).expect("no conflict");
        assert!(clone.seal(id(3), &NONCE, AAD, b"").is_ok());
        assert!(cipher.keystore().remove(id(3)));
        assert_eq!(clone.seal(id(3), &NONCE, AAD, b""), Err(unknown));
    }

    #[test]
    fn the_longest_plaintext_is_that_of_the_standard() {
        assert_eq!(PLAINTEXT_LEN_MAX, 68_719_476_704);
    }

    #[test]
    fn debug_shows_ids_alone() {
        let shown = "Cipher { keystore: Keystore { ids: [DekId(1), DekId(2)], .. } }";
        assert_eq!(format!("{:?}", cipher()), shown);
    }
}
