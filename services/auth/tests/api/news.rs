//! What access-policy is told: all of it in the end, across outages and restarts, in order, and only what is true by then.

use reqwest::Method;
use serde_json::Value;
use wiremock::Request;

use crate::app::{TestApp, decision, each};

/// Longer than the longest pause between two tries.
const PAUSE_S: u64 = 31;

fn told_of<'a>(told: &'a [Request], method: &str, path: &str) -> Vec<&'a Request> {
    told.iter().filter(|one| one.method.as_str() == method && one.url.path() == path).collect()
}

async fn standing(app: &TestApp, username: &str) -> String {
    app.get("/v1/me", &app.login(username).await).await.expect(200).text("standing")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_access_policy_is_owed_outlives_a_restart_and_comes_in_order() {
    each(|mut app| async move {
        app.access_policy_answers(503).await;
        let id = app.patient("alice").await.text("id");
        app.restart().await;
        assert_eq!(standing(&app, "alice").await, "pending");
        app.outage_ends().await;
        let told = app.told().await;
        let place = |wanted: String| {
            told.iter().position(|one| format!("{} {}", one.method, one.url.path()) == wanted)
        };
        let subject = place(format!("PUT /internal/v1/subjects/{id}")).unwrap();
        let pin = place("POST /internal/v1/patients".to_owned()).unwrap();
        assert!(subject < pin, "who somebody is comes before the root key");
        assert_eq!(standing(&app, "alice").await, "active");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_that_ended_during_an_outage_is_never_told() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        let operator = app.login("operator-2").await;
        app.access_policy_answers(503).await;
        let body = decision("the licence ran out");
        app.post(&format!("/v1/agencies/{id}/suspensions"), &operator, body).await.expect(202);
        app.ledger_decides(&app.waiting().await).await;
        for name in ["operator-0", "operator-1"] {
            let reply = app.reinstate(name, &id).await;
            assert!(matches!(reply.status, 200 | 202), "{reply:?}");
        }
        app.ledger_decides(&app.waiting().await).await;
        app.outage_ends().await;
        let (told, denial) = (app.told().await, format!("/internal/v1/denials/subject/{id}"));
        assert!(told_of(&told, "PUT", &denial).is_empty(), "it is over");
        assert!(!told_of(&told, "DELETE", &denial).is_empty());
        let subjects = told_of(&told, "PUT", &format!("/internal/v1/subjects/{id}"));
        let standings: Vec<Value> =
            subjects.iter().map(|one| one.body_json::<Value>().unwrap()["standing"].clone()).collect();
        assert!(
            !standings.is_empty() && standings.iter().all(|standing| standing == "active"),
            "{standings:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_already_is_not_told_again() {
    each(|mut app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        app.pushes_settle().await;
        app.access_policy_answers(204).await;
        app.restart().await;
        app.wait(PAUSE_S);
        app.pushes_settle().await;
        // A session that ends is news, and the only one.
        app.call(Method::DELETE, "/v1/sessions/current", Some(&token), None).await.expect(200);
        let paths: Vec<String> = app.told().await.iter().map(|one| one.url.path().to_owned()).collect();
        assert!(!paths.is_empty());
        assert!(paths.iter().all(|path| path.starts_with("/internal/v1/denials/session/")), "{paths:?}");
    })
    .await;
}
