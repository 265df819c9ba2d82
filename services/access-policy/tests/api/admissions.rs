//! Leave to write, asked for before anything of an account is looked at.

use hbc_types::account::{AgencyType, Standing};
use hbc_types::ids::PatientId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::Action;
use hbc_types::wire::access::{AccessKind, AccessPage, Admission, Labels, ReceiptBody};

use crate::world::{User, World, labels, worlds};

const LAB: Labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };
const CONDITION: Labels = Labels { category: Category::Condition, sensitivity: Sensitivity::Normal };

async fn log(w: &World, patient: &User) -> Vec<ReceiptBody> {
    let page: AccessPage = w.get("/v1/me/accesses", patient).await.ok();
    page.items.into_iter().map(|item| item.receipt).collect()
}

#[tokio::test]
async fn who_may_not_write_is_refused_and_receipted_once() {
    for w in worlds().await {
        let patient = w.patient().await;
        let stranger = w.agency(AgencyType::Doctor).await;
        let pending = w.agency_of(AgencyType::Doctor, Standing::Pending, None).await;
        let suspended = w.agency_of(AgencyType::Doctor, Standing::Suspended, None).await;
        let ended = w.agency(AgencyType::Doctor).await;
        let reader = w.agency(AgencyType::Doctor).await;
        w.grant(&patient, &ended, w.scope()).await;
        w.grant(&patient, &reader, w.scope()).await;
        w.deny("session", ended.user.session.as_str()).await;
        let other = w.patient().await;
        let operator = w.operator().await;
        let before = log(&w, &patient.user).await.len();
        let wanted: (&[Labels], &[Labels]) = (&[LAB], &[]);
        let cases = [
            (&stranger.user, "404 not_found"),
            (&pending.user, "403 agency_unverified"),
            (&suspended.user, "403 suspended"),
            (&ended.user, "403 suspended"),
            (&other.user, "404 not_found"),
            (&operator, "404 not_found"),
            (&reader.user, "403 denied write-not-granted"),
        ];
        for (user, refusal) in cases {
            for _twice in 0..2 {
                assert_eq!(w.admit(user, &patient.id, wanted, false).await.problem(), refusal);
            }
            // Whether there is such a patient is told to nobody: how the caller stands comes first.
            let nobody = PatientId::random(&w.random);
            let told = w.admit(user, &nobody, wanted, false).await.problem();
            assert_eq!(told, if refusal.starts_with("403 denied") { "404 not_found" } else { refusal });
            let keys = w.data_keys_request(user, &nobody, &[LAB]);
            let keys = w.storage("/internal/v1/keys/data-keys", Some(user), &keys).await.problem();
            assert_eq!(keys, told);
        }
        let written: Vec<ReceiptBody> = log(&w, &patient.user).await;
        assert_eq!(written.len() - before, cases.len(), "one receipt for each who was refused");
        assert!(written[..cases.len()].iter().all(|receipt| receipt.kind == AccessKind::Denied));
    }
}

#[tokio::test]
async fn who_may_write_is_told_what_they_may_read_and_leaves_a_receipt_only_when_nothing_is_left() {
    for w in worlds().await {
        let patient = w.patient().await;
        let doctor = w.agency(AgencyType::Doctor).await;
        let mut scope = w.scope();
        scope.categories = vec![Category::Laboratory];
        scope.actions = vec![Action::Read, Action::Write];
        w.grant(&patient, &doctor, scope).await;
        let before = log(&w, &patient.user).await.len();
        let admission: Admission = w.admit(&doctor.user, &patient.id, (&[LAB], &[]), false).await.ok();
        let readable: Vec<Labels> = admission.readable.iter().map(|allowed| allowed.labels).collect();
        assert_eq!((readable, admission.receipt), (vec![LAB], None));
        assert_eq!(log(&w, &patient.user).await.len(), before);
        // What may exist already need only be readable; what is written must be writable.
        let refused = w.admit(&doctor.user, &patient.id, (&[LAB, CONDITION], &[]), false).await;
        assert_eq!(refused.problem(), "403 denied category-not-granted");
        let refused = w.admit(&doctor.user, &patient.id, (&[LAB], &[CONDITION]), false).await;
        assert_eq!(refused.problem(), "403 denied category-not-granted");
        let before = log(&w, &patient.user).await.len();
        let admission: Admission = w.admit(&doctor.user, &patient.id, (&[], &[LAB]), true).await.ok();
        let log = log(&w, &patient.user).await;
        assert_eq!(log.len(), before + 1);
        assert_eq!(Some(&log[0].id), admission.receipt.as_ref());
        assert_eq!((log[0].kind, log[0].records.len()), (AccessKind::List, 0));
    }
}

#[tokio::test]
async fn a_reader_is_admitted_to_what_may_exist_already() {
    for w in worlds().await {
        let patient = w.patient().await;
        let reader = w.agency(AgencyType::Doctor).await;
        w.grant(&patient, &reader, w.scope()).await;
        let admitted =
            w.admit(&reader.user, &patient.id, (&[], &[labels(Category::Laboratory)]), false).await;
        assert_eq!(admitted.status, 200);
        // Where nothing is written for certain, who has to do with the patient is told what they may look at, others nothing.
        let looks = w.admit(&reader.user, &patient.id, (&[], &[]), false).await;
        assert_eq!((looks.status, looks.body["readable"].as_array().map(Vec::len)), (200, Some(1)));
        let before = log(&w, &patient.user).await.len();
        w.admit(&reader.user, &patient.id, (&[], &[]), true).await;
        let after = log(&w, &patient.user).await;
        assert_eq!(
            (after.len(), after[0].kind),
            (before + 1, AccessKind::List),
            "what was looked at is receipted"
        );
        let stranger = w.agency(AgencyType::Doctor).await;
        assert_eq!(w.admit(&stranger.user, &patient.id, (&[], &[]), false).await.status, 404);
        assert_eq!(w.admit(&patient.user, &patient.id, (&[], &[]), false).await.status, 200);
    }
}

/// What the chart holds is passed over in silence; what the caller's own grants say is named.
#[tokio::test]
async fn a_sensitivity_that_no_grant_names_is_not_spoken_of() {
    for w in worlds().await {
        let patient = w.patient().await;
        let doctor = w.agency(AgencyType::Doctor).await;
        w.grant(&patient, &doctor, w.scope()).await;
        let hiv = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Hiv };
        let written = w.write(&patient.user, &patient.id, &[hiv]).await;
        let read = w.read(&doctor.user, &written).await;
        assert!(read.keys.is_empty() && !read.known);
        let denied = log(&w, &patient.user).await.into_iter().next().unwrap();
        assert_eq!((denied.kind, denied.rule.as_str()), (AccessKind::Denied, "sensitivity-not-granted"));
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Medication)]).await;
        let read = w.read(&doctor.user, &written).await;
        assert_eq!((read.known, read.rule.as_deref()), (true, Some("category-not-granted")));
    }
}
