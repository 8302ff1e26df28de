//! Who may import whom, and what stands at the top level.

#[path = "common/root.rs"]
mod root;

use root::root;
use std::collections::BTreeSet;
use std::fs;

/// Every crate that `member` names as a dependency, of whatever kind and for whatever target.
fn dependencies(member: &str) -> BTreeSet<String> {
    let path = root().join(member).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(path).expect("a manifest").parse().expect("TOML");
    let mut names = BTreeSet::new();
    let mut collect = |table: &toml::Table| {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            names.extend(
                table
                    .get(kind)
                    .and_then(|kind| kind.as_table())
                    .into_iter()
                    .flat_map(|kind| kind.keys().cloned()),
            );
        }
    };
    collect(&manifest);
    for target in
        manifest.get("target").and_then(|target| target.as_table()).into_iter().flat_map(|t| t.values())
    {
        collect(target.as_table().expect("a table a target"));
    }
    names
}

fn check_only(member: &str, allowed: &[&str]) {
    let found = dependencies(member);
    assert!(!found.is_empty(), "{member} has dependencies, so this test reads the right tables");
    let extra: Vec<&String> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(extra.is_empty(), "{member} may not depend on {extra:?}");
}

#[test]
fn the_simulation_knows_nothing_of_the_applier() {
    let production = ["aho-corasick", "madsim", "rand_chacha", "thiserror", "xxhash-rust"];
    let tests = ["nix", "proptest", "proptest-state-machine", "redb", "rusqlite", "sqlite-vfs", "tempfile"];
    check_only("sim", &[production.as_slice(), tests.as_slice()].concat());
}

#[test]
fn the_applier_knows_nothing_of_the_simulation() {
    let production = [
        "aes-gcm",
        "arc-swap",
        "base64",
        "getrandom",
        "hex",
        "humantime",
        "nix",
        "redb",
        "serde",
        "serde_json",
        "sha2",
        "subtle",
        "thiserror",
        "tracing",
        "zeroize",
    ];
    let tests = [
        "aho-corasick",
        "clap",
        "criterion",
        "libtest-mimic",
        "proptest",
        "proptest-state-machine",
        "rand_chacha",
        "tempfile",
    ];
    check_only("applier", &[production.as_slice(), tests.as_slice()].concat());
}

#[test]
fn the_scenarios_are_where_the_two_meet() {
    let found = dependencies("scenarios");
    assert!(found.contains("sim") && found.contains("applier"));
}

/// The port's implementations on the simulated disk stand in one module.
#[test]
fn only_the_seam_implements_ports_on_the_simulated_disk() {
    let mut offenders = Vec::new();
    let mut pending = vec![root().join("scenarios/src")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "seam") {
                    pending.push(path);
                }
            } else if path.file_name().is_some_and(|name| name != "seam.rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                if ["Files for ", "StorageBackend for "]
                    .iter()
                    .any(|port| text.contains(&format!("impl {port}")))
                {
                    offenders.push(path);
                }
            }
        }
    }
    assert!(offenders.is_empty(), "{offenders:?}");
}

#[test]
fn the_top_level_holds_what_the_layout_says_and_nothing_else() {
    let expected =
        ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "applier", "clippy.toml", "deny.toml", "fuzz"];
    let expected =
        [expected.as_slice(), &["rust-toolchain.toml", "rustfmt.toml", "scenarios", "seeds", "sim"]].concat();
    let mut extra = Vec::new();
    for entry in fs::read_dir(root()).expect("the workspace") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if !name.starts_with('.') && name != "target" && !expected.contains(&name.as_str()) {
            extra.push(name);
        }
    }
    assert!(extra.is_empty(), "{extra:?}");
    let missing: Vec<_> = expected.iter().filter(|name| !root().join(name).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
