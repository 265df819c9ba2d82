//! Opening a node: genesis, key, store verified from the first block on, log replayed, promises taken up. A
//! store that fails verification does not keep the node from starting; it starts as attacked, to say so and to
//! heal.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hbc_chain::genesis::{Genesis, MAX_TARGET_BITS};
use hbc_chain::memory::Chain;
use hbc_chain::names::is_name;
use hbc_chain::tx::Tx;
use hbc_chain::verification::{Fault, Wrong};
use hbc_consensus::texts::Texts;
use hbc_consensus::wal::Recovered;
use hbc_consensus::{Boot, Core, Identity, MemberSet, Timing};
use hbc_service::config::SecretFile;
use hbc_types::{Clock, Digest};
use tokio::sync::{mpsc, oneshot};

use super::addresses::{AddressBook, endpoint};
use super::admission::{self, Lines};
use super::agreement::{Event, Loop};
use super::heal::resume::{self, Company};
use super::heal::{self, Healing};
use super::inbound::{AGREEMENT, GOSSIP, Inbound};
use super::loading::{Loaded, load, open_store};
use super::seat::Keyring;
use super::waiting::Waiting;
use super::{Condition, Node, challenge, neighbour, scrub, witness};
use crate::config::{Config, PeerAddress};
use crate::domain::mempool::PoolLimits;
use crate::domain::silence::Silence;
use crate::files::{AttackMark, DataFolder, FolderLock};
use crate::peers::{PeerNews, Peers, This};
use crate::store::{SealKey, Store, StoreError};
use crate::wal::{Wal, look};

/// Submissions that wait for admission.
const SUBMISSIONS: usize = 1_024;
/// How long the tasks of a node that ends may take.
const LONGEST_END: Duration = Duration::from_secs(5);
/// Tries per millisecond that the slowest machine finds work with; the propose time-out follows from it.
const SLOW_TRIES_PER_MS: u64 = 1_000;

/// A node that runs.
pub struct Running {
    /// Its shared parts.
    pub node: Arc<Node>,
    /// Given back when the node is gone.
    lock: Option<FolderLock>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Opens the node's store and starts its tasks on a thread of their own.
    pub async fn start(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let genesis = read_genesis(&config.genesis_file)?;
        let keyring = keyring(config)?;
        check_addresses(config)?;
        let genesis_text = String::from_utf8(genesis.to_bytes()?)?;
        let data = DataFolder::open(&config.data_dir).context("the data folder")?;
        let lock = data.lock().await.context("the data folder is in use by another process")?;
        let founded = Chain::found(genesis.clone())?;
        // Only looked at until it is noted what it lacks.
        let log = look(&data.wal()).context("the write-ahead log")?;
        let seal = seal_key(config)?;
        let (store, mut fault) = open_store(&data, config.create_store, log.floor, seal).await?;
        let loaded = match fault {
            None => load(&store, &data, founded).await?,
            Some(_) => Loaded { chain: founded, fault: None },
        };
        fault = fault.or(loaded.fault);
        let chain = loaded.chain;
        if fault.is_none() && log.floor > chain.height() + 1 {
            fault = Some(Fault { height: chain.height() + 1, wrong: Wrong::Missing });
        }
        if let Some(Wrong::Row(table)) = fault.map(|fault| fault.wrong) {
            let foreign = keyring.is_superseded(chain.state().members());
            anyhow::ensure!(
                !foreign,
                "`{table}` is sealed under the key that `{}` has now: start with both keys",
                config.name
            );
        }
        let condition = condition(&data, fault, &clock)?;
        if let Some(member) = keyring.mistaken_for(chain.state().members()) {
            anyhow::bail!("the key is that of member `{}`, not of `{}`", member.name, config.name);
        }
        if keyring.seat(chain.state().members()).is_none() {
            tracing::warn!(
                node.name = %config.name,
                "No key of this node is in the set of members: it observes until it is voted in"
            );
        }
        if condition.attack.is_none() {
            // A repair that was done and then killed before it had cleared up.
            data.discard(&data.owed()).and_then(|()| data.discard(&data.new_database()))?;
        }
        let parts = Parts { config, keyring, genesis_text, data, store, chain, condition, clock, lock };
        parts.launch(log)
    }

    /// Stops the tasks and waits for them.
    pub async fn stop(mut self) {
        let (done, stopped) = oneshot::channel();
        if self.node.events.send(Event::Stop(done)).await.is_ok() {
            let _already_gone = stopped.await;
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Err(error) = self.node.store.close().await {
            tracing::info!(error = %error, "The database could not be closed in good order");
        }
        drop(self.lock.take());
    }
}

struct Parts<'a> {
    config: &'a Config,
    keyring: Keyring,
    genesis_text: String,
    data: DataFolder,
    store: Store,
    chain: Chain,
    condition: Condition,
    clock: Clock,
    lock: FolderLock,
}

impl Parts<'_> {
    fn launch(self, log: Recovered) -> anyhow::Result<Running> {
        let Self { config, keyring, genesis_text, data, store, chain, condition, clock, lock } = self;
        let (events, inbox) = mpsc::channel(AGREEMENT.queue);
        let (submissions, submitted) = mpsc::channel(SUBMISSIONS);
        let (pass_on, passed_on) = mpsc::channel(GOSSIP.queue);
        let (news, heard) = mpsc::channel(AGREEMENT.queue);
        let (tip, members) = (chain.height(), MemberSet::of(chain.state().members()));
        let attacked = condition.attack.is_some();
        let known = if attacked { resume::tip_beside(&data)? } else { Some(tip) };
        let company = Company { tip: known, members: members.len(), peers: config.peers.len() };
        let silence = resume::silence(&data, &log, company)?;
        let (wal, records) = if attacked {
            (None, Vec::new())
        } else {
            let (wal, records) = resume::take_up(&data, log, tip).context("the write-ahead log")?;
            (Some(wal), records)
        };
        let texts = Texts { chain: chain.id(), origin: chain.origin().to_owned() };
        let seat = keyring.seat(chain.state().members()).cloned();
        let addresses = known_addresses(&data, &chain, &clock);
        let boot = Boot { tip, members, records, silent: silence.is_some() };
        let healing = Healing::new(config.heal, data.healed()?);
        let node = Arc::new(Node {
            name: config.name.clone(),
            keyring,
            this: This::default(),
            address: config.address.clone(),
            addresses: Mutex::new(addresses),
            news,
            tip: tokio::sync::watch::channel(chain.height()).0,
            genesis_text,
            chain_id: chain.id(),
            texts,
            clock,
            verify: config.verify,
            sampled_blocks: config.sampled_blocks,
            scrub_period: Duration::from_secs(config.scrub_period_s.max(1)),
            challenge_period: Duration::from_secs(config.challenge_period_s.max(1)),
            include_within_ms: config.include_within_ms,
            store,
            data,
            healing,
            peers: Peers::default(),
            gate: tokio::sync::RwLock::new(()),
            waiting: Mutex::new(Waiting::new(PoolLimits::default())),
            chain: RwLock::new(chain),
            condition: RwLock::new(condition),
            inbound: Inbound::new(AGREEMENT),
            gossip: Arc::new(Inbound::new(GOSSIP)),
            events,
            submissions,
            passed_on: pass_on,
        });
        node.sit(seat.as_ref());
        let configured = config.peers.clone();
        let shared = node.clone();
        let thread =
            std::thread::Builder::new().name(format!("ledger-{}", config.name)).spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let Ok(runtime) = runtime else {
                    tracing::error!("The node's threads cannot be started; the node ends here");
                    std::process::abort();
                };
                let lines = Lines { submitted, passed_on };
                let whole = run(shared, wal, silence, boot, inbox, heard, lines, configured);
                let ended =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(whole)));
                if ended.is_err() {
                    // Half a node, answering but not deciding, is worse than one that is started again.
                    tracing::error!("The agreement panicked; the node ends here");
                    std::process::abort();
                }
                // Nothing of this node works on its files once another is started on them.
                runtime.shutdown_timeout(LONGEST_END);
            })?;
        Ok(Running { node, lock: Some(lock), thread: Some(thread) })
    }
}

#[expect(clippy::too_many_arguments, reason = "the ends of all channels meet here once")]
async fn run(
    node: Arc<Node>,
    wal: Option<Wal>,
    silence: Option<Silence>,
    boot: Boot,
    inbox: mpsc::Receiver<Event>,
    heard: mpsc::Receiver<PeerNews>,
    lines: Lines,
    configured: Vec<PeerAddress>,
) {
    let started = Instant::now();
    let attacked = node.attack();
    if attacked.is_none()
        && let Err(error) = take_up_promises(&node).await
    {
        tracing::error!(error = %error, "Promises cannot be taken up; the node ends here, to be started again");
        std::process::abort();
    }
    for PeerAddress { name, url } in configured {
        node.meet(&name, url, true);
    }
    node.meet_all_announced();
    let mut admission = tokio::spawn(admission::run(node.clone(), lines));
    let watch = [
        tokio::spawn(scrub::run(node.clone())),
        tokio::spawn(challenge::run(node.clone())),
        tokio::spawn(witness::run(node.clone())),
        tokio::spawn(neighbour::run(node.clone())),
    ];
    if let Some(mark) = attacked {
        let node = node.clone();
        tokio::spawn(async move { node.tell_of_attack(&mark).await });
    }
    tokio::spawn(heal::run(node.clone()));
    let identity = identity(&node, &node.chain());
    let (core, first) = Core::boot(0, identity, boot);
    let first = if node.attack().is_some() { Vec::new() } else { first };
    tokio::select! {
        () = Loop::new(node, core, wal, inbox, heard, started, silence).run(first) => {}
        _ended = &mut admission => {
            tracing::error!("Admission ended; the node ends here");
            std::process::abort();
        }
        _ended = futures_util::future::select_all(watch) => {
            tracing::error!("A watching task ended; the node ends here");
            std::process::abort();
        }
    }
}

/// The node's keys: the one in use and, while it is changed, the next.
fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    anyhow::ensure!(is_name(&config.name), "`{}` is no member's name", config.name);
    let key = config.key_file.signing_key().context("the member's key")?;
    let next = config.next_key_file.as_ref().map(SecretFile::signing_key).transpose();
    Ok(Keyring::new(config.name.clone(), key, next.context("the member's next key")?))
}

/// The key of the rows' seals: the newest; what the one before sealed holds as well while both are configured.
pub fn seal_key(config: &Config) -> anyhow::Result<SealKey> {
    let key = config.key_file.signing_key().context("the member's key")?;
    let next = config.next_key_file.as_ref().map(SecretFile::signing_key).transpose();
    let next = next.context("the member's next key")?;
    Ok(match next {
        Some(next) => SealKey::of(&next).or_by(&key),
        None => SealKey::of(&key),
    })
}

/// That the addresses in the configuration are some.
fn check_addresses(config: &Config) -> anyhow::Result<()> {
    for PeerAddress { name, url } in &config.peers {
        anyhow::ensure!(is_name(name), "peer `{name}` has no member's name");
        anyhow::ensure!(endpoint(url).is_some(), "the address of `{name}` must be http://host:port");
    }
    let own = config.address.as_deref();
    anyhow::ensure!(own.is_none_or(|url| endpoint(url).is_some()), "`address` must be http://host:port");
    Ok(())
}

/// What was announced before the node stopped, as far as it still counts.
fn known_addresses(data: &DataFolder, chain: &Chain, clock: &Clock) -> AddressBook {
    let mut parties = chain.register().candidates();
    parties.extend(chain.state().members().iter().cloned());
    let mut book = AddressBook::default();
    for text in data.addresses().unwrap_or_default() {
        if let Err(error) = book.take(&text, &chain.id(), &parties, clock.now().unsigned_ms()) {
            tracing::info!(error = %error, "A stored announcement does not count any more");
        }
    }
    book
}

/// Who this node is in the agreement.
pub(super) fn identity(node: &Node, chain: &Chain) -> Identity {
    // A key that is not in the set signs nothing.
    let seat = node.keyring.seat(chain.state().members());
    let key = seat.unwrap_or_else(|| node.keyring.newest()).clone();
    Identity { key, texts: node.texts.clone(), timing: timing(chain) }
}

/// Time-outs for the chain's work: a proposal has five times the mean time that a slow machine needs.
pub(super) fn timing(chain: &Chain) -> Timing {
    let target = chain.state().parameters().target().unwrap_or(chain.tip().target);
    let bits = target.zero_bits().min(MAX_TARGET_BITS);
    let mean_ms = (1_u64 << bits) / SLOW_TRIES_PER_MS;
    let timing = Timing::default();
    let propose_ms = timing.propose_ms.max(mean_ms * 5);
    Timing { propose_ms, longest_ms: timing.longest_ms.max(propose_ms * 4), ..timing }
}

pub(super) fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Genesis::parse(&bytes)?)
}

/// An earlier mark stays; a fault found now makes one.
fn condition(data: &DataFolder, fault: Option<Fault>, clock: &Clock) -> anyhow::Result<Condition> {
    let now = clock.now();
    let mut attack = data.attack_mark()?;
    if let (None, Some(fault)) = (&attack, fault) {
        let mark =
            AttackMark { first_bad_height: fault.height, evidence: fault.to_string(), found_at_ms: now.ms() };
        tracing::error!(fault.height = fault.height, fault.what = %fault.wrong, "ALARM: the stored chain was changed");
        data.mark_attacked(&mark)?;
        attack = Some(mark);
    }
    let verified_at = attack.is_none().then_some(now);
    Ok(Condition { attack, verified_at, ..Condition::default() })
}

/// Promises of an earlier run wait again, and the others are told again.
pub(super) async fn take_up_promises(node: &Arc<Node>) -> Result<(), StoreError> {
    let stored = node.store.promises().await?;
    let mut txs = Vec::with_capacity(stored.len());
    for promise in stored {
        match Tx::parse(&promise.jws) {
            Ok(tx) if tx.txid() == promise.txid => txs.push(Arc::new(tx)),
            _ => tracing::error!(ledger.txid = %promise.txid, "A stored promise is not what was promised"),
        }
    }
    if !txs.is_empty() {
        let done: Vec<Digest> = {
            let chain = node.chain();
            txs.iter().map(|tx| tx.txid()).filter(|txid| chain.state().place(txid).is_some()).collect()
        };
        node.store.forget_promises(&done).await?;
        let mut waiting = node.waiting();
        txs.into_iter().filter(|tx| !done.contains(&tx.txid())).for_each(|tx| waiting.resume(tx));
    }
    let now = node.clock.now();
    let impossible = {
        let chain = node.chain();
        let mut waiting = node.waiting();
        waiting.drop_final(&chain);
        waiting.rebuild(&chain, now.unsigned_ms())
    };
    node.refuse(&impossible, now.ms()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use hbc_chain::header::Target;
    use hbc_chain::payload::{MemberVote, Payload};

    use super::*;
    use hbc_chain::fixtures::Course;
    use hbc_chain::fixtures::signed;

    #[test]
    fn time_outs_follow_the_target_that_is_in_force_not_the_last_blocks() {
        let mut course = Course::new();
        let usual = Timing::default().propose_ms;
        assert_eq!(timing(&course.chain).propose_ms, usual);
        let value = Target::from_zero_bits(30).unwrap().compact().to_string();
        let (chain, subject) = (course.chain.id(), "parameter:target".to_owned());
        let vote = MemberVote { chain, iat: course.chain.tip().time_ms, nonce: 0, subject, value };
        let vote = Payload::MemberVote(vote);
        course.seal(&["m1", "m2", "m3"].map(|member| signed(member, &vote)));
        assert_eq!(course.chain.tip().target.zero_bits(), 8, "that block has the old one");
        assert_eq!(timing(&course.chain).propose_ms, (1 << 30) / SLOW_TRIES_PER_MS * 5);
    }
}
