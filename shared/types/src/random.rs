//! Randomness as a parameter: the operating system's in production, a seeded stream in tests.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// A source of random bytes that can be cloned cheaply and shared between threads.
#[derive(Clone)]
pub struct Random(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<Stream>>),
}

struct Stream {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    /// The operating system's generator. It aborts the process if the system has no randomness to give:
    /// nothing here may go on with predictable keys.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A reproducible stream for tests: SHA-256 of the seed and a counter.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let seed = Sha256::digest(seed.to_be_bytes()).into();
        Self(Source::Seeded(Arc::new(Mutex::new(Stream { seed, counter: 0 }))))
    }

    /// Fills `buffer` with random bytes.
    pub fn fill(&self, buffer: &mut [u8]) {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one home of system randomness")]
            Source::System => {
                if getrandom::fill(buffer).is_err() {
                    std::process::abort();
                }
            }
            Source::Seeded(stream) => stream.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer),
        }
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

impl Stream {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize();
            self.counter += 1;
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Random(system)",
            Source::Seeded(_) => "Random(seeded)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_streams_repeat_and_differ_by_seed() {
        let first: [u8; 40] = Random::seeded(1).bytes();
        assert_eq!(first, Random::seeded(1).bytes());
        assert_ne!(first, Random::seeded(2).bytes());
        let random = Random::seeded(1);
        assert_ne!(random.bytes::<16>(), random.bytes::<16>());
    }
}
