//! Categories and sensitivities.

use serde_json::json;

use super::*;

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
const ICD10: &str = "http://hl7.org/fhir/sid/icd-10-cm";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

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
        {"coding": [{"system": ICD10, "code": "F32.1"}]}}]});
    assert_eq!(sensitivity(&claim), Sensitivity::Psychiatry);
    let smoker = json!({"code": {"coding": [{"system": ICD10, "code": "F17.2"}]}});
    assert_eq!(sensitivity(&smoker), Sensitivity::Normal);
}

#[test]
fn a_security_label_counts_as_well_as_codes() {
    let of = |label: &str, code: &str| {
        sensitivity(&json!({"meta": {"security": [{"system": ACT_CODE, "code": label}]},
            "code": {"coding": [{"system": SNOMED, "code": code}]}}))
    };
    assert_eq!(of("GDIS", "1"), Sensitivity::Genetic);
    assert_eq!(of("HIV", "86406008"), Sensitivity::Hiv);
    assert_eq!(of("N", "86406008"), Sensitivity::Hiv, "nothing lowers what the codes say");
    assert_eq!(of("GDIS", "86406008"), Sensitivity::Restricted);
    assert_eq!(of("R", "86406008"), Sensitivity::Restricted);
    let both =
        json!({"a": {"system": SNOMED, "code": "7200002"}, "b": {"system": SNOMED, "code": "706893006"}});
    assert_eq!(sensitivity(&both), Sensitivity::Restricted);
}

mod spellings_of_sensitivity {
    use super::*;

    /// How senders write the URL of a system, besides what it is in FHIR today.
    fn urls(url: &str) -> Vec<String> {
        let rest = url.strip_prefix("http://").unwrap();
        vec![
            url.to_owned(),
            format!("https://{rest}"),
            format!("{url}/"),
            format!("https://{rest}/"),
            format!("{url}|2024-09"),
            format!("{url}/|2024-09"),
            format!(" {url} "),
            url.to_uppercase(),
            format!("HTTPS://{rest}"),
            format!("http://www.{rest}"),
        ]
    }

    fn oids(oid: &str) -> Vec<String> {
        vec![
            format!("urn:oid:{oid}"),
            format!("URN:OID:{oid}"),
            format!("urn:oid:{oid}|2024"),
            format!(" urn:oid:{oid}"),
            format!("oid:{oid}"),
            oid.to_owned(),
        ]
    }

    fn all(url: &str, oid: &str, others: &[&str]) -> Vec<String> {
        let others = others.iter().map(|other| (*other).to_owned());
        urls(url).into_iter().chain(oids(oid)).chain(others).collect()
    }

    fn snomed() -> Vec<String> {
        let others = [
            "http://snomed.info/sct/900000000000207008",
            "http://snomed.info/sct/11000172109/version/20230315",
            "SNOMED-CT",
            "SNOMEDCT",
            "SCT",
        ];
        all(SNOMED, "2.16.840.1.113883.6.96", &others)
    }

    fn loinc() -> Vec<String> {
        all(LOINC, "2.16.840.1.113883.6.1", &["LOINC", "LN", "loinc"])
    }

    fn icd10() -> Vec<String> {
        let others = [
            "http://hl7.org/fhir/sid/icd-10-cm",
            "http://hl7.org/fhir/sid/icd-10-us",
            "http://hl7.org/fhir/sid/icd-10-de",
            "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
            "http://fhir.de/CodeSystem/dimdi/icd-10-gm",
            "http://hl7.org/fhir/sid/icd-10-am",
            "https://fhir.infoway-inforoute.ca/CodeSystem/icd-10-ca",
            "http://id.who.int/icd/release/10/2019",
            "urn:oid:2.16.840.1.113883.6.90",
            "urn:oid:2.16.840.1.113883.6.135",
            "urn:oid:2.16.840.1.113883.6.3.1",
            "urn:oid:1.2.276.0.76.5.544",
            "ICD10",
            "ICD-10-GM",
            "I10C",
            "CIM-10",
        ];
        all("http://hl7.org/fhir/sid/icd-10", "2.16.840.1.113883.6.3", &others)
    }

    fn icd9() -> Vec<String> {
        let others = [
            "http://hl7.org/fhir/sid/icd-9",
            "urn:oid:2.16.840.1.113883.6.2",
            "urn:oid:2.16.840.1.113883.6.42",
            "ICD-9-CM",
            "I9C",
        ];
        all("http://hl7.org/fhir/sid/icd-9-cm", "2.16.840.1.113883.6.103", &others)
    }

    fn rxnorm() -> Vec<String> {
        all("http://www.nlm.nih.gov/research/umls/rxnorm", "2.16.840.1.113883.6.88", &["RXNORM"])
    }

    fn act_code() -> Vec<String> {
        let others = [
            "http://hl7.org/fhir/v3/ActCode",
            "http://hl7.org/fhir/v3/ActCode/",
            "http://hl7.org/fhir/v3/vs/ActCode",
            "http://terminology.hl7.org/ValueSet/v3-ActCode",
            "http://terminology.hl7.org/CodeSystem-v3-ActCode.html",
            "http://hl7.org/implement/standards/fhir/v3/ActCode",
            "urn:hl7-org:v3:ActCode",
            "http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy",
            "ActCode",
            "v3-ActCode",
            "",
        ];
        all(ACT_CODE, "2.16.840.1.113883.5.4", &others)
    }

    fn confidentiality() -> Vec<String> {
        let others = [
            "http://hl7.org/fhir/v3/Confidentiality",
            "http://terminology.hl7.org/CodeSystem/v2-0177",
            "http://hl7.org/fhir/v2/0177",
            "urn:oid:2.16.840.1.113883.12.177",
            "HL70177",
            "Confidentiality",
        ];
        all("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "2.16.840.1.113883.5.25", &others)
    }

    fn coded(system: &str, code: &str) -> Sensitivity {
        sensitivity(&json!({"resourceType": "Condition",
            "contained": [{"code": {"coding": [{"system": system, "code": code}]}}]}))
    }

    fn each(systems: &[String], codes: &[(&str, Sensitivity)]) -> usize {
        for system in systems {
            for (code, expected) in codes {
                assert_eq!(coded(system, code), *expected, "`{system}` `{code}`");
            }
        }
        systems.len()
    }

    #[test]
    fn codes_of_every_system() {
        use Sensitivity::{
            Genetic, Hiv, Normal, Psychiatry, Restricted, SexuallyTransmitted, SubstanceAbuse, SubstanceUse,
            Violence,
        };
        let mut spellings = each(
            &snomed(),
            &[
                ("86406008", Hiv),
                (" 86406008 ", Hiv),
                ("86406008 |Human immunodeficiency virus infection|", Hiv),
                ("243796009:246090004=86406008", Hiv),
                ("86406008+58214004", Restricted),
                ("58214004", Psychiatry),
                ("7200002", SubstanceUse),
                ("26416006", SubstanceAbuse),
                ("76272004", SexuallyTransmitted),
                ("190905008", Genetic),
                ("397940009", Violence),
                ("38341003", Normal),
            ],
        );
        spellings += each(
            &loinc(),
            &[
                ("75622-1", Hiv),
                (" 75622-1 ", Hiv),
                ("44261-6", Psychiatry),
                ("75626-2", SubstanceUse),
                ("20507-0", SexuallyTransmitted),
                ("81247-9", Genetic),
                ("76499-3", Violence),
                ("718-7", Normal),
            ],
        );
        spellings += each(
            &icd10(),
            &[
                ("B20", Hiv),
                ("b20", Hiv),
                ("B20.0", Hiv),
                ("B200", Hiv),
                ("B20.-", Hiv),
                ("B24!", Hiv),
                (" z21 ", Hiv),
                ("O98.7", Hiv),
                ("f32.1", Psychiatry),
                ("F321", Psychiatry),
                ("F10.2", SubstanceUse),
                ("T40.1X1A", SubstanceAbuse),
                ("A51.3\u{2020}", SexuallyTransmitted),
                ("e84.0", Genetic),
                ("T74.1", Violence),
                ("F17.2", Normal),
                ("I10", Normal),
            ],
        );
        spellings += each(
            &icd9(),
            &[
                ("042", Hiv),
                ("v08", Hiv),
                ("295.30", Psychiatry),
                ("29530", Psychiatry),
                ("303.90", SubstanceUse),
                ("305.00", SubstanceAbuse),
                ("305.1", Normal),
                ("091.0", SexuallyTransmitted),
                ("277.00", Genetic),
                ("995.81", Violence),
                ("401.9", Normal),
            ],
        );
        spellings += each(
            &rxnorm(),
            &[("195085", Hiv), ("7243", SubstanceUse), ("2626", Psychiatry), ("161", Normal)],
        );
        assert!(spellings >= 5 * 17, "{spellings}");
    }

    #[test]
    fn codes_without_a_system_are_guessed_and_others_are_left_alone() {
        assert_eq!(coded("", "86406008"), Sensitivity::Hiv);
        assert_eq!(coded("", "75622-1"), Sensitivity::Hiv);
        assert_eq!(coded("", "F32.1"), Sensitivity::Psychiatry);
        for (system, code) in [
            ("http://hl7.org/fhir/sid/icd-10-pcs", "B20ZZZZ"),
            ("urn:oid:2.16.840.1.113883.6.4", "B20ZZZZ"),
            ("http://unitsofmeasure.org", "F32.1"),
            ("http://example.org/codes", "F32.1"),
            ("http://terminology.hl7.org/CodeSystem/contract-code", "HIV"),
        ] {
            assert_eq!(coded(system, code), Sensitivity::Normal, "{system}");
        }
        // What stands in v3 ActCode beside the labels: the class of a visit, the type of a coverage.
        assert_eq!(coded(ACT_CODE, "AMB"), Sensitivity::Normal);
    }

    /// A label in each place where FHIR has one.
    fn labelled(system: &str, code: &str) -> Vec<Value> {
        let label =
            if system.is_empty() { json!({"code": code}) } else { json!({"system": system, "code": code}) };
        let meta = json!({"security": [label]});
        vec![
            json!({"resourceType": "Observation", "meta": meta}),
            json!({"resourceType": "Observation", "contained": [{"resourceType": "Patient", "meta": meta}]}),
            json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "meta": meta}}]}),
            json!({"resourceType": "DocumentReference", "securityLabel": [{"coding": [label]}]}),
        ]
    }

    #[test]
    fn labels_in_every_spelling() {
        use Sensitivity::{
            Genetic, Hiv, Normal, Psychiatry, Restricted, SexuallyTransmitted, SubstanceAbuse, SubstanceUse,
            Violence,
        };
        let sensitivities = [
            ("ETH", SubstanceAbuse),
            ("PSY", Psychiatry),
            ("HIV", Hiv),
            (" hiv ", Hiv),
            ("STD", SexuallyTransmitted),
            ("SUD", SubstanceUse),
            ("GDIS", Genetic),
            ("SICKLE", Genetic),
            ("SDV", Violence),
            ("sdv", Violence),
        ];
        let levels = [("R", Restricted), ("V", Restricted), ("v", Restricted), ("N", Normal), ("L", Normal)];
        let (act_code, confidentiality) = (act_code(), confidentiality());
        assert!(act_code.len() + confidentiality.len() >= 30);
        for system in act_code.iter().chain(&confidentiality) {
            for (code, expected) in sensitivities.iter().chain(&levels) {
                for resource in labelled(system, code) {
                    assert_eq!(sensitivity(&resource), *expected, "`{system}` `{code}` {resource}");
                }
            }
        }
        let composition =
            |code: &str| sensitivity(&json!({"resourceType": "Composition", "confidentiality": code}));
        assert_eq!((composition("R"), composition("N")), (Restricted, Normal));
    }

    #[test]
    fn a_label_that_is_not_known_restricts() {
        for (system, code, expected) in [
            (ACT_CODE, "BH", Sensitivity::Restricted),
            (ACT_CODE, "TBOO", Sensitivity::Restricted),
            (ACT_CODE, "", Sensitivity::Restricted),
            ("http://example.org/labels", "N", Sensitivity::Restricted),
            ("http://example.org/labels", "secret", Sensitivity::Restricted),
            ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST", Sensitivity::Normal),
            ("urn:oid:2.16.840.1.113883.5.1063", "SUBSETTED", Sensitivity::Normal),
        ] {
            for resource in labelled(system, code) {
                assert_eq!(sensitivity(&resource), expected, "`{system}` `{code}`");
            }
        }
        let two = json!({"meta": {"security": [{"code": "HIV"}, {"code": "PSY"}]}});
        assert_eq!(sensitivity(&two), Sensitivity::Restricted);
    }

    #[test]
    fn sensitivities_have_no_order() {
        for one in Sensitivity::ALL {
            assert_eq!(one.and(Sensitivity::Normal), *one);
            assert_eq!(one.and(*one), *one);
            for other in Sensitivity::ALL {
                assert_eq!(one.and(*other), other.and(*one));
                let both_say_something = one.is_sensitive() && other.is_sensitive() && one != other;
                assert!(!both_say_something || one.and(*other) == Sensitivity::Restricted);
            }
        }
    }
}
