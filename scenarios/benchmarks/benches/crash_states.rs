//! Crash states per second: one crash of the applier, the recovery from it to the end of the log, and the judgement of that.
//! All in one run, since only ratios mean something on a shared machine; they are printed at its end.
//!
//! ```console
//! $ cargo benchmarks crash_states
//! ```

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use benchmarks::peers::child::Sigkill;
use benchmarks::peers::log::Log;
use benchmarks::peers::ours::Ours;
use benchmarks::peers::turmoil_disk::Turmoil;
use benchmarks::peers::variants::Variant;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use scenarios::prove;
use sim::Choices;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GROUP: &str = "crash_states";
const FLOOR: &str = "floor";
const OURS: &str = "ours";
const OURS_FROM_EMPTY: &str = "ours-from-an-empty-disk";
const TURMOIL: &str = "turmoil";
const SIGKILL: &str = "sigkill";

/// What the applier is: as it is.
const VARIANT: Variant = Variant::Control;

fn main() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../criterion");
    // What an earlier run has left must not be taken for this one's.
    for name in [FLOOR, OURS, OURS_FROM_EMPTY, TURMOIL, SIGKILL] {
        let _ = fs::remove_dir_all(directory.join(GROUP).join(name).join("new"));
    }
    let mut criterion = Criterion::default().output_directory(&directory).configure_from_args();
    let mut group = criterion.benchmark_group(GROUP);
    let log = Arc::new(Log::new());
    floor(&mut group);
    let (states, calls) = ours(&mut group, &log);
    turmoil(&mut group, &log, calls);
    sigkill(&mut group, &log, calls);
    group.finish();
    criterion.final_summary();
    print_ratios(&directory, states);
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn floor(group: &mut Group<'_>) {
    let floor = prove::floor();
    group.throughput(Throughput::Elements(1));
    group.bench_function(FLOOR, |bencher| bencher.iter(|| floor.round()));
}

/// A recording and a crash in each of its states, the recording's cost included. Gives how many these are.
fn ours(group: &mut Group<'_>, log: &Arc<Log>) -> (u64, u64) {
    let ours = Ours::new(Arc::clone(log));
    let states = ours.first_life(VARIANT).expect("it is not wrong").len() as u64;
    let mut seed = 0;
    group.throughput(Throughput::Elements(states));
    group.bench_function(OURS, |bencher| {
        bencher.iter(|| {
            for point in ours.first_life(VARIANT).expect("it is not wrong") {
                seed += 1;
                let left = ours.crash(&point, &mut Choices::seeded(seed));
                assert_eq!(black_box(ours.recover(&left, VARIANT)), None);
            }
        });
    });
    let calls = ours.calls(VARIANT);
    group.throughput(Throughput::Elements(1));
    group.bench_function(OURS_FROM_EMPTY, |bencher| {
        bencher.iter(|| {
            seed += 1;
            let found = ours.from_an_empty_disk(VARIANT, calls, &mut Choices::seeded(seed));
            assert_eq!(black_box(found), None);
        });
    });
    (states, calls)
}

fn turmoil(group: &mut Group<'_>, log: &Arc<Log>, calls: u64) {
    let turmoil = Turmoil::new(Arc::clone(log));
    let mut seed = 0;
    group.bench_function(TURMOIL, |bencher| {
        bencher.iter(|| {
            seed += 1;
            let found = turmoil.one_state(VARIANT, calls, &mut Choices::seeded(seed));
            assert_eq!(black_box(found), None);
        });
    });
}

fn sigkill(group: &mut Group<'_>, log: &Arc<Log>, calls: u64) {
    let sigkill = Sigkill::new(Arc::clone(log), env!("CARGO_BIN_EXE_life"), env!("CARGO_TARGET_TMPDIR"));
    let mut seed = 0;
    group.sample_size(20).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(15));
    group.bench_function(SIGKILL, |bencher| {
        bencher.iter(|| {
            seed += 1;
            let found = sigkill.one_state(VARIANT, calls, &mut Choices::seeded(seed));
            assert_eq!(black_box(found), None);
        });
    });
}

/// Medians as criterion has them, of one state each. Where only some were run there is nothing to compare.
fn print_ratios(directory: &Path, states: u64) {
    let median = |name: &str| -> Option<f64> {
        let path: PathBuf = [GROUP, name, "new", "estimates.json"].iter().collect();
        let text = fs::read_to_string(directory.join(path)).ok()?;
        let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
        estimates["median"]["point_estimate"].as_f64()
    };
    let Some(ours) = median(OURS).map(|nanoseconds| nanoseconds / states as f64) else { return };
    println!("\n| what | one crash state | states per second | ours : this, in time |");
    println!("|---|---|---|---|");
    let rows = [
        ("floor: fork, open the crashed database, scan it", median(FLOOR)),
        ("ours: a life recorded once, crashed at each of its calls", Some(ours)),
        ("ours, each from an empty disk", median(OURS_FROM_EMPTY)),
        ("turmoil's filesystem, each from an empty disk", median(TURMOIL)),
        ("real files, child process, SIGKILL", median(SIGKILL)),
    ];
    for (says, nanoseconds) in rows {
        let Some(nanoseconds) = nanoseconds else { continue };
        let (value, unit) =
            if nanoseconds < 1e7 { (nanoseconds / 1e3, "µs") } else { (nanoseconds / 1e6, "ms") };
        let (rate, ratio) = (1e9 / nanoseconds, ours / nanoseconds);
        let decimals = if ratio < 0.1 { 4 } else { 2 };
        println!("| {says} | {value:.0} {unit} | {rate:.0} | {ratio:.decimals$} |");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\nmedians of one run, one thread; {cores} cores");
}
