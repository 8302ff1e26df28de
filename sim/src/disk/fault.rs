//! What goes wrong next: a plan that is drawn before a life and then carried out without further draws.

use super::{
    errno::{EIO, ENOSPC},
    op::{OpInfo, OpKind},
};

/// An error that a disk can be told to give.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Errno {
    /// Input/output error, 5. Any call can meet it.
    Eio,
    /// No space left on the device, 28. Only a call that consumes space can meet it.
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
}

/// The armed faults and what has come of them in this life.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan {
    armed: Vec<Fault>,
    pub(crate) dead: bool,
    pub(crate) died_at: Option<OpInfo>,
    pub(crate) last_fault: Option<(OpInfo, Errno)>,
    pub(crate) sync_failed: bool,
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
            Fault::ErrorAtCall { .. } => false,
        })
    }

    /// The error that this call meets, if any; it is then used up.
    pub(crate) fn take_error(&mut self, number: u64, consumes_space: bool) -> Option<Errno> {
        let hit = self.armed.iter().position(|fault| match fault {
            Fault::DieAtMutation(_) | Fault::DieAtNameCall(_) => false,
            Fault::ErrorAtCall { call, errno: Errno::Eio } => number >= *call,
            Fault::ErrorAtCall { call, errno: Errno::Enospc } => number >= *call && consumes_space,
        })?;
        match self.armed.remove(hit) {
            Fault::ErrorAtCall { errno, .. } => Some(errno),
            Fault::DieAtMutation(_) | Fault::DieAtNameCall(_) => None,
        }
    }

    /// Remembers an error that was given, for those who watch.
    pub(crate) fn note(&mut self, info: OpInfo, errno: Errno) {
        self.sync_failed |= matches!(info.kind, OpKind::SyncFile | OpKind::SyncDir);
        self.last_fault = Some((info, errno));
    }
}
