//! Pictures of runs, as the page of a timeline gets them: a small one by hand, a large one of a cluster, a hostile one.

use serde_json::{Value, json};

/// Text that would be a script if it were ever taken for markup.
pub(crate) const HOSTILE: &str =
    "</script><img src=x onerror=\"window.broken=1\">'\"`<b>&amp;&lt;<!--<script>window.broken=2</script>";

/// Fills in what most events do not have.
fn event(id: usize, lane: usize, at: u64, kind: &str, name: &str, text: &str) -> Value {
    let life = u64::from(lane > 0);
    json!({ "id": id, "lane": lane, "at": at, "life": life, "kind": kind, "name": name, "text": text, "entry": null,
            "to": null, "arrives": null, "tone": "plain", "fates": [], "stores": null })
}

fn with(mut event: Value, more: Value) -> Value {
    for (key, value) in more.as_object().expect("an object") {
        event[key] = value.clone();
    }
    event
}

fn picture(title: &str, clock: &str, lanes: &[&str], events: Vec<Value>, rest: Value) -> Value {
    let lanes: Vec<_> =
        lanes.iter().enumerate().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    let crashes = events.iter().filter(|event| event["kind"] == "crash").count();
    with(
        json!({ "version": 1, "title": title, "subject": "as-merged", "profile": "posix", "lie": null,
                "trace_hash": "9a41c07be2d35f18", "crashes": crashes, "clock": clock, "lanes": lanes, "events": events }),
        rest,
    )
}

fn sidecar(epoch: u32, active: u32, keys: &[u32]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|id| json!({ "id": id, "purpose": "storage", "wrapped": format!("q83vASNFZ4mrze{id:02}8BI0VniavN7w==") }))
        .collect();
    let whole = json!({ "version": 1, "epoch": epoch, "active": { "storage": active }, "keys": keys });
    serde_json::to_string_pretty(&whole).expect("it is JSON")
}

fn key(id: u32, active: bool) -> Value {
    json!({ "id": id, "purpose": "storage", "active": active, "bytes": format!("key {id}") })
}

/// One node, one crash in the middle of a rotation, one violation after the restart.
pub(crate) fn single() -> Value {
    let (before, after) = (sidecar(1, 1, &[1]), sidecar(2, 2, &[1, 2]));
    let row = |epoch: u32, key: u32| format!("cluster 7  epoch {epoch}  writer node-1  key {key}");
    let stores = json!([
        { "memory": [], "sidecar": { "durable": null, "seen": null }, "registry": { "durable": [], "seen": [] }, "pending": [] },
        { "memory": [key(1, true)], "sidecar": { "durable": before, "seen": before },
          "registry": { "durable": [row(1, 1)], "seen": [row(1, 1)] }, "pending": [] },
        { "memory": [key(1, false), key(2, true)], "sidecar": { "durable": before, "seen": after },
          "registry": { "durable": [row(1, 1)], "seen": [row(1, 1), row(2, 2)] },
          "pending": ["create /data/sidecar.json.tmp", "write inode 4 at 0, 612 bytes", "rename /data/sidecar.json.tmp to /data/sidecar.json",
                      "write inode 2 at 8192, 4096 bytes"] },
        { "memory": null, "sidecar": { "durable": before, "seen": before },
          "registry": { "durable": null, "seen": null }, "pending": [] },
        { "memory": [key(1, true)], "sidecar": { "durable": before, "seen": before },
          "registry": { "durable": [row(1, 1), row(2, 2)], "seen": [row(1, 1), row(2, 2)] }, "pending": [] },
    ]);
    let fates = json!([
        { "op": "create /data/sidecar.json.tmp", "fate": "dropped", "detail": "" },
        { "op": "write inode 4 at 0, 612 bytes", "fate": "torn", "detail": "sector 0 new, sector 1 old" },
        { "op": "rename /data/sidecar.json.tmp to /data/sidecar.json", "fate": "unreachable", "detail": "its source was not created" },
        { "op": "write inode 2 at 8192, 4096 bytes", "fate": "kept", "detail": "all 8 sectors new" },
    ]);
    let events = vec![
        event(0, 0, 0, "world", "settings", "as-merged on posix, 2 entries, at most 1 crash"),
        with(event(1, 1, 1, "start", "boot", "the first start, on an empty disk"), json!({ "stores": 0 })),
        with(event(2, 1, 2, "entry", "bootstrap", "index 1, new data key 1"), json!({ "entry": 1 })),
        with(
            event(3, 1, 3, "disk", "write", "/data/sidecar.json.tmp at 0, 318 bytes"),
            json!({ "entry": 1 }),
        ),
        with(event(4, 1, 4, "disk", "sync-dir", "/data"), json!({ "entry": 1 })),
        with(event(5, 1, 5, "verdict", "applied", ""), json!({ "entry": 1, "tone": "good", "stores": 1 })),
        with(event(6, 1, 6, "entry", "rotate", "index 2, from key 1 to key 2"), json!({ "entry": 2 })),
        with(event(7, 1, 7, "step", "memory", "key 2 is the active one"), json!({ "entry": 2 })),
        with(
            event(8, 1, 8, "disk", "write", "/data/sidecar.json.tmp at 0, 612 bytes"),
            json!({ "entry": 2 }),
        ),
        with(
            event(9, 1, 9, "disk", "rename", "/data/sidecar.json.tmp to /data/sidecar.json"),
            json!({ "entry": 2, "stores": 2 }),
        ),
        with(
            event(10, 1, 10, "fault", "sync", "fails with EIO, and the page is marked clean"),
            json!({ "entry": 2, "tone": "warn" }),
        ),
        with(
            event(11, 1, 11, "crash", "power loss", "inside of the rotation, before the directory is synced"),
            json!({ "entry": 2, "tone": "bad", "fates": fates, "stores": 3 }),
        ),
        with(event(12, 1, 12, "start", "boot", "the second life"), json!({ "life": 2, "stores": 4 })),
        with(event(13, 1, 13, "log", "redelivery", "from index 2"), json!({ "life": 2 })),
        with(
            event(14, 1, 14, "entry", "rotate", "index 2 again, from key 1 to key 2"),
            json!({ "life": 2, "entry": 2 }),
        ),
        with(
            event(15, 1, 15, "verdict", "rejected", "epoch 2 is taken already, by node-1 with key 2"),
            json!({ "life": 2, "entry": 2, "tone": "bad" }),
        ),
        with(
            event(16, 1, 16, "violation", "replay", "an entry that was applied is rejected"),
            json!({ "life": 2, "entry": 2, "tone": "bad" }),
        ),
    ];
    let expected = "entry 2: applied\nactive key: 2\nkeys: 1, 2\nepoch: 2\nregistry rows: 2";
    let found = "entry 2: rejected, the epoch is taken\nactive key: 1\nkeys: 1\nepoch: 2\nregistry rows: 2";
    picture(
        "single, seed 17, as-merged",
        "step",
        &["world", "node 1"],
        events,
        json!({
            "scenario": "single", "entries": 2, "draws": 123, "stores": stores,
            "reproduce": "cargo sim replay 17 --scenario single --subject as-merged --profile posix",
            "story": [
                "The node starts on an empty disk and applies entry 1, which brings data key 1.",
                "Entry 2 rotates to key 2: the sidecar is written beside the old one and renamed over it.",
                "Before the directory is synced the power fails: the new sidecar is lost, the registry's new row is kept.",
                "After the restart entry 2 is delivered again. The registry says that its epoch is taken, so it is rejected.",
            ],
            "violations": [{
                "invariant": "replay-converges", "fingerprint": "replay-converges/rotate/registry-ahead",
                "says": "Replaying the log from what a crash left leads to the state of the model.",
                "evidence": "Life 2 ends with active key 1, the model has key 2.",
                "expected": expected, "found": found, "event": 16,
            }],
        }),
    )
}

/// Five nodes and 20,000 events: mostly messages and disk operations, with crashes and three violations among them.
pub(crate) fn cluster() -> Value {
    const EVENTS: usize = 20_000;
    const FATES: [&str; 4] = ["kept", "dropped", "torn", "unreachable"];
    const INVARIANTS: [&str; 3] = ["replicas-agree", "rejection-is-pure", "converges-after-faults"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let (mut events, mut stores, mut lives) = (Vec::new(), Vec::new(), [0_u64, 1, 1, 1, 1, 1]);
    let mut down = [false; 6];
    let mut at = 0;
    for id in 0..EVENTS {
        at += u64::from(draw(3) == 0);
        let lane = 1 + usize::try_from(draw(5)).expect("small");
        let entry = id as u64 / 500 + 1;
        let made = match draw(1000) {
            _ if id < 5 => event(id, id + 1, 0, "start", "boot", "the first start, on an empty disk"),
            _ if down[lane] => {
                (down[lane], lives[lane]) = (false, lives[lane] + 1);
                event(id, lane, at, "start", "boot", "from what the crash left")
            }
            0..3 if id > 300 => {
                down[lane] = true;
                let count = draw(9);
                let fates: Vec<_> = (0..count)
                    .map(|op| {
                        json!({
                            "op": format!("write inode {} at {}, 4096 bytes", 2 + op % 3, op * 4096),
                            "fate": (FATES[usize::try_from(draw(4)).expect("small")]),
                            "detail": format!("sectors 0,{} new", op % 8),
                        })
                    })
                    .collect();
                with(
                    event(id, lane, at, "crash", "power loss", "in the middle of a write"),
                    json!({ "tone": "bad", "fates": fates }),
                )
            }
            3..6 => with(
                event(id, lane, at, "role", "leader", &format!("of term {}", at / 100)),
                json!({ "tone": "good" }),
            ),
            6..10 => with(
                event(id, 0, at, "client", "proposes", "a rotation of the data key"),
                json!({ "entry": entry }),
            ),
            10..14 => with(
                event(id, lane, at, "fault", "slow disk", "every sync takes 40 ms"),
                json!({ "tone": "warn" }),
            ),
            14..60 => {
                with(event(id, lane, at, "entry", "rotate", "to a new data key"), json!({ "entry": entry }))
            }
            60..100 => {
                with(event(id, lane, at, "verdict", "applied", ""), json!({ "entry": entry, "tone": "good" }))
            }
            100..120 => event(id, lane, at, "log", "compacted", "up to the snapshot's index"),
            120..160 => event(id, lane, at, "step", "registry", "the row is committed"),
            160..600 => {
                let to = 1 + (lane + usize::try_from(draw(4)).expect("small")) % 5;
                let name =
                    ["append", "heartbeat", "vote", "append-reply"][usize::try_from(draw(4)).expect("small")];
                let lost = draw(20) == 0;
                let arrives = if lost { Value::Null } else { json!(at + 1 + draw(12)) };
                let more =
                    json!({ "to": to, "arrives": arrives, "tone": if lost { "warn" } else { "plain" } });
                with(
                    event(
                        id,
                        lane,
                        at,
                        "message",
                        if lost { "drop" } else { name },
                        &format!("term {}, index {entry}", at / 100),
                    ),
                    more,
                )
            }
            _ => event(
                id,
                lane,
                at,
                "disk",
                ["write", "sync", "sync-dir", "rename"][usize::try_from(draw(4)).expect("small")],
                &format!("/data/node-{lane}/raft.redb at {}, 4096 bytes", draw(64) * 4096),
            ),
        };
        let lane = usize::try_from(made["lane"].as_u64().expect("a lane")).expect("small");
        let mut made = with(made, json!({ "life": lives[lane] }));
        if id < 5 || draw(25) == 0 && lane > 0 {
            let epoch = u32::try_from(entry).expect("small");
            let seen = sidecar(epoch, epoch, &(1..=epoch.min(12)).collect::<Vec<_>>());
            let durable = if draw(2) == 0 { json!(seen) } else { json!(sidecar(epoch - 1, epoch - 1, &[1])) };
            let rows: Vec<_> = (1..=epoch.min(12))
                .map(|row| format!("cluster 7  epoch {row}  writer node-{lane}  key {row}"))
                .collect();
            made["stores"] = json!(stores.len());
            stores.push(json!({
                "memory": if down[lane] { Value::Null } else { json!([key(epoch, true)]) }, "sidecar": { "durable": durable, "seen": seen },
                "registry": { "durable": rows[..rows.len() - 1], "seen": rows }, "pending": ["write inode 2 at 0, 4096 bytes"],
            }));
        }
        events.push(made);
    }
    let crash = |from: usize| (from..EVENTS).find(|id| events[*id]["kind"] == "crash").expect("a crash");
    let at = [crash(6000), crash(6000) + 400, 17_000];
    let violations: Vec<_> = at.iter().enumerate().map(|(number, event)| json!({
        "invariant": (INVARIANTS[number]),
        "fingerprint": format!("cluster/defect-{number}/rotate"),
        "says": "Replicas that have applied the same index hold the same keys, the same active key and the same registry.",
        "evidence": format!("Node {} differs at index {}.", number + 2, 12 + number), "event": event,
        "expected": sidecar(3, 3, &[1, 2, 3]), "found": sidecar(3, 2, &[1, 2]),
    })).collect();
    picture(
        "cluster, seed 4711, as-merged",
        "ms",
        &["world", "node 1", "node 2", "node 3", "node 4", "node 5"],
        events,
        json!({
            "scenario": "cluster", "entries": 40, "draws": 48_211, "stores": stores, "violations": violations,
            "reproduce": "cargo sim replay 4711 --scenario cluster --subject as-merged --profile posix --verbose",
            "story": ["Five nodes elect node 3.", "Node 2 loses power while it writes its sidecar.", "It comes back with the old key, and says so to nobody."],
        }),
    )
}

/// The small one, with hostile and very long text wherever there is text.
pub(crate) fn hostile() -> Value {
    let long = "/data/".to_owned() + &"a-very-long-name-without-any-space-in-it".repeat(12);
    let words = format!("{HOSTILE} {long}");
    let mut picture = single();
    for field in ["title", "scenario", "subject", "profile", "trace_hash", "reproduce"] {
        picture[field] = json!(words);
    }
    picture["lie"] = json!(words);
    picture["story"] = json!([words, long]);
    for lane in picture["lanes"].as_array_mut().expect("a list") {
        lane["name"] = json!(words);
    }
    for event in picture["events"].as_array_mut().expect("a list") {
        event["name"] = json!(words);
        event["text"] = json!(format!("{words}\nsecond line"));
        for fate in event["fates"].as_array_mut().expect("a list") {
            (fate["op"], fate["detail"]) = (json!(words), json!(words));
        }
    }
    for violation in picture["violations"].as_array_mut().expect("a list") {
        for field in ["invariant", "fingerprint", "says", "evidence", "expected", "found"] {
            violation[field] = json!(words);
        }
    }
    for stores in picture["stores"].as_array_mut().expect("a list") {
        stores["sidecar"] = json!({ "durable": words, "seen": long });
        stores["registry"] = json!({ "durable": [words], "seen": [long, words] });
        stores["pending"] = json!([words, long]);
        stores["memory"] = json!([{ "id": 1, "purpose": words, "active": true, "bytes": long }]);
    }
    picture
}
