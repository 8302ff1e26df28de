//! The operations of a disk: the calls, and what they leave pending.

use std::{fmt, sync::Arc};

/// Number of a file or directory; names point to it. The root directory is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeId(pub(crate) u64);

impl InodeId {
    /// The number itself, as traces have it.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for InodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {}", self.0)
    }
}

/// The kinds of calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OpKind {
    /// [`crate::Mount::create_new`].
    Create,
    /// [`crate::Mount::open`].
    Open,
    /// [`crate::File::read_at`].
    Read,
    /// [`crate::File::write_at`].
    Write,
    /// [`crate::File::set_len`].
    SetLen,
    /// [`crate::File::close`].
    Close,
    /// [`crate::Mount::len`] and [`crate::File::len`].
    Len,
    /// [`crate::Mount::list`].
    List,
    /// [`crate::Mount::rename`].
    Rename,
    /// [`crate::Mount::unlink`].
    Unlink,
    /// [`crate::Mount::mkdir`].
    Mkdir,
    /// [`crate::File::sync`].
    SyncFile,
    /// [`crate::Mount::sync_dir`].
    SyncDir,
}

impl OpKind {
    /// The name used in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::SetLen => "set_len",
            Self::Close => "close",
            Self::Len => "len",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Mkdir => "mkdir",
            Self::SyncFile => "sync_file",
            Self::SyncDir => "sync_dir",
        }
    }

    /// Whether calls of this kind change the entries of a directory or make them durable.
    pub const fn concerns_names(self) -> bool {
        matches!(self, Self::Create | Self::Rename | Self::Unlink | Self::Mkdir | Self::SyncDir)
    }

    /// Whether calls of this kind make something durable.
    pub const fn is_sync(self) -> bool {
        matches!(self, Self::SyncFile | Self::SyncDir)
    }

    /// Whether calls of this kind are numbered as mutations. A sync changes nothing that can be read, but it
    /// changes what a crash can do, so it is one.
    pub const fn mutates(self) -> bool {
        !matches!(self, Self::Open | Self::Close | Self::Read | Self::Len | Self::List)
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which call it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpInfo {
    /// The kind of call.
    pub kind: OpKind,
    /// The path it was about: of an open file the path it was opened by, of a rename the new name.
    pub path: String,
}

impl OpInfo {
    pub(crate) fn new(kind: OpKind, path: &str) -> Self {
        Self { kind, path: path.to_owned() }
    }
}

impl fmt::Display for OpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path)
    }
}

/// Something that was done and is not yet durable. A crash gives each of these its fate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pending {
    /// `name` points to the new `inode`, a file or a directory. Also the second half of a rename that is not
    /// atomic.
    Link {
        /// The directory changed.
        dir: InodeId,
        /// The name added.
        name: Arc<str>,
        /// What it points to.
        inode: InodeId,
    },
    /// `name` no longer points to `inode`.
    Unlink {
        /// The directory changed.
        dir: InodeId,
        /// The name removed.
        name: Arc<str>,
        /// What it pointed to.
        inode: InodeId,
    },
    /// `to` points to `inode`, and `from` no longer does, in one step.
    Rename {
        /// The directory changed.
        dir: InodeId,
        /// The old name.
        from: Arc<str>,
        /// The new name.
        to: Arc<str>,
        /// What is renamed.
        inode: InodeId,
        /// What the new name pointed to before.
        replaced: Option<InodeId>,
    },
    /// The first half of a rename that is not atomic: both names are taken away.
    Detach {
        /// The directory changed.
        dir: InodeId,
        /// The old name.
        from: Arc<str>,
        /// The new name, which so far points to what is replaced.
        to: Arc<str>,
        /// What is renamed.
        inode: InodeId,
        /// What the new name pointed to before.
        replaced: Option<InodeId>,
    },
    /// `data` stands at `offset`.
    Write {
        /// The file changed.
        inode: InodeId,
        /// Position in bytes.
        offset: u64,
        /// The bytes written.
        data: Arc<[u8]>,
    },
    /// The file has `len` bytes.
    SetLen {
        /// The file changed.
        inode: InodeId,
        /// The new length in bytes.
        len: u64,
    },
}

impl Pending {
    /// The directory whose entries this changes, unless it is about data.
    pub(crate) fn dir(&self) -> Option<InodeId> {
        match self {
            Self::Link { dir, .. }
            | Self::Unlink { dir, .. }
            | Self::Rename { dir, .. }
            | Self::Detach { dir, .. } => Some(*dir),
            Self::Write { .. } | Self::SetLen { .. } => None,
        }
    }

    /// The file whose data or length this changes, unless it is about names.
    pub(crate) fn data_of(&self) -> Option<InodeId> {
        match self {
            Self::Write { inode, .. } | Self::SetLen { inode, .. } => Some(*inode),
            _ => None,
        }
    }

    /// The inode whose content this changes: a directory or a file.
    pub(crate) fn target(&self) -> InodeId {
        match self {
            Self::Link { dir, .. }
            | Self::Unlink { dir, .. }
            | Self::Rename { dir, .. }
            | Self::Detach { dir, .. } => *dir,
            Self::Write { inode, .. } | Self::SetLen { inode, .. } => *inode,
        }
    }

    /// The inode that names are given to or taken from, and those names; `None` if this is about data.
    pub(crate) fn naming(&self) -> Option<(InodeId, [&str; 2])> {
        match self {
            Self::Link { name, inode, .. } | Self::Unlink { name, inode, .. } => Some((*inode, [name, name])),
            Self::Rename { from, to, inode, .. } | Self::Detach { from, to, inode, .. } => {
                Some((*inode, [from, to]))
            }
            Self::Write { .. } | Self::SetLen { .. } => None,
        }
    }

    /// Every inode mentioned, for renumbering.
    pub(crate) fn inodes_mut(&mut self) -> [Option<&mut InodeId>; 3] {
        match self {
            Self::Link { dir, inode, .. } | Self::Unlink { dir, inode, .. } => [Some(dir), Some(inode), None],
            Self::Rename { dir, inode, replaced, .. } | Self::Detach { dir, inode, replaced, .. } => {
                [Some(dir), Some(inode), replaced.as_mut()]
            }
            Self::Write { inode, .. } | Self::SetLen { inode, .. } => [Some(inode), None, None],
        }
    }
}
