//! Key bytes live only in types of this module: wiped on drop, silent in `Debug`, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of every key in bytes (AES-256).
pub const KEY_LEN: usize = 32;

/// A data encryption key: 32 bytes of AES-256 key material.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Dek([u8; KEY_LEN]);

impl Dek {
    /// Takes key bytes over; the caller wipes its own copy.
    pub const fn new(bytes: [u8; KEY_LEN]) -> Dek {
        Dek(bytes)
    }

    /// The raw key. Whoever copies it out takes over the duty to wipe it.
    pub const fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// In constant time, so that the search for equal keys tells a bystander nothing about either.
impl PartialEq for Dek {
    fn eq(&self, other: &Dek) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Dek {}

impl fmt::Debug for Dek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dek(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_by_their_bytes_and_show_none_of_them() {
        let key = |byte| Dek::new([byte; KEY_LEN]);
        assert!(key(0x41) == key(0x41) && key(0x41) != key(0x42));
        assert_eq!(format!("{:?}", key(0x41)), "Dek(..)");
    }
}
