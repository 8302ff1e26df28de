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
//! - [`cipher`], [`nonce`] and [`envelope`] are what values and entries are sealed with, [`sealer`] is what a claim gives.
//! - [`mod@preflight`] and [`known`] are the guards of a start, in their order: what was configured, and what the host knows.
//! - [`ports`] are the traits behind which the outside world stands; [`os`] and [`kek`] implement them for production.
//!
//! It needs a Unix: there alone a name is made durable, by a sync of its directory.
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
//! - **No nonce twice.** A leader seals under a [claim](Applier::claim) alone: an epoch that was made durable before it was
//!   proposed, above every one that it, or whoever had its disk or its id before, can have sealed under.
//! - **What was clear is over for good.** A [cutover](Applier::cutover) happens once, at one index, on every node.
//!
//! # The life of a key
//!
//! ```text
//!   KEK in a file (kek)          wire::Bootstrap / wire::Rotation 0x01
//!        | wraps                            |
//!        v                                  v
//!   wrapped key ----- in an entry -----> INSTALLED, and ACTIVE for its purpose
//!        ^                                  |
//!        |                                  |  registration (0x03) by whoever leads: Applier::claim
//!        |                                  v
//!        |                             CLAIMED by a node: epoch e, nonces (node16, e, 1..)
//!        |                                  |
//!        |                                  |  wire::Rotation 0x04, 0x05: once a cluster and purpose
//!        |                                  v
//!        |                             SEALING: values (envelope::storage) or log entries (envelope::raft)
//!        |                                  |
//!  wire::Rewrap 0x02                        |  wire::Rotation 0x01 of the same purpose installs the next one
//!  all unretired keys,                      v
//!  same bytes, next KEK                READING: opens what it has sealed, seals nothing more
//!        |                                  |
//!        +--- of every one of these         |  wire::Rotation 0x03, once nothing refers to it
//!                                           v
//!                                      RETIRED: a tombstone; its id and its bytes never come back
//! ```
//!
//! Where each state is kept: the sidecar has `keys` (installed), `active`, `keys[id].local_epoch` (claimed here), `cutovers`
//! (sealing), `retired` (tombstones) and `rewraps` (the last of them names the KEK in force); the registry has a row for
//! each writer, and the epochs and KEKs that are this node's alone; memory has the bytes of every key that is not retired.
//! See [`sidecar::json`], [`registry`] and [`keystore`].
//!
//! # Claiming
//!
//! A node that has begun to lead, and has applied the first entry of its term, asks [`Applier::claim`] for both purposes, and
//! proposes what it is given, one at a time. When those are applied, [`Applier::sealer`] has what it seals with, until it
//! leads no more or the key is rotated. A node that has used up the epochs of a key, 65,535 of them, goes on reading and
//! applying; a rotation gives it a new key and all epochs back. Behind the raft cutover it cannot propose that rotation itself, since
//! it could not seal it: whoever leads with the last epoch of a raft key (see [`Sealer::nonces`]) rotates it while that claim
//! is held, or hands over to a member that has epochs left. Nothing else ever moves an epoch, so a node that crashes
//! again and again at its start uses up none.
//!
//! # Cutting over
//!
//! Nothing clear may follow a cutover in the log, so its leader proposes it when nothing is in flight, and nothing after it
//! until it is applied. A new leader has applied it before it proposes anything, since it waits for its own first entry.
//!
//! # Retiring a key
//!
//! Whether anything still refers to a key is for the host to know, before it proposes the retirement, with nothing in flight:
//!
//! - a storage key: no value in the applied state is sealed under it;
//! - a raft key: every node has applied every entry that is in an envelope of it, and none goes back behind one: logs and
//!   snapshots that a node could be restored to begin after the last of them.
//!
//! # Exchanging the KEK
//!
//! See [`kek::KekRing`]. The keys stay the same; what wraps them becomes another. [`Applier::kek_status`] says when a node can
//! do without the old one.
//!
//! # When a node refuses to start
//!
//! Every [`StartError`] names the way out. A sidecar that was lost, damaged or rolled back is written anew from a healthy
//! peer's snapshot by [`resync`]; a node whose database is gone is removed and added again.
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
//!     keyring: Some(KeyringConfig { kek: kek.clone().into(), sidecar: path("keys.json") }),
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
pub mod cipher;
pub mod envelope;
pub mod fault;
pub mod ids;
pub mod kek;
pub mod keystore;
pub mod known;
pub mod nonce;
pub mod os;
pub mod outcome;
pub mod ports;
pub mod preflight;
pub mod probe;
pub mod registry;
pub mod sealer;
pub mod secret;
pub mod sidecar;
pub mod snapshot;
pub mod wire;

pub use admission::{Admission, Capability, GateClosed, Leadership, MutatorGate, NotNow};
pub use apply::{
    Applier, Claim, ClaimError, Config, InstallError, KekStatus, KeyringConfig, NotSealed, PromiseError,
    ResyncError, resync,
};
pub use cipher::{Cipher, CipherError};
pub use envelope::{Envelope, EnvelopeError, OpenError};
pub use ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
pub use known::Known;
pub use nonce::{Nonce, NonceExhausted, NonceFactory};
pub use outcome::{ApplyError, HaltCause, NoOp, Outcome, Reject, StartError};
pub use ports::KekCheck;
pub use sealer::{SealError, Sealer};
pub use snapshot::{Snapshot, SnapshotError};
