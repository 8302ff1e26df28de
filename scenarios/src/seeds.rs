//! The corpus: one file for each finding, never deleted, re-checked by every test run.
//!
//! ```toml
//! version = 2
//! shows = "what it shows, in a sentence"
//! scenario = "single"
//! subject = "as-merged"
//! profile = "posix"
//! lie = "skip-dir-sync"   # only where the disk lies
//! expect = ["legitimate-log-never-halts/redelivery-kept: already-bootstrapped/bootstrap"]   # [] = nothing is found
//! seed = 17        # either a seed,
//! tape = """       # or the draws themselves, one `site value/bound` a line
//! log.length 3/9
//! """
//! # Since version 2, and optional:
//! entries_max = 2  # where the workload is cut shorter than its world would make it
//! joins_max = 0    # where the spare machine of a cluster joins less often
//! command = "cargo sim replay seeds/name.toml"
//! found = "cluster seed 17"
//! minimal = true   # nothing smaller was found, and it was not for want of time
//! story = ["What happened,", "sentence by sentence."]
//! ```
//!
//! A tape outlives a change of the random number generator; a seed outlives a change of what is drawn.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sim::{Lies, Profile, Tape, TapeError};

use crate::output::{self, OutputError};
use crate::run::{Checked, Keep, RunError, Source, run};
use crate::subject::Subject;
use crate::world::{Limits, Scenario, Setup};

/// The version that this build writes, and the newest that it reads.
pub const VERSION: u32 = 2;
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=VERSION;

/// A finding as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    pub(crate) version: u32,
    /// What it shows, in a sentence.
    pub shows: String,
    pub(crate) scenario: String,
    pub(crate) subject: String,
    pub(crate) profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lie: Option<String>,
    /// Fingerprints that have to be found; empty if nothing may be.
    pub expect: Vec<String>,
    /// A workload cut shorter than its world would make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entries_max: Option<u64>,
    /// Fewer times at which a spare machine joins or leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) joins_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// A line that shows it, to be copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The scenario and seed in which it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Whether nothing smaller shows it, as far as shrinking can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tape: Option<String>,
    /// What happens in it, in plain sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub story: Vec<String>,
}

/// Why a seed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedFileError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] OutputError),
    /// It is cut off, or not of the documented shape.
    #[error("{path}: not a whole seed file: {message}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// It is of another version.
    #[error(
        "{path}: version {got}, and this build reads up to version {VERSION}; use the build that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        got: u32,
    },
    /// A name in it is unknown.
    #[error("{path}: {message}")]
    Name {
        /// The file.
        path: PathBuf,
        /// Which, and which there are.
        message: String,
    },
    /// Its tape cannot be parsed.
    #[error("{path}: {source}")]
    Tape {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TapeError,
    },
    /// Neither seed nor tape, or both.
    #[error("{path}: it needs either `seed` or `tape`")]
    NoSource {
        /// The file.
        path: PathBuf,
    },
}

/// A seed file, ready to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// Its content.
    pub file: SeedFile,
    /// What to run.
    pub setup: Setup,
    /// On what.
    pub source: Source,
}

/// What became of a kept finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything expected was found.
    Same,
    /// Nothing was expected, and nothing is found.
    Clean,
    /// Something is found, and not (all of) what was expected.
    Other {
        /// Fingerprints that were found.
        found: Vec<String>,
    },
    /// Something was expected, and nothing is found.
    Gone,
}

impl Answer {
    /// Whether it is what the file was kept for.
    pub const fn is_as_expected(&self) -> bool {
        matches!(self, Answer::Same | Answer::Clean)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Same => f.write_str("same finding"),
            Answer::Clean => f.write_str("clean"),
            Answer::Other { found } => write!(f, "other finding: {}", found.join(", ")),
            Answer::Gone => f.write_str("gone"),
        }
    }
}

/// A case that was run again.
#[derive(Debug)]
pub struct Replayed {
    /// What the run came to.
    pub checked: Checked,
    /// What that means for the case.
    pub answer: Answer,
}

impl Case {
    /// Reads a file.
    ///
    /// # Errors
    /// [`SeedFileError`], which names the file.
    pub fn read(path: &Path) -> Result<Case, SeedFileError> {
        let text = fs::read_to_string(path);
        Case::parse(&text.map_err(|source| SeedFileError::Read { path: path.to_owned(), source })?, path)
    }

    /// Makes a case of the text of the file that is or might be at `path`.
    ///
    /// # Errors
    /// [`SeedFileError`], which names the file.
    pub fn parse(text: &str, path: &Path) -> Result<Case, SeedFileError> {
        let owned = || path.to_owned();
        let file: SeedFile = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                if let Some(got) = version_of(text).filter(|version| !VERSIONS.contains(version)) {
                    return Err(SeedFileError::Version { path: owned(), got });
                }
                return Err(SeedFileError::Shape { path: owned(), message: error.message().to_owned() });
            }
        };
        if !VERSIONS.contains(&file.version) {
            return Err(SeedFileError::Version { path: owned(), got: file.version });
        }
        let name = |message| SeedFileError::Name { path: owned(), message };
        let setup = Setup {
            scenario: file.scenario.parse::<Scenario>().map_err(|error| name(error.to_string()))?,
            subject: file.subject.parse::<Subject>().map_err(|error| name(error.to_string()))?,
            profile: file.profile.parse::<Profile>().map_err(|error| name(error.to_string()))?,
            lies: match &file.lie {
                None => Lies::NONE,
                Some(lie) => lie.parse::<Lies>().map_err(|error| name(error.to_string()))?,
            },
            limits: Limits { entries_max: file.entries_max, joins_max: file.joins_max, ..Limits::NONE },
        };
        let source = match (&file.seed, &file.tape) {
            (Some(seed), None) => Source::Seed(*seed),
            (None, Some(text)) => {
                let tape = text.parse::<Tape>();
                Source::Tape(tape.map_err(|source| SeedFileError::Tape { path: owned(), source })?)
            }
            _ => return Err(SeedFileError::NoSource { path: owned() }),
        };
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Case { name, file, setup, source })
    }

    /// Reads every file of a directory, in the order of their names.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read_all(dir: &Path) -> Result<Vec<Case>, SeedFileError> {
        let unreadable = |source| SeedFileError::Read { path: dir.to_owned(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| Case::read(path)).collect()
    }

    /// Runs it again and compares what is found with what was expected. If the code draws otherwise than the build that
    /// recorded the tape, the tape is followed as far as it fits ([`sim::Choices::realigned`]); [`Checked::diverged`] then
    /// has the first difference. A strict replay does not do that.
    ///
    /// # Errors
    /// Under strict replay the first mismatch of its tape.
    pub fn replay(&self, strict: bool, keep: Keep) -> Result<Replayed, RunError> {
        let source = match &self.source {
            Source::Tape(tape) if !strict => Source::Realigned(tape.clone(), 0),
            source => source.clone(),
        };
        let checked = run(self.setup, source, keep)?;
        let is_found =
            |expected: &String| checked.violations.iter().any(|found| found.fingerprint == *expected);
        let expected = &self.file.expect;
        let answer = match (expected.is_empty(), checked.violations.is_empty()) {
            (true, true) => Answer::Clean,
            (false, true) => Answer::Gone,
            (false, false) if expected.iter().all(is_found) => Answer::Same,
            (_, false) => Answer::Other {
                found: checked.violations.iter().map(|found| found.fingerprint.clone()).collect(),
            },
        };
        Ok(Replayed { checked, answer })
    }
}

impl SeedFile {
    /// A run as it is kept: with all that was found in it, and with nothing yet that is for people only.
    pub fn of(setup: &Setup, checked: &Checked, shows: &str) -> SeedFile {
        SeedFile {
            version: VERSION,
            shows: shows.to_owned(),
            scenario: setup.scenario.to_string(),
            subject: setup.subject.to_string(),
            profile: setup.profile.name().to_owned(),
            lie: setup.lies.name().map(str::to_owned),
            expect: checked.violations.iter().map(|found| found.fingerprint.clone()).collect(),
            entries_max: setup.limits.entries_max,
            joins_max: setup.limits.joins_max,
            seed: None,
            command: None,
            found: None,
            minimal: None,
            tape: Some(format!("{}", checked.tape)),
            story: Vec::new(),
        }
    }

    /// Writes it to a new file, whole or not at all.
    ///
    /// # Errors
    /// [`SeedFileError::Write`].
    pub fn write_new(&self, path: &Path) -> Result<(), SeedFileError> {
        Ok(output::write_new(path, self.text().as_bytes())?)
    }

    /// Writes it to a file that may be there already, whole or not at all.
    ///
    /// # Errors
    /// [`SeedFileError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), SeedFileError> {
        Ok(output::write(path, self.text().as_bytes())?)
    }

    /// The file as it is written.
    pub(crate) fn text(&self) -> String {
        toml::to_string_pretty(self).expect("strings and numbers always serialise")
    }
}

/// Writes a run as a new seed file, whole or not at all.
///
/// # Errors
/// [`SeedFileError::Write`].
pub fn write(path: &Path, setup: &Setup, checked: &Checked, shows: &str) -> Result<(), SeedFileError> {
    SeedFile::of(setup, checked, shows).write_new(path)
}

/// A file name for a finding: what it is of, in small letters and hyphens.
pub fn slug(setup: &Setup, fingerprint: &str) -> String {
    /// File systems allow some 250 bytes.
    const CHARS_MAX: usize = 150;
    let mut text = format!("{} {} ", setup.scenario, setup.subject);
    if setup.profile != Profile::default() {
        text.push_str(setup.profile.name());
        text.push(' ');
    }
    if let Some(lie) = setup.lies.name() {
        text.push_str(lie);
        text.push(' ');
    }
    text.push_str(fingerprint);
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    slug.truncate(CHARS_MAX);
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// The version of a file that is otherwise not of this version's shape.
fn version_of(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct OnlyVersion {
        version: u32,
    }
    toml::from_str::<OnlyVersion>(text).ok().map(|only| only.version)
}
