//! What applying one entry can come to.

use crate::envelope::OpenError;
use crate::fault::IoFault;
use crate::ids::{DekId, LocalEpoch, NodeId, Purpose, RaftIndex};
use crate::ports::{BlobFault, KekCheck};
use crate::registry::{Clash, CommitError, RegistryError};
use crate::sidecar::file::WriteFault;
use crate::wire::WireError;

/// The outcome of one entry. Everything but `Applied` and `NoOp` stops the host's apply loop without advancing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The entry's effect is in place and durable.
    Applied,
    /// The entry changes nothing; that it was seen is durable.
    NoOp(NoOp),
    /// Decided from the entry and the state alone, equal on every replica, and nothing was touched.
    Rejected(Reject),
    /// An error before the first mutating call: nothing was touched, the same call may succeed later.
    Failed(ApplyError),
    /// An error after the first mutating call: the outcome is unknown until the next start, and this applier
    /// applies nothing more. Reads go on.
    Halted(HaltCause),
}

impl Outcome {
    /// Whether the host may go on to the next entry.
    pub const fn advances(&self) -> bool {
        matches!(self, Outcome::Applied | Outcome::NoOp(_))
    }
}

/// Why an entry changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOp {
    /// The database's index is at or past it.
    AlreadyApplied,
    /// The sidecar is past it and names no effect of it: it changed nothing the first time either.
    NotNamed,
    /// The bootstrap that was applied, proposed once more.
    DuplicateBootstrap,
    /// A rotation that was applied, proposed once more. It moves no active pointer.
    DuplicateRotation,
    /// The row says the same already.
    DuplicateRegistration,
    /// The retirement that was applied, proposed once more.
    DuplicateRetirement,
    /// The rewrap that was applied, proposed once more.
    DuplicateRewrap,
    /// The envelope is on already. Its cutover stays where it was.
    CutoverRepeated,
    /// The cutover is for a key that is not the active one any more. The envelope stays off.
    CutoverStale,
}

/// Why an entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The payload does not decode.
    #[error("the entry does not decode: {0}")]
    Wire(#[from] WireError),
    /// Key id 0 is reserved.
    #[error("the entry uses the reserved key id 0")]
    ReservedKeyId,
    /// Node id 0 is reserved.
    #[error("the entry uses the reserved node id 0")]
    ReservedNodeId,
    /// A wrapped key with no bytes, or with more than a sidecar holds.
    #[error("the wrapped key for {id} has {len} bytes; 1 to 4096 are allowed")]
    WrappedLength {
        /// The key.
        id: DekId,
        /// Its wrapped length in bytes.
        len: usize,
    },
    /// This node has no keyring.
    #[error("this node has no KEK; configure one together with a sidecar path, and restart")]
    KekNotConfigured,
    /// A key whose purpose is another one than the entry says, or may have.
    #[error("the entry says that key {id} is for {got:?}, which it is not")]
    OtherPurpose {
        /// The key.
        id: DekId,
        /// The purpose that the entry gives it.
        got: Purpose,
    },
    /// A wrapped key where there must be none.
    #[error("an entry that installs no key carries {len} bytes of one")]
    NeedlessKey {
        /// Its wrapped length in bytes.
        len: usize,
    },
    /// An epoch where there must be none: a retirement registers nobody.
    #[error("a retirement carries epoch 0 of its proposer, not {got}")]
    NeedlessEpoch {
        /// The epoch.
        got: u16,
    },
    /// One id for both purposes.
    #[error("storage and raft share the key id {0}")]
    EqualIds(DekId),
    /// A batch row, or a proposer row, for a key that the entry does not install.
    #[error("a row is for key {row}, which the entry does not install")]
    ForeignRow {
        /// The key of the row.
        row: u32,
    },
    /// A row breaks the registration rules.
    #[error(transparent)]
    Registration(#[from] Clash),
    /// A wrapped key does not open.
    #[error("key {id} does not open: {fault}")]
    BlobDoesNotOpen {
        /// The key.
        id: DekId,
        /// What is wrong with it.
        fault: BlobFault,
    },
    /// The same key bytes under two ids.
    #[error("keys {0} and {1} have the same bytes")]
    EqualKeyBytes(DekId, DekId),
    /// A bootstrap after another one.
    #[error("the cluster was bootstrapped by the entry at index {by}")]
    AlreadyBootstrapped {
        /// Where the first bootstrap stands.
        by: RaftIndex,
    },
    /// A rotation before any bootstrap.
    #[error("the cluster is not bootstrapped")]
    NotBootstrapped,
    /// Ids are never reused.
    #[error("key id {id} was installed by the entry at index {by}")]
    KeyIdInUse {
        /// The id.
        id: DekId,
        /// Where the entry that installed it stands.
        by: RaftIndex,
    },
    /// A registration, a cutover or a retirement of a key that does not exist at that point of the log.
    #[error("key {0} is not known")]
    UnknownKey(DekId),
    /// The retirement of a key in use.
    #[error("key {0} is the active one of its purpose; rotate it first")]
    KeyActive(DekId),
    /// The key was retired before.
    #[error("key {id} was retired by the entry at index {by}")]
    KeyRetired {
        /// The key.
        id: DekId,
        /// Where the entry that retired it stands.
        by: RaftIndex,
    },
    /// A rewrap that does not follow the newest one.
    #[error("the keys are in generation {current} of the KEK; a rewrap leads to the next one, not to {got}")]
    KekGeneration {
        /// The generation that the keys are in.
        current: u32,
        /// The generation of the entry.
        got: u32,
    },
    /// A rewrap under a KEK that this node does not have.
    #[error(
        "this node has no KEK with the check value {wanted}; configure it as the current one, and restart"
    )]
    KekNotInRing {
        /// The check value.
        wanted: KekCheck,
    },
    /// A rewrap that leaves a key out, or has one too many or twice.
    #[error("the rewrap and the keys that are not retired differ in key {id}")]
    RewrapKeys {
        /// The lowest key that they differ in.
        id: u32,
    },
    /// A rewrap that would change a key's bytes.
    #[error("the rewrap has other bytes for key {0}")]
    RewrapBytes(DekId),
    /// An entry behind the raft cutover that does not open.
    #[error("the entry does not open, and every entry behind the raft cutover has to: {0}")]
    Sealed(#[from] OpenError),
}

/// Why an entry could not be judged. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The KEK could not be asked.
    #[error("the KEK could not be used: {0}")]
    KekUnavailable(String),
    /// The KEK in force is not among those that this node was started with.
    #[error("this node has no KEK with the check value {wanted}; configure it, and restart")]
    KekMissing {
        /// The check value.
        wanted: KekCheck,
    },
    /// The keystore holds other bytes under an id that the sidecar does not know.
    #[error(transparent)]
    Keystore(#[from] crate::keystore::KeystoreError),
    /// An earlier entry of this life halted; its outcome is unknown until the next start.
    #[error("an earlier entry halted this applier; restart it")]
    Poisoned,
    /// The sidecar was written by the reference system.
    #[error("the sidecar was written by the reference system; adopt it first")]
    Foreign,
    /// The sidecar has effects that the database lacks, so that this is no state of one index: nothing can be
    /// admitted on it, and no snapshot be taken of it.
    #[error(
        "the sidecar is at index {sidecar} and the database at {applied}; deliver the entries in between first"
    )]
    SidecarAhead {
        /// Index of the sidecar.
        sidecar: RaftIndex,
        /// Index of the database.
        applied: RaftIndex,
    },
    /// The host skipped an index.
    #[error("entry {got} was delivered where entry {expected} was due")]
    IndexGap {
        /// The index due.
        expected: RaftIndex,
        /// The index delivered.
        got: RaftIndex,
    },
    /// The host delivers another entry at an index whose effect this node already has.
    #[error("the sidecar has the effect of another entry at index {index}: this is not the log it came from")]
    DifferentEntry {
        /// The index.
        index: RaftIndex,
    },
}

/// What failed after the first mutating call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HaltCause {
    /// The sidecar write.
    #[error("the sidecar was not written: {0}")]
    Sidecar(#[from] WriteFault),
    /// The registry commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a node refuses to start. What an operator can do stands in each message; nothing was overwritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] crate::registry::OpenError),
    /// The registry cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A call to the operating system failed.
    #[error(transparent)]
    Io(#[from] IoFault),
    /// The sidecar write failed.
    #[error("the sidecar could not be made durable: {0}")]
    SidecarWrite(#[from] WriteFault),
    /// The sidecar is damaged, or not a sidecar.
    #[error(
        "{path:?}: {fault}; put this node's newest file back, have it written anew from a healthy peer's snapshot (resync), or \
         remove this node and add it again"
    )]
    Sidecar {
        /// The file.
        path: String,
        /// What is wrong with it.
        fault: crate::sidecar::json::SidecarError,
    },
    /// There is a sidecar with keys, and no database.
    #[error(
        "the sidecar {sidecar:?} has keys and the database {database:?} is missing; a fresh one would repeat \
         epochs, so restore it, or remove this node and add it again"
    )]
    DatabaseMissing {
        /// The sidecar.
        sidecar: String,
        /// The database.
        database: String,
    },
    /// The database proves that this node had a sidecar.
    #[error(
        "the sidecar {path:?} is missing, and this node applied the key entry at index {applied}; put the file \
         back, have it written anew from a healthy peer's snapshot (resync), or remove this node and add it again"
    )]
    SidecarMissing {
        /// Where it should be.
        path: String,
        /// The newest entry that changed it.
        applied: RaftIndex,
    },
    /// The database proves that this node had a newer sidecar.
    #[error(
        "the sidecar {path:?} is at index {found}, and this node applied the key entry at index {applied}: it is an \
         old copy; put the newest back, have it written anew from a healthy peer's snapshot (resync), or remove this \
         node and add it again"
    )]
    SidecarStale {
        /// The file.
        path: String,
        /// Its index.
        found: RaftIndex,
        /// The newest entry that changed it.
        applied: RaftIndex,
    },
    /// This node has applied key entries and is started without a keyring.
    #[error(
        "this node applied the key entry at index {applied} and is started without a KEK; configure its KEK and \
         its sidecar path"
    )]
    KeyringRequired {
        /// The newest entry that changed the sidecar.
        applied: RaftIndex,
    },
    /// This node has promised its KEK to a leader and is started without a keyring.
    #[error(
        "this node has told its cluster that it has the KEK with the check value {promised} and is started without \
         one; start with that KEK and a sidecar path, or remove this node and add it again"
    )]
    KeyringPromised {
        /// The check value of the KEK that was promised.
        promised: KekCheck,
    },
    /// This node has promised another KEK to a leader.
    #[error(
        "this node has told its cluster that it has the KEK with the check value {promised} and is started with that \
         of {found}; start with the KEK that was promised, as the previous one if there is a newer, or remove this \
         node and add it again"
    )]
    OtherKek {
        /// The check value of the KEK that was promised.
        promised: KekCheck,
        /// That of the KEK that the node was started with.
        found: KekCheck,
    },
    /// A key of the sidecar does not open under the KEK.
    #[error(
        "key {id} of the sidecar does not open ({fault}); start with the KEK that wrapped it, as the previous one if \
         there is a newer"
    )]
    KekMismatch {
        /// The key.
        id: DekId,
        /// What is wrong.
        fault: BlobFault,
    },
    /// The KEK could not be asked.
    #[error("the KEK could not be used: {0}")]
    KekUnavailable(String),
    /// The KEK that the sidecar's keys are wrapped under is not configured.
    #[error(
        "the keys of this node are wrapped under the KEK with the check value {wanted}, and it is not configured; start \
         with it, as the previous one if there is a newer"
    )]
    KekMissing {
        /// The check value of that KEK.
        wanted: KekCheck,
    },
    /// Two keys of the sidecar have the same bytes.
    #[error(
        "keys {0} and {1} of the sidecar have the same bytes, so nonces would repeat; remove this node and add it again"
    )]
    EqualKeyBytes(DekId, DekId),
    /// The database proves that this node has claimed a higher epoch than the sidecar says.
    #[error(
        "the sidecar {path:?} is at epoch {found} under key {id}, and this node has claimed epoch {claimed}: it is an \
         old copy; put the newest back, have it written anew from a healthy peer's snapshot (resync), or remove this \
         node and add it again"
    )]
    EpochBehind {
        /// The file.
        path: String,
        /// The key.
        id: DekId,
        /// Epoch in the file.
        found: LocalEpoch,
        /// Epoch in the database.
        claimed: LocalEpoch,
    },
    /// There is a sidecar, and encryption is not enabled.
    #[error(
        "there is a sidecar at {path:?} and encryption is not enabled, so its keys would be ignored; enable encryption, \
         with the KEK of this node"
    )]
    SidecarPresentWithoutFlag {
        /// The sidecar.
        path: String,
    },
    /// Encryption is enabled, and there is no KEK.
    #[error("encryption is enabled and there is no KEK; configure the KEK of this node's cluster")]
    KekRequiredWithFlag,
    /// Encryption is enabled, and nobody has said where the sidecar is.
    #[error("encryption is enabled and there is no sidecar path; configure one, the same at every start")]
    SidecarPathRequiredWithFlag,
    /// A sync that the sidecar depends on fails.
    #[error(
        "{0}; what the sidecar says must outlast a power loss, so put it on a filesystem that can sync files and directories"
    )]
    UnsupportedFilesystem(IoFault),
    /// The host's snapshot and the sidecar are of different histories.
    #[error(
        "the newest snapshot here has its raft cutover at index {snapshot}, and the sidecar has it at {sidecar} (0: none, \
         or no sidecar); configure this node's sidecar path and KEK; if the sidecar is lost, or not this node's newest, put that back, \
         have it written anew from a healthy peer's snapshot (resync), or remove this node and add it again"
    )]
    CutoverDivergence {
        /// Index that the snapshot carries.
        snapshot: RaftIndex,
        /// Index that the sidecar carries; 0 where there is none.
        sidecar: RaftIndex,
    },
    /// Two nodes of this cluster would write under the same nonces.
    #[error(
        "the nodes {one} and {other} have the same low 16 bits, so their nonces would repeat; remove one of them from \
         the cluster, leave it out of the peers that this node is started with, and add it again under another id"
    )]
    NodeIdCollision {
        /// The lower id.
        one: NodeId,
        /// The higher id.
        other: NodeId,
    },
    /// Entries are in envelopes, which one Raft group alone can open.
    #[error(
        "the raft envelope is in force and this process runs {got} raft groups; its cutover index is that of one log, so \
         start it with exactly one"
    )]
    ShardGroups {
        /// How many there are.
        got: u32,
    },
}
