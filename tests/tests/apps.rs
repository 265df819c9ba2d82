//! A third-party app: registered by the operator, let in by a patient, it reads at `/fhir` what that patient granted, and nothing
//! else anywhere; stock OAuth libraries do it unchanged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hbc_client::operations::{auth, storage};
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::http::{FORM, form};
use hbc_tests::apps::{BACK, VERIFIER, new_app, query, with_page};
use hbc_tests::ask::{Ask, Credentials};
use hbc_tests::{Person, TestApp, tools};
use hbc_types::ids::AccountId;
use hbc_types::labels::Category;
use hbc_types::wire::access::{AccessKind, GrantView, Scope};
use hbc_types::wire::apps::AppView;
use hbc_types::wire::auth::Denial;
use hbc_types::wire::oauth::{ClientAlgorithm, JWT_BEARER, TokenResponse};
use reqwest::Method;
use serde_json::{Value, json};

struct World {
    app: TestApp,
    operator: Person,
    patient: Person,
}

fn observation(category: &str, code: &str) -> Vec<u8> {
    let resource = json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
    });
    resource.to_string().into_bytes()
}

impl World {
    async fn new() -> Result<Option<Self>> {
        let Some(app) = TestApp::start_with(with_page).await? else { return Ok(None) };
        let (operator, patient) = (app.operator().await?, app.patient().await?);
        let resources = [
            ("Observation", observation("vital-signs", "8867-4")),
            ("Observation", observation("laboratory", "718-7")),
            ("Patient", br#"{"resourceType":"Patient","gender":"female"}"#.to_vec()),
        ];
        for (kind, body) in resources {
            let create = app.storage.to(storage::fhir_create(kind)).idempotency_key(&app.key());
            patient.signs(create.body("application/fhir+json", body)).done().await?;
        }
        Ok(Some(Self { app, operator, patient }))
    }

    /// The patient grants what is asked and says yes; the app has its tokens.
    async fn let_in(&self, app: &AppView, scope: &str) -> Result<(GrantView, TokenResponse)> {
        let asked = self.app.asked(&self.patient, &query(&self.app, app.id.as_str(), scope)).await?;
        let grant = self.app.grant_to_app(&self.patient, &asked, asked.access.clone()).await?;
        let back = self.app.allow(&self.patient, &asked).await?;
        let code = back.query_pairs().find(|(name, _)| name == "code").context("no code")?.1.into_owned();
        let fields = form(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", BACK),
            ("client_id", app.id.as_str()),
            ("code_verifier", VERIFIER),
        ]);
        let tokens =
            self.app.auth.to(auth::grant_token()).body(FORM, fields).fetch().await.context("no token")?;
        Ok((grant, tokens))
    }

    async fn get(&self, token: &str, path: &str) -> Result<(u16, Value)> {
        let ask = Ask::new("storage", Method::GET, path);
        let reply = self.app.send(&ask, Credentials { token: Some(token), service: None }).await?;
        Ok((reply.status, reply.json()))
    }
}

fn matches(bundle: &Value) -> usize {
    let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter(|entry| entry["search"]["mode"] == "match").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_reads_what_its_patient_granted_and_nothing_else() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let app = world.app.app(&world.operator).await?;
    let scope = "launch/patient offline_access patient/Patient.rs patient/Observation.rs?category=laboratory";
    let (grant, tokens) = world.let_in(&app, scope).await?;
    let token = tokens.access_token.expose();
    let patient = world.patient.patient()?;
    assert_eq!(tokens.patient.as_ref(), Some(patient));
    assert_eq!((grant.grantee_name.as_str(), grant.offline), ("Diary", Some(true)));
    // Whom it is about follows from the token: no parameter and no header of ours.
    let (status, found) = world.get(token, "/fhir/Observation").await?;
    assert_eq!((status, matches(&found)), (200, 1), "laboratory, and no vital signs: {found}");
    assert_eq!(world.get(token, &format!("/fhir/Patient/{patient}")).await?.0, 200);
    for path in ["/fhir/Condition".to_owned(), format!("/fhir/Patient/{patient}/$everything")] {
        assert_eq!(world.get(token, &path).await?.0, 403, "beyond its scope: {path}");
    }
    let other = world.app.patient().await?;
    let foreign = format!("/fhir/Observation?patient={}", other.patient()?);
    assert!([403, 404].contains(&world.get(token, &foreign).await?.0));
    for (method, path) in [(Method::POST, "/fhir/Observation"), (Method::POST, "/fhir")] {
        let ask =
            Ask::new("storage", method, path).body("application/fhir+json", observation("laboratory", "1"));
        let reply = world.app.send(&ask, Credentials { token: Some(token), service: None }).await?;
        assert_eq!(reply.status, 403, "{path}");
    }
    for (process, path) in [
        ("storage", "/v1/records"),
        ("access-policy", "/v1/grants"),
        ("access-policy", "/v1/me/accesses"),
        ("auth", "/v1/me"),
        ("auth", "/v1/me/apps"),
    ] {
        let ask = Ask::new(process, Method::GET, path);
        let reply = world.app.send(&ask, Credentials { token: Some(token), service: None }).await?;
        assert_eq!(reply.status, 401, "{process} {path}");
    }
    // The patient sees who read, under which grant.
    let log = world.app.accesses(&world.patient).await?;
    let read = log.iter().find(|access| access.receipt.actor == AccountId::App(app.id.clone()));
    let read = read.context("the log does not have it")?;
    assert_eq!((read.actor_name.as_deref(), &read.receipt.grant), (Some("Diary"), &Some(grant.id.clone())));
    assert!(log.iter().any(|access| access.receipt.kind == AccessKind::Read));
    // A revoked grant opens nothing from then on, while the app is still let in.
    world.app.revoke(&world.patient, &grant).await?;
    assert_eq!(world.get(token, "/fhir/Observation").await?.0, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_sent_away_reads_nothing_within_a_second() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let app = world.app.app(&world.operator).await?;
    let (_grant, tokens) = world.let_in(&app, "offline_access patient/*.rs").await?;
    let token = tokens.access_token.expose();
    let (status, found) = world.get(token, "/fhir/Observation").await?;
    assert_eq!((status, matches(&found)), (200, 2));
    let began = Instant::now();
    world.app.send_away(&world.patient, &app.id).await?;
    assert!([401, 403].contains(&world.get(token, "/fhir/Observation").await?.0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let refresh = tokens.refresh_token.context("no refresh token")?;
    let fields = form(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.expose()),
        ("client_id", app.id.as_str()),
    ]);
    let refused = world.app.auth.to(auth::grant_token()).body(FORM, fields).fetch().await;
    assert_eq!(refused.unwrap_err().status(), Some(400));
    // Let in again it reads on under the same grant, until the operator ends it for everybody.
    let (_grant, tokens) = world.let_in(&app, "patient/*.rs").await?;
    let token = tokens.access_token.expose();
    assert_eq!(world.get(token, "/fhir/Observation").await?.0, 200);
    let ending = json!({"password": world.operator.password, "reason": "it sold what it read"});
    let call = world.app.auth.to(auth::end_app(&app.id)).json(&ending);
    let ended: Denial = world.operator.signs(call).fetch().await?;
    assert!(ended.effective);
    assert!([401, 403].contains(&world.get(token, "/fhir/Observation").await?.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_grants_an_app_less_than_it_asks_for() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let app = world.app.app(&world.operator).await?;
    let asked = query(&world.app, app.id.as_str(), "patient/*.rs");
    let asked = world.app.asked(&world.patient, &asked).await?;
    let only = |categories: &[Category]| Scope { categories: categories.to_vec(), ..asked.access.clone() };
    world.app.grant_to_app(&world.patient, &asked, only(&[Category::VitalSigns])).await?;
    let back = world.app.allow(&world.patient, &asked).await?;
    let code = back.query_pairs().find(|(name, _)| name == "code").context("no code")?.1.into_owned();
    let fields = form(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", BACK),
        ("client_id", app.id.as_str()),
        ("code_verifier", VERIFIER),
    ]);
    let tokens: TokenResponse = world.app.auth.to(auth::grant_token()).body(FORM, fields).fetch().await?;
    let (status, found) = world.get(tokens.access_token.expose(), "/fhir/Observation").await?;
    assert_eq!((status, matches(&found)), (200, 1), "{found}");
    Ok(())
}

/// Runs a stock client's program against the page that the test plays: it says where the browser is to go, is told where the
/// browser was sent, and says what it found.
async fn stock(world: &World, program: Command, key: Option<&ClientKey>) -> Result<String> {
    let mut new = new_app(&world.operator.password);
    if let Some(key) = key {
        new["jwks"] = key.jwks();
    }
    let app = world.app.app_of(&world.operator, new).await?;
    let given = json!({
        "fhir": format!("{}/fhir", world.app.stack().storage()),
        "client": app.id,
        "redirect_uri": BACK,
        "scope": "launch/patient openid fhirUser offline_access patient/*.rs",
        "private_key": key.map(ClientKey::private_pem),
        "kid": key.map(|key| key.jwk["kid"].clone()),
        "browser": tools::browser(),
    });
    let mut client = tools::Talk::begin(&program, &given).await?;
    let asks = client.hears().await?;
    let asked = asks.split_once('?').context("no query")?.1.to_owned();
    let asked = world.app.asked(&world.patient, &asked).await?;
    world.app.grant_to_app(&world.patient, &asked, asked.access.clone()).await?;
    let back = world.app.allow(&world.patient, &asked).await?;
    client.says(back.as_str()).await?;
    let found = client.hears().await?;
    client.ends().await?;
    Ok(found)
}

/// Pages of other origins may call what apps call, and read nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_call_what_apps_call() -> Result<()> {
    let Some(app) = TestApp::start_with(with_page).await? else { return Ok(()) };
    let stack = app.stack();
    let open = [
        format!("{}/fhir/metadata", stack.storage()),
        format!("{}/fhir/.well-known/smart-configuration", stack.storage()),
        format!("{}/.well-known/jwks.json", stack.auth()),
    ];
    let shut = [format!("{}/v1/records", stack.storage()), format!("{}/v1/me", stack.auth())];
    let origin = "https://app.example";
    for (urls, allowed) in [(open.as_slice(), Some(origin)), (shut.as_slice(), None)] {
        for url in urls {
            let answer = app.http.get(url).header("origin", origin).send().await?;
            let found = answer.headers().get("access-control-allow-origin");
            assert_eq!(found.map(|value| value.to_str().unwrap()), allowed, "{url}");
            assert!(!answer.headers().contains_key("access-control-allow-credentials"), "{url}");
        }
    }
    let preflight = |url: String| {
        let request = app.http.request(Method::OPTIONS, url).header("origin", origin);
        request
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization,prefer")
            .send()
    };
    let answer = preflight(format!("{}/fhir/Observation", stack.storage())).await?;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["access-control-allow-origin"].to_str()?),
        (200, origin)
    );
    let answer = preflight(format!("{}/v1/records", stack.storage())).await?;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    Ok(())
}

fn source(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_is_let_in() -> Result<()> {
    let Some(_installed) = tools::node("tsc") else { return Ok(()) };
    let Some(world) = World::new().await? else { return Ok(()) };
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    std::fs::copy(source("app.js"), folder.path().join("app.mjs"))?;
    let mut program = Command::new("node");
    program.arg(folder.path().join("app.mjs"));
    assert_eq!(stock(&world, program, None).await?, "2");
    Ok(())
}

/// In a real browser, from an origin of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_smart_javascript_client_is_let_in() -> Result<()> {
    let Some(_browser) = tools::browser() else { return Ok(()) };
    let Some(_installed) = tools::node("playwright-core") else { return Ok(()) };
    let Some(world) = World::new().await? else { return Ok(()) };
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    std::fs::copy(source("smart.js"), folder.path().join("smart.mjs"))?;
    let mut program = Command::new("node");
    program.arg(folder.path().join("smart.mjs"));
    assert_eq!(stock(&world, program, None).await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_is_let_in() -> Result<()> {
    let Some(python) = tools::python("python") else { return Ok(()) };
    let Some(world) = World::new().await? else { return Ok(()) };
    let mut program = Command::new(python);
    program.arg("-B").arg(source("app.py"));
    assert_eq!(stock(&world, program, Some(&ClientKey::of(ClientAlgorithm::Rs384))).await?, "2");
    Ok(())
}

/// A confidential app introspects nothing of others, and its assertion is good once.
#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_of_an_app_is_good_for_no_program() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let key = ClientKey::of(ClientAlgorithm::EdDsa);
    let mut new = new_app(&world.operator.password);
    new["jwks"] = key.jwks();
    let app = world.app.app_of(&world.operator, new).await?;
    let endpoint = format!("{}/oauth/token", world.app.stack().auth());
    let claims = claims(app.id.as_str(), &endpoint, world.app.clock.now().seconds(), &world.app.key());
    let assertion = key.sign(&key.header(), &claims);
    let fields = form(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", &assertion),
    ]);
    let refused = world.app.auth.to(auth::grant_token()).body(FORM, fields).fetch().await;
    assert_eq!(refused.unwrap_err().status(), Some(400));
    Ok(())
}
