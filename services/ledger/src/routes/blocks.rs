//! Blocks and checkpoints. Every block is hashed again before it is served.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_chain::comparison::compare_head;
use hbc_chain::header::Header;
use hbc_chain::memory::CertifiedHeader;
use hbc_chain::merkle::leaf_hash;
use hbc_chain::state::Place;
use hbc_chain::verification::{Fault, Wrong, transactions};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Problem, Public};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::secret::Bytes;
use hbc_types::wire::ledger::{BlockView, BlocksView};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::readers::Turn;
use crate::node::guardian::Soundness;
use crate::store::{StoreError, StoredBlock};

/// Blocks in one answer at most.
const MAX_BLOCKS: u32 = 100;
/// Their bytes at most; a single block is always served.
const MAX_BYTES: usize = 8 << 20;

/// Which blocks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first height.
    #[serde(default)]
    from: u64,
    /// How many at most, 1 to 100.
    #[serde(default = "max_blocks")]
    limit: u32,
}

const fn max_blocks() -> u32 {
    MAX_BLOCKS
}

impl App {
    /// A block that is what this node agreed to; otherwise the node is attacked and says so.
    pub(super) async fn block(&self, request: &HttpRequest, height: u64) -> Result<BlockView, Problem> {
        let turn = self.turn(request).await?;
        let stored = self.node.guard.store().block(height).await;
        self.verified(&turn, height, stored).await
    }

    /// Hashes what was read, on a thread that may take its time.
    async fn verified(
        &self,
        turn: &Turn<'_>,
        height: u64,
        stored: Result<Option<StoredBlock>, StoreError>,
    ) -> Result<BlockView, Problem> {
        let missing = Fault { height, wrong: Wrong::Missing };
        let block = match stored {
            Ok(Some(block)) if block.height == height => {
                turn.took(block.body.len());
                block
            }
            Ok(_) => return self.found_wrong(missing).await,
            Err(error) => return Err(self.reading_failed(height, error).await),
        };
        let node = Arc::clone(&self.node);
        let hashed = web::block(move || match node.guard.fault_in(&block) {
            None => Ok(block),
            Some(fault) => Err(fault),
        });
        match hashed.await.map_err(|cancelled| Problem::internal(&cancelled))? {
            Ok(block) => self.view(block),
            Err(fault) => self.found_wrong(fault).await,
        }
    }

    /// A final transaction's text, if its stored bytes still hash to its id.
    pub(super) async fn transaction(
        &self,
        request: &HttpRequest,
        txid: &Digest,
        place: &Place,
    ) -> Result<String, Problem> {
        let turn = self.turn(request).await?;
        let stored = match self.node.guard.store().block(place.height).await {
            Ok(stored) => stored,
            Err(error) => return Err(self.reading_failed(place.height, error).await),
        };
        turn.took(stored.as_ref().map_or(0, |block| block.body.len()));
        let index = usize::try_from(place.index).unwrap_or(usize::MAX);
        let bytes = stored.as_ref().and_then(|block| transactions(&block.body).nth(index).flatten());
        match bytes.filter(|bytes| leaf_hash(bytes) == *txid).map(|bytes| String::from_utf8(bytes.to_vec())) {
            Some(Ok(text)) => Ok(text),
            _ => self.found_wrong(Fault { height: place.height, wrong: Wrong::Transactions }).await,
        }
    }

    /// A header and its certificate, if the stored bytes are still what this node agreed to.
    pub(super) async fn header(&self, height: u64) -> Result<(Header, String), Problem> {
        let stored = match self.node.guard.store().head(height).await {
            Ok(stored) => stored,
            Err(error) => return Err(self.reading_failed(height, error).await),
        };
        let known = self.node.chain().known(height);
        let compared = match (stored, known) {
            (Some((header, certificate)), Some(known)) => {
                compare_head(&known, &header, &certificate).map(|header| (header, certificate))
            }
            (None, Some(_)) => Err(Wrong::Missing),
            (_, None) => Err(Wrong::Spare),
        };
        match compared {
            Ok(head) => Ok(head),
            Err(wrong) => self.found_wrong(Fault { height, wrong }).await,
        }
    }

    /// A header with the certificate that counts for it: what proofs are made of.
    pub(super) async fn certified(&self, height: u64) -> Result<CertifiedHeader, Problem> {
        let (header, note) = self.header(height).await?;
        let certified = CertifiedHeader { header, note };
        if self.node.chain().is_certified(&certified) {
            return Ok(certified);
        }
        self.found_wrong(Fault { height, wrong: Wrong::Certificate }).await
    }

    pub(super) async fn reading_failed(&self, height: u64, error: StoreError) -> Problem {
        let node = Arc::clone(&self.node);
        // On a task of its own, so that a caller who leaves now does not keep the alarm from being raised.
        let sorted =
            hbc_service::spawn(
                "fault of a read",
                async move { node.guard.reading_failed(height, error).await },
            )
            .await;
        match sorted.unwrap_or(Soundness::Unknown) {
            Soundness::Attacked => Problem::new(Slug::Integrity).detail("a stored block cannot be read"),
            Soundness::Sound | Soundness::Unknown => Problem::new(Slug::Unavailable),
        }
    }

    pub(super) async fn found_wrong<T>(&self, fault: Fault) -> Result<T, Problem> {
        let node = Arc::clone(&self.node);
        let _panicked =
            hbc_service::spawn("mark of an attack", async move { node.guard.mark_attacked(fault).await })
                .await;
        Err(Problem::new(Slug::Integrity).detail("a stored block does not match its hash"))
    }

    /// A row beside the blocks is not what this node wrote: it is attacked and says so.
    pub(super) async fn found_row_wrong<T>(&self, table: &'static str) -> Result<T, Problem> {
        let node = Arc::clone(&self.node);
        let _panicked =
            hbc_service::spawn("suspicion of a row", async move { node.guard.suspect_row(table).await })
                .await;
        Err(Problem::new(Slug::Integrity).detail("a stored row is not as this node wrote it"))
    }

    fn view(&self, block: StoredBlock) -> Result<BlockView, Problem> {
        let texts: Option<Vec<String>> = transactions(&block.body)
            .map(|bytes| bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
            .collect();
        let index = usize::try_from(block.height).ok();
        let hash = index.and_then(|index| self.node.chain().hashes().get(index).copied());
        Ok(BlockView {
            height: block.height,
            hash: hash.unwrap_or(Digest::ZERO),
            header: Bytes::new(block.header),
            transactions: texts.ok_or_else(|| Problem::new(Slug::Integrity))?,
            certificate: block.certificate,
        })
    }
}

/// One block with its certificate.
#[utoipa::path(tag = "blocks", operation_id = "read_block", security(()), params(("height" = u64, Path)),
    responses((status = 200, description = "The block", body = BlockView), StoreProblems))]
#[get("/v1/blocks/{height}")]
pub async fn read(
    _public: Public,
    request: HttpRequest,
    height: web::Path<u64>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    if *height > app.node.chain().height() {
        return Err(Problem::new(Slug::NotFound));
    }
    Ok(HttpResponse::Ok().json(app.block(&request, *height).await?))
}

/// Consecutive blocks.
#[utoipa::path(tag = "blocks", operation_id = "list_blocks", security(()), params(Range),
    responses((status = 200, description = "Blocks, the first as asked for", body = BlocksView), StoreProblems))]
#[get("/v1/blocks")]
pub async fn list(
    _public: Public,
    request: HttpRequest,
    range: web::Query<Range>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    if !(1..=MAX_BLOCKS).contains(&range.limit) {
        return Err(Problem::invalid("limit", "1 to 100"));
    }
    let turn = app.turn(&request).await?;
    let tip = app.node.chain().height();
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    let mut next = range.from;
    let mut reader = match app.node.guard.store().blocks(next).await {
        Ok(reader) => reader,
        Err(error) => return Err(app.reading_failed(next, error).await),
    };
    while blocks.len() < usize::try_from(range.limit).unwrap_or(0) && bytes < MAX_BYTES && next <= tip {
        let block = app.verified(&turn, next, reader.at(next).await).await?;
        bytes += block.transactions.iter().map(String::len).sum::<usize>();
        blocks.push(block);
        next += 1;
    }
    Ok(HttpResponse::Ok().json(BlocksView { blocks, tip }))
}

/// The latest checkpoint: a C2SP signed note by more than two thirds of the members.
#[utoipa::path(tag = "blocks", operation_id = "read_checkpoint", security(()),
    responses(
        (status = 200, description = "The signed note", body = String, content_type = "text/plain"),
        (status = 404),
    ))]
#[get("/v1/checkpoint")]
pub async fn checkpoint(_public: Public, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let note = app.node.chain().certificate().to_owned();
    if note.is_empty() {
        return Err(Problem::new(Slug::NotFound).detail("no block is decided yet"));
    }
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(note))
}
