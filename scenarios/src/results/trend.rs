//! What has changed since an earlier report.

use serde::Serialize;

use super::{ScenarioResult, Sweep};

/// What has changed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trend {
    /// One for each scenario that both have, of the same subject on the same disk.
    pub scenarios: Vec<ScenarioTrend>,
    /// Those that the earlier report alone has.
    pub gone: Vec<String>,
    /// Those that it has not.
    pub new: Vec<String>,
}

/// What has changed in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioTrend {
    /// The scenario, and who was put to the test on what disk.
    pub name: String,
    /// Seeds, then and now.
    pub seeds: [u64; 2],
    /// Entries for a seed.
    pub entries_per_seed: [f64; 2],
    /// Crashes for a seed.
    pub crashes_per_seed: [f64; 2],
    /// Seeds with a violation in a thousand.
    pub violations_per_thousand: [f64; 2],
    /// Speed.
    pub seeds_per_second_per_core: [f64; 2],
    /// Fingerprints that are new.
    pub new_findings: Vec<String>,
    /// Fingerprints that are not found any more.
    pub gone_findings: Vec<String>,
    /// Probes that were hit, and are not any more.
    pub probes_fallen_to_zero: Vec<String>,
}

/// Compares with an earlier report.
pub fn trend(earlier: &[Sweep], now: &[Sweep]) -> Trend {
    let rows = |sweeps: &[Sweep]| -> Vec<(String, ScenarioResult)> {
        let named = |sweep: &Sweep| {
            let title = sweep.title();
            let name = move |row: &ScenarioResult| (format!("{} ({title})", row.name), row.clone());
            sweep.scenarios.iter().map(name).collect::<Vec<_>>()
        };
        sweeps.iter().flat_map(named).collect()
    };
    let (earlier, now) = (rows(earlier), rows(now));
    let named = |rows: &[(String, ScenarioResult)], name: &str| rows.iter().any(|(known, _)| known == name);
    let names_without = |rows: &[(String, ScenarioResult)], others: &[(String, ScenarioResult)]| {
        rows.iter().map(|(name, _)| name.clone()).filter(|name| !named(others, name)).collect()
    };
    let both = now.iter().filter_map(|(name, row)| {
        let (_, before) = earlier.iter().find(|(known, _)| known == name)?;
        Some(compare(name, before, row))
    });
    Trend {
        scenarios: both.collect(),
        gone: names_without(&earlier, &now),
        new: names_without(&now, &earlier),
    }
}

fn compare(name: &str, before: &ScenarioResult, now: &ScenarioResult) -> ScenarioTrend {
    let both = [before, now];
    let per_seed = |count: fn(&ScenarioResult) -> u64, seeds: f64| {
        both.map(|row| if row.seeds == 0 { 0.0 } else { count(row) as f64 * seeds / row.seeds as f64 })
    };
    let only_in = |one: &ScenarioResult, other: &ScenarioResult| {
        let known = |name: &str| other.findings.iter().any(|found| found.fingerprint == name);
        one.findings.iter().map(|found| found.fingerprint.clone()).filter(|name| !known(name)).collect()
    };
    let fallen = before.probes.iter().filter(|(name, hits)| **hits > 0 && now.probes.get(*name) == Some(&0));
    ScenarioTrend {
        name: name.to_owned(),
        seeds: both.map(|row| row.seeds),
        entries_per_seed: per_seed(|row| row.entries, 1.0),
        crashes_per_seed: per_seed(|row| row.crashes, 1.0),
        violations_per_thousand: per_seed(|row| row.violations, 1000.0),
        seeds_per_second_per_core: both.map(|row| row.seeds_per_second_per_core),
        new_findings: only_in(now, before),
        gone_findings: only_in(before, now),
        probes_fallen_to_zero: fallen.map(|(name, _)| name.clone()).collect(),
    }
}
