//! Files whose every change passes a gate, which may leave it out, put it off, or count it.

use std::fmt;
use std::io;
use std::sync::Arc;

use applier::ports::{Files, WriteFile};
use sim::{File, OpKind};

use super::{Cursor, SimBackend, SimFiles};

/// A call, still to be done.
pub type Perform = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// What stands before the calls that change something.
pub trait Gate: Send + Sync {
    /// Does the call, or not, or something else.
    ///
    /// # Errors
    /// What is answered to the caller.
    fn pass(&self, call: OpKind, path: &str, perform: Perform) -> io::Result<()>;
}

/// The files of a life behind a gate.
#[derive(Clone)]
pub struct GatedFiles {
    files: SimFiles,
    gate: Arc<dyn Gate>,
}

impl GatedFiles {
    /// These files behind a gate.
    pub fn new(files: SimFiles, gate: Arc<dyn Gate>) -> GatedFiles {
        GatedFiles { files, gate }
    }

    /// Passes a creation. It answers with a file, so it is done by whoever asks for it.
    fn pass_creation(&self, path: &str) -> io::Result<()> {
        self.gate.pass(OpKind::Create, path, Box::new(|| Ok(())))
    }
}

impl fmt::Debug for GatedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedFiles").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Files for GatedFiles {
    type Backend = GatedBackend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        self.files.open_read(path)
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        self.pass_creation(path)?;
        let file = GatedFile { file: self.files.mount.create_new(path)?, gate: Arc::clone(&self.gate) };
        Ok(Box::new(Handle { file, at: 0 }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mount, from, path) = (self.files.mount.clone(), from.to_owned(), to.to_owned());
        self.gate.pass(OpKind::Rename, to, Box::new(move || mount.rename(&from, &path)))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let (mount, name) = (self.files.mount.clone(), path.to_owned());
        self.gate.pass(OpKind::Unlink, path, Box::new(move || mount.unlink(&name)))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let (mount, name) = (self.files.mount.clone(), path.to_owned());
        self.gate.pass(OpKind::SyncDir, path, Box::new(move || mount.sync_dir(&name)))
    }

    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        self.files.lock_dir(path)
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.files.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<GatedBackend> {
        if create {
            self.pass_creation(path)?;
        }
        let inner = self.files.backend(path, create)?;
        let file = GatedFile { file: inner.file.clone(), gate: Arc::clone(&self.gate) };
        Ok(GatedBackend { inner, file })
    }
}

/// An open file behind a gate.
struct GatedFile {
    file: File,
    gate: Arc<dyn Gate>,
}

impl GatedFile {
    fn pass(
        &self,
        call: OpKind,
        perform: impl FnOnce(File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let file = self.file.clone();
        self.gate.pass(call, self.file.path(), Box::new(move || perform(file)))
    }

    /// Once it has passed, a write is done to its end.
    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let data = data.to_vec();
        self.pass(OpKind::Write, move |file| io::Write::write_all(&mut Cursor { file, at }, &data))
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(OpKind::SyncFile, |file| file.sync())
    }
}

/// A file open for writing, with a position.
struct Handle {
    file: GatedFile,
    at: u64,
}

impl io::Write for Handle {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(self.at, buf)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Handle {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        // What was put off still holds the file.
        Ok(())
    }
}

/// A database's file behind a gate.
pub struct GatedBackend {
    inner: SimBackend,
    file: GatedFile,
}

impl fmt::Debug for GatedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl redb::StorageBackend for GatedBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.pass(OpKind::SetLen, move |file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}
