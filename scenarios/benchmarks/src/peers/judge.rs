//! What must be found after a crash, wherever it was and whatever the disk made of it: the node starts; what it has
//! acknowledged is there, in registry, sidecar and keystore; each of these is old or new, and never in between; and
//! replay comes to the end of the log.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};
use std::ops::RangeInclusive;

use applier::ports::Files;
use applier::registry::Registry;
use applier::sidecar::{SidecarContent, json};
use applier::{Applier, StartError};

use super::life::Place;
use super::log::{self, Log, State};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// There has to be a sidecar, and there is none.
    SidecarMissing,
    /// The sidecar is an old one, or one too new.
    SidecarStale,
    /// The sidecar cannot be read, or says what no entry makes it say.
    SidecarDamaged,
    /// The database cannot be opened.
    Database,
    /// The node does not start for another reason.
    Start,
    /// An entry that is to be applied is not.
    Entry,
    /// The registry is neither what it was nor what it is to be.
    Registry,
    /// The keystore is not what the sidecar says.
    Keystore,
}

impl What {
    const ALL: [What; 8] = [
        What::SidecarMissing,
        What::SidecarStale,
        What::SidecarDamaged,
        What::Database,
        What::Start,
        What::Entry,
        What::Registry,
        What::Keystore,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            What::SidecarMissing => "sidecar-missing",
            What::SidecarStale => "sidecar-stale",
            What::SidecarDamaged => "sidecar-damaged",
            What::Database => "database",
            What::Start => "start",
            What::Entry => "entry",
            What::Registry => "registry",
            What::Keystore => "keystore",
        }
    }

    /// What a name stands for.
    pub fn of_name(name: &str) -> Option<What> {
        What::ALL.into_iter().find(|what| what.name() == name)
    }

    /// Why a node does not start.
    pub fn of_refusal(error: &StartError) -> What {
        match error {
            StartError::SidecarMissing { .. } => What::SidecarMissing,
            StartError::SidecarStale { .. } => What::SidecarStale,
            StartError::Sidecar { .. } => What::SidecarDamaged,
            StartError::Database(_) | StartError::DatabaseMissing { .. } => What::Database,
            _ => What::Start,
        }
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is about.
    pub what: What,
    /// What was found.
    pub evidence: String,
}

impl Violation {
    /// One of these.
    pub fn new(what: What, evidence: impl fmt::Display) -> Violation {
        // A line is what a child process can say to the one that will kill it.
        Violation { what, evidence: evidence.to_string().replace('\n', " ") }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what.name(), self.evidence)
    }
}

/// Holds a started node against the log. `may_be` are the entries after which its stores may stand.
///
/// # Errors
/// The first thing that is wrong.
pub fn judge<F: Files, R: Registry>(
    log: &Log,
    applier: &Applier<F, R>,
    files: &F,
    place: &Place,
    may_be: RangeInclusive<u64>,
) -> Result<(), Violation> {
    let registry = applier.registry().snapshot().map_err(|error| Violation::new(What::Registry, error))?;
    let at = registry.applied_index.0;
    if !may_be.contains(&at) {
        return Err(Violation::new(What::Registry, format!("it is at {at}, expected {may_be:?}")));
    }
    if registry.rows != log.after(at).rows {
        return Err(Violation::new(What::Registry, format!("its rows are not those after entry {at}")));
    }
    let keys_of = check_sidecar(log, files, place, at..=*may_be.end())?;
    let keystore = applier.keystore();
    let found: BTreeSet<_> = keystore.ids().into_iter().collect();
    if found != keys_of.keys {
        return Err(Violation::new(What::Keystore, format!("it has {found:?}, expected {:?}", keys_of.keys)));
    }
    match found.iter().find(|id| keystore.dek(**id) != Some(log::key(id.get()))) {
        Some(id) => Err(Violation::new(What::Keystore, format!("key {id} has other bytes"))),
        None => Ok(()),
    }
}

/// The state whose sidecar it is.
fn check_sidecar<'l, F: Files>(
    log: &'l Log,
    files: &F,
    place: &Place,
    may_be: RangeInclusive<u64>,
) -> Result<&'l State, Violation> {
    let damaged = |evidence: String| Violation::new(What::SidecarDamaged, evidence);
    let bytes = read(files, &place.sidecar).map_err(|error| damaged(error.to_string()))?;
    let Some(bytes) = bytes else {
        return match may_be.contains(&0) {
            true => Ok(log.after(0)),
            false => Err(Violation::new(What::SidecarMissing, format!("expected one of {may_be:?}"))),
        };
    };
    let sidecar = match json::decode(&bytes) {
        Ok(SidecarContent::Ours(sidecar)) => sidecar,
        Ok(SidecarContent::Foreign(_)) => return Err(damaged("somebody else has written it".to_owned())),
        Err(error) => return Err(damaged(error.to_string())),
    };
    let at = sidecar.raft_applied_index.0;
    if !may_be.contains(&at) {
        return Err(Violation::new(What::SidecarStale, format!("it is at {at}, expected {may_be:?}")));
    }
    let state = log.after(at);
    let active = Some((sidecar.active.storage, sidecar.active.raft));
    let keys: BTreeSet<_> = sidecar.keys.into_keys().collect();
    match active == state.active && keys == state.keys {
        true => Ok(state),
        false => Err(damaged(format!("it has {keys:?} with {active:?} in use at {at}"))),
    }
}

fn read<F: Files>(files: &F, path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut file = match files.open_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
