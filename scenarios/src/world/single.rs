//! The world `single`: one node, one log, crashes at any call of any life, redelivery from any earlier index.

use std::collections::BTreeMap;
use std::sync::Arc;

use applier::Purpose;
use sim::{Choices, Ratio, Site};

use super::Record;
use super::node::{Death, Node, Survived, Weather};
use crate::form::{Form, Seal};
use crate::history::{Delivery, Moment};
use crate::model::{State, Verdict};
use crate::probes::Place;
use crate::sealing::envelope_of;
use crate::subject::{Claimed, Delivered, HostSnapshot};
use crate::workload::{Mix, News};

const LENGTH: Site = Site::new("log.length");
const LONGER: Site = Site::new("log.longer");
const CRASHES: Site = Site::new("weather.crashes");
const FAULTS: Site = Site::new("weather.faults");
const BUDGET: Site = Site::new("weather.budget");
const INVALID: Site = Site::new("mix.invalid");
const EARLY: Site = Site::new("mix.early-registration");
const SNAPSHOT: Site = Site::new("host.snapshot");
const ROLLBACK: Site = Site::new("host.rollback");
const FROM: Site = Site::new("host.redeliver-from");
const LEAD: Site = Site::new("host.lead");
const LEAD_FOR: Site = Site::new("host.lead-purpose");
const LEAD_LENGTH: Site = Site::new("host.lead-length");
const LEAD_KEY: Site = Site::new("host.lead-key");
const RETRY: Site = Site::new("host.retry");
const SHUTDOWN: Site = Site::new("host.shutdown");

/// A node that dies of everything it meets still gets this many lives for each entry.
const LIVES_PER_ENTRY: u64 = 8;

struct Host<'a> {
    node: Node<'a>,
    mix: Mix,
    news: News,
    length: u64,
    /// Host snapshots by index. The empty one at 0 is compacted away where a key is retired that it would need.
    snapshots: BTreeMap<u64, HostSnapshot>,
    /// The newest term in which the node has led.
    term: u64,
    /// What it leads for, in this life.
    lead: Option<Lead>,
}

/// The node leads: it claims, and then it seals.
#[derive(Clone, Copy, Debug)]
struct Lead {
    term: u64,
    purpose: Purpose,
    /// How many entries more.
    left: u64,
    /// Whether its registration is in the log, and nobody has looked what came of it.
    proposed: bool,
}

/// What a life led to.
enum Next {
    /// Another life.
    Restart,
    /// The end of the log.
    Finished,
    /// Nowhere: an entry or a start that is refused for ever.
    Stuck,
}

pub(super) fn run(mut node: Node<'_>) -> Record {
    node.weather = draw_weather(node.choices);
    let mix = Mix {
        invalid: *node
            .choices
            .pick(INVALID, &[Ratio::NEVER, Ratio::NEVER, Ratio::new(1, 24), Ratio::new(1, 10)]),
        early_registration: node.choices.draw(EARLY, 4) == 1,
    };
    let length = 6 + node.choices.draw(LENGTH, 7);
    let news = super::draw_news(node.choices, node.subject.rules());
    node.ring = news.ring;
    let length = if news.share == Ratio::NEVER { length } else { length + node.choices.draw(LONGER, 16) };
    let length = node.length(length);
    let snapshots = BTreeMap::from([(0, HostSnapshot::default())]);
    let mut host = Host { node, mix, news, length, snapshots, term: 0, lead: None };
    host.run();
    let Host { node, length, .. } = host;
    node.finish(length)
}

fn draw_weather(choices: &mut Choices) -> Weather {
    let crash = [Ratio::NEVER, Ratio::new(1, 5), Ratio::new(1, 4), Ratio::new(1, 3), Ratio::new(1, 2)];
    let fault = [Ratio::NEVER, Ratio::NEVER, Ratio::NEVER, Ratio::new(1, 12)];
    Weather {
        crash: *choices.pick(CRASHES, &crash),
        crashes_max: 3 + choices.draw(BUDGET, 4),
        fault: *choices.pick(FAULTS, &fault),
    }
}

impl Host<'_> {
    fn run(&mut self) {
        for _ in 0..LIVES_PER_ENTRY * self.length {
            match self.life() {
                Next::Restart => {}
                Next::Stuck => {
                    self.node.stuck = true;
                    return;
                }
                Next::Finished => return self.last_life(),
            }
        }
    }

    /// The faults are over. One power loss more, one redelivery more, and everything has to be in its place.
    fn last_life(&mut self) {
        self.node.weather = Weather { crash: Ratio::NEVER, crashes_max: 0, fault: Ratio::NEVER };
        self.node.end(Death::Power);
        match self.life() {
            Next::Finished => {}
            Next::Restart | Next::Stuck => self.node.stuck = true,
        }
    }

    fn life(&mut self) -> Next {
        self.lead = None;
        let Survived::Yes(()) = self.node.start() else {
            return if self.node.stuck { Next::Stuck } else { Next::Restart };
        };
        let (mut position, delivery) = match self.redelivery() {
            Survived::Yes(from) => from,
            Survived::No => return Next::Restart,
        };
        let mut caught_up = position >= self.node.frontier();
        let (there, mut replayed) = (self.node.frontier(), false);
        loop {
            if !replayed && position >= there {
                replayed = true;
                if let Survived::No = self.node.end_replay() {
                    return if self.node.stuck { Next::Stuck } else { Next::Restart };
                }
            }
            if position >= self.length {
                break;
            }
            let index = position + 1;
            let first = index > self.node.frontier();
            if first && let Survived::No = self.grow_log(index) {
                return Next::Restart;
            }
            if first && !caught_up && self.node.is_settled() {
                caught_up = true;
                self.node.observe(Moment::CaughtUp);
            }
            let delivery = if first { Delivery::First } else { delivery };
            match self.node.deliver(index, delivery) {
                Survived::No => return Next::Restart,
                Survived::Yes(answer) if answer.advances() => {
                    position = index;
                    if self.node.frontier() < index {
                        // The model refused what the subject accepted: from here on they are in different states.
                        return Next::Stuck;
                    }
                    if first {
                        self.maybe_snapshot(index);
                    }
                }
                Survived::Yes(answer) => return self.stopped(index, delivery, &answer),
            }
        }
        self.node.observe(Moment::CaughtUp);
        Next::Finished
    }

    /// Where delivery begins in this life, and on what.
    fn redelivery(&mut self) -> Survived<(u64, Delivery)> {
        let resume = self.node.resume_after();
        let newest = resume.unwrap_or(self.node.host_position()).min(self.node.frontier());
        let candidates: Vec<u64> = self.snapshots.range(..=newest).map(|(index, _)| *index).rev().collect();
        let rollback = self.node.choices.chance(ROLLBACK, Ratio::new(1, 8));
        if rollback && !candidates.is_empty() {
            let index = *self.node.choices.pick(FROM, &candidates);
            let snapshot = self.snapshots[&index].clone();
            if let Survived::No = self.node.restore(index, &snapshot) {
                return Survived::No;
            }
            self.node.hit(Place::RedeliveredRolledBack);
            if index == 0 {
                self.node.hit(Place::RedeliveredFromStart);
            }
            return Survived::Yes((index, Delivery::RolledBack));
        }
        // A subject with an index says where to go on, and a host may still deliver from earlier.
        let mut from = candidates;
        if let Some(resume) = resume {
            from.insert(0, resume.min(self.node.frontier()));
        }
        let index = *self.node.choices.pick(FROM, &from);
        self.node.redeliver_after(index);
        if index < self.node.frontier() {
            self.node.hit(Place::RedeliveredKept);
        }
        Survived::Yes((index, Delivery::Kept))
    }

    fn grow_log(&mut self, index: u64) -> Survived<()> {
        if self.node.log.len() as u64 > index {
            return Survived::Yes(());
        }
        let own = match self.lead(index) {
            Survived::Yes(own) => own,
            Survived::No => return Survived::No,
        };
        let entry = own.unwrap_or_else(|| {
            let state = Arc::clone(self.node.state());
            let node = &mut self.node;
            node.book.next(node.choices, (self.mix, self.news), node.subject.rules(), &state)
        });
        if let Some(dek) = entry.0.retires() {
            self.let_go_of(dek, index - 1);
        }
        self.node.append(entry);
        Survived::Yes(())
    }

    /// The next entry, where the node leads and proposes it.
    fn lead(&mut self, index: u64) -> Survived<Option<(Form, Option<Seal>)>> {
        let state = Arc::clone(self.node.state());
        let Some(lead) = self.lead else { return self.begin_to_lead(&state) };
        if lead.proposed {
            let held = match self.node.claim(lead.term, lead.purpose) {
                Survived::Yes(claimed) => claimed,
                Survived::No => return Survived::No,
            };
            if held != Claimed::Held && !self.node.has_met_a_fault() {
                self.node.claim_failed("not-held", format!("{held:?} before entry {index}"));
            }
        }
        self.lead = Some(Lead { proposed: false, left: lead.left - 1, ..lead }).filter(|lead| lead.left > 0);
        let key = self.node.choices.draw(LEAD_KEY, 4);
        let seals = self.node.subject.rules().seal_before_the_log() && state.storage_cutover.is_some();
        let sealed = (seals && lead.purpose == Purpose::Storage)
            .then(|| self.node.sealed_value(lead.term, key, index));
        let form = match sealed {
            Some(Some(form)) => form,
            Some(None) => {
                self.node.claim_failed("nothing-sealed", format!("before entry {index}"));
                return Survived::Yes(None);
            }
            None if !seals => Form::Data { key, value: index, seal: None },
            None => Form::Nothing,
        };
        Survived::Yes(Some(self.enclosed(lead, &state, form)))
    }

    fn begin_to_lead(&mut self, state: &State) -> Survived<Option<(Form, Option<Seal>)>> {
        let leads = self.news.share != Ratio::NEVER && self.node.subject.rules().cut_over();
        if !leads || state.active.is_none() || !self.node.choices.chance(LEAD, Ratio::new(1, 4)) {
            return Survived::Yes(None);
        }
        self.term += 1;
        let purposes = [Purpose::Storage, Purpose::Storage, Purpose::Raft];
        let purpose = *self.node.choices.pick(LEAD_FOR, &purposes);
        let left = 1 + self.node.choices.draw(LEAD_LENGTH, 3);
        let lead = Lead { term: self.term, purpose, left, proposed: true };
        let payload = match self.node.claim(lead.term, purpose) {
            Survived::No => return Survived::No,
            Survived::Yes(Claimed::Propose(payload)) => payload,
            Survived::Yes(_) => return Survived::Yes(None),
        };
        let Some(form) = self.node.registration(&payload) else { return Survived::Yes(None) };
        let verdict = state.judge(self.node.subject.rules(), self.node.keyring, &form);
        if verdict != Verdict::Applied {
            self.node.claim_failed("refused", format!("{form}: {verdict:?}"));
        }
        self.lead = Some(lead);
        Survived::Yes(Some(self.enclosed(lead, state, form)))
    }

    /// Puts an entry of the node's own into its envelope, where it may seal one; else another leader has proposed it.
    fn enclosed(&mut self, lead: Lead, state: &State, form: Form) -> (Form, Option<Seal>) {
        if state.raft_cutover.is_none() || form == Form::Nothing {
            return (form, None);
        }
        let own = (lead.purpose == Purpose::Raft).then(|| self.node.sealed_entry(lead.term, &form)).flatten();
        let rules = self.node.subject.rules();
        let wrap = own.or_else(|| self.node.book.envelope(rules, state, &form));
        (form, wrap)
    }

    /// Before a key is retired, the host lets go of the snapshots from which something would need it again: those with a
    /// value under it, and those before the last log entry that stands in an envelope under it.
    fn let_go_of(&mut self, dek: u32, newest: u64) {
        if let Some(snapshot) = self.node.host_snapshot() {
            self.snapshots.insert(newest, snapshot);
        }
        let last = self.node.wraps.iter().rfind(|(_, seal)| seal.dek == dek).map_or(0, |(index, _)| *index);
        let needs_it = |stored: &Vec<u8>| envelope_of(stored).is_some_and(|envelope| envelope.dek == dek);
        self.snapshots.retain(|index, snapshot| {
            *index >= last && (*index == newest || !snapshot.data.values().any(needs_it))
        });
    }

    fn maybe_snapshot(&mut self, index: u64) {
        if self.node.choices.chance(SNAPSHOT, Ratio::new(1, 3))
            && let Some(snapshot) = self.node.host_snapshot()
        {
            self.snapshots.insert(index, snapshot);
        }
    }

    /// The host's apply loop has stopped at an entry.
    fn stopped(&mut self, index: u64, delivery: Delivery, answer: &Delivered) -> Next {
        match answer {
            Delivered::Failed(_) if !self.node.disk.sync_failed() => {
                if self.node.choices.draw(RETRY, 2) == 1 {
                    self.node.hit(Place::RetriedInTheSameLife);
                    if let Survived::No = self.node.deliver(index, delivery) {
                        return Next::Restart;
                    }
                }
                self.node.die_of_fault();
                self.give_up_if_hopeless(index)
            }
            Delivered::Failed(_) | Delivered::Halted(_) => {
                self.node.die_of_fault();
                self.give_up_if_hopeless(index)
            }
            Delivered::Decided(Verdict::Rejected(_)) => self.refused(index),
            Delivered::Decided(_) | Delivered::Skipped => unreachable!("these advance"),
        }
    }

    /// The process ends, and gets the entry once more. Refused again, it is replaced by a leader's no-op.
    fn refused(&mut self, index: u64) -> Next {
        let again = self.node.refusals(index) > 1;
        let death = match self.node.choices.draw(SHUTDOWN, 3) {
            0 => Death::Clean,
            1 => Death::Process,
            _ => Death::Power,
        };
        self.node.end(death);
        if !again {
            return Next::Restart;
        }
        if index <= self.node.frontier() || self.node.expects_to_advance(index) {
            return Next::Stuck;
        }
        self.node.hit(Place::ReplacedByNoOp);
        self.node.replace(index, Form::Nothing);
        Next::Restart
    }

    fn give_up_if_hopeless(&mut self, index: u64) -> Next {
        if self.node.failures_without_fault(index) > 2 { Next::Stuck } else { Next::Restart }
    }
}
