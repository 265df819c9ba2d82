//! Opening a node: genesis, key, store verified from the first block on, log replayed, promises restored. A
//! store that fails verification does not keep the node from starting; it starts as attacked, to say so and to
//! heal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hbc_chain::memory::Chain;
use hbc_chain::names::is_name;
use hbc_chain::verification::{Fault, Wrong};
use hbc_consensus::wal::Recovered;
use hbc_consensus::{Boot, Core, MemberSet};
use hbc_service::Tasks;
use hbc_service::config::SecretFile;
use hbc_types::Clock;
use tokio::sync::{mpsc, oneshot};

use super::accusations::Accusations;
use super::addresses::endpoint;
use super::admission::Admission;
use super::attack_reports::AttackReports;
use super::challenge::Challenges;
use super::condition::Condition;
use super::confirmations::Witness;
use super::consensus_loop::Loop;
use super::guardian::{Depth, Opened, StoreGuard};
use super::heal::healer::{Healer, Healing};
use super::heal::resume::{self, KnownMembers};
use super::inlet::{Event, Inlet};
use super::loading::{Loaded, load, mac_key, open_store, read_genesis};
use super::membership::{Keyring, Membership};
use super::memory::Memory;
use super::peer_book::PeerBook;
use super::pool::{Lines, Pool};
use super::{Node, scrub, tasks};
use crate::config::{Config, PeerAddress};
use crate::domain::double_sign_protection::DoubleSignProtection;
use crate::files::{AttackMark, DataFolder, FolderLock};
use crate::peers::PeerNews;
use crate::store::Store;
use crate::wal::{Wal, look};

/// How long the tasks of a node that ends may take.
const LONGEST_END: Duration = Duration::from_secs(5);

/// A node that runs.
pub struct Running {
    /// Its shared parts.
    pub node: Arc<Node>,
    /// What looks after the store and the others.
    pub loops: Tasks,
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
        let append = mac_key(config)?;
        let (store, mut fault) = open_store(&data, config.create_store, log.floor, append).await?;
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
                "`{table}` is authenticated under the key that `{}` has now: start with both keys",
                config.name
            );
        }
        let condition = condition(&data, fault, &clock)?;
        if let Some(member) = keyring.mistaken_for(chain.state().members()) {
            anyhow::bail!("the key is that of member `{}`, not of `{}`", member.name, config.name);
        }
        if keyring.membership(chain.state().members()).is_none() {
            tracing::warn!(
                node.name = %config.name,
                "No key of this node is in the set of members: it observes until it is voted in"
            );
        }
        if condition.attack.is_none() {
            // Healing that was done and then killed before it had cleared up.
            data.discard(&data.owed()).and_then(|()| data.discard(&data.new_database()))?;
        }
        let parts = Parts { config, keyring, genesis_text, data, store, chain, condition, clock, lock };
        parts.launch(log)
    }

    /// Stops the tasks and waits for them.
    pub async fn stop(mut self) {
        let (done, stopped) = oneshot::channel();
        if self.node.inlet.send(Event::Stop(done)).await {
            let _already_gone = stopped.await;
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Err(error) = self.node.guard.store().close().await {
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

/// What consensus is replayed from.
struct Start {
    /// None while the store is attacked.
    wal: Option<Wal>,
    double_sign_protection: Option<DoubleSignProtection>,
    boot: Boot,
}

/// The ends of all channels.
struct Ends {
    inbox: mpsc::Receiver<Event>,
    news: mpsc::Receiver<PeerNews>,
    lines: Lines,
}

impl Parts<'_> {
    fn launch(self, log: Recovered) -> anyhow::Result<Running> {
        let start = self.start(log)?;
        let configured = self.config.peers.clone();
        let name = format!("ledger-{}", self.config.name);
        let (node, ends, lock) = self.compose()?;
        let (shared, loops) = (Arc::clone(&node), Tasks::new());
        let started = loops.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let Ok(runtime) = runtime else {
                tracing::error!("The node's threads cannot be started; the node ends here");
                std::process::abort();
            };
            let whole = run(shared, start, ends, configured, &started);
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(whole)));
            if ended.is_err() {
                // Half a node, answering but not deciding, is worse than one that is started again.
                tracing::error!("Consensus panicked; the node ends here");
                std::process::abort();
            }
            // Nothing of this node works on its files once another is started on them.
            runtime.shutdown_timeout(LONGEST_END);
        })?;
        Ok(Running { node, loops, lock: Some(lock), thread: Some(thread) })
    }

    /// Takes the log up, unless the store is attacked.
    fn start(&self, log: Recovered) -> anyhow::Result<Start> {
        let (data, tip, members) =
            (&self.data, self.chain.height(), MemberSet::of(self.chain.state().members()));
        let attacked = self.condition.attack.is_some();
        let known = if attacked { resume::tip_beside(data)? } else { Some(tip) };
        let known_members =
            KnownMembers { tip: known, members: members.len(), peers: self.config.peers.len() };
        let double_sign_protection = resume::double_sign_protection(data, &log, known_members)?;
        let (wal, records) = if attacked {
            (None, Vec::new())
        } else {
            let (wal, records) = resume::restore(data, log, tip).context("the write-ahead log")?;
            (Some(wal), records)
        };
        let boot = Boot { tip, members, records, abstaining: double_sign_protection.is_some() };
        Ok(Start { wal, double_sign_protection, boot })
    }

    /// Gives each part what it owns, and whom it knows.
    fn compose(self) -> anyhow::Result<(Arc<Node>, Ends, FolderLock)> {
        let Self { config, keyring, genesis_text, data, store, chain, condition, clock, lock } = self;
        let healing = Arc::new(Healing::new(config.heal, data.healed()?));
        let membership = Arc::new(Membership::new(keyring, config.address.clone(), &chain, clock.clone()));
        let memory = Arc::new(Memory::new(chain));
        let (inlet, inbox) = Inlet::new();
        let (book, news) =
            PeerBook::new(data.clone(), membership.clone(), memory.clone(), inlet.clone(), clock.clone());
        let opened = Opened { store, data, condition };
        let (me, others) = (membership.clone(), book.clone());
        let guard = StoreGuard::new(opened, depth(config), memory.clone(), me, others, clock.clone());
        let guard = Arc::new(guard);
        let (pool, lines) = Pool::new(memory.clone(), guard.clone(), clock.clone());
        let (me, way) = (membership.clone(), pool.clone());
        let accusations = Accusations::new(memory.clone(), me, guard.clone(), way, clock.clone());
        let accusations = Arc::new(accusations);
        let challenges = Arc::new(Challenges {
            memory: memory.clone(),
            membership: membership.clone(),
            book: book.clone(),
            guard: guard.clone(),
            accusations: accusations.clone(),
            period: Duration::from_secs(config.challenge_period_s.max(1)),
        });
        let include_within_ms = config.include_within_ms;
        let node = Node {
            genesis_text,
            include_within_ms,
            clock,
            memory,
            membership,
            book,
            guard,
            pool,
            accusations,
            challenges,
            healing,
            inlet,
        };
        Ok((Arc::new(node), Ends { inbox, news, lines }, lock))
    }
}

fn depth(config: &Config) -> Depth {
    Depth {
        mode: config.verify,
        sampled_blocks: config.sampled_blocks,
        scrub_period: Duration::from_secs(config.scrub_period_s.max(1)),
    }
}

/// Starts the node's tasks and decides blocks until the node is told to stop.
async fn run(node: Arc<Node>, start: Start, ends: Ends, configured: Vec<PeerAddress>, loops: &Tasks) {
    let started = Instant::now();
    let Start { wal, double_sign_protection, boot } = start;
    let attacked = node.attack();
    if attacked.is_none()
        && let Err(error) = node.pool.restore_promises().await
    {
        tracing::error!(error = %error, "Promises cannot be restored; the node ends here, to be started again");
        std::process::abort();
    }
    for PeerAddress { name, url } in configured {
        node.book.meet(&name, url, true);
    }
    node.book.meet_all_announced();
    tasks::vital("admission", admission(&node).run(ends.lines));
    // Whatever they do at the end ends with the runtime.
    watch(&node, loops);
    if let Some(mark) = attacked {
        node.guard.tell_of_attack(&mark);
    }
    let identity = node.membership.identity(&node.chain());
    let (core, first) = Core::boot(0, identity, boot);
    let first = if node.guard.is_attacked() { Vec::new() } else { first };
    Loop::new(node, core, wal, ends.inbox, ends.news, started, double_sign_protection).run(first).await;
}

fn admission(node: &Node) -> Admission {
    Admission {
        pool: node.pool.clone(),
        memory: node.memory.clone(),
        guard: node.guard.clone(),
        membership: node.membership.clone(),
        book: node.book.clone(),
        inlet: node.inlet.clone(),
        clock: node.clock.clone(),
    }
}

/// Starts what looks after the store and the others. Each is started again, and that is logged, if it ends or panics.
fn watch(node: &Node, loops: &Tasks) {
    let Node { memory, membership, book, guard, accusations, clock, .. } = node;
    let healer = Healer {
        healing: node.healing.clone(),
        guard: guard.clone(),
        memory: memory.clone(),
        pool: node.pool.clone(),
        book: book.clone(),
        membership: membership.clone(),
        inlet: node.inlet.clone(),
        clock: clock.clone(),
    };
    loops.spawn_supervised("healing", move || healer.clone().run());
    let (scrubbed, time) = (guard.clone(), clock.clone());
    loops.spawn_supervised("scrub", move || scrub::run(scrubbed.clone(), time.clone()));
    let challenges = node.challenges.clone();
    loops.spawn_supervised("challenges", move || Challenges::clone(&challenges).run());
    let witness = Witness {
        accusations: accusations.clone(),
        memory: memory.clone(),
        membership: membership.clone(),
        book: book.clone(),
        guard: guard.clone(),
    };
    loops.spawn_supervised("witness", move || witness.clone().run());
    let peers = AttackReports {
        memory: memory.clone(),
        membership: membership.clone(),
        book: book.clone(),
        guard: guard.clone(),
        accusations: accusations.clone(),
        clock: clock.clone(),
    };
    loops.spawn_supervised("attack reports", move || peers.clone().run());
}

/// The node's keys: the one in use and, while it is changed, the next.
fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    anyhow::ensure!(is_name(&config.name), "`{}` is no member's name", config.name);
    let key = config.key_file.signing_key().context("the member's key")?;
    let next = config.next_key_file.as_ref().map(SecretFile::signing_key).transpose();
    Ok(Keyring::new(config.name.clone(), key, next.context("the member's next key")?))
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
