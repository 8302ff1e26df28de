//! One life of a node: it starts, is looked at, applies the log to its end, and is looked at again.

use std::sync::Arc;

use applier::apply::open_database;
use applier::ports::Files;
use applier::{Applier, Config, KeyringConfig, Known, NodeId, Outcome, RaftIndex, StartError};
use scenarios::seam::FixedClock;
use scenarios::subject::bury;

use super::judge::{Violation, What, judge};
use super::log::{Log, NODE};
use super::mortal::{MortalFiles, Mortality};
use super::variants::{Variant, VariedFiles, VariedRegistry};

/// One time for all lives: nothing depends on it.
const UNIX_SECONDS: u64 = 1_700_000_000;

/// Where a node has its files. Both directories are there.
#[derive(Clone, Debug)]
pub struct Place {
    /// The database.
    pub database: String,
    /// The directory that it is in.
    pub database_directory: String,
    /// The sidecar.
    pub sidecar: String,
    /// The directory that it is in.
    pub sidecar_directory: String,
}

impl Place {
    /// Two directories in another one, which is named without a slash at its end.
    pub fn under(root: &str) -> Place {
        let (database_directory, sidecar_directory) = (format!("{root}/db"), format!("{root}/data"));
        Place {
            database: format!("{database_directory}/registry.redb"),
            sidecar: format!("{sidecar_directory}/keys.json"),
            database_directory,
            sidecar_directory,
        }
    }
}

/// What whoever kills a node knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Book {
    /// The newest entry that it has answered as applied.
    pub acknowledged: u64,
    /// The newest entry that was delivered to it.
    pub delivered: u64,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At the end of the log, by itself or, if it was to end that way, without a goodbye.
    Finished,
    /// Before that, since it was to die.
    Died,
    /// Something was wrong.
    Violated(Violation),
}

/// How a life that comes to the end of the log ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It closes its files.
    Clean,
    /// It is simply over.
    None,
}

/// What a life is lived with.
pub struct Surroundings<'a, F> {
    /// The log.
    pub log: &'a Log,
    /// Where the files are.
    pub place: &'a Place,
    /// The files.
    pub files: F,
    /// When it dies.
    pub mortality: Arc<Mortality>,
    /// What is done to the applier.
    pub variant: Variant,
    /// How it ends, where nothing else ends it.
    pub farewell: Farewell,
}

type Node<F> = Applier<VariedFiles<MortalFiles<F>>, VariedRegistry<MortalFiles<F>>>;

/// Lives. `book` is what is known before; each time that more is known, `note` hears of it first.
pub fn live<F: Files + Clone + 'static>(
    with: Surroundings<'_, F>,
    book: Book,
    mut note: impl FnMut(Book),
) -> Ended {
    let mortal = MortalFiles { inner: with.files.clone(), mortality: Arc::clone(&with.mortality) };
    let files = VariedFiles::new(mortal, with.variant, with.place);
    let mut node = match start(&with, &files) {
        Ok(node) => node,
        Err(_) if with.mortality.is_dead() => return Ended::Died,
        Err(error) => return Ended::Violated(Violation::new(What::of_refusal(&error), error)),
    };
    files.started();
    let done = judge(with.log, &node, &files, with.place, book.acknowledged..=book.delivered)
        .and_then(|()| apply(&with, &mut node, book, &mut note))
        .and_then(|()| judge(with.log, &node, &files, with.place, with.log.end()..=with.log.end()));
    if with.farewell == Farewell::None || with.mortality.is_dead() || done.is_err() {
        bury(node);
    }
    match done {
        _ if with.mortality.is_dead() => Ended::Died,
        Ok(()) => Ended::Finished,
        Err(violation) => Ended::Violated(violation),
    }
}

fn start<F: Files + Clone>(
    with: &Surroundings<'_, F>,
    files: &VariedFiles<MortalFiles<F>>,
) -> Result<Node<F>, StartError> {
    let sidecar = with.place.sidecar.clone();
    let config = Config {
        node: NodeId::new(NODE).expect("it is not 0"),
        database: with.place.database.clone(),
        keyring: Some(KeyringConfig { kek: Arc::clone(with.log.kek()).into(), sidecar }),
        known: Known::default(),
    };
    let registry = VariedRegistry::new(open_database(files, &config)?, files.clone(), with.variant);
    Applier::start(files.clone(), registry, &config, Arc::new(FixedClock(UNIX_SECONDS)))
}

/// Delivers what the registry does not have yet. A dead node answers nobody, whatever it returns.
fn apply<F: Files + Clone>(
    with: &Surroundings<'_, F>,
    node: &mut Node<F>,
    mut book: Book,
    note: &mut impl FnMut(Book),
) -> Result<(), Violation> {
    for index in node.applied_index().0 + 1..=with.log.end() {
        book.delivered = book.delivered.max(index);
        note(book);
        let outcome = node.apply(RaftIndex(index), with.log.entry(index));
        if with.mortality.is_dead() {
            return Ok(());
        }
        match outcome {
            Outcome::Applied => {}
            outcome => return Err(Violation::new(What::Entry, format!("entry {index}: {outcome:?}"))),
        }
        book.acknowledged = book.acknowledged.max(index);
        note(book);
    }
    Ok(())
}
