//! Keys by hand: a cluster of one on a real directory, a command at a time.
//!
//! ```console
//! $ cargo build --example keyctl && alias keyctl=target/debug/examples/keyctl
//! $ keyctl target/keys init                     # a KEK, for this user alone
//! $ keyctl target/keys bootstrap                # the first two keys, wrapped under it
//! $ keyctl target/keys enable storage           # values are sealed from here on
//! $ keyctl target/keys enable raft              # and entries of the log behind this one
//! $ keyctl target/keys put colour green
//! $ keyctl target/keys get colour
//! $ keyctl target/keys rotate storage           # a new key for new values; the old one still reads
//! $ keyctl target/keys reseal                   # the values of before, under the new one
//! $ keyctl target/keys retire 1                 # nothing refers to the old one any more
//! $ keyctl target/keys rewrap                   # another KEK
//! $ keyctl target/keys status
//! $ keyctl target/keys log                      # entries, envelopes, claims
//! $ keyctl target/keys verify
//! ```
//!
//! Kill any of them at any moment (`kill -9`): the next one recovers by itself, and says so on standard error if there was
//! something to do. A test does that some hundred times (`applier/tests/keyctl_survives`).
//!
//! ```text
//! DIR/kek-1.key    KEK; while it is exchanged there are two
//! DIR/keys.json    the sidecar
//! DIR/node.redb    the applier's tables, and the values
//! DIR/log          the log: what is in it is synced before it is applied
//! ```
//!
//! Exit status: 0 done, 1 refused or found wrong, 2 wrong usage.
//!
//! Each process that seals entries uses up one of the 65,535 epochs of the raft key, and a rotation, too, is sealed: in a
//! cluster of one nobody else could seal it, so rotate that key before they are used up. `status` has the epochs.
//!
//! What it leaves out: other members, and so elections, replication and snapshots. A cluster of one also has nobody who
//! remembers its epochs: to go on in a backup of the directory would be to issue nonces twice. What a backup is good for is
//! to read the values, and to put them into a new directory.

mod commands;
mod error;
mod keks;
mod log;
mod node;
mod show;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use applier::Purpose;
use clap::{Parser, Subcommand, ValueEnum};

use error::Error;

/// Keys by hand: a cluster of one on a real directory.
#[derive(Parser)]
#[command(name = "keyctl", version)]
struct Cli {
    /// Where KEK, sidecar, database and log are.
    dir: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the directory and its KEK, where they are missing.
    Init,
    /// Install the first storage key and the first raft key.
    Bootstrap,
    /// Install a new key, and seal under it from here on.
    Rotate {
        /// Of values, or of entries.
        purpose: What,
    },
    /// Seal from here on, for good.
    Enable {
        /// Values, or entries.
        purpose: What,
    },
    /// Store a value.
    Put {
        /// Under this key.
        key: String,
        /// The value.
        value: String,
    },
    /// Print a value.
    Get {
        /// The key that it is stored under.
        key: String,
    },
    /// Seal every value anew that is clear, or sealed under an older key.
    Reseal,
    /// Forget a key to which nothing refers any more.
    Retire {
        /// The id that `status` prints.
        id: u32,
    },
    /// Exchange the KEK.
    Rewrap,
    /// Leave out of the log what is applied.
    Compact,
    /// Print keys, epochs, indices.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the entries of the log.
    Log,
    /// Read everything back, and compare log, sidecar and database.
    Verify,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Values at rest.
    Storage,
    /// Entries of the log.
    Raft,
}

impl From<What> for Purpose {
    fn from(what: What) -> Purpose {
        match what {
            What::Storage => Purpose::Storage,
            What::Raft => Purpose::Raft,
        }
    }
}

fn main() -> ExitCode {
    run(std::env::args_os())
}

/// The whole command: the first argument is its name.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to say it with, where that fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match execute(&cli).and_then(|said| print(&said)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyctl: {error}");
            ExitCode::from(1)
        }
    }
}

fn execute(cli: &Cli) -> Result<Vec<u8>, Error> {
    let dir = cli.dir.as_str();
    let said = match &cli.command {
        Command::Init => match keks::init(dir)? {
            Some(path) => format!("{path} is the KEK: back it up, apart from the directory"),
            None => "nothing to do: there is a KEK already".to_owned(),
        },
        Command::Bootstrap => commands::bootstrap(dir)?,
        Command::Rotate { purpose } => commands::rotate(dir, (*purpose).into())?,
        Command::Enable { purpose } => commands::enable(dir, (*purpose).into())?,
        Command::Put { key, value } => commands::put(dir, key, value)?,
        Command::Get { key } => return show::get(dir, key),
        Command::Reseal => commands::reseal(dir)?,
        Command::Retire { id } => commands::retire(dir, *id)?,
        Command::Rewrap => commands::rewrap(dir)?,
        Command::Compact => commands::compact(dir)?,
        Command::Status { json } => show::status(dir, *json)?,
        Command::Log => show::log(dir)?,
        Command::Verify => show::verify(dir)?,
    };
    Ok(said.into_bytes())
}

fn print(said: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(said)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
