//! Your own system under this harness in ten minutes.
//!
//! The system here is a counter in a file. It is wrong in two ways, and the chapter finds both. All code on this
//! page is run by `cargo test`. Larger ones are in `sim/examples`: `config_writer`, a whole check in under 60
//! lines, and `storage_engines`, with adaptors for redb and SQLite.
//!
//! # 1. Ports for your file calls
//!
//! The program must reach its files through something that can be replaced: a trait of your own with a method
//! for each thing that you ask of the operating system. In production `std::fs` is behind it, here a
//! [`Mount`](crate::Mount), which counts every call and can die before any of them. What you wrap around the
//! calls (buffers, retries, caches) belongs to the program and stays in front of the port.
//!
//! ```
#![doc = include_str!("ports.rs")]
//! ```
//!
//! A library with a pluggable backend brings its port along.
//!
//! # 2. Run it on the disk
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
#![doc = include_str!("naive.rs")]
//!
//! # fn main() -> Result<(), io::Error> {
//! let disk = sim::Disk::default();
//! assert_eq!(add(&disk.mount())?, 1);
//! assert_eq!(add(&disk.mount())?, 2);
//! // A process crash keeps what is in the page cache: all is well.
//! disk.process_crash();
//! assert_eq!(get(&disk.mount())?, 2);
//! // A power loss need not.
//! assert_eq!(disk.only_durable().peek("/counter"), None);
//! # Ok(())
//! # }
//! ```
//!
//! # 3. Crash it everywhere, and judge
//!
//! [`CrashTest`](crate::crashes::CrashTest) runs the program once, takes the disk before each of its mutating
//! calls, and makes every crash there that can be: that of the process, and each legal outcome of a power loss.
//! The program says what it has promised, with [`Run::acknowledge`](crate::crashes::Run::acknowledge). The judge
//! says whether what survived will do. A good judge does what the next life of the program does, and goes on
//! working: a database that can be read and not be written to is broken, too.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/naive.rs"));
#![doc = include_str!("judge.rs")]
//!
//! # fn main() -> Result<(), sim::crashes::CrashTestError> {
//! use sim::crashes::CrashTest;
//!
//! let test = CrashTest::new(
//!     |run| {
//!         for _ in 0..2 {
//!             add(run.mount())?;
//!             run.acknowledge();
//!         }
//!         Ok(())
//!     },
//!     |survivor| judge(survivor, add),
//! );
//! let report = test.check()?;
//! let bad: Vec<&str> = report.findings.iter().map(|finding| finding.bad.as_str()).collect();
//! assert_eq!(bad, [
//!     "it can't be added to: entity already exists",
//!     "the counter can't be read: invalid data",
//!     "the counter goes back",
//! ]);
//! # assert_eq!(report.to_string(), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/report.txt")).trim_end());
//! # Ok(())
//! # }
//! ```
//!
//! # 4. Read the report
//!
//! Each kind of bad outcome, which is what the judge returns, comes once, with the shortest way to it. A
//! [`Report`](crate::crashes::Report) is data, and prints like this:
//!
//! ```text
#![doc = include_str!("report.txt")]
//! ```
//!
//! The first says that an `add` that was cut short stops every later one: the temporary file is still there. The
//! others kept the rename and lost what was to be renamed, its length or its data.
//!
//! [`CrashTest::replay`](crate::crashes::CrashTest::replay) gives the survivor of a finding, for a closer look.
//!
//! # 5. Repair it
//!
//! [`CrashTest::repair`](crate::crashes::CrashTest::repair) looks for the smallest set of syncs that removes all
//! that is bad. For the program above there is none, since no sync removes a file. Once the program does that
//! itself, there is:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/naive.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/judge.rs"));
//! # use sim::crashes::CrashTest;
#![doc = include_str!("tidy.rs")]
//!
//! fn once(add: fn(&Mount) -> io::Result<u64>, run: &sim::crashes::Run) -> sim::crashes::RunResult {
//!     add(run.mount())?;
//!     run.acknowledge();
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), sim::crashes::CrashTestError> {
//! let naive = CrashTest::new(|run| once(add, run), |survivor| judge(survivor, add));
//! assert_eq!(naive.repair(2)?, None);
//!
//! let tidy = CrashTest::new(|run| once(add_tidily, run), |survivor| judge(survivor, add_tidily));
//! assert_eq!(tidy.repair(2)?.expect("there is one").to_string(), "\
//! 2 barriers repair it (9 sets tried)
//!   sync_file /tmp, between write /tmp and rename /counter
//!   sync_dir /, after rename /counter, the last call");
//! # Ok(())
//! # }
//! ```
//!
//! With both in the program nothing is found, also where the program's next life is crashed at every call, and
//! the one after that:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/naive.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/judge.rs"));
//! # use sim::crashes::CrashTest;
#![doc = include_str!("durable.rs")]
//!
//! # fn main() -> Result<(), sim::crashes::CrashTestError> {
//! let test = CrashTest::new(
//!     |run| {
//!         add_durably(run.mount())?;
//!         run.acknowledge();
//!         Ok(())
//!     },
//!     |survivor| judge(survivor, add_durably),
//! );
//! let report = test.recovery_depth(2).check()?;
//! assert!(report.is_clean() && report.is_complete(), "{report}");
//! # Ok(())
//! # }
//! ```
//!
//! # 6. Search where there is too much to walk
//!
//! What a long run can do, with many lives and faults in one, nobody walks. It is drawn instead: write a world
//! that takes every decision from a [`Choices`](crate::Choices), and run it with many seeds. Armed beforehand,
//! [`Fault`](crate::Fault)s hit calls: deaths, errors with their errno, syncs that fail, short writes.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/naive.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/durable.rs"));
#![doc = include_str!("world.rs")]
//!
//! # fn main() {
//! assert!((0..100).any(|seed| world(&mut Choices::seeded(seed), add).is_err()));
//! for seed in 0..1_000 {
//!     let mut choices = Choices::seeded(seed);
//!     world(&mut choices, add_durably).unwrap_or_else(|bad| panic!("seed {seed}: {bad}\n{}", choices.tape()));
//! }
//! # }
//! ```
//!
//! # 7. Reproduce a finding from its tape
//!
//! A seed means something else as soon as the program draws once more. The tape does not: it is the list of all
//! draws, and a text that can be kept in a file. Replay is strict, and says where a run leaves its tape.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/naive.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/durable.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/world.rs"));
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sim::Tape;
//!
//! let found = (0..100).find_map(|seed| {
//!     let mut choices = Choices::seeded(seed);
//!     let bad = world(&mut choices, add).err()?;
//!     Some((bad, choices.tape().to_string()))
//! });
//! let (bad, text) = found.expect("one of a hundred seeds finds it");
//!
//! let tape: Tape = text.parse()?;
//! let mut choices = Choices::replayed(tape.clone());
//! assert_eq!(world(&mut choices, add), Err(bad));
//! choices.finish()?;
//!
//! // Another program asks other questions, and is told so. Or it takes what fits.
//! let mut choices = Choices::replayed(tape.clone());
//! world(&mut choices, add_durably).ok();
//! println!("{}", choices.finish().expect_err("it leaves the tape"));
//! assert_eq!(world(&mut Choices::replayed_loosely(tape), add_durably), Ok(()));
//! # Ok(())
//! # }
//! ```
//!
//! With [`Choices::replayed_loosely`](crate::Choices::replayed_loosely) a tape can also be made smaller: delete
//! draws, or lower them, as long as the same is found. 0 is calm, so a small tape is a calm run. And with
//! [`Choices::bytes`](crate::Choices::bytes) a fuzzer draws.
//!
//! # 8. Add the network
//!
//! Nodes are those of a madsim runtime, which has its own time. [`DiskSim`](crate::DiskSim) gives each its disk:
//! killing the node stops it, and a power loss decides what is left. Messages go through a [`Net`](crate::Net),
//! which loses, copies and delays them as its weather says. The seed of the runtime, which decides whose turn it
//! is, is a draw like any other.
//!
//! Here a client asks a server to add, until the server says that it has; now and then the server loses its
//! power. The counter may end higher than the client asked for, since an answer can be lost, but never lower.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/ports.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/naive.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tutorial/durable.rs"));
#![doc = include_str!("network.rs")]
//!
//! # fn main() {
//! assert!((0..20).any(|seed| cluster(Choices::seeded(seed), add).is_err()));
//! for seed in 0..20 {
//!     let ended = cluster(Choices::seeded(seed), add_durably);
//!     ended.unwrap_or_else(|tape| panic!("seed {seed}\n{tape}"));
//! }
//! # }
//! ```
//!
//! # What to read next
//!
//! [`Profile`](crate::Profile) says how adversarial a disk is: `posix` promises least, the others are file
//! systems as they were measured. [`Lies`](crate::Lies) break promises on purpose, so that you see whether your
//! judge notices. A [`Trace`](crate::Trace) hashes or keeps all that happened: run a seed twice, and compare. The
//! [front page](crate) says what is not modelled.
