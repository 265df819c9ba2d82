//! Every operation of the OpenAPI document: anonymous, by a stranger, by its rightful caller.

use std::collections::BTreeSet;

use hbc_testkit::callers::{names, public};
use hbc_types::ids::AccountId;
use reqwest::Method;

use crate::app::{TestApp, each, observation};

/// An operation with a real path, and what it takes to be called well.
struct Operation {
    name: &'static str,
    method: Method,
    path: String,
    body: Vec<u8>,
    good: u16,
}

fn operations(patient: &AccountId, id: &str) -> Vec<Operation> {
    let resource = observation("laboratory").to_string().into_bytes();
    let bundle = format!(
        "{{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[{{\"resource\":{},\
         \"request\":{{\"method\":\"POST\",\"url\":\"Observation\"}}}}]}}",
        observation("laboratory")
    );
    let get = |name, path: String| Operation { name, method: Method::GET, path, body: Vec::new(), good: 200 };
    let post = |name, path: &str, body, good| Operation {
        name,
        method: Method::POST,
        path: path.to_owned(),
        body,
        good,
    };
    let put = |name, path: String, body: &[u8]| Operation {
        name,
        method: Method::PUT,
        path,
        body: body.to_vec(),
        good: 200,
    };
    let delete =
        |name, path: String| Operation { name, method: Method::DELETE, path, body: Vec::new(), good: 204 };
    let changed = |id: Option<&str>| {
        let mut changed = observation("laboratory");
        changed["id"] = id.into();
        changed["identifier"] = serde_json::json!([{"system": "urn:test", "value": "matrix"}]);
        if id.is_none() {
            changed.as_object_mut().unwrap().remove("id");
        }
        changed.to_string().into_bytes()
    };
    vec![
        post("POST /fhir", "/fhir", bundle.into_bytes(), 200),
        post("POST /fhir/{type}", "/fhir/Observation", resource, 201),
        post(
            "POST /fhir/{type}/$validate",
            "/fhir/Observation/$validate",
            observation("laboratory").to_string().into_bytes(),
            200,
        ),
        post("POST /v1/records", "/v1/records", b"text".to_vec(), 201),
        get("GET /fhir/{type}", format!("/fhir/Observation?patient={patient}")),
        get("GET /fhir/{type}/{id}", format!("/fhir/Observation/{id}")),
        get("GET /fhir/{type}/{id}/_history/{version}", format!("/fhir/Observation/{id}/_history/1")),
        get("GET /fhir/Patient/{id}/$summary", format!("/fhir/Patient/{patient}/$summary")),
        get("GET /fhir/_history", format!("/fhir/_history?patient={patient}")),
        get("GET /fhir/{type}/_history", format!("/fhir/Observation/_history?patient={patient}")),
        get("GET /fhir/{type}/{id}/_history", format!("/fhir/Observation/{id}/_history")),
        // Of the version that is anchored: what changes it comes after.
        get("GET /v1/records/{id}/proof", format!("/v1/records/{id}/proof")),
        put("PUT /fhir/{type}/{id}", format!("/fhir/Observation/{id}"), &changed(Some(id))),
        put("PUT /fhir/{type}", "/fhir/Observation?identifier=urn:test|matrix".to_owned(), &changed(None)),
        Operation {
            name: "PATCH /fhir/{type}/{id}",
            method: Method::PATCH,
            path: format!("/fhir/Observation/{id}"),
            body: br#"[{"op":"replace","path":"/status","value":"amended"}]"#.to_vec(),
            good: 200,
        },
        get("GET /fhir/Patient/{id}/$everything", format!("/fhir/Patient/{patient}/$everything")),
        post(
            "POST /fhir/Patient/{id}/$everything",
            &format!("/fhir/Patient/{patient}/$everything"),
            Vec::new(),
            200,
        ),
        post(
            "POST /fhir/{type}/_search",
            &format!("/fhir/Observation/_search?patient={patient}"),
            Vec::new(),
            200,
        ),
        get("GET /fhir/Patient/{id}/{type}", format!("/fhir/Patient/{patient}/Observation")),
        get("GET /fhir/Observation/$lastn", format!("/fhir/Observation/$lastn?patient={patient}")),
        get("GET /v1/records", format!("/v1/records?patient={patient}")),
        get("GET /v1/records/{id}", format!("/v1/records/{id}")),
        get("GET /v1/records/{id}/content", format!("/v1/records/{id}/content")),
        get("GET /v1/records/{id}/received", format!("/v1/records/{id}/received")),
        delete("DELETE /fhir/{type}", "/fhir/Observation?identifier=urn:test|none".to_owned()),
        delete("DELETE /fhir/{type}/{id}", format!("/fhir/Observation/{id}")),
    ]
}

async fn call(app: &TestApp, operation: &Operation, account: Option<&AccountId>, patient: &AccountId) -> u16 {
    let json = if operation.method == Method::PATCH {
        "application/json-patch+json"
    } else {
        "application/fhir+json"
    };
    let headers = [("content-type", json), ("HBC-Purpose", "TREAT"), ("HBC-Patient", patient.as_str())];
    app.call(operation.method.clone(), &operation.path, account, &headers, operation.body.clone())
        .await
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_knows_who_may_call_it() {
    each(|app| async move {
        let patient = app.patient();
        let body = observation("laboratory").to_string();
        let wait = [("Prefer", "wait=20")];
        let made = app.fhir(&patient, "/fhir/Observation", &wait, body.as_bytes()).await.expect(201);
        assert_eq!(made.header("hbc-anchor"), "final");
        let id = made.body["id"].as_str().unwrap().to_owned();
        let all = operations(&patient, &id);
        let document = hbc_app::openapi::<hbc_storage::Storage>();
        let documented: BTreeSet<String> =
            hbc_service::openapi::operations(&document).into_iter().map(|(name, _)| name).collect();
        let mut tried: BTreeSet<String> = all.iter().map(|operation| operation.name.to_owned()).collect();
        tried.extend(["GET /fhir/metadata", "GET /fhir/.well-known/smart-configuration"].map(str::to_owned));
        assert_eq!(tried, documented);
        assert_eq!(
            documented.into_iter().collect::<Vec<_>>(),
            names("storage"),
            "the list of who may call what"
        );
        assert_eq!(hbc_service::openapi::public_operations(&document), public("storage"));
        for operation in &all {
            assert_eq!(call(&app, operation, None, &patient).await, 401, "anonymous {}", operation.name);
            for stranger in [app.patient(), app.agency(), app.operator()] {
                let status = call(&app, operation, Some(&stranger), &patient).await;
                if operation.name == "POST /fhir/{type}/$validate" {
                    assert_eq!(status, 200, "of a resource of their own");
                    continue;
                }
                // An id that names nothing is told like one that names what is hidden.
                let put = operation.name == "PUT /fhir/{type}/{id}" && status == 405;
                assert!(
                    matches!(status, 403 | 404) || put,
                    "{stranger} got {status} from {}",
                    operation.name
                );
            }
            let status = call(&app, operation, Some(&patient), &patient).await;
            assert_eq!(status, operation.good, "rightful {}", operation.name);
        }
        assert_eq!(app.call(Method::GET, "/fhir/metadata", None, &[], Vec::new()).await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_under_fhir_are_operation_outcomes() {
    each(|app| async move {
        let patient = app.patient();
        let reply = app
            .call(Method::GET, "/fhir/Patient/x", None, &[], Vec::new())
            .await
            .refused(401, "unauthenticated");
        assert_eq!(reply.body["resourceType"], "OperationOutcome");
        let wrong = br#"{"resourceType":"Patient","gender":"m"}"#;
        let reply = app.fhir(&patient, "/fhir/Patient", &[], wrong).await.refused(422, "invalid_input");
        assert_eq!(reply.body["issue"][0]["expression"][0], "Patient.gender");
        assert_eq!(reply.header("content-type"), "application/fhir+json");
        app.fhir(&patient, "/fhir/Patient", &[], b"{").await.refused(400, "malformed_request");
        app.fhir(&patient, "/fhir/Patient", &[], br#"{"a":1,"a":2}"#).await.refused(400, "malformed_request");
        app.fhir(&patient, "/fhir/Nonsense", &[], wrong).await.refused(404, "not_found");
        app.fhir(&patient, "/fhir/Observation", &[], wrong).await.refused(422, "invalid_input");
        let plain = [("content-type", "text/plain")];
        let reply = app.call(Method::POST, "/fhir/Patient", Some(&patient), &plain, b"x".to_vec()).await;
        reply.refused(415, "unsupported_media_type");
        app.get(&patient, "/fhir/Observation?code:in=1").await.refused(400, "malformed_request");
        // An agency must say why, before it learns whether there is anything.
        let agency = app.agency();
        let reply = app.call(Method::GET, "/v1/records/rec-1", Some(&agency), &[], Vec::new()).await;
        reply.refused(400, "purpose_required");
    })
    .await;
}

/// Method, path, headers, and the status with which it is refused.
type Refused = (Method, &'static str, &'static [(&'static str, &'static str)], u16);

#[tokio::test(flavor = "multi_thread")]
async fn what_router_and_edge_refuse_under_fhir_is_an_operation_outcome_too() {
    let cases: [Refused; 4] = [
        (Method::DELETE, "/fhir", &[], 405),
        (Method::GET, "/fhir/a/b/c/d/e", &[], 404),
        (Method::GET, "/fhir/Observation/x", &[("HBC-Service", "x.y.z")], 401),
        (
            Method::POST,
            "/fhir/Observation",
            &[("Idempotency-Key", ""), ("content-type", "application/fhir+json")],
            422,
        ),
    ];
    each(|app| {
        let cases = cases.clone();
        async move {
            let patient = app.patient();
            for (method, path, headers, status) in cases {
                let reply = app.call(method, path, Some(&patient), headers, Vec::new()).await;
                assert_eq!(reply.status, status, "{path}");
                assert_eq!(reply.header("content-type"), "application/fhir+json", "{path}");
                assert_eq!(reply.body["resourceType"], "OperationOutcome", "{path}");
            }
        }
    })
    .await;
}
