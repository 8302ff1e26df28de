//! A member of the floor.

use std::sync::Arc;
use std::time::Duration;

use applier::Config;
use applier::NodeId;
use applier::apply::open_database;
use applier::registry::RedbRegistry;
use madsim::time::Instant;
use raft::eraftpb::Entry;
use raft::storage::MemStorage;
use raft::{RawNode, StateRole};
use redb::{ReadableDatabase, TableDefinition};
use scenarios::seam::SimFiles;
use scenarios::world::cluster::{election_timeout, raft_config};
use sim::Address;

use super::{Below, World, member_id, now_ms};

/// Bytes of an entry: about those of a rotation.
const ENTRY_BYTES: usize = 100;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("raft.log");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("raft.state");

struct Member {
    world: Arc<World>,
    at: usize,
    raw: RawNode<MemStorage>,
    log: MemStorage,
    database: Option<RedbRegistry>,
    applied: u64,
    lives: u64,
    leads: bool,
}

/// What runs on a machine until it is killed.
pub(super) async fn live(world: Arc<World>, at: usize) {
    let mut member = Member::wake(world, at);
    let mut inbox = member.world.net.bind(Address(member_id(at)));
    let tick = Duration::from_millis(80 + 10 * (at as u64 % 5));
    let mut next_tick = now() + tick;
    loop {
        member.work();
        let heard = inbox.recv_until(next_tick).await;
        if heard.is_none() && !inbox.is_open() {
            return std::future::pending().await;
        }
        let mut next = heard;
        while let Some(message) = next {
            let _ = member.raw.step(message);
            next = inbox.try_recv();
        }
        if now() >= next_tick {
            next_tick += tick;
            member.tick();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is madsim's, which knows simulated time only")]
fn now() -> Instant {
    Instant::now()
}

impl Member {
    fn wake(world: Arc<World>, at: usize) -> Member {
        let (log, disk, applied, lives) = {
            let mut board = world.board();
            let machine = &mut board.machines[at];
            machine.lives += 1;
            (machine.log.clone(), machine.disk.clone(), machine.applied, machine.lives)
        };
        world.note("start", at);
        let config = raft_config(member_id(at), applied, true);
        let raw = RawNode::new(&config, log.clone(), &slog::Logger::root(slog::Discard, slog::o!()));
        let raw = raw.expect("the configuration is valid");
        let database = (world.below == Below::Database).then(|| {
            let node = NodeId::new(member_id(at)).expect("not 0");
            let database = "/registry.redb".to_owned();
            let config = Config { node, database, keyring: None, known: Default::default() };
            let opened = open_database(&SimFiles::new(disk.mount()), &config).expect("no fault is armed");
            assert_eq!(entries_in(&opened), applied, "what was committed is there");
            opened
        });
        Member { world, at, raw, log, database, applied, lives, leads: false }
    }

    fn tick(&mut self) {
        let term = self.raw.raft.term;
        let timeout = election_timeout(self.world.seed, self.lives, member_id(self.at), term);
        self.raw.raft.set_randomized_election_timeout(timeout);
        self.raw.tick();
        self.note_role();
        let due = self.world.due(now_ms());
        while self.leads && self.raw.raft.raft_log.last_index() < due {
            self.raw.propose(Vec::new(), vec![0xA5; ENTRY_BYTES]).expect("it leads");
        }
    }

    fn note_role(&mut self) {
        let leads = self.raw.raft.state == StateRole::Leader;
        if leads && !self.leads {
            self.world.board().leader = Some(self.at);
            self.world.note("leads", self.at);
        }
        self.leads = leads;
    }

    /// Does everything that is due, in the order of the world.
    fn work(&mut self) {
        let id = member_id(self.at);
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            self.world.send(id, ready.take_messages());
            if let Some(hard) = ready.hs() {
                self.log.wl().set_hardstate(hard.clone());
            }
            let entries = ready.take_entries();
            self.log.wl().append(&entries).expect("they join the log");
            let must_sync = ready.must_sync();
            let committed = ready.take_committed_entries();
            self.persist_and_apply(&entries, must_sync, &committed);
            self.world.send(id, ready.take_persisted_messages());
            let mut light = self.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.log.wl().mut_hard_state().set_commit(commit);
            }
            self.world.send(id, light.take_messages());
            self.persist_and_apply(&[], false, &light.take_committed_entries());
            self.raw.advance_apply_to(self.applied);
            self.note_role();
        }
    }

    /// One transaction for what is appended, which the first entry that is applied joins, and one for each later entry.
    fn persist_and_apply(&mut self, append: &[Entry], must_sync: bool, committed: &[Entry]) {
        let mut append = append;
        if committed.is_empty() && (must_sync || !append.is_empty()) {
            self.commit(append, self.applied);
        }
        for entry in committed {
            self.applied = entry.index;
            self.commit(append, self.applied);
            append = &[];
            self.world.board().machines[self.at].applied = entry.index;
            self.world.note("apply", self.at);
        }
    }

    fn commit(&self, append: &[Entry], applied: u64) {
        let Some(database) = &self.database else { return };
        let mut transaction = database.database().begin_write().expect("no fault is armed");
        transaction.set_two_phase_commit(true);
        if !append.is_empty() {
            let mut log = transaction.open_table(LOG).expect("no fault is armed");
            for entry in append {
                log.insert(entry.index, entry.data.as_ref()).expect("no fault is armed");
            }
        }
        {
            let mut state = transaction.open_table(STATE).expect("no fault is armed");
            state.insert("hard", [0; 24].as_slice()).expect("no fault is armed");
            state.insert("applied", applied.to_le_bytes().as_slice()).expect("no fault is armed");
        }
        transaction.commit().expect("no fault is armed");
    }
}

/// The index up to which the database has entries applied.
fn entries_in(opened: &RedbRegistry) -> u64 {
    let view = opened.database().begin_read().expect("no fault is armed");
    let Ok(state) = view.open_table(STATE) else { return 0 };
    let applied = state.get("applied").expect("no fault is armed");
    applied.map_or(0, |bytes| u64::from_le_bytes(bytes.value().try_into().expect("eight bytes")))
}
