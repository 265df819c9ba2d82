//! Look-ups in the final state: consent keys, grants, staff profiles.

use actix_web::{HttpResponse, get, web};
use hbc_chain::payload::KeyStatus;
use hbc_service::{Problem, Public};
use hbc_types::Digest;
use hbc_types::ids::GrantId;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{GrantStateView, KeyView, StaffView};

use super::{App, digest};

/// A consent key.
#[utoipa::path(tag = "state", operation_id = "read_key", security(()), params(("kid" = Digest, Path)),
    responses((status = 200, description = "How the key stands", body = KeyView)))]
#[get("/v1/keys/{kid}")]
pub async fn read_key(
    _public: Public,
    kid: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let kid = digest(&kid)?;
    let chain = app.node.chain();
    let entry = chain.state().key(&kid).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let live = entry.status == KeyStatus::Active;
    Ok(HttpResponse::Ok().json(KeyView { kid, live, seq: entry.seq, last: entry.prev }))
}

/// A grant.
#[utoipa::path(tag = "state", operation_id = "read_grant", security(()),
    params(("key" = Digest, Path), ("grant" = String, Path)),
    responses((status = 200, description = "How the grant stands", body = GrantStateView)))]
#[get("/v1/grants/{key}/{grant}")]
pub async fn read_grant(
    _public: Public,
    path: web::Path<(String, String)>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (key, grant) = path.into_inner();
    let key = digest(&key)?;
    let grant = GrantId::parse(&grant).map_err(|_not_a_grant| Problem::new(Slug::NotFound))?;
    let chain = app.node.chain();
    let entry = chain.state().grant(&key, &grant).ok_or_else(|| Problem::new(Slug::NotFound))?;
    Ok(HttpResponse::Ok().json(GrantStateView {
        key,
        in_force: chain.state().in_force(&key, &grant),
        grant: grant.to_string(),
        live: entry.status == KeyStatus::Active,
        commitment: entry.commitment,
        seq: entry.seq,
        last: entry.txid,
    }))
}

/// A staff profile.
#[utoipa::path(tag = "state", operation_id = "read_staff", security(()), params(("key" = Digest, Path)),
    responses((status = 200, description = "The profile", body = StaffView)))]
#[get("/v1/staff/{key}")]
pub async fn read_staff(
    _public: Public,
    key: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let key = digest(&key)?;
    let chain = app.node.chain();
    let entry = chain.state().staff(&key).ok_or_else(|| Problem::new(Slug::NotFound))?;
    Ok(HttpResponse::Ok().json(StaffView {
        key,
        public: entry.public.to_string(),
        organisation: entry.organisation.clone(),
        role: entry.role.clone(),
        status: entry.status.code().to_owned(),
        commitment: entry.commitment,
        changes: chain.state().changes(&format!("staff:{key}")),
        last: entry.txid,
    }))
}
