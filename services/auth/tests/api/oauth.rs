//! OAuth's endpoints, by the letter of RFC 6749 and RFC 7009.

use reqwest::Method;

use crate::app::{PASSWORD, Reply, TestApp, each};

async fn refresh(app: &TestApp, token: &str) -> Reply {
    app.send_form("/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

fn refused(reply: &Reply, status: u16, error: &str) {
    assert_eq!((reply.status, reply.body["error"].as_str()), (status, Some(error)), "{:?}", reply.body);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(!reply.headers.contains_key("www-authenticate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_advertised_endpoint_refreshes_and_reuse_kills_the_family() {
    each(|app| async move {
        app.patient("alice").await;
        let first = app.try_login("alice", PASSWORD).await.expect(201);
        let second = refresh(&app, &first.text("refresh_token")).await.expect(200);
        assert_eq!(second.body.as_object().unwrap().len(), 4, "what RFC 6749 names, and no more");
        assert_eq!(second.text("token_type"), "Bearer");
        assert_eq!(second.body["expires_in"], 600);
        assert_eq!(second.headers["cache-control"], "no-store");
        assert_eq!(second.headers["pragma"], "no-cache");
        app.get("/v1/me", &second.text("access_token")).await.expect(200);
        app.wait(11);
        refused(&refresh(&app, &first.text("refresh_token")).await, 400, "invalid_grant");
        refused(&refresh(&app, &second.text("refresh_token")).await, 400, "invalid_grant");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_token_request_is_refused_in_oauths_words() {
    each(|app| async move {
        let token = "/oauth/token";
        refused(&app.send_form(token, &[]).await, 400, "invalid_request");
        refused(&app.send_form(token, &[("grant_type", "")]).await, 400, "invalid_request");
        refused(&app.send_form(token, &[("grant_type", "refresh_token")]).await, 400, "invalid_request");
        let twice = [("grant_type", "refresh_token"), ("refresh_token", "a"), ("refresh_token", "a")];
        refused(&app.send_form(token, &twice).await, 400, "invalid_request");
        for unknown in ["password", "implicit", "device_code"] {
            let fields = [("grant_type", unknown), ("username", "alice"), ("password", PASSWORD)];
            refused(&app.send_form(token, &fields).await, 400, "unsupported_grant_type");
        }
        refused(&refresh(&app, "nonsense").await, 400, "invalid_grant");
        let long = "a".repeat(20_000);
        refused(&refresh(&app, &long).await, 400, "invalid_request");
        let json = serde_json::json!({"grant_type": "refresh_token", "refresh_token": "a"});
        refused(&app.call(Method::POST, token, None, Some(&json)).await, 400, "invalid_request");
        let get = app.call(Method::GET, token, None, None).await;
        assert_eq!((get.status, get.body["error"].as_str()), (405, Some("invalid_request")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_given_back_ends_its_session_and_no_other() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("bella").await;
        let revoke = async |token: &str| app.send_form("/oauth/revoke", &[("token", token)]).await.status;
        let [by_refresh, by_access, kept] =
            [(); 3].map(|()| async { app.try_login("alice", PASSWORD).await.expect(201) });
        let (by_refresh, by_access, kept) = (by_refresh.await, by_access.await, kept.await);
        assert_eq!(revoke("nonsense").await, 200);
        assert_eq!(revoke("hbr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await, 200);
        let forged = kept.text("access_token").replacen('.', ".e", 1);
        assert_eq!(revoke(&forged).await, 200);

        app.access_policy_answers(503).await;
        let early = app.send_form("/oauth/revoke", &[("token", &by_refresh.text("refresh_token"))]).await;
        refused(&early, 503, "temporarily_unavailable");
        app.get("/v1/me", &by_refresh.text("access_token")).await.refused(401, "unauthenticated");
        app.access_policy_answers(204).await;
        app.wait(2);
        app.pushes_settle().await;
        assert_eq!(revoke(&by_refresh.text("refresh_token")).await, 200);
        let told = app.told().await;
        assert!(told.iter().any(|request| request.url.path().ends_with(&by_refresh.text("session"))));
        refused(&refresh(&app, &by_refresh.text("refresh_token")).await, 400, "invalid_grant");

        assert_eq!(revoke(&by_access.text("access_token")).await, 200);
        app.get("/v1/me", &by_access.text("access_token")).await.refused(401, "unauthenticated");
        refused(&refresh(&app, &by_access.text("refresh_token")).await, 400, "invalid_grant");
        app.get("/v1/me", &kept.text("access_token")).await.expect(200);
        refused(&app.send_form("/oauth/revoke", &[]).await, 400, "invalid_request");
    })
    .await;
}
