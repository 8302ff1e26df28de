//! Files that the command line writes: whole, or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// Why a file could not be written. What stood there before stands there still.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The directory is missing, full or not ours to write in.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is such a file, and it must not be replaced.
    #[error("{path}: exists already; give another name")]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Writes a file by way of a temporary one beside it, and replaces what stood there.
///
/// # Errors
/// [`OutputError::Write`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let failed = |source| OutputError::Write { path: path.to_owned(), source };
    let file = beside(path, bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// The same for a file that must not be there yet.
///
/// # Errors
/// [`OutputError::Exists`] and [`OutputError::Write`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let failed = |source| OutputError::Write { path: path.to_owned(), source };
    let file = beside(path, bytes).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(OutputError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// The place of a file in a directory, which is made where it is missing.
///
/// # Errors
/// [`OutputError::Write`], of the directory.
pub fn place(dir: &Path, file: &Path) -> Result<PathBuf, OutputError> {
    let path = dir.join(file);
    let made = std::fs::create_dir_all(path.parent().unwrap_or(dir));
    made.map_err(|source| OutputError::Write { path: dir.to_owned(), source })?;
    Ok(path)
}

/// Makes a directory to write in, where it is not there yet, and sees that it takes files.
///
/// # Errors
/// [`OutputError::Write`].
pub fn prepare(dir: &Path) -> Result<(), OutputError> {
    let failed = |source| OutputError::Write { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    // Dropped, it is gone.
    beside(&dir.join("probe"), &[]).map_err(failed)?;
    Ok(())
}

/// Writes several files into a directory, which is made where it is not there yet: all of them or, as far as their content
/// goes, none. Nothing gets its name before everything has been written.
///
/// # Errors
/// [`OutputError::Write`].
pub fn write_all(dir: &Path, files: &[(String, Vec<u8>)]) -> Result<(), OutputError> {
    prepare(dir)?;
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = dir.join(name);
        let failed = |source| OutputError::Write { path: path.clone(), source };
        // A rename onto a directory is the one that could still fail.
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let file = beside(&path, bytes).map_err(failed)?;
        written.push((file, path));
    }
    for (file, path) in written {
        file.persist(&path)
            .map_err(|error| OutputError::Write { path: path.clone(), source: error.error })?;
    }
    Ok(())
}

/// A temporary file in the same directory, since a rename does not cross file systems. Dropped, it is gone.
fn beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = Builder::new();
    builder.prefix(".cargo-sim-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_new_one_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert!(matches!(write_new(&path, b"three"), Err(OutputError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"two");
        write_new(&dir.path().join("b"), b"three").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let occupied = dir.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        assert!(matches!(write(&occupied, b"x"), Err(OutputError::Write { .. })));
        assert!(matches!(write(&dir.path().join("no/such/dir"), b"x"), Err(OutputError::Write { .. })));
        assert!(occupied.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn several_files_are_written_all_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        let files = ["one", "two"].map(|name| (name.to_owned(), name.as_bytes().to_vec()));
        write_all(&new, &files).unwrap();
        assert_eq!(fs::read(new.join("two")).unwrap(), b"two");
        let occupied = dir.path().join("c");
        fs::create_dir_all(occupied.join("two")).unwrap();
        assert!(
            matches!(write_all(&occupied, &files), Err(OutputError::Write { path, .. }) if path.ends_with("two"))
        );
        assert_eq!(fs::read_dir(&occupied).unwrap().count(), 1, "nothing was written beside it");
        assert!(
            matches!(write_all(&new.join("one"), &files), Err(OutputError::Write { .. })),
            "no directory"
        );
    }
}
