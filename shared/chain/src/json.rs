//! The one JSON form of signed and hashed documents: JCS (RFC 8785), restricted.
//!
//! Object keys are printable ASCII without `"` and `\`, in ascending order and never twice; numbers are integers from
//! -(2^53-1) to 2^53-1; strings carry no NUL and no lone surrogate; `null` stands only as the value of a key `prev`;
//! nesting ends at 64. There is exactly one encoding of a document: bytes that deviate in a single space are refused, so
//! that a hash of the bytes is a hash of the meaning.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Nesting beyond this is refused.
pub const MAX_DEPTH: usize = 64;
/// 2^53 - 1, the largest integer that every JSON reader keeps exactly.
pub(crate) const MAX_INTEGER: u64 = 9_007_199_254_740_991;

/// Why bytes are not a canonical document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes leave the canonical form at this offset.
    #[error("not canonical JSON at byte {at}: {what}")]
    Form {
        /// Offset of the first byte that does not fit.
        at: usize,
        /// What was expected or refused.
        what: &'static str,
    },
    /// The document is canonical but not of the type asked for.
    #[error("the document has not the expected shape: {0}")]
    Shape(String),
    /// The document does not encode back to the same bytes.
    #[error("the document does not encode back to the same bytes")]
    NotSame,
}

/// Encodes `value` in its one canonical form.
///
/// # Errors
/// When the value holds something that the restricted form cannot express (a fraction, a large integer, a `null`).
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    let shape = |error: serde_json::Error| JsonError::Shape(error.to_string());
    // Most types have their fields in order: what is canonical already needs no sorting.
    let bytes = serde_json::to_vec(value).map_err(shape)?;
    if check(&bytes).is_ok() {
        return Ok(bytes);
    }
    let bytes = serde_json_canonicalizer::to_vec(value).map_err(shape)?;
    check(&bytes)?;
    Ok(bytes)
}

/// Decodes a canonical document into a type, and refuses it unless the type encodes back to the same bytes: a field
/// that the type does not know, or two ways to say one thing, cannot slip through.
///
/// # Errors
/// When the bytes are not canonical, of another shape, or not reproduced.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    check(bytes)?;
    let shape = |error: serde_json::Error| JsonError::Shape(error.to_string());
    let value: T = serde_json::from_slice(bytes).map_err(shape)?;
    // A meaning has one canonical encoding, and these bytes are one: equal meanings are equal bytes.
    let meant: Value = serde_json::from_slice(bytes).map_err(shape)?;
    let said = serde_json::to_value(&value).map_err(shape)?;
    if said == meant { Ok(value) } else { Err(JsonError::NotSame) }
}

/// Checks that `bytes` are one canonical document and nothing else.
///
/// # Errors
/// [`JsonError::Form`] with the offset of the first deviation.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError::Form { at: error.valid_up_to(), what: "not UTF-8" })?;
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.value(1, false)?;
    if scanner.at == bytes.len() { Ok(()) } else { scanner.refuse("bytes after the document") }
}

/// Walks the bytes once; what it accepts is canonical by construction.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn refuse<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError::Form { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.refuse(what)
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            self.refuse("unknown word")
        }
    }

    fn value(&mut self, depth: usize, null_allowed: bool) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return self.refuse("nested too deeply");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') if null_allowed => self.word(b"null"),
            Some(b'n') => self.refuse("null is allowed only for `prev`"),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            _ => self.refuse("a value was expected"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.take(b'{', "an object was expected")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut last: Option<&'a [u8]> = None;
        loop {
            let key = self.key()?;
            if last.is_some_and(|last| last >= key) {
                return self.refuse("keys must ascend and be unique");
            }
            last = Some(key);
            self.take(b':', "a colon was expected")?;
            self.value(depth + 1, key == b"prev")?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.refuse("`,` or `}` was expected"),
            }
        }
    }

    fn key(&mut self) -> Result<&'a [u8], JsonError> {
        self.take(b'"', "a key was expected")?;
        let start = self.at;
        while self.peek().is_some_and(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
        let key = self.bytes.get(start..self.at).unwrap_or_default();
        self.take(b'"', "keys are printable ASCII without escapes")?;
        Ok(key)
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.take(b'[', "an array was expected")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1, false)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.refuse("`,` or `]` was expected"),
            }
        }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.take(b'"', "a string was expected")?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return self.refuse("control characters are escaped"),
                Some(_) => self.at += 1,
                None => return self.refuse("the string does not end"),
            }
        }
    }

    /// RFC 8785 §3.2.2.2: the two-character escapes where they exist, `\u00xx` in lowercase for other controls, nothing
    /// else escaped. NUL is refused altogether.
    fn escape(&mut self) -> Result<(), JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = match rest {
            [b'\\', b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', ..] => 2,
            [b'\\', b'u', b'0', b'0', high, low, ..] => match (high, low) {
                (b'0', b'1'..=b'7' | b'b' | b'e' | b'f') | (b'1', b'0'..=b'9' | b'a'..=b'f') => 6,
                (b'0', b'0') => return self.refuse("NUL is refused"),
                _ => return self.refuse("not the canonical escape"),
            },
            _ => return self.refuse("not the canonical escape"),
        };
        self.at += length;
        Ok(())
    }

    fn integer(&mut self) -> Result<(), JsonError> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let start = self.at;
        let mut magnitude = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            magnitude = magnitude.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.bytes.get(start..self.at).unwrap_or_default();
        match digits {
            [] => self.refuse("digits were expected"),
            [b'0', _, ..] => self.refuse("no leading zeros"),
            [b'0'] if negative => self.refuse("no negative zero"),
            _ if magnitude > MAX_INTEGER => self.refuse("integers end at 2^53-1"),
            _ if matches!(self.peek(), Some(b'.' | b'e' | b'E')) => self.refuse("only integers"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[test]
    fn canonical_documents_pass() {
        for text in [
            "{}",
            "[]",
            "0",
            "-1",
            "9007199254740991",
            "-9007199254740991",
            r#"{"a":1,"b":[true,false,"x"]}"#,
            r#"{"prev":null}"#,
            r#""é\n\u0001\u001f\"\\""#,
            "\"\u{7f}\u{2028}😀\"",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            " {}",
            "{} ",
            "{}{}",
            "{\"a\": 1}",
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":null}"#,
            "[null]",
            "null",
            "01",
            "-0",
            "-",
            "1.0",
            "1e3",
            "9007199254740992",
            "-9007199254740992",
            "99999999999999999999999999",
            r#""\u0000""#,
            r#""\u0041""#,
            r#""\u000a""#,
            r#""\u001F""#,
            r#""\/""#,
            r#""\ud800""#,
            "\"\n\"",
            "\"open",
            r#"{"é":1}"#,
            r#"{"a\n":1}"#,
            r#"{"a":1,}"#,
            "[1,]",
            "tru",
            "True",
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(b"\"\xff\"").is_err());
        let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert_eq!(check(deep.as_bytes()), Ok(()));
        let deeper = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert!(check(deeper.as_bytes()).is_err());
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Loose {
        a: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        b: Option<u64>,
    }

    #[test]
    fn a_lenient_type_does_not_weaken_the_check() {
        assert_eq!(decode::<Loose>(br#"{"a":1}"#), Ok(Loose { a: 1, b: None }));
        assert_eq!(decode::<Loose>(br#"{"a":1,"c":2}"#), Err(JsonError::NotSame));
        assert!(decode::<Loose>(br#"{"a":-1}"#).is_err());
        assert!(encode(&0.5_f64).is_err());
        assert!(encode(&(MAX_INTEGER + 1)).is_err());
        assert!(encode(&Option::<u64>::None).is_err());
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
            "[^\u{0}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[a-z ]{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_the_canonicalizer_writes_is_accepted_and_comes_back(value in document()) {
            let bytes = encode(&value).unwrap();
            prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).unwrap(), &bytes);
            prop_assert_eq!(decode::<Value>(&bytes).unwrap(), value);
        }

        #[test]
        fn what_is_accepted_is_what_the_canonicalizer_writes(bytes in "[\\[\\]{}\",:0-9a-c\\\\untre ]{0,16}") {
            if check(bytes.as_bytes()).is_ok() {
                let value: Value = serde_json::from_str(&bytes).unwrap();
                prop_assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), bytes);
            }
        }
    }
}
