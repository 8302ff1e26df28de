//! `cargo sim completions` and `cargo sim man`: both are made from the arguments themselves, so that they cannot fall
//! behind.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Exit, complain};
use crate::output;

/// The binary. `cargo sim` is an alias of this workspace, which a shell cannot complete.
const BINARY: &str = "scenarios";

#[derive(Debug, Args)]
#[command(after_help = "They are those of the binary, since a shell cannot complete an alias of cargo.\n\n\
    Examples:\n  \
    cargo sim completions bash > ~/.local/share/bash-completion/completions/scenarios\n  \
    cargo sim completions zsh > ~/.zfunc/_scenarios\n  \
    cargo sim completions fish > ~/.config/fish/completions/scenarios.fish")]
pub(super) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim man | man -l -\n  \
    cargo sim man --out man    # writes man/cargo-sim.1, man/cargo-sim-sweep.1 and so on")]
pub(super) struct ManArgs {
    /// Write the pages of all commands there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn completions(
    args: &CompletionsArgs,
    mut command: Command,
    out: &mut impl Write,
) -> io::Result<Exit> {
    // What it generates is written in one go: a pipe that is closed early is no panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, BINARY, &mut script);
    out.write_all(&script)?;
    Ok(Exit::Clean)
}

pub(super) fn man(args: &ManArgs, mut command: Command, out: &mut impl Write) -> io::Result<Exit> {
    command.build();
    let Some(dir) = &args.out else {
        out.write_all(&page(&command)?)?;
        return Ok(Exit::Clean);
    };
    let name = command.get_name().to_owned();
    let mut pages = vec![(format!("{name}.1"), page(&command)?)];
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        pages.push((format!("{name}-{}.1", one.get_name()), page(one)?));
    }
    match output::write_all(dir, &pages) {
        Ok(()) => Ok(Exit::Clean),
        Err(error) => {
            complain(&error.to_string());
            Ok(Exit::HarnessFailed)
        }
    }
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
