//! One received FHIR resource: what it says of itself, and where in its bytes FHIR demands changes.

use std::ops::Range;

use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::wire::access::Labels;
use hbc_types::{Digest, Timestamp};
use serde_json::Value;

use crate::domain::days::{self, Days};
use crate::domain::definitions::SchemaError;
use crate::domain::index::Identifier;
use crate::domain::issue::Issue;
use crate::domain::moment::Span;
use crate::domain::overlay::{Overlay, OverlayError, Replacement};
use crate::domain::reference::Bases;
use crate::domain::subjects::{Form, Reference, References};
use crate::domain::validation;
use hbc_types::json::{Kind, Node};

/// What documents are called where FHIR resources name their type.
pub const DOCUMENT: &str = "Document";

/// The id by which FHIR knows a record of an account: a Patient's is the account's.
#[must_use]
pub fn fhir_id<'a>(kind: &str, record: &'a RecordId, patient: &'a PatientId) -> &'a str {
    if kind == "Patient" && !patient.is_directory() { patient.as_str() } else { record.as_str() }
}

/// A valid resource, described.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its type.
    pub kind: String,
    /// Where it stands in what was sent, as FHIRPath.
    pub place: String,
    /// Its bytes in the request's body.
    pub received: Range<usize>,
    /// The `id` it came with.
    pub logical_id: Option<String>,
    /// What it refers to, and the resources inside it.
    pub references: References,
    /// Its identifiers.
    pub identifiers: Vec<Identifier>,
    /// Its codes: (system, code).
    pub codes: Vec<(String, String)>,
    /// Its labels.
    pub labels: Labels,
    /// SHA-256 of its bytes, of a Patient and of an update: whether it is what is there already is told by it.
    pub digest: Option<Digest>,
    /// Its clinical days.
    pub days: Option<Days>,
    /// When what it tells of happened, to the instant.
    pub when: Option<Span>,
    edits: Edits,
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
enum MetaEdits {
    /// Versions and times are laid into it.
    Into {
        /// After the meta's `{`.
        open: usize,
        empty: bool,
        version: Option<Range<usize>>,
        updated: Option<Range<usize>>,
    },
    /// It is no object, so nothing can be laid into it. Such a resource is not taken any more.
    Whole(Range<usize>),
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
    /// Reads and validates the resource at `node` of `body`, which stands at `place`; nothing is said of its type where it has
    /// none.
    pub fn read(body: &[u8], node: &Node<'_>, bases: &Bases, place: &str) -> Result<Self, ResourceError> {
        let bytes = body.get(node.span.clone()).unwrap_or_default();
        // What JSON allows and no number of ours holds is told at its place.
        let value: Value = serde_json::from_slice(bytes).unwrap_or_else(|_number| value(body, node));
        let issues = validation::check(&value, place)?;
        if !issues.is_empty() {
            return Err(ResourceError::Invalid(issues));
        }
        let kind = node.get_text("resourceType").unwrap_or_default().to_owned();
        let digest = (kind == "Patient").then(|| Digest::of(bytes));
        Ok(Self { digest, ..Self::describe((body, node), &value, kind, bases, place) })
    }

    fn describe(
        (body, node): (&[u8], &Node<'_>),
        value: &Value,
        kind: String,
        bases: &Bases,
        place: &str,
    ) -> Self {
        Self {
            received: node.span.clone(),
            logical_id: node.get_text("id").map(str::to_owned),
            place: place.to_owned(),
            digest: None,
            references: References::of(body, node, bases, place),
            identifiers: identifiers(value),
            codes: codes(value),
            labels: classify::labels(value),
            days: Days::of(value),
            when: days::span(value),
            edits: Edits::of(node),
            kind,
        }
    }

    /// The overlay that gives it its id, version and time, and its references the targets that `resolve` knows.
    pub fn overlay(
        &self,
        id: &str,
        version: u32,
        updated: Timestamp,
        mut resolve: impl FnMut(&Reference) -> Option<String>,
    ) -> Result<Overlay, OverlayError> {
        let mut replacements = self.edits.replacements(id, version, updated);
        let edited: Vec<Range<usize>> = self.edits.spans().cloned().collect();
        for reference in &self.references.all {
            let target = resolve(reference);
            // What is replaced whole needs no reference in it.
            let gone = edited.iter().any(|span| span.contains(&reference.span.start));
            if let Some(target) = target.filter(|_| !gone) {
                // In a narrative it is a part of a string, and has nothing in it that is escaped.
                let text = if reference.form == Form::Narrative { target } else { quoted(&target) };
                replacements.push(replace(&reference.span, text));
            }
        }
        Overlay::new(replacements, self.received.len() as u64)
    }
}

impl Edits {
    fn of(node: &Node<'_>) -> Self {
        let start = node.span.start;
        let relative = |node: &Node<'_>| node.span.start - start..node.span.end - start;
        let meta = node.get("meta").map(|meta| match &meta.kind {
            Kind::Object(members) => MetaEdits::Into {
                open: meta.span.start - start + 1,
                empty: members.is_empty(),
                version: meta.get("versionId").map(relative),
                updated: meta.get("lastUpdated").map(relative),
            },
            Kind::Array(_) | Kind::Text(_) | Kind::Plain => MetaEdits::Whole(relative(meta)),
        });
        Self { open: 1, id: node.get("id").map(relative), meta }
    }

    /// What is replaced, not only added to.
    fn spans(&self) -> impl Iterator<Item = &Range<usize>> {
        let (one, two) = match &self.meta {
            None => (None, None),
            Some(MetaEdits::Into { version, updated, .. }) => (version.as_ref(), updated.as_ref()),
            Some(MetaEdits::Whole(span)) => (Some(span), None),
        };
        self.id.iter().chain(one).chain(two)
    }

    fn replacements(&self, id: &str, version: u32, updated: Timestamp) -> Vec<Replacement> {
        let id = quoted(id);
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
            Some(MetaEdits::Whole(span)) => {
                let meta = format!("{{\"versionId\":{version},\"lastUpdated\":{updated}}}");
                all.push(replace(span, meta));
            }
            Some(MetaEdits::Into { open, empty, version: version_at, updated: updated_at }) => {
                let mut inside = Vec::new();
                match version_at {
                    Some(span) => all.push(replace(span, version)),
                    None => inside.push(format!("\"versionId\":{version}")),
                }
                match updated_at {
                    Some(span) => all.push(replace(span, updated)),
                    None => inside.push(format!("\"lastUpdated\":{updated}")),
                }
                if !inside.is_empty() {
                    let comma = if *empty { "" } else { "," };
                    let text = format!("{}{comma}", inside.join(","));
                    all.push(Replacement { offset: *open as u64, length: 0, text });
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

/// The applied form of a stored resource whose own overlay makes no JSON of it (one with `"meta": null` was taken once):
/// its id, version and time are laid over it anew, and of the stored overlay the references.
pub fn mended(
    received: &[u8],
    stored: &Overlay,
    id: &str,
    version: u32,
    updated: Timestamp,
) -> Option<Vec<u8>> {
    let node = hbc_types::json::parse(received).ok()?;
    let edits = Edits::of(&node);
    let mut replacements = edits.replacements(id, version, updated);
    let references = References::of(received, &node, &Bases::default(), "");
    let at = |replacement: &Replacement| {
        let is = |reference: &&Reference| reference.span.start as u64 == replacement.offset;
        replacement.length > 0 && references.all.iter().any(|reference| is(&reference))
    };
    replacements.extend(stored.replacements().iter().filter(|replacement| at(replacement)).cloned());
    let overlay = Overlay::new(replacements, received.len() as u64).ok()?;
    overlay.apply(received).ok().filter(|applied| is_json(applied))
}

/// A value of `body` whose numbers may be beyond all that is kept: such a one stands as its text, where no text may stand.
#[must_use]
pub fn value(body: &[u8], node: &Node<'_>) -> Value {
    match &node.kind {
        Kind::Object(members) => Value::Object(
            members.iter().map(|(name, member)| (name.to_string(), value(body, member))).collect(),
        ),
        Kind::Array(items) => items.iter().map(|item| value(body, item)).collect(),
        Kind::Text(text) => Value::from(text.as_ref()),
        Kind::Plain => {
            let plain = body.get(node.span.clone()).unwrap_or_default();
            serde_json::from_slice(plain).unwrap_or_else(|_number| String::from_utf8_lossy(plain).into())
        }
    }
}

/// Whether the bytes are one JSON value.
#[must_use]
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// A JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The identifiers of a resource.
#[must_use]
pub fn identifiers(resource: &Value) -> Vec<Identifier> {
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
#[must_use]
pub fn codes(resource: &Value) -> Vec<(String, String)> {
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
    use proptest::prelude::*;

    use super::*;
    use crate::domain::reference::Target;
    use hbc_types::json;

    fn applied(text: &str) -> Value {
        let node = json::parse(text.as_bytes()).unwrap();
        let resource = Resource::read(text.as_bytes(), &node, &Bases::default(), "Observation").unwrap();
        let id = RecordId::random(&Random::seeded(1));
        let overlay = resource
            .overlay(id.as_str(), 1, Timestamp::from_ms(0), |reference| {
                (reference.target == Target::Urn("urn:uuid:1".to_owned())).then(|| "Patient/x".to_owned())
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
        applied(r#"{ "id" : "a\u0062", "resourceType":"Patient", "meta": { "source" : "urn:x" } }"#);
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
        let resource = Resource::read(text.as_bytes(), &node, &Bases::default(), "Observation").unwrap();
        let found: Vec<_> =
            resource.references.all.iter().map(|found| (found.path.as_str(), found.subject)).collect();
        assert_eq!(found, [("Observation.subject", true), ("Observation.performer[0]", false)]);
        assert_eq!(applied(text)["subject"]["reference"], "Patient/x");
    }

    #[test]
    fn a_poisoned_record_is_mended_when_it_is_read() {
        let received =
            br#"{"resourceType":"Observation","subject":{"reference":"urn:uuid:1"},"meta":null,"n":0.10}"#;
        let id = RecordId::random(&Random::seeded(1));
        // As it was laid out when `meta` was taken as an object, whatever it was.
        let at = received.windows(4).position(|four| four == b"null").unwrap() as u64;
        let subject = received.windows(12).position(|found| found == b"\"urn:uuid:1\"").unwrap() as u64;
        let replacement =
            |offset: u64, length: u64, text: &str| Replacement { offset, length, text: text.to_owned() };
        let stored = Overlay::new(
            vec![
                replacement(1, 0, "\"id\":\"rec\","),
                replacement(at + 1, 0, "\"versionId\":\"1\""),
                replacement(subject, 12, "\"Patient/x\""),
            ],
            received.len() as u64,
        )
        .unwrap();
        assert!(!is_json(&stored.apply(received).unwrap()));
        let applied = mended(received, &stored, id.as_str(), 1, Timestamp::from_ms(0)).unwrap();
        assert!(applied.ends_with(b"\"n\":0.10}"), "numbers stay as they were written");
        let value: Value = serde_json::from_slice(&applied).unwrap();
        assert_eq!(
            (&value["id"], &value["meta"]["versionId"]),
            (&Value::from(id.as_str()), &Value::from("1"))
        );
        assert_eq!(value["subject"]["reference"], "Patient/x");
    }

    /// Any JSON, of whatever shape where FHIR has its own.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            prop_oneof![Just("urn:uuid:1".to_owned()), Just("#p".to_owned()), "\\PC{0,6}"]
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let name = prop_oneof![
                Just("id"),
                Just("meta"),
                Just("versionId"),
                Just("lastUpdated"),
                Just("reference"),
                Just("url"),
                Just("identifier"),
                Just("subject"),
                Just("contained"),
                Just("resourceType"),
                Just("x"),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map(name.prop_map(str::to_owned), inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever stands where FHIR has `id`, `meta` or a reference: what is served is JSON with the right id and version.
        #[test]
        fn whatever_is_laid_over_stays_json(mut resource in any_json()) {
            if !resource.is_object() {
                resource = serde_json::json!({ "x": resource });
            }
            resource["resourceType"] = Value::from("Observation");
            let text = resource.to_string();
            let node = json::parse(text.as_bytes()).unwrap();
            let described = Resource::describe((text.as_bytes(), &node), &resource, "Observation".to_owned(), &Bases::default(), "Observation");
            let id = RecordId::random(&Random::seeded(1));
            let overlay =
                described.overlay(id.as_str(), 3, Timestamp::from_ms(0), |_| Some("Patient/x".to_owned())).unwrap();
            let applied = overlay.apply(text.as_bytes()).unwrap();
            prop_assert!(is_json(&applied), "{}", String::from_utf8_lossy(&applied));
            let value: Value = serde_json::from_slice(&applied).unwrap();
            prop_assert_eq!(&value["id"], id.as_str());
            prop_assert_eq!(&value["meta"]["versionId"], "3");
            prop_assert_eq!(&value["meta"]["lastUpdated"], "1970-01-01T00:00:00.000Z");
            let again = mended(text.as_bytes(), &overlay, id.as_str(), 3, Timestamp::from_ms(0)).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), value);
        }
    }
}
