//! `GET /v1/records/{id}/proof`: the document that proves, offline and with public keys only, that a record is anchored.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_chain::merkle::{self, Tree};
use hbc_chain::proof::{self, Document, RecordFacts, RecordProof, TransactionProof, Trust};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Caller, Problem};
use hbc_types::ids::RecordId;
use hbc_types::keys::SaltBytes;
use hbc_types::problem::Slug;
use hbc_types::wire::storage::AnchorState;

use crate::app::App;
use crate::error::Error;
use crate::flows::read;
use crate::routes::records_read::find;
use crate::store::TrustedRow;

/// The record's proof: its commitment opened, its place in the segment, the anchor's place in the certified log. `409`
/// while the anchor is not final.
#[utoipa::path(tag = "records", operation_id = "get_record_proof", security(("user" = [])),
    params(("id" = RecordId, Path, description = "The record"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Proof document (`hbc-proof-record/v1`)", content_type = "application/json"),
        (status = 409),
        StoreProblems,
    ))]
#[get("/v1/records/{id}/proof")]
pub async fn get_record_proof(
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (reader, row) = find(&app, &request, &caller, &id, None).await?;
    read::decide_for(&app, &reader, &row).await?;
    match row.anchor() {
        AnchorState::Final => {}
        AnchorState::Pending => {
            return Err(Problem::new(Slug::Conflict).detail("the anchor is not final yet"));
        }
        AnchorState::Refused => {
            return Err(Problem::new(Slug::Conflict).detail("the ledger refused the anchor"));
        }
    }
    let anchor = transaction(&app, &row).await?;
    let document = Document::Record(record(&app, &row, anchor).await?);
    let bytes = document.to_bytes().map_err(|error| Problem::internal(&error))?;
    // Nothing is handed out that does not verify: neither our own rows nor a node's answer are simply believed.
    let genesis = Trust::Genesis(Box::new(app.ledger.genesis().as_ref().clone()));
    if let Err(error) = proof::verify(&bytes, &genesis) {
        tracing::error!(error = &error as &dyn std::error::Error, "A record's proof does not verify");
        return Err(Error::integrity("a record's proof", row.row.id.as_str()).into());
    }
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{}.proof.json\"", row.row.id)))
        .body(bytes))
}

/// The anchor's proof, from whichever node has it. It proves itself: whoever reads it checks it.
async fn transaction(app: &App, row: &TrustedRow) -> Result<TransactionProof, Problem> {
    let txid = row.txid.ok_or_else(|| Problem::new(Slug::Conflict).detail("the anchor is not final yet"))?;
    let bytes = app.ledger.proof(txid).await?;
    match Document::parse(&bytes) {
        Ok(Document::Transaction(proof)) => Ok(proof),
        Ok(_) | Err(_) => {
            tracing::warn!("A ledger node answered something that is no proof of a transaction");
            Err(Problem::new(Slug::DependencyUnavailable))
        }
    }
}

async fn record(app: &App, trusted: &TrustedRow, anchor: TransactionProof) -> Result<RecordProof, Error> {
    let TrustedRow { row, secret, .. } = trusted;
    let segment = app.store.segment(&row.cid).await?.ok_or(Error::Fault("a record without a segment"))?;
    let commitments = app.store.commitments(&row.cid).await?;
    let leaves: Vec<_> = commitments.iter().map(|found| merkle::leaf_hash(found.as_bytes())).collect();
    let tree = Tree::of(&leaves);
    if tree.root() != segment.root {
        return Err(Error::integrity("a segment's root", row.cid.as_str()));
    }
    let path = merkle::inclusion_path(&tree, u64::from(row.position), leaves.len() as u64)
        .map_err(|_never| Error::integrity("a record's place", row.id.as_str()))?;
    Ok(RecordProof {
        anchor,
        index: u64::from(row.position),
        path,
        record: RecordFacts {
            id: row.id.clone(),
            length: row.length,
            offset: row.offset,
            received: secret.received,
            salt: SaltBytes::from_bytes(trusted.salt()?),
            encrypted: secret.encrypted,
            version: row.version,
        },
        segment: u64::from(segment.place.ok_or(Error::Fault("an anchored segment without a place"))?),
    })
}
