//! The model against a real operating system: the same calls on a temporary directory and on a simulated disk,
//! without a crash. After every call the answers are compared, errors by number, and all that is there.
//!
//! The model differs on purpose, and these calls are left out by construction:
//!
//! - renames into another directory, which it answers with EXDEV;
//! - renames of a directory over another, which it answers with EEXIST;
//! - paths that it refuses with EINVAL (relative ones, `.` and `..`, creating or removing the root) and a `/` at the end;
//! - files over one GiB, which it refuses with EFBIG;
//! - permissions, of which it has none: a test of its own says what a real system does.

#![cfg(target_os = "linux")]

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::RngSeed};
use sim::{
    Disk, Mount,
    errno::{EEXIST, EISDIR, ENOENT, ENOTDIR},
};
use tempfile::TempDir;

const EACCES: i32 = 13;

/// A call, with paths as the simulated disk has them. Open files are numbered.
#[derive(Clone, Debug)]
enum Call {
    Create { path: &'static str, file: usize },
    Open { path: &'static str, file: usize },
    Close { file: usize },
    Read { file: usize, offset: u64, len: usize },
    Write { file: usize, offset: u64, len: usize, fill: u8 },
    SetLen { file: usize, len: u64 },
    FileLen { file: usize },
    SyncFile { file: usize },
    Rename { from: &'static str, to: &'static str },
    Unlink(&'static str),
    Mkdir(&'static str),
    SyncDir(&'static str),
    Len(&'static str),
    List(&'static str),
}
use Call::*;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    Done,
    /// The file is not open, so there was nothing to call.
    NotOpen,
    Count(usize),
    Bytes(Vec<u8>),
    Length(Option<u64>),
    Names(Vec<String>),
}
use Answer::*;

/// Paths with their content; a directory has none.
type Everything = BTreeMap<String, Option<Vec<u8>>>;

const FILES: usize = 3;

trait System {
    fn call(&mut self, call: &Call) -> io::Result<Answer>;
    fn everything(&self) -> Everything;
}

struct Real {
    root: TempDir,
    open: [Option<fs::File>; FILES],
}

impl Real {
    fn new() -> Self {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        Self { root, open: Default::default() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn is_dir(&self, path: &str) -> bool {
        self.path(path).is_dir()
    }

    fn collect(&self, dir: &Path, found: &mut Everything) {
        for entry in fs::read_dir(dir).expect("it was just found") {
            let path = entry.expect("it can be read").path();
            let below = path.strip_prefix(self.root.path()).expect("it is below the root");
            let name = format!("/{}", below.to_str().expect("an ASCII name"));
            if path.is_dir() {
                found.insert(name, None);
                self.collect(&path, found);
            } else {
                found.insert(name, Some(fs::read(&path).expect("it was just found")));
            }
        }
    }
}

impl System for Real {
    fn call(&mut self, call: &Call) -> io::Result<Answer> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true);
        match *call {
            Create { path, file } => {
                self.open[file] = Some(options.create_new(true).open(self.path(path))?);
                Ok(Done)
            }
            Open { path, file } => {
                self.open[file] = Some(options.open(self.path(path))?);
                Ok(Done)
            }
            Close { file } => Ok(self.open[file].take().map_or(NotOpen, |_| Done)),
            Read { file, offset, len } => self.open[file].as_ref().map_or(Ok(NotOpen), |file| {
                let mut bytes = vec![0xEE; len];
                let count = file.read_at(&mut bytes, offset)?;
                bytes.truncate(count);
                Ok(Bytes(bytes))
            }),
            Write { file, offset, len, fill } => self.open[file]
                .as_ref()
                .map_or(Ok(NotOpen), |file| file.write_at(&vec![fill; len], offset).map(Count)),
            SetLen { file, len } => {
                self.open[file].as_ref().map_or(Ok(NotOpen), |file| file.set_len(len).map(|()| Done))
            }
            FileLen { file } => self.open[file]
                .as_ref()
                .map_or(Ok(NotOpen), |file| file.metadata().map(|it| Length(Some(it.len())))),
            SyncFile { file } => {
                self.open[file].as_ref().map_or(Ok(NotOpen), |file| file.sync_all().map(|()| Done))
            }
            Rename { from, to } => fs::rename(self.path(from), self.path(to)).map(|()| Done),
            Unlink(path) => fs::remove_file(self.path(path)).map(|()| Done),
            Mkdir(path) => fs::create_dir(self.path(path)).map(|()| Done),
            SyncDir(path) => {
                let mut options = fs::OpenOptions::new();
                options.read(true).custom_flags(OFlag::O_DIRECTORY.bits());
                options.open(self.path(path))?.sync_all().map(|()| Done)
            }
            // The model answers a length for files only, and tells a missing one by `None`.
            Len(path) => match fs::metadata(self.path(path)) {
                Ok(found) if found.is_dir() => Err(io::Error::from_raw_os_error(EISDIR)),
                Ok(found) => Ok(Length(Some(found.len()))),
                Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(Length(None)),
                Err(error) => Err(error),
            },
            List(path) => {
                let names = fs::read_dir(self.path(path))?
                    .map(|entry| Ok(entry?.file_name().into_string().expect("an ASCII name")))
                    .collect::<io::Result<Vec<String>>>();
                names.map(|mut names| {
                    names.sort_unstable();
                    Names(names)
                })
            }
        }
    }

    fn everything(&self) -> Everything {
        let mut found = Everything::new();
        self.collect(self.root.path(), &mut found);
        found
    }
}

struct Model {
    disk: Disk,
    mount: Mount,
    open: [Option<sim::File>; FILES],
}

impl Model {
    fn new() -> Self {
        let disk = Disk::default();
        let mount = disk.mount();
        Self { disk, mount, open: Default::default() }
    }

    fn collect(&self, dir: &str, found: &mut Everything) {
        for name in self.mount.list(&format!("{dir}/")).expect("it was just found") {
            let path = format!("{dir}/{name}");
            match self.disk.peek(&path) {
                Some(bytes) => drop(found.insert(path, Some(bytes))),
                None => {
                    self.collect(&path, found);
                    found.insert(path, None);
                }
            }
        }
    }
}

impl System for Model {
    fn call(&mut self, call: &Call) -> io::Result<Answer> {
        let mount = &self.mount;
        match *call {
            Create { path, file } => {
                self.open[file] = Some(mount.create_new(path)?);
                Ok(Done)
            }
            Open { path, file } => {
                self.open[file] = Some(mount.open(path)?);
                Ok(Done)
            }
            Close { file } => self.open[file].take().map_or(Ok(NotOpen), |file| file.close().map(|()| Done)),
            Read { file, offset, len } => self.open[file].as_ref().map_or(Ok(NotOpen), |file| {
                let mut bytes = vec![0xEE; len];
                let count = file.read_at(offset, &mut bytes)?;
                bytes.truncate(count);
                Ok(Bytes(bytes))
            }),
            Write { file, offset, len, fill } => self.open[file]
                .as_ref()
                .map_or(Ok(NotOpen), |file| file.write_at(offset, &vec![fill; len]).map(Count)),
            SetLen { file, len } => {
                self.open[file].as_ref().map_or(Ok(NotOpen), |file| file.set_len(len).map(|()| Done))
            }
            FileLen { file } => {
                self.open[file].as_ref().map_or(Ok(NotOpen), |file| file.len().map(|len| Length(Some(len))))
            }
            SyncFile { file } => {
                self.open[file].as_ref().map_or(Ok(NotOpen), |file| file.sync().map(|()| Done))
            }
            Rename { from, to } => mount.rename(from, to).map(|()| Done),
            Unlink(path) => mount.unlink(path).map(|()| Done),
            Mkdir(path) => mount.mkdir(path).map(|()| Done),
            SyncDir(path) => mount.sync_dir(path).map(|()| Done),
            Len(path) => mount.len(path).map(Length),
            List(path) => mount.list(path).map(Names),
        }
    }

    fn everything(&self) -> Everything {
        let mut found = Everything::new();
        self.collect("", &mut found);
        found
    }
}

/// Both, side by side, with the directories `/d` and `/e`.
struct Pair {
    real: Real,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self { real: Real::new(), model: Model::new() };
        pair.gives(Mkdir("/d"), Ok(Done));
        pair.gives(Mkdir("/e"), Ok(Done));
        pair
    }

    /// The answer of both, an error as its number.
    #[track_caller]
    fn call(&mut self, call: &Call) -> Result<Answer, i32> {
        let number = |error: io::Error| error.raw_os_error().expect("errors have numbers");
        let real = self.real.call(call).map_err(number);
        assert_eq!(self.model.call(call).map_err(number), real, "the model and the system at {call:?}");
        assert_eq!(
            self.model.everything(),
            self.real.everything(),
            "the model and the system after {call:?}"
        );
        real
    }

    #[track_caller]
    fn gives(&mut self, call: Call, expected: Result<Answer, i32>) {
        assert_eq!(self.call(&call), expected, "{call:?}");
    }

    /// A new file with this content, closed again.
    #[track_caller]
    fn has(&mut self, path: &'static str, fill: u8) {
        self.gives(Create { path, file: 2 }, Ok(Done));
        self.gives(Write { file: 2, offset: 0, len: 5, fill }, Ok(Count(5)));
        self.gives(Close { file: 2 }, Ok(Done));
    }

    /// Whether the model differs on purpose; such calls are not made.
    fn differs(&self, call: &Call) -> bool {
        let dir = |path: &str| path.rfind('/').map(|at| path[..at].to_owned());
        match call {
            Rename { from, to } => {
                dir(from) != dir(to) || from != to && self.real.is_dir(from) && self.real.is_dir(to)
            }
            _ => false,
        }
    }
}

#[test]
fn a_rename_over_a_file_replaces_it() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.has("/d/b", 2);
    pair.gives(Open { path: "/d/b", file: 0 }, Ok(Done));
    pair.gives(Rename { from: "/d/a", to: "/d/b" }, Ok(Done));
    pair.gives(List("/d"), Ok(Names(vec!["b".into()])));
    // What was replaced is still there for those who have it open.
    pair.gives(Read { file: 0, offset: 0, len: 9 }, Ok(Bytes(vec![2; 5])));
    pair.gives(Open { path: "/d/b", file: 1 }, Ok(Done));
    pair.gives(Read { file: 1, offset: 0, len: 9 }, Ok(Bytes(vec![1; 5])));
    pair.gives(SyncDir("/d"), Ok(Done));
}

#[test]
fn a_rename_of_nothing_or_onto_itself_changes_nothing() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Rename { from: "/d/b", to: "/d/a" }, Err(ENOENT));
    pair.gives(Rename { from: "/d/b", to: "/d/b" }, Err(ENOENT));
    pair.gives(Rename { from: "/d/a", to: "/d/a" }, Ok(Done));
    pair.gives(Rename { from: "/d", to: "/d" }, Ok(Done));
    pair.gives(Len("/d/a"), Ok(Length(Some(5))));
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Mkdir("/d/b"), Ok(Done));
    pair.gives(Rename { from: "/d/a", to: "/d/b" }, Err(EISDIR));
    pair.gives(Rename { from: "/d/b", to: "/d/a" }, Err(ENOTDIR));
    pair.gives(Rename { from: "/d/b", to: "/d/c" }, Ok(Done));
    pair.gives(List("/d"), Ok(Names(vec!["a".into(), "c".into()])));
}

#[test]
fn a_removed_file_lives_on_for_those_who_have_it_open() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Open { path: "/d/a", file: 0 }, Ok(Done));
    pair.gives(Unlink("/d/a"), Ok(Done));
    pair.gives(Unlink("/d/a"), Err(ENOENT));
    pair.gives(Open { path: "/d/a", file: 1 }, Err(ENOENT));
    pair.gives(Write { file: 0, offset: 5, len: 2, fill: 7 }, Ok(Count(2)));
    pair.gives(Read { file: 0, offset: 3, len: 9 }, Ok(Bytes(vec![1, 1, 7, 7])));
    pair.gives(SyncFile { file: 0 }, Ok(Done));
    // The same name is another file.
    pair.has("/d/a", 3);
    pair.gives(FileLen { file: 0 }, Ok(Length(Some(7))));
    pair.gives(Len("/d/a"), Ok(Length(Some(5))));
}

#[test]
fn names_are_taken_once() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Create { path: "/d/a", file: 0 }, Err(EEXIST));
    pair.gives(Create { path: "/d", file: 0 }, Err(EEXIST));
    pair.gives(Mkdir("/d"), Err(EEXIST));
    pair.gives(Mkdir("/d/a"), Err(EEXIST));
    // A name of its own in each directory.
    pair.has("/e/a", 2);
}

#[test]
fn paths_lead_through_directories_only() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Create { path: "/d/a/x", file: 0 }, Err(ENOTDIR));
    pair.gives(Open { path: "/d/a/x", file: 0 }, Err(ENOTDIR));
    pair.gives(Mkdir("/d/a/x"), Err(ENOTDIR));
    pair.gives(Unlink("/d/a/x"), Err(ENOTDIR));
    pair.gives(Len("/d/a/x"), Err(ENOTDIR));
    pair.gives(SyncDir("/d/a"), Err(ENOTDIR));
    pair.gives(List("/d/a"), Err(ENOTDIR));
    pair.gives(Create { path: "/d/b/x", file: 0 }, Err(ENOENT));
    pair.gives(Mkdir("/d/b/x"), Err(ENOENT));
    pair.gives(Len("/d/b/x"), Ok(Length(None)));
    pair.gives(SyncDir("/d/b"), Err(ENOENT));
    pair.gives(List("/d/b"), Err(ENOENT));
}

#[test]
fn a_directory_is_not_a_file() {
    let mut pair = Pair::new();
    pair.gives(Open { path: "/d", file: 0 }, Err(EISDIR));
    pair.gives(Unlink("/d"), Err(EISDIR));
    pair.gives(Len("/d"), Err(EISDIR));
    pair.gives(SyncDir("/d"), Ok(Done));
    pair.gives(SyncDir("/"), Ok(Done));
}

#[test]
fn what_was_cut_off_and_what_was_never_written_reads_as_zeros() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Open { path: "/d/a", file: 0 }, Ok(Done));
    pair.gives(SetLen { file: 0, len: 2 }, Ok(Done));
    pair.gives(SetLen { file: 0, len: 4 }, Ok(Done));
    pair.gives(Read { file: 0, offset: 0, len: 9 }, Ok(Bytes(vec![1, 1, 0, 0])));
    pair.gives(Write { file: 0, offset: 6, len: 1, fill: 2 }, Ok(Count(1)));
    pair.gives(Read { file: 0, offset: 0, len: 9 }, Ok(Bytes(vec![1, 1, 0, 0, 0, 0, 2])));
    // The gap may be of pages.
    pair.gives(Write { file: 0, offset: 9000, len: 3, fill: 3 }, Ok(Count(3)));
    pair.gives(Read { file: 0, offset: 8998, len: 9 }, Ok(Bytes(vec![0, 0, 3, 3, 3])));
    pair.gives(FileLen { file: 0 }, Ok(Length(Some(9003))));
}

#[test]
fn nothing_is_read_past_the_end_and_nothing_written_by_an_empty_write() {
    let mut pair = Pair::new();
    pair.has("/d/a", 1);
    pair.gives(Open { path: "/d/a", file: 0 }, Ok(Done));
    pair.gives(Read { file: 0, offset: 5, len: 3 }, Ok(Bytes(vec![])));
    pair.gives(Read { file: 0, offset: 99, len: 3 }, Ok(Bytes(vec![])));
    pair.gives(Read { file: 0, offset: 0, len: 0 }, Ok(Bytes(vec![])));
    pair.gives(Write { file: 0, offset: 99, len: 0, fill: 1 }, Ok(Count(0)));
    pair.gives(FileLen { file: 0 }, Ok(Length(Some(5))));
}

/// The model has no permissions, so it performs what a real system refuses. Root is refused nothing.
#[test]
fn permissions_are_not_modelled() {
    let mut pair = Pair::new();
    let dir = pair.real.path("/d");
    pair.has("/d/a", 1);
    let root = fs::metadata(&dir).expect("it exists").uid() == 0;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).expect("it is ours");
    for call in
        [Create { path: "/d/b", file: 0 }, Mkdir("/d/c"), Rename { from: "/d/a", to: "/d/x" }, Unlink("/d/x")]
    {
        let refused = pair.real.call(&call).err().and_then(|error| error.raw_os_error());
        if root {
            eprintln!("running as root: that {call:?} gives EACCES without write permission is not checked");
            assert_eq!(refused, None);
        } else if let Unlink(_) = call {
            // The rename before it was refused too.
            assert!(matches!(refused, Some(EACCES | ENOENT)), "{refused:?}");
        } else {
            assert_eq!(refused, Some(EACCES), "{call:?}");
        }
        pair.model.call(&call).expect("the model knows no permissions");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

const PATHS: [&str; 8] = ["/d/a", "/d/b", "/d/c", "/e/a", "/e/b", "/e/c", "/d/a/x", "/d/a/y"];
const DIRS: [&str; 5] = ["/", "/d", "/e", "/d/a", "/e/c"];

fn call() -> impl Strategy<Value = Call> {
    let path = || select(PATHS.to_vec());
    let dir = || select(DIRS.to_vec());
    let file = || 0..FILES;
    let offset = || prop_oneof![0..20u64, 4090..4100u64, Just(9000u64)];
    let len = || prop_oneof![0..20usize, 4090..4100usize];
    prop_oneof![
        6 => (path(), file()).prop_map(|(path, file)| Create { path, file }),
        4 => (path(), file()).prop_map(|(path, file)| Open { path, file }),
        1 => file().prop_map(|file| Close { file }),
        3 => (file(), offset(), len()).prop_map(|(file, offset, len)| Read { file, offset, len }),
        6 => (file(), offset(), len(), 1..=255u8)
            .prop_map(|(file, offset, len, fill)| Write { file, offset, len, fill }),
        3 => (file(), offset()).prop_map(|(file, len)| SetLen { file, len }),
        1 => file().prop_map(|file| FileLen { file }),
        1 => file().prop_map(|file| SyncFile { file }),
        // Within one directory: those into another one are not modelled.
        3 => (0..3usize, 0..3usize).prop_map(|(from, to)| Rename { from: PATHS[from], to: PATHS[to] }),
        2 => (3..6usize, 3..6usize).prop_map(|(from, to)| Rename { from: PATHS[from], to: PATHS[to] }),
        1 => (6..8usize, 6..8usize).prop_map(|(from, to)| Rename { from: PATHS[from], to: PATHS[to] }),
        4 => prop_oneof![4 => path(), 1 => select(vec!["/d", "/e"])].prop_map(Unlink),
        2 => prop_oneof![4 => path(), 1 => select(vec!["/d", "/e"])].prop_map(Mkdir),
        1 => prop_oneof![path(), dir()].prop_map(SyncDir),
        2 => prop_oneof![path(), dir()].prop_map(Len),
        1 => prop_oneof![path(), dir()].prop_map(List),
    ]
}

proptest! {
    // A fixed seed: a test must not be red today and green tomorrow.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_calls_are_answered_as_by_the_system(calls in vec(call(), 0..=40)) {
        let mut pair = Pair::new();
        for call in &calls {
            if !pair.differs(call) {
                let _ = pair.call(call);
            }
        }
    }
}
