//! What an operating-system call reported, kept comparable.

use std::fmt;
use std::io;

use crate::ports::Files;

/// One failed call: what was attempted, on which path, and the error's kind and errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoFault {
    /// The attempted call, as an operator would name it ("rename", "sync the directory").
    pub call: &'static str,
    /// The path it was attempted on.
    pub path: String,
    /// The kind that the standard library gives the error.
    pub kind: io::ErrorKind,
    /// The operating system's errno, where there was one.
    pub errno: Option<i32>,
    /// The error's own words.
    pub message: String,
}

impl IoFault {
    /// Keeps what `error` said about `call` on `path`.
    pub fn new(call: &'static str, path: &str, error: &io::Error) -> IoFault {
        IoFault {
            call,
            path: path.to_owned(),
            kind: error.kind(),
            errno: error.raw_os_error(),
            message: error.to_string(),
        }
    }
}

impl fmt::Display for IoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {} {:?}: {}", self.call, self.path, self.message)?;
        if self.kind == io::ErrorKind::StorageFull {
            f.write_str("; free space on this filesystem and restart")?;
        }
        Ok(())
    }
}

impl std::error::Error for IoFault {}

/// Removes a name, if it is there.
pub(crate) fn remove<F: Files>(files: &F, path: &str) -> Result<(), IoFault> {
    match files.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IoFault::new("remove", path, &error)),
        _ => Ok(()),
    }
}

/// The directory that holds `path`: everything before its last `/`, `/` at the root, `.` for a bare name.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(at) => &path[..at],
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_alone_asks_for_space() {
        let shown =
            |kind: io::ErrorKind| IoFault::new("write", "/data/keys.json.tmp", &kind.into()).to_string();
        let full = "could not write \"/data/keys.json.tmp\": no storage space; free space on this filesystem and restart";
        assert_eq!(shown(io::ErrorKind::StorageFull), full);
        assert_eq!(
            shown(io::ErrorKind::PermissionDenied),
            "could not write \"/data/keys.json.tmp\": permission denied"
        );
    }

    #[test]
    fn the_parent_of_a_path_is_the_directory_whose_sync_makes_its_name_durable() {
        assert_eq!(parent("/data/keys.json"), "/data");
        assert_eq!(parent("/keys.json"), "/");
        assert_eq!(parent("keys.json"), ".");
    }
}
