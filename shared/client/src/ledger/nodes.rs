//! The nodes of a ledger: one call each, and calls that go to the next node when one does not answer, is attacked or
//! cannot take it.

use crate::operations::{Route, ledger};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hbc_chain::certificate::PromiseClaims;
use hbc_chain::checkpoint::quorum;
use hbc_chain::genesis::{Genesis, Named};
use hbc_types::Digest;
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, BlockView, BlocksView, KeyView, MembersView, NodeStatus, Promise, SubmitBatch,
    SubmitTransaction, TransactionView,
};
use hbc_types::wire::token::Audience;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{Call, ClientError, Endpoint, ServiceCaller};

/// How long one node may take for one call.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a node may take to say how it stands.
const GLANCE: Duration = Duration::from_millis(1500);
/// How long a node that failed is asked last.
const PENALTY: Duration = Duration::from_secs(5);

/// The nodes of one ledger. Clones share what was learned about them.
#[derive(Clone)]
pub struct LedgerClient {
    inner: Arc<Inner>,
}

struct Inner {
    genesis: Arc<Genesis>,
    chain: Digest,
    members: RwLock<Vec<Named>>,
    nodes: Vec<Node>,
    sticky: Mutex<HashMap<Digest, usize>>,
    next: AtomicUsize,
    /// The service that reads.
    reader: Option<ServiceCaller>,
}

struct Node {
    url: String,
    endpoint: Endpoint,
    failed: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for LedgerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerClient").field("nodes", &self.inner.nodes.len()).finish_non_exhaustive()
    }
}

impl LedgerClient {
    /// The ledger founded by `genesis`, with nodes at `urls`.
    pub fn new(genesis: Arc<Genesis>, urls: &[String]) -> Result<Self, ClientError> {
        Self::read_by(genesis, urls, None)
    }

    /// The same for a service, whose reads do not wait behind everybody's.
    pub fn of_service(
        genesis: Arc<Genesis>,
        urls: &[String],
        reader: ServiceCaller,
    ) -> Result<Self, ClientError> {
        Self::read_by(genesis, urls, Some(reader))
    }

    fn read_by(
        genesis: Arc<Genesis>,
        urls: &[String],
        reader: Option<ServiceCaller>,
    ) -> Result<Self, ClientError> {
        let chain = genesis.chain_id().map_err(|error| ClientError::BadCall(error.to_string()))?;
        let http = crate::http::client()?;
        let node = |url: &String| {
            let endpoint = Endpoint::with_client(url, http.clone())?;
            Ok(Node { url: url.clone(), endpoint, failed: Mutex::new(None) })
        };
        let nodes = urls.iter().map(node).collect::<Result<Vec<_>, ClientError>>()?;
        if nodes.is_empty() {
            return Err(ClientError::BadCall("a ledger needs at least one node".to_owned()));
        }
        let members = RwLock::new(genesis.members.clone());
        let (sticky, next) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Self { inner: Arc::new(Inner { genesis, chain, members, nodes, sticky, next, reader }) })
    }

    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> Digest {
        self.inner.chain
    }

    /// The founding document.
    #[must_use]
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.inner.genesis
    }

    /// How many nodes are known.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.inner.nodes.len()
    }

    /// Votes that make a block final.
    #[must_use]
    pub fn quorum(&self) -> usize {
        quorum(self.member_count())
    }

    /// Members of whom at least one is honest: more than a third.
    #[must_use]
    pub fn honest(&self) -> usize {
        self.member_count().saturating_sub(self.quorum()).saturating_add(1)
    }

    fn member_count(&self) -> usize {
        self.inner.members.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The members as the followed chain knows them: their promises and refusals count from now on.
    pub(super) fn set_members(&self, members: &[Named]) {
        let mut known = self.inner.members.write().unwrap_or_else(PoisonError::into_inner);
        if *known != members {
            *known = members.to_vec();
        }
    }

    /// Address of node `index`.
    #[must_use]
    pub fn url(&self, index: usize) -> &str {
        self.inner.nodes.get(index).map_or("", |node| node.url.as_str())
    }

    /// What node `index` says of itself.
    pub async fn status(&self, index: usize) -> Result<NodeStatus, ClientError> {
        self.node(index)?.to(ledger::read_status()).once().deadline(GLANCE).fetch().await
    }

    /// The latest checkpoint of node `index`, unverified; nothing before the first block.
    pub async fn checkpoint(&self, index: usize) -> Result<Option<String>, ClientError> {
        let call = self.node(index)?.to(ledger::read_checkpoint()).once().deadline(GLANCE);
        match call.send().await {
            Ok(answer) => String::from_utf8(answer.body.to_vec())
                .map(Some)
                .map_err(|_binary| ClientError::BadAnswer("a checkpoint is text".to_owned())),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Blocks from `from` on, unverified, from node `index`.
    pub async fn blocks(&self, index: usize, from: u64, limit: u32) -> Result<BlocksView, ClientError> {
        let route = ledger::list_blocks().with(format!("from={from}&limit={limit}"));
        self.reading(self.node(index)?.to(route)).once().deadline(Duration::from_secs(15)).fetch().await
    }

    /// One block, unverified, from any node.
    pub async fn block(&self, height: u64) -> Result<BlockView, ClientError> {
        self.read(ledger::read_block(height)).await
    }

    /// How a transaction stands according to some node.
    pub async fn transaction(&self, txid: Digest) -> Result<TransactionView, ClientError> {
        self.read(ledger::read_transaction(txid)).await
    }

    /// The proof document of a final transaction, from any node; it proves itself (`hbc_chain::proof`).
    pub async fn proof(&self, txid: Digest) -> Result<Vec<u8>, ClientError> {
        let route = &ledger::prove_transaction(txid);
        let call = |node: Endpoint| async move {
            self.reading(node.to(route.clone())).once().deadline(DEADLINE).send().await
        };
        self.anywhere(call).await.map(|answer| answer.body.to_vec())
    }

    /// A consent key according to some node.
    pub async fn key(&self, kid: Digest) -> Result<KeyView, ClientError> {
        self.read(ledger::read_key(kid)).await
    }

    /// The members according to some node.
    pub async fn members(&self) -> Result<MembersView, ClientError> {
        self.read(ledger::list_members()).await
    }

    /// Submits one transaction to the author's node, or the next that takes it, and checks the promise.
    pub async fn submit(&self, author: Digest, jws: &str) -> Result<Promise, ClientError> {
        let mut last = None;
        for index in self.order(Some(author)) {
            let call = self
                .node(index)?
                .to(ledger::submit_transaction())
                .json(&SubmitTransaction { jws: jws.to_owned() });
            match call.deadline(DEADLINE).fetch().await.and_then(|promise| self.checked(promise, jws)) {
                Ok(promise) => {
                    self.stick(author, index);
                    return Ok(promise);
                }
                Err(error) if goes_elsewhere(&error) => self.penalise(index, &error, &mut last),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(ClientError::NoAnswer(None)))
    }

    /// Submits transactions of one author to node `index`, in order. Promises are checked; a false one counts as no
    /// answer for its transaction.
    pub(crate) async fn submit_to(
        &self,
        index: usize,
        transactions: &[String],
    ) -> Result<Vec<Result<Promise, ClientError>>, ClientError> {
        let batch = SubmitBatch { transactions: transactions.to_vec() };
        let call = self
            .node(index)?
            .to(ledger::submit_transactions())
            .json(&batch)
            .deadline(Duration::from_secs(15));
        let answer: BatchAnswer = call.fetch().await?;
        if answer.results.len() != transactions.len() {
            return Err(ClientError::BadAnswer("not one result for each transaction".to_owned()));
        }
        let results = answer.results.into_iter().zip(transactions).map(|(result, jws)| match result {
            BatchResult::Promise(promise) => self.checked(promise, jws),
            BatchResult::Problem(document) => Err(ClientError::Problem(Box::new(crate::RemoteProblem {
                status: document.status,
                document,
                retry_after: None,
            }))),
        });
        Ok(results.collect())
    }

    /// A promise that is by the member it names, for this transaction on this chain.
    fn checked(&self, promise: Promise, jws: &str) -> Result<Promise, ClientError> {
        let refuse = |why: &str| ClientError::BadAnswer(format!("the promise {why}"));
        if promise.txid != hbc_chain::tx::txid(jws.as_bytes()) {
            return Err(refuse("is for another transaction"));
        }
        let key = {
            let members = self.inner.members.read().unwrap_or_else(PoisonError::into_inner);
            members.iter().find(|member| member.name == promise.node).map(|member| member.key)
        };
        let key = key.ok_or_else(|| refuse("is by no member"))?;
        let claims = PromiseClaims::verify(&promise.signature, &key, &self.inner.chain)
            .map_err(|error| refuse(&format!("is not signed: {error}")))?;
        let same = claims.txid == promise.txid
            && claims.node == promise.node
            && claims.include_by == promise.include_by.unsigned_ms();
        if same { Ok(promise) } else { Err(refuse("is not what was signed")) }
    }

    /// Reads something from any node.
    async fn read<T: DeserializeOwned>(&self, route: Route<T>) -> Result<T, ClientError> {
        let route = &route;
        let call = |node: Endpoint| async move {
            self.reading(node.to(route.clone())).once().deadline(DEADLINE).fetch().await
        };
        self.anywhere(call).await
    }

    /// In the name of the service that reads, if one does.
    fn reading<A>(&self, call: Call<A>) -> Call<A> {
        match &self.inner.reader {
            Some(reader) => call.signed(reader, Audience::LEDGER),
            None => call,
        }
    }

    async fn anywhere<T, F, Fut>(&self, call: F) -> Result<T, ClientError>
    where
        F: Fn(Endpoint) -> Fut,
        Fut: Future<Output = Result<T, ClientError>>,
    {
        let mut last = None;
        for index in self.order(None) {
            match call(self.node(index)?.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) if goes_elsewhere(&error) => self.penalise(index, &error, &mut last),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(ClientError::NoAnswer(None)))
    }

    /// The nodes that did not fail a moment ago.
    pub(super) fn answering(&self) -> Vec<usize> {
        (0..self.inner.nodes.len()).filter(|index| !self.failed_lately(*index)).collect()
    }

    fn node(&self, index: usize) -> Result<&Endpoint, ClientError> {
        let node = self.inner.nodes.get(index);
        node.map(|node| &node.endpoint)
            .ok_or_else(|| ClientError::BadCall("there is no such node".to_owned()))
    }

    /// The nodes in the order to ask them: the author's own first, those that failed a moment ago last.
    pub(super) fn order(&self, author: Option<Digest>) -> Vec<usize> {
        let count = self.inner.nodes.len();
        let start = match author {
            Some(author) => self.sticky(author),
            None => self.inner.next.fetch_add(1, Ordering::Relaxed) % count,
        };
        let mut order: Vec<usize> = (0..count).map(|step| (start + step) % count).collect();
        order.sort_by_key(|index| self.failed_lately(*index));
        order
    }

    fn sticky(&self, author: Digest) -> usize {
        let sticky = self.inner.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        let [a, b, c, d, ..] = *author.as_bytes();
        let spread = u32::from_be_bytes([a, b, c, d]) as usize % self.inner.nodes.len();
        sticky.get(&author).copied().unwrap_or(spread)
    }

    /// Remembers that the author's transactions go to node `index` from now on.
    pub(super) fn stick(&self, author: Digest, index: usize) {
        let mut sticky = self.inner.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        if sticky.len() > 100_000 {
            sticky.clear();
        }
        sticky.insert(author, index);
        drop(sticky);
        if let Some(node) = self.inner.nodes.get(index) {
            *node.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(super) fn penalise(&self, index: usize, error: &ClientError, last: &mut Option<ClientError>) {
        if let Some(node) = self.inner.nodes.get(index) {
            *node.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        tracing::info!(ledger.node = index, ledger.why = %error, "A ledger node is passed over");
        *last = Some(match error {
            ClientError::Problem(problem) => ClientError::Problem(problem.clone()),
            other => ClientError::BadAnswer(other.to_string()),
        });
    }

    fn failed_lately(&self, index: usize) -> bool {
        let node = self.inner.nodes.get(index);
        node.is_some_and(|node| {
            let failed = *node.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.is_some_and(|at| at.elapsed() < PENALTY)
        })
    }
}

/// Whether another node may answer better: no connection, no answer, an unusable answer, attacked, overloaded.
pub(super) fn goes_elsewhere(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) => problem.status >= 500 || problem.status == 429,
        ClientError::Unreachable(_) | ClientError::NoAnswer(_) | ClientError::BadAnswer(_) => true,
        ClientError::BadCall(_) => false,
    }
}
