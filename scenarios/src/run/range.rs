//! Which seeds to run, and how several machines share them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which seeds to run: `first..end`, of them every `shard.1`-th beginning with the `shard.0`-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First seed.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// Shard `K/N`, 1-based: this one of so many.
    #[serde(with = "shard")]
    pub shard: (u64, u64),
}

/// `K/N`.
mod shard {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>((k, n): &(u64, u64), serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{k}/{n}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(u64, u64), D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        parts.ok_or_else(|| D::Error::custom(format!("{text:?} is not a shard")))
    }
}

impl Range {
    /// How many seeds that is.
    pub fn len(self) -> u64 {
        let (k, n) = self.shard;
        let length = self.end - self.first;
        if k > length { 0 } else { (length - k) / n + 1 }
    }

    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether it is one at all, wherever it was read.
    pub fn is_valid(self) -> bool {
        self.first <= self.end && 1 <= self.shard.0 && self.shard.0 <= self.shard.1
    }

    /// The seed at this place of it.
    pub fn nth(self, at: u64) -> u64 {
        self.first + (self.shard.0 - 1) + at * self.shard.1
    }

    /// The lowest seed that two ranges have in common.
    pub fn first_in_common(self, other: Range) -> Option<u64> {
        if self.is_empty() || other.is_empty() {
            return None;
        }
        let [(a, n), (b, m)] =
            [self, other].map(|range| (u128::from(range.nth(0)), u128::from(range.shard.1)));
        let (divisor, inverse) = divisor_and_inverse(n, m);
        let apart = b.abs_diff(a);
        if apart % divisor != 0 {
            return None;
        }
        // The seeds that both steps lead to are a progression again: a + n * i with i as here, and every n * m / divisor.
        let period = m / divisor;
        let apart = apart / divisor % period;
        let apart = if b >= a { apart } else { (period - apart) % period };
        let i = apart * inverse.rem_euclid(period as i128) as u128 % period;
        let (in_common, step) = ((n * i).checked_add(a)?, n * period);
        let short = a.max(b).saturating_sub(in_common).div_ceil(step) * step;
        let last = self.nth(self.len() - 1).min(other.nth(other.len() - 1));
        u64::try_from(in_common.saturating_add(short)).ok().filter(|seed| *seed <= last)
    }
}

/// The greatest common divisor of two numbers, and what the first has to be taken times to be that modulo the second.
fn divisor_and_inverse(n: u128, m: u128) -> (u128, i128) {
    let (mut rest, mut next) = (n, m);
    let (mut times, mut next_times) = (1_i128, 0_i128);
    while next != 0 {
        let quotient = rest / next;
        (rest, next) = (next, rest - quotient * next);
        (times, next_times) = (next_times, times - quotient as i128 * next_times);
    }
    (rest, times)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { first, end, shard: (k, n) } = self;
        write!(f, "{first}..{end}")?;
        if *n > 1 { write!(f, " shard {k}/{n}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn seeds(range: Range) -> impl Iterator<Item = u64> {
        (0..range.len()).map(move |at| range.nth(at))
    }

    /// Ranges near the beginning, around the middle and at the end of all seeds.
    fn bounds() -> impl Strategy<Value = (u64, u64)> {
        (prop_oneof![0..5_u64, Just(1 << 40), Just(u64::MAX - 300)], 0..300_u64)
            .prop_map(|(first, length)| (first, first + length))
    }

    fn ranges() -> impl Strategy<Value = Range> {
        let shards = (1..12_u64, 0..12_u64).prop_map(|(n, k)| (k % n + 1, n));
        (0..60_u64, 0..60_u64, shards).prop_map(|(first, length, shard)| Range {
            first,
            end: first + length,
            shard,
        })
    }

    proptest! {
        #[test]
        fn shards_are_a_partition_of_their_range((first, end) in bounds(), n in 1..400_u64) {
            let mut all = Vec::new();
            for k in 1..=n {
                let shard = Range { first, end, shard: (k, n) };
                prop_assert_eq!(shard.is_empty(), k > end - first, "only those beyond the range are empty");
                let equal = (end - first) / n..=(end - first).div_ceil(n);
                prop_assert!(equal.contains(&shard.len()), "{} of {}", shard.len(), end - first);
                all.extend(seeds(shard));
            }
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(first..end), "each seed once");
        }

        #[test]
        fn no_number_of_shards_is_too_many((first, end) in bounds(), k in 1..=u64::MAX) {
            let shard = Range { first, end, shard: (k, u64::MAX) };
            prop_assert_eq!(shard.len(), u64::from(k <= end - first));
        }

        #[test]
        fn what_two_ranges_have_in_common_is_found(one in ranges(), other in ranges()) {
            let known: BTreeSet<u64> = seeds(one).collect();
            let expected = seeds(other).find(|seed| known.contains(seed));
            prop_assert_eq!(one.first_in_common(other), expected);
            prop_assert_eq!(other.first_in_common(one), expected);
        }
    }

    #[test]
    fn far_ranges_with_large_steps_do_not_overflow() {
        let all = Range { first: 0, end: u64::MAX, shard: (1, 1) };
        let odd = Range { first: 0, end: u64::MAX, shard: (u64::MAX / 2, u64::MAX - 1) };
        assert_eq!(all.first_in_common(odd), Some(u64::MAX / 2 - 1));
        let other = Range { first: 1, end: u64::MAX, shard: (7, u64::MAX - 3) };
        assert_eq!(odd.first_in_common(other), None);
    }
}
