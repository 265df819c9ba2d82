//! Brings the service's signed transactions to the nodes.
//!
//! The bytes are sent as they are, never signed again. One author's transactions go to one node in order; past the
//! include-by time of a promise they go to the next node as well. What is final is for the follower to say. A refusal
//! counts when so many members say it that one of them is honest.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hbc_types::outbox::{OpenTransaction, SubmitOutcome};
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::Promise;
use hbc_types::{Clock, Digest, Timestamp};

use super::finality::{Finality, Settlement};
use super::nodes::goes_elsewhere;
use super::{Journal, JournalError, LedgerClient};
use crate::{ClientError, RemoteProblem};

/// How often the outbox is looked at when nobody wakes it.
const LOOK: Duration = Duration::from_millis(500);
/// Transactions taken from the outbox at once.
const TAKE: u32 = 500;
/// Bytes of transactions in one request at most: the node's limit is above it.
const BATCH_BYTES: usize = 512 * 1024;
/// Grace past the include-by time before another node is asked.
const GRACE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(30);
/// Attempts (a quarter of an hour of them) after which a signature that no node can check, or a time that none takes,
/// counts as refused. What the rules allow only later (`not_yet`) is tried for ever.
const PATIENCE: u32 = 40;
/// Attempts at one node after which the next one is asked first: a node that is far behind finds everything too early.
const AT_ONE_NODE: u32 = 4;

/// The loop that empties one service's outbox. Clones work for the same journal.
#[derive(Clone, Debug)]
pub struct OutboxDriver<J> {
    ledger: LedgerClient,
    journal: J,
    finality: Finality,
    clock: Clock,
}

/// What the nodes said about one transaction so far.
#[derive(Default)]
struct Said {
    promise: Option<Promise>,
    refusals: Vec<RemoteProblem>,
    not_yet: bool,
}

impl<J: Journal> OutboxDriver<J> {
    /// A driver for the service whose journal this is.
    #[must_use]
    pub fn new(ledger: LedgerClient, journal: J, finality: Finality, clock: Clock) -> Self {
        Self { ledger, journal, finality, clock }
    }

    /// The loop: give it to the service's supervised tasks.
    pub async fn run(self) {
        loop {
            match self.drive().await {
                // A full take means that more is waiting.
                Ok(taken) if taken >= TAKE as usize => {}
                Ok(_) => self.rest().await,
                Err(error) => {
                    tracing::warn!(error = %error, "The outbox could not be worked on");
                    self.rest().await;
                }
            }
        }
    }

    async fn rest(&self) {
        // A wake-up that came meanwhile is not lost; the time-out is for what falls due by itself.
        let _late = tokio::time::timeout(LOOK, self.finality.woken()).await;
    }

    /// One pass over what is due; says how many transactions that were.
    async fn drive(&self) -> Result<usize, JournalError> {
        let due = self.journal.due(self.clock.now(), TAKE).await?;
        let taken = due.len();
        let mut authors: BTreeMap<Digest, Vec<OpenTransaction>> = BTreeMap::new();
        for transaction in due {
            authors.entry(transaction.author).or_default().push(transaction);
        }
        let drives =
            authors.into_iter().map(|(author, transactions)| self.drive_author(author, transactions));
        let outcomes: Vec<SubmitOutcome> =
            futures_util::future::join_all(drives).await.into_iter().flatten().collect();
        if outcomes.is_empty() {
            return Ok(taken);
        }
        self.journal.record(outcomes.clone()).await?;
        self.finality.expect_soon();
        for outcome in outcomes {
            if let SubmitOutcome::Refused { txid, reason, .. } = outcome {
                self.finality.settle(txid, Settlement::Refused { reason });
            }
        }
        Ok(taken)
    }

    /// Submits one author's transactions, node after node until each is promised or surely refused.
    async fn drive_author(&self, author: Digest, transactions: Vec<OpenTransaction>) -> Vec<SubmitOutcome> {
        let mut said: HashMap<Digest, Said> = HashMap::new();
        for index in self.node_order(author, &transactions) {
            let open: Vec<&OpenTransaction> =
                transactions.iter().filter(|transaction| self.is_open(said.get(&transaction.txid))).collect();
            if open.is_empty() {
                break;
            }
            for batch in batches(&open) {
                if !self.submit_batch(author, index, &batch, &mut said).await {
                    break;
                }
            }
        }
        let now = self.clock.now();
        transactions
            .iter()
            .map(|transaction| self.outcome(transaction, said.remove(&transaction.txid), now))
            .collect()
    }

    /// The author's node first; a node whose promise ran out comes last, and so does one that postponed too often.
    fn node_order(&self, author: Digest, transactions: &[OpenTransaction]) -> Vec<usize> {
        let mut order = self.ledger.order(Some(author));
        let attempts = transactions.iter().map(|transaction| transaction.attempts).max().unwrap_or(0);
        let turns = usize::try_from(attempts / AT_ONE_NODE).unwrap_or(0);
        if let Some(turn) = turns.checked_rem(order.len()) {
            order.rotate_left(turn);
        }
        if transactions.iter().any(|transaction| transaction.node.is_some()) && order.len() > 1 {
            order.rotate_left(1);
        }
        order
    }

    fn is_open(&self, said: Option<&Said>) -> bool {
        said.is_none_or(|said| {
            said.promise.is_none() && !said.not_yet && said.refusals.len() < self.ledger.honest()
        })
    }

    /// Sends one batch to one node; false when the node is of no use now.
    async fn submit_batch(
        &self,
        author: Digest,
        index: usize,
        batch: &[&OpenTransaction],
        said: &mut HashMap<Digest, Said>,
    ) -> bool {
        let texts: Vec<String> = batch.iter().map(|transaction| transaction.jws.clone()).collect();
        let results = match self.ledger.submit_to(index, &texts).await {
            Ok(results) => results,
            Err(error) => {
                self.ledger.penalise(index, &error, &mut None);
                return false;
            }
        };
        let mut useful = true;
        for (transaction, result) in batch.iter().zip(results) {
            let entry = said.entry(transaction.txid).or_default();
            match result {
                Ok(promise) => {
                    entry.promise = Some(promise);
                    self.ledger.stick(author, index);
                }
                Err(error) if goes_elsewhere(&error) => {
                    useful = false;
                    self.ledger.penalise(index, &error, &mut None);
                }
                Err(ClientError::Problem(problem)) => entry.refused(*problem, transaction.attempts),
                Err(_) => {}
            }
        }
        useful
    }

    fn outcome(&self, transaction: &OpenTransaction, said: Option<Said>, now: Timestamp) -> SubmitOutcome {
        let txid = transaction.txid;
        let said = said.unwrap_or_default();
        if let Some(promise) = said.promise {
            // A promise far in the future would put the transaction to sleep.
            let include_by = promise.include_by.min(now.plus(LONGEST));
            let look_again = include_by.max(now).plus(GRACE);
            return SubmitOutcome::Submitted { txid, node: promise.node, include_by, look_again };
        }
        if said.refusals.len() >= self.ledger.honest()
            && let Some(problem) = said.refusals.into_iter().next()
        {
            let reason = problem.slug().map_or("refused", Slug::as_str).to_owned();
            tracing::warn!(
                ledger.txid = %txid, ledger.kind = transaction.kind, ledger.reason = reason,
                "The ledger refuses a transaction for good"
            );
            let excluded_by = problem.document.references.first().and_then(|text| Digest::parse(text).ok());
            return SubmitOutcome::Refused { txid, reason, excluded_by };
        }
        let pause = Duration::from_millis(250).saturating_mul(1 << transaction.attempts.min(7));
        SubmitOutcome::Postponed { txid, again: now.plus(pause.min(LONGEST)) }
    }
}

impl Said {
    /// Sorts a refusal. What is not valid yet waits; a signature by a key that no node knows yet is tried for some
    /// [`PATIENCE`]; the rest is refused for good.
    fn refused(&mut self, problem: RemoteProblem, attempts: u32) {
        let may_pass = match problem.slug() {
            Some(Slug::NotYet) => true,
            Some(Slug::BadSignature | Slug::BadTime) | None => attempts < PATIENCE,
            Some(_) => false,
        };
        if may_pass {
            self.not_yet = true;
        } else {
            self.refusals.push(problem);
        }
    }
}

/// Cuts a list into requests of bounded size, in order.
fn batches<'a>(open: &[&'a OpenTransaction]) -> Vec<Vec<&'a OpenTransaction>> {
    let mut all: Vec<Vec<&OpenTransaction>> = Vec::new();
    let mut bytes = 0;
    for transaction in open {
        bytes += transaction.jws.len();
        match all.last_mut() {
            Some(batch) if bytes <= BATCH_BYTES => batch.push(transaction),
            _ => {
                bytes = transaction.jws.len();
                all.push(vec![transaction]);
            }
        }
    }
    all
}
