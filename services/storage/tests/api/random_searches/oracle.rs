//! What a search means, read off the JSON of a resource: slow, short, and of its own.

#![allow(clippy::string_slice, reason = "dates and prefixes are ASCII")]

use serde_json::Value;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Token,
    Date,
    Reference,
    Quantity,
    Text,
}

/// A parameter with the paths of its elements in JSON, `a.b`, lists included.
pub struct Parameter {
    pub name: &'static str,
    pub kind: Type,
    paths: &'static [&'static str],
    /// Of a token, whether it is a coding or an identifier, which have systems.
    pub is_coded: bool,
}

const fn coded(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    Parameter { name, kind: Type::Token, paths, is_coded: true }
}

const fn code(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    Parameter { name, kind: Type::Token, paths, is_coded: false }
}

const fn date(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    Parameter { name, kind: Type::Date, paths, is_coded: false }
}

const fn to(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    Parameter { name, kind: Type::Reference, paths, is_coded: false }
}

const fn text(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    Parameter { name, kind: Type::Text, paths, is_coded: false }
}

const fn quantity(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    Parameter { name, kind: Type::Quantity, paths, is_coded: false }
}

/// Of the types that Synthea writes, the parameters that occur.
pub const PARAMETERS: &[(&str, &[Parameter])] = &[
    (
        "Observation",
        &[
            code("status", &["status"]),
            coded("code", &["code.coding"]),
            coded("combo-code", &["code.coding", "component.code.coding"]),
            date("date", &["effectiveDateTime"]),
            to("encounter", &["encounter"]),
            to("subject", &["subject"]),
            quantity("value-quantity", &["valueQuantity"]),
            quantity("combo-value-quantity", &["valueQuantity", "component.valueQuantity"]),
            coded("value-concept", &["valueCodeableConcept.coding"]),
        ],
    ),
    (
        "Condition",
        &[
            coded("clinical-status", &["clinicalStatus.coding"]),
            coded("verification-status", &["verificationStatus.coding"]),
            coded("code", &["code.coding"]),
            date("onset-date", &["onsetDateTime"]),
            date("abatement-date", &["abatementDateTime"]),
            date("recorded-date", &["recordedDate"]),
            to("encounter", &["encounter"]),
        ],
    ),
    (
        "Encounter",
        &[
            code("status", &["status"]),
            coded("class", &["class"]),
            coded("type", &["type.coding"]),
            date("date", &["period"]),
            to("participant", &["participant.individual"]),
            to("service-provider", &["serviceProvider"]),
            coded("reason-code", &["reasonCode.coding"]),
            coded("identifier", &["identifier"]),
        ],
    ),
    (
        "MedicationRequest",
        &[
            code("status", &["status"]),
            code("intent", &["intent"]),
            coded("code", &["medicationCodeableConcept.coding"]),
            date("authoredon", &["authoredOn"]),
            to("requester", &["requester"]),
            to("encounter", &["encounter"]),
        ],
    ),
    (
        "Procedure",
        &[
            code("status", &["status"]),
            coded("code", &["code.coding"]),
            date("date", &["performedPeriod", "performedDateTime"]),
            to("encounter", &["encounter"]),
            to("location", &["location"]),
        ],
    ),
    (
        "Immunization",
        &[
            code("status", &["status"]),
            coded("vaccine-code", &["vaccineCode.coding"]),
            date("date", &["occurrenceDateTime"]),
            to("location", &["location"]),
        ],
    ),
    (
        "Claim",
        &[
            code("status", &["status"]),
            code("use", &["use"]),
            date("created", &["created"]),
            coded("priority", &["priority.coding"]),
            to("provider", &["provider"]),
            to("encounter", &["item.encounter"]),
        ],
    ),
    (
        "ExplanationOfBenefit",
        &[
            code("status", &["status"]),
            date("created", &["created"]),
            to("claim", &["claim"]),
            to("provider", &["provider"]),
            to("care-team", &["careTeam.provider"]),
            coded("identifier", &["identifier"]),
        ],
    ),
    (
        "DiagnosticReport",
        &[
            code("status", &["status"]),
            coded("code", &["code.coding"]),
            date("date", &["effectiveDateTime"]),
            date("issued", &["issued"]),
            to("result", &["result"]),
            to("performer", &["performer"]),
            to("encounter", &["encounter"]),
        ],
    ),
    (
        "CarePlan",
        &[
            code("status", &["status"]),
            code("intent", &["intent"]),
            date("date", &["period"]),
            to("care-team", &["careTeam"]),
            to("encounter", &["encounter"]),
            coded("activity-code", &["activity.detail.code.coding"]),
        ],
    ),
    (
        "Patient",
        &[
            coded("identifier", &["identifier"]),
            code("gender", &["gender"]),
            date("birthdate", &["birthDate"]),
            text("family", &["name.family"]),
            text("given", &["name.given"]),
            text("address-city", &["address.city"]),
            text("address-state", &["address.state"]),
        ],
    ),
];

impl Parameter {
    /// The values in a resource.
    pub fn values<'v>(&self, resource: &'v Value) -> Vec<&'v Value> {
        self.paths.iter().flat_map(|path| along(resource, path)).collect()
    }

    /// Whether a resource meets `name:modifier=value`.
    pub fn holds(&self, resource: &Value, modifier: &str, value: &str) -> bool {
        let values = self.values(resource);
        let any = |meets: &dyn Fn(&Value) -> bool| values.iter().any(|found| meets(found));
        match (self.kind, modifier) {
            (_, "missing") => values.is_empty() == (value == "true"),
            (Type::Token, modifier) => {
                let found = any(&|found| value.split(',').any(|one| is_token(found, one)));
                found != (modifier == "not")
            }
            (Type::Date, _) => any(&|found| when(found, value)),
            (Type::Reference, _) => any(&|found| {
                let named = found["reference"].as_str().unwrap_or_default();
                named == value || named.split('/').next_back() == Some(value)
            }),
            (Type::Quantity, _) => any(&|found| amount(found, value)),
            (Type::Text, modifier) => {
                let value = value.replace("\\,", ",");
                any(&|found| {
                    let (found, wanted) = (found.as_str().unwrap_or_default(), value.as_str());
                    let (low, wanted_low) = (fold(found), fold(wanted));
                    match modifier {
                        "exact" => found == wanted,
                        "contains" => low.contains(&wanted_low),
                        _ => low.starts_with(&wanted_low),
                    }
                })
            }
        }
    }
}

fn is_token(found: &Value, wanted: &str) -> bool {
    let Some((system, code)) = token(found) else { return false };
    match wanted.split_once('|') {
        Some((wanted, "")) => system == Some(wanted),
        Some(("", wanted)) => system.is_none() && code == wanted,
        Some((wanted_system, wanted)) => system == Some(wanted_system) && code == wanted,
        None => code == wanted,
    }
}

/// Synthea's names have the accents of Spanish.
fn fold(text: &str) -> String {
    let plain = |c: char| match c {
        'á' | 'à' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' | 'ü' => 'u',
        'ñ' => 'n',
        other => other,
    };
    text.to_lowercase().chars().map(plain).collect::<String>().trim().to_owned()
}

fn along<'v>(value: &'v Value, path: &str) -> Vec<&'v Value> {
    let mut nodes = vec![value];
    for name in path.split('.') {
        nodes = nodes
            .into_iter()
            .filter_map(|node| node.get(name))
            .flat_map(|node| node.as_array().map_or_else(|| vec![node], |items| items.iter().collect()))
            .collect();
    }
    nodes
}

/// System and code of a coding, an identifier or a code.
pub fn token(value: &Value) -> Option<(Option<&str>, &str)> {
    match value {
        Value::String(code) => Some((None, code)),
        value => {
            let code = value["code"].as_str().or_else(|| value["value"].as_str())?;
            Some((value["system"].as_str(), code))
        }
    }
}

/// Milliseconds from the first on and before the second.
fn interval(text: &str) -> (i64, i64) {
    const DAY: i64 = 86_400_000;
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<i64>().ok());
    let year = number(0, 4).unwrap();
    let days = |year: i64, month: i64, day: i64| {
        // The civil calendar, counted from March on.
        let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469
    };
    match (number(5, 7), number(8, 10)) {
        (None, _) => (days(year, 1, 1) * DAY, days(year + 1, 1, 1) * DAY),
        (Some(month), None) => {
            let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            (days(year, month, 1) * DAY, days(next.0, next.1, 1) * DAY)
        }
        (Some(month), Some(day)) if text.len() <= 10 => {
            (days(year, month, day) * DAY, (days(year, month, day) + 1) * DAY)
        }
        (Some(month), Some(day)) => {
            let clock = number(11, 13).unwrap() * 3_600_000
                + number(14, 16).unwrap() * 60_000
                + number(17, 19).unwrap() * 1_000;
            let rest = &text[19..];
            let zone = rest.find(['Z', '+', '-']).unwrap();
            let fraction = rest[..zone].trim_start_matches('.');
            let (part, width) =
                if fraction.is_empty() { (0, 1_000) } else { (fraction.parse::<i64>().unwrap(), 1) };
            let offset = match &rest[zone..] {
                "Z" => 0,
                offset => {
                    let minutes =
                        offset[1..3].parse::<i64>().unwrap() * 60 + offset[4..6].parse::<i64>().unwrap();
                    if offset.starts_with('-') { -minutes } else { minutes }
                }
            };
            let at = days(year, month, day) * DAY + clock + part - offset * 60_000;
            (at, at + width)
        }
    }
}

fn span(value: &Value) -> (i64, i64) {
    match value.as_str() {
        Some(text) => interval(text),
        None => (
            value["start"].as_str().map_or(i64::MIN, |text| interval(text).0),
            value["end"].as_str().map_or(i64::MAX, |text| interval(text).1),
        ),
    }
}

fn prefixed(text: &str) -> (&str, &str) {
    match text.get(..2) {
        Some(prefix) if prefix.chars().all(char::is_alphabetic) => (prefix, &text[2..]),
        _ => ("eq", text),
    }
}

fn when(found: &Value, wanted: &str) -> bool {
    let (prefix, wanted) = prefixed(wanted);
    let ((from, to), (first, end)) = (interval(wanted), span(found));
    let open = first == i64::MIN || end == i64::MAX;
    let within = if open { first < to && from < end } else { from <= first && end <= to };
    match prefix {
        "eq" => within,
        "ne" => !within,
        "gt" => end > to,
        "lt" => first < from,
        "ge" => end > to || within,
        "le" => first < from || within,
        "sa" => first >= to,
        "eb" => end <= from,
        other => panic!("{other}"),
    }
}

fn amount(found: &Value, wanted: &str) -> bool {
    let (prefix, rest) = prefixed(wanted);
    let mut parts = rest.split('|');
    let (number, system, unit) =
        (parts.next().unwrap(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if (!system.is_empty() && found["system"] != system)
        || (!unit.is_empty() && found["code"] != unit && (!system.is_empty() || found["unit"] != unit))
    {
        return false;
    }
    let value = found["value"].as_f64().unwrap();
    let places = number.split_once('.').map_or(0, |(_, part)| part.len());
    let half = 0.5 / 10_f64.powi(i32::try_from(places).unwrap());
    let number: f64 = number.parse().unwrap();
    let equal = value >= number - half && value < number + half;
    match prefix {
        "eq" => equal,
        "ne" => !equal,
        "gt" | "sa" => value > number,
        "lt" | "eb" => value < number,
        "ge" => value >= number,
        "le" => value <= number,
        other => panic!("{other}"),
    }
}

/// By when something began; what says nothing last, and what is the same in the order in which it came.
pub fn sort(resources: &mut [&Value], by: &Parameter, descending: bool) {
    resources.sort_by_key(|resource| {
        let values = by.values(resource);
        let begins = values.iter().map(|value| span(value).0);
        match if descending { begins.max() } else { begins.min() } {
            None => (1, 0),
            Some(at) => (0, if descending { -at } else { at }),
        }
    });
}
