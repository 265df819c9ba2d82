//! Members of organisations: who asked is taken in by the organisation's own signature, and either side ends it.

use std::time::Duration;

use hbc_chain::payload::{AffiliationStatus, Payload};
use hbc_types::hash;
use reqwest::Method;
use serde_json::json;

use crate::app::{PASSWORD, TestApp, each};

/// A doctor who named this organisation when they signed up, approved.
pub async fn doctor_of(app: &TestApp, organisation: &str, username: &str) -> String {
    let mut form = TestApp::agency_form(username);
    form["organisation"] = json!(organisation);
    let id = app.post("/v1/agencies", "", form).await.expect(201).text("id");
    app.approve("operator-0", &id).await.expect(200);
    app.approve("operator-1", &id).await.expect(200);
    app.ledger_agrees().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_takes_in_who_asked_and_either_side_ends_it() {
    each(|app| async move {
        app.access_policy_answers(204).await;
        let hospital = app.approved_agency("hospital").await;
        let other = app.approved_agency("other").await;
        let doctor = doctor_of(&app, &hospital, "drcarla").await;
        let (own, alien, hers) =
            (app.login("hospital").await, app.login("other").await, app.login("drcarla").await);
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let path = format!("/v1/me/members/{doctor}");
        let word = json!({"function": "surgeon", "password": PASSWORD});
        let end = json!({"password": PASSWORD});
        let shown =
            async || app.get(&format!("/v1/agencies/{doctor}"), &alice).await.body["organisation"].clone();

        let asked = app.get("/v1/me/members", &own).await.expect(200);
        assert_eq!(
            (&asked.body["items"][0]["agency"], &asked.body["items"][0]["standing"]),
            (&json!(doctor), &json!("asked"))
        );
        assert_eq!(app.get("/v1/me/members", &alien).await.expect(200).body["items"], json!([]));
        assert_eq!(shown().await, json!(null), "she says so alone");
        // Nobody else takes her in, and she nobody.
        app.put(&path, &alien, word.clone()).await.refused(404, "not_found");
        app.put(&format!("/v1/me/members/{hospital}"), &hers, word.clone()).await.refused(404, "not_found");
        app.put(&format!("/v1/me/members/{other}"), &own, word.clone()).await.refused(404, "not_found");
        app.put(&path, &alice, word.clone()).await.refused(403, "forbidden");
        app.put(&path, &own, json!({"function": "", "password": PASSWORD}))
            .await
            .refused(422, "invalid_input");
        app.put(&path, &own, json!({"function": "surgeon", "password": "wrong password"}))
            .await
            .refused(401, "bad_credentials");
        app.clock.advance(Duration::from_secs(5));
        app.call(Method::DELETE, &path, Some(&own), Some(&end)).await.refused(409, "conflict");

        app.put(&path, &own, word.clone()).await.expect(200);
        let taken = app.put(&path, &own, word.clone()).await.expect(200);
        assert_eq!(
            (taken.text("standing"), taken.text("function")),
            ("active".to_owned(), "surgeon".to_owned())
        );
        let waiting = app.waiting().await;
        let [vote] = waiting.as_slice() else { panic!("{waiting:?}") };
        let Payload::Affiliation(change) = vote.payload() else { panic!("{vote:?}") };
        assert_eq!((change.nonce, change.status), (0, AffiliationStatus::Active));
        assert_eq!(vote.kid(), change.organisation, "the organisation signs");
        assert_eq!(shown().await, json!(null), "not final yet");
        app.call(Method::DELETE, &path, Some(&own), Some(&end)).await.refused(409, "conflict");
        app.ledger_agrees().await;
        assert_eq!(shown().await, json!(hospital));

        app.call(Method::DELETE, "/v1/me/organisation", Some(&hers), Some(&end)).await.expect(200);
        app.call(Method::DELETE, "/v1/me/organisation", Some(&own), Some(&end))
            .await
            .refused(404, "not_found");
        let waiting = app.waiting().await;
        let Payload::Affiliation(change) = waiting[0].payload() else { panic!("{waiting:?}") };
        assert_eq!((change.nonce, change.status), (1, AffiliationStatus::Ended));
        assert_eq!(waiting[0].kid(), change.key, "she signs");
        app.ledger_agrees().await;
        assert_eq!(shown().await, json!(null));
        let ended = app.get("/v1/me/members", &own).await.expect(200);
        assert_eq!(ended.body["items"][0]["standing"], json!("ended"));

        // Again, with another function; what the ledger refuses changes nothing.
        app.put(&path, &own, json!({"function": "chief", "password": PASSWORD})).await.expect(200);
        let waiting = app.waiting().await;
        let Payload::Affiliation(change) = waiting[0].payload() else { panic!("{waiting:?}") };
        assert_eq!(change.nonce, 2);
        let body = json!({"agency": doctor, "function": "chief", "organisation": hospital});
        let stored: Vec<u8> = app.salt_of_member(&doctor).await;
        let opened = hash::member(&stored.try_into().unwrap(), &hbc_chain::json::encode(&body).unwrap());
        assert_eq!(opened, change.commitment);
        app.ledger_refuses(&waiting[0]).await;
        assert_eq!(shown().await, json!(null));
        app.put(&path, &own, word.clone()).await.expect(200);
        app.ledger_agrees().await;
        assert_eq!(shown().await, json!(hospital));
        app.by_hand("UPDATE memberships SET status = 'ended'").await;
        app.get("/v1/me/members", &own).await.refused(403, "forbidden");
    })
    .await;
}
