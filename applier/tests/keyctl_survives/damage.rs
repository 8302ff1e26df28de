//! What a kill cannot leave and a power loss or an accident can: a torn end of the log, damage, files that are missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use tempfile::TempDir;

use super::child::{self, Ended};
use super::disk;

type Verdict = Result<(), Failed>;

/// A directory with keys, a clear value and a sealed one, and everything applied.
struct Fixture {
    root: TempDir,
}

impl Fixture {
    fn new() -> Result<Fixture, Failed> {
        let fixture = Fixture { root: tempfile::tempdir()? };
        let lines = ["init", "bootstrap", "put a clear", "enable storage", "enable raft", "put b sealed"];
        for line in lines {
            fixture.says(line, 0, "")?;
        }
        Ok(fixture)
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("node")
    }

    fn log(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// Runs a command line, which has to end with this status and to say this, on whichever stream.
    fn says(&self, line: &str, status: i32, part: &str) -> Verdict {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let dir = self.dir();
        match child::run(dir.to_str().ok_or("not UTF-8")?, &args, None)? {
            Ended::Exited { code, out, err, .. }
                if code == status && (out.contains(part) || err.contains(part)) =>
            {
                Ok(())
            }
            Ended::Exited { code, out, err, .. } => {
                Err(format!("{line}: exit status {code}, and not {status} with {part:?}\n{out}\n{err}")
                    .into())
            }
            Ended::Killed => Err("nobody kills here".into()),
        }
    }

    /// Where each entry of the log begins, and where the last one ends.
    fn bounds(&self) -> Result<Vec<usize>, Failed> {
        let bytes = fs::read(self.log())?;
        let mut bounds = vec![32];
        while let Some(len) = bytes.get(bounds[bounds.len() - 1]..).and_then(<[u8]>::first_chunk::<4>) {
            bounds.push(bounds[bounds.len() - 1] + 12 + usize::try_from(u32::from_be_bytes(*len))?);
        }
        Ok(bounds)
    }
}

fn append(path: &Path, tail: &[u8]) -> Verdict {
    let bytes = [fs::read(path)?, tail.to_vec()].concat();
    Ok(fs::write(path, bytes)?)
}

/// The last entry of a log whose next one was torn comes back, and the next one takes the place of the torn one.
pub(crate) fn torn_end() -> Verdict {
    let fixture = Fixture::new()?;
    let whole = fs::read(fixture.log())?;
    let bounds = fixture.bounds()?;
    let last = &whole[bounds[bounds.len() - 2]..];
    // Its beginnings, and what a disk may have in their place: nothing yet, or a length that leads nowhere.
    let beginnings = [1, 3, 4, 11, 12, 20, last.len() - 1].map(|len| last[..len].to_vec());
    let others = [vec![0; 64], vec![0xff; 64], vec![0xff; 4096], [&[0, 0, 0, 17], &[0; 60][..]].concat()];
    for (number, tail) in beginnings.into_iter().chain(others).enumerate() {
        append(&fixture.log(), &tail)?;
        fixture.says("verify", 0, "sound")?;
        fixture.says(&format!("put b {number}"), 0, "")?;
        fixture.says("get b", 0, &number.to_string())?;
        let read = disk::read(&fixture.dir(), &fixture.root.path().join("copy.redb"))?;
        if read.log.is_none_or(|log| log.is_torn) {
            return Err(format!("the torn end {tail:?} was not cut off").into());
        }
    }
    Ok(())
}

/// Damage is refused where it may have taken entries that count, and nothing is written over it.
pub(crate) fn damage() -> Verdict {
    let fixture = Fixture::new()?;
    let whole = fs::read(fixture.log())?;
    let bounds = fixture.bounds()?;
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let before_last = bounds[bounds.len() - 3];
    let damaged = [
        (flipped(bounds[1] + 20), format!("damaged at byte {}", bounds[1])),
        (flipped(bounds[1]), format!("damaged at byte {}", bounds[1])),
        (flipped(before_last + 4), format!("damaged at byte {before_last}")),
        // Of the last entry alone, damage looks like a torn end; but it was applied.
        (flipped(whole.len() - 1), "the log is not the one of this node".to_owned()),
        (whole[..bounds[bounds.len() - 2]].to_vec(), "the log is not the one of this node".to_owned()),
        (whole[..bounds[bounds.len() - 2] + 5].to_vec(), "the log is not the one of this node".to_owned()),
        (flipped(10), "no log of this program".to_owned()),
        (Vec::new(), "no log of this program".to_owned()),
    ];
    for (bytes, message) in damaged {
        fs::write(fixture.log(), &bytes)?;
        for line in ["put b other", "verify", "compact"] {
            fixture.says(line, 1, &message)?;
        }
        if fs::read(fixture.log())? != bytes {
            return Err("a refusal has written to the log".into());
        }
    }
    fs::remove_file(fixture.log())?;
    fixture.says("put b other", 1, "the log is not the one of this node")?;
    fs::write(fixture.log(), &whole)?;
    fixture.says("get b", 0, "sealed")
}

/// What a person gets wrong, with its exit status.
pub(crate) fn refusals() -> Verdict {
    let fixture = Fixture::new()?;
    let dir = fixture.dir();
    fixture.says("nonsense", 2, "Usage")?;
    fixture.says("retire key", 2, "invalid value")?;
    fixture.says("init", 0, "nothing to do")?;
    fixture.says("bootstrap", 1, "was bootstrapped by the entry at index 2")?;
    fixture.says("enable raft", 0, "nothing to do")?;
    fixture.says("retire 1", 1, "rotate it first")?;
    fixture.says("retire 9", 1, "no key has the id 9")?;
    fixture.says("get c", 1, "no value under")?;
    fixture.says("rotate storage", 0, "key 3")?;
    fixture.says("retire 1", 1, "run `keyctl DIR reseal` first")?;
    fixture.says("rotate raft", 0, "key 4")?;
    fixture.says("retire 2", 1, "run `keyctl DIR compact` first")?;
    let kek = dir.join("kek-1.key");
    let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    if (mode(&kek)?, mode(&dir)?) != (0o600, 0o700) {
        return Err("the KEK is not for its owner alone".into());
    }
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o644))?;
    fixture.says("get b", 1, "run `chmod 600` on it")?;
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o600))?;
    let sidecar = fs::read(dir.join("keys.json"))?;
    fs::remove_file(dir.join("keys.json"))?;
    fixture.says("get b", 1, "is missing")?;
    fs::write(dir.join("keys.json"), sidecar)?;
    fixture.says("get b", 0, "sealed")?;
    fs::remove_file(&kek)?;
    fixture.says("get b", 1, "there is no KEK")
}
