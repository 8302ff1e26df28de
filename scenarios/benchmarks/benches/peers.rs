//! What each finds: twelve wrong variants of the applier and the applier as it is, on turmoil's simulated filesystem, on
//! real files under a process that is killed, and on the disk of `sim`, each with the same time on one core.
//!
//! ```console
//! $ cargo benchmarks peers -- --seconds 10 --runs 5
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benchmarks::peers::Harness;
use benchmarks::peers::child::Sigkill;
use benchmarks::peers::judge::{Violation, What};
use benchmarks::peers::log::Log;
use benchmarks::peers::ours::Ours;
use benchmarks::peers::report::{Cell, Row, Run, json, markdown};
use benchmarks::peers::turmoil_disk::Turmoil;
use benchmarks::peers::variants::Variant;
use clap::Parser;
use sim::Choices;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What each harness finds of the same wrong appliers in the same time.
#[derive(Parser)]
struct Args {
    /// Time for one search, on one core; one that finds something ends with that.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    seconds: f64,
    /// Searches of each harness for each variant, each over other seeds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Only these variants, the control among them.
    #[arg(long = "variant")]
    variants: Vec<Variant>,
    /// Writes everything as JSON too.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What cargo calls a benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a time is from 0.001 to 86400 seconds".to_owned()),
    }
}

/// Lives recorded on our disk to know what a variant can be convicted of.
const LIVES: u64 = 60;

/// Where searches over other seeds begin.
const SEEDS_A_RUN: u64 = 1 << 32;

fn main() -> ExitCode {
    let args = Args::parse();
    let log = Arc::new(Log::new());
    let root = env!("CARGO_TARGET_TMPDIR");
    let mut harnesses: Vec<Box<dyn Harness>> = vec![
        Box::new(Turmoil::new(Arc::clone(&log))),
        Box::new(Sigkill::new(Arc::clone(&log), env!("CARGO_BIN_EXE_life"), root)),
        Box::new(Ours::new(Arc::clone(&log))),
    ];
    let mut real_files = Sigkill::new(Arc::clone(&log), env!("CARGO_BIN_EXE_life"), root);
    let mut posix = Ours::new(log);
    let wanted = |variant: &Variant| args.variants.is_empty() || args.variants.contains(variant);
    let variants = Variant::WRONG.into_iter().chain([Variant::Control]).filter(wanted);
    let mut rows = Vec::new();
    for variant in variants {
        let needs_a_crash = real_files.undisturbed(variant).is_none();
        let kinds = posix.kinds(variant, LIVES);
        let cells = harnesses.iter_mut();
        let cells = cells.map(|harness| cell(harness.as_mut(), variant, needs_a_crash, &kinds, &args));
        rows.push(Row { variant, cells: cells.collect() });
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{} s a search, {} searches each, one thread; {cores} cores\n", args.seconds, args.runs);
    print!("{}", markdown(&rows, &harnesses));
    if let Some(path) = &args.out {
        let text = format!("{:#}\n", json(&rows, args.seconds, cores));
        if let Err(error) = fs::write(path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(3);
        }
    }
    let convicted = |row: &Row| row.variant == Variant::Control && row.cells.iter().any(Cell::is_caught);
    match rows.iter().any(convicted) {
        true => {
            eprintln!("the applier as it is was convicted: nothing of this counts");
            ExitCode::FAILURE
        }
        false => ExitCode::SUCCESS,
    }
}

/// What one harness has to say of one variant. `kinds` is what it can be convicted of.
fn cell(
    harness: &mut dyn Harness,
    variant: Variant,
    needs_a_crash: bool,
    kinds: &BTreeSet<What>,
    args: &Args,
) -> Cell {
    let needs_no_crash = needs_a_crash && harness.undisturbed(variant).is_some();
    let is_doubted = harness.is_in_doubt() && variant != Variant::Control;
    let believes = |found: &Violation| !is_doubted || kinds.contains(&found.what);
    let runs = (0..args.runs).map(|run| search(harness, variant, run, &believes, args.seconds)).collect();
    let cell = Cell { harness: harness.name(), runs, needs_no_crash };
    eprintln!("{variant:24} {:8} {cell}", cell.harness);
    if let Some(found) = cell.runs.iter().find_map(|run| run.caught.as_ref()) {
        eprintln!("    {found}");
    }
    if let Some(mistaken) = cell.mistaken() {
        eprintln!("    first, and mistaken: {mistaken}");
    }
    cell
}

#[expect(
    clippy::disallowed_methods,
    reason = "time is what is compared, and decides nothing inside of a history"
)]
fn search(
    harness: &mut dyn Harness,
    variant: Variant,
    run: u64,
    believes: &dyn Fn(&Violation) -> bool,
    seconds: f64,
) -> Run {
    let limit = Duration::from_secs_f64(seconds);
    let begun = Instant::now();
    harness.begin();
    let (mut states, mut mistaken) = (0, None);
    for seed in run * SEEDS_A_RUN.. {
        let search = harness.history(variant, &mut Choices::seeded(seed));
        states += search.states;
        let took = begun.elapsed();
        let caught = match search.caught {
            Some(found) if believes(&found) => Some(found),
            found => {
                mistaken = mistaken.or(found);
                None
            }
        };
        if caught.is_some() || took >= limit {
            return Run { took, states, caught, mistaken };
        }
    }
    unreachable!("there are more seeds than anybody has time for")
}
