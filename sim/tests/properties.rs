//! What holds for every program: random programs against a naive model, and the profiles against each other.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use sim::{Choices, Disk, Exhaustive, Fault, File, Profile, SyncFailure, Tearing};

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Write {
        name: u8,
        offset: u64,
        len: usize,
        fill: u8,
    },
    SetLen {
        name: u8,
        len: u64,
    },
    Rename(u8, u8),
    Unlink(u8),
    SyncFile(u8),
    SyncDir,
    /// The next sync fails.
    FailSync(SyncFailure),
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

/// Steps among which are syncs that fail in one of these ways.
fn shaky_step(failures: &'static [SyncFailure]) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => step(700, 12),
        1 => prop::sample::select(failures).prop_map(Step::FailSync),
        1 => (0..3u8).prop_map(Step::SyncFile),
    ]
}

fn path(name: u8) -> String {
    format!("/{}", char::from(b'a' + name))
}

/// Errors are part of what random programs do; the model has the same ones. A sync only fails if that was
/// asked for.
fn run(disk: &Disk, step: &Step) {
    let mount = disk.mount();
    let with = |name: u8, act: &dyn Fn(File)| mount.open(&path(name)).map(act).unwrap_or_default();
    match step {
        Step::Create(name) => drop(mount.create_new(&path(*name))),
        Step::Write { name, offset, len, fill } => {
            with(*name, &|file| assert_eq!(file.write_at(*offset, &vec![*fill; *len]).unwrap(), *len));
        }
        Step::SetLen { name, len } => with(*name, &|file| file.set_len(*len).unwrap()),
        Step::Rename(from, to) => drop(mount.rename(&path(*from), &path(*to))),
        Step::Unlink(name) => drop(mount.unlink(&path(*name))),
        Step::SyncFile(name) => with(*name, &|file| assert!(file.sync().is_ok() || disk.sync_failed())),
        Step::SyncDir => assert!(mount.sync_dir("/").is_ok() || disk.sync_failed()),
        Step::FailSync(how) => disk.arm(Fault::FailSync { call: disk.calls(), how: *how }),
    }
}

fn sync_all(disk: &Disk) {
    (0..3).for_each(|name| run(disk, &Step::SyncFile(name)));
    run(disk, &Step::SyncDir);
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
        Step::SyncFile(_) | Step::SyncDir | Step::FailSync(_) => {}
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
    steps.iter().for_each(|step| run(&disk, step));
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
            run(&disk, step);
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
        sync_all(&disk);
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
        steps in vec(shaky_step(&SyncFailure::ALL), 0..30),
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
    fn the_states_of_every_profile_are_posix_states(steps in vec(step(512, 3), 0..9)) {
        let states = Profile::ALL.map(|profile| outcomes(&ran(profile, &steps)));
        let [Some(posix), others @ ..] = &states else { return Ok(()) };
        for (profile, states) in Profile::ALL[1..].iter().zip(others) {
            let states = states.as_ref().expect("fewer states than posix has take fewer crashes");
            let extra: Vec<_> = states.difference(posix).collect();
            prop_assert!(extra.is_empty(), "only {} has {:?}", profile, extra);
        }
    }

    #[test]
    fn so_they_are_where_pages_do_not_tear(steps in vec(step(2048, 3), 0..9)) {
        let states = [Profile::Posix, Profile::Xfs, Profile::Btrfs].map(|profile| {
            let disk = ran(profile, &steps);
            disk.set_tearing(Tearing::PagesWhole);
            outcomes(&disk)
        });
        let [Some(posix), Some(xfs), Some(btrfs)] = states else { return Ok(()) };
        prop_assert!(xfs.is_subset(&posix), "only xfs has {:?}", xfs.difference(&posix));
        prop_assert!(btrfs.is_subset(&posix), "only btrfs has {:?}", btrfs.difference(&posix));
    }

    #[test]
    fn a_fork_behaves_as_the_original(
        profile in profile(),
        before in vec(shaky_step(&SyncFailure::ALL), 0..30),
        after in vec(shaky_step(&SyncFailure::ALL), 0..20),
        seed: u64,
    ) {
        let disk = ran(profile, &before);
        let fork = disk.fork();
        let ends = [&disk, &fork].map(|disk| {
            after.iter().for_each(|step| run(disk, step));
            let (seen, lost, snapshot) = (look(disk), disk.has_lost_data(), disk.snapshot());
            disk.power_loss(&mut Choices::seeded(seed));
            (seen, lost, snapshot, look(disk), disk.trace().hash())
        });
        prop_assert!(ends[0] == ends[1]);
        prop_assert_eq!(ends[0].2.digest(), ends[1].2.digest());
    }

    #[test]
    fn reads_go_on_to_see_what_a_failed_sync_lost(
        profile in profile(),
        steps in vec(
            shaky_step(&[SyncFailure::LostButClean, SyncFailure::ReportedLate, SyncFailure::Persisted]),
            0..40,
        ),
    ) {
        let disk = ran(profile, &steps);
        let mut model = Files::new();
        steps.iter().for_each(|step| run_model(&mut model, step));
        prop_assert_eq!(look(&disk), shown(&model));
        disk.process_crash();
        prop_assert_eq!(look(&disk), shown(&model));
    }

    /// Files are created and written, and then no sync is honest: after a power loss the disk is where it was
    /// after the last honest one, whatever retries said.
    #[test]
    fn a_power_loss_after_lost_syncs_gives_what_was_durable_before(
        profile in profile(),
        honest in vec(step(700, 12), 0..20),
        then in vec((0..3u8, 0..12u64, 1..=255u8), 1..20),
        how in prop::sample::select(&[
            SyncFailure::LostButClean,
            SyncFailure::ReportedLate,
            SyncFailure::LostAndReverted,
        ]),
        seed: u64,
    ) {
        let disk = ran(profile, &honest);
        sync_all(&disk);
        // What is pending still is data of files that have no name any more.
        let (durable, pending) = (look(&disk), disk.pending_len());
        for (name, offset, fill) in then {
            run(&disk, &Step::Create(name));
            run(&disk, &Step::Write { name, offset: offset * 700, len: 700, fill });
        }
        let seen = look(&disk);
        (0..4).for_each(|_| run(&disk, &Step::FailSync(how)));
        // Each file there is and the directory fail once, then none does.
        (0..3).for_each(|name| run(&disk, &Step::SyncFile(name)));
        disk.mount().sync_dir("/").ok();
        disk.disarm();
        prop_assert_eq!(disk.pending_len(), pending);
        if how == SyncFailure::LostAndReverted {
            let now = look(&disk);
            prop_assert!(durable.iter().all(|(name, bytes)| now[name] == *bytes));
        } else {
            prop_assert_eq!(look(&disk), seen);
        }
        prop_assert!(disk.has_lost_data() || look(&disk) == durable);
        sync_all(&disk);
        sync_all(&disk);
        disk.power_loss(&mut Choices::seeded(seed));
        prop_assert_eq!(look(&disk), durable);
        prop_assert!(!disk.has_lost_data());
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
