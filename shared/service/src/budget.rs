//! What a server holds for its callers at once: so many bytes together, and of these so many for one address, so that no
//! single one shuts the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many bytes. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    of: &'static str,
    together: usize,
    each: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    together: usize,
    by: HashMap<IpAddr, usize>,
}

/// Others hold too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Budget {
    /// For `of` (the gauge `hbc_in_flight_bytes` names them so): `together` bytes, or more, so that three quarters of them,
    /// which is what one address may hold, are `at_least` so many.
    pub(crate) fn new(of: &'static str, together: usize, at_least: usize) -> Self {
        let together = together.max(at_least.div_ceil(3) * 4);
        let each = together / 4 * 3;
        Self(Arc::new(Inner { of, together, each, held: Mutex::default() }))
    }

    /// All that one address may hold.
    pub(crate) fn each(&self) -> usize {
        self.0.each
    }

    /// Nothing yet, for a request from this address.
    pub(crate) fn share(&self, address: Option<IpAddr>) -> Share {
        Share { budget: self.clone(), address, bytes: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    fn show(&self, held: &Held) {
        metrics::gauge!("hbc_in_flight_bytes", "of" => self.0.of).set(held.together as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request holds of a [`Budget`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    address: Option<IpAddr>,
    bytes: usize,
}

impl Share {
    /// Grows to hold so many bytes; never shrinks.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let Inner { together, each, .. } = *self.budget.0;
        let mut held = self.budget.lock();
        let own = self.address.and_then(|address| held.by.get(&address)).copied().unwrap_or(0);
        if held.together.saturating_add(more) > together || own.saturating_add(more) > each {
            return Err(Full);
        }
        held.together += more;
        if let Some(address) = self.address {
            *held.by.entry(address).or_default() += more;
        }
        self.budget.show(&held);
        drop(held);
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.lock();
        held.together -= self.bytes;
        self.budget.show(&held);
        if let Some(address) = self.address
            && let Some(own) = held.by.get_mut(&address)
        {
            *own -= self.bytes;
            if *own == 0 {
                held.by.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_never_holds_everything() {
        let budget = Budget::new("tests", 100, 40);
        let share = |last| budget.share(Some(IpAddr::from([127, 0, 0, last])));
        let (mut one, mut two, mut three) = (share(1), share(1), share(2));
        one.grow(50).unwrap();
        one.grow(20).unwrap();
        two.grow(26).unwrap_err();
        two.grow(25).unwrap();
        three.grow(26).unwrap_err();
        three.grow(25).unwrap();
        drop(one);
        two.grow(75).unwrap();
        drop((two, three));
        let held = budget.lock();
        assert_eq!((held.together, held.by.len()), (0, 0));
    }

    #[test]
    fn the_largest_fits_alone_and_leaves_room_for_others() {
        let address = |last| Some(IpAddr::from([127, 0, 0, last]));
        let budget = Budget::new("tests", 64, 64);
        let mut largest = budget.share(address(1));
        largest.grow(64).unwrap();
        let mut other = budget.share(address(2));
        other.grow(20).unwrap();
        budget.share(address(1)).grow(10).unwrap_err();
        drop((largest, other));
        budget.share(address(1)).grow(budget.each()).unwrap();
        budget.share(address(1)).grow(budget.each() + 1).unwrap_err();
    }
}
