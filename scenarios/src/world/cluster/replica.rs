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

use raft::eraftpb::{HardState, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};

use super::desk::Desk;
use super::elections::election_timeout;
use super::message::Message;
use super::shared::{Keyring, Shared};
use super::store::{Append, Store};
use crate::chronicle::ClusterEvent;
use crate::history::Event;
use crate::probes::ClusterPlace;
use crate::subject::{Member, bury};
use crate::teeth::ClusterMistake;

/// Ticks after which a snapshot that was sent is given up, so that the leader tries again.
const SNAPSHOT_TICKS: u64 = 8;

/// The life is over: something that it could not do without has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone(pub(super) &'static str);

/// What an error ends a life with. Its own words may hold what differs between runs.
pub(super) fn broken<E>(what: &'static str) -> impl FnOnce(E) -> Gone {
    move |_| Gone(what)
}

/// What a dying process leaves behind is let go of without its closing work, which a dead disk would refuse anyway.
pub(super) struct Remains<T>(Option<T>);

impl<T> Remains<T> {
    pub(super) const fn new(thing: T) -> Remains<T> {
        Remains(Some(thing))
    }

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
    /// Whether it has applied its own removal. It applies nothing more then, and still votes, since the others may not know
    /// yet that they can do without it.
    pub(super) removed: bool,
    /// What it was started with, whatever its next life gets.
    pub(super) keyring: Keyring,
    pub(super) lives: u64,
    pub(super) hard: HardState,
    /// What was known to be committed when it started.
    pub(super) committed_at_start: u64,
    /// The newest term that it has led in.
    pub(super) led: u64,
    /// Members that were sent a snapshot, and the ticks after which it is given up.
    pub(super) snapshots: BTreeMap<u64, u64>,
    /// Messages that wait for a sync to end.
    pub(super) outbox: Vec<raft::eraftpb::Message>,
    /// Entries applied since it was last looked at.
    pub(super) since_look: u64,
    /// Whether everything was delivered again that was known to be committed at the start.
    pub(super) replayed: bool,
}

impl Replica {
    /// Whether the disk has died under it.
    pub(super) fn check(&self) -> Result<(), Gone> {
        let dead = self.shared.books().slots[self.slot].disk.is_dead();
        if dead { Err(Gone("disk")) } else { Ok(()) }
    }

    /// Ends it in good order: the database writes what closing it writes.
    pub(super) fn stop(self) {
        drop(self.core.into_inner());
    }

    /// Time goes on by a tick.
    pub(super) fn tick(&mut self) {
        let term = self.core.raw.raft.term;
        let timeout = election_timeout(self.shared.election_seed, self.lives, self.id, term);
        self.desk.tick();
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
            Message::Probe { from, term, kek, generation } => {
                let capability = self.core.member.promise(kek, generation).map_err(broken("promise"))?;
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
            self.shared.note(node, "leads", [node, term, 0], || format!("in term {term}"));
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
            // The commit index alone is written with the entry that it allows to apply.
            let append = match !ready.entries().is_empty() || ready.must_sync() {
                true => Append {
                    hard: ready.hs().map(|hard| self.to_keep(hard, self.applied)),
                    entries: ready.take_entries(),
                },
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
            self.end_replay()?;
            self.decide_confirmed()?;
            self.note_role();
        }
        self.claim_what_it_needs()
    }

    /// Once it is where it was known to be committed at its start, the state machine has a last look at itself.
    fn end_replay(&mut self) -> Result<(), Gone> {
        if self.replayed || self.applied < self.committed_at_start || self.is_done() {
            return Ok(());
        }
        self.replayed = true;
        let core = &mut *self.core;
        let (store, books) = (core.raw.store(), self.shared.books());
        let first = raft::Storage::first_index(store).unwrap_or(u64::MAX);
        let is_key_entry = |index: &u64| {
            let logged = books.chronicle.log.get(*index as usize);
            logged.is_some_and(|logged| logged.form.is_of_keys())
        };
        let key_entry_in = |from: u64, to: u64| {
            (from + 1 >= first).then(|| (from + 1..=to).any(|index| is_key_entry(&index)))
        };
        let refused = core.member.after_replay(&key_entry_in).err();
        drop(books);
        let Some(why) = refused else { return Ok(()) };
        let mut books = self.shared.books();
        self.shared.note(self.id, "refused", [self.id, 0, 0], || format!("after the replay: {why}"));
        let faulted = books.take_fault(self.slot);
        books.remember(self.id, Event::StartRefused { why, faulted });
        books.slots[self.slot].guarded = true;
        Err(Gone("guard"))
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
}
