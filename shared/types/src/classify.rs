//! The one table that gives a FHIR R4 resource its labels: category by type and category codes, sensitivity by
//! sensitive codes.
//!
//! The lists are modest on purpose and name their limits:
//! - A sender's own security label (`meta.security`, HL7 v3 ActCode) always counts.
//! - Otherwise every coding anywhere in the resource is looked up, so that a claim or an encounter that names a
//!   sensitive diagnosis is as sensitive as the diagnosis. Free text, attachments and narrative are not read:
//!   a note that speaks of a diagnosis needs a security label of its own.
//! - Only SNOMED CT, ICD-10(-CM) and LOINC are known, and of them only what stands below.
//! - A record has one sensitivity. Where several match, the first in [`PRECEDENCE`] is taken.

mod sensitive;
mod types;

use serde_json::Value;

use crate::labels::{Category, Sensitivity};
use sensitive::{SENSITIVE_ICD10, SENSITIVE_LOINC, SENSITIVE_SNOMED};

pub use types::TYPES;

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
const ICD10: [&str; 2] = ["http://hl7.org/fhir/sid/icd-10-cm", "http://hl7.org/fhir/sid/icd-10"];
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// Which sensitivity wins when a record's codes point to several.
const PRECEDENCE: [Sensitivity; 7] = [
    Sensitivity::Violence,
    Sensitivity::Hiv,
    Sensitivity::Psychiatry,
    Sensitivity::SubstanceUse,
    Sensitivity::SubstanceAbuse,
    Sensitivity::SexuallyTransmitted,
    Sensitivity::Genetic,
];

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
    let vital =
        codings(resource.get("code")).any(|(system, code)| system == LOINC && VITAL_SIGNS.contains(&code));
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

/// The sensitivity of a resource: its security label, else the most sensitive of its codings.
#[must_use]
pub fn sensitivity(resource: &Value) -> Sensitivity {
    let security = resource.get("meta").and_then(|meta| meta.get("security")).and_then(Value::as_array);
    let labelled = security.into_iter().flatten().filter_map(coding).filter_map(|(system, code)| {
        if system == ACT_CODE { Sensitivity::parse(code).filter(|found| found.is_sensitive()) } else { None }
    });
    let mut rank = labelled.map(precedence).min().unwrap_or(PRECEDENCE.len());
    if rank == PRECEDENCE.len() {
        walk(resource, &mut |system, code| {
            rank = rank.min(code_sensitivity(system, code).map_or(rank, precedence));
        });
    }
    PRECEDENCE.get(rank).copied().unwrap_or(Sensitivity::Normal)
}

fn precedence(sensitivity: Sensitivity) -> usize {
    PRECEDENCE.iter().position(|candidate| *candidate == sensitivity).unwrap_or(PRECEDENCE.len())
}

/// The sensitivity that one code calls for.
#[must_use]
pub(crate) fn code_sensitivity(system: &str, code: &str) -> Option<Sensitivity> {
    let listed =
        |table: &[(&str, Sensitivity)]| table.iter().find(|(known, _)| *known == code).map(|(_, c)| *c);
    if system == SNOMED {
        listed(SENSITIVE_SNOMED)
    } else if system == LOINC {
        listed(SENSITIVE_LOINC)
    } else if ICD10.contains(&system) {
        let head = code.get(..3)?;
        SENSITIVE_ICD10.iter().find(|(from, to, _)| *from <= head && head <= *to).map(|(_, _, found)| *found)
    } else {
        None
    }
}

fn walk(value: &Value, visit: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(members) => {
            if let Some((system, code)) = coding(value) {
                visit(system, code);
            }
            members.values().for_each(|member| walk(member, visit));
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
