//! No background loop of the service dies unseen.

use std::collections::BTreeSet;

use hbc_db::testing::sqlite;
use hbc_tasks::testing::trip_all;

use crate::app::TestApp;

#[tokio::test]
async fn every_background_loop_that_panics_is_logged_and_comes_back() {
    let app = TestApp::spawn(sqlite(&[]).await).await;
    let tasks = app.tasks.as_ref().unwrap();
    let expected = [
        "database health",
        "gauges",
        "jobs",
        "ledger follower",
        "ledger health",
        "ledger outbox",
        "schemas",
        "service health",
        "token keys",
    ];
    assert_eq!(trip_all(tasks).await, BTreeSet::from(expected));
}
