//! The server skeleton: built on a port (0 for a free one), run until stopped, stopped gracefully.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ALLOW, CONTENT_SECURITY_POLICY};
use actix_web::middleware::{Compress, Condition, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, web};
use anyhow::Context as _;
use hbc_types::Random;
use hbc_types::problem::Slug;
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi;
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::SwaggerUi;

use crate::answer::Answers;
use crate::body::Bodies;
use crate::budget::Budget;
use crate::edge::{Dialect, Edge};
use crate::json::JsonLimit;
use crate::{
    Problem, Readiness, Routes, ServiceVerifier, Tasks, TokenVerifier, TrustedProxies, openapi, telemetry,
};

/// Where and how a service listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Worker threads; 0 takes one for each core, at most four.
    pub workers: usize,
    /// Largest JSON body, in bytes.
    pub json_limit_bytes: usize,
    /// Largest body of any kind, in bytes.
    pub body_limit_bytes: usize,
    /// What bodies on their way may hold together, in bytes, beyond 64 KiB each; at least the largest one.
    pub bodies_in_flight_bytes: usize,
    /// What answers that wait to be read may hold together, in bytes, beside those of at most 64 KiB; at least the largest one.
    pub answers_in_flight_bytes: usize,
    /// After so long without taking anything, a caller's connection is closed, in seconds.
    pub unread_seconds: u64,
    /// Addresses and networks (`10.0.0.0/8`) of the proxies in front: only they are believed about the client's address and
    /// the name it called.
    pub trusted_proxies: Vec<String>,
    /// How long requests under way may take once the server is told to stop, in seconds.
    pub shutdown_seconds: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            workers: 0,
            json_limit_bytes: 1024 * 1024,
            body_limit_bytes: 32 * 1024 * 1024,
            bodies_in_flight_bytes: 64 * 1024 * 1024,
            answers_in_flight_bytes: 64 * 1024 * 1024,
            unread_seconds: 30,
            trusted_proxies: Vec::new(),
            shutdown_seconds: 10,
        }
    }
}

type Table = Arc<dyn Fn(&mut Routes<'_>) + Send + Sync>;
type State = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// A server being built.
#[must_use]
pub struct ServerBuilder {
    name: &'static str,
    settings: ServerSettings,
    document: OpenApi,
    table: Table,
    state: Vec<State>,
    readiness: Readiness,
    tasks: Tasks,
    random: Random,
    dialect: Option<Dialect>,
    half_closed: bool,
    open_reads: bool,
    cross_origin: &'static [&'static str],
    inflates: bool,
    restful: Option<&'static str>,
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// With `state` as `web::Data<T>` for the handlers.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        let data = web::Data::new(state);
        self.state.push(Arc::new(move |config| {
            config.app_data(data.clone());
        }));
        self
    }

    /// With the verifier of users' tokens; its key set is kept fresh in the background.
    pub fn tokens(self, verifier: TokenVerifier) -> Self {
        let fresh = verifier.clone();
        self.tasks.spawn_supervised("token keys", move || keep_fresh(fresh.clone()));
        self.state(verifier)
    }

    /// With the verifier of services' assertions.
    pub fn services(self, verifier: ServiceVerifier) -> Self {
        self.state(verifier)
    }

    /// With the parts that `/readyz` speaks of.
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// With another form of problems under one prefix, whoever finds them: the router and the edge too.
    pub const fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// A request ends where it waits once its caller has closed the connection. For services whose handlers may be dropped
    /// at any such place.
    pub const fn ends_with_caller(mut self) -> Self {
        self.half_closed = false;
        self
    }

    /// Pages of any origin may read what `GET` answers under `/v1`. For services where reading takes no credentials.
    pub const fn open_reads(mut self) -> Self {
        self.open_reads = true;
        self
    }

    /// Pages of any origin may call what lies below these prefixes (Fetch, "CORS protocol"): apps that run in a browser do. What they
    /// send is a token of their own; nothing here is believed for where a browser sends it from.
    pub const fn cross_origin(mut self, prefixes: &'static [&'static str]) -> Self {
        self.cross_origin = prefixes;
        self
    }

    /// Below this path a HEAD is answered like a GET, without its body, and a slash at the end means nothing.
    pub const fn restful(mut self, prefix: &'static str) -> Self {
        self.restful = Some(prefix);
        self
    }

    /// Bodies may come gzipped. For services that take large ones.
    pub const fn inflates(mut self) -> Self {
        self.inflates = true;
        self
    }

    /// Listens, without answering yet.
    pub fn bind(self) -> anyhow::Result<Server> {
        let address = (self.settings.host.as_str(), self.settings.port);
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {}:{}", self.settings.host, self.settings.port))?;
        let port = listener.local_addr()?.port();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let workers = if self.settings.workers == 0 { cores.min(4) } else { self.settings.workers };
        let shutdown = self.settings.shutdown_seconds;
        let unread = Duration::from_secs(self.settings.unread_seconds);
        let (name, tasks, half_closed) = (self.name, self.tasks.clone(), self.half_closed);
        let cross_origin = self.cross_origin;
        telemetry::metrics();
        let parts = Arc::new(Parts::of(self)?);
        let server = HttpServer::new(move || {
            let parts = Arc::clone(&parts);
            let table = Arc::clone(&parts.table);
            let (app, _same_document) =
                App::new().into_utoipa_app().configure(|routes| table(routes)).split_for_parts();
            // The last one named is the outermost.
            app.configure(|config| standard(config, &parts))
                .wrap(from_fn(crate::answer::hold))
                .wrap(Compress::default())
                .wrap(from_fn(crate::edge::around))
                .wrap(Condition::new(!cross_origin.is_empty(), crate::cors::below(cross_origin)))
        })
        .on_connect(crate::answer::give_up_after(unread))
        .workers(workers)
        .h1_allow_half_closed(half_closed)
        .keep_alive(Duration::from_secs(75))
        .client_request_timeout(Duration::from_secs(10))
        .shutdown_timeout(shutdown)
        .disable_signals()
        .listen(listener)?
        .run();
        Ok(Server { name, port, server, tasks })
    }
}

async fn keep_fresh(verifier: TokenVerifier) {
    verifier.keep_fresh().await;
}

/// What each worker's application is made of.
struct Parts {
    table: Table,
    state: Vec<State>,
    readiness: web::Data<Readiness>,
    edge: web::Data<Edge>,
    json_limit: web::Data<JsonLimit>,
    bodies: web::Data<Bodies>,
    answers: web::Data<Answers>,
    proxies: web::Data<TrustedProxies>,
    document: web::Data<OpenApi>,
    document_text: web::Data<String>,
}

impl Parts {
    fn of(builder: ServerBuilder) -> anyhow::Result<Self> {
        let edge = Edge {
            service: builder.name,
            inflates: builder.inflates,
            random: builder.random,
            dialect: builder.dialect,
            open_reads: builder.open_reads,
            cross_origin: builder.cross_origin,
            restful: builder.restful,
        };
        let limit = builder.settings.body_limit_bytes;
        let budget = Budget::new("bodies", builder.settings.bodies_in_flight_bytes, limit);
        let answers = Budget::new("answers", builder.settings.answers_in_flight_bytes, limit);
        Ok(Self {
            table: builder.table,
            state: builder.state,
            readiness: web::Data::new(builder.readiness),
            edge: web::Data::new(edge),
            json_limit: web::Data::new(JsonLimit(builder.settings.json_limit_bytes)),
            bodies: web::Data::new(Bodies { limit, budget }),
            answers: web::Data::new(Answers(answers)),
            proxies: web::Data::new(TrustedProxies::parse(&builder.settings.trusted_proxies)?),
            document_text: web::Data::new(openapi::text(&builder.document)?),
            document: web::Data::new(builder.document),
        })
    }
}

/// State, limits, error handlers and the pages that every service has.
fn standard(config: &mut web::ServiceConfig, parts: &Parts) {
    for state in &parts.state {
        state(config);
    }
    config
        .app_data(parts.readiness.clone())
        .app_data(parts.edge.clone())
        .app_data(parts.json_limit.clone())
        .app_data(parts.proxies.clone())
        .app_data(parts.document.clone())
        .app_data(parts.document_text.clone())
        .app_data(parts.bodies.clone())
        .app_data(parts.answers.clone())
        .app_data(web::PathConfig::default().error_handler(|error, _request| refuse("path", &error)))
        .app_data(web::QueryConfig::default().error_handler(|error, _request| refuse("query", &error)))
        .route("/livez", web::get().to(livez))
        .route("/readyz", web::get().to(readyz))
        .route("/metrics", web::get().to(metrics))
        .route("/openapi.json", web::get().to(openapi_json))
        .service(
            web::scope("/docs")
                .wrap(from_fn(allow_page))
                .route("", web::get().to(|| async { web::Redirect::to("/docs/") }))
                .service(SwaggerUi::new("/{_:.*}").config(utoipa_swagger_ui::Config::from("/openapi.json"))),
        )
        .default_service(web::to(no_route));
}

/// The documentation page may load its own scripts and styles.
async fn allow_page<B: actix_web::body::MessageBody>(
    request: actix_web::dev::ServiceRequest,
    next: actix_web::middleware::Next<B>,
) -> Result<actix_web::dev::ServiceResponse<B>, actix_web::Error> {
    let mut response = next.call(request).await?;
    let policy =
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, actix_web::http::header::HeaderValue::from_static(policy));
    Ok(response)
}

fn refuse(part: &'static str, error: &dyn std::fmt::Display) -> actix_web::Error {
    match part {
        // An id that cannot be one names nothing.
        "path" => Problem::new(Slug::NotFound).into(),
        _ => Problem::invalid(part, error.to_string()).into(),
    }
}

async fn livez() -> impl Responder {
    HttpResponse::Ok().json(serde_json::json!({"alive": true}))
}

async fn readyz(readiness: web::Data<Readiness>) -> impl Responder {
    let ready = readiness.is_ready();
    let body = serde_json::json!({"ready": ready, "parts": readiness.parts()});
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

async fn metrics() -> impl Responder {
    match telemetry::metrics() {
        Some(handle) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(handle.render()),
        None => HttpResponse::NotFound().finish(),
    }
}

async fn openapi_json(text: web::Data<String>) -> impl Responder {
    HttpResponse::Ok().content_type("application/json").body(text.to_string())
}

async fn no_route(request: HttpRequest, document: web::Data<OpenApi>) -> HttpResponse {
    let allowed = openapi::allowed_methods(&document, request.path());
    if allowed.is_empty() {
        return HttpResponse::from_error(Problem::new(Slug::NotFound));
    }
    let mut answer = HttpResponse::from_error(Problem::new(Slug::MethodNotAllowed));
    if let Ok(value) = actix_web::http::header::HeaderValue::from_str(&allowed.join(", ")) {
        answer.headers_mut().insert(ALLOW, value);
    }
    answer
}

/// A server that listens and answers nothing until it is run.
pub struct Server {
    name: &'static str,
    port: u16,
    server: actix_web::dev::Server,
    tasks: Tasks,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Server {
    /// A server for the service `name` with the routes of `table`, whose document is `document`
    /// ([`openapi::document`]). Its background loops are `tasks`: they stop with it.
    pub fn build(
        name: &'static str,
        settings: &ServerSettings,
        document: OpenApi,
        table: impl Fn(&mut Routes<'_>) + Send + Sync + 'static,
        tasks: Tasks,
    ) -> ServerBuilder {
        ServerBuilder {
            name,
            settings: settings.clone(),
            document,
            table: Arc::new(table),
            state: Vec::new(),
            readiness: Readiness::default(),
            tasks,
            random: Random::system(),
            dialect: None,
            half_closed: true,
            open_reads: false,
            cross_origin: &[],
            inflates: false,
            restful: None,
        }
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Answers requests until `stop` resolves, then lets those under way finish, then stops the loops.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { name, port, server, tasks } = self;
        let handle = server.handle();
        tracing::info!(service.name = name, service.port = port, "The service answers");
        tokio::pin!(server);
        let outcome = tokio::select! {
            outcome = &mut server => outcome,
            () = stop => {
                tracing::info!(service.name = name, "The service stops");
                // The server future must be polled while it stops.
                tokio::join!(handle.stop(true), server).1
            }
        };
        tasks.stop().await;
        outcome.context("the server failed")
    }
}
