//! What members were caught at, for anybody to check.

use actix_web::{HttpResponse, get, web};
use hbc_service::{Problem, Public};
use hbc_types::Digest;
use hbc_types::problem::{ProblemDocument, Slug};

use super::{App, digest};
use crate::store::StoreError;

/// A piece of evidence by its SHA-256, as `node.event` transactions name it. What it proves can be checked offline.
#[utoipa::path(tag = "node", operation_id = "read_evidence", security(()), params(("digest" = Digest, Path)),
    responses((status = 200, content_type = "application/json", description = "The document, canonical"),
        (status = 404, body = ProblemDocument), (status = 502, body = ProblemDocument)))]
#[get("/v1/evidence/{digest}")]
pub async fn read(
    _public: Public,
    path: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let digest = digest(&path)?;
    match app.node.store.evidence(&digest).await {
        Ok(Some(document)) => Ok(HttpResponse::Ok().content_type("application/json").body(document)),
        Ok(None) => Err(Problem::new(Slug::NotFound)),
        Err(StoreError::Shape(_)) => Err(Problem::new(Slug::Integrity).detail("the evidence was changed")),
        Err(error) => Err(Problem::internal(&error)),
    }
}
