//! Applies encryption-key entries of a Raft log, so that a crash or a refusal at any point leaves the node able to go
//! on: not stuck, not split from its peers, never issuing a nonce twice.
//!
//! One entry touches three places, in this order:
//!
//! ```text
//! Keystore (memory)  ->  sidecar file (durable)  ->  rows and index in the database (durable, one transaction)
//! ```
//!
//! - [`Applier`] judges an entry and executes it; [`Outcome`] says what came of it.
//! - [`admission`] is the leader's side: which requests become entries. [`snapshot`] is what stands for entries that are
//!   no longer there.
//! - [`wire`] is the entry format, [`sidecar`] the file, [`registry`] the rows, [`keystore`] the memory.
//! - [`mod@preflight`] and [`known`] are the guards of a start, in their order: what was configured, and what the host knows.
//! - [`ports`] are the traits behind which the outside world stands; [`os`] and [`kek`] implement them for production.
//!
//! What it promises:
//!
//! - **Replay is idempotent.** The index decides what is a replay: the database carries the newest applied one, the
//!   sidecar names the entry behind each of its effects.
//! - **A refusal leaves no side effect.** Everything is read, unwrapped and compared before the first mutating call.
//! - **An unknown outcome is said to be one.** After an error past the first mutating call the applier halts, and the
//!   next start finds out.
//! - **What is admitted is applied.** A leader asks [`Applier::admit`] before it proposes, and [`Leadership`] whether it
//!   may: an entry that it then proposes is rejected by no member. A member that has said it has the cluster's KEK
//!   ([`Applier::promise`]) does not start with another one.
//! - **A snapshot is as good as the log.** [`Applier::install`] ends where applying every entry up to its index ends, and
//!   what is a node's own never comes from another node.
//!
//! What it does not do yet: encrypt, claim epochs, switch envelopes, exchange a KEK.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use applier::{Applier, Config, KeyringConfig, NodeId, Outcome, RaftIndex};
//! use applier::{kek::LocalKek, os::{OsEntropy, OsFiles, SystemClock}, secret::Dek, wire};
//!
//! let dir = tempfile::tempdir()?;
//! let path = |name: &str| dir.path().join(name).to_str().expect("a UTF-8 path").to_owned();
//! let kek = Arc::new(LocalKek::new([7; 32]));
//! let config = Config {
//!     node: NodeId::new(0x11).expect("not 0"),
//!     database: path("registry.redb"),
//!     keyring: Some(KeyringConfig { kek: kek.clone(), sidecar: path("keys.json") }),
//!     known: Default::default(),
//! };
//! let mut applier = Applier::open(OsFiles, &config, Arc::new(SystemClock))?;
//!
//! let bootstrap = wire::Entry::Bootstrap(wire::Bootstrap {
//!     storage_id: 1,
//!     wrapped_storage: kek.wrap(&Dek::new([1; 32]), &OsEntropy)?.to_vec(),
//!     raft_id: 2,
//!     wrapped_raft: kek.wrap(&Dek::new([2; 32]), &OsEntropy)?.to_vec(),
//!     batch: vec![wire::Row { dek_id: 1, full_node_id: 0x11, local_epoch: 0 }],
//! });
//! let outcome = applier.apply(RaftIndex(1), &bootstrap.encode());
//! assert_eq!(outcome, Outcome::Applied);
//! assert_eq!(applier.applied_index(), RaftIndex(1));
//! # Ok(())
//! # }
//! ```

pub mod admission;
pub mod apply;
pub mod fault;
pub mod ids;
pub mod kek;
pub mod keystore;
pub mod known;
pub mod os;
pub mod outcome;
pub mod ports;
pub mod preflight;
pub mod probe;
pub mod registry;
pub mod secret;
pub mod sidecar;
pub mod snapshot;
pub mod wire;

pub use admission::{Admission, Capability, GateClosed, Leadership, MutatorGate, NotNow};
pub use apply::{Applier, Config, InstallError, KeyringConfig, PromiseError};
pub use ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
pub use known::Known;
pub use outcome::{ApplyError, HaltCause, NoOp, Outcome, Reject, StartError};
pub use ports::KekCheck;
pub use snapshot::{Snapshot, SnapshotError};
