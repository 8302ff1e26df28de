//! A config writer that looks right: write a temporary file, rename it. What a crash makes of it, and what is missing.

use std::io;

use sim::{
    Mount,
    crashes::{CrashTest, CrashTestError, Repair, Report, Run, RunResult, Survivor},
};

const OLD: &[u8] = b"colour = red";
const NEW: &[u8] = b"colour = green";

/// The code under test.
fn save(mount: &Mount, text: &[u8]) -> io::Result<()> {
    let file = mount.create_new("/config.tmp")?;
    file.write_at(0, text)?;
    mount.rename("/config.tmp", "/config")
}

fn old_config(mount: &Mount) -> RunResult {
    let file = mount.create_new("/config")?;
    file.write_at(0, OLD)?;
    Ok(())
}

fn program(run: &Run) -> RunResult {
    save(run.mount(), NEW)?;
    run.acknowledge();
    Ok(())
}

fn judge(survivor: &Survivor) -> Result<(), &'static str> {
    match survivor.peek("/config").as_deref() {
        Some(NEW) => Ok(()),
        Some(OLD) if survivor.acknowledged() == 0 => Ok(()),
        Some(OLD) => Err("saved, and the old config is back"),
        Some([]) => Err("the config is empty"),
        Some(_) => Err("the config is torn"),
        None => Err("the config is gone"),
    }
}

/// Crashes it everywhere, and looks for the syncs without which it can't be right.
pub(crate) fn run() -> Result<(Report<&'static str>, Option<Repair>), CrashTestError> {
    let test = CrashTest::new(program, judge).setup(old_config);
    Ok((test.check()?, test.repair(3)?))
}

#[expect(clippy::print_stdout, reason = "it is what an example is for")]
fn main() -> Result<(), CrashTestError> {
    let (report, repair) = run()?;
    println!("{report}\n");
    match repair {
        Some(repair) => println!("{repair}"),
        None => println!("no three barriers repair it"),
    }
    Ok(())
}
