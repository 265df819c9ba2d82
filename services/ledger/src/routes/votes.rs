//! What the members are about to decide, what they decided, and how the nodes stand.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, get, web};
use hbc_chain::memory::Chain;
use hbc_chain::secondary_index::PendingVote;
use hbc_consensus::MemberSet;
use hbc_service::{Problem, Public, paging};
use hbc_types::Digest;
use hbc_types::time::Timestamp;
use hbc_types::wire::Page;
use hbc_types::wire::explorer::{
    ChangeView, LastEventView, NodeView, NodesView, SubjectView, VoteView, VotesView,
};
use hbc_types::wire::ledger::{NodeRole, NodeState};
use paging::PageQuery;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::App;
use super::explorer::timestamp;

/// Bytes of a subject at most.
const MAX_SUBJECT_BYTES: usize = 100;

/// Which subject.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only this one, whether anybody has spoken on it or not.
    #[serde(default)]
    subject: Option<String>,
    /// Items on the page: 1 to 200, 50 unless given.
    #[serde(default)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectStart {
    from: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Older {
    older: usize,
}

fn subject_view(chain: &Chain, subject: &str, votes: Option<&BTreeMap<Digest, PendingVote>>) -> SubjectView {
    let members = chain.state().members();
    let votes = votes.into_iter().flatten();
    let votes = votes.map(|(txid, pending_vote)| VoteView {
        member: pending_vote.member.clone(),
        value: pending_vote.value.clone(),
        counts: members.iter().any(|member| member.kid() == pending_vote.kid),
        txid: *txid,
        height: pending_vote.height,
    });
    SubjectView { subject: subject.to_owned(), nonce: chain.state().changes(subject), votes: votes.collect() }
}

/// Pending votes of members, by subject.
#[utoipa::path(tag = "members", operation_id = "list_votes", security(()), params(Which),
    responses((status = 200, description = "A page of votes", body = VotesView)))]
#[get("/v1/votes")]
pub async fn list_votes(
    _public: Public,
    which: web::Query<Which>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let Which { subject, limit, cursor } = which.into_inner();
    let page = PageQuery { limit, cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let first = page.after::<SubjectStart>()?.map_or_else(String::new, |after| after.from);
    let chain = app.node.chain();
    let secondary_index = chain.secondary_index();
    let (subjects, next) = match subject {
        Some(subject) if subject.len() > MAX_SUBJECT_BYTES => {
            return Err(Problem::invalid("subject", "at most 100 bytes"));
        }
        Some(subject) => (vec![subject_view(&chain, &subject, secondary_index.pending_on(&subject))], None),
        None => {
            let mut rest = secondary_index.pending_from(&first);
            let views = rest.by_ref().take(limit);
            let views = views.map(|(subject, votes)| subject_view(&chain, subject, Some(votes))).collect();
            (views, rest.next().and_then(|(next, _)| paging::cursor(&SubjectStart { from: next.to_owned() })))
        }
    };
    let needed = u32::try_from(MemberSet::of(chain.state().members()).quorum()).unwrap_or(u32::MAX);
    Ok(HttpResponse::Ok().json(VotesView { needed, subjects, next }))
}

/// Changes of members, operators, parameters and services' keys, newest first.
#[utoipa::path(tag = "members", operation_id = "list_changes", security(()), params(PageQuery),
    responses((status = 200, description = "A page of changes, the newest first", body = Page<ChangeView>)))]
#[get("/v1/members/history")]
pub async fn history(
    _public: Public,
    query: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let limit = usize::try_from(query.limit()?).unwrap_or(usize::MAX);
    let chain = app.node.chain();
    let changes = chain.secondary_index().changes();
    let end = query.after::<Older>()?.map_or(changes.len(), |after| after.older.min(changes.len()));
    let first = end.saturating_sub(limit);
    let items = changes.get(first..end).unwrap_or_default().iter().rev().map(|changed| ChangeView {
        height: changed.height,
        time: timestamp(changed.time_ms),
        subject: changed.subject.clone(),
        value: changed.value.clone(),
        votes: changed.votes.clone(),
        txid: changed.txid,
    });
    let next = (first > 0).then(|| paging::cursor(&Older { older: first })).flatten();
    Ok(HttpResponse::Ok().json(Page { items: items.collect(), next }))
}

/// The nodes as this one hears them.
#[utoipa::path(tag = "node", operation_id = "list_nodes", security(()),
    responses((status = 200, description = "The nodes", body = NodesView)))]
#[get("/v1/nodes")]
pub async fn nodes(_public: Public, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(NodesView { nodes: app.nodes() }))
}

impl App {
    fn nodes(&self) -> Vec<NodeView> {
        let node = &self.node;
        let (members, height) = {
            let chain = node.chain();
            (chain.state().members().to_vec(), chain.height())
        };
        let mut views: BTreeMap<String, NodeView> = members
            .iter()
            .map(|member| (member.name.clone(), unheard(&member.name, NodeRole::Member)))
            .collect();
        for peer in node.book.all().iter() {
            let view =
                views.entry(peer.name.clone()).or_insert_with(|| unheard(&peer.name, NodeRole::Observer));
            let seen = peer.seen_ms();
            view.reached = peer.is_reached();
            view.attacked = peer.is_attacked();
            view.state = peer.is_attacked().then_some(NodeState::Attacked);
            view.height = (seen > 0).then(|| peer.height());
            view.seen = (seen > 0).then(|| Timestamp::from_ms(seen));
        }
        let own =
            views.entry(node.name().to_owned()).or_insert_with(|| unheard(node.name(), NodeRole::Observer));
        // Another key in the set under this node's name is somebody else's, or this node's older one.
        (own.this, own.reached, own.role) = (true, true, node.role());
        (own.height, own.seen) = (Some(height), Some(node.clock.now()));
        (own.attacked, own.state) = (node.attack().is_some(), Some(node.state()));
        let mut views: Vec<NodeView> = views.into_values().collect();
        for view in &mut views {
            view.url = node.book.url_of(&view.name);
        }
        let chain = node.chain();
        for view in &mut views {
            view.event = chain.secondary_index().event(&view.name).map(|happened| LastEventView {
                event: happened.event.clone(),
                about_height: happened.about_height,
                evidence: happened.evidence,
                txid: happened.txid,
                height: happened.height,
                time: timestamp(happened.time_ms),
            });
        }
        views
    }
}

fn unheard(name: &str, role: NodeRole) -> NodeView {
    NodeView {
        name: name.to_owned(),
        this: false,
        role,
        url: None,
        reached: false,
        height: None,
        seen: None,
        attacked: false,
        state: None,
        event: None,
    }
}
