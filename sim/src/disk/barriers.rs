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
