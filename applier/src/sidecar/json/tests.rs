//! The exact bytes of a sidecar, and every way in which bytes fail to be one.

mod arbitrary;
mod later;

pub(crate) use arbitrary::{config, sidecars};

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::ids::LocalEpoch;
use crate::ports::KekCheck;
use crate::sidecar::{
    Active, Cutovers, EntryName, ForeignCutovers, ForeignKey, ForeignSidecar, KeyRecord, RewrapRecord,
    Sidecar, SidecarContent, Tombstone, WRAPPED_LEN_MAX,
};

/// Made by hand, with the checksum of another SHA-256.
const GOLDEN: &str = include_str!("golden.json");

/// The same without what is left out while it is unused.
const PLAIN: &str = include_str!("golden_plain.json");

fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

fn name(raft_index: u64, byte: u8) -> EntryName {
    EntryName { raft_index: RaftIndex(raft_index), sha256: [byte; 32] }
}

fn record(purpose: Purpose, wrapped: &[u8], local_epoch: u16, name: EntryName) -> KeyRecord {
    let created = "2020-01-01T00:00:00Z".to_owned();
    KeyRecord { purpose, wrapped: wrapped.to_vec(), created, local_epoch: LocalEpoch(local_epoch), name }
}

fn tombstone(purpose: Purpose, installed: EntryName, retired: EntryName, digest: [u8; 32]) -> Tombstone {
    Tombstone { purpose, installed, retired, digest }
}

pub(crate) fn sidecar() -> Sidecar {
    Sidecar {
        raft_applied_index: RaftIndex(9),
        cutovers: Cutovers { storage: Some(name(6, 0xd2)), raft: None },
        active: Active { storage: id(10), raft: id(2) },
        keys: [
            (id(1), record(Purpose::Storage, &[1, 2, 3], 0, name(3, 0xb0))),
            (id(2), record(Purpose::Raft, &[2, 2], u16::MAX, name(3, 0xb0))),
            (id(10), record(Purpose::Storage, &[10], 9, name(7, 0xc1))),
        ]
        .into(),
        retired: [(id(4), tombstone(Purpose::Raft, name(4, 0xe3), name(5, 0xf4), [0xa5; 32]))].into(),
        bootstrap: name(3, 0xb0),
        rewraps: vec![
            RewrapRecord { kek: KekCheck([1, 2, 3, 4, 5, 6, 7, 8]), name: name(8, 0x87) },
            RewrapRecord { kek: KekCheck([0x11; 8]), name: name(9, 0x96) },
        ],
    }
}

/// The same before any cutover, retirement and rewrap.
fn plain() -> Sidecar {
    Sidecar {
        raft_applied_index: RaftIndex(7),
        cutovers: Cutovers::default(),
        retired: BTreeMap::new(),
        rewraps: Vec::new(),
        ..sidecar()
    }
}

/// The golden text without what only we write.
fn foreign_text(version: u64) -> String {
    let mut lines: Vec<&str> = GOLDEN.lines().collect();
    let bootstrap = lines.iter().position(|line| line.contains("bootstrap")).expect("a field");
    lines.truncate(bootstrap);
    let ours = ["\"raft_index\"", "\"sha256\""];
    let cutover = |line: &str| version == 1 && line.contains("storage_envelope_cutover_index");
    lines.retain(|line| !ours.iter().any(|field| line.contains(field)) && !cutover(line));
    let text = lines.join("\n") + "\n}";
    let text = text.replace(": 0,\n    }", ": 0\n    }").replace(": 9,\n    }", ": 9\n    }");
    let text = text.replace(": 65535,\n    }", ": 65535\n    }").replace("  },\n}", "  }\n}");
    text.replace("\"version\": 2", &format!("\"version\": {version}"))
}

/// Replaces the first `from` of `text` and demands this error.
#[track_caller]
fn check_text(text: &str, from: &str, to: &str, error: &SidecarError) {
    assert!(text.contains(from), "{from} is not in the text");
    assert_eq!(decode(text.replacen(from, to, 1).as_bytes()).as_ref(), Err(error), "{from} -> {to}");
}

#[track_caller]
fn check(from: &str, to: &str, error: SidecarError) {
    check_text(GOLDEN, from, to, &error);
}

/// In a file of ours as in one of the reference.
#[track_caller]
fn check_both(from: &str, to: &str, error: SidecarError) {
    check_text(GOLDEN, from, to, &error);
    check_text(&foreign_text(2), from, to, &error);
}

#[track_caller]
fn check_shape(text: &str) {
    let decoded = decode(text.as_bytes());
    assert!(matches!(decoded, Err(SidecarError::Shape(_))), "{decoded:?} from {text}");
}

#[test]
fn a_sidecar_has_exactly_these_bytes() {
    assert_eq!(String::from_utf8(encode(&sidecar())).expect("text"), GOLDEN);
    assert_eq!(decode(GOLDEN.as_bytes()), Ok(SidecarContent::Ours(sidecar())));
    assert!(!GOLDEN.ends_with('\n'));
}

#[test]
fn what_is_unused_is_left_out() {
    assert_eq!(String::from_utf8(encode(&plain())).expect("text"), PLAIN);
    assert_eq!(decode(PLAIN.as_bytes()), Ok(SidecarContent::Ours(plain())));
}

#[test]
fn a_file_of_the_reference_is_foreign_in_both_versions() {
    for version in [1, 2] {
        let Ok(SidecarContent::Foreign(foreign)) = decode(foreign_text(version).as_bytes()) else {
            panic!("{:?}", decode(foreign_text(version).as_bytes()));
        };
        let cutovers = ForeignCutovers {
            storage_envelope_active: true,
            storage_envelope_cutover_index: RaftIndex(if version == 1 { 0 } else { 6 }),
            raft_envelope_cutover_index: RaftIndex(0),
        };
        let key = |(id, key): (DekId, KeyRecord)| {
            let KeyRecord { purpose, wrapped, created, local_epoch, .. } = key;
            (id, ForeignKey { purpose, wrapped, created, local_epoch })
        };
        let expected = ForeignSidecar {
            version,
            raft_applied_index: RaftIndex(9),
            cutovers,
            active_storage: Some(id(10)),
            active_raft: Some(id(2)),
            keys: sidecar().keys.into_iter().map(key).collect(),
        };
        assert_eq!(foreign, expected);
    }
}

#[test]
fn what_is_not_json_has_no_shape() {
    for text in ["", "{", "[]", "null", "{}", "\u{feff}{}"] {
        check_shape(text);
    }
    check_shape(&format!("{GOLDEN}x"));
    check_shape(&format!("{GOLDEN}{GOLDEN}"));
}

#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    for before in ["\"version\"", "\"storage\": 10", "\"purpose\""] {
        for text in [GOLDEN.to_owned(), foreign_text(2)] {
            check_shape(&text.replacen(before, &format!("\"unknown\": 1, {before}"), 1));
        }
    }
    check_shape(&GOLDEN.replacen("\"bootstrap\": {", "\"bootstrap\": {\"unknown\": 1,", 1));
    check_shape(&GOLDEN.replacen("\"version\"", "\"Version\"", 1));
}

#[test]
fn a_duplicate_field_is_refused_wherever_it_stands() {
    for before in ["\"raft_applied_index\": 9", "\"storage\": 10", "\"local_epoch\": 9"] {
        for text in [GOLDEN.to_owned(), foreign_text(2)] {
            check_shape(&text.replacen(before, &format!("{before}, {before}"), 1));
        }
    }
}

#[test]
fn what_should_have_been_a_map_by_key_id_is_said_to_be_none() {
    let keys = GOLDEN.find("\"keys\": {").expect("it has keys");
    let error = decode(format!("{}\"keys\": 5}}", &GOLDEN[..keys]).as_bytes()).expect_err("no map");
    assert!(error.to_string().contains("expected a map by key id"), "{error}");
}

#[test]
fn a_duplicate_key_id_is_refused() {
    check_shape(&GOLDEN.replacen("\"10\":", "\"1\":", 1));
    check_shape(&foreign_text(1).replacen("\"10\":", "\"1\":", 1));
}

/// Every field of a foreign file, with its value.
const FIELDS: [&str; 12] = [
    "\"version\"",
    "\"raft_applied_index\"",
    "\"storage_envelope_active\"",
    "\"storage_envelope_cutover_index\"",
    "\"raft_envelope_cutover_index\"",
    "\"active\"",
    "\"storage\"",
    "\"raft\"",
    "\"purpose\"",
    "\"wrapped\"",
    "\"created\"",
    "\"local_epoch\"",
];

/// The text without the first line that begins with this field.
fn without(text: &str, field: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.trim_start().starts_with(field)).expect("a field");
    lines.remove(at);
    if field == "\"active\"" {
        lines.drain(at..at + 3);
    }
    lines.join("\n").replace(",\n    }", "\n    }").replace(",\n  }", "\n  }")
}

#[test]
fn a_missing_field_is_refused() {
    for field in FIELDS {
        for text in [GOLDEN.to_owned(), foreign_text(2)] {
            assert!(decode(without(&text, field).as_bytes()).is_err(), "{field}");
        }
    }
}

#[test]
fn a_file_without_its_keys_is_refused() {
    let empty = |keys: &str| {
        format!(
            "{{\"version\": 2, \"raft_applied_index\": 0, \"storage_envelope_active\": false, \
             \"storage_envelope_cutover_index\": 0, \"raft_envelope_cutover_index\": 0, \
             \"active\": {{\"storage\": 0, \"raft\": 0}}{keys}}}"
        )
    };
    assert!(matches!(decode(empty(", \"keys\": null").as_bytes()), Ok(SidecarContent::Foreign(_))));
    assert!(matches!(decode(empty(", \"keys\": {}").as_bytes()), Ok(SidecarContent::Foreign(_))));
    check_shape(&empty(""));
}

#[test]
fn a_value_of_another_type_or_range_is_refused() {
    let wrong = [
        ("\"raft_applied_index\": 9", "\"raft_applied_index\": -7"),
        ("\"raft_applied_index\": 9", "\"raft_applied_index\": 9.0"),
        ("\"raft_applied_index\": 9", "\"raft_applied_index\": 18446744073709551616"),
        ("\"storage_envelope_active\": true", "\"storage_envelope_active\": 1"),
        ("\"storage\": 10", "\"storage\": 4294967296"),
        ("\"local_epoch\": 9", "\"local_epoch\": 65536"),
        ("\"local_epoch\": 9", "\"local_epoch\": null"),
        ("\"purpose\": \"storage\"", "\"purpose\": 1"),
    ];
    for (from, to) in wrong {
        check_shape(&GOLDEN.replacen(from, to, 1));
        check_shape(&foreign_text(2).replacen(from, to, 1));
    }
}

#[test]
fn another_version_is_named_even_where_its_fields_are_unknown() {
    for got in [0, 3, u64::MAX] {
        let version = format!("\"version\": {got}");
        check_both("\"version\": 2", &version, SidecarError::Version { got });
        let with_more = format!("{version}, \"unknown\": 1");
        check_both("\"version\": 2", &with_more, SidecarError::Version { got });
    }
}

#[test]
fn the_storage_cutover_belongs_to_version_2() {
    let error = SidecarError::Value { field: "storage_envelope_cutover_index" };
    check_text(&foreign_text(2), "\"version\": 2", "\"version\": 1", &error);
    check_text(&foreign_text(1), "\"version\": 1", "\"version\": 2", &error);
    check("\"version\": 2", "\"version\": 1", error);
}

#[test]
fn a_version_1_with_our_fields_is_nobodys() {
    let cases =
        [(GOLDEN, SidecarError::CutoverMismatch(Purpose::Storage)), (PLAIN, SidecarError::NotCanonical)];
    for (text, error) in cases {
        let text =
            without(text, "\"storage_envelope_cutover_index\"").replace("\"version\": 2", "\"version\": 1");
        assert_eq!(decode(text.as_bytes()), Err(error));
    }
}

#[test]
fn a_key_id_must_be_a_canonical_decimal_u32() {
    for got in ["", "x", "007", "+1", "-1", " 1", "1 ", "1.0", "0x1", "4294967296", "\u{661}"] {
        let error = SidecarError::KeyIdFormat { got: got.to_owned() };
        check_both("\"1\":", &format!("\"{got}\":"), error);
    }
    check_both("\"1\":", "\"00\":", SidecarError::KeyIdFormat { got: "00".to_owned() });
}

#[test]
fn key_id_0_is_reserved() {
    check_both("\"1\":", "\"0\":", SidecarError::ReservedKeyId);
}

#[test]
fn a_purpose_is_one_of_two_words() {
    for got in ["", "Storage", "storage ", "both"] {
        let error = SidecarError::Purpose { id: id(1), got: got.to_owned() };
        check_both("\"purpose\": \"storage\"", &format!("\"purpose\": \"{got}\""), error);
    }
}

#[test]
fn an_active_id_has_an_entry_of_its_purpose() {
    let (storage, raft) = (Purpose::Storage, Purpose::Raft);
    let missing = |purpose| SidecarError::ActiveKeyMissing { purpose, id: id(7) };
    check_both("\"storage\": 10", "\"storage\": 7", missing(storage));
    check_both("\"raft\": 2", "\"raft\": 7", missing(raft));
    let other = |purpose, key| SidecarError::ActivePurposeMismatch { purpose, id: id(key) };
    check_both("\"storage\": 10", "\"storage\": 2", other(storage, 2));
    check_both("\"raft\": 2", "\"raft\": 1", other(raft, 1));
}

#[test]
fn only_a_foreign_file_may_lack_an_active_id() {
    let error = SidecarError::Value { field: "active" };
    check("\"storage\": 10", "\"storage\": 0", error.clone());
    check("\"raft\": 2", "\"raft\": 0", error);
    let text =
        foreign_text(2).replace("\"storage\": 10", "\"storage\": 0").replace("\"raft\": 2", "\"raft\": 0");
    let Ok(SidecarContent::Foreign(foreign)) = decode(text.as_bytes()) else { panic!("{text}") };
    assert_eq!((foreign.active_storage, foreign.active_raft), (None, None));
}

#[test]
fn a_wrapped_key_is_1_to_4096_bytes_of_padded_base64() {
    let error = SidecarError::Value { field: "wrapped" };
    let long = STANDARD.encode(vec![0; WRAPPED_LEN_MAX + 1]);
    for wrapped in ["", "AQI", "AQI=\\n", "AQI-", "AQJ=", "====", "%", &long] {
        check_both("\"AQID\"", &format!("\"{wrapped}\""), error.clone());
    }
    check_both("\"AQID\"", "null", error);
    let longest = STANDARD.encode(vec![0; WRAPPED_LEN_MAX]);
    let text = foreign_text(2).replace("AQID", &longest);
    assert!(matches!(decode(text.as_bytes()), Ok(SidecarContent::Foreign(_))));
}

#[test]
fn our_time_of_creation_is_rfc_3339() {
    for created in ["", "2020-01-01", "yesterday", "2020-13-01T00:00:00Z"] {
        let error = SidecarError::Value { field: "created" };
        check("2020-01-01T00:00:00Z", created, error);
    }
}

#[test]
fn a_digest_is_32_bytes_of_hex() {
    let digest = "b0".repeat(32);
    let error = SidecarError::Value { field: "sha256" };
    for wrong in [String::new(), "b0".repeat(31), "b0".repeat(33), "g".repeat(64)] {
        check(&digest, &wrong, error.clone());
    }
}

#[test]
fn no_entry_is_named_above_the_files_own_index() {
    let own = RaftIndex(9);
    let error = |named| SidecarError::IndexOrder { named: RaftIndex(named), own };
    check("\"raft_index\": 7", "\"raft_index\": 10", error(10));
    check("\"bootstrap\": {\n    \"raft_index\": 3", "\"bootstrap\": {\n    \"raft_index\": 11", error(11));
    let lower = SidecarError::IndexOrder { named: RaftIndex(9), own: RaftIndex(8) };
    check("\"raft_applied_index\": 9", "\"raft_applied_index\": 8", lower);
}

#[test]
fn half_of_our_fields_is_not_enough() {
    let error = |missing| SidecarError::HalfOurs { missing };
    let checksum = GOLDEN.lines().find(|line| line.contains("checksum")).expect("a field");
    check(&format!(",\n{checksum}"), "", error("checksum"));
    let start = GOLDEN.find(",\n  \"bootstrap\"").expect("a field");
    let end = GOLDEN.find(",\n  \"cutovers\"").expect("a field");
    check(&GOLDEN[start..end], "", error("bootstrap"));
    check("\"raft_index\": 3,", "", error("raft_index"));
    check(&format!(",\n      \"sha256\": \"{}\"", "b0".repeat(32)), "", error("sha256"));
    let record = "\"local_epoch\": 0";
    check_text(&foreign_text(2), record, &format!("{record}, \"raft_index\": 3"), &error("bootstrap"));
}

#[test]
fn content_that_the_checksum_does_not_cover_is_damage() {
    let edits = [
        ("\"raft_applied_index\": 9", "\"raft_applied_index\": 10"),
        ("d2d2", "d2d3"),
        ("\"retired_index\": 5", "\"retired_index\": 6"),
        ("e3e3", "e3e4"),
        ("f4f4", "f4f5"),
        ("a5a5", "a5a6"),
        ("0102", "0103"),
        ("8787", "8788"),
        ("1111", "1112"),
        ("9696", "9697"),
        ("\"storage\": 10", "\"storage\": 1"),
        ("\"AQID\"", "\"AQIE\""),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:01Z"),
        ("\"local_epoch\": 9", "\"local_epoch\": 8"),
        ("\"raft_index\": 3", "\"raft_index\": 4"),
        ("c1c1", "c1c2"),
        ("\"checksum\": \"", "\"checksum\": \"0"),
    ];
    for (from, to) in edits {
        check(from, to, SidecarError::Checksum);
    }
}

#[test]
fn a_switch_agrees_with_the_entry_behind_it() {
    let edits = [
        (Purpose::Storage, "\"storage_envelope_active\": true", "\"storage_envelope_active\": false"),
        (Purpose::Storage, "\"storage_envelope_cutover_index\": 6", "\"storage_envelope_cutover_index\": 5"),
        (Purpose::Storage, "\"raft_index\": 6", "\"raft_index\": 5"),
        (Purpose::Raft, "\"raft_envelope_cutover_index\": 0", "\"raft_envelope_cutover_index\": 1"),
    ];
    for (purpose, from, to) in edits {
        check(from, to, SidecarError::CutoverMismatch(purpose));
    }
    let on = "\"storage_envelope_active\": true";
    let error = SidecarError::CutoverMismatch(Purpose::Storage);
    check_text(PLAIN, "\"storage_envelope_active\": false", on, &error);
}

#[test]
fn right_content_in_other_bytes_is_not_canonical() {
    check("{\n  \"version\"", "{\n\"version\"", SidecarError::NotCanonical);
    check("\"version\": 2,", "\"version\":2,", SidecarError::NotCanonical);
    check("b0b0", "B0b0", SidecarError::NotCanonical);
    check("\"storage\"", "\"st\\u006frage\"", SidecarError::NotCanonical);
    let text = format!("{GOLDEN}\n");
    assert_eq!(decode(text.as_bytes()), Err(SidecarError::NotCanonical));
    let (first, second) = ("\"version\": 2,\n", "  \"raft_applied_index\": 9,\n");
    check(
        &format!("{first}{second}"),
        &format!("{}{first}  ", second.trim_start()),
        SidecarError::NotCanonical,
    );
}
