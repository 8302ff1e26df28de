//! What all tasks of a run share: the choices, the network, and the books in which everything is recorded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use applier::kek::LocalKek;
use madsim::time::Instant;
use raft::eraftpb::ConfState;
use sim::{Address, Choices, Disk, Net, OpInfo, Probes, SharedChoices, Trace};

use super::budget::{Budget, Licence};
use super::client::Order;
use super::message::Message;
use crate::chronicle::Chronicle;
use crate::coverage::{Crashes, Open, Phase};
use crate::form::{Form, KeyNumber, Kind};
use crate::sealing::Use;
use crate::seam::SimKek;
use crate::subject::MemberSnapshot;
use crate::teeth::ClusterMistake;
use crate::workload::News;
use crate::world::look::Lookout;
use crate::world::{Setup, node};

/// A KEK that is not the cluster's.
const OTHER_KEK: KeyNumber = KeyNumber(0xEF);

/// One run, as its tasks see it.
pub(super) struct Shared {
    pub(super) setup: Setup,
    pub(super) trace: Trace,
    pub(super) choices: SharedChoices,
    pub(super) net: Net<Message>,
    /// Seed of the election timeouts, which raft-rs would draw from the operating system.
    pub(super) election_seed: u64,
    /// Whether followers hear of a commit with the next entry or heartbeat only, so that they lag behind in what they
    /// have applied.
    pub(super) quiet_commits: bool,
    /// Entries after which a member keeps a snapshot and shortens its log, and how many it leaves before it.
    pub(super) compaction: (u64, u64),
    /// How much is asked for that is about envelopes, and whether members have a ring of two KEKs.
    pub(super) news: News,
    books: Mutex<Books>,
}

/// Everything that outlives a task.
pub(super) struct Books {
    pub(super) chronicle: Chronicle,
    pub(super) probes: Probes,
    /// For marks of what is taken down.
    pub(super) trace: Trace,
    pub(super) lookout: Lookout,
    pub(super) other_kek: Arc<SimKek>,
    pub(super) slots: Vec<Slot>,
    /// What the payloads of administrative entries mean.
    pub(super) forms: BTreeMap<Vec<u8>, Form>,
    /// Slots whose process has ended by itself, and how.
    pub(super) ended: VecDeque<(usize, Ended)>,
    pub(super) entries: u64,
    pub(super) crashes: u64,
    pub(super) coverage: Crashes,
    /// Clients that are still at work.
    pub(super) clients: usize,
    /// The newest leader that was seen.
    pub(super) leader: Option<(u64, u64)>,
    /// Requests by their index, between the moment at which they were admitted and that at which anyone applied them.
    pub(super) admitted: BTreeMap<u64, OnItsWay>,
    /// Every nonce that was seen in use, and with what.
    pub(super) uses: BTreeSet<Use>,
    /// What a leader smuggles in at its next chance.
    pub(super) smuggle: Option<Form>,
    pub(super) members: Members,
    pub(super) budget: Budget,
    /// Members that have lost what they had, and wait for the operator.
    pub(super) lost: Vec<Licence>,
    /// Members whose sidecar is to be written anew from a healthy peer.
    pub(super) resyncs: Vec<Licence>,
    /// Whether a healthy member is to take a snapshot for that, and the one that was taken.
    pub(super) wants_snapshot: bool,
    pub(super) snapshot: Option<MemberSnapshot>,
    pub(super) orders: Vec<Order>,
    /// Whether the operator is in the middle of something.
    pub(super) operating: bool,
    /// Whether the faults are on.
    pub(super) storming: bool,
    /// Whether nothing new is begun any more.
    pub(super) closing: bool,
    /// Whether nobody will be answered any more.
    pub(super) hopeless: bool,
}

/// The newest membership that any node has applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    /// Index of the entry that made it.
    pub(super) by: u64,
    pub(super) conf: ConfState,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnItsWay {
    /// The term of the leader that has admitted it.
    pub(super) term: u64,
    /// What it is; `None` where it changes the membership.
    pub(super) kind: Option<Kind>,
}

/// How a process has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its disk has died under it, or an error was too much for it.
    Died,
    /// It refuses to start.
    Refused,
    /// It was asked to stop, and has.
    Stopped,
}

/// Which KEK a node is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyring {
    /// The cluster's.
    Right,
    /// None.
    None,
    /// Another one.
    Other,
}

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A process runs on it, or is about to end.
    Up,
    /// None does, and one is started again at this simulated millisecond.
    Down(u64),
    /// It is not started until someone does something about it.
    Refused,
    /// No member lives here.
    Empty,
}

/// A machine: a disk, and the member that lives on it.
pub(super) struct Slot {
    /// The member's id on the wire and in Raft.
    pub(super) id: u64,
    pub(super) disk: Disk,
    pub(super) status: Status,
    pub(super) founder: bool,
    pub(super) keyring: Keyring,
    /// Whether administrative requests are enabled on it.
    pub(super) enabled: bool,
    pub(super) lives: u64,
    /// Members that have lived here.
    pub(super) generation: u64,
    pub(super) stop: bool,
    pub(super) tick_ms: u64,
    /// Simulated milliseconds that a sync takes.
    pub(super) sync_ms: u64,
    /// Newest index that it has answered for.
    pub(super) floor: u64,
    /// Entry whose outcome is unknown.
    pub(super) in_flight: Option<u64>,
    /// Snapshots whose outcome is unknown, until the node has got that far in whatever way.
    pub(super) installing: Vec<u64>,
    /// Whether its sidecar was taken away, or replaced by an older one.
    pub(super) robbed: bool,
    /// Its id as a writer: that of the member before it, where it has come back on an empty disk. Raft never sees an id twice.
    pub(super) writer: u64,
    /// Whether it has said that it needs the KEK of before the rewrap no more.
    pub(super) withdraws: bool,
    /// An older sidecar, to replace a newer one with.
    pub(super) old_sidecar: Option<Vec<u8>>,
    /// The call that the last error hit that was injected into its present life.
    pub(super) fault_op: Option<OpInfo>,
    /// Whether an error waits for a call to hit.
    pub(super) fault_armed: bool,
    /// What its process does.
    pub(super) phase: Phase,
    /// Its last crash, until something has come of it.
    pub(super) open: Option<Open>,
    /// Whether it is to look at itself at its next tick.
    pub(super) look: bool,
    /// Newest index that its present life has applied.
    pub(super) applied: u64,
    /// Whether its life has ended at a guard behind its replay.
    pub(super) guarded: bool,
    /// Index of the first entry that its log has, or would have.
    pub(super) log_start: u64,
    /// Entry that its present life has refused.
    pub(super) halted: Option<u64>,
    /// First answer to the entry that it refuses.
    pub(super) refusal: Option<(u64, crate::subject::Delivered)>,
}

impl Shared {
    pub(super) fn new(
        setup: Setup,
        trace: Trace,
        choices: SharedChoices,
        net: Net<Message>,
        (election_seed, quiet_commits, compaction, news): (u64, bool, (u64, u64), News),
        probes: Probes,
    ) -> Shared {
        let books = Books {
            chronicle: Chronicle::new(setup.subject.rules()),
            probes,
            trace: trace.clone(),
            lookout: Lookout::new(),
            other_kek: Arc::new(SimKek::new(Arc::new(LocalKek::new(OTHER_KEK.bytes())))),
            slots: Vec::new(),
            forms: BTreeMap::new(),
            ended: VecDeque::new(),
            entries: 0,
            crashes: 0,
            coverage: Crashes::default(),
            clients: 0,
            leader: None,
            admitted: BTreeMap::new(),
            uses: BTreeSet::new(),
            smuggle: None,
            members: Members::default(),
            budget: Budget::default(),
            lost: Vec::new(),
            resyncs: Vec::new(),
            wants_snapshot: false,
            snapshot: None,
            orders: Vec::new(),
            operating: false,
            storming: false,
            closing: false,
            hopeless: false,
        };
        Shared {
            setup,
            trace,
            choices,
            net,
            election_seed,
            quiet_commits,
            compaction,
            news,
            books: Mutex::new(books),
        }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // All tasks share one thread, so whoever would have to wait would wait for ever.
        match self.books.try_lock() {
            Ok(books) => books,
            // A task that panics ends the run.
            Err(TryLockError::Poisoned(books)) => books.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("the books are open already"),
        }
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Choices) -> T) -> T {
        self.choices.with(draw)
    }

    pub(super) fn send(&self, from: u64, to: u64, message: Message) {
        let label = message.label();
        self.choices.with(|choices| self.net.send(choices, Address(from), Address(to), label, message));
    }

    /// Records what `who` does: a member or client by its address, or nobody (0).
    pub(super) fn note(
        &self,
        who: u64,
        kind: &'static str,
        numbers: [u64; 3],
        text: impl FnOnce() -> String,
    ) {
        self.trace.of(who).record(kind, numbers, text);
    }

    /// What the driver of a member does wrong on purpose.
    pub(super) fn makes(&self, mistake: ClusterMistake) -> bool {
        self.setup.subject.cluster_mistake() == Some(mistake)
    }
}

/// The present instant of simulated time.
#[expect(clippy::disallowed_methods, reason = "it is madsim's, which knows simulated time only")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Simulated milliseconds since the run began.
pub(super) fn now_ms() -> u64 {
    millis(&madsim::time::TimeHandle::current())
}

pub(super) fn millis(time: &madsim::time::TimeHandle) -> u64 {
    u64::try_from(time.elapsed().as_millis()).expect("a run is short")
}

impl Slot {
    pub(super) fn new(setup: &Setup, trace: &Trace, id: u64, founder: bool) -> Slot {
        let disk = node::prepared_disk(setup);
        disk.set_trace(trace.of(id));
        disk.watch(node::needles());
        Slot {
            id,
            disk,
            status: Status::Empty,
            founder,
            keyring: Keyring::Right,
            enabled: true,
            lives: 0,
            generation: 0,
            stop: false,
            tick_ms: 100,
            sync_ms: 0,
            floor: 0,
            // The foundation is the first thing that a founder does.
            in_flight: founder.then_some(1),
            installing: Vec::new(),
            robbed: false,
            writer: id,
            withdraws: false,
            old_sidecar: None,
            fault_op: None,
            fault_armed: false,
            phase: Phase::Start,
            open: None,
            look: false,
            applied: 0,
            guarded: false,
            log_start: 0,
            halted: None,
            refusal: None,
        }
    }
}
