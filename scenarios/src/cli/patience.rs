//! When a long command has to come to its end: its time is up, or someone pressed Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::args::TimeLimit;
use super::now;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The status of a process that an interrupt has ended, as shells count it.
pub(super) const INTERRUPTED_STATUS: u8 = 130;

/// From now on the first interrupt asks the command for what it has so far, and the second ends it at once.
///
/// # Errors
/// If there is no such thing as an interrupt here.
pub(super) fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED_STATUS.into());
        }
    })
}

/// How long an interrupt may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether someone asked for an end.
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long a command may go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    began: Instant,
    limit: Option<Duration>,
}

impl Patience {
    /// From now on, and for so long.
    pub(super) fn begin(limit: Option<TimeLimit>) -> Patience {
        Patience { began: now(), limit: limit.map(|limit| limit.0) }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        interrupted() || self.limit.is_some_and(|limit| self.began.elapsed() >= limit)
    }

    /// Works, and sets `stop` as soon as it is over.
    pub(super) fn during<T>(&self, stop: &AtomicBool, work: impl FnOnce() -> T) -> T {
        let finished = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !finished.load(Ordering::Relaxed) {
                    if self.is_over() {
                        stop.store(true, Ordering::Relaxed);
                        return;
                    }
                    thread::sleep(LOOK_EVERY);
                }
            });
            // Also where the work panics: whoever looks would look for ever.
            let _finished = SetAtEnd(&finished);
            work()
        })
    }

    /// Seconds since it began.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
