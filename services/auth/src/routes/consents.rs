//! Signatures of patients whose keys auth keeps, and registration of the keys of those who hold their own.

use actix_web::{HttpResponse, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Patient, Problem, StrictJson};
use hbc_types::wire::auth::{
    ConsentKeyRegistered, ConsentSignature, ConsentSignatureRequest, NewConsentKey, RevocationSignature,
    RevocationSignatureRequest, UnfreezeSignature, UnfreezeSignatureRequest,
};

use super::{account, in_session};
use crate::app::App;
use crate::flows::consents;

/// Registers a consent key that the client holds.
#[utoipa::path(tag = "consents", operation_id = "register_consent_key", request_body = NewConsentKey,
    security(("user" = [])),
    responses(
        (status = 201, description = "The signed registration", body = ConsentKeyRegistered),
        (status = 401, description = "No valid token, or the proof does not fit"),
        (status = 409, description = "Server custody, or the key is another's"),
    ))]
#[post("/v1/me/consent-keys")]
pub async fn register_key(
    patient: Patient,
    body: StrictJson<NewConsentKey>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &patient.caller).await?;
    let registered = consents::register_key(&app, &patient.id, &account, body.into_value()).await?;
    Ok(HttpResponse::Created().json(registered))
}

/// Signs a draft of a consent, after the password.
///
/// The commitment is computed again from the body that was shown; nothing of the draft is changed but an absent `key`.
#[utoipa::path(tag = "consents", operation_id = "sign_consent", request_body = ConsentSignatureRequest,
    security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = ConsentSignature),
        (status = 400, description = "For another chain, or too old"),
        (status = 404, description = "The key is not the patient's"),
        (status = 409, description = "Client custody, or the key is revoked"),
        (status = 422, description = "Body and payload do not agree"),
        PasswordProblems,
    ))]
#[post("/v1/me/consent-signatures")]
pub async fn sign_consent(
    patient: Patient,
    body: StrictJson<ConsentSignatureRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &patient.caller).await?;
    let signed =
        consents::sign_draft(&app, &patient.id, &account, body.into_value(), in_session(&patient.caller))
            .await?;
    Ok(HttpResponse::Ok().json(signed))
}

/// Signs a revocation, after the password. Any ledger node takes it.
#[utoipa::path(tag = "consents", operation_id = "sign_revocation", request_body = RevocationSignatureRequest,
    security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = RevocationSignature),
        (status = 404, description = "The key is not the patient's"),
        (status = 409, description = "Client custody"),
        PasswordProblems,
    ))]
#[post("/v1/me/revocation-signatures")]
pub async fn sign_revocation(
    patient: Patient,
    body: StrictJson<RevocationSignatureRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &patient.caller).await?;
    let signed = consents::sign_revocation(
        &app,
        &patient.id,
        &account,
        body.into_value(),
        in_session(&patient.caller),
    )
    .await?;
    Ok(HttpResponse::Ok().json(signed))
}

/// Signs that a freeze is over, after the password.
#[utoipa::path(tag = "consents", operation_id = "sign_unfreeze", request_body = UnfreezeSignatureRequest,
    security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = UnfreezeSignature),
        (status = 409, description = "Client custody"),
        PasswordProblems,
    ))]
#[post("/v1/me/unfreeze-signatures")]
pub async fn sign_unfreeze(
    patient: Patient,
    body: StrictJson<UnfreezeSignatureRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &patient.caller).await?;
    let signed =
        consents::sign_unfreeze(&app, &patient.id, &account, body.into_value(), in_session(&patient.caller))
            .await?;
    Ok(HttpResponse::Ok().json(signed))
}
