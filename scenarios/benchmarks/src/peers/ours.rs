//! On the disk of `sim`. A life is recorded once; each call in it gives a state that it could have died in, and each of
//! these is crashed, recovered and judged on a copy of that disk. What a crash has left is where other lives are recorded
//! from, as long as it is new.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use scenarios::seam::SimFiles;
use sim::{Choices, Disk, Lies, Profile, Trace};

use super::judge::What;
use super::life::{Book, Ended, Farewell, Place, Surroundings, live};
use super::log::Log;
use super::mortal::Mortality;
use super::variants::Variant;
use super::{CRASHES_MAX, DEATH, ENDING, GOES_ON, Harness, NEXT, Search, Violation};

/// The harness.
pub struct Ours {
    log: Arc<Log>,
    place: Place,
    /// What was judged in this search: a disk's digest, and what was known of the node on it.
    seen: BTreeSet<(u128, Book)>,
    /// What was judged, and not yet lived on: what a process left that died before everything was durable, which is where
    /// a start that trusts what it reads goes wrong; and the rest.
    pending: Vec<Station>,
    durable: Vec<Station>,
}

/// A state to go on from, and how many crashes have led to it.
struct Station {
    point: Point,
    crashes: u64,
}

/// A disk, and what is known of the node on it.
#[derive(Clone)]
pub struct Point {
    disk: Disk,
    book: Book,
}

impl Point {
    fn process_crash(&self) -> Point {
        let disk = self.disk.fork();
        disk.process_crash();
        Point { disk, book: self.book }
    }

    fn power_loss(&self, choices: &mut Choices) -> Point {
        let disk = self.disk.fork();
        disk.power_loss(choices);
        Point { disk, book: self.book }
    }
}

impl Ours {
    /// On this log.
    pub fn new(log: Arc<Log>) -> Ours {
        Ours { log, place: Place::under(""), seen: BTreeSet::new(), pending: Vec::new(), durable: Vec::new() }
    }

    fn blank(&self) -> Disk {
        let disk = Disk::with(Profile::Posix, Lies::NONE, Trace::hashing());
        let mount = disk.mount();
        for directory in [&self.place.database_directory, &self.place.sidecar_directory] {
            mount.mkdir(directory).expect("no fault is armed");
        }
        mount.sync_dir("/").expect("no fault is armed");
        disk
    }

    fn with(
        &self,
        disk: &Disk,
        mortality: Arc<Mortality>,
        variant: Variant,
        farewell: Farewell,
    ) -> Surroundings<'_, SimFiles> {
        let files = SimFiles::new(disk.mount());
        Surroundings { log: &self.log, place: &self.place, files, mortality, variant, farewell }
    }

    /// How many mutating calls a life from an empty disk makes.
    pub fn calls(&self, variant: Variant) -> u64 {
        let mortality = Mortality::never();
        let with = self.with(&self.blank(), Arc::clone(&mortality), variant, Farewell::None);
        live(with, Book::default(), |_| {});
        mortality.calls()
    }

    /// Every state from which a crash of the first life could start.
    pub fn first_life(&self, variant: Variant) -> Result<Vec<Point>, Violation> {
        self.record(&Point { disk: self.blank(), book: Book::default() }, variant)
    }

    /// The same for the next life.
    fn record(&self, from: &Point, variant: Variant) -> Result<Vec<Point>, Violation> {
        let disk = from.disk.fork();
        disk.keep_checkpoints(true);
        let mut points = Vec::new();
        let mut known = from.book;
        let mut take = |book: Book| {
            let frames = disk.take_checkpoints().into_iter();
            points.extend(frames.map(|frame| Point { disk: frame.disk, book: known }));
            known = book;
        };
        let with = self.with(&disk, Mortality::never(), variant, Farewell::None);
        if let Ended::Violated(violation) = live(with, from.book, &mut take) {
            return Err(violation);
        }
        let end = Book { acknowledged: self.log.end(), delivered: self.log.end() };
        take(end);
        points.push(Point { disk: disk.fork(), book: end });
        Ok(points)
    }

    /// Crashes in a state, in one of the ways that there are, and gives what is left.
    pub fn crash(&self, at: &Point, choices: &mut Choices) -> Point {
        match choices.draw(ENDING, 2) {
            0 => at.process_crash(),
            _ => at.power_loss(choices),
        }
    }

    /// Recovers on a copy of what a crash left, and judges that.
    pub fn recover(&self, from: &Point, variant: Variant) -> Option<Violation> {
        let disk = from.disk.fork();
        let with = self.with(&disk, Mortality::never(), variant, Farewell::None);
        match live(with, from.book, |_| {}) {
            Ended::Violated(violation) => Some(violation),
            Ended::Finished | Ended::Died => None,
        }
    }

    /// One crash state from an empty disk on, as those have to come to it who cannot copy a disk.
    pub fn from_an_empty_disk(
        &self,
        variant: Variant,
        calls: u64,
        choices: &mut Choices,
    ) -> Option<Violation> {
        let disk = self.blank();
        let mut book = Book::default();
        let death = Mortality::before(choices.draw(DEATH, calls));
        let with = self.with(&disk, death, variant, Farewell::None);
        if let Ended::Violated(violation) = live(with, book, |known| book = known) {
            return Some(violation);
        }
        let left = self.crash(&Point { disk, book }, choices);
        self.recover(&left, variant)
    }
}

/// Searches.
impl Ours {
    /// Everything that can be found of a variant in so many lives.
    pub fn kinds(&mut self, variant: Variant, lives: u64) -> BTreeSet<What> {
        let mut kinds = BTreeSet::new();
        self.begin();
        for seed in 0..lives {
            self.expand(variant, &mut Choices::seeded(seed), &mut |violation| {
                kinds.insert(violation.what);
                ControlFlow::Continue(())
            });
        }
        kinds
    }

    /// Records a life from a state that was left, and crashes it everywhere. Gives how many new states that has met.
    fn expand(
        &mut self,
        variant: Variant,
        choices: &mut Choices,
        on: &mut dyn FnMut(Violation) -> ControlFlow<()>,
    ) -> u64 {
        let Station { point: from, crashes } = self.next(choices);
        let mut points = match self.record(&from, variant) {
            Ok(points) => points,
            Err(violation) => {
                let _ = on(violation);
                return 0;
            }
        };
        let mut states = 0;
        while !points.is_empty() {
            // In the order of the calls, those that make the database would always come first.
            let point = points.swap_remove(choices.draw(NEXT, points.len() as u64) as usize);
            for left in [point.power_loss(choices), point.process_crash()] {
                if !self.seen.insert((left.disk.snapshot().digest(), left.book)) {
                    continue;
                }
                states += 1;
                if let Some(violation) = self.recover(&left, variant) {
                    if on(violation).is_break() {
                        return states;
                    }
                } else if crashes + 1 < CRASHES_MAX {
                    let stations = if left.disk.is_durable() { &mut self.durable } else { &mut self.pending };
                    stations.push(Station { point: left, crashes: crashes + 1 });
                }
            }
        }
        states
    }

    /// Where to go on from. An empty disk is always an answer: another draw of its crashes may be new.
    fn next(&mut self, choices: &mut Choices) -> Station {
        for stations in [&mut self.pending, &mut self.durable] {
            if !stations.is_empty() {
                let at = choices.draw(GOES_ON, stations.len() as u64) as usize;
                return stations.swap_remove(at);
            }
        }
        Station { point: Point { disk: self.blank(), book: Book::default() }, crashes: 0 }
    }
}

/// How many mutating calls a life from an empty disk makes, counted once for each variant.
#[derive(Default)]
pub(crate) struct Calls(BTreeMap<Variant, u64>);

impl Calls {
    pub(crate) fn of(&mut self, log: &Arc<Log>, variant: Variant) -> u64 {
        *self.0.entry(variant).or_insert_with(|| Ours::new(Arc::clone(log)).calls(variant))
    }
}

impl Harness for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn begin(&mut self) {
        self.seen.clear();
        self.pending.clear();
        self.durable.clear();
    }

    fn history(&mut self, variant: Variant, choices: &mut Choices) -> Search {
        let mut caught = None;
        let states = self.expand(variant, choices, &mut |violation| {
            caught = Some(violation);
            ControlFlow::Break(())
        });
        Search { states, caught }
    }

    fn undisturbed(&mut self, variant: Variant) -> Option<Violation> {
        let disk = self.blank();
        let mut book = Book::default();
        for _ in 0..2 {
            let with = self.with(&disk, Mortality::never(), variant, Farewell::Clean);
            if let Ended::Violated(violation) = live(with, book, |known| book = known) {
                return Some(violation);
            }
            disk.process_crash();
        }
        None
    }
}
