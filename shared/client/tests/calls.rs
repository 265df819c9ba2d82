//! One call: what is retried, what crosses unchanged, what is never taken for a success.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::time::Duration;

use hbc_client::context::RequestContext;
use hbc_client::operations::storage;
use hbc_client::{ClientError, Endpoint};
use hbc_types::problem::{FieldError, ProblemDocument, Slug};
use hbc_types::wire::storage::RecordQuery;
use wiremock::matchers::{any, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

async fn serve(answers: Vec<ResponseTemplate>) -> (MockServer, Endpoint) {
    let server = MockServer::start().await;
    for answer in answers {
        Mock::given(any()).respond_with(answer).up_to_n_times(1).mount(&server).await;
    }
    let endpoint = Endpoint::new(&server.uri()).unwrap();
    (server, endpoint)
}

fn unavailable() -> ResponseTemplate {
    ResponseTemplate::new(503).insert_header("retry-after", "7").set_body_json(problem(Slug::Unavailable))
}

fn problem(slug: Slug) -> ProblemDocument {
    ProblemDocument {
        kind: format!("urn:hbc:problem:{}", slug.as_str()),
        title: slug.title().to_owned(),
        status: slug.status(),
        detail: Some("detail".to_owned()),
        instance: Some("r-1".to_owned()),
        errors: vec![FieldError { field: "scope.until".to_owned(), message: "is in the past".to_owned() }],
        references: vec!["ref".to_owned()],
    }
}

#[tokio::test]
async fn reads_are_tried_again_and_creations_are_not() {
    let (server, endpoint) = serve(vec![unavailable(), ResponseTemplate::new(200)]).await;
    endpoint.get("/x").done().await.unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), 2);

    let (server, endpoint) = serve(vec![unavailable(), ResponseTemplate::new(201)]).await;
    let refused = endpoint.post("/x").json(&1).done().await.unwrap_err();
    assert_eq!(refused.slug(), Some(Slug::Unavailable));
    assert_eq!(server.received_requests().await.unwrap().len(), 1);

    let (server, endpoint) = serve(vec![unavailable(), ResponseTemplate::new(201)]).await;
    endpoint.post("/x").json(&1).idempotency_key("k").done().await.unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_will_not_get_better_is_not_tried_again() {
    let denied = ResponseTemplate::new(403).set_body_json(problem(Slug::Denied));
    let (server, endpoint) = serve(vec![denied]).await;
    let error = endpoint.get("/x").done().await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_problem_crosses_unchanged() {
    let (_server, endpoint) = serve(vec![unavailable()]).await;
    let ClientError::Problem(remote) = endpoint.get("/x").once().done().await.unwrap_err() else {
        panic!("a problem");
    };
    assert_eq!(remote.document, problem(Slug::Unavailable));
    assert_eq!((remote.status, remote.retry_after), (503, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn neither_redirects_nor_strange_answers_are_successes() {
    let redirect = ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/");
    let html = || ResponseTemplate::new(502).set_body_string("<html>");
    let (_server, endpoint) =
        serve(vec![redirect, html(), ResponseTemplate::new(200).set_body_string("{")]).await;
    assert_eq!(endpoint.get("/x").once().done().await.unwrap_err().status(), Some(302));
    let strange = endpoint.get("/x").once().done().await.unwrap_err();
    assert_eq!((strange.status(), strange.slug()), (Some(502), None));
    let broken = endpoint.get("/x").once().fetch::<serde_json::Value>().await.unwrap_err();
    assert!(matches!(broken, ClientError::BadAnswer(_)));
}

#[tokio::test]
async fn nobody_there_and_too_late_are_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let late =
        Endpoint::new(&silent).unwrap().get("/x").once().deadline(Duration::from_millis(100)).done().await;
    assert!(matches!(late, Err(ClientError::NoAnswer(_))), "{late:?}");
    drop(listener);
    let nobody = Endpoint::new(&silent).unwrap().get("/x").once().done().await;
    assert!(matches!(nobody, Err(ClientError::Unreachable(_))), "{nobody:?}");
    let text = format!("{:?}", nobody.unwrap_err());
    assert!(!text.contains("/x"), "addresses stay out of errors: {text}");
}

#[tokio::test]
async fn addresses_are_hosts_and_nothing_more() {
    for bad in ["ftp:x", "http://h/path", "http://h/?q", "not a url"] {
        assert!(Endpoint::new(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_path_stays_on_its_host() {
    let endpoint = Endpoint::new("http://127.0.0.1:1").unwrap();
    for bad in ["//other.test/x", "http://other.test/x", "x", "", "/\\other.test"] {
        let error = endpoint.get(bad).once().done().await.unwrap_err();
        let stays = matches!(error, ClientError::BadCall(_) | ClientError::Unreachable(_));
        assert!(stays, "{bad}: {error:?}");
    }
}

#[tokio::test]
async fn a_request_carries_its_id_its_trace_and_its_caller() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/v1/records"))
        .and(query_param("limit", "5"))
        .and(header("authorization", "Bearer t0ken"))
        .and(header("hbc-purpose", "TREAT"))
        .and(header("x-request-id", "r-77"))
        .and(header("traceparent", "00-trace"))
        .respond_with(ResponseTemplate::new(200).set_body_json(serde_json::json!({"items": []})))
        .mount(&server)
        .await;
    let endpoint = Endpoint::new(&server.uri()).unwrap();
    let context = RequestContext { request_id: "r-77".to_owned(), traceparent: "00-trace".to_owned() };
    let query = RecordQuery { limit: Some(5), ..RecordQuery::default() };
    let call =
        endpoint.to(storage::list_records()).query(&query).bearer("t0ken").header("hbc-purpose", "TREAT");
    let page = context.scope(call.fetch()).await.unwrap();
    assert!(page.items.is_empty());
}
