//! JSON Patch (RFC 6902) of a resource, in which numbers stay as they are written: `0.10` stays `0.10`.
//!
//! While it is patched, a number is a text with a mark before it; texts that begin with the mark get one more.

use hbc_types::json::{self, JsonError, Kind, Node};
use serde_json::Value;

/// A character of Unicode's private use area (U+F8FF).
const MARK: char = '\u{f8ff}';
/// Operations of one patch at most.
const MOST_OPERATIONS: usize = 200;
/// How much larger than document and patch together what comes out of them may be on the way.
const GROWTH: usize = 4;
/// What may be added to a small one.
const SMALL: usize = 64 * 1024;

/// Why a patch is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// Not JSON.
    #[error("the patch is not acceptable JSON: {0}")]
    Json(#[from] JsonError),
    /// Not a list of operations.
    #[error("the patch is no list of operations of RFC 6902")]
    Form,
    /// It makes more of the document than is kept.
    #[error(
        "the patch has more than {MOST_OPERATIONS} operations, or makes the resource too large or too deep"
    )]
    TooMuch,
    /// An operation cannot be done, or a test fails.
    #[error("operation {operation} at `{path}`: {reason}")]
    Operation {
        /// Which one, from 0.
        operation: usize,
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A document after a patch.
pub fn apply(document: &[u8], patch: &[u8]) -> Result<Vec<u8>, PatchError> {
    let most = document.len().saturating_add(patch.len()).saturating_mul(GROWTH).saturating_add(SMALL);
    let mut document = marked(document, &json::parse(document)?);
    let operations = marked(patch, &json::parse(patch)?);
    let operations: json_patch::Patch =
        serde_json::from_value(operations).map_err(|_form| PatchError::Form)?;
    if operations.0.len() > MOST_OPERATIONS {
        return Err(PatchError::TooMuch);
    }
    // One after the other: a copy may double what is there.
    for (operation, step) in operations.0.iter().enumerate() {
        json_patch::patch(&mut document, std::slice::from_ref(step)).map_err(|error| {
            PatchError::Operation { operation, path: error.path.to_string(), reason: error.kind.to_string() }
        })?;
        let (size, depth) = extent(&document);
        if size > most || depth > json::MAX_DEPTH {
            return Err(PatchError::TooMuch);
        }
    }
    let mut text = String::new();
    write(&document, &mut text);
    Ok(text.into_bytes())
}

/// About how many bytes a value takes as JSON, and how deep it is.
fn extent(value: &Value) -> (usize, usize) {
    let of = |(size, depth): (usize, usize), (more, inner): (usize, usize)| {
        (size.saturating_add(more).saturating_add(4), depth.max(inner + 1))
    };
    match value {
        Value::Object(members) => members.iter().fold((2, 0), |sum, (name, member)| {
            let (size, depth) = extent(member);
            of(sum, (size + name.len(), depth))
        }),
        Value::Array(items) => items.iter().map(extent).fold((2, 0), of),
        Value::String(text) => (text.len() + 2, 0),
        Value::Null | Value::Bool(_) | Value::Number(_) => (4, 0),
    }
}

/// A value in which numbers are marked texts.
fn marked(text: &[u8], node: &Node<'_>) -> Value {
    match &node.kind {
        Kind::Object(members) => Value::Object(
            members.iter().map(|(name, member)| (name.to_string(), marked(text, member))).collect(),
        ),
        Kind::Array(items) => items.iter().map(|item| marked(text, item)).collect(),
        Kind::Text(found) if found.starts_with(MARK) => Value::from(format!("{MARK}{found}")),
        Kind::Text(found) => Value::from(found.as_ref()),
        Kind::Plain => match text.get(node.span.clone()) {
            Some(b"null") | None => Value::Null,
            Some(b"true") => Value::Bool(true),
            Some(b"false") => Value::Bool(false),
            Some(number) => Value::from(format!("{MARK}{}", String::from_utf8_lossy(number))),
        },
    }
}

/// The JSON of what [`marked`] made.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            text.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(member, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, text);
            }
            text.push(']');
        }
        Value::String(found) => match found.strip_prefix(MARK) {
            Some(kept) if kept.starts_with(MARK) => text.push_str(&Value::from(kept).to_string()),
            Some(number) => text.push_str(number),
            None => text.push_str(&value.to_string()),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(document: &str, patch: &str) -> Result<String, PatchError> {
        apply(document.as_bytes(), patch.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let document = "{\"a\": 0.10, \"b\": [1e2, \"\u{f8ff}7\", null, true], \"c\": \"x\"}";
        let patch = r#"[{"op":"replace","path":"/c","value":5.00},{"op":"copy","from":"/b/0","path":"/d"},
            {"op":"remove","path":"/b/3"},{"op":"test","path":"/a","value":0.10}]"#;
        assert_eq!(
            patched(document, patch).unwrap(),
            "{\"a\":0.10,\"b\":[1e2,\"\u{f8ff}7\",null],\"c\":5.00,\"d\":1e2}"
        );
    }

    #[test]
    fn what_cannot_be_done_is_told_with_its_place() {
        let told = |patch: &str| patched(r#"{"a":1}"#, patch).unwrap_err();
        assert!(matches!(told("{}"), PatchError::Form));
        assert!(matches!(told("["), PatchError::Json(_)));
        assert!(matches!(told(r#"[{"op":"move","path":"/a"}]"#), PatchError::Form));
        let PatchError::Operation { operation, path, .. } =
            told(r#"[{"op":"test","path":"/a","value":1},{"op":"remove","path":"/b"}]"#)
        else {
            panic!("another fault")
        };
        assert_eq!((operation, path.as_str()), (1, "/b"));
        assert!(matches!(told(r#"[{"op":"test","path":"/a","value":2}]"#), PatchError::Operation { .. }));
    }

    #[test]
    fn a_patch_makes_no_more_of_a_document_than_is_kept() {
        let copies = |count: usize| {
            let copy = r#"{"op":"copy","from":"","path":"/b/-"}"#;
            format!("[{}]", vec![copy; count].join(","))
        };
        assert!(patched(r#"{"b":[]}"#, &copies(5)).is_ok());
        assert_eq!(patched(r#"{"b":[]}"#, &copies(40)).unwrap_err(), PatchError::TooMuch);
        let nested: Vec<String> = (1..70)
            .map(|depth| format!(r#"{{"op":"add","path":"{}","value":{{}}}}"#, "/b".repeat(depth)))
            .collect();
        assert_eq!(
            patched(r#"{"a":1}"#, &format!("[{}]", nested.join(","))).unwrap_err(),
            PatchError::TooMuch
        );
        let many = format!("[{}]", vec![r#"{"op":"test","path":"/a","value":1}"#; 201].join(","));
        assert_eq!(patched(r#"{"a":1}"#, &many).unwrap_err(), PatchError::TooMuch);
    }
}
