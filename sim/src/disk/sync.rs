//! What makes things durable, and the ways in which that fails.

use std::io;

use super::{
    crash::{Fate, forced_before},
    errno::{EIO, ENOTDIR, error},
    fault::{Errno, SyncFailure},
    image::{Image, PAGE},
    op::{InodeId, OpInfo, OpKind, Pending},
    profile::SyncLogs,
    state::{Call, OpenFile, State},
    tree::{Node, ROOT},
};

impl State {
    pub(super) fn sync_file(&mut self, life: u64, file: &OpenFile) -> io::Result<()> {
        let number = self.begin(life, Call::on_file(OpKind::SyncFile, file, 0, 0))?;
        self.image(file)?;
        self.sync(number, file.inode, self.lies.skip_file_sync, || OpInfo::new(OpKind::SyncFile, &file.path))
    }

    pub(super) fn sync_dir(&mut self, life: u64, path: &str) -> io::Result<()> {
        let number = self.begin(life, Call::on_path(OpKind::SyncDir, path))?;
        let dir = self.resolve(path)?;
        self.view.dir(dir).ok_or_else(|| error(ENOTDIR))?;
        self.sync(number, dir, self.lies.skip_dir_sync, || OpInfo::new(OpKind::SyncDir, path))
    }

    pub(super) fn close(&mut self, life: u64, file: &OpenFile) -> io::Result<()> {
        self.begin(life, Call::on_file(OpKind::Close, file, 0, 0))?;
        self.report_late(file.inode, || OpInfo::new(OpKind::Close, &file.path))
    }

    /// A sync of a file or directory that is there.
    fn sync(
        &mut self,
        number: u64,
        inode: InodeId,
        skips: bool,
        info: impl Fn() -> OpInfo,
    ) -> io::Result<()> {
        self.report_late(inode, &info)?;
        let failure = self.plan.take_sync_failure(number);
        if let Some(how) = failure {
            self.trace.record("sync_failure", [how as u64, number, 0], || format!("{how} at {}", info()));
        }
        match failure {
            None if skips => {}
            None | Some(SyncFailure::Persisted) => self.make_durable(inode),
            Some(SyncFailure::KeptPending) => {}
            Some(SyncFailure::LostButClean) => self.lose(inode),
            Some(SyncFailure::LostAndReverted) => {
                self.lose(inode);
                self.revert(inode);
            }
            Some(SyncFailure::ReportedLate) => {
                self.lose(inode);
                self.late.insert(inode);
            }
        }
        match failure {
            None | Some(SyncFailure::ReportedLate) => Ok(()),
            Some(_) => {
                self.plan.note(info(), Errno::Eio);
                Err(error(EIO))
            }
        }
    }

    /// Gives the error of an earlier sync that nobody has been told of.
    fn report_late(&mut self, inode: InodeId, info: impl Fn() -> OpInfo) -> io::Result<()> {
        if !self.late.remove(&inode) {
            return Ok(());
        }
        self.trace.record("late_error", [inode.0, 0, 0], || info().to_string());
        self.plan.note(info(), Errno::Eio);
        // A close that reports it says that a sync failed, too.
        self.plan.sync_failed = true;
        Err(error(EIO))
    }

    /// Makes all that is pending of an inode durable, and what the profile adds to that.
    fn make_durable(&mut self, inode: InodeId) {
        self.commit_names(inode);
        let content = match self.ahead.contains(&inode) {
            true => self.durable.with(inode, self.pending.iter()),
            // Nothing was lost of it, so the view of it is what it holds once all is done.
            false => self.view.get(inode).cloned(),
        };
        if let (Some(content), Some(node)) = (content, self.durable.get_mut(inode)) {
            *node = content;
        }
        self.pending.retain(|op| op.target() != inode);
        self.settle(inode);
    }

    /// Makes the names durable that the profile commits with every sync, and with a replacing rename the data
    /// that it forces out.
    fn commit_names(&mut self, synced: InodeId) {
        let logs = match self.profile.sync_logs() {
            SyncLogs::Nothing => return,
            SyncLogs::AllNames => self.pending.iter().map(|op| op.naming().is_some()).collect(),
            SyncLogs::OwnNames => leading_to(synced, &self.pending),
        };
        let pending = std::mem::take(&mut self.pending);
        let fates: Vec<Fate> =
            logs.iter().map(|logged| if *logged { Fate::Kept } else { Fate::Dropped }).collect();
        let forced_before = |file| match self.profile.rename_brings_data() {
            true => forced_before(file, &pending, &fates),
            false => 0,
        };
        let forced: Vec<usize> = pending.iter().map(|op| op.data_of().map_or(0, forced_before)).collect();
        for (at, op) in pending.into_iter().enumerate() {
            if logs[at] || at < forced[at] {
                self.durable.apply(&op);
            } else {
                self.pending.push(op);
            }
        }
    }

    /// What was pending of an inode is not written and never will be; the view keeps it.
    fn lose(&mut self, inode: InodeId) {
        self.pending.retain(|op| op.target() != inode);
        self.ahead.insert(inode);
        self.settle(inode);
    }

    /// The view of a file goes back to what is durable; that of a directory stays.
    fn revert(&mut self, inode: InodeId) {
        if let (Some(durable), Some(view)) = (self.durable.file(inode), self.view.file_mut(inode)) {
            *view = durable.clone();
            self.ahead.remove(&inode);
        }
    }

    /// Forgets that the view of an inode is ahead, if it no longer is.
    pub(super) fn settle(&mut self, inode: InodeId) {
        if self.ahead.contains(&inode)
            && self.durable.with(inode, self.pending.iter()).as_ref() == self.view.get(inode)
        {
            self.ahead.remove(&inode);
        }
    }

    /// A write to a file of which something was lost. The cache works in pages: of a page that holds lost
    /// bytes, all is pending again, as the view has it.
    pub(super) fn write_lost_pages_too(&mut self, inode: InodeId, offset: u64, data: Box<[u8]>) {
        let kept = self.durable.with(inode, self.pending.iter());
        let (Some(Node::File(kept)), Some(view)) = (kept, self.view.file_mut(inode)) else {
            unreachable!("a file that is ahead is in the view and on the durable side");
        };
        let (page, end) = (PAGE as u64, offset + data.len() as u64);
        let (first, last) = (offset / page * page, (end - 1) / page * page);
        let from = if same_page(&kept, view, first) { offset } else { first };
        let last_is_lost = !same_page(&kept, view, last);
        view.write(offset, &data);
        let to = if last_is_lost { view.len().min(last + page) } else { end };
        let mut bytes = vec![0; (to - from) as usize];
        view.read(from, &mut bytes);
        self.leave_pending(Pending::Write { inode, offset: from, data: bytes.into() });
    }

    /// Whether reads see something that a failed sync has lost, in a file or directory that has a name.
    pub(super) fn has_lost_data(&self) -> bool {
        let mut named = vec![ROOT];
        self.view.reach(&mut named);
        named.iter().any(|inode| self.ahead.contains(inode))
    }
}

/// Whether two files have the same bytes in the page at this offset, and equally many.
fn same_page(one: &Image, other: &Image, at: u64) -> bool {
    let page = |image: &Image| {
        let mut bytes = [0; PAGE];
        (image.read(at, &mut bytes), bytes)
    };
    page(one) == page(other)
}

/// Which of the pending operations give or take the names that lead to this inode, and those which they cannot
/// be told apart from: older ones about the same names.
fn leading_to(inode: InodeId, pending: &[Pending]) -> Vec<bool> {
    let (mut inodes, mut names) = (vec![inode], Vec::new());
    let mut logged = vec![false; pending.len()];
    for (at, op) in pending.iter().enumerate().rev() {
        let Some((named, [from, to])) = op.naming() else { continue };
        let dir = op.target();
        if inodes.contains(&named) || names.contains(&(dir, from)) || names.contains(&(dir, to)) {
            logged[at] = true;
            // The directory has to be there, so the names that lead to it are needed too.
            inodes.push(dir);
            names.extend([(dir, from), (dir, to)]);
        }
    }
    logged
}
