//! Every line of the table has a chronicle that breaks it, and an untroubled chronicle breaks none.

use std::sync::Arc;

use super::*;
use crate::chronicle::{End, Logged};
use crate::form::{Blob, BlobFault, KeyNumber, Row};
use crate::history::Delivery;
use crate::model::{Reason, Rules};
use crate::sealing::Use;

/// The nodes.
const A: u64 = 0x11;
const B: u64 = 0x22;
const C: u64 = 0x33;

/// Requests for the bootstrap, the value and the registration of the log.
const BOOTSTRAP: Asked = Asked { client: 1, number: 1 };
const PUT: Asked = Asked { client: 2, number: 1 };
const REGISTER: Asked = Asked { client: 1, number: 2 };
/// One that was refused.
const TOO_LOW: Asked = Asked { client: 3, number: 1 };
/// One that nobody has heard of yet.
const NEW: Asked = Asked { client: 3, number: 2 };

const VALUE: Form = Form::Data { key: 7, value: 3, seal: None };
const ROW: Row = Row { dek: 1, node: A, epoch: 3 };

fn bootstrap() -> Form {
    let blob = |key| Blob { key: KeyNumber(key), seal: 0, kek: 0, fault: BlobFault::None };
    let rows = vec![Row { epoch: 1, ..ROW }];
    Form::Bootstrap { storage: 1, storage_blob: blob(1), raft: 2, raft_blob: blob(2), rows }
}

/// A registration below the one in the log.
fn too_low() -> Form {
    Form::Registration(Row { epoch: 2, ..ROW })
}

/// Puts an entry at the end of the log, and its state behind it where the model accepts it.
fn append(chronicle: &mut Chronicle, form: Form, asked: Asked, smuggled: bool) {
    let verdict = chronicle.newest().judge(chronicle.rules, true, &form);
    if verdict.advances() {
        let next = chronicle.newest().after(&form, verdict);
        chronicle.states.push(Arc::new(next));
    }
    chronicle.log.push(Logged { term: 2, form, wrap: None, asked, membership: false, smuggled });
}

/// A log of five entries: a foundation, a bootstrap at 2, a value at 3, a registration at 4, a no-op. Three nodes are
/// at its end, and everyone was told what has happened.
fn sound() -> Chronicle {
    let mut chronicle = Chronicle::new(Rules::Hardened);
    append(&mut chronicle, Form::Nothing, Asked::default(), false);
    append(&mut chronicle, bootstrap(), BOOTSTRAP, false);
    append(&mut chronicle, VALUE, PUT, false);
    append(&mut chronicle, Form::Registration(ROW), REGISTER, false);
    append(&mut chronicle, Form::Nothing, Asked::default(), false);
    let holds = |(node, index)| ClusterEvent::Holds { node, index, digest: 100 + index };
    chronicle.events = vec![leads(A, 2), leads(B, 3), leads(B, 3)];
    chronicle.events.extend([A, B, C].into_iter().flat_map(|node| [(node, 3), (node, 5)]).map(holds));
    chronicle.events.extend([
        done(BOOTSTRAP, bootstrap(), 2),
        done(PUT, VALUE, 3),
        done(REGISTER, Form::Registration(ROW), 4),
        refused(TOO_LOW, too_low(), Reason::EpochRollback, 4),
        ClusterEvent::Installed { node: C, index: 3, missing_keys: Vec::new() },
    ]);
    chronicle.nodes = [A, B, C].into_iter().map(|node| (node, Vec::new())).collect();
    chronicle.end = End { converged_ms: Some(1200), ..End::default() };
    chronicle
}

fn leads(node: u64, term: u64) -> ClusterEvent {
    ClusterEvent::Leads { node, term }
}

fn done(asked: Asked, form: Form, index: u64) -> ClusterEvent {
    ClusterEvent::Told { asked, form: Some(form), told: Told::Done(Some(index)) }
}

fn refused(asked: Asked, form: Form, reason: Reason, at: u64) -> ClusterEvent {
    let told = Told::Refused { why: Refusal::Verdict(reason), at };
    ClusterEvent::Told { asked, form: Some(form), told }
}

/// What is no matter of the model: the gate was closed.
fn closed(asked: Asked, form: Form, at: u64) -> ClusterEvent {
    ClusterEvent::Told { asked, form: Some(form), told: Told::Refused { why: Refusal::Closed, at } }
}

fn rejects(node: u64, index: u64, reason: Reason) -> ClusterEvent {
    ClusterEvent::Refused { node, index, answer: Delivered::Decided(Verdict::Rejected(reason)) }
}

/// The sound chronicle with these events at its end.
fn with(events: impl IntoIterator<Item = ClusterEvent>) -> Chronicle {
    let mut chronicle = sound();
    chronicle.events.extend(events);
    chronicle
}

/// The sound chronicle and, at index 6, an entry that every node has to refuse; a wrong leader has smuggled it in, or
/// else somebody has admitted it.
fn with_refused_entry(smuggled: bool, events: impl IntoIterator<Item = ClusterEvent>) -> Chronicle {
    let mut chronicle = with(events);
    append(&mut chronicle, too_low(), Asked::default(), smuggled);
    assert_eq!(chronicle.refused_at(), Some(6));
    chronicle
}

/// A chronicle that breaks this invariant and no other.
fn breaking(name: &str) -> Chronicle {
    match name {
        "one-leader-per-term" => with([leads(C, 3)]),
        "one-log" => with([ClusterEvent::Differs { node: C, index: 4 }]),
        "replicas-agree" => with([ClusterEvent::Holds { node: C, index: 3, digest: 1 }]),
        "admitted-is-never-rejected" => with_refused_entry(false, [rejects(A, 6, Reason::EpochRollback)]),
        "refusal-halts-everyone-alike" => with_refused_entry(
            true,
            [rejects(A, 6, Reason::EpochRollback), rejects(B, 6, Reason::NodeCollision)],
        ),
        "acknowledged-request-survives" => with([done(NEW, VALUE, 4)]),
        "answers-agree" => with([closed(NEW, bootstrap(), 4), done(NEW, bootstrap(), 2)]),
        "refusal-has-its-reason" => with([refused(NEW, too_low(), Reason::NodeCollision, 4)]),
        // Of the first time nobody was told, so that the answers do not contradict each other.
        "refused-request-changes-nothing" => {
            let mut chronicle = sound();
            chronicle.events.retain(|event| !matches!(event, ClusterEvent::Told { .. }));
            chronicle.events.push(closed(BOOTSTRAP, bootstrap(), 4));
            chronicle
        }
        "snapshot-brings-keys" => {
            with([ClusterEvent::Installed { node: C, index: 3, missing_keys: vec![2] }])
        }
        "lost-sidecar-is-refused" => with([robbed(None)]),
        "nonces-are-nobody-elses" => with([uses(A, 1), uses(A, 1), uses(B, 2)]),
        "cluster-converges" => {
            let mut chronicle = sound();
            chronicle.end = End { waiting_for: Some("11 is at 3 of 5".to_owned()), ..End::default() };
            chronicle
        }
        other => panic!("no chronicle breaks {other:?}"),
    }
}

/// A use of one nonce, for an input of this number.
fn uses(node: u64, input: u64) -> ClusterEvent {
    ClusterEvent::Used { node, used: Use { key: 7, nonce: [1; 12], input } }
}

fn robbed(refusal: Option<&str>) -> ClusterEvent {
    ClusterEvent::StartedWithoutItsSidecar { node: C, refusal: refusal.map(str::to_owned) }
}

fn broken(chronicle: &Chronicle) -> Vec<&'static str> {
    check_cluster(chronicle).iter().map(|violation| violation.invariant).collect()
}

#[test]
fn every_invariant_has_a_chronicle_that_breaks_it_alone() {
    for invariant in CLUSTER {
        assert_eq!(broken(&breaking(invariant.name)), [invariant.name]);
    }
}

#[test]
fn an_untroubled_chronicle_breaks_none() {
    assert_eq!(check_cluster(&sound()), []);
}

#[test]
fn no_two_lines_of_both_tables_have_one_name() {
    let names = CLUSTER.iter().map(|invariant| invariant.name);
    let names: BTreeSet<&str> =
        names.chain(super::super::INVARIANTS.iter().map(|invariant| invariant.name)).collect();
    assert_eq!(names.len(), CLUSTER.len() + super::super::INVARIANTS.len());
}

#[test]
fn a_node_may_lead_in_many_terms_and_many_nodes_in_terms_of_their_own() {
    assert_eq!(broken(&with([leads(A, 4), leads(C, 5), leads(C, 5)])), [""; 0]);
    assert_eq!(broken(&with([leads(A, 4), leads(C, 5), leads(C, 4)])), ["one-leader-per-term"]);
}

#[test]
fn nodes_are_compared_at_equal_index_only() {
    let holds = |index, digest| ClusterEvent::Holds { node: A, index, digest };
    assert_eq!(broken(&with([holds(4, 1), holds(3, 103)])), [""; 0]);
    assert_eq!(broken(&with([holds(4, 1), holds(4, 2)])), ["replicas-agree"], "also with itself");
}

#[test]
fn admission_promises_nothing_behind_an_entry_that_was_smuggled_in() {
    let rejects = rejects(A, 6, Reason::EpochRollback);
    let with_smuggled_at = |at: usize| {
        let mut chronicle = with_refused_entry(false, [rejects.clone()]);
        chronicle.log[at].smuggled = true;
        broken(&chronicle)
    };
    assert_eq!(with_smuggled_at(6), [""; 0], "the entry itself");
    assert_eq!(with_smuggled_at(5), [""; 0], "one before it");
    let mut later = with_refused_entry(false, [rejects]);
    append(&mut later, VALUE, NEW, true);
    assert_eq!(broken(&later), ["admitted-is-never-rejected"], "one behind it excuses nothing");
}

#[test]
fn an_error_of_a_disk_is_no_rejection() {
    let answer = Delivered::Failed("io".to_owned());
    assert_eq!(broken(&with([ClusterEvent::Refused { node: A, index: 5, answer }])), [""; 0]);
}

#[test]
fn everyone_halts_at_one_entry_for_one_reason_and_stays_there() {
    let rollback = |node| rejects(node, 6, Reason::EpochRollback);
    let of = |events: Vec<ClusterEvent>| broken(&with_refused_entry(true, events));
    assert_eq!(of(vec![rollback(A), rollback(B), rollback(C), rollback(A)]), [""; 0]);
    assert_eq!(of(vec![rollback(A), rejects(B, 7, Reason::EpochRollback)]), ["refusal-halts-everyone-alike"]);
    let past = ClusterEvent::PastRefusal { node: B, index: 6 };
    assert_eq!(of(vec![past]), ["refusal-halts-everyone-alike"], "also where nobody else has refused it");
}

#[test]
fn what_is_acknowledged_stands_in_the_log_whoever_has_asked_for_it() {
    assert_eq!(broken(&with([done(NEW, bootstrap(), 2)])), [""; 0], "a duplicate names the first");
    assert_eq!(broken(&with([done(NEW, bootstrap(), 3)])), ["acknowledged-request-survives"]);
    assert_eq!(broken(&with([done(NEW, VALUE, 6)])), ["acknowledged-request-survives"], "past the end");
    let nowhere = ClusterEvent::Told { asked: NEW, form: Some(VALUE), told: Told::Done(None) };
    assert_eq!(broken(&with([nowhere])), [""; 0], "who does not know the index says none");
}

/// What two answers to one request break.
fn twice(form: &Form, first: Told, second: Told) -> Vec<&'static str> {
    let told = |told| ClusterEvent::Told { asked: NEW, form: Some(form.clone()), told };
    broken(&with([told(first), told(second)]))
}

#[test]
fn a_request_that_is_sent_again_gets_the_same_index() {
    let done = |index| Told::Done(Some(index));
    let mut chronicle = sound();
    append(&mut chronicle, bootstrap(), NEW, false);
    let told = |first, second| {
        let told = |told| ClusterEvent::Told { asked: NEW, form: Some(bootstrap()), told };
        let events = [told(first), told(second)];
        broken(&Chronicle { events: events.to_vec(), ..chronicle.clone() })
    };
    assert_eq!(told(done(2), done(2)), [""; 0]);
    assert_eq!(told(done(2), Told::Done(None)), [""; 0]);
    assert_eq!(told(Told::Done(None), done(2)), [""; 0]);
    assert_eq!(told(done(2), done(6)), ["answers-agree"]);
    // A value may be written twice, and either index is a right answer.
    append(&mut chronicle, VALUE, PUT, false);
    let events = vec![self::done(PUT, VALUE, 3), self::done(PUT, VALUE, 7)];
    assert_eq!(broken(&Chronicle { events, ..chronicle }), [""; 0]);
}

#[test]
fn a_refusal_speaks_of_the_state_at_its_index() {
    let refused = |at| Told::Refused { why: Refusal::Closed, at };
    let done = Told::Done(Some(2));
    assert_eq!(twice(&bootstrap(), refused(1), done.clone()), [""; 0], "it was done later");
    assert_eq!(twice(&bootstrap(), refused(2), done.clone()), ["answers-agree"]);
    assert_eq!(twice(&bootstrap(), done.clone(), refused(1)), [""; 0], "an old refusal that comes late");
    assert_eq!(twice(&bootstrap(), done, refused(2)), ["answers-agree"]);
    assert_eq!(twice(&bootstrap(), refused(3), refused(4)), [""; 0]);
    assert_eq!(twice(&bootstrap(), Told::Done(None), refused(4)), [""; 0]);
}

#[test]
fn a_refusal_is_held_against_the_state_that_it_was_judged_against() {
    let collides = || Form::Registration(Row { node: A + (1 << 16), ..ROW });
    let at = |at| broken(&with([refused(NEW, collides(), Reason::NodeCollision, at)]));
    assert_eq!(at(2), [""; 0], "the bootstrap has registered the other one");
    assert_eq!(at(1), ["refusal-has-its-reason"], "before it there was no key to register for");
    assert_eq!(at(99), [""; 0], "of a state behind a refused entry the model knows nothing");
    let sound = refused(NEW, Form::Registration(Row { epoch: 4, ..ROW }), Reason::EpochRollback, 4);
    assert_eq!(broken(&with([sound])), ["refusal-has-its-reason"], "what the model accepts");
    assert_eq!(broken(&with([closed(NEW, too_low(), 1)])), [""; 0], "a gate is no matter of the model");
}

#[test]
fn a_request_may_be_refused_before_a_copy_of_it_is_done_and_not_after() {
    let told = |at| {
        let mut chronicle = sound();
        chronicle.events = vec![closed(REGISTER, Form::Registration(ROW), at)];
        broken(&chronicle)
    };
    assert_eq!(told(3), [""; 0]);
    assert_eq!(told(4), ["refused-request-changes-nothing"]);
}

#[test]
fn a_lost_sidecar_may_be_refused_in_any_words() {
    assert_eq!(broken(&with([robbed(Some("sidecar-missing")), robbed(Some("sidecar-stale"))])), [""; 0]);
}

#[test]
fn what_is_asked_of_each_node_is_asked_of_every_node_and_found_with_its_name() {
    let mut chronicle = sound();
    let leak = Event::KeyOnDisk { path: "/db/registry.redb".to_owned() };
    chronicle.nodes.insert(B, vec![leak.clone()]);
    chronicle.nodes.insert(C, vec![leak]);
    let found = check_cluster(&chronicle);
    assert_eq!(found.len(), 1, "one defect is found once: {found:#?}");
    assert_eq!(found[0].fingerprint, "no-key-bytes-on-disk//db/registry.redb/write");
    assert!(found[0].evidence.starts_with("node 22: "), "{}", found[0].evidence);
    // Each node is judged on what it went through itself.
    let refused = |index| Event::Delivered {
        index,
        kind: VALUE.kind(),
        delivery: Delivery::First,
        answer: Delivered::Decided(Verdict::Rejected(Reason::Malformed)),
        expected: Verdict::Applied,
        faulted: false,
        effects: None,
        before: None,
    };
    chronicle.nodes.insert(A, vec![refused(3)]);
    assert_eq!(broken(&chronicle), ["legitimate-log-never-halts", "no-key-bytes-on-disk"]);
}

#[test]
fn who_is_refused_its_start_is_found_by_that_name_and_not_by_what_it_keeps_waiting() {
    let stuck = |faulted| {
        let mut chronicle = breaking("cluster-converges");
        chronicle.nodes.insert(B, vec![Event::StartRefused { why: "io".to_owned(), faulted }]);
        broken(&chronicle)
    };
    assert_eq!(stuck(false), ["start-succeeds"]);
    assert_eq!(stuck(true), ["cluster-converges"], "a start that a fault has struck is tried again");
}
