//! No background loop of the service dies unseen.

use crate::world::world;
use hbc_tasks::testing::{trip_all, with_common};

#[tokio::test]
async fn every_background_loop_that_panics_is_logged_and_comes_back() {
    let w = world().await;
    let tasks = &w.tasks;
    assert_eq!(trip_all(tasks).await, with_common(&[]));
}
