//! Three ways to crash one applier: on turmoil's simulated filesystem, on real files under a process that is killed, and
//! on the disk of `sim`. What is compared is the disk and what a crash makes of it; the rest is one and the same code:
//!
//! - [`log`] is what is applied, and what there must be after each entry;
//! - [`variants`] are the applier as it is, and twelve wrong ones, made by what stands between it and its ports;
//! - [`mortal`] is a process that dies before a call of its choice, [`life`] what it does until then;
//! - [`judge`] is what must be found after any crash.
//!
//! Each of [`ours`], [`turmoil_disk`] and [`child`] is a [`Harness`]: it draws a history from [`Choices`], lets it happen,
//! and says what was found, and [`report`] puts that beside what the others found.

pub mod child;
pub mod judge;
pub mod life;
pub mod log;
pub mod mortal;
pub mod ours;
pub mod report;
pub mod turmoil_disk;
pub mod variants;

use sim::{Choices, Site};

use judge::Violation;
use variants::Variant;

/// Everything about a database's file that is no I/O goes straight through.
macro_rules! forward_locks {
    () => {
        fn close(&self) -> std::io::Result<()> {
            self.inner.close()
        }

        forward_locks!(try_lock_range, bool);
        forward_locks!(try_lock_shared_range, bool);
        forward_locks!(lock_range, ());
        forward_locks!(lock_shared_range, ());
        forward_locks!(unlock_range, ());
        forward_locks!(query_lock_range, bool);
    };
    ($method:ident, $answer:ty) => {
        fn $method(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<$answer, redb::BackendError> {
            self.inner.$method(start, end)
        }
    };
}
pub(crate) use forward_locks;

/// Before which of its calls a process dies.
pub(crate) const DEATH: Site = Site::new("peers.death");
/// How many crashes there are before the life that is left alone.
pub(crate) const CRASHES: Site = Site::new("peers.crashes");
/// Whether a crash is one of the process alone, or of the power.
pub(crate) const ENDING: Site = Site::new("peers.ending");
/// Which of many states a search goes on from.
pub(crate) const GOES_ON: Site = Site::new("peers.goes-on");

/// Which of the places to crash at in a recorded life is next.
pub(crate) const NEXT: Site = Site::new("peers.next");

/// The most crashes in a row.
pub(crate) const CRASHES_MAX: u64 = 3;

/// What came of a history.
#[derive(Debug, Default)]
pub struct Search {
    /// How many crash states were met: a crash each, the recovery from it, and the judgement of that.
    pub states: u64,
    /// The first thing that was wrong.
    pub caught: Option<Violation>,
}

/// A way to crash an applier.
pub trait Harness {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// Whether it may find what cannot be, since its disk is a model that is not put to the test here.
    fn is_in_doubt(&self) -> bool {
        false
    }

    /// Forgets everything: a search begins.
    fn begin(&mut self) {}

    /// A part of a search: crashes an applier from one to three times in a row and lets it come to the end of the log, or
    /// goes on from a state that was met before.
    fn history(&mut self, variant: Variant, choices: &mut Choices) -> Search;

    /// Two lives without a crash. What is found wrong with these is found without the help of a crash model; of a variant
    /// that real files have nothing against, it is the simulated disk that is wrong.
    fn undisturbed(&mut self, variant: Variant) -> Option<Violation>;
}
