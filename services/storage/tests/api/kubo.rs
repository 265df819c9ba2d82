//! The block store over the real daemon, and over a double that breaks off in mid-stream.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use hbc_storage::testing::Kubo;
use hbc_storage::testing::raw_cid;
use hbc_storage::testing::{BlobError, BlobStore};
use hbc_types::secret::SecretText;
use serde_json::{Value, json};

use crate::app::each;

const TOKEN: &str = "a-token-for-tests";

/// A private daemon in a folder of its own; it ends with this value.
struct Daemon {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
    url: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubo/bin/ipfs");
    let known = Command::new("ipfs")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if built.exists() { Some(built) } else { known.then(|| PathBuf::from("ipfs")) }
}

fn ipfs(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("IPFS_PATH", folder).env("IPFS_TELEMETRY", "off").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Daemon {
    async fn start() -> Option<Self> {
        let Some(program) = program() else {
            hbc_testkit::skip("Kubo is not installed: run `make deps`");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        assert!(ipfs(&program, folder.path()).args(["init", "--empty-repo"]).status().unwrap().success());
        let file = folder.path().join("config");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config["Addresses"] = json!({"API": "/ip4/127.0.0.1/tcp/0", "Gateway": [], "Swarm": []});
        config["API"] = json!({"Authorizations": {"storage": {
            "AuthSecret": format!("basic:storage:{TOKEN}"), "AllowedPaths": ["/api/v0"]}}});
        config["Bootstrap"] = json!([]);
        config["AutoConf"] = json!({"Enabled": false});
        config["DNS"] = json!({"Resolvers": {}});
        config["Routing"] = json!({"Type": "none"});
        config["Ipns"] = json!({"DelegatedPublishers": []});
        std::fs::write(&file, config.to_string()).unwrap();
        let child = ipfs(&program, folder.path()).args(["daemon", "--offline"]).spawn().unwrap();
        let mut daemon = Self { child, program, folder, url: String::new() };
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok(address) = std::fs::read_to_string(daemon.folder.path().join("api")) else { continue };
            daemon.url = format!("http://127.0.0.1:{}", address.trim().rsplit('/').next().unwrap());
            if daemon.store(TOKEN).check().await.is_ok() {
                return Some(daemon);
            }
        }
        panic!("the daemon did not start");
    }

    fn store(&self, token: &str) -> Kubo {
        kubo(&self.url, token)
    }

    /// What plain `ipfs cat` shows.
    fn cat(&self, cid: &Cid) -> Vec<u8> {
        let mut command = ipfs(&self.program, self.folder.path());
        let auth = format!("basic:storage:{TOKEN}");
        command
            .args(["--api-auth", &auth, "cat", &cid.to_string()])
            .stdout(Stdio::piped())
            .output()
            .unwrap()
            .stdout
    }
}

fn kubo(url: &str, token: &str) -> Kubo {
    Kubo::new(url, "storage", SecretText::new(token.to_owned()), Duration::from_secs(10), 8).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_keeps_what_it_is_given() {
    let Some(daemon) = Daemon::start().await else { return };
    let store = daemon.store(TOKEN);
    for length in [1, 4096, 1024 * 1024, 1024 * 1024 + 1, 5_000_000] {
        let bytes: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let cid = store.put(bytes.clone().into()).await.unwrap();
        assert_eq!(store.cid_of(bytes.clone().into()).await.unwrap(), cid);
        assert_eq!(length <= 1024 * 1024, raw_cid(&bytes) == cid, "one raw block up to 1 MiB");
        assert_eq!(store.put(bytes.clone().into()).await.unwrap(), cid, "putting twice is harmless");
        assert!(store.is_pinned(cid).await.unwrap());
        assert_eq!(daemon.cat(&cid), bytes);
        let length = u64::from(length);
        assert_eq!(store.read(cid, 0, length).await.unwrap(), bytes);
        let (from, to) = (length / 3, length / 2);
        let part = store.read(cid, from, to - from).await.unwrap();
        assert_eq!(part, bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()]);
        assert!(store.read(cid, 0, length + 1).await.is_err(), "too few bytes are an error");
        store.unpin(cid).await.unwrap();
        store.unpin(cid).await.unwrap();
        assert!(!store.is_pinned(cid).await.unwrap());
    }
    let other = daemon.store("another-token");
    assert!(matches!(other.check().await, Err(BlobError::Unavailable(_))));
    assert!(other.put(b"x".as_slice().into()).await.is_err());
    assert!(other.read(raw_cid(b"x"), 0, 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_live_on_the_real_daemon() {
    each(|mut app| async move {
        let Some(daemon) = Daemon::start().await else { return };
        app.stop().await;
        app.start(Arc::new(daemon.store(TOKEN))).await;
        app.directory().await;
        let patient = app.patient();
        let bundle = hbc_testkit::synthea::bundle(hbc_testkit::synthea::LARGEST).unwrap();
        let started = std::time::Instant::now();
        let reply = app.fhir(&patient, "/fhir", &[("Prefer", "wait=20")], &bundle).await.expect(200);
        let entries = reply.body["entry"].as_array().unwrap().len();
        println!("{entries} resources on Kubo in {:?}", started.elapsed());
        assert_eq!(reply.header("hbc-anchor"), "final");
        let listed = app.get(&patient, "/v1/records?limit=1000").await.expect(200).body;
        let first = &listed["items"][0];
        let cid = Cid::from_str(first["cid"].as_str().unwrap()).unwrap();
        let stored = daemon.cat(&cid);
        assert!(stored.len() > 1024 * 1024, "the largest patient is more than one block");
        assert!(!stored.windows(12).any(|part| part == b"resourceType"), "what lies there is ciphertext");
        let id = first["id"].as_str().unwrap();
        app.get(&patient, &format!("/v1/records/{id}/received")).await.expect(200);
        flip_stored(&daemon);
        app.get(&patient, &format!("/v1/records/{id}/received")).await.refused(502, "integrity");
    })
    .await;
}

/// Flips one byte in every block file of the daemon's repository.
fn flip_stored(daemon: &Daemon) {
    let mut folders = vec![daemon.folder.path().join("blocks")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "data") {
                let mut bytes = std::fs::read(&path).unwrap();
                for at in (0..bytes.len()).step_by(256) {
                    bytes[at] ^= 1;
                }
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
}

/// Serves one connection with these bytes.
fn double(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).unwrap();
        stream.write_all(answer).unwrap();
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_breaks_off_is_an_error_and_no_short_success() {
    let cid = raw_cid(b"hello world");
    let whole =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let read = kubo(&double(whole), TOKEN).read(cid, 0, 11).await;
    assert_eq!(read.unwrap(), "hello world");
    let trailer = b"HTTP/1.1 200 OK\r\nTrailer: X-Stream-Error\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\nX-Stream-Error: blockstore: block not found\r\n\r\n";
    let read = kubo(&double(trailer), TOKEN).read(cid, 0, 5).await;
    assert!(
        matches!(read, Err(BlobError::Missing(_))),
        "the trailer counts even if the length fits: {read:?}"
    );
    let short = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let read = kubo(&double(short), TOKEN).read(cid, 0, 11).await;
    assert!(matches!(read, Err(BlobError::Corrupt(_))), "{read:?}");
    let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n wo";
    assert!(kubo(&double(cut), TOKEN).read(cid, 0, 11).await.is_err());
    let long = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!";
    assert!(matches!(kubo(&double(long), TOKEN).read(cid, 0, 11).await, Err(BlobError::Corrupt(_))));
    let gone = b"HTTP/1.1 500 Internal\r\nContent-Length: 29\r\n\r\n{\"Message\":\"block not found\"}";
    assert!(matches!(kubo(&double(gone), TOKEN).read(cid, 0, 11).await, Err(BlobError::Missing(_))));
}
