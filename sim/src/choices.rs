//! The one door for every surprise.
//!
//! Whatever may turn out one way or another is drawn from a [`Choices`], which is passed as `&mut`: a
//! signature shows who may be surprised. Where the answers come from (a seed, a tape, a fuzzer's bytes, an
//! odometer over everything) is of no concern to those who draw.

use std::{borrow::Cow, collections::BTreeMap, ops::RangeInclusive, vec};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    site::Site,
    tape::{Draw, Tape},
};

/// A probability as two whole numbers, since floating point has no place in a run that must repeat exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    /// In how many of `denominator` cases.
    pub numerator: u64,
    /// Out of how many cases, at least 1.
    pub denominator: u64,
}

impl Ratio {
    /// In no case; such a chance is not even drawn.
    pub const NEVER: Self = Self::new(0, 1);

    /// Makes a ratio between 0 and 1.
    ///
    /// # Panics
    /// If the denominator is 0 or below the numerator.
    pub const fn new(numerator: u64, denominator: u64) -> Self {
        assert!(denominator > 0 && numerator <= denominator, "a ratio lies between 0 and 1");
        Self { numerator, denominator }
    }
}

/// What a run asked for where a tape could not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Name of the site that drew.
    pub site: Cow<'static, str>,
    /// The bound it drew with.
    pub bound: u64,
}

/// The first place where a run and the tape it replays do not agree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the run leaves its tape at draw {at}: the tape has {}, the run asked for {}",
    .expected.as_ref().map_or("no more draws".to_owned(), |draw| format!("`{draw}`")),
    .found.as_ref().map_or("nothing more".to_owned(), |found| format!("`{}` with bound {}", found.site, found.bound)))]
pub struct Mismatch {
    /// Index of the draw on the tape, from 0.
    pub at: usize,
    /// What the tape has there; `None` if the tape had ended.
    pub expected: Option<Draw>,
    /// What the run asked for; `None` if the run had ended.
    pub found: Option<Asked>,
}

/// The source of every decision, and the record of all that were made.
#[derive(Debug)]
pub struct Choices {
    source: Source,
    tape: Tape,
}

#[derive(Debug)]
enum Source {
    Seeded(Streams),
    Bytes {
        data: Vec<u8>,
        used: usize,
    },
    Replayed(Script),
    Realigned(Box<Realigned>),
    /// What is left of each site's values.
    Loose(BTreeMap<Cow<'static, str>, vec::IntoIter<u64>>),
}

/// Draws that must be repeated, and whether the run has left them.
#[derive(Debug)]
struct Script {
    draws: Vec<Draw>,
    at: usize,
    /// An odometer goes on with zeros where its prefix ends; a replayed tape has no business there.
    open_ended: bool,
    mismatch: Option<Mismatch>,
}

impl Choices {
    /// Random answers from a seed.
    ///
    /// Each site has a ChaCha8 stream of its own (the key is the seed, the stream number the hash of the
    /// site's name), so that a new site, or one more draw at a site, does not change what other sites see.
    pub fn seeded(seed: u64) -> Self {
        Self::from_source(Source::Seeded(Streams::new(seed)))
    }

    /// The answers of a tape, strictly.
    ///
    /// At the first draw that differs from the tape (another site or bound, or no draw left) the [`Mismatch`]
    /// is remembered for [`Choices::finish`] and every answer from then on is 0, so that the run ends soon
    /// and calmly.
    pub fn replayed(tape: Tape) -> Self {
        Self::scripted(tape.0, false)
    }

    /// The answers of a tape that was recorded by a build which may have drawn in another order, or at other
    /// sites.
    ///
    /// As long as the run asks what the tape has next, this is strict replay. The first [`Mismatch`] is
    /// remembered, for [`Choices::mismatch`] only, and from there on each question takes the first unused
    /// answer that was given at its site to the same bound, or, where the bound has changed, one that is still
    /// possible. A site that the tape does not know answers 0, since the recorded run had no such surprise;
    /// one whose answers are used up goes on with those of [`Choices::seeded`].
    pub fn realigned(tape: Tape, seed: u64) -> Self {
        let used = vec![false; tape.0.len()];
        let (draws, streams) = (tape.0, Streams::new(seed));
        let realigned = Realigned { draws, used, at: 0, streams, mismatch: None };
        Self::from_source(Source::Realigned(Box::new(realigned)))
    }

    /// The answers of a tape as far as they fit: what a shrinker uses after it has deleted or lowered draws.
    ///
    /// Each site takes its own recorded values in order, as long as they are below the bound asked for;
    /// otherwise the answer is 0. There is no mismatch: [`Choices::tape`] then has what really happened, fit
    /// for strict replay.
    pub fn replayed_loosely(tape: Tape) -> Self {
        let mut values: BTreeMap<Cow<'static, str>, Vec<u64>> = BTreeMap::new();
        for draw in tape.0 {
            values.entry(draw.site).or_default().push(draw.value);
        }
        let left = values.into_iter().map(|(site, values)| (site, values.into_iter())).collect();
        Self::from_source(Source::Loose(left))
    }

    /// Answers from a fuzzer's bytes: one byte for a bound up to 256, two up to 65,536, otherwise eight,
    /// little-endian, modulo the bound. When they are used up, every answer is 0. [`Tape::to_bytes`] is the way back.
    pub fn bytes(data: &[u8]) -> Self {
        Self::from_source(Source::Bytes { data: data.to_vec(), used: 0 })
    }

    pub(crate) fn scripted(draws: Vec<Draw>, open_ended: bool) -> Self {
        Self::from_source(Source::Replayed(Script { draws, at: 0, open_ended, mismatch: None }))
    }

    fn from_source(source: Source) -> Self {
        Self { source, tape: Tape::default() }
    }

    /// Draws one of `0..bound`; 0 means that nothing bad happens.
    ///
    /// A bound of 1 leaves nothing to decide: it answers 0 and records nothing.
    ///
    /// # Panics
    /// If the bound is 0.
    #[inline]
    pub fn draw(&mut self, site: Site, bound: u64) -> u64 {
        assert!(bound > 0, "a draw needs at least one possible answer");
        if bound == 1 {
            return 0;
        }
        let value = match &mut self.source {
            Source::Seeded(streams) => streams.draw(site, bound),
            Source::Bytes { data, used } => take_bytes(data, used, bound) % bound,
            Source::Replayed(script) => script.draw(site, bound),
            Source::Realigned(realigned) => realigned.draw(site, bound),
            Source::Loose(left) => {
                let recorded = left.get_mut(site.name()).and_then(Iterator::next);
                recorded.filter(|value| *value < bound).unwrap_or(0)
            }
        };
        debug_assert!(value < bound, "every source answers below the bound");
        self.tape.0.push(Draw { site: Cow::Borrowed(site.name()), value, bound });
        value
    }

    /// Draws whether something with this probability happens; the value 0 on the tape means that it does not.
    ///
    /// What never or always happens is no decision: nothing is drawn for a ratio of 0 or 1.
    #[inline]
    pub fn chance(&mut self, site: Site, ratio: Ratio) -> bool {
        if ratio.numerator == 0 || ratio.numerator == ratio.denominator {
            return ratio.numerator > 0;
        }
        self.draw(site, ratio.denominator) >= ratio.denominator - ratio.numerator
    }

    /// Draws a number from a closed range; its start is the calm answer.
    ///
    /// # Panics
    /// If the range is empty, or is the whole of `u64`.
    #[inline]
    pub fn range(&mut self, site: Site, range: RangeInclusive<u64>) -> u64 {
        let (start, end) = range.into_inner();
        assert!(start <= end, "a range to draw from must not be empty");
        let bound = (end - start).checked_add(1).expect("a range to draw from has at most 2^64 - 1 numbers");
        start + self.draw(site, bound)
    }

    /// Draws one of the items; the first is the calm answer.
    ///
    /// # Panics
    /// If there are none.
    #[inline]
    pub fn pick<'a, T>(&mut self, site: Site, items: &'a [T]) -> &'a T {
        &items[self.draw(site, items.len() as u64) as usize]
    }

    /// All draws made so far.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// The first mismatch with the replayed tape so far; a run under strict replay may look at it to stop early.
    pub fn mismatch(&self) -> Option<&Mismatch> {
        match &self.source {
            Source::Replayed(script) => script.mismatch.as_ref(),
            Source::Realigned(realigned) => realigned.mismatch.as_ref(),
            _ => None,
        }
    }

    /// Where a run has left the tape that it was realigned with, at its end also by asking for less.
    pub fn divergence(&self) -> Option<Mismatch> {
        let Source::Realigned(realigned) = &self.source else { return None };
        realigned.mismatch.clone().or_else(|| {
            let at = realigned.used.iter().position(|used| !used)?;
            Some(Mismatch { at, expected: Some(realigned.draws[at].clone()), found: None })
        })
    }

    /// Ends the run and gives its tape.
    ///
    /// # Errors
    /// If the run was a replay and left its tape, or ended before it.
    pub fn finish(self) -> Result<Tape, Mismatch> {
        if let Source::Replayed(mut script) = self.source {
            if let Some(mismatch) = script.mismatch {
                return Err(mismatch);
            }
            if script.at < script.draws.len() {
                return Err(Mismatch {
                    at: script.at,
                    expected: Some(script.draws.swap_remove(script.at)),
                    found: None,
                });
            }
        }
        Ok(self.tape)
    }
}

impl Script {
    fn draw(&mut self, site: Site, bound: u64) -> u64 {
        if self.mismatch.is_some() {
            return 0;
        }
        let expected = self.draws.get(self.at);
        match expected {
            Some(draw) if draw.bound == bound && draw.value < bound && draw.site == site.name() => {
                self.at += 1;
                draw.value
            }
            None if self.open_ended => 0,
            _ => {
                self.mismatch = Some(Mismatch {
                    at: self.at,
                    expected: expected.cloned(),
                    found: Some(Asked { site: Cow::Borrowed(site.name()), bound }),
                });
                0
            }
        }
    }
}

/// A tape that need not fit.
#[derive(Debug)]
struct Realigned {
    draws: Vec<Draw>,
    used: Vec<bool>,
    /// All before it are used.
    at: usize,
    streams: Streams,
    mismatch: Option<Mismatch>,
}

impl Realigned {
    fn draw(&mut self, site: Site, bound: u64) -> u64 {
        while self.used.get(self.at) == Some(&true) {
            self.at += 1;
        }
        let expected = self.draws.get(self.at);
        let fits = |draw: &Draw| draw.site == site.name() && draw.bound == bound;
        if self.mismatch.is_none() && !expected.is_some_and(fits) {
            self.mismatch = Some(Mismatch {
                at: self.at,
                expected: expected.cloned(),
                found: Some(Asked { site: Cow::Borrowed(site.name()), bound }),
            });
        }
        let unused = |draw: &dyn Fn(&Draw) -> bool| {
            (self.at..self.draws.len()).find(|&at| !self.used[at] && draw(&self.draws[at]))
        };
        let possible = |draw: &Draw| draw.site == site.name() && draw.value < bound;
        match unused(&|draw| fits(draw) && draw.value < bound).or_else(|| unused(&possible)) {
            Some(at) => {
                self.used[at] = true;
                self.draws[at].value
            }
            None if self.draws.iter().any(|draw| draw.site == site.name()) => self.streams.draw(site, bound),
            None => 0,
        }
    }
}

/// How many of a fuzzer's bytes a draw with this bound takes.
pub(crate) const fn byte_width(bound: u64) -> usize {
    match bound {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 8,
    }
}

fn take_bytes(data: &[u8], used: &mut usize, bound: u64) -> u64 {
    let width = byte_width(bound);
    let rest = &data[*used..];
    let taken = &rest[..rest.len().min(width)];
    *used += taken.len();
    taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One random stream per site, made when the site first draws.
#[derive(Debug)]
struct Streams {
    key: [u8; 32],
    hashes: Vec<u64>,
    generators: Vec<ChaCha8Rng>,
    last: usize,
}

impl Streams {
    fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self { key, hashes: Vec::with_capacity(16), generators: Vec::with_capacity(16), last: 0 }
    }

    #[inline]
    fn draw(&mut self, site: Site, bound: u64) -> u64 {
        // Draws come in bursts at one site, so the last one is tried first; a scan over a few dozen hashes is
        // quicker than any cleverness.
        if self.hashes.get(self.last) != Some(&site.hash()) {
            self.last = match self.hashes.iter().position(|hash| *hash == site.hash()) {
                Some(index) => index,
                None => self.add(site),
            };
        }
        let random = self.generators[self.last].next_u64();
        // Multiply and shift instead of modulo: quicker, and its bias of at most bound / 2^64 is of no
        // account.
        ((u128::from(random) * u128::from(bound)) >> 64) as u64
    }

    fn add(&mut self, site: Site) -> usize {
        let mut generator = ChaCha8Rng::from_seed(self.key);
        generator.set_stream(site.hash());
        self.hashes.push(site.hash());
        self.generators.push(generator);
        self.hashes.len() - 1
    }
}
