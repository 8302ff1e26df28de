//! A subject as the state machine of a cluster's member: it shares each transaction with the host, is asked before
//! requests are proposed, and goes from node to node in snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use applier::KekCheck;
use applier::admission::Capability;
use applier::registry::HostPart;
use applier::snapshot::Snapshot;
use redb::{Database, WriteTransaction};

use super::{Delivered, Life};
use crate::model::Reason;

/// What the host adds to a transaction.
pub(crate) type Host<'a> = HostPart<'a, WriteTransaction>;

/// An entry as a host hands it to its state machine, out of its envelope.
#[derive(Clone, Copy, Debug)]
pub enum Handed<'a> {
    /// Nothing: a leader's no-op, or a change of the membership.
    Nothing,
    /// A table key and what is to be stored under it.
    Write(u64, &'a [u8]),
    /// An entry for the applier.
    Entry(&'a [u8]),
}

/// What a leader's state machine says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may be proposed.
    Propose,
    /// It was applied before, by the entry at this index where the state knows it.
    Duplicate(Option<u64>),
    /// It would switch an envelope on under a key that is not the active one any more.
    Stale,
    /// Its row would take the low 16 bits of a member.
    Collides,
    /// It would be refused.
    Refused(Reason),
    /// It could not be judged.
    Failed(String),
}

/// One member of a cluster between its start and its end.
pub trait Member: Life {
    /// The database, for the host's own tables.
    fn shared(&self) -> Arc<Database>;

    /// Delivers the entry at `index`, with what the host adds to its transaction.
    fn apply(&mut self, index: u64, handed: Handed<'_>, host: Host<'_>) -> Delivered;

    /// What has to be registered, an entry each, before a node becomes a member.
    ///
    /// # Errors
    /// Where another node has its low 16 bits, or it could not be read.
    fn member_rows(&self, _node: u64, _members: &[u64]) -> Result<Vec<Vec<u8>>, String> {
        Ok(Vec::new())
    }

    /// How many times its keys were wrapped anew.
    fn kek_generation(&self) -> u32 {
        0
    }

    /// Judges a request against what was applied, touching nothing. The members are named by the ids that they write under.
    fn admit(&self, payload: &[u8], members: &[u64]) -> Admitted;

    /// What it could apply now.
    ///
    /// # Errors
    /// Where the KEK could not be asked.
    fn capability(&self) -> Result<Capability, String>;

    /// Answers the probe of a leader whose KEK has this check value, and is bound by the answer if it is the same.
    ///
    /// # Errors
    /// Where the answer could not be made durable, or the KEK could not be asked.
    fn promise(&mut self, leader: KekCheck, generation: u32) -> Result<Capability, String>;

    /// Everything that a snapshot carries; `None` while the sidecar is ahead of the database, as a crash inside of an
    /// install leaves it. That is no reason to end: delivery goes on and catches up with it.
    ///
    /// # Errors
    /// Where it could not be read.
    fn capture(&self) -> Result<Option<MemberSnapshot>, String>;

    /// Takes the place of what it has by what another member has captured.
    ///
    /// # Errors
    /// [`Delivered::Failed`] where nothing was touched, [`Delivered::Halted`] where the outcome is unknown.
    fn install(&mut self, snapshot: &MemberSnapshot, host: Host<'_>) -> Result<(), Delivered>;
}

/// A member's state machine at one applied index, as it travels in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSnapshot {
    /// The applier's part.
    pub machine: Snapshot,
    /// The host's data.
    pub data: BTreeMap<u64, Vec<u8>>,
    /// For each client the newest request that was applied, and its index.
    pub sessions: BTreeMap<u64, (u64, u64)>,
}

impl MemberSnapshot {
    /// ```text
    /// u32 BE length | applier's part | u32 BE count | count * (key, u32 BE length, stored)
    ///     | u32 BE count | count * (client, request, index)
    /// ```
    ///
    /// Keys and clients ascend.
    pub fn encode(&self) -> Vec<u8> {
        let machine = self.machine.encode();
        let mut bytes =
            Vec::with_capacity(machine.len() + 12 + 64 * self.data.len() + 24 * self.sessions.len());
        let count = |len: usize| u32::try_from(len).expect("a simulated node is small").to_be_bytes();
        bytes.extend(count(machine.len()));
        bytes.extend(machine);
        bytes.extend(count(self.data.len()));
        for (key, stored) in &self.data {
            bytes.extend(key.to_be_bytes());
            bytes.extend(count(stored.len()));
            bytes.extend(stored);
        }
        bytes.extend(count(self.sessions.len()));
        for (client, (request, index)) in &self.sessions {
            bytes.extend([*client, *request, *index].iter().flat_map(|number| number.to_be_bytes()));
        }
        bytes
    }

    /// Reads it back; `None` for anything but what [`MemberSnapshot::encode`] gives.
    pub fn decode(bytes: &[u8]) -> Option<MemberSnapshot> {
        let mut rest = bytes;
        let len = take_count(&mut rest)?;
        let machine = Snapshot::decode(rest.get(..len)?).ok()?;
        rest = &rest[len..];
        let mut data = BTreeMap::new();
        for _ in 0..take_count(&mut rest)? {
            let key = take_number(&mut rest)?;
            let len = take_count(&mut rest)?;
            let (stored, after) = rest.split_at_checked(len)?;
            put_last(&mut data, key, stored.to_vec())?;
            rest = after;
        }
        let mut sessions = BTreeMap::new();
        for _ in 0..take_count(&mut rest)? {
            let client = take_number(&mut rest)?;
            put_last(&mut sessions, client, (take_number(&mut rest)?, take_number(&mut rest)?))?;
        }
        rest.is_empty().then_some(MemberSnapshot { machine, data, sessions })
    }
}

/// Takes what comes next in order; whatever stands twice or out of order was not encoded.
fn put_last<V>(map: &mut BTreeMap<u64, V>, key: u64, value: V) -> Option<()> {
    if map.last_key_value().is_some_and(|(before, _)| *before >= key) {
        return None;
    }
    map.insert(key, value);
    Some(())
}

fn take_count(rest: &mut &[u8]) -> Option<usize> {
    let (count, after) = rest.split_first_chunk()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*count)).ok()
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_short_or_goes_on_is_no_snapshot() {
        let machine = Snapshot { registry: applier::registry::RegistrySnapshot::default(), sidecar: None };
        let snapshot =
            MemberSnapshot { machine, data: [(1, vec![2, 3])].into(), sessions: [(3, (4, 5))].into() };
        let bytes = snapshot.encode();
        assert_eq!(MemberSnapshot::decode(&bytes), Some(snapshot));
        for len in 0..bytes.len() {
            assert_eq!(MemberSnapshot::decode(&bytes[..len]), None, "{len}");
        }
        assert_eq!(MemberSnapshot::decode(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn what_stands_twice_or_out_of_order_is_no_snapshot() {
        let machine = Snapshot { registry: applier::registry::RegistrySnapshot::default(), sidecar: None };
        let of = |data: &[u64], sessions: &[u64]| MemberSnapshot {
            machine: machine.clone(),
            data: data.iter().map(|key| (*key, vec![7])).collect(),
            sessions: sessions.iter().map(|client| (*client, (1, 2))).collect(),
        };
        let edited = |bytes: Vec<u8>, from: u64, to: u64| {
            let at = bytes.windows(8).rposition(|window| window == from.to_be_bytes()).expect("it is there");
            [&bytes[..at], &to.to_be_bytes(), &bytes[at + 8..]].concat()
        };
        for to in [0xd0, 0xc0] {
            let data = edited(of(&[0xd0, 0xd1], &[]).encode(), 0xd1, to);
            assert_eq!(MemberSnapshot::decode(&data), None, "data {to:x}");
            let sessions = edited(of(&[], &[0xd0, 0xd1]).encode(), 0xd1, to);
            assert_eq!(MemberSnapshot::decode(&sessions), None, "sessions {to:x}");
        }
    }
}
