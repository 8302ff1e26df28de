//! One life of a node from a given disk to the end of the log: started, delivered to, looked at, and held against the
//! model. While it lives, every state that a crash could start from is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use sim::{Disk, OpInfo};

use super::script::Script;
use crate::form::Form;
use crate::history::{Delivery, Event, History, Moment, Observation, SideEffects};
use crate::invariants::{self, Violation};
use crate::model::{State, Verdict, Writer};
use crate::seam::SimFiles;
use crate::subject::{DATABASE, Delivered, HostSnapshot, Life, SIDECAR, Subject, Surroundings, bury};
use crate::workload::{INVALID_KINDS, invalid};
use crate::world::look::{Look, Lookout};
use crate::world::node::{advances, refusal_name};

/// One time for all lives: what differs by the clock alone would never close.
const UNIX_SECONDS: u64 = 1_700_000_000;

/// What is known of a node before a life, as indices of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    /// Where the database may be.
    pub(super) database: BTreeSet<u64>,
    /// Which entry the sidecar may be after.
    pub(super) sidecar: BTreeSet<u64>,
    /// Newest entry that the host has seen acknowledged, for a subject that keeps no index of its own.
    pub(super) frontier: u64,
}

/// What a host does with a node that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Delivers from where the subject says, or else from the frontier.
    Resumes,
    /// Delivers everything after this index, on the database as it is.
    DeliversAfter(u64),
    /// Rolls the database back to this index and delivers what comes after it.
    RollsBackTo(u64),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Resumes => f.write_str("goes on"),
            Host::DeliversAfter(index) => write!(f, "delivers again after {index}"),
            Host::RollsBackTo(index) => write!(f, "rolls the database back to {index}"),
        }
    }
}

/// A place in a life at which a crash may strike: the disk just before a call.
pub(super) struct Point {
    pub(super) disk: Disk,
    /// The call, `None` after the last one.
    pub(super) before: Option<OpInfo>,
    pub(super) known: Known,
}

/// What a subject's later behaviour depends on: two disks with equal content are one state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Content {
    sidecar: Option<Vec<u8>>,
    /// Whether there is a temporary sidecar. What is in it is never read.
    leftover: bool,
    database: bool,
    database_leftover: bool,
    rows: BTreeMap<(u32, u16), Writer>,
    data: BTreeMap<u64, u64>,
    applied: Option<u64>,
    proof: u64,
    frontier: u64,
}

/// What a life came to.
pub(super) struct Lived {
    pub(super) violations: Vec<Violation>,
    /// The content that it started on, if it started.
    pub(super) content: Option<Content>,
    /// Index that the database was found at.
    pub(super) database: u64,
    /// Index of the newest entry whose sidecar this is.
    pub(super) sidecar: u64,
}

/// What stays the same from life to life.
pub(super) struct Stage<'a> {
    pub(super) subject: Subject,
    pub(super) script: &'a Script,
    /// What a host's snapshot at each index holds.
    pub(super) snapshots: Vec<HostSnapshot>,
    pub(super) lookout: Lookout,
}

impl Stage<'_> {
    /// Lives once on `disk`, and leaves it dead. With `points` the life is recorded, ends in a clean stop, and meets
    /// every way to be refused right after its start.
    pub(super) fn live(
        &mut self,
        disk: &Disk,
        known: &Known,
        host: Host,
        points: Option<&mut Vec<Point>>,
    ) -> Lived {
        let rolled_back = matches!(host, Host::RollsBackTo(_));
        let mut act =
            Act { stage: self, disk, points, history: Vec::new(), known: known.clone(), rolled_back };
        act.disk.keep_checkpoints(act.points.is_some());
        let lived = act.play(known, host);
        disk.keep_checkpoints(false);
        disk.process_crash();
        lived
    }

    fn state(&self, index: u64) -> Rc<State> {
        Rc::clone(&self.script.states[index as usize])
    }
}

struct Act<'a, 's> {
    stage: &'a mut Stage<'s>,
    disk: &'a Disk,
    points: Option<&'a mut Vec<Point>>,
    history: History,
    /// What a crash now would leave known.
    known: Known,
    rolled_back: bool,
}

impl Act<'_, '_> {
    fn play(&mut self, before: &Known, host: Host) -> Lived {
        let sidecar_bytes = self.disk.peek(SIDECAR);
        let leftover = self.disk.exists(&format!("{SIDECAR}.tmp"));
        let databases = [DATABASE.to_owned(), format!("{DATABASE}.tmp")].map(|path| self.disk.exists(&path));
        let world = Surroundings {
            files: SimFiles::new(self.disk.mount()),
            kek: Arc::clone(self.stage.lookout.kek()),
            reads: Arc::default(),
            unix_seconds: UNIX_SECONDS,
            keyring: true,
        };
        let started = self.stage.subject.start(&world);
        self.mark();
        let mut life = match started {
            Ok(life) => life,
            Err(error) => {
                let why = refusal_name(&error).to_owned();
                self.history.push(Event::StartRefused { why, faulted: false });
                return self.end(None, 0, 0);
            }
        };
        let Some(look) = self.stage.lookout.look(life.as_ref(), self.disk) else {
            self.history.push(Event::StartRefused { why: "unreadable".to_owned(), faulted: false });
            return self.end(None, 0, 0);
        };
        let database = look.applied.unwrap_or(before.frontier);
        let is_after = |index: &&u64| look.sidecar.is_of(&self.stage.state(**index));
        let sidecar = before.sidecar.iter().rev().find(is_after).copied().unwrap_or(0);
        let content = Content {
            sidecar: sidecar_bytes,
            leftover,
            database: databases[0],
            database_leftover: databases[1],
            rows: look.rows.clone(),
            data: look.data.clone(),
            applied: look.applied,
            proof: look.proof,
            frontier: before.frontier,
        };
        self.observe(Moment::Started, look, before);
        // What a start has shown is acknowledged.
        self.known =
            Known { database: [database].into(), sidecar: [sidecar].into(), frontier: before.frontier };
        if self.points.is_some() && host == Host::Resumes && sidecar <= database {
            self.refuse_everything(life.as_mut(), database);
        }
        if self.go_on(life.as_mut(), host, database, sidecar) {
            let end = self.stage.script.end();
            let reached = Known { database: [end].into(), sidecar: [end].into(), frontier: end };
            if let Some(look) = self.stage.lookout.look(life.as_ref(), self.disk) {
                self.observe(Moment::CaughtUp, look, &reached);
            }
        }
        if self.points.is_some() {
            drop(life);
            self.mark();
            let (disk, known) = (self.disk.fork(), self.known.clone());
            self.points.as_mut().expect("asked above").push(Point { disk, before: None, known });
        } else {
            self.disk.process_crash();
            bury(life);
        }
        self.end(Some(content), database, sidecar)
    }

    fn end(&mut self, content: Option<Content>, database: u64, sidecar: u64) -> Lived {
        Lived { violations: invariants::check(&self.history), content, database, sidecar }
    }

    /// Whether the end of the log was reached.
    fn go_on(&mut self, life: &mut dyn Life, host: Host, database: u64, mut sidecar: u64) -> bool {
        let (mut position, again) = match host {
            Host::Resumes => (database, Delivery::Kept),
            Host::DeliversAfter(index) => (index, Delivery::Kept),
            Host::RollsBackTo(index) => {
                self.known.database.insert(index);
                let restored = life.restore(&self.stage.snapshots[index as usize]);
                self.mark();
                if let Err(error) = restored {
                    let why = format!("rollback, {error}");
                    self.history.push(Event::StartRefused { why, faulted: false });
                    return false;
                }
                (index, Delivery::RolledBack)
            }
        };
        let mut seen = database.max(self.known.frontier);
        while position < self.stage.script.end() {
            let index = position + 1;
            let entry = self.stage.script.entries[position as usize].clone();
            let first = index > seen;
            let delivery = if first { Delivery::First } else { again };
            if let (true, Some((form, expected))) = (first && sidecar <= position, entry.refused) {
                self.deliver(life, index, &form, expected, Delivery::First);
            }
            let at = if self.rolled_back { position } else { position.max(database) };
            self.known.database = [at, at.max(index)].into();
            self.known.sidecar = [sidecar, sidecar.max(index)].into();
            let answer = self.deliver(life, index, &entry.form, entry.verdict, delivery);
            self.mark();
            if !advances(&answer) {
                return false;
            }
            position = index;
            sidecar = sidecar.max(index);
            seen = seen.max(index);
            self.known = Known {
                database: [at.max(index)].into(),
                sidecar: [sidecar].into(),
                frontier: if self.stage.subject.keeps_index() { 0 } else { self.known.frontier.max(index) },
            };
        }
        true
    }

    /// Every way to be refused, against the state that this life started on.
    fn refuse_everything(&mut self, life: &mut dyn Life, database: u64) {
        let state = self.stage.state(database);
        for kind in 0..INVALID_KINDS {
            let form = invalid(&state, kind);
            let expected = state.judge(self.stage.subject.rules(), true, &form);
            if !expected.advances() {
                self.deliver(life, database + 1, &form, expected, Delivery::First);
            }
        }
        self.mark();
    }

    fn deliver(
        &mut self,
        life: &mut dyn Life,
        index: u64,
        form: &Form,
        expected: Verdict,
        delivery: Delivery,
    ) -> Delivered {
        let payload = self.stage.lookout.payload(index, form);
        let before = (!expected.advances()).then(|| (self.disk.snapshot(), life.keys(), life.held()));
        let mutations = self.disk.mutations();
        let answer = match (&payload, form) {
            (Some(payload), _) => life.deliver(index, payload),
            (None, Form::Data { key, value }) => life.advance(index, Some((*key, *value))),
            (None, _) => life.advance(index, None),
        };
        let effects = before.map(|(disk, keys, held)| SideEffects {
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
            faulted: false,
            effects,
            before: None,
        });
        answer
    }

    fn observe(&mut self, moment: Moment, look: Look, expected: &Known) {
        let states = |indices: &BTreeSet<u64>| indices.iter().map(|at| self.stage.state(*at)).collect();
        let Look { sidecar, memory, rows, data, applied, .. } = look;
        self.history.push(Event::Observed(Box::new(Observation {
            moment,
            sidecar,
            memory,
            rows,
            data,
            applied,
            acknowledged: self.stage.state(self.stage.script.end()),
            sidecar_expected: states(&expected.sidecar),
            database_expected: states(&expected.database),
            rolled_back: moment == Moment::CaughtUp && self.rolled_back,
        })));
    }

    /// Takes over the states before the calls made so far, with what a crash at them would leave known.
    fn mark(&mut self) {
        let Some(points) = &mut self.points else { return };
        let known = &self.known;
        points.extend(self.disk.take_checkpoints().into_iter().map(|checkpoint| Point {
            disk: checkpoint.disk,
            before: Some(checkpoint.op),
            known: known.clone(),
        }));
    }
}
