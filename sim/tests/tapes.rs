//! What a tape means does not change: a kept seed must find tomorrow what it has found today.

use std::fmt::{self, Write};

use sim::{Choices, Disk, Fault, File, Lies, Mount, Profile, Site, SyncFailure, Tearing, Trace};
use xxhash_rust::xxh3::xxh3_64;

const STEP: Site = Site::new("tapes.step");
const NAME: Site = Site::new("tapes.name");
const OFFSET: Site = Site::new("tapes.offset");
const LENGTH: Site = Site::new("tapes.length");
const HOW: Site = Site::new("tapes.how");

const NAMES: [&str; 5] = ["/a", "/b", "/c", "/d/a", "/d/b"];
const LENGTHS: [u64; 8] = [1, 300, 512, 700, 1500, 4096, 5000, 9000];

/// A program that does whatever is drawn, on three names and a directory.
struct Program<'a> {
    disk: &'a Disk,
    mount: Mount,
    choices: &'a mut Choices,
    /// What the next write fills with, so that no two are alike.
    fill: u8,
}

impl Program<'_> {
    fn name(&mut self) -> &'static str {
        NAMES[self.choices.draw(NAME, 5) as usize]
    }

    /// Does this with a file that may exist.
    fn with(&self, name: &str, act: impl FnOnce(File)) {
        self.mount.open(name).map(act).unwrap_or_default();
    }

    /// Calls that fail are part of what programs do, and what they answer is in the trace.
    fn step(&mut self) {
        let name = self.name();
        match self.choices.draw(STEP, 16) {
            0..=3 => drop(self.mount.create_new(name)),
            4..=7 => self.write(name),
            8 => {
                let len = *self.choices.pick(LENGTH, &LENGTHS) - 1;
                self.with(name, |file| drop(file.set_len(len)));
            }
            9 | 10 => {
                let to = self.name();
                drop(self.mount.rename(name, to));
            }
            11 => drop(self.mount.unlink(name)),
            12 => self.with(name, |file| drop(file.sync())),
            13 => drop(self.mount.sync_dir(["/", "/d"][self.choices.draw(NAME, 2) as usize])),
            14 => drop(self.mount.mkdir("/d")),
            _ => {
                let how = *self.choices.pick(HOW, &SyncFailure::ALL);
                self.disk.arm(Fault::FailSync { call: self.disk.calls(), how });
            }
        }
    }

    fn write(&mut self, name: &str) {
        let (at, len) = (self.choices.draw(OFFSET, 4), *self.choices.pick(LENGTH, &LENGTHS));
        self.fill = self.fill.wrapping_add(1).max(1);
        let bytes = vec![self.fill; len as usize];
        self.with(name, |file| {
            let end = file.len().expect("nothing fails a look at a length");
            let offset = [end, end / 2, 0, end + 100][at as usize];
            drop(file.write_at(offset, &bytes));
        });
    }
}

/// Everything that is to stay: what was drawn, what became of each operation, what reads see afterwards.
fn lived(seed: u64, profile: Profile, tearing: Tearing, lies: Lies) -> Result<String, fmt::Error> {
    let (disk, mut choices) = (Disk::with(profile, lies, Trace::hashing()), Choices::seeded(seed));
    disk.set_tearing(tearing);
    let mut told = String::new();
    for life in 0..3 {
        let mount = disk.mount();
        let mut program = Program { disk: &disk, mount, choices: &mut choices, fill: life * 80 };
        (0..20).for_each(|_| program.step());
        if life == 1 {
            disk.process_crash();
        } else {
            writeln!(told, "{}", disk.power_loss(&mut choices))?;
        }
        for name in NAMES {
            writeln!(told, "{name} {:?}", disk.peek(name).map(|bytes| (bytes.len(), xxh3_64(&bytes))))?;
        }
    }
    let (trace, tape) = (disk.trace().hash(), choices.tape().to_bytes());
    write!(told, "{trace:016x} {:016x}", xxh3_64(&tape))?;
    Ok(told)
}

/// So many programs to a line, as one number. A change of this table is a change of what kept seeds say: they are recorded anew then,
/// each seen to find again what it has found.
#[test]
fn what_a_tape_makes_of_a_disk_is_what_it_has_always_been() {
    let mut lines = String::new();
    for profile in Profile::ALL {
        for (name, tearing) in
            [("pages", Tearing::PagesWhole), ("sectors", Tearing::Sectors), ("garbled", Tearing::Garbled)]
        {
            for (lie, lies) in [("honest", Lies::NONE)].into_iter().chain(Lies::NAMED) {
                let seeds = if lies == Lies::NONE { 0..300 } else { 0..30 };
                let told: Vec<String> = seeds
                    .map(|seed| lived(seed, profile, tearing, lies).expect("a string takes it"))
                    .collect();
                writeln!(lines, "{profile} {name} {lie}: {:016x}", xxh3_64(told.concat().as_bytes()))
                    .expect("a string takes it");
            }
        }
    }
    assert!(lines == include_str!("tapes.txt"), "the table would be\n\n{lines}");
}
