//! What a program holds of a disk: a mount and open files.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use super::{
    lock,
    state::{OpenFile, State},
};

/// A disk as one life of a program sees it.
///
/// Once that life has ended, by a crash or because the disk died, every call answers EIO, changes nothing and
/// is not counted: what a dropped object still tries to write goes nowhere.
///
/// Paths are absolute, `/a/b`. Errors carry Linux error numbers (see [`crate::errno`]); besides those listed
/// at each call, a bad path is EINVAL, a path through a file ENOTDIR, and any call can meet an armed
/// [`crate::Fault`].
#[derive(Clone)]
pub struct Mount {
    pub(super) shared: Arc<Mutex<State>>,
    pub(super) life: u64,
}

impl Mount {
    /// Creates an empty file and opens it.
    ///
    /// # Errors
    /// EEXIST if the name is taken, ENOENT if its directory is not there.
    pub fn create_new(&self, path: &str) -> io::Result<File> {
        let file = lock(&self.shared).create(self.life, path)?;
        Ok(File { mount: self.clone(), file })
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// ENOENT if it is not there, EISDIR if it is a directory.
    pub fn open(&self, path: &str) -> io::Result<File> {
        let file = lock(&self.shared).open(self.life, path)?;
        Ok(File { mount: self.clone(), file })
    }

    /// Gives a file or directory another name in the same directory, replacing the file that has it.
    ///
    /// # Errors
    /// ENOENT if the old name is not there, EXDEV if the new name is in another directory (not modelled),
    /// EISDIR or ENOTDIR if only one of the two is a directory, EEXIST if both are (not modelled).
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        lock(&self.shared).rename(self.life, from, to)
    }

    /// Removes a file's name. Where the file is open, it can still be read and written.
    ///
    /// # Errors
    /// ENOENT if it is not there, EISDIR if it is a directory (removing those is not modelled).
    pub fn unlink(&self, path: &str) -> io::Result<()> {
        lock(&self.shared).unlink(self.life, path)
    }

    /// Creates an empty directory.
    ///
    /// # Errors
    /// EEXIST if the name is taken, ENOENT if the directory it is to be in is not there.
    pub fn mkdir(&self, path: &str) -> io::Result<()> {
        lock(&self.shared).mkdir(self.life, path)
    }

    /// Makes the entries of a directory durable, and nothing else: neither the data of its files nor its own
    /// name.
    ///
    /// # Errors
    /// ENOENT if it is not there, ENOTDIR if it is a file. If an armed error hits it, what was pending stays
    /// pending; what else a failed sync can leave behind is in [`crate::SyncFailure`].
    pub fn sync_dir(&self, path: &str) -> io::Result<()> {
        lock(&self.shared).sync_dir(self.life, path)
    }

    /// The length in bytes of a file; `None` if it is not there.
    ///
    /// # Errors
    /// EISDIR if it is a directory.
    pub fn len(&self, path: &str) -> io::Result<Option<u64>> {
        lock(&self.shared).path_len(self.life, path)
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// ENOENT if it is not there, ENOTDIR if it is a file.
    pub fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        lock(&self.shared).list(self.life, dir)
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("life", &self.life).finish_non_exhaustive()
    }
}

/// An open file. Clones are the same file.
#[derive(Clone)]
pub struct File {
    mount: Mount,
    file: OpenFile,
}

#[expect(clippy::len_without_is_empty, reason = "asking a file for its length is a call that can fail")]
impl File {
    /// Length in bytes.
    ///
    /// # Errors
    /// Only those of [`Mount`].
    pub fn len(&self) -> io::Result<u64> {
        lock(&self.mount.shared).file_len(self.mount.life, &self.file)
    }

    /// Reads from `offset` on; gives how many bytes that were, fewer than asked for only at the end of the
    /// file, or if [`crate::Fault::ShortAtCall`] hits it.
    ///
    /// # Errors
    /// Only those of [`Mount`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.mount.shared).read(self.mount.life, &self.file, offset, buffer)
    }

    /// Writes `data` at `offset`, extending the file if needed; a gap reads as zeros. Gives how many bytes
    /// were written, which is all of them, unless [`crate::Fault::ShortAtCall`] hits it.
    ///
    /// # Errors
    /// EFBIG if the file would be longer than one GiB.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        lock(&self.mount.shared).write(self.mount.life, &self.file, offset, data)
    }

    /// Sets the length; new bytes are zero.
    ///
    /// # Errors
    /// EFBIG if that is longer than one GiB.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.mount.shared).set_len(self.mount.life, &self.file, len)
    }

    /// Makes the file's data and length durable, and nothing else: not its name, except under a profile that
    /// says so.
    ///
    /// # Errors
    /// If an armed error hits it, what was pending stays pending; what else a failed sync can leave behind is
    /// in [`crate::SyncFailure`]. EIO also if an earlier sync failed and says so late.
    pub fn sync(&self) -> io::Result<()> {
        lock(&self.mount.shared).sync_file(self.mount.life, &self.file)
    }

    /// Closes it. Dropping it closes it too, and tells nobody whether that failed.
    ///
    /// # Errors
    /// Those of [`Mount`], and EIO if an earlier sync failed and says so late; the file is closed all the same.
    pub fn close(self) -> io::Result<()> {
        lock(&self.mount.shared).close(self.mount.life, &self.file)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &str {
        &self.file.path
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.file.path).field("life", &self.mount.life).finish()
    }
}
