//! Whether a stored row is, byte by byte, the block that this node has in memory; and how a rolling scrub is
//! paced. No I/O.

use std::time::Duration;

use hbc_types::Digest;

use crate::header::Header;
use crate::verification::{Wrong, body_fits};

/// What memory keeps of a block: enough to know any changed byte of its row. The hash covers the header and,
/// through its roots, the transactions and everything before; the certificate has a digest of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// SHA-256 of the header.
    pub hash: Digest,
    /// SHA-256 of the certificate's text.
    pub certificate: Digest,
}

/// Compares one row with what is known of its block.
pub fn compare(known: &Known, header: &[u8], body: &[u8], certificate: &str) -> Result<(), Wrong> {
    let header = compare_head(known, header, certificate)?;
    if body_fits(&header, body) { Ok(()) } else { Err(Wrong::Transactions) }
}

/// Compares what a row has beside the transactions, and answers its header.
pub fn compare_head(known: &Known, header: &[u8], certificate: &str) -> Result<Header, Wrong> {
    let header = Header::from_bytes(header).map_err(Wrong::Header)?;
    if header.hash() != known.hash {
        return Err(Wrong::Hash);
    }
    if Digest::of(certificate.as_bytes()) != known.certificate {
        return Err(Wrong::Certificate);
    }
    Ok(header)
}

/// How long a scrub rests after a piece of `bytes` out of `total` that took `took`, so that the whole takes
/// about `period`; it rests at least as long as it works.
#[must_use]
pub fn rest(period: Duration, total: u64, bytes: u64, took: Duration) -> Duration {
    let whole = u128::from(total.max(bytes).max(1));
    let share = period.as_nanos().saturating_mul(u128::from(bytes)).checked_div(whole).unwrap_or(0);
    let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
    share.saturating_sub(took).max(took)
}

/// A random choice of these that ends with the one that reaches `most_bytes`. `draw` answers a number below the one it is
/// given.
#[must_use]
pub fn within(
    most_bytes: u64,
    mut heights: Vec<u64>,
    bytes: impl Fn(&u64) -> u64,
    draw: impl Fn(u64) -> u64,
) -> Vec<u64> {
    let (mut chosen, mut sum) = (Vec::new(), 0_u64);
    while sum < most_bytes && !heights.is_empty() {
        let drawn = draw(u64::try_from(heights.len()).unwrap_or(u64::MAX));
        let height = heights.swap_remove(usize::try_from(drawn).unwrap_or(0).min(heights.len() - 1));
        sum = sum.saturating_add(bytes(&height));
        chosen.push(height);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use crate::genesis::Genesis;
    use crate::header::{Block, HEADER_BYTES};
    use crate::merkle;

    use super::*;

    #[test]
    fn every_changed_byte_of_a_row_is_seen() {
        let text = include_bytes!("../tests/data/genesis.json");
        let mut header = Genesis::parse(text).unwrap().header().unwrap();
        let transactions = vec![b"one".to_vec(), b"two".to_vec()];
        let mut block = Block { header, transactions };
        header.tx_root = merkle::root(&block.txids());
        block.header = header;
        let certificate = "a note\n".to_owned();
        let known = Known { hash: header.hash(), certificate: Digest::of(certificate.as_bytes()) };
        let bytes = block.to_bytes();
        let check = |bytes: &[u8], certificate: &str| {
            let (header, body) = bytes.split_at(HEADER_BYTES);
            compare(&known, header, body, certificate)
        };
        assert_eq!(check(&bytes, &certificate), Ok(()));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(check(&changed, &certificate).is_err(), "byte {place}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(check(&longer, &certificate), Err(Wrong::Transactions));
        assert_eq!(check(&bytes, "a note \n"), Err(Wrong::Certificate));
        assert_eq!(check(&bytes, ""), Err(Wrong::Certificate));
    }

    #[test]
    fn a_choice_of_blocks_is_bounded_by_bytes_and_leaves_nobody_out() {
        let all: Vec<u64> = (0..9).collect();
        let sorted = |mut heights: Vec<u64>| {
            heights.sort_unstable();
            heights
        };
        assert_eq!(sorted(within(100, all.clone(), |_| 10, |below| below / 2)), all, "all fit");
        assert_eq!(within(25, all.clone(), |_| 10, |_| 0), [0, 8, 7]);
        assert_eq!(within(25, all.clone(), |_| 100, |_| 4), [4], "one is read however large it is");
        assert_eq!(within(25, Vec::new(), |_| 10, |_| 0), [0_u64; 0]);
        let ever: std::collections::BTreeSet<u64> =
            (0..9).flat_map(|first| within(10, all.clone(), |_| 10, move |_| first)).collect();
        assert_eq!(ever.len(), 9);
    }

    #[test]
    fn a_pass_takes_its_period_and_never_more_than_half_the_time() {
        let (period, ms) = (Duration::from_secs(600), Duration::from_millis);
        // A hundred pieces of one percent each: six seconds apiece, work included.
        assert_eq!(rest(period, 200, 2, ms(10)), ms(5_990));
        // Too much for the period: it takes longer, and rests as long as it works.
        assert_eq!(rest(Duration::from_secs(1), 200, 2, ms(100)), ms(100));
        assert_eq!(rest(period, 0, 0, ms(3)), ms(3));
        assert_eq!(rest(Duration::MAX, u64::MAX, u64::MAX, ms(0)), Duration::from_nanos(u64::MAX));
    }
}
