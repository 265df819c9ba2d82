//! An account that its owner closes: what it takes, what ends, what is left, and that nothing brings it back.

use futures_util::future::join_all;
use hbc_auth::testing::code_at;
use hbc_chain::payload::{AffiliationStatus, KeyStatus, Payload};
use hbc_types::wire::oauth::ClientAlgorithm;
use hbc_types::wire::preferences::Preferences;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{OPERATOR_PASSWORD, PASSWORD, Reply, TestApp, decision, each};
use crate::clients::Client;
use crate::consents::{GRANTEE, draft};
use crate::devices::Device;
use crate::hostile_database::{ACCOUNTS, CODES, SESSIONS, TOKENS, keep, put_back};
use crate::members::doctor_of;
use crate::second_factor::set_up;
use crate::{apps, clients, devices, passkeys};

const NEW: &str = "seven grey herons stand still";

fn wish(username: &str) -> Value {
    json!({"confirm": username, "password": PASSWORD})
}

async fn close(app: &TestApp, token: &str, body: Value) -> Reply {
    app.post("/v1/me/closure", token, body).await
}

/// What access-policy was told of this account last.
async fn told_of(app: &TestApp, account: &str) -> Value {
    let path = format!("/internal/v1/subjects/{account}");
    let told = app.told().await.into_iter().rfind(|request| request.url.path() == path);
    told.map(|request| serde_json::from_slice(&request.body).unwrap()).unwrap_or_default()
}

/// How many rows of auth's database hold this text, table by table.
async fn rows_with(app: &TestApp, sql: &'static str, text: &str) -> i64 {
    sqlx::query_scalar(sql).bind(text.to_owned()).fetch_one(app.database.db.reads()).await.unwrap()
}

/// Every answer about two names is equal to the byte but for the request's own id.
fn assert_same(closed: &Reply, nobody: &Reply) {
    let plain = |reply: &Reply| {
        let mut body = reply.body.clone();
        body.as_object_mut().map(|body| body.remove("instance"));
        (reply.status, body)
    };
    assert_eq!(plain(closed), plain(nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_the_username_the_password_and_the_factor() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        for typed in ["", "alic", "bob", "alice!"] {
            let refused = close(&app, &token, wish(typed)).await.refused(422, "invalid_input");
            assert_eq!(refused.body["errors"][0]["field"], "confirm");
        }
        let wrong = json!({"confirm": "alice", "password": "not the password at all"});
        close(&app, &token, wrong).await.refused(401, "bad_credentials");
        app.wait(5);
        close(&app, &token, json!({"confirm": "alice"})).await.refused(422, "invalid_input");
        let mut more = wish("alice");
        more["reason"] = json!("none");
        close(&app, &token, more).await.refused(422, "invalid_input");
        let secret = set_up(&app, &token).await;
        close(&app, &token, wish("alice")).await.refused(401, "second_factor");
        let mut coded = wish("Alice");
        coded["totp"] = json!("000000");
        close(&app, &token, coded.clone()).await.refused(401, "second_factor");
        app.wait(30);
        app.get("/v1/me", &token).await.expect(200);
        let operator = app.login("operator-0").await;
        let body = json!({"confirm": "operator-0", "password": OPERATOR_PASSWORD});
        close(&app, &operator, body).await.refused(403, "forbidden");
        coded["totp"] = json!(code_at(&secret, app.clock.now()));
        assert_eq!(close(&app, &token, coded).await.expect(200).body["effective"], json!(true));
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_patient_could_do_is_over() {
    each(|mut app| async move {
        let registered = apps::registered(&app, apps::new_app()).await;
        let made = app.patient("alice").await;
        let id = made.text("id");
        let contact = json!({"name": "Alice Example", "email": "alice@mail.test"});
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let token = tokens.text("access_token");
        let other = app.login("alice").await;
        app.put("/v1/me/contact", &token, contact).await.expect(200);
        app.put("/v1/me/preferences", &token, json!(Preferences::default())).await.expect(200);
        let (mut passkey, _id) = passkeys::make(&app, &token, false).await;
        let device = Device::random(&app).await;
        devices::pair(&app, &token, &device).await;
        let (_open, waiting) = devices::code(&app, &token).await;
        let measured = device.token(&app).await;
        let code = apps::code(&app, &token, &registered, &[]).await;
        let given =
            apps::exchange(&app, &[("code", Some(&code)), ("client_id", Some(&registered))]).await.expect(200);
        let unused = apps::code(&app, &token, &registered, &[]).await;
        let signed = async |grantee: &str| {
            let signed = app.post("/v1/me/consent-signatures", &token, draft(&app, &id, grantee)).await;
            hbc_chain::tx::Tx::parse(signed.expect(200).text("registration").as_bytes()).unwrap()
        };
        let (registration, held_back) =
            (signed(GRANTEE).await, signed("agy-00000000000000000000000000000002").await);
        app.ledger_decides(std::slice::from_ref(&registration)).await;
        app.access_policy_answers(204).await;

        let closed = close(&app, &token, wish("alice")).await.expect(200);
        assert_eq!((&closed.body["effective"], &closed.body["since"]), (&json!(true), &json!(app.clock.now())));
        let told = told_of(&app, &id).await;
        assert_eq!((&told["standing"], &told["role"]), (&json!("closed"), &json!("patient")));

        for _restart in 0..2 {
            for token in [&token, &other] {
                app.get("/v1/me", token).await.refused(401, "unauthenticated");
                close(&app, token, wish("alice")).await.refused(401, "unauthenticated");
            }
            let refresh = json!({"refresh_token": tokens.text("refresh_token")});
            app.post("/v1/sessions/refresh", "", refresh).await.refused(401, "unauthenticated");
            assert_eq!(apps::refresh(&app, &given.text("refresh_token"), &registered).await.status, 400);
            let with = [("code", Some(unused.as_str())), ("client_id", Some(registered.as_str()))];
            assert_eq!(apps::exchange(&app, &with).await.status, 400);
            assert_eq!(passkeys::log_in(&app, &mut passkey).await.status, 401);
            assert_eq!(device.ask(&app, None).await.status, 400, "nobody has paired it any more");
            assert_eq!(device.pairings(&app).await, Vec::<Value>::new());
            device.claim(&app, &waiting).await.refused(404, "not_found");
            app.try_login("alice", PASSWORD).await.refused(401, "bad_credentials");
            app.wait(60);
            app.restart().await;
        }
        drop(measured);

        // The username is nobody else's, and nothing else is left of whoever had it.
        let again = json!({"username": "alice", "password": PASSWORD});
        app.post("/v1/patients", "", again).await.refused(409, "duplicate");
        for (sql, text) in [
            ("SELECT CAST(count(*) AS BIGINT) FROM accounts WHERE name = $1", "Alice Example"),
            ("SELECT CAST(count(*) AS BIGINT) FROM accounts WHERE email = $1", "alice@mail.test"),
            ("SELECT CAST(count(*) AS BIGINT) FROM preferences WHERE account = $1", &id),
            ("SELECT CAST(count(*) AS BIGINT) FROM wrapped_keys WHERE account = $1", &id),
            ("SELECT CAST(count(*) AS BIGINT) FROM recovery_codes WHERE account = $1", &id),
            ("SELECT CAST(count(*) AS BIGINT) FROM passkeys WHERE account = $1", &id),
            ("SELECT CAST(count(*) AS BIGINT) FROM factors WHERE account = $1", &id),
            ("SELECT CAST(count(*) AS BIGINT) FROM accounts WHERE id = $1 AND password_hash LIKE '$argon2%'", &id),
        ] {
            assert_eq!(rows_with(&app, sql, text).await, 0, "{sql}");
        }

        // Its consent keys end on the ledger by auth's word; one that somebody held back is registered first.
        let waiting = app.waiting().await;
        for registration in [&registration, &held_back] {
            let Payload::ConsentKey(key) = registration.payload() else { panic!("{registration:?}") };
            let is_its = |tx: &&hbc_chain::tx::Tx| matches!(tx.payload(), Payload::ConsentKey(one) if one.key == key.key);
            let its: Vec<_> = waiting.iter().filter(is_its).collect();
            let [first, end] = its.as_slice() else { panic!("{its:?}") };
            let Payload::ConsentKey(ends) = end.payload() else { panic!("{end:?}") };
            assert_eq!((first.text(), ends.status, &ends.public), (registration.text(), KeyStatus::Revoked, &None));
            assert_eq!(end.verify_signature(&app.genesis.services[1].key), Ok(()));
        }
        assert_eq!(waiting.len(), 4);
        app.ledger_decides(&waiting).await;
        assert!(app.waiting().await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_name_is_answered_as_one_that_nobody_has() {
    each(|app| async move {
        let made = app.patient("alice").await;
        let code = made.body["recovery_codes"][0].clone();
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let refresh = json!({"refresh_token": tokens.text("refresh_token")});
        // Used once: another's would be told that it was used before.
        let token =
            app.post("/v1/sessions/refresh", "", refresh.clone()).await.expect(200).text("access_token");
        app.wait(60);
        close(&app, &token, wish("alice")).await.expect(200);
        let recover = |name: &str| json!({"username": name, "code": code, "new_password": NEW});
        let unknown = json!({"refresh_token": format!("hbr_{}", "A".repeat(43))});
        for _try in 0..3 {
            assert_same(&app.try_login("alice", PASSWORD).await, &app.try_login("nobody", PASSWORD).await);
            app.wait(20);
            let answers = [
                app.post("/v1/recoveries", "", recover("alice")).await,
                app.post("/v1/recoveries", "", recover("nobody")).await,
            ];
            assert_same(&answers[0], &answers[1]);
            assert_eq!(answers[0].status, 401);
            assert_same(
                &app.post("/v1/sessions/refresh", "", refresh.clone()).await,
                &app.post("/v1/sessions/refresh", "", unknown.clone()).await,
            );
            app.wait(20);
        }
        // They are slowed down alike.
        for name in ["alice", "nobody"] {
            for _guess in 0..4 {
                app.log_in_from("127.0.0.9", name, PASSWORD).await.refused(401, "bad_credentials");
                app.wait(12);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closings_at_once_close_it_once_and_what_is_under_way_finds_it_closed() {
    each(|app| async move {
        let id = app.patient("alice").await.text("id");
        let token = app.login("alice").await;
        app.access_policy_answers(204).await;
        let contact = json!({"name": "Alice Example"});
        let signing = draft(&app, &id, GRANTEE);
        let closings = join_all((0..4).map(|_| close(&app, &token, wish("alice"))));
        let (closings, contact, signed, codes) = tokio::join!(
            closings,
            app.put("/v1/me/contact", &token, contact),
            app.post("/v1/me/consent-signatures", &token, signing),
            app.post("/v1/me/pairing-codes", &token, json!({})),
        );
        let done: Vec<&Reply> = closings.iter().filter(|reply| reply.status == 200).collect();
        assert!(!done.is_empty() && done.iter().all(|reply| reply.body == done[0].body), "{closings:?}");
        // A second one that came too late proves nothing any more.
        assert!(closings.iter().all(|reply| [200, 401, 429].contains(&reply.status)), "{closings:?}");
        for late in [contact, signed, codes] {
            assert!([200, 201, 401, 409, 429].contains(&late.status), "{late:?}");
        }
        app.pushes_settle().await;
        assert_eq!(told_of(&app, &id).await["standing"], "closed");
        let told = app.told().await;
        let subjects = told.iter().filter(|one| one.url.path().ends_with(&format!("/subjects/{id}")));
        assert_eq!(subjects.count(), 1, "it was closed once");
        let sql = "SELECT CAST(count(*) AS BIGINT) FROM accounts WHERE name = $1";
        assert_eq!(rows_with(&app, sql, "Alice Example").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_access_policy_is_away_it_is_closed_here_and_told_later() {
    each(|app| async move {
        let id = app.patient("alice").await.text("id");
        let token = app.login("alice").await;
        app.access_policy_answers(503).await;
        let closed = close(&app, &token, wish("alice")).await.expect(202);
        assert_eq!(closed.body["effective"], json!(false));
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        app.try_login("alice", PASSWORD).await.refused(401, "bad_credentials");
        app.outage_ends().await;
        assert_eq!(told_of(&app, &id).await["standing"], "closed");
    })
    .await;
}

/// Whoever owns the database, or restores a copy of it, opens nothing again.
#[tokio::test(flavor = "multi_thread")]
async fn older_rows_do_not_open_it_again() {
    const PASSKEYS: [&str; 2] = ["DELETE FROM passkeys", "INSERT INTO passkeys SELECT * FROM older_passkeys"];
    each(|mut app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][0].clone();
        let tokens = app.try_login("alice", PASSWORD).await.expect(201);
        let token = tokens.text("access_token");
        let (mut passkey, _id) = passkeys::make(&app, &token, false).await;
        keep(&app).await;
        app.by_hand("CREATE TABLE older_passkeys AS SELECT * FROM passkeys").await;
        close(&app, &token, wish("alice")).await.expect(200);
        app.by_hand("UPDATE accounts SET standing = 'active' WHERE username = 'alice'").await;
        app.try_login("alice", PASSWORD).await.refused(401, "bad_credentials");
        for table in [ACCOUNTS, SESSIONS, CODES, TOKENS, PASSKEYS] {
            put_back(&app, table).await;
        }
        for _restart in 0..2 {
            app.wait(60);
            app.try_login("alice", PASSWORD).await.refused(401, "bad_credentials");
            app.wait(60);
            let form = json!({"username": "alice", "code": code, "new_password": NEW});
            app.post("/v1/recoveries", "", form).await.refused(401, "bad_credentials");
            let refresh = json!({"refresh_token": tokens.text("refresh_token")});
            assert!([401, 403].contains(&app.post("/v1/sessions/refresh", "", refresh).await.status));
            assert!([401, 403].contains(&app.get("/v1/me", &token).await.status));
            assert!([401, 403].contains(&passkeys::log_in(&app, &mut passkey).await.status));
            app.restart().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_closes_leaves_dismisses_and_keeps_what_its_approval_names() {
    each(|app| async move {
        let hospital = app.approved_agency("hospital").await;
        let doctor = doctor_of(&app, &hospital, "drcarla").await;
        let late = doctor_of(&app, &hospital, "drlate").await;
        let own = app.login("hospital").await;
        let word = json!({"function": "surgeon", "password": PASSWORD});
        app.put(&format!("/v1/me/members/{doctor}"), &own, word.clone()).await.expect(200);
        app.ledger_agrees().await;
        app.put(&format!("/v1/me/members/{late}"), &own, word).await.expect(200);
        let pending = app.waiting().await;
        let program = Client::register(&app, &own, ClientAlgorithm::EdDsa).await;
        let token = program.token(&app).await;
        app.access_policy_answers(204).await;

        close(&app, &own, wish("hospital")).await.expect(200);
        assert_eq!(clients::ask(&app, &program.assertion(&app), None).await.status, 400);
        app.get("/v1/me/clients", &own).await.refused(401, "unauthenticated");
        app.get("/v1/me/clients", &token).await.refused(401, "unauthenticated");
        let told = told_of(&app, &hospital).await;
        assert_eq!((&told["standing"], &told["name"]), (&json!("closed"), &json!("Dr. hospital")));
        assert!(told["profile"].is_object(), "the ledger's entry can still be opened");
        // It dismissed whom the ledger says it took in; what is not final yet the other side can end.
        let waiting = app.waiting().await;
        let [_take_in, end] = waiting.as_slice() else { panic!("{waiting:?}") };
        let Payload::Affiliation(change) = end.payload() else { panic!("{end:?}") };
        assert_eq!(
            (change.nonce, change.status, end.kid()),
            (1, AffiliationStatus::Ended, change.organisation)
        );
        app.ledger_decides(&pending).await;
        let hers = app.login("drlate").await;
        let proof = json!({"password": PASSWORD});
        app.call(Method::DELETE, "/v1/me/organisation", Some(&hers), Some(&proof)).await.expect(200);

        // Operators see it as closed, others do not find it, and nobody brings it back.
        let operator = app.login("operator-0").await;
        let listed =
            app.get("/v1/agencies?standing=closed", &operator).await.expect(200).body["items"].clone();
        assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&json!(hospital), &json!("Dr. hospital")));
        assert_eq!(listed[0]["contact"], json!({"name": "Dr. hospital"}));
        let others = app.get("/v1/agencies", &hers).await.expect(200).body["items"].clone();
        assert!(others.as_array().unwrap().iter().all(|agency| agency["id"] != json!(hospital)));
        assert_eq!(app.get(&format!("/v1/agencies/{hospital}"), &hers).await.text("standing"), "closed");
        let path = |what: &str| format!("/v1/agencies/{hospital}/{what}");
        let password = json!({"password": OPERATOR_PASSWORD});
        app.post(&path("approvals"), &operator, password).await.refused(409, "conflict");
        for what in ["rejections", "suspensions", "reinstatements"] {
            app.post(&path(what), &operator, decision("it is over")).await.refused(409, "conflict");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_was_never_approved_leaves_its_username_alone() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        app.approve("operator-0", &id).await.expect(200);
        app.approve("operator-1", &id).await.expect(200);
        let token = app.login("drbob").await;
        app.access_policy_answers(204).await;
        close(&app, &token, wish("drbob")).await.expect(200);
        let told = told_of(&app, &id).await;
        assert_eq!((&told["standing"], &told.get("name")), (&json!("closed"), &None));
        // The votes that were under way become final, and approve nobody.
        app.ledger_agrees().await;
        assert_eq!(told_of(&app, &id).await["standing"], "closed");
        app.try_login("drbob", PASSWORD).await.refused(401, "bad_credentials");
        let operator = app.login("operator-0").await;
        let listed =
            app.get("/v1/agencies?standing=closed", &operator).await.expect(200).body["items"].clone();
        assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&json!(id), &json!("")));
        assert!(listed[0].get("licence_number").is_none());
        app.patient("alice").await;
        let alice = app.login("alice").await;
        app.get(&format!("/v1/agencies/{id}"), &alice).await.refused(404, "not_found");
    })
    .await;
}
