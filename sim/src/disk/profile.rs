//! How adversarial a disk is.

use std::{fmt, str::FromStr};

/// Which crash states are possible. Each profile's states are a subset of those of [`Profile::Posix`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Profile {
    /// Only what POSIX promises: whatever was not synced survives or not, piece by piece and in no order.
    #[default]
    Posix,
    /// What ext4 with `data=ordered` and `auto_da_alloc` was measured to do (ALICE, OSDI'14; the ext4
    /// documentation): names survive as a prefix of a journal that every sync commits, a replacing rename
    /// brings the new file's data with it, and the length of a file never covers data that did not reach the
    /// disk.
    Ext4Ordered,
}

impl Profile {
    /// Every profile, the default first.
    pub const ALL: [Self; 2] = [Self::Posix, Self::Ext4Ordered];

    /// The name used on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posix => "posix",
            Self::Ext4Ordered => "ext4-ordered",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no profile.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no disk profile is called {name:?}; there are: {}", Profile::ALL.map(Profile::name).join(", "))]
pub struct UnknownProfile {
    /// The name that was given.
    pub name: String,
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| UnknownProfile { name: name.to_owned() })
    }
}

/// Deliberate breaches of the disk's promises. An invariant that does not notice any of them has no teeth.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Lies {
    /// A file's sync answers `Ok` and does nothing.
    pub skip_file_sync: bool,
    /// A directory's sync answers `Ok` and does nothing.
    pub skip_dir_sync: bool,
    /// A rename takes the old names away and adds the new name in two steps that a crash decides on
    /// separately, so that it can leave neither.
    pub rename_not_atomic: bool,
}

impl Lies {
    /// No breach: the disk keeps its promises.
    pub const NONE: Self = Self { skip_file_sync: false, skip_dir_sync: false, rename_not_atomic: false };

    /// Each breach alone, with its name.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("skip-file-sync", Self { skip_file_sync: true, ..Self::NONE }),
        ("skip-dir-sync", Self { skip_dir_sync: true, ..Self::NONE }),
        ("rename-not-atomic", Self { rename_not_atomic: true, ..Self::NONE }),
    ];

    /// The name, where this is one breach alone.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMED.iter().find(|(_, lies)| *lies == self).map(|(name, _)| *name)
    }
}

/// A name that is no breach.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no disk lies by {name:?}; there are: {}", Lies::NAMED.map(|(name, _)| name).join(", "))]
pub struct UnknownLie {
    /// The name that was given.
    pub name: String,
}

impl FromStr for Lies {
    type Err = UnknownLie;

    fn from_str(name: &str) -> Result<Self, UnknownLie> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, lies)| *lies);
        found.ok_or_else(|| UnknownLie { name: name.to_owned() })
    }
}
