//! Sign-up, one's own account, recovery.

use ed25519_dalek::{Signer, SigningKey};
use hbc_types::keys::{PublicKey, root_possession_text};
use hbc_types::secret::Bytes;
use reqwest::Method;
use serde_json::json;

use crate::app::{PASSWORD, TestApp, each};

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_signs_up_and_access_policy_is_told_the_root_and_no_contact_data() {
    each(|app| async move {
        let form = json!({"username": "Alice", "password": PASSWORD,
            "contact": {"name": "Alice Example", "email": "alice@mail.test", "phone": "030 99887766"}});
        let signed_up = app.post("/v1/patients", "", form).await.expect(201);
        assert_eq!(signed_up.body["recovery_codes"].as_array().unwrap().len(), 8);
        let id = signed_up.text("id");
        let told = app.told().await;
        // The background loop may say the same a second time.
        let mut paths: Vec<_> =
            told.iter().map(|request| format!("{} {}", request.method, request.url.path())).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(
            paths,
            ["POST /internal/v1/patients".to_owned(), format!("PUT /internal/v1/subjects/{id}")]
        );
        for request in &told {
            assert!(request.headers.contains_key("hbc-service"));
            let body = String::from_utf8_lossy(&request.body).to_lowercase();
            assert!(!body.contains("alice") && !body.contains("99887766"), "{body}");
        }
        let token = app.login("alice").await;
        let me = app.get("/v1/me", &token).await.expect(200);
        assert_eq!(me.text("standing"), "active");
        assert_eq!(me.text("root_fingerprint"), signed_up.text("root_fingerprint"));
        assert_eq!(me.body["contact"]["phone"], "030 99887766");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sign_ups_name_their_fields_and_taken_names_are_refused() {
    each(|app| async move {
        let form = json!({"username": "a", "password": "short", "contact": {"email": "nobody"}});
        let refused = app.post("/v1/patients", "", form).await.refused(422, "invalid_input");
        let fields: Vec<_> =
            refused.body["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
        assert_eq!(fields, ["username", "contact.email", "password"]);
        for password in ["passwordpassword", "aaaaaaaaaaaaaaaa", "alice-alice-alice"] {
            let form = json!({"username": "alice", "password": password});
            app.post("/v1/patients", "", form).await.refused(422, "invalid_input");
        }
        app.patient("alice").await;
        let again = json!({"username": "ALICE", "password": PASSWORD});
        app.post("/v1/patients", "", again).await.refused(409, "duplicate");
        app.post("/v1/agencies", "", TestApp::agency_form("alice")).await.refused(409, "duplicate");
        let unknown = json!({"username": "bob", "password": PASSWORD, "role": "operator"});
        app.post("/v1/patients", "", unknown).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_is_pending_until_access_policy_took_it_and_is_driven_again() {
    each(|app| async move {
        app.access_policy_answers(503).await;
        app.patient("alice").await;
        let token = app.login("alice").await;
        assert_eq!(app.get("/v1/me", &token).await.text("standing"), "pending");
        app.access_policy_answers(204).await;
        app.wait(2);
        app.pushes_settle().await;
        assert_eq!(app.get("/v1/me", &token).await.text("standing"), "active");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_sign_up_with_its_key_gets_the_same_answer_and_codes() {
    each(|app| async move {
        let form = json!({"username": "alice", "password": PASSWORD});
        let key = [("idempotency-key", "k-1")];
        let send = |form: serde_json::Value| {
            let app = &app;
            async move { app.call_with(Method::POST, "/v1/patients", None, Some(&form), &key).await }
        };
        let first = send(form.clone()).await.expect(201);
        let second = send(form).await.expect(201);
        assert_eq!(first.body, second.body);
        let other = json!({"username": "alice", "password": "another walk beneath birches"});
        send(other).await.refused(422, "idempotency_mismatch");
        let stored: String = sqlx::query_scalar("SELECT body FROM saved_answers")
            .fetch_one(app.database.db.reads())
            .await
            .unwrap();
        assert!(!stored.contains(first.body["recovery_codes"][0].as_str().unwrap()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_holds_its_root_proves_it() {
    each(|app| async move {
        let root = SigningKey::from_bytes(&[9; 32]);
        let public = PublicKey::of(&root);
        let proof = |username: &str| {
            let text = root_possession_text(&app.chain(), &public.kid(), None, username);
            Bytes::from(root.sign(&text).to_bytes().as_slice())
        };
        let form = |pop: Bytes| {
            json!({"username": "carol", "password": PASSWORD, "custody": "client",
                "root_public_key": Bytes::from(public.as_bytes().as_slice()), "root_pop": pop})
        };
        app.post("/v1/patients", "", form(proof("mallory"))).await.refused(401, "bad_signature");
        let signed_up = app.post("/v1/patients", "", form(proof("carol"))).await.expect(201);
        assert_eq!(signed_up.text("root_fingerprint"), public.kid().to_string());
        // A code brings the password back; the keys are the client's.
        let code = signed_up.body["recovery_codes"][0].clone();
        let form =
            json!({"username": "carol", "code": code, "new_password": "seven grey herons stand still"});
        app.post("/v1/recoveries", "", form.clone()).await.expect(204);
        app.try_login("carol", PASSWORD).await.refused(401, "bad_credentials");
        app.wait(5);
        app.try_login("carol", "seven grey herons stand still").await.expect(201);
        app.wait(60);
        app.post("/v1/recoveries", "", form).await.refused(401, "bad_credentials");
        let without = json!({"username": "dora", "password": PASSWORD, "custody": "client"});
        app.post("/v1/patients", "", without).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contact_data_and_password_change() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let elsewhere = app.login("alice").await;
        let me =
            app.put("/v1/me/contact", &token, json!({"name": "Alice B.", "phone": "0301"})).await.expect(200);
        assert_eq!(me.body["contact"], json!({"name": "Alice B.", "phone": "0301"}));
        app.put("/v1/me/contact", &token, json!({"email": "x"})).await.refused(422, "invalid_input");
        let new = "seven grey herons stand still";
        let change = |old: &str, new: &str| json!({"password": old, "new_password": new});
        app.put("/v1/me/password", &token, change(PASSWORD, "short")).await.refused(422, "invalid_input");
        app.put("/v1/me/password", &token, change("wrong wrong wrong wrong", new))
            .await
            .refused(401, "bad_credentials");
        app.wait(1);
        app.put("/v1/me/password", &token, change(PASSWORD, new)).await.expect(204);
        app.get("/v1/me", &token).await.expect(200);
        app.get("/v1/me", &elsewhere).await.refused(401, "unauthenticated");
        app.try_login("alice", PASSWORD).await.refused(401, "bad_credentials");
        app.wait(1);
        app.try_login("alice", new).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_code_restores_signing_once() {
    each(|app| async move {
        let signed_up = app.patient("alice").await;
        let code = signed_up.body["recovery_codes"][3].as_str().unwrap().to_owned();
        let token = app.login("alice").await;
        let new = "seven grey herons stand still";
        let form =
            |username: &str, code: &str| json!({"username": username, "code": code, "new_password": new});
        app.post("/v1/recoveries", "", form("alice", "00000-00000-00000-00000-000000"))
            .await
            .refused(401, "bad_credentials");
        app.wait(1);
        app.post("/v1/recoveries", "", form("nobody", &code)).await.refused(401, "bad_credentials");
        app.wait(5);
        app.post("/v1/recoveries", "", form("alice", &code.to_lowercase())).await.expect(204);
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        app.post("/v1/recoveries", "", form("alice", &code)).await.refused(401, "bad_credentials");
        app.wait(60);
        let tokens = app.try_login("alice", new).await.expect(201);
        // The root came through: what it signs is under the pinned fingerprint still.
        let me = app.get("/v1/me", &tokens.text("access_token")).await;
        assert_eq!(me.text("root_fingerprint"), signed_up.text("root_fingerprint"));
        let order = json!({"password": new});
        app.post("/v1/me/unfreeze-signatures", &tokens.text("access_token"), order).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_recovery_codes_replace_the_old_ones() {
    each(|app| async move {
        let old = app.patient("alice").await.body["recovery_codes"][0].clone();
        let token = app.login("alice").await;
        app.post("/v1/me/recovery-codes", &token, json!({"password": "wrong wrong wrong"}))
            .await
            .refused(401, "bad_credentials");
        app.wait(1);
        let renewed = app.post("/v1/me/recovery-codes", &token, json!({"password": PASSWORD})).await.expect(201);
        let form = |code: &serde_json::Value| {
            json!({"username": "alice", "code": code, "new_password": "seven grey herons stand still"})
        };
        app.post("/v1/recoveries", "", form(&old)).await.refused(401, "bad_credentials");
        app.wait(1);
        app.post("/v1/recoveries", "", form(&renewed.body["recovery_codes"][7])).await.expect(204);
    })
    .await;
}
