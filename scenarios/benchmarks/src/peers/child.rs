//! On real files, in a process that is killed with SIGKILL. It stops before a call of its choice and says so, so that it is
//! killed at a call and not at a time: whoever kills at random times hits the syncs, which take the most of it.
//!
//! A process says a line for each thing that it knows: `knows ACKNOWLEDGED DELIVERED`, `waits` for its end, or
//! `violation WHAT EVIDENCE`.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use applier::os::OsFiles;
use sim::Choices;
use tempfile::TempDir;

use super::judge::What;
use super::life::{Book, Ended, Farewell, Place, Surroundings, live};
use super::log::Log;
use super::mortal::Mortality;
use super::ours::Calls;
use super::variants::Variant;
use super::{CRASHES, CRASHES_MAX, DEATH, Harness, Search, Violation};

/// What a process is to do.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "One life of a node on real files, to be killed")]
pub struct Orders {
    /// Where its directories are.
    root: String,
    /// What is done to the applier.
    variant: Variant,
    /// The number of the call before which it waits for its end.
    call: u64,
    /// The newest entry that is known to be applied.
    acknowledged: u64,
    /// The newest entry that was delivered.
    delivered: u64,
}

/// The process.
///
/// # Errors
/// Whoever started it does not listen.
pub fn run(orders: &Orders) -> io::Result<()> {
    let mortality = Mortality::then(orders.call, || {
        let _ = say("waits");
        wait();
    });
    let (log, place) = (Log::new(), Place::under(&orders.root));
    let book = Book { acknowledged: orders.acknowledged, delivered: orders.delivered };
    let (variant, farewell) = (orders.variant, Farewell::None);
    let with = Surroundings { log: &log, place: &place, files: OsFiles, mortality, variant, farewell };
    let ended = live(with, book, |known| {
        let _ = say(&format!("knows {} {}", known.acknowledged, known.delivered));
    });
    match ended {
        Ended::Violated(Violation { what, evidence }) => {
            say(&format!("violation {} {evidence}", what.name()))
        }
        Ended::Finished | Ended::Died => {
            say("waits")?;
            wait();
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn wait() -> ! {
    loop {
        std::thread::park();
    }
}

/// The harness.
pub struct Sigkill {
    log: Arc<Log>,
    program: PathBuf,
    root: PathBuf,
    calls: Calls,
}

impl Sigkill {
    /// On this log, with `program` as the process that is killed, and directories of its own in `root`.
    pub fn new(log: Arc<Log>, program: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Sigkill {
        Sigkill { log, program: program.into(), root: root.into(), calls: Calls::default() }
    }

    /// One crash state: a process from an empty directory, killed at one of its calls, and the judgement of the life after.
    pub fn one_state(&self, variant: Variant, calls: u64, choices: &mut Choices) -> Option<Violation> {
        self.chain(variant, 1, calls, choices).expect("the directory is writable").caught
    }

    fn chain(&self, variant: Variant, crashes: u64, calls: u64, choices: &mut Choices) -> io::Result<Search> {
        let directory = self.directory()?;
        let root = path(directory.path());
        let mut search = Search::default();
        let mut book = Book::default();
        for _ in 0..crashes {
            let call = choices.draw(DEATH, calls);
            if let Some(violation) = self.process(root, variant, call, &mut book)? {
                return Ok(Search { caught: Some(violation), ..search });
            }
            search.states += 1;
        }
        search.caught = self.last_life(root, variant, &mut book, Farewell::None);
        Ok(search)
    }

    fn directory(&self) -> io::Result<TempDir> {
        let directory = TempDir::new_in(&self.root)?;
        let place = Place::under(path(directory.path()));
        for new in [&place.database_directory, &place.sidecar_directory] {
            std::fs::create_dir(new)?;
        }
        Ok(directory)
    }

    /// Starts a process, kills it when it waits for that, and takes down what it said until then.
    fn process(
        &self,
        root: &str,
        variant: Variant,
        call: u64,
        book: &mut Book,
    ) -> io::Result<Option<Violation>> {
        let mut child = Command::new(&self.program)
            .args([root, variant.name(), &call.to_string()])
            .args([book.acknowledged.to_string(), book.delivered.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let heard = listen(&mut child, book);
        // One that has ended by itself is not there to be killed.
        let _ = child.kill();
        child.wait()?;
        heard
    }

    fn last_life(
        &self,
        root: &str,
        variant: Variant,
        book: &mut Book,
        farewell: Farewell,
    ) -> Option<Violation> {
        let (place, mortality) = (Place::under(root), Mortality::never());
        let with =
            Surroundings { log: &self.log, place: &place, files: OsFiles, mortality, variant, farewell };
        match live(with, *book, |known| *book = known) {
            Ended::Violated(violation) => Some(violation),
            Ended::Finished | Ended::Died => None,
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the build directory is UTF-8")
}

fn listen(child: &mut Child, book: &mut Book) -> io::Result<Option<Violation>> {
    let out = child.stdout.take().expect("it was asked for");
    for line in BufReader::new(out).lines() {
        let line = line?;
        let strange = || io::Error::other(format!("the process says {line:?}"));
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verb {
            "waits" => return Ok(None),
            "knows" => {
                let (acknowledged, delivered) = rest.split_once(' ').ok_or_else(strange)?;
                let number = |digits: &str| digits.parse().map_err(|_| strange());
                *book = Book { acknowledged: number(acknowledged)?, delivered: number(delivered)? };
            }
            "violation" => {
                let (what, evidence) = rest.split_once(' ').ok_or_else(strange)?;
                let what = What::of_name(what).ok_or_else(strange)?;
                return Ok(Some(Violation::new(what, evidence)));
            }
            _ => return Err(strange()),
        }
    }
    Err(io::Error::other("the process ended before it was killed, and said nothing of it"))
}

impl Harness for Sigkill {
    fn name(&self) -> &'static str {
        "SIGKILL"
    }

    fn history(&mut self, variant: Variant, choices: &mut Choices) -> Search {
        let calls = self.calls.of(&self.log, variant);
        let crashes = choices.range(CRASHES, 1..=CRASHES_MAX);
        self.chain(variant, crashes, calls, choices)
            .expect("the directory is writable, and the program there")
    }

    fn undisturbed(&mut self, variant: Variant) -> Option<Violation> {
        let directory = self.directory().expect("the directory is writable");
        let mut book = Book::default();
        let mut life = || self.last_life(path(directory.path()), variant, &mut book, Farewell::Clean);
        life().or_else(life)
    }
}
