//! A small service over the skeleton, for the tests of the skeleton.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use ed25519_dalek::SigningKey;
use hbc_client::ServiceCaller;
use hbc_service::idempotency::{Slot, WriteConflict};
use hbc_service::paging::{PageQuery, cursor};
use hbc_service::{
    Agency, AnswerStore, AnyService, Caller, FromAuth, IdempotencyKey, MaybeCaller, Patient, Problem, Public,
    Readiness, RequestId, Routes, Server, ServerSettings, Service, ServiceVerifier, StrictJson, Tasks,
    TokenVerifier, openapi,
};
use hbc_testkit::users::User;
pub use hbc_testkit::users::{AUDIENCE, ISSUER};
use hbc_types::account::ServiceRole;
use hbc_types::ids::{AccountId, AgencyId, PatientId};
use hbc_types::saved::SavedAnswer;
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims};
use hbc_types::{Clock, Digest, Random, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    pub name: String,
    pub count: u32,
}

/// Saved answers in memory, and a gate that holds the creating handler.
#[derive(Clone, Default)]
pub struct Memory {
    saved: Arc<Mutex<HashMap<Digest, SavedAnswer>>>,
    pub made: Arc<Mutex<u32>>,
    pub gate: Arc<tokio::sync::Mutex<()>>,
    pub entered: Arc<tokio::sync::Notify>,
}

impl AnswerStore for Memory {
    async fn saved_answer(&self, id: Digest) -> Result<Option<SavedAnswer>, Problem> {
        Ok(self.saved.lock().unwrap().get(&id).cloned())
    }
}

#[utoipa::path(security(()), responses((status = 200)))]
#[get("/v1/open")]
async fn open(_anybody: Public) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"open": true}))
}

#[utoipa::path(security(("user" = [])), responses((status = 200)))]
#[get("/v1/me")]
async fn me(caller: Caller, id: RequestId) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"account": caller.account, "request": id.0}))
}

#[utoipa::path(security(("user" = [])), responses((status = 200)))]
#[get("/v1/patients-only")]
async fn patients_only(patient: Patient) -> HttpResponse {
    HttpResponse::Ok().json(patient.id)
}

#[utoipa::path(security(("user" = [])), responses((status = 200)))]
#[get("/v1/agencies-only")]
async fn agencies_only(agency: Agency) -> HttpResponse {
    HttpResponse::Ok().json(agency.id)
}

#[utoipa::path(security((), ("user" = [])), responses((status = 200)))]
#[get("/v1/maybe")]
async fn maybe(caller: MaybeCaller) -> HttpResponse {
    HttpResponse::Ok().json(caller.0.is_some())
}

#[utoipa::path(security(("user" = [])), request_body = Thing, responses((status = 201, body = Thing)))]
#[post("/v1/things")]
async fn create(
    patient: Patient,
    key: IdempotencyKey,
    body: StrictJson<Thing>,
    memory: web::Data<Memory>,
) -> Result<HttpResponse, Problem> {
    let (caller, digest, thing) = (patient.id, body.digest(), body.into_value());
    let work = async |slot: Slot| {
        memory.entered.notify_one();
        let _passed = memory.gate.lock().await;
        *memory.made.lock().unwrap() += 1;
        let text = serde_json::to_string(&thing).unwrap();
        let saved = slot.answer(StatusCode::CREATED, &HEADERS, &text, Timestamp::from_ms(0));
        if let Some(saved) = saved {
            memory.saved.lock().unwrap().insert(saved.id, saved);
        }
        let mut answer = HttpResponse::Created();
        HEADERS.into_iter().for_each(|header| {
            answer.insert_header(header);
        });
        Ok::<_, NeverFails>(answer.json(thing))
    };
    key.once(memory.get_ref(), caller.as_str(), digest, work).await
}

/// What the answer to a creation says beside its body.
const HEADERS: [(&str, &str); 3] =
    [("content-type", "application/thing+json"), ("etag", "W/\"1\""), ("location", "/v1/things/1")];

/// Creating a thing cannot fail.
enum NeverFails {}

impl WriteConflict for NeverFails {
    fn is_conflict(&self) -> bool {
        match *self {}
    }
}

impl From<NeverFails> for Problem {
    fn from(never: NeverFails) -> Self {
        match never {}
    }
}

#[utoipa::path(security(()), params(PageQuery), responses((status = 200)))]
#[get("/v1/things")]
async fn list(_anybody: Public, page: web::Query<PageQuery>) -> Result<HttpResponse, Problem> {
    let after = page.after::<u32>()?.unwrap_or(0);
    let limit = page.limit()?;
    let items: Vec<u32> = (after + 1..=120).take(limit as usize).collect();
    let next = items.last().filter(|last| **last < 120).and_then(cursor);
    Ok(HttpResponse::Ok().json(hbc_types::wire::Page { items, next }))
}

#[utoipa::path(security(()), params(("id" = u32, Path)), responses((status = 200)))]
#[get("/v1/things/{id}")]
async fn read(_anybody: Public, id: web::Path<u32>) -> HttpResponse {
    HttpResponse::Ok().json(id.into_inner())
}

#[utoipa::path(security(()), responses((status = 200)))]
#[get("/v1/panic")]
async fn panics(_anybody: Public) -> HttpResponse {
    panic!("deliberate")
}

#[utoipa::path(security(("service" = [])), request_body = Thing, responses((status = 200)))]
#[post("/internal/v1/things")]
async fn internal(from: Service<AnyService>, body: StrictJson<Thing>) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"from": from.role, "name": body.value.name}))
}

#[utoipa::path(security(("service" = [])), responses((status = 200)))]
#[post("/internal/v1/auth-only")]
async fn internal_auth(_from: Service<FromAuth>) -> HttpResponse {
    HttpResponse::Ok().finish()
}

pub fn table(routes: &mut Routes<'_>) {
    routes
        .service(open)
        .service(me)
        .service(patients_only)
        .service(agencies_only)
        .service(maybe)
        .service(create)
        .service(list)
        .service(read)
        .service(panics)
        .service(internal)
        .service(internal_auth);
}

pub fn document() -> utoipa::openapi::OpenApi {
    openapi::document("HBC sample", "A sample.", table)
}

/// A running sample service.
pub struct Sample {
    pub base: String,
    pub clock: Clock,
    pub key: SigningKey,
    pub memory: Memory,
    pub readiness: Readiness,
    pub http: reqwest::Client,
    pub stop: Option<tokio::sync::oneshot::Sender<()>>,
    pub running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

pub fn start() -> Sample {
    let clock = Clock::fixed(Timestamp::from_ms(1_800_000_000_000));
    let key = SigningKey::from_bytes(&[5; 32]);
    start_with(TokenVerifier::with_keys(ISSUER, AUDIENCE, &[key.verifying_key()], clock.clone()), clock, key)
}

pub fn start_with(verifier: TokenVerifier, clock: Clock, key: SigningKey) -> Sample {
    let memory = Memory::default();
    let readiness = Readiness::default();
    let keys = [
        (ServiceRole::Storage, SigningKey::from_bytes(&[1; 32]).verifying_key()),
        (ServiceRole::Auth, SigningKey::from_bytes(&[2; 32]).verifying_key()),
    ];
    let settings = ServerSettings { json_limit_bytes: 4096, workers: 1, ..ServerSettings::default() };
    let server = Server::build("sample", &settings, document(), table, Tasks::new())
        .state(memory.clone())
        .tokens(verifier)
        .services(ServiceVerifier::new(ServiceRole::AccessPolicy, &keys, clock.clone()))
        .readiness(readiness.clone())
        .bind()
        .unwrap();
    let base = format!("http://127.0.0.1:{}", server.port());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = hbc_service::spawn(
        "service",
        server.run_until_stopped(async {
            stopped.await.ok();
        }),
    );
    let http = hbc_client::http::client().unwrap();
    Sample { base, clock, key, memory, readiness, http, stop: Some(stop), running }
}

impl Sample {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn claims(&self, account: AccountId) -> AccessClaims {
        let random = Random::seeded(1);
        let claims = User::of(account, &random).claims(self.clock.now(), &random);
        AccessClaims { jti: "token-1".to_owned(), ..claims }
    }

    pub fn token(&self, claims: &impl Serialize) -> String {
        hbc_client::jwt::sign(ACCESS_TYP, &self.key, claims).unwrap()
    }

    pub fn patient_token(&self) -> String {
        self.token(&self.claims(patient()))
    }

    pub fn caller(&self, role: ServiceRole) -> ServiceCaller {
        let seed = if role == ServiceRole::Auth { 2 } else { 1 };
        ServiceCaller::new(role, SigningKey::from_bytes(&[seed; 32]), self.clock.clone(), Random::system())
    }
}

pub fn patient() -> AccountId {
    AccountId::Patient(PatientId::random(&Random::seeded(11)))
}

pub fn agency() -> AccountId {
    AccountId::Agency(AgencyId::random(&Random::seeded(12)))
}

/// The slug of a problem answer, after checking that it is one.
pub async fn slug(response: reqwest::Response) -> String {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: hbc_types::problem::ProblemDocument = response.json().await.unwrap();
    assert_eq!(problem.status, status);
    assert_eq!(problem.instance, Some(id));
    problem.kind.strip_prefix("urn:hbc:problem:").unwrap().to_owned()
}
