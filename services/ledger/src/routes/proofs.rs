//! Proofs about the ledger itself: that it only grew, what its state said, which anchors it has. Each answer is a document
//! that `hbc verify` checks offline.

use actix_web::{HttpResponse, get, web};
use hbc_chain::entry::{Kind, grant_id};
use hbc_chain::memory::{Before, EntryName};
use hbc_chain::proof::{Document, MAX_DOCUMENT_BYTES, ProofError, StateProof};
use hbc_chain::rtree::Query;
use hbc_chain::state::State;
use hbc_service::openapi::StoreProblems;
use hbc_service::{Problem, Public};
use hbc_types::Digest;
use hbc_types::ids::GrantId;
use hbc_types::problem::Slug;
use hbc_types::time::parse_day;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, digest};
use crate::node::history::HistoryError;

/// Bytes of an answer about anchors at most; beside it stand genesis.json, certificates and changes of members.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The earlier of two checkpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// Its height, 1 or more.
    #[param(value_type = u64)]
    from: Option<String>,
}

/// After which block.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Its height; the latest when absent. An earlier state is made anew from the blocks, which takes time.
    #[param(value_type = Option<u64>)]
    height: Option<String>,
}

/// Which entry of the state map, after which block.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EntryAt {
    /// The kind: `members`, `operators`, `parameters`, `service`, `staff`, `key`, `grant`, `segment`, `receipts`, `erased`,
    /// `release`, `changes`, `ballots` or `event`.
    #[param(value_type = Kind, inline)]
    kind: Option<String>,
    /// The id, as the kind has them; absent for the first three.
    #[serde(default)]
    id: String,
    /// The block's height; the latest when absent.
    #[param(value_type = Option<u64>)]
    height: Option<String>,
}

/// Which anchors.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Days {
    /// The first clinical day, `YYYY-MM-DD`.
    #[param(value_type = String, example = "2026-01-01")]
    from: Option<String>,
    /// The last clinical day.
    #[param(value_type = String, example = "2026-01-31")]
    to: Option<String>,
    /// Only anchors of blocks up to this height; of all when absent.
    #[param(value_type = Option<u64>)]
    as_of: Option<String>,
}

/// A height that a parameter names, if it is there.
fn number(field: &'static str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let parse = |text: &str| text.parse().map_err(|_no_number| Problem::invalid(field, "not a height"));
    text.map(parse).transpose()
}

fn undecided() -> Problem {
    Problem::new(Slug::NotFound).detail("no block is decided yet")
}

/// The document's bytes, unless they are more than a reader takes.
pub(super) fn text(document: &Document) -> Result<Vec<u8>, Problem> {
    let bytes = document.to_bytes().map_err(|error| Problem::internal(&error))?;
    if bytes.len() <= MAX_DOCUMENT_BYTES {
        return Ok(bytes);
    }
    let words =
        "the changes of members since genesis.json have more bytes than a proof may; export the chain";
    Err(Problem::internal(&ProofError::TooLarge).detail(words))
}

pub(super) fn answer(bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(bytes)
}

fn too_large() -> Problem {
    Problem::invalid("to", "the answer is larger than an answer may be; ask for fewer days")
}

/// That the log only grew between two checkpoints: both, the path of RFC 9162, and every change of members on the way.
#[utoipa::path(tag = "proofs", operation_id = "prove_consistency", security(()),
    params(("height" = u64, Path, description = "Height of the later checkpoint"), Earlier),
    responses(
        (status = 200, content_type = "application/json", description = "An hbc-proof-consistency/v1"),
        StoreProblems,
    ))]
#[get("/v1/checkpoints/{height}/consistency")]
pub async fn prove_consistency(
    _public: Public,
    height: web::Path<u64>,
    earlier: web::Query<Earlier>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let to = *height;
    let tip = app.node.chain().height();
    if to == 0 || to > tip {
        return Err(Problem::new(Slug::NotFound));
    }
    let from = number("from", earlier.from.as_deref())?.filter(|from| (1..=to).contains(from));
    let from =
        from.ok_or_else(|| Problem::invalid("from", "a height from 1 to that of the later checkpoint"))?;
    let (from, to) = (app.certified(from).await?, app.certified(to).await?);
    let proof = app.node.chain().prove_consistency(from, to);
    Ok(answer(text(&Document::Consistency(proof.ok_or_else(|| Problem::new(Slug::Integrity))?))?))
}

/// Whether a grant is in force after a block: what the state says about the grant and about its key.
#[utoipa::path(tag = "proofs", operation_id = "prove_grant", security(()),
    params(("key" = Digest, Path), ("grant" = String, Path), At),
    responses(
        (status = 200, content_type = "application/json", description = "An hbc-proof-state/v1"),
        StoreProblems,
    ))]
#[get("/v1/grants/{key}/{grant}/proof")]
pub async fn prove_grant(
    _public: Public,
    path: web::Path<(String, String)>,
    at: web::Query<At>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (key, grant) = path.into_inner();
    let key = digest(&key)?;
    let grant = GrantId::parse(&grant).map_err(|_not_a_grant| Problem::new(Slug::NotFound))?;
    let entries = vec![(Kind::Grant, grant_id(&key, &grant)), (Kind::Key, key.to_string())];
    app.prove_state(entries, at.height.as_deref()).await
}

/// What the state says about a consent key after a block.
#[utoipa::path(tag = "proofs", operation_id = "prove_key", security(()), params(("kid" = Digest, Path), At),
    responses(
        (status = 200, content_type = "application/json", description = "An hbc-proof-state/v1"),
        StoreProblems,
    ))]
#[get("/v1/keys/{kid}/proof")]
pub async fn prove_key(
    _public: Public,
    kid: web::Path<String>,
    at: web::Query<At>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.prove_state(vec![(Kind::Key, digest(&kid)?.to_string())], at.height.as_deref()).await
}

/// What the state says about a staff profile after a block.
#[utoipa::path(tag = "proofs", operation_id = "prove_staff", security(()), params(("key" = Digest, Path), At),
    responses(
        (status = 200, content_type = "application/json", description = "An hbc-proof-state/v1"),
        StoreProblems,
    ))]
#[get("/v1/staff/{key}/proof")]
pub async fn prove_staff(
    _public: Public,
    key: web::Path<String>,
    at: web::Query<At>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.prove_state(vec![(Kind::Staff, digest(&key)?.to_string())], at.height.as_deref()).await
}

/// What the state says about any entry after a block: members, parameters, service keys and all else in the state map.
#[utoipa::path(tag = "proofs", operation_id = "prove_state", security(()), params(EntryAt),
    responses(
        (status = 200, content_type = "application/json", description = "An hbc-proof-state/v1"),
        (status = 404),
        StoreProblems,
    ))]
#[get("/v1/state/proof")]
pub async fn prove_entry(
    _public: Public,
    entry: web::Query<EntryAt>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let kind = entry.kind.as_deref().and_then(Kind::parse);
    let kind = kind.ok_or_else(|| Problem::invalid("kind", "not a kind of entry"))?;
    if !kind.id_fits(&entry.id) {
        return Err(Problem::invalid("id", "no entry of this kind has such an id"));
    }
    let mut entries = vec![(kind, entry.id.clone())];
    if let (Kind::Grant, Some((key, _))) = (kind, entry.id.split_once('/')) {
        entries.push((Kind::Key, key.to_owned()));
    }
    app.prove_state(entries, entry.height.as_deref()).await
}

/// All anchors whose clinical days meet a span, and the proof that there are no others.
#[utoipa::path(tag = "proofs", operation_id = "list_anchors", security(()), params(Days),
    responses(
        (status = 200, content_type = "application/json", description = "An hbc-proof-anchors/v1"),
        (status = 404),
        StoreProblems,
    ))]
#[get("/v1/anchors")]
pub async fn prove_anchors(
    _public: Public,
    days: web::Query<Days>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let day = |field, text: &Option<String>| {
        text.as_deref().and_then(parse_day).ok_or_else(|| Problem::invalid(field, "a day, YYYY-MM-DD"))
    };
    let (from, to) = (day("from", &days.from)?, day("to", &days.to)?);
    if to < from {
        return Err(Problem::invalid("to", "not before `from`"));
    }
    let as_of = number("as_of", days.as_of.as_deref())?;
    let _turn = app.answers.acquire().await.map_err(|closed| Problem::internal(&closed))?;
    let view = app.node.chain().anchors_view().ok_or_else(undecided)?;
    let as_of = as_of.unwrap_or(view.height());
    if as_of > view.height() {
        return Err(Problem::invalid("as_of", "no such block is decided yet"));
    }
    let query = Query { from, to, as_of };
    let work = web::block(move || {
        let proof = view.prove(query, MAX_ANSWER_BYTES);
        text(&Document::Anchors(proof.ok_or_else(too_large)?))
    });
    Ok(answer(work.await.map_err(|cancelled| Problem::internal(&cancelled))??))
}

impl App {
    async fn prove_state(
        &self,
        entries: Vec<EntryName>,
        height: Option<&str>,
    ) -> Result<HttpResponse, Problem> {
        let proof = match number("height", height)? {
            Some(height) => self.prove_state_at(entries, height).await?,
            None => self.prove_present_state(&entries)?.1,
        };
        Ok(answer(text(&Document::State(proof))?))
    }

    /// By the tip: its height and the proof.
    fn prove_present_state(&self, entries: &[EntryName]) -> Result<(u64, StateProof), Problem> {
        let chain = self.node.chain();
        let proof = chain.prove_present_state(entries).ok_or_else(undecided)?;
        Ok((chain.height(), proof))
    }

    async fn prove_state_at(&self, entries: Vec<EntryName>, height: u64) -> Result<StateProof, Problem> {
        let (tip, present) = self.prove_present_state(&entries)?;
        if height == 0 || height > tip {
            return Err(Problem::invalid("height", "from 1 to that of the latest block"));
        }
        if height == tip {
            return Ok(present);
        }
        let certified = self.certified(height).await?;
        let (state, before) = self.state_at(height).await?;
        let proof = self.node.chain().prove_state(&state, &before, certified, &entries);
        proof.ok_or_else(|| Problem::new(Slug::Integrity))
    }

    async fn state_at(&self, height: u64) -> Result<(State, Before), Problem> {
        match self.history.state_at(&self.node.memory, &self.node.guard, height).await {
            Ok(made) => Ok(made),
            Err(HistoryError::Busy | HistoryError::GivenUp) => {
                Err(Problem::new(Slug::Unavailable).detail("another earlier state is being made; try again"))
            }
            Err(HistoryError::Store { height, source }) => Err(self.reading_failed(height, source).await),
            Err(HistoryError::Fault(fault)) => self.found_wrong(fault).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_chain::fixtures::Course;

    #[test]
    fn a_document_that_readers_refuse_is_not_given_out() {
        let members = [(Kind::Members, String::new())];
        let mut proof = Course::eventful().chain.prove_present_state(&members).unwrap();
        assert!(text(&Document::State(proof.clone())).is_ok());
        proof.entries[0].value = Some("x".repeat(MAX_DOCUMENT_BYTES).into());
        let problem = text(&Document::State(proof)).unwrap_err();
        assert_eq!(problem.slug(), Slug::Internal);
        let detail = problem.document(None).detail.unwrap();
        assert!(detail.starts_with("the changes of members since genesis.json"), "{detail}");
        assert_eq!(too_large().slug(), Slug::InvalidInput);
    }
}
