//! The same work on many items, on all cores, and in their order.
//!
//! Few items are worked on where they are: handing them to other threads costs more than they do.

use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};

/// What `each` makes of the items, in their order. Every thread that takes part gets at least `least` of them.
pub fn map<T: Sync, R: Send>(items: &[T], least: usize, each: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if items.len() < least.saturating_mul(2) {
        return items.iter().map(each).collect();
    }
    items.par_iter().with_min_len(least).map(each).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items_and_few_stay_on_their_thread() {
        let many: Vec<u64> = (0..10_000).collect();
        let doubled: Vec<u64> = many.iter().map(|item| item * 2).collect();
        assert_eq!(map(&many, 16, |item| item * 2), doubled);
        let here = thread::current().id();
        assert!(map(&many[..31], 16, |_item| thread::current().id()).iter().all(|one| *one == here));
        assert!(map(&many, 16, |_item| thread::current().id()).iter().all(|one| *one != here));
        assert!(map(&many[..0], 0, |item| *item).is_empty());
    }
}
