//! Files whose every change passes a gate, which may leave it out, put it off, or count it.

use std::fmt;
use std::io;
use std::sync::Arc;

use applier::ports::{Files, WriteFile};
use sim::{File, Mount, OpKind};

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

/// The files behind a mount and a gate.
#[derive(Clone)]
pub struct GatedFiles {
    mount: Mount,
    gate: Arc<dyn Gate>,
}

impl GatedFiles {
    /// The files behind a mount and a gate.
    pub fn new(mount: Mount, gate: Arc<dyn Gate>) -> GatedFiles {
        GatedFiles { mount, gate }
    }
}

impl fmt::Debug for GatedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedFiles").field("mount", &self.mount).finish_non_exhaustive()
    }
}

impl Files for GatedFiles {
    type Backend = GatedBackend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        Ok(Box::new(Handle { files: self.clone(), file: self.mount.open(path)?, at: 0 }))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        // A creation answers with a file, so it is passed on its own.
        self.gate.pass(OpKind::Create, path, Box::new(|| Ok(())))?;
        Ok(Box::new(Handle { files: self.clone(), file: self.mount.create_new(path)?, at: 0 }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mount, from, path) = (self.mount.clone(), from.to_owned(), to.to_owned());
        self.gate.pass(OpKind::Rename, to, Box::new(move || mount.rename(&from, &path)))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let (mount, name) = (self.mount.clone(), path.to_owned());
        self.gate.pass(OpKind::Unlink, path, Box::new(move || mount.unlink(&name)))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let (mount, name) = (self.mount.clone(), path.to_owned());
        self.gate.pass(OpKind::SyncDir, path, Box::new(move || mount.sync_dir(&name)))
    }

    fn lock_dir(&self, _path: &str) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.mount.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<GatedBackend> {
        if !create {
            return Ok(GatedBackend { files: self.clone(), file: self.mount.open(path)? });
        }
        self.gate.pass(OpKind::Create, path, Box::new(|| Ok(())))?;
        Ok(GatedBackend { files: self.clone(), file: self.mount.create_new(path)? })
    }
}

/// A call that has been passed is done to its end.
fn write_all(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < data.len() {
        match file.write_at(offset + done as u64, &data[done..])? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => done += count,
        }
    }
    Ok(())
}

/// An open file with a position.
struct Handle {
    files: GatedFiles,
    file: File,
    at: u64,
}

impl io::Read for Handle {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.at, buf)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl io::Write for Handle {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (file, at, data) = (self.file.clone(), self.at, buf.to_vec());
        self.files.gate.pass(
            OpKind::Write,
            self.file.path(),
            Box::new(move || write_all(&file, at, &data)),
        )?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Handle {
    fn sync(&mut self) -> io::Result<()> {
        let file = self.file.clone();
        self.files.gate.pass(OpKind::SyncFile, self.file.path(), Box::new(move || file.sync()))
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        // What was put off still holds the file.
        Ok(())
    }
}

/// A database's file.
#[derive(Debug)]
pub struct GatedBackend {
    files: GatedFiles,
    file: File,
}

impl redb::StorageBackend for GatedBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        io::Read::read_exact(
            &mut Handle { files: self.files.clone(), file: self.file.clone(), at: offset },
            out,
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        self.files.gate.pass(OpKind::SetLen, self.file.path(), Box::new(move || file.set_len(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.file.clone();
        self.files.gate.pass(OpKind::SyncFile, self.file.path(), Box::new(move || file.sync()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (file, data) = (self.file.clone(), data.to_vec());
        self.files.gate.pass(
            OpKind::Write,
            self.file.path(),
            Box::new(move || write_all(&file, offset, &data)),
        )
    }
}
