//! What one upload can do to other records: nothing. Oddities are refused at their place, taken as they are meant, or
//! alarmed about.

use hbc_testkit::ledger::Mood;
use hbc_types::ids::AccountId;
use hbc_types::problem::Slug;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, each, eventually, observation};

async fn listed(app: &TestApp, patient: &AccountId) -> Vec<Value> {
    app.get(patient, "/v1/records").await.expect(200).body["items"].as_array().unwrap().clone()
}

/// What senders write where they do not know a day is anchored like every other day, and what came with it too.
#[tokio::test(flavor = "multi_thread")]
async fn days_that_nobody_lived_are_anchored() {
    each(|app| async move {
        for day in ["0001-01-01", "1583-01-01", "1753-01-01", "9999-12-31"] {
            let patient = app.patient();
            let condition =
                json!({"resourceType": "Condition", "subject": {"display": "p"}, "onsetDateTime": day});
            let entry = |resource: Value| {
                let kind = resource["resourceType"].clone();
                json!({"resource": resource, "request": {"method": "POST", "url": kind}})
            };
            let entries = [entry(condition), entry(observation("laboratory"))];
            let bundle =
                json!({"resourceType": "Bundle", "type": "transaction", "entry": entries}).to_string();
            let reply =
                app.fhir(&patient, "/fhir", &[("Prefer", "wait=20")], bundle.as_bytes()).await.expect(200);
            assert_eq!(reply.header("hbc-anchor"), "final", "{day}");
            let records = listed(&app, &patient).await;
            assert!(records.iter().all(|record| record["anchor"] == "final"), "{day}");
            assert!(records.iter().any(|record| record["date"] == day), "the record keeps what was written");
        }
    })
    .await;
}

/// A refusal for good is a state of its own, counted and alarmed about; later uploads are not touched by it.
#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_refused_for_good_says_so() {
    each(|app| async move {
        let patient = app.patient();
        app.world.ledger.feel(Mood::Refuse(Slug::InvalidInput));
        let body = observation("laboratory").to_string();
        let wait = [("Prefer", "wait=20")];
        let reply = app.fhir(&patient, "/fhir/Observation", &wait, body.as_bytes()).await.expect(201);
        assert_eq!(reply.header("hbc-anchor"), "refused");
        let id = reply.body["id"].as_str().unwrap().to_owned();
        eventually("refused", || async { listed(&app, &patient).await[0]["anchor"] == "refused" }).await;
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        app.get(&patient, &format!("/v1/records/{id}/proof")).await.refused(409, "conflict");
        eventually("counted", || async {
            let reply = app.call(Method::GET, "/metrics", None, &[], Vec::new()).await.expect(200);
            let text = String::from_utf8(reply.bytes).unwrap();
            text.lines().any(|line| line.starts_with("hbc_segments_refused") && line.ends_with(" 1"))
        })
        .await;
        app.world.ledger.feel(Mood::Promise);
        let reply = app.fhir(&patient, "/fhir/Observation", &wait, body.as_bytes()).await.expect(201);
        assert_eq!(reply.header("hbc-anchor"), "final");
    })
    .await;
}
