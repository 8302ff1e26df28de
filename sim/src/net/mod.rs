//! A network whose every surprise is drawn, for the nodes of a madsim runtime.

mod inbox;
mod weather;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use madsim::time::TimeHandle;

pub use self::{inbox::Inbox, weather::NetWeather};
use self::{
    inbox::{Mailbox, wake_at},
    weather::Travel,
};
use crate::{choices::Choices, trace::Trace};

/// Where a message can be sent to: the world's numbering of its endpoints.
///
/// The trace tells those below 2^32 apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address(pub u64);

/// What became of the messages so far.
///
/// Unless the network was stopped, `sent + duplicated` is `delivered + dropped + cut + unreachable` and what is
/// in flight.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetCounts {
    /// Calls of [`Net::send`].
    pub sent: u64,
    /// Arrivals in an inbox, those of copies included.
    pub delivered: u64,
    /// Lost by chance.
    pub dropped: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Messages and copies that took longer than their latency.
    pub delayed: u64,
    /// Lost on a link that was cut when they were sent or due.
    pub cut: u64,
    /// Delivered after a message that was sent later on the same link.
    pub overtaken: u64,
    /// Due where nobody was bound.
    pub unreachable: u64,
}

/// A network; clones are the same one.
///
/// Time is that of the madsim runtime in whole milliseconds since its start: a message sent at 7.3 ms with a
/// latency of 2 ms is due at 9 ms. What is due in the same millisecond arrives in the order in which it was
/// sent. A message goes to whoever is bound to its address when it is due, so a node that restarts may receive
/// what was sent to its life before, as on a real network.
///
/// [`Net::start`] and [`Net::send`] must be called inside the runtime.
pub struct Net<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    trace: Trace,
    state: Mutex<State<M>>,
}

struct State<M> {
    stopped: bool,
    weather: NetWeather,
    counts: NetCounts,
    /// Number of the next message in flight.
    next: u64,
    /// By the millisecond in which they are due, then by number. There is one timer for each such millisecond.
    in_flight: BTreeMap<(u64, u64), Flight<M>>,
    bound: BTreeMap<Address, Mailbox<M>>,
    cuts: BTreeSet<Link>,
    /// The latest message that was delivered on each link.
    newest: BTreeMap<Link, u64>,
    /// Wakes the dispatcher; there is none before its first turn and after its last.
    dispatcher: Option<Waker>,
}

/// One direction between two addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Link {
    from: Address,
    to: Address,
}

struct Flight<M> {
    link: Link,
    label: u64,
    /// Number of the message that was sent, which a copy shares.
    original: u64,
    message: M,
}

impl<M: Clone + Send + 'static> Net<M> {
    /// Starts its dispatcher as a task of the current node, which must outlive all others (the main one).
    pub fn start(trace: Trace) -> Self {
        let shared = Arc::new(Shared { trace, state: Mutex::new(State::new()) });
        // The dispatcher keeps nothing alive, so a network that is dropped without a stop is gone too.
        let weak = Arc::downgrade(&shared);
        madsim::task::spawn(poll_fn(move |context| dispatch(&weak, context.waker())));
        Self { shared }
    }

    /// Sets how messages fare that are sent from now on. At first the weather is [`NetWeather::CALM`].
    ///
    /// # Panics
    /// If the least latency is above the greatest.
    pub fn set_weather(&self, weather: NetWeather) {
        assert!(weather.latency_ms_min <= weather.latency_ms_max, "a range of latencies must not be empty");
        self.shared.lock().weather = weather;
    }

    /// Takes an address over: what is due from now on goes to this inbox, also if it was sent before. An inbox
    /// bound to it before gets nothing more and its `recv` answers `None`.
    pub fn bind(&self, at: Address) -> Inbox<M> {
        let mailbox = Mailbox::open();
        let mut state = self.shared.lock();
        let stopped = state.stopped;
        let old = if stopped { None } else { state.bound.insert(at, mailbox.clone()) };
        drop(state);
        if stopped {
            mailbox.close();
        }
        if let Some(old) = old {
            old.close();
        }
        Inbox::new(mailbox)
    }

    /// Closes the inbox that is bound to an address: nobody is there until the next bind. To be called when a
    /// node is killed, since its futures, and with them its inboxes, are dropped only later.
    pub fn unbind(&self, at: Address) {
        let old = self.shared.lock().bound.remove(&at);
        if let Some(old) = old {
            old.close();
        }
    }

    /// Sends a message and decides its fate, which only a cut can still change. `label` tells the trace what
    /// kind of message it is. On a link that is cut nothing is drawn; after a stop nothing happens.
    pub fn send(&self, choices: &mut Choices, from: Address, to: Address, label: u64, message: M) {
        let time = TimeHandle::current();
        let now_ms = now_ms(&time);
        let link = Link { from, to };
        let mut state = self.shared.lock();
        if state.stopped {
            return;
        }
        state.counts.sent += 1;
        if state.cuts.contains(&link) {
            state.counts.cut += 1;
            return self.shared.record("net.cut", link, label, now_ms);
        }
        let Some(arrivals) = state.weather.draw(choices) else {
            state.counts.dropped += 1;
            return self.shared.record("net.drop", link, label, now_ms);
        };
        let original = state.next;
        let copy = arrivals.copy.map(|travel| (travel, message.clone()));
        self.shared.launch(&mut state, &time, arrivals.first, Flight { link, label, original, message });
        if let Some((travel, message)) = copy {
            state.counts.duplicated += 1;
            self.shared.record("net.duplicate", link, label, now_ms + travel.ms);
            self.shared.launch(&mut state, &time, travel, Flight { link, label, original, message });
        }
    }

    /// Cuts a link in one direction: what is sent from `from` to `to` is lost, and so is what is in flight there
    /// if it is due while the cut lasts.
    pub fn cut(&self, from: Address, to: Address) {
        self.shared.lock().cuts.insert(Link { from, to });
    }

    /// Ends a cut of one direction.
    pub fn mend(&self, from: Address, to: Address) {
        self.shared.lock().cuts.remove(&Link { from, to });
    }

    /// Ends all cuts.
    pub fn mend_all(&self) {
        self.shared.lock().cuts.clear();
    }

    /// Whether a link is cut in this direction.
    pub fn is_cut(&self, from: Address, to: Address) -> bool {
        self.shared.lock().cuts.contains(&Link { from, to })
    }

    /// Cuts every link between the two sides, in both directions. An address on both sides still reaches itself.
    pub fn partition(&self, one: &[Address], other: &[Address]) {
        let mut state = self.shared.lock();
        for &from in one {
            for &to in other.iter().filter(|&&to| to != from) {
                state.cuts.insert(Link { from, to });
                state.cuts.insert(Link { from: to, to: from });
            }
        }
    }

    /// Forgets everything in flight, closes every inbox and ends the dispatcher. The network is of no use after
    /// it. Let the runtime take a turn (a sleep of 1 ms) before its main future returns: madsim never frees
    /// a task that is still to be run then.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        let in_flight = std::mem::take(&mut state.in_flight);
        let bound = std::mem::take(&mut state.bound);
        let dispatcher = state.dispatcher.take();
        drop(state);
        // What is dropped or woken may run code of others, which may come back here.
        drop(in_flight);
        bound.values().for_each(Mailbox::close);
        if let Some(dispatcher) = dispatcher {
            dispatcher.wake();
        }
    }

    /// What became of the messages so far.
    pub fn counts(&self) -> NetCounts {
        self.shared.lock().counts
    }
}

impl<M> Clone for Net<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Net<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Net")
            .field("weather", &state.weather)
            .field("counts", &state.counts)
            .field("in_flight", &state.in_flight.len())
            .field("bound", &state.bound.keys())
            .field("cuts", &state.cuts)
            .finish_non_exhaustive()
    }
}

/// One turn of the dispatcher: delivers what is due. It is woken by timers alone, and by a stop.
fn dispatch<M>(shared: &Weak<Shared<M>>, waker: &Waker) -> Poll<()> {
    let Some(shared) = shared.upgrade() else { return Poll::Ready(()) };
    let time = TimeHandle::current();
    if !shared.is_running(&time, waker) {
        return Poll::Ready(());
    }
    let now_ms = now_ms(&time);
    while shared.deliver_next(now_ms) {}
    Poll::Pending
}

impl<M> Shared<M> {
    /// Whether the network has not been stopped. On the first turn the dispatcher becomes known, and the
    /// timers of what was sent before are set.
    fn is_running(&self, time: &TimeHandle, waker: &Waker) -> bool {
        let mut state = self.lock();
        if !state.stopped && state.dispatcher.is_none() {
            let mut set_ms = None;
            for &(due_ms, _) in state.in_flight.keys() {
                if set_ms.replace(due_ms) != Some(due_ms) {
                    wake_at_ms(time, due_ms, waker);
                }
            }
            state.dispatcher = Some(waker.clone());
        }
        !state.stopped
    }

    /// Puts a message under way.
    fn launch(&self, state: &mut State<M>, time: &TimeHandle, travel: Travel, flight: Flight<M>) {
        let due_ms = now_ms(time) + travel.ms;
        if travel.delayed {
            state.counts.delayed += 1;
            self.record("net.delay", flight.link, flight.label, due_ms);
        }
        let Link { from, to } = flight.link;
        self.trace.of(from.0).remark("net.send", [to.0, flight.label, due_ms], || {
            (format!("{} to {}, label {}, due {due_ms} ms", from.0, to.0, flight.label), None)
        });
        let has_timer = state.in_flight.range((due_ms, 0)..=(due_ms, u64::MAX)).next().is_some();
        state.in_flight.insert((due_ms, state.next), flight);
        state.next += 1;
        // Setting the timer here, for the dispatcher, spares it a turn to do so.
        if let Some(dispatcher) = state.dispatcher.as_ref().filter(|_| !has_timer) {
            wake_at_ms(time, due_ms, dispatcher);
        }
    }

    /// Lets the next message arrive; `false` if none is due.
    fn deliver_next(&self, now_ms: u64) -> bool {
        let mut state = self.lock();
        let Some(next) = state.in_flight.first_entry().filter(|next| next.key().0 <= now_ms) else {
            return false;
        };
        let due_ms = next.key().0;
        let Flight { link, label, original, message } = next.remove();
        let (kind, lost) = if state.cuts.contains(&link) {
            state.counts.cut += 1;
            ("net.cut", Some(message))
        } else {
            let refused = match state.bound.get(&link.to) {
                Some(mailbox) => mailbox.deliver(message).err(),
                None => Some(message),
            };
            state.count_arrival(link, original, refused.is_none());
            (if refused.is_some() { "net.unreachable" } else { "net.deliver" }, refused)
        };
        drop(state);
        self.record(kind, link, label, due_ms);
        // Not before the state is free, since dropping it may run code of others.
        drop(lost);
        true
    }

    fn record(&self, kind: &'static str, Link { from, to }: Link, label: u64, due_ms: u64) {
        let numbers = [from.0.rotate_left(32) ^ to.0, label, due_ms];
        let text = || format!("{} to {}, label {label}, due {due_ms} ms", from.0, to.0);
        self.trace.of(from.0).record(kind, numbers, text);
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    fn new() -> Self {
        Self {
            stopped: false,
            weather: NetWeather::CALM,
            counts: NetCounts::default(),
            next: 0,
            in_flight: BTreeMap::new(),
            bound: BTreeMap::new(),
            cuts: BTreeSet::new(),
            newest: BTreeMap::new(),
            dispatcher: None,
        }
    }

    fn count_arrival(&mut self, link: Link, original: u64, received: bool) {
        if !received {
            self.counts.unreachable += 1;
            return;
        }
        self.counts.delivered += 1;
        let newest = self.newest.entry(link).or_insert(original);
        self.counts.overtaken += u64::from(original < *newest);
        *newest = original.max(*newest);
    }
}

fn now_ms(time: &TimeHandle) -> u64 {
    // A u64 of milliseconds lasts for half a billion years.
    time.elapsed().as_millis() as u64
}

/// Wakes when this millisecond of the runtime begins, at once if it has.
fn wake_at_ms(time: &TimeHandle, due_ms: u64, waker: &Waker) {
    let ahead = Duration::from_millis(due_ms).saturating_sub(time.elapsed());
    if wake_at(time, time.now_instant() + ahead, waker) {
        waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_dropped_is_gone_even_without_a_stop() {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(1, madsim::Config::default());
        runtime.block_on(async {
            let net = Net::start(Trace::hashing());
            let inbox = net.bind(Address(1));
            madsim::time::sleep(Duration::from_millis(1)).await;
            net.send(&mut Choices::bytes(&[]), Address(1), Address(1), 0, ());
            let weak = Arc::downgrade(&net.shared);
            drop(net);
            assert!(weak.upgrade().is_none() && inbox.is_open());
        });
    }
}
