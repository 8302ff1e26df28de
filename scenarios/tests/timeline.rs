//! The timeline of a kept run, so that a change of behaviour shows up in review as a readable difference.

use std::path::Path;

use scenarios::run::run;
use scenarios::seeds::Case;

#[test]
fn the_timeline_of_a_kept_run_is_pinned() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("seeds");
    let case =
        Case::read(&seeds.join("bootstrap-redelivered-after-rotation.toml")).expect("it is in the corpus");
    let checked = run(case.setup, case.source, true).expect("its tape fits");
    insta::assert_snapshot!(checked.lines.join("\n"));
}
