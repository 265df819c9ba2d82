//! `hbc bench`: what this machine makes of the ledger, in real processes over HTTP, beside what the machine itself
//! can do with hashes, signatures and its disk in the same run. A figure without the limit beside it says little.

mod limits;
mod load;
mod net;
mod stored;
mod table;

use anyhow::{Result, ensure};
use hbc_types::{Clock, Random};

use crate::cli::BenchLedger;
use limits::Limits;
use load::Load;
use net::Net;
use table::{Detail, Table, per_second, ratio};

/// Transactions one by one, for latencies.
const SINGLE: usize = 200;

/// Runs all parts one after the other and prints one table.
pub async fn ledger(args: &BenchLedger) -> Result<()> {
    ensure!((1..=7).contains(&args.members), "--members is 1 to 7");
    ensure!((1..=1_000).contains(&args.batch), "--batch is 1 to 1000: a node takes no larger one");
    ensure!(args.transactions >= args.batch, "--transactions is at least one batch");
    let (clock, random) = (Clock::system(), Random::system());
    let mut table = Table::new();
    let limits = Limits::measure(&random)?;
    limits.show(&mut table);
    one_node(args, &limits, &mut table, &clock, &random).await?;
    members(args, &limits, &mut table, &clock, &random).await?;
    stored::measure(args, &limits, &mut table, &clock, &random).await?;
    table.print(args.json.as_deref())
}

/// What one node accepts, durably, in batches: nobody else to agree with.
async fn one_node(
    args: &BenchLedger,
    limits: &Limits,
    table: &mut Table,
    clock: &Clock,
    random: &Random,
) -> Result<()> {
    let net = Net::start(1, args, clock, random).await?;
    let mut load = Load::sign(&net, args.transactions, clock, random)?;
    let took = load.submit(&net, args.batch).await?;
    let rate = per_second(load.len(), took);
    table.part("one node");
    let of = ratio(rate, limits.ed25519_per_second);
    table.rate("accepted, durable, in batches", rate, "tx/s", &format!("{of} × one core's Ed25519"));
    let included = load.wait_until_final(&net).await?;
    table.rate("in blocks, from the first submission on", per_second(load.len(), included), "tx/s", "");
    net.stop().await
}

/// What several members make final, and how long one transaction takes when nothing else happens.
async fn members(
    args: &BenchLedger,
    limits: &Limits,
    table: &mut Table,
    clock: &Clock,
    random: &Random,
) -> Result<()> {
    let net = Net::start(args.members, args, clock, random).await?;
    let before = net.resident_bytes();
    table.part(&format!("{} members, {} verification", args.members, args.verify_name()));
    let latency = load::one_by_one(&net, SINGLE, clock, random).await?;
    table.latency("promise, idle", &latency.promises);
    table.latency("final, idle", &latency.finals);
    let mut load = Load::sign(&net, args.transactions, clock, random)?;
    let accepted = load.submit(&net, args.batch).await?;
    let included = load.wait_until_final(&net).await?;
    table.rate("accepted", per_second(load.len(), accepted), "tx/s", "");
    let rate = per_second(load.len(), included);
    let members = f64::from(args.members);
    let of = ratio(rate * members, limits.ed25519_per_second * limits.cores);
    table.rate(
        "final on every member, sustained",
        rate,
        "tx/s",
        &format!("{of} × all cores' Ed25519: each member checks each signature"),
    );
    let latency = load::one_by_one(&net, SINGLE, clock, random).await?;
    table.latency("promise after it", &latency.promises);
    table.latency("final after it", &latency.finals);
    if let (Some(before), Some(after)) = (before, net.resident_bytes()) {
        let each = after.saturating_sub(before) as f64 / f64::from(args.members);
        let count = f64::from(u32::try_from(load.len())?);
        table.value(
            "memory",
            each / count,
            "MB per million tx and member",
            Detail::Rounded,
            "resident, grown",
        );
    }
    net.stop().await
}
