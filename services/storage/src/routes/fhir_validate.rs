//! `$validate`: whether a resource would be taken, without keeping it.
//!
//! Source: <https://hl7.org/fhir/R4/resource-operation-validate.html>.

use actix_web::{HttpRequest, HttpResponse, post, web};
use bytes::Bytes;
use hbc_service::{Body, Problem};
use hbc_types::classify;
use hbc_types::json::{self, Node};
use hbc_types::problem::Slug;
use serde_json::{Value, json};

use crate::app::{App, blocking};
use crate::domain::issue::Issue;
use crate::domain::resource::value;
use crate::domain::validation;
use crate::error::Error;
use crate::routes::fhir_answer::{FHIR_JSON, FhirCaller, FhirProblem, is_fhir_json};

/// Says what is wrong with a resource, or that nothing is. The body is the resource, or Parameters with it as `resource`.
#[utoipa::path(tag = "fhir", operation_id = "fhir_validate", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/fhir+json"),
    params(("type" = String, Path, description = "FHIR R4 resource type")),
    responses(
        (status = 200, description = "OperationOutcome: of severity error, what is wrong", content_type = "application/fhir+json"),
        (status = 404, description = "It is no type that is kept here"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
    ))]
#[post("/fhir/{type}/$validate")]
pub async fn validate_resource(
    _caller: FhirCaller,
    kind: web::Path<String>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let kind = kind.into_inner();
    if classify::type_category(&kind).is_none() {
        return Err(Problem::new(Slug::NotFound).into());
    }
    is_fhir_json(&request)?;
    let _turn = app.parsing.turn(None, body.len() as u64).await;
    let body: Bytes = body.clone();
    let issues = blocking(move || faults(&body, &kind)).await?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(outcome(&issues).to_string()))
}

/// What is wrong with the resource of a body.
fn faults(body: &[u8], kind: &str) -> Result<Vec<Issue>, Error> {
    let node = json::parse(body)?;
    let resource = resource(&node)?;
    if resource.get_text("resourceType") != Some(kind) {
        return Ok(vec![Issue::new("resourceType", format!("must be `{kind}`"))]);
    }
    let bytes = body.get(resource.span.clone()).unwrap_or_default();
    // What JSON allows and no number of ours holds is told at its place.
    let value: Value = serde_json::from_slice(bytes).unwrap_or_else(|_number| value(body, resource));
    Ok(validation::check(&value, kind)?)
}

/// The resource itself, or the one that Parameters have as `resource`.
fn resource<'n>(node: &'n Node<'n>) -> Result<&'n Node<'n>, Error> {
    if node.get_text("resourceType") != Some("Parameters") {
        return Ok(node);
    }
    let parameters = node.get("parameter").map(Node::items).unwrap_or_default();
    let named = parameters.iter().find(|parameter| parameter.get_text("name") == Some("resource"));
    let resource = named.and_then(|parameter| parameter.get("resource"));
    resource.ok_or_else(|| Error::invalid("Parameters.parameter", "one must be the `resource`"))
}

fn outcome(issues: &[Issue]) -> Value {
    let told: Vec<Value> = match issues {
        [] => vec![
            json!({"severity": "information", "code": "informational", "diagnostics": "nothing is wrong with it"}),
        ],
        issues => issues
            .iter()
            .map(|issue| {
                json!({"severity": "error", "code": "invalid", "expression": [issue.expression],
                    "diagnostics": format!("{} {}", issue.expression, issue.message)})
            })
            .collect(),
    };
    json!({"resourceType": "OperationOutcome", "issue": told})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_is_found_alone_or_among_parameters() {
        let good = r#"{"resourceType":"Patient","gender":"female"}"#;
        let wrong = r#"{"resourceType":"Patient","gender":"f"}"#;
        let among = |resource: &str| {
            format!(
                r#"{{"resourceType":"Parameters","parameter":[{{"name":"mode","valueCode":"create"}},
                    {{"name":"resource","resource":{resource}}}]}}"#
            )
        };
        let told = |body: &str| faults(body.as_bytes(), "Patient").unwrap();
        assert_eq!((told(good), told(&among(good))), (Vec::new(), Vec::new()));
        assert_eq!(told(wrong)[0].expression, "Patient.gender");
        assert_eq!(told(&among(wrong))[0].expression, "Patient.gender");
        assert_eq!(told(r#"{"resourceType":"Group"}"#)[0].expression, "resourceType");
        assert!(faults(br#"{"resourceType":"Parameters"}"#, "Patient").is_err());
        assert_eq!(outcome(&[])["issue"][0]["severity"], "information");
    }
}
