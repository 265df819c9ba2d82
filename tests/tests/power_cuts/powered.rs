//! A stack on a disk that forgets, and how it must stand after a power cut.

use anyhow::{Context as _, Result, ensure};
use hbc_testkit::Stack;
use hbc_tests::{TestApp, chain};
use hbc_types::wire::ledger::NodeState;

use crate::disk::{Disk, Lost};
use crate::luck::Luck;

/// What stays as it is at the cut: the IPFS daemon's own repository (a Go program, which calls no C library), and what is
/// of the moment or for people.
const LEFT_OUT: &[&str] = &["kubo", "logs", "run", "ready.json", "ready.new"];

/// A stack that was not started yet, and its disk.
pub struct Powered {
    /// The processes.
    pub stack: Stack,
    /// The disk under the deployment's folder.
    pub disk: Disk,
}

impl Powered {
    /// A fresh deployment, all of it on disk. `None` where there is no Kubo.
    pub fn found() -> Result<Option<Self>> {
        let mut disk = None;
        let stack = Stack::found(|dir| {
            let made = Disk::under(dir, LEFT_OUT)?;
            let environment = made.environment();
            disk = Some(made);
            Ok(environment)
        })?;
        let Some(stack) = stack else { return Ok(None) };
        Ok(Some(Self { stack, disk: disk.context("no disk was made")? }))
    }

    /// The power fails.
    pub fn cut(&self, luck: &Luck) -> Result<Lost> {
        self.stack.cut_power()?;
        self.disk.forget(luck)
    }
}

/// The nodes agree, none takes the cut for an attack, and none forgot what it signed.
pub async fn nodes_are_well(app: &TestApp) -> Result<()> {
    app.until_equal_tips().await?;
    for (name, node) in &app.nodes {
        let status = chain::status(node).await?;
        ensure!(status.state == NodeState::Healthy, "{name} is {}: {:?}", status.state, status.evidence);
        let abstains = app.dir().join("data").join(name).join("abstaining").exists();
        ensure!(!abstains, "{name} does not know what it signed");
    }
    Ok(())
}

/// Lines of the logs that call somebody, contradictions of members among them: after a power cut nobody is needed.
pub fn raised_alarms(app: &TestApp) -> Vec<String> {
    let mut found = Vec::new();
    for name in app.stack().processes() {
        for line in app.stack().log(name).lines() {
            if ["ALARM", "alarm\":", "panicked"].iter().any(|word| line.contains(word)) {
                found.push(format!("{name}: {line}"));
            }
        }
    }
    found
}
