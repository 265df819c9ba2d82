//! What an operator does about members, with the commands of OPERATIONS.md: a fifth joins, the work is changed, one leaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_testkit::stack::program;
use hbc_testkit::{Stack, free_ports};
use hbc_tests::wait;
use hbc_types::wire::ledger::NodeRole;

struct Consortium {
    stack: Stack,
    program: PathBuf,
}

impl Consortium {
    fn hbc(&self, arguments: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = Command::new(&self.program).args(arguments).output()?;
        let said = String::from_utf8(stdout)?;
        ensure!(status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&stderr));
        Ok(said)
    }

    /// The vote of one member, given to the first node; what the command said.
    fn vote(&self, member: &str, wish: &[&str]) -> Result<String> {
        let genesis = path(&self.stack.dir().join("genesis.json"));
        let key = path(&self.stack.dir().join(format!("secrets/{member}.key")));
        let node = self.stack.url("node-1");
        let vote = ["member", "vote", "--genesis", &genesis, "--node", node, "--key", &key];
        self.hbc(&[&vote, wish].concat())
    }

    /// The votes of three members; what the last one heard.
    fn decide(&self, wish: &[&str]) -> Result<String> {
        ensure!(self.vote("node-1", wish)?.contains("it is pending"), "one vote is not enough");
        let votes = self.hbc(&["member", "votes", "--node", self.stack.url("node-2")])?;
        ensure!(votes.contains("node-1"), "the vote is not listed: {votes}");
        self.vote("node-2", wish)?;
        let said = self.vote("node-3", wish)?;
        ensure!(said.contains("the change takes effect"), "three votes are enough: {said}");
        Ok(said)
    }

    async fn until_role(&self, node: &Endpoint, role: NodeRole) -> Result<()> {
        wait::until(format!("the node is {role}"), || async {
            let status = node.to(ledger::read_status()).fetch().await;
            Ok(status.ok().filter(|status| status.role == role).map(|_| ()))
        })
        .await
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Ends with this.
struct Fifth(Child);

impl Drop for Fifth {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// As OPERATIONS.md says: a key, an empty folder, a configuration like node-1's, one member to ask.
fn fifth(consortium: &Consortium, port: u16) -> Result<(Fifth, String)> {
    let folder = consortium.stack.dir();
    let said = consortium.hbc(&["key", "new", &path(&folder.join("secrets/node-5.key"))])?;
    let public = said.split_whitespace().find(|word| word.len() == 64).context("no key was told")?;
    assert!(consortium.hbc(&["key", "new", &path(&folder.join("secrets/node-5.key"))]).is_err());
    assert_eq!(consortium.hbc(&["key", "show", &path(&folder.join("secrets/node-5.key"))])?, said);
    let text = std::fs::read_to_string(folder.join("config/node-1.toml"))?;
    let mut config: toml::Table = text.parse()?;
    config.insert("name".into(), "node-5".into());
    config.insert("key_file".into(), path(&folder.join("secrets/node-5.key")).into());
    config.insert("data_dir".into(), path(&folder.join("data/node-5")).into());
    config.insert("address".into(), format!("http://127.0.0.1:{port}").into());
    config["server"].as_table_mut().context("no server")?.insert("port".into(), i64::from(port).into());
    let peer = toml::Table::from_iter([
        ("name".to_owned(), "node-1".into()),
        ("url".to_owned(), consortium.stack.url("node-1").into()),
    ]);
    config.insert("peers".into(), toml::Value::Array(vec![peer.into()]));
    std::fs::create_dir(folder.join("data/node-5"))?;
    std::fs::write(folder.join("data/node-5/unborn"), b"")?;
    let file = folder.join("config/node-5.toml");
    std::fs::write(&file, toml::to_string(&config)?)?;
    let child = Command::new(&consortium.program)
        .args(["serve", "ledger", "--until-input-closes", "--config", &path(&file)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((Fifth(child), public.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_member_joins_the_work_grows_and_one_leaves() -> Result<()> {
    let Some(stack) = Stack::start().await? else { return Ok(()) };
    let consortium = Consortium { stack, program: program()? };
    let [port] = free_ports::<1>();
    let (_running, public) = fifth(&consortium, port)?;
    let newcomer = Endpoint::new(&format!("http://127.0.0.1:{port}"))?;
    consortium.until_role(&newcomer, NodeRole::Observer).await?;

    assert!(consortium.vote("node-1", &["member", "node-5", "no key"]).is_err());
    consortium.decide(&["member", "node-5", &public])?;
    consortium.until_role(&newcomer, NodeRole::Member).await?;
    let listed = consortium.hbc(&["member", "list", "--node", consortium.stack.url("node-4")])?;
    assert!(listed.lines().any(|line| line.contains("node-5") && line.contains(&public)), "{listed}");

    // Of five, more than two thirds are four.
    let work = ["parameter", "zero_bits", "9"];
    for member in ["node-1", "node-2", "node-3"] {
        assert!(consortium.vote(member, &work)?.contains("needs 4 votes"));
    }
    assert!(consortium.vote("node-5", &work)?.contains("the change takes effect"));
    let leaves = ["member", "node-4", "none"];
    for member in ["node-1", "node-2", "node-3"] {
        consortium.vote(member, &leaves)?;
    }
    assert!(consortium.vote("node-5", &leaves)?.contains("the change takes effect"));
    let left = Endpoint::new(consortium.stack.url("node-4"))?;
    consortium.until_role(&left, NodeRole::Observer).await?;
    let listed = consortium.hbc(&["member", "list", "--node", consortium.stack.url("node-1")])?;
    let bits = listed.lines().find(|line| line.contains("zero_bits")).context("no parameter")?;
    assert!(bits.ends_with(" 9") && !listed.contains("node-4"), "{listed}");
    // The work is done by the new measure, with the newcomer among those who agree.
    consortium.vote("node-1", &["parameter", "min_spacing_ms", "2"])?;
    Ok(())
}
