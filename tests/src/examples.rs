//! Examples of requests and answers: `openapi/examples.json`, by service and id of the operation. The descriptions show
//! them; here they are held against what a rightful caller really sent and got.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hbc_testkit::http::FORM;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ask::Ask;
use crate::described;
use crate::reply::Reply;
use crate::spec::Operation;

/// Longer texts and arrays are cut when an example is written.
const LONGEST_TEXT: usize = 96;
const MOST_ITEMS: usize = 2;
/// Members whose values open something: an example shows that they are there.
const SECRET: [&str; 9] = [
    "access_token",
    "codes",
    "new_password",
    "password",
    "qr_svg",
    "recovery_codes",
    "refresh_token",
    "token",
    "uri",
];

/// One request and its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Parameters of path, query and headers by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The request's body, where it has one: JSON, or a text.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub request: Value,
    /// The answer's status.
    pub status: u16,
    /// The answer's body, where it has one.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub answer: Value,
}

/// The examples of all services.
pub type Examples = BTreeMap<String, BTreeMap<String, Example>>;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/examples.json")
}

/// The committed examples.
pub fn read() -> Result<Examples> {
    let text = std::fs::read(file()).context("there are no examples")?;
    serde_json::from_slice(&text).context("the examples are not readable")
}

/// Adds what was seen of operations that have no example yet, for a person to look through and commit.
pub fn add(seen: &[(Operation, Example)]) -> Result<()> {
    let mut all = read().unwrap_or_default();
    for (operation, example) in seen {
        let of_service = all.entry(operation.service.clone()).or_default();
        of_service.entry(operation.id()?.to_owned()).or_insert_with(|| {
            let mut example = example.clone();
            cut(&mut example.request);
            cut(&mut example.answer);
            example
        });
    }
    let text = serde_json::to_string_pretty(&all)? + "\n";
    std::fs::write(file(), text).context("the examples cannot be written")
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONGEST_TEXT && text.is_ascii() => text.truncate(LONGEST_TEXT),
        Value::Array(items) => {
            items.truncate(MOST_ITEMS);
            items.iter_mut().for_each(cut);
        }
        Value::Object(members) => {
            for (name, value) in members {
                if SECRET.contains(&name.as_str()) { hide(value) } else { cut(value) }
            }
        }
        _ => {}
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => *value = Value::from("…"),
    }
}

fn body(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_no_json| String::from_utf8_lossy(bytes).into())
}

/// The parameters of a form are shown like members.
fn sent(ask: &Ask) -> Value {
    let is_form = ask.headers.iter().any(|(name, value)| name == CONTENT_TYPE.as_str() && value == FORM);
    if !is_form {
        return body(&ask.body);
    }
    let pairs = form_urlencoded::parse(&ask.body).into_owned();
    Value::Object(pairs.map(|(name, value)| (name, Value::String(value))).collect())
}

/// A request and its answer as an example would have them.
#[must_use]
pub fn of(operation: &Operation, ask: &Ask, reply: &Reply) -> Example {
    let (path, query) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
    let named = operation.path.split('/').zip(path.split('/')).filter_map(|(template, part)| {
        let name = template.strip_prefix('{')?.strip_suffix('}')?;
        Some((name.to_owned(), part.to_owned()))
    });
    let mut parameters: BTreeMap<String, String> = named.collect();
    let queried = query.split('&').filter_map(|pair| pair.split_once('='));
    parameters.extend(queried.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let described = operation.document.get("parameters").and_then(Value::as_array);
    for name in described.into_iter().flatten().filter_map(|one| one.get("name")?.as_str()) {
        let sent = ask.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        parameters.extend(sent.map(|(_, value)| (name.to_owned(), value.clone())));
    }
    Example { parameters, request: sent(ask), status: reply.status, answer: body(&reply.body) }
}

/// What differs between an example and what was seen: other parameters, fields or types. Ids, times and texts are free.
#[must_use]
pub fn differences(example: &Example, seen: &Example) -> Vec<String> {
    let mut all = Vec::new();
    if !example.parameters.keys().eq(seen.parameters.keys()) {
        all.push(format!("parameters: {:?} and {:?}", example.parameters, seen.parameters));
    }
    if example.status != seen.status {
        all.push(format!("status: {} and {}", example.status, seen.status));
    }
    compare("request", &example.request, &seen.request, &mut all);
    compare("answer", &example.answer, &seen.answer, &mut all);
    all
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn compare(place: &str, example: &Value, seen: &Value, all: &mut Vec<String>) {
    match (example, seen) {
        (Value::Object(one), Value::Object(other)) => compare_members(place, one, other, all),
        (Value::Array(one), Value::Array(other)) => {
            // Items of one array may be of several kinds: each must be like one of the example's.
            for (number, item) in other.iter().enumerate() {
                let place = format!("{place}[{number}]");
                let tries = one.iter().map(|example| {
                    let mut found = Vec::new();
                    compare(&place, example, item, &mut found);
                    found
                });
                all.extend(tries.min_by_key(Vec::len).unwrap_or_default());
            }
        }
        _ if kind(example) == kind(seen) => {}
        _ => all.push(format!("{place}: {} and {}", kind(example), kind(seen))),
    }
}

fn compare_members(place: &str, one: &Map<String, Value>, other: &Map<String, Value>, all: &mut Vec<String>) {
    for (name, value) in other {
        match one.get(name) {
            Some(_) if FREE.contains(&name.as_str()) => {}
            Some(example) => compare(&format!("{place}.{name}"), example, value, all),
            // The description says which may be absent; an example need not have them all.
            None if LATER.contains(&name.as_str()) => {}
            None => all.push(format!("{place}.{name} is not in the example")),
        }
    }
    for name in one.keys().filter(|name| !other.contains_key(*name) && !LATER.contains(&name.as_str())) {
        all.push(format!("{place}.{name} is only in the example"));
    }
}

/// Fields that come when a block is final, or on some items or pages only.
const LATER: [&str; 14] = [
    "actor_name",
    "channel",
    "device",
    "final_at",
    "evidence",
    "grant",
    "height",
    "last_full_scrub",
    "miner",
    "next",
    "operation",
    "revoked_by",
    "txid",
    "unanchored_since",
];
/// Objects whose members are another thing's: those of a transaction depend on its type.
const FREE: [&str; 1] = ["fields"];

/// Checks the committed example of an operation against its description.
pub fn valid(operation: &Operation, example: &Example) -> Result<()> {
    let document = described::document(&operation.service)?;
    let at = |value: &Value, place: &[&str]| -> Option<Value> {
        place.iter().try_fold(value.clone(), |value, name| value.get(name).cloned())
    };
    let content = at(&operation.document, &["requestBody", "content", "application/json", "schema"]);
    if let Some(schema) = content {
        described::valid(&operation.service, &document, &schema, &example.request).context("the request")?;
    }
    let status = example.status.to_string();
    let place = ["responses", status.as_str(), "content", "application/json", "schema"];
    if let Some(schema) = at(&operation.document, &place) {
        described::valid(&operation.service, &document, &schema, &example.answer).context("the answer")?;
    }
    Ok(())
}
