//! Categories and sensitivities.

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
    let of = |code: &str| json!({"resourceType": "Observation", "category": [{"coding": [{"code": code}]}]});
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
