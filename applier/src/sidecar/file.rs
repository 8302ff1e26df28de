//! The crash-durable write protocol of the sidecar, and its reading.
//!
//! ```text
//! 1 unlink  path.tmp          a leftover of an earlier life, if any
//! 2 create  path.tmp          O_EXCL: never another file's content
//! 3 write   path.tmp
//! 4 sync    path.tmp          data before name: else a crash leaves an empty file under the final name
//! 5 close   path.tmp
//! 6 rename  path.tmp -> path  readers see the old file or the new one
//! 7 sync    directory         until here the rename may be lost, together with what is built on it
//! ```
//!
//! # What each call is for
//!
//! The calls that this crate makes by itself, in the order in which a node makes them first, and what a closure of all
//! crash states finds broken where one of them answers that it is done and is not. It is made by a test, which fails
//! where this table no longer holds.
#![doc = include_str!("../barriers.snap")]

use std::io::{self, Write};

use crate::fault::{IoFault, parent, remove};
use crate::ports::Files;

/// Where a sidecar lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarPath {
    path: String,
    tmp: String,
}

/// A write that did not finish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct WriteFault {
    /// The call that failed.
    pub fault: IoFault,
    /// Whether readers still see the old content for sure. False from the moment the rename was attempted.
    pub unchanged: bool,
}

impl SidecarPath {
    /// The sidecar at `path`; its temporary file is `path.tmp` in the same directory.
    pub fn new(path: &str) -> SidecarPath {
        SidecarPath { path: path.to_owned(), tmp: format!("{path}.tmp") }
    }

    /// The path itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The directory whose sync makes the name durable.
    pub fn dir(&self) -> &str {
        parent(&self.path)
    }

    /// The file's bytes, or `None` where there is no file.
    ///
    /// # Errors
    /// Any other failure to open or read it.
    pub fn read<F: Files>(&self, files: &F) -> Result<Option<Vec<u8>>, IoFault> {
        let mut file = match files.open_read(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IoFault::new("open", &self.path, &error)),
        };
        let mut bytes = Vec::new();
        match file.read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) => Err(IoFault::new("read", &self.path, &error)),
        }
    }

    /// Removes a temporary file that a crash left behind.
    ///
    /// # Errors
    /// Any failure other than that there is none.
    pub fn remove_leftover<F: Files>(&self, files: &F) -> Result<(), IoFault> {
        remove(files, &self.tmp)
    }

    /// Replaces the file's content, crash-durably.
    ///
    /// # Errors
    /// The first call that failed, and whether the old content is still in place for sure.
    pub fn write<F: Files>(&self, files: &F, bytes: &[u8]) -> Result<(), WriteFault> {
        if let Err(fault) = self.fill_tmp(files, bytes) {
            if let Err(error) = files.unlink(&self.tmp) {
                // The next write and the next start remove it too, so a leftover is only worth a line.
                tracing::warn!(path = %self.tmp, %error, "a temporary file was left behind");
            }
            return Err(WriteFault { fault, unchanged: true });
        }
        let after = |fault| WriteFault { fault, unchanged: false };
        files
            .rename(&self.tmp, &self.path)
            .map_err(|error| after(IoFault::new("rename to", &self.path, &error)))?;
        files
            .sync_dir(self.dir())
            .map_err(|error| after(IoFault::new("sync the directory", self.dir(), &error)))?;
        tracing::debug!(path = %self.path, bytes = bytes.len(), "sidecar written");
        Ok(())
    }

    fn fill_tmp<F: Files>(&self, files: &F, bytes: &[u8]) -> Result<(), IoFault> {
        let fault = |call| move |error: io::Error| IoFault::new(call, &self.tmp, &error);
        self.remove_leftover(files)?;
        let mut file = files.create_new(&self.tmp).map_err(fault("create"))?;
        file.write_all(bytes).map_err(fault("write"))?;
        file.sync().map_err(fault("sync"))?;
        file.close().map_err(fault("close"))
    }
}
