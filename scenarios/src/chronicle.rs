//! What a run of a cluster recorded: a history for each node, one log that all of them must agree on, and what went on
//! between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::form::{Form, Seal};
use crate::history::History;
use crate::model::{Reason, Rules, State};
use crate::sealing::Use;
use crate::subject::Delivered;

/// Who asked for an entry: a client, and the number that it gave its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The client; 0 for what a leader adds by itself.
    pub client: u64,
    /// The client's own number of the request.
    pub number: u64,
}

/// One entry of the log, as the first node that applied it found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Term of the leader that appended it.
    pub term: u64,
    /// What it means. A membership change means nothing to the state machine.
    pub form: Form,
    /// How it was put into an envelope, where it is in one.
    pub wrap: Option<Seal>,
    /// Who asked for it.
    pub asked: Asked,
    /// Whether it changes the membership.
    pub membership: bool,
    /// Whether a leader that is wrong on purpose has proposed it without asking anyone.
    pub smuggled: bool,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its entry would be refused for this reason.
    Verdict(Reason),
    /// Administrative requests are not taken on this node.
    Closed,
    /// Some member could not apply it.
    Incapable(u64),
    /// The membership does not allow it.
    Membership,
    /// It is about a key that was active when it was asked for.
    Stale,
    /// It would retire a key that is referred to.
    InUse,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was applied, by the entry at this index where the node knows it.
    Done(Option<u64>),
    /// It was refused.
    Refused {
        /// Why.
        why: Refusal,
        /// Index of the state that it was judged against. A copy of the request that arrives later is judged anew.
        at: u64,
    },
}

/// One event between nodes.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    /// A node leads in a term.
    Leads {
        /// The node.
        node: u64,
        /// The term.
        term: u64,
    },
    /// A node was handed an entry that another one found different.
    Differs {
        /// The node.
        node: u64,
        /// Index of the entry.
        index: u64,
    },
    /// A node has applied an entry, and holds this.
    Holds {
        /// The node.
        node: u64,
        /// Index that it has applied.
        index: u64,
        /// Hash of active ids, wrapped bytes, rows and table.
        digest: u64,
    },
    /// A node has refused an entry.
    Refused {
        /// The node.
        node: u64,
        /// Index of the entry.
        index: u64,
        /// Its answer.
        answer: Delivered,
    },
    /// A node goes on behind an entry that it or another one has refused.
    PastRefusal {
        /// The node.
        node: u64,
        /// The index that it has reached.
        index: u64,
    },
    /// A node has taken a snapshot in.
    Installed {
        /// The node.
        node: u64,
        /// Index of the snapshot.
        index: u64,
        /// Keys that the log has installed up to there and the node has not, or not with these bytes.
        missing_keys: Vec<u32>,
    },
    /// A nonce was found in use: a leader has sealed with it, or a node has stored or applied what was sealed with it.
    Used {
        /// The node.
        node: u64,
        /// The use.
        used: Use,
    },
    /// The sidecar of a node that had one was taken away or replaced by an older one, and the node was started.
    StartedWithoutItsSidecar {
        /// The node.
        node: u64,
        /// The refusal; `None` where it started.
        refusal: Option<String>,
    },
    /// A client was told something.
    Told {
        /// Whose request it was.
        asked: Asked,
        /// What the request was; `None` for one about membership.
        form: Option<Form>,
        /// The answer.
        told: Told,
    },
}

/// How a run of a cluster ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Newest index that each machine's last life has applied.
    pub applied: BTreeMap<u64, u64>,
    /// Those whose last life stands before an entry that it refuses.
    pub halted: BTreeMap<u64, u64>,
    /// Simulated milliseconds from the end of the faults until all live members were at the end of the log. `None` where
    /// they did not get there in time.
    pub converged_ms: Option<u64>,
    /// What kept them from it.
    pub waiting_for: Option<String>,
}

/// Everything that was recorded.
#[derive(Clone, Debug)]
pub struct Chronicle {
    /// Whose verdicts count.
    pub rules: Rules,
    /// What each node went through, by its id.
    pub nodes: BTreeMap<u64, History>,
    /// The log. `log[0]` stands for what is before the first entry.
    pub log: Vec<Logged>,
    /// The model's states: `states[i]` is that after entry `i`. It ends before an entry that the model refuses.
    pub states: Vec<Arc<State>>,
    /// Everything else, in order.
    pub events: Vec<ClusterEvent>,
    /// How it ended.
    pub end: End,
}

impl Chronicle {
    /// Nothing but the state before the first entry.
    pub fn new(rules: Rules) -> Chronicle {
        let before = Logged {
            term: 0,
            form: Form::Nothing,
            wrap: None,
            asked: Asked::default(),
            membership: false,
            smuggled: false,
        };
        Chronicle {
            rules,
            nodes: BTreeMap::new(),
            log: vec![before],
            states: vec![Arc::new(State::default())],
            events: Vec::new(),
            end: End::default(),
        }
    }

    /// The newest state that the model knows.
    pub fn newest(&self) -> &Arc<State> {
        self.states.last().expect("there is always the state before the first entry")
    }

    /// Index of the entry that the model refuses, where the log has come to one.
    pub fn refused_at(&self) -> Option<u64> {
        // An entry that nobody has got past yet may just have been cut off by a crash.
        let next = self.log.get(self.states.len())?;
        let advances =
            self.newest().judge_sealed(self.rules, true, &next.form, next.wrap.as_ref()).advances();
        (!advances).then_some(self.states.len() as u64)
    }
}
