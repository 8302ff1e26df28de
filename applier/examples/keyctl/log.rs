//! The log of a cluster of one: a file that is only ever appended to, and in which an entry counts once it is synced.
//!
//! ```text
//! file     "keyctl 1" | base index u64 | base term u64 | checksum 8 | record *
//! record   length u32 of what follows | checksum 8 | index u64 | term u64 | kind u8 | data
//! ```
//!
//! Integers are big-endian. A checksum is the first eight bytes of a SHA-256: in the header over what stands before it, in
//! a record over what stands behind it. The records have the indices from the base on, each one above the one before.
//!
//! # What a crash leaves
//!
//! The next record is written once the one before is synced, so that the last one alone can be torn, and nobody was told
//! that it counts. It is cut off when the next one is written. Anything else that does not read is damage, and is refused:
//! to cut that off would be to forget entries that count.
//!
//! A process that was killed leaves records in the page cache that the disk may not have yet. Whoever applied one of those
//! and then lost power would have the effect of an entry that never was; so opening syncs before it reads.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use applier::RaftIndex;
use applier::fault::IoFault;
use applier::os::OsFiles;
use applier::ports::Files;
use applier::sidecar::file::{SidecarPath, WriteFault};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"keyctl 1";
const CHECKSUM_LEN: usize = 8;
const HEADER_LEN: usize = 8 + 8 + 8 + CHECKSUM_LEN;
/// Length and checksum.
const PREFIX_LEN: usize = 4 + CHECKSUM_LEN;
/// Index, term, kind.
const FIXED_LEN: usize = 8 + 8 + 1;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A leader's first entry of its term: it has no data, and is never in an envelope.
    Empty,
    /// Whatever was proposed; behind the raft cutover in an envelope.
    Proposal,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) index: RaftIndex,
    pub(super) term: u64,
    pub(super) kind: Kind,
    pub(super) data: Vec<u8>,
}

/// Why the log was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// A call to the operating system failed.
    #[error(transparent)]
    Io(#[from] IoFault),
    /// It was not made, or not made shorter.
    #[error("the log was not written: {0}; look at the disk and its log, then try again")]
    Write(#[from] WriteFault),
    /// Nobody knows whether the entry counts.
    #[error(
        "{0}, so whether this entry counts is unknown; look at the disk and its log, then run `keyctl DIR status`"
    )]
    Unknown(IoFault),
    /// Not a log of this program.
    #[error("{path:?} is no log of this program; put this directory's own back")]
    Foreign { path: String },
    /// Something in it does not read that was synced once.
    #[error(
        "{path:?} is damaged at byte {at}, before its last entry; put the values that a backup of the directory has into a new \
         directory: going on in an old copy would issue nonces twice"
    )]
    Damaged { path: String, at: usize },
}

/// The log, open. Who opens it holds the lock of the database, so that there is no second one.
#[derive(Debug)]
pub(super) struct Log {
    path: String,
    file: File,
    /// The entry before the first record, and its term.
    base: (RaftIndex, u64),
    records: Vec<Record>,
    /// Where the next record goes.
    end: u64,
    /// Whether something torn stands there.
    is_torn: bool,
}

impl Log {
    /// Opens the log at `path`, and makes one without entries where there is none.
    pub(super) fn open(path: &str) -> Result<Log, LogError> {
        let fault = |call| move |error: std::io::Error| IoFault::new(call, path, &error);
        let file = SidecarPath::new(path);
        file.remove_leftover(&OsFiles)?;
        if OsFiles.len(path).map_err(fault("look up"))?.is_none() {
            file.write(&OsFiles, &header(RaftIndex::ZERO, 0))?;
        }
        let dir = file.dir();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(fault("open"))?;
        file.sync_all().map_err(fault("sync"))?;
        OsFiles.sync_dir(dir).map_err(|error| IoFault::new("sync the directory", dir, &error))?;
        let bytes = std::fs::read(path).map_err(fault("read"))?;
        let base = read_header(&bytes).ok_or_else(|| LogError::Foreign { path: path.to_owned() })?;
        let mut log = Log {
            path: path.to_owned(),
            file,
            base,
            records: Vec::new(),
            end: HEADER_LEN as u64,
            is_torn: false,
        };
        log.read_records(&bytes)?;
        Ok(log)
    }

    fn read_records(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let mut at = HEADER_LEN;
        while at < bytes.len() {
            let expected = self.last().next();
            match decode(&bytes[at..]).filter(|(record, _)| record.index == expected) {
                Some((record, len)) => {
                    self.records.push(record);
                    at += len;
                }
                None => {
                    let is_later = |(record, _): (Record, usize)| record.index > expected;
                    if (at + 1..bytes.len()).any(|at| decode(&bytes[at..]).is_some_and(is_later)) {
                        return Err(LogError::Damaged { path: self.path.clone(), at });
                    }
                    self.is_torn = true;
                    break;
                }
            }
        }
        self.end = at as u64;
        Ok(())
    }

    /// Writes an entry behind the last one. When this returns, the entry counts, whatever happens.
    pub(super) fn append(&mut self, term: u64, kind: Kind, data: Vec<u8>) -> Result<RaftIndex, LogError> {
        let path = self.path.as_str();
        let fault = |call| move |error: std::io::Error| IoFault::new(call, path, &error);
        if self.is_torn {
            // Synced, so that no rest of the torn record can come to stand behind the new one.
            self.file.set_len(self.end).map_err(fault("cut off the torn end of"))?;
            self.file.sync_all().map_err(fault("sync"))?;
        }
        let record = Record { index: self.last().next(), term, kind, data };
        let bytes = encode(&record);
        self.file.write_all_at(&bytes, self.end).map_err(|error| LogError::Unknown(fault("write")(error)))?;
        self.file.sync_all().map_err(|error| LogError::Unknown(fault("sync")(error)))?;
        let index = record.index;
        self.is_torn = false;
        self.end += bytes.len() as u64;
        self.records.push(record);
        Ok(index)
    }

    /// Leaves out every entry. They have to be applied, durably, by whoever would ask for them.
    pub(super) fn compact(&mut self) -> Result<(), LogError> {
        SidecarPath::new(&self.path).write(&OsFiles, &header(self.last(), self.last_term()))?;
        *self = Log::open(&self.path)?;
        Ok(())
    }

    /// Index of the entry before the first one that is here.
    pub(super) fn base(&self) -> RaftIndex {
        self.base.0
    }

    /// Index of the last entry.
    pub(super) fn last(&self) -> RaftIndex {
        self.records.last().map_or(self.base.0, |record| record.index)
    }

    /// The newest term.
    pub(super) fn last_term(&self) -> u64 {
        self.records.last().map_or(self.base.1, |record| record.term)
    }

    /// Every entry that is here, in order.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    *digest.first_chunk().expect("8 of 32 bytes")
}

fn header(base: RaftIndex, term: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(base.0.to_be_bytes());
    bytes.extend(term.to_be_bytes());
    bytes.extend(checksum(&bytes));
    bytes
}

/// Base index and base term.
fn read_header(bytes: &[u8]) -> Option<(RaftIndex, u64)> {
    let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
    let (content, sum) = header.split_last_chunk::<CHECKSUM_LEN>()?;
    if !content.starts_with(MAGIC) || *sum != checksum(content) {
        return None;
    }
    let (base, term) = content[MAGIC.len()..].split_first_chunk::<8>()?;
    Some((RaftIndex(u64::from_be_bytes(*base)), u64::from_be_bytes(term.try_into().ok()?)))
}

fn encode(record: &Record) -> Vec<u8> {
    let mut content = Vec::with_capacity(FIXED_LEN + record.data.len());
    content.extend(record.index.0.to_be_bytes());
    content.extend(record.term.to_be_bytes());
    content.push(match record.kind {
        Kind::Empty => 0,
        Kind::Proposal => 1,
    });
    content.extend(&record.data);
    let len = u32::try_from(content.len()).expect("what is put on a command line is shorter than 4 GiB");
    [&len.to_be_bytes()[..], &checksum(&content), &content].concat()
}

/// The record that the bytes begin with, and its whole length.
fn decode(bytes: &[u8]) -> Option<(Record, usize)> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_LEN>()?;
    let content = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    let (index, fields) = content.split_first_chunk::<8>()?;
    let (term, fields) = fields.split_first_chunk::<8>()?;
    let (kind, data) = fields.split_first()?;
    let kind = match kind {
        0 => Kind::Empty,
        1 => Kind::Proposal,
        _ => return None,
    };
    if *sum != checksum(content) {
        return None;
    }
    let index = RaftIndex(u64::from_be_bytes(*index));
    let record = Record { index, term: u64::from_be_bytes(*term), kind, data: data.to_vec() };
    Some((record, PREFIX_LEN + content.len()))
}
