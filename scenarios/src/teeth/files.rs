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
    /// An error about the sidecar's temporary file is kept back until the file gets its final name.
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

/// What is answered about the temporary file: where the lie is to report late, an error is kept for the rename, and
/// `instead` is answered.
fn report<T>(lie: FilesLie, past: &Past, done: io::Result<T>, instead: T) -> io::Result<T> {
    match done {
        Err(error) if lie == FilesLie::ReportLate && error.kind() != io::ErrorKind::NotFound => {
            past.lock().unreported = error.raw_os_error();
            Ok(instead)
        }
        done => done,
    }
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
        let inner = self.inner.create_new(path);
        if !is_temporary_sidecar(path) {
            return inner;
        }
        let inner = report(self.lie, &self.past, inner, Box::new(Nowhere))?;
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
        let done = self.inner.unlink(path);
        if !is_temporary_sidecar(path) {
            return done;
        }
        // The first call of every write of the sidecar.
        self.past.lock().unreported = None;
        report(self.lie, &self.past, done, ())
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
        report(self.lie, &self.past, written, buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl WriteFile for LyingFile {
    fn sync(&mut self) -> io::Result<()> {
        report(self.lie, &self.past, self.inner.sync(), ())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let LyingFile { inner, lie, past } = *self;
        report(lie, &past, inner.close(), ())
    }
}

/// A file that was never made, and whoever writes to it does not know yet.
struct Nowhere;

impl io::Write for Nowhere {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Nowhere {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
