//! Parts of resources: `_summary` and `_elements`. What is left out is cut out of the bytes; the others stay as they are.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#summary>, <https://hl7.org/fhir/R4/search.html#elements>.

use std::collections::HashMap;
use std::sync::OnceLock;

use hbc_types::json::{self, Kind, Node};

use crate::domain::definitions::{Definition, definitions};

const SUMMARIES: &str = include_str!("../../../data/summary-elements.json");
/// What tells that a resource is not whole.
const SUBSETTED: &str =
    r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

/// How much of each resource is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// What FHIR marks as its summary.
    Summary,
    /// The narrative, and what must be there.
    Text,
    /// All but the narrative.
    Data,
    /// These elements, and what must be there.
    Elements(Vec<String>),
}

fn summaries() -> &'static HashMap<String, Vec<String>> {
    static SHARED: OnceLock<HashMap<String, Vec<String>>> = OnceLock::new();
    SHARED.get_or_init(|| serde_json::from_str(SUMMARIES).unwrap_or_default())
}

impl Part {
    /// The part of a resource of a type that is asked for; nothing if it is no resource.
    #[must_use]
    pub fn of(&self, kind: &str, resource: &[u8]) -> Option<Vec<u8>> {
        if *self == Self::Whole {
            return Some(resource.to_vec());
        }
        let node = json::parse(resource).ok()?;
        let definition = definitions().ok()?.resource(kind)?;
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for (name, member) in node.members() {
            if name == "meta" {
                parts.push([b"\"meta\":", marked(resource, member)?.as_slice()].concat());
            } else if self.keeps(kind, definition, name) {
                let value = resource.get(member.span.clone())?;
                parts.push([serde_json::to_string(name).ok()?.as_bytes(), b":", value].concat());
            }
        }
        if node.get("meta").is_none() {
            parts.push(format!("\"meta\":{{\"tag\":[{SUBSETTED}]}}").into_bytes());
        }
        Some([b"{", parts.join(&b',').as_slice(), b"}"].concat())
    }

    fn keeps(&self, kind: &str, definition: &Definition, name: &str) -> bool {
        let plain = name.strip_prefix('_').unwrap_or(name);
        let needed = || {
            let chosen = |choice: &crate::domain::definitions::Choice| {
                choice.required && choice.members.iter().any(|member| member.name == plain)
            };
            matches!(plain, "resourceType" | "id" | "implicitRules" | "modifierExtension")
                || definition.required.iter().any(|member| member.name == plain)
                || definition.choices.iter().any(chosen)
        };
        match self {
            Self::Whole => true,
            Self::Data => plain != "text",
            Self::Text => plain == "text" || needed(),
            Self::Summary => {
                let marked =
                    summaries().get(kind).is_some_and(|names| names.iter().any(|name| name == plain));
                marked || needed()
            }
            Self::Elements(names) => {
                let element = definition.elements.get(name).map(|element| element.name.as_str());
                let is = |wanted: &String| wanted == plain || Some(wanted.as_str()) == element;
                names.iter().any(is) || needed()
            }
        }
    }
}

/// A resource's meta with the tag of what is not whole.
fn marked(resource: &[u8], meta: &Node<'_>) -> Option<Vec<u8>> {
    let Kind::Object(members) = &meta.kind else { return None };
    let (at, text) = match meta.get("tag") {
        Some(tag) if tag.items().is_empty() => (tag.span.start + 1, SUBSETTED.to_owned()),
        Some(tag) => (tag.span.start + 1, format!("{SUBSETTED},")),
        None if members.is_empty() => (meta.span.start + 1, format!("\"tag\":[{SUBSETTED}]")),
        None => (meta.span.start + 1, format!("\"tag\":[{SUBSETTED}],")),
    };
    let before = resource.get(meta.span.start..at)?;
    Some([before, text.as_bytes(), resource.get(at..meta.span.end)?].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn part(part: &Part) -> Value {
        let text = r#"{"resourceType":"Observation","id":"1","meta":{"versionId":"1","tag":[{"code":"x"}]},
            "text":{"status":"generated"},"status":"final","_status":{"id":"s"},"code":{"text":"c"},
            "note":[{"text":"n"}],"valueQuantity":{"value":0.10}}"#;
        serde_json::from_slice(&part.of("Observation", text.as_bytes()).unwrap()).unwrap()
    }

    fn names(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn of_a_resource_what_is_asked_for_is_left() {
        let always = ["_status", "code", "id", "meta", "resourceType", "status"];
        let with = |more: &[&'static str]| {
            let mut all = [&always, more].concat();
            all.sort_unstable();
            all
        };
        let sorted = |value: &Value| {
            let mut names: Vec<String> = names(value).into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&part(&Part::Text)), with(&["text"]));
        assert_eq!(sorted(&part(&Part::Summary)), with(&["valueQuantity"]));
        assert_eq!(sorted(&part(&Part::Data)), with(&["note", "valueQuantity"]));
        assert_eq!(sorted(&part(&Part::Elements(vec!["value".to_owned()]))), with(&["valueQuantity"]));
        let tags = part(&Part::Data)["meta"]["tag"].clone();
        assert_eq!(tags.as_array().unwrap().len(), 2);
        assert_eq!(tags[0]["code"], "SUBSETTED");
    }

    #[test]
    fn numbers_keep_their_digits_and_the_whole_is_the_whole() {
        let text = br#"{"resourceType":"Observation","meta":{},"valueQuantity":{"value":0.10}}"#;
        let cut = Part::Data.of("Observation", text).unwrap();
        assert!(String::from_utf8_lossy(&cut).contains("0.10"));
        assert_eq!(Part::Whole.of("Observation", text).as_deref(), Some(text.as_slice()));
        let empty = json!({"resourceType": "Observation"}).to_string();
        let cut: Value =
            serde_json::from_slice(&Part::Text.of("Observation", empty.as_bytes()).unwrap()).unwrap();
        assert_eq!(cut["meta"]["tag"][0]["code"], "SUBSETTED");
        assert!(summaries().len() > 140 && Part::Summary.of("Dog", b"{}").is_none());
    }
}
