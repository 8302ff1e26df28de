//! What cipher and envelopes cost above bare `aes-gcm`, for values of 1 KiB, and what reading the keystore costs.
//!
//! "Bare" is one `Aes256Gcm` at hand, a fixed nonce and no associated data. Sealing takes the plaintext and returns
//! `nonce | ciphertext | tag`, opening takes that and returns the plaintext: each with one allocation of the length
//! that it returns, as ours do. Ours finds the key in the keystore by its id, or draws a nonce where a sealer seals,
//! and authenticates its associated data: 6 bytes of an entry, 15 and the table key of a value.
//!
//! All in one run, since only their ratio means something on a shared machine.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use applier::cipher::TAG_LEN;
use applier::envelope::{raft, storage};
use applier::keystore::Keystore;
use applier::secret::Dek;
use applier::{Cipher, DekId, LocalEpoch, Nonce, Purpose, Sealer};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

const LEN: usize = 1024;
const NONCE: Nonce = Nonce::new(0x1234, LocalEpoch(1), 1);
const NODE16: u16 = 0x1234;
const KEY_BYTES: [u8; 32] = [7; 32];
/// As long as a name of a table, a row and a timestamp.
const TABLE_KEY: &[u8] = b"user:0000000000000042\x00\xff\xff\xff\xff\xff\xff\xff\xff";

fn id(id: u32) -> DekId {
    DekId::new(id).expect("not 0")
}

/// Two keys for each purpose: the active one, and one from before a rotation.
fn cipher() -> Cipher {
    let keystore = Keystore::new();
    for key in 1..=4 {
        let bytes = if key == 1 { KEY_BYTES } else { [key as u8; 32] };
        keystore.set(id(key), Dek::new(bytes)).expect("no conflict");
    }
    Cipher::new(Arc::new(keystore))
}

fn bare_seal(aead: &Aes256Gcm, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(Nonce::LEN + plaintext.len() + TAG_LEN);
    sealed.extend_from_slice(NONCE.as_bytes());
    sealed.extend_from_slice(plaintext);
    let text = (&mut sealed[Nonce::LEN..]).into();
    let tag = aead.encrypt_inout_detached(NONCE.as_bytes().into(), b"", text).expect("short enough");
    sealed.extend_from_slice(&tag);
    sealed
}

fn bare_open(aead: &Aes256Gcm, sealed: &[u8]) -> Vec<u8> {
    let (nonce, rest) = sealed.split_first_chunk::<{ Nonce::LEN }>().expect("a nonce");
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().expect("a tag");
    let mut text = ciphertext.to_vec();
    aead.decrypt_inout_detached(nonce.into(), b"", text.as_mut_slice().into(), tag.into())
        .expect("authentic");
    text
}

fn kib<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(LEN as u64));
    group
}

fn seal(criterion: &mut Criterion) {
    let (aead, cipher, text) = (Aes256Gcm::new((&KEY_BYTES).into()), cipher(), [0x5a; LEN]);
    let text = &text[..];
    let sealer = |purpose| {
        Sealer::new(purpose, id(1), LocalEpoch(1), NODE16, cipher.keystore()).expect("the key is loaded")
    };
    let mut group = kib(criterion, "seal");
    group.bench_function("bare", |bencher| bencher.iter(|| bare_seal(&aead, black_box(text))));
    group.bench_function("cipher", |bencher| {
        bencher.iter(|| cipher.seal(id(1), &NONCE, b"", black_box(text)).expect("sealed"));
    });
    group.bench_function("raft", |bencher| {
        bencher.iter(|| raft::seal(&cipher, id(1), &NONCE, black_box(text)).expect("sealed"));
    });
    group.bench_function("storage", |bencher| {
        bencher
            .iter(|| storage::seal(&cipher, id(1), &NONCE, 0, TABLE_KEY, black_box(text)).expect("sealed"));
    });
    let entries = sealer(Purpose::Raft);
    group.bench_function("sealer-raft", |bencher| {
        bencher.iter(|| entries.seal_entry(black_box(text)).expect("sealed"));
    });
    let values = sealer(Purpose::Storage);
    group.bench_function("sealer-storage", |bencher| {
        bencher.iter(|| values.seal_value(0, TABLE_KEY, black_box(text)).expect("sealed"));
    });
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let (aead, cipher, text) = (Aes256Gcm::new((&KEY_BYTES).into()), cipher(), [0x5a; LEN]);
    let mut group = kib(criterion, "open");
    let sealed = bare_seal(&aead, &text);
    group.bench_function("bare", |bencher| bencher.iter(|| bare_open(&aead, black_box(&sealed))));
    let sealed = cipher.seal(id(1), &NONCE, b"", &text).expect("sealed");
    group.bench_function("cipher", |bencher| {
        bencher.iter(|| cipher.open(id(1), &NONCE, b"", black_box(&sealed)).expect("opened"));
    });
    let sealed = raft::seal(&cipher, id(1), &NONCE, &text).expect("sealed");
    group.bench_function("raft", |bencher| {
        bencher.iter(|| raft::open(&cipher, black_box(&sealed)).expect("opened"));
    });
    let body = storage::seal(&cipher, id(1), &NONCE, 0, TABLE_KEY, &text).expect("sealed");
    group.bench_function("storage", |bencher| {
        bencher.iter(|| storage::open(&cipher, 0, TABLE_KEY, black_box(&body)).expect("opened"));
    });
    group.finish();
}

/// Reads of the keystore, alone and while another thread puts keys in and takes them out without a pause.
fn keystore(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keystore");
    let cipher = cipher();
    let keystore = cipher.keystore();
    for writing in ["alone", "with-a-writer"] {
        let stop = AtomicBool::new(writing == "alone");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    keystore.set(id(9), Dek::new([9; 32])).expect("no conflict");
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

criterion_group!(benches, seal, open, keystore);
criterion_main!(benches);
