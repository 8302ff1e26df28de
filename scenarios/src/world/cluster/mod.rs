//! The world `cluster`: three or five members with a disk each, real Raft between them, clients that ask for keys, and
//! faults of disk and network in one run.
//!
//! - `replica` is one life of a member: how it starts (`start`), what it applies (`apply`), its desk for requests (`desk`),
//!   its log (`store`), its configuration (`elections`). `node` is its process.
//! - `client` is who asks, `message` what is said, `nemesis` what goes wrong, `budget` how much of it may.
//! - `shared` is what all of them share, `books` what is taken down. What comes of it is a [`crate::chronicle`].

mod apply;
mod books;
mod budget;
mod client;
mod desk;
mod elections;
mod message;
mod nemesis;
mod node;
mod replica;
mod shared;
mod start;
mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use madsim::time::{TimeHandle, sleep};
use raft::eraftpb::ConfState;
use sim::{Choices, DiskSim, Net, NetWeather, Probes, Ratio, SharedChoices, Site, Trace};

use self::client::{client, operator};
pub use self::elections::{election_timeout, raft_config};
pub use self::message::RAFT_LABELS;
pub(crate) use self::message::message_name;
use self::nemesis::{Machines, Storm};
use self::shared::{Keyring, Members, Shared, Slot, Status, millis, now_ms};
use super::{MEMBERS_MAX, Record, Setup};
use crate::chronicle::{Chronicle, ClusterEvent, End, Logged};
use crate::form::Form;
use crate::history::Event;
use crate::model::Verdict;
use crate::probes::ClusterPlace;
use crate::workload::Mix;

const MADSIM: Site = Site::new("cluster.madsim");
const ELECTIONS: Site = Site::new("cluster.elections");
const QUIET: Site = Site::new("cluster.quiet-commits");
const MEMBERS: Site = Site::new("cluster.members");
const CLIENTS: Site = Site::new("cluster.clients");
const COMPACTION: Site = Site::new("cluster.compaction");
const DRIFT: Site = Site::new("cluster.drift");
const GATE: Site = Site::new("cluster.gate");
const STORM: Site = Site::new("cluster.storm");
const LAST: Site = Site::new("cluster.last-restart");

/// Requests of all clients together.
const REQUESTS: u64 = 20;
/// Simulated milliseconds within which everyone must be at the end of the log once the faults are over.
pub const CONVERGENCE_MS_MAX: u64 = 60_000;
/// Simulated milliseconds for which nothing may change before that is believed.
const QUIET_MS: u64 = 600;

/// Id of the member that lives on a machine: low 16 bits as in the workload's rows, and never used again.
fn member_id(slot: usize, generation: u64) -> u64 {
    0x11 * (slot as u64 + 1) + (generation << 8)
}

/// The machine of whoever is at an address, from 1 on; 0 for clients and the operator.
pub(crate) fn machine_of(address: u64) -> u64 {
    if address >= client::CLIENTS { 0 } else { (address & 0xff) / 0x11 }
}

/// Runs the world once.
pub(super) fn run(setup: &Setup, choices: &mut Choices, trace: &Trace, probes: Probes) -> Record {
    let seed = choices.draw(MADSIM, 1 << 32);
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.add_simulator::<DiskSim>();
    let lent = Lent::new(choices);
    let shared = lent.shared.clone();
    runtime.block_on(async move { play(setup, shared, trace, probes).await })
}

/// The choices of a run while its tasks have them; they come back whatever happens.
struct Lent<'a> {
    home: &'a mut Choices,
    shared: SharedChoices,
}

impl<'a> Lent<'a> {
    fn new(home: &'a mut Choices) -> Lent<'a> {
        let shared = SharedChoices::new(std::mem::replace(home, Choices::bytes(&[])));
        Lent { home, shared }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.home = self.shared.take();
    }
}

async fn play(setup: &Setup, choices: SharedChoices, trace: &Trace, probes: Probes) -> Record {
    trace.set_clock(|| TimeHandle::try_current().map(|time| millis(&time)));
    let net = Net::start(trace.clone());
    let draw = |site, bound| choices.with(|choices| choices.draw(site, bound));
    let elections = draw(ELECTIONS, 1 << 32);
    let quiet = draw(QUIET, 4) > 0;
    let compaction = (3 + draw(COMPACTION, 8), draw(COMPACTION, 4));
    let drawn = if draw(MEMBERS, 4) == 3 { 5 } else { 3 };
    let members = setup.limits.members.unwrap_or(drawn);
    assert!((1..=MEMBERS_MAX).contains(&members), "{members} members have no room");
    let members = usize::try_from(members).expect("they are few");
    let news = choices.with(|choices| super::draw_news(choices, setup.subject.rules()));
    let shared = Arc::new(Shared::new(
        *setup,
        trace.clone(),
        choices,
        net,
        (elections, quiet, compaction, news),
        probes,
    ));
    let storm = draw_storm(&shared);
    found(&shared, members);
    let mut machines = Machines::new(&shared, members + 1, storm);
    (0..members).for_each(|slot| machines.up(slot));
    let people = Handle::current().create_node().build();
    let clients = 2 + shared.draw(|choices| choices.draw(CLIENTS, 2));
    shared.books().clients = clients as usize;
    for me in 1..=clients {
        let ratios = [Ratio::new(1, 12), Ratio::NEVER, Ratio::new(1, 5)];
        let invalid = shared.draw(|choices| *choices.pick(STORM, &ratios));
        let mix = Mix { invalid, early_registration: true };
        let share = |of: u64| of / clients + u64::from(me <= of % clients);
        let usual = setup.limits.entries.map_or(REQUESTS / clients, share);
        let quota = setup.limits.entries_max.map_or(usual, |most| share(most).min(usual));
        people.spawn(client(Arc::clone(&shared), me, quota, mix));
    }
    people.spawn(operator(Arc::clone(&shared), members));
    machines.rage().await;
    let healed = settle(&mut machines).await;
    if shared.books().chronicle.refused_at().is_some() || shared.draw(|choices| choices.draw(LAST, 4)) == 1 {
        restart_all(&mut machines, healed).await;
    }
    look_at_all(&mut machines).await;
    shared.books().hopeless = true;
    finish(&machines, &people).await
}

fn draw_storm(shared: &Shared) -> Storm {
    // Who has more to ask for takes longer, and is not to be left in peace for that.
    let more = shared.setup.limits.entries.map_or(1, |entries| entries.div_ceil(REQUESTS).max(1));
    shared.draw(|choices| {
        let chances = [Ratio::NEVER, Ratio::new(1, 50), Ratio::new(1, 20), Ratio::new(1, 8)];
        let net = NetWeather {
            drop: *choices.pick(STORM, &chances),
            duplicate: *choices.pick(STORM, &chances),
            delay: *choices.pick(STORM, &chances),
            latency_ms_min: 1,
            latency_ms_max: *choices.pick(STORM, &[1, 4, 12, 60]),
            delay_ms_max: 1500,
        };
        let kind = choices.draw(STORM, 6);
        Storm {
            net,
            action: *choices
                .pick(STORM, &[Ratio::new(3, 4), Ratio::NEVER, Ratio::new(1, 3), Ratio::new(1, 1)]),
            losses: choices.draw(STORM, 3) > 0,
            // Members with different KEKs refuse what is smuggled in for different reasons.
            keks: kind == 1,
            smuggles: kind == 2,
            until_ms: (10_000 + 2_000 * choices.draw(STORM, 12)) * more,
        }
    })
}

/// The machines of the founders and a spare one, and the foundation, which is the first entry of the log.
fn found(shared: &Shared, members: usize) {
    let mut books = shared.books();
    for at in 0..=members {
        let mut slot = Slot::new(&shared.setup, &shared.trace, member_id(at, 0), at < members);
        slot.tick_ms = 80 + 10 * shared.draw(|choices| choices.draw(DRIFT, 5));
        slot.enabled = shared.draw(|choices| choices.draw(GATE, 24)) != 1;
        books.slots.push(slot);
    }
    let founders = books.founders();
    books.members = Members { by: 1, conf: ConfState::from((founders, Vec::new())) };
    let foundation = Logged { term: 1, ..books.chronicle.log[0].clone() };
    let state = books.chronicle.newest().after(&Form::Nothing, Verdict::Applied);
    books.chronicle.log.push(foundation);
    books.chronicle.states.push(Arc::new(state));
}

/// The faults are over. Everyone gets what it needs to go on, and has so long to get to the end of the log. When that was.
async fn settle(machines: &mut Machines) -> u64 {
    let shared = Arc::clone(&machines.shared);
    let healed = now_ms();
    shared.note(0, "heal", [0; 3], || "no more faults".to_owned());
    shared.net.mend_all();
    shared.net.set_weather(NetWeather::CALM);
    {
        let mut books = shared.books();
        books.closing = true;
        books.storming = false;
        for slot in &mut books.slots {
            slot.disk.disarm();
            slot.sync_ms = 0;
            slot.enabled = true;
            if slot.keyring != Keyring::Right {
                slot.keyring = Keyring::Right;
                slot.stop = true;
            }
        }
    }
    let converged = converge(machines, healed + CONVERGENCE_MS_MAX).await;
    let mut books = shared.books();
    books.chronicle.end = match converged {
        Ok(at) => End { converged_ms: Some(at - healed), ..End::default() },
        Err(why) => End { waiting_for: Some(why), ..End::default() },
    };
    healed
}

/// Waits until nothing is left to do. When that was; what was left, where it took too long.
async fn converge(machines: &mut Machines, until: u64) -> Result<u64, String> {
    let mut since: Option<(u64, u64)> = None;
    loop {
        machines.step().await;
        let now = now_ms();
        let mut books = machines.shared.books();
        // Behind an entry that nobody applies no request is answered.
        books.hopeless |= books.chronicle.refused_at().is_some();
        match books.left_to_do() {
            None if now > until => return Err("the log goes on".to_owned()),
            None => {
                let length = books.chronicle.log.len() as u64;
                match since {
                    Some((then, known)) if known == length && now >= then + QUIET_MS => return Ok(then),
                    Some((_, known)) if known == length => {}
                    _ => since = Some((now, length)),
                }
            }
            Some(why) => {
                since = None;
                if now > until {
                    return Err(why);
                }
            }
        }
    }
}

/// One power loss more, of all of them.
///
/// Where the log holds an entry that everyone refuses, members get to the end of what can be applied only now, if not
/// before: raft-rs lets no member stand for election that has a change of the membership committed and not applied, and
/// one that is halted before that change stays so until it is restarted, with nothing durable that says it is committed.
async fn restart_all(machines: &mut Machines, healed: u64) {
    machines.lose_power_everywhere();
    machines.shared.books().hit(ClusterPlace::LastRestart);
    let until = now_ms() + CONVERGENCE_MS_MAX;
    let converged = converge(machines, until).await;
    let mut books = machines.shared.books();
    let refused = books.chronicle.refused_at().is_some();
    let end = &mut books.chronicle.end;
    match converged {
        Err(why) => {
            end.converged_ms = None;
            end.waiting_for = Some(format!("after the last restart: {why}"));
        }
        Ok(at) if refused && end.converged_ms.is_none() => {
            end.converged_ms = Some(at - healed);
            end.waiting_for = None;
        }
        Ok(_) => {}
    }
}

/// Everyone who is there looks at itself once more.
async fn look_at_all(machines: &mut Machines) {
    for slot in &mut machines.shared.books().slots {
        slot.look = slot.status == Status::Up;
    }
    for _ in 0..6 {
        machines.step().await;
    }
}

/// Ends everything that holds memory, and hands over what was recorded.
async fn finish(machines: &Machines, people: &madsim::runtime::NodeHandle) -> Record {
    let shared = &machines.shared;
    for handle in machines.nodes.iter().flatten() {
        Handle::current().kill(handle.id());
    }
    Handle::current().kill(people.id());
    shared.net.stop();
    sleep(Duration::from_millis(1)).await;
    let mut books = shared.books();
    for at in 0..books.slots.len() {
        books.check_disk(at);
        let slot = &books.slots[at];
        if slot.status == Status::Empty {
            continue;
        }
        let (id, applied, halted) = (slot.id, slot.applied, slot.halted);
        books.chronicle.end.applied.insert(id, applied);
        if let Some(halted) = halted {
            books.chronicle.end.halted.insert(id, halted);
        }
    }
    books.count_network(shared.net.counts());
    let none = Probes::new(&crate::probes::TABLE);
    Record {
        log_entries: books.chronicle.log.len() as u64 - 1,
        nodes: took_part(&books.chronicle).len() as u64,
        history: Vec::new(),
        chronicle: Some(Box::new(std::mem::replace(
            &mut books.chronicle,
            Chronicle::new(shared.setup.subject.rules()),
        ))),
        probes: std::mem::replace(&mut books.probes, none),
        entries: books.entries,
        crashes: books.crashes,
        coverage: std::mem::take(&mut books.coverage),
        simulated_ms: now_ms(),
        trace_hash: shared.trace.hash(),
        events: shared.trace.take_events(),
    }
}

/// Nodes to which something of the log has come. A spare machine that nobody has let in does not belong to them.
fn took_part(chronicle: &Chronicle) -> BTreeSet<u64> {
    let part = |event: &ClusterEvent| match event {
        ClusterEvent::Holds { node, index: 1.., .. }
        | ClusterEvent::Refused { node, .. }
        | ClusterEvent::Installed { node, .. }
        | ClusterEvent::Leads { node, .. } => Some(*node),
        _ => None,
    };
    let delivered = chronicle.nodes.iter().filter(|(_, history)| {
        history.iter().any(|event| matches!(event, Event::Delivered { .. } | Event::Halted { .. }))
    });
    chronicle.events.iter().filter_map(part).chain(delivered.map(|(node, _)| *node)).collect()
}
