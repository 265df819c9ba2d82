//! Answers of each kind that the server gives under `/fhir`, as a patient, a doctor and nobody get them.

use anyhow::{Context as _, Result};
use hbc_tests::{Person, TestApp};
use hbc_types::labels::Category;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world;

/// A FHIR answer.
#[derive(Debug)]
pub struct Answer {
    pub name: String,
    pub body: Vec<u8>,
    /// What is wrong with its head.
    pub fault: Option<String>,
}

/// Asks and keeps what is answered.
struct Asker<'a> {
    app: &'a TestApp,
    token: Option<String>,
    answers: Vec<Answer>,
}

/// A request: method, path under `/fhir`, headers, body.
struct Request<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Option<String>,
}

impl<'a> Request<'a> {
    const fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, headers: &[], body: None }
    }

    fn send(method: Method, path: &'a str, body: impl ToString) -> Self {
        Self {
            method,
            path,
            headers: &[("content-type", "application/fhir+json")],
            body: Some(body.to_string()),
        }
    }

    const fn with(mut self, headers: &'a [(&'a str, &'a str)]) -> Self {
        self.headers = headers;
        self
    }
}

impl Asker<'_> {
    /// Asks, keeps the answer under a name, and answers it; another status than the wanted one is a fault of it.
    async fn ask(&mut self, name: &str, wanted: u16, request: Request<'_>) -> Result<Value> {
        let url = format!("{}/fhir{}", self.app.stack().storage(), request.path);
        let mut call = self.app.http.request(request.method, url);
        for (header, value) in request.headers {
            call = call.header(*header, *value);
        }
        if let Some(token) = &self.token {
            call = call.bearer_auth(token);
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        let answer = call.send().await.with_context(|| format!("no answer: {name}"))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await?.to_vec();
        let media_type =
            headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let fault = match () {
            () if status != wanted => {
                Some(format!("status {status}, wanted {wanted}: {:.300}", String::from_utf8_lossy(&body)))
            }
            () if body.is_empty() => Some("nothing is said".to_owned()),
            () if essence != "application/fhir+json" => Some(format!("content type `{media_type}`")),
            () => None,
        };
        let value = serde_json::from_slice(&body).unwrap_or_default();
        self.answers.push(Answer { name: name.to_owned(), body, fault });
        Ok(value)
    }

    /// Asks for something by its path.
    async fn get(&mut self, name: &str, wanted: u16, path: &str) -> Result<Value> {
        self.ask(name, wanted, Request::get(path)).await
    }

    async fn send(
        &mut self,
        name: &str,
        wanted: u16,
        method: Method,
        path: &str,
        body: impl ToString,
    ) -> Result<Value> {
        self.ask(name, wanted, Request::send(method, path, body)).await
    }
}

fn pulse(patient: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "effectiveDateTime": "2026-03-01T08:00:00Z",
        "valueQuantity": {"value": 72, "unit": "beats/minute", "system": "http://unitsofmeasure.org", "code": "/min"},
    })
}

/// Every kind of answer.
pub async fn collect(app: &TestApp) -> Result<Vec<Answer>> {
    let patient = world::child(app).await?;
    let mut asker = Asker { app, token: None, answers: Vec::new() };
    asker.get("capability-statement", 200, "/metadata").await?;
    asker.get("refused-without-token", 401, "/Observation").await?;
    asker.token = Some(patient.token().to_owned());
    searchsets(&mut asker, patient.patient()?.as_str()).await?;
    versions(&mut asker, patient.patient()?.as_str()).await?;
    outcomes(&mut asker, patient.patient()?.as_str()).await?;
    bundles(&mut asker, patient.patient()?.as_str()).await?;
    documents(&mut asker, patient.patient()?.as_str()).await?;
    granted(&mut asker, &patient).await?;
    Ok(asker.answers)
}

async fn searchsets(asker: &mut Asker<'_>, patient: &str) -> Result<()> {
    asker.get("patient", 200, &format!("/Patient/{patient}")).await?;
    let mut page = asker.get("page-1", 200, "/Immunization?_count=3").await?;
    for number in 2..4 {
        let links = page["link"].as_array().context("no links")?;
        let next = links.iter().find(|link| link["relation"] == "next").context("no next page")?;
        let url = next["url"].as_str().context("no address")?;
        let path = url.split_once("/fhir").context("the next page is elsewhere")?.1.to_owned();
        page = asker.get(&format!("page-{number}"), 200, &path).await?;
    }
    let everything = format!("/Patient/{patient}/$everything?_count=100");
    let compartment = format!("/Patient/{patient}/Observation");
    for (name, path) in [
        ("every-observation", "/Observation?_count=100"),
        ("empty", "/Immunization?date=lt1900"),
        ("empty-by-status", "/Immunization?status=not-done"),
        ("count-of-0", "/Immunization?_count=0"),
        ("no-total", "/Immunization?_total=none"),
        ("summary-count", "/Immunization?_summary=count"),
        ("summary-true", "/Immunization?_summary=true"),
        ("summary-text", "/Immunization?_summary=text"),
        ("summary-data", "/Immunization?_summary=data"),
        ("elements", "/Immunization?_elements=status&_count=3"),
        ("sorted", "/Immunization?_sort=-date&_count=3"),
        ("included", "/Immunization?_include=Immunization:patient&_count=3"),
        ("included-backwards", "/Encounter?_revinclude=Procedure:encounter"),
        ("unknown-parameter", "/Immunization?nonsense=1&_count=3"),
        ("directory", "/Practitioner?_count=3"),
        ("chain", "/Immunization?patient.birthdate=ge1900&_count=3"),
        ("has", "/Encounter?_has:Procedure:encounter:status=completed"),
        ("last", "/Observation/$lastn?max=1&_count=100"),
        ("compartment", &compartment),
        ("everything", &everything),
        ("pretty", "/Immunization?_format=json&_pretty=true&_count=1"),
    ] {
        asker.get(&format!("search-{name}"), 200, path).await?;
    }
    let form = Request::send(Method::POST, "/Immunization/_search", "status=completed&_count=3");
    asker
        .ask("search-posted", 200, form.with(&[("content-type", "application/x-www-form-urlencoded")]))
        .await?;
    Ok(())
}

/// What comes of one resource from its beginning to its end.
async fn versions(asker: &mut Asker<'_>, patient: &str) -> Result<()> {
    let made = asker.send("created", 201, Method::POST, "/Observation", pulse(patient)).await?;
    let id = made["id"].as_str().context("no id")?.to_owned();
    let place = format!("/Observation/{id}");
    asker.get("read", 200, &place).await?;
    asker.get("version-1", 200, &format!("{place}/_history/1")).await?;
    asker.get("version-not-there", 404, &format!("{place}/_history/7")).await?;
    let mut changed = made.clone();
    changed["status"] = json!("amended");
    asker.send("updated", 200, Method::PUT, &place, &changed).await?;
    asker.send("updated-with-the-same", 200, Method::PUT, &place, &changed).await?;
    let stale = Request::send(Method::PUT, &place, &changed);
    let headers = [("content-type", "application/fhir+json"), ("if-match", "W/\"1\"")];
    asker.ask("refused-stale", 412, stale.with(&headers)).await?;
    let patch = json!([{"op": "replace", "path": "/status", "value": "corrected"}]);
    let headers = [("content-type", "application/json-patch+json")];
    asker.ask("patched", 200, Request::send(Method::PATCH, &place, &patch).with(&headers)).await?;
    let nowhere = json!([{"op": "replace", "path": "/nowhere/at/all", "value": 1}]);
    let patch = Request::send(Method::PATCH, &place, &nowhere);
    asker.ask("refused-patch", 422, patch.with(&headers)).await?;
    changed["id"] = json!("another");
    asker.send("refused-other-id", 400, Method::PUT, &place, &changed).await?;
    let delete = || Request {
        method: Method::DELETE,
        path: &place,
        headers: &[("prefer", "return=OperationOutcome")],
        body: None,
    };
    asker.ask("deleted", 200, delete()).await?;
    asker.get("refused-gone", 410, &place).await?;
    asker.get("history-of-one", 200, &format!("{place}/_history")).await?;
    asker.get("history-of-one-page", 200, &format!("{place}/_history?_count=1")).await?;
    asker.get("history-of-a-type", 200, "/Observation/_history?_count=10").await?;
    asker.get("history-of-all", 200, "/_history?_count=10").await?;
    asker.get("history-of-the-patient", 200, &format!("/Patient/{patient}/_history")).await?;
    asker.get("history-since", 200, "/Observation/_history?_since=2026-01-01T00:00:00Z&_count=2").await?;
    asker.get("history-not-there", 404, "/Observation/nothing-of-that-name/_history").await?;
    Ok(())
}

async fn outcomes(asker: &mut Asker<'_>, patient: &str) -> Result<()> {
    for (name, wanted, path) in [
        ("not-there", 404, "/Observation/nothing-of-that-name"),
        ("no-such-type", 404, "/Nonsense"),
        ("all-types-at-once", 405, "/?_type=Immunization,Encounter"),
        ("no-such-operation", 404, "/Observation/$nonsense"),
        ("date-of-rubbish", 400, "/Immunization?date=rubbish"),
        ("count-of-rubbish", 400, "/Immunization?_count=rubbish"),
        ("foreign-patient", 404, "/Observation?patient=pat-00000000000000000000000000000000"),
    ] {
        asker.get(&format!("refused-{name}"), wanted, path).await?;
    }
    let xml = Request::get("/Immunization").with(&[("accept", "application/fhir+xml")]);
    asker.ask("refused-xml", 406, xml).await?;
    let strict = Request::get("/Immunization?nonsense=1").with(&[("prefer", "handling=strict")]);
    asker.ask("refused-unknown-parameter", 400, strict).await?;
    let typed = Request::send(Method::POST, "/Observation", "<Observation/>");
    asker.ask("refused-xml-body", 415, typed.with(&[("content-type", "application/fhir+xml")])).await?;
    let post = Method::POST;
    asker.send("refused-no-json", 400, post.clone(), "/Observation", "{\"resourceType\":").await?;
    asker
        .send("refused-another-type", 422, post.clone(), "/Observation", json!({"resourceType": "Condition"}))
        .await?;
    let wrong = json!({"resourceType": "Observation", "status": "nonsense", "code": {}, "name": [], "valueInteger": 1.5});
    asker.send("refused-several-faults", 422, post.clone(), "/Observation", wrong).await?;
    asker.send("refused-method", 405, Method::PUT, "", json!({})).await?;
    asker
        .send("refused-put-to-nothing", 405, Method::PUT, "/Observation/nothing-of-that-name", {
            let mut resource = pulse(patient);
            resource["id"] = json!("nothing-of-that-name");
            resource
        })
        .await?;
    let headers = [("content-type", "application/fhir+json"), ("if-none-exist", "nonsense")];
    let create = Request::send(post.clone(), "/Observation", pulse(patient));
    asker.ask("refused-condition", 422, create.with(&headers)).await?;
    let mut twice = pulse(patient);
    twice["identifier"] = json!([{"system": "urn:example:judge", "value": "twice"}]);
    for _ in 0..2 {
        asker.send("created-again", 201, post.clone(), "/Observation", &twice).await?;
        asker.answers.pop();
    }
    let headers =
        [("content-type", "application/fhir+json"), ("if-none-exist", "identifier=urn:example:judge|twice")];
    let create = Request::send(post.clone(), "/Observation", &twice);
    asker.ask("refused-several-match", 412, create.with(&headers)).await?;
    asker.send("validated", 200, post.clone(), "/Observation/$validate", pulse(patient)).await?;
    let invalid = json!({"resourceType": "Observation", "status": "nonsense"});
    asker.send("validated-wrong", 200, post, "/Observation/$validate", invalid).await?;
    Ok(())
}

fn entry(method: &str, url: &str, resource: Option<Value>) -> Value {
    let mut entry = json!({"request": {"method": method, "url": url}});
    if let Some(resource) = resource {
        entry["resource"] = resource;
    }
    entry
}

async fn bundles(asker: &mut Asker<'_>, patient: &str) -> Result<()> {
    let bundle = |kind: &str, entries: Vec<Value>| {
        let mut bundle = json!({"resourceType": "Bundle", "type": kind});
        if !entries.is_empty() {
            bundle["entry"] = json!(entries);
        }
        bundle
    };
    let wrong = json!({"resourceType": "Observation", "status": "nonsense"});
    let created = || entry("POST", "Observation", Some(pulse(patient)));
    let post = Method::POST;
    let transaction = bundle("transaction", vec![created(), created()]);
    asker.send("transaction", 200, post.clone(), "", transaction).await?;
    let failing = bundle("transaction", vec![created(), entry("POST", "Observation", Some(wrong.clone()))]);
    asker.send("transaction-refused", 422, post.clone(), "", failing).await?;
    asker.send("transaction-empty", 200, post.clone(), "", bundle("transaction", Vec::new())).await?;
    let partly = bundle("batch", vec![created(), entry("POST", "Observation", Some(wrong))]);
    asker.send("batch-with-a-fault", 200, post.clone(), "", partly).await?;
    let mut known = pulse(patient);
    known["identifier"] = json!([{"system": "urn:example:judge", "value": "all-methods"}]);
    let by_condition = "Observation?identifier=urn:example:judge|all-methods";
    let mut conditional = entry("POST", "Observation", Some(known.clone()));
    conditional["request"]["ifNoneExist"] = json!("identifier=urn:example:judge|all-methods");
    let once = bundle("transaction", vec![conditional.clone()]);
    asker.send("transaction-with-a-condition", 200, post.clone(), "", &once).await?;
    asker.send("transaction-that-meets-it", 200, post.clone(), "", &once).await?;
    let put = || entry("PUT", by_condition, Some(known.clone()));
    asker.send("transaction-that-updates", 200, post.clone(), "", bundle("transaction", vec![put()])).await?;
    let twice = asker.send("created-to-be-twice", 201, post.clone(), "/Observation", pulse(patient)).await?;
    let place = format!("Observation/{}", twice["id"].as_str().unwrap_or_default());
    let both = vec![entry("PUT", &place, Some(twice)), entry("DELETE", &place, None)];
    asker.send("transaction-of-one-twice", 422, post.clone(), "", bundle("transaction", both)).await?;
    let mut stale = put();
    stale["request"]["ifMatch"] = json!("W/\"9\"");
    asker
        .send("transaction-stale", 412, post.clone(), "", bundle("transaction", vec![stale.clone()]))
        .await?;
    asker.send("batch-stale", 200, post.clone(), "", bundle("batch", vec![stale])).await?;
    let delete = bundle("transaction", vec![entry("DELETE", by_condition, None)]);
    asker.send("transaction-that-deletes", 200, post.clone(), "", delete).await?;
    let reads = vec![
        entry("GET", &format!("Patient/{patient}"), None),
        entry("GET", "Immunization?_count=2", None),
        entry("GET", "Immunization?date=lt1900", None),
        entry("GET", "Observation/nothing-of-that-name", None),
    ];
    asker.send("batch-of-reads", 200, post.clone(), "", bundle("batch", reads)).await?;
    asker.send("bundle-of-another-kind", 422, post, "", bundle("searchset", Vec::new())).await?;
    Ok(())
}

/// A document as others make it, and the one that the server makes.
async fn documents(asker: &mut Asker<'_>, patient: &str) -> Result<()> {
    let (composition, subject) =
        ("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "urn:uuid:7685713c-e29e-4a75-8a90-45be7ba3be94");
    // Of whom it speaks, an identifier says.
    let own = asker.get("patient-again", 200, &format!("/Patient/{patient}")).await?;
    let document = json!({
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:28b95815-76ce-457b-b7ae-a972e527db40"},
        "timestamp": "2026-03-01T08:00:00Z",
        "entry": [
            {"fullUrl": composition, "resource": {
                "resourceType": "Composition", "status": "final", "title": "Patient Summary", "date": "2026-03-01",
                "type": {"coding": [{"system": "http://loinc.org", "code": "60591-5"}]},
                "subject": {"reference": subject}, "author": [{"reference": subject}],
                "section": [{
                    "title": "Allergies",
                    "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">None known</div>"},
                    "emptyReason": {"text": "none known"},
                }],
            }},
            {"fullUrl": subject, "resource": {"resourceType": "Patient", "identifier": own["identifier"]}},
        ],
    });
    let made = asker.send("document-stored", 201, Method::POST, "/Bundle", document).await?;
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    asker.get("document-read", 200, &format!("/Bundle/{id}")).await?;
    asker.get("document-summary", 200, &format!("/Patient/{patient}/$summary")).await?;
    Ok(())
}

/// What a doctor gets who was granted a part: what is left out is said.
async fn granted(asker: &mut Asker<'_>, patient: &Person) -> Result<()> {
    let doctor = asker.app.doctor().await?;
    asker.app.grant(patient, &doctor, asker.app.scope(&[Category::VitalSigns])).await?;
    asker.token = Some(doctor.token().to_owned());
    let id = patient.patient()?;
    asker.get("granted-search", 200, &format!("/Observation?patient={id}&_count=10")).await?;
    asker.get("granted-everything", 200, &format!("/Patient/{id}/$everything?_count=10")).await?;
    asker.get("granted-summary", 200, &format!("/Patient/{id}/$summary")).await?;
    asker.get("granted-history", 200, &format!("/Observation/_history?patient={id}&_count=10")).await?;
    asker.get("refused-category", 403, &format!("/Condition?patient={id}")).await?;
    Ok(())
}
