//! Things at small numbers that are used again once they are free, so that what is numbered stays dense. Bitmaps of such
//! numbers are small; numbers that are never used again (ids of series) would spread over the years.

/// Items by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts `item` in, and says where.
    pub(super) fn insert(&mut self, item: T) -> u32 {
        // A number may have been cut off by `trim` since it became free.
        while let Some(at) = self.free.pop() {
            if let Some(place) = self.items.get_mut(at as usize) {
                *place = Some(item);
                return at;
            }
        }
        self.items.push(Some(item));
        // The store's limit of series keeps this far below 2^32.
        (self.items.len() - 1) as u32
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.items.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.items.get_mut(at as usize)?.as_mut()
    }

    /// Takes out what is at `at`, whose number is free then.
    pub(super) fn take(&mut self, at: u32) -> Option<T> {
        let item = self.items.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(item)
    }

    /// All numbers are below this.
    pub(super) fn bound(&self) -> usize {
        self.items.len()
    }

    /// Gives back memory behind the last item in use.
    pub(super) fn trim(&mut self) {
        while self.items.last().is_some_and(Option::is_none) {
            self.items.pop();
        }
        if self.items.len() < self.items.capacity() / 2 {
            let bound = self.items.len();
            self.free.retain(|at| (*at as usize) < bound);
            self.items.shrink_to_fit();
            self.free.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<Option<T>>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_the_end_is_cut_off() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert("a"), slab.insert("b"), slab.insert("c")), (0, 1, 2));
        assert_eq!((slab.take(1), slab.take(1)), (Some("b"), None));
        assert_eq!((slab.insert("d"), slab.get(1)), (1, Some(&"d")));
        slab.take(1);
        slab.take(2);
        slab.trim();
        assert_eq!(slab.bound(), 1);
        assert_eq!((slab.insert("e"), slab.insert("f")), (1, 2));
        assert_eq!((slab.get(0), slab.get(1), slab.get(2)), (Some(&"a"), Some(&"e"), Some(&"f")));
    }
}
