//! What FHIR's own form takes and refuses, and where a fault is told to be.

use std::io::Read;

use serde_json::json;

use super::*;

fn issues(resource: &Value) -> Vec<(String, String)> {
    let place = resource.get("resourceType").and_then(Value::as_str).unwrap_or("Resource");
    let found = check(resource, place).unwrap();
    found.into_iter().map(|issue| (issue.expression, issue.message)).collect()
}

fn expressions(resource: &Value) -> Vec<String> {
    issues(resource).into_iter().map(|(expression, _)| expression).collect()
}

#[test]
fn a_good_observation_passes() {
    let good = json!({"resourceType": "Observation", "status": "final", "code": {"text": "pulse"},
        "valueQuantity": {"value": 0.10}});
    assert_eq!(issues(&good), []);
}

#[test]
fn the_field_is_named() {
    let wrong = json!({"resourceType": "Patient", "gender": "m", "birthDate": "1.2.1990", "colour": 1});
    let mut found = expressions(&wrong);
    found.sort();
    assert_eq!(found, ["Patient.birthDate", "Patient.colour", "Patient.gender"]);
    let message = issues(&json!({"resourceType": "Patient", "gender": "m"}))[0].1.clone();
    assert_eq!(message, "is none of the codes `male`, `female`, `other`, `unknown`");
}

#[test]
fn what_the_schema_cannot_say_is_checked_too() {
    let wrong = json!({"resourceType": "Observation", "code": {"text": "x"}, "valueString": "a",
        "valueBoolean": true, "component": [{"code": {"text": "y"}, "valueTime": "10:00:00", "valueInteger": 1}]});
    let mut found = expressions(&wrong);
    found.sort();
    assert_eq!(found, ["Observation.component[0].value", "Observation.status", "Observation.value"]);
    let absent = json!({"resourceType": "Observation", "code": {"text": "x"},
        "_status": {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}});
    assert_eq!(issues(&absent), []);
}

/// The schema has no `type` for complex elements: whatever is no object there is found here.
#[test]
fn a_complex_element_is_an_object_and_null_is_nothing() {
    let of = |name: &str, value: Value| {
        let mut resource = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}});
        resource[name] = value;
        expressions(&resource)
    };
    for (name, place) in [
        ("meta", "meta"),
        ("code", "code"),
        ("subject", "subject"),
        ("text", "text"),
        ("valueQuantity", "value"),
        ("_status", "status"),
    ] {
        for wrong in [json!(null), json!(1), json!("x"), json!(true), json!([]), json!({}), json!([{}])] {
            assert_eq!(of(name, wrong.clone()), [format!("Observation.{place}")], "{name}: {wrong}");
        }
    }
    for name in ["contained", "identifier", "component", "extension"] {
        for wrong in [json!(null), json!(1), json!([]), json!({"x": 1})] {
            assert_eq!(of(name, wrong.clone()), [format!("Observation.{name}")], "{name}: {wrong}");
        }
        for wrong in [json!([null]), json!([1]), json!([[]]), json!([{}])] {
            let place = format!("Observation.{name}[0]");
            let place =
                if name == "contained" && wrong == json!([{}]) { place + ".resourceType" } else { place };
            assert_eq!(of(name, wrong.clone()), [place], "{name}: {wrong}");
        }
    }
    assert_eq!(of("status", json!(null)), ["Observation.status"]);
    assert_eq!(of("subject", json!({"identifier": null})), ["Observation.subject.identifier"]);
}

#[test]
fn null_is_taken_where_fhir_writes_it() {
    let named = |given: Value, beside: Value| {
        let name = json!({"given": given, "_given": beside});
        expressions(&json!({"resourceType": "Patient", "name": [name]}))
    };
    let absent = json!({"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]});
    let given = |index: usize| format!("Patient.name[0].given[{index}]");
    assert!(named(json!([null, "A"]), json!([absent, null])).is_empty());
    assert!(named(json!(["A", null]), json!([null, absent])).is_empty());
    assert!(named(json!(["A", "B"]), json!([{"id": "1"}])).is_empty());
    assert_eq!(named(json!([null, "A"]), json!([null, null])), [given(0)]);
    assert_eq!(named(json!(["A", null]), json!([null, {"id": "1"}])), [given(1)]);
    assert_eq!(named(json!(["A"]), json!([null])), Vec::<String>::new());
    assert_eq!(named(json!([null]), json!([{}])), [given(0)]);
}

/// One fault each, by the rules of FHIR's JSON form and data types, and the place that is told.
#[test]
fn every_single_fault_is_told_at_its_place() {
    let good = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "extension": [{"url": "urn:a", "valueCode": "b"}],
        "contained": [{"resourceType": "Patient", "id": "p"}], "subject": {"reference": "#p"},
        "component": [{"code": {"coding": [{"system": "urn:s", "code": "c"}]}, "valueInteger": 1}]});
    assert_eq!(issues(&good), []);
    for (pointer, wrong, place) in [
        ("/code", json!({}), "code"),
        ("/code", json!({"id": "a"}), "code"),
        ("/code", json!({"text": ""}), "code.text"),
        ("/code", json!({"text": "a\u{b}"}), "code.text"),
        ("/component", json!([]), "component"),
        ("/component/0/code/coding", json!([{}]), "component[0].code.coding[0]"),
        ("/component/0/code/coding/0/system", json!("a b"), "component[0].code.coding[0].system"),
        ("/component/0/code/coding/0/code", json!("a  b"), "component[0].code.coding[0].code"),
        ("/component/0/code/coding/0/_code", json!({}), "component[0].code.coding[0].code"),
        ("/component/0/code/coding/0/_version", json!({"id": "a"}), "component[0].code.coding[0].version"),
        ("/component/0/valueInteger", json!(1.5), "component[0].value"),
        ("/component/0/valueInteger", json!(1e20), "component[0].value"),
        ("/effectiveDateTime", json!("2026-02-30"), "effective"),
        ("/effectivePeriod", json!({"start": "2026-13"}), "effective.start"),
        ("/effectiveTiming", json!({"repeat": {"count": -1}}), "effective.repeat.count"),
        ("/effectiveTiming", json!({"repeat": {"count": 0}}), "effective.repeat.count"),
        ("/effectiveTiming", json!({"repeat": {"when": ["MORN", "NEVER"]}}), "effective.repeat.when[1]"),
        ("/issued", json!("2026-02-01"), "issued"),
        ("/extension/0/url", json!("urn a"), "extension[0].url"),
        ("/extension/0", json!({"valueCode": "b"}), "extension[0].url"),
        ("/extension/0", json!({"url": "urn:a"}), "extension[0]"),
        (
            "/extension/0",
            json!({"url": "urn:a", "valueCode": "b", "extension": [{"url": "urn:b", "valueCode": "b"}]}),
            "extension[0]",
        ),
        (
            "/extension/0",
            json!({"url": "urn:a", "extension": [{"url": "urn:b"}]}),
            "extension[0].extension[0]",
        ),
        ("/contained/0/id", json!("a_b"), "contained[0].id"),
        ("/contained/0/photo", json!([{"data": "QQ=A"}]), "contained[0].photo[0].data"),
        ("/contained/0/active", json!("true"), "contained[0].active"),
        ("/contained/0/telecom", json!([{"rank": 0}]), "contained[0].telecom[0].rank"),
        ("/note", json!([{"text": 1}]), "note[0].text"),
        ("/meta", json!({"versionId": "1", "": 1}), "meta"),
        ("/meta", json!({"tag": null}), "meta.tag"),
        ("/language", json!("a\tb"), "language"),
    ] {
        let mut resource = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match resource.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = wrong.clone(),
            parent => parent[name] = wrong.clone(),
        }
        assert_eq!(expressions(&resource), [format!("Observation.{place}")], "{pointer}: {wrong}");
    }
}

/// `\S` of the standard is about ASCII's white space.
#[test]
fn spaces_of_other_scripts_are_text() {
    let text = json!({"resourceType": "Observation", "status": "final", "code": {"text": "10\u{a0}mg"},
        "note": [{"text": "1\u{202f}000\u{a0}"}], "valueString": "\u{2003}"});
    assert_eq!(issues(&text), []);
}

#[test]
fn an_envelope_is_checked_without_what_is_in_it() {
    let checked = |bundle: &Value| {
        let found = check_envelope(bundle).unwrap();
        found.into_iter().map(|issue| issue.expression).collect::<Vec<_>>()
    };
    let entry = json!({"resource": {}, "request": {"method": "POST", "url": "Patient"}});
    assert!(checked(&json!({"resourceType": "Bundle", "type": "batch", "entry": [entry]})).is_empty());
    for (wrong, place) in [
        (json!({"type": "batch", "entry": entry}), "Bundle.entry"),
        (json!({"type": "batch", "entry": null}), "Bundle.entry"),
        (json!({"type": "batch", "entry": [null]}), "Bundle.entry[0]"),
        (json!({"type": "batch", "entry": [1]}), "Bundle.entry[0]"),
        (json!({"type": "batch", "entries": [entry]}), "Bundle.entries"),
        (json!({"type": "batch", "entry": [{"resources": {}}]}), "Bundle.entry[0].resources"),
        (json!({"type": "batch", "entry": [{"request": {"method": "POST"}}]}), "Bundle.entry[0].request.url"),
        (json!({"type": "batch", "entry": [{"resource": null}]}), "Bundle.entry[0].resource"),
        (json!({"type": "batch", "entry": [{"resource": []}]}), "Bundle.entry[0].resource"),
        (json!({"type": "heap"}), "Bundle.type"),
        (json!({}), "Bundle.type"),
    ] {
        let mut bundle = wrong;
        bundle["resourceType"] = json!("Bundle");
        assert_eq!(checked(&bundle), [place], "{bundle}");
    }
}

#[test]
fn contained_resources_are_checked_as_their_own_type() {
    let wrong = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "contained": [{"resourceType": "Patient", "gender": "m"}, {"resourceType": "Dog"}]});
    assert_eq!(
        expressions(&wrong),
        ["Observation.contained[0].gender", "Observation.contained[1].resourceType"]
    );
    assert_eq!(expressions(&json!({"a": 1})), ["Resource.resourceType"]);
}

/// What in HL7's own package breaks HL7's own rules: by an invariant, by no narrative, or by the form.
const WRONG_THEMSELVES: [&str; 21] = [
    // sdf-4: neither abstract nor with a base
    "StructureDefinition-Definition",
    "StructureDefinition-Event",
    "StructureDefinition-FiveWs",
    "StructureDefinition-Request",
    // txt-2: nothing to read
    "ActivityDefinition-blood-tubes-supply",
    "ActivityDefinition-heart-valve-replacement",
    "EventDefinition-example",
    "Questionnaire-zika-virus-exposure-assessment",
    // required elements
    "ImplementationGuide-fhir",
    "Questionnaire-qs1",
    "SearchParameter-codesystem-extensions-CodeSystem-author",
    "SearchParameter-codesystem-extensions-CodeSystem-effective",
    "SearchParameter-codesystem-extensions-CodeSystem-end",
    "SearchParameter-codesystem-extensions-CodeSystem-keyword",
    "SearchParameter-codesystem-extensions-CodeSystem-workflow",
    "SearchParameter-valueset-extensions-ValueSet-author",
    "SearchParameter-valueset-extensions-ValueSet-effective",
    "SearchParameter-valueset-extensions-ValueSet-end",
    "SearchParameter-valueset-extensions-ValueSet-keyword",
    "SearchParameter-valueset-extensions-ValueSet-workflow",
    // an id of more than 64 characters
    "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject",
];

/// Everything under `HBC_TEST_FHIR_DIR` (HL7's examples as JSON, Synthea bundles as bzip2) is valid.
#[test]
#[ignore = "needs HBC_TEST_FHIR_DIR"]
fn the_reference_data_is_valid() {
    #[expect(clippy::disallowed_methods, reason = "names the data of this test only")]
    let folder = std::env::var("HBC_TEST_FHIR_DIR").unwrap();
    let (mut seen, mut wrong) = (0, Vec::new());
    let started = std::time::Instant::now();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut text = Vec::new();
        let file = std::fs::File::open(&path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("bz2") => bzip2_rs::DecoderReader::new(file).read_to_end(&mut text).unwrap(),
            Some("json") => std::io::BufReader::new(file).read_to_end(&mut text).unwrap(),
            _ => continue,
        };
        hbc_types::json::parse(&text).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        let resources: Vec<&Value> = match value.get("entry").and_then(Value::as_array) {
            Some(entries) => entries.iter().filter_map(|entry| entry.get("resource")).collect(),
            None => vec![&value],
        };
        for resource in resources {
            seen += 1;
            let found = issues(resource);
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap();
            if found.is_empty() == WRONG_THEMSELVES.contains(&name) {
                wrong.push(format!("{}: {found:?}", path.display()));
            }
        }
    }
    println!("{seen} resources, {} wrong, {:?}", wrong.len(), started.elapsed());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 0);
}
