//! The simulated disk: a handle, its observers, and the endings of a life.

mod barriers;
mod crash;
pub mod errno;
mod fault;
mod image;
mod mount;
mod needles;
mod op;
mod profile;
mod report;
mod snapshot;
mod state;
mod sync;
mod tree;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::{crash::crash, fault::FaultPlan, image::Image, snapshot::live_inodes, state::State};
pub use self::{
    crash::{Fate, SECTOR, Tearing, WHOLE_FROM},
    fault::{Errno, Fault, SyncFailure},
    mount::{File, Mount},
    needles::{Leak, Needles},
    op::{InodeId, OpInfo, OpKind, Pending},
    profile::{Lies, Profile, UnknownLie, UnknownProfile},
    report::CrashReport,
    snapshot::Snapshot,
};
use crate::{choices::Choices, trace::Trace};

/// A simulated disk. Clones are the same disk; [`Disk::fork`] makes another one.
///
/// Programs work on it through a [`Mount`]; the methods here belong to the world around them. Observers count
/// no calls, meet no faults and answer whatever state the disk is in.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Mutex<State>>,
}

/// The disk as it was just before a mutating call.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The call that came next.
    pub op: OpInfo,
    /// An independent copy of the disk before it.
    pub disk: Disk,
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // A caller that panicked while it held the lock must not take down those that look at the disk
    // afterwards.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// An empty disk that keeps its promises and has its own trace.
    pub fn new(profile: Profile) -> Self {
        Self::with(profile, Lies::NONE, Trace::hashing())
    }

    /// An empty disk: a root directory, durable, and nothing pending.
    pub fn with(profile: Profile, lies: Lies, trace: Trace) -> Self {
        Self::from_state(State::new(profile, lies, trace))
    }

    fn from_state(state: State) -> Self {
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// An independent disk with the same content, pending operations, counts, armed faults and trace so far.
    /// Pages are shared until one of the two writes. Mounts stay with the original, checkpoints too.
    pub fn fork(&self) -> Self {
        let state = lock(&self.shared).clone();
        Self::from_state(State { trace: state.trace.fork(), ..state })
    }

    /// A mount for the current life. On a dead disk every call through it fails, until the life is ended by
    /// [`Disk::process_crash`] or [`Disk::power_loss`]; then another mount is needed.
    pub fn mount(&self) -> Mount {
        Mount { shared: self.shared.clone(), life: lock(&self.shared).life }
    }

    /// How adversarial crashes are.
    pub fn profile(&self) -> Profile {
        lock(&self.shared).profile
    }

    /// Breaks other promises from now on, or none.
    pub fn set_lies(&self, lies: Lies) {
        lock(&self.shared).lies = lies;
    }

    /// What crashes do to the parts of a write from now on.
    pub fn set_tearing(&self, tearing: Tearing) {
        lock(&self.shared).tearing = tearing;
    }

    /// The trace that mutating calls, faults and crashes are recorded in.
    pub fn trace(&self) -> Trace {
        lock(&self.shared).trace.clone()
    }

    /// Records into another trace from now on.
    pub fn set_trace(&self, trace: Trace) {
        lock(&self.shared).trace = trace;
    }
}

/// Faults of the current life.
impl Disk {
    /// Adds a fault to the plan of this life.
    pub fn arm(&self, fault: Fault) {
        lock(&self.shared).plan.arm(fault);
    }

    /// Forgets all faults that have not yet happened.
    pub fn disarm(&self) {
        lock(&self.shared).plan.disarm();
    }

    /// Ends the work of this life at once, without saying how: every call from now on fails. What becomes of
    /// pending operations is decided by the ending that follows.
    pub fn kill(&self) {
        let mut state = lock(&self.shared);
        state.plan.dead = true;
        state.trace.record("kill", [state.mutations, 0, 0], String::new);
    }

    /// Whether the disk has died, so that its life must be ended before the next one.
    pub fn is_dead(&self) -> bool {
        lock(&self.shared).plan.dead
    }

    /// The call before which the disk died by a planned death in this life.
    pub fn died_at(&self) -> Option<OpInfo> {
        lock(&self.shared).plan.died_at.clone()
    }

    /// The last call that met an armed error in this life, and the error.
    pub fn last_fault(&self) -> Option<(OpInfo, Errno)> {
        lock(&self.shared).plan.last_fault.clone()
    }

    /// The same, and forgets it, so that the next one can be told apart.
    pub fn take_fault(&self) -> Option<(OpInfo, Errno)> {
        lock(&self.shared).plan.last_fault.take()
    }

    /// Whether a program was told in this life that a sync failed: by that sync, or late, by the next one or
    /// by a close. What it was not told yet does not count: see [`Disk::has_lost_data`].
    pub fn sync_failed(&self) -> bool {
        lock(&self.shared).plan.sync_failed
    }

    /// Whether reads see something that is neither durable nor pending, since a failed sync has lost it, in a
    /// file or directory that still has a name. True at once, whether or not the program was told; process
    /// crashes do not change it, a power loss does.
    pub fn has_lost_data(&self) -> bool {
        lock(&self.shared).has_lost_data()
    }
}

/// The endings of a life. Both invalidate every mount and clear the dead flag, armed faults and what is known
/// of past ones.
impl Disk {
    /// The process dies, the page cache lives on: pending operations stay, and reads go on to see them, as
    /// they do what a failed sync has lost.
    pub fn process_crash(&self) {
        let mut state = lock(&self.shared);
        let state = &mut *state;
        state.life += 1;
        state.plan = FaultPlan::default();
        // Nobody has a file open any more, so what no name can lead to again is gone.
        let mut live = live_inodes(&state.durable, &state.pending);
        if !state.ahead.is_empty() {
            // Names that were lost on disk are still looked up.
            state.view.reach(&mut live);
        }
        state.ahead.retain(|inode| live.contains(inode));
        state.late.retain(|inode| live.contains(inode));
        state.durable.retain(&live);
        state.view.retain(&live);
        state.pending.retain(|op| op.data_of().is_none_or(|file| live.contains(&file)));
        let text = || format!("{} operations stay pending", state.pending.len());
        let numbers = [state.pending.len() as u64, 0, 0];
        state.trace.record_with("process_crash", numbers, text, |event, film| {
            event.after = film.then(|| state.copy());
        });
    }

    /// The power fails: each pending operation is given its fate, and what survives is durable. What a failed
    /// sync has lost is gone.
    ///
    /// Inodes are renumbered by a walk over the names, so that what the disk does next depends on its content
    /// only.
    pub fn power_loss(&self, choices: &mut Choices) -> CrashReport {
        let mut state = lock(&self.shared);
        let state = &mut *state;
        let before = state.trace.keeps_disks().then(|| state.copy());
        let mut survivor = crash(&state.durable, &state.pending, state.profile, state.tearing, choices);
        let order = live_inodes(&survivor.tree, &[]);
        survivor.tree.renumber(&order);
        state.next_inode = order.len() as u64;
        state.life += 1;
        let plan = std::mem::take(&mut state.plan);
        state.durable = survivor.tree.clone();
        state.ahead.clear();
        state.late.clear();
        let report = CrashReport {
            died_at: plan.died_at,
            pending: std::mem::take(&mut state.pending),
            fates: survivor.fates,
            view: std::mem::replace(&mut state.view, survivor.tree),
        };
        let numbers = [report.fates.len() as u64, digest(&report.fates), 0];
        let text = || report.to_string();
        state.trace.record_with("power_loss", numbers, text, |event, film| {
            event.crash = Some(Arc::new(report.clone()));
            event.before = before;
            event.after = film.then(|| state.copy());
        });
        report
    }
}

/// Observers.
impl Disk {
    /// How many calls were made through mounts, reads and failing ones too. It never goes down.
    pub fn calls(&self) -> u64 {
        lock(&self.shared).calls
    }

    /// How many of them were mutating: create, write, set_len, rename, unlink, mkdir and both syncs, also
    /// where they failed or had nothing to do. It never goes down.
    pub fn mutations(&self) -> u64 {
        lock(&self.shared).mutations
    }

    /// How many of those were about names: create, rename, unlink, mkdir and directory sync. It never goes down.
    pub fn name_calls(&self) -> u64 {
        lock(&self.shared).name_calls
    }

    /// What is pending, in program order, for people.
    pub fn pending_text(&self) -> Vec<String> {
        let state = lock(&self.shared);
        let pending = state.pending.clone();
        let report = CrashReport { died_at: None, fates: Vec::new(), view: state.view.clone(), pending };
        report.describe()
    }

    /// An independent disk on which everything that is pending was lost: what surely survives. It takes no notes.
    pub fn only_durable(&self) -> Self {
        let state = lock(&self.shared);
        let copy = State { trace: Trace::hashing(), ..state.clone() };
        Self::from_state(State {
            view: copy.durable.clone(),
            pending: Vec::new(),
            ahead: BTreeSet::new(),
            late: BTreeSet::new(),
            plan: FaultPlan::default(),
            ..copy
        })
    }

    /// How many operations are pending.
    pub fn pending_len(&self) -> usize {
        lock(&self.shared).pending.len()
    }

    /// Whether what reads see is what a power loss would leave: nothing is pending, and nothing was lost.
    pub fn is_durable(&self) -> bool {
        self.pending_len() == 0 && !self.has_lost_data()
    }

    /// How many pending writes have at least so many bytes.
    pub fn pending_writes_from(&self, bytes: u64) -> u64 {
        let state = lock(&self.shared);
        let is_long = |op: &&Pending| matches!(op, Pending::Write { data, .. } if data.len() as u64 >= bytes);
        state.pending.iter().filter(is_long).count() as u64
    }

    /// The content of a file as reads see it; `None` if there is no such file.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let state = lock(&self.shared);
        state.view.file(state.resolve(path).ok()?).map(Image::to_vec)
    }

    /// Whether there is a file or directory of this name, as calls see it.
    pub fn exists(&self, path: &str) -> bool {
        lock(&self.shared).resolve(path).is_ok()
    }

    /// The content that matters to crashes, for comparison.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&lock(&self.shared))
    }

    /// Watches for bytes that must not reach this disk, in everything written and every name given from now
    /// on.
    pub fn watch(&self, needles: &Needles) {
        lock(&self.shared).needles = needles.clone();
    }

    /// The first watched bytes that were written.
    pub fn leak(&self) -> Option<Leak> {
        lock(&self.shared).leak.clone()
    }

    /// Keeps a copy of the disk before each mutating call from now on, or stops. From one run this gives
    /// every state that a crash of that run could start from.
    pub fn keep_checkpoints(&self, keep: bool) {
        lock(&self.shared).film.frames = keep.then(Vec::new);
    }

    /// The copies kept so far, in program order; they are handed over.
    pub fn take_checkpoints(&self) -> Vec<Checkpoint> {
        lock(&self.shared).film.frames.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Keeps a list of every call from now on, reads too, or stops: these are what faults can be armed at.
    pub fn keep_calls(&self, keep: bool) {
        lock(&self.shared).film.calls = keep.then(Vec::new);
    }

    /// The calls made since they are kept, each with its number; they are handed over.
    pub fn take_calls(&self) -> Vec<(u64, OpInfo)> {
        lock(&self.shared).film.calls.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(Profile::default())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.shared);
        f.debug_struct("Disk")
            .field("profile", &state.profile)
            .field("life", &state.life)
            .field("mutations", &state.mutations)
            .field("pending", &state.pending.len())
            .finish_non_exhaustive()
    }
}

/// One number over all fates, for the trace.
fn digest(fates: &[Fate]) -> u64 {
    fates.iter().fold(0, |digest: u64, fate| {
        let (kind, new, reach) = match fate {
            Fate::Kept => (1, 0, 0),
            Fate::Dropped => (2, 0, 0),
            Fate::Unreachable => (3, 0, 0),
            Fate::Torn { new, reach } => (4, *new, *reach),
        };
        [kind, new, reach].into_iter().fold(digest, |digest, number: u64| {
            (digest.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    })
}
