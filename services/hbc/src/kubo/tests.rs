//! The private profile, against the real daemon where one is there.

use std::time::Duration;

use super::*;
use crate::deployment::Deployment;
use crate::probe::Probe;
use crate::supervise::{ProcessSpec, State, Supervisor};
use hbc_types::Clock;

#[test]
fn merging_replaces_values_and_keeps_what_is_not_named() {
    let mut config =
        json!({"Identity": {"PeerID": "x"}, "Bootstrap": ["a"], "DNS": {"Resolvers": {"eth.": "u"}}});
    merge(&mut config, json!({"Bootstrap": [], "DNS": {"Resolvers": {}}, "New": {"Deep": {"Flag": false}}}));
    assert_eq!(
        config,
        json!({"Identity": {"PeerID": "x"}, "Bootstrap": [], "DNS": {"Resolvers": {}}, "New": {"Deep": {"Flag": false}}})
    );
}

struct Daemon {
    folder: tempfile::TempDir,
    repository: PathBuf,
    program: PathBuf,
    api_port: u16,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Starts the real daemon under the real supervisor, straight (the guard has tests of its own).
async fn daemon() -> Option<Daemon> {
    let program = match find() {
        Ok(program) => program,
        Err(error) => {
            hbc_testkit::skip(&error.to_string());
            return None;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let deployment = Deployment::at(folder.path()).unwrap();
    let [api_port, swarm_port] = hbc_testkit::free_ports();
    let settings = KuboSettings { program: program.clone(), api_port, swarm_port };
    init(&settings, &deployment.kubo(), TOKEN, &Random::system()).unwrap();
    let path = deployment.kubo().join("config");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["API"]["Authorizations"]["test"] =
        json!({"AuthSecret": "bearer:everything", "AllowedPaths": ["/api/v0"]});
    std::fs::write(&path, config.to_string()).unwrap();
    let spec = ProcessSpec {
        name: "kubo".to_owned(),
        program: program.clone(),
        args: vec!["daemon".to_owned()],
        env: environment(&deployment.kubo()),
        ready: Some(Probe::kubo(api_port, TOKEN)),
        stop_order: 0,
    };
    let supervisor = Supervisor::start(&deployment, vec![spec], Clock::system(), true).unwrap();
    let mut standings = supervisor.watch();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = hbc_service::spawn(
        "supervisor",
        supervisor.run_until(async {
            stopped.await.ok();
        }),
    );
    let ready = standings.wait_for(|all| all.get("kubo").is_some_and(|kubo| kubo.state == State::Ready));
    tokio::time::timeout(Duration::from_secs(60), ready).await.unwrap().unwrap();
    Some(Daemon { repository: deployment.kubo(), folder, program, api_port, stop, task })
}

impl Daemon {
    async fn post(&self, path: &str, authorization: Option<&str>) -> (u16, String) {
        let client = hbc_testkit::http_client();
        let mut request = client.post(format!("http://127.0.0.1:{}/api/v0/{path}", self.api_port));
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn upload(&self, path: &str, bytes: &str, authorization: Option<&str>) -> (u16, String) {
        let form = format!(
            "--B\r\nContent-Disposition: form-data; name=\"data\"; filename=\"data\"\r\n\r\n{bytes}\r\n--B--\r\n"
        );
        let request = hbc_testkit::http_client()
            .post(format!("http://127.0.0.1:{}/api/v0/{path}", self.api_port))
            .header("Content-Type", "multipart/form-data; boundary=B")
            .header("Authorization", authorization.unwrap_or_default())
            .body(form);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        drop(self.folder);
    }
}

#[tokio::test]
async fn the_daemon_is_private_routes_nothing_provides_nothing_and_wants_its_token() {
    let Some(daemon) = daemon().await else { return };
    let bearer = format!("Bearer {TOKEN}");
    // storage:TOKEN
    let basic = "Basic c3RvcmFnZTowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==";

    for path in ["version", "id", "repo/stat", "config/show", "shutdown"] {
        assert_eq!(daemon.post(path, None).await.0, 403, "{path} without a token");
        assert_eq!(daemon.post(path, Some("Bearer wrong")).await.0, 403, "{path} with a wrong token");
    }
    for authorization in [bearer.as_str(), basic] {
        assert_eq!(daemon.post("version", Some(authorization)).await.0, 200);
        assert_eq!(daemon.post("repo/stat", Some(authorization)).await.0, 200);
        for path in
            ["config/show", "shutdown", "id", "swarm/connect", "routing/provide", "name/publish", "key/list"]
        {
            assert_eq!(daemon.post(path, Some(authorization)).await.0, 403, "{path} is not allowed");
        }
    }
    let (_, peers) = daemon.post("swarm/peers", Some(&bearer)).await;
    assert!(serde_json::from_str::<Value>(&peers).unwrap()["Peers"].is_null(), "no peers: {peers}");

    let log = std::fs::read_to_string(daemon.folder.path().join("logs/kubo.log")).unwrap();
    assert!(log.contains("Swarm is limited to private network"), "{log}");
    let config: Value =
        serde_json::from_slice(&std::fs::read(daemon.repository.join("config")).unwrap()).unwrap();
    assert_eq!(config["Routing"]["Type"], "none");
    assert_eq!(config["Bootstrap"], json!([]));

    // The daemon's own word for the rest, asked under a right that only this test has.
    let all = Some("Bearer everything");
    let (status, said) = daemon.post("swarm/addrs/listen", all).await;
    let listens: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status, 200);
    for address in listens["Strings"].as_array().unwrap() {
        assert!(
            address.as_str().unwrap().starts_with("/ip4/127.0.0.1/tcp/"),
            "listens on loopback only: {said}"
        );
    }
    let (status, added) = daemon.upload("block/put?pin=true", "a block", all).await;
    assert_eq!(status, 200, "{added}");
    let key = serde_json::from_str::<Value>(&added).unwrap()["Key"].as_str().unwrap().to_owned();
    for (path, because) in [
        (format!("routing/provide?arg={key}"), "nothing is provided"),
        ("provide/stat".to_owned(), "there is no provider"),
    ] {
        let (status, said) = daemon.post(&path, all).await;
        assert_eq!(status, 500, "{because}: {said}");
    }
    let (_, found) = daemon.post(&format!("routing/findprovs?arg={key}"), all).await;
    assert_eq!(found, "", "there is no routing, so nobody is found");
    daemon.end().await;
}

#[tokio::test]
async fn without_its_swarm_key_the_daemon_refuses_to_start() {
    let Some(daemon) = daemon().await else { return };
    let Daemon { folder, repository, program, stop, task, .. } = daemon;
    stop.send(()).unwrap();
    task.await.unwrap();
    std::fs::remove_file(repository.join("swarm.key")).unwrap();
    let output = Command::new(program).arg("daemon").envs(environment(&repository)).output().unwrap();
    assert!(!output.status.success());
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("private network"), "{said}");
    drop(folder);
}
