//! When a run is smaller than another.

use super::Shown;

/// How much there is to a run, by what a person has to read first: whoever looks at a run of three nodes and two entries
/// does not mind if one of its draws is a 7. Compared field by field, in this order. Every field is a natural number, so
/// no sequence of ever smaller sizes is endless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Nodes that took part: something of the log has come to them.
    pub nodes: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Crashes.
    pub crashes: u64,
    /// Draws that are not the calm answer: faults, late messages, unusual entries.
    pub unusual: u64,
    /// Draws: most of them are messages, disk operations whose fate was drawn, and looks at whether something happens.
    pub draws: u64,
    /// Sum of the values.
    pub sum: u128,
}

impl Size {
    /// The size of a run.
    pub fn of(shown: &Shown) -> Size {
        let draws = &shown.tape.0;
        Size {
            nodes: shown.nodes,
            entries: shown.entries,
            crashes: shown.crashes,
            unusual: draws.iter().filter(|draw| draw.value > 0).count() as u64,
            draws: draws.len() as u64,
            sum: draws.iter().map(|draw| u128::from(draw.value)).sum(),
        }
    }

    /// Whether so much is gone that coarse passes may find something again.
    pub(super) fn is_much_less_than(&self, before: &Size) -> bool {
        let fewer = |now: u64, before: u64| now + before / 8 + 1 < before;
        (self.nodes, self.entries) < (before.nodes, before.entries) || fewer(self.unusual, before.unusual)
    }
}
