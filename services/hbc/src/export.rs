//! `hbc export`: a whole chain into one file, block by block, whatever its size. What was written is for `hbc verify` to
//! check; here only heights are compared. The file has its name only once it is whole and on disk.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hbc_chain::file::ChainWriter;
use hbc_chain::genesis::Genesis;
use hbc_chain::header::Block;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_db::disk;
use hbc_ledger::files::DataFolder;
use hbc_ledger::store::BlockReader;
use hbc_types::wire::ledger::BlocksView;

use crate::cli::Export;

/// Blocks asked for at once.
const BLOCKS_PER_PAGE: u32 = 100;
/// Blocks read from a database at once; their bytes are bounded beside it.
const BLOCKS_PER_READ: u32 = 256;
/// A page of blocks takes longer than an ordinary answer.
const DEADLINE: Duration = Duration::from_mins(1);

type Writer = ChainWriter<BufWriter<File>>;

/// Exports, and says what was written.
pub async fn run(args: &Export) -> Result<()> {
    let unfinished = Unfinished::beside(&args.file)?;
    let out = BufWriter::new(unfinished.create()?);
    let writer = match (&args.node, &args.data, &args.genesis) {
        (Some(node), _, _) => from_node(out, node).await?,
        (None, Some(data), Some(genesis)) => from_data(out, data, genesis).await?,
        _ => anyhow::bail!("name a node (--node), or a data folder and a genesis.json (--data, --genesis)"),
    };
    let height = writer.height();
    let file = writer.finish().context("cannot write the file")?;
    file.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()
        .context("cannot write the file")?;
    unfinished.rename_to(&args.file)?;
    crate::say(&format!("{height} blocks after genesis.json are in {}", args.file.display()))?;
    Ok(())
}

async fn from_node(out: BufWriter<File>, address: &str) -> Result<Writer> {
    let node = Endpoint::new(address).context("the node's address")?;
    let genesis = node
        .to(ledger::read_genesis())
        .send()
        .await
        .context("the node does not answer with its genesis.json")?;
    let genesis = Genesis::parse(&genesis.body).context("the node's genesis.json")?;
    let mut writer = ChainWriter::begin(out, &genesis.to_bytes()?)?;
    loop {
        let from = writer.height().saturating_add(1);
        let page: BlocksView = node
            .to(ledger::list_blocks().with(format!("from={from}&limit={BLOCKS_PER_PAGE}")))
            .deadline(DEADLINE)
            .fetch()
            .await
            .with_context(|| format!("block {from} and later"))?;
        if page.blocks.is_empty() {
            ensure!(page.tip < from, "the node has block {from} and does not give it");
            return Ok(writer);
        }
        for view in page.blocks {
            let expected = writer.height().saturating_add(1);
            ensure!(
                view.height == expected,
                "the node gave block {} in the place of {expected}",
                view.height
            );
            let transactions = view.transactions.into_iter().map(String::into_bytes).collect();
            let header = hbc_chain::header::Header::from_bytes(view.header.as_slice())
                .with_context(|| format!("the header of block {expected}"))?;
            let mut header_bytes = Block { header, transactions }.to_bytes();
            let body = header_bytes.split_off(hbc_chain::header::HEADER_BYTES);
            writer.block(&header_bytes, &body, &view.certificate)?;
        }
    }
}

async fn from_data(out: BufWriter<File>, data: &Path, genesis: &Path) -> Result<Writer> {
    let text = std::fs::read(genesis).with_context(|| format!("cannot read `{}`", genesis.display()))?;
    let genesis =
        Genesis::parse(&text).with_context(|| format!("`{}` is no genesis.json", genesis.display()))?;
    ensure!(data.is_dir(), "`{}` is no folder", data.display());
    let database = DataFolder::open(data)?.database();
    let failed = || format!("`{}` cannot be read", database.display());
    let mut reader = BlockReader::open(&database, 1).await.with_context(failed)?;
    let mut writer = ChainWriter::begin(out, &genesis.to_bytes()?)?;
    loop {
        let blocks = reader.read(BLOCKS_PER_READ).await.with_context(failed)?;
        if blocks.is_empty() {
            return Ok(writer);
        }
        for block in blocks {
            let expected = writer.height().saturating_add(1);
            ensure!(block.height == expected, "block {expected} is missing in the database");
            writer.block(&block.header, &block.body, &block.certificate)?;
        }
    }
}

/// The file until it is whole; removed if it never is.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(file: &Path) -> Result<Self> {
        let name = file.file_name().context("the file has no name")?.to_string_lossy();
        Ok(Self { path: file.with_file_name(format!(".{name}.{}.part", std::process::id())) })
    }

    fn create(&self) -> Result<File> {
        File::create_new(&self.path).with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    fn rename_to(&self, file: &Path) -> Result<()> {
        std::fs::rename(&self.path, file).with_context(|| format!("cannot write `{}`", file.display()))?;
        disk::sync_folder_of(file).context("cannot write the folder")
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _renamed = std::fs::remove_file(&self.path);
    }
}
