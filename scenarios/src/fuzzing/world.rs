//! Worlds whose draws are the fuzzer's bytes, so that coverage steers crashes and entries.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::output::{self, OutputError};
use crate::run::{Checked, Keep, Source, run};
use crate::seeds::slug;
use crate::subject::Subject;
use crate::world::{Scenario, Setup};

/// Names the subject; `hardened` where it is not set.
const SUBJECT: &str = "FUZZ_SUBJECT";
/// Names a directory in which the bytes of each new finding are kept, while the search goes on. Where it is not set, a finding
/// is a panic, which ends the search and leaves an artifact.
const FINDINGS: &str = "FUZZ_FINDINGS";

/// What the environment asks of the worlds.
#[derive(Debug)]
struct Wanted {
    subject: Subject,
    findings: Option<PathBuf>,
}

/// Set by a fuzzer alone, before its first input.
static WANTED: OnceLock<Wanted> = OnceLock::new();

/// Reads it.
///
/// # Panics
/// Where it asks for what there is not.
#[expect(clippy::disallowed_methods, reason = "the fuzzer's own wishes, read once before its first run")]
pub(super) fn read_environment() {
    let subject = std::env::var(SUBJECT)
        .map_or(Subject::Hardened, |name| name.parse().unwrap_or_else(|error| panic!("{SUBJECT}: {error}")));
    let findings = std::env::var_os(FINDINGS).map(PathBuf::from);
    if let Some(dir) = &findings {
        output::prepare(dir).unwrap_or_else(|error| panic!("{FINDINGS}: {error}"));
    }
    WANTED.set(Wanted { subject, findings }).expect("a fuzzer begins once");
}

/// A world as a target.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Name of the target.
    pub name: &'static str,
    /// The world.
    pub scenario: Scenario,
}

impl World {
    /// One node.
    pub const SINGLE: World = World { name: "world", scenario: Scenario::Single };
    /// Members with real Raft between them.
    pub const CLUSTER: World = World { name: "cluster-script", scenario: Scenario::Cluster };
    /// Every world that is a target.
    pub const ALL: [World; 2] = [World::SINGLE, World::CLUSTER];

    /// What is run: an honest disk under the default profile.
    pub const fn setup(self, subject: Subject) -> Setup {
        Setup::of(self.scenario, subject)
    }

    /// Runs it, and panics with what was found; or keeps that, and goes on, where that is wanted.
    pub(super) fn check(self, data: &[u8]) {
        let wanted = WANTED.get();
        let judged = self.judge(data, wanted.map_or(Subject::Hardened, |wanted| wanted.subject));
        match wanted.and_then(|wanted| wanted.findings.as_ref()) {
            None => assert!(judged.checked.violations.is_empty(), "{}", judged.report()),
            Some(dir) => judged.keep(data, dir),
        }
    }

    /// Runs it on bytes.
    ///
    /// # Panics
    /// If the run cannot be made: bytes always fit, but the system may be out of threads.
    pub fn judge(self, data: &[u8], subject: Subject) -> Judged {
        let setup = self.setup(subject);
        let checked = run(setup, Source::Bytes(data.to_vec()), Keep::Nothing);
        Judged { setup, checked: checked.unwrap_or_else(|error| panic!("the harness failed: {error}")) }
    }
}

/// What bytes came to.
#[derive(Debug)]
pub struct Judged {
    /// What was run.
    pub setup: Setup,
    /// And what came of it.
    pub checked: Checked,
}

impl Judged {
    /// What was found, and how it is kept.
    pub fn report(&self) -> String {
        let Setup { scenario, subject, .. } = self.setup;
        let mut report = format!("scenario {scenario}, subject {subject}:\n");
        for found in &self.checked.violations {
            let _ = writeln!(report, "  {}\n    {}", found.fingerprint, found.evidence);
        }
        let _ = write!(
            report,
            "keep it, with FILE for the artifact:\n  cargo sim replay FILE --bytes --scenario {scenario} --subject \
             {subject} --save seeds/NAME.toml --shows 'what it shows'\n"
        );
        report
    }

    /// Keeps the bytes under the name of each finding that has none yet.
    fn keep(&self, data: &[u8], dir: &Path) {
        for found in &self.checked.violations {
            let path = dir.join(slug(&self.setup, &found.fingerprint));
            match output::write_new(&path, data) {
                // A finding that is smaller than the one that is there takes its place.
                Err(OutputError::Exists { .. })
                    if fs::metadata(&path).is_ok_and(|known| known.len() > data.len() as u64) =>
                {
                    output::write(&path, data).unwrap_or_else(|error| panic!("{FINDINGS}: {error}"));
                }
                Err(OutputError::Exists { .. }) => {}
                Ok(()) => report_kept(&found.fingerprint),
                Err(error) => panic!("{FINDINGS}: {error}"),
            }
        }
    }
}

/// Tells whoever watches the fuzzer, between its own lines.
fn report_kept(fingerprint: &str) {
    use std::io::Write as _;
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "FOUND {fingerprint}");
}
