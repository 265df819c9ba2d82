//! An account that its owner closed: nothing of it counts any more, its log says so, and nothing brings it back.

use hbc_types::account::{AgencyType, Role, Standing};
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::{
    AccessKind, AccessPage, AccessRequestView, GrantView, NewAccessRequest, Subject,
};
use reqwest::Method;

use crate::world::{AgencyUser, PatientUser, User, World, Written, labels, subject, worlds};

struct Scene {
    patient: PatientUser,
    doctor: AgencyUser,
    grant: GrantView,
    written: Written,
}

async fn scene(w: &World) -> Scene {
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
    Scene { patient, doctor, grant, written }
}

/// auth says that a patient closed the account.
async fn close(w: &World, user: &User, revision: u64) {
    w.subject(&user.account, &Subject { revision, ..subject(Role::Patient, Standing::Closed, None) }).await;
}

/// The receipts that an auditor of the database finds: the patient asks no more.
async fn closings(w: &World, patient: &PatientUser) -> i64 {
    let sql = "SELECT CAST(count(*) AS BIGINT) FROM receipts WHERE patient = $1 AND body LIKE '%\"kind\":\"closed\"%'";
    sqlx::query_scalar(sql).bind(patient.id.as_str().to_owned()).fetch_one(w.app.db.reads()).await.unwrap()
}

async fn grant_of(w: &World, user: &User, view: &GrantView) -> GrantView {
    w.get(&format!("/v1/grants/{}", view.id), user).await.ok()
}

async fn ask(w: &World, doctor: &AgencyUser, patient: &PatientUser) -> hbc_testkit::http::Reply {
    let new = NewAccessRequest { patient: patient.id.clone(), scope: w.scope(), message: String::new() };
    w.post("/v1/access-requests", &doctor.user, &new).await
}

#[tokio::test]
async fn a_patient_who_closes_ends_all_grants_and_is_denied_for_ever() {
    for w in worlds().await {
        let s = scene(&w).await;
        let pending = w.sign(&s.patient, &s.doctor, w.scope()).await;
        let draft = w.draft(&s.patient, &w.new_grant(&s.doctor, w.scope())).await;
        let asked: AccessRequestView = ask(&w, &s.doctor, &s.patient).await.ok();
        close(&w, &s.patient.user, 2).await;

        // Nobody reads or writes, whoever asks.
        let read = w.read(&s.doctor.user, &s.written).await;
        assert!(read.keys.is_empty());
        let own = w.try_read(&s.patient.user, &s.written, Purpose::PatientRequest).await;
        assert_eq!(own.problem(), "403 suspended");
        let admitted =
            w.admit(&s.doctor.user, &s.patient.id, (&[labels(Category::Laboratory)], &[]), false).await;
        assert_eq!(admitted.problem(), "404 not_found");
        for path in ["/v1/grants", "/v1/me/accesses", "/v1/access-requests", "/v1/me/freeze"] {
            assert_eq!(w.get(path, &s.patient.user).await.problem(), "403 suspended", "{path}");
        }
        let signature = w.signature(&s.patient, &draft, &w.consent_key(&s.patient, &s.doctor.id));
        let signed = w.put_signature(&s.patient, &draft.id, &signature).await;
        assert_eq!(signed.problem(), "403 suspended");

        // The doctor sees that it is over, and asks nobody any more.
        assert_eq!(grant_of(&w, &s.doctor.user, &s.grant).await.state.code(), "revoked");
        let asked: AccessRequestView =
            w.get(&format!("/v1/access-requests/{}", asked.id), &s.doctor.user).await.ok();
        assert_eq!(asked.state.code(), "denied");
        assert_eq!(ask(&w, &s.doctor, &s.patient).await.problem(), "404 not_found");

        // A block that was under way brings nothing back; nor does anything that auth says later.
        w.finalise(&[&pending.evidence.as_ref().unwrap().jws]).await;
        assert_eq!(grant_of(&w, &s.doctor.user, &pending).await.state.code(), "revoked");
        for revision in [2, 3, 9] {
            let again = subject(Role::Patient, Standing::Active, None);
            w.subject(&s.patient.user.account, &Subject { revision, ..again }).await;
        }
        let lift = format!("/internal/v1/denials/subject/{}", s.patient.id);
        assert_eq!(w.auth(Method::DELETE, &lift, &()).await.status, 204);
        assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
        assert_eq!(w.get("/v1/grants", &s.patient.user).await.problem(), "403 suspended");

        // Told again, it was closed once; its log has it, and goes to the ledger with the others.
        close(&w, &s.patient.user, 10).await;
        assert_eq!(closings(&w, &s.patient).await, 1);
        let closed_at: Option<i64> = sqlx::query_scalar("SELECT closed_at_ms FROM subjects WHERE id = $1")
            .bind(s.patient.id.as_str().to_owned())
            .fetch_one(w.app.db.reads())
            .await
            .unwrap();
        assert_eq!(closed_at, Some(w.now().ms()));
    }
}

#[tokio::test]
async fn an_agency_that_closes_is_covered_by_no_grant_and_its_patients_see_it() {
    for w in worlds().await {
        let (s, member) = (scene(&w).await, w.agency(AgencyType::Doctor).await);
        w.join(&member, &s.doctor).await;
        assert_eq!(w.read(&member.user, &s.written).await.keys.len(), 1);
        let asked: AccessRequestView = ask(&w, &s.doctor, &s.patient).await.ok();
        assert_eq!(grant_of(&w, &s.patient.user, &s.grant).await.grantee_closed_at, None);
        let told = Subject { standing: Standing::Closed, ..w.told(&s.doctor, AgencyType::Doctor, None, 2) };
        w.subject(&s.doctor.user.account, &told).await;

        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 suspended");
        assert!(w.read(&member.user, &s.written).await.keys.is_empty(), "it acts for nobody");
        let view = grant_of(&w, &s.patient.user, &s.grant).await;
        assert_eq!((view.state.code(), view.grantee_closed_at), ("active", Some(w.now())));
        assert_eq!(view.grantee_name, "Dr. Example");
        let asked: AccessRequestView =
            w.get(&format!("/v1/access-requests/{}", asked.id), &s.patient.user).await.ok();
        assert_eq!(asked.state.code(), "withdrawn");
        let draft = w.post("/v1/grants", &s.patient.user, &w.new_grant(&s.doctor, w.scope())).await;
        assert_eq!(draft.status, 422, "nobody grants it anything any more");
        // Reinstated by whom it may be, it stays closed.
        w.subject(&s.doctor.user.account, &w.told(&s.doctor, AgencyType::Doctor, None, 3)).await;
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 suspended");
        // The patient is as before.
        assert_eq!(w.read(&s.patient.user, &s.written).await.keys.len(), 1);
        let log: AccessPage = w.get("/v1/me/accesses", &s.patient.user).await.ok();
        assert!(log.items.iter().all(|item| item.receipt.kind != AccessKind::Closed));
    }
}

/// Every row, MACs included, as it was before: the journal beside the database knows better.
#[tokio::test]
async fn rows_that_are_set_back_do_not_open_it_again() {
    for w in worlds().await {
        let s = scene(&w).await;
        for keep in [
            "CREATE TABLE older_subjects AS SELECT * FROM subjects",
            "CREATE TABLE older_grants AS SELECT * FROM grants",
            "CREATE TABLE older_patients AS SELECT * FROM patients",
        ] {
            w.by_hand(keep).await;
        }
        close(&w, &s.patient.user, 2).await;
        for back in [
            "DELETE FROM subjects",
            "INSERT INTO subjects SELECT * FROM older_subjects",
            "DELETE FROM grants",
            "INSERT INTO grants SELECT * FROM older_grants",
            "DELETE FROM patients",
            "INSERT INTO patients SELECT * FROM older_patients",
        ] {
            w.by_hand(back).await;
        }
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 denied integrity");
        let own = w.try_read(&s.patient.user, &s.written, Purpose::PatientRequest).await;
        assert_eq!(own.problem(), "403 denied integrity");
        // Whoever has auth's key as well has it written anew: closed is what it stays.
        let active = Subject { revision: 9, ..subject(Role::Patient, Standing::Active, None) };
        w.subject(&s.patient.user.account, &active).await;
        w.deny("subject", s.patient.id.as_str()).await;
        let lift = format!("/internal/v1/denials/subject/{}", s.patient.id);
        assert_eq!(w.auth(Method::DELETE, &lift, &()).await.status, 204);
        assert_eq!(w.get("/v1/access-requests", &s.patient.user).await.problem(), "403 suspended");
        // auth's own word, once more, ends what had come back.
        close(&w, &s.patient.user, 10).await;
        assert!(w.read(&s.doctor.user, &s.written).await.keys.is_empty());
    }
}

#[tokio::test]
async fn grants_of_another_hand_keep_no_account_open() {
    for w in worlds().await {
        let s = scene(&w).await;
        w.by_hand("UPDATE grants SET final_height = 99").await;
        close(&w, &s.patient.user, 2).await;
        assert_eq!(w.get("/v1/grants", &s.patient.user).await.problem(), "403 suspended");
        let read = w.try_read(&s.doctor.user, &s.written, Purpose::Treatment).await;
        assert_eq!(read.problem(), "403 denied integrity");
    }
}
