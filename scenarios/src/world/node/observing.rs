//! Looking at a node, and what the model expects to be seen: after a crash there may be more than one answer.

use std::sync::Arc;

use super::Node;
use crate::history::{Event, Moment, Observation, SidecarSeen};
use crate::model::State;
use crate::probes::Place;
use crate::world::look::{Look, sealed};

impl Node<'_> {
    /// Looks at the node and records what is there beside what may be there.
    pub fn observe(&mut self, moment: Moment) {
        let Some(life) = &self.life else { return };
        let Some(look) = self.lookout.look(life.as_ref(), &self.disk) else { return };
        let Look { sidecar, memory, rows, data, stored, unreadable, uses, applied, .. } = look;
        self.withdrawable |= self.ring && life.can_withdraw_kek();
        uses.into_iter().for_each(|used| self.remember_use(used));
        let (sidecar_expected, database_expected) = self.expected();
        let observation = Observation {
            moment,
            sidecar,
            memory,
            rows,
            data,
            sealed: sealed(&stored),
            unreadable,
            applied,
            acknowledged: Arc::clone(self.state()),
            sidecar_expected,
            database_expected,
            rolled_back: self.rolled_back,
        };
        self.settle(&observation);
        self.remember(Event::Observed(Box::new(observation)));
    }

    /// The states that the sidecar and the database may be in, the ones that they must at least be in first.
    fn expected(&self) -> (Vec<Arc<State>>, Vec<Arc<State>>) {
        let at = |index: u64| Arc::clone(&self.states[index as usize]);
        let after = self.in_flight.map(|_| self.after_in_flight());
        let mut sidecar: Vec<Arc<State>> = vec![at(self.sidecar_floor)];
        let mut database: Vec<Arc<State>> = self.restoring_to.into_iter().map(at).collect();
        database.push(at(self.database_floor));
        // Delivered again after a rollback, and cut off: the database may have it or not.
        let above_floor = |index: &u64| (self.database_floor + 1..=self.frontier()).contains(index);
        database.extend(self.cut_off.filter(above_floor).map(at));
        if let Some(after) = after {
            if self.sidecar_shown {
                sidecar.clear();
            }
            sidecar.push(Arc::clone(&after));
            database.push(after);
        }
        (sidecar, database)
    }

    /// What a start has shown is acknowledged: no later crash may take it back.
    fn settle(&mut self, observation: &Observation) {
        self.rolled_back = false;
        let Some(applied) = observation.applied else { return };
        self.restoring_to = None;
        self.cut_off = None;
        if let SidecarSeen::Content { keys, .. } = &observation.sidecar
            && keys.keys().any(|id| self.newest_key_is_ahead(*id, applied))
        {
            self.hit(Place::SidecarAheadOfDatabase);
        }
        if observation.database_expected.iter().any(|state| state.index == applied) {
            self.database_floor = applied.min(self.frontier());
        }
        if let [old, new] = observation.sidecar_expected.as_slice() {
            self.sidecar_shown = !observation.sidecar.is_of(old) && observation.sidecar.is_of(new);
        }
    }

    /// Whether a key was installed by an entry that the database does not have.
    fn newest_key_is_ahead(&self, id: u32, applied: u64) -> bool {
        self.state().keys.get(&id).is_none_or(|key| key.by > applied)
    }

    fn after_in_flight(&self) -> Arc<State> {
        let next = self.frontier() + 1;
        Arc::new(self.state().after(&self.log[next as usize], self.judge(next)))
    }
}
