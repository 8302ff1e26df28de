//! Whether the sidecar's filesystem can do what a crash-durable write needs.
//!
//! The probe is such a write, by the sidecar's own protocol (see [`mod@crate::sidecar::file`]), under two names of its own beside
//! the sidecar, and it removes what it wrote:
//!
//! ```text
//!  1 lock    directory            of two processes that start at once, neither takes the other's file for a leftover
//!  2 unlink  sidecar.probe        what a probe that crashed has left, if any
//!  3 unlink  sidecar.probe.tmp    the same; from here to 9 it is the protocol
//!  4 create, 5 write, 6 sync, 7 close  sidecar.probe.tmp
//!  8 rename  sidecar.probe.tmp -> sidecar.probe
//!  9 sync    directory
//! 10 unlink  sidecar.probe        not synced: if it comes back, the next probe removes it
//! ```
//!
//! The sidecar and its temporary file are never touched. What a probe cannot see is a sync that reports success and does
//! nothing.

use crate::fault::{IoFault, remove};
use crate::outcome::StartError;
use crate::ports::Files;
use crate::sidecar::file::SidecarPath;

/// The calls of the protocol that not every filesystem can do, as its faults name them.
const SYNCS: [&str; 2] = ["sync", "sync the directory"];

/// What is written; nobody reads it.
const CONTENT: &[u8] = b"written by a start to see that this filesystem can; may be removed\n";

/// Writes a small file beside the sidecar at `sidecar`, as durably as the sidecar is written, and removes it again.
///
/// # Errors
/// [`StartError::UnsupportedFilesystem`] where the sync of the file or of the directory fails, [`StartError::Io`] for
/// every other call: a directory that is missing, that may not be written to, that has no room.
pub fn probe<F: Files>(files: &F, sidecar: &str) -> Result<(), StartError> {
    let probe = SidecarPath::new(&format!("{sidecar}.probe"));
    let dir = probe.dir();
    let _lock = files.lock_dir(dir).map_err(|error| IoFault::new("lock the directory", dir, &error))?;
    remove(files, probe.path())?;
    match probe.write(files, CONTENT) {
        Ok(()) => Ok(remove(files, probe.path())?),
        Err(error) => {
            for fault in [probe.remove_leftover(files), remove(files, probe.path())]
                .into_iter()
                .filter_map(Result::err)
            {
                tracing::warn!(%fault, "the next probe has to remove it");
            }
            match error.fault {
                fault if SYNCS.contains(&fault.call) => Err(StartError::UnsupportedFilesystem(fault)),
                fault => Err(fault.into()),
            }
        }
    }
}
