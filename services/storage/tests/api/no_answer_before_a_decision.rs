//! Who may not write learns nothing: whatever a condition, an identifier or a reference would meet in the account, the
//! answers are the same, byte for byte.

use hbc_types::ids::{AccountId, PatientId};
use hbc_types::labels::Category;
use hbc_types::problem::Slug;
use hbc_types::purpose::{Action, Purpose};
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, each};
use crate::world::Grant;

/// A patient with a Patient, an observation and an HIV result, each with an identifier.
struct Victim {
    account: AccountId,
    id: PatientId,
    /// The Patient's record.
    record: String,
}

impl Victim {
    async fn sign_up(app: &TestApp) -> Self {
        let account = app.patient();
        let AccountId::Patient(id) = account.clone() else { unreachable!() };
        let person = json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": "1"}]});
        let reply = app.fhir(&account, "/fhir/Patient", &[], person.to_string().as_bytes()).await.expect(201);
        assert_eq!(reply.body["id"], id.as_str());
        let listed = app.get(&account, "/v1/records?kind=Patient").await.expect(200).body;
        let record = listed["items"][0]["id"].as_str().unwrap().to_owned();
        for (value, label) in [("lab-1", json!([])), ("hiv-1", labelled("HIV"))] {
            let body = observation(value, &json!({}), &label).to_string();
            app.fhir(&account, "/fhir/Observation", &[], body.as_bytes()).await.expect(201);
        }
        Self { account, id, record }
    }
}

fn labelled(code: &str) -> Value {
    json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}])
}

fn observation(value: &str, subject: &Value, security: &Value) -> Value {
    let mut body = json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
        "code": {"text": "x"},
        "identifier": [{"system": "urn:lab", "value": value}],
    });
    if subject.as_object().is_some_and(|subject| !subject.is_empty()) {
        body["subject"] = subject.clone();
    }
    if security.as_array().is_some_and(|labels| !labels.is_empty()) {
        body["meta"] = json!({"security": security});
    }
    body
}

/// What is guessed: the same question, once so that it meets something of the victim's, once so that it does not.
struct Guess {
    name: &'static str,
    kind: &'static str,
    /// The resource and its `If-None-Exist`, by whether it meets.
    ask: fn(&Victim, bool) -> (Value, Option<String>),
}

fn new_observation(subject: &Value) -> Value {
    observation("new", subject, &json!([]))
}

const GUESSES: [Guess; 6] = [
    Guess {
        name: "condition",
        kind: "Observation",
        ask: |_, meets| {
            let value = if meets { "lab-1" } else { "lab-2" };
            (new_observation(&json!({})), Some(format!("identifier=urn:lab|{value}")))
        },
    },
    Guess {
        name: "condition that meets a sensitive record",
        kind: "Observation",
        ask: |_, meets| {
            let value = if meets { "hiv-1" } else { "hiv-2" };
            (new_observation(&json!({})), Some(format!("identifier=urn:lab|{value}")))
        },
    },
    Guess {
        name: "the Patient's identifier",
        kind: "Patient",
        ask: |_, meets| {
            let value = if meets { "1" } else { "2" };
            (json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": value}]}), None)
        },
    },
    Guess {
        name: "subject by identifier",
        kind: "Observation",
        ask: |_, meets| {
            let value = if meets { "1" } else { "2" };
            let subject = json!({"type": "Patient", "identifier": {"system": "urn:ssn", "value": value}});
            (new_observation(&subject), None)
        },
    },
    Guess {
        name: "conditional reference",
        kind: "Observation",
        ask: |_, meets| {
            let value = if meets { "1" } else { "2" };
            (new_observation(&json!({"reference": format!("Patient?identifier=urn:ssn|{value}")})), None)
        },
    },
    Guess {
        name: "reference to the Patient's record",
        kind: "Observation",
        ask: |victim, meets| {
            let other = format!("rec-{}", "0".repeat(victim.record.len() - 4));
            let id = if meets { &victim.record } else { &other };
            (new_observation(&json!({"reference": format!("Patient/{id}")})), None)
        },
    },
];

/// How a guess is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Single,
    Batch,
    Transaction,
}

const FORMS: [Form; 3] = [Form::Single, Form::Batch, Form::Transaction];

async fn send(
    app: &TestApp,
    who: &AccountId,
    victim: &Victim,
    guess: &Guess,
    form: Form,
    meets: bool,
) -> Reply {
    let (resource, condition) = (guess.ask)(victim, meets);
    let mut headers = vec![("HBC-Patient", victim.id.as_str()), ("HBC-Purpose", "TREAT")];
    if form == Form::Single {
        headers.extend(condition.as_deref().map(|condition| ("If-None-Exist", condition)));
        let path = format!("/fhir/{}", guess.kind);
        return app.fhir(who, &path, &headers, resource.to_string().as_bytes()).await;
    }
    let mut request = json!({"method": "POST", "url": guess.kind});
    if let Some(condition) = condition {
        request["ifNoneExist"] = Value::from(condition);
    }
    let kind = if form == Form::Batch { "batch" } else { "transaction" };
    let entry = json!({"resource": resource, "request": request});
    let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": [entry]});
    app.fhir(who, "/fhir", &headers, bundle.to_string().as_bytes()).await
}

/// Headers that differ between any two answers.
const OWN: [&str; 4] = ["date", "x-request-id", "hbc-request-id", "traceparent"];

fn seen(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let headers = reply.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    let mut body = reply.body.clone();
    if let Some(members) = body.as_object_mut() {
        members.remove("instance");
    }
    (reply.status, headers, body.to_string())
}

fn grant(app: &TestApp, agency: &AccountId, victim: &Victim, action: Action) {
    app.world.grant(Grant {
        agency: agency.clone(),
        patient: victim.id.clone(),
        categories: vec![Category::Laboratory, Category::Demographics],
        action,
        purpose: Purpose::Treatment,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_answered_alike_whatever_they_guess() {
    each(|app| async move {
        let victim = Victim::sign_up(&app).await;
        let (nobody, pending, suspended) = (app.agency(), app.agency(), app.agency());
        for (account, why) in [(&pending, Slug::AgencyUnverified), (&suspended, Slug::Suspended)] {
            app.world.refuse(account, why);
            grant(&app, account, &victim, Action::Write);
        }
        let reader = app.agency();
        grant(&app, &reader, &victim, Action::Read);
        let strangers = [
            ("no grant", nobody, 404),
            ("pending", pending, 403),
            ("suspended", suspended, 403),
            ("another patient", app.patient(), 404),
            ("operator", app.operator(), 404),
        ];
        for (who, account, status) in &strangers {
            for (guess, form) in GUESSES.iter().flat_map(|guess| FORMS.map(|form| (guess, form))) {
                app.world.receipts();
                let hit = send(&app, account, &victim, guess, form, true).await;
                let denied = (account.clone(), victim.id.clone(), "denied");
                assert_eq!(app.world.receipts(), [denied], "{who}, {}, {form:?}", guess.name);
                let miss = send(&app, account, &victim, guess, form, false).await;
                assert_eq!(seen(&hit), seen(&miss), "{who}, {}, {form:?}", guess.name);
                assert_eq!(hit.status, *status, "{who}, {}, {form:?}", guess.name);
            }
        }
        // Who reads and may not write is refused before a new record is thought of.
        let miss = send(&app, &reader, &victim, &GUESSES[3], Form::Single, false).await;
        miss.refused(403, "denied");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_writes_meets_only_what_they_wrote() {
    each(|app| async move {
        let victim = Victim::sign_up(&app).await;
        let gateway = app.agency();
        grant(&app, &gateway, &victim, Action::Write);
        for (guess, form) in GUESSES.iter().flat_map(|guess| FORMS.map(|form| (guess, form))) {
            let hit = send(&app, &gateway, &victim, guess, form, true).await;
            let miss = send(&app, &gateway, &victim, guess, form, false).await;
            let name = format!("{}, {form:?}", guess.name);
            assert_eq!(hit.status, miss.status, "{name}: {:?} {:?}", hit.body, miss.body);
            if guess.name.starts_with("condition") && !guess.name.ends_with("reference") {
                // Both are written: each is a new record of the gateway's.
                assert!(matches!(hit.status, 200 | 201), "{name}: {:?}", hit.body);
            } else {
                assert_eq!(seen(&hit), seen(&miss), "{name}");
            }
        }
        // What the gateway wrote under a condition it meets again: it stays idempotent.
        let (body, condition) = (new_observation(&json!({})).to_string(), "identifier=urn:lab|mine");
        let headers =
            [("HBC-Patient", victim.id.as_str()), ("HBC-Purpose", "TREAT"), ("If-None-Exist", condition)];
        let first = app.fhir(&gateway, "/fhir/Observation", &headers, body.as_bytes()).await.expect(201);
        app.world.receipts();
        let again = app.fhir(&gateway, "/fhir/Observation", &headers, body.as_bytes()).await.expect(200);
        assert_eq!(first.header("location"), again.header("location"));
        let account = (gateway.clone(), victim.id.clone(), "nothing left");
        assert_eq!(app.world.receipts(), [account], "what was looked at leaves a receipt");
        // Another gateway has a condition of its own.
        let other = app.agency();
        grant(&app, &other, &victim, Action::Write);
        let third = app.fhir(&other, "/fhir/Observation", &headers, body.as_bytes()).await.expect(201);
        assert_ne!(first.header("location"), third.header("location"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_answer_is_given_only_to_who_may_still_write() {
    each(|app| async move {
        let victim = Victim::sign_up(&app).await;
        let doctor = app.agency();
        grant(&app, &doctor, &victim, Action::Write);
        let body = new_observation(&json!({})).to_string();
        let headers =
            [("HBC-Patient", victim.id.as_str()), ("HBC-Purpose", "TREAT"), ("Idempotency-Key", "k-1")];
        let first = app.fhir(&doctor, "/fhir/Observation", &headers, body.as_bytes()).await.expect(201);
        let again = app.fhir(&doctor, "/fhir/Observation", &headers, body.as_bytes()).await.expect(201);
        assert_eq!(first.header("location"), again.header("location"));
        app.world.revoke_all();
        app.fhir(&doctor, "/fhir/Observation", &headers, body.as_bytes()).await.refused(404, "not_found");
        // A document's answer too.
        let stranger = app.agency();
        let document = [("content-type", "text/plain"), headers[0], headers[1], headers[2]];
        let post = || {
            let body = b"note".to_vec();
            app.call(reqwest::Method::POST, "/v1/records", Some(&stranger), &document, body)
        };
        app.world.grant(Grant {
            agency: stranger.clone(),
            patient: victim.id.clone(),
            categories: vec![Category::Document],
            action: Action::Write,
            purpose: Purpose::Treatment,
        });
        post().await.expect(201);
        app.world.revoke_all();
        post().await.refused(404, "not_found");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_form_is_told_before_anybody_is_asked() {
    each(|app| async move {
        let victim = Victim::sign_up(&app).await;
        let nobody = app.agency();
        let bad = json!({"resourceType": "Observation", "status": "final"});
        let good = new_observation(&json!({"reference": "Patient?identifier=urn:ssn|1"}));
        let entry = |resource: &Value| json!({"resource": resource, "request": {"method": "POST", "url": "Observation"}});
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry(&good), entry(&bad)]});
        app.world.receipts();
        let headers = [("HBC-Patient", victim.id.as_str()), ("HBC-Purpose", "TREAT")];
        let told = app.fhir(&nobody, "/fhir", &headers, bundle.to_string().as_bytes()).await;
        assert_eq!(told.status, 422, "{:?}", told.body);
        let owner = app.fhir(&victim.account, "/fhir", &[], bundle.to_string().as_bytes()).await;
        assert_eq!(seen(&told), seen(&owner), "from the body alone");
        assert_eq!(app.world.receipts(), []);
    })
    .await;
}
