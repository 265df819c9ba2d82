//! Chains on disk: how fast every byte is verified, and what the rule "verify all earlier blocks before each append"
//! costs a node that does so.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hbc_chain::checkpoint::{Certificate, Checkpoint};
use hbc_chain::genesis::Genesis;
use hbc_chain::header::HEADER_BYTES;
use hbc_chain::memory::Chain;
use hbc_chain::tx::Tx;
use hbc_chain::verification::Verifier;
use hbc_ledger::files::DataFolder;
use hbc_ledger::store::{MacKey, ReadAhead, Store, StoredBlock};
use hbc_ledger::wal::Wal;
use hbc_types::keys::PublicKey;
use hbc_types::{Clock, Random};

use super::limits::Limits;
use super::load::{Load, transaction};
use super::net::{Founded, Net, terms};
use super::table::{Figure, Goal, Table, per_second, ratio};
use crate::cli::BenchLedger;
use crate::init::founding::Terms;

/// Transactions of a block, where blocks are to be large.
const LARGE_BLOCK: usize = 8_192;
/// Blocks read at once, as a node reads them.
const BLOCKS_PER_READ: u32 = 256;
/// The paper's algorithm as one would first write it.
const NAIVE: &str = include_str!("naive.py");

/// Both chains.
pub async fn measure(
    args: &BenchLedger,
    limits: &Limits,
    table: &mut Table,
    clock: &Clock,
    random: &Random,
) -> Result<()> {
    large_blocks(args, limits, table, clock, random).await?;
    many_blocks(args, table, clock, random).await
}

/// A chain of full blocks, verified from the first byte to the last, and restored by a node that starts.
async fn large_blocks(
    args: &BenchLedger,
    limits: &Limits,
    table: &mut Table,
    clock: &Clock,
    random: &Random,
) -> Result<()> {
    table.part("a stored chain");
    let founded = Founded::new(1, terms(args), args.full, clock, random)?;
    let size = LARGE_BLOCK.min(args.stored.max(1));
    let blocks = args.stored.div_ceil(size);
    let bytes = write_chain(&founded, blocks, size, clock, random).await?;
    let count = blocks * size;
    let took = verify(&founded).await?;
    let rate = per_second(count, took);
    let of = ratio(rate, limits.leaf_hashes_per_second);
    let limit = format!("{of} × one core's leaf hashes; {:.0} MB/s", megabytes(bytes) / took.as_secs_f64());
    let figure = Figure::new("full verification from SQLite", rate, "tx/s");
    table.add(figure.goal(Goal::AtLeast(1_000_000.0)).limit(limit));
    let began = Instant::now();
    let net = Net::run(founded).await?;
    let rate = per_second(count, began.elapsed());
    let figure = Figure::new("a node's start: verified, rules and state", rate, "tx/s");
    table.add(figure.limit("the state is made anew; transactions' signatures are not checked again"));
    if let Some(resident) = net.resident_bytes() {
        let each = resident as f64 / f64::from(u32::try_from(count)?);
        table.add(Figure::new("memory of that node", each, "MB").limit("per million tx, everything counted"));
    }
    net.stop().await
}

/// A chain of many small blocks, under a node that verifies all of them before each group of promises.
async fn many_blocks(args: &BenchLedger, table: &mut Table, clock: &Clock, random: &Random) -> Result<()> {
    table.part(&format!("the paper's algorithm after {} blocks", args.blocks));
    let founded = Founded::new(1, Terms::of(true), true, clock, random)?;
    write_chain(&founded, args.blocks, 1, clock, random).await?;
    let took = verify(&founded).await?;
    table.add(Figure::fine("every earlier block verified once", took.as_secs_f64() * 1e3, "ms"));
    let net = Net::run(founded).await?;
    let mut load = Load::sign(&net, args.transactions.min(20 * args.batch), clock, random)?;
    let rate = per_second(load.len(), load.submit(&net, args.batch).await?);
    net.stop().await?;
    let figure = Figure::new("appended by a node in mode `full`", rate, "tx/s");
    table.add(figure.limit(format!("groups of {}, verified before each", args.batch)));
    if let Some(naive) = naive(args.blocks).await {
        let figure = Figure::fine("appended by naive Python", naive, "tx/s");
        table.add(figure.limit("one by one, in memory, verified before each"));
        let times = Figure::new("the one over the other", rate / naive, "times");
        table.add(times.goal(Goal::AtLeast(100.0)));
    }
    Ok(())
}

/// Verifies as a node does, on one core.
async fn verify(founded: &Founded) -> Result<Duration> {
    let store = Store::open(&data(founded)?.database(), false, MacKey::of(&founded.member)).await?;
    let began = Instant::now();
    let mut verifier = Verifier::new(&[]);
    let mut pieces = ReadAhead::begin(store.blocks(0).await?, BLOCKS_PER_READ);
    loop {
        let blocks = pieces.next().await?;
        if blocks.is_empty() {
            break;
        }
        for block in &blocks {
            verifier.check(block.height, &block.header, &block.body, &mut |_| {})?;
        }
    }
    verifier.finish()?;
    let took = began.elapsed();
    store.close().await?;
    Ok(took)
}

/// Writes a chain as the only member would have; the bytes of its blocks.
async fn write_chain(
    founded: &Founded,
    blocks: usize,
    size: usize,
    clock: &Clock,
    random: &Random,
) -> Result<usize> {
    let genesis = std::fs::read(founded.deployment.genesis()).context("cannot read genesis.json")?;
    let mut chain = Chain::found(Genesis::parse(&genesis)?)?;
    let data = data(founded)?;
    let store = Store::open(&data.database(), true, MacKey::of(&founded.member)).await?;
    let mut bytes = add(&store, chain.tip().to_bytes().to_vec(), vec![0; 4], 0, String::new()).await?;
    let miner = PublicKey::of(&founded.member).kid();
    for _ in 0..blocks {
        let now = clock.now();
        let iat = now.unsigned_ms();
        let sign = |_| {
            let jws = transaction(founded, iat, random)?;
            Ok(Arc::new(Tx::parse(jws.as_bytes())?))
        };
        let txs = (0..size).map(sign).collect::<Result<Vec<_>>>()?;
        let next = chain.draft(&txs, now, &miner).mine(&AtomicBool::new(false)).context("no work found")?;
        ensure!(next.block.transactions.len() == size, "a transaction found no place in its block");
        let height = next.block.header.height;
        let checkpoint = Checkpoint::of(chain.origin(), &next.block.header, 0);
        let votes = [(miner, checkpoint.sign(&founded.member))];
        let note = Certificate::assemble(checkpoint, &votes, chain.state().members()).to_note();
        let mut header = next.block.to_bytes();
        let body = header.split_off(HEADER_BYTES);
        bytes += add(&store, header, body, height, note.clone()).await?;
        ensure!(chain.extend(next, note), "a block does not follow on the tip");
    }
    data.write_checkpoint(chain.certificate())?;
    Wal::begin(&data.wal(), chain.height() + 1)?;
    store.close().await?;
    Ok(bytes)
}

async fn add(
    store: &Store,
    header: Vec<u8>,
    body: Vec<u8>,
    height: u64,
    certificate: String,
) -> Result<usize> {
    let bytes = header.len() + body.len() + certificate.len();
    store.commit(&StoredBlock { height, header, body, certificate }, &[]).await?;
    Ok(bytes)
}

fn data(founded: &Founded) -> Result<DataFolder> {
    Ok(DataFolder::open(&founded.deployment.data("node-1"))?)
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Appends per second of the naive form at this length; none where there is no Python.
async fn naive(blocks: usize) -> Option<f64> {
    let mut python = tokio::process::Command::new("python3");
    let output = python.args(["-c", NAIVE, &blocks.to_string()]).output().await.ok()?;
    std::str::from_utf8(&output.stdout).ok()?.trim().parse().ok()
}
