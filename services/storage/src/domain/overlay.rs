//! The overlay: what FHIR demands to be different from the received bytes, as replacements at byte offsets.
//!
//! Written as JCS: an array of `[offset, length, text]`, ascending, without overlaps, offsets into the received
//! bytes. Applying it gives the form that `/fhir` serves; the received bytes stay as they came.

use serde::{Deserialize, Serialize};

/// One replacement: `length` bytes from `offset` on are shown as `text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, String)", into = "(u64, u64, String)")]
pub struct Replacement {
    /// Where in the received bytes.
    pub offset: u64,
    /// How many of them; 0 inserts.
    pub length: u64,
    /// What stands there instead.
    pub text: String,
}

impl From<(u64, u64, String)> for Replacement {
    fn from((offset, length, text): (u64, u64, String)) -> Self {
        Self { offset, length, text }
    }
}

impl From<Replacement> for (u64, u64, String) {
    fn from(replacement: Replacement) -> Self {
        (replacement.offset, replacement.length, replacement.text)
    }
}

/// Replacements in ascending order that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay(Vec<Replacement>);

/// Why replacements are no overlay of the given bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// Not the JSON that is written here.
    #[error("the overlay cannot be read")]
    Unreadable,
    /// Out of order or overlapping.
    #[error("the overlay's replacements overlap")]
    Overlap,
    /// A replacement lies outside the received bytes.
    #[error("the overlay reaches beyond the received bytes")]
    OutOfRange,
}

impl Overlay {
    /// Sorts replacements and checks that they do not overlap and stay within `received_length` bytes.
    pub fn new(mut replacements: Vec<Replacement>, received_length: u64) -> Result<Self, OverlayError> {
        replacements.sort_by_key(|replacement| (replacement.offset, replacement.length));
        let mut end = 0;
        for replacement in &replacements {
            if replacement.offset < end {
                return Err(OverlayError::Overlap);
            }
            end = replacement.offset.checked_add(replacement.length).ok_or(OverlayError::OutOfRange)?;
            if end > received_length {
                return Err(OverlayError::OutOfRange);
            }
        }
        Ok(Self(replacements))
    }

    /// The JCS form. Arrays of integers and strings are written by `serde_json` as RFC 8785 wants them.
    #[must_use]
    pub fn to_jcs(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// Reads the JCS form; anything else is refused.
    pub fn parse(bytes: &[u8], received_length: u64) -> Result<Self, OverlayError> {
        let replacements: Vec<Replacement> =
            serde_json::from_slice(bytes).map_err(|_not_an_overlay| OverlayError::Unreadable)?;
        let overlay = Self::new(replacements, received_length)?;
        if overlay.to_jcs() == bytes { Ok(overlay) } else { Err(OverlayError::Unreadable) }
    }

    /// The applied form of `received`.
    pub fn apply(&self, received: &[u8]) -> Result<Vec<u8>, OverlayError> {
        let grown: usize = self.0.iter().map(|replacement| replacement.text.len()).sum();
        let mut applied = Vec::with_capacity(received.len().saturating_add(grown));
        let mut at = 0_usize;
        for replacement in &self.0 {
            let offset = usize::try_from(replacement.offset).map_err(|_range| OverlayError::OutOfRange)?;
            let length = usize::try_from(replacement.length).map_err(|_range| OverlayError::OutOfRange)?;
            applied.extend_from_slice(received.get(at..offset).ok_or(OverlayError::OutOfRange)?);
            applied.extend_from_slice(replacement.text.as_bytes());
            at = offset.checked_add(length).ok_or(OverlayError::OutOfRange)?;
        }
        applied.extend_from_slice(received.get(at..).ok_or(OverlayError::OutOfRange)?);
        Ok(applied)
    }

    /// With some texts replaced by others.
    #[must_use]
    pub fn with_texts(&self, change: impl Fn(&str) -> Option<String>) -> Self {
        let changed = self.0.iter().map(|replacement| {
            let text = change(&replacement.text).unwrap_or_else(|| replacement.text.clone());
            Replacement { text, ..*replacement }
        });
        Self(changed.collect())
    }

    /// The replacements.
    #[must_use]
    pub fn replacements(&self) -> &[Replacement] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(offset: u64, length: u64, text: &str) -> Replacement {
        Replacement { offset, length, text: text.to_owned() }
    }

    #[test]
    fn replacements_are_applied_in_order_of_offset() {
        let overlay = Overlay::new(vec![at(6, 5, "there"), at(0, 0, ">"), at(11, 0, "!")], 11).unwrap();
        assert_eq!(overlay.apply(b"hello world").unwrap(), b">hello there!");
        assert_eq!(overlay.to_jcs(), br#"[[0,0,">"],[6,5,"there"],[11,0,"!"]]"#);
        assert_eq!(Overlay::parse(&overlay.to_jcs(), 11), Ok(overlay));
    }

    #[test]
    fn what_overlaps_or_leaves_the_bytes_is_refused() {
        assert_eq!(Overlay::new(vec![at(0, 3, ""), at(2, 1, "")], 9), Err(OverlayError::Overlap));
        assert_eq!(Overlay::new(vec![at(8, 2, "")], 9), Err(OverlayError::OutOfRange));
        assert_eq!(Overlay::new(vec![at(u64::MAX, 2, "")], 9), Err(OverlayError::OutOfRange));
        assert_eq!(Overlay::parse(b"[ ]", 9), Err(OverlayError::Unreadable));
        assert_eq!(Overlay::parse(b"{}", 9), Err(OverlayError::Unreadable));
    }

    proptest! {
        #[test]
        fn written_form_is_canonical_and_reads_back(text in ".*", cut in 0_u64..40) {
            let overlay = Overlay::new(vec![at(cut, 2, &text)], 42).unwrap();
            let jcs = overlay.to_jcs();
            let value: serde_json::Value = serde_json::from_slice(&jcs).unwrap();
            prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).unwrap(), &jcs);
            prop_assert_eq!(Overlay::parse(&jcs, 42).unwrap(), overlay);
        }

        #[test]
        fn an_empty_overlay_changes_nothing(received in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Overlay::default().apply(&received).unwrap(), received);
        }
    }
}
