//! Nonces of 12 bytes that no two writers and no two writes share:
//!
//! ```text
//! node16 u16 BE | local_epoch u16 BE | write_count u64 BE
//! ```
//!
//! Which node and epoch a factory may count under is settled before it exists, by a claim in the log: there is one
//! factory for each key and claim. From there on uniqueness is counting: a factory never issues a count twice, and
//! once it has issued the last one it issues nothing any more.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{LocalEpoch, NodeId};

/// A nonce of AES-GCM in the layout of this module. Ordered as its parts are: by node, epoch, count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; Nonce::LEN]);

impl Nonce {
    /// Length in bytes.
    pub const LEN: usize = 12;

    /// The nonce of one write. Nothing here keeps it from being used twice: whoever seals takes its nonces from a
    /// [`NonceFactory`], and this is for bytes that have to come out the same again.
    pub const fn new(node16: u16, epoch: LocalEpoch, count: u64) -> Nonce {
        let [a, b] = node16.to_be_bytes();
        let [c, d] = epoch.0.to_be_bytes();
        let [e, f, g, h, i, j, k, l] = count.to_be_bytes();
        Nonce([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// The one nonce that a node may use under an epoch that it has made durable and does not hold yet. The count carries the
    /// bits of its id that `node16` lacks, so that two nodes which share those never have the same one:
    /// `1 bit set | 15 zeros | the upper 48 bits of the id`.
    pub const fn reserved(node: NodeId, epoch: LocalEpoch) -> Nonce {
        Nonce::new(node.node16(), epoch, !COUNT_MAX | node.get() >> 16)
    }

    /// A nonce that was found in an envelope. Any 12 bytes are one.
    pub const fn from_bytes(bytes: [u8; Nonce::LEN]) -> Nonce {
        Nonce(bytes)
    }

    /// The bytes as they stand in an envelope.
    pub const fn as_bytes(&self) -> &[u8; Nonce::LEN] {
        &self.0
    }

    /// The low 16 bits of the writer's identity ([`crate::NodeId::node16`]).
    pub const fn node16(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// The epoch that the writer had claimed.
    pub const fn epoch(&self) -> LocalEpoch {
        LocalEpoch(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    /// Which of the writer's nonces of this epoch it is: a [`NonceFactory`] counts from 1.
    pub const fn count(&self) -> u64 {
        let [_, _, _, _, e, f, g, h, i, j, k, l] = self.0;
        u64::from_be_bytes([e, f, g, h, i, j, k, l])
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:04x}, epoch {}, count {})", self.node16(), self.epoch(), self.count())
    }
}

/// Every nonce of its epoch has been issued. A higher epoch or another key has to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every nonce of node {node16:04x} under epoch {epoch} was issued; rotate the key")]
pub struct NonceExhausted {
    /// The low 16 bits of the writer's identity.
    pub node16: u16,
    /// The epoch that is used up.
    pub epoch: LocalEpoch,
}

/// The highest count that a factory issues. Counts above it, with the highest bit set, are kept for what a node seals before
/// it holds a claim, see [`Nonce::reserved`].
pub const COUNT_MAX: u64 = u64::MAX >> 1;

/// Issues the nonces of one node, epoch and key: counts 1, 2, 3 and so on up to [`COUNT_MAX`], each once, from any number
/// of threads. It can't be cloned, because a copy would issue the same ones again.
#[derive(Debug)]
pub struct NonceFactory {
    node16: u16,
    epoch: LocalEpoch,
    /// The newest count that was issued. It stops at `COUNT_MAX` instead of wrapping, so that it is the latch as well.
    issued: AtomicU64,
}

impl NonceFactory {
    /// A factory whose first nonce has the count 1. To be made once for each key and claimed epoch.
    pub const fn new(node16: u16, epoch: LocalEpoch) -> NonceFactory {
        NonceFactory::starting_after(node16, epoch, 0)
    }

    /// A factory whose first nonce has the count after `issued`: for tests of what happens near the end. It is wrong
    /// wherever a count above `issued` was used under the same key before.
    pub const fn starting_after(node16: u16, epoch: LocalEpoch, issued: u64) -> NonceFactory {
        NonceFactory { node16, epoch, issued: AtomicU64::new(issued) }
    }

    /// The next nonce.
    ///
    /// # Errors
    /// [`NonceExhausted`] after the count [`COUNT_MAX`], on this call and on every later one.
    pub fn next(&self) -> Result<Nonce, NonceExhausted> {
        // Nothing but the count itself is handed over between threads, and its own order is total in any ordering.
        let before = self
            .issued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |issued| {
                (issued < COUNT_MAX).then(|| issued + 1)
            })
            .map_err(|_| NonceExhausted { node16: self.node16, epoch: self.epoch })?;
        Ok(Nonce::new(self.node16, self.epoch, before + 1))
    }

    /// The low 16 bits of the writer's identity.
    pub const fn node16(&self) -> u16 {
        self.node16
    }

    /// The epoch that it issues under.
    pub const fn epoch(&self) -> LocalEpoch {
        self.epoch
    }

    /// How many nonces were issued; the newest has this count.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    const EPOCH: LocalEpoch = LocalEpoch(7);

    #[test]
    fn a_reserved_nonce_has_the_whole_id_and_a_count_that_no_factory_issues() {
        let node = NodeId::new(0x8123_4567_89ab_cdef).expect("not 0");
        let reserved = Nonce::reserved(node, LocalEpoch(0x0203));
        let bytes = [0xcd, 0xef, 2, 3, 0x80, 0, 0x81, 0x23, 0x45, 0x67, 0x89, 0xab];
        assert_eq!(*reserved.as_bytes(), bytes);
        assert_eq!(COUNT_MAX, 0x7fff_ffff_ffff_ffff);
        assert!(reserved.count() > COUNT_MAX);
        assert_eq!(format!("{reserved:?}"), "Nonce(cdef, epoch 515, count 9223514025343027627)");
        assert_eq!(NonceFactory::new(node.node16(), LocalEpoch(1)).node16(), 0xcdef);
    }

    #[test]
    fn the_parts_of_a_nonce_are_big_endian_and_come_back_out() {
        let nonce = Nonce::new(0x0102, LocalEpoch(0x0304), 0x0506_0708_090a_0b0c);
        assert_eq!(nonce.as_bytes(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(Nonce::from_bytes(*nonce.as_bytes()), nonce);
        assert_eq!(nonce.node16(), 0x0102);
        assert_eq!(nonce.epoch(), LocalEpoch(0x0304));
        assert_eq!(nonce.count(), 0x0506_0708_090a_0b0c);
    }

    #[test]
    fn counts_begin_at_one_and_ascend_by_one() {
        let factory = NonceFactory::new(0x1234, EPOCH);
        assert_eq!(factory.issued(), 0);
        for count in 1..=3 {
            assert_eq!(factory.next(), Ok(Nonce::new(0x1234, EPOCH, count)));
            assert_eq!(factory.issued(), count);
        }
    }

    #[test]
    fn the_last_count_is_issued_and_nothing_ever_after() {
        let factory = NonceFactory::starting_after(0x1234, EPOCH, COUNT_MAX - 1);
        assert_eq!(factory.next(), Ok(Nonce::new(0x1234, EPOCH, COUNT_MAX)));
        for _ in 0..3 {
            assert_eq!(factory.next(), Err(NonceExhausted { node16: 0x1234, epoch: EPOCH }));
        }
    }

    /// What eight threads draw, each this often; an `Err` is left out.
    fn draw(factory: &NonceFactory, each: usize) -> Vec<Nonce> {
        let drawn = || (0..each).filter_map(|_| factory.next().ok()).collect::<Vec<Nonce>>();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(drawn)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it only draws")).collect()
        })
    }

    #[test]
    fn many_threads_never_get_the_same_nonce() {
        let factory = NonceFactory::new(1, EPOCH);
        let nonces = draw(&factory, 5_000);
        let counts: BTreeSet<u64> = nonces.iter().map(Nonce::count).collect();
        assert_eq!(nonces.len(), 40_000);
        assert_eq!(counts, (1..=40_000).collect());
    }

    #[test]
    fn many_threads_get_each_nonce_before_exhaustion_once_and_none_after_it() {
        let left = 1_000;
        let factory = NonceFactory::starting_after(1, EPOCH, COUNT_MAX - left);
        let nonces = draw(&factory, 5_000);
        let counts: BTreeSet<u64> = nonces.iter().map(Nonce::count).collect();
        assert_eq!(nonces.len() as u64, left);
        assert_eq!(counts, (COUNT_MAX - left + 1..=COUNT_MAX).collect());
        assert!(factory.next().is_err());
    }
}
