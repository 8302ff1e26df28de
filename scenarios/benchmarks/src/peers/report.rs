//! What was found, as a table for people and as JSON.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::Harness;
use super::judge::Violation;
use super::variants::Variant;
use crate::median;

/// One search: until something was found, or the time was over.
#[derive(Clone, Debug)]
pub struct Run {
    /// How long it took.
    pub took: Duration,
    /// How many crash states were met.
    pub states: u64,
    /// What was found.
    pub caught: Option<Violation>,
    /// What was found before that and cannot be: no history of this variant on a POSIX disk shows the like.
    pub mistaken: Option<Violation>,
}

/// What one harness has to say of one variant.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its name.
    pub harness: &'static str,
    /// Every search.
    pub runs: Vec<Run>,
    /// Whether it is convicted without a crash, where real files have nothing against that: then it is the filesystem's
    /// model that is wrong, and the conviction says little.
    pub needs_no_crash: bool,
}

impl Cell {
    fn caught(&self) -> Vec<&Run> {
        self.runs.iter().filter(|run| run.caught.is_some()).collect()
    }

    /// The first thing that was found and cannot be.
    pub fn mistaken(&self) -> Option<&Violation> {
        self.runs.iter().find_map(|run| run.mistaken.as_ref())
    }

    /// What stands behind its numbers.
    fn marks(&self) -> &'static str {
        match (self.needs_no_crash, self.mistaken()) {
            (true, _) => " †",
            (false, Some(_)) => " ‡",
            (false, None) => "",
        }
    }

    /// Whether anything was found.
    pub fn is_caught(&self) -> bool {
        !self.caught().is_empty()
    }

    fn json(&self) -> Value {
        let caught = self.caught();
        let found = caught.first().and_then(|run| run.caught.as_ref()).map(Violation::to_string);
        json!({
            "harness": self.harness,
            "caught": caught.len(),
            "runs": self.runs.len(),
            "seconds": median(caught.iter().map(|run| run.took)).map(|took| took.as_secs_f64()),
            "states": median(caught.iter().map(|run| run.states)),
            "states_tried": self.runs.iter().map(|run| run.states).sum::<u64>(),
            "found": found,
            "needs_no_crash": self.needs_no_crash,
            "mistaken": self.mistaken().map(Violation::to_string),
        })
    }
}

/// `4.2 ms, 17 states`, or how long nothing was found.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caught = self.caught();
        if let Some(took) = median(caught.iter().map(|run| run.took)) {
            let states = median(caught.iter().map(|run| run.states)).unwrap_or_default();
            if caught.len() < self.runs.len() {
                write!(f, "{} of {}: ", caught.len(), self.runs.len())?;
            }
            return write!(f, "{}, {}{}", Pretty(took), Counted(states), self.marks());
        }
        let states = median(self.runs.iter().map(|run| run.states)).unwrap_or_default();
        write!(f, "–, {}{}", Counted(states), self.marks())
    }
}

struct Counted(u64);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
        let number = groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",");
        write!(f, "{number} {}", if self.0 == 1 { "state" } else { "states" })
    }
}

/// Two significant digits.
struct Pretty(Duration);

impl fmt::Display for Pretty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (value, unit) = if seconds < 1.0 { (seconds * 1e3, "ms") } else { (seconds, "s") };
        let decimals = if value < 10.0 { 1 } else { 0 };
        write!(f, "{value:.decimals$} {unit}")
    }
}

/// What all harnesses have to say of one variant.
#[derive(Clone, Debug)]
pub struct Row {
    /// The variant.
    pub variant: Variant,
    /// In the order of the harnesses.
    pub cells: Vec<Cell>,
}

/// The rows as Markdown.
pub fn markdown(rows: &[Row], harnesses: &[Box<dyn Harness>]) -> String {
    let names: Vec<&str> = harnesses.iter().map(|harness| harness.name()).collect();
    let mut table = format!("| variant | what it does | {} |\n", names.join(" | "));
    table.push_str(&format!("|---|---|{}\n", "---|".repeat(names.len())));
    for Row { variant, cells } in rows {
        let cells: Vec<String> = cells.iter().map(Cell::to_string).collect();
        let _ = writeln!(table, "| `{variant}` | {} | {} |", variant.says(), cells.join(" | "));
    }
    let wrong = || rows.iter().filter(|row| row.variant != Variant::Control);
    let total = |at: usize| {
        let caught = wrong().filter(|row| row.cells[at].is_caught());
        let artefacts = caught.clone().filter(|row| row.cells[at].needs_no_crash).count();
        let note = if artefacts > 0 { format!(", {artefacts} of them †") } else { String::new() };
        format!("{} of {}{note}", caught.count(), wrong().count())
    };
    let totals: Vec<String> = (0..names.len()).map(total).collect();
    let _ = writeln!(table, "| **caught** | | {} |", totals.join(" | "));
    table
}

/// The rows as JSON, with how they were come by.
pub fn json(rows: &[Row], seconds: f64, cores: usize) -> Value {
    let row = |row: &Row| {
        let cells: Vec<Value> = row.cells.iter().map(Cell::json).collect();
        json!({ "variant": row.variant.name(), "says": row.variant.says(), "harnesses": cells })
    };
    json!({ "seconds": seconds, "cores": cores, "variants": rows.iter().map(row).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::judge::What;

    fn run(ms: u64, states: u64, caught: bool) -> Run {
        let caught = caught.then(|| Violation::new(What::Start, "it does not"));
        Run { took: Duration::from_millis(ms), states, caught, mistaken: None }
    }

    #[track_caller]
    fn check(runs: Vec<Run>, needs_no_crash: bool, expected: &str) {
        assert_eq!(Cell { harness: "some", runs, needs_no_crash }.to_string(), expected);
    }

    #[test]
    fn a_cell_has_the_median_of_the_searches_that_found_something() {
        check(vec![run(30, 3, true), run(1, 1, true), run(2000, 200, true)], false, "30 ms, 3 states");
        check(vec![run(1500, 1, true), run(10_000, 4321, false)], false, "1 of 2: 1.5 s, 1 state");
    }

    #[test]
    fn a_cell_without_a_finding_says_how_much_was_tried() {
        check(vec![run(10_000, 1_234_567, false)], false, "–, 1,234,567 states");
    }

    #[test]
    fn a_conviction_that_needs_no_crash_is_marked() {
        check(vec![run(4, 0, true)], true, "4.0 ms, 0 states †");
    }

    #[test]
    fn a_search_that_was_mistaken_first_is_marked() {
        let mistaken = Some(Violation::new(What::Start, "it does not"));
        check(vec![Run { mistaken: mistaken.clone(), ..run(4, 2, true) }], false, "4.0 ms, 2 states ‡");
        check(vec![Run { mistaken, ..run(4, 2, false) }], false, "–, 2 states ‡");
    }
}
