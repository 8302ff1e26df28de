//! What happened, as a rolling hash and, when wanted, as lines of text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A shared record of what happened. Clones write into the same record.
///
/// The hash covers kinds and numbers only, never text or file contents, and is the same in debug and release
/// builds and on every platform. Two runs with equal tapes have equal hashes; where they do not, something
/// was decided behind the back of [`crate::Choices`].
#[derive(Clone, Debug)]
pub struct Trace {
    shared: Arc<Mutex<Record>>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps the hash only.
    pub fn hashing() -> Self {
        Self::from_record(Record::default())
    }

    /// A trace that also keeps one line of text per record.
    pub fn keeping() -> Self {
        Self::from_record(Record { hash: 0, lines: Some(Vec::new()) })
    }

    fn from_record(record: Record) -> Self {
        Self { shared: Arc::new(Mutex::new(record)) }
    }

    /// Adds a record: a kind, three numbers that say what it was about, and a text that is built only if
    /// lines are kept.
    pub fn record(&self, kind: &'static str, numbers: [u64; 3], text: impl FnOnce() -> String) {
        let mut bytes = [0; 24];
        for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let mut record = self.lock();
        // The hash so far seeds the next one, which makes the order of records count.
        record.hash = xxh3_64_with_seed(&bytes, xxh3_64_with_seed(kind.as_bytes(), record.hash));
        if let Some(lines) = &mut record.lines {
            lines.push(format!("{kind} {}", text()));
        }
    }

    /// The hash over all records so far; 0 if there are none.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The lines kept so far, each the kind and the text of a record; empty for a hashing trace.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone().unwrap_or_default()
    }

    /// Whether lines are kept.
    pub fn keeps_lines(&self) -> bool {
        self.lock().lines.is_some()
    }

    /// An independent copy that begins with all that was recorded so far.
    pub fn fork(&self) -> Self {
        Self::from_record(self.lock().clone())
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // A record is complete between any two statements, so a panic elsewhere while it was held harms
        // nothing.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_covers_kind_numbers_and_order_but_not_text() {
        let hash = |records: &[(&'static str, u64)], text: &str| {
            let trace = Trace::hashing();
            records.iter().for_each(|(kind, n)| trace.record(kind, [*n, 0, 0], || text.to_owned()));
            trace.hash()
        };
        let first = hash(&[("a", 1), ("b", 2)], "x");
        assert_eq!(first, hash(&[("a", 1), ("b", 2)], "y"));
        assert_ne!(first, hash(&[("b", 2), ("a", 1)], "x"));
        assert_ne!(first, hash(&[("a", 1), ("b", 3)], "x"));
        assert_ne!(first, hash(&[("a", 1), ("c", 2)], "x"));
    }

    #[test]
    fn hash_is_pinned() {
        let trace = Trace::keeping();
        trace.record("write", [1, 2, 3], || "/a".to_owned());
        assert_eq!(trace.hash(), 15_401_923_577_024_989_013);
        assert_eq!(trace.lines(), ["write /a"]);
    }

    #[test]
    fn a_fork_is_independent() {
        let trace = Trace::keeping();
        trace.record("one", [0; 3], String::new);
        let fork = trace.fork();
        assert_eq!(fork.hash(), trace.hash());
        fork.record("two", [0; 3], String::new);
        assert_ne!(fork.hash(), trace.hash());
        assert_eq!(trace.lines().len(), 1);
    }
}
