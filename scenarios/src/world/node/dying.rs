//! How lives end: what goes wrong is drawn and armed before a step, and counted after it.

use std::sync::Arc;

use sim::{Errno, Fate, Fault, OpInfo, OpKind, Ratio, Site};

use super::{Death, LastCrash, Node};
use crate::coverage::{self, Outcome, Phase, Point};
use crate::probes::{Ending, Place, Step, crash};
use crate::subject::{DATABASE, SIDECAR, bury};

const CRASH: Site = Site::new("crash");
const CRASH_AT: Site = Site::new("crash.at");
const CRASH_KIND: Site = Site::new("crash.kind");
const FAULT: Site = Site::new("fault");
const FAULT_AT: Site = Site::new("fault.at");
const FAULT_KIND: Site = Site::new("fault.kind");

/// A start makes some 25 mutating calls and an entry some 20: about one crash in four comes after the last.
const CRASH_WINDOW: u64 = 24;
/// A start that creates the database makes some 25 more.
const CREATION_WINDOW: u64 = 48;
/// Calls about names are few, and what a crash leaves depends on them most: one crash in four is aimed at one.
const NAME_WINDOW: u64 = 8;
const FAULT_WINDOW: u64 = 40;

/// What was armed for a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    crash: bool,
    fault: bool,
    database: u64,
}

impl Node<'_> {
    /// Ends the life after an error of the disk: in a power loss if a sync failed, else as drawn.
    pub fn die_of_fault(&mut self) {
        let power = self.disk.sync_failed() || self.choices.draw(CRASH_KIND, 2) == 1;
        self.end(if power { Death::Power } else { Death::Process });
    }

    /// Ends the life as `death` says. What its objects still try to write goes nowhere, unless it is stopped cleanly.
    pub fn end(&mut self, death: Death) {
        if death != Death::Clean || self.disk.sync_failed() {
            self.die(death);
            return;
        }
        self.begin_end(death);
        self.hit(Place::CleanShutdown);
        let armed = self.arm();
        // Closing the database writes and syncs, so there is something to die in.
        self.life = None;
        if self.crashed(armed, Phase::Stop) {
            return;
        }
        self.fault_fired();
        match self.disk.sync_failed() {
            true => self.end(Death::Power),
            false => self.disk.process_crash(),
        }
    }

    fn begin_end(&mut self, death: Death) {
        self.last_crash = None;
        self.note("end", [death as u64, 0, 0], || format!("of life: {}", death.name()));
        self.disk.disarm();
    }

    /// Ends the life at once: in a power loss if a sync failed, else as `death` says. What became of what was pending.
    fn die(&mut self, death: Death) -> coverage::Fate {
        let power = death == Death::Power || self.disk.sync_failed();
        self.begin_end(if power { Death::Power } else { Death::Process });
        if !power {
            self.disk.process_crash();
            self.bury();
            return coverage::Fate::ProcessCrash;
        }
        let report = self.disk.power_loss(self.choices);
        self.bury();
        for (_, fate) in report.iter() {
            match fate {
                Fate::Kept | Fate::Unreachable => {}
                Fate::Dropped => self.hit(Place::FateDropped),
                Fate::Torn { .. } => self.hit(Place::FateTorn),
            }
        }
        coverage::Fate::of(&report)
    }

    /// Something has come of the last crash.
    pub(super) fn came_to(&mut self, outcome: Outcome) {
        self.coverage.came_to(&mut self.open, outcome);
    }

    /// Lets go of a life whose disk is out of its reach.
    pub(super) fn bury(&mut self) {
        bury(self.life.take());
    }

    /// Draws what goes wrong in the step to come.
    pub(super) fn arm(&mut self) -> Armed {
        let mut armed = Armed { crash: false, fault: false, database: 0 };
        let creates = !self.disk.exists(DATABASE);
        // A database is created once in a run, if at all, so this is the time to disturb it.
        let crash =
            if creates && self.weather.crash != Ratio::NEVER { Ratio::new(1, 2) } else { self.weather.crash };
        if self.crashes < self.weather.crashes_max && self.choices.chance(CRASH, crash) {
            let window = if creates { CREATION_WINDOW } else { CRASH_WINDOW };
            let at = self.choices.draw(CRASH_AT, window + NAME_WINDOW);
            self.disk.arm(match at.checked_sub(window) {
                None => Fault::DieAtMutation(self.disk.mutations() + at),
                Some(nth) => Fault::DieAtNameCall(self.disk.name_calls() + nth),
            });
            armed.crash = true;
        }
        if self.choices.chance(FAULT, self.weather.fault) {
            let call = self.disk.calls() + self.choices.draw(FAULT_AT, FAULT_WINDOW);
            match self.choices.draw(FAULT_KIND, 4) {
                0 => self.disk.arm(Fault::ErrorAtCall { call, errno: Errno::Eio }),
                1 => self.disk.arm(Fault::ErrorAtCall { call, errno: Errno::Enospc }),
                2 => self.lookout.kek().outage().set(true),
                // The database answers most reads from memory, where no error of the disk can reach them.
                _ => self.reads.set(true),
            }
            armed.fault = true;
        }
        armed.database = self.database_calls();
        armed
    }

    fn database_calls(&self) -> u64 {
        self.files.database_calls()
    }

    pub(super) fn has_fault_armed(&self, armed: Armed) -> bool {
        armed.fault && !armed.crash
    }

    /// Whether the step ended in a crash: at a call inside it, or after its last one.
    pub(super) fn crashed(&mut self, armed: Armed, phase: Phase) -> bool {
        let died = self.disk.died_at();
        if died.is_none() && !armed.crash {
            return false;
        }
        let in_start = phase == Phase::Start;
        let database_calls = self.database_calls() - armed.database;
        let step = match &died {
            Some(op) => Some(Step::of(op, database_calls)),
            None => (database_calls > 0).then_some(Step::DatabaseAfter),
        };
        let power = self.choices.draw(CRASH_KIND, 2) == 1;
        let death = if power || self.disk.sync_failed() { Death::Power } else { Death::Process };
        if let Some(op) = died.filter(|op| op.path.starts_with("/db")) {
            match op.kind {
                OpKind::Rename => self.hit(Place::CrashBeforeDatabaseIsNamed),
                OpKind::SyncDir => self.hit(Place::CrashBeforeDatabaseNameIsDurable),
                _ if op.path != DATABASE => self.hit(Place::CrashInDatabaseCreation),
                _ => {}
            }
        }
        self.crashes += 1;
        let number = step.map_or(0, |step| step as u64 + 1);
        self.note("crash", [number, death as u64, u64::from(in_start)], || {
            let place = step.map_or("with nothing written".to_owned(), |step| format!("at {}", step.name()));
            format!("{place}: {}", death.name())
        });
        match step {
            Some(step) => self.probe_crash(step, death, in_start),
            None => self.hit(Place::CrashWithNothingWritten),
        }
        self.fault_fired();
        if in_start {
            self.came_to(Outcome::CutOff);
        }
        let events = self.history.len();
        let fate = self.die(death);
        self.open = Some(self.coverage.died(Point::at(phase, step), fate, events));
        self.last_crash = step.map(|step| LastCrash { step, death });
        true
    }

    fn probe_crash(&mut self, step: Step, death: Death, in_start: bool) {
        let ending = match (death, in_start, self.starts_cut_off) {
            (Death::Power, true, 0) => Some(Ending::PowerLossInStart),
            (Death::Power, true, _) => Some(Ending::PowerLossInSecondStart),
            (Death::Power, false, _) => Some(Ending::PowerLoss),
            (_, true, _) => None,
            (_, false, _) => Some(Ending::ProcessCrash),
        };
        if let Some(ending) = ending {
            self.probes.hit(crash(step, ending));
        }
        if let (Death::Power, Some(last)) = (death, self.last_crash)
            && last.death == Death::Process
        {
            self.probes.hit(crash(last.step, Ending::ProcessThenPower));
        }
        self.starts_cut_off = if in_start { self.starts_cut_off + 1 } else { 0 };
    }

    /// Counts an armed error that was delivered. Whether this life has met one: a database that met one refuses to go on.
    pub(super) fn fault_fired(&mut self) -> bool {
        let kek = Arc::clone(self.lookout.kek());
        let reads = Arc::clone(&self.reads);
        for (outage, place) in [(&*reads, Place::FaultRegistryRead), (kek.outage(), Place::FaultKek)] {
            outage.set(false);
            if outage.take_met() {
                self.hit(place);
                self.faulted = true;
            }
        }
        if let Some((op, errno)) = self.disk.take_fault() {
            self.hit(match errno {
                Errno::Eio if op.kind.is_sync() => Place::FaultFailedSync,
                Errno::Eio => Place::FaultEio,
                Errno::Enospc => Place::FaultEnospc,
            });
            self.fault_op = Some(op);
            self.faulted = true;
        }
        self.faulted
    }
}

/// Whether a call belongs to the sidecar's temporary file before that gets its final name.
pub(crate) fn is_before_rename(op: &OpInfo) -> bool {
    op.path.starts_with(SIDECAR) && !matches!(op.kind, OpKind::Rename | OpKind::SyncDir)
}
