//! Examples in the descriptions: what `openapi/examples.json` has for each operation. A test holds them against what
//! rightful callers send and get.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::path::{Operation, ParameterBuilder};
use utoipa::openapi::{Content, OpenApi, RefOr};

use super::methods_mut;

/// Every service's examples, by the ids of operations.
const EXAMPLES: &str = include_str!("../../../../openapi/examples.json");

#[derive(Deserialize)]
struct Example {
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    #[serde(default)]
    request: Value,
    status: u16,
    #[serde(default)]
    answer: Value,
}

/// Adds the examples of the service that the document is called after.
pub(super) fn add(document: &mut OpenApi) {
    let all: BTreeMap<String, BTreeMap<String, Example>> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    let service = document.info.title.strip_prefix("HBC ").unwrap_or_default();
    let Some(examples) = all.get(service) else { return };
    for operation in document.paths.paths.values_mut().flat_map(methods_mut) {
        let id = operation.operation_id.as_deref().unwrap_or_default();
        if let Some(example) = examples.get(id) {
            show(operation, example);
        }
    }
}

fn show(operation: &mut Operation, example: &Example) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if let Some(value) = example.parameters.get(&parameter.name) {
            *parameter = ParameterBuilder::from(parameter.clone()).example(Some(value.clone())).build();
        }
    }
    if let (Some(RefOr::T(body)), false) = (&mut operation.request_body, example.request.is_null()) {
        let textual = example.request.is_string();
        for (media_type, content) in &mut body.content {
            set(content, media_type, textual, &example.request);
        }
    }
    let answer = operation.responses.responses.get_mut(&example.status.to_string());
    if let (Some(RefOr::T(answer)), false) = (answer, example.answer.is_null()) {
        let textual = example.answer.is_string();
        for (media_type, content) in &mut answer.content {
            set(content, media_type, textual, &example.answer);
        }
    }
}

/// JSON is an example of JSON, and a text of what is none.
fn set(content: &mut RefOr<Content>, media_type: &str, textual: bool, example: &Value) {
    let RefOr::T(content) = content else { return };
    if media_type.ends_with("json") != textual {
        content.example = Some(example.clone());
    }
}
