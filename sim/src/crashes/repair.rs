//! Which syncs are missing: the search for the smallest set that makes every state good.

use std::fmt;

use super::{CrashTest, CrashTestError, Life, Run, RunResult, Survivor};
use crate::disk::{OpInfo, OpKind};

/// A sync that the program does not make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Barrier {
    /// What would be synced.
    pub sync: OpInfo,
    /// After how many of the program's mutating calls.
    pub place: u64,
    /// The call before it; `None` at the beginning.
    pub after: Option<OpInfo>,
    /// The call after it; `None` at the end.
    pub before: Option<OpInfo>,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.sync)?;
        match (&self.after, &self.before) {
            (Some(after), Some(before)) => write!(f, "between {after} and {before}"),
            (Some(after), None) => write!(f, "after {after}, the last call"),
            (None, Some(before)) => write!(f, "before {before}, the first call"),
            (None, None) => f.write_str("alone"),
        }
    }
}

/// Syncs with which nothing bad is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// What to add. No smaller set is enough.
    pub barriers: Vec<Barrier>,
    /// How many sets were tried to find this one.
    pub tried: u64,
    /// Whether every way to lose power was walked with it: see [`super::Report::is_complete`].
    pub complete: bool,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.barriers.len() {
            0 => return f.write_str("there is nothing to repair"),
            1 => f.write_str("1 barrier repairs it")?,
            many => write!(f, "{many} barriers repair it")?,
        }
        write!(f, " ({} sets tried)", self.tried)?;
        self.barriers.iter().try_for_each(|barrier| write!(f, "\n  {barrier}"))
    }
}

/// Tries all sets of barriers, the small ones first.
pub(super) fn search<P, J, E>(
    test: &CrashTest<P, J>,
    barriers_max: usize,
) -> Result<Option<Repair>, CrashTestError>
where
    P: Fn(&Run) -> RunResult,
    J: Fn(&Survivor) -> Result<(), E>,
    E: Ord + fmt::Display,
{
    let plain = test.record(&[])?;
    let (possible, calls) = (possible(&plain), plain.calls());
    let mut tried = 0;
    for size in 0..=barriers_max.min(possible.len()) {
        let mut chosen: Vec<usize> = (0..size).collect();
        loop {
            let barriers: Vec<Barrier> = chosen.iter().map(|at| possible[*at].clone()).collect();
            let life = test.record(&barriers)?;
            check_calls(&calls, &life.calls(), &barriers)?;
            tried += 1;
            let report = test.explore(life, true)?;
            if report.is_clean() {
                return Ok(Some(Repair { barriers, tried, complete: report.is_complete() }));
            }
            if !advance(&mut chosen, possible.len()) {
                break;
            }
        }
    }
    Ok(None)
}

/// Every sync that would make something durable, once for each stretch of calls about the same file or directory:
/// at its end.
fn possible(life: &Life) -> Vec<Barrier> {
    let calls = life.calls();
    let mut barriers = Vec::new();
    for (place, frame) in life.frames.iter().enumerate() {
        let goes_on = |sync: &OpInfo| {
            let told = life.acknowledged.contains(&place);
            !told && frame.next.as_ref().is_some_and(|next| target(next) == target(sync))
        };
        let useful = frame.disk.useful_syncs().into_iter().filter(|sync| !goes_on(sync));
        let after = place.checked_sub(1).map(|before| calls[before].clone());
        barriers.extend(useful.map(|sync| Barrier {
            sync,
            place: place as u64,
            after: after.clone(),
            before: frame.next.clone(),
        }));
    }
    barriers
}

/// The file or directory whose content a call changes, or makes durable.
fn target(call: &OpInfo) -> &str {
    match call.kind {
        OpKind::Create | OpKind::Rename | OpKind::Unlink | OpKind::Mkdir => {
            let dir = call.path.rsplit_once('/').map_or("", |(dir, _)| dir);
            if dir.is_empty() { "/" } else { dir }
        }
        _ => &call.path,
    }
}

/// A run with barriers has to be the plain one, and the barriers.
fn check_calls(plain: &[OpInfo], found: &[OpInfo], barriers: &[Barrier]) -> Result<(), CrashTestError> {
    let mut expected = plain.to_vec();
    for barrier in barriers.iter().rev() {
        expected.insert(barrier.place as usize, barrier.sync.clone());
    }
    if expected == found {
        return Ok(());
    }
    let calls = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
    Err(CrashTestError::Calls { calls })
}

/// The next set of as many of `0..count`; whether there is one.
fn advance(chosen: &mut [usize], count: usize) -> bool {
    let size = chosen.len();
    let Some(at) = (0..size).rev().find(|at| chosen[*at] < count - size + at) else { return false };
    let first = chosen[at] + 1;
    chosen[at..].iter_mut().zip(first..).for_each(|(slot, value)| *slot = value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_a_size_comes_once() {
        let mut sets = Vec::new();
        let mut chosen = vec![0, 1];
        loop {
            sets.push(chosen.clone());
            if !advance(&mut chosen, 4) {
                break;
            }
        }
        assert_eq!(sets, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
        assert!(!advance(&mut [], 4));
    }

    #[test]
    fn names_belong_to_their_directory() {
        let path = |kind, path: &str| target(&OpInfo { kind, path: path.to_owned() }).to_owned();
        assert_eq!(path(OpKind::Create, "/a"), "/");
        assert_eq!(path(OpKind::Rename, "/d/a"), "/d");
        assert_eq!(path(OpKind::Write, "/d/a"), "/d/a");
        assert_eq!(path(OpKind::SyncDir, "/"), "/");
    }
}
