//! What a power loss did, for display.

use std::fmt;

use super::{
    crash::{Fate, SECTOR},
    op::{InodeId, OpInfo, Pending},
    tree::Tree,
};

/// What became of each operation that was pending when the power went.
#[derive(Clone, Debug)]
pub struct CrashReport {
    /// The call before which the disk died, if it did.
    pub died_at: Option<OpInfo>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) fates: Vec<Fate>,
    /// The view just before, for the names of files.
    pub(crate) view: Tree,
}

impl CrashReport {
    /// Each operation with its fate, in program order.
    pub fn iter(&self) -> impl Iterator<Item = (&Pending, Fate)> {
        self.pending.iter().zip(self.fates.iter().copied())
    }

    /// How many operations were pending.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing was pending, so that the crash had nothing to decide.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Each operation in words, in program order.
    pub fn describe(&self) -> Vec<String> {
        self.pending.iter().map(|op| Described { op, report: self }.to_string()).collect()
    }

    fn path(&self, inode: InodeId) -> String {
        self.view.path_of(inode).unwrap_or_else(|| inode.to_string())
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (op, fate)) in self.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{}: {fate}", Described { op, report: self })?;
        }
        if self.is_empty() { f.write_str("nothing was pending") } else { Ok(()) }
    }
}

struct Described<'a> {
    op: &'a Pending,
    report: &'a CrashReport,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |inode| self.report.path(inode);
        match self.op {
            Pending::Link { name, inode, .. } => write!(f, "link {name} to {inode}"),
            Pending::Unlink { name, .. } => write!(f, "unlink {name}"),
            Pending::Rename { from, to, .. } => write!(f, "rename {from} to {to}"),
            Pending::Detach { from, to, .. } => write!(f, "detach {from} and {to}"),
            Pending::Write { inode, offset, data } => {
                write!(f, "write {} at {offset}, {} bytes", path(*inode), data.len())
            }
            Pending::SetLen { inode, len } => write!(f, "set_len {} to {len}", path(*inode)),
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Dropped => f.write_str("dropped"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Torn { new, reach } => {
                write!(f, "torn: new {SECTOR}-byte sectors {new:#b}, length up to {reach}")
            }
        }
    }
}
