//! What all tasks of a run share: the choices, the network, and the books in which everything is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use applier::kek::LocalKek;
use sim::{Address, Choices, Disk, Net, NetCounts, Probes, SharedChoices, Trace};
use xxhash_rust::xxh3::Xxh3;

use super::budget::{Budget, Licence};
use super::client::Order;
use super::message::Message;
use crate::chronicle::{Chronicle, ClusterEvent, Logged};
use crate::form::{Form, KeyNumber, Kind};
use crate::history::{Event, Moment, Observation, SidecarSeen};
use crate::model::{Key, Verdict};
use crate::probes::{ClusterPlace, cluster_place};
use crate::seam::{Outage, SimKek};
use crate::subject::{Life, SIDECAR, Subject};
use crate::teeth::{ClusterMistake, Past};
use crate::world::look::{Look, Lookout};
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
    books: Mutex<Books>,
}

/// Everything that outlives a task.
pub(super) struct Books {
    pub(super) chronicle: Chronicle,
    pub(super) probes: Probes,
    pub(super) lookout: Lookout,
    pub(super) other_kek: Arc<SimKek>,
    pub(super) slots: Vec<Slot>,
    /// What the payloads of administrative entries mean.
    pub(super) forms: BTreeMap<Vec<u8>, Form>,
    /// Slots whose process has ended by itself, and how.
    pub(super) ended: VecDeque<(usize, Ended)>,
    pub(super) entries: u64,
    pub(super) crashes: u64,
    /// Clients that are still at work.
    pub(super) clients: usize,
    /// The newest leader that was seen.
    pub(super) leader: Option<(u64, u64)>,
    /// Requests by their index, between the moment at which they were admitted and that at which anyone applied them.
    pub(super) admitted: BTreeMap<u64, u64>,
    /// What they are.
    pub(super) forms_in_flight: BTreeMap<u64, Form>,
    /// What a leader smuggles in at its next chance.
    pub(super) smuggle: Option<Form>,
    pub(super) members: Members,
    pub(super) budget: Budget,
    /// Members that have lost what they had, and wait for the operator.
    pub(super) lost: Vec<Licence>,
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
    pub(super) voters: Vec<u64>,
    pub(super) learners: Vec<u64>,
}

impl Members {
    fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }
}

/// How a process has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its disk has died under it, or an error of the disk was too much for it.
    Disk,
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
    /// It will not start until someone does something about it.
    Refused,
    /// No member lives here.
    Empty,
}

/// A machine: a disk, and the member that lives on it.
pub(super) struct Slot {
    /// The member's id on the wire, in Raft and as a writer.
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
    pub(super) reads: Arc<Outage>,
    pub(super) past: Arc<Past>,
    /// Newest index that it has answered for.
    pub(super) floor: u64,
    /// Entry whose outcome is unknown.
    pub(super) in_flight: Option<u64>,
    /// Snapshots whose outcome is unknown, until the node has got that far in whatever way.
    pub(super) installing: Vec<u64>,
    /// Whether its sidecar was taken away, or replaced by an older one.
    pub(super) robbed: bool,
    /// An older sidecar, to replace a newer one with.
    pub(super) old_sidecar: Option<Vec<u8>>,
    /// Whether an error was injected into this life.
    pub(super) faulted: bool,
    /// Whether it is to look at itself at its next tick.
    pub(super) look: bool,
    /// Newest index that its present life has applied.
    pub(super) applied: u64,
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
        (election_seed, quiet_commits, compaction): (u64, bool, (u64, u64)),
        probes: Probes,
    ) -> Shared {
        let books = Books {
            chronicle: Chronicle::new(setup.subject.rules()),
            probes,
            lookout: Lookout::new(),
            other_kek: Arc::new(SimKek::new(LocalKek::new(OTHER_KEK.bytes()))),
            slots: Vec::new(),
            forms: BTreeMap::new(),
            ended: VecDeque::new(),
            entries: 0,
            crashes: 0,
            clients: 0,
            leader: None,
            admitted: BTreeMap::new(),
            forms_in_flight: BTreeMap::new(),
            smuggle: None,
            members: Members::default(),
            budget: Budget::default(),
            lost: Vec::new(),
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

    pub(super) fn note(&self, kind: &'static str, numbers: [u64; 3], text: impl FnOnce() -> String) {
        self.trace.record(kind, numbers, text);
    }

    /// What the driver of a member does wrong on purpose.
    pub(super) fn makes(&self, mistake: ClusterMistake) -> bool {
        self.setup.subject.cluster_mistake() == Some(mistake)
    }

    /// Whether the subject looks at requests before they are proposed.
    pub(super) fn admits(&self) -> bool {
        self.setup.subject.keeps_index()
    }
}

/// Simulated milliseconds since the run began.
pub(super) fn now_ms() -> u64 {
    u64::try_from(madsim::time::TimeHandle::current().elapsed().as_millis()).expect("a run is short")
}

impl Slot {
    pub(super) fn new(setup: &Setup, trace: &Trace, id: u64, founder: bool) -> Slot {
        let disk = node::prepared_disk(setup);
        disk.set_trace(trace.clone());
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
            reads: Arc::default(),
            past: Arc::default(),
            floor: 0,
            // The foundation is the first thing that a founder does.
            in_flight: founder.then_some(1),
            installing: Vec::new(),
            robbed: false,
            old_sidecar: None,
            faulted: false,
            look: false,
            applied: 0,
            halted: None,
            refusal: None,
        }
    }
}

impl Books {
    pub(super) fn hit(&mut self, place: ClusterPlace) {
        self.probes.hit(cluster_place(place));
    }

    /// Ids of the founding members.
    pub(super) fn founders(&self) -> Vec<u64> {
        self.slots.iter().filter(|slot| slot.founder).map(|slot| slot.id).collect()
    }

    /// Whether an error was injected into the present life of a slot.
    pub(super) fn take_fault(&mut self, at: usize) -> bool {
        if self.slots[at].disk.take_fault().is_some() {
            self.slots[at].faulted = true;
            self.hit(ClusterPlace::DiskError);
        }
        self.slots[at].faulted
    }

    /// A node leads.
    pub(super) fn elected(&mut self, node: u64, term: u64) {
        if self.leader.is_some_and(|(_, known)| known >= term) {
            return;
        }
        if self.leader.is_some_and(|(known, _)| known != node) {
            self.hit(ClusterPlace::LeaderChanged);
        }
        self.leader = Some((node, term));
        let rotates = |index: &u64| match self.forms_in_flight.get(index) {
            Some(form) => form.kind() == Kind::Rotation,
            None => false,
        };
        if self.admitted.keys().any(rotates) {
            self.hit(ClusterPlace::ElectionDuringRotation);
        }
    }

    /// A node has taken a snapshot in: the keys that it should have now, and has not.
    pub(super) fn installed(&mut self, at: usize, index: u64, life: &dyn Life) {
        self.hit(ClusterPlace::SnapshotInstalled);
        self.note_sidecar(at);
        let Some(state) = self.chronicle.states.get(index as usize) else { return };
        let held = life.keys();
        let missing = |(id, key): (&u32, &Key)| {
            let there = held.get(id).is_some_and(|bytes| *bytes == key.blob.key.bytes());
            (!there).then_some(*id)
        };
        let missing_keys = state.keys.iter().filter_map(missing).collect();
        let node = self.slots[at].id;
        self.push(ClusterEvent::Installed { node, index, missing_keys });
    }

    pub(super) fn push(&mut self, event: ClusterEvent) {
        self.chronicle.events.push(event);
    }

    pub(super) fn history(&mut self, id: u64) -> &mut Vec<Event> {
        self.chronicle.nodes.entry(id).or_default()
    }

    /// The bytes of an administrative request, which from then on are known to mean it.
    pub(super) fn payload(&mut self, form: &Form) -> Vec<u8> {
        let bytes = self.lookout.encode(form).expect("only the host's own entries have none");
        self.forms.insert(bytes.clone(), form.clone());
        bytes
    }

    /// Takes down what a node was handed at `index`, and says what the model makes of it: nothing, where the log has
    /// come past an entry that the model refuses.
    pub(super) fn delivered(
        &mut self,
        slot: usize,
        index: u64,
        logged: Logged,
        keyring: bool,
    ) -> Option<Verdict> {
        let id = self.slots[slot].id;
        let log = &mut self.chronicle.log;
        match log.get(index as usize) {
            None => {
                assert_eq!(
                    log.len() as u64,
                    index,
                    "nodes apply in order, and snapshots are of applied entries"
                );
                log.push(logged.clone());
                self.entries += 1;
            }
            Some(known) if *known == logged => {}
            Some(_) => self.push(ClusterEvent::Differs { node: id, index }),
        }
        let before = self.chronicle.states.get(index as usize - 1)?;
        Some(before.judge(self.chronicle.rules, keyring, &logged.form))
    }

    /// A node has gone past the entry at `index`.
    pub(super) fn went_past(&mut self, slot: usize, index: u64, form: &Form, expected: Option<Verdict>) {
        let states = &mut self.chronicle.states;
        if states.len() as u64 == index
            && let Some(verdict) = expected.filter(|verdict| verdict.advances())
        {
            let next = states.last().expect("never empty").after(form, verdict);
            states.push(Arc::new(next));
        }
        self.reached(slot, index);
        if form.kind() == Kind::Bootstrap {
            self.note_sidecar(slot);
        }
    }

    /// A node has everything up to `index`.
    pub(super) fn reached(&mut self, at: usize, index: u64) {
        let refused = self.chronicle.refused_at();
        let slot = &mut self.slots[at];
        slot.applied = index;
        slot.floor = slot.floor.max(index);
        if slot.in_flight.is_some_and(|in_flight| in_flight <= index) {
            slot.in_flight = None;
        }
        slot.installing.retain(|installing| *installing > index);
        let node = slot.id;
        if refused.is_some_and(|refused| refused <= index) {
            self.push(ClusterEvent::PastRefusal { node, index });
        }
    }

    /// Machines whose process runs.
    pub(super) fn up(&self) -> Vec<usize> {
        let up = |(at, slot): (usize, &Slot)| (slot.status == Status::Up).then_some(at);
        self.slots.iter().enumerate().filter_map(up).collect()
    }

    /// Whether most of those who vote know that they do. Until then others are still needed: who was removed, and who
    /// has voted in the place of a new one.
    pub(super) fn knows_its_members(&self) -> bool {
        let Members { by, voters, .. } = &self.members;
        let knows =
            |slot: &&Slot| voters.contains(&slot.id) && slot.status == Status::Up && slot.applied >= *by;
        2 * self.slots.iter().filter(knows).count() > voters.len()
    }

    /// The machine of the newest leader, while its process runs.
    pub(super) fn leading(&self) -> Option<usize> {
        let (id, _) = self.leader?;
        self.slots.iter().position(|slot| slot.id == id && slot.status == Status::Up)
    }

    /// Ids of everyone who lives somewhere.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.slots.iter().filter(|slot| slot.status != Status::Empty).map(|slot| slot.id).collect()
    }

    /// Keeps a copy of the sidecar, from which a machine may be given an older one later.
    pub(super) fn note_sidecar(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if slot.old_sidecar.is_none() {
            slot.old_sidecar = slot.disk.peek(SIDECAR);
        }
    }

    /// Whether key bytes have ever been written to the disk of a machine.
    pub(super) fn check_disk(&mut self, at: usize) {
        let id = self.slots[at].id;
        if let Some(leak) = self.slots[at].disk.leak() {
            self.history(id).push(Event::KeyOnDisk { path: leak.path });
        }
    }

    /// What keeps the run from its end, if anything does.
    pub(super) fn left_to_do(&self) -> Option<String> {
        if self.clients > 0 || self.operating || !self.lost.is_empty() {
            if !self.hopeless {
                return Some(format!("{} clients, operator {}", self.clients, self.operating));
            }
        }
        let refused = self.chronicle.refused_at();
        let last = self.chronicle.log.len() as u64 - 1;
        for slot in self.slots.iter().filter(|slot| self.members.contains(slot.id)) {
            match slot.status {
                Status::Empty => continue,
                // Who has lost what it had cannot be replaced by a cluster that takes no more requests.
                Status::Refused if refused.is_some() => continue,
                Status::Up => {}
                Status::Down(_) | Status::Refused => {
                    return Some(format!("{:x} is {:?}", slot.id, slot.status));
                }
            }
            if slot.disk.is_dead() {
                return Some(format!("{:x} has died", slot.id));
            }
            let there = match refused {
                None => slot.applied == last,
                Some(refused) => slot.halted == Some(refused),
            };
            if !there {
                return Some(format!(
                    "{:x} is at {} of {last}, halted {:?}",
                    slot.id, slot.applied, slot.halted
                ));
            }
        }
        None
    }

    /// What has become of the messages.
    pub(super) fn count_network(&mut self, counts: NetCounts) {
        let fates = [
            (counts.dropped, ClusterPlace::MessageDropped),
            (counts.duplicated, ClusterPlace::MessageDuplicated),
            (counts.delayed, ClusterPlace::MessageDelayed),
            (counts.overtaken, ClusterPlace::MessageOvertaken),
            (counts.cut, ClusterPlace::MessageCut),
        ];
        for (count, place) in fates {
            if count > 0 {
                self.hit(place);
            }
        }
    }

    /// Looks at a live node.
    pub(super) fn look(&mut self, slot: usize, life: &dyn Life) -> Option<Look> {
        let disk = self.slots[slot].disk.clone();
        self.lookout.look(life, &disk)
    }

    /// Records what a node holds, beside what it has to. `index` is what it has applied.
    pub(super) fn observe(&mut self, at: usize, index: u64, life: &dyn Life, moment: Moment) {
        let Some(look) = self.look(at, life) else { return };
        let slot = &self.slots[at];
        let id = slot.id;
        let digest = digest_of(&look);
        if moment != Moment::Started {
            self.chronicle.events.push(ClusterEvent::Holds { node: id, index, digest });
        }
        let states = &self.chronicle.states;
        let state = |index: u64| states.get(index as usize).cloned();
        let Some(acknowledged) = state(index) else { return };
        let floor = if moment == Moment::Started { slot.floor } else { index };
        let unknown = slot.in_flight.iter().chain(&slot.installing);
        let possible: Option<Vec<_>> = std::iter::once(&floor).chain(unknown).map(|index| state(*index)).collect();
        let Some(expected) = possible else { return };
        let Look { sidecar, memory, rows, data, applied, .. } = look;
        let observation = Observation {
            moment,
            sidecar,
            memory,
            rows,
            data,
            applied,
            acknowledged,
            sidecar_expected: expected.clone(),
            database_expected: expected,
            rolled_back: false,
        };
        self.history(id).push(Event::Observed(Box::new(observation)));
    }
}

/// One number over everything that replicas must agree on: not creation times, which are each node's own.
fn digest_of(look: &Look) -> u64 {
    let mut hash = Xxh3::new();
    let mut take = |text: String| hash.update(text.as_bytes());
    if let SidecarSeen::Content { active, keys, .. } = &look.sidecar {
        take(format!("{active:?}{keys:?}"));
    }
    take(format!("{:?}{:?}", look.rows, look.data));
    hash.digest()
}

/// Whether the subject goes back to its newest local snapshot when it starts.
pub(super) const fn replays_from_snapshot(subject: Subject) -> bool {
    !subject.keeps_index()
}
