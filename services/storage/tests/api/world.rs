//! Storage's neighbours: an auth that serves its keys, an access-policy that decides by a list and really wraps keys, a
//! ledger of one member that puts every transaction into a certified block at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use hbc_chain::certificate::PromiseClaims;
use hbc_chain::checkpoint::{Certificate, Checkpoint};
use hbc_chain::genesis::{Genesis, Named, Parameters, ServiceKey, log_origin};
use hbc_chain::header::{Header, miner_id};
use hbc_chain::merkle::{self, Tree};
use hbc_chain::proof::{BlockEvidence, Certification, Document, MembersProof, TransactionProof};
use hbc_chain::tx;
use hbc_types::account::{Role, ServiceRole};
use hbc_types::hash::aad;
use hbc_types::ids::{AccountId, PatientId, SessionId};
use hbc_types::keys::PublicKey;
use hbc_types::labels::{Category, Compartment};
use hbc_types::problem::{ProblemDocument, Slug, TYPE_PREFIX};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::secret::{Bytes, Key32};
use hbc_types::wire::access::{
    AllowedLabels, AnchoredRequest, ConsentVersion, DataKey, DataKeys, DataKeysRequest, DecisionAnswer,
    DecisionRequest, Labels, NumbersStatement, ReleasedKey, TagKey, UnwrapRequest, Unwrapped, VoidRequest,
};
use hbc_types::wire::ledger::{BatchAnswer, BatchResult, BlockView, BlocksView, Promise, SubmitBatch};
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims, Jwk, Jwks};
use hbc_types::{Clock, Digest, Random};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const ISSUER: &str = "http://auth.test";
pub const AUDIENCE: &str = "hbc-test";

/// The member's, the services' and the token's keys.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}
pub const STORAGE_KEY: u8 = 203;
const TOKEN_KEY: u8 = 0x77;

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
    numbers: HashMap<(PatientId, Labels), u64>,
    intents: HashMap<String, Vec<u64>>,
    voided: HashSet<String>,
    anchored: Vec<AnchoredRequest>,
    released: usize,
    chain: Option<Chain>,
    ledger_down: bool,
    /// Grows with each change of grants.
    version: u64,
    /// How often the consent version was asked for.
    looks: usize,
}

/// Everything around storage.
pub struct World {
    pub server: MockServer,
    inner: Arc<Mutex<Inner>>,
    random: Random,
}

struct Answers(Arc<Mutex<Inner>>);

impl World {
    pub async fn start() -> Self {
        let inner = Inner { chain: Some(Chain::new()), ..Inner::default() };
        let inner = Arc::new(Mutex::new(inner));
        let server = MockServer::start().await;
        Mock::given(wiremock::matchers::any()).respond_with(Answers(Arc::clone(&inner))).mount(&server).await;
        Self { server, inner, random: Random::system() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn access_policy_is_down(&self, down: bool) {
        self.lock().down = down;
    }

    pub fn ledger_is_down(&self, down: bool) {
        self.lock().ledger_down = down;
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
        let now = Clock::system().now().seconds();
        let role = match account {
            AccountId::Patient(_) => Role::Patient,
            AccountId::Agency(_) => Role::Agency,
            AccountId::Operator(_) => Role::Operator,
        };
        let claims = AccessClaims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: account.clone(),
            iat: now,
            nbf: now,
            exp: now + 600,
            jti: hex::encode(self.random.bytes::<16>()),
            sid: SessionId::random(&self.random),
            role,
            auth_time: now,
            amr: vec!["pwd".to_owned()],
        };
        hbc_client::jwt::sign(ACCESS_TYP, &key(TOKEN_KEY), &claims).unwrap()
    }
}

fn problem(slug: Slug) -> ResponseTemplate {
    let document = ProblemDocument {
        kind: format!("{TYPE_PREFIX}{}", slug.as_str()),
        title: slug.title().to_owned(),
        status: slug.status(),
        detail: None,
        instance: None,
        errors: Vec::new(),
        references: Vec::new(),
    };
    ResponseTemplate::new(slug.status()).set_body_json(document)
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
            return ok(&Jwks { keys: vec![Jwk::of(key(TOKEN_KEY).verifying_key().as_bytes())] });
        }
        if path.starts_with("/internal/v1/") {
            assert!(request.headers.contains_key("HBC-Service"), "{path} came without an assertion");
            if inner.down {
                return problem(Slug::Unavailable);
            }
        }
        match path.as_str() {
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
            _ if inner.ledger_down => problem(Slug::Unavailable),
            _ => inner.chain.as_mut().unwrap().respond(request),
        }
    }
}

fn kek(patient: &PatientId, compartment: Compartment) -> [u8; 32] {
    *Digest::of(format!("kek {patient} {compartment}").as_bytes()).as_bytes()
}

fn wrap_aad(patient: &PatientId, record: &str, version: u32, labels: Labels, n: u64) -> Vec<u8> {
    let parts = [
        patient.as_str().as_bytes(),
        record.as_bytes(),
        &version.to_be_bytes(),
        labels.category.code().as_bytes(),
        labels.compartment.code().as_bytes(),
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
            AccountId::Agency(_) => self.grants.iter().any(|grant| {
                grant.agency == *caller
                    && grant.patient == *patient
                    && grant.categories.contains(&labels.category)
                    && labels.compartment == Compartment::Normal
                    && grant.action == action
                    && grant.purpose == why
            }),
        }
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
            let cipher = Aes256Gcm::new(&kek(patient, item.labels.compartment).into());
            let payload = Payload { msg: dek.as_bytes(), aad: &context };
            let wrapped = cipher.encrypt(&Nonce::from([0; 12]), payload).unwrap();
            DataKey { n: *n, dek: Key32::new(*dek.as_bytes()), wrapped: Bytes::new(wrapped), kek_epoch: 1 }
        });
        let compartments: HashSet<Compartment> =
            request.items.iter().map(|item| item.labels.compartment).collect();
        let tag_keys = compartments.into_iter().map(|compartment| TagKey {
            compartment,
            kek_epoch: 1,
            key: Key32::new(kek(patient, compartment)),
        });
        ok(&DataKeys { keys: keys.collect(), tag_keys: tag_keys.collect(), receipt: None })
    }

    fn unwrap(&mut self, caller: Option<AccountId>, request: &UnwrapRequest) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        let patient = &request.patient;
        let mut keys = Vec::new();
        let mut denied = false;
        for item in &request.items {
            if !self.may(&caller, patient, item.labels, Action::Read, request.purpose) {
                denied = true;
                continue;
            }
            let context = wrap_aad(patient, item.record.as_str(), item.version, item.labels, item.n);
            let cipher = Aes256Gcm::new(&kek(patient, item.labels.compartment).into());
            let payload = Payload { msg: item.wrapped.as_slice(), aad: &context };
            if let Ok(dek) = cipher.decrypt(&Nonce::from([0; 12]), payload) {
                let dek = Key32::new(dek.try_into().unwrap());
                keys.push(ReleasedKey { record: item.record.clone(), version: item.version, dek });
            }
        }
        self.released += keys.len();
        ok(&Unwrapped {
            keys,
            numbers: NumbersStatement { sets: Vec::new(), jws: String::new() },
            receipt: None,
            rule: denied.then(|| "no-grant".to_owned()),
            known: self.knows(&caller, patient),
            consent_version: self.version + 1,
        })
    }

    fn decide(&self, caller: Option<AccountId>, request: &DecisionRequest) -> ResponseTemplate {
        let Some(caller) = caller else { return problem(Slug::Unauthenticated) };
        let may =
            |labels: &Labels| self.may(&caller, &request.patient, *labels, request.action, request.purpose);
        let allowed = request.labels.iter().copied().filter(may);
        ok(&DecisionAnswer {
            allowed: allowed.map(|labels| AllowedLabels { labels, created_before: None }).collect(),
            receipt: None,
            rule: "test".to_owned(),
            known: self.knows(&caller, &request.patient),
            consent_version: self.version + 1,
        })
    }
}

/// The deployment's founding document: one member.
pub fn genesis() -> Genesis {
    let named = |name: &str, seed| Named { key: PublicKey::of(&key(seed)), name: name.to_owned() };
    let service = |role, seed| ServiceKey { key: PublicKey::of(&key(seed)), role };
    Genesis {
        members: vec![named("node-1", 1)],
        operators: vec![named("operator-1", 11)],
        origin: "hbc.test".to_owned(),
        parameters: Parameters::with_zero_bits(0, 1).unwrap(),
        services: vec![
            service(ServiceRole::AccessPolicy, 202),
            service(ServiceRole::Auth, 201),
            service(ServiceRole::Storage, STORAGE_KEY),
        ],
        time_ms: 1_790_000_000_000,
    }
}

/// A chain of one member.
struct Chain {
    genesis: Genesis,
    headers: Vec<Header>,
    leaves: Vec<Digest>,
    blocks: Vec<BlockView>,
}

impl Chain {
    fn new() -> Self {
        let genesis = genesis();
        Self { headers: vec![genesis.header().unwrap()], genesis, leaves: Vec::new(), blocks: Vec::new() }
    }

    fn respond(&mut self, request: &Request) -> ResponseTemplate {
        match request.url.path() {
            "/v1/checkpoint" => match self.blocks.last() {
                Some(block) => ResponseTemplate::new(200).set_body_string(block.certificate.clone()),
                None => problem(Slug::NotFound),
            },
            "/v1/blocks" => {
                let from: u64 =
                    request.url.query_pairs().find(|(name, _)| name == "from").unwrap().1.parse().unwrap();
                let blocks = self.blocks.iter().filter(|block| block.height >= from).take(100).cloned();
                ok(&BlocksView { blocks: blocks.collect(), tip: self.blocks.len() as u64 })
            }
            "/v1/transactions/batch" => {
                let batch: SubmitBatch = body(request);
                let results = batch.transactions.iter().map(|jws| self.promise(jws)).collect();
                self.push(&batch.transactions);
                ok(&BatchAnswer { results })
            }
            path => match path.strip_prefix("/v1/transactions/").and_then(|rest| rest.strip_suffix("/proof"))
            {
                Some(txid) => self.proof(txid),
                None => problem(Slug::NotFound),
            },
        }
    }

    fn promise(&self, jws: &str) -> BatchResult {
        let clock = Clock::system();
        let include_by = clock.now().plus(Duration::from_secs(5));
        let claims = PromiseClaims {
            chain: self.genesis.chain_id().unwrap(),
            iat: clock.now().unsigned_ms(),
            include_by: include_by.unsigned_ms(),
            node: "node-1".to_owned(),
            txid: tx::txid(jws.as_bytes()),
        };
        let signature = claims.sign(&key(1)).unwrap();
        BatchResult::Promise(Promise {
            txid: claims.txid,
            node: claims.node,
            include_by,
            quorum: true,
            signature,
            height: None,
        })
    }

    fn push(&mut self, transactions: &[String]) {
        let fresh: Vec<String> = transactions
            .iter()
            .filter(|jws| !self.leaves.contains(&tx::txid(jws.as_bytes())))
            .cloned()
            .collect();
        let tip = *self.headers.last().unwrap();
        let txids: Vec<Digest> = fresh.iter().map(|jws| tx::txid(jws.as_bytes())).collect();
        self.leaves.push(tip.leaf_hash());
        self.leaves.extend(&txids);
        let header = Header {
            height: tip.height + 1,
            prev_hash: tip.hash(),
            tx_root: merkle::root(&txids),
            log_root: merkle::root(&self.leaves),
            log_size: self.leaves.len() as u64,
            state_root: tip.state_root,
            time_ms: tip.time_ms + 1000,
            target: tip.target,
            miner: miner_id(&PublicKey::of(&key(1)).kid()),
            nonce: 0,
        };
        let header = header.mine(&AtomicBool::new(false)).unwrap();
        let checkpoint = Checkpoint {
            origin: log_origin(&self.genesis.origin, &self.genesis.chain_id().unwrap()),
            log_size: header.log_size,
            log_root: header.log_root,
            height: header.height,
            round: 0,
            block: header.hash(),
        };
        let vote = (PublicKey::of(&key(1)).kid(), checkpoint.sign(&key(1)));
        let certificate = Certificate::assemble(checkpoint, &[vote], &self.genesis.members);
        self.headers.push(header);
        self.blocks.push(BlockView {
            height: header.height,
            hash: header.hash(),
            header: Bytes::new(header.to_bytes().to_vec()),
            transactions: fresh,
            certificate: certificate.to_note(),
        });
    }

    fn proof(&self, txid: &str) -> ResponseTemplate {
        let txid = Digest::parse(txid).unwrap();
        let found = self.blocks.iter().find_map(|block| {
            block.transactions.iter().find(|jws| tx::txid(jws.as_bytes()) == txid).map(|jws| (block, jws))
        });
        let Some((block, jws)) = found else { return problem(Slug::NotFound) };
        let height = usize::try_from(block.height).unwrap();
        let (header, parent) = (self.headers[height], self.headers[height - 1]);
        let size = usize::try_from(header.log_size).unwrap();
        let index = self.leaves.iter().position(|leaf| *leaf == txid).unwrap() as u64;
        let tree = Tree::of(&self.leaves[..size]);
        let document = Document::Transaction(TransactionProof {
            author: PublicKey::of(&key(STORAGE_KEY)),
            block: BlockEvidence { header, parent, path: Vec::new() },
            certified: Certification {
                before: parent,
                checkpoint: block.certificate.clone(),
                header,
                // No block of this chain changes the state.
                named: MembersProof::of_genesis(&self.genesis).unwrap(),
            },
            chain: self.genesis.chain_id().unwrap(),
            genesis: None,
            index,
            path: tree.inclusion(index, size as u64).unwrap(),
            sets: Vec::new(),
            transaction: jws.clone(),
        });
        ResponseTemplate::new(200).set_body_bytes(document.to_bytes().unwrap())
    }
}
