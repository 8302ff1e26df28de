//! The JSON that commands print: one object each, of the documented shape.

use std::collections::BTreeMap;

use serde::Serialize;

use super::reproduce;
use crate::run::{Finding, Tally};
use crate::world::Setup;

#[derive(Debug, Serialize)]
pub(super) struct SweepReport {
    pub(super) command: &'static str,
    pub(super) subject: &'static str,
    pub(super) profile: &'static str,
    pub(super) partial: bool,
    pub(super) jobs: usize,
    pub(super) seconds: f64,
    pub(super) seeds_per_second_per_core: f64,
    pub(super) scenarios: Vec<ScenarioReport>,
    pub(super) violations: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ScenarioReport {
    pub(super) name: &'static str,
    pub(super) seeds: u64,
    pub(super) entries: u64,
    pub(super) crashes: u64,
    pub(super) seconds: f64,
    pub(super) seeds_per_second_per_core: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<TimeReport>,
    pub(super) trace_digest: String,
    pub(super) probes: BTreeMap<&'static str, u64>,
    pub(super) findings: Vec<FindingReport>,
    #[serde(skip)]
    pub(super) violations: u64,
}

/// What a world with a clock of its own has to say.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct TimeReport {
    /// Simulated seconds that pass in one of wall-clock time, on one core.
    pub(super) simulated_to_wall: f64,
    /// The longest simulated time from the last fault to the end of the log on every member, in milliseconds.
    pub(super) convergence_ms_max: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct FindingReport {
    pub(super) fingerprint: String,
    pub(super) invariant: &'static str,
    pub(super) seeds_hit: u64,
    pub(super) first_seed: u64,
    pub(super) reproduce: String,
    #[serde(skip)]
    pub(super) evidence: String,
}

impl ScenarioReport {
    pub(super) fn new(setup: &Setup, tally: Tally, seconds: f64, jobs: usize) -> ScenarioReport {
        let probes = tally.probes.iter().filter(|(name, _)| setup.scenario.probes(name)).collect();
        let finding = |(fingerprint, found): (String, Finding)| FindingReport {
            fingerprint,
            invariant: found.invariant,
            seeds_hit: found.seeds_hit,
            first_seed: found.first_seed,
            reproduce: reproduce(setup, found.first_seed),
            evidence: found.evidence,
        };
        ScenarioReport {
            name: setup.scenario.name(),
            seeds: tally.seeds,
            entries: tally.entries,
            crashes: tally.crashes,
            seconds,
            seeds_per_second_per_core: rate(tally.seeds, seconds, jobs),
            time: (tally.simulated_ms > 0).then(|| TimeReport {
                simulated_to_wall: rate(tally.simulated_ms, seconds, jobs) / 1000.0,
                convergence_ms_max: tally.convergence_ms_max,
            }),
            trace_digest: format!("{:016x}", tally.trace_digest),
            probes,
            findings: tally.findings.into_iter().map(finding).collect(),
            violations: tally.violations,
        }
    }

    /// Probes that no seed hit.
    pub(super) fn never_hit(&self) -> Vec<&'static str> {
        self.probes.iter().filter(|(_, hits)| **hits == 0).map(|(name, _)| *name).collect()
    }
}

/// Per second and core.
pub(super) fn rate(count: u64, seconds: f64, jobs: usize) -> f64 {
    if seconds > 0.0 { count as f64 / seconds / jobs as f64 } else { 0.0 }
}
