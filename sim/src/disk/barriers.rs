//! Syncs that a program does not make itself, put into its run to see whether they would help.

use std::io;

use super::{
    Disk, lock,
    op::{OpInfo, OpKind},
    state::{OpenFile, State},
};

/// The syncs still to be put in, in this life.
#[derive(Clone, Debug, Default)]
pub(super) struct Barriers {
    /// Each with how many mutating calls of its own the program makes before it.
    due: Vec<(u64, OpInfo)>,
    /// Mutating calls that are not the program's: what came before, and those put in.
    others: u64,
}

impl State {
    /// Makes the syncs that are due before the next mutating call, or before the program says that it is done
    /// with something.
    pub(super) fn insert_barriers(&mut self, life: u64) -> io::Result<()> {
        if self.plan.barriers.due.is_empty() {
            return Ok(());
        }
        let own = self.mutations - self.plan.barriers.others;
        let (now, later) =
            std::mem::take(&mut self.plan.barriers.due).into_iter().partition(|(place, _)| *place == own);
        self.plan.barriers.due = later;
        let now: Vec<(u64, OpInfo)> = now;
        for (_, sync) in now {
            match sync.kind {
                OpKind::SyncDir => self.sync_dir(life, &sync.path)?,
                _ => {
                    let inode = self.resolve(&sync.path)?;
                    self.sync_file(life, &OpenFile { inode, path: sync.path.as_str().into() })?;
                }
            }
            self.plan.barriers.others += 1;
        }
        Ok(())
    }

    /// The syncs that would make something durable, each once, in the order of what is pending.
    fn useful_syncs(&self) -> Vec<OpInfo> {
        let mut syncs = Vec::new();
        for op in &self.pending {
            let kind = if op.dir().is_some() { OpKind::SyncDir } else { OpKind::SyncFile };
            // A file that has lost its name can't be found again, and nobody will miss it.
            let sync = self.view.path_of(op.target()).map(|path| OpInfo { kind, path });
            syncs.extend(sync.filter(|sync| !syncs.contains(sync)));
        }
        syncs
    }
}

impl Disk {
    /// Puts syncs into the rest of this life, each after so many more mutating calls.
    pub(crate) fn insert_syncs(&self, due: Vec<(u64, OpInfo)>) {
        let mut state = lock(&self.shared);
        state.plan.barriers = Barriers { due, others: state.mutations };
    }

    /// Makes those that are due by now.
    pub(crate) fn make_due_syncs(&self) -> io::Result<()> {
        let mut state = lock(&self.shared);
        let life = state.life;
        state.insert_barriers(life)
    }

    /// The syncs that would make something durable now.
    pub(crate) fn useful_syncs(&self) -> Vec<OpInfo> {
        lock(&self.shared).useful_syncs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trace;

    #[test]
    fn each_sync_comes_before_the_call_that_it_was_planned_for() {
        let disk = Disk::default();
        let trace = Trace::keeping();
        disk.set_trace(trace.clone());
        let sync = |kind, path: &str| OpInfo { kind, path: path.to_owned() };
        let due = [
            (1, sync(OpKind::SyncDir, "/")),
            (2, sync(OpKind::SyncFile, "/a")),
            (3, sync(OpKind::SyncDir, "/")),
        ];
        disk.insert_syncs(due.into());
        let mount = disk.mount();
        let file = mount.create_new("/a").unwrap();
        file.write_at(0, b"a").unwrap();
        mount.create_new("/b").unwrap();
        assert_eq!(disk.useful_syncs(), [sync(OpKind::SyncDir, "/")]);
        disk.make_due_syncs().unwrap();
        assert!(disk.is_durable() && disk.useful_syncs().is_empty());
        let calls =
            ["create /a", "sync_dir /", "write /a at 0, 1 bytes", "sync_file /a", "create /b", "sync_dir /"];
        assert_eq!(trace.events().iter().map(ToString::to_string).collect::<Vec<_>>(), calls);
    }
}
