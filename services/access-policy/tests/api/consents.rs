//! Grants from draft to revocation, freezes, and what each does to the next read.

use std::time::Duration;

use hbc_chain::tx;
use hbc_client::ledger::Journal as _;
use hbc_types::account::{AgencyType, Custody, Role, Standing};
use hbc_types::keys::PublicKey;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{GrantPage, GrantView, RootView, Scope, Subject};
use hbc_types::wire::token::AccessClaims;
use hbc_types::{Digest, Timestamp};
use reqwest::Method;

use crate::world::{labels, subject, world, worlds};

#[tokio::test]
async fn a_grant_takes_effect_once_its_block_is_final_and_until_it_is_revoked() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let before = w.read(&doctor.user, &written).await;
        assert!(before.keys.is_empty() && !before.known);

        let view = w.sign(&patient, &doctor, w.scope()).await;
        assert_eq!(view.state.code(), "pending");
        assert!(w.read(&doctor.user, &written).await.keys.is_empty());

        w.finalise(&[&view.evidence.as_ref().unwrap().jws]).await;
        let read = w.read(&doctor.user, &written).await;
        assert_eq!(read.keys[0].dek.expose(), written.keys.keys[0].dek.expose());
        assert!(read.receipt.is_some() && read.known);

        let revoked: GrantView = w.revoke(&patient, &doctor, &view.id).await.ok();
        assert_eq!(revoked.state.code(), "revoked");
        let after = w.read(&doctor.user, &written).await;
        assert!(after.keys.is_empty());
        assert_eq!(after.rule.as_deref(), Some("no-grant"));
        assert!(after.consent_version > read.consent_version);
        // Revoking again is harmless.
        let again: GrantView = w.revoke(&patient, &doctor, &view.id).await.ok();
        assert_eq!(again.revoked_by, revoked.revoked_by);
        for user in [&patient.user, &doctor.user] {
            let page: GrantPage = w.get("/v1/grants", user).await.ok();
            assert_eq!(page.items.iter().map(|grant| &grant.id).collect::<Vec<_>>(), [&view.id]);
        }
    }
}

#[tokio::test]
async fn a_revocation_sent_straight_to_a_node_takes_effect_as_well_and_even_before_its_grant() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let grant = w.grant(&patient, &doctor, w.scope()).await;
        assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
        w.finalise(&[&w.revocation(&patient, &doctor, &grant.id)]).await;
        assert!(w.read(&doctor.user, &written).await.keys.is_empty());

        let draft = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
        w.finalise(&[&w.revocation(&patient, &doctor, &draft.id)]).await;
        let signature = w.signature(&patient, &draft, &w.consent_key(&patient, &doctor.id));
        let view: GrantView = w.put_signature(&patient, &draft.id, &signature).await.ok();
        assert_eq!(view.state.code(), "revoked");
        w.finalise(&[&signature.jws]).await;
        assert!(w.read(&doctor.user, &written).await.keys.is_empty());
    }
}

#[tokio::test]
async fn what_is_not_the_patients_signature_over_the_draft_is_refused() {
    let w = world().await;
    let (patient, other) = (w.patient().await, w.patient().await);
    let (doctor, rival) = (w.agency(AgencyType::Doctor).await, w.agency(AgencyType::Doctor).await);
    let key = w.consent_key(&patient, &doctor.id);
    let draft = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
    let good = w.signature(&patient, &draft, &key);
    let refused = async |signature| w.put_signature(&patient, &draft.id, &signature).await.problem();

    // A certificate by another root, or for another grantee.
    let foreign = w.signature(&other, &draft, &key);
    assert_eq!(refused(foreign).await, "401 bad_signature");
    let rival_draft = w.draft(&patient, &w.new_grant(&rival, w.scope())).await;
    let mut wrong = good.clone();
    wrong.certificate = w.signature(&patient, &rival_draft, &key).certificate;
    assert_eq!(refused(wrong).await, "401 bad_signature");

    // An event that says something else than the draft.
    let mut later = draft.clone();
    later.payload["iat"] = serde_json::json!(w.now().unsigned_ms() + 1);
    assert_eq!(refused(w.signature(&patient, &later, &key)).await, "409 conflict");
    let mut wider = draft.clone();
    wider.payload["commitment"] = serde_json::json!(Digest::of(b"wider"));
    assert_eq!(refused(w.signature(&patient, &wider, &key)).await, "409 conflict");
    let mut elsewhere = draft.clone();
    elsewhere.payload["chain"] = serde_json::json!(Digest::of(b"other chain"));
    assert_eq!(refused(w.signature(&patient, &elsewhere, &key)).await, "400 other_chain");

    // An unregistered key, a registration that auth did not sign, a signature by another key.
    let mut bare = good.clone();
    bare.registration = None;
    assert_eq!(refused(bare).await, "422 invalid_input");
    let mut forged = good.clone();
    let claim = tx::Tx::parse(good.registration.as_ref().unwrap().as_bytes()).unwrap();
    forged.registration = Some(tx::sign(&key, claim.payload()).unwrap());
    assert_eq!(refused(forged).await, "401 bad_signature");
    let mut by_root = good.clone();
    by_root.jws = tx::sign(&patient.root, &w.payload(&draft, PublicKey::of(&key).kid())).unwrap();
    assert_eq!(refused(by_root).await, "401 bad_signature");

    // Somebody else's draft is not even there; the right signature counts, and only once.
    let strange = w.put_signature(&other, &draft.id, &good).await;
    assert_eq!(strange.problem(), "404 not_found");
    assert_eq!(w.put_signature(&patient, &draft.id, &good).await.status, 200);
    assert_eq!(w.put_signature(&patient, &draft.id, &good).await.status, 200);
    let mut second = good.clone();
    second.jws = w.signature(&patient, &later, &key).jws;
    assert_eq!(w.put_signature(&patient, &draft.id, &second).await.problem(), "409 conflict");
}

#[tokio::test]
async fn of_two_drafts_for_one_place_one_is_signed() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let key = w.consent_key(&patient, &doctor.id);
        let first = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
        let second = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
        let (one, two) = (w.signature(&patient, &first, &key), w.signature(&patient, &second, &key));
        let (one, two) = tokio::join!(
            w.put_signature(&patient, &first.id, &one),
            w.put_signature(&patient, &second.id, &two)
        );
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        // The next draft continues after the one that was signed.
        let third = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
        assert_eq!(third.payload["seq"], 2);
        assert_eq!(third.payload["key"], serde_json::json!(PublicKey::of(&key).kid()));
    }
}

#[tokio::test]
async fn a_draft_expires_after_five_minutes() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let draft = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
    let signature = w.signature(&patient, &draft, &w.consent_key(&patient, &doctor.id));
    w.clock.advance(Duration::from_secs(301));
    assert_eq!(w.put_signature(&patient, &draft.id, &signature).await.problem(), "409 conflict");
}

#[tokio::test]
async fn a_freeze_stops_at_once_and_only_the_root_key_lifts_it() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let grant = w.grant(&patient, &doctor, w.scope()).await;
        for (path, of) in
            [("/v1/me/freeze".to_owned(), None), (format!("/v1/grants/{}/freeze", grant.id), Some(&grant.id))]
        {
            w.clock.advance(Duration::from_secs(1));
            let empty = serde_json::json!({});
            assert_eq!(w.send(Method::PUT, &path, &patient.user, &empty).await.status, 200);
            let stopped = w.read(&doctor.user, &written).await;
            assert!(stopped.keys.is_empty());
            assert_eq!(stopped.rule.as_deref(), Some("grant-frozen"));
            let view: GrantView = w.get(&format!("/v1/grants/{}", grant.id), &doctor.user).await.ok();
            assert_eq!(view.state.code(), "frozen");

            // Neither another patient's root nor an older order lifts it; the patient reads on meanwhile.
            let stranger = w.patient().await;
            let mut foreign = stranger.clone();
            foreign.id = patient.id.clone();
            let wrong = w.unfreeze(&foreign, of);
            let answer = w.send(Method::DELETE, &path, &patient.user, &wrong).await;
            assert_eq!(answer.problem(), "401 bad_signature");
            assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);

            let order = w.unfreeze(&patient, of);
            assert_eq!(w.send(Method::DELETE, &path, &patient.user, &order).await.status, 204);
            assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
            w.clock.advance(Duration::from_secs(1));
            assert_eq!(w.send(Method::PUT, &path, &patient.user, &empty).await.status, 200);
            let replayed = w.send(Method::DELETE, &path, &patient.user, &order).await;
            assert_eq!(replayed.problem(), "400 bad_time");
            let order = w.unfreeze(&patient, of);
            assert_eq!(w.send(Method::DELETE, &path, &patient.user, &order).await.status, 204);
        }
    }
}

#[tokio::test]
async fn scope_is_what_is_read_and_nothing_else() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let sensitive =
        hbc_types::wire::access::Labels { category: Category::Laboratory, sensitivity: Sensitivity::Hiv };
    let all = [labels(Category::Laboratory), labels(Category::Condition), sensitive];
    let written = w.write(&patient.user, &patient.id, &all).await;
    w.grant(&patient, &doctor, w.scope()).await;
    let read = w.read(&doctor.user, &written).await;
    assert_eq!(read.keys.len(), 1);
    let numbers = w.numbers(&doctor.user, &written).await;
    assert_eq!(numbers.sets.len(), 1, "no word about what may not be read");
    let payment = w.try_read(&doctor.user, &written, Purpose::Payment).await;
    let payment: hbc_types::wire::access::Unwrapped = payment.ok();
    assert!(payment.keys.is_empty());
    assert_eq!(payment.rule.as_deref(), Some("purpose-not-granted"));
    w.clock.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(w.read(&doctor.user, &written).await.rule.as_deref(), Some("outside-period"));
}

#[tokio::test]
async fn a_grant_without_future_records_ends_at_the_numbers_it_saw() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let old = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        w.clock.advance(Duration::from_secs(1));
        w.grant(&patient, &doctor, Scope { future_records: false, ..w.scope() }).await;
        assert_eq!(w.read(&doctor.user, &old).await.keys.len(), 1);
        w.clock.advance(Duration::from_secs(1));
        let mut new = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        assert!(w.read(&doctor.user, &new).await.keys.is_empty());
        // A date changed by hand in storage does not help: the number tells.
        new.at = old.at;
        let denied = w.read(&doctor.user, &new).await;
        assert!(denied.keys.is_empty());
        assert_eq!(denied.rule.as_deref(), Some("later-record"));
    }
}

#[tokio::test]
async fn grants_to_an_organisation_cover_its_active_staff() {
    let w = world().await;
    let patient = w.patient().await;
    let hospital = w.agency(AgencyType::Hospital).await;
    let staff = w.agency_of(AgencyType::Doctor, Standing::Active, Some(&hospital.id)).await;
    let stranger = w.agency(AgencyType::Doctor).await;
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    w.grant(&patient, &hospital, w.scope()).await;
    assert_eq!(w.read(&staff.user, &written).await.keys.len(), 1);
    assert_eq!(w.read(&hospital.user, &written).await.keys.len(), 1);
    assert!(w.read(&stranger.user, &written).await.keys.is_empty());
    let page: GrantPage = w.get("/v1/grants", &staff.user).await.ok();
    assert_eq!(page.items.len(), 1);
    // The hospital is suspended: its grant covers nobody any more.
    let suspended =
        Subject { revision: 2, ..subject(Role::Agency, Standing::Suspended, Some(AgencyType::Hospital)) };
    w.subject(&hospital.user.account, &suspended).await;
    assert!(w.read(&staff.user, &written).await.keys.is_empty());
}

#[tokio::test]
async fn writing_needs_the_write_action_and_governments_never_read() {
    let w = world().await;
    let patient = w.patient().await;
    let (doctor, ministry) = (w.agency(AgencyType::Doctor).await, w.agency(AgencyType::Government).await);
    let items = [labels(Category::Laboratory)];
    let path = "/internal/v1/keys/data-keys";
    let request = w.data_keys_request(&doctor.user, &patient.id, &items);
    assert_eq!(w.storage(path, Some(&doctor.user), &request).await.problem(), "404 not_found");
    w.grant(&patient, &doctor, w.scope()).await;
    let denied = w.storage(path, Some(&doctor.user), &request).await;
    assert_eq!(denied.problem(), "403 denied write-not-granted");
    let both = Scope { actions: vec![Action::Read, Action::Write], ..w.scope() };
    w.grant(&patient, &doctor, both).await;
    let written = w.write(&doctor.user, &patient.id, &items).await;
    assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);
    let official = w.agency_of(AgencyType::Doctor, Standing::Active, Some(&ministry.id)).await;
    for reader in [&ministry, &official] {
        let all = Scope { actions: vec![Action::Read, Action::Answer], ..w.scope() };
        let draft = w.post("/v1/grants", &patient.user, &w.new_grant(reader, all.clone())).await;
        assert_eq!(draft.problem(), "422 invalid_input", "a draft that no decision would keep");
        let ask = serde_json::json!({"patient": patient.id, "scope": all});
        assert_eq!(w.post("/v1/access-requests", &reader.user, &ask).await.problem(), "422 invalid_input");
    }
    // A member who joined after the grant reads no more either: the grant is to the doctor, the reader of a ministry.
    let late = w.agency(AgencyType::Doctor).await;
    w.grant(&patient, &late, w.scope()).await;
    assert_eq!(w.read(&late.user, &written).await.keys.len(), 1);
    w.join(&late, &ministry).await;
    let refused = w.read(&late.user, &written).await;
    assert_eq!((refused.keys.len(), refused.rule.as_deref()), (0, Some("government-never-reads")));
    // Answers are what governments are given.
    let answers = Scope { actions: vec![Action::Answer], ..w.scope() };
    w.grant(&patient, &ministry, answers).await;
    let refused = w.read(&official.user, &written).await;
    assert_eq!(refused.rule.as_deref(), Some("government-never-reads"));
}

#[tokio::test]
async fn the_root_and_the_evidence_are_for_both_sides_only() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let stranger = w.agency(AgencyType::Doctor).await;
    let path = format!("/v1/patients/{}/root", patient.id);
    assert_eq!(w.get(&path, &doctor.user).await.problem(), "404 not_found");
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    let root: RootView = w.get(&path, &doctor.user).await.ok();
    assert_eq!(root.root_fingerprint, PublicKey::of(&patient.root).kid());
    assert_eq!(w.get(&path, &stranger.user).await.problem(), "404 not_found");
    let evidence = grant.evidence.unwrap();
    let salt: [u8; 32] = evidence.salt.to_array().unwrap();
    let commitment = hbc_types::hash::consent_body(&salt, evidence.body.as_bytes());
    let event = tx::Tx::parse(evidence.jws.as_bytes()).unwrap();
    let hbc_chain::payload::Payload::Grant(consent) = event.payload() else { panic!("not a grant") };
    assert_eq!(consent.commitment, commitment);
    let path = format!("/v1/grants/{}", grant.id);
    assert_eq!(w.get(&path, &stranger.user).await.problem(), "404 not_found");
    assert_eq!(w.get(&path, &doctor.user).await.status, 200);
}

#[tokio::test]
async fn scopes_that_make_no_sense_are_refused_by_field() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let pending = w.agency_of(AgencyType::Doctor, Standing::Pending, None).await;
    let mut bad = w.new_grant(&doctor, w.scope());
    bad.scope.actions.clear();
    assert_eq!(w.post("/v1/grants", &patient.user, &bad).await.problem(), "422 invalid_input");
    let mut bad = w.new_grant(&doctor, w.scope());
    bad.scope.until = Timestamp::from_ms(1);
    assert_eq!(w.post("/v1/grants", &patient.user, &bad).await.problem(), "422 invalid_input");
    let bad = w.new_grant(&pending, w.scope());
    assert_eq!(w.post("/v1/grants", &patient.user, &bad).await.problem(), "422 invalid_input");
}

#[tokio::test]
async fn a_refused_grant_leaves_its_place_to_the_next() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let view = w.sign(&patient, &doctor, w.scope()).await;
    let outcome = hbc_types::outbox::SubmitOutcome::Refused {
        txid: view.txid.unwrap(),
        reason: "rule_violation".to_owned(),
        excluded_by: None,
    };
    w.journal().record(vec![outcome]).await.unwrap();
    let refused: GrantView = w.get(&format!("/v1/grants/{}", view.id), &patient.user).await.ok();
    assert_eq!(refused.state.code(), "refused");
    let next = w.sign(&patient, &doctor, w.scope()).await;
    assert_eq!(next.state.code(), "pending");
    // The chain is the truth: if the refused one stands in a block after all, it takes effect, and the other one
    // cannot.
    w.finalise(&[&view.evidence.unwrap().jws]).await;
    let revived: GrantView = w.get(&format!("/v1/grants/{}", view.id), &patient.user).await.ok();
    assert_eq!(revived.state.code(), "active");
    let last = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
    assert_eq!((&last.payload["seq"], &last.payload["prev"]), (&2.into(), &serde_json::json!(view.txid)));
}

#[tokio::test]
async fn a_patient_with_keys_of_their_own_names_and_certifies_them() {
    let w = world().await;
    let (patient, doctor) = (w.patient_with(Custody::Client).await, w.agency(AgencyType::Doctor).await);
    let mut new = w.new_grant(&doctor, w.scope());
    assert_eq!(w.post("/v1/grants", &patient.user, &new).await.problem(), "422 invalid_input");
    let key = w.consent_key(&patient, &doctor.id);
    let kid = PublicKey::of(&key).kid();
    new.key = Some(kid);
    assert_eq!(w.post("/v1/grants", &patient.user, &new).await.problem(), "422 invalid_input");
    let certificate = w.certificate(&patient, doctor.id.as_str(), kid);
    let stranger = w.patient_with(Custody::Client).await;
    new.certificate = Some(w.certificate(&stranger, doctor.id.as_str(), kid));
    assert_eq!(w.post("/v1/grants", &patient.user, &new).await.problem(), "401 bad_signature");
    new.certificate = Some(certificate);
    let draft = w.draft(&patient, &new).await;
    assert_eq!(
        (&draft.payload["key"], &draft.payload["custody"]),
        (&serde_json::json!(kid), &"client".into())
    );
    let other_key = w.signature(&patient, &draft, &w.consent_key(&stranger, &doctor.id));
    assert_eq!(w.put_signature(&patient, &draft.id, &other_key).await.problem(), "409 conflict");
    let signature = w.signature(&patient, &draft, &key);
    assert_eq!(w.put_signature(&patient, &draft.id, &signature).await.status, 200);
    w.finalise(&[&signature.jws]).await;
    // From then on the key is known.
    let next = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
    assert_eq!((&next.payload["key"], &next.payload["seq"]), (&serde_json::json!(kid), &2.into()));
    // Who leaves their keys with auth names none.
    let keyless = w.patient().await;
    assert_eq!(w.post("/v1/grants", &keyless.user, &new).await.problem(), "422 invalid_input");
}

#[tokio::test]
async fn the_end_of_a_key_ends_its_grants() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    let key = w.consent_key(&patient, &doctor.id);
    assert_eq!(grant.key, Some(PublicKey::of(&key).kid()));
    w.finalise(&[&w.end_of_key(&key)]).await;
    assert!(w.read(&doctor.user, &written).await.keys.is_empty());
    let view: GrantView = w.get(&format!("/v1/grants/{}", grant.id), &patient.user).await.ok();
    assert_eq!(view.state.code(), "revoked");
    // The next draft waits for a new key.
    let next = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
    assert_eq!((next.payload.get("key"), &next.payload["seq"]), (None, &1.into()));
    let old = w.signature(&patient, &next, &w.consent_key(&patient, &doctor.id));
    assert_eq!(w.put_signature(&patient, &next.id, &old).await.problem(), "409 conflict");
}

/// A token that somebody found stops nobody's treatment where the patient has a second factor.
#[tokio::test]
async fn a_freeze_asks_for_the_second_factor_of_who_has_one() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    let now = w.now().seconds();
    let way = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (plain, with_code, passkey, program) = (way("pwd"), way("pwd otp"), way("hwk user"), way("swk"));
    for path in ["/v1/me/freeze".to_owned(), format!("/v1/grants/{}/freeze", grant.id)] {
        for (second_factor, amr, auth_time, served) in [
            (true, &plain, now, false),
            (true, &with_code, now - 601, false),
            (true, &with_code, now - 600, true),
            (true, &passkey, now - 601, false),
            (true, &passkey, now - 600, true),
            (true, &program, now, false),
            (false, &plain, now - 3_600, true),
        ] {
            let claims = patient.user.claims(w.now(), &w.random);
            let claims = AccessClaims { second_factor, amr: amr.clone(), auth_time, ..claims };
            let reply = w.put_with(&path, &patient.user, &claims).await;
            if served {
                assert_eq!(reply.status, 200, "{}", reply.said());
            } else {
                assert_eq!(reply.problem(), "401 step_up");
                assert!(reply.header("www-authenticate").contains("insufficient_user_authentication"));
            }
        }
    }
}
