//! What became of each call to the disk.

use std::collections::BTreeMap;

use sim::{CrashReport, Event, Pending};

use super::{Fate, Kind, Moment};

/// Calls that are neither durable nor lost yet, by whose disk it is.
#[derive(Debug, Default)]
pub(super) struct Fates {
    open: BTreeMap<u64, Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    moment: usize,
    kind: &'static str,
    numbers: [u64; 3],
    path: String,
    /// A disk that lies loses it all the same.
    synced: bool,
}

impl Open {
    fn parent(&self) -> &str {
        match self.path.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((dir, _)) => dir,
        }
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn is_about_names(&self) -> bool {
        matches!(self.kind, "create" | "mkdir" | "rename" | "unlink")
    }
}

impl Fates {
    /// Follows an event of a disk. `next` is what the same node did next: an error strikes right after the call.
    pub(super) fn follow(&mut self, event: &Event, next: Option<&Event>, id: usize, moments: &mut [Moment]) {
        let open = self.open.entry(event.who).or_default();
        if let Some(report) = &event.crash {
            settle(open, report, moments);
            open.clear();
            return;
        }
        if moments[id].kind != Kind::Disk {
            return;
        }
        if next.is_some_and(|next| matches!(next.kind, "fault" | "sync_failure")) {
            moments[id].fate = Some("failed".to_owned());
            return;
        }
        let synced: &dyn Fn(&Open) -> bool = match event.kind {
            "sync_file" => &|open| !open.is_about_names() && open.numbers[0] == event.numbers[0],
            "sync_dir" => &|open| open.is_about_names() && open.parent() == event.text,
            _ => {
                let path = event.text.split(" at ").next().unwrap_or_default();
                let (kind, numbers, path) = (event.kind, event.numbers, path.to_owned());
                open.push(Open { moment: id, kind, numbers, path, synced: false });
                return;
            }
        };
        for done in open.iter_mut().filter(|open| !open.synced && synced(open)) {
            done.synced = true;
            moments[done.moment].fate = Some("synced".to_owned());
        }
    }
}

/// Tells each open call what a power loss did to it, the newest first: a call may have been made twice.
fn settle(open: &mut Vec<Open>, report: &CrashReport, moments: &mut [Moment]) {
    let pending: Vec<(&Pending, sim::Fate)> = report.iter().collect();
    for (op, fate) in pending.into_iter().rev() {
        let is_it = |open: &Open| match op {
            Pending::Write { inode, offset, data } => {
                open.kind == "write" && open.numbers == [inode.number(), *offset, data.len() as u64]
            }
            Pending::SetLen { inode, len } => {
                open.kind == "set_len" && open.numbers == [inode.number(), 0, *len]
            }
            Pending::Link { name, .. } => matches!(open.kind, "create" | "mkdir") && open.name() == &**name,
            Pending::Unlink { name, .. } => open.kind == "unlink" && open.name() == &**name,
            Pending::Rename { to, .. } | Pending::Detach { to, .. } => {
                open.kind == "rename" && open.name() == &**to
            }
        };
        if let Some(at) = open.iter().rposition(is_it) {
            moments[open.remove(at).moment].fate = Some(word(fate).to_owned());
        }
    }
}

/// The fates of a report, for display.
pub(super) fn of_report(report: &CrashReport) -> Vec<Fate> {
    let ops = report.describe();
    let fates = report.iter().map(|(_, fate)| fate);
    let one = |(op, fate): (String, sim::Fate)| {
        let detail = match fate {
            sim::Fate::Torn { .. } => fate.to_string(),
            _ => String::new(),
        };
        Fate { op, fate: word(fate), detail }
    };
    ops.into_iter().zip(fates).map(one).collect()
}

fn word(fate: sim::Fate) -> &'static str {
    match fate {
        sim::Fate::Kept => "kept",
        sim::Fate::Dropped => "dropped",
        sim::Fate::Torn { .. } => "torn",
        sim::Fate::Unreachable => "unreachable",
    }
}
