//! Nobody fills the disk: what an author writes is counted, also of many uploads at once, and with a nearly full disk
//! only reads go on.

use futures_util::future::join_all;
use reqwest::Method;
use sqlx::{Connection as _, Row as _};

use crate::app::{TestApp, each, eventually, observation};

/// Bytes of all segments.
async fn stored(app: &TestApp) -> u64 {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&app.database.url).await.unwrap();
    let sql = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM segments";
    let row = sqlx::query(sql).fetch_one(&mut connection).await.unwrap();
    row.try_get::<i64, _>("bytes").unwrap().unsigned_abs()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_writes_so_much_on_a_day_and_no_more() {
    each(|mut app| async move {
        let (patient, other) = (app.patient(), app.patient());
        app.observation(&patient, "laboratory").await;
        let each = stored(&app).await;
        let pinned = app.blobs.pins().len();
        app.config.room.author_day_bytes = 3 * each + each / 2;
        app.restart().await;

        let body = observation("laboratory").to_string();
        let uploads = (0..8).map(|_| app.fhir(&patient, "/fhir/Observation", &[], body.as_bytes()));
        let replies = join_all(uploads).await;
        let created = replies.iter().filter(|reply| reply.status == 201).count();
        assert_eq!(created, 2, "with the first one three fit");
        for refused in replies.iter().filter(|reply| reply.status != 201) {
            assert_eq!(refused.status, 429);
            let wait: u64 = refused.header("retry-after").parse().unwrap();
            assert!((1..=24 * 60 * 60 + 1).contains(&wait), "{wait}");
        }
        assert_eq!(stored(&app).await, 3 * each);
        eventually("what was refused is not pinned", || async { app.blobs.pins().len() == 3 * pinned }).await;
        // Whoever else writes is not concerned, and reading goes on.
        app.observation(&other, "laboratory").await;
        app.get(&patient, "/v1/records").await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_writes_so_much_in_all() {
    each(|mut app| async move {
        let patient = app.patient();
        app.observation(&patient, "laboratory").await;
        app.config.room.patient_bytes = stored(&app).await + 1;
        app.restart().await;
        let body = observation("laboratory").to_string();
        let refused = app.fhir(&patient, "/fhir/Observation", &[], body.as_bytes()).await.expect(409);
        assert!(refused.said().contains("as much as it may"), "{}", refused.said());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_nearly_full_disk_only_reads_go_on() {
    each(|mut app| async move {
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        app.config.room.free_bytes = u64::MAX;
        app.restart().await;
        let body = observation("laboratory").to_string();
        let refused = app.fhir(&patient, "/fhir/Observation", &[], body.as_bytes()).await.expect(503);
        assert_eq!(refused.header("retry-after"), "60");
        let (path, kind) = ("/v1/records?category=document", [("content-type", "text/plain")]);
        app.call(Method::POST, path, Some(&patient), &kind, b"x".to_vec()).await.expect(503);
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        let ready = app.anybody_gets("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.said());
    })
    .await;
}
