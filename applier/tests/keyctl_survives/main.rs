//! The example `keyctl`, killed with SIGKILL at random moments on the real filesystem: real processes, real syncs.
//!
//! This program is both sides. With `keyctl` as its first argument it is the example itself, and is killed; without, it is
//! the test, which starts, kills, and then looks at what is left with code of its own ([`disk`]) and with a memory of
//! everything that it ever saw there ([`keeper`]).
//!
//! Which commands, and after which part of their time they are killed, comes from a fixed seed; where exactly that is, from
//! the machine. So no two runs are the same, and none passes or fails by its timing: a kill that comes too late does not
//! count, and the test goes on until enough did.

mod campaign;
mod child;
mod damage;
mod disk;
mod keeper;

/// The example, whole, and run by the test's own `main`.
#[path = "../../examples/keyctl/main.rs"]
#[allow(dead_code, reason = "the example's own `main` is not called here")]
mod keyctl;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == child::KEYCTL) {
        return keyctl::run(args);
    }
    let survives = || {
        let summary = campaign::run()?;
        eprintln!("keyctl_survives: {summary}");
        Ok(())
    };
    let trials = vec![
        Trial::test("keyctl_recovers_from_300_kills_and_uses_no_nonce_twice", survives),
        Trial::test("a_torn_end_of_the_log_is_cut_off_and_nothing_else_is", damage::torn_end),
        Trial::test("a_damaged_or_shorter_log_is_refused_and_left_alone", damage::damage),
        Trial::test("what_is_refused_says_what_to_do_and_has_its_exit_status", damage::refusals),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
