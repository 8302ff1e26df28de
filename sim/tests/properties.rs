//! What holds for every program: random programs against a naive model, and the profiles against each other.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use sim::{Choices, Disk, Exhaustive, Mount, Profile, Tearing};

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Write { name: u8, offset: u64, len: usize, fill: u8 },
    SetLen { name: u8, len: u64 },
    Rename(u8, u8),
    Unlink(u8),
    SyncFile(u8),
    SyncDir,
}

fn step(unit: u64, units: u64) -> impl Strategy<Value = Step> {
    let name = || 0..3u8;
    let sizes = (0..units, 1..=units);
    prop_oneof![
        3 => name().prop_map(Step::Create),
        4 => (name(), sizes, 1..=255u8).prop_map(move |(name, (offset, len), fill)| {
            Step::Write { name, offset: offset * unit, len: (len * unit) as usize, fill }
        }),
        1 => (name(), 0..=units).prop_map(move |(name, len)| Step::SetLen { name, len: len * unit }),
        2 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name().prop_map(Step::Unlink),
        1 => name().prop_map(Step::SyncFile),
        1 => Just(Step::SyncDir),
    ]
}

fn path(name: u8) -> String {
    format!("/{}", char::from(b'a' + name))
}

/// Errors are part of what random programs do; the model has the same ones.
fn run(mount: &Mount, step: &Step) {
    let with = |name: u8, act: &dyn Fn(sim::File)| mount.open(&path(name)).map(act).unwrap_or_default();
    match step {
        Step::Create(name) => drop(mount.create_new(&path(*name))),
        Step::Write { name, offset, len, fill } => {
            with(*name, &|file| assert_eq!(file.write_at(*offset, &vec![*fill; *len]).unwrap(), *len));
        }
        Step::SetLen { name, len } => with(*name, &|file| file.set_len(*len).unwrap()),
        Step::Rename(from, to) => drop(mount.rename(&path(*from), &path(*to))),
        Step::Unlink(name) => drop(mount.unlink(&path(*name))),
        Step::SyncFile(name) => with(*name, &|file| file.sync().unwrap()),
        Step::SyncDir => mount.sync_dir("/").unwrap(),
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn run_model(files: &mut Files, step: &Step) {
    match step {
        Step::Create(name) => drop(files.entry(path(*name)).or_default()),
        Step::Write { name, offset, len, fill } => {
            if let Some(bytes) = files.get_mut(&path(*name)) {
                let end = *offset as usize + len;
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset as usize..end].fill(*fill);
            }
        }
        Step::SetLen { name, len } => {
            if let Some(bytes) = files.get_mut(&path(*name)) {
                bytes.resize(*len as usize, 0);
            }
        }
        Step::Rename(from, to) => {
            if let Some(bytes) = files.remove(&path(*from)) {
                files.insert(path(*to), bytes);
            }
        }
        Step::Unlink(name) => drop(files.remove(&path(*name))),
        Step::SyncFile(_) | Step::SyncDir => {}
    }
}

fn files(disk: &Disk) -> Files {
    (0..3).filter_map(|name| Some((path(name), disk.peek(&path(name))?))).collect()
}

/// Files with their bytes as runs, `7x512 0x100`, so that a failure can be read.
type Shown = BTreeMap<String, String>;

fn shown(files: &Files) -> Shown {
    let runs = |bytes: &Vec<u8>| {
        let runs = bytes.chunk_by(|one, other| one == other).map(|run| format!("{}x{}", run[0], run.len()));
        runs.collect::<Vec<_>>().join(" ")
    };
    files.iter().map(|(name, bytes)| (name.clone(), runs(bytes))).collect()
}

fn look(disk: &Disk) -> Shown {
    shown(&files(disk))
}

fn ran(profile: Profile, steps: &[Step]) -> Disk {
    let disk = Disk::new(profile);
    let mount = disk.mount();
    steps.iter().for_each(|step| run(&mount, step));
    disk
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(Profile::ALL.to_vec())
}

fn tearing() -> impl Strategy<Value = Tearing> {
    prop::sample::select(vec![Tearing::PagesWhole, Tearing::Sectors, Tearing::Garbled])
}

/// Every outcome of a power loss; `None` if there are too many.
fn outcomes(disk: &Disk) -> Option<BTreeSet<Shown>> {
    let mut walk = Exhaustive::limited(20_000);
    let mut seen = BTreeSet::new();
    while let Some(mut choices) = walk.begin() {
        let survivor = disk.fork();
        survivor.power_loss(&mut choices);
        assert_eq!(survivor.pending_len(), 0);
        seen.insert(look(&survivor));
        walk.end(choices).expect("a crash is deterministic");
    }
    walk.is_complete().then_some(seen)
}

proptest! {
    // A fixed seed: a test must not be red today and green tomorrow.
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn reads_see_every_write(profile in profile(), steps in vec(step(700, 12), 0..40)) {
        let disk = Disk::new(profile);
        let mount = disk.mount();
        let mut model = Files::new();
        for step in &steps {
            run(&mount, step);
            run_model(&mut model, step);
        }
        prop_assert_eq!(look(&disk), shown(&model));
        for (name, bytes) in &model {
            let mut read = vec![0xEE; bytes.len() + 10];
            prop_assert_eq!(mount.open(name).unwrap().read_at(0, &mut read).unwrap(), bytes.len());
            prop_assert!(read[..bytes.len()] == bytes[..]);
        }
        disk.process_crash();
        prop_assert_eq!(look(&disk), shown(&model));
    }

    #[test]
    fn a_crash_takes_nothing_that_was_synced(
        profile in profile(),
        steps in vec(step(700, 12), 0..30),
        seed: u64,
    ) {
        let disk = ran(profile, &steps);
        let mount = disk.mount();
        (0..3).for_each(|name| run(&mount, &Step::SyncFile(name)));
        mount.sync_dir("/").unwrap();
        let before = look(&disk);
        disk.power_loss(&mut Choices::seeded(seed));
        prop_assert_eq!(look(&disk), before);
    }

    #[test]
    fn the_calmest_crash_takes_nothing(
        profile in profile(),
        tearing in tearing(),
        steps in vec(step(700, 12), 0..30),
    ) {
        let disk = ran(profile, &steps);
        disk.set_tearing(tearing);
        let before = look(&disk);
        disk.power_loss(&mut Choices::bytes(&[]));
        prop_assert_eq!(look(&disk), before);
    }

    #[test]
    fn a_process_crash_changes_no_later_outcome(
        profile in profile(),
        steps in vec(step(700, 12), 0..30),
        seed: u64,
    ) {
        let disk = ran(profile, &steps);
        let fork = disk.fork();
        fork.process_crash();
        prop_assert!(disk.snapshot() == fork.snapshot());
        let tapes = [&disk, &fork].map(|disk| {
            let mut choices = Choices::seeded(seed);
            disk.power_loss(&mut choices);
            choices.finish().unwrap()
        });
        prop_assert_eq!(&tapes[0], &tapes[1]);
        prop_assert_eq!(look(&disk), look(&fork));
        prop_assert!(disk.snapshot() == fork.snapshot());
        prop_assert_eq!(disk.snapshot().digest(), fork.snapshot().digest());
    }

    #[test]
    fn ext4_states_are_posix_states(steps in vec(step(512, 3), 0..9)) {
        let [posix, ext4] = [Profile::Posix, Profile::Ext4Ordered].map(|profile| ran(profile, &steps));
        if let (Some(posix), Some(ext4)) = (outcomes(&posix), outcomes(&ext4)) {
            let extra: Vec<_> = ext4.difference(&posix).collect();
            prop_assert!(extra.is_empty(), "only ext4 has {:?}", extra);
        }
    }

    #[test]
    fn the_order_in_which_pages_arrive_changes_no_draw(
        fills in vec(1..=255u8, 2..6),
        swap in (0usize..6, 0usize..6),
        seed: u64,
    ) {
        let crash = |order: &[usize]| {
            let disk = Disk::default();
            let mount = disk.mount();
            let file = mount.create_new("/a").unwrap();
            mount.sync_dir("/").unwrap();
            file.set_len(fills.len() as u64 * 4096).unwrap();
            for page in order {
                file.write_at(*page as u64 * 4096, &[fills[*page]; 4096]).unwrap();
            }
            let mut choices = Choices::seeded(seed);
            disk.power_loss(&mut choices);
            (choices.finish().unwrap().to_string(), look(&disk))
        };
        let straight: Vec<usize> = (0..fills.len()).collect();
        let mut swapped = straight.clone();
        swapped.swap(swap.0 % fills.len(), swap.1 % fills.len());
        prop_assert_eq!(crash(&straight), crash(&swapped));
    }
}
