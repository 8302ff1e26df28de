//! The floor under a seed of the world `cluster`: a bare loop of raft-rs on madsim, without applier, faults, records or
//! checks, that does the Raft work of that seed.
//!
//! As many members as the seed has founders run the seed's configuration of raft-rs for its simulated time, over the same
//! simulated network, with ticks of the same lengths. Leaders propose until the log has as many entries as the seed's. Members
//! are killed as often as the seed started one again, leaders among them as often as it had elections beyond the first. Logs
//! are raft-rs' own in memory, and survive that.
//!
//! With [`Below::Database`] each member keeps its log in a database on a simulated disk too, a durable two-phase transaction
//! for what it appends and one for each entry that it applies, and opens it again when it is started again. What that
//! adds is what a world pays that tests a durable node, whatever else it does.

mod member;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle, Runtime};
use madsim::time::{TimeHandle, sleep};
use raft::eraftpb::{ConfState, Message};
use raft::storage::MemStorage;
use scenarios::world::cluster::RAFT_LABELS;
use sim::{Address, Choices, Disk, Lies, Net, Profile, SharedChoices, Trace};

/// Simulated milliseconds for which a killed member is down at the most.
const DOWN_MS_MAX: u64 = 500;
/// Simulated milliseconds that may pass beyond the planned ones, for the last entries to get to everyone.
const LATE_MS_MAX: u64 = 30_000;

/// What a floor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Members, from the beginning to the end.
    pub members: u64,
    /// Entries of the log at its end, those that Raft appends for itself included.
    pub entries: u64,
    /// Leaders, one after the other.
    pub elections: u64,
    /// How often a member is killed and started again.
    pub restarts: u64,
    /// Simulated time in milliseconds.
    pub simulated_ms: u64,
}

/// What members keep their log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Memory, that of raft-rs itself.
    Memory,
    /// A database on a simulated disk.
    Database,
}

/// Runs a floor, as a seed of the world is run: on a thread of its own. Gives the index up to which each member has applied.
///
/// # Panics
/// Where it does not get done what is planned.
pub fn run(plan: Plan, seed: u64, below: Below, trace: &Trace) -> Vec<u64> {
    let body = || {
        let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.block_on(play(plan, seed, below, trace))
    };
    thread::scope(|scope| scope.spawn(body).join().expect("the floor holds"))
}

/// What all members see.
struct World {
    plan: Plan,
    seed: u64,
    below: Below,
    trace: Trace,
    net: Net<Message>,
    choices: SharedChoices,
    board: Mutex<Board>,
}

/// What outlives a member.
struct Board {
    machines: Vec<Machine>,
    leader: Option<usize>,
}

struct Machine {
    log: MemStorage,
    disk: Disk,
    applied: u64,
    lives: u64,
}

impl World {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, from: u64, messages: Vec<Message>) {
        for message in messages {
            let (to, label) = (message.to, RAFT_LABELS + message.get_msg_type() as u64);
            self.choices.with(|choices| self.net.send(choices, Address(from), Address(to), label, message));
        }
    }

    /// Takes down what a member does, as the world does.
    fn note(&self, kind: &'static str, at: usize) {
        self.trace.of(member_id(at)).record(kind, [member_id(at), 0, 0], String::new);
    }

    /// How many entries the log is to have by now. The last of them has time to get to everyone.
    fn due(&self, now_ms: u64) -> u64 {
        let Plan { entries, simulated_ms, .. } = self.plan;
        (entries * now_ms / simulated_ms.saturating_sub(1500).max(1)).min(entries)
    }
}

fn member_id(at: usize) -> u64 {
    at as u64 + 1
}

fn now_ms() -> u64 {
    u64::try_from(TimeHandle::current().elapsed().as_millis()).expect("a run is short")
}

async fn play(plan: Plan, seed: u64, below: Below, trace: &Trace) -> Vec<u64> {
    trace.set_clock(|| TimeHandle::try_current().and_then(|time| time.elapsed().as_millis().try_into().ok()));
    let members = usize::try_from(plan.members).expect("they are few");
    let voters: Vec<u64> = (0..members).map(member_id).collect();
    let machine = |_| Machine {
        log: MemStorage::new_with_conf_state(ConfState::from((voters.clone(), Vec::new()))),
        disk: Disk::with(Profile::Posix, Lies::NONE, trace.clone()),
        applied: 0,
        lives: 0,
    };
    let machines = (0..members).map(machine).collect();
    let board = Board { machines, leader: None };
    let world = Arc::new(World {
        plan,
        seed,
        below,
        trace: trace.clone(),
        net: Net::start(trace.clone()),
        choices: SharedChoices::new(Choices::seeded(seed)),
        board: Mutex::new(board),
    });
    let start = |at| {
        let world = Arc::clone(&world);
        Handle::current().create_node().init(move || member::live(Arc::clone(&world), at)).build()
    };
    let nodes: Vec<NodeHandle> = (0..members).map(start).collect();
    kill_in_turns(&world, &nodes).await;
    sleep_until(plan.simulated_ms).await;
    while !is_done(&world) {
        assert!(now_ms() < plan.simulated_ms + LATE_MS_MAX, "{plan:?} takes too long");
        sleep(Duration::from_millis(50)).await;
    }
    nodes.iter().for_each(|node| Handle::current().kill(node.id()));
    world.net.stop();
    sleep(Duration::from_millis(1)).await;
    world.board().machines.iter().map(|machine| machine.applied).collect()
}

async fn sleep_until(at_ms: u64) {
    sleep(Duration::from_millis(at_ms.saturating_sub(now_ms()))).await;
}

/// Kills members and starts them again, evenly over the time: those who lead, evenly among others.
async fn kill_in_turns(world: &World, nodes: &[NodeHandle]) {
    let Plan { elections, restarts, simulated_ms, .. } = world.plan;
    let depositions = elections.saturating_sub(1);
    let kills = restarts.max(depositions);
    let pause_ms = simulated_ms / (kills + 1);
    for nth in 1..=kills {
        sleep_until(pause_ms * nth).await;
        let turn = nth as usize % nodes.len();
        let leader = world.board().leader;
        let deposes = nth * depositions / kills > (nth - 1) * depositions / kills;
        let at = match leader {
            Some(leader) if deposes => leader,
            Some(leader) if leader == turn => (turn + 1) % nodes.len(),
            _ => turn,
        };
        Handle::current().kill(nodes[at].id());
        world.note("crash", at);
        world.net.unbind(Address(member_id(at)));
        world.board().machines[at].disk.process_crash();
        if leader == Some(at) {
            world.board().leader = None;
        }
        sleep(Duration::from_millis(DOWN_MS_MAX.min(pause_ms / 2))).await;
        Handle::current().restart(nodes[at].id());
    }
}

/// Whether everyone has applied everything.
fn is_done(world: &World) -> bool {
    let board = world.board();
    let applied = |machine: &Machine| machine.applied;
    let least = board.machines.iter().map(applied).min();
    let most = board.machines.iter().map(applied).max();
    least == most && least >= Some(world.plan.entries)
}
