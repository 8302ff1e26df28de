//! The barrier matrix: our applier with one of its calls left out, or two neighbours swapped. Nobody writes these by hand:
//! a life is recorded, and each call in it gives its mutants.
//!
//! What the database calls while it is at work is its own affair, so that a run of such calls is one step here: its
//! writes and its syncs can be left out, and what stands before it can be put behind it. Not swapped are calls that hand
//! something on to the next: a file has to be created before it can be written.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use applier::{Purpose, StartError};
use sim::{Lies, OpKind, Profile};

use crate::form::Form;
use crate::model::Rules;
use crate::prove::script::{self, Script};
use crate::prove::{self, Errors, Finding, Terms};
use crate::seam::SimFiles;
use crate::seam::gated::{Gate, GatedFiles, Perform};
use crate::subject::{
    Claimed, DATABASE, Delivered, Held, HostSnapshot, Keys, Life, OWN_NODE, SIDECAR, SidecarView, Subject,
    Surroundings, hand_over, hardened,
};
use crate::world::look::Lookout;
use crate::world::node::blank_disk;

/// What a node is at when it makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Making the database, in a node's first start.
    Creation,
    /// The rest of a start.
    Start,
    /// Applying an entry.
    Apply,
    /// Rolling the database back.
    Rollback,
    /// A clean stop.
    Stop,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Stage::Creation => "creation",
            Stage::Start => "start",
            Stage::Apply => "apply",
            Stage::Rollback => "rollback",
            Stage::Stop => "stop",
        }
    }
}

/// One call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// When.
    pub stage: Stage,
    /// Which call.
    pub call: OpKind,
    /// About what.
    pub file: &'static str,
    /// The how-manieth of its like in this stage, from 0.
    pub nth: u8,
}

impl Site {
    /// Whether it is a call of the database itself.
    pub fn is_of_database(self) -> bool {
        [DATABASE, DATABASE_TMP].contains(&self.file)
            && matches!(self.call, OpKind::Write | OpKind::SetLen | OpKind::SyncFile)
    }

    /// Whether a call belongs to this one's step: what a database does without a pause is one.
    fn is_the_step_of(self, call: Site) -> bool {
        self == call || (self.stage == call.stage && self.is_of_database() && call.is_of_database())
    }

    /// Whether leaving it out is one of the mutants: a file that was never created is no file to go on with.
    fn can_be_dropped(self) -> bool {
        self.call != OpKind::Create
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage.name(), Call(*self))
    }
}

/// A call without its stage.
struct Call(Site);

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { call, file, nth, .. } = self.0;
        write!(f, "{call} {file}")?;
        if nth > 0 { write!(f, " #{}", nth + 1) } else { Ok(()) }
    }
}

/// What is done to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The call answers that it is done, and is not.
    Drop(Site),
    /// The first is done after the second.
    Swap(Site, Site),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Drop(site) => write!(f, "without {site}"),
            Change::Swap(first, second) if second.is_of_database() => write!(f, "{first} after the database"),
            Change::Swap(first, second) => write!(f, "{first} after {}", Call(*second)),
        }
    }
}

/// A line of the applier's source that makes a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The file, from `applier/` on.
    pub file: String,
    /// The number.
    pub number: u32,
    /// What stands there, where the source is at hand.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.number)
    }
}

/// A mutant, and the line that issues what it changes.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// What is changed.
    pub change: Change,
    /// Where the applier makes the (first) call.
    pub line: Option<Line>,
}

impl Mutant {
    /// What is changed, for people.
    pub fn says(&self) -> String {
        match self.change {
            Change::Drop(site) => format!("{site} answers that it is done, and is not"),
            Change::Swap(first, second) => format!("{first} is done after {}", Call(second)),
        }
    }
}

/// Every mutant of what a node was seen to call, in the order of the calls.
pub fn mutants() -> Vec<Mutant> {
    let mut sites: Vec<(Site, Option<Line>)> = Vec::new();
    let mut pairs: Vec<(Site, Site)> = Vec::new();
    let recorded = recorded();
    for call in &recorded {
        if sites.iter().all(|(site, _)| *site != call.site) {
            sites.push((call.site, call.line.clone()));
        }
    }
    for two in recorded.windows(2) {
        let (first, second) = (two[0].site, two[1].site);
        let hands_on = first.call == OpKind::Create || first.is_of_database();
        let seen = pairs.contains(&(first, second));
        if first.stage == second.stage && first != second && !hands_on && !seen {
            pairs.push((first, second));
        }
    }
    let line =
        |wanted: Site| sites.iter().find(|(site, _)| *site == wanted).and_then(|(_, line)| line.clone());
    let drops = sites.iter().filter(|(site, _)| site.can_be_dropped());
    let drops = drops.map(|(site, line)| Mutant { change: Change::Drop(*site), line: line.clone() });
    let swaps = pairs
        .iter()
        .map(|(first, second)| Mutant { change: Change::Swap(*first, *second), line: line(*first) });
    drops.chain(swaps).collect()
}

/// A call as it was seen.
struct Recorded {
    site: Site,
    line: Option<Line>,
}

/// Everything that a node calls from its first start to its last stop.
fn recorded() -> Vec<Recorded> {
    let disk = blank_disk(Profile::Posix, Lies::NONE);
    let calls: Arc<Mutex<Calls>> = Arc::default();
    lock(&calls).record = Some(Vec::new());
    let (_, forms) =
        script::named(Rules::Hardened).into_iter().find(|(name, _)| *name == "mixed").expect("it is named");
    let mut script = Script::new(Rules::Hardened, &[]);
    forms.iter().for_each(|form| script.push(form));
    let mut lookout = Lookout::new();
    let mut life = |clean: bool, back_to: u64| {
        let world = Surroundings {
            node: OWN_NODE,
            files: SimFiles::new(disk.mount()),
            kek: Arc::clone(lookout.kek()),
            next_kek: None,
            reads: Arc::default(),
            unix_seconds: 0,
            keyring: true,
            past: Arc::default(),
        };
        let mut life = start(&world, None, Arc::clone(&calls)).expect("no fault is armed");
        life.restore(&script.snapshot(back_to, true)).expect("no fault is armed");
        for (index, entry) in (1..).zip(&script.entries).skip(back_to as usize) {
            let bytes = lookout.entry(index, &entry.form, None);
            let answer = hand_over(life.as_mut(), index, bytes.as_deref());
            assert!(answer.advances(), "{answer}");
        }
        if clean {
            drop(life);
        }
        disk.process_crash();
    };
    life(true, 0);
    life(false, 2);
    life(true, 1);
    let recorded = lock(&calls).record.take();
    recorded.unwrap_or_default()
}

/// What the closure said of a mutant.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The mutant.
    pub mutant: Mutant,
    /// The log and the violation that has convicted it, and the shortest way there.
    pub caught: Option<(String, Finding)>,
    /// Whether every named log was closed without a violation: what was changed makes no difference there.
    pub redundant: bool,
    /// How many states were checked.
    pub states: u64,
}

/// Closes the named logs one after the other, until one convicts the mutant.
pub fn judge(
    mutant: &Mutant,
    logs: &[(&str, Vec<Form>)],
    stop: &AtomicBool,
    progress: &(dyn Fn(u64) + Sync),
) -> Judgement {
    let mut judgement = Judgement { mutant: mutant.clone(), caught: None, redundant: false, states: 0 };
    let mut complete = true;
    for (name, forms) in logs {
        let terms = Terms {
            subject: Subject::Changed(mutant.change),
            profile: Profile::Posix,
            lies: Lies::NONE,
            errors: Errors::Fenced,
            garbled: false,
            first_only: true,
            stop,
            progress,
        };
        let proof = prove::one_log(terms, name, forms);
        judgement.states += proof.states.checked;
        if let Some((_, found)) = proof.findings.into_iter().next() {
            judgement.caught = Some(((*name).to_owned(), found));
            return judgement;
        }
        complete &= proof.complete;
    }
    judgement.redundant = complete;
    judgement
}

/// What is called, counted by stage, and what is kept back.
#[derive(Default)]
pub(crate) struct Calls {
    stage: Option<Stage>,
    counts: BTreeMap<(OpKind, &'static str), u8>,
    last: Option<Site>,
    record: Option<Vec<Recorded>>,
    /// What was put off, to be done before the next call that is not part of the swap.
    held: Vec<Perform>,
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    fn begin(&mut self, stage: Stage) {
        self.stage = Some(stage);
        self.counts.clear();
        self.last = None;
    }

    /// The site of a call. What a database does without a pause counts as one.
    fn site(&mut self, call: OpKind, file: &'static str) -> Site {
        let stage = self.stage.unwrap_or(Stage::Start);
        let nth = self.counts.entry((call, file)).or_default();
        let site = Site { stage, call, file, nth: *nth };
        if site.is_of_database() {
            // A change of length is a write of it.
            let call = if call == OpKind::SetLen { OpKind::Write } else { call };
            return Site { call, nth: 0, ..site };
        }
        *nth += 1;
        site
    }
}

/// What stands between the applier and its files.
#[derive(Clone)]
struct Protocol {
    change: Option<Change>,
    calls: Arc<Mutex<Calls>>,
}

const SIDECAR_TMP: &str = "/data/keys.json.tmp";
const DATABASE_TMP: &str = "/db/registry.redb.tmp";
const NAMES: [&str; 6] = [SIDECAR, SIDECAR_TMP, DATABASE, DATABASE_TMP, "/data", "/db"];

fn name(path: &str) -> &'static str {
    NAMES.into_iter().find(|name| *name == path).expect("an applier stays with its own files")
}

impl Gate for Protocol {
    fn pass(&self, call: OpKind, path: &str, perform: Perform) -> io::Result<()> {
        let file = name(path);
        let mut calls = lock(&self.calls);
        if (call, file) == (OpKind::Create, DATABASE_TMP) {
            calls.begin(Stage::Creation);
        }
        let site = calls.site(call, file);
        if calls.record.is_some() && calls.last != Some(site) {
            let line = line_of_the_applier();
            calls.record.as_mut().expect("asked above").push(Recorded { site, line });
        }
        calls.last = Some(site);
        // The creation ends with this call, whatever becomes of it below.
        if (site.stage, call, file) == (Stage::Creation, OpKind::SyncDir, "/db") {
            calls.begin(Stage::Start);
        }
        let held = match self.change {
            Some(Change::Drop(dropped)) if dropped == site => return Ok(()),
            Some(Change::Swap(first, _)) if first == site => {
                calls.held.push(perform);
                return Ok(());
            }
            Some(Change::Swap(_, second)) if second.is_the_step_of(site) => Vec::new(),
            _ => std::mem::take(&mut calls.held),
        };
        drop(calls);
        held.into_iter().try_for_each(|held| held())?;
        perform()
    }
}

impl Protocol {
    /// The stage is over: what was put off is done.
    fn flush(&self) -> io::Result<()> {
        let held = std::mem::take(&mut lock(&self.calls).held);
        held.into_iter().try_for_each(|held| held())
    }
}

/// Our applier on changed files.
struct ChangedLife {
    inner: Option<Box<dyn Life>>,
    protocol: Protocol,
}

/// Starts our applier on files with a change.
pub(crate) fn start(
    world: &Surroundings,
    change: Option<Change>,
    calls: Arc<Mutex<Calls>>,
) -> Result<Box<dyn Life>, StartError> {
    let protocol = Protocol { change, calls };
    lock(&protocol.calls).begin(Stage::Start);
    let files = GatedFiles::new(world.files.clone(), Arc::new(protocol.clone()));
    let inner = hardened::start_on(world, files, Arc::clone(&world.kek) as _, |registry| registry)?;
    // An error of what was put off comes too late for anybody to hear of it.
    let _ = protocol.flush();
    Ok(Box::new(ChangedLife { inner: Some(inner), protocol }))
}

impl ChangedLife {
    fn inner(&self) -> &dyn Life {
        self.inner.as_deref().expect("it is taken only when dropped")
    }

    fn during<T>(&mut self, stage: Stage, act: impl FnOnce(&mut dyn Life) -> T) -> T {
        lock(&self.protocol.calls).begin(stage);
        let done = act(self.inner.as_deref_mut().expect("it is taken only when dropped"));
        let _ = self.protocol.flush();
        done
    }
}

impl Drop for ChangedLife {
    fn drop(&mut self) {
        lock(&self.protocol.calls).begin(Stage::Stop);
        self.inner = None;
        let _ = self.protocol.flush();
    }
}

impl Life for ChangedLife {
    fn deliver(&mut self, index: u64, payload: &[u8]) -> Delivered {
        self.during(Stage::Apply, |life| life.deliver(index, payload))
    }

    fn advance(&mut self, index: u64, data: Option<(u64, &[u8])>) -> Delivered {
        self.during(Stage::Apply, |life| life.advance(index, data))
    }

    fn restore(&mut self, snapshot: &HostSnapshot) -> Result<(), String> {
        self.during(Stage::Rollback, |life| life.restore(snapshot))
    }

    fn resume_after(&self) -> Option<u64> {
        self.inner().resume_after()
    }

    fn database(&self) -> Result<HostSnapshot, String> {
        self.inner().database()
    }

    fn sidecar(&self, bytes: &[u8]) -> Result<SidecarView, String> {
        self.inner().sidecar(bytes)
    }

    fn keys(&self) -> Keys {
        self.inner().keys()
    }

    fn held(&self) -> Held {
        self.inner().held()
    }

    fn local(&self) -> applier::registry::Local {
        self.inner().local()
    }

    fn index(&self) -> Option<u64> {
        self.inner().index()
    }

    fn can_withdraw_kek(&self) -> bool {
        self.inner().can_withdraw_kek()
    }

    fn is_sealing(&self, purpose: Purpose) -> bool {
        self.inner().is_sealing(purpose)
    }

    fn read(&self, key: u64, stored: &[u8]) -> Result<u64, String> {
        self.inner().read(key, stored)
    }

    fn claim(&mut self, term: u64, purpose: Purpose) -> Claimed {
        self.during(Stage::Apply, |life| life.claim(term, purpose))
    }

    fn seal_value(&mut self, term: u64, key: u64, value: u64) -> Option<Vec<u8>> {
        self.during(Stage::Apply, |life| life.seal_value(term, key, value))
    }

    fn seal_entry(&mut self, term: u64, entry: &[u8]) -> Option<Vec<u8>> {
        self.during(Stage::Apply, |life| life.seal_entry(term, entry))
    }

    fn open_entry(&self, index: u64, entry: &[u8]) -> Result<Vec<u8>, Delivered> {
        self.inner().open_entry(index, entry)
    }
}

/// The innermost line of the applier on the way to here. What only words a failure (`fault.rs`) is not the line that makes a call.
fn line_of_the_applier() -> Option<Line> {
    let mut found = None;
    backtrace::trace(|frame| {
        backtrace::resolve_frame(frame, |symbol| {
            let (Some(path), Some(number)) = (symbol.filename(), symbol.lineno()) else { return };
            if found.is_none() {
                found = applier_file(path).map(|file| (file, number));
            }
        });
        found.is_none()
    });
    let (file, number) = found?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
    let text = std::fs::read_to_string(source).unwrap_or_default();
    let text = text.lines().nth(number as usize - 1).unwrap_or_default().trim().to_owned();
    Some(Line { file, number, text })
}

fn applier_file(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    let file = &path[path.find("applier/src/")?..];
    (file != "applier/src/fault.rs").then(|| file.to_owned())
}
