//! Members ask each other about old blocks: damage that nobody touches is found by its owner at once, and known to
//! all by a document that anybody can check.

use hbc_chain::evidence::{self, Evidence};
use hbc_chain::header::HEADER_BYTES;
use hbc_consensus::{Member, MemberId};
use hbc_ledger::config::VerifyMode;
use hbc_ledger::peers::{Sender, post_signed};
use hbc_types::keys::PublicKey;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{Challenge, ChallengeAnswer, NodeState};
use hbc_types::{Clock, Digest};
use sqlx::{ConnectOptions as _, Row as _};

use crate::net::{Net, txid};
use crate::tampering::flip;

fn id(net: &Net, index: usize) -> MemberId {
    Member::new(net.keys[index].verifying_key().to_bytes()).id
}

fn sender(net: &Net, index: usize) -> Sender {
    Sender { me: id(net, index), key: net.keys[index].clone(), chain: net.chain, clock: Clock::system() }
}

fn path() -> String {
    hbc_client::operations::ledger::answer_challenge().path
}

async fn ask(
    net: &Net,
    (from, to): (usize, usize),
    challenge: &Challenge,
) -> Result<ChallengeAnswer, hbc_client::ClientError> {
    let body = serde_json::to_vec(challenge).unwrap();
    let (endpoint, media) = (net.endpoint(to), "application/json");
    post_signed(&endpoint, &path(), &id(net, to), &sender(net, from), media, body).await
}

/// Header and body of a block as they lie in a node's database.
async fn row(net: &Net, index: usize, height: i64) -> (Vec<u8>, Vec<u8>) {
    let path = net.data(index).join("ledger.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await.unwrap();
    let query = sqlx::query("SELECT header, body FROM blocks WHERE height = $1").bind(height);
    let row = query.fetch_one(&mut connection).await.unwrap();
    (row.get(0), row.get(1))
}

async fn four_with_a_block(challenge_period_s: u64) -> (Net, String, u64) {
    let mut net = Net::new(4, VerifyMode::Incremental);
    // Node-2 asks nobody: who asks reads its own row, and finds its damage before others do.
    net.heal = hbc_ledger::config::HealMode::Manual;
    net.run(1);
    net.challenge_period_s = challenge_period_s;
    for index in [0, 2, 3] {
        net.run(index);
    }
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    let mut height = 0;
    for index in 0..4 {
        height = net.finality(index, &txid(&jws)).await;
    }
    (net, jws, height)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn damage_on_an_idle_node_is_found_by_a_challenge_and_told_by_all() {
    let (net, jws, height) = four_with_a_block(1).await;
    let signed = jws.rsplit('.').next().unwrap();
    flip(&net.data(1).join("ledger.db"), &signed.as_bytes()[..40]);
    // Found by its owner, who was asked; and known by a signed answer, which proves it to anybody with the block.
    let event = net.told(0, "node-2", "challenge-failed").await;
    assert_eq!(event.height, height);
    let status = net.status(1).await;
    assert_eq!((status.state, status.first_bad_height), (NodeState::Attacked, Some(height)));
    for index in [0, 2, 3] {
        let document = net.document(index, &event.evidence).await;
        let evidence = Evidence::parse(&document).unwrap();
        assert_eq!(evidence.verify(&net.chain).unwrap().member, PublicKey::of(&net.keys[1]).kid());
        let Evidence::Answer(answer) = evidence else { panic!("an answer") };
        let (header, body) = row(&net, index, height.cast_signed()).await;
        assert_eq!(header.len(), HEADER_BYTES);
        assert!(answer.contradicts(&header, &body));
    }
    for index in [0, 2, 3] {
        assert_eq!(net.status(index).await.state, NodeState::Healthy);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_challenge_is_answered_to_members_with_what_lies_on_disk_and_not_too_often() {
    let (net, _, height) = four_with_a_block(3_600).await;
    let challenge = Challenge { height, nonce: Digest::of(b"nonce") };
    let answer = ask(&net, (0, 2), &challenge).await.unwrap();
    let (header, body) = row(&net, 0, height.cast_signed()).await;
    assert_eq!(answer.answer, evidence::answer(&challenge.nonce, &header, &body));
    let later = Challenge { height: height + 100, ..challenge };
    assert_eq!(ask(&net, (0, 2), &later).await.unwrap_err().slug(), Some(Slug::NotFound));
    // An envelope for node-3 is worth nothing at node-4, and a member's flood is cut.
    let body = serde_json::to_vec(&challenge).unwrap();
    let (endpoint, media) = (net.endpoint(3), "application/json");
    let astray: Result<ChallengeAnswer, _> =
        post_signed(&endpoint, &path(), &id(&net, 2), &sender(&net, 0), media, body).await;
    assert_eq!(astray.unwrap_err().slug(), Some(Slug::Unauthenticated));
    let mut refused = 0;
    for _ in 0..40 {
        let answer = ask(&net, (0, 2), &challenge).await;
        refused += usize::from(answer.is_err_and(|error| error.slug() == Some(Slug::TooManyRequests)));
    }
    assert!(refused > 0, "forty at once are too many");
    assert!(ask(&net, (1, 2), &challenge).await.is_ok(), "another member is not kept out by it");
}
