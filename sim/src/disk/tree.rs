//! Files and directories: what the durable side and the view of a disk are made of.

use std::{collections::BTreeMap, sync::Arc};

use super::{image::Image, op::InodeId, op::Pending};

/// The root directory; it exists always, durably.
pub(crate) const ROOT: InodeId = InodeId(0);

/// The entries of a directory.
pub(crate) type Entries = BTreeMap<Arc<str>, InodeId>;

/// What an inode holds. Copies share their content until one of them changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Node {
    File(Image),
    Dir(Arc<Entries>),
}

/// Inodes by number. An inode no name leads to is kept until it is pruned, since an open file may still use
/// it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tree {
    /// Sorted by number; there are few, so this copies faster than a map.
    nodes: Vec<(InodeId, Node)>,
}

impl Tree {
    /// An empty root directory.
    pub(crate) fn new() -> Self {
        Self { nodes: vec![(ROOT, Node::Dir(Arc::default()))] }
    }

    /// Adds an inode; its number is above all others.
    pub(crate) fn add(&mut self, id: InodeId, node: Node) {
        debug_assert!(self.nodes.last().is_none_or(|(last, _)| *last < id), "inode numbers only grow");
        self.nodes.push((id, node));
    }

    fn position(&self, id: InodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&id, |(key, _)| *key).ok()
    }

    pub(crate) fn get(&self, id: InodeId) -> Option<&Node> {
        self.position(id).map(|at| &self.nodes[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: InodeId) -> Option<&mut Node> {
        self.position(id).map(|at| &mut self.nodes[at].1)
    }

    pub(crate) fn file(&self, id: InodeId) -> Option<&Image> {
        match self.get(id)? {
            Node::File(image) => Some(image),
            Node::Dir(_) => None,
        }
    }

    pub(crate) fn file_mut(&mut self, id: InodeId) -> Option<&mut Image> {
        match self.get_mut(id)? {
            Node::File(image) => Some(image),
            Node::Dir(_) => None,
        }
    }

    pub(crate) fn dir(&self, id: InodeId) -> Option<&Entries> {
        match self.get(id)? {
            Node::Dir(entries) => Some(entries),
            Node::File(_) => None,
        }
    }

    fn dir_mut(&mut self, id: InodeId) -> Option<&mut Entries> {
        match self.get_mut(id)? {
            Node::Dir(entries) => Some(Arc::make_mut(entries)),
            Node::File(_) => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (InodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Carries out an operation whole, as it was meant.
    ///
    /// A name is only taken away while it points to what the operation was about: a crash may have dropped
    /// the operation that made it point there.
    pub(crate) fn apply(&mut self, op: &Pending) {
        match op {
            Pending::Link { dir, name, inode } => self.link(*dir, name, *inode),
            Pending::Unlink { dir, name, inode } => self.detach(*dir, name, *inode),
            Pending::Rename { dir, from, to, inode, .. } => {
                self.detach(*dir, from, *inode);
                self.link(*dir, to, *inode);
            }
            Pending::Detach { dir, from, to, inode, replaced } => {
                self.detach(*dir, from, *inode);
                if let Some(replaced) = replaced {
                    self.detach(*dir, to, *replaced);
                }
            }
            Pending::Write { inode, offset, data } => {
                if let Some(image) = self.file_mut(*inode) {
                    image.write_shared(*offset, data);
                }
            }
            Pending::SetLen { inode, len } => {
                if let Some(image) = self.file_mut(*inode) {
                    image.set_len(*len);
                }
            }
        }
    }

    /// What this inode holds once these operations on it have been carried out.
    pub(crate) fn with<'a>(&self, id: InodeId, ops: impl Iterator<Item = &'a Pending>) -> Option<Node> {
        let mut alone = Self { nodes: vec![(id, self.get(id)?.clone())] };
        ops.filter(|op| op.target() == id).for_each(|op| alone.apply(op));
        alone.nodes.pop().map(|(_, node)| node)
    }

    fn link(&mut self, dir: InodeId, name: &Arc<str>, inode: InodeId) {
        if let Some(entries) = self.dir_mut(dir) {
            entries.insert(name.clone(), inode);
        }
    }

    fn detach(&mut self, dir: InodeId, name: &Arc<str>, inode: InodeId) {
        // Looking first keeps the directory shared with its copies where there is nothing to do.
        if self.dir(dir).is_some_and(|entries| entries.get(name) == Some(&inode))
            && let Some(entries) = self.dir_mut(dir)
        {
            entries.remove(name);
        }
    }

    /// Adds every inode that names lead to from those already found. New ones come in the order of a walk by
    /// name, which depends on content only, so that it can serve for numbering.
    pub(crate) fn reach(&self, found: &mut Vec<InodeId>) {
        let mut at = 0;
        while let Some(id) = found.get(at).copied() {
            at += 1;
            for child in self.dir(id).into_iter().flat_map(|entries| entries.values()) {
                if !found.contains(child) {
                    found.push(*child);
                }
            }
        }
    }

    /// Keeps only these inodes.
    pub(crate) fn retain(&mut self, keep: &[InodeId]) {
        self.nodes.retain(|(id, _)| keep.contains(id));
    }

    /// Keeps only these inodes and gives each its position in the list as its number.
    pub(crate) fn renumber(&mut self, order: &[InodeId]) {
        if order.iter().enumerate().all(|(at, id)| id.0 == at as u64) {
            self.retain(order);
            return;
        }
        let number = |id: InodeId| order.iter().position(|other| *other == id).map(|at| InodeId(at as u64));
        let old = std::mem::take(&mut self.nodes);
        self.nodes.extend(old.into_iter().filter_map(|(id, mut node)| {
            if let Node::Dir(entries) = &mut node {
                let renumbered = |(name, id): (&Arc<str>, &InodeId)| Some((name.clone(), number(*id)?));
                *entries = Arc::new(entries.iter().filter_map(renumbered).collect());
            }
            Some((number(id)?, node))
        }));
        self.nodes.sort_unstable_by_key(|(id, _)| *id);
    }

    /// The path of an inode, for messages.
    pub(crate) fn path_of(&self, wanted: InodeId) -> Option<String> {
        let mut open = vec![(ROOT, String::new())];
        while let Some((id, path)) = open.pop() {
            if id == wanted {
                return Some(if path.is_empty() { "/".to_owned() } else { path });
            }
            if let Some(entries) = self.dir(id) {
                open.extend(entries.iter().map(|(name, child)| (*child, format!("{path}/{name}"))));
            }
        }
        None
    }
}
