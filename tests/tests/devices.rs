//! A patient pairs a device and a gateway: they write what was granted, for whom it was granted, until the patient cuts them off.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use hbc_client::operations::auth;
use hbc_testkit::clients::ClientKey;
use hbc_tests::ask::{Ask, Credentials};
use hbc_tests::consents::new_grant;
use hbc_tests::devices::Device;
use hbc_tests::reply::Reply;
use hbc_tests::{Person, TestApp, tools};
use hbc_types::ids::AccountId;
use hbc_types::labels::Category;
use hbc_types::wire::access::{AccessKind, Channel, GrantState};
use hbc_types::wire::devices::{DevicePairings, PairedDevices, PairingEnded};
use hbc_types::wire::oauth::ClientAlgorithm;
use reqwest::Method;
use serde_json::{Value, json};

fn vital(patient: &Person, n: usize) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "identifier": [{"system": "urn:example:readings", "value": n.to_string()}],
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": format!("Patient/{}", patient.account)},
        "effectiveDateTime": "2024-03-01T08:00:00Z",
        "valueQuantity": {"value": 60 + n % 40, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    })
}

fn batch(patient: &Person, count: usize) -> Value {
    let entry = |n| {
        json!({"resource": vital(patient, n), "request": {
        "method": "POST", "url": "Observation",
        "ifNoneExist": format!("identifier=urn:example:readings|{n}")}})
    };
    json!({"resourceType": "Bundle", "type": "batch", "entry": (1..=count).map(entry).collect::<Vec<_>>()})
}

async fn post(app: &TestApp, token: &str, path: &str, body: &Value) -> Result<Reply> {
    let ask = Ask::new("storage", Method::POST, path).body("application/fhir+json", body.to_string());
    app.send(&ask, Credentials { token: Some(token), service: None }).await
}

/// How many observations the patient sees.
async fn seen(app: &TestApp, patient: &Person) -> Result<usize> {
    let all = app.list(patient, patient.patient()?.as_str(), "PATRQT").await?;
    Ok(all.iter().filter(|record| record.kind == "Observation").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_writes_for_its_patients_until_one_of_them_cuts_it_off() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (alice, bob, carol) = (app.patient().await?, app.patient().await?, app.patient().await?);
    let gateway = app.device().await?;
    assert!(app.device_token(&gateway).await.is_err(), "nobody has paired it");
    let grant = app.pair(&alice, &gateway, &[Category::VitalSigns]).await?;
    app.pair(&bob, &gateway, &[Category::VitalSigns]).await?;
    let token = app.device_token(&gateway).await?;

    // What it measured, once however often it is sent, and a hundred at a time.
    let ask = Ask::new("storage", Method::POST, "/fhir/Observation")
        .body("application/fhir+json", vital(&alice, 1).to_string())
        .header("if-none-exist", "identifier=urn:example:readings|1");
    let who = Credentials { token: Some(token.as_str()), service: None };
    assert_eq!(app.send(&ask, who).await?.status, 201);
    assert_eq!(app.send(&ask, who).await?.status, 200);
    let reply = post(&app, &token, "/fhir", &batch(&alice, 100)).await?;
    assert_eq!(reply.status, 200);
    let entries = reply.json()["entry"].as_array().context("no entries")?.clone();
    let made = entries.iter().filter(|entry| entry["response"]["status"] == "201 Created").count();
    assert_eq!((entries.len(), made), (100, 99), "one was there");
    assert_eq!(post(&app, &token, "/fhir", &batch(&bob, 2)).await?.status, 200);
    assert_eq!((seen(&app, &alice).await?, seen(&app, &bob).await?), (100, 2));

    // The patient sees who wrote.
    let log = app.accesses(&alice).await?;
    let device = AccountId::Device(gateway.id().clone());
    let its: Vec<_> = log.iter().filter(|access| access.receipt.actor == device).collect();
    let written: usize = its.iter().map(|access| access.receipt.records.len()).sum();
    assert_eq!(written, 100);
    assert!(its.iter().all(|access| access.receipt.channel == Some(Channel::Device)));
    assert!(its.iter().any(|access| access.receipt.grant.as_ref() == Some(&grant.id)));

    // Whom and what nobody granted it; and it reads nothing.
    assert_eq!(post(&app, &token, "/fhir/Observation", &vital(&carol, 1)).await?.status, 404);
    let mut laboratory = vital(&alice, 500);
    laboratory["category"][0]["coding"][0]["code"] = json!("laboratory");
    laboratory["code"]["coding"][0]["code"] = json!("718-7");
    assert_eq!(post(&app, &token, "/fhir/Observation", &laboratory).await?.status, 403);
    let denied = app.accesses(&alice).await?;
    assert!(
        denied
            .iter()
            .any(|access| access.receipt.kind == AccessKind::Denied && access.receipt.actor == device)
    );
    for (process, path, status) in [
        ("storage", format!("/fhir/Observation?patient={}", alice.account), 403),
        ("storage", format!("/v1/records?patient={}", alice.account), 401),
        ("access-policy", "/v1/grants".to_owned(), 401),
        ("auth", "/v1/me".to_owned(), 401),
    ] {
        let reply = app.send(&Ask::new(process, Method::GET, path.clone()), who).await?;
        assert_eq!(reply.status, status, "{process} {path}");
    }

    // alice cuts it off: at the next request it is over, with the token it has and with a new one.
    let call = app.auth.to(auth::remove_device(gateway.id()));
    let ended: PairingEnded = alice.signs(call).fetch().await?;
    assert_eq!((ended.effective, ended.grants.as_slice()), (true, [grant.id.clone()].as_slice()));
    assert_eq!(post(&app, &token, "/fhir/Observation", &vital(&alice, 901)).await?.status, 403);
    assert_eq!(post(&app, &token, "/fhir", &batch(&alice, 3)).await?.status, 403);
    let fresh = app.device_token(&gateway).await?;
    assert_eq!(post(&app, &fresh, "/fhir/Observation", &vital(&alice, 902)).await?.status, 403);
    assert_eq!(post(&app, &fresh, "/fhir/Observation", &vital(&bob, 3)).await?.status, 201, "bob did not");
    app.until_grant(&alice, &grant.id, GrantState::Frozen).await?;
    app.revoke(&alice, &grant).await?;
    app.until_grant(&alice, &grant.id, GrantState::Revoked).await?;
    let late = post(&app, &fresh, "/fhir/Observation", &vital(&alice, 903)).await?.status;
    assert!([403, 404].contains(&late), "{late}");
    assert_eq!(seen(&app, &alice).await?, 100);

    // Each side sees what is left.
    let call = app.auth.to(auth::list_device_pairings()).json(&app.device_proof(&gateway));
    let left: DevicePairings = call.fetch().await?;
    let left: Vec<_> = left.items.iter().map(|pairing| &pairing.patient).collect();
    assert_eq!(left, [bob.patient()?]);
    let devices: PairedDevices = alice.signs(app.auth.to(auth::list_devices())).fetch().await?;
    assert!(devices.items.is_empty());

    // bob was the last: no token any more, and none of those that it has.
    let _ended: PairingEnded = bob.signs(app.auth.to(auth::remove_device(gateway.id()))).fetch().await?;
    assert!(app.device_token(&gateway).await.is_err());
    let dead = post(&app, &fresh, "/fhir/Observation", &vital(&bob, 4)).await?.status;
    assert!([401, 403].contains(&dead), "{dead}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_alone_binds_nobody() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let alice = app.patient().await?;
    let (device, doctor) = (app.device().await?, app.doctor().await?);
    // It is known to nobody: no draft names it before a claim.
    let new = hbc_types::wire::access::NewGrant {
        grantee: hbc_types::ids::GranteeId::Device(device.id().clone()),
        ..new_grant(&doctor, app.device_scope(&[Category::VitalSigns]))?
    };
    assert!(app.draft(&alice, &new).await.is_err());
    app.claim(&alice, &device).await?;
    app.draft(&alice, &new).await?;
    assert!(app.device_token(&device).await.is_err(), "a claim gives nothing, nor does a draft");
    // The patient signs and never confirms: without a pairing there is no token.
    app.grant_device(&alice, &device, &[Category::VitalSigns]).await?;
    assert!(app.device_token(&device).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_sends_as_a_device() -> Result<()> {
    // Its packages are there if this one's program is.
    let Some(_installed) = tools::node("tsc") else { return Ok(()) };
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (patient, key) = (app.patient().await?, ClientKey::of(ClientAlgorithm::Es384));
    let call = app.auth.to(auth::register_device()).json(&app.new_device(&key));
    let device = Device { known: call.fetch().await?, key };
    app.pair(&patient, &device, &[Category::VitalSigns]).await?;
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/device.js");
    std::fs::copy(source, folder.path().join("device.mjs"))?;
    let mut program = Command::new("node");
    program.arg(folder.path().join("device.mjs"));
    let given = json!({
        "fhir": format!("{}/fhir", app.stack().storage()),
        "client": device.id(),
        "private_key": device.key.private_pem(),
        "kid": device.key.jwk["kid"],
        "observation": vital(&patient, 1),
    });
    assert_eq!(tools::say(program, &given).await?, "201 403");
    Ok(())
}
