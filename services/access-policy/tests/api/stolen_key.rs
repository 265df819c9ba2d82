//! What a service's key alone can make anybody believe: nothing that opens a record.

use std::time::Duration;

use hbc_chain::payload::{AffiliationStatus, StaffStatus};
use hbc_types::account::{AgencyType, Role, Standing};
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::{AccessKind, AccessPage, Subject};
use reqwest::Method;

use crate::world::{AgencyUser, User, World, labels, purpose_of, subject, worlds};

async fn put(w: &World, agency: &AgencyUser, told: &Subject) -> String {
    let path = format!("/internal/v1/subjects/{}", agency.user.account);
    let answer = w.auth(Method::PUT, &path, told).await;
    if answer.status == 204 { "204".to_owned() } else { answer.problem() }
}

#[tokio::test]
async fn auths_key_alone_makes_nobody_active() {
    for w in worlds().await {
        let patient = w.patient().await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let hospital = w.agency(AgencyType::Hospital).await;
        w.grant(&patient, &hospital, w.scope()).await;
        let thief = w.agency_of(AgencyType::Doctor, Standing::Pending, None).await;
        let read = async || w.try_read(&thief.user, &written, Purpose::Treatment).await;
        assert_eq!(read().await.problem(), "403 agency_unverified");
        let doctor = AgencyType::Doctor;
        let honest = w.told(&thief, doctor, None, 9);
        let joined = w.told(&thief, doctor, Some(&hospital.id), 9);
        let real = w.told(&hospital, AgencyType::Hospital, None, 9);
        let forged = [
            // By auth's word alone.
            Subject { revision: 9, ..subject(Role::Agency, Standing::Active, Some(doctor)) },
            // With a profile that nobody voted for.
            honest.clone(),
            joined.clone(),
            // With somebody else's key, and their profile.
            Subject { staff_key: real.staff_key, ..honest.clone() },
            Subject { staff_key: real.staff_key, profile: real.profile.clone(), ..honest.clone() },
            // With a profile that says something else than auth.
            Subject { name: Some("Dr. Nobody".to_owned()), ..honest.clone() },
            Subject { agency_type: Some(AgencyType::Hospital), ..honest.clone() },
        ];
        for told in &forged {
            let answer = put(&w, &thief, told).await;
            assert!(["409 conflict", "422 invalid_input"].contains(&answer.as_str()), "{answer}");
            assert_eq!(read().await.problem(), "403 agency_unverified");
        }
        // Half of the votes: auth's own, and then an operator's for something else.
        let [by_auth, by_operator] = w.votes(&thief, doctor, (0, StaffStatus::Active));
        let [_, for_another] = w.votes(&thief, AgencyType::Laboratory, (0, StaffStatus::Active));
        w.finalise(&[&by_auth, &for_another]).await;
        assert_eq!(put(&w, &thief, &joined).await, "409 conflict");
        assert_eq!(read().await.problem(), "403 agency_unverified");
        // An operator who approves makes the doctor one, but nobody's member.
        w.finalise(&[&by_operator]).await;
        assert_eq!(put(&w, &thief, &joined).await, "204");
        assert!(w.read(&thief.user, &written).await.keys.is_empty());
    }
}

/// Nobody but the organisation takes somebody in, and either may end it; no database brings it back.
#[tokio::test]
async fn a_member_of_an_organisation_is_whom_it_took_in() {
    for w in worlds().await {
        let patient = w.patient().await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let (hospital, other) = (w.agency(AgencyType::Hospital).await, w.agency(AgencyType::Hospital).await);
        w.grant(&patient, &hospital, w.scope()).await;
        let doctor = w.agency(AgencyType::Doctor).await;
        let reads = async || w.read(&doctor.user, &written).await.keys.len();
        let says = w.told(&doctor, AgencyType::Doctor, Some(&hospital.id), 2);
        assert_eq!(put(&w, &doctor, &says).await, "204");
        assert_eq!(reads().await, 0, "auth says so alone");
        w.affiliate(&other.id, &doctor.id, 0, AffiliationStatus::Active).await;
        assert_eq!(reads().await, 0, "another organisation says so");
        w.affiliate(&hospital.id, &doctor.id, 0, AffiliationStatus::Active).await;
        assert_eq!(reads().await, 1);
        w.by_hand("CREATE TABLE older AS SELECT * FROM affiliations").await;
        let ended = w.affiliation(&hospital.id, &doctor.id, 1, AffiliationStatus::Ended);
        let block = w.finalise(&[&ended]).await;
        assert_eq!(reads().await, 0);
        w.by_hand("DELETE FROM affiliations").await;
        w.by_hand("INSERT INTO affiliations SELECT * FROM older").await;
        let read = w.try_read(&doctor.user, &written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 denied integrity");
        assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 1);
        assert_eq!(reads().await, 0);
        w.by_hand("UPDATE affiliations SET status = 'active'").await;
        let read = w.try_read(&doctor.user, &written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 denied integrity");
        w.by_hand("DELETE FROM affiliations").await;
        assert_eq!(reads().await, 0, "a row that is gone gives nothing");
    }
}

#[tokio::test]
async fn an_operators_word_on_the_ledger_stops_an_agency_whatever_auth_says() {
    for w in worlds().await {
        let patient = w.patient().await;
        let doctor = w.agency(AgencyType::Doctor).await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        w.grant(&patient, &doctor, w.scope()).await;
        assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
        let [_, stop] = w.votes(&doctor, AgencyType::Doctor, (1, StaffStatus::Suspended));
        let block = w.finalise(&[&stop]).await;
        let told = w.told(&doctor, AgencyType::Doctor, None, 5);
        assert_eq!(put(&w, &doctor, &told).await, "204", "auth may say what it likes");
        let refused = w.try_read(&doctor.user, &written, Purpose::Treatment).await;
        assert_eq!(refused.problem(), "403 suspended");
        let draft = w.post("/v1/grants", &patient.user, &w.new_grant(&doctor, w.scope())).await;
        assert_eq!(draft.problem(), "422 invalid_input");
        assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 0);
        // A row set back to before is older than the journal.
        w.by_hand("UPDATE staff SET round = 1, status = 'active'").await;
        let refused = w.try_read(&doctor.user, &written, Purpose::Treatment).await;
        assert_eq!(refused.problem(), "403 denied integrity");
    }
}

/// auth's token key alone signs tokens that everybody believes, and access-policy was told of no such session.
#[tokio::test]
async fn auths_token_key_alone_opens_nothing() {
    for w in worlds().await {
        let patient = w.patient().await;
        let doctor = w.agency(AgencyType::Doctor).await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let grant = w.grant(&patient, &doctor, w.scope()).await;
        let operator = w.operator().await;
        assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
        for account in [&patient.user.account, &doctor.user.account, &operator.account] {
            let thief = w.forged(account).await;
            let purpose = purpose_of(&thief);
            let refused = "401 unauthenticated";
            assert_eq!(w.try_read(&thief, &written, purpose).await.problem(), refused);
            assert_eq!(w.decide(&thief, &patient.id, purpose).await.problem(), refused);
            let request = w.data_keys_request(&thief, &patient.id, &[labels(Category::Condition)]);
            let keys = w.storage("/internal/v1/keys/data-keys", Some(&thief), &request).await;
            assert_eq!(keys.problem(), refused);
            let writes = [labels(Category::Condition)];
            assert_eq!(w.admit(&thief, &patient.id, (&writes, &[]), false).await.problem(), refused);
            if !matches!(account, AccountId::Operator(_)) {
                assert_eq!(w.get(&format!("/v1/grants/{}", grant.id), &thief).await.problem(), refused);
            }
            // A session that somebody else opened does not help either.
            let others = User { session: doctor.user.session.clone(), ..thief.clone() };
            if others.account != doctor.user.account {
                assert_eq!(w.try_read(&others, &written, purpose).await.problem(), refused);
            }
        }
        let thief = w.forged(&patient.user.account).await;
        assert_eq!(w.get("/v1/me/accesses", &thief).await.problem(), "401 unauthenticated");
        assert_eq!(w.put("/v1/me/freeze", &thief).await.problem(), "401 unauthenticated");
        let log: AccessPage = w.get("/v1/me/accesses", &patient.user).await.ok();
        let denied = log.items.iter().filter(|item| item.receipt.rule == "session-not-open").count();
        assert!(denied >= 3, "the patient sees that somebody tried: {denied}");
        assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1, "the others go on");
    }
}

/// Whoever signs in as a patient, with auth's keys too, stands in the patient's log; a session's end is final.
#[tokio::test]
async fn a_session_is_known_from_its_beginning_to_its_end() {
    for w in worlds().await {
        let patient = w.patient().await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let second = w.user(patient.user.account.clone());
        for _again in 0..2 {
            assert_eq!(w.open_session(&second).await.status, 204);
        }
        assert_eq!(w.read(&second, &written).await.keys.len(), 1);
        let log: AccessPage = w.get("/v1/me/accesses", &patient.user).await.ok();
        let sign_ins: Vec<_> =
            log.items.iter().filter(|item| item.receipt.kind == AccessKind::Session).collect();
        assert_eq!(sign_ins.len(), 2, "one for each session, however often it is told");
        assert!(sign_ins.iter().all(|item| item.receipt.actor == patient.user.account));
        // Under the same id nobody else gets one.
        let other = w.patient().await;
        let taken = User { account: other.user.account.clone(), session: second.session.clone() };
        assert_eq!(w.open_session(&taken).await.problem(), "409 conflict");
        // The end holds, whatever is told afterwards, and when the news of the beginning comes last.
        w.deny("session", second.session.as_str()).await;
        let late = w.user(patient.user.account.clone());
        w.deny("session", late.session.as_str()).await;
        for ended in [&second, &late] {
            assert_eq!(w.open_session(ended).await.status, 204);
            let read = w.try_read(ended, &written, purpose_of(ended)).await;
            assert_eq!(read.problem(), "403 suspended");
        }
        // A patient without a key has no session yet.
        let unknown = w.user(AccountId::Patient(PatientId::random(&w.random)));
        assert_eq!(w.open_session(&unknown).await.problem(), "409 conflict");
        // A row made by hand is no session, and one that is gone opens nothing.
        let third = w.user(patient.user.account.clone());
        assert_eq!(w.open_session(&third).await.status, 204);
        w.by_hand("UPDATE sessions SET expires_at_ms = expires_at_ms + 1").await;
        let read = w.try_read(&third, &written, purpose_of(&third)).await;
        assert_eq!(read.problem(), "403 denied integrity");
        w.by_hand("UPDATE sessions SET expires_at_ms = expires_at_ms - 1").await;
        assert_eq!(w.read(&third, &written).await.keys.len(), 1);
        w.by_hand("DELETE FROM sessions").await;
        let read = w.try_read(&third, &written, purpose_of(&third)).await;
        assert_eq!(read.problem(), "401 unauthenticated");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    for w in worlds().await {
        let patient = w.patient().await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);
        w.clock.advance(Duration::from_secs(900 * 86_400 - 1));
        assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);
        w.clock.advance(Duration::from_secs(1));
        let over = || async { w.try_read(&patient.user, &written, Purpose::PatientRequest).await.problem() };
        assert_eq!(over().await, "401 unauthenticated");
        assert_eq!(w.by_hand("UPDATE sessions SET id = id").await, 1);
        hbc_access_policy::testing::sweep(&w.app).await.unwrap();
        assert_eq!(w.by_hand("UPDATE sessions SET id = id").await, 0, "and is forgotten");
        assert_eq!(over().await, "401 unauthenticated");
    }
}
