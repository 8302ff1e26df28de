//! The closure itself: which states there are, what each was led to by, and which are still to be lived.

mod errors;
mod garbled;
mod twins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use applier::Purpose;
use sim::{Choices, CrashReport, Disk, Exhaustive, Tearing, WHOLE_FROM};

use super::life::{Actor, Begun, Content, Known, Point, Stage, Standing};
use super::script::Script;
use super::{Errors, Finding, Part, States, Terms};
use crate::invariants::Violation;
use crate::run::panicked;
use crate::workload::{INVALID_KINDS, invalid};
use crate::world::node::{blank_disk, needles};

/// The most images that are built of one window of pending operations.
const IMAGES_MAX: u64 = 1 << 14;
const TOO_LARGE: &str = "images of a window beyond the first 16384";
const OUT_OF_STEP: &str = "states not lived on, since a violation had set them apart from the model";
const PAGE_TEARS: &str = "page writes whose tears were not enumerated";

/// A state that was, or will be, lived on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StateId {
    /// Nothing pending: a content.
    Image(usize),
    /// Something pending: what a start sees, and every image.
    Pair(usize),
    /// No state: something was wrong with it, and was reported.
    Broken,
}

/// One stretch of a life, recorded once for each state that it begins in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Start,
    Deliver(u64),
    Restore(u64),
    Claim(Purpose),
    Stop,
    Refuse,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start => f.write_str("the node starts"),
            Action::Deliver(index) => write!(f, "the node starts and gets entry {index}"),
            Action::Restore(index) => write!(f, "the node starts and its database is rolled back to {index}"),
            Action::Claim(purpose) => write!(f, "the node starts and claims an epoch of its {purpose:?} key"),
            Action::Stop => f.write_str("the node starts and is stopped"),
            Action::Refuse => f.write_str("the node starts and gets what it has to refuse"),
        }
    }
}

/// A stretch as it was lived.
struct Segment {
    before: StateId,
    action: Action,
    points: Vec<Point>,
}

/// Where a state was first met.
#[derive(Clone, Debug)]
struct Origin {
    parent: Option<usize>,
    step: String,
    depth: u64,
}

/// A state's first exact disk.
#[derive(Clone)]
struct Station {
    disk: Disk,
    known: Known,
    origin: usize,
}

/// What is known of an exact image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Checked {
    id: StateId,
    database: u64,
    sidecar: u64,
}

/// What a crash at an exact disk leads to.
#[derive(Debug)]
struct Window {
    images: BTreeSet<Checked>,
    /// The process crash, where anything is pending.
    pair: Option<StateId>,
}

impl Window {
    fn successors(&self) -> impl Iterator<Item = StateId> + '_ {
        self.images.iter().map(|checked| checked.id).chain(self.pair)
    }
}

#[derive(Clone)]
pub(super) struct Closure {
    contents: BTreeMap<Content, usize>,
    /// Exact images, by a hash of their bytes and the host's frontier.
    images: BTreeMap<(u128, u64), Checked>,
    /// Exact disks with pending operations, and what a crash there leads to.
    windows: BTreeMap<(u128, u64), Arc<Window>>,
    pairs: BTreeMap<(StateId, BTreeSet<StateId>), usize>,
    stations: BTreeMap<StateId, Station>,
    /// A second exact disk of a state, and one with operations pending, to be lived on as evidence that merging is
    /// sound.
    twins: BTreeMap<(StateId, bool), Station>,
    /// What each stretch led to.
    done: BTreeMap<(StateId, Action), Arc<BTreeSet<StateId>>>,
    /// From where a node is known to converge, up to the end of the log.
    converging: BTreeSet<Standing>,
    work: VecDeque<StateId>,
    origins: Vec<Origin>,
    states: States,
    findings: BTreeMap<String, Finding>,
    depth: u64,
    samples: u64,
    stopped: bool,
    keeps_index: bool,
    errors: Errors,
    garbled: bool,
    /// Stretches in which every call was made to fail.
    failed: BTreeSet<(StateId, Action)>,
}

impl Closure {
    /// The closure of the empty log, not yet closed.
    pub(super) fn new(terms: Terms<'_>) -> Closure {
        let mut closure = Closure {
            contents: BTreeMap::new(),
            images: BTreeMap::new(),
            windows: BTreeMap::new(),
            pairs: BTreeMap::new(),
            stations: BTreeMap::new(),
            twins: BTreeMap::new(),
            done: BTreeMap::new(),
            converging: BTreeSet::new(),
            work: VecDeque::new(),
            origins: vec![Origin { parent: None, step: "an empty disk".to_owned(), depth: 0 }],
            states: States::default(),
            findings: BTreeMap::new(),
            depth: 0,
            samples: 0,
            stopped: false,
            keeps_index: terms.subject.keeps_index(),
            errors: terms.errors,
            garbled: terms.garbled,
            failed: BTreeSet::new(),
        };
        let disk = blank_disk(terms.profile, terms.lies);
        disk.watch(needles());
        let script = Script::new(terms.subject.rules(), &[]);
        let mut stage = Stage::new(terms.subject, &script);
        closure.image(&mut stage, disk, &Known::exactly(0, 0, 0), &|| Origin {
            parent: Some(0),
            step: "nothing happens".to_owned(),
            depth: 0,
        });
        closure
    }

    /// What the closure of a longer log begins with: all states, and no counts.
    pub(super) fn heir(&self) -> Closure {
        Closure {
            images: BTreeMap::new(),
            windows: BTreeMap::new(),
            twins: BTreeMap::new(),
            states: States::default(),
            findings: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// The log has got one more entry: states that had come to its end can go on.
    pub(super) fn extend(&mut self, script: &Script) {
        let before = script.end() - 1;
        self.converging.clear();
        let ends_here = |image: &StateId| {
            let content = self.contents.iter().find(|(_, id)| *image == StateId::Image(**id));
            content.is_some_and(|(content, _)| content.index() == before)
        };
        let pairs = self.pairs.iter().filter(|((seen, _), _)| ends_here(seen));
        let pairs: Vec<StateId> = pairs.map(|(_, id)| StateId::Pair(*id)).collect();
        let images = self.contents.iter().filter(|(content, _)| content.index() == before);
        let images = images.map(|(_, id)| StateId::Image(*id));
        let known: Vec<StateId> = images.chain(pairs).filter(|id| self.stations.contains_key(id)).collect();
        self.work.extend(known);
    }

    /// Lives on every state until nothing new appears.
    pub(super) fn close(&mut self, terms: Terms<'_>, script: &Script) {
        let mut stage = Stage::new(terms.subject, script);
        while let Some(id) = self.work.pop_front() {
            if terms.is_stopped() || (terms.first_only && !self.findings.is_empty()) {
                self.stopped = true;
                return;
            }
            let before = self.states.checked;
            let expanded = panic::catch_unwind(AssertUnwindSafe(|| self.expand(&mut stage, id)));
            if let Err(panic) = expanded {
                let origin = self.stations[&id].origin;
                self.report(script, &[panicked(panic.as_ref())], origin, Action::Start);
            }
            (terms.progress)(self.states.checked - before);
        }
    }

    /// Whether it was ended early.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Records what a host can make of a state, and crashes it everywhere.
    fn expand(&mut self, stage: &mut Stage<'_>, id: StateId) {
        let station = self.stations[&id].clone();
        let Some((started, database, kept)) = self.go_on(stage, id, &station) else { return };
        self.refuse(stage, started, &station);
        if self.errors != Errors::None {
            self.fail_every_call(stage, (id, started), (database, kept), &station);
        }
        let back = |index: u64| Action::Restore(index);
        let again = |index: u64| Action::Deliver(index + 1);
        let oldest = kept - 1;
        let others: Vec<Action> = match self.keeps_index {
            // Such a subject skips what it has, which the life that goes on has seen already.
            true => (oldest..=database).map(back).collect(),
            false => (oldest..database).flat_map(|index| [back(index), again(index)]).collect(),
        };
        let claims: &[Action] = match stage.script.claims {
            // Of one key: another one's epochs are as independent of these as its rows are.
            true => &[Action::Claim(Purpose::Storage)],
            false => &[],
        };
        for action in others.into_iter().chain(claims.iter().copied()) {
            if !self.done.contains_key(&(started, action)) {
                let segment = self.one_life(stage, id, action, &station);
                self.crash_all(stage, segment, station.origin);
            }
        }
    }

    /// The life in which the host goes on, as far as that is new. Gives the state after its start, where that is, and the
    /// first entry that the host still has.
    fn go_on(
        &mut self,
        stage: &mut Stage<'_>,
        id: StateId,
        station: &Station,
    ) -> Option<(StateId, u64, u64)> {
        let origin = station.origin;
        let mut segments = Vec::new();
        let mut actor = Actor::start(stage, station.disk.fork(), &station.known, true);
        if self.keeps_index && actor.lives() {
            actor.deliver_what_it_has();
        }
        let points = actor.points();
        let violations = actor.violations();
        if violations.iter().any(is_out_of_step) || !actor.lives() {
            actor.end();
            self.report(stage.script, &violations, origin, Action::Start);
            self.done.insert((id, Action::Start), Arc::default());
            return None;
        }
        let database = actor.database;
        let kept = actor.kept_from();
        let started = self.current(&mut actor, &points, origin, Action::Start);
        if !self.done.contains_key(&(id, Action::Start)) {
            segments.push(Segment { before: id, action: Action::Start, points });
        }
        let mut current = started;
        while current != StateId::Broken && actor.database < actor.script().end() {
            let action = Action::Deliver(actor.database + 1);
            if self.done.contains_key(&(current, action)) {
                break;
            }
            current = match self.stretch(&mut actor, current, action, origin) {
                Some(segment) => {
                    let state = self.current(&mut actor, &segment.points, origin, action);
                    segments.push(segment);
                    state
                }
                None => StateId::Broken,
            };
        }
        if current != StateId::Broken && !self.done.contains_key(&(current, Action::Stop)) {
            segments.extend(self.stretch(&mut actor, current, Action::Stop, origin));
        }
        actor.end();
        self.crash_all(stage, segments, origin);
        (started != StateId::Broken).then_some((started, database, kept))
    }

    /// The state that a live node is in after a step: where it has left something that is not durable, that of a node
    /// whose process crashes right there.
    fn current(
        &mut self,
        actor: &mut Actor<'_, '_>,
        points: &[Point],
        origin: usize,
        action: Action,
    ) -> StateId {
        if let Some(last) = points.last().filter(|last| !last.disk.is_durable()) {
            let window = self.crash(&mut actor.stage_for_others(), last, origin, action);
            return window.pair.unwrap_or(StateId::Broken);
        }
        actor.content_now().map_or(StateId::Broken, |content| self.content_id(content))
    }

    fn content_id(&mut self, content: Content) -> StateId {
        let fresh = self.contents.len();
        StateId::Image(*self.contents.entry(content).or_insert(fresh))
    }

    /// Lives one stretch; `None` if something was wrong with it: then nobody looks at its crashes.
    fn stretch(
        &mut self,
        actor: &mut Actor<'_, '_>,
        before: StateId,
        action: Action,
        origin: usize,
    ) -> Option<Segment> {
        step(actor, action);
        let violations = actor.violations();
        self.report(actor.script(), &violations, origin, action);
        if violations.iter().any(is_out_of_step) {
            self.done.insert((before, action), Arc::default());
            return None;
        }
        Some(Segment { before, action, points: actor.points() })
    }

    /// A life of a start and one stretch, both recorded.
    fn one_life(
        &mut self,
        stage: &mut Stage<'_>,
        id: StateId,
        action: Action,
        station: &Station,
    ) -> Option<Segment> {
        let origin = station.origin;
        let mut actor = Actor::start(stage, station.disk.fork(), &station.known, true);
        let points = actor.points();
        let started = self.current(&mut actor, &points, origin, Action::Start);
        if let (Action::Deliver(index), false) = (action, self.keeps_index) {
            actor.redeliver_after(index - 1);
        }
        let segment = match action {
            Action::Start => Some(Segment { before: id, action, points }),
            _ => self.stretch(&mut actor, started, action, origin),
        };
        actor.end();
        segment
    }

    /// Everything that has to be refused in a state is, and leaves nothing behind.
    fn refuse(&mut self, stage: &mut Stage<'_>, started: StateId, station: &Station) {
        let Station { disk, known, origin } = station;
        let origin = *origin;
        if self.done.contains_key(&(started, Action::Refuse)) {
            return;
        }
        self.done.insert((started, Action::Refuse), Arc::default());
        let mut actor = Actor::start(stage, disk.fork(), known, false);
        // Below the sidecar's entry, the log is already written.
        if actor.sidecar > actor.database {
            actor.end();
            return;
        }
        let state = actor.state();
        let forms: Vec<_> = (0..INVALID_KINDS)
            .map(|kind| invalid(&state, kind))
            .chain(actor.script().strangers.iter().cloned())
            .collect();
        for form in forms {
            match actor.refuse(&form) {
                None => continue,
                Some(true) => self.states.refusals += 1,
                Some(false) => {
                    let violations = actor.violations();
                    self.report(actor.script(), &violations, origin, Action::Refuse);
                    actor.end();
                    actor = Actor::start(stage, disk.fork(), known, false);
                }
            }
        }
        let violations = actor.violations();
        self.report(actor.script(), &violations, origin, Action::Refuse);
        actor.end();
    }

    fn crash_all(
        &mut self,
        stage: &mut Stage<'_>,
        segments: impl IntoIterator<Item = Segment>,
        origin: usize,
    ) {
        for segment in segments {
            let successors = self.successors(stage, &segment, origin);
            self.done.insert((segment.before, segment.action), Arc::new(successors));
        }
    }

    fn successors(&mut self, stage: &mut Stage<'_>, segment: &Segment, origin: usize) -> BTreeSet<StateId> {
        let mut successors = BTreeSet::new();
        for point in &segment.points {
            successors.extend(self.crash(stage, point, origin, segment.action).successors());
        }
        successors
    }

    /// Crashes at a point in every way.
    fn crash(&mut self, stage: &mut Stage<'_>, point: &Point, parent: usize, action: Action) -> Arc<Window> {
        let exact = (point.disk.snapshot().digest(), point.known.frontier);
        if let Some(window) = self.windows.get(&exact) {
            let window = Arc::clone(window);
            // An image may be illegal where more is acknowledged.
            if !window.images.iter().all(|checked| is_legal(stage.script, checked, &point.known)) {
                self.images_of(stage, point, parent, action);
            }
            return window;
        }
        let images = self.images_of(stage, point, parent, action);
        let pair = (!point.disk.is_durable()).then(|| self.pair(stage, point, &images, parent, action));
        let window = Arc::new(Window { images, pair });
        self.windows.insert(exact, Arc::clone(&window));
        window
    }

    /// Every image of a power loss at a point.
    fn images_of(
        &mut self,
        stage: &mut Stage<'_>,
        point: &Point,
        parent: usize,
        action: Action,
    ) -> BTreeSet<Checked> {
        let mut images = BTreeSet::new();
        let mut walk = Exhaustive::limited(IMAGES_MAX);
        while let Some(mut choices) = walk.begin() {
            let image = point.disk.fork();
            image.set_tearing(Tearing::PagesWhole);
            let report = image.power_loss(&mut choices);
            walk.end(choices).expect("a power loss draws the same on equal disks");
            images.insert(self.power_loss(stage, image, &report, point, parent, action));
        }
        if !walk.is_complete() {
            *self.states.skipped.entry(TOO_LARGE.to_owned()).or_default() += 1;
        }
        if self.garbled && point.disk.pending_len() > 0 {
            self.garble(stage, point, parent, action);
        }
        let pages = point.disk.pending_writes_from(WHOLE_FROM);
        if pages > 0 {
            *self.states.skipped.entry(PAGE_TEARS.to_owned()).or_default() += pages;
            self.samples += 1;
            let image = point.disk.fork();
            image.set_tearing(Tearing::Sectors);
            let report = image.power_loss(&mut Choices::seeded(self.samples));
            // Checked, and lived on if it is new, but a matter of chance: what a window leads to does not include it.
            self.power_loss(stage, image, &report, point, parent, action);
        }
        images
    }

    fn power_loss(
        &mut self,
        stage: &mut Stage<'_>,
        image: Disk,
        report: &CrashReport,
        point: &Point,
        parent: usize,
        action: Action,
    ) -> Checked {
        let depth = self.origins[parent].depth + 1;
        let step = || format!("{}, power loss: {report}", place(point, action));
        self.image(stage, image, &point.known, &|| Origin { parent: Some(parent), step: step(), depth })
    }

    /// Boots an image, unless the very same was booted before.
    fn image(
        &mut self,
        stage: &mut Stage<'_>,
        disk: Disk,
        known: &Known,
        origin: &dyn Fn() -> Origin,
    ) -> Checked {
        self.states.raw += 1;
        let exact = (disk.snapshot().digest(), known.frontier);
        let before = self.images.get(&exact).copied();
        if let Some(checked) = before.filter(|checked| is_legal(stage.script, checked, known)) {
            return checked;
        }
        self.states.distinct += u64::from(before.is_none());
        let checked = match self.check(stage, &disk, known, origin) {
            None => Checked { id: StateId::Broken, database: 0, sidecar: 0 },
            Some(Begun { content, database, sidecar }) => {
                let id = self.content_id(content);
                self.meet(id, disk, Known::exactly(database, sidecar, known.frontier), origin);
                Checked { id, database, sidecar }
            }
        };
        self.images.insert(exact, checked);
        checked
    }

    /// A process crash at a point: pending operations stay.
    fn pair(
        &mut self,
        stage: &mut Stage<'_>,
        point: &Point,
        images: &BTreeSet<Checked>,
        parent: usize,
        action: Action,
    ) -> StateId {
        let disk = point.disk.fork();
        disk.process_crash();
        let depth = self.origins[parent].depth + 1;
        let step = || format!("{}, process crash", place(point, action));
        let origin = || Origin { parent: Some(parent), step: step(), depth };
        let Some(begun) = self.check(stage, &disk, &point.known, &origin) else { return StateId::Broken };
        let seen = self.content_id(begun.content);
        let images: BTreeSet<StateId> = images.iter().map(|checked| checked.id).collect();
        // What is pending makes no difference where every image is like what a start sees.
        if images.iter().all(|image| *image == seen) {
            let known = Known::exactly(begun.database, begun.sidecar, point.known.frontier);
            self.meet(seen, disk, known, &origin);
            return seen;
        }
        let fresh = self.pairs.len();
        let id = StateId::Pair(*self.pairs.entry((seen, images)).or_insert(fresh));
        self.meet(id, disk, point.known.clone(), &origin);
        id
    }

    /// Lives on a copy of the disk to the end of the log.
    fn check(
        &mut self,
        stage: &mut Stage<'_>,
        disk: &Disk,
        known: &Known,
        origin: &dyn Fn() -> Origin,
    ) -> Option<Begun> {
        self.states.checked += 1;
        let mut actor = Actor::start(stage, disk.fork(), known, false);
        let mut passed = Vec::new();
        if actor.lives() {
            actor.catch_up(|standing| {
                let is_known = self.converging.contains(&standing);
                passed.push(standing);
                is_known
            });
        }
        let violations = actor.violations();
        if violations.is_empty() {
            self.converging.extend(passed);
        }
        let begun = actor.begun.take();
        actor.end();
        if !violations.is_empty() {
            let origin = self.origin(origin());
            self.report(stage.script, &violations, origin, Action::Start);
        }
        if violations.iter().any(is_out_of_step) {
            *self.states.skipped.entry(OUT_OF_STEP.to_owned()).or_default() += 1;
            return None;
        }
        begun
    }

    /// Takes note of a state: it will be lived on if it is new, and by chance once more if it is not.
    fn meet(&mut self, id: StateId, disk: Disk, known: Known, origin: &dyn Fn() -> Origin) {
        if let Some(first) = self.stations.get(&id) {
            let origin = first.origin;
            self.twins.entry((id, !disk.is_durable())).or_insert_with(|| Station { disk, known, origin });
            return;
        }
        let origin = self.origin(origin());
        self.depth = self.depth.max(self.origins[origin].depth);
        self.states.expanded += 1;
        self.stations.insert(id, Station { disk, known, origin });
        self.work.push_back(id);
    }

    fn origin(&mut self, origin: Origin) -> usize {
        self.origins.push(origin);
        self.origins.len() - 1
    }

    fn report(&mut self, script: &Script, violations: &[Violation], origin: usize, action: Action) {
        for Violation { invariant, fingerprint, evidence, .. } in violations {
            match self.findings.get_mut(fingerprint) {
                Some(found) => found.states_hit += 1,
                None => {
                    let path = self.path(origin, action);
                    let (evidence, log) = (evidence.clone(), script.to_string());
                    let fingerprint = fingerprint.clone();
                    let found = Finding { fingerprint, invariant, states_hit: 1, evidence, log, path };
                    self.findings.insert(found.fingerprint.clone(), found);
                }
            }
        }
    }

    fn path(&self, origin: usize, action: Action) -> Vec<String> {
        let mut path = vec![action.to_string()];
        let mut at = Some(origin);
        while let Some(origin) = at.map(|at| &self.origins[at]) {
            path.push(origin.step.clone());
            at = origin.parent;
        }
        path.reverse();
        path
    }

    /// What is reported of it, under the name of its log.
    pub(super) fn part(&self, log: &str, script: &Script) -> Part {
        let contents: Vec<&Content> = self.contents.keys().collect();
        let pairs = self.pairs.len();
        let findings: Vec<&String> = self.findings.keys().collect();
        let States { expanded, refusals, .. } = self.states;
        // How many images there are of a state depends on how the database fills its pages, which differs between debug
        // and release.
        let text =
            format!("{log}: {script} {contents:?} {pairs} {expanded} {refusals} {} {findings:?}", self.depth);
        Part {
            complete: !self.stopped && !self.states.skipped.contains_key(TOO_LARGE),
            states: self.states.clone(),
            depth: self.depth,
            text,
            findings: self.findings.clone(),
        }
    }
}

/// Lives one stretch after a start. Whether it was answered as done.
fn step(actor: &mut Actor<'_, '_>, action: Action) -> bool {
    match action {
        Action::Deliver(_) => actor.deliver_next(),
        Action::Restore(index) => actor.restore(index),
        Action::Claim(purpose) => actor.claim(purpose),
        Action::Stop => {
            actor.stop();
            true
        }
        Action::Start | Action::Refuse => {
            unreachable!("a start is lived by others, and a refusal calls nothing")
        }
    }
}

/// Whether subject and model have parted ways, so that what follows would be the same defect under many names.
fn is_out_of_step(violation: &Violation) -> bool {
    match violation.invariant {
        "replay-converges" => !violation.fingerprint.contains("/memory/"),
        "legitimate-log-never-halts"
        | "verdict-matches-model"
        | "start-succeeds"
        | "sidecar-old-or-new"
        | "acknowledged-survives" => true,
        _ => false,
    }
}

/// Whether an image is as it may be here too. What was reported once is not reported at every place.
fn is_legal(script: &Script, checked: &Checked, known: &Known) -> bool {
    if checked.id == StateId::Broken {
        return true;
    }
    let same_sidecar = |index: &u64| {
        let (one, other) = (&script.states[*index as usize], &script.states[checked.sidecar as usize]);
        one.has_sidecar_of(other)
    };
    known.database.contains(&checked.database) && known.sidecar.iter().any(same_sidecar)
}

fn place(point: &Point, action: Action) -> String {
    match (&point.before, point.fault) {
        (Some(op), None) => format!("{action}; before {op}"),
        (Some(op), Some(fault)) => format!("{action}, in which {op} meets {fault:?}; after that"),
        (None, Some(fault)) => format!("{action}, in which it meets {fault:?}; after that"),
        (None, None) => format!("{action}; after its last call"),
    }
}
