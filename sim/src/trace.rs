//! What happened, as a rolling hash and, when wanted, event by event.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::disk::{CrashReport, Disk};

/// A shared record of what happened. Clones write into the same record.
///
/// The hash covers kinds and numbers only, never text or file contents, and is the same in debug and release
/// builds and on every platform. Two runs with equal tapes have equal hashes; where they do not, something
/// was decided behind the back of [`crate::Choices`]. Who did it, when, and everything that [`Event`] has
/// beside kind and numbers are for people and not part of the hash.
#[derive(Clone, Debug)]
pub struct Trace {
    shared: Arc<Mutex<Record>>,
    who: u64,
}

#[derive(Clone, Debug, Default)]
struct Record {
    hash: u64,
    keep: Keep,
    events: Vec<Event>,
    clock: Option<Clock>,
}

/// Simulated milliseconds, where there is such a time at the moment.
pub type Clock = fn() -> Option<u64>;

/// What is kept beside the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Keep {
    #[default]
    Hash,
    Events,
    Disks,
}

/// One record, as it is kept.
#[derive(Clone)]
pub struct Event {
    /// Whose doing it is: what [`Trace::of`] was given, 0 if nothing.
    pub who: u64,
    /// Simulated milliseconds, 0 where there is no clock.
    pub at_ms: u64,
    /// What happened.
    pub kind: &'static str,
    /// What it was about.
    pub numbers: [u64; 3],
    /// The same for people.
    pub text: String,
    /// Where disks are kept: an independent copy of the disk just before this call.
    pub before: Option<Disk>,
    /// Where disks are kept: the same just after the end of a life.
    pub after: Option<Disk>,
    /// What a power loss did.
    pub crash: Option<Arc<CrashReport>>,
    /// What the recorder wanted to be kept beside.
    pub beside: Option<Beside>,
}

/// Something that only whoever recorded it knows.
pub type Beside = Arc<dyn Any + Send + Sync>;

impl Event {
    /// An event of which nothing more is known.
    fn new(who: u64, kind: &'static str, numbers: [u64; 3], text: String) -> Event {
        Event { who, at_ms: 0, kind, numbers, text, before: None, after: None, crash: None, beside: None }
    }
}

/// The line that a timeline of text has for it.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.text)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Trace {
    /// A trace that keeps the hash only.
    pub fn hashing() -> Self {
        Self::from_record(Record::default(), 0)
    }

    /// A trace that also keeps one [`Event`] per record.
    pub fn keeping() -> Self {
        Self::from_record(Record { keep: Keep::Events, ..Record::default() }, 0)
    }

    /// A trace that also keeps a copy of the disk with each of its events. They share pages, so this costs less
    /// than it sounds; it is meant for pictures of one run.
    pub fn filming() -> Self {
        Self::from_record(Record { keep: Keep::Disks, ..Record::default() }, 0)
    }

    fn from_record(record: Record, who: u64) -> Self {
        Self { shared: Arc::new(Mutex::new(record)), who }
    }

    /// A handle on the same record, for what `who` does.
    #[must_use]
    pub fn of(&self, who: u64) -> Self {
        Self { shared: self.shared.clone(), who }
    }

    /// Whose doing it is that is recorded through this handle.
    pub fn who(&self) -> u64 {
        self.who
    }

    /// Where kept events get their time from. It must not record anything.
    pub fn set_clock(&self, clock: Clock) {
        self.lock().clock = Some(clock);
    }

    /// Adds a record: a kind, three numbers that say what it was about, and a text that is built only if
    /// events are kept.
    pub fn record(&self, kind: &'static str, numbers: [u64; 3], text: impl FnOnce() -> String) {
        self.record_with(kind, numbers, text, |_, _| {});
    }

    /// The same, with more to keep. `more` is told whether disks are kept.
    pub(crate) fn record_with(
        &self,
        kind: &'static str,
        numbers: [u64; 3],
        text: impl FnOnce() -> String,
        more: impl FnOnce(&mut Event, bool),
    ) {
        let mut bytes = [0; 24];
        for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let mut record = self.lock();
        // The hash so far seeds the next one, which makes the order of records count.
        record.hash = xxh3_64_with_seed(&bytes, xxh3_64_with_seed(kind.as_bytes(), record.hash));
        if record.keep > Keep::Hash {
            let mut event = Event::new(self.who, kind, numbers, text());
            more(&mut event, record.keep == Keep::Disks);
            record.push(event);
        }
    }

    /// Adds an event that is no part of what happened and not of the hash: something for people to see.
    pub fn remark(
        &self,
        kind: &'static str,
        numbers: [u64; 3],
        said: impl FnOnce() -> (String, Option<Beside>),
    ) {
        let mut record = self.lock();
        if record.keep > Keep::Hash {
            let (text, beside) = said();
            record.push(Event { beside, ..Event::new(self.who, kind, numbers, text) });
        }
    }

    /// The hash over all records so far; 0 if there are none.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The events kept so far, remarks among them; none for a hashing trace.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// The same, handed over.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().events)
    }

    /// Whether disks are kept with them.
    pub(crate) fn keeps_disks(&self) -> bool {
        self.lock().keep == Keep::Disks
    }

    /// An independent copy that begins with all that was recorded so far.
    pub fn fork(&self) -> Self {
        Self::from_record(self.lock().clone(), self.who)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // A record is complete between any two statements, so a panic elsewhere while it was held harms
        // nothing.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn push(&mut self, event: Event) {
        let at_ms = self.clock.and_then(|clock| clock()).unwrap_or(0);
        self.events.push(Event { at_ms, ..event });
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
        assert_eq!(trace.events()[0].to_string(), "write /a");
    }

    #[test]
    fn a_fork_is_independent() {
        let trace = Trace::keeping();
        trace.record("one", [0; 3], String::new);
        let fork = trace.fork();
        assert_eq!(fork.hash(), trace.hash());
        fork.record("two", [0; 3], String::new);
        assert_ne!(fork.hash(), trace.hash());
        assert_eq!(trace.events().len(), 1);
    }

    #[test]
    fn who_when_and_remarks_are_kept_and_not_hashed() {
        let (plain, full) = (Trace::hashing(), Trace::keeping());
        full.set_clock(|| Some(7));
        plain.record("one", [1, 2, 3], String::new);
        full.of(5).record("one", [1, 2, 3], String::new);
        full.of(6).remark("aside", [0; 3], || ("text".to_owned(), Some(Arc::new(9_u8))));
        assert_eq!(plain.hash(), full.hash());
        let events = full.take_events();
        assert_eq!(events.iter().map(|event| (event.who, event.at_ms)).collect::<Vec<_>>(), [(5, 7), (6, 7)]);
        assert_eq!(events[1].beside.as_ref().and_then(|beside| beside.downcast_ref::<u8>()), Some(&9));
        assert!(full.events().is_empty() && plain.events().is_empty());
    }
}
