//! Transactions decoded: those of a block, found by author or type, one by its id, those that wait. Bytes of blocks are
//! read and hashed again, about [`MAX_READ_BYTES`] an answer.

use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_chain::memory::Chain;
use hbc_chain::payload::Payload;
use hbc_chain::tx::Tx;
use hbc_service::openapi::StoreProblems;
use hbc_service::{Problem, Public, paging};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::wire::Page;
use hbc_types::wire::explorer::{TransactionSummary, WaitingSummary};
use hbc_types::wire::ledger::BlockView;
use paging::PageQuery;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::explorer::{Below, timestamp};
use super::{App, digest};

/// Once an answer was made from so many bytes of blocks, the page ends and the cursor goes on.
const MAX_READ_BYTES: usize = 16 << 20;
/// Places looked at to find those that fit two conditions; the page ends there and the cursor goes on.
const MAX_LOOKED_AT: usize = 100_000;

/// Which transactions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// Only those signed by the key with this fingerprint.
    #[serde(default)]
    author: Option<String>,
    /// Only those of this type, such as `member.vote`.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// Items on the page: 1 to 200, 50 unless given.
    #[serde(default)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// A search, read.
struct Found {
    author: Option<Digest>,
    kind: Option<String>,
}

/// Where the listing of what waits goes on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageStart {
    from: u64,
}

/// Whose key this is, if the ledger names it.
fn name_of(chain: &Chain, kid: &Digest) -> Option<String> {
    let state = chain.state();
    let named = state.members().iter().chain(state.operators()).find(|named| named.kid() == *kid);
    named.map(|named| named.name.clone()).or_else(|| state.service(kid).map(|entry| entry.role.to_string()))
}

impl App {
    fn decoded_in(&self, block: &BlockView, index: u32) -> Result<TransactionSummary, Problem> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let jws = block.transactions.get(at).ok_or_else(|| Problem::new(Slug::Integrity))?;
        self.decoded(jws, block.height, index)
    }

    fn decoded(&self, jws: &str, height: u64, index: u32) -> Result<TransactionSummary, Problem> {
        let integrity = || Problem::new(Slug::Integrity);
        let tx = Tx::read_final(jws.as_bytes()).map_err(|_form| integrity())?;
        let fields = serde_json::to_value(tx.payload()).map_err(|error| Problem::internal(&error))?;
        let chain = self.node.chain();
        let facts = chain.secondary_index().block(height).ok_or_else(integrity)?;
        Ok(TransactionSummary {
            txid: tx.txid(),
            height,
            index,
            time: timestamp(facts.time_ms),
            kind: tx.payload().kind().to_owned(),
            author: tx.kid(),
            author_name: name_of(&chain, &tx.kid()),
            fields,
        })
    }

    /// Places in the log below `below`, newest first, that fit the search, at most `limit`; and where the search goes on.
    fn find(&self, search: &Found, below: u64, limit: usize) -> (Vec<(u64, u64, u32)>, Option<u64>) {
        let chain = self.node.chain();
        let secondary_index = chain.secondary_index();
        let by_type = search.kind.as_ref().map(|kind| secondary_index.by_type(kind));
        let by_author = search.author.as_ref().map(|kid| secondary_index.by_author(kid));
        let (list, other) = match (by_author, by_type) {
            (Some(author), Some(kind)) if kind.len() < author.len() => (Some(kind), Some(author)),
            (Some(author), kind) => (Some(author), kind),
            (None, kind) => (kind, None),
        };
        let mut found = Vec::new();
        let mut next = None;
        let end = below.min(chain.log().size());
        let count = list.map_or(end, |list| len(list.partition_point(|leaf| *leaf < end)));
        for (looked_at, position) in (0..count).rev().enumerate() {
            let leaf = match list {
                Some(list) => usize::try_from(position).ok().and_then(|at| list.get(at)).copied(),
                None => Some(position),
            };
            let Some(leaf) = leaf else { break };
            if found.len() >= limit || looked_at >= MAX_LOOKED_AT {
                next = Some(leaf.saturating_add(1));
                break;
            }
            if other.is_some_and(|other| other.binary_search(&leaf).is_err()) {
                continue;
            }
            found.extend(chain.at_leaf(leaf).map(|(height, index)| (leaf, height, index)));
        }
        (found, next)
    }
}

fn len(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A block's transactions in their order, decoded.
#[utoipa::path(tag = "explorer", operation_id = "explore_block_transactions", security(()),
    params(("height" = u64, Path), PageQuery),
    responses(
        (status = 200, description = "A page of the block's transactions", body = Page<TransactionSummary>),
        StoreProblems,
    ))]
#[get("/v1/explorer/blocks/{height}/transactions")]
pub async fn list_block_transactions(
    _public: Public,
    request: HttpRequest,
    height: web::Path<u64>,
    query: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let first = query.after::<Below>()?.map_or(0, |after| u32::try_from(after.below).unwrap_or(u32::MAX));
    if *height > app.node.chain().height() {
        return Err(Problem::new(Slug::NotFound));
    }
    let block = app.block(&request, *height).await?;
    let count = u32::try_from(block.transactions.len()).unwrap_or(u32::MAX);
    let end = first.saturating_add(limit).min(count);
    let items: Vec<TransactionSummary> =
        (first..end).map(|index| app.decoded_in(&block, index)).collect::<Result<_, _>>()?;
    let next = (end < count).then(|| paging::cursor(&Below { below: u64::from(end) })).flatten();
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// Final transactions, newest first, decoded. A page may be shorter than asked for, or empty, and still have a next.
#[utoipa::path(tag = "explorer", operation_id = "explore_transactions", security(()), params(Search),
    responses(
        (status = 200, description = "A page of transactions, the newest first", body = Page<TransactionSummary>),
        StoreProblems,
    ))]
#[get("/v1/explorer/transactions")]
pub async fn search_transactions(
    _public: Public,
    request: HttpRequest,
    query: web::Query<Search>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let Search { author, kind, limit, cursor } = query.into_inner();
    let page = PageQuery { limit, cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let below = page.after::<Below>()?.map_or(u64::MAX, |after| after.below);
    let author = author.map(|kid| digest(&kid).map_err(|_form| Problem::invalid("author", "64 hex digits")));
    if kind.as_deref().is_some_and(|kind| !Payload::KINDS.contains(&kind)) {
        return Err(Problem::invalid("type", format!("must be one of {}", Payload::KINDS.join(", "))));
    }
    let found = Found { author: author.transpose()?, kind };
    let (places, mut next) = app.find(&found, below, limit);
    let (mut items, mut bytes) = (Vec::with_capacity(places.len()), 0_usize);
    let mut open: Option<BlockView> = None;
    for (leaf, height, index) in places {
        if open.as_ref().is_none_or(|block| block.height != height) {
            if bytes > MAX_READ_BYTES {
                next = Some(leaf.saturating_add(1));
                break;
            }
            let block = app.block(&request, height).await?;
            bytes = block.transactions.iter().fold(bytes, |sum, jws| sum.saturating_add(jws.len()));
            open = Some(block);
        }
        let Some(block) = &open else { break };
        items.push(app.decoded_in(block, index)?);
    }
    let next = next.and_then(|below| paging::cursor(&Below { below }));
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// A final transaction, decoded.
#[utoipa::path(tag = "explorer", operation_id = "explore_transaction", security(()),
    params(("txid" = Digest, Path)),
    responses((status = 200, description = "The transaction", body = TransactionSummary), StoreProblems))]
#[get("/v1/explorer/transactions/{txid}")]
pub async fn read_transaction(
    _public: Public,
    request: HttpRequest,
    txid: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let txid = digest(&txid)?;
    let place = app.node.chain().state().place(&txid).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let jws = app.transaction(&request, &txid, &place).await?;
    Ok(HttpResponse::Ok().json(app.decoded(&jws, place.height, place.index)?))
}

/// Transactions that wait for a block at this node, oldest first.
#[utoipa::path(tag = "explorer", operation_id = "explore_waiting", security(()), params(PageQuery),
    responses((status = 200, description = "A page of what waits", body = Page<WaitingSummary>)))]
#[get("/v1/explorer/waiting")]
pub async fn list_waiting(
    _public: Public,
    query: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let limit = usize::try_from(query.limit()?).unwrap_or(usize::MAX);
    let from = query.after::<PageStart>()?.map_or(0, |after| after.from);
    let (waiting, next) = app.node.mempool().page(from, limit);
    let chain = app.node.chain();
    let items = waiting.into_iter().map(|(tx, promised)| WaitingSummary {
        txid: tx.txid(),
        kind: tx.payload().kind().to_owned(),
        author: tx.kid(),
        author_name: name_of(&chain, &tx.kid()),
        bytes: len(tx.bytes().len()),
        promised,
    });
    let next = next.and_then(|from| paging::cursor(&PageStart { from }));
    Ok(HttpResponse::Ok().json(Page { items: items.collect(), next }))
}
