//! The disks of the nodes of a madsim runtime.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use madsim::{Config, plugin::Simulator, rand::GlobalRng, task::NodeId, time::TimeHandle};

use crate::{
    choices::Choices,
    disk::{CrashReport, Disk},
};

/// Gives each node a disk that dies with it. Register it with `Runtime::add_simulator::<DiskSim>()` and find
/// it with `madsim::plugin::simulator::<DiskSim>()`.
///
/// When a node is killed, its disk is at once: every call through an old mount fails from then on, so what
/// the node's futures still do while they are dropped goes nowhere. Fates are decided later, in
/// [`DiskSim::power_loss`], since a reset cannot draw. madsim resets a node on a kill, not on a restart: kill
/// before restarting.
#[derive(Debug, Default)]
pub struct DiskSim {
    disks: Mutex<BTreeMap<NodeId, Disk>>,
}

impl DiskSim {
    /// Puts a disk into a node, in place of the one it had.
    pub fn insert(&self, node: NodeId, disk: Disk) {
        self.lock().insert(node, disk);
    }

    /// The disk of a node.
    pub fn disk(&self, node: NodeId) -> Option<Disk> {
        self.lock().get(&node).cloned()
    }

    /// Ends the life of a killed node's disk with a power loss. `None` if it has no disk or the disk is not
    /// dead: then nothing is drawn.
    pub fn power_loss(&self, node: NodeId, choices: &mut Choices) -> Option<CrashReport> {
        self.disk(node).filter(Disk::is_dead).map(|disk| disk.power_loss(choices))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Disk>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulator for DiskSim {
    fn new(_: &GlobalRng, _: &TimeHandle, _: &Config) -> Self {
        Self::default()
    }

    fn reset_node(&self, id: NodeId) {
        if let Some(disk) = self.disk(id) {
            disk.kill();
        }
    }
}
