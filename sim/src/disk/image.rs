//! The content of one file, in pages shared between copies.

use std::cmp::Ordering;
use std::sync::Arc;

/// Bytes per page: the unit of sharing, and of what a failed sync marks clean and a write dirties again. What
/// tears in a crash is the sector (see `crash.rs`).
pub(crate) const PAGE: usize = 4096;

/// Always [`PAGE`] bytes. Not an array, so that a write of a whole page can share what is pending of it.
type Page = Option<Arc<[u8]>>;

/// A file's content: its length and its pages. Copying it copies two words; a write copies the page table
/// once and the pages it touches.
///
/// A missing page is all zeros. Bytes of the last page past the length are always zero, and the table always
/// has just as many pages as the length needs.
#[derive(Clone, Default, Debug)]
pub(crate) struct Image {
    pages: Arc<Vec<Page>>,
    len: u64,
}

impl Image {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Copies the bytes from `offset` on into `buffer`, up to the end of the file; gives how many there were.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let wanted = (self.len.saturating_sub(offset)).min(buffer.len() as u64) as usize;
        for (page, from, part) in spans(offset, wanted) {
            let target = &mut buffer[part.clone()];
            match &self.pages[page] {
                Some(bytes) => target.copy_from_slice(&bytes[from..from + part.len()]),
                None => target.fill(0),
            }
        }
        wanted
    }

    /// The whole content.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Writes, extending the file if needed; a gap before the write reads as zeros.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let pages = self.room_for(offset, data.len());
        for (page, from, part) in spans(offset, data.len()) {
            let source = &data[part];
            match &mut pages[page] {
                // A page that is overwritten whole is replaced, which saves copying what was there.
                slot if source.len() == PAGE => *slot = Some(source.into()),
                Some(shared) => Arc::make_mut(shared)[from..from + source.len()].copy_from_slice(source),
                slot @ None => {
                    let mut fresh = [0; PAGE];
                    fresh[from..from + source.len()].copy_from_slice(source);
                    *slot = Some(Arc::from(fresh.as_slice()));
                }
            }
        }
    }

    /// [`Image::write`], which shares `data` where it is one whole page: a database writes little else.
    pub(crate) fn write_shared(&mut self, offset: u64, data: &Arc<[u8]>) {
        if data.len() == PAGE && offset.is_multiple_of(PAGE as u64) {
            self.room_for(offset, PAGE)[(offset / PAGE as u64) as usize] = Some(data.clone());
        } else {
            self.write(offset, data);
        }
    }

    /// The pages, enough of them for a write of `len` bytes at `offset`.
    fn room_for(&mut self, offset: u64, len: usize) -> &mut Vec<Page> {
        self.set_len(self.len.max(offset + len as u64));
        Arc::make_mut(&mut self.pages)
    }

    /// Sets the length; new bytes are zero.
    pub(crate) fn set_len(&mut self, len: u64) {
        let shrinks = match len.cmp(&self.len) {
            Ordering::Equal => return,
            order => order == Ordering::Less,
        };
        self.len = len;
        let pages = Arc::make_mut(&mut self.pages);
        pages.resize(len.div_ceil(PAGE as u64) as usize, None);
        let tail = (len % PAGE as u64) as usize;
        if shrinks && tail > 0 {
            // A later growth must find zeros here, not what was cut off.
            if let Some(Some(last)) = pages.last_mut() {
                Arc::make_mut(last)[tail..].fill(0);
            }
        }
    }

    /// The page with this index, unless it is all zeros.
    fn page(&self, index: usize) -> Option<&Arc<[u8]>> {
        self.pages[index].as_ref().filter(|page| page.iter().any(|byte| *byte != 0))
    }

    /// Feeds the content to a hasher, so that equal contents feed equal bytes.
    pub(crate) fn feed(&self, mut sink: impl FnMut(&[u8])) {
        sink(&self.len.to_le_bytes());
        for index in 0..self.pages.len() {
            if let Some(page) = self.page(index) {
                sink(&(index as u64).to_le_bytes());
                sink(page);
            }
        }
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        if self.len != other.len {
            return false;
        }
        let same_page = |index| match (&self.pages[index], &other.pages[index]) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs) || mine == theirs,
            _ => self.page(index).is_none() && other.page(index).is_none(),
        };
        Arc::ptr_eq(&self.pages, &other.pages) || (0..self.pages.len()).all(same_page)
    }
}

impl Eq for Image {}

/// Cuts `len` bytes at `offset` along pages: page index, position in the page, and the part of the `len`
/// bytes.
fn spans(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let from = (at % PAGE as u64) as usize;
        let part = done..len.min(done + PAGE - from);
        done = part.end;
        Some(((at / PAGE as u64) as usize, from, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_after_a_cut_reads_zeros() {
        let mut image = Image::default();
        image.write(0, &[7; 5000]);
        image.set_len(4200);
        image.set_len(100);
        image.set_len(5000);
        let bytes = image.to_vec();
        assert!(bytes[..100].iter().all(|b| *b == 7) && bytes[100..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_length_at_the_edge_of_a_page_takes_nothing_from_it() {
        let mut image = Image::default();
        image.write(0, &[7; 2 * PAGE + 10]);
        image.set_len(2 * PAGE as u64);
        assert_eq!(image.to_vec(), [7; 2 * PAGE]);
        image.set_len(PAGE as u64 + 5);
        image.set_len(2 * PAGE as u64);
        assert_eq!(image.to_vec()[..PAGE + 5], [7; PAGE + 5]);
        assert_eq!(image.to_vec()[PAGE + 5..], [0; PAGE - 5]);
    }

    #[test]
    fn a_shared_write_is_a_write() {
        let page: Arc<[u8]> = [7; PAGE].into();
        for (offset, data) in
            [(0, page.clone()), (3 * PAGE as u64, page.clone()), (5, page), (8192, [8; 9].into())]
        {
            let (mut shared, mut copied) = (Image::default(), Image::default());
            for image in [&mut shared, &mut copied] {
                image.write(1000, &[1; 3 * PAGE]);
            }
            shared.write_shared(offset, &data);
            copied.write(offset, &data);
            assert_eq!(shared.to_vec(), copied.to_vec(), "{} bytes at {offset}", data.len());
        }
    }

    #[test]
    fn written_zeros_equal_a_hole() {
        let (mut hole, mut zeros) = (Image::default(), Image::default());
        hole.set_len(9000);
        zeros.write(0, &[0; 9000]);
        assert_eq!(hole, zeros);
        zeros.write(8999, &[1]);
        assert_ne!(hole, zeros);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut image = Image::default();
        image.write(10, b"old");
        let copy = image.clone();
        image.write(10, b"new");
        assert_eq!(&copy.to_vec()[10..], b"old");
        assert_eq!(&image.to_vec()[10..], b"new");
    }
}
