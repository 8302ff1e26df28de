//! The logs that are proven, each with what the model says of it.

use std::rc::Rc;

use applier::Purpose;

use crate::form::{Blob, BlobFault, Form, KeyNumber, Malformed, Row};
use crate::model::{Rules, State, Verdict};

/// One index of a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// An entry that was refused here before a leader put another one in its place.
    pub refused: Option<(Form, Verdict)>,
    /// The entry that stands here.
    pub form: Form,
    /// What the model says of it.
    pub verdict: Verdict,
}

/// A log and the model's states along it.
#[derive(Clone, Debug)]
pub struct Script {
    /// The log's name.
    pub name: String,
    /// The entries; that at index `i` is `entries[i - 1]`.
    pub entries: Vec<Entry>,
    /// The states: `states[i]` is that after the first `i` entries.
    pub states: Vec<Rc<State>>,
}

impl Script {
    /// Judges the forms one after the other. What is refused is replaced by a leader's no-op.
    pub fn new(name: String, rules: Rules, forms: &[Form]) -> Script {
        let mut states = vec![Rc::new(State::default())];
        let mut entries = Vec::new();
        for form in forms {
            let state = states.last().expect("there is always the state before the first entry");
            let verdict = state.judge(rules, true, form);
            let entry = if verdict.advances() {
                Entry { refused: None, form: form.clone(), verdict }
            } else {
                let refused = Some((form.clone(), verdict));
                Entry { refused, form: Form::Nothing, verdict: Verdict::Applied }
            };
            let next = state.after(&entry.form, entry.verdict);
            states.push(Rc::new(next));
            entries.push(entry);
        }
        Script { name, entries, states }
    }

    /// Index of the last entry.
    pub fn end(&self) -> u64 {
        self.entries.len() as u64
    }
}

const N1: u64 = 0x11;
const N2: u64 = 0x22;

const fn blob(key: u8) -> Blob {
    Blob { key: KeyNumber(key), seal: 0, fault: BlobFault::None }
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

/// The named logs.
pub fn named() -> Vec<(&'static str, Vec<Form>)> {
    let first = || bootstrap(&ROWS);
    let data = |value| Form::Data { key: 1, value };
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

/// The forms that [`every`] strings together: valid, duplicate, conflicting and malformed ones over few ids, nodes and
/// epochs.
pub fn alphabet() -> Vec<Form> {
    vec![
        Form::Nothing,
        Form::Data { key: 1, value: 1 },
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

/// Every log of one to `length` entries over the alphabet, shorter ones first.
pub fn every(length: u32) -> Vec<(String, Vec<Form>)> {
    let alphabet = alphabet();
    let mut logs: Vec<(String, Vec<Form>)> = Vec::new();
    let mut shorter = vec![(String::new(), Vec::new())];
    for _ in 0..length {
        let mut longer = Vec::new();
        for (name, forms) in &shorter {
            for (letter, form) in alphabet.iter().enumerate() {
                let forms = forms.iter().chain([form]).cloned().collect();
                let dot = if name.is_empty() { "" } else { "." };
                longer.push((format!("{name}{dot}{letter}"), forms));
            }
        }
        logs.extend(longer.iter().cloned());
        shorter = longer;
    }
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_of_two_entries_is_there_once() {
        let logs = every(2);
        let letters = alphabet().len();
        assert!(letters >= 12);
        assert_eq!(logs.len(), letters + letters * letters);
        let names: std::collections::BTreeSet<&String> = logs.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), logs.len());
    }

    #[test]
    fn the_alphabet_has_letters_that_each_verdict_falls_on() {
        let mut verdicts = std::collections::BTreeSet::new();
        for (name, forms) in every(2) {
            for entry in Script::new(name, Rules::Hardened, &forms).entries {
                verdicts.insert(entry.refused.map_or(entry.verdict, |(_, refused)| refused));
            }
        }
        assert!(verdicts.contains(&Verdict::Applied) && verdicts.contains(&Verdict::NoOp));
        assert!(verdicts.len() >= 9, "{verdicts:?}");
    }
}
