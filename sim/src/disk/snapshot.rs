//! The content of a disk, for comparison.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::Xxh3;

use super::{
    op::{InodeId, Pending},
    state::State,
    tree::{Node, ROOT, Tree},
};

/// What a disk holds that a crash, now or later, could show: the durable side, what is pending, and what reads
/// see although a failed sync has lost it, since a later life may build on that.
///
/// Two snapshots are equal if these have equal content, whatever happened before: inodes are numbered by a
/// walk over the names, and files that no name can lead to any more are left out. Shared pages make comparing
/// cheap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    durable: Tree,
    pending: Vec<Pending>,
    /// The view, if it differs from the two above, and the inodes in which it does.
    ahead: Option<(Tree, Vec<InodeId>)>,
    /// Inodes of which a sync failed and nobody has been told yet.
    late: Vec<InodeId>,
}

impl Snapshot {
    pub(super) fn new(state: &State) -> Self {
        let mut order = live_inodes(&state.durable, &state.pending);
        if !state.ahead.is_empty() {
            state.view.reach(&mut order);
        }
        let renumbered = |tree: &Tree| {
            let mut tree = tree.clone();
            tree.renumber(&order);
            tree
        };
        let numbers = |inodes: &BTreeSet<InodeId>| -> Vec<InodeId> {
            let live = order.iter().zip(0..).filter(|(inode, _)| inodes.contains(inode));
            live.map(|(_, at)| InodeId(at)).collect()
        };
        let (durable, late) = (renumbered(&state.durable), numbers(&state.late));
        let ahead = numbers(&state.ahead);
        let ahead = (!ahead.is_empty()).then(|| (renumbered(&state.view), ahead));
        let mut pending: Vec<Pending> = state
            .pending
            .iter()
            .filter(|op| op.data_of().is_none_or(|id| order.contains(&id)))
            .cloned()
            .collect();
        for id in pending.iter_mut().flat_map(Pending::inodes_mut).flatten() {
            // Only what a rename replaced can be missing here, and then nothing depends on which inode that
            // was.
            let at = order.iter().position(|live| live == id).unwrap_or(order.len());
            *id = InodeId(at as u64);
        }
        Self { durable, pending, ahead, late }
    }

    /// A 128-bit XXH3 hash of the content, the same for equal snapshots. It covers file bytes, which a
    /// database may fill differently in debug and release builds: for use within one process, never in a
    /// trace.
    pub fn digest(&self) -> u128 {
        let mut hasher = Xxh3::new();
        feed_tree(&mut hasher, &self.durable);
        self.pending.iter().for_each(|op| feed_op(&mut hasher, op));
        if let Some((view, ahead)) = &self.ahead {
            hasher.update(b"ahead");
            feed_tree(&mut hasher, view);
            ahead.iter().for_each(|id| hasher.update(&id.0.to_le_bytes()));
        }
        for id in &self.late {
            hasher.update(b"late");
            hasher.update(&id.0.to_le_bytes());
        }
        hasher.digest128()
    }

    /// How many operations are pending in it.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }
}

/// Every inode that a crash could still show, in an order that depends on content only: those with durable
/// names by a walk, then those that pending operations give names to.
pub(crate) fn live_inodes(durable: &Tree, pending: &[Pending]) -> Vec<InodeId> {
    let mut found = vec![ROOT];
    durable.reach(&mut found);
    for op in pending {
        if let Pending::Link { inode, .. } | Pending::Rename { inode, .. } = op
            && !found.contains(inode)
        {
            found.push(*inode);
            durable.reach(&mut found);
        }
    }
    found
}

fn feed_tree(hasher: &mut Xxh3, tree: &Tree) {
    for (id, node) in tree.iter() {
        hasher.update(&id.0.to_le_bytes());
        match node {
            Node::File(image) => image.feed(|bytes| hasher.update(bytes)),
            Node::Dir(entries) => {
                hasher.update(&u64::MAX.to_le_bytes());
                for (name, child) in entries.iter() {
                    feed_bytes(hasher, name.as_bytes());
                    hasher.update(&child.0.to_le_bytes());
                }
            }
        }
    }
}

fn feed_bytes(hasher: &mut Xxh3, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn feed_op(hasher: &mut Xxh3, op: &Pending) {
    let mut number = |number: u64| hasher.update(&number.to_le_bytes());
    match op {
        Pending::Link { dir, inode, .. } => [1, dir.0, inode.0].into_iter().for_each(&mut number),
        Pending::Unlink { dir, inode, .. } => [2, dir.0, inode.0].into_iter().for_each(&mut number),
        Pending::Rename { dir, inode, replaced, .. } => {
            [3, dir.0, inode.0, replaced.map_or(0, |id| id.0)].into_iter().for_each(&mut number);
        }
        Pending::Detach { dir, inode, replaced, .. } => {
            [4, dir.0, inode.0, replaced.map_or(0, |id| id.0)].into_iter().for_each(&mut number);
        }
        Pending::Write { inode, offset, .. } => [5, inode.0, *offset].into_iter().for_each(&mut number),
        Pending::SetLen { inode, len } => [6, inode.0, *len].into_iter().for_each(&mut number),
    }
    match op {
        Pending::Link { name, .. } | Pending::Unlink { name, .. } => feed_bytes(hasher, name.as_bytes()),
        Pending::Rename { from, to, .. } | Pending::Detach { from, to, .. } => {
            feed_bytes(hasher, from.as_bytes());
            feed_bytes(hasher, to.as_bytes());
        }
        Pending::Write { data, .. } => feed_bytes(hasher, data),
        Pending::SetLen { .. } => {}
    }
}
