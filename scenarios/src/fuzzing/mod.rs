//! What a fuzzer's bytes are put to, in one table: every decoder, and worlds whose draws the bytes are.
//!
//! A check returns where all is well and panics where something is wrong. Both the targets of `fuzz/` and the tests that
//! replay the kept corpora call it, so that a fuzzer and `cargo test` are of one opinion.
//!
//! A decoder is held to three things: no bytes make it panic; what it decodes is encoded to the very same bytes, where its form
//! is canonical (each check says where it is not, and is content with the same value then); and what is encoded from a value
//! that was made of the bytes decodes to that value. Checksums and tags stop a fuzzer that only changes bytes, so the checks of
//! documents mend them, those of sealed bytes seal anew, and both look behind them.

pub mod corpus;
mod documents;
mod made;
mod plain;
mod sealed;
mod world;

pub use self::world::{Judged, World};

/// Something that a fuzzer's bytes are put to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the binary in `fuzz/`, and of the directory of its corpus.
    pub name: &'static str,
    /// Panics where something is wrong.
    pub check: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "wire", check: plain::wire },
    Target { name: "registry", check: plain::registry },
    Target { name: "kek", check: sealed::kek },
    Target { name: "envelope", check: sealed::envelope },
    Target { name: "sidecar", check: documents::sidecar },
    Target { name: "snapshot", check: documents::snapshot },
    Target { name: "member-snapshot", check: documents::member_snapshot },
    Target { name: "seed-file", check: documents::seed_file },
    Target { name: World::SINGLE.name, check: |data| World::SINGLE.check(data) },
    Target { name: World::CLUSTER.name, check: |data| World::CLUSTER.check(data) },
];

/// Puts bytes to a target.
///
/// # Panics
/// Where something is wrong with what came of them, or no target has that name.
pub fn check(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name:?}")).check)(data);
}

/// What a fuzzer does before its first input: it reads what is wanted of it (see [`World`]), and leaves panics of runs to those
/// who run them.
///
/// # Panics
/// Where the environment asks for what there is not.
pub fn begin() {
    world::read_environment();
    crate::run::silence_panics();
}
