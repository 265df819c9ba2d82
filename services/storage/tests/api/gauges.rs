//! What `/metrics` shows is what the documentation says.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::app::{each, eventually};

const OPERATIONS: &str = include_str!("../../../../docs/OPERATIONS.md");

/// The names in the documentation's section about what each service measures that storage measures.
fn documented() -> BTreeSet<&'static str> {
    let (_, section) = OPERATIONS.split_once("### What each service measures").unwrap();
    let (section, _) = section.split_once("###").unwrap();
    // What is another service's alone is not shown here.
    let lines = section.lines().filter(|line| !line.contains("| auth: "));
    let quoted = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter_map(|name| name.split('{').next()).filter(|name| name.starts_with("hbc_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_gauge_is_served() {
    let names = documented();
    assert!(names.len() >= 14, "{names:?}");
    each(|app| async move {
        app.observation(&app.patient(), "laboratory").await;
        let names = documented();
        eventually("measured", || async {
            let reply = app.call(Method::GET, "/metrics", None, &[], Vec::new()).await.expect(200);
            let text = String::from_utf8(reply.bytes).unwrap();
            names.iter().all(|name| text.lines().any(|line| line.starts_with(name)))
        })
        .await;
        let reply = app.call(Method::GET, "/metrics", None, &[], Vec::new()).await.expect(200);
        let text = String::from_utf8(reply.bytes).unwrap();
        assert!(text.contains("hbc_jobs{kind=\"pins.check\""), "{text}");
        for name in text.lines().filter_map(|line| line.split(['{', ' ']).next()) {
            // A histogram is three series of one name.
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let explained = |name: &str| OPERATIONS.contains(name);
            let known = explained(name) || family.is_some_and(explained);
            assert!(known || !name.starts_with("hbc_"), "docs/OPERATIONS.md does not explain `{name}`");
        }
    })
    .await;
}
