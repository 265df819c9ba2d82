//! Versions: update, patch, delete, history, what others see of them, and what happens at the same time.

use hbc_types::ids::AccountId;
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, each, observation};
use crate::world::Grant;

fn grant(app: &TestApp, agency: &AccountId, patient: &AccountId, action: Action) {
    let AccountId::Patient(patient) = patient else { panic!("a patient grants") };
    app.world.grant(Grant {
        agency: agency.clone(),
        patient: patient.clone(),
        categories: vec![Category::Laboratory],
        action,
        purpose: Purpose::Treatment,
    });
}

async fn send(
    app: &TestApp,
    method: Method,
    account: &AccountId,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let json = if method == Method::PATCH { "application/json-patch+json" } else { "application/fhir+json" };
    let mut all = vec![("content-type", json)];
    if matches!(account, AccountId::Agency(_)) {
        all.push(("HBC-Purpose", "TREAT"));
    }
    all.extend_from_slice(headers);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    app.call(method, path, Some(account), &all, body).await
}

fn named(id: &str, value: f64) -> Value {
    let mut changed = observation("laboratory");
    changed["id"] = id.into();
    changed["valueQuantity"]["value"] = value.into();
    changed
}

fn entries(bundle: &Value) -> Vec<(String, String)> {
    let text =
        |entry: &Value, path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(entry, "/request/method"), text(entry, "/response/etag"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_versions_until_it_is_deleted_and_after() {
    each(|app| async move {
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        let path = format!("/fhir/Observation/{id}");
        let put = async |headers: &[(&str, &str)], value| {
            send(&app, Method::PUT, &patient, &path, headers, &named(&id, value)).await
        };
        let second = put(&[("If-Match", "W/\"1\"")], 14.0).await.expect(200);
        assert_eq!(
            (second.header("etag").as_str(), second.body["meta"]["versionId"].as_str()),
            ("W/\"2\"", Some("2"))
        );
        assert_eq!(second.body["valueQuantity"]["value"], 14.0);
        // A save of what somebody else changed meanwhile is told so, and changes nothing.
        put(&[("If-Match", "W/\"1\"")], 15.0).await.refused(412, "precondition_failed");
        put(&[("If-Match", "2")], 15.0).await.refused(400, "malformed_request");
        // The same again is the same version.
        let again = put(&[], 14.0).await.expect(200);
        assert_eq!(again.header("etag"), "W/\"2\"");
        assert_eq!(app.get(&patient, &path).await.expect(200).body["valueQuantity"]["value"], 14.0);
        let first = app.get(&patient, &format!("{path}/_history/1")).await.expect(200);
        assert_eq!(first.body["valueQuantity"]["value"], 13.5);

        let patch = json!([{"op": "test", "path": "/status", "value": "final"},
            {"op": "replace", "path": "/status", "value": "amended"}]);
        let third = send(&app, Method::PATCH, &patient, &path, &[], &patch).await.expect(200);
        assert_eq!(
            (third.header("etag").as_str(), third.body["status"].as_str()),
            ("W/\"3\"", Some("amended"))
        );
        let wrong = json!([{"op": "test", "path": "/status", "value": "final"}]);
        send(&app, Method::PATCH, &patient, &path, &[], &wrong).await.refused(422, "invalid_input");
        let invalid = json!([{"op": "remove", "path": "/code"}]);
        let refused =
            send(&app, Method::PATCH, &patient, &path, &[], &invalid).await.refused(422, "invalid_input");
        assert_eq!(refused.body["issue"][0]["expression"][0], "Observation.code");
        let stale = [("If-Match", "W/\"2\"")];
        send(&app, Method::PATCH, &patient, &path, &stale, &patch).await.refused(412, "precondition_failed");
        send(&app, Method::PATCH, &patient, &path, &[], &json!({})).await.refused(400, "malformed_request");

        let found = app.get(&patient, "/fhir/Observation").await.expect(200).body;
        assert_eq!((&found["total"], found["entry"].as_array().map(Vec::len)), (&json!(1), Some(1)));
        assert_eq!(found["entry"][0]["resource"]["meta"]["versionId"], "3");
        send(&app, Method::DELETE, &patient, &path, &stale, &Value::Null)
            .await
            .refused(412, "precondition_failed");
        let gone = send(&app, Method::DELETE, &patient, &path, &[], &Value::Null).await.expect(204);
        assert_eq!(gone.header("etag"), "W/\"4\"");
        send(&app, Method::DELETE, &patient, &path, &[], &Value::Null).await.expect(204);
        app.get(&patient, &path).await.refused(410, "deleted");
        app.get(&patient, &format!("{path}/_history/4")).await.refused(410, "deleted");
        app.get(&patient, &format!("{path}/_history/2")).await.expect(200);
        app.get(&patient, &format!("/v1/records/{id}")).await.refused(410, "deleted");
        assert_eq!(app.get(&patient, "/fhir/Observation").await.expect(200).body["total"], 0);
        let history = app.get(&patient, &format!("{path}/_history")).await.expect(200).body;
        let versions: Vec<_> = [("DELETE", 4), ("PUT", 3), ("PUT", 2), ("POST", 1)]
            .map(|(m, v)| (m.to_owned(), format!("W/\"{v}\"")))
            .into();
        assert_eq!(entries(&history), versions);
        assert!(history["entry"][0].get("resource").is_none());
        // It comes back by an update.
        let back = send(&app, Method::PUT, &patient, &path, &[], &named(&id, 16.0)).await.expect(200);
        assert_eq!(back.header("etag"), "W/\"5\"");
        app.get(&patient, &path).await.expect(200);
        // Pages of a history end, and hold every version once.
        let (mut seen, mut path) = (Vec::new(), format!("{path}/_history?_count=2"));
        loop {
            let page = app.get(&patient, &path).await.expect(200).body;
            seen.extend(entries(&page));
            let links = page["link"].as_array().unwrap();
            let Some(next) = links.iter().find(|link| link["relation"] == "next") else { break };
            let url = next["url"].as_str().unwrap();
            path = url.get(url.find("/fhir").unwrap()..).unwrap().to_owned();
        }
        assert_eq!(seen.len(), 5);
        for all in ["/fhir/_history", "/fhir/Observation/_history"] {
            assert_eq!(entries(&app.get(&patient, all).await.expect(200).body).len(), 5, "{all}");
        }
        assert!(
            entries(&app.get(&patient, "/fhir/_history?_since=2999-01-01").await.expect(200).body).is_empty()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wrote_changes_and_the_patient_deletes() {
    each(|app| async move {
        let (patient, hospital, doctor) = (app.patient(), app.agency(), app.agency());
        grant(&app, &hospital, &patient, Action::Write);
        grant(&app, &hospital, &patient, Action::Read);
        let headers = [("HBC-Patient", patient.as_str()), ("HBC-Purpose", "TREAT")];
        let body = observation("laboratory").to_string();
        let made = app.fhir(&hospital, "/fhir/Observation", &headers, body.as_bytes()).await.expect(201);
        let id = made.body["id"].as_str().unwrap().to_owned();
        let path = format!("/fhir/Observation/{id}");
        let put = async |who: &AccountId, id: &str, value| {
            let path = format!("/fhir/Observation/{id}");
            send(&app, Method::PUT, who, &path, &[], &named(id, value)).await
        };
        let delete = async |who: &AccountId, path: &str| {
            send(&app, Method::DELETE, who, path, &[], &Value::Null).await
        };
        // Whoever may not know of it is told as if there were nothing.
        let unknown = "rec-00000000000000000000000000000000";
        let hidden = put(&doctor, &id, 1.0).await.refused(405, "method_not_allowed");
        let absent = put(&doctor, unknown, 1.0).await.refused(405, "method_not_allowed");
        assert_eq!(hidden.body, absent.body);
        delete(&doctor, &path).await.refused(404, "not_found");
        delete(&doctor, &format!("/fhir/Observation/{unknown}")).await.refused(404, "not_found");
        // Who may write such records changes nothing that another wrote.
        grant(&app, &doctor, &patient, Action::Write);
        put(&doctor, &id, 1.0).await.refused(403, "denied");
        delete(&doctor, &path).await.refused(403, "denied");
        grant(&app, &doctor, &patient, Action::Read);
        put(&doctor, &id, 1.0).await.refused(403, "forbidden");
        delete(&doctor, &path).await.refused(403, "forbidden");
        put(&patient, &id, 1.0).await.refused(403, "forbidden");
        put(&hospital, &id, 14.0).await.expect(200);
        delete(&patient, &path).await.expect(204);
        app.get(&doctor, &path).await.refused(410, "deleted");
        // What the patient deleted its author does not bring back, nor does the patient write in the author's place.
        put(&hospital, &id, 14.0).await.refused(403, "forbidden");
        put(&patient, &id, 14.0).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_other_labels_is_a_deletion_for_who_may_not_read_it() {
    each(|app| async move {
        let (patient, doctor) = (app.patient(), app.agency());
        grant(&app, &doctor, &patient, Action::Read);
        let id = app.observation(&patient, "laboratory").await;
        let path = format!("/fhir/Observation/{id}");
        app.get(&doctor, &path).await.expect(200);
        let mut sensitive = named(&id, 14.0);
        sensitive["meta"] = json!({"security": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]});
        let changed = send(&app, Method::PUT, &patient, &path, &[], &sensitive).await.expect(200);
        assert_eq!(changed.header("etag"), "W/\"3\"");
        app.get(&patient, &path).await.expect(200);
        app.get(&doctor, &path).await.refused(410, "deleted");
        let history = app.get(&doctor, &format!("{path}/_history")).await.expect(200).body;
        let seen: Vec<_> =
            [("DELETE", 2), ("POST", 1)].map(|(m, v)| (m.to_owned(), format!("W/\"{v}\""))).into();
        assert_eq!(entries(&history), seen);
        // Nor is a change of it told from that of a record that was deleted.
        let gone = app.observation(&patient, "laboratory").await;
        let gone_path = format!("/fhir/Observation/{gone}");
        send(&app, Method::DELETE, &patient, &gone_path, &[], &Value::Null).await.expect(204);
        let headers = [("HBC-Patient", patient.as_str()), ("HBC-Purpose", "TREAT")];
        let mut answers = Vec::new();
        for id in [&id, &gone] {
            let delete = json!({"resourceType": "Bundle", "type": "batch", "entry": [
                {"request": {"method": "DELETE", "url": format!("Observation/{id}")}}]});
            let answer =
                app.fhir(&doctor, "/fhir", &headers, delete.to_string().as_bytes()).await.expect(200);
            answers.push(answer.body["entry"][0]["response"]["status"].clone());
        }
        assert_eq!((answers[0].as_str(), &answers[0]), (Some("403 Forbidden"), &answers[1]));
        // The way back would tell that there was one, after a deletion too.
        let lowered = named(&id, 15.0);
        send(&app, Method::PUT, &patient, &path, &[], &lowered).await.refused(422, "invalid_input");
        send(&app, Method::DELETE, &patient, &path, &[], &Value::Null).await.expect(204);
        send(&app, Method::PUT, &patient, &path, &[], &lowered).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_find_what_is_changed() {
    each(|app| async move {
        let patient = app.patient();
        let identified = |value: f64| {
            let mut made = named("x", value);
            made.as_object_mut().unwrap().remove("id");
            made["identifier"] = json!([{"system": "urn:k", "value": "9"}]);
            made
        };
        let path = "/fhir/Observation?identifier=urn:k|9";
        let put = async |value| send(&app, Method::PUT, &patient, path, &[], &identified(value)).await;
        // A format is no condition.
        let formatted = format!("{path}&_format=json");
        send(&app, Method::DELETE, &patient, &formatted, &[], &Value::Null).await.expect(204);
        let made = put(1.0).await.expect(201);
        let changed = put(2.0).await.expect(200);
        assert_eq!((changed.header("etag").as_str(), &changed.body["id"]), ("W/\"2\"", &made.body["id"]));
        let named_other = {
            let mut other = identified(3.0);
            other["id"] = "rec-00000000000000000000000000000000".into();
            other
        };
        send(&app, Method::PUT, &patient, path, &[], &named_other).await.refused(400, "malformed_request");
        // A conditional create meets what an update left there.
        let condition = [("If-None-Exist", "identifier=urn:k|9")];
        let met =
            app.fhir(&patient, "/fhir/Observation", &condition, identified(4.0).to_string().as_bytes()).await;
        assert_eq!(met.expect(200).header("etag"), "W/\"2\"");
        send(&app, Method::DELETE, &patient, path, &[], &Value::Null).await.expect(204);
        send(&app, Method::DELETE, &patient, path, &[], &Value::Null).await.expect(204);
        let anew =
            app.fhir(&patient, "/fhir/Observation", &condition, identified(4.0).to_string().as_bytes()).await;
        assert_ne!(anew.expect(201).body["id"], made.body["id"]);
        app.fhir(&patient, "/fhir/Observation", &[], identified(5.0).to_string().as_bytes())
            .await
            .expect(201);
        put(6.0).await.refused(412, "precondition_failed");
        // A condition in the URL of a create would be passed over.
        let other = "/fhir/Observation?identifier=urn:k|9";
        let body = identified(7.0).to_string();
        app.fhir(&patient, other, &[], body.as_bytes()).await.refused(400, "malformed_request");
        send(&app, Method::DELETE, &patient, path, &[], &Value::Null)
            .await
            .refused(412, "precondition_failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_not_sent_again() {
    each(|app| async move {
        let (patient, stranger) = (app.patient(), app.patient());
        let id = app.observation(&patient, "laboratory").await;
        let path = format!("/fhir/Observation/{id}");
        let get = async |who: &AccountId, header: (&str, &str)| {
            app.call(Method::GET, &path, Some(who), &[header], Vec::new()).await
        };
        let read = app.get(&patient, &path).await.expect(200);
        let since = read.header("last-modified");
        let same = get(&patient, ("If-None-Match", "W/\"1\"")).await.expect(304);
        assert!(same.bytes.is_empty() && same.header("etag") == "W/\"1\"");
        get(&patient, ("If-Modified-Since", &since)).await.expect(304);
        get(&patient, ("If-None-Match", "W/\"2\"")).await.expect(200);
        get(&stranger, ("If-None-Match", "W/\"1\"")).await.refused(404, "not_found");
        send(&app, Method::PUT, &patient, &path, &[], &named(&id, 9.0)).await.expect(200);
        get(&patient, ("If-None-Match", "W/\"1\"")).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_deletes_creates_and_updates_together_or_not_at_all() {
    each(|app| async move {
        let patient = app.patient();
        let kept = app.observation(&patient, "laboratory").await;
        let lost = app.observation(&patient, "laboratory").await;
        let bundle = |kind: &str, version: &str| {
            let report = json!({"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"},
                "result": [{"reference": "urn:uuid:kept"}]});
            json!({"resourceType": "Bundle", "type": kind, "entry": [
                {"resource": report, "request": {"method": "POST", "url": "DiagnosticReport"}},
                {"fullUrl": "urn:uuid:kept", "resource": named(&kept, 20.0),
                    "request": {"method": "PUT", "url": format!("Observation/{kept}"), "ifMatch": version}},
                {"request": {"method": "DELETE", "url": format!("Observation/{lost}")}},
            ]})
        };
        let send = async |kind: &str, version: &str| {
            app.fhir(&patient, "/fhir", &[], bundle(kind, version).to_string().as_bytes()).await
        };
        let refused = send("transaction", "W/\"7\"").await.refused(412, "precondition_failed");
        assert_eq!(refused.body["issue"][0]["expression"][0], "Bundle.entry[1]");
        app.get(&patient, &format!("/fhir/Observation/{lost}")).await.expect(200);
        assert_eq!(app.get(&patient, "/fhir/DiagnosticReport").await.expect(200).body["total"], 0);
        let done = send("transaction", "W/\"1\"").await.expect(200).body;
        let status = |index: usize| done["entry"][index]["response"]["status"].as_str().unwrap().to_owned();
        assert_eq!([status(0), status(1), status(2)], ["201 Created", "200 OK", "204 No Content"]);
        let report = app.get(&patient, "/fhir/DiagnosticReport").await.expect(200).body;
        let result = &report["entry"][0]["resource"]["result"][0]["reference"];
        assert_eq!(result, &json!(format!("Observation/{kept}")));
        app.get(&patient, &format!("/fhir/Observation/{lost}")).await.refused(410, "deleted");
        // What is deleted is not put in its own place.
        let same = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"request": {"method": "DELETE", "url": "Location?identifier=urn:l|1"}},
            {"resource": {"resourceType": "Location", "name": "b", "identifier": [{"system": "urn:l", "value": "1"}]},
                "request": {"method": "PUT", "url": "Location?identifier=urn:l|1"}}]});
        let made = json!({"resourceType": "Location", "name": "a", "identifier": [{"system": "urn:l", "value": "1"}]});
        app.fhir(&patient, "/fhir/Location", &[], made.to_string().as_bytes()).await.expect(201);
        let refused = app.fhir(&patient, "/fhir", &[], same.to_string().as_bytes()).await;
        refused.refused(422, "invalid_input");
        // In a batch each stands for itself.
        let batch = send("batch", "W/\"1\"").await.expect(200).body;
        assert!(batch["entry"][1]["response"]["status"].as_str().unwrap().starts_with("412"));
        assert_eq!(batch["entry"][2]["response"]["status"], "204 No Content");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_reads_after_it_wrote() {
    each(|app| async move {
        let (patient, doctor) = (app.patient(), app.agency());
        let id = app.observation(&patient, "laboratory").await;
        let get = |url: &str| json!({"request": {"method": "GET", "url": url}});
        let exact = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":0.10}}"#;
        let reads = [
            get(&format!("Observation/{id}")),
            get("Observation?_summary=count"),
            get(&format!("Observation/{id}/_history/1")),
            get("Observation/rec-00000000000000000000000000000000"),
            json!({"request": {"method": "HEAD", "url": format!("Observation/{id}")}}),
            get("Dog/1"),
        ];
        let reads: Vec<String> = reads.iter().map(Value::to_string).collect();
        let bundle = format!(
            "{{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":[{},\
             {{\"resource\":{exact},\"request\":{{\"method\":\"POST\",\"url\":\"Observation\"}}}}]}}",
            reads.join(",")
        );
        let key = [("Idempotency-Key", "mixed")];
        let done = app.fhir(&patient, "/fhir", &key, bundle.as_bytes()).await.expect(200).body;
        let status = |index: usize| done["entry"][index]["response"]["status"].as_str().unwrap().to_owned();
        assert_eq!([0, 1, 2].map(status), ["200 OK", "200 OK", "200 OK"]);
        assert_eq!(done["entry"][0]["resource"]["id"], id);
        assert_eq!(done["entry"][0]["response"]["etag"], "W/\"1\"");
        assert_eq!(done["entry"][1]["resource"]["total"], 2, "what the transaction wrote is there");
        assert!(status(3).starts_with("404") && status(5).starts_with("404"));
        assert!(done["entry"][4].get("resource").is_none() && status(4) == "200 OK");
        assert_eq!(status(6), "201 Created");
        // Nothing of a record is kept to be answered again.
        let again = app.fhir(&patient, "/fhir", &key, bundle.as_bytes()).await.expect(200).body;
        assert!(again["entry"][0].get("resource").is_none());
        assert_eq!(again["entry"][6]["response"], done["entry"][6]["response"]);
        // Each stands for itself, and is decided as if it were asked alone.
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [get(&format!("Observation/{id}"))]});
        let purpose = [("HBC-Purpose", "TREAT")];
        let read = async |who: &AccountId| {
            let answer = app.fhir(who, "/fhir", &purpose, batch.to_string().as_bytes()).await.expect(200).body;
            answer["entry"][0]["response"]["status"].as_str().unwrap().to_owned()
        };
        assert_eq!(read(&doctor).await, "404 Not Found");
        grant(&app, &doctor, &patient, Action::Read);
        assert_eq!(read(&doctor).await, "200 OK");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_change_at_once_each_makes_one_version() {
    each(|app| async move {
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        let path = format!("/fhir/Observation/{id}");
        let saves =
            (0..16_u32).map(|n| {
                let (app, patient, path, body) = (&app, &patient, &path, named(&id, f64::from(n) + 100.0));
                async move {
                    send(app, Method::PUT, patient, path, &[("If-Match", "W/\"1\"")], &body).await.status
                }
            });
        let answers = futures_util::future::join_all(saves).await;
        let count = |status: u16| answers.iter().filter(|answer| **answer == status).count();
        assert_eq!((count(200), count(412)), (1, 15), "{answers:?}");
        let history = app.get(&patient, &format!("{path}/_history")).await.expect(200).body;
        assert_eq!(entries(&history).len(), 2);
        // An answer that was lost is given again under its key.
        let key = [("Idempotency-Key", "save-1")];
        for _ in 0..2 {
            let saved = send(&app, Method::PUT, &patient, &path, &key, &named(&id, 7.0)).await.expect(200);
            assert_eq!(saved.header("etag"), "W/\"3\"");
        }
        let patch = json!([{"op": "test", "path": "/status", "value": "final"},
            {"op": "replace", "path": "/status", "value": "amended"}]);
        for _ in 0..2 {
            let key = [("Idempotency-Key", "patch-1")];
            let saved = send(&app, Method::PATCH, &patient, &path, &key, &patch).await.expect(200);
            assert_eq!(saved.header("etag"), "W/\"4\"");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_conditional_saves_at_once_make_one_record() {
    each(|app| async move {
        let patient = app.patient();
        let path = "/fhir/Observation?identifier=urn:k|9";
        let saves = (0..64_u32).map(|n| {
            let (app, patient) = (&app, &patient);
            let mut body = observation("laboratory");
            body["identifier"] = json!([{"system": "urn:k", "value": "9"}]);
            // Some save the same, some something of their own.
            body["valueQuantity"]["value"] = f64::from(n % 8).into();
            async move { send(app, Method::PUT, patient, path, &[], &body).await }
        });
        let answers = futures_util::future::join_all(saves).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        for answer in &answers {
            assert!(matches!(answer.status, 200 | 201 | 409), "{} {}", answer.status, answer.body);
        }
        let found = app.get(&patient, "/fhir/Observation").await.expect(200).body;
        assert_eq!(found["total"], 1);
        // Each version stands once, one after the other.
        let id = found["entry"][0]["resource"]["id"].as_str().unwrap();
        let history = app.get(&patient, &format!("/fhir/Observation/{id}/_history?_count=500")).await;
        let versions = entries(&history.expect(200).body);
        let expected: Vec<String> =
            (1..=versions.len()).rev().map(|version| format!("W/\"{version}\"")).collect();
        assert_eq!(versions.into_iter().map(|(_, etag)| etag).collect::<Vec<_>>(), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_patient_changes_and_stays() {
    each(|app| async move {
        let patient = app.patient();
        // Whether there is one is not told by what a laboratory's grant opens.
        let laboratory = app.agency();
        grant(&app, &laboratory, &patient, Action::Read);
        let person = json!({"resourceType": "Patient", "id": patient.as_str()});
        let place = format!("/fhir/Patient/{patient}");
        let told = async || {
            let history = app.get(&laboratory, &format!("{place}/_history")).await;
            let put = send(&app, Method::PUT, &laboratory, &place, &[], &person).await;
            (history.status, history.body, put.status, put.body)
        };
        let before = told().await;
        let person = |city: &str| {
            json!({"resourceType": "Patient", "id": patient.as_str(), "address": [{"city": city}],
                "identifier": [{"system": "urn:ssn", "value": "1"}]})
        };
        let path = format!("/fhir/Patient/{patient}");
        send(&app, Method::PUT, &patient, &path, &[], &person("A")).await.refused(405, "method_not_allowed");
        app.fhir(&patient, "/fhir/Patient", &[], person("A").to_string().as_bytes()).await.expect(201);
        assert_eq!(told().await, before);
        let changed = send(&app, Method::PUT, &patient, &path, &[], &person("B")).await.expect(200);
        assert_eq!(
            (changed.body["id"].as_str(), changed.header("etag").as_str()),
            (Some(patient.as_str()), "W/\"2\"")
        );
        let read = app.get(&patient, &path).await.expect(200).body;
        assert_eq!(read["address"][0]["city"], "B");
        let patch = json!([{"op": "replace", "path": "/address/0/city", "value": "C"}]);
        send(&app, Method::PATCH, &patient, &path, &[], &patch).await.expect(200);
        assert_eq!(entries(&app.get(&patient, &format!("{path}/_history")).await.expect(200).body).len(), 3);
        send(&app, Method::DELETE, &patient, &path, &[], &Value::Null).await.refused(409, "conflict");
        app.get(&patient, &path).await.expect(200);
    })
    .await;
}
