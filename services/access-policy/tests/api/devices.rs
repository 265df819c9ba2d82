//! Devices: a grant to one lets it write what the grant names, with the key that the patient compared, and nothing else.

use ed25519_dalek::SigningKey;
use hbc_types::account::{AgencyType, Role, Standing};
use hbc_types::ids::{AccountId, DeviceId, GrantId, GranteeId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{
    AccessKind, AccessPage, Admission, Channel, GrantView, Labels, NewGrant, ReceiptBody, Scope, Subject,
};
use hbc_types::{Digest, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{PatientUser, User, World, labels, subject, worlds};

const VITALS: Labels = Labels { category: Category::VitalSigns, sensitivity: Sensitivity::Normal };
const HIV: Labels = Labels { category: Category::VitalSigns, sensitivity: Sensitivity::Hiv };

struct Device {
    id: DeviceId,
    user: User,
}

fn told(key: Option<Digest>, revision: u64) -> Subject {
    Subject {
        name: Some("Cuff".to_owned()),
        staff_key: key,
        revision,
        ..subject(Role::Device, Standing::Active, None)
    }
}

/// A device of which auth told.
async fn device(w: &World) -> Device {
    let id = DeviceId::random(&w.random);
    let user = w.user(AccountId::Device(id.clone()));
    w.subject(&user.account, &told(Some(Digest::of(id.as_str().as_bytes())), 1)).await;
    Device { id, user }
}

fn scope(w: &World) -> Scope {
    Scope {
        actions: vec![Action::Write],
        categories: vec![Category::VitalSigns],
        purposes: vec![Purpose::PatientRequest],
        ..w.scope()
    }
}

/// A grant of the patient to the device, final.
async fn grant(w: &World, patient: &PatientUser, device: &Device) -> GrantView {
    let new = NewGrant::to(GranteeId::Device(device.id.clone()), scope(w));
    let draft = w.draft(patient, &new).await;
    let body: Value = serde_json::from_str(&draft.body).unwrap();
    assert_eq!(body["device"], json!(Digest::of(device.id.as_str().as_bytes())), "it names the key");
    let seed =
        hbc_types::hash::domain_hash("test", &[patient.root.as_bytes(), device.id.as_str().as_bytes()]);
    let key = SigningKey::from_bytes(seed.as_bytes());
    let signature = w.signature(patient, &draft, &key);
    let view: GrantView = w.put_signature(patient, &draft.id, &signature).await.ok();
    let registration = signature.registration.unwrap();
    w.finalise(&[&registration, &view.evidence.as_ref().unwrap().jws]).await;
    let view: GrantView = w.get(&format!("/v1/grants/{}", view.id), &patient.user).await.ok();
    assert_eq!((view.state.code(), view.grantee_name.as_str()), ("active", "Cuff"));
    view
}

/// What the device gets when it wants to write there.
async fn writes(w: &World, device: &User, patient: &PatientUser, wanted: &[Labels]) -> String {
    let admitted = w.admit(device, &patient.id, (wanted, &[]), false).await.problem();
    let keys = w.data_keys_request(device, &patient.id, wanted);
    let given = w.storage("/internal/v1/keys/data-keys", Some(device), &keys).await.problem();
    assert_eq!(admitted, given);
    given.trim().to_owned()
}

async fn log(w: &World, patient: &PatientUser) -> Vec<ReceiptBody> {
    let page: AccessPage = w.get("/v1/me/accesses", &patient.user).await.ok();
    let all = page.items.into_iter().map(|item| item.receipt);
    all.filter(|receipt| receipt.kind != AccessKind::Session).collect()
}

async fn end_pairing(w: &World, device: &Device, patient: &PatientUser, since: Timestamp) {
    let path = format!("/internal/v1/denials/pairing/{}.{}", device.id, patient.id);
    assert_eq!(w.auth(Method::PUT, &path, &json!({"since": since})).await.status, 204);
}

#[tokio::test]
async fn a_device_writes_what_its_grant_names_and_reads_nothing() {
    for w in worlds().await {
        let (patient, other, device) = (w.patient().await, w.patient().await, device(&w).await);
        assert_eq!(
            writes(&w, &device.user, &patient, &[VITALS]).await,
            "404 not_found",
            "known, and no more"
        );
        let view = grant(&w, &patient, &device).await;
        let admitted: Admission = w.admit(&device.user, &patient.id, (&[VITALS], &[]), false).await.ok();
        assert_eq!(admitted.readable, Vec::new());
        let written = w.write(&device.user, &patient.id, &[VITALS, VITALS]).await;
        let receipt = log(&w, &patient).await.remove(0);
        assert_eq!(
            (receipt.kind, receipt.actor, receipt.channel, receipt.grant, receipt.records.len()),
            (AccessKind::Write, device.user.account.clone(), Some(Channel::Device), Some(view.id), 2)
        );
        // What the grant does not name, and whom it is not of.
        let category = writes(&w, &device.user, &patient, &[labels(Category::Laboratory)]).await;
        assert_eq!(category, "403 denied category-not-granted");
        let both = writes(&w, &device.user, &patient, &[VITALS, labels(Category::Laboratory)]).await;
        assert_eq!(both, "403 denied category-not-granted");
        assert_eq!(writes(&w, &device.user, &patient, &[HIV]).await, "403 denied sensitivity-not-granted");
        assert_eq!(writes(&w, &device.user, &other, &[VITALS]).await, "404 not_found");
        let denied = log(&w, &other).await.remove(0);
        assert_eq!((denied.kind, denied.actor), (AccessKind::Denied, device.user.account.clone()));
        // It reads not even what it wrote, whatever it is asked for.
        let read = w.try_read(&device.user, &written, Purpose::PatientRequest).await;
        assert_eq!(read.problem(), "403 forbidden");
        let listed = w.decide(&device.user, &patient.id, Purpose::PatientRequest).await;
        assert_eq!(listed.problem(), "403 forbidden");
        let mut keys = w.data_keys_request(&device.user, &patient.id, &[VITALS]);
        keys.purpose = Purpose::Treatment;
        let treated = w.storage("/internal/v1/keys/data-keys", Some(&device.user), &keys).await;
        assert_eq!(treated.problem(), "403 forbidden", "its token says why");
        for path in ["/v1/grants", "/v1/access-requests", "/v1/me/accesses", "/v1/me/freeze"] {
            assert_eq!(w.get(path, &device.user).await.problem(), "401 unauthenticated", "{path}");
        }
        // The patient reads what it wrote.
        assert_eq!(w.read(&patient.user, &written).await.keys.len(), 2);
    }
}

#[tokio::test]
async fn a_grant_is_to_the_key_that_was_compared_and_dies_when_it_is_revoked() {
    for w in worlds().await {
        let (patient, first, second) = (w.patient().await, device(&w).await, device(&w).await);
        grant(&w, &patient, &first).await;
        assert_eq!(writes(&w, &first.user, &patient, &[VITALS]).await, "200");
        assert_eq!(writes(&w, &second.user, &patient, &[VITALS]).await, "404 not_found");
        // auth says that the device has another key now: for access-policy it is another device.
        w.subject(&first.user.account, &told(Some(Digest::of(b"another key")), 2)).await;
        assert_eq!(writes(&w, &first.user, &patient, &[VITALS]).await, "404 not_found");
        w.subject(&first.user.account, &told(None, 3)).await;
        assert_eq!(writes(&w, &first.user, &patient, &[VITALS]).await, "404 not_found");
        // Nobody grants to a device without a key, or to one that auth never told of.
        for unknown in [first.id.clone(), DeviceId::random(&w.random)] {
            let new = NewGrant::to(GranteeId::Device(unknown), scope(&w));
            assert_eq!(w.post("/v1/grants", &patient.user, &new).await.status, 422);
        }
        let reading = Scope { actions: vec![Action::Read], ..scope(&w) };
        let new = NewGrant::to(GranteeId::Device(second.id.clone()), reading);
        assert_eq!(w.post("/v1/grants", &patient.user, &new).await.status, 422);
        // A token whose session auth never told of, and one whose session ended.
        grant(&w, &patient, &second).await;
        let forged = w.forged(&second.user.account).await;
        assert_eq!(writes(&w, &forged, &patient, &[VITALS]).await, "401 unauthenticated");
        assert_eq!(writes(&w, &second.user, &patient, &[VITALS]).await, "200");
        w.deny("session", second.user.session.as_str()).await;
        assert_eq!(writes(&w, &second.user, &patient, &[VITALS]).await, "403 suspended");
    }
}

#[tokio::test]
async fn the_end_of_a_pairing_freezes_what_was_granted_until_then_to_that_device_alone() {
    for w in worlds().await {
        let (patient, other) = (w.patient().await, w.patient().await);
        let (gateway, cuff) = (device(&w).await, device(&w).await);
        let doctor = w.agency(AgencyType::Doctor).await;
        let frozen = [grant(&w, &patient, &gateway).await.id, grant(&w, &patient, &gateway).await.id];
        grant(&w, &patient, &cuff).await;
        grant(&w, &other, &gateway).await;
        let doctors = w.grant(&patient, &doctor, w.scope()).await;
        let state = async |id: &GrantId| {
            let view: GrantView = w.get(&format!("/v1/grants/{id}"), &patient.user).await.ok();
            view.state.code()
        };
        let ended = w.now();
        for _twice in 0..2 {
            end_pairing(&w, &gateway, &patient, ended).await;
        }
        assert_eq!(writes(&w, &gateway.user, &patient, &[VITALS]).await, "403 denied grant-frozen");
        assert_eq!((state(&frozen[0]).await, state(&frozen[1]).await), ("frozen", "frozen"));
        assert_eq!(state(&doctors.id).await, "active");
        assert_eq!(writes(&w, &cuff.user, &patient, &[VITALS]).await, "200");
        assert_eq!(writes(&w, &gateway.user, &other, &[VITALS]).await, "200");
        // Paired anew, it has a new grant, which the old end does not reach.
        w.clock.advance(std::time::Duration::from_secs(1));
        grant(&w, &patient, &gateway).await;
        end_pairing(&w, &gateway, &patient, ended).await;
        assert_eq!(writes(&w, &gateway.user, &patient, &[VITALS]).await, "200");
        // Nobody is told whether there is such a patient, and nothing lifts it but the patient's key.
        let nobody =
            format!("/internal/v1/denials/pairing/{}.{}", gateway.id, "pat-00000000000000000000000000000000");
        assert_eq!(w.auth(Method::PUT, &nobody, &json!({})).await.status, 204);
        let path = format!("/internal/v1/denials/pairing/{}.{}", gateway.id, patient.id);
        assert_eq!(w.auth(Method::DELETE, &path, &json!({})).await.status, 409);
        for wrong in [gateway.id.to_string(), format!("{}.{}", patient.id, gateway.id)] {
            let path = format!("/internal/v1/denials/pairing/{wrong}");
            assert_eq!(w.auth(Method::PUT, &path, &json!({})).await.status, 404);
        }
    }
}
