//! Facility bundles and the patient's bundle go in, unmodified; what lies in IPFS is shown to be ciphertext.

use hbc_client::operations::{ledger, storage};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hbc_types::Digest;
use hbc_types::wire::ledger::BlockView;
use hbc_types::wire::storage::{AnchorState, RecordPage, RecordView};
use serde_json::Value;

use super::world::{Person, World};

const HOSPITALS: &[u8] = include_bytes!("../../data/synthea/0-hospitalInformation1625911868739.json.bz2");
const PRACTITIONERS: &[u8] =
    include_bytes!("../../data/synthea/0-practitionerInformation1625911868739.json.bz2");
const PATIENT: &[u8] = include_bytes!("../../data/synthea/098fc002-b87e-49dc-4b8e-8900a1bc8661.json.bz2");

/// How long one bundle may take on a slow machine.
const UPLOAD_LIMIT: Duration = Duration::from_secs(300);

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bzip2_rs::DecoderReader::new(packed).read_to_end(&mut bytes).context("a bundle cannot be unpacked")?;
    Ok(bytes)
}

/// The bundles of hospitals and practitioners, by the operator, into the directory.
pub async fn upload_directory(world: &mut World, operator: &Person) -> Result<()> {
    world.console.step("The operator uploads Synthea's facility bundles into the directory");
    for (name, packed) in [("hospitals and locations", HOSPITALS), ("practitioners", PRACTITIONERS)] {
        let count = upload(world, operator, name, "dir", unpack(packed)?).await?;
        if count == 0 {
            bail!("nothing of the {name} went in");
        }
    }
    world.console.proves("real FHIR batches with conditional creates go in as they are");
    Ok(())
}

/// The patient's own bundle; answers all records, final on the ledger.
pub async fn upload_patient(world: &mut World, patient: &Person) -> Result<Vec<RecordView>> {
    world
        .console
        .step("The patient uploads her bundle: a life of laboratory results, visits and prescriptions");
    let id = patient.patient()?;
    let uploaded = upload(world, patient, "the patient's bundle", id.as_str(), unpack(PATIENT)?).await?;
    let records = wait_until_final(world, patient).await?;
    if records.len() != uploaded {
        bail!("{uploaded} resources went in, {} records are listed", records.len());
    }
    let mut segments: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        *segments.entry(&record.cid).or_default() += 1;
    }
    for (cid, count) in &segments {
        world.console.fact("IPFS object", format!("{cid}  ({count} records)"));
    }
    let height = records.iter().filter_map(|record| record.height).max().context("no record has a block")?;
    show_block(world, height).await?;
    world
        .console
        .proves("every record is encrypted under a key of its own, pinned, and anchored in a final block");
    Ok(records)
}

/// Posts a bundle and counts what it made.
async fn upload(world: &World, person: &Person, name: &str, owner: &str, bundle: Vec<u8>) -> Result<usize> {
    let began = Instant::now();
    let bytes = bundle.len();
    let call = world.storage.to(storage::fhir_bundle()).idempotency_key(&world.key()).once();
    let call = call.header("hbc-patient", owner).body("application/fhir+json", bundle).deadline(UPLOAD_LIMIT);
    let label = format!("uploading {name}");
    let answer = world.console.wait(&label, person.signs(call).send()).await;
    let answer = answer.with_context(|| format!("the upload of {name} failed"))?;
    let answer: Value = serde_json::from_slice(&answer.body).context("the answer is no JSON")?;
    let entries = answer.get("entry").and_then(Value::as_array).context("the answer is no bundle")?;
    let good = entries.iter().filter(|entry| {
        let status = entry.pointer("/response/status").and_then(Value::as_str).unwrap_or_default();
        status.starts_with("20")
    });
    let (good, all) = (good.count(), entries.len());
    if good != all {
        bail!("{} of {all} entries of {name} were refused", all - good);
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(all)?) / seconds;
    world
        .console
        .fact(name, format!("{all} resources, {} kB, {seconds:.1} s ({rate:.0} a second)", bytes / 1000));
    Ok(all)
}

/// All records of the caller (or of a patient who lets the caller see them).
pub async fn list(
    world: &World,
    person: &Person,
    patient: &str,
    purpose: &str,
) -> Result<Vec<RecordView>, hbc_client::ClientError> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let mut query = format!("patient={patient}&limit=1000");
        if let Some(cursor) = &cursor {
            query = format!("{query}&cursor={cursor}");
        }
        let call = world
            .storage
            .to(storage::list_records().with(query))
            .header("hbc-purpose", purpose)
            .deadline(Duration::from_secs(60));
        let page: RecordPage = person.signs(call).fetch().await?;
        all.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

async fn wait_until_final(world: &World, patient: &Person) -> Result<Vec<RecordView>> {
    let id = patient.patient()?;
    let wait = async {
        loop {
            let records = list(world, patient, id.as_str(), "PATRQT").await?;
            if records.iter().all(|record| record.anchor == AnchorState::Final) {
                return Ok::<_, anyhow::Error>(records);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let limit = Duration::from_secs(120);
    let wait = world.console.wait("waiting for the anchors' blocks", wait);
    tokio::time::timeout(limit, wait).await.context("the anchors do not become final")?
}

/// Tells what stands behind one block.
async fn show_block(world: &World, height: u64) -> Result<()> {
    let (name, node) = world.nodes.first().context("there is no ledger node")?;
    let block: BlockView = node.to(ledger::read_block(height)).fetch().await?;
    let zeros = leading_zero_bits(&block.hash);
    let signatures = block.certificate.lines().filter(|line| line.starts_with('\u{2014}')).count();
    world.console.fact("block height", format!("{height} (as {name} shows it)"));
    world.console.fact("block hash", format!("{}  {zeros} leading zero bits", block.hash));
    let members = world.nodes.len();
    world.console.fact("signatures on the checkpoint", format!("{signatures} of {members} members"));
    if signatures * 3 <= members * 2 {
        bail!("{signatures} signatures are no certificate");
    }
    Ok(())
}

fn leading_zero_bits(hash: &Digest) -> u32 {
    let mut bits = 0;
    for byte in hash.as_bytes() {
        bits += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    bits
}

/// `ipfs cat` of a segment, as anybody with the daemon's token can do it.
pub async fn show_ciphertext(world: &mut World, records: &[RecordView]) -> Result<()> {
    world.console.step("Somebody with full access to the IPFS daemon looks at the patient's object");
    let record = records.first().context("there is no record")?;
    let settings = world.stack.settings.kubo.as_ref().context("there is no Kubo here")?;
    let path = world.stack.deployment.secret("kubo.token");
    let token = std::fs::read_to_string(path).context("cannot read Kubo's token")?;
    let output = tokio::process::Command::new(&settings.program)
        .args(["--api", &format!("/ip4/127.0.0.1/tcp/{}", settings.api_port)])
        .args(["--api-auth", &format!("bearer:{}", token.trim()), "cat", &record.cid])
        .envs(crate::kubo::environment(&world.stack.deployment.kubo()))
        .output()
        .await
        .context("cannot run `ipfs cat`")?;
    if !output.status.success() {
        bail!("`ipfs cat` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let bytes = output.stdout;
    let entropy = entropy_bits_per_byte(&bytes);
    let head: Vec<u8> = bytes.iter().take(24).copied().collect();
    world.console.fact("ipfs cat", format!("{}…", record.cid.chars().take(40).collect::<String>()));
    world.console.fact("first bytes", hex::encode(head));
    world.console.fact("entropy", format!("{entropy:.3} bits a byte over {} bytes", bytes.len()));
    for word in ["resourceType", "Patient", "Stiedemann", "loinc.org"] {
        if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
            bail!("the object holds `{word}` in clear");
        }
    }
    if entropy < 7.9 {
        bail!("the object does not look encrypted");
    }
    world.console.proves("what lies in IPFS is ciphertext: no name, no code, no structure");
    Ok(())
}

fn entropy_bits_per_byte(bytes: &[u8]) -> f64 {
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    for byte in bytes {
        *counts.entry(*byte).or_default() += 1;
    }
    let all = counts.values().map(|count| f64::from(*count)).sum::<f64>();
    counts.values().map(|count| f64::from(*count) / all).map(|share| -share * share.log2()).sum()
}

/// The received bytes of the patient's observations, as the bundle holds them, for comparison.
pub fn bundle_text() -> Result<String> {
    String::from_utf8(unpack(PATIENT)?).context("the bundle is not UTF-8")
}
