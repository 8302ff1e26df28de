//! A timeline in the Chrome trace-event format, which Perfetto and `chrome://tracing` open.
//!
//! Shape (the format's own document is "Trace Event Format"): one process, one thread per node; lives and entries are
//! nested slices (`B`, `E`), calls and everything else complete ones (`X`), messages flows (`s`, `f`) between them.
//! Times are microseconds.

use serde_json::{Value, json};

use super::{Clock, Kind, Moment, Timeline, Tone};

/// Microseconds that a moment takes, so that it can be seen.
const MOMENT_US: u64 = 1;
/// What a step of a world without time counts as.
const STEP_US: u64 = 10;

/// The whole file.
pub fn perfetto(timeline: &Timeline) -> Value {
    let mut writer = Writer { events: Vec::new(), open: Vec::new(), times: times(timeline) };
    writer.events.push(json!({
        "ph": "M", "pid": 1, "name": "process_name", "args": { "name": timeline.title },
    }));
    for lane in &timeline.lanes {
        writer.events.push(json!({
            "ph": "M", "pid": 1, "tid": lane.id, "name": "thread_name", "args": { "name": lane.name },
        }));
        writer.open.push((lane.id, Vec::new()));
    }
    timeline.events.iter().for_each(|moment| writer.add(moment));
    let end = writer.times.last().copied().unwrap_or(0) + STEP_US;
    let lanes: Vec<u64> = timeline.lanes.iter().map(|lane| lane.id).collect();
    lanes.into_iter().for_each(|lane| writer.close(lane, 0, end));
    json!({
        "displayTimeUnit": "ms",
        "otherData": { "reproduce": timeline.reproduce, "trace_hash": timeline.trace_hash },
        "traceEvents": writer.events,
    })
}

/// A time for each moment. Those of one millisecond follow each other by a microsecond.
fn times(timeline: &Timeline) -> Vec<u64> {
    let unit = if timeline.clock == Clock::Ms { 1000 } else { STEP_US };
    let mut last = None;
    let next = |moment: &Moment| {
        let time = (moment.at * unit).max(last.map_or(0, |last: u64| last + 2 * MOMENT_US));
        last = Some(time);
        time
    };
    timeline.events.iter().map(next).collect()
}

struct Writer {
    events: Vec<Value>,
    /// Slices that are open, by column.
    open: Vec<(u64, Vec<String>)>,
    times: Vec<u64>,
}

impl Writer {
    fn add(&mut self, moment: &Moment) {
        let (lane, time) = (moment.lane, self.times[moment.id]);
        match moment.kind {
            Kind::Start => {
                self.close(lane, 0, time);
                // A start that is refused is the end of one.
                if moment.tone != Tone::Warn {
                    self.begin(lane, format!("life {}", moment.life), time);
                }
            }
            Kind::Entry => {
                self.close(lane, 1, time);
                self.begin(lane, format!("{} {}", moment.name, moment.text), time);
            }
            _ => {}
        }
        let name = match moment.kind {
            Kind::Disk | Kind::Message | Kind::Step => format!("{} {}", moment.name, moment.text),
            _ => format!("{}: {}", moment.name, moment.text),
        };
        self.events.push(json!({
            "ph": "X", "pid": 1, "tid": lane, "ts": time, "dur": MOMENT_US, "cat": moment.kind, "name": name,
            "args": { "entry": moment.entry, "tone": moment.tone, "fate": moment.fate, "fates": moment.fates },
        }));
        if let (Some(to), Some(arrives)) = (moment.to, moment.arrives) {
            let flow = |ph: &str, lane: u64, time: u64| {
                json!({ "ph": ph, "pid": 1, "tid": lane, "ts": time, "id": moment.id, "cat": "message",
                    "name": moment.name, "bp": "e" })
            };
            let there = (arrives * 1000).max(time + MOMENT_US);
            self.events.push(flow("s", lane, time));
            // A flow ends in a slice.
            self.events.push(json!({ "ph": "X", "pid": 1, "tid": to, "ts": there, "dur": MOMENT_US,
                "cat": "message", "name": format!("{} arrives", moment.name) }));
            self.events.push(flow("f", to, there));
        }
        match moment.kind {
            Kind::Verdict => self.close(lane, 1, time + MOMENT_US),
            Kind::Crash => self.close(lane, 0, time + MOMENT_US),
            _ => {}
        }
    }

    fn begin(&mut self, lane: u64, name: String, time: u64) {
        self.events.push(json!({ "ph": "B", "pid": 1, "tid": lane, "ts": time, "name": name }));
        if let Some((_, open)) = self.open.iter_mut().find(|(id, _)| *id == lane) {
            open.push(name);
        }
    }

    /// Closes all slices of a column but the outermost `keep`.
    fn close(&mut self, lane: u64, keep: usize, time: u64) {
        let Some((_, open)) = self.open.iter_mut().find(|(id, _)| *id == lane) else { return };
        while open.len() > keep {
            let name = open.pop();
            self.events.push(json!({ "ph": "E", "pid": 1, "tid": lane, "ts": time, "name": name }));
        }
    }
}
