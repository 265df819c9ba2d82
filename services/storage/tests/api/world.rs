//! Storage's neighbours: an auth that serves its keys, an access-policy that decides by a list and really wraps keys, and
//! the test kit's ledger node, which puts every transaction into a certified block at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hbc_chain::genesis::Genesis;
use hbc_testkit::chain::quick_genesis;
use hbc_testkit::ledger::{Mood, Node, refusal as problem};
use hbc_testkit::users::{User, jwks};
use hbc_types::hash::aad;
use hbc_types::ids::{AccountId, GrantId, PatientId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::problem::Slug;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::secret::{Bytes, Key32};
use hbc_types::wire::access::{
    Admission, AdmissionRequest, AllowedLabels, AnchoredRequest, ConsentVersion, DataKey, DataKeys,
    DataKeysRequest, DecisionAnswer, DecisionRequest, Labels, ReleasedKey, TagKey, UnwrapRequest, Unwrapped,
    VoidRequest,
};
use hbc_types::wire::token::AccessClaims;
use hbc_types::{Clock, Digest, Random, Timestamp};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// A grant as the fake access-policy knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub agency: AccountId,
    pub patient: PatientId,
    pub categories: Vec<Category>,
    pub action: Action,
    pub purpose: Purpose,
}

#[derive(Default)]
struct Inner {
    down: bool,
    grants: Vec<Grant>,
    verified: Vec<AccountId>,
    /// Accounts that may see only what was created before an instant.
    before: HashMap<AccountId, Timestamp>,
    /// Accounts that may do nothing at all.
    refused: HashMap<AccountId, Slug>,
    /// Receipts of denials, and of requests that had nothing left to write: account, patient, what.
    receipts: Vec<(AccountId, PatientId, &'static str)>,
    numbers: HashMap<(PatientId, Labels), u64>,
    intents: HashMap<String, Vec<u64>>,
    voided: HashSet<String>,
    anchored: Vec<AnchoredRequest>,
    released: usize,
    /// Grows with each change of grants.
    version: u64,
    /// How often the consent version was asked for.
    looks: usize,
}

/// Everything around storage.
pub struct World {
    pub server: MockServer,
    pub ledger: Node,
    inner: Arc<Mutex<Inner>>,
    random: Random,
}

struct Answers(Arc<Mutex<Inner>>, Random);

impl World {
    pub async fn start() -> Self {
        let inner = Arc::<Mutex<Inner>>::default();
        let server = MockServer::start().await;
        Mock::given(wiremock::matchers::any())
            .respond_with(Answers(Arc::clone(&inner), Random::system()))
            .mount(&server)
            .await;
        let ledger = Node::deciding(genesis(), Clock::system()).await;
        Self { server, ledger, inner, random: Random::system() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn access_policy_is_down(&self, down: bool) {
        self.lock().down = down;
    }

    pub fn ledger_is_down(&self, down: bool) {
        self.ledger.feel(if down { Mood::Away(Slug::Unavailable) } else { Mood::Promise });
    }

    pub fn grant(&self, grant: Grant) {
        self.lock().grants.push(grant);
    }

    pub fn revoke_all(&self) {
        let mut inner = self.lock();
        inner.grants.clear();
        inner.version += 1;
    }

    pub fn verify_agency(&self, agency: &AccountId) {
        self.lock().verified.push(agency.clone());
    }

    pub fn only_before(&self, account: &AccountId, at: Timestamp) {
        self.lock().before.insert(account.clone(), at);
    }

    pub fn refuse(&self, account: &AccountId, why: Slug) {
        self.lock().refused.insert(account.clone(), why);
    }

    /// The receipts since this was last asked.
    pub fn receipts(&self) -> Vec<(AccountId, PatientId, &'static str)> {
        std::mem::take(&mut self.lock().receipts)
    }

    pub fn voided(&self) -> HashSet<String> {
        self.lock().voided.clone()
    }

    pub fn anchored(&self) -> Vec<AnchoredRequest> {
        self.lock().anchored.clone()
    }

    /// How often the consent version was asked for.
    pub fn looks(&self) -> usize {
        self.lock().looks
    }

    /// Keys that were released to be read with.
    pub fn released(&self) -> usize {
        self.lock().released
    }

    /// A token for an account.
    pub fn token(&self, account: &AccountId) -> String {
        User::of(account.clone(), &self.random).token(Clock::system().now(), &self.random)
    }
}

fn body<T: serde::de::DeserializeOwned>(request: &Request) -> T {
    serde_json::from_slice(&request.body).unwrap()
}

fn ok<T: serde::Serialize>(value: &T) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(value)
}

fn caller(request: &Request) -> Option<AccountId> {
    let token = request.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: AccessClaims = serde_json::from_slice(&claims).ok()?;
    Some(claims.sub)
}

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut inner = self.0.lock().unwrap();
        let path = request.url.path().to_owned();
        if path == "/.well-known/jwks.json" {
            return ok(&jwks());
        }
        if path.starts_with("/internal/v1/") {
            assert!(request.headers.contains_key("HBC-Service"), "{path} came without an assertion");
            if inner.down {
                return problem(Slug::Unavailable);
            }
        }
        match path.as_str() {
            "/v1/grants" => inner.grants_of(caller(request), &self.1),
            "/internal/v1/admissions" => inner.admit(caller(request), &body(request)),
            "/internal/v1/keys/data-keys" => inner.data_keys(caller(request), &body(request)),
            "/internal/v1/keys/unwrap" => inner.unwrap(caller(request), &body(request)),
            "/internal/v1/decisions" => inner.decide(caller(request), &body(request)),
            path if path.ends_with("/consent-version") => {
                inner.looks += 1;
                ok(&ConsentVersion { consent_version: inner.version + 1 })
            }
            "/internal/v1/keys/void" => {
                inner.voided.insert(body::<VoidRequest>(request).intent.to_string());
                ResponseTemplate::new(204)
            }
            "/internal/v1/keys/anchored" => {
                inner.anchored.push(body(request));
                ResponseTemplate::new(204)
            }
            _ => problem(Slug::NotFound),
        }
    }
}

fn kek(patient: &PatientId, sensitivity: Sensitivity) -> [u8; 32] {
    *Digest::of(format!("kek {patient} {sensitivity}").as_bytes()).as_bytes()
}

fn wrap_aad(patient: &PatientId, record: &str, version: u32, labels: Labels, n: u64) -> Vec<u8> {
    let parts = [
        patient.as_str().as_bytes(),
        record.as_bytes(),
        &version.to_be_bytes(),
        labels.category.code().as_bytes(),
        labels.sensitivity.code().as_bytes(),
        &n.to_be_bytes(),
    ];
    aad("test/wrap", &parts)
}

impl Inner {
    fn may(
        &self,
        caller: &AccountId,
        patient: &PatientId,
        labels: Labels,
        action: Action,
        why: Purpose,
    ) -> bool {
        match caller {
            AccountId::Patient(own) => own == patient || (patient.is_directory() && action == Action::Read),
            AccountId::Operator(_) => patient.is_directory(),
            AccountId::Agency(_) if patient.is_directory() => {
                action == Action::Read || self.verified.contains(caller)
            }
            AccountId::Agency(_) | AccountId::App(_) | AccountId::Device(_) => {
                self.grants.iter().any(|grant| {
                    grant.agency == *caller
                        && grant.patient == *patient
                        && grant.categories.contains(&labels.category)
                        && labels.sensitivity == Sensitivity::Normal
                        && grant.action == action
                        && grant.purpose == why
                })
            }
        }
    }

    /// Whether a caller may be told why records so labelled are not shown.
    fn tells(
        &self,
        caller: &AccountId,
        patient: &PatientId,
        mut labels: impl Iterator<Item = Labels>,
    ) -> bool {
        let agency = matches!(caller, AccountId::Agency(_)) && !patient.is_directory();
        self.knows(caller, patient)
            && (!agency || labels.any(|labels| labels.sensitivity == Sensitivity::Normal))
    }

    fn admit(&mut self, caller: Option<AccountId>, request: &AdmissionRequest) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        let patient = &request.patient;
        let refused = self.refused.get(&caller).copied();
        let may = |labels: &Labels, action| self.may(&caller, patient, *labels, action, request.purpose);
        let admitted = request.writes.iter().all(|labels| may(labels, Action::Write))
            && request.meets.iter().all(|labels| may(labels, Action::Write) || may(labels, Action::Read))
            && (!(request.writes.is_empty() && request.meets.is_empty()) || self.knows(&caller, patient));
        let refused = match refused {
            None if admitted => None,
            None if self.knows(&caller, patient) => Some(Slug::Denied),
            None => Some(Slug::NotFound),
            standing => standing,
        };
        let readable = request.reads.iter().filter(|labels| may(labels, Action::Read));
        let allowed = |labels: &Labels| AllowedLabels { labels: *labels, created_before: None };
        let answer = Admission { readable: readable.map(allowed).collect(), receipt: None };
        if refused.is_some() || request.nothing_left {
            let what = if refused.is_some() { "denied" } else { "nothing left" };
            self.receipts.push((caller, patient.clone(), what));
        }
        refused.map_or_else(|| ok(&answer), problem)
    }

    fn knows(&self, caller: &AccountId, patient: &PatientId) -> bool {
        let granted = self.grants.iter().any(|grant| grant.agency == *caller && grant.patient == *patient);
        granted || patient.is_directory() || *caller == AccountId::Patient(patient.clone())
    }

    fn data_keys(&mut self, caller: Option<AccountId>, request: &DataKeysRequest) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        let patient = &request.patient;
        let allowed = |item: &hbc_types::wire::access::DataKeyItem| {
            self.may(&caller, patient, item.labels, Action::Write, request.purpose)
        };
        if !request.items.iter().all(allowed) {
            return problem(if self.knows(&caller, patient) { Slug::Denied } else { Slug::NotFound });
        }
        let intent = request.intent.to_string();
        if self.voided.contains(&intent) {
            return problem(Slug::Conflict);
        }
        let numbers = match self.intents.get(&intent) {
            Some(numbers) => numbers.clone(),
            None => {
                let numbers: Vec<u64> = request
                    .items
                    .iter()
                    .map(|item| {
                        let n = self.numbers.entry((patient.clone(), item.labels)).or_default();
                        *n += 1;
                        *n
                    })
                    .collect();
                self.intents.insert(intent.clone(), numbers.clone());
                numbers
            }
        };
        let keys = request.items.iter().zip(&numbers).map(|(item, n)| {
            let dek = Digest::of(format!("dek {intent} {}", item.record).as_bytes());
            let context = wrap_aad(patient, item.record.as_str(), item.version, item.labels, *n);
            let cipher = Aes256Gcm::new(&kek(patient, item.labels.sensitivity).into());
            let payload = Payload { msg: dek.as_bytes(), aad: &context };
            let wrapped = cipher.encrypt(&Nonce::from([0; 12]), payload).unwrap();
            DataKey { n: *n, dek: Key32::new(*dek.as_bytes()), wrapped: Bytes::new(wrapped), kek_epoch: 1 }
        });
        let sensitivities: HashSet<Sensitivity> =
            request.items.iter().map(|item| item.labels.sensitivity).collect();
        let tag_keys = sensitivities.into_iter().map(|sensitivity| TagKey {
            sensitivity,
            kek_epoch: 1,
            key: Key32::new(kek(patient, sensitivity)),
        });
        ok(&DataKeys { keys: keys.collect(), tag_keys: tag_keys.collect(), receipt: None })
    }

    fn unwrap(&mut self, caller: Option<AccountId>, request: &UnwrapRequest) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        if let Some(why) = self.refused.get(&caller) {
            return problem(*why);
        }
        let patient = &request.patient;
        let mut keys = Vec::new();
        let mut denied = false;
        for item in &request.items {
            if !self.may(&caller, patient, item.labels, Action::Read, request.purpose) {
                denied = true;
                continue;
            }
            let context = wrap_aad(patient, item.record.as_str(), item.version, item.labels, item.n);
            let cipher = Aes256Gcm::new(&kek(patient, item.labels.sensitivity).into());
            let payload = Payload { msg: item.wrapped.as_slice(), aad: &context };
            if let Ok(dek) = cipher.decrypt(&Nonce::from([0; 12]), payload) {
                let dek = Key32::new(dek.try_into().unwrap());
                keys.push(ReleasedKey { record: item.record.clone(), version: item.version, dek });
            }
        }
        self.released += keys.len();
        ok(&Unwrapped {
            keys,
            numbers: None,
            receipt: None,
            rule: denied.then(|| "no-grant".to_owned()),
            known: self.tells(&caller, patient, request.items.iter().map(|item| item.labels)),
            consent_version: self.version + 1,
        })
    }

    /// A page of the caller's grants.
    fn grants_of(&self, caller: Option<AccountId>, random: &Random) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        let own = self.grants.iter().filter(|grant| grant.agency == caller).map(|grant| {
            let scope = serde_json::json!({"actions": [grant.action], "categories": grant.categories,
                "purposes": [grant.purpose], "from": Timestamp::from_ms(0), "until": Timestamp::from_ms(1)});
            serde_json::json!({"id": GrantId::random(random), "patient": grant.patient, "grantee": grant.agency,
                "grantee_name": "x", "scope": scope, "state": "active", "custody": "server",
                "root_fingerprint": Digest::of(b"root"), "created_at": Timestamp::from_ms(0)})
        });
        ok(&serde_json::json!({"items": own.collect::<Vec<_>>()}))
    }

    fn decide(&self, caller: Option<AccountId>, request: &DecisionRequest) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        if let Some(why) = self.refused.get(&caller) {
            return problem(*why);
        }
        let may =
            |labels: &Labels| self.may(&caller, &request.patient, *labels, request.action, request.purpose);
        let allowed = request.labels.iter().copied().filter(may);
        let created_before = self.before.get(&caller).copied();
        ok(&DecisionAnswer {
            allowed: allowed.map(|labels| AllowedLabels { labels, created_before }).collect(),
            receipt: None,
            rule: "test".to_owned(),
            known: self.tells(&caller, &request.patient, request.labels.iter().copied()),
            consent_version: self.version + 1,
        })
    }
}

/// The deployment's founding document: one member.
pub fn genesis() -> Genesis {
    quick_genesis(1)
}
