//! A timeline as text: a column for each node, time downward.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

use super::{Clock, Kind, Moment, Timeline, Tone};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What one reads first: calls to the disk are counted where nothing came of them, heartbeats left out, what was
    /// logged too.
    Short,
    /// Everything.
    Full,
}

/// Columns of a node's own text, at least: beyond a screen's width it is the terminal that wraps.
const COLUMN_MIN: usize = 34;

/// Writes it, for a screen so many characters wide. Styles are always written.
///
/// # Errors
/// Those of the writer.
pub fn text(timeline: &Timeline, detail: Detail, width: usize, out: &mut impl Write) -> io::Result<()> {
    let table = Table::new(timeline, width);
    table.heading(out)?;
    let mut moments =
        timeline.events.iter().filter(|moment| detail == Detail::Full || is_read_first(moment)).peekable();
    while let Some(moment) = moments.next() {
        let mut calls = 1;
        if detail == Detail::Short && timeline.clock == Clock::Ms && is_plain_call(moment) {
            // Consecutive calls of one node that met nothing.
            while moments.next_if(|next| is_plain_call(next) && next.lane == moment.lane).is_some() {
                calls += 1;
            }
        }
        match calls {
            1 => table.row(moment, &sentence(timeline, moment), style(moment), out)?,
            _ => table.row(moment, &format!("{calls} calls to the disk"), Style::new().dimmed(), out)?,
        }
        for fate in &moment.fates {
            let more = if fate.detail.is_empty() { String::new() } else { format!(" ({})", fate.detail) };
            let style =
                if fate.fate == "kept" { Style::new().dimmed() } else { AnsiColor::Yellow.on_default() };
            table.continued(moment, &format!("  {}: {}{more}", fate.op, fate.fate), style, out)?;
        }
    }
    violations(timeline, out)
}

/// Whether it is shown where not everything is.
fn is_read_first(moment: &Moment) -> bool {
    match moment.kind {
        Kind::Log => false,
        Kind::Message => is_lost(moment) && !moment.name.starts_with("heartbeat"),
        _ => true,
    }
}

/// A message that never gets there: not one that comes late or twice.
fn is_lost(moment: &Moment) -> bool {
    let words = ["dropped", "cut off", "lost in a cut", "nobody is there"];
    moment.tone == Tone::Warn && words.iter().any(|word| moment.text.ends_with(word))
}

/// A call to the disk about which there is nothing to say.
fn is_plain_call(moment: &Moment) -> bool {
    let lost = matches!(moment.fate.as_deref(), Some("dropped" | "torn" | "unreachable" | "failed"));
    moment.kind == Kind::Step || (moment.kind == Kind::Disk && !lost)
}

fn sentence(timeline: &Timeline, moment: &Moment) -> String {
    let Moment { kind, name, text, .. } = moment;
    let mut sentence = match kind {
        Kind::Verdict if name == "answer" => format!("= {text}"),
        Kind::Verdict => format!("{} {text}", name.to_uppercase()),
        Kind::Start if name == "start" => format!("START life {}", moment.life),
        Kind::Start => format!("REFUSED {text}"),
        Kind::Entry => format!("{} {text}", name.to_uppercase()),
        // What became of each operation stands below it.
        Kind::Crash if !moment.fates.is_empty() => {
            format!("{}, {} operations were pending", name.to_uppercase(), moment.fates.len())
        }
        Kind::Crash => format!("{} {text}", name.to_uppercase()),
        Kind::Fault => format!("! {name} {text}"),
        Kind::Step => format!("- {name}: {text}"),
        Kind::Message => format!("> {name} to {}, {text}", timeline.lane_name(moment.to.unwrap_or(0))),
        Kind::Role => format!("LEADS {text}"),
        Kind::Log => format!(". {text}"),
        Kind::Violation => format!("VIOLATION {text}"),
        Kind::Disk | Kind::Client | Kind::World => format!("{name} {text}"),
    };
    if let Some(fate) = &moment.fate {
        sentence.push_str(&format!(" [{fate}]"));
    }
    if let Some(arrives) = moment.arrives.filter(|arrives| *arrives > moment.at) {
        sentence.push_str(&format!(", arrives after {} ms", arrives - moment.at));
    }
    sentence.trim_end().to_owned()
}

fn style(moment: &Moment) -> Style {
    match (moment.tone, moment.kind) {
        (Tone::Bad, _) => AnsiColor::Red.on_default().bold(),
        (_, Kind::Crash) => AnsiColor::Magenta.on_default().bold(),
        (Tone::Warn, _) => AnsiColor::Yellow.on_default(),
        (Tone::Good, _) => AnsiColor::Green.on_default(),
        (Tone::Plain, Kind::Entry | Kind::Start) => Style::new().bold(),
        (Tone::Plain, Kind::Disk | Kind::Log) => Style::new().dimmed(),
        (Tone::Plain, _) => Style::new(),
    }
}

struct Table<'a> {
    timeline: &'a Timeline,
    /// Characters of one column's text.
    column: usize,
    /// Characters of the time.
    time: usize,
}

impl<'a> Table<'a> {
    fn new(timeline: &'a Timeline, width: usize) -> Table<'a> {
        let lanes = timeline.lanes.len().max(1);
        let last = timeline.events.iter().map(|moment| moment.at).max().unwrap_or(0);
        let time = last.to_string().len().max(4);
        // A bar stands before each column.
        let column = width.saturating_sub(time + 1) / lanes;
        Table { timeline, column: column.saturating_sub(2).max(COLUMN_MIN), time }
    }

    fn heading(&self, out: &mut impl Write) -> io::Result<()> {
        let bold = Style::new().bold();
        let unit = if self.timeline.clock == Clock::Ms { "ms" } else { "step" };
        write!(out, "{bold}{unit:>time$}{bold:#}", time = self.time)?;
        for lane in &self.timeline.lanes {
            write!(out, " |{bold}{:<width$}{bold:#}", lane.name, width = self.column)?;
        }
        writeln!(out)
    }

    fn row(&self, moment: &Moment, text: &str, style: Style, out: &mut impl Write) -> io::Result<()> {
        let mut lines = self.wrap(text).into_iter();
        let first = lines.next().unwrap_or_default();
        self.line(&moment.at.to_string(), moment.lane, &first, style, out)?;
        lines.try_for_each(|line| self.line("", moment.lane, &line, style, out))
    }

    fn continued(&self, moment: &Moment, text: &str, style: Style, out: &mut impl Write) -> io::Result<()> {
        self.wrap(text).iter().try_for_each(|line| self.line("", moment.lane, line, style, out))
    }

    fn wrap(&self, text: &str) -> Vec<String> {
        let options = textwrap::Options::new(self.column).subsequent_indent("  ");
        textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()).collect()
    }

    fn line(&self, time: &str, lane: u64, text: &str, style: Style, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{time:>width$}", width = self.time)?;
        for column in &self.timeline.lanes {
            if column.id == lane {
                // Nothing is padded behind the last thing on a line.
                write!(out, " |{style}{text}{style:#}")?;
                break;
            }
            write!(out, " |{:width$}", "", width = self.column)?;
        }
        writeln!(out)
    }
}

fn violations(timeline: &Timeline, out: &mut impl Write) -> io::Result<()> {
    let red = AnsiColor::Red.on_default().bold();
    for broken in &timeline.violations {
        writeln!(out)?;
        writeln!(out, "{red}VIOLATION{red:#}  {}", broken.fingerprint)?;
        writeln!(out, "  {}", broken.says)?;
        match (&broken.expected, &broken.found) {
            (Some(expected), Some(found)) => difference(expected, found, out)?,
            _ => writeln!(out, "  {}", broken.evidence)?,
        }
    }
    Ok(())
}

/// What should have been and what was, line by line.
fn difference(expected: &str, found: &str, out: &mut impl Write) -> io::Result<()> {
    let (minus, plus) = (AnsiColor::Red.on_default(), AnsiColor::Green.on_default());
    writeln!(out, "  {minus}- expected{minus:#}  {plus}+ found{plus:#}")?;
    let diff = TextDiff::from_lines(expected, found);
    for group in diff.grouped_ops(3) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ("-", minus),
                ChangeTag::Insert => ("+", plus),
                ChangeTag::Equal => (" ", Style::new()),
            };
            writeln!(out, "  {style}{sign} {}{style:#}", change.value().trim_end_matches('\n'))?;
        }
    }
    Ok(())
}
