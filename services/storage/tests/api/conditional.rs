//! Conditional creates and repeated requests: however many at once, one record.

use std::collections::HashSet;

use futures_util::future::join_all;
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{each, eventually, observation};
use crate::world::Grant;

fn organisation() -> String {
    json!({"resourceType": "Organization", "name": "Clinic",
        "identifier": [{"system": "urn:places", "value": "7"}]})
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_conditional_creates_make_one_record() {
    each(|app| async move {
        let operator = app.operator();
        let headers = [("HBC-Patient", "dir"), ("If-None-Exist", "identifier=urn:places|7")];
        let body = organisation();
        let calls = (0..12).map(|_| app.fhir(&operator, "/fhir/Organization", &headers, body.as_bytes()));
        let replies = join_all(calls).await;
        let ids: HashSet<String> = replies
            .iter()
            .map(|reply| {
                assert!(matches!(reply.status, 200 | 201), "{} {:?}", reply.status, reply.body);
                reply.header("location")
            })
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
        // The losers' pins are taken back and their numbers voided.
        eventually("one pin", || async { app.blobs.pins().len() == 1 }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_batches_make_every_place_once() {
    each(|app| async move {
        let operator = app.operator();
        let entries: Vec<Value> = (0..20)
            .map(|n| {
                json!({"fullUrl": format!("urn:uuid:{n}"),
                    "resource": {"resourceType": "Location", "name": format!("Room {n}"),
                        "identifier": [{"system": "urn:rooms", "value": n.to_string()}]},
                    "request": {"method": "POST", "url": "Location",
                        "ifNoneExist": format!("identifier=urn:rooms|{n}")}})
            })
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": entries}).to_string();
        let headers = [("HBC-Patient", "dir")];
        let replies =
            join_all((0..4).map(|_| app.fhir(&operator, "/fhir", &headers, bundle.as_bytes()))).await;
        let locations: HashSet<Vec<String>> = replies
            .into_iter()
            .map(|reply| {
                let body = reply.expect(200).body;
                let entries = body["entry"].as_array().unwrap().clone();
                entries
                    .iter()
                    .map(|entry| entry["response"]["location"].as_str().unwrap().to_owned())
                    .collect()
            })
            .collect();
        assert_eq!(locations.len(), 1, "every batch names the same records");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_is_done_once() {
    each(|app| async move {
        let patient = app.patient();
        let body = observation("laboratory").to_string();
        let key = [("Idempotency-Key", "k-1")];
        let first = app.fhir(&patient, "/fhir/Observation", &key, body.as_bytes()).await.expect(201);
        let again = app.fhir(&patient, "/fhir/Observation", &key, body.as_bytes()).await.expect(201);
        assert_eq!(first.header("location"), again.header("location"));
        assert_eq!(again.header("idempotent-replayed"), "true");
        let other = observation("vital-signs").to_string();
        app.fhir(&patient, "/fhir/Observation", &key, other.as_bytes()).await.expect(422);
        let listed = app.get(&patient, "/v1/records").await.expect(200).body;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        // Another caller's key of the same name is another key.
        app.fhir(&app.patient(), "/fhir/Observation", &key, body.as_bytes()).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_one_patient() {
    each(|app| async move {
        let patient = app.patient();
        let person = |value: &str| {
            json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": value}]})
                .to_string()
        };
        let calls = (0..6).map(|_| {
            let (app, patient, body) = (&app, &patient, person("1"));
            async move { app.fhir(patient, "/fhir/Patient", &[], body.as_bytes()).await }
        });
        let ids: HashSet<String> = join_all(calls)
            .await
            .into_iter()
            .map(|reply| {
                assert!(matches!(reply.status, 200 | 201), "{:?}", reply.body);
                reply.header("location")
            })
            .collect();
        assert_eq!(ids.len(), 1);
        app.fhir(&patient, "/fhir/Patient", &[], person("2").as_bytes()).await.refused(422, "invalid_input");
        let own = app.get(&patient, &format!("/fhir/Patient/{patient}")).await.expect(200).body;
        assert!(ids.iter().next().unwrap().contains(own["id"].as_str().unwrap()));
    })
    .await;
}

/// One key and one body, but for somebody else, for another reason, under another condition: never the first answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_patient_purpose_and_condition() {
    each(|app| async move {
        let agency = app.agency();
        let patients: Vec<String> = (0..2)
            .map(|_| {
                let AccountId::Patient(patient) = app.patient() else { unreachable!() };
                for purpose in [Purpose::Treatment, Purpose::Payment] {
                    app.world.grant(Grant {
                        agency: agency.clone(),
                        patient: patient.clone(),
                        categories: vec![Category::Laboratory],
                        action: Action::Write,
                        purpose,
                    });
                }
                patient.to_string()
            })
            .collect();
        let body = observation("laboratory").to_string();
        let key = ("Idempotency-Key", "k-1");
        let (one, two) = (("HBC-Patient", patients[0].as_str()), ("HBC-Patient", patients[1].as_str()));
        let why = ("HBC-Purpose", "TREAT");
        let send = async |headers: &[(&str, &str)]| {
            app.fhir(&agency, "/fhir/Observation", headers, body.as_bytes()).await
        };
        let first = send(&[key, one, why]).await.expect(201);
        send(&[key, two, why]).await.refused(422, "idempotency_mismatch");
        send(&[key, one, ("HBC-Purpose", "HPAYMT")]).await.refused(422, "idempotency_mismatch");
        let condition = ("If-None-Exist", "identifier=urn:x|1");
        send(&[key, one, why, condition]).await.refused(422, "idempotency_mismatch");
        let again = send(&[key, one, why]).await.expect(201);
        for name in ["location", "etag", "last-modified", "content-type", "hbc-cid", "cache-control"] {
            assert_eq!(first.header(name), again.header(name), "{name}");
            assert!(!first.header(name).is_empty(), "{name}");
        }
        // The second patient has nothing of the first one's.
        let own = AccountId::Patient(PatientId::parse(&patients[1]).unwrap());
        let listed = app.get(&own, "/v1/records").await.expect(200).body;
        assert_eq!(listed["items"].as_array().unwrap().len(), 0);

        let document = async |path: &str, kind: &str| {
            let headers = [key, one, why, ("content-type", kind)];
            app.call(Method::POST, path, Some(&agency), &headers, b"text".to_vec()).await
        };
        let path = "/v1/records?category=laboratory";
        let first = document(path, "text/plain").await.expect(201);
        let again = document(path, "text/plain").await.expect(201);
        assert_eq!((first.header("location"), first.body), (again.header("location"), again.body));
        document(path, "text/html").await.refused(422, "idempotency_mismatch");
        document(&format!("{path}&date=2020-01-01"), "text/plain").await.refused(422, "idempotency_mismatch");

        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": observation("laboratory"),
            "request": {"method": "POST", "url": "Observation"}}]})
        .to_string();
        let first = app.fhir(&agency, "/fhir", &[key, one, why], bundle.as_bytes()).await.expect(200);
        let again = app.fhir(&agency, "/fhir", &[key, one, why], bundle.as_bytes()).await.expect(200);
        for name in ["content-type", "hbc-cid", "hbc-anchor"] {
            assert_eq!(first.header(name), again.header(name), "{name}");
        }
        assert_eq!(first.body, again.body);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_entry_of_the_directory_does_not_spoil_the_first() {
    each(|app| async move {
        let operator = app.operator();
        let directory = [("HBC-Patient", "dir")];
        let place = organisation();
        let post = || app.fhir(&operator, "/fhir/Organization", &directory, place.as_bytes());
        let oldest = post().await.expect(201).body["id"].as_str().unwrap().to_owned();
        post().await.expect(201);
        post().await.expect(201);
        let patient = app.patient();
        let mut visit = observation("laboratory");
        visit["performer"] = json!([{"reference": "Organization?identifier=urn:places|7"}]);
        let stored =
            app.fhir(&patient, "/fhir/Observation", &[], visit.to_string().as_bytes()).await.expect(201);
        assert_eq!(stored.body["performer"][0]["reference"], format!("Organization/{oldest}"));
        // What names no one thing is met by all of them.
        for condition in ["urn:places|", "7", "urn:places|6,urn:places|7"] {
            let mut visit = visit.clone();
            visit["performer"] = json!([{"reference": format!("Organization?identifier={condition}")}]);
            let several = app.fhir(&patient, "/fhir/Observation", &[], visit.to_string().as_bytes()).await;
            several.refused(412, "precondition_failed");
        }
        // What the account has of its own comes first.
        let own = app.fhir(&patient, "/fhir/Organization", &[], organisation().as_bytes()).await.expect(201);
        let own = own.body["id"].as_str().unwrap().to_owned();
        let stored =
            app.fhir(&patient, "/fhir/Observation", &[], visit.to_string().as_bytes()).await.expect(201);
        assert_eq!(stored.body["performer"][0]["reference"], format!("Organization/{own}"));
    })
    .await;
}
