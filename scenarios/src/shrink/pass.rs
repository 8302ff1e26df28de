//! What the search proposes, pass by pass: the big wins first, since every later run is the shorter for them.

use std::collections::{BTreeMap, BTreeSet};

use sim::{Draw, Tape};
use xxhash_rust::xxh3::Xxh3;

use super::Attempt;
use crate::world::Limits;

impl Attempt {
    /// What matters of an attempt in loose replay: each site's values in order. Zeros at the end of a site are what it
    /// draws anyhow. Attempts of one essence are one run.
    pub(super) fn essence(&self) -> u64 {
        let mut values: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for draw in &self.tape.0 {
            values.entry(&draw.site).or_default().push(draw.value);
        }
        let mut hash = Xxh3::new();
        let mut take = |number: u64| hash.update(&number.to_le_bytes());
        for most in [self.limits.entries_max, self.limits.joins_max] {
            take(most.map_or(0, |most| most.saturating_add(1)));
        }
        for (site, values) in values {
            let Some(last) = values.iter().rposition(|value| *value > 0) else { continue };
            site.bytes().for_each(|byte| take(u64::from(byte)));
            take(u64::MAX);
            take(last as u64);
            values[..=last].iter().for_each(|value| take(*value));
        }
        hash.digest()
    }
}

/// The order in which the draws are cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// What happens at about the same time.
    Time,
    /// What is of the same kind.
    Site,
}

/// One way to make an attempt smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Nothing unusual at all; only in one group of sites (the part of their names before the first dot); in all but one.
    Calm,
    /// A shorter workload, and no member more.
    Shorter,
    /// Nothing unusual at one site.
    Sites,
    /// The largest answer throughout a site: where time passes, zero is the shortest wait and not the calmest.
    Raise,
    /// Nothing unusual after some moment.
    Tail,
    /// A chunk of the unusual draws becomes calm; what they were drawn for stays.
    Zero(By, usize),
    /// A chunk of draws was never made: the later values of their sites move up.
    Delete(By, usize),
    /// The draws of one log entry, and its place in the workload with them.
    Entries,
    /// From one draw of a site up to its next, what the group of that site has drawn: an action, a request, a life.
    Units,
    /// Another answer to a draw that has few, where few draws are of its site: what is drawn once a run decides much.
    Others,
    /// Another answer to a draw that has many and is made once, in a workload that is much shorter.
    BeginElsewhere,
    /// Another course of events, and one group of sites or all that is late calm in it. Where many draws depend on each other's timing, taking
    /// one away changes all that follows, and then one course is as good as another.
    Reroll,
    /// A smaller value.
    Lower,
    /// Two neighbours of a site get the value of one, or are lowered together.
    Merge,
}

/// The big wins: few attempts, each of which may take most of a run away. They are gone through until they find nothing
/// more, since every later run is the shorter for them.
pub(super) const COARSE: [Pass; 9] = [
    Pass::Calm,
    Pass::Shorter,
    Pass::Sites,
    Pass::Raise,
    Pass::Tail,
    Pass::Zero(By::Time, 2),
    Pass::Zero(By::Time, 4),
    Pass::Zero(By::Time, 8),
    Pass::Entries,
];

/// All that is left: each pass once, in order.
pub(super) fn fine(attempt: &Attempt) -> Vec<Pass> {
    let unusual = attempt.tape.0.iter().filter(|draw| draw.value > 0).count();
    let parts = || (1..).map(|power| 1 << power).take_while(move |parts| *parts < 2 * unusual.max(2));
    let mut fine = vec![Pass::Others, Pass::BeginElsewhere, Pass::Reroll];
    fine.extend(parts().map(|parts| Pass::Zero(By::Time, parts)));
    fine.push(Pass::Units);
    fine.extend(parts().map(|parts| Pass::Delete(By::Time, parts)));
    fine.extend(parts().map(|parts| Pass::Zero(By::Site, parts)));
    fine.extend(parts().map(|parts| Pass::Delete(By::Site, parts)));
    fine.extend([Pass::Lower, Pass::Merge]);
    fine
}

/// A change of an attempt.
#[derive(Clone, Debug, Default)]
struct Edit {
    set: Vec<(usize, u64)>,
    delete: BTreeSet<usize>,
    entries_max: Option<u64>,
    joins_max: Option<u64>,
}

impl Edit {
    fn zero(draws: impl IntoIterator<Item = usize>) -> Edit {
        Edit { set: draws.into_iter().map(|at| (at, 0)).collect(), ..Edit::default() }
    }

    fn delete(draws: impl IntoIterator<Item = usize>) -> Edit {
        Edit { delete: draws.into_iter().collect(), ..Edit::default() }
    }

    fn set(draws: impl IntoIterator<Item = (usize, u64)>) -> Edit {
        Edit { set: draws.into_iter().collect(), ..Edit::default() }
    }
}

/// A pass over one attempt: what it proposes, position by position.
pub(super) struct Plan<'a> {
    attempt: &'a Attempt,
    edits: Vec<Edit>,
}

impl Plan<'_> {
    pub(super) fn positions(&self) -> usize {
        self.edits.len()
    }

    /// What is proposed at a position; `None` where it changes nothing.
    pub(super) fn attempt(&self, at: usize) -> Option<Attempt> {
        let edit = &self.edits[at];
        let mut draws = self.attempt.tape.0.clone();
        for (at, value) in &edit.set {
            draws[*at].value = *value;
        }
        if !edit.delete.is_empty() {
            let mut at = 0;
            draws.retain(|_| {
                at += 1;
                !edit.delete.contains(&(at - 1))
            });
        }
        let Limits { entries_max, joins_max, .. } = self.attempt.limits;
        let limits = Limits {
            entries_max: edit.entries_max.or(entries_max),
            joins_max: edit.joins_max.or(joins_max),
            ..self.attempt.limits
        };
        let attempt = Attempt { limits, tape: Tape(draws) };
        (attempt != *self.attempt).then_some(attempt)
    }
}

impl Pass {
    pub(super) fn plan(self, attempt: &Attempt) -> Plan<'_> {
        let outline = Outline::of(&attempt.tape.0);
        let edits = match self {
            Pass::Calm => outline.calm(),
            Pass::Shorter => shorter(attempt.limits),
            Pass::Sites => outline.sites.iter().map(|site| Edit::zero(site.clone())).collect(),
            Pass::Raise => outline.raise(),
            Pass::Tail => outline.tail(),
            Pass::Zero(by, parts) => {
                let unusual = outline.in_order(by, |at| outline.draws[at].value > 0);
                chunks(&unusual, parts).map(Edit::zero).collect()
            }
            Pass::Delete(by, parts) => {
                let last = outline.last_unusual();
                let matter = outline.in_order(by, |at| last[at].is_some_and(|last| at <= last));
                chunks(&matter, parts).map(Edit::delete).collect()
            }
            Pass::Entries => outline.entries(attempt.limits.entries_max),
            Pass::Units => outline.units(),
            Pass::Others => outline.others(),
            Pass::BeginElsewhere => outline.begin_elsewhere(attempt.limits.entries_max),
            Pass::Reroll => outline.reroll(),
            Pass::Lower => outline.lower(),
            Pass::Merge => outline.merge(),
        };
        Plan { attempt, edits }
    }
}

/// Nobody who joins, and lengths of a workload, from nothing on; the first that still shows the finding is the shortest.
fn shorter(limits: Limits) -> Vec<Edit> {
    /// No world has a longer one.
    const LONGEST: u64 = 20;
    let joins = (limits.joins_max != Some(0)).then_some(Edit { joins_max: Some(0), ..Edit::default() });
    let lengths = 0..limits.entries_max.unwrap_or(LONGEST).min(LONGEST);
    let shorter = |most| Edit { entries_max: Some(most), ..Edit::default() };
    joins.into_iter().chain(lengths.map(shorter)).collect()
}

/// Chunks from the end on: what is late has led to the least.
fn chunks(list: &[usize], parts: usize) -> impl Iterator<Item = Vec<usize>> + '_ {
    list.rchunks(list.len().div_ceil(parts).max(1)).map(<[usize]>::to_vec)
}

/// Values to try in place of a larger one, as a binary search would whose every answer is "no": first from the bottom,
/// then closer and closer below the value itself. A large value stands for no amount, but for one of many courses of
/// events; it is at least halved each time, since minus one would go on for ever.
pub(super) fn ladder(value: u64) -> Vec<u64> {
    const LARGE: u64 = 1 << 12;
    let mut ladder: Vec<u64> = Vec::new();
    if value > LARGE {
        ladder.extend(1..=12);
        ladder.extend((1..40).map(|halvings| value >> halvings).filter(|lower| *lower > 12));
    } else {
        ladder.extend((value > 1).then_some(1));
        let mut low = 0;
        while low < value {
            let middle = low + (value - low) / 2;
            if middle > 1 && middle < value {
                ladder.push(middle);
            }
            low = middle + 1;
        }
    }
    ladder
}

/// How long a log is to be.
const LENGTH: &str = "log.length";

fn group(site: &str) -> &str {
    site.split('.').next().expect("a split gives at least one part")
}

/// Where on a tape what is.
struct Outline<'a> {
    draws: &'a [Draw],
    /// For each site the indices of its draws; the site with the most first.
    sites: Vec<Vec<usize>>,
}

impl<'a> Outline<'a> {
    fn of(draws: &'a [Draw]) -> Outline<'a> {
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, draw) in draws.iter().enumerate() {
            by_name.entry(&draw.site).or_default().push(at);
        }
        let mut sites: Vec<Vec<usize>> = by_name.into_values().collect();
        // Stable, so that sites with equally many stay in the order of their names.
        sites.sort_by_key(|site| std::cmp::Reverse(site.len()));
        Outline { draws, sites }
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.draws.len()
    }

    fn in_order(&self, by: By, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        match by {
            By::Time => self.all().filter(|at| wanted(*at)).collect(),
            By::Site => self.sites.iter().flatten().copied().filter(|at| wanted(*at)).collect(),
        }
    }

    /// For each draw the last one of its site that is unusual. Behind that a site draws zeros anyhow.
    fn last_unusual(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.draws.len()];
        for site in &self.sites {
            let newest = site.iter().copied().rfind(|at| self.draws[*at].value > 0);
            site.iter().for_each(|at| last[*at] = newest);
        }
        last
    }

    fn calm(&self) -> Vec<Edit> {
        let groups: BTreeSet<&str> = self.draws.iter().map(|draw| group(&draw.site)).collect();
        let of = |wanted: &str, is: bool| {
            Edit::zero(self.all().filter(|at| (group(&self.draws[*at].site) == wanted) == is))
        };
        let mut edits = vec![Edit::zero(self.all())];
        edits.extend(groups.iter().map(|group| of(group, false)));
        edits.extend(groups.iter().map(|group| of(group, true)));
        edits
    }

    fn raise(&self) -> Vec<Edit> {
        let few = self.sites.iter().filter(|site| site.iter().all(|at| self.draws[*at].bound <= 64));
        few.map(|site| Edit::set(site.iter().map(|at| (*at, self.draws[*at].bound - 1)))).collect()
    }

    fn tail(&self) -> Vec<Edit> {
        const PARTS: usize = 16;
        let length = self.draws.len();
        (0..PARTS).map(|part| Edit::zero(length * part / PARTS..length)).collect()
    }

    /// In every world an entry is drawn in one go, after what the one who asks for it draws. It goes alone, or with all
    /// that happens between it and the next one or the one before.
    fn entries(&self, entries_max: Option<u64>) -> Vec<Edit> {
        let of_entry = |at: &usize| {
            let site = &*self.draws[*at].site;
            (group(site) == "log" && site != LENGTH) || site == "client.class"
        };
        let (mut entries, mut at): (Vec<std::ops::Range<usize>>, usize) = (Vec::new(), 0);
        while at < self.draws.len() {
            let end = at + (at..self.draws.len()).take_while(of_entry).count();
            if end > at {
                entries.push(at..end);
            }
            at = end.max(at + 1);
        }
        let most = entries_max.unwrap_or(u64::MAX).min(entries.len() as u64);
        let shorter = Some(most.saturating_sub(1));
        let length = self.all().find(|at| self.draws[*at].site == LENGTH && self.draws[*at].value > 0);
        let length = length.map(|at| (at, self.draws[at].value - 1));
        let mut edits = Vec::new();
        for (nth, entry) in entries.iter().enumerate() {
            let before = nth.checked_sub(1).map_or(0, |nth| entries[nth].end);
            let next = entries.get(nth + 1).map_or(self.draws.len(), |next| next.start);
            for draws in [entry.start..next, before..entry.end, entry.clone()] {
                let edit = Edit::delete(draws);
                edits.push(edit.clone());
                edits.push(Edit { set: length.into_iter().collect(), ..edit.clone() });
                edits.push(Edit { entries_max: shorter, ..edit });
            }
        }
        edits.reverse();
        edits
    }

    fn units(&self) -> Vec<Edit> {
        let last = self.last_unusual();
        let mut edits = Vec::new();
        for site in &self.sites {
            let name = group(&self.draws[site[0]].site);
            for (at, next) in site.iter().zip(site.iter().skip(1).copied().chain([self.draws.len()])) {
                let unit: Vec<usize> =
                    (*at..next).filter(|at| group(&self.draws[*at].site) == name).collect();
                if unit.iter().any(|at| last[*at].is_some_and(|last| *at <= last)) {
                    edits.push(Edit::delete(unit));
                }
            }
        }
        edits
    }

    fn others(&self) -> Vec<Edit> {
        const DRAWS_MAX: usize = 12;
        /// Of a site that draws more than once, and of one that does not.
        const ANSWERS_MAX: [u64; 2] = [6, 48];
        let rare = self.sites.iter().filter(|site| site.len() <= DRAWS_MAX);
        let few = rare.flat_map(|site| {
            let most = ANSWERS_MAX[usize::from(site.len() == 1)];
            site.iter().filter(move |at| self.draws[**at].bound <= most)
        });
        few.flat_map(|at| (0..self.draws[*at].bound).map(|value| Edit::set([(*at, value)]))).collect()
    }

    /// Where a round through everything begins elsewhere, what is wanted of it comes earlier, and the round can be short.
    fn begin_elsewhere(&self, entries_max: Option<u64>) -> Vec<Edit> {
        const LENGTHS: [u64; 4] = [1, 2, 4, 8];
        let once = self.sites.iter().filter(|site| site.len() == 1).flatten();
        let many = once.filter(|at| (12..=48).contains(&self.draws[**at].bound));
        let lengths = || LENGTHS.into_iter().filter(|length| entries_max.is_none_or(|most| *length < most));
        let to = |(at, length): (usize, u64)| {
            let answers = 0..self.draws[at].bound;
            answers.map(move |value| Edit { entries_max: Some(length), ..Edit::set([(at, value)]) })
        };
        many.flat_map(|at| lengths().map(|length| (*at, length))).flat_map(to).collect()
    }

    fn reroll(&self) -> Vec<Edit> {
        const COURSES: u64 = 5;
        /// With fewer unusual draws the other passes get to the minimum, and quicker.
        const TANGLED: usize = 24;
        /// Whatever has so many answers is no amount of anything.
        const MANY: u64 = 1 << 20;
        let seeds: Vec<usize> = self.all().filter(|at| self.draws[*at].bound >= MANY).collect();
        let unusual = self.draws.iter().filter(|draw| draw.value > 0).count();
        if seeds.is_empty() || unusual < TANGLED {
            return Vec::new();
        }
        let calmer = self.calm().into_iter().chain(self.tail());
        let courses = |edit: Edit| {
            let seeds = &seeds;
            (0..COURSES).map(move |course| {
                let mut edit = edit.clone();
                edit.set.extend(seeds.iter().map(|at| (*at, course)));
                edit
            })
        };
        calmer.flat_map(courses).collect()
    }

    fn lower(&self) -> Vec<Edit> {
        let unusual = self.all().filter(|at| self.draws[*at].value > 0);
        unusual
            .flat_map(|at| {
                ladder(self.draws[at].value).into_iter().map(move |value| Edit::set([(at, value)]))
            })
            .collect()
    }

    fn merge(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        for site in &self.sites {
            let unusual: Vec<usize> = site.iter().copied().filter(|at| self.draws[*at].value > 0).collect();
            for pair in unusual.windows(2) {
                let (a, b) = (self.draws[pair[0]].value, self.draws[pair[1]].value);
                let less = a.min(b);
                edits.push(Edit::zero(pair.iter().copied()));
                edits.push(Edit::set([(pair[0], less), (pair[1], less)]));
                edits.push(Edit::set([(pair[0], a - 1), (pair[1], b - 1)]));
            }
        }
        edits
    }
}
