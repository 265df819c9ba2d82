//! Third-party apps: who may ask, where answers go, what a code is good for, and what ends an app. The table of faults follows the
//! OAuth security best current practice (RFC 9700).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hbc_chain::bodies::{AppRegistration, Body as _, OrderBody};
use hbc_chain::payload::Payload;
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::users::ISSUER;
use hbc_types::hash;
use hbc_types::ids::AppId;
use hbc_types::wire::oauth::{ClientAlgorithm, JWT_BEARER};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::app::{OPERATOR_PASSWORD, PASSWORD, Reply, TestApp, decision, each};

const BACK: &str = "https://app.example/back";
const SCOPE: &str = "launch/patient openid fhirUser online_access offline_access patient/*.rs";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A parameter with another value, or left out.
pub type Changed<'a> = (&'a str, Option<&'a str>);

pub fn new_app() -> Value {
    json!({
        "name": "Diary", "publisher": "Example Ltd.", "redirect_uris": [BACK, "http://127.0.0.1/back"], "scope": SCOPE,
        "password": OPERATOR_PASSWORD,
    })
}

pub async fn register(app: &TestApp, new: Value) -> String {
    let token = app.login("operator-0").await;
    app.post("/v1/apps", &token, new).await.expect(201).text("id")
}

/// An app for which both operators signed, and the ledger agreed.
pub async fn registered(app: &TestApp, new: Value) -> String {
    let id = register(app, new).await;
    let token = app.login("operator-1").await;
    let password = json!({"password": OPERATOR_PASSWORD});
    app.post(&format!("/v1/apps/{id}/approvals"), &token, password).await.expect(200);
    app.ledger_agrees().await;
    id
}

/// A query, with some parameters changed or left out.
pub fn query(id: &str, change: &[Changed<'_>]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", BACK),
        ("scope", SCOPE),
        ("state", "s 1"),
        ("nonce", "n1"),
        ("aud", "https://records.example/fhir"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in change {
        pairs.retain(|(known, _)| known != name);
        pairs.extend(value.map(|value| (*name, value)));
    }
    let mut url = Url::parse("https://portal.example/").unwrap();
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap().to_owned()
}

pub async fn ask(app: &TestApp, token: &str, query: &str) -> Reply {
    app.post("/v1/authorizations", token, json!({"query": query})).await
}

/// What the browser is sent back with.
fn redirect(reply: &Reply) -> (String, Vec<(String, String)>) {
    let url = Url::parse(&reply.text("redirect")).unwrap();
    let pairs = url.query_pairs().into_owned().collect();
    (url.as_str().split('?').next().unwrap().to_owned(), pairs)
}

fn parameter(reply: &Reply, name: &str) -> Option<String> {
    redirect(reply).1.into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// The patient says yes, and the code is out.
pub async fn code(app: &TestApp, token: &str, id: &str, change: &[Changed<'_>]) -> String {
    let asked = ask(app, token, &query(id, change)).await.expect(201);
    let path = format!("/v1/authorizations/{}/decision", asked.body["authorization"]["id"].as_str().unwrap());
    let yes = app.post(&path, token, json!({"allow": true})).await.expect(200);
    parameter(&yes, "code").unwrap()
}

pub async fn exchange(app: &TestApp, change: &[Changed<'_>]) -> Reply {
    let mut fields =
        vec![("grant_type", "authorization_code"), ("redirect_uri", BACK), ("code_verifier", VERIFIER)];
    for (name, value) in change {
        fields.retain(|(known, _)| known != name);
        fields.extend(value.map(|value| (*name, value)));
    }
    app.send_form("/oauth/token", &fields).await
}

pub async fn refresh(app: &TestApp, token: &str, id: &str) -> Reply {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", id)];
    app.send_form("/oauth/token", &fields).await
}

fn refused(reply: &Reply, error: &str) {
    assert_eq!((reply.status, reply.body["error"].as_str()), (400, Some(error)), "{:?}", reply.body);
}

fn claims_of(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Whether access-policy was told that a session is over.
async fn told_of_an_end(app: &TestApp) -> bool {
    app.told().await.iter().any(|request| request.url.path().contains("/denials/session/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_waits_for_two_operators_and_the_ledger() {
    each(|app| async move {
        let id = register(&app, new_app()).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        app.get(&format!("/v1/apps/{id}"), &alice).await.refused(404, "not_found");
        ask(&app, &alice, &query(&id, &[])).await.refused(422, "invalid_input");
        app.ledger_agrees().await;
        ask(&app, &alice, &query(&id, &[])).await.refused(422, "invalid_input");
        let password = json!({"password": OPERATOR_PASSWORD});
        let approvals = format!("/v1/apps/{id}/approvals");
        let first = app.login("operator-0").await;
        app.post(&approvals, &first, password.clone()).await.expect(200);
        assert!(app.waiting().await.is_empty(), "who signed twice signed once");
        let second = app.login("operator-1").await;
        app.post(&approvals, &second, password.clone()).await.expect(200);
        let orders = app.waiting().await;
        app.access_policy_answers(204).await;
        app.ledger_agrees().await;
        let listed = app.get("/v1/apps", &alice).await.expect(200);
        assert_eq!(listed.body["items"][0]["id"], json!(id));
        let view = app.get(&format!("/v1/apps/{id}"), &alice).await.expect(200);
        assert_eq!(
            (view.text("standing"), view.body["confidential"].clone()),
            ("active".to_owned(), json!(false))
        );
        app.post(&approvals, &second, password).await.expect(200);
        assert!(app.waiting().await.is_empty(), "it is registered already");

        // What access-policy is told opens what the operators signed, and holds all that the app is.
        let told = app.told().await;
        let subject =
            told.iter().find(|request| request.url.path().ends_with(&format!("/subjects/{id}"))).unwrap();
        let subject: Value = serde_json::from_slice(&subject.body).unwrap();
        assert_eq!((subject["role"].clone(), subject["name"].clone()), (json!("app"), json!("Diary")));
        let body = subject["profile"]["body"].as_str().unwrap();
        let salt: hbc_types::secret::Bytes =
            serde_json::from_value(subject["profile"]["salt"].clone()).unwrap();
        let Payload::Order(order) = orders[0].payload() else { panic!("{orders:?}") };
        assert_eq!(hash::order(&salt.to_array().unwrap(), body.as_bytes()), order.commitment);
        assert_eq!(order.subject, AppRegistration::subject_of(&AppId::parse(&id).unwrap()));
        let registration = AppRegistration::of_order(&OrderBody::read(body.as_bytes()).unwrap()).unwrap();
        assert_eq!((registration.publisher.as_str(), registration.redirect_uris.len()), ("Example Ltd.", 2));
        assert_eq!(registration.scope, view.text("scope"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_registered_is_named() {
    each(|app| async move {
        let token = app.login("operator-0").await;
        let cases = [
            ("name", json!(""), "name"),
            ("publisher", json!(" "), "publisher"),
            ("redirect_uris", json!([]), "redirect_uris"),
            ("redirect_uris", json!([BACK, "http://app.example/back"]), "redirect_uris[1]"),
            ("redirect_uris", json!(["https://app.example/back#x"]), "redirect_uris[0]"),
            ("redirect_uris", json!(["javascript:alert(1)"]), "redirect_uris[0]"),
            ("scope", json!("system/*.rs"), "scope"),
            ("scope", json!("patient/*.crs"), "scope"),
            ("jwks", json!({"keys": []}), "jwks"),
        ];
        for (field, value, named) in cases {
            let mut new = new_app();
            new[field] = value;
            let reply = app.post("/v1/apps", &token, new).await.refused(422, "invalid_input");
            assert_eq!(reply.body["errors"][0]["field"], named, "{:?}", reply.body);
        }
        for extra in ["standing", "id", "verified"] {
            let mut new = new_app();
            new[extra] = json!("active");
            app.post("/v1/apps", &token, new).await.refused(422, "invalid_input");
        }
    })
    .await;
}

/// RFC 9700 §2.1 and §4.1, RFC 6749 §4.1.2.1, SMART App Launch 2.2.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_at_fault_goes_back_to_the_app_or_nowhere() {
    each(|app| async move {
        let id = registered(&app, new_app()).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        // Nowhere: a stranger may have made up the address.
        let nowhere: [&[Changed<'_>]; 8] = [
            &[("client_id", None)],
            &[("client_id", Some("app-00000000000000000000000000000000"))],
            &[("client_id", Some("cli-00000000000000000000000000000000"))],
            &[("redirect_uri", None)],
            &[("redirect_uri", Some("https://app.example/back/"))],
            &[("redirect_uri", Some("https://app.example/back?next=https://evil.example"))],
            &[("redirect_uri", Some("https://evil.example/back"))],
            &[("redirect_uri", Some("https://app.example.evil.example/back"))],
        ];
        for change in nowhere {
            let reply = ask(&app, &alice, &query(&id, change)).await.refused(422, "invalid_input");
            assert!(reply.body.get("redirect").is_none(), "{change:?}");
        }
        let twice = format!("{}&redirect_uri=https://evil.example/", query(&id, &[]));
        ask(&app, &alice, &twice).await.refused(422, "invalid_input");
        // To the app, with its state and our name (RFC 9207).
        let back: [(&str, Option<&str>, &str); 9] = [
            ("response_type", Some("token"), "unsupported_response_type"),
            ("response_type", Some("code id_token"), "unsupported_response_type"),
            ("code_challenge", None, "invalid_request"),
            ("code_challenge_method", Some("plain"), "invalid_request"),
            ("code_challenge_method", None, "invalid_request"),
            ("aud", Some("https://evil.example/fhir"), "invalid_request"),
            ("aud", None, "invalid_request"),
            ("scope", Some("system/*.rs"), "invalid_scope"),
            ("request_uri", Some("https://evil.example/request"), "request_not_supported"),
        ];
        for (name, value, error) in back {
            let reply = ask(&app, &alice, &query(&id, &[(name, value)])).await.expect(200);
            let (to, _) = redirect(&reply);
            assert_eq!((to.as_str(), parameter(&reply, "error").as_deref()), (BACK, Some(error)), "{name}");
            assert_eq!(parameter(&reply, "state").as_deref(), Some("s 1"));
            assert_eq!(parameter(&reply, "iss").as_deref(), Some(ISSUER));
            assert_eq!(parameter(&reply, "code"), None);
        }
        // An app's own machine, with any port (RFC 8252 §7.3).
        let native = [("redirect_uri", Some("http://127.0.0.1:51004/back"))];
        let asked = ask(&app, &alice, &query(&id, &native)).await.expect(201);
        assert_eq!(asked.body["authorization"]["redirect_origin"], "http://127.0.0.1:51004");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_answers_once_and_for_themselves() {
    each(|app| async move {
        let id = registered(&app, new_app()).await;
        app.patient("alice").await;
        app.patient("mallory").await;
        let (alice, mallory) = (app.login("alice").await, app.login("mallory").await);
        let wish = [("scope", Some("launch/patient patient/Observation.rs?category=laboratory patient/*.write user/*.rs"))];
        let asked = ask(&app, &alice, &query(&id, &wish)).await.expect(201);
        let view = &asked.body["authorization"];
        assert_eq!(
            view["scope"],
            "launch/patient \
             patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
        );
        assert_eq!(view["access"]["categories"], json!(["laboratory"]));
        assert_eq!(view["access"]["sensitivities"], json!(["normal"]));
        assert_eq!((view["access"]["actions"].clone(), view["access"]["purposes"].clone()), (json!(["read"]), json!(["PATRQT"])));
        assert_eq!(view["offline"], false);
        let path = format!("/v1/authorizations/{}", view["id"].as_str().unwrap());
        let decide = format!("{path}/decision");
        // Another patient's question is no question (RFC 9700 §4.7: nobody answers in another's session).
        app.get(&path, &mallory).await.refused(404, "not_found");
        app.post(&decide, &mallory, json!({"allow": true})).await.refused(404, "not_found");
        app.post(&decide, "", json!({"allow": true})).await.refused(401, "unauthenticated");
        let wider = json!({"allow": true, "scope": "launch/patient patient/*.rs"});
        app.post(&decide, &alice, wider).await.refused(422, "invalid_input");
        let longer = json!({"allow": true, "until": app.clock.now().plus(std::time::Duration::from_secs(91 * 86_400))});
        app.post(&decide, &alice, longer).await.refused(422, "invalid_input");
        let no = app.post(&decide, &alice, json!({"allow": false})).await.expect(200);
        assert_eq!(parameter(&no, "error").as_deref(), Some("access_denied"));
        app.post(&decide, &alice, json!({"allow": true})).await.refused(409, "conflict");
        app.get(&path, &alice).await.refused(404, "not_found");
        // Ten minutes.
        let asked = ask(&app, &alice, &query(&id, &[])).await.expect(201);
        let late = format!("/v1/authorizations/{}/decision", asked.body["authorization"]["id"].as_str().unwrap());
        app.wait(600);
        let fresh = app.login("alice").await;
        app.post(&late, &fresh, json!({"allow": true})).await.refused(409, "conflict");
        // So many at once, and no more.
        for _ in 0..20 {
            ask(&app, &fresh, &query(&id, &[])).await.expect(201);
        }
        ask(&app, &fresh, &query(&id, &[])).await.refused(429, "too_many_requests");
        // Whoever finds a session open lets nobody in.
        let signed_in = app.try_login("alice", PASSWORD).await.expect(201).text("refresh_token");
        app.wait(601);
        let old = app.post("/v1/sessions/refresh", "", json!({"refresh_token": signed_in})).await.expect(200);
        let old = old.text("access_token");
        let asked = ask(&app, &old, &query(&id, &[])).await.expect(201);
        let path = format!("/v1/authorizations/{}/decision", asked.body["authorization"]["id"].as_str().unwrap());
        app.post(&path, &old, json!({"allow": true})).await.refused(401, "step_up");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_gives_tokens_that_are_held_to_the_patient() {
    each(|app| async move {
        let id = registered(&app, new_app()).await;
        let patient = app.patient("alice").await.text("id");
        let alice = app.login("alice").await;
        let good = code(&app, &alice, &id, &[]).await;
        let reply = exchange(&app, &[("code", Some(&good)), ("client_id", Some(&id))]).await.expect(200);
        assert_eq!(reply.headers["cache-control"], "no-store");
        assert_eq!((reply.text("token_type"), reply.text("patient")), ("Bearer".to_owned(), patient.clone()));
        assert_eq!(reply.body["expires_in"], 600);
        let token = claims_of(&reply.text("access_token"));
        assert_eq!((token["sub"].clone(), token["client_id"].clone()), (json!(id), json!(id)));
        assert_eq!((token["patient"].clone(), token["purpose"].clone()), (json!(patient), json!("PATRQT")));
        assert!(token["aud"].as_str().unwrap().ends_with(":fhir"));
        let user = claims_of(&reply.text("id_token"));
        assert_eq!(
            (user["aud"].clone(), user["sub"].clone(), user["nonce"].clone()),
            (json!(id), json!(patient), json!("n1"))
        );
        assert_eq!(user["fhirUser"], format!("https://records.example/fhir/Patient/{patient}"));
        // It is for /fhir and for nothing here; an ID token is for nothing at all.
        for token in [reply.text("access_token"), reply.text("id_token")] {
            app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        }
        let apps = app.get("/v1/me/apps", &alice).await.expect(200);
        assert_eq!(apps.body["items"][0]["app"]["name"], "Diary");
        assert!(app.get("/v1/me/sessions", &alice).await.body["items"].as_array().unwrap().len() == 1);
        // Without the words for it there is no second token.
        let short = code(&app, &alice, &id, &[("scope", Some("launch/patient patient/*.rs"))]).await;
        let reply = exchange(&app, &[("code", Some(&short)), ("client_id", Some(&id))]).await.expect(200);
        assert!(reply.body.get("refresh_token").is_none() && reply.body.get("id_token").is_none());
        let online = code(&app, &alice, &id, &[("scope", Some("online_access patient/*.rs"))]).await;
        let reply = exchange(&app, &[("code", Some(&online)), ("client_id", Some(&id))]).await.expect(200);
        app.wait(12 * 3600);
        refused(&refresh(&app, &reply.text("refresh_token"), &id).await, "invalid_grant");
    })
    .await;
}

/// RFC 9700 §2.1.1, §4.2, §4.5 and §4.8; RFC 6749 §4.1.2 and §4.1.3.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_or_used_code_is_worth_nothing() {
    each(|app| async move {
        let id = registered(&app, new_app()).await;
        let mut another = new_app();
        another["name"] = json!("Other");
        let other = registered(&app, another).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let good = code(&app, &alice, &id, &[]).await;
        let (good, id) = (good.as_str(), id.as_str());
        let faults: [(&[Changed<'_>], &str); 9] = [
            (&[("code_verifier", None)], "invalid_request"),
            (&[("code_verifier", Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXX"))], "invalid_grant"),
            (&[("code_verifier", Some(CHALLENGE))], "invalid_grant"),
            (&[("redirect_uri", Some("http://127.0.0.1/back"))], "invalid_grant"),
            (&[("redirect_uri", None)], "invalid_request"),
            (&[("client_id", Some(&other))], "invalid_grant"),
            (&[("client_id", None)], "invalid_client"),
            (&[("client_id", Some("app-00000000000000000000000000000000"))], "invalid_client"),
            (&[("code", Some("hbc_code_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))], "invalid_grant"),
        ];
        for (change, error) in faults {
            let mut fields = vec![("code", Some(good)), ("client_id", Some(id))];
            for (name, value) in change {
                fields.retain(|(known, _)| known != name);
                fields.push((name, *value));
            }
            refused(&exchange(&app, &fields).await, error);
        }
        let fields = [("code", Some(good)), ("client_id", Some(id))];
        let tokens = exchange(&app, &fields).await.expect(200);
        app.access_policy_answers(204).await;
        refused(&exchange(&app, &fields).await, "invalid_grant");
        assert!(told_of_an_end(&app).await, "what the code opened is over");
        refused(&refresh(&app, &tokens.text("refresh_token"), id).await, "invalid_grant");
        assert_eq!(app.get("/v1/me/apps", &alice).await.body["items"], json!([]));
        // Eight at once: one is served, and what it got is over.
        let raced = code(&app, &alice, id, &[]).await;
        let fields = [("code", Some(raced.as_str())), ("client_id", Some(id))];
        let all = futures_util::future::join_all((0..8).map(|_| exchange(&app, &fields))).await;
        assert_eq!(all.iter().filter(|reply| reply.status == 200).count(), 1);
        // A minute.
        let late = code(&app, &alice, id, &[]).await;
        app.wait(60);
        refused(&exchange(&app, &[("code", Some(&late)), ("client_id", Some(id))]).await, "invalid_grant");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confidential_app_proves_itself_each_time() {
    each(|app| async move {
        let key = ClientKey::of(ClientAlgorithm::Es384);
        let mut new = new_app();
        new["jwks"] = key.jwks();
        let id = registered(&app, new).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let assertion = || {
            let jti = hex::encode(app.random.bytes::<16>());
            let claims = claims(&id, &format!("{ISSUER}/oauth/token"), app.clock.now().seconds(), &jti);
            key.sign(&key.header(), &claims)
        };
        let good = code(&app, &alice, &id, &[]).await;
        refused(&exchange(&app, &[("code", Some(&good)), ("client_id", Some(&id))]).await, "invalid_client");
        let proof = assertion();
        let fields = [
            ("code", Some(good.as_str())),
            ("client_assertion_type", Some(JWT_BEARER)),
            ("client_assertion", Some(proof.as_str())),
        ];
        let tokens = exchange(&app, &fields).await.expect(200);
        let refresh_token = tokens.text("refresh_token");
        refused(&refresh(&app, &refresh_token, &id).await, "invalid_client");
        let form = |proof: String| {
            let app = &app;
            let token = refresh_token.clone();
            async move {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.as_str()),
                    ("client_assertion_type", JWT_BEARER),
                    ("client_assertion", proof.as_str()),
                ];
                app.send_form("/oauth/token", &fields).await
            }
        };
        refused(&form(proof.clone()).await, "invalid_client");
        let fresh = form(assertion()).await.expect(200).text("access_token");
        let introspect = async |token: &str| {
            let proof = assertion();
            let fields = [
                ("token", token),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", proof.as_str()),
            ];
            app.send_form("/oauth/introspect", &fields).await.expect(200).body
        };
        let good = introspect(&fresh).await;
        assert_eq!((good["active"].clone(), good["client_id"].clone()), (json!(true), json!(id)));
        assert_eq!(introspect(&alice).await, json!({"active": false}), "another's token");
        app.call(Method::DELETE, &format!("/v1/me/apps/{id}"), Some(&alice), None).await.expect(200);
        assert_eq!(introspect(&fresh).await, json!({"active": false}));
    })
    .await;
}

/// RFC 9700 §4.14: rotation, reuse, and narrower scopes (RFC 6749 §6).
#[tokio::test(flavor = "multi_thread")]
async fn an_apps_refresh_tokens_rotate_and_reuse_ends_them() {
    each(|app| async move {
        let id = registered(&app, new_app()).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let good = code(&app, &alice, &id, &[]).await;
        let first = exchange(&app, &[("code", Some(&good)), ("client_id", Some(&id))]).await.expect(200);
        let first = first.text("refresh_token");
        let mut another = new_app();
        another["name"] = json!("Other");
        let other = registered(&app, another).await;
        refused(&refresh(&app, &first, &other).await, "invalid_grant");
        app.post("/v1/sessions/refresh", "", json!({"refresh_token": first}))
            .await
            .refused(401, "unauthenticated");
        let narrower = [
            ("grant_type", "refresh_token"),
            ("refresh_token", first.as_str()),
            ("client_id", &id),
            ("scope", "patient/Condition.rs"),
        ];
        let second = app.send_form("/oauth/token", &narrower).await.expect(200);
        let words = "launch/patient openid fhirUser online_access offline_access";
        let narrowed = format!("{words} patient/Condition.rs");
        assert_eq!(
            claims_of(&second.text("access_token"))["scope"],
            narrowed,
            "an app does not say that the patient is there"
        );
        let second = second.text("refresh_token");
        // A day later it is good still: the patient said how long, not an idle clock. Nor must a public app say which it is.
        app.wait(26 * 3600);
        let bare = [("grant_type", "refresh_token"), ("refresh_token", second.as_str())];
        let third = app.send_form("/oauth/token", &bare).await.expect(200);
        assert_eq!(third.text("scope"), SCOPE);
        let wider = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &third.text("refresh_token")),
            ("client_id", &id),
            ("scope", "system/*.rs"),
        ];
        refused(&app.send_form("/oauth/token", &wider).await, "invalid_scope");
        app.wait(11);
        refused(&refresh(&app, &second, &id).await, "invalid_grant");
        refused(&refresh(&app, &third.text("refresh_token"), &id).await, "invalid_grant");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_an_app_ends_its_tokens_and_codes() {
    each(|mut app| async move {
        let id = registered(&app, new_app()).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let tokens = async |app: &TestApp, alice: &str| {
            let good = code(app, alice, &id, &[]).await;
            exchange(app, &[("code", Some(&good)), ("client_id", Some(&id))])
                .await
                .expect(200)
                .text("refresh_token")
        };
        let token = tokens(&app, &alice).await;
        let unused = code(&app, &alice, &id, &[]).await;
        app.access_policy_answers(204).await;
        let path = format!("/v1/me/apps/{id}");
        app.call(Method::DELETE, &path, Some(&alice), None).await.expect(200);
        assert!(told_of_an_end(&app).await);
        refused(&refresh(&app, &token, &id).await, "invalid_grant");
        refused(&exchange(&app, &[("code", Some(&unused)), ("client_id", Some(&id))]).await, "invalid_grant");
        app.call(Method::DELETE, &path, Some(&alice), None).await.expect(200);
        // A restart forgets neither.
        let token = tokens(&app, &alice).await;
        app.restart().await;
        let token = refresh(&app, &token, &id).await.expect(200).text("refresh_token");
        // Whoever had the recovery code may have let it in.
        let codes =
            app.post("/v1/me/recovery-codes", &app.login("alice").await, json!({"password": PASSWORD})).await;
        let code_text = codes.expect(201).body["recovery_codes"][0].as_str().unwrap().to_owned();
        let recovery = json!({"username": "alice", "code": code_text, "new_password": PASSWORD});
        app.post("/v1/recoveries", "", recovery).await.expect(204);
        refused(&refresh(&app, &token, &id).await, "invalid_grant");
        // An operator ends it for everybody, before the ledger says so.
        let alice = app.login("alice").await;
        let token = tokens(&app, &alice).await;
        let unused = code(&app, &alice, &id, &[]).await;
        app.access_policy_answers(204).await;
        let operator = app.login("operator-0").await;
        let endings = format!("/v1/apps/{id}/endings");
        app.post(&endings, &operator, decision("it sold what it read")).await.expect(200);
        let told = app.told().await;
        assert!(told.iter().any(|request| request.url.path().ends_with(&format!("/denials/subject/{id}"))));
        assert_eq!(
            refresh(&app, &token, &id).await.status,
            400,
            "its sessions end one portion after the other"
        );
        refused(
            &exchange(&app, &[("code", Some(&unused)), ("client_id", Some(&id))]).await,
            "invalid_client",
        );
        ask(&app, &alice, &query(&id, &[])).await.refused(422, "invalid_input");
        let before = app.waiting().await.len();
        app.post(&endings, &operator, decision("it sold what it read")).await.expect(200);
        assert_eq!(app.waiting().await.len(), before, "ended once");
        app.ledger_agrees().await;
        let view = app.get(&format!("/v1/apps/{id}"), &operator).await.expect(200);
        assert_eq!(view.text("standing"), "suspended");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_a_database_brings_back_is_none() {
    each(|mut app| async move {
        let id = registered(&app, new_app()).await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        app.by_hand("CREATE TABLE kept_apps AS SELECT * FROM apps").await;
        let operator = app.login("operator-0").await;
        app.post(&format!("/v1/apps/{id}/endings"), &operator, decision("over")).await.expect(200);
        app.by_hand("DELETE FROM apps").await;
        app.by_hand("INSERT INTO apps SELECT * FROM kept_apps").await;
        ask(&app, &alice, &query(&id, &[])).await.refused(403, "forbidden");
        app.restart().await;
        let alice = app.login("alice").await;
        ask(&app, &alice, &query(&id, &[])).await.refused(403, "forbidden");
        app.by_hand("UPDATE apps SET redirect_uris = 'https://evil.example/back'").await;
        ask(&app, &alice, &query(&id, &[])).await.refused(403, "forbidden");
    })
    .await;
}
