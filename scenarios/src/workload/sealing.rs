//! What came with envelopes: cutovers, retirements, rewraps, writers who register before they seal, and what they seal.

use std::collections::BTreeMap;

use applier::Purpose;
use sim::{Choices, Ratio, Site};

use super::{Mix, NODES, next};
use crate::form::{Blob, CutoverFault, Form, KeyNumber, Row, Seal};
use crate::model::{Rules, State};

const NEWS: Site = Site::new("log.news");
const CLASS: Site = Site::new("log.news-class");
const WHICH: Site = Site::new("log.news-key");
const NODE: Site = Site::new("log.news-node");
const STEP: Site = Site::new("log.news-epoch-step");
const WRITER: Site = Site::new("log.writer");

/// Writers that are not the node that is looked at.
const WRITERS: [u64; 3] = [NODES[1], NODES[2], NODES[3]];

/// How much of it a log has, drawn once a seed.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// Share of entries that are of these kinds.
    pub share: Ratio,
    /// Whether nodes have a ring of two KEKs, so that keys can be wrapped by the second.
    pub ring: bool,
}

impl News {
    /// Nothing of it.
    pub const NONE: News = News { share: Ratio::NEVER, ring: false };
}

/// Which nonces the writers of a world have used: for each key, node and epoch how many. No nonce is given out twice.
#[derive(Clone, Debug, Default)]
pub struct Book {
    counts: BTreeMap<(KeyNumber, u64, u16), u64>,
}

impl Book {
    /// The next seal of a node under its present epoch, that of a first claim where it has none.
    fn seal(&mut self, state: &State, dek: u32, node: u64, epoch: u16) -> Seal {
        let key = state.keys[&dek].blob.key;
        let count = self.counts.entry((key, node, epoch)).or_default();
        *count += 1;
        Seal { dek, key, node, epoch, count: *count }
    }

    /// Draws the next entry of a log whose accepted prefix led to `state`, and the envelope that it stands in.
    pub fn next(
        &mut self,
        choices: &mut Choices,
        (mix, news): (Mix, News),
        rules: Rules,
        state: &State,
    ) -> (Form, Option<Seal>) {
        let form = request(choices, news, rules, state).unwrap_or_else(|| next(choices, mix, state));
        let form = if rules.seal_before_the_log() { self.seal_value(choices, state, form) } else { form };
        self.enclose(choices, rules, state, form)
    }

    /// Behind the cutover a value is sealed by one of the writers; who has not registered does that first.
    fn seal_value(&mut self, choices: &mut Choices, state: &State, form: Form) -> Form {
        let Form::Data { key, value, seal: None } = form else { return form };
        let Some(dek) = state.storage_cutover.and(state.active_key(Purpose::Storage)) else { return form };
        let node = *choices.pick(WRITER, &WRITERS);
        match epoch_of(state, dek, node) {
            0 => Form::Registration(Row { dek, node, epoch: 1 }),
            epoch => Form::Data { key, value, seal: Some(self.seal(state, dek, node, epoch)) },
        }
    }

    /// Behind the cutover an entry stands in the envelope of a registered writer. Who is not registered registers, in an
    /// envelope under that very claim.
    fn enclose(
        &mut self,
        choices: &mut Choices,
        rules: Rules,
        state: &State,
        form: Form,
    ) -> (Form, Option<Seal>) {
        let Some(dek) = raft_key(rules, state).filter(|_| form != Form::Nothing) else { return (form, None) };
        let node = *choices.pick(WRITER, &WRITERS);
        match epoch_of(state, dek, node) {
            0 => {
                let seal = self.seal(state, dek, node, 1);
                (Form::Registration(Row { dek, node, epoch: 1 }), Some(seal))
            }
            epoch => (form, Some(self.seal(state, dek, node, epoch))),
        }
    }

    /// An envelope for an entry at the end of a log, where one is called for.
    pub fn envelope(&mut self, rules: Rules, state: &State, form: &Form) -> Option<Seal> {
        let dek = raft_key(rules, state).filter(|_| *form != Form::Nothing)?;
        let epoch = epoch_of(state, dek, WRITERS[0]).max(1);
        Some(self.seal(state, dek, WRITERS[0], epoch))
    }
}

/// Draws an entry of these kinds, as someone asks for it, or `None` where it is to be one of the others.
pub fn request(choices: &mut Choices, news: News, rules: Rules, state: &State) -> Option<Form> {
    let is_new = rules.cut_over() && state.active.is_some() && choices.chance(NEWS, news.share);
    is_new.then(|| draw(choices, news, rules, state))
}

fn raft_key(rules: Rules, state: &State) -> Option<u32> {
    state.raft_cutover.and(state.active_key(Purpose::Raft)).filter(|_| rules.cut_over())
}

/// The epoch of a node's row; 0 where it may not seal anything.
fn epoch_of(state: &State, dek: u32, node: u64) -> u16 {
    state.rows.get(&(dek, node as u16)).filter(|row| row.node == node).map_or(0, |row| row.last)
}

fn draw(choices: &mut Choices, news: News, rules: Rules, state: &State) -> Form {
    // 0 is a no-op, as everywhere.
    match choices.draw(CLASS, 14) {
        0 => Form::Nothing,
        1..=3 => cutover(choices, state, Purpose::Storage),
        4 => cutover(choices, state, Purpose::Raft),
        5..=6 => raise(choices, state),
        7 => data(choices, state),
        8..=11 if !rules.retire_and_rewrap() => data(choices, state),
        _ if !rules.retire_and_rewrap() => cutover(choices, state, Purpose::Storage),
        8..=9 => super::rotation(choices, state),
        10..=11 => retirement(choices, state),
        _ => rewrap(choices, news, state),
    }
}

fn data(choices: &mut Choices, state: &State) -> Form {
    Form::Data { key: choices.draw(WHICH, 4), value: state.index + 1, seal: None }
}

/// Fresh, repeated or stale, as it comes.
fn cutover(choices: &mut Choices, state: &State, purpose: Purpose) -> Form {
    let active = state.active_key(purpose).expect("bootstrapped");
    let ids: Vec<u32> = state.keys.keys().copied().collect();
    let dek = match choices.draw(WHICH, 5) {
        4 => *choices.pick(WHICH, &ids),
        _ => active,
    };
    // Mostly it is the leader that puts its own row into it, as it is.
    let node = *choices.pick(NODE, &[NODES[0], NODES[1], NODES[0], NODES[2]]);
    let epoch = epoch_of(state, dek, node) + *choices.pick(STEP, &[0, 1, 0, 2]);
    Form::Cutover { purpose, dek, row: Row { dek, node, epoch }, fault: CutoverFault::None }
}

/// A writer raises its epoch under an active key.
fn raise(choices: &mut Choices, state: &State) -> Form {
    let (storage, raft) = state.active.expect("bootstrapped");
    let dek = *choices.pick(WHICH, &[storage, raft]);
    let node = *choices.pick(NODE, &NODES);
    Form::Registration(Row { dek, node, epoch: epoch_of(state, dek, node) + 1 })
}

/// A key that is not in use any more, if there is one: no value is under it. Log entries may be, and then it is the
/// host's duty not to need them again.
fn retirement(choices: &mut Choices, state: &State) -> Form {
    let is_idle = |id: u32, purpose| {
        let is_read = state.writes.values().any(|write| write.seal.is_some_and(|seal| seal.dek == id));
        state.active_key(purpose) != Some(id) && !is_read
    };
    let idle: Vec<(u32, Purpose)> = state
        .keys
        .iter()
        .filter(|(id, key)| is_idle(**id, key.purpose))
        .map(|(id, key)| (*id, key.purpose))
        .collect();
    if idle.is_empty() {
        return Form::Nothing;
    }
    let (dek, purpose) = *choices.pick(WHICH, &idle);
    let node = *choices.pick(NODE, &NODES);
    Form::Retirement { dek, purpose, row: Row { dek, node, epoch: 0 }, carries_key: false }
}

fn rewrap(choices: &mut Choices, news: News, state: &State) -> Form {
    let next = if news.ring { 1 } else { state.kek.1 };
    let kek = *choices.pick(WHICH, &[next, state.kek.1]);
    // Wrapped by the same KEK once more, a key gets other bytes all the same.
    let seal = |blob: Blob| if blob.kek == kek { blob.seal + 1 } else { 0 };
    let again = |blob: Blob| Blob { seal: seal(blob), kek, ..blob };
    let keys = state.keys.iter().map(|(id, key)| (*id, again(key.blob))).collect();
    Form::Rewrap { generation: state.kek.0 + 1, kek, keys }
}
