//! A patient's root key is replaced: by whose word, what ends with it, and what goes on.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_chain::certificate::RootCertificate;
use hbc_chain::payload::{Order, OrderKind, Payload};
use hbc_chain::tx;
use hbc_testkit::chain::{OPERATOR, key};
use hbc_testkit::http::Reply;
use hbc_types::account::{AgencyType, Custody};
use hbc_types::ids::PatientId;
use hbc_types::keys::PublicKey;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::Purpose;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{GrantView, Labels, NewRootClaim, PinPatient, RootView};
use hbc_types::{Digest, hash};
use reqwest::Method;

use crate::world::{PatientUser, World, labels, world, worlds};

const PATIENTS: &str = "/internal/v1/patients";

fn raw(key: &SigningKey) -> Bytes {
    PublicKey::of(key).as_bytes().as_slice().into()
}

/// That these keys take the place of others.
fn certificate(w: &World, patient: &PatientId, root: &SigningKey, recovery: &SigningKey) -> RootCertificate {
    RootCertificate {
        chain: w.chain,
        iat: w.now().unsigned_ms(),
        patient: patient.clone(),
        recovery: PublicKey::of(recovery).kid(),
        root: PublicKey::of(root).kid(),
    }
}

/// What auth tells of it.
fn told(patient: &PatientId, root: &SigningKey, recovery: &SigningKey, certificate: String) -> PinPatient {
    PinPatient {
        patient: patient.clone(),
        root_public_key: raw(root),
        recovery_public_key: Some(raw(recovery)),
        custody: Custody::Passkey,
        certificate: Some(certificate),
    }
}

async fn pin(w: &World, pin: &PinPatient) -> Reply {
    w.auth(Method::POST, PATIENTS, pin).await
}

async fn root(w: &World, patient: &PatientUser) -> RootView {
    w.get(&format!("/v1/patients/{}/root", patient.id), &patient.user).await.ok()
}

#[tokio::test]
async fn with_another_root_key_every_consent_ends_and_the_records_stay_the_patients() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let sensitive = Labels { sensitivity: Sensitivity::Hiv, ..labels(Category::Laboratory) };
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory), sensitive]).await;
        let grant = w.grant(&patient, &doctor, w.scope()).await;
        let waiting = w.sign(&patient, &doctor, w.scope()).await;
        let drafted = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
        assert!(!w.read(&doctor.user, &written).await.keys.is_empty());

        let (next, recovery) = (w.signing_key(), w.signing_key());
        let word = certificate(&w, &patient.id, &next, &recovery).sign(&patient.root).unwrap();
        let telling = told(&patient.id, &next, &recovery, word.clone());
        w.clock.advance(Duration::from_secs(1));
        for _again in 0..2 {
            assert_eq!(pin(&w, &telling).await.status, 200);
        }
        assert!(w.read(&doctor.user, &written).await.keys.is_empty());
        for id in [&grant.id, &waiting.id] {
            let view: GrantView = w.get(&format!("/v1/grants/{id}"), &patient.user).await.ok();
            assert_eq!((view.state.code(), view.revoked_by), ("revoked", Some(Digest::of(word.as_bytes()))));
        }
        // That the ledger has them changes nothing.
        w.finalise(&[&waiting.evidence.as_ref().unwrap().jws]).await;
        w.finalise(&[&w.end_of_key(&w.consent_key(&patient, &doctor.id))]).await;
        assert!(w.read(&doctor.user, &written).await.keys.is_empty());
        let own = w.read(&patient.user, &written).await;
        for (read, made) in own.keys.iter().zip(&written.keys.keys) {
            assert_eq!(read.dek.expose(), made.dek.expose());
        }
        assert_eq!(own.keys.len(), 2);
        let again = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory), sensitive]).await;
        assert_eq!(w.read(&patient.user, &again).await.keys.len(), 2);

        let view = root(&w, &patient).await;
        assert_eq!((view.root_fingerprint, view.custody), (PublicKey::of(&next).kid(), Custody::Passkey));
        assert_eq!(view.recovery_fingerprint, Some(PublicKey::of(&recovery).kid()));
        let [before] = view.former.as_slice() else { panic!("{:?}", view.former) };
        assert_eq!(
            (&before.root_public_key, before.certificate.as_ref()),
            (&raw(&patient.root), Some(&word))
        );
        assert_eq!((before.custody, before.until), (Custody::Server, view.since));
        let unrelated = w.get(&format!("/v1/patients/{}/root", patient.id), &doctor.user).await;
        assert_eq!(unrelated.problem(), "404 not_found");

        // What the key of before certifies counts no more; what the new one does, counts.
        let late = w.signature(&patient, &drafted, &w.consent_key(&patient, &doctor.id));
        assert_eq!(w.put_signature(&patient, &drafted.id, &late).await.problem(), "401 bad_signature");
        let patient = PatientUser { root: next, ..patient };
        let mut new = w.new_grant(&doctor, w.scope());
        let key = w.consent_key(&patient, &doctor.id);
        let kid = PublicKey::of(&key).kid();
        (new.key, new.certificate) = (Some(kid), Some(w.certificate(&patient, doctor.id.as_str(), kid)));
        let draft = w.draft(&patient, &new).await;
        let view: GrantView =
            w.put_signature(&patient, &draft.id, &w.signature(&patient, &draft, &key)).await.ok();
        assert_eq!(view.custody, Custody::Passkey);
        w.finalise(&[&view.evidence.as_ref().unwrap().jws]).await;
        assert!(!w.read(&doctor.user, &written).await.keys.is_empty());
    }
}

/// Another recovery key or custody, with the same root key, ends nothing.
#[tokio::test]
async fn with_the_same_root_key_consents_go_on() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient_with(Custody::Client).await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let key = w.consent_key(&patient, &doctor.id);
        let kid = PublicKey::of(&key).kid();
        let mut new = w.new_grant(&doctor, w.scope());
        (new.key, new.certificate) = (Some(kid), Some(w.certificate(&patient, doctor.id.as_str(), kid)));
        let draft = w.draft(&patient, &new).await;
        let view: GrantView =
            w.put_signature(&patient, &draft.id, &w.signature(&patient, &draft, &key)).await.ok();
        w.finalise(&[&view.evidence.as_ref().unwrap().jws]).await;
        let recovery = w.signing_key();
        w.clock.advance(Duration::from_secs(1));
        let word = certificate(&w, &patient.id, &patient.root, &recovery).sign(&patient.root).unwrap();
        assert_eq!(pin(&w, &told(&patient.id, &patient.root, &recovery, word)).await.status, 200);
        assert_eq!(w.read(&doctor.user, &written).await.keys.len(), 1);
        assert_eq!(root(&w, &patient).await.custody, Custody::Passkey);
    }
}

#[tokio::test]
async fn a_recovery_key_names_the_next_root_and_no_certificate_counts_twice() {
    for w in worlds().await {
        let patient = w.patient().await;
        let [second, third, fourth, recovery] = [(); 4].map(|()| w.signing_key());
        let steps = [(&patient.root, &second), (&recovery, &third), (&third, &fourth)];
        let mut words = Vec::new();
        for (signer, next) in steps {
            w.clock.advance(Duration::from_secs(1));
            words.push(certificate(&w, &patient.id, next, &recovery).sign(signer).unwrap());
            let last = words.last().unwrap().clone();
            assert_eq!(pin(&w, &told(&patient.id, next, &recovery, last)).await.status, 200);
        }
        let former = root(&w, &patient).await.former;
        assert_eq!(
            former.iter().flat_map(|root| &root.certificate).collect::<Vec<_>>(),
            words.iter().collect::<Vec<_>>()
        );
        // The recovery key is still the same, and what it signed is of before.
        let twice = told(&patient.id, &third, &recovery, words[1].clone());
        assert_eq!(pin(&w, &twice).await.problem(), "400 bad_time");
        let first = told(&patient.id, &second, &recovery, words[0].clone());
        assert_eq!(pin(&w, &first).await.problem(), "401 bad_signature");
        assert_eq!(root(&w, &patient).await.root_fingerprint, PublicKey::of(&fourth).kid());
    }
}

#[tokio::test]
async fn nothing_else_brings_other_keys() {
    let w = world().await;
    let (patient, other) = (w.patient().await, w.patient().await);
    let [next, recovery] = [(); 2].map(|()| w.signing_key());
    w.clock.advance(Duration::from_secs(1));
    let good = certificate(&w, &patient.id, &next, &recovery);
    let by = |signer: &SigningKey, said: &RootCertificate| {
        told(&patient.id, &next, &recovery, said.sign(signer).unwrap())
    };
    let root = &patient.root;
    let bare = PinPatient { certificate: None, ..by(root, &good) };
    let same = PinPatient { recovery_public_key: Some(raw(&next)), ..by(root, &good) };
    let short = PinPatient { recovery_public_key: Some(Bytes::from([1; 31].as_slice())), ..by(root, &good) };
    let late = RootCertificate { iat: good.iat - 25 * 3_600_000, ..good.clone() };
    let cases = [
        (bare, "409 conflict"),
        (by(&other.root, &good), "401 bad_signature"),
        (by(&next, &good), "401 bad_signature"),
        (by(&recovery, &good), "401 bad_signature"),
        (by(root, &certificate(&w, &other.id, &next, &recovery)), "401 bad_signature"),
        (by(root, &certificate(&w, &patient.id, &recovery, &next)), "401 bad_signature"),
        (by(root, &certificate(&w, &patient.id, &next, &next)), "401 bad_signature"),
        (by(root, &RootCertificate { chain: Digest::of(b"other"), ..good.clone() }), "400 other_chain"),
        (by(root, &RootCertificate { iat: good.iat + 31_000, ..good.clone() }), "400 bad_time"),
        (by(root, &late), "400 bad_time"),
        (same, "422 invalid_input"),
        (short, "422 invalid_input"),
    ];
    for (n, (telling, wanted)) in cases.into_iter().enumerate() {
        assert_eq!(pin(&w, &telling).await.problem(), wanted, "case {n}");
    }
    assert_eq!(pin(&w, &by(root, &good)).await.status, 200);
}

/// Root on the database brings back the row with the root key of before, which somebody stole.
#[tokio::test]
async fn a_root_key_of_before_lifts_no_freeze() {
    let w = world().await;
    let patient = w.patient().await;
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    assert_eq!(w.put("/v1/me/freeze", &patient.user).await.status, 200);
    w.by_hand("CREATE TABLE older_patients AS SELECT * FROM patients").await;
    w.by_hand("CREATE TABLE older_keks AS SELECT * FROM keks").await;
    let [next, recovery] = [(); 2].map(|()| w.signing_key());
    w.clock.advance(Duration::from_secs(1));
    let word = certificate(&w, &patient.id, &next, &recovery).sign(&patient.root).unwrap();
    let telling = told(&patient.id, &next, &recovery, word);
    assert_eq!(pin(&w, &telling).await.status, 200);
    w.by_hand("DELETE FROM patients").await;
    w.by_hand("INSERT INTO patients SELECT * FROM older_patients").await;
    w.by_hand("DELETE FROM keks").await;
    w.by_hand("INSERT INTO keks SELECT * FROM older_keks").await;
    let order = w.unfreeze(&patient, None);
    let lifted = w.send(Method::DELETE, "/v1/me/freeze", &patient.user, &order).await;
    assert_eq!(lifted.problem(), "403 denied integrity");
    assert_eq!(
        w.try_read(&patient.user, &written, Purpose::PatientRequest).await.problem(),
        "403 denied integrity"
    );
    // Once auth tells it again, however late, the patient's key counts again, and all stands still until it lifts that.
    w.clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(pin(&w, &telling).await.status, 200);
    let patient = PatientUser { root: next, ..patient };
    let order = w.unfreeze(&patient, None);
    assert_eq!(w.send(Method::DELETE, "/v1/me/freeze", &patient.user, &order).await.status, 204);
    assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);
}

/// Nobody has the pinned keys: claimed ones act after three days of this service's own clock, once operators ordered it.
#[tokio::test]
async fn claimed_keys_wait_for_three_days_and_an_order() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient_with(Custody::Client).await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let [next, other] = [(); 2].map(|()| w.signing_key());
        let claim = claim_of(&next, 1);
        let path = format!("{PATIENTS}/{}/root-claim", patient.id);
        let id = patient.id.clone();
        let telling = |root: &SigningKey| PinPatient {
            patient: id.clone(),
            root_public_key: raw(root),
            recovery_public_key: None,
            custody: Custody::Client,
            certificate: None,
        };
        assert_eq!(pin(&w, &telling(&next)).await.problem(), "409 conflict");
        assert_eq!(w.auth(Method::PUT, &path, &claim).await.status, 204);
        w.clock.advance(Duration::from_secs(72 * 3_600 - 1));
        assert_eq!(w.auth(Method::PUT, &path, &claim).await.status, 204, "the same again waits on");
        let claimed = root(&w, &patient).await.claim.unwrap();
        assert_eq!(claimed.root_fingerprint, PublicKey::of(&next).kid());
        assert_eq!(claimed.acts_from, w.now().plus(Duration::from_secs(1)));
        w.finalise(&[&root_order(
            &w,
            hash::root_claim(id.as_str(), PublicKey::of(&next).as_bytes(), None, &[1; 32]),
        )])
        .await;
        assert_eq!(pin(&w, &telling(&next)).await.problem(), "409 conflict", "a second is missing");
        w.clock.advance(Duration::from_secs(1));
        assert_eq!(pin(&w, &telling(&other)).await.problem(), "409 conflict");
        assert_eq!(pin(&w, &telling(&next)).await.status, 200);
        let view = root(&w, &patient).await;
        assert_eq!((view.root_fingerprint, view.claim.is_none()), (claimed.root_fingerprint, true));
        assert!(view.former[0].certificate.is_none());
        let patient = PatientUser { root: next, ..patient };
        assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);
        assert!(w.read(&doctor.user, &written).await.keys.is_empty());
        // One that nobody ordered, one that was withdrawn, one that another hand made older.
        let claim = claim_of(&other, 2);
        assert_eq!(w.auth(Method::PUT, &path, &claim).await.status, 204);
        w.by_hand("UPDATE root_claims SET claimed_at_ms = 1").await;
        assert_eq!(pin(&w, &telling(&other)).await.problem(), "403 denied integrity");
        assert_eq!(w.auth(Method::DELETE, &path, &()).await.status, 204);
        assert_eq!(w.auth(Method::PUT, &path, &claim).await.status, 204);
        w.clock.advance(Duration::from_secs(80 * 3_600));
        assert_eq!(pin(&w, &telling(&other)).await.problem(), "409 conflict", "operators did not order it");
        w.finalise(&[&root_order(
            &w,
            hash::root_claim(id.as_str(), PublicKey::of(&other).as_bytes(), None, &[2; 32]),
        )])
        .await;
        assert_eq!(w.auth(Method::DELETE, &path, &()).await.status, 204);
        assert_eq!(pin(&w, &telling(&other)).await.problem(), "409 conflict", "it was withdrawn");
        // The same key once more, or for somebody else, is another claim: nobody ordered that.
        assert_eq!(w.auth(Method::PUT, &path, &claim_of(&other, 3)).await.status, 204);
        w.clock.advance(Duration::from_secs(80 * 3_600));
        assert_eq!(pin(&w, &telling(&other)).await.problem(), "409 conflict");
        // A staff key that operators made active is no order about a patient's key.
        let (staff, _profile) = w.profile(&doctor, AgencyType::Doctor);
        let theirs =
            NewRootClaim { root_public_key: staff.as_bytes().as_slice().into(), ..claim_of(&other, 4) };
        assert_eq!(w.auth(Method::PUT, &path, &theirs).await.status, 204);
        w.clock.advance(Duration::from_secs(80 * 3_600));
        let theirs = PinPatient { root_public_key: theirs.root_public_key, ..telling(&other) };
        assert_eq!(pin(&w, &theirs).await.problem(), "409 conflict");
    }
}

fn claim_of(root: &SigningKey, nonce: u8) -> NewRootClaim {
    let nonce = [nonce; 32].as_slice().into();
    NewRootClaim { nonce, root_public_key: raw(root), recovery_public_key: None }
}

fn root_order(w: &World, subject: Digest) -> String {
    let payload = Payload::Order(Order {
        chain: w.chain,
        commitment: Digest::of(b"why"),
        iat: w.now().unsigned_ms(),
        kind: OrderKind::RootReplaced,
        nonce: 0,
        subject,
    });
    tx::sign(&key(OPERATOR), &payload).unwrap()
}
