//! A host that lies: it stands between the log and the node.

use std::sync::Arc;

use applier::Purpose;

use super::past::Past;
use crate::form::KeyNumber;
use crate::model::Verdict;
use crate::sealing;
use crate::subject::{Claimed, Delivered, Held, HostSnapshot, Keys, Life, OWN_NODE, SidecarView};

/// How a host lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostLie {
    /// It moves past its own data without writing it.
    LoseData,
    /// It delivers each encryption entry one index too late.
    SkipAnIndex,
    /// In the place of every third entry it delivers the one before.
    RepeatAnEntry,
    /// What was refused in one life it passes off as a no-op of its own in the next.
    ReplaceRefused,
    /// What its node has sealed it seals once more, with the first nonce that it has seen under the key.
    RepeatANonce,
    /// It stores each sealed value under another table key than that which it was sealed for.
    Misplace,
    /// It opens sealed values, and stores them in clear text.
    StoreInClear,
    /// In the place of each claim it proposes the first one.
    RepeatAClaim,
}

/// A host that lies, in front of a node.
pub(super) struct LyingHost {
    pub(super) inner: Box<dyn Life>,
    pub(super) lie: HostLie,
    pub(super) past: Arc<Past>,
}

impl LyingHost {
    fn was_refused(&self, index: u64) -> bool {
        let memory = self.past.lock();
        memory.refused.is_some_and(|(refused, life)| refused == index && life < memory.life)
    }
}

impl Life for LyingHost {
    fn deliver(&mut self, index: u64, payload: &[u8]) -> Delivered {
        let before = self.past.lock().delivered.replace(payload.to_vec());
        let answer = match (self.lie, before) {
            (HostLie::SkipAnIndex, _) => self.inner.deliver(index + 1, payload),
            (HostLie::RepeatAnEntry, Some(before)) if index.is_multiple_of(3) => {
                self.inner.deliver(index, &before)
            }
            (HostLie::ReplaceRefused, _) if self.was_refused(index) => self.inner.advance(index, None),
            _ => self.inner.deliver(index, payload),
        };
        if matches!(answer, Delivered::Decided(Verdict::Rejected(_))) {
            let mut memory = self.past.lock();
            memory.refused = Some((index, memory.life));
        }
        answer
    }

    fn advance(&mut self, index: u64, data: Option<(u64, &[u8])>) -> Delivered {
        let Some((key, stored)) = data.filter(|_| self.lie != HostLie::LoseData) else {
            return self.inner.advance(index, None);
        };
        let is_sealed = sealing::envelope_of(stored).is_some();
        match (self.lie, self.inner.read(key, stored)) {
            (HostLie::Misplace, _) if is_sealed => self.inner.advance(index, Some((key ^ 1, stored))),
            (HostLie::StoreInClear, Ok(value)) => {
                self.inner.advance(index, Some((key, &sealing::stored(key, value, None))))
            }
            _ => self.inner.advance(index, data),
        }
    }

    fn restore(&mut self, snapshot: &HostSnapshot) -> Result<(), String> {
        self.inner.restore(snapshot)
    }

    fn resume_after(&self) -> Option<u64> {
        self.inner.resume_after()
    }

    fn database(&self) -> Result<HostSnapshot, String> {
        self.inner.database()
    }

    fn sidecar(&self, bytes: &[u8]) -> Result<SidecarView, String> {
        self.inner.sidecar(bytes)
    }

    fn keys(&self) -> Keys {
        self.inner.keys()
    }

    fn held(&self) -> Held {
        self.inner.held()
    }

    fn local(&self) -> applier::registry::Local {
        self.inner.local()
    }

    fn index(&self) -> Option<u64> {
        self.inner.index()
    }

    fn after_replay(&mut self, key_entry_in: &dyn Fn(u64, u64) -> Option<bool>) -> Result<(), String> {
        self.inner.after_replay(key_entry_in)
    }

    fn can_withdraw_kek(&self) -> bool {
        self.inner.can_withdraw_kek()
    }

    fn is_sealing(&self, purpose: Purpose) -> bool {
        self.inner.is_sealing(purpose)
    }

    fn read(&self, key: u64, stored: &[u8]) -> Result<u64, String> {
        self.inner.read(key, stored)
    }

    fn claim(&mut self, term: u64, purpose: Purpose) -> Claimed {
        let claimed = self.inner.claim(term, purpose);
        match claimed {
            Claimed::Propose(payload) if self.lie == HostLie::RepeatAClaim => {
                Claimed::Propose(self.past.lock().claim.get_or_insert(payload).clone())
            }
            claimed => claimed,
        }
    }

    fn seal_value(&mut self, term: u64, key: u64, value: u64) -> Option<Vec<u8>> {
        let stored = self.inner.seal_value(term, key, value)?;
        if self.lie != HostLie::RepeatANonce {
            return Some(stored);
        }
        let Some(envelope) = sealing::envelope_of(&stored) else { return Some(stored) };
        let number = KeyNumber(self.inner.keys()[&envelope.dek][31]);
        let seal = envelope.seal(OWN_NODE, number)?;
        let first = *self.past.lock().seals.entry(seal.dek).or_insert(seal);
        Some(sealing::stored(key, value, Some(&first)))
    }

    fn seal_entry(&mut self, term: u64, entry: &[u8]) -> Option<Vec<u8>> {
        self.inner.seal_entry(term, entry)
    }

    fn open_entry(&self, index: u64, entry: &[u8]) -> Result<Vec<u8>, Delivered> {
        self.inner.open_entry(index, entry)
    }
}
