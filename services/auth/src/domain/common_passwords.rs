//! Passwords that everybody tries first. The words are in `data/common_passwords.txt`; the check folds case and the usual
//! letter substitutions and strips digits and signs around a word, so that one entry stands for thousands of variants.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Words and rows that make a password common when nothing else but digits, signs and repetitions stands around them. The
/// file tells where they come from.
static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let lines = include_str!("../../data/common_passwords.txt").lines();
    lines.filter(|line| !line.starts_with('#')).collect()
});

/// Rows whose pieces, in either direction, are no secret however long they are.
const ROWS: &[&str] = &[
    "01234567890123456789012345678901234567890",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnmqwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbnazertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Whether `password` is one of the first that anybody would try for `username`.
#[must_use]
pub fn is_common(password: &str, username: &str) -> bool {
    let lower = password.to_lowercase();
    let squeezed: String =
        lower.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_' | '.')).collect();
    let unit = shortest_unit(&squeezed);
    if unit.chars().count() <= 4 || in_a_row(&squeezed) || in_a_row(unit) {
        return true;
    }
    [squeezed.as_str(), unit].into_iter().any(|text| {
        let stripped = strip(text);
        let folded = fold(stripped);
        is_word(stripped, username) || is_word(&folded, username) || is_word(strip(&fold(text)), username)
    })
}

fn is_word(text: &str, username: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let unit = shortest_unit(text);
    WORDS.contains(unit) || unit == username || two_words(unit) || made_of_name(unit, username)
}

/// Two common words one after the other are as common as one.
fn two_words(text: &str) -> bool {
    text.char_indices().any(|(at, _)| {
        text.split_at_checked(at)
            .is_some_and(|(first, second)| WORDS.contains(first) && WORDS.contains(second))
    })
}

fn made_of_name(text: &str, username: &str) -> bool {
    username.len() >= 4
        && text.find(username).is_some_and(|_at| {
            let rest = text.replacen(username, "", 1);
            let rest = strip(&rest).to_owned();
            rest.is_empty() || WORDS.contains(rest.as_str())
        })
}

/// Without the digits and signs at both ends.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| !c.is_alphabetic())
}

/// The usual substitutions of letters undone.
fn fold(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '0' => 'o',
            '1' | '!' | '|' => 'i',
            '3' | '€' => 'e',
            '4' | '@' => 'a',
            '5' | '$' => 's',
            '7' => 't',
            '8' => 'b',
            other => other,
        })
        .collect()
}

/// The shortest text whose repetition makes `text`.
fn shortest_unit(text: &str) -> &str {
    let length = text.len();
    for (at, _) in text.char_indices().skip(1) {
        if at > length / 2 {
            break;
        }
        if length.is_multiple_of(at)
            && let Some(unit) = text.get(..at)
            && unit.repeat(length / at) == text
        {
            return unit;
        }
    }
    text
}

/// Whether `text` is a piece of a keyboard row, the alphabet or the digits, forwards or backwards.
fn in_a_row(text: &str) -> bool {
    let backwards: String = text.chars().rev().collect();
    ROWS.iter().any(|row| row.contains(text) || row.contains(&backwards))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_list_is_whole() {
        assert!(WORDS.len() >= 279);
        assert!(WORDS.iter().all(|word| !word.is_empty() && **word == word.trim().to_lowercase()));
    }

    #[test]
    fn variants_of_common_words_are_common() {
        for bad in [
            "passwordpassword",
            "Password12345678",
            "P@ssw0rd!!!!!!!!",
            "aaaaaaaaaaaaaaaaa",
            "123456789012345",
            "098765432109876",
            "qwertyuiopasdfgh",
            "correct horse battery staple",
            "letmein letmein letmein",
            "abcdefghijklmnop",
            "Welcome to hospital 2026",
            "alice.alice.alice",
            "alice-password-2026",
            "..............-",
            "abcabcabcabcabc",
            "iloveyou iloveyou",
        ] {
            assert!(is_common(bad, "alice"), "{bad}");
        }
    }

    #[test]
    fn sentences_are_not() {
        for good in [
            "a walk beneath tall birches",
            "Nine teapots under moonlight",
            "kR7!mQ2#xW9$vB4",
            "operator one goes fishing",
            "the patient river bends twice",
            "seven-grey-herons-stand",
        ] {
            assert!(!is_common(good, "alice"), "{good}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_check(text in ".{0,80}", name in "[a-z.]{3,10}") {
            let _any = is_common(&text, &name);
        }
    }
}
