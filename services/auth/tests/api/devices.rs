//! Devices: from making themselves known to being cut off, and what does not work on the way.

use hbc_auth::testing::code_at;
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::service::eventually;
use hbc_testkit::users::ISSUER;
use hbc_types::Random;
use hbc_types::ids::GrantId;
use hbc_types::purpose::Purpose;
use hbc_types::wire::oauth::{ClientAlgorithm, JWT_BEARER};
use hbc_types::wire::token::AccessClaims;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{PASSWORD, Reply, TestApp, each};
use crate::second_factor::set_up;

/// The scope of every device.
const SCOPE: &str = "system/Observation.c";

/// A device that made itself known.
pub struct Device {
    id: String,
    fingerprint: String,
    key: ClientKey,
}

fn new_device(app: &TestApp, key: &ClientKey) -> Value {
    let assertion = signed(app, key, &key.thumbprint().to_string());
    json!({"name": "Cuff on the shelf", "model": "Acme BP-7", "jwks": key.jwks(), "assertion": assertion})
}

/// An assertion by `client`, good once.
fn signed(app: &TestApp, key: &ClientKey, client: &str) -> String {
    let jti = hex::encode(app.random.bytes::<16>());
    let said = claims(client, &format!("{ISSUER}/oauth/token"), app.clock.now().seconds(), &jti);
    key.sign(&key.header(), &said)
}

impl Device {
    async fn known(app: &TestApp, key: ClientKey) -> Self {
        let made = app.post("/v1/devices", "", new_device(app, &key)).await.expect(201);
        Self { id: made.text("id"), fingerprint: made.text("fingerprint"), key }
    }

    pub async fn random(app: &TestApp) -> Self {
        Self::known(app, ClientKey::random(&app.random)).await
    }

    fn assertion(&self, app: &TestApp) -> String {
        signed(app, &self.key, &self.id)
    }

    pub async fn claim(&self, app: &TestApp, code: &str) -> Reply {
        app.post("/v1/pairing-claims", "", json!({"code": code, "assertion": self.assertion(app)})).await
    }

    pub async fn ask(&self, app: &TestApp, scope: Option<&str>) -> Reply {
        ask(app, &self.assertion(app), scope).await
    }

    pub async fn token(&self, app: &TestApp) -> String {
        self.ask(app, None).await.expect(200).text("access_token")
    }

    async fn introspect(&self, app: &TestApp, token: &str) -> Value {
        let assertion = self.assertion(app);
        let form =
            [("token", token), ("client_assertion_type", JWT_BEARER), ("client_assertion", &assertion)];
        app.send_form("/oauth/introspect", &form).await.expect(200).body
    }

    /// Whom it is paired with.
    pub async fn pairings(&self, app: &TestApp) -> Vec<Value> {
        let asked = json!({"assertion": self.assertion(app)});
        let all = app.post("/v1/device-pairings", "", asked).await.expect(200);
        all.body["items"].as_array().unwrap().clone()
    }
}

async fn ask(app: &TestApp, assertion: &str, scope: Option<&str>) -> Reply {
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
    ];
    form.extend(scope.map(|scope| ("scope", scope)));
    app.send_form("/oauth/token", &form).await
}

fn refused(reply: &Reply, error: &str) {
    assert_eq!((reply.status, reply.body["error"].as_str()), (400, Some(error)), "{:?}", reply.body);
}

pub async fn code(app: &TestApp, patient: &str) -> (String, String) {
    let made = app.post("/v1/me/pairing-codes", patient, json!({})).await.expect(201);
    (made.text("id"), made.text("code"))
}

fn confirmation(app: &TestApp, fingerprint: &str) -> Value {
    json!({"fingerprint": fingerprint, "grant": GrantId::random(&app.random)})
}

async fn confirm(app: &TestApp, patient: &str, id: &str, body: Value) -> Reply {
    app.post(&format!("/v1/me/pairing-codes/{id}/confirmation"), patient, body).await
}

/// The whole ceremony.
pub async fn pair(app: &TestApp, patient: &str, device: &Device) {
    let (id, code) = code(app, patient).await;
    device.claim(app, &code).await.expect(200);
    confirm(app, patient, &id, confirmation(app, &device.fingerprint)).await.expect(200);
}

async fn remove(app: &TestApp, patient: &str, device: &str) -> Reply {
    app.call(Method::DELETE, &format!("/v1/me/devices/{device}"), Some(patient), None).await
}

fn claims_of(token: &str) -> AccessClaims {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_each_kind_of_key_is_paired_and_gets_a_token_to_create_observations() {
    each(|app| async move {
        let alice = app.patient("alice").await.text("id");
        let patient = app.login("alice").await;
        for algorithm in ClientAlgorithm::ALL {
            let device = Device::known(&app, ClientKey::of(*algorithm)).await;
            assert_eq!(device.fingerprint, device.key.thumbprint().to_string());
            // The same again is the same device.
            let again = app.post("/v1/devices", "", new_device(&app, &device.key)).await.expect(200);
            assert_eq!(
                (again.text("id"), again.text("fingerprint")),
                (device.id.clone(), device.fingerprint.clone())
            );
            refused(&device.ask(&app, None).await, "invalid_client");

            let made = app.post("/v1/me/pairing-codes", &patient, json!({})).await.expect(201);
            let (id, code) = (made.text("id"), made.text("code"));
            assert_eq!(made.text("uri"), format!("{ISSUER}/pair#{code}"));
            let path = format!("/v1/me/pairing-codes/{id}");
            let open = app.get(&path, &patient).await.expect(200).body;
            assert_eq!((&open["state"], open.get("code"), open.get("device")), (&json!("open"), None, None));
            confirm(&app, &patient, &id, confirmation(&app, &device.fingerprint))
                .await
                .refused(409, "conflict");

            let sloppy = code.to_lowercase().replace('-', " ");
            let claimed = device.claim(&app, &sloppy).await.expect(200).body;
            assert_eq!(
                (&claimed["id"], claimed.as_object().unwrap().len()),
                (&json!(id), 2),
                "not whose: {claimed}"
            );
            let told = app.told().await;
            let subject =
                told.iter().rfind(|told| told.url.path().ends_with(&format!("/subjects/{}", device.id)));
            let subject: Value = serde_json::from_slice(&subject.unwrap().body).unwrap();
            assert_eq!(
                (&subject["role"], &subject["staff_key"], &subject["name"]),
                (&json!("device"), &json!(device.fingerprint), &json!("Cuff on the shelf"))
            );
            let shown = app.get(&path, &patient).await.expect(200).body;
            assert_eq!(shown["state"], "claimed");
            assert_eq!(shown["device"]["fingerprint"], json!(device.fingerprint));
            assert_eq!(device.pairings(&app).await, Vec::<Value>::new(), "a claim binds nothing");
            refused(&device.ask(&app, None).await, "invalid_client");

            let said = confirmation(&app, &device.fingerprint);
            let paired = confirm(&app, &patient, &id, said.clone()).await.expect(200).body;
            assert_eq!((&paired["id"], &paired["grant"]), (&json!(device.id), &said["grant"]));
            confirm(&app, &patient, &id, said).await.expect(200);
            confirm(&app, &patient, &id, confirmation(&app, &device.fingerprint))
                .await
                .refused(409, "conflict");
            assert_eq!(app.get(&path, &patient).await.expect(200).body["state"], "confirmed");
            app.call(Method::DELETE, &path, Some(&patient), None).await.refused(409, "conflict");

            let given = device.ask(&app, Some(SCOPE)).await.expect(200);
            assert_eq!(
                (given.text("scope"), given.body["expires_in"].as_u64()),
                (SCOPE.to_owned(), Some(300))
            );
            let token = given.text("access_token");
            let said = claims_of(&token);
            assert_eq!((said.sub.as_str(), said.role.code()), (device.id.as_str(), "device"));
            assert!(said.aud.ends_with(":fhir"));
            let client = said.client.unwrap();
            assert_eq!(
                (client.client_id.as_str(), client.purpose.map(Purpose::code)),
                (device.id.as_str(), Some("PATRQT"))
            );
            assert_eq!(device.introspect(&app, &token).await["active"], true);
            app.get("/v1/me", &token).await.refused(401, "unauthenticated");
            app.send_form("/oauth/revoke", &[("token", &token)]).await.expect(200);
            assert_eq!(device.introspect(&app, &token).await, json!({"active": false}), "given back");
            for scope in [
                "system/Observation.crs",
                "system/*.c",
                "system/Observation.r",
                "system/Condition.c",
                "openid",
            ] {
                refused(&device.ask(&app, Some(scope)).await, "invalid_scope");
            }
            let pairings = device.pairings(&app).await;
            assert_eq!((pairings.len(), &pairings[0]["patient"]), (1, &json!(alice)));
            let listed = app.get("/v1/me/devices", &patient).await.expect(200).body["items"].clone();
            let listed =
                listed.as_array().unwrap().iter().find(|one| one["id"] == device.id).unwrap().clone();
            assert_eq!((&listed["model"], &listed["clock_offset_ms"]), (&json!("Acme BP-7"), &json!(0)));
            assert!(listed["last_seen_at"].is_string());
        }
        assert_eq!(
            app.get("/v1/me/devices", &patient).await.expect(200).body["items"].as_array().unwrap().len(),
            3
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whoever_has_the_key_makes_a_device_known_and_with_one_key() {
    each(|app| async move {
        let (key, other) = (ClientKey::random(&app.random), ClientKey::random(&app.random));
        let good = new_device(&app, &key);
        let with = |name: &str, value: Value| {
            let mut changed = new_device(&app, &key);
            changed[name] = value;
            changed
        };
        for (what, assertion) in [
            ("another's key", other.sign(&key.header(), &claims_for(&app, &key.thumbprint().to_string()))),
            ("another's fingerprint", signed(&app, &key, &other.thumbprint().to_string())),
            ("no fingerprint", signed(&app, &key, "me")),
            ("nothing", String::new()),
        ] {
            let reply = app.post("/v1/devices", "", with("assertion", json!(assertion))).await;
            assert_eq!((reply.status, reply.slug()), (400, "invalid_client"), "{what}: {:?}", reply.body);
        }
        for (field, value) in [
            ("jwks", json!({"keys": [key.jwk, other.jwk]})),
            ("jwks", json!({"keys": []})),
            ("name", json!("")),
            ("name", json!("n".repeat(81))),
            ("model", json!("a\u{7}b")),
        ] {
            let reply = app.post("/v1/devices", "", with(field, value)).await;
            assert_eq!(
                (reply.status, &reply.body["errors"][0]["field"]),
                (422, &json!(field)),
                "{:?}",
                reply.body
            );
        }
        app.post("/v1/devices", "", good.clone()).await.expect(201);
        app.post("/v1/devices", "", good).await.refused(400, "invalid_client");
        // Under another name of the key it is not the same set.
        let mut renamed = new_device(&app, &key);
        renamed["jwks"]["keys"][0]["kid"] = json!("other");
        let mut header = key.header();
        header["kid"] = json!("other");
        renamed["assertion"] = json!(key.sign(&header, &claims_for(&app, &key.thumbprint().to_string())));
        app.post("/v1/devices", "", renamed).await.refused(409, "conflict");
    })
    .await;
}

fn claims_for(app: &TestApp, client: &str) -> Value {
    let jti = hex::encode(app.random.bytes::<16>());
    claims(client, &format!("{ISSUER}/oauth/token"), app.clock.now().seconds(), &jti)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once_for_ten_minutes_and_all_that_are_not_look_alike() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let (alice, bob) = (app.login("alice").await, app.login("bob").await);
        let (first, second) = (Device::random(&app).await, Device::random(&app).await);
        let (id, used) = code(&app, &alice).await;
        first.claim(&app, &used).await.expect(200);
        let (over, ended) = code(&app, &alice).await;
        let path = format!("/v1/me/pairing-codes/{over}");
        app.call(Method::DELETE, &path, Some(&bob), None).await.refused(404, "not_found");
        app.get(&path, &bob).await.refused(404, "not_found");
        for _twice in 0..2 {
            app.call(Method::DELETE, &path, Some(&alice), None).await.expect(204);
        }
        assert_eq!(app.get(&path, &alice).await.expect(200).body["state"], "expired");
        let (_, late) = code(&app, &bob).await;
        app.wait(600);
        let mut answers = Vec::new();
        for wrong in [&used, &ended, &late, "0000-0000", "no code"] {
            let reply = second.claim(&app, wrong).await.refused(404, "not_found");
            let mut body = reply.body;
            body.as_object_mut().unwrap().remove("instance");
            answers.push(body);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        // Five were wrong: whatever it claims now, for an hour.
        let alice = app.login("alice").await;
        let (_, good) = code(&app, &alice).await;
        second.claim(&app, &good).await.refused(429, "too_many_requests");
        app.wait(3_601);
        let alice = app.login("alice").await;
        let (_, good) = code(&app, &alice).await;
        second.claim(&app, &good).await.expect(200);
        // The claimed code ran out as well.
        confirm(&app, &alice, &id, confirmation(&app, &first.fingerprint)).await.refused(409, "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fingerprint_ends_the_code_and_another_patient_confirms_nothing() {
    each(|app| async move {
        app.patient("alice").await;
        app.patient("mallory").await;
        let (alice, mallory) = (app.login("alice").await, app.login("mallory").await);
        let (device, impostor) = (Device::random(&app).await, Device::random(&app).await);
        let (id, text) = code(&app, &alice).await;
        // Somebody looked over the patient's shoulder and was faster.
        impostor.claim(&app, &text).await.expect(200);
        device.claim(&app, &text).await.refused(404, "not_found");
        confirm(&app, &mallory, &id, confirmation(&app, &impostor.fingerprint))
            .await
            .refused(404, "not_found");
        confirm(&app, &alice, &id, confirmation(&app, &device.fingerprint)).await.refused(409, "conflict");
        let frozen = format!("/denials/pairing/{}.", impostor.id);
        let told = app.told().await;
        assert!(
            told.iter().any(|one| one.url.path().contains(&frozen)),
            "what may have been granted is frozen"
        );
        confirm(&app, &alice, &id, confirmation(&app, &impostor.fingerprint)).await.refused(409, "conflict");
        let path = format!("/v1/me/pairing-codes/{id}");
        assert_eq!(app.get(&path, &alice).await.expect(200).body["state"], "expired");
        refused(&impostor.ask(&app, None).await, "invalid_client");
        pair(&app, &alice, &device).await;
        let (id, text) = code(&app, &alice).await;
        device.claim(&app, &text).await.expect(200);
        confirm(&app, &alice, &id, confirmation(&app, &device.fingerprint)).await.refused(409, "conflict");
        remove(&app, &mallory, &device.id).await.refused(404, "not_found");
        device.token(&app).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_counts_once_wherever_it_is_shown_and_across_a_restart() {
    each(|mut app| async move {
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let device = Device::random(&app).await;
        pair(&app, &alice, &device).await;
        let assertion = device.assertion(&app);
        let replies = futures_util::future::join_all((0..8).map(|_| ask(&app, &assertion, None))).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
        let token = device.token(&app).await;
        let (_, text) = code(&app, &alice).await;
        let used = json!({"code": text, "assertion": assertion});
        app.post("/v1/pairing-claims", "", used.clone()).await.refused(400, "invalid_client");
        app.restart().await;
        app.post("/v1/pairing-claims", "", used).await.refused(400, "invalid_client");
        let used = json!({"assertion": assertion});
        app.post("/v1/device-pairings", "", used).await.refused(400, "invalid_client");
        refused(&ask(&app, &assertion, None).await, "invalid_client");
        // Nothing else is lost: the pairing, the open code, the token.
        assert_eq!(device.pairings(&app).await.len(), 1);
        device.claim(&app, &text).await.expect(200);
        assert_eq!(device.introspect(&app, &token).await["active"], true);
        let program = signed(&app, &device.key, "cli-00000000000000000000000000000000");
        refused(&ask(&app, &program, None).await, "invalid_client");
        refused(
            &ask(&app, &signed(&app, &ClientKey::random(&app.random), &device.id), None).await,
            "invalid_client",
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_cuts_a_device_off_and_a_gateway_goes_on_for_others() {
    each(|app| async move {
        let alice_id = app.patient("alice").await.text("id");
        app.patient("bob").await;
        let (alice, bob) = (app.login("alice").await, app.login("bob").await);
        let gateway = Device::random(&app).await;
        pair(&app, &alice, &gateway).await;
        pair(&app, &bob, &gateway).await;
        let token = gateway.token(&app).await;
        app.access_policy_answers(204).await;
        let ended = remove(&app, &alice, &gateway.id).await.expect(200).body;
        assert_eq!((&ended["effective"], ended["grants"].as_array().unwrap().len()), (&json!(true), 1));
        let told = app.told().await;
        let end = format!("/denials/pairing/{}.{alice_id}", gateway.id);
        let told = told
            .iter()
            .find(|told| told.url.path().ends_with(&end))
            .expect("access-policy freezes the grants");
        let body: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(body, json!({"since": ended["since"]}));
        let again = remove(&app, &alice, &gateway.id).await.expect(200).body;
        assert_eq!(again["since"], ended["since"], "again, it changes nothing");
        assert_eq!(app.get("/v1/me/devices", &alice).await.expect(200).body["items"], json!([]));
        // For bob it goes on, with the same token.
        assert_eq!(gateway.introspect(&app, &token).await["active"], true);
        assert_eq!(gateway.pairings(&app).await.len(), 1);
        let held = gateway.token(&app).await;
        remove(&app, &bob, &gateway.id).await.expect(200);
        for dead in [&token, &held] {
            assert_eq!(gateway.introspect(&app, dead).await, json!({"active": false}));
            let sid = claims_of(dead).sid.to_string();
            let told = app.told().await;
            assert!(told.iter().any(|told| told.url.path().ends_with(&format!("/denials/session/{sid}"))));
        }
        refused(&gateway.ask(&app, None).await, "invalid_client");
        // It may be paired anew.
        pair(&app, &alice, &gateway).await;
        gateway.token(&app).await;
        // What access-policy could not be told yet is told later.
        app.access_policy_answers(503).await;
        let late = remove(&app, &alice, &gateway.id).await.expect(202).body;
        assert_eq!(late["effective"], false);
        app.outage_ends().await;
        assert!(app.told().await.iter().any(|told| told.url.path().ends_with(&end)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_second_factor_shows_it_to_cut_a_device_off() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        let device = Device::random(&app).await;
        pair(&app, &token, &device).await;
        let secret = set_up(&app, &token).await;
        let code = || code_at(&secret, app.clock.now());
        let form = json!({"username": "alice", "password": PASSWORD, "totp": code()});
        let tokens = app.post("/v1/sessions", "", form).await.expect(201);
        app.wait(601);
        let form = json!({"refresh_token": tokens.text("refresh_token")});
        let token = app.post("/v1/sessions/refresh", "", form).await.expect(200).text("access_token");
        remove(&app, &token, &device.id).await.refused(401, "step_up");
        let shown = json!({"password": PASSWORD, "totp": code()});
        let token =
            app.post("/v1/sessions/current/step-up", &token, shown).await.expect(200).text("access_token");
        remove(&app, &token, &device.id).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_ended_does_not_come_back_with_an_older_row() {
    each(|mut app| async move {
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let device = Device::random(&app).await;
        pair(&app, &alice, &device).await;
        app.by_hand("CREATE TABLE kept AS SELECT * FROM pairings").await;
        app.by_hand("CREATE TABLE kept_codes AS SELECT * FROM pairing_codes").await;
        remove(&app, &alice, &device.id).await.expect(200);
        app.by_hand("DELETE FROM pairings").await;
        app.by_hand("INSERT INTO pairings SELECT * FROM kept").await;
        assert_eq!(device.ask(&app, None).await.status, 400);
        app.restart().await;
        assert_eq!(device.ask(&app, None).await.status, 400);
        assert_eq!(app.get("/v1/me/devices", &alice).await.expect(200).body["items"], json!([]));
        // Nor does the code it came of make it anew, with the row gone.
        app.by_hand("DELETE FROM pairings").await;
        app.by_hand("DELETE FROM pairing_codes").await;
        app.by_hand("INSERT INTO pairing_codes SELECT * FROM kept_codes").await;
        assert_eq!(device.ask(&app, None).await.status, 400);
        // Rows that another hand wrote are none.
        let other = Device::random(&app).await;
        pair(&app, &alice, &other).await;
        app.by_hand("UPDATE pairings SET patient = 'pat-00000000000000000000000000000000'").await;
        assert_eq!(other.ask(&app, None).await.status, 400);
        app.by_hand("UPDATE devices SET paired_at_ms = 0").await;
        assert_eq!(other.ask(&app, None).await.status, 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_devices_are_counted() {
    each(|app| async move {
        app.patient("alice").await;
        let alice = app.login("alice").await;
        for _open in 0..3 {
            code(&app, &alice).await;
        }
        app.post("/v1/me/pairing-codes", &alice, json!({})).await.refused(409, "conflict");
        app.wait(600);
        let alice = app.login("alice").await;
        let mut devices = Vec::new();
        for _device in 0..17 {
            let device = Device::random(&app).await;
            pair(&app, &alice, &device).await;
            devices.push(device);
        }
        app.post("/v1/me/pairing-codes", &alice, json!({})).await.refused(429, "too_many_requests");
        app.wait(24 * 3600);
        let alice = app.login("alice").await;
        for _device in 17..20 {
            pair(&app, &alice, &Device::random(&app).await).await;
        }
        app.post("/v1/me/pairing-codes", &alice, json!({})).await.refused(409, "conflict");
        remove(&app, &alice, &devices[0].id).await.expect(200);
        pair(&app, &alice, &Device::random(&app).await).await;
    })
    .await;
}

/// A gateway stands in a clinic and serves hundreds.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_paired_with_three_hundred_patients() {
    each(|app| async move {
        let gateway = Device::random(&app).await;
        let one = async |n: usize| {
            let name = format!("patient.{n}");
            app.patient(&name).await;
            let patient = app.login(&name).await;
            pair(&app, &patient, &gateway).await;
        };
        for group in (0..300).collect::<Vec<_>>().chunks(10) {
            futures_util::future::join_all(group.iter().map(|n| one(*n))).await;
        }
        let pairings = gateway.pairings(&app).await;
        let patients: std::collections::BTreeSet<&str> =
            pairings.iter().map(|pairing| pairing["patient"].as_str().unwrap()).collect();
        assert_eq!((pairings.len(), patients.len()), (300, 300));
        gateway.token(&app).await;
        let first = app.login("patient.0").await;
        remove(&app, &first, &gateway.id).await.expect(200);
        assert_eq!(gateway.pairings(&app).await.len(), 299);
        gateway.token(&app).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_paired_is_forgotten() {
    each(|mut app| async move {
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let (kept, gone) = (Device::random(&app).await, Device::random(&app).await);
        pair(&app, &alice, &kept).await;
        app.wait(24 * 3600 + 1);
        app.restart().await;
        let code_of = async |device: &Device| {
            let assertion = json!({"assertion": device.assertion(&app)});
            app.post("/v1/device-pairings", "", assertion).await.status
        };
        eventually("the device is forgotten", async || code_of(&gone).await == 400).await;
        assert_eq!((code_of(&gone).await, code_of(&kept).await), (400, 200));
    })
    .await;
}

#[test]
fn keys_of_the_kit_differ() {
    let random = Random::seeded(3);
    assert_ne!(ClientKey::random(&random).thumbprint(), ClientKey::random(&random).thumbprint());
}
