//! What grantees see, pages and filters, proofs.

use std::collections::HashSet;

use hbc_chain::proof::{self, Content, Trust};
use hbc_types::ids::AccountId;
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, each, observation};
use crate::world::{Grant, genesis};

fn grant(agency: &AccountId, patient: &AccountId, categories: &[Category], action: Action) -> Grant {
    let AccountId::Patient(patient) = patient else { panic!("a patient grants") };
    Grant {
        agency: agency.clone(),
        patient: patient.clone(),
        categories: categories.to_vec(),
        action,
        purpose: Purpose::Treatment,
    }
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grantee_sees_exactly_what_was_granted() {
    each(|app| async move {
        let (patient, doctor) = (app.patient(), app.agency());
        let laboratory = app.observation(&patient, "laboratory").await;
        let social = app.observation(&patient, "social-history").await;
        let listing = format!("/v1/records?patient={patient}");
        app.get(&doctor, &listing).await.refused(404, "not_found");
        app.get(&doctor, &format!("/fhir/Observation/{laboratory}")).await.refused(404, "not_found");
        app.world.grant(grant(&doctor, &patient, &[Category::Laboratory], Action::Read));
        assert_eq!(
            ids(&app.get(&doctor, &listing).await.expect(200).body),
            std::slice::from_ref(&laboratory)
        );
        app.get(&doctor, &format!("/fhir/Observation/{laboratory}")).await.expect(200);
        app.get(&doctor, &format!("/fhir/Observation/{social}")).await.refused(403, "denied");
        app.get(&doctor, &format!("/v1/records/{social}")).await.refused(403, "denied");
        let found = app.get(&doctor, &format!("/fhir/Observation?patient={patient}")).await.expect(200).body;
        let entries = found["entry"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (&entries[0]["search"]["mode"], &entries[1]["search"]["mode"]),
            (&"match".into(), &"outcome".into())
        );
        let payment = [("HBC-Purpose", "HPAYMT")];
        let path = format!("/fhir/Observation/{laboratory}");
        app.call(Method::GET, &path, Some(&doctor), &payment, Vec::new()).await.refused(403, "denied");
        // Reading is not writing.
        let body = observation("laboratory").to_string();
        let headers = [("HBC-Patient", patient.as_str()), ("HBC-Purpose", "TREAT")];
        app.fhir(&doctor, "/fhir/Observation", &headers, body.as_bytes()).await.refused(403, "denied");
        app.world.grant(grant(&doctor, &patient, &[Category::Laboratory], Action::Write));
        app.fhir(&doctor, "/fhir/Observation", &headers, body.as_bytes()).await.expect(201);
        app.world.revoke_all();
        app.get(&doctor, &path).await.refused(404, "not_found");
        app.get(&doctor, &listing).await.refused(404, "not_found");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_filters_show_everything_once() {
    each(|app| async move {
        let patient = app.patient();
        let mut made = HashSet::new();
        for n in 0..7 {
            let category = if n % 2 == 0 { "laboratory" } else { "vital-signs" };
            made.insert(app.observation(&patient, category).await);
        }
        let (mut seen, mut path) = (Vec::new(), "/v1/records?limit=3".to_owned());
        loop {
            let page = app.get(&patient, &path).await.expect(200).body;
            seen.extend(ids(&page));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/records?limit=3&cursor={next}");
        }
        assert_eq!(seen.len(), 7);
        assert_eq!(seen.into_iter().collect::<HashSet<_>>(), made);
        let count = async |path: &str| ids(&app.get(&patient, path).await.expect(200).body).len();
        assert_eq!(count("/v1/records?category=laboratory").await, 4);
        assert_eq!(count("/v1/records?kind=Observation&from=2021-05-06&to=2021-05").await, 7);
        assert_eq!(count("/v1/records?from=2021-05-07").await, 0);
        assert_eq!(count("/v1/records?category=imaging").await, 0);
        app.get(&patient, "/v1/records?limit=0").await.refused(422, "invalid_input");
        app.get(&patient, "/v1/records?cursor=AAAA").await.refused(422, "invalid_input");
        app.get(&patient, "/v1/records?colour=red").await.refused(422, "invalid_input");
        let found =
            app.get(&patient, "/fhir/Observation?date=ge2021-05&date=lt2021-06&category=laboratory").await;
        assert_eq!(found.expect(200).body["entry"].as_array().unwrap().len(), 4);
    })
    .await;
}

async fn proved(app: &TestApp) -> (AccountId, String, Vec<u8>) {
    let patient = app.patient();
    let body = observation("laboratory").to_string();
    let made =
        app.fhir(&patient, "/fhir/Observation", &[("Prefer", "wait=20")], body.as_bytes()).await.expect(201);
    let id = made.body["id"].as_str().unwrap().to_owned();
    let bytes = app.get(&patient, &format!("/v1/records/{id}/proof")).await.expect(200).bytes;
    (patient, id, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_verifies_without_any_server() {
    each(|app| async move {
        let (_, id, bytes) = proved(&app).await;
        let trust = Trust::Genesis(Box::new(genesis()));
        let verified = proof::verify(&bytes, &trust).unwrap();
        assert!(verified.pinned);
        let Content::Record(facts) = verified.content else { panic!("not a record") };
        assert_eq!(facts.id.as_str(), id);
        assert_eq!(facts.received, hbc_types::Digest::of(observation("laboratory").to_string().as_bytes()));
        for at in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(proof::verify(&flipped, &trust).is_err(), "bit flipped at {at}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_anchor_has_no_proof_yet() {
    each(|app| async move {
        app.world.ledger_is_down(true);
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        app.get(&patient, &format!("/v1/records/{id}/proof")).await.refused(409, "conflict");
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        app.world.ledger_is_down(false);
        let path = format!("/v1/records/{id}");
        crate::app::eventually("the anchor is final", || async {
            app.get(&patient, &path).await.expect(200).body["anchor"] == "final"
        })
        .await;
        app.get(&patient, &format!("/v1/records/{id}/proof")).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decimals_and_order_survive_in_received_and_applied_form() {
    each(|app| async move {
        let patient = app.patient();
        let text = r#"{ "status":"final", "resourceType":"Observation","valueQuantity":{"value":0.10},
            "code":{"text":"caf\u00e9"} }"#;
        let made = app.fhir(&patient, "/fhir/Observation", &[], text.as_bytes()).await.expect(201);
        let id = made.body["id"].as_str().unwrap().to_owned();
        let received = app.get(&patient, &format!("/v1/records/{id}/received")).await.expect(200).bytes;
        assert_eq!(received, text.as_bytes());
        let applied = app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        assert_eq!(applied.bytes, made.bytes);
        assert!(String::from_utf8(applied.bytes.clone()).unwrap().contains("\"value\":0.10"));
        assert_eq!(applied.header("etag"), "W/\"1\"");
        app.get(&patient, &format!("/fhir/Observation/{id}/_history/2")).await.expect(404);
        app.get(&patient, &format!("/fhir/Condition/{id}")).await.expect(404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_read_by_all_and_written_by_the_verified() {
    each(|app| async move {
        let (clinic, stranger) = (app.agency(), app.agency());
        let body = br#"{"resourceType":"Organization","name":"Clinic"}"#;
        let headers = [("HBC-Patient", "dir")];
        app.fhir(&clinic, "/fhir/Organization", &headers, body).await.refused(403, "denied");
        app.world.verify_agency(&clinic);
        let made = app.fhir(&clinic, "/fhir/Organization", &headers, body).await.expect(201);
        let location = made.header("location");
        for reader in [app.patient(), stranger, app.operator()] {
            app.call(Method::GET, &location, Some(&reader), &[], Vec::new()).await.expect(200);
            let found =
                app.call(Method::GET, "/fhir/Organization", Some(&reader), &[], Vec::new()).await.expect(200);
            assert_eq!(found.body["entry"].as_array().unwrap().len(), 1);
        }
        // What has an identifier is found by everybody's references: a stranger's number is nobody's to write.
        let directory = |kind: &str, value: &str| {
            json!({"resourceType": kind, "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": value}]})
                .to_string()
        };
        let post = async |caller: &AccountId, kind: &str, condition: Option<&str>| {
            let body = directory(kind, "9999999899");
            let mut headers = headers.to_vec();
            headers.extend(condition.map(|condition| ("If-None-Exist", condition)));
            app.fhir(caller, &format!("/fhir/{kind}"), &headers, body.as_bytes()).await
        };
        for kind in ["Practitioner", "Organization", "Location", "PractitionerRole", "HealthcareService"] {
            let refused = post(&clinic, kind, None).await.refused(422, "invalid_input");
            let place = format!("{kind}.identifier");
            assert!(refused.body["issue"].to_string().contains(&place), "{}", refused.body);
        }
        let condition = Some("identifier=http://hl7.org/fhir/sid/us-npi|9999999899");
        let before = post(&clinic, "Practitioner", condition).await.refused(422, "invalid_input");
        let operator = app.operator();
        post(&operator, "Practitioner", None).await.expect(201);
        // Whether there is one is told neither way.
        let after = post(&clinic, "Practitioner", condition).await.refused(422, "invalid_input");
        assert_eq!(before.body["issue"], after.body["issue"]);
        let plain = br#"{"resourceType":"Organization","name":"Clinic"}"#;
        let squat = [("HBC-Patient", "dir"), ("If-None-Exist", "identifier=urn:places|8")];
        app.fhir(&clinic, "/fhir/Organization", &squat, plain).await.refused(422, "invalid_input");
        let visit = br#"{"resourceType":"Encounter","status":"finished","class":{"code":"AMB"}}"#;
        app.fhir(&clinic, "/fhir/Encounter", &headers, visit).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_under_way_stops_when_consent_is_revoked() {
    each(|app| async move {
        let (patient, doctor) = (app.patient(), app.agency());
        app.world.grant(grant(&doctor, &patient, &[Category::Imaging], Action::Read));
        let body: Vec<u8> =
            (0..12_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let headers = [("content-type", "image/x-raw")];
        let path = "/v1/records?category=imaging";
        let made =
            app.call(Method::POST, path, Some(&patient), &headers, body.clone()).await.expect(201).body;
        let path = format!("/v1/records/{}/received", made["id"].as_str().unwrap());
        let whole = app.get(&doctor, &path).await.expect(200);
        assert!(whole.bytes == body);
        assert_eq!(app.world.looks(), 11, "once before each further MiB");
        let mut download = app.begin(&doctor, &path).await;
        let mut got = download.chunk().await.unwrap().unwrap().len();
        app.world.revoke_all();
        while let Ok(Some(chunk)) = download.chunk().await {
            got += chunk.len();
        }
        assert!(got < body.len(), "{got} bytes left after the revocation");
    })
    .await;
}
