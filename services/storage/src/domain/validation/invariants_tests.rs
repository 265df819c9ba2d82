//! Each invariant is met by one resource and broken by another, and told where it is broken.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::invariants::{NOT_CHECKED, stated};

const EXAMPLES: &str = include_str!("invariants-examples.json");

/// What no resource of the right form can break, with the reason.
const CANNOT_BREAK: [(&str, &str); 2] = [
    (
        "eld-11",
        "it asks whether there are truth values, which there are wherever there is a type, true or not",
    ),
    ("tst-4", "it asks for `required` or `validated` of a capability, which both must be given"),
];

#[derive(Deserialize)]
struct Examples {
    /// A valid resource of each type.
    bases: Map<String, Value>,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    on: String,
    key: String,
    /// Where it is broken.
    at: String,
    /// What is laid over the valid resource.
    passes: Map<String, Value>,
    fails: Map<String, Value>,
}

fn laid(kind: &str, base: &Value, over: &Map<String, Value>) -> Value {
    let mut resource = base.clone();
    resource["resourceType"] = json!(kind);
    for (name, value) in over {
        match value {
            Value::Null => drop(resource.as_object_mut().unwrap().remove(name)),
            value => resource[name] = value.clone(),
        }
    }
    resource
}

fn issues(resource: &Value) -> Vec<(String, String)> {
    let kind = resource["resourceType"].as_str().unwrap();
    let found = check(resource, kind).unwrap();
    found.into_iter().map(|issue| (issue.expression, issue.message)).collect()
}

/// Those broken by an example are invariants all: one may break a second with the first.
fn wrong_of(example: &Example, base: &Value) -> Vec<String> {
    let Example { on, key, at, passes, fails } = example;
    let kind = at.split(['.', '[']).next().unwrap();
    let found = issues(&laid(kind, base, passes));
    let mut wrong: Vec<String> =
        found.iter().map(|found| format!("{on} {key} is met and yet: {found:?}")).collect();
    let found = issues(&laid(kind, base, fails));
    let start = format!("{key}: ");
    if !found.iter().any(|(place, message)| place == at && message.starts_with(&start)) {
        wrong.push(format!("{on} {key} is broken at {at} and yet: {found:?}"));
    }
    let is_invariant = |message: &str| message.split_once(": ").is_some_and(|(key, _)| key.contains('-'));
    let others = found.iter().filter(|(_, message)| !is_invariant(message));
    wrong.extend(others.map(|found| format!("{on} {key}: {found:?}")));
    wrong
}

#[test]
fn every_invariant_is_met_by_one_and_broken_by_another() {
    let Examples { bases, examples } = serde_json::from_str(EXAMPLES).unwrap();
    let mut wrong = Vec::new();
    for (kind, base) in &bases {
        let found = issues(&laid(kind, base, &Map::new()));
        wrong.extend(found.iter().map(|found| format!("{kind}: {found:?}")));
    }
    for example in &examples {
        let kind = example.at.split(['.', '[']).next().unwrap();
        wrong.extend(wrong_of(example, &bases[kind]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_invariant_has_examples_or_a_reason() {
    let Examples { examples, .. } = serde_json::from_str(EXAMPLES).unwrap();
    let tried: BTreeSet<(&str, &str)> =
        examples.iter().map(|example| (example.on.as_str(), example.key.as_str())).collect();
    let known = stated().unwrap();
    let known: BTreeSet<(&str, &str)> = known.iter().map(|one| (one.on.as_str(), one.key.as_str())).collect();
    let reasons = NOT_CHECKED.iter().chain(&CANNOT_BREAK).map(|(key, _)| *key).collect::<BTreeSet<_>>();
    let missing: Vec<_> = known.difference(&tried).filter(|(_, key)| !reasons.contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(tried.difference(&known).next(), None, "is not stated");
    assert_eq!(tried.len(), examples.len(), "stands twice");
}

#[test]
fn what_is_inside_is_told_from_the_root() {
    let extension = json!({"url": "urn:x", "valuePeriod": {"start": "2020", "end": "2019"}});
    let patient = json!({"resourceType": "Patient", "id": "p", "name": [{"_family": {"extension": [extension]}}],
        "contact": [{"gender": "male"}]});
    let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "contained": [patient], "subject": {"reference": "#p"}, "dataAbsentReason": {"text": "x"},
        "valueQuantity": {"code": "mg"}});
    let bundle =
        json!({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": observation}]});
    let mut found: Vec<String> = issues(&bundle).into_iter().map(|(place, _)| place).collect();
    // Members of an object come in no order that counts.
    found.sort();
    let inner = "Bundle.entry[0].resource.contained[0]";
    let resource = "Bundle.entry[0].resource";
    assert_eq!(
        found,
        [
            resource.to_owned(),
            format!("{inner}.contact[0]"),
            format!("{inner}.name[0].family.extension[0].value"),
            format!("{resource}.value"),
        ]
    );
}

/// What is contained may refer to itself, to its neighbours and to what contains it.
#[test]
fn contained_resources_are_connected() {
    let of = |contained: Value, subject: &Value| {
        let resource = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "contained": contained, "subject": subject});
        issues(&resource)
            .into_iter()
            .map(|(place, message)| (place, message.chars().take(5).collect::<String>()))
            .collect::<Vec<_>>()
    };
    let patient = json!({"resourceType": "Patient", "id": "p"});
    let upward = json!({"resourceType": "Provenance", "id": "o", "recorded": "2020-01-01T00:00:00Z",
        "target": [{"reference": "#"}], "agent": [{"who": {"reference": "#p"}}]});
    let other = json!({"display": "x"});
    let lonely = vec![("Observation".to_owned(), "dom-3".to_owned())];
    assert_eq!(of(json!([patient]), &json!({"reference": "#p"})), []);
    assert_eq!(of(json!([patient]), &other), lonely);
    assert_eq!(of(json!([patient, upward]), &other), []);
    assert_eq!(of(json!([upward, patient]), &other), []);
    let dangling = vec![("Observation.contained[0].agent[0].who".to_owned(), "ref-1".to_owned())];
    assert_eq!(of(json!([upward]), &other), dangling);
    let nameless = json!({"resourceType": "Patient", "active": true});
    assert_eq!(of(json!([nameless]), &other), []);
}

/// An upload cannot make the check long: what an invariant may cost grows with what was sent.
#[test]
fn what_is_large_and_crooked_is_refused_in_time() {
    let codings: Vec<Value> = (0..3_000).map(|code| json!({"code": code.to_string()})).collect();
    let component = json!({"code": {"coding": [{"code": "x"}]}});
    let resource = json!({"resourceType": "Observation", "status": "final", "code": {"coding": codings},
        "valueString": "x", "component": vec![component; 3_000]});
    let started = std::time::Instant::now();
    let found = issues(&resource);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.starts_with("is too large to be checked: obs-7"), "{found:?}");
    assert!(started.elapsed().as_secs() < 5);
}

/// The nodes of a value, by their pointers.
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                pointers(member, &format!("{at}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), into);
            }
        }
        _ => {}
    }
}

proptest! {
    /// Whatever is done to what breaks or keeps an invariant: there is an answer.
    #[test]
    fn any_mutation_has_an_answer(
        example in any::<prop::sample::Index>(),
        places in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12), 1..4),
        fails in any::<bool>(),
    ) {
        let Examples { bases, examples } = serde_json::from_str(EXAMPLES).unwrap();
        let example = example.get(&examples);
        let kind = example.at.split(['.', '[']).next().unwrap();
        let mut resource = laid(kind, &bases[kind], if fails { &example.fails } else { &example.passes });
        let absent = json!({"extension": [{"url": "urn:x", "valueCode": "a"}]});
        let by = [json!(null), json!(""), json!("#"), json!("#é/_history/"), json!(-1), json!(1e300), json!(true),
            json!([]), json!([{}, null, "9999-12"]), json!({}), absent, json!({"reference": "#p", "value": "2020"})];
        for (place, replacement) in places {
            let mut all = Vec::new();
            pointers(&resource, "", &mut all);
            let place: &String = place.get(&all);
            *resource.pointer_mut(place).unwrap() = by[replacement].clone();
        }
        let _found = check(&resource, "Resource").unwrap();
    }
}
