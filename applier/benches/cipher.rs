//! What cipher and envelopes cost above bare `aes-gcm`, for values of 1 KiB, and what reading the keystore costs.
//!
//! "Bare" is one `Aes256Gcm` at hand, a fixed nonce, and associated data that are ready: none, those of an entry, or
//! those of a value. Sealing takes the plaintext and returns `nonce | ciphertext | tag`, opening takes that and returns
//! the plaintext: each with one allocation of the length that it returns, as ours do. Ours finds the key in the
//! keystore by its id, or draws a nonce where a sealer seals, builds its associated data, and writes or parses the
//! header of the envelope.
//!
//! Groups `seal`, `open` and `keystore` are times. The table after them are ratios, which on a shared machine mean more:
//! each is the median over rounds in which all are timed, one right after another.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use applier::cipher::TAG_LEN;
use applier::envelope::{raft, storage};
use applier::keystore::Keystore;
use applier::secret::Dek;
use applier::{Cipher, DekId, LocalEpoch, Nonce, Purpose, Sealer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LEN: usize = 1024;
const NONCE: Nonce = Nonce::new(0x1234, LocalEpoch(1), 1);
const KEY_BYTES: [u8; 32] = [7; 32];
/// As long as a name of a table, a row and a timestamp.
const TABLE_KEY: &[u8] = b"user:0000000000000042\x00\xff\xff\xff\xff\xff\xff\xff\xff";
/// As long as the associated data of a value under that key.
const VALUE_AAD: [u8; 15 + TABLE_KEY.len()] = [3; 15 + TABLE_KEY.len()];

fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

/// Four keys: of two purposes the active one, and one from before a rotation.
fn cipher() -> Cipher {
    let keystore = Keystore::new();
    for key in 1..=4 {
        keystore.set(id(key.into()), Dek::new([6 + key; 32])).expect("no conflict");
    }
    Cipher::new(Arc::new(keystore))
}

fn bare_seal(aead: &Aes256Gcm, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(Nonce::LEN + plaintext.len() + TAG_LEN);
    sealed.extend_from_slice(NONCE.as_bytes());
    sealed.extend_from_slice(plaintext);
    let text = (&mut sealed[Nonce::LEN..]).into();
    let tag = aead.encrypt_inout_detached(NONCE.as_bytes().into(), aad, text).expect("short enough");
    sealed.extend_from_slice(&tag);
    sealed
}

fn bare_open(aead: &Aes256Gcm, aad: &[u8], sealed: &[u8]) -> Vec<u8> {
    let (nonce, rest) = sealed.split_first_chunk::<{ Nonce::LEN }>().expect("a nonce");
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().expect("a tag");
    let mut text = ciphertext.to_vec();
    aead.decrypt_inout_detached(nonce.into(), aad, text.as_mut_slice().into(), tag.into())
        .expect("authentic");
    text
}

/// Something that seals or opens 1 KiB, and its name.
type Case<'a> = (&'static str, Box<dyn Fn() -> Vec<u8> + 'a>);

/// The bare ones come first, in the order: no associated data, those of an entry, those of a value.
fn sealing<'a>(aead: &'a Aes256Gcm, cipher: &'a Cipher, text: &'a [u8]) -> Vec<Case<'a>> {
    let sealer = |purpose| {
        Sealer::new(purpose, id(1), LocalEpoch(1), 0x1234, cipher.keystore()).expect("the key is loaded")
    };
    let (entries, values) = (sealer(Purpose::Raft), sealer(Purpose::Storage));
    let entry_aad = raft::aad(id(1));
    let storage = || storage::seal(cipher, id(1), &NONCE, 0, TABLE_KEY, black_box(text)).expect("sealed");
    vec![
        ("bare", Box::new(|| bare_seal(aead, black_box(b""), black_box(text)))),
        ("bare-raft-aad", Box::new(move || bare_seal(aead, black_box(&entry_aad), black_box(text)))),
        ("bare-storage-aad", Box::new(|| bare_seal(aead, black_box(&VALUE_AAD), black_box(text)))),
        ("cipher", Box::new(|| cipher.seal(id(1), &NONCE, b"", black_box(text)).expect("sealed"))),
        ("raft", Box::new(|| raft::seal(cipher, id(1), &NONCE, black_box(text)).expect("sealed"))),
        ("storage", Box::new(storage)),
        ("raft-sealer", Box::new(move || entries.seal_entry(black_box(text)).expect("sealed"))),
        (
            "storage-sealer",
            Box::new(move || values.seal_value(0, TABLE_KEY, black_box(text)).expect("sealed")),
        ),
    ]
}

fn opening<'a>(aead: &'a Aes256Gcm, cipher: &'a Cipher, text: &'a [u8]) -> Vec<Case<'a>> {
    let entry_aad = raft::aad(id(1));
    let bare = [&b""[..], &entry_aad, &VALUE_AAD].map(|aad| bare_seal(aead, aad, text));
    let [none, entry, value] = bare;
    let sealed = cipher.seal(id(1), &NONCE, b"", text).expect("sealed");
    let raft = raft::seal(cipher, id(1), &NONCE, text).expect("sealed");
    let storage = storage::seal(cipher, id(1), &NONCE, 0, TABLE_KEY, text).expect("sealed");
    let open = move || storage::open(cipher, 0, TABLE_KEY, black_box(&storage)).expect("opened");
    vec![
        ("bare", Box::new(move || bare_open(aead, black_box(b""), black_box(&none)))),
        ("bare-raft-aad", Box::new(move || bare_open(aead, black_box(&entry_aad), black_box(&entry)))),
        ("bare-storage-aad", Box::new(move || bare_open(aead, black_box(&VALUE_AAD), black_box(&value)))),
        ("cipher", Box::new(move || cipher.open(id(1), &NONCE, b"", black_box(&sealed)).expect("opened"))),
        ("raft", Box::new(move || raft::open(cipher, black_box(&raft)).expect("opened"))),
        ("storage", Box::new(open)),
    ]
}

fn envelopes(criterion: &mut Criterion) {
    let (aead, cipher, text) = (Aes256Gcm::new((&KEY_BYTES).into()), cipher(), [0x5a; LEN]);
    let groups = [("seal", sealing(&aead, &cipher, &text)), ("open", opening(&aead, &cipher, &text))];
    for (name, cases) in &groups {
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::Bytes(LEN as u64));
        for (case, run) in cases {
            group.bench_function(*case, |bencher| bencher.iter(run));
        }
        group.finish();
    }
    groups.iter().for_each(|(name, cases)| ratios(name, cases));
}

/// Prints, for each case that is ours, how many times as long it takes as the bare one without associated data, and as
/// the bare one with as many as it has.
#[expect(clippy::print_stdout, reason = "it is the result")]
fn ratios(group: &str, cases: &[Case<'_>]) {
    let rounds: Vec<Vec<f64>> =
        (0..500).map(|_| cases.iter().map(|(_, run)| nanoseconds(run)).collect()).collect();
    let median = |ours: usize, bare: usize| {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[ours] / round[bare]).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    println!("{:24} {:>12} {:>16}", "times as long as", "bare", "bare, same AAD");
    for (ours, (name, _)) in cases.iter().enumerate().skip(3) {
        let same = 1 + usize::from(name.starts_with("storage"));
        let same = if *name == "cipher" { 0 } else { same };
        println!("{:24} {:>12.3} {:>16.3}", format!("{group}/{name}"), median(ours, 0), median(ours, same));
    }
}

/// The mean of a hundred runs, too few for the machine to change its mind in between.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn nanoseconds(run: &dyn Fn() -> Vec<u8>) -> f64 {
    let start = Instant::now();
    for _ in 0..100 {
        black_box(run());
    }
    start.elapsed().as_nanos() as f64 / 100.0
}

/// Reads of the keystore, alone and while another thread puts a key in and takes it out without a pause.
fn keystore(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keystore");
    let cipher = cipher();
    let keystore = cipher.keystore();
    for writing in ["alone", "with-a-writer"] {
        let stop = AtomicBool::new(writing == "alone");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    keystore.set(id(9), Dek::new([99; 32])).expect("no conflict");
                    keystore.remove(id(9));
                }
            });
            group.bench_function(format!("aead/{writing}"), |bencher| {
                bencher.iter(|| keystore.aead(black_box(id(1))).expect("loaded"));
            });
            group.bench_function(format!("with_aead/{writing}"), |bencher| {
                bencher.iter(|| {
                    keystore.with_aead(black_box(id(1)), |aead| {
                        black_box(aead);
                    })
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group!(benches, envelopes, keystore);
criterion_main!(benches);
