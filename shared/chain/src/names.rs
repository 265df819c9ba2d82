//! How things are called on the ledger, where a text names them.

/// The parameters that a vote can change; each is a field of [`crate::genesis::Parameters`].
pub const PARAMETERS: [&str; 5] =
    ["approvals", "heartbeat_ms", "max_block_bytes", "min_spacing_ms", "target"];

/// A name: 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
