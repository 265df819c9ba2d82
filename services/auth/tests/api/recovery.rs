//! A lost password: what a recovery code opens, what it ends, and what it costs to guess.

use serde_json::{Value, json};

use crate::app::{OPERATOR_PASSWORD, PASSWORD, TestApp, each};
use crate::second_factor::set_up;

const NEW: &str = "seven grey herons stand still";

fn form(username: &str, code: &Value) -> Value {
    json!({"username": username, "code": code, "new_password": NEW})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_takes_the_lost_factor_away_and_ends_every_session_everywhere() {
    each(|app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][0].clone();
        let first = app.try_login("alice", PASSWORD).await.expect(201);
        let second = app.try_login("alice", PASSWORD).await.expect(201);
        app.access_policy_answers(204).await;
        set_up(&app, &first.text("access_token")).await;
        app.try_login("alice", PASSWORD).await.refused(401, "second_factor");
        app.wait(60);
        app.post("/v1/recoveries", "", form("alice", &code)).await.expect(204);
        app.pushes_settle().await;
        let told = app.told().await;
        for session in [first, second] {
            let path = format!("/internal/v1/denials/session/{}", session.text("session"));
            assert!(told.iter().any(|one| one.url.path() == path), "{path}");
            let refresh = json!({"refresh_token": session.text("refresh_token")});
            app.post("/v1/sessions/refresh", "", refresh).await.refused(401, "unauthenticated");
        }
        let token = app.try_login("alice", NEW).await.expect(201).text("access_token");
        let me = app.get("/v1/me", &token).await.body;
        assert_eq!((&me["second_factor"], &me["recovery_codes_left"]), (&json!(false), &json!(7)));
        assert!(me["password_changed_at"].is_string() && me.get("second_factor_since").is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_its_own_accounts_alone() {
    each(|app| async move {
        let alice = app.patient("alice").await.body["recovery_codes"][0].clone();
        app.patient("bob").await;
        app.agency("drcarla").await;
        for other in ["bob", "drcarla", "operator-0"] {
            app.post("/v1/recoveries", "", form(other, &alice)).await.refused(401, "bad_credentials");
            app.wait(10);
        }
        app.try_login("bob", PASSWORD).await.expect(201);
        app.try_login("operator-0", OPERATOR_PASSWORD).await.expect(201);
        app.post("/v1/recoveries", "", form("alice", &alice)).await.expect(204);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_too_weak_costs_no_code() {
    each(|app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][5].clone();
        let token = app.login("alice").await;
        let mut weak = form("alice", &code);
        weak["new_password"] = json!("short");
        app.post("/v1/recoveries", "", weak).await.refused(422, "invalid_input");
        app.get("/v1/me", &token).await.expect(200);
        app.post("/v1/recoveries", "", form("alice", &code)).await.expect(204);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_codes_closes_the_door_like_guessing_passwords() {
    each(|app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][0].clone();
        let guess = json!("00000-00000-00000-00000-000000");
        for _guess in 0..9 {
            app.post("/v1/recoveries", "", form("alice", &guess)).await.refused(401, "bad_credentials");
            app.wait(10);
        }
        app.post("/v1/recoveries", "", form("alice", &guess)).await.refused(429, "too_many_requests");
        app.wait(60);
        app.post("/v1/recoveries", "", form("alice", &code)).await.refused(429, "too_many_requests");
        app.try_login("alice", PASSWORD).await.refused(429, "too_many_requests");
        app.wait(900);
        app.post("/v1/recoveries", "", form("alice", &code)).await.expect(204);
    })
    .await;
}

/// An agency comes back with its signing key; fresh codes take the place of the first ones.
#[tokio::test(flavor = "multi_thread")]
async fn an_agency_is_restored_with_its_key() {
    each(|app| async move {
        let made = app.post("/v1/agencies", "", TestApp::agency_form("drcarla")).await.expect(201);
        let code = made.body["recovery_codes"][0].clone();
        assert_eq!(made.body["recovery_codes"].as_array().unwrap().len(), 8);
        app.post("/v1/recoveries", "", form("drcarla", &code)).await.expect(204);
        let token = app.try_login("drcarla", NEW).await.expect(201).text("access_token");
        let renewed = app.post("/v1/me/recovery-codes", &token, json!({"password": NEW})).await.expect(201);
        app.wait(60);
        app.post("/v1/recoveries", "", form("drcarla", &made.body["recovery_codes"][1]))
            .await
            .refused(401, "bad_credentials");
        app.wait(60);
        app.post("/v1/recoveries", "", form("drcarla", &renewed.body["recovery_codes"][0])).await.expect(204);
        let operator = app.login("operator-0").await;
        let body = json!({"password": OPERATOR_PASSWORD});
        app.post("/v1/me/recovery-codes", &operator, body).await.refused(409, "conflict");
    })
    .await;
}
