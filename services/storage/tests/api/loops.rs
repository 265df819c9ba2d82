//! No background loop of the service dies unseen.

use hbc_db::testing::sqlite;
use hbc_tasks::testing::{trip_all, with_common};

use crate::app::TestApp;

#[tokio::test]
async fn every_background_loop_that_panics_is_logged_and_comes_back() {
    let app = TestApp::spawn(sqlite(&[]).await).await;
    let tasks = app.tasks.as_ref().unwrap();
    assert_eq!(trip_all(tasks).await, with_common(&["schemas"]));
}
