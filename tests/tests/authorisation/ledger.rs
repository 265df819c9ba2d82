//! The ledger: public, because what is submitted carries its signature and what is read its proof.

use anyhow::{Context as _, Result};
use hbc_chain::payload::Payload;
use hbc_tests::chain::transactions;
use serde_json::json;

use crate::case::Case;
use crate::world::World;

pub async fn cases(world: &World) -> Result<Vec<Case>> {
    let node = world.app.node("node-1")?;
    let all = transactions(node).await?;
    // A service's: the key of a patient's consent has no name.
    let of_service = all.iter().rev().find(|one| matches!(one.payload, Payload::Receipts(_)));
    let last = of_service.context("no receipts are final")?;
    let txid = last.txid.to_string();
    let key = world.grant.key.context("the grant has no key")?.to_string();
    let staff = world.dora_view.staff_key.context("the doctor has no staff key")?.to_string();
    Ok(vec![
        Case::new("ledger GET /v1/blocks", &[]),
        Case::new("ledger GET /v1/blocks/{height}", &["1"]),
        Case::new("ledger GET /v1/checkpoint", &[]),
        Case::new("ledger GET /v1/checkpoints/{height}/consistency", &["1"]).query("from=1"),
        Case::new("ledger GET /v1/anchors", &[]).query("from=2020-01-01&to=2020-01-31"),
        Case::new("ledger GET /v1/genesis", &[]),
        Case::new("ledger GET /v1/members", &[]),
        Case::new("ledger GET /v1/members/history", &[]),
        Case::new("ledger GET /v1/votes", &[]),
        Case::new("ledger GET /v1/nodes", &[]),
        Case::new("ledger GET /v1/explorer/blocks", &[]),
        Case::new("ledger GET /v1/network", &[]),
        Case::new("ledger GET /v1/explorer/waiting", &[]),
        Case::new("ledger GET /v1/explorer/transactions/{txid}", &[&txid]),
        Case::new("ledger GET /v1/explorer/blocks/{block}", &["1"]),
        Case::new("ledger GET /v1/explorer/blocks/{height}/transactions", &["1"]),
        Case::new("ledger GET /v1/explorer/transactions", &[]),
        Case::new("ledger GET /v1/checkpoints/{height}", &["1"]),
        // The stream has no end: what is asked for wrongly is answered at once.
        Case::new("ledger GET /v1/stream", &[]).header("last-event-id", "none").anybody_gets(&[422]),
        Case::new("ledger GET /v1/status", &[]),
        Case::new("ledger GET /v1/keys/{kid}", &[&key]),
        Case::new("ledger GET /v1/grants/{key}/{grant}", &[&key, world.grant.id.as_str()]),
        Case::new("ledger GET /v1/staff/{key}", &[&staff]),
        Case::new("ledger GET /v1/keys/{kid}/proof", &[&key]),
        Case::new("ledger GET /v1/grants/{key}/{grant}/proof", &[&key, world.grant.id.as_str()]),
        Case::new("ledger GET /v1/staff/{key}/proof", &[&staff]),
        Case::new("ledger GET /v1/state/proof", &[]).query("kind=members"),
        Case::new("ledger GET /v1/transactions/{txid}", &[&txid]),
        Case::new("ledger GET /v1/transactions/{txid}/proof", &[&txid]),
        // Nobody was caught at anything here.
        Case::new("ledger GET /v1/evidence/{digest}", &[&txid]).anybody_gets(&[404]),
        // What is final already is promised again.
        Case::new("ledger POST /v1/transactions", &[]).json(&json!({"jws": last.jws})),
        Case::new("ledger POST /v1/transactions/batch", &[]).json(&json!({"transactions": [last.jws]})),
        // Members sign their messages; whoever is none is nobody here.
        Case::new("ledger POST /internal/v1/consensus", &[])
            .body("application/octet-stream", [0; 8])
            .stranger(&world.alice, &[401])
            .stranger(&world.operator, &[401])
            .anybody_gets(&[401]),
        Case::new("ledger POST /internal/v1/addresses", &[])
            .json(&json!({"announcement": "a.b.c"}))
            .stranger(&world.alice, &[401])
            .stranger(&world.operator, &[401])
            .anybody_gets(&[401]),
        Case::new("ledger POST /internal/v1/challenges", &[])
            .json(&json!({"height": 1, "nonce": txid}))
            .stranger(&world.alice, &[401])
            .stranger(&world.operator, &[401])
            .anybody_gets(&[401]),
    ])
}
