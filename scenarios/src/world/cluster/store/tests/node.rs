//! Real Raft nodes on the store.

use raft::eraftpb::{ConfChange, ConfChangeType, EntryType, Message, MessageType};
use raft::{Config, RawNode, SnapshotStatus, StateRole};

use super::append;
use super::*;

const ELECTION_TICKS: usize = 10;

/// A node, what it applied in this life, and what it wants to send.
struct Node {
    raw: RawNode<Store>,
    applied: Vec<Entry>,
    out: Vec<Message>,
}

impl Node {
    fn new(id: u64, store: Store, applied: u64) -> Node {
        let config = Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: 2,
            applied,
            pre_vote: true,
            check_quorum: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, store, &logger).expect("its configuration is sound");
        Node { raw, applied: vec![], out: vec![] }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let conf = (entry.get_entry_type() == EntryType::EntryConfChange).then(|| {
                let change: ConfChange = parse(&entry.data).expect("it was encoded");
                self.raw.apply_conf_change(&change).expect("a change by one member")
            });
            let hard = self.raw.raft.hard_state();
            progress(self.raw.mut_store(), &hard, conf.as_ref()).expect("memory does not fail");
            self.applied.push(entry);
        }
    }

    /// Handles what is ready until nothing is, as a driver whose store is synchronous does.
    fn settle(&mut self) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            self.out.extend(ready.take_messages());
            let store = self.raw.mut_store();
            if !ready.snapshot().is_empty() {
                let hard = ready.hs().unwrap_or(store.hard()).clone();
                install(store, ready.snapshot(), &hard).expect("memory does not fail");
            }
            store.persist(append(ready.entries(), ready.hs()), true).expect("memory does not fail");
            self.out.extend(ready.take_persisted_messages());
            self.apply(ready.take_committed_entries());
            let mut light = self.raw.advance(ready);
            self.out.extend(light.take_messages());
            self.apply(light.take_committed_entries());
            self.raw.advance_apply();
        }
    }

    fn tick(&mut self) {
        self.raw.raft.set_randomized_election_timeout(ELECTION_TICKS);
        self.raw.tick();
        self.settle();
    }

    fn lead(&mut self) {
        for _ in 0..4 * ELECTION_TICKS {
            if self.raw.raft.state == StateRole::Leader {
                return;
            }
            self.tick();
        }
        panic!("nobody stands in its way");
    }

    fn propose(&mut self, data: &[u8]) {
        self.raw.propose(vec![], data.to_vec()).expect("it leads");
        self.settle();
    }

    /// Index, term and data of what was applied.
    fn told(&self) -> Vec<(u64, u64, &[u8])> {
        self.applied.iter().map(|entry| (entry.index, entry.term, &entry.data[..])).collect()
    }
}

/// Carries messages to and fro until there are none, but loses snapshots on request. How many snapshots there were.
fn exchange(nodes: [&mut Node; 2], lose_snapshots: bool) -> u32 {
    let mut snapshots = 0;
    let [one, two] = nodes;
    while !one.out.is_empty() || !two.out.is_empty() {
        for message in std::mem::take(&mut one.out).into_iter().chain(std::mem::take(&mut two.out)) {
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            snapshots += u32::from(is_snapshot);
            if is_snapshot && lose_snapshots {
                continue;
            }
            let node = if message.to == one.raw.raft.id { &mut *one } else { &mut *two };
            node.raw.step(message).expect("it is of a member");
            node.settle();
        }
    }
    snapshots
}

#[test]
fn a_single_voter_leads_commits_and_goes_on_after_a_restart() {
    let database = database_in_memory();
    let mut node = Node::new(1, founded(Arc::clone(&database)), 1);
    node.lead();
    node.propose(b"first");
    assert_eq!(node.told(), [(2, 2, &b""[..]), (3, 2, b"first")]);
    assert_eq!(node.raw.store().hard(), &hard(2, 1, 3));
    drop(node);

    let store = opened(Arc::clone(&database));
    assert_eq!(store.hard(), &hard(2, 1, 3));
    let mut node = Node::new(1, store, 3);
    let kept = snapshot(3, 2, members(&[1]), b"state");
    node.raw.mut_store().compact(&kept, 3).expect("memory does not fail");
    node.lead();
    node.propose(b"second");
    assert_eq!(node.told(), [(4, 3, &b""[..]), (5, 3, b"second")]);
    assert_eq!(opened(database).term(2), Ok(2), "the entry before the log's first has its term");
}

#[test]
fn entries_after_the_newest_local_snapshot_are_given_again() {
    let database = database_in_memory();
    let mut node = Node::new(1, founded(Arc::clone(&database)), 1);
    node.lead();
    for data in [b"a", b"b", b"c"] {
        node.propose(data);
    }
    node.raw.mut_store().compact(&snapshot(3, 2, members(&[1]), b""), 2).expect("memory does not fail");
    let before = std::mem::take(&mut node.applied);
    drop(node);

    let mut store = opened(database);
    store.set_conf(store.kept().get_metadata().get_conf_state().clone());
    let from = store.snapshot_index();
    let mut node = Node::new(1, store, from);
    node.settle();
    assert_eq!(node.applied, before[2..], "what came after the snapshot");
}

#[test]
fn a_blank_node_joins_by_a_snapshot_and_a_lost_one_is_sent_again_only_after_a_report() {
    let mut leader = Node::new(1, founded(database_in_memory()), 1);
    leader.lead();
    leader.propose(b"before");
    let change = ConfChange { change_type: ConfChangeType::AddNode, node_id: 2, ..ConfChange::default() };
    leader.raw.propose_conf_change(vec![], change).expect("it leads");
    leader.settle();
    assert_eq!(leader.raw.store().conf(), &members(&[1, 2]));
    let kept = snapshot(4, 2, members(&[1, 2]), b"state");
    leader.raw.mut_store().compact(&kept, 5).expect("memory does not fail");

    let database = database_in_memory();
    let mut joiner = Node::new(2, Store::blank(Arc::clone(&database)), 0);
    assert_eq!(exchange([&mut leader, &mut joiner], true), 1);
    let mut sent = 0;
    for _ in 0..5 * ELECTION_TICKS {
        leader.tick();
        sent += exchange([&mut leader, &mut joiner], true);
    }
    assert_eq!(sent, 0, "it waits for a report");
    assert_eq!(leader.raw.raft.state, StateRole::Leader);
    drop(joiner);

    // It forgets nothing of the term that it has heard of.
    let mut joiner = Node::new(2, opened(Arc::clone(&database)), 0);
    assert_eq!(joiner.raw.raft.term, 2);
    leader.raw.report_snapshot(2, SnapshotStatus::Failure);
    for _ in 0..ELECTION_TICKS {
        leader.tick();
        sent += exchange([&mut leader, &mut joiner], false);
    }
    assert_eq!(sent, 1);
    leader.propose(b"after");
    exchange([&mut leader, &mut joiner], false);
    leader.tick();
    leader.tick();
    exchange([&mut leader, &mut joiner], false);
    assert_eq!(joiner.told(), [(5, 2, &b"after"[..])]);
    let store = opened(database);
    assert_eq!((store.kept(), store.conf(), store.hard()), (&kept, &members(&[1, 2]), &hard(2, 0, 5)));
}
