//! The patient's access log: denials too, folded; batches and their paths.

use std::time::Duration;

use hbc_chain::proof::{self, Content, Trust};
use hbc_testkit::service::eventually;
use hbc_types::account::AgencyType;
use hbc_types::ids::GranteeId;
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::{AccessPage, Explanation, GrantView};
use serde_json::json;

use crate::world::{World, labels, world, world_with_ledger, worlds};

#[tokio::test]
async fn denials_are_in_the_log_and_equal_ones_of_a_minute_share_a_receipt() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let first = w.read(&doctor.user, &written).await.receipt;
        let second = w.read(&doctor.user, &written).await.receipt;
        assert_eq!(first, second);
        let other: hbc_types::wire::access::Unwrapped =
            w.try_read(&doctor.user, &written, Purpose::Payment).await.ok();
        assert_eq!(other.receipt, first, "whatever they say they want it for");
        // The next minute begins with how many there were beside the first.
        w.clock.advance(Duration::from_secs(61));
        assert_ne!(w.read(&doctor.user, &written).await.receipt, first);
        assert_eq!(denied(&w, &patient.user).await, [None, Some(2), None]);
        // A row of one is not closed; one of several is closed by the sweep.
        w.clock.advance(Duration::from_secs(61));
        hbc_access_policy::testing::sweep(&w.app).await.unwrap();
        assert_eq!(denied(&w, &patient.user).await, [None, Some(2), None]);
        for _attempt in 0..3 {
            w.read(&doctor.user, &written).await;
        }
        w.clock.advance(Duration::from_secs(61));
        hbc_access_policy::testing::sweep(&w.app).await.unwrap();
        hbc_access_policy::testing::sweep(&w.app).await.unwrap();
        assert_eq!(denied(&w, &patient.user).await, [Some(2), None, None, Some(2), None]);
    }
}

/// The denials in a patient's log, newest first: what each closes.
async fn denied(w: &World, patient: &crate::world::User) -> Vec<Option<u64>> {
    let page: AccessPage = w.get("/v1/me/accesses", patient).await.ok();
    let denials = page.items.into_iter().filter(|item| item.receipt.kind.code() == "denied");
    denials
        .map(|item| {
            assert_eq!(item.receipt.rule, "no-grant");
            item.receipt.folded
        })
        .collect()
}

#[tokio::test]
async fn listings_leave_receipts_and_tell_what_may_be_seen() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let before = w.decision(&doctor.user, &patient.id).await;
        assert!(before.allowed.is_empty() && !before.known && before.receipt.is_some());
        w.grant(&patient, &doctor, w.scope()).await;
        let after = w.decision(&doctor.user, &patient.id).await;
        assert_eq!(after.allowed.len(), 2);
        assert!(after.known && after.receipt.is_some());
        let own = w.decision(&patient.user, &patient.id).await;
        assert_eq!((own.allowed.len(), own.rule.as_str()), (3, "own-records"));
        let nobody = hbc_types::ids::PatientId::random(&w.random);
        let unknown = w.decision(&doctor.user, &nobody).await;
        assert!(unknown.allowed.is_empty() && !unknown.known && unknown.receipt.is_none());
    }
}

#[tokio::test]
async fn receipts_are_gathered_and_become_provable_when_their_batch_is_final() {
    for w in worlds().await {
        let (patient, other) = (w.patient().await, w.patient().await);
        for who in [&patient, &other, &patient] {
            w.write(&who.user, &who.id, &[labels(Category::Laboratory)]).await;
        }
        let gathered = hbc_access_policy::testing::gather_batch(&w.app).await.unwrap();
        let page: AccessPage = w.get("/v1/me/accesses", &patient.user).await.ok();
        // The background loop may have been faster.
        assert!(gathered == 3 || page.items.iter().all(|item| item.txid.is_some()));
        assert!(page.unanchored_since.is_some());
        let receipt = &page.items[0].receipt;
        let path = format!("/v1/me/accesses/{}/proof", receipt.id);
        assert_eq!(w.get(&path, &patient.user).await.problem(), "409 conflict");
        assert_eq!(w.get(&path, &other.user).await.problem(), "404 not_found");
        // The loop that sends them finds no node and looks again later.
        let later = w.now().plus(Duration::from_secs(3600));
        for open in hbc_db::outbox::due(w.app.db.reads(), later, 100).await.unwrap() {
            w.finalise(&[&open.jws]).await;
        }
        let page: AccessPage = w.get("/v1/me/accesses", &patient.user).await.ok();
        assert!(page.items.iter().all(|item| item.height.is_some()));
        assert_eq!(page.unanchored_since, None);
        let who = hbc_access_policy::testing::Who {
            account: patient.user.account.clone(),
            session: patient.user.session.clone(),
            bound: None,
        };
        for item in &page.items {
            let found = hbc_access_policy::testing::locate(&w.app, &who, &patient.id, &item.receipt.id)
                .await
                .unwrap();
            assert_eq!(found.batch.txid, item.txid.unwrap());
        }
        // No ledger node answers in this test.
        assert_eq!(w.get(&path, &patient.user).await.status, 503);
    }
}

#[tokio::test]
async fn the_log_is_paged_newest_first() {
    let w = world().await;
    let patient = w.patient().await;
    for _ in 0..5 {
        w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/me/accesses?limit=2".to_owned());
    loop {
        let page: AccessPage = w.get(&path, &patient.user).await.ok();
        seen.extend(page.items.iter().map(|item| item.receipt.n));
        let Some(next) = page.next else { break };
        path = format!("/v1/me/accesses?limit=2&cursor={next}");
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1], "a sign-in and five writes");
}

#[tokio::test]
async fn explain_says_what_a_call_would_be_told() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    for purpose in [Purpose::Treatment, Purpose::Payment] {
        let question = json!({
            "patient": patient.id, "action": "read", "category": "laboratory", "purpose": purpose,
        });
        let mine: Explanation = w.post("/v1/explain", &doctor.user, &question).await.ok();
        let mut about = question.clone();
        about["agency"] = json!(doctor.id);
        let theirs: Explanation = w.post("/v1/explain", &patient.user, &about).await.ok();
        assert_eq!((mine.allowed, &mine.rule), (theirs.allowed, &theirs.rule));
        assert_eq!((mine.grant.as_ref(), mine.txid), (Some(&grant.id), grant.txid));
        let read: hbc_types::wire::access::Unwrapped = w.try_read(&doctor.user, &written, purpose).await.ok();
        assert_eq!(mine.allowed, !read.keys.is_empty());
        if let Some(rule) = read.rule {
            assert_eq!(mine.rule, rule);
        }
    }
    let stranger = w.agency(AgencyType::Doctor).await;
    let question = json!({
        "patient": patient.id, "agency": doctor.id, "action": "read", "category": "laboratory", "purpose": "TREAT",
    });
    assert_eq!(w.post("/v1/explain", &stranger.user, &question).await.problem(), "404 not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_ledger_grants_become_final_and_receipts_prove_themselves_offline() {
    let w = world_with_ledger().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    let grant = w.sign(&patient, &doctor, w.scope()).await;
    let path = format!("/v1/grants/{}", grant.id);
    let active = async || {
        let view: GrantView = w.get(&path, &patient.user).await.ok();
        view.state.code() == "active" && view.height.is_some()
    };
    eventually("the grant is active", ticking(&w, active)).await;
    let receipt = w.read(&doctor.user, &written).await.receipt.unwrap();
    let path = format!("/v1/me/accesses/{receipt}/proof");
    let anchored = async || w.get(&path, &patient.user).await.status == 200;
    eventually("the receipt is anchored", ticking(&w, anchored)).await;
    let file = w.get(&path, &patient.user).await.bytes;
    let trust = Trust::Genesis(Box::new((*w.app.genesis).clone()));
    let verified = proof::verify(&file, &trust).unwrap();
    let Content::Receipt(body) = verified.content else { panic!("not a receipt") };
    let body = serde_json::to_value(body).unwrap();
    assert_eq!(body["actor"], json!(doctor.id));
    assert_eq!(body["records"][0]["record"], json!(written.request.items[0].record));
    assert_eq!(verified.transaction.unwrap().certified.signers.len(), 3);
    assert!(!proof::verify(&file, &Trust::Nothing).unwrap().pinned);
    for bit in (0..file.len() * 8).step_by(97) {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(proof::verify(&flipped, &trust).is_err(), "bit {bit}");
    }
    // The consent's own proof, for both sides and for nobody else, with the root key that shows whose it is.
    let path = format!("/v1/grants/{}/proof", grant.id);
    let stranger = w.agency(AgencyType::Doctor).await;
    assert_eq!(w.get(&path, &stranger.user).await.problem(), "404 not_found");
    let told = w.get(&path, &doctor.user).await;
    assert_eq!(told.status, 200, "{}", told.said());
    let file = told.bytes;
    let Content::Consent { body, root, .. } = proof::verify(&file, &trust).unwrap().content else {
        panic!("not a consent")
    };
    assert_eq!((body.grant, body.grantee), (grant.id.clone(), GranteeId::Agency(doctor.id.clone())));
    assert_eq!(root, hbc_types::keys::PublicKey::of(&patient.root).kid());
    // A revocation takes effect at once, and becomes final as well.
    assert_eq!(w.revoke(&patient, &doctor, &grant.id).await.status, 200);
    assert!(w.read(&doctor.user, &written).await.keys.is_empty());
    let empty = async || hbc_db::outbox::backlog(w.app.db.reads()).await.unwrap().0 == 0;
    eventually("nothing waits for the ledger", ticking(&w, empty)).await;
}

/// The condition, while the service's clock goes on as well: what is periodic goes by it.
fn ticking(w: &World, holds: impl AsyncFn() -> bool) -> impl AsyncFn() -> bool {
    async move || {
        w.clock.advance(Duration::from_millis(50));
        holds().await
    }
}
