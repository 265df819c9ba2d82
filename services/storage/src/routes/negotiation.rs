//! In which form an answer under `/fhir` is wanted: JSON of FHIR R4 is the one that there is.
//!
//! Source: <https://hl7.org/fhir/R4/http.html#mime-type>, <https://hl7.org/fhir/R4/http.html#parameters> (`_format`).

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, web};
use hbc_service::Problem;
use hbc_types::problem::Slug;

/// Refuses a request whose client takes no JSON, or another version of FHIR. `_format` counts before `Accept`.
pub fn check_acceptable(request: &HttpRequest) -> Result<(), Problem> {
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let format = query.iter().flat_map(|query| query.iter()).find(|(name, _)| name == "_format");
    let taken = match format {
        // A `+` that is not escaped is a space in a query.
        Some((_, format)) => is_given(&format.replace(' ', "+"), false),
        None => {
            let accept = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
            let mut ranges =
                accept.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).peekable();
            ranges.peek().is_none() || ranges.any(|range| is_given(range, true))
        }
    };
    let detail = "only application/fhir+json of FHIR 4.0 is given";
    if taken { Ok(()) } else { Err(Problem::new(Slug::NotAcceptable).detail(detail)) }
}

/// Whether a media type or, in `Accept`, a range of them is what is given.
fn is_given(text: &str, range: bool) -> bool {
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let known = match essence.as_str() {
        "application/fhir+json" | "application/json" | "text/json" => true,
        "*/*" | "application/*" => range,
        "json" => !range,
        _ => false,
    };
    known
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => {
                value.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0)
            }
            Some((name, value)) if name.trim().eq_ignore_ascii_case("fhirVersion") => {
                matches!(value.trim().trim_matches('"'), "4.0" | "4.0.1")
            }
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn json_of_this_version_alone_is_given() {
        let taken = |accept: &str, query: &str| {
            let request = TestRequest::get().uri(&format!("/fhir/Patient{query}"));
            let request = if accept.is_empty() { request } else { request.insert_header((ACCEPT, accept)) };
            check_acceptable(&request.to_http_request()).is_ok()
        };
        for accept in [
            "",
            "*/*",
            "application/fhir+json",
            "Application/JSON; charset=utf-8",
            "application/fhir+xml, application/fhir+json;q=0.1",
            "application/fhir+json; fhirVersion=4.0",
        ] {
            assert!(taken(accept, ""), "{accept}");
        }
        for accept in [
            "application/fhir+xml",
            "text/html",
            "application/json;q=0",
            "application/fhir+json; fhirVersion=3.0",
        ] {
            assert!(!taken(accept, ""), "{accept}");
            assert!(taken(accept, "?_format=json"), "{accept}");
        }
        for query in ["?_format=xml", "?_format=application/fhir%2Bxml", "?_format=ttl", "?_format="] {
            assert!(!taken("application/json", query), "{query}");
        }
        assert!(
            taken("", "?_format=application/fhir+json") && taken("", "?_format=application%2Ffhir%2Bjson")
        );
    }
}
