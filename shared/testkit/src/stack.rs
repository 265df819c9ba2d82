//! The whole stack as real processes: a fresh development deployment in a temporary folder, on free ports.

mod power;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// How long the stack may take to become ready, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Variables that every process of a stack has besides those of the test.
pub type Environment = Vec<(&'static str, OsString)>;

/// What `hbc up --ready-file` writes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ready {
    /// Base URL of each service: `auth`, `access-policy`, `storage`, `node-1`, …
    pub services: BTreeMap<String, String>,
    /// The processes of each service: `ledger` has several.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Base URL of Kubo's RPC.
    pub kubo: Option<String>,
}

/// A username and its password.
#[derive(Clone, Debug, Deserialize)]
pub struct Login {
    /// The name to log in with.
    pub username: String,
    /// The password.
    pub password: String,
}

#[derive(Deserialize)]
struct Logins {
    operators: Vec<Login>,
}

/// A running stack. Everything ends, and the folder goes, when this is dropped; after a failed test the folder stays.
pub struct Stack {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    environment: Environment,
    /// None before the first start.
    supervisor: Option<Child>,
    ready: Ready,
}

impl Stack {
    /// Makes a development deployment and starts it. `None` (and a noted skip) where there is no Kubo.
    pub async fn start() -> Result<Option<Self>> {
        Self::start_with(|_dir| Ok(())).await
    }

    /// The same, with `adjust` changing the folder's configuration before the start.
    pub async fn start_with(adjust: impl FnOnce(&Path) -> Result<()>) -> Result<Option<Self>> {
        let found = Self::found(|dir| adjust(dir).map(|()| Environment::new()))?;
        let Some(mut stack) = found else { return Ok(None) };
        stack.come_up().await?;
        Ok(Some(stack))
    }

    /// Makes a development deployment and starts nothing. `prepare` may change its folder, and says what its processes
    /// have in their environment besides. `None` (and a noted skip) where there is no Kubo.
    pub fn found(prepare: impl FnOnce(&Path) -> Result<Environment>) -> Result<Option<Self>> {
        let folder =
            tempfile::Builder::new().prefix("hbc-stack-").tempdir().context("no temporary folder")?;
        let dir = folder.path().join("deployment");
        if !init(&dir, &Environment::new())? {
            return Ok(None);
        }
        let environment = prepare(&dir)?;
        Ok(Some(Self { folder: Some(folder), dir, environment, supervisor: None, ready: Ready::default() }))
    }

    /// The deployment's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Base URL of a service by its process name.
    ///
    /// # Panics
    /// If no service is called that.
    #[expect(clippy::expect_used, reason = "a wrong name is a fault of the test")]
    pub fn url(&self, name: &str) -> &str {
        self.ready.services.get(name).expect("a service of this name")
    }

    /// Base URL of auth.
    pub fn auth(&self) -> &str {
        self.url("auth")
    }

    /// Base URL of access-policy.
    pub fn access_policy(&self) -> &str {
        self.url("access-policy")
    }

    /// Base URL of storage.
    pub fn storage(&self) -> &str {
        self.url("storage")
    }

    /// Base URLs of the ledger nodes, in order of their names.
    pub fn nodes(&self) -> Vec<&str> {
        let nodes = self.ready.roles.get("ledger").into_iter().flatten();
        nodes.map(|name| self.url(name)).collect()
    }

    /// Every process of every service.
    pub fn processes(&self) -> impl Iterator<Item = &str> {
        self.ready.services.keys().map(String::as_str)
    }

    /// Every service, with one of its processes.
    pub fn services(&self) -> impl Iterator<Item = (&str, &str)> {
        let roles = self.ready.roles.iter();
        roles.filter_map(|(service, processes)| Some((service.as_str(), processes.first()?.as_str())))
    }

    /// Base URL of Kubo's RPC.
    pub fn kubo(&self) -> Option<&str> {
        self.ready.kubo.as_deref()
    }

    /// The first operator's login.
    pub fn operator(&self) -> Result<Login> {
        let text = std::fs::read(self.dir.join("secrets/logins.json")).context("no logins are kept")?;
        let logins: Logins = serde_json::from_slice(&text).context("the logins are not readable")?;
        logins.operators.into_iter().next().context("there is no operator")
    }

    /// What a process has logged so far.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// `kill -9` of one process; the supervisor starts it again.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.node("kill", name)
    }

    /// Ends one process and keeps it down.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.node("stop", name)
    }

    /// Lets a stopped (or killed) process run and waits until it is ready.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.node("start", name)
    }

    fn node(&self, verb: &str, name: &str) -> Result<()> {
        let output = hbc(&["node", verb, name], &self.dir)?;
        if !output.status.success() {
            bail!("`hbc node {verb} {name}` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Stops everything in good order and starts it again on the same folder.
    pub async fn restart(&mut self) -> Result<()> {
        self.end();
        self.come_up().await
    }

    /// `kill -9` of the supervisor itself, then a new one on the same folder.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.kill().context("cannot kill the supervisor")?;
        }
        self.come_up().await
    }

    /// Ends every process at one instant, as a power cut does; [`Self::come_up`] starts them again. Without a supervisor
    /// there is nothing to end.
    pub fn cut_power(&self) -> Result<()> {
        self.supervisor.as_ref().map_or(Ok(()), |supervisor| power::cut(supervisor.id()))
    }

    /// Starts the supervisor, and waits for nothing. The one before must have ended.
    pub fn begin(&mut self) -> Result<()> {
        if let Some(mut before) = self.supervisor.take() {
            before.wait().context("cannot wait for the supervisor")?;
        }
        let ready_file = self.ready_file();
        let _absent = std::fs::remove_file(&ready_file);
        let supervisor = Command::new(program()?)
            .args(["up", "--quiet", "--until-input-closes", "--ready-file"])
            .arg(&ready_file)
            .arg(&self.dir)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start `hbc up`")?;
        self.supervisor = Some(supervisor);
        Ok(())
    }

    /// Starts everything and waits until it is ready.
    pub async fn come_up(&mut self) -> Result<()> {
        self.begin()?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(text) = std::fs::read(self.ready_file()) {
                self.ready = serde_json::from_slice(&text).context("the ready file is not readable")?;
                return Ok(());
            }
            let supervisor = self.supervisor.as_mut().context("it was not started")?;
            if let Some(status) = supervisor.try_wait().context("cannot watch the supervisor")? {
                bail!("`hbc up` ended: {status}");
            }
            if Instant::now() > deadline {
                let state = std::fs::read_to_string(self.dir.join("run/state.json")).unwrap_or_default();
                let log = std::fs::read_to_string(self.dir.join("logs/supervisor.log")).unwrap_or_default();
                bail!("the stack is not ready after {} s: {state}\n{log}", START_LIMIT.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.join("ready.json")
    }

    fn end(&mut self) {
        let Some(supervisor) = &mut self.supervisor else { return };
        drop(supervisor.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(45);
        while Instant::now() < deadline {
            if !matches!(supervisor.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _gone = supervisor.kill();
        let _gone = supervisor.wait();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the deployment of the failed test stays at {}", folder.keep().display());
        }
    }
}

/// Runs `hbc init` for a development deployment; `false` (and a noted skip) where there is no Kubo.
pub fn init(dir: &Path, environment: &Environment) -> Result<bool> {
    let mut command = Command::new(program()?);
    command.args(["init", "--dev", "--ports", "auto"]).arg(dir).stdin(Stdio::null());
    let made = command.envs(environment.iter().map(|(name, value)| (name, value))).output();
    let made = made.context("cannot run `hbc init`")?;
    if made.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    if said.contains("no IPFS daemon") {
        crate::skip(said.trim());
        return Ok(false);
    }
    bail!("`hbc init` failed: {said}");
}

fn hbc(args: &[&str], dir: &Path) -> Result<Output> {
    Command::new(program()?).args(args).arg(dir).stdin(Stdio::null()).output().context("cannot run `hbc`")
}

/// The `hbc` program beside the running test: `target/PROFILE/hbc`.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe().context("this test has no path")?;
    let found = test.ancestors().map(|folder| folder.join("hbc")).find(|program| program.is_file());
    found.context("the `hbc` program is not built; run `cargo build -p hbc` first (`make test` does)")
}
