//! How messages fare: what may happen to one, drawn when it is sent.

use crate::{
    choices::{Choices, Ratio},
    site::Site,
};

const DROP: Site = Site::new("net.drop");
const LATENCY: Site = Site::new("net.latency");
const DELAY: Site = Site::new("net.delay");
const DELAY_MS: Site = Site::new("net.delay-ms");
const DUPLICATE: Site = Site::new("net.duplicate");

/// How messages fare, until it is set again.
///
/// Drawn per message, in this order: whether it is dropped (then that was all), its latency, whether it is
/// delayed and by how much, whether it is duplicated; then latency and delay of the copy. Nothing is drawn
/// where there is nothing to decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetWeather {
    /// How often a message is lost.
    pub drop: Ratio,
    /// How often a message arrives a second time, with a latency and a delay of its own.
    pub duplicate: Ratio,
    /// How often a message takes longer than its latency.
    pub delay: Ratio,
    /// Least time that a message takes.
    pub latency_ms_min: u64,
    /// Most time that a message takes if it is not delayed.
    pub latency_ms_max: u64,
    /// Most time that a delay adds; it adds at least 1 ms if that is not 0.
    pub delay_ms_max: u64,
}

impl NetWeather {
    /// Each message arrives once, after 1 ms; nothing is drawn.
    pub const CALM: Self = Self {
        drop: Ratio::NEVER,
        duplicate: Ratio::NEVER,
        delay: Ratio::NEVER,
        latency_ms_min: 1,
        latency_ms_max: 1,
        delay_ms_max: 0,
    };

    /// What becomes of a message; `None` if it is dropped.
    pub(super) fn draw(&self, choices: &mut Choices) -> Option<Arrivals> {
        if choices.chance(DROP, self.drop) {
            return None;
        }
        let first = self.draw_travel(choices);
        let copy = choices.chance(DUPLICATE, self.duplicate).then(|| self.draw_travel(choices));
        Some(Arrivals { first, copy })
    }

    fn draw_travel(&self, choices: &mut Choices) -> Travel {
        let latency_ms = choices.range(LATENCY, self.latency_ms_min..=self.latency_ms_max);
        let delayed = self.delay_ms_max > 0 && choices.chance(DELAY, self.delay);
        let delay_ms = if delayed { choices.range(DELAY_MS, 1..=self.delay_ms_max) } else { 0 };
        Travel { ms: latency_ms + delay_ms, delayed }
    }
}

/// A message that arrives, once or twice.
pub(super) struct Arrivals {
    pub(super) first: Travel,
    pub(super) copy: Option<Travel>,
}

pub(super) struct Travel {
    pub(super) ms: u64,
    pub(super) delayed: bool,
}
