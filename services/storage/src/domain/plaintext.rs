//! The plaintext of a record, and the size buckets that hide how long it is.
//!
//! `u32 overlay length ‖ overlay (JCS) ‖ u64 received length ‖ received bytes ‖ zero padding`, big-endian. The
//! padding fills the size bucket and is checked when read, so that one record has exactly one plaintext.
//!
//! Buckets: 512 bytes; from there to 64 KiB two per doubling (512, 768, 1024, 1536, …); above, eight per doubling.
//!
//! Why: decision 0062.

use zeroize::Zeroizing;

use crate::domain::overlay::{Overlay, OverlayError};

const SMALLEST_BUCKET: usize = 512;
const FINE_FROM: usize = 64 * 1024;

/// Why bytes are no plaintext of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaintextError {
    /// Too short, or a length does not fit.
    #[error("the record's lengths do not fit")]
    Lengths,
    /// Not padded with zeros to the bucket.
    #[error("the record's padding is wrong")]
    Padding,
    /// The overlay is wrong.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
}

/// The size that `length` bytes are padded to.
#[must_use]
pub const fn bucket(length: usize) -> usize {
    if length <= SMALLEST_BUCKET {
        return SMALLEST_BUCKET;
    }
    // The power of two below: its bit is the highest of `length - 1`, so that a power of two is its own bucket.
    let below = 1_usize << (usize::BITS - 1 - (length - 1).leading_zeros());
    let step = if below < FINE_FROM { below / 2 } else { below / 8 };
    length.div_ceil(step).saturating_mul(step)
}

/// Lays out a record.
#[must_use]
pub fn encode(overlay: &Overlay, received: &[u8]) -> Zeroizing<Vec<u8>> {
    let overlay = overlay.to_jcs();
    let length = 12_usize.saturating_add(overlay.len()).saturating_add(received.len());
    let mut plaintext = Zeroizing::new(Vec::with_capacity(bucket(length)));
    plaintext.extend_from_slice(&u32::try_from(overlay.len()).unwrap_or(u32::MAX).to_be_bytes());
    plaintext.extend_from_slice(&overlay);
    plaintext.extend_from_slice(&(received.len() as u64).to_be_bytes());
    plaintext.extend_from_slice(received);
    plaintext.resize(bucket(length), 0);
    plaintext
}

/// A record taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Its overlay.
    pub overlay: Overlay,
    /// The bytes as they were received.
    pub received: &'a [u8],
}

/// Takes a plaintext apart and checks every byte of it.
pub fn decode(plaintext: &[u8]) -> Result<Decoded<'_>, PlaintextError> {
    let (head, rest) = plaintext.split_first_chunk::<4>().ok_or(PlaintextError::Lengths)?;
    let (overlay, rest) = split(rest, u64::from(u32::from_be_bytes(*head)))?;
    let (head, rest) = rest.split_first_chunk::<8>().ok_or(PlaintextError::Lengths)?;
    let received_length = u64::from_be_bytes(*head);
    let (received, padding) = split(rest, received_length)?;
    let used = 12 + overlay.len() + received.len();
    if plaintext.len() != bucket(used) || padding.iter().any(|byte| *byte != 0) {
        return Err(PlaintextError::Padding);
    }
    Ok(Decoded { overlay: Overlay::parse(overlay, received_length)?, received })
}

fn split(bytes: &[u8], at: u64) -> Result<(&[u8], &[u8]), PlaintextError> {
    let at = usize::try_from(at).map_err(|_range| PlaintextError::Lengths)?;
    bytes.split_at_checked(at).ok_or(PlaintextError::Lengths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::overlay::Replacement;

    #[test]
    fn buckets_are_few_and_cost_little() {
        assert_eq!([1, 512, 513, 768, 769, 1024, 1025].map(bucket), [512, 512, 768, 768, 1024, 1024, 1536]);
        assert_eq!(bucket(65_536), 65_536);
        assert_eq!(bucket(65_537), 73_728);
        for length in 1..200_000 {
            let padded = bucket(length);
            assert!(padded >= length);
            assert_eq!(bucket(padded), padded, "a bucket is its own bucket");
            if length > 512 {
                assert!(padded * 2 <= length * 3, "at most half is padding");
            }
        }
    }

    /// The vector of FORMATS §10.
    #[test]
    fn buckets_and_digests_of_slices_are_those_of_the_format() {
        let edges =
            [1, 511, 512, 513, 768, 769, 1_024, 1_025, 1_536, 32_768, 49_152, 49_153, 65_536, 65_537, 73_728];
        let more = [73_729, 131_072, 131_073, 147_456, 1_048_576, 1_048_577, 16_777_217];
        let buckets: Vec<_> =
            edges.iter().chain(&more).map(|length| json!([length, bucket(*length)])).collect();
        let mib = 1_048_576;
        let slices = [0, 1, mib - 1, mib, mib + 1, 2 * mib, 2 * mib + 1, 5 * mib + 7].map(|length: usize| {
            let slice: Vec<u8> = (0..251).cycle().take(length).collect();
            json!({"length": length, "digest": hbc_chain::merkle::slice_digest(&slice)})
        });
        hbc_chain::testing::check_vector("records", &json!({"buckets": buckets, "slices": slices}));
    }

    #[test]
    fn padding_and_lengths_are_checked() {
        let plaintext = encode(&Overlay::default(), b"0.10");
        assert_eq!(plaintext.len(), 512);
        let mut dirty = plaintext.to_vec();
        *dirty.last_mut().unwrap() = 1;
        assert_eq!(decode(&dirty), Err(PlaintextError::Padding));
        let mut longer = plaintext.to_vec();
        longer.resize(768, 0);
        assert_eq!(decode(&longer), Err(PlaintextError::Padding));
        let mut wrong = plaintext.to_vec();
        wrong[0] = 0x7f;
        assert_eq!(decode(&wrong), Err(PlaintextError::Lengths));
        assert_eq!(decode(b"abc"), Err(PlaintextError::Lengths));
    }

    proptest! {
        #[test]
        fn reads_back(received in proptest::collection::vec(any::<u8>(), 1..3000), text in ".*") {
            let replacement = Replacement { offset: 0, length: 1, text };
            let overlay = Overlay::new(vec![replacement], received.len() as u64).unwrap();
            let plaintext = encode(&overlay, &received);
            let decoded = decode(&plaintext).unwrap();
            prop_assert_eq!(decoded.received, &received[..]);
            prop_assert_eq!(decoded.overlay, overlay);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _outcome = decode(&bytes);
        }
    }
}
