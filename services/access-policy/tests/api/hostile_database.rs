//! Rows changed by hand: everything about them is denied.

use hbc_chain::certificate::Limits;
use hbc_types::account::{AgencyType, Custody, Standing};
use hbc_types::keys::PublicKey;
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::{AccessPage, AlterationOpening, FreezeView, GrantSignature, GrantView, Scope};

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
                let changes = hbc_access_policy::testing::Changes::default();
                let now = this.clock.now();
                hbc_access_policy::testing::commit(db, &this.protection, rights, (&changes, now)).await?;
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
    // No MAC can tell: every row is one that this service wrote. The journal can.
    let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
    assert_eq!(read.problem(), INTEGRITY);
    assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 1);
    assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
    assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 0);
    // What else was forgotten nobody knows: everything of the patient's is frozen, and only the root key lifts that.
    assert_eq!(w.read(&s.patient.user, &s.written).await.keys.len(), 1);
    let frozen: FreezeView = w.get("/v1/me/freeze", &s.patient.user).await.ok();
    assert_eq!(frozen.grant, None);
    let order = w.unfreeze(&s.patient, None);
    let lifted = w.send(reqwest::Method::DELETE, "/v1/me/freeze", &s.patient.user, &order).await;
    assert_eq!(lifted.status, 204, "{:?}", lifted.body);
    let again = w.grant(&s.patient, &s.doctor, w.scope()).await;
    assert_ne!(again.id, s.grant.id);
    assert_eq!(w.read(&s.doctor.user, &s.written).await.keys.len(), 1);
}

/// Statements that make the database undo what is written to it, engine by engine.
fn undoing(w: &World) -> Vec<&'static str> {
    if w.is_postgres() {
        vec![
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
            "CREATE TRIGGER keep BEFORE UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION keep()",
            "CREATE TRIGGER keep BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION keep()",
            "CREATE TRIGGER keep BEFORE UPDATE ON subjects FOR EACH ROW EXECUTE FUNCTION keep()",
            "CREATE TRIGGER keep BEFORE UPDATE ON session_denials FOR EACH ROW EXECUTE FUNCTION keep()",
        ]
    } else {
        vec![
            "CREATE TRIGGER keep_grant AFTER UPDATE ON grants BEGIN UPDATE grants SET ended_at_ms = OLD.ended_at_ms,
                 revoked_at_ms = OLD.revoked_at_ms, revoked_by = OLD.revoked_by, frozen_at_ms = OLD.frozen_at_ms,
                 ended_mac = OLD.ended_mac WHERE id = OLD.id; END",
            "CREATE TRIGGER keep_patient AFTER UPDATE ON patients BEGIN UPDATE patients SET
                 consent_version = OLD.consent_version, kek_epoch = OLD.kek_epoch, frozen_at_ms = OLD.frozen_at_ms,
                 mac = OLD.mac WHERE id = OLD.id; END",
            "CREATE TRIGGER keep_subject AFTER UPDATE ON subjects BEGIN UPDATE subjects SET standing = OLD.standing,
                 revision = OLD.revision, denied_at_ms = OLD.denied_at_ms, denied_until_ms = OLD.denied_until_ms,
                 updated_at_ms = OLD.updated_at_ms, mac = OLD.mac WHERE id = OLD.id; END",
            "CREATE TRIGGER keep_sessions AFTER UPDATE ON session_denials BEGIN UPDATE session_denials
                 SET sessions = OLD.sessions, mac = OLD.mac WHERE bucket = OLD.bucket; END",
        ]
    }
}

#[tokio::test]
async fn a_hostile_database_cannot_undo_what_was_answered() {
    for stop in ["revoke", "freeze", "freeze all", "deny", "end session", "suspend"] {
        for w in worlds().await {
            let s = scene(&w).await;
            for statement in undoing(&w) {
                w.by_hand(statement).await;
            }
            let grant = &s.grant.id;
            match stop {
                "revoke" => assert_eq!(w.revoke(&s.patient, &s.doctor, grant).await.status, 200),
                "freeze" => {
                    let path = format!("/v1/grants/{grant}/freeze");
                    assert_eq!(w.put(&path, &s.patient.user).await.status, 200);
                }
                "freeze all" => assert_eq!(w.put("/v1/me/freeze", &s.patient.user).await.status, 200),
                "deny" => w.deny("subject", s.doctor.id.as_str()).await,
                "end session" => w.deny("session", s.doctor.user.session.as_str()).await,
                _ => w.suspend(&s.doctor).await,
            }
            let told = if stop == "end session" { "403 suspended" } else { INTEGRITY };
            for _moment in 0..2 {
                let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
                assert_eq!(read.problem(), told, "{stop}");
                let listed = w.decide(&s.doctor.user, &s.patient.id, Purpose::Treatment).await;
                assert_eq!(listed.problem(), told, "{stop}");
            }
        }
    }
}

/// A change may be committed between the beginning of a transaction and its reading of the row.
#[tokio::test]
async fn rights_that_change_while_they_are_read_are_read_again_once() {
    for set_back in [false, true] {
        for w in worlds().await {
            let s = scene(&w).await;
            if set_back {
                for statement in undoing(&w) {
                    w.by_hand(statement).await;
                }
            }
            let attempts = std::sync::atomic::AtomicUsize::new(0);
            let reading = w.app.read(async |tx| {
                // From here on the transaction sees this state.
                sqlx::query("SELECT id FROM patients").fetch_all(&mut *tx).await?;
                if attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                    assert_eq!(w.revoke(&s.patient, &s.doctor, &s.grant.id).await.status, 200);
                }
                hbc_access_policy::testing::rights(tx, &w.app.protection, &s.patient.id).await
            });
            match reading.await {
                Ok(rights) => assert!(!set_back && rights.unwrap().grants.is_empty()),
                Err(error) => assert!(set_back && error.is_tampering(), "{error}"),
            }
            assert_eq!(attempts.into_inner(), 2);
        }
    }
}

#[tokio::test]
async fn a_grant_that_ended_does_not_come_back_by_an_edit_and_a_block() {
    for w in worlds().await {
        let s = scene(&w).await;
        // As if it had never been final: the block of its own consent would make it live again.
        assert_eq!(w.revoke(&s.patient, &s.doctor, &s.grant.id).await.status, 200);
        w.by_hand("UPDATE grants SET refused = 'expired', final_height = NULL, revoked_at_ms = NULL, revoked_by = NULL")
            .await;
        let block = w.finalise(&[&s.grant.evidence.as_ref().unwrap().jws]).await;
        hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap();
        assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
    }
}

/// What the ledger says of a grant holds here, also where the consent never came this way.
#[tokio::test]
async fn an_altered_grant_stands_still() {
    let w = crate::world::world().await;
    let s = scene(&w).await;
    let alteration = w.alteration(&s.patient, &s.doctor, &s.grant);
    let block = w.finalise(&[&alteration]).await;
    let read = w.read(&s.doctor.user, &s.written).await;
    assert_eq!((read.keys.len(), read.rule.as_deref()), (0, Some("grant-altered")));
    let view: hbc_types::wire::access::GrantView =
        w.get(&format!("/v1/grants/{}", s.grant.id), &s.patient.user).await.ok();
    assert_eq!(view.state, hbc_types::wire::access::GrantState::Altered);
    assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 0);
    // The key's next event continues after it: another grant can be given, this one revoked.
    let again = w.grant(&s.patient, &s.doctor, w.scope()).await;
    assert_eq!(w.read(&s.doctor.user, &s.written).await.keys.len(), 1);
    assert_eq!(w.revoke(&s.patient, &s.doctor, &s.grant.id).await.status, 200);
    assert_eq!(w.revoke(&s.patient, &s.doctor, &again.id).await.status, 200);
    assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
}

/// A key that is another one, though of the right form, is told at the start and not by everything that fails.
#[tokio::test]
async fn other_keys_than_the_first_start_nothing() {
    for w in worlds().await {
        let refusals = [
            w.refused_with(|config, other| config.master_key_file = other).await,
            w.refused_with(|config, other| config.rows_key_file = other).await,
        ];
        for refused in refusals {
            assert!(refused.contains("other.key") && refused.contains("not the key with which"), "{refused}");
        }
    }
}

/// Who shows what the alteration says gets exactly that: no more than its key's certificate allows, and nothing of before.
#[tokio::test]
async fn an_alteration_counts_once_its_body_is_shown() {
    for w in crate::world::worlds().await {
        let s = scene(&w).await;
        let (patient, doctor, id) = (&s.patient, &s.doctor, &s.grant.id);
        let view = async || -> GrantView { w.get(&format!("/v1/grants/{id}"), &patient.user).await.ok() };
        let conditions = w.write(&patient.user, &patient.id, &[labels(Category::Condition)]).await;
        let reads = async |written: &Written| w.read(&doctor.user, written).await.keys.len();
        assert_eq!((reads(&s.written).await, reads(&conditions).await), (1, 0));
        let scope = Scope { categories: vec![Category::Condition], ..w.scope() };
        let opening = w.alteration_to(patient, doctor, &view().await, scope.clone());
        assert_eq!(
            w.open_alteration(patient, id, &opening).await.problem(),
            "409 conflict",
            "the ledger has none"
        );
        let block = w.finalise(&[&opening.jws]).await;
        assert_eq!((reads(&s.written).await, reads(&conditions).await), (0, 0));
        let wrong = [
            AlterationOpening { body: opening.body.replace("condition", "imaging"), ..opening.clone() },
            AlterationOpening { salt: [7; 32].as_slice().into(), ..opening.clone() },
            AlterationOpening { salt: [7; 31].as_slice().into(), ..opening.clone() },
        ];
        for wrong in &wrong {
            assert_eq!(w.open_alteration(patient, id, wrong).await.problem(), "422 invalid_input");
        }
        let other = w.patient().await;
        assert_eq!(w.open_alteration(&other, id, &opening).await.problem(), "404 not_found");
        for _again in 0..2 {
            let opened: GrantView = w.open_alteration(patient, id, &opening).await.ok();
            assert_eq!((opened.state.code(), &opened.scope), ("active", &scope));
        }
        assert_eq!((reads(&s.written).await, reads(&conditions).await), (0, 1));
        // What came before it changes nothing any more, and neither does it again.
        let first = s.grant.evidence.as_ref().unwrap().jws.clone();
        assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 0);
        w.finalise(&[&first]).await;
        w.finalise(&[&opening.jws]).await;
        assert_eq!((reads(&s.written).await, reads(&conditions).await), (0, 1));
        // A second one, of which only the second counts; then the end.
        let wider = Scope { categories: vec![Category::Condition, Category::Laboratory], ..scope.clone() };
        let next = w.alteration_to(patient, doctor, &view().await, wider);
        w.finalise(&[&next.jws]).await;
        assert_eq!(reads(&conditions).await, 0);
        assert_eq!(w.open_alteration(patient, id, &opening).await.problem(), "409 conflict");
        assert_eq!(w.open_alteration(patient, id, &next).await.status, 200);
        assert_eq!((reads(&s.written).await, reads(&conditions).await), (1, 1));
        assert_eq!(w.revoke(patient, doctor, id).await.status, 200);
        assert_eq!((reads(&s.written).await, reads(&conditions).await), (0, 0));
        let shown: GrantView = w.open_alteration(patient, id, &next).await.ok();
        assert_eq!(shown.state.code(), "revoked", "showing it again changes nothing");
    }
}

/// An alteration beyond the limits of the key's certificate opens nothing.
#[tokio::test]
async fn an_alteration_keeps_within_the_certificate() {
    let w = crate::world::world().await;
    let (patient, doctor) = (w.patient_with(Custody::Client).await, w.agency(AgencyType::Doctor).await);
    let key = w.consent_key(&patient, &doctor.id);
    let limits =
        Limits { categories: Some(vec![Category::Laboratory, Category::VitalSigns]), ..Limits::default() };
    let certificate = w.certificate_within(&patient, doctor.id.as_str(), PublicKey::of(&key).kid(), limits);
    let mut new = w.new_grant(&doctor, w.scope());
    (new.key, new.certificate) = (Some(PublicKey::of(&key).kid()), Some(certificate.clone()));
    let draft = w.draft(&patient, &new).await;
    let signature = GrantSignature { certificate, ..w.signature(&patient, &draft, &key) };
    let view: GrantView = w.put_signature(&patient, &draft.id, &signature).await.ok();
    w.finalise(&[&view.evidence.as_ref().unwrap().jws]).await;
    let wider = Scope { categories: vec![Category::Condition], ..w.scope() };
    let opening = w.alteration_to(&patient, &doctor, &view, wider);
    w.finalise(&[&opening.jws]).await;
    assert_eq!(w.open_alteration(&patient, &draft.id, &opening).await.problem(), "401 bad_signature");
    let view: GrantView = w.get(&format!("/v1/grants/{}", draft.id), &patient.user).await.ok();
    assert_eq!(view.state.code(), "altered");
}
