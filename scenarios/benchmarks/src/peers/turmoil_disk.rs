//! On the simulated filesystem of turmoil, used as its documentation says: the node is the software of a host, a power
//! loss is `Sim::crash` and then `Sim::bounce`, a process that dies and is started again is `Sim::bounce` alone.
//!
//! Software is crashed between two of its steps, and an applier makes all of its calls in one. So it dies before a call
//! of its choice as the others do, and the host is crashed when it has.

use std::future::pending;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use applier::ports::{Files, WriteFile};
use sim::{Choices, Site};
use turmoil::fs::shim::std::fs::{self, File, OpenOptions};

use super::life::{Book, Ended, Farewell, Place, Surroundings, live};
use super::log::Log;
use super::mortal::Mortality;
use super::ours::Calls;
use super::variants::Variant;
use super::{CRASHES, CRASHES_MAX, DEATH, ENDING, Harness, Search, Violation};

/// Turmoil's own seed.
const SEED: Site = Site::new("peers.turmoil-seed");

/// How often a write is durable at once. With 0 nothing ever survives that was not synced.
const SYNC_PROBABILITY: f64 = 0.1;

/// Writes that are lost are torn at these.
const SECTOR: u64 = 512;

const HOST: &str = "node";

/// Turmoil's files as the applier's port. They are those of the host that is running.
#[derive(Clone, Copy, Debug)]
pub struct TurmoilFiles;

impl Files for TurmoilFiles {
    type Backend = TurmoilBackend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        Ok(Box::new(File::open(path)?))
    }

    /// Cut to nothing too: turmoil knows a file by its name, and gives a new one what is durable of the one before it.
    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(TurmoilFile(create(path)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// And syncs the directory, which a disk is free to do. Else turmoil, when that is synced later, removes what was
    /// synced since in a new file of the same name, and convicts whoever removes a leftover and goes on.
    fn unlink(&self, path: &str) -> io::Result<()> {
        fs::remove_file(path)?;
        fs::sync_dir(Path::new(path).parent().unwrap_or(Path::new("/")))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        fs::sync_dir(path)
    }

    fn lock_dir(&self, _path: &str) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => Ok(Some(metadata?.len())),
        }
    }

    fn backend(&self, path: &str, is_new: bool) -> io::Result<TurmoilBackend> {
        let file = match is_new {
            true => create(path)?,
            false => OpenOptions::new().read(true).write(true).open(path)?,
        };
        Ok(TurmoilBackend(file))
    }
}

fn create(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).truncate(true).open(path)
}

struct TurmoilFile(File);

impl io::Write for TurmoilFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl WriteFile for TurmoilFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// A file of turmoil's as the storage of a database.
#[derive(Debug)]
pub struct TurmoilBackend(File);

impl redb::StorageBackend for TurmoilBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// The harness.
pub struct Turmoil {
    log: Arc<Log>,
    place: Place,
    calls: Calls,
}

/// What the software of the host is to do when it is started next, and what came of it.
struct Orders {
    mortality: Arc<Mortality>,
    farewell: Farewell,
    book: Book,
    ended: Option<Ended>,
}

/// A host, up or down.
struct World<'a> {
    sim: turmoil::Sim<'a>,
    orders: Arc<Mutex<Orders>>,
    is_up: bool,
}

impl Turmoil {
    /// On this log.
    pub fn new(log: Arc<Log>) -> Turmoil {
        Turmoil { log, place: Place::under(""), calls: Calls::default() }
    }

    fn world(&self, variant: Variant, seed: u64) -> World<'_> {
        let mut builder = turmoil::Builder::new();
        builder.rng_seed(seed);
        builder.fs().sync_probability(SYNC_PROBABILITY).block_size(SECTOR);
        let orders = Arc::new(Mutex::new(Orders {
            mortality: Mortality::never(),
            farewell: Farewell::None,
            book: Book::default(),
            ended: None,
        }));
        World { sim: self.host(&builder, variant, &orders), orders, is_up: false }
    }

    fn host(
        &self,
        builder: &turmoil::Builder,
        variant: Variant,
        orders: &Arc<Mutex<Orders>>,
    ) -> turmoil::Sim<'_> {
        let mut sim = builder.build();
        let (log, place, orders) = (Arc::clone(&self.log), self.place.clone(), Arc::clone(orders));
        sim.host(HOST, move || {
            let (log, place, orders) = (Arc::clone(&log), place.clone(), Arc::clone(&orders));
            async move {
                software(&log, &place, variant, &orders)?;
                pending().await
            }
        });
        sim
    }

    /// One crash state: a life from an empty disk that dies at one of its calls, a power loss or a start on what is
    /// cached, and the judgement of the life after it.
    pub fn one_state(&self, variant: Variant, calls: u64, choices: &mut Choices) -> Option<Violation> {
        self.chain(variant, 1, calls, choices).caught
    }

    fn chain(&self, variant: Variant, crashes: u64, calls: u64, choices: &mut Choices) -> Search {
        let mut search = Search::default();
        let mut world = self.world(variant, choices.draw(SEED, 1 << 32));
        for _ in 0..crashes {
            let mortality = Mortality::before(choices.draw(DEATH, calls));
            if let Ended::Violated(violation) = world.live(mortality, Farewell::None) {
                return Search { caught: Some(violation), ..search };
            }
            search.states += 1;
            if choices.draw(ENDING, 2) != 0 {
                world.sim.crash(HOST);
            }
        }
        if let Ended::Violated(violation) = world.live(Mortality::never(), Farewell::None) {
            search.caught = Some(violation);
        }
        search
    }
}

fn software(log: &Log, place: &Place, variant: Variant, orders: &Mutex<Orders>) -> turmoil::Result {
    let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    let orders = &mut *orders;
    for directory in [&place.database_directory, &place.sidecar_directory] {
        if !fs::exists(directory) {
            fs::create_dir(directory)?;
            fs::sync_dir("/")?;
        }
    }
    let mortality = Arc::clone(&orders.mortality);
    let with =
        Surroundings { log, place, files: TurmoilFiles, mortality, variant, farewell: orders.farewell };
    let book = orders.book;
    orders.ended = Some(live(with, book, |known| orders.book = known));
    Ok(())
}

impl World<'_> {
    fn live(&mut self, mortality: Arc<Mortality>, farewell: Farewell) -> Ended {
        {
            let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            (orders.mortality, orders.farewell) = (mortality, farewell);
        }
        if std::mem::replace(&mut self.is_up, true) {
            self.sim.bounce(HOST);
        }
        self.sim.step().expect("the software of the host returns no error");
        let ended = self.orders.lock().unwrap_or_else(PoisonError::into_inner).ended.take();
        ended.expect("a step is as long as a life")
    }
}

impl Harness for Turmoil {
    fn name(&self) -> &'static str {
        "turmoil"
    }

    fn is_in_doubt(&self) -> bool {
        true
    }

    fn history(&mut self, variant: Variant, choices: &mut Choices) -> Search {
        let calls = self.calls.of(&self.log, variant);
        let crashes = choices.range(CRASHES, 1..=CRASHES_MAX);
        self.chain(variant, crashes, calls, choices)
    }

    fn undisturbed(&mut self, variant: Variant) -> Option<Violation> {
        let mut world = self.world(variant, 0);
        for _ in 0..2 {
            if let Ended::Violated(violation) = world.live(Mortality::never(), Farewell::Clean) {
                return Some(violation);
            }
        }
        None
    }
}
