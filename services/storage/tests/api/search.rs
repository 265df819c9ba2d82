//! FHIR searches over HTTP: what is found, in which order and on which page, with what is shown beside it.

use hbc_types::ids::AccountId;
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, each};
use crate::world::Grant;

const LOINC: &str = "http://loinc.org";

async fn create(app: &TestApp, account: &AccountId, resource: &Value) -> String {
    let path = format!("/fhir/{}", resource["resourceType"].as_str().unwrap());
    let made = app.fhir(account, &path, &[], resource.to_string().as_bytes()).await.expect(201);
    made.body["id"].as_str().unwrap().to_owned()
}

/// The ids of what a bundle shows, of one mode, in order.
fn shown(bundle: &Value, mode: &str) -> Vec<String> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    let of_mode = entries.filter(|entry| entry["search"]["mode"] == mode);
    of_mode.map(|entry| entry["resource"]["id"].as_str().unwrap_or_default().to_owned()).collect()
}

fn link(bundle: &Value, relation: &str) -> Option<String> {
    let links = bundle["link"].as_array().unwrap();
    let url = links.iter().find(|link| link["relation"] == relation)?["url"].as_str().unwrap();
    Some(format!("/fhir{}", url.split_once("/fhir").unwrap().1))
}

async fn found(app: &TestApp, account: &AccountId, path: &str) -> Vec<String> {
    let bundle = app.get(account, &format!("/fhir/{path}")).await.expect(200).body;
    let ids = shown(&bundle, "match");
    if bundle["link"].as_array().unwrap().len() == 1 {
        assert_eq!(bundle["total"].as_u64(), Some(ids.len() as u64), "{path}");
    }
    ids
}

/// A chart of a patient, and the ids of what is in it.
struct Chart {
    account: AccountId,
    patient: String,
    practitioner: String,
    encounter: String,
    /// Three observations: pulse 60 in May, pulse 80 in June, and a text without a date.
    observations: [String; 3],
    provenance: String,
}

impl Chart {
    async fn of(app: &TestApp) -> Self {
        let account = app.patient();
        let id = account.to_string();
        let person = json!({"resourceType": "Patient", "identifier": [{"system": "urn:ssn", "value": "1"}],
            "name": [{"family": "Öztürk", "given": ["Ada"]}], "gender": "female", "birthDate": "1980-02-03"});
        let patient = create(app, &account, &person).await;
        assert_eq!(patient, id);
        let doctor = json!({"resourceType": "Practitioner", "name": [{"family": "Weiß"}]});
        let (operator, body) = (app.operator(), doctor.to_string());
        let headers = [("HBC-Patient", "dir")];
        let made = app.fhir(&operator, "/fhir/Practitioner", &headers, body.as_bytes()).await.expect(201);
        let practitioner = made.body["id"].as_str().unwrap().to_owned();
        let subject = json!({"reference": format!("Patient/{id}")});
        let stay = json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": subject,
            "period": {"start": "2026-05-01", "end": "2026-05-02"}});
        let encounter = create(app, &account, &stay).await;
        let pulse = |value: f64, at: &str| {
            json!({"resourceType": "Observation", "status": "final", "subject": subject,
                "code": {"coding": [{"system": LOINC, "code": "8867-4"}]},
                "encounter": {"reference": format!("Encounter/{encounter}")},
                "performer": [{"reference": format!("Practitioner/{practitioner}")}],
                "effectiveDateTime": at,
                "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}})
        };
        let note = json!({"resourceType": "Observation", "status": "preliminary", "subject": subject,
            "code": {"text": "note"}, "valueString": "Über alles",
            "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">n</div>"}});
        let observations = [
            create(app, &account, &pulse(60.5, "2026-05-01T08:00:00Z")).await,
            create(app, &account, &pulse(80.0, "2026-06-01T08:00:00Z")).await,
            create(app, &account, &note).await,
        ];
        let origin = json!({"resourceType": "Provenance", "recorded": "2026-06-01T09:00:00Z",
            "target": [{"reference": format!("Observation/{}", observations[1])}],
            "agent": [{"who": {"reference": format!("Practitioner/{practitioner}")}}]});
        let provenance = create(app, &account, &origin).await;
        Self { account, patient, practitioner, encounter, observations, provenance }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_found() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let [may, june, note] = chart.observations.each_ref().map(String::as_str);
        let performer = format!("Observation?performer={}", chart.practitioner);
        let own_url =
            format!("Observation?performer=https://records.example/fhir/Practitioner/{}", chart.practitioner);
        let subject = format!("Observation?subject=Patient/{}&status=final", chart.patient);
        let by_id = format!("Observation?_id={may},{note}");
        let everything = vec![may, june, note];
        let cases: Vec<(&str, Vec<&str>)> = vec![
            ("Observation?code=8867-4", vec![may, june]),
            ("Observation?code=http://loinc.org|8867-4", vec![may, june]),
            ("Observation?code=http://snomed.info/sct|8867-4", vec![]),
            ("Observation?code:not=8867-4", vec![note]),
            ("Observation?status=final,preliminary", everything.clone()),
            ("Observation?status=final&status=preliminary", vec![]),
            ("Observation?value-quantity=gt70", vec![june]),
            ("Observation?value-quantity=60.5||/min", vec![may]),
            ("Observation?value-quantity=ap62|http://unitsofmeasure.org|/min", vec![may]),
            ("Observation?value-string=uber", vec![note]),
            ("Observation?value-string:contains=ALLES", vec![note]),
            ("Observation?value-string:exact=uber", vec![]),
            ("Observation?date=ge2026-05-15", vec![june]),
            ("Observation?date:missing=true", vec![note]),
            ("Observation?_lastUpdated=gt2020", everything.clone()),
            ("Observation?_lastUpdated=lt2020", vec![]),
            (&performer, vec![may, june]),
            (&own_url, vec![may, june]),
            (&subject, vec![may, june]),
            (&by_id, vec![may, note]),
            ("Observation?subject:Patient.name=ozt", everything.clone()),
            ("Observation?patient.identifier=urn:ssn|1", everything.clone()),
            ("Observation?patient.identifier=urn:ssn|2", vec![]),
            ("Observation?performer:Practitioner.name=wei", vec![may, june]),
            ("Observation?performer.family=nobody", vec![]),
            ("Observation?encounter.date=2026-05", vec![may, june]),
            ("Observation?_has:Provenance:target:recorded=ge2026", vec![june]),
            ("Patient?name=ada&gender=female", vec![&chart.patient]),
            ("Patient?birthdate=1980-02", vec![&chart.patient]),
            ("Patient?_has:Observation:patient:value-quantity=80", vec![&chart.patient]),
            ("Patient?_has:Observation:patient:value-quantity=81", vec![]),
            ("Patient?family:contains=türk", vec![&chart.patient]),
            ("Encounter?date=2026-05-02", vec![]),
            ("Encounter?date=ap2026-05-02", vec![&chart.encounter]),
        ];
        for (path, expected) in cases {
            assert_eq!(found(&app, &chart.account, path).await, expected, "{path}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_ordered_and_paged_both_ways() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let [may, june, note] = chart.observations.each_ref().map(String::as_str);
        for (sort, expected) in [
            ("date", [may, june, note]),
            ("-date", [june, may, note]),
            ("status,-value-quantity", [june, may, note]),
            ("-status,value-quantity", [note, may, june]),
            ("value-string,_lastUpdated", [note, may, june]),
            ("-_lastUpdated", [note, june, may]),
        ] {
            let path = format!("Observation?_sort={sort}");
            assert_eq!(found(&app, &chart.account, &path).await, expected, "{sort}");
        }
        for query in ["_sort=-date", "_sort=status", "status=final,preliminary", "_count=50"] {
            let whole = found(&app, &chart.account, &format!("Observation?{query}")).await;
            assert_eq!(whole.len(), 3, "{query}");
            let (mut path, mut seen) = (format!("/fhir/Observation?{query}&_count=1"), Vec::new());
            let mut last = loop {
                let page = app.get(&chart.account, &path).await.expect(200).body;
                assert_eq!(page["total"], 3, "{query}");
                seen.extend(shown(&page, "match"));
                match link(&page, "next") {
                    Some(next) => path = next,
                    None => break page,
                }
            };
            assert_eq!(seen, whole, "{query}");
            // Back again, while somebody writes.
            create(&app, &chart.account, &crate::app::observation("laboratory")).await;
            let mut back = shown(&last, "match");
            while let Some(previous) = link(&last, "previous") {
                last = app.get(&chart.account, &previous).await.expect(200).body;
                back.splice(0..0, shown(&last, "match"));
            }
            let old: Vec<String> = back.into_iter().filter(|id| whole.contains(id)).collect();
            assert_eq!(old, whole, "{query}");
            let newest = found(&app, &chart.account, "Observation?_sort=-_lastUpdated&_count=1").await;
            app.by_hand("DELETE FROM tokens").await;
            forget(&app, &newest[0]).await;
        }
        let clamped = app.get(&chart.account, "/fhir/Observation?_sort=date&_count=0").await.expect(200).body;
        assert_eq!((clamped["total"].as_u64(), clamped.get("entry")), (Some(3), None));
        app.get(&chart.account, "/fhir/Observation?_sort=date&_cursor=x").await.refused(422, "invalid_input");
        let other = Chart::of(&app).await;
        let page = app.get(&other.account, "/fhir/Observation?_sort=date&_count=1").await.expect(200).body;
        let foreign = link(&page, "next").unwrap();
        app.get(&chart.account, &foreign).await.refused(422, "invalid_input");
    })
    .await;
}

/// Takes a record away, as if it had never been.
async fn forget(app: &TestApp, id: &str) {
    let sql = format!("DELETE FROM records WHERE id = '{id}'");
    app.by_hand(Box::leak(sql.into_boxed_str())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_results_refer_to_is_shown_beside_them() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let beside = async |query: &str| {
            let bundle = app.get(&chart.account, &format!("/fhir/{query}")).await.expect(200).body;
            let mut ids = shown(&bundle, "include");
            ids.sort();
            let total = usize::try_from(bundle["total"].as_u64().unwrap()).unwrap();
            assert_eq!(total, shown(&bundle, "match").len(), "what is included does not count: {query}");
            ids
        };
        let sorted = |ids: &[&String]| {
            let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
            ids.sort();
            ids
        };
        let Chart { patient, practitioner, encounter, observations, provenance, .. } = &chart;
        assert_eq!(beside("Observation?_include=Observation:encounter").await, sorted(&[encounter]));
        assert_eq!(
            beside("Observation?code=8867-4&_include=Observation:performer").await,
            sorted(&[practitioner])
        );
        assert_eq!(beside("Observation?_include=Observation:subject:Patient").await, sorted(&[patient]));
        assert_eq!(beside("Observation?_include=Observation:subject:Group").await, [] as [String; 0]);
        assert_eq!(beside("Observation?_include=*").await, sorted(&[encounter, practitioner, patient]));
        let june = format!("Observation?_id={}&_revinclude=Provenance:target", observations[1]);
        assert_eq!(beside(&june).await, sorted(&[provenance]));
        let may = format!("Observation?_id={}&_revinclude=Provenance:target", observations[0]);
        assert_eq!(beside(&may).await, [] as [String; 0]);
        let all = beside("Patient?_revinclude=Observation:patient&_revinclude=Encounter:subject").await;
        assert_eq!(all, sorted(&[&observations[0], &observations[1], &observations[2], encounter]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_results_say_that_they_are_parts() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let of = async |query: &str| {
            let path = format!("/fhir/Observation?status=preliminary&{query}");
            let bundle = app.get(&chart.account, &path).await.expect(200).body;
            bundle["entry"][0]["resource"].clone()
        };
        let has = |resource: &Value, name: &str| resource.get(name).is_some();
        let summary = of("_summary=true").await;
        assert!(!has(&summary, "text") && has(&summary, "valueString") && has(&summary, "subject"));
        let text = of("_summary=text").await;
        assert!(has(&text, "text") && has(&text, "code") && !has(&text, "valueString"));
        let data = of("_summary=data").await;
        assert!(!has(&data, "text") && has(&data, "valueString"));
        let elements = of("_elements=value").await;
        assert!(
            !has(&elements, "text")
                && has(&elements, "valueString")
                && has(&elements, "status")
                && !has(&elements, "subject")
        );
        for part in [summary, text, data, elements] {
            assert_eq!(part["meta"]["tag"][0]["code"], "SUBSETTED");
        }
        assert!(has(&of("_summary=false").await, "text"));
        let counted = app.get(&chart.account, "/fhir/Observation?_summary=count").await.expect(200).body;
        assert_eq!((counted["total"].as_u64(), counted.get("entry")), (Some(3), None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_can_be_sent_and_can_be_of_a_compartment() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let post = async |path: &str, body: &str, headers: &[(&str, &str)]| {
            app.call(Method::POST, path, Some(&chart.account), headers, body.as_bytes().to_vec()).await
        };
        let both = post("/fhir/Observation/_search?status=final", "value-quantity=gt70&_count=5", &form).await.expect(200);
        assert_eq!(shown(&both.body, "match"), [chart.observations[1].clone()]);
        assert!(link(&both.body, "self").unwrap().starts_with("/fhir/Observation?status=final&value-quantity=gt70"));
        post("/fhir/Observation/_search", "{}", &[("content-type", "application/json")]).await.refused(415, "unsupported_media_type");
        post("/fhir/Nonsense/_search", "", &form).await.refused(404, "not_found");
        let path = format!("Patient/{}/Observation?status=final", chart.patient);
        assert_eq!(found(&app, &chart.account, &path).await, chart.observations[..2]);
        let own = format!("Patient/{}/Patient", chart.patient);
        assert_eq!(found(&app, &chart.account, &own).await, [chart.patient.as_str()]);
        let twice = format!("/fhir/Patient/{}/Observation?patient=x", chart.patient);
        app.get(&chart.account, &twice).await.refused(400, "malformed_request");
        let everything = format!("/fhir/Patient/{}/$everything", chart.patient);
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "_type", "valueString": "Observation,Encounter"}, {"name": "end", "valueDate": "2026-05-20"}]});
        let json = [("content-type", "application/fhir+json")];
        let some = post(&everything, &parameters.to_string(), &json).await.expect(200);
        let [may, _, note] = &chart.observations;
        assert_eq!(shown(&some.body, "match"), [&chart.encounter, may, note].map(String::clone));
        post(&everything, "[]", &json).await.refused(400, "malformed_request");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_said_or_refused() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let path = "/fhir/Observation?nonsense=1&status=final";
        let lenient = app.get(&chart.account, path).await.expect(200).body;
        assert_eq!(shown(&lenient, "match"), chart.observations[..2]);
        let outcome = lenient["entry"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(outcome["search"]["mode"], "outcome");
        assert_eq!(outcome["resource"]["issue"][0]["code"], "not-supported");
        assert!(link(&lenient, "self").unwrap().ends_with("/fhir/Observation?status=final"), "{lenient}");
        let strict = [("Prefer", "handling=strict")];
        app.call(Method::GET, path, Some(&chart.account), &strict, Vec::new())
            .await
            .refused(400, "malformed_request");
        app.get(&chart.account, "/fhir/Observation?code:in=x").await.refused(400, "malformed_request");
        // Who is no patient must name one.
        app.get(&app.agency(), "/fhir/Observation?status=final").await.refused(422, "invalid_input");
    })
    .await;
}

/// What a grant leaves out is left out of chains and includes as well.
#[tokio::test(flavor = "multi_thread")]
async fn chains_and_includes_see_what_may_be_read() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let AccountId::Patient(patient) = chart.account.clone() else { unreachable!() };
        let doctor = app.agency();
        app.world.grant(Grant {
            agency: doctor.clone(),
            patient,
            categories: vec![Category::VitalSigns, Category::Observation],
            action: Action::Read,
            purpose: Purpose::Treatment,
        });
        let of = |query: &str| format!("/fhir/Observation?patient={}&{query}", chart.account);
        let seen =
            async |query: &str, mode: &str| shown(&app.get(&doctor, &of(query)).await.expect(200).body, mode);
        assert_eq!(seen("status=final", "match").await, chart.observations[..2]);
        assert_eq!(seen("subject:Patient.name=ozt", "match").await, [] as [String; 0]);
        assert_eq!(seen("encounter.date=2026-05", "match").await, [] as [String; 0]);
        assert_eq!(seen("_has:Provenance:target:recorded=ge2026", "match").await, [] as [String; 0]);
        assert_eq!(seen("_include=*", "include").await, [chart.practitioner.as_str()]);
        assert_eq!(seen("_revinclude=Provenance:target", "include").await, [] as [String; 0]);
        assert_eq!(seen("performer:Practitioner.name=wei", "match").await, chart.observations[..2]);
    })
    .await;
}

/// Records that were indexed before there were facts are looked into, once.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_records_are_found_and_brought_up_to_date() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        app.by_hand("UPDATE records SET index_version = 1, facts = NULL").await;
        for round in 0..2 {
            let before = app.world.released();
            let path = "/fhir/Observation?value-quantity=gt70&_sort=-date";
            let bundle = app.get(&chart.account, path).await.expect(200).body;
            assert_eq!(shown(&bundle, "match"), [chart.observations[1].clone()]);
            assert_eq!(bundle["total"], 1);
            let opened = app.world.released() - before;
            assert_eq!(opened, if round == 0 { 4 } else { 1 }, "all of the type, then what is shown");
        }
        // Facts that were changed or moved by hand are not believed.
        app.by_hand(
            "UPDATE records SET facts = (SELECT facts FROM records WHERE kind = 'Observation' LIMIT 1)",
        )
        .await;
        app.get(&chart.account, "/fhir/Observation?status=final").await.refused(502, "integrity");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_code_the_latest_are_shown() {
    each(|app| async move {
        let chart = Chart::of(&app).await;
        let [may, june, note] = chart.observations.each_ref().map(String::as_str);
        let lab = create(&app, &chart.account, &crate::app::observation("laboratory")).await;
        let last = async |query: &str| {
            let path = format!("/fhir/Observation/$lastn?{query}");
            shown(&app.get(&chart.account, &path).await.expect(200).body, "match")
        };
        assert_eq!(last("").await, [june, &lab, note]);
        assert_eq!(last("max=2").await, [june, may, &lab, note]);
        assert_eq!(last("code=8867-4").await, [june]);
        assert_eq!(last("category=laboratory&max=3").await, [lab.as_str()]);
        let page = app.get(&chart.account, "/fhir/Observation/$lastn?max=2&_count=3").await.expect(200).body;
        let next = app.get(&chart.account, &link(&page, "next").unwrap()).await.expect(200).body;
        assert_eq!((shown(&next, "match"), page["total"].as_u64()), (vec![note.to_owned()], Some(4)));
        for wrong in ["max=0", "max=x", "max=101"] {
            let path = format!("/fhir/Observation/$lastn?{wrong}");
            app.get(&chart.account, &path).await.refused(400, "malformed_request");
        }
    })
    .await;
}
