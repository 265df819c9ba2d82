//! The store of a node that starts: opened, and read from the first block on, everything verified. What is wrong is a fault
//! that the node starts with, as attacked; what cannot be read just now keeps it from starting.

use std::path::Path;

use anyhow::Context as _;
use hbc_chain::checkpoint::Certificate as Note;
use hbc_chain::genesis::Genesis;
use hbc_chain::header::{Block, HEADER_BYTES};
use hbc_chain::memory::Chain;
use hbc_chain::verification::{Fault, Verifier, Wrong};
use hbc_service::config::SecretFile;

use super::guardian::fault_beside;
use crate::config::Config;
use crate::domain::healing::{Unfit, restore};
use crate::files::DataFolder;
use crate::store::{MacKey, ReadAhead, Store, StoreError, StoredBlock, recover_checksums};

/// Blocks read at once.
const BLOCKS_PER_READ: u32 = 256;

/// What was read from disk.
pub(super) struct Loaded {
    pub(super) chain: Chain,
    pub(super) fault: Option<Fault>,
}

/// The founding document.
pub(super) fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Genesis::parse(&bytes)?)
}

/// The key of the rows' MACs: the newest; what the one before authenticated holds as well while both are configured.
pub(crate) fn mac_key(config: &Config) -> anyhow::Result<MacKey> {
    let key = config.key_file.signing_key().context("the member's key")?;
    let next = config.next_key_file.as_ref().map(SecretFile::signing_key).transpose();
    let next = next.context("the member's next key")?;
    Ok(match next {
        Some(next) => MacKey::of(&next).or_by(&key),
        None => MacKey::of(&key),
    })
}

/// Opens the database. One that is there but cannot be read, or is gone although there were blocks, is an attack,
/// not a reason not to start.
pub(super) async fn open_store(
    data: &DataFolder,
    create: bool,
    log_floor: u64,
    mac: MacKey,
) -> anyhow::Result<(Store, Option<Fault>)> {
    let path = data.database();
    let existed = path.try_exists()?;
    let had_blocks = log_floor > 1 || data.checkpoint()?.is_some() || data.attack_mark()?.is_some();
    if !existed && had_blocks {
        let gone = Fault { height: 0, wrong: Wrong::Missing };
        return Ok((Store::substitute(&path, mac).await?, Some(gone)));
    }
    match Store::open(&path, create, mac.clone()).await {
        Ok(store) => Ok((store, None)),
        Err(error) if existed && error.is_damage() => {
            tracing::error!(error = %error, "The database cannot be opened");
            let wrong = match error {
                StoreError::Shape(_) => Wrong::Schema,
                StoreError::Row(table) => Wrong::Row(table),
                StoreError::Journal => {
                    recover_checksums(&path)?;
                    Wrong::Journal
                }
                StoreError::Sql(_) | StoreError::Io(_) => Wrong::Unreadable,
            };
            Ok((Store::substitute(&path, mac).await?, Some(Fault { height: 0, wrong })))
        }
        Err(error) => Err(error).context("the ledger's database"),
    }
}

/// Reads the whole chain, verifying everything, and compares it with the checkpoint file.
pub(super) async fn load(store: &Store, data: &DataFolder, founded: Chain) -> anyhow::Result<Loaded> {
    let checkpoint = data.checkpoint()?;
    let mut chain = founded;
    let verification = store.verification().await?;
    let beside = match fault_beside(store, 0).await {
        Ok(fault) => fault,
        Err(error) if error.is_damage() => Some(Fault { height: 0, wrong: Wrong::Unreadable }),
        Err(error) => return Err(error).context("the ledger's database"),
    };
    let (blocks, within) = read_blocks(store, &mut chain).await?;
    let fault = within.or_else(|| check_tip(&chain, checkpoint.as_deref()));
    if let (Some(_), Some(beside)) = (fault, beside) {
        tracing::error!(fault.what = %beside.wrong, "The store was changed beside its blocks too");
    }
    let mut fault = fault.or(beside);
    if fault.is_none() {
        let unsound = store.take_inventory().await?;
        fault = unsound.map(|unsound| Fault { height: 0, wrong: Wrong::from(unsound) });
    }
    if fault.is_none() {
        verification.accept();
        if blocks == 0 {
            store_block_zero(store, &chain).await?;
        }
    }
    Ok(Loaded { chain, fault })
}

/// Continues the chain by all stored blocks. Answers how many are good, and what is wrong with the next one.
async fn read_blocks(store: &Store, chain: &mut Chain) -> anyhow::Result<(u64, Option<Fault>)> {
    let mut verifier = Verifier::new(&[]);
    let mut pieces = ReadAhead::begin(store.blocks(0).await?, BLOCKS_PER_READ);
    loop {
        let next = verifier.next_height();
        let blocks = match pieces.next().await {
            Ok(blocks) => blocks,
            Err(error) if error.is_damage() => {
                tracing::error!(error = %error, block.height = next, "The store cannot be read");
                return Ok((next, Some(Fault { height: next, wrong: Wrong::Unreadable })));
            }
            Err(error) => return Err(error).context("the ledger's database"),
        };
        if blocks.is_empty() {
            return Ok((next, None));
        }
        for block in &blocks {
            if let Err(fault) = take(chain, &mut verifier, block) {
                return Ok((fault.height, Some(fault)));
            }
        }
    }
}

/// Continues the chain by a stored row. Its own hashes name what is wrong most exactly, so they are looked at first; then
/// whether it is the next block, certified as each is served as a proof.
fn take(chain: &mut Chain, verifier: &mut Verifier<'_>, stored: &StoredBlock) -> Result<(), Fault> {
    let header = verifier.check(stored.height, &stored.header, &stored.body, &mut |_| {})?;
    let fault = |wrong| Fault { height: stored.height, wrong };
    if stored.height == 0 {
        let same = header.hash() == chain.id() && stored.certificate.is_empty();
        return if same { Ok(()) } else { Err(fault(Wrong::Hash)) };
    }
    restore(chain, None, &stored.header, &stored.body, &stored.certificate).map_err(|unfit| {
        tracing::error!(error = %unfit, block.height = stored.height, "A stored block does not hold");
        fault(match unfit {
            Unfit::Height => Wrong::Missing,
            Unfit::Form(error) => Wrong::Header(error),
            Unfit::Another => Wrong::Hash,
            Unfit::Certificate(_) | Unfit::Statement => Wrong::Certificate,
            Unfit::Block(_) => Wrong::Transactions,
        })
    })
}

/// The certificates pin every block; the checkpoint file pins the tip itself.
fn check_tip(chain: &Chain, checkpoint: Option<&str>) -> Option<Fault> {
    let fault = |height, wrong| Some(Fault { height, wrong });
    let checkpoint = checkpoint?;
    let Ok(Note { checkpoint, .. }) = Note::parse(checkpoint) else {
        return fault(chain.height(), Wrong::Certificate);
    };
    if checkpoint.height > chain.height() {
        return fault(chain.height() + 1, Wrong::Missing);
    }
    let stored = usize::try_from(checkpoint.height).ok().and_then(|index| chain.hashes().get(index));
    if stored == Some(&checkpoint.block) { None } else { fault(checkpoint.height, Wrong::Hash) }
}

async fn store_block_zero(store: &Store, chain: &Chain) -> Result<(), StoreError> {
    let block = Block { header: *chain.tip(), transactions: Vec::new() };
    let mut header = block.to_bytes();
    let body = header.split_off(HEADER_BYTES);
    store.commit(&StoredBlock { height: 0, header, body, certificate: String::new() }, &[]).await
}
