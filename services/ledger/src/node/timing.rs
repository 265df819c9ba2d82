//! Consensus's time-outs, as long as the chain's work asks.

use hbc_chain::genesis::MAX_TARGET_BITS;

use hbc_chain::memory::Chain;
use hbc_consensus::Timing;

/// Tries per millisecond that the slowest machine finds work with; the propose time-out follows from it.
const SLOW_TRIES_PER_MS: u64 = 1_000;

/// Time-outs for the chain's work: a proposal has five times the mean time that a slow machine needs.
pub(super) fn timing(chain: &Chain) -> Timing {
    let target = chain.state().parameters().target().unwrap_or(chain.tip().target);
    let bits = target.zero_bits().min(MAX_TARGET_BITS);
    let mean_ms = (1_u64 << bits) / SLOW_TRIES_PER_MS;
    let timing = Timing::default();
    let propose_ms = timing.propose_ms.max(mean_ms * 5);
    Timing { propose_ms, longest_ms: timing.longest_ms.max(propose_ms * 4), ..timing }
}

#[cfg(test)]
mod tests {
    use hbc_chain::header::Target;
    use hbc_chain::payload::{MemberVote, Payload};

    use super::*;
    use hbc_chain::fixtures::Course;
    use hbc_chain::fixtures::signed;

    #[test]
    fn time_outs_follow_the_target_that_is_in_force_not_the_last_blocks() {
        let mut course = Course::new();
        let usual = Timing::default().propose_ms;
        assert_eq!(timing(&course.chain).propose_ms, usual);
        let value = Target::from_zero_bits(30).unwrap().compact().to_string();
        let (chain, subject) = (course.chain.id(), "parameter:target".to_owned());
        let vote = MemberVote { chain, iat: course.chain.tip().time_ms, nonce: 0, subject, value };
        let vote = Payload::MemberVote(vote);
        course.append(&["m1", "m2", "m3"].map(|member| signed(member, &vote)));
        assert_eq!(course.chain.tip().target.zero_bits(), 8, "that block has the old one");
        assert_eq!(timing(&course.chain).propose_ms, (1 << 30) / SLOW_TRIES_PER_MS * 5);
    }
}
