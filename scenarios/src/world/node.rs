//! One node through its lives: starting, delivering, crashing, and being looked at.

mod dying;
mod fresh;
mod leading;
mod observing;
mod starting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use applier::Purpose;
use sim::{Choices, Disk, OpInfo, Probes, Ratio, Site, Trace};

pub(crate) use self::dying::is_before_rename;
pub(crate) use self::fresh::prepared_disk;
pub use self::fresh::{blank_disk, needles};
pub(crate) use self::starting::refusal_name;
use super::look::{self, Lookout};
use super::{Limits, Record, Setup};
use crate::coverage::{Crashes, Open, Phase};
use crate::form::{Form, Kind, Seal};
use crate::history::{Delivery, Event, History, SideEffects};
use crate::model::{State, Verdict};
use crate::probes::{Place, Step, place, verdict};
use crate::sealing::Use;
use crate::seam::{Outage, SimFiles};
use crate::subject::{Delivered, Held, HostSnapshot, Keys, Life, OWN_NODE, SIDECAR, Subject, hand_over};
use crate::teeth::Past;
use crate::timeline::tap;
use crate::workload::Book;

const BLANK: Site = Site::new("disk.blank");

/// How much goes wrong, drawn once a seed, so that some runs are calm and some are storms.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Chance of a crash in each start and each delivery.
    pub crash: Ratio,
    /// Crashes after which no more come.
    pub crashes_max: u64,
    /// Chance of an error from the disk in each start and each delivery.
    pub fault: Ratio,
}

/// How a life came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is gone; what it wrote is still in the page cache.
    Process,
    /// The power is gone.
    Power,
    /// The host stopped it in good order.
    Clean,
}

impl Death {
    /// Words for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Death::Process => "process crash",
            Death::Power => "power loss",
            Death::Clean => "clean stop",
        }
    }
}

/// What came of a step in which the node might have died.
#[derive(Debug)]
pub enum Survived<T> {
    /// It lives, and this came of it.
    Yes(T),
    /// It died in it.
    No,
}

/// Where the last crash happened.
#[derive(Clone, Copy, Debug)]
struct LastCrash {
    step: Step,
    death: Death,
}

/// One node, its log, and everything that was recorded of it.
pub struct Node<'a> {
    pub(super) choices: &'a mut Choices,
    pub(super) weather: Weather,
    pub(super) log: Vec<Form>,
    /// Envelopes of entries of the log, by index.
    pub(super) wraps: BTreeMap<u64, Seal>,
    /// Which nonces the other writers have used.
    pub(super) book: Book,
    /// Whether the node has a ring of two KEKs.
    pub(super) ring: bool,
    /// Whether it has said that it can do without the first of them.
    withdrawable: bool,
    /// The model's states: `states[i]` is that after the first `i` entries.
    pub(super) states: Vec<Arc<State>>,
    pub(super) history: History,
    pub(super) probes: Probes,
    pub(super) subject: Subject,
    pub(super) keyring: bool,
    pub(super) entries: u64,
    pub(super) stuck: bool,
    pub(super) disk: Disk,
    trace: Trace,
    lookout: Lookout,
    reads: Arc<Outage>,
    /// The call that the last injected error of this life hit.
    fault_op: Option<OpInfo>,
    /// Whether an error was injected into this life: what fails after it may be its doing.
    faulted: bool,
    crashes: u64,
    coverage: Crashes,
    /// The last crash, until something has come of it.
    open: Option<Open>,
    lives: u64,
    files: SimFiles,
    past: Arc<Past>,
    life: Option<Box<dyn Life>>,
    last_crash: Option<LastCrash>,
    starts_cut_off: u32,
    /// The entry after the frontier, once it was delivered and not answered: its outcome is unknown.
    in_flight: Option<u64>,
    /// The entry, also one that was acknowledged before, whose delivery was cut off.
    cut_off: Option<u64>,
    /// Index of the newest entry whose effect the sidecar must have.
    sidecar_floor: u64,
    /// Whether a start has shown the sidecar with the effect of the entry in flight, and so made it durable.
    sidecar_shown: bool,
    /// Index of the newest entry whose effect the database must have.
    database_floor: u64,
    /// A restore that was cut off: the database may be at this index as well.
    restoring_to: Option<u64>,
    rolled_back: bool,
    host_position: u64,
    /// Tells apart entries that a world delivers at one index, one after the other.
    pub(super) tag: u64,
    /// Every entry that was delivered, by index and tag.
    delivered: BTreeSet<(u64, u64)>,
    limits: Limits,
    /// First answer to each refused entry, and how often it was refused.
    refusals: BTreeMap<(u64, u64), (Delivered, u64)>,
    /// Failures of each entry that no fault explains.
    failures: BTreeMap<u64, u64>,
    /// Uses of nonces that were taken down.
    uses: BTreeSet<Use>,
}

impl<'a> Node<'a> {
    /// A node that has never started, on a disk with its two directories. Most find their database made: making it is
    /// a good part of a run's calls, and one run in six is enough to crash in it.
    pub fn new(setup: &Setup, choices: &'a mut Choices, trace: &'a Trace, probes: Probes) -> Node<'a> {
        let blank = choices.draw(BLANK, 6) == 1;
        let disk = if blank { blank_disk(setup.profile, setup.lies) } else { prepared_disk(setup) };
        let trace = trace.of(OWN_NODE);
        disk.set_trace(trace.clone());
        disk.watch(needles());
        let mount = disk.mount();
        Node {
            choices,
            weather: Weather { crash: Ratio::NEVER, crashes_max: 0, fault: Ratio::NEVER },
            log: vec![Form::Nothing],
            wraps: BTreeMap::new(),
            book: Book::default(),
            ring: false,
            withdrawable: false,
            states: vec![Arc::new(State::default())],
            history: Vec::new(),
            probes,
            subject: setup.subject,
            keyring: true,
            entries: 0,
            stuck: false,
            disk,
            trace,
            lookout: Lookout::new(),
            reads: Arc::default(),
            fault_op: None,
            faulted: false,
            crashes: 0,
            coverage: Crashes::default(),
            open: None,
            lives: 0,
            files: SimFiles::new(mount),
            past: Arc::default(),
            life: None,
            last_crash: None,
            starts_cut_off: 0,
            in_flight: None,
            cut_off: None,
            sidecar_floor: 0,
            sidecar_shown: false,
            database_floor: 0,
            restoring_to: None,
            rolled_back: false,
            host_position: 0,
            tag: 0,
            delivered: BTreeSet::new(),
            limits: setup.limits,
            refusals: BTreeMap::new(),
            failures: BTreeMap::new(),
            uses: BTreeSet::new(),
        }
    }

    /// Newest acknowledged index.
    pub fn frontier(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// The model's state at the frontier.
    pub fn state(&self) -> &Arc<State> {
        self.states.last().expect("there is always the state before the first entry")
    }

    /// Whether it is known which entries the database has: not so where one was cut off and the subject keeps no
    /// index that tells.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none() || self.life.as_ref().is_some_and(|life| life.index().is_some())
    }

    /// The length of a log: what was drawn, where the setup does not say otherwise.
    pub fn length(&self, drawn: u64) -> u64 {
        let length = self.limits.entries.unwrap_or(drawn);
        self.limits.entries_max.map_or(length, |most| most.min(length))
    }

    /// Whether the setup allows this entry too, of several that are delivered at one index.
    pub fn has_room_for(&self, index: u64, tag: u64) -> bool {
        let delivered = self.delivered.len() as u64;
        self.limits.entries_max.is_none_or(|most| delivered < most || self.delivered.contains(&(index, tag)))
    }

    /// Ends the recording.
    pub fn finish(mut self, length: u64) -> Record {
        self.disk.process_crash();
        self.bury();
        if let Some(leak) = self.disk.leak() {
            self.remember(Event::KeyOnDisk { path: leak.path });
        }
        let (reached, stuck) = (self.frontier(), self.stuck);
        self.remember(Event::Ended { reached, length, stuck });
        Record {
            history: self.history,
            chronicle: None,
            simulated_ms: 0,
            probes: self.probes,
            entries: self.entries,
            log_entries: self.delivered.len() as u64,
            nodes: 1,
            crashes: self.crashes,
            coverage: self.coverage,
            trace_hash: self.trace.hash(),
            events: self.trace.take_events(),
        }
    }

    /// Delivers the entry at `index`, in which the node may die.
    pub fn deliver(&mut self, index: u64, delivery: Delivery) -> Survived<Delivered> {
        let form = self.log[index as usize].clone();
        self.delivered.insert((index, self.tag));
        let expected = self.judge(index);
        self.note("deliver", [index, form.kind() as u64, delivery as u64], || {
            format!("{index}, {}: {form}", delivery.name())
        });
        let bytes = self.lookout.entry(index, &form, self.wraps.get(&index).copied());
        self.remember_seals(index, &form);
        let armed = self.arm();
        let look = !expected.advances() || self.has_fault_armed(armed);
        let before = look.then(|| (self.disk.snapshot(), self.memory(), self.disk.peek(SIDECAR)));
        let mutations = self.disk.mutations();
        if index > self.frontier() {
            self.in_flight = expected.advances().then_some(index);
        }
        let life = self.life.as_mut().expect("only a live node is delivered to");
        let answer = tap::member(OWN_NODE).in_scope(|| hand_over(life.as_mut(), index, bytes.as_deref()));
        self.cut_off = Some(index);
        if self.crashed(armed, Phase::Apply) {
            return Survived::No;
        }
        let faulted = self.fault_fired();
        self.disk.disarm();
        if let (Delivered::Halted(_), Some((_, (keys, _), sidecar))) = (&answer, &before) {
            let (now, _) = self.memory();
            self.remember(Event::Halted {
                index,
                kind: form.kind(),
                before_rename: self.fault_op.as_ref().is_some_and(is_before_rename),
                sidecar_changed: self.disk.peek(SIDECAR) != *sidecar,
                keys_changed: now != *keys,
                holds_its_keys: form.key_ids().iter().all(|id| now.contains_key(id)),
            });
        }
        let effects = before.map(|(disk, memory, _)| SideEffects {
            mutations: self.disk.mutations() - mutations,
            disk: self.disk.snapshot() != disk,
            memory: self.memory() != memory,
        });
        self.note("answer", [answer_code(&answer), u64::from(faulted), 0], || answer.to_string());
        look::show_memory(&self.trace, self.life.as_deref().expect("it has answered"));
        self.count(&answer, form.kind(), delivery);
        let before = self.refusals.get(&(index, self.tag)).map(|(first, _)| first.clone());
        self.remember_refusal(index, &answer, faulted);
        self.remember(Event::Delivered {
            index,
            kind: form.kind(),
            delivery,
            answer: answer.clone(),
            expected,
            faulted,
            effects,
            before,
        });
        if matches!(answer, Delivered::Decided(_)) && answer.advances() {
            self.acknowledge(index, &form, expected);
        }
        Survived::Yes(answer)
    }

    fn remember_refusal(&mut self, index: u64, answer: &Delivered, faulted: bool) {
        match answer {
            Delivered::Decided(Verdict::Rejected(_)) if !faulted => {
                let known = self.refusals.entry((index, self.tag)).or_insert((answer.clone(), 0));
                known.1 += 1;
                if known.1 > 1 {
                    self.hit(Place::RejectedTwice);
                }
            }
            Delivered::Failed(_) | Delivered::Halted(_) if !faulted => {
                *self.failures.entry(index).or_default() += 1;
            }
            _ => {}
        }
    }

    /// How often the entry at `index` was refused.
    pub fn refusals(&self, index: u64) -> u64 {
        self.refusals.get(&(index, self.tag)).map_or(0, |(_, times)| *times)
    }

    /// How often the entry at `index` failed without a fault that explains it.
    pub fn failures_without_fault(&self, index: u64) -> u64 {
        self.failures.get(&index).copied().unwrap_or(0)
    }

    /// Whether the model accepts the entry at `index`.
    pub fn expects_to_advance(&self, index: u64) -> bool {
        self.judge(index).advances()
    }

    /// The model's verdict on the entry at `index`.
    fn judge(&self, index: u64) -> Verdict {
        let (form, wrap) = (&self.log[index as usize], self.wraps.get(&index));
        self.states[index as usize - 1].judge_sealed(self.subject.rules(), self.keyring, form, wrap)
    }

    /// Puts an entry at the end of the log, in its envelope if it has one.
    pub fn append(&mut self, (form, wrap): (Form, Option<Seal>)) {
        let index = self.log.len() as u64;
        match wrap {
            Some(seal) => drop(self.wraps.insert(index, seal)),
            None => drop(self.wraps.remove(&index)),
        }
        self.log.push(form);
    }

    /// Takes down which nonces an entry of the log shows.
    fn remember_seals(&mut self, index: u64, form: &Form) {
        if let Form::Data { key, value, seal: Some(seal) } = form {
            self.remember_use(seal.of_value(*key, *value));
        }
        if let Some(seal) = self.wraps.get(&index).copied()
            && let Some(clear) = self.lookout.clear_entry(form)
        {
            self.remember_use(seal.of_entry(&clear));
        }
    }

    fn remember_use(&mut self, used: Use) {
        if self.uses.insert(used) {
            self.remember(Event::Sealed(used));
        }
    }

    /// Puts another entry in the place of a refused one, as a new leader would.
    pub fn replace(&mut self, index: u64, form: Form) {
        self.log[index as usize] = form;
        self.wraps.remove(&index);
        self.refusals.remove(&(index, self.tag));
    }

    fn acknowledge(&mut self, index: u64, form: &Form, expected: Verdict) {
        self.cut_off = None;
        self.host_position = self.host_position.max(index);
        if index > self.frontier() && expected.advances() {
            self.in_flight = None;
            self.sidecar_shown = false;
            let next = self.state().after(form, expected);
            self.states.push(Arc::new(next));
            if expected == Verdict::Applied {
                self.entries += 1;
                self.count_effect(form);
            }
        }
        self.database_floor = self.database_floor.max(index).min(self.frontier());
        self.sidecar_floor = self.sidecar_floor.max(index).min(self.frontier());
    }

    /// Rolls the database back to a host snapshot; the node may die in it.
    pub fn restore(&mut self, index: u64, snapshot: &HostSnapshot) -> Survived<()> {
        self.note("restore", [index, 0, 0], || format!("database to {index}"));
        let armed = self.arm();
        self.restoring_to = Some(index);
        self.host_position = self.host_position.min(index);
        self.rolled_back = true;
        let life = self.life.as_mut().expect("only a live node is restored");
        let restored = life.restore(snapshot);
        if self.crashed(armed, Phase::Restore) {
            self.hit(Place::CrashInRestore);
            return Survived::No;
        }
        self.fault_fired();
        self.disk.disarm();
        match restored {
            Ok(()) => {
                self.restoring_to = None;
                self.database_floor = index;
                Survived::Yes(())
            }
            Err(error) => {
                self.note("restore-failed", [0; 3], || error.clone());
                self.die_of_fault();
                Survived::No
            }
        }
    }

    /// What a host's snapshot of the node would hold now.
    pub fn host_snapshot(&mut self) -> Option<HostSnapshot> {
        self.life.as_ref().and_then(|life| life.database().ok())
    }

    /// Where a host whose subject keeps no index goes on at the latest: it has delivered everything up to here since it
    /// last went back.
    pub fn host_position(&self) -> u64 {
        self.host_position
    }

    /// The host goes back to `index`, on the database as it is.
    pub fn redeliver_after(&mut self, index: u64) {
        self.host_position = index;
    }

    /// The index at which the subject wants to go on.
    pub fn resume_after(&self) -> Option<u64> {
        self.life.as_ref().and_then(|life| life.resume_after())
    }

    fn memory(&self) -> (Keys, Held) {
        let life = self.life.as_ref().expect("only a live node has memory");
        (life.keys(), life.held())
    }

    fn count(&mut self, answer: &Delivered, kind: Kind, delivery: Delivery) {
        self.hit(match answer {
            Delivered::Decided(Verdict::Applied) => Place::Applied,
            Delivered::Decided(Verdict::NoOp) => Place::NoOp,
            Delivered::Decided(Verdict::Rejected(_)) => Place::Rejected,
            Delivered::Skipped => Place::Skipped,
            Delivered::Failed(_) => Place::Failed,
            Delivered::Halted(_) => Place::Halted,
        });
        if *answer == Delivered::Decided(Verdict::NoOp) {
            match (delivery, kind) {
                (Delivery::First, Kind::Bootstrap) => self.hit(Place::DuplicateBootstrap),
                (Delivery::First, Kind::Rotation) => self.hit(Place::DuplicateRotation),
                (Delivery::First, Kind::Cutover) => self.hit(Place::DuplicateCutover),
                (Delivery::First, Kind::Retirement) => self.hit(Place::DuplicateRetirement),
                (Delivery::First, Kind::Rewrap) => self.hit(Place::DuplicateRewrap),
                (Delivery::First, _) => self.hit(Place::DuplicateRegistration),
                (Delivery::Kept | Delivery::RolledBack, _) => self.hit(Place::NoOpAgain),
            }
        }
        if let Delivered::Decided(Verdict::Rejected(reason)) = answer
            && let Some(probe) = verdict(*reason)
        {
            self.probes.hit(probe);
        }
    }

    fn count_effect(&mut self, form: &Form) {
        match form {
            Form::Cutover { purpose: Purpose::Storage, .. } => self.hit(Place::CutOverStorage),
            Form::Cutover { purpose: Purpose::Raft, .. } => self.hit(Place::CutOverRaft),
            Form::Retirement { .. } => self.hit(Place::Retired),
            Form::Rewrap { kek, .. } => {
                self.hit(Place::Rewrapped);
                if *kek > 0 {
                    self.hit(Place::RewrappedUnderTheNext);
                }
            }
            _ => {}
        }
    }

    /// Counts a hit.
    pub fn hit(&mut self, at: Place) {
        self.probes.hit(place(at));
    }

    /// Takes an event down, and marks in the trace where that was.
    fn remember(&mut self, event: Event) {
        look::mark(&self.trace, self.history.len());
        self.history.push(event);
    }

    fn note(&self, kind: &'static str, numbers: [u64; 3], text: impl FnOnce() -> String) {
        self.trace.record(kind, numbers, text);
    }
}

fn answer_code(answer: &Delivered) -> u64 {
    match answer {
        Delivered::Decided(Verdict::Applied) => 0,
        Delivered::Decided(Verdict::NoOp) => 1,
        Delivered::Skipped => 2,
        Delivered::Failed(_) => 3,
        Delivered::Halted(_) => 4,
        Delivered::Decided(Verdict::Rejected(reason)) => 5 + *reason as u64,
    }
}
