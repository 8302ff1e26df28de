//! The record of all draws of a run, and its text form.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::choices::byte_width;

/// One recorded decision.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Draw {
    /// Name of the [`crate::Site`] that drew.
    pub site: Cow<'static, str>,
    /// The answer, in `0..bound`; 0 means that nothing bad happened.
    pub value: u64,
    /// The number of possible answers, at least 2.
    pub bound: u64,
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.site, self.value, self.bound)
    }
}

/// All draws of a run, in the order in which they were made.
///
/// The text form has one draw per line, `site value/bound`; empty lines and lines that begin with `#` are
/// skipped when read, so that a file can carry a heading.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tape(pub Vec<Draw>);

impl Tape {
    /// The bytes with which [`crate::Choices::bytes`] gives the answers of this tape again, to a run that asks the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len());
        for draw in &self.0 {
            bytes.extend_from_slice(&draw.value.to_le_bytes()[..byte_width(draw.bound)]);
        }
        bytes
    }
}

impl fmt::Display for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|draw| writeln!(f, "{draw}"))
    }
}

/// Why a text is not a tape.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("tape line {line}: {problem}: {text:?}")]
pub struct TapeError {
    /// Number of the offending line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: TapeProblem,
    /// The line itself.
    pub text: String,
}

/// What can be wrong with one line of a tape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TapeProblem {
    /// The line does not have the three parts of a draw.
    #[error("expected `site value/bound`")]
    Shape,
    /// The value or the bound is no 64-bit number.
    #[error("value and bound must be 64-bit numbers")]
    Number,
    /// The value is not below the bound.
    #[error("the value must be below the bound")]
    Bound,
}

impl FromStr for Tape {
    type Err = TapeError;

    fn from_str(text: &str) -> Result<Self, TapeError> {
        let mut draws = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let draw = parse_draw(line).map_err(|problem| TapeError {
                line: index + 1,
                problem,
                text: line.to_owned(),
            })?;
            draws.push(draw);
        }
        Ok(Self(draws))
    }
}

fn parse_draw(line: &str) -> Result<Draw, TapeProblem> {
    let (site, numbers) = line.split_once(' ').ok_or(TapeProblem::Shape)?;
    let (value, bound) = numbers.split_once('/').ok_or(TapeProblem::Shape)?;
    let value: u64 = value.parse().map_err(|_| TapeProblem::Number)?;
    let bound: u64 = bound.parse().map_err(|_| TapeProblem::Number)?;
    if value >= bound {
        return Err(TapeProblem::Bound);
    }
    Ok(Draw { site: Cow::Owned(site.to_owned()), value, bound })
}
