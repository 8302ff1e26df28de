//! From what a trace has kept to moments.

use std::collections::BTreeMap;

use sim::Event;

use super::fates::Fates;
use super::stores::Shelf;
use super::{Broken, Clock, Kind, Lane, Moment, Timeline, Tone, says, tap};
use crate::invariants::{Difference, Violation};
use crate::run::Checked;
use crate::world::cluster;
use crate::world::node::Death;

/// Fills a timeline with columns, moments, stores and violations.
pub(super) fn fill(timeline: &mut Timeline, checked: &Checked) {
    let is_cluster = timeline.clock == Clock::Ms;
    let lane = |who: u64| if is_cluster { cluster::machine_of(who) } else { 0 };
    let last = checked.events.iter().map(|event| lane(event.who)).max().unwrap_or(0);
    let name = |id| match (is_cluster, id) {
        (false, _) => "node".to_owned(),
        (true, 0) => "clients".to_owned(),
        (true, id) => format!("node {id}"),
    };
    timeline.lanes = (0..=last).map(|id| Lane { id, name: name(id) }).collect();
    let mut filler = Filler {
        timeline,
        events: &checked.events,
        lane: &lane,
        lives: BTreeMap::new(),
        entries: BTreeMap::new(),
        under_way: BTreeMap::new(),
        fates: Fates::default(),
        shelf: Shelf::new(&checked.events),
    };
    for at in 0..checked.events.len() {
        filler.take(at);
        let arisen =
            (0..checked.violations.len()).filter(|number| checked.violated_at.get(*number) == Some(&at));
        for number in arisen {
            let moment = filler.violated(&checked.violations[number], at);
            filler.timeline.violations.push(broken(&checked.violations[number], Some(moment)));
        }
    }
    // A run that ended before anything happened.
    if checked.events.is_empty() {
        timeline.violations = checked.violations.iter().map(|violation| broken(violation, None)).collect();
    }
}

fn broken(violation: &Violation, event: Option<usize>) -> Broken {
    let Violation { invariant, fingerprint, evidence, difference } = violation.clone();
    let (expected, found) = difference.map(|Difference { expected, found }| (expected, found)).unzip();
    Broken { invariant, fingerprint, says: says(invariant), evidence, expected, found, event }
}

struct Filler<'a> {
    timeline: &'a mut Timeline,
    events: &'a [Event],
    lane: &'a dyn Fn(u64) -> u64,
    lives: BTreeMap<u64, u64>,
    /// The entry that each column is at.
    entries: BTreeMap<u64, u64>,
    /// Messages by link, label and due time: the moments at which they were sent.
    under_way: BTreeMap<(u64, u64, u64, u64), Vec<usize>>,
    fates: Fates,
    shelf: Shelf<'a>,
}

/// What an event is, before it is known where it belongs.
struct Reading {
    kind: Kind,
    name: String,
    text: String,
    tone: Tone,
}

impl Filler<'_> {
    fn take(&mut self, at: usize) {
        let event = &self.events[at];
        let lane = (self.lane)(event.who);
        self.shelf.look(event, lane);
        let Some(reading) = self.read(at) else { return };
        match event.kind {
            "start" => *self.lives.entry(lane).or_default() += 1,
            "deliver" => {
                self.entries.insert(lane, event.numbers[0]);
            }
            "apply" => {
                self.entries.insert(lane, event.numbers[1]);
            }
            _ => {}
        }
        let id = self.push(event, reading);
        match event.kind {
            "net.send" => self.sent(event, id),
            "answer" | "answered" | "process_crash" | "power_loss" => {
                self.entries.remove(&lane);
            }
            _ => {}
        }
        let next = self.events[at + 1..].iter().find(|next| next.who == event.who && !is_hidden(next));
        self.fates.follow(event, next, id, &mut self.timeline.events);
        self.timeline.events[id].stores = self.shelf.after(at, lane, &mut self.timeline.stores);
    }

    fn push(&mut self, event: &Event, reading: Reading) -> usize {
        let id = self.timeline.events.len();
        let lane = (self.lane)(event.who);
        self.timeline.events.push(Moment {
            id,
            lane,
            at: if self.timeline.clock == Clock::Ms { event.at_ms } else { id as u64 },
            life: self.lives.get(&lane).copied().unwrap_or(0),
            kind: reading.kind,
            name: reading.name,
            text: reading.text,
            entry: self.entries.get(&lane).copied(),
            to: addressee(event).map(self.lane),
            arrives: None,
            tone: reading.tone,
            fate: None,
            fates: event.crash.as_deref().map(super::fates::of_report).unwrap_or_default(),
            stores: None,
        });
        id
    }

    fn sent(&mut self, event: &Event, id: usize) {
        let [to, label, due] = event.numbers;
        self.under_way.entry((event.who, to, label, due)).or_default().push(id);
    }

    /// A message gets to its end: there, or nowhere.
    fn arrived(&mut self, event: &Event) {
        let [_, label, due] = event.numbers;
        let to = addressee(event).expect("it is a message");
        let Some(sent) = self.under_way.get_mut(&(event.who, to, label, due)).filter(|sent| !sent.is_empty())
        else {
            return;
        };
        let moment = &mut self.timeline.events[sent.remove(0)];
        if event.kind == "net.deliver" {
            moment.arrives = Some(due);
        } else {
            moment.tone = Tone::Warn;
            moment.text.push_str(if event.kind == "net.cut" {
                ", lost in a cut"
            } else {
                ", nobody is there"
            });
        }
    }

    /// The moment of a violation, right behind what it came up with.
    fn violated(&mut self, violation: &Violation, at: usize) -> usize {
        let reading = Reading {
            kind: Kind::Violation,
            name: "violation".to_owned(),
            text: violation.fingerprint.clone(),
            tone: Tone::Bad,
        };
        let id = self.push(&self.events[at], reading);
        // It is no power loss and no message, whatever it came up with.
        self.timeline.events[id].fates.clear();
        self.timeline.events[id].to = None;
        // What is taken down of nobody in particular is what came of the step before.
        if self.events[at].who == 0 && id > 0 {
            self.timeline.events[id].lane = self.timeline.events[id - 1].lane;
        }
        id
    }

    fn read(&mut self, at: usize) -> Option<Reading> {
        let event = &self.events[at];
        let reading =
            |kind, tone| Reading { kind, name: event.kind.to_owned(), text: event.text.clone(), tone };
        let named = |kind, name: &str, tone| Reading { name: name.to_owned(), ..reading(kind, tone) };
        Some(match event.kind {
            _ if is_hidden(event) => return None,
            "start" => reading(Kind::Start, Tone::Plain),
            "refused" => reading(Kind::Start, Tone::Warn),
            "deliver" => {
                named(Kind::Entry, if event.numbers[2] == 0 { "deliver" } else { "redeliver" }, Tone::Plain)
            }
            "apply" => reading(Kind::Entry, Tone::Plain),
            "install" | "restore" => reading(Kind::Entry, Tone::Plain),
            "install-failed" | "restore-failed" => reading(Kind::Entry, Tone::Warn),
            "answer" => reading(Kind::Verdict, if event.numbers[0] <= 2 { Tone::Good } else { Tone::Warn }),
            "answered" => {
                named(Kind::Verdict, "answer", if event.numbers[1] == 1 { Tone::Good } else { Tone::Warn })
            }
            "halt" => reading(Kind::Verdict, Tone::Warn),
            "leads" => reading(Kind::Role, Tone::Good),
            "told" => reading(Kind::Client, Tone::Plain),
            "heal" => reading(Kind::World, Tone::Good),
            "death" => reading(Kind::Fault, Tone::Warn),
            "crash" if event.text.ends_with(Death::Clean.name()) => named(Kind::Crash, "end", Tone::Plain),
            "crash" | "died" => reading(Kind::Crash, Tone::Warn),
            // What follows a crash says the same again.
            "end" if self.follows_crash(at) => return None,
            "end" => reading(Kind::Crash, Tone::Plain),
            "power_loss" => named(Kind::Crash, "power loss", Tone::Warn),
            "process_crash" => named(Kind::Crash, "process gone", Tone::Plain),
            "fault" | "short" => reading(Kind::Fault, Tone::Warn),
            "sync_failure" => named(Kind::Fault, "failed sync", Tone::Warn),
            "late_error" => named(Kind::Fault, "late error", Tone::Warn),
            "net.deliver" | "net.unreachable" => {
                self.arrived(event);
                return None;
            }
            "net.cut" if self.was_under_way(event) => {
                self.arrived(event);
                return None;
            }
            "log" => {
                let logged = event.beside.as_ref()?.downcast_ref::<tap::Logged>()?;
                let is_step = logged.target.starts_with("applier") && logged.level <= tracing::Level::DEBUG;
                let tone = if logged.level <= tracing::Level::WARN { Tone::Warn } else { Tone::Plain };
                // Which part of it is enough.
                let name = logged.target.split("::").nth(1).unwrap_or(logged.target);
                named(if is_step { Kind::Step } else { Kind::Log }, name, tone)
            }
            kind if kind.starts_with("net.") => message(event),
            _ => reading(Kind::Disk, Tone::Plain),
        })
    }

    fn was_under_way(&self, event: &Event) -> bool {
        let [_, label, due] = event.numbers;
        let to = addressee(event).expect("it is a message");
        self.under_way.get(&(event.who, to, label, due)).is_some_and(|sent| !sent.is_empty())
    }

    fn follows_crash(&self, at: usize) -> bool {
        let who = self.events[at].who;
        let before = self.events[..at].iter().rev().find(|before| before.who == who && !is_hidden(before));
        before.is_some_and(|before| before.kind == "crash")
    }
}

/// Whom a message is for.
fn addressee(event: &Event) -> Option<u64> {
    let first = event.numbers[0];
    match event.kind {
        "net.send" => Some(first),
        kind if kind.starts_with("net.") => Some(first ^ event.who.rotate_left(32)),
        _ => None,
    }
}

fn message(event: &Event) -> Reading {
    let [_, label, due] = event.numbers;
    let (text, tone) = match event.kind {
        "net.send" => (format!("due at {due} ms"), Tone::Plain),
        "net.drop" => ("dropped".to_owned(), Tone::Warn),
        "net.cut" => ("cut off".to_owned(), Tone::Warn),
        "net.duplicate" => ("twice".to_owned(), Tone::Warn),
        _ => (format!("held up until {due} ms"), Tone::Warn),
    };
    Reading { kind: Kind::Message, name: cluster::message_name(label).to_owned(), text, tone }
}

/// Whether an event only carries something for other moments.
fn is_hidden(event: &Event) -> bool {
    matches!(event.kind, "history" | "memory" | "kill")
}
