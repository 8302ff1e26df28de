//! Whether memory stays flat, however many seeds a process has run: the resident memory in each tenth of them. Fails where
//! the last has more than the second, beyond what an allocator holds or not as it comes.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use benchmarks::setup;
use clap::Parser;
use scenarios::run::{Range, sweep};
use scenarios::world::Scenario;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Resident memory over many seeds.
#[derive(Parser)]
struct Args {
    /// Seeds of `single`.
    #[arg(long, default_value_t = 100_000)]
    single: u64,
    /// Seeds of `cluster`.
    #[arg(long, default_value_t = 10_000)]
    cluster: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the last tenth may have over the second: a share of that, and what an allocator holds or not as it comes. Over a
/// hundred thousand seeds this is less than a hundred bytes a seed.
const GROWTH_PERCENT_MAX: u64 = 10;
const SWING_KIB_MAX: u64 = 4 << 10;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut flat = true;
    for (scenario, seeds) in [(Scenario::Single, args.single), (Scenario::Cluster, args.cluster)] {
        if seeds > 0 {
            flat &= is_flat(&tenths(scenario, seeds.max(10), args.jobs));
        }
    }
    if flat { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the seeds; the resident memory in KiB in the middle of each tenth of them: the median of many looks.
fn tenths(scenario: Scenario, seeds: u64, jobs: usize) -> Vec<u64> {
    println!(
        "\n| seeds of `{scenario}`, {jobs} threads | resident MiB, median | least | most |\n|---|---|---|---|"
    );
    let mut medians: Vec<u64> = Vec::new();
    for tenth in 0..10 {
        let (first, end) = (seeds * tenth / 10, seeds * (tenth + 1) / 10);
        let range = Range { first, end, shard: (1, 1) };
        let looks = Mutex::new(Vec::new());
        let look = |_| looks.lock().expect("nobody panics at a look").push(resident_kib());
        let tally = sweep(setup(scenario), range, jobs, &AtomicBool::new(false), &look);
        let tally = tally.expect("the harness itself does not fail");
        assert_eq!(tally.seeds, end - first, "every seed was run");
        // So many seeds may find something. That is a sweep's business, and no reason to know nothing of memory.
        for (fingerprint, found) in &tally.findings {
            eprintln!("{fingerprint}: cargo sim replay {} --scenario {scenario}", found.first_seed);
        }
        let mut looks = looks.into_inner().expect("nobody panics at a look");
        looks.sort_unstable();
        let all = [looks[looks.len() / 2], looks[0], looks[looks.len() - 1]];
        let [median, least, most] = all.map(|kib| kib as f64 / 1024.0);
        println!("| {end} | {median:.1} | {least:.1} | {most:.1} |");
        medians.push(all[0]);
    }
    medians
}

fn is_flat(medians: &[u64]) -> bool {
    let (second, last) = (medians[1], medians[medians.len() - 1]);
    let flat = last <= second * (100 + GROWTH_PERCENT_MAX) / 100 + SWING_KIB_MAX;
    let verdict = if flat { "flat" } else { "not flat" };
    println!("\n{verdict}: {second} KiB in the second tenth, {last} KiB in the last");
    flat
}

/// Resident memory of this process, as Linux tells it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("only Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux always says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
