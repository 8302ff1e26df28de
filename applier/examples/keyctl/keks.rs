//! The KEK files of a directory: `kek-1.key`, and while the KEK is exchanged `kek-2.key` beside it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use applier::fault::IoFault;
use applier::kek::{FileKek, KekRing};
use applier::os::{OsEntropy, OsFiles};
use applier::ports::{Entropy, Files};
use applier::secret::KEY_LEN;
use applier::sidecar::file::SidecarPath;
use zeroize::Zeroizing;

use super::error::Error;

/// One file.
#[derive(Clone)]
pub(super) struct NumberedKek {
    number: u32,
    pub(super) path: String,
    pub(super) kek: Arc<FileKek>,
}

/// The files of a directory, loaded.
pub(super) struct Keks {
    /// The one that new keys are to be wrapped under.
    pub(super) current: NumberedKek,
    /// The one that it takes the place of.
    pub(super) previous: Option<NumberedKek>,
}

impl Keks {
    /// Loads what is there.
    pub(super) fn load(dir: &str) -> Result<Keks, Error> {
        let mut found = numbers(dir)?;
        found.sort_unstable_by(|one, other| other.cmp(one));
        let load = |number: u32| -> Result<NumberedKek, Error> {
            let path = path(dir, number);
            SidecarPath::new(&path).remove_leftover(&OsFiles)?;
            let kek = Arc::new(FileKek::load(&path)?);
            Ok(NumberedKek { number, path, kek })
        };
        match found[..] {
            [] => Err(Error::NoKek { dir: dir.to_owned() }),
            [current] => Ok(Keks { current: load(current)?, previous: None }),
            [current, previous] => Ok(Keks { current: load(current)?, previous: Some(load(previous)?) }),
            _ => Err(Error::ManyKeks { dir: dir.to_owned() }),
        }
    }

    /// The ring that a node is started with.
    pub(super) fn ring(&self) -> KekRing {
        let ring = KekRing::from(Arc::clone(&self.current.kek));
        match &self.previous {
            Some(previous) => ring.with_previous(Arc::clone(&previous.kek) as _),
            None => ring,
        }
    }

    /// Makes the KEK that takes the place of the current one.
    pub(super) fn make_next(&self, dir: &str) -> Result<String, Error> {
        make(dir, self.current.number + 1)
    }

    /// Removes the previous one for good.
    pub(super) fn withdraw(&mut self, dir: &str) -> Result<Option<String>, Error> {
        let Some(previous) = self.previous.take() else { return Ok(None) };
        let path = &previous.path;
        OsFiles.unlink(path).map_err(|error| IoFault::new("remove", path, &error))?;
        sync_dir(dir)?;
        Ok(Some(previous.path))
    }
}

/// Makes the directory, where it is missing, and its first KEK, where it has none. Returns the path of a new KEK.
pub(super) fn init(dir: &str) -> Result<Option<String>, Error> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(IoFault::new("create the directory", dir, &error).into());
        }
        _ => {}
    }
    let parent = std::path::Path::new(dir).parent().and_then(|parent| parent.to_str());
    sync_dir(parent.filter(|parent| !parent.is_empty()).unwrap_or("."))?;
    // Of two at once, neither puts its KEK in the place of the other's.
    let _lock = OsFiles.lock_dir(dir).map_err(|error| IoFault::new("lock the directory", dir, &error))?;
    match numbers(dir)?.is_empty() {
        // The name may be in the page cache alone.
        false => sync_dir(dir).map(|()| None),
        true => make(dir, 1).map(Some),
    }
}

/// Makes a KEK of 32 random bytes, for its owner alone, and makes it durable: what is wrapped under a KEK that a power
/// loss takes away is lost.
fn make(dir: &str, number: u32) -> Result<String, Error> {
    let path = path(dir, number);
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    OsEntropy.fill(bytes.as_mut_slice()).map_err(Error::Entropy)?;
    SidecarPath::new(&path).write(&OsFiles, bytes.as_slice())?;
    Ok(path)
}

fn path(dir: &str, number: u32) -> String {
    format!("{dir}/kek-{number}.key")
}

fn numbers(dir: &str) -> Result<Vec<u32>, Error> {
    let fault = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoKek { dir: dir.to_owned() },
        _ => IoFault::new("list", dir, &error).into(),
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(fault)? {
        let name = entry.map_err(fault)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("kek-")?.strip_suffix(".key"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    Ok(numbers)
}

fn sync_dir(dir: &str) -> Result<(), Error> {
    OsFiles.sync_dir(dir).map_err(|error| IoFault::new("sync the directory", dir, &error).into())
}
