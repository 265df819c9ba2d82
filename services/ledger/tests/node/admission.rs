//! Taking transactions in when something is wrong: a store that cannot be written, a member that passes on what nobody
//! signed.

use std::sync::Arc;
use std::time::Duration;

use hbc_consensus::Member;
use hbc_ledger::config::VerifyMode;
use hbc_ledger::peers::{Item, Sender, pack, send_envelope};
use hbc_types::Clock;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, Promise, SubmitBatch, SubmitTransaction, TransactionState,
};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::net::{Net, txid};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_made_durable_is_promised_to_nobody_and_may_come_again() {
    let mut net = Net::start(1, VerifyMode::Incremental);
    net.grow(0, 1).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(net.data(0).join("ledger.db"));
    let mut other = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    // The same transaction twice in one batch, and by another client at once: one group.
    let jws = net.transaction();
    let batch = SubmitBatch { transactions: vec![jws.clone(), jws.clone()] };
    let endpoint = net.endpoint(0);
    let one = endpoint.post("/v1/transactions/batch").json(&batch).once().deadline(Duration::from_secs(60));
    let single = SubmitTransaction { jws: jws.clone() };
    // Each waits for SQLite's own patience, and on a busy machine for one group after the other.
    let other_client =
        endpoint.post("/v1/transactions").json(&single).once().deadline(Duration::from_secs(60));
    let (answer, alone) = tokio::join!(one.fetch::<BatchAnswer>(), other_client.fetch::<Promise>());
    for result in answer.unwrap().results {
        assert!(matches!(&result, BatchResult::Problem(problem) if problem.status == 503), "{result:?}");
    }
    assert_eq!(alone.unwrap_err().slug(), Some(Slug::Unavailable));
    assert_eq!(net.status(0).await.pending, 0, "it waits nowhere");

    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    net.submit(0, &jws).await.unwrap();
    net.finality(0, &txid(&jws)).await;
}

/// A thousand transactions of a known author with signatures that do not fit, in every envelope.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_that_passes_on_what_nobody_signed_keeps_no_client_waiting() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    for index in [0, 1, 2] {
        net.run(index);
    }
    net.grow(0, 1).await;
    let liar = Sender {
        me: Member::new(net.keys[3].verifying_key().to_bytes()).id,
        key: net.keys[3].clone(),
        chain: net.chain,
        clock: Clock::system(),
    };
    let receiver = Member::new(net.keys[0].verifying_key().to_bytes()).id;
    let forged: Vec<String> = (0..1_000).map(|_| forged(&net.transaction(), &net.transaction())).collect();
    let mut body = Vec::new();
    for jws in &forged {
        pack(&mut body, &Item::Transactions([Arc::from(jws.as_bytes())].into()));
    }
    let (honest, endpoint, mut refused) = (net.transaction(), net.endpoint(0), 0);
    let flood = async {
        for _ in 0..20 {
            let sent = send_envelope(&endpoint, &receiver, &liar, body.clone()).await;
            refused += usize::from(sent.is_err());
        }
    };
    let client = async {
        net.submit(0, &honest).await.unwrap();
        net.finality(0, &txid(&honest)).await;
    };
    tokio::join!(flood, client);
    for jws in [&forged[0], &forged[999]] {
        let view = net.view(0, &txid(jws)).await;
        assert!(view.is_none_or(|view| view.state == TransactionState::Refused), "it waits");
    }
    assert_eq!(net.status(0).await.pending, 0);
    println!("{refused} of 20 envelopes were refused");
}

/// The first with the signature of the second.
fn forged(jws: &str, other: &str) -> String {
    let (signed, _) = jws.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    format!("{signed}.{signature}")
}
