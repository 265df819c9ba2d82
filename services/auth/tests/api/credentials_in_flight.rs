//! What was proved before something changed counts no more after it.

use futures_util::future::join_all;
use hbc_auth::testing::code_at;
use serde_json::json;

use crate::app::{PASSWORD, each};
use crate::second_factor::set_up;

const NEW: &str = "tall birches beside the lake";

#[tokio::test(flavor = "multi_thread")]
async fn no_login_under_way_survives_a_new_password() {
    each(|app| async move {
        app.patient("alice").await;
        let own = app.login("alice").await;
        let change = json!({"password": PASSWORD, "new_password": NEW});
        let addresses: Vec<String> = (20..28).map(|n| format!("127.0.0.{n}")).collect();
        let logins = addresses.iter().map(|address| app.log_in_from(address, "alice", PASSWORD));
        let (changed, logins) =
            tokio::join!(app.put("/v1/me/password", &own, change.clone()), join_all(logins));
        changed.expect(204);
        for login in logins {
            // It failed, or the change of the password ended it.
            if login.status == 201 {
                app.get("/v1/me", &login.text("access_token")).await.refused(401, "unauthenticated");
            } else {
                login.refused(401, "bad_credentials");
            }
        }
        app.get("/v1/me", &own).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_still_needs_its_code_is_no_failure() {
    each(|app| async move {
        app.agency("drbob").await;
        let token = app.login("drbob").await;
        let secret = set_up(&app, &token).await;
        for _visit in 0..12 {
            app.try_login("drbob", PASSWORD).await.refused(401, "second_factor");
        }
        let code = code_at(&secret, app.clock.now());
        let form = json!({"username": "drbob", "password": PASSWORD, "totp": code});
        app.post("/v1/sessions", "", form).await.expect(201);
    })
    .await;
}
