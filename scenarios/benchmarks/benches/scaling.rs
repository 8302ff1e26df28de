//! How cost grows with the length of the log, the number of members and the number of jobs: a table for each, and a plot.
//! Costs are time on the processor; what a second job brings is measured by the clock as well.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use benchmarks::plot::{Line, Plot, written};
use benchmarks::{OUT, median, processor_time, setup};
use clap::{Parser, ValueEnum};
use scenarios::run::{Range, sweep};
use scenarios::world::{Limits, Scenario, Setup};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How cost grows.
#[derive(Parser)]
struct Args {
    /// How often everything is measured, in turns.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// What grows; everything, one after the other, where it is not said.
    #[arg(long)]
    only: Vec<What>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Entries,
    Members,
    Jobs,
}

impl What {
    /// Measures it: its name, a table and a plot.
    fn measure(self, rounds: usize) -> (&'static str, String, Plot<'static>) {
        let (name, (table, plot)) = match self {
            What::Entries => ("entries", entries(rounds)),
            What::Members => ("members", members(rounds)),
            What::Jobs => ("jobs", jobs(rounds)),
        };
        (name, table, plot)
    }
}

const SCENARIOS: [Scenario; 2] = [Scenario::Single, Scenario::Cluster];

fn main() {
    let Args { rounds, only, .. } = Args::parse();
    let out = Path::new(OUT).join("scaling");
    std::fs::create_dir_all(&out).expect("the build directory can be written to");
    for what in What::value_variants().iter().filter(|what| only.is_empty() || only.contains(what)) {
        let (name, table, plot) = what.measure(rounds.max(1));
        let path = out.join(format!("{name}.svg"));
        plot.write(&path).expect("the build directory can be written to");
        println!("{table}\n");
    }
    println!("plots: {}", out.canonicalize().expect("it was made").display());
}

/// Something to measure.
struct Case {
    setup: Setup,
    seeds: Vec<Range>,
    jobs: usize,
}

/// What it came to.
#[derive(Clone, Copy)]
struct Cost {
    /// Time on the processor of all its seeds together.
    busy: Duration,
    /// The same by the clock.
    clock: Duration,
    seeds: u64,
    entries: u64,
}

impl Cost {
    fn ms_per_seed(self) -> f64 {
        self.busy.as_secs_f64() * 1e3 / self.seeds as f64
    }

    fn ms_per_entry(self) -> f64 {
        self.busy.as_secs_f64() * 1e3 / self.entries as f64
    }

    fn seeds_per_second(self) -> f64 {
        self.seeds as f64 / self.clock.as_secs_f64()
    }
}

/// Measures all cases in turns, so that whatever else the machine does falls upon all of them.
fn measure(cases: &[Case], rounds: usize) -> Vec<Cost> {
    let mut taken = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, taken) in cases.iter().zip(&mut taken) {
            taken.push(run(case));
        }
    }
    let middle = |taken: Vec<Cost>| Cost {
        busy: median(taken.iter().map(|cost| cost.busy)).expect("there are rounds"),
        clock: median(taken.iter().map(|cost| cost.clock)).expect("there are rounds"),
        ..taken[0]
    };
    taken.into_iter().map(middle).collect()
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn run(case: &Case) -> Cost {
    let (start, busy) = (Instant::now(), processor_time());
    let (mut seeds, mut entries) = (0, 0);
    for range in &case.seeds {
        let tally = sweep(case.setup, *range, case.jobs, &AtomicBool::new(false), &|_| {});
        let tally = tally.expect("the harness itself does not fail");
        assert_eq!(tally.violations, 0, "{:?}: {:?}", case.setup, tally.findings);
        seeds += tally.seeds;
        entries += tally.entries;
    }
    Cost { busy: processor_time() - busy, clock: start.elapsed(), seeds, entries }
}

/// Seeds from 0 on.
fn first(seeds: u64) -> Vec<Range> {
    vec![Range { first: 0, end: seeds, shard: (1, 1) }]
}

/// The first so many seeds whose log gets as long as it was asked to. In some clusters it ends at an entry that everybody
/// refuses, and in some a storm leaves few that can be asked: what those cost is not the cost of entries.
fn that_get_there(scenario: Scenario, entries: u64, seeds: usize) -> Vec<Range> {
    let setup = with(scenario, Limits { entries: Some(entries), ..Limits::NONE });
    let gets_there = |range: &Range| {
        let case = Case { setup, seeds: vec![*range], jobs: 1 };
        run(&case).entries * 20 >= entries * 17
    };
    (0..)
        .map(|seed| Range { first: seed, end: seed + 1, shard: (1, 1) })
        .filter(gets_there)
        .take(seeds)
        .collect()
}

fn with(scenario: Scenario, limits: Limits) -> Setup {
    Setup { limits, ..setup(scenario) }
}

/// What grows from one size to the next, and how much.
fn growth(values: &[f64], at: usize) -> String {
    at.checked_sub(1).map_or(String::new(), |before| format!("{:.2}", values[at] / values[before]))
}

fn entries(rounds: usize) -> (String, Plot<'static>) {
    const SIZES: [(u64, [usize; 2]); 3] = [(10, [40, 40]), (100, [24, 12]), (1000, [6, 6])];
    let mut lines = Vec::new();
    let mut table =
        "| world | entries asked for | applied, a seed | ms a seed | ms an entry | growth of that |\n\
                     |---|---|---|---|---|---|"
            .to_owned();
    // The same seeds for each size, more of them where they are short, so that the same faults fall upon all.
    let steady = SCENARIOS.map(|scenario| that_get_there(scenario, 100, 40));
    let case = |which: usize, (entries, seeds): (u64, [usize; 2])| {
        let limits = Limits { entries: Some(entries), ..Limits::NONE };
        Case { setup: with(SCENARIOS[which], limits), seeds: steady[which][..seeds[which]].to_vec(), jobs: 1 }
    };
    let cases: Vec<Case> = (0..2).flat_map(|which| SIZES.map(|size| case(which, size))).collect();
    let costs = measure(&cases, rounds);
    for (scenario, costs) in SCENARIOS.iter().zip(costs.chunks(SIZES.len())) {
        let values: Vec<f64> = costs.iter().map(|cost| cost.ms_per_entry()).collect();
        for (at, (cost, (size, _))) in costs.iter().zip(SIZES).enumerate() {
            let applied = cost.entries as f64 / cost.seeds as f64;
            let (seed, entry) = (written(cost.ms_per_seed(), ""), written(values[at], ""));
            let growth = growth(&values, at);
            table += &format!("\n| {scenario} | {size} | {applied:.1} | {seed} | {entry} | {growth} |");
        }
        lines.push(Line { name: scenario.to_string(), values, unit: "ms" });
    }
    let plot = Plot {
        title: "Cost of an entry as the log grows",
        sizes: "entries per log",
        measure: "time per entry, over that of the shortest log",
        labels: ["10", "100", "1,000"].map(str::to_owned).to_vec(),
        lines,
        reference: ("proportional to the length", vec![1.0; 3]),
    };
    (table, plot)
}

fn members(rounds: usize) -> (String, Plot<'static>) {
    const SIZES: [u64; 3] = [3, 5, 7];
    let case = |members: u64| {
        let limits = Limits { members: Some(members), ..Limits::NONE };
        Case { setup: with(Scenario::Cluster, limits), seeds: first(40), jobs: 1 }
    };
    let costs = measure(&SIZES.map(case), rounds);
    let mut table =
        "| world | members | entries, a seed | ms a seed | growth of that | ms an entry | growth of that |\n\
         |---|---|---|---|---|---|---|"
            .to_owned();
    let seeds: Vec<f64> = costs.iter().map(|cost| cost.ms_per_seed()).collect();
    let entries: Vec<f64> = costs.iter().map(|cost| cost.ms_per_entry()).collect();
    for (at, (cost, size)) in costs.iter().zip(SIZES).enumerate() {
        let applied = cost.entries as f64 / cost.seeds as f64;
        let (seed, entry) = (written(seeds[at], ""), written(entries[at], ""));
        let (of_seed, of_entry) = (growth(&seeds, at), growth(&entries, at));
        table +=
            &format!("\n| cluster | {size} | {applied:.1} | {seed} | {of_seed} | {entry} | {of_entry} |");
    }
    let plot = Plot {
        title: "Cost of a seed of cluster as members join",
        sizes: "founding members",
        measure: "time, over that with three members",
        labels: SIZES.map(|size| size.to_string()).to_vec(),
        lines: vec![
            Line { name: "a seed".to_owned(), values: seeds, unit: "ms" },
            Line { name: "an entry".to_owned(), values: entries, unit: "ms" },
        ],
        reference: ("proportional to the members", SIZES.map(|size| size as f64 / 3.0).to_vec()),
    };
    (table, plot)
}

fn jobs(rounds: usize) -> (String, Plot<'static>) {
    const SIZES: [usize; 2] = [1, 2];
    const SEEDS: [u64; 2] = [1600, 160];
    let case =
        |which: usize, jobs: usize| Case { setup: setup(SCENARIOS[which]), seeds: first(SEEDS[which]), jobs };
    let cases: Vec<Case> = (0..2).flat_map(|which| SIZES.map(|jobs| case(which, jobs))).collect();
    let costs = measure(&cases, rounds);
    let mut lines = Vec::new();
    let mut table =
        "| world | jobs | seeds per second | growth of that | ms a seed, on a processor | growth of that |\n\
                     |---|---|---|---|---|---|"
            .to_owned();
    for (scenario, costs) in SCENARIOS.iter().zip(costs.chunks(SIZES.len())) {
        let values: Vec<f64> = costs.iter().map(|cost| cost.seeds_per_second()).collect();
        let busy: Vec<f64> = costs.iter().map(|cost| cost.ms_per_seed()).collect();
        for (at, jobs) in SIZES.iter().enumerate() {
            let (busy, more, dearer) = (written(busy[at], ""), growth(&values, at), growth(&busy, at));
            table += &format!("\n| {scenario} | {jobs} | {:.0} | {more} | {busy} | {dearer} |", values[at]);
        }
        lines.push(Line { name: scenario.to_string(), values, unit: "seeds/s" });
    }
    let plot = Plot {
        title: "Seeds per second with a second job",
        sizes: "jobs",
        measure: "seeds per second, over those of one job",
        labels: SIZES.map(|jobs| jobs.to_string()).to_vec(),
        lines,
        reference: ("proportional to the jobs", vec![1.0, 2.0]),
    };
    (table, plot)
}
