//! Calls that fail: every call of every stretch, in every way that the disk has for it, once a life.

use sim::{Errno, Fault, OpInfo, OpKind, SyncFailure};

use super::{Action, Closure, Errors, StateId, Station, is_out_of_step, step};
use crate::prove::life::{Actor, Stage, is_of_database};

const UNTOLD: &str = "losses that the disk reported to nobody, which nobody can survive";

impl Closure {
    /// Fails every call of each thing that a host can do next.
    pub(super) fn fail_every_call(
        &mut self,
        stage: &mut Stage<'_>,
        (id, started): (StateId, StateId),
        (database, kept): (u64, u64),
        station: &Station,
    ) {
        let mut actions =
            vec![(id, Action::Start), (started, Action::Restore(kept - 1)), (started, Action::Stop)];
        if database < stage.script.end() {
            actions.push((started, Action::Deliver(database + 1)));
        }
        for (before, action) in actions {
            if !self.failed.insert((before, action)) {
                continue;
            }
            for (call, op) in calls_of(stage, station, action) {
                for fault in menu(call, &op, self.errors) {
                    self.fail(stage, station, action, fault);
                }
            }
        }
    }

    fn fail(&mut self, stage: &mut Stage<'_>, station: &Station, action: Action, fault: Fault) {
        self.states.errors += 1;
        let disk = station.disk.fork();
        if action == Action::Start {
            disk.arm(fault);
        }
        let mut actor = Actor::start(stage, disk, &station.known, false);
        let mut done = actor.lives();
        if action != Action::Start {
            if !done {
                actor.end();
                return;
            }
            actor.points();
            actor.arm(fault);
            done = step(&mut actor, action);
        }
        let point = actor.point_of_fault(done, fault);
        let is_late = matches!(fault, Fault::FailSync { how: SyncFailure::ReportedLate, .. });
        let told = !is_late || actor.heard_of_failed_sync();
        let fenced = self.errors == Errors::Fenced && actor.is_fenced();
        let violations = actor.violations();
        actor.end();
        self.report(stage.script, &violations, station.origin, action);
        if violations.iter().any(is_out_of_step) {
            return;
        }
        if !told {
            *self.states.skipped.entry(UNTOLD.to_owned()).or_default() += 1;
            return;
        }
        match fenced {
            true => drop(self.images_of(stage, &point, station.origin, action)),
            false => drop(self.crash(stage, &point, station.origin, action)),
        }
    }
}

/// The calls that a stretch makes.
fn calls_of(stage: &mut Stage<'_>, station: &Station, action: Action) -> Vec<(u64, OpInfo)> {
    let disk = station.disk.fork();
    disk.keep_calls(action == Action::Start);
    let mut actor = Actor::start(stage, disk, &station.known, false);
    if action != Action::Start && actor.lives() {
        actor.keep_calls();
        step(&mut actor, action);
    }
    let calls = actor.calls();
    actor.end();
    calls
}

/// What can go wrong with a call.
fn menu(call: u64, op: &OpInfo, errors: Errors) -> Vec<Fault> {
    let mut menu = Vec::new();
    if op.kind.is_sync() {
        let is_offered = |how: &SyncFailure| match (how, op.kind) {
            // A directory is not closed, so that nobody would hear of a late error.
            (SyncFailure::ReportedLate, OpKind::SyncDir) => false,
            // A database that is told that its pages are safe goes on to write the header that points to them.
            (SyncFailure::ReportedLate, _) => errors == Errors::Unfenced || !is_of_database(op),
            _ => true,
        };
        menu.extend(SyncFailure::ALL.into_iter().filter(is_offered).map(|how| Fault::FailSync { call, how }));
    } else {
        menu.push(Fault::ErrorAtExactCall { call, errno: Errno::Eio });
    }
    if Errno::Enospc.can_hit(op.kind) {
        menu.push(Fault::ErrorAtExactCall { call, errno: Errno::Enospc });
    }
    if matches!(op.kind, OpKind::Read | OpKind::Write) {
        menu.push(Fault::ShortAtCall { call, bytes: 1 });
    }
    menu
}
