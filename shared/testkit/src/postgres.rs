//! A private PostgreSQL server on a free port and a folder of its own, one per test process, gone with it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hbc_types::Random;

struct Server {
    tools: PathBuf,
    port: u16,
    /// Its input is the pipe whose closing ends the server, so it must live as long as the process.
    _keeper: Child,
}

/// The URL of a fresh, empty database, or `None` (and a noted skip) where PostgreSQL is not installed.
///
/// # Panics
/// If PostgreSQL is installed and does not work: that must not pass for a skip.
#[must_use]
#[expect(clippy::panic, reason = "a broken server must fail the test, not skip it")]
pub fn database() -> Option<String> {
    static SERVER: OnceLock<Option<Result<Server>>> = OnceLock::new();
    let server = match SERVER.get_or_init(|| tools().map(|tools| start(&tools))) {
        None => {
            crate::skip("PostgreSQL is not installed (`make deps` installs it where it may)");
            return None;
        }
        Some(Err(error)) => panic!("the private PostgreSQL does not start: {error:#}"),
        Some(Ok(server)) => server,
    };
    match create_database(server) {
        Ok(url) => Some(url),
        Err(error) => panic!("no fresh database: {error:#}"),
    }
}

/// The folder of PostgreSQL's programs, newest version first.
fn tools() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin")))
        .collect();
    folders.sort();
    folders.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders
        .into_iter()
        .find(|folder| ["initdb", "postgres", "createdb"].iter().all(|tool| folder.join(tool).exists()))
}

/// Lives until its input closes, then ends the server and removes the folder.
const KEEPER: &str = r#"
set -e
"$TOOLS/initdb" -D "$FOLDER/data" -U hbc -A trust -N >"$FOLDER/log" 2>&1
"$TOOLS/postgres" -D "$FOLDER/data" -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c max_connections=300 -c shared_buffers=32MB </dev/null >>"$FOLDER/log" 2>&1 &
server=$!
cat >/dev/null
kill -INT $server
wait $server || true
rm -rf "$FOLDER"
"#;

fn start(tools: &Path) -> Result<Server> {
    let [port] = crate::free_ports();
    let folder =
        std::env::temp_dir().join(format!("hbc-postgres-{}", hex::encode(Random::system().bytes::<8>())));
    std::fs::create_dir(&folder).context("cannot make the server's folder")?;
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER]).current_dir("/").stdin(Stdio::piped()).process_group(0);
    keeper.env("TOOLS", tools).env("FOLDER", &folder).env("PORT", port.to_string());
    if rustix::process::geteuid().is_root() {
        // PostgreSQL refuses to run as root.
        let (uid, gid) = unprivileged()?;
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).context("cannot give the folder away")?;
        keeper.uid(uid).gid(gid);
    }
    let mut keeper = keeper.spawn().context("cannot start the server's keeper")?;
    let server_log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if keeper.try_wait()?.is_some() || Instant::now() > deadline {
            bail!("the server did not start: {}", server_log());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Server { tools: tools.to_owned(), port, _keeper: keeper })
}

fn unprivileged() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read the list of users")?;
    let find = |name: &str| {
        let fields: Vec<&str> =
            users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').collect();
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).context("neither `postgres` nor `nobody` is a user here")
}

fn create_database(server: &Server) -> Result<String> {
    let name = format!("t{}", hex::encode(Random::system().bytes::<8>()));
    let port = server.port.to_string();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = Command::new(server.tools.join("createdb"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "hbc", &name])
            .output()
            .context("cannot run `createdb`")?;
        if output.status.success() {
            return Ok(format!("postgres://hbc@127.0.0.1:{port}/{name}"));
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The port answers a moment before the server takes connections.
        if !said.contains("starting up") || Instant::now() > deadline {
            bail!("{said}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_call_gives_another_database() {
        let Some(first) = super::database() else { return };
        assert_ne!(Some(first), super::database());
    }
}
