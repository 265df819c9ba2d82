//! Devices: what they ask for themselves, each time proven by an assertion, and what patients do with them.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, delete, get, post, web};
use hbc_service::{Patient, Problem, Public, StrictJson};
use hbc_types::ids::{DeviceId, PairingId};
use hbc_types::wire::devices::{
    DevicePairings, DeviceProof, DeviceRegistered, NewDevice, PairedDevice, PairedDevices, PairingClaim,
    PairingClaimed, PairingCode, PairingConfirmation, PairingEnded,
};

use super::address;
use crate::app::App;
use crate::flows::{devices, pairings};

/// A device or gateway makes itself known with its name and its public key, and proves that it has the key.
///
/// It may do nothing then. If no patient pairs it within a day it is forgotten. With the same key it gets the same id.
#[utoipa::path(tag = "devices", operation_id = "register_device", request_body = NewDevice, security(()),
    responses(
        (status = 201, description = "Known", body = DeviceRegistered),
        (status = 200, description = "Known before", body = DeviceRegistered),
        (status = 400, description = "The assertion does not hold, or was used before"),
        (status = 409, description = "The key is known in another form"),
        (status = 429, description = "Too many devices from this address"),
    ))]
#[post("/v1/devices")]
pub async fn register(
    _anybody: Public,
    request: HttpRequest,
    body: StrictJson<NewDevice>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.devices.registrations.check(&address(&request))?;
    let (device, is_new) = devices::register(&app, body.into_value()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(HttpResponseBuilder::new(status).json(device))
}

/// A device claims a pairing code that a patient showed it. That binds nothing: the patient compares fingerprints first.
///
/// Codes that are unknown, over or used are all not found. After five such claims the device waits for an hour.
#[utoipa::path(tag = "devices", operation_id = "claim_pairing", request_body = PairingClaim, security(()),
    responses(
        (status = 200, description = "Claimed: it waits for the patient", body = PairingClaimed),
        (status = 400, description = "The assertion does not hold, or was used before"),
        (status = 404, description = "No such code is open"),
        (status = 409, description = "The device is paired with a thousand patients already"),
        (status = 429, description = "Too many wrong codes of this device, or from this address"),
    ))]
#[post("/v1/pairing-claims")]
pub async fn claim(
    _anybody: Public,
    request: HttpRequest,
    body: StrictJson<PairingClaim>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let claimed = pairings::claim(&app, &address(&request), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(claimed))
}

/// A device asks with which patients it is paired now.
#[utoipa::path(tag = "devices", operation_id = "list_device_pairings", request_body = DeviceProof, security(()),
    responses(
        (status = 200, description = "Its pairings, the oldest first: at most a thousand", body = DevicePairings),
        (status = 400, description = "The assertion does not hold, or was used before"),
        (status = 429, description = "Too many requests of one device"),
    ))]
#[post("/v1/device-pairings")]
pub async fn of_device(
    _anybody: Public,
    body: StrictJson<DeviceProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let items = pairings::of_device(&app, &body.value.assertion).await?;
    Ok(HttpResponse::Ok().json(DevicePairings { items }))
}

/// Makes a pairing code, good for ten minutes, for a device of the patient's. It is shown in this answer only.
#[utoipa::path(tag = "devices", operation_id = "make_pairing_code", security(("user" = [])),
    responses(
        (status = 201, description = "The code", body = PairingCode),
        (status = 409, description = "Three codes are open, or the patient has twenty devices"),
        (status = 429, description = "Twenty codes within a day"),
    ))]
#[post("/v1/me/pairing-codes")]
pub async fn make_code(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let code = pairings::make_code(&app, &patient.caller, &patient.id).await?;
    Ok(HttpResponse::Created().json(code))
}

/// Shows how a pairing code stands, and which device claimed it. After a day it is forgotten.
#[utoipa::path(tag = "devices", operation_id = "show_pairing_code", params(("id" = PairingId, Path)),
    security(("user" = [])),
    responses(
        (status = 200, description = "The code's state", body = PairingCode),
        (status = 404, description = "The patient has no such code"),
    ))]
#[get("/v1/me/pairing-codes/{id}")]
pub async fn show_code(
    patient: Patient,
    id: web::Path<PairingId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let code = pairings::show_code(&app, &patient.caller, &patient.id, &id).await?;
    Ok(HttpResponse::Ok().json(code))
}

/// Ends a pairing code. Whichever device claimed it is not paired.
#[utoipa::path(tag = "devices", operation_id = "end_pairing_code", params(("id" = PairingId, Path)),
    security(("user" = [])),
    responses(
        (status = 204, description = "It is over"),
        (status = 404, description = "The patient has no such code"),
        (status = 409, description = "The device is paired: remove it"),
    ))]
#[delete("/v1/me/pairing-codes/{id}")]
pub async fn end_code(
    patient: Patient,
    id: web::Path<PairingId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    pairings::end_code(&app, &patient.caller, &patient.id, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Pairs the device that claimed the code, if the fingerprint is what it shows; else the code is over.
///
/// The grant to the device, which lets it write, is drafted at access-policy and signed before. The same again is answered again.
#[utoipa::path(tag = "devices", operation_id = "confirm_pairing", params(("id" = PairingId, Path)),
    request_body = PairingConfirmation, security(("user" = [])),
    responses(
        (status = 200, description = "Paired", body = PairedDevice),
        (status = 404, description = "The patient has no such code"),
        (status = 409, description = "Another fingerprint, no claim yet, a code that is over or used, or a device too many"),
    ))]
#[post("/v1/me/pairing-codes/{id}/confirmation")]
pub async fn confirm(
    patient: Patient,
    id: web::Path<PairingId>,
    body: StrictJson<PairingConfirmation>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let paired = pairings::confirm(&app, &patient.caller, (&patient.id, &id), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(paired))
}

/// Lists the patient's devices.
#[utoipa::path(tag = "devices", operation_id = "list_devices", security(("user" = [])),
    responses((status = 200, description = "The devices, the oldest pairing first", body = PairedDevices)))]
#[get("/v1/me/devices")]
pub async fn list(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let items = pairings::list(&app, &patient.caller, &patient.id).await?;
    Ok(HttpResponse::Ok().json(PairedDevices { items }))
}

/// Cuts a device off. What the patient granted it is frozen, so that it writes nothing more.
///
/// The patient's signature then revokes the grants for good. A gateway goes on for its other patients.
#[utoipa::path(tag = "devices", operation_id = "remove_device", params(("id" = DeviceId, Path)),
    security(("user" = [])),
    responses(
        (status = 200, description = "Cut off everywhere", body = PairingEnded),
        (status = 202, description = "Cut off here; access-policy is still being told", body = PairingEnded),
        (status = 401, description = "No valid token, or the second factor must be shown again (`step_up`)"),
        (status = 404, description = "The patient has paired no such device"),
    ))]
#[delete("/v1/me/devices/{id}")]
pub async fn remove(
    patient: Patient,
    id: web::Path<DeviceId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    patient.caller.check_step_up(app.clock.now())?;
    let ended = pairings::remove(&app, &patient.caller, &patient.id, &id).await?;
    let status = if ended.effective { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(HttpResponseBuilder::new(status).json(ended))
}
