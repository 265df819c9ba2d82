//! What a record says of itself to searches: the values of all parameters of its type.
//!
//! They are taken from the resource once, when it is indexed, and kept encrypted beside it. What a value means is decided
//! when a query meets it: dates are spans already, references stay as they are written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::moment::{Moment, Span};
use crate::domain::search::parameters::{Kind, Parameter, Parameters};

/// One value of a parameter. The names are short because they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A coding or an identifier: its system, if it has one, and its code or value.
    #[serde(rename = "t")]
    Token(Option<String>, Option<String>),
    /// A code, a boolean or a text, whose system is known without being said.
    #[serde(rename = "c")]
    Code(String),
    /// When.
    #[serde(rename = "d")]
    When(Span),
    /// A reference: its text, the type that it says, and its identifier.
    #[serde(rename = "r")]
    Reference(Option<String>, Option<String>, Option<(Option<String>, Option<String>)>),
    /// A text.
    #[serde(rename = "s")]
    Text(String),
    /// An amount: the least and the most that it is, as they are written, open where nothing is said.
    #[serde(rename = "q")]
    Amount {
        /// The least.
        #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
        least: Option<String>,
        /// The most.
        #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
        most: Option<String>,
        /// The system of its unit.
        #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
        /// Its unit's code.
        #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Its unit, for people.
        #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// A URI.
    #[serde(rename = "u")]
    Uri(String),
    /// Something that no search compares: it is not missing.
    #[serde(rename = "x")]
    Other,
}

/// The values of a record's parameters, by the parameters' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts(BTreeMap<String, Vec<Fact>>);

/// What the row says, not the resource.
const OF_THE_ROW: [&str; 2] = ["_id", "_lastUpdated"];

impl Facts {
    /// Of a resource, in its applied form.
    #[must_use]
    pub fn of(all: &Parameters, kind: &str, resource: &Value) -> Self {
        let mut facts = BTreeMap::new();
        for parameter in all.of(kind).filter(|parameter| !OF_THE_ROW.contains(&parameter.name.as_str())) {
            let found = values(parameter, resource);
            if !found.is_empty() {
                facts.insert(parameter.name.clone(), found);
            }
        }
        Self(facts)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// As they are stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The values of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> &[Fact] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Adds a value that the resource does not say.
    pub fn add(&mut self, name: &str, fact: Fact) {
        self.0.entry(name.to_owned()).or_default().push(fact);
    }
}

fn values(parameter: &Parameter, resource: &Value) -> Vec<Fact> {
    let nodes = parameter.expression.evaluate(resource);
    let mut found = Vec::new();
    for node in &nodes {
        match parameter.kind {
            Kind::Token => tokens(node, &mut found),
            Kind::Date => found.extend(when(node).map(Fact::When)),
            Kind::Reference => found.extend(reference(node)),
            Kind::String => texts(node, &mut found),
            Kind::Quantity | Kind::Number => found.extend(amount(node)),
            Kind::Uri => found.extend(node.as_str().map(|text| Fact::Uri(text.to_owned()))),
        }
    }
    if found.is_empty() && !nodes.is_empty() {
        found.push(Fact::Other);
    }
    found
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Systems of a ContactPoint: those of identifiers and codings are URIs.
const CONTACTS: [&str; 7] = ["phone", "fax", "email", "pager", "url", "sms", "other"];

fn tokens(node: &Value, found: &mut Vec<Fact>) {
    match node {
        Value::String(code) => found.push(Fact::Code(code.clone())),
        Value::Bool(_) | Value::Number(_) => found.push(Fact::Code(node.to_string())),
        Value::Object(members) => {
            if let Some(Value::Array(codings)) = members.get("coding") {
                codings.iter().for_each(|coding| tokens(coding, found));
                return;
            }
            let system = text(members, "system");
            let code = text(members, "code").or_else(|| text(members, "value"));
            if system.as_deref().is_some_and(|system| CONTACTS.contains(&system)) {
                // A contact is asked for by what it is, or by what it is used for.
                found.extend(text(members, "use").map(|purpose| Fact::Token(Some(purpose), code.clone())));
            }
            if system.is_some() || code.is_some() {
                found.push(Fact::Token(system, code));
            }
        }
        Value::Null | Value::Array(_) => {}
    }
}

/// A date, a period, or a timing: from its first event to its last, or the bounds of its repetition.
fn when(node: &Value) -> Option<Span> {
    let Value::Object(members) = node else { return Span::of(node) };
    if let Some(bounds) = members.get("repeat").and_then(|repeat| repeat.get("boundsPeriod")) {
        return Span::of(bounds);
    }
    if let Some(Value::Array(events)) = members.get("event") {
        let events: Vec<Moment> = events.iter().filter_map(|event| Moment::parse(event.as_str()?)).collect();
        let first = events.iter().map(|event| event.first).min()?;
        let last = events.iter().map(|event| event.last).max()?;
        return Some(Span(Some(first), Some(last)));
    }
    Span::of(node)
}

fn reference(node: &Value) -> Option<Fact> {
    match node {
        // A canonical URL.
        Value::String(url) => Some(Fact::Reference(Some(url.clone()), None, None)),
        Value::Object(members) => {
            let identifier = members.get("identifier").and_then(Value::as_object);
            let identifier =
                identifier.map(|identifier| (text(identifier, "system"), text(identifier, "value")));
            let (reference, kind) = (text(members, "reference"), text(members, "type"));
            (reference.is_some() || identifier.is_some())
                .then_some(Fact::Reference(reference, kind, identifier))
        }
        _ => None,
    }
}

/// The parts of names and addresses that a search for a text looks at.
const PARTS: [&str; 11] = [
    "text",
    "family",
    "given",
    "prefix",
    "suffix",
    "line",
    "city",
    "district",
    "state",
    "postalCode",
    "country",
];

fn texts(node: &Value, found: &mut Vec<Fact>) {
    match node {
        Value::String(text) => found.push(Fact::Text(text.clone())),
        Value::Object(members) => {
            let parts = PARTS.iter().filter_map(|name| members.get(*name));
            for part in parts {
                match part {
                    Value::Array(items) => {
                        found.extend(
                            items.iter().filter_map(Value::as_str).map(|text| Fact::Text(text.to_owned())),
                        );
                    }
                    part => found.extend(part.as_str().map(|text| Fact::Text(text.to_owned()))),
                }
            }
        }
        _ => {}
    }
}

fn number(value: Option<&Value>) -> Option<String> {
    value.filter(|value| value.is_number()).map(Value::to_string)
}

/// A number, a Quantity, Money, or a Range.
fn amount(node: &Value) -> Option<Fact> {
    let amount = |least, most, members: &Map<String, Value>| Fact::Amount {
        least,
        most,
        system: text(members, "system"),
        code: text(members, "code"),
        unit: text(members, "unit"),
    };
    match node {
        Value::Number(_) => {
            let value = Some(node.to_string());
            Some(Fact::Amount { least: value.clone(), most: value, system: None, code: None, unit: None })
        }
        Value::Object(range) if range.contains_key("low") || range.contains_key("high") => {
            let end = |name: &str| range.get(name).and_then(Value::as_object);
            let value = |name: &str| number(end(name).and_then(|end| end.get("value")));
            let (least, most) = (value("low"), value("high"));
            let unit = end("low").or(end("high"))?;
            (least.is_some() || most.is_some()).then(|| amount(least, most, unit))
        }
        Value::Object(money) if money.contains_key("currency") => {
            let value = Some(number(money.get("value"))?);
            Some(Fact::Amount {
                least: value.clone(),
                most: value,
                system: Some("urn:iso:std:iso:4217".to_owned()),
                code: text(money, "currency"),
                unit: None,
            })
        }
        Value::Object(quantity) => {
            let value = Some(number(quantity.get("value"))?);
            let (least, most) = match quantity.get("comparator").and_then(Value::as_str) {
                Some("<" | "<=") => (None, value),
                Some(">" | ">=") => (value, None),
                _ => (value.clone(), value),
            };
            Some(amount(least, most, quantity))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::search::parameters::parameters;

    fn facts(resource: &Value) -> Facts {
        let kind = resource["resourceType"].as_str().unwrap();
        Facts::of(parameters().unwrap(), kind, resource)
    }

    fn token(system: Option<&str>, code: &str) -> Fact {
        Fact::Token(system.map(str::to_owned), Some(code.to_owned()))
    }

    #[test]
    fn every_kind_of_value_is_taken() {
        let of = facts(&json!({"resourceType": "Observation", "status": "final",
            "meta": {"tag": [{"system": "urn:t", "code": "a"}], "source": "urn:s", "profile": ["urn:p"]},
            "identifier": [{"value": "1"}, {"system": "urn:i", "value": "2"}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}], "text": "x"},
            "subject": {"reference": "Patient/1", "identifier": {"system": "urn:i", "value": "3"}},
            "effectiveTiming": {"event": ["2020-01-02", "2020-01-01"]},
            "valueQuantity": {"value": 5.4, "comparator": "<", "unit": "g", "code": "g", "system": "urn:u"}}));
        assert_eq!(of.get("status"), [Fact::Code("final".to_owned())]);
        assert_eq!(of.get("identifier"), [token(None, "1"), token(Some("urn:i"), "2")]);
        assert_eq!(of.get("code"), [token(Some("http://loinc.org"), "718-7")]);
        let identifier = Some((Some("urn:i".to_owned()), Some("3".to_owned())));
        assert_eq!(of.get("subject"), [Fact::Reference(Some("Patient/1".to_owned()), None, identifier)]);
        assert_eq!(of.get("patient").len(), 1);
        let both = Span::of(&json!({"start": "2020-01-01", "end": "2020-01-02"})).unwrap();
        assert_eq!(of.get("date"), [Fact::When(both)]);
        assert!(
            matches!(&of.get("value-quantity"), [Fact::Amount { least: None, most: Some(most), .. }] if most == "5.4")
        );
        assert_eq!(of.get("_tag"), [token(Some("urn:t"), "a")]);
        assert_eq!(of.get("_source"), [Fact::Uri("urn:s".to_owned())]);
        assert_eq!(of.get("_profile"), [Fact::Uri("urn:p".to_owned())]);
        assert_eq!(of.get("value-string"), []);
        assert_eq!(Facts::parse(&of.to_bytes()), Some(of));
        let of = facts(&json!({"resourceType": "Condition", "code": {"text": "x"},
            "onsetRange": {"low": {"value": 1, "unit": "a"}}}));
        assert_eq!(of.get("code"), [Fact::Other], "not missing");
        assert!(matches!(&of.get("onset-age"), [Fact::Amount { least: Some(_), most: None, .. }]));
    }

    #[test]
    fn names_and_addresses_are_their_parts() {
        let of = facts(&json!({"resourceType": "Patient", "active": true,
            "name": [{"family": "Öz", "given": ["A", "B"]}, {"text": "C D"}],
            "telecom": [{"system": "phone", "use": "home", "value": "5"}],
            "address": [{"line": ["1 Main"], "city": "X", "postalCode": "9"}]}));
        let texts = |name: &str| -> Vec<String> {
            let texts = of.get(name).iter().map(|fact| match fact {
                Fact::Text(text) => text.clone(),
                other => panic!("{other:?}"),
            });
            texts.collect()
        };
        assert_eq!(texts("name"), ["Öz", "A", "B", "C D"]);
        assert_eq!(texts("family"), ["Öz"]);
        assert_eq!(texts("address"), ["1 Main", "X", "9"]);
        assert_eq!(of.get("active"), [Fact::Code("true".to_owned())]);
        assert_eq!(of.get("phone"), [token(Some("home"), "5"), token(Some("phone"), "5")]);
        assert_eq!(of.get("deceased"), [Fact::Code("false".to_owned())]);
    }
}
