//! How members of this world are configured and wait for each other. Whoever measures what Raft alone costs does the same.

/// Ticks without a word from a leader before an election, and up to twice as many.
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 3;

/// The configuration of a member that has applied the entries up to `applied`. With `quiet_commits` a follower hears of a commit
/// with the next message only.
pub fn raft_config(id: u64, applied: u64, quiet_commits: bool) -> raft::Config {
    raft::Config {
        id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: 1 << 20,
        check_quorum: true,
        pre_vote: true,
        skip_bcast_commit: quiet_commits,
        ..raft::Config::default()
    }
}

/// Ticks without a word from a leader after which this member stands for election, in this life and this term. raft-rs draws it from
/// the operating system, and reads it in a tick alone: writing it before each tick is enough.
pub fn election_timeout(seed: u64, lives: u64, id: u64, term: u64) -> usize {
    let mixed = mix(seed ^ (lives << 32), id, term);
    ELECTION_TICKS + (mixed % ELECTION_TICKS as u64) as usize
}

/// Three numbers into one (the finaliser of SplitMix64).
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ c.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
