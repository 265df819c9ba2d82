//! The API as a stranger sees it: what is taken, what is refused and with which problem.

use hbc_chain::payload::{Consent, ConsentKey, KeyStatus, Payload, Receipts, Revoke};
use hbc_chain::tx;
use hbc_client::ClientError;
use hbc_ledger::config::VerifyMode;
use hbc_types::account::{Custody, ServiceRole};
use hbc_types::ids::GrantId;
use hbc_types::keys::{PublicKey, SignatureBytes, possession_text};
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, GrantStateView, KeyView, MembersView, Promise, SubmitBatch, TransactionState,
};
use hbc_types::{Clock, Digest};

use crate::net::{Net, service_key, txid};

fn now() -> u64 {
    Clock::system().now().unsigned_ms()
}

fn slug<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> Slug {
    outcome.unwrap_err().slug().expect("a problem of the table")
}

fn receipts(net: &Net, chain: Digest, iat: u64, count: u64, signer: &ed25519_dalek::SigningKey) -> String {
    let root = Digest::of(b"the same root");
    let _ = net;
    tx::sign(signer, &Payload::Receipts(Receipts { chain, count, iat, rights: None, root })).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_refusal_has_its_problem() {
    let mut net = Net::start(1, VerifyMode::Full);
    let policy = service_key(ServiceRole::AccessPolicy);
    assert_eq!(slug(net.submit(0, "no.jws").await), Slug::MalformedRequest);
    let other_chain = receipts(&net, Digest::of(b"elsewhere"), now(), 1, &policy);
    assert_eq!(slug(net.submit(0, &other_chain).await), Slug::OtherChain);
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[99; 32]);
    let unknown = receipts(&net, net.chain, now(), 1, &stranger);
    assert_eq!(slug(net.submit(0, &unknown).await), Slug::BadSignature);
    let storage = service_key(ServiceRole::Storage);
    let not_theirs = receipts(&net, net.chain, now(), 1, &storage);
    assert_eq!(slug(net.submit(0, &not_theirs).await), Slug::RuleViolation);

    let first = receipts(&net, net.chain, now(), 1, &policy);
    net.submit(0, &first).await.unwrap();
    // Another transaction for the same root: not for good while the first only waits, for good afterwards.
    net.finality(0, &txid(&first)).await;
    let second = receipts(&net, net.chain, now(), 2, &policy);
    let Err(ClientError::Problem(problem)) = net.submit(0, &second).await else { panic!("excluded") };
    assert_eq!(problem.slug(), Some(Slug::Excluded));
    assert_eq!(problem.document.references, [txid(&first).to_string()]);

    let endpoint = net.endpoint(0);
    for (path, expected) in [
        ("/v1/transactions/zz", Slug::NotFound),
        (&format!("/v1/transactions/{}", Digest::of(b"none")), Slug::NotFound),
        (&format!("/v1/transactions/{}/proof", Digest::of(b"none")), Slug::NotFound),
        ("/v1/blocks/999", Slug::NotFound),
        ("/v1/blocks?limit=0", Slug::InvalidInput),
        ("/v1/blocks?limit=101", Slug::InvalidInput),
        ("/v1/blocks?spare=1", Slug::InvalidInput),
        (&format!("/v1/keys/{}", Digest::of(b"none")), Slug::NotFound),
        (&format!("/v1/staff/{}", Digest::of(b"none")), Slug::NotFound),
        (&format!("/v1/grants/{}/grt-0", Digest::of(b"none")), Slug::NotFound),
    ] {
        assert_eq!(slug(endpoint.get(path).once().send().await), expected, "{path}");
    }
    let anonymous = endpoint.post("/internal/v1/consensus").body("application/octet-stream", Vec::new());
    assert_eq!(slug(anonymous.send().await), Slug::Unauthenticated);
    let many = SubmitBatch { transactions: vec![String::new(); 1_001] };
    let too_many = endpoint.post("/v1/transactions/batch").json(&many).send().await;
    assert_eq!(slug(too_many), Slug::InvalidInput);
    let unknown_field = endpoint.post("/v1/transactions").body("application/json", &b"{\"jwt\":1}"[..]);
    assert_eq!(slug(unknown_field.send().await), Slug::InvalidInput);
    let _ = net.transaction();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn text_batches_and_look_ups_answer() {
    let mut net = Net::start(1, VerifyMode::Incremental);
    let endpoint = net.endpoint(0);
    let jws = net.transaction();
    let text = endpoint.post("/v1/transactions").body("text/plain", jws.clone().into_bytes());
    let promise: Promise = text.fetch().await.unwrap();
    assert_eq!((promise.txid, promise.node.as_str()), (txid(&jws), "node-1"));
    let good = net.transaction();
    let batch = SubmitBatch { transactions: vec!["bad".to_owned(), good.clone(), good.clone()] };
    let answer: BatchAnswer = endpoint.post("/v1/transactions/batch").json(&batch).fetch().await.unwrap();
    assert!(matches!(&answer.results[0], BatchResult::Problem(problem) if problem.status == 400));
    for result in &answer.results[1..] {
        assert!(matches!(result, BatchResult::Promise(promise) if promise.txid == txid(&good)));
    }
    net.finality(0, &txid(&good)).await;
    let genesis = endpoint.get("/v1/genesis").send().await.unwrap();
    assert_eq!(genesis.body, net.genesis.to_bytes().unwrap());
    let members: MembersView = endpoint.get("/v1/members").fetch().await.unwrap();
    assert_eq!(members.members[0].name, "node-1");
    let status = net.status(0).await;
    assert_eq!((status.members, status.members_seen, status.quorum), (1, 1, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_and_its_grant_are_taken_together_and_looked_up() {
    let net = Net::start(4, VerifyMode::Full);
    let key = ed25519_dalek::SigningKey::from_bytes(&[60; 32]);
    let public = PublicKey::of(&key);
    let (kid, chain) = (public.kid(), net.chain);
    let pop = SignatureBytes::sign(&key, &possession_text(&chain, &kid));
    let registration = Payload::ConsentKey(ConsentKey {
        chain,
        iat: now(),
        key: kid,
        pop: Some(pop),
        public: Some(public),
        status: KeyStatus::Active,
    });
    let registration = tx::sign(&service_key(ServiceRole::Auth), &registration).unwrap();
    let grant = GrantId::parse("grt-00000000000000000000000000000007").unwrap();
    let commitment = Digest::of(b"body");
    let given = Payload::Grant(Consent {
        chain,
        commitment,
        custody: Custody::Client,
        grant: grant.clone(),
        iat: now(),
        key: kid,
        prev: None,
        seq: 1,
    });
    let given = tx::sign(&key, &given).unwrap();
    // Both at once: the grant is tried on the state that the waiting registration leads to.
    net.submit(0, &registration).await.unwrap();
    net.submit(0, &given).await.unwrap();
    net.finality(3, &txid(&given)).await;
    let path = format!("/v1/grants/{kid}/{grant}");
    let view: GrantStateView = net.endpoint(3).get(&path).fetch().await.unwrap();
    assert_eq!((view.in_force, view.commitment, view.seq), (true, Some(commitment), 1));
    let view: KeyView = net.endpoint(3).get(&format!("/v1/keys/{kid}")).fetch().await.unwrap();
    assert_eq!((view.live, view.seq, view.last), (true, 1, Some(txid(&given))));
    // Its third event before the second is too early; its second twice is too late.
    let later = |seq, grant: &str| {
        let grant = GrantId::parse(grant).unwrap();
        let custody = Custody::Client;
        let prev = Some(txid(&given));
        tx::sign(
            &key,
            &Payload::Grant(Consent { chain, commitment, custody, grant, iat: now(), key: kid, prev, seq }),
        )
        .unwrap()
    };
    let early = later(3, "grt-00000000000000000000000000000008");
    assert_eq!(slug(net.submit(3, &early).await), Slug::NotYet);
    let wrong = Payload::Alter(Consent {
        chain,
        commitment,
        custody: Custody::Client,
        grant: GrantId::parse("grt-00000000000000000000000000000009").unwrap(),
        iat: now(),
        key: kid,
        prev: Some(txid(&given)),
        seq: 2,
    });
    assert_eq!(slug(net.submit(3, &tx::sign(&key, &wrong).unwrap()).await), Slug::RuleViolation);
    let revoke = Payload::Revoke(Revoke { chain, grant: grant.clone(), iat: now(), key: kid });
    let revoke = tx::sign(&key, &revoke).unwrap();
    net.submit(1, &revoke).await.unwrap();
    net.finality(2, &txid(&revoke)).await;
    let view: GrantStateView = net.endpoint(2).get(&path).fetch().await.unwrap();
    assert!(!view.in_force && !view.live);
    assert_eq!(net.view(2, &txid(&revoke)).await.unwrap().state, TransactionState::Final);
}

#[test]
fn only_members_envelopes_are_not_public() {
    let document = hbc_ledger::openapi();
    let operations = hbc_service::openapi::operations(&document);
    let closed: Vec<_> =
        operations.iter().filter(|(_, public)| !public).map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        closed,
        ["POST /internal/v1/addresses", "POST /internal/v1/challenges", "POST /internal/v1/consensus"]
    );
    assert_eq!(operations.len(), 35);
}
