//! Access requests: each ends once.

use std::time::Duration;

use hbc_types::account::{AgencyType, Standing};
use hbc_types::ids::GranteeId;
use hbc_types::labels::Category;
use hbc_types::wire::access::{
    AccessRequestPage, AccessRequestView, GrantView, NewAccessRequest, NewGrant, Scope,
};
use reqwest::Method;
use serde_json::json;

use crate::world::{AgencyUser, PatientUser, World, world, worlds};

async fn ask(w: &World, agency: &AgencyUser, patient: &PatientUser) -> AccessRequestView {
    let new =
        NewAccessRequest { patient: patient.id.clone(), scope: w.scope(), message: "please".to_owned() };
    w.post("/v1/access-requests", &agency.user, &new).await.ok()
}

#[tokio::test]
async fn a_request_is_seen_by_both_sides_and_approved_narrowed() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let request = ask(&w, &doctor, &patient).await;
        for user in [&patient.user, &doctor.user] {
            let page: AccessRequestPage = w.get("/v1/access-requests?state=open", user).await.ok();
            assert_eq!(page.items.len(), 1);
            assert_eq!(page.items[0].agency_name, "Dr. Example");
        }
        let approve = |scope: Scope, grantee: &AgencyUser| NewGrant {
            request: Some(request.id.clone()),
            ..NewGrant::to(GranteeId::Agency(grantee.id.clone()), scope)
        };
        let wider = Scope { categories: vec![Category::Condition], ..w.scope() };
        let refused = w.post("/v1/grants", &patient.user, &approve(wider, &doctor)).await;
        assert_eq!(refused.problem(), "422 invalid_input");
        let rival = w.agency(AgencyType::Doctor).await;
        let refused = w.post("/v1/grants", &patient.user, &approve(w.scope(), &rival)).await;
        assert_eq!(refused.problem(), "422 invalid_input");
        let narrower = Scope { categories: vec![Category::Laboratory], ..w.scope() };
        let draft = w.draft(&patient, &approve(narrower, &doctor)).await;
        let still: AccessRequestView =
            w.get(&format!("/v1/access-requests/{}", request.id), &doctor.user).await.ok();
        assert_eq!(still.state.code(), "open", "a draft approves nothing");
        let signature = w.signature(&patient, &draft, &w.consent_key(&patient, &doctor.id));
        let grant: GrantView = w.put_signature(&patient, &draft.id, &signature).await.ok();
        let done: AccessRequestView =
            w.get(&format!("/v1/access-requests/{}", request.id), &doctor.user).await.ok();
        assert_eq!((done.state.code(), done.grant), ("approved", Some(grant.id)));
        let denied =
            w.post(&format!("/v1/access-requests/{}/denial", request.id), &patient.user, &json!({})).await;
        assert_eq!(denied.problem(), "409 conflict");
    }
}

#[tokio::test]
async fn a_request_ends_once_by_denial_withdrawal_or_time() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let (one, two, three) = (
            ask(&w, &doctor, &patient).await,
            ask(&w, &doctor, &patient).await,
            ask(&w, &doctor, &patient).await,
        );
        let path = |id: &_, what: &str| format!("/v1/access-requests/{id}/{what}");
        let denied: AccessRequestView =
            w.post(&path(&one.id, "denial"), &patient.user, &json!({})).await.ok();
        assert_eq!(denied.state.code(), "denied");
        let late = w.post(&path(&one.id, "withdrawal"), &doctor.user, &json!({})).await;
        assert_eq!(late.problem(), "409 conflict");
        let gone: AccessRequestView =
            w.post(&path(&two.id, "withdrawal"), &doctor.user, &json!({})).await.ok();
        assert_eq!(gone.state.code(), "withdrawn");
        w.clock.advance(Duration::from_secs(31 * 86_400));
        hbc_access_policy::testing::sweep(&w.app).await.unwrap();
        let expired: AccessRequestView =
            w.get(&format!("/v1/access-requests/{}", three.id), &patient.user).await.ok();
        assert_eq!(expired.state.code(), "expired");
    }
}

#[tokio::test]
async fn strangers_see_nothing_and_unapproved_agencies_ask_nothing() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let (other, rival) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let request = ask(&w, &doctor, &patient).await;
    for user in [&other.user, &rival.user] {
        let path = format!("/v1/access-requests/{}", request.id);
        assert_eq!(w.get(&path, user).await.problem(), "404 not_found");
    }
    let path = format!("/v1/access-requests/{}/denial", request.id);
    assert_eq!(w.post(&path, &other.user, &json!({})).await.problem(), "404 not_found");
    assert_eq!(w.post(&path, &doctor.user, &json!({})).await.problem(), "403 forbidden");
    let pending = w.agency_of(AgencyType::Insurer, Standing::Pending, None).await;
    let new = NewAccessRequest { patient: patient.id.clone(), scope: w.scope(), message: String::new() };
    let refused = w.post("/v1/access-requests", &pending.user, &new).await;
    assert_eq!(refused.problem(), "403 agency_unverified");
    w.deny("subject", doctor.id.as_str()).await;
    assert_eq!(w.post("/v1/access-requests", &doctor.user, &new).await.problem(), "403 suspended");
}

#[tokio::test]
async fn a_repeated_request_with_one_key_is_made_once() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let new = NewAccessRequest { patient: patient.id.clone(), scope: w.scope(), message: String::new() };
    for _ in 0..3 {
        let call = hbc_client::Endpoint::new(&w.base()).unwrap().call(Method::POST, "/v1/access-requests");
        let call = call.json(&new).bearer(&w.token(&doctor.user).await).header("idempotency-key", "k1");
        let view: AccessRequestView = call.fetch().await.unwrap();
        assert_eq!(view.state.code(), "open");
    }
    let page: AccessRequestPage = w.get("/v1/access-requests", &doctor.user).await.ok();
    assert_eq!(page.items.len(), 1);
}

#[tokio::test]
async fn names_and_messages_are_not_readable_in_the_database() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let new = NewAccessRequest {
        patient: patient.id.clone(),
        scope: w.scope(),
        message: "your visit, Mrs. Sample".to_owned(),
    };
    let call = hbc_client::Endpoint::new(&w.base()).unwrap().post("/v1/access-requests");
    let call = call.json(&new).bearer(&w.token(&doctor.user).await).idempotency_key("k2");
    let view: AccessRequestView = call.fetch().await.unwrap();
    assert_eq!(
        (view.agency_name.as_str(), view.message.as_str()),
        ("Dr. Example", "your visit, Mrs. Sample")
    );
    let stored = w.stored_bytes();
    let holds = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds(patient.id.as_str()), "the search finds what is there");
    assert!(!holds("Dr. Example") && !holds("Sample"));
}
