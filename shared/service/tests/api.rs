//! The skeleton over HTTP: who gets in, what a failure looks like, what every answer carries.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

mod sample;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use hbc_client::{ClientError, Endpoint};
use hbc_service::{TokenVerifier, openapi};
use hbc_types::account::ServiceRole;
use hbc_types::problem::Slug;
use hbc_types::wire::token::{Jwk, Jwks};
use hbc_types::{Clock, Timestamp};
use sample::{AUDIENCE, ISSUER, Sample, agency, patient, slug, start, start_with};
use serde_json::{Value, json};

async fn get(sample: &Sample, path: &str, token: &str) -> reqwest::Response {
    sample.http.get(sample.url(path)).bearer_auth(token).send().await.unwrap()
}

/// A token with any header, signed with the right key.
fn forge(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).to_bytes()))
}

#[tokio::test]
async fn a_good_token_opens_the_door_for_its_role_alone() {
    let sample = start();
    let answer = get(&sample, "/v1/me", &sample.patient_token()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["account"], patient().as_str());
    assert_eq!(get(&sample, "/v1/patients-only", &sample.patient_token()).await.status(), 200);
    assert_eq!(slug(get(&sample, "/v1/agencies-only", &sample.patient_token()).await).await, "forbidden");
    let agency = sample.token(&sample.claims(agency()));
    assert_eq!(slug(get(&sample, "/v1/patients-only", &agency).await).await, "forbidden");
    assert_eq!(get(&sample, "/v1/agencies-only", &agency).await.status(), 200);
}

#[tokio::test]
async fn every_kind_of_bad_token_gets_the_same_answer() {
    let sample = start();
    let good = json!(sample.claims(patient()));
    let kid = hbc_client::jwt::kid(&sample.key.verifying_key()).to_string();
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid});
    assert_eq!(
        get(&sample, "/v1/me", &forge(&sample.key, &header, &good)).await.status(),
        200,
        "the control"
    );
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        forge(&sample.key, &header, &claims)
    };
    let without = |claim: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(claim);
        forge(&sample.key, &header, &claims)
    };
    let head = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        forge(&sample.key, &changed, &good)
    };
    let now = sample.clock.now().seconds();
    let unsigned = {
        let token = head("alg", json!("none"));
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    let mut flipped = forge(&sample.key, &header, &good);
    let last = flipped.pop().unwrap();
    flipped.push(if last == 'A' { 'B' } else { 'A' });
    let bad = [
        ("alg none", head("alg", json!("none"))),
        ("alg none, no signature", unsigned),
        ("HS256", head("alg", json!("HS256"))),
        ("HS256 with the public key as secret", hs256(&sample.key, &kid, &good)),
        ("ES256", head("alg", json!("ES256"))),
        ("typ JWT", head("typ", json!("JWT"))),
        ("typ of a service", head("typ", json!("hbc-service+jwt"))),
        ("unknown kid", head("kid", json!("00".repeat(32)))),
        ("crit", head("crit", json!(["exp"]))),
        ("jwk in the header", head("jwk", json!({"kty": "OKP"}))),
        ("another issuer", with("iss", json!("https://evil.test"))),
        ("another audience", with("aud", json!("other"))),
        ("audience list", with("aud", json!([AUDIENCE]))),
        ("expired by six seconds", with("exp", json!(now - 6))),
        ("not yet valid", with("nbf", json!(now + 6))),
        ("issued in the future", with("iat", json!(now + 6))),
        ("endless", with("exp", json!(now + 36_000_000))),
        ("role of another", with("role", json!("operator"))),
        ("subject of no kind", with("sub", json!("root"))),
        ("no sub", without("sub")),
        ("no aud", without("aud")),
        ("no iss", without("iss")),
        ("no exp", without("exp")),
        ("no nbf", without("nbf")),
        ("flipped bit", flipped),
        ("stranger's key", forge(&SigningKey::from_bytes(&[6; 32]), &header, &good)),
        ("two parts", "a.b".to_owned()),
        ("too long", "a".repeat(10_000)),
    ];
    for (what, token) in bad {
        let answer = get(&sample, "/v1/me", &token).await;
        assert_eq!(answer.status(), 401, "{what}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{what}");
        assert_eq!(slug(answer).await, "unauthenticated", "{what}");
    }
    let edge = with("exp", json!(now - 4));
    assert_eq!(get(&sample, "/v1/me", &edge).await.status(), 200, "five seconds of leeway");
}

/// The classic confusion: an HMAC under the public key's bytes.
fn hs256(key: &SigningKey, kid: &str, claims: &Value) -> String {
    use sha2::{Digest as _, Sha256};
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": kid});
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut pads = [[0x36_u8; 64], [0x5c; 64]];
    for pad in &mut pads {
        for (to, from) in pad.iter_mut().zip(key.verifying_key().as_bytes()) {
            *to ^= from;
        }
    }
    let inner = Sha256::new().chain_update(pads[0]).chain_update(&text).finalize();
    let mac = Sha256::new().chain_update(pads[1]).chain_update(inner).finalize();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac))
}

#[tokio::test]
async fn a_token_counts_in_its_own_header_only() {
    let sample = start();
    let token = sample.patient_token();
    let url = sample.url("/v1/me");
    let tries = [
        sample.http.get(&url),
        sample.http.get(&url).header("hbc-service", format!("Bearer {token}")),
        sample.http.get(&url).header("x-authorization", format!("Bearer {token}")),
        sample.http.get(&url).header("cookie", format!("token={token}")),
        sample.http.get(&url).query(&[("access_token", &token)]),
        sample.http.get(&url).header("authorization", &token),
        sample.http.get(&url).header("authorization", format!("Basic {token}")),
        sample
            .http
            .get(&url)
            .header("authorization", format!("Bearer {token}"))
            .header("authorization", "Bearer x"),
    ];
    for request in tries {
        assert_eq!(slug(request.send().await.unwrap()).await, "unauthenticated");
    }
}

#[tokio::test]
async fn nobody_is_not_somebody_with_a_bad_token() {
    let sample = start();
    let anonymous = sample.http.get(sample.url("/v1/maybe")).send().await.unwrap();
    assert!(!anonymous.json::<bool>().await.unwrap());
    assert_eq!(slug(get(&sample, "/v1/maybe", "a.b.c").await).await, "unauthenticated");
    assert!(get(&sample, "/v1/maybe", &sample.patient_token()).await.json::<bool>().await.unwrap());
}

#[tokio::test]
async fn keys_come_from_auth_alone_and_a_new_one_is_found() {
    let auth = wiremock::MockServer::start().await;
    let (old, new) = (SigningKey::from_bytes(&[5; 32]), SigningKey::from_bytes(&[7; 32]));
    let clock = Clock::fixed(Timestamp::from_ms(1_800_000_000_000));
    let verifier =
        TokenVerifier::from_auth(ISSUER, AUDIENCE, Endpoint::new(&auth.uri()).unwrap(), clock.clone());
    let sample = start_with(verifier, clock, old.clone());
    assert_eq!(slug(get(&sample, "/v1/me", &sample.patient_token()).await).await, "dependency_unavailable");
    let set = Jwks { keys: vec![Jwk::of(old.verifying_key().as_bytes())] };
    wiremock::Mock::given(wiremock::matchers::path("/.well-known/jwks.json"))
        .respond_with(wiremock::ResponseTemplate::new(200).set_body_json(&set))
        .mount(&auth)
        .await;
    // Requests while there is no key set do not hammer auth: the next fetch is due after a moment.
    for _ in 0..100 {
        if get(&sample, "/v1/me", &sample.patient_token()).await.status() == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(get(&sample, "/v1/me", &sample.patient_token()).await.status(), 200);
    let foreign = hbc_client::jwt::sign("at+jwt", &new, &sample.claims(patient())).unwrap();
    for _ in 0..20 {
        assert_eq!(get(&sample, "/v1/me", &foreign).await.status(), 401);
    }
    let fetches = auth.received_requests().await.unwrap().len();
    assert!(fetches < 20, "unknown keys made {fetches} fetches");
}

#[tokio::test]
async fn a_service_gets_in_with_an_assertion_over_this_request() {
    let sample = start();
    let endpoint = Endpoint::new(&sample.base).unwrap();
    let thing = json!({"name": "x", "count": 1});
    let caller = sample.caller(ServiceRole::Storage);
    let call =
        endpoint.post("/internal/v1/things?a=b%20c").json(&thing).signed(&caller, ServiceRole::AccessPolicy);
    let answer: Value = call.fetch().await.unwrap();
    assert_eq!(answer, json!({"from": "storage", "name": "x"}));

    let unsigned = endpoint.post("/internal/v1/things").json(&thing).done().await.unwrap_err();
    assert_eq!(unsigned.slug(), Some(Slug::Unauthenticated));
    let user = endpoint.post("/internal/v1/things").json(&thing).bearer(&sample.patient_token()).done().await;
    assert_eq!(user.unwrap_err().slug(), Some(Slug::Unauthenticated));
    let other =
        endpoint.post("/internal/v1/auth-only").signed(&caller, ServiceRole::AccessPolicy).done().await;
    assert_eq!(other.unwrap_err().slug(), Some(Slug::Forbidden));
    let auth = sample.caller(ServiceRole::Auth);
    endpoint.post("/internal/v1/auth-only").signed(&auth, ServiceRole::AccessPolicy).done().await.unwrap();

    // The same assertion on another body, and once more on its own.
    let body = thing.to_string();
    let path = "/internal/v1/things";
    let assertion = caller.assertion(ServiceRole::AccessPolicy, "POST", path, body.as_bytes()).unwrap();
    let send = |body: String| {
        let request = sample.http.post(sample.url(path)).header("content-type", "application/json");
        request.header("hbc-service", assertion.clone()).body(body).send()
    };
    assert_eq!(slug(send(body.replace('x', "y")).await.unwrap()).await, "unauthenticated");
    assert_eq!(send(body.clone()).await.unwrap().status(), 200);
    assert_eq!(slug(send(body).await.unwrap()).await, "unauthenticated");
}

#[tokio::test]
async fn failures_are_problem_documents() {
    let sample = start();
    let url = |path: &str| sample.url(path);
    let missing = sample.http.get(url("/v1/nothing")).send().await.unwrap();
    assert_eq!(slug(missing).await, "not_found");
    let method = sample.http.delete(url("/v1/things/1")).send().await.unwrap();
    assert_eq!(method.headers()["allow"], "GET");
    assert_eq!(slug(method).await, "method_not_allowed");
    let bad_path = sample.http.get(url("/v1/things/one")).send().await.unwrap();
    assert_eq!(slug(bad_path).await, "not_found");
    let bad_query = sample.http.get(url("/v1/things?limit=x")).send().await.unwrap();
    assert_eq!(slug(bad_query).await, "invalid_input");
    let unknown_query = sample.http.get(url("/v1/things?offset=3")).send().await.unwrap();
    assert_eq!(slug(unknown_query).await, "invalid_input");
    let panicked = sample.http.get(url("/v1/panic")).send().await.unwrap();
    assert_eq!(slug(panicked).await, "internal");
    assert_eq!(sample.http.get(url("/v1/open")).send().await.unwrap().status(), 200, "the process goes on");
}

#[tokio::test]
async fn bodies_are_read_strictly() {
    let sample = start();
    let send = |media_type: &'static str, body: Vec<u8>| {
        let request = sample.http.post(sample.url("/v1/things")).bearer_auth(sample.patient_token());
        request.header("content-type", media_type).body(body).send()
    };
    let json = "application/json";
    for (media_type, body, expected) in [
        ("text/plain", r#"{"name":"a","count":1}"#.as_bytes().to_vec(), "unsupported_media_type"),
        (json, br#"{"name":"a","count":1,"more":2}"#.to_vec(), "invalid_input"),
        (json, br#"{"name":"a"}"#.to_vec(), "invalid_input"),
        (json, br#"{"name":"a","name":"b","count":1}"#.to_vec(), "malformed_request"),
        (json, br#"{"name":"\u0000","count":1}"#.to_vec(), "malformed_request"),
        (json, br#"{"name":"\ud800","count":1}"#.to_vec(), "malformed_request"),
        (json, b"{".to_vec(), "malformed_request"),
        (json, vec![b' '; 5000], "too_large"),
    ] {
        let answer = send(media_type, body.clone()).await.unwrap();
        assert_eq!(slug(answer).await, expected, "{}", String::from_utf8_lossy(&body));
    }
    let named = send(json, br#"{"name":"a","count":-1}"#.to_vec()).await.unwrap();
    let problem: Value = named.json().await.unwrap();
    assert_eq!(problem["errors"][0]["field"], "count");
    assert_eq!(*sample.memory.made.lock().unwrap(), 0);
}

#[tokio::test]
async fn one_key_one_answer() {
    let sample = start();
    let send = |key: &'static str, count: u32| {
        let request = sample.http.post(sample.url("/v1/things")).bearer_auth(sample.patient_token());
        request.header("idempotency-key", key).json(&json!({"name": "a", "count": count})).send()
    };
    let first = send("k1", 1).await.unwrap();
    assert_eq!(
        (first.status().as_u16(), first.headers()["location"].to_str().unwrap()),
        (201, "/v1/things/1")
    );
    let first: Value = first.json().await.unwrap();
    let again = send("k1", 1).await.unwrap();
    assert_eq!(
        (again.status().as_u16(), again.headers()["location"].to_str().unwrap()),
        (201, "/v1/things/1")
    );
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_eq!(*sample.memory.made.lock().unwrap(), 1);
    assert_eq!(slug(send("k1", 2).await.unwrap()).await, "idempotency_mismatch");
    assert_eq!(send("k2", 2).await.unwrap().status(), 201);
    assert_eq!(slug(send("white space", 2).await.unwrap()).await, "invalid_input");
    // Another caller's key of the same name is another key.
    let other = sample.token(&sample.claims(hbc_types::ids::AccountId::Patient(
        hbc_types::ids::PatientId::random(&hbc_types::Random::seeded(99)),
    )));
    let request =
        sample.http.post(sample.url("/v1/things")).bearer_auth(other).header("idempotency-key", "k1");
    assert_eq!(request.json(&json!({"name": "z", "count": 9})).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn the_same_request_under_way_is_a_conflict() {
    let sample = start();
    let held = sample.memory.gate.clone().lock_owned().await;
    let request = || {
        let request = sample.http.post(sample.url("/v1/things")).bearer_auth(sample.patient_token());
        request.header("idempotency-key", "slow").json(&json!({"name": "a", "count": 1})).send()
    };
    let first = hbc_service::spawn("request", request());
    sample.memory.entered.notified().await;
    assert_eq!(slug(request().await.unwrap()).await, "in_flight");
    drop(held);
    assert_eq!(first.await.unwrap().unwrap().status(), 201);
    assert_eq!(request().await.unwrap().status(), 201);
    assert_eq!(*sample.memory.made.lock().unwrap(), 1);
}

#[tokio::test]
async fn every_answer_carries_its_id_and_headers() {
    let sample = start();
    let request = sample.http.get(sample.url("/v1/open")).header("x-request-id", "client-chosen-7");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "client-chosen-7");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert!(answer.headers().contains_key("content-security-policy"));
    let evil =
        sample.http.get(sample.url("/v1/open")).header("x-request-id", "a b\"c;").send().await.unwrap();
    assert_eq!(evil.headers()["x-request-id"].len(), 32);
    let gzip =
        sample.http.get(sample.url("/openapi.json")).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn health_metrics_and_documentation_are_served() {
    let sample = start();
    let get = |path: &str| sample.http.get(sample.url(path)).send();
    assert_eq!(get("/livez").await.unwrap().status(), 200);
    assert_eq!(get("/readyz").await.unwrap().status(), 200);
    sample.readiness.set("database", false, "not opened");
    let unready = get("/readyz").await.unwrap();
    assert_eq!(unready.status(), 503);
    assert_eq!(unready.json::<Value>().await.unwrap()["parts"]["database"]["note"], "not opened");
    let metrics = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(metrics.contains("hbc_requests_total"), "{metrics}");
    let document: Value = get("/openapi.json").await.unwrap().json().await.unwrap();
    assert!(document["paths"]["/v1/things/{id}"]["get"].is_object());
    let page = get("/docs/").await.unwrap();
    assert_eq!(page.status(), 200);
    let html = page.text().await.unwrap();
    assert!(html.contains("swagger-ui"), "{html}");
    assert!(!html.contains("https://"), "nothing is loaded from elsewhere");
    assert_eq!(get("/docs/swagger-ui-bundle.js").await.unwrap().status(), 200);
    let initializer = get("/docs/swagger-initializer.js").await.unwrap().text().await.unwrap();
    assert!(initializer.contains("/openapi.json"), "{initializer}");
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let sample = start();
    let mut seen = Vec::new();
    let mut path = "/v1/things?limit=50".to_owned();
    loop {
        let page: Value = sample.http.get(sample.url(&path)).send().await.unwrap().json().await.unwrap();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item.as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/things?limit=50&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=120).collect::<Vec<u64>>());
}

#[tokio::test]
async fn the_document_names_what_is_public() {
    let document = sample::document();
    let public = openapi::public_operations(&document);
    let expected =
        ["GET /v1/maybe", "GET /v1/open", "GET /v1/panic", "GET /v1/things", "GET /v1/things/{id}"];
    assert_eq!(public, expected);
    assert_eq!(openapi::operations(&document).len(), 11);
    assert_eq!(openapi::text(&document).unwrap(), openapi::text(&sample::document()).unwrap());
}

#[tokio::test]
async fn stopping_lets_the_request_under_way_finish() {
    let mut sample = start();
    let held = sample.memory.gate.clone().lock_owned().await;
    let request = sample.http.post(sample.url("/v1/things")).bearer_auth(sample.patient_token());
    let under_way = hbc_service::spawn("request", request.json(&json!({"name": "a", "count": 1})).send());
    sample.memory.entered.notified().await;
    sample.stop.take().unwrap().send(()).unwrap();
    drop(held);
    assert_eq!(under_way.await.unwrap().unwrap().status(), 201);
    sample.running.await.unwrap().unwrap();
    let late = Endpoint::new(&sample.base).unwrap().get("/v1/open").once().done().await;
    assert!(matches!(late, Err(ClientError::Unreachable(_))), "{late:?}");
}

/// A request that differs in anything that can change what is done is never answered with another's answer.
#[tokio::test]
async fn the_fingerprint_covers_all_that_a_request_asks() {
    let sample = start();
    let send = |query: &str, headers: &[(&str, &str)]| {
        let mut request = sample.http.post(sample.url(&format!("/v1/things{query}")));
        request = request.bearer_auth(sample.patient_token()).header("idempotency-key", "k");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = json!({"name": "a", "count": 1}).to_string();
        async move { request.body(body).send().await.unwrap() }
    };
    let plain = [("content-type", "application/json")];
    assert_eq!(send("", &plain).await.status(), 201);
    for query in ["?", "?patient=x"] {
        let answer = send(query, &plain).await;
        // An empty query says what none says.
        assert_eq!(answer.status().as_u16(), if query == "?" { 201 } else { 422 }, "{query}");
    }
    for header in hbc_service::idempotency::COVERED {
        for value in ["", "application/json; charset=utf-8"] {
            let headers = [("content-type", "application/json"), (header, value)];
            let headers = if header == "content-type" { &headers[1..] } else { &headers[..] };
            if header == "content-type" && value.is_empty() {
                continue;
            }
            let answer = send("", headers).await;
            assert_eq!(slug(answer).await, "idempotency_mismatch", "{header}: {value}");
        }
    }
    assert_eq!(*sample.memory.made.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_replay_is_the_first_answer() {
    let sample = start();
    let send = || {
        let request = sample.http.post(sample.url("/v1/things")).bearer_auth(sample.patient_token());
        request.header("idempotency-key", "k").json(&json!({"name": "a", "count": 1})).send()
    };
    let (first, again) = (send().await.unwrap(), send().await.unwrap());
    assert_eq!(first.status(), again.status());
    for name in ["content-type", "etag", "location"] {
        assert_eq!(first.headers()[name], again.headers()[name], "{name}");
    }
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(first.bytes().await.unwrap(), again.bytes().await.unwrap());
}

#[tokio::test]
async fn encodings_are_refused_before_anything_is_inflated() {
    let sample = start();
    let send = |encodings: &[&str]| {
        let mut request =
            sample.http.post(sample.url("/v1/things")).header("content-type", "application/json");
        for encoding in encodings {
            request = request.header("content-encoding", *encoding);
        }
        request.body("{\"name\": \"x\"}").send()
    };
    for encodings in
        [&["gzip"][..], &["br"], &["gzip", "gzip"], &["identity", "gzip"], &["deflate, gzip"], &[""]]
    {
        let answer = send(encodings).await.unwrap();
        assert_eq!(answer.status(), 415, "{encodings:?}");
        assert_eq!(slug(answer).await, "unsupported_media_type", "{encodings:?}");
    }
    let plain = send(&["identity"]).await.unwrap().status();
    assert_eq!(plain, send(&[]).await.unwrap().status());
    assert_ne!(plain, 415);
}
