//! Rows changed by hand: everything about them is denied.

use hbc_types::account::{AgencyType, Standing};
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::AccessPage;

use crate::world::{World, Written, labels, worlds};

const INTEGRITY: &str = "403 denied integrity";

struct Scene {
    patient: crate::world::PatientUser,
    doctor: crate::world::AgencyUser,
    grant: hbc_types::wire::access::GrantView,
    written: Written,
}

async fn scene(w: &World) -> Scene {
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
    Scene { patient, doctor, grant, written }
}

#[tokio::test]
async fn a_hand_edited_row_denies_everybody_and_is_in_the_log() {
    let edits: &[&'static str] = &[
        "UPDATE grants SET scope = replace(scope, 'laboratory', 'condition')",
        "UPDATE grants SET scope = replace(scope, 'TREAT', 'HPAYMT')",
        "UPDATE grants SET final_height = 99",
        "UPDATE grants SET grantee = 'agy-00000000000000000000000000000001'",
        "UPDATE grants SET ended_at_ms = 1",
        "DELETE FROM grants",
        "UPDATE patients SET root_fingerprint = \
         '00000000000000000000000000000000000000000000000000000000000000aa' WHERE id <> 'dir'",
        "UPDATE patients SET consent_version = consent_version + 1 WHERE id <> 'dir'",
        "UPDATE patients SET kek_epoch = 9 WHERE id <> 'dir'",
        "UPDATE patients SET frozen_at_ms = 5 WHERE id <> 'dir'",
    ];
    for edit in edits {
        for w in worlds().await {
            let s = scene(&w).await;
            assert!(w.by_hand(edit).await > 0, "{edit}");
            for (user, purpose) in
                [(&s.doctor.user, Purpose::Treatment), (&s.patient.user, Purpose::PatientRequest)]
            {
                let read = w.try_read(user, &s.written, purpose).await;
                assert_eq!(read.problem(), INTEGRITY, "{edit}");
                assert_eq!(w.decide(user, &s.patient.id, purpose).await.problem(), INTEGRITY, "{edit}");
            }
            let page: AccessPage = w.get("/v1/me/accesses", &s.patient.user).await.ok();
            assert!(page.items.iter().any(|item| item.receipt.rule == "integrity"), "{edit}");
        }
    }
}

#[tokio::test]
async fn a_row_added_or_revived_by_hand_opens_nothing() {
    for w in worlds().await {
        let s = scene(&w).await;
        assert_eq!(w.revoke(&s.patient, &s.doctor, &s.grant.id).await.status, 200);
        w.by_hand("UPDATE grants SET ended_at_ms = NULL, revoked_at_ms = NULL, revoked_by = NULL").await;
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), INTEGRITY);
    }
    for w in worlds().await {
        let s = scene(&w).await;
        let added = w
            .by_hand(
                "INSERT INTO grants (id, patient, grantee, scope, body, salt, payload, custody, given_at_ms,
                     until_ms, draft_expires_at_ms, kid, seq, txid, signed_at_ms, numbers, final_height)
                 SELECT 'grt-00000000000000000000000000000009', patient, grantee, scope, body, salt, payload, custody,
                     given_at_ms, until_ms, draft_expires_at_ms, kid, 7, 'ff', signed_at_ms, numbers, final_height
                 FROM grants",
            )
            .await;
        assert_eq!(added, 1);
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), INTEGRITY);
    }
}

#[tokio::test]
async fn a_swapped_root_opens_no_key_even_under_a_right_mac() {
    // Somebody with the rows key, but not the master key: the wrap of every KEK is bound to the root that was pinned.
    let w = crate::world::world().await;
    let s = scene(&w).await;
    let this = w.app.clone();
    let patient = s.patient.id.clone();
    w.app
        .db
        .write(move |db| {
            Box::pin(async move {
                let mut rights =
                    hbc_access_policy::testing::rights(db, &this.protection, &patient).await?.unwrap();
                rights.pin.root_fingerprint = hbc_types::Digest::of(b"another root");
                let fingerprint = rights.pin.root_fingerprint.to_string();
                hbc_access_policy::testing::commit(db, &this.protection, rights).await?;
                sqlx::query("UPDATE patients SET root_fingerprint = $1 WHERE id = $2")
                    .bind(fingerprint)
                    .bind(patient.as_str().to_owned())
                    .execute(db)
                    .await?;
                Ok::<(), hbc_access_policy::testing::Error>(())
            })
        })
        .await
        .unwrap();
    let read = w.try_read(&s.patient.user, &s.written, Purpose::PatientRequest).await;
    assert_eq!(read.problem(), "502 integrity");
}

#[tokio::test]
async fn accounts_and_ended_sessions_cannot_be_restored_by_hand() {
    for w in worlds().await {
        let s = scene(&w).await;
        let pending = w.agency_of(AgencyType::Doctor, Standing::Pending, None).await;
        w.by_hand("UPDATE subjects SET standing = 'active'").await;
        let read = w.try_read(&pending.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), INTEGRITY);
    }
    for w in worlds().await {
        let s = scene(&w).await;
        w.deny("session", s.doctor.user.session.as_str()).await;
        let ended = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(ended.problem(), "403 suspended");
        w.by_hand("UPDATE session_denials SET sessions = ''").await;
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), INTEGRITY);
        w.by_hand("DELETE FROM session_denials").await;
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), INTEGRITY);
    }
    for w in worlds().await {
        let s = scene(&w).await;
        w.deny("subject", s.doctor.id.as_str()).await;
        w.by_hand("UPDATE subjects SET denied_at_ms = NULL").await;
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), INTEGRITY);
        w.by_hand("DELETE FROM subjects WHERE role = 'agency'").await;
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 suspended", "an account that nobody told of may do nothing");
    }
}

#[tokio::test]
async fn rows_set_back_to_an_older_state_of_theirs_are_found_by_the_chain() {
    let w = crate::world::world().await;
    let s = scene(&w).await;
    w.by_hand("CREATE TABLE older_grants AS SELECT * FROM grants").await;
    w.by_hand("CREATE TABLE older_patients AS SELECT * FROM patients").await;
    let revocation = w.revocation(&s.patient, &s.doctor, &s.grant.id);
    assert_eq!(w.revoke(&s.patient, &s.doctor, &s.grant.id).await.status, 200);
    let block = w.finalise(&[&revocation]).await;
    assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
    w.by_hand("DELETE FROM grants").await;
    w.by_hand("INSERT INTO grants SELECT * FROM older_grants").await;
    w.by_hand("DELETE FROM patients").await;
    w.by_hand("INSERT INTO patients SELECT * FROM older_patients").await;
    // No MAC can tell: every row is one that this service wrote.
    assert_eq!(w.read(&s.doctor.user, &s.written).await.keys.len(), 1);
    assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 1);
    assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
    assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 0);
}
