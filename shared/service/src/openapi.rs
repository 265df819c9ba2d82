//! The OpenAPI document of a service, from the same table that makes its routes.
//!
//! Security schemes: `user` (bearer token) and `service` (assertion in `HBC-Service`). An operation without a
//! requirement, or with an empty one, is public: a test keeps the list of those. What operations answer beside what
//! their handlers name is added in `answers`.

use std::collections::BTreeSet;

use actix_web::App;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Server};
use utoipa_actix_web::AppExt;

use crate::Routes;

mod answers;
mod examples;

pub use answers::{PasswordProblems, StoreProblems};

/// Under what the descriptions may be used, as an SPDX identifier.
const LICENSE: &str = env!("CARGO_PKG_LICENSE");

/// The document of the service `name` (as in "HBC storage") with the operations of `table`.
pub fn document(name: &str, description: &str, table: impl Fn(&mut Routes<'_>)) -> OpenApi {
    let license = LicenseBuilder::new().name(LICENSE).identifier(Some(LICENSE)).build();
    let info = InfoBuilder::new()
        .title(name)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description))
        .license(Some(license));
    let mut components = Components::new();
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".to_owned());
    components.add_security_scheme("user", SecurityScheme::Http(bearer));
    let assertion =
        ApiKeyValue::with_description("HBC-Service", "Assertion of the calling service over this request");
    components.add_security_scheme("service", SecurityScheme::ApiKey(ApiKey::Header(assertion)));
    let base = OpenApiBuilder::new()
        .info(info.build())
        .servers(Some([Server::new("/")]))
        .components(Some(components))
        .build();
    let (_app, mut document) =
        App::new().into_utoipa_app().openapi(base).configure(|routes| table(routes)).split_for_parts();
    answers::complete(&mut document);
    examples::add(&mut document);
    document
}

/// The document as the text that is committed under `openapi/` and served at `/openapi.json`.
pub fn text(document: &OpenApi) -> Result<String, serde_json::Error> {
    // Through a value: its maps are sorted, so that the text does not depend on the order of registration.
    let value = serde_json::to_value(document)?;
    let mut text = serde_json::to_string_pretty(&value)?;
    text.push('\n');
    Ok(text)
}

/// Every operation as `METHOD /path`, with whether it is public.
#[must_use]
pub fn operations(document: &OpenApi) -> Vec<(String, bool)> {
    let mut all = BTreeSet::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in methods(item) {
            all.insert((format!("{method} {path}"), is_public(operation)));
        }
    }
    all.into_iter().collect()
}

/// The operations that anybody may call, as `METHOD /path`.
#[must_use]
pub fn public_operations(document: &OpenApi) -> Vec<String> {
    operations(document).into_iter().filter_map(|(name, public)| public.then_some(name)).collect()
}

fn is_public(operation: &Operation) -> bool {
    let empty =
        |requirement| serde_json::to_value(requirement).is_ok_and(|value| value == serde_json::json!({}));
    operation.security.as_ref().is_none_or(|all| all.is_empty() || all.iter().any(empty))
}

/// Whether one of the operation's requirements names this scheme.
fn requires(operation: &Operation, scheme: &str) -> bool {
    let names =
        |requirement| serde_json::to_value(requirement).is_ok_and(|value| value.get(scheme).is_some());
    operation.security.iter().flatten().any(names)
}

fn methods(item: &PathItem) -> Vec<(&'static str, &Operation)> {
    let all = [
        ("DELETE", &item.delete),
        ("GET", &item.get),
        ("HEAD", &item.head),
        ("OPTIONS", &item.options),
        ("PATCH", &item.patch),
        ("POST", &item.post),
        ("PUT", &item.put),
    ];
    all.into_iter().filter_map(|(name, operation)| Some((name, operation.as_ref()?))).collect()
}

fn methods_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.delete,
        &mut item.get,
        &mut item.head,
        &mut item.options,
        &mut item.patch,
        &mut item.post,
        &mut item.put,
    ];
    all.into_iter().flatten()
}

/// The methods that `path` takes, for `Allow`.
pub(crate) fn allowed_methods(document: &OpenApi, path: &str) -> Vec<&'static str> {
    let mut allowed = BTreeSet::new();
    for (template, item) in &document.paths.paths {
        if matches(template, path) {
            allowed.extend(methods(item).into_iter().map(|(name, _operation)| name));
        }
    }
    allowed.into_iter().collect()
}

fn matches(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(expected), Some(found)) => {
                let parameter = expected.starts_with('{') && expected.ends_with('}') && !found.is_empty();
                if !parameter && expected != found {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_segments() {
        assert!(matches("/v1/grants/{id}", "/v1/grants/grt-1"));
        assert!(!matches("/v1/grants/{id}", "/v1/grants/"));
        assert!(!matches("/v1/grants/{id}", "/v1/grants/a/b"));
        assert!(!matches("/v1/grants", "/v1/grant"));
    }
}
