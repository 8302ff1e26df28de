//! What the commands do that change something. Each opens the directory, leads in a new term, and proposes.

use applier::os::OsEntropy;
use applier::ports::{Entropy, Kek};
use applier::secret::{Dek, KEY_LEN};
use applier::sidecar::Sidecar;
use applier::wire::{Bootstrap, Entry, Rewrap, Rotation, RotationKind, Row};
use applier::{DekId, Envelope, Purpose, RaftIndex};
use zeroize::Zeroizing;

use super::error::Error;
use super::log::Kind;
use super::node::Node;
use super::show;

/// What a command says when it is done.
type Said = Result<String, Error>;

pub(super) fn bootstrap(dir: &str) -> Said {
    let mut node = leader(dir)?;
    node.promise()?;
    let own = |dek_id| Row { dek_id, full_node_id: node.applier.node().get(), local_epoch: 0 };
    let entry = Entry::Bootstrap(Bootstrap {
        storage_id: 1,
        wrapped_storage: new_key(&node)?,
        raft_id: 2,
        wrapped_raft: new_key(&node)?,
        batch: vec![own(1), own(2)],
    });
    done(node.propose(&entry)?, "storage key 1 and raft key 2 are there")
}

pub(super) fn rotate(dir: &str, purpose: Purpose) -> Said {
    let mut node = leader(dir)?;
    let sidecar = bootstrapped(&node)?;
    let highest = sidecar.keys.keys().chain(sidecar.retired.keys()).max();
    let dek_id = highest.map_or(0, |id| id.get()) + 1;
    let proposer = node.own_row(dek_id)?;
    let wrapped = new_key(&node)?;
    let rotation = Rotation { subtag: RotationKind::RotateDek, dek_id, purpose, wrapped, proposer };
    done(
        node.propose(&Entry::Rotation(rotation))?,
        &format!("{} key {dek_id} is the active one", name(purpose)),
    )
}

pub(super) fn enable(dir: &str, purpose: Purpose) -> Said {
    let mut node = leader(dir)?;
    let id = bootstrapped(&node)?.active.of(purpose);
    let subtag = match purpose {
        Purpose::Storage => RotationKind::EnableStorageEnvelope,
        Purpose::Raft => RotationKind::EnableRaftEnvelope,
    };
    let what = match purpose {
        Purpose::Storage => "values are sealed from here on; `reseal` seals those of before",
        Purpose::Raft => "entries are sealed behind this one",
    };
    let entry = node.bare(subtag, id, purpose)?;
    done(node.propose(&entry)?, what)
}

pub(super) fn put(dir: &str, key: &str, value: &str) -> Said {
    let mut node = leader(dir)?;
    let index = node.put(key, value.as_bytes())?;
    done(Some(index), &format!("{key:?} has its value"))
}

/// Puts every value again that is not sealed as a new one would be.
pub(super) fn reseal(dir: &str) -> Said {
    let mut node = leader(dir)?;
    let active = bootstrapped(&node)?.active.storage;
    let is_on = node.applier.cutover(Purpose::Storage) > RaftIndex::ZERO;
    let mut count = 0;
    for (key, stored) in node.values()? {
        if is_on && show::sealed_under(&stored) != Some(active) {
            let value = show::read(&node, &key, &stored)?;
            node.put(&key, &value)?;
            count += 1;
        }
    }
    Ok(format!("sealed anew: {count} of the values"))
}

/// Retires a key to which nothing refers any more: that is for the host to know.
pub(super) fn retire(dir: &str, id: u32) -> Said {
    let mut node = leader(dir)?;
    let known = DekId::new(id).and_then(|id| Some((id, bootstrapped(&node).ok()?.keys.get(&id)?.purpose)));
    let (id, purpose) = known.ok_or(Error::NoSuchKey(id))?;
    // Of a key in use the applier itself says so.
    if node.applier.active(purpose) != Some(id) {
        unreferenced(&node, id)?;
    }
    let entry = node.bare(RotationKind::RetireDek, id, purpose)?;
    done(node.propose(&entry)?, &format!("key {id} is retired"))
}

fn unreferenced(node: &Node, id: DekId) -> Result<(), Error> {
    let values = node.values()?;
    let mut sealed = values.iter().filter(|(_, stored)| show::sealed_under(stored) == Some(id));
    if let Some((example, _)) = sealed.next() {
        return Err(Error::KeyOfValues { id, count: 1 + sealed.count(), example: example.clone() });
    }
    match entries_under(node, id) {
        0 => Ok(()),
        count => Err(Error::KeyOfEntries { id, count }),
    }
}

/// Exchanges the KEK. Wherever this ends, running it again goes on from there.
pub(super) fn rewrap(dir: &str) -> Said {
    let mut node = Node::open(dir)?;
    bootstrapped(&node)?;
    // The entries of before are wrapped under the old KEK; nobody is to need it for them.
    node.log.compact()?;
    if node.keks.previous.is_none() {
        node.keks.make_next(dir)?;
        drop(node);
        node = Node::open(dir)?;
    }
    node.lead()?;
    node.promise()?;
    let sidecar = bootstrapped(&node)?;
    let next = &node.keks.current.kek;
    let mut keys = Vec::new();
    for id in sidecar.keys.keys() {
        let key = node.applier.keystore().dek(*id).expect("the keystore has every key of the sidecar");
        keys.push((id.get(), next.wrap(&key, &OsEntropy).map_err(Error::Entropy)?.to_vec()));
    }
    let kek_check = next.check_value()?.0;
    let entry = Entry::Rewrap(Rewrap { generation: sidecar.generation() + 1, kek_check, keys });
    let index = node.propose(&entry)?;
    node.withdraw()?;
    done(index, &format!("the keys are wrapped under {}", node.keks.current.path))
}

/// Leaves out of the log what is applied: everything, since that is durable.
pub(super) fn compact(dir: &str) -> Said {
    let mut node = Node::open(dir)?;
    let count = node.log.records().len();
    node.log.compact()?;
    node.withdraw()?;
    Ok(format!("left out: {count} entries; the log begins behind index {}", node.log.base()))
}

fn leader(dir: &str) -> Result<Node, Error> {
    let mut node = Node::open(dir)?;
    node.lead()?;
    Ok(node)
}

fn bootstrapped(node: &Node) -> Result<&Sidecar, Error> {
    node.applier.sidecar().ok_or(Error::NotBootstrapped)
}

/// 32 random bytes, wrapped under the KEK in force.
fn new_key(node: &Node) -> Result<Vec<u8>, Error> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    OsEntropy.fill(bytes.as_mut_slice()).map_err(Error::Entropy)?;
    let in_force = node.applier.kek_status()?.in_force;
    let (current, previous) = (&node.keks.current, &node.keks.previous);
    let kek = match previous {
        Some(previous) if previous.kek.check_value()? == in_force => previous,
        _ => current,
    };
    Ok(kek.kek.wrap(&Dek::new(*bytes), &OsEntropy).map_err(Error::Entropy)?.to_vec())
}

/// How many entries of the log are sealed under a key.
fn entries_under(node: &Node, id: DekId) -> usize {
    let cutover = node.applier.cutover(Purpose::Raft);
    let sealed = node.log.records().iter().filter(|record| {
        cutover > RaftIndex::ZERO
            && record.index > cutover
            && record.kind == Kind::Proposal
            && Envelope::decode(&record.data).is_ok_and(|envelope| envelope.key_id == id)
    });
    sealed.count()
}

pub(super) const fn name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Storage => "storage",
        Purpose::Raft => "raft",
    }
}

fn done(index: Option<RaftIndex>, what: &str) -> Said {
    Ok(match index {
        Some(index) => format!("{index}: {what}"),
        None => "nothing to do: that is so already".to_owned(),
    })
}
