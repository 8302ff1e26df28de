//! The network under madsim. Each runtime gets a plain test, that is a fresh thread, or one of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use madsim::{
    Config,
    runtime::{Handle, Runtime},
    time::{TimeHandle, sleep},
};
use sim::{Address, Choices, Exhaustive, Inbox, Net, NetCounts, NetWeather, Ratio, SharedChoices, Trace};

/// What a trace has recorded, a line each.
fn lines(trace: &Trace) -> Vec<String> {
    let recorded = trace.events().into_iter().filter(|event| event.kind != "net.send");
    recorded.map(|event| event.to_string()).collect()
}

const ONE: Address = Address(1);
const TWO: Address = Address(2);
const HALF: Ratio = Ratio::new(1, 2);

/// Runs a world of one network and ends it as a world should end.
fn run<T, F: Future<Output = T>>(world: impl FnOnce(Net<u64>, Trace) -> F) -> T {
    Runtime::with_seed_and_config(1, Config::default()).block_on(async {
        let trace = Trace::keeping();
        let net = Net::start(trace.clone());
        let result = world(net.clone(), trace).await;
        net.stop();
        sleep(Duration::from_millis(1)).await;
        result
    })
}

fn now_ms() -> u64 {
    TimeHandle::current().elapsed().as_millis() as u64
}

async fn sleep_ms(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// What arrives within a second, and when.
async fn arrivals(inbox: &mut Inbox<u64>) -> Vec<(u64, u64)> {
    let deadline = TimeHandle::current().now_instant() + Duration::from_secs(1);
    let mut arrivals = Vec::new();
    while let Some(message) = inbox.recv_until(deadline).await {
        arrivals.push((now_ms(), message));
    }
    arrivals
}

/// Sends 1 and 2 over one link at once, the fates from these bytes.
fn fates(weather: NetWeather, bytes: &[u8]) -> (Vec<(u64, u64)>, NetCounts, Vec<String>) {
    run(|net, trace| async move {
        net.set_weather(weather);
        let mut inbox = net.bind(TWO);
        let choices = &mut Choices::bytes(bytes);
        net.send(choices, ONE, TWO, 7, 1);
        net.send(choices, ONE, TWO, 7, 2);
        (arrivals(&mut inbox).await, net.counts(), lines(&trace))
    })
}

#[test]
fn calm_messages_arrive_in_order_after_a_millisecond_and_draw_nothing() {
    run(|net, trace| async move {
        let choices = &mut Choices::seeded(1);
        let mut inbox = net.bind(TWO);
        for message in 0..3 {
            net.send(choices, ONE, TWO, 7, message);
        }
        sleep_ms(5).await;
        net.send(choices, ONE, TWO, 7, 3);
        assert_eq!([inbox.try_recv(), inbox.try_recv()], [Some(0), Some(1)]);
        assert_eq!(arrivals(&mut inbox).await, [(5, 2), (6, 3)]);
        assert!(choices.tape().0.is_empty());
        assert_eq!(net.counts(), NetCounts { sent: 4, delivered: 4, ..NetCounts::default() });
        assert_eq!(lines(&trace)[0], "net.deliver 1 to 2, label 7, due 1 ms");
        assert_eq!(lines(&trace).len(), 4);
    });
}

#[test]
fn latency_counts_from_the_millisecond_of_sending() {
    run(|net, _| async move {
        net.set_weather(NetWeather { latency_ms_min: 2, latency_ms_max: 4, ..NetWeather::CALM });
        let mut inbox = net.bind(TWO);
        sleep(Duration::from_micros(7_300)).await;
        let choices = &mut Choices::bytes(&[1, 2, 0]);
        for message in 0..3 {
            net.send(choices, ONE, TWO, 7, message);
        }
        assert_eq!(arrivals(&mut inbox).await, [(9, 2), (10, 0), (11, 1)]);
        assert_eq!(net.counts().overtaken, 2, "two were sent before the first to arrive");
    });
}

#[test]
fn what_takes_no_time_arrives_at_once() {
    run(|net, _| async move {
        net.set_weather(NetWeather { latency_ms_min: 0, latency_ms_max: 0, ..NetWeather::CALM });
        let mut inbox = net.bind(TWO);
        sleep_ms(3).await;
        net.send(&mut Choices::bytes(&[]), ONE, TWO, 7, 1);
        assert_eq!((inbox.recv().await, now_ms()), (Some(1), 3));
    });
}

#[test]
fn a_dropped_message_does_not_arrive() {
    let (arrived, counts, lines) = fates(NetWeather { drop: HALF, ..NetWeather::CALM }, &[1, 0]);
    assert_eq!(arrived, [(1, 2)]);
    assert_eq!(counts, NetCounts { sent: 2, delivered: 1, dropped: 1, ..NetCounts::default() });
    assert_eq!(lines[0], "net.drop 1 to 2, label 7, due 0 ms");
}

#[test]
fn a_duplicate_travels_on_its_own() {
    let weather = NetWeather { duplicate: HALF, latency_ms_max: 4, ..NetWeather::CALM };
    // The first with latency 1 + 0 and a copy with 1 + 3, the second with 1 + 1 and none.
    let (arrived, counts, lines) = fates(weather, &[0, 1, 3, 1, 0]);
    assert_eq!(arrived, [(1, 1), (2, 2), (4, 1)]);
    let expected = NetCounts { sent: 2, delivered: 3, duplicated: 1, overtaken: 1, ..NetCounts::default() };
    assert_eq!(counts, expected);
    assert_eq!(lines[0], "net.duplicate 1 to 2, label 7, due 4 ms");
}

#[test]
fn a_delay_reorders() {
    let weather = NetWeather { delay: HALF, delay_ms_max: 9, ..NetWeather::CALM };
    let (arrived, counts, lines) = fates(weather, &[1, 4, 0]);
    assert_eq!(arrived, [(1, 2), (6, 1)]);
    assert_eq!(counts, NetCounts { sent: 2, delivered: 2, delayed: 1, overtaken: 1, ..NetCounts::default() });
    assert_eq!(lines[0], "net.delay 1 to 2, label 7, due 6 ms");
}

#[test]
fn a_copy_draws_latency_and_delay_after_the_message_and_zeros_are_calm() {
    let weather = NetWeather {
        drop: HALF,
        duplicate: HALF,
        delay: HALF,
        latency_ms_min: 1,
        latency_ms_max: 3,
        delay_ms_max: 5,
    };
    let sites = |bytes: &[u8]| {
        run(|net, _| async move {
            net.set_weather(weather);
            let choices = &mut Choices::bytes(bytes);
            net.send(choices, ONE, TWO, 7, 1);
            choices.tape().0.iter().map(|draw| draw.site.clone()).collect::<Vec<_>>()
        })
    };
    assert_eq!(sites(&[1]), ["net.drop"]);
    assert_eq!(
        sites(&[0, 0, 1, 0, 1, 0, 0]),
        ["net.drop", "net.latency", "net.delay", "net.delay-ms", "net.duplicate", "net.latency", "net.delay"]
    );
    assert_eq!(fates(weather, &[]).0, [(1, 1), (1, 2)]);
}

#[test]
fn a_cut_is_one_way_and_heals() {
    run(|net, _| async move {
        net.set_weather(NetWeather { drop: HALF, ..NetWeather::CALM });
        let choices = &mut Choices::bytes(&[]);
        let [mut one, mut two] = [ONE, TWO].map(|at| net.bind(at));
        net.cut(ONE, TWO);
        assert!(net.is_cut(ONE, TWO) && !net.is_cut(TWO, ONE));
        net.send(choices, ONE, TWO, 7, 1);
        assert!(choices.tape().0.is_empty(), "nothing to decide");
        net.send(choices, TWO, ONE, 7, 2);
        sleep_ms(2).await;
        assert_eq!((one.try_recv(), two.try_recv()), (Some(2), None));
        net.mend(ONE, TWO);
        net.send(choices, ONE, TWO, 7, 3);
        assert_eq!(two.recv().await, Some(3));
        assert_eq!(net.counts(), NetCounts { sent: 3, delivered: 2, cut: 1, ..NetCounts::default() });
    });
}

#[test]
fn a_partition_separates_two_sides_both_ways_until_all_is_mended() {
    run(|net, _| async move {
        let [three, four] = [Address(3), Address(4)];
        net.partition(&[ONE, TWO], &[TWO, three]);
        for (from, to) in [(ONE, TWO), (ONE, three), (TWO, three)] {
            assert!(net.is_cut(from, to) && net.is_cut(to, from), "{from:?} {to:?}");
        }
        for (from, to) in [(TWO, TWO), (ONE, four), (four, TWO)] {
            assert!(!net.is_cut(from, to), "{from:?} {to:?}");
        }
        net.mend_all();
        assert!(!net.is_cut(ONE, three) && !net.is_cut(three, ONE));
    });
}

#[test]
fn what_is_due_during_a_cut_is_lost_and_what_is_due_after_it_arrives() {
    run(|net, trace| async move {
        net.set_weather(NetWeather { latency_ms_min: 1, latency_ms_max: 10, ..NetWeather::CALM });
        let mut inbox = net.bind(TWO);
        let choices = &mut Choices::bytes(&[2, 9]);
        net.send(choices, ONE, TWO, 7, 1);
        net.send(choices, ONE, TWO, 7, 2);
        net.cut(ONE, TWO);
        sleep_ms(5).await;
        net.mend(ONE, TWO);
        assert_eq!(arrivals(&mut inbox).await, [(10, 2)]);
        assert_eq!(net.counts(), NetCounts { sent: 2, delivered: 1, cut: 1, ..NetCounts::default() });
        assert_eq!(lines(&trace)[0], "net.cut 1 to 2, label 7, due 3 ms");
    });
}

#[test]
fn the_last_to_bind_an_address_gets_what_is_due_there() {
    run(|net, trace| async move {
        let choices = &mut Choices::bytes(&[]);
        let mut old = net.bind(TWO);
        net.send(choices, ONE, TWO, 7, 1);
        sleep_ms(2).await;
        net.send(choices, ONE, TWO, 7, 2);
        let mut new = net.bind(TWO);
        assert!(!old.is_open() && new.is_open());
        assert_eq!(old.recv().await, None, "what it had not received is lost");
        drop(old);
        assert_eq!(new.recv().await, Some(2), "sent before the bind, due after it");

        net.unbind(TWO);
        assert!(!new.is_open());
        assert_eq!(new.recv().await, None);
        net.send(choices, ONE, TWO, 7, 3);
        sleep_ms(2).await;
        drop(net.bind(TWO));
        net.send(choices, ONE, TWO, 7, 4);
        sleep_ms(2).await;
        let expected = NetCounts { sent: 4, delivered: 2, unreachable: 2, ..NetCounts::default() };
        assert_eq!(net.counts(), expected);
        assert_eq!(lines(&trace).last().unwrap(), "net.unreachable 1 to 2, label 7, due 6 ms");
    });
}

#[test]
fn a_receiver_that_waits_learns_that_its_address_is_gone() {
    let ways: [fn(&Net<u64>); 3] = [|net| drop(net.bind(TWO)), |net| net.unbind(TWO), |net| net.stop()];
    for loses in ways {
        run(|net, _| async move {
            let mut inbox = net.bind(TWO);
            let waiting = madsim::task::spawn(async move { (inbox.recv().await, now_ms()) });
            sleep_ms(4).await;
            loses(&net);
            assert_eq!(waiting.await.unwrap(), (None, 4));
        });
    }
}

#[test]
fn a_deadline_ends_the_wait_to_the_millisecond_but_not_before_a_message() {
    run(|net, _| async move {
        let mut inbox = net.bind(TWO);
        let start = TimeHandle::current().now_instant();
        sleep(Duration::from_micros(2_600)).await;
        let deadline = start + Duration::from_millis(3);
        assert_eq!((inbox.recv_until(deadline).await, now_ms()), (None, 3));
        net.send(&mut Choices::bytes(&[]), ONE, TWO, 7, 1);
        assert_eq!(inbox.recv_until(deadline).await, None, "it has passed, and nothing is there");
        sleep_ms(2).await;
        assert_eq!(inbox.recv_until(deadline).await, Some(1), "it has passed, and something is there");
    });
}

#[test]
fn stop_frees_everything() {
    let token = Arc::new(());
    let runtime = Runtime::with_seed_and_config(1, Config::default());
    let (net, inbox) = runtime.block_on(async {
        let net = Net::start(Trace::hashing());
        let choices = &mut Choices::bytes(&[]);
        let inbox = net.bind(TWO);
        net.send(choices, ONE, TWO, 7, Arc::clone(&token));
        let node = Handle::current().create_node().build();
        let (mut waits, held) = (net.bind(ONE), Arc::clone(&token));
        node.spawn(async move {
            waits.recv().await;
            drop(held);
        });
        sleep_ms(2).await;
        let hour = 3_600_000;
        net.set_weather(NetWeather { latency_ms_min: hour, latency_ms_max: hour, ..NetWeather::CALM });
        net.send(choices, ONE, TWO, 7, Arc::clone(&token));
        assert_eq!(Arc::strong_count(&token), 4);
        net.stop();
        assert_eq!(Arc::strong_count(&token), 2, "neither waiting nor in flight");
        sleep_ms(1).await;
        assert_eq!(Arc::strong_count(&token), 1, "the receiver has ended");

        net.send(choices, ONE, TWO, 7, Arc::clone(&token));
        let late = net.bind(TWO);
        assert!(!late.is_open() && Arc::strong_count(&token) == 1);
        assert_eq!(net.counts().sent, 2);
        (net, inbox)
    });
    drop(runtime);
    assert!(!inbox.is_open());
    drop(net);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// A world of four nodes that answer each other in bad weather, while a nemesis cuts and restarts.
fn busy(seed: u64) -> (u64, NetCounts) {
    const NODES: u64 = 4;
    let world = move || {
        Runtime::with_seed_and_config(seed, Config::default()).block_on(async {
            let trace = Trace::hashing();
            let net = Net::start(trace.clone());
            net.set_weather(NetWeather {
                drop: Ratio::new(1, 20),
                duplicate: Ratio::new(1, 20),
                delay: Ratio::new(1, 10),
                latency_ms_min: 1,
                latency_ms_max: 10,
                delay_ms_max: 50,
            });
            let choices = SharedChoices::new(Choices::seeded(seed));
            let nodes: Vec<_> = (0..NODES)
                .map(|at| {
                    let (net, choices) = (net.clone(), choices.clone());
                    let life = move || node(net.clone(), choices.clone(), Address(at), NODES);
                    Handle::current().create_node().init(life).build()
                })
                .collect();
            for turn in 0..40 {
                sleep_ms(25).await;
                let [a, b] = [turn % NODES, (turn + 1) % NODES];
                net.mend_all();
                net.partition(&[Address(a)], &[Address(b)]);
                if turn % 8 == 0 {
                    Handle::current().kill(nodes[a as usize].id());
                    net.unbind(Address(a));
                    Handle::current().restart(nodes[a as usize].id());
                }
            }
            nodes.iter().for_each(|node| Handle::current().kill(node.id()));
            net.stop();
            sleep_ms(1).await;
            (trace.hash(), net.counts())
        })
    };
    #[expect(clippy::disallowed_methods, reason = "a fresh thread for each runtime, joined at once")]
    std::thread::spawn(world).join().unwrap()
}

/// Sends to all others every 10 ms, and answers what arrives until it has been answered often enough.
async fn node(net: Net<u64>, choices: SharedChoices, at: Address, nodes: u64) {
    let mut inbox = net.bind(at);
    let mut tick = TimeHandle::current().now_instant();
    loop {
        tick += Duration::from_millis(10);
        while let Some(message) = inbox.recv_until(tick).await {
            let (hops, from) = (message >> 32, message & 0xff);
            if hops > 0 {
                let answer = (hops - 1) << 32 | at.0;
                choices.with(|choices| net.send(choices, at, Address(from), hops, answer));
            }
        }
        if !inbox.is_open() {
            return;
        }
        for to in (0..nodes).filter(|&to| to != at.0) {
            choices.with(|choices| net.send(choices, at, Address(to), 3, 2 << 32 | at.0));
        }
    }
}

#[test]
fn a_seed_gives_one_trace_and_counts_add_up() {
    let mut hashes = BTreeMap::new();
    for seed in 0..20 {
        let (hash, counts) = busy(seed);
        assert_eq!((hash, counts), busy(seed), "seed {seed}");
        hashes.insert(hash, seed);
        let NetCounts { sent, delivered, dropped, duplicated, delayed, cut, overtaken, unreachable } = counts;
        assert!([sent, delivered, dropped, duplicated, delayed, cut, overtaken].iter().all(|&n| n > 10));
        let in_flight = (sent + duplicated) - (delivered + dropped + cut + unreachable);
        assert!(in_flight < 200, "{counts:?}");
    }
    assert_eq!(hashes.len(), 20, "no two seeds tell the same story");
}

#[test]
fn an_odometer_finds_exactly_what_two_messages_can_become() {
    let weather = NetWeather { drop: HALF, duplicate: HALF, latency_ms_max: 2, ..NetWeather::CALM };
    let mut walk = Exhaustive::new();
    let (mut runs, mut outcomes) = (0, BTreeMap::new());
    while let Some(mut choices) = walk.begin() {
        let arrived = run(|net, _| {
            net.set_weather(weather);
            let mut inbox = net.bind(TWO);
            net.send(&mut choices, ONE, TWO, 7, 1);
            net.send(&mut choices, ONE, TWO, 7, 2);
            async move { arrivals(&mut inbox).await.into_iter().map(|(_, message)| message).collect::<Vec<_>>() }
        });
        runs += 1;
        *outcomes.entry(arrived).or_insert(0) += 1;
        walk.end(choices).unwrap();
    }
    // Each message is dropped, or has one of two latencies and no copy or one with one of two: 1 + 2 x 3.
    assert_eq!(runs, 7 * 7);
    let outcomes: Vec<_> = outcomes.iter().map(|(arrived, n)| (arrived.as_slice(), *n)).collect();
    let expected: [(&[u64], u32); 18] = [
        (&[], 1),
        (&[1], 2),
        (&[1, 1], 4),
        (&[1, 1, 2], 5),
        (&[1, 1, 2, 2], 7),
        (&[1, 2], 3),
        (&[1, 2, 1], 2),
        (&[1, 2, 1, 2], 4),
        (&[1, 2, 2], 5),
        (&[1, 2, 2, 1], 2),
        (&[2], 2),
        (&[2, 1], 1),
        (&[2, 1, 1], 1),
        (&[2, 1, 1, 2], 2),
        (&[2, 1, 2], 2),
        (&[2, 2], 4),
        (&[2, 2, 1], 1),
        (&[2, 2, 1, 1], 1),
    ];
    assert_eq!(outcomes, expected);
}
