//! One byte of a stored transaction is changed in one node's database: it is named, the others go on.

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
    let block: BlockView = node(world, "node-1")?.get(&format!("/v1/blocks/{height}")).fetch().await?;
    let stored = block.transactions.first().context("the block is empty")?;
    let file = world.stack.deployment.data(VICTIM).join("ledger.db");
    let place = change_byte(&file, stored.as_bytes())?;
    world
        .console
        .fact("changed", format!("byte {place} of {VICTIM}/ledger.db (a consent in block {height})"));

    let body = SubmitTransaction { jws };
    let refused = node(world, VICTIM)?.post("/v1/transactions").once().json(&body).fetch::<Promise>().await;
    match refused {
        Ok(_) => bail!("{VICTIM} took a write over changed data"),
        Err(error) if error.status() == Some(503) => {
            world.console.fact("the next write there", format!("refused: {error}"));
        }
        Err(error) => return Err(error).context("the write failed in another way"),
    }
    let next = world.nodes.iter().find(|(name, _)| name != VICTIM).context("there is no other node")?;
    let promise: Promise = next.1.post("/v1/transactions").json(&body).fetch().await?;
    let path = format!("/v1/transactions/{}", promise.txid);
    let wait = async {
        loop {
            let view: TransactionView = next.1.get(&path).fetch().await?;
            if view.state == TransactionState::Final {
                return Ok::<_, anyhow::Error>(view.height);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let wait = world.console.wait("waiting for the block", wait);
    let height = tokio::time::timeout(Duration::from_secs(60), wait).await.context("no block")??;
    world
        .console
        .fact("the same write", format!("accepted by {}, final in block {}", next.0, height.unwrap_or(0)));
    show_nodes(world).await?;
    world.console.proves("the edited node names itself, votes and writes no more; the other three go on");
    Ok(())
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
    let start = bytes.windows(needle.len()).position(|window| window == needle);
    let start = start.context("the transaction is not in the file (is it still in the write-ahead log?)")?;
    let place = start + needle.len() - 1;
    let old = bytes.get(place).copied().context("no such byte")?;
    let new = if old == b'A' { b'B' } else { b'A' };
    let file = std::fs::File::options().write(true).open(file).context("cannot open the database file")?;
    file.write_all_at(&[new], u64::try_from(place)?).context("cannot change the byte")?;
    file.sync_all().context("cannot write the change")?;
    Ok(place)
}

async fn show_nodes(world: &World) -> Result<()> {
    let mut tips = Vec::new();
    for (name, node) in &world.nodes {
        let status: NodeStatus = node.get("/v1/status").fetch().await?;
        let detail = status.evidence.clone().unwrap_or_default();
        world.console.fact(name, format!("{} at height {} {detail}", status.state, status.height));
        match (name.as_str() == VICTIM, status.state) {
            (true, NodeState::Attacked) => {}
            (true, state) => bail!("{VICTIM} says {state}, not attacked"),
            (false, NodeState::Healthy) => tips.push(status.height),
            (false, state) => bail!("{name} says {state}"),
        }
    }
    Ok(())
}
