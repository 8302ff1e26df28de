//! The logs that are proven, each with what the model says of it.

use std::fmt;
use std::sync::Arc;

use applier::registry::{RegistrySnapshot, RowKey, WriterRow};
use applier::{Purpose, RaftIndex};

use crate::form::{Blob, BlobFault, CutoverFault, Form, KeyNumber, Malformed, Row, Seal};
use crate::model::{Rules, State, Verdict, Writer};
use crate::sealing;
use crate::subject::HostSnapshot;

/// One index of a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The entry that stands here.
    pub form: Form,
    /// The envelope that it stands in, behind a raft cutover.
    pub wrap: Option<Seal>,
    /// What the model says of it: it advances.
    pub verdict: Verdict,
}

/// A log and the model's states along it.
#[derive(Clone, Debug)]
pub struct Script {
    rules: Rules,
    /// The entries; that at index `i` is `entries[i - 1]`.
    pub entries: Vec<Entry>,
    /// The states: `states[i]` is that after the first `i` entries.
    pub states: Vec<Arc<State>>,
    /// Entries that are tried in every state in which the model refuses them.
    pub strangers: Vec<Form>,
    /// Whether the node itself claims epochs, in every state.
    pub claims: bool,
}

impl Script {
    /// An empty log.
    pub fn new(rules: Rules, strangers: &[Form]) -> Script {
        let states = vec![Arc::new(State::default())];
        Script { rules, entries: Vec::new(), states, strangers: strangers.to_vec(), claims: false }
    }

    /// Adds an entry. What is refused is replaced by a leader's no-op, as a log that goes on after it has one.
    pub fn push(&mut self, form: &Form) {
        let state = self.states.last().expect("there is always the state before the first entry");
        let wrap = wrap(state, state.index + 1);
        let verdict = state.judge_sealed(self.rules, true, form, wrap.as_ref());
        let entry = match verdict.advances() {
            true => Entry { form: form.clone(), wrap, verdict },
            false => Entry { form: Form::Nothing, wrap: None, verdict: Verdict::Applied },
        };
        self.states.push(Arc::new(state.after(&entry.form, entry.verdict)));
        self.entries.push(entry);
    }

    /// Index of the last entry.
    pub fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether nodes have a ring of two KEKs.
    pub fn rewraps(&self) -> bool {
        let forms = self.entries.iter().map(|entry| &entry.form).chain(&self.strangers);
        forms.into_iter().any(|form| matches!(form, Form::Rewrap { .. }))
    }

    /// The envelope of an entry that is tried at the index behind `index`, and is not the log's own.
    pub fn stranger_wrap(&self, index: u64) -> Option<Seal> {
        wrap(&self.states[index as usize], STRANGERS + index)
    }

    /// The first entry that a host still has, once a node has come to `index`: before a key is retired, those go that are
    /// in envelopes under it.
    pub fn kept_from(&self, index: u64) -> u64 {
        let next = usize::try_from(index).map_or(usize::MAX, |index| index + 1).min(self.entries.len());
        let retired: Vec<u32> =
            self.entries[..next].iter().filter_map(|entry| entry.form.retires()).collect();
        let is_under = |entry: &Entry| entry.wrap.is_some_and(|seal| retired.contains(&seal.dek));
        self.entries[..next].iter().rposition(is_under).map_or(1, |last| last as u64 + 2)
    }

    /// What a host's snapshot at an index holds, of a database that carries an index or not.
    pub fn snapshot(&self, index: u64, keeps_index: bool) -> HostSnapshot {
        let State { rows, data, writes, .. } = &*self.states[index as usize];
        let row = |(slot, row): (&(u32, u16), &Writer)| {
            let key = RowKey::of(slot.0, row.node);
            (key, WriterRow { full_node_id: row.node, first_seen: row.first, last_seen: row.last })
        };
        let applied_index = RaftIndex(if keeps_index { index } else { 0 });
        let registry = RegistrySnapshot { rows: rows.iter().map(row).collect(), applied_index };
        let stored = |(key, value): (&u64, &u64)| {
            let seal = writes.get(key).and_then(|write| write.seal);
            (*key, sealing::stored(*key, *value, seal.as_ref()))
        };
        HostSnapshot { registry, data: data.iter().map(stored).collect() }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in (1..).zip(&self.entries) {
            write!(f, "{}{index}: {}", if index > 1 { "; " } else { "" }, entry.form)?;
        }
        Ok(())
    }
}

/// Counts from here on are of nonces for entries that are not the log's own.
const STRANGERS: u64 = 1 << 32;

/// Behind a raft cutover, the envelope that the other node puts an entry into.
fn wrap(state: &State, count: u64) -> Option<Seal> {
    state.raft_cutover?;
    let dek = state.active_key(Purpose::Raft)?;
    Some(Seal { dek, key: state.keys[&dek].blob.key, node: N2, epoch: 1, count })
}

const N1: u64 = 0x11;
const N2: u64 = 0x22;

const fn blob(key: u8) -> Blob {
    Blob { key: KeyNumber(key), seal: 0, kek: 0, fault: BlobFault::None }
}

const fn register(dek: u32, node: u64, epoch: u16) -> Form {
    Form::Registration(Row { dek, node, epoch })
}

fn bootstrap(rows: &[Row]) -> Form {
    Form::Bootstrap { storage: 1, storage_blob: blob(1), raft: 2, raft_blob: blob(2), rows: rows.to_vec() }
}

const fn rotate(dek: u32, purpose: Purpose, key: u8, node: u64) -> Form {
    Form::Rotation { dek, purpose, blob: blob(key), row: Row { dek, node, epoch: 0 } }
}

const ROWS: [Row; 2] = [Row { dek: 1, node: N1, epoch: 0 }, Row { dek: 2, node: N1, epoch: 0 }];

const fn cut_over(purpose: Purpose, dek: u32, node: u64, epoch: u16) -> Form {
    Form::Cutover { purpose, dek, row: Row { dek, node, epoch }, fault: CutoverFault::None }
}

const fn retire(dek: u32, purpose: Purpose) -> Form {
    Form::Retirement { dek, purpose, row: Row { dek, node: N2, epoch: 0 }, carries_key: false }
}

/// Every key that is named by its id, wrapped under a KEK.
fn rewrap(generation: u32, kek: u8, seal: u8, keys: &[u8]) -> Form {
    let again = |key: &u8| (u32::from(*key), Blob { seal, kek, ..blob(*key) });
    Form::Rewrap { generation, kek, keys: keys.iter().map(again).collect() }
}

/// A value that the other node has sealed.
const fn sealed(key: u64, value: u64, dek: u32, epoch: u16) -> Form {
    let seal = Seal { dek, key: KeyNumber(dek as u8), node: N2, epoch, count: value };
    Form::Data { key, value, seal: Some(seal) }
}

/// The log in every state of which the node claims an epoch of its own.
pub const CLAIMS: &str = "claims";

/// Claims of the node itself between registrations of it, up to the end of all epochs, which a rotation cures.
fn claims() -> Vec<Form> {
    vec![
        bootstrap(&ROWS),
        register(1, N1, 2),
        register(1, N1, u16::MAX - 1),
        rotate(3, Purpose::Storage, 3, N1),
    ]
}

/// The named logs of a subject with these rules.
pub fn named(rules: Rules) -> Vec<(&'static str, Vec<Form>)> {
    let mut logs = merged();
    if rules.retire_and_rewrap() {
        logs.splice(
            1..1,
            [("epochs", epochs()), (CLAIMS, claims()), ("retirement", retirement()), ("rewrap", rewraps())],
        );
    }
    if rules.cut_over() {
        logs.insert(1, ("cutovers", cutovers()));
    }
    logs
}

/// Each envelope is switched on once, however often that is asked for, and what follows stands in it.
fn cutovers() -> Vec<Form> {
    vec![
        bootstrap(&ROWS),
        cut_over(Purpose::Storage, 1, N2, 1),
        sealed(1, 3, 1, 1),
        cut_over(Purpose::Storage, 1, N1, 0),
        cut_over(Purpose::Raft, 2, N2, 1),
        rotate(3, Purpose::Storage, 3, N1),
        cut_over(Purpose::Storage, 1, N1, 2),
        cut_over(Purpose::Raft, 1, N1, 0),
    ]
}

/// The epochs of the node itself rise between values that it has sealed in earlier lives.
fn epochs() -> Vec<Form> {
    let own = |value, epoch| {
        let seal = Seal { dek: 1, key: KeyNumber(1), node: N1, epoch, count: 1 };
        Form::Data { key: value, value, seal: Some(seal) }
    };
    vec![
        bootstrap(&ROWS),
        cut_over(Purpose::Storage, 1, N1, 1),
        own(3, 1),
        register(1, N1, 2),
        own(5, 2),
        register(1, N1, 4),
        own(7, 4),
    ]
}

/// A key of each purpose goes, after everything that was sealed under it.
fn retirement() -> Vec<Form> {
    vec![
        bootstrap(&ROWS),
        cut_over(Purpose::Raft, 2, N2, 1),
        cut_over(Purpose::Storage, 1, N2, 1),
        sealed(1, 4, 1, 1),
        rotate(3, Purpose::Storage, 3, N2),
        rotate(4, Purpose::Raft, 4, N2),
        register(3, N2, 1),
        sealed(1, 8, 3, 1),
        retire(1, Purpose::Storage),
        retire(2, Purpose::Raft),
    ]
}

/// The keys get the next KEK, and then other wrappings under the same.
fn rewraps() -> Vec<Form> {
    let under_next = |form| match form {
        Form::Rotation { dek, purpose, blob, row } => {
            Form::Rotation { dek, purpose, blob: Blob { kek: 1, ..blob }, row }
        }
        form => form,
    };
    vec![
        bootstrap(&ROWS),
        rotate(3, Purpose::Storage, 3, N1),
        rewrap(1, 1, 0, &[1, 2, 3]),
        under_next(rotate(4, Purpose::Raft, 4, N1)),
        rewrap(1, 1, 0, &[1, 2, 3]),
        retire(2, Purpose::Raft),
        rewrap(2, 1, 1, &[1, 3, 4]),
    ]
}

/// The logs of the reference as merged, and of every other subject as well.
fn merged() -> Vec<(&'static str, Vec<Form>)> {
    let first = || bootstrap(&ROWS);
    let data = |value| Form::Data { key: 1, value, seal: None };
    vec![
        ("first-bootstrap", vec![first()]),
        ("rotations", vec![first(), rotate(3, Purpose::Storage, 3, N1), rotate(4, Purpose::Raft, 4, N2)]),
        (
            "registrations",
            vec![first(), register(1, N1, 1), register(1, N2, 0), register(1, N1, 3), register(2, N2, 2)],
        ),
        (
            "duplicates",
            vec![
                first(),
                first(),
                rotate(3, Purpose::Storage, 3, N1),
                first(),
                rotate(3, Purpose::Storage, 3, N1),
                register(1, N1, 0),
            ],
        ),
        (
            "refusals",
            vec![
                rotate(3, Purpose::Storage, 3, N1),
                first(),
                rotate(3, Purpose::Storage, 1, N1),
                Form::Malformed(Malformed::TrailingByte),
                register(1, N1 + 0x5_0000, 1),
                rotate(3, Purpose::Storage, 3, N1),
            ],
        ),
        (
            "mixed",
            vec![
                data(1),
                first(),
                register(1, N2, 1),
                rotate(3, Purpose::Raft, 3, N2),
                data(5),
                rotate(4, Purpose::Storage, 4, N1),
            ],
        ),
    ]
}

/// The forms that logs of every kind are strung together from: valid, duplicate, conflicting and malformed ones over few ids, nodes and
/// epochs.
pub fn alphabet(rules: Rules) -> Vec<Form> {
    let mut forms = merged_alphabet();
    if rules.cut_over() {
        forms.push(cut_over(Purpose::Storage, 1, N1, 0));
        forms.push(cut_over(Purpose::Raft, 2, N1, 0));
    }
    if rules.retire_and_rewrap() {
        forms.extend([retire(1, Purpose::Storage), rewrap(1, 1, 0, &[1, 2])]);
    }
    forms
}

fn merged_alphabet() -> Vec<Form> {
    vec![
        Form::Nothing,
        Form::Data { key: 1, value: 1, seal: None },
        bootstrap(&ROWS),
        bootstrap(&[]),
        bootstrap(&[ROWS[0], Row { node: N1 + 0x1_0000, ..ROWS[0] }]),
        register(1, N1, 0),
        register(1, N1, 1),
        register(1, N2, 0),
        rotate(3, Purpose::Storage, 3, N1),
        rotate(4, Purpose::Raft, 4, N1),
        rotate(3, Purpose::Storage, 1, N1),
        rotate(2, Purpose::Storage, 5, N1),
        Form::Malformed(Malformed::ShortRegistration),
        Form::Malformed(Malformed::TruncatedRotation),
    ]
}
