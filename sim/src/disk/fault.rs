//! What goes wrong next: a plan that is drawn before a life and then carried out without further draws.

use std::fmt;

use super::{
    barriers::Barriers,
    errno::{EIO, ENOSPC},
    op::{OpInfo, OpKind},
};

/// An error that a disk can be told to give. Which calls can meet which is in [`Errno::can_hit`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Errno {
    /// Input/output error, 5.
    Eio,
    /// No space left on the device, 28.
    Enospc,
}

impl Errno {
    /// The number, as in [`std::io::Error::raw_os_error`].
    pub const fn number(self) -> i32 {
        match self {
            Self::Eio => EIO,
            Self::Enospc => ENOSPC,
        }
    }

    /// Whether a call of this kind can give this error on a real system.
    ///
    /// | error | calls | why |
    /// |---|---|---|
    /// | EIO | all | the device can fail under any of them |
    /// | ENOSPC | create, mkdir, rename, directory sync | a directory may have to grow |
    /// | ENOSPC | write, `set_len` | blocks are taken, or reserved |
    /// | ENOSPC | file sync, close | blocks are taken late: delayed allocation, network file systems |
    ///
    /// Never ENOSPC: open, read, length, listing, unlink. (POSIX lists it for none of these. Btrfs can give it
    /// for unlink, and for a `set_len` that shrinks; of the two only the latter is offered.)
    pub const fn can_hit(self, kind: OpKind) -> bool {
        match self {
            Self::Eio => true,
            Self::Enospc => {
                !matches!(kind, OpKind::Open | OpKind::Read | OpKind::Len | OpKind::List | OpKind::Unlink)
            }
        }
    }
}

/// What a sync that fails leaves behind.
///
/// "Can Applications Recover from fsync Failures?" (ATC'20) measured on Linux that all file systems mark the
/// pages clean then; they differ in what the pages hold and in who hears of the error. The retry of a sync
/// after [`SyncFailure::LostButClean`] answers `Ok` and writes nothing.
///
/// Where a *directory's* sync fails, "what was pending" is what was pending on its entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SyncFailure {
    /// EIO; everything stays pending, and a retry works. The kindest of them, and what [`Fault::ErrorAtCall`]
    /// does.
    KeptPending,
    /// EIO; what was pending of the file never becomes durable, but reads go on to see it (measured for ext4
    /// with `data=ordered` and for XFS). A later write to one of those pages makes the whole page pending
    /// again, lost bytes included.
    LostButClean,
    /// EIO; what was pending of the file is gone, and reads see the durable content again (measured for
    /// Btrfs). Of a directory the same as [`SyncFailure::LostButClean`]: nobody measured lookups that go back.
    LostAndReverted,
    /// EIO, yet all of it is durable.
    Persisted,
    /// `Ok`, but lost as with [`SyncFailure::LostButClean`]. The next sync or close of the same inode, through
    /// whatever handle, in this life or after a process crash, answers EIO, once; that sync does nothing else,
    /// and what is pending by then stays pending. Where there is no such call nobody ever hears of it, and
    /// after a power loss neither.
    ReportedLate,
}

impl SyncFailure {
    /// Every one, the kindest first.
    pub const ALL: [Self; 5] =
        [Self::KeptPending, Self::LostButClean, Self::LostAndReverted, Self::Persisted, Self::ReportedLate];

    /// The name used in traces and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeptPending => "kept-pending",
            Self::LostButClean => "lost-but-clean",
            Self::LostAndReverted => "lost-and-reverted",
            Self::Persisted => "persisted",
            Self::ReportedLate => "reported-late",
        }
    }
}

impl fmt::Display for SyncFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that goes wrong.
///
/// Calls are numbered from 0 over the life of the whole disk, in three counts: a call's number is what
/// [`crate::Disk::calls`] says just before it, a mutating call's mutation number what
/// [`crate::Disk::mutations`] says, and that of a call about names what [`crate::Disk::name_calls`] says. So
/// `DieAtMutation(disk.mutations())` hits the very next mutating call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The disk dies: the mutating call that would have this mutation number is neither performed nor
    /// counted, and it and every later call of this life, reads too, answer EIO, change nothing and are not
    /// counted.
    DieAtMutation(u64),
    /// The same at the call about names (create, rename, unlink, mkdir, directory sync) with this number. They
    /// are few among many writes, and much depends on their order.
    DieAtNameCall(u64),
    /// One call answers with an error and changes nothing; it is counted. EIO hits the first call whose
    /// number is `call` or above; ENOSPC the first such call that consumes space (create, write, a growing
    /// `set_len`, mkdir).
    ErrorAtCall {
        /// The first call number that may be hit.
        call: u64,
        /// The error.
        errno: Errno,
    },
    /// The call with this number, and no other, answers with an error and changes nothing, if
    /// [`Errno::can_hit`] says that it can; it is counted. A sync hit by it has failed as with
    /// [`SyncFailure::KeptPending`]; a file whose close it hits is closed all the same.
    ErrorAtExactCall {
        /// The call number.
        call: u64,
        /// The error.
        errno: Errno,
    },
    /// A sync fails: the first, of a file or a directory, that would otherwise succeed and whose call number is
    /// `call` or above.
    FailSync {
        /// The first call number that may be hit.
        call: u64,
        /// What it leaves behind.
        how: SyncFailure,
    },
    /// A read or write handles fewer bytes than it could, as POSIX allows, and says so: the first whose call
    /// number is `call` or above and that would handle two bytes or more.
    ShortAtCall {
        /// The first call number that may be hit.
        call: u64,
        /// How many bytes it handles: at least one, and at least one fewer than it could.
        bytes: u64,
    },
}

/// The armed faults and what has come of them in this life.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan {
    armed: Vec<Fault>,
    pub(crate) dead: bool,
    pub(crate) died_at: Option<OpInfo>,
    pub(crate) last_fault: Option<(OpInfo, Errno)>,
    pub(crate) sync_failed: bool,
    /// Not a fault, but planned for this life, too.
    pub(super) barriers: Barriers,
}

impl FaultPlan {
    pub(crate) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(crate) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// Whether the mutating call with these numbers is the one before which the disk dies; `name_call` is that
    /// of a call about names. A number that has already passed when the fault is armed never comes again.
    pub(crate) fn dies_at(&self, mutation: u64, name_call: Option<u64>) -> bool {
        self.armed.iter().any(|fault| match fault {
            Fault::DieAtMutation(at) => *at == mutation,
            Fault::DieAtNameCall(at) => Some(*at) == name_call,
            _ => false,
        })
    }

    /// The error that this call meets, if any; it is then used up.
    pub(crate) fn take_error(&mut self, number: u64, kind: OpKind, consumes_space: bool) -> Option<Errno> {
        self.take(|fault| match *fault {
            Fault::ErrorAtCall { call, errno: Errno::Eio } if number >= call => Some(Errno::Eio),
            Fault::ErrorAtCall { call, errno: Errno::Enospc } if number >= call && consumes_space => {
                Some(Errno::Enospc)
            }
            Fault::ErrorAtExactCall { call, errno } if number == call && errno.can_hit(kind) => Some(errno),
            _ => None,
        })
    }

    /// How this sync fails, if it does; that is then used up.
    pub(crate) fn take_sync_failure(&mut self, number: u64) -> Option<SyncFailure> {
        self.take(|fault| match *fault {
            Fault::FailSync { call, how } if number >= call => Some(how),
            _ => None,
        })
    }

    /// How many of the bytes that it could handle this read or write does handle.
    pub(crate) fn take_short(&mut self, number: u64, could: usize) -> Option<usize> {
        if could < 2 {
            return None;
        }
        self.take(|fault| match *fault {
            Fault::ShortAtCall { call, bytes } if number >= call => {
                Some(bytes.clamp(1, could as u64 - 1) as usize)
            }
            _ => None,
        })
    }

    /// Takes the first armed fault that this makes something of.
    fn take<T>(&mut self, hit: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let (at, found) = self.armed.iter().enumerate().find_map(|(at, fault)| Some((at, hit(fault)?)))?;
        self.armed.remove(at);
        Some(found)
    }

    /// Remembers an error that was given, for those who watch.
    pub(crate) fn note(&mut self, info: OpInfo, errno: Errno) {
        self.sync_failed |= matches!(info.kind, OpKind::SyncFile | OpKind::SyncDir);
        self.last_fault = Some((info, errno));
    }
}
