//! How adversarial a disk is.

use std::{fmt, str::FromStr};

/// Which crash states are possible. Each profile's states are a subset of those of [`Profile::Posix`].
///
/// What a profile takes away from `posix` is what a source says that the file system does; where sources are
/// silent or differ, nothing is taken away. Sources: ALICE (OSDI'14), Ferrite (ASPLOS'16), the documentation
/// and the change log of the kernel.
///
/// | | names survive | a sync also makes durable | a replacing rename brings the data | appended data |
/// |---|---|---|---|---|
/// | `posix` | each or not | nothing | no | any sector, and the length apart from it |
/// | `ext4-ordered` | as a prefix | all names | yes | a prefix over all appends to a file |
/// | `xfs` | as a prefix | all names | no | a prefix of each write |
/// | `btrfs` | as a prefix | the names that lead to what is synced | no | a prefix of each write, or zeros |
///
/// Overwritten data is the same under all: each sector old or new, files independent of each other.
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
    /// What XFS does. Sourced: names go through a log in order, and every sync forces the log; the length on
    /// disk grows only once the data has been written, to the end of what was written (Linux change "Fix to
    /// prevent the notorious 'NULL files' problem after a crash", 2007), so that no stale data shows; a
    /// replacing rename brings no data with it (XFS has nothing like `auto_da_alloc`), so the final name may
    /// show an empty or short file.
    ///
    /// Conservative: the writes of one file may reach the disk in any order, so that a later append that
    /// survives an earlier one shows zeros in its place; an unsynced change of length survives or not,
    /// although it goes through the log too; the flush when a file cut to nothing is closed is not counted
    /// on.
    Xfs,
    /// What Btrfs does. Sourced: a transaction commits names in order; a sync writes the file's data and logs
    /// the names that lead to it, with those of new directories above it, and not those of other files
    /// (the kernel's `tree-log.c`), so that names which were synced may survive older ones which were not; the
    /// length on disk grows only once data has been written, but then, in the `no-holes`
    /// format that is the default today, to the length that the file has in memory
    /// (`btrfs_inode_safe_disk_i_size_write`), so that zeros show where other data was still on its way.
    ///
    /// Sourced against what older measurements found: a replacing rename brings no data with it. It did until
    /// 2014, when the change "disable strict file flushes for renames and truncates" left a flush that is
    /// started and not waited for.
    ///
    /// Conservative: copy-on-write replaces whole blocks, yet overwritten sectors are old or new one by one;
    /// an unsynced change of length survives or not.
    Btrfs,
}

/// What a sync makes durable besides what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncLogs {
    /// Nothing.
    Nothing,
    /// Every pending name.
    AllNames,
    /// The pending names that lead to what is synced.
    OwnNames,
}

impl Profile {
    /// Every profile, the default first.
    pub const ALL: [Self; 4] = [Self::Posix, Self::Ext4Ordered, Self::Xfs, Self::Btrfs];

    /// The name used on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posix => "posix",
            Self::Ext4Ordered => "ext4-ordered",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Whether the names that survive are a prefix of those pending.
    pub(crate) const fn names_in_order(self) -> bool {
        !matches!(self, Self::Posix)
    }

    /// Whether a write extends a file only as far as its data survived.
    pub(crate) const fn length_after_data(self) -> bool {
        !matches!(self, Self::Posix)
    }

    /// Whether the changes of one file's length survive as a prefix.
    pub(crate) const fn lengths_in_order(self) -> bool {
        matches!(self, Self::Ext4Ordered)
    }

    /// Whether, where pages do not tear, a write over the end of a file is one page all the same.
    pub(crate) const fn pages_whole_at_the_end(self) -> bool {
        matches!(self, Self::Xfs | Self::Btrfs)
    }

    /// Whether an append that survived leaves the length that the file had in memory, data or not.
    pub(crate) const fn length_from_memory(self) -> bool {
        matches!(self, Self::Btrfs)
    }

    /// Whether a rename over an existing name brings with it what had been done to the renamed file.
    pub(crate) const fn rename_brings_data(self) -> bool {
        matches!(self, Self::Ext4Ordered)
    }

    pub(crate) const fn sync_logs(self) -> SyncLogs {
        match self {
            Self::Posix => SyncLogs::Nothing,
            Self::Ext4Ordered | Self::Xfs => SyncLogs::AllNames,
            Self::Btrfs => SyncLogs::OwnNames,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_read_back_from_its_name() {
        let names = ["posix", "ext4-ordered", "xfs", "btrfs"];
        assert_eq!(Profile::ALL.map(|profile| profile.to_string()), names);
        assert_eq!(names.map(|name| name.parse::<Profile>().expect("a profile")), Profile::ALL);
        assert_eq!(
            "ext4".parse::<Profile>().expect_err("no profile").to_string(),
            "no disk profile is called \"ext4\"; there are: posix, ext4-ordered, xfs, btrfs"
        );
    }

    #[test]
    fn every_lie_is_read_back_from_its_name_and_several_together_have_none() {
        let names = ["skip-file-sync", "skip-dir-sync", "rename-not-atomic"];
        let lies = Lies::NAMED.map(|(_, lies)| lies);
        assert_eq!(lies.map(|lies| lies.name().expect("it is one alone")), names);
        assert_eq!(names.map(|name| name.parse::<Lies>().expect("a lie")), lies);
        assert_eq!(Lies::NONE.name(), None);
        assert_eq!(Lies { skip_dir_sync: true, ..lies[0] }.name(), None);
        assert_eq!(
            "sync".parse::<Lies>().expect_err("no lie").to_string(),
            "no disk lies by \"sync\"; there are: skip-file-sync, skip-dir-sync, rename-not-atomic"
        );
    }
}
