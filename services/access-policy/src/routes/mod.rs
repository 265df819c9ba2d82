//! The route table. A handler reads its input, says by its argument types who may call, runs one flow, answers.

pub mod access_requests;
pub mod accesses;
pub mod explain;
pub mod freezes;
pub mod grants;
pub mod internal;

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use hbc_service::Routes;
use hbc_service::idempotency::Slot;
use serde::Serialize;

use crate::app::{App, SAVED_ANSWER};
use crate::error::Error;
use crate::flows::requests::Save;

/// Every operation of this service.
pub fn table(routes: &mut Routes<'_>) {
    routes
        .service(access_requests::ask)
        .service(access_requests::list)
        .service(access_requests::get)
        .service(access_requests::deny)
        .service(access_requests::withdraw)
        .service(grants::draft)
        .service(grants::list)
        .service(grants::get)
        .service(grants::proof)
        .service(grants::sign)
        .service(grants::open_alteration)
        .service(grants::revoke)
        .service(freezes::freeze_grant)
        .service(freezes::unfreeze_grant)
        .service(freezes::freeze_all)
        .service(freezes::freeze_state)
        .service(freezes::unfreeze_all)
        .service(grants::root)
        .service(accesses::list)
        .service(accesses::proof)
        .service(explain::explain)
        .service(internal::put_subject)
        .service(internal::pin_patient)
        .service(internal::put_root_claim)
        .service(internal::delete_root_claim)
        .service(internal::put_session)
        .service(internal::put_denial)
        .service(internal::delete_denial)
        .service(internal::data_keys)
        .service(internal::unwrap)
        .service(internal::void)
        .service(internal::anchored)
        .service(internal::admissions)
        .service(internal::decisions)
        .service(internal::consent_version);
}

/// Health data and keys are never kept by anything in between.
const NO_STORE: (&str, &str) = ("cache-control", "no-store");

/// A proof document, byte by byte as it is to be kept.
fn document(bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").insert_header(NO_STORE).body(bytes)
}

/// An answer in JSON.
fn answer<T: Serialize>(status: StatusCode, body: &T) -> HttpResponse {
    HttpResponse::build(status).insert_header(NO_STORE).json(body)
}

/// How the answer of a creating request is saved in the transaction that does it: encrypted, because answers carry
/// names and people's own words.
fn save_created<T: Serialize + 'static>(app: &App, slot: Slot) -> Save<T> {
    let (app, now) = (app.clone(), app.clock.now());
    Arc::new(move |body: &T| {
        let text = serde_json::to_string(body).map_err(|error| Error::invalid("body", error.to_string()))?;
        let hidden = hex::encode(app.protection.hide(SAVED_ANSWER, &text));
        Ok(slot.answer(StatusCode::CREATED, &[NO_STORE], &hidden, now))
    })
}
