//! Where messages wait to be received.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use madsim::time::{Instant, TimeHandle};

/// Receives what arrives at an address, for as long as it is the last one bound to it.
///
/// Dropping it closes it: what arrives from then on finds nobody, until the address is bound again.
pub struct Inbox<M> {
    mailbox: Mailbox<M>,
}

impl<M> Inbox<M> {
    pub(super) fn new(mailbox: Mailbox<M>) -> Self {
        Self { mailbox }
    }

    /// Waits for the next message. `None` once another bind, an unbind or a stop took the address away: what
    /// had arrived by then and was not received is lost.
    pub async fn recv(&mut self) -> Option<M> {
        poll_fn(|context| match self.mailbox.poll(context.waker()) {
            Polled::Done(message) => Poll::Ready(message),
            Polled::Waits { .. } => Poll::Pending,
        })
        .await
    }

    /// As [`Inbox::recv`], and also `None` when the deadline passes first. A message that is there is received
    /// even if the deadline has passed.
    pub async fn recv_until(&mut self, deadline: Instant) -> Option<M> {
        let mut armed = false;
        poll_fn(|context| {
            let new_waker = match self.mailbox.poll(context.waker()) {
                Polled::Done(message) => return Poll::Ready(message),
                Polled::Waits { new_waker } => new_waker,
            };
            let time = TimeHandle::current();
            // madsim keeps a timer until it fires, so each waker gets only one.
            let passed = if armed && !new_waker {
                time.now_instant() >= deadline
            } else {
                wake_at(&time, deadline, context.waker())
            };
            armed = true;
            if passed { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// The next message if there is one.
    pub fn try_recv(&mut self) -> Option<M> {
        self.mailbox.lock().queue.pop_front()
    }

    /// Whether messages can still arrive here.
    pub fn is_open(&self) -> bool {
        self.mailbox.lock().open
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.mailbox.lock();
        f.debug_struct("Inbox").field("open", &content.open).field("waiting", &content.queue.len()).finish()
    }
}

/// Wakes at an instant; `true` if it has passed already and nothing will.
pub(super) fn wake_at(time: &TimeHandle, deadline: Instant, waker: &Waker) -> bool {
    // A new `Sleep` takes at least 1 ms; one that is reset takes the instant as it is.
    let mut sleep = time.sleep_until(deadline);
    let mut sleep = Pin::new(&mut sleep);
    sleep.as_mut().reset(deadline);
    sleep.poll(&mut Context::from_waker(waker)).is_ready()
}

/// The part of an [`Inbox`] that the network holds.
pub(super) struct Mailbox<M> {
    content: Arc<Mutex<Content<M>>>,
}

struct Content<M> {
    open: bool,
    queue: VecDeque<M>,
    waker: Option<Waker>,
}

/// What a look into a mailbox found.
enum Polled<M> {
    /// A message, or that none will come.
    Done(Option<M>),
    /// Nothing yet; the waker will be woken. `new_waker` if it was not the one that was waiting already.
    Waits { new_waker: bool },
}

impl<M> Mailbox<M> {
    pub(super) fn open() -> Self {
        Self { content: Arc::new(Mutex::new(Content { open: true, queue: VecDeque::new(), waker: None })) }
    }

    /// Puts a message in and wakes the receiver; gives it back if the mailbox is closed.
    pub(super) fn deliver(&self, message: M) -> Result<(), M> {
        let mut content = self.lock();
        if !content.open {
            return Err(message);
        }
        content.queue.push_back(message);
        let waker = content.waker.take();
        drop(content);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Forgets what is in it and lets the receiver know that nothing more will come.
    pub(super) fn close(&self) {
        let mut content = self.lock();
        content.open = false;
        let queue = std::mem::take(&mut content.queue);
        let waker = content.waker.take();
        // What is dropped or woken may run code of others, which may come back here.
        drop(content);
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Polled<M> {
        let mut content = self.lock();
        let message = content.queue.pop_front();
        if message.is_some() || !content.open {
            return Polled::Done(message);
        }
        if content.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return Polled::Waits { new_waker: false };
        }
        let old = content.waker.replace(waker.clone());
        drop(content);
        drop(old);
        Polled::Waits { new_waker: true }
    }

    fn lock(&self) -> MutexGuard<'_, Content<M>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { content: Arc::clone(&self.content) }
    }
}
