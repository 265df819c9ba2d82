//! What members were caught at, for anybody to check.

use actix_web::{HttpResponse, get, web};
use hbc_service::{Problem, Public};
use hbc_types::Digest;
use hbc_types::problem::Slug;

use super::{App, digest};
use crate::store::StoreError;

/// A piece of evidence by its SHA-256, as `node.event` transactions name it. What it proves can be checked offline.
#[utoipa::path(tag = "node", operation_id = "read_evidence", security(()), params(("digest" = Digest, Path)),
    responses(
        (status = 200, content_type = "application/json", description = "The document, canonical"),
        (status = 502),
    ))]
#[get("/v1/evidence/{digest}")]
pub async fn read(
    _public: Public,
    path: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let digest = digest(&path)?;
    // A changed store cannot show why it is one; its node can.
    let mark = app.node.attack().filter(|mark| mark.digest() == digest);
    let found = match mark {
        Some(mark) => Some(mark.document()),
        None => match app.node.guard.store().evidence(&digest).await {
            Ok(found) => found,
            Err(StoreError::Row(table)) => return app.found_row_wrong(table).await,
            Err(error) => return Err(Problem::internal(&error)),
        },
    };
    let document = found.ok_or_else(|| Problem::new(Slug::NotFound))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(document))
}
