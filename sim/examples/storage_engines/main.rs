//! Two storage engines on the simulated disk: redb through its storage backend, SQLite through a VFS. Each commits a
//! few transactions and is crashed at every call, of its recovery too, in the first few of all ways to lose power and
//! in as many that are drawn. What was committed must be there, and of each transaction all or nothing.
//!
//! What is found, each is documented to do: redb's `Durability::None` waits for a later commit, and SQLite below
//! `synchronous=EXTRA` does not sync the directory after it has removed the journal whose removal is the commit. If the
//! journal is there again after a power loss, it takes the transaction back. At the levels that promise to keep what was
//! committed nothing is found.

mod redb_engine;
mod sqlite_engine;

use std::{error::Error, fmt};

use sim::{
    Mount, Tearing,
    crashes::{CrashTest, CrashTestError, Report},
};

pub(crate) use redb_engine::{Eventual, Immediate, Redb};
pub(crate) use sqlite_engine::{Extra, Full, Sqlite};

/// Each transaction gives all keys the same value.
pub(crate) const KEYS: u64 = 8;
/// How many transactions there are.
const COMMITS: u64 = 2;
/// Makes a row so long that the rows don't fit into one page.
pub(crate) const FILLER: [u8; 600] = [b'.'; 600];

pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// What an engine has to be able to do.
pub(crate) trait Engine: Sized {
    /// Opens the database on this disk, which is created if it is not there.
    fn open(mount: &Mount) -> Fallible<Self>;
    /// Gives all keys this value, in one transaction.
    fn commit(&mut self, value: u64) -> Fallible<()>;
    /// The values of all keys.
    fn values(&self) -> Fallible<Vec<u64>>;
}

/// What can be wrong with a database after a crash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Bad {
    /// A transaction that was committed is gone, and all is as before it.
    Lost,
    /// Some of a transaction is there, and some not.
    Torn,
    /// The engine refuses its database.
    Refused(String),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Lost => f.write_str("a committed transaction is gone"),
            Bad::Torn => f.write_str("half a transaction is there"),
            Bad::Refused(error) => write!(f, "the database is refused: {error}"),
        }
    }
}

/// Crashes an engine everywhere, and its recovery, too.
pub(crate) fn check<E: Engine>() -> Result<Report<Bad>, CrashTestError> {
    let refused = |error: Box<dyn Error>| Bad::Refused(error.to_string());
    CrashTest::new(
        |run| {
            let mut engine = E::open(run.mount())?;
            for value in 1..=COMMITS {
                engine.commit(value)?;
                run.acknowledge();
            }
            Ok(())
        },
        |survivor| {
            let engine = E::open(&survivor.mount()).map_err(refused)?;
            let values = engine.values().map_err(refused)?;
            let first = values[0];
            match survivor.acknowledged() {
                _ if values != [first; KEYS as usize] => Err(Bad::Torn),
                committed if first < committed => Err(Bad::Lost),
                _ => Ok(()),
            }
        },
    )
    .setup(|mount| E::open(mount)?.commit(0))
    .tearing(Tearing::PagesWhole)
    .ways_max(WAYS)
    .recovery_depth(1)
    .check()
}

/// See [`CrashTest::ways_max`].
const WAYS: u64 = 3;

#[expect(clippy::print_stdout, reason = "it is what an example is for")]
fn main() -> Result<(), CrashTestError> {
    println!("redb, Durability::Immediate\n{}\n", check::<Redb<Immediate>>()?);
    println!("redb, Durability::None\n{}\n", check::<Redb<Eventual>>()?);
    println!("SQLite, synchronous=EXTRA\n{}\n", check::<Sqlite<Extra>>()?);
    println!("SQLite, synchronous=FULL\n{}", check::<Sqlite<Full>>()?);
    Ok(())
}
