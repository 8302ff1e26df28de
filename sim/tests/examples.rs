//! The examples find what they are there to find.

#[path = "../examples/config_writer.rs"]
#[expect(dead_code, reason = "of an example only what it finds is of interest here, not how it prints that")]
mod config_writer;

#[test]
fn the_config_writer_lacks_two_barriers() {
    let (report, repair) = config_writer::run().unwrap();
    let bad: Vec<_> = report.findings.iter().map(|finding| finding.bad).collect();
    assert_eq!(bad, ["saved, and the old config is back", "the config is empty", "the config is torn"]);
    assert_eq!((report.places, report.crashes, report.states), (4, 25, 14));
    let barriers: Vec<_> = repair.unwrap().barriers.iter().map(ToString::to_string).collect();
    let between = "sync_file /config.tmp, between write /config.tmp and rename /config";
    assert_eq!(barriers, [between, "sync_dir /, after rename /config, the last call"]);
}
