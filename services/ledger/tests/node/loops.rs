//! No background loop of a node dies unseen.

use hbc_ledger::config::VerifyMode;
use hbc_ledger::node::boot::Running;
use hbc_tasks::testing::all_come_back;
use hbc_types::Clock;

use crate::net::Net;

#[tokio::test]
async fn every_background_loop_of_a_node_that_panics_comes_back() {
    let net = Net::new(1, VerifyMode::Incremental);
    let node = Running::start(&net.config(0), Clock::system()).await.unwrap();
    let loops = node.loops.clone();
    let expected = ["attack reports", "challenges", "healing", "scrub", "witness"];
    // They begin on the node's own thread.
    net.until("all loops run", async || loops.starts().len() == expected.len()).await;
    assert_eq!(all_come_back(&loops).await, expected.into());
    node.stop().await;
}
