//! `cargo sim`: sweep, report, prove, teeth, replay, shrink, seeds; completions, man.
//!
//! Exit status: 0 nothing found, 1 a violation, 2 wrong usage, 3 the harness itself failed.

mod args;
mod manual;
mod patience;
mod prove;
mod replay;
mod report;
mod seeds;
mod shrink;
mod style;
mod sweep;
mod teeth;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand};
use sim::{Lies, Profile};
use tracing_subscriber::EnvFilter;

use crate::run;
use crate::subject::Subject;
use crate::timeline::tap;
use crate::world::Setup;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Clean,
    Violation,
    Usage,
    HarnessFailed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Clean => 0,
            Exit::Violation => 1,
            Exit::Usage => 2,
            Exit::HarnessFailed => 3,
        })
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "cargo-sim",
    bin_name = "cargo sim",
    about = "Searches an encryption applier for what a crash or a rejection can break",
    after_help = "Exit status: 0 nothing found, 1 a violation, 2 wrong usage, 3 the harness itself failed.\n\n\
                  Examples:\n  cargo sim sweep --count 20000\n  cargo sim sweep --subject as-merged --format json\n  \
                  cargo sim report results/*.json --out report\n  \
                  cargo sim replay 17 --scenario single --subject as-merged\n  cargo sim seeds\n  cargo sim teeth\n  \
                  RUST_LOG=applier=debug cargo sim replay 17\n\n\
                  `cargo sim COMMAND --help` has examples of each. Colours are for terminals; NO_COLOR=1 turns them off."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios over a range of seeds
    Sweep(sweep::SweepArgs),
    /// Close named logs, or all logs of a length, over every crash at every call
    Prove(prove::ProveArgs),
    /// Run one seed or one seed file, and print its timeline
    Replay(replay::ReplayArgs),
    /// Minimise a failing run and keep it as a seed file
    Shrink(shrink::ShrinkArgs),
    /// Put the results of sweeps together, and show them
    Report(report::ReportArgs),
    /// List the corpus and check that every file still shows what it was kept for
    Seeds(seeds::SeedsArgs),
    /// Run everything that is known to be wrong, and say which invariant has noticed it
    Teeth(teeth::TeethArgs),
    /// Print completions for a shell
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write those of all commands
    Man(manual::ManArgs),
}

/// What the code under test logs is shown where it is asked for, as in `RUST_LOG=applier=debug`: in a timeline in its place,
/// elsewhere on standard error, without the time of day, so that two runs print the same.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment; no run sees it")]
fn listen_to_logs(command: &Command) -> Result<(), String> {
    let Ok(wanted) = std::env::var("RUST_LOG") else { return Ok(()) };
    let wrong = |error: &dyn std::fmt::Display| {
        format!("RUST_LOG={wanted} is no filter of logs: {error}; write applier=debug")
    };
    if matches!(command, Command::Replay(_)) {
        tap::listen_to(wanted.parse().map_err(|error| wrong(&error))?);
        return Ok(());
    }
    let filter = EnvFilter::try_new(&wanted).map_err(|error| wrong(&error))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    Ok(())
}

/// Parses the command line, runs the command, and says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(why) = listen_to_logs(&cli.command) {
        complain(&why);
        return Exit::Usage.into();
    }
    run::silence_panics();
    // Other commands are soon done, and an interrupt ends them as it ends any program.
    let is_long =
        matches!(cli.command, Command::Sweep(_) | Command::Prove(_) | Command::Shrink(_) | Command::Teeth(_));
    if is_long && let Err(error) = patience::listen() {
        complain(&format!("an interrupt will not be answered with what was found so far: {error}"));
    }
    // Styles are written always, and taken out again where nobody could see them: `NO_COLOR`, a file, a pipe.
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    let done = match &cli.command {
        Command::Sweep(args) => sweep::main(args, &mut out),
        Command::Prove(args) => prove::main(args, &mut out),
        Command::Replay(args) => replay::main(args, &mut out),
        Command::Shrink(args) => shrink::main(args, &mut out),
        Command::Report(args) => report::main(args, &mut out),
        Command::Seeds(args) => seeds::main(args, &mut out),
        Command::Teeth(args) => teeth::main(args, &mut out),
        Command::Completions(args) => manual::completions(args, Cli::command(), &mut out),
        Command::Man(args) => manual::man(args, Cli::command(), &mut out),
    };
    match done.and_then(|exit| out.flush().map(|()| exit)) {
        // A script that runs one command after the other ends here too, as it does where a program dies of an interrupt.
        Ok(Exit::Clean) if patience::interrupted() => ExitCode::from(patience::INTERRUPTED_STATUS),
        Ok(exit) => exit.into(),
        // Whoever reads our output may stop early, as `head` does. What was found is not known here any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Clean.into(),
        Err(error) => {
            complain(&format!("cannot write to standard output: {error}"));
            Exit::HarnessFailed.into()
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line measures speed; no run sees it")]
fn now() -> Instant {
    Instant::now()
}

/// One line on standard error.
fn complain(message: &str) {
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "cargo sim: {message}");
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// The line that shows a run again.
fn reproduce(setup: &Setup, what: impl Display) -> String {
    let options = options(setup.subject, setup.profile, setup.lies);
    format!("cargo sim replay {what} --scenario {}{options}", setup.scenario)
}

/// Who is put to the test on what disk, as options.
fn options(subject: Subject, profile: Profile, lies: Lies) -> String {
    let mut options = format!(" --subject {subject} --profile {profile}");
    if let Some(lie) = lies.name() {
        options.push_str(" --lie ");
        options.push_str(lie);
    }
    options
}
