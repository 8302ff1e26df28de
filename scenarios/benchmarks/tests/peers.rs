//! The comparison compares what it says: nobody convicts the applier as it is, and what is compared can be found.

use std::sync::Arc;

use benchmarks::peers::Harness;
use benchmarks::peers::child::Sigkill;
use benchmarks::peers::judge::{Violation, What};
use benchmarks::peers::log::Log;
use benchmarks::peers::ours::Ours;
use benchmarks::peers::turmoil_disk::Turmoil;
use benchmarks::peers::variants::Variant;
use sim::Choices;

fn ours() -> Ours {
    Ours::new(Arc::new(Log::new()))
}

fn turmoil() -> Turmoil {
    Turmoil::new(Arc::new(Log::new()))
}

fn sigkill() -> Sigkill {
    Sigkill::new(Arc::new(Log::new()), env!("CARGO_BIN_EXE_life"), env!("CARGO_TARGET_TMPDIR"))
}

/// The first thing that is found in so many histories.
fn found(harness: &mut dyn Harness, variant: Variant, histories: u64) -> Option<Violation> {
    harness.begin();
    (0..histories).find_map(|seed| harness.history(variant, &mut Choices::seeded(seed)).caught)
}

#[track_caller]
fn check_control(harness: &mut dyn Harness, histories: u64) {
    assert_eq!(harness.undisturbed(Variant::Control), None, "{} without a crash", harness.name());
    assert_eq!(found(harness, Variant::Control, histories), None, "{}", harness.name());
}

#[test]
fn ours_has_nothing_against_the_control() {
    check_control(&mut ours(), 10);
}

#[test]
fn turmoil_has_nothing_against_the_control() {
    check_control(&mut turmoil(), 200);
}

#[test]
fn killed_processes_have_nothing_against_the_control() {
    check_control(&mut sigkill(), 10);
}

#[test]
fn ours_catches_every_variant_and_needs_a_crash_for_it() {
    for variant in Variant::WRONG {
        assert_eq!(ours().undisturbed(variant), None, "{variant}");
        assert_ne!(found(&mut ours(), variant, 100), None, "{variant}");
    }
}

#[test]
fn real_files_have_nothing_against_a_variant_that_nobody_kills() {
    for variant in Variant::WRONG {
        assert_eq!(sigkill().undisturbed(variant), None, "{variant}");
    }
}

#[test]
fn a_killed_process_is_caught_between_two_calls_of_it() {
    let violation = found(&mut sigkill(), Variant::OldRemovedFirst, 100).expect("a sidecar is missing");
    assert_eq!(violation.what, What::SidecarMissing);
}

#[test]
fn turmoil_loses_a_rename_that_nothing_has_made_durable() {
    let violation = found(&mut turmoil(), Variant::DatabaseBeforeSidecar, 100).expect("a sidecar is stale");
    assert!(matches!(violation.what, What::SidecarStale | What::SidecarMissing), "{violation}");
}

#[test]
fn a_rename_that_was_not_synced_leaves_the_old_sidecar_or_none_and_no_damaged_one() {
    let kinds = ours().kinds(Variant::DirectoryNotSynced, 20);
    assert!(kinds.contains(&What::SidecarMissing) && kinds.contains(&What::SidecarStale), "{kinds:?}");
    assert!(!kinds.contains(&What::SidecarDamaged), "{kinds:?}");
}

#[test]
fn what_is_compared_has_a_name_of_its_own() {
    for variant in Variant::all() {
        assert_eq!(variant.name().parse(), Ok(variant));
    }
    let unknown = "nothing".parse::<Variant>().expect_err("there is none of this name");
    assert!(unknown.to_string().contains("control, temporary-not-synced"), "{unknown}");
}
