//! Newtypes for everything that would otherwise be a bare integer.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Identifier of a data encryption key. Zero is reserved on the wire for "none", so it cannot be built here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DekId(NonZeroU32);

impl DekId {
    /// `None` for the reserved id 0.
    pub const fn new(id: u32) -> Option<DekId> {
        match NonZeroU32::new(id) {
            Some(id) => Some(DekId(id)),
            None => None,
        }
    }

    /// The id as it stands on the wire; never 0.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for DekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for DekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DekId({})", self.0)
    }
}

/// A node's full 64-bit identity; never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(std::num::NonZeroU64);

impl NodeId {
    /// `None` for 0, which no node may carry.
    pub const fn new(id: u64) -> Option<NodeId> {
        match std::num::NonZeroU64::new(id) {
            Some(id) => Some(NodeId(id)),
            None => None,
        }
    }

    /// The identity of the member that the Raft group knows by this id: FNV-1a, 64 bits, of its UTF-8 bytes, or 1
    /// where that is 0. `None` for the empty id, which is that of no member.
    pub const fn of_raft_id(raft_id: &str) -> Option<NodeId> {
        if raft_id.is_empty() {
            return None;
        }
        NodeId::new(match fnv1a64(raft_id.as_bytes()) {
            0 => 1,
            hash => hash,
        })
    }

    /// The identity as it stands on the wire.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The low 16 bits, which registry keys and nonces carry. Two nodes may share them; the registration
    /// rules refuse the second.
    pub const fn node16(self) -> u16 {
        self.0.get() as u16
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({:016x})", self.0)
    }
}

/// FNV-1a with 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>). It spreads ids; it protects nothing.
const fn fnv1a64(bytes: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    hash
}

/// An index of the Raft log. The first entry has index 1; 0 means "before every entry".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RaftIndex(pub u64);

impl RaftIndex {
    /// Before every entry.
    pub const ZERO: RaftIndex = RaftIndex(0);

    /// The index after this one.
    ///
    /// # Panics
    /// At `u64::MAX`, which no log reaches.
    pub const fn next(self) -> RaftIndex {
        RaftIndex(self.0.checked_add(1).expect("a raft log does not reach u64::MAX"))
    }
}

impl fmt::Display for RaftIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A writer's epoch under one key: a restart that is to write again claims a higher one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocalEpoch(pub u16);

impl fmt::Display for LocalEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a key encrypts. The wire byte is 1 for storage and 2 for raft.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Values at rest.
    Storage,
    /// Entries of the Raft log.
    Raft,
}

impl Purpose {
    /// The purpose behind a wire byte, or `None`.
    pub const fn from_wire(byte: u8) -> Option<Purpose> {
        match byte {
            1 => Some(Purpose::Storage),
            2 => Some(Purpose::Raft),
            _ => None,
        }
    }

    /// The wire byte.
    pub const fn to_wire(self) -> u8 {
        match self {
            Purpose::Storage => 1,
            Purpose::Raft => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_shown_in_hexadecimal_and_indices_and_epochs_in_decimal() {
        let node = NodeId::new(0x1f00_0000_0002_beef).expect("not 0");
        assert_eq!(node.get(), 0x1f00_0000_0002_beef);
        assert_eq!(node.node16(), 0xbeef);
        assert_eq!(node.to_string(), "1f0000000002beef");
        assert_eq!(format!("{node:?}"), "NodeId(1f0000000002beef)");
        assert_eq!(format!("{} {}", RaftIndex(12), LocalEpoch(34)), "12 34");
    }

    #[test]
    fn the_empty_raft_id_is_no_node() {
        assert_eq!(NodeId::of_raft_id(""), None);
    }

    /// The bytes are from the list of zero hashes of the algorithm's authors (`d5 6b b9 53 42 87 08 36` for 64 bits).
    #[test]
    fn a_hash_of_zero_is_a_node_of_its_own() {
        assert_eq!(fnv1a64(&[0xd5, 0x6b, 0xb9, 0x53, 0x42, 0x87, 0x08, 0x36]), 0);
        assert_eq!(NodeId::of_raft_id("!0IC=VloaY"), NodeId::new(1));
    }

    #[test]
    fn hashes_are_those_of_the_algorithms_authors() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
