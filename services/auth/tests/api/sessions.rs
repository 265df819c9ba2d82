//! Login, throttling, refresh rotation, logout, keys.

use hbc_client::jwt::Unverified;
use hbc_testkit::users::{AUDIENCE, ISSUER};
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims, Jwks};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{PASSWORD, TestApp, each};

#[tokio::test(flavor = "multi_thread")]
async fn the_published_key_opens_the_token() {
    each(|app| async move {
        let id = app.patient("alice").await.text("id");
        let token = app.login("alice").await;
        let jwks = app.get("/.well-known/jwks.json", "").await.expect(200);
        let jwks: Jwks = serde_json::from_value(jwks.body).unwrap();
        let key = ed25519_dalek::VerifyingKey::from_bytes(&jwks.keys[0].x.to_array().unwrap()).unwrap();
        let claims: AccessClaims = Unverified::parse(&token, ACCESS_TYP).unwrap().open(&key).unwrap();
        assert_eq!(claims.sub.as_str(), id);
        assert_eq!((claims.iss.as_str(), claims.aud.as_str()), (ISSUER, AUDIENCE));
        assert_eq!(claims.exp - claims.iat, 600);
        let metadata = app.get("/.well-known/oauth-authorization-server", "").await.expect(200);
        assert_eq!(metadata.text("jwks_uri"), format!("{ISSUER}/.well-known/jwks.json"));
        assert_eq!(metadata.text("token_endpoint"), format!("{ISSUER}/oauth/token"));
        assert_eq!(metadata.text("revocation_endpoint"), format!("{ISSUER}/oauth/revoke"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_and_wrong_passwords_look_alike_and_ten_failures_close_the_door() {
    each(|mut app| async move {
        app.patient("alice").await;
        let mut unknown =
            app.try_login("nobody", "wrong wrong wrong wrong").await.refused(401, "bad_credentials");
        let mut wrong =
            app.try_login("alice", "wrong wrong wrong wrong").await.refused(401, "bad_credentials");
        unknown.body["instance"] = json!(null);
        wrong.body["instance"] = json!(null);
        assert_eq!(unknown.body, wrong.body);
        let early = app.try_login("alice", PASSWORD).await.refused(429, "too_many_requests");
        assert_eq!(early.headers["retry-after"], "1");
        for _failure in 2..10 {
            app.wait(10);
            app.try_login("alice", "wrong wrong wrong wrong").await.refused(401, "bad_credentials");
        }
        app.wait(10);
        let closed =
            app.try_login("alice", "wrong wrong wrong wrong").await.refused(429, "too_many_requests");
        assert_eq!(closed.headers["retry-after"], "900");
        app.restart().await;
        app.wait(60);
        app.try_login("alice", PASSWORD).await.refused(429, "too_many_requests");
        app.wait(840);
        app.try_login("alice", PASSWORD).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_slows_himself_down_and_not_the_owner() {
    each(|app| async move {
        app.patient("alice").await;
        app.login("alice").await;
        for stranger in 2..6 {
            for _failure in 0..10 {
                app.try_login_from(&format!("127.0.0.{stranger}"), "alice", "wrong wrong wrong wrong").await;
                app.wait(10);
            }
        }
        assert_eq!(app.try_login_from("127.0.0.2", "alice", PASSWORD).await, 429, "closed to this stranger");
        app.try_login("alice", PASSWORD).await.expect(201);
        // A stranger at an address never seen waits a little, and is not shut out.
        app.try_login_from("127.0.0.9", "alice", "wrong wrong wrong wrong").await;
        assert_eq!(app.try_login_from("127.0.0.10", "alice", PASSWORD).await, 429);
        app.wait(10);
        assert_eq!(app.try_login_from("127.0.0.10", "alice", PASSWORD).await, 201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_looked_at_one_by_one() {
    each(|app| async move {
        app.patient("alice").await;
        let guess = || app.try_login("alice", "wrong wrong wrong wrong");
        let (a, b, c, d) = tokio::join!(guess(), guess(), guess(), guess());
        let mut statuses = [a.status, b.status, c.status, d.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [401, 429, 429, 429]);
    })
    .await;
}

async fn refresh(app: &TestApp, token: &str) -> crate::app::Reply {
    app.post("/v1/sessions/refresh", "", json!({"refresh_token": token})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_tokens_rotate_and_reuse_kills_the_family() {
    each(|app| async move {
        app.patient("alice").await;
        let first = app.try_login("alice", PASSWORD).await.expect(201);
        let second = refresh(&app, &first.text("refresh_token")).await.expect(200);
        assert_eq!(first.text("session"), second.text("session"));
        app.wait(9);
        let again = refresh(&app, &first.text("refresh_token")).await.expect(200);
        assert_eq!(again.text("refresh_token"), second.text("refresh_token"), "a lost answer is given again");
        app.wait(2);
        app.access_policy_answers(204).await;
        refresh(&app, &first.text("refresh_token")).await.refused(401, "token_reused");
        refresh(&app, &second.text("refresh_token")).await.refused(401, "unauthenticated");
        app.get("/v1/me", &second.text("access_token")).await.refused(401, "unauthenticated");
        let told = app.told().await;
        assert!(told.iter().any(|request| request.url.path().ends_with(&second.text("session"))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_successor_was_used_gets_no_grace() {
    each(|app| async move {
        app.patient("alice").await;
        let first = app.try_login("alice", PASSWORD).await.expect(201);
        let second = refresh(&app, &first.text("refresh_token")).await.expect(200);
        let third = refresh(&app, &second.text("refresh_token")).await.expect(200);
        refresh(&app, &first.text("refresh_token")).await.refused(401, "token_reused");
        refresh(&app, &third.text("refresh_token")).await.refused(401, "unauthenticated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_refreshes_of_one_token_agree() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.try_login("alice", PASSWORD).await.expect(201).text("refresh_token");
        let (a, b) = tokio::join!(refresh(&app, &token), refresh(&app, &token));
        assert_eq!(a.expect(200).text("refresh_token"), b.expect(200).text("refresh_token"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_refresh_tokens_end_by_themselves() {
    each(|app| async move {
        app.patient("alice").await;
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        app.wait(11 * 60);
        app.get("/v1/me", &tokens.text("access_token")).await.refused(401, "unauthenticated");
        app.wait(24 * 3600);
        refresh(&app, &tokens.text("refresh_token")).await.refused(401, "unauthenticated");
        refresh(&app, "hbr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
            .await
            .refused(401, "unauthenticated");
        refresh(&app, "nonsense").await.refused(401, "unauthenticated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_is_pushed_and_says_whether_it_arrived() {
    each(|app| async move {
        app.patient("alice").await;
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let token = tokens.text("access_token");
        app.access_policy_answers(503).await;
        let out = app.call(Method::DELETE, "/v1/sessions/current", Some(&token), None).await.expect(202);
        assert_eq!(out.body["effective"], false);
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        refresh(&app, &tokens.text("refresh_token")).await.refused(401, "unauthenticated");
        app.access_policy_answers(204).await;
        app.wait(2);
        app.pushes_settle().await;
        let told = app.told().await;
        let denial = told
            .iter()
            .find(|request| request.url.path().starts_with("/internal/v1/denials/session/"))
            .unwrap();
        assert!(String::from_utf8_lossy(&denial.body).contains("until"));
        let again = app.call(Method::DELETE, "/v1/sessions/current", Some(&token), None).await.expect(200);
        assert_eq!(again.text("since"), out.text("since"));
    })
    .await;
}

/// A token counts only for a session that access-policy knows: it is told before the tokens are answered, or as soon as it
/// can be.
#[tokio::test(flavor = "multi_thread")]
async fn access_policy_is_told_of_a_session_before_its_tokens_are_answered() {
    each(|app| async move {
        let patient = app.patient("alice").await.text("id");
        app.pushes_settle().await;
        app.access_policy_answers(204).await;
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let opened = |told: &[wiremock::Request], session: &str| {
            let path = format!("/internal/v1/sessions/{session}");
            told.iter().find(|request| request.url.path() == path).map(|request| request.body.clone())
        };
        let told: Value =
            serde_json::from_slice(&opened(&app.told().await, &tokens.text("session")).unwrap()).unwrap();
        assert_eq!(told["account"], patient.as_str());
        assert!(told["opened_at"].as_str() < told["expires_at"].as_str(), "{told}");
        app.access_policy_answers(503).await;
        let late = app.try_login("alice", PASSWORD).await.expect(201);
        app.access_policy_answers(204).await;
        app.wait(2);
        app.pushes_settle().await;
        assert!(opened(&app.told().await, &late.text("session")).is_some());
        // A refresh is no news.
        app.access_policy_answers(204).await;
        refresh(&app, &late.text("refresh_token")).await.expect(200);
        app.pushes_settle().await;
        assert!(app.told().await.is_empty());
    })
    .await;
}

/// An owner knows their own sessions again and ends them, one by one or all others.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended_by_their_owner() {
    each(|app| async move {
        const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1";
        app.patient("alice").await;
        app.patient("bob").await;
        let form = json!({"username": "alice", "password": PASSWORD});
        let headers = [("user-agent", PHONE)];
        let phone = app.call_with(Method::POST, "/v1/sessions", None, Some(&form), &headers).await.expect(201);
        app.wait(60);
        let own = app.try_login("alice", PASSWORD).await.expect(201);
        let third = app.try_login("alice", PASSWORD).await.expect(201);
        let token = own.text("access_token");
        app.wait(60);
        let form = json!({"refresh_token": phone.text("refresh_token")});
        let phone = app.post("/v1/sessions/refresh", "", form).await.expect(200);
        let list = async || app.get("/v1/me/sessions", &token).await.expect(200).body["items"].clone();
        let listed = list().await;
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[0]["id"], phone.text("session").as_str(), "the last used first");
        assert_eq!(listed[0]["client"], "Safari, iPhone");
        assert!(listed[0]["created_at"].as_str() < listed[0]["last_used_at"].as_str());
        let of_own = listed.iter().find(|one| one["current"] == true).unwrap();
        assert_eq!(of_own["id"], own.text("session").as_str());
        assert_eq!((of_own["second_factor"].clone(), of_own.get("client")), (json!(false), None));
        let whole = serde_json::to_string(listed).unwrap();
        assert!(!whole.contains("18_6") && !whole.contains("127.0.0.1"), "{whole}");
        // Another's is as unknown as none.
        let bob = app.login("bob").await;
        let path = format!("/v1/me/sessions/{}", phone.text("session"));
        app.call(Method::DELETE, &path, Some(&bob), None).await.refused(404, "not_found");
        app.access_policy_answers(204).await;
        for _again in 0..2 {
            app.call(Method::DELETE, &path, Some(&token), None).await.expect(200);
        }
        app.get("/v1/me", &phone.text("access_token")).await.refused(401, "unauthenticated");
        let told = app.told().await;
        let denial = format!("/internal/v1/denials/session/{}", phone.text("session"));
        assert!(told.iter().any(|request| request.url.path() == denial));
        app.call(Method::DELETE, "/v1/me/sessions", Some(&token), None).await.expect(200);
        app.get("/v1/me", &third.text("access_token")).await.refused(401, "unauthenticated");
        assert_eq!(list().await.as_array().unwrap().len(), 1);
        app.get("/v1/me", &bob).await.expect(200);
        // One that nobody can use any more is not shown.
        let token = app.login("alice").await;
        app.wait(23 * 3600);
        app.call(Method::DELETE, "/v1/sessions/current", Some(&token), None).await;
        let token = app.login("alice").await;
        app.wait(2 * 3600);
        let token = { let _old = token; app.login("alice").await };
        assert_eq!(app.get("/v1/me/sessions", &token).await.expect(200).body["items"].as_array().unwrap().len(), 2);
    })
    .await;
}

/// Tokens of the key before live out; new ones are under the new key; a key that is gone opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_tokens_is_rotated_without_ending_a_session() {
    each(|mut app| async move {
        app.patient("alice").await;
        let kid = |token: &str| Unverified::parse(token, ACCESS_TYP).unwrap().kid().to_owned();
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let old = tokens.text("access_token");
        app.rotate_token_key(0x78, true).await;
        app.get("/v1/me", &old).await.expect(200);
        let form = json!({"refresh_token": tokens.text("refresh_token")});
        let refreshed = app.post("/v1/sessions/refresh", "", form).await.expect(200);
        let new = refreshed.text("access_token");
        app.get("/v1/me", &new).await.expect(200);
        let jwks = app.get("/.well-known/jwks.json", "").await.expect(200);
        let jwks: Jwks = serde_json::from_value(jwks.body).unwrap();
        let kids: Vec<&str> = jwks.keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(kids, [kid(&new), kid(&old)]);
        app.rotate_token_key(0x79, false).await;
        app.get("/v1/me", &new).await.refused(401, "unauthenticated");
        let form = json!({"refresh_token": refreshed.text("refresh_token")});
        let last = app.post("/v1/sessions/refresh", "", form).await.expect(200).text("access_token");
        app.get("/v1/me", &last).await.expect(200);
    })
    .await;
}
