//! A running service with its neighbours' keys: users get tokens, services sign calls, final blocks are applied by hand.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_access_policy::testing::App;
use hbc_access_policy::{AccessPolicy, Application, Config};
use hbc_app::{LedgerJournal, Service, Settings, Surroundings};
use hbc_chain::certificate::{ConsentCertificate, Limits};
use hbc_chain::consent::{ConsentBody, UnfreezeOrder};
use hbc_chain::genesis::Genesis;
use hbc_chain::payload::{
    Affiliation, AffiliationStatus, Consent, ConsentKey, KeyStatus, Payload, Revoke, Staff, StaffStatus,
};
use hbc_chain::tx::{self, Tx};
use hbc_client::ServiceCaller;
use hbc_client::ledger::FinalBlock;
use hbc_client::ledger::Journal as _;
use hbc_service::Tasks;
use hbc_service::config::SecretFile;
use hbc_service::{ServerSettings, telemetry::TelemetrySettings};
use hbc_testkit::chain::{ACCESS_POLICY, AUTH, OPERATOR, STORAGE, key, quick_genesis};
use hbc_testkit::http::Reply;
use hbc_testkit::ledger::{Node, final_block};
use hbc_testkit::service::{Spawned, eventually, key_file};
pub use hbc_testkit::users::User;
use hbc_testkit::users::{AUDIENCE, ISSUER, TOKENS};
use hbc_types::account::{AgencyType, Custody, Role, ServiceRole, Standing};
use hbc_types::ids::{
    AccountId, AgencyId, GrantId, GranteeId, IntentId, OperatorId, PatientId, RecordId, SessionId,
};
use hbc_types::keys::{PublicKey, SignatureBytes, possession_text};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{
    AdmissionRequest, AlterationOpening, DataKeyItem, DataKeys, DataKeysRequest, DecisionAnswer,
    DecisionRequest, GrantDraft, GrantSignature, GrantView, Labels, NewDenial, NewGrant, NewSession,
    NumbersStatement, PinPatient, Scope, StaffBody, Subject, UnwrapItem, UnwrapRequest, Unwrapped,
};
use hbc_types::wire::auth::StaffProfile;
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims, SERVICE_HEADER};
use hbc_types::{Clock, Digest, Random, Timestamp};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

pub const START: i64 = 1_800_000_000_000;

/// A patient with the keys that only they have.
#[derive(Clone, Debug)]
pub struct PatientUser {
    pub id: PatientId,
    pub root: SigningKey,
    pub user: User,
}

/// An agency.
#[derive(Clone, Debug)]
pub struct AgencyUser {
    pub id: AgencyId,
    pub user: User,
}

pub struct World {
    pub app: App,
    pub tasks: Tasks,
    pub clock: Clock,
    pub random: Random,
    pub chain: Digest,
    service: Spawned,
    http: reqwest::Client,
    auth: SigningKey,
    storage: SigningKey,
    height: std::sync::atomic::AtomicU64,
    ledger: Option<Node>,
    config: Config,
    folder: tempfile::TempDir,
    database: hbc_db::testing::TestDatabase,
    /// Sessions that access-policy was told of, or never will be.
    sessions: tokio::sync::Mutex<HashSet<SessionId>>,
}

/// A world on each engine that is at hand.
pub async fn worlds() -> Vec<World> {
    let mut all = Vec::new();
    for database in hbc_db::testing::databases(hbc_access_policy::testing::MIGRATIONS).await {
        all.push(World::on(database, false).await);
    }
    all
}

/// A world on SQLite.
pub async fn world() -> World {
    World::on(hbc_db::testing::sqlite(hbc_access_policy::testing::MIGRATIONS).await, false).await
}

/// A world on SQLite whose ledger answers; in the others no node does, and final blocks are applied by hand.
pub async fn world_with_ledger() -> World {
    World::on(hbc_db::testing::sqlite(hbc_access_policy::testing::MIGRATIONS).await, true).await
}

/// The staff key of an agency.
fn staff_key(agency: &AgencyId) -> SigningKey {
    let seed = hbc_types::hash::domain_hash("test-staff", &[agency.as_str().as_bytes()]);
    SigningKey::from_bytes(seed.as_bytes())
}

impl World {
    async fn on(database: hbc_db::testing::TestDatabase, with_ledger: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (auth, storage) = (key(AUTH), key(STORAGE));
        let file = |name, seed| SecretFile::new(key_file(folder.path(), name, seed));
        let genesis = Genesis { time_ms: START as u64 - 1_000_000, ..quick_genesis(4) };
        let genesis_file = folder.path().join("genesis.json");
        let mut text = genesis.to_bytes().unwrap();
        text.push(b'\n');
        std::fs::write(&genesis_file, text).unwrap();
        let clock = Clock::fixed(Timestamp::from_ms(START));
        let ledger = match with_ledger {
            true => Some(Node::deciding(genesis.clone(), clock.clone()).await),
            false => None,
        };
        let config = Config {
            base: Settings {
                server: ServerSettings { workers: 2, ..ServerSettings::default() },
                telemetry: TelemetrySettings { filter: "error".to_owned(), ..TelemetrySettings::default() },
                database_url: Some(database.url.clone()),
                database_url_file: None,
                genesis_file,
                service_key_file: file("policy.key", ACCESS_POLICY),
                issuer: ISSUER.to_owned(),
                audience: AUDIENCE.to_owned(),
                ledger_urls: vec![ledger.as_ref().map_or("http://127.0.0.1:9".to_owned(), Node::url)],
            },
            master_key_file: file("master.key", 5),
            rows_key_file: file("rows.key", 6),
            journal_file: folder.path().join("rights.journal"),
            auth_url: "http://127.0.0.1:9".to_owned(),
            receipt_batch_ms: if with_ledger { 200 } else { 5_000 },
        };
        let surroundings = Surroundings {
            clock: clock.clone(),
            random: Random::system(),
            token_keys: Some(vec![key(TOKENS).verifying_key()]),
            // What a hostile database does is tried before anybody looks at it.
            glance: Duration::from_secs(3_600),
            ..Surroundings::default()
        };
        let application = Application::build_in(config.clone(), surroundings).await.unwrap();
        let (app, tasks) = (application.app().clone(), application.tasks().clone());
        let service = Spawned::run(application.port(), |stopped| application.run_until_stopped(stopped));
        Self {
            app,
            tasks,
            clock,
            random: Random::system(),
            chain: genesis.chain_id().unwrap(),
            service,
            http: hbc_client::http::client().unwrap(),
            auth,
            storage,
            height: std::sync::atomic::AtomicU64::new(0),
            ledger,
            config,
            folder,
            database,
            sessions: tokio::sync::Mutex::default(),
        }
    }

    /// Everything that lies in the database's folder.
    pub fn stored_bytes(&self) -> Vec<u8> {
        let file = Path::new(self.database.url.trim_start_matches("sqlite:"));
        let files = std::fs::read_dir(file.parent().unwrap()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    pub fn base(&self) -> String {
        self.service.base.clone()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn token(&self, user: &User) -> String {
        self.sign_in(user).await;
        user.token(self.now(), &self.random)
    }

    /// auth tells that a user signed in, unless it did.
    pub async fn sign_in(&self, user: &User) {
        let mut sessions = self.sessions.lock().await;
        if !sessions.contains(&user.session) && self.open_session(user).await.status == 204 {
            sessions.insert(user.session.clone());
        }
    }

    /// auth's words for it.
    pub async fn open_session(&self, user: &User) -> Reply {
        let new = NewSession {
            account: user.account.clone(),
            opened_at: Timestamp::from_ms(START),
            expires_at: Timestamp::from_ms(START).plus(Duration::from_secs(900 * 86_400)),
        };
        let path = format!("/internal/v1/sessions/{}", user.session);
        let body = Some(serde_json::to_vec(&new).unwrap());
        self.exchange(Method::PUT, &path, None, Some(ServiceRole::Auth), body).await
    }

    /// Somebody with a token for an account of which auth knows nothing: it was signed with a stolen key.
    pub async fn forged(&self, account: &AccountId) -> User {
        let user = self.user(account.clone());
        self.sessions.lock().await.insert(user.session.clone());
        user
    }

    /// A call by a user, who signs in first, a service, both or nobody.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        user: Option<&User>,
        service: Option<ServiceRole>,
        body: Option<Vec<u8>>,
    ) -> Reply {
        if let Some(user) = user {
            self.sign_in(user).await;
        }
        self.exchange(method, path, user, service, body).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        user: Option<&User>,
        service: Option<ServiceRole>,
        body: Option<Vec<u8>>,
    ) -> Reply {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.service.base));
        if let Some(user) = user {
            request = request.bearer_auth(user.token(self.now(), &self.random));
        }
        if let Some(role) = service {
            let key = if role == ServiceRole::Auth { self.auth.clone() } else { self.storage.clone() };
            let caller = ServiceCaller::new(role, key, self.clock.clone(), self.random.clone());
            let bytes = body.clone().unwrap_or_default();
            let assertion =
                caller.assertion(ServiceRole::AccessPolicy, method.as_str(), path, &bytes).unwrap();
            request = request.header(SERVICE_HEADER, assertion);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        Reply::to(request).await
    }

    pub async fn get(&self, path: &str, user: &User) -> Reply {
        self.call(Method::GET, path, Some(user), None, None).await
    }

    pub async fn send<T: Serialize>(&self, method: Method, path: &str, user: &User, body: &T) -> Reply {
        self.call(method, path, Some(user), None, Some(serde_json::to_vec(body).unwrap())).await
    }

    pub async fn post<T: Serialize>(&self, path: &str, user: &User, body: &T) -> Reply {
        self.send(Method::POST, path, user, body).await
    }

    pub async fn auth<T: Serialize>(&self, method: Method, path: &str, body: &T) -> Reply {
        let body = Some(serde_json::to_vec(body).unwrap());
        self.call(method, path, None, Some(ServiceRole::Auth), body).await
    }

    pub async fn storage<T: Serialize>(&self, path: &str, user: Option<&User>, body: &T) -> Reply {
        let body = Some(serde_json::to_vec(body).unwrap());
        self.call(Method::POST, path, user, Some(ServiceRole::Storage), body).await
    }

    pub fn user(&self, account: AccountId) -> User {
        User::of(account, &self.random)
    }

    pub async fn subject(&self, account: &AccountId, subject: &Subject) {
        let path = format!("/internal/v1/subjects/{account}");
        let answer = self.auth(Method::PUT, &path, subject).await;
        assert_eq!(answer.status, 204, "{}", answer.said());
    }

    pub async fn patient(&self) -> PatientUser {
        self.patient_with(Custody::Server).await
    }

    pub async fn patient_with(&self, custody: Custody) -> PatientUser {
        let id = PatientId::random(&self.random);
        let root = SigningKey::from_bytes(&self.random.bytes());
        let user = self.user(AccountId::Patient(id.clone()));
        self.subject(&user.account, &subject(Role::Patient, Standing::Active, None)).await;
        let pin = PinPatient {
            patient: id.clone(),
            root_public_key: root.verifying_key().as_bytes().as_slice().into(),
            custody,
            recovery_public_key: None,
            certificate: None,
        };
        assert_eq!(self.auth(Method::POST, "/internal/v1/patients", &pin).await.status, 201);
        assert_eq!(self.auth(Method::POST, "/internal/v1/patients", &pin).await.status, 200);
        PatientUser { id, root, user }
    }

    pub async fn agency(&self, kind: AgencyType) -> AgencyUser {
        self.agency_of(kind, Standing::Active, None).await
    }

    pub async fn agency_of(
        &self,
        kind: AgencyType,
        standing: Standing,
        organisation: Option<&AgencyId>,
    ) -> AgencyUser {
        let id = AgencyId::random(&self.random);
        let agency = AgencyUser { user: self.user(AccountId::Agency(id.clone())), id };
        let told = match standing {
            Standing::Active => {
                self.approve(&agency, kind, 0).await;
                if let Some(organisation) = organisation {
                    self.affiliate(organisation, &agency.id, 0, AffiliationStatus::Active).await;
                }
                self.told(&agency, kind, organisation, 1)
            }
            Standing::Pending | Standing::Suspended | Standing::Closed => {
                Subject { organisation: organisation.cloned(), ..subject(Role::Agency, standing, Some(kind)) }
            }
        };
        let path = format!("/internal/v1/subjects/{}", agency.user.account);
        eventually("the ledger was followed that far", || async {
            let answer = self.auth(Method::PUT, &path, &told).await;
            // With a node the clock has to move for its blocks to be asked for.
            if self.ledger.is_some() {
                self.clock.advance(Duration::from_millis(500));
            } else {
                assert_eq!(answer.status, 204, "{}", answer.said());
            }
            answer.status == 204
        })
        .await;
        agency
    }

    /// Kid and opening of an agency's staff profile.
    #[expect(clippy::unused_self, reason = "it reads like the other steps")]
    pub fn profile(&self, agency: &AgencyUser, agency_type: AgencyType) -> (PublicKey, StaffProfile) {
        let body = StaffBody {
            agency: agency.id.clone(),
            agency_type,
            licence_number: "L-4711".to_owned(),
            name: "Dr. Example".to_owned(),
        };
        let body = String::from_utf8(hbc_chain::json::encode(&body).unwrap()).unwrap();
        let public = PublicKey::of(&staff_key(&agency.id));
        (public, StaffProfile { body, salt: [9; 32].as_slice().into() })
    }

    /// What auth tells of an approved agency.
    pub fn told(
        &self,
        agency: &AgencyUser,
        kind: AgencyType,
        organisation: Option<&AgencyId>,
        revision: u64,
    ) -> Subject {
        let (key, profile) = self.profile(agency, kind);
        Subject {
            organisation: organisation.cloned(),
            staff_key: Some(key.kid()),
            profile: Some(profile),
            revision,
            ..subject(Role::Agency, Standing::Active, Some(kind))
        }
    }

    /// The votes of auth and an operator that approve an agency, in the `nonce`th round.
    pub fn votes(
        &self,
        agency: &AgencyUser,
        kind: AgencyType,
        (nonce, status): (u64, StaffStatus),
    ) -> [String; 2] {
        let (public, profile) = self.profile(agency, kind);
        let salt = profile.salt.to_array().unwrap();
        let payload = Payload::Staff(Staff {
            chain: self.chain,
            commitment: hbc_types::hash::staff(&salt, profile.body.as_bytes()),
            iat: self.now().unsigned_ms(),
            key: public.kid(),
            nonce,
            organisation: "own practice".to_owned(),
            public,
            role: kind.code().to_owned(),
            status,
        });
        [AUTH, OPERATOR].map(|signer| tx::sign(&key(signer), &payload).unwrap())
    }

    /// auth and an operator approve an agency on the ledger.
    pub async fn approve(&self, agency: &AgencyUser, kind: AgencyType, nonce: u64) {
        self.settle(&self.votes(agency, kind, (nonce, StaffStatus::Active))).await;
    }

    /// An organisation takes somebody in, or either ends it; it was changed so often before.
    pub fn affiliation(
        &self,
        organisation: &AgencyId,
        member: &AgencyId,
        nonce: u64,
        status: AffiliationStatus,
    ) -> String {
        let kid = |id| PublicKey::of(&staff_key(id)).kid();
        let payload = Payload::Affiliation(Affiliation {
            chain: self.chain,
            commitment: Digest::of(b"surgeon"),
            iat: self.now().unsigned_ms(),
            key: kid(member),
            nonce,
            organisation: kid(organisation),
            status,
        });
        tx::sign(&staff_key(organisation), &payload).unwrap()
    }

    /// The same, made final.
    pub async fn affiliate(
        &self,
        organisation: &AgencyId,
        member: &AgencyId,
        nonce: u64,
        status: AffiliationStatus,
    ) {
        self.settle(&[self.affiliation(organisation, member, nonce, status)]).await;
    }

    /// Makes transactions final, by the ledger or by hand.
    async fn settle(&self, transactions: &[String]) {
        let Some(ledger) = &self.ledger else {
            let texts: Vec<&str> = transactions.iter().map(String::as_str).collect();
            self.finalise(&texts).await;
            return;
        };
        let url = format!("{}/v1/transactions/batch", ledger.url());
        let batch = serde_json::json!({"transactions": transactions});
        let answer = Reply::to(self.http.post(url).json(&batch)).await;
        assert_eq!(answer.status, 202, "{}", answer.said());
    }

    pub async fn operator(&self) -> User {
        let user = self.user(AccountId::Operator(OperatorId::random(&self.random)));
        self.subject(&user.account, &subject(Role::Operator, Standing::Active, None)).await;
        user
    }

    pub async fn deny(&self, kind: &str, id: &str) {
        let path = format!("/internal/v1/denials/{kind}/{id}");
        assert_eq!(self.auth(Method::PUT, &path, &NewDenial::default()).await.status, 204);
    }

    /// auth says that an agency is suspended from now on.
    pub async fn suspend(&self, agency: &AgencyUser) {
        let subject = subject(Role::Agency, Standing::Suspended, Some(AgencyType::Doctor));
        self.subject(&agency.user.account, &Subject { revision: 2, ..subject }).await;
    }

    /// An organisation takes a doctor in, and auth says so.
    pub async fn join(&self, doctor: &AgencyUser, organisation: &AgencyUser) {
        self.affiliate(&organisation.id, &doctor.id, 0, AffiliationStatus::Active).await;
        let told = self.told(doctor, AgencyType::Doctor, Some(&organisation.id), 2);
        self.subject(&doctor.user.account, &told).await;
    }

    /// Why a service with these keys does not start on this database.
    pub async fn refused_with(&self, change: impl FnOnce(&mut Config, SecretFile)) -> String {
        let mut config = self.config.clone();
        change(&mut config, SecretFile::new(key_file(self.folder.path(), "other.key", 0x77)));
        match Application::build_in(config, Surroundings::default()).await {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// `PUT` without a body.
    pub async fn put(&self, path: &str, user: &User) -> Reply {
        self.call(Method::PUT, path, Some(user), None, None).await
    }

    /// The same with a token that says this.
    pub async fn put_with(&self, path: &str, user: &User, claims: &AccessClaims) -> Reply {
        self.sign_in(user).await;
        let token = hbc_client::jwt::sign(ACCESS_TYP, &key(TOKENS), claims).unwrap();
        Reply::to(self.http.put(format!("{}{path}", self.service.base)).bearer_auth(token)).await
    }

    /// Whether the database is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        self.database.url.starts_with("postgres")
    }

    /// Laboratory and vital signs, read, treatment, 30 days.
    pub fn scope(&self) -> Scope {
        Scope {
            actions: vec![Action::Read],
            categories: vec![Category::Laboratory, Category::VitalSigns],
            sensitivities: vec![Sensitivity::Normal],
            purposes: vec![Purpose::Treatment],
            from: self.now(),
            until: self.now().plus(Duration::from_secs(30 * 86_400)),
            future_records: true,
        }
    }

    #[expect(clippy::unused_self, reason = "it reads like the other steps")]
    pub fn new_grant(&self, agency: &AgencyUser, scope: Scope) -> NewGrant {
        NewGrant::to(GranteeId::Agency(agency.id.clone()), scope)
    }

    pub async fn draft(&self, patient: &PatientUser, new: &NewGrant) -> GrantDraft {
        self.post("/v1/grants", &patient.user, new).await.ok()
    }

    /// The root's word for a consent key.
    pub fn certificate(&self, patient: &PatientUser, grantee: &str, kid: Digest) -> String {
        self.certificate_within(patient, grantee, kid, Limits::default())
    }

    /// The same, with limits.
    pub fn certificate_within(
        &self,
        patient: &PatientUser,
        grantee: &str,
        kid: Digest,
        limits: Limits,
    ) -> String {
        let certificate = ConsentCertificate {
            chain: self.chain,
            grantee: grantee.to_owned(),
            iat: self.now().unsigned_ms(),
            key: kid,
            limits,
            root: PublicKey::of(&patient.root).kid(),
        };
        certificate.sign(&patient.root).unwrap()
    }

    /// What auth answers for a draft: the key for this grantee, certified and registered, and its signature.
    pub fn signature(&self, patient: &PatientUser, draft: &GrantDraft, key: &SigningKey) -> GrantSignature {
        let grantee =
            serde_json::from_str::<Value>(&draft.body).unwrap()["grantee"].as_str().unwrap().to_owned();
        let kid = PublicKey::of(key).kid();
        let registration = Payload::ConsentKey(ConsentKey {
            chain: self.chain,
            iat: self.now().unsigned_ms(),
            key: kid,
            pop: Some(SignatureBytes::sign(key, &possession_text(&self.chain, &kid))),
            public: Some(PublicKey::of(key)),
            status: KeyStatus::Active,
        });
        GrantSignature {
            jws: tx::sign(key, &self.payload(draft, kid)).unwrap(),
            certificate: self.certificate(patient, &grantee, kid),
            registration: Some(tx::sign(&self.auth, &registration).unwrap()),
        }
    }

    #[expect(clippy::unused_self, reason = "it reads like the other steps")]
    pub fn payload(&self, draft: &GrantDraft, kid: Digest) -> Payload {
        let field = |name: &str| draft.payload[name].clone();
        Payload::Grant(Consent {
            chain: serde_json::from_value(field("chain")).unwrap(),
            commitment: serde_json::from_value(field("commitment")).unwrap(),
            custody: serde_json::from_value(field("custody")).unwrap(),
            grant: draft.id.clone(),
            iat: serde_json::from_value(field("iat")).unwrap(),
            key: kid,
            prev: serde_json::from_value(field("prev")).unwrap(),
            seq: serde_json::from_value(field("seq")).unwrap(),
        })
    }

    /// The consent key of this patient for this agency.
    #[expect(clippy::unused_self, reason = "it reads like the other steps")]
    pub fn consent_key(&self, patient: &PatientUser, agency: &AgencyId) -> SigningKey {
        let seed =
            hbc_types::hash::domain_hash("test", &[patient.root.as_bytes(), agency.as_str().as_bytes()]);
        SigningKey::from_bytes(seed.as_bytes())
    }

    pub async fn put_signature(
        &self,
        patient: &PatientUser,
        id: &GrantId,
        signature: &GrantSignature,
    ) -> Reply {
        self.send(Method::PUT, &format!("/v1/grants/{id}/signature"), &patient.user, signature).await
    }

    /// Drafts and signs; the grant is pending.
    pub async fn sign(&self, patient: &PatientUser, agency: &AgencyUser, scope: Scope) -> GrantView {
        let draft = self.draft(patient, &self.new_grant(agency, scope)).await;
        let signature = self.signature(patient, &draft, &self.consent_key(patient, &agency.id));
        self.put_signature(patient, &draft.id, &signature).await.ok()
    }

    /// Drafts, signs and makes final.
    pub async fn grant(&self, patient: &PatientUser, agency: &AgencyUser, scope: Scope) -> GrantView {
        let view = self.sign(patient, agency, scope).await;
        self.finalise(&[&view.evidence.as_ref().unwrap().jws]).await;
        let view: GrantView = self.get(&format!("/v1/grants/{}", view.id), &patient.user).await.ok();
        assert_eq!(view.state.code(), "active");
        view
    }

    /// A final block with these transactions arrives.
    pub async fn finalise(&self, transactions: &[&str]) -> FinalBlock {
        let height = 1 + self.height.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let transactions: Vec<Tx> =
            transactions.iter().map(|jws| Tx::parse(jws.as_bytes()).unwrap()).collect();
        let (block, position) = final_block(&self.app.genesis, height, &transactions);
        self.journal().apply(&block, position).await.unwrap();
        block
    }

    /// The service's side of the ledger.
    pub fn journal(&self) -> LedgerJournal<<AccessPolicy as Service>::Events> {
        LedgerJournal::new(&self.app.base, AccessPolicy::events(&self.app))
    }

    pub fn revocation(&self, patient: &PatientUser, agency: &AgencyUser, grant: &GrantId) -> String {
        self.revocation_by(&self.consent_key(patient, &agency.id), grant)
    }

    pub fn revocation_by(&self, key: &SigningKey, grant: &GrantId) -> String {
        let payload = Payload::Revoke(Revoke {
            chain: self.chain,
            grant: grant.clone(),
            iat: self.now().unsigned_ms(),
            key: PublicKey::of(key).kid(),
        });
        tx::sign(key, &payload).unwrap()
    }

    /// The key's own word that it ends.
    pub fn end_of_key(&self, key: &SigningKey) -> String {
        let payload = Payload::ConsentKey(ConsentKey {
            chain: self.chain,
            iat: self.now().unsigned_ms(),
            key: PublicKey::of(key).kid(),
            pop: None,
            public: None,
            status: KeyStatus::Revoked,
        });
        tx::sign(key, &payload).unwrap()
    }

    pub async fn revoke(&self, patient: &PatientUser, agency: &AgencyUser, grant: &GrantId) -> Reply {
        let body = serde_json::json!({"jws": self.revocation(patient, agency, grant)});
        self.post(&format!("/v1/grants/{grant}/revocation"), &patient.user, &body).await
    }

    /// An alteration that the patient's key sent to a ledger node by itself: it follows the grant's own event.
    pub fn alteration(&self, patient: &PatientUser, agency: &AgencyUser, view: &GrantView) -> String {
        self.alteration_by(patient, agency, view, Digest::of(b"another body"))
    }

    fn alteration_by(
        &self,
        patient: &PatientUser,
        agency: &AgencyUser,
        view: &GrantView,
        commitment: Digest,
    ) -> String {
        let last = Tx::parse(view.evidence.as_ref().unwrap().jws.as_bytes()).unwrap();
        let (Payload::Grant(consent) | Payload::Alter(consent)) = last.payload().clone() else {
            panic!("a grant's event")
        };
        let iat = self.now().unsigned_ms();
        let altered = Consent { commitment, prev: Some(last.txid()), seq: consent.seq + 1, iat, ..consent };
        tx::sign(&self.consent_key(patient, &agency.id), &Payload::Alter(altered)).unwrap()
    }

    /// The same with its opening: the grant covers `scope` from then on.
    pub fn alteration_to(
        &self,
        patient: &PatientUser,
        agency: &AgencyUser,
        view: &GrantView,
        scope: Scope,
    ) -> AlterationOpening {
        let body = ConsentBody::to_agency(view.id.clone(), agency.id.clone(), patient.id.clone(), scope);
        let body = hbc_chain::json::encode(&body).unwrap();
        let salt: [u8; 32] = self.random.bytes();
        let jws = self.alteration_by(patient, agency, view, hbc_types::hash::consent_body(&salt, &body));
        AlterationOpening { jws, body: String::from_utf8(body).unwrap(), salt: salt.as_slice().into() }
    }

    pub async fn open_alteration(
        &self,
        patient: &PatientUser,
        id: &GrantId,
        opening: &AlterationOpening,
    ) -> Reply {
        self.send(Method::PUT, &format!("/v1/grants/{id}/alteration"), &patient.user, opening).await
    }

    pub fn unfreeze(&self, patient: &PatientUser, grant: Option<&GrantId>) -> Value {
        let order = UnfreezeOrder {
            chain: self.chain,
            grant: grant.cloned(),
            iat: self.now().unsigned_ms(),
            patient: patient.id.clone(),
        };
        serde_json::json!({"jws": order.sign(&patient.root).unwrap()})
    }

    pub async fn write(&self, user: &User, patient: &PatientId, items: &[Labels]) -> Written {
        let request = self.data_keys_request(user, patient, items);
        let keys: DataKeys = self.storage("/internal/v1/keys/data-keys", Some(user), &request).await.ok();
        Written { request, keys, at: self.now() }
    }

    pub fn data_keys_request(&self, user: &User, patient: &PatientId, items: &[Labels]) -> DataKeysRequest {
        let purpose = purpose_of(user);
        let item = |labels: &Labels| DataKeyItem {
            record: RecordId::random(&self.random),
            version: 1,
            labels: *labels,
        };
        DataKeysRequest {
            intent: IntentId::random(&self.random),
            patient: patient.clone(),
            purpose,
            items: items.iter().map(item).collect(),
        }
    }

    pub async fn read(&self, user: &User, written: &Written) -> Unwrapped {
        self.try_read(user, written, purpose_of(user)).await.ok()
    }

    pub async fn try_read(&self, user: &User, written: &Written, purpose: Purpose) -> Reply {
        self.storage("/internal/v1/keys/unwrap", Some(user), &written.unwrap_request(purpose)).await
    }

    /// The state of the numbers, as a read with it says.
    pub async fn numbers(&self, user: &User, written: &Written) -> NumbersStatement {
        let request = UnwrapRequest { statement: true, ..written.unwrap_request(purpose_of(user)) };
        let read: Unwrapped = self.storage("/internal/v1/keys/unwrap", Some(user), &request).await.ok();
        read.numbers.unwrap()
    }

    /// Asks for leave to write `writes`, with `meets` maybe there already.
    pub async fn admit(
        &self,
        user: &User,
        patient: &PatientId,
        (writes, meets): (&[Labels], &[Labels]),
        nothing_left: bool,
    ) -> Reply {
        let request = AdmissionRequest {
            patient: patient.clone(),
            purpose: purpose_of(user),
            writes: writes.to_vec(),
            meets: meets.to_vec(),
            reads: vec![labels(Category::Laboratory), labels(Category::Condition)],
            nothing_left,
        };
        self.storage("/internal/v1/admissions", Some(user), &request).await
    }

    pub async fn decide(&self, user: &User, patient: &PatientId, purpose: Purpose) -> Reply {
        let request = DecisionRequest {
            patient: patient.clone(),
            purpose,
            action: Action::Read,
            labels: vec![
                labels(Category::Laboratory),
                labels(Category::VitalSigns),
                labels(Category::Condition),
            ],
        };
        self.storage("/internal/v1/decisions", Some(user), &request).await
    }

    pub async fn decision(&self, user: &User, patient: &PatientId) -> DecisionAnswer {
        self.decide(user, patient, purpose_of(user)).await.ok()
    }

    /// A key that nobody had before.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.random.bytes())
    }

    /// Runs SQL behind the service's back.
    pub async fn by_hand(&self, sql: &'static str) -> u64 {
        self.app
            .db
            .write(move |db| {
                Box::pin(async move {
                    Ok::<u64, hbc_db::DbError>(sqlx::query(sql).execute(db).await?.rows_affected())
                })
            })
            .await
            .unwrap()
    }
}

pub fn purpose_of(user: &User) -> Purpose {
    match user.account {
        AccountId::Patient(_) | AccountId::App(_) | AccountId::Device(_) => Purpose::PatientRequest,
        AccountId::Agency(_) | AccountId::Operator(_) => Purpose::Treatment,
    }
}

pub fn subject(role: Role, standing: Standing, agency_type: Option<AgencyType>) -> Subject {
    Subject {
        role,
        standing,
        agency_type,
        name: agency_type.map(|_| "Dr. Example".to_owned()),
        organisation: None,
        staff_key: None,
        profile: None,
        revision: 1,
    }
}

pub fn labels(category: Category) -> Labels {
    Labels { category, sensitivity: Sensitivity::Normal }
}

/// Records that were given keys.
pub struct Written {
    pub request: DataKeysRequest,
    pub keys: DataKeys,
    pub at: Timestamp,
}

impl Written {
    pub fn unwrap_request(&self, purpose: Purpose) -> UnwrapRequest {
        let items = self.request.items.iter().zip(&self.keys.keys).map(|(item, key)| UnwrapItem {
            record: item.record.clone(),
            version: item.version,
            labels: item.labels,
            n: key.n,
            created_at: self.at,
            wrapped: key.wrapped.clone(),
            kek_epoch: key.kek_epoch,
        });
        let (patient, items) = (self.request.patient.clone(), items.collect());
        UnwrapRequest { patient, purpose, items, statement: false }
    }
}
