//! Speed and sharpness beside others, measured.

pub mod floor;
pub mod peers;
pub mod plot;
pub mod survey;

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use scenarios::subject::Subject;
use scenarios::world::{Scenario, Setup};

/// Where reports and plots are written.
pub const OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/benchmarks/reports");

/// The hardened subject on an honest disk.
pub const fn setup(scenario: Scenario) -> Setup {
    Setup::of(scenario, Subject::Hardened)
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

/// The middle one, the lower of two; `None` of nothing.
pub fn median<T: Copy + Ord>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_median_of_nothing() {
        assert_eq!(median::<u64>([]), None);
        assert_eq!(median([4, 1, 3, 2]), Some(2));
    }
}
