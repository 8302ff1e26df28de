//! Watching for bytes that must never reach a disk.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind, packed::Searcher};

use super::image::Image;

/// Where watched bytes were written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leak {
    /// The file, by the path it was opened by, or the name that was given.
    pub path: String,
    /// Position of the bytes in the file, or in the name.
    pub offset: u64,
    /// Index of the needle in the list that was watched for; never the bytes themselves, which may be secret.
    pub needle: usize,
}

/// Bytes to watch for, prepared for search once and shared by the disks that are given copies.
///
/// Every byte of every crash image was once written, so watching writes covers all images. Bytes that only
/// come together on the disk, from two writes side by side, are found by looking at the file around each
/// write. What is not covered: bytes that only a crash joins, from writes that never stood side by side in
/// the file.
#[derive(Clone, Debug, Default)]
pub struct Needles {
    search: Option<Arc<Search>>,
}

#[derive(Debug)]
struct Search {
    /// Looks for all of them at once, a vector of bytes at a time, on processors that can.
    packed: Option<Searcher>,
    /// The same, a byte at a time.
    automaton: AhoCorasick,
    /// Which needle each pattern is.
    needles: Vec<usize>,
    longest: usize,
}

impl Needles {
    /// Prepares needles. Empty ones are found nowhere.
    ///
    /// # Panics
    /// If they are too many or too long for an automaton, which takes gigabytes.
    pub fn new(needles: &[Vec<u8>]) -> Self {
        let whole = || needles.iter().enumerate().filter(|(_, needle)| !needle.is_empty());
        let Some(longest) = whole().map(|(_, needle)| needle.len()).max() else { return Self::default() };
        let patterns = || whole().map(|(_, needle)| needle);
        // Both find the leftmost one, the first of the list where two begin there.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(patterns());
        let search = Search {
            packed: Searcher::new(patterns()),
            automaton: automaton.expect("a handful of short needles"),
            needles: whole().map(|(index, _)| index).collect(),
            longest,
        };
        Self { search: Some(Arc::new(search)) }
    }

    /// The first needle in these bytes, and where.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        let search = self.search.as_ref()?;
        let found = match &search.packed {
            Some(packed) => packed.find(bytes),
            None => search.automaton.find(bytes),
        }?;
        Some((search.needles[found.pattern().as_usize()], found.start() as u64))
    }

    /// The first needle that a write has brought into a file: in what was written, or across one of its ends.
    pub(crate) fn find_write(&self, image: &Image, offset: u64, data: &[u8]) -> Option<(usize, u64)> {
        if let Some((needle, at)) = self.find(data) {
            return Some((needle, offset + at));
        }
        let reach = self.search.as_ref()?.longest as u64 - 1;
        let end = offset + data.len() as u64;
        [offset, end].into_iter().find_map(|edge| {
            let start = edge.saturating_sub(reach);
            let mut window = vec![0; (edge + reach).min(image.len()).saturating_sub(start) as usize];
            image.read(start, &mut window);
            self.find(&window).map(|(needle, at)| (needle, start + at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_searches_find_the_same_needle_at_the_same_place() {
        let needles = [b"secret".to_vec(), Vec::new(), b"cre".to_vec(), b"key".to_vec()];
        let search = Needles::new(&needles).search.expect("there are needles");
        for (text, found) in
            [("a secret", Some((0, 2))), ("sacred keys", Some((2, 2))), ("keycre", Some((3, 0)))]
        {
            for padding in [0, 100] {
                let text = format!("{text}{}", ".".repeat(padding));
                let one = |packed| {
                    let search = Search {
                        packed,
                        automaton: search.automaton.clone(),
                        needles: search.needles.clone(),
                        ..*search
                    };
                    Needles { search: Some(Arc::new(search)) }.find(text.as_bytes())
                };
                assert_eq!([one(search.packed.clone()), one(None)], [found, found], "{text}");
            }
        }
        assert_eq!(Needles::new(&needles).find(b"nothing"), None);
    }
}
