//! Who this node is and how it stands. An attacked node still answers here.

use actix_web::{HttpResponse, get, web};
use hbc_chain::events::Told;
use hbc_chain::memory::Chain;
use hbc_consensus::MemberSet;
use hbc_service::{Problem, Public};
use hbc_types::secret::Bytes;
use hbc_types::wire::ledger::{MemberView, MembersView, NodeEventView, NodeStatus};

use super::App;
use crate::files::AttackMark;

/// Events shown.
const MAX_EVENTS: usize = 32;

/// genesis.json, the founding document of the chain.
#[utoipa::path(tag = "node", operation_id = "read_genesis", security(()),
    responses((status = 200, content_type = "application/json", description = "genesis.json, canonical")))]
#[get("/v1/genesis")]
pub async fn genesis(_public: Public, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().content_type("application/json").body(app.node.genesis_text.clone()))
}

/// The members of the next height.
#[utoipa::path(tag = "node", operation_id = "list_members", security(()),
    responses((status = 200, description = "The members", body = MembersView)))]
#[get("/v1/members")]
pub async fn members(_public: Public, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let members = app.node.chain().state().members().to_vec();
    let members = members
        .iter()
        .map(|member| MemberView {
            name: member.name.clone(),
            kid: member.kid(),
            key: Bytes::new(member.key.as_bytes().to_vec()),
            url: app.node.book.url_of(&member.name),
        })
        .collect();
    Ok(HttpResponse::Ok().json(MembersView { members }))
}

/// How this node stands: its tip, its store, the members it hears.
#[utoipa::path(tag = "node", operation_id = "read_status", security(()),
    responses((status = 200, description = "How the node stands", body = NodeStatus)))]
#[get("/v1/status")]
pub async fn status(_public: Public, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(app.status()))
}

impl App {
    fn status(&self) -> NodeStatus {
        let node = &self.node;
        let pending = node.mempool().len();
        let attack = node.attack();
        let attacked_peers =
            node.book.all().iter().filter(|peer| peer.is_attacked()).map(|peer| peer.name.clone()).collect();
        let (verified_at, scrub) = {
            let condition = node.guard.condition();
            (condition.verified_at, condition.scrub)
        };
        let chain = node.chain();
        let set = MemberSet::of(chain.state().members());
        NodeStatus {
            node: node.name().to_owned(),
            chain: node.chain_id(),
            role: node.role(),
            state: node.state(),
            height: chain.height(),
            tip: chain.tip_hash(),
            log_size: chain.log().size(),
            pending: u64::try_from(pending).unwrap_or(u64::MAX),
            members_seen: u32::try_from(node.members_seen()).unwrap_or(u32::MAX),
            members: u32::try_from(set.len()).unwrap_or(u32::MAX),
            quorum: node.members_seen() >= set.quorum(),
            verify: node.guard.mode().as_str().to_owned(),
            first_bad_height: attack.as_ref().map(|mark| mark.first_bad_height),
            evidence_digest: attack.as_ref().map(AttackMark::digest),
            evidence: attack.map(|mark| mark.evidence),
            last_full_verification: verified_at,
            scrub_period_s: node.guard.scrub_period().as_secs(),
            scrub_blocks: scrub.blocks,
            last_full_scrub: scrub.finished_at,
            healing: node.attack().map(|_mark| node.healing.view()),
            last_healing: node.healing.last(),
            attacked_peers,
            events: events(&chain),
        }
    }
}

fn events(chain: &Chain) -> Vec<NodeEventView> {
    let took_effect = chain.events().iter().filter_map(|told| told.took_effect.map(|block| (told, block)));
    let mut latest: Vec<_> =
        took_effect.rev().take(MAX_EVENTS).map(|(told, block)| event_view(told, block)).collect();
    latest.reverse();
    latest
}

/// An event that counts since this block.
pub(super) fn event_view(told: &Told, block: u64) -> NodeEventView {
    NodeEventView {
        node: told.event.node.clone(),
        event: told.event.event.clone(),
        height: told.event.height,
        evidence: told.event.evidence,
        block,
    }
}
