//! Decoders of documents: the sidecar, snapshots, seed files. What has a checksum is mended first, so that a fuzzer's changes are
//! judged by what they are, not by a checksum that they miss.

use std::path::Path;

use applier::Snapshot;
use applier::sidecar::SidecarContent;
use applier::sidecar::json;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sim::Tape;

use super::made::Bytes;
use crate::seeds::{Case, SeedFile};
use crate::subject::MemberSnapshot;

/// What stands behind the digits of a sidecar's checksum.
const SIDECAR_END: &[u8] = b"\"\n}";
/// Digits of a sidecar's checksum.
const DIGITS: usize = 64;
/// Bytes of a snapshot before its rows; the number of rows is at 12, the length of the sidecar at 16.
const SNAPSHOT_HEADER: usize = 28;
/// Bytes of a snapshot's row.
const SNAPSHOT_ROW: usize = 39;
/// Bytes of a snapshot's checksum.
const SNAPSHOT_CHECKSUM: usize = 32;

/// Sidecars. A file of ours is canonical. One of the reference system is not, and is only ever read: printed in two other ways
/// it has to say the same.
pub(super) fn sidecar(data: &[u8]) {
    read_sidecar(data);
    let mut mended = data.to_vec();
    mend_sidecar(&mut mended);
    read_sidecar(&mended);
    let made = Bytes(data).sidecar();
    let read = json::decode(&json::encode(&made));
    assert_eq!(read, Ok(SidecarContent::Ours(made)), "a sidecar does not survive its bytes");
}

fn read_sidecar(bytes: &[u8]) {
    match json::decode(bytes) {
        Err(_) => {}
        Ok(SidecarContent::Ours(sidecar)) => {
            let encoded = json::encode(&sidecar);
            assert!(encoded == bytes, "other bytes than {}", String::from_utf8_lossy(&encoded));
        }
        Ok(SidecarContent::Foreign(foreign)) => {
            let document: Value = serde_json::from_slice(bytes).expect("it was read a moment ago");
            for printed in [serde_json::to_vec(&document), serde_json::to_vec_pretty(&document)] {
                let printed = printed.expect("what was read is written");
                let again = json::decode(&printed);
                assert_eq!(again, Ok(SidecarContent::Foreign(foreign.clone())), "printed differently");
            }
        }
    }
}

/// Puts the right checksum where a file of ours has its own: at its very end.
fn mend_sidecar(bytes: &mut [u8]) {
    let Some(at) = bytes.len().checked_sub(SIDECAR_END.len() + DIGITS) else { return };
    bytes[at..at + DIGITS].fill(b'0');
    let digits: String = Sha256::digest(&*bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
}

/// Snapshots, canonical.
pub(super) fn snapshot(data: &[u8]) {
    read_snapshot(data);
    let mut mended = data.to_vec();
    mend_snapshot(&mut mended);
    read_snapshot(&mended);
    let made = Bytes(data).snapshot();
    assert_eq!(Snapshot::decode(&made.encode()).as_ref(), Ok(&made), "a snapshot does not survive its bytes");
}

fn read_snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        assert!(snapshot.encode() == bytes, "other bytes than those of {snapshot:?}");
    }
}

/// Gives a snapshot the lengths that fit, and both checksums.
fn mend_snapshot(bytes: &mut [u8]) {
    let Some(content) = bytes.len().checked_sub(SNAPSHOT_CHECKSUM) else { return };
    let Some(room) = content.checked_sub(SNAPSHOT_HEADER) else { return };
    let wanted = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let rows = wanted.min(room / SNAPSHOT_ROW);
    let sidecar = room - rows * SNAPSHOT_ROW;
    bytes[12..16].copy_from_slice(&(rows as u32).to_be_bytes());
    bytes[16..20].copy_from_slice(&(sidecar as u32).to_be_bytes());
    mend_sidecar(&mut bytes[content - sidecar..content]);
    let checksum = Sha256::digest(&bytes[..content]);
    bytes[content..].copy_from_slice(&checksum);
}

/// What a member of a simulated cluster sends: a snapshot, and the host's part. Canonical.
pub(super) fn member_snapshot(data: &[u8]) {
    read_member_snapshot(data);
    let mut mended = data.to_vec();
    if let Some((len, rest)) = mended.split_first_chunk_mut::<4>() {
        let machine = u32::from_be_bytes(*len) as usize;
        rest.get_mut(..machine).into_iter().for_each(mend_snapshot);
    }
    read_member_snapshot(&mended);
    let mut bytes = Bytes(data);
    let made = MemberSnapshot {
        data: (0..bytes.below(5)).map(|_| (bytes.u64(), bytes.some())).collect(),
        sessions: (0..bytes.below(5)).map(|_| (bytes.u64(), (bytes.u64(), bytes.u64()))).collect(),
        machine: bytes.snapshot(),
    };
    let read = MemberSnapshot::decode(&made.encode());
    assert_eq!(read, Some(made), "a member's snapshot does not survive its bytes");
}

fn read_member_snapshot(bytes: &[u8]) {
    if let Some(snapshot) = MemberSnapshot::decode(bytes) {
        assert!(snapshot.encode() == bytes, "other bytes than those of {snapshot:?}");
    }
}

/// Seed files, and the tapes in them. Neither is canonical: there are blanks, comments, and more than one way to write a string.
/// What is written from what was read has to be read as the same, and written as the same from then on.
pub(super) fn seed_file(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(tape) = text.parse::<Tape>() {
            assert_eq!(tape.to_string().parse().as_ref(), Ok(&tape), "a tape does not survive its text");
        }
        if let Ok(case) = Case::parse(text, name()) {
            survives(&case.file);
        }
    }
    let made = Bytes(data).seed_file();
    survives(&made);
}

/// Stands for a seed file that is nowhere.
fn name() -> &'static Path {
    Path::new("fuzzed.toml")
}

fn survives(file: &SeedFile) {
    let text = file.text();
    let case = match Case::parse(&text, name()) {
        Ok(case) => case,
        Err(error) => panic!("it is written as what is no seed file: {error}\n{text}"),
    };
    assert_eq!(&case.file, file, "it is written as another one:\n{text}");
    assert_eq!(case.file.text(), text, "it is written anew in another way");
}
