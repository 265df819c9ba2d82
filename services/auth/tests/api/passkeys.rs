//! Passkeys: what makes one, what opens a session with it, what does not, and what ends it. The authenticator is software.

use hbc_auth::WebauthnSettings;
use hbc_auth::testing::code_at;
use hbc_client::jwt::Unverified;
use hbc_testkit::authenticator::{BACKED_UP, ELIGIBLE, PRESENT, SoftPasskey, VERIFIED, client_data};
use hbc_testkit::chain;
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{ORIGIN, PASSWORD, Reply, TestApp, decision, each};
use crate::second_factor::set_up;

const MAKE: &str = "/v1/me/passkey-challenges";
const OWN: &str = "/v1/me/passkeys";
const USE: &str = "/v1/passkey-challenges";
const OPEN: &str = "/v1/sessions/passkey";

pub async fn creation(app: &TestApp, token: &str) -> Value {
    app.post(MAKE, token, json!({"password": PASSWORD})).await.expect(201).body
}

async fn finish(app: &TestApp, token: &str, name: &str, credential: Value) -> Reply {
    app.post(OWN, token, json!({"name": name, "credential": credential})).await
}

/// A registered passkey and its id here.
pub async fn make(app: &TestApp, token: &str, edwards: bool) -> (SoftPasskey, String) {
    let options = creation(app, token).await;
    let passkey = SoftPasskey::new(&options, ORIGIN, &app.random, edwards);
    let made = finish(app, token, "Phone", passkey.made(&options)).await.expect(201);
    (passkey, made.text("id"))
}

pub async fn request(app: &TestApp) -> Value {
    app.call(Method::POST, USE, None, None).await.expect(201).body
}

pub async fn open(app: &TestApp, credential: Value) -> Reply {
    app.post(OPEN, "", json!({ "credential": credential })).await
}

pub async fn log_in(app: &TestApp, passkey: &mut SoftPasskey) -> Reply {
    open(app, passkey.used(&request(app).await)).await
}

pub async fn remove(app: &TestApp, token: &str, id: &str) -> Reply {
    let path = format!("{OWN}/{id}");
    app.call(Method::DELETE, &path, Some(token), Some(&json!({"password": PASSWORD}))).await
}

pub fn claims(tokens: &Reply) -> AccessClaims {
    let key = chain::key(0x77).verifying_key();
    Unverified::parse(&tokens.text("access_token"), ACCESS_TYP).unwrap().open(&key).unwrap()
}

fn not_known(reply: Reply) {
    let reply = reply.refused(401, "bad_credentials");
    assert_eq!(reply.text("detail"), "the passkey is not registered here, or did not sign this challenge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_is_made_listed_and_opens_a_session_with_two_factors() {
    each(|app| async move {
        let id = app.patient("alice").await.text("id");
        let token = app.login("alice").await;
        for edwards in [false, true] {
            let options = creation(&app, &token).await;
            assert_eq!(options["rp"], json!({"id": "localhost", "name": "HBC"}));
            assert_eq!(
                options["authenticatorSelection"],
                json!({"residentKey": "required", "requireResidentKey": true, "userVerification": "required"})
            );
            assert_eq!(
                (&options["attestation"], &options["extensions"], &options["timeout"]),
                (&json!("none"), &json!({"prf": {}, "credProps": true}), &json!(300_000))
            );
            assert_eq!(options["user"]["name"], "alice");
            assert!(!options.to_string().contains(&id), "the account's id stands nowhere");
            let mut passkey = SoftPasskey::new(&options, ORIGIN, &app.random, edwards);
            let made = finish(&app, &token, " Phone ", passkey.made(&options)).await.expect(201);
            assert_eq!((made.text("name"), &made.body["prf"]), ("Phone".to_owned(), &json!(true)));
            assert!(made.body.get("last_used_at").is_none());
            app.access_policy_answers(204).await;
            app.wait(5);
            let tokens = log_in(&app, &mut passkey).await.expect(201);
            assert_eq!((tokens.text("account"), tokens.text("role")), (id.clone(), "patient".to_owned()));
            assert_eq!(claims(&tokens).amr, ["hwk", "user"]);
            // access-policy was told of it before the tokens came.
            let path = format!("/internal/v1/sessions/{}", tokens.text("session"));
            assert!(app.told().await.iter().any(|told| told.url.path() == path));
            let own = tokens.text("access_token");
            let sessions = app.get("/v1/me/sessions", &own).await.expect(200).body["items"].clone();
            assert_eq!(
                (&sessions[0]["current"], &sessions[0]["second_factor"]),
                (&json!(true), &json!(true))
            );
            let refresh = json!({"refresh_token": tokens.text("refresh_token")});
            let refreshed = app.post("/v1/sessions/refresh", "", refresh).await.expect(200);
            assert_eq!(claims(&refreshed).amr, ["hwk", "user"]);
            let listed = app.get(OWN, &own).await.expect(200).body["items"].clone();
            let last = listed.as_array().unwrap().last().unwrap().clone();
            assert_eq!((&last["name"], &last["backed_up"]), (&json!("Phone"), &json!(false)));
            assert!(last["last_used_at"].is_string());
        }
        // The first one is named to the authenticators, so that they make no second.
        let options = creation(&app, &token).await;
        assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 2);
        assert_eq!(options["excludeCredentials"][0]["transports"], json!(["internal"]));
    })
    .await;
}

/// A passkey on several devices counts no signatures, and says when it is backed up.
#[tokio::test(flavor = "multi_thread")]
async fn a_synced_passkey_says_so_and_does_not_count() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let options = creation(&app, &token).await;
        let mut passkey = SoftPasskey::new(&options, ORIGIN, &app.random, false);
        (passkey.flags, passkey.count) = (PRESENT | VERIFIED | ELIGIBLE, 0);
        finish(&app, &token, "Cloud", passkey.made(&options)).await.expect(201);
        for _login in 0..2 {
            assert_eq!(claims(&log_in(&app, &mut passkey).await.expect(201)).amr, ["swk", "user"]);
        }
        passkey.flags |= BACKED_UP;
        log_in(&app, &mut passkey).await.expect(201);
        assert_eq!(app.get(OWN, &token).await.expect(200).body["items"][0]["backed_up"], true);
        // Whether it can be on several devices is decided for good.
        passkey.flags = PRESENT | VERIFIED;
        not_known(log_in(&app, &mut passkey).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_made_as_asked_is_no_passkey() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        app.post(MAKE, &token, json!({"password": "not the password"})).await.refused(401, "bad_credentials");
        app.wait(2);
        let options = creation(&app, &token).await;
        let mut passkey = SoftPasskey::new(&options, ORIGIN, &app.random, false);
        let good = client_data("webauthn.create", &options["challenge"], ORIGIN);
        let said = |name: &str, value: Value| {
            let mut said = good.clone();
            said[name] = value;
            said
        };
        let data = passkey.data(true);
        let mut faults = vec![
            ("another origin", passkey.made_with(&said("origin", json!("http://localhost:7101")), &data)),
            ("another site", passkey.made_with(&said("origin", json!("https://evil.example")), &data)),
            ("within another site", passkey.made_with(&said("crossOrigin", json!(true)), &data)),
            ("the other ceremony", passkey.made_with(&said("type", json!("webauthn.get")), &data)),
            ("no key", passkey.made_with(&good, &passkey.data(false))),
            ("cut", passkey.made_with(&good, &data[..data.len() - 1])),
            ("something behind it", passkey.made_with(&good, &[data.clone(), vec![0]].concat())),
        ];
        for (fault, flags) in [
            ("nobody there", VERIFIED),
            ("nobody known", PRESENT),
            ("backed up and cannot be", PRESENT | VERIFIED | BACKED_UP),
        ] {
            passkey.flags = flags;
            faults.push((fault, passkey.made_with(&good, &passkey.data(true))));
        }
        passkey.flags = PRESENT | VERIFIED;
        passkey.rp_id = "localhost.evil.example".to_owned();
        faults.push(("another relying party", passkey.made_with(&good, &passkey.data(true))));
        passkey.rp_id = "localhost".to_owned();
        let mut other = passkey.made(&options);
        other["id"] = json!("AAAA");
        faults.push(("two ids", other));
        let mut other = passkey.made(&options);
        other["response"]["attestationObject"] = json!("oA");
        faults.push(("no attestation", other));
        for (fault, credential) in faults {
            let reply = finish(&app, &token, "Phone", credential).await.refused(422, "invalid_input");
            assert_eq!(reply.body["errors"][0]["field"], "credential", "{fault}");
        }
        // The page's own secret does not come here.
        let mut secret = passkey.made(&options);
        secret["clientExtensionResults"]["prf"]["results"] = json!({"first": "c2VjcmV0"});
        let reply = finish(&app, &token, "Phone", secret).await.refused(422, "invalid_input");
        assert_eq!(reply.body["errors"][0]["field"], "credential.clientExtensionResults.prf.results");
        assert!(!reply.body.to_string().contains("c2VjcmV0"));
        for name in [String::new(), "n".repeat(81)] {
            finish(&app, &token, &name, passkey.made(&options)).await.refused(422, "invalid_input");
        }
        // None of all that used the challenge up; a challenge for signing in, or nobody's, is none for this.
        for challenge in [request(&app).await["challenge"].clone(), json!("AAAA")] {
            let credential = passkey.made(&json!({ "challenge": challenge }));
            finish(&app, &token, "Phone", credential).await.refused(409, "conflict");
        }
        finish(&app, &token, "Phone", passkey.made(&options)).await.expect(201);
        finish(&app, &token, "Phone", passkey.made(&options)).await.refused(409, "conflict");
        let next = creation(&app, &token).await;
        let reply = finish(&app, &token, "Again", passkey.made(&next)).await.refused(409, "conflict");
        assert_eq!(reply.text("detail"), "this passkey is registered already, or was");
    })
    .await;
}

/// The password that was shown for a challenge counts in that session, for five minutes and across a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_for_making_one_is_its_sessions_alone() {
    each(|mut app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let (token, bob) = (app.login("alice").await, app.login("bob").await);
        let elsewhere = app.login("alice").await;
        let options = creation(&app, &token).await;
        let passkey = SoftPasskey::new(&options, ORIGIN, &app.random, true);
        for other in [&bob, &elsewhere] {
            finish(&app, other, "Phone", passkey.made(&options)).await.refused(409, "conflict");
        }
        app.restart().await;
        app.wait(299);
        finish(&app, &token, "Phone", passkey.made(&options)).await.expect(201);
        let late = creation(&app, &token).await;
        app.wait(300);
        let passkey = SoftPasskey::new(&late, ORIGIN, &app.random, true);
        finish(&app, &token, "Late", passkey.made(&late)).await.refused(409, "conflict");
        // Whoever ended the session ended that too.
        let options = creation(&app, &token).await;
        app.call(Method::DELETE, "/v1/me/sessions", Some(&elsewhere), None).await.expect(200);
        finish(&app, &token, "Late", passkey.made(&options)).await.refused(401, "unauthenticated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_passkey_did_not_sign_here_and_now_opens_nothing() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let token = app.login("alice").await;
        let (mut passkey, _id) = make(&app, &token, false).await;
        let (bobs, _id) = make(&app, &app.login("bob").await, false).await;
        let options = request(&app).await;
        assert_eq!(
            (&options["rpId"], &options["allowCredentials"], &options["userVerification"]),
            (&json!("localhost"), &json!([]), &json!("required"))
        );
        let good = client_data("webauthn.get", &options["challenge"], ORIGIN);
        let said = |name: &str, value: Value| {
            let mut said = good.clone();
            said[name] = value;
            said
        };
        passkey.count = 5;
        let data = passkey.data(false);
        let mut faults = vec![
            ("another origin", passkey.used_with(&said("origin", json!("https://localhost:7100")), &data)),
            ("within another site", passkey.used_with(&said("crossOrigin", json!(true)), &data)),
            ("the other ceremony", passkey.used_with(&said("type", json!("webauthn.create")), &data)),
        ];
        for (fault, flags) in [("nobody there", VERIFIED), ("nobody known", PRESENT)] {
            passkey.flags = flags;
            faults.push((fault, passkey.used_with(&good, &passkey.data(false))));
        }
        passkey.flags = PRESENT | VERIFIED;
        passkey.rp_id = "evil.example".to_owned();
        faults.push(("another relying party", passkey.used_with(&good, &passkey.data(false))));
        passkey.rp_id = "localhost".to_owned();
        let with = |pointer: &str, value: Value| {
            let mut used = passkey.used_with(&good, &data);
            *used.pointer_mut(pointer).unwrap() = value;
            used
        };
        let whole = passkey.used_with(&good, &data);
        let signature = whole["response"]["signature"].as_str().unwrap().to_owned();
        let unknown = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let mut foreign = with("/id", bobs.used_with(&good, &data)["id"].clone());
        foreign["rawId"] = foreign["id"].clone();
        let mut stranger = with("/id", unknown.clone());
        stranger["rawId"] = unknown.clone();
        let mut more = passkey.data(false);
        more[32] |= ELIGIBLE;
        faults.extend([
            (
                "another's user handle",
                with("/response/userHandle", serde_json::to_value(&bobs.user).unwrap()),
            ),
            ("no user handle", with("/response/userHandle", Value::Null)),
            ("another's passkey", foreign),
            ("an unknown passkey", stranger),
            ("two ids", with("/id", unknown)),
            ("no type", with("/type", json!("password"))),
            ("no signature", with("/response/signature", json!(""))),
            ("a cut signature", with("/response/signature", json!(signature.get(..88)))),
            ("data that it did not sign", with("/response/authenticatorData", json!(""))),
            ("what it did not say before", passkey.used_with(&good, &more)),
        ]);
        for (fault, credential) in faults {
            let reply = open(&app, credential).await;
            assert_eq!(reply.status, 401, "{fault}: {:?}", reply.body);
            not_known(reply);
        }
        let mut secret = whole.clone();
        secret["clientExtensionResults"] = json!({"prf": {"results": {"first": "c2VjcmV0"}}});
        open(&app, secret).await.refused(422, "invalid_input");
        // None of all that used the challenge up. It is good once; another's, or one for making a passkey, never.
        open(&app, whole.clone()).await.expect(201);
        open(&app, whole).await.refused(409, "conflict");
        let making = creation(&app, &token).await;
        open(&app, passkey.used(&making)).await.refused(409, "conflict");
        open(&app, passkey.used(&json!({"challenge": "AAAA"}))).await.refused(409, "conflict");
        app.post(OPEN, "", json!({"credential": {}})).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_opens_one_session_for_five_minutes_and_across_a_restart() {
    each(|mut app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let (mut passkey, _id) = make(&app, &token, true).await;
        let early = request(&app).await;
        app.restart().await;
        app.wait(299);
        let answer = passkey.used(&early);
        let replies = (0..8).map(|_| open(&app, answer.clone()));
        let replies = futures_util::future::join_all(replies).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
        assert!(replies.iter().all(|reply| [201, 409].contains(&reply.status)));
        let late = request(&app).await;
        app.wait(300);
        open(&app, passkey.used(&late)).await.refused(409, "conflict");
        log_in(&app, &mut passkey).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_goes_back_lets_nobody_in() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let (mut passkey, _id) = make(&app, &token, false).await;
        passkey.count = 9;
        log_in(&app, &mut passkey).await.expect(201);
        for count in [0, 4, 9] {
            passkey.count = count;
            not_known(log_in(&app, &mut passkey).await);
        }
        passkey.count = 10;
        log_in(&app, &mut passkey).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_passkey_opens_nothing_more_and_its_sessions_end() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let (token, bob) = (app.login("alice").await, app.login("bob").await);
        let (mut passkey, id) = make(&app, &token, false).await;
        let (mut kept, _id) = make(&app, &token, true).await;
        let own = log_in(&app, &mut passkey).await.expect(201);
        let other = log_in(&app, &mut kept).await.expect(201);
        remove(&app, &bob, &id).await.refused(404, "not_found");
        let path = format!("{OWN}/{id}");
        let wrong = json!({"password": "not the password"});
        app.call(Method::DELETE, &path, Some(&token), Some(&wrong)).await.refused(401, "bad_credentials");
        app.wait(2);
        app.access_policy_answers(204).await;
        let first = remove(&app, &token, &id).await.expect(200);
        let again = remove(&app, &token, &id).await.expect(200);
        assert_eq!(first.body["since"], again.body["since"], "again, it changes nothing");
        let denied = format!("/internal/v1/denials/session/{}", own.text("session"));
        assert!(app.told().await.iter().any(|told| told.url.path() == denied));
        app.get("/v1/me", &own.text("access_token")).await.refused(401, "unauthenticated");
        app.get("/v1/me", &other.text("access_token")).await.expect(200);
        not_known(log_in(&app, &mut passkey).await);
        log_in(&app, &mut kept).await.expect(201);
        assert_eq!(app.get(OWN, &token).await.expect(200).body["items"].as_array().unwrap().len(), 1);
    })
    .await;
}

/// Whoever owns the database, or restores a copy of it, brings no passkey back, and makes none.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_hand_let_nobody_in() {
    each(|mut app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][0].clone();
        app.patient("mallory").await;
        let (token, mallory) = (app.login("alice").await, app.login("mallory").await);
        let (mut passkey, id) = make(&app, &token, false).await;
        let (mut other, _id) = make(&app, &mallory, false).await;
        app.by_hand("CREATE TABLE kept AS SELECT * FROM passkeys").await;
        remove(&app, &token, &id).await.expect(200);
        app.by_hand("DELETE FROM passkeys").await;
        app.by_hand("INSERT INTO passkeys SELECT * FROM kept").await;
        for _restart in 0..2 {
            not_known(log_in(&app, &mut passkey).await);
            app.restart().await;
        }
        assert_eq!(app.get(OWN, &token).await.expect(200).body["items"], json!([]));
        log_in(&app, &mut other).await.expect(201);
        // Nor does it keep its owner from making another one, or from a recovery.
        let (mut next, _id) = make(&app, &token, false).await;
        log_in(&app, &mut next).await.expect(201);
        let recovery = json!({"username": "alice", "code": code, "new_password": PASSWORD});
        app.post("/v1/recoveries", "", recovery).await.expect(204);
        not_known(log_in(&app, &mut next).await);
        app.by_hand("UPDATE passkeys SET account = (SELECT id FROM accounts WHERE username = 'alice')").await;
        not_known(log_in(&app, &mut other).await);
        // A challenge of another hand is none either.
        let options = request(&app).await;
        app.by_hand("UPDATE passkey_challenges SET expires_at_ms = expires_at_ms + 600000").await;
        open(&app, other.used(&options)).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_told_so_and_no_more() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        let token = app.login("drbob").await;
        let (mut passkey, _id) = make(&app, &token, false).await;
        let options = creation(&app, &token).await;
        let operator = app.login("operator-0").await;
        let body = decision("its licence was withdrawn");
        app.post(&format!("/v1/agencies/{id}/suspensions"), &operator, body).await.expect(200);
        let refused = log_in(&app, &mut passkey).await.refused(403, "suspended");
        assert_eq!(refused.text("detail"), "its licence was withdrawn");
        let next = SoftPasskey::new(&options, ORIGIN, &app.random, false);
        let late = finish(&app, &token, "Phone", next.made(&options)).await;
        assert!([401, 403].contains(&late.status), "{:?}", late.body);
        app.ledger_agrees().await;
        for operator in ["operator-0", "operator-1"] {
            app.wait(60);
            app.reinstate(operator, &id).await.expect(200);
        }
        app.ledger_agrees().await;
        log_in(&app, &mut passkey).await.expect(201);
    })
    .await;
}

/// Whoever had the password may have made one.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_removes_the_passkeys_and_a_new_password_does_not() {
    each(|app| async move {
        let code = app.patient("alice").await.body["recovery_codes"][0].clone();
        let token = app.login("alice").await;
        let (mut passkey, _id) = make(&app, &token, false).await;
        let new = "tall birches beside the lake";
        let change = json!({"password": PASSWORD, "new_password": new});
        app.put("/v1/me/password", &token, change).await.expect(204);
        log_in(&app, &mut passkey).await.expect(201);
        let recovery = json!({"username": "alice", "code": code, "new_password": PASSWORD});
        app.post("/v1/recoveries", "", recovery).await.expect(204);
        not_known(log_in(&app, &mut passkey).await);
        let token = app.login("alice").await;
        assert_eq!(app.get(OWN, &token).await.expect(200).body["items"], json!([]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_ten_passkeys_and_makes_twenty_a_day() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let mut ids = Vec::new();
        for _passkey in 0..9 {
            ids.push(make(&app, &token, true).await.1);
        }
        // Of two that were prepared in time one is too many.
        let (last, late) = (creation(&app, &token).await, creation(&app, &token).await);
        let passkey = SoftPasskey::new(&last, ORIGIN, &app.random, true);
        ids.push(finish(&app, &token, "Tenth", passkey.made(&last)).await.expect(201).text("id"));
        let passkey = SoftPasskey::new(&late, ORIGIN, &app.random, true);
        finish(&app, &token, "Eleventh", passkey.made(&late)).await.refused(409, "conflict");
        app.post(MAKE, &token, json!({"password": PASSWORD})).await.refused(409, "conflict");
        for id in ids {
            remove(&app, &token, &id).await.expect(200);
            make(&app, &token, true).await;
        }
        let items = app.get(OWN, &token).await.expect(200).body["items"].clone();
        remove(&app, &token, items[0]["id"].as_str().unwrap()).await.expect(200);
        let options = creation(&app, &token).await;
        let passkey = SoftPasskey::new(&options, ORIGIN, &app.random, true);
        finish(&app, &token, "More", passkey.made(&options)).await.refused(429, "too_many_requests");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_second_factor_is_asked_for_a_passkey_is_made_after_it_and_stands_for_it() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let secret = set_up(&app, &token).await;
        app.post(MAKE, &token, json!({"password": PASSWORD})).await.refused(401, "second_factor");
        let form = json!({"password": PASSWORD, "totp": code_at(&secret, app.clock.now())});
        let options = app.post(MAKE, &token, form).await.expect(201).body;
        let mut passkey = SoftPasskey::new(&options, ORIGIN, &app.random, false);
        finish(&app, &token, "Phone", passkey.made(&options)).await.expect(201);
        let said = claims(&log_in(&app, &mut passkey).await.expect(201));
        assert!(said.second_factor && said.amr.contains(&"user".to_owned()));
    })
    .await;
}

/// Guessing is hopeless; whoever tries all the same is slowed down, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn failures_slow_their_address_down_and_not_the_account() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let (mut passkey, _id) = make(&app, &token, false).await;
        let options = request(&app).await;
        let mut bad = passkey.used(&options);
        bad["response"]["signature"] = json!("AAAA");
        let mut refused = 0;
        while open(&app, bad.clone()).await.status == 401 {
            refused += 1;
            assert!(refused < 60, "nothing slows them down");
        }
        open(&app, bad).await.refused(429, "too_many_requests");
        open(&app, passkey.used(&options)).await.refused(429, "too_many_requests");
        app.wait(15);
        log_in(&app, &mut passkey).await.expect(201);
        app.login("alice").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_settings_there_are_no_passkeys_and_with_wrong_ones_no_service() {
    each(|mut app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        app.start_with_passkeys(None).await.unwrap();
        let told = "passkeys are not set up on this server";
        let prepared = app.post(MAKE, &token, json!({"password": PASSWORD})).await.refused(409, "conflict");
        assert_eq!(prepared.text("detail"), told);
        let request = app.call(Method::POST, USE, None, None).await.refused(409, "conflict");
        assert_eq!(request.text("detail"), told);
        assert_eq!(app.get(OWN, &token).await.expect(200).body["items"], json!([]));
        for (rp_id, origin) in [
            ("localhost", "http://127.0.0.1:7100"),
            ("hbc.example", "http://hbc.example"),
            ("", "https://a.example"),
        ] {
            let settings = WebauthnSettings { rp_id: rp_id.to_owned(), origins: vec![origin.to_owned()] };
            let why = app.start_with_passkeys(Some(settings)).await.unwrap_err();
            assert!(why.contains("webauthn"), "{why}");
        }
    })
    .await;
}
