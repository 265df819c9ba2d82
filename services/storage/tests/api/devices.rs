//! Devices and gateways: they create observations for the patients who granted it, and see nothing.

use hbc_types::ids::{AccountId, DeviceId};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, each, observation};
use crate::world::Grant;

/// A device that may write vital signs of this patient.
fn paired(app: &TestApp, patient: &AccountId) -> AccountId {
    let device = AccountId::Device(DeviceId::random(&app.random));
    grant(app, &device, patient);
    device
}

fn grant(app: &TestApp, device: &AccountId, patient: &AccountId) {
    let AccountId::Patient(id) = patient else { panic!("no patient") };
    app.world.grant(Grant {
        agency: device.clone(),
        patient: id.clone(),
        categories: vec![Category::VitalSigns],
        action: Action::Write,
        purpose: Purpose::PatientRequest,
    });
}

/// A vital sign of whom `subject` names.
fn vital(subject: Option<&AccountId>, n: usize) -> Value {
    let mut made = observation("vital-signs");
    made["identifier"] = json!([{"system": "urn:readings", "value": n.to_string()}]);
    if let Some(subject) = subject {
        made["subject"] = json!({"reference": format!("Patient/{subject}")});
    }
    made
}

fn batch(resources: Vec<Value>) -> Value {
    let entry = |resource: Value| {
        let kind = resource["resourceType"].clone();
        json!({"resource": resource, "request": {"method": "POST", "url": kind}})
    };
    json!({"resourceType": "Bundle", "type": "batch", "entry": resources.into_iter().map(entry).collect::<Vec<_>>()})
}

async fn send(app: &TestApp, who: &AccountId, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    app.fhir(who, path, headers, body.to_string().as_bytes()).await
}

fn code(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.body["issue"][0]["details"]["coding"][0]["code"].as_str().unwrap_or_default())
}

const SINGLE: &str = "/fhir/Observation";

#[tokio::test(flavor = "multi_thread")]
async fn a_device_creates_for_whom_the_resource_names_and_reads_nothing() {
    each(|app| async move {
        let (patient, other) = (app.patient(), app.patient());
        let device = paired(&app, &patient);
        let made = send(&app, &device, SINGLE, &[], &vital(Some(&patient), 1)).await.expect(201);
        let id = made.body["id"].as_str().unwrap().to_owned();
        assert_eq!(app.get(&patient, &format!("{SINGLE}/{id}")).await.status, 200);
        // By the header alone, and where both say the same.
        let header = [("HBC-Patient", patient.as_str())];
        send(&app, &device, SINGLE, &header, &vital(None, 2)).await.expect(201);
        send(&app, &device, SINGLE, &header, &vital(Some(&patient), 3)).await.expect(201);
        send(&app, &device, SINGLE, &header, &vital(Some(&other), 4)).await.expect(422);
        send(&app, &device, SINGLE, &[], &vital(None, 5)).await.expect(422);
        // Admitted, looked at, and nothing written.
        assert!(app.world.receipts().iter().all(|(_, _, what)| *what == "nothing left"));
        // Whom it may not write to, and what.
        send(&app, &device, SINGLE, &[], &vital(Some(&other), 6)).await.expect(404);
        let mut laboratory = vital(Some(&patient), 7);
        laboratory["category"] = observation("laboratory")["category"].clone();
        let denied = send(&app, &device, SINGLE, &[], &laboratory).await;
        assert_eq!(code(&denied), (403, "denied"));
        assert_eq!(app.world.receipts().len(), 2, "each refusal has its receipt");
        // It sees nothing, not even its own.
        for path in [
            format!("{SINGLE}/{id}"),
            format!("{SINGLE}/{id}/_history/1"),
            format!("{SINGLE}?patient={patient}"),
            format!("/fhir/Patient/{patient}/$everything"),
        ] {
            assert_eq!(code(&app.get(&device, &path).await), (403, "insufficient_scope"), "{path}");
        }
        assert_eq!(app.get(&device, "/v1/records").await.status, 401);
        let document = app.call(Method::POST, "/v1/records", Some(&device), &header, b"%PDF".to_vec()).await;
        assert_eq!(document.status, 401);
        let condition =
            json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")}});
        let beyond = send(&app, &device, "/fhir/Condition", &[], &condition).await;
        assert_eq!(code(&beyond), (403, "insufficient_scope"));
        let why = [("HBC-Purpose", "TREAT")];
        send(&app, &device, SINGLE, &why, &vital(Some(&patient), 8)).await.expect(422);
        assert!(app.world.receipts().is_empty(), "nobody was asked");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_is_sent_twice_is_one_record_and_a_condition_meets_only_its_own() {
    each(|app| async move {
        let patient = app.patient();
        let (device, another) = (paired(&app, &patient), paired(&app, &patient));
        let once = [("If-None-Exist", "identifier=urn:readings|1")];
        let body = vital(Some(&patient), 1);
        let own = send(&app, &patient, SINGLE, &[], &vital(None, 1)).await.expect(201).header("location");
        let first = send(&app, &device, SINGLE, &once, &body).await.expect(201).header("location");
        let again = send(&app, &device, SINGLE, &once, &body).await.expect(200).header("location");
        let others = send(&app, &another, SINGLE, &once, &body).await.expect(201).header("location");
        assert_eq!(first, again);
        assert!(first != own && first != others && own != others, "it does not learn of another's record");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_sends_batches_of_observations_for_one_patient_each() {
    each(|app| async move {
        let (patient, other) = (app.patient(), app.patient());
        let gateway = paired(&app, &patient);
        grant(&app, &gateway, &other);
        for whom in [&patient, &other] {
            let bundle = batch((0..100).map(|n| vital(Some(whom), n)).collect());
            let reply = send(&app, &gateway, "/fhir", &[], &bundle).await.expect(200);
            let entries = reply.body["entry"].as_array().unwrap();
            assert!(
                entries.len() == 100
                    && entries.iter().all(|entry| entry["response"]["status"] == "201 Created")
            );
            let found = app.get(whom, &format!("{SINGLE}?patient={whom}")).await.expect(200);
            assert!(found.body["entry"].as_array().is_some_and(|entries| !entries.is_empty()));
        }
        let both = batch(vec![vital(Some(&patient), 1), vital(Some(&other), 2)]);
        send(&app, &gateway, "/fhir", &[], &both).await.expect(422);
        let reply =
            send(&app, &gateway, "/fhir", &[("HBC-Patient", patient.as_str())], &both).await.expect(200);
        let statuses: Vec<_> = reply.body["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["response"]["status"].clone())
            .collect();
        assert_eq!(statuses, ["201 Created", "422 Unprocessable Entity"], "the other's is refused alone");
        app.world.receipts();
        // One entry that is something else, and nothing of it is looked at.
        let good = vital(Some(&patient), 1);
        let condition =
            json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")}});
        let mut put = batch(vec![good.clone()]);
        put["entry"][0]["request"] = json!({"method": "PUT", "url": "Observation/1"});
        let mut read = batch(vec![good.clone()]);
        read["entry"].as_array_mut().unwrap().push(json!({"request": {"method": "GET", "url": SINGLE}}));
        let strange = batch(vec![json!({"resourceType": "Observations"})]);
        for bundle in [batch(vec![good.clone(), condition]), put, read, strange] {
            let reply = send(&app, &gateway, "/fhir", &[], &bundle).await;
            assert_eq!(code(&reply), (403, "insufficient_scope"), "{bundle}");
        }
        assert!(app.world.receipts().is_empty(), "nobody was asked");
        // Of a batch what is not valid is refused by itself.
        let mut bad = vital(Some(&patient), 2);
        bad["status"] = json!(5);
        let reply = send(&app, &gateway, "/fhir", &[], &batch(vec![good, bad])).await.expect(200);
        assert_eq!(reply.body["entry"][1]["response"]["status"], "422 Unprocessable Entity");
        app.world.revoke_all();
        let late = batch(vec![vital(Some(&patient), 9)]);
        send(&app, &gateway, "/fhir", &[], &late).await.expect(404);
    })
    .await;
}
