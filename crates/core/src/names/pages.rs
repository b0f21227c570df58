//! What is known of objects by their places: few of many objects have names, so there are pages only where one has.

use alloc::vec::Vec;
use kobj_memory::NoMemory;

/// Entries in a page: growth costs one allocation of this many, whatever the size already reached.
const PER_PAGE: usize = 1024;

/// An array of pages, each of them made when it is first needed.
pub(super) struct Pages<T> {
    /// A page that was not made yet is an empty vector. Growing this moves pages' addresses, never what they hold.
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.pages.get(index as usize / PER_PAGE)?.get(index as usize % PER_PAGE)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.pages.get_mut(index as usize / PER_PAGE)?.get_mut(index as usize % PER_PAGE)
    }

    /// Makes room for the entry at `index`: afterwards [`Pages::get_mut`] finds it.
    pub(super) fn reserve(&mut self, index: u32, make: impl FnMut() -> T) -> Result<(), NoMemory> {
        let page = index as usize / PER_PAGE;
        if self.pages.len() <= page {
            self.pages.try_reserve(page + 1 - self.pages.len()).map_err(|_| NoMemory)?;
            self.pages.resize_with(page + 1, Vec::new);
        }
        let Some(page) = self.pages.get_mut(page).filter(|page| page.is_empty()) else { return Ok(()) };
        page.try_reserve_exact(PER_PAGE).map_err(|_| NoMemory)?;
        page.resize_with(PER_PAGE, make);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_between_are_not_made() {
        let mut pages = Pages::default();
        pages.reserve(100_000, || 1_u8).unwrap();
        assert_eq!((pages.get(100_000), pages.get(50_000), pages.get(200_000)), (Some(&1), None, None));
        pages.reserve(50_000, || 2).unwrap();
        pages.reserve(100_001, || 3).unwrap();
        assert_eq!((pages.get(100_001), pages.get(50_000)), (Some(&1), Some(&2)));
    }
}
