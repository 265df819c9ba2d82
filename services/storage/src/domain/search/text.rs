//! Texts as a search compares them: without case, accents and doubled spaces.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#string>.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// A text without what a search does not look at.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c.is_whitespace() {
            true if plain.is_empty() || plain.ends_with(' ') => {}
            true => plain.push(' '),
            false => plain.push(c),
        }
    }
    if plain.ends_with(' ') {
        plain.pop();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_accents_do_not_count() {
        assert_eq!(plain("  José   ÁLVAREZ "), "jose alvarez");
        assert_eq!(plain("Jose\u{301}"), plain("JOSÉ"));
        assert_eq!(plain("ﬁ１"), "fi1");
        assert_eq!(plain(" "), "");
    }
}
