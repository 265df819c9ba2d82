//! `Idempotency-Key`: the same request under the same key is done once and answered alike.
//!
//! The same request is the same in everything that can change what is done: caller, method, path, query, the headers of
//! [`COVERED`] and body. Anything else under the same key is refused.
//!
//! A handler of a creating POST takes an [`IdempotencyKey`] and does its work in [`IdempotencyKey::once`]: it prepares,
//! then commits, and stores what [`Slot::answer`] gives in the transaction that does the work
//! (`hbc_db::idempotency::save`). Between processes that transaction's primary key decides who was first.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{LazyLock, Mutex, PoisonError};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use futures_util::future::{Ready, ready};
use hbc_types::hash::domain_hash;
use hbc_types::problem::Slug;
use hbc_types::saved::SavedAnswer;
use hbc_types::{Digest, Timestamp};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::Problem;

/// Longest key that is taken.
const LONGEST: usize = 128;

/// Headers that say what a request asks for: of what kind its body is, for whom and why it is done, under which condition.
/// A new header that does so stands here. (`Prefer` does not: how long somebody waits changes nothing that is done.)
pub const COVERED: [&str; 8] = [
    "content-type",
    "hbc-patient",
    "hbc-purpose",
    "if-match",
    "if-modified-since",
    "if-none-exist",
    "if-none-match",
    "if-unmodified-since",
];

/// Where saved answers are looked up: implemented by a service's store with `hbc_db::idempotency::find`.
pub trait AnswerStore {
    /// The answer saved under `id`.
    fn saved_answer(&self, id: Digest) -> impl Future<Output = Result<Option<SavedAnswer>, Problem>> + Send;
}

/// The request's `Idempotency-Key`, if it has one: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    key: Option<String>,
    method: String,
    path: String,
    /// Hash of the query and of the headers of [`COVERED`].
    asks: Digest,
}

impl utoipa::IntoParams for IdempotencyKey {
    fn into_params(_place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(LONGEST)).build();
        let key = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("The same request under the same key is worked on once and answered alike"))
            .schema(Some(text));
        vec![key.build()]
    }
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let key = match request.headers().get("idempotency-key") {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Ok(key)
                    if (1..=LONGEST).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) =>
                {
                    Ok(Some(key.to_owned()))
                }
                _ => Err(Problem::invalid("Idempotency-Key", "must be 1 to 128 visible ASCII characters")),
            },
        };
        let (method, path) = (request.method().to_string(), request.path().to_owned());
        let asks = asks(request);
        ready(key.map(|key| Self { key, method, path, asks }))
    }
}

/// What a request asks for beside its body: a header that is absent differs from one that is empty.
fn asks(request: &HttpRequest) -> Digest {
    let mut parts = vec![request.query_string().as_bytes().to_vec()];
    for name in COVERED {
        let values: Vec<&HeaderValue> = request.headers().get_all(name).collect();
        parts.push(values.len().to_be_bytes().to_vec());
        parts.extend(values.into_iter().map(|value| value.as_bytes().to_vec()));
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    domain_hash("hbc/idempotency-asks/v1", &parts)
}

/// What [`IdempotencyKey::begin`] found.
enum Begun {
    /// The request was done before: give back this answer.
    Answered(HttpResponse),
    /// Nobody did it yet.
    Fresh(Ticket),
}

/// The right to do a request; while it lives, the same request is answered `in_flight`.
struct Ticket(Slot);

/// Where a request's answer is to be saved.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    id: Option<Digest>,
    fingerprint: Digest,
}

/// Tells failures that may mean that a conflicting request was first (one under the same key, or about the same unique
/// thing) from all others.
pub trait WriteConflict {
    /// Whether this is one of them.
    fn is_conflict(&self) -> bool;
}

impl IdempotencyKey {
    /// Does the request of `caller` (its account, or another name for who asks) with a body of this digest, unless it
    /// was done before: then its answer is given again. `work` prepares and commits; where it lost to a conflicting
    /// request with the same key, that one's answer is given.
    pub async fn once<S, E, P>(
        &self,
        store: &S,
        caller: &str,
        body: Digest,
        work: impl AsyncFnOnce(Slot) -> Result<HttpResponse, E>,
    ) -> Result<HttpResponse, P>
    where
        S: AnswerStore,
        E: WriteConflict,
        P: From<Problem> + From<E>,
    {
        let ticket = match self.begin(store, caller, body).await? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        match work(ticket.0).await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_conflict() => match ticket.lost(store).await? {
                Some(answer) => Ok(answer),
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn begin<S: AnswerStore>(&self, store: &S, caller: &str, body: Digest) -> Result<Begun, Problem> {
        let fingerprint = self.fingerprint(body);
        let Some(key) = &self.key else {
            return Ok(Begun::Fresh(Ticket(Slot { id: None, fingerprint })));
        };
        let id = self.id(caller, key);
        if let Some(saved) = store.saved_answer(id).await? {
            return replay(&saved, fingerprint).map(Begun::Answered);
        }
        if !IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Err(Problem::new(Slug::InFlight));
        }
        let ticket = Ticket(Slot { id: Some(id), fingerprint });
        // The first request may have finished between the look-up and the ticket.
        match store.saved_answer(id).await? {
            Some(saved) => replay(&saved, fingerprint).map(Begun::Answered),
            None => Ok(Begun::Fresh(ticket)),
        }
    }

    fn id(&self, caller: &str, key: &str) -> Digest {
        let parts = [caller, &self.method, &self.path, key].map(str::as_bytes);
        domain_hash("hbc/idempotency/v1", &parts)
    }

    /// The hash of everything that the id does not cover.
    fn fingerprint(&self, body: Digest) -> Digest {
        domain_hash("hbc/idempotency-request/v1", &[self.asks.as_bytes(), body.as_bytes()])
    }
}

impl Slot {
    /// The row to store in the transaction that does the work; nothing if the client sent no key. `headers` are those of
    /// the answer, lowercase; without a `content-type` among them it is JSON.
    #[must_use]
    pub fn answer(
        &self,
        status: StatusCode,
        headers: &[(&str, &str)],
        body: &str,
        now: Timestamp,
    ) -> Option<SavedAnswer> {
        Some(SavedAnswer {
            id: self.id?,
            fingerprint: self.fingerprint,
            status: status.as_u16(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_owned(),
            saved_at: now,
        })
    }
}

impl Ticket {
    /// The answer of a conflicting request with the same key that was first, if it was that.
    async fn lost<S: AnswerStore>(&self, store: &S) -> Result<Option<HttpResponse>, Problem> {
        let Some(id) = self.0.id else { return Ok(None) };
        let saved = store.saved_answer(id).await?;
        saved.map(|saved| replay(&saved, self.0.fingerprint)).transpose()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(id) = self.0.id {
            IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}

/// The requests that this process is working on.
static IN_FLIGHT: LazyLock<Mutex<HashSet<Digest>>> = LazyLock::new(Mutex::default);

fn replay(saved: &SavedAnswer, fingerprint: Digest) -> Result<HttpResponse, Problem> {
    if saved.fingerprint != fingerprint {
        return Err(Problem::new(Slug::IdempotencyMismatch));
    }
    let status = StatusCode::from_u16(saved.status).map_err(|_range| Problem::new(Slug::Internal))?;
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CONTENT_TYPE, "application/json")).insert_header(("idempotent-replayed", "true"));
    for (name, value) in &saved.headers {
        answer.insert_header((name.as_str(), value.as_str()));
    }
    Ok(answer.body(saved.body.clone()))
}
