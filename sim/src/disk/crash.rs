//! What survives a crash: [`crash`] takes the durable tree and the pending operations and gives the tree that
//! a power loss leaves. Everything that a reader may want to know about it is in this file.
//!
//! Each pending operation is given a fate by a draw, where 0 always means that it survives whole:
//!
//! - **names** (create, mkdir, rename, unlink): kept or dropped. Kept ones act in program order. A rename is
//!   one effect, also when the creation of the name it starts from was dropped.
//! - **set length**: kept or dropped.
//! - **write**: kept, dropped, or torn so that each 512-byte sector is old or new. What a write does to the
//!   *length* is drawn apart from its data: a write past the end may leave the length with zeros in it, or
//!   data without the length.
//!
//! Names are decided first. Data is then decided only for files that a name still leads to, since nobody can
//! look at the others. Draws are made in a canonical order (names in program order, then data by inode,
//! offset, program order) and not in that of arrival, because a database may write its pages in the order of
//! a hash map. What was kept is carried out in program order.
//!
//! All that is [`Profile::Posix`]; the other profiles take states away:
//!
//! - Names survive as a prefix of those pending, under [`Profile::Ext4Ordered`], [`Profile::Xfs`] and
//!   [`Profile::Btrfs`]. (What is pending differs too, since their syncs make more names durable: `sync.rs`.)
//! - Under the same three, what a write appends survives as a prefix, and the length that the file owes to the
//!   write ends with it.
//! - Under `ext4-ordered` the lengths of a file survive in order: a lost append or a dropped change of length
//!   ends its growth. Under `xfs` and `btrfs` writes are independent of each other, so that a later append may
//!   survive an earlier one, with zeros in between; under `btrfs` one that survives may also bring the length
//!   of those that did not, with zeros in place of their data.
//! - Under `ext4-ordered` alone, a surviving rename over an existing name brings with it whatever had been
//!   done to the renamed file.
//!
//! A sync that failed and lost what was pending leaves nothing of it to decide on here: only what is durable
//! or pending can survive, whatever reads have seen since.
//!
//! Not modelled: sectors that tear inside, bits that rot, writes that land elsewhere, and data that returns
//! from a block once freed, except as "stale" bytes under [`Tearing::Garbled`].

use super::{
    image::Image,
    op::{InodeId, Pending},
    profile::Profile,
    tree::{ROOT, Tree},
};
use crate::{choices::Choices, site::Site};

/// Bytes per sector: a sector is old or new, never a mixture.
pub const SECTOR: u64 = 512;

const NAME: Site = Site::new("disk.fate.name");
const JOURNAL: Site = Site::new("disk.fate.journal");
const SET_LEN: Site = Site::new("disk.fate.set_len");
const WRITE: Site = Site::new("disk.fate.write");
const TORN_SECTOR: Site = Site::new("disk.fate.sector");
const LENGTH: Site = Site::new("disk.fate.length");
const HOLE: Site = Site::new("disk.fate.hole");
const GARBAGE: Site = Site::new("disk.fate.garbage");

/// What can become of the parts of one write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Tearing {
    /// Writes of [`WHOLE_FROM`] bytes or more are kept or dropped whole, smaller ones tear at sectors. A subset
    /// of the states of the next, for enumerations in which the tears of database pages are too many. Under
    /// [`Profile::Ext4Ordered`] a write over the end of a file counts as two, what it overwrites and what it
    /// appends, so that its states there are a subset of those of `posix` with the next setting only.
    PagesWhole,
    /// Every write tears at sectors, each of which is old or new.
    #[default]
    Sectors,
    /// Harsher than any profile: a torn sector may also be garbage or, past the old end, stale.
    Garbled,
}

/// Bytes from which on [`Tearing::PagesWhole`] does not tear a write: a database page.
pub const WHOLE_FROM: u64 = 4096;

/// How many patterns garbage can have.
const GARBAGE_PATTERNS: u64 = 16;
/// What a block held before it became part of a file.
const STALE: u8 = 0xA5;

/// What became of one pending operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// It survived whole.
    Kept,
    /// Nothing of it survived.
    Dropped,
    /// It was about the data of a file that no name leads to any more.
    Unreachable,
    /// Something else became of a write.
    Torn {
        /// Bit `n` is set if the bytes of the `n`-th sector that the write touched are new, as far as the
        /// file's length goes; sectors from the 64th on are not shown.
        new: u64,
        /// How many bytes of length the file owes to this write: its end if the length survived, 0 if it did
        /// not.
        reach: u64,
    },
}

/// What a power loss leaves.
pub(crate) struct Survivor {
    pub(crate) tree: Tree,
    /// One fate for each pending operation, in program order.
    pub(crate) fates: Vec<Fate>,
}

/// Decides what survives: the one crash function.
///
/// With a seeded source it yields one tree, under [`crate::Exhaustive`] every legal one.
pub(crate) fn crash(
    durable: &Tree,
    pending: &[Pending],
    profile: Profile,
    tearing: Tearing,
    choices: &mut Choices,
) -> Survivor {
    let mut tree = durable.clone();
    let mut fates = vec![Fate::Kept; pending.len()];
    decide_names(pending, profile, choices, &mut fates);
    for (op, fate) in pending.iter().zip(&fates) {
        if op.dir().is_some() && *fate == Fate::Kept {
            tree.apply(op);
        }
    }
    let mut reachable = vec![ROOT];
    tree.reach(&mut reachable);
    tree.retain(&reachable);

    let mut data: Vec<DataOp> = pending.iter().enumerate().filter_map(DataOp::new).collect();
    data.sort_unstable_by_key(|op| (op.inode, op.at));
    for ops in data.chunk_by_mut(|one, other| one.inode == other.inode) {
        match tree.file_mut(ops[0].inode) {
            Some(image) => {
                let forced = if profile.rename_brings_data() {
                    forced_before(ops[0].inode, pending, &fates)
                } else {
                    0
                };
                note_known_lengths(image.len(), ops, pending, profile);
                draw_data(ops, forced, pending, profile, tearing, choices);
                apply_data(image, ops, pending, profile, &mut fates);
            }
            None => ops.iter().for_each(|op| fates[op.at] = Fate::Unreachable),
        }
    }
    Survivor { tree, fates }
}

fn decide_names(pending: &[Pending], profile: Profile, choices: &mut Choices, fates: &mut [Fate]) {
    let names = || (0..pending.len()).filter(|at| pending[*at].dir().is_some());
    if profile.names_in_order() {
        let count = names().count() as u64;
        let lost = choices.draw(JOURNAL, count + 1) as usize;
        names().skip(count as usize - lost).for_each(|at| fates[at] = Fate::Dropped);
    } else {
        for at in names() {
            fates[at] = kept_or_dropped(choices.draw(NAME, 2));
        }
    }
}

fn kept_or_dropped(drawn: u64) -> Fate {
    if drawn == 0 { Fate::Kept } else { Fate::Dropped }
}

/// A pending write or change of length on its way to a fate.
struct DataOp {
    inode: InodeId,
    /// Where a write begins, or the length to be set; it orders the draws.
    offset: u64,
    /// Position in the program.
    at: usize,
    /// See [`note_known_lengths`].
    known: u64,
    plan: Plan,
}

/// What was drawn for a data operation.
#[derive(Default)]
struct Plan {
    /// What became of the bytes that this write put over others, and under `posix` of those that it appended.
    data: Data,
    /// Where those bytes end, and data begins that is new as far as `reach` goes. Under `posix` there is no such
    /// data.
    fresh_from: u64,
    /// The length that the file owes to this write, 0 if none.
    reach: u64,
    /// The length that it owes to it beyond its data, which zeros fill; 0 if none. Only under Btrfs.
    zeros_to: u64,
    /// Whether the write had to extend the file.
    extends: bool,
    /// Whether part of the appended data was lost, which under ext4 ends what the file can grow by.
    cut: bool,
}

#[derive(Default)]
enum Data {
    #[default]
    New,
    Old,
    /// One per sector touched.
    Torn(Vec<Sector>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sector {
    New,
    Old,
    Garbage(u64),
    Stale,
}

impl DataOp {
    fn new((at, op): (usize, &Pending)) -> Option<Self> {
        let (inode, offset) = match op {
            Pending::Write { inode, offset, .. } => (*inode, *offset),
            Pending::SetLen { inode, len } => (*inode, *len),
            _ => return None,
        };
        Some(Self { inode, offset, at, known: 0, plan: Plan::default() })
    }
}

/// The position in the program before which all data of this file was forced out, because a rename of it over
/// an existing name survived (ext4's `auto_da_alloc`).
pub(crate) fn forced_before(file: InodeId, pending: &[Pending], fates: &[Fate]) -> usize {
    let replaces =
        |op: &Pending| matches!(op, Pending::Rename { inode, replaced: Some(_), .. } if *inode == file);
    (0..pending.len()).rev().find(|at| fates[*at] == Fate::Kept && replaces(&pending[*at])).unwrap_or(0)
}

/// Notes for each operation, given in program order, the length that the file is known to have had before it:
/// a write beyond that has to extend the file.
///
/// Under ext4, where lengths survive in order, this is what it was when the program ran; else the least that
/// it can have been, whatever became of earlier operations. Neither depends on other fates, so that the bounds
/// of the draws do not either.
fn note_known_lengths(durable: u64, ops: &mut [DataOp], pending: &[Pending], profile: Profile) {
    let mut length = durable;
    for op in ops {
        op.known = length;
        length = match (&pending[op.at], profile.lengths_in_order()) {
            (Pending::SetLen { len, .. }, false) => length.min(*len),
            (Pending::SetLen { len, .. }, true) => *len,
            (Pending::Write { data, .. }, true) => length.max(op.offset + data.len() as u64),
            _ => length,
        };
    }
}

/// Draws the plans of one file's operations in canonical order, and leaves them in program order again.
fn draw_data(
    ops: &mut [DataOp],
    forced: usize,
    pending: &[Pending],
    profile: Profile,
    tearing: Tearing,
    choices: &mut Choices,
) {
    ops.sort_unstable_by_key(|op| (op.offset, op.at));
    for op in ops.iter_mut() {
        op.plan = match &pending[op.at] {
            Pending::Write { data, .. } if op.at < forced => Plan::whole(op.offset + data.len() as u64),
            Pending::Write { data, .. } => draw_write(op, data.len() as u64, profile, tearing, choices),
            _ if op.at < forced || choices.draw(SET_LEN, 2) == 0 => Plan::default(),
            _ => Plan { data: Data::Old, ..Plan::default() },
        };
    }
    // A surviving append leaves the length that the file had in memory, where the profile says so.
    if profile.length_from_memory() && ops.iter().any(|op| op.plan.extends && op.plan.reach > 0) {
        for op in ops.iter_mut().filter(|op| op.plan.cut) {
            if let (Pending::Write { data, .. }, 1) = (&pending[op.at], choices.draw(HOLE, 2)) {
                op.plan.zeros_to = op.offset + data.len() as u64;
            }
        }
    }
    ops.sort_unstable_by_key(|op| op.at);
}

impl Plan {
    fn whole(end: u64) -> Self {
        Self { fresh_from: end, reach: end, extends: true, ..Self::default() }
    }
}

fn draw_write(op: &DataOp, len: u64, profile: Profile, tearing: Tearing, choices: &mut Choices) -> Plan {
    let (offset, end, known) = (op.offset, op.offset + len, op.known);
    let (extends, whole) = (end > known, tearing == Tearing::PagesWhole && len >= WHOLE_FROM);
    if whole && profile.pages_whole_at_the_end() {
        return match choices.draw(WRITE, 2) {
            0 => Plan::whole(end),
            _ => Plan { data: Data::Old, fresh_from: end, cut: extends, ..Plan::default() },
        };
    }
    let fresh_from = match profile.length_after_data() {
        true if known <= offset => offset,
        // The sector in which the file ended is overwritten, and is one sector all the same.
        true => known.next_multiple_of(SECTOR).min(end),
        false => end,
    };
    let data = draw_sectors(offset, fresh_from, known, tearing, choices);
    let mut plan = Plan { data, fresh_from, extends, ..Plan::default() };
    if plan.extends {
        plan.reach = draw_reach(offset, end, known, profile, whole, &plan, choices);
        plan.cut = plan.reach < end;
    }
    plan
}

/// Draws the length that the file owes to a write that has to extend it: the end of the write, that of one of
/// the sectors in it, or none.
fn draw_reach(
    offset: u64,
    end: u64,
    known: u64,
    profile: Profile,
    whole: bool,
    plan: &Plan,
    choices: &mut Choices,
) -> u64 {
    let first = known.max(offset) / SECTOR;
    let inner = if whole { 0 } else { (end - 1) / SECTOR - first };
    if !profile.length_after_data() {
        return match choices.draw(LENGTH, inner + 2) {
            0 => end,
            1 => 0,
            more => (first + more - 1) * SECTOR,
        };
    }
    // Where the sector in which the file ended was lost, nothing after it can have survived. A write that begins behind the end
    // loses nothing of that sector: its data is new.
    let last_overwritten_is_new = match &plan.data {
        Data::New => true,
        Data::Old => false,
        Data::Torn(sectors) => sectors.last() == Some(&Sector::New),
    };
    if !known.is_multiple_of(SECTOR) && !last_overwritten_is_new {
        return 0;
    }
    match choices.draw(LENGTH, inner + 2) {
        0 => end,
        lost if lost <= inner => (first + inner + 1 - lost) * SECTOR,
        _ => 0,
    }
}

/// Draws what became of the bytes from `offset` to `end`.
fn draw_sectors(offset: u64, end: u64, known: u64, tearing: Tearing, choices: &mut Choices) -> Data {
    if offset == end {
        return Data::New;
    }
    let sectors = offset / SECTOR..end.div_ceil(SECTOR);
    // A sector alone is old or new, which is kept or dropped: it takes garbage to tear it.
    let can_tear = match tearing {
        Tearing::PagesWhole => end - offset < WHOLE_FROM && sectors.end - sectors.start > 1,
        Tearing::Sectors => sectors.end - sectors.start > 1,
        Tearing::Garbled => true,
    };
    match choices.draw(WRITE, if can_tear { 3 } else { 2 }) {
        0 => Data::New,
        1 => Data::Old,
        _ => Data::Torn(
            sectors.map(|sector| draw_sector(sector * SECTOR >= known, tearing, choices)).collect(),
        ),
    }
}

fn draw_sector(past_end: bool, tearing: Tearing, choices: &mut Choices) -> Sector {
    let bound = match (tearing, past_end) {
        (Tearing::PagesWhole | Tearing::Sectors, _) => 2,
        (Tearing::Garbled, false) => 3,
        (Tearing::Garbled, true) => 4,
    };
    match choices.draw(TORN_SECTOR, bound) {
        0 => Sector::New,
        1 => Sector::Old,
        2 => Sector::Garbage(choices.draw(GARBAGE, GARBAGE_PATTERNS)),
        _ => Sector::Stale,
    }
}

/// Carries out what was drawn for one file.
///
/// Between two surviving changes of length the writes first extend the file, then put their data into it in
/// program order: data is only lost past the length that all of them together have left. So writes that do
/// not overlap give the same file in whatever order they arrived.
fn apply_data(
    image: &mut Image,
    ops: &mut [DataOp],
    pending: &[Pending],
    profile: Profile,
    fates: &mut [Fate],
) {
    // Under ext4 lengths survive in order: once a change of length was lost, no later append takes effect.
    let mut growth_ended = false;
    let starts_anew =
        |op: &DataOp| matches!((&pending[op.at], &op.plan.data), (Pending::SetLen { .. }, Data::New));
    for segment in ops.chunk_by_mut(|_, next| !starts_anew(next)) {
        for op in segment.iter_mut() {
            let survives = match &pending[op.at] {
                Pending::SetLen { len, .. } if starts_anew(op) => {
                    image.set_len(*len);
                    growth_ended = false;
                    true
                }
                Pending::Write { .. } => {
                    op.plan.reach = if growth_ended { 0 } else { op.plan.reach };
                    image.set_len(image.len().max(op.plan.length()));
                    !op.plan.cut
                }
                _ => {
                    fates[op.at] = Fate::Dropped;
                    false
                }
            };
            growth_ended |= !survives && profile.lengths_in_order();
        }
        for op in segment {
            if let Pending::Write { offset, data, .. } = &pending[op.at] {
                apply_write(image, *offset, data, &op.plan);
                fates[op.at] = op.plan.fate(*offset, offset + data.len() as u64);
            }
        }
    }
}

/// Puts the data of a write into a file that already has its length.
fn apply_write(image: &mut Image, offset: u64, data: &[u8], plan: &Plan) {
    let part = |from: u64, to: u64| &data[(from - offset) as usize..(to - offset) as usize];
    match &plan.data {
        Data::New => overlay(image, offset, part(offset, plan.fresh_from)),
        Data::Old => {}
        Data::Torn(sectors) => {
            let mut at = offset;
            for sector in sectors {
                let next = ((at / SECTOR + 1) * SECTOR).min(plan.fresh_from);
                match sector {
                    Sector::New => overlay(image, at, part(at, next)),
                    Sector::Old => {}
                    Sector::Garbage(pattern) => overlay(image, at, &garbage(*pattern, (next - at) as usize)),
                    Sector::Stale => overlay(image, at, &vec![STALE; (next - at) as usize]),
                }
                at = next;
            }
        }
    }
    overlay(image, plan.fresh_from, part(plan.fresh_from, plan.reach.max(plan.fresh_from)));
}

/// Writes what lies within the file; bytes past a length that did not survive are lost.
fn overlay(image: &mut Image, offset: u64, data: &[u8]) {
    let room = image.len().saturating_sub(offset).min(data.len() as u64);
    image.write(offset, &data[..room as usize]);
}

/// Bytes that are neither old nor new, the same for the same pattern.
fn garbage(pattern: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(167).wrapping_add(pattern * 29 + 13) >> 1) as u8 | 1).collect()
}

impl Plan {
    /// The length that the file owes to this write, with data or without.
    fn length(&self) -> u64 {
        self.reach.max(self.zeros_to)
    }

    fn fate(&self, offset: u64, end: u64) -> Fate {
        let reach = self.length();
        let length_kept = !self.extends || self.reach == end;
        match &self.data {
            Data::New if length_kept => return Fate::Kept,
            Data::New if self.fresh_from == offset && reach == 0 => return Fate::Dropped,
            Data::Old if reach == 0 => return Fate::Dropped,
            _ => {}
        }
        let in_hole = |nth: u64| {
            self.zeros_to > 0 && (offset / SECTOR + nth) * SECTOR >= self.fresh_from.max(self.reach)
        };
        let is_new = |nth: u64| match &self.data {
            _ if in_hole(nth) => false,
            Data::New => true,
            Data::Old => (offset / SECTOR + nth) * SECTOR >= self.fresh_from,
            Data::Torn(sectors) => sectors.get(nth as usize).is_none_or(|sector| *sector == Sector::New),
        };
        let touched = end.div_ceil(SECTOR) - offset / SECTOR;
        let new = (0..touched.min(64)).filter(|nth| is_new(*nth)).map(|nth| 1 << nth).sum();
        Fate::Torn { new, reach }
    }
}
