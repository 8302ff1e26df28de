//! The interesting places of each world. A probe that a sweep never hits is a hole in the sweep.

use crate::model::Reason;
use sim::{OpInfo, OpKind};

/// Where in an entry, or in a start, a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// About to remove a leftover temporary sidecar.
    SidecarUnlink,
    /// About to create the temporary sidecar.
    SidecarCreate,
    /// About to write it.
    SidecarWrite,
    /// About to sync it.
    SidecarSync,
    /// About to rename it.
    SidecarRename,
    /// About to sync its directory.
    SidecarDirSync,
    /// About to issue the first database call.
    DatabaseBefore,
    /// Between two database calls.
    DatabaseInside,
    /// After the last one.
    DatabaseAfter,
}

impl Step {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them, in order.
    pub const ALL: [Step; Step::COUNT] = [
        Step::SidecarUnlink,
        Step::SidecarCreate,
        Step::SidecarWrite,
        Step::SidecarSync,
        Step::SidecarRename,
        Step::SidecarDirSync,
        Step::DatabaseBefore,
        Step::DatabaseInside,
        Step::DatabaseAfter,
    ];

    /// Words for it.
    pub const fn name(self) -> &'static str {
        STEPS[self as usize]
    }

    /// The step that a call about to run belongs to. `database_calls` is how many the database made before it since
    /// the step began.
    pub fn of(op: &OpInfo, database_calls: u64) -> Step {
        if op.path.starts_with("/db") {
            return if database_calls == 0 { Step::DatabaseBefore } else { Step::DatabaseInside };
        }
        match op.kind {
            OpKind::Unlink => Step::SidecarUnlink,
            OpKind::Create | OpKind::Mkdir => Step::SidecarCreate,
            OpKind::Write | OpKind::SetLen => Step::SidecarWrite,
            OpKind::SyncFile => Step::SidecarSync,
            OpKind::Rename => Step::SidecarRename,
            _ => Step::SidecarDirSync,
        }
    }
}

/// How a life ended at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Process crash while applying.
    ProcessCrash,
    /// Power loss while applying.
    PowerLoss,
    /// Power loss while starting.
    PowerLossInStart,
    /// Power loss while starting, after a start that was itself cut off.
    PowerLossInSecondStart,
    /// Process crash at this step, and the next life ended in a power loss.
    ProcessThenPower,
}

/// The crash matrix, in the order of [`Step`] and [`Ending`].
macro_rules! matrix {
    ($($step:literal),+) => {
        [$(
            concat!("crash/", $step, "/process-crash"),
            concat!("crash/", $step, "/power-loss"),
            concat!("crash/", $step, "/power-loss-in-start"),
            concat!("crash/", $step, "/power-loss-in-second-start"),
            concat!("crash/", $step, "/process-crash-then-power-loss"),
        )+]
    };
}

/// One list of names, for the steps alone and for the matrix.
macro_rules! steps {
    ($($step:literal),+) => {
        const STEPS: [&str; Step::COUNT] = [$($step),+];
        const MATRIX: [&str; Step::COUNT * 5] = matrix!($($step),+);
    };
}

steps!(
    "sidecar-unlink",
    "sidecar-create",
    "sidecar-write",
    "sidecar-sync",
    "sidecar-rename",
    "sidecar-dir-sync",
    "database-before",
    "database-inside",
    "database-after"
);

/// Single places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names in the table say it")]
pub enum Place {
    Applied,
    NoOp,
    Rejected,
    Failed,
    Halted,
    Skipped,
    DuplicateBootstrap,
    DuplicateRotation,
    DuplicateRegistration,
    NoOpAgain,
    RedeliveredKept,
    RedeliveredRolledBack,
    RedeliveredFromStart,
    UnknownOutcomeSurvived,
    UnknownOutcomeLost,
    SidecarAheadOfDatabase,
    CleanShutdown,
    RejectedTwice,
    ReplacedByNoOp,
    FaultEio,
    FaultEnospc,
    FaultFailedSync,
    FaultKek,
    FaultInStart,
    RetriedInTheSameLife,
    FateDropped,
    FateTorn,
    CrashInRestore,
    CrashWithNothingWritten,
    FaultRegistryRead,
    CrashInDatabaseCreation,
    CrashBeforeDatabaseIsNamed,
    CrashBeforeDatabaseNameIsDurable,
    DuplicateCutover,
    DuplicateRetirement,
    DuplicateRewrap,
    CutOverStorage,
    CutOverRaft,
    Retired,
    Rewrapped,
    RewrappedUnderTheNext,
    ClaimMade,
    ClaimHeld,
    CrashInClaim,
    SealedByTheNode,
    EntrySealedByTheNode,
    FirstKekWithdrawn,
}

const PLACES: [&str; 47] = [
    "outcome/applied",
    "outcome/no-op",
    "outcome/rejected",
    "outcome/failed",
    "outcome/halted",
    "outcome/skipped",
    "no-op/duplicate-bootstrap",
    "no-op/duplicate-rotation",
    "no-op/duplicate-registration",
    "no-op/again-after-redelivery",
    "redelivery/database-kept",
    "redelivery/database-rolled-back",
    "redelivery/from-the-first-entry",
    "unknown-outcome/survived",
    "unknown-outcome/lost",
    "sidecar-ahead-of-database",
    "clean-shutdown",
    "rejected/again-after-restart",
    "rejected/replaced-by-no-op",
    "fault/eio",
    "fault/enospc",
    "fault/failed-sync",
    "fault/kek-out-of-reach",
    "fault/in-start",
    "retried-in-the-same-life",
    "fate/dropped",
    "fate/torn",
    "crash/in-restore",
    "crash/with-nothing-written",
    "fault/registry-read",
    "crash/database-creation",
    "crash/before-database-is-named",
    "crash/before-database-name-is-durable",
    "no-op/cutover-stale-or-repeated",
    "no-op/duplicate-retirement",
    "no-op/duplicate-rewrap",
    "sealing/storage-cutover",
    "sealing/raft-cutover",
    "sealing/key-retired",
    "sealing/keys-wrapped-anew",
    "sealing/keys-wrapped-by-the-next-kek",
    "claim/made",
    "claim/held",
    "claim/crash-in-it",
    "claim/value-sealed",
    "claim/entry-sealed",
    "sealing/first-kek-withdrawn",
];

const REASONS: [Reason; 29] = [
    Reason::Malformed,
    Reason::Version,
    Reason::Subtag,
    Reason::Opcode,
    Reason::ReservedKeyId,
    Reason::ReservedNodeId,
    Reason::WrappedLength,
    Reason::EqualIds,
    Reason::ForeignRow,
    Reason::EpochRollback,
    Reason::NodeCollision,
    Reason::BlobDoesNotOpen,
    Reason::EqualKeyBytes,
    Reason::AlreadyBootstrapped,
    Reason::NotBootstrapped,
    Reason::KeyIdInUse,
    Reason::UnknownKey,
    Reason::KekNotConfigured,
    Reason::WrongPurpose,
    Reason::NeedlessKey,
    Reason::NeedlessEpoch,
    Reason::KeyActive,
    Reason::KeyRetired,
    Reason::KekGeneration,
    Reason::KekNotInRing,
    Reason::RewrapKeys,
    Reason::OtherKeyBytes,
    Reason::ClearEntry,
    Reason::EntryDoesNotOpen,
];

const VERDICTS: [&str; 29] = [
    "verdict/malformed",
    "verdict/version",
    "verdict/subtag",
    "verdict/opcode",
    "verdict/reserved-key-id",
    "verdict/reserved-node-id",
    "verdict/wrapped-length",
    "verdict/equal-ids",
    "verdict/foreign-row",
    "verdict/epoch-rollback",
    "verdict/node-collision",
    "verdict/blob-does-not-open",
    "verdict/equal-key-bytes",
    "verdict/already-bootstrapped",
    "verdict/not-bootstrapped",
    "verdict/key-id-in-use",
    "verdict/unknown-key",
    "verdict/kek-not-configured",
    "verdict/wrong-purpose",
    "verdict/needless-key",
    "verdict/needless-epoch",
    "verdict/key-active",
    "verdict/key-retired",
    "verdict/kek-generation",
    "verdict/kek-not-in-ring",
    "verdict/rewrap-keys",
    "verdict/other-key-bytes",
    "verdict/clear-entry",
    "verdict/entry-does-not-open",
];

/// Places of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names in the table say it")]
pub enum ClusterPlace {
    SidecarLossRefused,
    WrongKekRefused,
    CommittedAndNotApplied,
    Halted,
    HaltedAgainAfterRestart,
    Smuggled,
    LeaderChanged,
    LeaderChangedBeforeApply,
    ElectionDuringRotation,
    SnapshotSent,
    SnapshotInstalled,
    CrashInInstall,
    LearnerCaughtUpBySnapshot,
    LogCompacted,
    MembershipChanged,
    MemberReplaced,
    RemovedMemberStepsAside,
    WrongNodeAsked,
    GateClosed,
    OneInFlight,
    FirstEntryPending,
    RetryAnswered,
    DuplicateAnswered,
    RequestRefused,
    MembersProbed,
    IncapableMember,
    ClientTimedOut,
    PowerLoss,
    ProcessCrash,
    CleanStop,
    CrashAtDiskCall,
    CrashInStart,
    AllPowerLost,
    LastRestart,
    FateDropped,
    FateTorn,
    DiskError,
    SlowDisk,
    LinkCut,
    Partition,
    LogDrained,
    Claimed,
    NotSealedYet,
    Resynced,
    SidecarLost,
    SidecarRolledBack,
    DiskLost,
    WriterIsBack,
    KekChanged,
    OldKekWithdrawn,
    MessageDropped,
    MessageDuplicated,
    MessageDelayed,
    MessageOvertaken,
    MessageCut,
}

const CLUSTER_PLACES: [&str; 55] = [
    "cluster/sidecar-loss-refused",
    "cluster/wrong-kek-refused",
    "cluster/crash-between-commit-and-apply",
    "cluster/halted",
    "cluster/halted-again-after-restart",
    "cluster/entry-smuggled-in",
    "cluster/leader-changed",
    "cluster/leader-changed-between-admit-and-apply",
    "cluster/election-during-rotation",
    "cluster/snapshot-sent",
    "cluster/snapshot-installed",
    "cluster/crash-in-snapshot-install",
    "cluster/learner-caught-up-by-snapshot",
    "cluster/log-compacted",
    "cluster/membership-changed",
    "cluster/member-replaced",
    "cluster/removed-member-steps-aside",
    "cluster/wrong-node-asked",
    "cluster/mutator-gate-closed",
    "cluster/request-waits-for-the-one-in-flight",
    "cluster/request-waits-for-the-first-entry",
    "cluster/retried-request-answered",
    "cluster/duplicate-answered-without-proposing",
    "cluster/request-refused",
    "cluster/members-probed",
    "cluster/incapable-member",
    "cluster/client-timed-out",
    "cluster/power-loss",
    "cluster/process-crash",
    "cluster/clean-stop",
    "cluster/crash-at-a-disk-call",
    "cluster/crash-in-start",
    "cluster/whole-cluster-power-loss",
    "cluster/last-restart",
    "cluster/fate/dropped",
    "cluster/fate/torn",
    "cluster/fault/disk-error",
    "cluster/fault/slow-disk",
    "cluster/fault/one-way-cut",
    "cluster/fault/partition",
    "cluster/log-drained",
    "cluster/claimed",
    "cluster/not-sealed-yet",
    "cluster/sidecar-resynced",
    "cluster/fault/sidecar-lost",
    "cluster/fault/sidecar-rolled-back",
    "cluster/fault/disk-lost",
    "cluster/writer-is-back-on-an-empty-disk",
    "cluster/fault/kek-changed",
    "cluster/old-kek-withdrawn",
    "cluster/message/dropped",
    "cluster/message/duplicated",
    "cluster/message/delayed",
    "cluster/message/overtaken",
    "cluster/message/cut",
];

const fn joined<const N: usize>(parts: [&[&'static str]; 4]) -> [&'static str; N] {
    let mut all = [""; N];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            all[at] = parts[part][i];
            at += 1;
            i += 1;
        }
        part += 1;
    }
    assert!(at == N, "every name has its place");
    all
}

/// Names of the probes of all worlds.
pub static TABLE: [&str; MATRIX.len() + PLACES.len() + VERDICTS.len() + CLUSTER_PLACES.len()] =
    joined([&MATRIX, &PLACES, &VERDICTS, &CLUSTER_PLACES]);

/// Index of a cell of the crash matrix.
pub const fn crash(step: Step, ending: Ending) -> usize {
    step as usize * 5 + ending as usize
}

/// Index of a single place.
pub const fn place(place: Place) -> usize {
    MATRIX.len() + place as usize
}

/// Index of a reason, if a world probes it.
pub fn verdict(reason: Reason) -> Option<usize> {
    let at = REASONS.iter().position(|known| *known == reason)?;
    Some(MATRIX.len() + PLACES.len() + at)
}

/// Index of a place of a cluster.
pub const fn cluster_place(place: ClusterPlace) -> usize {
    MATRIX.len() + PLACES.len() + VERDICTS.len() + place as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_leads_to_its_own_name() {
        let crash = crash(Step::SidecarRename, Ending::ProcessThenPower);
        assert_eq!(TABLE[crash], "crash/sidecar-rename/process-crash-then-power-loss");
        assert_eq!(TABLE[place(Place::CrashInRestore)], "crash/in-restore");
        assert_eq!(TABLE[cluster_place(ClusterPlace::MessageCut)], "cluster/message/cut");
        assert_eq!(TABLE[cluster_place(ClusterPlace::Halted)], "cluster/halted");
        for reason in REASONS {
            let name = TABLE[verdict(reason).expect("in the table")];
            assert_eq!(name, format!("verdict/{}", reason.name()));
        }
    }
}
