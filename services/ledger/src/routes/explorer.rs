//! Looking around: blocks newest first, one block taken apart, checkpoints by height. Listings come from verified memory;
//! what is in a block is read and hashed again. Transactions are in [`super::search`].

use actix_web::{HttpResponse, get, web};
use hbc_chain::checkpoint::Certificate;
use hbc_chain::header::leading_zero_bits;
use hbc_chain::memory::Chain;
use hbc_service::openapi::StoreProblems;
use hbc_service::{Problem, Public, paging};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::time::Timestamp;
use hbc_types::wire::Page;
use hbc_types::wire::explorer::{BlockDetails, BlockSummary};
use paging::PageQuery;
use serde::{Deserialize, Serialize};

use super::App;

/// Where a listing goes on: below this height, place in the log or index.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Below {
    pub(super) below: u64,
}

/// A block in a few words, from memory.
pub(super) fn summary(chain: &Chain, height: u64) -> Option<BlockSummary> {
    let facts = chain.secondary_index().block(height)?;
    Some(BlockSummary {
        height,
        hash: *chain.hashes().get(usize::try_from(height).ok()?)?,
        time: timestamp(facts.time_ms),
        transactions: chain.transactions_at(height)?,
        bytes: facts.bytes,
        miner: chain.secondary_index().miner(&facts.miner).map(str::to_owned),
        round: facts.round,
    })
}

pub(super) fn timestamp(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Blocks, newest first.
#[utoipa::path(tag = "explorer", operation_id = "explore_blocks", security(()), params(PageQuery),
    responses((status = 200, description = "A page of blocks, the newest first", body = Page<BlockSummary>)))]
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

/// The height that is meant by a height, or by the hash of a header.
fn height_of(chain: &Chain, name: &str) -> Option<u64> {
    if let Ok(hash) = Digest::parse(name) {
        let index = chain.hashes().iter().position(|known| *known == hash)?;
        return u64::try_from(index).ok();
    }
    name.parse().ok()
}

/// One block, by its height or by the hash of its header, taken apart.
#[utoipa::path(tag = "explorer", operation_id = "explore_block", security(()),
    params(("block" = String, Path, description = "A height, or a header's SHA-256 in hex")),
    responses(
        (status = 200, description = "The block and where it stands", body = BlockDetails),
        StoreProblems,
    ))]
#[get("/v1/explorer/blocks/{block}")]
pub async fn read_block(
    _public: Public,
    block: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let summary = {
        let chain = app.node.chain();
        height_of(&chain, &block).and_then(|height| summary(&chain, height))
    };
    let summary = summary.ok_or_else(|| Problem::new(Slug::NotFound))?;
    let (header, note) = app.header(summary.height).await?;
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

/// The checkpoint of a height: a C2SP signed note by more than two thirds of its members.
#[utoipa::path(tag = "blocks", operation_id = "read_checkpoint_at", security(()), params(("height" = u64, Path)),
    responses(
        (status = 200, description = "The signed note", body = String, content_type = "text/plain"),
        StoreProblems,
    ))]
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
