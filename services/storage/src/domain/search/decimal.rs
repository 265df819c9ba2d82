//! FHIR's decimals, compared exactly: `0.10` is as large as `0.1`, and says more of how exact it is.

use std::cmp::Ordering;

/// Digits that are kept; FHIR asks for 18.
const MOST_DIGITS: usize = 30;
/// Places before and after the point that are told apart.
const FURTHEST: i32 = 400;

/// `digits · 10^exponent`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// Reads `-12.50`, `1e-3`; nothing for what is no number, or has more digits than are kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
        let (whole, part) = match unsigned.split_once('.') {
            Some((whole, part)) if !part.is_empty() => (whole, part),
            Some(_) => return None,
            None => (unsigned, ""),
        };
        let digits: String = [whole, part].concat();
        let is_number = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || digits.trim_start_matches('0').len() > MOST_DIGITS {
            return None;
        }
        let digits: i128 = digits.parse().ok()?;
        let exponent = exponent.checked_sub(i32::try_from(part.len()).ok()?)?;
        let digits = if mantissa.starts_with('-') { -digits } else { digits };
        (-FURTHEST..=FURTHEST).contains(&exponent).then_some(Self { digits, exponent })
    }

    /// The numbers that are written like this one: `5.4` is from 5.35 on and below 5.45.
    #[must_use]
    pub fn written_like(self) -> (Self, Self) {
        let moved = |by: i128| Self { digits: self.digits * 10 + by, exponent: self.exponent - 1 };
        (moved(-5), moved(5))
    }

    /// A tenth of it less, and a tenth more.
    #[must_use]
    pub fn about(self) -> (Self, Self) {
        let times = |by: i128| Self { digits: self.digits * by, exponent: self.exponent - 1 };
        if self.digits < 0 { (times(11), times(9)) } else { (times(9), times(11)) }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.digits.signum().cmp(&other.digits.signum());
        if signs != Ordering::Equal || self.digits == 0 {
            return signs;
        }
        let sizes = self.size().cmp(&other.size());
        if sizes != Ordering::Equal {
            return if self.digits < 0 { sizes.reverse() } else { sizes };
        }
        // Of the same size, both can be written with the same exponent.
        let least = self.exponent.min(other.exponent);
        self.with(least).cmp(&other.with(least))
    }
}

impl Decimal {
    /// The place of its first digit.
    fn size(&self) -> i64 {
        i64::from(self.digits.unsigned_abs().checked_ilog10().unwrap_or(0)) + i64::from(self.exponent)
    }

    /// Its digits with a lower exponent.
    fn with(&self, exponent: i32) -> i128 {
        let places = u32::try_from(self.exponent.saturating_sub(exponent)).unwrap_or(0);
        10_i128.checked_pow(places).and_then(|by| self.digits.checked_mul(by)).unwrap_or(self.digits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn numbers_are_compared_whatever_their_spelling() {
        assert_eq!(of("0.10"), of("0.1"));
        assert_eq!(of("1e2"), of("100.00"));
        assert_eq!(of("-0"), of("0.000"));
        assert!(
            of("-2") < of("-1.99") && of("9.99") < of("10") && of("1e-9") > of("0") && of("5e300") > of("7")
        );
        for wrong in ["", "-", ".5", "5.", "1e", "x", "1,5", "0x1", "1.2.3", "1e999", " 1", "٣"] {
            assert!(Decimal::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn how_a_number_is_written_says_how_exact_it_is() {
        assert_eq!(of("5.4").written_like(), (of("5.35"), of("5.45")));
        assert_eq!(of("5.40").written_like(), (of("5.395"), of("5.405")));
        assert_eq!(of("1e2").written_like(), (of("50"), of("150")));
        assert_eq!(of("100").about(), (of("90"), of("110")));
        assert_eq!(of("-100").about(), (of("-110"), of("-90")));
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_numbers(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000, places in 0_usize..5) {
            let text = |n: i64| {
                let digits = format!("{:0width$}", n.abs(), width = places + 1);
                let (whole, part) = digits.split_at(digits.len() - places);
                let point = if places > 0 { "." } else { "" };
                format!("{}{whole}{point}{part}", if n < 0 { "-" } else { "" })
            };
            prop_assert_eq!(of(&text(a)).cmp(&of(&text(b))), a.cmp(&b));
            prop_assert_eq!(of(&format!("{a}e3")).cmp(&of(&b.to_string())), (a * 1_000).cmp(&b));
        }
    }
}
