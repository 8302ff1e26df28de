//! What goes wrong, and when: crashes at any call of any disk, alone or all at once, cuts, slow disks, lost sidecars,
//! lost disks, wrong KEKs, and a leader that proposes what nobody has checked. And the machines' care-taker, who
//! starts again what has ended.

use std::sync::Arc;
use std::time::Duration;

use applier::ResyncError;
use madsim::plugin::simulator;
use madsim::runtime::{Handle, NodeHandle};
use madsim::time::sleep;
use sim::{Address, Choices, Disk, DiskSim, Errno, Fate, Fault, NetWeather, Ratio, Site};

use super::budget::Licence;
use super::client::{Order, Place};
use super::shared::{Ended, Keyring, Shared, Slot, Status, now_ms};
use super::{node, start};
use crate::coverage;
use crate::history::Event;
use crate::probes::ClusterPlace;
use crate::subject::{SIDECAR, hardened};
use crate::workload;
use crate::world::node::Death;

const WAIT: Site = Site::new("nemesis.wait");
const WHAT: Site = Site::new("nemesis.what");
const WHO: Site = Site::new("nemesis.who");
const HOW: Site = Site::new("nemesis.how");
const AT: Site = Site::new("nemesis.at");
const START_CRASH: Site = Site::new("start.crash");
const DOWN: Site = Site::new("nemesis.down");
const CRASH_KIND: Site = Site::new("crash.kind");
const INVALID: Site = Site::new("nemesis.invalid");
const KEYRING: Site = Site::new("nemesis.keyring");
const RESYNC: Site = Site::new("nemesis.resync");

/// Simulated milliseconds between two looks at the machines.
const STEP_MS: u64 = 50;
/// Mutating calls within which an armed crash strikes: a start makes some 25, an entry some 20, an install some 30.
const CRASH_WINDOW: u64 = 48;
/// A start makes some of these.
const START_CALLS: u64 = 24;
/// Calls about names are few, and what a crash leaves depends on them most: one crash in four is aimed at one.
const NAME_WINDOW: u64 = 16;

/// How much goes wrong, drawn once a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storm {
    /// How messages fare while it lasts.
    pub(super) net: NetWeather,
    /// Chance that an action does anything at all.
    pub(super) action: Ratio,
    /// Whether machines may lose what they have made durable.
    pub(super) losses: bool,
    /// Whether machines may be started with another KEK, or without one.
    pub(super) keks: bool,
    /// Whether a leader smuggles an entry in.
    pub(super) smuggles: bool,
    /// When it ends at the latest, in simulated milliseconds.
    pub(super) until_ms: u64,
}

/// The care-taker.
pub(super) struct Machines {
    pub(super) shared: Arc<Shared>,
    pub(super) nodes: Vec<Option<NodeHandle>>,
    pub(super) storm: Storm,
    smuggled: bool,
}

impl Machines {
    pub(super) fn new(shared: &Arc<Shared>, slots: usize, storm: Storm) -> Machines {
        Machines { shared: Arc::clone(shared), nodes: vec![None; slots], storm, smuggled: false }
    }

    /// One look at the machines.
    pub(super) async fn step(&mut self) {
        sleep(Duration::from_millis(STEP_MS)).await;
        loop {
            let ended = self.shared.books().ended.pop_front();
            let Some((slot, how)) = ended else { break };
            self.after(slot, how);
        }
        let orders = self.shared.books().orders.clone();
        for order in orders {
            match order {
                Order::Settle(slot, place) => self.settle(slot, place),
                Order::Retire(slot) => self.retire(slot),
            }
            self.shared.books().orders.retain(|known| *known != order);
        }
        self.resync();
        let now = now_ms();
        for slot in 0..self.nodes.len() {
            let status = self.shared.books().slots[slot].status;
            if matches!(status, Status::Down(until) if until <= now) {
                self.up(slot);
            }
        }
    }

    /// The faults, until the clients are done or the storm is over.
    pub(super) async fn rage(&mut self) {
        self.shared.net.set_weather(self.storm.net);
        self.shared.books().storming = self.storm.action != Ratio::NEVER;
        let mut next = now_ms() + 400;
        while now_ms() < self.storm.until_ms && self.shared.books().clients > 0 {
            self.step().await;
            if now_ms() >= next {
                self.act();
                next = now_ms() + 200 + 200 * self.shared.draw(|choices| choices.draw(WAIT, 8));
            }
        }
    }

    /// The power fails for every machine, also for those whose process does not run.
    pub(super) fn lose_power_everywhere(&mut self) {
        for at in 0..self.nodes.len() {
            let status = self.shared.books().slots[at].status;
            if matches!(status, Status::Up | Status::Down(_)) {
                self.kill(at, Death::Power);
            }
        }
    }

    /// Starts the process of a slot. While the faults are on, one start in eight gets a crash of its own.
    pub(super) fn up(&mut self, at: usize) {
        let disk = {
            let mut books = self.shared.books();
            books.slots[at].status = Status::Up;
            books.storming.then(|| books.slots[at].disk.clone())
        };
        if let Some(disk) = disk
            && self.shared.draw(|choices| choices.chance(START_CRASH, Ratio::new(1, 8)))
        {
            self.shared.draw(|choices| arm_death(choices, AT, &disk, (START_CALLS, NAME_WINDOW)));
        }
        match &self.nodes[at] {
            Some(handle) => Handle::current().restart(handle.id()),
            None => {
                let shared = Arc::clone(&self.shared);
                let handle =
                    Handle::current().create_node().init(move || node::live(Arc::clone(&shared), at)).build();
                simulator::<DiskSim>().insert(handle.id(), self.shared.books().slots[at].disk.clone());
                self.nodes[at] = Some(handle);
            }
        }
    }

    /// Ends the process of a slot.
    pub(super) fn kill(&mut self, at: usize, death: Death) {
        let Some(handle) = &self.nodes[at] else { return };
        Handle::current().kill(handle.id());
        let mut books = self.shared.books();
        let id = books.slots[at].id;
        books.ended.retain(|(slot, _)| *slot != at);
        let disk = books.slots[at].disk.clone();
        let power = death == Death::Power || disk.sync_failed();
        let died_at = disk.died_at();
        drop(books);
        self.shared.net.unbind(Address(id));
        self.shared.note(id, "crash", [id, u64::from(power), 0], || {
            let place = died_at.as_ref().map_or("between two calls".to_owned(), |op| format!("at {op}"));
            let how = match (power, death) {
                (true, _) => "power loss",
                (false, Death::Clean) => Death::Clean.name(),
                (false, _) => "process crash",
            };
            format!("{place}: {how}")
        });
        let mut fate = coverage::Fate::ProcessCrash;
        if power {
            let report = self.shared.draw(|choices| disk.power_loss(choices));
            fate = coverage::Fate::of(&report);
            let torn = report.iter().any(|(_, fate)| matches!(fate, Fate::Torn { .. }));
            let dropped = report.iter().any(|(_, fate)| matches!(fate, Fate::Dropped));
            let mut books = self.shared.books();
            if torn {
                books.hit(ClusterPlace::FateTorn);
            }
            if dropped {
                books.hit(ClusterPlace::FateDropped);
            }
            books.hit(ClusterPlace::PowerLoss);
        } else {
            disk.process_crash();
            if death == Death::Process {
                self.shared.books().hit(ClusterPlace::ProcessCrash);
            }
        }
        if death != Death::Clean {
            self.shared.books().crashed(at, died_at.as_ref(), fate);
        }
        let back = now_ms() + 50 + 150 * self.shared.draw(|choices| choices.draw(DOWN, 8));
        self.shared.books().slots[at].status = Status::Down(back);
    }

    /// A process has ended by itself.
    fn after(&mut self, at: usize, how: Ended) {
        match how {
            Ended::Died => {
                if self.shared.books().slots[at].disk.died_at().is_some() {
                    self.shared.books().hit(ClusterPlace::CrashAtDiskCall);
                }
                let power = self.shared.draw(|choices| choices.draw(CRASH_KIND, 2)) == 1;
                self.kill(at, if power { Death::Power } else { Death::Process });
            }
            Ended::Stopped => {
                self.kill(at, Death::Clean);
                self.shared.books().hit(ClusterPlace::CleanStop);
            }
            Ended::Refused => {
                self.kill(at, Death::Clean);
                self.care_for_refused(at);
            }
        }
    }

    /// A start was refused. With the wrong KEK the way out is the right one; without its sidecar the member is lost.
    fn care_for_refused(&mut self, at: usize) {
        let mut books = self.shared.books();
        let slot = &mut books.slots[at];
        if slot.keyring != Keyring::Right {
            slot.keyring = Keyring::Right;
            return;
        }
        slot.status = Status::Refused;
    }

    /// A machine that is up.
    fn some_up(&self) -> Option<usize> {
        let up = self.shared.books().up();
        (!up.is_empty()).then(|| self.shared.draw(|choices| *choices.pick(WHO, &up)))
    }

    fn act(&mut self) {
        if !self.shared.draw(|choices| choices.chance(HOW, self.storm.action)) {
            return;
        }
        let Some(at) = self.some_up() else { return };
        match self.shared.draw(|choices| choices.draw(WHAT, 24)) {
            0 => {}
            // Whoever leads, with whatever is in flight.
            20 | 21 => {
                let leader = self.shared.books().leading();
                self.kill_by_draw(leader.unwrap_or(at));
            }
            1 | 2 => self.kill_by_draw(at),
            3..=6 => self.arm_crash(at),
            7 => {
                let up = self.shared.books().up();
                for at in up {
                    self.arm_crash(at);
                }
            }
            8 => self.lose_all_power(),
            9 | 10 => self.cut(at),
            11 | 12 => self.partition(at),
            13 => {
                self.shared.net.mend_all();
            }
            14 => {
                let slow = self.shared.draw(|choices| choices.draw(AT, 5)) * 40;
                let mut books = self.shared.books();
                books.slots[at].sync_ms = slow;
                if slow > 0 {
                    books.hit(ClusterPlace::SlowDisk);
                }
            }
            15 => self.arm_error(at),
            16 => self.shared.books().slots[at].stop = true,
            17 | 22 | 23 => self.lose(at),
            18 => self.change_kek(at),
            _ => self.smuggle(),
        }
    }

    fn kill_by_draw(&mut self, at: usize) {
        let power = self.shared.draw(|choices| choices.draw(CRASH_KIND, 2)) == 1;
        self.kill(at, if power { Death::Power } else { Death::Process });
    }

    fn arm_crash(&self, at: usize) {
        let disk = self.shared.books().slots[at].disk.clone();
        self.shared.draw(|choices| arm_death(choices, AT, &disk, (CRASH_WINDOW, NAME_WINDOW)));
    }

    fn arm_error(&self, at: usize) {
        let nth = self.shared.draw(|choices| choices.draw(AT, CRASH_WINDOW));
        let errno = *self.shared.draw(|choices| choices.pick(HOW, &[Errno::Eio, Errno::Enospc]));
        let disk = {
            let mut books = self.shared.books();
            books.slots[at].fault_armed = true;
            books.slots[at].disk.clone()
        };
        disk.arm(Fault::ErrorAtCall { call: disk.calls() + nth, errno });
    }

    fn lose_all_power(&mut self) {
        self.lose_power_everywhere();
        self.shared.books().hit(ClusterPlace::AllPowerLost);
    }

    fn cut(&self, at: usize) {
        let from = self.shared.books().slots[at].id;
        let ids = self.shared.books().ids();
        let to = *self.shared.draw(|choices| choices.pick(WHO, &ids));
        if from != to {
            self.shared.net.cut(Address(from), Address(to));
            self.shared.books().hit(ClusterPlace::LinkCut);
        }
    }

    /// One member alone, or two of them, against the rest.
    fn partition(&self, at: usize) {
        let ids = self.shared.books().ids();
        let first = self.shared.books().slots[at].id;
        let second = *self.shared.draw(|choices| choices.pick(WHO, &ids));
        let (one, other): (Vec<u64>, Vec<u64>) =
            ids.into_iter().partition(|id| *id == first || (*id == second && second != first));
        let addresses = |ids: Vec<u64>| ids.into_iter().map(Address).collect::<Vec<_>>();
        self.shared.net.partition(&addresses(one), &addresses(other));
        self.shared.books().hit(ClusterPlace::Partition);
    }

    /// A machine loses its sidecar, gets an older one back, or loses its disk.
    fn lose(&mut self, at: usize) {
        let licence = {
            let mut books = self.shared.books();
            let (id, voters) = (books.slots[at].id, books.members.conf.voters.clone());
            let ready = self.storm.losses
                && books.slots[at].floor > 0
                && !books.closing
                && books.members_know_it(Some(id));
            if ready { books.budget.grant(&voters, id, at) } else { None }
        };
        let Some(licence) = licence else { return };
        let how = self.shared.draw(|choices| choices.draw(AT, 5));
        self.kill(at, Death::Power);
        let mut books = self.shared.books();
        let slot = &mut books.slots[at];
        let disk = slot.disk.clone();
        // With an entry in flight the sidecar may be ahead of what the database proves, and nobody could tell.
        let settled = slot.in_flight.is_none() && slot.installing.is_empty();
        let now = disk.peek(SIDECAR).filter(|_| settled);
        let mut slot_robbed = false;
        match (how, &slot.old_sidecar) {
            (1 | 2, Some(old)) if now.is_some() && now.as_ref() != Some(old) => {
                forget(&licence, &disk, Some(old));
                slot.robbed = true;
                slot_robbed = true;
                books.hit(ClusterPlace::SidecarRolledBack);
            }
            (0..=3, _) if now.is_some() => {
                forget(&licence, &disk, None);
                slot.robbed = true;
                slot_robbed = true;
                books.hit(ClusterPlace::SidecarLost);
            }
            _ => {
                slot.status = Status::Refused;
                books.hit(ClusterPlace::DiskLost);
            }
        }
        let heals = slot_robbed && self.shared.setup.subject.admits();
        drop(books);
        // Some write the sidecar anew, and some replace the member.
        let heals = heals && self.shared.draw(|choices| choices.draw(RESYNC, 2)) == 1;
        let mut books = self.shared.books();
        match heals {
            true => books.resyncs.push(licence),
            false => books.lost.push(licence),
        }
    }

    /// Writes sidecars anew that were lost, as soon as a healthy member has lent a snapshot.
    fn resync(&mut self) {
        let mut books = self.shared.books();
        let refused = |licence: &Licence| books.slots[licence.slot].status == Status::Refused;
        let Some(due) = books.resyncs.iter().position(refused) else { return };
        let Some(snapshot) = books.snapshot.take() else {
            books.wants_snapshot = true;
            return;
        };
        let at = books.resyncs[due].slot;
        let (id, disk) = (books.slots[at].id, books.slots[at].disk.clone());
        disk.disarm();
        let surroundings = start::surroundings(&self.shared, &mut books, at);
        drop(books);
        let done = hardened::resync(&surroundings, &snapshot.machine);
        disk.process_crash();
        self.shared.note(id, "resync", [id, u64::from(done.is_ok()), 0], || format!("{done:?}"));
        let mut books = self.shared.books();
        match done {
            Ok(()) => {
                let licence = books.resyncs.remove(due);
                books.budget.restored(licence);
                books.hit(ClusterPlace::Resynced);
                books.remember(id, Event::SidecarWrittenAnew);
                let slot = &mut books.slots[at];
                slot.robbed = false;
                // The copy of before may differ from the new file in its creation times alone: giving that one back would
                // lose nothing, and nobody could tell.
                slot.old_sidecar = disk.peek(SIDECAR);
                // The sidecar is ahead of the database, until that has got as far.
                slot.installing.push(snapshot.machine.registry.applied_index.0);
                slot.status = Status::Down(now_ms());
            }
            // The next snapshot may be of a member that has come further.
            Err(ResyncError::PeerBehind { .. } | ResyncError::NoKeys { .. }) => {}
            Err(error) => {
                books.remember(id, Event::StartRefused { why: format!("resync: {error}"), faulted: false });
                let licence = books.resyncs.remove(due);
                books.lost.push(licence);
            }
        }
    }

    fn change_kek(&mut self, at: usize) {
        if !self.storm.keks {
            return;
        }
        let keyring = *self
            .shared
            .draw(|choices| choices.pick(KEYRING, &[Keyring::Right, Keyring::None, Keyring::Other]));
        if keyring == self.shared.books().slots[at].keyring {
            return;
        }
        self.kill(at, Death::Process);
        let mut books = self.shared.books();
        books.slots[at].keyring = keyring;
        books.hit(ClusterPlace::KekChanged);
    }

    /// Something that a leader would have refused.
    fn smuggle(&mut self) {
        if !self.storm.smuggles || self.smuggled {
            return;
        }
        let state = self.shared.books().chronicle.newest().clone();
        let rules = self.shared.setup.subject.rules();
        let which = self.shared.draw(|choices| choices.draw(INVALID, workload::INVALID_KINDS as u64));
        let form = workload::invalid(&state, which as usize);
        if state.judge(rules, true, &form).advances() {
            return;
        }
        self.smuggled = true;
        self.shared.books().smuggle = Some(form);
    }

    /// A new member on an empty disk.
    fn settle(&mut self, at: usize, place: Place) {
        let keyring = match self.storm.keks && self.shared.draw(|choices| choices.draw(KEYRING, 4)) == 1 {
            true => Keyring::Other,
            false => Keyring::Right,
        };
        let mut books = self.shared.books();
        let old = &mut books.slots[at];
        let generation = old.generation + 1;
        let (id, tick_ms, before) = (super::member_id(at, generation), old.tick_ms, old.writer);
        let writer = if place == Place::OldWriter { before } else { id };
        let fresh = Slot::new(&self.shared.setup, &self.shared.trace, id, false);
        books.slots[at] = Slot { generation, writer, keyring, tick_ms, ..fresh };
        if writer != id {
            books.hit(ClusterPlace::WriterIsBack);
        }
        let disk = books.slots[at].disk.clone();
        drop(books);
        if let Some(handle) = &self.nodes[at] {
            simulator::<DiskSim>().insert(handle.id(), disk);
        }
        self.up(at);
    }

    fn retire(&mut self, at: usize) {
        if self.shared.books().slots[at].status != Status::Empty {
            self.kill(at, Death::Clean);
        }
        let mut books = self.shared.books();
        books.slots[at].status = Status::Empty;
        // A sidecar that was to be written anew is not needed any more.
        if let Some(due) = books.resyncs.iter().position(|licence| licence.slot == at) {
            let licence = books.resyncs.remove(due);
            books.budget.restored(licence);
        }
        books.check_disk(at);
    }
}

/// A death within so many mutating calls from now, or within so many that are about names.
pub(super) fn arm_death(choices: &mut Choices, site: Site, disk: &Disk, (calls, names): (u64, u64)) {
    let nth = choices.draw(site, calls + names);
    disk.arm(match nth.checked_sub(calls) {
        None => Fault::DieAtMutation(disk.mutations() + nth),
        Some(nth) => Fault::DieAtNameCall(disk.name_calls() + nth),
    });
}

/// Takes the sidecar away, or puts another one in its place, as somebody with the wrong backup would.
fn forget(_: &Licence, disk: &Disk, instead: Option<&[u8]>) {
    disk.disarm();
    let mount = disk.mount();
    mount.unlink(SIDECAR).expect("it is there, and no fault is armed");
    if let Some(bytes) = instead {
        let file = mount.create_new(SIDECAR).expect("it was removed a moment ago");
        file.write_at(0, bytes).expect("no fault is armed");
        file.sync().expect("no fault is armed");
    }
    mount.sync_dir("/data").expect("no fault is armed");
}
