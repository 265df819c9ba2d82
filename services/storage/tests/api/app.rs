//! The service on a free port with a database, keys, a block store and neighbours of its own.

use std::sync::Arc;

use hbc_app::{Settings, Surroundings};
use hbc_db::testing::{TestDatabase, databases};
use hbc_service::ServerSettings;
use hbc_service::Tasks;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use hbc_storage::testing::{BlobStore, Memory};
use hbc_storage::{AnchorSettings, Application, Config, KuboSettings, ReconcileSettings, RoomSettings};
use hbc_testkit::chain::STORAGE;
pub use hbc_testkit::http::Reply;
pub use hbc_testkit::service::eventually;
use hbc_testkit::service::{Spawned, key_file, secret_file};
use hbc_testkit::users::{AUDIENCE, ISSUER};
use hbc_types::Random;
use hbc_types::ids::{AccountId, AgencyId, OperatorId, PatientId};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::world::{World, genesis};

/// The service and everything around it.
pub struct TestApp {
    pub world: World,
    pub blobs: Arc<Memory>,
    pub database: TestDatabase,
    pub config: Config,
    pub tasks: Option<Tasks>,
    pub random: Random,
    http: reqwest::Client,
    service: Option<Spawned>,
    folder: tempfile::TempDir,
}

/// Runs `test` on a fresh service for every engine at hand.
pub async fn each<F: Future<Output = ()>>(test: impl Fn(TestApp) -> F) {
    for database in databases(&[]).await {
        test(TestApp::spawn(database).await).await;
    }
}

impl TestApp {
    pub async fn spawn(database: TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let key = |name, seed| SecretFile::new(key_file(path, name, seed));
        let world = World::start().await;
        std::fs::write(path.join("genesis.json"), genesis().to_bytes().unwrap()).unwrap();
        let config = Config {
            base: Settings {
                server: ServerSettings { workers: 2, ..ServerSettings::default() },
                telemetry: TelemetrySettings { filter: "off".to_owned(), ..TelemetrySettings::default() },
                database_url: Some(database.url.clone()),
                database_url_file: None,
                genesis_file: path.join("genesis.json"),
                service_key_file: key("storage.key", STORAGE),
                issuer: ISSUER.to_owned(),
                audience: AUDIENCE.to_owned(),
                ledger_urls: vec![world.ledger.url()],
            },
            index_key_file: key("index.key", 0x31),
            spool_dir: path.join("spool"),
            auth_url: world.server.uri(),
            access_policy_url: world.server.uri(),
            fhir_bases: vec!["https://records.example/fhir".to_owned()],
            authorization_page: None,
            kubo: KuboSettings {
                url: "http://127.0.0.1:9".to_owned(),
                user: "storage".to_owned(),
                token_file: SecretFile::new(secret_file(path, "kubo.token", "unused")),
                timeout_seconds: 5,
                calls: 8,
            },
            anchors: AnchorSettings { sensitive_wait_seconds: 1 },
            room: RoomSettings { free_bytes: 0, ..RoomSettings::default() },
            reconcile: ReconcileSettings { every_seconds: 1, intent_seconds: 2, spool_seconds: 0 },
        };
        let mut app = Self {
            world,
            blobs: Arc::new(Memory::default()),
            database,
            config,
            tasks: None,
            random: Random::system(),
            http: hbc_testkit::http_client(),
            service: None,
            folder,
        };
        app.start(Arc::<Memory>::clone(&app.blobs)).await;
        app
    }

    /// Starts the service on a block store.
    pub async fn start(&mut self, blobs: Arc<dyn BlobStore>) {
        let surroundings = Surroundings { parts: Some(blobs), ..Surroundings::default() };
        let application = Application::build_in(self.config.clone(), surroundings).await.unwrap();
        self.tasks = Some(application.tasks().clone());
        self.service =
            Some(Spawned::run(application.port(), |stopped| application.run_until_stopped(stopped)));
    }

    /// Stops the service and starts it again, as it is configured now, on what it had stored.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start(Arc::<Memory>::clone(&self.blobs)).await;
    }

    /// Why the service does not start.
    pub async fn refused_start(&self) -> String {
        let parts: Option<Arc<dyn BlobStore>> = Some(Arc::<Memory>::clone(&self.blobs));
        let surroundings = Surroundings { parts, ..Surroundings::default() };
        match Application::build_in(self.config.clone(), surroundings).await {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Stops the service.
    pub async fn stop(&mut self) {
        self.service.as_mut().unwrap().stop().await;
    }

    /// Runs a statement behind the service's back.
    pub async fn by_hand(&self, sql: &'static str) {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.database.url).await.unwrap();
        let done = sqlx::query(sql).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
    }

    /// Changes the schema behind the service's back.
    pub async fn schema_by_hand(&self, sql: &'static str) {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.database.url).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }

    /// What anybody gets.
    pub async fn anybody_gets(&self, path: &str) -> Reply {
        Reply::to(self.http.get(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service.as_ref().unwrap().base)
    }

    pub fn spool(&self) -> std::path::PathBuf {
        self.folder.path().join("spool")
    }

    pub fn patient(&self) -> AccountId {
        AccountId::Patient(PatientId::random(&self.random))
    }

    pub fn agency(&self) -> AccountId {
        AccountId::Agency(AgencyId::random(&self.random))
    }

    pub fn operator(&self) -> AccountId {
        AccountId::Operator(OperatorId::random(&self.random))
    }

    /// Sends a request as `account`, or as nobody.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        account: Option<&AccountId>,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Reply {
        let mut request = self.http.request(method, self.url(path)).body(body);
        if let Some(account) = account {
            request = request.bearer_auth(self.world.token(account));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::to(request).await
    }

    pub async fn get(&self, account: &AccountId, path: &str) -> Reply {
        let purpose: &[(&str, &str)] =
            if matches!(account, AccountId::Agency(_)) { &[("HBC-Purpose", "TREAT")] } else { &[] };
        self.call(Method::GET, path, Some(account), purpose, Vec::new()).await
    }

    /// Begins a download for treatment, without compression.
    pub async fn begin(&self, account: &AccountId, path: &str) -> reqwest::Response {
        let request = self.http.get(self.url(path)).bearer_auth(self.world.token(account));
        request.header("HBC-Purpose", "TREAT").send().await.unwrap()
    }

    /// Uploads FHIR JSON.
    pub async fn fhir(
        &self,
        account: &AccountId,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut all = vec![("content-type", "application/fhir+json")];
        all.extend_from_slice(headers);
        self.call(Method::POST, path, Some(account), &all, body.to_vec()).await
    }

    /// Uploads Synthea's facility bundles into the directory.
    pub async fn directory(&self) {
        let operator = self.operator();
        for name in [hbc_testkit::synthea::HOSPITALS, hbc_testkit::synthea::PRACTITIONERS] {
            let body = hbc_testkit::synthea::bundle(name).unwrap();
            self.fhir(&operator, "/fhir", &[("HBC-Patient", "dir")], &body).await.expect(200);
        }
    }

    /// Uploads one observation and gives its id.
    pub async fn observation(&self, account: &AccountId, category: &str) -> String {
        let body = observation(category).to_string();
        let reply = self.fhir(account, "/fhir/Observation", &[], body.as_bytes()).await.expect(201);
        reply.body["id"].as_str().unwrap().to_owned()
    }
}

/// A small observation.
pub fn observation(category: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "effectiveDateTime": "2021-05-06T07:08:09Z",
        "valueQuantity": {"value": 13.5, "unit": "g/dL"},
    })
}
