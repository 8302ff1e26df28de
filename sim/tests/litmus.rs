//! Small programs whose outcomes after a power loss are known. A model that forbids one of them is too kind,
//! one that allows another is too cruel. The programs and their outcomes are those of Ferrite (ASPLOS'16),
//! ALICE (OSDI'14) and POSIX; each test says its own in full.
//!
//! An outcome shows a file as one letter per sector: the letter it was filled with, `0` for zeros, `?` for
//! bytes that nobody wrote. An empty file is `empty`, a missing one `absent`.

use std::{collections::BTreeSet, io};

use sim::{Disk, Exhaustive, Fault, Mount, Profile, Tearing};

type Step = fn(&Mount) -> io::Result<()>;

/// All outcomes of a program for these files, and how many crashes were enumerated.
struct Outcomes {
    shown: BTreeSet<String>,
    crashes: u64,
}

impl Outcomes {
    #[track_caller]
    fn are(&self, expected: &[&str], crashes: u64) {
        let shown: Vec<&str> = self.shown.iter().map(String::as_str).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(shown, expected);
        assert_eq!(self.crashes, crashes, "enumerated crashes");
    }
}

struct Litmus {
    profile: Profile,
    tearing: Tearing,
    /// Done and made durable before the program.
    setup: Step,
    files: &'static [&'static str],
}

const POSIX: Litmus =
    Litmus { profile: Profile::Posix, tearing: Tearing::Sectors, setup: |_| Ok(()), files: &["/a"] };
const EXT4: Litmus = Litmus { profile: Profile::Ext4Ordered, ..POSIX };

impl Litmus {
    /// The power goes after the last step.
    fn after(&self, program: Step) -> Outcomes {
        let disk = self.prepared();
        program(&disk.mount()).expect("nothing fails without a fault");
        let mut outcomes = Outcomes { shown: BTreeSet::new(), crashes: 0 };
        self.enumerate(&disk, &mut outcomes);
        outcomes
    }

    /// The power goes before any step, or after the last one.
    fn any(&self, program: Step) -> Outcomes {
        let mut outcomes = Outcomes { shown: BTreeSet::new(), crashes: 0 };
        for step in 0.. {
            let disk = self.prepared();
            disk.arm(Fault::DieAtMutation(disk.mutations() + step));
            let finished = program(&disk.mount()).is_ok();
            self.enumerate(&disk, &mut outcomes);
            if finished {
                break;
            }
        }
        outcomes
    }

    fn prepared(&self) -> Disk {
        let disk = Disk::new(self.profile);
        disk.set_tearing(self.tearing);
        (self.setup)(&disk.mount()).expect("nothing fails without a fault");
        assert_eq!(disk.pending_len(), 0, "what a program starts from is durable");
        disk
    }

    fn enumerate(&self, disk: &Disk, outcomes: &mut Outcomes) {
        let mut walk = Exhaustive::new();
        while let Some(mut choices) = walk.begin() {
            let survivor = disk.fork();
            survivor.power_loss(&mut choices);
            let shown: Vec<String> = self.files.iter().map(|file| show(&survivor, file)).collect();
            outcomes.shown.insert(shown.join(" "));
            walk.end(choices).expect("a crash is deterministic");
        }
        assert!(walk.is_complete());
        outcomes.crashes += walk.visited();
    }
}

fn show(disk: &Disk, path: &str) -> String {
    let Some(bytes) = disk.peek(path) else { return "absent".to_owned() };
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

#[test]
fn l1_an_unsynced_file_renamed_shows_anything_under_its_final_name() {
    let program: Step = |m| {
        create(m, "/a")?;
        write(m, "/a", "XX")?;
        m.rename("/a", "/b")
    };
    let posix = Litmus { files: &["/b"], ..POSIX };
    posix.any(program).are(&["absent", "empty", "0", "X", "00", "0X", "X0", "XX"], 77);
    let ext4 = Litmus { files: &["/b"], ..EXT4 };
    ext4.any(program).are(&["absent", "empty", "X", "XX"], 14);
}

#[test]
fn l2_a_synced_file_renamed_is_whole_or_absent() {
    let program: Step = |m| {
        create(m, "/a")?;
        write(m, "/a", "XX")?;
        sync(m, "/a")?;
        m.rename("/a", "/b")
    };
    let posix = Litmus { files: &["/b"], ..POSIX };
    posix.any(program).are(&["absent", "XX"], 28);
    let ext4 = Litmus { files: &["/b"], ..EXT4 };
    ext4.any(program).are(&["absent", "XX"], 10);
}

/// A durable file `a`, replaced by a temporary file.
const REPLACE: Litmus = Litmus { setup: |m| durable(m, "/a", "X"), ..POSIX };

#[test]
fn l3_an_unsynced_replacement_may_be_torn_but_the_name_stays() {
    let program: Step = |m| {
        create(m, "/t")?;
        write(m, "/t", "YY")?;
        m.rename("/t", "/a")
    };
    REPLACE.any(program).are(&["X", "empty", "0", "Y", "00", "0Y", "Y0", "YY"], 77);
    // The replacing rename brings the data with it.
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..REPLACE };
    ext4.any(program).are(&["X", "YY"], 12);
}

#[test]
fn a_replacing_rename_brings_a_changed_length_under_ext4_only() {
    let program: Step = |m| {
        create(m, "/t")?;
        m.open("/t")?.set_len(512)?;
        m.rename("/t", "/a")
    };
    REPLACE.after(program).are(&["X", "empty", "0"], 7);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..REPLACE };
    ext4.after(program).are(&["X", "0"], 4);
}

const SYNCED_REPLACE: Step = |m| {
    create(m, "/t")?;
    write(m, "/t", "YY")?;
    sync(m, "/t")?;
    m.rename("/t", "/a")
};

#[test]
fn l4_a_synced_replacement_is_old_or_new() {
    REPLACE.any(SYNCED_REPLACE).are(&["X", "YY"], 28);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..REPLACE };
    ext4.any(SYNCED_REPLACE).are(&["X", "YY"], 10);
}

#[test]
fn l5_a_synced_directory_makes_the_replacement_final() {
    let program: Step = |m| {
        SYNCED_REPLACE(m)?;
        m.sync_dir("/")
    };
    REPLACE.after(program).are(&["YY"], 1);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..REPLACE };
    ext4.after(program).are(&["YY"], 1);
}

#[test]
fn l6_a_synced_file_needs_a_synced_name() {
    let program: Step = |m| {
        create(m, "/a")?;
        write(m, "/a", "XX")?;
        sync(m, "/a")
    };
    POSIX.after(program).are(&["absent", "XX"], 2);
    // ext4 commits the name along with the file.
    EXT4.after(program).are(&["XX"], 1);
}

#[test]
fn l7_a_synced_name_stays_while_its_data_may_go() {
    let program: Step = |m| {
        create(m, "/a")?;
        m.sync_dir("/")?;
        write(m, "/a", "XX")
    };
    POSIX.after(program).are(&["empty", "0", "X", "00", "0X", "X0", "XX"], 18);
    EXT4.after(program).are(&["empty", "X", "XX"], 3);
}

#[test]
fn l8_each_sector_of_an_overwrite_is_old_or_new() {
    let program: Step = |m| write(m, "/a", "YY");
    let posix = Litmus { setup: |m| durable(m, "/a", "XX"), ..POSIX };
    posix.after(program).are(&["XX", "XY", "YX", "YY"], 6);
    let garbled = Litmus { tearing: Tearing::Garbled, ..posix };
    garbled.after(program).are(&["??", "?X", "?Y", "X?", "XX", "XY", "Y?", "YX", "YY"], 326);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, setup: |m| durable(m, "/a", "XX"), ..POSIX };
    ext4.after(program).are(&["XX", "XY", "YX", "YY"], 6);
}

#[test]
fn l9_a_lost_write_does_not_protect_a_later_one() {
    let setup: Step = |m| {
        durable(m, "/a", "A")?;
        durable(m, "/b", "B")
    };
    let program: Step = |m| {
        write(m, "/a", "X")?;
        write(m, "/b", "Y")
    };
    let posix = Litmus { setup, files: &["/a", "/b"], ..POSIX };
    posix.after(program).are(&["A B", "A Y", "X B", "X Y"], 4);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..posix };
    ext4.after(program).are(&["A B", "A Y", "X B", "X Y"], 4);
}

#[test]
fn l10_a_stale_temporary_file_leaves_nothing_behind() {
    let setup: Step = |m| durable(m, "/t", "ZZZ");
    let program: Step = |m| {
        m.unlink("/t")?;
        create(m, "/t")?;
        write(m, "/t", "X")?;
        sync(m, "/t")?;
        m.rename("/t", "/a")?;
        m.sync_dir("/")
    };
    let posix = Litmus { setup, files: &["/a", "/t"], ..POSIX };
    posix.after(program).are(&["X absent"], 1);
    // Before the directory is synced each name has its own fate, but the stale file never gets the final one.
    let shown = ["absent ZZZ", "absent absent", "absent empty", "absent 0", "absent X", "X ZZZ", "X absent"];
    posix.any(program).are(&shown, 30);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..posix };
    ext4.after(program).are(&["X absent"], 1);
}

#[test]
fn l11_a_synced_directory_needs_a_synced_name_too() {
    let program: Step = |m| {
        m.mkdir("/d")?;
        create(m, "/d/f")?;
        write(m, "/d/f", "XX")?;
        sync(m, "/d/f")?;
        m.sync_dir("/d")
    };
    let posix = Litmus { files: &["/d/f"], ..POSIX };
    posix.after(program).are(&["absent", "XX"], 2);
    let ext4 = Litmus { files: &["/d/f"], ..EXT4 };
    ext4.after(program).are(&["XX"], 1);
}

#[test]
fn a_length_and_the_write_into_it_have_separate_fates() {
    let setup: Step = |m| durable(m, "/a", "X");
    let program: Step = |m| {
        m.open("/a")?.set_len(1024)?;
        m.open("/a")?.write_at(512, &[b'Y'; 512]).map(|_| ())
    };
    let posix = Litmus { setup, ..POSIX };
    posix.after(program).are(&["X", "X0", "XY"], 8);
    // Where the new length was lost, the write into it was lost with it.
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..posix };
    ext4.after(program).are(&["X", "X0", "XY"], 4);
}

#[test]
fn an_append_survives_as_a_prefix_under_ext4_only() {
    let setup: Step = |m| durable(m, "/a", "X");
    let program: Step = |m| {
        m.open("/a")?.write_at(512, &[b'Y'; 512])?;
        m.open("/a")?.write_at(1024, &[b'Z'; 512]).map(|_| ())
    };
    let posix = Litmus { setup, ..POSIX };
    posix.after(program).are(&["X", "X0", "XY", "X00", "XY0", "X0Z", "XYZ"], 16);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..posix };
    ext4.after(program).are(&["X", "XY", "XYZ"], 4);
}

#[test]
fn a_truncation_that_is_lost_leaves_the_old_data() {
    let setup: Step = |m| durable(m, "/a", "XX");
    let program: Step = |m| {
        m.open("/a")?.set_len(0)?;
        write(m, "/a", "Y")
    };
    let posix = Litmus { setup, ..POSIX };
    posix.after(program).are(&["empty", "0", "Y", "XX", "YX"], 8);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..posix };
    ext4.after(program).are(&["empty", "Y", "XX"], 4);
}

#[test]
fn the_sector_in_which_a_file_ended_does_not_tear() {
    let setup: Step = |m| {
        durable(m, "/a", "X")?;
        m.open("/a")?.set_len(256)?;
        sync(m, "/a")
    };
    let program: Step = |m| write(m, "/a", "Y");
    // `_` is a sector cut short. Under `posix` the length may grow over the old half, which gives a mixture
    // with zeros.
    let posix = Litmus { setup, ..POSIX };
    posix.after(program).are(&["_", "Y", "?"], 4);
    let ext4 = Litmus { profile: Profile::Ext4Ordered, ..posix };
    ext4.after(program).are(&["_", "Y"], 3);
}

#[test]
fn pages_that_are_whole_are_old_or_new_and_smaller_writes_tear_all_the_same() {
    let setup: Step = |m| durable(m, "/a", "XXXXXXXXXX");
    let whole = Litmus { tearing: Tearing::PagesWhole, setup, ..POSIX };
    let page: Step = |m| write(m, "/a", "YYYYYYYY");
    whole.after(page).are(&["XXXXXXXXXX", "YYYYYYYYXX"], 2);
    let less: Step = |m| write(m, "/a", "YY");
    whole.after(less).are(&["XXXXXXXXXX", "XYXXXXXXXX", "YXXXXXXXXX", "YYXXXXXXXX"], 6);
}
