//! A development deployment of its own: made afresh, run by a child `hbc up`, removed at the end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hbc_types::Random;
use tokio::process::{Child, Command};

use crate::deployment::Deployment;
use crate::settings::Settings;

/// How long the stack may take to become ready on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running deployment.
pub struct Stack {
    /// Its folder.
    pub deployment: Deployment,
    /// Its processes and ports.
    pub settings: Settings,
    home: PathBuf,
    program: PathBuf,
    supervisor: Child,
    pipe: Option<tokio::process::ChildStdin>,
    keep: bool,
}

impl Stack {
    /// Makes a fresh development deployment for this purpose and starts it on free ports.
    pub async fn start(purpose: &str, keep: bool, random: &Random) -> Result<Self> {
        Self::start_with(purpose, keep, random, |_deployment, _settings| Ok(())).await
    }

    /// The same, with what `prepare` does to its folder first.
    pub async fn start_with(
        purpose: &str,
        keep: bool,
        random: &Random,
        prepare: impl FnOnce(&Deployment, &Settings) -> Result<()>,
    ) -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let home = home(purpose, random);
        std::fs::create_dir_all(&home).with_context(|| format!("cannot make `{}`", home.display()))?;
        let dir = home.join("deployment");
        let made = Command::new(&program)
            .args(["init", "--dev", "--ports", "auto"])
            .arg(&dir)
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run `hbc init`")?;
        if !made.status.success() {
            let _removed = std::fs::remove_dir_all(&home);
            bail!("`hbc init` failed: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        let deployment = Deployment::at(&dir)?;
        let settings = Settings::read(&deployment.settings())?;
        prepare(&deployment, &settings)?;
        let mut supervisor = up(&program, &deployment)?;
        let pipe = supervisor.stdin.take();
        let mut stack = Self { deployment, settings, home, program, supervisor, pipe, keep };
        stack.wait_until_ready().await?;
        Ok(stack)
    }

    /// The folder for files beside it.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Base URL of a service.
    pub fn url(&self, name: &str) -> Result<String> {
        self.settings.url(name).with_context(|| format!("no service is called `{name}`"))
    }

    /// Runs this same program with other arguments, with nothing but a file system: for `hbc verify`.
    pub async fn hbc(&self, args: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null()).env_clear().current_dir(&self.home);
        command.output().await.context("cannot run `hbc`")
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let ready = self.deployment.root().join("ready.json");
        let began = std::time::Instant::now();
        while !ready.exists() {
            if let Some(status) = self.supervisor.try_wait().context("cannot watch `hbc up`")? {
                bail!("`hbc up` ended ({status}); logs in {}", self.deployment.root().join("logs").display());
            }
            if began.elapsed() > START_LIMIT {
                let state = std::fs::read_to_string(self.deployment.state()).unwrap_or_default();
                self.keep = true;
                bail!(
                    "the stack is not ready after {} s: {state}\nlogs in {}",
                    START_LIMIT.as_secs(),
                    self.deployment.root().join("logs").display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Keeps the folder after the end, for looking into what went wrong.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Stops everything in good order and removes the folder.
    pub async fn stop(mut self) -> Result<Option<PathBuf>> {
        drop(self.pipe.take());
        let ended = tokio::time::timeout(Duration::from_secs(60), self.supervisor.wait()).await;
        let status = ended.context("`hbc up` does not stop")?.context("cannot wait for `hbc up`")?;
        if !status.success() {
            bail!("`hbc up` ended badly: {status}");
        }
        if self.keep {
            return Ok(Some(self.home));
        }
        std::fs::remove_dir_all(&self.home).context("cannot remove the deployment's folder")?;
        Ok(None)
    }
}

fn up(program: &Path, deployment: &Deployment) -> Result<Child> {
    Command::new(program)
        .args(["up", "--quiet", "--until-input-closes", "--ready-file"])
        .arg(deployment.root().join("ready.json"))
        .arg(deployment.root())
        .stdin(Stdio::piped())
        // Ctrl-C reaches this program, which then closes the pipe.
        .process_group(0)
        .spawn()
        .context("cannot start `hbc up`")
}

/// A fresh folder inside `target`, where the program was built; else in the system's folder for temporary files.
fn home(purpose: &str, random: &Random) -> PathBuf {
    let built = Path::new("target");
    let base = if built.is_dir() { built.to_owned() } else { std::env::temp_dir() };
    let name = format!("hbc-{purpose}-{}", hex::encode(random.bytes::<4>()));
    std::path::absolute(base.join(&name)).unwrap_or_else(|_no_folder| base.join(name))
}
