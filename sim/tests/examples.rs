//! The examples find what they are there to find.

#[path = "../examples/config_writer.rs"]
#[expect(dead_code, reason = "of an example only what it finds is of interest here, not how it prints that")]
mod config_writer;
#[path = "../examples/storage_engines/main.rs"]
#[expect(dead_code, reason = "as above")]
mod storage_engines;

use sim::crashes::How;
use storage_engines::{Bad, Eventual, Extra, Full, Immediate, Redb, Sqlite, check};

#[test]
fn the_config_writer_lacks_two_barriers() {
    let (report, repair) = config_writer::run().unwrap();
    let bad: Vec<_> = report.findings.iter().map(|finding| finding.bad).collect();
    assert_eq!(bad, ["saved, and the old config is back", "the config is empty", "the config is torn"]);
    assert_eq!((report.places, report.crashes, report.states), (4, 25, 14));
    let repair = repair.unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    assert!(readme.contains(&format!("{report}\n\n{repair}\n")), "the README shows what the example prints");
    let barriers: Vec<_> = repair.barriers.iter().map(ToString::to_string).collect();
    let between = "sync_file /config.tmp, between write /config.tmp and rename /config";
    assert_eq!(barriers, [between, "sync_dir /, after rename /config, the last call"]);
}

#[test]
fn redb_keeps_what_it_says_is_durable() {
    let report = check::<Redb<Immediate>>().unwrap();
    assert!(report.is_clean() && report.states > 1_000, "{report}");
}

/// As documented: such a commit is durable with a later one.
#[test]
fn redb_loses_what_it_does_not_say_is_durable() {
    let report = check::<Redb<Eventual>>().unwrap();
    let [found] = &report.findings[..] else { panic!("{report}") };
    assert_eq!(found.bad, Bad::Lost);
}

#[test]
fn sqlite_keeps_everything_with_its_extra_sync() {
    let report = check::<Sqlite<Extra>>().unwrap();
    assert!(report.is_clean() && report.states > 100, "{report}");
}

/// As documented: the directory is not synced after the journal was removed, so that the journal may return and take
/// the newest transaction back.
#[test]
fn sqlite_may_lose_its_newest_transaction_without_it() {
    let report = check::<Sqlite<Full>>().unwrap();
    let [found] = &report.findings[..] else { panic!("{report}") };
    assert_eq!(found.bad, Bad::Lost);
    let last = found.crashes[0].after.last().unwrap();
    assert_eq!(last.to_string(), "unlink /rows.db-journal");
    let How::Power { fates, .. } = &found.crashes[0].how else { panic!("{report}") };
    assert_eq!(*fates, ["unlink rows.db-journal: dropped"]);
}
