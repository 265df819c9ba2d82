//! `Observation/$lastn`: of each code the latest observations.
//!
//! Source: <https://hl7.org/fhir/R4/observation-operation-lastn.html>.

use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_service::Problem;
use hbc_service::openapi::StoreProblems;
use hbc_types::problem::Slug;

use crate::app::App;
use crate::routes::fhir_answer::{FhirCaller, FhirProblem};
use crate::routes::fhir_search::{Asked, answer};

/// Of each code at most.
const MOST: usize = 100;

/// Of each code the latest observations, the latest first; what else a search for observations takes narrows them.
#[utoipa::path(tag = "fhir", operation_id = "fhir_lastn", security(("user" = [])),
    params(("max" = Option<u32>, Query, description = "Of each code, 1 unless given, 100 at most"),
        ("patient" = Option<String>, Query, description = "Account or Patient; if absent the caller's own, or whose app calls"),
        ("category" = Option<String>, Query, description = "HBC category, or FHIR's element"),
        ("code" = Option<String>, Query, description = "`system|code`, after commas"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given"),
        ("_cursor" = Option<String>, Query, description = "From the links `next` and `previous`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 400, description = "A parameter or modifier is not understood"),
        (status = 404, description = "There is no such patient, as far as the caller may know"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/Observation/$lastn")]
pub async fn last_of_each(
    caller: FhirCaller,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (own, pairs): (Vec<_>, Vec<_>) = query.into_inner().into_iter().partition(|(name, _)| name == "max");
    let max = match own.as_slice() {
        [] => 1,
        [(_, value), ..] => value.parse().ok().filter(|max| (1..=MOST).contains(max)).ok_or_else(|| {
            Problem::new(Slug::MalformedRequest).field("max", format!("must be 1 to {MOST}"))
        })?,
    };
    let kind = "Observation".to_owned();
    answer(&app, &request, &caller.0, &Asked { kind, pairs, of: None, last: Some((max, own)) }).await
}
