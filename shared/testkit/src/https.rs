//! A server of somebody else's: it speaks TLS under a certificate that nobody trusts but who is told to, answers every request
//! with what it was told last, and counts who came.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Its certificate, for `127.0.0.1` and `localhost` until the year 2120: whoever trusts it talks to the server.
pub const CERTIFICATE: &str = include_str!("../data/https-certificate.pem");
const KEY: &str = include_str!("../data/https-key.pem");

/// The server, on a free port of `127.0.0.1`.
#[derive(Debug)]
pub struct HttpsServer {
    /// Its port.
    pub port: u16,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    answer: Mutex<Answer>,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// What it answers.
#[derive(Clone, Debug)]
enum Answer {
    /// These bytes, and the connection's end.
    Whole(Vec<u8>),
    /// These bytes, and nothing more for as long as the other side waits.
    Unfinished(Vec<u8>),
    /// Nothing: the connection ends before TLS begins.
    HangUp,
}

impl HttpsServer {
    /// Starts it; until it is told otherwise it answers with 404.
    ///
    /// # Panics
    /// Where there is no free port.
    #[expect(clippy::unwrap_used, reason = "a machine without free ports cannot run tests at all")]
    pub async fn start() -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(whole(404, "", b"")),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listening = hbc_tasks::spawn("an https server", listen(listener, acceptor, Arc::clone(&state)));
        Self { port, state, listening }
    }

    /// An address of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// From now on it answers 200 with this.
    pub fn answers(&self, body: &Value) {
        self.answers_with(200, "content-type: application/json\r\n", body.to_string().as_bytes());
    }

    /// From now on it answers with this status, these header lines and this body.
    pub fn answers_with(&self, status: u16, headers: &str, body: &[u8]) {
        self.set(whole(status, headers, body));
    }

    /// From now on it answers with these bytes, head and all.
    pub fn answers_raw(&self, bytes: &[u8]) {
        self.set(Answer::Whole(bytes.to_vec()));
    }

    /// From now on it begins to answer, and does not end.
    pub fn does_not_end(&self) {
        let begun =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"keys\"";
        self.set(Answer::Unfinished(begun.as_bytes().to_vec()));
    }

    /// From now on it talks to nobody.
    pub fn hangs_up(&self) {
        self.set(Answer::HangUp);
    }

    /// How often somebody connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many requests it read.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    fn set(&self, answer: Answer) {
        *self.state.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn whole(status: u16, headers: &str, body: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    Answer::Whole([head.as_bytes(), body].concat())
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _peer)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        // Who breaks off is none of its concern.
        hbc_tasks::spawn("an https connection", async move { drop(serve(stream, &acceptor, &state).await) });
    }
}

async fn serve(stream: TcpStream, acceptor: &TlsAcceptor, state: &State) -> std::io::Result<()> {
    let answer = || state.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if matches!(answer(), Answer::HangUp) {
        return Ok(());
    }
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    match answer() {
        Answer::Whole(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Answer::Unfinished(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            while stream.read_buf(&mut request).await? > 0 {}
            Ok(())
        }
        Answer::HangUp => Ok(()),
    }
}
