//! Tools that are not Rust's: what `make deps` installed under `target/clients` from `tests/clients`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients")
}

/// A program of the Python environment; None, with the test named as skipped, where it is not installed.
#[must_use]
pub fn python(name: &str) -> Option<PathBuf> {
    installed(folder().join("venv/bin").join(name), "Python 3.11 or newer")
}

/// A program of a package from npm, likewise.
#[must_use]
pub fn node(name: &str) -> Option<PathBuf> {
    installed(folder().join("node_modules/.bin").join(name), "Node.js 20.19 or newer with npm")
}

/// Chromium; None, with the test named as skipped, where it is not installed.
#[must_use]
pub fn browser() -> Option<PathBuf> {
    let program = PathBuf::from("/usr/bin/chromium");
    if program.exists() {
        return Some(program);
    }
    hbc_testkit::skip("Chromium is not installed: `make deps` does it as root on Debian");
    None
}

/// A program in Java, of one file, with HAPI's libraries; None, with the test named as skipped, where they are not installed.
#[must_use]
pub fn java(source: &Path) -> Option<Command> {
    let folder = folder().join("java");
    if !folder.join("installed").exists() {
        hbc_testkit::skip(
            "HAPI's libraries are not installed: `make deps` does it where there are a JDK 17 or newer and Maven",
        );
        return None;
    }
    let mut command = Command::new("java");
    // It lives for seconds: what runs long is not compiled anew again and again.
    command.args(["-XX:TieredStopAtLevel=1", "-Xmx2g", "-cp"]).arg(folder.join("lib/*")).arg(source);
    Some(command)
}

/// The folder whose `node_modules` TypeScript and Node.js find from within.
#[must_use]
pub fn node_folder() -> PathBuf {
    folder()
}

fn installed(program: PathBuf, from: &str) -> Option<PathBuf> {
    if program.exists() {
        return Some(program);
    }
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    hbc_testkit::skip(&format!("`{name}` is not installed: `make deps` does it where there is {from}"));
    None
}

/// Runs a program to its end; a failure says what it said.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} failed\n{said}\n{errors}");
    Ok(output)
}

/// Runs a client's program with `given` as its input; answers what it said.
pub async fn say(mut client: Command, given: &Value) -> Result<String> {
    let given = given.to_string();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no input")?.write_all(given.as_bytes())?;
        Ok::<_, anyhow::Error>(child.wait_with_output()?)
    });
    let output = output.await??;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the client failed: {said}\n{errors}");
    Ok(said.trim().to_owned())
}

/// A client's program that asks and is answered, a line each.
pub struct Talk {
    child: tokio::process::Child,
    said: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
    errors: Option<tokio::process::ChildStderr>,
}

impl Talk {
    /// Starts it with `given` as its first line.
    pub async fn begin(program: &Command, given: &Value) -> Result<Self> {
        use tokio::io::AsyncBufReadExt as _;
        let mut command = tokio::process::Command::new(program.get_program());
        command.args(program.get_args()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("the client cannot be run")?;
        let said = tokio::io::BufReader::new(child.stdout.take().context("no output")?).lines();
        let errors = child.stderr.take();
        let mut talk = Self { child, said, errors };
        talk.says(&given.to_string()).await?;
        Ok(talk)
    }

    /// The next line that it says; what it complains of, if it ends instead.
    pub async fn hears(&mut self) -> Result<String> {
        if let Some(line) = self.said.next_line().await? {
            return Ok(line);
        }
        let mut words = String::new();
        if let Some(errors) = &mut self.errors {
            use tokio::io::AsyncReadExt as _;
            errors.read_to_string(&mut words).await?;
        }
        anyhow::bail!("the client failed: {words}")
    }

    /// Answers it with a line.
    pub async fn says(&mut self, line: &str) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let input = self.child.stdin.as_mut().context("no input")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    /// Waits for its end, which must be a good one.
    pub async fn ends(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().await?;
        ensure!(status.success(), "the client failed: {status}");
        Ok(())
    }
}
