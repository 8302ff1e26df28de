//! The simulated world of a deterministic test harness: decisions, a disk that can crash, and a record of
//! what happened.
//!
//! - [`Choices`] is the one door for every surprise. It answers from a seed, a tape, a fuzzer's bytes, or
//!   walks all answers there are ([`Exhaustive`]); whatever it answers is on its [`Tape`], and 0 always means
//!   that nothing bad happens.
//! - [`Disk`] is a disk with a crash model. Programs use it through a [`Mount`] and its [`File`]s. What is
//!   done is *pending* until it is synced; a power loss decides what becomes of it. What survives a crash is
//!   all in `disk/crash.rs`; how adversarial that is, a [`Profile`] names.
//! - [`Fault`] plans what goes wrong next, a [`SyncFailure`] what a sync that fails leaves behind; [`Lies`]
//!   break the disk's promises on purpose.
//! - [`Trace`] is a rolling hash of what happened, and lines of text if wanted; [`Probes`] count places
//!   reached.
//! - [`DiskSim`] ties disks to the nodes of a madsim runtime.
//!
//! Same tape, same world: nothing in here reads a clock, the environment, a thread's identity or the order of
//! a randomly hashed map.
//!
//! # A crash in eight lines
//!
//! ```
//! use sim::{Choices, Disk, Exhaustive, Profile};
//!
//! let disk = Disk::new(Profile::Posix);
//! let file = disk.mount().create_new("/a")?;
//! file.write_at(0, b"hello")?;
//! file.sync()?; // The data is durable now, the name is not.
//!
//! let mut walk = Exhaustive::new();
//! let mut outcomes = Vec::new();
//! while let Some(mut choices) = walk.begin() {
//!     let survivor = disk.fork();
//!     survivor.power_loss(&mut choices);
//!     outcomes.push(survivor.peek("/a"));
//!     walk.end(choices)?;
//! }
//! assert_eq!(outcomes, [Some(b"hello".to_vec()), None]);
//!
//! // The calmest crash loses nothing; an old handle reaches nothing.
//! disk.power_loss(&mut Choices::bytes(&[]));
//! assert_eq!(disk.peek("/a"), Some(b"hello".to_vec()));
//! assert!(file.write_at(0, b"ghost").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is not modelled
//!
//! Sectors that tear inside, rotting bits, misdirected writes, hard links, permissions, removing directories,
//! renaming across directories, several programs with different caches, and the time that an operation takes.
//! That what *is* modelled agrees with a real operating system, `tests/semantics.rs` checks call by call.

mod choices;
mod disk;
mod exhaustive;
mod plugin;
mod probes;
mod site;
mod tape;
mod trace;

pub use crate::{
    choices::{Asked, Choices, Mismatch, Ratio},
    disk::{
        Checkpoint, CrashReport, Disk, Errno, Fate, Fault, File, InodeId, Leak, Lies, Mount, Needles, OpInfo,
        OpKind, Pending, Profile, SECTOR, Snapshot, SyncFailure, Tearing, UnknownLie, UnknownProfile,
        WHOLE_FROM, errno,
    },
    exhaustive::Exhaustive,
    plugin::DiskSim,
    probes::Probes,
    site::Site,
    tape::{Draw, Tape, TapeError, TapeProblem},
    trace::Trace,
};
