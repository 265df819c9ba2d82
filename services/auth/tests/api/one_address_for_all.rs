//! Behind a proxy everybody has one address: no stranger there shuts an owner out, and who has many addresses makes no more
//! guesses than who has one.

use futures_util::future::join_all;
use hbc_auth::testing::code_at;
use serde_json::json;

use crate::app::{PASSWORD, each};
use crate::second_factor::set_up;

const WRONG: &str = "wrong wrong wrong wrong";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_owners_address_do_not_shut_the_owner_out() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("carol").await;
        app.login("alice").await;
        // Behind one proxy everybody has one address.
        for guess in 0..320 {
            app.try_login(&format!("invented-{guess}"), WRONG).await;
            if guess >= 50 {
                app.wait(10);
            }
        }
        app.try_login("carol", PASSWORD).await.refused(429, "too_many_requests");
        let token = app.login("alice").await;
        // Within a session a password is asked for whatever happens outside: what stops is never stopped.
        let codes = app.post("/v1/me/recovery-codes", &token, json!({"password": PASSWORD})).await;
        codes.expect(201);
        for _guess in 0..10 {
            app.post("/v1/me/recovery-codes", &token, json!({"password": WRONG})).await;
            app.wait(10);
        }
        let closed = app.post("/v1/me/recovery-codes", &token, json!({"password": PASSWORD})).await;
        closed.refused(429, "too_many_requests");
        // Who guesses within a session closes that session alone.
        let other = app.login("alice").await;
        app.post("/v1/me/recovery-codes", &other, json!({"password": PASSWORD})).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_addresses_at_once_make_no_more_guesses_than_one_after_the_other() {
    each(|app| async move {
        app.patient("alice").await;
        let addresses: Vec<String> = (0..60).map(|n| format!("127.0.1.{n}")).collect();
        let guesses = addresses.iter().map(|address| app.try_login_from(address, "alice", WRONG));
        let statuses = join_all(guesses).await;
        let looked_at = statuses.iter().filter(|status| **status == 401).count();
        assert_eq!(looked_at, 21, "twenty free ones, and one until the first wait");
        assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 39);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_closes_after_five_wrong_codes() {
    each(|app| async move {
        app.agency("drbob").await;
        let token = app.login("drbob").await;
        let secret = set_up(&app, &token).await;
        let code = |code: String| json!({"username": "drbob", "password": PASSWORD, "totp": code});
        let thief = "127.0.0.66";
        let wrong = code("000000".to_owned());
        for _guess in 0..5 {
            app.log_in_with(thief, wrong.clone()).await.refused(401, "second_factor");
            app.wait(10);
        }
        let right = code(code_at(&secret, app.clock.now()));
        app.log_in_with(thief, right.clone()).await.refused(429, "too_many_requests");
        app.log_in_with("127.0.0.67", right.clone()).await.refused(429, "too_many_requests");
        // The owner's own address is not closed by the thief.
        app.post("/v1/sessions", "", right).await.expect(201);
        app.wait(900);
        let right = code(code_at(&secret, app.clock.now()));
        app.log_in_with("127.0.0.67", right).await.expect(201);
    })
    .await;
}
