//! What the chain says is what acts: after any events in any order nobody may do more than a grant that is in force in the
//! ledger's own state, by the ledger's own rules, and that its key's certificate allowed; and all that such a grant covers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_chain::block::build_block;
use hbc_chain::certificate::Limits;
use hbc_chain::payload::{Consent, KeyStatus, Payload};
use hbc_chain::state::State;
use hbc_chain::tx::{self, Tx};
use hbc_types::account::AgencyType;
use hbc_types::ids::GrantId;
use hbc_types::keys::PublicKey;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{DecisionAnswer, DecisionRequest, Labels, Scope};
use hbc_types::{Digest, Random, Timestamp};
use reqwest::Method;
use serde_json::json;

use crate::world::{AgencyUser, PatientUser, World, worlds};

const STEPS: usize = 45;
const HOUR: u64 = 3_600_000;

const CATEGORIES: [Category; 2] = [Category::Laboratory, Category::VitalSigns];
const SENSITIVITIES: [Sensitivity; 2] = [Sensitivity::Normal, Sensitivity::Hiv];
const PURPOSES: [Purpose; 2] = [Purpose::Treatment, Purpose::Payment];
const LABELS: [Labels; 4] = [
    Labels { category: CATEGORIES[0], sensitivity: SENSITIVITIES[0] },
    Labels { category: CATEGORIES[0], sensitivity: SENSITIVITIES[1] },
    Labels { category: CATEGORIES[1], sensitivity: SENSITIVITIES[0] },
    Labels { category: CATEGORIES[1], sensitivity: SENSITIVITIES[1] },
];
const QUESTIONS: [(Purpose, Action); 4] = [
    (PURPOSES[0], Action::Read),
    (PURPOSES[0], Action::Write),
    (PURPOSES[1], Action::Read),
    (PURPOSES[1], Action::Write),
];

/// A grant whose signature was accepted, with what is known of it outside the service.
#[derive(Debug)]
struct Given {
    id: GrantId,
    agency: usize,
    kid: Digest,
    scope: Scope,
    /// The patient revoked it here, and was answered.
    revoked: bool,
    frozen: bool,
    /// The chain altered it.
    altered: bool,
}

impl Given {
    fn covers(&self, labels: Labels, purpose: Purpose, action: Action, now: Timestamp) -> bool {
        let Scope { actions, categories, sensitivities, purposes, from, until, future_records: _either } =
            &self.scope;
        actions.contains(&action)
            && categories.contains(&labels.category)
            && sensitivities.contains(&labels.sensitivity)
            && purposes.contains(&purpose)
            && *from <= now
            && now < *until
    }
}

/// What happened, for the message of a failure.
#[derive(Debug, Default)]
struct Seen {
    steps: Vec<&'static str>,
    counts: BTreeMap<&'static str, usize>,
    allowed: usize,
}

impl Seen {
    fn step(&mut self, step: &'static str, happened: bool) {
        if happened {
            self.steps.push(step);
            *self.counts.entry(step).or_default() += 1;
        }
    }
}

/// A walk through one patient's events.
struct Walk<'w> {
    w: &'w World,
    random: Random,
    patient: PatientUser,
    agencies: Vec<AgencyUser>,
    /// Each agency's consent key now.
    keys: Vec<SigningKey>,
    /// The ledger.
    state: State,
    /// What was signed and is in no block yet.
    waiting: Vec<Arc<Tx>>,
    given: Vec<Given>,
    everything_frozen: bool,
    seen: Seen,
}

impl<'w> Walk<'w> {
    async fn begin(w: &'w World, seed: u64) -> Self {
        let random = Random::seeded(seed);
        let patient = w.patient().await;
        let mut agencies = Vec::new();
        for _agency in 0..2 {
            agencies.push(w.agency(AgencyType::Doctor).await);
        }
        let keys = agencies.iter().map(|_agency| SigningKey::from_bytes(&w.random.bytes())).collect();
        Self {
            w,
            random,
            patient,
            agencies,
            keys,
            state: State::genesis(&w.app.genesis).unwrap(),
            waiting: Vec::new(),
            given: Vec::new(),
            everything_frozen: false,
            seen: Seen::default(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        u64::from_be_bytes(self.random.bytes()) % bound
    }

    fn place(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    fn pick<T: Clone>(&self, all: &[T]) -> T {
        all[self.place(all.len())].clone()
    }

    /// A part of `all`, never nothing.
    fn some<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let chosen: Vec<T> = all.iter().filter(|_one| self.below(2) == 0).cloned().collect();
        if chosen.is_empty() { vec![self.pick(all)] } else { chosen }
    }

    fn maybe<T>(&self, value: impl FnOnce() -> T) -> Option<T> {
        (self.below(4) == 0).then(value)
    }

    fn scope(&self) -> Scope {
        let from = self.w.now().plus(Duration::from_millis(self.below(3) / 2 * HOUR));
        Scope {
            actions: self.some(&[Action::Read, Action::Write]),
            categories: self.some(&CATEGORIES),
            sensitivities: self.some(&SENSITIVITIES),
            purposes: self.some(&PURPOSES),
            from,
            until: from.plus(Duration::from_millis((2 + self.below(46)) * HOUR)),
            future_records: self.below(2) == 0,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            actions: self.maybe(|| self.some(&[Action::Read, Action::Write])),
            categories: self.maybe(|| self.some(&CATEGORIES)),
            from_ms: self.maybe(|| self.w.now().unsigned_ms() + self.below(2) * HOUR),
            future_records: self.maybe(|| self.below(2) == 0),
            purposes: self.maybe(|| self.some(&PURPOSES)),
            sensitivities: self.maybe(|| self.some(&SENSITIVITIES)),
            until_ms: self.maybe(|| self.w.now().unsigned_ms() + self.below(40) * HOUR),
        }
    }

    /// Signs a draft under a certificate with limits: it is accepted exactly where they allow it.
    async fn give(&mut self) {
        let agency = self.place(self.agencies.len());
        let (scope, limits) = (self.scope(), self.limits());
        let draft =
            self.w.draft(&self.patient, &self.w.new_grant(&self.agencies[agency], scope.clone())).await;
        let key = self.keys[agency].clone();
        let kid = PublicKey::of(&key).kid();
        let mut signature = self.w.signature(&self.patient, &draft, &key);
        let grantee = self.agencies[agency].id.as_str();
        signature.certificate = self.w.certificate_within(&self.patient, grantee, kid, limits.clone());
        let reply = self.w.put_signature(&self.patient, &draft.id, &signature).await;
        // What its certificate does not allow never acts, because it is never taken.
        let allowed = limits.allow(&scope, self.w.now()).is_ok();
        assert_eq!(reply.status == 200, allowed, "{limits:?} {scope:?}: {}", reply.said());
        self.seen.step(if allowed { "given" } else { "beyond the limits" }, true);
        if allowed {
            self.waiting.push(parsed(signature.registration.as_ref().unwrap()));
            self.waiting.push(parsed(&signature.jws));
            let (revoked, frozen, altered) = (false, false, false);
            self.given.push(Given { id: draft.id, agency, kid, scope, revoked, frozen, altered });
        }
    }

    /// Some of what waits becomes final, as far as the ledger's rules let it.
    async fn block(&mut self) {
        let waiting = self.waiting.clone();
        let chosen: Vec<Arc<Tx>> = waiting.into_iter().filter(|_tx| self.below(4) != 0).collect();
        let built = build_block(&self.state, &chosen, self.w.now(), &Digest::of(b"miner"));
        let mined = built.header.mine(&AtomicBool::new(false)).unwrap();
        let (_, checked) = built.finish(mined);
        let taken: Vec<Arc<Tx>> = checked.txs.clone();
        self.state.commit(checked).unwrap();
        for tx in &taken {
            if let Payload::Alter(consent) = tx.payload() {
                let altered = self.given.iter_mut().filter(|given| given.id == consent.grant);
                altered.for_each(|given| given.altered = true);
                self.seen.step("altered", true);
            }
        }
        let texts: Vec<&str> = taken.iter().map(|tx| tx.text()).collect();
        self.w.finalise(&texts).await;
        self.waiting.retain(|tx| taken.iter().all(|other| other.txid() != tx.txid()));
        self.seen.step("block", !taken.is_empty());
    }

    fn one(&self) -> Option<usize> {
        (!self.given.is_empty()).then(|| self.place(self.given.len()))
    }

    /// The key that gave a grant, if it is still the one of its agency.
    fn key_of(&self, given: &Given) -> Option<SigningKey> {
        let key = &self.keys[given.agency];
        (PublicKey::of(key).kid() == given.kid).then(|| key.clone())
    }

    async fn revoke(&mut self, here: bool) {
        let Some(index) = self.one() else { return };
        let Some(key) = self.key_of(&self.given[index]) else { return };
        let id = self.given[index].id.clone();
        let jws = self.w.revocation_by(&key, &id);
        self.waiting.push(parsed(&jws));
        if here {
            let path = format!("/v1/grants/{id}/revocation");
            let reply = self.w.post(&path, &self.patient.user, &json!({"jws": jws})).await;
            assert_eq!(reply.status, 200, "{}", reply.said());
            self.given[index].revoked = true;
        }
        self.seen.step(if here { "revoked here" } else { "revocation sent to a node" }, true);
    }

    /// The patient's key alters a grant at a node; nobody shows the service what it says now.
    fn alter(&mut self) {
        let Some(index) = self.one() else { return };
        let given = &self.given[index];
        let (Some(key), Some(entry)) = (self.key_of(given), self.state.key(&given.kid)) else { return };
        let payload = Payload::Alter(Consent {
            chain: self.w.chain,
            commitment: Digest::of(&self.random.bytes::<8>()),
            custody: hbc_types::account::Custody::Server,
            grant: given.id.clone(),
            iat: self.w.now().unsigned_ms(),
            key: given.kid,
            prev: entry.prev,
            seq: entry.seq + 1,
        });
        self.waiting.push(parsed(&tx::sign(&key, &payload).unwrap()));
    }

    /// A key ends; the agency's next grant is by another one.
    fn end_key(&mut self) {
        let agency = self.place(self.agencies.len());
        let kid = PublicKey::of(&self.keys[agency]).kid();
        if self.state.key(&kid).is_none_or(|entry| entry.status == KeyStatus::Revoked) {
            return;
        }
        self.waiting.push(parsed(&self.w.end_of_key(&self.keys[agency])));
        self.seen.step("key ends", true);
    }

    /// Drafts name the key that is known until its end is final: then the next one takes its place.
    fn renew_keys(&mut self) {
        for key in &mut self.keys {
            let ended = self.state.key(&PublicKey::of(key).kid());
            if ended.is_some_and(|entry| entry.status == KeyStatus::Revoked) {
                *key = SigningKey::from_bytes(&self.random.bytes());
            }
        }
    }

    async fn freeze(&mut self, lift: bool) {
        let of = if self.below(3) == 0 { None } else { self.one() };
        let id = of.map(|index| self.given[index].id.clone());
        let path =
            id.as_ref().map_or("/v1/me/freeze".to_owned(), |grant| format!("/v1/grants/{grant}/freeze"));
        let (method, body) = match lift {
            true => (Method::DELETE, self.w.unfreeze(&self.patient, id.as_ref())),
            false => (Method::PUT, json!({})),
        };
        let status = self.w.send(method, &path, &self.patient.user, &body).await.status;
        if !matches!(status, 200 | 204) {
            return;
        }
        match of {
            Some(index) => self.given[index].frozen = !lift,
            None => self.everything_frozen = !lift,
        }
        self.seen.step(if lift { "freeze lifted" } else { "frozen" }, true);
    }

    async fn step(&mut self) {
        match self.below(20) {
            0..=5 => self.give().await,
            6..=11 => self.block().await,
            12 => self.revoke(true).await,
            13 => self.revoke(false).await,
            14 => self.alter(),
            15 => self.freeze(false).await,
            16 | 17 => self.freeze(true).await,
            18 if self.below(3) == 0 => self.end_key(),
            _ => self.w.clock.advance(Duration::from_millis((1 + self.below(300)) * 60_000)),
        }
        self.renew_keys();
    }

    /// Every question there is, against the ledger's state.
    async fn check(&mut self) {
        for (index, agency) in self.agencies.iter().enumerate() {
            for (purpose, action) in QUESTIONS {
                let patient = self.patient.id.clone();
                let request = DecisionRequest { patient, purpose, action, labels: LABELS.to_vec() };
                let answer: DecisionAnswer =
                    self.w.storage("/internal/v1/decisions", Some(&agency.user), &request).await.ok();
                for labels in LABELS {
                    let allowed = answer.allowed.iter().any(|item| item.labels == labels);
                    let acts = self.given.iter().any(|given| {
                        given.agency == index
                            && self.state.in_force(&given.kid, &given.id)
                            && given.covers(labels, purpose, action, self.w.now())
                            && !(given.revoked || given.frozen || given.altered || self.everything_frozen)
                    });
                    assert_eq!(
                        allowed, acts,
                        "{labels:?} {purpose:?} {action:?}: {} {:?} {:?}",
                        answer.rule, self.given, self.seen.steps
                    );
                    self.seen.allowed += usize::from(allowed);
                }
            }
        }
    }
}

fn parsed(jws: &str) -> Arc<Tx> {
    Arc::new(Tx::parse(jws.as_bytes()).unwrap())
}

#[tokio::test]
async fn what_acts_is_in_force_on_the_chain_and_within_its_certificate() {
    for w in worlds().await {
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut allowed = 0;
        for seed in 1..=3 {
            let mut walk = Walk::begin(&w, seed).await;
            for _step in 0..STEPS {
                walk.step().await;
                walk.check().await;
            }
            allowed += walk.seen.allowed;
            for (step, count) in walk.seen.counts {
                *counts.entry(step).or_default() += count;
            }
        }
        // Everything happened, and something was allowed now and then.
        assert!(counts.len() == 9 && allowed > 100, "{counts:?} {allowed}");
    }
}
