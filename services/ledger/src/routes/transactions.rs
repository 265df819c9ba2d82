//! Submitting transactions, and how they stand.

use std::sync::Arc;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use hbc_chain::certificate::PromiseClaims;
use hbc_chain::proof::Document;
use hbc_chain::rules::Refusal;
use hbc_chain::tx::{Tx, TxError};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Body, Problem, Public, parse_strict, peer_address};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::time::Timestamp;
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, Promise, SubmitBatch, SubmitTransaction, TransactionState, TransactionView,
};
use tokio::sync::oneshot;

use super::proofs::{answer, text};
use super::{App, digest};
use crate::node::Node;
use crate::node::pool::{Accepted, Submission};
use crate::node::validation::SubmitError;
use crate::peers::Sender;
use crate::store::StoreError;

/// Transactions in one batch at most.
const MAX_BATCH: usize = 1_000;

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::OtherChain => Self::new(Slug::OtherChain),
            SubmitError::Signature => Self::new(Slug::BadSignature),
            SubmitError::Rule(Refusal::Never { rule, excluded_by: Some(txid) }) => {
                Self::new(Slug::Excluded).detail(rule.to_string()).reference(txid.to_string())
            }
            SubmitError::Rule(Refusal::Never { rule, excluded_by: None }) => {
                Self::new(Slug::RuleViolation).detail(rule.to_string())
            }
            SubmitError::Rule(Refusal::NotYet(rule)) => Self::new(Slug::NotYet).detail(rule.to_string()),
            SubmitError::Full => Self::new(Slug::Unavailable).detail("too many transactions wait"),
            SubmitError::Attacked => Self::new(Slug::NodeAttacked),
            SubmitError::Store => Self::new(Slug::Unavailable).detail("the store cannot be written now"),
        }
    }
}

fn unreadable(error: &TxError) -> Problem {
    Problem::new(Slug::MalformedRequest).detail(error.to_string())
}

/// Takes a signed transaction: a compact JWS as text, or `{"jws": …}`. The promise is given once the
/// transaction is durable here; the same transaction again gets a promise again.
#[utoipa::path(tag = "transactions", operation_id = "submit_transaction", security(()),
    request_body(content((String = "text/plain"), (SubmitTransaction = "application/json"))),
    responses(
        (status = 202, description = "The promise: durable here", body = Promise),
        (status = 401),
        (status = 409),
        (status = 429),
        (status = 503),
    ))]
#[post("/v1/transactions")]
pub async fn submit(
    _public: Public,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.refuse_writes()?;
    app.count_submissions(peer_address(&request), 1)?;
    let text = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let jws = if text.is_some_and(|text| text.starts_with("text/plain")) {
        body.to_vec()
    } else {
        parse_strict::<SubmitTransaction>(&body)?.jws.into_bytes()
    };
    let tx = Tx::parse(&jws).map_err(|error| unreadable(&error))?;
    let mut answers = app.admit(vec![Arc::new(tx)]).await?;
    let accepted = match answers.pop() {
        Some(Ok(accepted)) => accepted,
        Some(Err(SubmitError::Attacked)) => return Err(app.attacked()),
        Some(Err(error)) => return Err(error.into()),
        None => return Err(Problem::new(Slug::Unavailable)),
    };
    Ok(HttpResponse::Accepted().json(app.vouching()?.promise(&accepted)?))
}

/// Takes up to 1,000 transactions in order and answers each. One that cannot be taken does not keep the
/// others out.
#[utoipa::path(tag = "transactions", operation_id = "submit_transactions", security(()),
    request_body = SubmitBatch,
    responses(
        (status = 202, description = "An answer for each, in order", body = BatchAnswer),
        (status = 429),
        (status = 503),
    ))]
#[post("/v1/transactions/batch")]
pub async fn submit_batch(
    _public: Public,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.refuse_writes()?;
    let (counting, address) = (app.clone(), peer_address(&request));
    let parsed = web::block(move || {
        let batch = parse_strict::<SubmitBatch>(&body)?;
        if batch.transactions.len() > MAX_BATCH {
            return Err(Problem::invalid("transactions", "at most 1000"));
        }
        counting.count_submissions(address, batch.transactions.len())?;
        Ok(batch.transactions.iter().map(|jws| Tx::parse(jws.as_bytes()).map(Arc::new)).collect::<Vec<_>>())
    });
    let parsed = parsed.await.map_err(|cancelled| Problem::internal(&cancelled))??;
    let txs = parsed.iter().filter_map(|tx| tx.as_ref().ok().cloned()).collect();
    let answers = app.admit(txs).await?;
    if answers.iter().any(|answer| matches!(answer, Err(SubmitError::Attacked))) {
        return Err(app.attacked());
    }
    let vouching = app.vouching()?;
    // A thousand signatures take some time.
    let results = web::block(move || {
        let mut answers = answers.into_iter();
        let answer = |tx: &Result<Arc<Tx>, TxError>| match tx {
            Err(error) => Err(unreadable(error)),
            Ok(_) => match answers.next() {
                Some(answer) => answer.map_err(Problem::from),
                None => Err(Problem::new(Slug::Unavailable)),
            },
        };
        let result = |answer: Result<Accepted, Problem>| match answer.and_then(|a| vouching.promise(&a)) {
            Ok(promise) => BatchResult::Promise(promise),
            Err(problem) => BatchResult::Problem(problem.document(None)),
        };
        parsed.iter().map(answer).map(result).collect()
    });
    let results = results.await.map_err(|cancelled| Problem::internal(&cancelled))?;
    Ok(HttpResponse::Accepted().json(BatchAnswer { results }))
}

/// This node's word at one moment.
struct Vouching {
    node: Arc<Node>,
    membership: Arc<Sender>,
    iat: u64,
    quorum: bool,
}

impl Vouching {
    fn promise(&self, accepted: &Accepted) -> Result<Promise, Problem> {
        let claims = PromiseClaims {
            chain: self.node.chain_id(),
            iat: self.iat,
            include_by: self.iat.saturating_add(self.node.include_within_ms),
            node: self.node.name().to_owned(),
            txid: accepted.txid,
        };
        let signature = claims.sign(&self.membership.key).map_err(|error| Problem::internal(&error))?;
        Ok(Promise {
            txid: accepted.txid,
            node: claims.node,
            include_by: Timestamp::from_ms(i64::try_from(claims.include_by).unwrap_or(i64::MAX)),
            quorum: self.quorum,
            signature,
            height: accepted.height,
        })
    }
}

impl App {
    async fn admit(&self, txs: Vec<Arc<Tx>>) -> Result<Vec<Result<Accepted, SubmitError>>, Problem> {
        if txs.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        if !self.node.pool.submit(Submission { txs, reply }) {
            return Err(SubmitError::Full.into());
        }
        answer.await.map_err(|_node_stops| Problem::new(Slug::Unavailable))
    }

    fn vouching(&self) -> Result<Vouching, Problem> {
        let node = self.node.clone();
        let membership = node.membership().ok_or_else(|| Problem::new(Slug::Unavailable))?;
        Ok(Vouching { iat: node.clock.now().unsigned_ms(), quorum: node.sees_quorum(), membership, node })
    }
}

/// How a transaction stands here.
#[utoipa::path(tag = "transactions", operation_id = "read_transaction", security(()),
    params(("txid" = Digest, Path)),
    responses((status = 200, description = "How it stands", body = TransactionView), StoreProblems))]
#[get("/v1/transactions/{txid}")]
pub async fn read(
    _public: Public,
    request: HttpRequest,
    txid: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let txid = digest(&txid)?;
    let place = app.node.chain().state().place(&txid);
    let mut view = TransactionView {
        txid,
        state: TransactionState::Pending,
        jws: String::new(),
        height: None,
        index: None,
        leaf_index: None,
        refusal: None,
    };
    if let Some(place) = place {
        view.jws = app.transaction(&request, &txid, &place).await?;
        view.state = TransactionState::Final;
        (view.height, view.index) = (Some(place.height), Some(place.index));
        view.leaf_index = Some(place.leaf);
        return Ok(HttpResponse::Ok().json(view));
    }
    if let Some(tx) = app.node.mempool().get(&txid) {
        tx.text().clone_into(&mut view.jws);
        return Ok(HttpResponse::Ok().json(view));
    }
    let refusal = match app.node.guard.store().refusal(&txid).await {
        Ok(refusal) => refusal.ok_or_else(|| Problem::new(Slug::NotFound))?,
        Err(StoreError::Row(table)) => return app.found_row_wrong(table).await,
        Err(error) => return Err(app.reading_failed(app.node.tip().borrow().to_owned(), error).await),
    };
    view.jws = String::from_utf8(refusal.jws).unwrap_or_default();
    view.state = TransactionState::Refused;
    view.refusal = Some(match refusal.excluded_by {
        Some(by) => format!("{} (excluded by {by})", refusal.reason),
        None => refusal.reason,
    });
    Ok(HttpResponse::Ok().json(view))
}

/// The proof that a transaction is final: a document that `hbc verify` checks offline, or, to whoever accepts
/// `text/plain`, the same as C2SP `tlog-proof`.
#[utoipa::path(tag = "transactions", operation_id = "prove_transaction", security(()),
    params(("txid" = Digest, Path)),
    responses(
        (status = 200, description = "A proof", content((serde_json::Value = "application/json"), (String = "text/plain"))),
        StoreProblems,
    ))]
#[get("/v1/transactions/{txid}/proof")]
pub async fn proof(
    _public: Public,
    request: HttpRequest,
    txid: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let txid = digest(&txid)?;
    let place = app.node.chain().state().place(&txid).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let wanted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    if wanted.is_some_and(|accept| accept.starts_with("text/plain")) {
        let block = app.certified(place.height).await?;
        let text = app.node.chain().prove_as_text(&place, &block);
        let text = text.ok_or_else(|| Problem::new(Slug::Integrity))?;
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text));
    }
    let transaction = app.transaction(&request, &txid, &place).await?;
    let (header, _) = app.header(place.height).await?;
    let (parent, _) = app.header(place.height.saturating_sub(1)).await?;
    let proof = app.node.chain().prove(&place, transaction, header, parent);
    let proof = proof.ok_or_else(|| Problem::new(Slug::Integrity))?;
    Ok(answer(text(&Document::Transaction(proof))?))
}
