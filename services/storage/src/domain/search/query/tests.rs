//! Queries as they are read, and the rules by which they are met.

use serde_json::{Value, json};

use super::*;
use crate::domain::search::facts::Facts;
use crate::domain::search::parameters::parameters;

fn read(kind: &str, query: &[(&str, &str)]) -> Result<Query, QueryError> {
    let bases = Bases::new(["https://records.example/fhir"]);
    let now = Timestamp::from_ms(1_796_000_000_000);
    let pairs: Vec<(String, String)> =
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Reader { all: parameters().unwrap(), kind, bases: &bases, now }.read(&pairs)
}

fn met(resource: &Value, name: &str, value: &str) -> bool {
    let kind = resource["resourceType"].as_str().unwrap();
    let query = read(kind, &[(name, value)]).unwrap_or_else(|error| panic!("{error}"));
    assert!(query.ignored.is_empty() && query.clauses.len() == 1, "{name}={value}: {query:?}");
    let facts = Facts::of(parameters().unwrap(), kind, resource);
    query.clauses[0].holds(&facts, &Bases::new(["https://records.example/fhir"]))
}

fn all(resource: &Value, cases: &[(&str, &str, bool)]) {
    for (name, value, expected) in cases {
        assert_eq!(met(resource, name, value), *expected, "{name}={value}");
    }
}

#[test]
fn tokens() {
    let resource = json!({"resourceType": "Observation", "status": "final",
        "identifier": [{"system": "urn:a", "value": "x|1"}, {"value": "y,2"}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}, {"code": "own"}]}});
    all(
        &resource,
        &[
            ("code", "718-7", true),
            ("code", "http://loinc.org|718-7", true),
            ("code", "http://snomed.info/sct|718-7", false),
            ("code", "|718-7", false),
            ("code", "|own", true),
            ("code", "http://loinc.org|", true),
            ("code", "http://snomed.info/sct|", false),
            ("code", "718-8,own", true),
            ("code", "OWN", false),
            ("code:not", "718-7", false),
            ("code:not", "718-8", true),
            ("code:missing", "false", true),
            ("value-concept:missing", "true", true),
            ("value-concept:not", "718-7", true),
            ("status", "final", true),
            ("status", "http://hl7.org/fhir/observation-status|final", true),
            ("identifier", r"urn:a|x\|1", true),
            ("identifier", "urn:a|x|1", true),
            ("identifier", r"y\,2", true),
            ("identifier", "y,2", false),
        ],
    );
    let patient = json!({"resourceType": "Patient", "active": false, "gender": "female",
        "telecom": [{"system": "email", "value": "a@b.example", "use": "work"}]});
    all(
        &patient,
        &[
            ("active", "false", true),
            ("active", "true", false),
            ("gender", "female,male", true),
            ("deceased", "false", true),
            ("email", "a@b.example", true),
            ("phone", "a@b.example", false),
            ("telecom", "email|a@b.example", true),
            ("telecom", "work|a@b.example", true),
        ],
    );
}

#[test]
fn references() {
    let resource = json!({"resourceType": "Observation",
        "subject": {"reference": "Group/g1"},
        "performer": [{"reference": "https://records.example/fhir/Practitioner/p1/_history/2"},
            {"reference": "http://other.example/fhir/Practitioner/p2"},
            {"identifier": {"system": "urn:npi", "value": "7"}}],
        "derivedFrom": [{"reference": "urn:uuid:0A"}]});
    all(
        &resource,
        &[
            ("subject", "Group/g1", true),
            ("subject:Group", "g1", true),
            ("subject:Device", "g1", false),
            ("subject:Device", "Group/g1", false),
            ("performer", "p1", true),
            ("performer", "Practitioner/p1", true),
            ("performer", "https://records.example/fhir/Practitioner/p1", true),
            ("performer", "PractitionerRole/p1", false),
            ("performer", "http://other.example/fhir/Practitioner/p2", true),
            ("performer", "Practitioner/p2", false),
            ("performer", "p9,Practitioner/p1", true),
            ("performer:identifier", "urn:npi|7", true),
            ("performer:identifier", "urn:npi|8", false),
            ("performer:missing", "true", false),
            ("derived-from", "urn:uuid:0a", true),
            ("patient:missing", "true", true),
        ],
    );
    let plan =
        json!({"resourceType": "CarePlan", "instantiatesCanonical": ["http://a.example/PlanDefinition/1|2"]});
    all(
        &plan,
        &[
            ("instantiates-canonical", "http://a.example/PlanDefinition/1|2", true),
            ("instantiates-canonical", "http://a.example/PlanDefinition/1", true),
            ("instantiates-canonical", "http://a.example/PlanDefinition/1|3", false),
            ("instantiates-canonical", "http://a.example/PlanDefinition", false),
        ],
    );
}

#[test]
fn texts() {
    let resource = json!({"resourceType": "Patient",
        "name": [{"family": "van Óst", "given": ["José", "Li"]}], "address": [{"city": "Zürich", "line": ["1 A"]}]});
    all(
        &resource,
        &[
            ("name", "van", true),
            ("name", "JOSE", true),
            ("name", "os", false),
            ("name", "van ost", true),
            ("name:contains", "os", true),
            ("name:exact", "José", true),
            ("name:exact", "Jose", false),
            ("name:exact", "Jos", false),
            ("family", "jos", false),
            ("given", "x,li", true),
            ("address", "zurich", true),
            ("address-city", "ZUR", true),
            ("address-country:missing", "true", true),
        ],
    );
}

#[test]
fn amounts() {
    let resource = json!({"resourceType": "Observation",
        "valueQuantity": {"value": 5.4, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}});
    all(
        &resource,
        &[
            ("value-quantity", "5.4", true),
            ("value-quantity", "5.40", true),
            ("value-quantity", "5", true),
            ("value-quantity", "5.45", false),
            ("value-quantity", "ne5.4", false),
            ("value-quantity", "gt5.39", true),
            ("value-quantity", "gt5.4", false),
            ("value-quantity", "ge5.4", true),
            ("value-quantity", "lt5.4", false),
            ("value-quantity", "le5.4", true),
            ("value-quantity", "sa5.3", true),
            ("value-quantity", "eb5.3", false),
            ("value-quantity", "ap5", true),
            ("value-quantity", "ap4", false),
            ("value-quantity", "5.4||mg", true),
            ("value-quantity", "5.4||kg", false),
            ("value-quantity", "5.4|http://unitsofmeasure.org|mg", true),
            ("value-quantity", "5.4|urn:other|mg", false),
            ("value-quantity", "1,5.4||mg", true),
            ("value-quantity:missing", "false", true),
        ],
    );
    let less = json!({"resourceType": "Observation", "valueQuantity": {"value": 5, "comparator": "<"}});
    all(
        &less,
        &[("value-quantity", "5", false), ("value-quantity", "lt3", true), ("value-quantity", "gt5", false)],
    );
    let risk = json!({"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": 0.3}]});
    all(
        &risk,
        &[("probability", "gt0.2", true), ("probability", "0.30", true), ("probability", "0.31", false)],
    );
    let claim = json!({"resourceType": "Invoice", "totalNet": {"value": 10, "currency": "EUR"}});
    all(&claim, &[("totalnet", "10|urn:iso:std:iso:4217|EUR", true), ("totalnet", "10||USD", false)]);
}

#[test]
fn dates_and_uris() {
    let resource = json!({"resourceType": "Procedure", "meta": {"profile": ["http://a.example/p"], "source": "http://a.example/s#1"},
        "performedPeriod": {"start": "2020-01-01", "end": "2020-02-01"}, "instantiatesUri": ["http://a.example/x/y"]});
    all(
        &resource,
        &[
            ("date", "2020", true),
            ("date", "2020-01", false),
            ("date", "ge2020-01-15", true),
            ("date", "gt2020-03", false),
            ("date", "sa2019-12", true),
            ("date", "2019,2020", true),
            ("date:missing", "true", false),
            ("_profile", "http://a.example/p", true),
            ("_profile", "http://a.example", false),
            ("_source", "http://a.example/s#1", true),
            ("_source:below", "http://a.example/", true),
            ("instantiates-uri", "http://a.example/x/y", true),
            ("instantiates-uri:below", "http://a.example/x", true),
            ("instantiates-uri:above", "http://a.example/x/y/z", true),
            ("instantiates-uri", "http://a.example/X/y", false),
        ],
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    for (name, value) in [
        ("code:text", "x"),
        ("code:in", "x"),
        ("code:exact", "x"),
        ("status:missing", "maybe"),
        ("code", "|"),
        ("code", "a,"),
        ("code", ""),
        ("date", ""),
        ("_id", ""),
        ("code", r"a\x"),
        ("date", "2020x"),
        ("date:not", "2020"),
        ("value-quantity", "x"),
        ("value-quantity", "5|mg"),
        ("value-quantity", "5|a|b|c"),
        ("subject:Practitioner", "x"),
        ("subject:Dog", "x"),
        ("_count", "-1"),
        ("_count", "x"),
        ("_count", ""),
        ("_total", "all"),
        ("_summary", "yes"),
        ("_include:iterate", "Observation:subject"),
        ("subject.name.given", "x"),
        ("subject:Practitioner.name", "x"),
        ("focus.name", "x"),
        ("_has:Observation:code", "x"),
        ("_has:Dog:patient:code", "x"),
        ("_has:Observation:performer:code", "x"),
    ] {
        assert!(read("Observation", &[(name, value)]).is_err(), "{name}={value}");
    }
    for (name, value) in [
        ("nonsense", "x"),
        ("_sort", "nonsense"),
        ("_include", "Patient:general-practitioner"),
        ("_include", "Observation:code"),
        ("_revinclude", "Observation:subject"),
        ("near", "1|2"),
        ("code-value-quantity", "a$1"),
        ("nobody.name", "x"),
    ] {
        assert_eq!(read("Observation", &[(name, value)]).unwrap().ignored, [name], "{name}={value}");
    }
}

#[test]
fn what_a_query_says_of_its_answer_is_read() {
    let query = read(
        "Observation",
        &[
            ("patient", "pat-1"),
            ("category", "laboratory"),
            ("_sort", "-date,code"),
            ("_count", "1000"),
            ("_include", "Observation:performer:Practitioner"),
            ("_revinclude", "Provenance:target"),
            ("_total", "none"),
            ("_elements", "code,Observation.value"),
            ("subject:Patient.name", "x"),
            ("_has:Provenance:target:agent", "Practitioner/1"),
        ],
    );
    let query = query.unwrap();
    assert_eq!((query.subject.as_deref(), query.category), (Some("pat-1"), Some(Category::Laboratory)));
    assert_eq!(query.order.len(), 2);
    assert!(query.order[0].descending && query.clauses.is_empty() && query.ignored.is_empty());
    assert_eq!((query.shown.count, query.shown.total), (MOST_COUNT, false));
    assert_eq!(query.include[0].target.as_deref(), Some("Practitioner"));
    assert_eq!(query.revinclude[0].names, ["target"]);
    assert_eq!(query.shown.part, Part::Elements(vec!["code".to_owned(), "value".to_owned()]));
    assert_eq!(query.chains[0].any[0].0, "Patient");
    assert_eq!(query.reverse[0].kind, "Provenance");
    let plain = read("Observation", &[("patient", "x"), ("_count", "0")]).unwrap();
    assert!(plain.is_plain() && plain.shown.count == 0);
    let all = read("Observation", &[("_include", "*")]).unwrap();
    assert!(all.include[0].names.contains(&"subject".to_owned()));
}

#[test]
fn a_category_is_ours_where_it_can_be_and_fhirs_else() {
    let of = |kind: &str, value: &str| {
        read(kind, &[("category", value)]).map(|query| (query.category, query.clauses.len()))
    };
    assert_eq!(of("Observation", "vital-signs"), Ok((Some(Category::VitalSigns), 0)));
    assert_eq!(of("Observation", "survey"), Ok((None, 1)));
    assert_eq!(of("AllergyIntolerance", "medication"), Ok((None, 1)));
    assert_eq!(of("Encounter", "encounter"), Ok((Some(Category::Encounter), 0)));
    assert_eq!(of("Encounter", "laboratory"), Ok((Some(Category::Laboratory), 0)));
    assert!(of("Encounter", "nonsense").is_err());
}
