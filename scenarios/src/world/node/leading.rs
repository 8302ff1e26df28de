//! The node as a leader: it claims, and seals with what it has claimed.

use applier::Purpose;
use applier::wire::{self, Entry};

use super::{Node, Survived};
use crate::coverage::Phase;
use crate::form::{Form, Row, Seal};
use crate::history::Event;
use crate::probes::Place;
use crate::sealing::{self, Envelope};
use crate::subject::{Claimed, OWN_NODE};
use crate::timeline::tap;

impl Node<'_> {
    /// As the leader of `term`, asks to seal with the active key of a purpose. The node may die in it.
    pub fn claim(&mut self, term: u64, purpose: Purpose) -> Survived<Claimed> {
        self.note("claim", [term, u64::from(purpose == Purpose::Raft), 0], || {
            format!("{purpose:?} in term {term}")
        });
        let armed = self.arm();
        let life = self.life.as_mut().expect("only a live node leads");
        let claimed = tap::member(OWN_NODE).in_scope(|| life.claim(term, purpose));
        if self.crashed(armed, Phase::Claim) {
            self.hit(Place::CrashInClaim);
            return Survived::No;
        }
        let faulted = self.fault_fired();
        self.disk.disarm();
        self.note("claimed", [0; 3], || format!("{claimed:?}"));
        match &claimed {
            Claimed::Propose(_) => self.hit(Place::ClaimMade),
            Claimed::Held => self.hit(Place::ClaimHeld),
            Claimed::No(_) => {}
            Claimed::Halted(why) => {
                if !faulted {
                    self.remember(Event::ClaimFailed { step: "halted", why: why.clone() });
                }
                self.die_of_fault();
                return Survived::No;
            }
        }
        Survived::Yes(claimed)
    }

    /// What the node wants to have in the log to hold a claim: a registration of its own.
    pub fn registration(&mut self, payload: &[u8]) -> Option<Form> {
        match Entry::decode(payload) {
            Ok(Entry::Registration(wire::Row { dek_id, full_node_id: OWN_NODE, local_epoch })) => {
                let row = Row { dek: dek_id, node: OWN_NODE, epoch: local_epoch };
                Some(Form::Registration(row))
            }
            other => {
                self.remember(Event::ClaimFailed { step: "no-registration", why: format!("{other:?}") });
                None
            }
        }
    }

    /// Whether an error was injected into this life: what fails after it may be its doing.
    pub const fn has_met_a_fault(&self) -> bool {
        self.faulted
    }

    /// A claim was made, and it has not come to what it should.
    pub fn claim_failed(&mut self, step: &'static str, why: String) {
        self.remember(Event::ClaimFailed { step, why });
    }

    /// Has the node seal a value, and holds it against what the harness makes of the same nonce.
    pub fn sealed_value(&mut self, term: u64, key: u64, value: u64) -> Option<Form> {
        let life = self.life.as_mut().expect("only a live node leads");
        let stored = life.seal_value(term, key, value)?;
        let seal =
            sealing::envelope_of(&stored).and_then(|envelope| self.seal_of(&envelope, Purpose::Storage));
        match seal.filter(|seal| sealing::stored(key, value, Some(seal)) == stored) {
            Some(seal) => {
                self.hit(Place::SealedByTheNode);
                self.remember_use(seal.of_value(key, value));
                Some(Form::Data { key, value, seal: Some(seal) })
            }
            None => {
                self.remember(Event::SealedWrongly { why: format!("value {value} of {key}: {stored:02x?}") });
                None
            }
        }
    }

    /// The same with a log entry.
    pub fn sealed_entry(&mut self, term: u64, form: &Form) -> Option<Seal> {
        let clear = self.lookout.clear_entry(form)?;
        let life = self.life.as_mut().expect("only a live node leads");
        let bytes = life.seal_entry(term, &clear)?;
        let seal = Envelope::of(&bytes).and_then(|envelope| self.seal_of(&envelope, Purpose::Raft));
        match seal.filter(|seal| sealing::seal_entry(seal, &clear) == bytes) {
            Some(seal) => {
                self.hit(Place::EntrySealedByTheNode);
                self.remember_use(seal.of_entry(&clear));
                Some(seal)
            }
            None => {
                self.remember(Event::SealedWrongly { why: format!("entry {form}: {bytes:02x?}") });
                None
            }
        }
    }

    /// The seal that an envelope has, where it is one of this node under the active key.
    fn seal_of(&self, envelope: &Envelope<'_>, purpose: Purpose) -> Option<Seal> {
        let state = self.state();
        let key =
            state.keys.get(&envelope.dek).filter(|_| state.active_key(purpose) == Some(envelope.dek))?;
        envelope.seal(OWN_NODE, key.blob.key)
    }
}
