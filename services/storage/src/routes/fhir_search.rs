//! Searching under `/fhir`: one type, by GET or POST, in the caller's own account, the one that is named, or a Patient's
//! compartment.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Body, Caller, Problem};
use hbc_types::account::Role;
use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::problem::Slug;

use crate::app::App;
use crate::domain::reference::Target;
use crate::domain::search::parameters::parameters;
use crate::domain::search::query::{Query, Reader};
use crate::domain::search::values::QueryError;
use crate::error::Error;
use crate::flows::read;
use crate::flows::search::{Results, Run, Searcher};
use crate::routes::context::{bases, own_patient, reader};
use crate::routes::fhir_answer::{FhirCaller, FhirProblem};
use crate::routes::records_read::find;
use crate::routes::searchset::{Answer, Notices, links, place, searchset};

/// The media type of a search by POST.
const FORM: &str = "application/x-www-form-urlencoded";

/// Searches one type by HL7's parameters of it, which the capability statement lists, and by `patient` and HBC's `category`.
#[utoipa::path(tag = "fhir", operation_id = "fhir_search", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("patient" = Option<String>, Query, description = "Account or Patient; if absent the caller's own, whose app calls, or all that an agency has live grants of, 50 at most"),
        ("category" = Option<String>, Query, description = "HBC category, or FHIR's element"),
        ("date" = Option<String>, Query, description = "When it happened, to the instant, with a prefix such as `ge`; several after commas"),
        ("_id" = Option<String>, Query, description = "Ids, after commas"),
        ("_lastUpdated" = Option<String>, Query, description = "When it was written, as `date`"),
        ("_sort" = Option<String>, Query, description = "Parameters after commas, the first counts most; `-` before one: the greatest first"),
        ("_include" = Option<String>, Query, description = "`Type:parameter`, `Type:parameter:Target` or `*`: what results refer to"),
        ("_revinclude" = Option<String>, Query, description = "`Type:parameter`: what refers to results"),
        ("_summary" = Option<String>, Query, description = "`true`, `text`, `data`, `count` or `false`"),
        ("_elements" = Option<String>, Query, description = "The elements that are shown, after commas"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given; 0 counts alone"),
        ("_total" = Option<String>, Query, description = "`none`: how many there are is not said"),
        ("_cursor" = Option<String>, Query, description = "From the links `next` and `previous`"),
        ("Prefer" = Option<String>, Header, description = "`handling=strict`: what is not known is refused"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 400, description = "A parameter or modifier is not understood"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/{type}")]
pub async fn search_type(
    caller: FhirCaller,
    kind: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    answer(
        &app,
        &request,
        &caller.0,
        &Asked { kind: kind.into_inner(), pairs: query.into_inner(), of: None, last: None },
    )
    .await
}

/// Searches one type by parameters that the body has, or the query, or both. The URL that is asked holds nothing of them; the
/// links of the answer do.
#[utoipa::path(tag = "fhir", operation_id = "fhir_search_by_post", security(("user" = [])),
    request_body(content = String, content_type = "application/x-www-form-urlencoded",
        description = "The parameters of a search"),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("Prefer" = Option<String>, Header, description = "`handling=strict`: what is not known is refused"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 400, description = "A parameter or modifier is not understood"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 415, description = "The body is no form"),
        StoreProblems,
    ))]
#[post("/fhir/{type}/_search")]
pub async fn search_by_post(
    caller: FhirCaller,
    kind: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if !(essence.eq_ignore_ascii_case(FORM) || body.is_empty()) {
        return Err(Problem::new(Slug::UnsupportedMediaType).detail(format!("send {FORM}")).into());
    }
    let refuse = || Problem::new(Slug::MalformedRequest).detail("the body is no form");
    let text = std::str::from_utf8(&body).map_err(|_bytes| refuse())?;
    let form = web::Query::<Vec<(String, String)>>::from_query(text).map_err(|_form| refuse())?;
    let pairs = query.into_inner().into_iter().chain(form.into_inner()).collect();
    answer(&app, &request, &caller.0, &Asked { kind: kind.into_inner(), pairs, of: None, last: None }).await
}

/// Searches one type in a Patient's compartment.
#[utoipa::path(tag = "fhir", operation_id = "fhir_search_compartment", security(("user" = [])),
    params(("id" = String, Path, description = "Account or Patient"),
        ("type" = String, Path, description = "FHIR R4 resource type"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given; 0 counts alone"),
        ("_cursor" = Option<String>, Query, description = "From the links `next` and `previous`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 400, description = "A parameter or modifier is not understood"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/Patient/{id}/{type}")]
pub async fn search_compartment(
    caller: FhirCaller,
    path: web::Path<(String, String)>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (id, kind) = path.into_inner();
    answer(&app, &request, &caller.0, &Asked { kind, pairs: query.into_inner(), of: Some(id), last: None })
        .await
}

/// Searches one type, as an entry of a bundle asks for it.
pub(super) async fn search(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    (kind, query): (&str, &str),
) -> Result<HttpResponse, FhirProblem> {
    let refuse = || Problem::new(Slug::MalformedRequest).detail("the query cannot be read");
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map_err(|_query| refuse())?;
    answer(
        app,
        request,
        caller,
        &Asked { kind: kind.to_owned(), pairs: pairs.into_inner(), of: None, last: None },
    )
    .await
}

/// What a request asks for.
#[derive(Debug)]
pub struct Asked {
    /// The type.
    pub kind: String,
    /// The parameters.
    pub pairs: Vec<(String, String)>,
    /// The Patient whose compartment is searched.
    pub of: Option<String>,
    /// Of each code only so many, the latest, and how that was asked for.
    pub last: Option<(usize, Vec<(String, String)>)>,
}

/// Answers a search.
pub async fn answer(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    asked: &Asked,
) -> Result<HttpResponse, FhirProblem> {
    let kind = asked.kind.as_str();
    let category = classify::type_category(kind).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let bases = bases(app, request);
    let all = parameters().map_err(Error::from)?;
    let query = Reader { all, kind, bases: &bases, now: app.clock.now() }.read(&asked.pairs);
    let query = query.map_err(query_problem)?;
    if is_strict(request) && !query.ignored.is_empty() {
        let refuse =
            |problem: Problem, name: &String| problem.field(name.clone(), "is no search parameter here");
        return Err(query.ignored.iter().fold(Problem::new(Slug::MalformedRequest), refuse).into());
    }
    let patient = match (named(kind, &query, asked)?, own_patient(caller)) {
        (Some(subject), _) => Some(account_of(app, request, caller, subject).await?),
        (None, _) if category == Category::Directory => Some(PatientId::directory()),
        (None, Some(own)) => Some(own.clone()),
        // Whoever acts for an agency in person may search all whose grants it has.
        (None, None) if caller.client.is_none() && caller.role == Role::Agency => None,
        (None, None) => {
            return Err(Problem::invalid("patient", "names the account whose records are asked for").into());
        }
    };
    let several = patient.is_none();
    let searcher = Searcher {
        reader: reader(request, caller, patient.as_ref())?,
        scopes: caller.client.as_ref().map(|client| client.scope.clone()),
        patient: patient.unwrap_or_else(PatientId::directory),
        bases,
    };
    show(app, request, (searcher, several), &query, asked).await
}

/// Whose records a query names.
fn named<'q>(kind: &str, query: &'q Query, asked: &'q Asked) -> Result<Option<&'q str>, Problem> {
    // A Patient that is asked for by the account names it.
    let by_id = asked
        .pairs
        .iter()
        .filter(|(name, value)| kind == "Patient" && name == "_id" && PatientId::parse(value).is_ok());
    match (&asked.of, &query.subject) {
        (Some(_), Some(_)) => {
            Err(Problem::new(Slug::MalformedRequest).field("patient", "is named by the path"))
        }
        (Some(of), None) => Ok(Some(of)),
        (None, Some(subject)) => Ok(Some(subject)),
        (None, None) => Ok(by_id.map(|(_, value)| value.as_str()).next()),
    }
}

/// Searches one account, or those that the caller has live grants of.
async fn show(
    app: &App,
    request: &HttpRequest,
    (searcher, several): (Searcher, bool),
    query: &Query,
    asked: &Asked,
) -> Result<HttpResponse, FhirProblem> {
    let kind = asked.kind.as_str();
    let place = place(query.cursor.as_ref())?;
    let run = Run { kind, query, place, last: asked.last.as_ref().map(|(most, _)| *most) };
    let results = match several {
        true => run.granted(app, &searcher).await?,
        false => run.one(app, searcher).await?,
    };
    let (path, mut used) = match (&asked.of, &asked.last) {
        (Some(of), _) => (format!("/fhir/Patient/{of}/{kind}"), Vec::new()),
        (None, Some((_, own))) => (format!("/fhir/{kind}/$lastn"), own.clone()),
        (None, None) => (format!("/fhir/{kind}"), Vec::new()),
    };
    used.extend(query.used.iter().cloned());
    let Results { matches, beside, total, next, previous, left_out, lost, cut } = &results;
    searchset(
        request,
        &Answer {
            matches,
            beside,
            part: &query.shown.part,
            total: *total,
            links: links(request, &path, &used, (next.as_ref(), previous.as_ref())),
            notices: Notices { left_out, ignored: &query.ignored, lost: *lost, cut: *cut },
        },
    )
}

fn query_problem(error: QueryError) -> Problem {
    Problem::new(Slug::MalformedRequest).field(error.name, error.message)
}

/// `Prefer: handling=strict`: what is not known is an error.
fn is_strict(request: &HttpRequest) -> bool {
    let values = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).any(|one| one.trim() == "handling=strict")
}

/// The account that a search names: `pat-…`, `Patient/pat-…`, or the Patient resource of an account.
pub async fn account_of(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    text: &str,
) -> Result<PatientId, FhirProblem> {
    let id = match Target::parse(text, &bases(app, request)) {
        Target::Own { kind: "Patient", id } => id,
        // An id alone; whatever else it is, it is no id.
        _ => text.to_owned(),
    };
    if let Ok(account) = PatientId::parse(&id) {
        return Ok(account);
    }
    RecordId::parse(&id).map_err(|_text| Problem::invalid("patient", "names no patient"))?;
    let (reader, row) = find(app, request, caller, &id, None).await?;
    if row.row.kind == "Patient" {
        Ok(row.secret.patient)
    } else {
        Err(read::absent(app, &reader).await.into())
    }
}
