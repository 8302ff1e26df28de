//! The books: what is taken down of a run, and what the model makes of it.

use std::sync::Arc;

use applier::wire;
use sim::{NetCounts, OpInfo};
use xxhash_rust::xxh3::Xxh3;

use super::shared::{Books, Members, Slot, Status};
use super::start::is_member;
use crate::chronicle::{Chronicle, ClusterEvent, Logged};
use crate::coverage::{Fate, Outcome, Phase, Point};
use crate::form::{Form, KeyNumber, Kind, Malformed, Row, Seal};
use crate::history::{Event, Moment, Observation, SidecarSeen};
use crate::model::{Key, State, Verdict};
use crate::probes::{ClusterPlace, Step, cluster_place};
use crate::sealing::{self, Envelope, Keys, Use};
use crate::subject::{Life, SIDECAR};
use crate::world::look::{self, Look, sealed};

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
        if let Some((op, _)) = self.slots[at].disk.take_fault() {
            self.slots[at].fault_op = Some(op);
            self.hit(ClusterPlace::DiskError);
        }
        self.slots[at].fault_op.is_some()
    }

    /// A member has crashed, at a call of its disk or between two.
    pub(super) fn crashed(&mut self, at: usize, died_at: Option<&OpInfo>, fate: Fate) {
        self.crashes += 1;
        // Where it had crashed before and not got to the end of a start since, nothing else has come of that.
        self.came_to(at, Outcome::CutOff);
        let slot = &mut self.slots[at];
        let phase = if matches!(slot.status, Status::Down(_)) { Phase::Down } else { slot.phase };
        let point = match died_at {
            // Raft's log is in the database too, so a call of it is always between two others.
            Some(op) => Point::at(phase, Some(Step::of(op, 1))),
            None => Point::between_calls(phase),
        };
        slot.open = Some(self.coverage.died(point, fate, 0));
    }

    /// Something has come of the last crash of a member.
    pub(super) fn came_to(&mut self, at: usize, outcome: Outcome) {
        self.coverage.came_to(&mut self.slots[at].open, outcome);
    }

    /// A member has started, and has applied everything up to `applied`, where its subject keeps an index.
    pub(super) fn came_to_life(&mut self, at: usize, applied: Option<u64>) {
        let outcome = match (self.slots[at].in_flight, applied) {
            (Some(index), Some(applied)) if applied >= index => Outcome::EntrySurvived,
            (Some(_), Some(_)) => Outcome::EntryLost,
            _ => Outcome::Started,
        };
        self.came_to(at, outcome);
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
        if self.admitted.values().any(|admitted| admitted.kind == Some(Kind::Rotation)) {
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
        look::mark(&self.trace, self.chronicle.events.len());
        self.chronicle.events.push(event);
    }

    /// Takes down what a node went through.
    pub(super) fn remember(&mut self, id: u64, event: Event) {
        let history = self.chronicle.nodes.entry(id).or_default();
        look::mark(&self.trace.of(id), history.len());
        history.push(event);
    }

    /// The bytes of an administrative request, which from then on are known to mean it.
    pub(super) fn payload(&mut self, form: &Form) -> Vec<u8> {
        let bytes = self.lookout.encode(form).expect("only the host's own entries have none");
        // Two forms may be one string of bytes, as where a blob is empty whoever has wrapped it.
        self.forms.entry(bytes.clone()).or_insert_with(|| form.clone());
        bytes
    }

    /// What an entry of the log means, and how it was put into its envelope where it is in one.
    pub(super) fn understand(&self, data: &[u8]) -> (Form, Option<Seal>) {
        let keys = self.keys();
        let numbers = |dek: u32| keys.get(&dek).map(|bytes| KeyNumber(bytes[31]));
        let opened = Envelope::of(data).and_then(|envelope| {
            let (clear, _) = sealing::open_entry(&keys, data).ok()?;
            Some((clear, envelope.seal(self.node_of(envelope.issued().0)?, numbers(envelope.dek)?)))
        });
        let (clear, wrap) = opened.unwrap_or_else(|| (data.to_vec(), None));
        if let Some((key, stored)) = sealing::write_of(&clear) {
            let seal = sealing::envelope_of(stored).and_then(|envelope| {
                envelope.seal(self.node_of(envelope.issued().0)?, numbers(envelope.dek)?)
            });
            let value = sealing::open(&keys, key, stored).map_or(u64::MAX, |(value, _)| value);
            return (Form::Data { key, value, seal }, wrap);
        }
        let known = self.forms.get(&clear).cloned().or_else(|| registration_of(&clear));
        let form = match known {
            Some(form) => form,
            None if clear.is_empty() => Form::Nothing,
            // In an envelope of a key that this log never had.
            None => Form::Malformed(Malformed::ReservedOpcode),
        };
        (form, wrap)
    }

    /// The bytes of every key that the log has ever installed.
    fn keys(&self) -> Keys {
        let state = self.chronicle.newest();
        let live = state.keys.iter().map(|(id, key)| (*id, key.blob.key.bytes()));
        let retired = state.retired.iter().map(|(id, key)| (*id, key.key.bytes()));
        live.chain(retired).collect()
    }

    /// The node with these low 16 bits. Members are given different ones.
    fn node_of(&self, node16: u16) -> Option<u64> {
        Some(u64::from(node16))
    }

    /// Takes down the nonce of an entry's envelope.
    pub(super) fn note_entry(&mut self, node: u64, data: &[u8]) {
        if let Ok((_, used)) = sealing::open_entry(&self.keys(), data) {
            self.note_use(node, used);
        }
    }

    /// What a wrong leader stores: sealed once more with the first nonce that it ever had.
    pub(super) fn sealed_again(&mut self, key: u64, value: u64, stored: Vec<u8>) -> Vec<u8> {
        let keys = self.keys();
        let seal = sealing::envelope_of(&stored).and_then(|envelope| {
            envelope.seal(self.node_of(envelope.issued().0)?, KeyNumber(keys.get(&envelope.dek)?[31]))
        });
        let Some(seal) = seal else { return stored };
        let first = Seal { count: 1, ..seal };
        sealing::stored(key, value, Some(&first))
    }

    /// What many nodes find is taken down once.
    fn note_use(&mut self, node: u64, used: Use) {
        if self.uses.insert(used) {
            self.push(ClusterEvent::Used { node, used });
        }
    }

    /// Takes down the nonce of a stored value.
    pub(super) fn note_value(&mut self, node: u64, key: u64, stored: &[u8]) {
        if let Ok((_, Some(used))) = sealing::open(&self.keys(), key, stored) {
            self.note_use(node, used);
        }
    }

    /// Whether every member's log begins behind the last entry that is in an envelope of this key, so that nobody needs
    /// it any more.
    pub(super) fn nobody_opens(&self, dek: u32) -> bool {
        let log = &self.chronicle.log;
        let last = log.iter().rposition(|entry| entry.wrap.is_some_and(|seal| seal.dek == dek)).unwrap_or(0);
        let is_past = |slot: &Slot| slot.status == Status::Up && slot.log_start > last as u64;
        self.slots.iter().filter(|slot| is_member(&self.members.conf, slot.id)).all(is_past)
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
        Some(before.judge_sealed(self.chronicle.rules, keyring, &logged.form, logged.wrap.as_ref()))
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

    /// Under which id a member writes.
    pub(super) fn writer_of(&self, id: u64) -> u64 {
        self.slots.iter().find(|slot| slot.id == id).map_or(id, |slot| slot.writer)
    }

    /// Machines whose process runs.
    pub(super) fn up(&self) -> Vec<usize> {
        let up = |(at, slot): (usize, &Slot)| (slot.status == Status::Up).then_some(at);
        self.slots.iter().enumerate().filter_map(up).collect()
    }

    /// Whether everyone who votes knows that, those aside who have lost what they had or are about to. Until then others
    /// are still needed: who was removed, and who has voted in the place of a new one.
    pub(super) fn members_know_it(&self, without: Option<u64>) -> bool {
        let Members { by, conf } = &self.members;
        let knows = |id: &u64| {
            let slot = self.slots.iter().find(|slot| slot.id == *id);
            slot.is_some_and(|slot| slot.status == Status::Up && slot.applied >= *by)
        };
        let counts = |id: &&u64| Some(**id) != without && !self.budget.is_destroyed(**id);
        conf.voters.iter().filter(counts).all(knows)
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
            self.remember(id, Event::KeyOnDisk { path: leak.path });
        }
    }

    /// What keeps the run from its end, if anything does.
    pub(super) fn left_to_do(&self) -> Option<String> {
        let busy = self.clients > 0 || self.operating || !self.lost.is_empty() || !self.resyncs.is_empty();
        if busy && !self.hopeless {
            return Some(format!(
                "{} clients, operator {}, lost {:?}, to be resynced {:?}",
                self.clients, self.operating, self.lost, self.resyncs
            ));
        }
        let refused = self.chronicle.refused_at();
        let last = self.chronicle.log.len() as u64 - 1;
        for slot in self.slots.iter().filter(|slot| is_member(&self.members.conf, slot.id)) {
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

    /// The state after the entry at `index`, also where some node was handed it and nobody has gone past it yet: what is half
    /// applied of it after a crash has to be judged too.
    fn state(&self, index: u64) -> Option<Arc<State>> {
        let Chronicle { log, states, rules, .. } = &self.chronicle;
        if index != states.len() as u64 {
            return states.get(index as usize).cloned();
        }
        let Logged { form, wrap, .. } = log.get(states.len())?;
        let newest = states.last().expect("never empty");
        let verdict = newest.judge_sealed(*rules, true, form, wrap.as_ref());
        verdict.advances().then(|| Arc::new(newest.after(form, verdict)))
    }

    /// Records what a node holds, beside what it has to. `index` is what it has applied.
    pub(super) fn observe(&mut self, at: usize, index: u64, life: &dyn Life, moment: Moment) {
        let id = self.slots[at].id;
        let Some(look) = self.lookout.look(life, &self.slots[at].disk) else {
            let faulted = self.take_fault(at);
            if !faulted && !self.slots[at].disk.is_dead() {
                self.remember(id, Event::StartRefused { why: "unreadable".to_owned(), faulted });
            }
            return;
        };
        // A sidecar that is ahead of the database is the state of no index.
        if moment != Moment::Started && self.slots[at].installing.is_empty() {
            let digest = digest_of(&look, self.chronicle.rules.seal_before_the_log());
            self.push(ClusterEvent::Holds { node: id, index, digest });
        }
        let slot = &self.slots[at];
        let state = |index: u64| self.state(index);
        let Some(acknowledged) = state(index) else { return };
        let floor = if moment == Moment::Started { slot.floor } else { index };
        let unknown = slot.in_flight.iter().chain(&slot.installing);
        let possible: Option<Vec<_>> =
            std::iter::once(&floor).chain(unknown).map(|index| state(*index)).collect();
        let Some(expected) = possible else { return };
        let Look { sidecar, memory, rows, data, stored, unreadable, applied, .. } = look;
        let observation = Observation {
            moment,
            sidecar,
            memory,
            rows,
            data,
            sealed: sealed(&stored),
            unreadable,
            applied,
            acknowledged,
            sidecar_expected: expected.clone(),
            database_expected: expected,
            rolled_back: false,
        };
        self.remember(id, Event::Observed(Box::new(observation)));
    }
}

/// The registration that a member has made for itself.
fn registration_of(payload: &[u8]) -> Option<Form> {
    match wire::Entry::decode(payload) {
        Ok(wire::Entry::Registration(wire::Row { dek_id, full_node_id, local_epoch })) => {
            Some(Form::Registration(Row { dek: dek_id, node: full_node_id, epoch: local_epoch }))
        }
        _ => None,
    }
}

/// One number over everything that replicas must agree on: not creation times, which are each node's own.
fn digest_of(look: &Look, stored: bool) -> u64 {
    let mut hash = Xxh3::new();
    let mut take = |text: String| hash.update(text.as_bytes());
    if let SidecarSeen::Content { active, keys, cutovers, retired, kek, .. } = &look.sidecar {
        take(format!("{active:?}{keys:?}{cutovers:?}{retired:?}{kek:?}"));
    }
    // Where each replica seals for itself, the same value is stored as other bytes.
    match stored {
        true => take(format!("{:?}{:?}", look.rows, look.stored)),
        false => take(format!("{:?}{:?}", look.rows, look.data)),
    }
    hash.digest()
}
