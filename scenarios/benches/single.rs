//! Seeds per second of the world `single`, beside the floor that any harness over this database pays: opening it on a
//! disk that crashed. Both in one run, since only their ratio means something on a shared machine.

use std::sync::Arc;

use applier::apply::open_database;
use applier::kek::LocalKek;
use applier::{Config, KeyringConfig, NodeId};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scenarios::run::{Keep, Source, run};
use scenarios::seam::SimFiles;
use scenarios::subject::Subject;
use scenarios::world::{Scenario, Setup};
use sim::{Disk, Lies, Profile, Trace};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn seeds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("single");
    group.throughput(Throughput::Elements(1));
    let setup = Setup::of(Scenario::Single, Subject::Hardened);
    let mut seed = 0;
    group.bench_function("seed", |bencher| {
        bencher.iter(|| {
            seed += 1;
            run(setup, Source::Seed(seed), Keep::Nothing).expect("a seed always fits")
        });
    });

    let kek = Arc::new(LocalKek::new([7; 32]));
    let keyring = KeyringConfig { kek: kek.into(), sidecar: "/keys.json".to_owned() };
    let node = NodeId::new(1).expect("not 0");
    let config = Config {
        node,
        database: "/registry.redb".to_owned(),
        keyring: Some(keyring),
        known: Default::default(),
    };
    let disk = Disk::with(Profile::Posix, Lies::NONE, Trace::hashing());
    let open = |disk: &Disk| open_database(&SimFiles::new(disk.mount()), &config).expect("no fault is armed");
    let database = open(&disk);
    // Forked while it is open, the database is one that crashed.
    let crashed = disk.fork();
    crashed.process_crash();
    drop(database);
    group.bench_function("floor: fork, open the crashed database, drop it on a dead disk", |bencher| {
        bencher.iter(|| {
            let disk = crashed.fork();
            let database = open(&disk);
            disk.process_crash();
            drop(database);
        });
    });
    group.finish();
}

criterion_group!(benches, seeds);
criterion_main!(benches);
