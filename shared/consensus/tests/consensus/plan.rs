//! What a seed is played with, and where its numbers come from.

/// Small deterministic generator: the simulator draws millions of numbers.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }
}

/// What a seed is played with.
#[derive(Clone, Copy)]
pub struct Plan {
    pub members: usize,
    /// The first so many members lie.
    pub liars: usize,
    pub transactions: u32,
    /// Faults end here; from then on everything must become final.
    pub calm_ms: u64,
    pub drop_one_in: u64,
    pub double_one_in: u64,
    pub longest_delay_ms: u64,
    pub crash_one_in: u64,
    /// With each message the liars send, one in so many times, something made up.
    pub forge_one_in: u64,
    /// Up to so many times the network falls into two sides; every third time one of them still hears the other.
    pub cuts: u64,
    /// One more member joins by a transaction, another one leaves, a third changes its key.
    pub change_members: bool,
    /// With each block that is asked for, one in so many times, there is none.
    pub unbuilt_one_in: u64,
    /// Members' clocks differ by up to so many milliseconds. The liars date their blocks so that some are early for one
    /// member and not for another.
    pub clocks_apart_ms: u64,
    /// A block that is early is bad for good (the control).
    pub early_is_invalid: bool,
    /// The liars leave for good once they prevoted some block; until then all hear them.
    pub liars_leave: bool,
    pub keep_log: bool,
    /// The liars tell two halves of the honest members two stories (the fork control).
    pub two_stories: bool,
}
