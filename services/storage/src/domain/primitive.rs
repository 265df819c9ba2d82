//! FHIR's primitive types: what their values must be, by the text of the standard where HL7's JSON schema is too wide.
//!
//! `\S` in the standard's expressions is about ASCII's white space, as everywhere in XML Schema's neighbourhood: a
//! non-breaking space between number and unit is text like any other.
//!
//! Source: <https://hl7.org/fhir/R4/datatypes.html#primitive>.

use serde_json::Value;

use crate::domain::moment::{self, Moment, Precision};

/// Characters of a string or markdown at most: "SHALL NOT exceed 1MB".
const LONGEST: usize = 1024 * 1024;

/// A primitive type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitive {
    /// `base64Binary`
    Base64Binary,
    /// `boolean`
    Boolean,
    /// `canonical`
    Canonical,
    /// `code`
    Code,
    /// `date`
    Date,
    /// `dateTime`
    DateTime,
    /// `decimal`
    Decimal,
    /// `id`
    Id,
    /// `instant`
    Instant,
    /// `integer`
    Integer,
    /// `markdown`
    Markdown,
    /// `oid`
    Oid,
    /// `positiveInt`
    PositiveInt,
    /// `string`
    String,
    /// `time`
    Time,
    /// `unsignedInt`
    UnsignedInt,
    /// `uri`
    Uri,
    /// `url`
    Url,
    /// `uuid`
    Uuid,
    /// `xhtml`
    Xhtml,
}

impl Primitive {
    /// Every type with its name.
    const NAMES: [(&'static str, Self); 20] = [
        ("base64Binary", Self::Base64Binary),
        ("boolean", Self::Boolean),
        ("canonical", Self::Canonical),
        ("code", Self::Code),
        ("date", Self::Date),
        ("dateTime", Self::DateTime),
        ("decimal", Self::Decimal),
        ("id", Self::Id),
        ("instant", Self::Instant),
        ("integer", Self::Integer),
        ("markdown", Self::Markdown),
        ("oid", Self::Oid),
        ("positiveInt", Self::PositiveInt),
        ("string", Self::String),
        ("time", Self::Time),
        ("unsignedInt", Self::UnsignedInt),
        ("uri", Self::Uri),
        ("url", Self::Url),
        ("uuid", Self::Uuid),
        ("xhtml", Self::Xhtml),
    ];

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, primitive)| *primitive)
    }

    /// The type with which the name of a choice ends: `DateTime` of `effectiveDateTime`.
    #[must_use]
    pub fn of_choice(element: &str) -> Option<Self> {
        let ends = |name: &str| {
            let rest = element.len().checked_sub(name.len()).filter(|at| *at > 0)?;
            let (first, others) = (element.get(rest..=rest)?, element.get(rest + 1..)?);
            let same = first == name.get(..1)?.to_ascii_uppercase() && others == name.get(1..)?;
            same.then_some(name.len())
        };
        let longest = Self::NAMES.iter().filter_map(|(name, primitive)| Some((ends(name)?, *primitive)));
        longest.max_by_key(|(length, _)| *length).map(|(_, primitive)| primitive)
    }

    /// What is wrong with a value that is not `null`; nothing if it is right.
    pub fn check(self, value: &Value) -> Result<(), &'static str> {
        match self {
            Self::Boolean => require(value.is_boolean(), "must be a JSON boolean"),
            Self::Decimal => {
                require(value.is_number(), "must be a JSON number, within what 64 bits can hold")
            }
            Self::Integer => integer(value, i64::from(i32::MIN), "must be a whole number of 32 bits"),
            Self::UnsignedInt => integer(value, 0, "must be a whole number from 0 to 2147483647"),
            Self::PositiveInt => integer(value, 1, "must be a whole number from 1 to 2147483647"),
            _ => match value.as_str() {
                None => Err("must be a JSON string"),
                Some("") => Err(EMPTY),
                Some(text) => self.check_text(text),
            },
        }
    }

    fn check_text(self, text: &str) -> Result<(), &'static str> {
        match self {
            Self::String | Self::Markdown => string(text),
            Self::Xhtml => require(text.bytes().all(|byte| !is_control(byte)), CONTROL),
            Self::Code => {
                require(is_code(text), "must be a code: no white space but single spaces between words")
            }
            Self::Uri | Self::Url | Self::Canonical => {
                let spaced = |byte: u8| byte <= b' ' || byte == 0x7f;
                require(!text.bytes().any(spaced), "must be a URI: no white space or control characters")
            }
            Self::Id => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
                require(
                    text.len() <= 64 && text.bytes().all(allowed),
                    "must be an id: 1 to 64 of A-Z, a-z, 0-9, `-` and `.`",
                )
            }
            Self::Oid => require(is_oid(text), "must be an OID: `urn:oid:1.2.3`"),
            Self::Uuid => require(is_uuid(text), "must be a UUID in lower case: `urn:uuid:…`"),
            Self::Base64Binary => require(is_base64(text), "must be base64"),
            Self::Date => {
                let holds = |moment: Moment| moment.precision <= Precision::Day;
                require(Moment::parse(text).is_some_and(holds), "must be a date that exists: `2020-02-01`")
            }
            Self::DateTime => {
                let holds = |moment: Moment| {
                    moment.precision <= Precision::Day
                        || (moment.precision == Precision::Second && moment.zoned)
                };
                require(
                    Moment::parse(text).is_some_and(holds),
                    "must be a time that exists: a date, or `2020-02-01T08:00:00Z` with its offset",
                )
            }
            Self::Instant => {
                let holds = |moment: Moment| moment.precision == Precision::Second && moment.zoned;
                require(
                    Moment::parse(text).is_some_and(holds),
                    "must be an instant that exists: `2020-02-01T08:00:00Z`, with its offset",
                )
            }
            Self::Time => require(moment::is_time(text), "must be a time of day: `08:00:00`"),
            Self::Boolean | Self::Decimal | Self::Integer | Self::UnsignedInt | Self::PositiveInt => {
                Err("must not be a JSON string")
            }
        }
    }
}

const CONTROL: &str = "must have no control characters but tab and line end";
/// What is said of everything that is there without content.
pub const EMPTY: &str = "must not be empty: leave it out";

fn require(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn integer(value: &Value, least: i64, otherwise: &'static str) -> Result<(), &'static str> {
    let range = least..=i64::from(i32::MAX);
    require(value.as_i64().is_some_and(|number| range.contains(&number)), otherwise)
}

const fn is_control(byte: u8) -> bool {
    byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')
}

fn string(text: &str) -> Result<(), &'static str> {
    require(!text.bytes().any(is_control), CONTROL)?;
    // Bytes are at least as many: few texts are counted.
    let fits = text.len() <= LONGEST || text.chars().count() <= LONGEST;
    require(fits, "must have at most 1048576 characters")
}

fn is_code(text: &str) -> bool {
    text.split(' ').all(|word| !word.is_empty() && !word.bytes().any(|byte| byte < b' '))
}

fn is_oid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("urn:oid:") else { return false };
    let mut arcs = rest.split('.');
    let number = |arc: &str| {
        arc == "0" || (!arc.starts_with('0') && !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()))
    };
    let first = arcs.next().is_some_and(|arc| matches!(arc, "0" | "1" | "2"));
    first && rest.contains('.') && arcs.all(number)
}

fn is_uuid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("urn:uuid:") else { return false };
    let lengths = rest.split('-').map(str::len);
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    lengths.eq([8, 4, 4, 4, 12]) && rest.bytes().all(digits)
}

/// RFC 4648, with white space anywhere: whole groups of four, padded at the end alone.
fn is_base64(text: &str) -> bool {
    let (mut count, mut padding) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return false,
        }
        count += 1;
    }
    count > 0 && count.is_multiple_of(4) && padding <= 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of each type what is right, and what is wrong by one thing.
    #[test]
    fn every_type_takes_its_values_alone() {
        let kept = "x".repeat(LONGEST);
        let cases = [
            ("boolean", json!([true, false]), json!(["true", 1])),
            (
                "integer",
                json!([0, -7, 2_147_483_647, -2_147_483_648_i64]),
                json!([1.5, 1.0, 2_147_483_648_i64, 1e20, "1"]),
            ),
            ("unsignedInt", json!([0, 7]), json!([-1, 0.5, 2_147_483_648_i64])),
            ("positiveInt", json!([1]), json!([0, -1, 1.5])),
            ("decimal", json!([0, 0.10, -1e10]), json!(["1"])),
            (
                "string",
                json!(["10\u{a0}mg", "a\u{202f}b", " ", "a\tb\r\nc", kept]),
                json!(["", "a\u{b}b", "\u{1}", 1, format!("{kept}y")]),
            ),
            ("markdown", json!(["*a*\u{a0}\n"]), json!(["", "\u{c}"])),
            ("code", json!(["a", "a b", "a\u{a0}b"]), json!([" a", "a ", "a  b", "a\tb", ""])),
            ("uri", json!(["urn:x", "http://a.example/?q=ü"]), json!(["a b", "a\n", ""])),
            ("url", json!(["mailto:a@b.example"]), json!(["http://a b"])),
            ("canonical", json!(["http://a.example/q|1"]), json!(["http://a |1"])),
            ("id", json!(["A-z.9"]), json!(["a_b", "a b", "ü", "x".repeat(65)])),
            (
                "oid",
                json!(["urn:oid:1.2.0"]),
                json!(["urn:oid:3.1", "urn:oid:1", "1.2", "urn:oid:1.02", "urn:oid:1."]),
            ),
            (
                "uuid",
                json!(["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"]),
                json!([
                    "urn:uuid:1",
                    "c757873d-ec9a-4326-a141-556f43239520",
                    "urn:uuid:C757873D-ec9a-4326-a141-556f43239520"
                ]),
            ),
            (
                "base64Binary",
                json!(["QQ==", "QUJD", "QU\nJD "]),
                json!(["QQ", "Q===", "=QQQ", "QQ=A", "Q-==", " ", ""]),
            ),
            (
                "date",
                json!(["2020", "2020-02", "2020-02-29"]),
                json!(["2021-02-29", "2020-2-1", "2020-01-01T00:00:00Z", "0000", "1.2.1990"]),
            ),
            (
                "dateTime",
                json!(["2020", "2020-02-01T08:00:00Z", "2020-02-01T08:00:00.123+14:00"]),
                json!(["2020-02-01T08:00Z", "2020-02-01T08:00:00", "2020-02-31", "2020-02-01T25:00:00Z"]),
            ),
            (
                "instant",
                json!(["2020-02-01T08:00:00Z"]),
                json!(["2020-02-01", "2020-02-01T08:00:00", "2020-02-30T08:00:00Z"]),
            ),
            ("time", json!(["08:00:00", "23:59:59.5"]), json!(["08:00", "24:00:00", "8:00:00"])),
            ("xhtml", json!(["<div>\u{a0}</div>"]), json!(["", 1])),
        ];
        assert_eq!(cases.len(), Primitive::NAMES.len());
        for (name, right, wrong) in cases {
            let primitive = Primitive::parse(name).unwrap();
            for value in right.as_array().unwrap() {
                assert_eq!(primitive.check(value), Ok(()), "{name}: {value}");
            }
            for value in wrong.as_array().unwrap() {
                assert!(primitive.check(value).is_err(), "{name}: {value}");
            }
        }
    }

    #[test]
    fn a_choice_is_of_the_longest_type_it_ends_with() {
        assert_eq!(Primitive::of_choice("effectiveDateTime"), Some(Primitive::DateTime));
        assert_eq!(Primitive::of_choice("valueTime"), Some(Primitive::Time));
        assert_eq!(Primitive::of_choice("valuePositiveInt"), Some(Primitive::PositiveInt));
        assert_eq!(Primitive::of_choice("valueQuantity"), None);
        assert_eq!(Primitive::of_choice("time"), None);
    }
}
