//! What is in a sidecar from the first cutover, retirement or rewrap on.

use serde::Deserialize;

use super::*;

/// The golden sidecar with some of the four.
fn with(storage: bool, raft: bool, retired: bool, rewraps: bool) -> Sidecar {
    let full = sidecar();
    Sidecar {
        cutovers: Cutovers {
            storage: full.cutovers.storage.filter(|_| storage),
            raft: raft.then(|| name(8, 0x77)),
        },
        retired: if retired { full.retired.clone() } else { BTreeMap::new() },
        rewraps: if rewraps { full.rewraps.clone() } else { Vec::new() },
        ..full
    }
}

#[test]
fn each_field_is_there_exactly_where_there_is_something_to_say() {
    for bits in 0..16 {
        let [storage, raft, retired, rewraps] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let sidecar = with(storage, raft, retired, rewraps);
        let text = String::from_utf8(encode(&sidecar)).expect("text");
        let has = |field: &str| text.contains(&format!("\n  \"{field}\": "));
        assert_eq!(has("cutovers"), storage || raft);
        assert_eq!((has("retired"), has("rewraps")), (retired, rewraps));
        assert_eq!(text.contains("\n    \"storage\": {"), storage);
        assert_eq!(text.contains("\n    \"raft\": {"), raft);
        assert_eq!(text.contains("\"storage_envelope_active\": true"), storage);
        let index = if raft { 8 } else { 0 };
        assert!(text.contains(&format!("\"raft_envelope_cutover_index\": {index},")));
        assert_eq!(decode(text.as_bytes()), Ok(SidecarContent::Ours(sidecar)));
    }
}

#[test]
fn an_unknown_a_duplicate_and_a_missing_field_is_refused_in_each() {
    let fields = [
        ("\"storage\": {", "\"raft_index\": 6"),
        ("\"retired_index\": 5", "\"retired_index\": 5"),
        ("\"digest\"", "\"retired_index\": 5"),
        ("\"kek\"", "\"kek\": \"0102030405060708\""),
        ("\"raft_index\": 8", "\"raft_index\": 8"),
    ];
    for (before, twice) in fields {
        check_shape(&GOLDEN.replacen(before, &format!("\"unknown\": 1, {before}"), 1));
        check_shape(&GOLDEN.replacen(twice, &format!("{twice}, {twice}"), 1));
        check_shape(&GOLDEN.replacen(&format!("{twice},"), "", 1));
    }
    check_shape(&GOLDEN.replacen("\"4\": {", "\"4\": {}, \"4\": {", 1));
    let stone = GOLDEN.find("\"4\": {").expect("a field");
    let end = stone + GOLDEN[stone..].find('}').expect("its end") + 1;
    let twice = format!("{}, {}", &GOLDEN[stone..end], &GOLDEN[stone..end]);
    check_shape(&GOLDEN.replacen(&GOLDEN[stone..end], &twice, 1));
}

#[test]
fn an_empty_field_is_not_how_nothing_is_said() {
    for field in ["cutovers", "retired", "rewraps"] {
        for value in ["{}", "[]", "null"] {
            let text =
                PLAIN.replacen("  \"checksum\"", &format!("  \"{field}\": {value},\n  \"checksum\""), 1);
            assert_ne!(text, PLAIN);
            assert!(decode(text.as_bytes()).is_err(), "{field}: {value}");
        }
    }
}

#[test]
fn a_tombstone_has_an_id_and_a_purpose_like_a_key() {
    check("\"4\": {", "\"04\": {", SidecarError::KeyIdFormat { got: "04".to_owned() });
    check("\"4\": {", "\"0\": {", SidecarError::ReservedKeyId);
    check("\"4\": {", "\"10\": {", SidecarError::RetiredAndKept { id: id(10) });
    let at = GOLDEN.find("\"4\": {").expect("a field");
    let text = format!("{}{}", &GOLDEN[..at], GOLDEN[at..].replacen("\"raft\"", "\"both\"", 1));
    let error = SidecarError::Purpose { id: id(4), got: "both".to_owned() };
    assert_eq!(decode(text.as_bytes()), Err(error));
    // A retired key that is the active one is missed where it must be.
    let error = SidecarError::ActiveKeyMissing { purpose: Purpose::Raft, id: id(4) };
    check("\"raft\": 2", "\"raft\": 4", error);
}

#[test]
fn every_digest_and_check_value_has_its_size() {
    for (byte, field) in [
        ("d2", "sha256"),
        ("e3", "sha256"),
        ("f4", "sha256"),
        ("a5", "digest"),
        ("87", "sha256"),
        ("96", "sha256"),
    ] {
        let good = byte.repeat(32);
        for wrong in [String::new(), byte.repeat(31), byte.repeat(33), "g".repeat(64)] {
            check(&good, &wrong, SidecarError::Value { field });
        }
    }
    for wrong in ["", "01020304050607", "010203040506070809", "010203040506070g"] {
        check("0102030405060708", wrong, SidecarError::Value { field: "kek" });
    }
}

#[test]
fn none_of_them_is_of_an_entry_above_the_files_own_index() {
    let own = RaftIndex(9);
    for (from, to, named) in [
        ("\"raft_index\": 4", "\"raft_index\": 10", 10),
        ("\"retired_index\": 5", "\"retired_index\": 11", 11),
        ("\"raft_index\": 8", "\"raft_index\": 12", 12),
        ("\"raft_index\": 9", "\"raft_index\": 13", 13),
    ] {
        check(from, to, SidecarError::IndexOrder { named: RaftIndex(named), own });
    }
    let text = GOLDEN
        .replacen("\"storage_envelope_cutover_index\": 6", "\"storage_envelope_cutover_index\": 13", 1)
        .replacen("\"raft_index\": 6", "\"raft_index\": 13", 1);
    let error = SidecarError::IndexOrder { named: RaftIndex(13), own };
    assert_eq!(decode(text.as_bytes()), Err(error));
}

#[test]
fn any_of_them_without_the_rest_of_our_fields_is_half_a_file() {
    let text = foreign_text(2);
    let name = format!("{{\"raft_index\": 6, \"sha256\": \"{}\"}}", "d2".repeat(32));
    let fields = [
        format!("\"cutovers\": {{\"storage\": {name}}}"),
        "\"cutovers\": {}".to_owned(),
        "\"retired\": {}".to_owned(),
        format!(
            "\"rewraps\": [{{\"kek\": \"0102030405060708\", \"raft_index\": 9, \"sha256\": \"{}\"}}]",
            "96".repeat(32)
        ),
    ];
    for field in fields {
        let error = SidecarError::HalfOurs { missing: "bootstrap" };
        check_text(&text, "\"version\"", &format!("{field}, \"version\""), &error);
    }
}

/// A reader of version 2 that takes what it knows and ignores the rest.
#[derive(Debug, PartialEq, Deserialize)]
struct Lenient {
    version: u64,
    raft_applied_index: u64,
    storage_envelope_active: bool,
    storage_envelope_cutover_index: u64,
    raft_envelope_cutover_index: u64,
    active: BTreeMap<String, u32>,
    keys: BTreeMap<String, LenientKey>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct LenientKey {
    purpose: String,
    wrapped: String,
    created: String,
    local_epoch: u16,
}

#[test]
fn a_lenient_reader_of_version_2_reads_what_it_knows() {
    let full: Lenient = serde_json::from_slice(&encode(&with(true, true, true, true))).expect("version 2");
    assert_eq!((full.version, full.raft_applied_index), (2, 9));
    assert!(full.storage_envelope_active);
    assert_eq!((full.storage_envelope_cutover_index, full.raft_envelope_cutover_index), (6, 8));
    assert_eq!(full.active, [("storage".to_owned(), 10), ("raft".to_owned(), 2)].into());
    assert_eq!(full.keys.keys().collect::<Vec<_>>(), ["1", "10", "2"]);
    let ten = &full.keys["10"];
    assert_eq!((ten.purpose.as_str(), ten.wrapped.as_str(), ten.local_epoch), ("storage", "Cg==", 9));
    assert_eq!(ten.created, "2020-01-01T00:00:00Z");
}
