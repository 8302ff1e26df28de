//! Programs with known mistakes under [`CrashTest`]: each is found, with the shortest way to it and the repair.

use std::cell::Cell;

use sim::{
    Lies, Mount, OpKind, Profile,
    crashes::{CrashTest, CrashTestError, How, Run, RunResult, Survivor},
};

/// A file with its content and its name, both durable.
fn durable(mount: &Mount, path: &str, text: &[u8]) -> RunResult {
    let file = mount.create_new(path)?;
    file.write_at(0, text)?;
    file.sync()?;
    Ok(mount.sync_dir("/")?)
}

fn replace_durably(run: &Run) -> RunResult {
    let mount = run.mount();
    let file = mount.create_new("/a.tmp")?;
    file.write_at(0, b"new")?;
    file.sync()?;
    mount.rename("/a.tmp", "/a")?;
    mount.sync_dir("/")?;
    run.acknowledge();
    Ok(())
}

fn old_or_new(survivor: &Survivor) -> Result<(), &'static str> {
    match survivor.peek("/a").as_deref() {
        Some(b"new") => Ok(()),
        Some(b"old") if survivor.acknowledged() == 0 => Ok(()),
        _ => Err("neither old nor new"),
    }
}

#[test]
fn a_program_with_every_barrier_needs_no_repair() {
    for profile in Profile::ALL {
        let test = CrashTest::new(replace_durably, old_or_new)
            .setup(|mount| durable(mount, "/a", b"old"))
            .profile(profile)
            .recovery_depth(1);
        let report = test.check().unwrap();
        assert!(report.is_clean() && report.is_complete(), "{report}");
        assert_eq!((report.places, report.calls.len()), (6, 5));
        assert_eq!(test.repair(1).unwrap().unwrap().barriers, []);
    }
}

#[test]
fn a_disk_that_lies_is_noticed() {
    for (name, lies) in Lies::NAMED {
        let test = CrashTest::new(replace_durably, old_or_new).setup(|mount| durable(mount, "/a", b"old"));
        assert!(!test.lies(lies).check().unwrap().is_clean(), "{name}");
    }
}

#[test]
fn a_finding_has_the_shortest_way_and_can_be_replayed() {
    let judge = |survivor: &Survivor| match survivor.peek("/a").as_deref() {
        Some(b"one" | b"onetwo") => Ok(()),
        bytes => Err(format!("{:?}", bytes.map(<[u8]>::len))),
    };
    let test = CrashTest::new(
        |run| {
            let file = run.mount().open("/a")?;
            file.write_at(3, b"two")?;
            run.mount().sync_dir("/")?;
            file.set_len(0)?;
            file.write_at(0, b"one")?;
            Ok(file.sync()?)
        },
        judge,
    )
    .setup(|mount| durable(mount, "/a", b"one"));
    let report = test.check().unwrap();
    // A sector that is there before its length reads as nothing; one that is not there reads as zeros.
    let calls: Vec<_> = report.findings.iter().map(|finding| finding.crashes[0].after.len()).collect();
    assert_eq!(calls, [1, 3, 4], "{report}");
    assert_eq!(report.findings[1].crashes[0].how, How::Process);
    for finding in &report.findings {
        let survivor = test.replay(&finding.crashes).unwrap();
        assert_eq!(judge(&survivor), Err(finding.bad.clone()));
        let mut other = finding.crashes.clone();
        other[0].before = None;
        assert!(matches!(test.replay(&other), Err(CrashTestError::Calls { .. })));
    }
}

#[test]
fn what_was_acknowledged_needs_its_barrier_before_that() {
    let test = CrashTest::new(
        |run| {
            let file = run.mount().open("/a")?;
            file.write_at(0, b"1")?;
            run.acknowledge();
            file.write_at(0, b"2")?;
            Ok(file.sync()?)
        },
        |survivor| match (survivor.acknowledged(), survivor.finished(), survivor.peek("/a").as_deref()) {
            (0, false, Some(b"0" | b"1")) | (1, false, Some(b"1" | b"2")) | (1, true, Some(b"2")) => Ok(()),
            _ => Err("lost"),
        },
    )
    .setup(|mount| durable(mount, "/a", b"0"));
    let repair = test.repair(2).unwrap().unwrap();
    assert_eq!(repair.to_string().lines().nth(1), Some("  sync_file /a, between write /a and write /a"));
    assert_eq!((repair.barriers[0].place, repair.barriers[0].sync.kind), (1, OpKind::SyncFile));
    assert!(repair.complete);
}

#[test]
fn no_repair_is_found_where_there_is_none() {
    let overwrite = |run: &Run| Ok(run.mount().open("/a")?.write_at(0, &[b'x'; 1024]).map(drop)?);
    let whole = |survivor: &Survivor| {
        let bytes = survivor.peek("/a").unwrap_or_default();
        if bytes.iter().all(|byte| *byte == bytes[0]) { Ok(()) } else { Err("torn") }
    };
    let test = CrashTest::new(overwrite, whole).setup(|mount| durable(mount, "/a", &[b'o'; 1024]));
    assert_eq!(test.check().unwrap().findings[0].bad, "torn");
    assert_eq!(test.repair(5).unwrap(), None);
}

/// Takes the place of `/a` in two steps, and cannot do it twice.
fn recover(mount: &Mount) -> RunResult {
    if mount.len("/a.new")?.is_some() {
        mount.unlink("/a")?;
        mount.rename("/a.new", "/a")?;
        mount.sync_dir("/")?;
    }
    Ok(())
}

#[test]
fn a_recovery_that_cannot_be_repeated_is_found_at_depth_one() {
    let judge = |survivor: &Survivor| {
        recover(&survivor.mount()).map_err(|error| error.to_string())?;
        survivor.peek("/a").map(drop).ok_or("gone".to_owned())
    };
    let test = || {
        CrashTest::new(|run| durable(run.mount(), "/a.new", b"new"), judge)
            .setup(|mount| durable(mount, "/a", b"old"))
    };
    assert!(test().check().unwrap().is_clean());
    let test = test().recovery_depth(1);
    let report = test.check().unwrap();
    let found = &report.findings[0];
    assert!(found.bad.contains("No such file"), "{report}");
    let [program, recovery] = &found.crashes[..] else { panic!("{report}") };
    assert_eq!((program.after.len(), &program.how), (1, &How::Process), "{report}");
    assert_eq!((recovery.after.len(), &recovery.how), (1, &How::Process), "{report}");
    assert!(report.to_string().contains("\n     recovery begins\n     unlink /a\n     the process crashes"));
    assert_eq!(judge(&test.replay(&found.crashes).unwrap()), Err(found.bad.clone()));
}

#[test]
fn more_ways_than_may_be_walked_are_counted_as_sampled() {
    let test = CrashTest::new(
        |run| Ok(run.mount().create_new("/a")?.write_at(0, &[1; 8192]).map(drop)?),
        |_| Ok::<_, &str>(()),
    );
    let report = test.ways_max(100).check().unwrap();
    assert_eq!((report.sampled, report.is_complete()), (1, false));
    // At each place one process crash; one way to lose power, two, and a hundred walked with a hundred drawn.
    assert_eq!(report.crashes, 3 + 1 + 2 + 200);
    assert!(
        report.to_string().ends_with("nothing bad (there were more ways than these at 1 place)"),
        "{report}"
    );
}

#[test]
fn what_fails_without_a_crash_is_said_to() {
    let fine = |_: &Survivor| Ok::<_, &str>(());
    let missing = |run: &Run| Ok(run.mount().open("/a").map(drop)?);
    assert!(matches!(CrashTest::new(missing, fine).check(), Err(CrashTestError::Program(_))));
    let test = CrashTest::new(|_| Ok(()), fine).setup(|mount| Ok(mount.unlink("/a")?));
    assert!(matches!(test.check(), Err(CrashTestError::Setup(_))));
}

#[test]
fn a_program_that_does_not_repeat_is_refused() {
    let runs = Cell::new(0);
    let test = CrashTest::new(
        |run| {
            runs.set(runs.get() + 1);
            run.mount().create_new("/a")?;
            (1..runs.get()).try_for_each(|_| run.mount().sync_dir("/"))?;
            Ok(())
        },
        |survivor| if survivor.finished() { Err("never good") } else { Ok(()) },
    );
    assert!(matches!(test.repair(1), Err(CrashTestError::Calls { calls: 1 })));
}

#[test]
fn a_judge_that_panics_says_where() {
    let panics = |survivor: &Survivor| -> Result<(), &str> {
        assert!(survivor.peek("/a").is_none(), "there is a file");
        Ok(())
    };
    let test = CrashTest::new(|run| Ok(run.mount().create_new("/a").map(drop)?), panics);
    let Err(CrashTestError::Panicked { message, crashes }) = test.check() else { panic!("it panicked") };
    assert_eq!(message, "there is a file");
    assert_eq!((crashes[0].after[0].kind, &crashes[0].how), (OpKind::Create, &How::Process));
}
