//! Recovery codes: 128 random bits written as 26 characters of Crockford's base 32, `XXXXX-XXXXX-…`. Each works once.

use hbc_types::Random;
use hbc_types::secret::SecretText;
use zeroize::Zeroizing;

/// How many codes a patient gets.
pub const CODES: usize = 8;

/// Crockford's alphabet: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code without dashes: ceil(128 / 5).
const CHARACTERS: usize = 26;

/// Fresh code bits.
#[must_use]
pub fn generate(random: &Random) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(random.bytes())
}

/// The written form of code bits: groups of five, the last one of six.
#[must_use]
pub fn write(code: &[u8; 16]) -> SecretText {
    let mut number = u128::from_be_bytes(*code);
    let mut characters = Zeroizing::new([b'0'; CHARACTERS]);
    for character in characters.iter_mut().rev() {
        let digit = usize::try_from(number & 31).unwrap_or(0);
        *character = ALPHABET.get(digit).copied().unwrap_or(b'0');
        number >>= 5;
    }
    let mut text = String::with_capacity(CHARACTERS + 4);
    for (place, character) in characters.iter().enumerate() {
        if place > 0 && place % 5 == 0 && place < 25 {
            text.push('-');
        }
        text.push(char::from(*character));
    }
    SecretText::new(text)
}

/// Reads a written code: case, dashes and spaces do not matter, I and L read as 1, O as 0.
#[must_use]
pub fn parse(text: &SecretText) -> Option<Zeroizing<[u8; 16]>> {
    let mut number: u128 = 0;
    let mut count = 0_usize;
    for character in text.expose().bytes() {
        let upper = match character.to_ascii_uppercase() {
            b'-' | b' ' => continue,
            b'I' | b'L' => b'1',
            b'O' => b'0',
            other => other,
        };
        let digit = ALPHABET.iter().position(|known| *known == upper)?;
        count += 1;
        if count > CHARACTERS || number >> 123 != 0 {
            return None;
        }
        number = (number << 5) | u128::try_from(digit).ok()?;
    }
    (count == CHARACTERS).then(|| Zeroizing::new(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_readable() {
        let text = write(&[0xff; 16]);
        assert_eq!(text.expose(), "7ZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZZ");
        assert!(parse(&SecretText::new("8ZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZZ".to_owned())).is_none());
        assert!(parse(&SecretText::new("7ZZZZ".to_owned())).is_none());
        assert!(parse(&SecretText::new("UUUUU-UUUUU-UUUUU-UUUUU-UUUUUU".to_owned())).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(code in any::<[u8; 16]>()) {
            let text = write(&code);
            prop_assert_eq!(*parse(&text).unwrap(), code);
            let spoken = text.expose().to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(*parse(&SecretText::new(spoken)).unwrap(), code);
        }

        #[test]
        fn nothing_makes_the_reader_fail_hard(text in ".{0,60}") {
            let _any = parse(&SecretText::new(text));
        }
    }
}
