//! The disk proper: durable side, view, pending operations, and what each call does to them.

use std::{collections::BTreeSet, io, sync::Arc};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Checkpoint, Disk,
    crash::Tearing,
    errno::{EEXIST, EFBIG, EINVAL, EIO, EISDIR, ENOENT, ENOTDIR, EXDEV, FILE_LEN_MAX, error},
    fault::FaultPlan,
    image::Image,
    needles::{Leak, Needles},
    op::{InodeId, OpInfo, OpKind, Pending},
    profile::{Lies, Profile},
    tree::{Entries, Node, ROOT, Tree},
};
use crate::trace::Trace;

/// All there is of a disk. A copy shares pages, and, until it is given its own, the trace.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) profile: Profile,
    pub(super) lies: Lies,
    pub(super) tearing: Tearing,
    /// What surely survives.
    pub(super) durable: Tree,
    /// What reads see: the durable side with all that is pending done to it, kept so that reads are quick,
    /// except for the inodes in `ahead`.
    pub(super) view: Tree,
    /// Inodes of which the view holds something that is neither durable nor pending: a failed sync lost it.
    pub(super) ahead: BTreeSet<InodeId>,
    /// Inodes of which a sync failed and nobody has been told yet.
    pub(super) late: BTreeSet<InodeId>,
    /// Done, not yet durable, in program order.
    pub(super) pending: Vec<Pending>,
    pub(super) next_inode: u64,
    /// The number of the current life. Handles carry theirs, and are refused if it is another.
    pub(super) life: u64,
    pub(super) calls: u64,
    pub(super) mutations: u64,
    pub(super) name_calls: u64,
    pub(super) plan: FaultPlan,
    pub(super) needles: Needles,
    pub(super) leak: Option<Leak>,
    pub(super) trace: Trace,
    pub(super) film: Film,
}

/// What is kept of a run. A copy of a disk does not take them along.
#[derive(Debug, Default)]
pub(super) struct Film {
    /// The states before each mutating call.
    pub(super) frames: Option<Vec<Checkpoint>>,
    /// Every call with its number.
    pub(super) calls: Option<Vec<(u64, OpInfo)>>,
}

impl Clone for Film {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What a call says about itself before it is performed.
pub(super) struct Call<'a> {
    kind: OpKind,
    path: &'a str,
    /// For the trace.
    numbers: [u64; 3],
    consumes_space: bool,
}

impl<'a> Call<'a> {
    pub(super) fn on_path(kind: OpKind, path: &'a str) -> Self {
        let numbers = [xxh3_64(path.as_bytes()), 0, 0];
        Self { kind, path, numbers, consumes_space: matches!(kind, OpKind::Create | OpKind::Mkdir) }
    }

    pub(super) fn on_file(kind: OpKind, file: &'a OpenFile, offset: u64, len: u64) -> Self {
        let consumes_space = kind == OpKind::Write;
        Self { kind, path: &file.path, numbers: [file.inode.0, offset, len], consumes_space }
    }
}

/// What an open file knows.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    pub(super) inode: InodeId,
    pub(super) path: Arc<str>,
}

impl State {
    pub(super) fn new(profile: Profile, lies: Lies, trace: Trace) -> Self {
        Self {
            profile,
            lies,
            tearing: Tearing::default(),
            durable: Tree::new(),
            view: Tree::new(),
            ahead: BTreeSet::new(),
            late: BTreeSet::new(),
            pending: Vec::new(),
            next_inode: ROOT.0 + 1,
            life: 0,
            calls: 0,
            mutations: 0,
            name_calls: 0,
            plan: FaultPlan::default(),
            needles: Needles::default(),
            leak: None,
            trace,
            film: Film::default(),
        }
    }

    /// Counts the call and gives its number, or refuses it because its life has ended or a fault hits it.
    pub(super) fn begin(&mut self, life: u64, call: Call<'_>) -> io::Result<u64> {
        if life != self.life || self.plan.dead {
            return Err(error(EIO));
        }
        if call.kind.mutates() {
            self.insert_barriers(life)?;
        }
        let info = || OpInfo::new(call.kind, call.path);
        let name_call = call.kind.concerns_names().then_some(self.name_calls);
        if call.kind.mutates() && self.plan.dies_at(self.mutations, name_call) {
            self.plan.dead = true;
            self.plan.died_at = Some(info());
            self.trace.record("death", [self.mutations, 0, 0], || format!("before {}", info()));
            return Err(error(EIO));
        }
        if call.kind.mutates() && self.film.frames.is_some() {
            self.expose(info());
        }
        let number = self.calls;
        self.calls += 1;
        if let Some(calls) = &mut self.film.calls {
            calls.push((number, info()));
        }
        if call.kind.mutates() {
            self.mutations += 1;
            self.name_calls += u64::from(name_call.is_some());
            let [_, offset, len] = call.numbers;
            let text = || match call.kind {
                OpKind::Write => format!("{} at {offset}, {len} bytes", call.path),
                OpKind::SetLen => format!("{} to {len}", call.path),
                _ => call.path.to_owned(),
            };
            self.trace.record_with(call.kind.name(), call.numbers, text, |event, film| {
                event.before = film.then(|| self.copy());
            });
        }
        if let Some(errno) = self.plan.take_error(number, call.kind, call.consumes_space) {
            self.plan.note(info(), errno);
            let numbers = [errno.number() as u64, number, 0];
            self.trace.record("fault", numbers, || format!("{errno:?} at {}", info()));
            return Err(error(errno.number()));
        }
        Ok(number)
    }

    /// Keeps a copy of the disk as it is before this call.
    fn expose(&mut self, op: OpInfo) {
        let disk = Disk::from_state(State { trace: self.trace.fork(), ..self.clone() });
        if let Some(frames) = &mut self.film.frames {
            frames.push(Checkpoint { op, disk });
        }
    }

    /// An independent disk with this content. It takes no notes.
    pub(super) fn copy(&self) -> Disk {
        Disk::from_state(State { trace: Trace::hashing(), ..self.clone() })
    }

    /// Does an operation to the view and leaves it pending.
    fn perform(&mut self, op: Pending) {
        self.view.apply(&op);
        self.leave_pending(op);
    }

    pub(super) fn leave_pending(&mut self, op: Pending) {
        let target = op.target();
        self.pending.push(op);
        self.settle(target);
    }

    fn new_inode(&mut self, node: Node) -> InodeId {
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        // Its durable side is empty until synced; that no durable name leads to it is what makes it not yet
        // exist.
        self.durable.add(id, node.clone());
        self.view.add(id, node);
        id
    }

    pub(super) fn create(&mut self, life: u64, path: &str) -> io::Result<OpenFile> {
        self.begin(life, Call::on_path(OpKind::Create, path))?;
        let inode = self.link_new(path, Node::File(Image::default()))?;
        Ok(OpenFile { inode, path: path.into() })
    }

    pub(super) fn mkdir(&mut self, life: u64, path: &str) -> io::Result<()> {
        self.begin(life, Call::on_path(OpKind::Mkdir, path))?;
        self.link_new(path, Node::Dir(Arc::default())).map(|_| ())
    }

    fn link_new(&mut self, path: &str, node: Node) -> io::Result<InodeId> {
        let (dir, name) = self.parent(path)?;
        if self.lookup(dir, name).is_some() {
            return Err(error(EEXIST));
        }
        let name = Arc::from(name);
        self.watch_name(path, &name);
        let inode = self.new_inode(node);
        self.perform(Pending::Link { dir, name, inode });
        Ok(inode)
    }

    pub(super) fn open(&mut self, life: u64, path: &str) -> io::Result<OpenFile> {
        self.begin(life, Call::on_path(OpKind::Open, path))?;
        let inode = self.resolve(path)?;
        self.view.file(inode).ok_or_else(|| error(EISDIR))?;
        Ok(OpenFile { inode, path: path.into() })
    }

    pub(super) fn rename(&mut self, life: u64, from: &str, to: &str) -> io::Result<()> {
        let numbers = [xxh3_64(to.as_bytes()), xxh3_64(from.as_bytes()), 0];
        self.begin(life, Call { numbers, ..Call::on_path(OpKind::Rename, to) })?;
        let (from_dir, from_name) = self.parent(from)?;
        let (dir, to_name) = self.parent(to)?;
        let inode = self.lookup(from_dir, from_name).ok_or_else(|| error(ENOENT))?;
        if from_dir != dir {
            return Err(error(EXDEV));
        }
        let replaced = self.lookup(dir, to_name);
        if replaced == Some(inode) {
            return Ok(());
        }
        match (self.view.dir(inode).is_some(), replaced.map(|id| self.view.dir(id).is_some())) {
            (false, Some(true)) => return Err(error(EISDIR)),
            (true, Some(false)) => return Err(error(ENOTDIR)),
            (true, Some(true)) => return Err(error(EEXIST)),
            (_, None) | (false, Some(false)) => {}
        }
        let (from, name): (Arc<str>, Arc<str>) = (from_name.into(), to_name.into());
        self.watch_name(to, &name);
        if self.lies.rename_not_atomic {
            self.perform(Pending::Detach { dir, from, to: name.clone(), inode, replaced });
            self.perform(Pending::Link { dir, name, inode });
        } else {
            self.perform(Pending::Rename { dir, from, to: name, inode, replaced });
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, life: u64, path: &str) -> io::Result<()> {
        self.begin(life, Call::on_path(OpKind::Unlink, path))?;
        let (dir, name) = self.parent(path)?;
        let inode = self.lookup(dir, name).ok_or_else(|| error(ENOENT))?;
        self.view.file(inode).ok_or_else(|| error(EISDIR))?;
        let name = name.into();
        self.perform(Pending::Unlink { dir, name, inode });
        Ok(())
    }

    pub(super) fn list(&mut self, life: u64, path: &str) -> io::Result<Vec<String>> {
        self.begin(life, Call::on_path(OpKind::List, path))?;
        let entries = self.view.dir(self.resolve(path)?).ok_or_else(|| error(ENOTDIR))?;
        Ok(entries.keys().map(|name| name.to_string()).collect())
    }

    pub(super) fn path_len(&mut self, life: u64, path: &str) -> io::Result<Option<u64>> {
        self.begin(life, Call::on_path(OpKind::Len, path))?;
        match self.resolve(path) {
            Ok(inode) => self.view.file(inode).map(|image| Some(image.len())).ok_or_else(|| error(EISDIR)),
            Err(missing) if missing.raw_os_error() == Some(ENOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(super) fn file_len(&mut self, life: u64, file: &OpenFile) -> io::Result<u64> {
        self.begin(life, Call::on_file(OpKind::Len, file, 0, 0))?;
        self.image(file).map(Image::len)
    }

    pub(super) fn read(
        &mut self,
        life: u64,
        file: &OpenFile,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let number = self.begin(life, Call::on_file(OpKind::Read, file, offset, buffer.len() as u64))?;
        let there = self.image(file)?.len().saturating_sub(offset).min(buffer.len() as u64);
        let count = self.shorten(number, there as usize, || OpInfo::new(OpKind::Read, &file.path));
        Ok(self.image(file)?.read(offset, &mut buffer[..count]))
    }

    pub(super) fn write(
        &mut self,
        life: u64,
        file: &OpenFile,
        offset: u64,
        data: &[u8],
    ) -> io::Result<usize> {
        let len = data.len() as u64;
        let number = self.begin(life, Call::on_file(OpKind::Write, file, offset, len))?;
        if offset.checked_add(len).is_none_or(|end| end > FILE_LEN_MAX) {
            return Err(error(EFBIG));
        }
        let count = self.shorten(number, data.len(), || OpInfo::new(OpKind::Write, &file.path));
        let data = &data[..count];
        if !data.is_empty() {
            match self.ahead.contains(&file.inode) {
                true => self.write_lost_pages_too(file.inode, offset, data.into()),
                false => self.perform(Pending::Write { inode: file.inode, offset, data: data.into() }),
            }
            self.watch_write(file, offset, data);
        }
        Ok(count)
    }

    /// How many of the bytes that it could handle a read or write does handle.
    fn shorten(&mut self, number: u64, could: usize, info: impl FnOnce() -> OpInfo) -> usize {
        let Some(count) = self.plan.take_short(number, could) else { return could };
        let text = || format!("{}: {count} of {could} bytes", info());
        self.trace.record("short", [count as u64, number, could as u64], text);
        count
    }

    pub(super) fn set_len(&mut self, life: u64, file: &OpenFile, len: u64) -> io::Result<()> {
        let now = self.view.file(file.inode).map_or(0, Image::len);
        let call = Call { consumes_space: len > now, ..Call::on_file(OpKind::SetLen, file, 0, len) };
        self.begin(life, call)?;
        if len > FILE_LEN_MAX {
            return Err(error(EFBIG));
        }
        if len != now {
            self.perform(Pending::SetLen { inode: file.inode, len });
        }
        Ok(())
    }

    pub(super) fn image(&self, file: &OpenFile) -> io::Result<&Image> {
        // An inode outlives its names as long as the life that opened it.
        self.view.file(file.inode).ok_or_else(|| error(EIO))
    }

    fn watch_name(&mut self, path: &str, name: &str) {
        if self.leak.is_none() {
            let found = self.needles.find(name.as_bytes());
            self.leak = found.map(|(needle, offset)| Leak { path: path.to_owned(), offset, needle });
        }
    }

    fn watch_write(&mut self, file: &OpenFile, offset: u64, data: &[u8]) {
        if self.leak.is_none() {
            let image = self.view.file(file.inode);
            let found = image.and_then(|image| self.needles.find_write(image, offset, data));
            self.leak = found.map(|(needle, offset)| Leak { path: file.path.to_string(), offset, needle });
        }
    }

    /// The inode that a path names.
    pub(super) fn resolve(&self, path: &str) -> io::Result<InodeId> {
        parts(path)?.try_fold(ROOT, |dir, part| self.step(dir, part?))
    }

    /// The directory that a path's last name is in, and that name.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(InodeId, &'a str)> {
        let mut dir = ROOT;
        let mut parts = parts(path)?;
        let mut name = parts.next().ok_or_else(|| error(EINVAL))??;
        for next in parts {
            dir = self.step(dir, name)?;
            name = next?;
        }
        self.view.dir(dir).ok_or_else(|| error(ENOTDIR))?;
        Ok((dir, name))
    }

    fn step(&self, dir: InodeId, name: &str) -> io::Result<InodeId> {
        self.view.dir(dir).ok_or_else(|| error(ENOTDIR))?;
        self.lookup(dir, name).ok_or_else(|| error(ENOENT))
    }

    fn lookup(&self, dir: InodeId, name: &str) -> Option<InodeId> {
        self.view.dir(dir).and_then(|entries: &Entries| entries.get(name)).copied()
    }
}

/// The names along a path.
fn parts(path: &str) -> io::Result<impl Iterator<Item = io::Result<&str>>> {
    let rest = path.strip_prefix('/').ok_or_else(|| error(EINVAL))?;
    let checked = |part| if matches!(part, "." | "..") { Err(error(EINVAL)) } else { Ok(part) };
    Ok(rest.split('/').filter(|part| !part.is_empty()).map(checked))
}
