//! An insurer's back office: a program with a key of its own reads what a patient granted the insurer, at `/fhir`, without a
//! header of HBC's, and nothing else anywhere; stock OAuth libraries do it unchanged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hbc_client::operations::{auth, storage};
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::http::{FORM, form};
use hbc_tests::ask::{Ask, Credentials};
use hbc_tests::{Person, TestApp, tools};
use hbc_types::account::AgencyType;
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::Scope;
use hbc_types::wire::auth::Denial;
use hbc_types::wire::oauth::{ClientAlgorithm, ClientView, JWT_BEARER, TokenResponse};
use reqwest::Method;
use serde_json::{Value, json};

/// A patient who granted an insurer, and the insurer's program.
struct World {
    app: TestApp,
    patient: Person,
    insurer: Person,
}

const OBSERVATION: &str = r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]}}"#;

impl World {
    async fn new() -> Result<Option<Self>> {
        let Some(app) = TestApp::shared().await? else { return Ok(None) };
        let patient = app.patient().await?;
        let insurer = app.active_agency(AgencyType::Insurer).await?;
        let scope = app.scope(&[Category::VitalSigns, Category::Laboratory]);
        let scope = Scope { purposes: vec![Purpose::Payment], ..scope };
        app.grant(&patient, &insurer, scope).await?;
        let create = app.storage.to(storage::fhir_create("Observation")).idempotency_key(&app.key());
        patient.signs(create.body("application/fhir+json", OBSERVATION.as_bytes().to_vec())).done().await?;
        Ok(Some(Self { app, patient, insurer }))
    }

    async fn register(&self, key: &ClientKey) -> Result<ClientView> {
        let new = json!({"name": "Claims", "kind": "back-office", "jwks": key.jwks(), "scope": "system/*.rs",
            "password": self.insurer.password});
        let call = self.app.auth.to(auth::register_client()).json(&new);
        self.insurer.signs(call).fetch().await.context("the client was not registered")
    }

    /// A token for `scope`.
    async fn token(&self, client: &ClientView, key: &ClientKey, scope: &str) -> Result<String> {
        let endpoint = format!("{}/oauth/token", self.app.stack().auth());
        let claims = claims(client.id.as_str(), &endpoint, self.app.clock.now().seconds(), &self.app.key());
        let assertion = key.sign(&key.header(), &claims);
        let asked = form(&[
            ("grant_type", "client_credentials"),
            ("scope", scope),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", &assertion),
        ]);
        let call = self.app.auth.to(auth::grant_token()).body(FORM, asked);
        let given: TokenResponse = call.fetch().await.context("no token")?;
        Ok(given.access_token.expose().to_owned())
    }

    /// What `/fhir` answers.
    async fn get(&self, token: &str, path: &str) -> Result<(u16, Value)> {
        let ask = Ask::new("storage", Method::GET, path);
        let reply = self.app.send(&ask, Credentials { token: Some(token), service: None }).await?;
        Ok((reply.status, reply.json()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_office_reads_what_was_granted_within_its_scope_and_nothing_else() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let key = ClientKey::of(ClientAlgorithm::Es384);
    let client = world.register(&key).await?;
    let token = world.token(&client, &key, "system/Observation.rs").await?;
    let patient = world.patient.patient()?;
    let search = format!("/fhir/Observation?patient={patient}");
    let (status, found) = world.get(&token, &search).await?;
    assert_eq!((status, &found["entry"][0]["search"]["mode"]), (200, &json!("match")), "{found}");
    let id = found["entry"][0]["resource"]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.get(&token, &format!("/fhir/Observation/{id}")).await?.0, 200);
    // Beyond its scope it is told so, whatever there is.
    for path in [
        format!("/fhir/Condition?patient={patient}"),
        format!("/fhir/Patient/{patient}"),
        format!("/fhir/Patient/{patient}/$everything"),
        format!("/fhir/Patient/{patient}/Condition"),
        format!("{search}&subject:Patient.name=x"),
        format!("{search}&_has:Provenance:target:recorded=ge2020"),
        "/fhir/Condition/nothing".to_owned(),
    ] {
        let (status, outcome) = world.get(&token, &path).await?;
        assert_eq!((status, &outcome["resourceType"]), (403, &json!("OperationOutcome")), "{path}");
        assert_eq!(outcome["issue"][0]["details"]["coding"][0]["code"], "insufficient_scope", "{path}");
    }
    // What its scope does not reach is not shown beside what it does.
    let beside = format!("{search}&_include=*&_revinclude=Provenance:target");
    let (status, found) = world.get(&token, &beside).await?;
    let shown =
        found["entry"].as_array().unwrap().iter().filter(|entry| entry["search"]["mode"] == "include");
    assert_eq!((status, shown.count()), (200, 0), "{found}");
    // It must name a patient: access-policy tells grants to people.
    assert_eq!(world.get(&token, "/fhir/Observation").await?.0, 422);
    // An insurer in person, too, sees those whose grants it has.
    let ask = Ask::new("storage", Method::GET, "/fhir/Observation").header("hbc-purpose", "HPAYMT");
    let reply =
        world.app.send(&ask, Credentials { token: Some(world.insurer.token()), service: None }).await?;
    assert_eq!((reply.status, &reply.json()["total"]), (200, &json!(1)));
    let other = world.app.patient().await?;
    let foreign = world.get(&token, &format!("/fhir/Observation?patient={}", other.patient()?)).await?;
    assert_eq!(foreign.0, 404, "a patient who granted nothing");
    for (method, path) in [(Method::POST, "/fhir/Observation"), (Method::POST, "/fhir")] {
        let ask = Ask::new("storage", method, path).body("application/fhir+json", OBSERVATION);
        let reply = world.app.send(&ask, Credentials { token: Some(&token), service: None }).await?;
        assert_eq!(reply.status, 403, "{path}");
    }
    // Everywhere else it is no token at all.
    for (process, path) in [
        ("storage", "/v1/records".to_owned()),
        ("storage", format!("/v1/records/{id}")),
        ("access-policy", "/v1/grants".to_owned()),
        ("access-policy", "/v1/access-requests".to_owned()),
        ("auth", "/v1/me".to_owned()),
        ("auth", "/v1/me/clients".to_owned()),
    ] {
        let ask = Ask::new(process, Method::GET, path.clone());
        let reply = world.app.send(&ask, Credentials { token: Some(&token), service: None }).await?;
        assert_eq!(reply.status, 401, "{process} {path}");
    }
    // It cannot say that it asks for something else than it is registered for.
    let ask = Ask::new("storage", Method::GET, search.clone()).header("hbc-purpose", "TREAT");
    let reply = world.app.send(&ask, Credentials { token: Some(&token), service: None }).await?;
    assert_eq!(reply.status, 422);
    // The patient sees who read, and why.
    let log = world.app.accesses(&world.patient).await?;
    let reads = log.iter().filter(|access| access.receipt.purpose == Purpose::Payment).count();
    assert!(reads >= 2, "{log:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_client_reads_nothing_within_a_second() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let key = ClientKey::of(ClientAlgorithm::EdDsa);
    let client = world.register(&key).await?;
    let token = world.token(&client, &key, "system/*.rs").await?;
    let search = format!("/fhir/Observation?patient={}", world.patient.patient()?);
    assert_eq!(world.get(&token, &search).await?.0, 200);
    let everything = format!("/fhir/Patient/{}/%24everything", world.patient.patient()?);
    assert_eq!(world.get(&token, &everything).await?.0, 200, "however it is written");
    let began = Instant::now();
    let removed: Denial =
        world.insurer.signs(world.app.auth.to(auth::remove_client(&client.id))).fetch().await?;
    assert!(removed.effective);
    let (status, _outcome) = world.get(&token, &search).await?;
    assert!([401, 403].contains(&status), "{status}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let again: Denial =
        world.insurer.signs(world.app.auth.to(auth::remove_client(&client.id))).fetch().await?;
    assert_eq!(again.since, removed.since, "again, it changes nothing");
    Ok(())
}

/// Runs a stock client's program with a registered key; answers what it found.
async fn stock(world: &World, program: Command, algorithm: ClientAlgorithm) -> Result<String> {
    let key = ClientKey::of(algorithm);
    let client = world.register(&key).await?;
    let given = json!({
        "fhir": format!("{}/fhir", world.app.stack().storage()),
        "client": client.id,
        "private_key": key.private_pem(),
        "kid": key.jwk["kid"],
        "search": format!("Observation?patient={}", world.patient.patient()?),
    });
    tools::say(program, &given).await
}

fn source(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_reads_as_a_back_office() -> Result<()> {
    // Its packages are there if this one's program is.
    let Some(_installed) = tools::node("tsc") else { return Ok(()) };
    let Some(world) = World::new().await? else { return Ok(()) };
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    std::fs::copy(source("back_office.js"), folder.path().join("back_office.mjs"))?;
    let mut program = Command::new("node");
    program.arg(folder.path().join("back_office.mjs"));
    assert_eq!(stock(&world, program, ClientAlgorithm::Es384).await?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_reads_as_a_back_office() -> Result<()> {
    let Some(python) = tools::python("python") else { return Ok(()) };
    let Some(world) = World::new().await? else { return Ok(()) };
    let mut program = Command::new(python);
    program.arg("-B").arg(source("back_office.py"));
    assert_eq!(stock(&world, program, ClientAlgorithm::Rs384).await?, "1");
    Ok(())
}
