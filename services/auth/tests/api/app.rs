//! The service on a free port with a database, keys and neighbours of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_app::{LedgerJournal, Service as _, Settings, Surroundings};
use hbc_auth::testing::{App, MIGRATIONS};
use hbc_auth::{Application, Auth, Config, Cost, OperatorsFile, PasswordSettings, SessionSettings, operator};
use hbc_chain::genesis::{Genesis, Named, Parameters, ServiceKey};
use hbc_chain::tx::Tx;
use hbc_client::ledger::{FinalBlock, FinalTransaction, Journal};
use hbc_db::testing::{TestDatabase, databases};
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_types::account::ServiceRole;
use hbc_types::ids::OperatorId;
use hbc_types::keys::PublicKey;
use hbc_types::outbox::FollowPosition;
use hbc_types::secret::SecretText;
use hbc_types::{Clock, Digest, Random, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use wiremock::matchers::{any, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// The password of everybody who signs up.
pub const PASSWORD: &str = "nine teapots under moonlight";
/// Operators' passwords.
pub const OPERATOR_PASSWORD: &str = "a walk beneath tall birches";

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    pub headers: reqwest::header::HeaderMap,
}

impl Reply {
    /// The slug of a problem.
    pub fn slug(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default().trim_start_matches("urn:hbc:problem:")
    }

    /// A text of the body.
    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("`{field}` in {self:?}")).to_owned()
    }

    /// The answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The answer, which must be this problem.
    #[track_caller]
    pub fn refused(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.slug()), (status, slug), "{self:?}");
        self
    }
}

/// The service and everything around it.
pub struct TestApp {
    pub clock: Clock,
    pub access_policy: MockServer,
    pub database: TestDatabase,
    pub genesis: Genesis,
    random: Random,
    http: reqwest::Client,
    base: String,
    app: Option<App>,
    pub tasks: Option<hbc_service::Tasks>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    config: Config,
    _folder: tempfile::TempDir,
}

/// Runs `test` on a fresh service for every engine at hand.
pub async fn each<F: Future<Output = ()>>(test: impl Fn(TestApp) -> F) {
    for database in databases(MIGRATIONS).await {
        test(TestApp::spawn(database).await).await;
    }
}

fn write_secret(folder: &Path, name: &str, text: &str) -> SecretFile {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    SecretFile::new(path)
}

fn genesis(operators: &[(OperatorId, SigningKey)]) -> Genesis {
    let key = |n: u8| PublicKey::of(&SigningKey::from_bytes(&[n; 32]));
    let service = |role, n| ServiceKey { key: key(n), role };
    Genesis {
        members: vec![Named { key: key(1), name: "node-1".to_owned() }],
        operators: operators
            .iter()
            .enumerate()
            .map(|(n, (_, key))| Named { key: PublicKey::of(key), name: format!("operator-{n}") })
            .collect(),
        origin: "hbc.test".to_owned(),
        parameters: Parameters::with_zero_bits(8, 2).unwrap(),
        services: vec![
            service(ServiceRole::AccessPolicy, 202),
            service(ServiceRole::Auth, 201),
            service(ServiceRole::Storage, 203),
        ],
        time_ms: 1_790_000_000_000,
    }
}

impl TestApp {
    pub async fn spawn(database: TestDatabase) -> Self {
        let random = Random::seeded(42);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let keys: Vec<_> =
            (0..3).map(|_| (OperatorId::random(&random), SigningKey::from_bytes(&random.bytes()))).collect();
        let genesis = genesis(&keys);
        std::fs::write(path.join("genesis.json"), genesis.to_bytes().unwrap()).unwrap();
        let password = SecretText::new(OPERATOR_PASSWORD.to_owned());
        let mut file = OperatorsFile::default();
        for (n, (id, key)) in keys.iter().enumerate() {
            let username = format!("operator-{n}");
            file.operators.push(operator(id, &username, &password, key, &random).unwrap());
        }
        let access_policy = MockServer::start().await;
        let ledger = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(503)).mount(&ledger).await;
        let secret = |name: &str, byte: u8| write_secret(path, name, &hex::encode([byte; 32]));
        let config = Config {
            base: Settings {
                server: ServerSettings { workers: 1, ..ServerSettings::default() },
                telemetry: hbc_service::telemetry::TelemetrySettings {
                    filter: "warn".to_owned(),
                    ..Default::default()
                },
                database_url: Some(database.url.clone()),
                database_url_file: None,
                genesis_file: path.join("genesis.json"),
                service_key_file: secret("auth.key", 201),
                issuer: "http://auth.test".to_owned(),
                audience: "hbc-test".to_owned(),
                ledger_urls: vec![ledger.uri()],
            },
            token_key_file: secret("token.key", 0x77),
            rows_key_file: secret("rows.key", 0x51),
            operators_file: Some(write_secret(
                path,
                "operators.json",
                &serde_json::to_string(&file).unwrap(),
            )),
            access_policy_url: access_policy.uri(),
            passwords: PasswordSettings::default(),
            sessions: SessionSettings::default(),
        };
        let mut app = Self {
            clock: Clock::fixed(Timestamp::from_ms(1_795_404_630_000)),
            access_policy,
            database,
            genesis,
            random,
            http: hbc_client::http::client().unwrap(),
            base: String::new(),
            app: None,
            tasks: None,
            stop: None,
            running: None,
            config,
            _folder: folder,
        };
        app.access_policy_answers(204).await;
        app.start().await;
        // The operators' own accounts are told first.
        app.pushes_settle().await;
        app.access_policy_answers(204).await;
        app
    }

    async fn start(&mut self) {
        let surroundings = Surroundings {
            clock: self.clock.clone(),
            random: self.random.clone(),
            token_keys: None,
            parts: Cost { m_kib: 64, t: 1, p: 1 },
        };
        let application = Application::build_in(self.config.clone(), surroundings).await.unwrap();
        self.base = format!("http://127.0.0.1:{}", application.port());
        self.app = Some(application.app().clone());
        self.tasks = Some(application.tasks().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async move {
            stopped.await.ok();
        };
        self.running = Some(hbc_service::spawn("service", application.run_until_stopped(until)));
        self.stop = Some(stop);
    }

    /// Stops the service and starts it again on the same database.
    pub async fn restart(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.unwrap().unwrap();
        }
        self.start().await;
    }

    /// The chain's id.
    pub fn chain(&self) -> Digest {
        self.genesis.chain_id().unwrap()
    }

    /// From now on access-policy answers everything with `status`.
    pub async fn access_policy_answers(&self, status: u16) {
        self.access_policy.reset().await;
        Mock::given(path_regex("^/internal/v1/.*"))
            .respond_with(ResponseTemplate::new(status))
            .mount(&self.access_policy)
            .await;
    }

    /// What access-policy was told since it last changed its mind.
    pub async fn told(&self) -> Vec<Request> {
        self.access_policy.received_requests().await.unwrap_or_default()
    }

    /// Sends a request.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> Reply {
        self.call_with(method, path, token, body, &[]).await
    }

    /// Sends a request with further headers.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        Reply { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), headers }
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        let token = (!token.is_empty()).then_some(token);
        self.call(Method::POST, path, token, Some(&body)).await
    }

    pub async fn put(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, Some(token), Some(&body)).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.call(Method::GET, path, (!token.is_empty()).then_some(token), None).await
    }

    /// Signs a patient up; answers the whole sign-up.
    pub async fn patient(&self, username: &str) -> Reply {
        self.post("/v1/patients", "", json!({"username": username, "password": PASSWORD})).await.expect(201)
    }

    /// What an agency's sign-up says.
    pub fn agency_form(username: &str) -> Value {
        json!({
            "name": format!("Dr. {username}"), "username": username, "password": PASSWORD,
            "contact_number": "+49 30 1234567", "email": format!("{username}@clinic.test"),
            "address": "1 Example Street", "agency_type": "doctor", "licence_number": "L-4711",
        })
    }

    /// Signs an agency up and gives its id.
    pub async fn agency(&self, username: &str) -> String {
        self.post("/v1/agencies", "", Self::agency_form(username)).await.expect(201).text("id")
    }

    /// Tries to log in from another address of this machine.
    #[expect(clippy::disallowed_methods, reason = "the project's client has no source address to choose")]
    pub async fn try_login_from(&self, address: &str, username: &str, password: &str) -> u16 {
        let client = reqwest::Client::builder()
            .local_address(Some(address.parse().unwrap()))
            .no_proxy()
            .build()
            .unwrap();
        let form = json!({"username": username, "password": password});
        client.post(format!("{}/v1/sessions", self.base)).json(&form).send().await.unwrap().status().as_u16()
    }

    /// Tries to log in.
    pub async fn try_login(&self, username: &str, password: &str) -> Reply {
        self.post("/v1/sessions", "", json!({"username": username, "password": password})).await
    }

    /// Logs in and gives the access token.
    pub async fn login(&self, username: &str) -> String {
        let password = if username.starts_with("operator-") { OPERATOR_PASSWORD } else { PASSWORD };
        self.try_login(username, password).await.expect(201).text("access_token")
    }

    /// An operator approves an agency.
    pub async fn approve(&self, operator: &str, agency: &str) -> Reply {
        let token = self.login(operator).await;
        let path = format!("/v1/agencies/{agency}/approvals");
        self.post(&path, &token, json!({"password": OPERATOR_PASSWORD})).await
    }

    /// The transactions in the outbox that are not final yet.
    pub async fn waiting(&self) -> Vec<Tx> {
        let all: Vec<String> =
            sqlx::query_scalar("SELECT jws FROM ledger_outbox WHERE settled_at_ms IS NULL ORDER BY seq")
                .fetch_all(self.database.db.reads())
                .await
                .unwrap();
        all.iter().map(|jws| Tx::parse(jws.as_bytes()).unwrap()).collect()
    }

    /// Lets every transaction in the outbox become final, and waits until access-policy knows.
    pub async fn ledger_agrees(&self) {
        let waiting = self.waiting().await;
        self.ledger_decides(&waiting).await;
        self.pushes_settle().await;
    }

    /// Applies the next block of the chain, with these transactions, as the follower would.
    pub async fn ledger_decides(&self, transactions: &[Tx]) {
        let app = self.app.as_ref().unwrap();
        let journal = LedgerJournal::new(&app.base, Auth::events(app));
        let height = journal.position().await.unwrap().map_or(0, |position| position.height) + 1;
        let mut header = self.genesis.header().unwrap();
        header.height = height;
        let hash = header.hash();
        let transactions = transactions
            .iter()
            .zip(0_u32..)
            .map(|(tx, index)| FinalTransaction {
                txid: tx.txid(),
                index,
                log_index: u64::from(index),
                jws: tx.text().to_owned(),
                tx: Some(tx.clone()),
            })
            .collect();
        let block = FinalBlock { hash, header, certificate: String::new(), transactions };
        let position = FollowPosition { height, block_hash: hash, state: String::new() };
        journal.apply(&block, position).await.unwrap();
    }

    /// Waits until nothing is owed to access-policy.
    pub async fn pushes_settle(&self) {
        for _attempt in 0..100 {
            let owed: i64 =
                sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM jobs WHERE kind LIKE 'push.%'")
                    .fetch_one(self.database.db.reads())
                    .await
                    .unwrap();
            if owed == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("access-policy is still owed something");
    }

    /// Waits until a job has met this error.
    pub async fn job_stumbles(&self, error: &'static str) {
        for _attempt in 0..200 {
            let met: i64 = sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM jobs WHERE error = $1")
                .bind(error)
                .fetch_one(self.database.db.reads())
                .await
                .unwrap();
            if met > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no job met `{error}`");
    }

    /// An approved agency.
    pub async fn approved_agency(&self, username: &str) -> String {
        let id = self.agency(username).await;
        self.approve("operator-0", &id).await.expect(200);
        self.approve("operator-1", &id).await.expect(200);
        self.ledger_agrees().await;
        id
    }

    /// Runs a statement behind the service's back.
    pub async fn by_hand(&self, sql: &'static str) {
        self.database
            .db
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query(sql).execute(tx).await.map_err(hbc_db::DbError::from)?;
                    Ok::<_, hbc_db::DbError>(())
                })
            })
            .await
            .unwrap();
    }

    /// Moves the clock.
    pub fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}
