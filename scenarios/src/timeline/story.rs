//! A run in plain words.

use std::collections::BTreeMap;

use super::{Broken, Kind, Moment, Timeline, Tone};

/// Sentences after which a story leaves out its middle.
const SENTENCES_MAX: usize = 60;

/// Tells what happened up to a violation, or to the end.
pub(super) fn tell(timeline: &Timeline, violation: Option<&Broken>) -> Vec<String> {
    let end = violation.and_then(|broken| broken.event).map_or(timeline.events.len(), |event| event + 1);
    let mut story: Vec<String> = Vec::new();
    // The sentence on the entry that each node is at, which its answer completes.
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for moment in &timeline.events[..end] {
        let node = timeline.lane_name(moment.lane);
        match moment.kind {
            Kind::Verdict if moment.name == "answer" => {
                if let Some(at) = open.remove(&moment.lane) {
                    story[at].push_str(&format!(" It answers: {}.", moment.text));
                }
            }
            _ => {
                let Some(sentence) = sentence(node, moment) else { continue };
                if moment.kind == Kind::Entry {
                    open.insert(moment.lane, story.len());
                }
                story.push(sentence);
            }
        }
    }
    let mut story = shorten(story);
    if let Some(broken) = violation {
        story.push(format!("That breaks {}: {}.", broken.invariant, broken.says));
    }
    story
}

fn sentence(node: &str, moment: &Moment) -> Option<String> {
    let text = &moment.text;
    Some(match moment.kind {
        Kind::Start if moment.tone == Tone::Warn => format!("{node} refuses to start: {text}."),
        Kind::Start => format!("{node} starts, life {}.", moment.life),
        Kind::Entry if moment.name == "deliver" || moment.name == "apply" => {
            format!("{node} gets entry {text}.")
        }
        Kind::Entry if moment.name == "redeliver" => format!("{node} gets once more entry {text}."),
        Kind::Entry => format!("{node}, {}: {text}.", moment.name),
        Kind::Crash if moment.name == "crash" => format!("{node} crashes {text}."),
        Kind::Crash if !moment.fates.is_empty() => {
            let count = |fate: &str| moment.fates.iter().filter(|known| known.fate == fate).count();
            let lost: Vec<&str> = moment
                .fates
                .iter()
                .filter(|known| known.fate != "kept")
                .map(|known| known.op.as_str())
                .collect();
            let (all, kept) = (moment.fates.len(), count("kept"));
            let lost =
                if lost.is_empty() { String::new() } else { format!("; lost or torn: {}", lost.join(", ")) };
            format!("Of {all} pending operations {kept} survive{lost}.")
        }
        Kind::Crash if moment.name == "died" => format!("{node} dies of {text}."),
        Kind::Crash if moment.name == "end" => format!("{node}, end {text}."),
        // The crash that follows says the same.
        Kind::Fault if moment.name == "death" => return None,
        Kind::Fault => format!("{node} meets {}: {text}.", moment.name),
        Kind::Role => format!("{node} leads {text}."),
        Kind::World => format!("{text}."),
        Kind::Client => format!("Told to {text}."),
        _ => return None,
    })
}

/// The end of a long story is what it is told for, and its beginning says where it takes place.
fn shorten(story: Vec<String>) -> Vec<String> {
    if story.len() <= SENTENCES_MAX {
        return story;
    }
    let half = SENTENCES_MAX / 2;
    let rest = story.len() - half;
    let between = format!("({} sentences are left out.)", rest - half);
    let (begin, end) = (story[..half].iter().cloned(), story[rest..].iter().cloned());
    begin.chain([between]).chain(end).collect()
}
