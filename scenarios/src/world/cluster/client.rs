//! Who asks for things: clients with requests of every kind, and the operator who looks after the membership. Each has
//! one request at a time, which it sends again, perhaps to another node, until it is told what came of it.

use std::sync::Arc;
use std::time::Duration;

use madsim::time::sleep;
use sim::{Address, Inbox, Site};

use super::budget::Licence;
use super::message::{Answer, Change, Message, Request, Wish};
use super::shared::{Keyring, Shared, Status, now};
use crate::chronicle::{Asked, ClusterEvent, Refusal, Told};
use crate::form::{Blob, Form};
use crate::probes::ClusterPlace;
use crate::workload::{self, Mix};

const TARGET: Site = Site::new("client.target");
const PATIENCE: Site = Site::new("client.patience");
const RETRY: Site = Site::new("client.retry");
const PAUSE: Site = Site::new("client.pause");
const CLASS: Site = Site::new("client.class");
const OPERATOR_PAUSE: Site = Site::new("operator.pause");
const PLACE: Site = Site::new("operator.place");
const PROMOTES: Site = Site::new("operator.promotes");

/// Addresses of clients begin here; members have smaller ones.
pub(super) const CLIENTS: u64 = 1 << 32;
/// The operator's number among the clients.
pub(super) const OPERATOR: u64 = 99;
/// Simulated milliseconds between two tries after "not yet", or "ask another one": some clients are in a hurry.
const RETRY_MS: [u64; 3] = [80, 20, 160];

/// Someone with an address.
struct Client {
    shared: Arc<Shared>,
    inbox: Inbox<Message>,
    me: u64,
    number: u64,
    target: u64,
    /// Who was asked last, 0 for nobody.
    last: u64,
    retry: Duration,
}

impl Client {
    fn new(shared: &Arc<Shared>, me: u64) -> Client {
        let inbox = shared.net.bind(Address(CLIENTS + me));
        let retry = shared.draw(|choices| *choices.pick(RETRY, &RETRY_MS));
        let retry = Duration::from_millis(retry);
        Client { shared: Arc::clone(shared), inbox, me, number: 0, target: 0, last: 0, retry }
    }

    /// Asks until it is told, or until nobody will tell it any more.
    async fn ask(&mut self, wish: Wish) -> Option<Told> {
        self.number += 1;
        let asked = Asked { client: self.me, number: self.number };
        loop {
            if self.shared.books().hopeless {
                return None;
            }
            if self.target == 0 {
                self.target = self.any_member()?;
            }
            self.last = self.target;
            let from = Address(CLIENTS + self.me);
            let request = Request { asked, from, wish: wish.clone() };
            self.shared.send(from.0, self.target, Message::Request(Box::new(request)));
            let patience = 300 + 300 * self.shared.draw(|choices| choices.draw(PATIENCE, 4));
            match self.listen(asked, patience).await {
                Some(Answer::Told(told)) => {
                    self.shared.note(CLIENTS + self.me, "told", [asked.client, asked.number, 0], || {
                        told_in_words(asked, &told)
                    });
                    let event = ClusterEvent::Told { asked, form: wish.form(), told: told.clone() };
                    self.shared.books().push(event);
                    return Some(told);
                }
                Some(Answer::NotLeader { hint }) => {
                    self.target = hint;
                    sleep(self.retry).await;
                }
                Some(Answer::NotYet) => sleep(self.retry).await,
                None => {
                    self.shared.books().hit(ClusterPlace::ClientTimedOut);
                    self.target = 0;
                }
            }
        }
    }

    /// A member by draw. Once the faults are over the draw counts from behind the one that was asked last: everybody is asked
    /// in the end, whatever is drawn.
    fn any_member(&self) -> Option<u64> {
        let (ids, closing) = {
            let books = self.shared.books();
            (books.ids(), books.closing)
        };
        let last = ids.iter().position(|id| closing && *id == self.last);
        let first = last.map_or(0, |at| at + 1);
        (!ids.is_empty()).then(|| {
            let drawn = self.shared.draw(|choices| choices.draw(TARGET, ids.len() as u64));
            ids[(first + drawn as usize) % ids.len()]
        })
    }

    async fn listen(&mut self, about: Asked, patience_ms: u64) -> Option<Answer> {
        let deadline = now() + Duration::from_millis(patience_ms);
        loop {
            match self.inbox.recv_until(deadline).await? {
                Message::Answer { asked, answer } if asked == about => return Some(answer),
                // An answer to an earlier request, or once more to this one, after it had been told: is heard and compared.
                Message::Answer { asked, answer: Answer::Told(told) } => {
                    let form = None;
                    self.shared.books().push(ClusterEvent::Told { asked, form, told });
                }
                _ => {}
            }
        }
    }
}

/// A client that has `quota` requests.
pub(super) async fn client(shared: Arc<Shared>, me: u64, quota: u64, mix: Mix) {
    let mut client = Client::new(&shared, me);
    for _ in 0..quota {
        let pause = shared.draw(|choices| choices.draw(PAUSE, 8)) * 40;
        sleep(Duration::from_millis(pause)).await;
        if shared.books().closing {
            break;
        }
        let wish = wish(&shared, me, mix);
        client.ask(wish).await;
    }
    shared.books().clients -= 1;
}

/// What a client asks for next: mostly what fits the newest state, wrapped by this client, so that two of them that want
/// the same id want different things.
fn wish(shared: &Shared, me: u64, mix: Mix) -> Wish {
    let state = shared.books().chronicle.newest().clone();
    let (rules, news) = (shared.setup.subject.rules(), shared.news);
    let new = shared.draw(|choices| workload::request(choices, news, rules, &state));
    let usual = || {
        shared.draw(|choices| match choices.draw(CLASS, 6) {
            0 => Form::Data { key: me, value: state.index, seal: None },
            // What two clients cannot both have: the next key.
            1 | 2 if state.active.is_some() => workload::rotation(choices, &state),
            _ => workload::next(choices, mix, &state),
        })
    };
    match new.unwrap_or_else(usual) {
        Form::Nothing => Wish::Put { key: 0, value: state.index },
        Form::Data { key, value, .. } => Wish::Put { key, value },
        form => {
            let form = sealed_by(form, me, &state);
            let payload = shared.books().payload(&form);
            Wish::Admin { form, payload }
        }
    }
}

/// The same entry with blobs that this client has wrapped, unless it is one that the log has already.
fn sealed_by(form: Form, me: u64, state: &crate::model::State) -> Form {
    let seal = |blob: Blob| Blob { seal: blob.seal + 10 * me as u8, ..blob };
    let known = state.bootstrap.as_ref().is_some_and(|(_, known)| *known == form)
        || state.rotations.values().any(|known| *known == form);
    match form {
        form if known => form,
        Form::Bootstrap { storage, storage_blob, raft, raft_blob, rows } => Form::Bootstrap {
            storage,
            storage_blob: seal(storage_blob),
            raft,
            raft_blob: seal(raft_blob),
            rows,
        },
        Form::Rotation { dek, purpose, blob, row } => Form::Rotation { dek, purpose, blob: seal(blob), row },
        form => form,
    }
}

/// What the operator wants the machines to do; the world sees to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A member moves in.
    Settle(usize, Place),
    /// Its process ends for good.
    Retire(usize),
}

/// Under which id a new member writes. In Raft each has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under the same.
    NewWriter,
    /// Under that of the one before it, which has lost its disk.
    OldWriter,
}

/// The operator: a member that can't start any more, or has lost what it had, is removed and added again under another
/// id; and between that a spare machine joins, gets a vote, and leaves.
pub(super) async fn operator(shared: Arc<Shared>, spare: usize) {
    let mut client = Client::new(&shared, OPERATOR);
    let mut joins = 0;
    loop {
        let pause = 300 + 600 * shared.draw(|choices| choices.draw(OPERATOR_PAUSE, 6));
        sleep(Duration::from_millis(pause)).await;
        if shared.books().hopeless {
            return;
        }
        let lost = shared.books().lost.pop();
        if let Some(licence) = lost {
            shared.books().operating = true;
            replace(&mut client, licence).await;
        } else if !shared.books().closing && shared.setup.limits.joins_max.is_none_or(|most| joins < most) {
            joins += 1;
            shared.books().operating = true;
            routine(&mut client, spare).await;
        }
        shared.books().operating = false;
    }
}

/// Removes a member and adds it again under another id, on an empty disk.
async fn replace(client: &mut Client, licence: Licence) {
    let (old, slot) = (licence.member, licence.slot);
    if client.ask(Wish::Member(Change::Remove(old))).await.is_none() {
        return;
    }
    client.retire(slot).await;
    let places = [Place::NewWriter, Place::OldWriter];
    let place = client.shared.draw(|choices| *choices.pick(PLACE, &places));
    if join(client, (slot, place), true).await {
        let mut books = client.shared.books();
        books.budget.restored(licence);
        books.hit(ClusterPlace::MemberReplaced);
    }
}

/// A new member on a machine: started, added, and given a vote.
async fn join(client: &mut Client, (slot, place): (usize, Place), votes: bool) -> bool {
    client.order(Order::Settle(slot, place)).await;
    let id = client.shared.books().slots[slot].id;
    loop {
        match client.ask(Wish::Member(Change::AddLearner(id))).await {
            None => return false,
            Some(Told::Done(_)) => break,
            // Its operator looks into it, and starts it with the right KEK.
            Some(Told::Refused { why: Refusal::Incapable(_), .. }) => {
                client.shared.books().slots[slot].keyring = Keyring::Right;
                client.shared.books().slots[slot].stop = true;
                sleep(Duration::from_millis(500)).await;
            }
            Some(Told::Refused { .. }) => return false,
        }
    }
    !votes || client.ask(Wish::Member(Change::Promote(id))).await.is_some()
}

async fn routine(client: &mut Client, spare: usize) {
    let (status, id) = {
        let books = client.shared.books();
        (books.slots[spare].status, books.slots[spare].id)
    };
    if status == Status::Empty {
        let votes = client.shared.draw(|choices| choices.draw(PROMOTES, 2) == 1);
        join(client, (spare, Place::NewWriter), votes).await;
    } else if client.ask(Wish::Member(Change::Remove(id))).await.is_some() {
        client.retire(spare).await;
    }
}

impl Client {
    /// Ends a member that was removed, once it is not needed any more.
    async fn retire(&self, slot: usize) {
        while !self.shared.books().members_know_it(None) && !self.shared.books().hopeless {
            sleep(Duration::from_millis(100)).await;
        }
        self.order(Order::Retire(slot)).await;
    }

    async fn order(&self, order: Order) {
        self.shared.books().orders.push(order);
        while self.shared.books().orders.contains(&order) {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a client was told, for people.
fn told_in_words(asked: Asked, told: &Told) -> String {
    let told = match told {
        Told::Done(Some(index)) => format!("done at {index}"),
        Told::Done(None) => "done".to_owned(),
        Told::Refused { why, at } => format!("refused at {at}, {why:?}"),
    };
    format!("client {}, request {}: {told}", asked.client, asked.number)
}
