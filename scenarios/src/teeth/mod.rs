//! Teeth: things that are known to be wrong, one table, so that a check that cannot fail is noticed.
//!
//! - A *lying adapter* is our applier, unchanged, behind one port (files, registry, KEK, host, disk) that breaks its
//!   promise. For each invariant there is one that this invariant must notice.
//! - A *wrong subject* is the reference as merged with one mistake more: those that its reviews found one by one.
//! - A *wrong host* is a member of a cluster whose driver leaves out, or turns round, what our applier relies on.
//!
//! [`put_all_to_trial`] searches, seed by seed, for the first run that convicts each. What is found by another kind of search
//! than over seeds brings its own rows to the report of `cargo sim teeth`.
//!
//! Nothing in here draws: how an adapter lies depends on what it is asked and on its [`Past`] alone, so an honest run
//! draws and does what it did without this module.
//!
//! There is no lying clock, because there is nothing to notice: the time is written down once and decides nothing.

pub mod barriers;
mod files;
mod host;
mod kek;
mod member;
mod past;
mod registry;
mod trial;

use std::sync::Arc;

use applier::StartError;
use sim::{Lies, Profile};

pub use self::files::FilesLie;
pub use self::host::HostLie;
pub use self::kek::KekLie;
pub use self::past::Past;
pub use self::registry::RegistryLie;
pub use self::trial::{Catch, Trial, put_all_to_trial, put_to_trial};
use crate::invariants::Violation;
use crate::subject::{Life, Member, Mistake, Subject, Surroundings, as_merged, hardened};
use crate::world::{Limits, Scenario, Setup};

/// What kind of wrong thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Our applier behind a port that lies.
    LyingAdapter,
    /// A subject that makes a mistake.
    WrongSubject,
    /// A cluster's member that is driven wrongly.
    WrongHost,
}

impl Kind {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::LyingAdapter => "lying-adapter",
            Kind::WrongSubject => "wrong-subject",
            Kind::WrongHost => "wrong-host",
        }
    }
}

/// How a wrong thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The disk under all ports lies.
    Disk(Lies),
    /// The files lie.
    Files(FilesLie),
    /// The registry lies.
    Registry(RegistryLie),
    /// The KEK lies.
    Kek(KekLie),
    /// The host lies.
    Host(HostLie),
    /// The subject makes a mistake.
    Mistake(Mistake),
    /// Whoever drives a member of a cluster makes a mistake.
    Cluster(ClusterMistake),
}

/// What the driver of a cluster's member can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMistake {
    /// A leader judges requests before it has applied the first entry of its term.
    DoesNotWait,
    /// A leader takes a request while another one is in flight.
    ManyInFlight,
    /// A leader admits a bootstrap, and new members, without asking who is capable.
    DoesNotProbe,
    /// A follower proposes, and a leader takes what it is sent.
    ForwardsProposals,
    /// Snapshots are sent without keys.
    SnapshotsWithoutKeys,
    /// What has to wait for the hard state is sent at once, and the hard state is not synced.
    VotesBeforeSync,
    /// A snapshot goes into the database first and into the sidecar after that.
    InstallsDatabaseFirst,
    /// A leader says that a request is done when it proposes it.
    AnswersEarly,
    /// Nobody remembers which requests were applied, and what is there already is refused.
    ForgetsSessions,
    /// A member that was restarted goes past the entry that it refuses.
    GoesPastRefusals,
    /// A leader proposes a cutover while other entries are in flight, and others behind it before it is applied.
    DoesNotDrain,
    /// A leader seals two values with one nonce.
    SealsTwice,
    /// A member answers which KEK it has, and does not keep that it has promised it.
    ForgetsPromises,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What is wrong with it, for people.
    pub says: &'static str,
    /// What must notice it: an invariant, and behind it, where the name of the invariant says too little, what of a
    /// fingerprint follows.
    pub expected: &'static str,
    /// How it is wrong.
    pub how: How,
}

const fn wrong(name: &'static str, how: How, expected: &'static str, says: &'static str) -> Wrong {
    Wrong { name, says, expected, how }
}

/// The table.
#[rustfmt::skip]
pub static WRONG: &[Wrong] = &[
    wrong("disk-skips-file-syncs", How::Disk(Lies { skip_file_sync: true, ..Lies::NONE }), "start-succeeds",
        "a file's sync answers that it is done and does nothing"),
    wrong("disk-skips-directory-syncs", How::Disk(Lies { skip_dir_sync: true, ..Lies::NONE }), "start-succeeds",
        "a directory's sync answers that it is done and does nothing"),
    wrong("disk-renames-in-two-steps", How::Disk(Lies { rename_not_atomic: true, ..Lies::NONE }), "start-succeeds",
        "a crash inside of a rename can leave neither name"),
    wrong("files-bring-back-the-older-sidecar", How::Files(FilesLie::BringBackTheOlder), "sidecar-old-or-new",
        "a sidecar that is written once more becomes the one before it"),
    wrong("files-read-the-older-sidecar", How::Files(FilesLie::ReadTheOlder), "start-succeeds",
        "a read of the sidecar gives the one before the newest"),
    wrong("files-hide-the-sidecar", How::Files(FilesLie::HideTheSidecar), "created-is-set-once",
        "every third life is told that there is no sidecar"),
    wrong("files-report-errors-late", How::Files(FilesLie::ReportLate), "halt-keeps-memory-in-step",
        "an error about the temporary file is reported at the rename"),
    wrong("registry-forgets-a-row", How::Registry(RegistryLie::ForgetARow), "acknowledged-survives",
        "the last row of a change is not written"),
    wrong("registry-forgets-the-index", How::Registry(RegistryLie::ForgetTheIndex), "acknowledged-survives",
        "rows are written without the index that they belong to"),
    wrong("registry-commits-in-two", How::Registry(RegistryLie::CommitInTwo), "acknowledged-survives",
        "rows and their index are two transactions"),
    wrong("registry-answers-no-row", How::Registry(RegistryLie::AnswerNoRow), "epochs-never-go-back",
        "a row that is there is not found, and so it is made anew"),
    wrong("registry-puts-a-row-back", How::Registry(RegistryLie::PutARowBack), "epochs-never-go-back",
        "a change without rows puts back the row that was changed last"),
    wrong("registry-notes-failed-reads", How::Registry(RegistryLie::NoteFailedReads), "failure-is-pure",
        "a read that fails writes into the database"),
    wrong("kek-refuses-sound-blobs", How::Kek(KekLie::RefuseSound), "legitimate-log-never-halts",
        "every other sound blob does not open"),
    wrong("kek-refuses-after-a-restart", How::Kek(KekLie::RefuseAfterRestart), "start-succeeds",
        "a blob opens in one life and never again"),
    wrong("kek-opens-damaged-blobs", How::Kek(KekLie::OpenDamaged),
        "verdict-matches-model/blob-does-not-open answered Applied",
        "a blob whose tag does not verify opens"),
    wrong("kek-changes-its-mind", How::Kek(KekLie::ChangeItsMind), "rejection-is-stable",
        "a blob that was refused opens after a restart"),
    wrong("kek-opens-to-other-bytes", How::Kek(KekLie::OtherBytes), "active-keys-resolve",
        "a blob opens to other bytes than are inside"),
    wrong("kek-hides-equal-keys", How::Kek(KekLie::HideEqualKeys), "key-bytes-are-distinct",
        "a key that was wrapped twice opens to other bytes the second time"),
    wrong("kek-keeps-a-log", How::Kek(KekLie::KeepALog), "rejection-is-pure",
        "a blob that is refused is written down on the node's disk"),
    wrong("kek-caches-keys-on-disk", How::Kek(KekLie::CacheOnDisk), "no-key-bytes-on-disk",
        "opened keys are written to a file"),
    wrong("kek-never-comes-back", How::Kek(KekLie::NeverComeBack), "log-is-finished",
        "the KEK is out of reach, and stays so when all faults are over"),
    wrong("host-loses-its-data", How::Host(HostLie::LoseData), "replay-converges",
        "the host moves past its own entries without their effect"),
    wrong("host-skips-an-index", How::Host(HostLie::SkipAnIndex), "legitimate-log-never-halts",
        "an entry is delivered one index too late"),
    wrong("host-repeats-an-entry", How::Host(HostLie::RepeatAnEntry), "verdict-matches-model",
        "in the place of an entry the one before it is delivered"),
    wrong("host-replaces-a-refused-entry", How::Host(HostLie::ReplaceRefused), "rejection-is-stable",
        "after a restart another entry stands in the place of a refused one"),
    wrong("host-repeats-a-nonce", How::Host(HostLie::RepeatANonce), "nonces-are-never-reused",
        "what the node has sealed is sealed once more, with a nonce of an earlier value"),
    wrong("host-misplaces-values", How::Host(HostLie::Misplace), "values-are-readable",
        "a sealed value is stored under another table key than that which it was sealed for"),
    wrong("host-stores-clear-text", How::Host(HostLie::StoreInClear), "no-clear-text-after-cutover",
        "a sealed value is opened, and stored in clear text"),
    wrong("host-repeats-a-claim", How::Host(HostLie::RepeatAClaim), "claims-are-granted",
        "in the place of each claim the first one is proposed"),
    wrong("files-take-a-cutover-back", How::Files(FilesLie::BringBackTheOlder), "cutovers-are-monotone",
        "the sidecar with a cutover that is written once more becomes the one without"),
    wrong("no-clock", How::Mistake(Mistake::NoClock), "no-panic",
        "a clock that was set to nothing is noticed by an entry that asks for the time"),
    wrong("equal-ids", How::Mistake(Mistake::EqualIds),
        "rejection-is-pure/key-conflict/bootstrap",
        "a bootstrap that names one id for storage and raft is not refused for that"),
    wrong("foreign-proposer-row", How::Mistake(Mistake::ForeignProposerRow),
        "verdict-matches-model/foreign-row answered Applied/rotation",
        "a rotation whose row is for another key is applied"),
    wrong("foreign-batch-rows", How::Mistake(Mistake::ForeignBatchRows),
        "verdict-matches-model/foreign-row answered Applied/bootstrap",
        "a bootstrap with rows for other keys is applied"),
    wrong("second-bootstrap-other-ids", How::Mistake(Mistake::SecondBootstrapOtherIds),
        "verdict-matches-model/already-bootstrapped answered Applied",
        "a second bootstrap with other ids re-points the active keys"),
    wrong("second-bootstrap-other-bytes", How::Mistake(Mistake::SecondBootstrapOtherBytes),
        "verdict-matches-model/already-bootstrapped answered Applied",
        "a second bootstrap with the same ids and other wrapped bytes is applied"),
    wrong("leader-does-not-wait", How::Cluster(ClusterMistake::DoesNotWait), "admitted-is-never-rejected",
        "a leader judges requests before it has applied the first entry of its term"),
    wrong("leader-has-many-in-flight", How::Cluster(ClusterMistake::ManyInFlight), "admitted-is-never-rejected",
        "a leader takes a request while another one is in flight"),
    wrong("leader-does-not-probe", How::Cluster(ClusterMistake::DoesNotProbe), "admitted-is-never-rejected",
        "a bootstrap is admitted without asking who has the KEK"),
    wrong("leader-does-not-drain", How::Cluster(ClusterMistake::DoesNotDrain), "admitted-is-never-rejected/clear-entry",
        "a cutover is proposed with others in flight, and others behind it before it is applied"),
    wrong("leader-seals-twice", How::Cluster(ClusterMistake::SealsTwice), "nonces-are-nobody-elses",
        "two values are sealed with one nonce"),
    wrong("follower-forwards-proposals", How::Cluster(ClusterMistake::ForwardsProposals), "admitted-is-never-rejected",
        "a follower proposes what it is asked for, and the leader takes it"),
    wrong("snapshots-without-keys", How::Cluster(ClusterMistake::SnapshotsWithoutKeys), "snapshot-brings-keys",
        "a snapshot carries rows and table, and no keys"),
    wrong("votes-before-the-sync", How::Cluster(ClusterMistake::VotesBeforeSync), "one-leader-per-term",
        "a vote is sent before it is durable"),
    wrong("install-starts-with-the-database", How::Cluster(ClusterMistake::InstallsDatabaseFirst), "start-succeeds",
        "a snapshot goes into the database first and into the sidecar after that"),
    wrong("leader-answers-early", How::Cluster(ClusterMistake::AnswersEarly), "acknowledged-request-survives",
        "a leader says that a request is done when it proposes it"),
    wrong("sessions-are-forgotten", How::Cluster(ClusterMistake::ForgetsSessions), "refused-request-changes-nothing",
        "nobody remembers which requests were applied, and what is there already is refused"),
    wrong("member-forgets-its-promise", How::Cluster(ClusterMistake::ForgetsPromises), "admitted-is-never-rejected",
        "a member says which KEK it has, keeps no promise of it, and comes back with another"),
    wrong("member-goes-past-refusals", How::Cluster(ClusterMistake::GoesPastRefusals), "refusal-halts-everyone-alike",
        "a member that was restarted goes past the entry that it refuses"),
];

impl Wrong {
    /// What kind it is.
    pub const fn kind(&self) -> Kind {
        match self.how {
            How::Mistake(_) => Kind::WrongSubject,
            How::Cluster(_) => Kind::WrongHost,
            _ => Kind::LyingAdapter,
        }
    }

    /// The scenarios in which it can be noticed.
    pub const fn scenarios(&self) -> &'static [Scenario] {
        match self.how {
            How::Cluster(_) => &[Scenario::Cluster],
            _ => &Scenario::OF_ONE_NODE,
        }
    }

    /// The mistake of a member's driver, if it is that.
    pub const fn cluster_mistake(&self) -> Option<ClusterMistake> {
        match self.how {
            How::Cluster(mistake) => Some(mistake),
            _ => None,
        }
    }

    /// The invariant that must notice it.
    pub fn expected_invariant(&self) -> &'static str {
        self.expected.split('/').next().unwrap_or(self.expected)
    }

    /// Whether a violation is the expected one.
    pub fn expects(&self, violation: &Violation) -> bool {
        let rest = violation.fingerprint.strip_prefix(self.expected);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What it is a variation of: what this shows on the same seeds convicts nobody.
    pub const fn base(&self) -> Subject {
        match self.how {
            How::Mistake(_) => Subject::AsMerged,
            _ => Subject::Hardened,
        }
    }

    /// Whether the disk lies, which a world is set up with, and not the subject.
    pub const fn is_disk(&self) -> bool {
        matches!(self.how, How::Disk(_))
    }

    /// The setup that runs it.
    pub const fn setup(&'static self, scenario: Scenario) -> Setup {
        let (subject, lies) = match self.how {
            How::Disk(lies) => (self.base(), lies),
            _ => (Subject::Wrong(self), Lies::NONE),
        };
        Setup { scenario, subject, profile: Profile::Posix, lies, limits: Limits::NONE }
    }

    /// Starts a life of it as a member of a cluster.
    ///
    /// # Errors
    /// As [`Subject::start_member`].
    pub fn start_member(&self, world: &Surroundings) -> Result<Box<dyn Member>, StartError> {
        match self.how {
            How::Cluster(ClusterMistake::InstallsDatabaseFirst) => member::start(world),
            How::Cluster(ClusterMistake::ForgetsPromises) => {
                let (lie, past) = (RegistryLie::ForgetPromises, Arc::clone(&world.past));
                let in_front = |inner| registry::LyingRegistry { inner, lie, past };
                hardened::start_on(world, world.files.clone(), Arc::clone(&world.kek) as _, in_front)
            }
            How::Mistake(_) => as_merged::start_member(world),
            _ => hardened::start_member(world),
        }
    }

    /// Starts a life of it.
    ///
    /// # Errors
    /// As [`Subject::start`].
    pub fn start(&self, world: &Surroundings) -> Result<Box<dyn Life>, StartError> {
        let past = Arc::clone(&world.past);
        past.lock().life += 1;
        let (files, kek) = (world.files.clone(), Arc::clone(&world.kek));
        match self.how {
            How::Disk(_) | How::Cluster(_) => hardened::start(world),
            How::Files(lie) => {
                let files = files::LyingFiles { inner: files, lie, past };
                Ok(hardened::start_on(world, files, kek, |registry| registry)?)
            }
            How::Registry(lie) => {
                let in_front = |inner| registry::LyingRegistry { inner, lie, past };
                Ok(hardened::start_on(world, files, kek, in_front)?)
            }
            How::Kek(lie) => {
                let lying = kek::LyingKek { inner: kek, lie, past, files: files.clone() };
                Ok(hardened::start_on(world, files, Arc::new(lying), |registry| registry)?)
            }
            How::Host(lie) => {
                let inner = hardened::start(world)?;
                Ok(Box::new(host::LyingHost { inner, lie, past }))
            }
            How::Mistake(mistake) => as_merged::start(world, Some(mistake)),
        }
    }
}
