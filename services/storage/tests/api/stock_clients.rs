//! What FHIR libraries send and expect, as the standard has it: dates, counts, conditions, addresses, forms.

use std::time::Duration;

use hbc_types::ids::AccountId;
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, each, eventually};
use crate::world::Grant;

/// Creates a resource and answers what came of it.
async fn post(app: &TestApp, account: &AccountId, resource: &Value, headers: &[(&str, &str)]) -> Reply {
    let path = format!("/fhir/{}", resource["resourceType"].as_str().unwrap());
    app.fhir(account, &path, headers, resource.to_string().as_bytes()).await
}

fn observation(effective: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}, "effectiveDateTime": effective})
}

fn total(bundle: &Value) -> (Option<u64>, usize) {
    let entries = bundle.get("entry").map_or(0, |entries| entries.as_array().unwrap().len());
    (bundle["total"].as_u64(), entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_by_date_compare_instants() {
    each(|app| async move {
        let patient = app.patient();
        for at in ["2026-06-10T08:05:00Z", "2026-06-10T10:06:00+02:00", "2026-06-10T21:00:00Z", "2026-06-10"]
        {
            post(&app, &patient, &observation(at), &[]).await.expect(201);
        }
        let found = async |query: &str| {
            let bundle = app.get(&patient, &format!("/fhir/Observation?{query}")).await.expect(200).body;
            let (total, entries) = total(&bundle);
            assert_eq!(total, Some(entries as u64), "{query}");
            entries
        };
        assert_eq!(found("date=2026-06-10").await, 4);
        assert_eq!(found("date=ge2026-06-10T08:00:00Z&date=lt2026-06-10T08:10:00Z").await, 3);
        assert_eq!(found("date=sa2026-06-10T08:05:00Z&date=eb2026-06-10T21:00:00Z").await, 1);
        assert_eq!(found("date=2026-06-10T08:05:00Z,2026-06-10T21:00:00Z").await, 2);
        assert_eq!(found("date=gt2026-06-10T23:00:00%2B02:00&date=ne2026-06-10").await, 0);
        assert_eq!(found("date=lt2026-06-10T00:00:00Z").await, 0);
        // A day in one offset may be another one in UTC.
        post(&app, &patient, &observation("2026-06-12T00:30:00+02:00"), &[]).await.expect(201);
        assert_eq!(found("date=2026-06-11").await, 1);
        for rubbish in ["2026-06-10garbage", "xx2026", "2026-02-30", ""] {
            let path = format!("/fhir/Observation?date={rubbish}");
            app.get(&patient, &path).await.refused(400, "malformed_request");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_periods_reach_on_and_earlier_records_are_indexed_anew_when_read() {
    each(|app| async move {
        let patient = app.patient();
        let stay = json!({"resourceType": "Encounter", "status": "in-progress", "class": {"code": "IMP"},
            "identifier": [{"system": "urn:stays", "value": "7"}], "period": {"start": "2026-06-10T08:00:00Z"}});
        post(&app, &patient, &stay, &[]).await.expect(201);
        post(&app, &patient, &observation("2026-06-10"), &[]).await.expect(201);
        let found = async |date: &str| {
            total(&app.get(&patient, &format!("/fhir/Encounter?date={date}")).await.expect(200).body)
        };
        let same = json!({"resourceType": "Encounter", "status": "planned", "class": {"code": "IMP"}});
        let by_value = async || post(&app, &patient, &same, &[("If-None-Exist", "identifier=7")]).await.status;
        for round in 0..2 {
            assert_eq!(found("2026-06-12").await, (Some(1), 1), "{round}");
            assert_eq!(found("ge2026-06-12").await, (Some(1), 1));
            assert_eq!(found("2026-06-09").await, (Some(0), 0));
            assert_eq!(found("eb2026-07").await, (Some(0), 0));
            assert_eq!(by_value().await, 200);
            if round == 0 {
                // As a record that was written before: no such tokens, and nobody looked at it yet.
                app.by_hand("UPDATE records SET index_version = 0").await;
                app.by_hand("DELETE FROM tokens").await;
                assert_eq!(found("2026-06-12").await, (Some(1), 1), "it is looked into");
                assert_eq!(found("2026-06-12").await, (Some(1), 1), "it was read");
            }
        }
    })
    .await;
}

/// What may not be seen is not looked at: no page ends at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_does_not_end_at_what_is_hidden() {
    each(|app| async move {
        let (patient, agency) = (app.patient(), app.agency());
        let AccountId::Patient(account) = patient.clone() else { unreachable!() };
        app.world.grant(Grant {
            agency: agency.clone(),
            patient: account,
            categories: Category::ALL.to_vec(),
            action: Action::Read,
            purpose: Purpose::Treatment,
        });
        let mut ids = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let made = post(&app, &patient, &observation("2026-06-10"), &[]).await.expect(201);
            ids.push(made.body["id"].as_str().unwrap().to_owned());
        }
        let second = app.get(&patient, &format!("/v1/records/{}", ids[1])).await.expect(200).body;
        let at = serde_json::from_value(second["created_at"].clone()).unwrap();
        app.world.only_before(&agency, at);
        for query in ["_count=1", "_count=1&date=2026-06-10", "_count=1&date=2026-06-11"] {
            let path = format!("/fhir/Observation?patient={patient}&{query}");
            let found = app.get(&agency, &path).await.expect(200).body;
            let count = usize::from(!query.ends_with("11"));
            assert_eq!(total(&found), (Some(count as u64), count), "{query}");
            assert_eq!(found["link"].as_array().unwrap().len(), 1, "{query}");
        }
        let listed =
            app.get(&agency, &format!("/v1/records?patient={patient}&limit=1")).await.expect(200).body;
        assert_eq!((listed["items"].as_array().unwrap().len(), listed.get("next")), (1, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_of_before_spoils_only_searches_of_its_days() {
    each(|app| async move {
        let patient = app.patient();
        post(&app, &patient, &observation("2026-06-10"), &[]).await.expect(201);
        let before = app.blobs.pins();
        let lost = post(&app, &patient, &observation("2026-08-10"), &[]).await.expect(201);
        app.by_hand("UPDATE records SET index_version = 0").await;
        // As long as it is in the spool it comes back.
        eventually("unspooled", || async { std::fs::read_dir(app.spool()).unwrap().count() == 0 }).await;
        for cid in app.blobs.pins().difference(&before) {
            app.blobs.lose(cid);
        }
        let found = async |date: &str| app.get(&patient, &format!("/fhir/Observation?date={date}")).await;
        assert_eq!(total(&found("2026-06-10").await.expect(200).body).1, 1);
        // What may be missing is said, and how many there are is not.
        let without = found("2026-08-10").await.expect(200).body;
        assert_eq!(total(&without), (None, 1));
        assert_eq!(without["entry"][0]["resource"]["issue"][0]["code"], "incomplete");
        let id = lost.body["id"].as_str().unwrap();
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.refused(502, "integrity");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invariant_that_is_broken_is_named_with_its_place() {
    each(|app| async move {
        let patient = app.patient();
        let stay = json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "IMP"},
            "period": {"start": "2026-06-12", "end": "2026-06-10"}});
        let refused = post(&app, &patient, &stay, &[]).await.expect(422).body;
        let issue = &refused["issue"][0];
        assert_eq!(issue["expression"], json!(["Encounter.period"]), "{refused}");
        let told = issue["diagnostics"].as_str().unwrap();
        assert!(told.contains("per-1: If present, start SHALL have a lower value than end"), "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_clamped_and_none_counts_alone() {
    each(|app| async move {
        let patient = app.patient();
        let found = async |query: &str| {
            app.get(&patient, &format!("/fhir/Observation?{query}")).await.expect(200).body
        };
        let none = found("").await;
        assert_eq!((total(&none), none.get("entry")), ((Some(0), 0), None), "no array is empty");
        for _ in 0..3 {
            post(&app, &patient, &observation("2026-06-10"), &[]).await.expect(201);
        }
        assert_eq!(total(&found("_count=1000").await), (Some(3), 3));
        let released = app.world.released();
        let counted = found("_count=0").await;
        assert_eq!((total(&counted), counted.get("entry")), ((Some(3), 0), None));
        assert_eq!(total(&found("_count=0&date=2026-06-11").await), (Some(0), 0));
        assert_eq!(app.world.released(), released, "nothing is opened to be counted");
        let page = found("_count=2").await;
        assert_eq!(total(&page), (Some(3), 2));
        let next =
            page["link"][1]["url"].as_str().unwrap().split_once("/fhir/Observation?").unwrap().1.to_owned();
        assert_eq!(total(&found(&next).await), (Some(3), 1));
        assert_eq!(found("_total=none").await.get("total"), None);
        app.get(&patient, "/fhir/Observation?_count=-1").await.refused(400, "malformed_request");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_is_a_token_search() {
    each(|app| async move {
        let patient = app.patient();
        let place = |system: Option<&str>, value: &str| {
            let mut identifier = json!({"value": value});
            if let Some(system) = system {
                identifier["system"] = system.into();
            }
            json!({"resourceType": "Location", "name": value, "identifier": [identifier]})
        };
        let plain = json!({"resourceType": "Location", "name": "x"});
        let first =
            post(&app, &patient, &place(Some("urn:s"), "K-9"), &[]).await.expect(201).header("location");
        post(&app, &patient, &place(None, "bare"), &[]).await.expect(201);
        let under =
            async |condition: &str| post(&app, &patient, &plain, &[("If-None-Exist", condition)]).await;
        for condition in
            ["identifier=K-9", "identifier=urn:s|K-9", "identifier=urn:s|", "identifier=urn:t|1,urn:s|K-9"]
        {
            let met = under(condition).await.expect(200);
            assert_eq!(met.header("location"), first, "{condition}");
        }
        under("identifier=|bare").await.expect(200);
        under("identifier=bare").await.expect(200);
        under("identifier=|K-9").await.expect(201);
        // What was created under a condition meets it.
        for condition in ["identifier=none", "identifier=urn:u|", "identifier=urn:v|1,urn:v|2"] {
            let made = under(condition).await.expect(201).header("location");
            assert_eq!(under(condition).await.expect(200).header("location"), made, "{condition}");
        }
        post(&app, &patient, &place(Some("urn:s"), "K-10"), &[]).await.expect(201);
        under("identifier=urn:s|").await.refused(412, "precondition_failed");
        under("identifier=K-9,K-10").await.refused(412, "precondition_failed");
        let mut visit = observation("2026-06-10");
        visit["performer"] = json!([{"reference": "Location?identifier=urn:s|"}]);
        let several = post(&app, &patient, &visit, &[]).await.refused(412, "precondition_failed");
        assert_eq!(several.body["issue"][0]["expression"], json!(["Observation.performer[0]"]));
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": plain,
            "request": {"method": "POST", "url": "Location", "ifNoneExist": "identifier=urn:s|"}}]});
        let answers = app.fhir(&patient, "/fhir/", &[], batch.to_string().as_bytes()).await.expect(200).body;
        assert_eq!(answers["entry"][0]["response"]["status"], "412 Precondition Failed");
        under("identifier=").await.refused(422, "invalid_input");
        // A stranger's condition meets nothing of it.
        post(&app, &app.patient(), &plain, &[("If-None-Exist", "identifier=K-9")]).await.expect(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_patient_is_refused_and_not_forgotten() {
    each(|app| async move {
        let patient = app.patient();
        let mut person =
            json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": "1"}]});
        let made = post(&app, &patient, &person, &[]).await.expect(201);
        let again = post(&app, &patient, &person, &[]).await.expect(200);
        assert_eq!(made.header("last-modified"), again.header("last-modified"));
        person["address"] = json!([{"city": "Galle"}]);
        let refused = post(&app, &patient, &person, &[]).await.refused(409, "conflict");
        assert!(refused.body["issue"][0]["diagnostics"].as_str().unwrap().contains("nothing was changed"));
        // Who says that an existing one is as good gets it.
        post(&app, &patient, &person, &[("If-None-Exist", "identifier=urn:ssn|1")]).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_has_one_id() {
    each(|app| async move {
        let patient = app.patient();
        let own = format!("Patient/{patient}");
        let person = json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": "1"}]});
        let made = post(&app, &patient, &person, &[]).await.expect(201);
        assert_eq!(
            (&made.body["id"], made.header("location")),
            (&patient.as_str().into(), format!("/fhir/{own}/_history/1"))
        );
        for subject in [own.as_str(), "Patient?identifier=urn:ssn|1"] {
            let mut seen = observation("2026-06-10");
            seen["subject"] = json!({"reference": subject});
            assert_eq!(post(&app, &patient, &seen, &[]).await.expect(201).body["subject"]["reference"], own);
        }
        for path in [format!("/fhir/{own}"), format!("/fhir/{own}/_history/1")] {
            assert_eq!(app.get(&patient, &path).await.expect(200).bytes, made.bytes, "{path}");
        }
        app.get(&patient, &format!("/fhir/{own}/_history/2")).await.refused(404, "not_found");
        let found = app.get(&patient, "/fhir/Patient").await.expect(200).body;
        assert!(found["entry"][0]["fullUrl"].as_str().unwrap().ends_with(&own));
        assert_eq!(found["entry"][0]["resource"]["id"], patient.as_str());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_addresses_are_understood_and_foreign_ones_are_data() {
    each(|app| async move {
        let patient = app.patient();
        let metadata = app.get(&patient, "/fhir/Observation").await.expect(200).body;
        let own =
            metadata["link"][0]["url"].as_str().unwrap().strip_suffix("/Observation").unwrap().to_owned();
        for base in [own.as_str(), "https://records.example/fhir"] {
            let mut seen = observation("2026-06-10");
            seen["subject"] = json!({"reference": format!("{base}/Patient/{patient}")});
            seen["performer"] = json!([{"reference": "http://example.org/lookup?id=5"}]);
            let made = post(&app, &patient, &seen, &[]).await.expect(201).body;
            assert_eq!(made["performer"], seen["performer"]);
        }
        let path = format!("/fhir/Observation?patient={own}/Patient/{patient}");
        assert_eq!(total(&app.get(&patient, &path).await.expect(200).body), (Some(2), 2));
        let mut other = observation("2026-06-10");
        other["subject"] = json!({"reference": "http://example.org/lookup?id=5"});
        post(&app, &patient, &other, &[]).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_given_or_nothing_and_a_head_has_no_body() {
    each(|app| async move {
        let patient = app.patient();
        let made = post(&app, &patient, &observation("2026-06-10"), &[]).await.expect(201);
        let path = format!("/fhir/Observation/{}", made.body["id"].as_str().unwrap());
        let call = async |method: Method, path: &str, headers: &[(&str, &str)]| {
            app.call(method, path, Some(&patient), headers, Vec::new()).await
        };
        let xml = [("accept", "application/fhir+xml")];
        for path in [path.as_str(), "/fhir/metadata", "/fhir/Observation"] {
            call(Method::GET, path, &xml).await.refused(406, "not_acceptable");
            call(Method::GET, &format!("{path}?_format=xml"), &[]).await.refused(406, "not_acceptable");
            let head = call(Method::HEAD, path, &[]).await;
            let get = call(Method::GET, path, &[]).await.expect(200);
            assert_eq!((head.status, head.bytes.len()), (200, 0), "{path}");
            for name in ["etag", "last-modified", "content-type"] {
                assert_eq!(head.header(name), get.header(name), "{path}: {name}");
            }
        }
        post(&app, &patient, &observation("2026-06-10"), &xml).await.refused(406, "not_acceptable");
        assert_eq!(call(Method::HEAD, "/fhir/Observation/rec-x", &[]).await.status, 404);
        assert_eq!(app.call(Method::HEAD, &path, None, &[], Vec::new()).await.status, 401);
        assert_eq!(
            total(&call(Method::GET, "/fhir/Observation/?_count=0", &[]).await.expect(200).body),
            (Some(1), 0)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_where_they_are() {
    each(|app| async move {
        let patient = app.patient();
        let place = async |path: &str, text: &str| {
            let refused = app.fhir(&patient, path, &[], text.as_bytes()).await.refused(422, "invalid_input");
            refused.body["issue"][0]["expression"][0].as_str().unwrap().to_owned()
        };
        let with = |rest: &str| {
            format!(r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},{rest}}}"#)
        };
        let number = with(r#""valueQuantity":{"value":1e400}"#);
        assert_eq!(place("/fhir/Observation", &number).await, "Observation.value.value");
        let entry = |method: &str, resource: &str| {
            format!(r#"{{"resource":{resource},"request":{{"method":"{method}","url":"Observation"}}}}"#)
        };
        let bundle = |entry: &str| {
            let good = with(r#""valueInteger":1"#);
            let good = format!(r#"{{"resource":{good},"request":{{"method":"POST","url":"Observation"}}}}"#);
            format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{good},{entry}]}}"#)
        };
        assert_eq!(
            place("/fhir", &bundle(&entry("POST", &number))).await,
            "Bundle.entry[1].resource.value.value"
        );
        assert_eq!(place("/fhir", &bundle(&entry("PATCH", "{}"))).await, "Bundle.entry[1].request.method");
        let dotted = with(r#""":1"#);
        assert_eq!(place("/fhir", &bundle(&entry("POST", &dotted))).await, "Bundle.entry[1].resource");
        let marked = format!("\u{feff}{}", with(r#""valueInteger":1"#));
        let refused = app.fhir(&patient, "/fhir/Observation", &[], marked.as_bytes()).await;
        let refused = refused.refused(400, "malformed_request");
        assert!(refused.body["issue"][0]["diagnostics"].as_str().unwrap().contains("byte order mark"));
    })
    .await;
}
