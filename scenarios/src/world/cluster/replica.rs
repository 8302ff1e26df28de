//! One life of a member: raft-rs above, its log and the applier below, and the order in which they are used.
//!
//! ```text
//! for each Ready:  send what may go at once
//!                  install a snapshot            one transaction, log reset included
//!                  append entries, hard state    one transaction, durable, and that of the first entry applied where
//!                  apply committed entries       there is one; then one each, with the commit index in it
//!                  send what had to wait for it
//! ```
//!
//! Everything in here happens at one instant of simulated time; only what waits for a sync is sent later, where the
//! disk is slow. Whatever fails ends the life.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfState, Entry, EntryType, HardState, MessageType, Snapshot};
use raft::{RawNode, SnapshotStatus, StateRole};
use redb::WriteTransaction;
use sim::{Choices, Disk, Fault, Ratio, Site};

use super::desk::Desk;
use super::message::{Message, context_of, put_of};
use super::shared::{Books, Ended, Keyring, Members, Shared, replays_from_snapshot};
use super::store::{Append, Store};
use crate::chronicle::{ClusterEvent, Logged};
use crate::form::Form;
use crate::history::{Delivery, Event, Moment, SideEffects};
use crate::model::Verdict;
use crate::probes::ClusterPlace;
use crate::seam::SimFiles;
use crate::subject::host::{read_sessions, write_data, write_session};
use crate::subject::{Delivered, Member, MemberSnapshot, Surroundings, bury};
use crate::teeth::ClusterMistake;
use crate::world::node::refusal_name;
use applier::registry::HostRefused;

/// Ticks without a word from a leader before an election, and up to twice as many.
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 3;
/// Ticks after which a snapshot that was sent is given up, so that the leader tries again.
const SNAPSHOT_TICKS: u64 = 8;
const INSTALL_CRASH: Site = Site::new("install.crash");
const INSTALL_CRASH_AT: Site = Site::new("install.crash-at");
/// Mutating calls of an install, and those of them that are about names.
const INSTALL_CALLS: u64 = 24;
const INSTALL_NAME_CALLS: u64 = 4;
/// Entries are applied this often before the next look at the node.
const LOOK_EVERY: u64 = 4;

/// The life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Something that it could not do without has failed. What, its disk knows.
    Broken,
    /// It has applied its own removal. It must not go on: raft-rs keeps a leader that is no member in office, and panics.
    Removed,
}

/// What a dying process leaves behind is let go of without its closing work, which a dead disk would refuse anyway.
pub(super) struct Remains<T>(Option<T>);

impl<T> Remains<T> {
    /// The thing itself, for an end in good order.
    fn into_inner(mut self) -> T {
        self.0.take().expect("it is taken once")
    }
}

impl<T> Deref for Remains<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is taken at the end only")
    }
}

impl<T> DerefMut for Remains<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is taken at the end only")
    }
}

impl<T> Drop for Remains<T> {
    fn drop(&mut self) {
        if let Some(remains) = self.0.take() {
            bury(remains);
        }
    }
}

/// Raft and the state machine, which share a database.
pub(super) struct Core {
    pub(super) raw: RawNode<Store>,
    pub(super) member: Box<dyn Member>,
}

/// A member while it lives.
pub(super) struct Replica {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: usize,
    pub(super) id: u64,
    pub(super) core: Remains<Core>,
    pub(super) desk: Desk,
    pub(super) applied: u64,
    pub(super) halted: bool,
    /// What it was started with, whatever its next life gets.
    pub(super) keyring: Keyring,
    lives: u64,
    hard: HardState,
    led: u64,
    /// Members that were sent a snapshot, and the ticks after which it is given up.
    snapshots: BTreeMap<u64, u64>,
    /// Messages that wait for a sync to end.
    outbox: Vec<raft::eraftpb::Message>,
    since_look: u64,
}

/// Starts a life, or says how it ended.
pub(super) fn start(shared: &Arc<Shared>, at: usize) -> Result<Replica, Ended> {
    let mut books = shared.books();
    let slot = &mut books.slots[at];
    slot.lives += 1;
    slot.faulted = false;
    slot.stop = false;
    slot.halted = None;
    slot.applied = 0;
    let (id, lives, founder, robbed) = (slot.id, slot.lives, slot.founder, slot.robbed);
    let (disk, keyring) = (slot.disk.clone(), slot.keyring);
    let (reads, past) = (Arc::clone(&slot.reads), Arc::clone(&slot.past));
    let kek = match keyring {
        Keyring::Other => Arc::clone(&books.other_kek),
        Keyring::Right | Keyring::None => Arc::clone(books.lookout.kek()),
    };
    drop(books);
    shared.note("start", [id, lives, 0], || format!("{id:x}, life {lives}"));
    let surroundings = Surroundings {
        node: id,
        files: SimFiles::new(disk.mount()),
        kek,
        reads,
        unix_seconds: 1_700_000_000 + 60 * lives,
        keyring: keyring != Keyring::None,
        past,
    };
    let started = shared.setup.subject.start_member(&surroundings);
    if disk.is_dead() {
        if let Ok(member) = started {
            bury(member);
        }
        return Err(Ended::Disk);
    }
    let mut books = shared.books();
    let faulted = books.take_fault(at);
    let member = match started {
        Ok(member) => member,
        Err(error) => {
            let why = refusal_name(&error).to_owned();
            shared.note("refused", [id, 0, 0], || format!("{id:x}: {error}"));
            return Err(refused(&mut books, at, why, faulted));
        }
    };
    if robbed {
        books.push(ClusterEvent::StartedWithoutItsSidecar { node: id, refusal: None });
        books.slots[at].robbed = false;
    }
    drop(books);
    let replica = Replica::wake(shared, at, (id, lives, founder, keyring), member);
    replica.map_err(|_| Ended::Disk)
}

/// A start that was refused: expected of a node without its sidecar, or with another KEK than the cluster's.
fn refused(books: &mut Books, at: usize, why: String, faulted: bool) -> Ended {
    let slot = &books.slots[at];
    let (id, robbed, keyring) = (slot.id, slot.robbed, slot.keyring);
    let expected = match why.as_str() {
        "sidecar-missing" | "sidecar-stale" if robbed => {
            books.hit(ClusterPlace::SidecarLossRefused);
            books.push(ClusterEvent::StartedWithoutItsSidecar { node: id, refusal: Some(why.clone()) });
            true
        }
        "kek-mismatch" | "other-kek" => keyring == Keyring::Other,
        "keyring-required" | "keyring-promised" => keyring == Keyring::None,
        _ => false,
    };
    if expected && keyring != Keyring::Right {
        books.hit(ClusterPlace::WrongKekRefused);
    }
    if expected {
        return Ended::Refused;
    }
    books.history(id).push(Event::StartRefused { why, faulted });
    if faulted { Ended::Disk } else { Ended::Refused }
}

impl Replica {
    /// Raft on top of a state machine that has started.
    fn wake(
        shared: &Arc<Shared>,
        at: usize,
        (id, lives, founder, keyring): (u64, u64, bool, Keyring),
        mut member: Box<dyn Member>,
    ) -> Result<Replica, Gone> {
        let store = match Store::open(member.shared()).map_err(|_| Gone::Broken) {
            Ok(Some(store)) => store,
            Ok(None) if founder => found(shared, member.as_mut())?,
            Ok(None) => Store::blank(member.shared()),
            Err(gone) => {
                bury(member);
                return Err(gone);
            }
        };
        let mut store = store;
        let applied = if replays_from_snapshot(shared.setup.subject) {
            go_back(member.as_mut(), &mut store)?
        } else {
            member.resume_after().expect("the subject keeps an index")
        };
        let hard = store.hard().clone();
        let sessions = read_sessions(&member.shared()).map_err(|_| Gone::Broken)?;
        let config = raft::Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: 1 << 20,
            check_quorum: true,
            pre_vote: true,
            skip_bcast_commit: shared.quiet_commits,
            ..raft::Config::default()
        };
        let raw = RawNode::new(&config, store, &slog::Logger::root(slog::Discard, slog::o!()));
        let raw = raw.expect("the configuration is valid, and what the store has was loaded");
        let mut books = shared.books();
        if hard.commit > applied {
            books.hit(ClusterPlace::CommittedAndNotApplied);
        }
        books.slots[at].applied = applied;
        if !replays_from_snapshot(shared.setup.subject) {
            books.observe(at, applied, member.as_ref(), Moment::Started);
            books.reached(at, applied);
        }
        drop(books);
        let core = Remains(Some(Core { raw, member }));
        Ok(Replica {
            shared: Arc::clone(shared),
            slot: at,
            id,
            core,
            desk: Desk::new(sessions),
            applied,
            halted: false,
            keyring,
            lives,
            hard,
            led: 0,
            snapshots: BTreeMap::new(),
            outbox: Vec::new(),
            since_look: 0,
        })
    }

    /// Whether the disk has died under it.
    fn check(&self) -> Result<(), Gone> {
        if self.shared.books().slots[self.slot].disk.is_dead() { Err(Gone::Broken) } else { Ok(()) }
    }

    /// Ends it in good order: the database writes what closing it writes.
    pub(super) fn stop(self) {
        drop(self.core.into_inner());
    }

    /// Time goes on by a tick.
    pub(super) fn tick(&mut self) {
        // raft-rs draws this from the operating system; it is read in a tick alone, so writing it before each is enough.
        let term = self.core.raw.raft.term;
        let mixed = mix(self.shared.election_seed ^ (self.lives << 32), self.id, term);
        let timeout = ELECTION_TICKS + (mixed % ELECTION_TICKS as u64) as usize;
        self.core.raw.raft.set_randomized_election_timeout(timeout);
        self.core.raw.tick();
        let mut lost = Vec::new();
        self.snapshots.retain(|to, ticks| {
            *ticks -= 1;
            if *ticks == 0 {
                lost.push(*to);
            }
            *ticks > 0
        });
        for to in lost {
            self.core.raw.report_snapshot(to, SnapshotStatus::Failure);
        }
        self.note_role();
    }

    /// A message arrives.
    pub(super) fn hear(&mut self, message: Message) -> Result<(), Gone> {
        match message {
            Message::Raft(message) => {
                let forwarded = message.get_msg_type() == MessageType::MsgPropose;
                if forwarded && !self.shared.makes(ClusterMistake::ForwardsProposals) {
                    return Ok(());
                }
                // A message that is out of date, or from nobody that it knows, is an error that changes nothing.
                let _ = self.core.raw.step(*message);
                self.note_role();
                Ok(())
            }
            Message::Probe { from, term, kek } => {
                let capability = self.core.member.promise(kek).map_err(|_| Gone::Broken)?;
                self.check()?;
                let member = self.id;
                self.shared.send(self.id, from, Message::Capable { member, term, capability });
                Ok(())
            }
            Message::Capable { member, term, capability } => {
                self.desk.leadership.answered(term, member, capability);
                Ok(())
            }
            Message::Request(request) => self.take_request(*request),
            Message::Answer { .. } => Ok(()),
        }
    }

    fn note_role(&mut self) {
        let leads = self.core.raw.raft.state == StateRole::Leader;
        let term = self.core.raw.raft.term;
        self.desk.leads(leads.then_some(term));
        if leads && self.led != term {
            self.led = term;
            let node = self.id;
            self.shared.note("leads", [node, term, 0], || format!("{node:x} in term {term}"));
            let mut books = self.shared.books();
            books.push(ClusterEvent::Leads { node, term });
            books.elected(node, term);
        }
    }

    /// Does everything that is due. Messages that have to wait for a sync are in the outbox afterwards.
    pub(super) fn work(&mut self) -> Result<(), Gone> {
        while self.core.raw.has_ready() {
            let mut ready = self.core.raw.ready();
            self.send_all(ready.take_messages());
            if let Some(hard) = ready.hs() {
                self.hard = hard.clone();
            }
            if !ready.snapshot().is_empty() {
                self.install(ready.snapshot())?;
            }
            let early = self.shared.makes(ClusterMistake::VotesBeforeSync);
            if early {
                let messages = ready.take_persisted_messages();
                self.send_all(messages);
            }
            let hard = ready.hs().cloned();
            // The commit index alone is written with the entry that it allows to apply.
            let append = match !ready.entries().is_empty() || ready.must_sync() {
                true => Append { entries: ready.take_entries(), hard },
                false => Append::default(),
            };
            for state in ready.take_read_states() {
                self.desk.confirmed(&state.request_ctx, state.index);
            }
            let committed = ready.take_committed_entries();
            self.persist_and_apply(append, committed)?;
            self.outbox.extend(ready.take_persisted_messages());
            let mut light = self.core.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.hard.commit = commit;
            }
            self.outbox.extend(light.take_messages());
            self.persist_and_apply(Append::default(), light.take_committed_entries())?;
            let applied = self.applied;
            self.core.raw.advance_apply_to(applied);
            self.compact()?;
            self.decide_confirmed()?;
            self.note_role();
        }
        Ok(())
    }

    /// Simulated milliseconds that what is in the outbox has to wait.
    pub(super) fn sync_ms(&self) -> u64 {
        if self.outbox.is_empty() { 0 } else { self.shared.books().slots[self.slot].sync_ms }
    }

    /// Sends what had to wait.
    pub(super) fn flush(&mut self) {
        let messages = std::mem::take(&mut self.outbox);
        self.send_all(messages);
    }

    fn send_all(&mut self, messages: Vec<raft::eraftpb::Message>) {
        for message in messages {
            let kind = message.get_msg_type();
            if kind == MessageType::MsgPropose && !self.shared.makes(ClusterMistake::ForwardsProposals) {
                continue;
            }
            if kind == MessageType::MsgSnapshot {
                self.snapshots.insert(message.to, SNAPSHOT_TICKS);
                self.shared.books().hit(ClusterPlace::SnapshotSent);
            }
            self.shared.send(self.id, message.to, Message::Raft(Box::new(message)));
        }
    }

    /// Makes durable what Raft appends, and applies what is committed. What is committed was made durable before, so the
    /// first entry that is applied can take the append along in its transaction.
    fn persist_and_apply(&mut self, append: Append, committed: Vec<Entry>) -> Result<(), Gone> {
        let mut append = append;
        let due = committed.into_iter().filter(|entry| entry.index > self.applied).collect::<Vec<_>>();
        // Only a wrong subject does not sync its vote; it does not get to hide it in another transaction either.
        let sync = !self.shared.makes(ClusterMistake::VotesBeforeSync) || !append.entries.is_empty();
        if due.is_empty() || self.halted || !sync {
            let append = std::mem::take(&mut append);
            self.core.raw.mut_store().persist(append, sync).map_err(|_| Gone::Broken)?;
            self.check()?;
        }
        for entry in due {
            if self.halted {
                break;
            }
            append = self.apply_one(&entry, append)?;
        }
        self.core.raw.mut_store().persist(append, true).map_err(|_| Gone::Broken)?;
        self.check()
    }

    /// Applies one entry: the state machine's effect, the host's data, the session, the commit index and the membership
    /// in one transaction.
    /// Gives the append back where the entry was refused, so that nothing was committed.
    fn apply_one(&mut self, entry: &Entry, append: Append) -> Result<Append, Gone> {
        let index = entry.index;
        let (asked, smuggled) = context_of(&entry.context);
        let membership = entry.get_entry_type() == EntryType::EntryConfChange;
        let put = put_of(&entry.data).filter(|_| !membership);
        let payload = (!membership && put.is_none() && !entry.data.is_empty()).then_some(entry.data.as_ref());
        let form = self.form_of(put, payload);
        let logged = Logged { term: entry.term, form: form.clone(), asked, membership, smuggled };
        let conf = membership.then(|| self.change_membership(entry));
        let expected = self.prepare(index, logged);
        let before = self.before(expected, &form);
        self.hard.commit = self.hard.commit.max(index);
        let hard = self.hard.clone();
        let Core { raw, member } = &mut *self.core;
        let mut host = |transaction: &WriteTransaction| -> Result<(), HostRefused> {
            let refused = |error: redb::Error| HostRefused(error.to_string());
            raw.store().write_append(transaction, &append).map_err(refused)?;
            if let Some((key, value)) = put {
                write_data(transaction, key, value)?;
            }
            if asked.client != 0 {
                write_session(transaction, asked.client, (asked.number, index)).map_err(refused)?;
            }
            Store::write_progress(transaction, &hard, conf.as_ref()).map_err(refused)
        };
        let passes = self.shared.makes(ClusterMistake::GoesPastRefusals)
            && self.shared.books().slots[self.slot].refusal.as_ref().is_some_and(|(at, _)| *at == index);
        let payload = payload.filter(|_| !passes);
        let answer = member.apply(index, payload, &mut host);
        self.check()?;
        self.record(index, &form, (expected, before), &answer);
        match answer {
            Delivered::Failed(_) | Delivered::Halted(_) => return Err(Gone::Broken),
            Delivered::Decided(Verdict::Rejected(_)) => {
                self.halted = true;
                return Ok(append);
            }
            Delivered::Decided(_) | Delivered::Skipped => {}
        }
        let store = self.core.raw.mut_store();
        store.appended(append);
        store.progressed(&hard, conf.as_ref());
        self.applied = index;
        let mut books = self.shared.books();
        books.went_past(self.slot, index, &form, expected);
        books.forms_in_flight.remove(&index);
        if books.admitted.remove(&index).is_some_and(|term| term != self.core.raw.raft.term) {
            books.hit(ClusterPlace::LeaderChangedBeforeApply);
        }
        drop(books);
        self.since_look += 1;
        if self.since_look >= LOOK_EVERY {
            self.look(Moment::CaughtUp);
        }
        self.answer_applied(entry.term, index, asked);
        if conf.is_some_and(|conf| !conf.voters.contains(&self.id) && !conf.learners.contains(&self.id)) {
            self.shared.books().hit(ClusterPlace::RemovedMemberStops);
            return Err(Gone::Removed);
        }
        Ok(Append::default())
    }

    fn form_of(&self, put: Option<(u64, u64)>, payload: Option<&[u8]>) -> Form {
        match (put, payload) {
            (Some((key, value)), _) => Form::Data { key, value },
            (None, Some(payload)) => {
                self.shared.books().forms.get(payload).cloned().expect("every payload was made from a form")
            }
            (None, None) => Form::Nothing,
        }
    }

    fn change_membership(&mut self, entry: &Entry) -> ConfState {
        let mut change = ConfChange::default();
        change.merge_from_bytes(&entry.data).expect("a leader has encoded it");
        let conf = self.core.raw.apply_conf_change(&change).expect("a leader has checked it");
        let mut books = self.shared.books();
        books.hit(ClusterPlace::MembershipChanged);
        if books.members.by < entry.index {
            let (voters, learners) = (conf.voters.clone(), conf.learners.clone());
            books.members = Members { by: entry.index, voters, learners };
        }
        drop(books);
        conf
    }

    fn prepare(&self, index: u64, logged: Logged) -> Option<Verdict> {
        let mut books = self.shared.books();
        let (id, kind) = (self.id, logged.form.kind() as u64);
        self.shared.note("apply", [id, index, kind], || format!("{id:x}: {index}, {}", logged.form));
        let expected = books.delivered(self.slot, index, logged, self.keyring != Keyring::None);
        if expected.is_some_and(Verdict::advances) {
            books.slots[self.slot].in_flight = Some(index);
        }
        expected
    }

    /// What a refusal must leave as it is, where one is expected.
    fn before(&self, expected: Option<Verdict>, form: &Form) -> Option<Before> {
        let looks =
            expected.is_some_and(|verdict| !verdict.advances()) && form.kind() != crate::form::Kind::Data;
        looks.then(|| {
            let disk = self.shared.books().slots[self.slot].disk.clone();
            Before {
                mutations: disk.mutations(),
                disk: disk.snapshot(),
                memory: (self.core.member.keys(), self.core.member.held()),
            }
        })
    }

    fn record(
        &self,
        index: u64,
        form: &Form,
        (expected, before): (Option<Verdict>, Option<Before>),
        answer: &Delivered,
    ) {
        let mut books = self.shared.books();
        let faulted = books.take_fault(self.slot);
        let slot = &mut books.slots[self.slot];
        let disk = slot.disk.clone();
        let effects = before.map(|before| SideEffects {
            mutations: disk.mutations() - before.mutations,
            disk: disk.snapshot() != before.disk,
            memory: (self.core.member.keys(), self.core.member.held()) != before.memory,
        });
        let first = slot.refusal.clone().filter(|(at, _)| *at == index).map(|(_, answer)| answer);
        let delivery = if index > slot.floor { Delivery::First } else { Delivery::Kept };
        if let Delivered::Decided(Verdict::Rejected(_)) = answer {
            slot.halted = Some(index);
            slot.in_flight = None;
            slot.refusal.get_or_insert_with(|| (index, answer.clone()));
            let (id, text) = (self.id, answer.clone());
            self.shared.note("halt", [id, index, 0], || format!("{id:x} at {index}: {text}"));
            books.push(ClusterEvent::Refused { node: id, index, answer: answer.clone() });
            books.hit(match first {
                Some(_) => ClusterPlace::HaltedAgainAfterRestart,
                None => ClusterPlace::Halted,
            });
        }
        let Some(expected) = expected else { return };
        let (kind, answer, before) = (form.kind(), answer.clone(), first);
        let event = Event::Delivered { index, kind, delivery, answer, expected, faulted, effects, before };
        books.history(self.id).push(event);
    }

    /// Looks at the node and takes down what it holds.
    pub(super) fn look(&mut self, moment: Moment) {
        self.since_look = 0;
        let (slot, applied) = (self.slot, self.applied);
        self.shared.books().observe(slot, applied, self.core.member.as_ref(), moment);
    }

    /// Takes in what another member has sent in the place of entries that are gone from its log.
    fn install(&mut self, snapshot: &Snapshot) -> Result<(), Gone> {
        let index = snapshot.get_metadata().index;
        let content = MemberSnapshot::decode(&snapshot.data).expect("a member has encoded it");
        let id = self.id;
        self.shared.note("install", [id, index, 0], || format!("{id:x}: snapshot at {index}"));
        let disk = {
            let mut books = self.shared.books();
            books.slots[self.slot].installing.push(index);
            books.storming.then(|| books.slots[self.slot].disk.clone())
        };
        if let Some(disk) = disk {
            self.shared.draw(|choices| arm_install_crash(choices, &disk));
        }
        self.hard.commit = self.hard.commit.max(index);
        let hard = self.hard.clone();
        let mut host = |transaction: &WriteTransaction| {
            Store::write_install(transaction, snapshot, &hard).map_err(|error| HostRefused(error.to_string()))
        };
        let installed = self.core.member.install(&content, &mut host);
        if self.check().is_err() {
            self.shared.books().hit(ClusterPlace::CrashInInstall);
            return Err(Gone::Broken);
        }
        if let Err(answer) = installed {
            let faulted = self.shared.books().take_fault(self.slot);
            self.shared.note("install-failed", [id, index, 0], || format!("{id:x}: {answer}"));
            if !faulted {
                let why = "snapshot".to_owned();
                self.shared.books().history(id).push(Event::StartRefused { why, faulted });
            }
            return Err(Gone::Broken);
        }
        self.core.raw.mut_store().installed(snapshot, &hard);
        self.applied = index;
        let mut books = self.shared.books();
        books.reached(self.slot, index);
        books.installed(self.slot, index, self.core.member.as_ref());
        if self.core.raw.raft.state == StateRole::Follower && !self.core.raw.raft.promotable() {
            books.hit(ClusterPlace::LearnerCaughtUpBySnapshot);
        }
        drop(books);
        self.desk.sessions = content.sessions;
        self.look(Moment::Installed);
        Ok(())
    }

    /// Keeps a snapshot and shortens the log, every so many entries.
    fn compact(&mut self) -> Result<(), Gone> {
        let (every, keep) = self.shared.compaction;
        let kept = self.core.raw.store().snapshot_index();
        let store = self.core.raw.store();
        // Who joins takes no snapshot that does not know it as a member.
        let outdated = *store.kept().get_metadata().get_conf_state() != *store.conf() && self.applied > kept;
        if store.conf().voters.is_empty() || (self.applied < kept + every && !outdated) {
            return Ok(());
        }
        let mut content = self.core.member.capture().map_err(|_| Gone::Broken)?;
        if self.shared.makes(ClusterMistake::SnapshotsWithoutKeys) {
            content.machine.sidecar = None;
        }
        let mut snapshot = Snapshot::default();
        snapshot.data = content.encode().into();
        let store = self.core.raw.store();
        let term = raft::Storage::term(store, self.applied).map_err(|_| Gone::Broken)?;
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied;
        metadata.term = term;
        *metadata.mut_conf_state() = store.conf().clone();
        let keep_from = (self.applied + 1).saturating_sub(keep);
        self.core.raw.mut_store().compact(&snapshot, keep_from).map_err(|_| Gone::Broken)?;
        self.check()?;
        self.shared.books().hit(ClusterPlace::LogCompacted);
        Ok(())
    }
}

/// Installs are few, and each of their calls is a place to die at. One in six gets a crash of its own; some of those
/// strike after the last call, in whatever comes next.
fn arm_install_crash(choices: &mut Choices, disk: &Disk) {
    if !choices.chance(INSTALL_CRASH, Ratio::new(1, 6)) {
        return;
    }
    let nth = choices.draw(INSTALL_CRASH_AT, INSTALL_CALLS + INSTALL_NAME_CALLS);
    disk.arm(match nth.checked_sub(INSTALL_CALLS) {
        None => Fault::DieAtMutation(disk.mutations() + nth),
        Some(nth) => Fault::DieAtNameCall(disk.name_calls() + nth),
    });
}

/// A node before it is delivered an entry that it has to refuse.
struct Before {
    mutations: u64,
    disk: sim::Snapshot,
    memory: (crate::subject::Keys, crate::subject::Held),
}

/// The first entry of a founding member is the foundation itself: a snapshot of nothing at index 1, so that whoever joins
/// later has to catch up by a snapshot, which tells it who the members are.
fn found(shared: &Shared, member: &mut dyn Member) -> Result<Store, Gone> {
    let mut content = member.capture().map_err(|_| Gone::Broken)?;
    content.machine.registry.applied_index = applier::RaftIndex(1);
    let mut snapshot = Snapshot::default();
    snapshot.data = content.encode().into();
    let founders = shared.books().founders();
    let metadata = snapshot.mut_metadata();
    metadata.index = 1;
    metadata.term = 1;
    metadata.mut_conf_state().voters = founders;
    let mut host = |transaction: &WriteTransaction| {
        Store::found(transaction, &snapshot).map_err(|error| HostRefused(error.to_string()))
    };
    if !member.apply(1, None, &mut host).advances() {
        return Err(Gone::Broken);
    }
    Store::open(member.shared()).map_err(|_| Gone::Broken)?.ok_or(Gone::Broken)
}

/// A subject without an index goes back to its newest local snapshot, and everything later is delivered again.
fn go_back(member: &mut dyn Member, store: &mut Store) -> Result<u64, Gone> {
    let kept = store.kept().clone();
    if kept.is_empty() {
        return Ok(0);
    }
    let content = MemberSnapshot::decode(&kept.data).expect("a member has encoded it");
    member.install(&content, &mut |_| Ok(())).map_err(|_| Gone::Broken)?;
    store.set_conf(kept.get_metadata().get_conf_state().clone());
    Ok(kept.get_metadata().index)
}

/// Three numbers into one (the finaliser of SplitMix64).
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ c.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
