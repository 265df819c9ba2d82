//! The smallest possible readiness question: one HTTP request on a fresh connection, of which only the status counts.
//!
//! It is not a client for anything else; services talk through `hbc_client`.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What to ask to learn whether a process is ready.
#[derive(Clone, Debug)]
pub struct Probe {
    method: &'static str,
    port: u16,
    path: &'static str,
    authorization: Option<String>,
}

impl Probe {
    /// `GET /readyz` of one of our services on loopback.
    pub fn service(port: u16) -> Self {
        Self { method: "GET", port, path: "/readyz", authorization: None }
    }

    /// `POST /api/v0/version` of Kubo's RPC, with its token.
    pub fn kubo(port: u16, token: &str) -> Self {
        Self { method: "POST", port, path: "/api/v0/version", authorization: Some(format!("Bearer {token}")) }
    }

    /// Whether the process answers 200 now. Any fault is "not yet".
    pub async fn is_ready(&self) -> bool {
        matches!(tokio::time::timeout(Duration::from_secs(2), self.status()).await, Ok(Some(200)))
    }

    async fn status(&self) -> Option<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let authorization = self
            .authorization
            .as_ref()
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "{} {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.method, self.path, self.port
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head).await.ok()?;
        std::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
    }
}
