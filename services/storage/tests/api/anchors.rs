//! Anchors tell nothing of what came together: a sensitive segment shares no transaction and no block with another of its
//! patient's, and other patients' go with it.

use std::collections::BTreeMap;

use hbc_chain::payload::{Anchor, Payload};
use hbc_chain::tx::Tx;
use hbc_testkit::ledger::Mood;
use hbc_types::Digest;
use hbc_types::ids::AccountId;
use hbc_types::problem::Slug;
use serde_json::{Value, json};

use crate::app::{TestApp, each, eventually, observation};

/// An observation that says what it is about.
fn sensitive() -> Value {
    let label = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
    let mut resource = observation("laboratory");
    resource["meta"] = json!({"security": [{"system": label, "code": "HIV"}]});
    resource
}

/// One request with normal and sensitive results.
async fn upload(app: &TestApp, patient: &AccountId) {
    let entry =
        |resource: Value| json!({"resource": resource, "request": {"method": "POST", "url": "Observation"}});
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        entry(observation("laboratory")), entry(sensitive()), entry(observation("laboratory")), entry(sensitive())]});
    let reply = app.fhir(patient, "/fhir", &[], bundle.to_string().as_bytes()).await.expect(200);
    assert!(!reply.header("hbc-cid").is_empty() && reply.header("hbc-txid").is_empty());
}

/// All records of a patient once they are final: transaction and height by sensitivity.
async fn settled(app: &TestApp, patient: &AccountId) -> BTreeMap<String, Vec<(String, u64)>> {
    let listed = async || {
        let listed = app.get(patient, "/v1/records").await.expect(200).body;
        listed["items"].as_array().unwrap().clone()
    };
    eventually("every anchor is final", || async {
        listed().await.iter().all(|item| item["anchor"] == "final")
    })
    .await;
    let mut found: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for item in listed().await {
        let place = (item["txid"].as_str().unwrap().to_owned(), item["height"].as_u64().unwrap());
        found.entry(item["sensitivity"].as_str().unwrap().to_owned()).or_default().push(place);
    }
    found
}

/// Everything that was ever owed to the ledger.
async fn anchors(app: &TestApp) -> Vec<(Digest, Anchor)> {
    let all: Vec<String> = sqlx::query_scalar("SELECT jws FROM ledger_outbox ORDER BY seq")
        .fetch_all(app.database.db.reads())
        .await
        .unwrap();
    let parsed = all.iter().map(|jws| Tx::parse(jws.as_bytes()).unwrap());
    let anchors = parsed.filter_map(|tx| match tx.payload() {
        Payload::Anchor(anchor) => Some((tx.txid(), anchor.clone())),
        _ => None,
    });
    anchors.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_one_request_shares_no_transaction_and_no_block() {
    each(|app| async move {
        let patient = app.patient();
        for _upload in 0..3 {
            upload(&app, &patient).await;
        }
        let settled = settled(&app, &patient).await;
        let of = |sensitivity: &str| settled[sensitivity].clone();
        assert_eq!((of("normal").len(), of("HIV").len()), (6, 6));
        for (txid, height) in of("HIV") {
            let shared = of("normal").iter().any(|(other, at)| *other == txid || *at == height);
            assert!(!shared, "{settled:?}");
        }
        // Three uploads, two segments each; no transaction has two of this one patient's.
        let anchors = anchors(&app).await;
        assert_eq!(anchors.len(), 6);
        assert!(anchors.iter().all(|(_, anchor)| anchor.segments.len() == 1), "{anchors:?}");
        // And each is proved where it stands.
        let listed = app.get(&patient, "/v1/records").await.expect(200).body;
        for item in listed["items"].as_array().unwrap() {
            let id = item["id"].as_str().unwrap();
            app.get(&patient, &format!("/v1/records/{id}/proof")).await.expect(200);
        }
        let reported = || app.world.anchored().iter().map(|report| report.items.len()).sum::<usize>();
        eventually("access-policy knows every number", || async { reported() >= 12 }).await;
    })
    .await;
}

/// Whoever sends all the time does not keep what waits from its anchor.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_gets_its_turn_among_many_uploads() {
    each(|app| async move {
        let patient = app.patient();
        upload(&app, &patient).await;
        let hidden = async || {
            let listed = app.get(&patient, "/v1/records").await.expect(200).body;
            let sensitive = |item: &&Value| item["sensitivity"] == "HIV";
            listed["items"].as_array().unwrap().iter().filter(sensitive).all(|item| item["anchor"] == "final")
        };
        for _more in 0..400 {
            app.observation(&patient, "laboratory").await;
            if hidden().await {
                return;
            }
        }
        panic!("400 uploads went past it");
    })
    .await;
}

/// Three patients' sensitive segments that wait for an hour, and that hour is over.
async fn three_that_are_due(app: &mut TestApp) -> [AccountId; 3] {
    app.config.anchors.sensitive_wait_seconds = 3_600;
    app.restart().await;
    let patients = [app.patient(), app.patient(), app.patient()];
    for patient in &patients {
        upload(app, patient).await;
    }
    for patient in &patients {
        let of = async |sensitivity: &str| {
            let listed = app.get(patient, "/v1/records").await.expect(200).body;
            let all = listed["items"].as_array().unwrap().iter();
            all.filter(|item| item["sensitivity"] == sensitivity).cloned().collect::<Vec<_>>()
        };
        let is_final = async || of("normal").await.iter().all(|item| item["anchor"] == "final");
        eventually("the normal ones are final", is_final).await;
        let (normal, waiting) = (of("normal").await, of("HIV").await);
        assert!(waiting.iter().all(|item| item["anchor"] == "pending" && item.get("txid").is_none()));
        assert_eq!((normal.len(), waiting.len()), (2, 2));
    }
    app.by_hand("UPDATE segments SET due_at_ms = 0 WHERE txid IS NULL").await;
    app.by_hand("UPDATE jobs SET due_at_ms = 0 WHERE kind = 'upload.anchor'").await;
    app.restart().await;
    patients
}

#[tokio::test(flavor = "multi_thread")]
async fn sensitive_segments_of_several_patients_go_together() {
    each(|mut app| async move {
        let patients = three_that_are_due(&mut app).await;
        for patient in &patients {
            settled(&app, patient).await;
        }
        let together = anchors(&app).await.iter().map(|(_, anchor)| anchor.segments.len()).max();
        assert_eq!(together, Some(3));
    })
    .await;
}

/// One that the ledger excludes takes no others down: each stands alone after it.
#[tokio::test(flavor = "multi_thread")]
async fn those_of_a_refused_anchor_stand_alone() {
    each(|mut app| async move {
        app.world.ledger.feel(Mood::RefuseShared(Slug::RuleViolation));
        let patients = three_that_are_due(&mut app).await;
        for patient in &patients {
            settled(&app, patient).await;
        }
        let sizes: Vec<usize> = anchors(&app).await.iter().map(|(_, anchor)| anchor.segments.len()).collect();
        assert_eq!(sizes.iter().filter(|size| **size > 1).collect::<Vec<_>>(), [&3], "{sizes:?}");
        assert_eq!(sizes.iter().filter(|size| **size == 1).count(), 6, "{sizes:?}");
    })
    .await;
}
