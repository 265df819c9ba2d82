//! What every operation promises: its description, and problems of the one table wherever something is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use hbc_tests::ask::{Ask, Credentials};
use hbc_tests::reply::Reply;
use hbc_tests::spec::{Access, Operation, operations};
use hbc_tests::{Person, TestApp, described};
use hbc_types::problem::{Slug, TYPE_PREFIX};
use reqwest::Method;
use serde_json::Value;

/// Checks that a failed answer is a problem of the table, whole and free of internals; answers its kind.
fn problem(reply: &Reply, what: &str) -> Slug {
    let body = reply.json();
    let text = String::from_utf8_lossy(&reply.body);
    let slug = match reply.media_type() {
        "application/problem+json" => {
            let kind = body["type"].as_str().unwrap_or_default();
            assert_eq!(body["status"], reply.status, "{what}: {text}");
            assert_eq!(body["instance"], reply.header("x-request-id"), "{what}: {text}");
            let slug = kind.strip_prefix(TYPE_PREFIX).and_then(Slug::parse);
            let slug = slug.unwrap_or_else(|| unreachable!("{what}: `{kind}` is not in the table"));
            assert_eq!(body["title"], slug.title(), "{what}");
            slug
        }
        "application/fhir+json" => {
            assert_eq!(body["resourceType"], "OperationOutcome", "{what}: {text}");
            let code = &body["issue"][0]["details"]["coding"][0]["code"];
            Slug::parse(code.as_str().unwrap_or_default())
                .unwrap_or_else(|| unreachable!("{what}: {text} is not in the table"))
        }
        // OAuth's own (RFC 6749 §5.2).
        "application/json" => match (body["error"].as_str().unwrap_or_default(), reply.status) {
            ("invalid_request", 404) => Slug::NotFound,
            ("invalid_request", 405) => Slug::MethodNotAllowed,
            ("invalid_request" | "invalid_grant", _) => Slug::MalformedRequest,
            ("unsupported_grant_type", _) => Slug::UnsupportedGrantType,
            ("temporarily_unavailable", _) => Slug::Unavailable,
            ("server_error", _) => Slug::Internal,
            (other, _) => unreachable!("{what}: `{other}` is not OAuth's: {text}"),
        },
        other => unreachable!("{what}: {} as `{other}`: {text}", reply.status),
    };
    assert_eq!(slug.status(), reply.status, "{what}: {text}");
    if reply.status == 401 {
        assert!(!reply.header("www-authenticate").is_empty(), "{what} does not say how to authenticate");
    }
    if matches!(reply.status, 429 | 503) {
        assert!(!reply.header("retry-after").is_empty(), "{what} does not say when to try again");
    }
    for internal in ["SELECT ", "INSERT ", "sqlx", "panicked", ".rs:", "/data/", "stack backtrace"] {
        assert!(!text.contains(internal), "{what} tells of its insides: {text}");
    }
    slug
}

/// The template filled in, each parameter with something of the right shape, or of none.
fn filled(operation: &Operation, well_shaped: bool) -> String {
    let random = hbc_types::Random::system();
    let id = |prefix: &str| format!("{prefix}-{}", hex::encode(random.bytes::<16>()));
    let parts = operation.path.split('/').map(|part| match part {
        _ if part.starts_with('{') && !well_shaped => "no..such..thing".to_owned(),
        "{id}" if operation.path.starts_with("/v1/agencies") => id("agy"),
        "{id}" if operation.path.starts_with("/v1/grants") => id("grt"),
        "{id}" if operation.path.starts_with("/v1/access-requests") => id("req"),
        "{id}" if operation.path.starts_with("/v1/records") => id("rec"),
        "{id}" if operation.path.contains("atients") || operation.path.contains("subjects") => id("pat"),
        "{id}" if operation.path.contains("denials") => id("ses"),
        "{id}" => id("rec"),
        "{kind}" => "session".to_owned(),
        "{type}" => "Observation".to_owned(),
        "{version}" => "1".to_owned(),
        "{receipt}" => id("rcp"),
        "{grant}" => id("grt"),
        "{height}" => "999999999".to_owned(),
        "{txid}" | "{kid}" | "{key}" => hex::encode(random.bytes::<32>()),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Requests that no operation can like: bodies, paths and queries that are wrong in every general way.
fn provocations(operation: &Operation) -> Vec<(&'static str, Ask)> {
    let method = Method::from_bytes(operation.method.as_bytes()).unwrap();
    let ask =
        |well_shaped| Ask::new(operation.process.as_str(), method.clone(), filled(operation, well_shaped));
    let mut all = vec![("ids of no shape", ask(false)), ("ids of nothing", ask(true))];
    let mut query = ask(true);
    query.path.push_str("?no_such_parameter=1&limit=-3&cursor=%00%ff");
    all.push(("a query that means nothing", query));
    if operation.method != "GET" {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        for (what, media_type, body) in [
            ("no JSON", "application/json", "{\"a\":"),
            ("JSON of another shape", "application/json", "{\"no_such_field\":1}"),
            ("a name twice", "application/json", "{\"a\":1,\"a\":2}"),
            ("JSON that is deep", "application/json", deep.as_str()),
            ("a lone surrogate", "application/json", "{\"password\":\"\\ud800\"}"),
            ("no FHIR", "application/fhir+json", "{\"resourceType\":\"Nothing\"}"),
            ("broken FHIR", "application/fhir+json", "[1,2"),
            ("another media type", "text/csv", "a;b;c"),
            ("no body", "application/json", ""),
        ] {
            all.push((what, ask(true).body(media_type, body)));
        }
    }
    all
}

/// Statuses that the shared skeleton may answer whatever the operation.
const ANYWHERE: [u16; 5] = [400, 404, 413, 415, 422];

async fn provoke(app: &TestApp, people: &[Option<&Person>]) -> Result<BTreeMap<&'static str, usize>> {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for operation in operations(app).await? {
        let statuses = operation.statuses();
        for (how, ask) in provocations(&operation) {
            for person in people {
                let own = matches!(operation.path.as_str(), "/v1/sessions/current" | "/v1/me/freeze");
                if own && operation.method != "GET" && person.is_some() {
                    // They would end the session, or stop everything, as they should.
                    continue;
                }
                let services = [None, Some(hbc_types::account::ServiceRole::Storage)];
                for service in services.iter().take(if operation.access == Access::Service { 2 } else { 1 }) {
                    let who = Credentials { token: person.map(Person::token), service: *service };
                    let reply = app.send(&ask, who).await?;
                    let what = format!("{} with {how}", operation.name());
                    assert!(reply.status < 500, "{what}: {} {:?}", reply.status, reply.json());
                    if reply.status >= 400 {
                        *seen.entry(problem(&reply, &what).as_str()).or_default() += 1;
                        let known = statuses.contains(&reply.status) || ANYWHERE.contains(&reply.status);
                        assert!(known, "{what}: {} is not documented", reply.status);
                    }
                }
            }
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_refused_anywhere_is_a_problem_of_the_table() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (patient, doctor, operator) = (app.patient().await?, app.doctor().await?, app.operator().await?);
    let people = [None, Some(&patient), Some(&doctor), Some(&operator)];
    let seen = provoke(&app, &people).await?;
    for expected in [
        "malformed_request",
        "purpose_required",
        "unauthenticated",
        "forbidden",
        "not_found",
        "unsupported_media_type",
        "invalid_input",
    ] {
        assert!(seen.contains_key(expected), "`{expected}` was not provoked: {seen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_skeleton_answers_problems_where_no_operation_is() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    for process in ["auth", "access-policy", "storage", "node-2"] {
        let ask = Ask::new(process, Method::GET, "/v1/no-such-thing");
        let reply = app.send(&ask, Credentials::default()).await?;
        assert_eq!(problem(&reply, "an unknown path"), Slug::NotFound);
        let ask = Ask::new(process, Method::PATCH, if process == "node-2" { "/v1/status" } else { "/livez" });
        let reply = app.send(&ask, Credentials::default()).await?;
        assert!(matches!(problem(&reply, "PATCH"), Slug::MethodNotAllowed | Slug::NotFound), "{reply:?}");
        let ask = Ask::new(process, Method::GET, "/v1/me").header("authorization", "Basic YTpi");
        let reply = app.send(&ask, Credentials::default()).await?;
        assert!(matches!(problem(&reply, "Basic"), Slug::Unauthenticated | Slug::NotFound), "{reply:?}");
    }
    let large = vec![b' '; 2 << 20];
    let ask = Ask::new("auth", Method::POST, "/v1/sessions").body("application/json", large);
    assert_eq!(problem(&app.send(&ask, Credentials::default()).await?, "2 MiB of JSON"), Slug::TooLarge);
    let large = vec![b' '; 65 << 20];
    let patient = app.patient().await?;
    let ask = Ask::new("storage", Method::POST, "/v1/records").body("application/pdf", large);
    let who = Credentials { token: Some(patient.token()), service: None };
    assert_eq!(problem(&app.send(&ask, who).await?, "a document of 65 MiB"), Slug::TooLarge);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_again_gets_the_same_answer_and_with_another_body_a_problem() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let who = Credentials { token: Some(patient.token()), service: None };
    let key = app.key();
    let ask = |body: &str| {
        let ask = Ask::new("storage", Method::POST, "/v1/records").header("idempotency-key", &key);
        ask.body("text/plain", body)
    };
    let first = app.send(&ask("one"), who).await?;
    assert_eq!(first.status, 201, "{:?}", first.json());
    let second = app.send(&ask("one"), who).await?;
    assert_eq!((second.status, second.json()), (201, first.json()));
    assert_eq!(problem(&app.send(&ask("two"), who).await?, "another body"), Slug::IdempotencyMismatch);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_described() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let mut ids = BTreeSet::new();
    for operation in operations(&app).await? {
        let (name, document) = (operation.name(), &operation.document);
        let id = document["operationId"].as_str().with_context(|| format!("{name} has no id"))?;
        assert!(ids.insert((operation.service.clone(), id.to_owned())), "{name}: `{id}` is there twice");
        assert!(document["summary"].as_str().is_some_and(|text| text.len() >= 5), "{name} has no summary");
        assert_eq!(document["tags"].as_array().map(Vec::len), Some(1), "{name} has one tag");
        let statuses = operation.statuses();
        assert!(statuses.iter().any(|status| (200..300).contains(status)), "{name} never succeeds");
        if operation.access != Access::Public {
            assert!(statuses.contains(&401), "{name} does not say that it needs credentials");
        }
        if operation.path.contains('{') && operation.path.starts_with("/v1") {
            assert!(statuses.contains(&404), "{name} does not say what it answers about nothing");
        }
        let whole = described::document(&operation.service)?;
        for (status, answer) in document["responses"].as_object().context("no responses")? {
            let answer = described::resolved(&whole, answer);
            let failed = status.starts_with('4') || status.starts_with('5');
            if failed {
                let content =
                    answer["content"].as_object().with_context(|| format!("{name} {status}: no body"))?;
                let fhir = content.keys().any(|media_type| media_type == "application/fhir+json");
                let text = answer.to_string();
                let schema =
                    if operation.path.starts_with("/oauth/") { "OAuthError" } else { "ProblemDocument" };
                assert!(fhir || text.contains(schema), "{name} {status} is no problem");
            }
        }
        for parameter in operation.path.split('/').filter(|part| part.starts_with('{')) {
            let named = parameter.trim_matches(['{', '}']);
            let parameters = document["parameters"].as_array().into_iter().flatten();
            assert!(
                parameters.into_iter().any(|one| one["name"] == named),
                "{name}: {parameter} is not described"
            );
        }
    }
    assert!(ids.len() > 60, "only {} operations", ids.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anybody_may_call_is_on_the_committed_list() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    for (service, _) in app.stack().services() {
        let of = |one: &&Operation| one.service == service && one.access == Access::Public;
        let found: BTreeSet<String> = operations(&app)
            .await?
            .iter()
            .filter(of)
            .map(|one| format!("{} {}", one.method, one.path))
            .collect();
        let found: Vec<String> = found.into_iter().collect();
        assert_eq!(found, hbc_testkit::callers::public(service), "{service}: what reviewers agreed to");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_serves_the_committed_document() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    for (name, process) in app.stack().services() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../openapi/{name}.json"));
        let committed: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        assert!(
            hbc_tests::spec::document(&app, process).await? == committed,
            "{name} serves another document"
        );
    }
    Ok(())
}
