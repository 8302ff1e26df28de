//! What the applier promises, on real files and a real database whose calls can fail.
//!
//! Some states that a test of the reference system pins cannot be built here, so no test is about them: an applier
//! without a registry or with an option that holds nothing (arguments are values, not pointers), one that has a KEK
//! and no sidecar path or the other way round (they come as one value, `KeyringConfig`), and active keys without an
//! entry in the sidecar's content (the file is refused when it is read).

mod admission;
mod adoption;
mod adoption_cutovers;
mod adoption_refused;
mod bootstrap;
mod claims;
mod convergence;
mod cutovers;
mod damage;
mod delivery;
mod guards;
mod halt;
mod harness;
mod host;
mod members;
mod no_guards;
mod preflight;
mod probe;
mod promise;
mod registration;
mod resync;
mod retirement;
mod rewrap;
mod rollback;
mod rotation;
mod snapshot_install;
mod snapshot_refused;
mod start;
mod undecodable;
