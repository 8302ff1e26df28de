//! The ports of production: files, clock and randomness of the operating system.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use redb::backends::FileBackend;
use redb::{DatabaseError, StorageError};

use crate::ports::{Clock, Entropy, Files, WriteFile};

/// The files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    type Backend = FileBackend;

    /// A directory is refused with `EISDIR`, a pipe or a device with `EINVAL`; none of them makes the call wait.
    fn open_read(&self, path: &str) -> io::Result<Box<dyn Read>> {
        let file = open(path, OpenOptions::new().read(true), NONBLOCK)?;
        regular(&file.metadata()?)?;
        Ok(Box::new(file))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        let file = open(path, OpenOptions::new().write(true).create_new(true), 0)?;
        Ok(Box::new(OsWriteFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// A name that does not exist is an error of kind `NotFound`.
    fn unlink(&self, path: &str) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Anything but a directory is refused with `ENOTDIR`.
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        open(path, OpenOptions::new().read(true), DIRECTORY)?.sync_all()
    }

    /// `flock(2)` on the directory: it ends with the guard, or with the process.
    fn lock_dir(&self, path: &str) -> io::Result<Box<dyn Send>> {
        let dir = open(path, OpenOptions::new().read(true), DIRECTORY)?;
        dir.try_lock()?;
        Ok(Box::new(dir))
    }

    /// A symbolic link that leads nowhere is an error, not `None`: its name does exist, and what it stands for may
    /// be on a volume that is not mounted. Anything but a regular file is refused as by [`OsFiles::open_read`].
    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        let mut metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        if metadata.is_symlink() {
            metadata = fs::metadata(path)?;
        }
        regular(&metadata)?;
        Ok(Some(metadata.len()))
    }

    /// A new file has mode 0600. redb takes the lock when it opens the database on the backend, before it reads, and
    /// gives it back when the database is dropped.
    fn backend(&self, path: &str, create: bool) -> io::Result<FileBackend> {
        let file = open(path, OpenOptions::new().read(true).write(true).create_new(create), NONBLOCK)?;
        regular(&file.metadata()?)?;
        FileBackend::new(file).map_err(|error| match error {
            DatabaseError::Storage(StorageError::Io(error)) => error,
            DatabaseError::DatabaseAlreadyOpen => io::ErrorKind::ResourceBusy.into(),
            error => io::Error::other(error),
        })
    }
}

/// Opening a pipe must not wait for its other end.
const NONBLOCK: i32 = OFlag::O_NONBLOCK.bits();
const DIRECTORY: i32 = OFlag::O_DIRECTORY.bits();

/// Opens with these flags added. Whatever is created is the owner's alone.
fn open(path: &str, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    options.mode(0o600).custom_flags(flags).open(path)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(not_regular(metadata)),
    }
}

fn not_regular(metadata: &Metadata) -> io::Error {
    if metadata.is_dir() { Errno::EISDIR.into() } else { Errno::EINVAL.into() }
}

#[derive(Debug)]
struct OsWriteFile(File);

impl Write for OsWriteFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl WriteFile for OsWriteFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// Dropping a `File` would swallow the error, and a network filesystem reports a failed write here.
    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(nix::unistd::close(self.0)?)
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// 0 where the clock stands before 1970.
    #[expect(clippy::disallowed_methods, reason = "this is the clock port itself")]
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// The randomness of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the entropy port itself")]
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buf).map_err(|error| match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use redb::Builder;

    use super::*;

    /// A directory in which `path` names things.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().expect("a temporary directory"))
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).to_str().expect("a UTF-8 path").to_owned()
        }

        /// A file with this content.
        fn file(&self, name: &str, content: &str) -> String {
            let path = self.path(name);
            fs::write(&path, content).expect("a writable directory");
            path
        }

        fn fifo(&self, name: &str) -> String {
            let path = self.path(name);
            let mode = nix::sys::stat::Mode::S_IRWXU;
            nix::unistd::mkfifo(path.as_str(), mode).expect("a writable directory");
            path
        }
    }

    #[track_caller]
    fn check_errno<T>(result: io::Result<T>, errno: Errno) {
        let error = result.err().expect("the call must fail");
        assert_eq!(error.raw_os_error(), Some(errno as i32), "{error}");
    }

    fn mode(path: &str) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_written_synced_and_closed_reads_back() {
        let place = Place::new();
        let path = place.path("new");
        let mut file = OsFiles.create_new(&path).expect("a free name");
        file.write_all(b"content").expect("room");
        file.sync().expect("a disk");
        file.close().expect("a disk");
        let mut content = String::new();
        OsFiles.open_read(&path).expect("it exists").read_to_string(&mut content).expect("it reads");
        assert_eq!(content, "content");
        assert_eq!(OsFiles.len(&path).expect("it exists"), Some(7));
    }

    #[test]
    fn what_is_created_is_the_owners_alone() {
        let place = Place::new();
        let (file, database) = (place.path("file"), place.path("database"));
        drop(OsFiles.create_new(&file).expect("a free name"));
        drop(OsFiles.backend(&database, true).expect("a free name"));
        assert_eq!((mode(&file), mode(&database)), (0o600, 0o600));
    }

    #[test]
    fn create_new_leaves_an_existing_file_alone() {
        let place = Place::new();
        let path = place.file("old", "old");
        check_errno(OsFiles.create_new(&path), Errno::EEXIST);
        assert_eq!(fs::read_to_string(&path).expect("it exists"), "old");
    }

    #[test]
    fn create_new_does_not_follow_a_link() {
        let place = Place::new();
        symlink(place.path("target"), place.path("link")).expect("a writable directory");
        check_errno(OsFiles.create_new(&place.path("link")), Errno::EEXIST);
        assert_eq!(OsFiles.len(&place.path("target")).expect("no error"), None);
    }

    #[test]
    fn rename_replaces_an_existing_file() {
        let place = Place::new();
        let (from, to) = (place.file("from", "new"), place.file("to", "old"));
        OsFiles.rename(&from, &to).expect("both are in one directory");
        assert_eq!(fs::read_to_string(&to).expect("it exists"), "new");
        assert_eq!(OsFiles.len(&from).expect("no error"), None);
    }

    #[test]
    fn unlink_removes_a_name_once() {
        let place = Place::new();
        let path = place.file("old", "");
        OsFiles.unlink(&path).expect("it exists");
        check_errno(OsFiles.unlink(&path), Errno::ENOENT);
    }

    #[test]
    fn a_missing_file_is_an_error_to_open_and_none_to_measure() {
        let path = Place::new().path("missing");
        check_errno(OsFiles.open_read(&path), Errno::ENOENT);
        check_errno(OsFiles.backend(&path, false), Errno::ENOENT);
        check_errno(OsFiles.rename(&path, &path), Errno::ENOENT);
        assert_eq!(OsFiles.len(&path).expect("no error"), None);
    }

    #[test]
    fn a_file_that_nobody_can_say_is_missing_is_an_error_to_measure() {
        let place = Place::new();
        let file = place.file("file", "");
        check_errno(OsFiles.len(&format!("{file}/in a file")), Errno::ENOTDIR);
    }

    #[test]
    fn the_length_behind_a_link_is_that_of_the_file_and_a_dead_link_is_no_missing_file() {
        let place = Place::new();
        symlink(place.file("file", "12345"), place.path("link")).expect("a writable directory");
        assert_eq!(OsFiles.len(&place.path("link")).expect("it exists"), Some(5));
        symlink(place.path("nowhere"), place.path("dead")).expect("a writable directory");
        check_errno(OsFiles.len(&place.path("dead")), Errno::ENOENT);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let place = Place::new();
        let dir = place.path(".");
        check_errno(OsFiles.open_read(&dir), Errno::EISDIR);
        check_errno(OsFiles.backend(&dir, false), Errno::EISDIR);
        check_errno(OsFiles.len(&dir), Errno::EISDIR);
        let fifo = place.fifo("fifo");
        check_errno(OsFiles.open_read(&fifo), Errno::EINVAL);
        check_errno(OsFiles.backend(&fifo, false), Errno::EINVAL);
        check_errno(OsFiles.len(&fifo), Errno::EINVAL);
    }

    #[test]
    fn only_a_directory_that_exists_can_be_synced_as_one() {
        let place = Place::new();
        OsFiles.sync_dir(&place.path(".")).expect("a directory");
        check_errno(OsFiles.sync_dir(&place.path("missing")), Errno::ENOENT);
        check_errno(OsFiles.sync_dir(&place.file("file", "")), Errno::ENOTDIR);
    }

    #[test]
    fn a_database_is_created_once_and_opened_again() {
        let place = Place::new();
        let path = place.path("database");
        let backend = OsFiles.backend(&path, true).expect("a free name");
        drop(Builder::new().create_with_backend(backend).expect("an empty file"));
        check_errno(OsFiles.backend(&path, true), Errno::EEXIST);
        let backend = OsFiles.backend(&path, false).expect("it exists");
        drop(Builder::new().create_with_backend(backend).expect("a database"));
    }

    #[test]
    fn an_open_database_is_locked() {
        let place = Place::new();
        let path = place.path("database");
        let open = |create| {
            let backend = OsFiles.backend(&path, create).expect("the file opens");
            Builder::new().create_with_backend(backend)
        };
        let first = open(true).expect("nobody else has it");
        assert!(matches!(open(false), Err(DatabaseError::DatabaseAlreadyOpen)));
        drop(first);
        assert!(open(false).is_ok());
    }

    #[test]
    fn two_fills_differ() {
        let mut buffers = [[0; 32]; 2];
        buffers.iter_mut().for_each(|buffer| OsEntropy.fill(buffer).expect("the system has entropy"));
        assert_ne!(buffers[0], buffers[1]);
    }

    #[test]
    fn the_clock_counts_seconds_since_1970() {
        let seconds_2020 = 1_577_836_800;
        let seconds_3000 = 32_503_680_000;
        assert!((seconds_2020..seconds_3000).contains(&SystemClock.unix_seconds()));
    }
}
