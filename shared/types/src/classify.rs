//! The one table that gives a FHIR R4 resource its labels: category by type and category codes, sensitivity by
//! sensitive codes.
//!
//! The lists are modest on purpose and name their limits:
//! - Every coding anywhere in the resource is looked up, so that a claim or an encounter that names a sensitive diagnosis
//!   is as sensitive as the diagnosis. Free text, attachments and narrative are not read: a note that speaks of a
//!   diagnosis needs a security label of its own.
//! - A sender's security labels count as well as the codes: they add, they never lower.
//! - Systems and codes are compared in one spelling: see [`systems`]. Of each system only what stands in the tables is
//!   known.
//! - A record has one sensitivity. Two or more at once, a label that is not known, and the confidentiality codes R and V
//!   make it `restricted`.
//!
//! Why: decision 0110.

mod sensitive;
pub mod systems;
mod types;

use serde_json::{Value, json};

use crate::labels::{Category, Labels, Sensitivity};
use sensitive::{
    HARMLESS_LABELS, SENSITIVE_ICD9, SENSITIVE_ICD10, SENSITIVE_LABELS, SENSITIVE_LOINC, SENSITIVE_RXNORM,
    SENSITIVE_SNOMED,
};
use systems::CodeSystem;

pub use types::TYPES;

/// LOINC codes of the FHIR vital signs profiles: an Observation with one of them and no category is a vital sign.
const VITAL_SIGNS: [&str; 20] = [
    "85353-1", "9279-1", "8867-4", "2708-6", "59408-5", "8310-5", "8302-2", "9843-4", "29463-7", "39156-5",
    "85354-9", "8480-6", "8462-4", "8478-0", "8306-3", "8287-5", "3141-9", "8331-1", "59576-9", "77606-2",
];

/// The category of a FHIR type before its category codes are looked at; nothing if the type is not of FHIR R4.
#[must_use]
pub fn type_category(fhir_type: &str) -> Option<Category> {
    let index = TYPES.binary_search_by(|(name, _)| (*name).cmp(fhir_type)).ok()?;
    TYPES.get(index).map(|(_, category)| *category)
}

/// Every category that resources of a FHIR type can have; none if the type is not of FHIR R4.
#[must_use]
pub fn type_categories(fhir_type: &str) -> Vec<Category> {
    let refined: &[Category] = match fhir_type {
        "Observation" => {
            &[Category::Laboratory, Category::VitalSigns, Category::SocialHistory, Category::Imaging]
        }
        "DiagnosticReport" => &[Category::Laboratory, Category::Imaging],
        _ => &[],
    };
    refined.iter().copied().chain(type_category(fhir_type)).collect()
}

/// The category of a resource: by its type, and for observations and reports by their category codes.
#[must_use]
pub fn category(resource: &Value) -> Category {
    let fhir_type = resource.get("resourceType").and_then(Value::as_str).unwrap_or_default();
    match fhir_type {
        "Observation" => observation_category(resource),
        "DiagnosticReport" => report_category(resource),
        _ => type_category(fhir_type).unwrap_or(Category::Other),
    }
}

fn observation_category(resource: &Value) -> Category {
    for (_, code) in codings(resource.get("category")) {
        match code {
            "laboratory" => return Category::Laboratory,
            "vital-signs" => return Category::VitalSigns,
            "social-history" | "survey" => return Category::SocialHistory,
            "imaging" => return Category::Imaging,
            _ => {}
        }
    }
    let vital = codings(resource.get("code")).any(|(system, code)| {
        CodeSystem::of(system) == Some(CodeSystem::Loinc) && VITAL_SIGNS.contains(&code.trim())
    });
    if vital { Category::VitalSigns } else { Category::Observation }
}

/// Diagnostic service sections of HL7 v2 table 0074, and the category code of US Core.
fn report_category(resource: &Value) -> Category {
    for (_, code) in codings(resource.get("category")) {
        match code {
            "LAB" | "BG" | "BLB" | "CH" | "CG" | "CTH" | "CUS" | "GE" | "HM" | "ICU" | "IMM" | "MB"
            | "MCB" | "MYC" | "OSL" | "PAR" | "PAT" | "PHR" | "SP" | "SR" | "TX" | "URN" | "VR"
            | "laboratory" => {
                return Category::Laboratory;
            }
            "RAD" | "CT" | "NMR" | "NMS" | "OUS" | "RUS" | "RX" | "VUS" | "XRC" | "EC" | "LP29684-5"
            | "imaging" => {
                return Category::Imaging;
            }
            _ => {}
        }
    }
    Category::Document
}

/// The labels of a resource.
#[must_use]
pub fn labels(resource: &Value) -> Labels {
    Labels { category: category(resource), sensitivity: sensitivity(resource) }
}

/// The sensitivity of a resource: all that its labels and its codings say, taken together.
#[must_use]
pub fn sensitivity(resource: &Value) -> Sensitivity {
    let mut found = Sensitivity::Normal;
    let mut visit = |sensitivity: Option<Sensitivity>| {
        found = sensitivity.map_or(found, |sensitivity| found.and(sensitivity));
    };
    walk(resource, &mut visit);
    found
}

/// What a security label says. One that is not known is taken to restrict.
fn label_sensitivity(label: &Value) -> Option<Sensitivity> {
    let text = |name: &str| label.get(name).and_then(Value::as_str).unwrap_or_default();
    let system = match text("system").trim() {
        "" => Some(CodeSystem::SecurityLabel),
        named => CodeSystem::of(named),
    };
    match system {
        Some(CodeSystem::Handling) => None,
        Some(CodeSystem::SecurityLabel) => {
            let code = CodeSystem::SecurityLabel.code(text("code"));
            if HARMLESS_LABELS.contains(&code.as_str()) {
                return None;
            }
            Some(listed(SENSITIVE_LABELS, &code).unwrap_or(Sensitivity::Restricted))
        }
        _ => Some(Sensitivity::Restricted),
    }
}

/// The sensitivity that one code calls for, wherever it stands.
#[must_use]
pub fn code_sensitivity(system: &str, code: &str) -> Option<Sensitivity> {
    if system.trim().is_empty() {
        // Numbers with a check digit are hardly anything else; what only looks like an ICD code may be.
        let guesses = [CodeSystem::Snomed, CodeSystem::Loinc].into_iter();
        let dotted = code.contains('.').then_some(CodeSystem::Icd10);
        return guesses.chain(dotted).find_map(|system| sensitivity_in(system, code));
    }
    sensitivity_in(CodeSystem::of(system)?, code)
}

fn sensitivity_in(system: CodeSystem, code: &str) -> Option<Sensitivity> {
    let code = system.code(code);
    match system {
        // An expression names several concepts: `86406008 |HIV infection| : 246454002 = 41769001`.
        CodeSystem::Snomed => code
            .split(|c: char| !c.is_ascii_digit())
            .filter(|concept| !concept.is_empty())
            .filter_map(|concept| listed(SENSITIVE_SNOMED, concept))
            .reduce(Sensitivity::and),
        CodeSystem::Loinc => listed(SENSITIVE_LOINC, &code),
        CodeSystem::RxNorm => listed(SENSITIVE_RXNORM, &code),
        CodeSystem::Icd10 => ranged(SENSITIVE_ICD10, &code),
        CodeSystem::Icd9 => ranged(SENSITIVE_ICD9, &code),
        CodeSystem::SecurityLabel => listed(SENSITIVE_LABELS, &code),
        CodeSystem::Handling => None,
    }
}

fn listed(table: &[(&str, Sensitivity)], code: &str) -> Option<Sensitivity> {
    table.iter().find(|(known, _)| *known == code).map(|(_, found)| *found)
}

/// By the first characters of a code, as many as the table's line has.
fn ranged(table: &[(&str, &str, Sensitivity)], code: &str) -> Option<Sensitivity> {
    let within = |from: &str, to: &str| code.get(..from.len()).is_some_and(|head| from <= head && head <= to);
    table.iter().find(|(from, to, _)| within(from, to)).map(|(_, _, found)| *found)
}

/// Elements that hold security labels, as codings or concepts: of the resource, of what it contains, of a document.
const LABEL_ELEMENTS: [&str; 2] = ["security", "securityLabel"];

fn walk(value: &Value, visit: &mut impl FnMut(Option<Sensitivity>)) {
    match value {
        Value::Object(members) => {
            if let Some((system, code)) = coding(value) {
                visit(code_sensitivity(system, code));
            }
            // A code of v3 Confidentiality without its system.
            if let Some(code) = members.get("confidentiality").filter(|code| code.is_string()) {
                visit(label_sensitivity(&json!({ "code": code })));
            }
            for (name, member) in members {
                let labels = LABEL_ELEMENTS.contains(&name.as_str());
                // `CapabilityStatement.rest.security` is no label.
                for label in member.as_array().filter(|_| labels).into_iter().flatten() {
                    match label.get("coding").and_then(Value::as_array) {
                        Some(codings) => codings.iter().for_each(|coding| visit(label_sensitivity(coding))),
                        None => visit(label_sensitivity(label)),
                    }
                }
                walk(member, visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

fn coding(value: &Value) -> Option<(&str, &str)> {
    let code = value.get("code")?.as_str()?;
    Some((value.get("system").and_then(Value::as_str).unwrap_or_default(), code))
}

/// The codings of a CodeableConcept or of a list of them.
fn codings(concept: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    let concepts = match concept {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    concepts
        .iter()
        .filter_map(|concept| concept.get("coding").and_then(Value::as_array))
        .flatten()
        .filter_map(coding)
}

#[cfg(test)]
mod tests;
