//! Seeds of the world `cluster` beside their floors: a bare loop of raft-rs on madsim that does the same Raft work, and the
//! same loop with a database under each member. All in one run, and in time on the processor, since only their ratios mean
//! something on a shared machine.

use std::time::Duration;

use benchmarks::floor::{self, Below, Plan};
use benchmarks::survey::{self, Table, Work};
use benchmarks::{OUT, median, processor_time, setup};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use scenarios::run::{Keep, Source, run};
use scenarios::world::Scenario;
use sim::Trace;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every iteration runs all of these, so that all do the same work.
const SEEDS: u64 = 40;
/// How often all sides are measured in turns.
const ROUNDS: usize = 11;

fn main() {
    let setup = setup(Scenario::Cluster);
    let (plans, works) = survey_all();
    let mut criterion = Criterion::default()
        .output_directory(OUT.as_ref())
        .warm_up_time(Duration::from_secs(2))
        .measurement_time(Duration::from_secs(12))
        .sample_size(10)
        .configure_from_args();
    let mut group = criterion.benchmark_group("cluster");
    group.throughput(Throughput::Elements(SEEDS));
    group.sampling_mode(SamplingMode::Flat);
    let floors = |below: Below| {
        let plans = &plans;
        move || {
            for (seed, plan) in plans {
                floor::run(*plan, *seed, below, &Trace::hashing());
            }
        }
    };
    let floor = floors(Below::Memory);
    let durable = floors(Below::Database);
    let seeds = || {
        for seed in 0..SEEDS {
            run(setup, Source::Seed(seed), Keep::Nothing).expect("a seed always fits");
        }
    };
    let sides: [(&str, &dyn Fn()); 3] =
        [("floor", &floor), ("floor with a database", &durable), ("cluster", &seeds)];
    for (name, side) in sides {
        measure(&mut group, name, side);
    }
    group.finish();
    criterion.final_summary();
    compare(sides, &works);
}

/// Measures all sides once more, in turns, so that whatever else the machine does falls upon all of them.
fn compare(sides: [(&str, &dyn Fn()); 3], works: &[(&str, Work)]) {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, side), times) in sides.iter().zip(&mut times) {
            let start = processor_time();
            side();
            times.push(processor_time() - start);
        }
    }
    let medians = times.map(|times| median(times).expect("there are rounds").as_secs_f64());
    let [floor, durable, whole] = medians;
    println!("\n{}", Table(works));
    println!(
        "| median of {ROUNDS} | ms a seed | seeds per second and core | times the floor |\n|---|---|---|---|"
    );
    for ((name, _), median) in sides.iter().zip(medians) {
        let (each, times) = (median / SEEDS as f64, median / floor);
        println!("| {name} | {:.2} | {:.0} | {times:.1} |", each * 1e3, 1.0 / each);
    }
    let (bare, over) = (whole / floor, whole / durable);
    println!(
        "\ncluster : floor = {bare:.1}, cluster : floor with a database = {over:.2}, medians of {ROUNDS} rounds"
    );
}

/// Something of one side.
type Named<T> = (&'static str, T);

/// What the seeds do, and what their floors do, with everything recorded.
fn survey_all() -> (Vec<(u64, Plan)>, [Named<Work>; 3]) {
    let mut plans = Vec::new();
    let (mut whole, mut bare, mut durable) = (Work::default(), Work::default(), Work::default());
    for seed in 0..SEEDS {
        let (work, plan) = survey::cluster(setup(Scenario::Cluster), seed);
        whole += work;
        bare += survey::floor(plan, seed, Below::Memory);
        durable += survey::floor(plan, seed, Below::Database);
        plans.push((seed, plan));
    }
    (plans, [("cluster", whole), ("floor", bare), ("floor with a database", durable)])
}

/// Measures one side by itself.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, side: &dyn Fn()) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let start = processor_time();
            (0..iterations).for_each(|_| side());
            processor_time() - start
        });
    });
}
