//! How lives begin.

use std::sync::Arc;

use sim::Site;

use super::{Death, Node, Survived};
use crate::coverage::{Outcome, Phase};
use crate::form::Form;
use crate::history::{Event, Moment};
use crate::probes::Place;
use crate::seam::{SimFiles, SimKek};
use crate::subject::{OWN_NODE, Surroundings};
use crate::timeline::tap;
use crate::world::look;

const WITHDRAWN: Site = Site::new("host.kek-withdrawn");

impl Node<'_> {
    /// Starts a life, in which it may die or be refused.
    pub fn start(&mut self) -> Survived<()> {
        self.lives += 1;
        self.note("start", [self.lives, 0, 0], || format!("life {}", self.lives));
        self.files = SimFiles::new(self.disk.mount());
        self.faulted = false;
        self.fault_op = None;
        let armed = self.arm();
        let (kek, next_kek) = self.keks();
        let world = Surroundings {
            node: OWN_NODE,
            files: self.files.clone(),
            kek,
            next_kek,
            reads: Arc::clone(&self.reads),
            unix_seconds: 1_700_000_000 + 60 * self.lives,
            keyring: self.keyring,
            past: Arc::clone(&self.past),
        };
        let started = tap::member(OWN_NODE).in_scope(|| self.subject.start(&world));
        let faulted = self.fault_fired();
        if faulted {
            self.hit(Place::FaultInStart);
        }
        match started {
            Ok(life) => {
                look::show_memory(&self.trace, life.as_ref());
                self.life = Some(life);
            }
            Err(error) if self.disk.died_at().is_none() => {
                let why = refusal_name(&error).to_owned();
                self.note("refused", [0; 3], || format!("start: {error}"));
                self.remember(Event::StartRefused { why, faulted });
                self.came_to(if faulted { Outcome::CutOff } else { Outcome::Refused });
                if !faulted {
                    self.stuck = true;
                }
                self.die_of_fault();
                return Survived::No;
            }
            Err(_) => {}
        }
        if self.crashed(armed, Phase::Start) {
            return Survived::No;
        }
        self.disk.disarm();
        self.starts_cut_off = 0;
        if self.disk.sync_failed() {
            // The subject went on after a failed sync. The host does not.
            self.came_to(Outcome::CutOff);
            self.end(Death::Power);
            return Survived::No;
        }
        self.observe(Moment::Started);
        self.resolve_in_flight();
        Survived::Yes(())
    }

    /// The KEK that a life is started with, or both of them.
    fn keks(&mut self) -> (Arc<SimKek>, Option<Arc<SimKek>>) {
        let (first, next) = (Arc::clone(self.lookout.kek()), Arc::clone(self.lookout.next_kek()));
        if self.withdrawable && self.choices.draw(WITHDRAWN, 2) == 1 {
            self.hit(Place::FirstKekWithdrawn);
            return (next, None);
        }
        (first, self.ring.then_some(next))
    }

    /// Everything was delivered again that was there when this life began: the subject has a last look at itself, and may
    /// refuse to go on.
    pub fn end_replay(&mut self) -> Survived<()> {
        let Some(life) = self.life.as_mut() else { return Survived::No };
        let is_of_keys = |index: u64| self.log.get(index as usize).is_some_and(Form::is_of_keys);
        let key_entry_in = |from: u64, to: u64| Some((from + 1..=to).any(is_of_keys));
        let Err(why) = life.after_replay(&key_entry_in) else { return Survived::Yes(()) };
        self.note("refused", [0; 3], || format!("after the replay: {why}"));
        let faulted = self.faulted;
        self.remember(Event::StartRefused { why, faulted });
        self.stuck |= !faulted;
        self.die_of_fault();
        Survived::No
    }

    /// A subject with an index of its own says whether the interrupted entry made it. One whose index moves with some
    /// entries only says so of these, if they have.
    fn resolve_in_flight(&mut self) {
        let Some(index) = self.in_flight else { return self.came_to(Outcome::Started) };
        let tells = self.life.as_ref().is_some_and(|life| life.index().is_some());
        let survived = self.resume_after() == Some(index);
        self.came_to(match (survived, tells) {
            (true, _) => Outcome::EntrySurvived,
            (false, true) => Outcome::EntryLost,
            (false, false) => Outcome::Started,
        });
        if survived {
            self.hit(Place::UnknownOutcomeSurvived);
            let form = self.log[index as usize].clone();
            let expected = self.judge(index);
            self.acknowledge(index, &form, expected);
        } else if tells {
            self.hit(Place::UnknownOutcomeLost);
        }
    }
}

/// A refusal without what varies, as fingerprints need it.
pub(crate) fn refusal_name(error: &applier::StartError) -> &'static str {
    use applier::StartError as E;
    match error {
        E::Database(_) => "database",
        E::Registry(_) => "registry",
        E::Io(_) => "io",
        E::SidecarWrite(_) => "sidecar-write",
        E::Sidecar { .. } => "sidecar-damaged",
        E::DatabaseMissing { .. } => "database-missing",
        E::SidecarMissing { .. } => "sidecar-missing",
        E::SidecarStale { .. } => "sidecar-stale",
        E::KeyringRequired { .. } => "keyring-required",
        E::KekMismatch { .. } => "kek-mismatch",
        E::KekUnavailable(_) => "kek-unavailable",
        E::KekMissing { .. } => "kek-missing",
        E::EpochBehind { .. } => "epoch-behind",
        E::EqualKeyBytes(..) => "equal-key-bytes",
        E::KeyringPromised { .. } => "keyring-promised",
        E::OtherKek { .. } => "other-kek",
        E::SidecarPresentWithoutFlag { .. } => "sidecar-without-flag",
        E::KekRequiredWithFlag => "kek-required",
        E::SidecarPathRequiredWithFlag => "sidecar-path-required",
        E::UnsupportedFilesystem(_) => "unsupported-filesystem",
        E::CutoverDivergence { .. } => "cutover-divergence",
        E::NodeIdCollision { .. } => "node-id-collision",
        E::ShardGroups { .. } => "shard-groups",
    }
}
