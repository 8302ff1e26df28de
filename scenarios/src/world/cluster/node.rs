//! The process of a member: a task that lives until it is killed.

use std::sync::Arc;
use std::time::Duration;

use madsim::time::sleep;
use sim::Address;

use super::replica::Replica;
use super::shared::{Ended, Shared, Status, now};
use super::start::{how_it_ended, start};
use crate::history::Moment;
use crate::timeline::tap;

/// What runs on a machine, from its start on. It never returns: to madsim that would be an end without a kill.
pub(super) async fn live(shared: Arc<Shared>, at: usize) {
    let is_up = shared.books().slots[at].status == Status::Up;
    if is_up && let Some(ended) = run(&shared, at).await {
        shared.books().ended.push_back((at, ended));
    }
    std::future::pending::<()>().await;
}

/// How it has ended by itself; `None` where someone else has taken its address.
async fn run(shared: &Arc<Shared>, at: usize) -> Option<Ended> {
    // Whatever a member logs in its turn carries its name.
    let member = tap::member(shared.books().slots[at].id);
    let mut replica = match member.in_scope(|| start(shared, at)) {
        Ok(replica) => replica,
        Err(ended) => return Some(ended),
    };
    let mut inbox = shared.net.bind(Address(replica.id));
    let tick = Duration::from_millis(shared.books().slots[at].tick_ms);
    let mut next_tick = now() + tick;
    loop {
        if let Err(gone) = member.in_scope(|| replica.work()) {
            return Some(how_it_ended(shared, at, gone));
        }
        let wait = replica.sync_ms();
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        replica.flush();
        let heard = inbox.recv_until(next_tick).await;
        if heard.is_none() && !inbox.is_open() {
            return None;
        }
        let mut next = heard;
        while let Some(message) = next {
            if let Err(gone) = member.in_scope(|| replica.hear(message)) {
                return Some(how_it_ended(shared, at, gone));
            }
            next = inbox.try_recv();
        }
        if now() >= next_tick {
            // A clock that a slow disk has held up does not make up for it in one instant.
            next_tick = (next_tick + tick).max(now());
            if member.in_scope(|| housekeeping(shared, at, &mut replica)) {
                replica.stop();
                return Some(Ended::Stopped);
            }
        }
    }
}

/// What is done once a tick. Whether the process was asked to stop.
fn housekeeping(shared: &Shared, at: usize, replica: &mut Replica) -> bool {
    let (look, stop) = {
        let mut books = shared.books();
        let slot = &mut books.slots[at];
        (std::mem::take(&mut slot.look), slot.stop)
    };
    if look {
        replica.look(Moment::CaughtUp);
    }
    replica.tick();
    replica.smuggle();
    replica.lend_snapshot();
    stop
}
