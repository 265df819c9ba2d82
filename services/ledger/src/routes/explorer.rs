//! Looking around: blocks newest first, one block taken apart, transactions decoded and found by author or type,
//! checkpoints by height. Listings of blocks come from verified memory; bytes are read and hashed again only for
//! transactions, at most [`MAX_READ_BYTES`] an answer.

use actix_web::{HttpResponse, get, web};
use hbc_service::{Problem, Public, paging};
use hbc_types::Digest;
use hbc_types::chain::checkpoint::Certificate;
use hbc_types::chain::header::leading_zero_bits;
use hbc_types::chain::tx::Tx;
use hbc_types::problem::{ProblemDocument, Slug};
use hbc_types::time::Timestamp;
use hbc_types::wire::Page;
use hbc_types::wire::explorer::{BlockDetails, BlockSummary, TransactionSummary};
use hbc_types::wire::ledger::BlockView;
use paging::PageQuery;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::{App, digest};
use crate::chain::Chain;

/// Bytes of blocks that one answer is made from; the page ends there and the cursor goes on.
const MAX_READ_BYTES: usize = 16 << 20;
/// Places looked at to find those that fit two conditions; the page ends there and the cursor goes on.
const MAX_LOOKED_AT: usize = 100_000;

/// Where a listing goes on: below this height, place in the log or index.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Below {
    below: u64,
}

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

/// A block in a few words, from memory.
pub(super) fn summary(chain: &Chain, height: u64) -> Option<BlockSummary> {
    let facts = chain.register().block(height)?;
    Some(BlockSummary {
        height,
        hash: *chain.hashes().get(usize::try_from(height).ok()?)?,
        time: timestamp(facts.time_ms),
        transactions: chain.transactions_at(height)?,
        bytes: facts.bytes,
        miner: chain.register().miner(&facts.miner).map(str::to_owned),
        round: facts.round,
    })
}

pub(super) fn timestamp(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Whose key this is, if the ledger names it.
fn name_of(chain: &Chain, kid: &Digest) -> Option<String> {
    let state = chain.state();
    let named = state.members().iter().chain(state.operators()).find(|named| named.kid() == *kid);
    named.map(|named| named.name.clone()).or_else(|| state.service(kid).map(|entry| entry.role.to_string()))
}

impl App {
    fn decoded(&self, block: &BlockView, index: u32) -> Result<TransactionSummary, Problem> {
        let integrity = || Problem::new(Slug::Integrity);
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let jws = block.transactions.get(at).ok_or_else(integrity)?;
        let tx = Tx::read_final(jws.as_bytes()).map_err(|_form| integrity())?;
        let fields = serde_json::to_value(tx.payload()).map_err(|error| Problem::internal(&error))?;
        let chain = self.node.chain();
        let facts = chain.register().block(block.height).ok_or_else(integrity)?;
        Ok(TransactionSummary {
            txid: tx.txid(),
            height: block.height,
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
        let register = chain.register();
        let by_type = search.kind.as_ref().map(|kind| register.by_type(kind));
        let by_author = search.author.as_ref().map(|kid| register.by_author(kid));
        let (list, other) = match (by_author, by_type) {
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

/// A search, read.
struct Found {
    author: Option<Digest>,
    kind: Option<String>,
}

/// Blocks, newest first.
#[utoipa::path(tag = "explorer", operation_id = "explore_blocks", security(()), params(PageQuery),
    responses((status = 200, body = Page<BlockSummary>), (status = 422, body = ProblemDocument)))]
#[get("/v1/explorer/blocks")]
pub async fn list_blocks(
    _public: Public,
    query: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let limit = u64::from(query.limit()?);
    let chain = app.node.chain();
    let below = query.after::<Below>()?.map_or(u64::MAX, |after| after.below);
    let end = below.min(chain.height().saturating_add(1));
    let first = end.saturating_sub(limit);
    let items: Vec<BlockSummary> = (first..end).rev().filter_map(|height| summary(&chain, height)).collect();
    let next = (first > 0).then(|| paging::cursor(&Below { below: first })).flatten();
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// One block, taken apart.
#[utoipa::path(tag = "explorer", operation_id = "explore_block", security(()), params(("height" = u64, Path)),
    responses((status = 200, body = BlockDetails), (status = 404, body = ProblemDocument),
        (status = 502, body = ProblemDocument)))]
#[get("/v1/explorer/blocks/{height}")]
pub async fn read_block(
    _public: Public,
    height: web::Path<u64>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let summary = summary(&app.node.chain(), *height).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let (header, note) = app.header(*height).await?;
    let signers = Certificate::parse(&note).map_or_else(
        |_block_zero| Vec::new(),
        |note| note.signatures.into_iter().map(|line| line.member).collect(),
    );
    Ok(HttpResponse::Ok().json(BlockDetails {
        zero_bits: leading_zero_bits(summary.hash.as_bytes()),
        summary,
        previous: header.prev_hash,
        tx_root: header.tx_root,
        log_root: header.log_root,
        log_size: header.log_size,
        state_root: header.state_root,
        target: header.target.compact(),
        nonce: header.nonce,
        signers,
    }))
}

/// A block's transactions in their order, decoded.
#[utoipa::path(tag = "explorer", operation_id = "explore_block_transactions", security(()),
    params(("height" = u64, Path), PageQuery),
    responses((status = 200, body = Page<TransactionSummary>), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument), (status = 502, body = ProblemDocument)))]
#[get("/v1/explorer/blocks/{height}/transactions")]
pub async fn list_block_transactions(
    _public: Public,
    height: web::Path<u64>,
    query: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let first = query.after::<Below>()?.map_or(0, |after| u32::try_from(after.below).unwrap_or(u32::MAX));
    if *height > app.node.chain().height() {
        return Err(Problem::new(Slug::NotFound));
    }
    let block = app.block(*height).await?;
    let count = u32::try_from(block.transactions.len()).unwrap_or(u32::MAX);
    let end = first.saturating_add(limit).min(count);
    let items: Vec<TransactionSummary> =
        (first..end).map(|index| app.decoded(&block, index)).collect::<Result<_, _>>()?;
    let next = (end < count).then(|| paging::cursor(&Below { below: u64::from(end) })).flatten();
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// Final transactions, newest first, decoded. A page may be shorter than asked for, or empty, and still have a next.
#[utoipa::path(tag = "explorer", operation_id = "explore_transactions", security(()), params(Search),
    responses((status = 200, body = Page<TransactionSummary>), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument), (status = 502, body = ProblemDocument)))]
#[get("/v1/explorer/transactions")]
pub async fn search_transactions(
    _public: Public,
    query: web::Query<Search>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let Search { author, kind, limit, cursor } = query.into_inner();
    let page = PageQuery { limit, cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let below = page.after::<Below>()?.map_or(u64::MAX, |after| after.below);
    let author = author.map(|kid| digest(&kid).map_err(|_form| Problem::invalid("author", "64 hex digits")));
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
            let block = app.block(height).await?;
            bytes = block.transactions.iter().fold(bytes, |sum, jws| sum.saturating_add(jws.len()));
            open = Some(block);
        }
        let Some(block) = &open else { break };
        items.push(app.decoded(block, index)?);
    }
    let next = next.and_then(|below| paging::cursor(&Below { below }));
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// The checkpoint of a height: a C2SP signed note by more than two thirds of its members.
#[utoipa::path(tag = "blocks", operation_id = "read_checkpoint_at", security(()), params(("height" = u64, Path)),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = ProblemDocument), (status = 502, body = ProblemDocument)))]
#[get("/v1/checkpoints/{height}")]
pub async fn read_checkpoint(
    _public: Public,
    height: web::Path<u64>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    if *height == 0 || *height > app.node.chain().height() {
        return Err(Problem::new(Slug::NotFound));
    }
    let (_, note) = app.header(*height).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(note))
}
