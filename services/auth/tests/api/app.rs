//! The service on a free port with a database, keys and neighbours of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_app::{LedgerJournal, Service as _, Settings, Surroundings};
use hbc_auth::testing::{App, MIGRATIONS};
use hbc_auth::{
    AppSettings, Application, Auth, Config, Cost, OperatorsFile, PasswordSettings, SessionSettings,
    WebauthnSettings, operator,
};
use hbc_chain::genesis::{Genesis, Named};
use hbc_chain::tx::Tx;
use hbc_client::ledger::Journal;
use hbc_client::outgoing::OutgoingSettings;
use hbc_db::testing::{TestDatabase, databases};
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_testkit::chain;
pub use hbc_testkit::http::Reply;
use hbc_testkit::http::{FORM, form};
use hbc_testkit::ledger::{Mood, Node, final_block};
use hbc_testkit::service::{Spawned, key_file, secret_file};
use hbc_testkit::users::{AUDIENCE, ISSUER};
use hbc_types::ids::OperatorId;
use hbc_types::keys::PublicKey;
use hbc_types::outbox::SubmitOutcome;
use hbc_types::problem::Slug;
use hbc_types::secret::SecretText;
use hbc_types::{Clock, Digest, Random, Timestamp};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use wiremock::matchers::path_regex;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// The password of everybody who signs up.
pub const PASSWORD: &str = "nine teapots under moonlight";
/// Where pages that use passkeys are.
pub const ORIGIN: &str = "http://localhost:7100";
/// The file with the first operators.
const OPERATORS: &str = "operators.json";
/// Operators' passwords.
pub const OPERATOR_PASSWORD: &str = "a walk beneath tall birches";

/// The service and everything around it.
pub struct TestApp {
    pub clock: Clock,
    pub access_policy: MockServer,
    pub database: TestDatabase,
    pub genesis: Genesis,
    /// Its own randomness.
    pub random: Random,
    http: reqwest::Client,
    app: Option<App>,
    pub tasks: Option<hbc_service::Tasks>,
    service: Option<Spawned>,
    config: Config,
    _ledger: Node,
    folder: tempfile::TempDir,
}

/// Runs `test` on a fresh service for every engine at hand.
pub async fn each<F: Future<Output = ()>>(test: impl Fn(TestApp) -> F) {
    for database in databases(MIGRATIONS).await {
        test(TestApp::spawn(database).await).await;
    }
}

/// One member; these operators, two of whom approve.
fn genesis(operators: &[(OperatorId, SigningKey)]) -> Genesis {
    let named = |(n, (_, key)): (usize, &(OperatorId, SigningKey))| Named {
        key: PublicKey::of(key),
        name: format!("operator-{n}"),
    };
    Genesis { operators: operators.iter().enumerate().map(named).collect(), ..chain::genesis(1) }
}

/// What an operator decides, and why.
pub fn decision(reason: &str) -> Value {
    json!({"password": OPERATOR_PASSWORD, "reason": reason})
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
        let operators = serde_json::to_string(&file).unwrap();
        let access_policy = MockServer::start().await;
        let clock = Clock::fixed(Timestamp::from_ms(1_795_404_630_000));
        let ledger = Node::start(1, genesis.clone(), clock.clone()).await;
        ledger.feel(Mood::Away(Slug::Unavailable));
        let secret = |name: &str, seed: u8| SecretFile::new(key_file(path, name, seed));
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
                service_key_file: secret("auth.key", chain::AUTH),
                issuer: ISSUER.to_owned(),
                audience: AUDIENCE.to_owned(),
                ledger_urls: vec![ledger.url()],
            },
            token_key_file: secret("token.key", 0x77),
            old_token_key_file: Some(SecretFile::new(path.join("token.old.key"))),
            rows_key_file: secret("rows.key", 0x51),
            journal_file: path.join("auth.rights"),
            operators_file: Some(SecretFile::new(secret_file(path, OPERATORS, &operators))),
            access_policy_url: access_policy.uri(),
            passwords: PasswordSettings::default(),
            sessions: SessionSettings::default(),
            apps: Some(AppSettings {
                page: "https://portal.example/oauth/authorize".to_owned(),
                fhir_url: "https://records.example/fhir".to_owned(),
            }),
            outgoing: OutgoingSettings::default(),
            webauthn: Some(WebauthnSettings {
                rp_id: "localhost".to_owned(),
                origins: vec![ORIGIN.to_owned()],
            }),
        };
        let mut app = Self {
            clock,
            access_policy,
            database,
            genesis,
            random,
            http: hbc_client::http::client().unwrap(),
            app: None,
            tasks: None,
            service: None,
            config,
            _ledger: ledger,
            folder,
        };
        app.access_policy_answers(204).await;
        app.start().await.unwrap();
        // The operators' own accounts are told first.
        app.pushes_settle().await;
        app.access_policy_answers(204).await;
        app
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let surroundings = Surroundings {
            clock: self.clock.clone(),
            random: self.random.clone(),
            token_keys: None,
            // What a hostile database does is tried before anybody looks at it.
            glance: std::time::Duration::from_secs(3_600),
            parts: Cost { m_kib: 64, t: 1, p: 1 },
        };
        let application = Application::build_in(self.config.clone(), surroundings).await?;
        self.app = Some(application.app().clone());
        self.tasks = Some(application.tasks().clone());
        self.service =
            Some(Spawned::run(application.port(), |stopped| application.run_until_stopped(stopped)));
        Ok(())
    }

    /// What `operators.json` says.
    pub fn operators_file(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(OPERATORS)).unwrap()
    }

    /// Stops the service and starts it with another `operators.json` of this mode; answers why it does not start.
    pub async fn start_with_operators(&mut self, text: &str, mode: u32) -> Result<(), String> {
        self.service.as_mut().unwrap().stop().await;
        let file = secret_file(self.folder.path(), OPERATORS, text);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        self.start().await.map_err(|error| format!("{error:#}"))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service.as_ref().unwrap().base)
    }

    /// Stops the service and starts it again on the same database.
    pub async fn restart(&mut self) {
        self.service.as_mut().unwrap().stop().await;
        self.start().await.unwrap();
    }

    /// Starts the service again with these settings for passkeys; answers why it does not start.
    pub async fn start_with_passkeys(&mut self, webauthn: Option<WebauthnSettings>) -> Result<(), String> {
        self.service.as_mut().unwrap().stop().await;
        self.config.webauthn = webauthn;
        self.start().await.map_err(|error| format!("{error:#}"))
    }

    /// Starts the service again with these settings for addresses that others chose; answers why it does not start.
    pub async fn start_with_outgoing(&mut self, outgoing: OutgoingSettings) -> Result<(), String> {
        self.service.as_mut().unwrap().stop().await;
        self.config.outgoing = outgoing;
        self.start().await.map_err(|error| format!("{error:#}"))
    }

    /// A file in the service's folder.
    pub fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the service again with another key for tokens, the present one beside it, or alone.
    pub async fn rotate_token_key(&mut self, seed: u8, keep: bool) {
        self.service.as_mut().unwrap().stop().await;
        let (file, old) = (&self.config.token_key_file, self.config.old_token_key_file.as_ref().unwrap());
        if keep {
            std::fs::rename(file.path(), old.path()).unwrap();
        } else {
            std::fs::remove_file(file.path()).unwrap();
            drop(std::fs::remove_file(old.path()));
        }
        let (folder, name) = (file.path().parent().unwrap(), file.path().file_name().unwrap());
        secret_file(folder, name.to_str().unwrap(), &hex::encode([seed; 32]));
        self.start().await.unwrap();
    }

    /// Starts the service again without its journal of rights.
    pub async fn forget_journal(&mut self) {
        self.service.as_mut().unwrap().stop().await;
        std::fs::remove_file(&self.config.journal_file).unwrap();
        self.start().await.unwrap();
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
        let mut request = self.http.request(method, self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Reply::to(request).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        let token = (!token.is_empty()).then_some(token);
        self.call(Method::POST, path, token, Some(&body)).await
    }

    /// Sends a form, as OAuth's clients do.
    pub async fn send_form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let request = self.http.post(self.url(path)).header(CONTENT_TYPE, FORM);
        Reply::to(request.body(form(fields))).await
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
    pub async fn try_login_from(&self, address: &str, username: &str, password: &str) -> u16 {
        self.log_in_from(address, username, password).await.status
    }

    /// The same, with the whole answer.
    pub async fn log_in_from(&self, address: &str, username: &str, password: &str) -> Reply {
        self.log_in_with(address, json!({"username": username, "password": password})).await
    }

    /// The same, with a form of one's own.
    #[expect(clippy::disallowed_methods, reason = "the project's client has no source address to choose")]
    pub async fn log_in_with(&self, address: &str, form: Value) -> Reply {
        let client = reqwest::Client::builder()
            .local_address(Some(address.parse().unwrap()))
            .no_proxy()
            .build()
            .unwrap();
        Reply::to(client.post(self.url("/v1/sessions")).json(&form)).await
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

    /// An operator reinstates an agency.
    pub async fn reinstate(&self, operator: &str, agency: &str) -> Reply {
        let token = self.login(operator).await;
        self.post(
            &format!("/v1/agencies/{agency}/reinstatements"),
            &token,
            decision("the licence was renewed"),
        )
        .await
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
        let (block, position) = final_block(&self.genesis, height, transactions);
        journal.apply(&block, position).await.unwrap();
    }

    /// The ledger refuses a transaction for ever.
    pub async fn ledger_refuses(&self, transaction: &Tx) {
        let app = self.app.as_ref().unwrap();
        let journal = LedgerJournal::new(&app.base, Auth::events(app));
        let (txid, reason) = (transaction.txid(), "another was first".to_owned());
        journal.record(vec![SubmitOutcome::Refused { txid, reason, excluded_by: None }]).await.unwrap();
    }

    /// The salt of what was signed last about a member.
    pub async fn salt_of_member(&self, member: &str) -> Vec<u8> {
        sqlx::query_scalar("SELECT salt FROM memberships WHERE member = $1")
            .bind(member.to_owned())
            .fetch_one(self.database.db.reads())
            .await
            .unwrap()
    }

    /// The key of an account.
    pub async fn public_key(&self, account: &str) -> [u8; 32] {
        let key: Vec<u8> = sqlx::query_scalar("SELECT public_key FROM accounts WHERE id = $1")
            .bind(account.to_owned())
            .fetch_one(self.database.db.reads())
            .await
            .unwrap();
        key.try_into().unwrap()
    }

    /// How much access-policy is owed.
    async fn owed(&self) -> i64 {
        sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM jobs WHERE kind LIKE 'push.%'")
            .fetch_one(self.database.db.reads())
            .await
            .unwrap()
    }

    /// Waits until nothing is owed to access-policy.
    pub async fn pushes_settle(&self) {
        for _attempt in 0..100 {
            if self.owed().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("access-policy is still owed something");
    }

    /// access-policy answers again, and is told what it was owed, after however many pauses.
    pub async fn outage_ends(&self) {
        self.access_policy_answers(204).await;
        for attempt in 0..100 {
            if self.owed().await == 0 {
                return;
            }
            if attempt % 10 == 0 {
                // Longer than the longest pause between two tries.
                self.wait(31);
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
