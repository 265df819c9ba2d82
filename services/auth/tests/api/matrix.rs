//! Every operation: anonymous, by a stranger, by its rightful caller's role.

use hbc_testkit::callers::{names, of, public};
use hbc_types::account::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::each;

/// An agency that is not there.
const NOBODY: &str = "agy-00000000000000000000000000000000";

/// Somebody of each role.
const fn name_of(role: Role) -> &'static str {
    match role {
        Role::Patient => "alice",
        Role::Agency => "drbob",
        Role::Operator => "operator-0",
        Role::App | Role::Device => panic!("their tokens are not for auth"),
    }
}

#[test]
fn the_public_operations_are_the_committed_ones() {
    let document = hbc_app::openapi::<hbc_auth::Auth>();
    let mut found = hbc_service::openapi::public_operations(&document);
    found.sort();
    assert_eq!(found, public("auth"));
    let mut all: Vec<String> =
        hbc_service::openapi::operations(&document).into_iter().map(|(name, _)| name).collect();
    all.sort();
    assert_eq!(all, names("auth"), "the list of who may call what");
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
            let public = public("auth").contains(&format!("{} {path}", method.to_uppercase()));
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
                if public("auth").contains(&name) {
                    continue;
                }
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let path = path.replace("{id}", NOBODY);
                let body = json!({});
                let body: Option<&Value> = (method != Method::GET).then_some(&body);
                app.call(method.clone(), &path, None, body).await.refused(401, "unauthenticated");
                app.call(method, &path, Some("eyJ.x.y"), body).await.refused(401, "unauthenticated");
                tried += 1;
            }
        }
        assert_eq!(tried, 67);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_by_role() {
    each(|app| async move {
        app.patient("alice").await;
        app.agency("drbob").await;
        let mut tried = 0;
        // Which of one's things another may see is not a matter of roles.
        for operation in of("auth").iter().filter(|operation| operation.strangers().len() == 2) {
            for stranger in operation.strangers() {
                let token = app.login(name_of(stranger)).await;
                let method = Method::from_bytes(operation.method.as_bytes()).unwrap();
                let path = operation.path.replace("{id}", NOBODY);
                app.call(method, &path, Some(&token), Some(&json!({}))).await.refused(403, "forbidden");
                tried += 1;
            }
        }
        assert_eq!(tried, 84);
    })
    .await;
}
