//! What one upload can do to other records: nothing. Oddities are refused at their place, taken as they are meant, or
//! alarmed about.

use hbc_testkit::ledger::Mood;
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::labels::Category;
use hbc_types::problem::Slug;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, each, eventually, observation};
use crate::world::Grant;

/// The places that an OperationOutcome names.
fn places(outcome: &Value) -> Vec<&str> {
    let issues = outcome["issue"].as_array().into_iter().flatten();
    issues.filter_map(|issue| issue["expression"][0].as_str()).collect()
}

async fn listed(app: &TestApp, patient: &AccountId) -> Vec<Value> {
    app.get(patient, "/v1/records").await.expect(200).body["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_refused_where_it_stands() {
    each(|app| async move {
        let patient = app.patient();
        for (name, value, place) in [
            ("meta", json!(null), "Observation.meta"),
            ("meta", json!(1), "Observation.meta"),
            ("meta", json!([]), "Observation.meta"),
            ("subject", json!(null), "Observation.subject"),
            ("identifier", json!([null]), "Observation.identifier[0]"),
            ("code", json!({"coding": [{"code": null}], "text": "x"}), "Observation.code.coding[0].code"),
        ] {
            let mut body = observation("laboratory");
            body[name] = value;
            let reply = app.fhir(&patient, "/fhir/Observation", &[], body.to_string().as_bytes()).await;
            assert_eq!(places(&reply.refused(422, "invalid_input").body), [place]);
        }
        app.observation(&patient, "laboratory").await;
        let found = app.get(&patient, &format!("/fhir/Patient/{patient}/$everything")).await.expect(200).body;
        assert_eq!(found["entry"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_is_refused_at_its_place() {
    each(|app| async move {
        let patient = app.patient();
        let entry = json!({"resource": observation("laboratory"), "request": {"method": "POST", "url": "Observation"}});
        for (wrong, place) in [
            (json!({"type": "transaction", "entry": entry}), "Bundle.entry"),
            (json!({"type": "transaction", "entry": null}), "Bundle.entry"),
            (json!({"type": "transaction", "entries": [entry]}), "Bundle.entries"),
            (json!({"type": "batch", "entry": [entry, null]}), "Bundle.entry[1]"),
        ] {
            let mut bundle = wrong;
            bundle["resourceType"] = json!("Bundle");
            let reply = app.fhir(&patient, "/fhir", &[], bundle.to_string().as_bytes()).await;
            assert_eq!(places(&reply.refused(422, "invalid_input").body), [place]);
        }
        assert!(listed(&app, &patient).await.is_empty());
    })
    .await;
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

/// What is sensitive stays so in every spelling, as a resource and as a document: who may read what is normal sees none.
#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_sensitivity_do_not_lower_it() {
    each(|app| async move {
        let (patient, agency) = (app.patient(), app.agency());
        let AccountId::Patient(account) = &patient else { unreachable!() };
        app.world.grant(Grant {
            agency: agency.clone(),
            patient: account.clone(),
            categories: vec![Category::Laboratory],
            action: Action::Read,
            purpose: Purpose::Treatment,
        });
        for (system, code) in [
            ("urn:oid:2.16.840.1.113883.6.1", "75622-1"),
            ("https://loinc.org/", "75622-1"),
            ("urn:oid:2.16.840.1.113883.6.96", "86406008"),
            ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "b20"),
        ] {
            let mut body = observation("laboratory");
            body["code"] = json!({"coding": [{"system": system, "code": code}]});
            // A label adds: it does not lower.
            body["meta"] =
                json!({"security": [{"system": "http://hl7.org/fhir/v3/Confidentiality", "code": "N"}]});
            let body = body.to_string().into_bytes();
            app.fhir(&patient, "/fhir/Observation", &[], &body).await.expect(201);
            let json = [("content-type", "application/fhir+json")];
            let path = "/v1/records?category=laboratory";
            app.call(Method::POST, path, Some(&patient), &json, body).await.expect(201);
        }
        let own = listed(&app, &patient).await;
        assert_eq!(own.len(), 8);
        assert!(own.iter().all(|record| record["sensitivity"] == "HIV"), "{own:?}");
        let seen = app.get(&agency, &format!("/v1/records?patient={account}")).await;
        assert!(seen.status == 403 || seen.body["items"] == json!([]), "{}", seen.body);
    })
    .await;
}

/// A reference to somebody else is refused over HTTP too, with its place; an own URL is understood.
#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_subjects_are_told_apart() {
    each(|app| async move {
        let patient = app.patient();
        let other = PatientId::random(&app.random);
        let send = async |reference: &str| {
            let mut body = observation("laboratory");
            body["subject"] = json!({"reference": reference});
            app.fhir(&patient, "/fhir/Observation", &[], body.to_string().as_bytes()).await
        };
        for reference in [
            format!("Patient/{other}/_history/1"),
            format!("patient/{other}"),
            format!("https://records.example/fhir/Patient/{other}/"),
            "#p".to_owned(),
        ] {
            let reply = send(&reference).await.refused(422, "invalid_input");
            assert_eq!(places(&reply.body), ["Observation.subject"], "{reference}");
        }
        for reference in [
            format!("Patient/{patient}"),
            format!("https://records.example/fhir/patient/{patient}/_history/1"),
        ] {
            send(&reference).await.expect(201);
        }
        for spelled in
            [format!("Patient/{patient}"), format!("https://records.example/fhir/Patient/{patient}/")]
        {
            let found =
                app.get(&patient, &format!("/fhir/Observation?patient={spelled}")).await.expect(200).body;
            assert_eq!(found["entry"].as_array().unwrap().len(), 2);
        }
    })
    .await;
}
