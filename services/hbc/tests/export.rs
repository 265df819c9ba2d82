//! `hbc export` from a running node and from its folder, and `hbc verify` of what it wrote.

#![expect(clippy::unwrap_used, reason = "what a test helper cannot do fails the test")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use hbc_chain::genesis::{Genesis, Parameters};
use hbc_chain::payload::{
    Anchor, Consent, ConsentKey, Erase, KeyStatus, MemberVote, NodeEvent, Payload, Receipts, Release, Revoke,
    Segment, ServiceKeyChange, Staff, StaffStatus,
};
use hbc_chain::tx;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_ledger::Application;
use hbc_ledger::config::{Config, VerifyMode};
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_testkit::chain::{key, public};
use hbc_testkit::service::key_file;
use hbc_types::account::{Custody, ServiceRole};
use hbc_types::ids::GrantId;
use hbc_types::keys::{SignatureBytes, Tag, possession_text};
use hbc_types::wire::ledger::{SubmitTransaction, TransactionState};
use hbc_types::{Clock, Digest};

fn genesis() -> Genesis {
    Genesis {
        parameters: Parameters::with_zero_bits(4, 1).unwrap(),
        time_ms: Clock::system().now().unsigned_ms() - 1_000,
        ..hbc_testkit::chain::genesis(1)
    }
}

fn config(folder: &Path) -> Config {
    let settings = serde_json::json!({
        "name": "node-1",
        "genesis_file": folder.join("genesis.json"),
        "key_file": SecretFile::new(key_file(folder, "node-1.key", 1)),
        "next_key_file": SecretFile::new(key_file(folder, "node-1.next", 2)),
        "data_dir": folder.join("data"),
        "verify": VerifyMode::Incremental,
        "server": ServerSettings { workers: 1, shutdown_seconds: 1, ..ServerSettings::default() },
    });
    serde_json::from_value(settings).unwrap()
}

/// Makes so many blocks of one transaction each; answers the txids.
async fn fill(node: &Endpoint, chain: Digest, blocks: u8) -> Vec<Digest> {
    let mut txids = Vec::new();
    for number in 0..blocks {
        let (iat, root) = (Clock::system().now().unsigned_ms(), Digest::of(&[number]));
        let jws =
            tx::sign(&key(202), &Payload::Receipts(Receipts { chain, count: 1, iat, rights: None, root }))
                .unwrap();
        node.to(ledger::submit_transaction())
            .json(&SubmitTransaction { jws: jws.clone() })
            .done()
            .await
            .unwrap();
        txids.push(tx::txid(jws.as_bytes()));
        let (started, height) = (Instant::now(), u64::from(number) + 1);
        while node.to(ledger::read_status()).fetch().await.unwrap().height < height {
            assert!(started.elapsed() < Duration::from_secs(60), "block {height} does not come");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    txids
}

/// A payload with the number of its signer's key.
type Said = (u8, Payload);

/// A consent key comes, gives, alters and revokes.
fn consents(chain: Digest, iat: u64) -> [Said; 4] {
    let (key_id, grant) = (public(51).kid(), GrantId::parse(&format!("grt-{:032x}", 1)).unwrap());
    let registration = ConsentKey {
        chain,
        iat,
        key: key_id,
        pop: Some(SignatureBytes::sign(&key(51), &possession_text(&chain, &key_id))),
        public: Some(public(51)),
        status: KeyStatus::Active,
    };
    let consent = |seq, prev, body: &[u8]| Consent {
        chain,
        commitment: Digest::of(body),
        custody: Custody::Client,
        grant: grant.clone(),
        iat,
        key: key_id,
        prev,
        seq,
    };
    let given = Payload::Grant(consent(1, None, b"first"));
    let given_id = tx::txid(tx::sign(&key(51), &given).unwrap().as_bytes());
    let altered = Payload::Alter(consent(2, Some(given_id), b"second"));
    let revoked = Payload::Revoke(Revoke { chain, grant: grant.clone(), iat, key: key_id });
    [(201, Payload::ConsentKey(registration)), (51, given), (51, altered), (51, revoked)]
}

/// An anchor and its end, and statistics.
fn facts(chain: Digest, iat: u64) -> [Said; 3] {
    let root = Digest::of(b"segment");
    let segment = Segment {
        bytes: 1024,
        cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
        day0: 20_000,
        day1: 20_031,
        digest: root,
        records: 1,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    let anchor = Anchor { chain, iat, segments: vec![segment] };
    let commitment = Digest::of(b"erased");
    let erase = Erase { chain, commitment, iat, records: vec![], roots: vec![root] };
    let release = Release { chain, digest: Digest::of(b"cube"), iat, period: "2026-10".to_owned() };
    [(203, Payload::Anchor(anchor)), (202, Payload::Erase(erase)), (203, Payload::Release(release))]
}

/// A profile, a service's new key, a word of the node, other parameters, and at last another key of the one member.
fn votes(chain: Digest, iat: u64) -> [Said; 6] {
    let staff = Payload::Staff(Staff {
        chain,
        commitment: Digest::of(b"person"),
        iat,
        key: public(60).kid(),
        nonce: 0,
        organisation: "Example Practice".to_owned(),
        public: public(60),
        role: "doctor".to_owned(),
        status: StaffStatus::Active,
    });
    let service = ServiceKeyChange {
        chain,
        iat,
        key: public(204).kid(),
        nonce: 0,
        public: public(204),
        role: ServiceRole::Storage,
        status: KeyStatus::Active,
    };
    let (event, node) = ("tested".to_owned(), "node-1".to_owned());
    let event = NodeEvent { chain, event, evidence: Digest::of(b"evidence"), height: 1, iat, node };
    let vote = |subject: &str, value: String| {
        Payload::MemberVote(MemberVote { chain, iat, nonce: 0, subject: subject.to_owned(), value })
    };
    [
        (201, staff.clone()),
        (101, staff),
        (1, Payload::ServiceKey(service)),
        (1, Payload::NodeEvent(event)),
        (1, vote("parameter:heartbeat_ms", "86400000".to_owned())),
        (1, vote("member:node-1", public(2).to_string())),
    ]
}

/// A transaction of every type.
fn story(chain: Digest) -> Vec<Said> {
    let iat = Clock::system().now().unsigned_ms();
    let facts = facts(chain, iat).into_iter();
    consents(chain, iat).into_iter().chain(facts).chain(votes(chain, iat)).collect()
}

/// A transaction after the member's key has changed.
async fn fill_one_more(node: &Endpoint, chain: Digest) {
    let (iat, root) = (Clock::system().now().unsigned_ms(), Digest::of(b"after"));
    let receipts = Payload::Receipts(Receipts { chain, count: 1, iat, rights: None, root });
    settle(node, &tx::sign(&key(202), &receipts).unwrap()).await;
}

/// Makes a transaction final.
async fn settle(node: &Endpoint, jws: &str) {
    node.to(ledger::submit_transaction())
        .json(&SubmitTransaction { jws: jws.to_owned() })
        .done()
        .await
        .unwrap();
    let (txid, started) = (tx::txid(jws.as_bytes()), Instant::now());
    while node.to(ledger::read_transaction(txid)).fetch().await.unwrap().state != TransactionState::Final {
        assert!(started.elapsed() < Duration::from_secs(60), "{txid} does not become final");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn hbc(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_hbc")).args(args).env_clear().output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn a_chain_is_exported_from_both_sides_and_checked_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let genesis = genesis();
    let chain = genesis.chain_id().unwrap();
    std::fs::write(folder.path().join("genesis.json"), genesis.to_bytes().unwrap()).unwrap();
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (pinned, exported, copied) = (text("genesis.json"), text("chain.hbc"), text("copy.hbc"));

    let config = config(folder.path());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ready, listening) = std::sync::mpsc::channel();
    let node = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = Application::build(config).await.expect("the node starts");
            ready.send(app.port()).unwrap();
            let stopped = async { drop(stopped.await) };
            app.run_until_stopped(stopped).await.expect("the node ends well");
        });
    });
    let port = listening.recv_timeout(Duration::from_secs(60)).expect("the node listens");
    let address = format!("http://127.0.0.1:{port}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let proof = runtime.block_on(async {
        let node = Endpoint::new(&address).unwrap();
        let txids = fill(&node, chain, 6).await;
        let proof = node
            .to(ledger::prove_transaction(txids[3]))
            .header("accept", "text/plain")
            .send()
            .await
            .unwrap()
            .body;
        std::fs::write(text("late.note"), node.to(ledger::read_checkpoint()).send().await.unwrap().body)
            .unwrap();
        std::fs::write(text("tx.tlog-proof"), proof).unwrap();
        let consistency = node.to(ledger::prove_consistency("6").with("from=2")).send().await.unwrap().body;
        std::fs::write(text("consistency.json"), consistency).unwrap();
        for (signer, payload) in story(chain) {
            settle(&node, &tx::sign(&key(signer), &payload).unwrap()).await;
        }
        fill_one_more(&node, chain).await;
        std::fs::write(text("last.note"), node.to(ledger::read_checkpoint()).send().await.unwrap().body)
            .unwrap();
        let members = node.to(ledger::prove_state().with("kind=members")).send().await.unwrap().body;
        std::fs::write(text("members.json"), members).unwrap();
        txids[3].to_string()
    });
    let (code, said) = hbc(&["export", "--node", &address, &exported]);
    assert_eq!(code, Some(0), "{said}");
    drop(stop);
    node.join().unwrap();

    let (code, said) = hbc(&["export", "--data", &text("data"), "--genesis", &pinned, &copied]);
    assert_eq!(code, Some(0), "{said}");
    let bytes = std::fs::read(&exported).unwrap();
    assert_eq!(bytes, std::fs::read(&copied).unwrap(), "both sides write the same");
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        !names.into_iter().any(|name| name.to_string_lossy().contains(".part")),
        "nothing unfinished stays"
    );

    let (code, said) = hbc(&["verify", "--trust", &pinned, &exported]);
    assert_eq!(code, Some(0), "{said}");
    // Each of the story in a block of its own, after those of receipts and before the last.
    assert!(said.contains("20 after block 0") && said.contains("height 20"), "{said}");
    assert_eq!(hbc(&["verify", "--trust", &chain.to_string(), &exported]).0, Some(0));
    assert_eq!(hbc(&["verify", &exported]).0, Some(3));
    assert_eq!(hbc(&["verify", "--trust", &"ab".repeat(32), &exported]).0, Some(1));

    for place in [200, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[place] ^= 4;
        std::fs::write(&copied, bad).unwrap();
        let (code, said) = hbc(&["verify", "--trust", &pinned, &copied]);
        assert_eq!(code, Some(1), "byte {place}: {said}");
        assert!(said.starts_with("not valid: ") && !said.contains("panicked"), "{said}");
    }
    // Cut off, and with a letter of the magic changed: nothing is false that is there.
    std::fs::write(&copied, &bytes[..bytes.len() - 13]).unwrap();
    let (code, said) = hbc(&["verify", "--trust", &pinned, &copied]);
    let cut = "hbc: not checked: block 20: the file is cut off; the 19 blocks before it hold\n";
    assert_eq!((code, said.as_str()), (Some(2), cut));
    let mut bad = bytes.clone();
    bad[5] ^= 4;
    std::fs::write(&copied, bad).unwrap();
    let (code, said) = hbc(&["verify", "--trust", &pinned, &copied]);
    assert_eq!(code, Some(2), "{said}");

    // The other kinds of files, by the same command.
    let (note, tlog) = (text("late.note"), text("tx.tlog-proof"));
    assert_eq!(hbc(&["verify", "--trust", &pinned, &note]).0, Some(0));
    assert_eq!(hbc(&["verify", &note]).0, Some(2), "a checkpoint needs a genesis.json");
    assert_eq!(hbc(&["verify", "--trust", &pinned, "--against", &note, &note]).0, Some(0));
    let (code, said) = hbc(&["verify", "--trust", &pinned, "--transaction", &proof, &tlog]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&proof), "{said}");
    assert_eq!(hbc(&["verify", "--trust", &pinned, "--transaction", &"00".repeat(32), &tlog]).0, Some(1));
    assert_eq!(hbc(&["verify", "--trust", &pinned, &tlog]).0, Some(2), "which transaction?");
    let (code, said) = hbc(&["verify", "--trust", &pinned, &text("consistency.json")]);
    assert_eq!(code, Some(0), "{said}");

    // The one member signs with another key now: documents show that, a checkpoint alone cannot.
    let (code, said) = hbc(&["verify", "--trust", &pinned, &text("members.json")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"name\":\"node-1\"") && said.contains("at height 20"), "{said}");
    let (code, said) = hbc(&["verify", "--trust", &pinned, &text("last.note")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("0 of the 1 founding members signed this"), "{said}");
    // Every file against every other, the chain among them.
    let files = [text("members.json"), text("consistency.json"), note, exported];
    for (kept, file) in files.iter().flat_map(|kept| files.iter().map(move |file| (kept, file))) {
        let (code, said) = hbc(&["verify", "--trust", &pinned, "--against", kept, file]);
        assert_eq!(code, Some(0), "{kept} {file}: {said}");
    }
}

#[test]
fn an_export_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("chain.hbc");
    std::fs::write(&target, "older").unwrap();
    let port = hbc_testkit::free_ports::<1>()[0];
    let (code, said) =
        hbc(&["export", "--node", &format!("http://127.0.0.1:{port}"), target.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "older");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(hbc(&["export", target.to_str().unwrap()]).0, Some(2), "from where?");
}
