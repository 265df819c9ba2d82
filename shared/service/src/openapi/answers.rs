//! What operations answer beside what their handlers name.
//!
//! A handler names its success and what is special about its refusals. The rest follows from the operation's security,
//! parameters and body, and is added here, each problem once under `components/responses`. Here too stand the sets of
//! refusals that several operations share, and the media types and headers with which problems travel.

use std::collections::{BTreeMap, BTreeSet};

use hbc_types::problem::{ProblemDocument, Slug};
use hbc_types::wire::oauth::OAuthError;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::{is_public, methods_mut, requires};

/// The schema of FHIR's form.
const OUTCOME: &str = "OperationOutcome";

/// A form in which problems travel.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// The paths where they do: this one, and all below it.
    prefix: &'static str,
    media_type: &'static str,
    schema: &'static str,
    /// What the names of its shared responses begin with.
    shared: &'static str,
    /// The status of what is refused with this one elsewhere.
    status: fn(u16) -> u16,
}

const PROBLEMS: Form = Form {
    prefix: "",
    media_type: "application/problem+json",
    schema: "ProblemDocument",
    shared: "",
    status: std::convert::identity,
};
const FHIR: Form = Form {
    prefix: "/fhir",
    media_type: "application/fhir+json",
    schema: OUTCOME,
    shared: "fhir_",
    status: std::convert::identity,
};
const OAUTH: Form = Form {
    prefix: "/oauth",
    media_type: "application/json",
    schema: "OAuthError",
    shared: "oauth_",
    status: OAuthError::status_of,
};

impl Form {
    fn of(path: &str) -> Self {
        [FHIR, OAUTH].into_iter().find(|form| path.starts_with(form.prefix)).unwrap_or(PROBLEMS)
    }
}

/// Declares sets of refusals: status and what it means there.
macro_rules! sets {
    ($($(#[doc = $doc:literal])* $name:ident { $($status:literal => $means:literal),+ $(,)? })+) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status, $means)),+]
                    .into_iter()
                    .map(|(status, means): (u16, &str)| (status.to_string(), described(means)))
                    .collect()
            }
        }
    )+};
}

sets! {
    /// Refusals of an operation that asks for the password again, or for the first time.
    PasswordProblems {
        401 => "No valid token, or username, password or code is wrong",
        429 => "Too many failures",
        503 => "Too many passwords are being checked",
    }
    /// Refusals of an operation that reads what is stored, and checks it.
    StoreProblems {
        502 => "What is stored does not match its hashes",
        503 => "The store or a needed service is not available, or this node is attacked",
    }
}

/// Adds to every operation the answers that follow from what it is, and to every problem its body and headers.
pub(super) fn complete(document: &mut OpenApi) {
    let mut shared = BTreeMap::new();
    for (path, item) in &mut document.paths.paths {
        let form = Form::of(path);
        for operation in methods_mut(item) {
            for status in implied(operation, form) {
                operation.responses.responses.entry(status.to_string()).or_insert_with(|| described(""));
            }
            for (status, answer) in &mut operation.responses.responses {
                let Some(slug) = status.parse().ok().and_then(first_of) else { continue };
                let RefOr::T(response) = &mut *answer else { continue };
                if response.description.is_empty() {
                    let name = format!("{}{}", form.shared, slug.as_str());
                    *answer = Ref::from_response_name(&name).into();
                    shared.entry(name).or_insert_with(|| problem(slug, &meaning(slug.status()), form).into());
                } else {
                    *answer = problem(slug, &response.description, form).into();
                }
            }
        }
    }
    let components = document.components.get_or_insert_default();
    let uses = |form: Form| shared.keys().any(|name| name.starts_with(form.shared));
    if uses(FHIR) {
        components.schemas.insert(OUTCOME.to_owned(), operation_outcome().into());
    }
    if uses(OAUTH) {
        components.schemas.insert(OAUTH.schema.to_owned(), OAuthError::schema());
    }
    components.responses.extend(shared);
    add_problem_schema(components);
}

fn described(description: &str) -> RefOr<Response> {
    ResponseBuilder::new().description(description).build().into()
}

fn add_problem_schema(components: &mut Components) {
    components.schemas.insert(PROBLEMS.schema.to_owned(), ProblemDocument::schema());
    let mut referenced = Vec::new();
    ProblemDocument::schemas(&mut referenced);
    components.schemas.extend(referenced);
}

/// The refusals that every operation of this kind has, where problems travel in this form.
fn implied(operation: &Operation, form: Form) -> BTreeSet<u16> {
    let mut all = BTreeSet::from([500]);
    if !is_public(operation) {
        all.extend([401]);
    }
    if requires(operation, "user") || requires(operation, "service") {
        all.extend([403]);
    }
    for parameter in operation.parameters.iter().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        match (&parameter.parameter_in, parameter.name.as_str()) {
            (ParameterIn::Path, _) => all.extend([404]),
            (ParameterIn::Query, _) => all.extend([422]),
            (ParameterIn::Header, "HBC-Purpose") => all.extend([400]),
            (ParameterIn::Header, "Idempotency-Key") => all.extend([409, 422]),
            _ => {}
        }
    }
    if operation.request_body.is_some() {
        all.extend([400, 413, 415, 422]);
    }
    all.into_iter().map(form.status).collect()
}

/// The kinds of problem with this status, the most general first.
fn with_status(status: u16) -> impl Iterator<Item = Slug> {
    Slug::ALL.iter().copied().filter(move |slug| slug.status() == status)
}

fn first_of(status: u16) -> Option<Slug> {
    with_status(status).next()
}

/// What a status means where a handler says nothing special: the words of the table.
fn meaning(status: u16) -> String {
    let kinds: Vec<String> = with_status(status).map(|slug| format!("`{}`", slug.as_str())).collect();
    let title = first_of(status).map_or("", Slug::title);
    format!("{title}: {}", kinds.join(", "))
}

/// The answer of a problem with its body and the headers that always come with its status.
fn problem(slug: Slug, description: &str, form: Form) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(form.schema))).build();
    let response = ResponseBuilder::new().description(description).content(form.media_type, content);
    let header = |text: &str, kind: Type| {
        HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
            .description(Some(text))
            .build()
    };
    let response = match slug.status() {
        401 => response.header("WWW-Authenticate", header("How to authenticate", Type::String)),
        429 | 503 => {
            response.header("Retry-After", header("Seconds after which to try again", Type::Integer))
        }
        _ => response,
    };
    let response = match slug.status() {
        429 => response.header("RateLimit", header("The same, as an item of RateLimit", Type::String)),
        _ => response,
    };
    response.build()
}

/// FHIR's OperationOutcome as far as it is used here.
fn operation_outcome() -> Schema {
    let text = |description: &str| {
        ObjectBuilder::new().schema_type(Type::String).description(Some(description)).build()
    };
    let coding = ObjectBuilder::new()
        .property("system", text("Where the code is from"))
        .property("code", text("The problem's kind: the end of its `type`"));
    let details = ObjectBuilder::new()
        .property("coding", ArrayBuilder::new().items(coding.build()))
        .property("text", text("The kind's title"));
    let issue = ObjectBuilder::new()
        .property("severity", text("`error`"))
        .property("code", text("FHIR's issue type"))
        .property("details", details.build())
        .property("diagnostics", text("What is wrong this time"))
        .property("expression", ArrayBuilder::new().items(text("FHIRPath of the element")))
        .required("severity")
        .required("code");
    let kind = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([OUTCOME]))
        .description(Some(OUTCOME));
    ObjectBuilder::new()
        .description(Some("A problem in FHIR's shape"))
        .property("resourceType", kind.build())
        .property("issue", ArrayBuilder::new().items(issue.build()))
        .required("resourceType")
        .required("issue")
        .build()
        .into()
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::path::{OperationBuilder, ParameterBuilder};
    use utoipa::openapi::request_body::RequestBody;
    use utoipa::openapi::security::SecurityRequirement;

    use super::*;

    #[test]
    fn refusals_follow_from_what_an_operation_takes() {
        let public = OperationBuilder::new().build();
        assert_eq!(implied(&public, PROBLEMS), BTreeSet::from([500]));
        let parameter = |name: &str, place| ParameterBuilder::new().name(name).parameter_in(place).build();
        let all = OperationBuilder::new()
            .security(SecurityRequirement::new("user", [""; 0]))
            .parameter(parameter("id", ParameterIn::Path))
            .parameter(parameter("limit", ParameterIn::Query))
            .parameter(parameter("HBC-Purpose", ParameterIn::Header))
            .parameter(parameter("Idempotency-Key", ParameterIn::Header))
            .request_body(Some(RequestBody::new()))
            .build();
        assert_eq!(implied(&all, FHIR), BTreeSet::from([400, 401, 403, 404, 409, 413, 415, 422, 500]));
        assert_eq!(implied(&all, OAUTH), BTreeSet::from([400, 404, 500]));
    }

    #[test]
    fn a_problem_travels_with_its_media_type_and_headers() {
        let limited = problem(Slug::TooManyRequests, "Too many", PROBLEMS);
        assert!(limited.headers.contains_key("Retry-After"));
        assert!(limited.content.contains_key("application/problem+json"));
        let anonymous = problem(Slug::Unauthenticated, "Who", FHIR);
        assert!(anonymous.headers.contains_key("WWW-Authenticate"));
        assert!(anonymous.content.contains_key("application/fhir+json"));
        assert!(meaning(401).contains("`token_reused`"));
    }
}
