//! Another staff key for an agency, and the end of one: who signs, what acts meanwhile, and what nobody brings back.

use ed25519_dalek::SigningKey;
use hbc_chain::payload::{Affiliation, AffiliationStatus, Payload, Staff, StaffStatus};
use hbc_chain::tx::{self, Tx};
use hbc_types::hash;
use hbc_types::keys::PublicKey;
use hbc_types::secret::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{OPERATOR_PASSWORD, PASSWORD, Reply, TestApp, decision, each};

const KEYS: &str = "/v1/me/staff-keys";

fn proof() -> Value {
    json!({"password": PASSWORD})
}

fn staff(tx: &Tx) -> &Staff {
    let Payload::Staff(staff) = tx.payload() else { panic!("{tx:?}") };
    staff
}

fn affiliation(tx: &Tx) -> &Affiliation {
    let Payload::Affiliation(change) = tx.payload() else { panic!("{tx:?}") };
    change
}

/// States of an agency's keys, as `token` sees them.
async fn states(app: &TestApp, id: &str, token: &str) -> Vec<String> {
    let view = app.get(&format!("/v1/agencies/{id}"), token).await.expect(200);
    let keys = view.body["keys"].as_array().unwrap();
    keys.iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
}

async fn approve_key(app: &TestApp, operator: &str, id: &str, key: &str) -> Reply {
    let token = app.login(operator).await;
    let body = json!({"password": OPERATOR_PASSWORD, "key": key});
    app.post(&format!("/v1/agencies/{id}/key-approvals"), &token, body).await
}

/// Asks for a key that both operators approve; it is not final yet.
async fn signed_key(app: &TestApp, id: &str, username: &str) -> String {
    let token = app.login(username).await;
    let key = app.post(KEYS, &token, proof()).await.expect(201).text("key");
    approve_key(app, "operator-0", id, &key).await.expect(200);
    approve_key(app, "operator-1", id, &key).await.expect(200);
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_takes_the_place_of_the_first_and_nothing_is_between_them() {
    each(|mut app| async move {
        let id = app.approved_agency("drbob").await;
        app.patient("alice").await;
        let (own, alice) = (app.login("drbob").await, app.login("alice").await);
        let path = format!("/v1/agencies/{id}");
        let before = app.get(&path, &alice).await.expect(200);
        let old = before.text("staff_key");
        assert_eq!(before.body["keys"][0]["key"], json!(old));
        assert!(before.body["keys"][0]["began_at"].is_string() && before.body["ended_at"].is_null());
        app.post(KEYS, &own, json!({"password": "wrong password"})).await.refused(401, "bad_credentials");
        app.wait(5);
        let asked = app.post(KEYS, &own, proof()).await.expect(201);
        let (new, code) = (asked.text("key"), asked.body["recovery_codes"][0].clone());
        app.post(KEYS, &own, proof()).await.refused(409, "conflict");
        assert_eq!(states(&app, &id, &own).await, ["active", "pending"]);
        assert_eq!(states(&app, &id, &alice).await, ["active"], "what waits is nobody else's");
        let operator = app.login("operator-0").await;
        let found = async |token| {
            let list = app.get("/v1/agencies?new_key=true", token).await.expect(200);
            list.body["items"].as_array().unwrap().len()
        };
        app.agency("drcarla").await;
        let waits = app.login("drcarla").await;
        app.post(KEYS, &waits, proof()).await.refused(409, "conflict");
        assert_eq!(
            (found(&operator).await, found(&alice).await),
            (1, 1),
            "the others see all that are active"
        );
        let key_approvals = format!("{path}/key-approvals");
        let body = |key: &str, password| json!({"password": password, "key": key});
        app.post(&key_approvals, &own, body(&new, PASSWORD)).await.refused(403, "forbidden");
        app.post(&key_approvals, &operator, body(&new, PASSWORD)).await.refused(401, "bad_credentials");
        app.wait(5);
        app.post(&key_approvals, &operator, body(&"0".repeat(64), OPERATOR_PASSWORD))
            .await
            .refused(404, "not_found");
        approve_key(&app, "operator-2", &id, &old).await.refused(409, "conflict");
        for _twice in 0..2 {
            approve_key(&app, "operator-0", &id, &new).await.expect(200);
        }
        app.restart().await;
        let half = app.waiting().await;
        assert_eq!(half.len(), 1, "auth signs when it is enough: {half:?}");
        assert_eq!((staff(&half[0]).nonce, staff(&half[0]).status), (0, StaffStatus::Active));
        app.ledger_decides(&half).await;
        assert_eq!(app.get(&path, &alice).await.text("staff_key"), old);
        let seen = approve_key(&app, "operator-1", &id, &new).await.expect(200);
        assert_eq!(
            (&seen.body["keys"][1]["approvals"], &seen.body["keys"][1]["state"]),
            (&json!(2), &json!("pending"))
        );
        app.call(Method::DELETE, KEYS, Some(&own), Some(&proof())).await.refused(409, "conflict");
        let signed = app.waiting().await;
        assert!(signed.iter().chain(&half).all(|tx| staff(tx).key.to_string() == new));
        assert!(signed.iter().all(|tx| staff(tx).commitment == staff(&half[0]).commitment));
        assert_eq!(app.get(&path, &alice).await.text("staff_key"), old, "not final yet");

        app.access_policy_answers(204).await;
        app.ledger_agrees().await;
        app.restart().await;
        let view = app.get(&path, &alice).await.expect(200);
        assert_eq!((view.text("staff_key"), view.text("standing")), (new.clone(), "active".to_owned()));
        assert_eq!(states(&app, &id, &alice).await, ["active", "active"], "both, until the first is ended");
        let told = app.told().await;
        let told = told.iter().rfind(|request| request.url.path().ends_with(&id)).unwrap();
        let told: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!((&told["staff_key"], &told["standing"]), (&json!(new), &json!("active")));
        let ends = app.waiting().await;
        let [end] = ends.as_slice() else { panic!("{ends:?}") };
        assert_eq!(
            (staff(end).key.to_string(), staff(end).nonce, staff(end).status),
            (old.clone(), 1, StaffStatus::Revoked)
        );
        assert_eq!(end.kid(), app.genesis.operators[1].kid());
        app.ledger_agrees().await;
        assert_eq!(states(&app, &id, &alice).await, ["ended", "active"]);
        let view = app.get(&path, &alice).await.expect(200);
        let last = view.body["history"].as_array().unwrap().iter().find(|one| one["ends"] == true).unwrap();
        assert_eq!(
            (&last["key"], &last["txid"], &last["change"]),
            (&json!(old), &json!(end.txid()), &json!(1))
        );
        let salt: Bytes = serde_json::from_value(view.body["profile"]["salt"].clone()).unwrap();
        let body = view.body["profile"]["body"].as_str().unwrap();
        let opened = hash::staff(&salt.to_array().unwrap(), body.as_bytes());
        assert!(opened == staff(&half[0]).commitment && opened == staff(end).commitment);

        // The new codes open the account with the new key, and that key signs.
        let restored = json!({"username": "drbob", "code": code, "new_password": OPERATOR_PASSWORD});
        app.post("/v1/recoveries", "", restored).await.expect(204);
        let own = app.try_login("drbob", OPERATOR_PASSWORD).await.expect(201).text("access_token");
        app.post(KEYS, &own, json!({"password": OPERATOR_PASSWORD})).await.expect(201);
        let operator = app.login("operator-0").await;
        app.post(&format!("{path}/suspensions"), &operator, decision("enough")).await.expect(200);
        let stops = app.waiting().await;
        assert_eq!((staff(&stops[0]).key.to_string(), staff(&stops[0]).nonce), (new, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_withdrawn_until_enough_have_signed_and_stays_so() {
    each(|mut app| async move {
        let id = app.approved_agency("drbob").await;
        let own = app.login("drbob").await;
        app.call(Method::DELETE, KEYS, Some(&own), Some(&proof())).await.refused(404, "not_found");
        let key = app.post(KEYS, &own, proof()).await.expect(201).text("key");
        approve_key(&app, "operator-0", &id, &key).await.expect(200);
        app.by_hand("CREATE TABLE older AS SELECT * FROM staff_keys").await;
        let wrong = json!({"password": "wrong password"});
        app.call(Method::DELETE, KEYS, Some(&own), Some(&wrong)).await.refused(401, "bad_credentials");
        app.wait(5);
        app.call(Method::DELETE, KEYS, Some(&own), Some(&proof())).await.expect(200);
        assert_eq!(states(&app, &id, &own).await, ["active", "withdrawn"]);
        approve_key(&app, "operator-1", &id, &key).await.refused(409, "conflict");
        app.ledger_agrees().await;
        assert_eq!(states(&app, &id, &own).await, ["active", "withdrawn"]);
        // Whoever restores the account from a lost password takes back what was asked for with that.
        let asked = app.post(KEYS, &own, proof()).await.expect(201);
        let form =
            json!({"username": "drbob", "code": asked.body["recovery_codes"][0], "new_password": PASSWORD});
        app.post("/v1/recoveries", "", form).await.expect(204);
        let own = app.login("drbob").await;
        assert_eq!(states(&app, &id, &own).await, ["active", "withdrawn", "withdrawn"]);
        let third = signed_key(&app, &id, "drbob").await;
        app.ledger_agrees().await;
        assert_eq!(app.get(&format!("/v1/agencies/{id}"), &own).await.text("staff_key"), third);

        // A row that was put back brings nothing back.
        app.by_hand("DELETE FROM staff_keys WHERE n = 1").await;
        app.by_hand("INSERT INTO staff_keys SELECT * FROM older WHERE n = 1").await;
        for _restart in 0..2 {
            approve_key(&app, "operator-1", &id, &key).await.refused(403, "forbidden");
            app.restart().await;
        }
        app.by_hand("DELETE FROM staff_keys WHERE n > 0").await;
        app.post(KEYS, &own, proof()).await.refused(403, "forbidden");
        let operator = app.login("operator-0").await;
        let all = app.get("/v1/agencies", &operator).await.expect(200);
        assert_eq!(all.body["items"].as_array().unwrap().len(), 1, "it is listed all the same");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_requests_at_once_one_makes_a_key_and_a_new_password_keeps_it() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        let (one, two) = (app.login("drbob").await, app.login("drbob").await);
        let (first, second) = tokio::join!(app.post(KEYS, &one, proof()), app.post(KEYS, &two, proof()));
        let (served, refused) = if first.status == 201 { (first, second) } else { (second, first) };
        served.expect(201);
        refused.refused(409, "conflict");
        let operator = app.login("operator-0").await;
        let view = app.get(&format!("/v1/agencies/{id}"), &operator).await.expect(200);
        let key = view.body["keys"][1]["key"].as_str().unwrap().to_owned();
        let change = json!({"password": PASSWORD, "new_password": OPERATOR_PASSWORD});
        app.put("/v1/me/password", &one, change).await.expect(204);
        for operator in ["operator-0", "operator-1"] {
            approve_key(&app, operator, &id, &key).await.expect(200);
        }
        app.ledger_agrees().await;
        // What it signs now it signs with that key.
        app.post(KEYS, &one, json!({"password": OPERATOR_PASSWORD})).await.expect(201);
        let codes =
            app.post("/v1/me/recovery-codes", &one, json!({"password": OPERATOR_PASSWORD})).await.expect(201);
        let form =
            json!({"username": "drbob", "code": codes.body["recovery_codes"][7], "new_password": PASSWORD});
        app.post("/v1/recoveries", "", form).await.expect(204);
        assert_eq!(app.get(&format!("/v1/agencies/{id}"), &operator).await.text("staff_key"), key);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agency_gets_its_key_when_it_is_back() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        let path = format!("/v1/agencies/{id}");
        let operator = app.login("operator-0").await;
        let old = app.get(&path, &operator).await.text("staff_key");
        let new = signed_key(&app, &id, "drbob").await;
        let signed = app.waiting().await;
        app.post(&format!("{path}/suspensions"), &operator, decision("stolen")).await.expect(200);
        app.ledger_decides(&signed).await;
        let view = app.get(&path, &operator).await.expect(200);
        assert_eq!((view.text("staff_key"), view.text("standing")), (old.clone(), "suspended".to_owned()));
        approve_key(&app, "operator-2", &id, &new).await.refused(409, "conflict");
        app.ledger_agrees().await;
        app.reinstate("operator-0", &id).await.expect(200);
        app.reinstate("operator-2", &id).await.expect(200);
        assert_eq!(app.get(&path, &operator).await.text("staff_key"), old);
        app.ledger_agrees().await;
        let view = app.get(&path, &operator).await.expect(200);
        assert_eq!((view.text("staff_key"), view.text("standing")), (new.clone(), "active".to_owned()));
        let ends = app.waiting().await;
        let [end] = ends.as_slice() else { panic!("{ends:?}") };
        // Approved, suspended, reinstated: this is the fourth change.
        assert_eq!(
            (staff(end).key.to_string(), staff(end).nonce, staff(end).status),
            (old, 3, StaffStatus::Revoked)
        );
        app.ledger_agrees().await;
        assert_eq!(states(&app, &id, &operator).await, ["ended", "active"]);
        let token = app.login("drbob").await;
        let waits = app.post(KEYS, &token, proof()).await.expect(201).text("key");
        app.post(&format!("{path}/suspensions"), &operator, decision("again")).await.expect(200);
        approve_key(&app, "operator-0", &id, &waits).await.refused(409, "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_is_ended_for_ever_before_the_ledger_says_so() {
    each(|app| async move {
        let id = app.agency("drbob").await;
        let (path, operator) = (format!("/v1/agencies/{id}"), app.login("operator-0").await);
        let revocations = format!("{path}/revocations");
        app.post(&revocations, &operator, decision("never approved")).await.refused(409, "conflict");
        for operator in ["operator-0", "operator-1"] {
            app.approve(operator, &id).await.expect(200);
        }
        app.ledger_agrees().await;
        let token = app.login("drbob").await;
        app.post(&revocations, &token, decision("my own")).await.refused(403, "forbidden");
        app.post(&revocations, &operator, decision(" ")).await.refused(422, "invalid_input");
        signed_key(&app, &id, "drbob").await;
        let signed = app.waiting().await;
        app.access_policy_answers(503).await;
        app.post(&revocations, &operator, decision("the practice closed")).await.expect(202);
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        let told = app.try_login("drbob", PASSWORD).await.refused(403, "suspended");
        assert_eq!(told.body["detail"], "the practice closed");
        app.outage_ends().await;
        let denied = app.told().await;
        assert!(denied.iter().any(|told| told.url.path() == format!("/internal/v1/denials/subject/{id}")));
        app.post(&revocations, &operator, decision("again")).await.expect(200);
        app.reinstate("operator-1", &id).await.refused(409, "conflict");
        app.approve("operator-1", &id).await.refused(409, "conflict");
        // What operators had signed for comes too late: it is ended as soon as the ledger knows it.
        app.ledger_decides(&signed).await;
        let ends = app.waiting().await;
        let ends: Vec<_> = ends.iter().filter(|tx| staff(tx).status == StaffStatus::Revoked).collect();
        let keys = ends.iter().map(|tx| staff(tx).key).collect::<std::collections::HashSet<_>>();
        assert_eq!((ends.len(), keys.len()), (2, 2));
        assert!(ends.iter().all(|tx| staff(tx).nonce == 1));
        app.ledger_agrees().await;
        let view = app.get(&path, &operator).await.expect(200);
        assert_eq!(states(&app, &id, &operator).await, ["ended", "ended"]);
        assert!(view.text("standing") == "suspended" && view.body["ended_at"].is_string());
        app.reinstate("operator-1", &id).await.refused(409, "conflict");
        app.by_hand("UPDATE accounts SET ended_at_ms = NULL").await;
        app.reinstate("operator-1", &id).await.refused(403, "forbidden");
    })
    .await;
}

/// An operator may end it at a node, without auth. A key that was signed for by then gets no account.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_given_straight_to_the_ledger_counts_here_too() {
    each(|app| async move {
        let id = app.approved_agency("drbob").await;
        signed_key(&app, &id, "drbob").await;
        let (token, signed) = (app.login("drbob").await, app.waiting().await);
        let own = app.get(&format!("/v1/agencies/{id}"), &token).await.text("staff_key");
        let mut end = staff(&signed[0]).clone();
        (end.status, end.nonce) = (StaffStatus::Revoked, 1);
        end.public = PublicKey::from_bytes(app.public_key(&id).await);
        end.key = end.public.kid();
        assert_eq!(end.key.to_string(), own);
        let jws = tx::sign(&SigningKey::from_bytes(&[33; 32]), &Payload::Staff(end)).unwrap();
        app.access_policy_answers(204).await;
        app.ledger_decides(&[Tx::parse(jws.as_bytes()).unwrap()]).await;
        app.ledger_agrees().await;
        app.get("/v1/me", &token).await.refused(401, "unauthenticated");
        assert!(app.waiting().await.is_empty(), "nobody signed an end of the other key");
        let operator = app.login("operator-0").await;
        let view = app.get(&format!("/v1/agencies/{id}"), &operator).await.expect(200);
        assert!(view.text("staff_key") == own && view.body["ended_at"].is_string());
        assert_eq!(states(&app, &id, &operator).await, ["ended", "active"]);
        app.reinstate("operator-1", &id).await.refused(409, "conflict");
    })
    .await;
}

/// A member who signed up for this organisation, approved.
async fn member_of(app: &TestApp, organisation: &str, username: &str) -> String {
    let mut form = TestApp::agency_form(username);
    form["organisation"] = json!(organisation);
    let id = app.post("/v1/agencies", "", form).await.expect(201).text("id");
    for operator in ["operator-0", "operator-1"] {
        app.approve(operator, &id).await.expect(200);
    }
    app.ledger_agrees().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_along_with_their_organisation_and_are_taken_in_again_under_keys_of_their_own() {
    each(|app| async move {
        app.access_policy_answers(204).await;
        let hospital = app.approved_agency("hospital").await;
        let own = app.login("hospital").await;
        let mut members = Vec::new();
        for name in ["drada", "drben", "drcy"] {
            members.push(member_of(&app, &hospital, name).await);
        }
        let [ada, ben, cy] = members.as_slice() else { panic!() };
        let take = async |id: &str| {
            let body = json!({"function": "surgeon", "password": PASSWORD});
            app.put(&format!("/v1/me/members/{id}"), &own, body).await.expect(200)
        };
        take(ada).await;
        take(ben).await;
        app.ledger_agrees().await;
        let asked = app.post(KEYS, &own, proof()).await.expect(201);
        assert_eq!((&asked.body["members"], &asked.body["organisation"]), (&json!(2), &json!(null)));
        // Until the key is there, members come and go by the present one.
        let gone = format!("/v1/me/members/{ben}");
        app.call(Method::DELETE, &gone, Some(&own), Some(&proof())).await.expect(200);
        take(cy).await;
        assert!(app.waiting().await.iter().all(|tx| affiliation(tx).organisation == tx.kid()));
        app.ledger_agrees().await;
        let new = asked.text("key");
        for operator in ["operator-0", "operator-1"] {
            approve_key(&app, operator, &hospital, &new).await.expect(200);
        }
        app.ledger_agrees().await;
        let waiting = app.waiting().await;
        let (last, taken) = waiting.split_last().unwrap();
        assert_eq!(staff(last).status, StaffStatus::Revoked, "the end of the first key goes last");
        assert!(taken.iter().all(|tx| {
            let change = affiliation(tx);
            let begins = (change.nonce, change.status) == (0, AffiliationStatus::Active);
            begins && tx.kid() == change.organisation && change.organisation.to_string() == new
        }));
        assert_eq!(taken.len(), 2, "not whom it let go: {taken:?}");
        app.ledger_agrees().await;
        let standings = async || {
            let list = app.get("/v1/me/members", &own).await.expect(200);
            let items = list.body["items"].as_array().unwrap().clone();
            let of =
                |id: &str| items.iter().find(|item| item["agency"] == json!(id)).unwrap()["standing"].clone();
            [of(ada), of(ben), of(cy)]
        };
        assert_eq!(standings().await, [json!("active"), json!("asked"), json!("active")]);

        // A member's own key: the organisation says itself whether it acts for it.
        let token = app.login("drada").await;
        let asked = app.post(KEYS, &token, proof()).await.expect(201);
        assert_eq!(asked.body["organisation"], json!(hospital), "she is told whom to ask");
        for operator in ["operator-0", "operator-1"] {
            approve_key(&app, operator, ada, &asked.text("key")).await.expect(200);
        }
        app.ledger_agrees().await;
        app.ledger_agrees().await;
        assert_eq!(standings().await, [json!("asked"), json!("asked"), json!("active")]);
        take(ada).await;
        let waiting = app.waiting().await;
        let change = affiliation(&waiting[0]);
        assert_eq!((change.key.to_string(), change.nonce), (asked.text("key"), 0));
        app.ledger_agrees().await;
        assert_eq!(standings().await, [json!("active"), json!("asked"), json!("active")]);
    })
    .await;
}
