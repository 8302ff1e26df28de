//! The table of the applier's barriers: each call that it makes by itself, the line that makes it, and what breaks where
//! it is left out. The snapshot of this table is a part of the applier's documentation.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use scenarios::model::Rules;
use scenarios::prove::script;
use scenarios::teeth::barriers::{Change, Judgement, Mutant, Site, judge, mutants};

/// The calls that can be left out one by one, those of the database itself left aside.
fn droppable() -> Vec<(Site, Mutant)> {
    let site = |mutant: Mutant| match mutant.change {
        Change::Drop(site) if !site.is_of_database() => Some((site, mutant)),
        Change::Drop(_) | Change::Swap(..) => None,
    };
    mutants().into_iter().filter_map(site).collect()
}

fn row(site: Site, judgement: &Judgement) -> String {
    let line = judgement.mutant.line.as_ref().expect("tests are built with line tables");
    let without = match &judgement.caught {
        Some((_, found)) => format!("`{}`", found.fingerprint),
        None => "nothing: another call makes up for it".to_owned(),
    };
    let file = line.file.trim_start_matches("applier/src/");
    // A bar would end the cell.
    let source = line.text.replace('|', "\\|");
    format!("| {site} | {file} `{source}` | {without} |")
}

#[test]
fn each_barrier_of_the_applier_is_necessary_or_known_to_be_redundant() {
    // It is enough to convict all that any named log convicts; `cargo sim teeth` goes on to the others.
    let logs: Vec<_> =
        script::named(Rules::Hardened).into_iter().filter(|(name, _)| *name == "first-bootstrap").collect();
    assert_eq!(logs.len(), 1);
    let stop = AtomicBool::new(false);
    let rows: Vec<String> = droppable()
        .par_iter()
        .with_max_len(1)
        .map(|(site, mutant)| {
            let judgement = judge(mutant, &logs, &stop, &|_| {});
            assert!(judgement.caught.is_some() || judgement.redundant, "{}: cut off", mutant.change);
            row(*site, &judgement)
        })
        .collect();
    let mut table = String::new();
    writeln!(table, "| call | made by | what breaks without it |\n|---|---|---|").expect("a string takes it");
    rows.iter().for_each(|row| writeln!(table, "{row}").expect("a string takes it"));
    insta::with_settings!({
        snapshot_path => "../../applier/src",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("barriers", table);
    });
}
