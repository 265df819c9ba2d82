//! Proofs about the ledger as a stranger fetches and checks them.

use ed25519_dalek::SigningKey;
use hbc_chain::payload::{Anchor, Consent, ConsentKey, KeyStatus, Payload, Revoke, Segment};
use hbc_chain::proof::{self, Content, Trust, Verdict};
use hbc_chain::tx;
use hbc_client::ClientError;
use hbc_ledger::config::VerifyMode;
use hbc_types::account::{Custody, ServiceRole};
use hbc_types::ids::GrantId;
use hbc_types::keys::{PublicKey, SignatureBytes, Tag, possession_text};
use hbc_types::problem::Slug;
use hbc_types::{Clock, Digest};

use crate::net::{Net, service_key, txid};

fn now() -> u64 {
    Clock::system().now().unsigned_ms()
}

fn grant_number(number: u8) -> GrantId {
    GrantId::parse(&format!("grt-{number:032x}")).unwrap()
}

async fn settle(net: &Net, jws: &str) -> u64 {
    net.submit(0, jws).await.unwrap();
    let height = net.finality(0, &txid(jws)).await;
    net.one_tip(&(0..net.running.len()).collect::<Vec<_>>()).await;
    height
}

async fn fetch(net: &Net, index: usize, path: &str) -> Content {
    let answer = net.endpoint(index).get(path).send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let verified = proof::verify(&answer.body, &Trust::Genesis(Box::new(net.genesis.clone()))).unwrap();
    assert!(verified.pinned && verified.transaction.is_none());
    verified.content
}

/// The problem's slug and the fields that it names.
async fn refusal(net: &Net, path: &str) -> (Slug, Vec<String>) {
    let outcome = net.endpoint(0).get(path).once().send().await;
    let Err(ClientError::Problem(problem)) = outcome else { panic!("{path}: {outcome:?}") };
    let fields = problem.document.errors.iter().map(|error| error.field.clone()).collect();
    (problem.slug().unwrap(), fields)
}

/// Registration, grant and revocation of a consent key: their transactions.
fn consent(net: &Net, key: &SigningKey) -> [String; 3] {
    let (chain, public) = (net.chain, PublicKey::of(key));
    let kid = public.kid();
    let registration = Payload::ConsentKey(ConsentKey {
        chain,
        iat: now(),
        key: kid,
        pop: Some(SignatureBytes::sign(key, &possession_text(&chain, &kid))),
        public: Some(public),
        status: KeyStatus::Active,
    });
    let given = Payload::Grant(Consent {
        chain,
        commitment: Digest::of(b"body"),
        custody: Custody::Client,
        grant: grant_number(7),
        iat: now(),
        key: kid,
        prev: None,
        seq: 1,
    });
    let revoked = Payload::Revoke(Revoke { chain, grant: grant_number(7), iat: now(), key: kid });
    [
        tx::sign(&service_key(ServiceRole::Auth), &registration).unwrap(),
        tx::sign(key, &given).unwrap(),
        tx::sign(key, &revoked).unwrap(),
    ]
}

fn anchor(net: &Net, day0: i32, day1: i32) -> String {
    let root = Digest::of(&day0.to_be_bytes());
    let segment = Segment {
        bytes: 1024,
        cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
        day0,
        day1,
        digest: root,
        records: 1,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    let payload = Payload::Anchor(Anchor { chain: net.chain, iat: now(), segments: vec![segment] });
    tx::sign(&service_key(ServiceRole::Storage), &payload).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_ledger_proves_its_growth_its_state_and_its_anchors() {
    let net = Net::start(4, VerifyMode::Incremental);
    let early = refusal(&net, &format!("/v1/keys/{}/proof", Digest::of(b"none"))).await;
    assert_eq!(early.0, Slug::NotFound, "no block is decided yet");
    let key = SigningKey::from_bytes(&[60; 32]);
    let kid = PublicKey::of(&key).kid();
    let [registration, given, revoked] = consent(&net, &key);
    let registered_at = settle(&net, &registration).await;
    let given_at = settle(&net, &given).await;
    let (first, second) = (anchor(&net, 20_454, 20_460), anchor(&net, 20_470, 20_480));
    let first_at = settle(&net, &first).await;
    settle(&net, &second).await;
    let revoked_at = settle(&net, &revoked).await;

    // The state: by the tip on one node, at each earlier height on another.
    let path = format!("/v1/grants/{kid}/{}/proof", grant_number(7));
    let Content::State(facts) = fetch(&net, 2, &path).await else { panic!("a state") };
    assert_eq!(facts.verdict, Verdict::NotInForce("it was revoked"));
    for (height, expected) in [
        (registered_at, Verdict::NotInForce("it was never given")),
        (given_at, Verdict::InForce),
        (revoked_at - 1, Verdict::InForce),
        (revoked_at, Verdict::NotInForce("it was revoked")),
    ] {
        let Content::State(facts) = fetch(&net, 3, &format!("{path}?height={height}")).await else {
            panic!("a state")
        };
        assert_eq!((facts.at.certified.height, facts.verdict), (height, expected));
    }
    for (path, absent) in [
        (format!("/v1/keys/{kid}/proof"), false),
        (format!("/v1/keys/{}/proof", Digest::of(b"none")), true),
        (format!("/v1/staff/{kid}/proof?height={given_at}"), true),
        ("/v1/state/proof?kind=members".to_owned(), false),
        (format!("/v1/state/proof?kind=parameters&height={given_at}"), false),
        (format!("/v1/state/proof?kind=service&id={}", net.genesis.services[0].key.kid()), false),
    ] {
        let Content::State(facts) = fetch(&net, 1, &path).await else { panic!("a state") };
        assert_eq!(facts.verdict == Verdict::Absent, absent, "{path}");
    }
    let grant = format!("/v1/state/proof?kind=grant&id={kid}/{}", grant_number(7));
    let Content::State(facts) = fetch(&net, 1, &grant).await else { panic!("a state") };
    assert_eq!(facts.verdict, Verdict::NotInForce("it was revoked"));

    // The log only grew.
    let path = format!("/v1/checkpoints/{revoked_at}/consistency?from={registered_at}");
    let Content::Consistency { from, to } = fetch(&net, 1, &path).await else { panic!("a consistency") };
    assert_eq!((from.height, to.height), (registered_at, revoked_at));

    // Anchors: 2026-01-01 is day 20,454.
    for (query, expected) in [
        ("from=2026-01-01&to=2026-12-31".to_owned(), vec![txid(&first), txid(&second)]),
        ("from=2026-01-07&to=2026-01-07".to_owned(), vec![txid(&first)]),
        ("from=2026-01-08&to=2026-01-16".to_owned(), vec![]),
        (format!("from=2026-01-01&to=2026-12-31&as_of={first_at}"), vec![txid(&first)]),
    ] {
        let path = format!("/v1/anchors?{query}");
        let Content::Anchors(facts) = fetch(&net, 2, &path).await else { panic!("anchors") };
        assert_eq!(facts.anchors.iter().map(|anchor| anchor.txid).collect::<Vec<_>>(), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_proved_is_refused_by_its_field() {
    let mut net = Net::start(1, VerifyMode::Incremental);
    let jws = net.transaction();
    let tip = settle(&net, &jws).await;
    let key = Digest::of(b"none");
    for (path, slug, field) in [
        ("/v1/anchors".to_owned(), Slug::InvalidInput, "from"),
        ("/v1/anchors?from=2026-01-01".to_owned(), Slug::InvalidInput, "to"),
        ("/v1/anchors?from=2026-02-30&to=2026-03-01".to_owned(), Slug::InvalidInput, "from"),
        ("/v1/anchors?from=2026-01-02&to=2026-01-01".to_owned(), Slug::InvalidInput, "to"),
        ("/v1/anchors?from=2026-01-01&to=2026-01-02&as_of=x".to_owned(), Slug::InvalidInput, "as_of"),
        (format!("/v1/anchors?from=2026-01-01&to=2026-01-02&as_of={}", tip + 1), Slug::InvalidInput, "as_of"),
        (format!("/v1/keys/{key}/proof?height=0"), Slug::InvalidInput, "height"),
        (format!("/v1/keys/{key}/proof?height={}", tip + 1), Slug::InvalidInput, "height"),
        (format!("/v1/keys/{key}/proof?height=-1"), Slug::InvalidInput, "height"),
        ("/v1/state/proof?kind=secret".to_owned(), Slug::InvalidInput, "kind"),
        ("/v1/state/proof".to_owned(), Slug::InvalidInput, "kind"),
        ("/v1/state/proof?kind=grant&id=nokey".to_owned(), Slug::InvalidInput, "id"),
        (format!("/v1/state/proof?kind=grant&id={key}/GRT-{:032x}", 7), Slug::InvalidInput, "id"),
        (
            format!("/v1/state/proof?kind=staff&id={}", key.to_string().to_uppercase()),
            Slug::InvalidInput,
            "id",
        ),
        (format!("/v1/state/proof?kind=key&id={key}%20"), Slug::InvalidInput, "id"),
        (format!("/v1/state/proof?kind=key&id={key}%0A"), Slug::InvalidInput, "id"),
        (format!("/v1/state/proof?kind=members&id={key}"), Slug::InvalidInput, "id"),
        ("/v1/state/proof?kind=changes&id=member".to_owned(), Slug::InvalidInput, "id"),
        (format!("/v1/checkpoints/{tip}/consistency"), Slug::InvalidInput, "from"),
        (format!("/v1/checkpoints/{tip}/consistency?from=0"), Slug::InvalidInput, "from"),
        (format!("/v1/checkpoints/{tip}/consistency?from={}", tip + 1), Slug::InvalidInput, "from"),
    ] {
        assert_eq!(refusal(&net, &path).await, (slug, vec![field.to_owned()]), "{path}");
    }
    for path in [
        format!("/v1/checkpoints/{}/consistency?from=1", tip + 1),
        "/v1/checkpoints/0/consistency?from=0".to_owned(),
        format!("/v1/grants/{key}/nogrant/proof"),
        "/v1/keys/nokey/proof".to_owned(),
    ] {
        assert_eq!(refusal(&net, &path).await.0, Slug::NotFound, "{path}");
    }
}
