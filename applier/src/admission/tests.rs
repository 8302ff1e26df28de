//! Each method of a leadership and of the gate, on both sides of what decides it.

use super::*;

const OWN: KekCheck = KekCheck([1; 8]);
const OTHER: KekCheck = KekCheck([2; 8]);

const fn with(keyring: Option<KekCheck>) -> Capability {
    Capability { keyring, next: None }
}

/// A leader of term 3 whose first entry was applied at index 10.
fn leader() -> Leadership {
    let mut leadership = Leadership::new();
    leadership.leads(Some(3));
    leadership.applied(RaftIndex(10), 3);
    leadership
}

#[test]
fn the_gate_names_the_first_thing_that_is_missing_and_opens_when_nothing_is() {
    let gate = |enabled, kek, sidecar| MutatorGate { enabled, kek, sidecar }.check();
    for rest in [(false, false), (false, true), (true, false), (true, true)] {
        assert_eq!(gate(false, rest.0, rest.1), Err(GateClosed::Disabled));
    }
    assert_eq!(gate(true, false, false), Err(GateClosed::NoKek));
    assert_eq!(gate(true, false, true), Err(GateClosed::NoKek));
    assert_eq!(gate(true, true, false), Err(GateClosed::NoSidecarPath));
    assert_eq!(gate(true, true, true), Ok(()));
    assert_eq!(MutatorGate::default().check(), Err(GateClosed::Disabled));
}

#[test]
fn a_new_node_does_not_lead() {
    let leadership = Leadership::new();
    assert_eq!(leadership.leading(), Err(NotNow::NotLeader));
    assert_eq!(leadership.may_propose(), Err(NotNow::NotLeader));
    assert_eq!(leadership.capable([], Some(OWN)), Err(NotNow::NotLeader));
}

#[test]
fn a_leader_proposes_in_its_term_once_its_first_entry_is_applied() {
    let mut leadership = Leadership::new();
    leadership.leads(Some(3));
    assert_eq!(leadership.leading(), Ok(3));
    assert_eq!(leadership.may_propose(), Err(NotNow::FirstEntryPending));
    leadership.applied(RaftIndex(9), 2);
    assert_eq!(leadership.ready(), Err(NotNow::FirstEntryPending));
    leadership.applied(RaftIndex(10), 3);
    assert_eq!((leadership.ready(), leadership.may_propose()), (Ok(()), Ok(3)));
    leadership.applied(RaftIndex(11), 2);
    assert_eq!(leadership.may_propose(), Ok(3), "once ready, it stays so");
}

#[test]
fn an_entry_that_is_applied_while_another_leads_makes_nobody_ready() {
    let mut leadership = Leadership::new();
    leadership.applied(RaftIndex(10), 3);
    leadership.leads(Some(3));
    assert_eq!(leadership.ready(), Err(NotNow::FirstEntryPending));
}

#[test]
fn the_slot_is_taken_until_the_request_or_a_later_entry_is_applied() {
    for (applied, free) in [(10, false), (11, false), (12, true), (13, true)] {
        let mut leadership = leader();
        assert_eq!(leadership.free(), Ok(()));
        leadership.took(RaftIndex(12));
        let taken = Err(NotNow::InFlight { index: RaftIndex(12) });
        assert_eq!((leadership.free(), leadership.may_propose()), (taken.clone(), taken.clone().map(|()| 3)));
        leadership.applied(RaftIndex(applied), 3);
        assert_eq!(leadership.free(), if free { Ok(()) } else { taken });
    }
}

#[test]
fn an_entry_of_another_term_at_its_index_frees_the_slot_too() {
    let mut leadership = leader();
    leadership.took(RaftIndex(12));
    leadership.applied(RaftIndex(12), 2);
    assert_eq!(leadership.may_propose(), Ok(3));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "one request at a time")]
fn two_requests_at_a_time_are_a_hosts_mistake() {
    let mut leadership = leader();
    leadership.took(RaftIndex(12));
    leadership.took(RaftIndex(13));
}

#[test]
fn any_change_of_role_or_term_clears_slot_answers_and_readiness() {
    for change in [[Some(4)].as_slice(), &[None], &[None, Some(3)], &[Some(4), Some(3)]] {
        let mut leadership = leader();
        leadership.answered(3, 7, with(Some(OWN)));
        leadership.took(RaftIndex(12));
        change.iter().for_each(|term| leadership.leads(*term));
        let last = *change.last().expect("there is a change");
        assert_eq!(leadership.leading().ok(), last);
        assert_eq!(leadership.ready(), Err(NotNow::FirstEntryPending));
        assert_eq!(leadership.free(), Ok(()));
        assert_eq!(leadership.unprobed([7]), [7]);
    }
}

#[test]
fn the_same_term_again_changes_nothing() {
    let mut leadership = leader();
    leadership.answered(3, 7, with(Some(OWN)));
    leadership.took(RaftIndex(12));
    leadership.leads(Some(3));
    assert_eq!((leadership.leading(), leadership.ready()), (Ok(3), Ok(())));
    assert_eq!(leadership.free(), Err(NotNow::InFlight { index: RaftIndex(12) }));
    assert_eq!(leadership.unprobed([7]), Vec::<u64>::new());
}

#[test]
fn an_answer_of_another_term_is_ignored() {
    let mut leadership = leader();
    for term in [0, 2, 4, u64::MAX] {
        leadership.answered(term, 7, with(Some(OWN)));
        assert_eq!(leadership.unprobed([7]), [7]);
    }
    leadership.leads(None);
    leadership.answered(3, 7, with(Some(OWN)));
    leadership.leads(Some(3));
    assert_eq!(leadership.unprobed([7]), [7], "who does not lead has asked nothing");
}

#[test]
fn members_are_capable_when_each_has_answered_with_this_nodes_kek() {
    let mut leadership = leader();
    assert_eq!(leadership.capable([], Some(OWN)), Ok(()));
    let unprobed = |members: &[u64]| Err(NotNow::Unprobed { members: members.to_vec() });
    assert_eq!(leadership.capable([9, 7, 8], Some(OWN)), unprobed(&[9, 7, 8]));
    leadership.answered(3, 7, with(Some(OWN)));
    leadership.answered(3, 8, with(None));
    assert_eq!(leadership.unprobed([9, 7, 8]), [9]);
    assert_eq!(leadership.capable([9, 7, 8], Some(OWN)), unprobed(&[9]), "before what is wrong with others");
    leadership.answered(3, 9, with(Some(OTHER)));
    assert_eq!(leadership.capable([9, 7, 8], Some(OWN)), Err(NotNow::OtherKek { member: 9 }));
    assert_eq!(leadership.capable([7, 8], Some(OWN)), Err(NotNow::NoKeyring { member: 8 }));
    assert_eq!(leadership.capable([7], Some(OWN)), Ok(()));
    assert_eq!(leadership.capable([7], Some(OTHER)), Err(NotNow::OtherKek { member: 7 }));
    assert_eq!(leadership.capable([7], None), Err(NotNow::NoKeyringHere));
}

#[test]
fn members_are_ready_for_a_rewrap_when_each_has_its_kek_in_force_or_as_the_next_one() {
    let mut leadership = leader();
    let ready =
        |leadership: &Leadership, members: &[u64]| leadership.ready_to_rewrap(members.iter().copied(), OTHER);
    assert_eq!(ready(&leadership, &[]), Ok(()));
    assert_eq!(ready(&leadership, &[7]), Err(NotNow::Unprobed { members: vec![7] }));
    leadership.answered(3, 7, Capability { keyring: Some(OWN), next: Some(OTHER) });
    leadership.answered(3, 8, with(Some(OTHER)));
    assert_eq!(ready(&leadership, &[7, 8]), Ok(()));
    leadership.answered(3, 9, with(Some(OWN)));
    assert_eq!(ready(&leadership, &[7, 9]), Err(NotNow::LacksKek { member: 9, wanted: OTHER }));
    leadership.answered(3, 9, with(None));
    assert_eq!(ready(&leadership, &[7, 9]), Err(NotNow::NoKeyring { member: 9 }));
    leadership.leads(None);
    assert_eq!(ready(&leadership, &[]), Err(NotNow::NotLeader));
}

#[test]
fn the_newest_answer_of_a_member_counts() {
    let mut leadership = leader();
    leadership.answered(3, 7, with(None));
    assert_eq!(leadership.capable([7], Some(OWN)), Err(NotNow::NoKeyring { member: 7 }));
    leadership.answered(3, 7, with(Some(OWN)));
    assert_eq!(leadership.capable([7], Some(OWN)), Ok(()));
}

#[test]
fn what_members_are_capable_of_does_not_hold_up_a_proposal() {
    let mut leadership = leader();
    leadership.answered(3, 7, with(None));
    assert_eq!(leadership.may_propose(), Ok(3));
}
