//! `hbc bench`: what this machine makes of the ledger and of auth, in real processes over HTTP, beside what the machine
//! itself can do with hashes, signatures and its disk in the same run. A figure without the limit beside it says little.
//!
//! Why: decision 0085.

mod apps;
mod auth;
mod devices;
mod limits;
mod load;
mod net;
mod processor;
mod programs;
mod stored;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hbc_types::{Clock, Random};

pub use auth::measure as auth;

use crate::cli::BenchLedger;
use limits::Limits;
use load::Load;
use net::Net;
use table::{Figure, Goal, Table, per_second, ratio};

/// Runs all parts one after the other and prints one table.
pub async fn ledger(args: &BenchLedger) -> Result<()> {
    ensure!((1..=7).contains(&args.members), "--members is 1 to 7");
    ensure!((1..=1_000).contains(&args.batch), "--batch is 1 to 1000: a node takes no larger one");
    ensure!(args.transactions >= args.batch, "--transactions is at least one batch");
    ensure!(args.zero_bits <= 24, "--zero-bits is at most 24");
    ensure!(args.min_spacing <= 1_000, "--min-spacing is at most 1000");
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
    table.part("one node");
    let busy = Busy::begin(&net);
    let took = load.submit(&net, args.batch).await?;
    let rate = per_second(load.len(), took);
    let of = format!("{} × one core's Ed25519; {}", ratio(rate, limits.ed25519_per_second), busy.end(&net));
    let figure = Figure::new("accepted, durable, in batches", rate, "tx/s");
    table.add(figure.goal(Goal::AtLeast(15_000.0)).limit(of));
    let included = load.wait_until_final(&net).await?;
    let rate = per_second(load.len(), included);
    table.add(Figure::new("in blocks, from the first submission on", rate, "tx/s").limit(busy.end(&net)));
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
    let (verify, bits, spacing) = (args.verify_name(), args.zero_bits, args.min_spacing);
    table.part(&format!(
        "{} members, {verify} verification, {bits} bits of work, {spacing} ms between blocks",
        args.members
    ));
    let latency = load::one_by_one(&net, args.single, clock, random).await?;
    table.latency("promise, idle", &latency.promises, Some(20.0));
    table.latency("final, idle", &latency.finals, Some(1_000.0));
    let mut load = Load::sign(&net, args.transactions, clock, random)?;
    let busy = Busy::begin(&net);
    let accepted = load.submit(&net, args.batch).await?;
    table.add(Figure::new("accepted", per_second(load.len(), accepted), "tx/s").limit(busy.end(&net)));
    let included = load.wait_until_final(&net).await?;
    let rate = per_second(load.len(), included);
    let of = ratio(rate * f64::from(args.members), limits.ed25519_per_second * limits.cores);
    let of = format!("{of} × all cores' Ed25519, each member checks each; {}", busy.end(&net));
    let figure = Figure::new("final on every member, sustained", rate, "tx/s");
    table.add(figure.goal(Goal::AtLeast(5_000.0)).limit(of));
    let latency = load::one_by_one(&net, args.single, clock, random).await?;
    table.latency("promise after it", &latency.promises, None);
    table.latency("final after it", &latency.finals, None);
    if let (Some(before), Some(after)) = (before, net.resident_bytes()) {
        let each = after.saturating_sub(before) as f64 / f64::from(args.members);
        let count = f64::from(u32::try_from(load.len())?);
        let figure = Figure::new("memory of a member, grown", each / count, "MB");
        table.add(figure.limit("per million tx, with what the load left behind"));
    }
    net.stop().await
}

/// How busy the processors are meanwhile.
struct Busy {
    began: Instant,
    members: Option<Duration>,
    load: Option<Duration>,
}

impl Busy {
    fn begin(net: &Net) -> Self {
        let load = processor::time(std::process::id());
        Self { began: Instant::now(), members: net.processor_time(), load }
    }

    /// The shares of all cores that the members and this process used since then.
    fn end(&self, net: &Net) -> String {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let whole = self.began.elapsed().as_secs_f64() * f64::from(u32::try_from(cores).unwrap_or(1));
        let share = |before: Option<Duration>, now: Option<Duration>| {
            let used = now?.checked_sub(before?)?;
            Some(format!("{:.0} %", used.as_secs_f64() / whole * 100.0))
        };
        let members = share(self.members, net.processor_time());
        let load = share(self.load, processor::time(std::process::id()));
        match members.zip(load) {
            Some((members, load)) => format!("members {members}, load {load} of {cores} cores"),
            None => String::new(),
        }
    }
}
