//! Agencies: sign-up, approval by several operators, suspension, who sees what.

use hbc_chain::payload::{Payload, StaffStatus};
use hbc_chain::tx::{self, Tx};
use hbc_types::Digest;
use hbc_types::hash;
use reqwest::Method;
use serde_json::json;

use crate::app::{OPERATOR_PASSWORD, PASSWORD, TestApp, decision, each};

async fn outbox(app: &TestApp) -> Vec<Tx> {
    let all: Vec<String> = sqlx::query_scalar("SELECT jws FROM ledger_outbox ORDER BY seq")
        .fetch_all(app.database.db.reads())
        .await
        .unwrap();
    all.iter().map(|jws| Tx::parse(jws.as_bytes()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_waits_for_two_operators_and_the_ledger() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        let own = app.login("drbob").await;
        assert_eq!(app.get("/v1/me", &own).await.text("standing"), "pending");
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let path = format!("/v1/agencies/{id}");
        app.get(&path, &alice).await.refused(404, "not_found");
        app.get(&path, &own).await.expect(200);

        let one = app.approve("operator-0", &id).await.expect(200);
        assert_eq!(
            (one.body["approvals"].clone(), one.body["approvals_needed"].clone()),
            (json!(1), json!(2))
        );
        app.approve("operator-0", &id).await.expect(200);
        assert_eq!(outbox(&app).await.len(), 2, "one of auth, one of the operator, however often they ask");
        let two = app.approve("operator-1", &id).await.expect(200);
        assert_eq!((two.text("standing"), two.body["approvals"].clone()), ("pending".to_owned(), json!(2)));
        app.get(&path, &alice).await.refused(404, "not_found");

        app.access_policy_answers(204).await;
        app.ledger_agrees().await;
        let view = app.get(&path, &alice).await.expect(200);
        assert_eq!(view.text("standing"), "active");
        assert!(view.body.get("contact").is_none() && view.body.get("licence_number").is_none());
        let told = app.told().await;
        let subject = told.iter().find(|request| request.url.path().contains("/subjects/")).unwrap();
        let subject: serde_json::Value = serde_json::from_slice(&subject.body).unwrap();
        assert_eq!(
            (subject["standing"].clone(), subject["name"].clone()),
            (json!("active"), json!("Dr. drbob"))
        );
        assert_eq!(subject["staff_key"], view.body["staff_key"]);

        // The profile opens the commitment that stands on the ledger, and the ledger names nobody.
        let txs = outbox(&app).await;
        let Payload::Staff(staff) = txs[0].payload() else { panic!("{:?}", txs[0]) };
        let salt: hbc_types::secret::Bytes =
            serde_json::from_value(view.body["profile"]["salt"].clone()).unwrap();
        let body = view.body["profile"]["body"].as_str().unwrap();
        assert_eq!(hash::staff(&salt.to_array().unwrap(), body.as_bytes()), staff.commitment);
        assert!(body.contains("Dr. drbob"));
        assert!(txs.iter().all(|tx| tx.payload().ballot() == txs[0].payload().ballot()));
        assert!(txs.iter().all(|tx| !format!("{:?}", tx.payload()).contains("drbob")));
        let signers: std::collections::HashSet<Digest> = txs.iter().map(Tx::kid).collect();
        let expected: std::collections::HashSet<Digest> = app.genesis.operators[..2]
            .iter()
            .map(hbc_chain::genesis::Named::kid)
            .chain([app.genesis.services[1].key.kid()])
            .collect();
        assert_eq!(signers, expected);
        // Who approved, with the transactions that prove it, is there for everybody who may see the agency.
        let history = view.body["history"].as_array().unwrap().clone();
        let signed: std::collections::HashSet<String> =
            history.iter().map(|one| one["txid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(signed, txs.iter().map(|tx| tx.txid().to_string()).collect());
        assert!(history.iter().all(|one| one["change"] == 0 && one["standing"] == "active"));
        assert!(history.iter().all(|one| one["final_at"].is_number() || one["final_at"].is_string()));
        assert_eq!(history.iter().filter(|one| one["operator"].is_string()).count(), 2);
        app.approve("operator-2", &id).await.refused(409, "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_with_their_password_approve() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        app.patient("alice").await;
        let path = format!("/v1/agencies/{id}/approvals");
        let body = json!({"password": PASSWORD});
        app.post(&path, "", body.clone()).await.refused(401, "unauthenticated");
        for stranger in ["alice", "drbob"] {
            let token = app.login(stranger).await;
            app.post(&path, &token, body.clone()).await.refused(403, "forbidden");
            let suspensions = format!("/v1/agencies/{id}/suspensions");
            app.post(&suspensions, &token, body.clone()).await.refused(403, "forbidden");
        }
        let operator = app.login("operator-0").await;
        app.post(&path, &operator, body).await.refused(401, "bad_credentials");
        app.wait(1);
        let unknown = "/v1/agencies/agy-00000000000000000000000000000000/approvals";
        app.post(unknown, &operator, json!({"password": OPERATOR_PASSWORD})).await.refused(404, "not_found");
        assert!(outbox(&app).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_takes_one_operator_and_takes_effect_at_once() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        let token = app.login("drbob").await;
        let operator = app.login("operator-2").await;
        let path = format!("/v1/agencies/{id}/suspensions");
        app.access_policy_answers(503).await;
        app.post(&path, &operator, json!({"password": OPERATOR_PASSWORD}))
            .await
            .refused(422, "invalid_input");
        app.post(&path, &operator, decision(" ")).await.refused(422, "invalid_input");
        let body = decision("the licence ran out");
        let denial = app.post(&path, &operator, body.clone()).await.expect(202);
        assert_eq!(denial.body["effective"], false);
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        // Who is told why shows the password first.
        let told = app.try_login("drbob", PASSWORD).await.refused(403, "suspended");
        assert_eq!(told.body["detail"], "the licence ran out");
        app.try_login("drbob", "a wrong password").await.refused(401, "bad_credentials");
        app.access_policy_answers(204).await;
        app.wait(31);
        app.pushes_settle().await;
        let denied = app.told().await;
        assert!(denied.iter().any(|request| request.method.as_str() == "PUT"
            && request.url.path() == format!("/internal/v1/denials/subject/{id}")));
        app.post(&path, &operator, body).await.expect(200);
        let txs = outbox(&app).await;
        let Payload::Staff(last) = txs.last().unwrap().payload() else { panic!() };
        assert_eq!((last.status, last.nonce), (StaffStatus::Suspended, 1));
        assert_eq!(txs.len(), 4);

        // Reinstated, with the next nonce, once the suspension is final.
        app.reinstate("operator-0", &id).await.refused(409, "conflict");
        app.ledger_agrees().await;
        app.approve("operator-0", &id).await.refused(409, "conflict");
        let seen = app.reinstate("operator-0", &id).await.expect(200);
        assert_eq!(seen.text("reason"), "the licence ran out. To be reinstated: the licence was renewed");
        app.reinstate("operator-1", &id).await.expect(200);
        app.access_policy_answers(204).await;
        app.ledger_agrees().await;
        let told = app.told().await;
        assert!(told.iter().any(|request| request.method.as_str() == "DELETE"));
        app.login("drbob").await;
        let Payload::Staff(staff) = outbox(&app).await.last().unwrap().payload().clone() else { panic!() };
        assert_eq!((staff.status, staff.nonce), (StaffStatus::Active, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_given_straight_to_the_ledger_takes_effect_here_too() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        let token = app.login("drbob").await;
        let Payload::Staff(mut staff) = outbox(&app).await[0].payload().clone() else { panic!() };
        staff.status = StaffStatus::Suspended;
        staff.nonce = 1;
        let operator = ed25519_dalek::SigningKey::from_bytes(&[33; 32]);
        let jws = tx::sign(&operator, &Payload::Staff(staff)).unwrap();
        app.access_policy_answers(204).await;
        app.ledger_decides(&[Tx::parse(jws.as_bytes()).unwrap()]).await;
        app.pushes_settle().await;
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        app.try_login("drbob", PASSWORD).await.refused(403, "suspended");
        let told = app.told().await;
        assert!(
            told.iter().any(|request| request.url.path() == format!("/internal/v1/denials/subject/{id}"))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_not_auths_change_nothing_here() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        app.approve("operator-0", &id).await.expect(200);
        let half = app.waiting().await;
        app.ledger_decides(&half).await;
        app.ledger_decides(&half).await;
        app.ledger_decides(&[]).await;
        let operator = app.login("operator-0").await;
        assert_eq!(app.get(&format!("/v1/agencies/{id}"), &operator).await.text("standing"), "pending");
        app.approve("operator-1", &id).await.expect(200);
        app.ledger_agrees().await;
        assert_eq!(app.get(&format!("/v1/agencies/{id}"), &operator).await.text("standing"), "active");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_agency_cannot_be_suspended() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        let operator = app.login("operator-0").await;
        let body = decision("not approved");
        app.post(&format!("/v1/agencies/{id}/suspensions"), &operator, body).await.refused(409, "conflict");
    })
    .await;
}

/// Who is rejected learns why, and may be approved all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_says_why_and_is_not_the_end() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        let (token, operator) = (app.login("drbob").await, app.login("operator-0").await);
        let path = format!("/v1/agencies/{id}/rejections");
        for stranger in [&token, &app.login("drbob").await] {
            app.post(&path, stranger, decision("no")).await.refused(403, "forbidden");
        }
        let wrong = json!({"password": PASSWORD, "reason": "the number is not in the register"});
        app.post(&path, &operator, wrong).await.refused(401, "bad_credentials");
        app.wait(1);
        let body = decision("the number is not in the register");
        let seen = app.post(&path, &operator, body.clone()).await.expect(200);
        assert_eq!(
            (seen.text("standing"), seen.text("reason")),
            ("pending".to_owned(), "the number is not in the register".to_owned())
        );
        let own = app.get(&format!("/v1/agencies/{id}"), &token).await.expect(200);
        assert_eq!(own.text("reason"), "the number is not in the register");
        assert!(own.body["created_at"].is_string());
        app.reinstate("operator-0", &id).await.refused(409, "conflict");
        app.approve("operator-0", &id).await.expect(200);
        app.approve("operator-1", &id).await.expect(200);
        app.ledger_agrees().await;
        let active = app.get(&format!("/v1/agencies/{id}"), &token).await.expect(200);
        assert_eq!((active.text("standing"), active.body.get("reason")), ("active".to_owned(), None));
        app.post(&path, &operator, body).await.refused(409, "conflict");
        app.patient("alice").await;
        let public = app.get(&format!("/v1/agencies/{id}"), &app.login("alice").await).await.expect(200);
        assert!(public.body.get("created_at").is_none() && public.body.get("reason").is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listing_shows_active_agencies_and_everything_to_operators() {
    each(|app| async move {
        let active = app.approved_agency("drbob").await;
        app.agency("drcarla").await;
        app.patient("alice").await;
        let alice = app.login("alice").await;
        let list = app.get("/v1/agencies?standing=pending", &alice).await.expect(200);
        let ids: Vec<_> =
            list.body["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
        assert_eq!(ids, [json!(active)]);
        let operator = app.login("operator-0").await;
        let items = |reply: crate::app::Reply| reply.body["items"].as_array().unwrap().len();
        assert_eq!(items(app.get("/v1/agencies", &operator).await.expect(200)), 2);
        assert_eq!(items(app.get("/v1/agencies?standing=pending", &operator).await.expect(200)), 1);
        assert_eq!(items(app.get("/v1/agencies?query=DRCAR", &operator).await.expect(200)), 1);
        assert_eq!(items(app.get("/v1/agencies?query=%25", &operator).await.expect(200)), 0);
        let first = app.get("/v1/agencies?limit=1", &operator).await.expect(200);
        let next = first.text("next");
        let second = app.get(&format!("/v1/agencies?limit=1&cursor={next}"), &operator).await.expect(200);
        assert_ne!(first.body["items"], second.body["items"]);
        app.get("/v1/agencies?limit=0", &operator).await.refused(422, "invalid_input");
        app.get("/v1/agencies?standing=odd", &operator).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_belongs_to_an_approved_one_or_none_and_keeps_its_name() {
    each(|app| async move {
        let mut form = TestApp::agency_form("drcarla");
        form["organisation"] = json!("agy-00000000000000000000000000000000");
        app.post("/v1/agencies", "", form.clone()).await.refused(422, "invalid_input");
        let hospital = app.approved_agency("hospital").await;
        form["organisation"] = json!(hospital);
        let id = app.post("/v1/agencies", "", form).await.expect(201).text("id");
        app.approve("operator-0", &id).await.expect(200);
        let txs = outbox(&app).await;
        let Payload::Staff(staff) = txs.last().unwrap().payload() else { panic!() };
        assert_eq!(staff.organisation, "Dr. hospital");
        let token = app.login("drcarla").await;
        app.put("/v1/me/contact", &token, json!({"name": "Somebody Else"}))
            .await
            .refused(422, "invalid_input");
        let missing = app.call(Method::POST, "/v1/agencies", None, Some(&json!({"username": "x"}))).await;
        missing.refused(422, "invalid_input");
    })
    .await;
}
