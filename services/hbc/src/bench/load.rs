//! Signed transactions, given to the members in batches or one by one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hbc_chain::payload::{Payload, Receipts, Release};
use hbc_chain::tx;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, Promise, SubmitBatch, SubmitTransaction, TransactionState,
};
use hbc_types::{Clock, Digest, Random};

use super::net::{Founded, Net};

/// Requests under way at each member at once.
const AT_ONCE: usize = 6;
/// Nothing is final within this time: something is broken.
const LIMIT: Duration = Duration::from_secs(600);
/// Pause when a node says that too much waits.
const FULL: Duration = Duration::from_millis(20);
/// Between two questions whether a transaction is final.
const ASK: Duration = Duration::from_millis(2);

/// Transactions that are signed already.
pub struct Load {
    transactions: Vec<String>,
    before: u64,
    began: Instant,
}

/// A transaction that is valid and new, of one of two services.
pub fn transaction(founded: &Founded, iat: u64, random: &Random) -> Result<String> {
    let (chain, digest) = (founded.chain, Digest::from_bytes(random.bytes()));
    let [turn] = random.bytes();
    Ok(if turn % 2 == 0 {
        tx::sign(
            &founded.access_policy,
            &Payload::Receipts(Receipts { chain, count: 1, iat, rights: None, root: digest }),
        )?
    } else {
        let period = "2026-11".to_owned();
        tx::sign(&founded.storage, &Payload::Release(Release { chain, digest, iat, period }))?
    })
}

impl Load {
    /// Signs so many, before anything is measured.
    pub fn sign(net: &Net, count: usize, clock: &Clock, random: &Random) -> Result<Self> {
        let iat = clock.now().unsigned_ms();
        let sign = |_| transaction(&net.founded, iat, random);
        let transactions = (0..count).map(sign).collect::<Result<_>>()?;
        Ok(Self { transactions, before: 0, began: Instant::now() })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Gives all of them in batches to the members in turn, some at each at once; the time until the last promise.
    pub async fn submit(&mut self, net: &Net, batch: usize) -> Result<Duration> {
        self.before = net.included().await?.into_iter().max().unwrap_or(0);
        let clients = net.nodes.len() * AT_ONCE;
        let mut shares: Vec<Vec<(Endpoint, SubmitBatch)>> = (0..clients).map(|_| Vec::new()).collect();
        let nodes = net.nodes.iter().cycle();
        for (number, (node, some)) in nodes.zip(self.transactions.chunks(batch)).enumerate() {
            let body = SubmitBatch { transactions: some.to_vec() };
            if let Some(share) = shares.get_mut(number % clients) {
                share.push((node.clone(), body));
            }
        }
        self.began = Instant::now();
        let clients: Vec<_> =
            shares.into_iter().map(|share| hbc_service::spawn("bench client", give(share))).collect();
        for client in clients {
            client.await.context("a client failed")??;
        }
        Ok(self.began.elapsed())
    }

    /// Waits until every member has all of them in blocks; the time since the first was given.
    pub async fn wait_until_final(&self, net: &Net) -> Result<Duration> {
        let all = self.before + u64::try_from(self.transactions.len())?;
        while net.included().await?.into_iter().any(|included| included < all) {
            if self.began.elapsed() > LIMIT {
                bail!("not all transactions became final");
            }
            tokio::time::sleep(ASK * 5).await;
        }
        Ok(self.began.elapsed())
    }
}

async fn give(share: Vec<(Endpoint, SubmitBatch)>) -> Result<()> {
    for (node, mut body) in share {
        let began = Instant::now();
        // What does not fit is given again, until all is promised.
        while !body.transactions.is_empty() {
            if began.elapsed() > LIMIT {
                bail!("a member takes nothing any more");
            }
            let answer = node.to(ledger::submit_transactions()).once().json(&body).fetch().await;
            match answer {
                Ok(answer) => body.transactions = left(body.transactions, answer)?,
                Err(error) if error.status() == Some(503) => {}
                Err(error) => return Err(error).context("a batch was refused"),
            }
            if !body.transactions.is_empty() {
                tokio::time::sleep(FULL).await;
            }
        }
    }
    Ok(())
}

/// Those that found no room. Any other refusal is a fault of the measurement.
fn left(transactions: Vec<String>, answer: BatchAnswer) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for (transaction, result) in transactions.into_iter().zip(answer.results) {
        match result {
            BatchResult::Promise(_) => {}
            BatchResult::Problem(problem) if problem.status == 503 => left.push(transaction),
            BatchResult::Problem(problem) => bail!("a transaction was refused: {}", problem.title),
        }
    }
    Ok(left)
}

/// Sorted latencies.
pub struct Latency {
    /// Until the promise.
    pub promises: Vec<Duration>,
    /// Until it is final on the same member.
    pub finals: Vec<Duration>,
}

/// Gives transactions one after the other, each after the one before is final.
pub async fn one_by_one(net: &Net, count: usize, clock: &Clock, random: &Random) -> Result<Latency> {
    let (mut promises, mut finals) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (_, node) in (0..count).zip(net.nodes.iter().cycle()) {
        let jws = transaction(&net.founded, clock.now().unsigned_ms(), random)?;
        let began = Instant::now();
        let body = SubmitTransaction { jws };
        let promise: Promise = node.to(ledger::submit_transaction()).json(&body).fetch().await?;
        promises.push(began.elapsed());
        let ask = ledger::read_transaction(promise.txid);
        while node.to(ask.clone()).fetch().await?.state != TransactionState::Final {
            if began.elapsed() > LIMIT {
                bail!("a transaction did not become final");
            }
            tokio::time::sleep(ASK).await;
        }
        finals.push(began.elapsed());
    }
    promises.sort_unstable();
    finals.sort_unstable();
    Ok(Latency { promises, finals })
}
