//! Sign-up of patients and agencies.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, post, web};
use hbc_service::idempotency::Slot;
use hbc_service::{AnswerStore, IdempotencyKey, Problem, Public, StrictJson};
use hbc_types::Digest;
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::{Bytes, SecretText};
use hbc_types::wire::auth::{AgencyCreated, NewAgency, NewPatient, PatientCreated};
use serde::{Deserialize, Serialize};

use super::address;
use crate::app::App;
use crate::domain::custody::{Wrapped, encrypt_answer, open_answer};
use crate::error::Error;
use crate::flows::{agencies, patients};

/// Saved answers of sign-ups: encrypted under the password of the request, because recovery codes stand in them.
struct EncryptedAnswers {
    app: App,
    password: SecretText,
}

/// An encrypted answer as it is stored.
#[derive(Serialize, Deserialize)]
struct EncryptedBody {
    salt: Bytes,
    nonce: Bytes,
    ciphertext: Bytes,
}

impl EncryptedAnswers {
    /// The row to save with the sign-up; nothing if the client sent no key.
    async fn save<T: Serialize>(&self, slot: Slot, answer: &T) -> Result<Option<SavedAnswer>, Error> {
        let Some(mut saved) = slot.answer(StatusCode::CREATED, &[], "", self.app.clock.now()) else {
            return Ok(None);
        };
        let plain =
            serde_json::to_vec(answer).map_err(|_no_json| Error::Broken("an answer has no JSON form"))?;
        let (password, cost, random) =
            (self.password.clone(), self.app.passwords.cost(), self.app.random.clone());
        let work = move || encrypt_answer(&plain, &password, cost, &random);
        let encrypted = self.app.passwords.run(work).await?.map_err(Error::from)?;
        let body = EncryptedBody {
            salt: Bytes::from(encrypted.salt.as_slice()),
            nonce: Bytes::from(encrypted.nonce.as_slice()),
            ciphertext: Bytes::new(encrypted.ciphertext),
        };
        saved.body =
            serde_json::to_string(&body).map_err(|_no_json| Error::Broken("an answer has no JSON form"))?;
        Ok(Some(saved))
    }

    /// The body in clear; of another password's answer nothing, which the fingerprint refuses anyway.
    async fn open(&self, body: &str) -> Result<String, Problem> {
        let encrypted: EncryptedBody =
            serde_json::from_str(body).map_err(|error| Problem::internal(&error))?;
        let (Some(salt), Some(nonce)) = (encrypted.salt.to_array(), encrypted.nonce.to_array()) else {
            return Ok(String::new());
        };
        let wrapped = Wrapped { salt, nonce, ciphertext: encrypted.ciphertext.into_vec() };
        let (password, cost) = (self.password.clone(), self.app.passwords.cost());
        let plain = self.app.passwords.run(move || open_answer(&wrapped, &password, cost)).await?;
        Ok(plain.map(|plain| String::from_utf8_lossy(&plain).into_owned()).unwrap_or_default())
    }
}

impl AnswerStore for EncryptedAnswers {
    async fn saved_answer(&self, id: Digest) -> Result<Option<SavedAnswer>, Problem> {
        let found = hbc_db::idempotency::find(self.app.store.db.reads(), id).await.map_err(Error::from)?;
        let Some(mut saved) = found else { return Ok(None) };
        saved.body = self.open(&saved.body).await?;
        Ok(Some(saved))
    }
}

/// A patient signs up.
///
/// Recovery codes are shown in this answer only. The account stands `pending` in `/v1/me` until access-policy has
/// pinned the root key, which is usually done when this answers.
#[utoipa::path(tag = "accounts", operation_id = "sign_up_patient", request_body = NewPatient, security(()),
    params(IdempotencyKey),
    responses(
        (status = 201, description = "Signed up", body = PatientCreated),
        (status = 401, description = "The root key's proof does not fit"),
        (status = 409, description = "The username is taken, or the same request is under way"),
        (status = 429, description = "Too many sign-ups from this address"),
        (status = 503, description = "Too busy"),
    ))]
#[post("/v1/patients")]
pub async fn patient(
    _anybody: Public,
    request: HttpRequest,
    key: IdempotencyKey,
    body: StrictJson<NewPatient>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.sign_ups.check(&address(&request))?;
    let (answers, fingerprint) = remembered(&app, &body.value.password, body.digest());
    let work = async |slot| {
        let prepared = patients::prepare(&app, body.into_value()).await?;
        let saved = answers.save(slot, &prepared.answer).await?;
        let created = patients::commit(&app, prepared, saved).await?;
        Ok::<_, Error>(HttpResponse::Created().json(created))
    };
    key.once(&answers, "sign-up", fingerprint, work).await
}

/// An agency signs up; it can do nothing with data until operators approve it.
#[utoipa::path(tag = "accounts", operation_id = "sign_up_agency", request_body = NewAgency, security(()),
    params(IdempotencyKey),
    responses(
        (status = 201, description = "Signed up, waiting for approval", body = AgencyCreated),
        (status = 409, description = "The username is taken, or the same request is under way"),
        (status = 429, description = "Too many sign-ups from this address"),
        (status = 503, description = "Too busy"),
    ))]
#[post("/v1/agencies")]
pub async fn agency(
    _anybody: Public,
    request: HttpRequest,
    key: IdempotencyKey,
    body: StrictJson<NewAgency>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.sign_ups.check(&address(&request))?;
    let (answers, fingerprint) = remembered(&app, &body.value.password, body.digest());
    let work = async |slot| {
        let prepared = agencies::prepare(&app, body.into_value()).await?;
        let saved = answers.save(slot, &prepared.answer).await?;
        let created = agencies::commit(&app, prepared, saved).await?;
        Ok::<_, Error>(HttpResponse::Created().json(created))
    };
    key.once(&answers, "sign-up", fingerprint, work).await
}

/// The saved answers that this password opens, and the request's fingerprint: keyed, because a plain hash of a body that
/// holds a password is a cheap way to guess it.
fn remembered(app: &App, password: &SecretText, body: Digest) -> (EncryptedAnswers, Digest) {
    let answers = EncryptedAnswers { app: app.clone(), password: password.clone() };
    (answers, app.store.rows.fingerprint(body))
}
