//! The committed descriptions under `openapi/`, and whether an answer is what they say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::reply::Reply;

/// Headers that are there wherever they are described; others only on some answers.
const ALWAYS: [&str; 3] = ["Location", "Retry-After", "WWW-Authenticate"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi")
}

/// The services that have a description, by the names of its files, sorted.
pub fn services() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).context("there is no `openapi`")? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        // Beside the descriptions lie the examples that stand in them.
        let service = name.strip_suffix(".json").filter(|service| *service != "examples");
        names.extend(service.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The file of a service's description.
#[must_use]
pub fn file(service: &str) -> PathBuf {
    folder().join(format!("{service}.json"))
}

/// The committed description of a service.
pub fn document(service: &str) -> Result<Value> {
    let file = file(service);
    let text = std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("`{}` is no JSON", file.display()))
}

/// All of them by the names of their services, read once.
static DOCUMENTS: LazyLock<Result<HashMap<String, Value>>> = LazyLock::new(|| {
    services()?.into_iter().map(|service| document(&service).map(|document| (service, document))).collect()
});

/// What checks bodies, by service and schema.
type Validators = Mutex<HashMap<(String, String), Arc<Validator>>>;

static VALIDATORS: LazyLock<Validators> = LazyLock::new(Mutex::default);

/// `value`, or what it refers to.
#[must_use]
pub fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let place = value.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#'));
    place.and_then(|place| document.pointer(place)).unwrap_or(value)
}

/// The template of the description that `path` is of: of several the one with the fewest parameters.
fn template<'a>(document: &'a Value, path: &str) -> Option<&'a str> {
    let fits = |template: &str| {
        let (mut expected, mut found) = (template.split('/'), path.split('/'));
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return true,
                (Some(one), Some(other)) if one == other || (one.starts_with('{') && !other.is_empty()) => {}
                _ => return false,
            }
        }
    };
    let all = document.get("paths")?.as_object()?.keys().map(String::as_str);
    all.filter(|template| fits(template)).min_by_key(|template| template.matches('{').count())
}

/// Checks that an answer is described: its status, its media type, its headers, its body.
pub fn check(process: &str, method: &str, path: &str, reply: &Reply) -> Result<()> {
    let service = if process.starts_with("node-") { "ledger" } else { process };
    let documents = DOCUMENTS.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let Some(document) = documents.get(service) else { return Ok(()) };
    let path = path.split('?').next().unwrap_or_default();
    let place = template(document, path).map(|template| (template, method.to_lowercase()));
    let operation = place.and_then(|(template, method)| {
        let operation = document.get("paths")?.get(template)?.get(&method)?;
        Some((format!("{service} {method} {template} {}", reply.status), operation))
    });
    let Some((what, operation)) = operation else { return Ok(()) };
    let answer = operation.get("responses").and_then(|all| all.get(reply.status.to_string()));
    let answer = resolved(document, answer.with_context(|| format!("{what} is not described"))?);
    for header in answer.get("headers").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name)
    {
        let there = !ALWAYS.contains(&header.as_str()) || reply.headers.contains_key(header.to_lowercase());
        ensure!(there, "{what} comes without `{header}`");
    }
    if reply.body.is_empty() {
        return Ok(());
    }
    let content = answer.get("content").and_then(Value::as_object);
    let content = content.with_context(|| format!("{what} has a body, which is not described"))?;
    let media_type = reply.media_type();
    let described = content.get(media_type).or_else(|| content.get("*/*"));
    let described =
        described.with_context(|| format!("{what} comes as `{media_type}`, which is not described"))?;
    let Some(schema) = described.get("schema") else { return Ok(()) };
    if media_type == "application/json" || media_type.ends_with("+json") {
        valid(service, document, schema, &reply.json()).with_context(|| what.clone())?;
    }
    Ok(())
}

/// Checks a value against a schema of a service's document.
pub fn valid(service: &str, document: &Value, schema: &Value, value: &Value) -> Result<()> {
    let key = (service.to_owned(), schema.to_string());
    let known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let validator = match known {
        Some(validator) => validator,
        None => {
            let mut root = json!({"components": document.get("components")});
            if let (Value::Object(root), Some(schema)) = (&mut root, schema.as_object()) {
                root.extend(schema.clone());
            }
            let made = jsonschema::validator_for(&root).map_err(|error| anyhow::anyhow!("{error}"))?;
            let made = Arc::new(made);
            VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&made));
            made
        }
    };
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    ensure!(wrong.is_empty(), "not as described: {}", wrong.join("; "));
    Ok(())
}
