//! Recovery codes: 128 random bits written as 26 characters of Crockford's base 32, `XXXXX-XXXXX-…`. Each works once.

use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use hbc_types::Random;
use hbc_types::secret::SecretText;
use zeroize::Zeroizing;

/// How many codes a patient gets.
pub const CODES: usize = 8;

/// Characters of a code without dashes: ceil(128 / 5).
const CHARACTERS: usize = 26;
/// The coding works on whole blocks of 40 bits: four zero bytes before the code make it 160 bits, whose first six of 32
/// characters are always the same.
const ZEROS: usize = 4;
/// What stands for them.
const ZEROS_WRITTEN: &str = "000000";

/// Crockford's base 32: no I, L, O or U; reading takes I and L as 1, O as 0, and passes over dashes and spaces.
pub static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
    let mut crockford = Specification::new();
    crockford.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    crockford.translate.from.push_str("abcdefghjkmnpqrstvwxyzIiLlOo");
    crockford.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ111100");
    crockford.ignore.push_str("- ");
    #[expect(clippy::expect_used, reason = "a constant alphabet, which every test uses")]
    crockford.encoding().expect("an alphabet of 32 symbols")
});

/// Fresh code bits.
#[must_use]
pub fn generate(random: &Random) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(random.bytes())
}

/// The written form of code bits: groups of five, the last one of six.
#[must_use]
pub fn write(code: &[u8; 16]) -> SecretText {
    let mut padded = Zeroizing::new([0; ZEROS + 16]);
    for (to, from) in padded.iter_mut().skip(ZEROS).zip(code) {
        *to = *from;
    }
    let written = Zeroizing::new(CROCKFORD.encode(&*padded));
    let mut text = String::with_capacity(CHARACTERS + 4);
    for (place, character) in written.chars().skip(ZEROS_WRITTEN.len()).enumerate() {
        if place > 0 && place % 5 == 0 && place < 25 {
            text.push('-');
        }
        text.push(character);
    }
    SecretText::new(text)
}

/// Reads a written code: case, dashes and spaces do not matter, I and L read as 1, O as 0.
#[must_use]
pub fn parse(text: &SecretText) -> Option<Zeroizing<[u8; 16]>> {
    let text = Zeroizing::new(format!("{ZEROS_WRITTEN}{}", text.expose()));
    let bytes = Zeroizing::new(CROCKFORD.decode(text.as_bytes()).ok()?);
    let (zeros, code) = bytes.split_first_chunk::<ZEROS>()?;
    let code: [u8; 16] = code.try_into().ok()?;
    (*zeros == [0; ZEROS]).then(|| Zeroizing::new(code))
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
