//! Who decides at the next height, and by which numbers.

use actix_web::{HttpResponse, get, web};
use hbc_chain::genesis::Named;
use hbc_chain::memory::Chain;
use hbc_service::{Problem, Public};
use hbc_types::wire::explorer::{NetworkView, ParametersView, PartyView, ServiceView};

use super::App;

fn parameters(chain: &Chain) -> ParametersView {
    let parameters = chain.state().parameters();
    // The parameters were checked when they were set.
    let target = parameters.target().unwrap_or(chain.tip().target);
    ParametersView {
        approvals: parameters.approvals,
        heartbeat_ms: parameters.heartbeat_ms,
        max_block_bytes: parameters.max_block_bytes,
        min_spacing_ms: parameters.min_spacing_ms,
        target: parameters.target,
        zero_bits: target.zero_bits(),
    }
}

fn parties(list: &[Named]) -> Vec<PartyView> {
    let view =
        |party: &Named| PartyView { name: party.name.clone(), kid: party.kid(), key: party.key.to_string() };
    list.iter().map(view).collect()
}

fn services(chain: &Chain) -> Vec<ServiceView> {
    let entries = chain.secondary_index().services().iter();
    let entries = entries.filter_map(|kid| chain.state().service(kid).map(|entry| (kid, entry)));
    let view = entries.map(|(kid, entry)| ServiceView {
        role: entry.role.to_string(),
        kid: *kid,
        key: entry.public.to_string(),
        status: entry.status.to_string(),
    });
    view.collect()
}

/// Members, operators, services' keys and parameters of the next height.
#[utoipa::path(tag = "members", operation_id = "read_network", security(()),
    responses((status = 200, description = "The network as this node sees it", body = NetworkView)))]
#[get("/v1/network")]
pub async fn network(_public: Public, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let chain = app.node.chain();
    Ok(HttpResponse::Ok().json(NetworkView {
        chain: chain.id(),
        origin: chain.origin().to_owned(),
        height: chain.height(),
        parameters: parameters(&chain),
        members: parties(chain.state().members()),
        operators: parties(chain.state().operators()),
        services: services(&chain),
    }))
}
