//! Where requests arrive: who is refused, who has to wait, and what a leader proposes.
//!
//! A leader asks a quorum whether it still leads before it judges an administrative request, so that nobody is refused on
//! the word of a leader that has long been replaced. Then it judges and proposes in one step: nothing that its log holds
//! beyond what it has applied changes the verdict, since no other administrative request is in flight.

use std::collections::BTreeMap;

use applier::admission::{Leadership, MutatorGate, NotNow};
use applier::{KekCheck, Purpose, RaftIndex};
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType};
use sim::Address;

use super::message::{Answer, Change, Message, Request, Wish, context_bytes};
use super::replica::{Gone, Replica, broken};
use super::shared::{Keyring, OnItsWay};
use crate::chronicle::{Asked, Refusal, Told};
use crate::form::{Form, Kind};
use crate::history::Event;
use crate::model::{Reason, Rules};
use crate::probes::ClusterPlace;
use crate::sealing::{self, envelope_of};
use crate::subject::host::Sessions;
use crate::subject::{Admitted, Claimed};
use crate::teeth::ClusterMistake;

/// A learner that lacks more entries than this gets no vote yet.
const PROMOTION_LAG_MAX: u64 = 3;

/// Ticks for which a leader takes no value, where a request has to have the log to itself.
const DRAIN_TICKS: u64 = 12;

/// A member's side of the requests.
pub(super) struct Desk {
    pub(super) leadership: Leadership,
    pub(super) sessions: Sessions,
    /// Requests that wait for a quorum to confirm the leader, by the number of their question.
    asked: BTreeMap<u64, Request>,
    /// Those that were confirmed, and the index that has to be applied before they are judged.
    confirmed: Vec<(u64, Request)>,
    questions: u64,
    /// A cutover that this leader has proposed: nothing is proposed behind it until it is applied, since it would have to be
    /// sealed and is not yet.
    cutover: Option<u64>,
    /// Ticks for which no value is taken, so that a request gets its turn that must have nothing beside it in flight.
    drains: u64,
    /// Who is to be told when an entry was applied.
    waiting: BTreeMap<u64, (Asked, Address)>,
}

impl Desk {
    pub(super) fn new(sessions: Sessions) -> Desk {
        Desk {
            leadership: Leadership::new(),
            sessions,
            asked: BTreeMap::new(),
            confirmed: Vec::new(),
            questions: 0,
            cutover: None,
            drains: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// The term that this node leads in, if it does.
    pub(super) fn leads(&mut self, term: Option<u64>) {
        if self.leadership.leading().ok() != term {
            self.asked.clear();
            self.confirmed.clear();
            self.cutover = None;
            self.drains = 0;
        }
        self.leadership.leads(term);
    }

    /// Time goes on by a tick.
    pub(super) fn tick(&mut self) {
        self.drains = self.drains.saturating_sub(1);
    }

    /// A snapshot has taken the place of the entries up to `index`: whoever waits for one of them has to ask again.
    pub(super) fn forget_up_to(&mut self, index: u64) {
        self.waiting.retain(|waits_for, _| *waits_for > index);
    }

    /// A quorum has confirmed the leader, which had committed everything up to `index` when it asked.
    pub(super) fn confirmed(&mut self, question: &[u8], index: u64) {
        let question = question.try_into().map(u64::from_be_bytes).unwrap_or_default();
        if let Some(request) = self.asked.remove(&question) {
            self.confirmed.push((index, request));
        }
    }
}

impl Replica {
    fn answer(&self, to: Address, asked: Asked, answer: Answer) {
        self.shared.send(self.id, to.0, Message::Answer { asked, answer });
    }

    fn tell(&self, request: &Request, told: Told) {
        self.answer(request.from, request.asked, Answer::Told(told));
    }

    fn refuse(&self, request: &Request, why: Refusal) {
        self.tell(request, Told::Refused { why, at: self.applied });
    }

    fn not_yet(&self, request: &Request) {
        self.answer(request.from, request.asked, Answer::NotYet);
    }

    /// An entry was applied: whoever waits for it is told, and the next request may come.
    pub(super) fn answer_applied(&mut self, term: u64, index: u64, asked: Asked) {
        if asked.client != 0 {
            let session = self.desk.sessions.entry(asked.client).or_default();
            if session.0 < asked.number {
                *session = (asked.number, index);
            }
        }
        self.desk.leadership.applied(RaftIndex(index), term);
        if self.desk.cutover.is_some_and(|cutover| cutover <= index) {
            self.desk.cutover = None;
        }
        if let Some((waits, to)) = self.desk.waiting.remove(&index)
            && waits == asked
        {
            self.answer(to, asked, Answer::Told(Told::Done(Some(index))));
        }
    }

    /// A request arrives.
    pub(super) fn take_request(&mut self, request: Request) -> Result<(), Gone> {
        let leads = self.desk.leadership.leading().is_ok();
        if !leads && self.shared.makes(ClusterMistake::ForwardsProposals) && self.core.raw.raft.leader_id != 0
        {
            return self.decide(request);
        }
        if !leads {
            let hint = self.core.raw.raft.leader_id;
            self.shared.books().hit(ClusterPlace::WrongNodeAsked);
            self.answer(request.from, request.asked, Answer::NotLeader { hint });
            return Ok(());
        }
        if self.is_done() {
            self.not_yet(&request);
            return Ok(());
        }
        if self.answered_before(&request) {
            return Ok(());
        }
        if let Wish::Put { .. } = request.wish {
            // Before it has applied what came before its term, it does not know what was done already.
            let blocked = self.desk.leadership.ready().is_err() || self.desk.drains > 0;
            if self.shared.setup.subject.admits() && blocked {
                self.not_yet(&request);
            } else if !self.desk.waiting.values().any(|(waits, _)| *waits == request.asked) {
                self.propose(&request);
            }
            return Ok(());
        }
        if !self.shared.setup.subject.admits() {
            return self.decide(request);
        }
        if let Err(why) = self.may_propose() {
            self.shared.books().hit(match why {
                NotNow::InFlight { .. } => ClusterPlace::OneInFlight,
                _ => ClusterPlace::FirstEntryPending,
            });
            self.not_yet(&request);
            return Ok(());
        }
        if self.desk.leadership.ready().is_err() {
            // Only a leader that does not wait comes here, and there is no quorum to ask yet.
            return self.decide(request);
        }
        self.desk.questions += 1;
        let question = self.desk.questions;
        self.desk.asked.insert(question, request);
        self.core.raw.read_index(question.to_be_bytes().to_vec());
        Ok(())
    }

    fn gate(&self) -> MutatorGate {
        let enabled = self.shared.books().slots[self.slot].enabled;
        let keyring = self.keyring != Keyring::None;
        MutatorGate { enabled, kek: keyring, sidecar: keyring }
    }

    /// A request that was applied gets the answer of the first time; one from before it is of nobody's interest.
    fn answered_before(&self, request: &Request) -> bool {
        if self.shared.makes(ClusterMistake::ForgetsSessions) {
            return false;
        }
        let Asked { client, number } = request.asked;
        let Some((newest, index)) = self.desk.sessions.get(&client).copied() else { return false };
        if newest == number {
            self.shared.books().hit(ClusterPlace::RetryAnswered);
            self.tell(request, Told::Done(Some(index)));
        }
        newest >= number
    }

    fn may_propose(&self) -> Result<(), NotNow> {
        let leadership = &self.desk.leadership;
        leadership.leading()?;
        if !self.shared.makes(ClusterMistake::DoesNotWait) {
            leadership.ready()?;
        }
        if !self.shared.makes(ClusterMistake::ManyInFlight) {
            leadership.free()?;
        }
        Ok(())
    }

    /// Judges what a quorum has confirmed, as soon as everything is applied that was committed then.
    pub(super) fn decide_confirmed(&mut self) -> Result<(), Gone> {
        let applied = self.applied;
        let due: Vec<Request> =
            self.desk.confirmed.extract_if(.., |(index, _)| *index <= applied).map(|(_, due)| due).collect();
        due.into_iter().try_for_each(|request| self.decide(request))
    }

    /// The last look and the proposal, in one step.
    fn decide(&mut self, request: Request) -> Result<(), Gone> {
        if self.is_done() {
            self.not_yet(&request);
            return Ok(());
        }
        if self.answered_before(&request) {
            return Ok(());
        }
        let forwards = self.shared.makes(ClusterMistake::ForwardsProposals);
        if self.shared.setup.subject.admits() && !forwards && self.may_propose().is_err() {
            self.not_yet(&request);
            return Ok(());
        }
        if self.shared.setup.subject.admits()
            && matches!(request.wish, Wish::Admin { .. })
            && self.gate().check().is_err()
        {
            self.shared.books().hit(ClusterPlace::GateClosed);
            self.refuse(&request, Refusal::Closed);
            return Ok(());
        }
        match &request.wish {
            Wish::Put { .. } => self.propose(&request),
            Wish::Admin { form, payload } => match self.core.member.admit(payload, &self.writers()) {
                Admitted::Propose if matches!(form, Form::Bootstrap { .. }) => {
                    let members = self.members();
                    if self.are_capable(&request, &members, None)? {
                        self.propose(&request);
                    }
                }
                Admitted::Propose if matches!(form, Form::Rewrap { .. }) => {
                    let Form::Rewrap { kek, .. } = form else { unreachable!("it was matched") };
                    let (members, kek) = (self.members(), *kek);
                    let check = self.shared.books().lookout.check(kek);
                    if self.are_capable(&request, &members, Some(check))? {
                        self.propose(&request);
                    }
                }
                Admitted::Propose if self.needs_the_log_to_itself(form) => {
                    let last = self.core.raw.raft.raft_log.last_index();
                    if last > self.applied {
                        self.shared.books().hit(ClusterPlace::LogDrained);
                        self.desk.drains = DRAIN_TICKS;
                        self.not_yet(&request);
                    } else if self.is_referred_to(form) {
                        self.refuse(&request, Refusal::InUse);
                    } else {
                        self.desk.drains = 0;
                        self.propose(&request);
                    }
                }
                Admitted::Stale => self.refuse(&request, Refusal::Stale),
                Admitted::Collides => {
                    self.shared.books().hit(ClusterPlace::RequestRefused);
                    self.refuse(&request, Refusal::Membership);
                }
                Admitted::Propose => self.propose(&request),
                Admitted::Duplicate(_) if self.shared.makes(ClusterMistake::ForgetsSessions) => {
                    self.refuse(&request, Refusal::Verdict(Reason::KeyIdInUse));
                }
                Admitted::Duplicate(by) => {
                    self.shared.books().hit(ClusterPlace::DuplicateAnswered);
                    self.tell(&request, Told::Done(by));
                }
                // This leader's own KEK is at fault, and not the request.
                Admitted::Refused(Reason::BlobDoesNotOpen) if self.keyring == Keyring::Other => {
                    self.refuse(&request, Refusal::Incapable(self.id));
                }
                Admitted::Refused(reason) => {
                    self.shared.books().hit(ClusterPlace::RequestRefused);
                    self.refuse(&request, Refusal::Verdict(reason));
                }
                Admitted::Failed(_) => self.not_yet(&request),
            },
            Wish::Member(change) => {
                let change = *change;
                if self.allows(&request, change)? {
                    self.propose(&request);
                }
            }
        }
        Ok(())
    }

    /// Whether nothing else may be in flight beside an entry: nothing clear may come behind a cutover, and nothing under
    /// a key that is retired behind that.
    fn needs_the_log_to_itself(&self, form: &Form) -> bool {
        matches!(form, Form::Cutover { .. } | Form::Retirement { .. })
            && !self.shared.makes(ClusterMistake::DoesNotDrain)
    }

    /// Whether a value, or an entry that somebody may have to open yet, is sealed under the key that is to be retired.
    fn is_referred_to(&self, form: &Form) -> bool {
        let Some(dek) = form.retires() else { return false };
        let by_a_value = self.core.member.database().is_ok_and(|database| {
            database.data.values().any(|stored| envelope_of(stored).is_some_and(|found| found.dek == dek))
        });
        by_a_value || !self.shared.books().nobody_opens(dek)
    }

    /// A leader claims what it needs to seal, one registration after the other: the log's key first, in whose envelope the
    /// other one has to be.
    pub(super) fn claim_what_it_needs(&mut self) -> Result<(), Gone> {
        let Ok(term) = self.desk.leadership.may_propose() else { return Ok(()) };
        if self.is_done() || self.desk.cutover.is_some() {
            return Ok(());
        }
        for purpose in [Purpose::Raft, Purpose::Storage] {
            if !self.core.member.is_sealing(purpose) {
                continue;
            }
            let claimed = self.core.member.claim(term, purpose);
            self.check()?;
            let payload = match claimed {
                Claimed::Propose(payload) => payload,
                Claimed::Held => continue,
                Claimed::No(why) => {
                    self.claim_failed("refused", why);
                    continue;
                }
                Claimed::Halted(why) => {
                    self.claim_failed("halted", why);
                    return Err(Gone("claim"));
                }
            };
            if self.shared.setup.subject.admits() {
                match self.core.member.admit(&payload, &self.writers()) {
                    Admitted::Propose => {}
                    other => {
                        self.claim_failed("not-admitted", format!("{other:?}"));
                        return Ok(());
                    }
                }
            }
            self.register(&payload);
            return Ok(());
        }
        Ok(())
    }

    /// A leader that may claim gets its claim, unless its disk fails it.
    fn claim_failed(&self, step: &'static str, why: String) {
        let mut books = self.shared.books();
        if !books.take_fault(self.slot) && self.shared.setup.subject.admits() {
            books.remember(self.id, Event::ClaimFailed { step, why });
        }
    }

    /// Proposes a registration of its own.
    fn register(&mut self, payload: &[u8]) {
        let Ok(term) = self.desk.leadership.leading() else { return };
        let Some(entry) = self.core.member.seal_entry(term, payload) else { return };
        self.note_sealed(&entry);
        let context = context_bytes(Asked::default(), false);
        if self.core.raw.propose(context, entry).is_ok() {
            let index = self.core.raw.raft.raft_log.last_index();
            self.desk.leadership.took(RaftIndex(index));
            let mut books = self.shared.books();
            books.hit(ClusterPlace::Claimed);
            books.admitted.insert(index, OnItsWay { term, kind: Some(Kind::Registration) });
        }
    }

    /// What a nonce was spent on is taken down when it is spent: the entry may never be committed.
    fn note_sealed(&self, entry: &[u8]) {
        self.shared.books().note_entry(self.id, entry);
    }

    /// What goes into the log for a request; `None` where this leader may not seal yet.
    fn entry_of(&mut self, wish: &Wish) -> Option<Vec<u8>> {
        let term = self.desk.leadership.leading().unwrap_or_default();
        let clear = match wish {
            Wish::Put { key, value } => {
                let stored = match self.shared.setup.subject.rules() {
                    Rules::AsMerged => sealing::stored(*key, *value, None),
                    _ => self.core.member.seal_value(term, *key, *value)?,
                };
                let stored = match self.shared.makes(ClusterMistake::SealsTwice) {
                    true => self.shared.books().sealed_again(*key, *value, stored),
                    false => stored,
                };
                self.shared.books().note_value(self.id, *key, &stored);
                sealing::write_entry(*key, &stored)
            }
            Wish::Admin { payload, .. } => payload.clone(),
            Wish::Member(_) => return Some(Vec::new()),
        };
        let entry = match self.shared.setup.subject.rules() {
            Rules::AsMerged => clear,
            _ => self.core.member.seal_entry(term, &clear)?,
        };
        self.note_sealed(&entry);
        Some(entry)
    }

    /// Under which ids the members write.
    fn writers(&self) -> Vec<u64> {
        let books = self.shared.books();
        self.members().into_iter().map(|member| books.writer_of(member)).collect()
    }

    fn members(&self) -> Vec<u64> {
        let conf = self.core.raw.store().conf();
        conf.voters.iter().chain(&conf.learners).copied().collect()
    }

    /// Whether all of `members` have said in this term that they can open what this node can. Who has not is asked, and
    /// the client has to come again.
    fn are_capable(
        &mut self,
        request: &Request,
        members: &[u64],
        next: Option<KekCheck>,
    ) -> Result<bool, Gone> {
        if !self.shared.setup.subject.admits() || self.shared.makes(ClusterMistake::DoesNotProbe) {
            return Ok(true);
        }
        let own = self.core.member.capability().map_err(broken("capability"))?;
        let (Ok(term), Some(kek)) = (self.desk.leadership.leading(), own.keyring) else {
            self.not_yet(request);
            return Ok(false);
        };
        let kek = next.unwrap_or(kek);
        let generation = self.core.member.kek_generation();
        self.desk.leadership.answered(term, self.id, own);
        let members = members.iter().copied();
        let fit = match next {
            None => self.desk.leadership.capable(members, own.keyring),
            Some(next) => self.desk.leadership.ready_to_rewrap(members, next),
        };
        match fit {
            // Itself last: where others are not fit, it is bound by nothing.
            Ok(()) => {
                self.core.member.promise(kek, generation).map_err(broken("promise"))?;
                self.check()?;
                Ok(true)
            }
            Err(NotNow::Unprobed { members }) => {
                self.shared.books().hit(ClusterPlace::MembersProbed);
                for member in members {
                    self.shared.send(
                        self.id,
                        member,
                        Message::Probe { from: self.id, term, kek, generation },
                    );
                }
                self.not_yet(request);
                Ok(false)
            }
            Err(
                NotNow::NoKeyring { member } | NotNow::OtherKek { member } | NotNow::LacksKek { member, .. },
            ) => {
                self.shared.books().hit(ClusterPlace::IncapableMember);
                // What it has answered was true when it did; it is asked again next time.
                self.shared.send(self.id, member, Message::Probe { from: self.id, term, kek, generation });
                self.refuse(request, Refusal::Incapable(member));
                Ok(false)
            }
            Err(_) => {
                self.not_yet(request);
                Ok(false)
            }
        }
    }

    /// Whether the membership may change in this way now. What is so already is done.
    fn allows(&mut self, request: &Request, change: Change) -> Result<bool, Gone> {
        let conf = self.core.raw.store().conf().clone();
        let (votes, learns) = (|id| conf.voters.contains(&id), |id| conf.learners.contains(&id));
        let done = match change {
            Change::AddLearner(id) => learns(id) || votes(id),
            Change::Promote(id) => votes(id),
            Change::Remove(id) => !votes(id) && !learns(id),
        };
        if done {
            self.tell(request, Told::Done(None));
            return Ok(false);
        }
        match change {
            Change::AddLearner(id) if self.core.member.held().sidecar.is_some() => {
                // Its low bits are its own before it is a member.
                let writer = self.shared.books().writer_of(id);
                match self
                    .core
                    .member
                    .member_rows(writer, &self.writers())
                    .map(|rows| rows.into_iter().next())
                {
                    Err(_) => self.refuse(request, Refusal::Membership),
                    Ok(Some(row)) => {
                        self.register(&row);
                        self.not_yet(request);
                    }
                    Ok(None) => {
                        let own = self.core.member.capability().map_err(broken("capability"))?.keyring;
                        let next = own.filter(|_| self.core.member.kek_generation() > 0);
                        return self.are_capable(request, &[id], next);
                    }
                }
                Ok(false)
            }
            Change::AddLearner(_) => Ok(true),
            Change::Promote(id) => {
                let last = self.core.raw.raft.raft_log.last_index();
                let matched = self.core.raw.raft.prs().get(id).map_or(0, |progress| progress.matched);
                let close = learns(id) && matched + PROMOTION_LAG_MAX >= last;
                if !close {
                    self.not_yet(request);
                }
                Ok(close)
            }
            Change::Remove(id) if id == self.id => {
                // A leader hands over before it goes, to whoever has answered it lately and has the most.
                let progress = |voter: &u64| {
                    let progress =
                        self.core.raw.raft.prs().get(*voter).filter(|progress| progress.recent_active)?;
                    (*voter != id).then_some((progress.matched, *voter))
                };
                if let Some((_, heir)) = conf.voters.iter().filter_map(progress).max() {
                    self.core.raw.transfer_leader(heir);
                }
                self.not_yet(request);
                Ok(false)
            }
            Change::Remove(id) if votes(id) && conf.voters.len() == 1 => {
                self.refuse(request, Refusal::Membership);
                Ok(false)
            }
            Change::Remove(_) => Ok(true),
        }
    }

    fn propose(&mut self, request: &Request) {
        let context = context_bytes(request.asked, false);
        let entry = match self.desk.cutover {
            Some(_) => None,
            None => self.entry_of(&request.wish),
        };
        let Some(entry) = entry else {
            self.shared.books().hit(ClusterPlace::NotSealedYet);
            self.not_yet(request);
            return;
        };
        let proposed = match &request.wish {
            Wish::Put { .. } | Wish::Admin { .. } => self.core.raw.propose(context, entry),
            Wish::Member(change) => self.core.raw.propose_conf_change(context, conf_change(*change)),
        };
        if proposed.is_err() {
            self.not_yet(request);
            return;
        }
        let Ok(term) = self.desk.leadership.leading() else { return };
        let index = self.core.raw.raft.raft_log.last_index();
        self.desk.waiting.insert(index, (request.asked, request.from));
        let cuts_over = matches!(&request.wish, Wish::Admin { form: Form::Cutover { .. }, .. });
        if cuts_over && self.shared.setup.subject.admits() && !self.shared.makes(ClusterMistake::DoesNotDrain)
        {
            self.desk.cutover = Some(index);
        }
        if self.shared.makes(ClusterMistake::AnswersEarly) {
            self.tell(request, Told::Done(Some(index)));
        }
        if !matches!(request.wish, Wish::Put { .. }) {
            // Who admits everything may have more than one.
            if self.desk.leadership.free().is_ok() {
                self.desk.leadership.took(RaftIndex(index));
            }
            let mut books = self.shared.books();
            let kind = request.wish.form().map(|form| form.kind());
            books.admitted.insert(index, OnItsWay { term, kind });
        }
    }

    /// A leader that is wrong on purpose: it proposes what nobody has checked.
    pub(super) fn smuggle(&mut self) {
        if self.desk.leadership.leading().is_err() || self.halted {
            return;
        }
        let mut books = self.shared.books();
        let Some(form) = books.smuggle.take() else { return };
        // What is sound by now spoils nothing.
        if books.chronicle.newest().judge(books.chronicle.rules, true, &form).advances() {
            return;
        }
        let payload = books.payload(&form);
        drop(books);
        let term = self.desk.leadership.leading().unwrap_or_default();
        let sealed = match self.shared.setup.subject.rules() {
            Rules::AsMerged => Some(payload),
            _ => self.core.member.seal_entry(term, &payload),
        };
        let Some(payload) = sealed else {
            self.shared.books().smuggle = Some(form);
            return;
        };
        self.note_sealed(&payload);
        let context = context_bytes(Asked::default(), true);
        match self.core.raw.propose(context, payload) {
            Ok(()) => self.shared.books().hit(ClusterPlace::Smuggled),
            Err(_) => self.shared.books().smuggle = Some(form),
        }
    }
}

fn conf_change(change: Change) -> ConfChange {
    let (kind, node) = match change {
        Change::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
        Change::Promote(id) => (ConfChangeType::AddNode, id),
        Change::Remove(id) => (ConfChangeType::RemoveNode, id),
    };
    let mut conf = ConfChange::default();
    conf.set_change_type(kind);
    conf.node_id = node;
    debug_assert!(conf.compute_size() > 0, "an empty change means something else to Raft");
    conf
}
