//! Rows written by another hand: denied, whoever wrote them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{OPERATOR_PASSWORD, PASSWORD, TestApp, each};
use crate::second_factor::{set_up, set_up_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_hash_copied_from_another_account_lets_nobody_in() {
    each(|app| async move {
        app.patient("alice").await;
        let mallory = json!({"username": "mallory", "password": "a password that mallory knows well"});
        app.post("/v1/patients", "", mallory).await.expect(201);
        app.by_hand(
            "UPDATE accounts SET password_hash = (SELECT password_hash FROM accounts WHERE username = 'mallory')
             WHERE username = 'alice'",
        )
        .await;
        app.try_login("alice", "a password that mallory knows well").await.refused(401, "bad_credentials");
        app.wait(1);
        app.by_hand("UPDATE accounts SET mac = (SELECT mac FROM accounts WHERE username = 'mallory') WHERE username = 'alice'")
            .await;
        app.try_login("alice", "a password that mallory knows well").await.refused(401, "bad_credentials");
        app.try_login("mallory", "a password that mallory knows well").await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_row_copied_to_another_account_opens_nothing() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("mallory").await;
        app.login("alice").await;
        let tokens = app.try_login("mallory", PASSWORD).await.expect(201);
        app.by_hand(
            "UPDATE sessions SET account = (SELECT id FROM accounts WHERE username = 'alice')
             WHERE account = (SELECT id FROM accounts WHERE username = 'mallory')",
        )
        .await;
        let form = json!({"refresh_token": tokens.text("refresh_token")});
        app.post("/v1/sessions/refresh", "", form.clone()).await.refused(403, "forbidden");
        app.get("/v1/me", &tokens.text("access_token")).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_moved_to_another_session_opens_nothing() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("mallory").await;
        app.login("alice").await;
        let tokens = app.try_login("mallory", PASSWORD).await.expect(201);
        app.by_hand(
            "UPDATE refresh_tokens SET session = (SELECT s.id FROM sessions s JOIN accounts a ON a.id = s.account
                WHERE a.username = 'alice')",
        )
        .await;
        let form = json!({"refresh_token": tokens.text("refresh_token")});
        app.post("/v1/sessions/refresh", "", form).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_made_active_by_hand_stays_out() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        app.agency("drmallory").await;
        app.by_hand("UPDATE accounts SET standing = 'active', revision = 9 WHERE username = 'drbob'").await;
        app.try_login("drbob", PASSWORD).await.refused(401, "bad_credentials");
        app.access_policy_answers(204).await;
        app.by_hand(
            "INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
             SELECT 'push.standing', id, id, 'waiting', 1, 0, 0, 0, 0 FROM accounts WHERE username = 'drbob'",
        )
        .await;
        app.job_stumbles("row_tampered").await;
        assert!(app.told().await.iter().all(|request| !request.url.path().contains(&id)));
        let operator = app.login("operator-0").await;
        let list = app.get("/v1/agencies", &operator).await.expect(200);
        assert_eq!(list.body["items"].as_array().unwrap().len(), 1, "the forged row is not listed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_recovery_code_made_unused_by_hand_opens_nothing() {
    each(|app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][0].clone();
        let form =
            json!({"username": "alice", "code": code, "new_password": "seven grey herons stand still"});
        app.post("/v1/recoveries", "", form.clone()).await.expect(204);
        app.by_hand("UPDATE recovery_codes SET used_at_ms = NULL").await;
        app.post("/v1/recoveries", "", form).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_copied_from_another_account_does_not_open() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("mallory").await;
        app.by_hand(
            "UPDATE wrapped_keys SET salt = (SELECT w.salt FROM wrapped_keys w JOIN accounts a ON a.id = w.account WHERE a.username = 'mallory'),
                nonce = (SELECT w.nonce FROM wrapped_keys w JOIN accounts a ON a.id = w.account WHERE a.username = 'mallory'),
                ciphertext = (SELECT w.ciphertext FROM wrapped_keys w JOIN accounts a ON a.id = w.account WHERE a.username = 'mallory')
             WHERE account = (SELECT id FROM accounts WHERE username = 'alice')",
        )
        .await;
        let token = app.login("alice").await;
        app.post("/v1/me/unfreeze-signatures", &token, json!({"password": PASSWORD})).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_final_signature_approves_nobody() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        app.approve("operator-0", &id).await.expect(200);
        app.by_hand("UPDATE staff_signatures SET final_at_ms = 5").await;
        let token = app.login("operator-1").await;
        let body = json!({"password": OPERATOR_PASSWORD});
        app.post(&format!("/v1/agencies/{id}/approvals"), &token, body).await.refused(403, "forbidden");
        assert_eq!(app.get(&format!("/v1/agencies/{id}"), &token).await.text("standing"), "pending");
    })
    .await;
}

const NEW: &str = "another long password";

/// Keeps rows as they are now, to be put back later.
pub async fn keep(app: &TestApp) {
    for sql in [
        "CREATE TABLE older_accounts AS SELECT * FROM accounts",
        "CREATE TABLE older_sessions AS SELECT * FROM sessions",
        "CREATE TABLE older_codes AS SELECT * FROM recovery_codes",
        "CREATE TABLE older_tokens AS SELECT * FROM refresh_tokens",
        "CREATE TABLE older_factors AS SELECT * FROM factors",
    ] {
        app.by_hand(sql).await;
    }
}

/// Puts a table back as it was.
pub async fn put_back(app: &TestApp, table: [&'static str; 2]) {
    let [delete, insert] = table;
    app.by_hand(delete).await;
    app.by_hand(insert).await;
}

pub const ACCOUNTS: [&str; 2] = ["DELETE FROM accounts", "INSERT INTO accounts SELECT * FROM older_accounts"];
pub const SESSIONS: [&str; 2] = ["DELETE FROM sessions", "INSERT INTO sessions SELECT * FROM older_sessions"];
pub const CODES: [&str; 2] =
    ["DELETE FROM recovery_codes", "INSERT INTO recovery_codes SELECT * FROM older_codes"];
pub const TOKENS: [&str; 2] =
    ["DELETE FROM refresh_tokens", "INSERT INTO refresh_tokens SELECT * FROM older_tokens"];
const FACTORS: [&str; 2] = ["DELETE FROM factors", "INSERT INTO factors SELECT * FROM older_factors"];

/// Whoever owns the database, or restores a copy of it, brings no password back.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_account_does_not_bring_its_password_back() {
    each(|mut app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let token = app.login("alice").await;
        keep(&app).await;
        let change = json!({"password": PASSWORD, "new_password": NEW});
        app.call(Method::PUT, "/v1/me/password", Some(&token), Some(&change)).await.expect(204);
        put_back(&app, ACCOUNTS).await;
        for _restart in 0..2 {
            app.wait(60);
            app.try_login("alice", PASSWORD).await.refused(401, "bad_credentials");
            app.wait(60);
            app.try_login("alice", NEW).await.refused(401, "bad_credentials");
            app.get("/v1/me", &token).await.refused(403, "forbidden");
            app.restart().await;
        }
        app.try_login("bob", PASSWORD).await.expect(201);
        // Who runs auth may decide that the copy counts.
        app.forget_journal().await;
        app.wait(60);
        app.try_login("alice", PASSWORD).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_session_stays_ended() {
    each(|mut app| async move {
        app.patient("alice").await;
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let other = app.login("alice").await;
        keep(&app).await;
        let token = tokens.text("access_token");
        app.call(Method::DELETE, "/v1/sessions/current", Some(&token), None).await.expect(200);
        put_back(&app, SESSIONS).await;
        put_back(&app, TOKENS).await;
        for _restart in 0..2 {
            app.get("/v1/me", &token).await.refused(403, "forbidden");
            let form = json!({"refresh_token": tokens.text("refresh_token")});
            app.post("/v1/sessions/refresh", "", form).await.refused(403, "forbidden");
            app.get("/v1/me", &other).await.expect(200);
            app.restart().await;
        }
        // A change that ends every session ends the others all the same.
        let change = json!({"password": PASSWORD, "new_password": NEW});
        app.call(Method::PUT, "/v1/me/password", Some(&other), Some(&change)).await.expect(204);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_recovery_codes_and_factors_do_not_count_again() {
    each(|mut app| async move {
        let made = app.patient("alice").await;
        let code = |n: usize| made.body["recovery_codes"][n].clone();
        let token = app.login("alice").await;
        set_up(&app, &token).await;
        keep(&app).await;
        let form = |code: Value| json!({"username": "alice", "code": code, "new_password": NEW});
        app.post("/v1/recoveries", "", form(code(0))).await.expect(204);
        put_back(&app, CODES).await;
        for _restart in 0..2 {
            app.wait(60);
            app.post("/v1/recoveries", "", form(code(0))).await.refused(401, "bad_credentials");
            app.restart().await;
        }
        app.wait(60);
        // The factor went with the device. Another one is set up, and the earlier one put back.
        let token = app.try_login("alice", NEW).await.expect(201).text("access_token");
        set_up_with(&app, &token, NEW).await;
        put_back(&app, FACTORS).await;
        app.wait(60);
        let login = json!({"username": "alice", "password": NEW, "totp": "000000"});
        app.post("/v1/sessions", "", login).await.refused(403, "forbidden");
        app.wait(60);
        // Fresh codes replace those that were not used.
        app.post("/v1/recoveries", "", form(code(1))).await.expect(204);
        let token = app.try_login("alice", NEW).await.expect(201).text("access_token");
        app.post("/v1/me/recovery-codes", &token, json!({"password": NEW})).await.expect(201);
        put_back(&app, CODES).await;
        app.wait(60);
        app.post("/v1/recoveries", "", form(code(2))).await.refused(401, "bad_credentials");
    })
    .await;
}
