//! Our applier as a subject.

use std::borrow::Cow;
use std::sync::Arc;

use applier::admission::{Admission, Capability};
use applier::apply::{RestoreError, open_database};
use applier::envelope::storage;
use applier::kek::KekRing;
use applier::ports::{Files, Kek};
use applier::registry::{Clash, HostRefused, Local};
use applier::sidecar::{SidecarContent, json};
use applier::wire::WireError;
use applier::{
    Applier, ApplyError, Claim, ClaimError, Config, HaltCause, InstallError, KekCheck, KeyringConfig, NoOp,
    NodeId, OpenError, Outcome, Purpose, RaftIndex, Reject, ResyncError, Snapshot, StartError,
};
use redb::{Database, WriteTransaction};

use super::host::{read_data, read_sessions, replace_data, replace_sessions, write_data};
use super::member::{Admitted, Handed, Host, Member, MemberSnapshot};
use super::{
    Claimed, DATABASE, Delivered, Held, HostSnapshot, Keys, Life, SIDECAR, SidecarKey, SidecarView,
    Surroundings,
};
use crate::model::{Reason, Verdict};
use crate::seam::{FixedClock, HostsData, SimRegistry};

struct Hardened<F: Files, R: HostsData>(Applier<F, R>);

fn config(world: &Surroundings, kek: Arc<dyn Kek>) -> Config {
    let sidecar = SIDECAR.to_owned();
    Config {
        node: NodeId::new(world.node).expect("not 0"),
        database: DATABASE.to_owned(),
        keyring: world.keyring.then(|| KeyringConfig { kek: ring(world, kek), sidecar }),
        known: applier::Known::default(),
    }
}

/// One KEK, or where another one is to take its place both.
fn ring(world: &Surroundings, kek: Arc<dyn Kek>) -> KekRing {
    match &world.next_kek {
        None => KekRing::new(kek),
        Some(next) => KekRing::new(Arc::clone(next) as _).with_previous(kek),
    }
}

/// Starts on the ports of a world.
pub(crate) fn start(world: &Surroundings) -> Result<Box<dyn Life>, StartError> {
    Ok(start_member(world)?)
}

/// The same, as a member of a cluster.
pub(crate) fn start_member(world: &Surroundings) -> Result<Box<dyn Member>, StartError> {
    start_on(world, world.files.clone(), Arc::clone(&world.kek) as _, |registry| registry)
}

/// Writes the sidecar of a node anew that does not run, from another one's snapshot.
///
/// # Errors
/// Those of the applier's own.
pub(crate) fn resync(world: &Surroundings, snapshot: &Snapshot) -> Result<(), ResyncError> {
    let config = config(world, Arc::clone(&world.kek) as _);
    let registry = open_database(&world.files, &config).map_err(ResyncError::Read)?;
    applier::resync(&world.files, &registry, &config, snapshot)
}

/// Starts on other ports than the world's own, each of which may stand in front of the world's.
pub(crate) fn start_on<F, R>(
    world: &Surroundings,
    files: F,
    kek: Arc<dyn Kek>,
    in_front: impl FnOnce(SimRegistry) -> R,
) -> Result<Box<dyn Member>, StartError>
where
    F: Files + 'static,
    R: HostsData + 'static,
{
    let config = config(world, kek);
    let clock = Arc::new(FixedClock(world.unix_seconds));
    let redb = open_database(&files, &config)?;
    let registry = in_front(SimRegistry::new(redb, Arc::clone(&world.reads)));
    Ok(Box::new(Hardened(Applier::start(files, registry, &config, clock)?)))
}

impl<F: Files, R: HostsData> Life for Hardened<F, R> {
    fn deliver(&mut self, index: u64, payload: &[u8]) -> Delivered {
        delivered(self.0.apply(RaftIndex(index), payload))
    }

    fn advance(&mut self, index: u64, data: Option<(u64, &[u8])>) -> Delivered {
        delivered(self.0.advance(RaftIndex(index), &mut |transaction| match data {
            Some((key, value)) => write_data(transaction, key, value),
            None => Ok(()),
        }))
    }

    fn restore(&mut self, snapshot: &HostSnapshot) -> Result<(), String> {
        let data = &snapshot.data;
        self.0
            .restore(&snapshot.registry, &mut |transaction| replace_data(transaction, data))
            .map_err(|error: RestoreError| error.to_string())
    }

    fn resume_after(&self) -> Option<u64> {
        Some(self.0.applied_index().0)
    }

    fn database(&self) -> Result<HostSnapshot, String> {
        let registry = self.0.registry().snapshot().map_err(|error| error.to_string())?;
        Ok(HostSnapshot { registry, data: read_data(self.0.registry().redb().database())? })
    }

    fn sidecar(&self, bytes: &[u8]) -> Result<SidecarView, String> {
        match json::decode(bytes) {
            Err(error) => Err(error.to_string()),
            Ok(SidecarContent::Foreign(_)) => Err("written by something else".to_owned()),
            Ok(SidecarContent::Ours(sidecar)) => Ok(SidecarView {
                storage_cutover: sidecar.cutovers.storage.map(|name| name.raft_index.0),
                raft_cutover: sidecar.cutovers.raft.map(|name| name.raft_index.0),
                retired: sidecar
                    .retired
                    .iter()
                    .map(|(id, stone)| {
                        let (by, at) = (stone.installed.raft_index.0, stone.retired.raft_index.0);
                        (id.get(), (stone.purpose, by, at))
                    })
                    .collect(),
                kek: sidecar.kek().map(|kek| (sidecar.generation(), kek.0)),
                active: (sidecar.active.storage.get(), sidecar.active.raft.get()),
                keys: sidecar
                    .keys
                    .into_iter()
                    .map(|(id, key)| {
                        let (purpose, wrapped, created) = (key.purpose, key.wrapped, key.created);
                        let local_epoch = key.local_epoch.0;
                        (id.get(), SidecarKey { purpose, wrapped, created, local_epoch })
                    })
                    .collect(),
            }),
        }
    }

    fn keys(&self) -> Keys {
        let keystore = self.0.keystore();
        let key = |id: applier::DekId| (id.get(), *keystore.dek(id).expect("listed a moment ago").expose());
        keystore.ids().into_iter().map(key).collect()
    }

    fn local(&self) -> Local {
        self.0.registry().local().unwrap_or_default()
    }

    fn can_withdraw_kek(&self) -> bool {
        self.0.kek_status().is_ok_and(|status| status.withdrawable.is_some())
    }

    fn read(&self, key: u64, stored: &[u8]) -> Result<u64, String> {
        let cipher = self.0.cipher();
        let (_, value) =
            storage::read(&cipher, &key.to_be_bytes(), stored).map_err(|error| error.to_string())?;
        let value = value.as_ref().try_into().map_err(|_| "it has another length".to_owned())?;
        Ok(u64::from_be_bytes(value))
    }

    fn claim(&mut self, term: u64, purpose: Purpose) -> Claimed {
        match self.0.claim(term, purpose) {
            Ok(Claim::Held(_)) => Claimed::Held,
            Ok(Claim::Propose(payload)) => Claimed::Propose(payload),
            Err(ClaimError::Halted(cause)) => Claimed::Halted(halted(&cause).to_string()),
            Err(error) => Claimed::No(error.to_string()),
        }
    }

    fn seal_value(&mut self, term: u64, key: u64, value: u64) -> Option<Vec<u8>> {
        self.0.seal_value(term, 0, &key.to_be_bytes(), &value.to_be_bytes()).ok()
    }

    fn seal_entry(&mut self, term: u64, entry: &[u8]) -> Option<Vec<u8>> {
        self.0.seal_entry(term, entry).ok().map(Cow::into_owned)
    }

    fn is_sealing(&self, purpose: Purpose) -> bool {
        self.0.cutover(purpose) > RaftIndex::ZERO
    }

    fn open_entry(&self, index: u64, entry: &[u8]) -> Result<Vec<u8>, Delivered> {
        let opened = self.0.open_entry(RaftIndex(index), entry);
        opened.map(Cow::into_owned).map_err(|reject| Delivered::Decided(Verdict::Rejected(reason(&reject))))
    }

    fn held(&self) -> Held {
        Held {
            sidecar: self.0.sidecar().cloned(),
            applied: self.0.applied_index().0,
            poisoned: self.0.is_poisoned(),
        }
    }
}

impl<F: Files, R: HostsData> Member for Hardened<F, R> {
    fn shared(&self) -> Arc<Database> {
        Arc::clone(self.0.registry().redb().database())
    }

    fn apply(&mut self, index: u64, handed: Handed<'_>, host: Host<'_>) -> Delivered {
        let index = RaftIndex(index);
        delivered(match handed {
            Handed::Nothing => self.0.advance(index, host),
            Handed::Write(key, stored) => self.0.advance(index, &mut |transaction| {
                write_data(transaction, key, stored)?;
                host(transaction)
            }),
            Handed::Entry(payload) => self.0.apply_with(index, payload, host),
        })
    }

    fn member_rows(&self, node: u64, members: &[u64]) -> Result<Vec<Vec<u8>>, String> {
        self.0.member_rows(member_id(node), &member_ids(members)).map_err(|error| error.to_string())
    }

    fn kek_generation(&self) -> u32 {
        self.0.sidecar().map_or(0, |sidecar| sidecar.generation())
    }

    fn admit(&self, payload: &[u8], members: &[u64]) -> Admitted {
        match self.0.admit(payload, &member_ids(members)) {
            Admission::Propose => Admitted::Propose,
            Admission::Duplicate { by, .. } => Admitted::Duplicate(by.map(|index| index.0)),
            Admission::Refused(reject) => Admitted::Refused(reason(&reject)),
            Admission::Stale => Admitted::Stale,
            Admission::Collides(_) => Admitted::Collides,
            Admission::Failed(error) => Admitted::Failed(failure(&error).to_owned()),
        }
    }

    fn capability(&self) -> Result<Capability, String> {
        self.0.capability().map_err(|error| error.to_string())
    }

    fn promise(&mut self, leader: KekCheck, generation: u32) -> Result<Capability, String> {
        self.0.promise(leader, generation).map_err(|error| error.to_string())
    }

    fn capture(&self) -> Result<Option<MemberSnapshot>, String> {
        let machine = match self.0.snapshot() {
            Ok(machine) => machine,
            Err(ApplyError::SidecarAhead { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let database = self.0.registry().redb().database();
        let (data, sessions) = (read_data(database)?, read_sessions(database)?);
        Ok(Some(MemberSnapshot { machine, data, sessions }))
    }

    fn install(&mut self, snapshot: &MemberSnapshot, host: Host<'_>) -> Result<(), Delivered> {
        let mut host = |transaction: &WriteTransaction| replace_host_part(transaction, snapshot, host);
        self.0.install(&snapshot.machine, &mut host).map_err(|error| match error {
            InstallError::Halted(cause) => halted(&cause),
            error => Delivered::Failed(format!("snapshot: {error}")),
        })
    }
}

/// Everything of the host's that a snapshot replaces, and what the host adds to it.
pub(super) fn replace_host_part(
    transaction: &WriteTransaction,
    snapshot: &MemberSnapshot,
    host: Host<'_>,
) -> Result<(), HostRefused> {
    replace_data(transaction, &snapshot.data)?;
    replace_sessions(transaction, &snapshot.sessions)?;
    host(transaction)
}

fn halted(cause: &HaltCause) -> Delivered {
    Delivered::Halted(match cause {
        HaltCause::Sidecar(fault) => format!("sidecar write: {}", fault.fault.call),
        HaltCause::Commit(_) => "registry commit".to_owned(),
    })
}

fn delivered(outcome: Outcome) -> Delivered {
    match outcome {
        Outcome::Applied => Delivered::Decided(Verdict::Applied),
        Outcome::NoOp(NoOp::AlreadyApplied) => Delivered::Skipped,
        Outcome::NoOp(_) => Delivered::Decided(Verdict::NoOp),
        Outcome::Rejected(reject) => Delivered::Decided(Verdict::Rejected(reason(&reject))),
        Outcome::Failed(error) => Delivered::Failed(failure(&error).to_owned()),
        Outcome::Halted(cause) => halted(&cause),
    }
}

/// A failure without what varies, as fingerprints need it.
fn failure(error: &ApplyError) -> &'static str {
    match error {
        ApplyError::Registry(_) => "registry read",
        ApplyError::KekUnavailable(_) => "kek unavailable",
        ApplyError::KekMissing { .. } => "kek missing",
        ApplyError::Keystore(_) => "keystore conflict",
        ApplyError::Poisoned => "poisoned",
        ApplyError::Foreign => "foreign sidecar",
        ApplyError::SidecarAhead { .. } => "sidecar ahead",
        ApplyError::IndexGap { .. } => "index gap",
        ApplyError::DifferentEntry { .. } => "different entry",
    }
}

fn reason(reject: &Reject) -> Reason {
    match reject {
        Reject::Wire(WireError::Version { .. }) => Reason::Version,
        Reject::Wire(WireError::Subtag { .. }) => Reason::Subtag,
        Reject::Wire(WireError::Opcode { .. }) => Reason::Opcode,
        Reject::Wire(_) => Reason::Malformed,
        Reject::ReservedKeyId => Reason::ReservedKeyId,
        Reject::ReservedNodeId => Reason::ReservedNodeId,
        Reject::WrappedLength { .. } => Reason::WrappedLength,
        Reject::KekNotConfigured => Reason::KekNotConfigured,
        Reject::EqualIds(_) => Reason::EqualIds,
        Reject::ForeignRow { .. } => Reason::ForeignRow,
        Reject::Registration(Clash::EpochRollback { .. }) => Reason::EpochRollback,
        Reject::Registration(Clash::NodeCollision { .. }) => Reason::NodeCollision,
        Reject::BlobDoesNotOpen { .. } => Reason::BlobDoesNotOpen,
        Reject::EqualKeyBytes(..) => Reason::EqualKeyBytes,
        Reject::AlreadyBootstrapped { .. } => Reason::AlreadyBootstrapped,
        Reject::NotBootstrapped => Reason::NotBootstrapped,
        Reject::KeyIdInUse { .. } => Reason::KeyIdInUse,
        Reject::UnknownKey(_) => Reason::UnknownKey,
        Reject::OtherPurpose { .. } => Reason::WrongPurpose,
        Reject::NeedlessKey { .. } => Reason::NeedlessKey,
        Reject::NeedlessEpoch { .. } => Reason::NeedlessEpoch,
        Reject::KeyActive(_) => Reason::KeyActive,
        Reject::KeyRetired { .. } => Reason::KeyRetired,
        Reject::KekGeneration { .. } => Reason::KekGeneration,
        Reject::KekNotInRing { .. } => Reason::KekNotInRing,
        Reject::RewrapKeys { .. } => Reason::RewrapKeys,
        Reject::RewrapBytes(_) => Reason::OtherKeyBytes,
        Reject::Sealed(OpenError::Envelope(_)) => Reason::ClearEntry,
        Reject::Sealed(OpenError::Cipher(_)) => Reason::EntryDoesNotOpen,
    }
}

fn member_id(id: u64) -> NodeId {
    NodeId::new(id).expect("no member has id 0")
}

fn member_ids(members: &[u64]) -> Vec<NodeId> {
    members.iter().copied().map(member_id).collect()
}
