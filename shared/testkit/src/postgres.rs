//! A private PostgreSQL server on a free port and a folder of its own, one per test process, gone with it.

use std::io::BufRead as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

struct Server {
    url: String,
    /// Its input is the pipe whose closing ends the server, so it must live as long as the process.
    _keeper: Child,
}

/// The URL of a private server, or `None` (and a noted skip) where PostgreSQL is not installed. `HBC_TEST_POSTGRES_URL`
/// names one that runs already, as `make test` sets it.
///
/// # Panics
/// If PostgreSQL is installed and does not work: that must not pass for a skip.
#[must_use]
#[expect(clippy::panic, reason = "a broken server must fail the test, not skip it")]
pub fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Result<Option<Server>>> = OnceLock::new();
    static GIVEN: OnceLock<Option<String>> = OnceLock::new();
    let given = GIVEN.get_or_init(|| std::env::var_os("HBC_TEST_POSTGRES_URL")?.into_string().ok());
    if let Some(url) = given {
        return Some(url);
    }
    match SERVER.get_or_init(start) {
        Ok(Some(server)) => Some(&server.url),
        Ok(None) => {
            crate::skip("PostgreSQL is not installed (`make deps` installs it where it may)");
            None
        }
        Err(error) => panic!("the private PostgreSQL does not start: {error:#}"),
    }
}

fn start() -> Result<Option<Server>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/postgres.sh");
    let mut keeper = Command::new("/bin/sh")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start the server's keeper")?;
    let mut url = String::new();
    if let Some(said) = keeper.stdout.take() {
        std::io::BufReader::new(said).read_line(&mut url).context("cannot hear the server's keeper")?;
    }
    match url.trim() {
        "" => bail!("its keeper said nothing"),
        "absent" => Ok(None),
        url => Ok(Some(Server { url: url.to_owned(), _keeper: keeper })),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_server_serves_the_whole_process() {
        let Some(first) = super::server() else { return };
        assert!(first.starts_with("postgres://hbc@127.0.0.1:"));
        assert_eq!(Some(first), super::server());
    }
}
