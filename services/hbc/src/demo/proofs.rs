//! A receipt's and a record's proof go into files; `hbc verify` checks them with every server out of reach.

use hbc_client::operations::{access_policy, storage};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hbc_types::wire::access::AccessView;
use hbc_types::wire::storage::RecordView;

use super::world::{Person, World};

/// Writes both proofs and checks them, whole and with one bit changed.
pub async fn check_offline(
    world: &mut World,
    patient: &Person,
    access: &AccessView,
    record: &RecordView,
) -> Result<()> {
    world.console.step("One receipt and one record are proven offline, with public keys only");
    let receipt = world.access.to(access_policy::get_access_proof(&access.receipt.id));
    let record_proof = world.storage.to(storage::get_record_proof(&record.id));
    for (name, call) in [("receipt.json", receipt), ("record.json", record_proof)] {
        let call = patient.signs(call).deadline(Duration::from_secs(60));
        let proof = call.send().await.with_context(|| format!("no proof for {name}"))?.body;
        let file = world.stack.home().join(name);
        std::fs::write(&file, &proof).context("cannot write a proof")?;
        check_file(world, name, &file, &proof).await?;
    }
    world
        .console
        .proves("whoever holds a proof and genesis.json needs no server of ours; one changed bit shows");
    Ok(())
}

async fn check_file(world: &World, name: &str, file: &Path, proof: &[u8]) -> Result<()> {
    let genesis = world.stack.deployment.genesis();
    let (code, said) = verify(world, Some(&genesis), file).await?;
    if code != 0 {
        bail!("`hbc verify` refused {name}: {said}");
    }
    world.console.fact(name, format!("{} bytes: {said}", proof.len()));
    let (code, _) = verify(world, None, file).await?;
    if code != 3 {
        bail!("without --trust `hbc verify` ended with {code}, not 3");
    }
    let mut changed = proof.to_vec();
    let place = changed_place(proof).context("the proof holds no hash")?;
    if let Some(byte) = changed.get_mut(place) {
        *byte ^= 1;
    }
    let copy = file.with_extension("changed.json");
    std::fs::write(&copy, changed).context("cannot write a copy")?;
    let (code, said) = verify(world, Some(&genesis), &copy).await?;
    if code != 1 {
        bail!("a copy of {name} with one bit changed was not refused ({code}: {said})");
    }
    world.console.fact("with one bit changed", format!("refused: {said}"));
    Ok(())
}

/// Somewhere in the middle, inside a hex digit or letter that stays one: the change must be seen by its meaning, not by
/// broken JSON.
fn changed_place(proof: &[u8]) -> Option<usize> {
    let digits = proof.iter().enumerate().skip(proof.len() / 2);
    digits.filter(|(_, byte)| matches!(byte, b'2'..=b'7')).map(|(place, _)| place).next()
}

async fn verify(world: &World, trust: Option<&Path>, file: &Path) -> Result<(i32, String)> {
    let file = file.to_string_lossy();
    let genesis = trust.map(|path| path.to_string_lossy().into_owned());
    let mut args = vec!["verify"];
    if let Some(genesis) = &genesis {
        args.extend(["--trust", genesis]);
    }
    args.push(&file);
    let output = world.stack.hbc(&args).await?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    Ok((output.status.code().unwrap_or(-1), said))
}
