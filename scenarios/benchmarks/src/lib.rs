//! Speed and sharpness beside others, measured.

pub mod floor;
pub mod peers;
pub mod plot;
pub mod survey;

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use scenarios::subject::Subject;
use scenarios::world::{Limits, Scenario, Setup};
use sim::{Lies, Profile};

/// Where reports and plots are written.
pub const OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/benchmarks/reports");

/// The hardened subject on an honest disk.
pub const fn setup(scenario: Scenario) -> Setup {
    let (profile, limits) = (Profile::Posix, Limits::NONE);
    Setup { scenario, subject: Subject::Hardened, profile, lies: Lies::NONE, limits }
}

/// How long the threads of this process have been on a processor, those that have ended included: what a shared machine
/// does besides is not in it.
///
/// # Panics
/// Where the system does not tell.
pub fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("every system tells it");
    let spent = |time: TimeVal| {
        let micros = u64::try_from(time.num_microseconds()).expect("time is not negative");
        Duration::from_micros(micros)
    };
    spent(usage.user_time()) + spent(usage.system_time())
}

/// The median of some times, the later of the middle two where their number is even.
///
/// # Panics
/// Where there are none.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
