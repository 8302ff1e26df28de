//! The world `reject`: every way to be refused, one after the other, against one reachable state; then, after a restart,
//! all of them again.
//!
//! A refused entry stops the host, so in a log one restart lies between any two of them. Since a refusal leaves nothing
//! behind, they can as well share a life here; where one does leave something behind, that is a violation, and the run
//! ends with it.

use std::sync::Arc;

use sim::{Ratio, Site};

use super::Record;
use super::node::{Death, Node, Survived, Weather};
use crate::form::{Form, Seal};
use crate::history::{Delivery, Event, Moment};
use crate::model::Verdict;
use crate::subject::Delivered;
use crate::workload::{self, BAD_ENVELOPES, INVALID_KINDS, Mix, News};

const LENGTH: Site = Site::new("log.length");
const LONGER: Site = Site::new("log.longer");
const KEYRING: Site = Site::new("host.keyring");
const CRASHES: Site = Site::new("weather.crashes");
const FAULTS: Site = Site::new("weather.faults");
const ROTATE: Site = Site::new("reject.first-kind");
const SHUTDOWN: Site = Site::new("host.shutdown");
const EARLY: Site = Site::new("mix.early-registration");

/// Lives after which a run gives up on getting through its prefix.
const LIVES_MAX: u64 = 60;

pub(super) fn run(mut node: Node<'_>) -> Record {
    let length = node.choices.draw(LENGTH, 8);
    let news = super::draw_news(node.choices, node.subject.rules());
    node.ring = news.ring;
    let length = if news.share == Ratio::NEVER { length } else { length + node.choices.draw(LONGER, 16) };
    let length = node.length(length);
    let mix = Mix { invalid: Ratio::NEVER, early_registration: node.choices.draw(EARLY, 4) == 1 };
    // Without a keyring every key entry is refused; registrations and data are not.
    node.keyring = node.choices.draw(KEYRING, 4) != 1;
    let crash = *node.choices.pick(CRASHES, &[Ratio::NEVER, Ratio::new(1, 4)]);
    let fault = *node.choices.pick(FAULTS, &[Ratio::NEVER, Ratio::new(1, 16)]);
    node.weather = Weather { crash, crashes_max: 4, fault: Ratio::NEVER };
    if reach(&mut node, mix, news, length) {
        node.weather = Weather { crash: Ratio::NEVER, crashes_max: 0, fault };
        let first = node.choices.draw(ROTATE, INVALID_KINDS as u64) as usize;
        if refuse_all(&mut node, first) {
            let death = [Death::Clean, Death::Process, Death::Power];
            let death = *node.choices.pick(SHUTDOWN, &death);
            node.end(death);
            if start(&mut node) {
                refuse_all(&mut node, first);
                node.observe(Moment::CaughtUp);
            }
        }
    }
    node.finish(0)
}

/// Leads the node through a prefix of accepted entries, crashes included. False if it got stuck.
fn reach(node: &mut Node<'_>, mix: Mix, news: News, length: u64) -> bool {
    let mut alive = false;
    for _ in 0..LIVES_MAX {
        if !alive && !matches!(node.start(), Survived::Yes(())) {
            if node.stuck {
                return false;
            }
            continue;
        }
        alive = true;
        let position = node.resume_after().unwrap_or_else(|| node.frontier());
        let index = position + 1;
        if index > length {
            return true;
        }
        if node.log.len() as u64 == index {
            let entry = accepted(node, mix, news);
            node.append(entry);
        }
        match node.deliver(index, Delivery::First) {
            Survived::Yes(answer) if answer.advances() => {}
            Survived::Yes(_) => return false,
            Survived::No => alive = false,
        }
    }
    false
}

/// An entry that the rules accept.
fn accepted(node: &mut Node<'_>, mix: Mix, news: News) -> (Form, Option<Seal>) {
    let state = node.state().clone();
    let rules = node.subject.rules();
    let (form, wrap) = node.book.next(node.choices, (mix, news), rules, &state);
    match state.judge_sealed(rules, node.keyring, &form, wrap.as_ref()).advances() {
        true => (form, wrap),
        false => (Form::Nothing, None),
    }
}

fn start(node: &mut Node<'_>) -> bool {
    for _ in 0..LIVES_MAX {
        match node.start() {
            Survived::Yes(()) => return true,
            Survived::No if node.stuck => return false,
            Survived::No => {}
        }
    }
    false
}

/// Delivers every kind once at the next index. False if the run has to end.
fn refuse_all(node: &mut Node<'_>, first: usize) -> bool {
    let index = node.frontier() + 1;
    let (rules, state) = (node.subject.rules(), Arc::clone(node.state()));
    let envelopes = if state.raft_cutover.is_some() { BAD_ENVELOPES } else { 0 };
    for step in 0..INVALID_KINDS + envelopes {
        let (kind, entry) = match step.checked_sub(INVALID_KINDS) {
            None => {
                let kind = (first + step) % INVALID_KINDS;
                let form = workload::invalid(&state, kind);
                let wrap = node.book.envelope(rules, &state, &form);
                (kind, (form, wrap))
            }
            Some(which) => (step, workload::bad_envelope(&state, which)),
        };
        if state.judge_sealed(rules, node.keyring, &entry.0, entry.1.as_ref()).advances() {
            continue;
        }
        if !node.has_room_for(index, kind as u64) {
            continue;
        }
        node.tag = kind as u64;
        node.log.truncate(index as usize);
        node.append(entry);
        let Survived::Yes(answer) = node.deliver(index, Delivery::First) else { return false };
        match answer {
            Delivered::Decided(Verdict::Rejected(_)) if unchanged(node) => {}
            Delivered::Failed(_) if unchanged(node) => {
                // redb refuses to go on after an I/O error, so the rest of this round needs a new life.
                node.die_of_fault();
                if !start(node) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// Whether the last delivery left nothing behind.
fn unchanged(node: &Node<'_>) -> bool {
    match node.history.last() {
        Some(Event::Delivered { effects: Some(effects), .. }) => effects.none(),
        _ => true,
    }
}
