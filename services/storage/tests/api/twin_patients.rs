//! Two patients with the same normal records, one of them with sensitive ones beside: to a grantee without those
//! sensitivities they look alike, on every route.

use hbc_types::ids::{AccountId, PatientId};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, each, eventually, observation};
use crate::world::Grant;

struct Twin {
    account: AccountId,
    id: PatientId,
    /// A normal observation.
    normal: String,
}

impl Twin {
    async fn sign_up(app: &TestApp) -> Self {
        let account = app.patient();
        let AccountId::Patient(id) = account.clone() else { unreachable!() };
        let person = json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": "1"}]});
        app.fhir(&account, "/fhir/Patient", &[], person.to_string().as_bytes()).await.expect(201);
        app.observation(&account, "laboratory").await;
        let normal = app.observation(&account, "laboratory").await;
        Self { account, id, normal }
    }

    /// Stores a resource with a sensitivity and gives its id.
    async fn sensitive(&self, app: &TestApp, mut resource: Value) -> String {
        let label = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
        resource["meta"] = json!({"security": [{"system": label, "code": "HIV"}]});
        let path = format!("/fhir/{}", resource["resourceType"].as_str().unwrap());
        let reply = app.fhir(&self.account, &path, &[], resource.to_string().as_bytes()).await.expect(201);
        reply.body["id"].as_str().unwrap().to_owned()
    }
}

/// What stands in an answer, with everything that is anybody's own blotted out.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let own = |prefix: &str| text.contains(prefix);
            let long = text.len() > 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let time = text.len() > 18 && text.ends_with('Z');
            let uuid = text.trim_start_matches("urn:uuid:").len() == 36 && text.matches('-').count() == 4;
            Value::from(if own("rec-") || own("pat-") || long || time || uuid { "…" } else { text })
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(members) => {
            let blotted = members.iter().map(|(name, member)| match name.as_str() {
                "height" => (name.clone(), Value::Null),
                _ => (name.clone(), shape(member)),
            });
            Value::Object(blotted.collect())
        }
        other => other.clone(),
    }
}

fn seen(reply: &Reply) -> (u16, Vec<String>, Value) {
    let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    (reply.status, names, shape(&reply.body))
}

fn condition() -> Value {
    json!({"resourceType": "Condition", "code": {"text": "x"},
        "subject": {"type": "Group", "identifier": {"system": "urn:group", "value": "1"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_sensitive_records_sees_no_trace_of_them() {
    each(|app| async move {
        let (plain, sensitive) = (Twin::sign_up(&app).await, Twin::sign_up(&app).await);
        let hidden = sensitive.sensitive(&app, observation("laboratory")).await;
        // One category holds nothing but what is hidden; another, not granted, too.
        let diagnosis = sensitive.sensitive(&app, condition()).await;
        let allergy = json!({"resourceType": "AllergyIntolerance", "clinicalStatus": {"text": "active"},
            "patient": {"type": "Group", "identifier": {"system": "urn:group", "value": "1"}}});
        let allergy = sensitive.sensitive(&app, allergy).await;
        for twin in [&plain, &sensitive] {
            eventually("anchored", || async {
                let listed = app.get(&twin.account, "/v1/records").await.expect(200).body;
                listed["items"].as_array().unwrap().iter().all(|item| item["anchor"] == "final")
            })
            .await;
        }
        let doctor = app.agency();
        for twin in [&plain, &sensitive] {
            app.world.grant(Grant {
                agency: doctor.clone(),
                patient: twin.id.clone(),
                categories: vec![Category::Laboratory, Category::Condition, Category::Demographics],
                action: Action::Read,
                purpose: Purpose::Treatment,
            });
        }
        let lists = [
            "/v1/records?patient={}",
            "/v1/records?patient={}&category=laboratory",
            "/v1/records?patient={}&category=condition",
            "/v1/records?patient={}&category=allergy",
            "/v1/records?patient={}&kind=Condition",
            "/v1/records?patient={}&kind=AllergyIntolerance",
            "/v1/records?patient={}&limit=1",
            "/fhir/Observation?patient={}",
            "/fhir/Observation?patient={}&_count=2",
            "/fhir/Condition?patient={}",
            "/fhir/AllergyIntolerance?patient={}",
            "/fhir/Patient/{}",
            "/fhir/_history?patient={}",
            "/fhir/_history?patient={}&_count=2",
            "/fhir/Observation/_history?patient={}",
            "/fhir/Condition/_history?patient={}",
            "/fhir/Patient/{}/_history",
            "/fhir/Patient/{}/$summary",
            "/fhir/Patient/{}/$everything",
            "/fhir/Patient/{}/$everything?_count=3",
            "/fhir/Patient/{}/$everything?_type=Observation,Condition&start=2020",
            "/fhir/Patient/{}/Observation?status=final",
            "/fhir/Observation?patient={}&code=718-7",
            "/fhir/Observation?patient={}&code=http://loinc.org|718-7&_count=0",
            "/fhir/Observation?patient={}&_sort=-date,value-quantity",
            "/fhir/Observation?patient={}&_sort=-_lastUpdated&_count=1",
            "/fhir/Observation?patient={}&_security=HIV",
            "/fhir/Observation?patient={}&_security:missing=true&_summary=true",
            "/fhir/Observation?patient={}&value-quantity=gt1&_elements=code",
            "/fhir/Observation?patient={}&_include=*",
            "/fhir/Observation?patient={}&subject:Patient.identifier=urn:ssn|1",
            "/fhir/Patient?patient={}&_has:Observation:patient:code=718-7",
            "/fhir/Patient?patient={}&_has:Condition:subject:_lastUpdated=gt2020",
            "/fhir/Patient?patient={}&_revinclude=Observation:patient&_revinclude=Condition:subject",
            "/fhir/Condition?patient={}&_sort=code",
            "/fhir/AllergyIntolerance?patient={}&_lastUpdated=gt2020",
        ];
        for list in lists {
            let of = |twin: &Twin| {
                let path = list.replace("{}", twin.id.as_str());
                let (app, doctor) = (&app, &doctor);
                async move { app.get(doctor, &path).await }
            };
            let (one, other) = (of(&plain).await, of(&sensitive).await);
            assert_eq!(seen(&one), seen(&other), "{list}");
        }
        let unknown = format!("rec-{}", "0".repeat(hidden.len() - 4));
        for record in [&hidden, &diagnosis, &allergy] {
            for route in [
                "/v1/records/{}",
                "/v1/records/{}/received",
                "/v1/records/{}/content",
                "/v1/records/{}/proof",
                "/fhir/Observation/{}",
                "/fhir/Condition/{}",
                "/fhir/AllergyIntolerance/{}",
                "/fhir/Observation/{}/_history/1",
                "/fhir/Observation/{}/_history",
                "/fhir/Observation/_history?patient={}",
                "/fhir/_history?patient={}",
                "/fhir/Observation?patient={}",
                "/fhir/Patient/{}/$everything",
            ] {
                let there = app.get(&doctor, &route.replace("{}", record)).await;
                let absent = app.get(&doctor, &route.replace("{}", &unknown)).await;
                assert_eq!(seen(&there), seen(&absent), "{route}");
                assert_eq!(there.status, 404, "{route}");
            }
        }
        for record in [&hidden, &diagnosis, &allergy] {
            let mut named = observation("laboratory");
            let change = async |method: Method, id: &str, media: &str, body: &Value| {
                let headers = [("content-type", media), ("HBC-Purpose", "TREAT")];
                let body = if method == Method::DELETE { Vec::new() } else { body.to_string().into_bytes() };
                app.call(method, &format!("/fhir/Observation/{id}"), Some(&doctor), &headers, body).await
            };
            for method in [Method::PUT, Method::PATCH, Method::DELETE] {
                let mut answers = Vec::new();
                for id in [record, &unknown] {
                    named["id"] = id.as_str().into();
                    let answer = match method {
                        Method::PATCH => {
                            let patch = json!([{"op": "remove", "path": "/code"}]);
                            change(method.clone(), id, "application/json-patch+json", &patch).await
                        }
                        _ => change(method.clone(), id, "application/fhir+json", &named).await,
                    };
                    answers.push(seen(&answer));
                }
                assert_eq!(answers[0], answers[1], "{method}");
                assert!(matches!(answers[0].0, 404 | 405), "{method}");
            }
        }
        // What the doctor's own grants say is named: of a category that is not granted, and under every type.
        let social = app.observation(&plain.account, "social-history").await;
        for route in ["/v1/records/{}", "/fhir/Observation/{}", "/fhir/Condition/{}"] {
            app.get(&doctor, &route.replace("{}", &social)).await.refused(403, "denied");
        }
        app.get(&doctor, &format!("/fhir/Observation/{}", plain.normal)).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_does_not_look_like_none_known() {
    each(|app| async move {
        let twin = Twin::sign_up(&app).await;
        let doctor = app.agency();
        app.world.grant(Grant {
            agency: doctor.clone(),
            patient: twin.id.clone(),
            categories: vec![Category::Laboratory],
            action: Action::Read,
            purpose: Purpose::Treatment,
        });
        let everything = format!("/fhir/Patient/{}/$everything", twin.id);
        let told = app.get(&doctor, &everything).await.expect(200).body;
        let entries = told["entry"].as_array().unwrap();
        let (outcome, matches) = entries.split_last().unwrap();
        assert_eq!(matches.len(), 2);
        assert_eq!(outcome["search"]["mode"], "outcome");
        assert_eq!(outcome["resource"]["issue"][0]["code"], "suppressed");
        let text = outcome["resource"]["issue"][0]["details"]["text"].as_str().unwrap();
        assert!(text.contains("allergy") && !text.contains("laboratory"), "{text}");
        let listed = app.get(&doctor, &format!("/v1/records?patient={}", twin.id)).await.expect(200).body;
        let left_out = listed["left_out"].as_array().unwrap();
        assert_eq!(left_out.len(), Category::ALL.len() - 1);
        // Nothing is left out of what the patient asks for.
        let own = app.get(&twin.account, &everything).await.expect(200).body;
        assert!(own["entry"].as_array().unwrap().iter().all(|entry| entry["search"]["mode"] == "match"));
        assert_eq!(app.get(&twin.account, "/v1/records").await.expect(200).body["left_out"], Value::Null);
    })
    .await;
}
