//! One life of a node from a given disk: started, delivered to, looked at, and held against the model. Where it is
//! recorded, every state that a crash could start from is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use applier::registry::Local;
use applier::sidecar::{SidecarContent, json};
use applier::{KekCheck, Purpose};
use sim::{Disk, Fault, OpInfo};

use super::epochs::Shape;
use super::script::Script;
use crate::form::{Form, KeyNumber};
use crate::history::{Delivery, Event, History, Moment, Observation, SideEffects};
use crate::invariants::{self, Violation};
use crate::model::{State, Verdict, Writer};
use crate::sealing;
use crate::seam::SimFiles;
use crate::subject::{
    Claimed, DATABASE, Delivered, Life, OWN_NODE, SIDECAR, Subject, Surroundings, bury, hand_over,
};
use crate::world::look::{Look, Lookout, sealed};
use crate::world::node::{is_before_rename, refusal_name};

/// One time for all lives: what differs by the clock alone would never close.
const UNIX_SECONDS: u64 = 1_700_000_000;

/// What is known of a node before a life, as indices of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    /// Where the database may be. Of a subject that keeps no index, where it must at least be.
    pub(super) database: BTreeSet<u64>,
    /// Which entry the sidecar may be after.
    pub(super) sidecar: BTreeSet<u64>,
    /// Newest entry that the host has seen acknowledged, for a subject that keeps no index of its own; else 0.
    pub(super) frontier: u64,
}

impl Known {
    pub(super) fn exactly(database: u64, sidecar: u64, frontier: u64) -> Known {
        Known { database: [database].into(), sidecar: [sidecar].into(), frontier }
    }
}

/// A place in a life at which a crash may strike: the disk just before a call.
pub(super) struct Point {
    pub(super) disk: Disk,
    /// The call, `None` after the last one.
    pub(super) before: Option<OpInfo>,
    /// What went wrong in the step that ended here.
    pub(super) fault: Option<Fault>,
    pub(super) known: Known,
}

/// What a subject's later behaviour depends on: two disks with equal content are one state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Content {
    applied: Option<u64>,
    proof: u64,
    frontier: u64,
    /// Whether there is a temporary sidecar. What is in it is never read.
    leftover: bool,
    database: bool,
    database_leftover: bool,
    rows: BTreeMap<(u32, u16), Writer>,
    /// What is stored under each table key.
    data: BTreeMap<u64, Vec<u8>>,
    /// Its bytes; of one of ours, without the node's own epochs.
    sidecar: Option<Vec<u8>>,
    /// The node's own epochs by key, as far as they count.
    epochs: BTreeMap<u32, Shape>,
    /// The KEK that the node has promised to keep, and that of a rewrap to come.
    promised: (Option<KekCheck>, Option<(KekCheck, u32)>),
}

impl Content {
    /// Without the rows, for those who compare nodes that have come to different ones.
    #[cfg(test)]
    pub(super) fn forget_rows(&mut self) {
        self.rows.clear();
        self.applied = None;
    }

    /// Index that the database is at, or where it carries none the host.
    pub(super) fn index(&self) -> u64 {
        self.applied.unwrap_or(self.frontier)
    }
}

/// Everything that what comes next depends on, for a node that lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    /// Index of the entry delivered last.
    at: u64,
    content: Content,
    memory: BTreeMap<u32, Option<KeyNumber>>,
}

/// Which of a subject's files there are.
pub(super) struct Files {
    leftover: bool,
    database: bool,
    database_leftover: bool,
    sidecar: Option<Vec<u8>>,
}

impl Files {
    pub(super) fn on(disk: &Disk) -> Files {
        Files {
            leftover: disk.exists(&format!("{SIDECAR}.tmp")),
            database: disk.exists(DATABASE),
            database_leftover: disk.exists(&format!("{DATABASE}.tmp")),
            sidecar: disk.peek(SIDECAR),
        }
    }

    pub(super) fn with(self, look: &Look, frontier: u64) -> Content {
        let (sidecar, epochs) = without_epochs(self.sidecar, look);
        let Local { kek, next_kek, next_generation, .. } = look.local;
        Content {
            applied: look.applied,
            proof: look.local.sidecar_index.0,
            frontier,
            leftover: self.leftover,
            database: self.database,
            database_leftover: self.database_leftover,
            rows: look.rows.clone(),
            data: look.stored.clone(),
            sidecar,
            epochs,
            promised: (kek, next_kek.zip(next_generation)),
        }
    }
}

/// The bytes of a sidecar of ours as if nothing had been claimed, and what was.
fn without_epochs(bytes: Option<Vec<u8>>, look: &Look) -> (Option<Vec<u8>>, BTreeMap<u32, Shape>) {
    let Some(Ok(SidecarContent::Ours(mut sidecar))) = bytes.as_deref().map(json::decode) else {
        return (bytes, BTreeMap::new());
    };
    let mut epochs = BTreeMap::new();
    for (id, key) in &mut sidecar.keys {
        let in_sidecar = std::mem::take(&mut key.local_epoch).0;
        let local = look.local.epochs.get(id).map_or(0, |epoch| epoch.0);
        let row = look.rows.get(&(id.get(), OWN_NODE as u16)).map_or(0, |row| row.last);
        epochs.insert(id.get(), Shape::of(in_sidecar, local, row));
    }
    (Some(json::encode(&sidecar)), epochs)
}

/// What stays the same from life to life.
pub(super) struct Stage<'a> {
    pub(super) subject: Subject,
    pub(super) script: &'a Script,
    pub(super) lookout: Lookout,
}

impl<'a> Stage<'a> {
    pub(super) fn new(subject: Subject, script: &'a Script) -> Stage<'a> {
        let mut lookout = Lookout::new();
        // A look has to know every key of the log before it is delivered in this life.
        for (index, entry) in (1..).zip(&script.entries) {
            lookout.entry(index, &entry.form, entry.wrap);
        }
        Stage { subject, script, lookout }
    }

    fn state(&self, index: u64) -> Arc<State> {
        Arc::clone(&self.script.states[index as usize])
    }
}

/// What a life was found to start on.
pub(super) struct Begun {
    pub(super) content: Content,
    /// Index that the database was at, or where there is none the host.
    pub(super) database: u64,
    /// Index of the newest entry whose sidecar it was.
    pub(super) sidecar: u64,
}

/// A life in progress.
pub(super) struct Actor<'s, 'a> {
    stage: &'s mut Stage<'a>,
    disk: Disk,
    life: Option<Box<dyn Life>>,
    history: History,
    /// What a crash now would leave known.
    known: Known,
    /// What it started on, if it started.
    pub(super) begun: Option<Begun>,
    /// Index that the database is at, or where there is none the host.
    pub(super) database: u64,
    /// Index of the newest entry whose sidecar this is.
    pub(super) sidecar: u64,
    /// Newest entry that was delivered before.
    seen: u64,
    rolled_back: bool,
    /// Whether a fault is armed in the step to come.
    armed: bool,
}

impl<'s, 'a> Actor<'s, 'a> {
    /// Starts a node on `disk`, which is used up. With `record` the states before its calls are kept.
    pub(super) fn start(stage: &'s mut Stage<'a>, disk: Disk, before: &Known, record: bool) -> Self {
        let files = Files::on(&disk);
        disk.keep_checkpoints(record);
        let world = Surroundings {
            node: OWN_NODE,
            files: SimFiles::new(disk.mount()),
            kek: Arc::clone(stage.lookout.kek()),
            next_kek: stage.script.rewraps().then(|| Arc::clone(stage.lookout.next_kek())),
            reads: Arc::default(),
            unix_seconds: UNIX_SECONDS,
            keyring: true,
            past: Arc::default(),
        };
        let started = stage.subject.start(&world);
        let mut actor = Actor {
            stage,
            disk,
            life: None,
            history: Vec::new(),
            known: before.clone(),
            begun: None,
            database: 0,
            sidecar: 0,
            seen: 0,
            rolled_back: false,
            armed: false,
        };
        match started {
            Ok(life) => actor.life = Some(life),
            Err(error) => actor.refused(refusal_name(&error)),
        }
        actor.disk.disarm();
        if let Some(look) = actor.look() {
            actor.began(files, look, before);
        }
        actor
    }

    fn refused(&mut self, why: &str) {
        let faulted = self.disk.last_fault().is_some();
        self.history.push(Event::StartRefused { why: why.to_owned(), faulted });
    }

    fn look(&mut self) -> Option<Look> {
        let life = self.life.as_ref()?;
        let look = self.stage.lookout.look(life.as_ref(), &self.disk);
        if look.is_none() {
            self.refused("unreadable");
        }
        look
    }

    fn began(&mut self, files: Files, look: Look, before: &Known) {
        self.database = look.applied.unwrap_or(before.frontier);
        let is_after = |index: &&u64| look.sidecar.is_of(&self.stage.script.states[**index as usize]);
        self.sidecar = before.sidecar.iter().rev().find(is_after).copied().unwrap_or(0);
        self.seen = self.database.max(self.sidecar);
        let (database, sidecar) = (self.database, self.sidecar);
        self.begun = Some(Begun { content: files.with(&look, before.frontier), database, sidecar });
        self.observe(Moment::Started, look, before);
    }

    /// Whether there is a node to go on with.
    pub(super) fn lives(&self) -> bool {
        self.begun.is_some()
    }

    /// Why the start was refused, if it was.
    pub(super) fn refusal(&self) -> Option<String> {
        match self.history.first() {
            Some(Event::StartRefused { why, .. }) => Some(why.clone()),
            _ => None,
        }
    }

    /// A stage like this one, for lives beside this one.
    pub(super) fn stage_for_others(&self) -> Stage<'a> {
        Stage::new(self.stage.subject, self.stage.script)
    }

    /// The content that a crash right now would leave, where nothing is pending.
    pub(super) fn content_now(&mut self) -> Option<Content> {
        self.standing().map(|standing| standing.content)
    }

    /// The host delivers once more what the database has already. Nothing may come of it: if a call is made, the states
    /// before it are part of the step.
    pub(super) fn deliver_what_it_has(&mut self) {
        for index in self.kept_from()..=self.database {
            let entry = &self.stage.script.entries[index as usize - 1];
            let (form, expected) = (entry.form.clone(), entry.verdict);
            let bytes = self.stage.lookout.entry(index, &form, entry.wrap);
            self.deliver(index, &form, bytes.as_deref(), expected, Delivery::Kept);
        }
    }

    /// The first entry that the host still has.
    pub(super) fn kept_from(&self) -> u64 {
        self.stage.script.kept_from(self.database.max(self.sidecar))
    }

    /// The host goes back to `index`, on the database as it is. It has to remember that first, for a subject that keeps
    /// no index: what it has delivered again is to be followed by all that came after it.
    pub(super) fn redeliver_after(&mut self, index: u64) {
        self.database = index;
        self.known = Known { database: [index].into(), frontier: index, ..self.known.clone() };
    }

    /// The host rolls the database back.
    pub(super) fn restore(&mut self, index: u64) -> bool {
        match self.stage.subject.keeps_index() {
            true => drop(self.known.database.insert(index)),
            false => self.redeliver_after(index),
        }
        let snapshot = self.stage.script.snapshot(index, self.stage.subject.keeps_index());
        let life = self.life.as_mut().expect("only a live node is restored");
        if let Err(error) = life.restore(&snapshot) {
            self.refused(&format!("rollback, {error}"));
            return false;
        }
        self.rolled_back = true;
        self.database = index;
        true
    }

    /// The node claims an epoch of its own. What it is to propose is lost.
    pub(super) fn claim(&mut self, purpose: Purpose) -> bool {
        let life = self.life.as_mut().expect("only a live node claims");
        match life.claim(1, purpose) {
            Claimed::Halted(why) if self.disk.last_fault().is_none() => {
                self.history.push(Event::ClaimFailed { step: "halted", why });
                false
            }
            Claimed::Halted(_) => false,
            Claimed::Propose(_) | Claimed::Held | Claimed::No(_) => true,
        }
    }

    /// The step is over: what it has shown, or answered, is acknowledged.
    fn settle(&mut self) {
        self.known = match self.stage.subject.keeps_index() {
            true => Known::exactly(self.database, self.sidecar, 0),
            false => {
                let frontier = self.known.frontier.max(self.database);
                Known::exactly(frontier, self.sidecar, frontier)
            }
        };
    }

    /// Delivers the next entry of the log. Whether the host may go on after it.
    pub(super) fn deliver_next(&mut self) -> bool {
        let index = self.database + 1;
        let entry = &self.stage.script.entries[index as usize - 1];
        let (form, expected) = (entry.form.clone(), entry.verdict);
        let delivery = match (index > self.seen, self.rolled_back) {
            (true, _) => Delivery::First,
            (false, true) => Delivery::RolledBack,
            (false, false) => Delivery::Kept,
        };
        self.known.database.insert(index.max(self.known.frontier));
        self.known.sidecar.insert(self.sidecar.max(index));
        let bytes = self.stage.lookout.entry(index, &form, entry.wrap);
        let answer = self.deliver(index, &form, bytes.as_deref(), expected, delivery);
        if !answer.advances() {
            return false;
        }
        self.database = index;
        self.sidecar = self.sidecar.max(index);
        self.seen = self.seen.max(index);
        true
    }

    /// Delivers up to the end of the log and looks at what came of it; or, after at least one entry, up to a standing
    /// from which it is known what comes of it.
    pub(super) fn catch_up(&mut self, mut is_known: impl FnMut(Standing) -> bool) {
        let end = self.stage.script.end();
        let stands = self.database == end;
        while self.database < end {
            if !self.deliver_next() {
                return;
            }
            if self.database < end && self.standing().is_none_or(&mut is_known) {
                return;
            }
        }
        // Right after a start that left nothing to do, the first look says it all.
        let look = match (stands, self.history.last()) {
            (true, Some(Event::Observed(seen))) => {
                let caught_up = Observation { moment: Moment::CaughtUp, ..Observation::clone(seen) };
                self.history.push(Event::Observed(Box::new(caught_up)));
                return;
            }
            _ => self.look(),
        };
        if let Some(look) = look {
            self.observe(Moment::CaughtUp, look, &Known::exactly(end, end, end));
        }
    }

    /// Where a live node stands.
    fn standing(&mut self) -> Option<Standing> {
        let look = self.look()?;
        let content = Files::on(&self.disk).with(&look, self.known.frontier);
        Some(Standing { at: self.database, content, memory: look.memory })
    }

    /// Delivers what the model refuses in the state that this life started on; `None` if it accepts it. `Some(false)`
    /// if it was not refused or left something behind, so that what comes next would be blamed for it.
    pub(super) fn refuse(&mut self, form: &Form) -> Option<bool> {
        let wrap = self.state().raft_cutover.and_then(|_| self.stage.script.stranger_wrap(self.database));
        let expected = self.state().judge_sealed(self.stage.subject.rules(), true, form, wrap.as_ref());
        if expected.advances() {
            return None;
        }
        let bytes = self.stage.lookout.clear_entry(form);
        let bytes = bytes.map(|clear| match wrap {
            None => clear,
            Some(seal) => sealing::seal_entry(&seal, &clear),
        });
        self.deliver(self.database + 1, form, bytes.as_deref(), expected, Delivery::First);
        let Some(Event::Delivered { answer, effects, .. }) = self.history.last() else { return Some(false) };
        let refused = *answer == Delivered::Decided(expected);
        Some(refused && effects.is_some_and(|effects| effects.none()))
    }

    fn deliver(
        &mut self,
        index: u64,
        form: &Form,
        bytes: Option<&[u8]>,
        expected: Verdict,
        delivery: Delivery,
    ) -> Delivered {
        let life = self.life.as_mut().expect("only a live node is delivered to");
        let looks = !expected.advances() || self.armed;
        let before = looks.then(|| (self.disk.snapshot(), life.keys(), life.held(), self.disk.peek(SIDECAR)));
        let mutations = self.disk.mutations();
        let answer = hand_over(life.as_mut(), index, bytes);
        let fault = self.disk.last_fault();
        if let (Delivered::Halted(_), Some((_, keys, _, sidecar))) = (&answer, &before) {
            let now = life.keys();
            self.history.push(Event::Halted {
                index,
                kind: form.kind(),
                before_rename: fault.as_ref().is_some_and(|(op, _)| is_before_rename(op)),
                sidecar_changed: self.disk.peek(SIDECAR) != *sidecar,
                keys_changed: now != *keys,
                holds_its_keys: form.key_ids().iter().all(|id| now.contains_key(id)),
            });
        }
        let effects = before.map(|(disk, keys, held, _)| SideEffects {
            mutations: self.disk.mutations() - mutations,
            disk: self.disk.snapshot() != disk,
            memory: life.keys() != keys || life.held() != held,
        });
        self.history.push(Event::Delivered {
            index,
            kind: form.kind(),
            delivery,
            answer: answer.clone(),
            expected,
            faulted: fault.is_some(),
            effects,
            before: None,
        });
        answer
    }

    fn observe(&mut self, moment: Moment, look: Look, expected: &Known) {
        let states = |indices: &BTreeSet<u64>| indices.iter().map(|at| self.stage.state(*at)).collect();
        let Look { sidecar, memory, rows, data, stored, unreadable, uses, applied, .. } = look;
        self.history.extend(uses.into_iter().map(Event::Sealed));
        self.history.push(Event::Observed(Box::new(Observation {
            moment,
            sidecar,
            memory,
            rows,
            data,
            sealed: sealed(&stored),
            unreadable,
            applied,
            acknowledged: self.stage.state(self.stage.script.end()),
            sidecar_expected: states(&expected.sidecar),
            database_expected: states(&expected.database),
            rolled_back: self.rolled_back,
        })));
    }

    /// Arms a fault for the step to come.
    pub(super) fn arm(&mut self, fault: Fault) {
        self.disk.arm(fault);
        self.armed = true;
    }

    /// Keeps a list of the calls of the step to come.
    pub(super) fn keep_calls(&self) {
        self.disk.keep_calls(true);
    }

    /// The calls that were kept.
    pub(super) fn calls(&self) -> Vec<(u64, OpInfo)> {
        self.disk.take_calls()
    }

    /// Ends a step that a fault was armed in: where that left the node. `done` is whether the step was answered as done.
    pub(super) fn point_of_fault(&mut self, done: bool, fault: Fault) -> Point {
        self.disk.disarm();
        if done {
            self.settle();
        }
        let before = self.disk.last_fault().map(|(op, _)| op);
        Point { disk: self.disk.fork(), before, fault: Some(fault), known: self.known.clone() }
    }

    /// Whether the node was told of a failed sync.
    pub(super) fn heard_of_failed_sync(&self) -> bool {
        self.disk.sync_failed()
    }

    /// Whether a sync of the database or of its directory has failed: then the host ends its life in a power loss.
    pub(super) fn is_fenced(&self) -> bool {
        self.disk.sync_failed() && self.disk.last_fault().is_some_and(|(op, _)| is_of_database(&op))
    }

    /// Ends a step: the states before the calls made in it, and the one after the last.
    pub(super) fn points(&mut self) -> Vec<Point> {
        let known = &self.known;
        let before = |checkpoint: sim::Checkpoint| Point {
            disk: checkpoint.disk,
            before: Some(checkpoint.op),
            fault: None,
            known: known.clone(),
        };
        let mut points: Vec<Point> = self.disk.take_checkpoints().into_iter().map(before).collect();
        self.settle();
        points.push(Point { disk: self.disk.fork(), before: None, fault: None, known: self.known.clone() });
        points
    }

    /// The log.
    pub(super) fn script(&self) -> &'a Script {
        self.stage.script
    }

    /// The model's state where the database is.
    pub(super) fn state(&self) -> Arc<State> {
        self.stage.state(self.database)
    }

    /// Stops the node cleanly: its database closes its file, with writes and syncs of its own.
    pub(super) fn stop(&mut self) {
        self.life = None;
    }

    /// Everything that was wrong so far.
    pub(super) fn violations(&mut self) -> Vec<Violation> {
        if let Some(leak) = self.disk.leak() {
            self.history.push(Event::KeyOnDisk { path: leak.path });
        }
        invariants::check(&self.history)
    }

    /// Ends the life, without a goodbye.
    pub(super) fn end(mut self) {
        self.disk.process_crash();
        bury(self.life.take());
    }
}

/// Whether a call is about the database, its directory included.
pub(super) fn is_of_database(op: &OpInfo) -> bool {
    op.path.starts_with("/db")
}
