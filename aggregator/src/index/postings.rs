//! Which series have one name, or one value of a tag: a short sorted list while they are few (many values are those of a
//! handful of series), a compressed bitmap after that.

use roaring::{MultiOps, RoaringBitmap};

use super::symbols::allocated;

/// Longest list; a bitmap of one more takes about as much.
const FEW_MAX: usize = 32;

/// Places of series, ascending.
#[derive(Debug)]
pub(super) enum Postings {
    Few(Vec<u32>),
    Many(Box<RoaringBitmap>),
}

impl Default for Postings {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Postings {
    pub(super) fn insert(&mut self, at: u32) {
        match self {
            Self::Few(few) => {
                if let Err(place) = few.binary_search(&at) {
                    few.insert(place, at);
                }
                if few.len() > FEW_MAX {
                    *self = Self::Many(Box::new(few.iter().collect()));
                }
            }
            Self::Many(many) => {
                many.insert(at);
            }
        }
    }

    pub(super) fn remove(&mut self, at: u32) {
        match self {
            Self::Few(few) => {
                if let Ok(place) = few.binary_search(&at) {
                    few.remove(place);
                }
            }
            Self::Many(many) => {
                many.remove(at);
                // Half, so that one that comes and goes does not change the form each time.
                if many.len() <= FEW_MAX as u64 / 2 {
                    *self = Self::Few(many.iter().collect());
                }
            }
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Few(few) => few.len() as u64,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::Few(few) => few.iter().collect(),
            Self::Many(many) => (**many).clone(),
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::Few(few) => few.clone(),
            Self::Many(many) => many.iter().collect(),
        }
    }

    /// Those that are in `set` too.
    pub(super) fn within(&self, set: &RoaringBitmap) -> Vec<u32> {
        match self {
            Self::Few(few) => few.iter().copied().filter(|at| set.contains(*at)).collect(),
            Self::Many(many) => (&**many & set).into_iter().collect(),
        }
    }

    /// How many are in `set` too.
    pub(super) fn count_within(&self, set: &RoaringBitmap) -> u64 {
        match self {
            Self::Few(few) => few.iter().filter(|at| set.contains(**at)).count() as u64,
            Self::Many(many) => many.intersection_len(set),
        }
    }

    /// Whether one of them is in `set`.
    pub(super) fn meets(&self, set: &RoaringBitmap) -> bool {
        match self {
            Self::Few(few) => few.iter().any(|at| set.contains(*at)),
            Self::Many(many) => !many.is_disjoint(set),
        }
    }

    /// Leaves in `set` what is here too.
    pub(super) fn keep_in(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Few(_) => *set = self.within(set).into_iter().collect(),
            Self::Many(many) => *set &= &**many,
        }
    }

    /// Takes out of `set` what is here.
    pub(super) fn drop_from(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Few(few) => few.iter().for_each(|at| {
                set.remove(*at);
            }),
            Self::Many(many) => *set -= &**many,
        }
    }

    /// All of several together.
    pub(super) fn union<'a>(all: impl Iterator<Item = &'a Self>) -> RoaringBitmap {
        let mut short = Vec::new();
        let mut long = Vec::new();
        for postings in all {
            match postings {
                Self::Few(few) => short.extend_from_slice(few),
                Self::Many(many) => long.push(&**many),
            }
        }
        short.sort_unstable();
        let mut union = long.union();
        union |= short.into_iter().collect::<RoaringBitmap>();
        union
    }

    /// What it takes outside the map that holds it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Few(few) => allocated(few.capacity() * size_of::<u32>()),
            Self::Many(many) => allocated(size_of::<RoaringBitmap>()) + bitmap_bytes(many),
        }
    }
}

/// What a bitmap takes on the heap.
pub(super) fn bitmap_bytes(bitmap: &RoaringBitmap) -> usize {
    /// A container's key, form and list, in a vector that grew by doubling: three quarters of it are used.
    const CONTAINER: usize = 40 * 4 / 3;
    /// What the allocator adds to each container's list, on average.
    const LIST: usize = 16;
    let of = bitmap.statistics();
    // The library counts four bytes for each entry of an array, which has two.
    let lists = of.n_bytes_array_containers / 2 + of.n_bytes_run_containers + u64::from(of.n_bitset_containers) * 8_192;
    lists as usize + of.n_containers as usize * (CONTAINER + LIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_a_bitmap_and_one_again() {
        let mut postings = Postings::default();
        (0..40).rev().for_each(|at| postings.insert(at * 100_000));
        assert!(matches!(postings, Postings::Many(_)));
        (0..38).for_each(|at| postings.remove(at * 100_000));
        assert!(matches!(postings, Postings::Few(_)));
        assert_eq!(postings.to_bitmap().iter().collect::<Vec<_>>(), [3_800_000, 3_900_000]);
        postings.remove(7);
        assert_eq!(postings.len(), 2, "what is not there is not removed");
    }

    #[test]
    fn sets_are_those_of_both_forms() {
        let few: Postings = Postings::Few(vec![1, 5, 9]);
        let many = Postings::Many(Box::new((5..50).collect()));
        assert_eq!(Postings::union([&few, &many].into_iter()).len(), 46);
        for (postings, kept, left) in [(&few, 2, 4), (&many, 5, 1)] {
            let all: RoaringBitmap = (4..10).collect();
            let (mut keep, mut drop) = (all.clone(), all.clone());
            postings.keep_in(&mut keep);
            postings.drop_from(&mut drop);
            assert_eq!((keep.len(), drop.len(), postings.count_within(&all), postings.within(&all).len() as u64), (kept, left, kept, kept));
            assert!(postings.meets(&all) && !postings.meets(&RoaringBitmap::new()));
        }
    }
}
