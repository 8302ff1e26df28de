//! Proof instead of search: the closure of all states that crashes can lead a log to.
//!
//! ```text
//! a disk  ->  a life on it, every call recorded  ->  at every call: each image that a power loss can leave,
//!    ^                                               and what a process crash leaves, pending operations and all
//!    |                                                                 |
//!    +----- if its content is new, for each thing a host may do  <-----+   each image is booted and replayed to the end
//! ```
//!
//! It ends when no new content appears, so it covers any number of crashes in any order, those of recoveries of
//! recoveries included. What is taken for granted is listed in [`ASSUMES`].

mod life;
pub mod script;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use applier::registry::{self, Registry};
use sim::{Choices, CrashReport, Disk, Exhaustive, Lies, Needles, Profile, Tearing, WHOLE_FROM};
use xxhash_rust::xxh3::xxh3_64;

use crate::form::{self, Form};
use crate::invariants::Violation;
use crate::seam::SimFiles;
use crate::subject::{DATABASE, HostSnapshot, Life, Subject, Surroundings, bury};
use crate::world::look::Lookout;
use crate::world::node::blank_disk;
use crate::world::{Scenario, Setup};
use life::{Content, Host, Known, Lived, Point, Stage};
use script::Script;

/// What a proof takes for granted.
pub const ASSUMES: [&str; 6] = [
    "a write of a database page (4096 bytes or more) is kept or dropped whole; its tears are sampled, and counted as skipped",
    "smaller writes (the sidecar, the database's header) tear at 512-byte sectors, each old or new",
    "states are equal if sidecar, rows, data, indices and the presence of each file are: the database's own counters never repeat, and what is in a temporary file is never read",
    "a state with pending operations is equal to another if what a start sees and every image of a power loss are",
    "no call fails but by a crash: errors of the disk are searched by sweeps",
    "the clock stands still",
];

/// The most images that are built of one window of pending operations.
const IMAGES_MAX: u64 = 1 << 14;

/// Counts of states.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct States {
    /// Images built.
    pub raw: u64,
    /// Of them, different ones.
    pub distinct: u64,
    /// Crash states that were booted, replayed to the end of the log and compared with the model.
    pub checked: u64,
    /// States whose lives were recorded, call by call.
    pub expanded: u64,
    /// What was left out, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// A violation and the shortest way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// How many states show it.
    pub states_hit: u64,
    /// What was expected and found.
    pub evidence: String,
    /// One line for each crash on the way, and the life that shows it.
    pub path: Vec<String>,
}

/// What the closure of one log came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The log's name.
    pub log: String,
    /// Whether no state was left out but for the reasons that [`ASSUMES`] names.
    pub complete: bool,
    /// Counts.
    pub states: States,
    /// The most crashes in a row that led to something new.
    pub recovery_depth_max: u64,
    /// Hash of all counts and all contents.
    pub digest: u64,
    /// Violations by fingerprint.
    pub findings: BTreeMap<String, Finding>,
}

/// Closes one log. `stop` ends it early, incomplete.
pub fn prove(subject: Subject, profile: Profile, log: &str, forms: &[Form], stop: &AtomicBool) -> Proof {
    let script = Script::new(log.to_owned(), subject.rules(), forms);
    let setup = Setup { scenario: Scenario::Single, subject, profile, lies: Lies::NONE };
    let (_, snapshots) = applied(&setup, &script, &blank_disk(&setup));
    let stage = Stage { subject, script: &script, snapshots, lookout: Lookout::new() };
    let mut closure = Closure {
        stage,
        contents: BTreeMap::new(),
        images: BTreeMap::new(),
        windows: BTreeMap::new(),
        pairs: BTreeMap::new(),
        successors: BTreeMap::new(),
        twins: BTreeMap::new(),
        work: VecDeque::new(),
        pushed: BTreeSet::new(),
        origins: Vec::new(),
        states: States::default(),
        findings: BTreeMap::new(),
        depth: 0,
        samples: 0,
    };
    let disk = blank_disk(&setup);
    disk.watch(&Needles::new(&form::traces_of_a_key()));
    let known = Known { database: [0].into(), sidecar: [0].into(), frontier: 0 };
    let origin = Origin { parent: None, step: "an empty disk".to_owned(), depth: 0 };
    closure.image(disk, &known, || origin);
    let mut complete = closure.close(stop);
    complete &= !closure.states.skipped.contains_key(TOO_LARGE);
    if complete && closure.findings.is_empty() {
        closure.compare_twins();
    }
    closure.finish(log, complete)
}

const TOO_LARGE: &str = "images of a window beyond the first 16384";
const PAGE_TEARS: &str = "page writes whose tears were not enumerated";

/// A life that nothing disturbs, at the end of the log, and what a host's snapshot at each index would hold.
fn applied(setup: &Setup, script: &Script, disk: &Disk) -> (Box<dyn Life>, Vec<HostSnapshot>) {
    let mut lookout = Lookout::new();
    let world = Surroundings {
        files: SimFiles::new(disk.mount()),
        kek: Arc::clone(lookout.kek()),
        reads: Arc::default(),
        unix_seconds: 0,
        keyring: true,
    };
    let mut life = setup.subject.start(&world).expect("a fresh node starts");
    let mut snapshots = vec![HostSnapshot::default()];
    for (index, entry) in (1..).zip(&script.entries) {
        match (lookout.payload(index, &entry.form), &entry.form) {
            (Some(payload), _) => drop(life.deliver(index, &payload)),
            (None, Form::Data { key, value }) => drop(life.advance(index, Some((*key, *value)))),
            (None, _) => drop(life.advance(index, None)),
        }
        snapshots.push(life.database().expect("no fault is armed"));
    }
    (life, snapshots)
}

/// A state that will be, or was, expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StateId {
    /// Nothing pending: a content.
    Image(usize),
    /// Something pending: what a start sees, and every image.
    Pair(usize),
    /// No state: the start failed, and was reported.
    Broken,
}

/// Where a state was first met.
#[derive(Clone, Debug)]
struct Origin {
    parent: Option<usize>,
    step: String,
    depth: u64,
}

struct Work {
    id: StateId,
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

struct Closure<'a> {
    stage: Stage<'a>,
    contents: BTreeMap<Content, usize>,
    /// Exact images, by a hash of their bytes and the host's frontier.
    images: BTreeMap<(u128, u64), Checked>,
    /// Exact disks with pending operations, and what a crash there leads to.
    windows: BTreeMap<(u128, u64), Rc<Window>>,
    pairs: BTreeMap<(StateId, BTreeSet<StateId>), usize>,
    /// What each expanded state leads to, and a second exact image of its content: evidence that merging is sound.
    successors: BTreeMap<StateId, BTreeSet<StateId>>,
    twins: BTreeMap<StateId, (Disk, Known)>,
    work: VecDeque<Work>,
    pushed: BTreeSet<StateId>,
    origins: Vec<Origin>,
    states: States,
    findings: BTreeMap<String, Finding>,
    depth: u64,
    samples: u64,
}

impl Closure<'_> {
    /// Expands until nothing new appears. False if it was stopped.
    fn close(&mut self, stop: &AtomicBool) -> bool {
        while let Some(work) = self.work.pop_front() {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            let successors = self.expand(&work);
            self.successors.insert(work.id, successors);
        }
        true
    }

    /// Records the lives that a host can make of a state, and crashes them everywhere.
    fn expand(&mut self, work: &Work) -> BTreeSet<StateId> {
        self.states.expanded += 1;
        let mut successors = BTreeSet::new();
        for (host, recorded) in self.hosts(&work.known) {
            let mut points = Vec::new();
            let record = recorded.then_some(&mut points);
            let lived = self.stage.live(&work.disk.fork(), &work.known, host, record);
            self.report(&lived.violations, work.origin, &format!("the node starts, and its host {host}"));
            for point in points {
                successors.extend(self.crash(&point, work.origin, host).successors());
            }
        }
        successors
    }

    /// Everything that a host could do after a start, and whether the life is recorded: a subject that keeps an index
    /// skips what it has, so that its calls are those of a host that goes on.
    fn hosts(&self, known: &Known) -> Vec<(Host, bool)> {
        let keeps_index = self.stage.subject.keeps_index();
        let lowest = known.database.first().copied().unwrap_or(0).max(known.frontier);
        let mut hosts = vec![(Host::Resumes, true)];
        hosts.extend((0..lowest).map(|index| (Host::DeliversAfter(index), !keeps_index)));
        hosts.extend((0..=lowest).map(|index| (Host::RollsBackTo(index), true)));
        hosts
    }

    /// Crashes at a point in every way.
    fn crash(&mut self, point: &Point, parent: usize, host: Host) -> Rc<Window> {
        let exact = (point.disk.snapshot().digest(), point.known.frontier);
        if let Some(window) = self.windows.get(&exact) {
            let window = Rc::clone(window);
            // An image may be illegal where more is acknowledged.
            if !window.images.iter().all(|checked| self.is_legal(checked, &point.known)) {
                self.images_of(point, parent, host);
            }
            return window;
        }
        let images = self.images_of(point, parent, host);
        let pair = (point.disk.pending_len() > 0).then(|| self.pair(point, &images, parent, host));
        let window = Rc::new(Window { images, pair });
        self.windows.insert(exact, Rc::clone(&window));
        window
    }

    fn is_legal(&self, checked: &Checked, known: &Known) -> bool {
        let states = &self.stage.script.states;
        let same_sidecar = |index: &u64| {
            let (one, other) = (&states[*index as usize], &states[checked.sidecar as usize]);
            one.keys == other.keys && one.active == other.active
        };
        known.database.contains(&checked.database) && known.sidecar.iter().any(same_sidecar)
    }

    /// Every image of a power loss at a point.
    fn images_of(&mut self, point: &Point, parent: usize, host: Host) -> BTreeSet<Checked> {
        let mut images = BTreeSet::new();
        let mut walk = Exhaustive::limited(IMAGES_MAX);
        while let Some(mut choices) = walk.begin() {
            let image = point.disk.fork();
            image.set_tearing(Tearing::PagesWhole);
            let report = image.power_loss(&mut choices);
            walk.end(choices).expect("a power loss draws the same on equal disks");
            images.insert(self.power_loss(image, &report, point, parent, host));
        }
        if !walk.is_complete() {
            *self.states.skipped.entry(TOO_LARGE.to_owned()).or_default() += 1;
        }
        let pages = point.disk.pending_writes_from(WHOLE_FROM);
        if pages > 0 {
            *self.states.skipped.entry(PAGE_TEARS.to_owned()).or_default() += pages;
            self.samples += 1;
            let image = point.disk.fork();
            image.set_tearing(Tearing::Sectors);
            let report = image.power_loss(&mut Choices::seeded(self.samples));
            // Checked, and expanded if it is new, but a matter of chance: what a window leads to does not include it.
            self.power_loss(image, &report, point, parent, host);
        }
        images
    }

    fn power_loss(
        &mut self,
        image: Disk,
        report: &CrashReport,
        point: &Point,
        parent: usize,
        host: Host,
    ) -> Checked {
        let depth = self.origins[parent].depth + 1;
        let step = || format!("{}, power loss: {report}", place(point, host));
        self.image(image, &point.known, || Origin { parent: Some(parent), step: step(), depth })
    }

    /// Boots an image, unless the very same was booted before.
    fn image(&mut self, disk: Disk, known: &Known, origin: impl FnOnce() -> Origin) -> Checked {
        self.states.raw += 1;
        let exact = (disk.snapshot().digest(), known.frontier);
        let before = self.images.get(&exact).copied();
        if let Some(checked) = before.filter(|checked| self.is_legal(checked, known)) {
            return checked;
        }
        self.states.distinct += u64::from(before.is_none());
        let (lived, origin) = self.check(&disk, known, origin);
        let Lived { content, database, sidecar, .. } = lived;
        let Some(content) = content else {
            let checked = Checked { id: StateId::Broken, database: 0, sidecar: 0 };
            self.images.insert(exact, checked);
            return checked;
        };
        let fresh = self.contents.len();
        let id = StateId::Image(*self.contents.entry(content).or_insert(fresh));
        let checked = Checked { id, database, sidecar };
        self.images.insert(exact, checked);
        let exact = Known { database: [database].into(), sidecar: [sidecar].into(), ..known.clone() };
        if self.contents.len() > fresh || !self.pushed.contains(&id) {
            self.push(id, disk, exact, origin);
        } else if before.is_none() {
            self.twins.entry(id).or_insert((disk, exact));
        }
        checked
    }

    /// A process crash at a point: pending operations stay.
    fn pair(&mut self, point: &Point, images: &BTreeSet<Checked>, parent: usize, host: Host) -> StateId {
        let disk = point.disk.fork();
        disk.process_crash();
        let depth = self.origins[parent].depth + 1;
        let step = || format!("{}, process crash", place(point, host));
        let (lived, origin) =
            self.check(&disk, &point.known, || Origin { parent: Some(parent), step: step(), depth });
        let Some(content) = lived.content else { return StateId::Broken };
        let fresh = self.contents.len();
        let seen = StateId::Image(*self.contents.entry(content).or_insert(fresh));
        let images = images.iter().map(|checked| checked.id).collect();
        let fresh = self.pairs.len();
        let id = StateId::Pair(*self.pairs.entry((seen, images)).or_insert(fresh));
        if self.pairs.len() > fresh {
            self.push(id, disk, point.known.clone(), origin);
        }
        id
    }

    /// Lives on a copy of the disk to the end of the log.
    fn check(&mut self, disk: &Disk, known: &Known, origin: impl FnOnce() -> Origin) -> (Lived, usize) {
        self.states.checked += 1;
        let lived = self.stage.live(&disk.fork(), known, Host::Resumes, None);
        // Most are like one met before; the way to those is not worth its text.
        let is_new = lived.content.as_ref().is_none_or(|content| !self.contents.contains_key(content));
        let at = self.origins.len();
        if is_new || !lived.violations.is_empty() || disk.pending_len() > 0 {
            self.origins.push(origin());
            self.report(&lived.violations, at, "the node starts, and its host goes on");
        }
        (lived, at)
    }

    fn push(&mut self, id: StateId, disk: Disk, known: Known, origin: usize) {
        self.pushed.insert(id);
        self.depth = self.depth.max(self.origins[origin].depth);
        self.work.push_back(Work { id, disk, known, origin });
    }

    fn report(&mut self, violations: &[Violation], origin: usize, life: &str) {
        for Violation { invariant, fingerprint, evidence } in violations {
            match self.findings.get_mut(fingerprint) {
                Some(found) => found.states_hit += 1,
                None => {
                    let path = self.path(origin, life);
                    let evidence = evidence.clone();
                    let found = Finding { invariant, states_hit: 1, evidence, path };
                    self.findings.insert(fingerprint.clone(), found);
                }
            }
        }
    }

    fn path(&self, origin: usize, life: &str) -> Vec<String> {
        let mut path = vec![life.to_owned()];
        let mut at = Some(origin);
        while let Some(origin) = at.map(|at| &self.origins[at]) {
            path.push(origin.step.clone());
            at = origin.parent;
        }
        path.reverse();
        path
    }

    /// Expands a second exact image of each content: it has to lead to what the first one led to.
    fn compare_twins(&mut self) {
        for (id, (disk, known)) in std::mem::take(&mut self.twins) {
            let origin = self.origins.len();
            self.origins.push(Origin {
                parent: None,
                step: "a second image of one content".to_owned(),
                depth: 0,
            });
            let found = self.expand(&Work { id, disk, known, origin });
            let expected = self.successors.get(&id).cloned().unwrap_or_default();
            if found != expected || !self.work.is_empty() {
                let violation = Violation {
                    invariant: "equal-content-behaves-equally",
                    fingerprint: "equal-content-behaves-equally/expand/content".to_owned(),
                    evidence: format!("{id:?} leads to {expected:?}, its twin to {found:?}"),
                };
                self.report(&[violation], origin, "it leads elsewhere than the first");
                self.work.clear();
            }
        }
    }

    fn finish(self, log: &str, complete: bool) -> Proof {
        let contents: Vec<&Content> = self.contents.keys().collect();
        let pairs = self.pairs.len();
        let text =
            format!("{contents:?} {pairs} {:?} {} {:?}", self.states, self.depth, self.findings.keys());
        Proof {
            log: log.to_owned(),
            complete,
            digest: xxh3_64(text.as_bytes()),
            states: self.states,
            recovery_depth_max: self.depth,
            findings: self.findings,
        }
    }
}

fn place(point: &Point, host: Host) -> String {
    match &point.before {
        Some(op) => format!("the node starts, its host {host}; before {op}"),
        None => format!("the node starts, its host {host}; after a clean stop"),
    }
}

/// The least that a harness over this database pays for a crash state: fork a disk, open the crashed database on it, read
/// all of it, drop it.
#[derive(Debug)]
pub struct Floor(Disk);

/// A database that was never closed, with one log in it.
pub fn floor() -> Floor {
    let (name, forms) = script::named().pop().expect("there are named logs");
    let subject = Subject::Hardened;
    let setup = Setup { scenario: Scenario::Single, subject, profile: Profile::Posix, lies: Lies::NONE };
    let script = Script::new(name.to_owned(), subject.rules(), &forms);
    let disk = blank_disk(&setup);
    bury(applied(&setup, &script, &disk).0);
    Floor(disk)
}

impl Floor {
    /// One crash state's worth.
    pub fn round(&self) {
        let disk = self.0.fork();
        let registry = registry::open(&SimFiles::new(disk.mount()), DATABASE).expect("no fault is armed");
        assert!(registry.snapshot().is_ok_and(|snapshot| !snapshot.rows.is_empty()), "the log left rows");
        disk.process_crash();
        drop(registry);
    }
}
