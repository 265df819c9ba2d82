//! A consortium of nodes in one process: each on its own thread, folder, key and port, talking HTTP.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hbc_chain::genesis::{Genesis, Named, Parameters};
use hbc_chain::header::{Block, HEADER_BYTES};
use hbc_chain::memory::Chain;
use hbc_chain::payload::{Payload, Receipts};
use hbc_chain::tx::{self, Tx};
use hbc_client::Endpoint;
use hbc_ledger::Application;
use hbc_ledger::config::{Config, HealMode, PeerAddress, VerifyMode};
use hbc_ledger::store::{MacKey, Store, StoredBlock};
use hbc_ledger::wal::Wal;
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_testkit::chain::{OPERATOR, certify, genesis as founding, key};
use hbc_testkit::service::secret_file;
use hbc_types::account::ServiceRole;
use hbc_types::keys::PublicKey;
use hbc_types::wire::ledger::{
    BlocksView, NodeEventView, NodeState, NodeStatus, Promise, SubmitTransaction, TransactionState,
    TransactionView,
};
use hbc_types::{Clock, Digest};
use tokio::sync::oneshot;

pub struct Running {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

pub struct Net {
    pub folder: tempfile::TempDir,
    pub genesis: Genesis,
    pub chain: Digest,
    pub keys: Vec<SigningKey>,
    pub ports: Vec<u16>,
    pub running: Vec<Option<Running>>,
    /// Whether nodes that are started from now on heal by themselves.
    pub heal: HealMode,
    verify: VerifyMode,
    next_root: u64,
    /// Long, unless a test is about the scrub.
    pub scrub_period_s: u64,
    /// Without end, unless a test is about readers.
    pub block_bytes_per_second: u32,
    /// Members of the genesis; nodes after them know the first founder's address only.
    founders: usize,
    /// Keys that nodes hold beside their first, by index.
    pub next_keys: std::collections::BTreeMap<usize, SigningKey>,
    /// Long, unless a test is about challenges.
    pub challenge_period_s: u64,
    /// Nodes that a node is told of beyond those it would be, by index.
    pub acquainted: std::collections::BTreeMap<usize, Vec<usize>>,
    /// Nodes whose peers' addresses lead nowhere: they are reached and reach nobody.
    pub mute: std::collections::BTreeSet<usize>,
}

pub fn service_key(role: ServiceRole) -> SigningKey {
    key(hbc_testkit::chain::service(role))
}

fn genesis(count: usize) -> Genesis {
    Genesis {
        operators: vec![Named { key: PublicKey::of(&key(OPERATOR)), name: "operator-1".to_owned() }],
        origin: "hbc.test".to_owned(),
        parameters: Parameters::with_zero_bits(4, 1).unwrap(),
        time_ms: Clock::system().now().unsigned_ms() - 1_000,
        ..founding(count as u8)
    }
}

impl Net {
    /// `count` members, none started.
    pub fn new(count: usize, verify: VerifyMode) -> Self {
        Self::with(count, verify, |_as_it_is| {})
    }

    /// The same with another genesis.
    pub fn with(count: usize, verify: VerifyMode, change: impl FnOnce(&mut Genesis)) -> Self {
        let keys: Vec<_> = (1..=count).map(|n| key(n as u8)).collect();
        let mut genesis = genesis(count);
        change(&mut genesis);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("genesis.json"), genesis.to_bytes().unwrap()).unwrap();
        for (n, key) in (1..).zip(&keys) {
            secret_file(folder.path(), &format!("node-{n}.key"), &hex::encode(key.to_bytes()));
        }
        for n in 1..=count {
            let data = hbc_ledger::files::DataFolder::open(&folder.path().join(format!("data-{n}")));
            data.unwrap().note_unborn().unwrap();
        }
        let ports = hbc_testkit::free_ports::<8>()[..count].to_vec();
        let founders = count;
        Self {
            chain: genesis.chain_id().unwrap(),
            running: (0..count).map(|_| None).collect(),
            folder,
            genesis,
            keys,
            ports,
            heal: HealMode::Auto,
            verify,
            next_root: 0,
            scrub_period_s: 3_600,
            block_bytes_per_second: u32::MAX,
            founders,
            next_keys: std::collections::BTreeMap::new(),
            challenge_period_s: 3_600,
            acquainted: std::collections::BTreeMap::new(),
            mute: std::collections::BTreeSet::new(),
        }
    }

    /// All started.
    pub fn start(count: usize, verify: VerifyMode) -> Self {
        Self::start_healing(count, verify, HealMode::Auto)
    }

    /// All started, healing by themselves or not.
    pub fn start_healing(count: usize, verify: VerifyMode, heal: HealMode) -> Self {
        let mut net = Self::new(count, verify);
        net.heal = heal;
        for index in 0..count {
            net.run(index);
        }
        net
    }

    pub fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("data-{}", index + 1))
    }

    pub fn config(&self, index: usize) -> Config {
        let known = if index < self.founders { self.founders } else { 1 };
        let next_key_file = self.next_keys.get(&index).map(|key| {
            let name = format!("node-{}.next.key", index + 1);
            SecretFile::new(secret_file(self.folder.path(), &name, &hex::encode(key.to_bytes())))
        });
        let peers = (0..known)
            .chain(self.acquainted.get(&index).into_iter().flatten().copied())
            .filter(|other| *other != index)
            .map(|other| PeerAddress {
                name: format!("node-{}", other + 1),
                url: format!(
                    "http://127.0.0.1:{}",
                    if self.mute.contains(&index) { 9 } else { self.ports[other] }
                ),
            })
            .collect();
        Config {
            name: format!("node-{}", index + 1),
            genesis_file: self.folder.path().join("genesis.json"),
            key_file: SecretFile::new(self.folder.path().join(format!("node-{}.key", index + 1))),
            next_key_file,
            // Who announces its address is reached by a mute node after all.
            address: self.mute.is_empty().then(|| format!("http://127.0.0.1:{}", self.ports[index])),
            data_dir: self.data(index),
            verify: self.verify,
            include_within_ms: 10_000,
            sampled_blocks: 2,
            scrub_period_s: self.scrub_period_s,
            challenge_period_s: self.challenge_period_s,
            submissions_per_second: 100_000,
            block_bytes_per_second: self.block_bytes_per_second,
            heal: self.heal,
            create_store: true,
            server: ServerSettings {
                port: self.ports[index],
                workers: 1,
                shutdown_seconds: 1,
                ..ServerSettings::default()
            },
            telemetry: hbc_service::telemetry::TelemetrySettings::default(),
            peers,
        }
    }

    /// Gives nodes that do not run a chain of this many empty blocks, certified by three of four.
    pub async fn prefill(&self, indices: &[usize], height: u64) {
        self.prefill_with(indices, height, Vec::new).await;
    }

    /// The same, with these transactions in each block.
    pub async fn prefill_with(
        &self,
        indices: &[usize],
        height: u64,
        mut transactions: impl FnMut() -> Vec<Arc<Tx>>,
    ) {
        let store = Store::open(&self.folder.path().join("prefilled.db"), true, MacKey::of(&self.keys[0]))
            .await
            .unwrap();
        let mut chain = Chain::found(self.genesis.clone()).unwrap();
        let kid = PublicKey::of(&self.keys[0]).kid();
        let long_ago = hbc_types::Timestamp::from_ms(0);
        let founded = Block { header: *chain.tip(), transactions: Vec::new() };
        let mut next = Some((founded, String::new()));
        while let Some((block, certificate)) = next.take() {
            let mut header = block.to_bytes();
            let body = header.split_off(HEADER_BYTES);
            let stored = StoredBlock { height: block.header.height, header, body, certificate };
            store.commit(&stored, &[]).await.unwrap();
            if chain.height() < height {
                let mined =
                    chain.draft(&transactions(), long_ago, &kid).mine(&AtomicBool::new(false)).unwrap();
                let members = chain.state().members();
                let note = certify(chain.origin(), &mined.block.header, &self.keys[..3], members);
                let block = mined.block.clone();
                assert!(chain.extend(mined, note.clone()));
                next = Some((block, note));
            }
        }
        store.close().await.unwrap();
        for index in indices {
            std::fs::create_dir_all(self.data(*index)).unwrap();
            let (from, to) = (self.folder.path().join("prefilled.db"), self.data(*index).join("ledger.db"));
            std::fs::copy(from, &to).unwrap();
            let key = MacKey::of(&self.keys[*index]).or_by(&self.keys[0]);
            let store = Store::open(&to, false, key).await.unwrap();
            assert_eq!(store.take_inventory().await.unwrap(), None);
            store.close().await.unwrap();
            Wal::begin(&self.data(*index).join("wal"), height + 1).unwrap();
        }
    }

    /// Starts a node and waits until it listens.
    pub fn run(&mut self, index: usize) {
        self.run_by(index, Clock::system());
    }

    /// The same by a clock of its own.
    pub fn run_by(&mut self, index: usize, clock: Clock) {
        let config = self.config(index);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let app = Application::build_with(config, clock).await.expect("the node starts");
                ready.send(()).unwrap();
                app.run_until_stopped(async {
                    let _ = stopped.await;
                })
                .await
                .expect("the node ends well");
            });
        });
        listening.recv_timeout(Duration::from_secs(60)).expect("the node listens");
        self.running[index] = Some(Running { stop, thread });
    }

    /// Stops a node and waits until it is gone.
    pub fn stop(&mut self, index: usize) {
        if let Some(running) = self.running[index].take() {
            let _ = running.stop.send(());
            running.thread.join().expect("the node's thread ends well");
        }
    }

    pub fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::new(&format!("http://127.0.0.1:{}", self.ports[index])).unwrap()
    }

    /// A transaction that is valid and new: access-policy anchors receipts.
    pub fn transaction(&mut self) -> String {
        self.transaction_dated(0)
    }

    /// The same, signed so many milliseconds from now.
    pub fn transaction_dated(&mut self, ms: i64) -> String {
        self.next_root += 1;
        let payload = Payload::Receipts(Receipts {
            chain: self.chain,
            count: 1,
            iat: Clock::system().now().unsigned_ms().saturating_add_signed(ms),
            rights: None,
            root: Digest::of(&self.next_root.to_be_bytes()),
        });
        tx::sign(&service_key(ServiceRole::AccessPolicy), &payload).unwrap()
    }

    pub async fn submit(&self, index: usize, jws: &str) -> Result<Promise, hbc_client::ClientError> {
        let body = SubmitTransaction { jws: jws.to_owned() };
        self.endpoint(index).post("/v1/transactions").json(&body).fetch().await
    }

    pub async fn status(&self, index: usize) -> NodeStatus {
        self.endpoint(index).get("/v1/status").fetch().await.unwrap()
    }

    /// Waits until a node is in this state.
    pub async fn state(&self, index: usize, state: NodeState) -> NodeStatus {
        let started = Instant::now();
        loop {
            let status = self.status(index).await;
            if status.state == state {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "it does not become {state}: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// So many transactions, given to a node and final there; answers them.
    pub async fn grow(&mut self, index: usize, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..count {
            let jws = self.transaction();
            self.submit(index, &jws).await.unwrap();
            self.finality(index, &txid(&jws)).await;
            all.push(jws);
        }
        all
    }

    pub async fn view(&self, index: usize, txid: &Digest) -> Option<TransactionView> {
        self.endpoint(index).get(&format!("/v1/transactions/{txid}")).fetch().await.ok()
    }

    /// Waits until the transaction is final on a node; answers its height.
    pub async fn finality(&self, index: usize, txid: &Digest) -> u64 {
        let started = Instant::now();
        loop {
            let view = self.view(index, txid).await;
            if let Some(view) = view.filter(|view| view.state == TransactionState::Final) {
                return view.height.unwrap();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{txid} is not final on node {}", index + 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until these nodes have one tip.
    pub async fn one_tip(&self, indices: &[usize]) -> NodeStatus {
        let started = Instant::now();
        loop {
            let mut all = Vec::new();
            for index in indices {
                all.push(self.status(*index).await);
            }
            if all.windows(2).all(|two| two[0].tip == two[1].tip) {
                return all.remove(0);
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the tips stay different: {all:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an event about a node takes effect, as this node knows it.
    pub async fn told(&self, index: usize, node: &str, event: &str) -> NodeEventView {
        let started = Instant::now();
        loop {
            let events = self.status(index).await.events;
            if let Some(told) = events.into_iter().find(|told| told.node == node && told.event == event) {
                return told;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{event} of {node} is not known");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an event with this evidence takes effect, as this node knows it.
    pub async fn told_of(&self, index: usize, node: &str, event: &str, evidence: &Digest) {
        let started = Instant::now();
        loop {
            let events = self.status(index).await.events;
            let same = |told: &NodeEventView| told.node == node && told.event == event;
            if events.iter().any(|told| same(told) && told.evidence == *evidence) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{event} of {node} by {evidence} is not known"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a node serves a piece of evidence.
    pub async fn document(&self, index: usize, digest: &Digest) -> Vec<u8> {
        let started = Instant::now();
        loop {
            let path = format!("/v1/evidence/{digest}");
            if let Ok(answer) = self.endpoint(index).get(&path).send().await {
                return answer.body.to_vec();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "node {} cannot show it", index + 1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Rows of evidence in a node's database.
    pub async fn evidence(&self, index: usize) -> i64 {
        use sqlx::{ConnectOptions as _, Row as _};
        let path = self.data(index).join("ledger.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let count = sqlx::query("SELECT count(*) FROM evidence").fetch_one(&mut connection).await.unwrap();
        count.get(0)
    }

    pub async fn blocks(&self, index: usize, from: u64) -> BlocksView {
        self.endpoint(index).get(&format!("/v1/blocks?from={from}&limit=100")).fetch().await.unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for index in 0..self.running.len() {
            if let Some(running) = self.running[index].take() {
                let _ = running.stop.send(());
                let _ = running.thread.join();
            }
        }
    }
}

pub fn txid(jws: &str) -> Digest {
    tx::txid(jws.as_bytes())
}
