//! Watching for bytes that must never reach a disk.

use std::sync::Arc;

use memchr::memmem::Finder;

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

/// The needles, prepared for search.
///
/// Every byte of every crash image was once written, so watching writes covers all images. Bytes that only
/// come together on the disk, from two writes side by side, are found by looking at the file around each
/// write. What is not covered: bytes that only a crash joins, from writes that never stood side by side in
/// the file.
#[derive(Clone, Default, Debug)]
pub(crate) struct Needles {
    finders: Arc<Vec<Finder<'static>>>,
    longest: usize,
}

impl Needles {
    /// Empty needles are found nowhere.
    pub(crate) fn new(needles: Vec<Vec<u8>>) -> Self {
        let longest = needles.iter().map(Vec::len).max().unwrap_or(0);
        let finders = needles.iter().map(|needle| Finder::new(needle).into_owned()).collect();
        Self { finders: Arc::new(finders), longest }
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.longest == 0
    }

    /// The first needle in these bytes, and where.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        self.finders.iter().enumerate().find_map(|(needle, finder)| {
            if finder.needle().is_empty() { None } else { finder.find(bytes).map(|at| (needle, at as u64)) }
        })
    }

    /// The first needle that a write has brought into a file: in what was written, or across one of its ends.
    pub(crate) fn find_write(&self, image: &Image, offset: u64, data: &[u8]) -> Option<(usize, u64)> {
        if let Some((needle, at)) = self.find(data) {
            return Some((needle, offset + at));
        }
        let reach = self.longest as u64 - 1;
        let end = offset + data.len() as u64;
        [offset, end].into_iter().find_map(|edge| {
            let start = edge.saturating_sub(reach);
            let mut window = vec![0; (edge + reach).min(image.len()).saturating_sub(start) as usize];
            image.read(start, &mut window);
            self.find(&window).map(|(needle, at)| (needle, start + at))
        })
    }
}
