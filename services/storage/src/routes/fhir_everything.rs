//! `Patient/{id}/$everything`: all that the caller may read of a patient, page by page.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Body, Caller, Problem};
use hbc_types::Timestamp;
use hbc_types::classify::type_category;
use hbc_types::problem::Slug;
use serde_json::Value;

use crate::app::App;
use crate::domain::date_search::Dates;
use crate::domain::moment::Moment;
use crate::domain::search::results::Part;
use crate::domain::search::values::{DEFAULT_COUNT, MOST_COUNT};
use crate::flows::read;
use crate::flows::search::{self, Place};
use crate::routes::context::reader;
use crate::routes::fhir_answer::{FhirCaller, FhirProblem};
use crate::routes::fhir_search::account_of;
use crate::routes::searchset::{Answer, Notices, links, place, searchset};
use crate::store::{Filter, TrustedRow};

/// Everything that the caller may read of a patient, oldest first.
#[utoipa::path(tag = "fhir", operation_id = "fhir_everything", security(("user" = [])),
    params(("id" = String, Path, description = "Account or Patient"),
        ("start" = Option<String>, Query, description = "Only what happened from this day on, and what says no day"),
        ("end" = Option<String>, Query, description = "Only what happened up to this day, and what says no day"),
        ("_type" = Option<String>, Query, description = "Only these types, after commas"),
        ("_since" = Option<String>, Query, description = "Only what was written from this instant on"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given; 0 counts alone"),
        ("_total" = Option<String>, Query, description = "`none`: how many there are is not said"),
        ("_cursor" = Option<String>, Query, description = "From the links `next` and `previous`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 400, description = "A parameter is not understood"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/Patient/{id}/$everything")]
pub async fn read_everything(
    caller: FhirCaller,
    id: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    everything(&app, &request, &caller.0, (&id, query.into_inner())).await
}

/// As by GET; the parameters may stand in a Parameters resource.
#[utoipa::path(tag = "fhir", operation_id = "fhir_everything_by_post", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/fhir+json",
        description = "A Parameters resource, or nothing"),
    params(("id" = String, Path, description = "Account or Patient"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 400, description = "A parameter is not understood"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[post("/fhir/Patient/{id}/$everything")]
pub async fn post_everything(
    caller: FhirCaller,
    id: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let mut pairs = query.into_inner();
    if !body.is_empty() {
        let refuse = || Problem::new(Slug::MalformedRequest).detail("the body is no Parameters resource");
        let parameters: Value = serde_json::from_slice(&body).map_err(|_json| refuse())?;
        pairs.extend(given(&parameters).ok_or_else(refuse)?);
    }
    everything(&app, &request, &caller.0, (&id, pairs)).await
}

/// What a Parameters resource gives: primitive values by their names.
fn given(parameters: &Value) -> Option<Vec<(String, String)>> {
    if parameters.get("resourceType")?.as_str()? != "Parameters" {
        return None;
    }
    let all = parameters.get("parameter").and_then(Value::as_array);
    let pair = |parameter: &Value| {
        let name = parameter.get("name")?.as_str()?.to_owned();
        let members = parameter.as_object()?.iter();
        let value =
            members.filter(|(member, _)| member.starts_with("value")).map(|(_, value)| value).next()?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((name, value))
    };
    all.into_iter().flatten().map(pair).collect()
}

/// What is asked for.
#[derive(Debug)]
struct Asked {
    filter: Filter,
    kinds: Vec<String>,
    since: Option<Timestamp>,
    place: Option<Place>,
    count: u32,
    total: bool,
}

impl Asked {
    fn read(pairs: &[(String, String)], now: Timestamp) -> Result<Self, Problem> {
        let mut asked = Self {
            filter: Filter { resources: true, ..Filter::default() },
            kinds: Vec::new(),
            since: None,
            place: None,
            count: DEFAULT_COUNT,
            total: true,
        };
        for (name, value) in pairs {
            asked.take(name, value, now)?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str, now: Timestamp) -> Result<(), Problem> {
        let wrong = |message: &str| Problem::new(Slug::MalformedRequest).field(name, message);
        let now = now.ms().saturating_mul(1_000);
        // The `+` of an offset that was not escaped arrives as a space.
        let date = || value.replace(' ', "+");
        let form = "must be a date";
        match name {
            "start" => self.filter.dates.add(&format!("ge{}", date()), now).ok_or_else(|| wrong(form))?,
            "end" => self.filter.dates.add(&format!("le{}", date()), now).ok_or_else(|| wrong(form))?,
            "_since" => {
                let moment = Moment::parse(&date()).ok_or_else(|| wrong(form))?;
                self.since = Some(Timestamp::from_ms(moment.first.div_euclid(1_000)));
            }
            "_type" => {
                for kind in value.split(',') {
                    type_category(kind).ok_or_else(|| wrong("names no type of FHIR R4"))?;
                    self.kinds.push(kind.to_owned());
                }
            }
            "_count" => {
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let count = is_number.then(|| value.parse().unwrap_or(MOST_COUNT));
                self.count = count.ok_or_else(|| wrong("must be a whole number from 0 on"))?.min(MOST_COUNT);
            }
            "_total" => {
                self.total = match value {
                    "none" => false,
                    "estimate" | "accurate" => true,
                    _ => return Err(wrong("must be `none`, `estimate` or `accurate`")),
                }
            }
            "_cursor" => self.place = place(Some(&value.to_owned()))?,
            "_format" | "_pretty" => {}
            "patient" | "subject" => return Err(wrong("is named by the path")),
            _ => return Err(wrong("is no parameter here")),
        }
        Ok(())
    }

    /// Whether everything is asked for.
    const fn is_whole(&self) -> bool {
        self.kinds.is_empty() && self.since.is_none() && self.filter.dates.is_empty()
    }
}

async fn everything(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    (id, pairs): (&str, Vec<(String, String)>),
) -> Result<HttpResponse, FhirProblem> {
    let asked = Asked::read(&pairs, app.clock.now())?;
    let patient = account_of(app, request, caller, id).await?;
    let reader = reader(request, caller, Some(&patient))?;
    let range = read::range(app, &reader, &patient, asked.filter.categories()).await?;
    let keep = |row: &TrustedRow| {
        let dates = &asked.filter.dates;
        (asked.kinds.is_empty() || asked.kinds.contains(&row.row.kind))
            && asked.since.is_none_or(|since| row.row.created_at >= since)
            && (dates.is_empty() || row.secret.when.is_none() || dates.hold(row.secret.when))
    };
    let filter = Filter { dates: Dates::default(), ..asked.filter.clone() };
    let window = (asked.place.as_ref(), asked.count);
    let page = search::plain_page(app, &range, filter.clone(), window, keep).await?;
    let total = match asked.total && asked.is_whole() {
        true => Some(read::count(app, &range, &filter).await?),
        false => None,
    };
    let opened = read::open(app, &reader, &patient, page.rows, |_needed| false).await?.records;
    let path = format!("/fhir/Patient/{id}/$everything");
    let links = links(request, &path, &pairs, (page.next.as_ref(), page.previous.as_ref()));
    searchset(
        request,
        &Answer {
            matches: &opened,
            beside: &[],
            part: &Part::Whole,
            total,
            links,
            notices: Notices { left_out: &range.left_out, ..Notices::default() },
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_read_as_they_are_or_refused() {
        let of = |name: &str, value: &str| {
            Asked::read(&[(name.to_owned(), value.to_owned())], Timestamp::from_ms(0))
        };
        for (name, value) in [
            ("_count", "-1"),
            ("_count", ""),
            ("_total", "all"),
            ("start", "2020x"),
            ("_type", "Dog"),
            ("patient", "x"),
            ("code", "x"),
            ("_since", "soon"),
        ] {
            assert_eq!(of(name, value).unwrap_err().slug().status(), 400, "{name}={value}");
        }
        assert!(of("start", "2026-06-10T08:00:00 02:00").is_ok(), "a `+` that was not escaped");
        assert_eq!(of("_count", "99999999999").unwrap().count, MOST_COUNT);
        assert!(of("_count", "7").unwrap().is_whole() && !of("_type", "Patient,Goal").unwrap().is_whole());
    }

    #[test]
    fn a_parameters_resource_gives_the_same() {
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "_count", "valueInteger": 5}, {"name": "start", "valueDate": "2020"}]});
        let pairs = given(&parameters).unwrap();
        assert_eq!(pairs[0], ("_count".to_owned(), "5".to_owned()));
        assert_eq!(pairs[1].1, "2020");
        assert_eq!(given(&json!({"resourceType": "Patient"})), None);
        assert_eq!(given(&json!({"resourceType": "Parameters", "parameter": [{}]})), None);
        assert_eq!(given(&json!({"resourceType": "Parameters"})), Some(Vec::new()));
    }
}
