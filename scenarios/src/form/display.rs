//! Entries in words.

use std::fmt;

use super::{Blob, BlobFault, CutoverFault, Form, Row, Seal};

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} node {:x} epoch {}", self.dek, self.node, self.epoch)
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seal { dek, key, node, epoch, count } = self;
        write!(f, "K{} (key {dek}), node {node:x} epoch {epoch} count {count}", key.0)
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "K{}", self.key.0)?;
        if self.seal != 0 {
            write!(f, "'{}", self.seal)?;
        }
        if self.kek != 0 {
            write!(f, "@{}", self.kek)?;
        }
        match self.fault {
            BlobFault::None => Ok(()),
            fault => write!(f, " ({fault:?})"),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Nothing => f.write_str("no-op"),
            Form::Data { key, value, seal: None } => write!(f, "data {key} = {value}"),
            Form::Data { key, value, seal: Some(seal) } => write!(f, "data {key} = {value} sealed by {seal}"),
            Form::Registration(row) => write!(f, "register {row}"),
            Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => {
                write!(f, "bootstrap storage {storage} = {storage_blob}, raft {raft} = {raft_blob}")?;
                rows.iter().try_for_each(|row| write!(f, "; {row}"))
            }
            Form::Rotation { dek, purpose, blob, row } => {
                write!(f, "rotate {purpose:?} to {dek} = {blob}; {row}")
            }
            Form::Cutover { purpose, dek, row, fault } => {
                write!(f, "enable {purpose:?} envelope under key {dek}; {row}")?;
                match fault {
                    CutoverFault::None => Ok(()),
                    fault => write!(f, " ({fault:?})"),
                }
            }
            Form::Retirement { dek, purpose, row, carries_key } => {
                write!(f, "retire {purpose:?} key {dek}; {row}")?;
                if *carries_key { f.write_str(" (carries a key)") } else { Ok(()) }
            }
            Form::Rewrap { generation, kek, keys } => {
                write!(f, "rewrap under KEK {kek}, generation {generation}")?;
                keys.iter().try_for_each(|(id, blob)| write!(f, "; {id} = {blob}"))
            }
            Form::Malformed(malformed) => write!(f, "malformed: {malformed:?}"),
        }
    }
}
