//! One command in a process of its own, which may be killed.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The first argument that makes this program the example.
pub(crate) const KEYCTL: &str = "keyctl";

const SIGKILL: i32 = 9;

/// How a process ended.
pub(crate) enum Ended {
    /// Killed while it was alive.
    Killed,
    /// By itself; a kill came too late or not at all.
    Exited { code: i32, out: String, err: String, took: Duration },
}

/// Runs `keyctl DIR ARGS`, and kills it after `delay` if it is not done by then.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a real process takes decides when to kill it, and no verdict"
)]
pub(crate) fn run(dir: &str, args: &[String], delay: Option<Duration>) -> io::Result<Ended> {
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .arg(KEYCTL)
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(delay) = delay {
        thread::sleep(delay);
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    let took = begun.elapsed();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    match (output.status.signal(), output.status.code()) {
        (Some(SIGKILL), _) if delay.is_some() => Ok(Ended::Killed),
        (_, Some(code)) => {
            Ok(Ended::Exited { code, out: text(output.stdout), err: text(output.stderr), took })
        }
        (signal, None) => {
            Err(io::Error::other(format!("ended by signal {signal:?}, which nobody here has sent")))
        }
    }
}
