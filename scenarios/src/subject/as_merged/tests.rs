//! The subject does what the reference as merged does: what its reviewers pinned holds, and what is known to be wrong
//! with it can be shown. On the real filesystem.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use applier::os::OsFiles;
use applier::registry::{CommitError, Local, LocalChange, RegistrySnapshot, WriterRow};
use applier::{Purpose, RaftIndex};
use tempfile::TempDir;

use super::*;
use crate::form::{Blob, BlobFault, CutoverFault, Form, Keks, KeyNumber, Malformed};
use crate::model::{Rules, State};

/// A node in a directory of its own; a restart keeps the directory.
struct Node {
    dir: TempDir,
    keks: Keks,
    life: Option<AsMerged<OsFiles, SimRegistry>>,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let mut node = Node { dir, keks: Keks::new(), life: None };
        node.restart(0);
        node
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    fn restart(&mut self, unix_seconds: u64) {
        self.life = None;
        let keyring = Some(Keyring::new(Arc::clone(self.keks.kek(0)), &self.path("keys.json"), AS_MERGED));
        let redb = open_registry(&OsFiles, &self.path("registry.redb")).expect("it opens");
        let registry = SimRegistry::new(redb, Arc::default());
        self.life = Some(AsMerged { files: OsFiles, registry, keyring, unix_seconds, mistake: None });
    }

    fn life(&mut self) -> &mut AsMerged<OsFiles, SimRegistry> {
        self.life.as_mut().expect("a node between its start and its end")
    }

    fn deliver(&mut self, form: &Form) -> Delivered {
        match form.payload(&self.keks) {
            Some(payload) => self.life().deliver(0, &payload),
            None => self.life().advance(0, None),
        }
    }

    #[track_caller]
    fn applies(&mut self, form: &Form) {
        assert_eq!(self.deliver(form), Delivered::Decided(Verdict::Applied), "{form}");
    }

    #[track_caller]
    fn refuses(&mut self, form: &Form, reason: Reason) {
        assert_eq!(self.deliver(form), Delivered::Decided(Verdict::Rejected(reason)), "{form}");
    }

    #[track_caller]
    fn fails(&mut self, form: &Form, step: &str) {
        assert_eq!(self.deliver(form), Delivered::Failed(step.to_owned()), "{form}");
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        fs::read(self.path("keys.json")).ok()
    }

    fn sidecar(&mut self) -> Option<SidecarView> {
        let bytes = self.bytes()?;
        Some(self.life().sidecar(&bytes).expect("it parses"))
    }

    fn rows(&mut self) -> BTreeMap<RowKey, WriterRow> {
        self.life().database().expect("it reads").registry.rows
    }

    fn held(&mut self) -> Vec<u32> {
        self.life().keys().into_keys().collect()
    }

    /// Memory, sidecar bytes and rows.
    fn everything(&mut self) -> (Keys, Option<Vec<u8>>, BTreeMap<RowKey, WriterRow>) {
        (self.life().keys(), self.bytes(), self.rows())
    }
}

fn cutover(purpose: Purpose, dek: u32) -> Form {
    Form::Cutover { purpose, dek, row: row(dek, 0x11, 0), fault: CutoverFault::None }
}

const fn blob(key: u8) -> Blob {
    Blob { key: KeyNumber(key), seal: 0, kek: 0, fault: BlobFault::None }
}

const fn row(dek: u32, node: u64, epoch: u16) -> crate::form::Row {
    crate::form::Row { dek, node, epoch }
}

const fn registration(dek: u32, node: u64, epoch: u16) -> Form {
    Form::Registration(row(dek, node, epoch))
}

fn bootstrap(storage: u32, raft: u32) -> Form {
    let rows = vec![row(storage, 0x11, 0), row(raft, 0x11, 0)];
    bootstrap_of((storage, blob(1)), (raft, blob(2)), rows)
}

const fn bootstrap_of(storage: (u32, Blob), raft: (u32, Blob), rows: Vec<crate::form::Row>) -> Form {
    Form::Bootstrap { storage: storage.0, storage_blob: storage.1, raft: raft.0, raft_blob: raft.1, rows }
}

const fn rotation(dek: u32, key: u8) -> Form {
    rotation_of(dek, Purpose::Storage, blob(key), row(dek, 0x11, 0))
}

const fn rotation_of(dek: u32, purpose: Purpose, blob: Blob, row: crate::form::Row) -> Form {
    Form::Rotation { dek, purpose, blob, row }
}

fn writer(node: u64, first: u16, last: u16) -> WriterRow {
    WriterRow { full_node_id: node, first_seen: first, last_seen: last }
}

// What the reference's own tests pin.

#[test]
fn a_registration_inserts_advances_repeats_and_refuses() {
    let mut node = Node::new();
    node.applies(&registration(7, 0x1234, 1));
    assert_eq!(node.rows(), [(RowKey::of(7, 0x1234), writer(0x1234, 1, 1))].into());
    node.applies(&registration(7, 0x1234, 3));
    node.applies(&registration(7, 0x1234, 3));
    let rows = [(RowKey::of(7, 0x1234), writer(0x1234, 1, 3))].into();
    assert_eq!(node.rows(), rows);
    node.refuses(&registration(7, 0x1234, 2), Reason::EpochRollback);
    node.refuses(&registration(7, 0x9_1234, 4), Reason::NodeCollision);
    assert_eq!(node.rows(), rows);
}

#[test]
fn a_bootstrap_fills_keystore_sidecar_and_registry() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    assert_eq!(node.held(), [1, 2]);
    let sidecar = node.sidecar().expect("written");
    assert_eq!(sidecar.active, (1, 2));
    assert_eq!((sidecar.keys[&1].purpose, sidecar.keys[&2].purpose), (Purpose::Storage, Purpose::Raft));
    assert_eq!(node.rows().len(), 2);
}

#[test]
fn a_bootstrap_that_nothing_followed_replays() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let before = node.everything();
    node.applies(&bootstrap(1, 2));
    assert_eq!(node.everything(), before);
}

#[test]
fn a_rotation_moves_one_active_key_and_keeps_the_old_one() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    node.applies(&rotation(5, 3));
    let sidecar = node.sidecar().expect("written");
    assert_eq!(sidecar.active, (5, 2));
    assert_eq!(sidecar.keys.keys().collect::<Vec<_>>(), [&1, &2, &5]);
    assert_eq!(sidecar.keys[&5].purpose, Purpose::Storage);
}

#[test]
fn without_a_keyring_only_registrations_apply() {
    let mut node = Node::new();
    node.life().keyring = None;
    node.refuses(&bootstrap(1, 1), Reason::KekNotConfigured);
    node.refuses(&rotation(5, 3), Reason::KekNotConfigured);
    // Decoding comes first.
    node.refuses(&cutover(Purpose::Raft, 2), Reason::Subtag);
    node.applies(&registration(1, 0x11, 0));
    assert_eq!((node.held(), node.bytes()), (vec![], None));
}

#[test]
fn a_blob_that_does_not_open_leaves_the_keystore_empty() {
    for fault in [BlobFault::Tampered, BlobFault::Short, BlobFault::Empty] {
        let mut node = Node::new();
        let damaged = Blob { fault, ..blob(1) };
        node.refuses(&bootstrap_of((1, damaged), (2, blob(2)), vec![]), Reason::BlobDoesNotOpen);
        node.refuses(&bootstrap_of((1, blob(2)), (2, damaged), vec![]), Reason::BlobDoesNotOpen);
        assert_eq!((node.held(), node.bytes()), (vec![], None));
    }
}

#[test]
fn unknown_sub_tags_and_purposes_are_refused_when_decoding() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let before = node.everything();
    node.refuses(&Form::Malformed(Malformed::RotationSubtag), Reason::Subtag);
    node.refuses(&Form::Malformed(Malformed::RotationPurpose), Reason::Malformed);
    for purpose in [Purpose::Storage, Purpose::Raft] {
        node.refuses(&cutover(purpose, 1), Reason::Subtag);
    }
    // An unknown sub-tag is noticed before what is missing behind it.
    let cut_short = node.life().deliver(0, &[0x05, 0x01, 0x04, 0x00]);
    assert_eq!(cut_short, Delivered::Decided(Verdict::Rejected(Reason::Subtag)));
    assert_eq!(node.everything(), before);
}

/// A registry whose calls fail.
struct BrokenRegistry {
    reads: bool,
}

impl Registry for BrokenRegistry {
    type Tx = ();

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        unreachable!("no index is read")
    }

    fn local(&self) -> Result<Local, RegistryError> {
        unreachable!("nothing local is read")
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        if self.reads { Ok(vec![None; keys.len()]) } else { Err(RegistryError::Storage("page 7".to_owned())) }
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        unreachable!("no snapshot is taken")
    }

    fn commit(&mut self, _: &Change, _: HostPart<'_, ()>) -> Result<(), CommitError> {
        Err(CommitError("page 7".to_owned()))
    }

    fn keep(&mut self, _: LocalChange) -> Result<(), CommitError> {
        unreachable!("nothing is promised")
    }

    fn restore(
        &mut self,
        _: &RegistrySnapshot,
        _: Option<RaftIndex>,
        _: HostPart<'_, ()>,
    ) -> Result<(), CommitError> {
        unreachable!("nothing is restored")
    }
}

#[test]
fn a_registry_that_fails_is_named_without_what_varies() {
    let payload = registration(1, 0x11, 0).payload(&Keks::new()).expect("an encryption entry");
    let read = Delivered::Failed("registry read: storage".to_owned());
    let commit = Delivered::Halted("registry commit".to_owned());
    for (reads, answer) in [(false, read), (true, commit)] {
        let registry = BrokenRegistry { reads };
        let mut life = AsMerged { files: OsFiles, registry, keyring: None, unix_seconds: 0, mistake: None };
        assert_eq!(life.apply(&payload), answer);
    }
}

// What its review rounds corrected, one by one.

#[test]
fn equal_ids_are_refused_before_anything_is_touched() {
    let mut node = Node::new();
    node.refuses(&bootstrap(1, 1), Reason::EqualIds);
    assert_eq!((node.held(), node.bytes()), (vec![], None));
}

#[test]
fn a_proposer_row_for_another_key_is_refused() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let before = node.everything();
    node.refuses(&rotation_of(5, Purpose::Storage, blob(3), row(1, 0x11, 1)), Reason::ForeignRow);
    assert_eq!(node.everything(), before);
}

#[test]
fn a_batch_row_for_a_foreign_key_is_refused() {
    let mut node = Node::new();
    let rows = vec![row(1, 0x11, 0), row(3, 0x11, 0)];
    node.refuses(&bootstrap_of((1, blob(1)), (2, blob(2)), rows), Reason::ForeignRow);
    assert_eq!((node.held(), node.bytes()), (vec![], None));
}

#[test]
fn a_second_bootstrap_with_other_ids_is_refused() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let before = node.everything();
    node.refuses(
        &bootstrap_of((7, blob(7)), (8, blob(8)), vec![row(7, 0x99, 0)]),
        Reason::AlreadyBootstrapped,
    );
    assert_eq!(node.everything(), before);
}

#[test]
fn a_second_bootstrap_with_other_wrapped_bytes_is_refused() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let before = node.everything();
    let rewrapped = Blob { seal: 1, ..blob(2) };
    let again = bootstrap_of((1, blob(1)), (2, rewrapped), vec![row(1, 0x99, 0)]);
    node.refuses(&again, Reason::AlreadyBootstrapped);
    assert_eq!(node.everything(), before);
}

// What is wrong with it nevertheless.

#[test]
fn a_bootstrap_replayed_after_a_rotation_is_refused_for_ever() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    node.applies(&rotation(5, 3));
    for _ in 0..2 {
        node.restart(0);
        node.refuses(&bootstrap(1, 2), Reason::AlreadyBootstrapped);
    }
}

#[test]
fn a_batch_row_is_refused_after_keystore_and_sidecar_changed() {
    let mut node = Node::new();
    node.applies(&registration(2, 0x11, 9));
    let rollback = bootstrap(1, 2);
    node.refuses(&rollback, Reason::EpochRollback);
    assert_eq!(node.held(), [1, 2]);
    assert_eq!(node.sidecar().expect("written").active, (1, 2));
    // Rows before the refused one stay, too.
    assert_eq!(node.rows().len(), 2);
    node.restart(0);
    node.refuses(&rollback, Reason::EpochRollback);

    let mut node = Node::new();
    let rows = vec![row(1, 0x11, 0), row(1, 0x1_0011, 0)];
    let collision = bootstrap_of((1, blob(1)), (2, blob(2)), rows);
    node.refuses(&collision, Reason::NodeCollision);
    assert_eq!((node.held(), node.rows().len()), (vec![1, 2], 1));
    node.refuses(&collision, Reason::NodeCollision);
}

#[test]
fn a_key_stays_in_the_keystore_although_its_entry_was_refused() {
    let mut node = Node::new();
    node.refuses(&rotation(5, 3), Reason::NotBootstrapped);
    assert_eq!((node.held(), node.bytes()), (vec![5], None));

    // The leftover then refuses a legitimate bootstrap, whose first key stays as well.
    node.refuses(&bootstrap(1, 5), Reason::KeyConflict);
    assert_eq!(node.held(), [1, 5]);

    let mut node = Node::new();
    node.refuses(&bootstrap(1, 0), Reason::ReservedKeyId);
    assert_eq!(node.held(), [1]);
}

#[test]
fn a_key_stays_in_the_keystore_although_the_sidecar_failed() {
    let mut node = Node::new();
    // A directory where the temporary file belongs cannot be unlinked.
    fs::create_dir(node.path("keys.json.tmp")).expect("created");
    node.fails(&bootstrap(1, 2), "sidecar write: remove");
    assert_eq!((node.held(), node.bytes()), (vec![1, 2], None));

    let mut node = Node::new();
    fs::write(node.path("keys.json"), "{").expect("written");
    node.fails(&rotation(5, 3), "sidecar read: json");
    assert_eq!(node.held(), [5]);
}

#[test]
fn an_older_registration_delivered_again_is_taken_for_a_rollback() {
    let mut node = Node::new();
    node.applies(&registration(1, 0x11, 1));
    node.applies(&registration(1, 0x11, 2));
    for _ in 0..2 {
        node.restart(0);
        node.refuses(&registration(1, 0x11, 1), Reason::EpochRollback);
    }
}

#[test]
fn a_replay_writes_another_creation_time() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let first = node.sidecar().expect("written").keys[&1].created.clone();
    node.restart(86_400);
    node.applies(&bootstrap(1, 2));
    let second = node.sidecar().expect("written").keys[&1].created.clone();
    assert_eq!((&*first, &*second), ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z"));
}

#[test]
fn no_index_is_ever_recorded() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    node.applies(&rotation(5, 3));
    let text = String::from_utf8(node.bytes().expect("written")).expect("JSON");
    assert!(text.contains("\"raft_applied_index\": 0,"), "{text}");
    assert_eq!(node.life().database().expect("it reads").registry.applied_index, RaftIndex(0));
    assert_eq!(node.life().resume_after(), None);
}

#[test]
fn a_start_fills_no_keystore_so_an_id_may_get_other_bytes() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    node.refuses(&rotation(1, 3), Reason::KeyConflict);
    node.restart(0);
    assert_eq!(node.held(), [0_u32; 0]);
    node.applies(&rotation(1, 3));
}

#[test]
fn a_field_with_another_name_is_silently_zero() {
    let mut node = Node::new();
    node.applies(&bootstrap(1, 2));
    let flipped =
        String::from_utf8(node.bytes().expect("written")).expect("JSON").replace("active\"", "actife\"");
    let view = node.life().sidecar(flipped.as_bytes()).expect("it parses");
    assert_eq!(view.active, (0, 0));
    assert_eq!(view.keys.len(), 2);
}

// The host's side.

#[test]
fn a_restore_rolls_rows_and_data_back_and_leaves_the_sidecar() {
    let mut node = Node::new();
    node.applies(&registration(1, 0x11, 1));
    assert_eq!(node.life().advance(2, Some((4, &[40]))), Delivered::Decided(Verdict::Applied));
    let snapshot = node.life().database().expect("it reads");
    assert_eq!(snapshot.data, [(4, vec![40])].into());
    node.applies(&bootstrap_of((1, blob(1)), (2, blob(2)), vec![]));
    node.applies(&registration(1, 0x11, 2));
    node.life().advance(5, Some((4, &[41])));
    let sidecar = node.bytes();
    node.life().restore(&snapshot).expect("restored");
    assert_eq!(node.life().database().as_ref(), Ok(&snapshot));
    assert_eq!(node.bytes(), sidecar);
}

// The model.

/// Forms that each meet a rule, in the state after every prefix of [`prefixes`].
fn table() -> Vec<Form> {
    let damaged = |fault| Blob { fault, ..blob(9) };
    let resealed = |key| Blob { seal: 1, ..blob(key) };
    let mut forms = vec![
        Form::Nothing,
        registration(1, 0x11, 0),
        registration(1, 0x11, 1),
        registration(1, 0x1_0011, 0),
        registration(0, 0, 0),
        registration(77, 0x22, 3),
        bootstrap(1, 2),
        bootstrap(2, 1),
        bootstrap(1, 1),
        bootstrap(0, 2),
        bootstrap(1, 0),
        bootstrap(7, 8),
        bootstrap_of((1, resealed(1)), (2, blob(2)), vec![]),
        bootstrap_of((1, blob(1)), (2, resealed(2)), vec![]),
        bootstrap_of((1, damaged(BlobFault::Tampered)), (2, blob(2)), vec![]),
        bootstrap_of((1, blob(1)), (2, damaged(BlobFault::Short)), vec![row(3, 0x11, 0)]),
        bootstrap_of((1, blob(1)), (2, blob(1)), vec![row(1, 0, 0)]),
        bootstrap_of((5, blob(3)), (2, blob(2)), vec![row(5, 0x22, 0)]),
        bootstrap_of((1, blob(1)), (2, blob(2)), vec![row(1, 0x22, 1), row(1, 0x22, 0)]),
        bootstrap_of((1, blob(1)), (2, blob(2)), vec![row(2, 0x22, 0), row(2, 0x1_0022, 0)]),
        rotation(5, 3),
        rotation(5, 4),
        rotation(0, 3),
        rotation(6, 1),
        rotation(1, 1),
        rotation(2, 2),
        rotation(1, 9),
        rotation_of(1, Purpose::Raft, resealed(1), row(1, 0x11, 0)),
        rotation_of(5, Purpose::Storage, resealed(3), row(5, 0x11, 1)),
        rotation_of(6, Purpose::Raft, blob(9), row(6, 0x1_0011, 0)),
        rotation_of(6, Purpose::Raft, blob(9), row(5, 0x11, 0)),
        rotation_of(5, Purpose::Storage, blob(3), row(5, 0x1_0011, 0)),
    ];
    for fault in [BlobFault::Tampered, BlobFault::Short, BlobFault::Empty] {
        forms.push(rotation_of(0, Purpose::Raft, damaged(fault), row(0, 0x11, 0)));
    }
    forms.extend([Purpose::Storage, Purpose::Raft].map(|purpose| cutover(purpose, 1)));
    forms.extend(Malformed::ALL.map(Form::Malformed));
    forms
}

fn prefixes() -> Vec<Vec<Form>> {
    vec![
        vec![],
        vec![registration(1, 0x11, 5)],
        vec![bootstrap(1, 2)],
        vec![bootstrap(1, 2), registration(1, 0x11, 1)],
        vec![bootstrap(1, 2), rotation(5, 3)],
        vec![bootstrap(1, 2), rotation(5, 3), rotation(1, 1)],
        vec![bootstrap(7, 8), rotation(5, 3), rotation_of(6, Purpose::Raft, blob(4), row(6, 0x11, 0))],
    ]
}

fn check_against_the_model(keyring: bool, prefix: &[Form], form: &Form) -> Verdict {
    let mut node = Node::new();
    if !keyring {
        node.life().keyring = None;
    }
    let mut state = State::default();
    for form in prefix {
        node.applies(form);
        state = state.after(form, Verdict::Applied);
    }
    let verdict = state.judge(Rules::AsMerged, keyring, form);
    assert_eq!(node.deliver(form), Delivered::Decided(verdict), "{form} after {state:?}");
    if !verdict.advances() {
        return verdict;
    }
    state = state.after(form, verdict);
    let rows = state.rows.iter().map(|((dek_id, node16), row)| {
        (RowKey { dek_id: *dek_id, node16: *node16 }, writer(row.node, row.first, row.last))
    });
    assert_eq!(node.rows(), rows.collect(), "rows after {form}");
    let sidecar = node.sidecar().unwrap_or_default();
    assert_eq!(sidecar.active, state.active.unwrap_or((0, 0)), "active keys after {form}");
    let found = sidecar.keys.into_iter().map(|(id, key)| (id, (key.purpose, key.wrapped)));
    let expected = state.keys.iter().map(|(id, key)| (*id, (key.purpose, key.blob.bytes(&node.keks))));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected.collect(), "keys after {form}");
    verdict
}

#[test]
fn model_and_subject_agree_on_the_first_delivery() {
    let mut verdicts = BTreeSet::new();
    let with_a_keyring = prefixes().into_iter().map(|prefix| (true, prefix));
    let without = [(false, vec![]), (false, vec![registration(1, 0x11, 5)])];
    for (keyring, prefix) in with_a_keyring.chain(without) {
        for form in table() {
            verdicts.insert(check_against_the_model(keyring, &prefix, &form));
        }
    }
    // The table is worth its name only if it meets every rule there is.
    let met: Vec<Verdict> = verdicts.into_iter().collect();
    let reasons = [
        Reason::Malformed,
        Reason::Version,
        Reason::Subtag,
        Reason::Opcode,
        Reason::ReservedKeyId,
        Reason::KekNotConfigured,
        Reason::EqualIds,
        Reason::ForeignRow,
        Reason::EpochRollback,
        Reason::NodeCollision,
        Reason::BlobDoesNotOpen,
        Reason::AlreadyBootstrapped,
        Reason::NotBootstrapped,
        Reason::KeyIdInUse,
        Reason::KeyConflict,
    ];
    let expected = [Verdict::Applied].into_iter().chain(reasons.map(Verdict::Rejected));
    assert_eq!(met, expected.collect::<Vec<_>>());
}
