//! What may survive a power loss under `posix`, said a second time: by a model that shares nothing with the crash
//! function. That one draws fates; this one says for each sector which values it may have, for each file which lengths,
//! and for each name which files. Both have to come to the same set of outcomes after every step of random programs, and
//! go on from any of them.
//!
//! Files are whole sectors here, each of one letter, `0` for zeros; what tears inside a write's ends is in `litmus.rs`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, test_runner::RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use sim::{Disk, Exhaustive, Profile, SECTOR};

const NAMES: [&str; 3] = ["/a", "/b", "/c"];
/// So many crashes at most are walked in each state.
const CRASHES_MAX: u64 = 300;

/// What can be seen: names, and a letter for each sector.
type Seen = BTreeMap<&'static str, String>;
/// Which file each name leads to.
type Names = BTreeMap<&'static str, u32>;

#[derive(Clone, Debug)]
enum Step {
    Create(&'static str),
    /// Writes so many sectors from one on.
    Write(&'static str, usize, usize),
    SetLen(&'static str, usize),
    Rename(&'static str, &'static str),
    Unlink(&'static str),
    SyncFile(&'static str),
    SyncDir,
    ProcessCrash,
    /// The power fails and leaves the outcome with this number, of so many as there are.
    PowerLoss(prop::sample::Index),
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(&'static str, u32),
    Unlink(&'static str, u32),
    Rename(&'static str, &'static str, u32),
}

#[derive(Clone, Debug)]
enum DataOp {
    Write { at: usize, len: usize, letter: char },
    SetLen(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<char>,
    pending: Vec<DataOp>,
}

/// What is durable, and what was done since.
#[derive(Clone, Debug, Default)]
struct Model {
    durable: Names,
    pending: Vec<NameOp>,
    inodes: BTreeMap<u32, Inode>,
    letters: u32,
    /// Whether the last step was a power loss after which it is known what is left.
    lost_power: bool,
}

impl NameOp {
    fn act(&self, names: &mut Names) {
        let mut forget = |name: &'static str, inode: u32| {
            if names.get(name) == Some(&inode) {
                names.remove(name);
            }
        };
        match *self {
            NameOp::Link(name, inode) => drop(names.insert(name, inode)),
            NameOp::Unlink(name, inode) => forget(name, inode),
            NameOp::Rename(from, to, inode) => {
                forget(from, inode);
                names.insert(to, inode);
            }
        }
    }
}

/// A set of contents: a length, and for each sector what it may hold, independently of the others.
#[derive(Clone)]
struct Contents(Vec<BTreeSet<char>>);

impl Contents {
    fn resized(&self, len: usize) -> Contents {
        let mut sectors = self.0.clone();
        sectors.resize(len, BTreeSet::from(['0']));
        Contents(sectors)
    }

    fn each(&self) -> BTreeSet<String> {
        let longer = |begun: Vec<String>, sector: &BTreeSet<char>| {
            begun.iter().flat_map(|text| sector.iter().map(move |letter| format!("{text}{letter}"))).collect()
        };
        self.0.iter().fold(vec![String::new()], longer).into_iter().collect()
    }
}

impl Inode {
    /// As reads see it.
    fn now(&self) -> Vec<char> {
        self.pending.iter().fold(self.durable.clone(), |mut sectors, op| {
            match *op {
                DataOp::Write { at, len, letter } => {
                    sectors.resize(sectors.len().max(at + len), '0');
                    sectors[at..at + len].fill(letter);
                }
                DataOp::SetLen(len) => sectors.resize(len, '0'),
            }
            sectors
        })
    }

    /// Everything that may be left of it.
    fn survivors(&self) -> BTreeSet<String> {
        let durable = self.durable.iter().map(|letter| BTreeSet::from([*letter])).collect();
        let cuts: Vec<usize> =
            (0..self.pending.len()).filter(|at| matches!(self.pending[*at], DataOp::SetLen(_))).collect();
        // Each change of length happened or not. Between those that did, writes add to each other.
        let mut found = BTreeSet::new();
        for chosen in 0..1_u32 << cuts.len() {
            let happened =
                |at: usize| cuts.iter().zip(0..).any(|(cut, bit)| *cut == at && chosen >> bit & 1 == 1);
            let mut states = vec![Contents(Vec::clone(&durable))];
            let mut from = 0;
            for at in (0..self.pending.len()).filter(|at| happened(*at)).chain([self.pending.len()]) {
                states = states.iter().flat_map(|state| self.written(state, from, at)).collect();
                if let Some(DataOp::SetLen(len)) = self.pending.get(at) {
                    states = states.iter().map(|state| state.resized(*len)).collect();
                }
                from = at;
            }
            found.extend(states.iter().flat_map(Contents::each));
        }
        found
    }

    /// What writes may have made of it: any length that one of them reaches when it extends the file, and in each
    /// sector what was there or what any of them put there.
    fn written(&self, before: &Contents, from: usize, to: usize) -> Vec<Contents> {
        let mut lengths = BTreeSet::from([before.0.len()]);
        for at in from..to {
            if let DataOp::Write { at: begin, len, .. } = self.pending[at] {
                let reached = self.surely_long(at).max(begin) + 1..=begin + len;
                lengths.extend(reached.filter(|length| *length > before.0.len()));
            }
        }
        let with_length = |length: usize| {
            let mut contents = before.resized(length);
            for op in &self.pending[from..to] {
                if let DataOp::Write { at, len, letter } = *op {
                    contents.0.iter_mut().skip(at).take(len).for_each(|sector| {
                        sector.insert(letter);
                    });
                }
            }
            contents
        };
        lengths.into_iter().map(with_length).collect()
    }

    /// The length that the file had before an operation, whatever became of earlier ones: only a write beyond that
    /// has to extend it.
    fn surely_long(&self, at: usize) -> usize {
        let cut = self.pending[..at].iter().filter_map(|op| match op {
            DataOp::SetLen(len) => Some(*len),
            DataOp::Write { .. } => None,
        });
        cut.fold(self.durable.len(), usize::min)
    }

    /// How many crashes the harness has to tell apart here, at most.
    fn crashes(&self) -> u64 {
        let of = |at: usize| match self.pending[at] {
            DataOp::SetLen(_) => 2,
            DataOp::Write { at: begin, len, .. } => {
                let sectors = if len == 1 { 2 } else { 2 + (1 << len) };
                let reached = (begin + len).saturating_sub(self.surely_long(at).max(begin)) as u64;
                sectors * (reached + 1)
            }
        };
        (0..self.pending.len()).map(of).product()
    }
}

impl Model {
    fn names_now(&self) -> Names {
        let mut names = self.durable.clone();
        self.pending.iter().for_each(|op| op.act(&mut names));
        names
    }

    fn inode(&mut self, name: &str) -> Option<&mut Inode> {
        let inode = *self.names_now().get(name)?;
        self.inodes.get_mut(&inode)
    }

    fn seen(&self) -> Seen {
        let text = |inode: &u32| self.inodes[inode].now().into_iter().collect();
        self.names_now().iter().map(|(name, inode)| (*name, text(inode))).collect()
    }

    fn crashes(&self) -> u64 {
        self.inodes.values().map(Inode::crashes).product::<u64>() << self.pending.len()
    }

    /// Everything that can be seen after a power loss, and which names then lead to which files.
    fn outcomes(&self) -> BTreeMap<Seen, BTreeSet<Names>> {
        let survivors: BTreeMap<u32, BTreeSet<String>> =
            self.inodes.iter().map(|(inode, file)| (*inode, file.survivors())).collect();
        let mut outcomes: BTreeMap<Seen, BTreeSet<Names>> = BTreeMap::new();
        for kept in 0..1_u32 << self.pending.len() {
            let mut names = self.durable.clone();
            let kept = self.pending.iter().zip(0..).filter(|(_, bit)| kept >> bit & 1 == 1);
            kept.for_each(|(op, _)| op.act(&mut names));
            let mut worlds: Vec<BTreeMap<u32, &String>> = vec![BTreeMap::new()];
            for inode in names.values().collect::<BTreeSet<_>>() {
                let with = |world: BTreeMap<u32, _>| {
                    survivors[inode].iter().map(move |text| {
                        let mut world = world.clone();
                        world.insert(*inode, text);
                        world
                    })
                };
                worlds = worlds.into_iter().flat_map(with).collect();
            }
            for world in worlds {
                let seen = names.iter().map(|(name, inode)| (*name, world[inode].clone())).collect();
                outcomes.entry(seen).or_default().insert(names.clone());
            }
        }
        outcomes
    }

    /// Goes on from an outcome. Where it can't be told which name leads to which file, none is chosen.
    fn lose_power(&mut self, choice: &prop::sample::Index) {
        let outcomes = self.outcomes();
        let clear: Vec<_> = outcomes.iter().filter(|(_, names)| names.len() == 1).collect();
        if clear.is_empty() {
            return;
        }
        let (seen, names) = clear[choice.index(clear.len())];
        self.durable = names.iter().flatten().map(|(name, inode)| (*name, *inode)).collect();
        self.pending.clear();
        self.lost_power = true;
        let file = |(name, inode): (&&'static str, &u32)| {
            (*inode, Inode { durable: seen[name].chars().collect(), pending: Vec::new() })
        };
        self.inodes = self.durable.iter().map(file).collect();
    }

    fn act(&mut self, step: &Step) {
        let names = self.names_now();
        self.lost_power = false;
        match step {
            Step::Create(name) if !names.contains_key(name) => {
                self.letters += 1;
                self.inodes.insert(self.letters, Inode::default());
                self.pending.push(NameOp::Link(name, self.letters));
            }
            Step::Write(name, at, len) => {
                self.letters += 1;
                let op = DataOp::Write { at: *at, len: *len, letter: letter(self.letters) };
                if let Some(file) = self.inode(name) {
                    file.pending.push(op);
                }
            }
            Step::SetLen(name, len) => {
                if let Some(file) = self.inode(name)
                    && file.now().len() != *len
                {
                    file.pending.push(DataOp::SetLen(*len));
                }
            }
            Step::Rename(from, to) => {
                if let Some(inode) = names.get(from)
                    && names.get(to) != Some(inode)
                {
                    self.pending.push(NameOp::Rename(from, to, *inode));
                }
            }
            Step::Unlink(name) => {
                self.pending.extend(names.get(name).map(|inode| NameOp::Unlink(name, *inode)));
            }
            Step::SyncFile(name) => {
                if let Some(file) = self.inode(name) {
                    *file = Inode { durable: file.now(), pending: Vec::new() };
                }
            }
            Step::SyncDir => {
                self.durable = names;
                self.pending.clear();
            }
            Step::PowerLoss(choice) => self.lose_power(choice),
            Step::Create(_) | Step::ProcessCrash => {}
        }
    }
}

fn letter(number: u32) -> char {
    char::from(b'A' + (number % 26) as u8)
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    /// Mostly what can be done: files that are there are written, names that are free are taken.
    fn transitions(state: &Model) -> BoxedStrategy<Step> {
        let any_name = || prop::sample::select(&NAMES);
        let always = prop_oneof![
            2 => any_name().prop_map(Step::Create),
            1 => Just(Step::SyncDir),
            1 => Just(Step::ProcessCrash),
            2 => any::<prop::sample::Index>().prop_map(Step::PowerLoss),
        ];
        let names: Vec<&'static str> = state.names_now().into_keys().collect();
        if names.is_empty() {
            return always.boxed();
        }
        let name = || prop::sample::select(names.clone());
        prop_oneof![
            6 => always,
            6 => (name(), 0..4_usize, 1..4_usize).prop_map(|(name, at, len)| Step::Write(name, at, len)),
            3 => (name(), 0..5_usize).prop_map(|(name, len)| Step::SetLen(name, len)),
            3 => (name(), any_name()).prop_map(|(from, to)| Step::Rename(from, to)),
            1 => name().prop_map(Step::Unlink),
            3 => name().prop_map(Step::SyncFile),
        ]
        .boxed()
    }

    /// Only what can be walked to its end is compared.
    fn preconditions(state: &Model, step: &Step) -> bool {
        let mut next = state.clone();
        next.act(step);
        next.crashes() <= CRASHES_MAX
    }

    fn apply(mut state: Model, step: &Step) -> Model {
        state.act(step);
        state
    }
}

fn look(disk: &Disk) -> Seen {
    let text = |bytes: Vec<u8>| {
        let sector = |bytes: &[u8]| {
            assert!(
                bytes.len() as u64 == SECTOR && bytes.iter().all(|byte| *byte == bytes[0]),
                "a torn sector"
            );
            if bytes[0] == 0 { '0' } else { char::from(bytes[0]) }
        };
        bytes.chunks(SECTOR as usize).map(sector).collect()
    };
    NAMES.into_iter().filter_map(|name| Some((name, text(disk.peek(name)?)))).collect()
}

/// Every survivor of a power loss.
fn survivors(disk: &Disk) -> BTreeMap<Seen, Disk> {
    let mut walk = Exhaustive::limited(2 * CRASHES_MAX);
    let mut found = BTreeMap::new();
    while let Some(mut choices) = walk.begin() {
        let survivor = disk.fork();
        survivor.power_loss(&mut choices);
        found.insert(look(&survivor), survivor);
        walk.end(choices).expect("a crash is deterministic");
    }
    assert!(walk.is_complete(), "the model counts no fewer crashes than there are");
    found
}

struct Survivors;

impl StateMachineTest for Survivors {
    type SystemUnderTest = Disk;
    type Reference = Model;

    fn init_test(_: &Model) -> Disk {
        Disk::new(Profile::Posix)
    }

    fn apply(disk: Disk, model: &Model, step: Step) -> Disk {
        let mount = disk.mount();
        let bytes = |sectors: usize| sectors as u64 * SECTOR;
        // What is not there can't be changed, which is no failure.
        match step {
            Step::Create(name) => drop(mount.create_new(name)),
            Step::Write(name, at, len) => {
                let data = vec![letter(model.letters) as u8; bytes(len) as usize];
                mount.open(name).map(|file| file.write_at(bytes(at), &data).expect("no fault is armed")).ok();
            }
            Step::SetLen(name, len) => {
                mount.open(name).map(|file| file.set_len(bytes(len)).expect("no fault is armed")).ok();
            }
            Step::Rename(from, to) => drop(mount.rename(from, to)),
            Step::Unlink(name) => drop(mount.unlink(name)),
            Step::SyncFile(name) => {
                mount.open(name).map(|file| file.sync().expect("no fault is armed")).ok();
            }
            Step::SyncDir => mount.sync_dir("/").expect("no fault is armed"),
            Step::ProcessCrash => disk.process_crash(),
            // The model has chosen what is left; there has to be a crash that leaves it.
            Step::PowerLoss(_) if model.lost_power => {
                return survivors(&disk)
                    .remove(&model.seen())
                    .expect("the disk can leave what the model chose");
            }
            Step::PowerLoss(_) => {}
        }
        disk
    }

    fn check_invariants(disk: &Disk, model: &Model) {
        assert_eq!(look(disk), model.seen());
        let found: BTreeSet<Seen> = survivors(disk).into_keys().collect();
        let expected: BTreeSet<Seen> = model.outcomes().into_keys().collect();
        let (extra, missing): (Vec<_>, Vec<_>) =
            (found.difference(&expected).collect(), expected.difference(&found).collect());
        assert!(extra.is_empty(), "the disk may leave what nobody may see: {extra:?}");
        assert!(missing.is_empty(), "the disk never leaves what it should: {missing:?}");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_survives_is_what_a_naive_model_says(sequential 1..24 => Survivors);
}
