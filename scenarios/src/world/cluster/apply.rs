//! What a member does with what Raft hands it: entries are applied, snapshots installed, logs shortened.

use applier::registry::HostRefused;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, StateRole};
use redb::WriteTransaction;
use sim::{Choices, Disk, Ratio, Site};

use super::message::context_of;
use super::nemesis::arm_death;
use super::replica::{Core, Gone, Replica, broken};
use super::shared::{Books, Keyring, Members};
use super::start::is_member;
use super::store::{Append, Store};
use crate::chronicle::{Asked, ClusterEvent, Logged};
use crate::coverage::Phase;
use crate::form::{Form, Kind, Seal};
use crate::history::{Delivery, Event, Moment, SideEffects};
use crate::model::Verdict;
use crate::probes::ClusterPlace;
use crate::sealing;
use crate::subject::host::{read_value, refusable, write_session};
use crate::subject::{Delivered, Handed, Held, Keys, MemberSnapshot, SIDECAR};
use crate::teeth::ClusterMistake;
use crate::world::look;
use crate::world::node::is_before_rename;

const INSTALL_CRASH: Site = Site::new("install.crash");
const INSTALL_CRASH_AT: Site = Site::new("install.crash-at");
/// Mutating calls of an install, and those of them that are about names.
const INSTALL_CALLS: u64 = 24;
const INSTALL_NAME_CALLS: u64 = 4;
/// Entries are applied this often before the next look at the node.
const LOOK_EVERY: u64 = 4;

/// An entry, as it is taken apart.
struct Due<'a> {
    index: u64,
    term: u64,
    asked: Asked,
    /// What the log has for the state machine, perhaps in an envelope; nothing of a change of the membership.
    data: &'a [u8],
    /// How it was put into one.
    wrap: Option<Seal>,
    membership: bool,
    smuggled: bool,
}

impl Due<'_> {
    fn of(entry: &Entry) -> Due<'_> {
        let (asked, smuggled) = context_of(&entry.context);
        let membership = entry.get_entry_type() == EntryType::EntryConfChange;
        let data = if membership { &[][..] } else { entry.data.as_ref() };
        Due { index: entry.index, term: entry.term, asked, data, wrap: None, membership, smuggled }
    }
}

/// What a host hands on of an entry that is out of its envelope.
fn handed(opened: &[u8]) -> Handed<'_> {
    match sealing::write_of(opened) {
        _ if opened.is_empty() => Handed::Nothing,
        Some((key, stored)) => Handed::Write(key, stored),
        None => Handed::Entry(opened),
    }
}

impl Replica {
    /// Makes durable what Raft appends, and applies what is committed. What is committed was made durable before, so the
    /// first entry that is applied can take the append along in its transaction.
    pub(super) fn persist_and_apply(&mut self, append: Append, committed: Vec<Entry>) -> Result<(), Gone> {
        let mut append = append;
        let due = committed.into_iter().filter(|entry| entry.index > self.applied).collect::<Vec<_>>();
        // Only a wrong subject does not sync its vote; it does not get to hide it in another transaction either.
        let sync = !self.shared.makes(ClusterMistake::VotesBeforeSync) || !append.entries.is_empty();
        if due.is_empty() || self.is_done() || !sync {
            let append = std::mem::take(&mut append);
            self.core.raw.mut_store().persist(append, sync).map_err(broken("append"))?;
            self.check()?;
        }
        for entry in due {
            if self.is_done() {
                break;
            }
            append = self.apply_one(&entry, append)?;
        }
        self.core.raw.mut_store().persist(append, true).map_err(broken("append"))?;
        self.check()
    }

    /// Whether it applies nothing more in this life.
    pub(super) const fn is_done(&self) -> bool {
        self.halted || self.removed
    }

    /// The hard state as it is made durable where everything up to `applied` is applied. That a membership change is committed
    /// is noted with its effect and not before: raft-rs lets nobody stand for election who has one ahead, so a member that
    /// halts before it could not even after a restart.
    pub(super) fn to_keep(&self, hard: &HardState, applied: u64) -> HardState {
        let mut hard = hard.clone();
        if hard.commit > applied {
            let log = &self.core.raw.raft.raft_log;
            let ahead = log.slice(applied + 1, hard.commit + 1, None, GetEntriesContext::empty(false));
            let ahead = ahead.expect("what is not applied is in the log");
            let change = ahead.iter().find(|entry| entry.get_entry_type() != EntryType::EntryNormal);
            hard.commit = change.map_or(hard.commit, |change| change.index - 1);
        }
        hard
    }

    /// Applies one entry: the state machine's effect, the host's data, the session, the commit index and the membership
    /// in one transaction. Gives the append back where the entry was refused, so that nothing was committed.
    fn apply_one(&mut self, entry: &Entry, append: Append) -> Result<Append, Gone> {
        let mut due = Due::of(entry);
        let Due { index, term, asked, data, .. } = due;
        let form;
        (form, due.wrap) = self.shared.books().understand(data);
        let conf = due.membership.then(|| self.change_membership(entry));
        let expected = self.prepare(&due, &form);
        let before = self.before(expected, &form);
        let opened = match data {
            [] => Ok(Vec::new()),
            _ if self.goes_past(index) => Ok(Vec::new()),
            data => self.core.member.open_entry(index, data),
        };
        self.hard.commit = self.hard.commit.max(index);
        let hard = self.to_keep(&self.hard, index);
        let Core { raw, member } = &mut *self.core;
        let mut host = |transaction: &WriteTransaction| -> Result<(), HostRefused> {
            refusable(|| raw.store().write_append(transaction, &append))?;
            if asked.client != 0 {
                write_session(transaction, asked.client, (asked.number, index))?;
            }
            refusable(|| Store::write_progress(transaction, &hard, conf.as_ref()))
        };
        let answer = match &opened {
            Ok(opened) => member.apply(index, handed(opened), &mut host),
            Err(refused) => refused.clone(),
        };
        self.check()?;
        self.show(&answer, index);
        self.record(index, &form, (expected, before), &answer);
        match answer {
            Delivered::Failed(_) | Delivered::Halted(_) => return Err(Gone("apply")),
            Delivered::Decided(Verdict::Rejected(_)) => {
                self.halted = true;
                return Ok(append);
            }
            Delivered::Skipped => unreachable!("what was applied is not delivered again in one life"),
            Delivered::Decided(_) => {}
        }
        let store = self.core.raw.mut_store();
        store.appended(append);
        store.progressed(&hard, conf.as_ref());
        self.went_past((index, term), &form, expected);
        self.note_uses(&due, &form);
        self.answer_applied(term, index, asked);
        if conf.is_some_and(|conf| !is_member(&conf, self.id)) {
            self.step_aside();
        }
        Ok(Append::default())
    }

    /// It has applied its own removal. raft-rs keeps a leader that is no member in office, and panics.
    fn step_aside(&mut self) {
        self.removed = true;
        let term = self.core.raw.raft.term;
        if self.core.raw.raft.state == StateRole::Leader {
            self.core.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        self.shared.books().hit(ClusterPlace::RemovedMemberStepsAside);
    }

    /// A wrong host does not deliver again what was refused in an earlier life.
    fn goes_past(&self, index: u64) -> bool {
        let refused = |at: &(u64, Delivered)| at.0 == index;
        self.shared.makes(ClusterMistake::GoesPastRefusals)
            && self.shared.books().slots[self.slot].refusal.as_ref().is_some_and(refused)
    }

    fn went_past(&mut self, (index, term): (u64, u64), form: &Form, expected: Option<Verdict>) {
        self.applied = index;
        let mut books = self.shared.books();
        books.went_past(self.slot, index, form, expected);
        let now = self.core.raw.raft.term;
        if books.admitted.remove(&index).is_some_and(|admitted| admitted.term == term && term != now) {
            books.hit(ClusterPlace::LeaderChangedBeforeApply);
        }
        drop(books);
        self.since_look += 1;
        if self.since_look >= LOOK_EVERY {
            self.look(Moment::CaughtUp);
        }
    }

    /// Takes down which nonces the entry and the value that was stored show.
    fn note_uses(&self, due: &Due<'_>, form: &Form) {
        let mut books = self.shared.books();
        if due.wrap.is_some() {
            books.note_entry(self.id, due.data);
        }
        let Form::Data { key, .. } = form else { return };
        if let Ok(Some(stored)) = read_value(&self.core.member.shared(), *key) {
            books.note_value(self.id, *key, &stored);
        }
    }

    fn change_membership(&mut self, entry: &Entry) -> ConfState {
        let mut change = ConfChange::default();
        change.merge_from_bytes(&entry.data).expect("a leader has encoded it");
        let conf = self.core.raw.apply_conf_change(&change).expect("a leader has checked it");
        let mut books = self.shared.books();
        books.hit(ClusterPlace::MembershipChanged);
        if books.members.by < entry.index {
            books.members = Members { by: entry.index, conf: conf.clone() };
        }
        drop(books);
        conf
    }

    fn prepare(&self, due: &Due<'_>, form: &Form) -> Option<Verdict> {
        let Due { index, term, asked, wrap, membership, smuggled, .. } = *due;
        let logged = Logged { term, form: form.clone(), wrap, asked, membership, smuggled };
        let mut books = self.shared.books();
        let id = self.id;
        self.shared.note(id, "apply", [id, index, form.kind() as u64], || format!("{index}, {form}"));
        let expected = books.delivered(self.slot, index, logged, self.keyring != Keyring::None);
        if expected.is_some_and(Verdict::advances) {
            books.slots[self.slot].in_flight = Some(index);
            books.slots[self.slot].phase = Phase::Apply;
        }
        expected
    }

    /// What a refusal or a failure must leave as it is, where one may come.
    fn before(&self, expected: Option<Verdict>, form: &Form) -> Option<Before> {
        let books = self.shared.books();
        let slot = &books.slots[self.slot];
        let looks = expected.is_some_and(|verdict| !verdict.advances()) || slot.fault_armed;
        let disk = slot.disk.clone();
        drop(books);
        (looks && form.kind() != Kind::Data).then(|| Before {
            sidecar: disk.peek(SIDECAR),
            mutations: disk.mutations(),
            disk: disk.snapshot(),
            memory: (self.core.member.keys(), self.core.member.held()),
        })
    }

    /// Remarks the answer to an entry, and what is in memory after it.
    fn show(&self, answer: &Delivered, index: u64) {
        let trace = self.shared.trace.of(self.id);
        trace.remark("answered", [index, u64::from(answer.advances()), 0], || (answer.to_string(), None));
        look::show_memory(&trace, self.core.member.as_ref());
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
        books.slots[self.slot].phase = Phase::Raft;
        if let (Delivered::Halted(_), Some(before)) = (answer, &before) {
            self.record_halt(&mut books, (index, form), before);
        }
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
            self.shared.note(id, "halt", [id, index, 0], || format!("at {index}: {text}"));
            books.push(ClusterEvent::Refused { node: id, index, answer: answer.clone() });
            books.hit(match first {
                Some(_) => ClusterPlace::HaltedAgainAfterRestart,
                None => ClusterPlace::Halted,
            });
        }
        let Some(expected) = expected else { return };
        let (kind, answer, before) = (form.kind(), answer.clone(), first);
        let event = Event::Delivered { index, kind, delivery, answer, expected, faulted, effects, before };
        books.remember(self.id, event);
    }

    /// What a halt has left of the keys in memory.
    fn record_halt(&self, books: &mut Books, (index, form): (u64, &Form), before: &Before) {
        let slot = &books.slots[self.slot];
        let keys = self.core.member.keys();
        let event = Event::Halted {
            index,
            kind: form.kind(),
            before_rename: slot.fault_op.as_ref().is_some_and(is_before_rename),
            sidecar_changed: slot.disk.peek(SIDECAR) != before.sidecar,
            keys_changed: keys != before.memory.0,
            holds_its_keys: form.key_ids().iter().all(|id| keys.contains_key(id)),
        };
        books.remember(self.id, event);
    }

    /// Looks at the node and takes down what it holds.
    pub(super) fn look(&mut self, moment: Moment) {
        self.since_look = 0;
        let withdraws = self.core.member.can_withdraw_kek();
        self.shared.books().slots[self.slot].withdraws |= withdraws;
        let (slot, applied) = (self.slot, self.applied);
        self.shared.books().observe(slot, applied, self.core.member.as_ref(), moment);
    }

    /// Takes in what another member has sent in the place of entries that are gone from its log.
    pub(super) fn install(&mut self, snapshot: &Snapshot) -> Result<(), Gone> {
        let index = snapshot.get_metadata().index;
        let content = MemberSnapshot::decode(&snapshot.data).expect("a member has encoded it");
        let id = self.id;
        self.shared.note(id, "install", [id, index, 0], || format!("snapshot at {index}"));
        let disk = {
            let mut books = self.shared.books();
            books.slots[self.slot].installing.push(index);
            books.slots[self.slot].phase = Phase::Install;
            books.storming.then(|| books.slots[self.slot].disk.clone())
        };
        if let Some(disk) = disk {
            self.shared.draw(|choices| arm_install_crash(choices, &disk));
        }
        self.hard.commit = self.hard.commit.max(index);
        let hard = self.hard.clone();
        let mut host =
            |transaction: &WriteTransaction| refusable(|| Store::write_install(transaction, snapshot, &hard));
        let installed = self.core.member.install(&content, &mut host);
        if self.check().is_err() {
            self.shared.books().hit(ClusterPlace::CrashInInstall);
            return Err(Gone("disk"));
        }
        if let Err(answer) = installed {
            self.shared.note(id, "install-failed", [id, index, 0], || answer.to_string());
            return Err(Gone("install"));
        }
        self.core.raw.mut_store().installed(snapshot, &hard);
        self.applied = index;
        let mut books = self.shared.books();
        books.reached(self.slot, index);
        books.slots[self.slot].phase = Phase::Raft;
        books.installed(self.slot, index, self.core.member.as_ref());
        look::show_memory(&self.shared.trace.of(id), self.core.member.as_ref());
        if self.core.raw.raft.state == StateRole::Follower && !self.core.raw.raft.promotable() {
            books.hit(ClusterPlace::LearnerCaughtUpBySnapshot);
        }
        drop(books);
        self.desk.sessions = content.sessions;
        self.note_log_start();
        self.desk.forget_up_to(index);
        self.look(Moment::Installed);
        Ok(())
    }

    /// Makes known where its log begins.
    pub(super) fn note_log_start(&self) {
        let start = raft::Storage::first_index(self.core.raw.store()).unwrap_or(0);
        self.shared.books().slots[self.slot].log_start = start;
    }

    /// Takes a snapshot for a member that has lost its sidecar, where one is wanted.
    pub(super) fn lend_snapshot(&self) {
        if !self.shared.books().wants_snapshot || self.is_done() {
            return;
        }
        if let Ok(Some(snapshot)) = self.core.member.capture() {
            let mut books = self.shared.books();
            books.wants_snapshot = false;
            books.snapshot = Some(snapshot);
        }
    }

    /// Keeps a snapshot and shortens the log, every so many entries.
    pub(super) fn compact(&mut self) -> Result<(), Gone> {
        let (every, keep) = self.shared.compaction;
        let kept = self.core.raw.store().snapshot_index();
        let store = self.core.raw.store();
        // Who joins takes no snapshot that does not know it as a member.
        let outdated = *store.kept().get_metadata().get_conf_state() != *store.conf() && self.applied > kept;
        if store.conf().voters.is_empty() || (self.applied < kept + every && !outdated) {
            return Ok(());
        }
        let Some(mut content) = self.core.member.capture().map_err(broken("capture"))? else { return Ok(()) };
        if self.shared.makes(ClusterMistake::SnapshotsWithoutKeys) {
            content.machine.sidecar = None;
        }
        let mut snapshot = Snapshot { data: content.encode().into(), ..Snapshot::default() };
        let store = self.core.raw.store();
        let term = raft::Storage::term(store, self.applied).map_err(broken("term"))?;
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied;
        metadata.term = term;
        *metadata.mut_conf_state() = store.conf().clone();
        let keep_from = (self.applied + 1).saturating_sub(keep);
        self.core.raw.mut_store().compact(&snapshot, keep_from).map_err(broken("compaction"))?;
        self.check()?;
        self.note_log_start();
        self.shared.books().hit(ClusterPlace::LogCompacted);
        Ok(())
    }
}

/// Installs are few, and each of their calls is a place to die at. One in six gets a crash of its own; some of those
/// strike after the last call, in whatever comes next.
fn arm_install_crash(choices: &mut Choices, disk: &Disk) {
    if choices.chance(INSTALL_CRASH, Ratio::new(1, 6)) {
        arm_death(choices, INSTALL_CRASH_AT, disk, (INSTALL_CALLS, INSTALL_NAME_CALLS));
    }
}

/// A node before it is delivered an entry that it has to refuse, or may fail at.
struct Before {
    sidecar: Option<Vec<u8>>,
    mutations: u64,
    disk: sim::Snapshot,
    memory: (Keys, Held),
}
