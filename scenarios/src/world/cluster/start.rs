//! How a life of a member begins: the state machine first, then Raft on top of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::RawNode;
use raft::eraftpb::{ConfState, Snapshot};
use redb::WriteTransaction;
use sim::Site;

use super::desk::Desk;
use super::elections::raft_config;
use super::replica::{Core, Gone, Remains, Replica, broken};
use super::shared::{Books, Ended, Keyring, Shared, Slot};
use super::store::Store;
use crate::chronicle::ClusterEvent;
use crate::coverage::{Outcome, Phase};
use crate::history::{Event, Moment};
use crate::probes::ClusterPlace;
use crate::seam::SimFiles;
use crate::subject::host::{Sessions, read_sessions, refusable};
use crate::subject::{Handed, Member, MemberSnapshot, Surroundings, bury};
use crate::world::look;
use crate::world::node::refusal_name;

const WITHDRAWS: Site = Site::new("start.withdraws-kek");

/// Starts a life, or says how it ended.
pub(super) fn start(shared: &Arc<Shared>, at: usize) -> Result<Replica, Ended> {
    let mut books = shared.books();
    let slot = &mut books.slots[at];
    slot.lives += 1;
    slot.phase = Phase::Start;
    slot.fault_op = None;
    slot.fault_armed = false;
    slot.stop = false;
    slot.halted = None;
    slot.applied = 0;
    let (id, lives, founder, robbed) = (slot.id, slot.lives, slot.founder, slot.robbed);
    let disk = slot.disk.clone();
    let keyring = slot.keyring;
    let surroundings = surroundings(shared, &mut books, at);
    drop(books);
    shared.note(id, "start", [id, lives, 0], || format!("{id:x}, life {lives}"));
    let started = shared.setup.subject.start_member(&surroundings);
    if disk.is_dead() {
        if let Ok(member) = started {
            bury(member);
        }
        shared.books().hit(ClusterPlace::CrashInStart);
        return Err(Ended::Died);
    }
    let mut books = shared.books();
    let faulted = books.take_fault(at);
    let member = match started {
        Ok(member) => member,
        Err(error) => {
            let why = refusal_name(&error).to_owned();
            shared.note(id, "refused", [id, 0, 0], || error.to_string());
            return Err(refused(&mut books, at, why, faulted));
        }
    };
    look::show_memory(&shared.trace.of(id), member.as_ref());
    if robbed {
        books.push(ClusterEvent::StartedWithoutItsSidecar { node: id, refusal: None });
        books.slots[at].robbed = false;
    }
    drop(books);
    let replica = Replica::wake(shared, at, (id, lives, founder, keyring), member);
    replica.map_err(|gone| how_it_ended(shared, at, gone))
}

/// What a member is started in, by whoever does.
pub(super) fn surroundings(shared: &Shared, books: &mut Books, at: usize) -> Surroundings {
    let Slot { writer, lives, keyring, withdraws, .. } = books.slots[at];
    let mut kek = match keyring {
        Keyring::Other => Arc::clone(&books.other_kek),
        Keyring::Right | Keyring::None => Arc::clone(books.lookout.kek()),
    };
    let ring = shared.news.ring && keyring == Keyring::Right;
    let mut next_kek = ring.then(|| Arc::clone(books.lookout.next_kek()));
    if withdraws && ring && shared.draw(|choices| choices.draw(WITHDRAWS, 2)) == 1 {
        books.hit(ClusterPlace::OldKekWithdrawn);
        kek = next_kek.take().expect("there is a ring");
    }
    Surroundings {
        node: writer,
        files: SimFiles::new(books.slots[at].disk.mount()),
        kek,
        next_kek,
        reads: Arc::default(),
        unix_seconds: 1_700_000_000 + 60 * lives,
        keyring: keyring != Keyring::None,
        past: Arc::default(),
    }
}

/// How a life has ended by itself. Where nothing has gone wrong with its disk, it has no reason to.
pub(super) fn how_it_ended(shared: &Shared, at: usize, gone: Gone) -> Ended {
    let Gone(what) = gone;
    let mut books = shared.books();
    let faulted = books.take_fault(at);
    let (id, dead) = (books.slots[at].id, books.slots[at].disk.is_dead());
    if std::mem::take(&mut books.slots[at].guarded) {
        return Ended::Refused;
    }
    if !dead && !faulted {
        shared.note(id, "died", [id, 0, 0], || (*what).to_owned());
        books.remember(id, Event::StartRefused { why: format!("died of {what}"), faulted });
    }
    Ended::Died
}

/// A start that was refused: expected of a node without its sidecar, or with another KEK than the cluster's.
fn refused(books: &mut Books, at: usize, why: String, faulted: bool) -> Ended {
    books.came_to(at, if faulted { Outcome::CutOff } else { Outcome::Refused });
    let slot = &books.slots[at];
    let (id, robbed, keyring) = (slot.id, slot.robbed, slot.keyring);
    let expected = match why.as_str() {
        "sidecar-missing" | "sidecar-stale" | "epoch-behind" if robbed => {
            books.hit(ClusterPlace::SidecarLossRefused);
            books.push(ClusterEvent::StartedWithoutItsSidecar { node: id, refusal: Some(why.clone()) });
            true
        }
        "kek-mismatch" | "other-kek" => keyring == Keyring::Other,
        "keyring-required" | "keyring-promised" => keyring == Keyring::None,
        _ => false,
    };
    if expected && keyring != Keyring::Right {
        books.hit(ClusterPlace::WrongKekRefused);
    }
    if expected {
        return Ended::Refused;
    }
    books.remember(id, Event::StartRefused { why, faulted });
    if faulted { Ended::Died } else { Ended::Refused }
}

impl Replica {
    /// Raft on top of a state machine that has started.
    fn wake(
        shared: &Arc<Shared>,
        at: usize,
        (id, lives, founder, keyring): (u64, u64, bool, Keyring),
        mut member: Box<dyn Member>,
    ) -> Result<Replica, Gone> {
        let (store, applied, sessions) = match below_raft(shared, founder, member.as_mut()) {
            Ok(below) => below,
            Err(gone) => {
                bury(member);
                return Err(gone);
            }
        };
        let hard = store.hard().clone();
        let removed = !store.conf().voters.is_empty() && !is_member(store.conf(), id);
        let config = raft_config(id, applied, shared.quiet_commits);
        let raw = RawNode::new(&config, store, &slog::Logger::root(slog::Discard, slog::o!()));
        let raw = raw.expect("the configuration is valid, and what the store has was loaded");
        let mut books = shared.books();
        // One that refuses its next entry is committed further than it has applied for good.
        let refuses = books.slots[at].refusal.as_ref().is_some_and(|(refused, _)| *refused == applied + 1);
        if hard.commit > applied && !refuses {
            books.hit(ClusterPlace::CommittedAndNotApplied);
        }
        books.slots[at].applied = applied;
        books.slots[at].phase = Phase::Raft;
        books.came_to_life(at, shared.setup.subject.keeps_index().then_some(applied));
        // A subject without an index has gone back on purpose, and is looked at when it has caught up.
        if shared.setup.subject.keeps_index() {
            books.observe(at, applied, member.as_ref(), Moment::Started);
            books.reached(at, applied);
        }
        drop(books);
        let core = Remains::new(Core { raw, member });
        let replica = Replica {
            shared: Arc::clone(shared),
            slot: at,
            id,
            core,
            desk: Desk::new(sessions),
            applied,
            halted: false,
            removed,
            keyring,
            lives,
            committed_at_start: hard.commit,
            hard,
            led: 0,
            snapshots: BTreeMap::new(),
            outbox: Vec::new(),
            since_look: 0,
            replayed: false,
        };
        replica.note_log_start();
        Ok(replica)
    }
}

/// Whether a node belongs to a membership, with a vote or without.
pub(super) fn is_member(conf: &ConfState, id: u64) -> bool {
    conf.voters.contains(&id) || conf.learners.contains(&id)
}

/// What Raft stands on: its log, the index that the state machine has applied, and the clients' sessions.
fn below_raft(
    shared: &Shared,
    founder: bool,
    member: &mut dyn Member,
) -> Result<(Store, u64, Sessions), Gone> {
    let mut store = match Store::open(member.shared()).map_err(broken("store"))? {
        Some(store) => store,
        None if founder => found(shared, member)?,
        None => Store::blank(member.shared()),
    };
    let applied = match (shared.setup.subject.keeps_index(), member.resume_after()) {
        (true, resume) => resume.expect("the subject keeps an index"),
        // Its database is not behind its newest snapshot, and stays as it is.
        (false, Some(resume)) if resume > 0 && resume >= store.snapshot_index() => resume,
        (false, _) => go_back(member, &mut store)?,
    };
    let sessions = read_sessions(&member.shared()).map_err(broken("sessions"))?;
    Ok((store, applied, sessions))
}

/// The first entry of a founding member is the foundation itself: a snapshot of nothing at index 1, so that whoever joins
/// later has to catch up by a snapshot, which tells it who the members are.
fn found(shared: &Shared, member: &mut dyn Member) -> Result<Store, Gone> {
    let mut content =
        member.capture().map_err(broken("capture"))?.expect("before its foundation it has no sidecar");
    content.machine.registry.applied_index = applier::RaftIndex(1);
    let mut snapshot = Snapshot { data: content.encode().into(), ..Snapshot::default() };
    let founders = shared.books().founders();
    let metadata = snapshot.mut_metadata();
    metadata.index = 1;
    metadata.term = 1;
    metadata.mut_conf_state().voters = founders;
    let mut host = |transaction: &WriteTransaction| refusable(|| Store::found(transaction, &snapshot));
    if !member.apply(1, Handed::Nothing, &mut host).advances() {
        return Err(Gone("foundation"));
    }
    Store::open(member.shared()).map_err(broken("store"))?.ok_or(Gone("foundation"))
}

/// A subject without an index goes back to its newest local snapshot, and everything later is delivered again.
fn go_back(member: &mut dyn Member, store: &mut Store) -> Result<u64, Gone> {
    let kept = store.kept().clone();
    if kept.is_empty() {
        return Ok(0);
    }
    let content = MemberSnapshot::decode(&kept.data).expect("a member has encoded it");
    member.install(&content, &mut |_| Ok(())).map_err(broken("restore"))?;
    store.set_conf(kept.get_metadata().get_conf_state().clone());
    Ok(kept.get_metadata().index)
}
