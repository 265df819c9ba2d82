//! TOTP: prepared, confirmed, asked for, never good twice.

use hbc_auth::testing::code_at;
use hbc_client::jwt::Unverified;
use hbc_testkit::chain;
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims};
use reqwest::Method;
use serde_json::json;

use crate::app::{PASSWORD, TestApp, each};

/// Reads the secret out of an `otpauth://` address.
fn secret(uri: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let text = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0_u32);
    for character in text.chars() {
        buffer = (buffer << 5) | u32::try_from(ALPHABET.find(character).unwrap()).unwrap();
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).unwrap());
        }
    }
    bytes
}

pub async fn set_up(app: &TestApp, token: &str) -> Vec<u8> {
    set_up_with(app, token, PASSWORD).await
}

/// The same for an account with another password.
pub async fn set_up_with(app: &TestApp, token: &str, password: &str) -> Vec<u8> {
    let prepared = app.post("/v1/me/totp", token, json!({"password": password})).await.expect(201);
    assert!(prepared.text("qr_svg").contains("<svg"));
    let secret = secret(&prepared.text("uri"));
    app.put("/v1/me/totp", token, json!({"code": "000000"})).await.refused(401, "second_factor");
    app.put("/v1/me/totp", token, json!({"code": code_at(&secret, app.clock.now())})).await.expect(204);
    app.wait(30);
    secret
}

#[tokio::test(flavor = "multi_thread")]
async fn once_confirmed_the_code_is_needed_and_good_once() {
    each(|app| async move {
        app.agency("drbob").await;
        let token = app.login("drbob").await;
        app.put("/v1/me/totp", &token, json!({"code": "123456"})).await.refused(409, "conflict");
        let secret = set_up(&app, &token).await;
        app.try_login("drbob", PASSWORD).await.refused(401, "second_factor");
        let code = code_at(&secret, app.clock.now());
        let form = json!({"username": "drbob", "password": PASSWORD, "totp": code});
        let tokens = app.post("/v1/sessions", "", form.clone()).await.expect(201);
        app.post("/v1/sessions", "", form).await.refused(401, "second_factor");
        app.wait(60);
        assert_eq!(app.get("/v1/me", &tokens.text("access_token")).await.body["second_factor"], true);
        let short = json!({"password": PASSWORD, "totp": code_at(&secret, app.clock.now()), "new_password": "birches 7"});
        app.put("/v1/me/password", &tokens.text("access_token"), short).await.expect(204);
        app.wait(30);
        let token = tokens.text("access_token");
        let off = |password: &str| json!({"password": password, "totp": code_at(&secret, app.clock.now())});
        let too_short = Some(off("birches 7"));
        let refused = app.call(Method::DELETE, "/v1/me/totp", Some(&token), too_short.as_ref()).await;
        refused.refused(422, "invalid_input");
        app.wait(30);
        let mut long = off("birches 7");
        long["new_password"] = json!("tall birches beside the lake");
        app.put("/v1/me/password", &token, long).await.expect(204);
        app.wait(30);
        let stands = off("tall birches beside the lake");
        app.call(Method::DELETE, "/v1/me/totp", Some(&token), Some(&stands)).await.expect(204);
        app.try_login("drbob", "tall birches beside the lake").await.expect(201);
    })
    .await;
}

/// Whoever prepared it may have been somebody with the old password.
#[tokio::test(flavor = "multi_thread")]
async fn a_factor_prepared_under_an_older_password_is_none() {
    each(|app| async move {
        app.agency("drbob").await;
        let token = app.login("drbob").await;
        let prepared = app.post("/v1/me/totp", &token, json!({"password": PASSWORD})).await.expect(201);
        let secret = secret(&prepared.text("uri"));
        let changed = json!({"password": PASSWORD, "new_password": "tall birches beside the lake"});
        app.put("/v1/me/password", &token, changed).await.expect(204);
        let code = json!({"code": code_at(&secret, app.clock.now())});
        app.put("/v1/me/totp", &token, code).await.refused(409, "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_removed_or_copied_by_hand_lets_nobody_in() {
    each(|app| async move {
        app.agency("drbob").await;
        app.agency("drmallory").await;
        let mallory = set_up(&app, &app.login("drmallory").await).await;
        set_up(&app, &app.login("drbob").await).await;
        app.by_hand(
            "UPDATE factors SET nonce = (SELECT f.nonce FROM factors f JOIN accounts a ON a.id = f.account WHERE a.username = 'drmallory'),
                encrypted = (SELECT f.encrypted FROM factors f JOIN accounts a ON a.id = f.account WHERE a.username = 'drmallory'),
                mac = (SELECT f.mac FROM factors f JOIN accounts a ON a.id = f.account WHERE a.username = 'drmallory')
             WHERE account = (SELECT id FROM accounts WHERE username = 'drbob')",
        )
        .await;
        let form = json!({"username": "drbob", "password": PASSWORD, "totp": code_at(&mallory, app.clock.now())});
        app.post("/v1/sessions", "", form.clone()).await.refused(403, "forbidden");
        app.by_hand("DELETE FROM factors WHERE account = (SELECT id FROM accounts WHERE username = 'drbob')").await;
        app.post("/v1/sessions", "", form).await.refused(403, "forbidden");
        app.try_login("drbob", PASSWORD).await.refused(403, "forbidden");
    })
    .await;
}

/// What asks for the second factor lately gets it in the same session; a session that was opened without it is none.
#[tokio::test(flavor = "multi_thread")]
async fn the_factor_is_shown_again_in_the_same_session() {
    each(|app| async move {
        app.patient("alice").await;
        let own = app.try_login("alice", PASSWORD).await.expect(201);
        let claims = |token: &str| -> AccessClaims {
            let key = chain::key(0x77).verifying_key();
            Unverified::parse(token, ACCESS_TYP).unwrap().open(&key).unwrap()
        };
        let token = own.text("access_token");
        assert!(!claims(&token).second_factor);
        let other = app.login("alice").await;
        let secret = set_up(&app, &token).await;
        app.get("/v1/me", &other).await.refused(401, "unauthenticated");
        let refreshed =
            app.post("/v1/sessions/refresh", "", json!({"refresh_token": own.text("refresh_token")})).await;
        let refreshed = refreshed.expect(200);
        let token = refreshed.text("access_token");
        let before = claims(&token);
        assert_eq!((before.amr.as_slice(), before.second_factor), (["pwd".to_owned()].as_slice(), true));
        let path = "/v1/sessions/current/step-up";
        app.post(path, &token, json!({"password": PASSWORD})).await.refused(401, "second_factor");
        app.post(path, &token, json!({"password": PASSWORD, "totp": "000000"}))
            .await
            .refused(401, "second_factor");
        app.wait(30);
        let form = json!({"password": PASSWORD, "totp": code_at(&secret, app.clock.now())});
        let shown = app.post(path, &token, form.clone()).await.expect(200).text("access_token");
        app.post(path, &token, form).await.refused(401, "second_factor");
        let after = claims(&shown);
        assert_eq!(after.amr, ["pwd", "otp"]);
        assert_eq!((after.sid, after.auth_time), (before.sid, app.clock.now().seconds()));
        // It stays so when the token is refreshed, with the time of then.
        app.wait(60);
        let form = json!({"refresh_token": refreshed.text("refresh_token")});
        let later =
            claims(&app.post("/v1/sessions/refresh", "", form).await.expect(200).text("access_token"));
        assert_eq!((later.amr.len(), later.auth_time), (2, after.auth_time));
    })
    .await;
}
