//! A patient's summary: which resource belongs to which section of an International Patient Summary, and the document made of
//! them.
//!
//! A section that holds nothing says why: an absence must not look like "none known".
//!
//! Source: <https://hl7.org/fhir/uv/ips/>, <https://hl7.org/fhir/R4/documents.html>. Why: decision 0140.

use hbc_types::Timestamp;
use hbc_types::ids::PatientId;
use hbc_types::json::{self, Node};
use hbc_types::labels::Category;
use serde_json::{Value, json};

/// Rows of one section at most: the latest.
pub const MOST_ROWS: usize = 100;

/// A section of the summary.
#[derive(Debug)]
pub struct Section {
    /// Its title.
    pub title: &'static str,
    /// Its LOINC code.
    pub code: &'static str,
    /// The types of resources in it.
    pub kinds: &'static [&'static str],
    /// The categories of which all must be open, so that nothing is missing in it.
    pub categories: &'static [Category],
    /// Whether it stands in the summary even if there is nothing in it.
    pub always: bool,
}

/// The sections, in their order.
pub const SECTIONS: [Section; 9] = [
    section("Allergies and intolerances", "48765-2", &["AllergyIntolerance"], &[Category::Allergy], true),
    section(
        "Medication",
        "10160-0",
        &["MedicationRequest", "MedicationStatement"],
        &[Category::Medication],
        true,
    ),
    section("Problems", "11450-4", &["Condition"], &[Category::Condition], true),
    section("Immunizations", "11369-6", &["Immunization"], &[Category::Immunization], false),
    section("Procedures", "47519-4", &["Procedure"], &[Category::Procedure], false),
    section("Results", "30954-2", &["Observation", "DiagnosticReport"], &[Category::Laboratory], false),
    section("Vital signs", "8716-3", &["Observation"], &[Category::VitalSigns], false),
    section("Social history", "29762-2", &["Observation"], &[Category::SocialHistory], false),
    section("Past illness", "11348-0", &["Condition"], &[Category::Condition], false),
];

const fn section(
    title: &'static str,
    code: &'static str,
    kinds: &'static [&'static str],
    categories: &'static [Category],
    always: bool,
) -> Section {
    Section { title, code, kinds, categories, always }
}

/// The types that a summary shows.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let mut all: Vec<&str> = SECTIONS.iter().flat_map(|section| section.kinds).copied().collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

/// A resource that is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its type.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its category.
    pub category: Category,
    /// Its bytes.
    pub applied: Vec<u8>,
    /// The same, read.
    pub value: Value,
}

/// The place of the section in which a resource stands; nothing if a summary leaves it out.
#[must_use]
pub fn section_of(resource: &Value, category: Category) -> Option<usize> {
    let kind = resource.get("resourceType").and_then(Value::as_str)?;
    let status = resource.get("status").and_then(Value::as_str).unwrap_or_default();
    let verification = code_of(resource.get("verificationStatus"));
    if matches!(verification.as_deref(), Some("entered-in-error" | "refuted")) || status == "entered-in-error"
    {
        return None;
    }
    let is_past = || {
        let clinical = code_of(resource.get("clinicalStatus"));
        matches!(clinical.as_deref(), Some("inactive" | "remission" | "resolved"))
    };
    let code = match kind {
        "AllergyIntolerance" => "48765-2",
        "MedicationRequest" => matches!(status, "active" | "on-hold" | "unknown").then_some("10160-0")?,
        "MedicationStatement" => (!matches!(status, "not-taken" | "stopped")).then_some("10160-0")?,
        "Condition" => {
            if is_past() {
                "11348-0"
            } else {
                "11450-4"
            }
        }
        "Immunization" => (status == "completed").then_some("11369-6")?,
        "Procedure" => matches!(status, "completed" | "in-progress").then_some("47519-4")?,
        "Observation" | "DiagnosticReport" => match category {
            Category::Laboratory => "30954-2",
            Category::VitalSigns => "8716-3",
            Category::SocialHistory => "29762-2",
            _ => return None,
        },
        _ => return None,
    };
    SECTIONS.iter().position(|section| section.code == code)
}

/// What the document says beside its resources.
#[derive(Clone, Debug)]
pub struct Setting<'s> {
    /// Whose it is.
    pub patient: &'s PatientId,
    /// The URL of `/fhir`.
    pub base: &'s str,
    /// When it is made.
    pub now: Timestamp,
    /// A UUID of each: the document, its composition, its author.
    pub uuids: [String; 3],
    /// Categories of which the reader may see nothing, or not all.
    pub left_out: &'s [Category],
}

/// The document: a Bundle with the Composition first. Resources are put in as the bytes that they are.
#[must_use]
pub fn document(setting: &Setting<'_>, patient: Option<Vec<u8>>, shown: &[Shown]) -> Vec<u8> {
    let [document, composition, author] = &setting.uuids;
    let mut sections: Vec<Vec<&Shown>> = SECTIONS.iter().map(|_section| Vec::new()).collect();
    for resource in shown {
        let place = section_of(&resource.value, resource.category);
        if let Some(section) = place.and_then(|place| sections.get_mut(place)) {
            section.push(resource);
        }
    }
    let stated = SECTIONS.iter().zip(&sections).filter_map(|(section, rows)| stated(setting, section, rows));
    let subject = format!("Patient/{}", setting.patient);
    let text =
        "This summary holds what HBC keeps of the patient and the reader may see, without what is sensitive.";
    let composition_resource = json!({
        "resourceType": "Composition",
        "id": composition,
        "text": {"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>{text}</p></div>")},
        "status": "final",
        "type": {"coding": [{"system": "http://loinc.org", "code": "60591-5", "display": "Patient summary Document"}]},
        // Relative references are relative to the entry's own URL, and this one's is no place.
        "subject": {"reference": format!("{}/{subject}", setting.base)},
        "date": setting.now.to_string(),
        "author": [{"reference": format!("urn:uuid:{author}")}],
        "title": "Patient summary",
        "confidentiality": "N",
        "section": stated.collect::<Vec<_>>(),
    });
    let device = json!({"resourceType": "Device", "id": author,
        "deviceName": [{"name": "HBC storage", "type": "manufacturer-name"}]});
    let unknown =
        || json!({"resourceType": "Patient", "id": setting.patient.as_str()}).to_string().into_bytes();
    let mut entries = vec![
        entry(&format!("urn:uuid:{composition}"), composition_resource.to_string().as_bytes()),
        entry(&format!("{}/{subject}", setting.base), &patient.unwrap_or_else(unknown)),
        entry(&format!("urn:uuid:{author}"), device.to_string().as_bytes()),
    ];
    entries.extend(sections.iter().flatten().map(|resource| {
        entry(&format!("{}/{}/{}", setting.base, resource.kind, resource.id), &resource.applied)
    }));
    let head = json!({"system": "urn:ietf:rfc:3986", "value": format!("urn:uuid:{document}")});
    let mut bundle = format!(
        "{{\"resourceType\":\"Bundle\",\"identifier\":{head},\"type\":\"document\",\"timestamp\":{},\"entry\":[",
        Value::from(setting.now.to_string())
    )
    .into_bytes();
    bundle.extend_from_slice(&entries.join(&b','));
    bundle.extend_from_slice(b"]}");
    bundle
}

fn entry(url: &str, resource: &[u8]) -> Vec<u8> {
    let mut entry = format!("{{\"fullUrl\":{},\"resource\":", Value::from(url)).into_bytes();
    entry.extend_from_slice(resource);
    entry.push(b'}');
    entry
}

/// A section as the Composition states it.
fn stated(setting: &Setting<'_>, section: &Section, rows: &[&Shown]) -> Option<Value> {
    let withheld = section.categories.iter().any(|category| setting.left_out.contains(category));
    let mut stated = json!({
        "title": section.title,
        "code": {"coding": [{"system": "http://loinc.org", "code": section.code}]},
    });
    let members = stated.as_object_mut()?;
    let div = if rows.is_empty() {
        if !section.always && !withheld {
            return None;
        }
        let (reason, text) = match withheld {
            true => ("withheld", "Not shown: no grant of the reader opens such records."),
            false => (
                "unavailable",
                "No such record that this summary shows. Nothing is said of what is not recorded here.",
            ),
        };
        let system = "http://terminology.hl7.org/CodeSystem/list-empty-reason";
        let coding = json!({"coding": [{"system": system, "code": reason}]});
        members.insert("emptyReason".to_owned(), coding);
        format!("<p>{text}</p>")
    } else {
        let entries: Vec<Value> = rows
            .iter()
            .map(|row| json!({"reference": format!("{}/{}/{}", setting.base, row.kind, row.id)}))
            .collect();
        members.insert("entry".to_owned(), Value::from(entries));
        let told: String = rows.iter().map(|row| narrative(row)).collect();
        format!(
            "<table><thead><tr><th>What</th><th>When</th><th>Status or value</th></tr></thead><tbody>{told}</tbody></table>"
        )
    };
    let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{div}</div>");
    members.insert("text".to_owned(), json!({"status": "generated", "div": div}));
    Some(stated)
}

/// One row of a section's narrative.
fn narrative(row: &Shown) -> String {
    let what = ["code", "medicationCodeableConcept", "vaccineCode"]
        .iter()
        .find_map(|name| words(row.value.get(*name)?));
    let what = what.or_else(|| {
        let medication = row.value.get("medicationReference")?;
        ["display", "reference"].iter().find_map(|name| medication.get(*name)?.as_str()).map(str::to_owned)
    });
    let when = WHEN.iter().find_map(|name| match row.value.get(*name)? {
        Value::String(text) => Some(text.clone()),
        period => period.get("start").and_then(Value::as_str).map(str::to_owned),
    });
    let status = code_of(row.value.get("clinicalStatus"))
        .or_else(|| row.value.get("status").and_then(Value::as_str).map(str::to_owned));
    let told = json::parse(&row.applied).ok().and_then(|node| observed(&row.applied, &node)).or(status);
    let cell = |text: Option<String>| escaped(&text.unwrap_or_else(|| "–".to_owned()));
    format!("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", cell(what), cell(when), cell(told))
}

/// Elements that tell when something was, as they are shown.
const WHEN: [&str; 10] = [
    "effectiveDateTime",
    "effectivePeriod",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "onsetDateTime",
    "onsetPeriod",
    "authoredOn",
    "recordedDate",
    "issued",
];

/// The value of an observation, its number as it is written.
fn observed(text: &[u8], node: &Node<'_>) -> Option<String> {
    if let Some(quantity) = node.get("valueQuantity") {
        let value = quantity.get("value")?;
        let number = std::str::from_utf8(text.get(value.span.clone())?).ok()?;
        let unit = quantity.get_text("unit").or_else(|| quantity.get_text("code")).unwrap_or_default();
        return Some(format!("{number} {unit}").trim_end().to_owned());
    }
    if let Some(concept) = node.get("valueCodeableConcept") {
        let bytes = text.get(concept.span.clone())?;
        return words(&serde_json::from_slice(bytes).ok()?);
    }
    node.get_text("valueString").map(str::to_owned)
}

/// What a CodeableConcept says in words.
fn words(concept: &Value) -> Option<String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    text(concept, "text").or_else(|| {
        let coding = concept.get("coding")?.as_array()?.first()?;
        text(coding, "display").or_else(|| text(coding, "code"))
    })
}

/// The first code of a CodeableConcept.
fn code_of(concept: Option<&Value>) -> Option<String> {
    concept?
        .get("coding")?
        .as_array()?
        .iter()
        .find_map(|coding| coding.get("code")?.as_str().map(str::to_owned))
}

/// Text in XHTML. What XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;

    use super::*;
    use crate::domain::validation;

    fn shown(category: Category, value: &Value, raw: &str) -> Shown {
        let kind = value["resourceType"].as_str().unwrap().to_owned();
        Shown {
            kind,
            id: "rec-1".to_owned(),
            category,
            applied: raw.as_bytes().to_vec(),
            value: value.clone(),
        }
    }

    fn summary(shown: &[Shown], left_out: &[Category]) -> (Value, String) {
        let patient = PatientId::random(&Random::seeded(1));
        let uuids = ["a", "b", "c"].map(|one| format!("{}-0000-4000-8000-000000000000", one.repeat(8)));
        let setting = Setting {
            patient: &patient,
            base: "https://records.example/fhir",
            now: Timestamp::from_ms(0),
            uuids,
            left_out,
        };
        let text = String::from_utf8(document(&setting, None, shown)).unwrap();
        (serde_json::from_str(&text).unwrap(), text)
    }

    #[test]
    fn an_absence_says_why() {
        let (bundle, _) = summary(&[], &[Category::Allergy, Category::Immunization]);
        assert_eq!(validation::check(&bundle, "Bundle").unwrap(), []);
        let sections = bundle["entry"][0]["resource"]["section"].as_array().unwrap();
        let reason = |index: usize| sections[index]["emptyReason"]["coding"][0]["code"].as_str().unwrap();
        assert_eq!(
            [reason(0), reason(1), reason(2), reason(3)],
            ["withheld", "unavailable", "unavailable", "withheld"]
        );
        assert_eq!(sections.len(), 4, "what need not stand there and is not withheld does not");
    }

    #[test]
    fn resources_stand_in_their_sections_as_they_were_written() {
        let raw = r#"{"resourceType":"Observation","id":"rec-1","status":"final","code":{"text":"a < b & c"},
            "effectiveDateTime":"2021-05-06","valueQuantity":{"value":0.10,"unit":"g"}}"#;
        let value: Value = serde_json::from_str(raw).unwrap();
        let (bundle, text) = summary(&[shown(Category::Laboratory, &value, raw)], &[]);
        assert_eq!(validation::check(&bundle, "Bundle").unwrap(), []);
        assert!(text.contains("\"value\":0.10"));
        let section = bundle["entry"][0]["resource"]["section"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(section["title"], "Results");
        let div = section["text"]["div"].as_str().unwrap();
        assert!(div.contains("<td>a &lt; b &amp; c</td><td>2021-05-06</td><td>0.10 g</td>"), "{div}");
        assert_eq!(section["entry"][0]["reference"], bundle["entry"][3]["fullUrl"]);
    }

    #[test]
    fn what_is_over_or_wrong_is_not_current() {
        let title = |value: Value| section_of(&value, Category::Condition).map(|place| SECTIONS[place].title);
        let condition = |status: &str| json!({"resourceType": "Condition", "clinicalStatus": {"coding": [{"code": status}]}});
        assert_eq!(title(condition("active")), Some("Problems"));
        assert_eq!(title(condition("resolved")), Some("Past illness"));
        let wrong = json!({"resourceType": "Condition", "verificationStatus": {"coding": [{"code": "entered-in-error"}]}});
        assert_eq!(title(wrong), None);
        assert_eq!(title(json!({"resourceType": "MedicationRequest", "status": "stopped"})), None);
        assert_eq!(title(json!({"resourceType": "Claim"})), None);
    }
}
