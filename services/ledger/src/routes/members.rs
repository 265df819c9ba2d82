//! What members tell each other: signed envelopes of consensus messages and waiting transactions, and where they are.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, post, web};
use hbc_chain::tx::{Tx, txid};
use hbc_consensus::{MemberId, MemberSet, Message};
use hbc_service::{Body, Problem, Public, parse_strict, peer_address};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{AddressesView, AnnounceAddress, Challenge, ChallengeAnswer};

use super::App;
use crate::node::addresses::AddressError;
use crate::node::pool::Relayed;
use crate::peers::{
    Heard, MAX_ENVELOPE_BYTES, MEMBER_HEADER, SIGNATURE_HEADER, Unpacked, is_genuine, unpack,
};

/// Takes a member's envelope and answers with this node's height. Signed by the member over chain, sender,
/// receiver and body.
#[utoipa::path(tag = "members", operation_id = "receive_envelope", security(("member" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "Height and whether the store is attacked", body = Heard), (status = 503)))]
#[post("/internal/v1/consensus")]
pub async fn receive(
    _signed_by_a_member: Public,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    if body.len() > MAX_ENVELOPE_BYTES {
        return Err(Problem::new(Slug::TooLarge));
    }
    let sender = app.sender(&request, &body)?;
    if app.node.attack().is_none() {
        app.take(sender, body.into_bytes()).await?;
    }
    Ok(HttpResponse::Ok().json(app.node.heard()))
}

/// Takes a member's announcement of its own address, and answers with those of the others. It is signed by the present
/// key of the member that it names, or by one that is being voted in under that name.
#[utoipa::path(tag = "members", operation_id = "announce_address", security(("member" = [])),
    request_body = AnnounceAddress,
    responses(
        (status = 200, description = "The addresses that this node knows", body = AddressesView),
        (status = 429),
    ))]
#[post("/internal/v1/addresses")]
pub async fn announce(
    _signed_by_a_member: Public,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.count_submissions(peer_address(&request), 1)?;
    let AnnounceAddress { announcement } = parse_strict(&body)?;
    match app.node.book.take_address(&announcement) {
        Ok(()) => {}
        Err(error @ AddressError::Address) => {
            return Err(Problem::invalid("announcement", error.to_string()));
        }
        Err(error) => return Err(Problem::new(Slug::Unauthenticated).detail(error.to_string())),
    }
    Ok(HttpResponse::Ok().json(AddressesView { announcements: app.node.book.announcements() }))
}

/// Answers a member's question for a stored block with a signed digest of the bytes on disk. Signed like an
/// envelope. Each member may ask once a second.
#[utoipa::path(tag = "members", operation_id = "answer_challenge", security(("member" = [])),
    request_body = Challenge,
    responses(
        (status = 200, description = "The answer to each question", body = ChallengeAnswer),
        (status = 404),
        (status = 429),
        (status = 503),
    ))]
#[post("/internal/v1/challenges")]
pub async fn challenge(
    _signed_by_a_member: Public,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let sender = app.sender(&request, &body)?;
    app.challenges.check(&sender)?;
    if app.node.attack().is_some() {
        return Err(app.attacked());
    }
    let challenge = parse_strict::<Challenge>(&body)?;
    let answer = app.node.challenges.answer(&challenge).await.ok_or_else(|| Problem::new(Slug::NotFound))?;
    Ok(HttpResponse::Ok().json(answer))
}

impl App {
    pub(super) fn sender(&self, request: &HttpRequest, body: &[u8]) -> Result<MemberId, Problem> {
        let refused = || Problem::new(Slug::Unauthenticated);
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let kid = header(MEMBER_HEADER).and_then(|kid| Digest::parse(kid).ok()).ok_or_else(refused)?;
        let signature = header(SIGNATURE_HEADER).ok_or_else(refused)?;
        let id = MemberId(*kid.as_bytes());
        let members = MemberSet::of(self.node.chain().state().members());
        let keyring = self.node.membership.keyring();
        let member = members.get(&id).filter(|member| !keyring.holds(&member.id)).ok_or_else(refused)?;
        // While this node's key is changed, the sender may know the one or the other.
        let genuine =
            keyring.ids().any(|own| is_genuine(&self.node.chain_id(), member, &own, body, signature));
        if genuine { Ok(id) } else { Err(refused()) }
    }

    /// The consensus messages first: they wait for nothing. Transactions that are known are dropped by their hash.
    async fn take(&self, sender: MemberId, body: web::Bytes) -> Result<(), Problem> {
        let malformed = || Problem::new(Slug::MalformedRequest);
        let mut texts = Vec::new();
        for item in unpack(&body).ok_or_else(malformed)? {
            match item {
                Unpacked::Consensus(bytes) => {
                    let message = Message::decode(bytes).map_err(|_codec| malformed())?;
                    if !self.node.deliver(sender, message) {
                        return Err(Problem::new(Slug::Unavailable));
                    }
                }
                Unpacked::Transaction(bytes) => texts.push(body.slice_ref(bytes)),
            }
        }
        if texts.is_empty() {
            return Ok(());
        }
        let node = self.node.clone();
        let weight = texts.iter().map(web::Bytes::len).sum();
        let members = node.chain().state().members().len();
        let permit = node.pool.permit(sender, weight, members);
        let permit = permit.ok_or_else(|| Problem::new(Slug::Unavailable))?;
        let parsed = web::block(move || {
            texts.retain(|text| node.pool.is_new(&txid(text)));
            let txs = texts.iter().map(|text| Tx::parse(text).map(Arc::new)).collect::<Result<_, _>>();
            txs.map(|txs| Relayed { txs, permit })
        });
        let parsed = parsed.await.map_err(|cancelled| Problem::internal(&cancelled))?;
        let relayed = parsed.map_err(|_form| malformed())?;
        let taken = relayed.txs.is_empty() || self.node.pool.relay(relayed);
        if taken { Ok(()) } else { Err(Problem::new(Slug::Unavailable)) }
    }
}
