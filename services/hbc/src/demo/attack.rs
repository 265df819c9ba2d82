//! One byte of a stored transaction is changed in one node's database: it is named, the others go on, the node heals.

use hbc_client::operations::ledger;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hbc_types::wire::access::GrantView;
use hbc_types::wire::ledger::TransactionState;
use hbc_types::wire::ledger::{
    BlockView, NodeState, NodeStatus, Promise, SubmitTransaction, TransactionView,
};

use super::consent;
use super::world::{Person, World};

/// The node whose file is edited.
const VICTIM: &str = "node-3";

/// Changes the byte, then sends one signed transaction to the victim and to the next node.
pub async fn one_byte(
    world: &mut World,
    doctor: &Person,
    patient: &Person,
    granted: &GrantView,
) -> Result<()> {
    world.console.step("Somebody edits one byte in the database file of one ledger node");
    let new = consent::small_grant(doctor)?;
    let second = consent::give(world, patient, &new).await?;
    let jws = consent::sign_revocation(world, patient, &second).await?;
    let height = granted.height.context("the first grant has no block")?;
    let block: BlockView = node(world, "node-1")?.to(ledger::read_block(height)).fetch().await?;
    let stored = block.transactions.first().context("the block is empty")?;
    let file = world.stack.deployment.data(VICTIM).join("ledger.db");
    let place = change_byte(&file, stored.as_bytes())?;
    let edited = std::time::Instant::now();
    world
        .console
        .fact("changed", format!("byte {place} of {VICTIM}/ledger.db (a consent in block {height})"));

    let body = SubmitTransaction { jws };
    let refused = node(world, VICTIM)?.to(ledger::submit_transaction()).once().json(&body).fetch().await;
    match refused {
        Ok(_) => bail!("{VICTIM} took a write over changed data"),
        Err(error) if error.status() == Some(503) => {
            world.console.fact("the next write there", format!("refused: {error}"));
        }
        Err(error) => return Err(error).context("the write failed in another way"),
    }
    let next = world.nodes.iter().find(|(name, _)| name != VICTIM).context("there is no other node")?;
    let promise: Promise = next.1.to(ledger::submit_transaction()).json(&body).fetch().await?;
    let height = finality(world, &next.1, &promise).await?;
    world.console.fact("the same write", format!("accepted by {}, final in block {height}", next.0));
    world.console.proves("the edited node names itself and takes no write; the other three go on");
    healed(world, edited).await?;
    show_nodes(world).await?;
    writes_again(world, patient, doctor).await
}

/// Waits until the victim is well again, and tells how.
async fn healed(world: &World, edited: std::time::Instant) -> Result<()> {
    let victim = node(world, VICTIM)?;
    let wait = async {
        loop {
            let status: NodeStatus = victim.to(ledger::read_status()).fetch().await?;
            if let (NodeState::Healthy, Some(healing)) = (status.state, status.last_healing) {
                return Ok::<_, anyhow::Error>(healing);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let wait = world.console.wait("waiting for the node to heal", wait);
    let healing = tokio::time::timeout(Duration::from_secs(60), wait).await.context("it does not heal")??;
    let from: Vec<&str> = healing.fetched_from.iter().map(|peer| peer.node.as_str()).collect();
    let seconds = |ms: u128| format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10);
    world.console.fact("found", &healing.evidence);
    world.console.fact(
        "healed",
        format!("{} block, {} bytes, from {}", healing.blocks_healed, healing.bytes_healed, from.join(", ")),
    );
    let took = seconds(u128::from(healing.took_ms));
    let whole = seconds(edited.elapsed().as_millis());
    world.console.fact("healed in", format!("{took}; well again {whole} after the edit"));
    Ok(())
}

/// The healed node takes a write, and it becomes final.
async fn writes_again(world: &mut World, patient: &Person, doctor: &Person) -> Result<()> {
    let third = consent::give(world, patient, &consent::small_grant(doctor)?).await?;
    let jws = consent::sign_revocation(world, patient, &third).await?;
    let victim = node(world, VICTIM)?.clone();
    let promise: Promise =
        victim.to(ledger::submit_transaction()).json(&SubmitTransaction { jws }).fetch().await?;
    let height = finality(world, &victim, &promise).await?;
    world.console.fact("the next write there", format!("accepted, final in block {height}"));
    world
        .console
        .proves("the node healed itself from the others, by their certificates, and takes part again");
    Ok(())
}

async fn finality(world: &World, node: &hbc_client::Endpoint, promise: &Promise) -> Result<u64> {
    let wait = async {
        loop {
            let view: TransactionView = node.to(ledger::read_transaction(promise.txid)).fetch().await?;
            if view.state == TransactionState::Final {
                return Ok::<_, anyhow::Error>(view.height.unwrap_or(0));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let wait = world.console.wait("waiting for the block", wait);
    tokio::time::timeout(Duration::from_secs(60), wait).await.context("no block")?
}

fn node<'a>(world: &'a World, name: &str) -> Result<&'a hbc_client::Endpoint> {
    world.nodes.iter().find(|(node, _)| node == name).map(|(_, node)| node).context("no such node")
}

/// Finds the transaction inside its stored block and changes one letter of its payload.
fn change_byte(file: &Path, transaction: &[u8]) -> Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    // In a block each transaction follows its length; elsewhere (a promise kept before) it does not. Its first part is
    // enough to find it: the rest may lie on another page.
    let mut needle = u32::try_from(transaction.len())?.to_be_bytes().to_vec();
    let payload = transaction.iter().position(|byte| *byte == b'.').context("no compact JWS")?;
    needle.extend_from_slice(transaction.get(..payload + 64).context("the transaction is too short")?);
    // Unused parts of pages may keep older copies: all are changed.
    let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
    let places: Vec<usize> = places.map(|(start, _)| start + needle.len() - 1).collect();
    let first = places.first().copied();
    let first = first.context("the transaction is not in the file (is it still in the write-ahead log?)")?;
    let old = bytes.get(first).copied().context("no such byte")?;
    let new = if old == b'A' { b'B' } else { b'A' };
    let file = std::fs::File::options().write(true).open(file).context("cannot open the database file")?;
    for place in places {
        file.write_all_at(&[new], u64::try_from(place)?).context("cannot change the byte")?;
    }
    file.sync_all().context("cannot write the change")?;
    Ok(first)
}

/// All nodes, healthy and with one tip.
async fn show_nodes(world: &World) -> Result<()> {
    let wait = async {
        loop {
            let mut all = Vec::new();
            for (_, node) in &world.nodes {
                all.push(node.to(ledger::read_status()).fetch().await?);
            }
            let first = all.first().context("there is no node")?;
            if all.iter().all(|status| status.state == NodeState::Healthy && status.tip == first.tip) {
                return Ok::<_, anyhow::Error>(all);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let wait = world.console.wait("waiting for one tip", wait);
    let all =
        tokio::time::timeout(Duration::from_secs(60), wait).await.context("the tips stay different")??;
    for status in &all {
        let tip = status.tip.to_string();
        let tip = tip.get(..16).unwrap_or_default();
        world.console.fact(&status.node, format!("{} at height {}, tip {tip}…", status.state, status.height));
    }
    Ok(())
}
