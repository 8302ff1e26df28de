//! The leader's side: which requests become entries, and when.
//!
//! [`Applier::admit`](crate::Applier::admit) says what a request would come to as the next entry of this node's applied
//! state. That is what it comes to on every node if three things hold, and [`Leadership`] keeps count of them: the
//! applied state has everything that was committed before (this leader's own first entry is applied), no other request
//! is on its way (one in flight), and every member opens the keys with the same KEK (each was asked in this term, see
//! [`Applier::promise`](crate::Applier::promise)). It asks for the members because the state does not know them: a row that
//! takes the low 16 bits of one that has not claimed yet would be applied by all.
//!
//! Nothing in here knows how the log is replicated. The host tells of role, term and applied entries, and checks and
//! proposes in one step, so that none of them can change in between:
//!
//! ```
//! use applier::{Admission, Applier, Leadership, NodeId, RaftIndex, ports::Files, registry::Registry};
//!
//! fn request<F: Files, R: Registry>(
//!     leadership: &mut Leadership,
//!     applier: &Applier<F, R>,
//!     payload: &[u8],
//!     members: &[NodeId],
//!     propose: impl FnOnce(u64, &[u8]) -> RaftIndex,
//! ) -> Result<(), String> {
//!     let term = leadership.may_propose().map_err(|not_now| not_now.to_string())?;
//!     match applier.admit(payload, members) {
//!         Admission::Propose => leadership.took(propose(term, payload)),
//!         Admission::Duplicate { .. } => {}
//!         Admission::Stale => return Err("another key is active by now".to_owned()),
//!         Admission::Collides(clash) => return Err(clash.to_string()),
//!         Admission::Refused(reject) => return Err(reject.to_string()),
//!         Admission::Failed(error) => return Err(error.to_string()),
//!     }
//!     Ok(())
//! }
//! ```

use std::collections::BTreeMap;

use crate::ids::RaftIndex;
use crate::outcome::{ApplyError, NoOp, Reject};
use crate::ports::KekCheck;
use crate::registry::Clash;

/// What a leader does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Propose it: as the next entry it would be applied.
    Propose,
    /// Answer that it is done, and propose nothing.
    Duplicate {
        /// What it would come to.
        no_op: NoOp,
        /// Index of the entry that had the effect, where the state knows it: for everything but a registration.
        by: Option<RaftIndex>,
    },
    /// Answer that it is out of date, and propose nothing: it would enable an envelope under a key that is not the active
    /// one any more. Asked for the key that is, it may be admitted.
    Stale,
    /// Refuse it: every node would apply it, and behind its row a member with the same low 16 bits, which has none under that
    /// key yet, could never claim.
    Collides(Clash),
    /// Refuse it: every node would reject it.
    Refused(Reject),
    /// It could not be judged. The same request may be admitted later.
    Failed(ApplyError),
}

/// Whether a node takes administrative requests at all: what its operator has configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MutatorGate {
    /// Encryption was switched on.
    pub enabled: bool,
    /// A KEK was configured.
    pub kek: bool,
    /// A sidecar path was configured.
    pub sidecar: bool,
}

impl MutatorGate {
    /// Open only where everything is configured.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub const fn check(self) -> Result<(), GateClosed> {
        if !self.enabled {
            return Err(GateClosed::Disabled);
        }
        if !self.kek {
            return Err(GateClosed::NoKek);
        }
        if !self.sidecar {
            return Err(GateClosed::NoSidecarPath);
        }
        Ok(())
    }
}

/// What an operator has to configure before this node takes administrative requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateClosed {
    /// Encryption is off.
    #[error("encryption is not enabled on this node; enable it, and restart")]
    Disabled,
    /// There is no KEK.
    #[error("this node has no KEK; configure one, and restart")]
    NoKek,
    /// There is no sidecar path.
    #[error("this node has no sidecar path; configure one, and restart")]
    NoSidecarPath,
}

/// What a member answers when a leader asks what it is capable of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The check value of its KEK in force, or `None` where it has no keyring.
    pub keyring: Option<KekCheck>,
    /// The check value of the KEK that it is ready to have its keys wrapped under next, where it has another one for that.
    pub next: Option<KekCheck>,
}

/// What a leader must know of its term before it proposes. Terms and members are the host's own numbers.
#[derive(Debug, Default)]
pub struct Leadership {
    /// The term that this node leads in.
    term: Option<u64>,
    /// Whether an entry of that term was applied.
    ready: bool,
    in_flight: Option<RaftIndex>,
    /// The newest answer of each member in this term.
    answers: BTreeMap<u64, Capability>,
}

/// Why nothing is proposed at this time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// This node does not lead.
    #[error("this node does not lead the cluster; send the request to the leader")]
    NotLeader,
    /// The applied state may lack what earlier leaders have committed.
    #[error("this node leads, and has not yet applied the first entry of its term; try again shortly")]
    FirstEntryPending,
    /// One request at a time.
    #[error("the request at index {index} is not applied yet; try again when it is")]
    InFlight {
        /// Where it stands.
        index: RaftIndex,
    },
    /// Some members have not said what they are capable of.
    #[error("the members {members:?} have not answered in this term; see that they run, and try again")]
    Unprobed {
        /// Who has not.
        members: Vec<u64>,
    },
    /// A member has no keyring.
    #[error("member {member} has no KEK; configure one together with a sidecar path there, and restart it")]
    NoKeyring {
        /// Who.
        member: u64,
    },
    /// This node has no keyring.
    #[error("this node has no KEK; configure one together with a sidecar path, and restart")]
    NoKeyringHere,
    /// A member has another KEK than this node.
    #[error("member {member} has another KEK than this node; configure the same one on both, and restart")]
    OtherKek {
        /// Who.
        member: u64,
    },
    /// A member does not have the KEK that keys are to be wrapped under.
    #[error(
        "member {member} does not have the KEK with the check value {wanted}; configure it there as the current one, with \
         the one that it has as the previous one, and restart"
    )]
    LacksKek {
        /// Who.
        member: u64,
        /// The check value.
        wanted: KekCheck,
    },
}

impl Leadership {
    /// Of a node that does not lead.
    pub fn new() -> Leadership {
        Leadership::default()
    }

    /// The host's role: the term that this node leads in, or `None` where it does not lead. What was known of another
    /// term is forgotten: its request may never be committed, and its members may have been exchanged.
    pub fn leads(&mut self, term: Option<u64>) {
        if self.term != term {
            *self = Leadership { term, ..Leadership::default() };
        }
    }

    /// The entry at `index`, of whatever kind, was applied here; `term` is the entry's own.
    pub fn applied(&mut self, index: RaftIndex, term: u64) {
        if self.term == Some(term) {
            self.ready = true;
        }
        if self.in_flight.is_some_and(|taken| taken <= index) {
            self.in_flight = None;
        }
    }

    /// A member has answered a question of `term`. Only answers of the term that this node leads in count; the newest
    /// of each member does.
    pub fn answered(&mut self, term: u64, member: u64, capability: Capability) {
        if self.term == Some(term) {
            self.answers.insert(member, capability);
        }
    }

    /// A request was proposed at `index`, right after [`Leadership::may_propose`] allowed it.
    pub fn took(&mut self, index: RaftIndex) {
        debug_assert_eq!(self.in_flight, None, "one request at a time");
        self.in_flight = Some(index);
    }

    /// The term that this node leads in.
    ///
    /// # Errors
    /// [`NotNow::NotLeader`].
    pub fn leading(&self) -> Result<u64, NotNow> {
        self.term.ok_or(NotNow::NotLeader)
    }

    /// Whether the applied state has everything that was committed before this node's term.
    ///
    /// # Errors
    /// [`NotNow::FirstEntryPending`].
    pub fn ready(&self) -> Result<(), NotNow> {
        if self.ready { Ok(()) } else { Err(NotNow::FirstEntryPending) }
    }

    /// Whether no request is on its way.
    ///
    /// # Errors
    /// [`NotNow::InFlight`].
    pub fn free(&self) -> Result<(), NotNow> {
        match self.in_flight {
            None => Ok(()),
            Some(index) => Err(NotNow::InFlight { index }),
        }
    }

    /// Whether every one of `members` has answered in this term, with a keyring and the same KEK as this node's, whose
    /// check value is `own`. A bootstrap needs that of all members, and a new member before it is let in.
    ///
    /// # Errors
    /// [`NotNow::NotLeader`], [`NotNow::NoKeyringHere`], [`NotNow::Unprobed`] and then the first member that has no
    /// keyring or another one.
    pub fn capable(
        &self,
        members: impl IntoIterator<Item = u64>,
        own: Option<KekCheck>,
    ) -> Result<(), NotNow> {
        self.leading()?;
        let own = own.ok_or(NotNow::NoKeyringHere)?;
        self.all(members, |answer| answer.keyring == Some(own), |member| NotNow::OtherKek { member })
    }

    /// Whether every one of `members` has answered in this term, with the KEK whose check value is `wanted`, in force or
    /// as the next one. A rewrap needs that of all members, this node among them. A new member that comes to a cluster
    /// behind a rewrap needs it too, and is not [`capable`](Leadership::capable) before it has applied that rewrap itself; where
    /// the log, or the snapshot that it is to be sent, begins before that, it needs the previous KEK as well.
    ///
    /// # Errors
    /// [`NotNow::NotLeader`], [`NotNow::Unprobed`] and then the first member that does not have it, [`NotNow::NoKeyring`] or
    /// [`NotNow::LacksKek`].
    pub fn ready_to_rewrap(
        &self,
        members: impl IntoIterator<Item = u64>,
        wanted: KekCheck,
    ) -> Result<(), NotNow> {
        self.leading()?;
        let has = |answer: &Capability| [answer.keyring, answer.next].contains(&Some(wanted));
        self.all(members, has, |member| NotNow::LacksKek { member, wanted })
    }

    fn all(
        &self,
        members: impl IntoIterator<Item = u64>,
        is_fit: impl Fn(&Capability) -> bool,
        unfit: impl Fn(u64) -> NotNow,
    ) -> Result<(), NotNow> {
        let members: Vec<u64> = members.into_iter().collect();
        let unprobed = self.unprobed(members.iter().copied());
        if !unprobed.is_empty() {
            return Err(NotNow::Unprobed { members: unprobed });
        }
        for member in members {
            match &self.answers[&member] {
                answer if is_fit(answer) => {}
                Capability { keyring: None, .. } => return Err(NotNow::NoKeyring { member }),
                Capability { keyring: Some(_), .. } => return Err(unfit(member)),
            }
        }
        Ok(())
    }

    /// Which of `members` have not answered in this term, in the order given. One that has may be asked again, as
    /// after a restart with another configuration.
    pub fn unprobed(&self, members: impl IntoIterator<Item = u64>) -> Vec<u64> {
        members.into_iter().filter(|member| !self.answers.contains_key(member)).collect()
    }

    /// The term to propose in: this node leads, its applied state is complete and no request is on its way.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn may_propose(&self) -> Result<u64, NotNow> {
        let term = self.leading()?;
        self.ready()?;
        self.free()?;
        Ok(term)
    }
}

#[cfg(test)]
mod tests;
