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

use serde_json::Value;

use crate::labels::{Category, Sensitivity};

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

/// Every FHIR R4 resource type, with the category of its records.
///
/// `Observation` and `DiagnosticReport` are refined by their category codes: see [`category`].
pub const TYPES: &[(&str, Category)] = &[
    ("Account", Category::Financial),
    ("ActivityDefinition", Category::Other),
    ("AdverseEvent", Category::Condition),
    ("AllergyIntolerance", Category::Allergy),
    ("Appointment", Category::Encounter),
    ("AppointmentResponse", Category::Encounter),
    ("AuditEvent", Category::Other),
    ("Basic", Category::Other),
    ("Binary", Category::Document),
    ("BiologicallyDerivedProduct", Category::Other),
    ("BodyStructure", Category::Condition),
    ("Bundle", Category::Document),
    ("CapabilityStatement", Category::Other),
    ("CarePlan", Category::CarePlan),
    ("CareTeam", Category::CarePlan),
    ("CatalogEntry", Category::Other),
    ("ChargeItem", Category::Financial),
    ("ChargeItemDefinition", Category::Financial),
    ("Claim", Category::Financial),
    ("ClaimResponse", Category::Financial),
    ("ClinicalImpression", Category::Condition),
    ("CodeSystem", Category::Other),
    ("Communication", Category::CarePlan),
    ("CommunicationRequest", Category::CarePlan),
    ("CompartmentDefinition", Category::Other),
    ("Composition", Category::Document),
    ("ConceptMap", Category::Other),
    ("Condition", Category::Condition),
    ("Consent", Category::Document),
    ("Contract", Category::Financial),
    ("Coverage", Category::Financial),
    ("CoverageEligibilityRequest", Category::Financial),
    ("CoverageEligibilityResponse", Category::Financial),
    ("DetectedIssue", Category::Condition),
    ("Device", Category::Device),
    ("DeviceDefinition", Category::Device),
    ("DeviceMetric", Category::Device),
    ("DeviceRequest", Category::Device),
    ("DeviceUseStatement", Category::Device),
    ("DiagnosticReport", Category::Document),
    ("DocumentManifest", Category::Document),
    ("DocumentReference", Category::Document),
    ("EffectEvidenceSynthesis", Category::Other),
    ("Encounter", Category::Encounter),
    ("Endpoint", Category::Directory),
    ("EnrollmentRequest", Category::Financial),
    ("EnrollmentResponse", Category::Financial),
    ("EpisodeOfCare", Category::Encounter),
    ("EventDefinition", Category::Other),
    ("Evidence", Category::Other),
    ("EvidenceVariable", Category::Other),
    ("ExampleScenario", Category::Other),
    ("ExplanationOfBenefit", Category::Financial),
    ("FamilyMemberHistory", Category::Condition),
    ("Flag", Category::Condition),
    ("Goal", Category::CarePlan),
    ("GraphDefinition", Category::Other),
    ("Group", Category::Other),
    ("GuidanceResponse", Category::CarePlan),
    ("HealthcareService", Category::Directory),
    ("ImagingStudy", Category::Imaging),
    ("Immunization", Category::Immunization),
    ("ImmunizationEvaluation", Category::Immunization),
    ("ImmunizationRecommendation", Category::Immunization),
    ("ImplementationGuide", Category::Other),
    ("InsurancePlan", Category::Directory),
    ("Invoice", Category::Financial),
    ("Library", Category::Other),
    ("Linkage", Category::Other),
    ("List", Category::Other),
    ("Location", Category::Directory),
    ("Measure", Category::Other),
    ("MeasureReport", Category::Other),
    ("Media", Category::Imaging),
    ("Medication", Category::Medication),
    ("MedicationAdministration", Category::Medication),
    ("MedicationDispense", Category::Medication),
    ("MedicationKnowledge", Category::Medication),
    ("MedicationRequest", Category::Medication),
    ("MedicationStatement", Category::Medication),
    ("MedicinalProduct", Category::Medication),
    ("MedicinalProductAuthorization", Category::Medication),
    ("MedicinalProductContraindication", Category::Medication),
    ("MedicinalProductIndication", Category::Medication),
    ("MedicinalProductIngredient", Category::Medication),
    ("MedicinalProductInteraction", Category::Medication),
    ("MedicinalProductManufactured", Category::Medication),
    ("MedicinalProductPackaged", Category::Medication),
    ("MedicinalProductPharmaceutical", Category::Medication),
    ("MedicinalProductUndesirableEffect", Category::Medication),
    ("MessageDefinition", Category::Other),
    ("MessageHeader", Category::Other),
    ("MolecularSequence", Category::Laboratory),
    ("NamingSystem", Category::Other),
    ("NutritionOrder", Category::CarePlan),
    ("Observation", Category::Observation),
    ("ObservationDefinition", Category::Other),
    ("OperationDefinition", Category::Other),
    ("OperationOutcome", Category::Other),
    ("Organization", Category::Directory),
    ("OrganizationAffiliation", Category::Directory),
    ("Parameters", Category::Other),
    ("Patient", Category::Demographics),
    ("PaymentNotice", Category::Financial),
    ("PaymentReconciliation", Category::Financial),
    ("Person", Category::Demographics),
    ("PlanDefinition", Category::Other),
    ("Practitioner", Category::Directory),
    ("PractitionerRole", Category::Directory),
    ("Procedure", Category::Procedure),
    ("Provenance", Category::Other),
    ("Questionnaire", Category::Other),
    ("QuestionnaireResponse", Category::SocialHistory),
    ("RelatedPerson", Category::Demographics),
    ("RequestGroup", Category::CarePlan),
    ("ResearchDefinition", Category::Other),
    ("ResearchElementDefinition", Category::Other),
    ("ResearchStudy", Category::Other),
    ("ResearchSubject", Category::Other),
    ("RiskAssessment", Category::Condition),
    ("RiskEvidenceSynthesis", Category::Other),
    ("Schedule", Category::Directory),
    ("SearchParameter", Category::Other),
    ("ServiceRequest", Category::Procedure),
    ("Slot", Category::Directory),
    ("Specimen", Category::Laboratory),
    ("SpecimenDefinition", Category::Other),
    ("StructureDefinition", Category::Other),
    ("StructureMap", Category::Other),
    ("Subscription", Category::Other),
    ("Substance", Category::Medication),
    ("SubstanceNucleicAcid", Category::Medication),
    ("SubstancePolymer", Category::Medication),
    ("SubstanceProtein", Category::Medication),
    ("SubstanceReferenceInformation", Category::Medication),
    ("SubstanceSourceMaterial", Category::Medication),
    ("SubstanceSpecification", Category::Medication),
    ("SupplyDelivery", Category::Device),
    ("SupplyRequest", Category::Device),
    ("Task", Category::CarePlan),
    ("TerminologyCapabilities", Category::Other),
    ("TestReport", Category::Other),
    ("TestScript", Category::Other),
    ("ValueSet", Category::Other),
    ("VerificationResult", Category::Other),
    ("VisionPrescription", Category::Device),
];

/// LOINC codes of the FHIR vital signs profiles: an Observation with one of them and no category is a vital sign.
const VITAL_SIGNS: [&str; 20] = [
    "85353-1", "9279-1", "8867-4", "2708-6", "59408-5", "8310-5", "8302-2", "9843-4", "29463-7", "39156-5",
    "85354-9", "8480-6", "8462-4", "8478-0", "8306-3", "8287-5", "3141-9", "8331-1", "59576-9", "77606-2",
];

/// LOINC codes with their sensitivity. The displays are LOINC's.
const SENSITIVE_LOINC: &[(&str, Sensitivity)] = &[
    ("7917-8", Sensitivity::Hiv),                  // HIV 1 Ab [Presence] in Serum
    ("7918-6", Sensitivity::Hiv),                  // HIV 1+2 Ab [Presence] in Serum
    ("20447-9", Sensitivity::Hiv),                 // HIV 1 RNA [#/volume] (viral load)
    ("55277-8", Sensitivity::Hiv),                 // HIV status
    ("25836-8", Sensitivity::Hiv),                 // HIV 1 RNA [#/volume]
    ("29541-0", Sensitivity::Hiv),                 // HIV 1 RNA [Log #/volume]
    ("56888-1", Sensitivity::Hiv),                 // HIV 1+2 Ab+HIV1 p24 Ag [Presence]
    ("75622-1", Sensitivity::Hiv),                 // HIV 1 and 2 tests
    ("44249-1", Sensitivity::Psychiatry),          // PHQ-9 panel
    ("44261-6", Sensitivity::Psychiatry),          // PHQ-9 total score
    ("55757-9", Sensitivity::Psychiatry),          // PHQ-2 panel
    ("55758-7", Sensitivity::Psychiatry),          // PHQ-2 total score
    ("69737-5", Sensitivity::Psychiatry),          // GAD-7 panel
    ("70274-6", Sensitivity::Psychiatry),          // GAD-7 total score
    ("75626-2", Sensitivity::SubstanceUse),        // AUDIT-C total score
    ("72109-2", Sensitivity::SubstanceUse),        // AUDIT-C panel
    ("82667-7", Sensitivity::SubstanceUse),        // DAST-10 total score
    ("82666-9", Sensitivity::SubstanceUse),        // DAST-10 panel
    ("65750-2", Sensitivity::SubstanceUse),        // Drugs of abuse 5 panel, urine
    ("20507-0", Sensitivity::SexuallyTransmitted), // Reagin Ab by RPR
    ("21613-5", Sensitivity::SexuallyTransmitted), // Chlamydia trachomatis DNA
    ("24111-7", Sensitivity::SexuallyTransmitted), // Neisseria gonorrhoeae DNA
    ("51969-4", Sensitivity::Genetic),             // Genetic analysis report
    ("53037-8", Sensitivity::Genetic),             // Genetic variation clinical significance
    ("69548-6", Sensitivity::Genetic),             // Genetic variant assessment
    ("81247-9", Sensitivity::Genetic),             // Genetic variant reporting panel
    ("76499-3", Sensitivity::Violence),            // HARK panel
    ("76504-0", Sensitivity::Violence),            // HARK total score
    ("28245-9", Sensitivity::Violence),            // Abuse status
];

/// SNOMED CT concepts with their sensitivity.
const SENSITIVE_SNOMED: &[(&str, Sensitivity)] = &[
    ("19030005", Sensitivity::Hiv),                   // Human immunodeficiency virus
    ("62479008", Sensitivity::Hiv),                   // AIDS
    ("86406008", Sensitivity::Hiv),                   // HIV infection
    ("91947003", Sensitivity::Hiv),                   // Asymptomatic HIV infection
    ("165816005", Sensitivity::Hiv),                  // HIV positive
    ("13746004", Sensitivity::Psychiatry),            // Bipolar disorder
    ("21897009", Sensitivity::Psychiatry),            // Generalized anxiety disorder
    ("35489007", Sensitivity::Psychiatry),            // Depressive disorder
    ("36923009", Sensitivity::Psychiatry),            // Major depression, single episode
    ("47505003", Sensitivity::Psychiatry),            // Post-traumatic stress disorder
    ("58214004", Sensitivity::Psychiatry),            // Schizophrenia
    ("66344007", Sensitivity::Psychiatry),            // Recurrent major depression
    ("69322001", Sensitivity::Psychiatry),            // Psychotic disorder
    ("72366004", Sensitivity::Psychiatry),            // Eating disorder
    ("74732009", Sensitivity::Psychiatry),            // Mental disorder
    ("80583007", Sensitivity::Psychiatry),            // Severe anxiety (panic)
    ("191736004", Sensitivity::Psychiatry),           // Obsessive-compulsive disorder
    ("197480006", Sensitivity::Psychiatry),           // Anxiety disorder
    ("231504006", Sensitivity::Psychiatry),           // Mixed anxiety and depressive disorder
    ("370143000", Sensitivity::Psychiatry),           // Major depressive disorder
    ("371631005", Sensitivity::Psychiatry),           // Panic disorder
    ("6525002", Sensitivity::SubstanceUse),           // Dependent drug abuse
    ("7200002", Sensitivity::SubstanceUse),           // Alcoholism
    ("66590003", Sensitivity::SubstanceUse),          // Alcohol dependence
    ("75544000", Sensitivity::SubstanceUse),          // Opioid dependence
    ("191816009", Sensitivity::SubstanceUse),         // Drug dependence
    ("10939881000119105", Sensitivity::SubstanceUse), // Unhealthy alcohol drinking behaviour
    ("56876005", Sensitivity::SubstanceUse),          // Drug rehabilitation and detoxification
    ("60112009", Sensitivity::SubstanceUse),          // Drug addiction counseling
    ("61480009", Sensitivity::SubstanceUse),          // Drug detoxification
    ("266707007", Sensitivity::SubstanceUse),         // Drug addiction therapy
    ("5602001", Sensitivity::SubstanceAbuse),         // Opioid abuse
    ("15167005", Sensitivity::SubstanceAbuse),        // Alcohol abuse
    ("26416006", Sensitivity::SubstanceAbuse),        // Drug abuse
    ("55680006", Sensitivity::SubstanceAbuse),        // Drug overdose
    ("361055000", Sensitivity::SubstanceAbuse),       // Misuses drugs
    ("8098009", Sensitivity::SexuallyTransmitted),    // Sexually transmitted infectious disease
    ("15628003", Sensitivity::SexuallyTransmitted),   // Gonorrhea
    ("33839006", Sensitivity::SexuallyTransmitted),   // Genital herpes simplex
    ("76272004", Sensitivity::SexuallyTransmitted),   // Syphilis
    ("240589008", Sensitivity::SexuallyTransmitted),  // Chlamydia trachomatis infection
    ("165829005", Sensitivity::SexuallyTransmitted),  // Gonorrhea infection test
    ("269828009", Sensitivity::SexuallyTransmitted),  // Syphilis infection test
    ("310861008", Sensitivity::SexuallyTransmitted),  // Chlamydia antigen test
    ("41040004", Sensitivity::Genetic),               // Complete trisomy 21 syndrome
    ("58756001", Sensitivity::Genetic),               // Huntington's chorea
    ("127040003", Sensitivity::Genetic),              // Sickle cell-haemoglobin SS disease
    ("190905008", Sensitivity::Genetic),              // Cystic fibrosis
    ("412734009", Sensitivity::Genetic),              // BRCA1 gene mutation positive
    ("412738007", Sensitivity::Genetic),              // BRCA2 gene mutation positive
    ("248110007", Sensitivity::Violence),             // Sexual assault
    ("397940009", Sensitivity::Violence),             // Victim of child abuse
    ("706893006", Sensitivity::Violence),             // Victim of intimate partner abuse
];

/// ICD-10 categories by their first characters, longest first.
const SENSITIVE_ICD10: &[(&str, &str, Sensitivity)] = &[
    ("B20", "B24", Sensitivity::Hiv),
    ("Z21", "Z21", Sensitivity::Hiv),
    ("R75", "R75", Sensitivity::Hiv),
    ("F10", "F16", Sensitivity::SubstanceUse),
    ("F18", "F19", Sensitivity::SubstanceUse),
    ("T40", "T40", Sensitivity::SubstanceAbuse),
    ("F20", "F69", Sensitivity::Psychiatry),
    ("F90", "F99", Sensitivity::Psychiatry),
    ("A50", "A64", Sensitivity::SexuallyTransmitted),
    ("D57", "D57", Sensitivity::Genetic),
    ("E84", "E84", Sensitivity::Genetic),
    ("G10", "G10", Sensitivity::Genetic),
    ("Q90", "Q99", Sensitivity::Genetic),
    ("Z15", "Z15", Sensitivity::Genetic),
    ("T74", "T74", Sensitivity::Violence),
    ("T76", "T76", Sensitivity::Violence),
    ("Y07", "Y07", Sensitivity::Violence),
    ("Z69", "Z69", Sensitivity::Violence),
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(TYPES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(TYPES.len(), 146);
        assert_eq!(type_category("Patient"), Some(Category::Demographics));
        assert_eq!(type_category("Patients"), None);
    }

    #[test]
    fn observations_follow_their_category_codes() {
        let of =
            |code: &str| json!({"resourceType": "Observation", "category": [{"coding": [{"code": code}]}]});
        assert_eq!(category(&of("laboratory")), Category::Laboratory);
        assert_eq!(category(&of("vital-signs")), Category::VitalSigns);
        assert_eq!(category(&of("survey")), Category::SocialHistory);
        assert_eq!(category(&of("exam")), Category::Observation);
        let pulse =
            json!({"resourceType": "Observation", "code": {"coding": [{"system": LOINC, "code": "8867-4"}]}});
        assert_eq!(category(&pulse), Category::VitalSigns);
        let report = json!({"resourceType": "DiagnosticReport", "category": [{"coding": [{"code": "LAB"}]}]});
        assert_eq!(category(&report), Category::Laboratory);
    }

    #[test]
    fn a_sensitive_code_anywhere_moves_the_record() {
        let encounter = json!({"resourceType": "Encounter",
            "reasonCode": [{"coding": [{"system": SNOMED, "code": "86406008"}]}]});
        assert_eq!(sensitivity(&encounter), Sensitivity::Hiv);
        let claim = json!({"resourceType": "Claim", "diagnosis": [{"diagnosisCodeableConcept":
            {"coding": [{"system": ICD10[0], "code": "F32.1"}]}}]});
        assert_eq!(sensitivity(&claim), Sensitivity::Psychiatry);
        let smoker = json!({"code": {"coding": [{"system": ICD10[0], "code": "F17.2"}]}});
        assert_eq!(sensitivity(&smoker), Sensitivity::Normal);
    }

    #[test]
    fn a_security_label_wins_over_codes() {
        let labelled = json!({"meta": {"security": [{"system": ACT_CODE, "code": "GDIS"}]},
            "code": {"coding": [{"system": SNOMED, "code": "86406008"}]}});
        assert_eq!(sensitivity(&labelled), Sensitivity::Genetic);
        let both =
            json!({"a": {"system": SNOMED, "code": "7200002"}, "b": {"system": SNOMED, "code": "706893006"}});
        assert_eq!(sensitivity(&both), Sensitivity::Violence);
    }
}
