//! Named places where a decision is drawn.

/// A place in the code that draws: a name and its hash.
///
/// Names are dotted paths of visible ASCII without spaces (`disk.fate.write`), since a tape's text form puts
/// one draw on a line and separates its parts by a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    name: &'static str,
    hash: u64,
}

impl Site {
    /// Makes a site; meant for constants, so that the hash costs nothing at run time.
    ///
    /// # Panics
    /// On an empty name or one with a byte that is not visible ASCII, or that begins with `#`; in a constant
    /// this is a compile error.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes[0] != b'#', "a site needs a name that is not a comment");
        // FNV-1a, 64 bits: it can be computed in a constant and is the same everywhere.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] > b' ' && bytes[at] < 0x7f, "a site name is visible ASCII without spaces");
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        Self { name, hash }
    }

    /// The name, as it appears on a tape.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The 64-bit FNV-1a hash of the name; it selects the site's own random stream.
    pub const fn hash(self) -> u64 {
        self.hash
    }
}
