//! What services call on access-policy: a user's token opens nothing here, and each service only what is its own.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use hbc_client::operations::access_policy;
use hbc_types::account::ServiceRole;
use hbc_types::ids::{DeviceId, IntentId, PatientId, RecordId, SessionId};
use hbc_types::keys::PublicKey;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::Purpose;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{DataKeyItem, DataKeysRequest, Labels};
use serde_json::json;

use crate::case::Case;
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3_600);
const LABELS: Labels = Labels { category: Category::Device, sensitivity: Sensitivity::Normal };

/// Only auth calls it; nobody stands behind it.
fn by_auth(case: Case, world: &World) -> Case {
    case.stranger(&world.alice, &[401])
        .stranger(&world.dora, &[401])
        .stranger(&world.operator, &[401])
        .stranger_service(ServiceRole::Storage, None, &[403])
        .stranger_service(ServiceRole::AccessPolicy, None, &[401, 403])
        .rightful_service(ServiceRole::Auth, None)
}

/// Only storage calls it; a user stands behind it where `user` says so.
fn by_storage(case: Case, world: &World, user: bool) -> Case {
    let case = case
        .stranger(&world.alice, &[401])
        .stranger(&world.ina, &[401])
        .stranger(&world.operator, &[401])
        .stranger_service(ServiceRole::Auth, user.then_some(&world.ina), &[403]);
    if user {
        // A service's word alone opens nothing that is a patient's.
        let case = case.stranger_service(ServiceRole::Storage, None, &[401]);
        // Nor does a device's token, for a patient who has not paired it.
        let case = case.stranger_service(ServiceRole::Storage, Some(&world.device.1), &[403, 404]);
        case.rightful_service(ServiceRole::Storage, Some(&world.ina))
    } else {
        case.rightful_service(ServiceRole::Storage, None)
    }
}

pub async fn cases(world: &World) -> Result<Vec<Case>> {
    let random = &world.app.random;
    let ina = world.ina.account.as_str();
    let fresh = PatientId::random(random).to_string();
    let root = PublicKey::of(&SigningKey::from_bytes(&random.bytes()));
    let root = Bytes::from(root.as_bytes().as_slice());
    let (session, opened) = (SessionId::random(random).to_string(), SessionId::random(random).to_string());
    let now = world.app.clock.now();
    let (made, void) = (IntentId::random(random), IntentId::random(random));
    let wanted = DataKeysRequest {
        intent: made.clone(),
        patient: world.ina.patient()?.clone(),
        purpose: Purpose::PatientRequest,
        items: vec![DataKeyItem { record: RecordId::random(random), version: 1, labels: LABELS }],
    };
    let storage = world.app.service(ServiceRole::Storage)?;
    let call = world.app.access.to(access_policy::make_data_keys()).json(&wanted);
    let call = world.ina.signs(call).signed(&storage, ServiceRole::AccessPolicy);
    let key = call.fetch().await?.keys.pop().context("no data key")?;
    let record = &wanted.items[0].record;
    let wrapped = json!({"record": record, "version": 1, "labels": LABELS, "n": key.n,
        "created_at": world.app.clock.now(), "wrapped": key.wrapped, "kek_epoch": key.kek_epoch});
    let pairing = format!("{}.{fresh}", DeviceId::random(random));
    let subject = json!({"role": "patient", "standing": "active", "revision": 1});
    Ok(vec![
        by_auth(Case::new("access-policy PUT /internal/v1/subjects/{id}", &[&fresh]).json(&subject), world),
        by_auth(
            Case::new("access-policy POST /internal/v1/patients", &[])
                .json(&json!({"patient": fresh, "root_public_key": root, "custody": "server"})),
            world,
        ),
        by_auth(
            Case::new("access-policy PUT /internal/v1/patients/{id}/root-claim", &[&fresh])
                .json(&json!({"nonce": root, "root_public_key": root})),
            world,
        ),
        by_auth(Case::new("access-policy DELETE /internal/v1/patients/{id}/root-claim", &[&fresh]), world),
        by_auth(
            Case::new("access-policy PUT /internal/v1/sessions/{id}", &[&opened])
                .json(&json!({"account": fresh, "opened_at": now, "expires_at": now.plus(HOUR)})),
            world,
        ),
        by_auth(
            Case::new("access-policy PUT /internal/v1/denials/{kind}/{id}", &["session", &session])
                .json(&json!({})),
            world,
        ),
        by_auth(
            Case::new("access-policy PUT /internal/v1/denials/{kind}/{id}", &["subject", &fresh])
                .json(&json!({})),
            world,
        ),
        by_auth(
            Case::new("access-policy PUT /internal/v1/denials/{kind}/{id}", &["pairing", &pairing])
                .json(&json!({"since": now})),
            world,
        ),
        by_auth(
            Case::new("access-policy DELETE /internal/v1/denials/{kind}/{id}", &["subject", &fresh]),
            world,
        ),
        by_storage(
            Case::new("access-policy POST /internal/v1/keys/data-keys", &[]).json(&wanted),
            world,
            true,
        ),
        by_storage(
            Case::new("access-policy POST /internal/v1/keys/unwrap", &[])
                .json(&json!({"patient": ina, "purpose": "PATRQT", "items": [wrapped]})),
            world,
            true,
        ),
        by_storage(
            Case::new("access-policy POST /internal/v1/admissions", &[]).json(&json!({
                "patient": ina, "purpose": "PATRQT", "writes": [LABELS], "meets": [], "reads": [LABELS],
                "nothing_left": false})),
            world,
            true,
        ),
        by_storage(
            Case::new("access-policy POST /internal/v1/decisions", &[])
                .json(&json!({"patient": ina, "purpose": "PATRQT", "action": "read", "labels": [LABELS]})),
            world,
            true,
        ),
        by_storage(
            Case::new("access-policy POST /internal/v1/keys/anchored", &[]).json(&json!({
                "intent": made, "txid": hex::encode(random.bytes::<32>()),
                "items": [{"labels": LABELS, "n": key.n, "commitment": hex::encode(random.bytes::<32>())}]})),
            world,
            false,
        ),
        by_storage(
            Case::new("access-policy POST /internal/v1/keys/void", &[]).json(&json!({"intent": void})),
            world,
            false,
        ),
        Case::new("access-policy GET /internal/v1/patients/{id}/consent-version", &[ina])
            .stranger(&world.ina, &[401])
            .stranger(&world.operator, &[401])
            .rightful_service(ServiceRole::Storage, None),
    ])
}
