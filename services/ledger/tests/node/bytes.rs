//! Every byte of the database file of a small chain with a row in every table, flipped one after the other under a running
//! node: the node's own pass over the file finds it, or the file says the very same as before (bytes that SQLite does
//! not use, a column that calls the same bytes text instead of blob).

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hbc_chain::payload::{Consent, Payload};
use hbc_chain::tx;
use hbc_chain::verification::Wrong;
use hbc_ledger::config::VerifyMode;
use hbc_ledger::node::Node;
use hbc_ledger::node::boot::Running;
use hbc_ledger::node::guardian::Failure;
use hbc_ledger::node::scrub::scrub_from;
use hbc_ledger::store::{MacKey, Store, StoredPromise};
use hbc_types::Clock;
use hbc_types::account::Custody;
use hbc_types::ids::GrantId;
use hbc_types::keys::PublicKey;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::healing::Beside;
use crate::net::{Net, txid};

/// Blocks of the chain.
const BLOCKS: usize = 10;
/// Outside of rows every so manyth byte is tried in the ordinary run.
const STRIDE: usize = 61;

/// Each row of each table as the columns' bytes in their order in the file, and all of them as SQL says them.
const TABLES: [(&str, &[&str]); 5] = [
    ("blocks", &["header", "body", "certificate"]),
    ("promises", &["txid", "jws"]),
    ("refusals", &["txid", "jws", "reason"]),
    ("evidence", &["digest", "kind", "member"]),
    ("multiset_hash", &["nonce", "digest"]),
];

/// Everything that SQL can say about the file: the schema and all rows, byte by byte.
async fn content(path: &Path) -> Result<Vec<String>, sqlx::Error> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await?;
    let result = read(&mut connection).await;
    let _ = connection.close().await;
    result
}

async fn read(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    const QUERIES: [&str; 6] = [
        "SELECT hex(type) || hex(name) || hex(tbl_name) || hex(sql) FROM sqlite_master ORDER BY 1",
        "SELECT hex(height) || hex(header) || hex(body) || hex(certificate) FROM blocks ORDER BY height",
        "SELECT hex(seq) || hex(txid) || hex(jws) || hex(received_at_ms) || hex(mac) FROM promises ORDER BY seq",
        "SELECT hex(txid) || hex(jws) || hex(reason) || hex(excluded_by) || hex(refused_at_ms) || hex(mac)
         FROM refusals ORDER BY txid",
        "SELECT hex(digest) || hex(kind) || hex(member) || hex(height) || hex(detail) || hex(seen_at_ms)
         || hex(mac) FROM evidence ORDER BY digest",
        "SELECT hex(id) || hex(entries) || hex(nonce) || hex(digest) FROM multiset_hash ORDER BY id",
    ];
    let mut all = Vec::new();
    for query in QUERIES {
        for row in sqlx::query(query).fetch_all(&mut *connection).await? {
            all.push(row.try_get(0)?);
        }
    }
    Ok(all)
}

/// What the node's own pass says of the file, by a word.
async fn finding(node: &Node) -> Option<&'static str> {
    match scrub_from(&node.guard, 0, Duration::ZERO).await {
        Ok(()) => None,
        Err(Failure::Fault(fault)) => Some(match fault.wrong {
            Wrong::Schema => "in the tables",
            Wrong::Pages => "in the pages",
            Wrong::Row(_) => "in a row beside the blocks",
            _ => "in a block",
        }),
        // Said and tried again; the node neither votes nor promises meanwhile.
        Err(Failure::Trouble(_)) => Some("as trouble"),
    }
}

/// A chain of some blocks with a row in every other table: the promise is one that no block can take yet.
async fn filled() -> Net {
    let mut net = Net::new(1, VerifyMode::Incremental);
    net.scrub_period_s = 86_400;
    net.run(0);
    for _ in 0..BLOCKS {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
    }
    net.stop(0);
    let key = net.keys[0].clone();
    Beside::put(&mut net, 0, &key).await;
    let author = ed25519_dalek::SigningKey::from_bytes(&[88; 32]);
    let grant = Consent {
        chain: net.chain,
        commitment: hbc_types::Digest::of(b"body"),
        custody: Custody::Client,
        grant: GrantId::parse("grt-00000000000000000000000000000001").unwrap(),
        iat: Clock::system().now().unsigned_ms(),
        key: PublicKey::of(&author).kid(),
        prev: None,
        seq: 1,
    };
    let jws = tx::sign(&author, &Payload::Grant(grant)).unwrap();
    let store = Store::open(&net.data(0).join("ledger.db"), false, MacKey::of(&key)).await.unwrap();
    assert_eq!(store.take_inventory().await.unwrap(), None);
    store.add_promises(&[StoredPromise { txid: txid(&jws), jws: jws.into_bytes() }], 7).await.unwrap();
    store.close().await.unwrap();
    net
}

/// Flips the bytes that `wanted` picks; answers how many of each class there are.
async fn flip_all(wanted: impl Fn(usize, bool) -> bool) -> BTreeMap<&'static str, usize> {
    let net = filled().await;
    let running = Running::start(&net.config(0), Clock::system()).await.unwrap();
    let node: Arc<Node> = running.node.clone();
    net.until("the promise", async || node.mempool().len() == 1).await;
    assert!(node.chain().height() >= BLOCKS as u64);
    let path = net.data(0).join("ledger.db");
    let before = content(&path).await.unwrap();
    assert_eq!(finding(&node).await, None, "nothing is wrong yet");
    let bytes = std::fs::read(&path).unwrap();
    let rows = places_of_rows(&path, &bytes).await;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut classes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let (mut missed, mut harmless) = (Vec::new(), Vec::new());
    for place in (0..bytes.len()).filter(|place| wanted(*place, rows[*place])) {
        file.write_all_at(&[bytes[place] ^ (1 << (place % 8))], place as u64).unwrap();
        let class = match finding(&node).await {
            Some(found) => found,
            None if content(&path).await.is_ok_and(|now| now == before) => {
                harmless.extend(rows[place].then_some(place));
                "says the same"
            }
            None => {
                missed.push(place);
                "missed"
            }
        };
        *classes.entry(class).or_default() += 1;
        file.write_all_at(&bytes[place..=place], place as u64).unwrap();
    }
    assert_eq!(finding(&node).await, None, "everything is as it was");
    running.stop().await;
    let in_rows = rows.iter().filter(|row| **row).count();
    println!("{} bytes in the file, {in_rows} of them in rows: {classes:?}", bytes.len());
    assert!(missed.is_empty(), "bytes {missed:?} were changed and nobody saw it");
    assert!(harmless.is_empty(), "bytes {harmless:?} of rows were changed and nobody saw it");
    classes
}

/// Which bytes of the file are columns of a live row.
async fn places_of_rows(path: &Path, bytes: &[u8]) -> Vec<bool> {
    let mut places = vec![false; bytes.len()];
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await.unwrap();
    for (table, columns) in TABLES {
        let list =
            columns.iter().map(|column| format!("CAST({column} AS BLOB)")).collect::<Vec<_>>().join(", ");
        let query = format!("SELECT {list} FROM {table}");
        for row in sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap() {
            let row: Vec<u8> = (0..columns.len()).flat_map(|at| row.get::<Vec<u8>, _>(at)).collect();
            let found = bytes.windows(row.len()).enumerate().filter(|(_, window)| *window == row);
            let found: Vec<usize> = found.map(|(at, _)| at).collect();
            // A row that is once in the file is the live one; others lie in pieces, or have an old copy somewhere.
            if let [at] = found[..] {
                places[at..at + row.len()].fill(true);
            }
        }
    }
    connection.close().await.unwrap();
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_byte_of_every_row_and_some_elsewhere_are_found_or_say_the_same() {
    let classes = flip_all(|place, in_row| in_row || place % STRIDE == 0).await;
    assert!(classes["in a block"] > 5_000, "{classes:?}");
    assert!(classes["in a row beside the blocks"] > 500, "{classes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "every single byte of the file: some minutes"]
async fn every_byte_of_the_file_is_found_or_says_the_same() {
    flip_all(|_, _| true).await;
}
