//! Our applier survives, and what is known to be wrong is found.

mod common;

use common::{CLUSTER_SEEDS, setup, sweep_range};
use scenarios::run::Tally;
use scenarios::subject::Subject;
use scenarios::world::cluster::CONVERGENCE_MS_MAX;
use scenarios::world::{Scenario, Setup};
use sim::{Lies, Profile};

/// The seeds that the environment asks for, with madsim's own meaning of the variables. `.cargo/config.toml` has the
/// values that hold where nothing is exported.
fn seeds() -> (u64, u64) {
    let asked = madsim::runtime::Builder::from_env();
    (asked.seed, asked.seed + asked.count)
}

/// As many seeds of a cluster as take about the time of all those of one node.
fn seeds_of_a_cluster() -> (u64, u64) {
    let (first, end) = seeds();
    (first, first + (end - first).div_ceil(8))
}

fn check_clean(setup: Setup, (first, end): (u64, u64)) -> Tally {
    let tally = sweep_range(setup, first, end, 2);
    let found = tally.findings.iter().next();
    if let Some((fingerprint, found)) = found {
        panic!(
            "{fingerprint}: {}\nreproduce: cargo sim replay {} --scenario {} --profile {}",
            found.evidence,
            found.first_seed,
            setup.scenario,
            setup.profile.name()
        );
    }
    tally
}

#[test]
fn the_applier_survives_crashes_and_redelivery() {
    let tally = check_clean(setup(Scenario::Single, Subject::Hardened), seeds());
    let (first, end) = seeds();
    // An average over a few seeds says nothing.
    if end - first >= 300 {
        assert!(tally.entries >= 8 * tally.seeds, "{} entries in {} seeds", tally.entries, tally.seeds);
        assert!(tally.crashes >= 3 * tally.seeds, "{} crashes in {} seeds", tally.crashes, tally.seeds);
    }
}

#[test]
fn the_applier_survives_on_an_ordered_journal_too() {
    let honest = setup(Scenario::Single, Subject::Hardened);
    check_clean(Setup { profile: Profile::Ext4Ordered, ..honest }, seeds());
}

#[test]
fn every_rejection_is_pure_in_every_state() {
    check_clean(setup(Scenario::Reject, Subject::Hardened), seeds());
}

#[test]
fn the_cluster_survives_faults_of_disk_and_network_in_one_run() {
    let (first, end) = seeds_of_a_cluster();
    let tally = check_clean(setup(Scenario::Cluster, Subject::Hardened), (first, end));
    // An average over a few seeds says nothing.
    if end - first >= 30 {
        assert!(tally.entries >= 10 * tally.seeds, "{} entries in {} seeds", tally.entries, tally.seeds);
        assert!(tally.crashes >= 4 * tally.seeds, "{} crashes in {} seeds", tally.crashes, tally.seeds);
    }
    assert!((1..=CONVERGENCE_MS_MAX).contains(&tally.convergence_ms_max), "{}", tally.convergence_ms_max);
}

fn fingerprints(tally: &Tally) -> Vec<&str> {
    tally.findings.keys().map(String::as_str).collect()
}

#[test]
fn known_defects_of_the_reference_are_found() {
    let tally = sweep_range(setup(Scenario::Single, Subject::AsMerged), 0, 2_000, 2);
    let known = [
        "legitimate-log-never-halts/redelivery: already-bootstrapped/bootstrap",
        "legitimate-log-never-halts/redelivery: epoch-rollback/registration",
        "rejection-is-pure/epoch-rollback/bootstrap",
        "rejection-is-pure/not-bootstrapped/rotation",
        "failure-is-pure/memory-and-disk/rotation",
        "created-is-set-once/changed/sidecar",
        "active-keys-resolve/unresolved/caught-up",
        "key-bytes-are-distinct/sidecar/keys",
    ];
    let found = fingerprints(&tally);
    for fingerprint in known {
        assert!(found.contains(&fingerprint), "{fingerprint} is not among {found:#?}");
    }
}

/// A follower that was restored from a snapshot has no keys, and what a leader has proposed halts the log.
#[test]
fn known_defects_of_the_reference_are_found_in_a_cluster() {
    let tally = sweep_range(setup(Scenario::Cluster, Subject::AsMerged), 0, 2 * CLUSTER_SEEDS, 2);
    let found = fingerprints(&tally);
    assert!(found.contains(&"snapshot-brings-keys/missing/keys"), "{found:#?}");
    let halts = |found: &&str| found.starts_with("admitted-is-never-rejected/already-bootstrapped/");
    assert!(found.iter().any(halts), "{found:#?}");
}

fn check_lie_is_caught(lies: Lies, expected: &[&str]) {
    let honest = setup(Scenario::Single, Subject::Hardened);
    let tally = sweep_range(Setup { lies, ..honest }, 0, 1_000, 2);
    let found = fingerprints(&tally);
    for invariant in expected {
        let hit = found.iter().any(|print| print.starts_with(invariant));
        assert!(hit, "{invariant} is not among {found:#?}");
    }
}

#[test]
fn a_disk_that_skips_file_syncs_is_caught() {
    check_lie_is_caught(Lies { skip_file_sync: true, ..Lies::NONE }, &["start-succeeds/sidecar-damaged"]);
}

#[test]
fn a_disk_that_skips_directory_syncs_is_caught() {
    let lies = Lies { skip_dir_sync: true, ..Lies::NONE };
    // A rename that was acknowledged is gone: the old sidecar is there, or none, or the database is behind.
    let expected =
        ["start-succeeds/sidecar-stale", "start-succeeds/sidecar-missing", "acknowledged-survives/"];
    check_lie_is_caught(lies, &expected);
}

#[test]
fn a_disk_whose_rename_is_not_atomic_is_caught() {
    let lies = Lies { rename_not_atomic: true, ..Lies::NONE };
    check_lie_is_caught(lies, &["start-succeeds/sidecar-missing"]);
}
