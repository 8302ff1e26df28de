//! The simulated world of a deterministic test harness: decisions, a disk that can crash, a network that loses
//! messages, and a record of what happened.
//!
//! - [`Choices`] is the one door for every surprise. It answers from a seed, a tape, a fuzzer's bytes, or
//!   walks all answers there are ([`Exhaustive`]); whatever it answers is on its [`Tape`], and 0 always means
//!   that nothing bad happens.
//! - [`Disk`] is a disk with a crash model. Programs use it through a [`Mount`] and its [`File`]s. What is
//!   done is *pending* until it is synced; a power loss decides what becomes of it. What survives a crash is
//!   all in `disk/crash.rs`; how adversarial that is, a [`Profile`] names.
//! - [`Fault`] plans what goes wrong next, a [`SyncFailure`] what a sync that fails leaves behind; [`Lies`]
//!   break the disk's promises on purpose.
//! - [`Trace`] is a rolling hash of what happened, and a list of [`Event`]s if wanted; [`Probes`] count places
//!   reached.
//! - [`crashes`] is the short way: a program and a judge in, every crash of it, the shortest ways to what is bad
//!   and the missing syncs out.
//! - [`DiskSim`] ties disks to the nodes of a madsim runtime.
//! - [`Net`] carries messages between those nodes. [`NetWeather`] says how often they are dropped, duplicated
//!   and delayed; links are cut in one direction at a time. [`SharedChoices`] is what the tasks of a runtime
//!   draw from together.
//!
//! Same tape, same world: nothing in here reads a clock, the environment, a thread's identity or the order of
//! a randomly hashed map.
//!
//! The [`tutorial`] puts a system of your own under all this, step by step.
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
//! # Two messages, one of them late
//!
//! ```
//! use sim::{Address, Choices, Net, NetWeather, Ratio, Trace};
//!
//! madsim::runtime::Runtime::with_seed_and_config(1, madsim::Config::default()).block_on(async {
//!     let net = Net::start(Trace::hashing());
//!     net.set_weather(NetWeather { delay: Ratio::new(1, 2), delay_ms_max: 5, ..NetWeather::CALM });
//!     let mut inbox = net.bind(Address(2));
//!     // The first is delayed, by 1 + 3 ms; the second is not.
//!     let choices = &mut Choices::bytes(&[1, 3, 0]);
//!     net.send(choices, Address(1), Address(2), 0, "first");
//!     net.send(choices, Address(1), Address(2), 0, "second");
//!     assert_eq!(inbox.recv().await, Some("second"));
//!     assert_eq!(inbox.recv().await, Some("first"));
//!     net.stop();
//!     assert_eq!(inbox.recv().await, None);
//! });
//! ```
//!
//! # What is not modelled
//!
//! Of the network: connections (each message is on its own), bandwidth, limits to what is in flight or waits
//! in an inbox, changed or truncated contents, a sender that learns what became of its message, latencies of
//! their own for single links, and time finer than a millisecond.
//!
//! Of the disk: sectors that tear inside, rotting bits, misdirected writes, hard links, permissions, removing
//! directories, renaming across directories, several programs with different caches, and the time that an
//! operation takes.
//! That what *is* modelled agrees with a real operating system, `tests/semantics.rs` checks call by call.

mod choices;
pub mod crashes;
mod disk;
mod exhaustive;
mod net;
mod plugin;
mod probes;
mod shared;
mod site;
mod tape;
mod trace;
pub mod tutorial;

pub use crate::{
    choices::{Asked, Choices, Mismatch, Ratio},
    disk::{
        Checkpoint, CrashReport, Disk, Errno, Fate, Fault, File, InodeId, Leak, Lies, Mount, Needles, OpInfo,
        OpKind, Pending, Profile, SECTOR, Snapshot, SyncFailure, Tearing, UnknownLie, UnknownProfile,
        WHOLE_FROM, errno,
    },
    exhaustive::Exhaustive,
    net::{Address, Inbox, Net, NetCounts, NetWeather},
    plugin::DiskSim,
    probes::Probes,
    shared::SharedChoices,
    site::Site,
    tape::{Draw, Tape, TapeError, TapeProblem},
    trace::{Beside, Clock, Event, Trace},
};
