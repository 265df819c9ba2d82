//! What auth and storage call. A service's own word opens nothing that belongs to a user: the key operations take the
//! user's token as well.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, put, web};
use hbc_service::{Acting, AnyService, Caller, FromAuth, FromStorage, Problem, Service, StrictJson};
use hbc_types::ids::{AccountId, DeviceId, OAuthClientId, PatientId, SessionId};
use hbc_types::problem::Slug;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{
    Admission, AdmissionRequest, AnchoredRequest, ConsentVersion, DataKeys, DataKeysRequest, DecisionAnswer,
    DecisionRequest, NewDenial, NewRootClaim, NewSession, PinPatient, Subject, UnwrapRequest, Unwrapped,
    VoidRequest,
};

use crate::app::{App, Who};
use crate::error::Error;
use crate::flows::{accounts, admit, decide, keys, pairings, roots};
use crate::routes::answer;

/// A client reads, a device writes, either for the purpose in its token: storage's word for another one is not believed.
fn hold_to_client(caller: &Caller, purpose: Purpose, action: Action) -> Result<(), Problem> {
    let Some(client) = &caller.client else { return Ok(()) };
    let its = match &client.client_id {
        OAuthClientId::Device(_) => Action::Write,
        OAuthClientId::Program(_) | OAuthClientId::App(_) => Action::Read,
    };
    if action == its && client.purpose.is_none_or(|registered| registered == purpose) {
        return Ok(());
    }
    Err(Problem::new(Slug::Forbidden).detail("the client's token is not for this"))
}

fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// auth says how an account stands; an older message never overwrites a newer one.
#[utoipa::path(
    tag = "internal", operation_id = "put_subject", request_body = Subject, security(("service" = [])),
    params(("id" = AccountId, Path)),
    responses((status = 204, description = "Durably stored")),
)]
#[put("/internal/v1/subjects/{id}")]
pub async fn put_subject(
    _auth: Service<FromAuth>,
    id: web::Path<AccountId>,
    body: StrictJson<Subject>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    accounts::put_subject(&app, id.into_inner(), body.into_value()).await?;
    Ok(no_content())
}

/// auth pins a patient's root key; the first key-encryption key is made with it. By a certificate of the pinned root key, or of the
/// recovery key beside it, others take their place; with another root key every consent of before ends.
#[utoipa::path(
    tag = "internal", operation_id = "pin_patient", request_body = PinPatient, security(("service" = [])),
    responses(
        (status = 201, description = "Pinned"),
        (status = 200, description = "Pinned before, or from now on in the place of others"),
        (status = 400, description = "The certificate is for another chain, or its time is not acceptable"),
        (status = 401, description = "No valid assertion, or the certificate is of none of the pinned keys, or names others"),
        (status = 409, description = "Others are pinned, and there is no certificate"),
    ),
)]
#[post("/internal/v1/patients")]
pub async fn pin_patient(
    _auth: Service<FromAuth>,
    body: StrictJson<PinPatient>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let new = roots::pin(&app, body.into_value()).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(HttpResponse::build(status).finish())
}

/// auth tells that a patient who has none of the pinned keys claims others. They act three days later at the earliest, and once
/// operators ordered it.
#[utoipa::path(
    tag = "internal", operation_id = "put_root_claim", request_body = NewRootClaim, security(("service" = [])),
    params(("id" = PatientId, Path)),
    responses((status = 204, description = "Durably stored")),
)]
#[put("/internal/v1/patients/{id}/root-claim")]
pub async fn put_root_claim(
    _auth: Service<FromAuth>,
    id: web::Path<PatientId>,
    body: StrictJson<NewRootClaim>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    roots::claim(&app, id.into_inner(), body.into_value()).await?;
    Ok(no_content())
}

/// auth tells that a claim is over.
#[utoipa::path(
    tag = "internal", operation_id = "delete_root_claim", security(("service" = [])),
    params(("id" = PatientId, Path)),
    responses((status = 204, description = "There is none")),
)]
#[delete("/internal/v1/patients/{id}/root-claim")]
pub async fn delete_root_claim(
    _auth: Service<FromAuth>,
    id: web::Path<PatientId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    roots::withdraw(&app, id.into_inner()).await?;
    Ok(no_content())
}

/// auth tells that somebody signed in. Until it does, the session's tokens open nothing.
#[utoipa::path(
    tag = "internal", operation_id = "put_session", request_body = NewSession, security(("service" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "Durably stored; a patient's log has it"),
        (status = 409, description = "Another one is open under this id, or the patient is not known yet"),
    ),
)]
#[put("/internal/v1/sessions/{id}")]
pub async fn put_session(
    _auth: Service<FromAuth>,
    id: web::Path<SessionId>,
    body: StrictJson<NewSession>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    accounts::open_session(&app, id.into_inner(), body.into_value()).await?;
    Ok(no_content())
}

/// What a denial is of.
enum Denied {
    Session(SessionId),
    Subject(AccountId),
    Pairing(DeviceId, PatientId),
}

fn denied(kind: &str, id: &str) -> Result<Denied, Problem> {
    let unknown = |_other| Problem::new(Slug::NotFound);
    match kind {
        "session" => Ok(Denied::Session(SessionId::parse(id).map_err(unknown)?)),
        "subject" => Ok(Denied::Subject(AccountId::parse(id).map_err(unknown)?)),
        "pairing" => {
            let (device, patient) = id.split_once('.').ok_or_else(|| Problem::new(Slug::NotFound))?;
            let patient = PatientId::parse(patient).map_err(unknown)?;
            Ok(Denied::Pairing(DeviceId::parse(device).map_err(unknown)?, patient))
        }
        _ => Err(Problem::new(Slug::NotFound)),
    }
}

/// auth ends a session or stops an account, or a patient cut a device off there: `kind` is `session`, `subject` or `pairing`, whose
/// id is the device's and the patient's with a dot between them. What the patient granted that device until `since` is frozen.
#[utoipa::path(
    tag = "internal", operation_id = "put_denial", request_body = NewDenial, security(("service" = [])),
    params(("kind" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "Durably stored; it takes effect")),
)]
#[put("/internal/v1/denials/{kind}/{id}")]
pub async fn put_denial(
    _auth: Service<FromAuth>,
    path: web::Path<(String, String)>,
    body: StrictJson<NewDenial>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (kind, id) = path.into_inner();
    let NewDenial { until, since } = body.into_value();
    match denied(&kind, &id)? {
        Denied::Session(session) => accounts::end_session(&app, session, until).await?,
        Denied::Subject(account) => accounts::deny_subject(&app, account, until).await?,
        Denied::Pairing(device, patient) => pairings::freeze_device(&app, device, patient, since).await?,
    }
    Ok(no_content())
}

/// auth lifts the denial of an account. An ended session stays ended.
#[utoipa::path(
    tag = "internal", operation_id = "delete_denial", security(("service" = [])),
    params(("kind" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "Lifted"), (status = 409)),
)]
#[delete("/internal/v1/denials/{kind}/{id}")]
pub async fn delete_denial(
    _auth: Service<FromAuth>,
    path: web::Path<(String, String)>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (kind, id) = path.into_inner();
    match denied(&kind, &id)? {
        Denied::Session(_) => Err(Error::Conflict("an ended session stays ended").into()),
        Denied::Pairing(..) => Err(Error::Conflict("only the patient's key lifts a freeze").into()),
        Denied::Subject(account) => {
            accounts::lift_denial(&app, account).await?;
            Ok(no_content())
        }
    }
}

/// May the caller write? Then data keys with their numbers and wraps, the same again for the same intent.
#[utoipa::path(
    tag = "internal", operation_id = "make_data_keys", request_body = DataKeysRequest,
    security(("service" = [], "user" = [])),
    responses(
        (status = 200, description = "The keys", body = DataKeys),
        (status = 403, description = "Denied; the receipt of it is written"),
        (status = 404),
        (status = 409),
        (status = 503),
    ),
)]
#[post("/internal/v1/keys/data-keys")]
pub async fn data_keys(
    _storage: Service<FromStorage>,
    Acting(caller): Acting,
    body: StrictJson<DataKeysRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let request = body.into_value();
    hold_to_client(&caller, request.purpose, Action::Write)?;
    let keys = keys::data_keys(&app, Who::from(&caller), request).await?;
    Ok(answer(StatusCode::OK, &keys))
}

/// May the caller read? Then the keys of what is allowed, with the receipt written first.
#[utoipa::path(
    tag = "internal", operation_id = "unwrap_keys", request_body = UnwrapRequest,
    security(("service" = [], "user" = [])),
    responses((status = 200, description = "What is not allowed is absent", body = Unwrapped), (status = 503)),
)]
#[post("/internal/v1/keys/unwrap")]
pub async fn unwrap(
    _storage: Service<FromStorage>,
    Acting(caller): Acting,
    body: StrictJson<UnwrapRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let request = body.into_value();
    hold_to_client(&caller, request.purpose, Action::Read)?;
    let keys = keys::unwrap(&app, Who::from(&caller), request).await?;
    Ok(answer(StatusCode::OK, &keys))
}

/// The intent died: its numbers are void for ever.
#[utoipa::path(
    tag = "internal", operation_id = "void_numbers", request_body = VoidRequest, security(("service" = [])),
    responses((status = 204, description = "Void"), (status = 409, description = "The intent is anchored")),
)]
#[post("/internal/v1/keys/void")]
pub async fn void(
    _storage: Service<FromStorage>,
    body: StrictJson<VoidRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    keys::void(&app, body.into_value()).await?;
    Ok(no_content())
}

/// These numbers stand on the ledger: they are never voided from now on.
#[utoipa::path(
    tag = "internal", operation_id = "anchor_numbers", request_body = AnchoredRequest, security(("service" = [])),
    responses((status = 204, description = "Recorded"), (status = 404), (status = 409)),
)]
#[post("/internal/v1/keys/anchored")]
pub async fn anchored(
    _storage: Service<FromStorage>,
    body: StrictJson<AnchoredRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    keys::anchored(&app, body.into_value()).await?;
    Ok(no_content())
}

/// Which label sets may the caller list? Both answers leave a receipt.
#[utoipa::path(
    tag = "internal", operation_id = "decide", request_body = DecisionRequest,
    security(("service" = [], "user" = [])),
    responses((status = 200, description = "What may be listed", body = DecisionAnswer), (status = 503)),
)]
#[post("/internal/v1/decisions")]
pub async fn decisions(
    _storage: Service<FromStorage>,
    Acting(caller): Acting,
    body: StrictJson<DecisionRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let request = body.into_value();
    hold_to_client(&caller, request.purpose, request.action)?;
    let decision = decide::decisions(&app, Who::from(&caller), request).await?;
    Ok(answer(StatusCode::OK, &decision))
}

/// May the caller write such records at all? A refusal leaves a receipt.
#[utoipa::path(
    tag = "internal", operation_id = "admit", request_body = AdmissionRequest,
    security(("service" = [], "user" = [])),
    responses(
        (status = 200, description = "Admitted", body = Admission),
        (status = 403, description = "Denied; the receipt of it is written"),
        (status = 404),
        (status = 503),
    ),
)]
#[post("/internal/v1/admissions")]
pub async fn admissions(
    _storage: Service<FromStorage>,
    Acting(caller): Acting,
    body: StrictJson<AdmissionRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let request = body.into_value();
    hold_to_client(&caller, request.purpose, Action::Write)?;
    let admission = admit::admit(&app, Who::from(&caller), request).await?;
    Ok(answer(StatusCode::OK, &admission))
}

/// The patient's consent version: long reads compare it as they go.
#[utoipa::path(
    tag = "internal", operation_id = "get_consent_version", security(("service" = [])),
    params(("id" = PatientId, Path)),
    responses((status = 200, description = "The version", body = ConsentVersion)),
)]
#[get("/internal/v1/patients/{id}/consent-version")]
pub async fn consent_version(
    _service: Service<AnyService>,
    id: web::Path<PatientId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let version = decide::consent_version(&app, &id).await?;
    Ok(answer(StatusCode::OK, &version))
}
