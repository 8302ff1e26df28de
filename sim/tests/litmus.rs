//! Small programs whose outcomes after a power loss are known. A model that forbids one of them is too kind,
//! one that allows another is too cruel. The programs and their outcomes under `posix` are those of Ferrite
//! (ASPLOS'16), ALICE (OSDI'14) and POSIX, those with failing syncs of "Can Applications Recover from fsync
//! Failures?" (ATC'20); the other profiles take outcomes away as `Profile` says.
//!
//! Each program is declared once, with every outcome that it can have under each profile and with how many
//! crashes were enumerated to find that out.
//!
//! An outcome shows a file as one letter per sector: the letter it was filled with, `0` for zeros, `_` for
//! less than a sector, `?` for bytes that nobody wrote. An empty file is `empty`, a missing one `absent`.

use std::{collections::BTreeSet, io};

use sim::{Disk, Exhaustive, Fault, Mount, Profile, SyncFailure, Tearing};

type Step = fn(&Mount) -> io::Result<()>;
/// All outcomes for the files in question, and how many crashes were enumerated.
type Outcomes = (&'static [&'static str], u64);

/// When the power goes.
#[derive(Clone, Copy, PartialEq)]
enum Power {
    /// After the last step.
    After,
    /// Before any step, or after the last one.
    Any,
}

struct Litmus {
    /// Done and made durable before the program.
    setup: Step,
    steps: Step,
    power: Power,
    tearing: Tearing,
    /// How the first sync of the program fails.
    failure: Option<SyncFailure>,
    files: &'static [&'static str],
    /// One for each of [`Profile::ALL`].
    outcomes: [Outcomes; 4],
}

const BLANK: Litmus = Litmus {
    setup: |_| Ok(()),
    steps: |_| Ok(()),
    power: Power::After,
    tearing: Tearing::Sectors,
    failure: None,
    files: &["/a"],
    outcomes: [(&[], 0); 4],
};

impl Litmus {
    #[track_caller]
    fn check(&self) {
        for (profile, (expected, crashes)) in Profile::ALL.into_iter().zip(self.outcomes) {
            let (shown, enumerated) = self.run(profile);
            let expected = expected.iter().map(|outcome| (*outcome).to_owned()).collect();
            assert_eq!((shown, enumerated), (expected, crashes), "under {profile}");
        }
    }

    fn run(&self, profile: Profile) -> (BTreeSet<String>, u64) {
        let (mut shown, mut crashes) = (BTreeSet::new(), 0);
        for step in 0.. {
            let disk = Disk::new(profile);
            disk.set_tearing(self.tearing);
            (self.setup)(&disk.mount()).expect("nothing fails without a fault");
            assert_eq!(disk.pending_len(), 0, "what a program starts from is durable");
            if let Some(how) = self.failure {
                disk.arm(Fault::FailSync { call: disk.calls(), how });
            }
            if self.power == Power::Any {
                disk.arm(Fault::DieAtMutation(disk.mutations() + step));
            }
            let finished = (self.steps)(&disk.mount());
            crashes += enumerate(&disk, |survivor| {
                let files: Vec<String> = self.files.iter().map(|file| show(survivor, file)).collect();
                shown.insert(files.join(" "));
            });
            if disk.died_at().is_none() {
                finished.expect("nothing fails without a fault");
                break;
            }
        }
        (shown, crashes)
    }
}

fn enumerate(disk: &Disk, mut look: impl FnMut(&Disk)) -> u64 {
    let mut walk = Exhaustive::new();
    while let Some(mut choices) = walk.begin() {
        let survivor = disk.fork();
        survivor.power_loss(&mut choices);
        look(&survivor);
        walk.end(choices).expect("a crash is deterministic");
    }
    assert!(walk.is_complete());
    walk.visited()
}

fn show(disk: &Disk, path: &str) -> String {
    disk.peek(path).map_or("absent".to_owned(), |bytes| letters(&bytes))
}

fn letters(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "empty".to_owned();
    }
    let letter = |sector: &[u8]| match sector[0] {
        _ if sector.len() < 512 => '_',
        0 if sector.iter().all(|byte| *byte == 0) => '0',
        first @ b'A'..=b'Z' if sector.iter().all(|byte| *byte == first) => char::from(first),
        _ => '?',
    };
    bytes.chunks(512).map(letter).collect()
}

/// Fills sectors with letters, in one write.
fn write(mount: &Mount, path: &str, letters: &str) -> io::Result<()> {
    let data: Vec<u8> = letters.bytes().flat_map(|letter| [letter; 512]).collect();
    mount.open(path)?.write_at(0, &data).map(|_| ())
}

fn read(mount: &Mount, path: &str) -> io::Result<String> {
    let file = mount.open(path)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    Ok(letters(&bytes))
}

fn create(mount: &Mount, path: &str) -> io::Result<()> {
    mount.create_new(path).map(|_| ())
}

fn sync(mount: &Mount, path: &str) -> io::Result<()> {
    mount.open(path)?.sync()
}

fn durable(mount: &Mount, path: &str, letters: &str) -> io::Result<()> {
    create(mount, path)?;
    write(mount, path, letters)?;
    sync(mount, path)?;
    mount.sync_dir("/")
}

/// Each program is a test of its own, and one of those that hold the profiles against each other.
macro_rules! programs {
    ($($(#[$doc:meta])* $claim:ident: $litmus:expr;)*) => {
        $($(#[$doc])* #[test] fn $claim() { $litmus.check() })*
        const PROGRAMS: &[(&str, Litmus)] = &[$((stringify!($claim), $litmus)),*];
    };
}

const CREATE_AND_RENAME: Step = |m| {
    create(m, "/a")?;
    write(m, "/a", "XX")?;
    m.rename("/a", "/b")
};
/// A durable file `a`, to be replaced by a temporary file.
const REPLACE: Litmus = Litmus { setup: |m| durable(m, "/a", "X"), power: Power::Any, ..BLANK };
const SYNCED_REPLACE: Step = |m| {
    create(m, "/t")?;
    write(m, "/t", "YY")?;
    sync(m, "/t")?;
    m.rename("/t", "/a")
};
const STALE_TEMPORARY: Litmus = Litmus {
    setup: |m| durable(m, "/t", "ZZZ"),
    steps: |m| {
        m.unlink("/t")?;
        create(m, "/t")?;
        write(m, "/t", "X")?;
        sync(m, "/t")?;
        m.rename("/t", "/a")?;
        m.sync_dir("/")
    },
    files: &["/a", "/t"],
    ..BLANK
};
/// A durable file of two sectors.
const OVERWRITE: Litmus = Litmus { setup: |m| durable(m, "/a", "XX"), ..BLANK };
/// A durable file of one sector.
const APPEND: Litmus = Litmus { setup: |m| durable(m, "/a", "X"), ..BLANK };

programs! {
    l1_an_unsynced_file_renamed_shows_anything_under_its_final_name: Litmus {
        steps: CREATE_AND_RENAME,
        power: Power::Any,
        files: &["/b"],
        outcomes: [
            (&["absent", "empty", "0", "X", "00", "0X", "X0", "XX"], 77),
            (&["absent", "empty", "X", "XX"], 14),
            (&["absent", "empty", "X", "XX"], 14),
            (&["absent", "empty", "X", "X0", "XX"], 17),
        ],
        ..BLANK
    };

    l2_a_synced_file_renamed_is_whole_or_absent: Litmus {
        steps: |m| {
            create(m, "/a")?;
            write(m, "/a", "XX")?;
            sync(m, "/a")?;
            m.rename("/a", "/b")
        },
        power: Power::Any,
        files: &["/b"],
        outcomes: [
            (&["absent", "XX"], 28),
            (&["absent", "XX"], 10),
            (&["absent", "XX"], 10),
            (&["absent", "XX"], 11),
        ],
        ..BLANK
    };

    /// Under ext4 the replacing rename brings the data with it.
    l3_an_unsynced_replacement_may_be_torn_but_the_name_stays: Litmus {
        steps: |m| {
            create(m, "/t")?;
            write(m, "/t", "YY")?;
            m.rename("/t", "/a")
        },
        outcomes: [
            (&["X", "empty", "0", "Y", "00", "0Y", "Y0", "YY"], 77),
            (&["X", "YY"], 12),
            (&["X", "empty", "Y", "YY"], 14),
            (&["X", "empty", "Y", "Y0", "YY"], 17),
        ],
        ..REPLACE
    };

    a_replacing_rename_brings_a_changed_length_under_ext4_only: Litmus {
        steps: |m| {
            create(m, "/t")?;
            m.open("/t")?.set_len(512)?;
            m.rename("/t", "/a")
        },
        power: Power::After,
        outcomes: [
            (&["X", "empty", "0"], 7),
            (&["X", "0"], 4),
            (&["X", "empty", "0"], 5),
            (&["X", "empty", "0"], 5),
        ],
        ..REPLACE
    };

    l4_a_synced_replacement_is_old_or_new: Litmus {
        steps: SYNCED_REPLACE,
        outcomes: [
            (&["X", "YY"], 28),
            (&["X", "YY"], 10),
            (&["X", "YY"], 10),
            (&["X", "YY"], 11),
        ],
        ..REPLACE
    };

    l5_a_synced_directory_makes_the_replacement_final: Litmus {
        steps: |m| {
            SYNCED_REPLACE(m)?;
            m.sync_dir("/")
        },
        power: Power::After,
        outcomes: [(&["YY"], 1); 4],
        ..REPLACE
    };

    /// The others commit the name along with the file.
    l6_a_synced_file_needs_a_synced_name_under_posix: Litmus {
        steps: |m| {
            create(m, "/a")?;
            write(m, "/a", "XX")?;
            sync(m, "/a")
        },
        outcomes: [(&["absent", "XX"], 2), (&["XX"], 1), (&["XX"], 1), (&["XX"], 1)],
        ..BLANK
    };

    l7_a_synced_name_stays_while_its_data_may_go: Litmus {
        steps: |m| {
            create(m, "/a")?;
            m.sync_dir("/")?;
            write(m, "/a", "XX")
        },
        outcomes: [
            (&["empty", "0", "X", "00", "0X", "X0", "XX"], 18),
            (&["empty", "X", "XX"], 3),
            (&["empty", "X", "XX"], 3),
            (&["empty", "X", "X0", "XX"], 4),
        ],
        ..BLANK
    };

    l8_each_sector_of_an_overwrite_is_old_or_new: Litmus {
        steps: |m| write(m, "/a", "YY"),
        outcomes: [(&["XX", "XY", "YX", "YY"], 6); 4],
        ..OVERWRITE
    };

    l8_each_sector_of_an_overwrite_may_be_garbage_in_the_harsher_setting: Litmus {
        steps: |m| write(m, "/a", "YY"),
        tearing: Tearing::Garbled,
        outcomes: [(&["??", "?X", "?Y", "X?", "XX", "XY", "Y?", "YX", "YY"], 326); 4],
        ..OVERWRITE
    };

    l9_a_lost_write_does_not_protect_a_later_one: Litmus {
        setup: |m| {
            durable(m, "/a", "A")?;
            durable(m, "/b", "B")
        },
        steps: |m| {
            write(m, "/a", "X")?;
            write(m, "/b", "Y")
        },
        files: &["/a", "/b"],
        outcomes: [(&["A B", "A Y", "X B", "X Y"], 4); 4],
        ..BLANK
    };

    l10_a_stale_temporary_file_leaves_nothing_behind: Litmus {
        outcomes: [(&["X absent"], 1); 4],
        ..STALE_TEMPORARY
    };

    /// Before the directory is synced each name has its own fate, but the stale file never gets the final one.
    l10_a_stale_temporary_file_never_gets_the_final_name: Litmus {
        power: Power::Any,
        outcomes: [
            (
                &[
                    "absent ZZZ", "absent absent", "absent empty", "absent 0", "absent X", "X ZZZ",
                    "X absent",
                ],
                30,
            ),
            (&["absent ZZZ", "absent absent", "absent empty", "absent X", "X absent"], 14),
            (&["absent ZZZ", "absent absent", "absent empty", "absent X", "X absent"], 14),
            (&["absent ZZZ", "absent absent", "absent empty", "absent X", "X absent"], 14),
        ],
        ..STALE_TEMPORARY
    };

    l11_a_synced_directory_needs_a_synced_name_too_under_posix: Litmus {
        steps: |m| {
            m.mkdir("/d")?;
            create(m, "/d/f")?;
            write(m, "/d/f", "XX")?;
            sync(m, "/d/f")?;
            m.sync_dir("/d")
        },
        files: &["/d/f"],
        outcomes: [(&["absent", "XX"], 2), (&["XX"], 1), (&["XX"], 1), (&["XX"], 1)],
        ..BLANK
    };

    a_synced_file_brings_the_new_directory_that_it_is_in_except_under_posix: Litmus {
        steps: |m| {
            m.mkdir("/d")?;
            create(m, "/d/f")?;
            write(m, "/d/f", "XX")?;
            sync(m, "/d/f")
        },
        files: &["/d/f"],
        outcomes: [(&["absent", "XX"], 4), (&["XX"], 1), (&["XX"], 1), (&["XX"], 1)],
        ..BLANK
    };

    /// A sync of `b` commits the older name of `a` under ext4 and XFS. Under Btrfs it logs the name of `b`
    /// only, so that the younger name may survive the older.
    a_sync_commits_older_names_of_other_files_under_some: Litmus {
        steps: |m| {
            create(m, "/a")?;
            create(m, "/b")?;
            sync(m, "/b")
        },
        files: &["/a", "/b"],
        outcomes: [
            (&["absent absent", "absent empty", "empty absent", "empty empty"], 4),
            (&["empty empty"], 1),
            (&["empty empty"], 1),
            (&["absent empty", "empty empty"], 2),
        ],
        ..BLANK
    };

    /// A sync of the file that took over a name needs the fate of the file that had it before. Under Btrfs it
    /// does not need what happened to that one since.
    a_synced_name_that_was_handed_over_stays: Litmus {
        setup: |m| durable(m, "/a", "A"),
        steps: |m| {
            m.rename("/a", "/b")?;
            create(m, "/a")?;
            write(m, "/a", "B")?;
            m.rename("/b", "/c")?;
            sync(m, "/a")
        },
        files: &["/a", "/b", "/c"],
        outcomes: [
            (
                &[
                    "A absent A", "A absent absent", "B A absent", "B absent A", "B absent absent",
                    "absent A absent", "absent absent A",
                ],
                8,
            ),
            (&["B absent A"], 1),
            (&["B absent A"], 1),
            (&["B A absent", "B absent A"], 2),
        ],
        ..BLANK
    };

    unsynced_names_survive_as_a_prefix_except_under_posix: Litmus {
        steps: |m| {
            create(m, "/a")?;
            create(m, "/b")
        },
        files: &["/a", "/b"],
        outcomes: [
            (&["absent absent", "absent empty", "empty absent", "empty empty"], 4),
            (&["absent absent", "empty absent", "empty empty"], 3),
            (&["absent absent", "empty absent", "empty empty"], 3),
            (&["absent absent", "empty absent", "empty empty"], 3),
        ],
        ..BLANK
    };

    /// Under ext4 the write into a new length that was lost is lost with it.
    a_length_and_the_write_into_it_have_separate_fates: Litmus {
        steps: |m| {
            m.open("/a")?.set_len(1024)?;
            m.open("/a")?.write_at(512, &[b'Y'; 512]).map(|_| ())
        },
        outcomes: [
            (&["X", "X0", "XY"], 8),
            (&["X", "X0", "XY"], 4),
            (&["X", "X0", "XY"], 4),
            (&["X", "X0", "XY"], 4),
        ],
        ..APPEND
    };

    /// Under XFS the length goes to the end of what was written, wherever that is, under Btrfs to what it is
    /// in memory.
    appends_survive_as_a_prefix_under_ext4_only: Litmus {
        steps: |m| {
            m.open("/a")?.write_at(512, &[b'Y'; 512])?;
            m.open("/a")?.write_at(1024, &[b'Z'; 512]).map(|_| ())
        },
        outcomes: [
            (&["X", "X0", "XY", "X00", "XY0", "X0Z", "XYZ"], 16),
            (&["X", "XY", "XYZ"], 4),
            (&["X", "XY", "X0Z", "XYZ"], 4),
            (&["X", "XY", "XY0", "X0Z", "XYZ"], 6),
        ],
        ..APPEND
    };

    a_truncation_that_is_lost_leaves_the_old_data: Litmus {
        steps: |m| {
            m.open("/a")?.set_len(0)?;
            write(m, "/a", "Y")
        },
        outcomes: [
            (&["empty", "0", "Y", "XX", "YX"], 8),
            (&["empty", "Y", "XX"], 4),
            (&["empty", "Y", "XX", "YX"], 4),
            (&["empty", "Y", "XX", "YX"], 4),
        ],
        ..OVERWRITE
    };

    /// Under `posix` the length may grow over the old half, which gives a mixture with zeros.
    the_sector_in_which_a_file_ended_does_not_tear: Litmus {
        setup: |m| {
            durable(m, "/a", "X")?;
            m.open("/a")?.set_len(256)?;
            sync(m, "/a")
        },
        steps: |m| write(m, "/a", "Y"),
        outcomes: [(&["_", "Y", "?"], 4), (&["_", "Y"], 3), (&["_", "Y"], 3), (&["_", "Y"], 3)],
        ..BLANK
    };

    pages_that_are_whole_are_old_or_new: Litmus {
        setup: |m| durable(m, "/a", "XXXXXXXXXX"),
        steps: |m| write(m, "/a", "YYYYYYYY"),
        tearing: Tearing::PagesWhole,
        outcomes: [(&["XXXXXXXXXX", "YYYYYYYYXX"], 2); 4],
        ..BLANK
    };

    less_than_a_page_tears_all_the_same: Litmus {
        setup: |m| durable(m, "/a", "XXXXXXXXXX"),
        steps: |m| write(m, "/a", "YY"),
        tearing: Tearing::PagesWhole,
        outcomes: [(&["XXXXXXXXXX", "XYXXXXXXXX", "YXXXXXXXXX", "YYXXXXXXXX"], 6); 4],
        ..BLANK
    };

    a_retry_of_a_sync_that_kept_everything_pending_works: Litmus {
        failure: Some(SyncFailure::KeptPending),
        steps: FAILED_AND_RETRIED,
        outcomes: [(&["YY"], 1); 4],
        ..OVERWRITE
    };

    without_a_retry_what_was_kept_pending_has_every_fate: Litmus {
        failure: Some(SyncFailure::KeptPending),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync_fails(m, "/a");
            Ok(())
        },
        outcomes: [(&["XX", "XY", "YX", "YY"], 6); 4],
        ..OVERWRITE
    };

    /// What ext4 and XFS were measured to do.
    a_retry_says_ok_and_the_data_is_lost_all_the_same: Litmus {
        failure: Some(SyncFailure::LostButClean),
        steps: FAILED_AND_RETRIED,
        outcomes: [(&["XX"], 1); 4],
        ..OVERWRITE
    };

    /// What Btrfs was measured to do.
    a_retry_after_a_reverted_page_says_ok_and_has_nothing_to_write: Litmus {
        failure: Some(SyncFailure::LostAndReverted),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync_fails(m, "/a");
            assert_eq!(read(m, "/a")?, "XX");
            sync(m, "/a")
        },
        outcomes: [(&["XX"], 1); 4],
        ..OVERWRITE
    };

    a_sync_that_failed_may_have_persisted_all: Litmus {
        failure: Some(SyncFailure::Persisted),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync_fails(m, "/a");
            Ok(())
        },
        outcomes: [(&["YY"], 1); 4],
        ..OVERWRITE
    };

    a_sync_that_said_ok_may_have_failed: Litmus {
        failure: Some(SyncFailure::ReportedLate),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync(m, "/a")?;
            assert_eq!(read(m, "/a")?, "YY");
            Ok(())
        },
        outcomes: [(&["XX"], 1); 4],
        ..OVERWRITE
    };

    a_late_error_is_told_by_the_next_sync_and_once: Litmus {
        failure: Some(SyncFailure::ReportedLate),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync(m, "/a")?;
            sync_fails(m, "/a");
            sync(m, "/a")
        },
        outcomes: [(&["XX"], 1); 4],
        ..OVERWRITE
    };

    a_write_into_a_lost_page_brings_the_whole_page_back: Litmus {
        failure: Some(SyncFailure::LostButClean),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync_fails(m, "/a");
            write(m, "/a", "Z")?;
            sync(m, "/a")
        },
        outcomes: [(&["ZY"], 1); 4],
        ..OVERWRITE
    };

    a_write_into_a_lost_page_leaves_the_whole_page_pending: Litmus {
        failure: Some(SyncFailure::LostButClean),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync_fails(m, "/a");
            write(m, "/a", "Z")
        },
        outcomes: [(&["XX", "XY", "ZX", "ZY"], 6); 4],
        ..OVERWRITE
    };

    /// The second page of the file is another one; of that, only the sector written is pending.
    a_write_into_another_page_brings_nothing_back: Litmus {
        setup: |m| durable(m, "/a", "XXXXXXXXXX"),
        failure: Some(SyncFailure::LostButClean),
        steps: |m| {
            write(m, "/a", "YY")?;
            sync_fails(m, "/a");
            m.open("/a")?.write_at(4096, &[b'Z'; 512])?;
            assert_eq!(read(m, "/a")?, "YYXXXXXXZX");
            Ok(())
        },
        outcomes: [(&["XXXXXXXXXX", "XXXXXXXXZX"], 2); 4],
        ..BLANK
    };

    /// The protocol that survives every crash does not survive a retried sync.
    a_replacement_whose_failed_sync_was_retried_is_empty: Litmus {
        failure: Some(SyncFailure::LostButClean),
        steps: |m| {
            create(m, "/t")?;
            write(m, "/t", "YY")?;
            sync_fails(m, "/t");
            sync(m, "/t")?;
            m.rename("/t", "/a")?;
            assert_eq!(read(m, "/a")?, "YY");
            m.sync_dir("/")
        },
        power: Power::After,
        outcomes: [(&["empty"], 1); 4],
        ..REPLACE
    };

    a_directory_sync_that_failed_may_be_retried_if_it_kept_everything_pending: Litmus {
        failure: Some(SyncFailure::KeptPending),
        steps: NAMED_AND_RETRIED,
        outcomes: [(&["empty"], 1); 4],
        ..BLANK
    };

    a_name_is_lost_though_the_retry_of_the_directory_sync_said_ok: Litmus {
        failure: Some(SyncFailure::LostButClean),
        steps: NAMED_AND_RETRIED,
        outcomes: [(&["absent"], 1); 4],
        ..BLANK
    };

    lookups_in_a_directory_do_not_go_back: Litmus {
        failure: Some(SyncFailure::LostAndReverted),
        steps: NAMED_AND_RETRIED,
        outcomes: [(&["absent"], 1); 4],
        ..BLANK
    };

    a_directory_sync_that_failed_may_have_persisted_all: Litmus {
        failure: Some(SyncFailure::Persisted),
        steps: |m| {
            create(m, "/a")?;
            m.sync_dir("/").expect_err("the fault hits it");
            Ok(())
        },
        outcomes: [(&["empty"], 1); 4],
        ..BLANK
    };

    a_directory_sync_that_said_ok_may_have_failed: Litmus {
        failure: Some(SyncFailure::ReportedLate),
        steps: |m| {
            create(m, "/a")?;
            m.sync_dir("/")?;
            m.sync_dir("/").expect_err("it is told late");
            assert_eq!(m.list("/")?, ["a"]);
            m.sync_dir("/")
        },
        outcomes: [(&["absent"], 1); 4],
        ..BLANK
    };
}

#[track_caller]
fn sync_fails(mount: &Mount, path: &str) {
    sync(mount, path).expect_err("the fault hits it");
}

const FAILED_AND_RETRIED: Step = |m| {
    write(m, "/a", "YY")?;
    sync_fails(m, "/a");
    assert_eq!(read(m, "/a")?, "YY");
    sync(m, "/a")
};

const NAMED_AND_RETRIED: Step = |m| {
    create(m, "/a")?;
    m.sync_dir("/").expect_err("the fault hits it");
    assert_eq!(m.list("/")?, ["a"]);
    m.sync_dir("/")
};

#[test]
fn the_outcomes_under_each_profile_are_outcomes_under_posix() {
    for (claim, litmus) in PROGRAMS {
        let (posix, _) = litmus.run(Profile::Posix);
        for profile in Profile::ALL {
            let (shown, _) = litmus.run(profile);
            assert!(shown.is_subset(&posix), "{claim}: {profile} has {shown:?}, posix {posix:?}");
            assert!(!shown.is_empty());
        }
    }
}

/// A profile like another one would be tested twice.
#[test]
fn every_profile_differs_from_every_other_in_some_program() {
    for (at, one) in Profile::ALL.into_iter().enumerate() {
        for other in &Profile::ALL[at + 1..] {
            let differs = PROGRAMS.iter().any(|(_, litmus)| litmus.run(one).0 != litmus.run(*other).0);
            assert!(differs, "{one} is {other}");
        }
    }
}
