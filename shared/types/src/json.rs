//! A strict JSON reader that keeps byte offsets: the one for whatever comes from outside. (What is signed or hashed has one
//! canonical form, and a reader of its own in `hbc_chain::json`.)
//!
//! It refuses what other readers let through in silence: duplicate keys, NUL, lone surrogates, too much depth, anything
//! after the value. Bodies of every service are checked by it before they are read into types. Records are never re-written:
//! what FHIR demands to be different (ids, references, meta) is laid over them as replacements at the offsets found here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

/// Arrays and objects within each other at most.
pub const MAX_DEPTH: usize = 64;

/// Values in one text at most: some 60 MB of memory. FHIR has one for 25 to 60 bytes, white space counted.
pub const MAX_VALUES: usize = 1_000_000;

/// The bytes are not the JSON that is taken here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct JsonError {
    /// Where.
    pub offset: usize,
    /// What, lowercase.
    pub reason: &'static str,
}

impl JsonError {
    /// Whether the text may be JSON, but has more values than are read.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.reason == TOO_MUCH
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const TOO_MUCH: &str = "too many values";

/// A JSON value with the bytes it stands on.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Its bytes, quotes and brackets included.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a JSON value is.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// `null`, `true`, `false` or a number: only the bytes matter here.
    Plain,
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object, in the order of its bytes.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The member of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a string member.
    #[must_use]
    pub fn get_text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// The items of an array; nothing for other values.
    #[must_use]
    pub fn items(&self) -> &[Node<'a>] {
        match &self.kind {
            Kind::Array(items) => items,
            _ => &[],
        }
    }

    /// The members of an object; nothing for other values.
    #[must_use]
    pub fn members(&self) -> &[(Cow<'a, str>, Node<'a>)] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }
}

/// Reads exactly one JSON value.
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { offset: error.valid_up_to(), reason: "not UTF-8" })?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        return Err(JsonError {
            offset: 0,
            reason: "a byte order mark is no JSON (RFC 8259 §8.1): leave it out",
        });
    }
    let mut reader = Reader { bytes, text, at: 0, values: 0 };
    let node = reader.value(0)?;
    reader.space();
    if reader.at == bytes.len() { Ok(node) } else { Err(reader.wrong("something follows the value")) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    /// How many values were read.
    values: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: &'static str) -> JsonError {
        JsonError { offset: self.at, reason }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, reason: &'static str) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.wrong(reason))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        self.space();
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(TOO_MUCH));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => return Err(self.wrong("nested too deeply")),
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::Text(self.string()?),
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.wrong("a value is expected")),
        };
        Ok(Node { span: start..self.at, kind })
    }

    fn literal(&mut self, word: &str) -> Result<Kind<'a>, JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.wrong("a value is expected"));
        }
        self.at += word.len();
        Ok(Kind::Plain)
    }

    fn number(&mut self) -> Result<Kind<'a>, JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.wrong("a digit is expected")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Plain)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.wrong("a digit is expected"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'a>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Kind::Array(items));
            }
            self.take(b',', "a comma or the end of the array is expected")?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, JsonError> {
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        let mut names: HashSet<Cow<'a, str>> = HashSet::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Object(members));
        }
        loop {
            self.space();
            let name_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a member name is expected"));
            }
            let name = self.string()?;
            // Few members are compared one by one; a set is worth its cost only beyond.
            let known = if members.len() < 16 {
                members.iter().any(|(other, _)| *other == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|(other, _)| other.clone()));
                }
                !names.insert(name.clone())
            };
            if known {
                return Err(JsonError { offset: name_at, reason: "a member name is used twice" });
            }
            self.space();
            self.take(b':', "a colon is expected")?;
            let value = self.value(depth + 1)?;
            members.push((name, value));
            self.space();
            if self.peek() == Some(b'}') {
                self.at += 1;
                return Ok(Kind::Object(members));
            }
            self.take(b',', "a comma or the end of the object is expected")?;
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0..=0x1f) => return Err(self.wrong("a control character stands in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a string does not end")),
            }
        }
    }

    /// The rest of a string in which an escape was met.
    fn escaped(&mut self, start: usize) -> Result<String, JsonError> {
        let mut text = self.text.get(start..self.at).unwrap_or_default().to_owned();
        loop {
            let plain = self.at;
            while !matches!(self.peek(), Some(b'"' | b'\\' | 0..=0x1f) | None) {
                self.at += 1;
            }
            text.push_str(self.text.get(plain..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.wrong("a control character stands in a string")),
                None => return Err(self.wrong("a string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let code = self.peek().ok_or_else(|| self.wrong("a string does not end"))?;
        self.at += 1;
        Ok(match code {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.wrong("an unknown escape")),
        })
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let unit = self.hex4()?;
        let code = match unit {
            0 => return Err(self.wrong("NUL is not taken")),
            0xd800..=0xdbff => {
                if self.bytes.get(self.at..self.at + 2) != Some(b"\\u".as_slice()) {
                    return Err(self.wrong("a lone surrogate"));
                }
                self.at += 2;
                let low = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(self.wrong("a lone surrogate"));
                }
                0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.wrong("a lone surrogate"))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(self.wrong("four hex digits are expected"));
        }
        let unit =
            u32::from_str_radix(digits, 16).map_err(|_not_hex| self.wrong("four hex digits are expected"))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> &'static str {
        parse(text.as_bytes()).unwrap_err().reason
    }

    #[test]
    fn a_text_of_nothing_but_values_is_cut_short() {
        let text = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(parse(text.as_bytes()).unwrap_err().reason, "too many values");
        let text = format!("[{}0]", "0,".repeat(10_000));
        assert_eq!(parse(text.as_bytes()).unwrap().items().len(), 10_001);
    }

    #[test]
    fn spans_point_at_the_very_bytes() {
        let text = r#" {"a": [1, "x\u00e9\ud83d\ude00", {"b": 0.10}], "c": null} "#;
        let node = parse(text.as_bytes()).unwrap();
        let list = node.get("a").unwrap();
        assert_eq!(text.get(list.items()[0].span.clone()).unwrap(), "1");
        assert_eq!(list.items()[1].text(), Some("xé😀"));
        assert_eq!(text.get(list.items()[2].get("b").unwrap().span.clone()).unwrap(), "0.10");
        assert_eq!(text.get(node.get("c").unwrap().span.clone()).unwrap(), "null");
    }

    #[test]
    fn what_hides_meaning_is_refused() {
        assert_eq!(reason(r#"{"a":1,"\u0061":2}"#), "a member name is used twice");
        assert_eq!(reason(r#"{"a":"\u0000"}"#), "NUL is not taken");
        assert_eq!(reason(r#"["\ud800"]"#), "a lone surrogate");
        assert_eq!(reason(r#"["\ude00"]"#), "a lone surrogate");
        assert_eq!(reason("[1] 2"), "something follows the value");
        assert_eq!(reason("[01]"), "a comma or the end of the array is expected");
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(reason(&deep(MAX_DEPTH + 1)), "nested too deeply");
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(reason("[\"a\nb\"]"), "a control character stands in a string");
        assert!(parse(&[b'"', 0xff, b'"']).is_err());
        let many: String = (0..20).map(|i| format!("\"k{i}\":1,")).collect();
        assert_eq!(reason(&format!("{{{many}\"k3\":1}}")), "a member name is used twice");
    }

    proptest::proptest! {
        /// What serde_json takes is taken, and the other way round (but for the refusals above).
        #[test]
        fn agrees_with_serde(text in "[\\[\\]{}\",:0-9a-e\\\\ .ntrues-]{0,24}") {
            let ours = parse(text.as_bytes());
            if ours.is_ok() {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }

        #[test]
        fn reads_what_serde_writes(items in proptest::collection::vec(".*", 0..8)) {
            let items: Vec<String> = items.into_iter().map(|item| item.replace('\0', "")).collect();
            let text = serde_json::to_string(&items).unwrap();
            let node = parse(text.as_bytes()).unwrap();
            let read: Vec<&str> = node.items().iter().filter_map(Node::text).collect();
            proptest::prop_assert_eq!(read, items);
        }
    }
}
