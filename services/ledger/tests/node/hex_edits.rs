//! What somebody with the database file in hand may do to a node while it runs. The node a client writes to is the one
//! that is changed: the client's very next write lands at another, the node heals, and what was found is kept.

use std::sync::Arc;

use hbc_client::ledger::LedgerClient;
use hbc_ledger::config::VerifyMode;
use hbc_types::account::ServiceRole;
use hbc_types::chain::checkpoint::Certificate;
use hbc_types::chain::keys::PublicKey;
use hbc_types::wire::ledger::NodeState;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::healing::{flip_stored, is_whole};
use crate::net::{Net, service_key, txid};
use crate::tampering::wait_for_event;

const TRIGGER: &str = "CREATE TRIGGER blocks_keep BEFORE UPDATE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never changed'); END";

#[derive(Clone, Copy)]
enum Edit {
    /// A byte of a payload, and the file's times as they were.
    TimesPutBack,
    /// A block's body, through SQL on a connection of one's own, the trigger dropped for it and put back.
    SecondConnection,
    /// All certificates replaced by ones that only one member signed.
    SignedByOne,
    /// An older copy of the file renamed over it.
    OlderCopy,
}

impl Edit {
    async fn make(self, net: &Net, index: usize, stored: &[String], older: &[u8]) {
        let path = net.data(index).join("ledger.db");
        match self {
            Self::TimesPutBack => {
                let before = std::fs::metadata(&path).unwrap();
                flip_stored(net, index, &stored[1]);
                let times = std::fs::FileTimes::new()
                    .set_accessed(before.accessed().unwrap())
                    .set_modified(before.modified().unwrap());
                std::fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
                assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before.modified().unwrap());
            }
            Self::SecondConnection => {
                let body = "UPDATE blocks SET body = CAST(replace(CAST(body AS TEXT), 'eyJ', 'eyK') AS BLOB)
                     WHERE height = 2";
                rewrite(net, index, vec![body.to_owned()]).await;
            }
            Self::SignedByOne => {
                let mut changes = Vec::new();
                for block in net.blocks(index, 1).await.blocks {
                    let checkpoint = Certificate::parse(&block.certificate).unwrap().checkpoint;
                    let key = &net.keys[index];
                    let vote = (PublicKey::of(key).kid(), checkpoint.sign(key));
                    let note = Certificate::assemble(checkpoint, &[vote], &net.genesis.members).to_note();
                    let height = block.height;
                    changes.push(format!("UPDATE blocks SET certificate = '{note}' WHERE height = {height}"));
                }
                rewrite(net, index, changes).await;
            }
            Self::OlderCopy => {
                let copy = net.folder.path().join("older");
                std::fs::write(&copy, older).unwrap();
                std::fs::rename(&copy, &path).unwrap();
            }
        }
    }
}

async fn rewrite(net: &Net, index: usize, changes: Vec<String>) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(net.data(index).join("ledger.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("DROP TRIGGER blocks_keep").execute(&mut connection).await.unwrap();
    for change in changes {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "it changes something");
    }
    sqlx::raw_sql(TRIGGER).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn is_found_and_healed(edit: Edit) {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.one_tip(&[0, 1, 2, 3]).await;
    let urls: Vec<String> = net.ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let client = LedgerClient::new(Arc::new(net.genesis.clone()), &urls).unwrap();
    let author = PublicKey::of(&service_key(ServiceRole::AccessPolicy)).kid();
    let first = net.transaction();
    let node = client.submit(author, &first).await.unwrap().node;
    let index = net.genesis.members.iter().position(|member| member.name == node).unwrap();
    net.finality(index, &txid(&first)).await;
    let older = std::fs::read(net.data(index).join("ledger.db")).unwrap();
    let stored = net.grow(index, 3).await;
    net.one_tip(&[0, 1, 2, 3]).await;

    edit.make(&net, index, &stored, &older).await;
    let next = net.transaction();
    let promise = client.submit(author, &next).await.unwrap();
    assert_ne!(promise.node, node, "the write lands elsewhere");
    net.finality(usize::from(index == 0), &txid(&next)).await;

    is_whole(&mut net, index).await;
    let status = net.state(index, NodeState::Healthy).await;
    assert!(status.last_healing.is_some(), "it was found and healed: {status:?}");
    assert!(net.evidence(index).await > 0, "the evidence is kept");
    for kind in ["attacked", "healed"] {
        wait_for_event(&net, &node, kind).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_byte_changed_and_the_times_put_back() {
    is_found_and_healed(Edit::TimesPutBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_changed_through_a_second_connection() {
    is_found_and_healed(Edit::SecondConnection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn certificates_signed_anew_by_one_member() {
    is_found_and_healed(Edit::SignedByOne).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_older_copy_renamed_over_the_file() {
    is_found_and_healed(Edit::OlderCopy).await;
}
