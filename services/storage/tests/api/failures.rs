//! Neighbours that are down, blocks that are lost or changed, rows that are changed by hand.

use std::str::FromStr;
use std::sync::Arc;

use cid::Cid;
use hbc_service::config::SecretFile;
use hbc_testkit::service::key_file;
use reqwest::Method;

use crate::app::{TestApp, each, eventually, observation};

#[tokio::test(flavor = "multi_thread")]
async fn without_access_policy_nothing_is_read_or_written() {
    each(|app| async move {
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        app.world.access_policy_is_down(true);
        for path in [
            "/v1/records".to_owned(),
            format!("/fhir/Observation/{id}"),
            format!("/v1/records/{id}/received"),
        ] {
            let reply = app.get(&patient, &path).await;
            assert_eq!(reply.status, 503, "{path}");
            assert!(!reply.header("retry-after").is_empty());
        }
        let body = observation("laboratory").to_string();
        app.fhir(&patient, "/fhir/Observation", &[], body.as_bytes()).await.expect(503);
        app.world.access_policy_is_down(false);
        // Nothing was begun, so nothing is voided.
        assert!(app.world.voided().is_empty());
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        assert_eq!(app.blobs.pins().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ipfs_uploads_are_refused_and_nothing_is_lost() {
    each(|app| async move {
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        app.blobs.set_down(true);
        let body = observation("laboratory").to_string();
        let reply = app.fhir(&patient, "/fhir/Observation", &[], body.as_bytes()).await;
        assert!(!reply.header("retry-after").is_empty());
        reply.refused(503, "dependency_unavailable");
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.refused(503, "dependency_unavailable");
        app.blobs.set_down(false);
        app.fhir(&patient, "/fhir/Observation", &[], body.as_bytes()).await.expect(201);
        eventually("voided", || async { app.world.voided().len() == 1 }).await;
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        let listed = app.get(&patient, "/v1/records").await.expect(200).body;
        assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    })
    .await;
}

async fn cid(app: &TestApp, patient: &hbc_types::ids::AccountId, id: &str) -> Cid {
    let view = app.get(patient, &format!("/v1/records/{id}")).await.expect(200).body;
    Cid::from_str(view["cid"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_never_served() {
    each(|app| async move {
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        let cid = cid(&app, &patient, &id).await;
        for at in [0, 30, 60, 500] {
            app.blobs.flip(&cid, at);
            app.get(&patient, &format!("/fhir/Observation/{id}")).await.refused(502, "integrity");
            app.get(&patient, &format!("/v1/records/{id}/received")).await.refused(502, "integrity");
            app.blobs.flip(&cid, at);
        }
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
        app.blobs.lose(&cid);
        assert_ne!(app.get(&patient, &format!("/fhir/Observation/{id}")).await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pin_comes_back_from_the_spool() {
    each(|app| async move {
        // As long as the anchor is not final the spool keeps its copy.
        app.world.ledger_is_down(true);
        let patient = app.patient();
        let id = app.observation(&patient, "laboratory").await;
        let cid = cid(&app, &patient, &id).await;
        app.blobs.lose(&cid);
        eventually("pinned again", || async { app.blobs.pins().contains(&cid) }).await;
        app.get(&patient, &format!("/fhir/Observation/{id}")).await.expect(200);
    })
    .await;
}

/// Changes the database by hand, past the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_changed_by_hand_no_longer_opens() {
    let changes = [
        "UPDATE records SET category = 'vital-signs'",
        "UPDATE records SET n = n + 1",
        "UPDATE records SET date0 = '1999-01-01'",
        "UPDATE records SET kind = 'Condition'",
        "UPDATE records SET created_at_ms = created_at_ms - 1",
        "UPDATE records SET sensitivity = 'ffffffffffffffffffffffffffffffff'",
        "UPDATE records SET commitment = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
        "UPDATE records SET slice_offset = slice_offset + 1",
        "UPDATE records SET wrapped = encrypted",
    ];
    for change in changes {
        each(|app| async move {
            let patient = app.patient();
            let id = app.observation(&patient, "laboratory").await;
            app.by_hand(change).await;
            app.get(&patient, &format!("/v1/records/{id}/received")).await.refused(502, "integrity");
            app.get(&patient, &format!("/v1/records/{id}")).await.refused(502, "integrity");
            assert_eq!(app.world.released(), 0, "no key was released after {change}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_two_patients_cannot_be_swapped() {
    each(|app| async move {
        let (one, two) = (app.patient(), app.patient());
        let id = app.observation(&one, "laboratory").await;
        app.observation(&two, "laboratory").await;
        app.by_hand("UPDATE records SET patient = (SELECT max(patient) FROM records)").await;
        let listed = [app.get(&one, "/v1/records").await, app.get(&two, "/v1/records").await];
        assert!(listed.iter().any(|reply| reply.status == 502));
        assert!(listed.iter().all(|reply| reply.status == 502
            || !reply.body.to_string().contains(&id)
            || reply.body["items"].as_array().is_some_and(Vec::is_empty)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_died_leaves_nothing() {
    each(|mut app| async move {
        // As after a kill between pin and commit: an open intent, a spooled and pinned segment, no records.
        let patient = app.patient();
        app.observation(&patient, "laboratory").await;
        let intent = format!("int-{}", "0".repeat(32));
        app.stop().await;
        let bytes = b"encrypted bytes of a dead upload".to_vec();
        let folder = app.spool().join(&intent);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("0"), &bytes).unwrap();
        let blobs = std::sync::Arc::clone(&app.blobs);
        hbc_storage::testing::BlobStore::put(&*blobs, bytes.into()).await.unwrap();
        assert_eq!(app.blobs.pins().len(), 2);
        app.by_hand(
            "INSERT INTO intents (id, state, created_at_ms)
             VALUES ('int-00000000000000000000000000000000', 'open', 1)",
        )
        .await;
        // Its end was owed with its beginning.
        app.by_hand(
            "INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
             SELECT 'upload.abort', id, id, 'waiting', 1, 1, 1, 0, 0 FROM intents WHERE state = 'open'",
        )
        .await;
        app.start(blobs).await;
        eventually("aborted", || async {
            app.world.voided().contains(&intent) && app.blobs.pins().len() == 1
        })
        .await;
        eventually("spool gone", || async { !folder.exists() }).await;
        app.get(&patient, "/v1/records").await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused() {
    each(|app| async move {
        let headers = [("content-type", "application/octet-stream")];
        let body = vec![0; app.config.base.server.body_limit_bytes + 1];
        let reply = app.call(Method::POST, "/v1/records", Some(&app.patient()), &headers, body).await;
        assert_eq!(reply.status, 413);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_in_the_place_of_the_index_key_is_told_at_the_start() {
    each(|mut app| async move {
        app.observation(&app.patient(), "laboratory").await;
        app.stop().await;
        let right = app.config.index_key_file.clone();
        let folder = tempfile::tempdir().unwrap();
        app.config.index_key_file = SecretFile::new(key_file(folder.path(), "other.key", 0x77));
        let refused = app.refused_start().await;
        assert!(refused.contains("other.key") && refused.contains("not the key with which"), "{refused}");
        app.config.index_key_file = right;
        let blobs = Arc::clone(&app.blobs);
        app.start(blobs).await;
    })
    .await;
}

/// What somebody did to the database, and what undoes it.
const CHANGES: [(&str, &str, &str); 3] = [
    (
        "DROP INDEX segments_waiting",
        "segments_waiting is gone",
        "CREATE INDEX segments_waiting ON segments (due_at_ms)",
    ),
    ("CREATE TABLE added (id BIGINT)", "added is new", "DROP TABLE added"),
    ("ALTER TABLE tokens RENAME TO others", "tokens is gone", "ALTER TABLE others RENAME TO tokens"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_as_it_was_is_told() {
    each(|app| async move {
        let (patient, ready) = (app.patient(), async || app.anybody_gets("/readyz").await);
        eventually("ready", || async { ready().await.status == 200 }).await;
        for (change, words, undone) in CHANGES {
            app.schema_by_hand(change).await;
            eventually("told", || async {
                let reply = ready().await;
                reply.status == 503
                    && reply.body["parts"]["database"]["note"].as_str().unwrap().contains(words)
            })
            .await;
            // Nothing is decided on what somebody else made of it.
            app.get(&patient, "/v1/records").await.refused(503, "unavailable");
            app.schema_by_hand(undone).await;
            eventually("ready again", || async { ready().await.status == 200 }).await;
            app.get(&patient, "/v1/records").await.expect(200);
        }
    })
    .await;
}
