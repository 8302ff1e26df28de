//! Where the simulated world meets the applier: worlds that run it, a model of what it should do, and the invariants
//! that it is held to.
//!
//! - [`world`] is what happens: a node, its log, its crashes. [`workload`] draws the log, [`form`] is one entry of it.
//! - [`subject`] is who it happens to; [`seam`] puts the subject on the simulated disk.
//! - [`model`] says what should come of it, [`history`] what did (in a cluster, [`chronicle`]), and [`invariants`]
//!   compares the two.
//! - [`teeth`] is who must be caught: ports that lie and subjects that are wrong.
//! - [`run`] runs a seed or a range of seeds, [`shrink`] minimises what was found, [`seeds`] keeps it, [`cli`] is `cargo sim`,
//!   [`output`] what it writes, [`page`] what of it a browser opens.
//! - [`timeline`] shows one run.
//! - [`fuzzing`] is what a fuzzer's bytes are put to: decoders, and worlds whose draws they are.
//! - [`coverage`] is where nodes died and what came of it, [`knobs`] what is done to them on purpose; [`results`] is what a
//!   sweep came to, written, read and merged, and [`report`] shows it.

#[cfg(not(madsim))]
compile_error!("run cargo inside the workspace with RUSTFLAGS unset, so that `--cfg madsim` is in force");

pub mod chronicle;
pub mod cli;
pub mod coverage;
pub mod form;
pub mod fuzzing;
pub mod history;
pub mod invariants;
pub mod knobs;
pub mod model;
pub mod output;
pub mod page;
pub mod probes;
pub mod prove;
pub mod report;
pub mod results;
pub mod run;
pub mod sealing;
pub mod seam;
pub mod seeds;
pub mod shrink;
pub mod subject;
pub mod teeth;
pub mod timeline;
pub mod workload;
pub mod world;
