//! `Patient/{id}/$summary`: what another doctor should know first, as one document.
//!
//! Source: <https://hl7.org/fhir/uv/ips/ipsGeneration.html>.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_service::base_url;
use hbc_service::openapi::StoreProblems;

use crate::app::App;
use crate::domain::summary::{Setting, document};
use crate::flows::search::Searcher;
use crate::flows::summary;
use crate::routes::context::{bases, reader};
use crate::routes::fhir_answer::{FHIR_JSON, FhirCaller, FhirProblem};
use crate::routes::fhir_search::account_of;

/// A document in the form of the International Patient Summary: allergies, medication, problems and what else is known, of what the
/// caller may read. What is sensitive is left out, so that it can be handed on.
#[utoipa::path(tag = "fhir", operation_id = "fhir_summary", security(("user" = [])),
    params(("id" = String, Path, description = "Account or Patient"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type document", content_type = "application/fhir+json"),
        (status = 422),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/Patient/{id}/$summary")]
pub async fn read_summary(
    caller: FhirCaller,
    id: web::Path<String>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let patient = account_of(&app, &request, &caller.0, &id).await?;
    let searcher = Searcher {
        reader: reader(&request, &caller.0, Some(&patient))?,
        scopes: caller.0.client.as_ref().map(|client| client.scope.clone()),
        patient: patient.clone(),
        bases: bases(&app, &request),
    };
    let found = summary::gather(&app, &searcher).await?;
    let setting = Setting {
        patient: &patient,
        base: &format!("{}/fhir", base_url(&request)),
        now: app.clock.now(),
        uuids: [(); 3].map(|()| uuid(app.random.bytes())),
        left_out: &found.left_out,
    };
    let body = document(&setting, found.patient, &found.shown);
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).insert_header((CACHE_CONTROL, "no-store")).body(body))
}

/// A random UUID (RFC 9562 §5.4).
fn uuid(mut bytes: [u8; 16]) -> String {
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_says_that_it_is_random() {
        assert_eq!(super::uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(super::uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
