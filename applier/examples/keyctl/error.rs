//! Why a command did not do what it was asked to.

use applier::apply::{ClaimError, NotSealed, PromiseError};
use applier::envelope::storage::ReadError;
use applier::fault::IoFault;
use applier::kek::KekError;
use applier::registry::RegistryError;
use applier::sidecar::file::WriteFault;
use applier::{ApplyError, DekId, NotNow, RaftIndex, Reject, StartError};

use super::log::LogError;

/// What was wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no KEK in {dir:?}; run `keyctl {dir} init` first")]
    NoKek { dir: String },
    #[error("there are more than two KEK files in {dir:?}; remove those that `keyctl` did not make")]
    ManyKeks { dir: String },
    #[error(transparent)]
    Kek(#[from] KekError),
    #[error("the operating system gives no random bytes ({0}); try again")]
    Entropy(std::io::Error),
    #[error("{0}; look at the disk and its log, then try again")]
    Io(#[from] IoFault),
    #[error("{0}; look at the disk and its log, then try again")]
    Write(#[from] WriteFault),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the log holds the entries {first} to {last}, and this node has applied those up to {applied}: the log is not the \
         one of this node; put that back"
    )]
    OtherLog { first: RaftIndex, last: RaftIndex, applied: RaftIndex },
    #[error("entry {index} was not applied: {why}")]
    NotApplied { index: RaftIndex, why: String },
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error("nothing was done: {0}")]
    Refused(#[from] Reject),
    #[error("nothing was done: the key was rotated in the meantime; try again")]
    Stale,
    #[error("nothing was done: {0}")]
    NotJudged(#[from] ApplyError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    NotSealed(#[from] NotSealed),
    #[error(transparent)]
    Promise(#[from] PromiseError),
    #[error("nothing was done: there are no keys yet; run `keyctl DIR bootstrap` first")]
    NotBootstrapped,
    #[error("nothing was done: no key has the id {0}; `keyctl DIR status` lists them")]
    NoSuchKey(u32),
    #[error(
        "nothing was done: values are sealed under key {id} ({count}, among them that of {example:?}); run `keyctl DIR reseal` \
         first"
    )]
    KeyOfValues { id: DekId, count: usize, example: String },
    #[error(
        "nothing was done: entries of the log are sealed under key {id} ({count}); run `keyctl DIR compact` first"
    )]
    KeyOfEntries { id: DekId, count: usize },
    #[error("there is no value under {0:?}")]
    NoValue(String),
    #[error("the value under {key:?} cannot be read: {fault}")]
    Unreadable { key: String, fault: ReadError },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the database could not be read: {0}; look at the disk and its log, then try again")]
    Database(#[from] Box<redb::Error>),
    #[error("the output could not be written: {0}")]
    Output(#[from] std::io::Error),
    #[error("{} found wrong:\n{}", .0.len(), .0.join("\n"))]
    Wrong(Vec<String>),
}

/// Errors of redb, all of which are the database's.
pub(super) fn database(error: impl Into<redb::Error>) -> Error {
    Error::Database(Box::new(error.into()))
}
