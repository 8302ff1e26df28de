//! Decoders of plain bytes: nothing but their shape has to be right.

use applier::registry::{RowKey, WriterRow};
use applier::wire::{Entry, is_encryption_opcode};

use super::made::Bytes;

/// Log entries. Every payload that decodes is canonical: lengths and counts are what they are, and nothing follows.
pub(super) fn wire(data: &[u8]) {
    if let Ok(entry) = Entry::decode(data) {
        assert_eq!(entry.encode(), data, "{entry:?} decodes from other bytes than it is encoded to");
        let opcode = data.first().copied().expect("no bytes are no entry");
        assert!(is_encryption_opcode(opcode), "{entry:?} would never come to the applier");
        let cut = Entry::decode(&data[..data.len() - 1]);
        assert!(cut.is_err(), "{entry:?} is {cut:?} without its last byte");
        let longer = Entry::decode(&[data, &[0]].concat());
        assert!(longer.is_err(), "{entry:?} is {longer:?} with one byte more");
    }
    let entry = Bytes(data).entry();
    assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry), "it does not survive its bytes");
}

/// Keys and values of registry rows, both canonical. The order of the keys is that of their bytes, on which scans rely.
pub(super) fn registry(data: &[u8]) {
    if let Ok(key) = RowKey::decode(data) {
        assert_eq!(key.encode(), data, "{key:?}");
    }
    if let Ok(row) = WriterRow::decode(data) {
        assert_eq!(row.encode(), data, "{row:?}");
    }
    let mut bytes = Bytes(data);
    let (key, other, row) = (bytes.row_key(), bytes.row_key(), bytes.writer_row());
    assert_eq!(RowKey::decode(&key.encode()), Ok(key));
    assert_eq!(WriterRow::decode(&row.encode()), Ok(row));
    assert_eq!(key.cmp(&other), key.encode().cmp(&other.encode()), "{key:?} {other:?}");
}
