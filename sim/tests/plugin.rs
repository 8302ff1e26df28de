//! Disks under madsim. Each runtime gets a plain test, that is a fresh thread, since `#[madsim::test]` cannot
//! register a plugin.

use madsim::{Config, plugin::simulator, runtime::Runtime};
use sim::{Choices, Disk, DiskSim};

#[test]
fn killing_a_node_is_a_power_loss_of_its_disk() {
    let runtime = Runtime::with_seed_and_config(1, Config::default());
    runtime.add_simulator::<DiskSim>();
    runtime.block_on(async {
        let disks = simulator::<DiskSim>();
        let [node, other] = [(), ()].map(|()| madsim::runtime::Handle::current().create_node().build());
        for id in [node.id(), other.id()] {
            disks.insert(id, Disk::default());
        }
        let disk = disks.disk(node.id()).expect("it has one");
        let mount = disk.mount();
        let file = mount.create_new("/a").unwrap();
        file.write_at(0, b"data").unwrap();

        madsim::runtime::Handle::current().kill(node.id());
        assert!(disk.is_dead() && file.write_at(0, b"ghost").is_err());
        assert!(disk.mount().open("/a").is_err(), "a dead disk needs its power loss first");
        assert_eq!(disk.pending_len(), 2, "nothing is decided yet");

        let report = disks.power_loss(node.id(), &mut Choices::bytes(&[])).expect("one is due");
        assert_eq!(report.len(), 2);
        assert_eq!(disk.peek("/a").unwrap(), b"data");
        assert!(file.write_at(0, b"ghost").is_err());
        assert!(disk.mount().open("/a").is_ok());
        assert!(disks.power_loss(node.id(), &mut Choices::bytes(&[])).is_none());
        assert!(!disks.disk(other.id()).expect("it has one").is_dead());
    });
}
