//! Whose a resource is: the elements that say so, type by type, and what they say in one resource.
//!
//! A record stands in one patient's account, so the elements of [`SUBJECTS`] must name that account's Patient: in the
//! resource, in what it contains, and in the entries of a bundle that is kept as one record. Every other element (who
//! asserted, performed, pays, wrote) may name another Patient as data.

use std::collections::HashMap;
use std::ops::Range;

use hbc_types::json::{Kind, Node};

use crate::domain::definitions::{Definition, Definitions, Element, Role, Shape, definitions};
use crate::domain::index::Identifier;
use crate::domain::primitive::Primitive;
use crate::domain::reference::{Bases, Target, resource_type};

/// Types with the elements that say whose a resource of the type is. The types that are absent belong to nobody, or (as
/// `Patient`) to themselves.
pub const SUBJECTS: &[(&str, &[&str])] = &[
    ("Account", &["subject"]),
    ("AdverseEvent", &["subject"]),
    ("AllergyIntolerance", &["patient"]),
    ("Appointment", &["participant.actor"]),
    ("AppointmentResponse", &["actor"]),
    ("Basic", &["subject"]),
    ("BodyStructure", &["patient"]),
    ("CarePlan", &["subject"]),
    ("CareTeam", &["subject"]),
    ("ChargeItem", &["subject"]),
    ("Claim", &["patient"]),
    ("ClaimResponse", &["patient"]),
    ("ClinicalImpression", &["subject"]),
    ("Communication", &["subject"]),
    ("CommunicationRequest", &["subject"]),
    ("Composition", &["subject"]),
    ("Condition", &["subject"]),
    ("Consent", &["patient"]),
    ("Contract", &["subject"]),
    ("Coverage", &["beneficiary"]),
    ("CoverageEligibilityRequest", &["patient"]),
    ("CoverageEligibilityResponse", &["patient"]),
    ("DetectedIssue", &["patient"]),
    ("Device", &["patient"]),
    ("DeviceRequest", &["subject"]),
    ("DeviceUseStatement", &["subject"]),
    ("DiagnosticReport", &["subject"]),
    ("DocumentManifest", &["subject"]),
    ("DocumentReference", &["subject"]),
    ("Encounter", &["subject"]),
    ("EnrollmentRequest", &["candidate"]),
    ("EpisodeOfCare", &["patient"]),
    ("ExplanationOfBenefit", &["patient"]),
    ("FamilyMemberHistory", &["patient"]),
    ("Flag", &["subject"]),
    ("Goal", &["subject"]),
    ("GuidanceResponse", &["subject"]),
    ("ImagingStudy", &["subject"]),
    ("Immunization", &["patient"]),
    ("ImmunizationEvaluation", &["patient"]),
    ("ImmunizationRecommendation", &["patient"]),
    ("Invoice", &["subject"]),
    ("List", &["subject"]),
    ("MeasureReport", &["subject"]),
    ("Media", &["subject"]),
    ("MedicationAdministration", &["subject"]),
    ("MedicationDispense", &["subject"]),
    ("MedicationRequest", &["subject"]),
    ("MedicationStatement", &["subject"]),
    ("MolecularSequence", &["patient"]),
    ("NutritionOrder", &["patient"]),
    ("Observation", &["subject"]),
    ("Procedure", &["subject"]),
    ("QuestionnaireResponse", &["subject"]),
    ("RelatedPerson", &["patient"]),
    ("RequestGroup", &["subject"]),
    ("ResearchSubject", &["individual"]),
    ("RiskAssessment", &["subject"]),
    ("Schedule", &["actor"]),
    ("ServiceRequest", &["subject"]),
    ("Specimen", &["subject"]),
    ("SupplyDelivery", &["patient"]),
    ("Task", &["for"]),
    ("VisionPrescription", &["patient"]),
];

/// The elements of a type that say whose it is.
fn elements(kind: &str) -> &'static [&'static str] {
    let index = SUBJECTS.binary_search_by(|(name, _)| (*name).cmp(kind)).ok();
    index.and_then(|index| SUBJECTS.get(index)).map_or(&[], |(_, elements)| elements)
}

/// A reference in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Bytes of the JSON string, quotes included, relative to the resource.
    pub span: Range<usize>,
    /// What it names.
    pub target: Target,
    /// Where, as FHIRPath.
    pub path: String,
    /// Whether it says whose this is.
    pub subject: bool,
    /// What kind of element it is.
    pub form: Form,
    /// The resource among [`References::inner`] whose fragments it means; nothing for the outermost one.
    pub holder: Option<usize>,
}

/// What kind of element names a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A Reference.
    Reference,
    /// A uri, url, oid or uuid: it counts only if it names an entry of the same bundle.
    Link,
    /// A link in a narrative, likewise: a part of a JSON string.
    Narrative,
}

/// An element that says whose this is by an identifier alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Where, as FHIRPath.
    pub path: String,
    /// The type that it says it names.
    pub kind: Option<&'static str>,
    /// The identifier.
    pub identifier: Identifier,
}

/// A resource inside the resource: contained, or an entry of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where, as FHIRPath.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Whether it is contained.
    pub contained: bool,
    /// Its identifiers.
    pub identifiers: Vec<Identifier>,
}

/// All that a resource refers to, and the resources inside it.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Every reference, in the order of the bytes.
    pub all: Vec<Reference>,
    /// The subjects that are told by an identifier alone.
    pub logical: Vec<Logical>,
    /// The resources inside.
    pub inner: Vec<Inner>,
    /// Entries of a bundle by the names under which they are found; the first of a name counts.
    entries: HashMap<String, usize>,
    /// Contained resources by what they are contained in ([`Reference::holder`]) and their id; the first counts.
    contained: HashMap<(Option<usize>, String), usize>,
}

impl References {
    /// Of the resource at `node` of `body`, which stands at `place`.
    #[must_use]
    pub fn of(body: &[u8], node: &Node<'_>, bases: &Bases, place: &str) -> Self {
        let all = definitions().ok();
        let mut walk = Walk { body, start: node.span.start, bases, all, found: Self::default() };
        let kind = node.get_text("resourceType").unwrap_or_default();
        let of = walk.all.and_then(|all| all.resource(kind));
        walk.object(node, &Place { kind, of, path: place.to_owned(), within: String::new(), holder: None });
        walk.found
    }

    /// The resource inside that a reference names.
    #[must_use]
    pub fn inside(&self, reference: &Reference) -> Option<&Inner> {
        let index = match &reference.target {
            Target::Fragment(id) => self.contained.get(&(reference.holder, id.clone())),
            target => self.entries.get(&target.key()?),
        };
        self.inner.get(*index?)
    }
}

/// Where the walk stands.
struct Place<'p> {
    /// Type of the resource.
    kind: &'p str,
    /// What stands here, where it is known.
    of: Option<&'static Definition>,
    /// FHIRPath from the outermost resource on.
    path: String,
    /// Elements from the resource on, without positions in lists.
    within: String,
    /// See [`Reference::holder`].
    holder: Option<usize>,
}

struct Walk<'w> {
    body: &'w [u8],
    start: usize,
    bases: &'w Bases,
    all: Option<&'static Definitions>,
    found: References,
}

impl Walk<'_> {
    fn object(&mut self, node: &Node<'_>, place: &Place<'_>) {
        let subject = elements(place.kind).contains(&place.within.as_str());
        if subject && node.get("reference").is_none() {
            self.logical(node, &place.path);
        }
        for (name, member) in node.members() {
            let element = place.of.and_then(|of| of.elements.get(name.as_ref()));
            if let Kind::Text(text) = &member.kind {
                if name == "reference" && place.of.is_none_or(|of| of.role == Role::Reference) {
                    self.found(member.span.clone(), text, place, (subject, Form::Reference));
                } else if let Some(Element { shape: Shape::Primitive(primitive), .. }) = element {
                    self.link(*primitive, name, (member, text), place);
                }
                continue;
            }
            let within =
                if place.within.is_empty() { name.to_string() } else { format!("{}.{name}", place.within) };
            let path = format!("{}.{}", place.path, element.map_or(name.as_ref(), |element| &element.name));
            let of = self.all.zip(element).and_then(|(all, element)| all.of(&element.shape));
            let inside = Place { kind: place.kind, of, path, within, holder: place.holder };
            self.member(node, name, member, inside);
        }
    }

    fn found(&mut self, span: Range<usize>, text: &str, place: &Place<'_>, (subject, form): (bool, Form)) {
        self.found.all.push(Reference {
            span: span.start - self.start..span.end - self.start,
            target: Target::parse(text, self.bases),
            path: place.path.clone(),
            subject,
            form,
            holder: place.holder,
        });
    }

    /// What FHIR names beside references: "elements of type uri, url, oid, uuid", and links in the narrative. What is called
    /// by a canonical URL, and the name of an extension, stay; of a uri only a `urn:` can stand for an entry alone.
    ///
    /// Source: <https://hl7.org/fhir/R4/http.html#trules>.
    fn link(
        &mut self,
        primitive: Primitive,
        name: &str,
        (member, text): (&Node<'_>, &str),
        place: &Place<'_>,
    ) {
        let is_own_name = name == "fullUrl"
            || (name == "url"
                && (place.within.is_empty() || place.of.is_some_and(|of| of.role == Role::Extension)));
        let is_urn = || text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:"));
        match primitive {
            Primitive::Xhtml => {
                let raw = self.body.get(member.span.clone()).and_then(|raw| std::str::from_utf8(raw).ok());
                for (span, text) in raw.into_iter().flat_map(narrative_links) {
                    let span = member.span.start + span.start..member.span.start + span.end;
                    self.found(span, text, place, (false, Form::Narrative));
                }
            }
            Primitive::Url if !is_own_name => {
                self.found(member.span.clone(), text, place, (false, Form::Link));
            }
            Primitive::Uri | Primitive::Oid | Primitive::Uuid if !is_own_name && is_urn() => {
                self.found(member.span.clone(), text, place, (false, Form::Link));
            }
            _ => {}
        }
    }

    fn member(&mut self, parent: &Node<'_>, name: &str, member: &Node<'_>, place: Place<'_>) {
        match &member.kind {
            Kind::Object(_) => match member.get_text("resourceType") {
                Some(kind) if !place.within.is_empty() => self.resource(parent, name, member, kind, place),
                _ => self.object(member, &place),
            },
            Kind::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{}[{index}]", place.path);
                    self.member(parent, name, item, Place { path, within: place.within.clone(), ..place });
                }
            }
            Kind::Text(_) | Kind::Plain => {}
        }
    }

    /// A resource inside: `contained` in its parent, or with its own place beside a `fullUrl`.
    fn resource(&mut self, parent: &Node<'_>, name: &str, node: &Node<'_>, kind: &str, place: Place<'_>) {
        let contained = name == "contained";
        let id = node.get_text("id").map(str::to_owned);
        let own = self.found.inner.len();
        if contained {
            if let Some(id) = id {
                self.found.contained.entry((place.holder, id)).or_insert(own);
            }
        } else {
            let full_url = parent.get_text("fullUrl").map(|url| Target::parse(url, self.bases));
            let by_id = id.map(|id| format!("{kind}/{id}"));
            for name in full_url.and_then(|url| url.key()).into_iter().chain(by_id) {
                self.found.entries.entry(name).or_insert(own);
            }
        }
        self.found.inner.push(Inner {
            path: place.path.clone(),
            kind: kind.to_owned(),
            contained,
            identifiers: identifiers(node),
        });
        let holder = if contained { place.holder } else { Some(own) };
        let of = self.all.and_then(|all| all.resource(kind));
        self.object(node, &Place { kind, of, path: place.path, within: String::new(), holder });
    }

    fn logical(&mut self, node: &Node<'_>, path: &str) {
        if let Some(identifier) = node.get("identifier").and_then(identifier) {
            let kind = node.get_text("type").and_then(resource_type);
            self.found.logical.push(Logical { path: path.to_owned(), kind, identifier });
        }
    }
}

/// The values of `href` and `src` in XHTML as it is written in JSON, with their places there.
fn narrative_links(raw: &str) -> Vec<(Range<usize>, &str)> {
    let mut found = Vec::new();
    for attribute in ["href=", "src="] {
        for (at, _) in raw.match_indices(attribute) {
            let rest = raw.get(at + attribute.len()..).unwrap_or_default();
            let Some(quote) = ["\\\"", "'"].into_iter().find(|quote| rest.starts_with(quote)) else {
                continue;
            };
            let Some((value, _)) = rest.get(quote.len()..).and_then(|rest| rest.split_once(quote)) else {
                continue;
            };
            let start = at + attribute.len() + quote.len();
            if !value.is_empty() && !value.contains('\\') {
                found.push((start..start + value.len(), value));
            }
        }
    }
    // A value may look as if there were a link in it: of such the outer one counts.
    found.sort_by_key(|(span, _)| span.start);
    let mut end = 0;
    found.retain(|(span, _)| {
        let apart = span.start >= end;
        end = end.max(span.end);
        apart
    });
    found
}

fn identifier(node: &Node<'_>) -> Option<Identifier> {
    let system = node.get_text("system").unwrap_or_default().to_owned();
    // Without a value it names nobody: that is no identifier of the account's Patient either.
    let value = node.get_text("value").unwrap_or_default().to_owned();
    matches!(node.kind, Kind::Object(_)).then_some(Identifier { system, value })
}

fn identifiers(node: &Node<'_>) -> Vec<Identifier> {
    match node.get("identifier") {
        Some(Node { kind: Kind::Array(items), .. }) => items.iter().filter_map(identifier).collect(),
        Some(one) => identifier(one).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::Value;

    use super::*;

    /// What names a subject in HL7's schema stands in the table, or is known to name no patient.
    #[test]
    fn the_table_holds_every_subject_of_fhir() {
        assert!(SUBJECTS.is_sorted_by(|a, b| a.0 < b.0));
        let mut text = Vec::new();
        let packed = include_bytes!("../../data/fhir.schema.json.bz2");
        bzip2_rs::DecoderReader::new(packed.as_slice()).read_to_end(&mut text).unwrap();
        let schema: Value = serde_json::from_slice(&text).unwrap();
        let named = ["subject", "patient", "beneficiary", "individual", "for", "candidate", "actor"];
        let mut found = 0;
        for (kind, _) in hbc_types::classify::TYPES {
            // Products, and definitions that are about kinds of people.
            if kind.starts_with("MedicinalProduct") {
                continue;
            }
            for (element, definition) in schema["definitions"][kind]["properties"].as_object().unwrap() {
                let target = definition.get("$ref").or(definition["items"].get("$ref"));
                let is_reference = target.and_then(Value::as_str) == Some("#/definitions/Reference");
                if is_reference && named.contains(&element.as_str()) {
                    assert!(elements(kind).contains(&element.as_str()), "{kind}.{element}");
                    found += 1;
                }
            }
        }
        // The one that is nested.
        assert_eq!(found + 1, SUBJECTS.iter().map(|(_, elements)| elements.len()).sum::<usize>());
    }

    #[test]
    fn inner_resources_have_subjects_of_their_own() {
        let text = br##"{"resourceType":"Bundle","type":"document","entry":[
            {"fullUrl":"urn:uuid:A","resource":{"resourceType":"Condition","id":"c","subject":{"reference":"#p"},
                "contained":[{"resourceType":"Patient","id":"p","identifier":[{"system":"s","value":"v"}]}]}},
            {"resource":{"resourceType":"Appointment","participant":[{"actor":{"reference":"Patient/1"}}],
                "reasonReference":[{"reference":"urn:uuid:a"}]}}]}"##;
        let node = hbc_types::json::parse(text).unwrap();
        let found = References::of(text, &node, &Bases::default(), "Bundle");
        let seen: Vec<_> = found.all.iter().map(|found| (found.path.as_str(), found.subject)).collect();
        assert_eq!(
            seen,
            [
                ("Bundle.entry[0].resource.subject", true),
                ("Bundle.entry[1].resource.participant[0].actor", true),
                ("Bundle.entry[1].resource.reasonReference[0]", false),
            ]
        );
        let inside = |index: usize| found.inside(&found.all[index]).map(|inner| inner.path.as_str());
        assert_eq!(inside(0), Some("Bundle.entry[0].resource.contained[0]"));
        assert_eq!(inside(1), None);
        assert_eq!(inside(2), Some("Bundle.entry[0].resource"));
    }

    #[test]
    fn a_link_within_a_link_is_none() {
        let raw =
            r#""<a href=\"http://a.example/ src='urn:b'\">x</a><img src='urn:c'/><a href='urn:d'>y</a>""#;
        let found: Vec<&str> = narrative_links(raw).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["http://a.example/ src='urn:b'", "urn:c", "urn:d"]);
    }
}
