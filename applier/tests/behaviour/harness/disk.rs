//! The operating system's files with every mutating call counted, and one of them failing on demand.
//!
//! Reads and writes are short, as the port allows, so that nobody relies on whole ones.

use std::io::{self, Read, Write};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use applier::os::OsFiles;
use applier::ports::{Files, WriteFile};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Most bytes that one read or write moves.
const CHUNK: usize = 600;

/// A mutating call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Create,
    Write,
    Sync,
    Close,
    Rename,
    Unlink,
    SyncDir,
    DbWrite,
    DbSetLen,
    DbSync,
}

/// Whether a failing call does its work before it reports the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Absent,
    Present,
}

/// Which call fails, and how.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    at: At,
    errno: i32,
    effect: Effect,
    /// Whether every mutating call after it fails, too.
    lasts: bool,
}

#[derive(Clone, Debug)]
enum At {
    Call(usize),
    Named(Op, String),
}

impl Fault {
    /// The mutating call number `n` from now on, counted from 0.
    pub(crate) const fn nth(n: usize, errno: i32, effect: Effect) -> Fault {
        Fault { at: At::Call(n), errno, effect, lasts: false }
    }

    /// The next `op` on a path with this end.
    pub(crate) fn named(op: Op, path_end: &str, errno: i32, effect: Effect) -> Fault {
        Fault { at: At::Named(op, path_end.to_owned()), errno, effect, lasts: false }
    }

    /// The disk stays dead.
    pub(crate) fn lasting(self) -> Fault {
        Fault { lasts: true, ..self }
    }
}

#[derive(Debug, Default)]
struct Disk {
    log: Vec<(Op, String)>,
    fault: Option<Fault>,
    delivered: usize,
    /// What another process renames before the next lock is given.
    meanwhile: Option<(String, String)>,
}

/// Shared by all clones: a node's files and the test's view of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultyFiles(Arc<Mutex<Disk>>);

impl FaultyFiles {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Lets a call fail from now on.
    pub(crate) fn arm(&self, fault: Fault) {
        self.disk().fault = Some(fault);
    }

    /// Ends all faults and says how many calls failed.
    pub(crate) fn disarm(&self) -> usize {
        let mut disk = self.disk();
        disk.fault = None;
        std::mem::take(&mut disk.delivered)
    }

    /// Lets another process rename this just before the next lock is given.
    pub(crate) fn rename_before_lock(&self, from: &str, to: &str) {
        self.disk().meanwhile = Some((from.to_owned(), to.to_owned()));
    }

    /// How many mutating calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.disk().log.len()
    }

    /// The mutating calls from number `from` on, each with the last part of its path; repeats in a row once.
    pub(crate) fn log_since(&self, from: usize) -> Vec<(Op, String)> {
        let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let mut log: Vec<_> = self.disk().log[from..].iter().map(|(op, path)| (*op, name(path))).collect();
        log.dedup();
        log
    }

    fn mutate<T>(&self, op: Op, path: &str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.record(op, path) {
            None => call(),
            Some((errno, effect)) => {
                if effect == Effect::Present {
                    // What the call itself reports is not seen by anyone.
                    drop(call());
                }
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn record(&self, op: Op, path: &str) -> Option<(i32, Effect)> {
        let mut disk = self.disk();
        disk.log.push((op, path.to_owned()));
        let fault = disk.fault.as_mut()?;
        let hit = match &mut fault.at {
            At::Call(0) => true,
            At::Call(left) => {
                *left -= 1;
                false
            }
            At::Named(named, end) => *named == op && path.ends_with(end.as_str()),
        };
        if !hit {
            return None;
        }
        let answer = (fault.errno, fault.effect);
        match fault.lasts {
            true => fault.at = At::Call(0),
            false => disk.fault = None,
        }
        disk.delivered += 1;
        Some(answer)
    }
}

impl Files for FaultyFiles {
    type Backend = FaultyBackend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(ShortReads(OsFiles.open_read(path)?)))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        let inner = self.mutate(Op::Create, path, || OsFiles.create_new(path))?;
        Ok(Box::new(FaultyFile { inner, files: self.clone(), path: path.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.mutate(Op::Rename, to, || OsFiles.rename(from, to))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.mutate(Op::Unlink, path, || OsFiles.unlink(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.mutate(Op::SyncDir, path, || OsFiles.sync_dir(path))
    }

    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        if let Some((from, to)) = self.disk().meanwhile.take() {
            OsFiles.rename(&from, &to)?;
        }
        OsFiles.lock_dir(path)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        OsFiles.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<FaultyBackend> {
        let open = || OsFiles.backend(path, create);
        let inner = if create { self.mutate(Op::Create, path, open) } else { open() }?;
        Ok(FaultyBackend { inner, files: self.clone(), path: path.to_owned() })
    }
}

struct ShortReads(Box<dyn Read>);

impl Read for ShortReads {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(CHUNK);
        self.0.read(&mut buf[..len])
    }
}

struct FaultyFile {
    inner: Box<dyn WriteFile>,
    files: FaultyFiles,
    path: String,
}

impl Write for FaultyFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = buf.len().min(CHUNK);
        self.files.mutate(Op::Write, &self.path, || self.inner.write(&buf[..len]))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl WriteFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.files.mutate(Op::Sync, &self.path, || self.inner.sync())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let FaultyFile { inner, files, path } = *self;
        files.mutate(Op::Close, &path, || inner.close())
    }
}

/// The database's file.
#[derive(Debug)]
pub(crate) struct FaultyBackend {
    inner: FileBackend,
    files: FaultyFiles,
    path: String,
}

impl StorageBackend for FaultyBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.files.mutate(Op::DbSetLen, &self.path, || self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.mutate(Op::DbSync, &self.path, || self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.files.mutate(Op::DbWrite, &self.path, || self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
