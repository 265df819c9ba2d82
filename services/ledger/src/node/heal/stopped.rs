//! Healing of a node that is stopped, and the making anew of everything that is derived from blocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use hbc_chain::certificate::AddressClaims;
use hbc_chain::genesis::Genesis;
use hbc_chain::memory::Chain;
use hbc_chain::payload::{NodeEvent, Payload};
use hbc_chain::tx;
use hbc_consensus::MemberId;
use hbc_types::{Clock, Digest};

use super::new_database::build;
use super::progress::Board;
use super::site::{Site, finish};
use super::sources::HealSource;
use super::{install, resume, verify};
use crate::config::Config;
use crate::files::{AttackMark, DataFolder, HealingRecord};
use crate::node::addresses::endpoint;
use crate::node::loading::{self, mac_key, read_genesis};
use crate::node::peer_book::submit;
use crate::wal::look;

/// What healing led to: every root, derived anew from the blocks.
#[derive(Clone, Debug)]
pub struct Healed {
    /// The tip's height.
    pub height: u64,
    /// Hash of its header.
    pub tip: Digest,
    /// Leaves of the log.
    pub log_size: u64,
    /// Its root.
    pub log_root: Digest,
    /// Root of the state after the tip, and what it is made of.
    pub state_root: Digest,
    /// Root of the state map.
    pub map: Digest,
    /// Root over the anchors.
    pub anchors: Digest,
    /// Root of the R-tree's pages.
    pub pages: Digest,
    /// What was done.
    pub record: HealingRecord,
}

/// Heals the store of a node that does not run: its folder is locked meanwhile. Waits for peers where only they
/// have a block; `board` shows what it does.
///
/// # Errors
/// When the node runs, or files or configuration cannot be used.
pub async fn heal(config: &Config, clock: &Clock, board: Arc<Board>) -> anyhow::Result<Healed> {
    let began = Instant::now();
    let genesis = read_genesis(&config.genesis_file)?;
    let key = config.key_file.signing_key().context("the member's key")?;
    let data = DataFolder::open(&config.data_dir).context("the data folder")?;
    let _lock = data.lock().await.context("the node is running; stop it first")?;
    let log = look(&data.wal()).context("the write-ahead log")?;
    let before = resume::tip_beside(&data)?;
    let (store, fault) = loading::open_store(&data, true, log.floor, mac_key(config)?).await?;
    let earlier = data.attack_mark()?;
    let mark = earlier.clone().unwrap_or_else(|| AttackMark {
        first_bad_height: fault.map_or(0, |fault| fault.height),
        evidence: fault.map_or_else(|| "healing was asked for".to_owned(), |fault| fault.to_string()),
        found_at_ms: clock.now().ms(),
    });
    // Killed from here on, the node resumes healing by itself when it starts.
    data.mark_attacked(&mark)?;
    let site = Site {
        genesis: &genesis,
        data: &data,
        store: &store,
        known: Vec::new(),
        promised: Vec::new(),
        sources: sources(config, &genesis, &data)?,
        clock,
        board: &board,
        mark: &mark,
    };
    let new_database = build(&site).await?;
    let chain = install::install(&site, new_database).await?;
    verify::verify(&site, &chain).await?;
    resume::advance_log(&data, &log, before, chain.height()).context("the write-ahead log")?;
    let record = finish(&site, &chain, began).await?;
    if earlier.is_some() || fault.is_some() {
        tell(&site, &chain, config, &key, &record).await;
    }
    store.close().await?;
    let roots = chain.state().roots();
    Ok(Healed {
        height: chain.height(),
        tip: chain.tip_hash(),
        log_size: chain.log().size(),
        log_root: chain.log().root(),
        state_root: chain.tip().state_root,
        map: roots.map,
        anchors: roots.anchors,
        pages: roots.pages,
        record,
    })
}

/// Whoever the configuration names, and whoever announced an address while the node ran: who joined by one peer knows the
/// others from there. What they give proves itself, so that nothing else of an announcement matters here.
fn sources(config: &Config, genesis: &Genesis, data: &DataFolder) -> anyhow::Result<Vec<HealSource>> {
    let announced = data.addresses()?;
    let announced = announced.iter().filter_map(|text| AddressClaims::stated(text).ok());
    let configured = config.peers.iter().map(|peer| (peer.name.clone(), peer.url.clone()));
    let addresses: BTreeSet<(String, String)> =
        configured.chain(announced.map(|claims| (claims.node, claims.url))).collect();
    let others = addresses.into_iter().filter(|(name, _)| *name != config.name);
    let source = |(name, url): (String, String)| {
        let member = genesis.members.iter().find(|member| member.name == name);
        let id = member.map(|member| MemberId(*member.kid().as_bytes()));
        endpoint(&url).map(|endpoint| HealSource { id, name, endpoint, reader: None })
    };
    Ok(others.filter_map(source).collect())
}

/// The others learn of it from whoever can be reached now.
async fn tell(
    site: &Site<'_>,
    chain: &Chain,
    config: &Config,
    key: &ed25519_dalek::SigningKey,
    record: &HealingRecord,
) {
    let event = Payload::NodeEvent(NodeEvent {
        chain: chain.id(),
        event: "healed".to_owned(),
        evidence: record.digest(),
        height: record.mark.first_bad_height,
        iat: u64::try_from(record.healed_at_ms).unwrap_or(0),
        node: config.name.clone(),
    });
    let Ok(jws) = tx::sign(key, &event) else { return };
    for source in &site.sources {
        if submit(&source.endpoint, &jws).await {
            return;
        }
    }
    tracing::warn!("No peer could be told of healing");
}
