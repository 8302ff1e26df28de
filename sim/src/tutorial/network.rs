use std::time::Duration;

use madsim::{
    Config,
    plugin::simulator,
    runtime::{Handle, Runtime},
    time::{TimeHandle, sleep},
};
use sim::{Address, Choices, Disk, DiskSim, Net, NetWeather, Ratio, SharedChoices, Site, Tape, Trace};

const RUNTIME: Site = Site::new("tutorial.runtime");
const KILL: Site = Site::new("tutorial.kill");
const CLIENT: Address = Address(1);
const SERVER: Address = Address(2);

#[derive(Clone)]
enum Message {
    Add,
    Added(u64),
}

/// One life of the server. It ends when its disk does.
async fn serve(net: Net<Message>, choices: SharedChoices, files: Mount, add: fn(&Mount) -> io::Result<u64>) {
    let mut inbox = net.bind(SERVER);
    while inbox.recv().await.is_some() {
        let Ok(value) = add(&files) else { return };
        choices.with(|choices| net.send(choices, SERVER, CLIENT, 0, Message::Added(value)));
    }
}

/// Adds three times. Gives the tape if something of it is lost, or the server no longer answers.
fn cluster(mut choices: Choices, add: fn(&Mount) -> io::Result<u64>) -> Result<(), Tape> {
    let seed = choices.draw(RUNTIME, 1 << 32);
    let choices = SharedChoices::new(choices);
    let draws = choices.clone();
    // A thread of its own: madsim keeps some of a runtime in thread-locals.
    let run = move || {
        let runtime = Runtime::with_seed_and_config(seed, Config::default());
        runtime.add_simulator::<DiskSim>();
        runtime.block_on(async move {
            let net = Net::start(Trace::hashing());
            net.set_weather(NetWeather { drop: Ratio::new(1, 5), ..NetWeather::CALM });
            let (disks, disk) = (simulator::<DiskSim>(), Disk::default());
            let life = (net.clone(), draws.clone(), disk.clone());
            let life = move || serve(life.0.clone(), life.1.clone(), life.2.mount(), add);
            let server = Handle::current().create_node().init(life).build();
            disks.insert(server.id(), disk.clone());
            let mut inbox = net.bind(CLIENT);
            let (mut added, mut tries) = (0, 0);
            while added < 3 && tries < 100 {
                tries += 1;
                draws.with(|draws| net.send(draws, CLIENT, SERVER, 0, Message::Add));
                let deadline = TimeHandle::current().now_instant() + Duration::from_millis(10);
                if let Some(Message::Added(value)) = inbox.recv_until(deadline).await {
                    added = value;
                }
                if draws.with(|draws| draws.chance(KILL, Ratio::new(1, 4))) {
                    Handle::current().kill(server.id());
                    net.unbind(SERVER);
                    draws.with(|draws| disks.power_loss(server.id(), draws));
                    Handle::current().restart(server.id());
                }
            }
            let value = get(&disk.mount()).unwrap_or(0);
            net.stop();
            sleep(Duration::from_millis(1)).await;
            added >= 3 && value >= added
        })
    };
    let fine = std::thread::spawn(run).join().expect("no node panics");
    let tape = choices.take().finish().expect("no tape was replayed");
    if fine { Ok(()) } else { Err(tape) }
}
