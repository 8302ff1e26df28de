//! The odometer: every combination of draws, depth first.

use crate::{
    choices::{Choices, Mismatch},
    tape::Draw,
};

/// Walks every combination of answers that a program can be given.
///
/// The first walk gets 0 everywhere; each next one repeats the draws of the one before, with the last draw
/// that can still grow raised by one and everything after it forgotten. The program must be deterministic
/// given its draws.
///
/// ```
/// use sim::{Exhaustive, Site};
///
/// const COIN: Site = Site::new("example.coin");
/// let mut walk = Exhaustive::new();
/// let mut heads = Vec::new();
/// while let Some(mut choices) = walk.begin() {
///     heads.push(choices.draw(COIN, 2) + choices.draw(COIN, 2));
///     walk.end(choices)?;
/// }
/// assert_eq!(heads, [0, 1, 1, 2]);
/// assert!(walk.is_complete());
/// # Ok::<(), sim::Mismatch>(())
/// ```
#[derive(Debug)]
pub struct Exhaustive {
    prefix: Vec<Draw>,
    stage: Stage,
    visited: u64,
    limit: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Ready,
    Lent,
    Complete,
}

impl Exhaustive {
    /// A walk over everything.
    pub fn new() -> Self {
        Self::limited(u64::MAX)
    }

    /// A walk that stops after so many combinations; [`Exhaustive::is_complete`] tells whether that was
    /// everything.
    pub fn limited(limit: u64) -> Self {
        Self { prefix: Vec::new(), stage: Stage::Ready, visited: 0, limit }
    }

    /// The next combination; `None` when all were visited or the limit is reached.
    ///
    /// # Panics
    /// If the choices of the combination before were not handed to [`Exhaustive::end`].
    pub fn begin(&mut self) -> Option<Choices> {
        assert!(self.stage != Stage::Lent, "hand the choices back with `end` before the next `begin`");
        if self.stage == Stage::Complete || self.visited == self.limit {
            return None;
        }
        self.visited += 1;
        self.stage = Stage::Lent;
        Some(Choices::scripted(std::mem::take(&mut self.prefix), true))
    }

    /// Takes the choices of a combination back, after the program has drawn all it wants.
    ///
    /// # Errors
    /// If the program did not repeat the draws that it was to repeat: it is not deterministic. The walk is
    /// then over, and not complete.
    pub fn end(&mut self, choices: Choices) -> Result<(), Mismatch> {
        assert!(self.stage == Stage::Lent, "`end` takes what `begin` gave");
        self.stage = Stage::Ready;
        let mut draws = choices.finish().inspect_err(|_| self.limit = self.visited)?.0;
        while let Some(last) = draws.last_mut() {
            if last.value + 1 < last.bound {
                last.value += 1;
                self.prefix = draws;
                return Ok(());
            }
            draws.pop();
        }
        self.stage = Stage::Complete;
        Ok(())
    }

    /// How many combinations were begun.
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// Whether every combination was visited.
    pub fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }
}

impl Default for Exhaustive {
    fn default() -> Self {
        Self::new()
    }
}
