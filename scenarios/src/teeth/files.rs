//! Files that lie about the sidecar.

use std::io;
use std::sync::Arc;

use applier::ports::{Files, WriteFile};

use super::past::Past;
use crate::subject::SIDECAR;

/// How files lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesLie {
    /// Where the sidecar is replaced by its own content, it gets the content before that.
    BringBackTheOlder,
    /// A read of the sidecar gives the content before the newest.
    ReadTheOlder,
    /// Every third life is told that there is no sidecar.
    HideTheSidecar,
    /// An error of the sidecar's temporary file is kept back until the file gets its final name.
    ReportLate,
}

/// Files that lie, in front of honest ones.
#[derive(Clone)]
pub(super) struct LyingFiles<F> {
    pub(super) inner: F,
    pub(super) lie: FilesLie,
    pub(super) past: Arc<Past>,
}

fn is_temporary_sidecar(path: &str) -> bool {
    path.strip_prefix(SIDECAR) == Some(".tmp")
}

impl<F: Files> Files for LyingFiles<F> {
    type Backend = F::Backend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        let file = self.inner.open_read(path)?;
        if path != SIDECAR {
            return Ok(file);
        }
        let memory = self.past.lock();
        match (self.lie, memory.sidecars.as_slice()) {
            (FilesLie::HideTheSidecar, _) if memory.life.is_multiple_of(3) => {
                Err(io::ErrorKind::NotFound.into())
            }
            (FilesLie::ReadTheOlder, [.., older, _]) => Ok(Box::new(io::Cursor::new(older.clone()))),
            _ => Ok(file),
        }
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        let inner = self.inner.create_new(path)?;
        if !is_temporary_sidecar(path) {
            return Ok(inner);
        }
        self.past.lock().unreported = None;
        Ok(Box::new(LyingFile { inner, lie: self.lie, past: Arc::clone(&self.past) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if is_temporary_sidecar(from)
            && let Some(errno) = self.past.lock().unreported.take()
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        self.inner.lock_dir(path)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.inner.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<F::Backend> {
        self.inner.backend(path, create)
    }
}

/// The sidecar's temporary file.
struct LyingFile {
    inner: Box<dyn WriteFile>,
    lie: FilesLie,
    past: Arc<Past>,
}

impl LyingFile {
    /// Keeps an error back, where that is the lie.
    fn report<T>(&self, done: io::Result<T>, nothing: T) -> io::Result<T> {
        match done {
            Err(error) if self.lie == FilesLie::ReportLate => {
                self.past.lock().unreported = error.raw_os_error();
                Ok(nothing)
            }
            done => done,
        }
    }
}

impl io::Write for LyingFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut bytes = buf.to_vec();
        {
            let mut memory = self.past.lock();
            match memory.sidecars.as_slice() {
                [.., older, newest] if newest == buf && self.lie == FilesLie::BringBackTheOlder => {
                    bytes.clone_from(older);
                }
                [.., newest] if newest == buf => {}
                _ => memory.sidecars.push(buf.to_vec()),
            }
        }
        let written = self.inner.write_all(&bytes).map(|()| buf.len());
        self.report(written, buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl WriteFile for LyingFile {
    fn sync(&mut self) -> io::Result<()> {
        let synced = self.inner.sync();
        self.report(synced, ())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let LyingFile { inner, lie, past } = *self;
        match inner.close() {
            Err(error) if lie == FilesLie::ReportLate => {
                past.lock().unreported = error.raw_os_error();
                Ok(())
            }
            closed => closed,
        }
    }
}
