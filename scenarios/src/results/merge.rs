//! Putting results together: counts add up, and no seed may count twice.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{FindingResult, Results, ScenarioResult, Sweep, Time, per_second};
use crate::run::Range;

/// Why results cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A seed would count twice.
    #[error(
        "{one} and {other} overlap: both ran seed {seed} of {scenario} ({what}); leave one of them out, or run other seeds"
    )]
    Overlap {
        /// One file.
        one: PathBuf,
        /// The other one; it may be the same.
        other: PathBuf,
        /// The scenario.
        scenario: String,
        /// Subject and disk.
        what: String,
        /// The first seed that both have.
        seed: u64,
    },
    /// Their probes are not the same, so that different programs have written them.
    #[error(
        "{one} and {other} were written by different builds: {scenario} has other probes; run both with one build"
    )]
    OtherProbes {
        /// One file.
        one: PathBuf,
        /// The other one.
        other: PathBuf,
        /// The scenario.
        scenario: String,
    },
}

/// The results of one scenario, and the file that has them.
type Part<'a> = (&'a PathBuf, &'a ScenarioResult);

/// Puts results together: one sweep for each subject and disk, in an order that does not depend on that of the files.
///
/// # Errors
/// [`MergeError`].
pub fn merge(results: &[Results]) -> Result<Vec<Sweep>, MergeError> {
    let mut groups: BTreeMap<_, Vec<(&PathBuf, &Sweep)>> = BTreeMap::new();
    for file in results {
        for sweep in &file.sweeps {
            groups.entry(sweep.key()).or_default().push((&file.path, sweep));
        }
    }
    groups.into_values().map(|sweeps| merge_group(&sweeps)).collect()
}

fn merge_group(sweeps: &[(&PathBuf, &Sweep)]) -> Result<Sweep, MergeError> {
    let [(_, first), ..] = sweeps else { unreachable!("a group has at least one") };
    let mut rows: Vec<Vec<Part<'_>>> = Vec::new();
    for (path, sweep) in sweeps {
        for row in &sweep.scenarios {
            match rows.iter_mut().find(|known| known[0].1.name == row.name) {
                Some(known) => known.push((path, row)),
                None => rows.push(vec![(path, row)]),
            }
        }
    }
    let known = |name: &str| crate::world::Scenario::ALL.iter().position(|known| known.name() == name);
    rows.sort_by_key(|row| known(&row[0].1.name));
    let mut merged = Sweep {
        jobs: sweeps.iter().map(|(_, sweep)| sweep.jobs).max().unwrap_or(1),
        seconds: sweeps.iter().map(|(_, sweep)| sweep.seconds).sum(),
        scenarios: rows.iter().map(|row| merge_rows(row, &first.title())).collect::<Result<_, _>>()?,
        ..(*first).clone()
    };
    merged.add_up();
    merged.partial |= sweeps.iter().any(|(_, sweep)| sweep.partial);
    Ok(merged)
}

fn merge_rows(rows: &[Part<'_>], what: &str) -> Result<ScenarioResult, MergeError> {
    let mut ranges: Vec<(&PathBuf, Range)> = Vec::new();
    for (path, row) in rows {
        for range in row.ranges() {
            for (other, known) in &ranges {
                if let Some(seed) = range.first_in_common(*known) {
                    let (one, other) = ((*other).clone(), (*path).clone());
                    let (scenario, what) = (row.name.clone(), what.to_owned());
                    return Err(MergeError::Overlap { one, other, scenario, what, seed });
                }
            }
            ranges.push((path, range));
        }
    }
    let mut rows = rows.iter();
    let (one, first) = rows.next().expect("a group has at least one");
    let mut merged = (*first).clone();
    for (other, row) in rows {
        if !merged.probes.keys().eq(row.probes.keys()) {
            let (one, other) = ((*one).clone(), (*other).clone());
            return Err(MergeError::OtherProbes { one, other, scenario: row.name.clone() });
        }
        add(&mut merged, row);
    }
    let mut ranges = joined(ranges.into_iter().map(|(_, range)| range).collect());
    merged.parts = Vec::new();
    if let [range] = ranges[..] {
        merged.range = range;
    } else {
        let first = ranges.iter().map(|range| range.first).min().unwrap_or(0);
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        merged.range = Range { first, end, shard: (1, 1) };
        merged.parts = std::mem::take(&mut ranges);
    }
    merged.seeds_per_second_per_core = per_second(merged.seeds, merged.core_seconds);
    if let Some(time) = &mut merged.time {
        time.simulated_to_wall = per_second(time.simulated_ms, merged.core_seconds) / 1000.0;
    }
    Ok(merged)
}

fn add(sum: &mut ScenarioResult, row: &ScenarioResult) {
    sum.seeds = sum.seeds.saturating_add(row.seeds);
    sum.entries = sum.entries.saturating_add(row.entries);
    sum.crashes = sum.crashes.saturating_add(row.crashes);
    sum.violations = sum.violations.saturating_add(row.violations);
    sum.seconds += row.seconds;
    sum.core_seconds += row.core_seconds;
    sum.trace_digest.0 = sum.trace_digest.0.wrapping_add(row.trace_digest.0);
    sum.coverage.merge(&row.coverage);
    sum.time = match (sum.time, row.time) {
        (Some(one), Some(other)) => Some(Time {
            simulated_to_wall: 0.0,
            convergence_ms_max: one.convergence_ms_max.max(other.convergence_ms_max),
            simulated_ms: one.simulated_ms + other.simulated_ms,
        }),
        (one, other) => one.or(other),
    };
    for (hits, more) in sum.probes.values_mut().zip(row.probes.values()) {
        *hits = hits.saturating_add(*more);
    }
    for found in &row.findings {
        match sum.findings.iter_mut().find(|known| known.fingerprint == found.fingerprint) {
            Some(known) => {
                let seeds_hit = known.seeds_hit + found.seeds_hit;
                if found.first_seed < known.first_seed {
                    *known = found.clone();
                }
                *known = FindingResult { seeds_hit, ..known.clone() };
            }
            None => sum.findings.push(found.clone()),
        }
    }
    sum.findings.sort_by(|one, other| one.fingerprint.cmp(&other.fingerprint));
}

/// The same seeds in as few ranges as can be seen: all shards of a range are that range, and ranges that touch are one.
fn joined(ranges: Vec<Range>) -> Vec<Range> {
    let mut shards: BTreeMap<(u64, u64, u64), Vec<u64>> = BTreeMap::new();
    for Range { first, end, shard: (k, n) } in ranges {
        shards.entry((first, end, n)).or_default().push(k);
    }
    let mut parts = Vec::new();
    let mut whole: Vec<(u64, u64)> = Vec::new();
    for ((first, end, n), mut ks) in shards {
        ks.sort_unstable();
        // Empty ones do not have to be there.
        let all = (1..=n.min(end - first)).eq(ks.iter().copied().filter(|k| *k <= end - first));
        if all {
            whole.push((first, end));
        } else {
            parts.extend(ks.into_iter().map(|k| Range { first, end, shard: (k, n) }));
        }
    }
    whole.sort_unstable();
    for (first, end) in whole {
        match parts.last_mut() {
            Some(Range { end: last, shard: (1, 1), .. }) if *last == first => *last = end,
            _ => parts.push(Range { first, end, shard: (1, 1) }),
        }
    }
    parts.sort_by_key(|range| (range.first, range.end, range.shard));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, end: u64, shard: (u64, u64)) -> Range {
        Range { first, end, shard }
    }

    #[test]
    fn all_shards_of_a_range_are_that_range_and_ranges_that_touch_are_one() {
        let shards = |n: u64| (1..=n).map(move |k| range(10, 20, (k, n)));
        assert_eq!(joined(shards(3).collect()), [range(10, 20, (1, 1))]);
        assert_eq!(joined(shards(12).collect()), [range(10, 20, (1, 1))]);
        assert_eq!(joined(shards(12).take(10).collect()), [range(10, 20, (1, 1))], "two of them are empty");
        let more = shards(2).chain([range(20, 25, (1, 1)), range(30, 31, (1, 1))]);
        assert_eq!(joined(more.collect()), [range(10, 25, (1, 1)), range(30, 31, (1, 1))]);
        let some = [range(10, 20, (3, 3)), range(10, 20, (1, 3))];
        assert_eq!(joined(some.to_vec()), [some[1], some[0]]);
    }
}
