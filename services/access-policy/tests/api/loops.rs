//! No background loop of the service dies unseen.

use std::collections::BTreeSet;

use crate::world::world;
use hbc_tasks::testing::trip_all;

#[tokio::test]
async fn every_background_loop_that_panics_is_logged_and_comes_back() {
    let w = world().await;
    let tasks = &w.tasks;
    let expected = [
        "database health",
        "gauges",
        "jobs",
        "ledger follower",
        "ledger health",
        "ledger outbox",
        "service health",
        "token keys",
    ];
    assert_eq!(trip_all(tasks).await, BTreeSet::from(expected));
}
