//! Every operation: anonymous, by a stranger, by its rightful caller's role.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::each;

/// Operations that anybody may call; this list may only shrink.
const PUBLIC: &[&str] = &[
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "POST /v1/agencies",
    "POST /v1/patients",
    "POST /v1/recoveries",
    "POST /v1/sessions",
    "POST /v1/sessions/refresh",
];

/// Operations of one role, with those that must be refused.
const OF_ROLE: &[(&str, &str, &[&str])] = &[
    ("POST", "/v1/me/consent-keys", &["drbob", "operator-0"]),
    ("POST", "/v1/me/consent-signatures", &["drbob", "operator-0"]),
    ("POST", "/v1/me/revocation-signatures", &["drbob", "operator-0"]),
    ("POST", "/v1/me/recovery-codes", &["drbob", "operator-0"]),
    ("POST", "/v1/me/unfreeze-signatures", &["drbob", "operator-0"]),
    ("POST", "/v1/agencies/agy-00000000000000000000000000000000/approvals", &["alice", "drbob"]),
    ("POST", "/v1/agencies/agy-00000000000000000000000000000000/suspensions", &["alice", "drbob"]),
];

#[test]
fn the_public_operations_are_the_committed_ones() {
    let mut public = hbc_service::openapi::public_operations(&hbc_app::openapi::<hbc_auth::Auth>());
    public.sort();
    assert_eq!(public, PUBLIC);
}

#[test]
fn every_operation_is_described() {
    let document = serde_json::to_value(hbc_app::openapi::<hbc_auth::Auth>()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["operationId"].is_string(), "{name} has no id");
            assert!(operation["summary"].is_string(), "{name} has no summary");
            assert!(!operation["tags"].as_array().unwrap().is_empty(), "{name} has no tag");
            let public = PUBLIC.contains(&format!("{} {path}", method.to_uppercase()).as_str());
            assert!(public || operation["responses"]["401"].is_object(), "{name} does not document 401");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token() {
    each(|app| async move {
        let document = serde_json::to_value(hbc_app::openapi::<hbc_auth::Auth>()).unwrap();
        let mut tried = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                let name = format!("{} {path}", method.to_uppercase());
                if PUBLIC.contains(&name.as_str()) {
                    continue;
                }
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let path = path.replace("{id}", "agy-00000000000000000000000000000000");
                let body = json!({});
                let body: Option<&Value> = (method != Method::GET).then_some(&body);
                app.call(method.clone(), &path, None, body).await.refused(401, "unauthenticated");
                app.call(method, &path, Some("eyJ.x.y"), body).await.refused(401, "unauthenticated");
                tried += 1;
            }
        }
        assert_eq!(tried, 16);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_by_role() {
    each(|app| async move {
        app.patient("alice").await;
        app.agency("drbob").await;
        for (method, path, strangers) in OF_ROLE {
            for stranger in *strangers {
                let token = app.login(stranger).await;
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                app.call(method, path, Some(&token), Some(&json!({}))).await.refused(403, "forbidden");
            }
        }
    })
    .await;
}
