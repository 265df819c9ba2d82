//! One received FHIR resource: what it says of itself, and where in its bytes FHIR demands changes.

use std::ops::Range;

use hbc_types::Timestamp;
use hbc_types::classify;
use hbc_types::ids::RecordId;
use hbc_types::wire::access::Labels;
use serde_json::Value;

use crate::domain::days::Days;
use crate::domain::index::Identifier;
use crate::domain::overlay::{Overlay, OverlayError, Replacement};
use crate::domain::validation::{Issue, SchemaError, validators};
use hbc_types::json::{Kind, Node};

/// The elements that say whose record it is.
const SUBJECT_ELEMENTS: [&str; 5] = ["subject", "patient", "beneficiary", "individual", "for"];

/// A valid resource, described.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its type.
    pub kind: String,
    /// Its bytes in the request's body.
    pub received: Range<usize>,
    /// The `id` it came with.
    pub logical_id: Option<String>,
    /// Every reference in it.
    pub references: Vec<Reference>,
    /// Its identifiers.
    pub identifiers: Vec<Identifier>,
    /// Its codes: (system, code).
    pub codes: Vec<(String, String)>,
    /// Its labels.
    pub labels: Labels,
    /// Its clinical days.
    pub days: Option<Days>,
    edits: Edits,
}

/// A reference in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Bytes of the JSON string, quotes included, relative to the resource.
    pub span: Range<usize>,
    /// What it says.
    pub text: String,
    /// Where, as FHIRPath.
    pub path: String,
    /// Whether it says whose record this is.
    pub subject: bool,
    /// Whether it is a plain `url` that counts only if it names an entry of the same bundle.
    pub url: bool,
}

/// Offsets, relative to the resource, at which id and meta are laid over it.
#[derive(Clone, Debug, Default)]
struct Edits {
    /// After the resource's `{`.
    open: usize,
    id: Option<Range<usize>>,
    meta: Option<MetaEdits>,
}

#[derive(Clone, Debug)]
struct MetaEdits {
    /// After the meta's `{`.
    open: usize,
    empty: bool,
    version: Option<Range<usize>>,
    updated: Option<Range<usize>>,
}

/// Why a resource is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// It is not valid.
    #[error("the resource is not valid")]
    Invalid(Vec<Issue>),
    /// The schema could not be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl Resource {
    /// Reads and validates the resource at `node` of `body`.
    pub fn read(body: &[u8], node: &Node<'_>) -> Result<Self, ResourceError> {
        let invalid = |message: &str| {
            let issue = Issue { expression: "resourceType".to_owned(), message: message.to_owned() };
            ResourceError::Invalid(vec![issue])
        };
        let bytes = body.get(node.span.clone()).unwrap_or_default();
        let value: Value = serde_json::from_slice(bytes).map_err(|_json| invalid("is no resource"))?;
        let issues = validators()?.check(&value)?;
        if !issues.is_empty() {
            return Err(ResourceError::Invalid(issues));
        }
        let kind = node.get_text("resourceType").ok_or_else(|| invalid("is required"))?.to_owned();
        let mut references = Vec::new();
        gather_references(node, node.span.start, &kind, &mut references);
        Ok(Self {
            received: node.span.clone(),
            logical_id: node.get_text("id").map(str::to_owned),
            references,
            identifiers: identifiers(&value),
            codes: codes(&value),
            labels: Labels {
                category: classify::category(&value),
                sensitivity: classify::sensitivity(&value),
            },
            days: Days::of(&value),
            edits: Edits::of(node),
            kind,
        })
    }

    /// The overlay that gives it its id, version and time, and its references the targets that `resolve` knows.
    pub fn overlay(
        &self,
        id: &RecordId,
        version: u32,
        updated: Timestamp,
        mut resolve: impl FnMut(&Reference) -> Option<String>,
    ) -> Result<Overlay, OverlayError> {
        let mut replacements = self.edits.replacements(id, version, updated);
        for reference in &self.references {
            if let Some(target) = resolve(reference) {
                replacements.push(replace(&reference.span, quoted(&target)));
            }
        }
        Overlay::new(replacements, self.received.len() as u64)
    }
}

impl Edits {
    fn of(node: &Node<'_>) -> Self {
        let start = node.span.start;
        let relative = |node: &Node<'_>| node.span.start - start..node.span.end - start;
        let meta = node.get("meta").map(|meta| MetaEdits {
            open: meta.span.start - start + 1,
            empty: meta.members().is_empty(),
            version: meta.get("versionId").map(relative),
            updated: meta.get("lastUpdated").map(relative),
        });
        Self { open: 1, id: node.get("id").map(relative), meta }
    }

    fn replacements(&self, id: &RecordId, version: u32, updated: Timestamp) -> Vec<Replacement> {
        let id = quoted(id.as_str());
        let (version, updated) = (quoted(&version.to_string()), quoted(&updated.to_string()));
        let mut all = Vec::new();
        let mut at_open = String::new();
        match &self.id {
            Some(span) => all.push(replace(span, id)),
            None => at_open.push_str(&format!("\"id\":{id},")),
        }
        match &self.meta {
            None => {
                at_open.push_str(&format!("\"meta\":{{\"versionId\":{version},\"lastUpdated\":{updated}}},"));
            }
            Some(meta) => {
                let mut inside = Vec::new();
                match &meta.version {
                    Some(span) => all.push(replace(span, version)),
                    None => inside.push(format!("\"versionId\":{version}")),
                }
                match &meta.updated {
                    Some(span) => all.push(replace(span, updated)),
                    None => inside.push(format!("\"lastUpdated\":{updated}")),
                }
                if !inside.is_empty() {
                    let comma = if meta.empty { "" } else { "," };
                    let text = format!("{}{comma}", inside.join(","));
                    all.push(Replacement { offset: meta.open as u64, length: 0, text });
                }
            }
        }
        if !at_open.is_empty() {
            // `resourceType` always follows, so the comma at the end is right.
            all.push(Replacement { offset: self.open as u64, length: 0, text: at_open });
        }
        all
    }
}

fn replace(span: &Range<usize>, text: String) -> Replacement {
    Replacement { offset: span.start as u64, length: span.len() as u64, text }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn gather_references(node: &Node<'_>, start: usize, path: &str, found: &mut Vec<Reference>) {
    match &node.kind {
        Kind::Object(members) => {
            for (name, member) in members {
                let inner = format!("{path}.{name}");
                match (&member.kind, name.as_ref()) {
                    (Kind::Text(text), "reference" | "url") => found.push(Reference {
                        span: member.span.start - start..member.span.end - start,
                        text: text.clone().into_owned(),
                        path: path.to_owned(),
                        subject: name == "reference" && is_subject(path),
                        url: name == "url",
                    }),
                    _ => gather_references(member, start, &inner, found),
                }
            }
        }
        Kind::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                gather_references(item, start, &format!("{path}[{index}]"), found);
            }
        }
        Kind::Text(_) | Kind::Plain => {}
    }
}

/// `Type.subject` and its like, at the top of the resource.
fn is_subject(path: &str) -> bool {
    let mut steps = path.split('.').skip(1);
    let element = steps.next().unwrap_or_default().split('[').next().unwrap_or_default();
    steps.next().is_none() && SUBJECT_ELEMENTS.contains(&element)
}

fn identifiers(resource: &Value) -> Vec<Identifier> {
    let one_or_many = match resource.get("identifier") {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let mut found: Vec<Identifier> = one_or_many
        .iter()
        .filter_map(|identifier| {
            let text = |name: &str| identifier.get(name).and_then(Value::as_str);
            Some(Identifier {
                system: text("system").unwrap_or_default().to_owned(),
                value: text("value")?.to_owned(),
            })
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Codings of the elements that say what the resource is about.
fn codes(resource: &Value) -> Vec<(String, String)> {
    let concepts = ["code", "medicationCodeableConcept", "vaccineCode", "type"];
    let mut found: Vec<(String, String)> = concepts
        .iter()
        .filter_map(|name| resource.get(*name))
        .flat_map(|concept| match concept {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        })
        .filter_map(|concept| concept.get("coding").and_then(Value::as_array))
        .flatten()
        .filter_map(|coding| {
            let text = |name: &str| coding.get(name).and_then(Value::as_str);
            Some((text("system").unwrap_or_default().to_owned(), text("code")?.to_owned()))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;

    use super::*;
    use hbc_types::json;

    fn applied(text: &str) -> Value {
        let node = json::parse(text.as_bytes()).unwrap();
        let resource = Resource::read(text.as_bytes(), &node).unwrap();
        let id = RecordId::random(&Random::seeded(1));
        let overlay = resource
            .overlay(&id, 1, Timestamp::from_ms(0), |reference| {
                (reference.text == "urn:uuid:1").then(|| "Patient/x".to_owned())
            })
            .unwrap();
        let applied = overlay.apply(text.as_bytes()).unwrap();
        let value: Value = serde_json::from_slice(&applied).unwrap();
        assert_eq!(value["id"], id.as_str());
        assert_eq!(value["meta"]["versionId"], "1");
        assert_eq!(value["meta"]["lastUpdated"], "1970-01-01T00:00:00.000Z");
        value
    }

    #[test]
    fn id_and_meta_are_laid_over_every_shape() {
        applied(r#"{"resourceType":"Patient"}"#);
        applied(r#"{ "id" : "a\u0062", "resourceType":"Patient", "meta": { } }"#);
        let kept =
            applied(r#"{"resourceType":"Patient","meta":{"versionId":"7","profile":["http://p"]},"id":"x"}"#);
        assert_eq!(kept["meta"]["profile"][0], "http://p");
        applied(
            r#"{"meta":{"lastUpdated":"2020-01-01T00:00:00Z","versionId":"9"},"resourceType":"Patient"}"#,
        );
    }

    #[test]
    fn references_are_found_with_their_place() {
        let text = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},
            "subject":{"reference":"urn:uuid:1","display":"d"},
            "performer":[{"reference":"Practitioner?identifier=a|b"}], "valueQuantity": {"value": 0.10}}"#;
        let node = json::parse(text.as_bytes()).unwrap();
        let resource = Resource::read(text.as_bytes(), &node).unwrap();
        let found: Vec<_> =
            resource.references.iter().map(|found| (found.path.as_str(), found.subject)).collect();
        assert_eq!(found, [("Observation.subject", true), ("Observation.performer[0]", false)]);
        assert_eq!(applied(text)["subject"]["reference"], "Patient/x");
    }
}
