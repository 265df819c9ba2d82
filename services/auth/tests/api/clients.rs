//! Programs of agencies: what makes a token, what does not, and what ends it.

use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::users::ISSUER;
use hbc_types::wire::oauth::{ClientAlgorithm, JWT_BEARER};
use hbc_types::wire::token::AccessClaims;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{PASSWORD, Reply, TestApp, decision, each};

/// A registered client and how it signs.
pub struct Client {
    id: String,
    key: ClientKey,
}

fn new_client(key: &ClientKey, scope: &str) -> Value {
    json!({
        "name": "Back office", "kind": "back-office", "jwks": key.jwks(), "scope": scope, "password": PASSWORD,
    })
}

impl Client {
    pub async fn register(app: &TestApp, token: &str, algorithm: ClientAlgorithm) -> Self {
        let key = ClientKey::of(algorithm);
        let made = app.post("/v1/me/clients", token, new_client(&key, "system/*.rs")).await.expect(201);
        Self { id: made.text("id"), key }
    }

    fn claims(&self, app: &TestApp) -> Value {
        let jti = hex::encode(app.random.bytes::<16>());
        claims(&self.id, &format!("{ISSUER}/oauth/token"), app.clock.now().seconds(), &jti)
    }

    pub fn assertion(&self, app: &TestApp) -> String {
        self.key.sign(&self.key.header(), &self.claims(app))
    }

    pub async fn token(&self, app: &TestApp) -> String {
        ask(app, &self.assertion(app), None).await.expect(200).text("access_token")
    }

    async fn introspect(&self, app: &TestApp, token: &str) -> Value {
        let assertion = self.assertion(app);
        let form =
            [("token", token), ("client_assertion_type", JWT_BEARER), ("client_assertion", &assertion)];
        app.send_form("/oauth/introspect", &form).await.expect(200).body
    }
}

/// Asks for a token.
pub async fn ask(app: &TestApp, assertion: &str, scope: Option<&str>) -> Reply {
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
    assert!(reply.body.get("access_token").is_none());
}

fn claims_of(token: &str) -> AccessClaims {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_key_gets_a_token_for_fhir_and_for_nothing_else() {
    each(|app| async move {
        let id = app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        for algorithm in ClientAlgorithm::ALL {
            let client = Client::register(&app, &agency, *algorithm).await;
            let given = ask(&app, &client.assertion(&app), Some("system/Observation.rs")).await.expect(200);
            assert_eq!(given.body.as_object().unwrap().len(), 4, "{:?}", given.body);
            assert_eq!(
                (given.text("token_type"), given.text("scope")),
                ("Bearer".into(), "system/Observation.rs".into())
            );
            assert_eq!(
                (given.body["expires_in"].as_u64(), &given.headers["cache-control"]),
                (Some(300), &"no-store".parse().unwrap())
            );
            let token = given.text("access_token");
            let said = claims_of(&token);
            assert_eq!((said.sub.as_str(), said.exp - said.iat), (id.as_str(), 300));
            assert!(said.aud.ends_with(":fhir"), "{}", said.aud);
            assert_eq!(said.client.unwrap().client_id.as_str(), client.id);
            // It is no session of the agency: with it nothing is done in its name at auth.
            app.get("/v1/me", &token).await.refused(401, "unauthenticated");
            app.post("/v1/me/clients", &token, new_client(&client.key, "system/*.rs"))
                .await
                .refused(401, "unauthenticated");
            let told = client.introspect(&app, &token).await;
            assert_eq!((&told["active"], &told["client_id"]), (&json!(true), &json!(client.id)));
            assert_eq!(told["scope"], "system/Observation.rs");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_assertion_of_the_client_gets_nothing() {
    each(|app| async move {
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let client = Client::register(&app, &agency, ClientAlgorithm::Es384).await;
        let other = Client::register(&app, &agency, ClientAlgorithm::EdDsa).await;
        let header = client.key.header();
        let with = |name: &str, value: Value| {
            let mut changed = client.claims(&app);
            changed[name] = value;
            client.key.sign(&header, &changed)
        };
        let without = |name: &str| {
            let mut changed = client.claims(&app);
            changed.as_object_mut().unwrap().remove(name);
            client.key.sign(&header, &changed)
        };
        let under = |name: &str, value: Value| {
            let mut changed = header.clone();
            changed[name] = value;
            client.key.sign(&changed, &client.claims(&app))
        };
        let now = app.clock.now().seconds();
        let good = client.assertion(&app);
        let (text, _signature) = good.rsplit_once('.').unwrap();
        let mut faults = vec![
            ("no signature", format!("{text}.")),
            ("cut", good.strip_suffix(|_last: char| true).unwrap_or_default().to_owned()),
            ("something behind it", format!("{good}AAAA")),
            ("one part", "abc".to_owned()),
            ("another's key", other.key.sign(&header, &client.claims(&app))),
            ("another's name", client.key.sign(&header, &other.claims(&app))),
            (
                "an audience that is a list of two",
                with("aud", json!([format!("{ISSUER}/oauth/token"), "https://other.example"])),
            ),
            ("an unknown kid", under("kid", json!("other"))),
            ("a kid that is a path", under("kid", json!("../../secrets/token.key"))),
            ("none", under("alg", json!("none"))),
            ("HS256", under("alg", json!("HS256"))),
            ("ES256", under("alg", json!("ES256"))),
            ("another typ", under("typ", json!("at+jwt"))),
            ("crit", under("crit", json!(["exp"]))),
            ("jku", under("jku", json!("https://evil.example/keys"))),
            ("jwk", under("jwk", other.key.jwk.clone())),
            ("x5u", under("x5u", json!("https://evil.example/cert"))),
        ];
        for (name, value) in [
            ("iss", json!(other.id)),
            ("sub", json!(other.id)),
            ("iss", json!("cli-")),
            ("aud", json!("https://other.example/token")),
            ("exp", json!(now - 6)),
            ("exp", json!(now + 306)),
            ("exp", json!("soon")),
            ("nbf", json!(now + 6)),
            ("iat", json!(now + 6)),
            ("jti", json!("")),
            ("jti", json!("x".repeat(257))),
            ("jti", json!(5)),
        ] {
            faults.push((name, with(name, value)));
        }
        for name in ["iss", "sub", "aud", "exp", "jti"] {
            faults.push((name, without(name)));
        }
        assert!(faults.len() >= 34);
        for (fault, assertion) in &faults {
            let reply = ask(&app, assertion, None).await;
            assert_eq!(reply.body["error"], "invalid_client", "{fault}: {:?}", reply.body);
            refused(&reply, "invalid_client");
        }
        // What is missing altogether, or is proved in a way that is not taken.
        let grant = ("grant_type", "client_credentials");
        for form in [
            vec![grant],
            vec![grant, ("client_id", &client.id), ("client_secret", "secret")],
            vec![grant, ("client_assertion", &good)],
            vec![
                grant,
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"),
                ("client_assertion", &good),
            ],
        ] {
            refused(&app.send_form("/oauth/token", &form).await, "invalid_client");
        }
        for scope in [
            "system/*.cruds",
            "system/Observation.w",
            "patient/*.rs",
            "openid",
            "system/Observation.rs offline_access",
        ] {
            refused(&ask(&app, &client.assertion(&app), Some(scope)).await, "invalid_scope");
        }
        // None of all that used it up: it is good, once, whatever its list of audiences is called.
        ask(&app, &good, None).await.expect(200);
        refused(&ask(&app, &good, None).await, "invalid_client");
        let form = [("token", "none"), ("client_assertion_type", JWT_BEARER), ("client_assertion", &good)];
        let reply = app.send_form("/oauth/introspect", &form).await;
        assert_eq!((reply.status, &reply.body["error"]), (401, &json!("invalid_client")), "RFC 7662 §2.3");
        ask(&app, &with("aud", json!([ISSUER])), None).await.expect(200);
        // Named beside its assertion, it is the assertion's.
        for (named, status) in [(&other.id, 400), (&client.id, 200)] {
            let assertion = client.assertion(&app);
            let form = [
                grant,
                ("client_id", named.as_str()),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", &assertion),
            ];
            assert_eq!(app.send_form("/oauth/token", &form).await.status, status);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_counts_once_however_many_come_at_once_and_across_a_restart() {
    each(|mut app| async move {
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let client = Client::register(&app, &agency, ClientAlgorithm::EdDsa).await;
        let assertion = client.assertion(&app);
        let replies = futures_util::future::join_all((0..12).map(|_| ask(&app, &assertion, None))).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
        let token = client.token(&app).await;
        app.restart().await;
        refused(&ask(&app, &assertion, None).await, "invalid_client");
        assert_eq!(client.introspect(&app, &token).await["active"], true);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_removed_or_whose_agency_is_suspended_gets_nothing_more() {
    each(|app| async move {
        let id = app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let (gone, kept) = (
            Client::register(&app, &agency, ClientAlgorithm::Es384).await,
            Client::register(&app, &agency, ClientAlgorithm::EdDsa).await,
        );
        let (lost, held) = (gone.token(&app).await, kept.token(&app).await);
        let sessions = app.get("/v1/me/sessions", &agency).await.expect(200).body["items"].clone();
        let programs =
            sessions.as_array().unwrap().iter().filter_map(|session| session["client_id"].as_str());
        let programs: std::collections::BTreeSet<_> = programs.collect();
        assert_eq!(programs, [gone.id.as_str(), kept.id.as_str()].into());
        assert_eq!(kept.introspect(&app, &lost).await, json!({"active": false}), "another's token");
        let path = format!("/v1/me/clients/{}", gone.id);
        let first = app.call(Method::DELETE, &path, Some(&agency), None).await.expect(200);
        let again = app.call(Method::DELETE, &path, Some(&agency), None).await.expect(200);
        assert_eq!(again.body["since"], first.body["since"], "again, it changes nothing");
        refused(&ask(&app, &gone.assertion(&app), None).await, "invalid_client");
        let told = app.told().await;
        let sid = claims_of(&lost).sid.to_string();
        assert!(told.iter().any(|request| request.method == Method::PUT
            && request.url.path().ends_with(&format!("/denials/session/{sid}"))));
        assert_eq!(
            app.get("/v1/me/clients", &agency).await.expect(200).body["items"].as_array().unwrap().len(),
            1
        );
        // Its keys are replaced: the old ones count no more, nor what was got with them.
        let next = ClientKey::of(ClientAlgorithm::Rs384);
        let path = format!("/v1/me/clients/{}/jwks", kept.id);
        app.put(&path, &agency, json!({"jwks": next.jwks(), "password": "not the password"}))
            .await
            .refused(401, "bad_credentials");
        app.wait(2);
        app.put(&path, &agency, json!({"jwks": next.jwks(), "password": PASSWORD})).await.expect(200);
        refused(&ask(&app, &kept.assertion(&app), None).await, "invalid_client");
        let renewed = Client { id: kept.id.clone(), key: next };
        assert_eq!(renewed.introspect(&app, &held).await, json!({"active": false}));
        let token = renewed.token(&app).await;
        assert_eq!(renewed.introspect(&app, &token).await["active"], true);
        // Given back (RFC 7009), it is good no more.
        app.send_form("/oauth/revoke", &[("token", &token)]).await.expect(200);
        assert_eq!(renewed.introspect(&app, &token).await, json!({"active": false}));
        let operator = app.login("operator-0").await;
        let body = decision("its licence was withdrawn");
        app.post(&format!("/v1/agencies/{id}/suspensions"), &operator, body).await.expect(200);
        refused(&ask(&app, &renewed.assertion(&app), None).await, "invalid_client");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_approved_agency_registers_and_only_public_keys() {
    each(|app| async move {
        app.agency("waiting").await;
        app.approved_agency("insurer").await;
        app.approved_agency("other").await;
        let key = ClientKey::of(ClientAlgorithm::Es384);
        let waiting = app.login("waiting").await;
        app.post("/v1/me/clients", &waiting, new_client(&key, "system/*.rs")).await.refused(403, "agency_unverified");
        let agency = app.login("insurer").await;
        let with = |name: &str, value: Value| {
            let mut new = new_client(&key, "system/*.rs");
            new[name] = value;
            new
        };
        let mut weak = ClientKey::of(ClientAlgorithm::Rs384).jwk;
        weak["n"] = json!("u".repeat(171));
        let mut private = key.jwk.clone();
        private["d"] = json!("AAAA");
        let mut point = key.jwk.clone();
        point["y"] = json!("AAAA");
        let mut off_curve = key.jwk.clone();
        off_curve["y"] = off_curve["x"].clone();
        let mut even = ClientKey::of(ClientAlgorithm::Rs384).jwk;
        even["e"] = json!("Ag");
        let named = |kid: &str| json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"});
        for jwks in [
            json!({}), json!({"keys": []}), json!({"keys": [{}]}), json!({"keys": [weak]}), json!({"keys": [private]}),
            json!({"keys": [point]}), json!({"keys": [off_curve]}), json!({"keys": [even]}), json!({"keys": [key.jwk, key.jwk]}), json!({"keys": [named("small order")]}),
            json!({"keys": [{"kid": "k", "kty": "oct", "k": "c2VjcmV0"}]}), json!([key.jwk]),
            json!({"keys": [{"kid": "p256", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}),
        ] {
            let reply = app.post("/v1/me/clients", &agency, with("jwks", jwks.clone())).await;
            assert_eq!((reply.status, reply.body["errors"][0]["field"].as_str()), (422, Some("jwks")), "{jwks}: {:?}", reply.body);
        }
        for (name, value) in [
            ("scope", json!("system/*.cruds")), ("scope", json!("system/Observation.c")), ("scope", json!("patient/*.rs")),
            ("scope", json!("system/*.rs offline_access")), ("kind", json!("gateway")), ("name", json!("")), ("name", json!("n".repeat(81))),
            ("account", json!("agy-00000000000000000000000000000000")), ("id", json!("cli-00000000000000000000000000000000")),
        ] {
            assert_eq!(app.post("/v1/me/clients", &agency, with(name, value)).await.status, 422, "{name}");
        }
        app.post("/v1/me/clients", &agency, with("password", json!("not the password"))).await.refused(401, "bad_credentials");
        app.wait(2);
        let client = Client::register(&app, &agency, ClientAlgorithm::Es384).await;
        let other = app.login("other").await;
        let path = format!("/v1/me/clients/{}", client.id);
        app.call(Method::DELETE, &path, Some(&other), None).await.refused(404, "not_found");
        let keys = json!({"jwks": key.jwks(), "password": PASSWORD});
        app.put(&format!("{path}/jwks"), &other, keys).await.refused(404, "not_found");
        for _more in 1..10 {
            Client::register(&app, &agency, ClientAlgorithm::Es384).await;
            app.wait(1);
        }
        app.post("/v1/me/clients", &agency, new_client(&key, "system/*.rs")).await.refused(409, "conflict");
        client.token(&app).await;
        // Nor does it get round that by removing them: those that are gone are remembered.
        for _more in 10..20 {
            app.call(Method::DELETE, &path, Some(&agency), None).await.expect(200);
            let items = app.get("/v1/me/clients", &agency).await.expect(200).body["items"].clone();
            let oldest = items[0]["id"].as_str().unwrap();
            app.call(Method::DELETE, &format!("/v1/me/clients/{oldest}"), Some(&agency), None).await.expect(200);
            Client::register(&app, &agency, ClientAlgorithm::Es384).await;
        }
        let items = app.get("/v1/me/clients", &agency).await.expect(200).body["items"].clone();
        let oldest = format!("/v1/me/clients/{}", items[0]["id"].as_str().unwrap());
        app.call(Method::DELETE, &oldest, Some(&agency), None).await.expect(200);
        app.post("/v1/me/clients", &agency, new_client(&key, "system/*.rs")).await.refused(429, "too_many_requests");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_as_many_tokens_as_it_can_use_and_none_after_a_recovery() {
    each(|app| async move {
        let form = TestApp::agency_form("insurer");
        let signed_up = app.post("/v1/agencies", "", form).await.expect(201);
        let id = signed_up.text("id");
        for operator in ["operator-0", "operator-1"] {
            app.approve(operator, &id).await.expect(200);
        }
        app.ledger_agrees().await;
        let agency = app.login("insurer").await;
        let client = Client::register(&app, &agency, ClientAlgorithm::EdDsa).await;
        let mut last = String::new();
        for _token in 0..20 {
            last = client.token(&app).await;
        }
        let reply = ask(&app, &client.assertion(&app), None).await;
        assert_eq!((reply.status, &reply.body["error"]), (429, &json!("temporarily_unavailable")));
        assert!(reply.headers.contains_key("retry-after") && reply.headers.contains_key("ratelimit"));
        assert_eq!(client.introspect(&app, &last).await["active"], true);
        // Whoever had the password may have registered it: with the password it goes.
        let code = signed_up.body["recovery_codes"][0].clone();
        let recovery =
            json!({"username": "insurer", "code": code, "new_password": "tall birches beside the lake"});
        app.post("/v1/recoveries", "", recovery).await.expect(204);
        app.wait(2);
        refused(&ask(&app, &client.assertion(&app), None).await, "invalid_client");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_client_does_not_come_back_with_an_older_row() {
    each(|mut app| async move {
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let client = Client::register(&app, &agency, ClientAlgorithm::Es384).await;
        app.by_hand("CREATE TABLE kept AS SELECT * FROM clients").await;
        let path = format!("/v1/me/clients/{}", client.id);
        app.call(Method::DELETE, &path, Some(&agency), None).await.expect(200);
        app.by_hand("DELETE FROM clients").await;
        app.by_hand("INSERT INTO clients SELECT * FROM kept").await;
        assert_eq!(ask(&app, &client.assertion(&app), None).await.status, 400);
        app.restart().await;
        assert_eq!(ask(&app, &client.assertion(&app), None).await.status, 400);
        // A row that another hand wrote is none either.
        app.by_hand("UPDATE clients SET scopes = 'system/*.r'").await;
        assert_eq!(ask(&app, &client.assertion(&app), None).await.status, 400);
    })
    .await;
}
