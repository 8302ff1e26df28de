//! What a store should answer, said plainly.

use std::collections::BTreeMap;

use super::*;

/// A log as a map, its beginning, and what else is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) hard: HardState,
    pub(super) conf: ConfState,
    pub(super) kept: Snapshot,
    /// Index and term of the entry before the first.
    before: (u64, u64),
    log: BTreeMap<u64, Entry>,
}

impl Model {
    pub(super) fn founded(snapshot: &Snapshot) -> Model {
        let mut model = Model::default();
        model.install(snapshot.clone(), &HardState::default());
        model
    }

    pub(super) fn last(&self) -> u64 {
        self.log.last_key_value().map_or(self.before.0, |(index, _)| *index)
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        self.log.retain(|index, _| *index < entries[0].index);
        self.log.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
    }

    pub(super) fn compact(&mut self, snapshot: Snapshot, keep_from: u64) {
        self.kept = snapshot;
        while let Some(first) = self.log.first_entry().filter(|first| *first.key() < keep_from) {
            self.before = (*first.key(), first.get().term);
            first.remove();
        }
    }

    pub(super) fn install(&mut self, snapshot: Snapshot, hard: &HardState) {
        let (index, term) = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        self.log.clear();
        self.before = (index, term);
        self.hard = HardState { commit: index, ..hard.clone() };
        if term > hard.term {
            self.hard = HardState { term, commit: index, ..HardState::default() };
        }
        self.conf = snapshot.get_metadata().get_conf_state().clone();
        self.kept = snapshot;
    }

    pub(super) fn term(&self, index: u64) -> Result<u64, StorageError> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        match self.log.get(&index) {
            Some(entry) => Ok(entry.term),
            None if index < self.before.0 => Err(StorageError::Compacted),
            None => Err(StorageError::Unavailable),
        }
    }

    fn entries(&self, low: u64, high: u64, max: Option<u64>) -> Result<Vec<Entry>, StorageError> {
        if low <= self.before.0 {
            return Err(StorageError::Compacted);
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable);
        }
        let mut size = 0;
        let mut entries = Vec::new();
        for (_, entry) in self.log.range(low..high) {
            size += entry.write_to_bytes().expect("it encodes").len() as u64;
            if !entries.is_empty() && size > max.unwrap_or(u64::MAX) {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    /// Compares every answer of a store, also to what is out of its range.
    pub(super) fn check(&self, store: &Store) {
        let state = store.initial_state().expect("it is in memory");
        assert_eq!((&state.hard_state, &state.conf_state), (&self.hard, &self.conf));
        assert_eq!((store.hard(), store.conf(), store.kept()), (&self.hard, &self.conf, &self.kept));
        assert_eq!(store.first_index(), Ok(self.before.0 + 1));
        assert_eq!(store.last_index(), Ok(self.last()));
        let low = self.before.0.saturating_sub(2);
        let high = self.last() + 3;
        for from in low..=high {
            assert_eq!(store.term(from), self.term(from).map_err(raft::Error::from), "term of {from}");
            for to in from..=high {
                for max in [None, Some(0), Some(70), Some(200), Some(raft::NO_LIMIT)] {
                    let context = GetEntriesContext::empty(false);
                    let expected = self.entries(from, to, max).map_err(raft::Error::from);
                    assert_eq!(store.entries(from, to, max, context), expected, "{from}..{to} of {max:?}");
                }
            }
        }
        let index = self.kept.get_metadata().index;
        assert_eq!(store.snapshot_index(), index);
        for request in [0, index.saturating_sub(1), index, index + 1, index + 9] {
            let there = index > 0 && request <= index;
            let expected =
                there.then(|| self.kept.clone()).ok_or(StorageError::SnapshotTemporarilyUnavailable);
            assert_eq!(store.snapshot(request, 2), expected.map_err(raft::Error::from), "from {request}");
        }
    }
}
