//! Proofs: our applier is closed without a finding, and what is known to be wrong is not.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use scenarios::form::Form;
use scenarios::model::{Rules, State, Verdict};
use scenarios::prove::script::{alphabet, named};
use scenarios::prove::{Errors, Proof, Terms, every_log, one_log};
use scenarios::subject::Subject;
use scenarios::teeth::WRONG;
use sim::{Lies, Profile};

static GO_ON: AtomicBool = AtomicBool::new(false);

/// An honest disk under the default profile, on which no call fails.
fn terms(subject: Subject) -> Terms<'static> {
    Terms {
        subject,
        profile: Profile::Posix,
        lies: Lies::NONE,
        errors: Errors::None,
        garbled: false,
        first_only: false,
        stop: &GO_ON,
        progress: &|_| {},
    }
}

fn log(name: &str) -> Vec<Form> {
    let (_, forms) =
        named(Rules::Hardened).into_iter().find(|(named, _)| *named == name).expect("a named log");
    forms
}

fn close(terms: Terms<'_>, name: &str) -> Proof {
    one_log(terms, name, &log(name))
}

/// Every finding with the way to it, whose lines name the calls that a crash has undone.
fn findings(proof: &Proof) -> String {
    let mut text = String::new();
    for found in proof.findings.values() {
        text.push_str(&format!("\n{}: {}\n  {}\n", found.fingerprint, found.evidence, found.log));
        found.path.iter().for_each(|step| text.push_str(&format!("    {step}\n")));
    }
    text
}

fn check_closed(proof: &Proof) {
    assert!(proof.findings.is_empty(), "{}: {}", proof.log, findings(proof));
    assert!(proof.complete, "{}: {:#?}", proof.log, proof.states);
    assert!(proof.states.raw >= proof.states.distinct, "{:#?}", proof.states);
    assert!(proof.states.checked >= proof.states.expanded, "{:#?}", proof.states);
    assert!(proof.states.twins > 0 && proof.states.refusals > 0, "{:#?}", proof.states);
}

/// The way to the finding of this name.
fn path<'p>(proof: &'p Proof, fingerprint: &str) -> &'p [String] {
    let found = proof.findings.get(fingerprint);
    let found = found.unwrap_or_else(|| panic!("no {fingerprint}: {}", findings(proof)));
    assert!(found.states_hit > 0 && found.path.len() > 1, "{found:#?}");
    assert_eq!(found.path[0], "an empty disk", "{found:#?}");
    &found.path
}

fn shows(proof: &Proof, invariant: &str) -> bool {
    proof.findings.values().any(|found| found.invariant == invariant)
}

#[test]
fn every_log_of_up_to_two_entries_is_closed() {
    let proof = every_log(terms(Subject::Hardened), 2);
    check_closed(&proof);
    let letters = alphabet(Rules::Hardened).len() as u64;
    assert_eq!(proof.logs, letters + letters * letters);
    assert!(proof.distinct_logs < proof.logs && proof.distinct_logs > letters, "{}", proof.distinct_logs);
    assert!(proof.recovery_depth_max >= 3, "{}", proof.recovery_depth_max);
    // What a node calls, and how states are told apart, changes these; nothing else may.
    let digest = format!("{:016x}", proof.digest);
    assert_eq!((proof.states.expanded, digest.as_str()), (584, "a8a728fd5ffafd28"), "{:#?}", proof.states);
}

#[test]
fn the_alphabet_has_an_entry_for_every_kind_of_verdict() {
    let letters = alphabet(Rules::Hardened);
    assert!(letters.len() >= 12, "{}", letters.len());
    let judge = |state: &State, form: &Form| state.judge(Rules::Hardened, true, form);
    let empty = State::default();
    let mut states = vec![empty.clone()];
    for form in &letters {
        let verdict = judge(&empty, form);
        if verdict.advances() {
            states.push(empty.after(form, verdict));
        }
    }
    let verdicts: BTreeSet<Verdict> =
        states.iter().flat_map(|state| letters.iter().map(|form| judge(state, form))).collect();
    let refusals = verdicts.iter().filter(|verdict| !verdict.advances()).count();
    assert!(refusals >= 7, "{verdicts:?}");
    assert!(verdicts.contains(&Verdict::Applied) && verdicts.contains(&Verdict::NoOp), "{verdicts:?}");
}

fn check_that_no_failed_call_breaks(name: &str) {
    let proof = close(Terms { errors: Errors::Fenced, ..terms(Subject::Hardened) }, name);
    check_closed(&proof);
    assert!(proof.states.errors > 1_000, "{:#?}", proof.states);
}

#[test]
fn garbage_in_a_sector_is_refused_cleanly_or_makes_no_difference() {
    let proof = close(Terms { garbled: true, ..terms(Subject::Hardened) }, "first-bootstrap");
    check_closed(&proof);
    assert!(proof.states.garbled > 1_000 && proof.states.refused > 0, "{:#?}", proof.states);
    assert!(proof.states.refused < proof.states.garbled, "{:#?}", proof.states);
}

#[test]
fn no_failed_call_breaks_a_first_bootstrap() {
    check_that_no_failed_call_breaks("first-bootstrap");
}

#[test]
fn no_failed_call_breaks_rotations() {
    check_that_no_failed_call_breaks("rotations");
}

#[test]
fn a_page_cache_that_lies_after_a_failed_sync_breaks_the_database() {
    let terms = Terms { errors: Errors::Unfenced, first_only: true, ..terms(Subject::Hardened) };
    let proof = close(terms, "first-bootstrap");
    assert!(shows(&proof, "start-succeeds"), "{}", findings(&proof));
}

#[test]
fn every_profile_closes_a_first_bootstrap() {
    for profile in Profile::ALL {
        check_closed(&close(Terms { profile, ..terms(Subject::Hardened) }, "first-bootstrap"));
    }
}

/// Rotations, by the apply path as merged, closed once.
fn rotations_as_merged() -> &'static Proof {
    static PROOF: OnceLock<Proof> = OnceLock::new();
    PROOF.get_or_init(|| close(terms(Subject::AsMerged), "rotations"))
}

#[test]
fn known_defects_of_the_reference_are_found_with_the_way_to_them() {
    let proof = rotations_as_merged();
    path(proof, "legitimate-log-never-halts/redelivery: already-bootstrapped/bootstrap");
    let impure = proof.findings.values().find(|found| found.invariant == "rejection-is-pure");
    path(proof, &impure.unwrap_or_else(|| panic!("{}", findings(proof))).fingerprint);
}

/// The sidecar was renamed and its directory not synced when the process died. The next start trusts what it reads, and
/// then the power fails.
#[test]
fn a_start_that_trusts_what_it_reads_loses_the_sidecar() {
    let path = path(rotations_as_merged(), "sidecar-old-or-new/missing/after-start");
    let place = |what: &str| path.iter().position(|step| step.contains(what));
    let (process, power) = (place("process crash"), place("power loss"));
    assert!(process.is_some() && process < power, "{path:#?}");
}

fn check_lie_is_caught(lies: Lies) {
    let terms = Terms { lies, first_only: true, ..terms(Subject::Hardened) };
    let proofs = ["first-bootstrap", "rotations"].map(|name| close(terms, name));
    assert!(proofs.iter().any(|proof| !proof.findings.is_empty()), "{lies:?}: {proofs:#?}");
}

#[test]
fn a_disk_that_skips_file_syncs_is_caught() {
    check_lie_is_caught(Lies { skip_file_sync: true, ..Lies::NONE });
}

#[test]
fn a_disk_that_skips_directory_syncs_is_caught() {
    check_lie_is_caught(Lies { skip_dir_sync: true, ..Lies::NONE });
}

#[test]
fn a_disk_whose_rename_is_not_atomic_is_caught() {
    check_lie_is_caught(Lies { rename_not_atomic: true, ..Lies::NONE });
}

#[test]
fn key_bytes_on_disk_are_found_in_a_closure_too() {
    let wrong =
        WRONG.iter().find(|wrong| wrong.name == "kek-caches-keys-on-disk").expect("it is in the table");
    let terms = Terms { first_only: true, ..terms(Subject::Wrong(wrong)) };
    let proof = close(terms, "first-bootstrap");
    assert!(shows(&proof, "no-key-bytes-on-disk"), "{}", findings(&proof));
}

#[test]
fn a_proof_that_was_stopped_is_not_complete() {
    let stop = AtomicBool::new(true);
    let terms = Terms { stop: &stop, ..terms(Subject::Hardened) };
    assert!(!close(terms, "first-bootstrap").complete);
    assert!(!every_log(terms, 1).complete);
}

#[test]
fn a_closure_computed_twice_is_one_proof() {
    let clean = Terms { errors: Errors::Fenced, ..terms(Subject::Hardened) };
    for terms in [clean, terms(Subject::AsMerged)] {
        let proof = close(terms, "first-bootstrap");
        assert_eq!(proof.findings.is_empty(), terms.subject == Subject::Hardened, "{}", findings(&proof));
        assert_eq!(proof, close(terms, "first-bootstrap"), "{}", terms.subject);
    }
}

#[test]
fn the_number_of_threads_changes_no_proof() {
    // The epochs of `as-head` rise at every start, so its closure has no end.
    for subject in [Subject::Hardened, Subject::AsMerged] {
        let proof = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| every_log(terms(subject), 1))
        };
        let one = proof(1);
        assert!(one.distinct_logs > 1, "{one:#?}");
        assert_eq!(one, proof(2), "{subject}");
    }
}
