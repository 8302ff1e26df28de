//! The applier as it is, and twelve wrong ones. Each is the real applier behind a port that leaves a call out, puts it
//! elsewhere, or does another one in its place; none knows which disk is under it.

mod files;
mod registry;

use std::fmt;
use std::str::FromStr;

pub use files::{VariedBackend, VariedFiles};
pub use registry::VariedRegistry;

/// What is done to the applier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// Nothing: nobody may find anything.
    Control,
    /// The temporary sidecar is not synced.
    TemporaryNotSynced,
    /// The temporary sidecar is synced when half of it is written, and not again.
    SyncedHalfWay,
    /// The sidecar is synced under its final name only.
    SyncedAfterRename,
    /// The sidecar's directory is never synced.
    DirectoryNotSynced,
    /// The sidecar's directory is synced before the rename, and not after it.
    DirectorySyncedFirst,
    /// There is no temporary sidecar: the old one is cut to nothing and written again.
    WrittenInPlace,
    /// The old sidecar is removed before the new one gets its name.
    OldRemovedFirst,
    /// A start uses the sidecar as it finds it, without making it durable.
    StartTrustsTheCache,
    /// The database is committed before the sidecar is renamed.
    DatabaseBeforeSidecar,
    /// The database is not synced by its commits.
    DatabaseNotSynced,
    /// The applied index is committed in a transaction before that of the rows.
    IndexBeforeRows,
    /// An entry is answered when it is in memory, and committed with the next one.
    AnsweredBeforeCommit,
}

impl Variant {
    /// Everything that is wrong.
    pub const WRONG: [Variant; 12] = [
        Variant::TemporaryNotSynced,
        Variant::SyncedHalfWay,
        Variant::SyncedAfterRename,
        Variant::DirectoryNotSynced,
        Variant::DirectorySyncedFirst,
        Variant::WrittenInPlace,
        Variant::OldRemovedFirst,
        Variant::StartTrustsTheCache,
        Variant::DatabaseBeforeSidecar,
        Variant::DatabaseNotSynced,
        Variant::IndexBeforeRows,
        Variant::AnsweredBeforeCommit,
    ];

    /// The control, and everything that is wrong.
    pub fn all() -> impl Iterator<Item = Variant> {
        std::iter::once(Variant::Control).chain(Variant::WRONG)
    }

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Control => "control",
            Variant::TemporaryNotSynced => "temporary-not-synced",
            Variant::SyncedHalfWay => "synced-half-way",
            Variant::SyncedAfterRename => "synced-after-rename",
            Variant::DirectoryNotSynced => "directory-not-synced",
            Variant::DirectorySyncedFirst => "directory-synced-first",
            Variant::WrittenInPlace => "written-in-place",
            Variant::OldRemovedFirst => "old-removed-first",
            Variant::StartTrustsTheCache => "start-trusts-the-cache",
            Variant::DatabaseBeforeSidecar => "database-before-sidecar",
            Variant::DatabaseNotSynced => "database-not-synced",
            Variant::IndexBeforeRows => "index-before-rows",
            Variant::AnsweredBeforeCommit => "answered-before-commit",
        }
    }

    /// What is wrong with it, for people.
    pub const fn says(self) -> &'static str {
        match self {
            Variant::Control => "the applier as it is",
            Variant::TemporaryNotSynced => "the temporary sidecar is not synced",
            Variant::SyncedHalfWay => "it is synced when half of it is written, and not again",
            Variant::SyncedAfterRename => "it is synced after the rename only",
            Variant::DirectoryNotSynced => "the sidecar's directory is never synced",
            Variant::DirectorySyncedFirst => "the directory is synced before the rename, not after it",
            Variant::WrittenInPlace => {
                "no temporary sidecar: the old one is cut to nothing and written again"
            }
            Variant::OldRemovedFirst => "the old sidecar is removed before the rename",
            Variant::StartTrustsTheCache => "a start uses the sidecar as found, without making it durable",
            Variant::DatabaseBeforeSidecar => "the database is committed before the sidecar is renamed",
            Variant::DatabaseNotSynced => "commits do not sync the database",
            Variant::IndexBeforeRows => "the applied index is committed before the rows, in two transactions",
            Variant::AnsweredBeforeCommit => {
                "an entry is answered from memory, and committed with the next one"
            }
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A variant that there is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariant(String);

impl fmt::Display for UnknownVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Variant::all().map(Variant::name).collect();
        write!(f, "there is no variant {:?}; there are: {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownVariant {}

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(name: &str) -> Result<Variant, UnknownVariant> {
        Variant::all().find(|variant| variant.name() == name).ok_or_else(|| UnknownVariant(name.to_owned()))
    }
}
