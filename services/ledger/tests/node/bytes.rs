//! Every byte of the database file of a small chain, flipped one after the other under a running node: what the scrub
//! reads differs from what memory knows, or the check of pages, schema and other rows finds it, or the file says the very
//! same as before (bytes that SQLite does not use, a column that calls the same bytes text instead of blob).

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use hbc_ledger::config::VerifyMode;
use hbc_ledger::node::Node;
use hbc_ledger::node::boot::Running;
use hbc_types::Clock;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::net::{Net, txid};

/// Blocks of the chain.
const BLOCKS: usize = 10;
/// Outside of rows every so manyth byte is tried in the ordinary run.
const STRIDE: usize = 7;

/// Everything that SQL can say about the file: the schema and all rows, byte by byte.
async fn content(path: &std::path::Path) -> Result<Vec<String>, sqlx::Error> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await?;
    let result = read(&mut connection).await;
    let _ = connection.close().await;
    result
}

async fn read(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    const QUERIES: [&str; 5] = [
        "SELECT hex(type) || hex(name) || hex(tbl_name) || hex(sql) FROM sqlite_master ORDER BY 1",
        "SELECT hex(height) || hex(header) || hex(body) || hex(certificate) FROM blocks ORDER BY height",
        "SELECT hex(txid) || hex(jws) || hex(received_at_ms) || hex(seal) FROM promises ORDER BY seq",
        "SELECT hex(txid) || hex(jws) || hex(reason) || hex(excluded_by) || hex(seal) FROM refusals
         ORDER BY txid",
        "SELECT hex(digest) || hex(kind) || hex(member) || hex(height) || hex(detail) || hex(seal)
         FROM evidence ORDER BY digest",
    ];
    let mut all = Vec::new();
    for query in QUERIES {
        for row in sqlx::query(query).fetch_all(&mut *connection).await? {
            all.push(row.try_get(0)?);
        }
    }
    Ok(all)
}

/// What the scrub would find: true if a block is missing, unreadable or not what memory knows.
async fn is_found(node: &Node) -> bool {
    let Ok(mut reader) = node.store.blocks(0).await else { return true };
    let mut next = 0;
    loop {
        let Ok(blocks) = reader.read(256).await else { return true };
        if blocks.is_empty() {
            return next != node.chain().height() + 1;
        }
        for block in blocks {
            if block.height != next || node.fault_in(&block).is_some() {
                return true;
            }
            next += 1;
        }
    }
}

/// Flips the bytes that `wanted` picks; answers how many of each class there are.
async fn flip_all(wanted: impl Fn(usize, bool) -> bool) -> BTreeMap<&'static str, usize> {
    let mut net = Net::new(1, VerifyMode::Incremental);
    net.scrub_period_s = 86_400;
    net.run(0);
    for _ in 0..BLOCKS {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
    }
    net.stop(0);
    let running = Running::start(&net.config(0), Clock::system()).await.unwrap();
    let node: Arc<Node> = running.node.clone();
    assert!(node.chain().height() >= BLOCKS as u64);
    let path = net.data(0).join("ledger.db");
    let before = content(&path).await.unwrap();
    assert!(!is_found(&node).await, "nothing is wrong yet");
    let bytes = std::fs::read(&path).unwrap();
    let rows = places_of_blocks(&node, &bytes).await;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut classes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut missed = Vec::new();
    for place in (0..bytes.len()).filter(|place| wanted(*place, rows[*place])) {
        file.write_all_at(&[bytes[place] ^ (1 << (place % 8))], place as u64).unwrap();
        let class = if is_found(&node).await {
            "in a block"
        } else if !matches!(node.store.check_pages().await, Ok(None)) {
            "in the pages"
        } else if !matches!(node.store.check_rows().await, Ok(None)) {
            "in schema or other rows"
        } else if content(&path).await.is_ok_and(|now| now == before) {
            "harmless"
        } else {
            missed.push(place);
            "missed"
        };
        assert!(!rows[place] || class == "in a block", "byte {place} of a block's row: {class}");
        *classes.entry(class).or_default() += 1;
        file.write_all_at(&bytes[place..=place], place as u64).unwrap();
    }
    assert!(!is_found(&node).await, "everything is as it was");
    running.stop().await;
    println!(
        "{} bytes in the file, {} of them in rows: {classes:?}",
        bytes.len(),
        rows.iter().filter(|r| **r).count()
    );
    assert!(missed.is_empty(), "bytes {missed:?} were changed and nobody saw it");
    classes
}

/// Which bytes of the file belong to the live row of a block.
async fn places_of_blocks(node: &Node, bytes: &[u8]) -> Vec<bool> {
    let mut places = vec![false; bytes.len()];
    for block in node.store.blocks(0).await.unwrap().read(256).await.unwrap() {
        let row = [block.header.as_slice(), &block.body, block.certificate.as_bytes()].concat();
        let at: Vec<usize> = bytes
            .windows(row.len())
            .enumerate()
            .filter(|(_, window)| *window == row)
            .map(|(at, _)| at)
            .collect();
        // A row that is once in the file is the live one; others lie in pieces, or have an old copy somewhere.
        if let [at] = at[..] {
            places[at..at + row.len()].fill(true);
        }
    }
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_byte_of_every_block_and_every_seventh_elsewhere_is_found_or_says_the_same() {
    let classes = flip_all(|place, in_row| in_row || place % STRIDE == 0).await;
    assert!(classes["in a block"] > 5_000, "{classes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "every single byte of the file, not every seventh: some minutes"]
async fn every_byte_of_the_file_is_found_or_says_the_same() {
    flip_all(|_, _| true).await;
}
